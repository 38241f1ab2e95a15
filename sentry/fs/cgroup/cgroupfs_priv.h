/* What the files of sentry/fs/cgroup share. */
#ifndef SENTRY_FS_CGROUP_CGROUPFS_PRIV_H
#define SENTRY_FS_CGROUP_CGROUPFS_PRIV_H

#include "sentry/fs/cgroup/cgroupfs.h"
#include "sentry/kernel/container.h"
#include "sentry/vfs/simple.h"

/* A file: how its text comes about. */
struct cgroup_file {
	const char *hierarchy; /* version 1: options of the one it is in; NULL: all. Not used by version 2 */
	const char *name;
	bool limit; /* shown as writable; a write is -EPERM: whoever made the container sets its limits */
	void (*show)(struct cgroup *cg, struct seq *q);
	const char *text; /* when show is NULL */
};

extern const struct cgroup_file cgroup_v1_files[], cgroup_v2_files[];
extern const size_t cgroup_v1_count, cgroup_v2_count;

/* show.c: the same in both versions */
void show_number(struct seq *q, uint64_t value);
/* "max" for no limit */
void show_limit(struct seq *q, uint64_t value);
void show_pids_current(struct cgroup *cg, struct seq *q);
void show_pids_limit(struct cgroup *cg, struct seq *q);
void show_pids_events(struct cgroup *cg, struct seq *q);
void show_memory_current(struct cgroup *cg, struct seq *q);
void show_memory_peak(struct cgroup *cg, struct seq *q);
void show_cpus(struct cgroup *cg, struct seq *q);
void show_cpus_effective(struct cgroup *cg, struct seq *q);
void show_mems(struct cgroup *cg, struct seq *q);

#endif
