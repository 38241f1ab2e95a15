/*
 * The one place where a task sleeps. The wake token has three values; a wake between the caller's
 * last look at its condition and the sleep leaves TOKEN_WOKEN behind, so it cannot be lost.
 */
#include "platform/host/futex.h"
#include "sentry/kernel/kernel_priv.h"

enum { TOKEN_IDLE, TOKEN_WOKEN, TOKEN_SLEEPING };

void task_wake(struct task *t)
{
	if (atomic_exchange(&t->wake_token, TOKEN_WOKEN) == TOKEN_SLEEPING)
		host_futex_wake(&t->wake_token, 1);
}

static void waiter_wake(struct waitq_entry *e, uint32_t events)
{
	(void)events;
	task_wake(container_of(e, struct waiter, entry)->task);
}

void waiter_init(struct waiter *w, struct task *t, uint32_t events)
{
	*w = (struct waiter){ .entry = { .events = events, .wake = waiter_wake }, .task = t };
	list_init(&w->entry.node);
}

/* Must the sleep end for something other than its condition? Clears a stale interrupt flag. */
static bool sleep_interrupted(struct task *t, bool killable_only)
{
	if (!t->interrupt)
		return false;
	pause_gate(t);
	if (t->killed)
		return true;
	if (killable_only)
		return false;
	GUARD(mutex, &taskset_mu);
	if (signal_wanted_locked(t))
		return true;
	t->interrupt = container_paused(t->tg->container);
	return false;
}

static int block(struct task *t, int64_t deadline_ns, const char *what, bool killable_only)
{
	int ret = 0;

	for (;;) {
		uint32_t token = TOKEN_IDLE;

		if (atomic_exchange(&t->wake_token, TOKEN_IDLE) == TOKEN_WOKEN)
			break; /* the condition is looked at before a signal: data that came counts */
		if (sleep_interrupted(t, killable_only)) {
			ret = -ERESTARTSYS;
			break;
		}
		if (!t->wait_what) {
			task_account_system(t);
			t->switch_ns = 0;
			t->wait_since_ns = clock_mono();
			t->nvcsw++;
			t->wait_what = what;
			if (t->ctx->ops->will_sleep)
				t->ctx->ops->will_sleep(t->ctx);
		}
		if (atomic_compare_exchange_strong(&t->wake_token, &token, TOKEN_SLEEPING))
			ret = host_futex_wait(&t->wake_token, TOKEN_SLEEPING, deadline_ns);
		if (atomic_exchange(&t->wake_token, TOKEN_IDLE) == TOKEN_WOKEN) {
			ret = 0;
			break;
		}
		if (ret == -ETIMEDOUT)
			break;
	}
	if (t->wait_what) {
		t->wait_what = NULL;
		t->wait_since_ns = 0;
		t->switch_ns = clock_mono();
	}
	return ret;
}

int task_block(struct task *t, int64_t deadline_ns, const char *what)
{
	return block(t, deadline_ns, what, false);
}

int task_block_killable(struct task *t, int64_t deadline_ns, const char *what)
{
	return block(t, deadline_ns, what, true);
}

/* Is t asleep with nothing on its way to wake it? Any thread; the answer may be old. */
bool task_sleeping(const struct task *t)
{
	return t->wait_what && atomic_load(&t->wake_token) == TOKEN_SLEEPING;
}

/* Sleeps until woken or the deadline, whatever signals say: for a task that is ending. */
void task_sleep_exiting(struct task *t, int64_t deadline_ns, const char *what)
{
	uint32_t token = TOKEN_IDLE;

	t->wait_what = what;
	if (atomic_compare_exchange_strong(&t->wake_token, &token, TOKEN_SLEEPING))
		(void)host_futex_wait(&t->wake_token, TOKEN_SLEEPING, deadline_ns);
	atomic_store(&t->wake_token, TOKEN_IDLE);
	t->wait_what = NULL;
}
