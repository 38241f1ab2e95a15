/* Interval timers (getitimer(2), alarm(2)) and POSIX timers (timer_create(2)). */
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/systime.h"
#include "sentry/state/desc.h"

#define TIMERS_MAX 65536

/*
 * CPU-time timers poll: they look again when the time left could have passed if every thread ran.
 * Armed ones cost a few wake-ups; none are armed in ordinary programs.
 */
#define CPU_POLL_MIN_NS 1000000ll

static int64_t cpu_now(struct thread_group *tg, bool virtual)
{
	struct cpu_usage u;

	thread_group_usage(tg, &u);
	return virtual ? u.user_ns : u.user_ns + u.system_ns;
}

/* ---- itimers ---- */

static const int itimer_signal[3] = { SIGALRM, SIGVTALRM, SIGPROF };

static void itimer_send(struct thread_group *tg, int which)
{
	struct guest_siginfo info = siginfo_kernel(itimer_signal[which]);

	(void)signal_send_group(tg, &info);
}

static void itimer_real_fire(struct ktimer *kt, uint64_t overruns)
{
	struct itimer *it = container_of(kt, struct itimer, timer);

	(void)overruns;
	itimer_send(container_of(it, struct thread_group, itimer[ITIMER_REAL]), ITIMER_REAL);
}

static void itimer_cpu_poll(struct thread_group *tg, int which)
{
	struct itimer *it = &tg->itimer[which];
	int64_t now = cpu_now(tg, which == ITIMER_VIRTUAL), left;

	if (it->cpu_expires == 0)
		return;
	if (now >= it->cpu_expires) {
		itimer_send(tg, which);
		it->cpu_expires = it->cpu_interval ? time_add(now, it->cpu_interval) : 0;
		if (it->cpu_expires == 0)
			return;
	}
	left = (it->cpu_expires - now) / (int64_t)MAX(tg->live_count, 1u);
	ktimer_arm(&it->timer, time_add(clock_mono(), MAX(left, CPU_POLL_MIN_NS)), 0);
}

static void itimer_virtual_fire(struct ktimer *kt, uint64_t overruns)
{
	struct itimer *it = container_of(kt, struct itimer, timer);

	(void)overruns;
	itimer_cpu_poll(container_of(it, struct thread_group, itimer[ITIMER_VIRTUAL]), ITIMER_VIRTUAL);
}

static void itimer_prof_fire(struct ktimer *kt, uint64_t overruns)
{
	struct itimer *it = container_of(kt, struct itimer, timer);

	(void)overruns;
	itimer_cpu_poll(container_of(it, struct thread_group, itimer[ITIMER_PROF]), ITIMER_PROF);
}

static int64_t tv_ns(const struct timeval *tv)
{
	if (tv->tv_sec < 0 || tv->tv_usec < 0 || tv->tv_usec >= 1000000)
		return -EINVAL;
	if (tv->tv_sec >= TIME_FOREVER / NSEC_PER_SEC - 1)
		return TIME_FOREVER;
	return tv->tv_sec * NSEC_PER_SEC + tv->tv_usec * 1000;
}

static struct timeval ns_tv(int64_t ns)
{
	/* Rounded up: a running timer never shows zero. */
	ns = time_add(ns, 999);
	return (struct timeval){ ns / NSEC_PER_SEC, ns % NSEC_PER_SEC / 1000 };
}

static void itimer_get(struct thread_group *tg, int which, int64_t *ret_left, int64_t *ret_interval)
{
	struct itimer *it = &tg->itimer[which];

	if (which == ITIMER_REAL) {
		*ret_left = ktimer_left(&it->timer, ret_interval);
		if (*ret_left == 0)
			*ret_interval = 0;
		return;
	}
	*ret_interval = it->cpu_interval;
	*ret_left = it->cpu_expires ?
			    MAX(it->cpu_expires - cpu_now(tg, which == ITIMER_VIRTUAL), (int64_t)1000) :
			    0;
}

static void itimer_set(struct thread_group *tg, int which, int64_t value, int64_t interval)
{
	struct itimer *it = &tg->itimer[which];

	ktimer_cancel_sync(&it->timer);
	if (which == ITIMER_REAL) {
		if (value > 0)
			ktimer_arm(&it->timer, time_add(clock_mono(), value), interval);
		return;
	}
	it->cpu_interval = interval;
	it->cpu_expires = value > 0 ? time_add(cpu_now(tg, which == ITIMER_VIRTUAL), value) : 0;
	itimer_cpu_poll(tg, which);
}

int64_t sys_getitimer(struct task *t, int32_t which, uaddr_t value)
{
	struct itimerval out;
	int64_t left, interval;

	if (which < 0 || which > 2)
		return -EINVAL;
	itimer_get(t->tg, which, &left, &interval);
	out.it_value = left ? ns_tv(left) : (struct timeval){ 0 };
	out.it_interval = interval ? ns_tv(interval) : (struct timeval){ 0 };
	return copy_out_struct(task_umem(t), value, &out);
}

int64_t sys_setitimer(struct task *t, int32_t which, uaddr_t value, uaddr_t ovalue)
{
	struct itimerval in = { 0 }, out;
	int64_t left, old_interval, v, interval;

	if (value.v && copy_in_struct(task_umem(t), &in, value) < 0)
		return -EFAULT;
	if (which < 0 || which > 2)
		return -EINVAL;
	v = tv_ns(&in.it_value);
	interval = tv_ns(&in.it_interval);
	if (v < 0 || interval < 0)
		return -EINVAL;
	itimer_get(t->tg, which, &left, &old_interval);
	itimer_set(t->tg, which, v, interval);
	if (!ovalue.v)
		return 0;
	out.it_value = left ? ns_tv(left) : (struct timeval){ 0 };
	out.it_interval = old_interval ? ns_tv(old_interval) : (struct timeval){ 0 };
	return copy_out_struct(task_umem(t), ovalue, &out);
}

int64_t sys_alarm(struct task *t, uint32_t seconds)
{
	int64_t left, interval;

	itimer_get(t->tg, ITIMER_REAL, &left, &interval);
	itimer_set(t->tg, ITIMER_REAL, (int64_t)seconds * NSEC_PER_SEC, 0);
	/* Rounded as Linux does: half a second up, and never 0 for a running alarm. */
	return left ? MAX((left + NSEC_PER_SEC / 2) / NSEC_PER_SEC, (int64_t)1) : 0;
}

/* ---- POSIX timers ---- */

struct posix_timer {
	struct refcount refs; /* the set's, and callers at work */
	struct posix_timer *next; /* LOCK_OBJECT of the set */
	struct ktimer timer;
	struct thread_group *tg; /* borrowed: the set dies with it */
	struct task *target;	 /* SIGEV_THREAD_ID: reference; else NULL */
	int32_t id, clock_id;
	int32_t notify, signo;
	uint64_t value; /* sigev_value */
	int64_t cpu_expires, cpu_interval;
	_Atomic int32_t overrun; /* of the signal sent last: timer_getoverrun(2) */
};

struct posix_timers {
	struct mutex mu; /* LOCK_OBJECT: the list and ids */
	struct posix_timer *first;
	int32_t next_id;
	uint32_t count;
};

static bool timer_on_cpu(const struct posix_timer *pt)
{
	return pt->clock_id == CLOCK_PROCESS_CPUTIME_ID || pt->clock_id == CLOCK_THREAD_CPUTIME_ID ||
	       pt->clock_id < 0;
}

static void posix_timer_expire(struct posix_timer *pt, uint64_t overruns)
{
	struct guest_siginfo info = { .signo = pt->signo, .code = GUEST_SI_TIMER };
	int32_t missed = (int32_t)MIN(overruns - 1, (uint64_t)INT32_MAX);

	if (pt->notify == SIGEV_NONE)
		return;
	info.timer.tid = pt->id;
	info.timer.overrun = missed;
	info.timer.value = pt->value;
	if (signal_send_timer(pt->target, pt->target ? NULL : pt->tg, &info, pt)) {
		atomic_store(&pt->overrun, missed);
	} else {
		int64_t sum = (int64_t)pt->overrun + missed + 1;

		atomic_store(&pt->overrun, (int32_t)MIN(sum, (int64_t)INT32_MAX));
	}
}

static int64_t timer_cpu_now(struct posix_timer *pt)
{
	int64_t user, system;

	if (pt->clock_id == CLOCK_THREAD_CPUTIME_ID && pt->target) {
		task_cpu_times(pt->target, &user, &system);
		return user + system;
	}
	return cpu_now(pt->tg, false);
}

static void posix_timer_cpu_poll(struct posix_timer *pt)
{
	int64_t now = timer_cpu_now(pt), left;
	uint64_t overruns = 1;

	if (pt->cpu_expires == 0)
		return;
	if (now >= pt->cpu_expires) {
		if (pt->cpu_interval) {
			overruns += (uint64_t)((now - pt->cpu_expires) / pt->cpu_interval);
			pt->cpu_expires = time_add(pt->cpu_expires, (int64_t)overruns * pt->cpu_interval);
		} else {
			pt->cpu_expires = 0;
		}
		posix_timer_expire(pt, overruns);
		if (pt->cpu_expires == 0)
			return;
	}
	left = (pt->cpu_expires - now) / (int64_t)MAX(pt->tg->live_count, 1u);
	ktimer_arm(&pt->timer, time_add(clock_mono(), MAX(left, CPU_POLL_MIN_NS)), 0);
}

static void posix_timer_fire(struct ktimer *kt, uint64_t overruns)
{
	struct posix_timer *pt = container_of(kt, struct posix_timer, timer);

	if (timer_on_cpu(pt))
		posix_timer_cpu_poll(pt);
	else
		posix_timer_expire(pt, overruns);
}

static void posix_timer_put(struct posix_timer *pt)
{
	if (!refcount_put(&pt->refs))
		return;
	ktimer_cancel_sync(&pt->timer);
	signal_timer_forget(pt->tg, pt);
	task_put(pt->target);
	free(pt);
}

static struct posix_timer *timer_find_locked(struct posix_timers *set, int32_t id)
{
	struct posix_timer *pt = set->first;

	while (pt && pt->id != id)
		pt = pt->next;
	return pt;
}

/* A reference, or NULL; another thread may delete the timer at any time. */
static struct posix_timer *timer_get(struct task *t, int32_t id)
{
	struct posix_timers *set = t->tg->posix_timers;
	struct posix_timer *pt;

	GUARD(mutex, &set->mu);
	pt = timer_find_locked(set, id);
	if (pt)
		refcount_get(&pt->refs);
	return pt;
}

static bool timer_clock_ok(struct task *t, int32_t clock_id)
{
	int64_t now;

	switch (clock_id) {
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_MONOTONIC_COARSE:
		return false;
	default:
		return clock_read(t, clock_id, &now);
	}
}

/* Checks sigevent(7) and fills the notification part of pt. */
static int timer_set_event(struct task *t, struct posix_timer *pt, uaddr_t ev_addr)
{
	struct {
		uint64_t value;
		int32_t signo, notify, tid;
		uint8_t pad[44];
	} ev;

	if (!ev_addr.v) {
		pt->notify = SIGEV_SIGNAL;
		pt->signo = SIGALRM;
		pt->value = (uint64_t)pt->id;
		return 0;
	}
	if (copy_in_struct(task_umem(t), &ev, ev_addr) < 0)
		return -EFAULT;
	pt->notify = ev.notify;
	pt->signo = ev.signo;
	pt->value = ev.value;
	if (ev.notify == SIGEV_NONE)
		return 0;
	if (ev.signo < 1 || ev.signo > GUEST_NSIG)
		return -EINVAL;
	if (ev.notify == SIGEV_THREAD_ID) {
		pt->target = task_find(task_pid_ns(t), ev.tid);
		return pt->target && pt->target->tg == t->tg ? 0 : -EINVAL;
	}
	return ev.notify == SIGEV_SIGNAL || ev.notify == SIGEV_THREAD ? 0 : -EINVAL;
}

int64_t sys_timer_create(struct task *t, int32_t clock_id, uaddr_t ev, uaddr_t ret_id)
{
	struct posix_timers *set = t->tg->posix_timers;
	struct posix_timer *pt;
	int r;

	if (!timer_clock_ok(t, clock_id))
		return -EINVAL;
	pt = calloc(1, sizeof(*pt));
	if (!pt || !set) {
		free(pt);
		return -EAGAIN;
	}
	refcount_init(&pt->refs, 1);
	pt->tg = t->tg;
	pt->clock_id = clock_id;
	ktimer_init(&pt->timer, timer_on_cpu(pt) ? CLOCK_MONOTONIC : clock_id, posix_timer_fire);
	mutex_lock(&set->mu);
	do {
		pt->id = set->next_id;
		set->next_id = set->next_id == INT32_MAX ? 0 : set->next_id + 1;
	} while (timer_find_locked(set, pt->id));
	r = set->count < TIMERS_MAX ? 0 : -EAGAIN;
	mutex_unlock(&set->mu);
	if (r == 0)
		r = timer_set_event(t, pt, ev);
	if (r == 0 && pt->clock_id == CLOCK_THREAD_CPUTIME_ID && !pt->target)
		pt->clock_id = CLOCK_PROCESS_CPUTIME_ID;
	if (r == 0 && copy_out_struct(task_umem(t), ret_id, &pt->id) < 0)
		r = -EFAULT;
	if (r < 0) {
		posix_timer_put(pt);
		return r;
	}
	mutex_lock(&set->mu);
	pt->next = set->first;
	set->first = pt;
	set->count++;
	mutex_unlock(&set->mu);
	return 0;
}

/* Time left and interval as timer_gettime(2) shows them. */
static void timer_read(struct posix_timer *pt, int64_t *ret_left, int64_t *ret_interval)
{
	if (timer_on_cpu(pt)) {
		*ret_interval = pt->cpu_interval;
		*ret_left = pt->cpu_expires ? MAX(pt->cpu_expires - timer_cpu_now(pt), (int64_t)1) : 0;
		return;
	}
	*ret_left = ktimer_left(&pt->timer, ret_interval);
}

static void timer_arm(struct posix_timer *pt, int64_t value, int64_t interval, bool absolute)
{
	ktimer_cancel_sync(&pt->timer);
	atomic_store(&pt->overrun, 0);
	signal_timer_forget(pt->tg, pt);
	if (timer_on_cpu(pt)) {
		pt->cpu_interval = interval;
		pt->cpu_expires = value == 0 ? 0 : absolute ? value : time_add(timer_cpu_now(pt), value);
		posix_timer_cpu_poll(pt);
	} else if (value > 0) {
		/* A relative timer does not follow jumps of the real-time clock. */
		pt->timer.clock_id = absolute ? pt->clock_id : CLOCK_MONOTONIC;
		ktimer_arm(&pt->timer, absolute ? value : time_add(clock_mono(), value), interval);
	}
}

static int copy_out_itimerspec(struct task *t, uaddr_t addr, int64_t left, int64_t interval)
{
	struct itimerspec its = { ns_to_timespec(interval), ns_to_timespec(left) };

	return copy_out_struct(task_umem(t), addr, &its);
}

int64_t sys_timer_settime(struct task *t, int32_t id, uint32_t flags, uaddr_t new_addr, uaddr_t old_addr)
{
	struct posix_timer *pt;
	struct itimerspec its;
	int64_t left, old_interval, value, interval;

	if (!new_addr.v)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &its, new_addr) < 0)
		return -EFAULT;
	if (!timespec_to_ns(&its.it_value, &value) || !timespec_to_ns(&its.it_interval, &interval))
		return -EINVAL;
	pt = timer_get(t, id);
	if (!pt)
		return -EINVAL;
	timer_read(pt, &left, &old_interval);
	timer_arm(pt, value, interval, flags & TIMER_ABSTIME);
	posix_timer_put(pt);
	return old_addr.v ? copy_out_itimerspec(t, old_addr, left, old_interval) : 0;
}

int64_t sys_timer_gettime(struct task *t, int32_t id, uaddr_t cur)
{
	struct posix_timer *pt = timer_get(t, id);
	int64_t left, interval;

	if (!pt)
		return -EINVAL;
	timer_read(pt, &left, &interval);
	posix_timer_put(pt);
	return copy_out_itimerspec(t, cur, left, interval);
}

int64_t sys_timer_getoverrun(struct task *t, int32_t id)
{
	struct posix_timers *set = t->tg->posix_timers;
	struct posix_timer *pt;

	GUARD(mutex, &set->mu);
	pt = timer_find_locked(set, id);
	return pt ? atomic_load(&pt->overrun) : -EINVAL;
}

int64_t sys_timer_delete(struct task *t, int32_t id)
{
	struct posix_timers *set = t->tg->posix_timers;
	struct posix_timer **link, *pt = NULL;

	mutex_lock(&set->mu);
	for (link = &set->first; *link; link = &(*link)->next) {
		if ((*link)->id == id) {
			pt = *link;
			*link = pt->next;
			set->count--;
			break;
		}
	}
	mutex_unlock(&set->mu);
	if (!pt)
		return -EINVAL;
	posix_timer_put(pt);
	return 0;
}

int process_timers_init(struct thread_group *tg)
{
	tg->posix_timers = calloc(1, sizeof(*tg->posix_timers));
	if (!tg->posix_timers)
		return -ENOMEM;
	mutex_init(&tg->posix_timers->mu, LOCK_OBJECT);
	ktimer_init(&tg->itimer[ITIMER_REAL].timer, CLOCK_MONOTONIC, itimer_real_fire);
	ktimer_init(&tg->itimer[ITIMER_VIRTUAL].timer, CLOCK_MONOTONIC, itimer_virtual_fire);
	ktimer_init(&tg->itimer[ITIMER_PROF].timer, CLOCK_MONOTONIC, itimer_prof_fire);
	return 0;
}

void process_timers_exec(struct thread_group *tg)
{
	struct posix_timers *set = tg->posix_timers;
	struct posix_timer *pt;

	if (!set)
		return;
	for (;;) {
		mutex_lock(&set->mu);
		pt = set->first;
		if (pt) {
			set->first = pt->next;
			set->count--;
		}
		mutex_unlock(&set->mu);
		if (!pt)
			return;
		posix_timer_put(pt);
	}
}

void process_timers_exit(struct thread_group *tg)
{
	for (int i = 0; i < 3; i++)
		ktimer_cancel_sync(&tg->itimer[i].timer);
	process_timers_exec(tg);
	if (tg->posix_timers)
		mutex_fini(&tg->posix_timers->mu);
	free(tg->posix_timers);
	tg->posix_timers = NULL;
}

STATE_DESC(posix_timer,
	   S_NOSAVE(posix_timer, refs, "recounted from the references"),
	   S_LIST(posix_timer, 1, next, posix_timer),
	   S_EMBED(posix_timer, 2, timer, ktimer),
	   S_WEAK(posix_timer, 3, tg, thread_group),
	   S_REF(posix_timer, 4, target, task),
	   S_VAL(posix_timer, 5, id),
	   S_VAL(posix_timer, 6, clock_id),
	   S_VAL(posix_timer, 7, notify),
	   S_VAL(posix_timer, 8, signo),
	   S_VAL(posix_timer, 9, value),
	   S_VAL(posix_timer, 10, cpu_expires),
	   S_VAL(posix_timer, 11, cpu_interval),
	   S_VAL(posix_timer, 12, overrun));
