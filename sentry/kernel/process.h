/* What the process system calls need of the kernel: ends, waits, groups. */
#ifndef SENTRY_KERNEL_PROCESS_H
#define SENTRY_KERNEL_PROCESS_H

#include "sentry/kernel/task.h"

/* Ends the calling thread, or its process; status as wait(2) encodes it. The handler then returns. */
void task_exit_self(struct task *t, uint32_t status);
void thread_group_exit_self(struct task *t, uint32_t status);

/* RLIMIT_CPU was set or inherited: starts watching. Any thread; no locks above taskset_mu needed. */
void cpu_limit_changed(struct thread_group *tg);

/* setpgid(2), setsid(2) */
int thread_group_setpgid(struct task *t, int32_t pid, int32_t pgid);
int32_t thread_group_setsid(struct task *t);

enum wait_id { WAIT_ID_ALL, WAIT_ID_PID, WAIT_ID_PGID, WAIT_ID_GROUP };
struct wait_args {
	enum wait_id kind;
	int32_t id;		  /* PID: number in the caller's namespace */
	struct process_group *pg; /* PGID: borrowed */
	struct thread_group *tg;  /* GROUP (pidfd): borrowed */
	uint32_t options;	  /* WNOHANG WEXITED WSTOPPED WCONTINUED WNOWAIT __WALL __WCLONE __WNOTHREAD */
};
struct wait_result {
	int32_t pid; /* 0: nothing with WNOHANG */
	uint32_t uid;
	uint32_t status; /* wait4's word */
	int32_t code, value; /* waitid's si_code and si_status */
	struct cpu_usage usage;
};
/* wait4(2), waitid(2). 0, -ECHILD, -ERESTARTSYS. */
NODISCARD int task_wait(struct task *t, const struct wait_args *a, struct wait_result *ret);

#endif
