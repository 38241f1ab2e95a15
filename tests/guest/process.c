/* fork, vfork, clone, clone3, prctl, rlimits of processes. */
#include "tests/lib/guest.h"

#include <linux/sched.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>

static int child_returns(void *arg)
{
	return (int)(long)arg;
}

static char clone_stack[65536] __attribute__((aligned(16)));
#define STACK_TOP (clone_stack + sizeof(clone_stack))

TEST(fork_ids)
{
	pid_t self = getpid();

	CHILD(pid)
	{
		CHECK_EQ(getppid(), self);
		CHECK(getpid() != self);
		CHECK_EQ(getpid(), gettid());
	}
	WAIT_EXIT(pid, 0);
}

TEST(exit_code_is_eight_bits)
{
	CHILD(pid)
	{
		_exit(0x1234);
	}
	WAIT_EXIT(pid, 0x34);
}

TEST(fork_copies_descriptors)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHILD(pid)
	{
		close(fd);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(write(fd, "x", 1), 1);
}

static volatile int vfork_value;

TEST(vfork_shares_memory_and_waits)
{
	vfork_value = 1;
	pid_t pid = vfork();
	if (pid == 0) {
		usleep(20000);
		vfork_value = 2;
		_exit(3);
	}
	CHECK_EQ(vfork_value, 2);
	WAIT_EXIT(pid, 3);
}

TEST(vfork_parent_resumes_at_exec)
{
	long long start = now_ms();
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/bin/busybox", "sleep", "0.5", NULL);
		_exit(127);
	}
	CHECK(now_ms() - start < 450);
	WAIT_EXIT(pid, 0);
}

TEST(vfork_parent_resumes_at_kill)
{
	pid_t pid = vfork();

	if (pid == 0) {
		kill(getpid(), SIGKILL);
		_exit(1);
	}
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(clone_exit_signal)
{
	on_signal(SIGUSR1, catch_signal, 0);
	pid_t pid = OK(clone(child_returns, STACK_TOP, SIGUSR1, (void *)5));
	int status;
	ERR(waitpid(pid, &status, 0), ECHILD);
	CHECK_EQ(waitpid(pid, &status, __WALL), pid);
	CHECK_EQ(WEXITSTATUS(status), 5);
	CHECK_EQ(caught_count, 1);
	pid = OK(clone(child_returns, STACK_TOP, 0, (void *)6));
	CHECK_EQ(waitpid(pid, &status, __WCLONE), pid);
	CHECK_EQ(WEXITSTATUS(status), 6);
}

static int change_things(void *arg)
{
	vfork_value = 9;
	close((int)(long)arg);
	chdir("/");
	umask(0);
	return 0;
}

TEST(clone_shares_vm_files_fs)
{
	char cwd[64];
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), status;
	pid_t pid = OK(clone(change_things, STACK_TOP, CLONE_VM | CLONE_FILES | CLONE_FS | SIGCHLD,
			     (void *)(long)fd));

	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(vfork_value, 9);
	ERR(fcntl(fd, F_GETFD), EBADF);
	CHECK(getcwd(cwd, sizeof(cwd)));
	CHECK_STR(cwd, "/");
	CHECK_EQ(umask(022), 0);
}

TEST(clone_flag_errors)
{
	ERR(syscall(SYS_clone, CLONE_THREAD | SIGCHLD, 0, 0, 0, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_SIGHAND | SIGCHLD, 0, 0, 0, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_NEWNS | CLONE_FS | SIGCHLD, 0, 0, 0, 0), EINVAL);
	ERR(syscall(SYS_clone, CLONE_PIDFD | CLONE_PARENT_SETTID | SIGCHLD, 0, BAD_PTR, 0, 0), EINVAL);
}

TEST(clone_tids)
{
	static volatile int parent_tid, child_tid;

	long pid = OK(syscall(SYS_clone, CLONE_PARENT_SETTID | CLONE_CHILD_SETTID | SIGCHLD, 0,
			      &parent_tid, &child_tid, 0));
	if (pid == 0)
		_exit(child_tid == getpid() ? 0 : 1);
	CHECK_EQ(parent_tid, pid);
	CHECK_EQ(child_tid, 0);
	WAIT_EXIT((pid_t)pid, 0);
}

TEST(clone3_basics)
{
	int pidfd = -1;
	struct clone_args args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)&pidfd,
				   .exit_signal = SIGCHLD };

	long pid = OK(syscall(SYS_clone3, &args, sizeof(args)));
	if (pid == 0) {
		msleep(20);
		_exit(4);
	}
	CHECK(pidfd >= 0);
	struct pollfd pfd = { pidfd, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	siginfo_t info;
	OK(waitid((idtype_t)3 /* P_PIDFD */, (id_t)pidfd, &info, WEXITED));
	CHECK_EQ(info.si_pid, pid);
	CHECK_EQ(info.si_status, 4);
	args.flags = 0;
	args.exit_signal = 100;
	ERR(syscall(SYS_clone3, &args, sizeof(args)), EINVAL);
	ERR(syscall(SYS_clone3, &args, 8), EINVAL);
	ERR(syscall(SYS_clone3, BAD_PTR, sizeof(args)), EFAULT);
	args.exit_signal = SIGCHLD;
	args.flags = CLONE_DETACHED;
	ERR(syscall(SYS_clone3, &args, sizeof(args)), EINVAL);
}

TEST(pidfd_signal_and_getfd)
{
	int p[2];

	OK(pipe(p));
	CHILD(pid)
	{
		int mine = OK(dup2(p[1], 100));
		(void)mine;
		pause();
	}
	int pidfd = (int)OK(syscall(SYS_pidfd_open, pid, 0));
	msleep(20);
	int got = (int)OK(syscall(SYS_pidfd_getfd, pidfd, 100, 0));
	CHECK_EQ(write(got, "x", 1), 1);
	OK(syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0));
	WAIT_SIGNAL(pid, SIGTERM);
	ERR(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), ESRCH);
	ERR(syscall(SYS_pidfd_open, 999999, 0), ESRCH);
	ERR(syscall(SYS_pidfd_open, getpid(), 1), EINVAL);
	ERR(syscall(SYS_pidfd_send_signal, 1, 0, NULL, 0), EBADF);
}

TEST(orphan_goes_to_subreaper_or_init)
{
	int p[2];
	char byte;
	pid_t new_parent = 0;

	OK(prctl(PR_SET_CHILD_SUBREAPER, 1));
	OK(pipe(p));
	CHILD(pid)
	{
		CHILD(grandchild)
		{
			pid_t before = getppid(), now;
			write(p[1], "x", 1);
			while ((now = getppid()) == before)
				msleep(2);
			write(p[1], &now, sizeof(now));
		}
		CHECK_EQ(read(p[0], &byte, 1), 1);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(read(p[0], &new_parent, sizeof(new_parent)), sizeof(new_parent));
	CHECK_EQ(new_parent, getpid());
	CHECK(wait(NULL) > 0);
}

TEST(parent_death_signal)
{
	int p[2];
	char byte;

	OK(pipe(p));
	CHILD(pid)
	{
		CHILD(grandchild)
		{
			OK(prctl(PR_SET_PDEATHSIG, SIGKILL));
			write(p[1], "x", 1);
			for (;;)
				pause();
		}
		CHECK_EQ(read(p[0], &byte, 1), 1);
	}
	close(p[1]);
	WAIT_EXIT(pid, 0);
	CHECK_EQ(read(p[0], &byte, 1), 0);
}

TEST(prctl_name_and_flags)
{
	char name[17] = "";

	OK(prctl(PR_SET_NAME, "a-very-long-name-indeed"));
	OK(prctl(PR_GET_NAME, name));
	CHECK_STR(name, "a-very-long-nam");
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 1);
	OK(prctl(PR_SET_DUMPABLE, 0));
	CHECK_EQ(prctl(PR_GET_DUMPABLE), 0);
	ERR(prctl(PR_SET_DUMPABLE, 7), EINVAL);
	int signo;
	OK(prctl(PR_SET_PDEATHSIG, SIGUSR1));
	OK(prctl(PR_GET_PDEATHSIG, &signo));
	CHECK_EQ(signo, SIGUSR1);
	ERR(prctl(PR_SET_PDEATHSIG, 100), EINVAL);
	ERR(prctl(99999), EINVAL);
	CHECK(prctl(PR_GET_TIMERSLACK) > 0);
}

TEST(rlimits_inherit_and_check)
{
	struct rlimit lim = { 100, 200 }, got;

	OK(setrlimit(RLIMIT_NOFILE, &lim));
	CHILD(pid)
	{
		OK(getrlimit(RLIMIT_NOFILE, &got));
		CHECK_EQ(got.rlim_cur, 100);
		CHECK_EQ(got.rlim_max, 200);
		become_user(1000);
		lim.rlim_max = 300;
		ERR(setrlimit(RLIMIT_NOFILE, &lim), EPERM);
		lim = (struct rlimit){ 201, 200 };
		ERR(setrlimit(RLIMIT_NOFILE, &lim), EINVAL);
	}
	WAIT_EXIT(pid, 0);
	ERR(getrlimit(99, &got), EINVAL);
	ERR(syscall(SYS_prlimit64, 999999, RLIMIT_NOFILE, NULL, &got), ESRCH);
	ERR(getrlimit(RLIMIT_NOFILE, BAD_PTR), EFAULT);
}

TEST(nproc_limit)
{
	CHILD(pid)
	{
		struct rlimit lim = { 1, 1 };
		OK(setrlimit(RLIMIT_NPROC, &lim));
		become_user(4321);
		ERR(fork(), EAGAIN);
	}
	WAIT_EXIT(pid, 0);
}

TEST(priority)
{
	errno = 0;
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), 0);
	OK(setpriority(PRIO_PROCESS, 0, 5));
	CHECK_EQ(getpriority(PRIO_PROCESS, 0), 5);
	CHECK_EQ(syscall(SYS_getpriority, PRIO_PROCESS, 0), 15);
	CHECK_EQ(nice(3), 8);
	CHILD(pid)
	{
		CHECK_EQ(getpriority(PRIO_PROCESS, 0), 8);
		become_user(1000);
		struct rlimit lim = { 0, 0 };
		setrlimit(RLIMIT_NICE, &lim);
		ERR(setpriority(PRIO_PROCESS, 0, 0), EACCES);
	}
	WAIT_EXIT(pid, 0);
	ERR(getpriority(9, 0), EINVAL);
	ERR(getpriority(PRIO_PROCESS, 999999), ESRCH);
}

TEST(scheduling_calls)
{
	cpu_set_t set;
	struct sched_param param = { 0 };

	CPU_ZERO(&set);
	OK(sched_getaffinity(0, sizeof(set), &set));
	CHECK(CPU_COUNT(&set) >= 1);
	OK(sched_setaffinity(0, sizeof(set), &set));
	CPU_ZERO(&set);
	ERR(sched_setaffinity(0, sizeof(set), &set), EINVAL);
	CHECK_EQ(sched_getscheduler(0), SCHED_OTHER);
	OK(sched_getparam(0, &param));
	CHECK_EQ(param.sched_priority, 0);
	CHECK_EQ(sched_get_priority_max(SCHED_FIFO), 99);
	CHECK_EQ(sched_get_priority_min(SCHED_OTHER), 0);
	ERR(sched_get_priority_max(77), EINVAL);
	OK(sched_yield());
	ERR(sched_getscheduler(999999), ESRCH);
	OK(sched_setscheduler(0, SCHED_BATCH, &param));
	CHECK_EQ(sched_getscheduler(0), SCHED_BATCH);
}

TEST(fork_storm)
{
	for (int i = 0; i < 100; i++) {
		CHILD(pid)
		{
			_exit(i);
		}
	}
	int sum = 0, status;
	for (int i = 0; i < 100; i++) {
		CHECK(wait(&status) > 0);
		sum += WEXITSTATUS(status);
	}
	CHECK_EQ(sum, 4950);
	ERR(wait(&status), ECHILD);
}

TEST(clone_with_a_signal_out_of_range)
{
	for (int signo = 65; signo < 256; signo += 10) {
		long pid = OK(syscall(SYS_clone, signo, 0, 0, 0, 0));

		if (pid == 0)
			_exit(5);
		ERR(waitpid((pid_t)pid, NULL, WNOHANG), ECHILD);
		int status;
		CHECK_EQ(waitpid((pid_t)pid, &status, __WCLONE), pid);
		CHECK_EQ(WEXITSTATUS(status), 5);
	}
}
