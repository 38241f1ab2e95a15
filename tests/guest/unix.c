/* Unix sockets: stream, datagram, seqpacket, abstract names, options, errors. */
#include "tests/lib/guest.h"

#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/un.h>

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	return addr;
}

static int listener(int type, const char *path, int backlog)
{
	struct sockaddr_un addr = address(path);
	int fd = OK(socket(AF_UNIX, type, 0));

	OK(bind(fd, (void *)&addr, sizeof(addr)));
	OK(listen(fd, backlog));
	return fd;
}

static int connect_to(int type, const char *path)
{
	struct sockaddr_un addr = address(path);
	int fd = OK(socket(AF_UNIX, type, 0));

	if (connect(fd, (void *)&addr, sizeof(addr)) == 0)
		return fd;
	int error = errno;
	close(fd);
	errno = error;
	return -1;
}

TEST(stream_pair)
{
	int sv[2];
	char buf[16] = "";

	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv));
	CHECK_EQ(fcntl(sv[0], F_GETFD), FD_CLOEXEC);
	CHECK_EQ(write(sv[0], "hello", 5), 5);
	CHECK_EQ(send(sv[0], "world", 5, 0), 5);
	CHECK_EQ(read(sv[1], buf, 16), 10);
	CHECK_STR(buf, "helloworld");
	close(sv[0]);
	CHECK_EQ(read(sv[1], buf, 16), 0);
	signal(SIGPIPE, SIG_IGN);
	ERR(write(sv[1], "x", 1), EPIPE);
	ERR(send(sv[1], "x", 1, MSG_NOSIGNAL), EPIPE);
}

TEST(listen_connect_accept)
{
	int server = listener(SOCK_STREAM, "sock", 5);
	int client = OK(connect_to(SOCK_STREAM, "sock"));
	struct sockaddr_un addr;
	socklen_t size = sizeof(addr);
	char buf[8] = "";

	int conn = OK(accept4(server, (void *)&addr, &size, SOCK_NONBLOCK));
	CHECK_EQ(size, 2);
	ERR(read(conn, buf, 1), EAGAIN);
	CHECK_EQ(write(client, "hi", 2), 2);
	CHECK_EQ(read(conn, buf, 8), 2);
	size = sizeof(addr);
	OK(getpeername(client, (void *)&addr, &size));
	CHECK_STR(addr.sun_path, "sock");
	CHECK_EQ(size, 2 + 5);
	struct stat st;
	OK(stat("sock", &st));
	CHECK(S_ISSOCK(st.st_mode));
	ERR(open("sock", O_RDWR), ENXIO);
}

TEST(connect_errors)
{
	ERR(connect_to(SOCK_STREAM, "none"), ENOENT);
	write_file("file", "x");
	ERR(connect_to(SOCK_STREAM, "file"), ECONNREFUSED);
	int server = listener(SOCK_STREAM, "sock", 5);
	ERR(connect_to(SOCK_DGRAM, "sock"), EPROTOTYPE);
	close(server);
	ERR(connect_to(SOCK_STREAM, "sock"), ECONNREFUSED);
	struct sockaddr_un addr = address("sock");
	int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(bind(fd, (void *)&addr, sizeof(addr)), EADDRINUSE);
	ERR(connect(fd, (void *)&addr, 1), EINVAL);
	ERR(accept(fd, NULL, NULL), EINVAL);
	ERR(getpeername(fd, (void *)&addr, &(socklen_t){ sizeof(addr) }), ENOTCONN);
	ERR(send(fd, "x", 1, MSG_NOSIGNAL), ENOTCONN);
	ERR(socket(AF_UNIX, SOCK_DCCP, 0), ESOCKTNOSUPPORT);
	ERR(socket(AF_UNIX, SOCK_STREAM, 99), EPROTONOSUPPORT);
	ERR(socket(200, SOCK_STREAM, 0), EAFNOSUPPORT);
}

TEST(backlog_limits)
{
	int server = listener(SOCK_STREAM, "sock", 1);
	struct sockaddr_un addr = address("sock");
	int pending = 0, fd;

	for (int i = 0; i < 10; i++) {
		fd = OK(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
		if (connect(fd, (void *)&addr, sizeof(addr)) != 0)
			break;
		pending++;
	}
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(pending, 2);
	OK(accept(server, NULL, NULL));
	OK(connect(fd, (void *)&addr, sizeof(addr)));
}

TEST(blocked_connect_goes_on)
{
	int server = listener(SOCK_STREAM, "sock", 0);

	OK(connect_to(SOCK_STREAM, "sock"));
	CHILD(pid)
	{
		OK(connect_to(SOCK_STREAM, "sock"));
	}
	msleep(30);
	OK(accept(server, NULL, NULL));
	WAIT_EXIT(pid, 0);
}

TEST(abstract_names)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0)), client = OK(socket(AF_UNIX, SOCK_STREAM, 0));

	memcpy(addr.sun_path, "\0ab\0cd", 6);
	OK(bind(fd, (void *)&addr, 8));
	OK(listen(fd, 1));
	OK(connect(client, (void *)&addr, 8));
	int other = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	ERR(connect(other, (void *)&addr, 7), ECONNREFUSED);
	ERR(bind(other, (void *)&addr, 8), EADDRINUSE);
	struct sockaddr_un got;
	socklen_t size = sizeof(got);
	OK(getpeername(client, (void *)&got, &size));
	CHECK_EQ(size, 8);
	CHECK_MEM(got.sun_path, "\0ab\0cd", 6);
}

TEST(autobind)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t size = sizeof(addr);
	int fd = OK(socket(AF_UNIX, SOCK_DGRAM, 0));

	OK(bind(fd, (void *)&addr, sizeof(sa_family_t)));
	OK(getsockname(fd, (void *)&addr, &size));
	CHECK_EQ(size, 8);
	CHECK_EQ(addr.sun_path[0], 0);
}

TEST(datagrams)
{
	struct sockaddr_un a = address("a"), b = address("b"), from;
	int fa = OK(socket(AF_UNIX, SOCK_DGRAM, 0)), fb = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	char buf[16];
	socklen_t size = sizeof(from);

	OK(bind(fa, (void *)&a, sizeof(a)));
	OK(bind(fb, (void *)&b, sizeof(b)));
	CHECK_EQ(sendto(fa, "one", 3, 0, (void *)&b, sizeof(b)), 3);
	CHECK_EQ(sendto(fa, "four", 4, 0, (void *)&b, sizeof(b)), 4);
	CHECK_EQ(sendto(fa, "", 0, 0, (void *)&b, sizeof(b)), 0);
	CHECK_EQ(recvfrom(fb, buf, 16, 0, (void *)&from, &size), 3);
	CHECK_STR(from.sun_path, "a");
	CHECK_EQ(recv(fb, buf, 2, MSG_TRUNC), 4);
	CHECK_EQ(recv(fb, buf, 16, 0), 0);
	ERR(recv(fb, buf, 16, MSG_DONTWAIT), EAGAIN);
	OK(connect(fb, (void *)&a, sizeof(a)));
	CHECK_EQ(send(fb, "to a", 4, 0), 4);
	int fc = OK(socket(AF_UNIX, SOCK_DGRAM, 0));
	ERR(sendto(fc, "x", 1, 0, (void *)&b, sizeof(b)), EPERM);
	close(fa);
	ERR(send(fb, "x", 1, 0), ECONNREFUSED);
	ERR(sendto(fc, "x", 1, 0, (void *)&a, sizeof(a)), ECONNREFUSED);
	ERR(send(fc, "x", 1, 0), ENOTCONN);
}

TEST(seqpacket)
{
	int sv[2];
	char buf[16];

	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	CHECK_EQ(send(sv[0], "abc", 3, 0), 3);
	CHECK_EQ(send(sv[0], "defgh", 5, 0), 5);
	CHECK_EQ(recv(sv[1], buf, 16, 0), 3);
	struct iovec iov = { buf, 2 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	CHECK_EQ(recvmsg(sv[1], &msg, 0), 2);
	CHECK(msg.msg_flags & MSG_TRUNC);
	close(sv[0]);
	CHECK_EQ(recv(sv[1], buf, 16, 0), 0);
	listener(SOCK_SEQPACKET, "sock", 1);
	OK(connect_to(SOCK_SEQPACKET, "sock"));
}

TEST(peek_and_waitall)
{
	int sv[2];
	char buf[16] = "";

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_EQ(send(sv[0], "abcdef", 6, 0), 6);
	CHECK_EQ(recv(sv[1], buf, 3, MSG_PEEK), 3);
	CHECK_EQ(recv(sv[1], buf, 16, MSG_PEEK), 6);
	CHECK_EQ(recv(sv[1], buf, 2, 0), 2);
	CHILD(pid)
	{
		msleep(20);
		CHECK_EQ(send(sv[0], "ghij", 4, 0), 4);
	}
	CHECK_EQ(recv(sv[1], buf, 8, MSG_WAITALL), 8);
	CHECK_MEM(buf, "cdefghij", 8);
	WAIT_EXIT(pid, 0);
}

TEST(shutdown_halves)
{
	int sv[2];
	char byte;

	signal(SIGPIPE, SIG_IGN);
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHECK_EQ(send(sv[0], "x", 1, 0), 1);
	OK(shutdown(sv[0], SHUT_WR));
	ERR(send(sv[0], "y", 1, 0), EPIPE);
	CHECK_EQ(recv(sv[1], &byte, 1, 0), 1);
	CHECK_EQ(recv(sv[1], &byte, 1, 0), 0);
	CHECK_EQ(send(sv[1], "z", 1, 0), 1);
	CHECK_EQ(recv(sv[0], &byte, 1, 0), 1);
	ERR(shutdown(sv[0], 9), EINVAL);
	struct pollfd pfd = { sv[1], POLLIN | POLLRDHUP, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK_EQ(pfd.revents, POLLIN | POLLRDHUP);
	OK(shutdown(sv[0], SHUT_RD));
	ERR(send(sv[1], "z", 1, 0), EPIPE);
}

TEST(options)
{
	int sv[2], value;
	socklen_t size = sizeof(value);

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	OK(getsockopt(sv[0], SOL_SOCKET, SO_TYPE, &value, &size));
	CHECK_EQ(value, SOCK_STREAM);
	OK(getsockopt(sv[0], SOL_SOCKET, SO_DOMAIN, &value, &size));
	CHECK_EQ(value, AF_UNIX);
	OK(getsockopt(sv[0], SOL_SOCKET, SO_ERROR, &value, &size));
	CHECK_EQ(value, 0);
	OK(getsockopt(sv[0], SOL_SOCKET, SO_ACCEPTCONN, &value, &size));
	CHECK_EQ(value, 0);
	value = 65536;
	OK(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)));
	OK(getsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &value, &size));
	CHECK_EQ(value, 131072);
	ERR(getsockopt(sv[0], SOL_SOCKET, 9999, &value, &size), ENOPROTOOPT);
	ERR(setsockopt(sv[0], 9999, 1, &value, sizeof(value)), EOPNOTSUPP);
	ERR(setsockopt(sv[0], SOL_SOCKET, SO_SNDBUF, &value, 1), EINVAL);
	int file = OK(open("f", O_RDWR | O_CREAT, 0644));
	ERR(getsockopt(file, SOL_SOCKET, SO_TYPE, &value, &size), ENOTSOCK);
}

TEST(peer_credentials)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);
	int server = listener(SOCK_STREAM, "sock", 1);

	OK(chmod(".", 0777));
	OK(chmod("sock", 0777));
	CHILD(pid)
	{
		become_user(1000);
		OK(connect_to(SOCK_STREAM, "sock"));
		msleep(50);
	}
	int conn = OK(accept(server, NULL, NULL));
	OK(getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &size));
	CHECK_EQ(cred.pid, pid);
	CHECK_EQ(cred.uid, 1000);
	CHECK_EQ(cred.gid, 1000);
	WAIT_EXIT(pid, 0);
	OK(chmod("sock", 0700));
	CHILD(second)
	{
		become_user(1000);
		ERR(connect_to(SOCK_STREAM, "sock"), EACCES);
	}
	WAIT_EXIT(second, 0);
}

TEST(buffer_fills)
{
	int sv[2], queued;
	static char buf[65536];
	long sent = 0;

	OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv));
	ssize_t n;
	while ((n = send(sv[0], buf, sizeof(buf), 0)) > 0)
		sent += n;
	CHECK_EQ(errno, EAGAIN);
	CHECK(sent >= 65536);
	struct pollfd pfd = { sv[0], POLLOUT, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	OK(ioctl(sv[1], FIONREAD, &queued));
	CHECK_EQ(queued, sent);
	while ((n = recv(sv[1], buf, sizeof(buf), 0)) > 0)
		sent -= n;
	CHECK_EQ(sent, 0);
	CHECK_EQ(poll(&pfd, 1, 0), 1);
}

TEST(sendmmsg_recvmmsg)
{
	int sv[2];
	char in[3][8] = { { 0 } };
	struct iovec out_iov[3] = { { (void *)"a", 1 }, { (void *)"bb", 2 }, { (void *)"ccc", 3 } };
	struct iovec in_iov[3] = { { in[0], 8 }, { in[1], 8 }, { in[2], 8 } };
	struct mmsghdr msgs[3] = { 0 };

	OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	for (int i = 0; i < 3; i++)
		msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &out_iov[i], .msg_iovlen = 1 };
	CHECK_EQ(sendmmsg(sv[0], msgs, 3, 0), 3);
	for (int i = 0; i < 3; i++)
		msgs[i].msg_hdr = (struct msghdr){ .msg_iov = &in_iov[i], .msg_iovlen = 1 };
	CHECK_EQ(recvmmsg(sv[1], msgs, 3, MSG_DONTWAIT, NULL), 3);
	CHECK_EQ(msgs[2].msg_len, 3);
	CHECK_STR(in[1], "bb");
}

TEST(bytes_in_order_between_processes)
{
	int sv[2];
	static unsigned char buf[5000];
	unsigned char next = 0;
	long total = 0;

	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	CHILD(pid)
	{
		unsigned char value = 0;
		for (int i = 0; i < 200; i++) {
			for (size_t k = 0; k < sizeof(buf); k++)
				buf[k] = value++;
			CHECK_EQ(send(sv[1], buf, sizeof(buf), 0), sizeof(buf));
		}
		close(sv[1]);
	}
	close(sv[1]);
	ssize_t got;
	while ((got = recv(sv[0], buf, 3001, 0)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			CHECK_EQ(buf[i], next++);
		total += got;
	}
	CHECK_EQ(total, 1000000);
	WAIT_EXIT(pid, 0);
}
