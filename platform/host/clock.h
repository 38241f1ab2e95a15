/* The host's clocks. */
#ifndef PLATFORM_HOST_CLOCK_H
#define PLATFORM_HOST_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Host clock in ns since its epoch. Any context, never blocks. clock_gettime(2) */
static inline int64_t host_clock_ns(clockid_t clock)
{
	struct timespec ts = { 0 };

	clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static inline int64_t host_monotonic_ns(void)
{
	return host_clock_ns(CLOCK_MONOTONIC);
}

#endif
