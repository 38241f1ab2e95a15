/* Shared by the files of this folder. */
#ifndef RUNSC_CGROUP_CGROUP_PRIV_H
#define RUNSC_CGROUP_CGROUP_PRIV_H

#include "runsc/cgroup/cgroup.h"

struct hierarchy {
	char *mount;	   /* where it is mounted */
	char *controllers; /* version 1: "cpu,cpuacct"; NULL for version 2 */
	char *own;	   /* path of this process in it, below the mount */
};
struct hierarchies {
	struct hierarchy v[CGROUP_MAX_HIERARCHIES];
	size_t count;
};
/* Each mounted hierarchy once. */
void hierarchies_find(struct hierarchies *ret);
/* The same of the texts of /proc/self/mountinfo (which it changes) and /proc/self/cgroup. */
void hierarchies_parse(char *mountinfo, const char *proc_cgroup, struct hierarchies *ret);
void hierarchies_fini(struct hierarchies *list);
/* Whether word is one of the comma separated list. */
bool controllers_have(const char *list, const char *word);

/* The attribute of a parent directory that runsc made, and that goes with the last container in it. */
#define CGROUP_MADE_ATTRIBUTE "user.runsc.made"

/* One value for one file. Controllers have the names of version 1: "blkio" is io of version 2. */
struct cgroup_write {
	const char *controller, *file, *text;
	const char *other_file, *other_text; /* where there is no such file; or NULL */
	bool optional;			     /* no such file or controller: fine */
	bool sentry;			     /* the sentry keeps this limit without any cgroup */
	bool unified;			     /* a file of version 2 by its name, wherever the controller is */
};
struct cgroup_writes {
	struct arena *arena;
	struct cgroup_write v[512];
	size_t count;
};
/* What to write, in order. One that fails with EINVAL is tried again after the others. Pure functions of resources. */
int writes_v1(const struct oci_resources *r, bool devices, struct cgroup_writes *ret, struct error *err);
int writes_v2(const struct oci_resources *r, struct cgroup_writes *ret, struct error *err);
/* Values of version 2 for those of config.json; swap: OCI_UNSET for nothing to write. */
#define LIMITS_PERIOD_DEFAULT 100000
int64_t limits_cpu_weight(int64_t shares);
int64_t limits_io_weight(int64_t weight);
int limits_swap_v2(const struct oci_resources *r, int64_t *ret, struct error *err);
/* pids.max for a guest's limit; -1: none. */
int64_t limits_host_tasks(int64_t guest);
/* The name in version 2 of a controller of version 1. */
const char *controller_v2(const char *controller);

/* Adds the directory path, from the top of every hierarchy. */
void cgroup_plan_from_top(const char *path, struct cgroup *ret);
/* The directory of version 2; *ret_alone: there is none of version 1 with a controller beside it. */
const struct cgroup_dir *cgroup_unified(const struct cgroup *cg, bool *ret_alone);

/* Unit, slice and directory below the hierarchy's top (heap) of slice:prefix:name; the first two go to ret. */
int scope_names(const char *path, const char *id, bool user, struct cgroup *ret, char **ret_dir, struct error *err);
/* "a-b.slice" to "/a.slice/a-b.slice" (heap); NULL: no name of a slice. */
char *scope_expand_slice(const char *slice);

/* Calls to systemd, each on a connection of its own with deadlines. */
int systemd_start(const struct cgroup *cg, const char *id, const pid_t *pids, size_t count, const struct oci_spec *spec,
		  struct error *err);
int systemd_update(const struct cgroup *cg, const struct oci_resources *resources, struct error *err);
/*
 * The property of an annotation: "uint64 5", "5", "true", "'text'", "['a', 'b']", as runc reads them. A name that ends in Sec takes
 * seconds and is given to systemd in microseconds.
 */
struct systemd_property {
	char name[64];
	char type; /* of D-Bus: i u x t b s; a: strings */
	uint64_t number;
	struct strings texts;
};
#define SYSTEMD_ANNOTATION "org.systemd.property."
int systemd_parse_property(const char *name, const char *text, struct systemd_property *ret, struct error *err);
void systemd_property_fini(struct systemd_property *property);
/* Stops and forgets the unit; what fails is logged. */
void systemd_stop(const struct cgroup *cg);
/* The cgroup of the user's systemd (heap). */
int systemd_user_prefix(char **ret, struct error *err);
/* CPUQuotaPerSecUSec, and the bit mask of AllowedCPUs (its size in bytes; 0: no list of cpus). */
uint64_t systemd_quota_per_second(int64_t quota, int64_t period);
#define SYSTEMD_MASK_MAX 1024
size_t systemd_cpu_mask(const char *list, uint8_t mask[SYSTEMD_MASK_MAX]);

#endif
