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

/* One value for one file. Controllers have the names of version 1: "blkio" is io of version 2. */
struct cgroup_write {
	const char *controller, *file, *text;
	const char *other_file, *other_text; /* where there is no such file; or NULL */
	bool optional;			     /* no such file or controller: fine */
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
/* The name in version 2 of a controller of version 1. */
const char *controller_v2(const char *controller);

#endif
