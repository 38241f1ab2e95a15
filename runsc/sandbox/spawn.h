/* Starting runsc-sentry and runsc-gofer: namespaces, descriptors, environment. */
#ifndef RUNSC_SANDBOX_SPAWN_H
#define RUNSC_SANDBOX_SPAWN_H

#include "runsc/cgroup/cgroup.h"

#define SPAWN_MAX_FDS 512

struct spawn_args {
	const char *path; /* of the program */
	struct strings argv;
	const int *fds; /* stay open in the program under the same numbers */
	size_t fd_count;
	int stderr_fd; /* -1: /dev/null */
	int ready_fd;  /* where a failure before exec is told as one line; also in fds */
	int net_fd; /* join this network namespace; -1: see below */
	/* the pid, ipc, uts, cgroup and mount namespaces of config.json: new, named, or the caller's; NULL: all new */
	const struct oci_namespace *listed;
	bool die_with_us; /* SIGKILL when the caller ends */
	bool new_user; /* rootless: a user namespace in which the caller is root */
	bool as_nobody; /* root becomes nobody, with CAP_SYS_ADMIN and CAP_SETPCAP for the program's boot */
	bool new_net;  /* an empty network namespace */
	bool loopback; /* with its loopback up */
	const char *net_path;	   /* join this network namespace instead, or NULL */
	bool own_net;		   /* the network namespace is the sandbox's: sysctls may be set */
	const struct oci_strings *sysctl; /* name=value; those of net. are set in an own namespace */
	const struct cgroup_entry *cgroup; /* joined before the program runs; or NULL */
	const char *oom_score_adj; /* text for /proc/self/oom_score_adj, or NULL */
};

struct helper {
	pid_t pid; /* 0: not running */
	int pid_fd;
	int ready_fd; /* our end of the readiness pipe */
};

/*
 * Finds a helper program of this release beside this executable or in ../libexec/runsc; heap, or
 * NULL with err.
 */
char *spawn_find(const char *name, struct error *err);
/*
 * The device for a sentry of this platform, which itself is nobody and sees no path: *ret_fd, or -1 there when it has no use for
 * it; `auto` has none, since kvm is taken by name only. device: its path, "" for /dev/kvm. Nonzero with err when it cannot be opened.
 */
int spawn_open_kvm(const char *platform, const char *device, int *ret_fd, struct error *err);
/*
 * Starts the program in fresh pid, mount, ipc, uts and cgroup namespaces (or those listed; a named mount namespace is
 * left to the program), session
 * leader, working directory /, umask 0, default signals, stdin and stdout at /dev/null, every
 * descriptor closed that is not in fds. Returns at once; see spawn_wait_ready. The child is the
 * caller's; helper->ready_fd is not touched.
 */
int spawn_helper(const struct spawn_args *args, struct helper *helper, struct error *err);
/*
 * Waits until every helper has written its byte of readiness; at most timeout_ms for all. A helper that
 * wrote a line instead, ended, or is late gives the error; name[i] is what the message calls it.
 */
int spawn_wait_ready(struct helper *const *helpers, const char *const *names, size_t count,
		     int timeout_ms, struct error *err);
/*
 * /proc of the helper's pid namespace as a detached, read-only mount; -1 where the host does not let us. Not
 * while the caller has threads.
 */
int spawn_open_proc(const struct helper *helper);
/* SIGKILL, and reaps it. */
void helper_kill(struct helper *helper);
/* Brings the loopback device of the calling thread's network namespace up; negative errno. */
int loopback_up(void);

#endif
