#include "runsc/oci/message.h"

#include <string.h>
#include <sys/mount.h>

#include "runsc/oci/seccomp.h"

static ProtobufCBinaryData bytes_of_size(const void *bytes, size_t size)
{
	/* messages to send are only read */
	union {
		const void *in;
		uint8_t *out;
	} data = { .in = bytes };

	return (ProtobufCBinaryData){ .len = size, .data = data.out };
}

static ProtobufCBinaryData bytes_of(const char *text)
{
	return bytes_of_size(text ? text : "", text ? strlen(text) : 0);
}

static ProtobufCBinaryData *bytes_list(struct arena *arena, struct oci_strings list)
{
	ProtobufCBinaryData *out = arena_alloc(arena, list.count, sizeof(*out));

	for (size_t i = 0; i < list.count; i++)
		out[i] = bytes_of(list.v[i]);
	return out;
}

static char *text_or_empty(struct arena *arena, const char *text)
{
	return arena_strdup(arena, text ? text : "");
}

Urpc__Process *message_of_process(struct arena *arena, const struct oci_process *process,
				  uint32_t preserve_fds)
{
	Urpc__Process *out = arena_alloc(arena, 1, sizeof(*out));

	urpc__process__init(out);
	out->n_args = process->args.count;
	out->args = bytes_list(arena, process->args);
	out->n_env = process->env.count;
	out->env = bytes_list(arena, process->env);
	out->cwd = bytes_of(process->cwd);
	out->uid = process->uid;
	out->gid = process->gid;
	out->n_additional_gids = process->gid_count;
	out->additional_gids = process->gids;
	out->umask = process->umask;
	out->has_umask = process->has_umask;
	out->capabilities = arena_alloc(arena, 1, sizeof(*out->capabilities));
	urpc__capabilities__init(out->capabilities);
	out->capabilities->bounding = process->capabilities.bounding;
	out->capabilities->effective = process->capabilities.effective;
	out->capabilities->inheritable = process->capabilities.inheritable;
	out->capabilities->permitted = process->capabilities.permitted;
	out->capabilities->ambient = process->capabilities.ambient;
	out->n_rlimits = process->rlimit_count;
	out->rlimits = arena_alloc(arena, process->rlimit_count, sizeof(*out->rlimits));
	for (size_t i = 0; i < process->rlimit_count; i++) {
		out->rlimits[i] = arena_alloc(arena, 1, sizeof(**out->rlimits));
		urpc__rlimit__init(out->rlimits[i]);
		out->rlimits[i]->resource = process->rlimits[i].resource;
		out->rlimits[i]->soft = process->rlimits[i].soft;
		out->rlimits[i]->hard = process->rlimits[i].hard;
	}
	out->no_new_privileges = process->no_new_privileges;
	out->oom_score_adj = process->oom_score_adj;
	out->terminal = process->terminal;
	out->console_rows = process->console_rows;
	out->console_columns = process->console_columns;
	out->preserve_fds = preserve_fds;
	out->user = bytes_of(process->user);
	out->personality = process->personality;
	out->io_priority = process->io_priority;
	out->sched_policy = process->sched_policy;
	out->sched_priority = process->sched_priority;
	out->nice = process->nice;
	return out;
}

static void add_mounts(struct arena *arena, const struct oci_spec *spec,
		       const struct message_extra *extra, Urpc__Container *out)
{
	int32_t gofer = 1;

	out->n_mounts = spec->mount_count;
	out->mounts = arena_alloc(arena, spec->mount_count, sizeof(*out->mounts));
	for (size_t i = 0; i < spec->mount_count; i++) {
		const struct oci_mount *mount = &spec->mounts[i];
		Urpc__Mount *row = out->mounts[i] = arena_alloc(arena, 1, sizeof(*row));

		urpc__mount__init(row);
		row->destination = bytes_of(mount->destination);
		row->type = mount->type;
		row->gofer = mount->bind ? gofer++ : -1;
		row->flags = mount->flags & ~(uint64_t)(MS_BIND | MS_REC);
		row->data = bytes_of(mount->data);
		row->shared = mount->bind && extra->mounts_shared;
		row->propagation = mount->propagation & ~(uint64_t)MS_REC;
		row->source = bytes_of(mount->source && *mount->source ? mount->source : mount->type);
		row->copy_up = mount->copy_up;
		row->is_file = extra->mount_is_file && extra->mount_is_file[i];
	}
}

static void add_devices(struct arena *arena, const struct oci_spec *spec, Urpc__Container *out)
{
	out->n_devices = spec->device_count;
	out->devices = arena_alloc(arena, spec->device_count, sizeof(*out->devices));
	for (size_t i = 0; i < spec->device_count; i++) {
		const struct oci_device *device = &spec->devices[i];
		Urpc__Device *row = out->devices[i] = arena_alloc(arena, 1, sizeof(*row));

		urpc__device__init(row);
		row->path = bytes_of(device->path);
		row->mode = device->mode;
		row->major = device->major;
		row->minor = device->minor;
		row->uid = device->uid;
		row->gid = device->gid;
	}
}

static Urpc__IdMap **id_map(struct arena *arena, const struct oci_id_map *maps, size_t count)
{
	Urpc__IdMap **out = arena_alloc(arena, count, sizeof(*out));

	for (size_t i = 0; i < count; i++) {
		out[i] = arena_alloc(arena, 1, sizeof(**out));
		urpc__id_map__init(out[i]);
		out[i]->container_id = maps[i].container_id;
		out[i]->host_id = maps[i].host_id;
		out[i]->size = maps[i].size;
	}
	return out;
}

uint32_t cpus_of_resources(const struct oci_resources *resources)
{
	int64_t period = resources->cpu_period > 0 ? resources->cpu_period : 100000;
	int64_t cpus;

	if (resources->cpu_quota <= 0)
		return 0;
	cpus = resources->cpu_quota / period + (resources->cpu_quota % period != 0);
	return (uint32_t)MIN(MAX(cpus, (int64_t)2), (int64_t)4096);
}

/* 0: not given; the largest number: none. */
static uint64_t limit_of(int64_t value)
{
	return value == OCI_UNSET ? 0 : value < 0 ? UINT64_MAX : (uint64_t)value;
}

Urpc__Resources *message_of_resources(struct arena *arena, const struct oci_resources *in)
{
	Urpc__Resources *out = arena_alloc(arena, 1, sizeof(*out));

	urpc__resources__init(out);
	out->memory_bytes = limit_of(in->memory_limit);
	out->memory_swap_bytes = limit_of(in->memory_swap);
	out->memory_reservation_bytes = limit_of(in->memory_reservation);
	out->pids = limit_of(in->pids_limit);
	out->cpu_quota_us = in->cpu_quota == OCI_UNSET ? 0 : MAX(in->cpu_quota, (int64_t)-1);
	out->cpu_period_us = limit_of(in->cpu_period);
	out->cpu_shares = limit_of(in->cpu_shares);
	out->cpus = cpus_of_resources(in);
	out->cpuset_cpus = in->cpuset_cpus ? in->cpuset_cpus : arena_strdup(arena, "");
	out->cpuset_mems = in->cpuset_mems ? in->cpuset_mems : arena_strdup(arena, "");
	return out;
}

static Urpc__Namespaces *namespaces_of(struct arena *arena, const struct oci_spec *spec,
				       const struct message_namespaces *join)
{
	Urpc__Namespaces *out = arena_alloc(arena, 1, sizeof(*out));

	urpc__namespaces__init(out);
	out->pid = spec->namespaces[NS_PID].present && !join->shared[NS_PID];
	out->ipc = spec->namespaces[NS_IPC].present && !join->shared[NS_IPC];
	out->uts = spec->namespaces[NS_UTS].present && !join->shared[NS_UTS];
	out->net = spec->namespaces[NS_NETWORK].present;
	out->mount = spec->namespaces[NS_MOUNT].present;
	out->user = spec->namespaces[NS_USER].present;
	out->cgroup = spec->namespaces[NS_CGROUP].present;
	out->pid_of = text_or_empty(arena, join->of[NS_PID]);
	out->ipc_of = text_or_empty(arena, join->of[NS_IPC]);
	out->uts_of = text_or_empty(arena, join->of[NS_UTS]);
	out->user_of = text_or_empty(arena, join->of[NS_USER]);
	return out;
}

Urpc__Container *message_of_spec(struct arena *arena, const struct oci_spec *spec,
				 const struct message_extra *extra)
{
	Urpc__Container *out = arena_alloc(arena, 1, sizeof(*out));

	urpc__container__init(out);
	out->id = arena_strdup(arena, extra->id);
	out->process = message_of_process(arena, &spec->process, extra->preserve_fds);
	out->hostname = text_or_empty(arena, spec->hostname);
	out->domainname = text_or_empty(arena, spec->domainname);
	out->root_readonly = spec->root_readonly;
	add_mounts(arena, spec, extra, out);
	add_devices(arena, spec, out);
	out->n_masked_paths = spec->masked_paths.count;
	out->masked_paths = bytes_list(arena, spec->masked_paths);
	out->n_readonly_paths = spec->readonly_paths.count;
	out->readonly_paths = bytes_list(arena, spec->readonly_paths);
	out->namespaces = namespaces_of(arena, spec, &extra->namespaces);
	out->n_uid_map = spec->uid_map_count;
	out->uid_map = id_map(arena, spec->uid_map, spec->uid_map_count);
	out->n_gid_map = spec->gid_map_count;
	out->gid_map = id_map(arena, spec->gid_map, spec->gid_map_count);
	out->resources = message_of_resources(arena, &spec->resources);
	out->own_network = extra->namespaces.own_network;
	out->gofer_count = extra->gofer_count;
	out->overlay_file_count = extra->overlay_file_count;
	out->overlay = !extra->overlay_root	  ? URPC__CONTAINER__OVERLAY__NONE :
		       extra->overlay_self	  ? URPC__CONTAINER__OVERLAY__SELF :
						    URPC__CONTAINER__OVERLAY__MEMORY;
	out->overlay_all = extra->overlay_all;
	out->overlay_size = extra->overlay_size;
	out->root_shared = extra->root_shared;
	out->n_sysctl = spec->sysctl.count;
	out->sysctl = bytes_list(arena, spec->sysctl);
	out->cgroup_path = text_or_empty(arena, extra->cgroup_path);
	out->cgroup_version = extra->cgroup_version;
	out->rootfs_propagation = spec->rootfs_propagation;
	if (extra->seccomp) {
		out->seccomp = bytes_of_size(extra->seccomp, extra->seccomp_size);
		out->seccomp_flags = spec->seccomp->flags;
	}
	return out;
}
