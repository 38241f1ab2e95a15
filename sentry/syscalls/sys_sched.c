/* Scheduling: priorities, policies and affinity are kept and shown; the host schedules. sched(7) */
#include <sched.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/container.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/process_priv.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_SYS_NICE 23
#define SCHED_RESET_ON_FORK_ 0x40000000
#define SCHED_BATCH_ 3
#define SCHED_IDLE_ 5
#define SCHED_DEADLINE_ 6

int64_t sys_sched_yield(struct task *t)
{
	(void)t;
	sched_yield();
	return 0;
}

/* The task with tid in the caller's namespace, 0: the caller; a reference, NULL when there is none. */
static struct task *find(struct task *t, int32_t tid)
{
	return tid ? task_find(task_pid_ns(t), tid) : task_get(t);
}

/* May t change the scheduling of other? */
static bool may_schedule(struct task *t, struct task *other)
{
	AUTO(cred_put) const struct cred *c = task_get_cred(other);

	return t->cred->euid.v == c->euid.v || t->cred->euid.v == c->ruid.v ||
	       cred_capable(t->cred, c->user_ns, CAP_SYS_NICE);
}

static int priority_range(int policy, int *ret_min, int *ret_max)
{
	switch (policy) {
	case SCHED_FIFO:
	case SCHED_RR:
		*ret_min = 1;
		*ret_max = 99;
		return 0;
	case SCHED_OTHER:
	case SCHED_BATCH_:
	case SCHED_IDLE_:
	case SCHED_DEADLINE_:
		*ret_min = *ret_max = 0;
		return 0;
	default:
		return -EINVAL;
	}
}

int64_t sys_sched_get_priority_max(struct task *t, arg_int_t policy)
{
	int lo, hi, err = priority_range(policy, &lo, &hi);

	(void)t;
	return err < 0 ? err : hi;
}

int64_t sys_sched_get_priority_min(struct task *t, arg_int_t policy)
{
	int lo, hi, err = priority_range(policy, &lo, &hi);

	(void)t;
	return err < 0 ? err : lo;
}

/* Sets policy (-1: keep) and priority after the checks of sched_setscheduler(2). */
static int64_t set_policy(struct task *t, int32_t pid, int32_t policy, int32_t priority,
		bool reset, bool set_nice, int32_t nice)
{
	AUTO(task_put) struct task *other = NULL;
	int lo, hi, err;

	if (pid < 0)
		return -EINVAL;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	GUARD(mutex, &taskset_mu);
	if (policy < 0)
		policy = other->sched_policy;
	err = priority_range(policy, &lo, &hi);
	if (err < 0)
		return -EINVAL;
	if (priority < lo || priority > hi)
		return -EINVAL;
	if (!may_schedule(t, other))
		return -EPERM;
	if (hi > 0 && !task_capable(t, CAP_SYS_NICE) &&
	    (uint64_t)priority > other->tg->limits.r[RLIMIT_RTPRIO].soft)
		return -EPERM;
	other->sched_policy = policy;
	other->sched_priority = priority;
	other->sched_reset_on_fork = reset;
	if (set_nice)
		other->nice = MIN(MAX(nice, -20), 19);
	return 0;
}

int64_t sys_sched_setscheduler(struct task *t, arg_pid_t pid, arg_int_t policy, arg_uaddr_t param)
{
	int32_t priority;

	if (!param.v || policy < 0 || (policy & ~SCHED_RESET_ON_FORK_) == SCHED_DEADLINE_)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &priority, param) < 0)
		return -EFAULT;
	return set_policy(t, pid, policy & ~SCHED_RESET_ON_FORK_, priority,
		policy & SCHED_RESET_ON_FORK_, false, 0);
}

int64_t sys_sched_setparam(struct task *t, arg_pid_t pid, arg_uaddr_t param)
{
	int32_t priority;

	if (!param.v)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &priority, param) < 0)
		return -EFAULT;
	return set_policy(t, pid, -1, priority, false, false, 0);
}

int64_t sys_sched_getscheduler(struct task *t, arg_pid_t pid)
{
	AUTO(task_put) struct task *other = NULL;

	if (pid < 0)
		return -EINVAL;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	return other->sched_policy | (other->sched_reset_on_fork ? SCHED_RESET_ON_FORK_ : 0);
}

int64_t sys_sched_getparam(struct task *t, arg_pid_t pid, arg_uaddr_t param)
{
	AUTO(task_put) struct task *other = NULL;

	if (pid < 0 || !param.v)
		return -EINVAL;
	other = find(t, pid);
	return other ? copy_out_struct(task_umem(t), param, &other->sched_priority) : -ESRCH;
}

int64_t sys_sched_rr_get_interval(struct task *t, arg_pid_t pid, arg_uaddr_t interval)
{
	AUTO(task_put) struct task *other = NULL;
	struct timespec ts = { 0 };

	if (pid < 0)
		return -EINVAL;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	if (other->sched_policy == SCHED_RR)
		ts.tv_nsec = 100000000;
	else if (other->sched_policy != SCHED_FIFO)
		ts.tv_nsec = 4000000;
	return copy_out_struct(task_umem(t), interval, &ts);
}

/* struct sched_attr of linux/sched/types.h, first version. */
struct guest_sched_attr {
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

/* SCHED_DEADLINE's numbers are checked and kept like every policy. */
static int64_t set_deadline(struct task *t, int32_t pid, const struct guest_sched_attr *a)
{
	AUTO(task_put) struct task *other = NULL;
	uint64_t period = a->period ? a->period : a->deadline;
	int64_t r;

	if (!a->deadline || a->runtime < 1024 || a->runtime > a->deadline || a->deadline > period ||
	    (int64_t)a->deadline < 0 || (int64_t)period < 0)
		return -EINVAL;
	if (!task_capable(t, CAP_SYS_NICE))
		return -EPERM;
	r = set_policy(t, pid, SCHED_DEADLINE_, 0, a->flags & 1, false, 0);
	other = r < 0 ? NULL : find(t, pid);
	if (!other)
		return r;
	GUARD(mutex, &taskset_mu);
	other->dl_runtime = a->runtime;
	other->dl_deadline = a->deadline;
	other->dl_period = period;
	return 0;
}

int64_t sys_sched_setattr(struct task *t, arg_pid_t pid, arg_uaddr_t uattr, arg_flags_t flags)
{
	struct guest_sched_attr a;
	uint32_t size;
	int err;

	if (!uattr.v || flags)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &size, uattr) < 0)
		return -EFAULT;
	if (!size)
		size = sizeof(a);
	if (size < sizeof(a) || size > GUEST_PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_in(t, &a, sizeof(a), uattr, size);
	if (err < 0)
		return err;
	if (a.priority > 99 || (a.flags & ~1ull))
		return -EINVAL;
	if (a.policy == SCHED_DEADLINE_)
		return set_deadline(t, pid, &a);
	return set_policy(t, pid, (int32_t)a.policy, (int32_t)a.priority, a.flags & 1,
			  a.policy == SCHED_OTHER || a.policy == SCHED_BATCH_, a.nice);
}

int64_t sys_sched_getattr(struct task *t, arg_pid_t pid, arg_uaddr_t uattr, arg_uint_t usize,
		arg_flags_t flags)
{
	AUTO(task_put) struct task *other = NULL;
	struct guest_sched_attr a = { .size = sizeof(a) };

	if (!uattr.v || pid < 0 || usize < sizeof(a) || usize > GUEST_PAGE_SIZE || flags)
		return -EINVAL;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	a.policy = (uint32_t)other->sched_policy;
	a.flags = other->sched_reset_on_fork;
	a.priority = (uint32_t)other->sched_priority;
	a.nice = other->nice;
	if (a.policy == SCHED_DEADLINE_) {
		a.runtime = other->dl_runtime;
		a.deadline = other->dl_deadline;
		a.period = other->dl_period;
	}
	return copy_out_struct(task_umem(t), uattr, &a);
}

int64_t sys_sched_setaffinity(struct task *t, arg_pid_t pid, arg_uint_t len, arg_uaddr_t user_mask_ptr)
{
	AUTO(task_put) struct task *other = NULL;
	uint64_t mask[ARRAY_COUNT(t->cpu_mask)] = { 0 };
	uint32_t cpus = task_cpu_count(t);
	bool any = false, all = true;

	if (copy_in(task_umem(t), mask, user_mask_ptr, MIN(len, (uint32_t)sizeof(mask))) < 0)
		return -EFAULT;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	for (uint32_t i = 0; i < ARRAY_COUNT(mask); i++) {
		uint64_t valid = cpus >= (i + 1) * 64 ? UINT64_MAX :
				 cpus > i * 64	     ? (1ull << (cpus - i * 64)) - 1 :
						       0;

		mask[i] &= valid;
		any |= mask[i] != 0;
		all &= mask[i] == valid;
	}
	if (!may_schedule(t, other))
		return -EPERM;
	if (!any)
		return -EINVAL;
	if (!all)
		vdso_getcpu_by_call();
	GUARD(mutex, &taskset_mu);
	memcpy(other->cpu_mask, mask, sizeof(mask));
	return 0;
}

int64_t sys_sched_getaffinity(struct task *t, arg_pid_t pid, arg_uint_t len, arg_uaddr_t user_mask_ptr)
{
	AUTO(task_put) struct task *other = NULL;
	uint32_t need = ALIGN_UP(kernel_cpu_count(), 64u) / 8;

	if (len * 8ull < kernel_cpu_count() || (len & 7))
		return -EINVAL;
	other = find(t, pid);
	if (!other)
		return -ESRCH;
	need = MIN(need, len);
	return copy_out(task_umem(t), user_mask_ptr, other->cpu_mask, need) < 0 ? -EFAULT : (int64_t)need;
}

/* Calls fn for each task that which and who name (setpriority(2), ioprio_set(2)). Returns how many. */
enum prio_which { PRIO_WHICH_PROCESS, PRIO_WHICH_PGRP, PRIO_WHICH_USER };
static int for_each_named(struct task *t, enum prio_which which, int32_t who,
		void (*fn)(struct task *t, struct task *it, void *arg), void *arg)
{
	extern struct list_node all_tasks;
	struct process_group *pg;
	struct task *it;
	kuid_t uid = t->cred->ruid;
	int count = 0;

	if (which == PRIO_WHICH_USER && who && !user_ns_make_kuid(t->cred->user_ns, (uint32_t)who, &uid))
		return 0;
	GUARD(mutex, &taskset_mu);
	pg = which == PRIO_WHICH_PGRP ? who ? process_group_find_locked(task_pid_ns(t),
		who) : t->tg->pgrp : NULL;
	list_for_each(it, &all_tasks, all_node) {
		bool match = false;

		if (it->exited || !task_tid_in(it, task_pid_ns(t)))
			continue;
		if (which == PRIO_WHICH_PROCESS)
			match = who ? task_tid_in(it, task_pid_ns(t)) == who : it == t;
		else if (which == PRIO_WHICH_PGRP)
			match = pg && it->tg->pgrp == pg;
		else
			match = it->cred->ruid.v == uid.v;
		if (!match)
			continue;
		fn(t, it, arg);
		count++;
	}
	return count;
}

static void lowest_nice(struct task *t, struct task *it, void *arg)
{
	int *best = arg;

	(void)t;
	*best = MIN(*best, (int)it->nice);
}

int64_t sys_getpriority(struct task *t, arg_int_t which, arg_int_t who)
{
	int best = 20;

	if (which < 0 || which > 2)
		return -EINVAL;
	return for_each_named(t, (enum prio_which)which, who, lowest_nice, &best) ? 20 - best : -ESRCH;
}

struct nice_change {
	int32_t nice;
	int err;
};

static void change_nice(struct task *t, struct task *it, void *arg)
{
	struct nice_change *c = arg;

	if (!may_schedule(t, it)) {
		c->err = -EPERM;
		return;
	}
	if (c->nice < it->nice && !task_capable(t, CAP_SYS_NICE) &&
	    (uint64_t)(20 - c->nice) > it->tg->limits.r[RLIMIT_NICE].soft) {
		c->err = -EACCES;
		return;
	}
	it->nice = c->nice;
}

int64_t sys_setpriority(struct task *t, arg_int_t which, arg_int_t who, arg_int_t niceval)
{
	struct nice_change c = { .nice = MIN(MAX(niceval, -20), 19) };

	if (which < 0 || which > 2)
		return -EINVAL;
	return for_each_named(t, (enum prio_which)which, who, change_nice, &c) ? c.err : -ESRCH;
}

#define IOPRIO_CLASS(x) ((x) >> 13)

static void change_ioprio(struct task *t, struct task *it, void *arg)
{
	struct nice_change *c = arg;

	if (!may_schedule(t, it))
		c->err = -EPERM;
	else
		it->ioprio = (uint16_t)c->nice;
}

/* which of ioprio_set(2) starts at 1. */
int64_t sys_ioprio_set(struct task *t, arg_int_t which, arg_int_t who, arg_int_t ioprio)
{
	struct nice_change c = { .nice = ioprio };
	int class = IOPRIO_CLASS(ioprio);

	if (which < 1 || which > 3 || class > 3 || (ioprio & 0x1ff8) || (class == 0 && (ioprio & 7)))
		return -EINVAL;
	if (class == 1 && !task_capable(t, 21) && !task_capable(t, CAP_SYS_NICE))
		return -EPERM;
	return for_each_named(t, (enum prio_which)(which - 1), who, change_ioprio, &c) ? c.err : -ESRCH;
}

static void best_ioprio(struct task *t, struct task *it, void *arg)
{
	int *best = arg, v = it->ioprio;

	(void)t;
	*best = *best && v ? MIN(*best, v) : MAX(*best, v);
}

int64_t sys_ioprio_get(struct task *t, arg_int_t which, arg_int_t who)
{
	int best = 0;

	if (which < 1 || which > 3)
		return -EINVAL;
	return for_each_named(t, (enum prio_which)(which - 1), who, best_ioprio, &best) ? best : -ESRCH;
}

int64_t sys_getcpu(struct task *t, arg_uaddr_t cpup, arg_uaddr_t nodep, arg_uaddr_t unused)
{
	int host = sched_getcpu();
	uint32_t cpu = host < 0 ? 0 : (uint32_t)host % kernel_cpu_count(), node = 0;

	(void)unused;
	/* Affinity is a promise that the answer keeps. */
	for (uint32_t i = 0; !(t->cpu_mask[cpu / 64] >> (cpu % 64) & 1) && i < kernel_cpu_count(); i++)
		cpu = (cpu + 1) % kernel_cpu_count();
	if (cpup.v && copy_out_struct(task_umem(t), cpup, &cpu) < 0)
		return -EFAULT;
	return nodep.v ? copy_out_struct(task_umem(t), nodep, &node) : 0;
}
