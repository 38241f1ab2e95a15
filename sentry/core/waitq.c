#include "sentry/core/waitq.h"

#include <stdatomic.h>

#include "sentry/core/lockrank.h"

void waitq_init(struct waitq *q)
{
	mutex_init(&q->mu, LOCK_WAITQ);
	list_init(&q->entries);
	atomic_init(&q->count, 0);
}

void waitq_fini(struct waitq *q)
{
	BUG_ON(!list_empty(&q->entries));
	mutex_fini(&q->mu);
}

void waitq_add(struct waitq *q, struct waitq_entry *e)
{
	GUARD(mutex, &q->mu);
	e->q = q;
	list_add_tail(&q->entries, &e->node);
	/* Pairs with the fence in waitq_wake: either the waker sees this entry, or the waiter, who looks
	 * at the object after this, sees the change. */
	atomic_fetch_add(&q->count, 1);
}

void waitq_remove(struct waitq_entry *e)
{
	struct waitq *q = e->q;

	if (!q)
		return;
	GUARD(mutex, &q->mu);
	list_del(&e->node);
	e->q = NULL;
	atomic_fetch_sub(&q->count, 1);
}

void waitq_wake(struct waitq *q, uint32_t events)
{
	struct waitq_entry *e, *tmp;
	bool exclusive_done = false;

	atomic_thread_fence(memory_order_seq_cst);
	if (atomic_load_explicit(&q->count, memory_order_relaxed) == 0)
		return;
	/* A wake callback may wake another queue (epoll in epoll, signalfd); they form no cycle. */
	mutex_lock_nested(&q->mu);
	list_for_each_safe(e, tmp, &q->entries, node) {
		if (!(e->events & events) || (e->exclusive && exclusive_done))
			continue;
		e->declined = false;
		e->wake(e, events);
		exclusive_done |= e->exclusive && !e->declined;
	}
	mutex_unlock(&q->mu);
}
