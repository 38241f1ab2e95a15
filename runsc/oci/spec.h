/*
 * config.json of an OCI bundle, read into C structs. Everything lives in one arena; parsing is a
 * pure function of the text (no file, no environment), and text is hostile.
 */
#ifndef RUNSC_OCI_SPEC_H
#define RUNSC_OCI_SPEC_H

#include "runsc/oci/node.h"

struct oci_rlimit {
	uint32_t resource; /* RLIMIT_* */
	uint64_t soft, hard;
};

struct oci_capabilities { /* bit n: capability n */
	uint64_t bounding, effective, inheritable, permitted, ambient;
};

struct oci_process {
	struct oci_strings args, env;
	char *cwd;
	uint32_t uid, gid;
	uint32_t *gids;
	size_t gid_count;
	bool has_umask;
	uint32_t umask;
	bool has_capabilities;
	struct oci_capabilities capabilities;
	struct oci_rlimit *rlimits;
	size_t rlimit_count;
	bool no_new_privileges, terminal, has_oom_score_adj;
	int32_t oom_score_adj;
	char *user; /* USER[:GROUP] to look up inside, set by exec; NULL: the ids above say it all */
	uint32_t personality; /* linux.personality */
	uint32_t io_priority, sched_policy, sched_priority;
	int32_t nice;
	char *apparmor_profile, *selinux_label; /* NULL or not empty */
	uint32_t console_rows, console_columns;
};

struct oci_mount {
	char *destination; /* absolute */
	char *type;	   /* "bind" for every kind of bind mount; never NULL */
	char *source;	   /* may be NULL; bind: absolute once the bundle is known */
	bool bind;
	bool copy_up; /* tmpcopyup */
	uint64_t flags;	      /* MS_* */
	uint64_t propagation; /* MS_SHARED ... with MS_REC; 0: none given */
	char *data;	      /* options of the file system, comma separated; never NULL */
};

struct oci_device {
	char *path;
	uint32_t mode; /* with type bits */
	uint32_t major, minor, uid, gid;
};

struct oci_id_map {
	uint32_t container_id, host_id, size;
};

struct oci_hook {
	char *path;
	struct oci_strings args, env;
	int64_t timeout_s; /* 0: none */
};
struct oci_hooks {
	struct oci_hook *v;
	size_t count;
};
enum oci_hook_kind {
	HOOK_PRESTART,
	HOOK_CREATE_RUNTIME,
	HOOK_CREATE_CONTAINER,
	HOOK_START_CONTAINER,
	HOOK_POSTSTART,
	HOOK_POSTSTOP,
	HOOK_KINDS
};

enum oci_ns_kind { NS_PID, NS_NETWORK, NS_MOUNT, NS_IPC, NS_UTS, NS_USER, NS_CGROUP, NS_TIME, NS_KINDS };
struct oci_namespace {
	bool present;
	char *path; /* NULL: a new one */
};

struct oci_seccomp; /* seccomp.h */

#define OCI_UNSET INT64_MIN
struct oci_device_rule { /* of linux.resources.devices */
	bool allow;
	char type;	      /* a (all), c or b */
	int64_t major, minor; /* -1: all */
	char access[4];	      /* of r, w, m */
};
struct oci_io_weight {
	int64_t major, minor, weight, leaf_weight; /* weights: OCI_UNSET or 10 to 1000 */
};
enum oci_throttle { THROTTLE_READ_BPS, THROTTLE_WRITE_BPS, THROTTLE_READ_IOPS, THROTTLE_WRITE_IOPS, THROTTLES };
struct oci_io_rate {
	int64_t major, minor, rate;
};
struct oci_hugepage_limit {
	char *size; /* 2MB, 1GB */
	int64_t limit;
};
struct oci_net_priority {
	char *interface;
	uint32_t priority;
};
struct oci_rdma_limit {
	char *device;
	int64_t handles, objects;
};

struct oci_resources { /* OCI_UNSET: not given */
	int64_t memory_limit, memory_reservation, memory_swap, memory_kernel_tcp, memory_swappiness;
	bool memory_disable_oom_killer;
	bool memory_check; /* refuse a limit below what is in use */
	int64_t cpu_shares, cpu_quota, cpu_period, cpu_burst, cpu_idle;
	int64_t cpu_realtime_runtime, cpu_realtime_period;
	char *cpuset_cpus, *cpuset_mems;
	int64_t pids_limit;
	int64_t io_weight, io_leaf_weight;
	struct oci_io_weight *io_weights;
	size_t io_weight_count;
	struct oci_io_rate *io_rates[THROTTLES];
	size_t io_rate_count[THROTTLES];
	struct oci_hugepage_limit *hugepages;
	size_t hugepage_count;
	struct oci_device_rule *devices;
	size_t device_count;
	int64_t net_class;
	struct oci_net_priority *net_priorities;
	size_t net_priority_count;
	struct oci_rdma_limit *rdma;
	size_t rdma_count;
	struct oci_strings unified; /* name=value of cgroup v2 files */
};

struct oci_spec {
	struct arena arena;
	char *version;
	char *hostname, *domainname;
	char *root_path;
	bool root_readonly;
	bool has_process;
	struct oci_process process;
	struct oci_mount *mounts;
	size_t mount_count;
	struct oci_hooks hooks[HOOK_KINDS];
	struct oci_strings annotations; /* key, value, key, value ... */

	struct oci_namespace namespaces[NS_KINDS];
	struct oci_id_map *uid_map, *gid_map;
	size_t uid_map_count, gid_map_count;
	struct oci_device *devices;
	size_t device_count;
	struct oci_strings masked_paths, readonly_paths, sysctl; /* sysctl: name=value */
	char *cgroups_path;
	uint64_t rootfs_propagation;
	struct oci_seccomp *seccomp; /* NULL: no profile */
	struct oci_resources resources;
};

/*
 * Parses text as config.json; name is what messages call it. The spec owns all that it points to;
 * free it with oci_spec_fini, also after an error.
 */
int oci_spec_parse(const char *name, const char *text, size_t size, struct oci_spec *spec,
		   struct error *err);
/* Parses the process object of `exec --process FILE`. Strings live in arena. */
int oci_process_parse(const char *name, const char *text, size_t size, struct arena *arena,
		      struct oci_process *process, struct error *err);
/* Parses a LinuxResources object (`update --resources`). */
int oci_resources_parse(const char *name, const char *text, size_t size, struct arena *arena,
			struct oci_resources *resources, struct error *err);
/* No limits at all. */
void oci_resources_init(struct oci_resources *resources);
void oci_spec_fini(struct oci_spec *spec);
/* Value of an annotation, or NULL. */
const char *oci_annotation(const struct oci_spec *spec, const char *key);
extern const char *const oci_hook_names[HOOK_KINDS];

#endif
