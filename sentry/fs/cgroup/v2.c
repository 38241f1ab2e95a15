/* Files of cgroup version 2 (Linux's Documentation/admin-guide/cgroup-v2.rst). */
#include "sentry/fs/cgroup/cgroupfs_priv.h"
#include "sentry/mm/account.h"

#define USEC(ns) ((unsigned long long)(ns) / 1000)
#define U64(v) ((unsigned long long)(v))

static void show_cpu_max(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	if (l.cpu_quota_us < 0)
		seq_printf(q, "max %llu\n", U64(l.cpu_period_us));
	else
		seq_printf(q, "%lld %llu\n", (long long)l.cpu_quota_us, U64(l.cpu_period_us));
}

/* Weight of the shares of version 1: 2 to 262144 become 1 to 10000, as engines convert them. */
static void show_cpu_weight(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_number(q, l.cpu_shares == 1024 ? 100 : 1 + (l.cpu_shares - 2) * 9999 / 262142);
}

static void show_cpu_stat(struct cgroup *cg, struct seq *q)
{
	int64_t user, sys;

	cgroup_cpu_times(cg, &user, &sys);
	seq_printf(q, "usage_usec %llu\nuser_usec %llu\nsystem_usec %llu\n", USEC(user) + USEC(sys), USEC(user), USEC(sys));
	seq_printf(q, "nr_periods %llu\nnr_throttled %llu\nthrottled_usec %llu\nnr_bursts 0\nburst_usec 0\n",
		   U64(cg->cpu.periods), U64(cg->cpu.throttled_periods), USEC(cg->cpu.throttled_ns));
}

static void show_memory_max(struct cgroup *cg, struct seq *q)
{
	show_limit(q, cg->memory->limit);
}

static void show_memory_low(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_number(q, l.memory_reservation == CGROUP_NO_LIMIT ? 0 : l.memory_reservation);
}

static void show_swap_max(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	show_limit(q, l.memory_swap == CGROUP_NO_LIMIT || l.memory_swap < l.memory ? CGROUP_NO_LIMIT :
										    l.memory_swap - l.memory);
}

static void show_memory_events(struct cgroup *cg, struct seq *q)
{
	seq_printf(q, "low 0\nhigh 0\nmax %llu\noom %llu\noom_kill %llu\noom_group_kill 0\n", U64(cg->memory->failures),
		   U64(cg->oom_events), U64(cg->oom_kills));
}

static void show_memory_stat(struct cgroup *cg, struct seq *q)
{
	struct memory_use use;

	memory_account_use(cg->memory, &use);
	seq_printf(q, "anon %llu\nfile %llu\nkernel 0\nkernel_stack 0\npagetables 0\npercpu 0\nsock 0\nvmalloc 0\nshmem %llu\n",
		   U64(use.anon + use.pipe), U64(use.shmem), U64(use.shmem));
	seq_printf(q, "file_mapped 0\nfile_dirty 0\nfile_writeback 0\nswapcached 0\nanon_thp 0\ninactive_anon %llu\n"
		      "active_anon %llu\ninactive_file 0\nactive_file 0\nunevictable 0\nslab_reclaimable 0\n"
		      "slab_unreclaimable 0\nslab 0\n",
		   U64(use.shmem), U64(use.anon + use.pipe));
}

static void show_events(struct cgroup *cg, struct seq *q)
{
	/* who reads it is in it, and so not frozen */
	seq_printf(q, "populated %d\nfrozen 0\n", cg->pids > 0);
}

const struct cgroup_file cgroup_v2_files[] = {
	{ .name = "cgroup.controllers", .text = "cpuset cpu io memory pids\n" },
	{ .name = "cgroup.events", .show = show_events },
	{ .name = "cgroup.max.depth", .limit = true, .text = "max\n" },
	{ .name = "cgroup.max.descendants", .limit = true, .text = "max\n" },
	{ .name = "cgroup.stat", .text = "nr_descendants 0\nnr_dying_descendants 0\n" },
	{ .name = "cgroup.subtree_control", .limit = true, .text = "\n" },
	{ .name = "cgroup.type", .limit = true, .text = "domain\n" },
	{ .name = "cpu.max", .limit = true, .show = show_cpu_max },
	{ .name = "cpu.max.burst", .limit = true, .text = "0\n" },
	{ .name = "cpu.stat", .show = show_cpu_stat },
	{ .name = "cpu.weight", .limit = true, .show = show_cpu_weight },
	{ .name = "cpu.weight.nice", .limit = true, .text = "0\n" },
	{ .name = "cpuset.cpus", .limit = true, .show = show_cpus },
	{ .name = "cpuset.cpus.effective", .show = show_cpus_effective },
	{ .name = "cpuset.cpus.partition", .limit = true, .text = "member\n" },
	{ .name = "cpuset.mems", .limit = true, .show = show_mems },
	{ .name = "cpuset.mems.effective", .text = "0\n" },
	{ .name = "io.max", .limit = true, .text = "" },
	{ .name = "io.stat", .text = "" },
	{ .name = "io.weight", .limit = true, .text = "default 100\n" },
	{ .name = "memory.current", .show = show_memory_current },
	{ .name = "memory.events", .show = show_memory_events },
	{ .name = "memory.events.local", .show = show_memory_events },
	{ .name = "memory.high", .limit = true, .text = "max\n" },
	{ .name = "memory.low", .limit = true, .show = show_memory_low },
	{ .name = "memory.max", .limit = true, .show = show_memory_max },
	{ .name = "memory.min", .limit = true, .text = "0\n" },
	{ .name = "memory.oom.group", .limit = true, .text = "0\n" },
	{ .name = "memory.peak", .show = show_memory_peak },
	{ .name = "memory.stat", .show = show_memory_stat },
	{ .name = "memory.swap.current", .text = "0\n" },
	{ .name = "memory.swap.events", .text = "high 0\nmax 0\nfail 0\n" },
	{ .name = "memory.swap.max", .limit = true, .show = show_swap_max },
	{ .name = "pids.current", .show = show_pids_current },
	{ .name = "pids.events", .show = show_pids_events },
	{ .name = "pids.max", .limit = true, .show = show_pids_limit },
};
const size_t cgroup_v2_count = ARRAY_COUNT(cgroup_v2_files);
