#include "runsc/oci/spec.h"

#include <string.h>

#include "platform/base/log.h"
#include "runsc/oci/names.h"
#include "runsc/oci/spec_priv.h"

const char *const oci_hook_names[HOOK_KINDS] = { "prestart",	   "createRuntime", "createContainer",
						 "startContainer", "poststart",	    "poststop" };

static void parse_user(struct document *doc, const struct node *node, struct oci_process *process)
{
	struct node user, gids;
	int64_t umask;

	if (!node_object(doc, node, "user", &user))
		return;
	process->uid = node_u32(doc, &user, "uid", 0);
	process->gid = node_u32(doc, &user, "gid", 0);
	process->has_umask = node_int(doc, &user, "umask", 0, 0777, &umask);
	process->umask = process->has_umask ? (uint32_t)umask : 0;
	if (!node_array(doc, &user, "additionalGids", &gids))
		return;
	process->gids = arena_alloc(doc->arena, node_count(&gids), sizeof(*process->gids));
	for (size_t i = 0; i < node_count(&gids); i++) {
		struct node gid = { .up = &gids, .index = i, .json = json_array_get(gids.json, i) };
		int64_t number = json_integer_value(gid.json);

		if (!json_is_integer(gid.json) || number < 0 || number > UINT32_MAX)
			node_fail(doc, &gid, "must be a group id");
		else
			process->gids[process->gid_count++] = (uint32_t)number;
	}
}

static uint64_t capability_set(struct document *doc, const struct node *node, const char *key)
{
	struct oci_strings names = node_strings(doc, node, key);
	uint64_t set = 0;

	for (size_t i = 0; i < names.count; i++) {
		int number = capability_by_name(names.v[i]);

		if (number < 0)
			log_warn("%s: unknown capability \"%s\" is left out", key, names.v[i]);
		else
			set |= 1ull << number;
	}
	return set;
}

static void parse_capabilities(struct document *doc, const struct node *node,
			       struct oci_process *process)
{
	struct node caps;

	process->has_capabilities = node_object(doc, node, "capabilities", &caps);
	if (!process->has_capabilities)
		return;
	process->capabilities = (struct oci_capabilities){
		.bounding = capability_set(doc, &caps, "bounding"),
		.effective = capability_set(doc, &caps, "effective"),
		.inheritable = capability_set(doc, &caps, "inheritable"),
		.permitted = capability_set(doc, &caps, "permitted"),
		.ambient = capability_set(doc, &caps, "ambient"),
	};
}

/* Limits are 64 bit unsigned: the document has the signed number of the same bits. */
static uint64_t limit_value(struct document *doc, const struct node *node, const char *key)
{
	int64_t value = 0;

	if (!node_int(doc, node, key, INT64_MIN, INT64_MAX, &value))
		member_fail(doc, node, key, "must be a whole number");
	return (uint64_t)value;
}

static void parse_rlimits(struct document *doc, const struct node *node, struct oci_process *process)
{
	struct node limits, row;

	if (!node_array(doc, node, "rlimits", &limits))
		return;
	process->rlimits = arena_alloc(doc->arena, node_count(&limits), sizeof(*process->rlimits));
	for (size_t i = 0; i < node_count(&limits); i++) {
		struct oci_rlimit *limit = &process->rlimits[process->rlimit_count];
		const char *type;
		int resource;

		if (!node_object_at(doc, &limits, i, &row))
			return;
		type = node_need_string(doc, &row, "type");
		resource = type ? rlimit_by_name(type) : -1;
		if (resource < 0) {
			member_fail(doc, &row, "type", "\"%.64s\" is no resource limit", type ? type : "");
			return;
		}
		*limit = (struct oci_rlimit){ .resource = (uint32_t)resource,
					      .soft = limit_value(doc, &row, "soft"),
					      .hard = limit_value(doc, &row, "hard") };
		if (limit->soft > limit->hard)
			node_fail(doc, &row, "(%s) has a soft limit above the hard limit", type);
		for (size_t j = 0; j < process->rlimit_count; j++) {
			if (process->rlimits[j].resource == limit->resource)
				node_fail(doc, &row, "sets %s a second time", type);
		}
		process->rlimit_count++;
	}
}

static void parse_io_priority(struct document *doc, const struct node *node, struct oci_process *process)
{
	static const char *const classes[] = { "IOPRIO_CLASS_NONE", "IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE",
					       "IOPRIO_CLASS_IDLE" };
	struct node part;
	const char *name;
	int64_t priority = 0;
	uint32_t class = 0;

	if (!node_object(doc, node, "ioPriority", &part))
		return;
	name = node_need_string(doc, &part, "class");
	while (name && class < ARRAY_COUNT(classes) && strcmp(classes[class], name) != 0)
		class++;
	if (class == ARRAY_COUNT(classes))
		member_fail(doc, &part, "class", "\"%.32s\" is no class of I/O priorities", name);
	node_int(doc, &part, "priority", 0, 7, &priority);
	process->io_priority = class << 13 | (uint32_t)priority;
}

static void parse_scheduler(struct document *doc, const struct node *node, struct oci_process *process)
{
	static const char *const policies[] = { "SCHED_OTHER", "SCHED_FIFO", "SCHED_RR", "SCHED_BATCH", "SCHED_ISO",
						"SCHED_IDLE" };
	struct node part;
	const char *name;
	int64_t priority = 0, nice = 0;
	bool real_time;

	if (!node_object(doc, node, "scheduler", &part))
		return;
	name = node_need_string(doc, &part, "policy");
	while (name && process->sched_policy < ARRAY_COUNT(policies) && strcmp(policies[process->sched_policy], name) != 0)
		process->sched_policy++;
	if (process->sched_policy == ARRAY_COUNT(policies)) {
		member_fail(doc, &part, "policy", "\"%.32s\" is no policy that the sandbox has", name);
		return;
	}
	real_time = process->sched_policy == 1 || process->sched_policy == 2;
	node_int(doc, &part, "nice", -20, 19, &nice);
	node_int(doc, &part, "priority", 0, 99, &priority);
	if (real_time != (priority > 0))
		member_fail(doc, &part, "priority", "must be above 0 for SCHED_FIFO and SCHED_RR, and only for these");
	process->sched_priority = (uint32_t)priority;
	process->nice = (int32_t)nice;
}

/* Text, or NULL for none and for empty text. */
static char *text_or_null(struct document *doc, const struct node *node, const char *key)
{
	char *text = node_string(doc, node, key);

	return text && *text ? text : NULL;
}

void spec_parse_process(struct document *doc, const struct node *node, struct oci_process *process)
{
	struct node size;
	int64_t score;

	process->args = node_strings(doc, node, "args");
	if (!process->args.count)
		member_fail(doc, node, "args", "must name a program to run");
	else if (!*process->args.v[0])
		member_fail(doc, node, "args", "must not start with an empty string");
	process->env = node_strings(doc, node, "env");
	for (size_t i = 0; i < process->env.count; i++) {
		if (!strchr(process->env.v[i], '='))
			member_fail(doc, node, "env", "has an entry without '=': \"%.64s\"",
				    process->env.v[i]);
	}
	process->cwd = node_string(doc, node, "cwd");
	if (!process->cwd || process->cwd[0] != '/')
		member_fail(doc, node, "cwd", "must be absolute");
	process->terminal = node_bool(doc, node, "terminal", false);
	if (node_object(doc, node, "consoleSize", &size)) {
		process->console_rows = node_u32(doc, &size, "height", 0);
		process->console_columns = node_u32(doc, &size, "width", 0);
	}
	parse_user(doc, node, process);
	parse_capabilities(doc, node, process);
	parse_rlimits(doc, node, process);
	parse_io_priority(doc, node, process);
	parse_scheduler(doc, node, process);
	process->apparmor_profile = text_or_null(doc, node, "apparmorProfile");
	process->selinux_label = text_or_null(doc, node, "selinuxLabel");
	process->no_new_privileges = node_bool(doc, node, "noNewPrivileges", false);
	process->has_oom_score_adj = node_int(doc, node, "oomScoreAdj", -1000, 1000, &score);
	process->oom_score_adj = process->has_oom_score_adj ? (int32_t)score : 0;
}

static void parse_mounts(struct document *doc, const struct node *root, struct oci_spec *spec)
{
	struct node mounts, row;

	if (!node_array(doc, root, "mounts", &mounts))
		return;
	spec->mounts = arena_alloc(doc->arena, node_count(&mounts), sizeof(*spec->mounts));
	for (size_t i = 0; i < node_count(&mounts); i++) {
		struct oci_mount *mount = &spec->mounts[i];
		char *destination, *type;

		if (!node_object_at(doc, &mounts, i, &row))
			return;
		destination = node_need_string(doc, &row, "destination");
		type = node_string(doc, &row, "type");
		mount->source = node_string(doc, &row, "source");
		if (doc->failed)
			return;
		mount->destination = destination[0] == '/' ? destination :
							     arena_printf(doc->arena, "/%s", destination);
		mount->type = type ? type : arena_strdup(doc->arena, "");
		spec_parse_mount_options(doc, &row, mount, node_strings(doc, &row, "options"));
		mount->bind |= !strcmp(mount->type, "bind");
		if (mount->bind) {
			mount->type = arena_strdup(doc->arena, "bind");
			if (!mount->source || !*mount->source)
				member_fail(doc, &row, "source", "must be set for a bind mount");
		} else if (!*mount->type) {
			member_fail(doc, &row, "type", "must be set unless the mount is a bind mount");
		}
		spec->mount_count++;
	}
}

static void parse_hooks(struct document *doc, const struct node *root, struct oci_spec *spec)
{
	struct node hooks, array, row;

	if (!node_object(doc, root, "hooks", &hooks))
		return;
	for (size_t kind = 0; kind < HOOK_KINDS; kind++) {
		struct oci_hooks *list = &spec->hooks[kind];

		if (!node_array(doc, &hooks, oci_hook_names[kind], &array))
			continue;
		list->v = arena_alloc(doc->arena, node_count(&array), sizeof(*list->v));
		for (size_t i = 0; i < node_count(&array); i++) {
			struct oci_hook *hook = &list->v[i];

			if (!node_object_at(doc, &array, i, &row))
				return;
			hook->path = node_need_string(doc, &row, "path");
			if (hook->path && hook->path[0] != '/')
				member_fail(doc, &row, "path", "must be absolute");
			hook->args = node_strings(doc, &row, "args");
			hook->env = node_strings(doc, &row, "env");
			node_int(doc, &row, "timeout", 1, INT32_MAX, &hook->timeout_s);
			list->count++;
		}
	}
}

static void parse_annotations(struct document *doc, const struct node *root, struct oci_spec *spec)
{
	struct node object;
	struct oci_strings list = { 0 };
	const char *key;
	json_t *value;

	if (!node_object(doc, root, "annotations", &object))
		return;
	list.v = arena_alloc(doc->arena, 2 * json_object_size(object.json) + 1, sizeof(*list.v));
	json_object_foreach(object.json, key, value)
	{
		if (!json_is_string(value)) {
			member_fail(doc, &object, key, "must be a string");
			return;
		}
		list.v[list.count++] = arena_strdup(doc->arena, key);
		list.v[list.count++] = arena_strdup(doc->arena, json_string_value(value));
	}
	spec->annotations = list;
}

static void parse_version(struct document *doc, const struct node *root, struct oci_spec *spec)
{
	unsigned int major, minor, patch;

	spec->version = node_need_string(doc, root, "ociVersion");
	if (!spec->version)
		return;
	if (sscanf(spec->version, "%3u.%3u.%3u", &major, &minor, &patch) != 3)
		member_fail(doc, root, "ociVersion", "\"%.32s\" is not of the form 1.2.0", spec->version);
	else if (major != 1)
		member_fail(doc, root, "ociVersion", "\"%.32s\" is not supported: use 1.x", spec->version);
}

static void parse_top(struct document *doc, const struct node *root, struct oci_spec *spec)
{
	struct node node;

	parse_version(doc, root, spec);
	spec->hostname = node_string(doc, root, "hostname");
	spec->domainname = node_string(doc, root, "domainname");
	if (node_object(doc, root, "root", &node)) {
		spec->root_path = node_need_string(doc, &node, "path");
		spec->root_readonly = node_bool(doc, &node, "readonly", false);
	} else {
		member_fail(doc, root, "root", "must be set");
	}
	if (node_object(doc, root, "process", &node)) {
		spec->has_process = true;
		spec_parse_process(doc, &node, &spec->process);
	}
	parse_mounts(doc, root, spec);
	parse_hooks(doc, root, spec);
	parse_annotations(doc, root, spec);
	if (node_object(doc, root, "linux", &node))
		spec_parse_linux(doc, &node, spec);
	if (spec->hostname && *spec->hostname && !spec->namespaces[NS_UTS].present)
		member_fail(doc, root, "hostname",
			    "cannot be set without a private UTS namespace: add {\"type\": \"uts\"} to "
			    "linux.namespaces");
}

int oci_spec_parse(const char *name, const char *text, size_t size, struct oci_spec *spec,
		   struct error *err)
{
	struct document doc;
	struct node root;

	*spec = (struct oci_spec){ 0 };
	oci_resources_init(&spec->resources);
	if (document_open(&doc, name, text, size, &spec->arena, err, &root))
		return -1;
	parse_top(&doc, &root, spec);
	document_close(&doc);
	return doc.failed ? -1 : 0;
}

int oci_process_parse(const char *name, const char *text, size_t size, struct arena *arena,
		      struct oci_process *process, struct error *err)
{
	struct document doc;
	struct node root;

	*process = (struct oci_process){ 0 };
	if (document_open(&doc, name, text, size, arena, err, &root))
		return -1;
	spec_parse_process(&doc, &root, process);
	document_close(&doc);
	return doc.failed ? -1 : 0;
}

int oci_resources_parse(const char *name, const char *text, size_t size, struct arena *arena,
			struct oci_resources *resources, struct error *err)
{
	struct document doc;
	struct node root;

	oci_resources_init(resources);
	if (document_open(&doc, name, text, size, arena, err, &root))
		return -1;
	spec_parse_resources(&doc, &root, resources);
	document_close(&doc);
	return doc.failed ? -1 : 0;
}

void oci_spec_fini(struct oci_spec *spec)
{
	arena_fini(&spec->arena);
}

const char *oci_annotation(const struct oci_spec *spec, const char *key)
{
	for (size_t i = 0; i + 1 < spec->annotations.count; i += 2) {
		if (!strcmp(spec->annotations.v[i], key))
			return spec->annotations.v[i + 1];
	}
	return NULL;
}
