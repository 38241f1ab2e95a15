/* Clocks and sleeping: clock_*(2), gettimeofday(2), nanosleep(2). Timers are in sys_timer.c. */
#include <linux/capability.h>
#include <sys/time.h>
#include <sys/timex.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/systime.h"

int copy_in_timespec(struct task *t, uaddr_t addr, int64_t *ret_ns)
{
	struct timespec ts;

	if (copy_in_struct(task_umem(t), &ts, addr) < 0)
		return -EFAULT;
	return timespec_to_ns(&ts, ret_ns) ? 0 : -EINVAL;
}

int copy_out_timespec(struct task *t, uaddr_t addr, int64_t ns)
{
	struct timespec ts = ns_to_timespec(ns);

	return copy_out_struct(task_umem(t), addr, &ts);
}

int64_t deadline_from(int clock_id, int64_t ns)
{
	if (clock_id == CLOCK_MONOTONIC || ns == TIME_FOREVER)
		return ns;
	return time_add(ns, clock_mono() - clock_now(clock_id));
}

int timeout_deadline(struct task *t, uaddr_t addr, int64_t *ret_deadline_ns)
{
	int64_t ns;
	int r;

	*ret_deadline_ns = TIME_FOREVER;
	if (addr.v == 0)
		return 0;
	r = copy_in_timespec(t, addr, &ns);
	if (r == 0)
		*ret_deadline_ns = time_add(clock_mono(), ns);
	return r;
}

/* Dynamic clocks of clock_getcpuclockid(3): ~pid << 3 | (thread ? 4 : 0) | kind (0 prof, 1 virt, 2 sched). */
static bool cpu_clock_read(struct task *t, int clock_id, int64_t *ret_ns)
{
	int32_t pid = ~(clock_id >> 3);
	int64_t user, system;

	if ((clock_id & 3) == 3)
		return false;
	if (clock_id & 4) {
		AUTO(task_put) struct task *target = pid ? task_find(task_pid_ns(t), pid) : task_get(t);

		if (!target || target->tg != t->tg)
			return false;
		task_cpu_times(target, &user, &system);
	} else {
		AUTO(thread_group_put) struct thread_group *tg =
			pid ? thread_group_find(task_pid_ns(t), pid) : thread_group_get(t->tg);
		struct cpu_usage u;

		if (!tg)
			return false;
		thread_group_usage(tg, &u);
		user = u.user_ns;
		system = u.system_ns;
	}
	*ret_ns = (clock_id & 3) == 1 ? user : user + system;
	return true;
}

bool clock_read(struct task *t, int clock_id, int64_t *ret_ns)
{
	switch (clock_id) {
	case CLOCK_PROCESS_CPUTIME_ID:
		return cpu_clock_read(t, (int)(~0u << 3) | 2, ret_ns);
	case CLOCK_THREAD_CPUTIME_ID:
		return cpu_clock_read(t, (int)(~0u << 3) | 4 | 2, ret_ns);
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
	case CLOCK_REALTIME_ALARM:
	case CLOCK_BOOTTIME_ALARM:
	case CLOCK_TAI:
		*ret_ns = clock_now(clock_id);
		return true;
	default:
		return clock_id < 0 && cpu_clock_read(t, clock_id, ret_ns);
	}
}

int64_t sys_clock_gettime(struct task *t, int32_t clock_id, uaddr_t tp)
{
	int64_t ns;

	if (!clock_read(t, clock_id, &ns))
		return -EINVAL;
	return copy_out_timespec(t, tp, ns);
}

int64_t sys_clock_getres(struct task *t, int32_t clock_id, uaddr_t tp)
{
	bool coarse = clock_id == CLOCK_REALTIME_COARSE || clock_id == CLOCK_MONOTONIC_COARSE;
	int64_t ns;

	if (!clock_read(t, clock_id, &ns))
		return -EINVAL;
	return tp.v ? copy_out_timespec(t, tp, coarse ? 4000000 : 1) : 0;
}

int64_t sys_clock_settime(struct task *t, int32_t clock_id, uaddr_t tp)
{
	int64_t ns, now;
	int r;

	if (!clock_read(t, clock_id, &now) || clock_id != CLOCK_REALTIME)
		return -EINVAL;
	r = copy_in_timespec(t, tp, &ns);
	if (r < 0)
		return r;
	if (!task_capable_ns(t, &root_user_ns, CAP_SYS_TIME))
		return -EPERM;
	return clock_set_realtime(ns);
}

int64_t sys_gettimeofday(struct task *t, uaddr_t tv_addr, uaddr_t tz_addr)
{
	int64_t ns = clock_now(CLOCK_REALTIME);
	struct timeval tv = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC / 1000 };
	struct timezone tz = { 0 };

	if (tv_addr.v && copy_out_struct(task_umem(t), tv_addr, &tv) < 0)
		return -EFAULT;
	if (tz_addr.v && copy_out_struct(task_umem(t), tz_addr, &tz) < 0)
		return -EFAULT;
	return 0;
}

int64_t sys_settimeofday(struct task *t, uaddr_t tv_addr, uaddr_t tz_addr)
{
	struct timeval tv;
	struct timezone tz;

	if (tv_addr.v && copy_in_struct(task_umem(t), &tv, tv_addr) < 0)
		return -EFAULT;
	if (tz_addr.v && copy_in_struct(task_umem(t), &tz, tz_addr) < 0)
		return -EFAULT;
	if (tv_addr.v && (tv.tv_sec < 0 || tv.tv_usec < 0 || tv.tv_usec >= 1000000 ||
			  tv.tv_sec > TIME_FOREVER / NSEC_PER_SEC - 1))
		return -EINVAL;
	if (!task_capable_ns(t, &root_user_ns, CAP_SYS_TIME))
		return -EPERM;
	return tv_addr.v ? clock_set_realtime(tv.tv_sec * NSEC_PER_SEC + tv.tv_usec * 1000) : 0;
}

int64_t sys_time(struct task *t, uaddr_t tloc)
{
	int64_t s = clock_now(CLOCK_REALTIME) / NSEC_PER_SEC;

	if (tloc.v && copy_out_struct(task_umem(t), tloc, &s) < 0)
		return -EFAULT;
	return s;
}

/* The clock cannot be tuned from inside; reading its state is what ntp clients do first. */
int64_t sys_clock_adjtime(struct task *t, int32_t clock_id, uaddr_t buf)
{
	struct timex tx;
	int64_t ns;

	if (clock_id != CLOCK_REALTIME)
		return clock_read(t, clock_id, &ns) ? -EOPNOTSUPP : -EINVAL;
	if (copy_in_struct(task_umem(t), &tx, buf) < 0)
		return -EFAULT;
	if (tx.modes != 0 && tx.modes != ADJ_OFFSET_SS_READ)
		return -EPERM;
	ns = clock_now(CLOCK_REALTIME);
	tx = (struct timex){ .modes = tx.modes,
			     .status = STA_UNSYNC | STA_NANO,
			     .maxerror = 16000000,
			     .esterror = 16000000,
			     .constant = 2,
			     .precision = 1,
			     .tolerance = 32768000,
			     .tick = 10000 };
	tx.time.tv_sec = ns / NSEC_PER_SEC;
	tx.time.tv_usec = ns % NSEC_PER_SEC;
	return copy_out_struct(task_umem(t), buf, &tx) < 0 ? -EFAULT : TIME_ERROR;
}

int64_t sys_adjtimex(struct task *t, uaddr_t buf)
{
	return sys_clock_adjtime(t, CLOCK_REALTIME, buf);
}

/* Sleeps until the deadline on CLOCK_MONOTONIC: 0 or -ERESTARTSYS. */
static int64_t sleep_until(struct task *t, int64_t deadline)
{
	int64_t r;

	do
		r = task_block(t, deadline, "nanosleep");
	while (r == 0);
	return r == -ETIMEDOUT ? 0 : r;
}

static int64_t nanosleep_restart(struct task *t)
{
	int64_t deadline = (int64_t)t->restart.arg[0];
	uaddr_t rem = UADDR(t->restart.arg[1]);
	int64_t r = sleep_until(t, deadline);

	if (r == 0)
		return 0;
	if (rem.v && copy_out_timespec(t, rem, MAX(deadline - clock_mono(), (int64_t)0)) < 0)
		return -EFAULT;
	return -ERESTART_RESTARTBLOCK;
}

static int64_t nanosleep_relative(struct task *t, int64_t ns, uaddr_t rem)
{
	t->restart.fn = nanosleep_restart;
	t->restart.arg[0] = (uint64_t)time_add(clock_mono(), ns);
	t->restart.arg[1] = rem.v;
	return nanosleep_restart(t);
}

int64_t sys_nanosleep(struct task *t, uaddr_t req, uaddr_t rem)
{
	int64_t ns;
	int r = copy_in_timespec(t, req, &ns);

	return r < 0 ? r : nanosleep_relative(t, ns, rem);
}

/* Sleeping on CPU time: looks again whenever the time could have been used up. */
static int64_t cpu_sleep(struct task *t, int clock_id, int64_t until)
{
	int64_t now, r;

	for (;;) {
		if (!clock_read(t, clock_id, &now))
			return -EINVAL;
		if (now >= until)
			return 0;
		r = task_block(t, time_add(clock_mono(), MAX(until - now, (int64_t)1000000)), "nanosleep cpu");
		if (r < 0 && r != -ETIMEDOUT)
			return r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
	}
}

int64_t sys_clock_nanosleep(struct task *t, int32_t clock_id, uint32_t flags, uaddr_t req, uaddr_t rem)
{
	bool absolute = flags & TIMER_ABSTIME;
	int64_t ns, now, r;

	if (!clock_read(t, clock_id, &now))
		return -EINVAL;
	if (clock_id == CLOCK_THREAD_CPUTIME_ID || clock_id == CLOCK_MONOTONIC_RAW || clock_id == CLOCK_MONOTONIC_COARSE ||
	    clock_id == CLOCK_REALTIME_COARSE)
		return -EOPNOTSUPP;
	r = copy_in_timespec(t, req, &ns);
	if (r < 0)
		return r;
	if (clock_id < 0 || clock_id == CLOCK_PROCESS_CPUTIME_ID)
		return cpu_sleep(t, clock_id, absolute ? ns : time_add(now, ns));
	if (!absolute)
		return nanosleep_relative(t, ns, rem);
	r = sleep_until(t, deadline_from(clock_id, ns));
	return r == -ERESTARTSYS ? -ERESTARTNOHAND : r;
}
