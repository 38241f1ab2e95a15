/*
 * One thread that waits for host descriptors and calls back when something happens on them.
 * Edge-triggered: a callback means "look again", the state itself is asked by host_poll_fd.
 */
#ifndef PLATFORM_HOST_NOTIFIER_H
#define PLATFORM_HOST_NOTIFIER_H

#include "platform/base/compiler.h"

/* One watched descriptor; embedded in its owner. */
struct host_watch {
	int fd;	     /* const while added; the owner's */
	bool added; /* protected by the notifier's lock */
	/* events: EPOLL* bits. Runs on the notifier thread with its lock held: must not block nor take a
	 * lock under which the owner calls the functions below; waking wait queues is what it is for. */
	void (*ready)(struct host_watch *w, uint32_t events);
};

/* Starts the thread; once, at boot, before the seccomp filter. 0 or negative errno. */
NODISCARD int notifier_init(void);
/*
 * Watches w->fd for EPOLL* events (EPOLLERR and EPOLLHUP always). An event present already is
 * reported at once. Any thread. -EPERM for what epoll does not take: regular files, always ready;
 * -ENOSPC, -ENOMEM. epoll_ctl(2)
 */
NODISCARD int notifier_add(struct host_watch *w, uint32_t events);
/* Changes the events of an added watch and reports those present. 0 or negative errno. */
int notifier_modify(struct host_watch *w, uint32_t events);
/*
 * Stops watching; harmless when not added. On return the callback does not run and will not any more
 * (from the callback itself: will not any more). Call before w->fd is closed.
 */
void notifier_remove(struct host_watch *w);

/* Ready POLL* events of fd among those asked and POLLERR | POLLHUP | POLLNVAL; never waits. poll(2) */
uint32_t host_poll_fd(int fd, uint32_t events);

#endif
