/*
 * A process beside a create: should the creator die, even by SIGKILL, it removes what there is of the
 * container by then. On the normal way it ends without doing anything.
 */
#ifndef RUNSC_SANDBOX_JANITOR_H
#define RUNSC_SANDBOX_JANITOR_H

#include "runsc/sandbox/container.h"

struct janitor {
	pid_t pid; /* 0: none */
	int fd;
};

/* Forks it, before anything is made; it touches only what this process made under the id. */
int janitor_start(const struct config *config, const char *id, struct janitor *ret, struct error *err);
/* The create is over, in whichever way: the janitor ends. */
void janitor_dismiss(struct janitor *janitor);

#endif
