/*
 * Tasks and thread groups. One host thread per task for the task's life; the task runs a state
 * machine (run_state) between guest code and the sentry.
 *
 * Protection, as remarked on each member:
 *   const    after init
 *   taskset  taskset_mu (LOCK_TASKSET): process tree, groups, sessions, signals, exit
 *   owner    written by the task's own thread only, under task->mu when others may read it
 *   private  the task's own thread alone
 */
#ifndef SENTRY_KERNEL_TASK_H
#define SENTRY_KERNEL_TASK_H

#include <signal.h>

#include "platform/base/list.h"
#include "platform/platform.h"
#include "sentry/core/cred.h"
#include "sentry/core/errno.h"
#include "sentry/core/lockrank.h"
#include "sentry/core/umem.h"
#include "sentry/core/waitq.h"
#include "sentry/kernel/limits.h"
#include "sentry/kernel/signal.h"
#include "sentry/time/clock.h"

struct mm;
struct fdtable;
struct fs_struct;
struct pid_ns;
struct uts_ns;
struct ipc_ns;
struct net_ns;
struct cgroup_ns;
struct container;
struct session;
struct seccomp_filter;
struct tty;
struct ptrace_link;

extern struct mutex taskset_mu;

#define PID_NS_LEVELS_MAX 32
#define TASK_COMM_SIZE 16

/* Numbers of one task in each pid namespace it is visible in; level 0 is the root namespace. */
struct task_pid {
	struct pid_ns *ns; /* deepest namespace, reference */
	int32_t nr[PID_NS_LEVELS_MAX];
};

struct nsproxy { /* immutable; references */
	struct refcount refs;
	struct uts_ns *uts;
	struct ipc_ns *ipc;
	struct net_ns *net;
	struct pid_ns *pid_for_children;
	struct cgroup_ns *cgroup;
};

struct process_group {
	struct refcount refs;
	struct task_pid id;	    /* the leader's at creation */
	struct session *session;    /* reference */
	struct list_node groups;    /* thread_group.pgrp_node; taskset */
};

struct session {
	struct refcount refs;
	struct task_pid id;
	struct tty *tty;	       /* controlling terminal, taskset; reference */
	struct process_group *foreground; /* taskset; reference */
	struct thread_group *leader;   /* taskset; NULL once it exited */
};

/* A process. */
struct thread_group {
	struct refcount refs;
	struct task *leader;	    /* taskset; stays the original leader until exec by another thread */
	struct list_node tasks;	    /* taskset: task.group_node, in creation order */
	unsigned task_count, live_count; /* taskset */
	struct thread_group *parent; /* taskset; NULL for a namespace's init */
	struct task *parent_task;    /* taskset: thread that created us, for __WNOTHREAD; may be NULL */
	struct list_node children, sibling_node; /* taskset */
	struct process_group *pgrp;  /* taskset; reference */
	struct list_node pgrp_node;
	struct signal_handlers *handlers; /* shared by CLONE_SIGHAND; taskset for writes */
	struct sigqueue pending;	  /* taskset: process-directed signals */
	struct container *container;	  /* const */
	struct limits limits;		  /* taskset */
	struct waitq child_waitq;	  /* wait4 and waitid sleep here; woken on child events */
	bool exiting;			  /* taskset: exit_group or fatal signal */
	bool execing;			  /* taskset */
	uint32_t exit_status;		  /* taskset: wait status when exiting */
	bool zombie;			  /* taskset: all tasks dead, not yet reaped */
	bool stopped, stop_reported, continued; /* taskset: job control */
	uint8_t stop_signal;
	bool is_subreaper, has_child_subreaper;
	bool no_new_tasks;
	int32_t exit_signal;		  /* SIGCHLD mostly */
	int32_t oom_score_adj;
	struct itimer { struct ktimer timer; int64_t cpu_expires, cpu_interval; } itimer[3]; /* ITIMER_* */
	struct posix_timers *posix_timers;
	int64_t start_mono_ns, start_real_ns; /* const */
	/* Totals of dead threads and of waited-for children. */
	struct cpu_usage { int64_t user_ns, system_ns; uint64_t minflt, majflt, nvcsw, nivcsw, maxrss; } dead_usage, child_usage;
	struct waitq pidfd_waitq;	  /* POLLIN when the group is dead */
};

/* Returned by every state function: what to do next. */
enum run_state { RUN_APP, RUN_SYSCALL, RUN_INTERRUPT, RUN_SYSCALL_EXIT, RUN_GROUP_STOP, RUN_PTRACE_STOP, RUN_VFORK_WAIT, RUN_EXIT, RUN_DEAD, RUN_STATES };

/* A thread. */
struct task {
	struct refcount refs;
	struct thread_group *tg;	/* const but for exec; reference */
	struct list_node group_node;	/* taskset */
	struct task_pid pid;		/* const but for exec's leader switch (taskset) */
	struct mutex mu;		/* LOCK_TASKSET + is not taken inside: LOCK_LEAF; protects "owner" members against readers */
	char comm[TASK_COMM_SIZE];	/* owner */
	struct mm *mm;			/* owner; reference; NULL after exit */
	struct fdtable *fdt;		/* owner; reference */
	struct fs_struct *fs;		/* owner; reference */
	const struct cred *cred;	/* owner; reference */
	struct nsproxy *ns;		/* owner; reference */
	struct pcontext *ctx;		/* private, but for platform_interrupt */
	uint8_t start_state;

	/* signals */
	sigset_kernel blocked;		/* owner writes under taskset */
	sigset_kernel saved_mask;	/* private: restored after sigsuspend, ppoll... */
	bool restore_mask;
	struct sigqueue pending;	/* taskset */
	struct { uint64_t sp, size; int32_t flags; } altstack; /* private */
	_Atomic bool interrupt;		/* there may be a signal or stop to look at */
	bool killed;			/* taskset: SIGKILL or group exit; nothing may wait any more */

	/* blocking: see block.h */
	_Atomic uint32_t wake_token;
	struct waitq_entry block_entry;
	const char *wait_what;		/* for debug.Stacks: what it waits for, static text or NULL */

	/* syscall in progress */
	int64_t syscall_nr;		/* -1 outside */
	int64_t syscall_start_ns;	/* only with strace or debug logging */
	struct { int64_t (*fn)(struct task *t); uint64_t arg[6]; } restart; /* restart_syscall(2), private */
	uint64_t orig_arg0;

	uaddr_t clear_child_tid;	/* private */
	uaddr_t robust_list;		/* private */
	uint64_t robust_list_size;
	uaddr_t rseq;			/* private */
	uint32_t rseq_size, rseq_sig;
	uint32_t exit_status;		/* taskset */
	bool exited, vfork_done_pending;
	struct task *vfork_parent;	/* taskset: waits for our exec or exit; reference */
	int32_t parent_death_signal;
	int32_t nice, sched_policy, sched_priority;
	uint64_t cpu_mask[16];
	uint32_t personality;
	uint64_t timer_slack_ns;
	struct seccomp_filter *seccomp; /* owner; reference */
	uint8_t seccomp_mode;
	struct ptrace_link *ptrace;	/* taskset: our tracer, or NULL */
	struct list_node tracees;	/* taskset */
	uint64_t keepcaps_etc;
	_Atomic int64_t user_ns, system_ns; /* cpu time; written by the owner */
	_Atomic uint64_t minflt, majflt, nvcsw, nivcsw;
	int64_t switch_ns;
	uint8_t numa_policy;
	pthread_t thread;
	int32_t host_tid;
	struct list_node all_node;	/* taskset: every task */
	uint8_t ioprio_class;
	uint16_t ioprio;
};

/* The task of the calling sentry thread; NULL on the notifier, timer and control threads. */
extern _Thread_local struct task *current;

struct task *task_get(struct task *t);
void task_put(struct task *t);
DEFINE_AUTO(task_put, struct task *)
struct thread_group *thread_group_get(struct thread_group *tg);
void thread_group_put(struct thread_group *tg);

/* Process groups and sessions, for terminals. _locked: taskset_mu is held. */
struct process_group *process_group_get(struct process_group *pg);
void process_group_put(struct process_group *pg); /* takes taskset_mu when it is the last */
struct session *session_get(struct session *s);
void session_put(struct session *s);
/* Borrowed; NULL when there is none. */
struct process_group *process_group_find_locked(struct pid_ns *ns, int32_t pgid);
/* No member has a parent in another group of the same session (setpgid(2), "orphaned"). */
bool process_group_orphaned_locked(struct process_group *pg);
int32_t process_group_id_in(const struct process_group *pg, const struct pid_ns *ns); /* 0: not visible */
int32_t session_id_in(const struct session *s, const struct pid_ns *ns);

/* Guest memory of the calling task. */
struct umem *task_umem(struct task *t);

/* Lookups return references; pid as seen in ns. Take taskset_mu themselves. */
struct task *task_find(struct pid_ns *ns, int32_t tid);
struct thread_group *thread_group_find(struct pid_ns *ns, int32_t pid);
int32_t task_tid_in(const struct task *t, const struct pid_ns *ns);	   /* 0: not visible */
int32_t thread_group_pid_in(const struct thread_group *tg, const struct pid_ns *ns);
struct pid_ns *task_pid_ns(const struct task *t);
/* Every visible thread group in ns, ascending pid, from pid `from` on: for readdir of /proc. */
struct thread_group *thread_group_next(struct pid_ns *ns, int32_t from, int32_t *ret_pid);

/* Other tasks' owner members, with a reference, or NULL when the task has exited. */
struct mm *task_get_mm(struct task *t);
struct fdtable *task_get_fdtable(struct task *t);
struct fs_struct *task_get_fs(struct task *t);
const struct cred *task_get_cred(struct task *t);
/* Replaces the calling task's credentials (takes over the reference). */
void task_set_cred(struct task *t, const struct cred *cred);
bool task_capable(struct task *t, int cap); /* in the task's own user namespace */
bool task_capable_ns(struct task *t, const struct user_ns *ns, int cap);
/* ptrace access check (PTRACE_MODE_READ/ATTACH, fs or real creds) of ptrace(2). */
bool task_may_access(struct task *t, struct task *target, bool attach);
/* A struct walk for paths of the calling task; dirfd AT_FDCWD or a descriptor. walk_put releases. */
struct walk;
NODISCARD int task_walk(struct task *t, int dirfd, struct walk *ret_walk);
void walk_put(struct walk *w);
/* Copies a path from the guest into a page of the caller: -EFAULT, -ENAMETOOLONG; "" is allowed. */
NODISCARD int task_copy_path(struct task *t, uaddr_t addr, char buf[4096]);

/* The state machine's entry: the body of a task's host thread. */
void task_run(struct task *t);

#endif
