/*
 * What a process is told of itself, asked so often that a sandbox may answer in another way than at first: never stale, and
 * never past somebody who wants to see the calls.
 */
#include "tests/lib/guest.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>

enum { HOT = 2000 };

/* One place for all of them, made hot. */
static __attribute__((noinline)) long ask(long nr)
{
	return syscall(nr);
}

static void heat(void)
{
	for (int i = 0; i < HOT; i++)
		ask(SYS_getpid);
}

TEST(fork_has_its_own)
{
	pid_t parent = getpid();

	heat();
	CHECK_EQ(ask(SYS_getpid), parent);
	CHILD(pid) {
		CHECK(ask(SYS_getpid) != parent);
		CHECK_EQ(ask(SYS_getpid), ask(SYS_gettid));
		heat();
		CHECK(ask(SYS_getpid) != parent);
		CHECK_EQ(getppid(), parent);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(ask(SYS_getpid), parent);
}

static void *thread_main(void *arg)
{
	long tid = ask(SYS_gettid);

	for (int i = 0; i < HOT; i++)
		if (ask(SYS_gettid) != tid || ask(SYS_getpid) == tid)
			return NULL;
	*(long *)arg = tid;
	return NULL;
}

TEST(threads_have_their_own)
{
	pthread_t thread[3];
	long tid[3] = { 0 };

	heat();
	for (int i = 0; i < 3; i++)
		OK(pthread_create(&thread[i], NULL, thread_main, &tid[i]));
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	CHECK(tid[0] > 0 && tid[1] > 0 && tid[2] > 0);
	CHECK(tid[0] != tid[1] && tid[1] != tid[2] && tid[0] != tid[2]);
}

TEST(ids_change)
{
	heat();
	for (unsigned int i = 1; i < 50; i++) {
		OK(syscall(SYS_setresgid, i + 100, i + 200, 0));
		CHECK_EQ(ask(SYS_getgid), i + 100);
		CHECK_EQ(ask(SYS_getegid), i + 200);
		OK(syscall(SYS_setresuid, i, 0, 0));
		CHECK_EQ(ask(SYS_getuid), i);
		CHECK_EQ(ask(SYS_geteuid), 0);
	}
	OK(syscall(SYS_setresuid, 7, 8, 9));
	CHECK_EQ(ask(SYS_getuid), 7);
	CHECK_EQ(ask(SYS_geteuid), 8);
}

TEST(filter_sees_them)
{
	struct sock_filter code[] = {
		{ BPF_LD | BPF_W | BPF_ABS, 0, 0, 0 }, /* the number */
		{ BPF_JMP | BPF_JEQ | BPF_K, 0, 1, SYS_getpid },
		{ BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | 77 },
		{ BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW },
	};
	struct sock_fprog prog = { COUNT(code), code };

	heat();
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
	for (int i = 0; i < 100; i++)
		ERR(ask(SYS_getpid), 77);
}

TEST(tracer_sees_them)
{
	struct user_regs_struct r;
	int seen = 0, st;

	CHILD(pid) {
		heat();
		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		for (int i = 0; i < 20; i++)
			ask(SYS_getpid);
	}
	OK(waitpid(pid, &st, 0));
	CHECK(WIFSTOPPED(st));
	while (ptrace(PTRACE_SYSCALL, pid, 0, 0) == 0 && waitpid(pid, &st, 0) == pid && WIFSTOPPED(st))
		if (ptrace(PTRACE_GETREGS, pid, 0, &r) == 0 && r.orig_rax == SYS_getpid)
			seen++;
	CHECK(WIFEXITED(st) && WEXITSTATUS(st) == 0);
	CHECK_EQ(seen, 40);
}
