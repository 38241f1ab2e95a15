/* linux.resources as values of cgroup files: functions of the limits alone. */
#include <inttypes.h>
#include <string.h>

#include "runsc/cgroup/cgroup_priv.h"

#define SHARES_MIN 2
#define SHARES_MAX 262144
#define IO_WEIGHT_MIN 10

/* What runc lets every container have, after the rules of config.json. */
static const char *const default_devices[] = {
	"c *:* m",   "b *:* m",	  "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm",   "c 1:8 rwm",
	"c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm",
};

static const char *const throttle_v1[THROTTLES] = { "blkio.throttle.read_bps_device",
						    "blkio.throttle.write_bps_device",
						    "blkio.throttle.read_iops_device",
						    "blkio.throttle.write_iops_device" };
static const char *const throttle_v2[THROTTLES] = { "rbps", "wbps", "riops", "wiops" };

const char *controller_v2(const char *controller)
{
	return !strcmp(controller, "blkio") ? "io" : controller;
}

/* A new row; writes_done refuses a list that is too long. */
static struct cgroup_write *add(struct cgroup_writes *w, const char *controller, const char *file,
				const char *text)
{
	struct cgroup_write *row = &w->v[MIN(w->count, ARRAY_COUNT(w->v) - 1)];

	*row = (struct cgroup_write){ .controller = controller, .file = file, .text = text };
	w->count++;
	return row;
}

static int writes_done(struct cgroup_writes *w, struct error *err)
{
	if (w->count <= ARRAY_COUNT(w->v))
		return 0;
	w->count = 0;
	return error_set(err, "linux.resources has more than %zu values", ARRAY_COUNT(w->v));
}

static const char *number(const struct cgroup_writes *w, int64_t value)
{
	return arena_printf(w->arena, "%" PRId64, value);
}

/* The same, and "max" for a negative one. */
static const char *number_or_max(const struct cgroup_writes *w, int64_t value)
{
	return value < 0 ? "max" : number(w, value);
}

/* runc, docker and podman write 0 where they mean "not given". */
static bool given(int64_t value)
{
	return value != OCI_UNSET && value != 0;
}

static const char *device_text(const struct cgroup_writes *w, const struct oci_device_rule *rule)
{
	char major[24] = "*", minor[24] = "*";

	if (rule->type == 'a')
		return "a";
	if (rule->major >= 0)
		snprintf(major, sizeof(major), "%" PRId64, rule->major);
	if (rule->minor >= 0)
		snprintf(minor, sizeof(minor), "%" PRId64, rule->minor);
	return arena_printf(w->arena, "%c %s:%s %s", rule->type, major, minor, rule->access);
}

/* A denial of all goes first, as runc has it; a list that does so itself makes it twice, which is harmless. */
static void devices_v1(const struct oci_resources *r, struct cgroup_writes *w)
{
	add(w, "devices", "devices.deny", "a")->optional = true;
	for (size_t i = 0; i < r->device_count; i++)
		add(w, "devices", r->devices[i].allow ? "devices.allow" : "devices.deny",
		    device_text(w, &r->devices[i]))
			->optional = true;
	for (size_t i = 0; i < ARRAY_COUNT(default_devices); i++)
		add(w, "devices", "devices.allow", default_devices[i])->optional = true;
}

int64_t cgroup_host_memory(int64_t limit)
{
	int64_t more = limit / CGROUP_MEMORY_DIVISOR + CGROUP_MEMORY_OF_SANDBOX;

	return limit > INT64_MAX - more ? INT64_MAX : limit + more;
}

/* Version 1 counts memory and swap together. */
static void memory_v1(const struct oci_resources *r, struct cgroup_writes *w)
{
	int64_t swap = r->memory_swap;

	/* no limit of memory means none of swap, or the first could not be written */
	if (r->memory_limit == -1 && !given(swap))
		swap = -1;
	if (given(r->memory_limit))
		add(w, "memory", "memory.limit_in_bytes",
		    number(w, r->memory_limit > 0 ? cgroup_host_memory(r->memory_limit) : -1))
			->sentry = true;
	/* the same above it for the sandbox as above memory alone */
	if (swap > 0 && r->memory_limit > 0)
		swap += MIN(cgroup_host_memory(r->memory_limit) - r->memory_limit, INT64_MAX - swap);
	if (given(swap)) {
		struct cgroup_write *row = add(w, "memory", "memory.memsw.limit_in_bytes", number(w, swap));

		row->optional = swap < 0;
		row->sentry = true;
	}
	if (given(r->memory_reservation))
		add(w, "memory", "memory.soft_limit_in_bytes", number(w, r->memory_reservation));
	if (given(r->memory_kernel_tcp))
		add(w, "memory", "memory.kmem.tcp.limit_in_bytes", number(w, r->memory_kernel_tcp));
	if (r->memory_swappiness != OCI_UNSET)
		add(w, "memory", "memory.swappiness", number(w, r->memory_swappiness));
	if (r->memory_disable_oom_killer)
		add(w, "memory", "memory.oom_control", "1");
}

/* Version 2 counts swap alone. 0: nothing to write, in *ret otherwise; -1 with err. */
int limits_swap_v2(const struct oci_resources *r, int64_t *ret, struct error *err)
{
	*ret = OCI_UNSET;
	if (r->memory_limit == -1 && !given(r->memory_swap))
		*ret = -1;
	if (!given(r->memory_swap))
		return 0;
	if (r->memory_swap < 0) {
		*ret = -1;
		return 0;
	}
	if (!given(r->memory_limit) || r->memory_limit < 0)
		return error_set(err, "unable to set swap limit without memory limit");
	if (r->memory_swap < r->memory_limit)
		return error_set(err, "memory+swap limit should be >= memory limit");
	*ret = r->memory_swap - r->memory_limit;
	return 0;
}

static int memory_v2(const struct oci_resources *r, struct cgroup_writes *w, struct error *err)
{
	int64_t swap;

	if (limits_swap_v2(r, &swap, err))
		return -1;
	/* a host without swap has no such file; nothing to swap is what it has then */
	if (swap != OCI_UNSET)
		add(w, "memory", "memory.swap.max", number_or_max(w, swap))->optional = swap <= 0;
	if (given(r->memory_limit))
		add(w, "memory", "memory.max",
		    r->memory_limit > 0 ? number(w, cgroup_host_memory(r->memory_limit)) : "max");
	if (given(r->memory_reservation))
		add(w, "memory", "memory.low", number_or_max(w, r->memory_reservation));
	return 0;
}

static int64_t shares_in_range(int64_t shares)
{
	return MIN(MAX(shares, (int64_t)SHARES_MIN), (int64_t)SHARES_MAX);
}

static void cpu_v1(const struct oci_resources *r, struct cgroup_writes *w)
{
	/* before any process is in */
	if (given(r->cpu_realtime_period))
		add(w, "cpu", "cpu.rt_period_us", number(w, r->cpu_realtime_period));
	if (given(r->cpu_realtime_runtime))
		add(w, "cpu", "cpu.rt_runtime_us", number(w, r->cpu_realtime_runtime));
	if (given(r->cpu_shares))
		add(w, "cpu", "cpu.shares", number(w, shares_in_range(r->cpu_shares)))->sentry = true;
	if (given(r->cpu_period))
		add(w, "cpu", "cpu.cfs_period_us", number(w, r->cpu_period))->sentry = true;
	if (given(r->cpu_quota))
		add(w, "cpu", "cpu.cfs_quota_us", number(w, MAX(r->cpu_quota, (int64_t)-1)))->sentry = true;
	if (r->cpu_burst != OCI_UNSET)
		add(w, "cpu", "cpu.cfs_burst_us", number(w, r->cpu_burst))->optional = !r->cpu_burst;
	if (r->cpu_idle != OCI_UNSET)
		add(w, "cpu", "cpu.idle", number(w, r->cpu_idle))->optional = !r->cpu_idle;
}

/* Weight of version 2 of [2, 262144] shares, by the formula of the runtime specification. */
int64_t limits_cpu_weight(int64_t shares)
{
	return 1 + (shares_in_range(shares) - SHARES_MIN) * 9999 / (SHARES_MAX - SHARES_MIN);
}

/* Version 2 has no realtime limits. */
static void cpu_v2(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (r->cpu_idle != OCI_UNSET)
		add(w, "cpu", "cpu.idle", number(w, r->cpu_idle))->optional = !r->cpu_idle;
	/* the weight of an idle cgroup is fixed */
	if (given(r->cpu_shares) && r->cpu_idle != 1)
		add(w, "cpu", "cpu.weight", number(w, limits_cpu_weight(r->cpu_shares)));
	if (given(r->cpu_quota) || given(r->cpu_period))
		add(w, "cpu", "cpu.max",
		    arena_printf(w->arena, "%s %" PRId64, r->cpu_quota > 0 ? number(w, r->cpu_quota) : "max",
				 given(r->cpu_period) ? r->cpu_period : LIMITS_PERIOD_DEFAULT));
	if (r->cpu_burst != OCI_UNSET)
		add(w, "cpu", "cpu.max.burst", number(w, r->cpu_burst))->optional = !r->cpu_burst;
}

/* Both versions have the same files. */
static void cpuset(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (r->cpuset_cpus && *r->cpuset_cpus)
		add(w, "cpuset", "cpuset.cpus", r->cpuset_cpus);
	if (r->cpuset_mems && *r->cpuset_mems)
		add(w, "cpuset", "cpuset.mems", r->cpuset_mems);
}

int64_t limits_host_tasks(int64_t guest)
{
	return guest < 0 ? -1 :
			   MIN(guest, (int64_t)1 << 40) * CGROUP_TASKS_PER_GUEST_TASK + CGROUP_TASKS_OF_SANDBOX;
}

static void pids(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (given(r->pids_limit))
		add(w, "pids", "pids.max", number_or_max(w, limits_host_tasks(r->pids_limit)))->sentry = true;
}

static const char *of_device(const struct cgroup_writes *w, int64_t major, int64_t minor, int64_t value)
{
	return arena_printf(w->arena, "%" PRId64 ":%" PRId64 " %" PRId64, major, minor, value);
}

/* Weights belong to CFQ, or since Linux 5.0 to BFQ, whose files have its name. */
static void io_v1(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (given(r->io_weight)) {
		struct cgroup_write *row = add(w, "blkio", "blkio.weight", number(w, r->io_weight));

		row->other_file = "blkio.bfq.weight";
		row->other_text = row->text;
	}
	if (given(r->io_leaf_weight))
		add(w, "blkio", "blkio.leaf_weight", number(w, r->io_leaf_weight));
	for (size_t i = 0; i < r->io_weight_count; i++) {
		const struct oci_io_weight *d = &r->io_weights[i];

		if (given(d->weight)) {
			struct cgroup_write *row = add(w, "blkio", "blkio.weight_device",
						       of_device(w, d->major, d->minor, d->weight));

			row->other_file = "blkio.bfq.weight_device";
			row->other_text = row->text;
		}
		if (given(d->leaf_weight))
			add(w, "blkio", "blkio.leaf_weight_device",
			    of_device(w, d->major, d->minor, d->leaf_weight));
	}
	for (size_t kind = 0; kind < THROTTLES; kind++) {
		for (size_t i = 0; i < r->io_rate_count[kind]; i++) {
			const struct oci_io_rate *d = &r->io_rates[kind][i];

			add(w, "blkio", throttle_v1[kind], of_device(w, d->major, d->minor, d->rate));
		}
	}
}

/* [10, 1000] of version 1 and BFQ to [1, 10000]. */
int64_t limits_io_weight(int64_t weight)
{
	return 1 + (MAX(weight, (int64_t)IO_WEIGHT_MIN) - IO_WEIGHT_MIN) * 9999 / 990;
}

static void io_v2(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (given(r->io_weight)) {
		struct cgroup_write *row = add(w, "blkio", "io.bfq.weight", number(w, r->io_weight));

		row->other_file = "io.weight";
		row->other_text = number(w, limits_io_weight(r->io_weight));
	}
	for (size_t i = 0; i < r->io_weight_count; i++) {
		const struct oci_io_weight *d = &r->io_weights[i];
		struct cgroup_write *row;

		if (!given(d->weight))
			continue;
		row = add(w, "blkio", "io.bfq.weight", of_device(w, d->major, d->minor, d->weight));
		row->other_file = "io.weight";
		row->other_text = of_device(w, d->major, d->minor, limits_io_weight(d->weight));
	}
	for (size_t kind = 0; kind < THROTTLES; kind++) {
		for (size_t i = 0; i < r->io_rate_count[kind]; i++) {
			const struct oci_io_rate *d = &r->io_rates[kind][i];

			add(w, "blkio", "io.max",
			    arena_printf(w->arena, "%" PRId64 ":%" PRId64 " %s=%s", d->major, d->minor,
					 throttle_v2[kind], d->rate ? number(w, d->rate) : "max"));
		}
	}
}

static void hugetlb(const struct oci_resources *r, const char *file, struct cgroup_writes *w)
{
	for (size_t i = 0; i < r->hugepage_count; i++) {
		const struct oci_hugepage_limit *h = &r->hugepages[i];
		const char *text = number(w, h->limit);

		if (!strcmp(file, "max"))
			text = number_or_max(w, h->limit);
		add(w, "hugetlb", arena_printf(w->arena, "hugetlb.%s.%s", h->size, file), text);
		/* reservations count since Linux 5.7 */
		add(w, "hugetlb", arena_printf(w->arena, "hugetlb.%s.rsvd.%s", h->size, file), text)->optional =
			true;
	}
}

static void network_v1(const struct oci_resources *r, struct cgroup_writes *w)
{
	if (given(r->net_class))
		add(w, "net_cls", "net_cls.classid", number(w, r->net_class));
	for (size_t i = 0; i < r->net_priority_count; i++)
		add(w, "net_prio", "net_prio.ifpriomap",
		    arena_printf(w->arena, "%s %u", r->net_priorities[i].interface,
				 r->net_priorities[i].priority));
}

static void rdma(const struct oci_resources *r, struct cgroup_writes *w)
{
	for (size_t i = 0; i < r->rdma_count; i++) {
		const struct oci_rdma_limit *d = &r->rdma[i];

		add(w, "rdma", "rdma.max",
		    arena_printf(w->arena, "%s hca_handle=%s hca_object=%s", d->device,
				 d->handles == OCI_UNSET ? "max" : number(w, d->handles),
				 d->objects == OCI_UNSET ? "max" : number(w, d->objects)));
	}
}

int writes_v1(const struct oci_resources *r, bool devices, struct cgroup_writes *ret, struct error *err)
{
	memory_v1(r, ret);
	cpu_v1(r, ret);
	cpuset(r, ret);
	pids(r, ret);
	io_v1(r, ret);
	hugetlb(r, "limit_in_bytes", ret);
	network_v1(r, ret);
	rdma(r, ret);
	if (devices)
		devices_v1(r, ret);
	return writes_done(ret, err);
}

/* The controller that a file of linux.resources.unified belongs to: the name up to its first dot. */
static int unified_v2(const struct oci_resources *r, struct cgroup_writes *w, struct error *err)
{
	for (size_t i = 0; i < r->unified.count; i++) {
		char *file = arena_strdup(w->arena, r->unified.v[i]), *value = strchr(file, '=');

		*value++ = 0;
		if (strchr(file, '/') || !strchr(file, '.') || file[0] == '.')
			return error_set(err, "unified resource \"%.64s\" must be a file name such as memory.high",
					 file);
		add(w, arena_strndup(w->arena, file, strcspn(file, ".")), file, value)->unified = true;
	}
	return 0;
}

int writes_v2(const struct oci_resources *r, struct cgroup_writes *ret, struct error *err)
{
	if (memory_v2(r, ret, err))
		return -1;
	cpu_v2(r, ret);
	cpuset(r, ret);
	pids(r, ret);
	io_v2(r, ret);
	hugetlb(r, "max", ret);
	rdma(r, ret);
	if (unified_v2(r, ret, err))
		return -1;
	return writes_done(ret, err);
}
