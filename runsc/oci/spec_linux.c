/* The linux section of config.json. */
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/stat.h>

#include "runsc/oci/names.h"
#include "runsc/oci/seccomp.h"
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
					     .memory_kernel_tcp = OCI_UNSET,
					     .memory_swappiness = OCI_UNSET,
					     .cpu_shares = OCI_UNSET,
					     .cpu_quota = OCI_UNSET,
					     .cpu_period = OCI_UNSET,
					     .cpu_burst = OCI_UNSET,
					     .cpu_idle = OCI_UNSET,
					     .cpu_realtime_runtime = OCI_UNSET,
					     .cpu_realtime_period = OCI_UNSET,
					     .pids_limit = OCI_UNSET,
					     .io_weight = OCI_UNSET,
					     .io_leaf_weight = OCI_UNSET,
					     .net_class = OCI_UNSET };
}

/* Array KEY of objects; elements are made of the given size. NULL and a count of 0 when there is none. */
static void *new_rows(struct document *doc, const struct node *up, const char *key, size_t size,
		      struct node *ret_list, size_t *ret_count)
{
	*ret_count = 0;
	if (!node_array(doc, up, key, ret_list))
		return NULL;
	*ret_count = node_count(ret_list);
	return arena_alloc(doc->arena, *ret_count, size);
}

static void parse_device_rules(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node list, row;
	size_t count;
	struct oci_device_rule *rules = new_rows(doc, node, "devices", sizeof(*rules), &list, &count);

	for (size_t i = 0; i < count && node_object_at(doc, &list, i, &row); i++) {
		struct oci_device_rule *rule = &rules[i];
		const char *type = node_string(doc, &row, "type");
		const char *access = node_string(doc, &row, "access");

		*rule = (struct oci_device_rule){ .allow = node_bool(doc, &row, "allow", false),
						  .type = type && *type ? *type : 'a',
						  .major = -1,
						  .minor = -1 };
		node_int(doc, &row, "major", -1, UINT32_MAX, &rule->major);
		node_int(doc, &row, "minor", -1, UINT32_MAX, &rule->minor);
		if (!strchr("abcu", rule->type) || (type && *type && type[1]))
			member_fail(doc, &row, "type", "must be one of a, b, c");
		if (rule->type == 'u')
			rule->type = 'c';
		if (access && (strlen(access) > 3 || access[strspn(access, "rwm")]))
			member_fail(doc, &row, "access", "must be of the letters r, w and m");
		else
			strcpy(rule->access, access && *access ? access : "rwm");
	}
	ret->devices = rules;
	ret->device_count = count;
}

static void parse_io(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	static const char *const throttles[THROTTLES] = { "throttleReadBpsDevice", "throttleWriteBpsDevice",
							  "throttleReadIOPSDevice", "throttleWriteIOPSDevice" };
	struct node list, row;

	node_int(doc, node, "weight", 0, UINT16_MAX, &ret->io_weight);
	node_int(doc, node, "leafWeight", 0, UINT16_MAX, &ret->io_leaf_weight);
	ret->io_weights = new_rows(doc, node, "weightDevice", sizeof(*ret->io_weights), &list,
				   &ret->io_weight_count);
	for (size_t i = 0; i < ret->io_weight_count && node_object_at(doc, &list, i, &row); i++) {
		struct oci_io_weight *weight = &ret->io_weights[i];

		weight->weight = weight->leaf_weight = OCI_UNSET;
		node_int(doc, &row, "major", 0, UINT32_MAX, &weight->major);
		node_int(doc, &row, "minor", 0, UINT32_MAX, &weight->minor);
		node_int(doc, &row, "weight", 0, UINT16_MAX, &weight->weight);
		node_int(doc, &row, "leafWeight", 0, UINT16_MAX, &weight->leaf_weight);
	}
	for (size_t kind = 0; kind < THROTTLES; kind++) {
		struct oci_io_rate *rates = new_rows(doc, node, throttles[kind], sizeof(*rates), &list,
						     &ret->io_rate_count[kind]);

		ret->io_rates[kind] = rates;
		for (size_t i = 0; i < ret->io_rate_count[kind] && node_object_at(doc, &list, i, &row); i++) {
			node_int(doc, &row, "major", 0, UINT32_MAX, &rates[i].major);
			node_int(doc, &row, "minor", 0, UINT32_MAX, &rates[i].minor);
			node_int(doc, &row, "rate", 0, INT64_MAX, &rates[i].rate);
		}
	}
}

/* 2MB, 1GB and the like, as the names of the kernel's files have it. */
static bool is_page_size(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits > 0 && digits < 10 && strlen(text + digits) == 2 && strchr("KMGTP", text[digits]) &&
	       text[digits + 1] == 'B';
}

static void parse_hugepages(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node list, row;

	ret->hugepages = new_rows(doc, node, "hugepageLimits", sizeof(*ret->hugepages), &list,
				  &ret->hugepage_count);
	for (size_t i = 0; i < ret->hugepage_count && node_object_at(doc, &list, i, &row); i++) {
		ret->hugepages[i].size = node_need_string(doc, &row, "pageSize");
		node_int(doc, &row, "limit", -1, INT64_MAX, &ret->hugepages[i].limit);
		if (ret->hugepages[i].size && !is_page_size(ret->hugepages[i].size))
			member_fail(doc, &row, "pageSize", "must be like 2MB or 1GB");
	}
}

/* A name that becomes a word of a cgroup file. */
static char *need_word(struct document *doc, const struct node *node, const char *key)
{
	char *text = node_need_string(doc, node, key);

	if (text && strpbrk(text, " \t\n"))
		member_fail(doc, node, key, "must be one word");
	return text;
}

static void parse_network(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node list, row;

	node_int(doc, node, "classID", 0, UINT32_MAX, &ret->net_class);
	ret->net_priorities = new_rows(doc, node, "priorities", sizeof(*ret->net_priorities), &list,
				       &ret->net_priority_count);
	for (size_t i = 0; i < ret->net_priority_count && node_object_at(doc, &list, i, &row); i++) {
		ret->net_priorities[i].interface = need_word(doc, &row, "name");
		ret->net_priorities[i].priority = node_u32(doc, &row, "priority", 0);
	}
}

static void parse_rdma(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node map, row;
	const char *name;
	json_t *value;

	if (!node_object(doc, node, "rdma", &map))
		return;
	ret->rdma = arena_alloc(doc->arena, json_object_size(map.json), sizeof(*ret->rdma));
	json_object_foreach(map.json, name, value)
	{
		struct oci_rdma_limit *limit = &ret->rdma[ret->rdma_count];

		if (!node_object(doc, &map, name, &row))
			return;
		if (!*name || strpbrk(name, " \t\n"))
			node_fail(doc, &row, "must be named like a device");
		*limit = (struct oci_rdma_limit){ .device = arena_strdup(doc->arena, name),
						  .handles = OCI_UNSET,
						  .objects = OCI_UNSET };
		node_int(doc, &row, "hcaHandles", 0, UINT32_MAX, &limit->handles);
		node_int(doc, &row, "hcaObjects", 0, UINT32_MAX, &limit->objects);
		ret->rdma_count++;
	}
}

/* memory.kernel is not read: the kernel took that limit away, and runc ignores it. */
static void parse_memory(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	node_int(doc, node, "limit", -1, INT64_MAX, &ret->memory_limit);
	node_int(doc, node, "reservation", -1, INT64_MAX, &ret->memory_reservation);
	node_int(doc, node, "swap", -1, INT64_MAX, &ret->memory_swap);
	node_int(doc, node, "kernelTCP", -1, INT64_MAX, &ret->memory_kernel_tcp);
	node_int(doc, node, "swappiness", 0, 100, &ret->memory_swappiness);
	ret->memory_disable_oom_killer = node_bool(doc, node, "disableOOMKiller", false);
	ret->memory_check = node_bool(doc, node, "checkBeforeUpdate", false);
}

static void parse_cpu(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	node_int(doc, node, "shares", 0, INT64_MAX, &ret->cpu_shares);
	node_int(doc, node, "quota", INT64_MIN + 1, INT64_MAX, &ret->cpu_quota);
	node_int(doc, node, "period", 0, INT64_MAX, &ret->cpu_period);
	node_int(doc, node, "burst", 0, INT64_MAX, &ret->cpu_burst);
	node_int(doc, node, "idle", 0, 1, &ret->cpu_idle);
	node_int(doc, node, "realtimeRuntime", INT64_MIN + 1, INT64_MAX, &ret->cpu_realtime_runtime);
	node_int(doc, node, "realtimePeriod", 0, INT64_MAX, &ret->cpu_realtime_period);
	ret->cpuset_cpus = node_string(doc, node, "cpus");
	ret->cpuset_mems = node_string(doc, node, "mems");
}

void spec_parse_resources(struct document *doc, const struct node *node, struct oci_resources *ret)
{
	struct node part;

	if (node_object(doc, node, "memory", &part))
		parse_memory(doc, &part, ret);
	if (node_object(doc, node, "cpu", &part))
		parse_cpu(doc, &part, ret);
	if (node_object(doc, node, "pids", &part))
		node_int(doc, &part, "limit", INT64_MIN + 1, INT64_MAX, &ret->pids_limit);
	if (node_object(doc, node, "blockIO", &part))
		parse_io(doc, &part, ret);
	if (node_object(doc, node, "network", &part))
		parse_network(doc, &part, ret);
	parse_hugepages(doc, node, ret);
	parse_device_rules(doc, node, ret);
	parse_rdma(doc, node, ret);
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

/* Only what is the container's own may be set, with runc's words. */
static void check_sysctl(struct document *doc, const struct node *node, const struct oci_spec *spec)
{
	static const char *const ipc[] = { "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem",
					   "kernel.shmall", "kernel.shmmax", "kernel.shmmni", "kernel.shm_rmid_forced" };

	for (size_t i = 0; i < spec->sysctl.count; i++) {
		AUTO(mem_free) char *name = xstrdup(spec->sysctl.v[i]);
		bool of_ipc;

		name[strcspn(name, "=")] = 0;
		/* net/ipv4/conf/eth0.1/x has dots in its parts */
		if (name[strcspn(name, "./")] == '/') {
			for (char *p = name; *p; p++)
				*p = (char)(*p == '/' ? '.' : *p == '.' ? '/' : *p);
		}
		of_ipc = !strncmp(name, "fs.mqueue.", 10);
		for (size_t j = 0; j < ARRAY_COUNT(ipc); j++)
			of_ipc |= !strcmp(name, ipc[j]);
		if (of_ipc && spec->namespaces[NS_IPC].present)
			continue;
		if (of_ipc)
			member_fail(doc, node, "sysctl", "sysctl \"%s\" is not allowed in the hosts ipc namespace", name);
		else if (!strncmp(name, "net.", 4) && !spec->namespaces[NS_NETWORK].present)
			member_fail(doc, node, "sysctl", "sysctl \"%s\" not allowed in host network namespace", name);
		else if (!strcmp(name, "kernel.hostname") && spec->namespaces[NS_UTS].present)
			member_fail(doc, node, "sysctl",
				    "sysctl \"%s\" is not allowed as it conflicts with the OCI \"hostname\" field", name);
		else if (strncmp(name, "net.", 4) != 0 &&
			 (strcmp(name, "kernel.domainname") != 0 || !spec->namespaces[NS_UTS].present))
			member_fail(doc, node, "sysctl", "sysctl \"%s\" is not in a separate kernel namespace", name);
	}
}

/* runc takes relative ones, too: they begin at the root. */
static struct oci_strings absolute_paths(struct document *doc, const struct node *node, const char *key)
{
	struct oci_strings paths = node_strings(doc, node, key);

	for (size_t i = 0; i < paths.count; i++) {
		if (paths.v[i][0] != '/')
			paths.v[i] = arena_printf(doc->arena, "/%s", paths.v[i]);
	}
	return paths;
}

static void parse_personality(struct document *doc, const struct node *node, struct oci_spec *spec)
{
	struct node part, flags;
	const char *domain;

	if (!node_object(doc, node, "personality", &part))
		return;
	domain = node_need_string(doc, &part, "domain");
	if (domain && strcmp(domain, "LINUX") != 0 && strcmp(domain, "LINUX32") != 0)
		member_fail(doc, &part, "domain", "\"%.32s\" is not LINUX or LINUX32", domain);
	if (node_array(doc, &part, "flags", &flags) && node_count(&flags))
		member_fail(doc, &part, "flags", "are not supported");
	spec->process.personality = domain && !strcmp(domain, "LINUX32") ? PER_LINUX32 : 0;
}

/* There are no time namespaces inside. */
static void refuse_time_offsets(struct document *doc, const struct node *node)
{
	struct node offsets;
	const char *clock;
	json_t *value;

	if (!node_object(doc, node, "timeOffsets", &offsets))
		return;
	json_object_foreach(offsets.json, clock, value)
	{
		if (json_integer_value(json_object_get(value, "secs")) ||
		    json_integer_value(json_object_get(value, "nanosecs")))
			member_fail(doc, &offsets, clock, "is not supported: the sandbox has no time namespaces");
	}
}

void spec_parse_linux(struct document *doc, const struct node *node, struct oci_spec *spec)
{
	struct node part;

	parse_namespaces(doc, node, spec);
	spec->uid_map = parse_id_map(doc, node, "uidMappings", &spec->uid_map_count);
	spec->gid_map = parse_id_map(doc, node, "gidMappings", &spec->gid_map_count);
	if (spec->uid_map_count && !spec->namespaces[NS_USER].present)
		member_fail(doc, node, "uidMappings", "need a user namespace in linux.namespaces");
	if (spec->namespaces[NS_USER].present && !spec->namespaces[NS_USER].path && !spec->uid_map_count)
		member_fail(doc, node, "uidMappings", "must be set: User namespaces enabled, but no uid mappings found.");
	if (spec->namespaces[NS_USER].present && !spec->namespaces[NS_USER].path && !spec->gid_map_count)
		member_fail(doc, node, "gidMappings", "must be set: User namespaces enabled, but no gid mappings found.");
	parse_personality(doc, node, spec);
	refuse_time_offsets(doc, node);
	parse_devices(doc, node, spec);
	spec->masked_paths = absolute_paths(doc, node, "maskedPaths");
	spec->readonly_paths = absolute_paths(doc, node, "readonlyPaths");
	spec->sysctl = string_map(doc, node, "sysctl");
	check_sysctl(doc, node, spec);
	spec->cgroups_path = node_string(doc, node, "cgroupsPath");
	parse_rootfs_propagation(doc, node, spec);
	spec->seccomp = spec_parse_seccomp(doc, node);
	if (node_object(doc, node, "resources", &part))
		spec_parse_resources(doc, &part, &spec->resources);
}

struct mount_word {
	const char *name;
	uint64_t set, clear;
	enum {
		WORD_FLAG,
		WORD_PROPAGATION,
		WORD_BIND,
		WORD_NONE,
		WORD_IGNORED, /* not supported */
		WORD_COPY_UP,
		WORD_IDMAP, /* refused */
	} kind;
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
	{ "tmpcopyup", 0, 0, WORD_COPY_UP },
	{ "idmap", 0, 0, WORD_IDMAP },
	{ "ridmap", 0, 0, WORD_IDMAP },
	{ "copy-symlink", 0, 0, WORD_IGNORED },
};

const char *mount_option_name(size_t number)
{
	for (size_t i = 0; i < ARRAY_COUNT(mount_words); i++) {
		if (mount_words[i].kind != WORD_IGNORED && mount_words[i].kind != WORD_IDMAP && !number--)
			return mount_words[i].name;
	}
	return NULL;
}

void spec_parse_mount_options(struct document *doc, const struct node *node, struct oci_mount *mount,
			      struct oci_strings words)
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
		} else if (word->kind == WORD_COPY_UP) {
			mount->copy_up = true;
		} else if (word->kind == WORD_IDMAP) {
			node_fail(doc, node, "asks for an idmapped mount (%s), which is not supported", word->name);
		} else if (word->kind == WORD_PROPAGATION) {
			mount->propagation = word->set;
		} else {
			mount->flags = (mount->flags & ~word->clear) | word->set;
			mount->bind |= word->kind == WORD_BIND;
		}
	}
}
