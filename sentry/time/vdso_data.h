/*
 * The page that the vDSO reads: how to turn the time stamp counter into time. Written by the sentry
 * only (sentry/time/clock.c), mapped read-only into every guest address space.
 *
 * Time is `base + (tsc - tsc_base) * mult / 2^32`, trusted only until tsc_valid_until: later readers
 * make a system call, and that call moves the base. So a busy guest pays one call a second, and an
 * idle sandbox needs no timer to keep its clock right.
 */
#ifndef SENTRY_TIME_VDSO_DATA_H
#define SENTRY_TIME_VDSO_DATA_H

#include <stdbool.h>
#include <stdint.h>

struct vdso_data {
	uint32_t seq;		/* odd while being written */
	uint32_t cpus;		/* what getcpu folds the host's number into; 0: it makes the call */
	uint64_t tsc_base;
	uint64_t tsc_valid_until; /* 0: the counter is not calibrated yet */
	uint64_t mult;		/* ns per tick, 32.32 fixed point */
	int64_t mono_base;	/* CLOCK_MONOTONIC at tsc_base, ns */
	int64_t real_offset;	/* CLOCK_REALTIME - CLOCK_MONOTONIC, ns */
	int64_t boot_offset;	/* CLOCK_BOOTTIME - CLOCK_MONOTONIC, ns */
	int64_t tai_offset;	/* CLOCK_TAI - CLOCK_MONOTONIC, ns */
};

#if defined(__x86_64__)
static inline uint64_t vdso_tsc(void)
{
	uint32_t lo, hi;

	__asm__ volatile("lfence\n\trdtsc" : "=a"(lo), "=d"(hi) : : "memory");
	return (uint64_t)hi << 32 | lo;
}
#endif

/*
 * Reads the monotonic clock without a system call. false: not calibrated or too old. *ret_offsets gets
 * the offset of the clock asked for: 0 monotonic, 1 realtime, 2 boottime, 3 tai.
 */
static inline bool vdso_read(const volatile struct vdso_data *d, int which, int64_t *ret_ns)
{
	for (;;) {
		uint32_t seq = __atomic_load_n(&d->seq, __ATOMIC_ACQUIRE);
		uint64_t tsc = vdso_tsc(), base = d->tsc_base, until = d->tsc_valid_until;
		uint64_t mult = d->mult;
		int64_t mono = d->mono_base;
		int64_t off = which == 0 ? 0 :
			      which == 1 ? d->real_offset :
			      which == 2 ? d->boot_offset :
					   d->tai_offset;

		__atomic_thread_fence(__ATOMIC_ACQUIRE);
		if ((seq & 1) || __atomic_load_n(&d->seq, __ATOMIC_RELAXED) != seq)
			continue;
		if (tsc >= until)
			return false;
		/* Another core's counter may be a few ticks behind the base. */
		*ret_ns = mono + off;
		if (tsc > base)
			*ret_ns += (int64_t)((unsigned __int128)(tsc - base) * mult >> 32);
		return true;
	}
}

#endif
