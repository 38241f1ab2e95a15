/* Delivery of signals, and stopping by job control: the states RUN_INTERRUPT and RUN_GROUP_STOP. */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/ptrace.h"

#define NR_RESTART_SYSCALL 219
#define SYSCALL_INSN_SIZE 2
#define SS_AUTODISARM_ (1u << 31)
#define SS_DISABLE_ 2

/* The interrupted system call begins again: the program counter goes back to its instruction. */
static void restart_syscall(struct task *t, struct guest_regs *regs)
{
	regs->rax = t->result == -ERESTART_RESTARTBLOCK ? NR_RESTART_SYSCALL : (uint64_t)t->ctx->syscall.nr;
	regs->rip -= SYSCALL_INSN_SIZE;
}

/* A handler is about to run: what does the interrupted call return? signal(7) */
static void result_before_handler(struct task *t, struct guest_regs *regs, uint64_t sa_flags)
{
	if (!t->in_syscall)
		return;
	t->in_syscall = false;
	switch (-t->result) {
	case ERESTARTNOINTR:
		restart_syscall(t, regs);
		return;
	case ERESTARTSYS:
		if (sa_flags & SA_RESTART) {
			restart_syscall(t, regs);
			return;
		}
		break;
	}
	regs->rax = (uint64_t)-EINTR;
}

/* Writes the frame and starts the handler. On a bad stack the process gets SIGSEGV. Task thread. */
static void call_handler(struct task *t, const struct guest_sigaction *act,
		const struct guest_siginfo *info)
{
	uint8_t fpu[FPU_MAX] __attribute__((aligned(64), uninitialized));
	struct guest_regs *regs = platform_regs(t->ctx);
	struct arch_signal s = { .handler = act->handler, .restorer = act->restorer,
				 .flags = act->flags, .signo = info->signo, .info = info };
	int64_t fpu_size;
	sigset_kernel mask;

	if (!regs) {
		thread_group_exit_self(t, SIGKILL);
		return;
	}
	result_before_handler(t, regs, act->flags);
	s.mask = t->restore_mask ? t->saved_mask : t->blocked;
	s.altstack = (struct arch_altstack){ t->altstack.sp, t->altstack.size, t->altstack.flags };
	if (info->code > 0 && (info->signo == SIGSEGV || info->signo == SIGBUS))
		s.trap = (struct arch_trap){ 14, 4u | (t->ctx->fault.access & PLATFORM_WRITE ? 2u : 0u),
					     info->fault.addr };
	fpu_size = t->ctx->ops->fpu_get(t->ctx, fpu, sizeof(fpu));
	s.fpu = fpu;
	s.fpu_size = fpu_size > 0 ? MIN((size_t)fpu_size, arch_fpu_size()) : 0;
	platform_regs_dirty(t->ctx);
	if (arch_signal_frame(task_umem(t), &s, regs) < 0) {
		struct guest_siginfo segv = siginfo_kernel(SIGSEGV);

		if (info->signo == SIGSEGV) {
			mutex_lock(&taskset_mu);
			t->tg->handlers->action[SIGSEGV - 1].handler = 0;
			mutex_unlock(&taskset_mu);
		}
		signal_force(t, &segv);
		return;
	}
	if (fpu_size > 0)
		(void)t->ctx->ops->fpu_set(t->ctx, fpu, arch_fpu_initial(fpu, sizeof(fpu)));
	if ((uint32_t)t->altstack.flags & SS_AUTODISARM_) {
		t->altstack.sp = t->altstack.size = 0;
		t->altstack.flags = SS_DISABLE_;
	}
	t->restore_mask = false;
	mask = t->blocked | act->mask;
	if (!(act->flags & SA_NODEFER))
		mask |= SIGMASK(info->signo);
	signal_set_mask(t, mask);
}

/* A stop signal takes effect: every thread of the process is to stop. taskset_mu. */
static void group_stop_begin_locked(struct thread_group *tg, int signo)
{
	struct task *t;

	if (tg->group_stop || tg->exiting)
		return;
	tg->group_stop = true;
	tg->stop_signal = (uint8_t)signo;
	tg->stop_count = 0;
	list_for_each(t, &tg->tasks, group_node) {
		if (t->exited || t->stopped)
			continue;
		t->stop_pending = true;
		tg->stop_count++;
		task_interrupt(t);
	}
}

uint32_t signal_core_status(const struct thread_group *tg, int signo)
{
	bool core = signal_default_action(signo) == SIGDFL_CORE && tg->limits.r[RLIMIT_CORE].soft;

	return (uint32_t)signo | (core ? 0x80 : 0);
}

enum step { STEP_NEXT, STEP_HANDLER, STEP_STOP, STEP_EXIT };

/* What becomes of a dequeued signal. taskset_mu. Copies the action for STEP_HANDLER. */
static enum step judge_locked(struct task *t, const struct guest_siginfo *info,
		struct guest_sigaction *ret_act)
{
	struct thread_group *tg = t->tg;
	struct guest_sigaction *act = &tg->handlers->action[info->signo - 1];

	if (info->signo != SIGKILL && act->handler == 1)
		return STEP_NEXT;
	if (info->signo != SIGKILL && info->signo != SIGSTOP && act->handler != 0) {
		*ret_act = *act;
		if (act->flags & SA_RESETHAND)
			act->handler = 0;
		return STEP_HANDLER;
	}
	switch (signal_default_action(info->signo)) {
	case SIGDFL_IGNORE:
		return STEP_NEXT;
	case SIGDFL_STOP:
		if (signal_unkillable(tg) && info->signo != SIGSTOP)
			return STEP_NEXT;
		if (info->signo != SIGSTOP && process_group_orphaned_locked(tg->pgrp))
			return STEP_NEXT;
		group_stop_begin_locked(tg, info->signo);
		return STEP_STOP;
	case SIGDFL_TERM:
	case SIGDFL_CORE:
		break;
	}
	if (signal_unkillable(tg) && info->signo != SIGKILL)
		return STEP_NEXT;
	signal_group_exit_locked(tg, signal_core_status(tg, info->signo));
	return STEP_EXIT;
}

/* No handler runs (any more): restarts the call, gives the mask back. */
static enum run_state finish(struct task *t)
{
	if (t->in_syscall) {
		struct guest_regs *regs = platform_regs(t->ctx);

		t->in_syscall = false;
		if (!regs) {
			thread_group_exit_self(t, SIGKILL);
			return RUN_EXIT;
		}
		restart_syscall(t, regs);
		platform_regs_dirty(t->ctx);
	}
	signal_mask_restore(t);
	t->syscall_nr = -1;
	return t->interrupt ? RUN_INTERRUPT : RUN_APP;
}

enum run_state run_interrupt(struct task *t)
{
	struct guest_siginfo info;
	struct guest_sigaction act = { 0 };
	enum step step;

	pause_gate(t);
	if (unlikely(t->over_limit))
		oom_settle(t);
	mutex_lock(&taskset_mu);
	t->interrupt = container_paused(t->tg->container);
	if (t->killed) {
		mutex_unlock(&taskset_mu);
		return RUN_EXIT;
	}
	if (t->stop_pending) {
		mutex_unlock(&taskset_mu);
		return RUN_GROUP_STOP;
	}
	if (ptrace_trap_pending_locked(t)) {
		mutex_unlock(&taskset_mu);
		t->ptrace_next = RUN_INTERRUPT;
		return RUN_PTRACE_STOP;
	}
	if (!(t->ptrace && ptrace_injected(t, &info))) {
		if (!signal_next_locked(t, &info)) {
			mutex_unlock(&taskset_mu);
			return finish(t);
		}
		if (t->tracer && info.signo != SIGKILL) {
			mutex_unlock(&taskset_mu);
			ptrace_signal_stop(t, &info);
			t->ptrace_next = RUN_INTERRUPT;
			return RUN_PTRACE_STOP;
		}
	}
	step = judge_locked(t, &info, &act);
	mutex_unlock(&taskset_mu);
	switch (step) {
	case STEP_STOP:
		return RUN_INTERRUPT;
	case STEP_EXIT:
		return RUN_EXIT;
	case STEP_HANDLER:
		call_handler(t, &act, &info);
		if (t->tracer && ptrace_handler_stop(t)) {
			t->ptrace_next = RUN_INTERRUPT;
			return RUN_PTRACE_STOP;
		}
		break;
	case STEP_NEXT:
		break;
	}
	return RUN_INTERRUPT;
}

void signal_stop_done_locked(struct thread_group *tg)
{
	if (!tg->group_stop || tg->stopped || --tg->stop_count > 0)
		return;
	tg->stopped = true;
	tg->stop_reported = false;
	tg->continued = false;
	signal_notify_parent_locked(tg, CLD_STOPPED, tg->stop_signal);
}

enum run_state run_group_stop(struct task *t)
{
	mutex_lock(&taskset_mu);
	if (t->stop_pending) {
		t->stop_pending = false;
		if (t->tracer) {
			/* The tracer sees the stop first; the group counts it as stopped. */
			signal_stop_done_locked(t->tg);
			mutex_unlock(&taskset_mu);
			ptrace_group_stop(t);
			t->ptrace_next = RUN_INTERRUPT;
			return RUN_PTRACE_STOP;
		}
		t->stopped = true;
		signal_stop_done_locked(t->tg);
	}
	while (t->stopped && t->tg->group_stop && !t->killed) {
		if (t->tracer) {
			/* Attached to while stopped. */
			t->stopped = false;
			mutex_unlock(&taskset_mu);
			ptrace_group_stop(t);
			t->ptrace_next = RUN_INTERRUPT;
			return RUN_PTRACE_STOP;
		}
		mutex_unlock(&taskset_mu);
		(void)!task_block_killable(t, TIME_FOREVER, "stopped");
		mutex_lock(&taskset_mu);
	}
	t->stopped = false;
	mutex_unlock(&taskset_mu);
	return RUN_INTERRUPT;
}
