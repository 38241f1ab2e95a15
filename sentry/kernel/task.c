/* Birth, references and lookups of tasks and thread groups. */
#include <stdlib.h>
#include <string.h>

#include "platform/base/log.h"
#include "platform/host/thread.h"
#include "sentry/mm/account.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/seccomp.h"

struct mutex taskset_mu;
struct list_node all_tasks = LIST_INIT(all_tasks);
_Thread_local struct task *current;

static void limits_default(struct limits *l)
{
	for (unsigned i = 0; i < GUEST_RLIM_NLIMITS; i++)
		l->r[i].soft = l->r[i].hard = GUEST_RLIM_INFINITY;
}

/*
 * A process without tasks, parent or group; one reference. c is borrowed, the group takes a
 * reference. NULL when out of memory.
 */
struct thread_group *thread_group_new(struct container *c)
{
	struct thread_group *tg = calloc(1, sizeof(*tg));

	if (!tg)
		return NULL;
	refcount_init(&tg->refs, 1);
	list_init(&tg->tasks);
	list_init(&tg->children);
	list_init(&tg->sibling_node);
	list_init(&tg->pgrp_node);
	sigqueue_init(&tg->pending);
	waitq_init(&tg->child_waitq);
	waitq_init(&tg->pidfd_waitq);
	waitq_init(&tg->signal_waitq);
	limits_default(&tg->limits);
	cpu_limit_init(tg);
	tg->container = c ? container_get(c) : NULL;
	tg->exit_signal = SIGCHLD;
	tg->start_mono_ns = clock_mono();
	tg->start_real_ns = clock_now(CLOCK_REALTIME);
	if (process_timers_init(tg) < 0) {
		thread_group_put(tg);
		return NULL;
	}
	return tg;
}

struct thread_group *thread_group_get(struct thread_group *tg)
{
	refcount_get(&tg->refs);
	return tg;
}

void thread_group_put(struct thread_group *tg)
{
	if (!tg || !refcount_put(&tg->refs))
		return;
	if (tg->posix_timers)
		process_timers_exit(tg);
	sigqueue_flush(&tg->pending);
	signal_handlers_put(tg->handlers);
	process_group_put(tg->pgrp);
	pid_put(tg->pid);
	waitq_fini(&tg->child_waitq);
	waitq_fini(&tg->pidfd_waitq);
	waitq_fini(&tg->signal_waitq);
	container_put(tg->container);
	free(tg);
}

static _Atomic uint64_t next_share_id;

/*
 * A task of tg with its id; not yet on any list, without mm, files, credentials. One reference.
 * Takes references on tg and pid. -ENOMEM, -EAGAIN: limit of the container's tasks.
 */
int task_new(struct thread_group *tg, struct pid *pid, struct task **ret_task)
{
	struct task *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	err = tg->container ? cgroup_charge_task(container_cgroup(tg->container)) : 0;
	if (err < 0) {
		free(t);
		return err;
	}
	t->charged = tg->container;
	refcount_init(&t->refs, 1);
	t->tg = thread_group_get(tg);
	t->pid = pid_get(pid);
	mutex_init(&t->mu, LOCK_LEAF);
	list_init(&t->group_node);
	list_init(&t->all_node);
	list_init(&t->tracees);
	list_init(&t->tracee_node);
	sigqueue_init(&t->pending);
	t->altstack.flags = 2; /* SS_DISABLE */
	t->syscall_nr = -1;
	t->timer_slack_ns = t->timer_slack_default_ns = 50000;
	t->io_id = t->undo_id = ++next_share_id;
	t->start_mono_ns = clock_mono();
	for (uint32_t i = 0; i < task_cpu_count(t); i++)
		t->cpu_mask[i / 64] |= 1ull << (i % 64);
	*ret_task = t;
	return 0;
}

struct task *task_get(struct task *t)
{
	refcount_get(&t->refs);
	return t;
}

void task_uncharge(struct task *t)
{
	if (t->charged)
		cgroup_uncharge_task(container_cgroup(t->tg->container));
	t->charged = false;
}

void task_put(struct task *t)
{
	if (!t || !refcount_put(&t->refs))
		return;
	BUG_ON(t->mm || t->fdt || t->ctx);
	task_uncharge(t);
	sigqueue_flush(&t->pending);
	if (t->birth) {
		free(t->birth->fpu);
		free(t->birth);
	}
	ptrace_free(t);
	seccomp_filter_put(t->seccomp);
	cred_put(t->cred);
	pid_put(t->pid);
	pid_put(t->old_pid);
	mutex_fini(&t->mu);
	thread_group_put(t->tg);
	free(t);
}

/* First thing on the new thread: processor context, start registers, then the state machine. */
static void *task_thread(void *arg)
{
	struct task *t = arg;
	struct task_birth *b = t->birth;
	struct pcontext *ctx = NULL;
	int err;

	current = t;
	t->thread = pthread_self();
	memory_set_self(t->charged ? task_cgroup(t)->memory : NULL);
	t->host_tid = gettid();
	err = kernel_platform->ops->context_new(kernel_platform, &ctx);
	if (err == 0) {
		mutex_lock(&t->mu);
		t->ctx = ctx;
		mutex_unlock(&t->mu);
		mm_set_self(ctx);
		if (b->load) {
			err = b->load(t, b->arg);
		} else {
			ctx->regs = b->regs;
			ctx->regs_valid = true;
			platform_regs_dirty(ctx);
			if (b->fpu)
				err = ctx->ops->fpu_set(ctx, b->fpu, b->fpu_size);
		}
	} else {
		log_warn("no processor context for a new task: %s", strerror(-err));
		if (b->load)
			err = b->load(t, b->arg);
	}
	if (err < 0)
		thread_group_exit_self(t, SIGKILL);
	free(b->fpu);
	t->birth = NULL;
	free(b);
	task_run(t);
	current = NULL;
	task_put(t);
	return NULL;
}

int task_start(struct task *t)
{
	int err;

	BUG_ON(!t->birth);
	task_get(t);
	err = host_thread_start(t->comm, TASK_STACK, task_thread, t);
	if (err < 0)
		task_put(t);
	return err;
}

void task_release_files(struct task *t)
{
	struct fdtable *fdt;
	struct fs_struct *fs;
	struct nsproxy *ns;

	mutex_lock(&t->mu);
	fdt = TAKE(t->fdt);
	fs = TAKE(t->fs);
	ns = TAKE(t->ns);
	mutex_unlock(&t->mu);
	if (fdt)
		fdtable_put(fdt);
	if (fs)
		fs_struct_put(fs);
	nsproxy_put(ns);
}

void task_release_resources(struct task *t)
{
	struct mm *mm;
	struct pcontext *ctx;

	mutex_lock(&t->mu);
	mm = TAKE(t->mm);
	ctx = TAKE(t->ctx);
	mutex_unlock(&t->mu);
	/* The context goes first: it may still hold a place in the address space. */
	mm_set_self(NULL);
	if (ctx)
		ctx->ops->context_free(ctx);
	if (mm)
		mm_put(mm);
	task_release_files(t);
}

struct umem *task_umem(struct task *t)
{
	return mm_umem(t->mm);
}

struct mm *task_get_mm(struct task *t)
{
	GUARD(mutex, &t->mu);
	return t->mm ? mm_get(t->mm) : NULL;
}

struct fdtable *task_get_fdtable(struct task *t)
{
	GUARD(mutex, &t->mu);
	return t->fdt ? fdtable_get_ref(t->fdt) : NULL;
}

struct fs_struct *task_get_fs(struct task *t)
{
	GUARD(mutex, &t->mu);
	return t->fs ? fs_struct_get(t->fs) : NULL;
}

const struct cred *task_get_cred(struct task *t)
{
	GUARD(mutex, &t->mu);
	return cred_get(t->cred);
}

void task_set_cred(struct task *t, const struct cred *cred)
{
	const struct cred *old;

	mutex_lock(&t->mu);
	old = t->cred;
	t->cred = cred;
	t->facts = FACTS_STALE;
	mutex_unlock(&t->mu);
	cred_put(old);
}

bool task_capable(struct task *t, int cap)
{
	return cred_capable(t->cred, t->cred->user_ns, cap);
}

bool task_capable_ns(struct task *t, const struct user_ns *ns, int cap)
{
	return cred_capable(t->cred, ns, cap);
}

#define CAP_SYS_PTRACE 19

bool task_may_access(struct task *t, struct task *target, bool attach)
{
	AUTO(cred_put) const struct cred *c = NULL;
	struct mm *mm;
	uint32_t uid, gid;
	bool dumpable = true;

	if (t->tg == target->tg)
		return true;
	c = task_get_cred(target);
	uid = attach ? t->cred->ruid.v : t->cred->fsuid.v;
	gid = attach ? t->cred->rgid.v : t->cred->fsgid.v;
	if (!(uid == c->euid.v && uid == c->suid.v && uid == c->ruid.v && gid == c->egid.v &&
	      gid == c->sgid.v && gid == c->rgid.v) &&
	    !cred_capable(t->cred, c->user_ns, CAP_SYS_PTRACE))
		return false;
	mm = task_get_mm(target);
	if (mm) {
		dumpable = mm_dumpable(mm) == 1;
		mm_put(mm);
	}
	if (!dumpable && !cred_capable(t->cred, c->user_ns, CAP_SYS_PTRACE))
		return false;
	if (t->cred->user_ns == c->user_ns && !(c->cap_permitted & ~t->cred->cap_effective))
		return true;
	if (t->cred->user_ns == c->user_ns && !attach && !(c->cap_permitted & ~t->cred->cap_permitted))
		return true;
	return cred_capable(t->cred, c->user_ns, CAP_SYS_PTRACE);
}

void task_cpu_times(const struct task *t, int64_t *ret_user_ns, int64_t *ret_system_ns)
{
	int64_t start = t->switch_ns, open = start ? MAX(clock_mono() - start, (int64_t)0) : 0;

	*ret_user_ns = t->user_ns + (t->in_app ? open : 0);
	*ret_system_ns = t->system_ns + (t->in_app ? 0 : open);
}

void thread_group_usage_locked(struct thread_group *tg, struct cpu_usage *ret)
{
	struct task *t;

	mutex_assert_held(&taskset_mu);
	*ret = tg->dead_usage;
	list_for_each(t, &tg->tasks, group_node) {
		int64_t user, sys;

		if (t->exited)
			continue;
		task_cpu_times(t, &user, &sys);
		ret->user_ns += user;
		ret->system_ns += sys;
		ret->minflt += t->minflt;
		ret->majflt += t->majflt;
		ret->nvcsw += t->nvcsw;
		ret->nivcsw += t->nivcsw;
	}
}

void thread_group_usage(struct thread_group *tg, struct cpu_usage *ret)
{
	GUARD(mutex, &taskset_mu);
	thread_group_usage_locked(tg, ret);
}

int32_t thread_group_ppid_in(struct thread_group *tg, const struct pid_ns *ns)
{
	GUARD(mutex, &taskset_mu);
	return tg->parent ? pid_nr_in(tg->parent->pid, ns) : 0;
}

char task_state_letter(struct task *t)
{
	GUARD(mutex, &taskset_mu);
	if (t->exited)
		return t->tg->reaped ? 'X' : 'Z';
	if (t->tracer && t->stopped)
		return 't';
	if (t->stopped)
		return 'T';
	if (t->vfork_waiting)
		return 'D';
	return task_sleeping(t) ? 'S' : 'R';
}

uint64_t task_rlimit(const struct task *t, int resource)
{
	return __atomic_load_n(&t->tg->limits.r[resource].soft, __ATOMIC_RELAXED);
}

void task_interrupt(struct task *t)
{
	t->interrupt = true;
	if (t->in_app) {
		mutex_lock(&t->mu);
		if (t->ctx)
			t->ctx->ops->context_interrupt(t->ctx);
		mutex_unlock(&t->mu);
	}
	task_wake(t);
}
