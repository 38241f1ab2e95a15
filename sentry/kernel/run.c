/* The state machine of a task: guest code, system calls, interrupts. */
#include <linux/audit.h>
#include <string.h>

#include "platform/base/log.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/kernel/seccomp.h"

void task_account_system(struct task *t)
{
	int64_t start = t->switch_ns;

	if (start)
		t->system_ns += clock_mono() - start;
}

static void fault(struct task *t, int signo, int code, uint64_t addr)
{
	struct guest_siginfo info = { .signo = signo, .code = code };

	info.fault.addr = addr;
	signal_force(t, &info);
}

static void page_fault(struct task *t)
{
	int signo = SIGSEGV, code = 0;

	t->minflt++;
	if (mm_fault(t->mm, &t->ctx->fault, 0, &signo, &code) < 0)
		fault(t, signo, code, t->ctx->fault.addr);
}

static _Atomic bool all_calls_seen; /* facts are given to no task */

void kernel_see_all_calls(bool on)
{
	struct task *t;

	all_calls_seen = on;
	GUARD(mutex, &taskset_mu);
	list_for_each(t, &all_tasks, all_node)
		if (!t->exited)
			task_interrupt(t); /* out of guest code, to run_app */
}

static bool facts_allowed(const struct task *t)
{
	return !t->tracer && (!t->seccomp_mode || seccomp_facts_allowed(t)) && !all_calls_seen;
}

/*
 * Tells the backend what it may answer itself: nothing when somebody wants to see the calls, or when the ids may change
 * without a change of the task's credentials (a user namespace has no map until another process writes it, once).
 */
static void facts_update(struct task *t)
{
	const struct platform_ops *ops = t->ctx->ops;
	const struct cred *c = t->cred;
	struct platform_facts facts;
	bool give = facts_allowed(t) && user_ns_mapped(c->user_ns);

	t->facts = facts_allowed(t) ? FACTS_ALLOWED : FACTS_FORBIDDEN;
	if (!ops->facts_set)
		return;
	facts.value[FACT_PID] = (uint32_t)thread_group_pid_in(t->tg, task_pid_ns(t));
	facts.value[FACT_TID] = (uint32_t)task_tid_in(t, task_pid_ns(t));
	facts.value[FACT_UID] = user_ns_from_kuid_munged(c->user_ns, c->ruid);
	facts.value[FACT_EUID] = user_ns_from_kuid_munged(c->user_ns, c->euid);
	facts.value[FACT_GID] = user_ns_from_kgid_munged(c->user_ns, c->rgid);
	facts.value[FACT_EGID] = user_ns_from_kgid_munged(c->user_ns, c->egid);
	ops->facts_set(t->ctx, give ? &facts : NULL);
}

/* Adds the time since switch_ns to *total and begins a new stretch. Only the owner writes: no locked instruction. */
static inline void account(struct task *t, _Atomic int64_t *total)
{
	int64_t now = clock_mono(), was = atomic_load_explicit(total, memory_order_relaxed),
		start = atomic_load_explicit(&t->switch_ns, memory_order_relaxed);

	atomic_store_explicit(total, was + now - start, memory_order_relaxed);
	atomic_store_explicit(&t->switch_ns, now, memory_order_relaxed);
}

static enum run_state run_app(struct task *t)
{
	struct pcontext *ctx = t->ctx;
	enum switch_why why;

	if (unlikely(t->interrupt))
		return RUN_INTERRUPT;
	if (unlikely(atomic_load_explicit(&cpu_quotas, memory_order_relaxed))) {
		cpu_quota_gate(t);
		if (t->killed)
			return RUN_INTERRUPT;
	}
	if (unlikely(t->facts != (facts_allowed(t) ? FACTS_ALLOWED : FACTS_FORBIDDEN)))
		facts_update(t);
	account(t, &t->system_ns);
	t->in_app = true;
	if (unlikely(t->interrupt)) {
		t->in_app = false;
		return RUN_INTERRUPT;
	}
	why = ctx->ops->context_switch(ctx, mm_aspace(t->mm));
	t->in_app = false;
	account(t, &t->user_ns);
	switch (why) {
	case SWITCH_SYSCALL:
		return RUN_SYSCALL;
	case SWITCH_FAULT:
		page_fault(t);
		return RUN_APP;
	case SWITCH_SIGNAL:
		fault(t, ctx->signal.signo, ctx->signal.code, ctx->signal.addr);
		return RUN_INTERRUPT;
	case SWITCH_INTERRUPT:
		t->nivcsw++;
		return RUN_INTERRUPT;
	case SWITCH_DEAD:
		break;
	}
	log_warn("a guest process ends: its host process is gone");
	thread_group_exit_self(t, SIGKILL);
	return RUN_EXIT;
}

/* The platform counted many calls from one place. Not for a program that is traced. */
static void rewrite_site(struct task *t)
{
	uint64_t ip = t->ctx->hot_ip;

	t->ctx->hot_ip = 0;
	if (!t->tracer)
		(void)!mm_rewrite_site(t->mm, t->ctx, ip);
}

static enum run_state run_syscall(struct task *t)
{
	if (unlikely(t->ctx->hot_ip))
		rewrite_site(t);
	t->syscall_nr = t->ctx->syscall.nr;
	t->in_syscall = true;
	if (unlikely(t->tracer) && ptrace_syscall_entry(t)) {
		t->ptrace_next = RUN_SYSCALL_DO;
		return RUN_PTRACE_STOP;
	}
	return RUN_SYSCALL_DO;
}

static enum run_state run_syscall_do(struct task *t)
{
	const struct platform_syscall *sc = &t->ctx->syscall;

	if (unlikely(t->tracer) && !ptrace_syscall_resume(t, &t->result))
		return RUN_SYSCALL_EXIT;
	if (unlikely(t->seccomp_mode)) {
		int64_t ret = -ENOSYS;

		switch (seccomp_check(t, &ret)) {
		case SECCOMP_DO_ALLOW:
			break;
		case SECCOMP_DO_RETURN:
			t->result = ret;
			return RUN_SYSCALL_EXIT;
		case SECCOMP_DO_STOP:
			t->ptrace_next = RUN_SYSCALL_DO;
			return RUN_PTRACE_STOP;
		case SECCOMP_DO_KILL:
			return RUN_EXIT;
		}
	}
	if (likely(sc->audit_arch == AUDIT_ARCH_X86_64))
		t->result = syscall_dispatch(t, t->syscall_nr, sc->arg);
	else
		t->result = -ENOSYS;
	if (unlikely(sc->vsyscall && t->result == -EFAULT)) {
		/* The vsyscall page is code to the guest: it faults where a call would refuse. */
		struct guest_siginfo segv = siginfo_kernel(SIGSEGV);

		signal_force(t, &segv);
	}
	return RUN_SYSCALL_EXIT;
}

static inline bool is_restart(int64_t r)
{
	return r <= -ERESTARTSYS && r >= -ERESTART_RESTARTBLOCK;
}

static enum run_state run_syscall_exit(struct task *t)
{
	int64_t r = t->result;

	if (unlikely(t->killed))
		return RUN_EXIT;
	if (unlikely(t->tracer) && ptrace_event_stop(t)) {
		t->ptrace_next = RUN_SYSCALL_EXIT;
		return RUN_PTRACE_STOP;
	}
	if (likely(r != -EJUSTRETURN) && (!is_restart(r) || t->tracer))
		t->ctx->ops->set_result(t->ctx, r);
	if (!is_restart(r))
		t->in_syscall = false;
	else
		t->interrupt = true;
	if (unlikely(t->restore_mask) && r != -EINTR && !is_restart(r) && r != -EJUSTRETURN)
		signal_mask_restore(t);
	if (unlikely(t->tracer))
		ptrace_step_over_call(t);
	if (unlikely(t->tracer) && ptrace_syscall_exit(t)) {
		t->ptrace_next = t->vfork_waiting ? RUN_VFORK_WAIT : RUN_INTERRUPT;
		return RUN_PTRACE_STOP;
	}
	t->syscall_nr = -1;
	if (unlikely(t->vfork_waiting))
		return RUN_VFORK_WAIT;
	if (unlikely(t->over_limit))
		oom_settle(t);
	return unlikely(t->interrupt || t->restore_mask) ? RUN_INTERRUPT : RUN_APP;
}

void task_run(struct task *t)
{
	static enum run_state (*const run[RUN_STATES])(struct task *) = {
		[RUN_APP] = run_app,
		[RUN_SYSCALL] = run_syscall,
		[RUN_SYSCALL_DO] = run_syscall_do,
		[RUN_SYSCALL_EXIT] = run_syscall_exit,
		[RUN_INTERRUPT] = run_interrupt,
		[RUN_GROUP_STOP] = run_group_stop,
		[RUN_PTRACE_STOP] = run_ptrace_stop,
		[RUN_VFORK_WAIT] = run_vfork_wait,
		[RUN_EXIT] = run_exit,
	};
	enum run_state state = t->killed ? RUN_EXIT : RUN_INTERRUPT;

	t->switch_ns = clock_mono();
	while (state != RUN_DEAD)
		state = run[state](t);
}
