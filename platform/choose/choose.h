/* Which backend runs the guest: opening one, its self-test, and what `auto` takes. */
#ifndef PLATFORM_CHOOSE_CHOOSE_H
#define PLATFORM_CHOOSE_CHOOSE_H

#include "platform/platform.h"

/* What one backend is worth on this host. */
struct platform_report {
	const char *name;
	bool works;
	bool automatic;   /* auto takes it when no better one works */
	uint64_t call_ns; /* works: median of the calls of its self-test, 0 when it runs no guest code */
	char note[192];   /* works: in which of its ways, may be empty; else one sentence: why not */
};

/* How many backends there are, the best ones first, and what they are called. */
size_t platform_count(void);
const char *platform_name(size_t index);
/*
 * Opens backend number index, the best ones first, and runs its self-test: two calls of a guest are checked, some
 * more are timed; about a millisecond. The self-test uses what open made, so whoever keeps the platform has lost
 * nothing. ret_report is always filled. The platform in *ret_platform, or -errno. Where platform_ops.open may be called.
 */
int platform_try(size_t index, int memory_fd, struct platform **ret_platform, struct platform_report *ret_report);
/*
 * The backend called name, open, or for "auto" the first that works and is automatic. 0 with the better ones in why and
 * what is wrong with each ("" when there is none), or -errno with one sentence in why. Where platform_ops.open may be
 * called.
 */
int platform_choose(const char *name, int memory_fd, struct platform **ret_platform,
		    struct platform_report *ret_report, char *why, size_t why_size);

#endif
