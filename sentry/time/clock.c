/*
 * The clocks of the sandbox. One estimator, kept in the vDSO's data page, gives every time that a
 * guest can see, so a vDSO reading and a system call can never contradict each other.
 */
#include "sentry/time/clock.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "platform/base/mutex.h"
#include "platform/host/clock.h"
#include "sentry/core/lockrank.h"
#include "sentry/core/mappable.h"
#include "sentry/time/vdso_data.h"
#include "sentry/time/time_priv.h"

/* A calibration is trusted this long; a young one, with a short base line, shorter. */
#define CALIBRATION_NS NSEC_PER_SEC
#define BASELINE_NS (32 * NSEC_PER_SEC)
#define FIRST_BASELINE_NS (100 * 1000 * 1000ll)
/* An error below this is closed by a change of rate, a greater one of the host's clock by a step. */
#define SLEW_MAX_NS (1000 * 1000ll)

static struct vdso_data boot_page; /* until vdso_init gives the shared one */
static struct vdso_data *page = &boot_page;

static struct {
	struct mutex mu; /* LOCK_LEAF: everything here, and writes of the page */
	bool counter_usable; /* const after init */
	uint64_t tsc0, tsc1; /* start of the base line, and of the one that replaces it */
	int64_t mono0, mono1;
	_Atomic int64_t set_offset; /* clock_settime(CLOCK_REALTIME): guest minus host, ns */
} est = { .mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_LEAF } };

static bool counter_is_invariant(void)
{
#if defined(__x86_64__)
	unsigned a, b, c, d;

	return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d & (1u << 8));
#else
	return false;
#endif
}

/* The counter and the host's clock at one moment: the tightest of a few readings. */
static void sample(uint64_t *ret_tsc, int64_t *ret_mono)
{
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t before = vdso_tsc();
		int64_t mono = host_monotonic_ns();
		uint64_t after = vdso_tsc();

		if (after - before < best) {
			best = after - before;
			*ret_tsc = before + (after - before) / 2;
			*ret_mono = mono;
		}
	}
}

static void page_write(const struct vdso_data *d)
{
	uint32_t seq = page->seq;

	__atomic_store_n(&page->seq, seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_RELEASE);
	page->tsc_base = d->tsc_base;
	page->tsc_valid_until = d->tsc_valid_until;
	page->mult = d->mult;
	page->mono_base = d->mono_base;
	page->real_offset = d->real_offset;
	page->boot_offset = d->boot_offset;
	page->tai_offset = d->tai_offset;
	page->cpus = d->cpus;
	__atomic_store_n(&page->seq, seq + 2, __ATOMIC_RELEASE);
}

/* Moves the base of the estimator to now. Never steps back. */
static void calibrate_locked(void)
{
	struct vdso_data d = *page;
	uint64_t tsc;
	int64_t mono, guess = INT64_MIN;

	sample(&tsc, &mono);
	d.real_offset = host_clock_ns(CLOCK_REALTIME) - host_monotonic_ns() + est.set_offset;
	d.boot_offset = host_clock_ns(CLOCK_BOOTTIME) - host_monotonic_ns();
	d.tai_offset = host_clock_ns(CLOCK_TAI) - host_monotonic_ns() + est.set_offset;
	if (est.counter_usable && mono - est.mono0 >= FIRST_BASELINE_NS && tsc > est.tsc0) {
		uint64_t ticks = tsc - est.tsc0;
		int64_t ns = mono - est.mono0;

		if (page->tsc_valid_until && tsc > page->tsc_base)
			guess = page->mono_base +
				(int64_t)((unsigned __int128)(tsc - page->tsc_base) * page->mult >> 32);
		d.tsc_base = tsc;
		d.mult = (uint64_t)(((unsigned __int128)ns << 32) / ticks);
		d.mono_base = MAX(mono, guess);
		if (guess > mono) /* we ran fast: run slower until the next calibration */
			d.mult -= (uint64_t)((unsigned __int128)d.mult *
					     (uint64_t)MIN(guess - mono, SLEW_MAX_NS) /
					     (uint64_t)CALIBRATION_NS);
		d.tsc_valid_until =
			tsc + (uint64_t)(((unsigned __int128)MIN(ns, CALIBRATION_NS) << 32) / d.mult);
		/* Roll the base line, to follow the host's own rate changes. */
		if (mono - est.mono1 > BASELINE_NS) {
			est.tsc0 = est.tsc1;
			est.mono0 = est.mono1;
			est.tsc1 = tsc;
			est.mono1 = mono;
		}
	}
	page_write(&d);
}

static int64_t host_now(int which)
{
	return which == 0 ? host_monotonic_ns() :
	       which == 1 ? host_clock_ns(CLOCK_REALTIME) + est.set_offset :
	       which == 2 ? host_clock_ns(CLOCK_BOOTTIME) :
			    host_clock_ns(CLOCK_TAI) + est.set_offset;
}

static int64_t estimate(int which)
{
	int64_t ns;

	if (vdso_read(page, which, &ns))
		return ns;
	if (!est.counter_usable) /* nothing to estimate by: guests' vDSO reads are system calls too */
		return host_now(which);
	GUARD(mutex, &est.mu);
	if (vdso_read(page, which, &ns))
		return ns;
	calibrate_locked();
	if (vdso_read(page, which, &ns))
		return ns;
	ns = host_monotonic_ns();
	return which == 0 ? ns :
	       which == 1 ? ns + page->real_offset :
	       which == 2 ? ns + page->boot_offset :
			    ns + page->tai_offset;
}

int64_t clock_now(int clock_id)
{
	switch (clock_id) {
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		return estimate(0);
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_REALTIME_ALARM:
		return estimate(1);
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		return estimate(2);
	case CLOCK_TAI:
		return estimate(3);
	default:
		return 0;
	}
}

uint64_t clock_tsc_khz(void)
{
	uint64_t mult;

	(void)estimate(0);
	mult = page->mult;
	return mult ? (1000000ull << 32) / mult : 0;
}

int clock_set_realtime(int64_t now_ns)
{
	/* As Linux: 30 years of running must fit behind it. */
	if (now_ns < 0 || now_ns > INT64_MAX - 30 * 365 * 86400 * NSEC_PER_SEC)
		return -EINVAL;
	mutex_lock(&est.mu);
	est.set_offset += now_ns - (host_monotonic_ns() + page->real_offset);
	calibrate_locked();
	mutex_unlock(&est.mu);
	ktimer_realtime_changed();
	return 0;
}

bool timespec_to_ns(const struct timespec *ts, int64_t *ret_ns)
{
	if (ts->tv_sec < 0 || ts->tv_nsec < 0 || ts->tv_nsec >= NSEC_PER_SEC)
		return false;
	if (ts->tv_sec >= TIME_FOREVER / NSEC_PER_SEC)
		*ret_ns = TIME_FOREVER;
	else
		*ret_ns = ts->tv_sec * NSEC_PER_SEC + ts->tv_nsec;
	return true;
}

struct timespec ns_to_timespec(int64_t ns)
{
	return (struct timespec){ .tv_sec = ns / NSEC_PER_SEC, .tv_nsec = ns % NSEC_PER_SEC };
}

int64_t time_add(int64_t a, int64_t b)
{
	int64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? TIME_FOREVER : sum;
}

void clock_share_page(void *shared, uint32_t cpus)
{
	GUARD(mutex, &est.mu);
	memcpy(shared, page, sizeof(*page));
	page = shared;
	page->cpus = cpus ? cpus : 1;
}

void vdso_getcpu_by_call(void)
{
	GUARD(mutex, &est.mu);
	page->cpus = 0;
}

int clock_init(void)
{
	mutex_lock(&est.mu);
	est.counter_usable = counter_is_invariant();
	sample(&est.tsc0, &est.mono0);
	est.tsc1 = est.tsc0;
	est.mono1 = est.mono0;
	boot_page.cpus = 1;
	calibrate_locked();
	mutex_unlock(&est.mu);
	return ktimer_start_thread();
}
