#include "platform/host/notifier.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/base/mutex.h"
#include "platform/host/thread.h"

#define BATCH 32

/*
 * mu is held while callbacks run and while watches change, so a removed watch is never called: what is
 * left of it in the batch is struck out. Events are fetched under mu too, after a wait without it.
 */
static struct {
	int epoll_fd;
	struct mutex mu;
	struct epoll_event batch[BATCH]; /* mu */
	int batch_count;		 /* mu */
} notifier = { .epoll_fd = -1 };

static _Thread_local bool on_notifier;

static void lock(void)
{
	if (!on_notifier)
		mutex_lock(&notifier.mu);
}

static void unlock(void)
{
	if (!on_notifier)
		mutex_unlock(&notifier.mu);
}

static void dispatch(void)
{
	int n = epoll_wait(notifier.epoll_fd, notifier.batch, BATCH, 0);

	notifier.batch_count = n > 0 ? n : 0;
	for (int i = 0; i < notifier.batch_count; i++) {
		struct host_watch *w = notifier.batch[i].data.ptr;

		if (w)
			w->ready(w, notifier.batch[i].events);
	}
	notifier.batch_count = 0;
}

static void *notifier_main(void *arg)
{
	struct pollfd pfd = { .fd = notifier.epoll_fd, .events = POLLIN };

	(void)arg;
	for (;;) {
		if (ppoll(&pfd, 1, NULL, NULL) < 0 && errno != EINTR)
			BUG("the notifier cannot wait");
		mutex_lock(&notifier.mu);
		on_notifier = true;
		dispatch();
		on_notifier = false;
		mutex_unlock(&notifier.mu);
	}
	return NULL;
}

int notifier_init(void)
{
	BUG_ON(notifier.epoll_fd >= 0);
	notifier.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (notifier.epoll_fd < 0)
		return -errno;
	mutex_init(&notifier.mu, 0);
	return host_thread_start("notifier", HOST_THREAD_STACK, notifier_main, NULL);
}

static int control(int op, struct host_watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLET, .data.ptr = w };

	return epoll_ctl(notifier.epoll_fd, op, w->fd, &ev) < 0 ? -errno : 0;
}

int notifier_add(struct host_watch *w, uint32_t events)
{
	int err;

	lock();
	BUG_ON(w->added);
	err = control(EPOLL_CTL_ADD, w, events);
	w->added = err == 0;
	unlock();
	return err;
}

int notifier_modify(struct host_watch *w, uint32_t events)
{
	int err;

	lock();
	err = w->added ? control(EPOLL_CTL_MOD, w, events) : -ENOENT;
	unlock();
	return err;
}

void notifier_remove(struct host_watch *w)
{
	lock();
	if (w->added) {
		int err = control(EPOLL_CTL_DEL, w, 0);

		if (err < 0)
			log_warn("notifier: descriptor %d: %s", w->fd, strerror(-err));
		for (int i = 0; i < notifier.batch_count; i++) {
			if (notifier.batch[i].data.ptr == w)
				notifier.batch[i].data.ptr = NULL;
		}
		w->added = false;
	}
	unlock();
}

uint32_t host_poll_fd(int fd, uint32_t events)
{
	struct pollfd pfd = { .fd = fd, .events = (short)events };
	static const struct timespec now = { 0 };
	int n;

	do {
		n = ppoll(&pfd, 1, &now, NULL);
	} while (n < 0 && errno == EINTR);
	return n > 0 ? (uint32_t)(uint16_t)pfd.revents : 0;
}
