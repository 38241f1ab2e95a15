/*
 * Mutex with a rank. In debug builds (-DDEBUG_LOCKS) a thread may only take a mutex whose rank is
 * higher than every rank it holds; equal ranks need mutex_lock_nested. Ranks are declared by the user
 * (the sentry's in sentry/core/lockrank.def); rank 0 is unchecked.
 */
#ifndef PLATFORM_BASE_MUTEX_H
#define PLATFORM_BASE_MUTEX_H

#include <pthread.h>

#include "platform/base/compiler.h"

struct mutex {
	pthread_mutex_t m;
	uint16_t rank;
	int32_t owner; /* tid of the holder, debug builds only */
};

struct cond {
	pthread_cond_t c;
};

void mutex_init(struct mutex *mu, uint16_t rank);
void mutex_fini(struct mutex *mu);
void mutex_lock(struct mutex *mu);
/* Second mutex of a rank already held; the caller orders the two by address or by tree depth. */
void mutex_lock_nested(struct mutex *mu);
NODISCARD bool mutex_trylock(struct mutex *mu);
void mutex_unlock(struct mutex *mu);
/* Debug builds: aborts unless the calling thread holds mu. */
void mutex_assert_held(const struct mutex *mu);

/* Condition variable over CLOCK_MONOTONIC; deadline_ns of INT64_MAX waits for ever. */
void cond_init(struct cond *c);
void cond_fini(struct cond *c);
/* Returns 0 or -ETIMEDOUT; mu is held on return. */
int cond_wait_until(struct cond *c, struct mutex *mu, int64_t deadline_ns);
void cond_signal(struct cond *c);
void cond_broadcast(struct cond *c);

static inline struct mutex *mutex_guard_enter_(struct mutex *mu)
{
	mutex_lock(mu);
	return mu;
}

static inline void mutex_guard_exit_(struct mutex **mu)
{
	mutex_unlock(*mu);
}

#endif
