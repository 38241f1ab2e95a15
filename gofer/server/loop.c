/* One thread, one poll set: requests are served in the order in which they arrive. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gofer/backend/ops.h"
#include "gofer/server/server.h"

static uint8_t in_buf[GOFER_MSG_MAX] __attribute__((aligned(8)));
static uint8_t out_buf[GOFER_MSG_MAX] __attribute__((aligned(8)));

#define FOLLOW_AFTER 4

static void conn_close(struct conn *c)
{
	readdir_forget(c);
	conn_drop(c);
	close(c->sock);
	c->sock = -1;
}

/* Sends a reply and the descriptors that go with it, fd (-1: none) and backend_more; takes them over. 0 or -errno. */
static int reply_send(int sock, size_t size, int fd)
{
	struct iovec iov = { out_buf, size };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int) * (1 + GOFER_AHEAD_MAX))];
	} control = { 0 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t more = sizeof(int) * backend_more.count;
	ssize_t n;

	if (fd >= 0) {
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(int) + more);
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(int));
		memcpy(CMSG_DATA(&control.head) + sizeof(int), backend_more.fd, more);
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) + more);
	}
	do
		n = sendmsg(sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	n = n < 0 ? -errno : 0;
	if (fd >= 0)
		close(fd);
	more_fds_close(&backend_more);
	return (int)n;
}

/*
 * Runs where the caller runs: it waits for the answer anyway, and waking another processor costs
 * several times the answer. Follows after some requests in a row from one processor.
 */
static void follow_caller(unsigned int cpu)
{
	static unsigned int here, seen, row;
	static bool refused;
	cpu_set_t set;

	if (cpu == 0 || cpu > CPU_SETSIZE || cpu == here || refused) {
		row = 0;
		return;
	}
	row = cpu == seen ? row + 1 : 1;
	seen = cpu;
	if (row < FOLLOW_AFTER)
		return;
	CPU_ZERO(&set);
	CPU_SET(cpu - 1, &set);
	if (sched_setaffinity(0, sizeof(set), &set) < 0)
		refused = true;
	here = cpu;
	row = 0;
}

/* Serves what one connection has sent (flags: MSG_DONTWAIT, or 0 to wait for it). 0, or negative when the connection is
 * over. */
static int conn_serve(struct conn *c, int flags)
{
	struct iovec iov = { in_buf, sizeof(in_buf) };
	/* No room for control data: descriptors that the peer sends are dropped by the kernel. */
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n = recvmsg(c->sock, &msg, flags);
	int size, fd;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) {
		log_warn("%s: message too large or with descriptors", c->path);
		return -EPROTO;
	}
	if (n >= 4)
		follow_caller(in_buf[2] | (unsigned int)in_buf[3] << 8);
	size = backend_serve(c, in_buf, (size_t)n, out_buf, &fd);
	if (size < 0)
		log_warn("%s: message %u broke the protocol", c->path, in_buf[0] | in_buf[1] << 8);
	return size > 0 ? reply_send(c->sock, (size_t)size, fd) : size;
}

void serve(struct conn *conns, unsigned int count)
{
	static struct pollfd fds[GOFER_ATTACH_MAX];
	unsigned int open = count;

	for (unsigned int i = 0; i < count; i++)
		fds[i] = (struct pollfd){ .fd = conns[i].sock, .events = POLLIN };
	/* One connection needs no poll. */
	if (count == 1) {
		while (conn_serve(&conns[0], 0) == 0)
			;
		conn_close(&conns[0]);
		return;
	}
	while (open > 0) {
		if (poll(fds, count, -1) < 0 && errno != EINTR) {
			log_error("poll: %s", strerror(errno));
			return;
		}
		for (unsigned int i = 0; i < count; i++) {
			if (fds[i].fd < 0 || !fds[i].revents)
				continue;
			if (conn_serve(&conns[i], MSG_DONTWAIT) < 0) {
				conn_close(&conns[i]);
				fds[i].fd = -1;
				open--;
			}
		}
	}
}
