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

/* Forks it. c is locked; the lock is shared with it until janitor_dismiss. */
int janitor_start(struct container *c, struct janitor *ret, struct error *err);
/* The create is over, in whichever way: the janitor ends. */
void janitor_dismiss(struct janitor *janitor);

#endif
