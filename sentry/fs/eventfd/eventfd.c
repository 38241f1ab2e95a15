#include "sentry/fs/eventfd/eventfd.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/state/desc.h"

#define EVENTFD_SEMAPHORE 1 /* EFD_SEMAPHORE; sys/eventfd.h declares functions of our names */
#define EVENTFD_MAX (UINT64_MAX - 1)

struct eventfd {
	struct mutex mu; /* LOCK_OBJECT: count */
	uint64_t count;
	bool semaphore; /* const after init */
	struct waitq waitq;
};

STATE_DESC(eventfd, S_VAL(eventfd, 1, count), S_VAL(eventfd, 2, semaphore),
	   S_NOSAVE(eventfd, mu, "unheld at a safe point"),
	   S_NOSAVE(eventfd, waitq, "waiters register again"));

static void eventfd_release(struct file *f)
{
	struct eventfd *e = f->data;

	waitq_fini(&e->waitq);
	mutex_fini(&e->mu);
	free(e);
}

static int64_t counter_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct eventfd *e = f->data;
	uint64_t value;
	int64_t ret;

	if (u->resid < sizeof(value))
		return -EINVAL;
	mutex_lock(&e->mu);
	if (e->count == 0) {
		mutex_unlock(&e->mu);
		return -EAGAIN;
	}
	value = e->semaphore ? 1 : e->count;
	e->count -= value;
	mutex_unlock(&e->mu);
	waitq_wake(&e->waitq, POLLOUT);
	ret = uio_write(u, &value, sizeof(value));
	return ret < 0 ? ret : ret == sizeof(value) ? ret : -EFAULT;
}

static int64_t counter_write(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct eventfd *e = f->data;
	struct uio at_start = *u;
	uint64_t value;

	if (u->resid < sizeof(value))
		return -EINVAL;
	if (uio_read(u, &value, sizeof(value)) != sizeof(value))
		return -EFAULT;
	if (value == UINT64_MAX)
		return -EINVAL;
	mutex_lock(&e->mu);
	if (EVENTFD_MAX - e->count < value) {
		mutex_unlock(&e->mu);
		*u = at_start; /* the caller tries again with the same bytes */
		return -EAGAIN;
	}
	e->count += value;
	mutex_unlock(&e->mu);
	if (value)
		waitq_wake(&e->waitq, POLLIN);
	return sizeof(value);
}

static uint32_t eventfd_poll(struct file *f, uint32_t events UNUSED)
{
	struct eventfd *e = f->data;
	GUARD(mutex, &e->mu);

	return (e->count > 0 ? POLLIN | POLLRDNORM : 0) |
	       (e->count < EVENTFD_MAX ? POLLOUT | POLLWRNORM : 0);
}

static struct waitq *eventfd_waitq(struct file *f)
{
	struct eventfd *e = f->data;

	return &e->waitq;
}

static size_t eventfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct eventfd *e = f->data;
	int n = snprintf(buf, size, "eventfd-count: %16llx\n", (unsigned long long)e->count);

	return n < 0 ? 0 : MIN((size_t)n, size);
}

static const struct file_ops eventfd_ops = {
	.name = "eventfd",
	.release = eventfd_release,
	.read = counter_read,
	.write = counter_write,
	.stream = true,
	.poll = eventfd_poll,
	.waitq = eventfd_waitq,
	.fdinfo = eventfd_fdinfo,
};

bool file_is_eventfd(const struct file *f)
{
	return f->ops == &eventfd_ops;
}

void eventfd_signal(struct file *f, uint64_t n)
{
	struct eventfd *e = f->data;

	mutex_lock(&e->mu);
	e->count += MIN(n, EVENTFD_MAX - e->count);
	mutex_unlock(&e->mu);
	waitq_wake(&e->waitq, POLLIN);
}

int eventfd_new(uint32_t count, int flags, const struct cred *cred, struct file **ret_file)
{
	struct eventfd *e = calloc(1, sizeof(*e));
	int ret;

	if (!e)
		return -ENOMEM;
	mutex_init(&e->mu, LOCK_OBJECT);
	waitq_init(&e->waitq);
	e->count = count;
	e->semaphore = flags & EVENTFD_SEMAPHORE;
	ret = file_new_anon(&eventfd_ops, "anon_inode:[eventfd]", 0600, O_RDWR | (flags & O_NONBLOCK),
			    cred, e, ret_file);
	if (ret < 0) {
		waitq_fini(&e->waitq);
		mutex_fini(&e->mu);
		free(e);
	}
	return ret;
}
