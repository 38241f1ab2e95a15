/* EINTR and restart of each slow call. */
#include "tests/lib/guest.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/un.h>

static int pipes[2];

static void setup(void)
{
	OK(pipe(pipes));
	interrupt_every(20, 0);
}

TEST(read_pipe)
{
	char byte;

	setup();
	ERR(read(pipes[0], &byte, 1), EINTR);
}

TEST(write_pipe)
{
	static char big[70000];

	setup();
	CHECK_EQ(write(pipes[1], big, sizeof(big)), 65536);
	ERR(write(pipes[1], big, 1), EINTR);
}

TEST(read_restarts)
{
	char byte;

	OK(pipe(pipes));
	interrupt_every(10, SA_RESTART);
	CHILD(pid)
	{
		msleep(100);
		write(pipes[1], "x", 1);
	}
	CHECK_EQ(read(pipes[0], &byte, 1), 1);
	CHECK(caught_count >= 3);
	WAIT_EXIT(pid, 0);
}

TEST(accept_and_recv)
{
	struct sockaddr_un addr = { AF_UNIX, "sock" };
	int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0)), sv[2];
	char byte;

	OK(bind(fd, (void *)&addr, sizeof(addr)));
	OK(listen(fd, 1));
	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	setup();
	ERR(accept(fd, NULL, NULL), EINTR);
	ERR(recv(sv[0], &byte, 1, 0), EINTR);
}

TEST(recv_with_timeout_never_restarts)
{
	struct timeval tv = { 5, 0 };
	int sv[2];
	char byte;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	OK(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	interrupt_every(20, SA_RESTART);
	ERR(recv(sv[0], &byte, 1, 0), EINTR);
	interrupt_stop();
	tv = (struct timeval){ 0, 30000 };
	OK(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	ERR(recv(sv[0], &byte, 1, 0), EAGAIN);
}

TEST(epoll_never_restarts)
{
	struct epoll_event ev;
	int ep = OK(epoll_create1(0));

	interrupt_every(20, SA_RESTART);
	ERR(epoll_wait(ep, &ev, 1, -1), EINTR);
}

TEST(nanosleep_reports_rest)
{
	struct timespec left = { 9, 9 };

	interrupt_every(50, SA_RESTART);
	ERR(nanosleep(&(struct timespec){ 5, 0 }, &left), EINTR);
	CHECK(left.tv_sec == 4 && left.tv_nsec > 500000000);
	CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 5, 0 }, &left), EINTR);
	CHECK_EQ(left.tv_sec, 4);
}

TEST(flock_and_fcntl)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDWR));
	struct flock lock = { .l_type = F_WRLCK };

	OK(flock(fd, LOCK_EX));
	interrupt_every(20, 0);
	ERR(flock(other, LOCK_EX), EINTR);
	interrupt_stop();
	OK(fcntl(fd, F_SETLK, &lock));
	CHILD(pid)
	{
		interrupt_every(20, 0);
		ERR(fcntl(other, F_SETLKW, &lock), EINTR);
	}
	WAIT_EXIT(pid, 0);
}

TEST(semop_and_msgrcv)
{
	int sem = OK(semget(IPC_PRIVATE, 1, 0600)), queue = OK(msgget(IPC_PRIVATE, 0600));
	struct { long type; char text[8]; } message;

	interrupt_every(20, SA_RESTART);
	ERR(semop(sem, &(struct sembuf){ 0, -1, 0 }, 1), EINTR);
	ERR(msgrcv(queue, &message, 8, 0, 0), EINTR);
	OK(semctl(sem, 0, IPC_RMID));
	OK(msgctl(queue, IPC_RMID, NULL));
}

TEST(eventfd_read)
{
	int fd = OK(eventfd(0, 0));
	uint64_t value;

	interrupt_every(20, 0);
	ERR(read(fd, &value, 8), EINTR);
}

TEST(ignored_signal_does_not_interrupt)
{
	char byte;

	OK(pipe(pipes));
	signal(SIGUSR1, SIG_IGN);
	CHILD(pid)
	{
		for (int i = 0; i < 5; i++) {
			msleep(10);
			kill(getppid(), SIGUSR1);
			kill(getppid(), SIGCONT);
		}
		write(pipes[1], "x", 1);
	}
	CHECK_EQ(read(pipes[0], &byte, 1), 1);
	WAIT_EXIT(pid, 0);
}

TEST(stop_and_continue_restart_silently)
{
	char byte;

	OK(pipe(pipes));
	CHILD(pid)
	{
		CHECK_EQ(read(pipes[0], &byte, 1), 1);
	}
	msleep(30);
	OK(kill(pid, SIGSTOP));
	CHECK_EQ(waitpid(pid, NULL, WUNTRACED), pid);
	OK(kill(pid, SIGCONT));
	msleep(20);
	CHECK_EQ(write(pipes[1], "x", 1), 1);
	WAIT_EXIT(pid, 0);
}

TEST(nanosleep_survives_stop)
{
	CHILD(pid)
	{
		long long start = now_ms();
		OK(nanosleep(&(struct timespec){ 0, 200000000 }, NULL));
		CHECK(now_ms() - start >= 200);
	}
	msleep(40);
	OK(kill(pid, SIGSTOP));
	msleep(20);
	OK(kill(pid, SIGCONT));
	WAIT_EXIT(pid, 0);
}
