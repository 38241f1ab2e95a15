/*
 * Wait queues: the only way anything in the sentry waits for anything. An object that can become
 * ready owns a waitq; a waiter registers an entry with the events it wants and is called back.
 * Nothing blocks here: tasks sleep only in sentry/kernel/block.c.
 */
#ifndef SENTRY_CORE_WAITQ_H
#define SENTRY_CORE_WAITQ_H

#include "platform/base/list.h"
#include "platform/base/mutex.h"

/* Event bits are poll(2)'s: POLLIN, POLLOUT, POLLERR, POLLHUP, POLLPRI, POLLRDHUP. */
struct waitq_entry {
	struct list_node node;
	struct waitq *q; /* NULL when not registered */
	uint32_t events; /* woken when (events of the wake & this) != 0 */
	bool exclusive;	 /* at most one exclusive entry is woken a wake */
	bool declined;	 /* set by the wake of an exclusive entry that woke nobody: the next one is tried */
	/* Called with the queue's lock held: must not block, take objects' locks or touch the queue. It may
	 * wake another queue (epoll in epoll): those nest without cycles, so waitq_wake locks with
	 * mutex_lock_nested. */
	void (*wake)(struct waitq_entry *e, uint32_t events);
};

struct waitq {
	struct mutex mu; /* LOCK_WAITQ */
	struct list_node entries;
	_Atomic uint32_t count; /* entries, so that a wake without waiters costs one load */
};

void waitq_init(struct waitq *q);
void waitq_fini(struct waitq *q);
/* Registers e at the end; e->events and e->wake are set by the caller. */
void waitq_add(struct waitq *q, struct waitq_entry *e);
/* Unregisters e if registered; on return wake is not running. */
void waitq_remove(struct waitq_entry *e);
/* Wakes every (first exclusive) entry interested in events. Callable with any object's lock held. */
void waitq_wake(struct waitq *q, uint32_t events);

#endif
