/*
 * Clocks and timers. Time reaches the kernel through this header only. All values are int64_t ns.
 * One timer thread runs expired callbacks.
 */
#ifndef SENTRY_TIME_CLOCK_H
#define SENTRY_TIME_CLOCK_H

#include <time.h>

#include "platform/base/rbtree.h"
#include "platform/base/compiler.h"

#define NSEC_PER_SEC 1000000000ll
#define TIME_FOREVER INT64_MAX

/* Now on CLOCK_MONOTONIC, CLOCK_REALTIME, CLOCK_BOOTTIME, *_COARSE, *_RAW, CLOCK_TAI; 0 for others. */
int64_t clock_now(int clock_id);
static inline int64_t clock_mono(void)
{
	return clock_now(CLOCK_MONOTONIC);
}
/* Measured rate of the time stamp counter in kHz, 0 when unknown: for /proc/cpuinfo. */
uint64_t clock_tsc_khz(void);
/* clock_settime(CLOCK_REALTIME) inside the sandbox: an offset on the host's clock. */
int clock_set_realtime(int64_t now_ns);
/* Saturating helpers. timespec_to_ns: -EINVAL in *ret_ns's place is never returned; false if tv_nsec or
 * tv_sec is out of range. */
bool timespec_to_ns(const struct timespec *ts, int64_t *ret_ns);
struct timespec ns_to_timespec(int64_t ns);
int64_t time_add(int64_t a, int64_t b); /* saturates at TIME_FOREVER */

/*
 * A timer on CLOCK_MONOTONIC or CLOCK_REALTIME (follows clock_set_realtime). The callback runs on the
 * timer thread without locks and must not block. Embedded in its owner.
 */
struct ktimer {
	struct rb_node node;
	bool armed, running;
	int clock_id;
	int64_t expires_ns, interval_ns; /* absolute on clock_id; 0 interval: one shot */
	int64_t mono_ns;		 /* expires_ns on CLOCK_MONOTONIC */
	/* overruns: periods elapsed, at least 1. May call ktimer_arm on itself. */
	void (*fire)(struct ktimer *kt, uint64_t overruns);
};

int clock_init(void); /* starts the timer thread; boot only */
void ktimer_init(struct ktimer *kt, int clock_id, void (*fire)(struct ktimer *, uint64_t));
void ktimer_arm(struct ktimer *kt, int64_t expires_ns, int64_t interval_ns);
/* Disarms; returns whether it was armed. The callback may still be running. */
bool ktimer_cancel(struct ktimer *kt);
/* Disarms and waits until the callback is not running; not from the callback. */
void ktimer_cancel_sync(struct ktimer *kt);
/* Time left until the next expiry (0 when disarmed) and the interval. */
int64_t ktimer_left(struct ktimer *kt, int64_t *ret_interval_ns);

/*
 * The vDSO (sentry/time/vdso.c): one data page, then the image; to be mapped read-only (data) and
 * read-execute (image) right behind each other. vdso_init needs the memory file; cpus is what getcpu
 * stays below. vdso_frames returns a reference on each page to the caller.
 */
struct frame_run;
int vdso_init(uint32_t cpus);
/* From now on getcpu of the vDSO is a system call: some thread may only be where its mask says. Any thread. */
void vdso_getcpu_by_call(void);
void vdso_frames(struct frame_run *ret_data, struct frame_run *ret_code);

#endif
