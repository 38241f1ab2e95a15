/*
 * Containers: what the control server drives. A container is a root file system, a set of
 * namespaces, an init process and limits. Implemented by sentry/kernel/container.c; called by
 * sentry/control from its own threads (current is NULL there).
 */
#ifndef SENTRY_KERNEL_CONTAINER_H
#define SENTRY_KERNEL_CONTAINER_H

#include "sentry/kernel/cgroup.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/vfs/vfs.h"

enum container_state { CONTAINER_CREATED = 2, CONTAINER_RUNNING, CONTAINER_PAUSED, CONTAINER_STOPPED };

/* What a new process is made of; borrowed by the calls below. */
struct process_args {
	const char *const *argv, *const *envv; /* NULL-terminated */
	const char *exe;	/* NULL: argv[0], looked up in PATH of envv when it has no slash */
	const char *cwd;	/* "" is "/" */
	bool *cwd_failed;	/* set when it is cwd that an error is about; may be NULL */
	const struct cred *cred; /* reference stays with the caller */
	struct limits limits;
	uint32_t umask;
	int32_t oom_score_adj;
	uint32_t personality;
	uint16_t ioprio;
	int32_t sched_policy, sched_priority, nice;
	struct file *const *files; /* guest fd n = files[n]; may hold NULL */
	unsigned file_count;
	struct tty *tty;	/* becomes the controlling terminal of a new session; may be NULL */
};

struct container_args {
	const char *id;
	struct mnt_ns *mnt_ns; /* taken over */
	struct path root;      /* taken over */
	struct user_ns *user_ns;
	struct pid_ns *pid_ns; /* NULL: fresh */
	struct uts_ns *uts;
	struct ipc_ns *ipc;
	struct net_ns *net;
	struct cgroup *cgroup; /* limits; the container takes a reference */
	struct seccomp_filter *seccomp; /* every process starts with it; may be NULL; a reference is taken */
};

struct container;
NODISCARD int container_new(const struct container_args *a, struct container **ret_c);
struct container *container_find(const char *id); /* reference, or NULL; abbreviations are runsc's */
struct container *container_get(struct container *c);
void container_put(struct container *c);
/* Gives up the files of a container that has stopped: no process can be started in it any more. Any thread. */
void container_drop_tree(struct container *c);
/* Its id is free again. What is left of it goes with the last reference; its processes have ended. Any thread. */
void container_remove(struct container *c);
/* Loads init so that it would run next (exec errors come back here), but does not let it run. */
NODISCARD int container_create_init(struct container *c, const struct process_args *a);
NODISCARD int container_start(struct container *c);
/* A further process (exec). *ret_pid in the container's pid namespace. Runs at once. */
NODISCARD int container_exec(struct container *c, const struct process_args *a, int32_t *ret_pid);
/* Wait status when the process has ended (its status is kept until asked once for exec'd ones, always for
 * init): 1 and *ret_status, 0 still running, -ECHILD unknown. */
NODISCARD int container_wait_poll(struct container *c, int32_t pid, uint32_t *ret_status);
/* Woken (POLLHUP) whenever a waited-for process ends; use with container_wait_poll. */
struct waitq *container_waitq(struct container *c);
/* The process of that number in the container's pid namespace, or its first (0), while it lives; a reference. */
struct thread_group *container_process_find(struct container *c, int32_t pid);
enum container_state container_state(struct container *c);
/* mode as control.proto SignalArgs: 0 process, 1 all, 2 foreground group of its terminal, 3 group. */
NODISCARD int container_signal(struct container *c, int32_t pid, int signo, int mode);
/* SIGKILL for every process of c, or of every container (NULL), also of paused ones: those go on, to their end. */
void containers_kill(struct container *c);
/* Whether any process of c, or of any container (NULL), has not ended yet. */
bool containers_busy(struct container *c);
/* Somebody outside asked c to end, or so it seems: notes the time. */
void container_note_stop(struct container *c);
/* Whether another container than c has a process, and at least one of them was asked to end at since_ns (monotonic) or after. */
bool containers_stopping(struct container *c, int64_t since_ns, bool *ret_any);
/* Freezes every task of c at its next safe point; returns when all stopped, -ETIMEDOUT (none is frozen then). */
NODISCARD int container_pause(struct container *c, int64_t deadline_ns);
void container_resume(struct container *c);
bool container_paused(struct container *c);
struct pid_ns *container_pid_ns(struct container *c);
/* References to its root and mount namespace; -ESRCH when it gave them up. */
NODISCARD int container_tree(struct container *c, struct path *ret_root, struct mnt_ns **ret_ns);
struct user_ns *container_user_ns(struct container *c);
/* Its uts, ipc, net and cgroup namespaces, borrowed. */
const struct nsproxy *container_ns(struct container *c);
const char *container_id(const struct container *c);
/* Borrowed; const while the container is. */
struct cgroup *container_cgroup(struct container *c);
int kernel_init(struct platform *platform, uint32_t cpus); /* boot only */
uint32_t kernel_cpu_count(void);
extern struct platform *kernel_platform;

#endif
