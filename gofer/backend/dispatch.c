/* From bytes to operations: states, unpacking, the call, packing. */
#include <errno.h>
#include <unistd.h>

#include "gofer/backend/ops.h"
#include "platform/base/log.h"

/* One typed trampoline for each message: a request that does not unpack is -EPROTO. */
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	static int call_##name(struct conn *conn, struct cursor *in, struct cursor *out,           \
			       int *ret_fd, int *ret_error)                                        \
	{                                                                                          \
		static struct gofer_##name##_req req;                                              \
		static struct gofer_##name##_rep rep;                                              \
		if (gofer_unpack_##name##_req(in, &req) < 0)                                       \
			return -EPROTO;                                                            \
		memset(&rep, 0, sizeof(rep));                                                       \
		*ret_error = serve_##name(conn, &req, &rep, ret_fd);                               \
		if (*ret_error == 0)                                                               \
			gofer_pack_##name##_rep(out, &rep);                                        \
		return 0;                                                                          \
	}
#include "gofer/proto/messages.def"

typedef int call_fn(struct conn *conn, struct cursor *in, struct cursor *out, int *ret_fd,
		    int *ret_error);
static call_fn *const calls[GOFER_MSG_COUNT] = {
#define GOFER_MSG(id, name, legal, request, reply) [id] = call_##name,
#include "gofer/proto/messages.def"
};

int backend_serve(struct conn *conn, void *buf, size_t size, void *out, int *ret_fd)
{
	struct cursor in = cursor_init(buf, size);
	struct cursor head = cursor_init(out, GOFER_HEADER_SIZE);
	struct cursor body = cursor_init((uint8_t *)out + GOFER_HEADER_SIZE,
					 GOFER_MSG_MAX - GOFER_HEADER_SIZE);
	struct gofer_header h;
	int error = 0;

	*ret_fd = -1;
	more_fds_close(&backend_more);
	backend_next_request();
	if (gofer_get_request_header(&in, &h) < 0)
		return -EPROTO;
	if (gofer_msg_legal(h.id) & conn->state) {
		if (calls[h.id](conn, &in, &body, ret_fd, &error) < 0)
			return -EPROTO;
		backend_end_request();
	} else if (conn->state == GOFER_IN_RO && gofer_msg_legal(h.id) == GOFER_IN_RW) {
		error = -EROFS;
	} else {
		return -EPROTO;
	}
	if (h.id == GOFER_close)
		return error < 0 ? -EPROTO : 0;
	if (!error && body.bad) {
		if (*ret_fd >= 0)
			close(*ret_fd);
		*ret_fd = -1;
		more_fds_close(&backend_more);
		error = -EOVERFLOW;
	}
	h.error = -error;
	gofer_put_reply_header(&head, &h);
	return error ? (int)GOFER_HEADER_SIZE : (int)(body.p - (uint8_t *)out);
}
