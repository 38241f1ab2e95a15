/* Pausing the tasks of a container. */
#include "platform/host/futex.h"
#include "sentry/kernel/container_priv.h"
#include "sentry/kernel/process.h"

/* Something of a task at the gate has changed: bumped and waited on by whoever pauses. */
static _Atomic uint32_t parked_event;

bool container_paused(struct container *c)
{
	return c && c->paused;
}

void pause_gate(struct task *t)
{
	struct container *c = t->tg->container;

	if (likely(!container_paused(c)) || t->killed)
		return;
	t->parked = true;
	parked_event++;
	host_futex_wake(&parked_event, INT32_MAX);
	while (c->paused)
		host_futex_wait(&c->paused, 1, INT64_MAX);
	t->parked = false;
}

/* True when no task of c runs guest code or a handler; interrupts those that do. */
static bool all_parked(struct container *c)
{
	struct task *t;
	bool all = true;

	GUARD(mutex, &taskset_mu);
	list_for_each(t, &all_tasks, all_node) {
		if (t->tg->container != c || t->parked || t->exited)
			continue;
		task_interrupt(t);
		all = false;
	}
	return all;
}

int container_pause(struct container *c, int64_t deadline_ns)
{
	c->paused = 1;
	for (;;) {
		uint32_t event = parked_event;

		if (all_parked(c))
			return 0;
		if (clock_mono() >= deadline_ns) {
			container_resume(c);
			return -ETIMEDOUT;
		}
		/* Looks again now and then: a task born meanwhile has not announced itself. */
		host_futex_wait(&parked_event, event, MIN(deadline_ns, clock_mono() + 20000000));
	}
}

void container_resume(struct container *c)
{
	c->paused = 0;
	host_futex_wake(&c->paused, INT32_MAX);
}
