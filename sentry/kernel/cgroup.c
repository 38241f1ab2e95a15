/* Limits and use of a container: tasks, cpu time. */
#include "sentry/kernel/cgroup.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/cause.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm.h"
#include "sentry/state/desc.h"

/* As Linux bounds cpu.cfs_period_us and cpu.cfs_quota_us. */
#define PERIOD_MIN_US 1000u
#define PERIOD_MAX_US 1000000u
#define QUOTA_MIN_US 1000

static struct mutex groups_mu; /* LOCK_OBJECT: the list */
static struct list_node groups = LIST_INIT(groups);

void cgroups_init(void)
{
	mutex_init(&groups_mu, LOCK_OBJECT);
	cpu_quota_init();
}

struct cgroup *cgroup_new(uint32_t version)
{
	struct cgroup *cg = calloc(1, sizeof(*cg));

	if (!cg)
		return NULL;
	refcount_init(&cg->refs, 1);
	list_init(&cg->node);
	mutex_init(&cg->mu, LOCK_LEAF);
	cg->version = version;
	cg->cpu.quota_us = -1;
	cg->cpu.period_us = CGROUP_CPU_PERIOD_US;
	waitq_init(&cg->waitq);
	cg->limits = (struct cgroup_limits){ .memory = CGROUP_NO_LIMIT,
					     .memory_swap = CGROUP_NO_LIMIT,
					     .memory_reservation = CGROUP_NO_LIMIT,
					     .pids = CGROUP_NO_LIMIT,
					     .cpu_quota_us = -1,
					     .cpu_period_us = CGROUP_CPU_PERIOD_US,
					     .cpu_shares = 1024 };
	cg->pids_limit = CGROUP_NO_LIMIT;
	cg->memory = memory_account_open();
	if (!cg->memory) {
		cgroup_put(cg);
		return NULL;
	}
	mutex_lock(&groups_mu);
	list_add_tail(&groups, &cg->node);
	mutex_unlock(&groups_mu);
	return cg;
}

struct cgroup *cgroup_get(struct cgroup *cg)
{
	refcount_get(&cg->refs);
	return cg;
}

void cgroup_put(struct cgroup *cg)
{
	if (!cg || !refcount_put(&cg->refs))
		return;
	mutex_lock(&groups_mu);
	list_del(&cg->node);
	mutex_unlock(&groups_mu);
	cpu_quota_set(cg, false);
	memory_account_close(cg->memory);
	waitq_fini(&cg->waitq);
	mutex_fini(&cg->mu);
	free(cg);
}

void cgroup_get_limits(struct cgroup *cg, struct cgroup_limits *ret)
{
	GUARD(mutex, &cg->mu);
	*ret = cg->limits;
}

int cgroup_set_limits(struct cgroup *cg, const struct cgroup_limits *l)
{
	if (l->cpu_period_us < PERIOD_MIN_US || l->cpu_period_us > PERIOD_MAX_US ||
	    (l->cpu_quota_us != -1 && l->cpu_quota_us < QUOTA_MIN_US))
		return -EINVAL;
	mutex_lock(&cg->mu);
	cg->limits = *l;
	mutex_unlock(&cg->mu);
	cg->pids_limit = l->pids;
	cg->cpus = l->cpus;
	if (l->cpus && l->cpus < kernel_cpu_count())
		vdso_getcpu_by_call(); /* the host's number may be one that the container does not have */
	cg->cpu.quota_us = l->cpu_quota_us;
	cg->cpu.period_us = l->cpu_period_us;
	cgroups_changed();
	cg->memory->limit = l->memory;
	if (memory_account_excess(cg->memory))
		cgroup_trim_memory(cg);
	return 0;
}

int cgroup_charge_task(struct cgroup *cg)
{
	uint64_t limit = cg->pids_limit, n = atomic_fetch_add(&cg->pids, 1) + 1, peak = cg->pids_peak;

	if (n > limit) {
		atomic_fetch_sub(&cg->pids, 1);
		atomic_fetch_add(&cg->pids_failcnt, 1);
		waitq_wake(&cg->waitq, POLLPRI);
		return cause(EAGAIN, CAUSE_LIMIT, "limit of %llu tasks: raise linux.resources.pids.limit",
			     (unsigned long long)limit);
	}
	while (n > peak && !atomic_compare_exchange_weak(&cg->pids_peak, &peak, n))
		;
	return 0;
}

void cgroup_uncharge_task(struct cgroup *cg)
{
	atomic_fetch_sub(&cg->pids, 1);
}

uint32_t task_cpu_count(const struct task *t)
{
	struct cgroup *cg = task_cgroup(t);
	uint32_t cpus = cg ? cg->cpus : 0;

	return cpus ? MIN(cpus, kernel_cpu_count()) : kernel_cpu_count();
}

void cgroup_memory(struct cgroup *cg, bool shmem, struct cgroup_memory *ret)
{
	struct memory_use use;

	*ret = (struct cgroup_memory){ .total = memory_host(), .limit = cg ? cg->memory->limit : CGROUP_NO_LIMIT };
	ret->total = MIN(ret->total, ret->limit);
	if (cg && shmem) {
		memory_account_use(cg->memory, &use);
		ret->used = use.total;
		ret->shmem = use.shmem;
	} else if (cg) {
		ret->used = memory_account_used(cg->memory);
	}
	ret->used = MIN(ret->used, ret->total);
	ret->shmem = MIN(ret->shmem, ret->used);
}

struct cgroup *task_cgroup(const struct task *t)
{
	return t && t->tg->container ? container_cgroup(t->tg->container) : NULL;
}

void cgroups_changed(void)
{
	unsigned populated = 0;
	struct cgroup *cg;

	GUARD(mutex, &groups_mu);
	list_for_each(cg, &groups, node)
		populated += cg->pids > 0;
	list_for_each(cg, &groups, node)
		cpu_quota_set(cg, populated > 1 && cg->cpu.quota_us > 0);
}

int64_t cgroups_look(int64_t (*look)(struct cgroup *cg, int64_t now), int64_t now)
{
	int64_t next = TIME_FOREVER, at;
	struct cgroup *cg;

	GUARD(mutex, &groups_mu);
	list_for_each(cg, &groups, node) {
		at = look(cg, now);
		next = MIN(next, at);
	}
	return next;
}

void cgroup_cpu_times(struct cgroup *cg, int64_t *ret_user_ns, int64_t *ret_system_ns)
{
	GUARD(mutex, &taskset_mu);
	cgroup_cpu_times_locked(cg, ret_user_ns, ret_system_ns);
}

void cgroup_cpu_times_locked(struct cgroup *cg, int64_t *ret_user_ns, int64_t *ret_system_ns)
{
	int64_t user = 0, sys = 0;
	struct task *t;

	mutex_assert_held(&taskset_mu);
	list_for_each(t, &all_tasks, all_node) {
		int64_t u, s;

		if (t->exited || task_cgroup(t) != cg)
			continue;
		task_cpu_times(t, &u, &s);
		user += u;
		sys += s;
	}
	*ret_user_ns = cg->dead_user_ns + user;
	*ret_system_ns = cg->dead_system_ns + sys;
}

STATE_DESC(cgroup, S_NOSAVE(cgroup, refs, "recounted"), S_NOSAVE(cgroup, node, "list is rebuilt"), S_VAL(cgroup, 11, version),
	   S_EMBED(cgroup, 12, cpu, cgroup_cpu), S_NOSAVE(cgroup, mu, "not held at a safe point"),
	   S_VAL(cgroup, 1, limits), S_VAL(cgroup, 2, pids_limit), S_VAL(cgroup, 13, cpus),
	   S_VAL(cgroup, 3, pids), S_VAL(cgroup, 4, pids_peak),
	   S_VAL(cgroup, 5, pids_failcnt), S_VAL(cgroup, 6, oom_kills), S_VAL(cgroup, 7, dead_user_ns),
	   S_REF(cgroup, 9, memory, memory_account), S_VAL(cgroup, 10, oom_events), S_NOSAVE(cgroup, relieving, "false at a safe point"),
	   S_NOSAVE(cgroup, oom_victim, "the next failure finds another"), S_NOSAVE(cgroup, oom_victim_ns, "no victim"),
	   S_VAL(cgroup, 8, dead_system_ns), S_NOSAVE(cgroup, waitq, "waiters register again"));
