/* Files of the whole sandbox (proc(5)): meminfo, cpuinfo, stat, uptime and the rest of the root. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "sentry/fs/proc/proc_priv.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/version.h"
#include "sentry/mm/mm.h"

#define TICKS_PER_SEC 100

static int meminfo_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct cgroup_memory m;
	uint64_t left, anon;

	(void)s;
	(void)f;
	cgroup_memory(task_cgroup(current), true, &m);
	left = m.total - m.used;
	anon = m.used - m.shmem;
#define ROW(name, bytes) seq_printf(q, "%-15s %8llu kB\n", name ":", (unsigned long long)((bytes) >> 10))
	ROW("MemTotal", m.total);
	ROW("MemFree", left);
	ROW("MemAvailable", left);
	ROW("Buffers", 0ull);
	ROW("Cached", m.shmem);
	ROW("SwapCached", 0ull);
	ROW("Active", anon);
	ROW("Inactive", m.shmem);
	ROW("Active(anon)", anon);
	ROW("Inactive(anon)", m.shmem);
	ROW("Active(file)", 0ull);
	ROW("Inactive(file)", 0ull);
	ROW("Unevictable", 0ull);
	ROW("Mlocked", 0ull);
	ROW("SwapTotal", 0ull);
	ROW("SwapFree", 0ull);
	ROW("Dirty", 0ull);
	ROW("Writeback", 0ull);
	ROW("AnonPages", anon);
	ROW("Mapped", m.shmem);
	ROW("Shmem", m.shmem);
	ROW("KReclaimable", 0ull);
	ROW("Slab", 0ull);
	ROW("SReclaimable", 0ull);
	ROW("SUnreclaim", 0ull);
	ROW("KernelStack", 0ull);
	ROW("PageTables", m.used / 512);
	ROW("CommitLimit", m.total);
	ROW("Committed_AS", m.used);
	ROW("VmallocTotal", 34359738367ull << 10);
	ROW("VmallocUsed", 0ull);
	ROW("VmallocChunk", 0ull);
	ROW("AnonHugePages", 0ull);
	seq_puts(q, "HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
		    "HugePages_Surp:        0\nHugepagesize:       2048 kB\n");
#undef ROW
	return 0;
}

#if defined(__x86_64__)
struct cpu_bit {
	const char *name;
	uint32_t leaf, subleaf;
	uint8_t reg, bit; /* 0 eax, 1 ebx, 2 ecx, 3 edx */
};
static const struct cpu_bit cpu_bits[] = {
#define CPUFLAG(name, leaf, subleaf, reg, bit) { #name, leaf, subleaf, reg, bit },
#include "sentry/fs/proc/cpuflags.def"
#undef CPUFLAG
};

static bool cpu_has(const struct cpu_bit *b)
{
	uint32_t r[4];

	return __get_cpuid_count(b->leaf, b->subleaf, &r[0], &r[1], &r[2], &r[3]) && (r[b->reg] >> b->bit & 1);
}

static void cpu_text(struct seq *q, unsigned cpu, unsigned cpus)
{
	char vendor[13] = { 0 }, brand[49] = { 0 };
	uint32_t r[4] = { 0 }, family, model;
	uint64_t khz;

	__get_cpuid(0, &r[0], &r[1], &r[2], &r[3]);
	memcpy(vendor, &r[1], 4);
	memcpy(vendor + 4, &r[3], 4);
	memcpy(vendor + 8, &r[2], 4);
	for (unsigned i = 0; i < 3; i++) {
		if (__get_cpuid(0x80000002u + i, &r[0], &r[1], &r[2], &r[3]))
			memcpy(brand + 16 * i, r, 16);
	}
	__get_cpuid(1, &r[0], &r[1], &r[2], &r[3]);
	family = (r[0] >> 8 & 15) + ((r[0] >> 8 & 15) == 15 ? r[0] >> 20 & 255 : 0);
	model = (r[0] >> 4 & 15) | (r[0] >> 12 & 0xf0);
	khz = clock_tsc_khz();
	seq_printf(q,
		   "processor\t: %u\nvendor_id\t: %s\ncpu family\t: %u\nmodel\t\t: %u\nmodel name\t: %s\n"
		   "stepping\t: %u\nmicrocode\t: 0x0\ncpu MHz\t\t: %llu.%03u\ncache size\t: 512 KB\n"
		   "physical id\t: 0\nsiblings\t: %u\ncore id\t\t: %u\ncpu cores\t: %u\napicid\t\t: %u\n"
		   "initial apicid\t: %u\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: 13\nwp\t\t: yes\n"
		   "flags\t\t:",
		   cpu, vendor, family, model, brand, r[0] & 15, (unsigned long long)(khz / 1000),
		   (unsigned int)(khz % 1000), cpus, cpu, cpus, cpu, cpu);
	for (unsigned i = 0; i < ARRAY_COUNT(cpu_bits); i++) {
		if (cpu_has(&cpu_bits[i]))
			seq_printf(q, " %s", cpu_bits[i].name);
	}
	seq_puts(q, "\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\ncache_alignment\t: 64\n"
		    "address sizes\t: 46 bits physical, 48 bits virtual\npower management:\n\n");
}
#endif

static int cpuinfo_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	for (unsigned i = 0; i < task_cpu_count(current); i++)
		cpu_text(q, i, task_cpu_count(current));
	return 0;
}

struct cpu_totals {
	int64_t user, system;
	unsigned tasks, running;
};

static void total_cpu(struct cpu_totals *t)
{
	struct thread_group *tg;
	int32_t pid = 0, found;

	*t = (struct cpu_totals){ 0 };
	while ((tg = thread_group_next(root_pid_ns, pid, &found))) {
		struct cpu_usage u;

		thread_group_usage(tg, &u);
		t->user += u.user_ns;
		t->system += u.system_ns;
		t->tasks += MAX(tg->live_count, 1u);
		pid = found + 1;
		thread_group_put(tg);
	}
}

static int stat_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	unsigned cpus = task_cpu_count(current);
	int64_t up = clock_now(CLOCK_BOOTTIME), tick = NSEC_PER_SEC / TICKS_PER_SEC;
	struct cpu_totals t;
	long long user, sys, idle;

	(void)s;
	(void)f;
	total_cpu(&t);
	user = t.user / tick;
	sys = t.system / tick;
	idle = MAX(up / tick * (int64_t)cpus - user - sys, (int64_t)0);
	seq_printf(q, "cpu  %lld 0 %lld %lld 0 0 0 0 0 0\n", user, sys, idle);
	for (unsigned i = 0; i < cpus; i++)
		seq_printf(q, "cpu%u %lld 0 %lld %lld 0 0 0 0 0 0\n", i, user / cpus, sys / cpus, idle / cpus);
	seq_printf(q,
		   "intr 0\nctxt 0\nbtime %lld\nprocesses %d\nprocs_running 1\nprocs_blocked 0\n"
		   "softirq 0 0 0 0 0 0 0 0 0 0 0\n",
		   (long long)((clock_now(CLOCK_REALTIME) - up) / NSEC_PER_SEC), root_pid_ns->last_pid);
	return 0;
}

static int uptime_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	int64_t up = clock_now(CLOCK_BOOTTIME) / (NSEC_PER_SEC / 100), idle;
	struct cpu_totals t;

	(void)s;
	(void)f;
	total_cpu(&t);
	idle = MAX(up * task_cpu_count(current) - (t.user + t.system) / (NSEC_PER_SEC / 100), (int64_t)0);
	seq_printf(q, "%lld.%02lld %lld.%02lld\n", (long long)up / 100, (long long)up % 100,
		   (long long)idle / 100, (long long)idle % 100);
	return 0;
}

static int loadavg_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct cpu_totals t;

	(void)s;
	(void)f;
	total_cpu(&t);
	seq_printf(q, "0.00 0.00 0.00 1/%u %d\n", t.tasks, root_pid_ns->last_pid);
	return 0;
}

static int version_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	seq_printf(q, "%s version %s (runsc) %s\n", KERNEL_SYSNAME, KERNEL_RELEASE, KERNEL_VERSION);
	return 0;
}

static int filesystems_each(const struct fs_type *t, void *arg)
{
	seq_printf(arg, "%s\t%s\n", t->nodev ? "nodev" : "", t->name);
	return 0;
}

static int filesystems_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	return fs_type_for_each(filesystems_each, q);
}

/* Texts that never change. */
struct fixed {
	const char *name, *text;
};
static const struct fixed fixed_files[] = {
	{ "cmdline", "BOOT_IMAGE=runsc quiet\n" },
	{ "modules", "" },
	{ "swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n" },
	{ "devices", "Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n136 pts\n\n"
		     "Block devices:\n" },
	{ "partitions", "major minor  #blocks  name\n\n" },
	{ "diskstats", "" },
	{ "interrupts", "           CPU0\n" },
	{ "softirqs", "                    CPU0\n" },
	{ "misc", "" },
	{ "locks", "" },
	{ "crypto", "" },
	{ "key-users", "" },
	{ "keys", "" },
	{ "buddyinfo", "" },
	{ "zoneinfo", "" },
	{ "iomem", "" },
	{ "ioports", "" },
	{ "consoles", "" },
	{ "execdomains", "0-0\tLinux           \t[kernel]\n" },
	{ "vmstat", "nr_free_pages 0\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\npgmajfault 0\noom_kill 0\n" },
};

static int fixed_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const struct fixed *x = s->data;

	(void)f;
	seq_puts(q, x->text);
	return 0;
}

/* The controllers, and which hierarchy of version 1 each is in (0: version 2). */
static int cgroups_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	static const struct {
		const char *name;
		int hierarchy;
	} rows[] = { { "cpuset", 6 }, { "cpu", 5 },	{ "cpuacct", 5 }, { "blkio", 9 },
		     { "memory", 4 }, { "devices", 7 }, { "freezer", 8 }, { "pids", 3 } };
	struct cgroup *cg = task_cgroup(current);

	(void)s;
	(void)f;
	seq_puts(q, "#subsys_name\thierarchy\tnum_cgroups\tenabled\n");
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		seq_printf(q, "%s\t%d\t1\t1\n", rows[i].name, cg && cg->version == 1 ? rows[i].hierarchy : 0);
	return 0;
}

static int pressure_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	seq_puts(q, "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
		    "full avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	return 0;
}

#define SHOW_OPS(id) static const struct simple_ops id##_ops = { .name = #id, .show = id##_show }
SHOW_OPS(cgroups);
SHOW_OPS(meminfo);
SHOW_OPS(cpuinfo);
SHOW_OPS(stat);
SHOW_OPS(uptime);
SHOW_OPS(loadavg);
SHOW_OPS(version);
SHOW_OPS(filesystems);
SHOW_OPS(fixed);
SHOW_OPS(pressure);

static const struct {
	const char *name;
	const struct simple_ops *ops;
} live_files[] = {
	{ "cgroups", &cgroups_ops }, { "meminfo", &meminfo_ops }, { "cpuinfo", &cpuinfo_ops }, { "stat", &stat_ops },
	{ "uptime", &uptime_ops },   { "loadavg", &loadavg_ops }, { "version", &version_ops },
	{ "filesystems", &filesystems_ops },
};

int proc_fill_system(struct inode *root)
{
	static const char *const pressure[] = { "cpu", "io", "memory" };
	struct inode *dir;
	int r = 0;

	for (unsigned i = 0; i < ARRAY_COUNT(live_files) && r == 0; i++)
		r = simple_add_file(root, live_files[i].name, S_IFREG | 0444, live_files[i].ops, NULL);
	for (unsigned i = 0; i < ARRAY_COUNT(fixed_files) && r == 0; i++) {
		union {
			const struct fixed *in;
			void *out;
		} p = { .in = &fixed_files[i] }; /* only read by fixed_show */

		r = simple_add_file(root, fixed_files[i].name, S_IFREG | 0444, &fixed_ops, p.out);
	}
	if (r == 0)
		r = simple_add_dir(root, "pressure", &dir);
	for (unsigned i = 0; i < ARRAY_COUNT(pressure) && r == 0; i++)
		r = simple_add_file(dir, pressure[i], S_IFREG | 0444, &pressure_ops, NULL);
	if (r == 0)
		r = simple_add_dir(root, "tty", &dir);
	if (r == 0)
		r = simple_add_dir(root, "driver", &dir);
	if (r == 0)
		r = simple_add_dir(root, "bus", &dir);
	return r == 0 ? simple_add_dir(root, "fs", &dir) : r;
}
