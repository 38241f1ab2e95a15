/* Text files of a task (proc(5)): status, stat, cmdline, limits, mounts and their kin. */
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/fs/cgroup/cgroupfs.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/fs/proc/proc_priv.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm.h"

#define TICK_NS (NSEC_PER_SEC / 100)

static const char *state_name(char letter)
{
	switch (letter) {
	case 'R':
		return "running";
	case 'S':
		return "sleeping";
	case 'D':
		return "disk sleep";
	case 'T':
		return "stopped";
	case 't':
		return "tracing stop";
	case 'Z':
		return "zombie";
	default:
		return "dead";
	}
}

struct sig_view {
	sigset_kernel pending, shared, blocked, ignored, caught;
	unsigned queued;
};

static void view_signals(struct task *t, struct sig_view *v)
{
	struct signal_handlers *h;

	*v = (struct sig_view){ 0 };
	GUARD(mutex, &taskset_mu);
	v->pending = t->pending.set;
	v->shared = t->tg->pending.set;
	v->queued = t->pending.count + t->tg->pending.count;
	v->blocked = t->blocked;
	h = t->tg->handlers;
	for (int i = 0; h && i < GUEST_NSIG; i++) {
		if (h->action[i].handler == 1)
			v->ignored |= 1ull << i;
		else if (h->action[i].handler > 1)
			v->caught |= 1ull << i;
	}
}

static void comm_of(struct task *t, char buf[TASK_COMM_SIZE])
{
	GUARD(mutex, &t->mu);
	memcpy(buf, t->comm, TASK_COMM_SIZE);
	buf[TASK_COMM_SIZE - 1] = 0;
}

static unsigned live_threads(struct task *t)
{
	GUARD(mutex, &taskset_mu);
	return MAX(t->tg->live_count, 1u);
}

static int32_t tracer_pid(struct task *t, struct pid_ns *ns)
{
	GUARD(mutex, &taskset_mu);
	return t->tracer ? task_tid_in(t->tracer, ns) : 0;
}

static void status_ids(struct task *t, struct seq *q)
{
	const struct cred *c = task_get_cred(t);
	struct user_ns *ns = current ? current->cred->user_ns : &root_user_ns;
	struct fdtable *table = task_get_fdtable(t);

	if (c) {
		seq_printf(q, "Uid:\t%u\t%u\t%u\t%u\nGid:\t%u\t%u\t%u\t%u\n",
			   user_ns_from_kuid_munged(ns, c->ruid), user_ns_from_kuid_munged(ns, c->euid),
			   user_ns_from_kuid_munged(ns, c->suid), user_ns_from_kuid_munged(ns, c->fsuid),
			   user_ns_from_kgid_munged(ns, c->rgid), user_ns_from_kgid_munged(ns, c->egid),
			   user_ns_from_kgid_munged(ns, c->sgid), user_ns_from_kgid_munged(ns, c->fsgid));
	}
	seq_printf(q, "FDSize:\t%u\nGroups:\t", table ? fdtable_size(table) : 0);
	for (unsigned i = 0; c && i < c->group_count; i++)
		seq_printf(q, "%s%u", i ? " " : "", user_ns_from_kgid_munged(ns, c->groups[i]));
	seq_puts(q, " \n");
	fdtable_put(table);
	cred_put(c);
}

static void status_ns_pids(struct simple_inode *s, struct task *t, struct seq *q)
{
	static const char *const label[] = { "NStgid", "NSpid", "NSpgid", "NSsid" };

	for (int row = 0; row < 4; row++) {
		struct pid_ns *ns = task_pid_ns(t), *chain[PID_NS_LEVELS_MAX + 1];
		unsigned n = 0;

		for (; ns && ns->level >= proc_ns(s)->level && n <= PID_NS_LEVELS_MAX; ns = ns->parent)
			chain[n++] = ns;
		seq_printf(q, "%s:", label[row]);
		while (n-- > 0) {
			int32_t nr = row == 0 ? thread_group_pid_in(t->tg, chain[n]) :
				     row == 1 ? task_tid_in(t, chain[n]) :
				     row == 2 ? thread_group_pgid_in(t->tg, chain[n]) :
						thread_group_sid_in(t->tg, chain[n]);

			seq_printf(q, "\t%d", nr);
		}
		seq_putc(q, '\n');
	}
}

static void status_memory(struct task *t, struct seq *q)
{
	struct mm *mm = task_get_mm(t);
	struct mm_usage u;
	uint64_t rss;

	if (!mm)
		return;
	mm_usage(mm, &u);
	rss = u.rss_anon + u.rss_file + u.rss_shmem;
	seq_printf(q,
		   "VmPeak:\t%8llu kB\nVmSize:\t%8llu kB\nVmLck:\t%8llu kB\nVmPin:\t%8u kB\n"
		   "VmHWM:\t%8llu kB\nVmRSS:\t%8llu kB\nRssAnon:\t%8llu kB\nRssFile:\t%8llu kB\n"
		   "RssShmem:\t%8llu kB\nVmData:\t%8llu kB\nVmStk:\t%8llu kB\nVmExe:\t%8llu kB\n"
		   "VmLib:\t%8u kB\nVmPTE:\t%8llu kB\nVmSwap:\t%8llu kB\nHugetlbPages:\t%8u kB\n"
		   "CoreDumping:\t0\nTHP_enabled:\t1\n",
		   (unsigned long long)u.vsize >> 10, (unsigned long long)u.vsize >> 10,
		   (unsigned long long)u.locked >> 10, 0u, (unsigned long long)MAX(u.hwm, rss) >> 10,
		   (unsigned long long)rss >> 10, (unsigned long long)u.rss_anon >> 10,
		   (unsigned long long)u.rss_file >> 10, (unsigned long long)u.rss_shmem >> 10,
		   (unsigned long long)u.data >> 10, (unsigned long long)u.stack >> 10,
		   (unsigned long long)u.text >> 10, 0u, (unsigned long long)(rss / 512 + 4096) >> 10,
		   (unsigned long long)u.swap >> 10, 0u);
	mm_put(mm);
}

static void status_cpus(struct task *t, struct seq *q)
{
	uint64_t mask[16];
	unsigned cpus = task_cpu_count(t);
	bool first = true;

	mutex_lock(&taskset_mu);
	memcpy(mask, t->cpu_mask, sizeof(mask));
	mutex_unlock(&taskset_mu);
	if (cpus < 64)
		mask[0] &= (1ull << cpus) - 1;
	seq_printf(q, "Cpus_allowed:\t%llx\nCpus_allowed_list:\t", (unsigned long long)mask[0]);
	for (unsigned i = 0; i < cpus && i < 1024; i++) {
		unsigned end = i;

		if (!(mask[i / 64] >> (i % 64) & 1))
			continue;
		while (end + 1 < cpus && end + 1 < 1024 && (mask[(end + 1) / 64] >> ((end + 1) % 64) & 1))
			end++;
		seq_printf(q, end > i ? "%s%u-%u" : "%s%u", first ? "" : ",", i, end);
		first = false;
		i = end;
	}
	seq_printf(q, "\nMems_allowed:\t1\nMems_allowed_list:\t0\n");
}

static int status_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct task *t = proc_task(s);
	struct pid_ns *ns = proc_ns(s);
	struct fs_struct *fs = task_get_fs(t);
	const struct cred *c = task_get_cred(t);
	char comm[TASK_COMM_SIZE], letter = task_state_letter(t);
	struct sig_view v;

	(void)f;
	comm_of(t, comm);
	view_signals(t, &v);
	seq_puts(q, "Name:\t");
	seq_escape(q, comm, "\n");
	seq_putc(q, '\n');
	if (fs)
		seq_printf(q, "Umask:\t%04o\n", fs->umask);
	seq_printf(q, "State:\t%c (%s)\nTgid:\t%d\nNgid:\t0\nPid:\t%d\nPPid:\t%d\nTracerPid:\t%d\n", letter,
		   state_name(letter), thread_group_pid_in(t->tg, ns), task_tid_in(t, ns),
		   thread_group_ppid_in(t->tg, ns), tracer_pid(t, ns));
	status_ids(t, q);
	status_ns_pids(s, t, q);
	seq_puts(q, "Kthread:\t0\n");
	status_memory(t, q);
	seq_printf(q,
		   "Threads:\t%u\nSigQ:\t%u/%llu\nSigPnd:\t%016llx\nShdPnd:\t%016llx\nSigBlk:\t%016llx\n"
		   "SigIgn:\t%016llx\nSigCgt:\t%016llx\n",
		   live_threads(t), v.queued, (unsigned long long)task_rlimit(t, 11 /* SIGPENDING */),
		   (unsigned long long)v.pending, (unsigned long long)v.shared, (unsigned long long)v.blocked,
		   (unsigned long long)v.ignored, (unsigned long long)v.caught);
	if (c) {
		seq_printf(q,
			   "CapInh:\t%016llx\nCapPrm:\t%016llx\nCapEff:\t%016llx\nCapBnd:\t%016llx\n"
			   "CapAmb:\t%016llx\nNoNewPrivs:\t%d\n",
			   (unsigned long long)c->cap_inheritable, (unsigned long long)c->cap_permitted,
			   (unsigned long long)c->cap_effective, (unsigned long long)c->cap_bounding,
			   (unsigned long long)c->cap_ambient, c->no_new_privs);
	}
	seq_printf(q, "Seccomp:\t%u\nSeccomp_filters:\t%d\nSpeculation_Store_Bypass:\tvulnerable\n", t->seccomp_mode,
		   seccomp_filter_count(t));
	status_cpus(t, q);
	seq_printf(q, "voluntary_ctxt_switches:\t%llu\nnonvoluntary_ctxt_switches:\t%llu\n",
		   (unsigned long long)t->nvcsw, (unsigned long long)t->nivcsw);
	cred_put(c);
	fs_struct_put(fs);
	return 0;
}

/* The controlling terminal's device number and foreground group, as stat shows them. */
static void tty_of(struct task *t, struct pid_ns *ns, int *ret_nr, int32_t *ret_fg)
{
	struct session *se;

	*ret_nr = 0;
	*ret_fg = -1;
	GUARD(mutex, &taskset_mu);
	se = t->tg->pgrp ? t->tg->pgrp->session : NULL;
	if (!se || !se->tty)
		return;
	*ret_nr = (int)tty_dev(se->tty);
	*ret_fg = se->foreground ? process_group_id_in(se->foreground, ns) : -1;
}

static int stat_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct task *t = proc_task(s);
	struct pid_ns *ns = proc_ns(s);
	struct mm *mm = current && task_may_access(current, t, false) ? task_get_mm(t) : NULL;
	struct mm *usage_mm = task_get_mm(t);
	struct mm_info mi = { 0 };
	struct mm_usage mu = { 0 };
	struct cpu_usage u;
	struct sig_view v;
	char comm[TASK_COMM_SIZE];
	int tty_nr;
	int32_t fg;

	(void)f;
	if (mm)
		mm_get_info(mm, &mi);
	if (usage_mm)
		mm_usage(usage_mm, &mu);
	comm_of(t, comm);
	view_signals(t, &v);
	tty_of(t, ns, &tty_nr, &fg);
	if (s->num) {
		u = (struct cpu_usage){ .minflt = t->minflt, .majflt = t->majflt };
		task_cpu_times(t, &u.user_ns, &u.system_ns);
	} else {
		thread_group_usage(t->tg, &u);
	}
	seq_printf(q, "%d (%s) %c %d %d %d %d %d %u ", task_tid_in(t, ns), comm, task_state_letter(t),
		   thread_group_ppid_in(t->tg, ns), thread_group_pgid_in(t->tg, ns),
		   thread_group_sid_in(t->tg, ns), tty_nr, fg, 0x400000u);
	seq_printf(q, "%llu %llu %llu %llu %lld %lld %lld %lld ", (unsigned long long)u.minflt,
		   (unsigned long long)t->tg->child_usage.minflt, (unsigned long long)u.majflt,
		   (unsigned long long)t->tg->child_usage.majflt, (long long)(u.user_ns / TICK_NS),
		   (long long)(u.system_ns / TICK_NS), (long long)(t->tg->child_usage.user_ns / TICK_NS),
		   (long long)(t->tg->child_usage.system_ns / TICK_NS));
	seq_printf(q, "%d %d %u 0 %lld %llu %llu %llu ", 20 + t->nice, t->nice, live_threads(t),
		   (long long)((t->start_mono_ns + clock_now(CLOCK_BOOTTIME) - clock_mono()) / TICK_NS), (unsigned long long)mu.vsize,
		   (unsigned long long)((mu.rss_anon + mu.rss_file + mu.rss_shmem) >> 12),
		   (unsigned long long)UINT64_MAX);
	seq_printf(q, "%llu %llu %llu 0 0 %llu %llu %llu %llu 0 0 0 %d %d %u %u 0 0 0 ",
		   (unsigned long long)mi.start_code, (unsigned long long)mi.end_code,
		   (unsigned long long)mi.start_stack, (unsigned long long)(v.pending & INT32_MAX),
		   (unsigned long long)(v.blocked & INT32_MAX), (unsigned long long)(v.ignored & INT32_MAX),
		   (unsigned long long)(v.caught & INT32_MAX), t->tg->exit_signal, 0,
		   (unsigned)t->sched_priority, (unsigned)t->sched_policy);
	seq_printf(q, "%llu %llu %llu %llu %llu %llu %llu %u\n", (unsigned long long)mi.start_data,
		   (unsigned long long)mi.end_data, (unsigned long long)mi.start_brk,
		   (unsigned long long)mi.arg_start, (unsigned long long)mi.arg_end,
		   (unsigned long long)mi.env_start, (unsigned long long)mi.env_end, mm ? t->exit_status : 0);
	mm_put(usage_mm);
	mm_put(mm);
	return 0;
}

static int statm_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct mm *mm = task_get_mm(proc_task(s));
	struct mm_usage u = { 0 };

	(void)f;
	if (mm)
		mm_usage(mm, &u);
	seq_printf(q, "%llu %llu %llu %llu 0 %llu 0\n", (unsigned long long)u.vsize >> 12,
		   (unsigned long long)(u.rss_anon + u.rss_file + u.rss_shmem) >> 12,
		   (unsigned long long)(u.rss_file + u.rss_shmem) >> 12, (unsigned long long)u.text >> 12,
		   (unsigned long long)(u.data + u.stack) >> 12);
	mm_put(mm);
	return 0;
}

int64_t proc_read_memory(struct task *t, uint64_t addr, void *buf, size_t size)
{
	struct mm *mm = task_get_mm(t);
	struct umem *um;
	int64_t n;

	if (!mm)
		return 0;
	um = mm_umem(mm);
	n = um->ops->copy_in(um, buf, UADDR(addr), size);
	mm_put(mm);
	return n;
}

/* Appends [start, end) of the task's memory, as far as it can be read. */
static void seq_memory(struct task *t, struct seq *q, uint64_t start, uint64_t end)
{
	char buf[4096];

	while (start < end) {
		int64_t n = proc_read_memory(t, start, buf, MIN(sizeof(buf), (size_t)(end - start)));

		if (n <= 0)
			return;
		seq_write(q, buf, (size_t)n);
		start += (uint64_t)n;
	}
}

static int area_show(struct simple_inode *s, struct seq *q, bool env)
{
	struct mm *mm = task_get_mm(proc_task(s));
	struct mm_info i;

	if (!mm)
		return 0;
	mm_get_info(mm, &i);
	if (env) {
		seq_memory(proc_task(s), q, i.env_start, i.env_end);
	} else {
		char last = 0;

		/* A title written over argv (setproctitle) may run on into the environment. */
		if (i.arg_end > i.arg_start)
			(void)proc_read_memory(proc_task(s), i.arg_end - 1, &last, 1);
		seq_memory(proc_task(s), q, i.arg_start, i.arg_end);
		if (last && q->text) {
			size_t before = q->size;

			seq_memory(proc_task(s), q, i.arg_end, i.env_end);
			if (!q->failed)
				q->size = before + strnlen(q->text + before, q->size - before) + 0;
		}
	}
	mm_put(mm);
	return 0;
}

static int cmdline_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return area_show(s, q, false);
}

static int environ_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return area_show(s, q, true);
}

static int auxv_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct mm *mm = task_get_mm(proc_task(s));
	struct mm_info i;

	(void)f;
	if (!mm)
		return 0;
	mm_get_info(mm, &i);
	seq_write(q, i.auxv, i.auxv_count * sizeof(i.auxv[0]));
	mm_put(mm);
	return 0;
}

static int comm_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	char comm[TASK_COMM_SIZE];

	(void)f;
	comm_of(proc_task(s), comm);
	seq_printf(q, "%s\n", comm);
	return 0;
}

static int64_t comm_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	struct task *t = proc_task(s);
	size_t n = strcspn(text, "\n");

	(void)f;
	(void)pos;
	if (!current || current->tg != t->tg)
		return -EINVAL;
	GUARD(mutex, &t->mu);
	n = MIN(n, (size_t)TASK_COMM_SIZE - 1);
	memset(t->comm, 0, TASK_COMM_SIZE);
	memcpy(t->comm, text, n);
	return (int64_t)size;
}

static int limits_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	static const struct {
		const char *name, *unit;
	} row[GUEST_RLIM_NLIMITS] = {
		{ "Max cpu time", "seconds" },	      { "Max file size", "bytes" },
		{ "Max data size", "bytes" },	      { "Max stack size", "bytes" },
		{ "Max core file size", "bytes" },    { "Max resident set", "bytes" },
		{ "Max processes", "processes" },     { "Max open files", "files" },
		{ "Max locked memory", "bytes" },     { "Max address space", "bytes" },
		{ "Max file locks", "locks" },	      { "Max pending signals", "signals" },
		{ "Max msgqueue size", "bytes" },     { "Max nice priority", "" },
		{ "Max realtime priority", "" },      { "Max realtime timeout", "us" },
	};
	struct limits l;

	(void)f;
	mutex_lock(&taskset_mu);
	l = proc_task(s)->tg->limits;
	mutex_unlock(&taskset_mu);
	seq_printf(q, "%-25s %-20s %-20s %-10s\n", "Limit", "Soft Limit", "Hard Limit", "Units");
	for (int i = 0; i < GUEST_RLIM_NLIMITS; i++) {
		seq_printf(q, "%-25s ", row[i].name);
		for (int h = 0; h < 2; h++) {
			uint64_t v = h ? l.r[i].hard : l.r[i].soft;

			if (v == GUEST_RLIM_INFINITY)
				seq_printf(q, "%-20s ", "unlimited");
			else
				seq_printf(q, "%-20llu ", (unsigned long long)v);
		}
		seq_printf(q, *row[i].unit ? "%-10s\n" : "%s\n", row[i].unit);
	}
	return 0;
}

/* ---- mounts ---- */

struct mounts_arg {
	struct seq *q;
	struct path root; /* of the task */
	bool info;
};

static const struct {
	uint64_t flag;
	const char *text;
} mount_flag_names[] = {
	{ MS_NOSUID, ",nosuid" }, { MS_NODEV, ",nodev" },     { MS_NOEXEC, ",noexec" },
	{ MS_NOATIME, ",noatime" }, { MS_NODIRATIME, ",nodiratime" }, { MS_RELATIME, ",relatime" },
};

static void mount_flags(struct seq *q, uint64_t flags)
{
	seq_puts(q, flags & MS_RDONLY ? "ro" : "rw");
	for (unsigned i = 0; i < ARRAY_COUNT(mount_flag_names); i++) {
		if (flags & mount_flag_names[i].flag)
			seq_puts(q, mount_flag_names[i].text);
	}
}

static void mount_propagation(struct seq *q, const struct mount *m)
{
	if (m->peer_group)
		seq_printf(q, " shared:%d", m->peer_group);
	if (m->master)
		seq_printf(q, " master:%d", m->master->peer_group);
	if (m->unbindable)
		seq_puts(q, " unbindable");
}

static int mount_line(struct mount *m, void *arg)
{
	struct mounts_arg *a = arg;
	struct path at = { m, m->root };
	char text[PATH_MAX_GUEST], inside[PATH_MAX_GUEST];
	bool reachable = true;
	const char *options = m->sb->options ? m->sb->options : "";

	if (vfs_path_text(&at, &a->root, text, sizeof(text), &reachable) < 0 || !reachable)
		return 0;
	if (!a->info) {
		seq_escape(a->q, m->source ? m->source : "none", " \t\n#");
		seq_putc(a->q, ' ');
		seq_escape(a->q, text, " \t\n#");
		seq_printf(a->q, " %s ", m->sb->fstype);
		mount_flags(a->q, m->flags | (m->sb->readonly ? MS_RDONLY : 0));
		seq_printf(a->q, "%s%s 0 0\n", *options ? "," : "", options);
		return 0;
	}
	if (vfs_dentry_text(m->root, inside, sizeof(inside)) < 0)
		strcpy(inside, "/");
	seq_printf(a->q, "%d %d %u:%u ", m->id, m->parent ? m->parent->id : m->id, major(m->sb->dev),
		   minor(m->sb->dev));
	if (m->sb->root_name)
		seq_escape(a->q, m->sb->root_name, " \t\n#");
	if (!m->sb->root_name || inside[1])
		seq_escape(a->q, inside, " \t\n#");
	seq_putc(a->q, ' ');
	seq_escape(a->q, text, " \t\n#");
	seq_putc(a->q, ' ');
	mount_flags(a->q, m->flags);
	mount_propagation(a->q, m);
	seq_printf(a->q, " - %s ", m->sb->fstype);
	seq_escape(a->q, m->source ? m->source : "none", " \t\n#");
	seq_printf(a->q, " %s%s%s\n", m->sb->readonly ? "ro" : "rw", *options ? "," : "", options);
	return 0;
}

static int mounts_of(struct simple_inode *s, struct seq *q, bool info)
{
	struct fs_struct *fs = task_get_fs(proc_task(s));
	struct mounts_arg a = { .q = q, .info = info };
	struct mnt_ns *ns;
	int r;

	if (!fs)
		return -EINVAL;
	mutex_lock(&fs->mu);
	a.root = fs->root;
	path_get(&a.root);
	ns = mnt_ns_get(fs->mnt_ns);
	mutex_unlock(&fs->mu);
	r = mnt_ns_for_each(ns, mount_line, &a);
	mnt_ns_put(ns);
	path_put(&a.root);
	fs_struct_put(fs);
	return r;
}

static int mounts_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return mounts_of(s, q, false);
}

static int mountinfo_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	return mounts_of(s, q, true);
}

/* ---- small ones ---- */

static int cgroup_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct cgroup *cg = task_cgroup(proc_task(s));

	(void)f;
	/* The container is the root of its cgroup namespace; another one of the pod is not below it. */
	for (size_t i = 0; cg && cg->version == 1 && i < cgroup_hierarchy_count; i++)
		seq_printf(q, "%d:%s:%s\n", cgroup_hierarchies[i].number,
			   strncmp(cgroup_hierarchies[i].options, "xattr,", 6) ? cgroup_hierarchies[i].options :
										 cgroup_hierarchies[i].options + 6,
			   cg == task_cgroup(current) ? "/" : "/..");
	seq_printf(q, "0::%s\n", cg == task_cgroup(current) ? "/" : "/..");
	return 0;
}

static int oom_adj_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "%d\n", proc_task(s)->tg->oom_score_adj);
	return 0;
}

static int64_t oom_adj_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	struct thread_group *tg = proc_task(s)->tg;
	char *end;
	long v = strtol(text, &end, 10);

	(void)f;
	(void)pos;
	if (end == text || (*end && *end != '\n') || v < -1000 || v > 1000)
		return -EINVAL;
	if (v < tg->oom_score_adj && !task_capable_ns(current, &root_user_ns, 24 /* CAP_SYS_RESOURCE */))
		return -EACCES;
	tg->oom_score_adj = (int32_t)v;
	return (int64_t)size;
}

static int oom_score_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct mm *mm = task_get_mm(proc_task(s));
	struct mm_usage u = { 0 };
	struct cgroup *cg = task_cgroup(proc_task(s));
	uint64_t all = MIN(cg ? (uint64_t)cg->memory->limit : MEMORY_NO_LIMIT, memory_host());
	int64_t score;

	(void)f;
	if (mm)
		mm_usage(mm, &u);
	mm_put(mm);
	score = (int64_t)((u.rss_anon + u.rss_shmem) * 1000 / MAX(all, (uint64_t)1));
	score += proc_task(s)->tg->oom_score_adj;
	seq_printf(q, "%lld\n", (long long)MAX(score, (int64_t)0));
	return 0;
}

static int io_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)s;
	(void)f;
	seq_puts(q, "rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n"
		    "cancelled_write_bytes: 0\n");
	return 0;
}

static int personality_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "%08x\n", proc_task(s)->personality);
	return 0;
}

static int wchan_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const char *what = proc_task(s)->wait_what;

	(void)f;
	/* What the sentry calls the wait, made one word. */
	if (!what) {
		seq_putc(q, '0');
		return 0;
	}
	for (; *what; what++)
		seq_putc(q, *what == ' ' ? '_' : *what);
	return 0;
}

static int syscall_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct task *t = proc_task(s);

	(void)f;
	if (t->syscall_nr < 0)
		seq_puts(q, "running\n");
	else
		seq_printf(q, "%lld\n", (long long)t->syscall_nr);
	return 0;
}

static int schedstat_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	int64_t user, system;

	(void)f;
	task_cpu_times(proc_task(s), &user, &system);
	seq_printf(q, "%lld 0 %llu\n", (long long)(user + system), (unsigned long long)proc_task(s)->nvcsw);
	return 0;
}

static int children_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct task *t = proc_task(s);
	struct thread_group *c;

	(void)f;
	GUARD(mutex, &taskset_mu);
	list_for_each(c, &t->tg->children, sibling_node) {
		if (c->parent_task == t)
			seq_printf(q, "%d ", thread_group_pid_in(c, proc_ns(s)));
	}
	return 0;
}

/* Values that are kept or fixed; num picks the text. */
static int fixed_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_puts(q, s->ops->name[0] == 'l' ? "4294967295" :
		    s->ops->name[0] == 'c' ? "00000033\n" :
					     "/\n");
	return 0;
}

static int timerslack_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "%llu\n", (unsigned long long)proc_task(s)->timer_slack_ns);
	return 0;
}

#define TEXT_OPS(id, shower, ...)                                                                  \
	static const struct simple_ops id##_ops = { .name = #id,                                   \
						    .free = proc_free_task,                        \
						    .refresh = proc_refresh_owner,                 \
						    .show = shower,                                \
						    __VA_ARGS__ }
TEXT_OPS(status, status_show);
TEXT_OPS(stat, stat_show);
TEXT_OPS(statm, statm_show);
TEXT_OPS(cmdline, cmdline_show);
TEXT_OPS(environ, environ_show, .open = proc_open_private);
TEXT_OPS(auxv, auxv_show, .open = proc_open_private);
TEXT_OPS(comm, comm_show, .store = comm_store);
TEXT_OPS(limits, limits_show);
TEXT_OPS(mounts, mounts_show);
TEXT_OPS(mountinfo, mountinfo_show);
TEXT_OPS(cgroup, cgroup_show);
TEXT_OPS(oom_score_adj, oom_adj_show, .store = oom_adj_store);
TEXT_OPS(oom_score, oom_score_show);
TEXT_OPS(io, io_show, .open = proc_open_private);
TEXT_OPS(personality, personality_show, .open = proc_open_private);
TEXT_OPS(wchan, wchan_show);
TEXT_OPS(syscall, syscall_show, .open = proc_open_private);
TEXT_OPS(schedstat, schedstat_show);
TEXT_OPS(children, children_show);
TEXT_OPS(loginuid, fixed_show);
TEXT_OPS(coredump_filter, fixed_show);
TEXT_OPS(set, fixed_show);
TEXT_OPS(timerslack, timerslack_show);

const struct proc_entry proc_text_entries[] = {
	{ "status", S_IFREG | 0444, &status_ops, false },
	{ "stat", S_IFREG | 0444, &stat_ops, false },
	{ "statm", S_IFREG | 0444, &statm_ops, false },
	{ "cmdline", S_IFREG | 0444, &cmdline_ops, false },
	{ "environ", S_IFREG | 0400, &environ_ops, false },
	{ "auxv", S_IFREG | 0400, &auxv_ops, false },
	{ "comm", S_IFREG | 0644, &comm_ops, false },
	{ "limits", S_IFREG | 0444, &limits_ops, false },
	{ "mounts", S_IFREG | 0444, &mounts_ops, false },
	{ "mountinfo", S_IFREG | 0444, &mountinfo_ops, false },
	{ "cgroup", S_IFREG | 0444, &cgroup_ops, false },
	{ "oom_score_adj", S_IFREG | 0644, &oom_score_adj_ops, false },
	{ "oom_score", S_IFREG | 0444, &oom_score_ops, false },
	{ "io", S_IFREG | 0400, &io_ops, false },
	{ "personality", S_IFREG | 0400, &personality_ops, false },
	{ "wchan", S_IFREG | 0444, &wchan_ops, false },
	{ "syscall", S_IFREG | 0400, &syscall_ops, false },
	{ "schedstat", S_IFREG | 0444, &schedstat_ops, false },
	{ "children", S_IFREG | 0444, &children_ops, false },
	{ "loginuid", S_IFREG | 0644, &loginuid_ops, false },
	{ "sessionid", S_IFREG | 0444, &loginuid_ops, false },
	{ "coredump_filter", S_IFREG | 0644, &coredump_filter_ops, true },
	{ "cpuset", S_IFREG | 0444, &set_ops, false },
	{ "timerslack_ns", S_IFREG | 0666, &timerslack_ops, true },
	{ 0 },
};
