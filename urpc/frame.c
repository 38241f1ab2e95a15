#include "urpc/frame_priv.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/base/cursor.h"
#include "platform/host/clock.h"
#include "urpc/urpc.h"

#define HEADER_SIZE 12u

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(URPC_FD_BATCH * sizeof(int))];
};

const char *urpc_method_name(uint16_t method)
{
	switch (method) {
#define METHOD(id, object, name, arg, result, deadline_ms)                                         \
	case (id):                                                                                 \
		return #object "." #name;
#include "urpc/methods.def"
#undef METHOD
	default:
		return "?";
	}
}

void urpc_frame_fini(struct urpc_frame *frame)
{
	for (size_t i = 0; i < frame->fd_count; i++) {
		if (frame->fds[i] >= 0)
			close(frame->fds[i]);
	}
	free(frame->fds);
	free(frame->payload);
	*frame = (struct urpc_frame){ 0 };
}

int urpc_wait_fd(int fd, short events, int64_t deadline_ns)
{
	struct pollfd pfd = { .fd = fd, .events = events };

	for (;;) {
		struct timespec ts, *timeout = NULL;

		if (deadline_ns != INT64_MAX) {
			int64_t left = deadline_ns - host_monotonic_ns();

			if (left < 0)
				left = 0;
			ts.tv_sec = left / 1000000000;
			ts.tv_nsec = left % 1000000000;
			timeout = &ts;
		}
		int n = ppoll(&pfd, 1, timeout, NULL);

		if (n > 0)
			return 0;
		if (n == 0)
			return -ETIMEDOUT;
		if (errno != EINTR)
			return -errno;
	}
}

/* Sends size bytes, the descriptors with the first of them. */
static int send_bytes(int fd, const uint8_t *p, size_t size, const int *fds, size_t fd_count,
		      int64_t deadline_ns)
{
	union control control;

	while (size > 0) {
		struct iovec iov = { (void *)(uintptr_t)p, size };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (fd_count > 0) {
			memset(&control, 0, sizeof(control));
			msg.msg_control = &control;
			msg.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
			struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

			c->cmsg_level = SOL_SOCKET;
			c->cmsg_type = SCM_RIGHTS;
			c->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
			memcpy(CMSG_DATA(c), fds, fd_count * sizeof(int));
		}
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			p += n;
			size -= (size_t)n;
			fd_count = 0;
		} else if (errno == EAGAIN) {
			int err = urpc_wait_fd(fd, POLLOUT, deadline_ns);

			if (err < 0)
				return err;
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return -ECONNRESET;
		} else if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int urpc_frame_send(int fd, uint16_t method, uint32_t sequence, const void *payload, size_t size,
		    const int *fds, size_t fd_count, int64_t deadline_ns)
{
	uint8_t header[HEADER_SIZE];
	struct cursor c = cursor_init(header, sizeof(header));
	size_t batch = MIN(fd_count, (size_t)URPC_FD_BATCH);
	int err;

	if (size > URPC_MAX_SIZE || fd_count > URPC_MAX_FDS)
		return -E2BIG;
	cursor_put_u32(&c, (uint32_t)size);
	cursor_put_u16(&c, method);
	cursor_put_u16(&c, (uint16_t)fd_count);
	cursor_put_u32(&c, sequence);
	err = send_bytes(fd, header, sizeof(header), fds, batch, deadline_ns);
	for (size_t sent = batch; err == 0 && sent < fd_count; sent += batch) {
		batch = MIN(fd_count - sent, (size_t)URPC_FD_BATCH);
		err = send_bytes(fd, (const uint8_t *)"", 1, fds + sent, batch, deadline_ns);
	}
	if (err == 0)
		err = send_bytes(fd, payload, size, NULL, 0, deadline_ns);
	return err;
}

/* Moves the descriptors of one received message into frame; surplus ones are closed. */
static int take_control(struct msghdr *msg, struct urpc_frame *frame)
{
	bool surplus = msg->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (frame->fd_count < URPC_MAX_FDS) {
				frame->fds[frame->fd_count++] = fd;
			} else {
				close(fd);
				surplus = true;
			}
		}
	}
	return surplus ? -EPROTO : 0;
}

/* Receives exactly size bytes, and descriptors into frame when it is not NULL. */
static int recv_bytes(int fd, uint8_t *p, size_t size, struct urpc_frame *frame, int64_t deadline_ns)
{
	union control control;
	int err = 0;

	while (size > 0) {
		struct iovec iov = { p, size };
		struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

		if (frame) {
			msg.msg_control = &control;
			msg.msg_controllen = sizeof(control);
		}
		ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

		if (n > 0) {
			p += n;
			size -= (size_t)n;
			err = frame ? take_control(&msg, frame) : 0;
		} else if (n == 0 || errno == ECONNRESET) {
			err = -ECONNRESET;
		} else if (errno == EAGAIN) {
			err = urpc_wait_fd(fd, POLLIN, deadline_ns);
		} else if (errno != EINTR) {
			err = -errno;
		}
		if (err < 0)
			return err;
	}
	return 0;
}

int urpc_frame_recv(int fd, int64_t deadline_ns, struct urpc_frame *ret_frame)
{
	uint8_t header[HEADER_SIZE], mark;
	int fds[URPC_MAX_FDS];
	struct urpc_frame frame = { .fds = fds };
	struct cursor c = cursor_init(header, sizeof(header));
	size_t announced = 0;
	int err;

	err = recv_bytes(fd, header, sizeof(header), &frame, deadline_ns);
	if (err < 0)
		goto fail;
	frame.size = cursor_get_u32(&c);
	frame.method = cursor_get_u16(&c);
	announced = cursor_get_u16(&c);
	frame.sequence = cursor_get_u32(&c);
	err = -EPROTO;
	if (frame.size > URPC_MAX_SIZE || announced > URPC_MAX_FDS)
		goto fail;
	for (size_t i = URPC_FD_BATCH; i < announced; i += URPC_FD_BATCH) {
		err = recv_bytes(fd, &mark, 1, &frame, deadline_ns);
		if (err < 0)
			goto fail;
	}
	err = -EPROTO;
	if (frame.fd_count != announced)
		goto fail;
	err = -ENOMEM;
	frame.payload = malloc(frame.size ? frame.size : 1);
	if (!frame.payload)
		goto fail;
	err = recv_bytes(fd, frame.payload, frame.size, NULL, deadline_ns);
	if (err < 0)
		goto fail;
	frame.fds = NULL;
	if (announced > 0) {
		frame.fds = malloc(announced * sizeof(int));
		if (!frame.fds) {
			frame.fds = fds;
			err = -ENOMEM;
			goto fail;
		}
		memcpy(frame.fds, fds, announced * sizeof(int));
	}
	*ret_frame = frame;
	return 0;
fail:
	for (size_t i = 0; i < frame.fd_count; i++)
		close(fds[i]);
	free(frame.payload);
	return err;
}
