/* What the steps of a create share; private to this folder. */
#ifndef RUNSC_SANDBOX_CREATION_H
#define RUNSC_SANDBOX_CREATION_H

#include "runsc/sandbox/janitor.h"
#include "runsc/sandbox/pod.h"
#include "runsc/sandbox/sandbox.h"

#define MAX_BINDS 200u

/* All that a create works with; gone at its end. */
struct creation {
	const struct config *config; /* the caller's, or adjusted */
	struct config adjusted;	     /* by annotations */
	const struct create_args *args;
	struct container *c;
	struct sandbox_live *live;
	struct oci_spec spec;
	struct pod pod; /* the sandbox that it joins, if it does */
	struct overlay_choice overlay;
	char *bundle, *rootfs;
	bool *mount_is_file;
	void *seccomp; /* compiled profile; in the spec's arena; NULL: none */
	size_t seccomp_size;
	size_t gofer_count;
	int gofer_ours[MAX_BINDS + 1], gofer_theirs[MAX_BINDS + 1];
	int control_fd, overlay_fd, slave;
	int socket_ours, socket_theirs; /* the sentry asks the gofer for sockets of the container's own network */
	int status_fd; /* where the sentry tells the gofer how init ended */
	struct cgroup_entry cgroup;
	struct janitor janitor;
	bool hooks_began; /* then the poststop hooks are run even if the creation fails */
};

/* Start the two programs of a sandbox (birth.c); spawn_wait_ready tells when they have come up. */
int spawn_sentry(struct creation *cr, struct error *err);
/* After the sentry, whose network namespace it joins. */
int spawn_gofer(struct creation *cr, struct error *err);
/* Writes the mappings of config.json for the process that stands for the container, once it is ready. */
int gofer_map_ids(const struct creation *cr, struct error *err);

#endif
