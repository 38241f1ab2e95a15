/* The host's futexes, private to the process: futex(2). */
#ifndef PLATFORM_HOST_FUTEX_H
#define PLATFORM_HOST_FUTEX_H

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/*
 * Sleeps while *word == val, until woken or CLOCK_MONOTONIC passes deadline_ns (INT64_MAX: no limit).
 * 0 (also when spurious), or -ETIMEDOUT. Any thread; no locks held.
 */
static inline int host_futex_wait(_Atomic uint32_t *word, uint32_t val, int64_t deadline_ns)
{
	struct timespec ts = { .tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000 };

	if (deadline_ns < 0)
		ts = (struct timespec){ 0 };
	if (syscall(SYS_futex, word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, val,
		    deadline_ns == INT64_MAX ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY) < 0 &&
	    errno == ETIMEDOUT)
		return -ETIMEDOUT;
	return 0;
}

/* Wakes up to count sleepers on word. Any thread, never blocks. */
static inline void host_futex_wake(_Atomic uint32_t *word, int count)
{
	(void)syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count);
}

#endif
