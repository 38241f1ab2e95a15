/*
 * Signal-driven I/O. A file with O_ASYNC has an entry on its wait queue; a wake arms a timer that is due
 * at once, and the timer thread sends the signal, because the wake holds locks under which none can be
 * sent.
 */
#include "sentry/syscalls/file_async.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/signal.h"
#include "sentry/state/desc.h"

#define F_GETOWNER_UIDS_CMD 17

struct file_owner {
	struct mutex mu;    /* LOCK_LEAF: type, pid, uid, euid, signo, fd */
	int type;	    /* F_OWNER_* */
	struct pid *pid;    /* reference; NULL: nobody */
	kuid_t uid, euid;   /* of who set the owner */
	int signo;	    /* F_SETSIG; 0: plain SIGIO */
	int fd;		    /* shown in si_fd */
	bool watching;	    /* the file's flags are the truth; changed by the calls below only */
	struct file *file;  /* borrowed: it owns us */
	struct waitq_entry entry;
	_Atomic uint32_t events; /* since the last signal */
	struct ktimer timer;
};

STATE_DESC(file_owner, S_NOSAVE(file_owner, mu, "free at a safe point"), S_VAL(file_owner, 1, type),
	   S_REF(file_owner, 2, pid, pid), S_VAL(file_owner, 3, uid), S_VAL(file_owner, 4, euid),
	   S_VAL(file_owner, 5, signo), S_VAL(file_owner, 6, fd), S_VAL(file_owner, 7, watching),
	   S_WEAK(file_owner, 8, file, file), S_NOSAVE(file_owner, entry, "registered again"),
	   S_VAL(file_owner, 9, events), S_NOSAVE(file_owner, timer, "armed only for a moment"));

struct target {
	int type, signo, fd;
	struct pid *pid; /* reference */
	kuid_t uid, euid;
};

/* May the one who set the owner signal tg (as kill(2), by the ids of that time)? taskset_mu held. */
static bool may_signal(const struct target *to, struct thread_group *tg)
{
	struct task *t = tg->leader;
	bool ok;

	if (!t || to->euid.v == 0)
		return t != NULL;
	mutex_lock(&t->mu);
	ok = t->cred && (to->euid.v == t->cred->suid.v || to->euid.v == t->cred->ruid.v ||
			 to->uid.v == t->cred->suid.v || to->uid.v == t->cred->ruid.v);
	mutex_unlock(&t->mu);
	return ok;
}

static struct guest_siginfo async_info(const struct target *to, uint32_t events)
{
	static const struct {
		uint32_t events;
		int32_t code;
	} codes[] = {
		{ POLLIN, POLL_IN },   { POLLOUT, POLL_OUT }, { POLLERR, POLL_ERR },
		{ POLLPRI, POLL_PRI }, { POLLHUP, POLL_HUP },
	};
	struct guest_siginfo info = siginfo_kernel(to->signo ? to->signo : SIGIO);

	if (!to->signo)
		return info;
	info.code = POLL_IN;
	for (size_t i = 0; i < ARRAY_COUNT(codes); i++) {
		if (events & codes[i].events) {
			info.code = codes[i].code;
			break;
		}
	}
	info.poll.band = events;
	info.poll.fd = to->fd;
	return info;
}

static void send_to(const struct target *to, uint32_t events)
{
	struct guest_siginfo info = async_info(to, events);
	struct thread_group *tg;

	GUARD(mutex, &taskset_mu);
	if (to->type == F_OWNER_PGRP && to->pid->pgrp) {
		list_for_each(tg, &to->pid->pgrp->groups, pgrp_node) {
			if (may_signal(to, tg))
				(void)signal_send_group_locked(tg, &info);
		}
	} else if (to->type != F_OWNER_PGRP && to->pid->task && may_signal(to, to->pid->task->tg)) {
		if (to->type == F_OWNER_TID)
			(void)signal_send_task_locked(to->pid->task, &info);
		else
			(void)signal_send_group_locked(to->pid->task->tg, &info);
	}
}

static void async_fire(struct ktimer *kt, uint64_t overruns)
{
	struct file_owner *o = container_of(kt, struct file_owner, timer);
	uint32_t events = atomic_exchange(&o->events, 0);
	struct target to;

	(void)overruns;
	mutex_lock(&o->mu);
	to = (struct target){ o->type, o->signo, o->fd, o->pid ? pid_get(o->pid) : NULL, o->uid, o->euid };
	mutex_unlock(&o->mu);
	if (!to.pid)
		return;
	send_to(&to, events);
	pid_put(to.pid);
}

static void async_wake(struct waitq_entry *e, uint32_t events)
{
	struct file_owner *o = container_of(e, struct file_owner, entry);

	atomic_fetch_or(&o->events, events);
	ktimer_arm(&o->timer, clock_mono(), 0);
}

/* For the VFS: the file goes. */
static void owner_free(struct file_owner *o)
{
	waitq_remove(&o->entry);
	ktimer_cancel_sync(&o->timer);
	pid_put(o->pid);
	mutex_fini(&o->mu);
	free(o);
}

static struct file_owner *owner_make(struct file *f)
{
	struct file_owner *o = __atomic_load_n(&f->owner, __ATOMIC_ACQUIRE), *expected = NULL;

	if (o)
		return o;
	o = calloc(1, sizeof(*o));
	if (!o)
		return NULL;
	mutex_init(&o->mu, LOCK_LEAF);
	o->type = F_OWNER_PID;
	o->file = f;
	o->entry = (struct waitq_entry){ .events = POLLIN | POLLOUT | POLLPRI | POLLERR | POLLHUP, .wake = async_wake };
	list_init(&o->entry.node);
	ktimer_init(&o->timer, CLOCK_MONOTONIC, async_fire);
	file_owner_free = owner_free;
	if (__atomic_compare_exchange_n(&f->owner, &expected, o, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return o;
	owner_free(o);
	return expected;
}

/* The pid object of a number as t sees it, with a reference; NULL: there is none. */
static struct pid *pid_of_number(struct task *t, int type, int32_t nr)
{
	struct pid_ns *ns = task_pid_ns(t);
	struct pid *pid = NULL;

	if (type == F_OWNER_TID) {
		AUTO(task_put) struct task *target = task_find(ns, nr);

		pid = target ? pid_get(target->pid) : NULL;
	} else if (type == F_OWNER_PID) {
		AUTO(thread_group_put) struct thread_group *tg = thread_group_find(ns, nr);

		pid = tg ? pid_get(tg->pid) : NULL;
	} else {
		AUTO(process_group_put) struct process_group *pg = process_group_find(ns, nr);

		pid = pg ? pid_get(pg->pid) : NULL;
	}
	return pid;
}

static int set_owner(struct task *t, struct file *f, int type, int32_t nr)
{
	struct file_owner *o = owner_make(f);
	struct pid *pid = NULL, *old;

	if (!o)
		return -ENOMEM;
	if (nr) {
		pid = pid_of_number(t, type, nr);
		if (!pid)
			return -ESRCH;
	}
	mutex_lock(&o->mu);
	old = o->pid;
	o->pid = pid;
	o->type = type;
	o->uid = t->cred->ruid;
	o->euid = t->cred->euid;
	mutex_unlock(&o->mu);
	pid_put(old);
	return 0;
}

static int32_t get_owner(struct task *t, struct file *f, int *ret_type)
{
	struct file_owner *o = f->owner;
	struct pid *pid;
	int32_t nr;

	*ret_type = F_OWNER_PID;
	if (!o)
		return 0;
	mutex_lock(&o->mu);
	*ret_type = o->type;
	pid = o->pid ? pid_get(o->pid) : NULL;
	mutex_unlock(&o->mu);
	if (!pid)
		return 0;
	nr = pid_nr_in(pid, task_pid_ns(t));
	pid_put(pid);
	return nr;
}

static int64_t owner_ex(struct task *t, struct file *f, uint32_t cmd, uaddr_t arg)
{
	struct {
		int32_t type, pid;
	} ex;

	if (cmd == F_GETOWN_EX) {
		int type;

		ex.pid = get_owner(t, f, &type);
		ex.type = type;
		return copy_out_struct(task_umem(t), arg, &ex);
	}
	if (copy_in_struct(task_umem(t), &ex, arg) < 0)
		return -EFAULT;
	if (ex.type < F_OWNER_TID || ex.type > F_OWNER_PGRP)
		return -EINVAL;
	return set_owner(t, f, ex.type, ex.pid);
}

static int64_t set_signal(struct file *f, uint64_t signo)
{
	struct file_owner *o;

	if (signo > GUEST_NSIG)
		return -EINVAL;
	o = owner_make(f);
	if (!o)
		return -ENOMEM;
	GUARD(mutex, &o->mu);
	o->signo = (int)signo;
	return 0;
}

static int64_t owner_uids(struct task *t, struct file *f, uaddr_t arg)
{
	uint32_t ids[2] = { 0, 0 };

	if (f->owner) {
		GUARD(mutex, &f->owner->mu);
		ids[0] = user_ns_from_kuid_munged(t->cred->user_ns, f->owner->uid);
		ids[1] = user_ns_from_kuid_munged(t->cred->user_ns, f->owner->euid);
	}
	return copy_out(task_umem(t), arg, ids, sizeof(ids));
}

bool file_async_is_cmd(uint32_t cmd)
{
	return cmd == F_SETOWN || cmd == F_GETOWN || cmd == F_SETOWN_EX || cmd == F_GETOWN_EX ||
	       cmd == F_SETSIG || cmd == F_GETSIG || cmd == F_GETOWNER_UIDS_CMD;
}

int64_t file_async_fcntl(struct task *t, struct file *f, uint32_t cmd, uint64_t arg)
{
	int32_t who = (int32_t)arg, nr;
	int type;

	switch (cmd) {
	case F_SETOWN:
		if (who == INT32_MIN)
			return -EINVAL;
		return set_owner(t, f, who < 0 ? F_OWNER_PGRP : F_OWNER_PID, who < 0 ? -who : who);
	case F_GETOWN:
		nr = get_owner(t, f, &type);
		return type == F_OWNER_PGRP ? -nr : nr;
	case F_SETSIG:
		return set_signal(f, arg);
	case F_GETSIG:
		return f->owner ? f->owner->signo : 0;
	case F_GETOWNER_UIDS_CMD:
		return owner_uids(t, f, UADDR(arg));
	default:
		return owner_ex(t, f, cmd, UADDR(arg));
	}
}

int file_async_update(struct task *t, struct file *f, int fd)
{
	bool on = file_flags(f) & O_ASYNC, begin = false, end = false;
	struct file_owner *o;

	(void)t;
	if (!on && !f->owner)
		return 0;
	o = owner_make(f);
	if (!o)
		return -ENOMEM;
	mutex_lock(&o->mu);
	if (on) {
		o->fd = fd;
		begin = !o->watching;
	} else {
		end = o->watching;
	}
	o->watching = on;
	mutex_unlock(&o->mu);
	if (end)
		waitq_remove(&o->entry);
	else if (begin && file_wait_add(f, &o->entry) < 0)
		o->watching = false; /* a file without readiness: nothing will ever be told */
	return 0;
}
