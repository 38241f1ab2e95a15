/* What a cgroup's files say, in the shape of `runc events`. */
#ifndef RUNSC_CGROUP_STATS_H
#define RUNSC_CGROUP_STATS_H

#include "runsc/cgroup/cgroup.h"

/*
 * The "data" object of an event: cpu, cpuset, memory, pids, blkio, hugetlb. What the host does not count is left out or 0.
 * A new reference.
 */
json_t *cgroup_stats(const struct cgroup *cg);

/* Reads one number ("max" and -1: the largest) of the container's directory with that controller. False: not there. */
bool cgroup_read(const struct cgroup *cg, const char *controller, const char *file, uint64_t *ret);

/* A descriptor that becomes readable when the host may have killed for want of memory; -1 when this host cannot tell. */
int cgroup_oom_fd(const struct cgroup *cg);
/* Whether it has, now that the descriptor is readable; *seen is the number of kills known of. */
bool cgroup_oom_happened(const struct cgroup *cg, uint64_t *seen);
/* How many processes the host has killed in the cgroup for that reason. */
uint64_t cgroup_oom_kills(const struct cgroup *cg);

#endif
