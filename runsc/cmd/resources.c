/* events, update: usage and limits. */
#include <errno.h>
#include <fcntl.h>
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
	const char *resources, *cpuset_cpus, *cpuset_mems, *memory, *memory_reservation, *memory_swap;
	int64_t cpu_period, cpu_quota, cpu_share, pids_limit;
};
#define V struct update_values
DEFINE_OPTIONS(update, V,
	       ROW(V, STRING, "resources", 'r', resources, "FILE", "JSON LinuxResources; - for stdin"),
	       ROW(V, INT, "cpu-period", 0, cpu_period, "US", "cpu period"),
	       ROW(V, INT, "cpu-quota", 0, cpu_quota, "US", "cpu quota in a period"),
	       ROW(V, INT, "cpu-share", 0, cpu_share, "N", "cpu shares"),
	       ROW(V, STRING, "cpuset-cpus", 0, cpuset_cpus, "LIST", "cpus"),
	       ROW(V, STRING, "cpuset-mems", 0, cpuset_mems, "LIST", "memory nodes"),
	       ROW(V, STRING, "memory", 0, memory, "BYTES", "memory limit (512m, 1g)"),
	       ROW(V, STRING, "memory-reservation", 0, memory_reservation, "BYTES", "soft memory limit"),
	       ROW(V, STRING, "memory-swap", 0, memory_swap, "BYTES", "memory and swap together"),
	       ROW(V, INT, "pids-limit", 0, pids_limit, "N", "processes"),
	       ROW_IGNORED(INT, "blkio-weight", 0, "N", "block io weight"),
	       ROW_IGNORED(STRING, "kernel-memory", 0, "BYTES", "kernel memory"),
	       ROW_IGNORED(STRING, "kernel-memory-tcp", 0, "BYTES", "kernel memory of tcp"),
	       ROW_IGNORED(INT, "cpu-burst", 0, "US", "cpu burst"),
	       ROW_IGNORED(INT, "cpu-idle", 0, "N", "cpu idle"),
	       ROW_IGNORED(INT, "cpu-rt-period", 0, "US", "realtime period"),
	       ROW_IGNORED(INT, "cpu-rt-runtime", 0, "US", "realtime runtime"),
	       ROW_IGNORED(STRING, "l3-cache-schema", 0, "TEXT", "Intel RDT"),
	       ROW_IGNORED(STRING, "mem-bw-schema", 0, "TEXT", "Intel RDT"));
#undef V

#define RESOURCES_MAX (1u << 20)
#define LIVE (STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) | STATUS_BIT(STATUS_PAUSED))

static json_t *integer(uint64_t value)
{
	return json_integer((json_int_t)MIN(value, (uint64_t)INT64_MAX));
}

/*
 * The figures of the host's cgroup, in runc's shape. Those of processes are the sentry's: on the host a guest's task is
 * several. Without a cgroup all are the sentry's.
 */
static json_t *stats_json(const struct container *c, const Urpc__EventData *e)
{
	json_t *data = cgroup_stats(&c->cgroup);
	json_t *pids = json_pack("{s:o, s:o}", "current", integer(e->pids_current), "limit",
				 integer(e->pids_limit));

	json_object_set_new(data, "pids", pids);
	if (!cgroup_find(&c->cgroup, "cpuacct"))
		json_object_set_new(data, "cpu",
				    json_pack("{s:{s:o, s:o, s:o}, s:{}}", "usage", "total",
					      integer(e->cpu_total_ns), "kernel", integer(e->cpu_system_ns), "user",
					      integer(e->cpu_user_ns), "throttling"));
	if (!cgroup_find(&c->cgroup, "memory"))
		json_object_set_new(data, "memory",
				    json_pack("{s:o, s:{s:o, s:o, s:o, s:i}, s:{}}", "cache",
					      integer(e->memory_cache), "usage", "limit", integer(e->memory_limit),
					      "usage", integer(e->memory_usage), "max", integer(e->memory_max),
					      "failcnt", 0, "raw"));
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

int cmd_events(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	const struct events_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(fd_close) int pid_fd = -1;
	int64_t interval = 5000;

	(void)count;
	if (v->interval && (!parse_duration_ms(v->interval, &interval) || interval <= 0))
		return error_set(err, "--interval %s is no time such as 5s", v->interval);
	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "read the usage of", LIVE, err) || print_stats(c, err))
		return -1;
	if (v->stats)
		return 0;
	pid_fd = (int)syscall(SYS_pidfd_open, c->sentry.pid, 0);
	for (;;) {
		struct pollfd pfd = { .fd = pid_fd, .events = POLLIN };

		if (fflush(stdout) == EOF)
			return error_errno(err, errno, "cannot write to stdout");
		if (poll(&pfd, 1, (int)MIN(interval, (int64_t)INT32_MAX)) ||
		    container_status_now(c) == STATUS_STOPPED)
			return 0;
		if (print_stats(c, err))
			return -1;
	}
}

/* "512m" to bytes; -1 for none. */
static int parse_bytes(const char *option, const char *text, int64_t *ret, struct error *err)
{
	static const char units[] = "bkmgt";
	size_t len = text ? strlen(text) : 0;
	AUTO(mem_free) char *digits = NULL;
	const char *unit = len ? strchr(units, text[len - 1] | 0x20) : NULL;
	int64_t value;
	int shift = unit && *unit ? (int)(unit - units) * 10 : 0;

	if (!text)
		return 0;
	digits = xstrdup(text);
	if (unit && *unit)
		digits[len - 1] = 0;
	if (!parse_int64(digits, 10, &value) || value < -1 || value > INT64_MAX >> shift)
		return error_set(err, "--%s %s is no number of bytes such as 512m", option, text);
	*ret = value < 0 ? -1 : value << shift;
	return 0;
}

static int resources_of(const struct update_values *v, struct arena *arena,
			struct oci_resources *resources, struct error *err)
{
	oci_resources_init(resources);
	if (v->resources) {
		bool from_stdin = !strcmp(v->resources, "-");
		size_t size;
		AUTO(mem_free) char *text =
			from_stdin ? read_fd(STDIN_FILENO, RESOURCES_MAX, &size) :
				     read_file_at(AT_FDCWD, v->resources, RESOURCES_MAX, &size);

		if (!text)
			return error_errno(err, errno, "cannot read %s (--resources)", v->resources);
		return oci_resources_parse(from_stdin ? "stdin" : v->resources, text, size, arena, resources,
					   err);
	}
	if (v->cpu_period)
		resources->cpu_period = v->cpu_period;
	if (v->cpu_quota)
		resources->cpu_quota = v->cpu_quota;
	if (v->cpu_share)
		resources->cpu_shares = v->cpu_share;
	if (v->pids_limit)
		resources->pids_limit = v->pids_limit;
	if (v->cpuset_cpus)
		resources->cpuset_cpus = arena_strdup(arena, v->cpuset_cpus);
	if (v->cpuset_mems)
		resources->cpuset_mems = arena_strdup(arena, v->cpuset_mems);
	return parse_bytes("memory", v->memory, &resources->memory_limit, err) ||
			       parse_bytes("memory-reservation", v->memory_reservation,
					   &resources->memory_reservation, err) ||
			       parse_bytes("memory-swap", v->memory_swap, &resources->memory_swap, err) ?
		       -1 :
		       0;
}

int cmd_update(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	struct oci_resources resources;
	struct arena arena = { 0 };
	int ret;

	(void)count;
	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "update", LIVE, err) || container_lock(c, err))
		return -1;
	ret = resources_of(values, &arena, &resources, err);
	if (!ret)
		ret = cgroup_apply(&c->cgroup, &resources, false, err);
	arena_fini(&arena);
	return ret;
}
