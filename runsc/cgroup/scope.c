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

void systemd_property_fini(struct systemd_property *property)
{
	strings_fini(&property->texts);
}

/* One quoted text at *p, of which it is moved past; false when there is none. Nothing is escaped. */
static bool take_quoted(const char **p, struct strings *ret)
{
	const char *end = **p == '\'' || **p == '"' ? strchr(*p + 1, **p) : NULL;
	AUTO(mem_free) char *text = NULL;

	if (!end)
		return false;
	text = xasprintf("%.*s", (int)(end - *p - 1), *p + 1);
	strings_add(ret, text);
	*p = end + 1;
	return true;
}

/* "['a', 'b']" */
static bool take_list(const char *p, struct strings *ret)
{
	p++;
	p += strspn(p, " ");
	while (*p != ']') {
		if (!take_quoted(&p, ret))
			return false;
		p += strspn(p, " ");
		if (*p == ',')
			p += 1 + strspn(p + 1, " ");
		else if (*p != ']')
			return false;
	}
	return !p[1];
}

static bool take_number(const char *text, struct systemd_property *ret)
{
	static const struct {
		const char *word;
		char type;
		int64_t min, max;
	} types[] = { { "int32 ", 'i', INT32_MIN, INT32_MAX },
		      { "uint32 ", 'u', 0, UINT32_MAX },
		      { "int64 ", 'x', INT64_MIN, INT64_MAX },
		      { "uint64 ", 't', 0, INT64_MAX },
		      { "", 'i', INT32_MIN, INT32_MAX } };
	int64_t value;

	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		size_t len = strlen(types[i].word);

		if (strncmp(text, types[i].word, len) != 0)
			continue;
		ret->type = types[i].type;
		if (!parse_int64(text + len, 10, &value) || value < types[i].min || value > types[i].max)
			return false;
		ret->number = (uint64_t)value;
		return true;
	}
	return false;
}

int systemd_parse_property(const char *name, const char *text, struct systemd_property *ret, struct error *err)
{
	size_t len = strlen(name);
	const char *p = text;
	bool good = len >= 3 && len < sizeof(ret->name) && name[0] >= 'A' && name[0] <= 'Z', seconds;

	*ret = (struct systemd_property){ .type = 'b' };
	for (size_t i = 0; i < len; i++)
		good &= (name[i] | 0x20) >= 'a' && (name[i] | 0x20) <= 'z';
	if (!good)
		return error_set(err, "annotation " SYSTEMD_ANNOTATION "%.64s: no name of a property", name);
	if (!strcmp(text, "true") || !strcmp(text, "false")) {
		ret->number = *text == 't';
	} else if (*text == '\'' || *text == '"') {
		ret->type = 's';
		good = take_quoted(&p, &ret->texts) && !*p;
	} else if (*text == '[') {
		ret->type = 'a';
		good = take_list(text, &ret->texts);
	} else {
		good = take_number(text, ret);
	}
	seconds = len > 3 && !strcmp(name + len - 3, "Sec") && (len < 4 || name[len - 4] != 'U');
	good &= !seconds || (strchr("iuxt", ret->type) && ret->number < UINT64_MAX / 1000000);
	if (!good) {
		systemd_property_fini(ret);
		return error_set(err, "annotation " SYSTEMD_ANNOTATION "%.64s: \"%.64s\" is no value for it", name, text);
	}
	snprintf(ret->name, sizeof(ret->name), "%.*s%s", (int)(seconds ? len - 3 : len), name, seconds ? "USec" : "");
	if (seconds) {
		ret->type = 't';
		ret->number *= 1000000;
	}
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

int cgroup_start_scope(struct cgroup *cg, const char *id, const pid_t *pids, size_t count, const struct oci_spec *spec,
		       struct error *err)
{
	struct family family = { 0 };
	size_t joined = 0;
	int ret;

	for (size_t i = 0; i < count; i++)
		family_add(&family, pids[i]);
	ret = systemd_start(cg, id, family.v, family.count, spec, err);
	if (!ret)
		ret = cgroup_make(cg, &spec->resources, cg->user, err);
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
