/*
 * OCI hooks. All of them run in the runtime's namespaces: the container's exist only inside of the
 * sentry, where no host program can run.
 */
#ifndef RUNSC_HOOKS_HOOKS_H
#define RUNSC_HOOKS_HOOKS_H

#include "runsc/oci/spec.h"
#include "runsc/sandbox/container.h"

/*
 * Runs the hooks of one kind in order, each with the state JSON on its stdin, its own environment, and its
 * timeout. The first that fails ends the list with an error that shows its output, except for poststart and
 * poststop, of which all are run.
 */
int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct container *c,
	      enum container_status status, struct error *err);

#endif
