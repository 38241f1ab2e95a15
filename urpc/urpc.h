/*
 * urpc: calls between runsc and runsc-sentry over a unix stream socket.
 *
 * A frame is a header (little endian: u32 size, u16 method, u16 fd count, u32 sequence), then for each
 * further batch of descriptors one zero byte, then size bytes of a packed protobuf message: the
 * method's argument, or a Reply. Descriptors ride by SCM_RIGHTS: up to SCM_MAX_FD with the header's
 * first byte and with each batch byte. Both sides treat what they read as hostile: sizes and counts
 * are bounded, surplus descriptors are closed, a frame that is wrong in any way ends the connection.
 *
 * Methods are rows of urpc/methods.def; wrappers for clients and the handler table of servers are
 * generated from them. URPC_TYPE(container_id) is the protobuf-c struct of message ContainerId.
 */
#ifndef URPC_URPC_H
#define URPC_URPC_H

#include "platform/base/compiler.h"
#include "urpc/proto/control.pb-c.h"

#define URPC_MAX_SIZE (8u << 20) /* bytes of one packed message */
#define URPC_MAX_FDS 512u	 /* descriptors of one frame */
#define URPC_FD_BATCH 253u	 /* SCM_MAX_FD */
#define URPC_MAX_CONNS 512u	 /* connections of a server */
#define URPC_MAX_WAITS 480u	 /* those on which a call without a deadline is being answered */

#define URPC_TYPE(message) __typeof__(*urpc__##message##__unpack(NULL, 0, NULL))

enum urpc_method {
#define METHOD(id, object, name, arg, result, deadline_ms) URPC_##object##_##name = (id),
#include "urpc/methods.def"
#undef METHOD
};

/* Name as "containerManager.StartRoot", or "?" for an unknown number. Static storage. */
const char *urpc_method_name(uint16_t method);

/* --- client ------------------------------------------------------------------------------------ */

/* One connection; one call at a time, by one thread at a time. */
struct urpc_client;

/*
 * Connects to the unix socket at path (any length: reached through its directory's descriptor).
 * Does not wait. -ENOENT, -ECONNREFUSED when no sentry listens any more, other negative errno.
 */
NODISCARD int urpc_connect(const char *path, struct urpc_client **ret_client);
/* Makes a client of a connected stream socket; takes fd, also on error. */
NODISCARD int urpc_connect_fd(int fd, struct urpc_client **ret_client);
/* Closes the connection; NULL is fine. */
void urpc_client_free(struct urpc_client *client);

/*
 * Calls method with arg and borrowed descriptors, waits for the reply at most deadline_ms (0: until
 * the peer answers or dies). *ret_result is then the unpacked result, freed by
 * protobuf_c_message_free_unpacked(result, NULL); ret_result may be NULL.
 * Negative errno: what the method answered, or of the connection: -ETIMEDOUT, -ECONNRESET (peer is gone),
 * -EPROTO (peer sent rubbish), -E2BIG (argument above the limits, nothing sent). After an error of the
 * connection every later call fails with -ENOTCONN. urpc_client_message tells which in words.
 */
NODISCARD int urpc_call(struct urpc_client *client, uint16_t method, const ProtobufCMessage *arg,
			const int *fds, size_t fd_count, int deadline_ms,
			const ProtobufCMessageDescriptor *result_type, ProtobufCMessage **ret_result);
/* One sentence about the last failed call, of the sentry or of the connection; valid until the next call. */
const char *urpc_client_message(const struct urpc_client *client);
/* Whether the last failure was the connection's (true) or the answer of the method (false). */
bool urpc_client_broken(const struct urpc_client *client);
/* The socket, borrowed: for poll. */
int urpc_client_fd(const struct urpc_client *client);

/* urpc_containerManager_Wait(client, arg, fds, fd_count, &result): typed urpc_call with the row's deadline. */
#define METHOD(id, object, name, arg_type, result_type, deadline_ms)                               \
	NODISCARD int urpc_##object##_##name(struct urpc_client *client,                           \
					     const URPC_TYPE(arg_type) * arg, const int *fds,      \
					     size_t fd_count, URPC_TYPE(result_type) * *ret_result);
#include "urpc/methods.def"
#undef METHOD

static inline void urpc_message_free(ProtobufCMessage *message)
{
	if (message)
		protobuf_c_message_free_unpacked(message, NULL);
}

/* --- server ------------------------------------------------------------------------------------ */

struct urpc_server;

/* One call in progress, seen by its handler; private to the connection's thread. */
struct urpc_request {
	void *context;	   /* of urpc_server_new */
	int conn_fd;	   /* the connection, borrowed: a handler that waits polls it for POLLRDHUP */
	int *fds;	   /* the call's descriptors; closed after the handler unless taken */
	size_t fd_count;
	char message[256]; /* sentence for people, sent with an error */
};

/* Moves descriptor i out of the request; the caller owns it. i must be below fd_count. */
int urpc_take_fd(struct urpc_request *req, size_t i);
/* Sets the error sentence and returns err (negative errno): `return urpc_fail(req, -ESRCH, "no process %d", pid);` */
int urpc_fail(struct urpc_request *req, int err, const char *fmt, ...) PRINTF_LIKE(3, 4);

/*
 * The handlers, NULL members answer ENOSYS. A handler runs on its connection's thread and may block, for
 * methods without deadline until the peer hangs up. arg is borrowed. result comes initialised and
 * is freed by the server like an unpacked message: what the handler puts in is malloc'ed.
 * Returns 0 or a negative errno.
 */
struct urpc_handlers {
#define METHOD(id, object, name, arg_type, result_type, deadline_ms)                               \
	int (*object##_##name)(struct urpc_request * req, const URPC_TYPE(arg_type) * arg,         \
			       URPC_TYPE(result_type) * result);
#include "urpc/methods.def"
#undef METHOD
};

/* A server on a listening unix stream socket, which it takes on success. handlers must outlive it. */
NODISCARD int urpc_server_new(int listen_fd, const struct urpc_handlers *handlers, void *context,
			      struct urpc_server **ret_server);
/*
 * Accepts connections on the calling thread, one small detached thread each, at most URPC_MAX_CONNS at
 * once (more wait in the listen queue), until urpc_server_stop. Calls without a deadline are refused (-EAGAIN) when
 * URPC_MAX_WAITS are being answered. Returns 0, or negative errno of accept; want of descriptors or memory passes.
 */
int urpc_server_run(struct urpc_server *server);
/* Makes urpc_server_run return, half a second later at most if calls are being answered. Any thread. */
void urpc_server_stop(struct urpc_server *server);

/*
 * Serves one connection on the calling thread until the peer hangs up or sends a bad frame; takes fd.
 * Used by the server's threads, tests and the fuzzer.
 */
void urpc_serve_connection(int fd, const struct urpc_handlers *handlers, void *context);

#endif
