/* Which cgroup hierarchies are mounted, and where this process is in them. */
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include "runsc/cgroup/cgroup_priv.h"

#define UNIFIED_MOUNT "/sys/fs/cgroup"

void hierarchies_fini(struct hierarchies *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->v[i].mount);
		free(list->v[i].controllers);
		free(list->v[i].own);
	}
	list->count = 0;
}

bool controllers_have(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; p && *p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, word, len) && (!p[len] || p[len] == ','))
			return true;
	}
	return false;
}

/* Whether two lists name the same controllers, in whichever order. */
static bool same_controllers(const char *a, const char *b)
{
	AUTO(mem_free) char *copy = xstrdup(a);
	char *save = NULL;

	if (strlen(a) != strlen(b))
		return false;
	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		if (!controllers_have(b, word))
			return false;
	}
	return true;
}

/* This process's path in the hierarchy, of /proc/self/cgroup: "5:cpu,cpuacct:/x", "0::/y". */
static char *own_path(const char *proc_cgroup, const char *controllers)
{
	AUTO(mem_free) char *copy = xstrdup(proc_cgroup);
	char *save = NULL;

	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

		if (!path)
			continue;
		*path++ = 0;
		names++;
		if (controllers ? *names && same_controllers(controllers, names) : !*names)
			return xstrdup(path);
	}
	return xstrdup("/");
}

/* The controllers among the super block options: "rw,cpu,cpuacct" without rw. */
static char *controllers_of(const char *options)
{
	static const char *const others[] = { "rw", "ro", "xattr", "clone_children", "noprefix", "none" };
	AUTO(mem_free) char *copy = xstrdup(options);
	char *save = NULL, *out = xstrdup("");

	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		bool skip = !strncmp(word, "release_agent", 13) || !strncmp(word, "cpuset_", 7);
		char *longer;

		for (size_t i = 0; i < ARRAY_COUNT(others); i++)
			skip |= !strcmp(word, others[i]);
		if (skip)
			continue;
		longer = xasprintf("%s%s%s", out, *out ? "," : "", word);
		free(out);
		out = longer;
	}
	return out;
}

/* What of own lies below root, the part of the hierarchy that is mounted. */
static char *below_root(const char *own, const char *root)
{
	size_t len = strlen(root);

	if (strcmp(root, "/") != 0 && !strncmp(own, root, len) && (!own[len] || own[len] == '/'))
		return xstrdup(own[len] ? own + len : "/");
	return xstrdup(own);
}

static bool is_known(const struct hierarchies *list, const char *controllers)
{
	for (size_t i = 0; i < list->count; i++) {
		const char *other = list->v[i].controllers;

		if (controllers && other ? same_controllers(controllers, other) : controllers == other)
			return true;
	}
	return false;
}

/* A line is "ID PARENT DEVICE ROOT MOUNT OPTIONS ... - TYPE SOURCE SUPER". */
void hierarchies_parse(char *mountinfo, const char *proc_cgroup, struct hierarchies *ret)
{
	char *save = NULL;

	ret->count = 0;
	for (char *line = strtok_r(mountinfo, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char root[1024], mount[1024], type[32], super[1024];
		const char *dash = strstr(line, " - cgroup");
		AUTO(mem_free) char *controllers = NULL;
		AUTO(mem_free) char *own = NULL;

		if (!dash || ret->count == CGROUP_MAX_HIERARCHIES ||
		    sscanf(dash, " - %31s %*s %1023s", type, super) != 2 ||
		    sscanf(line, "%*s %*s %*s %1023s %1023s", root, mount) != 2 ||
		    (strcmp(type, "cgroup") != 0 && strcmp(type, "cgroup2") != 0))
			continue;
		controllers = type[6] ? NULL : controllers_of(super);
		/* the first mount of a hierarchy is the host's own */
		if (is_known(ret, controllers))
			continue;
		own = own_path(proc_cgroup, controllers);
		ret->v[ret->count++] = (struct hierarchy){ .mount = xstrdup(mount),
							   .controllers = TAKE(controllers),
							   .own = below_root(own, root) };
	}
}

unsigned int cgroup_host_version(void)
{
	struct statfs st;

	return !statfs(UNIFIED_MOUNT, &st) && st.f_type == CGROUP2_SUPER_MAGIC ? 2 : 1;
}

void hierarchies_find(struct hierarchies *ret)
{
	AUTO(mem_free) char *own = read_file_at(AT_FDCWD, "/proc/self/cgroup", 1u << 20, NULL);
	AUTO(mem_free) char *mounts = NULL;

	ret->count = 0;
	if (!own)
		return;
	/* on the usual host of today one question answers all */
	if (cgroup_host_version() == 2) {
		ret->v[ret->count++] = (struct hierarchy){ .mount = xstrdup(UNIFIED_MOUNT),
							   .own = own_path(own, NULL) };
		return;
	}
	mounts = read_file_at(AT_FDCWD, "/proc/self/mountinfo", 16u << 20, NULL);
	if (mounts)
		hierarchies_parse(mounts, own, ret);
}
