#include "runsc/cgroup/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>

#include "platform/base/log.h"

#define MAX_HIERARCHIES 32
#define REMOVE_MS 2000

struct hierarchy {
	char *mount;	   /* where it is mounted */
	char *controllers; /* version 1: "cpu,cpuacct"; NULL for version 2 */
	char *own;	   /* path of this process in it */
};

struct hierarchies {
	struct hierarchy v[MAX_HIERARCHIES];
	size_t count;
};

static void hierarchies_fini(struct hierarchies *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->v[i].mount);
		free(list->v[i].controllers);
		free(list->v[i].own);
	}
	list->count = 0;
}

static bool has_word(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *p = list; p && *p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, word, len) && (!p[len] || p[len] == ','))
			return true;
	}
	return false;
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
		if (controllers ? (*names && has_word(controllers, names)) || !strcmp(controllers, names) :
				  !*names)
			return xstrdup(path);
		/* mount options may name the joined controllers in another order */
		if (controllers && *names && has_word(names, controllers))
			return xstrdup(path);
	}
	return xstrdup("/");
}

/* The controllers among the super block options: "rw,cpu,cpuacct" without rw. */
static char *controllers_of(const char *options)
{
	AUTO(mem_free) char *copy = xstrdup(options);
	char *save = NULL, *out = xstrdup("");

	for (char *word = strtok_r(copy, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		char *longer;

		if (!strcmp(word, "rw") || !strcmp(word, "ro") || !strcmp(word, "xattr") ||
		    !strcmp(word, "clone_children") || !strncmp(word, "release_agent", 13) ||
		    !strncmp(word, "cpuset_", 7) || !strcmp(word, "noprefix"))
			continue;
		longer = xasprintf("%s%s%s", out, *out ? "," : "", word);
		free(out);
		out = longer;
	}
	return out;
}

/* Reads /proc/self/mountinfo: "... ROOT MOUNT OPTIONS ... - TYPE SOURCE SUPER". */
static void find_hierarchies(struct hierarchies *list)
{
	AUTO(mem_free) char *mounts = read_file_at(AT_FDCWD, "/proc/self/mountinfo", 16u << 20, NULL);
	AUTO(mem_free) char *own = read_file_at(AT_FDCWD, "/proc/self/cgroup", 1u << 20, NULL);
	char *save = NULL;

	list->count = 0;
	for (char *line = mounts && own ? strtok_r(mounts, "\n", &save) : NULL; line;
	     line = strtok_r(NULL, "\n", &save)) {
		char mount[1024], type[32], super[1024];
		const char *dash = strstr(line, " - ");
		struct hierarchy *h = &list->v[list->count];
		bool v2;

		if (!dash || list->count == MAX_HIERARCHIES || !strstr(dash, " cgroup") ||
		    sscanf(dash, " - %31s %*s %1023s", type, super) != 2 ||
		    sscanf(line, "%*s %*s %*s %*s %1023s", mount) != 1)
			continue;
		v2 = !strcmp(type, "cgroup2");
		if (!v2 && strcmp(type, "cgroup") != 0)
			continue;
		h->mount = xstrdup(mount);
		h->controllers = v2 ? NULL : controllers_of(super);
		h->own = own_path(own, h->controllers);
		list->count++;
	}
}

/* slice:prefix:name to the directory that systemd would use. */
static char *systemd_path(const char *path)
{
	AUTO(mem_free) char *slice = xstrdup(path);
	char *prefix = strchr(slice, ':'), *name, *out = xstrdup("");

	if (!prefix)
		return out;
	*prefix++ = 0;
	name = strchr(prefix, ':');
	if (!name)
		return out;
	*name++ = 0;
	/* a-b-c.slice lives in a.slice/a-b.slice */
	for (char *p = slice; (p = strpbrk(p, "-.")) && *p == '-'; p++) {
		char *longer = xasprintf("%s/%.*s.slice", out, (int)(p - slice), slice);

		free(out);
		out = longer;
	}
	{
		char *longer = xasprintf("%s/%s/%s%s%s.scope", out, *slice ? slice : "system.slice", prefix,
					 *prefix ? "-" : "", name);

		free(out);
		out = longer;
	}
	return out;
}

static bool has_limits(const struct oci_resources *r)
{
	return r->memory_limit != OCI_UNSET || r->memory_reservation != OCI_UNSET ||
	       r->memory_swap != OCI_UNSET || r->cpu_shares != OCI_UNSET || r->cpu_quota != OCI_UNSET ||
	       r->cpu_period != OCI_UNSET || r->pids_limit != OCI_UNSET || r->cpuset_cpus ||
	       r->cpuset_mems || r->unified.count;
}

static bool path_has_dotdot(const char *path)
{
	for (const char *p = path; (p = strstr(p, "..")); p += 2) {
		if ((p == path || p[-1] == '/') && (!p[2] || p[2] == '/'))
			return true;
	}
	return false;
}

/* A new directory in a cpuset hierarchy has no cpus and takes no process: inherit the parent's. */
static void inherit_cpuset(const char *dir)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };

	for (size_t i = 0; i < ARRAY_COUNT(files); i++) {
		AUTO(mem_free) char *file = xasprintf("%s/%s", dir, files[i]);
		AUTO(mem_free) char *above = xasprintf("%s/../%s", dir, files[i]);
		AUTO(mem_free) char *value = read_file_at(AT_FDCWD, above, 65536, NULL);

		if (value && *value && !access(file, W_OK))
			write_string_at(AT_FDCWD, file, value);
	}
}

/* Version 2: lets the children of dir have the controllers that dir has. False: not version 2. */
static bool enable_controllers(const char *dir)
{
	AUTO(mem_free) char *above = xasprintf("%s/..", dir);
	AUTO(mem_free) char *from = xasprintf("%s/cgroup.controllers", dir);
	AUTO(mem_free) char *to = xasprintf("%s/cgroup.subtree_control", dir);
	AUTO(mem_free) char *names = read_file_at(AT_FDCWD, from, 4096, NULL);
	char *save = NULL;

	if (!names)
		return false;
	if (strlen(above) < PATH_MAX)
		enable_controllers(above);
	for (char *name = strtok_r(names, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
		AUTO(mem_free) char *word = xasprintf("+%s", name);

		write_string_at(AT_FDCWD, to, word);
	}
	return true;
}

/* Adds base/path and those of its parents that are missing. */
static void plan_hierarchy(const char *base, const char *path, struct strings *dirs)
{
	AUTO(mem_free) char *copy = xstrdup(path);
	AUTO(mem_free) char *dir = xstrdup(base);
	char *save = NULL;

	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		char *deeper = xasprintf("%s/%s", dir, name);

		free(dir);
		dir = deeper;
		if (!save[strspn(save, "/")] || access(dir, F_OK) < 0)
			strings_add(dirs, dir);
	}
}

int cgroup_plan(const char *cgroups_path, bool systemd_form, const char *id,
		const struct oci_resources *resources, struct strings *ret_dirs, struct error *err)
{
	AUTO(mem_free) char *path = NULL;
	struct hierarchies list;

	if (!cgroups_path)
		cgroups_path = "";
	if (!*cgroups_path && !has_limits(resources))
		return 0;
	if (path_has_dotdot(cgroups_path))
		return error_set(err, "linux.cgroupsPath \"%s\" must not contain \"..\"", cgroups_path);
	path = !*cgroups_path			       ? xasprintf("/runsc-%s", id) :
	       systemd_form && strchr(cgroups_path, ':') ? systemd_path(cgroups_path) :
							   xstrdup(cgroups_path);
	find_hierarchies(&list);
	for (size_t i = 0; i < list.count; i++) {
		const struct hierarchy *h = &list.v[i];
		AUTO(mem_free) char *base =
			path[0] == '/' ? xstrdup(h->mount) : xasprintf("%s%s", h->mount, h->own);

		plan_hierarchy(base, path, ret_dirs);
	}
	hierarchies_fini(&list);
	return 0;
}

int cgroup_make(const struct strings *dirs, const struct oci_resources *resources, struct error *err)
{
	for (size_t i = 0; i < dirs->count; i++) {
		AUTO(mem_free) char *parent = xstrdup(dirs->v[i]);
		bool v2;

		*strrchr(parent, '/') = 0;
		v2 = enable_controllers(parent);
		if (!mkdir(dirs->v[i], 0755) && !v2)
			inherit_cpuset(dirs->v[i]);
		else if (access(dirs->v[i], F_OK) < 0)
			log_warn("cannot make the cgroup %s: %s", dirs->v[i], strerror(errno));
	}
	return cgroup_apply(dirs, resources, err);
}

/* The list holds parents before children: whether entry i is the deepest of its hierarchy. */
static bool is_leaf(const struct strings *dirs, size_t i)
{
	size_t len = strlen(dirs->v[i]);

	return i + 1 >= dirs->count || strncmp(dirs->v[i + 1], dirs->v[i], len) != 0 ||
	       dirs->v[i + 1][len] != '/';
}

int cgroup_join(const struct strings *dirs, pid_t pid, struct error *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < dirs->count; i++) {
		AUTO(mem_free) char *file = xasprintf("%s/cgroup.procs", dirs->v[i]);
		int ret;

		if (!is_leaf(dirs, i))
			continue;
		ret = write_string_at(AT_FDCWD, file, text);
		if (ret == -ESRCH)
			return error_set(err, "process %d ended before it could join its cgroup", (int)pid);
		if (ret && ret != -ENOENT)
			log_warn("cannot move process %d into %s: %s", (int)pid, dirs->v[i], strerror(-ret));
	}
	return 0;
}

struct limit {
	const char *v1, *v2; /* files; NULL: none in that version */
	const char *what;
};

/* Writes text to file in the leaf directories that have it; -ENOENT when none has. */
static int write_limit(const struct strings *dirs, const char *file, const char *text)
{
	int result = -ENOENT;

	for (size_t i = 0; file && i < dirs->count; i++) {
		AUTO(mem_free) char *path = xasprintf("%s/%s", dirs->v[i], file);
		int ret;

		if (!is_leaf(dirs, i))
			continue;
		ret = write_string_at(AT_FDCWD, path, text);
		if (ret != -ENOENT)
			result = ret;
	}
	return result;
}

static int set_limit(const struct strings *dirs, struct limit limit, const char *v1_text,
		     const char *v2_text, struct error *err)
{
	int ret = write_limit(dirs, limit.v1, v1_text);

	if (ret == -ENOENT)
		ret = write_limit(dirs, limit.v2, v2_text);
	if (ret == -EINVAL || ret == -EBUSY || ret == -ERANGE)
		return error_errno(err, -ret, "cannot set the %s to %s", limit.what, v1_text);
	if (ret)
		log_warn("the host has no writable cgroup file for the %s: %s", limit.what, strerror(-ret));
	return 0;
}

static int apply_memory(const struct strings *dirs, const struct oci_resources *r, struct error *err)
{
	char text[32];
	const char *v2 = text;

	if (r->memory_limit != OCI_UNSET) {
		snprintf(text, sizeof(text), "%lld", (long long)r->memory_limit);
		v2 = r->memory_limit < 0 ? "max" : text;
		if (r->memory_limit &&
		    set_limit(dirs, (struct limit){ "memory.limit_in_bytes", "memory.max", "memory limit" },
			      text, v2, err))
			return -1;
	}
	if (r->memory_reservation != OCI_UNSET && r->memory_reservation) {
		snprintf(text, sizeof(text), "%lld", (long long)r->memory_reservation);
		if (set_limit(dirs,
			      (struct limit){ "memory.soft_limit_in_bytes", "memory.low", "memory reservation" },
			      text, text, err))
			return -1;
	}
	if (r->memory_swap != OCI_UNSET && r->memory_swap) {
		int64_t memory = MAX(r->memory_limit, (int64_t)0);
		char swap[32];

		/* version 1 counts memory and swap together, version 2 swap alone */
		snprintf(text, sizeof(text), "%lld", (long long)r->memory_swap);
		snprintf(swap, sizeof(swap), "%lld",
			 (long long)MAX(r->memory_swap - memory, (int64_t)0));
		if (set_limit(dirs,
			      (struct limit){ "memory.memsw.limit_in_bytes", "memory.swap.max", "swap limit" },
			      text, r->memory_swap < 0 ? "max" : swap, err))
			return -1;
	}
	return 0;
}

static int apply_cpu(const struct strings *dirs, const struct oci_resources *r, struct error *err)
{
	int64_t period = r->cpu_period > 0 ? r->cpu_period : 100000;
	char text[32], v2[64];

	if (r->cpu_shares != OCI_UNSET && r->cpu_shares) {
		int64_t shares = MIN(MAX(r->cpu_shares, (int64_t)2), (int64_t)262144);

		snprintf(text, sizeof(text), "%lld", (long long)shares);
		snprintf(v2, sizeof(v2), "%lld", (long long)(1 + (shares - 2) * 9999 / 262142));
		if (set_limit(dirs, (struct limit){ "cpu.shares", "cpu.weight", "cpu shares" }, text, v2, err))
			return -1;
	}
	if (r->cpu_period != OCI_UNSET && r->cpu_period) {
		snprintf(text, sizeof(text), "%lld", (long long)period);
		if (set_limit(dirs, (struct limit){ "cpu.cfs_period_us", NULL, "cpu period" }, text, text, err))
			return -1;
	}
	if (r->cpu_quota != OCI_UNSET && r->cpu_quota) {
		snprintf(text, sizeof(text), "%lld", (long long)MAX(r->cpu_quota, (int64_t)-1));
		if (r->cpu_quota > 0)
			snprintf(v2, sizeof(v2), "%lld %lld", (long long)r->cpu_quota, (long long)period);
		else
			snprintf(v2, sizeof(v2), "max %lld", (long long)period);
		if (set_limit(dirs, (struct limit){ "cpu.cfs_quota_us", "cpu.max", "cpu quota" }, text, v2, err))
			return -1;
	}
	if (r->cpuset_cpus && *r->cpuset_cpus &&
	    set_limit(dirs, (struct limit){ "cpuset.cpus", NULL, "cpus of the cpuset" }, r->cpuset_cpus, "", err))
		return -1;
	if (r->cpuset_mems && *r->cpuset_mems &&
	    set_limit(dirs, (struct limit){ "cpuset.mems", NULL, "memory nodes of the cpuset" }, r->cpuset_mems,
		      "", err))
		return -1;
	return 0;
}

int cgroup_apply(const struct strings *dirs, const struct oci_resources *resources, struct error *err)
{
	if (apply_memory(dirs, resources, err) || apply_cpu(dirs, resources, err))
		return -1;
	if (resources->pids_limit > 0) {
		char text[32];

		snprintf(text, sizeof(text), "%lld",
			 (long long)MIN(resources->pids_limit, (int64_t)1 << 40) *
					 CGROUP_TASKS_PER_GUEST_TASK +
				 CGROUP_TASKS_OF_SANDBOX);
		if (set_limit(dirs, (struct limit){ "pids.max", NULL, "process limit" }, text, text, err))
			return -1;
	} else if (resources->pids_limit != OCI_UNSET &&
		   set_limit(dirs, (struct limit){ "pids.max", NULL, "process limit" }, "max", "max", err)) {
		return -1;
	}
	for (size_t i = 0; i < resources->unified.count; i++) {
		AUTO(mem_free) char *name = xstrdup(resources->unified.v[i]);
		char *value = strchr(name, '=');

		*value++ = 0;
		if (strchr(name, '/') ||
		    set_limit(dirs, (struct limit){ name, NULL, "value of linux.resources.unified" }, value,
			      value, err))
			return err->exit_code ? -1 : error_set(err, "\"%s\" is no cgroup file", name);
	}
	return 0;
}

static int remove_tree(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while ((entry = readdir(dir))) {
		AUTO(mem_free) char *below = NULL;

		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		below = xasprintf("%s/%s", path, entry->d_name);
		remove_tree(below);
	}
	closedir(dir);
	return rmdir(path) < 0 && errno != ENOENT ? -errno : 0;
}

int cgroup_remove(const struct strings *dirs, struct error *err)
{
	int64_t end = now_ms() + REMOVE_MS;
	int result = 0;

	for (size_t i = dirs->count; i > 0; i--) {
		const char *dir = dirs->v[i - 1];
		int ret = 0;

		/* a parent that another container uses meanwhile stays */
		if (!is_leaf(dirs, i - 1)) {
			rmdir(dir);
			continue;
		}
		/* a killed process leaves its cgroup when it is torn down, a little after it died */
		for (int pause_ms = 1; (ret = remove_tree(dir)) == -EBUSY && now_ms() < end;
		     pause_ms = MIN(pause_ms * 2, 50))
			poll(NULL, 0, pause_ms);
		if (ret && !result)
			result = error_errno(err, -ret, "cannot remove the cgroup %s", dir);
	}
	return result;
}

bool cgroup_read(const struct strings *dirs, const char *file, uint64_t *ret)
{
	for (size_t i = dirs->count; i > 0; i--) {
		AUTO(mem_free) char *path = xasprintf("%s/%s", dirs->v[i - 1], file);
		AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, 4096, NULL);
		unsigned long long value;

		if (text && sscanf(text, "%llu", &value) == 1) {
			*ret = value;
			return true;
		}
	}
	return false;
}

bool cgroup_read_key(const struct strings *dirs, const char *file, const char *key, uint64_t *ret)
{
	size_t len = strlen(key);

	for (size_t i = dirs->count; i > 0; i--) {
		AUTO(mem_free) char *path = xasprintf("%s/%s", dirs->v[i - 1], file);
		AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, 65536, NULL);
		char *save = NULL;

		for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line;
		     line = strtok_r(NULL, "\n", &save)) {
			unsigned long long value;

			if (!strncmp(line, key, len) && sscanf(line + len, " %llu", &value) == 1) {
				*ret = value;
				return true;
			}
		}
	}
	return false;
}
