/* linux.seccomp: what is refused, and what the compiled program does to a process of this kernel. */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runsc/oci/seccomp.h"
#include "tests/lib/test.h"

#define CONFIG(profile)                                                                            \
	"{\"ociVersion\": \"1.0.2\", \"root\": {\"path\": \"rootfs\"}, \"process\": {\"args\": [\"sh\"], "  \
	"\"cwd\": \"/\"},\n\"linux\": {\"seccomp\": {" profile "}}}"

struct compiled {
	struct oci_spec spec;
	void *code;
	size_t size;
};

static void compile(const char *text, struct compiled *c)
{
	struct error err = { 0 };

	if (oci_spec_parse("config.json", text, strlen(text), &c->spec, &err) ||
	    seccomp_compile(c->spec.seccomp, &c->spec.arena, &c->code, &c->size, &err))
		test_fail(__FILE__, __LINE__, "%s", err.text);
}

static void expect_error(const char *text, const char *want)
{
	struct oci_spec spec;
	struct error err = { 0 };
	int ret = oci_spec_parse("config.json", text, strlen(text), &spec, &err);

	if (!ret || strcmp(err.text, want) != 0)
		test_fail(__FILE__, __LINE__, "got \"%s\", want \"%s\"", ret ? err.text : "success", want);
	oci_spec_fini(&spec);
}

/* In a child under the filter: the errno of call nr (0: it worked), or -signal. */
static int under(const struct compiled *c, long nr, long a0, long a1)
{
	int status, errors[2];
	int error = 0;
	pid_t pid;

	CHECK_EQ(pipe(errors), 0);
	pid = fork();
	if (pid == 0) {
		struct sock_fprog prog = { (unsigned short)(c->size / 8), c->code };

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog))
			_exit(1);
		error = syscall(nr, a0, a1) == -1 ? errno : 0;
		if (write(errors[1], &error, sizeof(error)) != sizeof(error))
			_exit(1);
		_exit(0);
	}
	close(errors[1]);
	if (read(errors[0], &error, sizeof(error)) != sizeof(error))
		error = -1000;
	close(errors[0]);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? -WTERMSIG(status) : error;
}

TEST(default_and_exceptions)
{
	struct compiled c;

	compile(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_X86_64\", "
		       "\"SCMP_ARCH_AARCH64\"], \"flags\": [\"SECCOMP_FILTER_FLAG_LOG\"], \"syscalls\": ["
		       "{\"names\": [\"getppid\", \"no_such_call\"], \"action\": \"SCMP_ACT_ERRNO\"}, "
		       "{\"names\": [\"getpgrp\"], \"action\": \"SCMP_ACT_ERRNO\", \"errnoRet\": 77}, "
		       "{\"names\": [\"sync\"], \"action\": \"SCMP_ACT_KILL_PROCESS\"}]"),
		&c);
	CHECK_EQ(c.spec.seccomp->flags, SECCOMP_FILTER_FLAG_LOG);
	CHECK_EQ(under(&c, SYS_getppid, 0, 0), EPERM);
	CHECK_EQ(under(&c, SYS_getpgrp, 0, 0), 77);
	CHECK_EQ(under(&c, SYS_getuid, 0, 0), 0);
	CHECK_EQ(under(&c, SYS_sync, 0, 0), -SIGSYS);
	CHECK_EQ(under(&c, SYS_getuid | 0x40000000, 0, 0), -SIGSYS); /* x32 is not among the architectures */
	oci_spec_fini(&c.spec);
}

/* What the child itself needs. */
#define NEEDED "{\"names\": [\"write\", \"exit_group\"], \"action\": \"SCMP_ACT_ALLOW\"}"

TEST(default_errno_and_newer_calls)
{
	struct compiled c;

	compile(CONFIG("\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 5, \"architectures\": "
		       "[\"SCMP_ARCH_X86\", \"SCMP_ARCH_X32\"], \"syscalls\": [" NEEDED "]"),
		&c);
	CHECK_EQ(under(&c, SYS_getppid, 0, 0), 5);
	CHECK_EQ(under(&c, SYS_exit_group + 1, 0, 0), ENOSYS); /* beyond all that are named */
	CHECK_EQ(under(&c, SYS_getppid | 0x40000000, 0, 0), ENOSYS);
	oci_spec_fini(&c.spec);
	compile(CONFIG("\"defaultAction\": \"SCMP_ACT_ERRNO\", \"defaultErrnoRet\": 38, \"syscalls\": [" NEEDED "]"), &c);
	CHECK_EQ(under(&c, SYS_getppid, 0, 0), ENOSYS);
	oci_spec_fini(&c.spec);
}

static int dup_under(const char *op, const char *rest, long fd)
{
	char text[1024];
	struct compiled c;
	int ret;

	snprintf(text, sizeof(text),
		 CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"dup2\"], \"action\": "
			"\"SCMP_ACT_ERRNO\", \"args\": [{\"index\": 1, \"op\": \"SCMP_CMP_%s\", %s}]}]"),
		 op, rest);
	compile(text, &c);
	ret = under(&c, SYS_dup2, 1, fd);
	oci_spec_fini(&c.spec);
	return ret;
}

TEST(every_operator)
{
	static const struct {
		const char *op, *rest;
		bool refused[3]; /* of 99, 100, 101 */
	} rows[] = {
		{ "NE", "\"value\": 100", { true, false, true } },
		{ "LT", "\"value\": 100", { true, false, false } },
		{ "LE", "\"value\": 100", { true, true, false } },
		{ "EQ", "\"value\": 100", { false, true, false } },
		{ "GE", "\"value\": 100", { false, true, true } },
		{ "GT", "\"value\": 100", { false, false, true } },
		{ "MASKED_EQ", "\"value\": 1, \"valueTwo\": 1", { true, false, true } },
	};

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		for (int j = 0; j < 3; j++)
			CHECK_EQ(dup_under(rows[i].op, rows[i].rest, 99 + j), rows[i].refused[j] ? EPERM : 0);
	}
	/* all 64 bits are compared, and read */
	CHECK_EQ(dup_under("EQ", "\"value\": 100", 100 + (1L << 32)), 0);
	CHECK_EQ(dup_under("EQ", "\"value\": 18446744073709551615", -1), EPERM);
	CHECK_EQ(dup_under("EQ", "\"value\": 9223372036854775808", INT64_MIN), EPERM);
}

TEST(two_conditions_on_one_argument_are_two_rules)
{
	struct compiled c;

	compile(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"dup2\"], \"action\": "
		       "\"SCMP_ACT_ERRNO\", \"args\": [{\"index\": 1, \"op\": \"SCMP_CMP_EQ\", \"value\": 100}, "
		       "{\"index\": 1, \"op\": \"SCMP_CMP_EQ\", \"value\": 101}]}]"),
		&c);
	CHECK_EQ(under(&c, SYS_dup2, 1, 100), EPERM);
	CHECK_EQ(under(&c, SYS_dup2, 1, 101), EPERM);
	CHECK_EQ(under(&c, SYS_dup2, 1, 102), 0);
	oci_spec_fini(&c.spec);
}

TEST(refused)
{
	expect_error(CONFIG(""), "config.json:2: linux.seccomp.defaultAction must be set");
	expect_error(CONFIG("\"defaultAction\": \"ALLOW\""),
		     "config.json:2: linux.seccomp.defaultAction \"ALLOW\" is not a valid action for seccomp");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"architectures\": [\"SCMP_ARCH_Z80\"]"),
		     "config.json:2: linux.seccomp.architectures holds \"SCMP_ARCH_Z80\", which is not a valid arch for "
		     "seccomp");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"flags\": [\"X\"]"),
		     "config.json:2: linux.seccomp.flags holds \"X\", which is no flag of seccomp");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_NOTIFY\""),
		     "config.json:2: linux.seccomp.defaultAction SCMP_ACT_NOTIFY is not supported: no agent outside of "
		     "the sandbox can be asked");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"listenerPath\": \"/run/agent\""),
		     "config.json:2: linux.seccomp.listenerPath is not supported: no agent outside of the sandbox can be "
		     "asked");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [], \"action\": "
			    "\"SCMP_ACT_LOG\"}]"),
		     "config.json:2: linux.seccomp.syscalls[0].names must name a system call");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
			    "\"SCMP_ACT_LOG\", \"args\": [{\"index\": 6, \"op\": \"SCMP_CMP_EQ\", \"value\": 1}]}]"),
		     "config.json:2: linux.seccomp.syscalls[0].args[0].index must be 0 to 5");
	expect_error(CONFIG("\"defaultAction\": \"SCMP_ACT_ALLOW\", \"syscalls\": [{\"names\": [\"read\"], \"action\": "
			    "\"SCMP_ACT_LOG\", \"args\": [{\"index\": 1, \"op\": \"==\", \"value\": 1}]}]"),
		     "config.json:2: linux.seccomp.syscalls[0].args[0].op \"==\" is not a valid operator for seccomp");
}
