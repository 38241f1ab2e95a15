/*
 * The one place where a task sleeps. Files and objects never block: they return -EAGAIN and wake a
 * wait queue; system calls loop "try, register, try again, sleep" with these functions.
 */
#ifndef SENTRY_KERNEL_BLOCK_H
#define SENTRY_KERNEL_BLOCK_H

#include "sentry/core/waitq.h"
#include "sentry/time/clock.h"

struct task;
struct file;

/* A waiter of the calling task: any number may be registered at once (poll). */
struct waiter {
	struct waitq_entry entry; /* first member */
	struct task *task;
};

/* Prepares w for events; then waitq_add(q, &w->entry) or file_wait_add(f, &w->entry). */
void waiter_init(struct waiter *w, struct task *t, uint32_t events);
/* Sleeps until a registered waiter of the task was woken since the last return (spurious returns of 0
 * happen: look again and call again), or:
 *   -ETIMEDOUT    deadline_ns (CLOCK_MONOTONIC, TIME_FOREVER: none) has passed
 *   -ERESTARTSYS  a signal, stop or kill is to be handled (callers may turn it into another restart code)
 * what is static text for debugging ("futex", "pipe read"). No locks held. */
NODISCARD int task_block(struct task *t, int64_t deadline_ns, const char *what);
/* Like task_block but not ended by signals, only by kill of the whole process (-ERESTARTSYS). */
NODISCARD int task_block_killable(struct task *t, int64_t deadline_ns, const char *what);
/* Wakes t out of task_block (any thread); used by waiters and by the signal code. */
void task_wake(struct task *t);

/* Runs `expr` (an int64_t expression that gives -EAGAIN when it would block) until it gives something
 * else, sleeping on file f for events. Evaluates to the last value or the reason the sleep ended.
 * Not for O_NONBLOCK files: check first. */
#define file_block(t, f, ev, deadline_ns, what, expr)                                              \
	({                                                                                         \
		int64_t fb_ret_ = (expr);                                                          \
		if (fb_ret_ == -EAGAIN) {                                                          \
			struct waiter fb_w_;                                                       \
			waiter_init(&fb_w_, (t), (ev));                                            \
			fb_ret_ = file_wait_add((f), &fb_w_.entry);                                \
			if (fb_ret_ == 0) {                                                        \
				for (;;) {                                                         \
					fb_ret_ = (expr);                                          \
					if (fb_ret_ != -EAGAIN)                                    \
						break;                                             \
					fb_ret_ = task_block((t), (deadline_ns), (what));          \
					if (fb_ret_ < 0)                                           \
						break;                                             \
				}                                                                  \
				waitq_remove(&fb_w_.entry);                                        \
			}                                                                          \
		}                                                                                  \
		fb_ret_;                                                                           \
	})
/* The same on a bare wait queue. */
#define waitq_block(t, q, ev, deadline_ns, what, expr)                                             \
	({                                                                                         \
		int64_t wb_ret_ = (expr);                                                          \
		if (wb_ret_ == -EAGAIN) {                                                          \
			struct waiter wb_w_;                                                       \
			waiter_init(&wb_w_, (t), (ev));                                            \
			waitq_add((q), &wb_w_.entry);                                              \
			for (;;) {                                                                 \
				wb_ret_ = (expr);                                                  \
				if (wb_ret_ != -EAGAIN)                                            \
					break;                                                     \
				wb_ret_ = task_block((t), (deadline_ns), (what));                  \
				if (wb_ret_ < 0)                                                   \
					break;                                                     \
			}                                                                          \
			waitq_remove(&wb_w_.entry);                                                \
		}                                                                                  \
		wb_ret_;                                                                           \
	})

#endif
