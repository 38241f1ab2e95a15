/* Containers that share a sandbox: which one a new container joins, and with whose namespaces. */
#ifndef RUNSC_SANDBOX_POD_H
#define RUNSC_SANDBOX_POD_H

#include "runsc/oci/message.h"
#include "runsc/sandbox/container.h"
#include "runsc/sandbox/spawn.h"

/* POD_NONE: the new container gets a sandbox of its own. */
struct pod {
	struct container *root; /* of the sandbox that is joined; owned */
	struct helper sentry;	/* its sentry, which is no child of ours */
	struct strings ids;	/* owns what the names point to */
	struct message_namespaces namespaces;
};

#define POD_NONE                                                                                   \
	(struct pod)                                                                               \
	{                                                                                          \
		.sentry = { .pid_fd = -1, .ready_fd = -1 }                                         \
	}

/*
 * A new container joins a sandbox when an annotation says so (io.kubernetes.cri.container-type or
 * io.kubernetes.cri-o.ContainerType is "container"), or when the path of its pid, ipc, uts or user namespace is that of the
 * process that stands for one of our containers. Fails when that sandbox does not live. Without an annotation it gets the
 * network of config.json, be it the sandbox's or another. CRI-O's annotation of an unknown sandbox is no error (podman
 * writes it in pods without an infra container): then *ret stays POD_NONE. The sandbox may end at any time after.
 */
int pod_find(const struct config *config, const struct oci_spec *spec, struct pod *ret, struct error *err);
void pod_fini(struct pod *pod);

#endif
