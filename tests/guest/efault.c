/* Bad pointers: at page ends, unmapped, in the kernel's half; partial copies. */
#include "tests/lib/guest.h"

#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>

TEST(read_partial)
{
	char *end = page_end();

	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDONLY));
	CHECK_EQ(read(fd, end - 4, 10), 4);
	CHECK_MEM(end - 4, "0123", 4);
	OK(lseek(fd, 0, SEEK_SET));
	ERR(read(fd, end, 10), EFAULT);
	ERR(read(fd, KERNEL_PTR, 10), EFAULT);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 0);
	CHECK_EQ(read(fd, BAD_PTR, 0), 0);
}

TEST(write_partial)
{
	char *end = page_end();
	struct stat st;
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	memcpy(end - 4, "abcd", 4);
	CHECK_EQ(write(fd, end - 4, 10), 4);
	ERR(write(fd, end, 10), EFAULT);
	ERR(write(fd, NULL, 1), EFAULT);
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 4);
}

TEST(pipe_bad_pointers)
{
	int p[2];
	char buf[8] = "";

	OK(pipe(p));
	ERR(write(p[1], BAD_PTR, 5), EFAULT);
	CHECK_EQ(write(p[1], "hello", 5), 5);
	ERR(read(p[0], BAD_PTR, 5), EFAULT);
	CHECK_EQ(read(p[0], buf, 5), 5);
	CHECK_STR(buf, "hello");
	ERR(syscall(SYS_pipe2, BAD_PTR, 0), EFAULT);
	ERR(syscall(SYS_pipe2, page_end() - 4, 0), EFAULT);
	int next = OK(dup(0));
	CHECK_EQ(next, p[1] + 1);
}

TEST(vectors)
{
	char *end = page_end();
	int p[2];
	struct iovec iov[2] = { { (void *)"ab", 2 }, { BAD_PTR, 4 } };

	OK(pipe(p));
	CHECK_EQ(writev(OK(open("f", O_RDWR | O_CREAT, 0644)), iov, 2), 2);
	CHECK_EQ(write(p[1], "ab", 2), 2);
	iov[0].iov_base = BAD_PTR;
	ERR(writev(p[1], iov, 2), EFAULT);
	ERR(writev(p[1], (void *)(end - 8), 1), EFAULT);
	ERR(readv(p[0], BAD_PTR, 1), EFAULT);
	iov[0] = (struct iovec){ end - 1, 1 };
	iov[1] = (struct iovec){ end, 1 };
	ERR(readv(p[0], iov, 2), EFAULT);
}

TEST(strings_at_page_end)
{
	char *end = page_end();

	strcpy(end - 10, "/dev/null");
	close(OK(open(end - 10, O_RDONLY)));
	memcpy(end - 9, "/dev/null", 9);
	ERR(open(end - 9, O_RDONLY), EFAULT);
	ERR(open(BAD_PTR, O_RDONLY), EFAULT);
	ERR(open(KERNEL_PTR, O_RDONLY), EFAULT);
	ERR(mkdir(BAD_PTR, 0755), EFAULT);
	ERR(unlink(BAD_PTR), EFAULT);
	ERR(rename("a", BAD_PTR), EFAULT);
	ERR(symlink(BAD_PTR, "l"), EFAULT);
	ERR(chdir(BAD_PTR), EFAULT);
	ERR(chmod(BAD_PTR, 0), EFAULT);
	ERR(truncate(BAD_PTR, 0), EFAULT);
	ERR(access(BAD_PTR, 0), EFAULT);
}

TEST(struct_results)
{
	char *end = page_end();

	ERR(syscall(SYS_fstat, 1, BAD_PTR), EFAULT);
	ERR(syscall(SYS_fstat, 1, end - 100), EFAULT);
	ERR(syscall(SYS_newfstatat, AT_FDCWD, "/", BAD_PTR, 0), EFAULT);
	ERR(syscall(SYS_uname, end - 10), EFAULT);
	ERR(syscall(SYS_sysinfo, BAD_PTR), EFAULT);
	ERR(syscall(SYS_statfs, "/", BAD_PTR), EFAULT);
	ERR(syscall(SYS_getrusage, 0, BAD_PTR), EFAULT);
	ERR(syscall(SYS_times, BAD_PTR), EFAULT);
	ERR(syscall(SYS_getrlimit, 7, BAD_PTR), EFAULT);
	ERR(syscall(SYS_readlink, "/proc/self/exe", BAD_PTR, 100), EFAULT);
	ERR(syscall(SYS_getcwd, BAD_PTR, 100), EFAULT);
	ERR(syscall(SYS_getresuid, BAD_PTR, BAD_PTR, BAD_PTR), EFAULT);
	ERR(syscall(SYS_sched_getaffinity, 0, 128, BAD_PTR), EFAULT);
	ERR(syscall(SYS_getdents64, OK(open("/", O_RDONLY)), BAD_PTR, 1000), EFAULT);
}

TEST(struct_arguments)
{
	ERR(syscall(SYS_nanosleep, BAD_PTR, NULL), EFAULT);
	ERR(syscall(SYS_rt_sigaction, SIGUSR1, BAD_PTR, NULL, 8), EFAULT);
	ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, BAD_PTR, 8), EFAULT);
	ERR(syscall(SYS_rt_sigprocmask, SIG_BLOCK, BAD_PTR, NULL, 8), EFAULT);
	ERR(syscall(SYS_setitimer, ITIMER_REAL, BAD_PTR, NULL), EFAULT);
	ERR(syscall(SYS_utimensat, AT_FDCWD, "/", BAD_PTR, 0), EFAULT);
	ERR(syscall(SYS_setgroups, 3, BAD_PTR), EFAULT);
	ERR(syscall(SYS_prlimit64, 0, 7, BAD_PTR, NULL), EFAULT);
	ERR(syscall(SYS_select, 5, BAD_PTR, NULL, NULL, NULL), EFAULT);
	ERR(syscall(SYS_sigaltstack, BAD_PTR, NULL), EFAULT);
	ERR(syscall(SYS_timer_create, CLOCK_MONOTONIC, BAD_PTR, NULL), EFAULT);
	ERR(syscall(SYS_sysinfo, KERNEL_PTR), EFAULT);
}

TEST(wait_status)
{
	CHILD(pid)
	{
		_exit(1);
	}
	ERR(wait4(pid, BAD_PTR, 0, NULL), EFAULT);
	/* The child is gone all the same. */
	ERR(wait4(pid, NULL, 0, NULL), ECHILD);
}

TEST(sockets)
{
	int sv[2], fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	socklen_t size = 16;
	char buf[16];

	ERR(syscall(SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, BAD_PTR), EFAULT);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ERR(bind(fd, BAD_PTR, 10), EFAULT);
	ERR(connect(fd, BAD_PTR, 10), EFAULT);
	ERR(getsockname(fd, BAD_PTR, &size), EFAULT);
	ERR(getsockname(fd, (void *)buf, BAD_PTR), EFAULT);
	ERR(getsockopt(fd, SOL_SOCKET, SO_TYPE, BAD_PTR, &size), EFAULT);
	ERR(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, BAD_PTR, 4), EFAULT);
	ERR(send(sv[0], BAD_PTR, 4, 0), EFAULT);
	CHECK_EQ(send(sv[0], "x", 1, 0), 1);
	ERR(recv(sv[1], BAD_PTR, 4, 0), EFAULT);
	ERR(sendmsg(sv[0], BAD_PTR, 0), EFAULT);
	size = (socklen_t)-1;
	ERR(getsockname(fd, (void *)buf, &size), EINVAL);
}

TEST(ioctls)
{
	int p[2];

	OK(pipe(p));
	ERR(ioctl(p[0], FIONREAD, BAD_PTR), EFAULT);
	ERR(ioctl(p[0], FIONBIO, BAD_PTR), EFAULT);
	ERR(ioctl(p[0], 0x12345, BAD_PTR), ENOTTY);
	ERR(ioctl(99, FIONREAD, BAD_PTR), EBADF);
}

TEST(epoll_and_poll)
{
	int p[2], ep = OK(epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLIN };

	OK(pipe(p));
	CHECK_EQ(write(p[1], "x", 1), 1);
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, p[0], &ev));
	ERR(epoll_wait(ep, BAD_PTR, 1, 0), EFAULT);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	ERR(poll(BAD_PTR, 1, 0), EFAULT);
}

TEST(read_only_target)
{
	char *p = OK(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	char *none = OK(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	int fd = OK(open("/dev/zero", O_RDWR));
	ERR(read(fd, p, 10), EFAULT);
	ERR(read(fd, none, 10), EFAULT);
	int out = OK(open("f", O_RDWR | O_CREAT, 0644));
	ERR(write(out, none, 10), EFAULT);
	CHECK_EQ(write(out, p, 10), 10);
}

TEST(large_sizes)
{
	static char buf[16];

	write_file("f", "x");
	int fd = OK(open("f", O_RDWR));
	ERR(read(fd, buf, (size_t)-1), EFAULT);
	CHECK_EQ(syscall(SYS_read, fd, buf, 0x7ffff000UL), 1);
	ERR(write(fd, (void *)(1UL << 46), 1UL << 40), EFAULT);
	ERR(syscall(SYS_getrandom, (void *)(1UL << 46), 1UL << 40, 0), EFAULT);
}
