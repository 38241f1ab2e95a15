/* config.json: what is read, and the exact sentences for what is wrong. */
#include <sys/mount.h>

#include "runsc/oci/message.h"
#include "runsc/oci/names.h"
#include "tests/lib/test.h"

#define HEAD "{\n \"ociVersion\": \"1.0.2\",\n \"root\": {\"path\": \"rootfs\"},\n"
#define PROCESS " \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\", \"env\": [\"A=1\"]}"

static void expect_error(const char *text, const char *want)
{
	struct oci_spec spec;
	struct error err = { 0 };
	int ret = oci_spec_parse("config.json", text, strlen(text), &spec, &err);

	if (!ret || strcmp(err.text, want) != 0)
		test_fail(__FILE__, __LINE__, "got \"%s\", want \"%s\"", ret ? err.text : "success", want);
	oci_spec_fini(&spec);
}

static void parse(const char *text, struct oci_spec *spec)
{
	struct error err = { 0 };

	if (oci_spec_parse("config.json", text, strlen(text), spec, &err))
		test_fail(__FILE__, __LINE__, "%s", err.text);
}

TEST(smallest)
{
	struct oci_spec spec;

	parse(HEAD PROCESS "}", &spec);
	CHECK(!strcmp(spec.root_path, "rootfs") && spec.process.args.count == 1);
	CHECK(!strcmp(spec.process.env.v[0], "A=1") && !spec.process.terminal);
	CHECK(spec.resources.memory_limit == OCI_UNSET && !spec.mount_count);
	oci_spec_fini(&spec);
}

TEST(errors_name_line_and_path)
{
	expect_error(HEAD " \"process\": {\n  \"args\": [\"sh\"],\n  \"cwd\": \"tmp\"\n }\n}",
		     "config.json:6: process.cwd must be absolute");
	expect_error(HEAD " \"process\": {\n  \"args\": [\"sh\"]\n }\n}",
		     "config.json:4: process.cwd must be absolute");
	expect_error(HEAD " \"process\": {\"args\": [], \"cwd\": \"/\"}}",
		     "config.json:4: process.args must name a program to run");
	expect_error(HEAD " \"process\": {\"args\": [\"a\",\n\n3], \"cwd\": \"/\"}}",
		     "config.json:6: process.args[1] must be a string");
	expect_error(HEAD PROCESS ",\n \"mounts\": [{\"destination\": \"/a\", \"type\": \"tmpfs\"},\n"
				  " {\"destination\": 5}]}",
		     "config.json:6: mounts[1].destination must be a string");
	expect_error(HEAD PROCESS ",\n \"linux\": {\n\"namespaces\": [{\"type\": \"pid\"},\n {\"type\": \"pix\"}]}}",
		     "config.json:7: linux.namespaces[1].type \"pix\" is no namespace type");
	expect_error(HEAD PROCESS ",\n \"hostname\": \"x\"}",
		     "config.json:5: hostname cannot be set without a private UTS namespace: add "
		     "{\"type\": \"uts\"} to linux.namespaces");
	expect_error("[]", "config.json:1: must be a JSON object");
	expect_error("{}", "config.json:1: ociVersion must be set");
	expect_error("{\"ociVersion\":\n\"2.0.0\"}",
		     "config.json:2: ociVersion \"2.0.0\" is not supported: use 1.x");
}

TEST(errors_past_odd_text)
{
	/* strings with brackets and escapes before the place, keys given twice: the last one counts */
	expect_error("{\"ociVersion\":\"1.0.0\", \"x\": \"]}\\\"{[\", \"y\": [[1, {\"z\": [2.5e3]}], null],\n"
		     "\"root\": {\"path\": \"r\"},\n\"hostname\": 1,\n\"hostname\": 2}",
		     "config.json:4: hostname must be a string");
}

TEST(not_json)
{
	struct oci_spec spec;
	struct error err = { 0 };

	CHECK(oci_spec_parse("config.json", "{\n\"a\": }", 8, &spec, &err));
	CHECK(!strncmp(err.text, "config.json:2: not valid JSON: ", 31));
	oci_spec_fini(&spec);
	CHECK(oci_spec_parse("config.json", "", 0, &spec, &err));
	oci_spec_fini(&spec);
}

TEST(mount_options)
{
	struct oci_spec spec;

	parse(HEAD PROCESS ", \"mounts\": [{\"destination\": \"a\", \"type\": \"tmpfs\", \"options\": "
			   "[\"nosuid\", \"ro\", \"rw\", \"size=1m\", \"noexec\", \"mode=755\", \"rshared\"]},"
			   "{\"destination\": \"/b\", \"source\": \"/x\", \"options\": [\"rbind\", \"ro\"]}]}",
	      &spec);
	CHECK(!strcmp(spec.mounts[0].destination, "/a") && !spec.mounts[0].bind);
	CHECK(spec.mounts[0].flags == (MS_NOSUID | MS_NOEXEC));
	CHECK(!strcmp(spec.mounts[0].data, "size=1m,mode=755"));
	CHECK(spec.mounts[0].propagation == (MS_SHARED | MS_REC));
	CHECK(spec.mounts[1].bind && spec.mounts[1].flags == (MS_BIND | MS_REC | MS_RDONLY));
	CHECK(!strcmp(spec.mounts[1].type, "bind"));
	oci_spec_fini(&spec);
	expect_error(HEAD PROCESS ", \"mounts\": [{\"destination\": \"/b\", \"type\": \"bind\"}]}",
		     "config.json:4: mounts[0].source must be set for a bind mount");
}

TEST(process_details)
{
	struct oci_spec spec;

	parse(HEAD " \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\", \"terminal\": true, "
		   "\"consoleSize\": {\"height\": 24, \"width\": 80}, "
		   "\"user\": {\"uid\": 5, \"gid\": 4294967295, \"additionalGids\": [1, 2], \"umask\": 18}, "
		   "\"capabilities\": {\"effective\": [\"CAP_KILL\", \"CAP_NONSENSE\"]}, "
		   "\"rlimits\": [{\"type\": \"RLIMIT_NOFILE\", \"soft\": 5, \"hard\": 18446744073709551615}], "
		   "\"noNewPrivileges\": true, \"oomScoreAdj\": -5}}",
	      &spec);
	CHECK(spec.process.uid == 5 && spec.process.gid == UINT32_MAX && spec.process.gid_count == 2);
	CHECK(spec.process.umask == 18 && spec.process.has_umask && spec.process.console_columns == 80);
	CHECK(spec.process.capabilities.effective == 1u << 5);
	CHECK(spec.process.rlimits[0].hard == UINT64_MAX && spec.process.rlimits[0].soft == 5);
	CHECK(spec.process.oom_score_adj == -5 && spec.process.no_new_privileges);
	oci_spec_fini(&spec);
}

TEST(message_carries_the_mounts)
{
	struct message_extra extra = { .id = "id", .gofer_count = 3, .overlay_root = true, .mounts_shared = true };
	const Urpc__Container *message;
	struct oci_spec spec;

	parse(HEAD PROCESS ", \"mounts\": [{\"destination\": \"/t\", \"type\": \"tmpfs\"},"
			   "{\"destination\": \"/a\", \"type\": \"bind\", \"source\": \"/x\"},"
			   "{\"destination\": \"/b\", \"type\": \"none\", \"source\": \"/y\", \"options\": [\"bind\"]}]}",
	      &spec);
	message = message_of_spec(&spec.arena, &spec, &extra);
	CHECK(message->n_mounts == 3 && message->mounts[0]->gofer == -1);
	CHECK(message->mounts[1]->gofer == 1 && message->mounts[2]->gofer == 2);
	CHECK(message->mounts[2]->shared && !message->mounts[2]->flags);
	CHECK(message->overlay == URPC__CONTAINER__OVERLAY__MEMORY);
	oci_spec_fini(&spec);
}

TEST(long_lists_take_linear_memory)
{
	size_t count = 200000, size = 0;
	char *text = malloc(count * 4 + 1000);
	struct oci_spec spec;

	size += (size_t)sprintf(text, HEAD PROCESS ", \"mounts\": [{\"destination\": \"/a\", \"type\": \"tmpfs\", "
						   "\"options\": [\"x\"");
	for (size_t i = 0; i < count; i++)
		size += (size_t)sprintf(text + size, ",\"x\"");
	sprintf(text + size, "]}]}");
	parse(text, &spec);
	CHECK(strlen(spec.mounts[0].data) == 2 * count + 1);
	oci_spec_fini(&spec);
	free(text);
}

TEST(names)
{
	CHECK(signal_by_name("9") == 9 && signal_by_name("KILL") == 9 && signal_by_name("sigkill") == 9);
	CHECK(signal_by_name("RTMIN+3") == 37 && signal_by_name("RTMAX-1") == 63 && signal_by_name("65") == -1);
	CHECK(signal_by_name("") == -1 && signal_by_name("RTMIN+") == -1);
	CHECK(capability_by_name("CAP_SYS_ADMIN") == 21 && capability_by_name("chown") == 0);
	CHECK(capability_by_name("CAP_") == -1 && rlimit_by_name("RLIMIT_NOFILE") == 7);
}

TEST(cpus_of_a_quota)
{
	struct oci_resources r;

	oci_resources_init(&r);
	CHECK(cpus_of_resources(&r) == 0);
	r.cpu_quota = 50000;
	CHECK(cpus_of_resources(&r) == 2);
	r.cpu_quota = 300001;
	r.cpu_period = 100000;
	CHECK(cpus_of_resources(&r) == 4);
	r.cpu_quota = -1;
	CHECK(cpus_of_resources(&r) == 0);
}

TEST(relative_masks_begin_at_the_root)
{
	struct oci_spec spec;

	parse(HEAD PROCESS ", \"linux\": {\"maskedPaths\": [\"proc/kcore\", \"/a\"], \"readonlyPaths\": [\"sys\"]}}", &spec);
	CHECK_STR(spec.masked_paths.v[0], "/proc/kcore");
	CHECK_STR(spec.masked_paths.v[1], "/a");
	CHECK_STR(spec.readonly_paths.v[0], "/sys");
	oci_spec_fini(&spec);
}

TEST(sysctls_by_namespace)
{
	struct oci_spec spec;

	parse(HEAD PROCESS ", \"linux\": {\"namespaces\": [{\"type\": \"ipc\"}, {\"type\": \"network\"}, {\"type\": \"uts\"}], "
			   "\"sysctl\": {\"kernel.sem\": \"1 2 3 4\", \"net/ipv4/conf/eth0.1/arp_filter\": \"1\", "
			   "\"fs.mqueue.msg_max\": \"5\", \"kernel.domainname\": \"x\"}}}",
	      &spec);
	CHECK_EQ(spec.sysctl.count, 4);
	oci_spec_fini(&spec);
	expect_error(HEAD PROCESS ", \"linux\": {\"namespaces\": [{\"type\": \"ipc\"}],\n \"sysctl\": {\"kernel.semx\": \"1\"}}}",
		     "config.json:5: linux.sysctl sysctl \"kernel.semx\" is not in a separate kernel namespace");
	expect_error(HEAD PROCESS ", \"linux\": {\n \"sysctl\": {\"fs.mqueue.msg_max\": \"1\"}}}",
		     "config.json:5: linux.sysctl sysctl \"fs.mqueue.msg_max\" is not allowed in the hosts ipc namespace");
	expect_error(HEAD PROCESS ", \"linux\": {\n \"sysctl\": {\"net/core/somaxconn\": \"1\"}}}",
		     "config.json:5: linux.sysctl sysctl \"net.core.somaxconn\" not allowed in host network namespace");
}

TEST(numbers_of_64_bits)
{
	struct oci_spec spec;

	parse(HEAD " \"process\": {\"args\": [\"sh 18446744073709551615\"], \"cwd\": \"/\", \"rlimits\": [{\"type\": \"RLIMIT_AS\", "
		   "\"soft\": 9223372036854775808, \"hard\": 18446744073709551615}]}}",
	      &spec);
	CHECK_STR(spec.process.args.v[0], "sh 18446744073709551615");
	CHECK(spec.process.rlimits[0].soft == 1ull << 63 && spec.process.rlimits[0].hard == UINT64_MAX);
	oci_spec_fini(&spec);
}

TEST(priorities)
{
	struct oci_spec spec;

	parse(HEAD " \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\", \"ioPriority\": {\"class\": \"IOPRIO_CLASS_IDLE\", "
		   "\"priority\": 7}, \"scheduler\": {\"policy\": \"SCHED_RR\", \"priority\": 50}}}",
	      &spec);
	CHECK_EQ(spec.process.io_priority, 3 << 13 | 7);
	CHECK_EQ(spec.process.sched_policy, 2);
	CHECK_EQ(spec.process.sched_priority, 50);
	oci_spec_fini(&spec);
	expect_error(HEAD " \"process\": {\"args\": [\"sh\"], \"cwd\": \"/\", \"scheduler\": {\"policy\": \"SCHED_RR\"}}}",
		     "config.json:4: process.scheduler.priority must be above 0 for SCHED_FIFO and SCHED_RR, and only for these");
}
