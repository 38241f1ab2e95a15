#include "sentry/fs/timerfd/timerfd.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "sentry/state/desc.h"
#include "sentry/time/clock.h"

struct timerfd {
	struct ktimer timer;
	int clock_id;	 /* const after init; what the guest named */
	struct mutex mu; /* LOCK_FS_DATA, above the timer heap's: one timerfd_settime at a time */
	_Atomic uint64_t ticks;
	struct waitq waitq;
};

STATE_DESC(timerfd, S_VAL(timerfd, 1, clock_id), S_VAL(timerfd, 2, ticks),
	   S_NOSAVE(timerfd, timer, "armed again from its time left"),
	   S_NOSAVE(timerfd, mu, "unheld at a safe point"),
	   S_NOSAVE(timerfd, waitq, "waiters register again"));

static void timerfd_fire(struct ktimer *kt, uint64_t overruns)
{
	struct timerfd *t = container_of(kt, struct timerfd, timer);

	atomic_fetch_add(&t->ticks, overruns);
	waitq_wake(&t->waitq, POLLIN);
}

static void timerfd_release(struct file *f)
{
	struct timerfd *t = f->data;

	ktimer_cancel_sync(&t->timer);
	waitq_fini(&t->waitq);
	mutex_fini(&t->mu);
	free(t);
}

static int64_t timerfd_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct timerfd *t = f->data;
	uint64_t ticks;

	if (u->resid < sizeof(ticks))
		return -EINVAL;
	ticks = atomic_exchange(&t->ticks, 0);
	if (ticks == 0)
		return -EAGAIN;
	return uio_write(u, &ticks, sizeof(ticks)) == sizeof(ticks) ? (int64_t)sizeof(ticks) : -EFAULT;
}

static uint32_t timerfd_poll(struct file *f, uint32_t events UNUSED)
{
	struct timerfd *t = f->data;

	return atomic_load(&t->ticks) ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *timerfd_waitq(struct file *f)
{
	struct timerfd *t = f->data;

	return &t->waitq;
}

static size_t timerfd_fdinfo(struct file *f, char *buf, size_t size)
{
	struct timerfd *t = f->data;
	int64_t interval, left = ktimer_left(&t->timer, &interval);
	int n = snprintf(buf, size,
			 "clockid: %d\nticks: %llu\nsettime flags: 00\nit_value: (%lld, %lld)\n"
			 "it_interval: (%lld, %lld)\n",
			 t->clock_id, (unsigned long long)atomic_load(&t->ticks),
			 (long long)(left / NSEC_PER_SEC), (long long)(left % NSEC_PER_SEC),
			 (long long)(interval / NSEC_PER_SEC), (long long)(interval % NSEC_PER_SEC));

	return n < 0 ? 0 : MIN((size_t)n, size);
}

static const struct file_ops timerfd_ops = {
	.name = "timerfd",
	.release = timerfd_release,
	.read = timerfd_read,
	.stream = true,
	.poll = timerfd_poll,
	.waitq = timerfd_waitq,
	.fdinfo = timerfd_fdinfo,
};

bool file_is_timerfd(const struct file *f)
{
	return f->ops == &timerfd_ops;
}

void timerfd_left(struct file *f, int64_t *ret_value, int64_t *ret_interval)
{
	struct timerfd *t = f->data;

	*ret_value = ktimer_left(&t->timer, ret_interval);
}

void timerfd_set(struct file *f, bool absolute, int64_t value_ns, int64_t interval_ns,
		 int64_t *ret_value, int64_t *ret_interval)
{
	struct timerfd *t = f->data;
	int64_t expires = value_ns;
	GUARD(mutex, &t->mu);

	*ret_value = ktimer_left(&t->timer, ret_interval);
	ktimer_cancel_sync(&t->timer);
	atomic_store(&t->ticks, 0);
	if (value_ns == 0)
		return;
	if (!absolute)
		expires = time_add(clock_now(t->timer.clock_id), value_ns);
	else if (t->clock_id != t->timer.clock_id && t->timer.clock_id == CLOCK_MONOTONIC)
		/* BOOTTIME runs beside MONOTONIC at a constant distance while the host is awake. */
		expires = value_ns - (clock_now(CLOCK_BOOTTIME) - clock_mono());
	ktimer_arm(&t->timer, MAX(expires, (int64_t)1), interval_ns);
}

int timerfd_new(int clock_id, int flags, const struct cred *cred, struct file **ret_file)
{
	struct timerfd *t = calloc(1, sizeof(*t));
	bool real = clock_id == CLOCK_REALTIME || clock_id == CLOCK_REALTIME_ALARM;
	int ret;

	if (!t)
		return -ENOMEM;
	ktimer_init(&t->timer, real ? CLOCK_REALTIME : CLOCK_MONOTONIC, timerfd_fire);
	mutex_init(&t->mu, LOCK_FS_DATA);
	waitq_init(&t->waitq);
	t->clock_id = clock_id;
	ret = file_new_anon(&timerfd_ops, "anon_inode:[timerfd]", 0600, O_RDWR | (flags & O_NONBLOCK),
			    cred, t, ret_file);
	if (ret < 0) {
		waitq_fini(&t->waitq);
		mutex_fini(&t->mu);
		free(t);
	}
	return ret;
}
