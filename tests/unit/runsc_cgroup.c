/* Host cgroups: hierarchies, paths, and what limits become in the files of both versions. */
#include "runsc/cgroup/cgroup_priv.h"
#include "tests/lib/test.h"

struct texts {
	struct arena arena;
	struct cgroup_writes w;
	struct error err;
	int ret;
};

/* The writes for a LinuxResources text. */
static void writes_of(struct texts *t, int version, const char *json)
{
	struct oci_resources r;

	*t = (struct texts){ .w.arena = &t->arena };
	oci_resources_init(&r);
	t->ret = oci_resources_parse("r", json, strlen(json), &t->arena, &r, &t->err);
	if (!t->ret)
		t->ret = version == 1 ? writes_v1(&r, false, &t->w, &t->err) : writes_v2(&r, &t->w, &t->err);
}

/* Compares with "file=text file=text". */
static void expect_writes(int version, const char *json, const char *want)
{
	static char got[8192];
	struct texts t;
	size_t len = 0;

	writes_of(&t, version, json);
	got[0] = 0;
	for (size_t i = 0; i < t.w.count; i++)
		len += (size_t)snprintf(got + len, sizeof(got) - len, "%s%s=%s%s", i ? ";" : "", t.w.v[i].file,
					t.w.v[i].text, t.w.v[i].optional ? "?" : "");
	if (t.ret || strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "version %d of %s: got %s, want %s", version, json,
			  t.ret ? t.err.text : got, want);
	arena_fini(&t.arena);
}

static void expect_refused(int version, const char *json, const char *want)
{
	struct texts t;

	writes_of(&t, version, json);
	if (!t.ret || !strstr(t.err.text, want))
		test_fail(__FILE__, __LINE__, "%s: got \"%s\", want \"%s\"", json, t.ret ? t.err.text : "success",
			  want);
	arena_fini(&t.arena);
}

TEST(nothing_for_unset_and_zero)
{
	expect_writes(1, "{}", "");
	expect_writes(2, "{}", "");
	expect_writes(1,
		      "{\"memory\":{\"limit\":0,\"swap\":0,\"reservation\":0},\"cpu\":{\"shares\":0,\"quota\":0},"
		      "\"pids\":{\"limit\":0},\"blockIO\":{\"weight\":0},\"network\":{\"classID\":0}}",
		      "");
	expect_writes(2, "{\"memory\":{\"limit\":0,\"swap\":0},\"cpu\":{\"period\":0,\"cpus\":\"\"}}", "");
}

TEST(memory)
{
	expect_writes(1, "{\"memory\":{\"limit\":1600,\"swap\":4800,\"reservation\":50,\"swappiness\":0,\"kernel\":7,"
			 "\"kernelTCP\":8,\"disableOOMKiller\":true}}",
		      "memory.limit_in_bytes=67110564;memory.memsw.limit_in_bytes=67113764;memory.soft_limit_in_bytes=50;"
		      "memory.kmem.tcp.limit_in_bytes=8;memory.swappiness=0;memory.oom_control=1");
	expect_writes(2, "{\"memory\":{\"limit\":1600,\"swap\":4800,\"reservation\":50,\"swappiness\":1}}",
		      "memory.swap.max=3200;memory.max=67110564;memory.low=50");
	/* swap equal to memory: none */
	expect_writes(2, "{\"memory\":{\"limit\":1600,\"swap\":1600}}", "memory.swap.max=0?;memory.max=67110564");
	expect_writes(2, "{\"memory\":{\"limit\":-1}}", "memory.swap.max=max?;memory.max=max");
	expect_writes(1, "{\"memory\":{\"limit\":-1}}", "memory.limit_in_bytes=-1;memory.memsw.limit_in_bytes=-1?");
	expect_writes(2, "{\"memory\":{\"limit\":1600,\"swap\":-1}}", "memory.swap.max=max?;memory.max=67110564");
	/* the largest limit stays one */
	expect_writes(1, "{\"memory\":{\"limit\":9223372036854775807}}", "memory.limit_in_bytes=9223372036854775807");
	expect_refused(2, "{\"memory\":{\"swap\":100}}", "unable to set swap limit without memory limit");
	expect_refused(2, "{\"memory\":{\"limit\":200,\"swap\":100}}", "memory+swap limit should be >= memory limit");
	expect_refused(1, "{\"memory\":{\"swappiness\":101}}", "must be from 0 to 100");
}

TEST(cpu)
{
	expect_writes(1, "{\"cpu\":{\"shares\":1024,\"quota\":50000,\"period\":100000,\"burst\":7,\"idle\":1,"
			 "\"realtimeRuntime\":3,\"realtimePeriod\":4,\"cpus\":\"0-1\",\"mems\":\"0\"}}",
		      "cpu.rt_period_us=4;cpu.rt_runtime_us=3;cpu.shares=1024;cpu.cfs_period_us=100000;"
		      "cpu.cfs_quota_us=50000;cpu.cfs_burst_us=7;cpu.idle=1;cpuset.cpus=0-1;cpuset.mems=0");
	expect_writes(2, "{\"cpu\":{\"shares\":1024,\"quota\":50000,\"period\":200000,\"burst\":0}}",
		      "cpu.weight=39;cpu.max=50000 200000;cpu.max.burst=0?");
	expect_writes(2, "{\"cpu\":{\"shares\":2}}", "cpu.weight=1");
	expect_writes(2, "{\"cpu\":{\"shares\":999999999}}", "cpu.weight=10000");
	expect_writes(2, "{\"cpu\":{\"quota\":-1}}", "cpu.max=max 100000");
	expect_writes(2, "{\"cpu\":{\"quota\":5000}}", "cpu.max=5000 100000");
	expect_writes(2, "{\"cpu\":{\"shares\":5,\"idle\":1}}", "cpu.idle=1");
	expect_refused(1, "{\"cpu\":{\"idle\":2}}", "cpu.idle must be from 0 to 1");
}

TEST(tasks_of_the_sandbox_come_on_top)
{
	expect_writes(1, "{\"pids\":{\"limit\":10}}", "pids.max=94");
	expect_writes(2, "{\"pids\":{\"limit\":-1}}", "pids.max=max");
}

TEST(block_io)
{
	static const char json[] =
		"{\"blockIO\":{\"weight\":500,\"weightDevice\":[{\"major\":8,\"minor\":16,\"weight\":10}],"
		"\"throttleReadBpsDevice\":[{\"major\":8,\"minor\":0,\"rate\":600}],"
		"\"throttleWriteIOPSDevice\":[{\"major\":8,\"minor\":0,\"rate\":0}]}}";
	struct texts t;

	expect_writes(1, json, "blkio.weight=500;blkio.weight_device=8:16 10;"
			       "blkio.throttle.read_bps_device=8:0 600;blkio.throttle.write_iops_device=8:0 0");
	expect_writes(2, json, "io.bfq.weight=500;io.bfq.weight=8:16 10;io.max=8:0 rbps=600;io.max=8:0 wiops=max");
	writes_of(&t, 2, json);
	CHECK(!strcmp(t.w.v[0].other_file, "io.weight") && !strcmp(t.w.v[0].other_text, "4950"));
	CHECK(!strcmp(t.w.v[1].other_text, "8:16 1"));
	arena_fini(&t.arena);
}

TEST(others)
{
	expect_writes(1, "{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4096}]}",
		      "hugetlb.2MB.limit_in_bytes=4096;hugetlb.2MB.rsvd.limit_in_bytes=4096?");
	expect_writes(2, "{\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":-1}]}",
		      "hugetlb.1GB.max=max;hugetlb.1GB.rsvd.max=max?");
	expect_refused(1, "{\"hugepageLimits\":[{\"pageSize\":\"../x\",\"limit\":1}]}", "must be like 2MB or 1GB");
	expect_writes(1, "{\"network\":{\"classID\":1048577,\"priorities\":[{\"name\":\"eth0\",\"priority\":5}]}}",
		      "net_cls.classid=1048577;net_prio.ifpriomap=eth0 5");
	expect_writes(2, "{\"network\":{\"classID\":1048577}}", "");
	expect_writes(2, "{\"rdma\":{\"mlx5_1\":{\"hcaHandles\":3}}}", "rdma.max=mlx5_1 hca_handle=3 hca_object=max");
	expect_writes(2, "{\"unified\":{\"memory.high\":\"5\"}}", "memory.high=5");
	expect_refused(2, "{\"unified\":{\"a/memory.high\":\"5\"}}", "must be a file name");
	expect_refused(2, "{\"unified\":{\"..\":\"5\"}}", "must be a file name");
}

TEST(device_list_in_order)
{
	static const char json[] = "{\"devices\":[{\"allow\":false,\"access\":\"rwm\"},"
				   "{\"allow\":true,\"type\":\"c\",\"major\":10,\"minor\":229,\"access\":\"rw\"},"
				   "{\"allow\":true,\"type\":\"b\",\"major\":-1}]}";
	static const char *const want[] = { "devices.deny=a", "devices.deny=a", "devices.allow=c 10:229 rw",
					    "devices.allow=b *:* rwm", "devices.allow=c *:* m" };
	struct arena arena = { 0 };
	struct cgroup_writes w = { .arena = &arena };
	struct oci_resources r;
	struct error err;

	oci_resources_init(&r);
	CHECK(!oci_resources_parse("r", json, strlen(json), &arena, &r, &err));
	CHECK(!writes_v1(&r, true, &w, &err) && w.count > ARRAY_COUNT(want));
	for (size_t i = 0; i < ARRAY_COUNT(want); i++) {
		const char *got = arena_printf(&arena, "%s=%s", w.v[i].file, w.v[i].text);

		CHECK(!strcmp(got, want[i]));
	}
	arena_fini(&arena);
}

TEST(too_many_values)
{
	static char json[65536];
	size_t len = (size_t)sprintf(json, "{\"rdma\":{");

	for (int i = 0; i < 600; i++)
		len += (size_t)sprintf(json + len, "%s\"d%d\":{\"hcaHandles\":1}", i ? "," : "", i);
	sprintf(json + len, "}}");
	expect_refused(2, json, "more than 512 values");
}

TEST(hierarchies_of_mountinfo)
{
	char mounts[] = "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"
			"31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
			"32 30 0:28 / /sys/fs/cgroup/systemd rw shared:9 - cgroup cgroup rw,xattr,name=systemd\n"
			"33 30 0:29 /docker/1 /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
			"34 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory,release_agent=/x\n"
			"35 30 0:30 / /srv/jail/memory rw - cgroup cgroup rw,memory\n";
	struct hierarchies list;

	hierarchies_parse(mounts, "4:memory:/a/b\n3:cpuacct,cpu:/docker/1/c\n1:name=systemd:/s\n0::/u/v\n", &list);
	CHECK(list.count == 4);
	CHECK(!list.v[0].controllers && !strcmp(list.v[0].own, "/u/v"));
	CHECK(!strcmp(list.v[1].controllers, "name=systemd") && !strcmp(list.v[1].own, "/s"));
	/* only a part is mounted */
	CHECK(!strcmp(list.v[2].controllers, "cpu,cpuacct") && !strcmp(list.v[2].own, "/c"));
	CHECK(!strcmp(list.v[3].controllers, "memory") && !strcmp(list.v[3].own, "/a/b"));
	CHECK(!strcmp(list.v[3].mount, "/sys/fs/cgroup/memory"));
	hierarchies_fini(&list);
}

TEST(state_keeps_directories)
{
	json_t *json = json_loads("{\"unit\":\"a.scope\",\"directories\":["
				  "{\"path\":\"/x/y\",\"controllers\":\"cpu,cpuacct\",\"made\":true},"
				  "{\"path\":\"/u/y\",\"controllers\":null,\"made\":false},"
				  "{\"path\":\"relative\"}, 7]}",
				  0, NULL);
	struct cgroup cg, again;
	json_t *back;

	cgroup_of_json(json, &cg);
	CHECK(!strcmp(cg.unit, "a.scope") && !cg.slice && !cg.user);
	CHECK(cg.count == 2 && cg.v[0].made && !cg.v[1].made && !cg.v[1].controllers);
	CHECK(cgroup_find(&cg, "cpuacct") == &cg.v[0] && cgroup_find(&cg, "memory") == &cg.v[1]);
	back = cgroup_json(&cg);
	cgroup_of_json(back, &again);
	CHECK(again.count == 2 && !strcmp(again.v[0].controllers, "cpu,cpuacct") && again.v[0].made && !strcmp(again.unit, cg.unit));
	json_decref(json);
	json_decref(back);
	cgroup_fini(&cg);
	cgroup_fini(&again);
}

static void expect_slice(const char *slice, const char *want)
{
	AUTO(mem_free) char *got = scope_expand_slice(slice);

	if (want ? !got || strcmp(got, want) != 0 : got != NULL)
		test_fail(__FILE__, __LINE__, "%s: got %s, want %s", slice, got ? got : "none", want ? want : "none");
}

static void expect_scope(const char *path, const char *unit, const char *dir)
{
	struct cgroup cg = { 0 };
	struct error err;
	AUTO(mem_free) char *got = NULL;

	if (scope_names(path, "id", false, &cg, &got, &err))
		test_fail(__FILE__, __LINE__, "%s: %s", path, err.text);
	else if (strcmp(cg.unit, unit) != 0 || strcmp(got, dir) != 0)
		test_fail(__FILE__, __LINE__, "%s: got %s in %s", path, cg.unit, got);
	cgroup_fini(&cg);
}

TEST(names_of_systemd)
{
	static const char *const bad[] = { "a", "a.slice:b", "a.slice:b:c:d", "a:b:c", "a.slice:b:", "a.slice:b:c/d",
					   "a.slice:../b:c" };

	expect_slice("system.slice", "/system.slice");
	expect_slice("a-b-c.slice", "/a.slice/a-b.slice/a-b-c.slice");
	expect_slice("-.slice", "");
	expect_slice("a--b.slice", NULL);
	expect_slice("-a.slice", NULL);
	expect_slice("a-.slice", NULL);
	expect_slice("a/b.slice", NULL);
	expect_slice(".slice", NULL);
	expect_scope("machine.slice:libpod:77", "libpod-77.scope", "/machine.slice/libpod-77.scope");
	expect_scope("a-b.slice::77", "77.scope", "/a.slice/a-b.slice/77.scope");
	expect_scope(":x:y", "x-y.scope", "/system.slice/x-y.scope");
	expect_scope("", "runsc-id.scope", "/system.slice/runsc-id.scope");
	for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
		struct cgroup cg = { 0 };
		char *dir = NULL;
		struct error err;

		if (!scope_names(bad[i], "id", false, &cg, &dir, &err))
			test_fail(__FILE__, __LINE__, "%s is taken", bad[i]);
		free(dir);
		cgroup_fini(&cg);
	}
}

TEST(values_of_systemd)
{
	uint8_t mask[SYSTEMD_MASK_MAX];

	CHECK(systemd_quota_per_second(50000, 100000) == 500000);
	CHECK(systemd_quota_per_second(50000, OCI_UNSET) == 500000);
	CHECK(systemd_quota_per_second(1234, 100000) == 20000);
	CHECK(systemd_quota_per_second(-1, 100000) == UINT64_MAX);
	CHECK(systemd_quota_per_second(INT64_MAX, 1) == UINT64_MAX);
	CHECK(systemd_cpu_mask("0-2,9", mask) == 2 && mask[0] == 7 && mask[1] == 2);
	CHECK(systemd_cpu_mask("8191", mask) == 1024 && mask[1023] == 0x80);
	CHECK(!systemd_cpu_mask("8192", mask) && !systemd_cpu_mask("3-1", mask) && !systemd_cpu_mask("a", mask));
	CHECK(!systemd_cpu_mask("1-", mask) && !systemd_cpu_mask("1;2", mask) && !systemd_cpu_mask("", mask));
}

/* Hosts of version 1 without some controller, and none at all: refused before anything is written. */
TEST(controllers_that_are_missing)
{
	char path[] = "/nonexistent", memory[] = "memory";
	struct cgroup_dir dir = { .path = path, .controllers = memory };
	struct cgroup some = { .v = &dir, .count = 1 }, none = { 0 };
	struct oci_net_priority priority = { .interface = path };
	struct oci_resources r;
	struct error err;

	oci_resources_init(&r);
	r.net_class = 5;
	CHECK(cgroup_apply(&some, &r, true, &err) && strstr(err.text, "cannot set net_cls limit"));
	CHECK(cgroup_apply(&none, &r, true, &err) && strstr(err.text, "cannot set net_cls limit"));
	oci_resources_init(&r);
	r.net_priorities = &priority;
	r.net_priority_count = 1;
	CHECK(cgroup_apply(&some, &r, true, &err) && strstr(err.text, "cannot set net_prio limit"));
	oci_resources_init(&r);
	r.pids_limit = 5;
	CHECK(cgroup_apply(&some, &r, true, &err) && strstr(err.text, "cannot set pids limit"));
	CHECK(!cgroup_apply(&none, &r, true, &err));
	oci_resources_init(&r);
	r.memory_limit = 1 << 20;
	CHECK(cgroup_apply(&some, &r, true, &err) && strstr(err.text, "no file of that name in /nonexistent"));
}

static void expect_property(const char *name, const char *text, const char *want)
{
	struct systemd_property p;
	struct error err;
	char got[256] = "refused";
	size_t len;

	if (!systemd_parse_property(name, text, &p, &err)) {
		len = (size_t)snprintf(got, sizeof(got), "%s %c %lld", p.name, p.type, (long long)p.number);
		for (size_t i = 0; i < p.texts.count; i++)
			len += (size_t)snprintf(got + len, sizeof(got) - len, " <%s>", p.texts.v[i]);
		systemd_property_fini(&p);
	}
	if (strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "%s=%s: got %s, want %s", name, text, got, want);
}

TEST(properties_by_annotation)
{
	expect_property("TimeoutStopUSec", "uint64 10000000", "TimeoutStopUSec t 10000000");
	expect_property("TimeoutStopSec", "7", "TimeoutStopUSec t 7000000");
	expect_property("KillSignal", "15", "KillSignal i 15");
	expect_property("Weight", "-3", "Weight i -3");
	expect_property("SendSIGHUP", "true", "SendSIGHUP b 1");
	expect_property("CollectMode", "'inactive-or-failed'", "CollectMode s 0 <inactive-or-failed>");
	expect_property("After", "['a.service', \"b.slice\"]", "After a 0 <a.service> <b.slice>");
	expect_property("After", "[]", "After a 0");
	expect_property("After", "['a' 'b']", "refused");
	expect_property("After", "['a", "refused");
	expect_property("After", "['a'] x", "refused");
	expect_property("CollectMode", "'a'b", "refused");
	expect_property("CollectMode", "plain", "refused");
	expect_property("KillSignal", "uint32 -1", "refused");
	expect_property("KillSignal", "99999999999", "refused");
	expect_property("TimeoutStopSec", "'5'", "refused");
	expect_property("TimeoutStopSec", "-5", "refused");
	expect_property("bad", "1", "refused");
	expect_property("Bad-Name", "1", "refused");
}
