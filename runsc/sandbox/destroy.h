/* Taking a container apart: works on whatever part of one is there, waits for a sentry that goes on 5 s at most. */
#ifndef RUNSC_SANDBOX_DESTROY_H
#define RUNSC_SANDBOX_DESTROY_H

#include "runsc/sandbox/container.h"

/*
 * Kills what is left of the processes (SIGKILL by pidfd), removes the cgroups and the state directory, and
 * with run_hooks runs the poststop hooks. The lock is taken when it is not held. Goes on after
 * a failure and reports the first.
 */
int container_destroy(struct container *c, bool run_hooks, struct error *err);
/*
 * Only the processes: kills sentry and gofer and waits until they are gone (a zombie is). In a shared sandbox the container
 * is ended and only its gofer killed.
 */
int container_kill_processes(const struct container *c, struct error *err);

#endif
