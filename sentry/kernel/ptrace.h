/* Tracing of tasks (ptrace(2)): stops that other files announce. Task thread unless said. */
#ifndef SENTRY_KERNEL_PTRACE_H
#define SENTRY_KERNEL_PTRACE_H

#include "sentry/kernel/task.h"

/* Do system-call entry and exit stop now? Prepares the stop; the caller goes to RUN_PTRACE_STOP. */
bool ptrace_syscall_entry(struct task *t);
bool ptrace_syscall_exit(struct task *t);
/* SECCOMP_RET_TRACE: a stop is prepared (true) or there is no tracer for it. Behind the stop passed says
 * once that the call may go on. */
bool ptrace_seccomp(struct task *t, uint32_t data);
bool ptrace_seccomp_passed(struct task *t);
/* Event stops (PTRACE_EVENT_*): true when the tracer asked for it and a stop is prepared. */
bool ptrace_event(struct task *t, int event, uint64_t message);
/* Signal-delivery stop: takes info over; afterwards ptrace_injected gives what to deliver. */
void ptrace_signal_stop(struct task *t, const struct guest_siginfo *info);
/* The signal that the tracer lets pass after a delivery stop: true and *ret_info. */
bool ptrace_injected(struct task *t, struct guest_siginfo *ret_info);
/* SIGTRAP after exec of a task traced without PTRACE_O_TRACEEXEC. */
void ptrace_exec_trap(struct task *t);
/* Group stop of a traced task: prepares the stop. */
void ptrace_group_stop(struct task *t);
/* Links a new child to its parent's tracer when asked for; taskset_mu. */
void ptrace_fork_locked(struct task *parent, struct task *child, int event);
bool ptrace_wants(struct task *t, int event);
/* The tracer collected the death of a tracee that is another process's child; taskset_mu. */
void ptrace_zombie_seen_locked(struct task *tracee, struct thread_group *by);
/* wait4(2) side: is there something of tracee to report to the thread group tracer? taskset_mu.
 * 1 and *ret_status when a stop is reportable (consume: takes it). */
int ptrace_wait_stop_locked(struct task *tracee, bool consume, uint32_t *ret_status);

#endif
