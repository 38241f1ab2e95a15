/* Texts that both versions have. */
#include "sentry/fs/cgroup/cgroupfs_priv.h"
#include "sentry/mm/account.h"

void show_number(struct seq *q, uint64_t value)
{
	seq_printf(q, "%llu\n", (unsigned long long)value);
}

void show_limit(struct seq *q, uint64_t value)
{
	if (value == CGROUP_NO_LIMIT)
		seq_puts(q, "max\n");
	else
		show_number(q, value);
}

void show_pids_current(struct cgroup *cg, struct seq *q)
{
	show_number(q, cg->pids);
}

void show_pids_limit(struct cgroup *cg, struct seq *q)
{
	show_limit(q, cg->pids_limit);
}

void show_pids_events(struct cgroup *cg, struct seq *q)
{
	seq_printf(q, "max %llu\n", (unsigned long long)cg->pids_failcnt);
}

void show_memory_current(struct cgroup *cg, struct seq *q)
{
	show_number(q, memory_account_used(cg->memory));
}

void show_memory_peak(struct cgroup *cg, struct seq *q)
{
	(void)memory_account_used(cg->memory);
	show_number(q, cg->memory->peak);
}

/* What was asked for; nothing when the container is not restricted. */
void show_cpus(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	seq_printf(q, "%s\n", l.cpuset_cpus);
}

/* What there is: processors are numbered from 0 in the sandbox, however the host counts them. */
void show_cpus_effective(struct cgroup *cg, struct seq *q)
{
	unsigned n = cg->cpus ? MIN(cg->cpus, kernel_cpu_count()) : kernel_cpu_count();

	seq_printf(q, n > 1 ? "0-%u\n" : "0\n", n - 1);
}

void show_mems(struct cgroup *cg, struct seq *q)
{
	struct cgroup_limits l;

	cgroup_get_limits(cg, &l);
	seq_printf(q, "%s\n", l.cpuset_mems);
}
