/* The cgroup file systems, versions 1 and 2 (cgroups(7)): what a container sees of its limits. */
#ifndef SENTRY_FS_CGROUP_CGROUPFS_H
#define SENTRY_FS_CGROUP_CGROUPFS_H

#include "sentry/kernel/cgroup.h"
#include "sentry/vfs/fs_ops.h"

/* Controllers of version 1, each with a hierarchy of its own: directory below /sys/fs/cgroup, options of the mount. */
struct cgroup_hierarchy {
	int number; /* as /proc/PID/cgroup shows it */
	const char *dir, *options;
	const char *alias[2]; /* links to dir, or NULL */
};
extern const struct cgroup_hierarchy cgroup_hierarchies[];
extern const size_t cgroup_hierarchy_count;

/*
 * A file system whose root is the group: of version 2 when h is NULL, else of that hierarchy. Takes a reference on cg.
 * 0 or -ENOMEM. Any thread.
 */
NODISCARD int cgroupfs_new(struct cgroup *cg, const struct cgroup_hierarchy *h, struct superblock **ret_sb);
/* Registers the types "cgroup2" and "cgroup", whose mounts show the caller's group; boot only. */
void cgroupfs_register(void);

#endif
