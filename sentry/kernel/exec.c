/* execve(2): a new program in the calling process. */
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/vfs/fs_ops.h"

#define ADDR_NO_RANDOMIZE_ 0x0040000u
#define PER_CLEAR_ON_SETID_ 0x0d40000u
#define SECBIT_NOROOT 1u
#define SECBIT_KEEP_CAPS 0x10u
#define CAP_ALL ((1ull << 41) - 1)
#define PTRACE_EVENT_EXEC_ 4

struct mm_limits task_mm_limits(const struct task *t)
{
	return (struct mm_limits){
		.as = task_rlimit(t, RLIMIT_AS),
		.data = task_rlimit(t, RLIMIT_DATA),
		.stack = task_rlimit(t, RLIMIT_STACK),
		.memlock = task_rlimit(t, RLIMIT_MEMLOCK),
	};
}

/* security.capability of a file, as linux/capability.h lays it out. */
struct file_caps {
	uint64_t permitted, inheritable;
	bool effective, present;
};

static void read_file_caps(struct file *f, const struct cred *cred, struct file_caps *ret)
{
	uint32_t raw[6] = { 0 };
	const struct path *p = file_path(f);
	int64_t n;
	uint32_t rev;

	*ret = (struct file_caps){ 0 };
	n = vfs_getxattr(p, cred, "security.capability", raw, sizeof(raw));
	if (n != 20 && n != 24)
		return;
	rev = raw[0] & 0xff000000u;
	if (rev != 0x02000000u && rev != 0x03000000u)
		return;
	ret->present = true;
	ret->effective = raw[0] & 1;
	ret->permitted = (raw[1] | (uint64_t)raw[3] << 32) & CAP_ALL;
	ret->inheritable = (raw[2] | (uint64_t)raw[4] << 32) & CAP_ALL;
}

/* Ids of a set-user-id or set-group-id file, where they count. True when an id changes. */
static bool apply_setid(struct task *t, struct file *f, struct cred *c)
{
	const struct path *p = file_path(f);
	struct kstat st;
	bool changed = false;

	if (c->no_new_privs || (p->mnt && (p->mnt->flags & MS_NOSUID)) || vfs_getattr(p, &st) < 0)
		return false;
	if (!(st.mode & (S_ISUID | S_ISGID)) || t->tracer)
		return false;
	if (user_ns_from_kuid(c->user_ns, st.uid) == ID_INVALID ||
	    user_ns_from_kgid(c->user_ns, st.gid) == ID_INVALID)
		return false;
	if (st.mode & S_ISUID) {
		changed |= c->euid.v != st.uid.v;
		c->euid = st.uid;
	}
	if ((st.mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP)) {
		changed |= c->egid.v != st.gid.v;
		c->egid = st.gid;
	}
	return changed;
}

/* The credentials after exec (capabilities(7), "Transformation of capabilities during execve()"). */
static int exec_cred(struct task *t, const struct loader_program *prog, const struct cred **ret,
		bool *ret_secure)
{
	struct cred *c = cred_dup(t->cred);
	uint64_t old_permitted = t->cred->cap_permitted, root_all;
	struct file_caps fc = { 0 };
	const struct path *p = file_path(prog->exe);
	bool setid, privileged;
	kuid_t root;

	if (!c)
		return -ENOMEM;
	setid = !prog->from_script && apply_setid(t, prog->exe, c);
	if (!c->no_new_privs && !(p->mnt && (p->mnt->flags & MS_NOSUID)))
		read_file_caps(prog->exe, t->cred, &fc);
	privileged = fc.present || setid;
	if (!(c->securebits & SECBIT_NOROOT) && user_ns_make_kuid(c->user_ns, 0, &root)) {
		root_all = c->cap_bounding | c->cap_inheritable;
		if (c->euid.v == root.v || c->ruid.v == root.v) {
			fc.permitted = fc.inheritable = root_all;
			privileged |= c->ruid.v != root.v;
		}
		if (c->euid.v == root.v)
			fc.effective = true;
	}
	if (privileged)
		c->cap_ambient = 0;
	c->cap_permitted = (c->cap_inheritable & fc.inheritable) | (fc.permitted & c->cap_bounding) | c->cap_ambient;
	if (c->no_new_privs)
		c->cap_permitted &= old_permitted | c->cap_ambient;
	c->cap_effective = fc.effective ? c->cap_permitted : c->cap_ambient;
	c->suid = c->fsuid = c->euid;
	c->sgid = c->fsgid = c->egid;
	c->securebits &= ~SECBIT_KEEP_CAPS;
	*ret_secure = setid || c->euid.v != c->ruid.v || c->egid.v != c->rgid.v ||
		      (fc.present && c->ruid.v != 0 && c->cap_effective != c->cap_ambient);
	*ret = c;
	return 0;
}

static bool siblings_alive(const struct task *t)
{
	struct task *it;

	list_for_each(it, &t->tg->tasks, group_node)
		if (it != t && !it->exited)
			return true;
	return false;
}

/* The calling thread takes the number of the dead leader, and its place. taskset_mu. */
static void become_leader(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct thread_group *child;
	struct task *old = tg->leader;
	struct pid *mine = t->pid;

	if (old == t)
		return;
	t->old_pid = pid_get(mine);
	t->pid = old->pid;
	old->pid = mine;
	t->pid->task = t;
	mine->task = old;
	tg->leader = t;
	list_for_each(child, &tg->children, sibling_node)
		if (child->parent_task == old)
			child->parent_task = t;
	t->start_mono_ns = old->start_mono_ns;
	list_del(&t->group_node);
	list_add(&tg->tasks, &t->group_node);
	task_unlink_locked(old);
}

int exec_dethread(struct task *t)
{
	struct thread_group *tg = t->tg;
	struct task *it;
	int err = 0;

	GUARD(mutex, &taskset_mu);
	if (tg->exiting || tg->exec_task || t->killed)
		return -EAGAIN;
	tg->exec_task = t;
	list_for_each(it, &tg->tasks, group_node) {
		if (it == t || it->exited)
			continue;
		it->killed = true;
		task_interrupt(it);
	}
	while (siblings_alive(t)) {
		mutex_unlock(&taskset_mu);
		err = task_block_killable(t, TIME_FOREVER, "exec");
		mutex_lock(&taskset_mu);
		if (err < 0)
			break;
	}
	tg->exec_task = NULL;
	if (err < 0)
		return -EAGAIN;
	become_leader(t);
	return 0;
}

static void set_comm(struct task *t, const char *filename)
{
	const char *slash = strrchr(filename, '/');

	GUARD(mutex, &t->mu);
	memset(t->comm, 0, sizeof(t->comm));
	strncpy(t->comm, slash ? slash + 1 : filename, sizeof(t->comm) - 1);
}

/* Tables that are shared across processes become private; close-on-exec descriptors go. */
static int unshare_for_exec(struct task *t)
{
	struct fdtable *old, *copy;

	if (!fdtable_shared(t->fdt))
		return 0;
	copy = fdtable_dup(t->fdt);
	if (!copy)
		return -ENOMEM;
	mutex_lock(&t->mu);
	old = t->fdt;
	t->fdt = copy;
	mutex_unlock(&t->mu);
	fdtable_put(old);
	return 0;
}

static int private_handlers(struct task *t)
{
	struct signal_handlers *copy, *old;

	GUARD(mutex, &taskset_mu);
	old = t->tg->handlers;
	if (refcount_read(&old->refs) > 1) {
		copy = signal_handlers_dup(old);
		if (!copy)
			return -ENOMEM;
		t->tg->handlers = copy;
		signal_handlers_put(old);
	}
	signal_exec_locked(t);
	return 0;
}

/* The old address space's last duties, and the new one in its place. */
static void swap_mm(struct task *t, struct mm *mm)
{
	struct mm *old = t->mm;

	if (old) {
		futex_exit_robust(t);
		if (t->clear_child_tid.v) {
			uint32_t zero = 0;

			(void)!copy_out_struct(task_umem(t), t->clear_child_tid, &zero);
			(void)futex_wake_addr(t, t->clear_child_tid, 1);
		}
	}
	t->clear_child_tid = t->robust_list = UADDR_NULL;
	t->robust_list_size = 0;
	mutex_lock(&t->mu);
	t->mm = mm;
	mutex_unlock(&t->mu);
	vfork_done(t);
	if (old)
		mm_put(old);
}

/* Nothing may fail from here on. */
static void commit(struct task *t, struct exec_args *a, const struct cred *cred, bool secure, struct mm *mm,
		   const struct loader_regs *r)
{
	struct thread_group *tg = t->tg;

	swap_mm(t, mm);
	if (secure) {
		t->personality &= ~PER_CLEAR_ON_SETID_;
		t->parent_death_signal = 0;
	}
	mm_set_dumpable(mm, secure ? 0 : 1);
	task_set_cred(t, cred);
	fdtable_close_on_exec(t->fdt);
	process_timers_exec(tg);
	set_comm(t, a->filename);
	t->altstack.sp = t->altstack.size = 0;
	t->altstack.flags = 2;
	t->timer_slack_ns = t->timer_slack_default_ns;
	arch_regs_exec(&t->ctx->regs, r->ip, r->sp);
	t->ctx->regs_valid = true;
	platform_regs_dirty(t->ctx);
	mutex_lock(&taskset_mu);
	tg->execed = true;
	tg->membarrier = 0;
	tg->exec_count++;
	tg->exit_signal = tg->parent ? SIGCHLD : tg->exit_signal;
	mutex_unlock(&taskset_mu);
}

int task_exec(struct task *t, struct exec_args *a)
{
	struct loader_program prog = { 0 };
	struct loader_map_args map = { .program = &prog, .strings = a->strings };
	const struct cred *cred = NULL;
	struct loader_regs regs = { 0 };
	struct walk w;
	struct mm *mm = NULL;
	bool secure = false;
	int32_t old_tid = task_tid_in(t, task_pid_ns(t));
	int err = task_walk(t, AT_FDCWD, &w);

	if (err < 0)
		return err;
	err = loader_prepare(&w, a->file, a->filename, a->strings,
			     loader_strings_limit(task_rlimit(t, RLIMIT_STACK)), &prog);
	walk_put(&w);
	if (err < 0)
		return err;
	if (prog.from_script && a->fd_closes)
		err = -ENOENT;
	if (err == 0)
		err = exec_cred(t, &prog, &cred, &secure);
	if (err == 0)
		err = mm_new(&mm);
	if (err < 0)
		goto out;
	map.cred = cred;
	map.secure = secure;
	map.randomize = !(t->personality & ADDR_NO_RANDOMIZE_);
	map.limits = task_mm_limits(t);
	map.stack_limit = map.limits.stack;
	err = loader_map(mm, &map, &regs);
	if (err == 0)
		err = exec_dethread(t);
	if (err == 0)
		err = unshare_for_exec(t);
	if (err == 0)
		err = private_handlers(t);
	if (err < 0)
		goto out;
	commit(t, a, TAKE(cred), secure, TAKE(mm), &regs);
	if (t->tracer && !ptrace_event(t, PTRACE_EVENT_EXEC_, (uint64_t)old_tid))
		ptrace_exec_trap(t);
out:
	if (mm)
		mm_put(mm);
	cred_put(cred);
	loader_program_fini(&prog);
	return err;
}
