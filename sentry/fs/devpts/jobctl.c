/* Controlling terminals and job control (setsid(2), tcsetpgrp(3), credentials(7)). */
#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>

#include "sentry/fs/devpts/tty_priv.h"

#define CAP_SYS_ADMIN_NR 21
#define WAKE_ALL (POLLIN | POLLOUT | POLLHUP | POLLERR)

struct process_group *tty_foreground(struct tty *t)
{
	struct process_group *pg = NULL;
	GUARD(mutex, &taskset_mu);

	if (t->session && t->session->foreground)
		pg = process_group_get(t->session->foreground);
	return pg;
}

void tty_signal_foreground(struct tty *t, int signo)
{
	struct process_group *pg = tty_foreground(t);
	struct guest_siginfo info = siginfo_kernel(signo);

	if (!pg)
		return;
	signal_send_pgrp(pg, &info);
	process_group_put(pg);
}

struct tty *tty_of_task(struct task *task)
{
	GUARD(mutex, &taskset_mu);

	return tty_get(task->tg->pgrp->session->tty);
}

int tty_check_background(struct tty *t, int signo)
{
	struct guest_siginfo info = siginfo_kernel(signo);
	struct process_group *pg = NULL;
	bool background, orphaned = false;

	if (!current)
		return 0;
	mutex_lock(&taskset_mu);
	background = current->tg->pgrp->session->tty == t && t->session && t->session->foreground != current->tg->pgrp;
	if (background) {
		pg = process_group_get(current->tg->pgrp);
		orphaned = process_group_orphaned_locked(pg);
	}
	mutex_unlock(&taskset_mu);
	if (!background)
		return 0;
	if (signal_ignored_or_blocked(current, signo)) {
		process_group_put(pg);
		return signo == SIGTTIN ? -EIO : 0;
	}
	if (!orphaned)
		signal_send_pgrp(pg, &info);
	process_group_put(pg);
	return orphaned ? -EIO : -ERESTARTSYS;
}

/* Takes the terminal away from s; what it held is returned for the caller to put. taskset_mu held. */
static struct tty *detach_locked(struct session *s, struct process_group **ret_foreground)
{
	struct tty *t = s->tty;

	*ret_foreground = s->foreground;
	s->tty = NULL;
	s->foreground = NULL;
	if (t && t->session == s)
		t->session = NULL;
	return t;
}

int tty_set_controlling(struct tty *t, struct task *task, bool steal)
{
	struct process_group *old_fg = NULL;
	struct tty *old_tty = NULL;
	struct session *s;
	int ret = 0;

	mutex_lock(&taskset_mu);
	s = task->tg->pgrp->session;
	if (s->leader == task->tg && s->tty == t)
		goto out;
	ret = -EPERM;
	if (s->leader != task->tg || s->tty || (t->session && !steal))
		goto out;
	if (t->session)
		old_tty = detach_locked(t->session, &old_fg);
	s->tty = tty_get(t);
	s->foreground = process_group_get(task->tg->pgrp);
	t->session = s;
	ret = 0;
out:
	mutex_unlock(&taskset_mu);
	if (old_fg)
		process_group_put(old_fg);
	tty_put(old_tty);
	return ret;
}

void tty_drop_session(struct session *s)
{
	struct guest_siginfo hup = siginfo_kernel(SIGHUP), cont = siginfo_kernel(SIGCONT);
	struct process_group *fg;
	struct tty *t;

	mutex_lock(&taskset_mu);
	t = detach_locked(s, &fg);
	mutex_unlock(&taskset_mu);
	if (fg) {
		signal_send_pgrp(fg, &hup);
		signal_send_pgrp(fg, &cont);
		process_group_put(fg);
	}
	tty_put(t);
}

void tty_hangup(struct tty *t)
{
	struct guest_siginfo hup = siginfo_kernel(SIGHUP), cont = siginfo_kernel(SIGCONT);
	struct process_group *fg = NULL;
	struct tty *held = NULL;

	mutex_lock(&t->mu);
	t->hung = true;
	mutex_unlock(&t->mu);
	mutex_lock(&taskset_mu);
	if (t->session) {
		struct session *s = t->session;

		if (s->leader) {
			signal_send_group_locked(s->leader, &hup);
			signal_send_group_locked(s->leader, &cont);
		}
		held = detach_locked(s, &fg);
	}
	mutex_unlock(&taskset_mu);
	if (fg) {
		signal_send_pgrp(fg, &hup);
		signal_send_pgrp(fg, &cont);
		process_group_put(fg);
	}
	waitq_wake(&t->waitq, WAKE_ALL);
	tty_put(held);
}

void tty_opened(struct tty *t, const struct file *f)
{
	if (current && !(f->flags & O_NOCTTY) && tty_set_controlling(t, current, false) < 0)
		return; /* not a leader, or one with a terminal: the open itself is fine */
}

/* Is t the calling task's controlling terminal? taskset_mu held. */
static bool is_mine(const struct tty *t)
{
	return current->tg->pgrp->session->tty == t;
}

static int64_t get_pgrp(struct tty *t, bool master, uint64_t arg, struct umem *um)
{
	struct pid_ns *ns = task_pid_ns(current);
	int32_t id = 0;
	bool mine;

	mutex_lock(&taskset_mu);
	mine = master || is_mine(t);
	if (t->session && t->session->foreground)
		id = process_group_id_in(t->session->foreground, ns);
	mutex_unlock(&taskset_mu);
	return mine ? copy_out_struct(um, UADDR(arg), &id) : -ENOTTY;
}

static int64_t set_pgrp(struct tty *t, bool master, uint64_t arg, struct umem *um)
{
	struct process_group *pg, *old = NULL;
	int32_t id;
	int64_t ret = tty_check_background(t, SIGTTOU);

	if (ret < 0)
		return ret;
	if (copy_in_struct(um, &id, UADDR(arg)) < 0)
		return -EFAULT;
	if (id < 0)
		return -EINVAL;
	pg = process_group_find(task_pid_ns(current), id);
	mutex_lock(&taskset_mu);
	if (!t->session || (!master && !is_mine(t)) || t->session != current->tg->pgrp->session) {
		ret = -ENOTTY;
	} else if (!pg) {
		ret = -ESRCH;
	} else if (pg->session != t->session) {
		ret = -EPERM;
	} else {
		old = t->session->foreground;
		t->session->foreground = pg;
		pg = NULL;
	}
	mutex_unlock(&taskset_mu);
	if (pg)
		process_group_put(pg);
	if (old)
		process_group_put(old);
	return ret;
}

static int64_t get_sid(struct tty *t, bool master, uint64_t arg, struct umem *um)
{
	int32_t id = 0;
	bool ok;

	mutex_lock(&taskset_mu);
	ok = t->session && (master || is_mine(t));
	if (ok)
		id = session_id_in(t->session, task_pid_ns(current));
	mutex_unlock(&taskset_mu);
	return ok ? copy_out_struct(um, UADDR(arg), &id) : -ENOTTY;
}

static int64_t no_tty(struct tty *t)
{
	struct session *drop = NULL;
	bool mine;

	mutex_lock(&taskset_mu);
	mine = is_mine(t);
	if (mine && current->tg->pgrp->session->leader == current->tg)
		drop = session_get(current->tg->pgrp->session);
	mutex_unlock(&taskset_mu);
	if (drop) {
		tty_drop_session(drop);
		session_put(drop);
	}
	return mine ? 0 : -ENOTTY;
}

int64_t tty_jobctl_ioctl(struct tty *t, struct file *f UNUSED, bool master, uint32_t cmd, uint64_t arg, struct umem *um)
{
	switch (cmd) {
	case TIOCGPGRP:
		return get_pgrp(t, master, arg, um);
	case TIOCSPGRP:
		return set_pgrp(t, master, arg, um);
	case TIOCGSID:
		return get_sid(t, master, arg, um);
	case TIOCSCTTY:
		return tty_set_controlling(t, current, arg == 1 && task_capable(current, CAP_SYS_ADMIN_NR));
	case TIOCNOTTY:
		return no_tty(t);
	default:
		return -ENOTTY;
	}
}
