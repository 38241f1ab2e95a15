/* eventfd, timerfd, signalfd. */
#include "tests/lib/guest.h"

#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

TEST(eventfd_counts)
{
	int fd = OK(eventfd(3, 0));
	uint64_t value = 4;

	CHECK_EQ(write(fd, &value, 8), 8);
	CHECK_EQ(read(fd, &value, 8), 8);
	CHECK_EQ(value, 7);
}

TEST(eventfd_nonblock_empty)
{
	int fd = OK(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
	uint64_t value;

	ERR(read(fd, &value, 8), EAGAIN);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
}

TEST(eventfd_semaphore)
{
	int fd = OK(eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK));
	uint64_t value = 0;

	CHECK_EQ(read(fd, &value, 8), 8);
	CHECK_EQ(value, 1);
	CHECK_EQ(read(fd, &value, 8), 8);
	ERR(read(fd, &value, 8), EAGAIN);
}

TEST(eventfd_overflow)
{
	int fd = OK(eventfd(0, EFD_NONBLOCK));
	uint64_t value = UINT64_MAX;

	ERR(write(fd, &value, 8), EINVAL);
	value = UINT64_MAX - 1;
	CHECK_EQ(write(fd, &value, 8), 8);
	value = 1;
	ERR(write(fd, &value, 8), EAGAIN);
	ERR(write(fd, &value, 4), EINVAL);
	ERR(read(fd, &value, 4), EINVAL);
}

TEST(eventfd_wakes_reader)
{
	int fd = OK(eventfd(0, 0));
	uint64_t value = 0;

	CHILD(pid)
	{
		uint64_t one = 5;
		msleep(20);
		CHECK_EQ(write(fd, &one, 8), 8);
	}
	CHECK_EQ(read(fd, &value, 8), 8);
	CHECK_EQ(value, 5);
	WAIT_EXIT(pid, 0);
}

TEST(eventfd_bad_flags)
{
	ERR(eventfd(0, 0x10), EINVAL);
}

TEST(timerfd_expires)
{
	int fd = OK(timerfd_create(CLOCK_MONOTONIC, 0));
	struct itimerspec it = { .it_value = { 0, 20000000 } }, now;
	uint64_t count = 0;
	long long start = now_ms();

	OK(timerfd_settime(fd, 0, &it, NULL));
	OK(timerfd_gettime(fd, &now));
	CHECK(now.it_value.tv_nsec > 0 && now.it_value.tv_nsec <= 20000000);
	CHECK_EQ(read(fd, &count, 8), 8);
	CHECK_EQ(count, 1);
	CHECK(now_ms() - start >= 19);
}

TEST(timerfd_interval_counts)
{
	int fd = OK(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK));
	struct itimerspec it = { { 0, 5000000 }, { 0, 5000000 } };
	uint64_t count = 0;

	ERR(read(fd, &count, 8), EAGAIN);
	OK(timerfd_settime(fd, 0, &it, NULL));
	msleep(52);
	CHECK_EQ(read(fd, &count, 8), 8);
	CHECK(count >= 8);
}

TEST(timerfd_absolute_and_disarm)
{
	int fd = OK(timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK));
	struct itimerspec it = { 0 }, old;
	struct pollfd pfd = { fd, POLLIN, 0 };
	uint64_t count;

	clock_gettime(CLOCK_REALTIME, &it.it_value);
	it.it_value.tv_sec -= 1;
	OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &it, NULL));
	CHECK_EQ(poll(&pfd, 1, 1000), 1);
	CHECK_EQ(read(fd, &count, 8), 8);
	it.it_value.tv_sec += 100;
	OK(timerfd_settime(fd, TFD_TIMER_ABSTIME, &it, NULL));
	memset(&it, 0, sizeof(it));
	OK(timerfd_settime(fd, 0, &it, &old));
	CHECK(old.it_value.tv_sec >= 97 && old.it_value.tv_sec <= 100);
	CHECK_EQ(poll(&pfd, 1, 0), 0);
}

TEST(timerfd_errors)
{
	struct itimerspec it = { { 0, 0 }, { 0, 1000000000 } };
	int fd = OK(timerfd_create(CLOCK_MONOTONIC, 0));
	char small[4];

	ERR(timerfd_create(99, 0), EINVAL);
	ERR(timerfd_create(CLOCK_MONOTONIC, 1), EINVAL);
	ERR(timerfd_settime(fd, 0, &it, NULL), EINVAL);
	ERR(timerfd_settime(fd, 0x80, &(struct itimerspec){ 0 }, NULL), EINVAL);
	ERR(timerfd_settime(1, 0, &(struct itimerspec){ 0 }, NULL), EINVAL);
	ERR(read(fd, small, 4), EINVAL);
	ERR(write(fd, "12345678", 8), EINVAL);
}

TEST(signalfd_reads)
{
	sigset_t set;
	struct signalfd_siginfo info[2];

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN + 1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	int fd = OK(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
	ERR(read(fd, info, sizeof(info)), EAGAIN);
	OK(kill(getpid(), SIGUSR1));
	OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 77 }));
	CHECK_EQ(read(fd, info, sizeof(info)), sizeof(info));
	CHECK_EQ(info[0].ssi_signo, SIGUSR1);
	CHECK_EQ(info[0].ssi_code, SI_USER);
	CHECK_EQ(info[0].ssi_pid, getpid());
	CHECK_EQ(info[1].ssi_signo, SIGRTMIN + 1);
	CHECK_EQ(info[1].ssi_int, 77);
	CHECK_EQ(info[1].ssi_code, SI_QUEUE);
	ERR(read(fd, info, 10), EINVAL);
}

TEST(signalfd_poll_and_change)
{
	sigset_t set;
	struct pollfd pfd;

	sigfillset(&set);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	int fd = OK(signalfd(-1, &set, 0));
	pfd = (struct pollfd){ fd, POLLIN, 0 };
	OK(raise(SIGUSR2));
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	sigaddset(&set, SIGUSR2);
	CHECK_EQ(signalfd(fd, &set, 0), fd);
	CHECK_EQ(poll(&pfd, 1, 1000), 1);
	ERR(signalfd(0x7fff, &set, 0), EBADF);
	int null = OK(open("/dev/null", O_RDONLY));
	ERR(signalfd(null, &set, 0), EINVAL);
	ERR(signalfd(-1, &set, 1), EINVAL);
}

TEST(signalfd_blocks_until_sigchld)
{
	sigset_t set;
	struct signalfd_siginfo info;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	int fd = OK(signalfd(-1, &set, 0));
	CHILD(pid)
	{
		msleep(20);
		_exit(9);
	}
	CHECK_EQ(read(fd, &info, sizeof(info)), sizeof(info));
	CHECK_EQ(info.ssi_signo, SIGCHLD);
	CHECK_EQ(info.ssi_pid, pid);
	CHECK_EQ(info.ssi_status, 9);
	CHECK_EQ(info.ssi_code, CLD_EXITED);
	WAIT_EXIT(pid, 9);
}
