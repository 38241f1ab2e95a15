/* Resource limits of a process (getrlimit(2)), RLIMIT_* numbering of the guest ABI. */
#ifndef SENTRY_KERNEL_LIMITS_H
#define SENTRY_KERNEL_LIMITS_H

#include <stdint.h>

#define GUEST_RLIM_NLIMITS 16
#define GUEST_RLIM_INFINITY UINT64_MAX

struct limits {
	struct {
		uint64_t soft, hard;
	} r[GUEST_RLIM_NLIMITS];
};

#endif
