/* Birth of tasks: clone(2), and execve(2). Called by the system call handlers and the container. */
#ifndef SENTRY_KERNEL_CLONE_H
#define SENTRY_KERNEL_CLONE_H

#include "sentry/kernel/task.h"
#include "sentry/loader/loader.h"
#include "sentry/vfs/vfs.h"

struct clone_args_kernel {
	uint64_t flags; /* CLONE_* without the signal */
	uint64_t pidfd, child_tid, parent_tid, stack, tls; /* stack: the pointer itself */
	bool has_stack;
	int32_t exit_signal;
	int32_t set_tid[PID_NS_LEVELS_MAX];
	unsigned set_tid_count;
};
/* Makes a thread or process. Returns its id in the caller's namespace or -errno. */
int64_t task_clone(struct task *t, const struct clone_args_kernel *a);

/* New namespaces for the calling task (unshare(2)). */
int task_unshare(struct task *t, uint64_t flags);
/* nsproxy for flags (CLONE_NEW*), owned by owner: a reference in *ret. fs: private copy whose paths move
 * into the new mount namespace (CLONE_NEWNS). */
NODISCARD int nsproxy_clone(struct task *t, uint64_t flags, struct user_ns *owner, struct fs_struct *fs,
			    struct nsproxy **ret);
/* A private credential, full of capabilities in a new user namespace owned by the caller. */
NODISCARD int cred_new_user_ns(struct task *t, const struct cred **ret);

/* What execve(2) is given; everything is borrowed, strings may be rewritten. */
struct exec_args {
	struct file *file;	 /* opened with VFS_O_EXEC */
	const char *filename;	 /* as given, for AT_EXECFN, comm and #! scripts */
	bool fd_closes;		 /* execveat on a close-on-exec descriptor: scripts would not find it */
	struct loader_strings *strings;
};
/* Replaces the calling task's program, or gives a new task its first one. 0: registers are set; -errno:
 * nothing happened (or the task is being killed). execve(2) */
NODISCARD int task_exec(struct task *t, struct exec_args *a);
/* Limits that the address space of t is subject to. */
struct mm_limits task_mm_limits(const struct task *t);

#endif
