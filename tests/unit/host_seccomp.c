/* seccomp: the default kills the process, arguments are checked, all threads are covered, SIGSYS reports. */
#include "platform/host/seccomp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/base/log.h"

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

static const struct seccomp_rule rules[] = {
	SECCOMP_RULE(read, "the test's pipe"),
	SECCOMP_RULE(write, "the log and the test's pipe"),
	SECCOMP_RULE(exit_group, "the end of the child"),
	SECCOMP_RULE(exit, "the end of a thread"),
	SECCOMP_RULE(rt_sigprocmask, "abort"),
	SECCOMP_RULE(gettid, "abort"),
	SECCOMP_RULE(getpid, "abort and the log"),
	SECCOMP_RULE(tgkill, "abort"),
	SECCOMP_RULE(rt_sigaction, "abort"),
	SECCOMP_RULE(clock_gettime, "the log"),
	SECCOMP_RULE(futex, "pthread_join"),
	SECCOMP_RULE(socket, "internet sockets", ARG_EQ(0, AF_INET), ARG_MASKED(1, 0xf, SOCK_STREAM)),
	SECCOMP_RULE(socket, "internet sockets", ARG_EQ(0, AF_INET6)),
	SECCOMP_REFUSE(getuid, ENOSYS, "refused quietly"),
};
static const struct seccomp_set set = { rules, ARRAY_COUNT(rules) };

static void load(enum seccomp_default action)
{
	char why[200] = "";

	if (seccomp_load_rules(&set, 1, action, why, sizeof(why)) < 0) {
		printf("%s\n", why);
		_exit(99);
	}
}

static void do_allowed(void)
{
	load(SECCOMP_KILL);
	if (syscall(SYS_getuid) != -1 || errno != ENOSYS)
		_exit(9);
	_exit(socket(AF_INET, SOCK_STREAM, 0) >= 0 && socket(AF_INET6, SOCK_DGRAM, 0) >= -1 ? 7 : 8);
}

static void do_call(void)
{
	load(SECCOMP_KILL);
	syscall(SYS_getppid);
	_exit(0);
}

static void do_argument(void)
{
	load(SECCOMP_KILL);
	socket(AF_UNIX, SOCK_STREAM, 0);
	_exit(0);
}

static int go[2];

static void *other_thread(void *arg)
{
	char c;

	(void)arg;
	if (read(go[0], &c, 1) == 1)
		syscall(SYS_getppid);
	return NULL;
}

static void do_thread(void)
{
	pthread_t t;

	if (pipe(go) < 0 || pthread_create(&t, NULL, other_thread, NULL) != 0)
		_exit(98);
	load(SECCOMP_KILL);
	if (write(go[1], "x", 1) == 1)
		pthread_join(t, NULL);
	_exit(0);
}

static int report_fd;

static void do_report(void)
{
	setenv("TZ", "UTC0", 1);
	tzset(); /* reads no file any more */
	log_init(report_fd, LOG_TEXT, LOG_INFO, "test");
	seccomp_report_install();
	load(SECCOMP_REPORT);
	syscall(SYS_getppid, 0x1234);
	_exit(0);
}

static int status_of(void (*fn)(void))
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		alarm(20);
		fn();
		_exit(97);
	}
	waitpid(pid, &status, 0);
	return status;
}

int main(void)
{
	char line[400] = "", want[40];
	int p[2], status;

	alarm(60);
	setvbuf(stdout, NULL, _IONBF, 0);
	status = status_of(do_allowed);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	CHECK(WTERMSIG(status_of(do_call)) == SIGSYS);
	CHECK(WTERMSIG(status_of(do_argument)) == SIGSYS);
	CHECK(WTERMSIG(status_of(do_thread)) == SIGSYS);
	if (pipe(p) < 0)
		abort();
	report_fd = p[1];
	CHECK(WTERMSIG(status_of(do_report)) == SIGABRT);
	close(p[1]);
	CHECK(read(p[0], line, sizeof(line) - 1) > 0);
	snprintf(want, sizeof(want), "host call %d(0x1234", (int)SYS_getppid);
	CHECK(strstr(line, want) != NULL);
	CHECK(strstr(line, "not in the filter") != NULL);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
