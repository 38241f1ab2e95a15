/* Birth and start of a sandbox: what `create`, `run`, `do`, `start` and `exec` have in common. */
#ifndef RUNSC_SANDBOX_SANDBOX_H
#define RUNSC_SANDBOX_SANDBOX_H

#include "runsc/sandbox/container.h"
#include "runsc/sandbox/spawn.h"

struct create_args {
	const char *id;
	const char *bundle;	    /* directory, as the user gave it */
	const char *config_text;    /* instead of BUNDLE/config.json; NULL: read the file */
	const char *console_socket; /* NULL: none */
	const char *pid_file;	    /* NULL: none */
	uint32_t preserve_fds;
	const int *extra_fds; /* preserve_fds descriptors that become 3, 4, ... inside; NULL: those of the same numbers */
	uint32_t listen_fds;  /* the first of them are sockets by LISTEN_FDS: the program is told so */
	bool foreground; /* the caller stays: the sandbox ends with it */
};

/* What the process that created a sandbox in the foreground holds of it; -1: not there. */
struct sandbox_live {
	struct helper sentry, gofer;
	int death_fd; /* closed without a commit byte, it ends the sentry */
	int exit_fd;  /* the wait status of init comes here */
	int master;   /* terminal of init */
};

/*
 * Makes a sandbox with its container up to the state created. On error nothing is left: no process,
 * cgroup, state. Not even a SIGKILL of the caller leaves anything. The container comes unlocked.
 */
int sandbox_create(const struct config *config, const struct create_args *args,
		   struct container **ret, struct sandbox_live *live, struct error *err);
/* Runs the program of a created container. */
int sandbox_start(struct container *c, struct error *err);
void sandbox_live_fini(struct sandbox_live *live);

struct exec_args {
	const struct oci_process *process;
	const char *console_socket;
	uint32_t preserve_fds;
	const int *extra_fds; /* preserve_fds descriptors that become 3, 4, ... inside; NULL: those of the same numbers */
	bool foreground; /* a terminal is made here and *ret_master set */
};
/*
 * Starts a further process; its id inside goes to *ret_pid. The errors are those of a program that cannot
 * be started (126, 127) or of the container's state.
 */
int sandbox_exec(struct container *c, const struct exec_args *args, int *ret_pid, int *ret_master,
		 struct error *err);
/*
 * A descriptor that gives the wait status (4 bytes) of process pid (0: init) when it ends, or ends without
 * when the sandbox dies. Waits on a thread of its own; signals should be blocked before.
 */
int sandbox_wait_fd(const struct container *c, int pid, struct error *err);
/* Stdio for the sentry: terminal (slave, also master) or the caller's own three; adds to fds. */
int sandbox_stdio(const struct oci_process *process, const char *console_socket, bool foreground,
		  uint32_t preserve_fds, const int *extra_fds, int *fds, size_t *count, int *ret_slave, int *ret_master,
		  struct error *err);

#endif
