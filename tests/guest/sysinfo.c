/* uname, sysinfo, getrandom, bad descriptors, unknown calls, seccomp, arch_prctl, ptrace basics. */
#include "tests/lib/guest.h"

#include <asm/prctl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/sysinfo.h>
#include <sys/user.h>
#include <sys/utsname.h>

TEST(uname_claims_linux)
{
	struct utsname u;
	int major = 0, minor = 0;

	OK(uname(&u));
	CHECK_STR(u.sysname, "Linux");
	CHECK_STR(u.machine, "x86_64");
	CHECK_STR(u.nodename, "guest");
	CHECK_EQ(sscanf(u.release, "%d.%d", &major, &minor), 2);
	CHECK(major > 5 || (major == 5 && minor >= 15));
}

TEST(sysinfo_fields)
{
	struct sysinfo info;

	OK(sysinfo(&info));
	CHECK(info.totalram > 0);
	CHECK(info.freeram <= info.totalram);
	CHECK(info.mem_unit > 0);
	CHECK(info.procs > 0);
	CHECK(get_nprocs() >= 1);
}

TEST(random_bytes)
{
	unsigned char a[64] = { 0 }, b[64] = { 0 };

	CHECK_EQ(getrandom(a, 64, 0), 64);
	CHECK_EQ(getrandom(b, 64, GRND_NONBLOCK), 64);
	CHECK(memcmp(a, b, 64) != 0);
	ERR(getrandom(a, 64, 0x80), EINVAL);
	ERR(getrandom(BAD_PTR, 64, 0), EFAULT);
	static char big[300000];
	CHECK_EQ(getrandom(big, sizeof(big), 0), sizeof(big));
}

TEST(bad_descriptors_everywhere)
{
	static const long calls[] = { SYS_read, SYS_write, SYS_close, SYS_fstat, SYS_lseek, SYS_ioctl,
				      SYS_dup, SYS_fcntl, SYS_fsync, SYS_fdatasync, SYS_ftruncate,
				      SYS_getdents64, SYS_fchdir, SYS_fchmod, SYS_fchown, SYS_listen,
				      SYS_shutdown, SYS_fallocate, SYS_fstatfs };

	for (size_t i = 0; i < COUNT(calls); i++) {
		errno = 0;
		long got = syscall(calls[i], 999, 0, 0, 0);
		if (got != -1 || errno != EBADF)
			test_fail(__FILE__, __LINE__, "call %ld: %ld errno %d", calls[i], got, errno);
		errno = 0;
		got = syscall(calls[i], -1, 0, 0, 0);
		if (got != -1 || errno != EBADF)
			test_fail(__FILE__, __LINE__, "call %ld of -1: %ld errno %d", calls[i], got, errno);
	}
}

TEST(sockets_calls_on_files)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	ERR(listen(fd, 1), ENOTSOCK);
	ERR(accept(fd, NULL, NULL), ENOTSOCK);
	ERR(send(fd, "x", 1, 0), ENOTSOCK);
	ERR(shutdown(fd, 0), ENOTSOCK);
	ERR(bind(fd, NULL, 0), ENOTSOCK);
}

TEST(unknown_calls)
{
	ERR(syscall(1000), ENOSYS);
	ERR(syscall(-1), ENOSYS);
	ERR(syscall(400), ENOSYS);
	ERR(syscall(0x7fffffff), ENOSYS);
	ERR(syscall(SYS_tuxcall), ENOSYS);
	ERR(syscall(SYS_create_module), ENOSYS);
}

TEST(arch_prctl_bases)
{
	unsigned long fs, gs;

	OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs));
	CHECK(fs != 0);
	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0x123456000UL));
	OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs));
	CHECK_EQ(gs, 0x123456000UL);
	ERR(syscall(SYS_arch_prctl, ARCH_SET_GS, KERNEL_PTR), EPERM);
	ERR(syscall(SYS_arch_prctl, 0x9999, 0), EINVAL);
	CHILD(pid)
	{
		unsigned long value;
		OK(syscall(SYS_arch_prctl, ARCH_GET_GS, &value));
		CHECK_EQ(value, 0x123456000UL);
		OK(syscall(SYS_arch_prctl, ARCH_GET_FS, &value));
		CHECK_EQ(value, fs);
	}
	WAIT_EXIT(pid, 0);
}

TEST(gs_relative_access)
{
	static long words[4] = { 11, 22, 33, 44 };
	long value;

	OK(syscall(SYS_arch_prctl, ARCH_SET_GS, words));
	__asm__ volatile("movq %%gs:8, %0" : "=r"(value));
	CHECK_EQ(value, 22);
	getppid();
	__asm__ volatile("movq %%gs:16, %0" : "=r"(value));
	CHECK_EQ(value, 33);
}

static void filter(uint32_t action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { COUNT(code), code };

	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog));
}

TEST(seccomp_filter_errno)
{
	filter(SECCOMP_RET_ERRNO | 77);
	errno = 0;
	CHECK_EQ(syscall(SYS_getppid), -1);
	CHECK_EQ(errno, 77);
	CHECK(getpid() > 0);
	CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
}

TEST(seccomp_filter_kill)
{
	CHILD(pid)
	{
		filter(SECCOMP_RET_KILL_PROCESS);
		syscall(SYS_getppid);
	}
	WAIT_SIGNAL(pid, SIGSYS);
}

TEST(seccomp_strict)
{
	CHILD(pid)
	{
		OK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		syscall(SYS_getppid);
	}
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(ptrace_syscall_stops)
{
	struct user_regs_struct regs;
	int status, stops = 0, seen = 0;

	CHILD(pid)
	{
		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		syscall(SYS_getppid);
		_exit(3);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(WSTOPSIG(status), SIGSTOP);
	OK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD));
	for (;;) {
		OK(ptrace(PTRACE_SYSCALL, pid, 0, 0));
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		CHECK_EQ(WSTOPSIG(status), SIGTRAP | 0x80);
		OK(ptrace(PTRACE_GETREGS, pid, 0, &regs));
		stops++;
		seen += regs.orig_rax == SYS_getppid;
	}
	CHECK_EQ(WEXITSTATUS(status), 3);
	CHECK_EQ(seen, 2);
	CHECK(stops >= 3);
}

TEST(ptrace_peek_and_attach)
{
	static long word = 42;
	int status;

	CHILD(pid)
	{
		for (;;)
			pause();
	}
	OK(ptrace(PTRACE_ATTACH, pid, 0, 0));
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &word, 0), 42);
	OK(ptrace(PTRACE_POKEDATA, pid, &word, 43));
	CHECK_EQ(ptrace(PTRACE_PEEKDATA, pid, &word, 0), 43);
	CHECK_EQ(word, 42);
	OK(ptrace(PTRACE_DETACH, pid, 0, 0));
	OK(kill(pid, SIGKILL));
	WAIT_SIGNAL(pid, SIGKILL);
	ERR(ptrace(PTRACE_PEEKDATA, 999999, 0, 0), ESRCH);
}
