/* Frames of urpc: see urpc.h for the layout. Private to urpc/ and its fuzzer. */
#ifndef URPC_FRAME_PRIV_H
#define URPC_FRAME_PRIV_H

#include "platform/base/compiler.h"

/* How long a peer may take over the rest of a frame that it has begun, and over taking a reply. */
#define URPC_FRAME_NS (10ll * 1000000000)

/* A received frame; owns payload and descriptors until urpc_frame_fini. */
struct urpc_frame {
	uint8_t *payload;
	uint32_t size;
	uint32_t sequence;
	uint16_t method;
	size_t fd_count;
	int *fds; /* -1: taken out */
};

/* Releases what the frame owns and empties it; fine on a zeroed frame. */
void urpc_frame_fini(struct urpc_frame *frame);

/*
 * Waits until fd is readable (POLLIN) or writable (POLLOUT) or its peer is gone; CLOCK_MONOTONIC
 * deadline, INT64_MAX waits for ever. 0 or -ETIMEDOUT.
 */
NODISCARD int urpc_wait_fd(int fd, short events, int64_t deadline_ns);

/* Sends one frame; borrows everything. -ECONNRESET when the peer is gone, -ETIMEDOUT, -E2BIG. */
NODISCARD int urpc_frame_send(int fd, uint16_t method, uint32_t sequence, const void *payload,
			      size_t size, const int *fds, size_t fd_count, int64_t deadline_ns);

/*
 * Receives one frame. -ECONNRESET at the end of the stream, -EPROTO for a frame out of bounds,
 * -ETIMEDOUT, -ENOMEM; *ret_frame is written only on success.
 */
NODISCARD int urpc_frame_recv(int fd, int64_t deadline_ns, struct urpc_frame *ret_frame);

#endif
