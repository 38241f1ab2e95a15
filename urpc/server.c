#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/host/thread.h"
#include "urpc/frame_priv.h"
#include "urpc/urpc.h"

/* CreateRoot and ExecuteAsync walk paths and load programs on the connection's thread. */
#define CONN_STACK (256u << 10)
/* below a second: how long the end of the server waits for calls that are being answered */
#define URPC_DRAIN_NS 500000000ll
/* between two tries to accept a connection for which there was no descriptor */
#define URPC_AGAIN_NS 20000000

struct urpc_server {
	int listen_fd, wake_fd;
	const struct urpc_handlers *handlers;
	void *context;
	_Atomic uint32_t conn_count;
	_Atomic uint32_t call_count; /* calls that are being answered */
	_Atomic uint32_t wait_count; /* those of them that have no deadline */
	_Atomic bool stop;
};

struct conn {
	struct urpc_server *server;
	int fd;
};

int urpc_take_fd(struct urpc_request *req, size_t i)
{
	int fd;

	BUG_ON(i >= req->fd_count);
	fd = req->fds[i];
	req->fds[i] = -1;
	return fd;
}

int urpc_fail(struct urpc_request *req, int err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(req->message, sizeof(req->message), fmt, ap);
	va_end(ap);
	return err;
}

/* Packs message into a fresh buffer; -EMSGSIZE above the bound. */
static int pack(const ProtobufCMessage *message, ProtobufCBinaryData *ret_data)
{
	size_t size = protobuf_c_message_get_packed_size(message);
	uint8_t *data;

	if (size > URPC_MAX_SIZE)
		return -EMSGSIZE;
	data = malloc(size ? size : 1);
	if (!data)
		return -ENOMEM;
	protobuf_c_message_pack(message, data);
	*ret_data = (ProtobufCBinaryData){ .len = size, .data = data };
	return 0;
}

#define METHOD(id, object, name, arg_type, result_type, deadline_ms)                               \
	static int dispatch_##object##_##name(const struct urpc_handlers *handlers,                \
					      struct urpc_request *req,                            \
					      const struct urpc_frame *frame,                      \
					      ProtobufCBinaryData *ret_data)                       \
	{                                                                                          \
		URPC_TYPE(arg_type) * arg;                                                         \
		URPC_TYPE(result_type) * result;                                                   \
		int err;                                                                           \
                                                                                                   \
		if (!handlers->object##_##name)                                                    \
			return urpc_fail(req, -ENOSYS, #object "." #name " is not served");        \
		arg = urpc__##arg_type##__unpack(NULL, frame->size, frame->payload);               \
		if (!arg)                                                                          \
			return urpc_fail(req, -EINVAL, #object "." #name ": bad argument");        \
		result = malloc(sizeof(*result));                                                  \
		if (!result) {                                                                     \
			urpc__##arg_type##__free_unpacked(arg, NULL);                              \
			return -ENOMEM;                                                            \
		}                                                                                  \
		urpc__##result_type##__init(result);                                               \
		err = handlers->object##_##name(req, arg, result);                                 \
		if (err == 0)                                                                      \
			err = pack(&result->base, ret_data);                                       \
		urpc__##result_type##__free_unpacked(result, NULL);                                \
		urpc__##arg_type##__free_unpacked(arg, NULL);                                      \
		return err;                                                                        \
	}
#include "urpc/methods.def"
#undef METHOD

static int dispatch(const struct urpc_handlers *handlers, struct urpc_request *req,
		    const struct urpc_frame *frame, ProtobufCBinaryData *ret_data)
{
	switch (frame->method) {
#define METHOD(id, object, name, arg, result, deadline_ms)                                         \
	case (id):                                                                                 \
		return dispatch_##object##_##name(handlers, req, frame, ret_data);
#include "urpc/methods.def"
#undef METHOD
	default:
		return urpc_fail(req, -ENOSYS, "unknown method %u", frame->method);
	}
}

/* Answers one call (handlers NULL: it is one too many that wait); negative when the connection is of no more use. */
static int serve_call(int fd, const struct urpc_handlers *handlers, void *context,
		      struct urpc_frame *frame)
{
	struct urpc_request req = {
		.context = context, .conn_fd = fd, .fds = frame->fds, .fd_count = frame->fd_count
	};
	ProtobufCBinaryData packed = { 0 };
	Urpc__Reply reply;
	int err;

	urpc__reply__init(&reply);
	log_debug("urpc: %s with %zu descriptors", urpc_method_name(frame->method), frame->fd_count);
	err = handlers ? dispatch(handlers, &req, frame, &reply.result) :
			 urpc_fail(&req, -EAGAIN, "%u calls wait already", URPC_MAX_WAITS);
	if (err < 0) {
		reply.error = (uint32_t)-err;
		reply.message = req.message;
		log_debug("urpc: %s: %s (%s)", urpc_method_name(frame->method), strerror(-err),
			  req.message);
	}
	err = pack(&reply.base, &packed);
	if (err == 0)
		err = urpc_frame_send(fd, frame->method, frame->sequence, packed.data, packed.len, NULL,
				      0, host_monotonic_ns() + URPC_FRAME_NS);
	free(packed.data);
	free(reply.result.data);
	return err;
}

static void server_wake(struct urpc_server *server)
{
	uint64_t one = 1;
	ssize_t n = write(server->wake_fd, &one, sizeof(one));

	BUG_ON(n < 0 && errno != EAGAIN);
}

static bool has_deadline(uint16_t method)
{
	switch (method) {
#define METHOD(id, object, name, arg, result, deadline_ms)                                         \
	case (id):                                                                                 \
		return (deadline_ms) > 0;
#include "urpc/methods.def"
#undef METHOD
	default:
		return true;
	}
}

/*
 * serve_call, counted while it lasts, so that the end of the server can wait for it. Who waits keeps a connection: not so
 * many may that nobody could send a signal any more.
 */
static int serve_counted(struct urpc_server *server, int fd, struct urpc_frame *frame)
{
	bool waits = !has_deadline(frame->method);
	bool refused = waits && atomic_fetch_add(&server->wait_count, 1) >= URPC_MAX_WAITS;
	int err;

	atomic_fetch_add(&server->call_count, 1);
	err = serve_call(fd, refused ? NULL : server->handlers, server->context, frame);
	if (waits)
		atomic_fetch_sub(&server->wait_count, 1);
	if (atomic_fetch_sub(&server->call_count, 1) == 1 && atomic_load(&server->stop))
		server_wake(server);
	return err;
}

static void serve_connection(struct urpc_server *server, int fd, const struct urpc_handlers *handlers, void *context)
{
	int err = 0;

	while (err == 0) {
		struct urpc_frame frame = { 0 };

		err = urpc_wait_fd(fd, POLLIN, INT64_MAX);
		if (err == 0)
			err = urpc_frame_recv(fd, host_monotonic_ns() + URPC_FRAME_NS, &frame);
		if (err == 0)
			err = server ? serve_counted(server, fd, &frame) :
				       serve_call(fd, handlers, context, &frame);
		urpc_frame_fini(&frame);
	}
	if (err != -ECONNRESET)
		log_warn("urpc: connection closed: %s", strerror(-err));
	close(fd);
}

void urpc_serve_connection(int fd, const struct urpc_handlers *handlers, void *context)
{
	serve_connection(NULL, fd, handlers, context);
}

static void *conn_main(void *arg)
{
	struct conn conn = *(struct conn *)arg;

	free(arg);
	serve_connection(conn.server, conn.fd, conn.server->handlers, conn.server->context);
	atomic_fetch_sub(&conn.server->conn_count, 1);
	server_wake(conn.server);
	return NULL;
}

int urpc_server_new(int listen_fd, const struct urpc_handlers *handlers, void *context,
		    struct urpc_server **ret_server)
{
	struct urpc_server *server = calloc(1, sizeof(*server));

	if (!server)
		return -ENOMEM;
	server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (server->wake_fd < 0 || fcntl(listen_fd, F_SETFL, O_NONBLOCK) < 0) {
		int err = -errno;

		if (server->wake_fd >= 0)
			close(server->wake_fd);
		free(server);
		return err;
	}
	server->listen_fd = listen_fd;
	server->handlers = handlers;
	server->context = context;
	*ret_server = server;
	return 0;
}

static int accept_one(struct urpc_server *server)
{
	static const struct timespec again = { .tv_nsec = URPC_AGAIN_NS };
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct conn *conn;
	int err;

	if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)) {
		/* the guest may have them all: until it gives some back, or is killed from outside */
		ppoll(NULL, 0, &again, NULL);
		return 0;
	}
	if (fd < 0)
		return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
	conn = malloc(sizeof(*conn));
	if (!conn) {
		close(fd);
		return 0;
	}
	*conn = (struct conn){ server, fd };
	atomic_fetch_add(&server->conn_count, 1);
	err = host_thread_start("control", CONN_STACK, conn_main, conn);
	if (err < 0) {
		log_error("urpc: no thread for a connection: %s", strerror(-err));
		atomic_fetch_sub(&server->conn_count, 1);
		close(fd);
		free(conn);
	}
	return 0;
}

/* Lets the calls end that are being answered; those that wait for something may not. */
static void server_drain(struct urpc_server *server)
{
	int64_t end = host_monotonic_ns() + URPC_DRAIN_NS, left;
	struct pollfd pfd = { .fd = server->wake_fd, .events = POLLIN };
	uint64_t count;

	while (atomic_load(&server->call_count) > 0 && (left = end - host_monotonic_ns()) > 0) {
		struct timespec ts = { .tv_nsec = (long)left };

		if (ppoll(&pfd, 1, &ts, NULL) > 0 && read(server->wake_fd, &count, sizeof(count)) < 0)
			return;
	}
}

int urpc_server_run(struct urpc_server *server)
{
	int err = 0;

	while (err == 0 && !atomic_load(&server->stop)) {
		struct pollfd pfd[2] = { { .fd = server->wake_fd, .events = POLLIN },
					 { .fd = server->listen_fd, .events = POLLIN } };
		bool full = atomic_load(&server->conn_count) >= URPC_MAX_CONNS;
		uint64_t count;

		if (ppoll(pfd, full ? 1 : 2, NULL, NULL) < 0) {
			if (errno != EINTR)
				err = -errno;
			continue;
		}
		if (pfd[0].revents && read(server->wake_fd, &count, sizeof(count)) < 0 &&
		    errno != EAGAIN)
			err = -errno;
		if (!full && pfd[1].revents)
			err = accept_one(server);
	}
	server_drain(server);
	return err;
}

void urpc_server_stop(struct urpc_server *server)
{
	atomic_store(&server->stop, true);
	server_wake(server);
}
