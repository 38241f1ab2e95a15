/* Tracing of tasks (ptrace(2)). */
#include "sentry/kernel/ptrace.h"

#include "sentry/kernel/kernel_priv.h"

bool ptrace_syscall_entry(struct task *t)
{
	(void)t;
	return false;
}

bool ptrace_syscall_exit(struct task *t)
{
	(void)t;
	return false;
}

bool ptrace_seccomp(struct task *t, uint32_t data)
{
	(void)t, (void)data;
	return false;
}

bool ptrace_seccomp_passed(struct task *t)
{
	(void)t;
	return false;
}

bool ptrace_event(struct task *t, int event, uint64_t message)
{
	(void)t, (void)event, (void)message;
	return false;
}

void ptrace_signal_stop(struct task *t, const struct guest_siginfo *info)
{
	(void)t, (void)info;
}

bool ptrace_injected(struct task *t, struct guest_siginfo *ret_info)
{
	(void)t, (void)ret_info;
	return false;
}

void ptrace_exec_trap(struct task *t)
{
	(void)t;
}

void ptrace_group_stop(struct task *t)
{
	(void)t;
}

void ptrace_fork_locked(struct task *parent, struct task *child, int event)
{
	(void)parent, (void)child, (void)event;
}

void ptrace_zombie_seen_locked(struct task *tracee, struct thread_group *by)
{
	(void)tracee, (void)by;
}

int ptrace_wait_stop_locked(struct task *tracee, bool consume, uint32_t *ret_status)
{
	(void)tracee, (void)consume, (void)ret_status;
	return 0;
}

void ptrace_exit_locked(struct task *t)
{
	(void)t;
}

void ptrace_free(struct task *t)
{
	(void)t;
}

void ptrace_exit_event(struct task *t)
{
	(void)t;
}

bool ptrace_trap_pending_locked(struct task *t)
{
	(void)t;
	return false;
}

enum run_state run_ptrace_stop(struct task *t)
{
	return t->ptrace_next;
}
