/*
 * Signal queues and sending (signal(7)). Everything is under taskset_mu; delivery is in deliver.c.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/state/desc.h"

#define HANDLER_DFL 0
#define HANDLER_IGN 1
#define MASK_STOP (SIGMASK(SIGSTOP) | SIGMASK(SIGTSTP) | SIGMASK(SIGTTIN) | SIGMASK(SIGTTOU))
#define MASK_CORE                                                                                  \
	(SIGMASK(SIGQUIT) | SIGMASK(SIGILL) | SIGMASK(SIGTRAP) | SIGMASK(SIGABRT) |                \
	 SIGMASK(SIGFPE) | SIGMASK(SIGSEGV) | SIGMASK(SIGBUS) | SIGMASK(SIGSYS) |                  \
	 SIGMASK(SIGXCPU) | SIGMASK(SIGXFSZ))
#define MASK_IGNORE (SIGMASK(SIGCONT) | SIGMASK(SIGCHLD) | SIGMASK(SIGWINCH) | SIGMASK(SIGURG))
#define MASK_SYNCHRONOUS                                                                           \
	(SIGMASK(SIGSEGV) | SIGMASK(SIGBUS) | SIGMASK(SIGILL) | SIGMASK(SIGTRAP) |                 \
	 SIGMASK(SIGFPE) | SIGMASK(SIGSYS))

enum signal_default signal_default_action(int signo)
{
	if (SIGMASK(signo) & MASK_STOP)
		return SIGDFL_STOP;
	if (SIGMASK(signo) & MASK_CORE)
		return SIGDFL_CORE;
	return SIGMASK(signo) & MASK_IGNORE ? SIGDFL_IGNORE : SIGDFL_TERM;
}

struct signal_handlers *signal_handlers_new(void)
{
	struct signal_handlers *h = calloc(1, sizeof(*h));

	if (h)
		refcount_init(&h->refs, 1);
	return h;
}

struct signal_handlers *signal_handlers_dup(const struct signal_handlers *h)
{
	struct signal_handlers *n = signal_handlers_new();

	if (n)
		memcpy(n->action, h->action, sizeof(n->action));
	return n;
}

void signal_handlers_put(struct signal_handlers *h)
{
	if (h && refcount_put(&h->refs))
		free(h);
}

void sigqueue_init(struct sigqueue *q)
{
	q->set = 0;
	q->count = 0;
	list_init(&q->items);
}

static void item_free(struct sigqueue *q, struct sigqueue_item *it)
{
	list_del(&it->node);
	q->count--;
	free(it);
}

void sigqueue_flush(struct sigqueue *q)
{
	struct sigqueue_item *it, *tmp;

	list_for_each_safe(it, tmp, &q->items, node)
		item_free(q, it);
	q->set = 0;
}

static void sigqueue_remove(struct sigqueue *q, sigset_kernel set)
{
	struct sigqueue_item *it, *tmp;

	if (!(q->set & set))
		return;
	list_for_each_safe(it, tmp, &q->items, node)
		if (SIGMASK(it->info.signo) & set)
			item_free(q, it);
	q->set &= ~set;
}

/* Takes the first item of signo; the set bit stays when another one is queued. */
static void sigqueue_take(struct sigqueue *q, int signo, struct guest_siginfo *ret_info)
{
	struct sigqueue_item *it, *tmp, *first = NULL;
	bool more = false;

	list_for_each_safe(it, tmp, &q->items, node) {
		if (it->info.signo != signo)
			continue;
		if (first) {
			more = true;
			break;
		}
		first = it;
	}
	if (!more)
		q->set &= ~SIGMASK(signo);
	*ret_info = (struct guest_siginfo){ .signo = signo };
	if (!first)
		return;
	*ret_info = first->info;
	item_free(q, first);
}

static int lowest(sigset_kernel set)
{
	if (set & MASK_SYNCHRONOUS)
		set &= MASK_SYNCHRONOUS;
	return __builtin_ctzll(set) + 1;
}

/* Takes the next signal of set pending for t, its own before its process's. 0: none. */
static int dequeue_locked(struct task *t, sigset_kernel set, struct guest_siginfo *ret_info)
{
	struct sigqueue *q = &t->pending;
	int signo;

	if (!(q->set & set))
		q = &t->tg->pending;
	if (!(q->set & set))
		return 0;
	signo = lowest(q->set & set);
	sigqueue_take(q, signo, ret_info);
	return signo;
}

int signal_next_locked(struct task *t, struct guest_siginfo *ret_info)
{
	return dequeue_locked(t, ~t->blocked, ret_info);
}

int signal_dequeue(struct task *t, sigset_kernel set, struct guest_siginfo *ret_info)
{
	GUARD(mutex, &taskset_mu);
	return dequeue_locked(t, set & ~SIGMASK_UNBLOCKABLE, ret_info);
}

sigset_kernel signal_pending_set(struct task *t)
{
	GUARD(mutex, &taskset_mu);
	return t->pending.set | t->tg->pending.set;
}

bool signal_wanted_locked(struct task *t)
{
	mutex_assert_held(&taskset_mu);
	return t->killed || t->stop_pending || ptrace_trap_pending_locked(t) ||
	       ((t->pending.set | t->tg->pending.set) & ~(t->blocked & ~t->waited));
}

void signal_wait_begin(struct task *t, sigset_kernel set)
{
	GUARD(mutex, &taskset_mu);
	t->waited = set & ~SIGMASK_UNBLOCKABLE;
	if ((t->pending.set | t->tg->pending.set) & t->waited)
		t->interrupt = true;
}

void signal_wait_end(struct task *t)
{
	GUARD(mutex, &taskset_mu);
	t->waited = 0;
	t->interrupt = true;
}

bool signal_pending(struct task *t)
{
	if (!t->interrupt)
		return false;
	GUARD(mutex, &taskset_mu);
	return signal_wanted_locked(t);
}

void signal_recalc_locked(struct task *t)
{
	if (signal_wanted_locked(t))
		task_interrupt(t);
}

struct waitq *signal_waitq(struct task *t)
{
	return &t->tg->signal_waitq;
}

bool signal_unkillable(const struct thread_group *tg)
{
	const struct pid_number *pn = &tg->pid->number[tg->pid->level];

	return pn->nr == 1 && tg->pid->level > 0;
}

/* Would signo be dropped at once if it came to t? from_above: sent by the kernel or an outer pid
 * namespace. */
static bool ignored_by(struct task *t, int signo, bool from_above)
{
	uint64_t handler = t->tg->handlers->action[signo - 1].handler;

	if (t->tracer && signo != SIGKILL)
		return false;
	if ((t->blocked | t->waited) & SIGMASK(signo))
		return false;
	if (handler == HANDLER_IGN)
		return true;
	if (handler != HANDLER_DFL)
		return false;
	if (signal_unkillable(t->tg) && !(from_above && (SIGMASK(signo) & SIGMASK_UNBLOCKABLE)))
		return true;
	return signal_default_action(signo) == SIGDFL_IGNORE;
}

bool signal_ignored_or_blocked(struct task *t, int signo)
{
	GUARD(mutex, &taskset_mu);
	return (t->blocked & SIGMASK(signo)) ||
	       t->tg->handlers->action[signo - 1].handler == HANDLER_IGN;
}

void signal_group_exit_locked(struct thread_group *tg, uint32_t status)
{
	struct task *t;

	mutex_assert_held(&taskset_mu);
	if (!tg->exiting) {
		tg->exiting = true;
		tg->exit_status = status;
	}
	tg->group_stop = false;
	tg->stopped = false;
	list_for_each(t, &tg->tasks, group_node) {
		t->stop_pending = false;
		if (t->exited)
			continue;
		t->killed = true;
		task_interrupt(t);
	}
}

/* SIGCONT's effect at sending, whatever becomes of the signal. */
static void continue_locked(struct thread_group *tg)
{
	struct task *t;
	bool was_stopped = tg->stopped;

	sigqueue_remove(&tg->pending, MASK_STOP);
	list_for_each(t, &tg->tasks, group_node) {
		sigqueue_remove(&t->pending, MASK_STOP);
		if (t->stop_pending || (t->stopped && !t->tracer)) {
			t->stop_pending = false;
			task_interrupt(t);
		}
	}
	tg->group_stop = tg->stopped = false;
	tg->stop_count = 0;
	if (was_stopped) {
		tg->continued = true;
		tg->stop_reported = true;
		signal_notify_parent_locked(tg, CLD_CONTINUED, SIGCONT);
	}
}

static void prepare_locked(struct thread_group *tg, int signo)
{
	struct task *t;

	if (signo == SIGCONT) {
		continue_locked(tg);
	} else if (SIGMASK(signo) & MASK_STOP) {
		sigqueue_remove(&tg->pending, SIGMASK(SIGCONT));
		list_for_each(t, &tg->tasks, group_node)
			sigqueue_remove(&t->pending, SIGMASK(SIGCONT));
	}
}

static bool wants(const struct task *t, int signo)
{
	return !t->exited && !(t->blocked & ~t->waited & SIGMASK(signo)) && !t->killed;
}

/* The signal is queued: picks who takes it and cuts a fatal one short. */
static void complete_locked(struct task *t, struct thread_group *tg, int signo, bool to_group)
{
	struct task *target = NULL, *it;

	if (wants(t, signo)) {
		target = t;
	} else if (to_group) {
		list_for_each(it, &tg->tasks, group_node) {
			if (wants(it, signo)) {
				target = it;
				break;
			}
		}
	}
	waitq_wake(&tg->signal_waitq, POLLIN);
	if (!target)
		return;
	if (signo == SIGKILL ||
	    (tg->handlers->action[signo - 1].handler == HANDLER_DFL && !target->tracer &&
	     !(target->waited & SIGMASK(signo)) &&
	     signal_default_action(signo) == SIGDFL_TERM && !signal_unkillable(tg))) {
		signal_group_exit_locked(tg, (uint32_t)signo);
		return;
	}
	task_interrupt(target);
}

static struct task *any_live_task(struct thread_group *tg)
{
	struct task *t;

	list_for_each(t, &tg->tasks, group_node)
		if (!t->exited)
			return t;
	return NULL;
}

/* Did the signal come from the kernel or from outside tg's pid namespace? */
static bool sent_from_above(const struct thread_group *tg, const struct guest_siginfo *info)
{
	if (info->code > 0 || !current)
		return true;
	return pid_nr_in(current->tg->pid, tg->pid->number[tg->pid->level].ns) == 0;
}

static int queue_locked(struct sigqueue *q, struct thread_group *tg, const struct guest_siginfo *info,
			void *timer)
{
	struct sigqueue_item *it;
	bool rt = info->signo >= 32;

	if (rt && info->code < 0 && !timer && q->count >= tg->limits.r[RLIMIT_SIGPENDING].soft)
		return -EAGAIN;
	it = malloc(sizeof(*it));
	if (it) {
		*it = (struct sigqueue_item){ .info = *info, .timer = timer };
		list_add_tail(&q->items, &it->node);
		q->count++;
	} else if (rt && info->code < 0) {
		return -EAGAIN;
	}
	q->set |= SIGMASK(info->signo);
	return 0;
}

static int send_locked(struct task *t, struct thread_group *tg, bool to_group,
		       const struct guest_siginfo *info, void *timer)
{
	struct sigqueue *q = to_group ? &tg->pending : &t->pending;
	struct guest_siginfo copy = *info;
	int err;

	mutex_assert_held(&taskset_mu);
	if (!t || t->exited || tg->exiting)
		return 0;
	prepare_locked(tg, info->signo);
	if (ignored_by(t, info->signo, sent_from_above(tg, info)))
		return 0;
	if (info->signo < 32 && (q->set & SIGMASK(info->signo)))
		return 0;
	/* The sender's pid as the receiver's namespace knows it. */
	if ((copy.code == GUEST_SI_USER || copy.code == GUEST_SI_TKILL) && current && copy.kill.pid)
		copy.kill.pid = pid_nr_in(current->tg->pid, tg->pid->number[tg->pid->level].ns);
	err = queue_locked(q, tg, &copy, timer);
	if (err < 0)
		return err;
	complete_locked(t, tg, info->signo, to_group);
	return 0;
}

int signal_send_task_locked(struct task *t, const struct guest_siginfo *info)
{
	return send_locked(t, t->tg, false, info, NULL);
}

int signal_send_task(struct task *t, const struct guest_siginfo *info)
{
	GUARD(mutex, &taskset_mu);
	return signal_send_task_locked(t, info);
}

int signal_send_group_locked(struct thread_group *tg, const struct guest_siginfo *info)
{
	struct task *t = tg->leader && !tg->leader->exited ? tg->leader : any_live_task(tg);

	return send_locked(t, tg, true, info, NULL);
}

int signal_send_group(struct thread_group *tg, const struct guest_siginfo *info)
{
	GUARD(mutex, &taskset_mu);
	return signal_send_group_locked(tg, info);
}

int signal_send_pgrp_locked(struct process_group *pg, const struct guest_siginfo *info)
{
	struct thread_group *tg, *tmp;
	int ret = 0;

	list_for_each_safe(tg, tmp, &pg->groups, pgrp_node) {
		int err = signal_send_group_locked(tg, info);

		ret = err < 0 ? err : ret;
	}
	return ret;
}

int signal_send_pgrp(struct process_group *pg, const struct guest_siginfo *info)
{
	GUARD(mutex, &taskset_mu);
	return signal_send_pgrp_locked(pg, info);
}

bool signal_send_timer(struct task *t, struct thread_group *tg, const struct guest_siginfo *info, void *tag)
{
	struct sigqueue *q;
	struct sigqueue_item *it;

	GUARD(mutex, &taskset_mu);
	q = tg ? &tg->pending : &t->pending;
	list_for_each(it, &q->items, node) {
		if (it->timer == tag) {
			int64_t sum = (int64_t)it->info.timer.overrun + info->timer.overrun + 1;

			it->info.timer.overrun = (int32_t)MIN(sum, (int64_t)INT32_MAX);
			return false;
		}
	}
	if (tg)
		t = tg->leader && !tg->leader->exited ? tg->leader : any_live_task(tg);
	(void)send_locked(t, t ? t->tg : tg, tg != NULL, info, tag);
	return true;
}

static void timer_forget(struct sigqueue *q, const void *tag)
{
	struct sigqueue_item *it, *tmp, *other;

	list_for_each_safe(it, tmp, &q->items, node) {
		int signo = it->info.signo;
		bool more = false;

		if (it->timer != tag)
			continue;
		item_free(q, it);
		list_for_each(other, &q->items, node)
			more |= other->info.signo == signo;
		if (!more)
			q->set &= ~SIGMASK(signo);
	}
}

void signal_timer_forget(struct thread_group *tg, void *tag)
{
	struct task *t;

	GUARD(mutex, &taskset_mu);
	timer_forget(&tg->pending, tag);
	list_for_each(t, &tg->tasks, group_node)
		timer_forget(&t->pending, tag);
}

void signal_force(struct task *t, const struct guest_siginfo *info)
{
	struct guest_sigaction *act;
	sigset_kernel bit = SIGMASK(info->signo);

	GUARD(mutex, &taskset_mu);
	act = &t->tg->handlers->action[info->signo - 1];
	if ((t->blocked & bit) || act->handler == HANDLER_IGN) {
		act->handler = HANDLER_DFL;
		t->blocked &= ~bit;
	}
	if (act->handler == HANDLER_DFL && !t->tracer) {
		/* Not even the first process of a namespace survives its own fault. */
		if (signal_default_action(info->signo) == SIGDFL_CORE || signal_unkillable(t->tg)) {
			signal_group_exit_locked(t->tg, signal_core_status(t->tg, info->signo));
			return;
		}
	}
	sigqueue_remove(&t->pending, info->signo < 32 ? bit : 0);
	(void)queue_locked(&t->pending, t->tg, info, NULL);
	task_interrupt(t);
}

struct guest_siginfo siginfo_kernel(int signo)
{
	return (struct guest_siginfo){ .signo = signo, .code = GUEST_SI_KERNEL };
}

struct guest_siginfo siginfo_user(struct task *from, int signo, int code)
{
	struct guest_siginfo info = { .signo = signo, .code = code };

	if (from) {
		info.kill.pid = thread_group_pid_in(from->tg, task_pid_ns(from));
		info.kill.uid = user_ns_from_kuid_munged(from->cred->user_ns, from->cred->ruid);
	}
	return info;
}

#define CAP_KILL 5

bool signal_permitted(struct task *from, struct thread_group *tg, int signo)
{
	AUTO(cred_put) const struct cred *c = NULL;
	struct task *leader;
	bool same_session;

	if (from->tg == tg)
		return true;
	mutex_lock(&taskset_mu);
	leader = tg->leader ? task_get(tg->leader) : NULL;
	same_session = tg->pgrp && from->tg->pgrp && tg->pgrp->session == from->tg->pgrp->session;
	mutex_unlock(&taskset_mu);
	if (!leader)
		return false;
	c = task_get_cred(leader);
	task_put(leader);
	if (from->cred->euid.v == c->suid.v || from->cred->euid.v == c->ruid.v ||
	    from->cred->ruid.v == c->suid.v || from->cred->ruid.v == c->ruid.v)
		return true;
	if (cred_capable(from->cred, c->user_ns, CAP_KILL))
		return true;
	return signo == SIGCONT && same_session;
}

/* Blocked process-directed signals of set are offered to the other threads. */
void signal_retarget_locked(struct task *t, sigset_kernel set)
{
	struct task *it;

	set &= t->tg->pending.set;
	if (!set)
		return;
	list_for_each(it, &t->tg->tasks, group_node)
		if (it != t && !it->exited && (set & ~it->blocked))
			task_interrupt(it);
}

void signal_set_mask(struct task *t, sigset_kernel mask)
{
	sigset_kernel added;

	mask &= ~SIGMASK_UNBLOCKABLE;
	if (mask == t->blocked)
		return;
	GUARD(mutex, &taskset_mu);
	added = mask & ~t->blocked;
	t->blocked = mask;
	if (added)
		signal_retarget_locked(t, added);
	if ((t->pending.set | t->tg->pending.set) & ~mask)
		t->interrupt = true;
}

void signal_mask_replace(struct task *t, sigset_kernel mask)
{
	if (!t->restore_mask) {
		t->saved_mask = t->blocked;
		t->restore_mask = true;
	}
	signal_set_mask(t, mask);
}

void signal_mask_restore(struct task *t)
{
	if (!t->restore_mask)
		return;
	t->restore_mask = false;
	signal_set_mask(t, t->saved_mask);
}

void signal_exec_locked(struct task *t)
{
	for (int i = 0; i < GUEST_NSIG; i++) {
		struct guest_sigaction *a = &t->tg->handlers->action[i];

		*a = (struct guest_sigaction){ .handler = a->handler == HANDLER_IGN ? HANDLER_IGN : HANDLER_DFL };
	}
}

void signal_action(struct task *t, int signo, const struct guest_sigaction *act,
		struct guest_sigaction *ret_old)
{
	struct guest_sigaction *a;
	struct task *it;

	GUARD(mutex, &taskset_mu);
	a = &t->tg->handlers->action[signo - 1];
	*ret_old = *a;
	if (!act)
		return;
	*a = *act;
	if (a->handler != HANDLER_IGN &&
	    !(a->handler == HANDLER_DFL && signal_default_action(signo) == SIGDFL_IGNORE))
		return;
	sigqueue_remove(&t->tg->pending, SIGMASK(signo));
	list_for_each(it, &t->tg->tasks, group_node)
		sigqueue_remove(&it->pending, SIGMASK(signo));
}

bool thread_group_in(struct thread_group *tg, const struct process_group *pg)
{
	GUARD(mutex, &taskset_mu);
	return tg->pgrp == pg;
}

bool thread_group_dead(struct thread_group *tg)
{
	GUARD(mutex, &taskset_mu);
	return tg->zombie || tg->reaped;
}

/* SIGCHLD (or clone's choice) for a stop, continuation or death of tg to its parent. taskset_mu. */
void signal_notify_parent_locked(struct thread_group *tg, int code, int status)
{
	struct thread_group *parent = tg->parent;
	struct guest_siginfo info = { .signo = tg->exit_signal, .code = code };
	const struct guest_sigaction *act;
	struct cpu_usage usage;
	bool job = code == CLD_STOPPED || code == CLD_CONTINUED || code == CLD_TRAPPED;

	mutex_assert_held(&taskset_mu);
	if (!parent)
		return;
	if (job)
		info.signo = SIGCHLD;
	/* clone(2) takes any number for a child that is to tell nobody. */
	if (info.signo > 0 && info.signo <= GUEST_NSIG) {
		act = &parent->handlers->action[info.signo - 1];
		thread_group_usage_locked(tg, &usage);
		info.chld.pid = pid_nr_in(tg->pid, parent->pid->number[parent->pid->level].ns);
		if (tg->leader && tg->leader->cred)
			info.chld.uid = user_ns_from_kuid_munged(&root_user_ns, tg->leader->cred->ruid);
		info.chld.status = status;
		info.chld.utime = usage.user_ns / 10000000;
		info.chld.stime = usage.system_ns / 10000000;
		if (!(info.signo == SIGCHLD && job && (act->flags & SA_NOCLDSTOP)))
			(void)signal_send_group_locked(parent, &info);
	}
	waitq_wake(&parent->child_waitq, POLLIN);
}

STATE_DESC(sigqueue_item, S_NOSAVE(sigqueue_item, node, "list is rebuilt in order"),
	   S_VAL(sigqueue_item, 1, info), S_WEAK(sigqueue_item, 2, timer, posix_timer));
STATE_DESC(sigqueue, S_VAL(sigqueue, 1, set), S_LIST(sigqueue, 2, items, sigqueue_item),
	   S_VAL(sigqueue, 3, count));
STATE_DESC(guest_sigaction, S_VAL(guest_sigaction, 1, handler), S_VAL(guest_sigaction, 2, flags),
	   S_VAL(guest_sigaction, 3, restorer), S_VAL(guest_sigaction, 4, mask));
STATE_DESC(signal_handlers, S_NOSAVE(signal_handlers, refs, "recounted"),
	   S_EMBED(signal_handlers, 1, action, guest_sigaction));
