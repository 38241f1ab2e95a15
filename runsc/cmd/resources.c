/* events, update: usage and limits. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <string.h>
#include <sys/syscall.h>

#include "runsc/cgroup/stats.h"
#include "runsc/cmd/cmd.h"
#include "runsc/sandbox/control.h"

struct events_values {
	bool stats;
	const char *interval;
};
#define V struct events_values
DEFINE_OPTIONS(events, V, ROW(V, BOOL, "stats", 0, stats, NULL, "print the figures once and end"),
	       ROW(V, STRING, "interval", 0, interval, "TIME", "time between two prints (default 5s)"));
#undef V

struct update_values {
	const char *resources;
	const char *cpu_period, *cpu_quota, *cpu_burst, *cpu_share, *cpu_idle, *cpu_rt_period, *cpu_rt_runtime;
	const char *cpuset_cpus, *cpuset_mems, *memory, *memory_reservation, *memory_swap;
	const char *kernel_memory, *kernel_memory_tcp, *pids_limit, *blkio_weight, *l3_cache, *mem_bw;
};
#define V struct update_values
DEFINE_OPTIONS(update, V,
	       ROW(V, STRING, "resources", 'r', resources, "FILE",
		   "JSON LinuxResources; - for stdin; the other options are then ignored"),
	       ROW(V, STRING, "blkio-weight", 0, blkio_weight, "N", "weight of block io, 10 to 1000"),
	       ROW(V, STRING, "cpu-period", 0, cpu_period, "US", "period of the cpu quota"),
	       ROW(V, STRING, "cpu-quota", 0, cpu_quota, "US", "cpu quota in a period; -1: none"),
	       ROW(V, STRING, "cpu-burst", 0, cpu_burst, "US", "what may be used above the quota, saved before"),
	       ROW(V, STRING, "cpu-share", 0, cpu_share, "N", "cpu shares"),
	       ROW(V, STRING, "cpu-idle", 0, cpu_idle, "0|1", "run only when nothing else wants to"),
	       ROW(V, STRING, "cpu-rt-period", 0, cpu_rt_period, "US", "period of realtime processes"),
	       ROW(V, STRING, "cpu-rt-runtime", 0, cpu_rt_runtime, "US", "time of realtime processes in it"),
	       ROW(V, STRING, "cpuset-cpus", 0, cpuset_cpus, "LIST", "cpus"),
	       ROW(V, STRING, "cpuset-mems", 0, cpuset_mems, "LIST", "memory nodes"),
	       ROW(V, STRING, "memory", 0, memory, "BYTES", "memory limit (512m, 1g); -1: none"),
	       ROW(V, STRING, "memory-reservation", 0, memory_reservation, "BYTES", "soft memory limit"),
	       ROW(V, STRING, "memory-swap", 0, memory_swap, "BYTES", "memory and swap together; -1: none"),
	       ROW(V, STRING, "kernel-memory", 0, kernel_memory, "BYTES", "ignored: Linux has no such limit any more"),
	       ROW(V, STRING, "kernel-memory-tcp", 0, kernel_memory_tcp, "BYTES", "buffers of tcp (cgroup v1)"),
	       ROW(V, STRING, "pids-limit", 0, pids_limit, "N", "processes; -1: any number"),
	       ROW(V, STRING, "l3-cache-schema", 0, l3_cache, "TEXT", "Intel RDT: not supported"),
	       ROW(V, STRING, "mem-bw-schema", 0, mem_bw, "TEXT", "Intel RDT: not supported"));

/* What an option is in LinuxResources. */
static const struct update_row {
	const char *option, *object, *key;
	ptrdiff_t offset;
	enum { VALUE_NUMBER, VALUE_BYTES, VALUE_TEXT } kind;
} update_table[] = {
	{ "blkio-weight", "blockIO", "weight", offsetof(V, blkio_weight), VALUE_NUMBER },
	{ "cpu-period", "cpu", "period", offsetof(V, cpu_period), VALUE_NUMBER },
	{ "cpu-quota", "cpu", "quota", offsetof(V, cpu_quota), VALUE_NUMBER },
	{ "cpu-burst", "cpu", "burst", offsetof(V, cpu_burst), VALUE_NUMBER },
	{ "cpu-share", "cpu", "shares", offsetof(V, cpu_share), VALUE_NUMBER },
	{ "cpu-idle", "cpu", "idle", offsetof(V, cpu_idle), VALUE_NUMBER },
	{ "cpu-rt-period", "cpu", "realtimePeriod", offsetof(V, cpu_rt_period), VALUE_NUMBER },
	{ "cpu-rt-runtime", "cpu", "realtimeRuntime", offsetof(V, cpu_rt_runtime), VALUE_NUMBER },
	{ "cpuset-cpus", "cpu", "cpus", offsetof(V, cpuset_cpus), VALUE_TEXT },
	{ "cpuset-mems", "cpu", "mems", offsetof(V, cpuset_mems), VALUE_TEXT },
	{ "memory", "memory", "limit", offsetof(V, memory), VALUE_BYTES },
	{ "memory-reservation", "memory", "reservation", offsetof(V, memory_reservation), VALUE_BYTES },
	{ "memory-swap", "memory", "swap", offsetof(V, memory_swap), VALUE_BYTES },
	{ "kernel-memory", "memory", "kernel", offsetof(V, kernel_memory), VALUE_BYTES },
	{ "kernel-memory-tcp", "memory", "kernelTCP", offsetof(V, kernel_memory_tcp), VALUE_BYTES },
	{ "pids-limit", "pids", "limit", offsetof(V, pids_limit), VALUE_NUMBER },
};
#undef V

#define RESOURCES_MAX (1u << 20)
#define CONFIG_MAX (16u << 20)
#define LIVE (STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) | STATUS_BIT(STATUS_PAUSED))

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX));
}

/* Into the object KEY of data. */
static void set_in(json_t *data, const char *object, const char *key, json_t *value)
{
	json_t *part = json_object_get(data, object);

	if (!part) {
		part = json_object();
		json_object_set_new(data, object, part);
	}
	json_object_set_new(part, key, value);
}

/*
 * The figures of the host's cgroup, in runc's shape. Tasks and the memory limit are the sentry's: on the host a guest's task
 * is several, and its limit is higher. Without a cgroup, and for containers in another's sandbox, all are the sentry's.
 */
static json_t *stats_json(const struct container *c, const Urpc__EventData *e)
{
	json_t *data = cgroup_stats(&c->cgroup);
	json_t *usage;

	json_object_set_new(data, "pids", json_pack("{s:o, s:o}", "current", integer(e->pids_current), "limit",
						    integer(e->pids_limit)));
	if (c->sandbox || !cgroup_find(&c->cgroup, "cpuacct"))
		set_in(data, "cpu", "usage",
		       json_pack("{s:o, s:o, s:o}", "total", integer(e->cpu_total_ns), "kernel",
				 integer(e->cpu_system_ns), "user", integer(e->cpu_user_ns)));
	if (c->sandbox || !cgroup_find(&c->cgroup, "memory")) {
		set_in(data, "memory", "cache", integer(e->memory_cache));
		set_in(data, "memory", "usage",
		       json_pack("{s:o, s:o, s:o}", "limit", integer(e->memory_limit), "usage",
				 integer(e->memory_usage), "max", integer(e->memory_max)));
	}
	usage = json_object_get(json_object_get(data, "memory"), "usage");
	if (e->memory_limit)
		json_object_set_new(usage, "limit", integer(e->memory_limit));
	json_object_set_new(usage, "failcnt",
			    integer(e->memory_failcnt +
				    (uint64_t)json_integer_value(json_object_get(usage, "failcnt"))));
	set_in(data, "memory", "oom_kills", integer(e->oom_kills + cgroup_oom_kills(&c->cgroup)));
	json_object_set_new(data, "intel_rdt", json_object());
	json_object_set_new(data, "network_interfaces", json_array());
	return json_pack("{s:s, s:s, s:o}", "type", "stats", "id", c->id, "data", data);
}

static int print_stats(const struct container *c, struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__EventData *event = NULL;
	Urpc__ContainerId args;
	int ret;

	urpc__container_id__init(&args);
	if (control_connect(c, &client, err))
		return -1;
	args.id = c->id;
	ret = urpc_containerManager_Event(client, &args, NULL, 0, &event);
	if (ret)
		ret = control_fail(client, ret, "read the usage", err);
	else
		ret = print_json(stats_json(c, event), JSON_COMPACT, err);
	if (event)
		urpc_message_free(&event->base);
	return ret;
}

/* Kills that follow each other more quickly are one event. */
#define OOM_PAUSE_MS 20

/* Waits for out-of-memory kills inside: one byte for each time, and the end when the sandbox is gone. */
static void oom_run(const struct control_watch *w)
{
	uint64_t seen = 0;

	for (;;) {
		Urpc__WaitOomArgs args;
		Urpc__OomStatus *status = NULL;
		bool stopped;
		int ret;

		urpc__wait_oom_args__init(&args);
		args.id = w->id;
		args.oom_kills_seen = seen;
		ret = urpc_containerManager_WaitOom(w->client, &args, NULL, 0, &status);
		stopped = ret || status->stopped;
		if (!ret && status->oom_kills > seen) {
			seen = status->oom_kills;
			stopped |= write_all(w->out, "o", 1) != 0;
		}
		if (status)
			urpc_message_free(&status->base);
		if (stopped)
			break;
		/* a guest, or a sentry that is not itself any more, shall not fill the log of whoever reads this */
		poll(NULL, 0, OOM_PAUSE_MS);
	}
}

static int print_oom(const struct container *c, struct error *err)
{
	return print_json(json_pack("{s:s, s:s}", "type", "oom", "id", c->id), JSON_COMPACT, err);
}

/* Reads what fd has to say. False: nothing will come any more. */
static bool drain(int fd)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

enum { WATCH_END, WATCH_GUEST, WATCH_HOST, WATCHES };

/* Prints until the sandbox is gone. */
static int stream_events(struct container *c, int64_t interval, struct error *err)
{
	AUTO(fd_close) int end = (int)syscall(SYS_pidfd_open, c->sentry.pid, 0);
	AUTO(fd_close) int guest = control_watch(c, 0, oom_run, "events", err);
	AUTO(fd_close) int host = cgroup_oom_fd(&c->cgroup);
	struct pollfd pfd[WATCHES] = { { end, POLLIN, 0 }, { guest, POLLIN, 0 }, { host, POLLIN, 0 } };
	uint64_t kills = cgroup_oom_kills(&c->cgroup);
	int64_t next = now_ms() + interval;

	if (guest < 0)
		return -1;
	for (;;) {
		int64_t left = MAX(next - now_ms(), (int64_t)0);

		if (fflush(stdout) == EOF)
			return error_errno(err, errno, "cannot write to stdout");
		if (poll(pfd, WATCHES, (int)MIN(left, (int64_t)INT32_MAX)) < 0 && errno != EINTR)
			return error_errno(err, errno, "cannot wait for events");
		if (pfd[WATCH_GUEST].revents) {
			if (!drain(guest))
				pfd[WATCH_GUEST].fd = -1;
			else if (print_oom(c, err))
				return -1;
		}
		if (pfd[WATCH_HOST].revents) {
			if (!drain(host))
				pfd[WATCH_HOST].fd = -1;
			else if (cgroup_oom_happened(&c->cgroup, &kills) && print_oom(c, err))
				return -1;
		}
		if (pfd[WATCH_END].revents || end < 0 || container_status_now(c) == STATUS_STOPPED)
			return 0;
		if (now_ms() < next)
			continue;
		next += interval;
		if (print_stats(c, err))
			return container_status_now(c) == STATUS_STOPPED ? 0 : -1;
	}
}

int cmd_events(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	const struct events_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	int64_t interval = 5000;

	(void)count;
	if (v->interval && (!parse_duration_ms(v->interval, &interval) || interval <= 0))
		return error_set(err, "--interval %s is no time such as 5s", v->interval);
	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "read the usage of", LIVE, err) || print_stats(c, err))
		return -1;
	return v->stats ? 0 : stream_events(c, interval, err);
}

/* "512m", "1.5g", "64MiB" to bytes, as runc and docker read them; -1 for none. */
static bool parse_bytes(const char *text, int64_t *ret)
{
	static const char units[] = "bkmgtp";
	const char *unit;
	char *end;
	double value;
	int shift = 0;

	if (parse_int64(text, 10, ret))
		return *ret >= -1;
	value = strtod(text, &end);
	end += *end == ' ';
	unit = *end ? strchr(units, *end | 0x20) : NULL;
	if (end == text || !unit || !(value >= 0))
		return false;
	shift = (int)(unit - units) * 10;
	end++;
	if (shift && strcasecmp(end, "") != 0 && strcasecmp(end, "b") != 0 && strcasecmp(end, "ib") != 0)
		return false;
	if ((!shift && *end) || value >= ldexp(1, 62 - shift))
		return false;
	*ret = (int64_t)ldexp(value, shift);
	return true;
}

/* The options as a LinuxResources object; NULL with err. */
static json_t *resources_of_options(const struct update_values *v, struct error *err)
{
	json_t *out = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(update_table); i++) {
		const struct update_row *row = &update_table[i];
		const char *text = *(const char *const *)(const void *)((const char *)v + row->offset);
		int64_t number;

		if (!text || !*text)
			continue;
		if (row->kind == VALUE_BYTES ? !parse_bytes(text, &number) :
		    row->kind == VALUE_NUMBER && !parse_int64(text, 10, &number)) {
			error_set(err, "invalid value \"%.64s\" for --%s: it takes %s", text, row->option,
				  row->kind == VALUE_BYTES ? "a number of bytes such as 512m" : "a whole number");
			json_decref(out);
			return NULL;
		}
		set_in(out, row->object, row->key,
		       row->kind == VALUE_TEXT ? json_string(text) : json_integer(number));
	}
	return out;
}

/* What is to change: the text of a LinuxResources object, and its name for messages. */
static char *changes_text(const struct update_values *v, const char **ret_name, size_t *ret_size, struct error *err)
{
	bool from_stdin = v->resources && !strcmp(v->resources, "-");
	char *text;

	*ret_name = from_stdin ? "stdin" : v->resources;
	if (v->resources) {
		text = from_stdin ? read_fd(STDIN_FILENO, RESOURCES_MAX, ret_size) :
				    read_file_at(AT_FDCWD, v->resources, RESOURCES_MAX, ret_size);
		if (!text)
			error_errno(err, errno, "cannot read %s (--resources)", v->resources);
	} else {
		json_t *object = resources_of_options(v, err);

		text = object ? json_dumps(object, 0) : NULL;
		*ret_size = text ? strlen(text) : 0;
		*ret_name = "update";
		json_decref(object);
	}
	return text;
}

/* Engines send null, 0 and "" for what is to stay as it is, but for the few numbers where 0 says something. */
static bool says_nothing(const char *key, const json_t *value)
{
	static const char *const zero_is_a_value[] = { "idle", "burst", "swappiness" };

	for (size_t i = 0; i < ARRAY_COUNT(zero_is_a_value); i++) {
		if (!strcmp(key, zero_is_a_value[i]))
			return json_is_null(value);
	}
	return json_is_null(value) || (json_is_integer(value) && !json_integer_value(value)) ||
	       (json_is_string(value) && !json_string_length(value));
}

/* Members of from into to, objects within objects too. */
static void merge(json_t *to, json_t *from)
{
	const char *key;
	json_t *value;

	json_object_foreach(from, key, value)
	{
		json_t *old = json_object_get(to, key);

		if (json_is_object(value) && json_is_object(old))
			merge(old, value);
		else if (!says_nothing(key, value))
			json_object_set(to, key, value);
	}
}

/* The container's config.json with the changes in linux.resources; heap, or NULL with err. */
static char *merged_config(const struct container *c, const char *changes, size_t changes_size, size_t *ret_size,
			   struct error *err)
{
	size_t size = 0;
	AUTO(mem_free) char *text = read_file_at(c->dir_fd, "config.json", CONFIG_MAX, &size);
	json_t *config = text ? json_loadb(text, size, 0, NULL) : NULL;
	json_t *part = json_loadb(changes, changes_size, 0, NULL);
	json_t *linux_part, *resources;
	char *out = NULL;

	if (config && part) {
		linux_part = json_object_get(config, "linux");
		if (!json_is_object(linux_part)) {
			linux_part = json_object();
			json_object_set_new(config, "linux", linux_part);
		}
		resources = json_object_get(linux_part, "resources");
		if (!json_is_object(resources)) {
			resources = json_object();
			json_object_set_new(linux_part, "resources", resources);
		}
		merge(resources, part);
		out = json_dumps(config, 0);
	}
	json_decref(config);
	json_decref(part);
	if (!out)
		error_set(err, "cannot read %s/config.json", c->dir);
	*ret_size = out ? strlen(out) : 0;
	return out;
}

/* Values that the host takes only together: the other one is as it was. */
static void complete(struct oci_resources *changes, const struct oci_resources *all)
{
	if (changes->cpu_quota != OCI_UNSET || changes->cpu_period != OCI_UNSET) {
		changes->cpu_quota = all->cpu_quota;
		changes->cpu_period = all->cpu_period;
	}
	if (changes->memory_swap > 0 && changes->memory_limit == OCI_UNSET)
		changes->memory_limit = all->memory_limit;
}

/* Whether other containers are in its sandbox. */
static bool has_members(const struct config *config, const struct container *c)
{
	struct error ignored;
	struct strings ids;
	bool found = false;

	if (c->sandbox || container_list(config, &ids, &ignored))
		return false;
	for (size_t i = 0; i < ids.count && !found; i++) {
		AUTO(container_free) struct container *other = NULL;

		found = !container_load(config, ids.v[i], false, &other, &ignored) && other->sandbox &&
			!strcmp(other->sandbox, c->id);
	}
	strings_fini(&ids);
	return found;
}

static int update(const struct config *global, const struct container *c, const struct update_values *v, struct arena *arena,
		  struct oci_spec *all, struct error *err)
{
	size_t size, config_size;
	const char *name;
	AUTO(mem_free) char *text = changes_text(v, &name, &size, err);
	AUTO(mem_free) char *config = NULL;
	struct oci_resources changes;
	int ret;

	oci_resources_init(&changes);
	if (!text || oci_resources_parse(name, text, size, arena, &changes, err))
		return -1;
	config = merged_config(c, text, size, &config_size, err);
	if (!config || oci_spec_parse("config.json", config, config_size, all, err))
		return -1;
	complete(&changes, &all->resources);
	if (cgroup_apply(&c->cgroup, &changes, changes.device_count > 0, err) || control_update(c, &changes, err) ||
	    (has_members(global, c) && cgroup_lift(&c->cgroup, err)))
		return -1;
	ret = write_atomic_at(c->dir_fd, "config.json", config, config_size, 0600);
	return ret ? error_errno(err, -ret, "cannot write %s/config.json", c->dir) : 0;
}

int cmd_update(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	const struct update_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	struct oci_spec all = { 0 };
	struct arena arena = { 0 };
	int ret;

	(void)count;
	if ((v->l3_cache && *v->l3_cache) || (v->mem_bw && *v->mem_bw))
		return error_set(err, "Intel RDT is not supported: --l3-cache-schema and --mem-bw-schema cannot be set");
	if (container_load(config, operands[0], true, &c, err) || container_lock(c, err) ||
	    container_need(c, "update", LIVE, err))
		return -1;
	ret = update(config, c, v, &arena, &all, err);
	oci_spec_fini(&all);
	arena_fini(&arena);
	return ret;
}
