/* wait4(2) and waitid(2): children's deaths, stops and continuations; tracees' stops. */
#include <poll.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/ptrace.h"

#define WCLONE_ 0x80000000u
#define WALL_ 0x40000000u
#define WNOTHREAD_ 0x20000000u

static bool id_matches(struct task *t, const struct wait_args *a, struct thread_group *tg,
		struct task *tracee)
{
	switch (a->kind) {
	case WAIT_ID_ALL:
		return true;
	case WAIT_ID_PID:
		return pid_nr_in(tracee ? tracee->pid : tg->pid, task_pid_ns(t)) == a->id;
	case WAIT_ID_PGID:
		return tg->pgrp == a->pg;
	case WAIT_ID_GROUP:
		return tg == a->tg;
	}
	return false;
}

/* Then its stops are reported one by one as a tracee's. */
static bool traced_by_us(const struct task *t, const struct thread_group *child)
{
	return child->leader && child->leader->tracer && child->leader->tracer->tg == t->tg;
}

static bool child_matches(struct task *t, const struct wait_args *a, struct thread_group *child)
{
	bool clone = child->exit_signal != SIGCHLD;

	if ((a->options & WNOTHREAD_) && child->parent_task != t)
		return false;
	if (!(a->options & WALL_) && clone != !!(a->options & WCLONE_) &&
	    !traced_by_us(t, child))
		return false;
	return id_matches(t, a, child, NULL);
}

static void fill(struct task *t, struct thread_group *child, struct wait_result *ret)
{
	ret->pid = pid_nr_in(child->pid, task_pid_ns(t));
	if (child->leader)
		ret->uid = user_ns_from_kuid_munged(t->cred->user_ns, child->leader->cred->ruid);
}

static void add(struct cpu_usage *to, const struct cpu_usage *u)
{
	to->user_ns += u->user_ns;
	to->system_ns += u->system_ns;
	to->minflt += u->minflt;
	to->majflt += u->majflt;
	to->nvcsw += u->nvcsw;
	to->nivcsw += u->nivcsw;
	to->maxrss_kib = MAX(to->maxrss_kib, u->maxrss_kib);
}

static void take_zombie(struct task *t, struct thread_group *child, bool consume, struct wait_result *ret)
{
	uint32_t st = child->exit_status;

	fill(t, child, ret);
	ret->status = st;
	ret->code = st & 0x80 ? CLD_DUMPED : st & 0x7f ? CLD_KILLED : CLD_EXITED;
	ret->value = (int32_t)(st & 0x7f ? st & 0x7f : st >> 8 & 0xff);
	ret->usage = child->dead_usage;
	add(&ret->usage, &child->child_usage);
	if (!consume)
		return;
	add(&t->tg->child_usage, &ret->usage);
	thread_group_reap_locked(child);
}

/* One look at a child: true when something was reported. taskset_mu. */
static bool try_child(struct task *t, const struct wait_args *a, struct thread_group *child,
		struct wait_result *ret)
{
	bool consume = !(a->options & WNOWAIT);

	if (child->zombie) {
		if (!(a->options & WEXITED))
			return false;
		take_zombie(t, child, consume, ret);
		return true;
	}
	if ((a->options & WSTOPPED) && child->stopped && !child->stop_reported && !traced_by_us(t, child)) {
		fill(t, child, ret);
		thread_group_usage_locked(child, &ret->usage);
		ret->status = (uint32_t)child->stop_signal << 8 | 0x7f;
		ret->code = CLD_STOPPED;
		ret->value = child->stop_signal;
		child->stop_reported = consume;
		return true;
	}
	if ((a->options & WCONTINUED) && child->continued) {
		fill(t, child, ret);
		thread_group_usage_locked(child, &ret->usage);
		ret->status = 0xffff;
		ret->code = CLD_CONTINUED;
		ret->value = SIGCONT;
		child->continued = !consume;
		return true;
	}
	return false;
}

/* The tracees of one of our threads. taskset_mu. */
static bool try_tracees(struct task *t, struct task *tracer, const struct wait_args *a,
		struct wait_result *ret, bool *found)
{
	struct task *it, *tmp;

	list_for_each_safe(it, tmp, &tracer->tracees, tracee_node) {
		uint32_t status;

		if (!id_matches(t, a, it->tg, it))
			continue;
		*found = true;
		ret->pid = pid_nr_in(it->pid, task_pid_ns(t));
		ret->uid = user_ns_from_kuid_munged(t->cred->user_ns, it->cred->ruid);
		if (ptrace_wait_locked(it, !(a->options & WNOWAIT), a->options & WEXITED, &status)) {
			bool stop = (status & 0xff) == 0x7f;

			ret->status = status;
			ret->code = stop ? CLD_TRAPPED : status & 0x7f ? CLD_KILLED : CLD_EXITED;
			ret->value = (int32_t)(stop || !(status & 0x7f) ? status >> 8 : status & 0x7f);
			return true;
		}
		ret->pid = 0;
	}
	return false;
}

static bool look(struct task *t, const struct wait_args *a, struct wait_result *ret, bool *found)
{
	struct thread_group *child, *tmp;
	struct task *it;

	list_for_each_safe(child, tmp, &t->tg->children, sibling_node) {
		if (!child_matches(t, a, child))
			continue;
		/* A zombie that nobody asks for will never have anything to tell: -ECHILD, not a wait. */
		if (!child->zombie || a->options & WEXITED)
			*found = true;
		if (try_child(t, a, child, ret))
			return true;
	}
	list_for_each(it, &t->tg->tasks, group_node) {
		if ((a->options & WNOTHREAD_) && it != t)
			continue;
		if (try_tracees(t, it, a, ret, found))
			return true;
	}
	return false;
}

int task_wait(struct task *t, const struct wait_args *a, struct wait_result *ret)
{
	struct waiter w;
	bool found, done;
	int err = 0;

	memset(ret, 0, sizeof(*ret));
	waiter_init(&w, t, POLLIN);
	waitq_add(&t->tg->child_waitq, &w.entry);
	for (;;) {
		found = false;
		mutex_lock(&taskset_mu);
		done = look(t, a, ret, &found);
		mutex_unlock(&taskset_mu);
		if (done)
			break;
		if (!found) {
			err = -ECHILD;
			break;
		}
		if (a->options & WNOHANG)
			break;
		err = task_block(t, TIME_FOREVER, "wait");
		if (err < 0)
			break;
	}
	waitq_remove(&w.entry);
	return err;
}
