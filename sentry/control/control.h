/*
 * The control server's methods: what runsc may ask of the sandbox. Handlers run on the connection's
 * thread, where `current` is NULL; one connection is one thread.
 */
#ifndef SENTRY_CONTROL_CONTROL_H
#define SENTRY_CONTROL_CONTROL_H

#include "urpc/urpc.h"

struct control_options {
	int strace_fd; /* where Logging.Change turns strace on; -1: the log */
	const char *platform; /* what runs the guest, in words; borrowed for ever */
	void (*stop)(void); /* ends the sandbox, once the calls that are being answered are done */
};

/* Boot only. */
void control_init(const struct control_options *o);
/* The handler table for urpc_server_new. */
extern const struct urpc_handlers control_handlers;

#endif
