/* Scopes of systemd: their names (slice:prefix:name to slice, unit and directory) and their processes. */
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "runsc/cgroup/cgroup_priv.h"

#define SUFFIX ".slice"
#define SCOPE_MAX_PIDS 64 /* of a sandbox that starts */

/* "a-b.slice" to "/a.slice/a-b.slice", "-.slice" to ""; NULL: no name of a slice. */
char *scope_expand_slice(const char *slice)
{
	size_t len = strlen(slice), suffix = strlen(SUFFIX);
	AUTO(mem_free) char *stem = NULL;
	char *out;

	if (len <= suffix || strcmp(slice + len - suffix, SUFFIX) != 0 || strchr(slice, '/'))
		return NULL;
	stem = xstrdup(slice);
	stem[len - suffix] = 0;
	out = xstrdup("");
	if (!strcmp(stem, "-"))
		return out;
	for (char *p = stem; p; p = strchr(p, '-')) {
		char *longer;

		p += *p == '-' && p > stem;
		/* neither an empty part nor a dash at an end */
		if (!*p || *p == '-') {
			free(out);
			return NULL;
		}
		longer = xasprintf("%s/%.*s" SUFFIX, out, (int)(p + strcspn(p, "-") - stem), stem);
		free(out);
		out = longer;
	}
	return out;
}

int scope_names(const char *path, const char *id, bool user, struct cgroup *ret, char **ret_dir, struct error *err)
{
	AUTO(mem_free) char *copy = xstrdup(path && *path ? path : "");
	AUTO(mem_free) char *dir = NULL;
	char *prefix = strchr(copy, ':'), *name = prefix ? strchr(prefix + 1, ':') : NULL;
	const char *slice = copy;

	if (*copy && (!name || strchr(name + 1, ':')))
		return error_set(err,
				 "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got \"%s\" instead",
				 path);
	if (name) {
		*prefix++ = 0;
		*name++ = 0;
	}
	if (!*slice)
		slice = user ? "user.slice" : "system.slice";
	dir = scope_expand_slice(slice);
	if (!dir)
		return error_set(err, "invalid slice name: %s", slice);
	if (name && (!*name || strchr(name, '/') || strchr(prefix, '/')))
		return error_set(err, "invalid scope name in linux.cgroupsPath: %s", path);
	ret->slice = xstrdup(slice);
	ret->unit = !name	 ? xasprintf("runsc-%s.scope", id) :
		    *prefix	 ? xasprintf("%s-%s.scope", prefix, name) :
				   xasprintf("%s.scope", name);
	ret->user = user;
	*ret_dir = xasprintf("%s/%s", dir, ret->unit);
	return 0;
}

/* Processes with all that descend from them. */
struct family {
	pid_t v[SCOPE_MAX_PIDS];
	size_t count;
};

/* Adds pid, if it is not there, and what descends from it. */
static void family_add(struct family *family, pid_t pid)
{
	AUTO(mem_free) char *path = xasprintf("/proc/%d/task", (int)pid);
	const struct dirent *entry;
	bool known = false;
	DIR *tasks;

	for (size_t i = 0; i < family->count; i++)
		known |= family->v[i] == pid;
	if (!known && family->count == ARRAY_COUNT(family->v))
		return;
	if (!known)
		family->v[family->count++] = pid;
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		AUTO(mem_free) char *file = xasprintf("%s/%s/children", path, entry->d_name);
		AUTO(mem_free) char *text = read_file_at(AT_FDCWD, file, 65536, NULL);
		char *save = NULL;

		for (char *word = text ? strtok_r(text, " \n", &save) : NULL; word;
		     word = strtok_r(NULL, " \n", &save)) {
			if (atoi(word) > 0)
				family_add(family, atoi(word));
		}
	}
	if (tasks)
		closedir(tasks);
}

int cgroup_plan_scope(const char *path, const char *id, bool user, struct cgroup *ret, struct error *err)
{
	AUTO(mem_free) char *prefix = NULL;
	AUTO(mem_free) char *dir = NULL;
	AUTO(mem_free) char *full = NULL;

	*ret = (struct cgroup){ 0 };
	/* as sd_booted(3) finds out */
	if (access("/run/systemd/system", F_OK) < 0)
		return error_set(err, "systemd cgroup flag passed, but systemd support for managing cgroups is not "
				      "available: systemd does not run here (there is no /run/systemd/system)");
	if (scope_names(path, id, user, ret, &dir, err) || (user && systemd_user_prefix(&prefix, err)))
		return -1;
	full = xasprintf("%s%s", prefix ? prefix : "", dir);
	cgroup_plan_from_top(full, ret);
	return 0;
}

int cgroup_start_scope(struct cgroup *cg, const char *id, const pid_t *pids, size_t count,
		       const struct oci_resources *resources, struct error *err)
{
	struct family family = { 0 };
	size_t joined = 0;
	int ret;

	for (size_t i = 0; i < count; i++)
		family_add(&family, pids[i]);
	ret = systemd_start(cg, id, family.v, family.count, resources, err);
	if (!ret)
		ret = cgroup_make(cg, resources, cg->user, err);
	/*
	 * Into the hierarchies that systemd does not use; and what was born meanwhile, which its parent's move did not take
	 * along. Children of a process that has moved are born inside, so that this ends.
	 */
	while (!ret && joined < family.count) {
		struct error gone;

		if (joined < count)
			ret = cgroup_join(cg, family.v[joined], err);
		else if (cgroup_join(cg, family.v[joined], &gone))
			log_debug("%s", gone.text);
		if (++joined < family.count)
			continue;
		for (size_t i = 0; i < count; i++)
			family_add(&family, pids[i]);
	}
	return ret;
}
