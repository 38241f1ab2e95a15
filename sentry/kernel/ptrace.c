/* Stops of traced tasks (ptrace(2)): the tracee's side. The requests are in sys_ptrace.c. */
#include "sentry/kernel/ptrace.h"

#include <linux/ptrace.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/wait.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/state/desc.h"

#define EVENT_STOP PTRACE_EVENT_STOP

void ptrace_free(struct task *t)
{
	free(t->ptrace);
}

/* Prepares a stop of the calling task. */
static void prepare(struct task *t, enum ptrace_stop stop, uint32_t code, const struct guest_siginfo *info)
{
	struct ptrace_state *ps = t->ptrace;

	GUARD(mutex, &taskset_mu);
	ps->stop = stop;
	ps->code = code;
	ps->has_info = info != NULL;
	if (info)
		ps->info = *info;
}

static void prepare_trap(struct task *t, enum ptrace_stop stop, uint32_t code)
{
	struct guest_siginfo info = { .signo = SIGTRAP, .code = (int32_t)code };

	info.kill.pid = task_tid_in(t, task_pid_ns(t));
	info.kill.uid = t->cred->ruid.v;
	prepare(t, stop, code, &info);
}

static bool syscall_stop(struct task *t, enum ptrace_stop stop)
{
	struct ptrace_state *ps = t->ptrace;

	if (!ps || !ps->trace_syscalls)
		return false;
	prepare_trap(t, stop, SIGTRAP | (ps->options & PTRACE_O_TRACESYSGOOD ? 0x80 : 0));
	return true;
}

bool ptrace_syscall_entry(struct task *t)
{
	struct guest_regs *regs;

	if (!t->ptrace || !t->ptrace->trace_syscalls)
		return false;
	regs = platform_regs(t->ctx);
	if (!regs)
		return false;
	regs->orig_rax = (uint64_t)t->ctx->syscall.nr;
	regs->rax = (uint64_t)-ENOSYS;
	return syscall_stop(t, STOP_ENTRY);
}

bool ptrace_syscall_resume(struct task *t, int64_t *ret)
{
	struct platform_syscall *sc = &t->ctx->syscall;
	const struct guest_regs *r = &t->ctx->regs;

	if (!t->ctx->regs_valid || r->orig_rax == UINT64_MAX) {
		*ret = (int64_t)r->rax;
		if (t->ctx->regs_valid)
			(void)ptrace_seccomp_passed(t); /* the call is over */
		return !t->ctx->regs_valid;
	}
	sc->nr = (int64_t)r->orig_rax;
	t->syscall_nr = sc->nr;
	sc->arg[0] = r->rdi;
	sc->arg[1] = r->rsi;
	sc->arg[2] = r->rdx;
	sc->arg[3] = r->r10;
	sc->arg[4] = r->r8;
	sc->arg[5] = r->r9;
	return true;
}

bool ptrace_syscall_exit(struct task *t)
{
	return syscall_stop(t, STOP_EXIT);
}

bool ptrace_seccomp(struct task *t, uint32_t data)
{
	struct ptrace_state *ps = t->ptrace;
	struct guest_regs *regs;

	if (!t->tracer || !ps || ps->seccomp_passed || !(ps->options & PTRACE_O_TRACESECCOMP))
		return false;
	regs = platform_regs(t->ctx);
	if (!regs)
		return false;
	regs->orig_rax = (uint64_t)t->ctx->syscall.nr;
	regs->rax = (uint64_t)-ENOSYS;
	ps->seccomp_passed = true;
	ps->message = data;
	prepare_trap(t, STOP_SECCOMP, SIGTRAP | PTRACE_EVENT_SECCOMP << 8);
	return true;
}

bool ptrace_seccomp_passed(struct task *t)
{
	bool passed = t->ptrace && t->ptrace->seccomp_passed;

	if (passed)
		t->ptrace->seccomp_passed = false;
	return passed;
}

bool ptrace_event(struct task *t, int event, uint64_t message)
{
	struct ptrace_state *ps = t->ptrace;

	GUARD(mutex, &taskset_mu);
	if (!t->tracer || !(ps->options & 1u << event))
		return false;
	ps->event_pending = true;
	ps->event_code = SIGTRAP | (uint32_t)event << 8;
	ps->message = message;
	return true;
}

bool ptrace_event_stop(struct task *t)
{
	struct ptrace_state *ps = t->ptrace;

	if (!ps->event_pending)
		return false;
	ps->event_pending = false;
	prepare_trap(t, STOP_EVENT, ps->event_code);
	return true;
}

void ptrace_signal_stop(struct task *t, const struct guest_siginfo *info)
{
	prepare(t, STOP_SIGNAL, (uint32_t)info->signo, info);
}

void ptrace_step_over_call(struct task *t)
{
	struct guest_siginfo info = { .signo = SIGTRAP, .code = TRAP_BRKPT };
	const struct guest_regs *regs;

	if (!t->ptrace || !t->ptrace->step)
		return;
	regs = platform_regs(t->ctx);
	if (!regs)
		return;
	info.fault.addr = regs->rip;
	signal_force(t, &info);
}

bool ptrace_handler_stop(struct task *t)
{
	if (!t->ptrace || !t->ptrace->step)
		return false;
	prepare_trap(t, STOP_EVENT, SIGTRAP);
	return true;
}

void ptrace_group_stop(struct task *t)
{
	struct ptrace_state *ps = t->ptrace;
	uint32_t signo = t->tg->stop_signal ? t->tg->stop_signal : SIGSTOP;

	if (ps->seized)
		prepare_trap(t, STOP_GROUP, signo | EVENT_STOP << 8);
	else
		prepare(t, STOP_GROUP, signo, NULL);
}

bool ptrace_injected(struct task *t, struct guest_siginfo *ret_info)
{
	struct ptrace_state *ps = t->ptrace;

	mutex_assert_held(&taskset_mu);
	if (!ps || !ps->injected)
		return false;
	ps->injected = false;
	*ret_info = ps->info;
	if (ps->info.signo != ps->inject)
		*ret_info = (struct guest_siginfo){ .signo = ps->inject, .code = GUEST_SI_USER };
	/* What the tracer lets pass may be blocked meanwhile. */
	if (t->blocked & SIGMASK(ret_info->signo)) {
		(void)signal_send_task_locked(t, ret_info);
		return false;
	}
	return true;
}

void ptrace_exec_trap(struct task *t)
{
	struct guest_siginfo info = { .signo = SIGTRAP, .code = GUEST_SI_USER };

	if (!t->ptrace->seized)
		(void)signal_send_task(t, &info);
}

bool ptrace_trap_pending_locked(struct task *t)
{
	return t->tracer && t->ptrace->interrupt && !t->ptrace->stopped;
}

int ptrace_link_locked(struct task *t, struct task *tracer, bool seized, uint32_t options)
{
	mutex_assert_held(&taskset_mu);
	if (t->tracer)
		return -EPERM;
	if (!t->ptrace)
		t->ptrace = malloc(sizeof(*t->ptrace));
	if (!t->ptrace)
		return -ENOMEM;
	*t->ptrace = (struct ptrace_state){ .seized = seized, .options = options };
	t->tracer = tracer;
	list_add_tail(&tracer->tracees, &t->tracee_node);
	return 0;
}

void ptrace_unlink_locked(struct task *t)
{
	mutex_assert_held(&taskset_mu);
	list_del(&t->tracee_node);
	t->tracer = NULL;
	t->ptrace->trace_syscalls = t->ptrace->step = t->ptrace->interrupt = false;
	t->ptrace->options = 0;
	if (t->ptrace->dead) {
		t->ptrace->dead = false;
		task_put(t);
		return;
	}
	task_interrupt(t);
}

void ptrace_resume_locked(struct task *t, enum ptrace_resume how, int32_t signo)
{
	struct ptrace_state *ps = t->ptrace;

	ps->resume = how;
	ps->inject = signo;
	ps->trace_syscalls = how == RESUME_SYSCALL;
	ps->step = how == RESUME_STEP;
	task_wake(t);
}

void ptrace_fork_locked(struct task *parent, struct task *child, int event)
{
	const struct ptrace_state *ps = parent->ptrace;
	struct guest_siginfo stop = { .signo = SIGSTOP, .code = GUEST_SI_USER };

	if (!parent->tracer || !(ps->options & 1u << event))
		return;
	if (ptrace_link_locked(child, parent->tracer, ps->seized, ps->options) < 0)
		return;
	if (ps->seized)
		child->ptrace->interrupt = true;
	else
		(void)signal_send_task_locked(child, &stop);
	child->interrupt = true;
}

/* SIGCHLD and a wake for the tracer's process: t stopped or died. */
static void notify_tracer(struct task *t, int code, int status)
{
	struct thread_group *tg = t->tracer->tg;
	struct guest_siginfo info = { .signo = SIGCHLD, .code = code };

	info.chld.pid = pid_nr_in(t->pid, task_pid_ns(t->tracer));
	info.chld.uid = t->cred->ruid.v;
	info.chld.status = status;
	if (!(tg->handlers->action[SIGCHLD - 1].flags & SA_NOCLDSTOP))
		(void)signal_send_group_locked(tg, &info);
	waitq_wake(&tg->child_waitq, POLLIN);
}

/* Does the tracer's job on our processor state. taskset_mu. */
static void do_job(struct task *t)
{
	struct ptrace_state *ps = t->ptrace;
	struct pcontext *ctx = t->ctx;

	if (ps->job == JOB_FPU_GET)
		ps->job_result = ctx->ops->fpu_get(ctx, ps->job_buf, ps->job_size);
	else if (ps->job == JOB_FPU_SET)
		ps->job_result = ctx->ops->fpu_set(ctx, ps->job_buf, ps->job_size);
	ps->job = JOB_NONE;
	if (t->tracer)
		task_wake(t->tracer);
}

/* Is the stop over? taskset_mu. */
static bool stop_ends(struct task *t, bool even_killed)
{
	struct ptrace_state *ps = t->ptrace;

	if (!t->tracer || (t->killed && !(even_killed && t->tg->exit_status != SIGKILL)))
		return true;
	if (ps->resume == RESUME_LISTEN) {
		ps->listening = true;
		ps->resume = RESUME_NONE;
	}
	if (ps->listening && (!t->tg->group_stop || ps->interrupt)) {
		ps->interrupt = true;
		return true;
	}
	return ps->resume != RESUME_NONE;
}

/* Sleeps in the stop. taskset_mu, dropped meanwhile. */
static void wait_in_stop(struct task *t, bool even_killed)
{
	struct ptrace_state *ps = t->ptrace;

	ps->stopped = t->stopped = true;
	ps->reported = false;
	ps->resume = RESUME_NONE;
	ps->injected = false;
	notify_tracer(t, CLD_TRAPPED, (int)(ps->code & 0x7f));
	while (!stop_ends(t, even_killed)) {
		if (ps->job)
			do_job(t);
		mutex_unlock(&taskset_mu);
		if (even_killed)
			task_sleep_exiting(t, clock_mono() + 100000000, "ptrace stop");
		else
			(void)!task_block_killable(t, TIME_FOREVER, "ptrace stop");
		mutex_lock(&taskset_mu);
	}
	if (ps->job) {
		ps->job_result = -ESRCH;
		ps->job = JOB_NONE;
	}
	ps->stopped = t->stopped = ps->listening = false;
}

enum run_state run_ptrace_stop(struct task *t)
{
	struct ptrace_state *ps = t->ptrace;
	struct guest_regs *regs = platform_regs(t->ctx);
	enum ptrace_stop stop;
	bool step;

	mutex_lock(&taskset_mu);
	if (!t->tracer || !regs || t->killed) {
		/* The tracer left between the preparation and now: the signal is delivered as it is. */
		ps->injected = ps->stop == STOP_SIGNAL && !t->killed;
		ps->inject = ps->info.signo;
		ps->stop = STOP_NONE;
		mutex_unlock(&taskset_mu);
		return t->killed ? RUN_EXIT : t->ptrace_next;
	}
	if (ps->stop == STOP_NONE) {
		/* PTRACE_INTERRUPT, or the first stop of a seized child. */
		uint32_t signo = t->tg->group_stop ? t->tg->stop_signal : SIGTRAP;

		ps->stop = STOP_GROUP;
		ps->code = signo | EVENT_STOP << 8;
		ps->has_info = true;
		ps->info = (struct guest_siginfo){ .signo = SIGTRAP, .code = (int32_t)ps->code };
	}
	ps->interrupt = false;
	wait_in_stop(t, false);
	stop = ps->stop;
	ps->stop = STOP_NONE;
	step = ps->step;
	if (stop == STOP_SIGNAL && ps->inject && ps->resume != RESUME_NONE) {
		ps->injected = true;
	} else if (stop == STOP_SIGNAL && ps->resume == RESUME_NONE) {
		/* The tracer is gone: nothing was decided, the signal passes. */
		ps->injected = true;
		ps->inject = ps->info.signo;
	} else if (ps->inject && stop != STOP_GROUP) {
		struct guest_siginfo info = { .signo = ps->inject, .code = GUEST_SI_USER };

		(void)signal_send_task_locked(t, &info);
	}
	if (t->killed) {
		mutex_unlock(&taskset_mu);
		return RUN_EXIT;
	}
	mutex_unlock(&taskset_mu);
	t->ctx->ops->set_step(t->ctx, step);
	t->interrupt = true;
	return t->ptrace_next;
}

/* PTRACE_EVENT_EXIT: the registers can still be seen. */
void ptrace_exit_event(struct task *t)
{
	struct ptrace_state *ps = t->ptrace;

	if (!t->ctx || !platform_regs(t->ctx))
		return;
	GUARD(mutex, &taskset_mu);
	if (!t->tracer || !(ps->options & PTRACE_O_TRACEEXIT) || (t->tg->exiting &&
		t->tg->exit_status == SIGKILL))
		return;
	ps->stop = STOP_EVENT;
	ps->code = SIGTRAP | PTRACE_EVENT_EXIT << 8;
	ps->message = t->tg->exiting ? t->tg->exit_status : t->exit_status;
	ps->has_info = true;
	ps->info = (struct guest_siginfo){ .signo = SIGTRAP, .code = (int32_t)ps->code };
	wait_in_stop(t, true);
	ps->stop = STOP_NONE;
}

/* A traced task ends: unless wait reports it as a child, its tracer still has to hear of it. */
static void tracee_ends(struct task *t)
{
	struct thread_group *tg = t->tg;
	bool last = tg->unfinished == 0;

	if (t == tg->leader && (tg->parent == t->tracer->tg || !last)) {
		if (last)
			ptrace_unlink_locked(t);
		return;
	}
	task_get(t);
	t->ptrace->dead = true;
	t->ptrace->dead_status = tg->exiting ? tg->exit_status : t->exit_status;
	notify_tracer(t, CLD_EXITED, 0);
}

void ptrace_exit_locked(struct task *t)
{
	struct task *it, *tmp, *leader = t->tg->leader;

	list_for_each_safe(it, tmp, &t->tracees, tracee_node) {
		bool kill = it->ptrace->options & PTRACE_O_EXITKILL;

		if (kill && !it->ptrace->dead)
			signal_group_exit_locked(it->tg, SIGKILL);
		ptrace_unlink_locked(it);
	}
	if (t->tracer)
		tracee_ends(t);
	/* The leader may have been dead for long; the process is only now. */
	if (t->tg->unfinished == 0 && leader && leader != t && leader->tracer && !leader->ptrace->dead)
		tracee_ends(leader);
}

int ptrace_wait_locked(struct task *tracee, bool consume, bool exited, uint32_t *ret_status)
{
	struct ptrace_state *ps = tracee->ptrace;

	if (ps->dead) {
		if (!exited)
			return 0;
		*ret_status = ps->dead_status;
		if (consume)
			ptrace_unlink_locked(tracee);
		return 1;
	}
	if (!ps->stopped || ps->reported || ps->listening)
		return 0;
	*ret_status = ps->code << 8 | 0x7f;
	if (consume)
		ps->reported = true;
	return 1;
}

STATE_DESC(ptrace_state, S_VAL(ptrace_state, 1, options), S_VAL(ptrace_state, 2, seized),
	   S_VAL(ptrace_state, 3, listening), S_VAL(ptrace_state, 4, interrupt),
	   S_VAL(ptrace_state, 5, stop), S_VAL(ptrace_state, 6, code), S_VAL(ptrace_state, 7, message),
	   S_VAL(ptrace_state, 8, info), S_VAL(ptrace_state, 9, has_info), S_VAL(ptrace_state, 10, stopped),
	   S_VAL(ptrace_state, 11, reported), S_VAL(ptrace_state, 12, event_pending),
	   S_VAL(ptrace_state, 13, event_code), S_VAL(ptrace_state, 14, resume),
	   S_VAL(ptrace_state, 15, inject), S_VAL(ptrace_state, 16, injected),
	   S_VAL(ptrace_state, 17, trace_syscalls), S_VAL(ptrace_state, 18, step),
	   S_VAL(ptrace_state, 19, seccomp_passed), S_NOSAVE(ptrace_state, job, "no request is under way at a safe point"),
	   S_NOSAVE(ptrace_state, job_buf, "as job"), S_NOSAVE(ptrace_state, job_size, "as job"),
	   S_NOSAVE(ptrace_state, job_result, "as job"), S_VAL(ptrace_state, 20, dead),
	   S_VAL(ptrace_state, 21, dead_status));
