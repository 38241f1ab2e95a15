/* What the files about containers share. */
#ifndef SENTRY_KERNEL_CONTAINER_PRIV_H
#define SENTRY_KERNEL_CONTAINER_PRIV_H

#include "sentry/kernel/container.h"
#include "sentry/kernel/kernel_priv.h"

/* A process that somebody outside may wait for; all under taskset_mu. */
struct container_process {
	struct list_node node;
	struct thread_group *tg; /* reference until it ended */
	int32_t pid;		 /* const; in the container's namespace */
	uint32_t status;
	bool done, init;
};

struct container {
	struct refcount refs;
	struct list_node node; /* containers_mu; linked: the list's reference */
	struct mnt_ns *mnt_ns; /* containers_mu; NULL: given up, and root with it */
	struct path root;      /* containers_mu */
	char *id;	       /* const, like all to the blank line */
	struct user_ns *user_ns;
	struct pid_ns *pid_ns;
	struct nsproxy *ns;
	struct cgroup *cgroup;
	struct seccomp_filter *seccomp; /* may be NULL */

	struct list_node processes; /* taskset */
	bool started;		    /* taskset */
	bool stopped;		    /* taskset: init has ended */
	_Atomic int64_t stop_ns;    /* when it was last asked to end; 0: never */
	_Atomic uint32_t paused;    /* sleepers at the gate wait for it to become 0 */
	struct waitq waitq;
};

#endif
