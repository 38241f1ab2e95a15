/* The host's random numbers (getrandom(2)). */
#ifndef PLATFORM_HOST_RANDOM_H
#define PLATFORM_HOST_RANDOM_H

#include <errno.h>
#include <sys/random.h>

#include "platform/base/compiler.h"

/* Fills buf; never fails once the host has booted. Any context. */
static inline void host_random(void *buf, size_t size)
{
	uint8_t *p = buf;

	while (size > 0) {
		ssize_t n = getrandom(p, size, 0);

		if (n < 0) {
			BUG_ON(errno != EINTR);
			continue;
		}
		p += n;
		size -= (size_t)n;
	}
}

#endif
