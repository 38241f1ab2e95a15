/* Tracing of tasks (ptrace(2)). The tracee stops in RUN_PTRACE_STOP; its tracer acts on it there. */
#ifndef SENTRY_KERNEL_PTRACE_H
#define SENTRY_KERNEL_PTRACE_H

#include "sentry/kernel/task.h"

/* What the tracee does after a stop. */
enum ptrace_resume { RESUME_NONE, RESUME_CONT, RESUME_SYSCALL, RESUME_STEP, RESUME_LISTEN };

enum ptrace_stop { STOP_NONE, STOP_SIGNAL, STOP_GROUP, STOP_ENTRY, STOP_EXIT, STOP_EVENT, STOP_SECCOMP };

/* Work that only the tracee's thread can do on its processor state, asked for by the tracer. */
enum ptrace_job { JOB_NONE, JOB_FPU_GET, JOB_FPU_SET };

/* One for each task that was ever traced; all under taskset_mu but where said. */
struct ptrace_state {
	uint32_t options; /* PTRACE_O_* */
	bool seized, listening;
	bool interrupt;	  /* PTRACE_INTERRUPT or an attach wants an EVENT_STOP */
	/* The stop being prepared (tracee) or in force. */
	enum ptrace_stop stop;
	uint32_t code; /* bits 8.. of the wait status */
	uint64_t message;
	struct guest_siginfo info;
	bool has_info;
	bool stopped, reported;
	/* An event that waits for the end of its system call. */
	bool event_pending;
	uint32_t event_code;
	/* The tracer's answer. */
	enum ptrace_resume resume;
	int32_t inject; /* signal to deliver, 0: none */
	bool injected;
	bool trace_syscalls, step, seccomp_passed;
	/* The tracer's question. */
	enum ptrace_job job;
	void *job_buf; /* the tracer's; valid while job is set */
	size_t job_size;
	int64_t job_result;
	/* A thread that ended but whose tracer has not collected it yet. */
	bool dead;
	uint32_t dead_status;
};

/* For the tracee's own thread. */
/* Do system-call entry and exit stop now? Prepares the stop; the caller goes to RUN_PTRACE_STOP. */
bool ptrace_syscall_entry(struct task *t);
bool ptrace_syscall_exit(struct task *t);
/* Behind an entry stop: takes over what the tracer changed. False: the call is skipped, *ret its result. */
bool ptrace_syscall_resume(struct task *t, int64_t *ret);
/* SECCOMP_RET_TRACE: a stop is prepared (true) or there is no tracer for it. Behind the stop passed says
 * once that the call may go on. */
bool ptrace_seccomp(struct task *t, uint32_t data);
bool ptrace_seccomp_passed(struct task *t);
/* Event stops (PTRACE_EVENT_*): true when the tracer asked for it; the stop comes at the system call's end. */
bool ptrace_event(struct task *t, int event, uint64_t message);
/* Prepares the stop of a noted event. */
bool ptrace_event_stop(struct task *t);
/* Signal-delivery stop: afterwards ptrace_injected gives what to deliver. */
void ptrace_signal_stop(struct task *t, const struct guest_siginfo *info);
/* The signal that the tracer lets pass after a delivery stop: true and *ret_info. taskset_mu. */
bool ptrace_injected(struct task *t, struct guest_siginfo *ret_info);
/* SIGTRAP after exec of a task traced without PTRACE_O_TRACEEXEC. */
void ptrace_exec_trap(struct task *t);
/* A system call is done and the tracer is stepping: SIGTRAP before the next instruction, as the processor gives none
 * for a call. Task thread, without locks. */
void ptrace_step_over_call(struct task *t);
/* A handler was set up and the tracer is stepping: prepares the stop before its first instruction. */
bool ptrace_handler_stop(struct task *t);
/* Group stop of a traced task: prepares the stop. */
void ptrace_group_stop(struct task *t);

/* Needs taskset_mu. */
/* Links a new child to its parent's tracer when asked for. */
void ptrace_fork_locked(struct task *parent, struct task *child, int event);
/* Makes tracer the tracer of t. -ENOMEM, -EPERM (traced already). */
NODISCARD int ptrace_link_locked(struct task *t, struct task *tracer, bool seized, uint32_t options);
/* Ends the tracing and lets t go on; it stays dead if it is. */
void ptrace_unlink_locked(struct task *t);
/* Lets a stopped tracee go on. */
void ptrace_resume_locked(struct task *t, enum ptrace_resume how, int32_t signo);
/* wait4(2) side: 1 and *ret_status when a stop or death is reportable (consume: takes it). exited: deaths count.
 * Consuming a death may free tracee. */
int ptrace_wait_locked(struct task *tracee, bool consume, bool exited, uint32_t *ret_status);

#endif
