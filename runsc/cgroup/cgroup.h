/*
 * Host cgroups by cgroupfs: version 1, version 2 and hybrids of both. What the host does not have or does
 * not let us write is left out; only a limit that was asked for and cannot be set at all is told.
 */
#ifndef RUNSC_CGROUP_CGROUP_H
#define RUNSC_CGROUP_CGROUP_H

#include "runsc/oci/spec.h"

/* How many host tasks one guest task may cost, and what the sandbox itself needs, for pids.max. */
#define CGROUP_TASKS_PER_GUEST_TASK 3
#define CGROUP_TASKS_OF_SANDBOX 64

/*
 * Finds the directories of the cgroup of cgroups_path (linux.cgroupsPath, or "" for none given) in every
 * hierarchy, parents first, without parents that are there already. With systemd_form the path is
 * slice:prefix:name. There are none when there is neither path nor limit. Changes nothing, so that the caller can
 * note them down before cgroup_make.
 */
int cgroup_plan(const char *cgroups_path, bool systemd_form, const char *id,
		const struct oci_resources *resources, struct strings *ret_dirs, struct error *err);
/* Makes planned directories, as far as the host lets us, and applies resources. */
int cgroup_make(const struct strings *dirs, const struct oci_resources *resources, struct error *err);
/* Moves a process into every directory of the container's. */
int cgroup_join(const struct strings *dirs, pid_t pid, struct error *err);
/* Applies limits to existing directories. */
int cgroup_apply(const struct strings *dirs, const struct oci_resources *resources, struct error *err);
/* Removes the directories (the deepest with empty ones below); one that is not there is fine. */
int cgroup_remove(const struct strings *dirs, struct error *err);
/* Reads a number from FILE of the first directory that has it; false when none has. */
bool cgroup_read(const struct strings *dirs, const char *file, uint64_t *ret);
/* Reads the number after KEY in a flat keyed file such as memory.stat. */
bool cgroup_read_key(const struct strings *dirs, const char *file, const char *key, uint64_t *ret);

#endif
