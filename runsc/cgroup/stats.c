#include "runsc/cgroup/stats.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "runsc/cgroup/cgroup_priv.h"

#define FILE_MAX (1u << 20)
#define USER_HZ_NS 10000000u /* a tick of cpuacct.stat */

static char *read_text(const struct cgroup_dir *dir, const char *file)
{
	AUTO(mem_free) char *path = dir ? xasprintf("%s/%s", dir->path, file) : NULL;

	return path ? read_file_at(AT_FDCWD, path, FILE_MAX, NULL) : NULL;
}

static bool read_value(const struct cgroup_dir *dir, const char *file, uint64_t *ret)
{
	AUTO(mem_free) char *text = read_text(dir, file);

	if (!text || (!isdigit((unsigned char)*text) && *text != '-' && *text != 'm'))
		return false;
	*ret = isdigit((unsigned char)*text) ? strtoull(text, NULL, 10) : UINT64_MAX;
	return true;
}

bool cgroup_read(const struct cgroup *cg, const char *controller, const char *file, uint64_t *ret)
{
	return read_value(cgroup_find(cg, controller), file, ret);
}

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX));
}

static void set(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new(object, key, integer(value));
}

static void set_file(json_t *object, const char *key, const struct cgroup_dir *dir, const char *file)
{
	uint64_t value = 0;

	read_value(dir, file, &value);
	set(object, key, value);
}

/* "key value" lines as an object. */
static json_t *flat_keyed(const struct cgroup_dir *dir, const char *file)
{
	AUTO(mem_free) char *text = read_text(dir, file);
	json_t *object = json_object();
	char *save = NULL;

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(line, ' ');

		if (space) {
			*space = 0;
			set(object, line, strtoull(space + 1, NULL, 10));
		}
	}
	return object;
}

static uint64_t value_of(const json_t *object, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* Numbers separated by spaces. */
static json_t *number_list(const struct cgroup_dir *dir, const char *file)
{
	AUTO(mem_free) char *text = read_text(dir, file);
	json_t *array = json_array();
	char *save = NULL;

	for (char *word = text ? strtok_r(text, " \n", &save) : NULL; word; word = strtok_r(NULL, " \n", &save))
		json_array_append_new(array, integer(strtoull(word, NULL, 10)));
	return array;
}

/* "0-2,5" as [0, 1, 2, 5]. */
static json_t *range_list(const struct cgroup_dir *dir, const char *file)
{
	AUTO(mem_free) char *text = read_text(dir, file);
	json_t *array = json_array();
	char *save = NULL;

	for (char *word = text ? strtok_r(text, ",\n", &save) : NULL; word; word = strtok_r(NULL, ",\n", &save)) {
		unsigned int first, last;
		int count = sscanf(word, "%u-%u", &first, &last);

		for (unsigned int i = count > 0 ? first : 1; i <= (count == 2 ? last : count == 1 ? first : 0) &&
							     json_array_size(array) < 65536; i++)
			json_array_append_new(array, integer(i));
	}
	return array;
}

static json_t *cpu_stats(const struct cgroup *cg)
{
	const struct cgroup_dir *cpu = cgroup_find(cg, "cpu"), *account = cgroup_find(cg, "cpuacct");
	bool v1 = account && account->controllers;
	json_t *usage = json_object(), *throttling = json_object();
	json_t *stat = flat_keyed(cpu, "cpu.stat"), *ticks = flat_keyed(account, v1 ? "cpuacct.stat" : "cpu.stat");

	if (v1) {
		set_file(usage, "total", account, "cpuacct.usage");
		json_object_set_new(usage, "percpu", number_list(account, "cpuacct.usage_percpu"));
		json_object_set_new(usage, "percpu_kernel", number_list(account, "cpuacct.usage_percpu_sys"));
		json_object_set_new(usage, "percpu_user", number_list(account, "cpuacct.usage_percpu_user"));
		set(usage, "kernel", value_of(ticks, "system") * USER_HZ_NS);
		set(usage, "user", value_of(ticks, "user") * USER_HZ_NS);
	} else {
		set(usage, "total", value_of(ticks, "usage_usec") * 1000);
		set(usage, "kernel", value_of(ticks, "system_usec") * 1000);
		set(usage, "user", value_of(ticks, "user_usec") * 1000);
	}
	set(throttling, "periods", value_of(stat, "nr_periods"));
	set(throttling, "throttledPeriods", value_of(stat, "nr_throttled"));
	set(throttling, "throttledTime",
	    json_object_get(stat, "throttled_usec") ? value_of(stat, "throttled_usec") * 1000 :
						       value_of(stat, "throttled_time"));
	json_decref(stat);
	json_decref(ticks);
	return json_pack("{s:o, s:o}", "usage", usage, "throttling", throttling);
}

static json_t *cpuset_stats(const struct cgroup *cg)
{
	static const char *const flags[] = { "cpu_exclusive",  "mem_hardwall",	     "mem_exclusive",
					     "memory_migrate", "memory_spread_page", "memory_spread_slab",
					     "memory_pressure", "sched_load_balance" };
	const struct cgroup_dir *dir = cgroup_find(cg, "cpuset");
	json_t *object = json_object(), *relax = NULL;
	AUTO(mem_free) char *level = NULL;

	if (!dir || !dir->controllers)
		return object;
	json_object_set_new(object, "cpus", range_list(dir, "cpuset.cpus"));
	json_object_set_new(object, "mems", range_list(dir, "cpuset.mems"));
	for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
		AUTO(mem_free) char *file = xasprintf("cpuset.%s", flags[i]);

		set_file(object, flags[i], dir, file);
	}
	level = read_text(dir, "cpuset.sched_relax_domain_level");
	relax = json_integer(level ? atoi(level) : -1);
	json_object_set_new(object, "sched_relax_domain_level", relax);
	return object;
}

/* usage, limit, max, failcnt of version 1's NAME.usage_in_bytes and so on. */
static json_t *counter_v1(const struct cgroup_dir *dir, const char *name)
{
	static const char *const rows[][2] = { { "limit", "limit_in_bytes" },
					       { "usage", "usage_in_bytes" },
					       { "max", "max_usage_in_bytes" },
					       { "failcnt", "failcnt" } };
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		AUTO(mem_free) char *file = xasprintf("%s.%s", name, rows[i][1]);

		set_file(object, rows[i][0], dir, file);
	}
	return object;
}

static json_t *counter_v2(const struct cgroup_dir *dir, const char *name, uint64_t failures)
{
	AUTO(mem_free) char *limit = xasprintf("%s.max", name);
	AUTO(mem_free) char *usage = xasprintf("%s.current", name);
	AUTO(mem_free) char *peak = xasprintf("%s.peak", name);
	json_t *object = json_object();

	set_file(object, "limit", dir, limit);
	set_file(object, "usage", dir, usage);
	set_file(object, "max", dir, peak);
	set(object, "failcnt", failures);
	return object;
}

static json_t *memory_stats(const struct cgroup *cg)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "memory");
	bool v1 = dir && dir->controllers;
	json_t *raw = flat_keyed(dir, "memory.stat"), *events, *out = json_object();

	set(out, "cache", value_of(raw, v1 ? "total_cache" : "file"));
	if (v1) {
		json_object_set_new(out, "usage", counter_v1(dir, "memory"));
		json_object_set_new(out, "swap", counter_v1(dir, "memory.memsw"));
		json_object_set_new(out, "kernel", counter_v1(dir, "memory.kmem"));
		json_object_set_new(out, "kernelTCP", counter_v1(dir, "memory.kmem.tcp"));
	} else {
		events = flat_keyed(dir, "memory.events");
		json_object_set_new(out, "usage", counter_v2(dir, "memory", value_of(events, "max")));
		json_object_set_new(out, "swap", counter_v2(dir, "memory.swap", 0));
		json_decref(events);
	}
	json_object_set_new(out, "raw", raw);
	return out;
}

static void add_io(json_t *array, const char *device, const char *op, uint64_t value)
{
	unsigned int major, minor;

	if (sscanf(device, "%u:%u", &major, &minor) == 2)
		json_array_append_new(array, json_pack("{s:i, s:i, s:s, s:o}", "major", (int)major, "minor",
						       (int)minor, "op", op, "value", integer(value)));
}

/* Lines "8:0 Read 4096"; the total has no device. */
static json_t *io_v1(const struct cgroup_dir *dir, const char *file, const char *other)
{
	AUTO(mem_free) char *text = read_text(dir, file);
	json_t *array = json_array();
	char *save = NULL;

	if ((!text || !*text || !strncmp(text, "Total", 5)) && other) {
		free(text);
		text = read_text(dir, other);
	}
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		char device[32], op[16];
		uint64_t value;

		if (sscanf(line, "%31s %15s %" SCNu64, device, op, &value) == 3)
			add_io(array, device, op, value);
	}
	return array;
}

/* Lines "8:0 rbytes=1 wbytes=2 rios=3 wios=4 ...". */
static void io_v2(const struct cgroup_dir *dir, json_t *bytes, json_t *requests)
{
	static const struct {
		const char *key, *op;
		bool bytes;
	} rows[] = { { "rbytes=", "Read", true },
		     { "wbytes=", "Write", true },
		     { "rios=", "Read", false },
		     { "wios=", "Write", false } };
	AUTO(mem_free) char *text = read_text(dir, "io.stat");
	char *save = NULL;

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
			const char *found = strstr(line, rows[i].key);

			if (found)
				add_io(rows[i].bytes ? bytes : requests, line, rows[i].op,
				       strtoull(found + strlen(rows[i].key), NULL, 10));
		}
	}
}

static json_t *io_stats(const struct cgroup *cg)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "blkio");
	json_t *out = json_object(), *bytes, *requests;

	if (!dir)
		return out;
	if (dir->controllers) {
		bytes = io_v1(dir, "blkio.bfq.io_service_bytes_recursive",
			      "blkio.throttle.io_service_bytes_recursive");
		requests = io_v1(dir, "blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive");
	} else {
		bytes = json_array();
		requests = json_array();
		io_v2(dir, bytes, requests);
	}
	json_object_set_new(out, "ioServiceBytesRecursive", bytes);
	json_object_set_new(out, "ioServicedRecursive", requests);
	return out;
}

/* One row for each "hugetlb.2MB.max" or "hugetlb.2MB.limit_in_bytes" that is there. */
static json_t *hugetlb_stats(const struct cgroup *cg)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "hugetlb");
	json_t *out = json_object();
	DIR *list = dir ? opendir(dir->path) : NULL;
	const struct dirent *entry;

	while (list && (entry = readdir(list))) {
		const char *end = dir->controllers ? ".limit_in_bytes" : ".max";
		size_t len = strlen(entry->d_name), end_len = strlen(end);
		AUTO(mem_free) char *name = NULL;

		if (strncmp(entry->d_name, "hugetlb.", 8) != 0 || len <= 8 + end_len ||
		    strcmp(entry->d_name + len - end_len, end) != 0 || strstr(entry->d_name, ".rsvd."))
			continue;
		name = xstrdup(entry->d_name);
		name[len - end_len] = 0;
		json_object_set_new(out, name + 8,
				    dir->controllers ? counter_v1(dir, name) : counter_v2(dir, name, 0));
	}
	if (list)
		closedir(list);
	return out;
}

json_t *cgroup_stats(const struct cgroup *cg)
{
	const struct cgroup_dir *pids = cgroup_find(cg, "pids");
	json_t *tasks = json_object();

	set_file(tasks, "current", pids, "pids.current");
	set_file(tasks, "limit", pids, "pids.max");
	return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "cpu", cpu_stats(cg), "cpuset", cpuset_stats(cg),
			 "memory", memory_stats(cg), "pids", tasks, "blkio", io_stats(cg), "hugetlb",
			 hugetlb_stats(cg));
}
