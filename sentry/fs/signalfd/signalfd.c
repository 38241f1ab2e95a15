#include "sentry/fs/signalfd/signalfd.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>

#include "sentry/kernel/task.h"
#include "sentry/state/desc.h"

/*
 * Waiters wait on the file's own queue, into which the signal queue of one process is chained: that of
 * the process that used the file last. The reference on that process keeps its queue alive.
 */
struct signalfd {
	_Atomic sigset_kernel mask;
	struct mutex mu; /* LOCK_OBJECT: source and its entry */
	struct thread_group *source; /* reference */
	struct waitq_entry chain;
	struct waitq waitq;
};

STATE_DESC(signalfd, S_VAL(signalfd, 1, mask), S_REF(signalfd, 2, source, thread_group),
	   S_NOSAVE(signalfd, mu, "unheld at a safe point"),
	   S_NOSAVE(signalfd, chain, "registered again"),
	   S_NOSAVE(signalfd, waitq, "waiters register again"));

static void signalfd_chain_wake(struct waitq_entry *e, uint32_t events)
{
	waitq_wake(&container_of(e, struct signalfd, chain)->waitq, events);
}

static void signalfd_release(struct file *f)
{
	struct signalfd *s = f->data;

	waitq_remove(&s->chain);
	if (s->source)
		thread_group_put(s->source);
	waitq_fini(&s->waitq);
	mutex_fini(&s->mu);
	free(s);
}

/* Chains the calling process's signals into the file. */
static void signalfd_follow(struct signalfd *s)
{
	struct thread_group *old;

	if (!current)
		return;
	mutex_lock(&s->mu);
	old = s->source;
	if (old == current->tg) {
		mutex_unlock(&s->mu);
		return;
	}
	if (old)
		waitq_remove(&s->chain);
	s->source = thread_group_get(current->tg);
	waitq_add(signal_waitq(current), &s->chain);
	mutex_unlock(&s->mu);
	if (old)
		thread_group_put(old);
}

static void signalfd_encode(const struct guest_siginfo *si, struct signalfd_siginfo *out)
{
	memset(out, 0, sizeof(*out));
	out->ssi_signo = (uint32_t)si->signo;
	out->ssi_errno = si->err;
	out->ssi_code = si->code;
	if (si->code == SI_TIMER) {
		out->ssi_tid = (uint32_t)si->timer.tid;
		out->ssi_overrun = (uint32_t)si->timer.overrun;
		out->ssi_ptr = si->timer.value;
		out->ssi_int = (int32_t)si->timer.value;
	} else if (si->signo == SIGCHLD && si->code > 0) {
		out->ssi_pid = (uint32_t)si->chld.pid;
		out->ssi_uid = si->chld.uid;
		out->ssi_status = si->chld.status;
		out->ssi_utime = (uint64_t)si->chld.utime;
		out->ssi_stime = (uint64_t)si->chld.stime;
	} else if (si->signo == SIGIO && si->code > 0 && si->code < SI_KERNEL) {
		out->ssi_band = (uint32_t)si->poll.band;
		out->ssi_fd = si->poll.fd;
	} else if (si->code > 0 && si->code < SI_KERNEL &&
		   (SIGMASK(si->signo) &
		    (SIGMASK(SIGSEGV) | SIGMASK(SIGBUS) | SIGMASK(SIGILL) | SIGMASK(SIGFPE) | SIGMASK(SIGTRAP)))) {
		out->ssi_addr = si->fault.addr;
		out->ssi_addr_lsb = (uint16_t)si->fault.addr_lsb;
	} else {
		out->ssi_pid = (uint32_t)si->kill.pid;
		out->ssi_uid = si->kill.uid;
		out->ssi_ptr = si->kill.value;
		out->ssi_int = (int32_t)si->kill.value;
	}
}

static int64_t signalfd_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct signalfd *s = f->data;
	struct signalfd_siginfo out;
	struct guest_siginfo info;
	int64_t done = 0;

	if (u->resid < sizeof(out))
		return -EINVAL;
	signalfd_follow(s);
	while (u->resid >= sizeof(out) && signal_dequeue(current, s->mask, &info) > 0) {
		signalfd_encode(&info, &out);
		if (uio_write(u, &out, sizeof(out)) != sizeof(out))
			return done ? done : -EFAULT;
		done += (int64_t)sizeof(out);
	}
	return done ? done : -EAGAIN;
}

static uint32_t signalfd_poll(struct file *f, uint32_t events UNUSED)
{
	struct signalfd *s = f->data;

	signalfd_follow(s);
	return current && (signal_pending_set(current) & s->mask) ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *signalfd_waitq(struct file *f)
{
	struct signalfd *s = f->data;

	signalfd_follow(s);
	return &s->waitq;
}

static size_t signalfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct signalfd *s = f->data;
	int n = snprintf(buf, size, "sigmask:\t%016llx\n", (unsigned long long)s->mask);

	return n < 0 ? 0 : MIN((size_t)n, size);
}

static const struct file_ops signalfd_ops = {
	.name = "signalfd",
	.release = signalfd_release,
	.read = signalfd_read,
	.stream = true,
	.poll = signalfd_poll,
	.waitq = signalfd_waitq,
	.fdinfo = signalfd_fdinfo,
};

bool file_is_signalfd(const struct file *f)
{
	return f->ops == &signalfd_ops;
}

void signalfd_set_mask(struct file *f, sigset_kernel mask)
{
	struct signalfd *s = f->data;

	s->mask = mask & ~SIGMASK_UNBLOCKABLE;
	waitq_wake(&s->waitq, POLLIN);
}

int signalfd_new(sigset_kernel mask, int flags, const struct cred *cred, struct file **ret_file)
{
	struct signalfd *s = calloc(1, sizeof(*s));
	int ret;

	if (!s)
		return -ENOMEM;
	mutex_init(&s->mu, LOCK_OBJECT);
	waitq_init(&s->waitq);
	s->mask = mask & ~SIGMASK_UNBLOCKABLE;
	s->chain.events = POLLIN;
	s->chain.wake = signalfd_chain_wake;
	ret = file_new_anon(&signalfd_ops, "anon_inode:[signalfd]", 0600, O_RDWR | (flags & O_NONBLOCK),
			    cred, s, ret_file);
	if (ret < 0) {
		waitq_fini(&s->waitq);
		mutex_fini(&s->mu);
		free(s);
		return ret;
	}
	signalfd_follow(s);
	return 0;
}
