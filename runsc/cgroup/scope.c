/* The names of a scope: slice:prefix:name to slice, unit and directory. */
#include <string.h>
#include <unistd.h>

#include "runsc/cgroup/cgroup_priv.h"

#define SUFFIX ".slice"

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
