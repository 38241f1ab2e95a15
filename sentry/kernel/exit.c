/* The end of tasks and processes: _exit(2), zombies, reparenting, the death of pid namespaces. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/mm/account.h"

enum { EXIT_PAGES = 32 }; /* that an ending thread may take beyond the container's limit */

void task_exit_self(struct task *t, uint32_t status)
{
	GUARD(mutex, &taskset_mu);
	if (!t->killed)
		t->exit_status = status;
	t->killed = true;
	t->interrupt = true;
}

void thread_group_exit_self(struct task *t, uint32_t status)
{
	GUARD(mutex, &taskset_mu);
	signal_group_exit_locked(t->tg, status);
}

/* Takes a dead task off every list; its number is free. taskset_mu. */
void task_unlink_locked(struct task *t)
{
	mutex_assert_held(&taskset_mu);
	list_del(&t->all_node);
	list_del(&t->group_node);
	t->tg->task_count--;
	task_uncharge(t);
	if (t->pid->task == t) {
		t->pid->task = NULL;
		pid_unused(t->pid);
	}
	if (t->tg->leader == t)
		t->tg->leader = NULL;
	task_put(t);
}

/* The process's status was collected, or nobody wants it: its leader goes and so does the number.
 * taskset_mu; the caller holds a reference on tg or must not use it afterwards. */
void thread_group_reap_locked(struct thread_group *tg)
{
	struct pid_number *deepest = &tg->pid->number[tg->pid->level];

	mutex_assert_held(&taskset_mu);
	if (tg->reaped)
		return;
	tg->reaped = true;
	if (deepest->ns->init == tg)
		deepest->ns->init = NULL;
	list_del(&tg->sibling_node);
	tg->parent = NULL;
	thread_group_set_pgrp_locked(tg, NULL);
	if (tg->pid->session && tg->pid->session->leader == tg)
		tg->pid->session->leader = NULL;
	waitq_wake(&tg->pidfd_waitq, POLLHUP);
	if (tg->leader)
		task_unlink_locked(tg->leader);
}

/* Who becomes the parent of tg's children: another thread's... a subreaper above, or the namespace's
 * init. NULL: nobody, they are reaped by themselves. */
static struct thread_group *new_parent(struct thread_group *tg)
{
	struct pid_ns *ns = tg->pid->number[tg->pid->level].ns;
	struct thread_group *up;

	for (up = tg->parent; up && up->pid->number[up->pid->level].ns == ns; up = up->parent)
		if (up->is_subreaper && !up->exiting && !up->zombie)
			return up;
	for (; ns; ns = ns->parent)
		if (ns->init && ns->init != tg && !ns->init->zombie)
			return ns->init;
	return NULL;
}

static void notify_or_reap(struct thread_group *tg);

/* Sends child's parent-death signals. taskset_mu. */
static void parent_died(struct thread_group *child, const struct task *parent_task)
{
	struct task *t;

	list_for_each(t, &child->tasks, group_node) {
		struct guest_siginfo info;

		if (!t->parent_death_signal || t->exited)
			continue;
		if (parent_task && child->parent_task != parent_task)
			continue;
		info = (struct guest_siginfo){ .signo = t->parent_death_signal, .code = GUEST_SI_USER };
		(void)signal_send_group_locked(child, &info);
	}
}

/* One thread of the parent died: its children's parent-death signals, and another thread takes over. */
static void parent_thread_died(struct task *t)
{
	struct thread_group *child;
	struct task *next = t->tg->leader, *it;

	list_for_each(it, &t->tg->tasks, group_node)
		if (!it->exited)
			next = it;
	list_for_each(child, &t->tg->children, sibling_node) {
		if (child->parent_task != t)
			continue;
		parent_died(child, t);
		child->parent_task = next;
	}
}

static void reparent_children(struct thread_group *tg)
{
	struct thread_group *child, *tmp, *to = new_parent(tg);

	list_for_each_safe(child, tmp, &tg->children, sibling_node) {
		list_del(&child->sibling_node);
		child->parent = to;
		child->parent_task = to ? to->leader : NULL;
		if (!to) {
			if (child->zombie)
				thread_group_reap_locked(child);
			continue;
		}
		list_add_tail(&to->children, &child->sibling_node);
		child->exit_signal = SIGCHLD;
		if (child->zombie)
			notify_or_reap(child);
	}
	if (to)
		waitq_wake(&to->child_waitq, POLLIN);
}

/* Init of a pid namespace died: so does everything in it. taskset_mu. */
static void kill_namespace(struct pid_ns *ns, const struct thread_group *init)
{
	struct rb_node *n;

	ns->dying = true;
	for (n = rb_first(&ns->tids); n; n = rb_next(n)) {
		struct task *t = rb_entry(n, struct pid_number, node)->pid->task;

		if (t && t->tg != init)
			signal_group_exit_locked(t->tg, SIGKILL);
	}
}

/* Are only zombies of init's own left in the namespace? taskset_mu. */
static bool namespace_empty(struct pid_ns *ns, const struct thread_group *init)
{
	struct rb_node *n;

	for (n = rb_first(&ns->tids); n; n = rb_next(n)) {
		struct task *t = rb_entry(n, struct pid_number, node)->pid->task;

		if (t && t->tg != init && !(t->tg->zombie || t->exited))
			return false;
	}
	return true;
}

/* The last thread of a namespace's init waits until the namespace is empty, then frees its zombies. */
static void end_namespace(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct pid_ns *ns = tg->pid->number[tg->pid->level].ns;
	struct waiter w;

	waiter_init(&w, t, POLLIN);
	waitq_add(&tg->child_waitq, &w.entry);
	mutex_lock(&taskset_mu);
	kill_namespace(ns, tg);
	while (!namespace_empty(ns, tg)) {
		mutex_unlock(&taskset_mu);
		/* killed is set, so the ordinary sleep would end at once; the wake token still works. */
		task_sleep_exiting(t, clock_mono() + 10000000, "namespace exit");
		mutex_lock(&taskset_mu);
	}
	mutex_unlock(&taskset_mu);
	waitq_remove(&w.entry);
	mutex_lock(&taskset_mu);
	for (;;) {
		struct thread_group *child = list_first(&tg->children, struct thread_group, sibling_node);

		if (!child)
			break;
		thread_group_reap_locked(child);
	}
	mutex_unlock(&taskset_mu);
}

/* A dead process: tells the parent, or goes at once when the parent ignores SIGCHLD. taskset_mu. */
static void notify_or_reap(struct thread_group *tg)
{
	struct thread_group *parent = tg->parent;
	uint32_t st = tg->exit_status;
	int code = st & 0x80 ? CLD_DUMPED : st & 0x7f ? CLD_KILLED : CLD_EXITED;
	int value = st & 0x7f ? (int)(st & 0x7f) : (int)(st >> 8 & 0xff);
	bool autoreap = false;

	if (tg->reaped)
		return;
	if (!parent) {
		/* A container's first process; the container keeps the status. */
		thread_group_reap_locked(tg);
		return;
	}
	if (tg->exit_signal == SIGCHLD) {
		const struct guest_sigaction *a = &parent->handlers->action[SIGCHLD - 1];

		autoreap = a->handler == 1 || (a->flags & SA_NOCLDWAIT);
	}
	signal_notify_parent_locked(tg, code, value);
	if (autoreap)
		thread_group_reap_locked(tg);
}

static void add_usage(struct thread_group *tg, struct task *t)
{
	struct cgroup *cg = task_cgroup(t);

	if (cg) {
		cg->dead_user_ns += t->user_ns;
		cg->dead_system_ns += t->system_ns;
	}
	tg->dead_usage.user_ns += t->user_ns;
	tg->dead_usage.system_ns += t->system_ns;
	tg->dead_usage.minflt += t->minflt;
	tg->dead_usage.majflt += t->majflt;
	tg->dead_usage.nvcsw += t->nvcsw;
	tg->dead_usage.nivcsw += t->nivcsw;
}

static void leave_stop(struct task *t)
{
	if (t->stop_pending) {
		t->stop_pending = false;
		signal_stop_done_locked(t->tg);
	}
}

/* The thread is not the last: it is gone at once, a leader stays as a number. taskset_mu. */
static void thread_gone(struct task *t)
{
	struct thread_group *tg = t->tg;

	parent_thread_died(t);
	leave_stop(t);
	signal_retarget_locked(t, ~t->blocked);
	if (tg->exec_task)
		task_wake(tg->exec_task);
	if (t != tg->leader)
		task_unlink_locked(t);
}

/* The last thread: the process is dead. taskset_mu. */
static void group_gone(struct thread_group *tg)
{
	struct pid_ns *ns = tg->pid->number[tg->pid->level].ns;
	struct cgroup *cg = tg->container ? container_cgroup(tg->container) : NULL;
	struct thread_group *child, *tmp;
	uint32_t status = tg->exit_status;

	if (cg && cg->oom_victim == tg)
		cg->oom_victim = NULL;
	process_groups_orphaned_by_exit_locked(tg);
	list_for_each_safe(child, tmp, &tg->children, sibling_node)
		parent_died(child, NULL);
	reparent_children(tg);
	tg->zombie = true;
	waitq_wake(&tg->pidfd_waitq, POLLIN);
	container_process_exited(tg->container, tg, status);
	notify_or_reap(tg);
	if (ns->dying && ns->init)
		waitq_wake(&ns->init->child_waitq, POLLIN);
}

/* CLONE_CHILD_CLEARTID: pthread_join(3) and the like go on. */
static void clear_tid(struct task *t)
{
	uint32_t zero = 0;

	if (!t->mm || !t->clear_child_tid.v)
		return;
	(void)!copy_out_struct(task_umem(t), t->clear_child_tid, &zero);
	(void)futex_wake_addr(t, t->clear_child_tid, 1);
}

/*
 * The thread's place in the process goes; with the last place the process is dead. The last to begin its
 * end need not be the last to finish, and nobody may collect the process before.
 */
static void finish(struct task *t)
{
	struct thread_group *tg = t->tg;
	bool last;

	seccomp_exit(t);
	task_account_system(t);
	t->switch_ns = 0;
	GUARD(mutex, &taskset_mu);
	t->exited = true;
	add_usage(tg, t);
	last = --tg->unfinished == 0;
	ptrace_exit_locked(t);
	if (!last) {
		thread_gone(t);
		return;
	}
	if (t != tg->leader)
		task_unlink_locked(t);
	group_gone(tg);
}

/* A thread ends and others stay. Its number is free before clear_tid tells of the end. */
static void exit_thread(struct task *t)
{
	task_release_files(t);
	finish(t);
	clear_tid(t);
	task_release_resources(t);
}

static void note_maxrss(struct thread_group *tg, struct mm *mm)
{
	struct mm_usage mu;

	if (!mm)
		return;
	mm_usage(mm, &mu);
	tg->dead_usage.maxrss_kib = MAX(tg->dead_usage.maxrss_kib, mu.hwm / 1024);
}

/* The last thread ends, and with it the process. */
static void exit_process(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct session *led = NULL;

	clear_tid(t);
	note_maxrss(tg, t->mm);
	task_release_resources(t);
	ktimer_cancel_sync(&tg->cpu_limit_timer);
	process_timers_exit(tg);
	mutex_lock(&taskset_mu);
	if (tg->pid->session && tg->pid->session->leader == tg)
		led = session_get(tg->pid->session);
	mutex_unlock(&taskset_mu);
	if (led)
		tty_drop_session(led);
	session_put(led);
	if (signal_unkillable(tg))
		end_namespace(t);
	finish(t);
}

enum run_state run_exit(struct task *t)
{
	struct thread_group *tg = thread_group_get(t->tg);
	bool last;

	t->killed = true;
	/* A word for who waits for the thread has to be written at the memory limit too. */
	memory_exceed(EXIT_PAGES * GUEST_PAGE_SIZE);
	if (t->tracer)
		ptrace_exit_event(t);
	if (t->mm)
		futex_exit_robust(t);
	ipc_exit_task(t);
	vfork_done(t);
	mutex_lock(&taskset_mu);
	last = --tg->live_count == 0;
	if (!tg->exiting && last) {
		tg->exiting = true;
		tg->exit_status = tg->leader->exit_status;
	}
	mutex_unlock(&taskset_mu);
	if (last)
		exit_process(t);
	else
		exit_thread(t);
	thread_group_put(tg);
	return RUN_DEAD;
}
