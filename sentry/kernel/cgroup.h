/*
 * The control group of a container: its limits, and what its processes use. Each container has exactly one,
 * whatever namespaces it shares with others; processes cannot leave it. Analogue: kernel/cgroup, mm/memcontrol.c,
 * kernel/cgroup/pids.c.
 */
#ifndef SENTRY_KERNEL_CGROUP_H
#define SENTRY_KERNEL_CGROUP_H

#include "platform/base/mutex.h"
#include "platform/base/refcount.h"
#include "sentry/core/waitq.h"
#include "sentry/kernel/task.h"

#define CGROUP_NO_LIMIT UINT64_MAX
#define CGROUP_CPU_PERIOD_US 100000u /* unless another one is asked for */

struct cgroup_limits {
	uint64_t memory, memory_swap, memory_reservation; /* bytes; CGROUP_NO_LIMIT: none */
	uint64_t pids;					  /* tasks */
	int64_t cpu_quota_us;				  /* of each period; -1: none */
	uint64_t cpu_period_us;
	uint64_t cpu_shares;				  /* of cgroup v1, 2 to 262144 */
	uint32_t cpus;					  /* processors shown at most; 0: all of the sandbox */
	char cpuset_cpus[128], cpuset_mems[64];		  /* lists; "": not restricted */
};

/* Cpu quota, kept by the sentry when several containers share it (cpu_quota.c). Protected by taskset_mu but what is atomic. */
struct cgroup_cpu {
	_Atomic int64_t quota_us;   /* -1: none */
	_Atomic uint64_t period_us;
	_Atomic bool enforced;
	_Atomic uint32_t state;	    /* idle, running, throttled */
	int64_t period_start_ns;    /* CLOCK_MONOTONIC */
	int64_t base_ns;	    /* used up to the period's start */
	int64_t debt_ns;	    /* used too much in periods before */
	int64_t throttle_start_ns;
	_Atomic uint64_t periods, throttled_periods;
	_Atomic int64_t throttled_ns;
};

struct cgroup {
	struct refcount refs;
	struct list_node node; /* the list of all groups, under its lock */
	uint32_t version; /* const: of what the container sees in /proc and /sys, 1 or 2 */
	struct mutex mu; /* LOCK_LEAF */
	struct cgroup_limits limits; /* mu */
	_Atomic uint64_t pids_limit; /* copies of limits.pids and .cpus */
	_Atomic uint32_t cpus;
	_Atomic uint64_t pids, pids_peak, pids_failcnt; /* tasks, zombies included */
	struct memory_account *memory; /* const */
	_Atomic uint64_t oom_events, oom_kills; /* nothing was left to take back; processes killed then */
	_Atomic bool relieving; /* a task looks for memory to take back, or for whom to kill */
	struct thread_group *oom_victim; /* taskset; borrowed: killed, and not yet a zombie with its memory given back */
	int64_t oom_victim_ns;		 /* taskset: when, CLOCK_MONOTONIC */
	int64_t dead_user_ns, dead_system_ns; /* taskset: of ended tasks */
	struct cgroup_cpu cpu;
	struct waitq waitq; /* POLLPRI: a counter of an event file went up */
};

/* A group without limits and one reference; NULL when out of memory. */
struct cgroup *cgroup_new(uint32_t version);
struct cgroup *cgroup_get(struct cgroup *cg);
void cgroup_put(struct cgroup *cg);

void cgroup_get_limits(struct cgroup *cg, struct cgroup_limits *ret);
/* Sets all limits. -EINVAL (nothing has changed): a quota or period that cgroups(7) does not allow. */
NODISCARD int cgroup_set_limits(struct cgroup *cg, const struct cgroup_limits *l);

/* One more task, before it is visible. -EAGAIN at the limit, which counts the failure. Any context. */
NODISCARD int cgroup_charge_task(struct cgroup *cg);
void cgroup_uncharge_task(struct cgroup *cg);

/* Memory of the group as sysinfo(2) and /proc/meminfo show it: the host's, cut to the limit. Bytes. */
struct cgroup_memory { uint64_t total, used, shmem, limit; };
void cgroup_memory(struct cgroup *cg, bool shmem, struct cgroup_memory *ret);
/* Takes back memory that the group's processes were given and did not touch. Any thread without locks. */
void cgroup_trim_memory(struct cgroup *cg);
/* Boot: the kernel answers when a container reaches its memory limit (oom.c). */
void oom_init(void);

/* Time that the group's tasks, living and dead, have run; takes taskset_mu. */
void cgroup_cpu_times(struct cgroup *cg, int64_t *ret_user_ns, int64_t *ret_system_ns);
void cgroup_cpu_times_locked(struct cgroup *cg, int64_t *ret_user_ns, int64_t *ret_system_ns);
/* A container was made or started, or a limit has changed: which groups have a quota that the sandbox's cgroup does not keep? */
void cgroups_changed(void);

/* How many processors a task is shown, numbered from 0; t NULL: all of the sandbox. */
uint32_t task_cpu_count(const struct task *t);
/* The group of a task's container, borrowed while the task is; NULL for no task, or one outside of containers (unit tests). */
struct cgroup *task_cgroup(const struct task *t);

#endif
