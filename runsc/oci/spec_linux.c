/* The linux section of config.json. */
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "runsc/oci/spec_priv.h"

static void parse_namespaces(struct document *doc, const struct node *node, struct oci_spec *spec)
{
	static const char *const names[NS_KINDS] = { "pid", "network", "mount",	 "ipc",
						     "uts", "user",    "cgroup", "time" };
	struct node list, row;

	if (!node_array(doc, node, "namespaces", &list))
		return;
	for (size_t i = 0; i < node_count(&list); i++) {
		const char *type;
		size_t kind = 0;

		if (!node_object_at(doc, &list, i, &row))
			return;
		type = node_need_string(doc, &row, "type");
		if (!type)
			return;
		while (kind < NS_KINDS && strcmp(names[kind], type) != 0)
			kind++;
		if (kind == NS_KINDS) {
			member_fail(doc, &row, "type", "\"%.32s\" is no namespace type", type);
			return;
		}
		if (spec->namespaces[kind].present)
			node_fail(doc, &row, "names the %s namespace a second time", type);
		spec->namespaces[kind].present = true;
		spec->namespaces[kind].path = node_string(doc, &row, "path");
		if (spec->namespaces[kind].path && !*spec->namespaces[kind].path)
			spec->namespaces[kind].path = NULL;
		if (spec->namespaces[kind].path && spec->namespaces[kind].path[0] != '/')
			member_fail(doc, &row, "path", "must be absolute");
	}
}

static struct oci_id_map *parse_id_map(struct document *doc, const struct node *node, const char *key,
				       size_t *ret_count)
{
	struct node list, row;
	struct oci_id_map *maps;

	if (!node_array(doc, node, key, &list))
		return NULL;
	maps = arena_alloc(doc->arena, node_count(&list), sizeof(*maps));
	for (size_t i = 0; i < node_count(&list); i++) {
		if (!node_object_at(doc, &list, i, &row))
			return NULL;
		maps[i] = (struct oci_id_map){ .container_id = node_u32(doc, &row, "containerID", 0),
					       .host_id = node_u32(doc, &row, "hostID", 0),
					       .size = node_u32(doc, &row, "size", 0) };
		if (!maps[i].size)
			member_fail(doc, &row, "size", "must be above 0");
		if ((uint64_t)maps[i].container_id + maps[i].size > 1ull << 32 ||
		    (uint64_t)maps[i].host_id + maps[i].size > 1ull << 32)
			node_fail(doc, &row, "runs past the last id");
	}
	*ret_count = node_count(&list);
	return maps;
}

static void parse_devices(struct document *doc, const struct node *node, struct oci_spec *spec)
{
	struct node list, row;

	if (!node_array(doc, node, "devices", &list))
		return;
	spec->devices = arena_alloc(doc->arena, node_count(&list), sizeof(*spec->devices));
	for (size_t i = 0; i < node_count(&list); i++) {
		struct oci_device *device = &spec->devices[i];
		const char *type;

		if (!node_object_at(doc, &list, i, &row))
			return;
		device->path = node_need_string(doc, &row, "path");
		if (device->path && device->path[0] != '/')
			member_fail(doc, &row, "path", "must be absolute");
		type = node_need_string(doc, &row, "type");
		if (!type)
			return;
		if (strlen(type) != 1 || !strchr("cubp", type[0])) {
			member_fail(doc, &row, "type", "must be one of c, u, b, p");
			return;
		}
		device->mode = node_u32(doc, &row, "fileMode", 0666) & 07777;
		device->mode |= type[0] == 'b' ? S_IFBLK : type[0] == 'p' ? S_IFIFO : S_IFCHR;
		device->major = node_u32(doc, &row, "major", 0);
		device->minor = node_u32(doc, &row, "minor", 0);
		device->uid = node_u32(doc, &row, "uid", 0);
		device->gid = node_u32(doc, &row, "gid", 0);
		spec->device_count++;
	}
}

static struct oci_strings string_map(struct document *doc, const struct node *node, const char *key)
{
	struct oci_strings list = { 0 };
	struct node object;
	const char *name;
	json_t *value;

	if (!node_object(doc, node, key, &object))
		return list;
	list.v = arena_alloc(doc->arena, json_object_size(object.json) + 1, sizeof(*list.v));
	json_object_foreach(object.json, name, value)
	{
		if (!json_is_string(value)) {
			member_fail(doc, &object, name, "must be a string");
			return list;
		}
		list.v[list.count++] =
			arena_printf(doc->arena, "%s=%s", name, json_string_value(value));
	}
	return list;
}

void oci_resources_init(struct oci_resources *resources)
{
	*resources = (struct oci_resources){ .memory_limit = OCI_UNSET,
					     .memory_reservation = OCI_UNSET,
					     .memory_swap = OCI_UNSET,
					     .cpu_shares = OCI_UNSET,
					     .cpu_quota = OCI_UNSET,
					     .cpu_period = OCI_UNSET,
					     .pids_limit = OCI_UNSET };
}

void spec_parse_resources(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node part;

	if (node_object(doc, node, "memory", &part)) {
		node_int(doc, &part, "limit", -1, INT64_MAX, &ret->memory_limit);
		node_int(doc, &part, "reservation", -1, INT64_MAX, &ret->memory_reservation);
		node_int(doc, &part, "swap", -1, INT64_MAX, &ret->memory_swap);
	}
	if (node_object(doc, node, "cpu", &part)) {
		node_int(doc, &part, "shares", 0, INT64_MAX, &ret->cpu_shares);
		node_int(doc, &part, "quota", INT64_MIN + 1, INT64_MAX, &ret->cpu_quota);
		node_int(doc, &part, "period", 0, INT64_MAX, &ret->cpu_period);
		ret->cpuset_cpus = node_string(doc, &part, "cpus");
		ret->cpuset_mems = node_string(doc, &part, "mems");
	}
	if (node_object(doc, node, "pids", &part))
		node_int(doc, &part, "limit", INT64_MIN + 1, INT64_MAX, &ret->pids_limit);
	ret->unified = string_map(doc, node, "unified");
}

static void parse_rootfs_propagation(struct document *doc, const struct node *node,
				     struct oci_spec *spec)
{
	static const struct {
		const char *name;
		uint64_t flags;
	} rows[] = {
		{ "", 0 },
		{ "private", MS_PRIVATE },
		{ "rprivate", MS_PRIVATE | MS_REC },
		{ "slave", MS_SLAVE },
		{ "rslave", MS_SLAVE | MS_REC },
		{ "shared", MS_SHARED },
		{ "rshared", MS_SHARED | MS_REC },
		{ "unbindable", MS_UNBINDABLE },
		{ "runbindable", MS_UNBINDABLE | MS_REC },
	};
	const char *text = node_string(doc, node, "rootfsPropagation");

	if (!text)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		if (!strcmp(rows[i].name, text)) {
			spec->rootfs_propagation = rows[i].flags;
			return;
		}
	}
	member_fail(doc, node, "rootfsPropagation", "\"%.32s\" is no propagation", text);
}

void spec_parse_linux(struct document *doc, const struct node *node, struct oci_spec *spec)
{
	struct node part;

	parse_namespaces(doc, node, spec);
	spec->uid_map = parse_id_map(doc, node, "uidMappings", &spec->uid_map_count);
	spec->gid_map = parse_id_map(doc, node, "gidMappings", &spec->gid_map_count);
	if (spec->uid_map_count && !spec->namespaces[NS_USER].present)
		member_fail(doc, node, "uidMappings", "need a user namespace in linux.namespaces");
	parse_devices(doc, node, spec);
	spec->masked_paths = node_strings(doc, node, "maskedPaths");
	spec->readonly_paths = node_strings(doc, node, "readonlyPaths");
	spec->sysctl = string_map(doc, node, "sysctl");
	spec->cgroups_path = node_string(doc, node, "cgroupsPath");
	parse_rootfs_propagation(doc, node, spec);
	if (node_object(doc, node, "resources", &part))
		spec_parse_resources(doc, &part, &spec->resources);
}

struct mount_word {
	const char *name;
	uint64_t set, clear;
	enum { WORD_FLAG, WORD_PROPAGATION, WORD_BIND, WORD_NONE } kind;
};

/* The option words of mount(8) that runc turns into flags; others go to the file system. */
static const struct mount_word mount_words[] = {
	{ "defaults", 0, 0, WORD_NONE },
	{ "bind", MS_BIND, 0, WORD_BIND },
	{ "rbind", MS_BIND | MS_REC, 0, WORD_BIND },
	{ "ro", MS_RDONLY, 0, WORD_FLAG },
	{ "rw", 0, MS_RDONLY, WORD_FLAG },
	{ "rro", MS_RDONLY, 0, WORD_FLAG },
	{ "rrw", 0, MS_RDONLY, WORD_FLAG },
	{ "suid", 0, MS_NOSUID, WORD_FLAG },
	{ "nosuid", MS_NOSUID, 0, WORD_FLAG },
	{ "rsuid", 0, MS_NOSUID, WORD_FLAG },
	{ "rnosuid", MS_NOSUID, 0, WORD_FLAG },
	{ "dev", 0, MS_NODEV, WORD_FLAG },
	{ "nodev", MS_NODEV, 0, WORD_FLAG },
	{ "rdev", 0, MS_NODEV, WORD_FLAG },
	{ "rnodev", MS_NODEV, 0, WORD_FLAG },
	{ "exec", 0, MS_NOEXEC, WORD_FLAG },
	{ "noexec", MS_NOEXEC, 0, WORD_FLAG },
	{ "rexec", 0, MS_NOEXEC, WORD_FLAG },
	{ "rnoexec", MS_NOEXEC, 0, WORD_FLAG },
	{ "sync", MS_SYNCHRONOUS, 0, WORD_FLAG },
	{ "async", 0, MS_SYNCHRONOUS, WORD_FLAG },
	{ "dirsync", MS_DIRSYNC, 0, WORD_FLAG },
	{ "remount", MS_REMOUNT, 0, WORD_FLAG },
	{ "mand", MS_MANDLOCK, 0, WORD_FLAG },
	{ "nomand", 0, MS_MANDLOCK, WORD_FLAG },
	{ "atime", 0, MS_NOATIME, WORD_FLAG },
	{ "noatime", MS_NOATIME, 0, WORD_FLAG },
	{ "ratime", 0, MS_NOATIME, WORD_FLAG },
	{ "rnoatime", MS_NOATIME, 0, WORD_FLAG },
	{ "diratime", 0, MS_NODIRATIME, WORD_FLAG },
	{ "nodiratime", MS_NODIRATIME, 0, WORD_FLAG },
	{ "rdiratime", 0, MS_NODIRATIME, WORD_FLAG },
	{ "rnodiratime", MS_NODIRATIME, 0, WORD_FLAG },
	{ "relatime", MS_RELATIME, 0, WORD_FLAG },
	{ "norelatime", 0, MS_RELATIME, WORD_FLAG },
	{ "rrelatime", MS_RELATIME, 0, WORD_FLAG },
	{ "rnorelatime", 0, MS_RELATIME, WORD_FLAG },
	{ "strictatime", MS_STRICTATIME, 0, WORD_FLAG },
	{ "nostrictatime", 0, MS_STRICTATIME, WORD_FLAG },
	{ "rstrictatime", MS_STRICTATIME, 0, WORD_FLAG },
	{ "rnostrictatime", 0, MS_STRICTATIME, WORD_FLAG },
	{ "lazytime", MS_LAZYTIME, 0, WORD_FLAG },
	{ "nolazytime", 0, MS_LAZYTIME, WORD_FLAG },
	{ "iversion", MS_I_VERSION, 0, WORD_FLAG },
	{ "noiversion", 0, MS_I_VERSION, WORD_FLAG },
	{ "silent", MS_SILENT, 0, WORD_FLAG },
	{ "loud", 0, MS_SILENT, WORD_FLAG },
	{ "symfollow", 0, 0, WORD_NONE },
	{ "rsymfollow", 0, 0, WORD_NONE },
	{ "nosymfollow", 256, 0, WORD_FLAG }, /* MS_NOSYMFOLLOW */
	{ "rnosymfollow", 256, 0, WORD_FLAG },
	{ "private", MS_PRIVATE, 0, WORD_PROPAGATION },
	{ "rprivate", MS_PRIVATE | MS_REC, 0, WORD_PROPAGATION },
	{ "slave", MS_SLAVE, 0, WORD_PROPAGATION },
	{ "rslave", MS_SLAVE | MS_REC, 0, WORD_PROPAGATION },
	{ "shared", MS_SHARED, 0, WORD_PROPAGATION },
	{ "rshared", MS_SHARED | MS_REC, 0, WORD_PROPAGATION },
	{ "unbindable", MS_UNBINDABLE, 0, WORD_PROPAGATION },
	{ "runbindable", MS_UNBINDABLE | MS_REC, 0, WORD_PROPAGATION },
	{ "tmpcopyup", 0, 0, WORD_NONE },
	{ "idmap", 0, 0, WORD_NONE },
	{ "ridmap", 0, 0, WORD_NONE },
	{ "copy-symlink", 0, 0, WORD_NONE },
};

void spec_parse_mount_options(struct document *doc, struct oci_mount *mount, struct oci_strings words)
{
	size_t room = 1;
	char *end;

	for (size_t i = 0; i < words.count; i++)
		room += strlen(words.v[i]) + 1;
	mount->data = end = arena_alloc(doc->arena, room, 1);
	for (size_t i = 0; i < words.count; i++) {
		const struct mount_word *word = NULL;

		for (size_t j = 0; j < ARRAY_COUNT(mount_words) && !word; j++) {
			if (!strcmp(mount_words[j].name, words.v[i]))
				word = &mount_words[j];
		}
		if (!word) {
			end += sprintf(end, "%s%s", end == mount->data ? "" : ",", words.v[i]);
		} else if (word->kind == WORD_PROPAGATION) {
			mount->propagation = word->set;
		} else {
			mount->flags = (mount->flags & ~word->clear) | word->set;
			mount->bind |= word->kind == WORD_BIND;
		}
	}
}
