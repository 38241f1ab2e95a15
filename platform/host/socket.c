#include "platform/host/socket.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int result(int ret)
{
	return ret < 0 ? -errno : ret;
}

int host_socket(int family, int type, int protocol)
{
	return result(socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
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
