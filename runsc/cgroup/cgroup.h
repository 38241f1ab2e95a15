/*
 * Host cgroups: version 1, version 2 and hybrids of both, by the file system or by systemd. A container's cgroup is
 * a directory of the same name in every hierarchy.
 */
#ifndef RUNSC_CGROUP_CGROUP_H
#define RUNSC_CGROUP_CGROUP_H

#include "runsc/oci/spec.h"

/* How many host tasks one guest task may cost, and what the sandbox itself needs, for pids.max. */
#define CGROUP_TASKS_PER_GUEST_TASK 3
#define CGROUP_TASKS_OF_SANDBOX 64
/*
 * Memory of the host that is not the guest's, above a limit of memory: a part of the limit (page tables, what stands for each
 * frame, what calls under way may take too much) and what every sandbox needs. The sentry keeps the exact limit.
 */
#define CGROUP_MEMORY_DIVISOR 16
#define CGROUP_MEMORY_OF_SANDBOX (64ll << 20)
/* The host's limit for a guest's limit above 0. */
int64_t cgroup_host_memory(int64_t limit);
#define CGROUP_MAX_HIERARCHIES 32

struct cgroup_dir {
	char *path;
	char *controllers; /* version 1: "cpu,cpuacct", "name=systemd"; NULL for version 2 */
	bool made;	   /* by us: it was not there before */
};

/* The container's directory in each hierarchy. {0}: no cgroup. */
struct cgroup {
	struct cgroup_dir *v;
	size_t count;
	char *unit, *slice; /* of systemd; NULL: made by the file system alone */
	bool user;	    /* the user's systemd, not the system's */
};

/*
 * Finds the directories of linux.cgroupsPath (NULL or "": a default) in every hierarchy.
 * An absolute path is relative to the mount of each hierarchy; another one, and the default ID, to the cgroup of this process
 * (version 2: to its parent, for a cgroup with processes has no children with controllers). With optional, and
 * for the default path, a hierarchy that cannot be written is left out by cgroup_make. Changes nothing, so that the
 * caller can note them down before.
 */
int cgroup_plan(const char *path, const char *id, struct cgroup *ret, struct error *err);
/*
 * The same for a scope of systemd, with path slice:prefix:name (or none: runsc-ID in system.slice). The scope is made with its first
 * processes by cgroup_start_scope, in place of cgroup_make and cgroup_entry_open.
 */
int cgroup_plan_scope(const char *path, const char *id, bool user, struct cgroup *ret, struct error *err);
/*
 * Has systemd make the scope with these processes in it, with the properties that annotations name
 * (org.systemd.property.NAME), and applies linux.resources. May take half a minute.
 */
int cgroup_start_scope(struct cgroup *cg, const char *id, const pid_t *pids, size_t count, const struct oci_spec *spec,
		       struct error *err);
/*
 * Makes what was planned and applies resources. Hierarchies in which nothing may be made drop out of cg when optional is
 * set. A directory that was there must hold no process.
 */
int cgroup_make(struct cgroup *cg, const struct oci_resources *resources, bool optional, struct error *err);
/* Applies limits to an existing cgroup; devices: also the list of devices (which starts with a denial of all). */
int cgroup_apply(const struct cgroup *cg, const struct oci_resources *resources, bool devices,
		 struct error *err);
/*
 * Takes away the limits that the sentry keeps for each container itself: of a cgroup in which the processes of several
 * containers are.
 */
int cgroup_lift(const struct cgroup *cg, struct error *err);
/* 2 on hosts with version 2 alone, else 1. */
unsigned int cgroup_host_version(void);
void cgroup_fini(struct cgroup *cg);

/*
 * The way in for a process that a parent is about to start. A child that moves itself before it has threads spares the host
 * the wait for an RCU grace period (12 to 16 ms) that moving another process costs.
 */
struct cgroup_entry {
	int into;		       /* version 2: for CLONE_INTO_CGROUP; -1: none */
	int into_procs;		       /* its cgroup.procs, should that clone be refused */
	int tasks[CGROUP_MAX_HIERARCHIES]; /* version 1 */
	size_t count;
};
#define CGROUP_ENTRY_NONE                                                                          \
	(struct cgroup_entry)                                                                      \
	{                                                                                          \
		.into = -1, .into_procs = -1                                                       \
	}
int cgroup_entry_open(const struct cgroup *cg, struct cgroup_entry *ret, struct error *err);
void cgroup_entry_close(struct cgroup_entry *entry);
/* In the child, single-threaded, with the parent's descriptors: joins. born_in: the clone did version 2. Negative errno. */
int cgroup_entry_join(const struct cgroup_entry *entry, bool born_in);
/* Moves another process into every hierarchy. */
int cgroup_join(const struct cgroup *cg, pid_t pid, struct error *err);

/*
 * Removes the directories and the parents that runsc made, when they are empty; one that is not there is fine. Processes that are
 * left in a directory that we made are killed; one that was there before stays when it is in use. Waits for dying ones, at most
 * two seconds.
 */
int cgroup_remove(const struct cgroup *cg, struct error *err);

/* For state.json: a new reference; and back (anything malformed is no cgroup). */
json_t *cgroup_json(const struct cgroup *cg);
void cgroup_of_json(const json_t *json, struct cgroup *ret);

/* The container's directory that has the controller ("memory"), of whichever version; NULL when there is none. */
const struct cgroup_dir *cgroup_find(const struct cgroup *cg, const char *controller);

#endif
