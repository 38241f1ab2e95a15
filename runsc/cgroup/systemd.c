/*
 * Scopes of systemd, by D-Bus. libsystemd is loaded when a command first needs it: linking it costs every start of runsc
 * 0.7 ms, for six libraries below it.
 */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "platform/base/log.h"
#include "runsc/cgroup/cgroup_priv.h"

#define LIBRARY "libsystemd.so.0"
#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
#define CALL_MS 10000
#define JOB_MS 30000
#define CPUS_MAX (SYSTEMD_MASK_MAX * 8)

#define BUS_FUNCTIONS(X)                                                                           \
	X(open_system)                                                                             \
	X(open_user)                                                                               \
	X(flush_close_unref)                                                                       \
	X(set_method_call_timeout)                                                                 \
	X(message_new_method_call)                                                                 \
	X(message_append)                                                                          \
	X(message_append_array)                                                                    \
	X(message_open_container)                                                                  \
	X(message_close_container)                                                                 \
	X(message_read)                                                                            \
	X(message_unref)                                                                           \
	X(match_signal)                                                                            \
	X(call)                                                                                    \
	X(get_property_string)                                                                     \
	X(process)                                                                                 \
	X(wait)                                                                                    \
	X(error_free)

static struct {
#define X(name) __typeof__(sd_bus_##name) *name;
	BUS_FUNCTIONS(X)
#undef X
} bus_api;

/* A job that systemd works on, and how it ended. */
struct job {
	char *path;
	char result[32]; /* empty: not ended */
};

struct connection {
	sd_bus *bus;
	struct job job;
};

static int load_library(struct error *err)
{
	void *library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	void *symbol;

	if (!library)
		return error_set(err, "--systemd-cgroup needs " LIBRARY " (Debian package libsystemd0): %s", dlerror());
#define X(name)                                                                                    \
	symbol = dlsym(library, "sd_bus_" #name);                                                  \
	if (!symbol)                                                                               \
		return error_set(err, LIBRARY " has no sd_bus_" #name);                             \
	memcpy(&bus_api.name, &symbol, sizeof(symbol));
	BUS_FUNCTIONS(X)
#undef X
	return 0;
}

/* JobRemoved(u id, o path, s unit, s result) */
static int on_job_removed(sd_bus_message *message, void *context, sd_bus_error *error)
{
	struct connection *conn = context;
	const char *path, *unit, *result;
	uint32_t id;

	(void)error;
	if (bus_api.message_read(message, "uoss", &id, &path, &unit, &result) >= 0 && conn->job.path &&
	    !strcmp(path, conn->job.path))
		snprintf(conn->job.result, sizeof(conn->job.result), "%s", result);
	return 0;
}

static int bus_open(bool user, struct connection *ret, struct error *err)
{
	int result;

	*ret = (struct connection){ 0 };
	if (load_library(err))
		return -1;
	result = user ? bus_api.open_user(&ret->bus) : bus_api.open_system(&ret->bus);
	if (result < 0)
		return error_errno(err, -result, "cannot reach systemd: the %s bus of D-Bus is not there",
				   user ? "user" : "system");
	bus_api.set_method_call_timeout(ret->bus, (uint64_t)CALL_MS * 1000);
	return 0;
}

static void bus_close(struct connection *conn)
{
	if (conn->bus)
		bus_api.flush_close_unref(conn->bus);
	free(conn->job.path);
	*conn = (struct connection){ 0 };
}

/* Waits until systemd is through with the job; its result, or -1 with err. */
static int wait_job(struct connection *conn, const char *what, const char *unit, struct error *err)
{
	int64_t end = now_ms() + JOB_MS;

	while (!conn->job.result[0]) {
		int ret = bus_api.process(conn->bus, NULL);
		int64_t left = end - now_ms();

		if (!ret && left > 0)
			ret = bus_api.wait(conn->bus, (uint64_t)left * 1000);
		if (ret < 0 && ret != -EINTR)
			return error_errno(err, -ret, "cannot %s the systemd unit %s: the bus failed", what, unit);
		if (left <= 0)
			return error_set(err, "cannot %s the systemd unit %s: systemd did not do it within %d seconds",
					 what, unit, JOB_MS / 1000);
	}
	if (strcmp(conn->job.result, "done") != 0 && strcmp(conn->job.result, "skipped") != 0)
		return error_set(err, "cannot %s the systemd unit %s: systemd says \"%s\"", what, unit,
				 conn->job.result);
	return 0;
}

/*
 * Calls a method whose message is complete, and with job waits for the job that it answers. *ret_name gets the name of a D-Bus
 * error (heap) when it was one. Takes the message.
 */
static int bus_call(struct connection *conn, sd_bus_message *message, bool job, const char *what, const char *unit,
		    char **ret_name, struct error *err)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	sd_bus_message *reply = NULL;
	const char *path = NULL;
	int ret = 0;

	if (job)
		ret = bus_api.match_signal(conn->bus, NULL, SYSTEMD, SYSTEMD_PATH, MANAGER, "JobRemoved",
					   on_job_removed, conn);
	if (ret >= 0)
		ret = bus_api.call(conn->bus, message, 0, &error, &reply);
	if (ret >= 0 && job)
		ret = bus_api.message_read(reply, "o", &path);
	if (ret < 0) {
		if (ret_name && error.name)
			*ret_name = xstrdup(error.name);
		ret = error_set(err, "cannot %s the systemd unit %s: %s", what, unit,
				error.message ? error.message : strerror(-ret));
	} else if (job) {
		free(conn->job.path);
		conn->job = (struct job){ .path = xstrdup(path) };
		ret = wait_job(conn, what, unit, err);
	}
	bus_api.error_free(&error);
	bus_api.message_unref(reply);
	bus_api.message_unref(message);
	return ret < 0 ? -1 : 0;
}

static sd_bus_message *new_call(struct connection *conn, const char *method)
{
	sd_bus_message *message = NULL;

	if (bus_api.message_new_method_call(conn->bus, &message, SYSTEMD, SYSTEMD_PATH, MANAGER, method) < 0)
		return NULL;
	return message;
}

/* "0-2,7" as a bit for each number; how many bytes, 0 when it is no such list. */
size_t systemd_cpu_mask(const char *list, uint8_t mask[SYSTEMD_MASK_MAX])
{
	size_t size = 0;
	const char *p = list;

	memset(mask, 0, SYSTEMD_MASK_MAX);
	while (*p) {
		char *end;
		unsigned long first = strtoul(p, &end, 10), last = first;

		if (end == p)
			return 0;
		if (*end == '-') {
			p = end + 1;
			last = strtoul(p, &end, 10);
			if (end == p)
				return 0;
		}
		if (first > last || last >= CPUS_MAX || (*end && *end != ','))
			return 0;
		for (unsigned long i = first; i <= last; i++)
			mask[i / 8] |= (uint8_t)(1u << i % 8);
		size = MAX(size, (size_t)last / 8 + 1);
		p = *end ? end + 1 : end;
	}
	return size;
}

static int append_number(sd_bus_message *m, const char *name, uint64_t value)
{
	return bus_api.message_append(m, "(sv)", name, "t", value);
}

/* A limit where a negative number is none. */
static int append_limit(sd_bus_message *m, const char *name, int64_t value)
{
	return append_number(m, name, value < 0 ? UINT64_MAX : (uint64_t)value);
}

static int append_mask(sd_bus_message *m, const char *name, const char *list)
{
	uint8_t mask[SYSTEMD_MASK_MAX];
	size_t size = systemd_cpu_mask(list, mask);
	int ret;

	if (!size)
		return -EINVAL;
	ret = bus_api.message_open_container(m, 'r', "sv");
	if (ret >= 0)
		ret = bus_api.message_append(m, "s", name);
	if (ret >= 0)
		ret = bus_api.message_open_container(m, 'v', "ay");
	if (ret >= 0)
		ret = bus_api.message_append_array(m, 'y', mask, size);
	if (ret >= 0)
		ret = bus_api.message_close_container(m);
	return ret >= 0 ? bus_api.message_close_container(m) : ret;
}

/* systemd keeps quotas by the second, in steps of 10 ms. */
uint64_t systemd_quota_per_second(int64_t quota, int64_t period)
{
	uint64_t us;

	if (quota <= 0)
		return UINT64_MAX;
	if (period <= 0)
		period = LIMITS_PERIOD_DEFAULT;
	if (quota > INT64_MAX / 1000000)
		return UINT64_MAX;
	us = (uint64_t)(quota * 1000000 / period);
	return us % 10000 ? (us / 10000 + 1) * 10000 : us;
}

static bool is_given(int64_t value)
{
	return value != OCI_UNSET && value != 0;
}

static int append_cpu(sd_bus_message *m, const struct oci_resources *r, bool v2)
{
	int ret = 0;

	if (is_given(r->cpu_shares))
		ret = append_number(m, v2 ? "CPUWeight" : "CPUShares",
				    (uint64_t)(v2 ? limits_cpu_weight(r->cpu_shares) : r->cpu_shares));
	if (ret >= 0 && (is_given(r->cpu_quota) || is_given(r->cpu_period)))
		ret = append_number(m, "CPUQuotaPerSecUSec", systemd_quota_per_second(r->cpu_quota, r->cpu_period));
	if (ret >= 0 && is_given(r->cpu_period))
		ret = append_number(m, "CPUQuotaPeriodUSec", (uint64_t)r->cpu_period);
	if (ret >= 0 && v2 && r->cpuset_cpus && *r->cpuset_cpus)
		ret = append_mask(m, "AllowedCPUs", r->cpuset_cpus);
	if (ret >= 0 && v2 && r->cpuset_mems && *r->cpuset_mems)
		ret = append_mask(m, "AllowedMemoryNodes", r->cpuset_mems);
	return ret;
}

/* The limits that systemd knows, so that it does not write others when it reloads; the files get all of them afterwards. */
static int append_limits(sd_bus_message *m, const struct oci_resources *r, bool v2, struct error *err)
{
	int64_t swap = OCI_UNSET;
	int ret;

	if (v2 && limits_swap_v2(r, &swap, err))
		return -1;
	ret = append_cpu(m, r, v2);
	if (ret >= 0 && is_given(r->memory_limit))
		ret = append_limit(m, v2 ? "MemoryMax" : "MemoryLimit",
				   r->memory_limit > 0 ? cgroup_host_memory(r->memory_limit) : -1);
	if (ret >= 0 && v2 && is_given(r->memory_reservation))
		ret = append_limit(m, "MemoryLow", r->memory_reservation);
	if (ret >= 0 && swap != OCI_UNSET)
		ret = append_limit(m, "MemorySwapMax", swap);
	if (ret >= 0 && is_given(r->pids_limit))
		ret = append_limit(m, "TasksMax", limits_host_tasks(r->pids_limit));
	if (ret >= 0 && is_given(r->io_weight))
		ret = append_number(m, v2 ? "IOWeight" : "BlockIOWeight",
				    (uint64_t)(v2 ? limits_io_weight(r->io_weight) : r->io_weight));
	return ret < 0 ? error_errno(err, -ret, "cannot tell systemd the limits of linux.resources") : 0;
}

static int append_pids(sd_bus_message *m, const pid_t *pids, size_t count)
{
	AUTO(mem_free) char *bytes = xcalloc(count, sizeof(uint32_t));
	uint32_t *numbers = (uint32_t *)(void *)bytes;
	int ret;

	for (size_t i = 0; i < count; i++)
		numbers[i] = (uint32_t)pids[i];
	ret = bus_api.message_open_container(m, 'r', "sv");
	if (ret >= 0)
		ret = bus_api.message_append(m, "s", "PIDs");
	if (ret >= 0)
		ret = bus_api.message_open_container(m, 'v', "au");
	if (ret >= 0)
		ret = bus_api.message_append_array(m, 'u', numbers, count * sizeof(*numbers));
	if (ret >= 0)
		ret = bus_api.message_close_container(m);
	return ret >= 0 ? bus_api.message_close_container(m) : ret;
}

/* What makes it a scope of ours. */
static int append_scope(sd_bus_message *m, const struct cgroup *cg, const char *id, const pid_t *pids, size_t count,
			bool v2)
{
	static const char *const accounting[] = { "MemoryAccounting", "CPUAccounting", "TasksAccounting" };
	AUTO(mem_free) char *description = xasprintf("runsc container %s", id);
	int ret = bus_api.message_append(m, "(sv)", "Description", "s", description);

	if (ret >= 0)
		ret = bus_api.message_append(m, "(sv)", "Slice", "s", cg->slice);
	if (ret >= 0)
		ret = bus_api.message_append(m, "(sv)", "Delegate", "b", 1);
	if (ret >= 0)
		ret = bus_api.message_append(m, "(sv)", "DefaultDependencies", "b", 0);
	for (size_t i = 0; i < ARRAY_COUNT(accounting) && ret >= 0; i++)
		ret = bus_api.message_append(m, "(sv)", accounting[i], "b", 1);
	if (ret >= 0)
		ret = bus_api.message_append(m, "(sv)", v2 ? "IOAccounting" : "BlockIOAccounting", "b", 1);
	return ret >= 0 ? append_pids(m, pids, count) : ret;
}

static int append_property(sd_bus_message *m, const struct systemd_property *p)
{
	const char type[] = { p->type, 0 };
	int ret = 0;

	switch (p->type) {
	case 'i':
	case 'u':
	case 'b':
		return bus_api.message_append(m, "(sv)", p->name, type, (uint32_t)p->number);
	case 'x':
	case 't':
		return bus_api.message_append(m, "(sv)", p->name, type, p->number);
	case 's':
		return bus_api.message_append(m, "(sv)", p->name, type, p->texts.v[0]);
	default:
		ret = bus_api.message_open_container(m, 'r', "sv");
		if (ret >= 0)
			ret = bus_api.message_append(m, "s", p->name);
		if (ret >= 0)
			ret = bus_api.message_open_container(m, 'v', "as");
		if (ret >= 0)
			ret = bus_api.message_open_container(m, 'a', "s");
		for (size_t i = 0; ret >= 0 && i < p->texts.count; i++)
			ret = bus_api.message_append(m, "s", p->texts.v[i]);
		for (int i = 0; ret >= 0 && i < 3; i++)
			ret = bus_api.message_close_container(m);
		return ret;
	}
}

/* Annotations are key, value, key, value ... */
static int append_annotations(sd_bus_message *m, const struct oci_strings *annotations, struct error *err)
{
	size_t len = strlen(SYSTEMD_ANNOTATION);

	for (size_t i = 0; i + 1 < annotations->count; i += 2) {
		struct systemd_property property;
		int ret;

		if (strncmp(annotations->v[i], SYSTEMD_ANNOTATION, len) != 0)
			continue;
		if (systemd_parse_property(annotations->v[i] + len, annotations->v[i + 1], &property, err))
			return -1;
		ret = append_property(m, &property);
		systemd_property_fini(&property);
		if (ret < 0)
			return error_errno(err, -ret, "cannot write a message for systemd");
	}
	return 0;
}

static bool is_v2(const struct cgroup *cg)
{
	bool alone;

	return cgroup_unified(cg, &alone) && alone;
}

static int start_scope(struct connection *conn, const struct cgroup *cg, const char *id, const pid_t *pids,
		       size_t count, const struct oci_spec *spec, char **ret_name, struct error *err)
{
	sd_bus_message *m = new_call(conn, "StartTransientUnit");
	int ret = m ? bus_api.message_append(m, "ss", cg->unit, "replace") : -ENOMEM;

	if (ret >= 0)
		ret = bus_api.message_open_container(m, 'a', "(sv)");
	if (ret >= 0)
		ret = append_scope(m, cg, id, pids, count, is_v2(cg));
	if (ret >= 0 && (append_limits(m, &spec->resources, is_v2(cg), err) ||
			 append_annotations(m, &spec->annotations, err))) {
		bus_api.message_unref(m);
		return -1;
	}
	if (ret >= 0)
		ret = bus_api.message_close_container(m);
	if (ret >= 0)
		ret = bus_api.message_append(m, "a(sa(sv))", 0);
	if (ret < 0) {
		bus_api.message_unref(m);
		return error_errno(err, -ret, "cannot write a message for systemd");
	}
	return bus_call(conn, m, true, "start", cg->unit, ret_name, err);
}

/* A method that takes the unit's name, and perhaps a mode. */
static int unit_call(struct connection *conn, const char *method, const char *unit, const char *mode,
		     const char *what, char **ret_name, struct error *err)
{
	sd_bus_message *m = new_call(conn, method);
	int ret = m ? bus_api.message_append(m, "s", unit) : -ENOMEM;

	if (ret >= 0 && mode)
		ret = bus_api.message_append(m, "s", mode);
	if (ret < 0) {
		bus_api.message_unref(m);
		return error_errno(err, -ret, "cannot write a message for systemd");
	}
	return bus_call(conn, m, mode != NULL, what, unit, ret_name, err);
}

int systemd_start(const struct cgroup *cg, const char *id, const pid_t *pids, size_t count, const struct oci_spec *spec,
		  struct error *err)
{
	AUTO(mem_free) char *name = NULL;
	struct connection conn;
	struct error other;
	int ret = bus_open(cg->user, &conn, err);

	if (!ret)
		ret = start_scope(&conn, cg, id, pids, count, spec, &name, err);
	/* what failed under that name before stays until it is forgotten */
	if (ret && name && !strcmp(name, SYSTEMD ".UnitExists") &&
	    !unit_call(&conn, "ResetFailedUnit", cg->unit, NULL, "reset", NULL, &other))
		ret = start_scope(&conn, cg, id, pids, count, spec, NULL, err);
	bus_close(&conn);
	return ret;
}

int systemd_update(const struct cgroup *cg, const struct oci_resources *resources, struct error *err)
{
	struct connection conn;
	sd_bus_message *m = NULL;
	int ret = bus_open(cg->user, &conn, err);

	if (!ret) {
		m = new_call(&conn, "SetUnitProperties");
		if (!m || bus_api.message_append(m, "sb", cg->unit, 1) < 0 ||
		    bus_api.message_open_container(m, 'a', "(sv)") < 0)
			ret = error_set(err, "cannot write a message for systemd");
		else if (append_limits(m, resources, is_v2(cg), err))
			ret = -1;
		else if (bus_api.message_close_container(m) < 0)
			ret = error_set(err, "cannot write a message for systemd");
	}
	if (!ret)
		ret = bus_call(&conn, m, false, "change", cg->unit, NULL, err);
	else if (m)
		bus_api.message_unref(m);
	bus_close(&conn);
	return ret;
}

void systemd_stop(const struct cgroup *cg)
{
	AUTO(mem_free) char *name = NULL;
	struct connection conn;
	struct error err;

	/* a scope without processes vanishes by itself; the directories are removed in any case */
	if (bus_open(cg->user, &conn, &err) ||
	    unit_call(&conn, "StopUnit", cg->unit, "replace", "stop", &name, &err))
		log_debug("%s", err.text);
	if (conn.bus && (!name || strcmp(name, SYSTEMD ".NoSuchUnit") != 0) &&
	    unit_call(&conn, "ResetFailedUnit", cg->unit, NULL, "reset", NULL, &err))
		log_debug("%s", err.text);
	bus_close(&conn);
}

int systemd_user_prefix(char **ret, struct error *err)
{
	sd_bus_error error = SD_BUS_ERROR_NULL;
	struct connection conn;
	char *text = NULL;
	int result = bus_open(true, &conn, err);

	if (!result) {
		result = bus_api.get_property_string(conn.bus, SYSTEMD, SYSTEMD_PATH, MANAGER, "ControlGroup", &error,
						     &text);
		if (result < 0)
			result = error_set(err, "cannot ask the user's systemd for its cgroup: %s",
					   error.message ? error.message : strerror(-result));
		bus_api.error_free(&error);
	}
	if (!result)
		*ret = text;
	bus_close(&conn);
	return result;
}
