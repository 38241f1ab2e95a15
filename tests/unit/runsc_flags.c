/*
 * Every option of runc 1.1 and later, crun and gVisor, as their help lists them, given to our parser: each must have an
 * effect, or be accepted without one, or be refused with a sentence; none may be unknown.
 */
#include "runsc/cmd/cmd.h"
#include "tests/lib/test.h"

/* main.c is not part of this test. */
bool help_print(FILE *out, const char *command)
{
	return fprintf(out, "%s\n", command) > 0;
}

static const struct {
	const char *name;
	const struct command_options *options; /* NULL: a refused command */
} commands[] = {
#define COMMAND(name, symbol, min, max, anywhere, operands, summary) { name, &cmd_##symbol##_options },
#define REFUSED(name, why) { name, NULL },
#include "runsc/cmd/commands.def"
#undef COMMAND
#undef REFUSED
};

/* Of each option: + has an effect, . has none, ! is refused; command "" for global options. */
static const struct {
	const char *runtime, *command, *options;
} facts[] = {
	{ "runc", "",
	  "+--debug; +--log x; +--log-format json; +--root x; .--criu x; +--systemd-cgroup; +--rootless true; "
	  "+--rootless=true; +--version; +-v" },
	{ "runc", "create",
	  "+--bundle x; +-b x; +--console-socket x; +--pid-file x; .--no-pivot; .--no-new-keyring; +--preserve-fds 1; "
	  ".--pidfd-socket x" },
	{ "runc", "run",
	  "+--bundle x; +-b x; +--console-socket x; +--detach; +-d; +--keep; +--pid-file x; .--no-subreaper; .--no-pivot; "
	  ".--no-new-keyring; +--preserve-fds 1; .--pidfd-socket x" },
	{ "runc", "start", "" },
	{ "runc", "exec",
	  "+--console-socket x; +--cwd x; +--env A=1; +-e A=1; +--tty; +-t; +--user 1:1; +-u 1; +--additional-gids 1; +-g 1; "
	  "+--process x; +-p x; +--detach; +-d; +--pid-file x; .--process-label x; .--apparmor x; +--no-new-privs; "
	  "+--cap x; +-c x; +--preserve-fds 1; .--cgroup x; +--ignore-paused; .--pidfd-socket x; +-td" },
	{ "runc", "kill", "+--all; +-a" },
	{ "runc", "delete", "+--force; +-f" },
	{ "runc", "state", "" },
	{ "runc", "list", "+--format json; +-f json; +--quiet; +-q" },
	{ "runc", "ps", "+--format json; +-f json" },
	{ "runc", "pause", "" },
	{ "runc", "resume", "" },
	{ "runc", "events", "+--interval 1s; +--stats" },
	{ "runc", "update",
	  "+--resources x; +-r x; +--blkio-weight 10; +--cpu-period 1; +--cpu-quota 1; +--cpu-share 2; +--cpu-burst 1; "
	  "+--cpu-rt-period 1; +--cpu-rt-runtime 1; +--cpuset-cpus 0; +--cpuset-mems 0; +--memory 1m; "
	  "+--memory-reservation 1m; +--memory-swap 1m; +--pids-limit 1; +--cpu-idle 1; +--l3-cache-schema x; "
	  "+--mem-bw-schema x" },
	{ "runc", "spec", "+--bundle x; +-b x; +--rootless" },
	{ "runc", "features", "" },
	{ "runc", "checkpoint", "!" },
	{ "runc", "restore", "!" },

	{ "crun", "",
	  "+--cgroup-manager=disabled; +--debug; +--log=x; +--log-format=json; +--root=x; +--rootless=true; "
	  "+--systemd-cgroup; +-v; +-V; +--version" },
	{ "crun", "create",
	  "+-b x; +-bx; +--bundle=x; +--console-socket=x; +-f x; +--config=x; .--no-new-keyring; .--no-pivot; "
	  ".--no-subreaper; +--pid-file=x; +--preserve-fds=1" },
	{ "crun", "run",
	  "+-b x; +--bundle=x; +--console-socket=x; +-d; +--detach; +-f x; +--config=x; .--no-new-keyring; .--no-pivot; "
	  ".--no-subreaper; +--pid-file=x; +--preserve-fds=1" },
	{ "crun", "start", "" },
	{ "crun", "exec",
	  ".--apparmor=x; .--cgroup=x; +--console-socket=x; +--cwd=x; +-c x; +--cap=x; +-d; +-e A=1; +--env=A=1; "
	  "+--no-new-privs; +--pid-file=x; +--preserve-fds=1; .--process-label=x; +-p x; +--process=x; +-t; +--tty; "
	  "+--tty=true; +-u 1; +--user=1:1" },
	{ "crun", "kill", "+-a; +--all; +-r; +--regex" },
	{ "crun", "delete", "+-f; +--force; +-r; +--regex" },
	{ "crun", "state", "" },
	{ "crun", "list", "+-f json; +--format=json; +-q; +--quiet" },
	{ "crun", "ps", "+-f json; +--format=json" },
	{ "crun", "pause", "" },
	{ "crun", "resume", "" },
	{ "crun", "update",
	  "+--blkio-weight=10; +--cpu-period=1; +--cpu-quota=1; +--cpu-rt-period=1; +--cpu-rt-runtime=1; +--cpu-share=2; "
	  "+--cpuset-cpus=0; +--cpuset-mems=0; +--kernel-memory=1; +--kernel-memory-tcp=1; +--memory=1m; "
	  "+--memory-reservation=1m; +--memory-swap=1m; +--pids-limit=1; +-r x; +--resources=x" },
	{ "crun", "spec", "+-b x; +--bundle=x; +-f x; +--file=x; +--rootless" },

	{ "gVisor", "",
	  "+--root=x; +--log=x; +--log-format=json-k8s; +--debug; +--systemd-cgroup; +--debug-log=x; +--debug-command=x; "
	  "+--panic-log=x; .--coverage-report=x; .--log-packets; .--pcap-log=x; +--debug-log-format=json; "
	  ".--debug-to-user-log; +--alsologtostderr; +--allow-flag-override; .--traceback=x; !--metric-server=x; "
	  "!--final-metrics-log=x; !--profiling-metrics=x; !--profiling-metrics-log=x; .--profiling-metrics-rate-us=1; "
	  "+--strace; +--strace-syscalls=x; .--strace-log-size=1; .--strace-event; +--platform=ptrace; "
	  "+--platform_device_path=x; .--watchdog-action=panic; .--panic-signal=12; .--profile; .--profile-block=x; "
	  ".--profile-cpu=x; .--profile-gc-interval=1s; .--profile-heap=x; .--profile-mutex=x; .--trace=x; +--rootless; "
	  ".--ref-leak-mode=x; .--cpu-num-from-quota=false; +--oci-seccomp=false; .--enable-core-tags; !--pod-init-config=x; "
	  ".--host-settings=check; .--sidecar-release-enforcement-policy=NEVER; .--restore-spec-validation=x; "
	  ".--systrap-disable-syscall-patching; .--systrap-disable-fast-path; .--allow-suid; .--kvm-use-cpu-nums; "
	  ".--allow-rootfs-tar-annotation; .--control-rpc-stop-timeout=1s; .--shared-root=x; .--app-huge-pages; "
	  "+--file-access=shared; +--file-access-mounts=exclusive; +--overlay; +--overlay2=all:memory; +--host-uds=open; "
	  ".--host-fifo=open; .--character-device-policy=x; .--gvisor-marker-file; .--override-procs=x; +--ignore-cgroups; "
	  ".--mount-cgroup-v2; .--fdlimit=1; .--dcache=1; .--iouring; .--directfs=false; .--TESTONLY-nftables; "
	  "+--network=none; .--gofer-network-namespace=new; .--net-raw; .--allow-packet-socket-write; "
	  ".--allow-live-tcp-migration; .--gso; .--software-gso; .--gvisor-gro; .--tx-checksum-offload; "
	  ".--rx-checksum-offload; .--qdisc=tbf; .--qdisc-tbf-rate=1; .--qdisc-tbf-burst=1; .--num-network-channels=1; "
	  ".--network-processors-per-channel=1; .--EXPERIMENTAL-xdp=off; .--EXPERIMENTAL-xdp-need-wakeup; .--reproduce-nat; "
	  ".--reproduce-nftables; .--net-disconnect-ok; .--pause-external-networking; .--allow-connected-on-save; "
	  "!--nvproxy; .--nvproxy=false; !--nvproxy-docker; .--nvproxy-driver-version=x; "
	  ".--nvproxy-allow-unsupported-driver; .--nvproxy-allowed-driver-capabilities=x; !--rdmaproxy; !--tpuproxy; "
	  ".--TESTONLY-unsafe-nonroot; .--TESTONLY-test-name-env=x; .--TESTONLY-afs-syscall-panic; "
	  "!--TESTONLY-autosave-image-path=x; !--TESTONLY-autosave-resume; .--buffer-pooling; .--vfs2; .--fuse; .--lisafs; "
	  ".--cgroupfs; +--fsgofer-host-uds; .--save-restore-netstack; +--log-fd=2; +--debug-log-fd=2; .--panic-log-fd=2; "
	  ".--coverage-fd=2; +-debug; +-root x; +-root=x; +--version" },
	{ "gVisor", "create",
	  "+--bundle x; +--console-socket x; +--pid-file x; .--user-log x; !--fs-restore-image-path x; .--fs-restore-direct" },
	{ "gVisor", "run", "+--bundle x; +--detach; +--pass-fd 3:3; !--exec-fd 3; .--user-log x" },
	{ "gVisor", "exec",
	  "+--cwd x; +--env A=1; +--user 1; +--additional-gids 1; +--cap x; +--detach; +--process x; +--pid-file x; "
	  "+--internal-pid-file x; +--console-socket x; +--pass-fd 3:3; !--exec-fd 3" },
	{ "gVisor", "kill", "+--all; +--pid 1; +--pgid 1" },
	{ "gVisor", "delete", "+--force" },
	{ "gVisor", "list", "+--quiet; +--format json; +--sandbox" },
	{ "gVisor", "ps", "+--format json" },
	{ "gVisor", "events", "+--interval 1s; +--stats" },
	{ "gVisor", "update",
	  "+--resources -; +--blkio-weight 10; +--cpu-burst 1; +--cpu-idle 1; +--cpu-period 1; +--cpu-quota 1; "
	  "+--cpu-rt-period 1; +--cpu-rt-runtime 1; +--cpu-share 2; +--cpuset-cpus 0; +--cpuset-mems 0; +--memory 1m; "
	  "+--memory-reservation 1m; +--memory-swap 1m; +--pids-limit 1; +--l3-cache-schema x; +--mem-bw-schema x" },
	{ "gVisor", "wait", "+--rootpid 1; +--pid 1; !--checkpoint; !--restore; !--fscheckpoint; !--fsrestore" },
	{ "gVisor", "spec", "+--bundle x; +--cwd x; +--netns x; !--tpu" },
	{ "gVisor", "do",
	  "+--root x; +--cwd x; !--erofs x; .--ip x; +--quiet; .--force-overlay; +--uid-map x; +--gid-map x; +--volume x" },
	{ "gVisor", "debug",
	  ".--pid 1; +--stacks; .--profile-block x; .--profile-cpu x; .--profile-heap x; .--profile-mutex x; .--delay 1s; "
	  ".--duration 1s; .--trace x; +--signal 1; +--strace all; +--log-level debug; .--log-packets x; +--ps; !--mount x" },
	{ "gVisor", "usage", "+--full; .--fd" },
	{ "gVisor", "install",
	  "+--config_file x; +--runtime x; +--experimental; +--clobber; +--cgroupdriver x; .--download-sidecars; "
	  ".--require-sidecars; .--sidecar-url x" },
	{ "gVisor", "uninstall", "+--config_file x; +--runtime x" },
	{ "gVisor", "help", "+--format json; .--os x; .--arch x; .--filename x" },
	{ "gVisor", "cpu-features", "" },
	{ "gVisor", "flags", "" },
	{ "gVisor", "bwrap",
	  "+--bind x x; +--ro-bind x x; +--tmpfs x; +--unshare-net; +--share-net; +--chdir x; +--setenv A 1; +--clearenv; "
	  "+--unsetenv A; +--uid 1; +--gid 1; .--unshare-user; .--unshare-ipc; .--unshare-pid; .--unshare-uts; "
	  "+--hostname x; +--proc x; .--unshare-cgroup; +--unshare-all; +--dev x; .--die-with-parent" },
	{ "gVisor", "checkpoint", "!" },
	{ "gVisor", "restore", "!" },
	{ "gVisor", "fscheckpoint", "!" },
	{ "gVisor", "port-forward", "+--stream x" },
	{ "gVisor", "read", "!" },
	{ "gVisor", "sandboxexec", "!" },
	{ "gVisor", "tar", "!" },
	{ "gVisor", "mitigate", "!" },
	{ "gVisor", "nvproxy", "!" },
	{ "gVisor", "trace", "!" },
	{ "gVisor", "statefile", "!" },
	{ "gVisor", "symbolize", "!" },
	{ "gVisor", "read-control", "!" },
	{ "gVisor", "write-control", "!" },
	{ "gVisor", "metric-metadata", "!" },
	{ "gVisor", "export-metrics", "!" },
	{ "gVisor", "metric-server", "!" },
	{ "gVisor", "boot", "!" },
	{ "gVisor", "gofer", "!" },
	{ "gVisor", "umount", "!" },
};

static const struct command_options global = { NULL, 0, sizeof(struct config) };

static const struct command_options *options_of(const char *name, bool *ret_known)
{
	*ret_known = true;
	if (!*name)
		return &global;
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return commands[i].options;
	}
	*ret_known = false;
	return NULL;
}

/* What became of one option in words: '+', '.', '!' as in the table, or '-': unknown. */
static char outcome_of(const struct command_options *options, char *words, struct error *err)
{
	static _Alignas(16) char before[4096], after[4096];
	char *argv[4], *save = NULL;
	bool help = false;
	int count = 0, first;

	for (char *word = strtok_r(words, " ", &save); word && count < 4; word = strtok_r(NULL, " ", &save))
		argv[count++] = word;
	memset(before, 0, sizeof(before));
	if (options == &global)
		config_init((struct config *)(void *)before);
	memcpy(after, before, sizeof(after));
	first = options_parse(options == &global ? config_rows : options->rows,
			      options == &global ? config_row_count : options->count, count, argv, false, after,
			      &help, err);
	if (first < 0)
		return strstr(err->text, " is refused: ") ? '!' : '-';
	if (help || first != count)
		return '-';
	return memcmp(before, after, options->size) ? '+' : '.';
}

TEST(every_option_of_the_others)
{
	int checked = 0;

	for (size_t i = 0; i < ARRAY_COUNT(facts); i++) {
		bool known;
		const struct command_options *options = options_of(facts[i].command, &known);
		char *list = xstrdup(facts[i].options), *save = NULL;

		CHECK(known);
		CHECK(!!options == !!strcmp(list, "!"));
		for (char *fact = strtok_r(list, ";", &save); options && fact; fact = strtok_r(NULL, ";", &save)) {
			struct error err = { 0 };
			char wanted, seen, *name;

			fact += *fact == ' ';
			wanted = *fact;
			name = xstrdup(fact + 1);
			seen = outcome_of(options, fact + 1, &err);
			if (seen != wanted)
				printf("%s %s %s: wanted %c, saw %c %s\n", facts[i].runtime, facts[i].command, name, wanted,
				       seen, err.text);
			CHECK(seen == wanted);
			free(name);
			checked++;
		}
		free(list);
	}
	CHECK(checked > 300);
}

TEST(every_command_is_somebodys)
{
	static const char *const of_gvisor[] = { "start", "state", "pause", "resume", "features" };

	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		bool found = false;

		for (size_t j = 0; j < ARRAY_COUNT(facts); j++)
			found |= !strcmp(facts[j].command, commands[i].name);
		CHECK(found);
	}
	for (size_t i = 0; i < ARRAY_COUNT(of_gvisor); i++) {
		bool known;

		CHECK(options_of(of_gvisor[i], &known) && known);
	}
}

TEST(unknown_ones)
{
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		struct error err = { 0 };
		char words[] = "--no-such-option=1";

		if (!commands[i].options)
			continue;
		CHECK(outcome_of(commands[i].options, words, &err) == '-');
		CHECK(!strcmp(err.text, "flag provided but not defined: -no-such-option (see --help)"));
	}
}

TEST(values_that_are_none)
{
	static const struct {
		const char *command, *words, *text;
	} rows[] = {
		{ "create", "--preserve-fds=x", "invalid value \"x\" for flag -preserve-fds: it takes a whole number" },
		{ "list", "--format=xml", "invalid value \"xml\" for flag -format: use one of table|json" },
		{ "exec", "--tty=perhaps", "invalid boolean value \"perhaps\" for -tty: use true or false" },
		{ "create", "--bundle", "flag needs an argument: -bundle" },
		{ "", "--platform=abacus", "invalid value \"abacus\" for flag -platform: use one of " },
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		struct error err = { 0 };
		char *words = xstrdup(rows[i].words);
		bool known;

		CHECK(outcome_of(options_of(rows[i].command, &known), words, &err) == '-');
		CHECK(!strncmp(err.text, rows[i].text, strlen(rows[i].text)));
		free(words);
	}
}
