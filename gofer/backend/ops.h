/*
 * The operations behind the messages, one function each. All share one contract: the request is
 * unpacked and bounded and its connection is in a legal state; strings are NUL-terminated and borrow
 * the request. The reply may borrow memory that lives until the next request. Returns 0 or a
 * negative errno; *ret_fd is an owned descriptor to send along, else it stays -1.
 */
#ifndef GOFER_BACKEND_OPS_H
#define GOFER_BACKEND_OPS_H

#include "gofer/backend/node.h"

#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	NODISCARD int serve_##name(struct conn *conn, const struct gofer_##name##_req *req,        \
				   struct gofer_##name##_rep *rep, int *ret_fd);
#include "gofer/proto/messages.def"

/*
 * Serves one request of size bytes in buf and packs the reply into out (GOFER_MSG_MAX bytes).
 * Returns the reply's size, 0 when there is none, or -EPROTO when the peer broke the protocol and
 * the connection must end. *ret_fd is an owned descriptor to send with the reply, or -1.
 */
NODISCARD int backend_serve(struct conn *conn, void *buf, size_t size, void *out, int *ret_fd);

/* Fills in how the directory behind fd was before a change of its names, and is after it. */
void around_begin(int fd, struct gofer_around *around);
void around_end(int fd, struct gofer_around *around);
/* Opens a regular file as enum gofer_open says; the caller owns the descriptor. */
NODISCARD int backend_open_file(struct conn *conn, struct node *node, unsigned int open);
/* Text of the symlink behind an O_PATH descriptor; borrows memory until the next request. */
NODISCARD int backend_readlink(int fd, struct gofer_str *ret_target);
/* Descriptors that go along behind the first of a reply: filled by open, emptied by who sends them. */
struct more_fds {
	int fd[GOFER_AHEAD_MAX];
	unsigned int count;
};
extern struct more_fds backend_more;
void more_fds_close(struct more_fds *more);
/* Closes the directory that readdir keeps open for conn. */
void readdir_forget(const struct conn *conn);

#endif
