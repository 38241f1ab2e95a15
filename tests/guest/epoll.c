/* epoll: level, edge, one-shot, nested, errors. */
#include "tests/lib/guest.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int watch(int ep, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev);
}

TEST(level_triggered)
{
	int p[2], ep = OK(epoll_create1(EPOLL_CLOEXEC));
	struct epoll_event ev[4];

	OK(pipe(p));
	OK(watch(ep, p[0], EPOLLIN));
	CHECK_EQ(epoll_wait(ep, ev, 4, 0), 0);
	CHECK_EQ(write(p[1], "xy", 2), 2);
	CHECK_EQ(epoll_wait(ep, ev, 4, -1), 1);
	CHECK_EQ(ev[0].data.fd, p[0]);
	CHECK_EQ(ev[0].events, EPOLLIN);
	CHECK_EQ(read(p[0], ev, 1), 1);
	CHECK_EQ(epoll_wait(ep, ev, 4, 0), 1);
	CHECK_EQ(read(p[0], ev, 1), 1);
	CHECK_EQ(epoll_wait(ep, ev, 4, 0), 0);
	close(p[1]);
	CHECK_EQ(epoll_wait(ep, ev, 4, 0), 1);
	CHECK_EQ(ev[0].events, EPOLLHUP);
}

TEST(edge_triggered)
{
	int p[2], ep = OK(epoll_create1(0));
	struct epoll_event ev[4];

	OK(pipe(p));
	OK(watch(ep, p[0], EPOLLIN | EPOLLET));
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(epoll_wait(ep, ev, 4, 100), 1);
	CHECK_EQ(epoll_wait(ep, ev, 4, 0), 0);
	CHECK_EQ(write(p[1], "y", 1), 1);
	CHECK_EQ(epoll_wait(ep, ev, 4, 100), 1);
}

TEST(one_shot)
{
	int p[2], ep = OK(epoll_create1(0));
	struct epoll_event ev;

	OK(pipe(p));
	OK(watch(ep, p[0], EPOLLIN | EPOLLONESHOT));
	CHECK_EQ(write(p[1], "x", 1), 1);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 100), 1);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	ev = (struct epoll_event){ .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 42 };
	OK(epoll_ctl(ep, EPOLL_CTL_MOD, p[0], &ev));
	CHECK_EQ(epoll_wait(ep, &ev, 1, 100), 1);
	CHECK_EQ(ev.data.u64, 42);
}

TEST(ctl_errors)
{
	int p[2], ep = OK(epoll_create1(0)), file = OK(open("f", O_RDWR | O_CREAT, 0644));
	struct epoll_event ev = { .events = EPOLLIN };

	OK(pipe(p));
	OK(watch(ep, p[0], EPOLLIN));
	ERR(watch(ep, p[0], EPOLLIN), EEXIST);
	ERR(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &ev), ENOENT);
	ERR(epoll_ctl(ep, EPOLL_CTL_DEL, p[1], NULL), ENOENT);
	ERR(watch(ep, file, EPOLLIN), EPERM);
	ERR(watch(ep, ep, EPOLLIN), EINVAL);
	ERR(watch(p[0], p[1], EPOLLIN), EINVAL);
	ERR(watch(ep, 99, EPOLLIN), EBADF);
	ERR(epoll_ctl(ep, 77, p[0], &ev), EINVAL);
	ERR(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], BAD_PTR), EFAULT);
	ERR(epoll_wait(ep, &ev, 0, 0), EINVAL);
	ERR(epoll_wait(p[0], &ev, 1, 0), EINVAL);
	ERR(epoll_create(0), EINVAL);
	ERR(epoll_create1(1), EINVAL);
	OK(epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
}

TEST(nested)
{
	int inner = OK(epoll_create1(0)), outer = OK(epoll_create1(0)), fd = OK(eventfd(0, 0));
	struct epoll_event ev;
	uint64_t one = 1;

	OK(watch(inner, fd, EPOLLIN));
	OK(watch(outer, inner, EPOLLIN));
	ERR(watch(inner, outer, EPOLLIN), ELOOP);
	CHECK_EQ(epoll_wait(outer, &ev, 1, 0), 0);
	CHECK_EQ(write(fd, &one, 8), 8);
	CHECK_EQ(epoll_wait(outer, &ev, 1, 1000), 1);
	CHECK_EQ(ev.data.fd, inner);
	struct pollfd pfd = { outer, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 1);
}

TEST(close_removes)
{
	int fd = OK(eventfd(1, 0)), ep = OK(epoll_create1(0)), copy = OK(dup(fd));
	struct epoll_event ev;

	OK(watch(ep, fd, EPOLLIN));
	close(fd);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	close(copy);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
}

TEST(fairness_round_robin)
{
	int ep = OK(epoll_create1(0));
	struct epoll_event ev;
	bool seen[8] = { 0 };
	int fds[8];

	for (int i = 0; i < 8; i++) {
		fds[i] = OK(eventfd(1, 0));
		struct epoll_event add = { .events = EPOLLIN, .data.u32 = (uint32_t)i };
		OK(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &add));
	}
	for (int i = 0; i < 8; i++) {
		CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
		seen[ev.data.u32] = true;
	}
	for (int i = 0; i < 8; i++)
		CHECK(seen[i]);
}

static void *wait_one(void *arg)
{
	struct epoll_event ev;

	return (void *)(long)epoll_wait(*(int *)arg, &ev, 1, 300);
}

TEST(edge_wakes_one_waiter)
{
	int ep = OK(epoll_create1(0)), fd = OK(eventfd(0, 0));
	pthread_t threads[3];
	uint64_t one = 1;
	long woken = 0;

	OK(watch(ep, fd, EPOLLIN | EPOLLET));
	for (int i = 0; i < 3; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, wait_one, &ep), 0);
	msleep(50);
	CHECK_EQ(write(fd, &one, 8), 8);
	for (int i = 0; i < 3; i++) {
		void *result;
		pthread_join(threads[i], &result);
		woken += (long)result;
	}
	CHECK_EQ(woken, 1);
}

TEST(pwait_mask_and_timeouts)
{
	int ep = OK(epoll_create1(0));
	struct epoll_event ev;
	sigset_t set;

	long long start = now_ms();
	CHECK_EQ(epoll_wait(ep, &ev, 1, 30), 0);
	CHECK(now_ms() - start >= 30);
	on_signal(SIGUSR1, catch_signal, SA_RESTART);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	raise(SIGUSR1);
	sigemptyset(&set);
	ERR(epoll_pwait(ep, &ev, 1, 5000, &set), EINTR);
	CHECK_EQ(caught_count, 1);
	CHECK_EQ(syscall(SYS_epoll_pwait2, ep, &ev, 1, &(struct timespec){ 0, 5000000 }, NULL, 8), 0);
	ERR(syscall(SYS_epoll_pwait2, ep, &ev, 1, &(struct timespec){ 0, 1000000000 }, NULL, 8),
	    EINVAL);
}

TEST(socket_hangup_flags)
{
	int sv[2], ep = OK(epoll_create1(0));
	struct epoll_event ev;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	OK(watch(ep, sv[0], EPOLLIN | EPOLLRDHUP | EPOLLOUT));
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	CHECK_EQ(ev.events, EPOLLOUT);
	OK(shutdown(sv[1], SHUT_WR));
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	CHECK_EQ(ev.events, EPOLLIN | EPOLLRDHUP | EPOLLOUT);
	close(sv[1]);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 1);
	CHECK(ev.events & EPOLLHUP);
}

TEST(many_events)
{
	int ep = OK(epoll_create1(0));
	struct epoll_event ev[300];

	for (int i = 0; i < 300; i++)
		OK(watch(ep, OK(eventfd(1, 0)), EPOLLIN));
	CHECK_EQ(epoll_wait(ep, ev, 300, 0), 300);
	CHECK_EQ(epoll_wait(ep, ev, 100, 0), 100);
}
