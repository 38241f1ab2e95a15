/* seccomp(2): each action of a filter, arguments, threads, listeners (seccomp_unotify(2)). */
#include "tests/lib/guest.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

static long seccomp(unsigned op, unsigned flags, void *arg)
{
	return syscall(SYS_seccomp, op, flags, arg);
}

/* For one call number: action; everything else is allowed. */
static long install(unsigned nr, unsigned action, unsigned flags)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { COUNT(code), code };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return -1;
	return seccomp(SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static volatile sig_atomic_t sys_nr, sys_code, sys_errno;
static unsigned sys_arch;

static void on_sigsys(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	sys_nr = info->si_syscall;
	sys_code = info->si_code;
	sys_errno = info->si_errno;
	sys_arch = info->si_arch;
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RAX] = 4321;
}

TEST(trap_tells_the_handler)
{
	struct sigaction sa = { .sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGSYS, &sa, NULL));
	OK(install(SYS_getppid, SECCOMP_RET_TRAP | 99, 0));
	CHECK_EQ(syscall(SYS_getppid), 4321);
	CHECK_EQ(sys_nr, SYS_getppid);
	CHECK_EQ(sys_code, 1); /* SYS_SECCOMP */
	CHECK_EQ(sys_errno, 99);
	CHECK_EQ(sys_arch, AUDIT_ARCH_X86_64);
}

TEST(trap_without_handler_kills)
{
	CHILD(pid) {
		OK(install(SYS_getppid, SECCOMP_RET_TRAP, 0));
		syscall(SYS_getppid);
	}
	WAIT_SIGNAL(pid, SIGSYS);
}

TEST(log_allows)
{
	OK(install(SYS_getppid, SECCOMP_RET_LOG, SECCOMP_FILTER_FLAG_LOG));
	CHECK(syscall(SYS_getppid) > 0);
}

TEST(errno_is_bounded)
{
	OK(install(SYS_getppid, SECCOMP_RET_ERRNO | 0xffff, 0));
	ERR(syscall(SYS_getppid), 4095);
}

TEST(errno_zero_is_success)
{
	OK(install(SYS_getppid, SECCOMP_RET_ERRNO, 0));
	CHECK_EQ(syscall(SYS_getppid), 0);
}

static void *thread_that_calls(void *arg)
{
	OK(install(SYS_getppid, *(unsigned *)arg, 0));
	syscall(SYS_getppid);
	return NULL;
}

TEST(kill_thread_spares_the_others)
{
	unsigned action = SECCOMP_RET_KILL_THREAD;
	pthread_t thread;

	CHILD(pid) {
		OK(pthread_create(&thread, NULL, thread_that_calls, &action));
		while (!strstr(read_file("/proc/self/status"), "Threads:\t1\n"))
			msleep(1);
		_exit(7);
	}
	WAIT_EXIT(pid, 7);
}

TEST(kill_process_ends_all)
{
	unsigned action = SECCOMP_RET_KILL_PROCESS;
	pthread_t thread;

	CHILD(pid) {
		OK(pthread_create(&thread, NULL, thread_that_calls, &action));
		for (;;)
			pause();
	}
	WAIT_SIGNAL(pid, SIGSYS);
}

TEST(unknown_action_kills)
{
	CHILD(pid) {
		OK(install(SYS_getppid, 0x00010000, 0));
		syscall(SYS_getppid);
	}
	WAIT_SIGNAL(pid, SIGSYS);
}

TEST(strongest_filter_wins)
{
	OK(install(SYS_getppid, SECCOMP_RET_ERRNO | 5, 0));
	OK(install(SYS_getppid, SECCOMP_RET_LOG, 0));
	ERR(syscall(SYS_getppid), 5);
	OK(install(SYS_getppid, SECCOMP_RET_ERRNO | 6, 0));
	ERR(syscall(SYS_getppid), 6);
	CHECK(strstr(read_file("/proc/self/status"), "Seccomp:\t2\nSeccomp_filters:\t3\n") != NULL);
}

/* A call that is always allowed by one filter is not by another. */
TEST(later_filter_takes_away)
{
	pid_t pid = getpid();

	OK(install(SYS_getppid, SECCOMP_RET_ERRNO | 5, 0));
	for (int i = 0; i < 2000; i++)
		CHECK_EQ(syscall(SYS_getpid), pid);
	OK(install(SYS_getpid, SECCOMP_RET_ERRNO | 8, 0));
	for (int i = 0; i < 100; i++)
		ERR(syscall(SYS_getpid), 8);
	ERR(syscall(SYS_getppid), 5);
	CHECK_EQ(syscall(SYS_gettid), pid);
}

TEST(arguments_decide)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_dup2, 0, 5),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 100, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 50),
	};
	struct sock_fprog prog = { COUNT(code), code };

	code[1].jf = 4;
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog));
	CHECK_EQ(syscall(SYS_dup2, 1, 200), 200);
	ERR(syscall(SYS_dup2, 1, 100), 50);
	CHECK_EQ(syscall(SYS_dup2, 1, 101), 101);
}

/* Run by the next case too, as a program of its own. */
TEST(after_exec)
{
	if (getenv("AFTER_EXEC"))
		ERR(syscall(SYS_getppid), 5);
	else
		CHECK(syscall(SYS_getppid) > 0);
}

TEST(inherited_and_kept_over_exec)
{
	CHILD(pid) {
		OK(install(SYS_getppid, SECCOMP_RET_ERRNO | 5, 0));
		CHILD(inner) {
			ERR(syscall(SYS_getppid), 5);
			setenv("AFTER_EXEC", "1", 1);
			execl("/proc/self/exe", "seccomp", "after_exec", NULL);
		}
		WAIT_EXIT(inner, 0);
	}
	WAIT_EXIT(pid, 0);
}

TEST(needs_no_new_privs_or_admin)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { COUNT(code), code };

	become_user(1000);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog), EACCES);
	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	OK(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog));
	CHECK_EQ(prctl(PR_GET_SECCOMP), 2);
}

TEST(bad_arguments)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { COUNT(code), code }, none = { 0, code }, far = { COUNT(code), BAD_PTR };
	unsigned action = SECCOMP_RET_USER_NOTIF, unknown = 0x12340000;
	struct seccomp_notif_sizes sizes = { 0 };

	OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	ERR(seccomp(99, 0, NULL), EINVAL);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, 1u << 30, &prog), EINVAL);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &none), EINVAL);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, &far), EFAULT);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, 0, BAD_PTR), EFAULT);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC, &prog), EINVAL);
	ERR(seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog), EINVAL);
	ERR(seccomp(SECCOMP_SET_MODE_STRICT, 1, NULL), EINVAL);
	OK(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &action));
	ERR(seccomp(SECCOMP_GET_ACTION_AVAIL, 0, &unknown), EOPNOTSUPP);
	OK(seccomp(SECCOMP_GET_NOTIF_SIZES, 0, &sizes));
	CHECK_EQ(sizes.seccomp_notif, sizeof(struct seccomp_notif));
	CHECK_EQ(sizes.seccomp_notif_resp, sizeof(struct seccomp_notif_resp));
	CHECK_EQ(sizes.seccomp_data, sizeof(struct seccomp_data));
	ERR(seccomp(SECCOMP_GET_NOTIF_SIZES, 1, &sizes), EINVAL);
}

static volatile int synced;

static void *thread_that_is_synced(void *arg)
{
	while (!synced)
		sched_yield();
	errno = 0;
	*(long *)arg = syscall(SYS_getppid) == -1 ? errno : 0;
	return NULL;
}

TEST(tsync_reaches_running_threads)
{
	pthread_t thread[2];
	long result[2] = { 0 };

	for (int i = 0; i < 2; i++)
		OK(pthread_create(&thread[i], NULL, thread_that_is_synced, &result[i]));
	CHECK_EQ(install(SYS_getppid, SECCOMP_RET_ERRNO | 33, SECCOMP_FILTER_FLAG_TSYNC), 0);
	synced = 1;
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		CHECK_EQ(result[i], 33);
	}
}

/* A tracer lets a call pass, skips one, and turns one into another, which the filter judges again. */
TEST(tracer_decides)
{
	struct user_regs_struct r;
	unsigned long message;
	int st, stops = 0;
	pid_t parent = getpid();

	CHILD(pid) {
		struct sock_filter code[] = {
			BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE | 17),
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getpgrp, 0, 1),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 71),
			BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		};
		struct sock_fprog prog = { COUNT(code), code };

		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		OK(seccomp(SECCOMP_SET_MODE_FILTER, 0, &prog));
		CHECK_EQ(syscall(SYS_getppid), parent);
		CHECK_EQ(syscall(SYS_getppid), 4242);
		ERR(syscall(SYS_getppid), 71);
		CHECK_EQ(syscall(SYS_getppid), getuid());
		CHECK_EQ(syscall(SYS_getppid), 4242);
		_exit(9);
	}
	OK(waitpid(pid, &st, 0));
	OK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESECCOMP));
	while (ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &st, 0) == pid && WIFSTOPPED(st)) {
		if (st >> 8 != (SIGTRAP | PTRACE_EVENT_SECCOMP << 8))
			continue;
		OK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message));
		CHECK_EQ(message, 17);
		OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
		CHECK_EQ(r.orig_rax, SYS_getppid);
		switch (stops++) {
		case 1:
		case 4:
			r.orig_rax = (unsigned long)-1;
			r.rax = 4242;
			break;
		case 2:
			r.orig_rax = SYS_getpgrp;
			break;
		case 3:
			r.orig_rax = SYS_getuid;
			break;
		default: /* passes */
			break;
		}
		OK(ptrace(PTRACE_SETREGS, pid, 0, &r));
	}
	CHECK(WIFEXITED(st));
	CHECK_EQ(WEXITSTATUS(st), 9);
	CHECK_EQ(stops, 5);
}

TEST(trace_without_tracer_is_enosys)
{
	OK(install(SYS_getppid, SECCOMP_RET_TRACE, 0));
	ERR(syscall(SYS_getppid), ENOSYS);
}

TEST(notify_without_listener_is_enosys)
{
	OK(install(SYS_getppid, SECCOMP_RET_USER_NOTIF, 0));
	ERR(syscall(SYS_getppid), ENOSYS);
}

/* Two processes around a listener: the child's calls of nr wait for us. body runs in the child. */
struct listening {
	pid_t pid;
	int fd;
};

static int pass_fd(int sock, int fd)
{
	char byte = 'x', control[CMSG_SPACE(sizeof(int))] = { 0 };
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return sendmsg(sock, &m, 0) == 1 ? 0 : -1;
}

static int take_fd(int sock)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	int fd = -1;

	if (recvmsg(sock, &m, 0) == 1 && CMSG_FIRSTHDR(&m))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

static struct listening listen_to(unsigned nr, unsigned flags, void (*body)(void))
{
	struct listening l;
	int pair[2];

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	CHILD(pid) {
		long fd = install(nr, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER | flags);

		OK(fd);
		CHECK_EQ(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
		OK(pass_fd(pair[1], (int)fd));
		close((int)fd);
		close(pair[0]);
		close(pair[1]);
		body();
		_exit(0);
	}
	close(pair[1]);
	l.pid = pid;
	l.fd = take_fd(pair[0]);
	close(pair[0]);
	CHECK(l.fd >= 0);
	return l;
}

static void body_answers(void)
{
	CHECK_EQ(syscall(SYS_getppid, 11, 22, 33, 44, 55, 66), 1234);
	ERR(syscall(SYS_getppid), EXDEV);
	CHECK(syscall(SYS_getppid) > 0);
	CHECK(syscall(SYS_getppid) > 0);
	ERR(syscall(SYS_getppid), ENOSYS); /* the listener is closed */
}

TEST(listener_answers)
{
	struct listening l = listen_to(SYS_getppid, 0, body_answers);
	struct seccomp_notif n = { 0 };
	struct seccomp_notif_resp r = { 0 };
	struct pollfd p = { l.fd, POLLIN | POLLOUT, 0 };
	unsigned long long first;

	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(p.revents, POLLIN);
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	CHECK_EQ(n.pid, l.pid);
	CHECK_EQ(n.flags, 0);
	CHECK_EQ(n.data.nr, SYS_getppid);
	CHECK_EQ(n.data.arch, AUDIT_ARCH_X86_64);
	for (unsigned i = 0; i < 6; i++)
		CHECK_EQ(n.data.args[i], 11 * (i + 1));
	CHECK_EQ(poll(&p, 1, 0), 1);
	CHECK_EQ(p.revents, POLLOUT);
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
	first = n.id;
	r.id = n.id + 100;
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r), ENOENT);
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &r.id), ENOENT);
	r.id = n.id;
	r.val = 1;
	r.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
	r.flags = 1u << 9;
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r), EINVAL);
	r.flags = 0;
	r.val = 1234;
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	/* not a zeroed buffer, then the second call: an errno */
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n), EINVAL);
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, BAD_PTR), EFAULT);
	memset(&n, 0, sizeof(n));
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	CHECK(n.id != first);
	r = (struct seccomp_notif_resp){ .id = n.id, .error = -EXDEV };
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	/* the third and fourth run */
	for (int i = 0; i < 2; i++) {
		memset(&n, 0, sizeof(n));
		OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
		r = (struct seccomp_notif_resp){ .id = n.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };
		OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	}
	memset(&n, 0, sizeof(n));
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	OK(close(l.fd));
	WAIT_EXIT(l.pid, 0);
}

static void body_takes_fd(void)
{
	char text[8] = { 0 };
	long fd = syscall(SYS_getppid);

	CHECK_EQ(fcntl((int)fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(pread((int)fd, text, 5, 0), 5);
	CHECK_STR(text, "given");
	CHECK_EQ(pread(77, text, 5, 0), 5);
	CHECK_EQ(fcntl(77, F_GETFD), 0);
	CHECK_EQ(syscall(SYS_getppid), 55);
}

TEST(listener_adds_descriptors)
{
	struct listening l;
	struct seccomp_notif n = { 0 };
	struct seccomp_notif_resp r = { 0 };
	struct seccomp_notif_addfd a = { 0 };
	int file;

	write_file("given", "given");
	file = open("given", O_RDONLY);
	l = listen_to(SYS_getppid, 0, body_takes_fd);
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	a = (struct seccomp_notif_addfd){ .id = n.id + 7, .srcfd = (unsigned)file };
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), ENOENT);
	a = (struct seccomp_notif_addfd){ .id = n.id, .srcfd = 999 };
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EBADF);
	a = (struct seccomp_notif_addfd){ .id = n.id, .srcfd = (unsigned)file, .newfd = 77 };
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EINVAL);
	a.flags = SECCOMP_ADDFD_FLAG_SETFD;
	a.newfd_flags = O_NONBLOCK;
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), EINVAL);
	a.newfd_flags = 0;
	CHECK_EQ(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a), 77);
	/* a second one, which is the answer too */
	a = (struct seccomp_notif_addfd){ .id = n.id, .srcfd = (unsigned)file, .newfd_flags = O_CLOEXEC,
					  .flags = SECCOMP_ADDFD_FLAG_SEND };
	CHECK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a) > 2);
	memset(&n, 0, sizeof(n));
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	r = (struct seccomp_notif_resp){ .id = n.id, .val = 55 };
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	WAIT_EXIT(l.pid, 0);
	close(l.fd);
}

static void body_once(void)
{
	syscall(SYS_getppid);
}

TEST(listener_sees_the_end)
{
	struct listening l = listen_to(SYS_getppid, 0, body_once);
	struct seccomp_notif n = { 0 };
	struct pollfd p = { l.fd, POLLIN, 0 };

	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	OK(kill(l.pid, SIGKILL));
	WAIT_SIGNAL(l.pid, SIGKILL);
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id), ENOENT);
	CHECK_EQ(poll(&p, 1, 10000), 1);
	CHECK_EQ(p.revents, POLLHUP);
	memset(&n, 0, sizeof(n));
	ERR(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n), ENOENT);
	ERR(ioctl(l.fd, 12345, 0), EINVAL);
	ERR(read(l.fd, &n, sizeof(n)), EINVAL);
}

static void body_interrupted(void)
{
	on_signal(SIGUSR1, catch_signal, 0);
	ERR(syscall(SYS_getppid), EINTR);
	CHECK_EQ(caught_count, 1);
	on_signal(SIGUSR1, catch_signal, SA_RESTART);
	CHECK_EQ(syscall(SYS_getppid), 77);
	CHECK_EQ(caught_count, 2);
}

TEST(signals_end_the_wait)
{
	struct listening l = listen_to(SYS_getppid, 0, body_interrupted);
	struct seccomp_notif n = { 0 };
	struct seccomp_notif_resp r;

	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	OK(kill(l.pid, SIGUSR1));
	/* the next one, which restarts under a new number */
	memset(&n, 0, sizeof(n));
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	OK(kill(l.pid, SIGUSR1));
	r.id = n.id;
	memset(&n, 0, sizeof(n));
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	CHECK(n.id != r.id);
	r = (struct seccomp_notif_resp){ .id = n.id, .val = 77 };
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	WAIT_EXIT(l.pid, 0);
	close(l.fd);
}

static void body_killable(void)
{
	on_signal(SIGUSR1, catch_signal, 0);
	CHECK_EQ(syscall(SYS_getppid), 88);
	CHECK_EQ(caught_count, 1);
}

TEST(killable_wait_is_not_interrupted)
{
	struct listening l = listen_to(SYS_getppid, SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, body_killable);
	struct seccomp_notif n = { 0 };
	struct seccomp_notif_resp r;

	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_RECV, &n));
	OK(kill(l.pid, SIGUSR1));
	msleep(50);
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n.id));
	r = (struct seccomp_notif_resp){ .id = n.id, .val = 88 };
	OK(ioctl(l.fd, SECCOMP_IOCTL_NOTIF_SEND, &r));
	WAIT_EXIT(l.pid, 0);
	close(l.fd);
}

TEST(one_listener_only)
{
	long fd = install(SYS_getppid, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER);

	OK(fd);
	ERR(install(SYS_getpgrp, SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER), EBUSY);
	OK(close((int)fd));
	ERR(syscall(SYS_getppid), ENOSYS);
}
