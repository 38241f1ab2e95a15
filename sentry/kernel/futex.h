/*
 * Futexes (futex(2), futex(7)): wait queues keyed by the physical identity of a guest word.
 *
 * Context of all: the task thread, no locks held. A bucket's lock (LOCK_FUTEX) is held while the word
 * is read, so that no wake is lost between the comparison and the sleep.
 */
#ifndef SENTRY_KERNEL_FUTEX_H
#define SENTRY_KERNEL_FUTEX_H

#include "sentry/core/uaddr.h"
#include "sentry/kernel/task.h"

#define FUTEX_BITSET_ALL UINT32_MAX
#define FUTEX_WAITV_LIMIT 128

struct futex_wait_one {
	uaddr_t addr;
	uint32_t val;
	bool shared;
};

int futex_init(void);
/* Sleeps while *addr == val. 0, -EAGAIN, -ETIMEDOUT, -EFAULT, -EINVAL, -ERESTARTSYS. deadline_ns is on
 * CLOCK_MONOTONIC. */
int64_t futex_wait(struct task *t, uaddr_t addr, bool shared, uint32_t val, uint32_t bitset,
		   int64_t deadline_ns);
/* futex_waitv(2): index of a woken one. */
int64_t futex_wait_many(struct task *t, const struct futex_wait_one *w, unsigned count, int64_t deadline_ns);
/* Wakes up to count waiters whose bitset meets ours; returns how many. */
int64_t futex_wake(struct task *t, uaddr_t addr, bool shared, int32_t count, uint32_t bitset);
/* Wakes up to wake_count at addr and moves up to requeue_count to addr2; cmp: only if *addr == *cmp, else
 * -EAGAIN. Returns woken plus moved. */
int64_t futex_requeue(struct task *t, uaddr_t addr, uaddr_t addr2, bool shared, int32_t wake_count,
		      int32_t requeue_count, const uint32_t *cmp);
int64_t futex_wake_op(struct task *t, uaddr_t addr, uaddr_t addr2, bool shared, int32_t count,
		      int32_t count2, uint32_t op);
/* Priority-inheritance locks; the word holds the owner's tid. No priorities are inherited: waiters are
 * served in order. */
int64_t futex_lock_pi(struct task *t, uaddr_t addr, bool shared, int64_t deadline_ns, bool try_only);
int64_t futex_unlock_pi(struct task *t, uaddr_t addr, bool shared);

#endif
