/* Ancillary data of unix sockets: SCM_RIGHTS, SCM_CREDENTIALS. */
#include "tests/lib/guest.h"

union control {
	char space[CMSG_SPACE(sizeof(int) * 64)];
	struct cmsghdr align;
};

static ssize_t send_fds(int sock, const int *fds, size_t count)
{
	struct iovec iov = { (void *)"m", 1 };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = CMSG_SPACE(sizeof(int) * count) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	*cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(int) * count), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * count);
	return sendmsg(sock, &msg, MSG_NOSIGNAL);
}

/* Receives one byte and up to `room` descriptors; returns their count, flags in *ret_flags. */
static int receive_fds(int sock, int *fds, size_t room, int flags, int *ret_flags)
{
	char byte;
	struct iovec iov = { &byte, 1 };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = room ? CMSG_LEN(sizeof(int) * room) : 0 };

	CHECK_EQ(recvmsg(sock, &msg, flags), 1);
	*ret_flags = msg.msg_flags;
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg)
		return 0;
	CHECK_EQ(cmsg->cmsg_type, SCM_RIGHTS);
	size_t count = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(cmsg), count * sizeof(int));
	return (int)count;
}

TEST(pass_descriptors)
{
	int sv[2], p[2], got[4], flags;
	char buf[4] = "";

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	OK(pipe(p));
	CHILD(pid)
	{
		CHECK_EQ(send_fds(sv[0], p, 2), 1);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(receive_fds(sv[1], got, 4, MSG_CMSG_CLOEXEC, &flags), 2);
	CHECK_EQ(fcntl(got[0], F_GETFD), FD_CLOEXEC);
	close(p[1]);
	CHECK_EQ(write(got[1], "ok", 2), 2);
	CHECK_EQ(read(got[0], buf, 4), 2);
}

TEST(shares_the_open_file)
{
	int sv[2], got, flags;

	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	write_file("f", "abcdef");
	int fd = OK(open("f", O_RDONLY));
	CHECK_EQ(send_fds(sv[0], &fd, 1), 1);
	CHECK_EQ(receive_fds(sv[1], &got, 1, 0, &flags), 1);
	CHECK(got != fd);
	CHECK_EQ(fcntl(got, F_GETFD), 0);
	char byte;
	CHECK_EQ(read(fd, &byte, 1), 1);
	CHECK_EQ(read(got, &byte, 1), 1);
	CHECK_EQ(byte, 'b');
}

TEST(closed_in_flight)
{
	int sv[2], p[2], got, flags;
	char byte;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	OK(pipe(p));
	CHECK_EQ(send_fds(sv[0], &p[1], 1), 1);
	close(p[1]);
	struct pollfd pfd = { p[0], POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	CHECK_EQ(receive_fds(sv[1], &got, 1, 0, &flags), 1);
	CHECK_EQ(write(got, "x", 1), 1);
	CHECK_EQ(read(p[0], &byte, 1), 1);
	CHECK_EQ(send_fds(sv[0], &got, 1), 1);
	close(got);
	close(sv[0]);
	close(sv[1]);
	CHECK_EQ(read(p[0], &byte, 1), 0);
}

TEST(control_truncated)
{
	int sv[2], got[4], flags, fds[3] = { 0, 1, 2 };

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_EQ(send_fds(sv[0], fds, 3), 1);
	CHECK_EQ(receive_fds(sv[1], got, 1, 0, &flags), 1);
	CHECK(flags & MSG_CTRUNC);
	CHECK_EQ(send_fds(sv[0], fds, 3), 1);
	CHECK_EQ(receive_fds(sv[1], got, 0, 0, &flags), 0);
	CHECK(flags & MSG_CTRUNC);
}

TEST(messages_do_not_merge_with_rights)
{
	int sv[2], got, flags, fd = 1;
	char buf[16];

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_EQ(send_fds(sv[0], &fd, 1), 1);
	CHECK_EQ(send_fds(sv[0], &fd, 1), 1);
	CHECK_EQ(send(sv[0], "tail", 4, 0), 4);
	CHECK_EQ(receive_fds(sv[1], &got, 1, 0, &flags), 1);
	CHECK_EQ(receive_fds(sv[1], &got, 1, 0, &flags), 1);
	CHECK_EQ(recv(sv[1], buf, 16, 0), 4);
}

TEST(errors)
{
	int sv[2], fds[300], bad = 999;
	struct iovec iov = { (void *)"m", 1 };
	static char space[CMSG_SPACE(sizeof(int) * 300)] __attribute__((aligned(8)));
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = space };

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	ERR(send_fds(sv[0], &bad, 1), EBADF);
	for (int i = 0; i < 300; i++)
		fds[i] = 1;
	struct cmsghdr *cmsg = (void *)space;
	*cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(int) * 254), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * 254);
	msg.msg_controllen = CMSG_SPACE(sizeof(int) * 254);
	ERR(sendmsg(sv[0], &msg, 0), EINVAL);
	cmsg->cmsg_len = 3;
	ERR(sendmsg(sv[0], &msg, 0), EINVAL);
	cmsg->cmsg_len = CMSG_LEN(4);
	cmsg->cmsg_type = 99;
	ERR(sendmsg(sv[0], &msg, 0), EINVAL);
	msg.msg_control = BAD_PTR;
	ERR(sendmsg(sv[0], &msg, 0), EFAULT);
	ERR(recvmsg(sv[1], BAD_PTR, 0), EFAULT);
}

TEST(credentials_by_option)
{
	int sv[2], on = 1;
	char byte;
	struct iovec iov = { &byte, 1 };
	union control control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = sizeof(control) };

	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	OK(setsockopt(sv[1], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)));
	CHILD(pid)
	{
		become_user(1000);
		CHECK_EQ(send(sv[0], "x", 1, 0), 1);
	}
	CHECK_EQ(recvmsg(sv[1], &msg, 0), 1);
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	CHECK(cmsg && cmsg->cmsg_type == SCM_CREDENTIALS);
	struct ucred cred;
	memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
	CHECK_EQ(cred.pid, pid);
	CHECK_EQ(cred.uid, 1000);
	WAIT_EXIT(pid, 0);
}

TEST(credentials_sent)
{
	int sv[2];
	struct iovec iov = { (void *)"m", 1 };
	union control control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			      .msg_controllen = CMSG_SPACE(sizeof(struct ucred)) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct ucred cred = { getpid(), 0, 0 };

	*cmsg = (struct cmsghdr){ CMSG_LEN(sizeof(cred)), SOL_SOCKET, SCM_CREDENTIALS };
	memcpy(CMSG_DATA(cmsg), &cred, sizeof(cred));
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_EQ(sendmsg(sv[0], &msg, 0), 1);
	CHILD(pid)
	{
		become_user(1000);
		ERR(sendmsg(sv[0], &msg, 0), EPERM);
		cred = (struct ucred){ getpid(), 1000, 1000 };
		memcpy(CMSG_DATA(cmsg), &cred, sizeof(cred));
		CHECK_EQ(sendmsg(sv[0], &msg, 0), 1);
	}
	WAIT_EXIT(pid, 0);
}

TEST(socket_through_itself)
{
	int sv[2];

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	for (int i = 0; i < 50; i++)
		CHECK_EQ(send_fds(sv[0], sv, 2), 1);
	close(sv[0]);
	close(sv[1]);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
}
