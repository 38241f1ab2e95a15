/* The specification of a container as the message that the sentry takes. */
#ifndef RUNSC_OCI_MESSAGE_H
#define RUNSC_OCI_MESSAGE_H

#include "runsc/oci/spec.h"
#include "urpc/proto/control.pb-c.h"

/* Of a container that joins a sandbox; {0}: its namespaces are what config.json says. */
struct message_namespaces {
	const char *of[NS_KINDS]; /* the id of the container whose namespace is joined; NULL: nobody's */
	bool shared[NS_KINDS];	  /* the sandbox's, although config.json names a namespace */
	bool own_network;	  /* another than the sandbox's */
};

/* What the sentry has to know and config.json does not say. */
struct message_extra {
	const char *id;
	uint32_t preserve_fds;
	uint32_t gofer_count; /* 1 for the root file system and one for each bind mount */
	uint32_t overlay_file_count;
	bool overlay_root, overlay_all, overlay_self;
	uint64_t overlay_size; /* bytes; 0: no limit */
	bool root_shared, mounts_shared; /* others change the files meanwhile */
	const char *cgroup_path;
	uint32_t cgroup_version; /* of the host */
	struct message_namespaces namespaces;
	const bool *mount_is_file; /* one for each mount; NULL: all are directories */
	const void *seccomp;	   /* compiled linux.seccomp; borrowed by the message */
	size_t seccomp_size;
};

/*
 * Both return a message whose every part lives in arena or is borrowed from the spec; never freed with
 * protobuf_c_message_free_unpacked.
 */
Urpc__Container *message_of_spec(struct arena *arena, const struct oci_spec *spec,
				 const struct message_extra *extra);
Urpc__Process *message_of_process(struct arena *arena, const struct oci_process *process,
				  uint32_t preserve_fds);
/* The limits that the sentry itself keeps and shows; lives like the above. */
Urpc__Resources *message_of_resources(struct arena *arena, const struct oci_resources *resources);
/* Number of CPUs that a quota pays for (at least 2, as many programs expect), 0 when there is none. */
uint32_t cpus_of_resources(const struct oci_resources *resources);

#endif
