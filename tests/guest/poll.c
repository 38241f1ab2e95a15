/* poll, ppoll, select, pselect. */
#include "tests/lib/guest.h"

#include <sys/select.h>

TEST(pipe_events)
{
	int p[2];

	OK(pipe(p));
	struct pollfd pfd[2] = { { p[0], POLLIN, 0 }, { p[1], POLLOUT, 0 } };
	CHECK_EQ(poll(pfd, 2, 0), 1);
	CHECK_EQ(pfd[0].revents, 0);
	CHECK_EQ(pfd[1].revents, POLLOUT);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(poll(pfd, 2, 0), 2);
	CHECK_EQ(pfd[0].revents, POLLIN);
	close(p[1]);
	CHECK_EQ(poll(pfd, 1, 0), 1);
	CHECK_EQ(pfd[0].revents, POLLIN | POLLHUP);
}

TEST(reader_gone)
{
	int p[2];

	OK(pipe(p));
	close(p[0]);
	struct pollfd pfd = { p[1], POLLOUT, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(pfd.revents, POLLOUT | POLLERR);
}

TEST(bad_descriptors)
{
	struct pollfd pfd[2] = { { 99, POLLIN, 0 }, { -1, POLLIN, 7 } };

	CHECK_EQ(poll(pfd, 2, 1000), 1);
	CHECK_EQ(pfd[0].revents, POLLNVAL);
	CHECK_EQ(pfd[1].revents, 0);
	ERR(poll(BAD_PTR, 1, 0), EFAULT);
	ERR(poll(pfd, 1u << 30, 0), EINVAL);
}

TEST(timeout_is_kept)
{
	long long start = now_ms();

	CHECK_EQ(poll(NULL, 0, 50), 0);
	CHECK(now_ms() - start >= 50);
	struct timespec ts = { 0, 30000000 };
	start = now_ms();
	CHECK_EQ(ppoll(NULL, 0, &ts, NULL), 0);
	CHECK(now_ms() - start >= 30);
	ts.tv_nsec = -1;
	ERR(ppoll(NULL, 0, &ts, NULL), EINVAL);
}

TEST(wakes_on_event)
{
	int p[2];

	OK(pipe(p));
	CHILD(pid)
	{
		msleep(20);
		write(p[1], "x", 1);
		msleep(1000);
	}
	struct pollfd pfd = { p[0], POLLIN, 0 };
	long long start = now_ms();
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	CHECK(now_ms() - start < 900);
	kill(pid, SIGKILL);
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(interrupted)
{
	interrupt_every(20, SA_RESTART);
	ERR(poll(NULL, 0, 5000), EINTR);
	ERR(select(0, NULL, NULL, NULL, NULL), EINTR);
	ERR(ppoll(NULL, 0, NULL, NULL), EINTR);
}

TEST(ppoll_mask)
{
	sigset_t set;

	on_signal(SIGUSR1, catch_signal, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	raise(SIGUSR1);
	CHECK_EQ(poll(NULL, 0, 10), 0);
	sigemptyset(&set);
	ERR(ppoll(NULL, 0, &(struct timespec){ 5, 0 }, &set), EINTR);
	CHECK_EQ(caught_count, 1);
	OK(sigprocmask(SIG_BLOCK, NULL, &set));
	CHECK(sigismember(&set, SIGUSR1));
}

TEST(select_sets)
{
	int p[2];
	fd_set in, out;
	struct timeval tv = { 5, 0 };

	OK(pipe(p));
	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(p[0], &in);
	FD_SET(p[1], &out);
	CHECK_EQ(select(p[1] + 1, &in, &out, NULL, &tv), 1);
	CHECK(!FD_ISSET(p[0], &in));
	CHECK(FD_ISSET(p[1], &out));
	CHECK_EQ(write(p[1], "x", 1), 1);
	FD_ZERO(&in);
	FD_SET(p[0], &in);
	CHECK_EQ(select(p[1] + 1, &in, NULL, NULL, NULL), 1);
	CHECK(FD_ISSET(p[0], &in));
}

TEST(select_errors_and_timeout)
{
	fd_set in;
	struct timeval tv = { 0, 30000 };

	FD_ZERO(&in);
	FD_SET(50, &in);
	ERR(select(51, &in, NULL, NULL, &tv), EBADF);
	ERR(select(-1, NULL, NULL, NULL, &tv), EINVAL);
	tv = (struct timeval){ 0, 30000 };
	long long start = now_ms();
	CHECK_EQ(select(0, NULL, NULL, NULL, &tv), 0);
	CHECK(now_ms() - start >= 30);
	CHECK(tv.tv_sec == 0 && tv.tv_usec < 1000);
	tv = (struct timeval){ -1, 0 };
	ERR(select(0, NULL, NULL, NULL, &tv), EINVAL);
}

TEST(regular_files_are_always_ready)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
	struct pollfd pfd = { fd, POLLIN | POLLOUT, 0 };

	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(pfd.revents, POLLIN | POLLOUT);
}

TEST(many_descriptors)
{
	struct pollfd pfd[200];
	int p[2];

	OK(pipe(p));
	for (int i = 0; i < 200; i++) {
		pfd[i] = (struct pollfd){ fcntl(p[0], F_DUPFD, 0), POLLIN, 0 };
		CHECK(pfd[i].fd >= 0);
	}
	CHECK_EQ(poll(pfd, 200, 0), 0);
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(poll(pfd, 200, 0), 200);
}
