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
#include "platform/base/rbtree.h"
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

extern struct mutex taskset_mu;

#define PID_NS_LEVELS_MAX 32
#define TASK_COMM_SIZE 16

/*
 * One process id, with its number in each pid namespace it is visible in. Named by a task, and by
 * the process group and session begun by its process; the numbers are free again when none of the
 * three is left. Readers that hold a reference may ask for the number at any time.
 */
struct pid {
	struct refcount refs;
	uint32_t level;		    /* const: of the deepest namespace */
	struct task *task;	    /* taskset; borrowed */
	struct process_group *pgrp; /* taskset; borrowed */
	struct session *session;    /* taskset; borrowed */
	struct pid_number {
		struct rb_node node; /* taskset: pid_ns.tids */
		struct pid *pid;
		struct pid_ns *ns; /* const; the deepest one is referenced */
		int32_t nr;	   /* const */
		bool linked;	   /* taskset */
	} number[];		   /* level + 1 of them, the root namespace first */
};

struct pid *pid_get(struct pid *p);
void pid_put(struct pid *p);
/* The number of p in ns, 0 when not visible there. Any context, no locks. */
int32_t pid_nr_in(const struct pid *p, const struct pid_ns *ns);

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
	struct pid *pid;	    /* const; reference; the leader's at creation */
	struct session *session;    /* const; reference */
	struct list_node groups;    /* thread_group.pgrp_node; taskset */
};

struct session {
	struct refcount refs;
	struct pid *pid;	       /* const; reference */
	struct list_node all_node;     /* taskset */
	struct tty *tty;	       /* controlling terminal, taskset; reference */
	struct process_group *foreground; /* taskset; reference */
	struct thread_group *leader;   /* taskset; NULL once it exited */
};

struct cpu_usage {
	int64_t user_ns, system_ns;
	uint64_t minflt, majflt, nvcsw, nivcsw, maxrss_kib;
};

/* A process. */
struct thread_group {
	struct refcount refs;
	struct pid *pid;	    /* const; reference */
	struct task *leader;	    /* taskset; the original leader until exec by another thread; NULL once reaped */
	struct list_node tasks;	    /* taskset: task.group_node, in creation order; each holds a reference */
	unsigned task_count;	    /* taskset: on the list, the dead leader included */
	unsigned live_count;	    /* taskset: not yet begun to exit */
	unsigned unfinished;	    /* taskset: not yet through with it: the process is dead at 0 */
	struct thread_group *parent; /* taskset; borrowed; NULL for the first process of the sandbox */
	struct task *parent_task;    /* taskset: borrowed: thread that created us, for __WNOTHREAD */
	struct list_node children, sibling_node; /* taskset */
	struct process_group *pgrp;  /* taskset; reference */
	struct list_node pgrp_node;
	struct signal_handlers *handlers; /* shared by CLONE_SIGHAND; taskset */
	struct sigqueue pending;	  /* taskset: process-directed signals */
	struct container *container;	  /* const; reference */
	struct limits limits;		  /* taskset; single words may be read without */
	struct waitq child_waitq;	  /* wait4 and waitid sleep here; woken on child events */
	bool exiting;			  /* taskset: exit_group or fatal signal */
	struct task *exec_task;		  /* taskset: kills its siblings for exec */
	bool execed;			  /* taskset: exec'd since fork, for setpgid */
	uint32_t exit_status;		  /* taskset: wait status when exiting */
	bool zombie;			  /* taskset: all tasks dead, not yet reaped */
	bool reaped;			  /* taskset */
	/* Job control, all taskset. group_stop: members still to stop are counted in stop_count. */
	bool group_stop, stopped, stop_reported, continued;
	unsigned stop_count;
	uint8_t stop_signal;
	bool is_subreaper;		  /* taskset */
	uint32_t membarrier;		  /* taskset: commands registered, since exec */
	int32_t exit_signal;		  /* taskset: SIGCHLD mostly; 0: none */
	int32_t oom_score_adj;
	uint64_t exec_count;		  /* taskset */
	struct itimer { struct ktimer timer; int64_t cpu_expires, cpu_interval; } itimer[3]; /* ITIMER_* */
	struct posix_timers *posix_timers;
	struct ktimer cpu_limit_timer;	  /* armed with RLIMIT_CPU only */
	int64_t cpu_limit_next;		  /* taskset: the next SIGXCPU, ns of cpu time */
	int64_t start_mono_ns, start_real_ns; /* const */
	struct cpu_usage dead_usage, child_usage; /* taskset: dead threads; waited-for children */
	struct waitq pidfd_waitq;	  /* POLLIN when the group is dead */
	struct waitq signal_waitq;	  /* signalfd: woken with POLLIN */
};

/* Returned by every state function: what to do next. */
enum run_state {
	RUN_APP,	  /* run guest code */
	RUN_SYSCALL,	  /* the guest made a system call: entry stop, filters, handler */
	RUN_SYSCALL_DO,	  /* behind the ptrace entry stop */
	RUN_SYSCALL_EXIT, /* result to registers, ptrace exit stop */
	RUN_INTERRUPT,	  /* signals, stops, kill, pause */
	RUN_GROUP_STOP,	  /* stopped by job control */
	RUN_PTRACE_STOP,  /* stopped for the tracer; goes on to ptrace_next */
	RUN_VFORK_WAIT,	  /* waits for the vfork child's exec or exit */
	RUN_EXIT,
	RUN_DEAD,
	RUN_STATES
};

/* A thread. */
struct task {
	struct refcount refs;
	struct thread_group *tg;	/* const; reference */
	struct list_node group_node;	/* taskset */
	struct pid *pid;		/* reference; exec's leader switch exchanges it (taskset) */
	struct pid *old_pid;		/* const once set; keeps the exchanged one for late readers */
	struct mutex mu;		/* LOCK_LEAF; protects "owner" members against readers */
	char comm[TASK_COMM_SIZE];	/* owner */
	struct mm *mm;			/* owner; reference; NULL after exit */
	struct fdtable *fdt;		/* owner; reference */
	struct fs_struct *fs;		/* owner; reference */
	const struct cred *cred;	/* owner; reference */
	struct nsproxy *ns;		/* owner; reference */
	struct pcontext *ctx;		/* owner: platform_interrupt by others under mu */
	struct task_birth *birth;	/* private: what the new thread starts with */

	/* signals */
	sigset_kernel blocked;		/* owner writes under taskset */
	sigset_kernel waited;		/* taskset: sigtimedwait takes these instead of handlers */
	sigset_kernel saved_mask;	/* private: restored after sigsuspend, ppoll... */
	bool restore_mask;
	struct sigqueue pending;	/* taskset */
	struct { uint64_t sp, size; int32_t flags; } altstack; /* private */
	_Atomic bool interrupt;		/* there may be a signal, stop, kill or pause to look at */
	_Atomic bool killed;		/* written under taskset: nothing may wait any more */
	bool stop_pending, stopped;	/* taskset: job control */
	_Atomic bool in_app;		/* inside the platform: platform_interrupt is needed to get out */
	_Atomic bool parked;		/* at a pause point: container_pause counts it */

	/* blocking: see block.h */
	_Atomic uint32_t wake_token;
	const char *_Atomic wait_what;	/* for debug.Stacks: what it waits for, static text or NULL */
	_Atomic int64_t wait_since_ns;	/* and since when, CLOCK_MONOTONIC; 0: awake */

	/* syscall in progress; private */
	int64_t syscall_nr;		/* -1 outside */
	int64_t result;			/* of the handler */
	bool in_syscall;		/* result is still to be written to the registers */
	struct { int64_t (*fn)(struct task *t); uint64_t arg[6]; } restart; /* restart_syscall(2) */

	uaddr_t clear_child_tid;	/* private */
	uaddr_t robust_list;		/* private */
	uint64_t robust_list_size;
	uint32_t exit_status;		/* taskset */
	bool exited;			/* taskset: past exit, only the number is left */
	struct task *vfork_parent;	/* taskset: waits for our exec or exit; reference */
	_Atomic bool vfork_waiting;	/* we wait for a vfork child */
	int32_t parent_death_signal;	/* taskset */
	int32_t nice, sched_policy, sched_priority; /* taskset */
	bool sched_reset_on_fork;
	uint64_t dl_runtime, dl_deadline, dl_period; /* taskset: SCHED_DEADLINE's, ns */
	uint64_t io_id, undo_id;	/* const: who shares CLONE_IO and CLONE_SYSVSEM has the same */
	uint64_t cpu_mask[16];		/* taskset */
	uint32_t personality;		/* owner */
	uint64_t timer_slack_ns, timer_slack_default_ns;
	struct seccomp_filter *seccomp; /* owner; reference */
	uint8_t seccomp_mode;		/* SECCOMP_MODE_*; owner */
	/* What the backend was told of our ids; private. STALE: told nothing, or they have changed since. */
	enum task_facts { FACTS_STALE, FACTS_ALLOWED, FACTS_FORBIDDEN } facts;
	uint16_t ioprio;		/* taskset */
	uint8_t tsc_mode;

	/* ptrace(2), taskset */
	struct task *tracer;		/* borrowed: the tracing thread, or NULL */
	struct list_node tracees, tracee_node;
	struct ptrace_state *ptrace;	/* made at the first attach; freed with the task */
	enum run_state ptrace_next;	/* private */

	_Atomic int64_t user_ns, system_ns; /* cpu time; written by the owner */
	_Atomic uint64_t minflt, majflt, nvcsw, nivcsw;
	_Atomic int64_t switch_ns;	/* start of the stretch not yet accounted, 0 while asleep */
	int64_t start_mono_ns;
	pthread_t thread;
	int32_t host_tid;
	struct list_node all_node;	/* taskset: every task */
	bool over_limit;		/* private: oom_settle is due */
	bool charged;			/* taskset: counts against the limit of its container */
};

/* User and system time of a living task up to now; any thread. */
void task_cpu_times(const struct task *t, int64_t *ret_user_ns, int64_t *ret_system_ns);
/* Sum over living and dead threads; takes taskset_mu unless _locked. */
void thread_group_usage(struct thread_group *tg, struct cpu_usage *ret);
void thread_group_usage_locked(struct thread_group *tg, struct cpu_usage *ret);

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
DEFINE_AUTO(process_group_put, struct process_group *)
/* A reference; NULL when there is none. Takes taskset_mu. */
struct process_group *process_group_find(struct pid_ns *ns, int32_t pgid);
/* The group of tg, a reference; NULL once it is reaped. Takes taskset_mu. */
struct process_group *process_group_of(struct thread_group *tg);
struct session *session_get(struct session *s);
void session_put(struct session *s);
/* Borrowed; NULL when there is none. */
struct process_group *process_group_find_locked(struct pid_ns *ns, int32_t pgid);
/* No member has a parent in another group of the same session (setpgid(2), "orphaned"). */
bool process_group_orphaned_locked(const struct process_group *pg);
int32_t process_group_id_in(const struct process_group *pg, const struct pid_ns *ns); /* 0: not visible */
int32_t session_id_in(const struct session *s, const struct pid_ns *ns);

/* Guest memory of the calling task. */
struct umem *task_umem(struct task *t);

/* Lookups return references; pid as seen in ns. Take taskset_mu themselves. */
struct task *task_find(struct pid_ns *ns, int32_t tid);
struct thread_group *thread_group_find(struct pid_ns *ns, int32_t pid);
int32_t task_tid_in(const struct task *t, const struct pid_ns *ns);	   /* 0: not visible */
int32_t thread_group_pid_in(const struct thread_group *tg, const struct pid_ns *ns);
/* Process group and session numbers of tg; 0 when not visible. Take taskset_mu. */
int32_t thread_group_pgid_in(struct thread_group *tg, const struct pid_ns *ns);
int32_t thread_group_sid_in(struct thread_group *tg, const struct pid_ns *ns);
/* pid of the parent as /proc shows it; 0: outside ns or none. */
int32_t thread_group_ppid_in(struct thread_group *tg, const struct pid_ns *ns);
/* Every task of tg in creation order, ascending from tid `from` on: for /proc/PID/task. */
struct task *thread_group_next_task(struct thread_group *tg, struct pid_ns *ns, int32_t from,
		int32_t *ret_tid);
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
DEFINE_AUTO(thread_group_put, struct thread_group *)
/* A struct walk for paths of the calling task; dirfd AT_FDCWD or a descriptor. walk_put releases. */
struct walk;
NODISCARD int task_walk(struct task *t, int dirfd, struct walk *ret_walk);
void walk_put(struct walk *w);
/* Copies a path from the guest into a page of the caller: -EFAULT, -ENAMETOOLONG; "" is allowed. */
NODISCARD int task_copy_path(struct task *t, uaddr_t addr, char buf[4096]);

/* One letter as /proc/PID/stat shows it: R S D T t Z X. Takes taskset_mu. */
char task_state_letter(struct task *t);
/* Soft limit of the calling task's process; any thread may ask. */
uint64_t task_rlimit(const struct task *t, int resource);
/* Sends t to its next look at signals, stops, kill and pause, out of guest code or sleep. Any thread. */
void task_interrupt(struct task *t);

/* Whether every call of every task is to reach the sentry, also those that a backend could answer; soon. Any thread. */
void kernel_see_all_calls(bool on);

/* The state machine's entry: the body of a task's host thread. */
void task_run(struct task *t);

/*
 * Timers of processes (sentry/syscalls/sys_time.c): at birth, at exec (POSIX timers go) and at the
 * exit of the last thread. No locks held.
 */
int process_timers_init(struct thread_group *tg);
void process_timers_exec(struct thread_group *tg);
void process_timers_exit(struct thread_group *tg);
/* Futex duties of an ending thread (sentry/kernel/futex.c): walks the robust list of the current task;
 * wakes waiters on an address. */
void futex_exit_robust(struct task *t);
int futex_wake_addr(struct task *t, uaddr_t addr, int count);

#endif
