/* clone(2), fork(2), vfork(2): makes a task from the calling one. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/ptrace.h"

#define CLONE_PIDFD_ 0x1000ull
#define CLONE_CLEAR_SIGHAND_ 0x100000000ull
#define CLONE_NEWTIME_ 0x80ull
#define CLONE_NEW_ALL                                                                              \
	((uint64_t)(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |     \
		    CLONE_NEWNET | CLONE_NEWCGROUP))
#define CAP_SYS_RESOURCE 24
#define CAP_SYS_ADMIN 21

/* Everything made for the child before it becomes visible; released on failure. */
struct child {
	const struct clone_args_kernel *a;
	struct task *parent;
	struct thread_group *tg;
	struct task *task;
	struct pid *pid;
	struct mm *mm;
	struct fdtable *fdt;
	struct fs_struct *fs;
	struct nsproxy *ns;
	const struct cred *cred;
	struct signal_handlers *handlers;
	struct task_birth *birth;
	struct file *pidfd_file;
	int pidfd;
};

static int check_flags(const struct clone_args_kernel *a, struct task *t)
{
	uint64_t f = a->flags;

	if ((f & CLONE_NEWNS) && (f & CLONE_FS))
		return -EINVAL;
	if ((f & CLONE_NEWUSER) && (f & (CLONE_FS | CLONE_THREAD)))
		return -EINVAL;
	if ((f & CLONE_THREAD) && !(f & CLONE_SIGHAND))
		return -EINVAL;
	if ((f & CLONE_SIGHAND) && !(f & CLONE_VM))
		return -EINVAL;
	if ((f & CLONE_SIGHAND) && (f & CLONE_CLEAR_SIGHAND_))
		return -EINVAL;
	if ((f & CLONE_PARENT) && signal_unkillable(t->tg))
		return -EINVAL;
	if ((f & CLONE_THREAD) && ((f & (CLONE_NEWPID | CLONE_NEWUSER)) ||
				   t->ns->pid_for_children != task_pid_ns(t)))
		return -EINVAL;
	if ((f & CLONE_NEWIPC) && (f & CLONE_SYSVSEM))
		return -EINVAL;
	if (f & CLONE_NEWTIME_)
		return -EINVAL;
	if ((f & CLONE_PIDFD_) && (f & (CLONE_THREAD | CLONE_DETACHED)))
		return -EINVAL;
	if (a->set_tid_count > t->ns->pid_for_children->level + 1u + !!(f & CLONE_NEWPID))
		return -EINVAL;
	return 0;
}

/* RLIMIT_NPROC: threads of the same real user. */
static bool too_many(struct task *t)
{
	uint64_t limit = task_rlimit(t, RLIMIT_NPROC), count = 0;
	struct task *it;

	if (limit == GUEST_RLIM_INFINITY || t->cred->ruid.v == 0 || task_capable(t, CAP_SYS_RESOURCE) ||
	    task_capable(t, CAP_SYS_ADMIN))
		return false;
	list_for_each(it, &all_tasks, all_node)
		if (!it->exited && it->cred->ruid.v == t->cred->ruid.v)
			count++;
	return count >= limit;
}

static int make_birth(struct child *c)
{
	struct task *t = c->parent;
	struct guest_regs *regs = platform_regs(t->ctx);
	uint8_t fpu[FPU_MAX] __attribute__((aligned(64), uninitialized));
	int64_t size;

	c->birth = calloc(1, sizeof(*c->birth));
	if (!c->birth)
		return -ENOMEM;
	if (!regs)
		return -EAGAIN;
	c->birth->regs = *regs;
	c->birth->regs.rax = 0;
	c->birth->regs.orig_rax = UINT64_MAX;
	if (c->a->has_stack)
		c->birth->regs.rsp = c->a->stack;
	if (c->a->flags & CLONE_SETTLS)
		c->birth->regs.fs_base = c->a->tls;
	size = t->ctx->ops->fpu_get(t->ctx, fpu, sizeof(fpu));
	if (size > 0) {
		c->birth->fpu = malloc((size_t)size);
		if (!c->birth->fpu)
			return -ENOMEM;
		memcpy(c->birth->fpu, fpu, (size_t)size);
		c->birth->fpu_size = (size_t)size;
	}
	return 0;
}

static int make_files(struct child *c)
{
	struct task *t = c->parent;
	uint64_t f = c->a->flags;

	c->fdt = f & CLONE_FILES ? fdtable_get_ref(t->fdt) : fdtable_dup(t->fdt);
	c->fs = f & CLONE_FS ? fs_struct_get(t->fs) : fs_struct_dup(t->fs);
	if (!c->fdt || !c->fs)
		return -ENOMEM;
	if (f & CLONE_NEWUSER) {
		int err = cred_new_user_ns(t, &c->cred);

		if (err < 0)
			return err;
	} else {
		c->cred = cred_get(t->cred);
	}
	if (!(f & CLONE_NEW_ALL & ~(uint64_t)CLONE_NEWUSER)) {
		c->ns = nsproxy_get(t->ns);
		return 0;
	}
	if (!cred_capable(c->cred, c->cred->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	return nsproxy_clone(t, f, c->cred->user_ns, c->fs, &c->ns);
}

static int make_memory(struct child *c)
{
	struct task *t = c->parent;
	const struct platform_ops *ops = t->ctx->ops;

	if (!(c->a->flags & CLONE_VM))
		return mm_fork(t->mm, t->ctx, &c->mm);
	if (ops->aspace_reserve) {
		int err = ops->aspace_reserve(mm_aspace(t->mm), t->ctx);

		if (err < 0)
			return err;
	}
	c->mm = mm_get(t->mm);
	return 0;
}

static int make_group(struct child *c)
{
	struct task *t = c->parent;
	uint64_t f = c->a->flags;

	if (f & CLONE_THREAD) {
		c->tg = thread_group_get(t->tg);
		return 0;
	}
	c->tg = thread_group_new(t->tg->container);
	if (!c->tg)
		return -ENOMEM;
	mutex_lock(&taskset_mu);
	if (f & CLONE_SIGHAND) {
		c->handlers = t->tg->handlers;
		refcount_get(&c->handlers->refs);
	} else {
		c->handlers = signal_handlers_dup(t->tg->handlers);
	}
	c->tg->limits = t->tg->limits;
	mutex_unlock(&taskset_mu);
	if (!c->handlers)
		return -ENOMEM;
	if (f & CLONE_CLEAR_SIGHAND_)
		for (int i = 0; i < GUEST_NSIG; i++)
			if (c->handlers->action[i].handler != 1)
				c->handlers->action[i] = (struct guest_sigaction){ 0 };
	c->tg->handlers = TAKE(c->handlers);
	c->tg->oom_score_adj = t->tg->oom_score_adj;
	c->tg->exit_signal = c->a->exit_signal;
	return 0;
}

/* Copies what a child inherits. Task thread of the parent. */
static void inherit(struct child *c)
{
	struct task *t = c->parent, *n = c->task;
	uint64_t f = c->a->flags;

	memcpy(n->comm, t->comm, sizeof(n->comm));
	n->mm = TAKE(c->mm);
	n->fdt = TAKE(c->fdt);
	n->fs = TAKE(c->fs);
	n->ns = TAKE(c->ns);
	n->cred = TAKE(c->cred);
	n->birth = TAKE(c->birth);
	n->blocked = t->restore_mask ? t->saved_mask : t->blocked;
	if (!(f & CLONE_VM) || (f & CLONE_VFORK)) {
		n->altstack.sp = t->altstack.sp;
		n->altstack.size = t->altstack.size;
		n->altstack.flags = t->altstack.flags;
	}
	if (f & CLONE_CHILD_CLEARTID)
		n->clear_child_tid = UADDR(c->a->child_tid);
	n->sched_policy = t->sched_policy;
	n->sched_priority = t->sched_priority;
	n->nice = t->nice;
	if (t->sched_reset_on_fork) {
		n->sched_policy = n->sched_priority = 0;
		n->nice = MAX(n->nice, 0);
	}
	memcpy(n->cpu_mask, t->cpu_mask, sizeof(n->cpu_mask));
	n->personality = t->personality;
	n->timer_slack_ns = n->timer_slack_default_ns = t->timer_slack_ns;
	n->seccomp = t->seccomp ? seccomp_filter_get(t->seccomp) : NULL;
	n->seccomp_mode = t->seccomp_mode;
	n->ioprio = t->ioprio;
	if (f & CLONE_IO)
		n->io_id = t->io_id;
	if (f & CLONE_SYSVSEM)
		n->undo_id = t->undo_id;
	if (t->sched_policy == 6 && !t->sched_reset_on_fork)
		n->sched_policy = 0; /* deadlines are not inherited */
	n->tsc_mode = t->tsc_mode;
}

/* Puts the child into the process tree. taskset_mu. */
static void link_locked(struct child *c)
{
	struct task *t = c->parent, *n = c->task;
	struct thread_group *tg = c->tg;
	struct pid_number *deepest = &c->pid->number[c->pid->level];

	c->pid->task = n;
	list_add_tail(&all_tasks, &n->all_node);
	list_add_tail(&tg->tasks, &n->group_node);
	task_get(n);
	tg->task_count++;
	tg->live_count++;
	tg->unfinished++;
	if (c->a->flags & CLONE_THREAD) {
		if (tg->group_stop && !tg->stopped) {
			n->stop_pending = true;
			tg->stop_count++;
			n->interrupt = true;
		}
		return;
	}
	tg->pid = pid_get(c->pid);
	tg->leader = n;
	if (c->a->flags & CLONE_PARENT) {
		tg->parent = t->tg->parent;
		tg->parent_task = t->tg->parent_task;
		tg->exit_signal = t->tg->exit_signal;
	} else {
		tg->parent = t->tg;
		tg->parent_task = t;
	}
	if (tg->parent)
		list_add_tail(&tg->parent->children, &tg->sibling_node);
	thread_group_set_pgrp_locked(tg, t->tg->pgrp);
	if (deepest->nr == 1 && deepest->ns->level > 0 && !deepest->ns->init)
		deepest->ns->init = tg;
}

static int publish(struct child *c)
{
	struct task *t = c->parent;
	struct pid_ns *ns = c->ns->pid_for_children;
	int event = c->a->flags & CLONE_VFORK ? 2 : c->a->exit_signal != SIGCHLD ? 3 : 1;
	int err;

	GUARD(mutex, &taskset_mu);
	if (t->killed || signal_wanted_locked(t))
		return -ERESTARTNOINTR;
	if (too_many(t))
		return -EAGAIN;
	if (c->a->flags & CLONE_THREAD)
		ns = task_pid_ns(t);
	err = pid_new(ns, c->a->set_tid, c->a->set_tid_count, &c->pid);
	if (err < 0)
		return err;
	err = task_new(c->tg, c->pid, &c->task);
	if (err < 0) {
		pid_unused(c->pid);
		return err;
	}
	inherit(c);
	link_locked(c);
	if (c->a->flags & CLONE_VFORK) {
		c->task->vfork_parent = task_get(t);
		t->vfork_waiting = true;
	}
	if (t->tracer)
		ptrace_fork_locked(t, c->task, event);
	return 0;
}

/* The host refused a thread: takes the child out again. */
static void unpublish(struct child *c)
{
	struct task *n = c->task;

	mutex_lock(&taskset_mu);
	c->parent->vfork_waiting = false;
	task_put(TAKE(n->vfork_parent));
	n->exited = true;
	c->tg->live_count--;
	c->tg->unfinished--;
	if (!(c->a->flags & CLONE_THREAD))
		c->tg->zombie = true;
	mutex_unlock(&taskset_mu);
	task_release_resources(n);
	mutex_lock(&taskset_mu);
	if (c->a->flags & CLONE_THREAD)
		task_unlink_locked(n);
	else
		thread_group_reap_locked(c->tg);
	mutex_unlock(&taskset_mu);
}

static int make_pidfd(struct child *c)
{
	int err;

	if (!(c->a->flags & CLONE_PIDFD_))
		return 0;
	err = fdtable_reserve(c->parent->fdt, 0, task_rlimit(c->parent, RLIMIT_NOFILE), true);
	if (err < 0)
		return err;
	c->pidfd = err;
	err = pidfd_file_new(c->tg, c->parent->cred, 0, &c->pidfd_file);
	if (err < 0)
		return err;
	return copy_out_struct(task_umem(c->parent), UADDR(c->a->pidfd), &c->pidfd);
}

static void child_cleanup(struct child *c, bool ok)
{
	if (c->pidfd >= 0) {
		if (ok)
			fdtable_commit(c->parent->fdt, c->pidfd, c->pidfd_file);
		else
			fdtable_cancel(c->parent->fdt, c->pidfd);
	}
	file_put(c->pidfd_file);
	task_put(c->task);
	pid_put(c->pid);
	signal_handlers_put(c->handlers);
	if (c->mm)
		mm_put(c->mm);
	if (c->fdt)
		fdtable_put(c->fdt);
	if (c->fs)
		fs_struct_put(c->fs);
	nsproxy_put(c->ns);
	cred_put(c->cred);
	if (c->birth) {
		free(c->birth->fpu);
		free(c->birth);
	}
	thread_group_put(c->tg);
}

int64_t task_clone(struct task *t, const struct clone_args_kernel *a)
{
	struct child c = { .a = a, .parent = t, .pidfd = -1 };
	struct mm *mm = NULL;
	int32_t tid;
	int64_t ret = check_flags(a, t);

	if (ret < 0 || (ret = make_files(&c)) < 0 || (ret = make_group(&c)) < 0 ||
	    (ret = make_pidfd(&c)) < 0 || (ret = make_birth(&c)) < 0 || (ret = make_memory(&c)) < 0)
		goto out;
	mm = mm_get(c.mm);
	ret = publish(&c);
	if (ret < 0)
		goto out;
	tid = task_tid_in(c.task, task_pid_ns(t));
	/* Like Linux, a bad address here is not the call's failure. */
	if ((a->flags & CLONE_CHILD_SETTID)) {
		int32_t own = pid_nr_in(c.pid, c.pid->number[c.pid->level].ns);

		(void)!copy_out_struct(mm_umem(mm), UADDR(a->child_tid), &own);
	}
	if (a->flags & CLONE_PARENT_SETTID)
		(void)!copy_out_struct(task_umem(t), UADDR(a->parent_tid), &tid);
	ret = task_start(c.task);
	if (ret < 0) {
		unpublish(&c);
		ret = -EAGAIN;
		goto out;
	}
	ret = tid;
	if (!(a->flags & CLONE_THREAD))
		cpu_limit_changed(c.tg);
	if (t->tracer)
		(void)ptrace_event(t,
			a->flags & CLONE_VFORK ? 2 : a->exit_signal != SIGCHLD ? 3 : 1, (uint64_t)tid);
out:
	child_cleanup(&c, ret >= 0);
	if (mm)
		mm_put(mm);
	return ret;
}

/* The child has its own memory again (exec) or ended: lets its vfork parent go on. Task thread. */
void vfork_done(struct task *t)
{
	struct task *parent;

	if (!t->vfork_parent)
		return;
	mutex_lock(&taskset_mu);
	parent = TAKE(t->vfork_parent);
	if (parent) {
		parent->vfork_waiting = false;
		task_wake(parent);
	}
	mutex_unlock(&taskset_mu);
	task_put(parent);
}

enum run_state run_vfork_wait(struct task *t)
{
	while (t->vfork_waiting && !t->killed)
		(void)!task_block_killable(t, TIME_FOREVER, "vfork");
	t->vfork_waiting = false;
	if (!t->killed && t->tracer && ptrace_event(t, 5, 0) && ptrace_event_stop(t)) {
		t->ptrace_next = RUN_INTERRUPT;
		return RUN_PTRACE_STOP;
	}
	return RUN_INTERRUPT;
}
