/* pid, uts, ipc, net, cgroup namespaces (namespaces(7)); user namespaces are in core/cred.h. */
#ifndef SENTRY_KERNEL_NAMESPACES_H
#define SENTRY_KERNEL_NAMESPACES_H

#include "sentry/kernel/task.h"

struct pid_ns {
	struct refcount refs;
	struct pid_ns *parent;	/* reference; const */
	uint32_t level;		/* const; 0: the sandbox's root */
	struct user_ns *user_ns; /* reference; const */
	uint64_t ns_ino;
	struct thread_group *init; /* taskset; child reaper */
	int32_t last_pid;	/* taskset */
	uint32_t pid_count; /* taskset */
	struct rb_tree tids;	/* taskset: pid_number.node by nr */
	bool dying;		/* taskset: init has exited, no new tasks */
};

struct cgroup_ns {
	struct refcount refs;
	struct user_ns *user_ns;
	uint64_t ns_ino;
};

/* A fresh inode number for a namespace file. */
uint64_t ns_ino_next(void);
extern struct pid_ns *root_pid_ns; /* const after kernel_init; sees every task of the sandbox */

struct uts_ns {
	struct refcount refs;
	struct user_ns *user_ns;
	uint64_t ns_ino;
	struct mutex mu; /* LOCK_LEAF */
	char nodename[65], domainname[65];
};

struct uts_ns *uts_ns_new(struct user_ns *owner, const struct uts_ns *copy_from);
struct pid_ns *pid_ns_new(struct user_ns *owner, struct pid_ns *parent);
struct uts_ns *uts_ns_get(struct uts_ns *ns);
void uts_ns_put(struct uts_ns *ns);
struct pid_ns *pid_ns_get(struct pid_ns *ns);
void pid_ns_put(struct pid_ns *ns);
struct cgroup_ns *cgroup_ns_new(struct user_ns *owner);
struct cgroup_ns *cgroup_ns_get(struct cgroup_ns *ns);
void cgroup_ns_put(struct cgroup_ns *ns);
/* References are taken; NULL: out of memory. */
struct nsproxy *nsproxy_new(struct uts_ns *uts, struct ipc_ns *ipc, struct net_ns *net,
			    struct pid_ns *pid_for_children, struct cgroup_ns *cgroup);
struct nsproxy *nsproxy_get(struct nsproxy *p);
void nsproxy_put(struct nsproxy *p);
/* Implemented by their owners (sentry/ipc, sentry/net). */
struct ipc_ns *ipc_ns_new(struct user_ns *owner);
struct ipc_ns *ipc_ns_get(struct ipc_ns *ns);
void ipc_ns_put(struct ipc_ns *ns);
uint64_t ipc_ns_ino(const struct ipc_ns *ns);
void ipc_exit_task(struct task *t); /* semaphore undo, shm detach is by mm */
struct net_ns *net_ns_new(struct user_ns *owner); /* loopback only */
struct net_ns *net_ns_get(struct net_ns *ns);
void net_ns_put(struct net_ns *ns);
uint64_t net_ns_ino(const struct net_ns *ns);
struct user_ns *ipc_ns_owner(const struct ipc_ns *ns);
struct user_ns *net_ns_owner(const struct net_ns *ns);

/* Files of /proc/PID/ns (sentry/kernel/nsfs.c). */
enum ns_kind { NS_USER, NS_PID, NS_PID_FOR_CHILDREN, NS_UTS, NS_IPC, NS_NET, NS_MNT, NS_CGROUP, NS_KINDS };
struct file;
NODISCARD int ns_file_new(struct task *t, enum ns_kind kind, struct file **ret_file);
/* "uts:[4026531838]" */
int ns_link_text(struct task *t, enum ns_kind kind, char *buf, size_t size);

#endif
