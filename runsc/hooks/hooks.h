/*
 * OCI hooks. All but startContainer are programs of the host and run there, in the runtime's namespaces; those of
 * createContainer join the container's network, uts and ipc namespaces. startContainer hooks are programs of the
 * container, so they run inside of the sandbox.
 */
#ifndef RUNSC_HOOKS_HOOKS_H
#define RUNSC_HOOKS_HOOKS_H

#include "runsc/oci/spec.h"
#include "runsc/sandbox/container.h"

/*
 * Runs the hooks of one kind in order, each with the state JSON on its stdin, its own environment, and its
 * timeout (then it is killed). The first that fails ends the list with an error that shows its output, except for
 * poststart and poststop, of which all are run.
 */
int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct container *c,
	      enum container_status status, struct error *err);
/*
 * The startContainer hooks of a created container: processes of the sandbox beside its init, which waits to be
 * started, with init's user, capabilities and directory. The first that fails ends the list.
 */
int hooks_run_inside(const struct oci_spec *spec, const struct container *c, struct error *err);

#endif
