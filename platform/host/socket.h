/*
 * The host's sockets, by thin wrappers: each returns a value >= 0 or -errno, none waits (descriptors are
 * made non-blocking and transfers carry MSG_DONTWAIT), but host_socket_ask. Any context.
 */
#ifndef PLATFORM_HOST_SOCKET_H
#define PLATFORM_HOST_SOCKET_H

#include <sys/socket.h>

#include "platform/base/compiler.h"

/* A close-on-exec, non-blocking socket. socket(2) */
NODISCARD int host_socket(int family, int type, int protocol);
/*
 * As host_socket, but made by the process at the other end of conn, a SOCK_SEQPACKET socket, in its network namespace.
 * Waits for it, at most 5 s; one call at a time. -ENETDOWN when it does not answer as it should: the connection is of no
 * more use then.
 */
NODISCARD int host_socket_ask(int conn, int family, int type, int protocol);
/*
 * The other end: answers one request that has come; only those that allowed() accepts (the rest get EACCES). 0, or
 * negative when the connection is over. Does not wait.
 */
NODISCARD int host_socket_answer(int conn, bool (*allowed)(int family, int type, int protocol));
NODISCARD int host_bind(int fd, const void *addr, uint32_t size);
/* -EINPROGRESS while the connection is being made. connect(2) */
NODISCARD int host_connect(int fd, const void *addr, uint32_t size);
NODISCARD int host_listen(int fd, int backlog);
/* The new descriptor is non-blocking, too. accept4(2) */
NODISCARD int host_accept(int fd);
/* *size: room on entry, true size on return. getsockname(2), getpeername(2) */
NODISCARD int host_getname(int fd, bool peer, void *addr, uint32_t *size);
NODISCARD int host_shutdown(int fd, int how);
NODISCARD int64_t host_sendmsg(int fd, const struct msghdr *m, int flags);
NODISCARD int64_t host_recvmsg(int fd, struct msghdr *m, int flags);
NODISCARD int host_setsockopt(int fd, int level, int name, const void *value, size_t size);
NODISCARD int host_getsockopt(int fd, int level, int name, void *value, size_t *size);
/* An ioctl whose argument is memory of ours: the request says how much. ioctl(2) */
NODISCARD int host_ioctl(int fd, unsigned long request, void *arg);
void host_close(int fd);

#endif
