/* Making, joining and limiting a cgroup by the file system. */
#include "runsc/cgroup/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "platform/base/log.h"
#include "runsc/cgroup/cgroup_priv.h"

#define MAKE_TRIES 5
#define SHARES_DEFAULT 1024
#define PROCS_MAX (1u << 20)

void cgroup_fini(struct cgroup *cg)
{
	for (size_t i = 0; i < cg->count; i++) {
		free(cg->v[i].path);
		free(cg->v[i].controllers);
	}
	free(cg->v);
	free(cg->unit);
	free(cg->slice);
	*cg = (struct cgroup){ 0 };
}

static struct cgroup_dir *add_dir(struct cgroup *cg, const char *path, const char *controllers)
{
	struct cgroup_dir *dir;

	cg->v = xrealloc(cg->v, cg->count + 1, sizeof(*cg->v));
	dir = &cg->v[cg->count++];
	*dir = (struct cgroup_dir){ .path = xstrdup(path),
				    .controllers = controllers ? xstrdup(controllers) : NULL };
	return dir;
}

/* "/a/../b//c/" to "/b/c", by the text alone; "" for the root. */
static char *clean_path(const char *path)
{
	AUTO(mem_free) char *copy = xstrdup(path);
	char *out = xcalloc(strlen(path) + 2, 1), *end = out, *save = NULL;

	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save)) {
		if (!strcmp(name, ".."))
			end = strrchr(out, '/') ? strrchr(out, '/') : out;
		else if (strcmp(name, ".") != 0)
			end += sprintf(end, "/%s", name);
		*end = 0;
	}
	return out;
}

static void plan_hierarchy(const struct hierarchy *h, const char *path, struct cgroup *cg)
{
	AUTO(mem_free) char *full = xasprintf("%s%s", h->mount, path);

	add_dir(cg, full, h->controllers)->made = access(full, F_OK) < 0;
}

void cgroup_plan_from_top(const char *path, struct cgroup *ret)
{
	struct hierarchies list;

	hierarchies_find(&list);
	for (size_t i = 0; i < list.count; i++)
		plan_hierarchy(&list.v[i], path, ret);
	hierarchies_fini(&list);
}

int cgroup_plan(const char *path, const char *id, struct cgroup *ret, struct error *err)
{
	struct hierarchies list;
	bool absolute = path && path[0] == '/';
	AUTO(mem_free) char *clean = clean_path(path && *path ? path : id);

	*ret = (struct cgroup){ 0 };
	if (strlen(clean) >= PATH_MAX / 2)
		return error_set(err, "linux.cgroupsPath is too long");
	/* the root of the hierarchies is nobody's own */
	if (!*clean)
		return 0;
	hierarchies_find(&list);
	for (size_t i = 0; i < list.count; i++) {
		const struct hierarchy *h = &list.v[i];
		AUTO(mem_free) char *own = clean_path(h->own);
		AUTO(mem_free) char *full = NULL;

		if (!h->controllers && list.count == 1 && strrchr(own, '/'))
			*strrchr(own, '/') = 0;
		full = xasprintf("%s%s", absolute ? "" : own, clean);
		plan_hierarchy(h, full, ret);
	}
	hierarchies_fini(&list);
	return 0;
}

const struct cgroup_dir *cgroup_find(const struct cgroup *cg, const char *controller)
{
	const struct cgroup_dir *unified = NULL;

	for (size_t i = 0; i < cg->count; i++) {
		const struct cgroup_dir *dir = &cg->v[i];

		if (!dir->controllers)
			unified = dir;
		else if (controllers_have(dir->controllers, controller))
			return dir;
	}
	return unified;
}

const struct cgroup_dir *cgroup_unified(const struct cgroup *cg, bool *ret_alone)
{
	const struct cgroup_dir *unified = NULL;

	*ret_alone = true;
	for (size_t i = 0; i < cg->count; i++) {
		if (!cg->v[i].controllers)
			unified = &cg->v[i];
		if (cg->v[i].controllers && strncmp(cg->v[i].controllers, "name=", 5) != 0)
			*ret_alone = false;
	}
	return unified;
}

/*
 * A new directory in a cpuset hierarchy has no cpus and takes no process: it gets its parent's, which may have been made by
 * somebody who left it without, too. The value of file in dir (heap), or NULL; fresh: nothing can be in there yet.
 */
static char *inherit_value(const char *dir, const char *file, bool fresh)
{
	AUTO(mem_free) char *path = xasprintf("%s/%s", dir, file);
	AUTO(mem_free) char *value = fresh ? NULL : read_file_at(AT_FDCWD, path, 65536, NULL);
	AUTO(mem_free) char *parent = xstrdup(dir);

	if (!fresh && (!value || value[0] != '\n'))
		return TAKE(value);
	free(TAKE(value));
	if (!strrchr(parent, '/'))
		return NULL;
	*strrchr(parent, '/') = 0;
	value = inherit_value(parent, file, false);
	if (value)
		write_string_at(AT_FDCWD, path, value);
	return TAKE(value);
}

static void inherit_cpuset(const char *dir, bool fresh)
{
	free(inherit_value(dir, "cpuset.cpus", fresh));
	free(inherit_value(dir, "cpuset.mems", fresh));
}

/* Version 2: lets children of dir, and above them dir itself, have those of the wanted controllers that there are. */
static void enable_controllers(const char *dir, const char *wanted)
{
	AUTO(mem_free) char *from = xasprintf("%s/cgroup.controllers", dir);
	AUTO(mem_free) char *to = xasprintf("%s/cgroup.subtree_control", dir);
	AUTO(mem_free) char *names = NULL;
	AUTO(mem_free) char *on = NULL;
	AUTO(mem_free) char *parent = xstrdup(dir);
	char *save = NULL;

	if (access(from, F_OK) < 0 || !strrchr(parent, '/'))
		return;
	*strrchr(parent, '/') = 0;
	enable_controllers(parent, wanted);
	names = read_file_at(AT_FDCWD, from, 4096, NULL);
	on = read_file_at(AT_FDCWD, to, 4096, NULL);
	if (!names || !on)
		return;
	for (char *p = on; *p; p++)
		*p = *p == ' ' || *p == '\n' ? ',' : *p;
	/* one by one: some cannot be given away, such as cpu with realtime processes */
	for (char *name = strtok_r(names, " \n", &save); name; name = strtok_r(NULL, " \n", &save)) {
		AUTO(mem_free) char *word = xasprintf("+%s", name);

		if (!controllers_have(on, name) && (!wanted || controllers_have(wanted, name)))
			write_string_at(AT_FDCWD, to, word);
	}
}

/* "hugetlb,memory": the controllers of version 2 that writes need. */
static char *controllers_of_writes(const struct cgroup *cg, const struct cgroup_writes *w)
{
	char *out = xstrdup("");

	for (size_t i = 0; i < w->count; i++) {
		const struct cgroup_dir *dir = cgroup_find(cg, w->v[i].controller);
		char *longer;

		if (w->v[i].optional || (dir && dir->controllers && !w->v[i].unified))
			continue;
		longer = xasprintf("%s,%s", out, controller_v2(w->v[i].controller));
		free(out);
		out = longer;
	}
	return out;
}

/* Both lists of writes; what version 1 has is not written in version 2. */
static int list_writes(const struct cgroup *cg, const struct oci_resources *resources, bool devices,
		       struct cgroup_writes *v1, struct cgroup_writes *v2, struct error *err)
{
	struct oci_resources r = *resources;
	const struct cgroup_dir *memory = cgroup_find(cg, "memory");
	bool alone;

	if (writes_v1(resources, devices, v1, err))
		return -1;
	if (!cgroup_unified(cg, &alone))
		return resources->unified.count ? error_set(err, "cannot use unified on cgroup v1") : 0;
	/* the two versions count swap differently */
	if (memory->controllers)
		r.memory_limit = r.memory_swap = r.memory_reservation = OCI_UNSET;
	return writes_v2(&r, v2, err);
}

static int64_t read_number(const struct cgroup_dir *dir, const char *file)
{
	AUTO(mem_free) char *path = xasprintf("%s/%s", dir->path, file);
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, 64, NULL);

	return text ? strtoll(text, NULL, 10) : -1;
}

static int fail_write(const struct cgroup_dir *dir, const struct cgroup_write *row, int ret, struct error *err)
{
	if (ret == -ENOENT && row->unified)
		return error_set(err, "unified resource \"%s\" can't be set: controller \"%s\" not available in %s",
				 row->file, row->controller, dir->path);
	if (ret == -ENOENT)
		return error_set(err, "cannot set %s to %s: this host has no file of that name in %s", row->file,
				 row->text, dir->path);
	if (ret == -EBUSY && !strcmp(row->file, "memory.limit_in_bytes"))
		return error_set(err,
				 "unable to set memory limit to %s (current usage: %" PRId64 ", peak usage: %" PRId64
				 ")",
				 row->text, read_number(dir, "memory.usage_in_bytes"),
				 read_number(dir, "memory.max_usage_in_bytes"));
	return error_errno(err, -ret, "cannot write \"%s\" to %s/%s", row->text, dir->path, row->file);
}

/* A file that stays open while rows follow each other that go there. */
struct open_file {
	char *path;
	int fd;
};

static void open_file_fini(struct open_file *file)
{
	free(file->path);
	fd_close(file->fd);
	*file = (struct open_file){ .fd = -1 };
}

static int write_file(struct open_file *file, const struct cgroup_dir *dir, const char *name, const char *text)
{
	AUTO(mem_free) char *path = xasprintf("%s/%s", dir->path, name);
	size_t len = strlen(text);
	ssize_t n;

	if (!file->path || strcmp(file->path, path) != 0) {
		open_file_fini(file);
		file->fd = open(path, O_WRONLY | O_CLOEXEC);
		if (file->fd < 0)
			return -errno;
		file->path = TAKE(path);
	}
	n = write(file->fd, text, len);
	return n < 0 ? -errno : n == (ssize_t)len ? 0 : -EIO;
}

static int write_one(struct open_file *file, const struct cgroup_dir *dir, const struct cgroup_write *row)
{
	int ret = write_file(file, dir, row->file, row->text);

	if (ret == -ENOENT && row->other_file)
		ret = write_file(file, dir, row->other_file, row->other_text);
	if (ret == -ENOENT && row->optional)
		return 0;
	/* nor may the rootless change the list of devices */
	if ((ret == -EPERM || ret == -EACCES) && geteuid() && !strcmp(row->controller, "devices"))
		return 0;
	return ret;
}

/* Where a row goes: version 1 rows to its controller, version 2 rows to where that is not; NULL: nowhere. */
static const struct cgroup_dir *dir_of_row(const struct cgroup *cg, const struct cgroup_write *row, bool v1)
{
	const struct cgroup_dir *dir = cgroup_find(cg, row->controller);
	bool alone;

	if (row->unified)
		return cgroup_unified(cg, &alone);
	return dir && !dir->controllers == !v1 ? dir : NULL;
}

/*
 * Values that fit each other only when both are new (quota and period; memory, and memory with swap) are refused
 * with EINVAL in one order or the other: those come once more at the end.
 */
static int write_all_rows(const struct cgroup *cg, const struct cgroup_writes *w, bool v1, struct error *err)
{
	bool again[ARRAY_COUNT(w->v)] = { false };
	struct open_file file = { .fd = -1 };
	int result = 0;

	for (size_t turn = 0; turn < 2 * w->count && !result; turn++) {
		size_t i = turn % w->count;
		const struct cgroup_dir *dir = dir_of_row(cg, &w->v[i], v1);
		int ret;

		if (!dir || (turn >= w->count && !again[i]))
			continue;
		ret = write_one(&file, dir, &w->v[i]);
		if (ret == -EINVAL && turn < w->count)
			again[i] = true;
		else if (ret)
			result = fail_write(dir, &w->v[i], ret, err);
	}
	open_file_fini(&file);
	return result;
}

/* Of limits for controllers that this host lacks. */
static int check_missing(const struct cgroup *cg, const struct cgroup_writes *v1, struct error *err)
{
	static const char *const only_v1[] = { "net_cls", "net_prio", "devices" };
	bool alone;
	const struct cgroup_dir *unified = cgroup_unified(cg, &alone);

	/* version 2 has no such limits, and runc says nothing */
	if (unified && alone)
		return 0;
	for (size_t i = 0; i < v1->count; i++) {
		const struct cgroup_write *row = &v1->v[i];
		const struct cgroup_dir *dir = cgroup_find(cg, row->controller);
		bool missing = !dir;

		for (size_t j = 0; j < ARRAY_COUNT(only_v1); j++)
			missing = missing || (!strcmp(row->controller, only_v1[j]) && !dir->controllers);
		if (missing && !row->optional && (cg->count || !row->sentry))
			return error_set(err, "cannot set %s limit: container could not join or create cgroup (%s)",
					 row->controller, row->file);
	}
	return 0;
}

/* Version 2 lets a limit be below what is in use, and kills. */
static int check_usage(const struct cgroup *cg, const struct oci_resources *resources, struct error *err)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "memory");
	int64_t usage;

	if (!resources->memory_check || resources->memory_limit <= 0 || !dir || dir->controllers)
		return 0;
	usage = read_number(dir, "memory.current");
	if (usage > cgroup_host_memory(resources->memory_limit))
		return error_set(err, "rejecting memory limit %" PRId64 " because current usage %" PRId64
				      " exceeds it",
				 resources->memory_limit, usage);
	return 0;
}

static int apply_writes(const struct cgroup *cg, const struct cgroup_writes *v1, const struct cgroup_writes *v2,
			struct error *err)
{
	return check_missing(cg, v1, err) || write_all_rows(cg, v1, true, err) ||
			       write_all_rows(cg, v2, false, err) ?
		       -1 :
		       0;
}

int cgroup_apply(const struct cgroup *cg, const struct oci_resources *resources, bool devices,
		 struct error *err)
{
	struct arena arena = { 0 };
	struct cgroup_writes v1 = { .arena = &arena }, v2 = { .arena = &arena };
	int ret;

	ret = list_writes(cg, resources, devices, &v1, &v2, err);
	if (!ret && cg->unit)
		ret = systemd_update(cg, resources, err);
	if (!ret)
		ret = check_usage(cg, resources, err);
	if (!ret)
		ret = apply_writes(cg, &v1, &v2, err);
	arena_fini(&arena);
	return ret;
}

int cgroup_lift(const struct cgroup *cg, struct error *err)
{
	struct oci_resources none;

	oci_resources_init(&none);
	none.memory_limit = none.memory_swap = none.cpu_quota = none.pids_limit = -1;
	none.cpu_shares = SHARES_DEFAULT;
	return cgroup_apply(cg, &none, false, err);
}

/* mkdir, and what a new directory of version 1 needs to take processes. */
static int make_dir(const char *path, const char *controllers)
{
	int ret = mkdir(path, 0755) < 0 ? -errno : 0;

	if ((!ret || ret == -EEXIST) && controllers && controllers_have(controllers, "cpuset"))
		inherit_cpuset(path, !ret);
	return ret;
}

/* Makes the parents of path that are missing, marked as ours. */
static void make_parents(const char *path, const char *controllers)
{
	AUTO(mem_free) char *parent = xstrdup(path);

	*strrchr(parent, '/') = 0;
	if (!*parent || !access(parent, F_OK))
		return;
	make_parents(parent, controllers);
	if (!make_dir(parent, controllers))
		setxattr(parent, CGROUP_MADE_ATTRIBUTE, "1", 1, 0);
}

static int make_leaf(struct cgroup_dir *dir, const char *wanted)
{
	AUTO(mem_free) char *parent = xstrdup(dir->path);
	int ret = -ENOENT;

	*strrchr(parent, '/') = 0;
	/* a parent that another container's delete took away meanwhile is made again */
	for (int i = 0; i < MAKE_TRIES && ret == -ENOENT; i++) {
		if (i)
			make_parents(dir->path, dir->controllers);
		if (!dir->controllers && (!wanted || *wanted))
			enable_controllers(parent, wanted);
		ret = make_dir(dir->path, dir->controllers);
	}
	dir->made = !ret;
	return ret == -EEXIST ? 0 : ret;
}

/* Somebody else's processes would be under the container's limits, and be killed with it. */
static int check_empty(const struct cgroup_dir *dir, struct error *err)
{
	AUTO(mem_free) char *path = xasprintf("%s/cgroup.procs", dir->path);
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, PROCS_MAX, NULL);

	return text && *text ? error_set(err, "container's cgroup is not empty: there are processes in %s",
					 dir->path) :
			       0;
}

static bool may_be_missing(int ret)
{
	return ret == -EACCES || ret == -EPERM || ret == -EROFS || ret == -ENOENT;
}

static void drop_dir(struct cgroup *cg, size_t i)
{
	free(cg->v[i].path);
	free(cg->v[i].controllers);
	memmove(&cg->v[i], &cg->v[i + 1], (cg->count - i - 1) * sizeof(*cg->v));
	cg->count--;
}

static int make_dirs_of(struct cgroup *cg, const char *wanted, bool optional, struct error *err)
{
	for (size_t i = 0; i < cg->count;) {
		struct cgroup_dir *dir = &cg->v[i];
		int ret = make_leaf(dir, wanted);

		if (ret && optional && may_be_missing(ret)) {
			log_debug("no cgroup %s: %s", dir->path, strerror(-ret));
			drop_dir(cg, i);
			continue;
		}
		if (ret)
			return error_errno(err, -ret, "cannot make the cgroup %s", dir->path);
		if (!dir->made && !cg->unit && check_empty(dir, err))
			return -1;
		i++;
	}
	return 0;
}

int cgroup_make(struct cgroup *cg, const struct oci_resources *resources, bool optional, struct error *err)
{
	struct arena arena = { 0 };
	struct cgroup_writes v1 = { .arena = &arena }, v2 = { .arena = &arena };
	AUTO(mem_free) char *wanted = NULL;
	bool alone;
	int ret;

	if (!cg->count)
		return 0;
	ret = list_writes(cg, resources, true, &v1, &v2, err);
	/* beside version 1, version 2 is asked for no more than the limits need */
	cgroup_unified(cg, &alone);
	if (!alone)
		wanted = controllers_of_writes(cg, &v2);
	if (!ret)
		ret = make_dirs_of(cg, wanted, optional, err);
	if (!ret)
		ret = apply_writes(cg, &v1, &v2, err);
	arena_fini(&arena);
	return ret;
}

static int open_below(const struct cgroup_dir *dir, const char *file, int flags, int *ret, struct error *err)
{
	AUTO(mem_free) char *path = xasprintf("%s%s%s", dir->path, *file ? "/" : "", file);

	*ret = open(path, flags | O_CLOEXEC);
	return *ret < 0 ? error_errno(err, errno, "cannot open the cgroup %s", path) : 0;
}

int cgroup_entry_open(const struct cgroup *cg, struct cgroup_entry *ret, struct error *err)
{
	struct cgroup_entry entry = CGROUP_ENTRY_NONE;
	int failed = 0;

	for (size_t i = 0; i < cg->count && !failed; i++) {
		const struct cgroup_dir *dir = &cg->v[i];

		if (entry.count == ARRAY_COUNT(entry.tasks))
			continue;
		if (dir->controllers)
			failed = open_below(dir, "tasks", O_WRONLY, &entry.tasks[entry.count++], err);
		else
			failed = open_below(dir, "", O_RDONLY | O_DIRECTORY, &entry.into, err) ||
				 open_below(dir, "cgroup.procs", O_WRONLY, &entry.into_procs, err);
	}
	if (failed) {
		cgroup_entry_close(&entry);
		return -1;
	}
	*ret = entry;
	return 0;
}

void cgroup_entry_close(struct cgroup_entry *entry)
{
	fd_close(entry->into);
	fd_close(entry->into_procs);
	for (size_t i = 0; i < entry->count; i++)
		fd_close(entry->tasks[i]);
	*entry = CGROUP_ENTRY_NONE;
}

int cgroup_entry_join(const struct cgroup_entry *entry, bool born_in)
{
	if (!born_in && entry->into_procs >= 0 && write(entry->into_procs, "0", 1) < 0)
		return -errno;
	for (size_t i = 0; i < entry->count; i++) {
		if (write(entry->tasks[i], "0", 1) < 0)
			return -errno;
	}
	return 0;
}

int cgroup_join(const struct cgroup *cg, pid_t pid, struct error *err)
{
	char text[32];

	snprintf(text, sizeof(text), "%d", (int)pid);
	for (size_t i = 0; i < cg->count; i++) {
		AUTO(mem_free) char *file = xasprintf("%s/cgroup.procs", cg->v[i].path);
		int ret = write_string_at(AT_FDCWD, file, text);

		if (ret == -ESRCH)
			return error_set(err, "process %d ended before it could join its cgroup", (int)pid);
		if (ret)
			return error_errno(err, -ret, "cannot move process %d into the cgroup %s", (int)pid,
					   cg->v[i].path);
	}
	return 0;
}

json_t *cgroup_json(const struct cgroup *cg)
{
	json_t *array = json_array();

	for (size_t i = 0; i < cg->count; i++) {
		const struct cgroup_dir *dir = &cg->v[i];

		json_array_append_new(array, json_pack("{s:s, s:s?, s:b}", "path", dir->path, "controllers",
						       dir->controllers, "made", dir->made));
	}
	return json_pack("{s:o, s:s?, s:s?, s:b}", "directories", array, "unit", cg->unit, "slice", cg->slice, "user",
			 cg->user);
}

static char *text_or_null(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	return text ? xstrdup(text) : NULL;
}

void cgroup_of_json(const json_t *json, struct cgroup *ret)
{
	const json_t *array = json_object_get(json, "directories");

	*ret = (struct cgroup){ .unit = text_or_null(json, "unit"),
				.slice = text_or_null(json, "slice"),
				.user = json_is_true(json_object_get(json, "user")) };
	for (size_t i = 0; i < json_array_size(array); i++) {
		const json_t *row = json_array_get(array, i);
		const char *path = json_string_value(json_object_get(row, "path"));
		const char *controllers = json_string_value(json_object_get(row, "controllers"));

		if (path && *path == '/')
			add_dir(ret, path, controllers)->made = json_is_true(json_object_get(row, "made"));
	}
}
