/*
 * Cpu quota of a container that shares its sandbox with others (the host's cgroup holds the sandbox as a whole). In each
 * period its tasks may use so much time; then those in guest code are called out, and all wait until a
 * period begins that has time left. What was used too much is taken from the next periods. Nothing
 * runs while the container is idle: a period begins when a task goes to guest code. Analogue: cfs bandwidth control.
 */
#include "sentry/kernel/kernel_priv.h"
#include "sentry/state/desc.h"

enum { QUOTA_IDLE, QUOTA_RUNNING, QUOTA_THROTTLED };

/* Between two looks at what was used: not more often, and not so late that a period's quota is missed by much. */
#define LOOK_MIN_NS 500000ll
#define LOOK_MAX_NS 10000000ll
/* What was used too much is forgotten beyond what so much time pays for: tasks that wait for a processor of a busy host count as
 * running, and many of them would be held up for minutes. */
#define DEBT_MAX_NS 1000000000ll
/* At most one part in so many of the time is spent on looking. */
#define LOOK_COST_PARTS 20

_Atomic uint32_t cpu_quotas; /* groups whose quota is kept by us */
static struct ktimer timer;   /* armed while a period of some group runs; under taskset_mu */

static int64_t quota_ns(const struct cgroup *cg)
{
	return atomic_load(&cg->cpu.quota_us) * 1000;
}

static int64_t period_ns(const struct cgroup *cg)
{
	return (int64_t)atomic_load(&cg->cpu.period_us) * 1000;
}

static int64_t used_locked(struct cgroup *cg)
{
	int64_t user, sys;

	cgroup_cpu_times_locked(cg, &user, &sys);
	return user + sys;
}

/* Calls every task of the group: out of guest code, or out of its wait. taskset_mu. */
static void call_tasks(struct cgroup *cg, void (*call)(struct task *t))
{
	struct task *t;

	list_for_each(t, &all_tasks, all_node)
		if (!t->exited && task_cgroup(t) == cg)
			call(t);
}

static void begin_period_locked(struct cgroup *cg, int64_t now)
{
	cg->cpu.period_start_ns = now;
	cg->cpu.base_ns = used_locked(cg);
}

static void release_locked(struct cgroup *cg, int64_t now)
{
	if (atomic_exchange(&cg->cpu.state, QUOTA_RUNNING) != QUOTA_THROTTLED)
		return;
	cg->cpu.throttled_ns += now - cg->cpu.throttle_start_ns;
	call_tasks(cg, task_wake);
}

/* The period is over: the next one begins with what is left of the debt. Returns false when nobody ran. */
static bool next_period_locked(struct cgroup *cg, int64_t now)
{
	int64_t used = used_locked(cg) - cg->cpu.base_ns, quota = quota_ns(cg);

	if (used == 0 && cg->cpu.debt_ns == 0)
		return false;
	cg->cpu.periods++;
	cg->cpu.debt_ns = MAX(cg->cpu.debt_ns + used - quota, (int64_t)0);
	cg->cpu.debt_ns = MIN(cg->cpu.debt_ns, quota * MAX(DEBT_MAX_NS / period_ns(cg), (int64_t)1));
	begin_period_locked(cg, now);
	if (cg->cpu.debt_ns < quota)
		release_locked(cg, now);
	else if (cg->cpu.state == QUOTA_THROTTLED)
		cg->cpu.throttled_periods++;
	return true;
}

/* Nobody ran for a period: the next task begins one. False: one has come through the gate meanwhile. */
static bool rest_locked(struct cgroup *cg, int64_t now)
{
	uint32_t idle = QUOTA_IDLE;

	cg->cpu.state = QUOTA_IDLE;
	if (used_locked(cg) == cg->cpu.base_ns || !atomic_compare_exchange_strong(&cg->cpu.state, &idle, QUOTA_RUNNING))
		return true;
	begin_period_locked(cg, now);
	return false;
}

/* Looks at a group whose period runs; returns when to look again, TIME_FOREVER: not at all. taskset_mu. */
static int64_t look_at(struct cgroup *cg, int64_t now)
{
	int64_t end, left, look;

	if (cg->cpu.state == QUOTA_IDLE)
		return TIME_FOREVER;
	if (!cg->cpu.enforced) {
		release_locked(cg, now);
		cg->cpu.state = QUOTA_IDLE;
		return TIME_FOREVER;
	}
	end = cg->cpu.period_start_ns + period_ns(cg);
	if (now >= end) {
		if (!next_period_locked(cg, now) && rest_locked(cg, now))
			return TIME_FOREVER;
		end = now + period_ns(cg);
	}
	left = quota_ns(cg) - cg->cpu.debt_ns - (used_locked(cg) - cg->cpu.base_ns);
	if (left <= 0 && cg->cpu.state == QUOTA_RUNNING) {
		cg->cpu.throttle_start_ns = now;
		cg->cpu.throttled_periods++;
		cg->cpu.state = QUOTA_THROTTLED;
		call_tasks(cg, task_interrupt);
	}
	look = MAX(left / kernel_cpu_count(), LOOK_MIN_NS);
	look = MIN(look, LOOK_MAX_NS);
	return cg->cpu.state == QUOTA_RUNNING ? MIN(end, now + look) : end;
}

static void quota_fire(struct ktimer *kt, uint64_t overruns)
{
	int64_t next, start, end;

	(void)overruns;
	GUARD(mutex, &taskset_mu);
	start = clock_mono();
	next = cgroups_look(look_at, start);
	end = clock_mono();
	/* with very many tasks a look takes long, and all containers of the sandbox wait for the lock meanwhile */
	if (next != TIME_FOREVER)
		ktimer_arm(kt, MAX(next, end + LOOK_COST_PARTS * (end - start)), 0);
}

/* The first task of a period; others may have been faster. */
static void begin(struct cgroup *cg)
{
	uint32_t idle = QUOTA_IDLE;

	GUARD(mutex, &taskset_mu);
	if (!atomic_compare_exchange_strong(&cg->cpu.state, &idle, QUOTA_RUNNING))
		return;
	cg->cpu.debt_ns = 0;
	begin_period_locked(cg, clock_mono());
	ktimer_arm(&timer, cg->cpu.period_start_ns + LOOK_MIN_NS, 0);
}

void cpu_quota_gate(struct task *t)
{
	struct cgroup *cg = task_cgroup(t);

	if (!cg || !cg->cpu.enforced)
		return;
	if (cg->cpu.state == QUOTA_IDLE)
		begin(cg);
	while (cg->cpu.state == QUOTA_THROTTLED && !t->killed)
		(void)!task_block_killable(t, TIME_FOREVER, "cpu quota");
}

void cpu_quota_init(void)
{
	ktimer_init(&timer, CLOCK_MONOTONIC, quota_fire);
}

void cpu_quota_set(struct cgroup *cg, bool enforced)
{
	if (atomic_exchange(&cg->cpu.enforced, enforced) == enforced)
		return;
	if (enforced)
		cpu_quotas++;
	else
		cpu_quotas--;
}

STATE_DESC(cgroup_cpu, S_VAL(cgroup_cpu, 1, quota_us), S_VAL(cgroup_cpu, 2, period_us), S_VAL(cgroup_cpu, 3, enforced),
	   S_VAL(cgroup_cpu, 4, state), S_VAL(cgroup_cpu, 5, period_start_ns), S_VAL(cgroup_cpu, 6, base_ns), S_VAL(cgroup_cpu, 7, debt_ns),
	   S_VAL(cgroup_cpu, 8, throttle_start_ns), S_VAL(cgroup_cpu, 9, periods), S_VAL(cgroup_cpu, 10, throttled_periods),
	   S_VAL(cgroup_cpu, 11, throttled_ns));
