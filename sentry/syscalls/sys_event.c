/* eventfd(2), timerfd_create(2), signalfd(2), epoll(7). */
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#include "sentry/fs/epoll/epoll.h"
#include "sentry/fs/eventfd/eventfd.h"
#include "sentry/fs/signalfd/signalfd.h"
#include "sentry/fs/timerfd/timerfd.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/wait_args.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_WAKE_ALARM_NR 35

/* Installs a new file and drops the caller's reference. */
static int64_t install(struct task *t, struct file *f, bool cloexec)
{
	int fd = task_fd_install(t, f, cloexec);

	file_put(f);
	return fd;
}

int64_t sys_eventfd2(struct task *t, uint32_t count, uint32_t flags)
{
	struct file *f;
	int ret;

	if (flags & ~(uint32_t)(EFD_SEMAPHORE | EFD_CLOEXEC | EFD_NONBLOCK))
		return -EINVAL;
	ret = eventfd_new(count, (int)flags, t->cred, &f);
	return ret < 0 ? ret : install(t, f, flags & EFD_CLOEXEC);
}

int64_t sys_eventfd(struct task *t, uint32_t count)
{
	return sys_eventfd2(t, count, 0);
}

int64_t sys_timerfd_create(struct task *t, int32_t clockid, uint32_t flags)
{
	struct file *f;
	int ret;

	if (flags & ~(uint32_t)(TFD_CLOEXEC | TFD_NONBLOCK))
		return -EINVAL;
	switch (clockid) {
	case CLOCK_REALTIME:
	case CLOCK_MONOTONIC:
	case CLOCK_BOOTTIME:
		break;
	case CLOCK_REALTIME_ALARM:
	case CLOCK_BOOTTIME_ALARM:
		if (!task_capable(t, CAP_WAKE_ALARM_NR))
			return -EPERM;
		break;
	default:
		return -EINVAL;
	}
	ret = timerfd_new(clockid, (int)flags, t->cred, &f);
	return ret < 0 ? ret : install(t, f, flags & TFD_CLOEXEC);
}

/* The timerfd at fd: -EBADF, -EINVAL when it is another kind of file. */
static int timerfd_at(struct task *t, int fd, struct file **ret_file)
{
	struct file *f = task_fd_io(t, fd);

	if (!f)
		return -EBADF;
	if (!file_is_timerfd(f)) {
		file_put(f);
		return -EINVAL;
	}
	*ret_file = f;
	return 0;
}

static int itimerspec_out(struct task *t, uaddr_t addr, int64_t value, int64_t interval)
{
	struct itimerspec its = { ns_to_timespec(interval), ns_to_timespec(value) };

	return copy_out_struct(task_umem(t), addr, &its);
}

int64_t sys_timerfd_settime(struct task *t, int32_t fd, uint32_t flags, uaddr_t utmr, uaddr_t otmr)
{
	AUTO(file_put) struct file *f = NULL;
	struct itimerspec its;
	int64_t value, interval, old_value, old_interval;
	int ret;

	if (copy_in_struct(task_umem(t), &its, utmr) < 0)
		return -EFAULT;
	if ((flags & ~(uint32_t)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET)) || its.it_value.tv_sec < 0 ||
	    its.it_interval.tv_sec < 0 || !timespec_to_ns(&its.it_value, &value) ||
	    !timespec_to_ns(&its.it_interval, &interval))
		return -EINVAL;
	ret = timerfd_at(t, fd, &f);
	if (ret < 0)
		return ret;
	timerfd_set(f, flags & TFD_TIMER_ABSTIME, value, interval, &old_value, &old_interval);
	return otmr.v ? itimerspec_out(t, otmr, old_value, old_interval) : 0;
}

int64_t sys_timerfd_gettime(struct task *t, int32_t fd, uaddr_t otmr)
{
	AUTO(file_put) struct file *f = NULL;
	int64_t value, interval;
	int ret = timerfd_at(t, fd, &f);

	if (ret < 0)
		return ret;
	timerfd_left(f, &value, &interval);
	return itimerspec_out(t, otmr, value, interval);
}

int64_t sys_signalfd4(struct task *t, int32_t fd, uaddr_t user_mask, uint64_t sizemask, uint32_t flags)
{
	sigset_kernel mask;
	struct file *f;
	int ret;

	if ((flags & ~(uint32_t)(SFD_CLOEXEC | SFD_NONBLOCK)) || sizemask != sizeof(mask))
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &mask, user_mask) < 0)
		return -EFAULT;
	if (fd == -1) {
		ret = signalfd_new(mask, (int)flags, t->cred, &f);
		return ret < 0 ? ret : install(t, f, flags & SFD_CLOEXEC);
	}
	f = task_fd_io(t, fd);
	if (!f)
		return -EBADF;
	ret = file_is_signalfd(f) ? fd : -EINVAL;
	if (ret >= 0)
		signalfd_set_mask(f, mask);
	file_put(f);
	return ret;
}

int64_t sys_signalfd(struct task *t, int32_t fd, uaddr_t user_mask, uint64_t sizemask)
{
	return sys_signalfd4(t, fd, user_mask, sizemask, 0);
}

int64_t sys_epoll_create1(struct task *t, uint32_t flags)
{
	struct file *f;
	int ret;

	if (flags & ~(uint32_t)EPOLL_CLOEXEC)
		return -EINVAL;
	ret = epoll_new(t->cred, &f);
	return ret < 0 ? ret : install(t, f, flags & EPOLL_CLOEXEC);
}

int64_t sys_epoll_create(struct task *t, int32_t size)
{
	return size <= 0 ? -EINVAL : sys_epoll_create1(t, 0);
}

int64_t sys_epoll_ctl(struct task *t, int32_t epfd, int32_t op, int32_t fd, uaddr_t event)
{
	AUTO(file_put) struct file *ep = NULL, *target = NULL;
	struct epoll_event ev = { 0 };

	if (op != EPOLL_CTL_DEL && copy_in_struct(task_umem(t), &ev, event) < 0)
		return -EFAULT;
	ep = task_fd_io(t, epfd);
	if (!ep)
		return -EBADF;
	target = task_fd_io(t, fd);
	if (!target)
		return -EBADF;
	/* Before the check of the instance: a regular file cannot be watched by anything. */
	if (!target->ops->poll)
		return -EPERM;
	return epoll_ctl_file(ep, op, target, fd, &ev);
}

#define EPOLL_BATCH 128
#define EPOLL_MAX_EVENTS ((int)(INT32_MAX / sizeof(struct epoll_event)))

/* Copies what is ready out, in batches; events copied or -EFAULT. */
static int64_t epoll_copy_ready(struct task *t, struct file *f, uaddr_t events, int max)
{
	struct epoll_event ev[EPOLL_BATCH];
	int done = 0, n, batch;

	do {
		batch = MIN(max - done, EPOLL_BATCH);
		n = epoll_harvest(f, ev, batch, done == 0);
		if (n > 0 && copy_out(task_umem(t), uaddr_add(events, (uint64_t)done * sizeof(*ev)), ev,
				      (size_t)n * sizeof(*ev)) < 0)
			return done ? done : -EFAULT;
		done += n;
	} while (n == batch && done < max);
	return done;
}

static int64_t epoll_wait_file(struct task *t, struct file *f, uaddr_t events, int max, int64_t deadline)
{
	struct waiter w;
	int64_t ret = epoll_copy_ready(t, f, events, max);

	if (ret != 0 || deadline == 0)
		return ret;
	waiter_init(&w, t, POLLIN);
	w.entry.exclusive = true;
	ret = file_wait_add(f, &w.entry);
	if (ret < 0)
		return ret;
	while ((ret = epoll_copy_ready(t, f, events, max)) == 0) {
		ret = task_block(t, deadline, "epoll_wait");
		if (ret < 0)
			break;
	}
	waitq_remove(&w.entry);
	if (ret == -ETIMEDOUT)
		ret = epoll_copy_ready(t, f, events, max);
	/* Our exclusive wake-up may have been meant for more than we took. */
	epoll_pass_on(f);
	return ret;
}

static int64_t do_epoll_wait(struct task *t, int32_t epfd, uaddr_t events, int32_t max, int64_t deadline,
			     uaddr_t sigmask, uint64_t sigsetsize)
{
	AUTO(file_put) struct file *f = NULL;
	int64_t ret = sigmask_enter(t, sigmask, sigsetsize);

	if (ret < 0)
		return ret;
	if (max <= 0 || max > EPOLL_MAX_EVENTS)
		ret = -EINVAL;
	else if (!(f = task_fd_io(t, epfd)))
		ret = -EBADF;
	else if (!file_is_epoll(f))
		ret = -EINVAL;
	else
		ret = epoll_wait_file(t, f, events, max, deadline);
	sigmask_leave(t, ret == -ERESTARTSYS);
	return ret == -ERESTARTSYS ? -EINTR : ret;
}

int64_t sys_epoll_wait(struct task *t, int32_t epfd, uaddr_t events, int32_t max, int32_t timeout)
{
	return do_epoll_wait(t, epfd, events, max, deadline_from_ms(timeout), UADDR_NULL, 0);
}

int64_t sys_epoll_pwait(struct task *t, int32_t epfd, uaddr_t events, int32_t max, int32_t timeout,
			uaddr_t sigmask, uint64_t sigsetsize)
{
	return do_epoll_wait(t, epfd, events, max, deadline_from_ms(timeout), sigmask, sigsetsize);
}

int64_t sys_epoll_pwait2(struct task *t, int32_t epfd, uaddr_t events, int32_t max, uaddr_t timeout,
			 uaddr_t sigmask, uint64_t sigsetsize)
{
	int64_t deadline;
	int ret = deadline_from_timespec(t, timeout, &deadline);

	return ret < 0 ? ret : do_epoll_wait(t, epfd, events, max, deadline, sigmask, sigsetsize);
}
