/* Process groups and sessions (credentials(7), setpgid(2), setsid(2)). */
#include <stdlib.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/state/desc.h"

struct list_node all_sessions = LIST_INIT(all_sessions);

struct session *session_get(struct session *s)
{
	refcount_get(&s->refs);
	return s;
}

void session_put_locked(struct session *s)
{
	mutex_assert_held(&taskset_mu);
	if (!s || !refcount_put(&s->refs))
		return;
	list_del(&s->all_node);
	s->pid->session = NULL;
	pid_unused(s->pid);
	pid_put(s->pid);
	free(s);
}

void session_put(struct session *s)
{
	if (!s)
		return;
	GUARD(mutex, &taskset_mu);
	session_put_locked(s);
}

struct process_group *process_group_get(struct process_group *pg)
{
	refcount_get(&pg->refs);
	return pg;
}

void process_group_put_locked(struct process_group *pg)
{
	mutex_assert_held(&taskset_mu);
	if (!pg || !refcount_put(&pg->refs))
		return;
	pg->pid->pgrp = NULL;
	pid_unused(pg->pid);
	session_put_locked(pg->session);
	pid_put(pg->pid);
	free(pg);
}

void process_group_put(struct process_group *pg)
{
	if (!pg)
		return;
	GUARD(mutex, &taskset_mu);
	process_group_put_locked(pg);
}

/* A new group of session s (reference taken) named by pid. NULL when out of memory. */
static struct process_group *group_new(struct pid *pid, struct session *s)
{
	struct process_group *pg = calloc(1, sizeof(*pg));

	if (!pg)
		return NULL;
	refcount_init(&pg->refs, 1);
	list_init(&pg->groups);
	pg->pid = pid_get(pid);
	pg->session = session_get(s);
	pid->pgrp = pg;
	return pg;
}

int session_new_locked(struct pid *pid, struct session **ret_s, struct process_group **ret_pg)
{
	struct session *s = calloc(1, sizeof(*s));

	mutex_assert_held(&taskset_mu);
	if (!s)
		return -ENOMEM;
	refcount_init(&s->refs, 1);
	s->pid = pid_get(pid);
	list_add_tail(&all_sessions, &s->all_node);
	pid->session = s;
	*ret_pg = group_new(pid, s);
	if (!*ret_pg) {
		session_put_locked(s);
		return -ENOMEM;
	}
	*ret_s = s;
	return 0;
}

void thread_group_set_pgrp_locked(struct thread_group *tg, struct process_group *pg)
{
	struct process_group *old = tg->pgrp;

	mutex_assert_held(&taskset_mu);
	list_del(&tg->pgrp_node);
	tg->pgrp = pg ? process_group_get(pg) : NULL;
	if (pg)
		list_add_tail(&pg->groups, &tg->pgrp_node);
	process_group_put_locked(old);
}

struct process_group *process_group_of(struct thread_group *tg)
{
	GUARD(mutex, &taskset_mu);
	return tg->pgrp ? process_group_get(tg->pgrp) : NULL;
}

struct process_group *process_group_find_locked(struct pid_ns *ns, int32_t pgid)
{
	struct pid *p = pid_find_locked(ns, pgid);

	return p ? p->pgrp : NULL;
}

int32_t process_group_id_in(const struct process_group *pg, const struct pid_ns *ns)
{
	return pid_nr_in(pg->pid, ns);
}

int32_t session_id_in(const struct session *s, const struct pid_ns *ns)
{
	return pid_nr_in(s->pid, ns);
}

int32_t thread_group_pgid_in(struct thread_group *tg, const struct pid_ns *ns)
{
	GUARD(mutex, &taskset_mu);
	return tg->pgrp ? pid_nr_in(tg->pgrp->pid, ns) : 0;
}

int32_t thread_group_sid_in(struct thread_group *tg, const struct pid_ns *ns)
{
	GUARD(mutex, &taskset_mu);
	return tg->pgrp ? pid_nr_in(tg->pgrp->session->pid, ns) : 0;
}

/* Is tg a member whose parent keeps its group from being orphaned? except counts as gone already. */
static bool keeps_group(const struct thread_group *tg, const struct thread_group *except)
{
	const struct thread_group *parent = tg->parent;

	if (tg == except || tg->zombie || !parent || parent == except || !parent->pgrp)
		return false;
	if (signal_unkillable(parent) && parent->pgrp->session != tg->pgrp->session)
		return false;
	return parent->pgrp != tg->pgrp && parent->pgrp->session == tg->pgrp->session;
}

static bool orphaned(const struct process_group *pg, const struct thread_group *except)
{
	struct thread_group *tg;

	list_for_each(tg, &pg->groups, pgrp_node)
		if (keeps_group(tg, except))
			return false;
	return true;
}

bool process_group_orphaned_locked(const struct process_group *pg)
{
	mutex_assert_held(&taskset_mu);
	return orphaned(pg, NULL);
}

static bool has_stopped(const struct process_group *pg, const struct thread_group *except)
{
	struct thread_group *tg;

	list_for_each(tg, &pg->groups, pgrp_node)
		if (tg != except && tg->stopped)
			return true;
	return false;
}

static void hang_up_if_orphaned(struct process_group *pg, const struct thread_group *exiting)
{
	struct guest_siginfo hup = siginfo_kernel(SIGHUP), cont = siginfo_kernel(SIGCONT);

	if (!pg || !orphaned(pg, exiting) || !has_stopped(pg, exiting))
		return;
	(void)signal_send_pgrp_locked(pg, &hup);
	(void)signal_send_pgrp_locked(pg, &cont);
}

void process_groups_orphaned_by_exit_locked(struct thread_group *tg)
{
	struct thread_group *child;

	/* Our own group, if our parent was what tied it to the session. */
	if (keeps_group(tg, NULL))
		hang_up_if_orphaned(tg->pgrp, tg);
	/* Our children's groups, if we were. */
	list_for_each(child, &tg->children, sibling_node)
		if (keeps_group(child, NULL))
			hang_up_if_orphaned(child->pgrp, tg);
}

/* setpgid(2) after the checks of who may: moves tg into the group pgid of its session, or a new one.
 * Takes taskset_mu. */
int thread_group_setpgid(struct task *t, int32_t pid, int32_t pgid)
{
	struct pid_ns *ns = task_pid_ns(t);
	struct thread_group *tg;
	struct process_group *pg;
	struct pid *p;

	GUARD(mutex, &taskset_mu);
	p = pid ? pid_find_locked(ns, pid) : t->tg->pid;
	if (!p || !p->task || p->task->tg->pid != p)
		return -ESRCH;
	tg = p->task->tg;
	if (tg != t->tg && tg->parent != t->tg)
		return -ESRCH;
	if (tg != t->tg && tg->pgrp->session != t->tg->pgrp->session)
		return -EPERM;
	if (tg != t->tg && tg->execed)
		return -EACCES;
	if (tg->pgrp->session->pid == tg->pid)
		return -EPERM;
	if (pgid && pgid != pid_nr_in(tg->pid, ns)) {
		pg = process_group_find_locked(ns, pgid);
		if (!pg || pg->session != tg->pgrp->session)
			return -EPERM;
		if (pg != tg->pgrp)
			thread_group_set_pgrp_locked(tg, pg);
		return 0;
	}
	if (tg->pid->pgrp) {
		thread_group_set_pgrp_locked(tg, tg->pid->pgrp);
		return 0;
	}
	pg = group_new(tg->pid, tg->pgrp->session);
	if (!pg)
		return -ENOMEM;
	thread_group_set_pgrp_locked(tg, pg);
	process_group_put_locked(pg);
	return 0;
}

/* setsid(2). Takes taskset_mu. Returns the session's number or -EPERM, -ENOMEM. */
int32_t thread_group_setsid(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct process_group *pg;
	struct session *s;
	int err;

	GUARD(mutex, &taskset_mu);
	if (tg->pid->pgrp || tg->pid->session)
		return -EPERM;
	err = session_new_locked(tg->pid, &s, &pg);
	if (err < 0)
		return err;
	s->leader = tg;
	thread_group_set_pgrp_locked(tg, pg);
	process_group_put_locked(pg);
	session_put_locked(s);
	return pid_nr_in(tg->pid, task_pid_ns(t));
}

STATE_DESC(process_group, S_NOSAVE(process_group, refs, "recounted"), S_REF(process_group, 1, pid, pid),
	   S_REF(process_group, 2, session, session), S_LIST(process_group, 3, groups, thread_group));
STATE_DESC(session, S_NOSAVE(session, refs, "recounted"), S_REF(session, 1, pid, pid),
	   S_NOSAVE(session, all_node, "list is rebuilt"), S_REF(session, 2, tty, tty),
	   S_REF(session, 3, foreground, process_group), S_WEAK(session, 4, leader, thread_group));
