/* What the files of sentry/kernel share and nobody else needs. */
#ifndef SENTRY_KERNEL_KERNEL_PRIV_H
#define SENTRY_KERNEL_KERNEL_PRIV_H

#include "sentry/kernel/block.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/task.h"
#include "sentry/mm/mm.h"

/* Stack of a task's host thread, bytes: handlers hold a few path buffers at the deepest. */
#define TASK_STACK (160u << 10)
#define PID_MAX 32768
#define FPU_MAX 16384 /* upper bound of an XSAVE image, bytes */

extern struct list_node all_tasks;    /* taskset: task.all_node */
extern struct list_node all_sessions; /* taskset: session.all_node */

/* What a new task's thread starts with; owned by the task, freed by its thread. */
struct task_birth {
	struct guest_regs regs;
	void *fpu; /* owned; NULL: initial state */
	size_t fpu_size;
	/* Loads the first program on the task's own thread; NULL for clone. Returns 0 or -errno, after which
	 * the task ends. */
	int (*load)(struct task *t, void *arg);
	void *arg;
	enum run_state state; /* first state */
};

/* pid.c; all need taskset_mu */
NODISCARD int pid_new(struct pid_ns *ns, const int32_t *set_tid, unsigned set_tid_count,
		struct pid **ret_pid);
/* Frees the numbers when neither task, group nor session is left. */
void pid_unused(struct pid *p);
struct pid *pid_find_locked(struct pid_ns *ns, int32_t nr);

/* task.c */
NODISCARD int task_new(struct thread_group *tg, struct pid *pid, struct task **ret_task);
NODISCARD struct thread_group *thread_group_new(struct container *c);
/* The task does not count against its container's limit any more; once is enough. taskset_mu, or the last reference. */
void task_uncharge(struct task *t);
/* Starts the task's host thread; on success the thread owns a reference of its own. */
NODISCARD int task_start(struct task *t);
/* Drops what the calling task owns of mm, files, namespaces. At exit. */
void task_release_resources(struct task *t);
void task_release_files(struct task *t); /* the files, directories and namespaces of it */

/* The terminal layer's: a session leader exits. No locks held. */
void tty_drop_session(struct session *s);

/* session.c; taskset_mu */
void process_group_put_locked(struct process_group *pg);
void session_put_locked(struct session *s);
/* tg is about to leave its group or exit: SIGHUP and SIGCONT to groups that become orphaned and have
 * stopped members (setpgid(2)). */
void process_groups_orphaned_by_exit_locked(struct thread_group *tg);
NODISCARD int session_new_locked(struct pid *pid, struct session **ret_s, struct process_group **ret_pg);
void thread_group_set_pgrp_locked(struct thread_group *tg, struct process_group *pg); /* takes a reference */

/* signal.c; taskset_mu */
struct signal_handlers *signal_handlers_new(void);
struct signal_handlers *signal_handlers_dup(const struct signal_handlers *h);
void signal_handlers_put(struct signal_handlers *h);
void sigqueue_init(struct sigqueue *q);
void sigqueue_flush(struct sigqueue *q);
void signal_group_exit_locked(struct thread_group *tg, uint32_t status);
/* Looks again whether t has something to do after its mask or queues changed. */
void signal_recalc_locked(struct task *t);
bool signal_wanted_locked(struct task *t);
/* Hands process-directed signals that t would have taken to its siblings (t exits or blocks them). */
void signal_retarget_locked(struct task *t, sigset_kernel set);
/* Handlers back to default on exec; ignored signals stay. */
void signal_exec_locked(struct task *t);
void signal_notify_parent_locked(struct thread_group *tg, int code, int status);
/* Dequeues the next unblocked signal to deliver; 0 when none. */
int signal_next_locked(struct task *t, struct guest_siginfo *ret_info);
enum signal_default { SIGDFL_TERM, SIGDFL_CORE, SIGDFL_IGNORE, SIGDFL_STOP };
enum signal_default signal_default_action(int signo);
/* Wait status of a death by signo: with the core flag when RLIMIT_CORE allows a core. */
uint32_t signal_core_status(const struct thread_group *tg, int signo);
/* One member of a stopping group has stopped or is gone. */
void signal_stop_done_locked(struct thread_group *tg);
/* The first process of a pid namespace ignores defaults (pid_namespaces(7)). */
bool signal_unkillable(const struct thread_group *tg);

/* run.c: states of other files */
enum run_state run_interrupt(struct task *t);	/* deliver.c */
enum run_state run_group_stop(struct task *t);	/* deliver.c */
enum run_state run_ptrace_stop(struct task *t); /* ptrace.c */
enum run_state run_vfork_wait(struct task *t);	/* fork.c */
enum run_state run_exit(struct task *t);	/* exit.c */
/* block.c: sleeps until woken or the deadline, whatever signals say: for a task that is ending. */
bool task_sleeping(const struct task *t);
void task_sleep_exiting(struct task *t, int64_t deadline_ns, const char *what);
/* Stops while the container of t is paused. Task thread, no locks. */
void pause_gate(struct task *t);
void task_account_system(struct task *t);

/* Runs one system call of the calling task; defined by sentry/syscalls/dispatch.c. */
int64_t syscall_dispatch(struct task *t, int64_t nr, const uint64_t arg[6]);

/* exit.c */
/* Ends the calling task's thread (status: wait status of the thread). Sets killed. */
void task_exit_self(struct task *t, uint32_t status);
void thread_group_exit_self(struct task *t, uint32_t status);
void vfork_done(struct task *t);
void task_unlink_locked(struct task *t);
void thread_group_reap_locked(struct thread_group *tg);

/* cpu_limit.c */
void cpu_limit_init(struct thread_group *tg);
void cpu_limit_changed(struct thread_group *tg);

/* oom.c: on its way out of a call that took more memory than the container has left. Task thread, no locks. */
void oom_settle(struct task *t);

/* cgroup.c, cpu_quota.c */
void cgroups_init(void);
/* Calls look for each group, which cannot go away meanwhile; returns the least of what it returned. */
int64_t cgroups_look(int64_t (*look)(struct cgroup *cg, int64_t now), int64_t now);
void cpu_quota_init(void);
void cpu_quota_set(struct cgroup *cg, bool enforced); /* under the lock of the list of groups, or before and after its time */
extern _Atomic uint32_t cpu_quotas;
/* Waits until the task's container has cpu time; in front of guest code, no locks. */
void cpu_quota_gate(struct task *t);

/* exec.c */
/* Kills the other threads of the calling task's process and takes over the leader's number. */
NODISCARD int exec_dethread(struct task *t);

/* container.c */
void container_process_exited(struct container *c, struct thread_group *tg, uint32_t status);
struct container *container_get(struct container *c);

/* ptrace.c, taskset_mu unless said */
void ptrace_exit_locked(struct task *t); /* t exits: lets its tracees go, tells its tracer */
void ptrace_free(struct task *t);
void ptrace_exit_event(struct task *t); /* task thread, no locks: PTRACE_EVENT_EXIT */
bool ptrace_trap_pending_locked(struct task *t);

/* seccomp.c */
void seccomp_exit(struct task *t); /* t, which exits, makes no call any more: lets its filters go */

/* Frees of cgroup and other namespaces are in namespaces.c. */
#endif
