/* Calls to a container's sentry over ROOT/ID/control.sock. */
#ifndef RUNSC_SANDBOX_CONTROL_H
#define RUNSC_SANDBOX_CONTROL_H

#include "runsc/sandbox/container.h"
#include "urpc/urpc.h"

DEFINE_AUTO(urpc_client_free, struct urpc_client *)

/* Makes the listening socket ROOT/ID/control.sock; a descriptor or -1 with err. */
int control_listen(const struct container *c, struct error *err);
/*
 * Gives c a name for its sandbox's socket: ROOT/ID/control.sock too, so that it reaches that very sandbox and no other
 * that has the id later.
 */
int control_link(const struct container *c, const struct container *root, struct error *err);
/* Connects; an error says that the container is not running. */
int control_connect(const struct container *c, struct urpc_client **ret, struct error *err);
/* The error of a failed call: VERB, the sentry's sentence, what to do. Returns -1. */
int control_fail(struct urpc_client *client, int ret, const char *verb, struct error *err);
/*
 * Changes the sentry's log as args say. strace: the system calls that it is to show, with commas between; NULL: all that
 * args allow.
 */
int control_logging(struct urpc_client *client, Urpc__LoggingArgs *args, const char *strace, const char *verb,
		    struct error *err);
/* A connection with a thread of its own that waits for events, and where it writes what it hears. */
struct control_watch {
	struct urpc_client *client;
	char *id;
	int pid; /* the caller's */
	int out;
	void (*run)(const struct control_watch *w); /* on the thread; the end of it is the end of the watch */
};
/*
 * A descriptor that gives what run writes, and ends when run does; -1 with err, which says that the thread WAITS for
 * something. Signals should be blocked before.
 */
int control_watch(const struct container *c, int pid, void (*run)(const struct control_watch *w), const char *waits,
		  struct error *err);
/* Sends signo to process pid (0: init) in the given mode. */
int control_signal(const struct container *c, int signo, int pid, Urpc__SignalArgs__Mode mode,
		   struct error *err);
/* Tells the sentry the limits that resources names; others stay. */
int control_update(const struct container *c, const struct oci_resources *resources, struct error *err);
/*
 * Ends a container that shares its sandbox and makes the sentry forget it; nothing when the sandbox is gone or does not
 * know it. false: it did not answer in time.
 */
bool control_destroy(const struct container *c);
/*
 * The error of a program that could not be started, in runc's words and with the exit status that shells
 * use: 127 not found, 126 not executable. ret is the negative errno of the call.
 */
int control_program_fail(struct urpc_client *client, int ret, const char *program, struct error *err);

#endif
