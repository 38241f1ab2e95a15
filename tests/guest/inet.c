/* Internet sockets over loopback: TCP, UDP, IPv6, options, errors. */
#include "tests/lib/guest.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

static struct sockaddr_in loopback(int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int tcp_listener(struct sockaddr_in *ret_addr)
{
	struct sockaddr_in addr = loopback(0);
	socklen_t size = sizeof(addr);
	int fd = OK(socket(AF_INET, SOCK_STREAM, 0));

	OK(bind(fd, (void *)&addr, sizeof(addr)));
	OK(listen(fd, 8));
	OK(getsockname(fd, (void *)&addr, &size));
	CHECK(addr.sin_port != 0);
	*ret_addr = addr;
	return fd;
}

static void tcp_pair(int sv[2])
{
	struct sockaddr_in addr;
	int server = tcp_listener(&addr);

	sv[0] = OK(socket(AF_INET, SOCK_STREAM, 0));
	OK(connect(sv[0], (void *)&addr, sizeof(addr)));
	sv[1] = OK(accept(server, NULL, NULL));
	close(server);
}

TEST(tcp_echo)
{
	int sv[2];
	char buf[16] = "";

	tcp_pair(sv);
	CHECK_EQ(send(sv[0], "hello", 5, 0), 5);
	CHECK_EQ(recv(sv[1], buf, 5, MSG_WAITALL), 5);
	CHECK_STR(buf, "hello");
	OK(shutdown(sv[1], SHUT_WR));
	CHECK_EQ(recv(sv[0], buf, 5, 0), 0);
	CHECK_EQ(send(sv[0], "x", 1, 0), 1);
	close(sv[0]);
	CHECK_EQ(recv(sv[1], buf, 5, 0), 1);
	CHECK_EQ(recv(sv[1], buf, 5, 0), 0);
}

TEST(tcp_refused_and_errors)
{
	struct sockaddr_in addr = loopback(1);
	int fd = OK(socket(AF_INET, SOCK_STREAM, 0));

	ERR(connect(fd, (void *)&addr, sizeof(addr)), ECONNREFUSED);
	ERR(connect(fd, (void *)&addr, 4), EINVAL);
	ERR(connect(fd, BAD_PTR, sizeof(addr)), EFAULT);
	addr.sin_family = 77;
	int other = OK(socket(AF_INET, SOCK_STREAM, 0));
	ERR(connect(other, (void *)&addr, sizeof(addr)), EAFNOSUPPORT);
	ERR(send(other, "x", 1, MSG_NOSIGNAL), EPIPE);
	ERR(recv(other, &addr, 1, 0), ENOTCONN);
	ERR(accept(other, NULL, NULL), EINVAL);
	addr = loopback(0);
	addr.sin_addr.s_addr = inet_addr("8.8.4.4");
	ERR(bind(other, (void *)&addr, sizeof(addr)), EADDRNOTAVAIL);
	ERR(socket(AF_INET, SOCK_STREAM, IPPROTO_UDP), EPROTONOSUPPORT);
}

TEST(tcp_nonblocking_connect)
{
	struct sockaddr_in addr;
	int server = tcp_listener(&addr), error = 0;
	int fd = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	socklen_t size = sizeof(error);

	if (connect(fd, (void *)&addr, sizeof(addr)) != 0)
		CHECK_EQ(errno, EINPROGRESS);
	struct pollfd pfd = { fd, POLLOUT, 0 };
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	OK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size));
	CHECK_EQ(error, 0);
	ERR(recv(fd, &error, 1, 0), EAGAIN);
	pfd = (struct pollfd){ server, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 5000), 1);
	OK(accept4(server, NULL, NULL, SOCK_CLOEXEC));
	OK(fcntl(server, F_SETFL, O_NONBLOCK));
	ERR(accept(server, NULL, NULL), EAGAIN);
	addr.sin_port = htons(1);
	int refused = OK(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	if (connect(refused, (void *)&addr, sizeof(addr)) != 0 && errno == EINPROGRESS) {
		pfd = (struct pollfd){ refused, POLLOUT, 0 };
		CHECK_EQ(poll(&pfd, 1, 5000), 1);
		OK(getsockopt(refused, SOL_SOCKET, SO_ERROR, &error, &size));
		CHECK_EQ(error, ECONNREFUSED);
	}
}

TEST(tcp_addresses)
{
	struct sockaddr_in addr, peer, local;
	socklen_t size = sizeof(peer);
	int server = tcp_listener(&addr), fd = OK(socket(AF_INET, SOCK_STREAM, 0));

	OK(connect(fd, (void *)&addr, sizeof(addr)));
	OK(getpeername(fd, (void *)&peer, &size));
	CHECK_EQ(peer.sin_port, addr.sin_port);
	CHECK_EQ(size, sizeof(peer));
	OK(getsockname(fd, (void *)&local, &size));
	struct sockaddr_in from = { 0 };
	size = sizeof(from);
	OK(accept(server, (void *)&from, &size));
	CHECK_EQ(from.sin_port, local.sin_port);
	CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	size = 4;
	OK(getpeername(fd, (void *)&peer, &size));
	CHECK_EQ(size, sizeof(peer));
}

TEST(tcp_address_in_use_and_reuse)
{
	struct sockaddr_in addr;
	int on = 1;

	tcp_listener(&addr);
	int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
	ERR(bind(fd, (void *)&addr, sizeof(addr)), EADDRINUSE);
	OK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)));
	ERR(bind(fd, (void *)&addr, sizeof(addr)), EADDRINUSE);
}

TEST(tcp_options)
{
	int sv[2], value = 1;
	socklen_t size = sizeof(value);

	tcp_pair(sv);
	OK(setsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &value, sizeof(value)));
	value = 0;
	OK(getsockopt(sv[0], IPPROTO_TCP, TCP_NODELAY, &value, &size));
	CHECK_EQ(value, 1);
	OK(setsockopt(sv[0], SOL_SOCKET, SO_KEEPALIVE, &value, sizeof(value)));
	OK(getsockopt(sv[0], SOL_SOCKET, SO_TYPE, &value, &size));
	CHECK_EQ(value, SOCK_STREAM);
	struct linger linger = { 1, 0 };
	OK(setsockopt(sv[0], SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)));
	struct tcp_info info;
	size = sizeof(info);
	OK(getsockopt(sv[0], IPPROTO_TCP, TCP_INFO, &info, &size));
	CHECK_EQ(info.tcpi_state, TCP_ESTABLISHED);
	close(sv[0]);
	char byte;
	ERR(recv(sv[1], &byte, 1, 0), ECONNRESET);
	ERR(setsockopt(sv[1], IPPROTO_TCP, 9999, &value, sizeof(value)), ENOPROTOOPT);
}

TEST(tcp_large_transfer)
{
	int sv[2];
	static unsigned char buf[32768];
	unsigned long sum = 0, expect = 0;

	tcp_pair(sv);
	for (size_t i = 0; i < sizeof(buf); i++) {
		buf[i] = (unsigned char)(i * 31);
		expect += buf[i];
	}
	CHILD(pid)
	{
		for (int i = 0; i < 100; i++)
			for (size_t at = 0; at < sizeof(buf);)
				at += (size_t)OK(send(sv[0], buf + at, sizeof(buf) - at, 0));
	}
	close(sv[0]);
	ssize_t got;
	long total = 0;
	while ((got = recv(sv[1], buf, sizeof(buf), 0)) > 0) {
		for (ssize_t i = 0; i < got; i++)
			sum += buf[i];
		total += got;
	}
	CHECK_EQ(total, 100L * 32768);
	CHECK_EQ(sum, expect * 100);
	WAIT_EXIT(pid, 0);
}

TEST(tcp_epoll_edges)
{
	int sv[2], ep = OK(epoll_create1(0));
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET | EPOLLRDHUP };

	tcp_pair(sv);
	OK(epoll_ctl(ep, EPOLL_CTL_ADD, sv[1], &ev));
	CHECK_EQ(epoll_wait(ep, &ev, 1, 0), 0);
	CHECK_EQ(send(sv[0], "a", 1, 0), 1);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 20), 0);
	close(sv[0]);
	CHECK_EQ(epoll_wait(ep, &ev, 1, 5000), 1);
	CHECK(ev.events & EPOLLRDHUP);
}

TEST(udp_exchange)
{
	struct sockaddr_in addr = loopback(0), from;
	socklen_t size = sizeof(addr);
	int server = OK(socket(AF_INET, SOCK_DGRAM, 0)), client = OK(socket(AF_INET, SOCK_DGRAM, 0));
	char buf[16] = "";

	OK(bind(server, (void *)&addr, sizeof(addr)));
	OK(getsockname(server, (void *)&addr, &size));
	CHECK_EQ(sendto(client, "ping", 4, 0, (void *)&addr, sizeof(addr)), 4);
	size = sizeof(from);
	CHECK_EQ(recvfrom(server, buf, 16, 0, (void *)&from, &size), 4);
	CHECK_EQ(from.sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(sendto(server, "pong!", 5, 0, (void *)&from, size), 5);
	CHECK_EQ(recv(client, buf, 2, MSG_TRUNC), 5);
	ERR(recv(client, buf, 1, MSG_DONTWAIT), EAGAIN);
	ERR(send(client, "x", 1, 0), EDESTADDRREQ);
	OK(connect(client, (void *)&addr, sizeof(addr)));
	CHECK_EQ(send(client, "x", 1, 0), 1);
	struct sockaddr none = { .sa_family = AF_UNSPEC };
	OK(connect(client, &none, sizeof(none)));
	ERR(send(client, "x", 1, 0), EDESTADDRREQ);
	static char big[70000];
	ERR(sendto(client, big, sizeof(big), 0, (void *)&addr, sizeof(addr)), EMSGSIZE);
}

TEST(udp_refused)
{
	struct sockaddr_in addr = loopback(9);
	int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
	char byte;

	OK(connect(fd, (void *)&addr, sizeof(addr)));
	CHECK_EQ(send(fd, "x", 1, 0), 1);
	ERR(recv(fd, &byte, 1, 0), ECONNREFUSED);
}

TEST(ipv6)
{
	struct sockaddr_in6 addr = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	socklen_t size = sizeof(addr);
	int server = socket(AF_INET6, SOCK_STREAM, 0);

	if (server < 0)
		test_skip("no IPv6");
	if (bind(server, (void *)&addr, sizeof(addr)) != 0)
		test_skip("no ::1");
	OK(listen(server, 1));
	OK(getsockname(server, (void *)&addr, &size));
	int fd = OK(socket(AF_INET6, SOCK_STREAM, 0));
	OK(connect(fd, (void *)&addr, sizeof(addr)));
	int conn = OK(accept(server, NULL, NULL));
	CHECK_EQ(write(fd, "six", 3), 3);
	char buf[4] = "";
	CHECK_EQ(read(conn, buf, 4), 3);
	ERR(connect(OK(socket(AF_INET6, SOCK_STREAM, 0)), (void *)&addr, 20), EINVAL);
}

TEST(interfaces)
{
	int fd = OK(socket(AF_INET, SOCK_DGRAM, 0));
	struct ifreq ifr = { .ifr_name = "lo" };

	OK(ioctl(fd, SIOCGIFFLAGS, &ifr));
	CHECK(ifr.ifr_flags & IFF_LOOPBACK);
	CHECK(ifr.ifr_flags & IFF_UP);
	OK(ioctl(fd, SIOCGIFADDR, &ifr));
	CHECK_EQ(((struct sockaddr_in *)&ifr.ifr_addr)->sin_addr.s_addr, htonl(INADDR_LOOPBACK));
	CHECK_EQ(if_nametoindex("lo"), 1);
	strcpy(ifr.ifr_name, "none0");
	ERR(ioctl(fd, SIOCGIFFLAGS, &ifr), ENODEV);
}

TEST(sendfile_and_splice_to_socket)
{
	int sv[2], p[2];
	char buf[16] = "";
	off_t from = 0;

	tcp_pair(sv);
	OK(pipe(p));
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDONLY));
	CHECK_EQ(syscall(SYS_sendfile, sv[0], fd, &from, 10), 10);
	CHECK_EQ(recv(sv[1], buf, 10, MSG_WAITALL), 10);
	CHECK_MEM(buf, "0123456789", 10);
	CHECK_EQ(send(sv[1], "spliced", 7, 0), 7);
	CHECK_EQ(splice(sv[0], NULL, p[1], NULL, 7, 0), 7);
	CHECK_EQ(read(p[0], buf, 16), 7);
}

TEST(raw_needs_capability)
{
	CHILD(pid)
	{
		become_user(1000);
		ERR(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM);
		struct sockaddr_in addr = loopback(80);
		int fd = OK(socket(AF_INET, SOCK_STREAM, 0));
		if (bind(fd, (void *)&addr, sizeof(addr)) != 0)
			CHECK_EQ(errno, EACCES);
	}
	WAIT_EXIT(pid, 0);
}

TEST(timeouts)
{
	int sv[2];
	char byte;
	struct timeval tv = { 0, 40000 };

	tcp_pair(sv);
	OK(setsockopt(sv[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)));
	long long start = now_ms();
	ERR(recv(sv[0], &byte, 1, 0), EAGAIN);
	CHECK(now_ms() - start >= 35);
}
