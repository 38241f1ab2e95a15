/* Files of cgroup version 1 (Linux's Documentation/admin-guide/cgroup-v1). */
#include "sentry/fs/cgroup/cgroupfs_priv.h"
#include "sentry/mm/account.h"

#define U64(v) ((unsigned long long)(v))
#define NS_PER_TICK 10000000ll
/* What version 1 shows for "no limit". */
#define V1_NO_LIMIT 9223372036854771712ull

const struct cgroup_hierarchy cgroup_hierarchies[] = {
	{ 9, "blkio", "blkio", { NULL } },
	{ 8, "freezer", "freezer", { NULL } },
	{ 7, "devices", "devices", { NULL } },
	{ 6, "cpuset", "cpuset", { NULL } },
	{ 5, "cpu,cpuacct", "cpu,cpuacct", { "cpu", "cpuacct" } },
	{ 4, "memory", "memory", { NULL } },
	{ 3, "pids", "pids", { NULL } },
	{ 1, "systemd", "xattr,name=systemd", { NULL } },
};
const size_t cgroup_hierarchy_count = ARRAY_COUNT(cgroup_hierarchies);

static void show_bytes(struct seq *q, uint64_t value)
{
	show_number(q, MIN(value, (uint64_t)V1_NO_LIMIT));
}

static void show_memory_limit(struct cgroup *cg, struct seq *q)
{
	show_bytes(q, cg->memory->limit);
}

static void show_soft_limit(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_bytes(q, l.memory_reservation);
}

static void show_memsw_limit(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_bytes(q, l.memory_swap);
}

static void show_failcnt(struct cgroup *cg, struct seq *q)
{
	show_number(q, cg->memory->failures);
}

static void show_oom_control(struct cgroup *cg, struct seq *q)
{
	seq_printf(q, "oom_kill_disable 0\nunder_oom 0\noom_kill %llu\n", U64(cg->oom_kills));
}

static void show_stat(struct cgroup *cg, struct seq *q)
{
	uint64_t limit = MIN((uint64_t)cg->memory->limit, (uint64_t)V1_NO_LIMIT);
	struct memory_use use;
	const char *const prefix[] = { "", "total_" };

	memory_account_use(cg->memory, &use);
	for (size_t i = 0; i < ARRAY_COUNT(prefix); i++) {
		const char *p = prefix[i];

		seq_printf(q, "%scache %llu\n%srss %llu\n%srss_huge 0\n%sshmem %llu\n%smapped_file 0\n%sdirty 0\n%swriteback 0\n", p,
			   U64(use.shmem), p, U64(use.anon + use.pipe), p, p, U64(use.shmem), p, p, p);
		seq_printf(q, "%spgpgin 0\n%spgpgout 0\n%spgfault 0\n%spgmajfault 0\n%sinactive_anon %llu\n%sactive_anon %llu\n", p,
			   p, p, p, p, U64(use.shmem), p, U64(use.anon + use.pipe));
		seq_printf(q, "%sinactive_file 0\n%sactive_file 0\n%sunevictable 0\n", p, p, p);
		if (i == 0)
			seq_printf(q, "hierarchical_memory_limit %llu\nhierarchical_memsw_limit %llu\n", U64(limit),
				   V1_NO_LIMIT);
	}
}

static void show_quota(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	seq_printf(q, "%lld\n", (long long)l.cpu_quota_us);
}

static void show_period(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_number(q, l.cpu_period_us);
}

static void show_shares(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_number(q, l.cpu_shares);
}

static void show_throttled(struct cgroup *cg, struct seq *q)
{
	seq_printf(q, "nr_periods %llu\nnr_throttled %llu\nthrottled_time %llu\n", U64(cg->cpu.periods),
		   U64(cg->cpu.throttled_periods), U64(cg->cpu.throttled_ns));
}

static void show_usage(struct cgroup *cg, struct seq *q)
{
	int64_t user, sys;

	cgroup_cpu_times(cg, &user, &sys);
	show_number(q, (uint64_t)(user + sys));
}

static void show_usage_user(struct cgroup *cg, struct seq *q)
{
	int64_t user, sys;

	cgroup_cpu_times(cg, &user, &sys);
	show_number(q, (uint64_t)user);
}

static void show_usage_sys(struct cgroup *cg, struct seq *q)
{
	int64_t user, sys;

	cgroup_cpu_times(cg, &user, &sys);
	show_number(q, (uint64_t)sys);
}

static void show_acct_stat(struct cgroup *cg, struct seq *q)
{
	int64_t user, sys;

	cgroup_cpu_times(cg, &user, &sys);
	seq_printf(q, "user %lld\nsystem %lld\n", (long long)(user / NS_PER_TICK), (long long)(sys / NS_PER_TICK));
}

#define FILE(h, n, fn) { .hierarchy = h, .name = n, .show = fn }
#define LIMIT(h, n, fn) { .hierarchy = h, .name = n, .limit = true, .show = fn }
#define FIXED(h, n, t) { .hierarchy = h, .name = n, .text = t }
#define FIXED_LIMIT(h, n, t) { .hierarchy = h, .name = n, .limit = true, .text = t }
#define CPU "cpu,cpuacct"

const struct cgroup_file cgroup_v1_files[] = {
	FIXED_LIMIT(NULL, "cgroup.clone_children", "0\n"),
	FIXED_LIMIT(NULL, "notify_on_release", "0\n"),
	LIMIT("memory", "memory.limit_in_bytes", show_memory_limit),
	FILE("memory", "memory.usage_in_bytes", show_memory_current),
	FILE("memory", "memory.max_usage_in_bytes", show_memory_peak),
	LIMIT("memory", "memory.soft_limit_in_bytes", show_soft_limit),
	LIMIT("memory", "memory.memsw.limit_in_bytes", show_memsw_limit),
	FILE("memory", "memory.memsw.usage_in_bytes", show_memory_current),
	FILE("memory", "memory.memsw.max_usage_in_bytes", show_memory_peak),
	FILE("memory", "memory.memsw.failcnt", show_failcnt),
	FILE("memory", "memory.failcnt", show_failcnt),
	FILE("memory", "memory.stat", show_stat),
	LIMIT("memory", "memory.oom_control", show_oom_control),
	FIXED_LIMIT("memory", "memory.swappiness", "60\n"),
	FIXED_LIMIT("memory", "memory.use_hierarchy", "1\n"),
	FIXED_LIMIT("memory", "memory.move_charge_at_immigrate", "0\n"),
	LIMIT(CPU, "cpu.cfs_quota_us", show_quota),
	LIMIT(CPU, "cpu.cfs_period_us", show_period),
	LIMIT(CPU, "cpu.shares", show_shares),
	FILE(CPU, "cpu.stat", show_throttled),
	FILE(CPU, "cpuacct.usage", show_usage),
	FILE(CPU, "cpuacct.usage_user", show_usage_user),
	FILE(CPU, "cpuacct.usage_sys", show_usage_sys),
	FILE(CPU, "cpuacct.stat", show_acct_stat),
	LIMIT("cpuset", "cpuset.cpus", show_cpus_effective),
	FILE("cpuset", "cpuset.effective_cpus", show_cpus_effective),
	FIXED_LIMIT("cpuset", "cpuset.mems", "0\n"),
	FIXED("cpuset", "cpuset.effective_mems", "0\n"),
	FIXED_LIMIT("cpuset", "cpuset.cpu_exclusive", "0\n"),
	FIXED_LIMIT("cpuset", "cpuset.mem_exclusive", "0\n"),
	FILE("pids", "pids.current", show_pids_current),
	LIMIT("pids", "pids.max", show_pids_limit),
	FILE("pids", "pids.events", show_pids_events),
	FIXED("devices", "devices.list", "a *:* rwm\n"),
	FIXED("freezer", "freezer.self_freezing", "0\n"),
	FIXED_LIMIT("freezer", "freezer.state", "THAWED\n"),
	FIXED("blkio", "blkio.throttle.io_service_bytes", "Total 0\n"),
	FIXED("blkio", "blkio.throttle.io_serviced", "Total 0\n"),
	FIXED_LIMIT("blkio", "blkio.weight", "500\n"),
};
const size_t cgroup_v1_count = ARRAY_COUNT(cgroup_v1_files);
