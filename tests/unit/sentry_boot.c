/* Boot: options, what the steps take away as /proc/self/status shows it, the filter's size and defaults. */
#include "sentry/boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sentry/seccomp/filter.h"
#include "tests/lib/test.h"

static int parse(struct boot_options *o, const char *a, const char *b, const char *c, const char *d)
{
	char name[] = "runsc-sentry", args[4][64], why[200] = "";
	const char *in[] = { a, b, c, d };
	char *argv[6] = { name };
	int argc = 1;

	for (int i = 0; i < 4 && in[i]; i++) {
		snprintf(args[i], sizeof(args[i]), "%s", in[i]);
		argv[argc++] = args[i];
	}
	optind = 0;
	return boot_parse(argc, argv, o, why, sizeof(why));
}

TEST(options)
{
	struct boot_options o;

	CHECK_EQ(parse(&o, "--control-fd", "7", "--log-level", "debug"), 0);
	CHECK_EQ(o.control_fd, 7);
	CHECK_EQ(o.log_level, LOG_DEBUG);
	CHECK_EQ(o.death_fd, -1);
	CHECK_EQ(parse(&o, "--control-fd=7", "--log-level=1", "--strace", "--network=host"), 0);
	CHECK_EQ(o.log_level, LOG_WARN);
	CHECK(o.strace && o.network == NETWORK_HOST && !o.debug_seccomp);
	CHECK_EQ(parse(&o, NULL, NULL, NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd", "7x", NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd", "-1", NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd", NULL, NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd=7", "--log-level=loud", NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd=7", "--log-level=4", NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd=7", "stray", NULL, NULL), -EINVAL);
	CHECK_EQ(parse(&o, "--control-fd=7", "--nonsense", NULL, NULL), -EINVAL);
}

/* The steps in a child; its /proc/self/status afterwards, read by a descriptor from before. */
static void shed(char *status, size_t size, int *ret_wait)
{
	int out[2];
	pid_t pid;
	ssize_t n;

	CHECK_EQ(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		struct filter_options f = { .platform = "ptrace", .network = true };
		struct boot b = { .memory_fd = -1 };
		char text[8192];

		parse(&b.o, "--control-fd=900", "--ready-fd=901", NULL, NULL);
		if (dup2(open("/proc/self/status", O_RDONLY), 900) < 0 || dup2(out[1], 901) < 0)
			_exit(90);
		if (boot_close_strays(&b) < 0 || boot_enter_empty_root(&b) < 0 ||
		    boot_drop_privileges(&b) < 0)
			_exit(91);
		if (open("/etc/passwd", O_RDONLY) >= 0 || open("/x", O_CREAT | O_WRONLY, 0600) >= 0)
			_exit(92);
		if (fcntl(out[0], F_GETFD) >= 0)
			_exit(93); /* a stray is still open */
		if (filter_load(&f, b.why, sizeof(b.why)) < 0)
			_exit(94);
		n = read(900, text, sizeof(text));
		if (n <= 0 || write(901, text, (size_t)n) != n)
			_exit(95);
		socket(AF_UNIX, SOCK_STREAM, 0); /* not in the filter */
		_exit(96);
	}
	close(out[1]);
	n = read(out[0], status, size - 1);
	status[n > 0 ? n : 0] = 0;
	close(out[0]);
	waitpid(pid, ret_wait, 0);
}

TEST(privileges_are_gone)
{
	char status[8192];
	int wait;

	if (geteuid() != 0)
		test_skip("needs root");
	shed(status, sizeof(status), &wait);
	CHECK(strstr(status, "CapInh:\t0000000000000000\n") != NULL);
	CHECK(strstr(status, "CapPrm:\t0000000000000000\n") != NULL);
	CHECK(strstr(status, "CapEff:\t0000000000000000\n") != NULL);
	CHECK(strstr(status, "CapBnd:\t0000000000000000\n") != NULL);
	CHECK(strstr(status, "CapAmb:\t0000000000000000\n") != NULL);
	CHECK(strstr(status, "NoNewPrivs:\t1\n") != NULL);
	CHECK(strstr(status, "Seccomp:\t2\n") != NULL);
	CHECK(WIFSIGNALED(wait));
	CHECK_EQ(WTERMSIG(wait), SIGSYS);
}

TEST(filter_is_small)
{
	struct filter_options o = { .platform = "ptrace", .network = true };
	char text[65536];
	int fd[2];
	ssize_t n;

	CHECK(filter_count(&o) > 30);
	CHECK(filter_count(&o) <= 60);
	CHECK_EQ(pipe2(fd, O_CLOEXEC), 0);
	CHECK(fcntl(fd[1], F_SETPIPE_SZ, (int)sizeof(text)) > 0);
	CHECK_EQ(filter_print(&o, fd[1]), 0);
	n = read(fd[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	CHECK(strstr(text, "\"recvmsg\"") != NULL);
	for (size_t i = 0; i < 6; i++) {
		static const char *const paths[] = { "\"openat\"", "\"execve\"", "\"newfstatat\"",
						     "\"mount\"",  "\"unlink\"", "\"fork\"" };

		CHECK(strstr(text, paths[i]) == NULL);
	}
	close(fd[0]);
	close(fd[1]);
}
