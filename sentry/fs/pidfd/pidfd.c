/* Descriptors of processes: pidfd_open(2), clone(2) with CLONE_PIDFD. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>

#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/vfs/fs_ops.h"

static void pidfd_release(struct file *f)
{
	thread_group_put(f->data);
}

static uint32_t pidfd_poll(struct file *f, uint32_t events)
{
	struct thread_group *tg = f->data;
	uint32_t ready;

	mutex_lock(&taskset_mu);
	ready = tg->zombie || tg->reaped ? POLLIN | POLLRDNORM : 0;
	if (tg->reaped)
		ready |= POLLHUP;
	mutex_unlock(&taskset_mu);
	return ready & (events | POLLHUP);
}

static struct waitq *pidfd_waitq(struct file *f)
{
	struct thread_group *tg = f->data;

	return &tg->pidfd_waitq;
}

static size_t pidfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct thread_group *tg = f->data;
	int32_t pid = current && !thread_group_dead(tg) ? thread_group_pid_in(tg,
		task_pid_ns(current)) : -1;
	int n = snprintf(buf, size, "Pid:\t%d\nNSpid:\t%d\n", pid, pid);

	return n > 0 ? MIN((size_t)n, size - 1) : 0;
}

static const struct file_ops pidfd_ops = {
	.name = "pidfd",
	.release = pidfd_release,
	.stream = true,
	.poll = pidfd_poll,
	.waitq = pidfd_waitq,
	.fdinfo = pidfd_fdinfo,
};

int pidfd_file_new(struct thread_group *tg, const struct cred *cred, int flags, struct file **ret_file)
{
	int err = file_new_anon(&pidfd_ops, "anon_inode:[pidfd]", 0600, O_RDWR | flags, cred,
				thread_group_get(tg), ret_file);

	if (err < 0)
		thread_group_put(tg);
	return err;
}

struct thread_group *pidfd_thread_group(struct file *f)
{
	return f->ops == &pidfd_ops ? thread_group_get(f->data) : NULL;
}
