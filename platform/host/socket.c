#include "platform/host/socket.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ANSWER_SECONDS 5

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

int host_socket(int family, int type, int protocol)
{
	return result(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}

struct socket_request {
	int32_t family, type, protocol;
};

/* Room for one descriptor. */
union fd_control {
	struct cmsghdr head;
	char space[CMSG_SPACE(sizeof(int))];
};

/* The descriptor that came along, or -1. */
static int received_fd(struct msghdr *m)
{
	struct cmsghdr *head = CMSG_FIRSTHDR(m);
	int fd = -1;

	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(head), sizeof(int));
	return fd;
}

static bool is_socket_of(int fd, int family, int type)
{
	int has_family, has_type;
	socklen_t a = sizeof(has_family), b = sizeof(has_type);

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &has_family, &a) == 0 && has_family == family &&
	       getsockopt(fd, SOL_SOCKET, SO_TYPE, &has_type, &b) == 0 && has_type == type;
}

int host_socket_ask(int conn, int family, int type, int protocol)
{
	struct socket_request request = { family, type, protocol };
	struct pollfd pfd = { .fd = conn, .events = POLLIN };
	struct timespec limit = { .tv_sec = ANSWER_SECONDS };
	union fd_control control;
	int32_t err = 0;
	struct iovec iov = { &request, sizeof(request) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fd;

	if (host_sendmsg(conn, &m, 0) != sizeof(request) || ppoll(&pfd, 1, &limit, NULL) != 1)
		return -ENETDOWN;
	iov = (struct iovec){ &err, sizeof(err) };
	m = (struct msghdr){ .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	if (host_recvmsg(conn, &m, 0) != sizeof(err))
		return -ENETDOWN;
	fd = received_fd(&m);
	if (fd >= 0 && err == 0 && is_socket_of(fd, family, type))
		return fd;
	if (fd >= 0)
		close(fd);
	return fd < 0 && err > 0 && err < 4096 ? -err : -ENETDOWN;
}

int host_socket_answer(int conn, bool (*allowed)(int family, int type, int protocol))
{
	struct socket_request request;
	union fd_control control = { 0 };
	struct iovec iov = { &request, sizeof(request) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	int64_t n = host_recvmsg(conn, &m, 0);
	int32_t err = 0;
	int fd;

	if (n == -EAGAIN || n == -EINTR)
		return 0;
	if (n != sizeof(request) || m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return -EPROTO;
	fd = allowed(request.family, request.type, request.protocol) ?
		     host_socket(request.family, request.type, request.protocol) :
		     -EACCES;
	if (fd < 0)
		err = -fd;
	iov = (struct iovec){ &err, sizeof(err) };
	if (fd >= 0) {
		control.head = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	n = host_sendmsg(conn, &m, 0);
	if (fd >= 0)
		close(fd);
	return n < 0 ? (int)n : 0;
}

int host_bind(int fd, const void *addr, uint32_t size)
{
	return result(bind(fd, addr, size));
}

int host_connect(int fd, const void *addr, uint32_t size)
{
	return result(connect(fd, addr, size));
}

int host_listen(int fd, int backlog)
{
	return result(listen(fd, backlog));
}

int host_accept(int fd)
{
	return result(accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

int host_getname(int fd, bool peer, void *addr, uint32_t *size)
{
	socklen_t len = *size;
	int ret = result(peer ? getpeername(fd, addr, &len) : getsockname(fd, addr, &len));

	if (ret == 0)
		*size = len;
	return ret;
}

int host_shutdown(int fd, int how)
{
	return result(shutdown(fd, how));
}

int64_t host_sendmsg(int fd, const struct msghdr *m, int flags)
{
	ssize_t ret = sendmsg(fd, m, flags | MSG_DONTWAIT | MSG_NOSIGNAL);

	return ret < 0 ? -errno : ret;
}

int64_t host_recvmsg(int fd, struct msghdr *m, int flags)
{
	ssize_t ret = recvmsg(fd, m, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	return ret < 0 ? -errno : ret;
}

int host_setsockopt(int fd, int level, int name, const void *value, size_t size)
{
	return result(setsockopt(fd, level, name, value, (socklen_t)size));
}

int host_getsockopt(int fd, int level, int name, void *value, size_t *size)
{
	socklen_t len = (socklen_t)*size;
	int ret = result(getsockopt(fd, level, name, value, &len));

	if (ret == 0)
		*size = len;
	return ret;
}

int host_ioctl(int fd, unsigned long request, void *arg)
{
	return result(ioctl(fd, request, arg));
}

void host_close(int fd)
{
	close(fd);
}
