/* Kernel timers: a tree ordered by expiry on the monotonic clock and one thread that fires them. */
#include <errno.h>
#include <stdatomic.h>

#include "platform/base/mutex.h"
#include "platform/host/clock.h"
#include "platform/host/thread.h"
#include "sentry/core/lockrank.h"
#include "sentry/time/clock.h"
#include "sentry/time/time_priv.h"

static struct {
	struct mutex mu; /* LOCK_TIMER: the tree and every ktimer's state */
	struct cond changed; /* the first expiry moved forward, or a callback ended */
	struct rb_tree tree;
} timers;

static int64_t to_mono(const struct ktimer *kt)
{
	if (kt->clock_id == CLOCK_MONOTONIC || kt->expires_ns == TIME_FOREVER)
		return kt->expires_ns;
	return time_add(kt->expires_ns, clock_mono() - clock_now(kt->clock_id));
}

/* A guest may ask for a period of 1 ns; it is served this often, with the overruns counted. */
#define PERIOD_MIN_NS 50000

/* earliest: not to fire before, on the monotonic clock. */
static void insert_locked(struct ktimer *kt, int64_t earliest)
{
	struct rb_node **link = &timers.tree.root, *parent = NULL;

	kt->mono_ns = MAX(to_mono(kt), earliest);
	while (*link) {
		parent = *link;
		link = kt->mono_ns < rb_entry(parent, struct ktimer, node)->mono_ns ? &parent->left :
											  &parent->right;
	}
	rb_insert(&timers.tree, parent, link, &kt->node);
	kt->armed = true;
	if (rb_first(&timers.tree) == &kt->node)
		cond_broadcast(&timers.changed);
}

static void erase_locked(struct ktimer *kt)
{
	rb_erase(&timers.tree, &kt->node);
	kt->armed = false;
}

void ktimer_init(struct ktimer *kt, int clock_id, void (*fire)(struct ktimer *, uint64_t))
{
	*kt = (struct ktimer){ .clock_id = clock_id, .fire = fire };
}

void ktimer_arm(struct ktimer *kt, int64_t expires_ns, int64_t interval_ns)
{
	GUARD(mutex, &timers.mu);
	if (kt->armed)
		erase_locked(kt);
	kt->expires_ns = expires_ns;
	kt->interval_ns = interval_ns;
	insert_locked(kt, INT64_MIN);
}

bool ktimer_cancel(struct ktimer *kt)
{
	bool was;

	GUARD(mutex, &timers.mu);
	was = kt->armed;
	if (was)
		erase_locked(kt);
	return was;
}

void ktimer_cancel_sync(struct ktimer *kt)
{
	GUARD(mutex, &timers.mu);
	if (kt->armed)
		erase_locked(kt);
	while (kt->running)
		(void)cond_wait_until(&timers.changed, &timers.mu, INT64_MAX);
	/* The callback may have armed the timer again. */
	if (kt->armed)
		erase_locked(kt);
}

int64_t ktimer_left(struct ktimer *kt, int64_t *ret_interval_ns)
{
	int64_t left = 0;

	GUARD(mutex, &timers.mu);
	if (ret_interval_ns)
		*ret_interval_ns = kt->armed || kt->running ? kt->interval_ns : 0;
	if (kt->armed)
		left = MAX(kt->mono_ns - clock_mono(), (int64_t)1);
	return left;
}

void ktimer_realtime_changed(void)
{
	struct rb_tree old;
	struct rb_node *n;

	GUARD(mutex, &timers.mu);
	old = timers.tree;
	timers.tree.root = NULL;
	while ((n = rb_first(&old))) {
		struct ktimer *kt = rb_entry(n, struct ktimer, node);

		rb_erase(&old, n);
		insert_locked(kt, INT64_MIN);
	}
	cond_broadcast(&timers.changed);
}

/* Fires the first timer; the lock is dropped around the callback. */
static void fire_locked(struct ktimer *kt, int64_t now)
{
	uint64_t overruns = 1;

	erase_locked(kt);
	if (kt->interval_ns > 0) {
		int64_t late = MAX(now - to_mono(kt), (int64_t)0);

		overruns += (uint64_t)(late / kt->interval_ns);
		kt->expires_ns = time_add(kt->expires_ns, (int64_t)overruns * kt->interval_ns);
		insert_locked(kt, time_add(now, PERIOD_MIN_NS));
	}
	kt->running = true;
	mutex_unlock(&timers.mu);
	kt->fire(kt, overruns);
	mutex_lock(&timers.mu);
	kt->running = false;
	cond_broadcast(&timers.changed);
}

static void *timer_thread(void *arg)
{
	(void)arg;
	mutex_lock(&timers.mu);
	for (;;) {
		struct rb_node *first = rb_first(&timers.tree);
		struct ktimer *kt = first ? rb_entry(first, struct ktimer, node) : NULL;
		int64_t now = clock_mono();

		if (kt && kt->mono_ns <= now)
			fire_locked(kt, now);
		else
			(void)cond_wait_until(&timers.changed, &timers.mu,
					      kt ? time_add(host_monotonic_ns(), kt->mono_ns - now) :
						   INT64_MAX);
	}
	return NULL;
}

int ktimer_start_thread(void)
{
	mutex_init(&timers.mu, LOCK_TIMER);
	cond_init(&timers.changed);
	return host_thread_start("timer", HOST_THREAD_STACK, timer_thread, NULL);
}
