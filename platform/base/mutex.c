/* Ranked mutex and monotonic condition variable over pthread. */
#include "platform/base/mutex.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "platform/base/log.h"

#ifdef DEBUG_LOCKS
enum { HELD_MAX = 64 };
struct held {
	const struct mutex *mu[HELD_MAX];
	unsigned int count;
	int32_t tid;
};
static __thread struct held held; /* private to the thread */

static int32_t self_tid(void)
{
	if (!held.tid)
		held.tid = gettid();
	return held.tid;
}

/* Aborts when taking mu now could close a cycle. Ranks are compared with every mutex held. */
static void rank_check(const struct mutex *mu, bool nested)
{
	if (!mu->rank)
		return;
	for (unsigned int i = 0; i < held.count; i++) {
		uint16_t r = held.mu[i]->rank;

		BUG_ON(held.mu[i] == mu);
		if (r > mu->rank || (r == mu->rank && !nested)) {
			log_error("lock order: rank %u taken while rank %u is held", mu->rank, r);
			BUG("lock order");
		}
	}
}

static void note_locked(struct mutex *mu)
{
	BUG_ON(held.count == HELD_MAX);
	held.mu[held.count++] = mu;
	__atomic_store_n(&mu->owner, self_tid(), __ATOMIC_RELAXED);
}

static void note_unlocked(struct mutex *mu)
{
	unsigned int i = held.count;

	BUG_ON(__atomic_load_n(&mu->owner, __ATOMIC_RELAXED) != self_tid());
	while (i-- > 0 && held.mu[i] != mu)
		;
	BUG_ON(i >= held.count);
	for (held.count--; i < held.count; i++)
		held.mu[i] = held.mu[i + 1];
	__atomic_store_n(&mu->owner, 0, __ATOMIC_RELAXED);
}
#else
static inline void rank_check(const struct mutex *mu, bool nested)
{
	(void)mu, (void)nested;
}

static inline void note_locked(struct mutex *mu)
{
	(void)mu;
}

static inline void note_unlocked(struct mutex *mu)
{
	(void)mu;
}
#endif

/* Initialises mu in the caller's memory. rank 0 opts out of the order check. */
void mutex_init(struct mutex *mu, uint16_t rank)
{
	*mu = (struct mutex){ .m = PTHREAD_MUTEX_INITIALIZER, .rank = rank };
}

/* Ends the life of an unlocked mutex. */
void mutex_fini(struct mutex *mu)
{
	BUG_ON(pthread_mutex_destroy(&mu->m) != 0);
}

static void lock_any(struct mutex *mu, bool nested)
{
	rank_check(mu, nested);
	BUG_ON(pthread_mutex_lock(&mu->m) != 0);
	note_locked(mu);
}

/* Takes mu; blocks. Every rank already held by this thread must be lower. */
void mutex_lock(struct mutex *mu)
{
	lock_any(mu, false);
}

/* Like mutex_lock, but a held mutex may have the same rank. */
void mutex_lock_nested(struct mutex *mu)
{
	lock_any(mu, true);
}

/* Takes mu if that needs no wait; true when taken. No rank check: it cannot deadlock. */
bool mutex_trylock(struct mutex *mu)
{
	if (pthread_mutex_trylock(&mu->m) != 0)
		return false;
	note_locked(mu);
	return true;
}

/* Releases mu, which this thread holds. */
void mutex_unlock(struct mutex *mu)
{
	note_unlocked(mu);
	BUG_ON(pthread_mutex_unlock(&mu->m) != 0);
}

/* Debug builds: aborts unless the calling thread holds mu. */
void mutex_assert_held(const struct mutex *mu)
{
#ifdef DEBUG_LOCKS
	BUG_ON(__atomic_load_n(&mu->owner, __ATOMIC_RELAXED) != self_tid());
#else
	(void)mu;
#endif
}

/* Initialises c in the caller's memory; waits count on CLOCK_MONOTONIC. */
void cond_init(struct cond *c)
{
	pthread_condattr_t attr;

	BUG_ON(pthread_condattr_init(&attr) != 0);
	BUG_ON(pthread_condattr_setclock(&attr, CLOCK_MONOTONIC) != 0);
	BUG_ON(pthread_cond_init(&c->c, &attr) != 0);
	BUG_ON(pthread_condattr_destroy(&attr) != 0);
}

/* Ends the life of a condition that nobody waits on. */
void cond_fini(struct cond *c)
{
	BUG_ON(pthread_cond_destroy(&c->c) != 0);
}

/*
 * Waits for a signal until deadline_ns of CLOCK_MONOTONIC (INT64_MAX: no end). mu is held on entry
 * and on return. 0 (also on spurious wake-ups) or -ETIMEDOUT.
 */
int cond_wait_until(struct cond *c, struct mutex *mu, int64_t deadline_ns)
{
	int err;

	note_unlocked(mu);
	if (deadline_ns == INT64_MAX) {
		err = pthread_cond_wait(&c->c, &mu->m);
	} else {
		int64_t t = deadline_ns > 0 ? deadline_ns : 0;
		struct timespec ts = { t / 1000000000, t % 1000000000 };

		err = pthread_cond_timedwait(&c->c, &mu->m, &ts);
	}
	note_locked(mu);
	BUG_ON(err != 0 && err != ETIMEDOUT);
	return -err;
}

/* Wakes one waiter. Any context. */
void cond_signal(struct cond *c)
{
	BUG_ON(pthread_cond_signal(&c->c) != 0);
}

/* Wakes all waiters. Any context. */
void cond_broadcast(struct cond *c)
{
	BUG_ON(pthread_cond_broadcast(&c->c) != 0);
}
