/* Pipes and fifos (pipe(7), fifo(7)). */
#ifndef SENTRY_FS_PIPE_PIPE_H
#define SENTRY_FS_PIPE_PIPE_H

#include "sentry/vfs/fs_ops.h"

#define PIPE_DEFAULT_SIZE 65536u
#define PIPE_MAX_SIZE (1u << 20) /* /proc/sys/fs/pipe-max-size; more needs CAP_SYS_RESOURCE */
#define PIPE_HARD_MAX (64u << 20) /* whatever the capability */
#define PIPE_ATOMIC 4096u	 /* PIPE_BUF */

/* Hooks fifos into the VFS. Boot only. */
int pipe_init(void);
/* pipe2(2): flags of O_NONBLOCK and O_DIRECT. Two files with one reference each. */
NODISCARD int pipe_new(int flags, const struct cred *cred, struct file **ret_read, struct file **ret_write);

/* The pipe behind a pipe or fifo file, NULL for others. */
struct pipe *pipe_of_file(struct file *f);
/* F_GETPIPE_SZ; F_SETPIPE_SZ: the new size, -EBUSY, -EPERM, -EINVAL. */
unsigned pipe_size(struct pipe *p);
NODISCARD int64_t pipe_set_size(struct pipe *p, uint64_t size, bool privileged);
/* Bytes in the pipe (FIONREAD). */
unsigned pipe_bytes(struct pipe *p);

/*
 * For splice(2) and tee(2). Each moves what it can at once: bytes, -EAGAIN when it would block, 0 at the
 * end of the input (no writers), -EPIPE when the output has no readers.
 */
NODISCARD int64_t pipe_splice(struct pipe *from, struct pipe *to, size_t size, bool tee);
/* From f at *pos (NULL: its position) into the pipe, and from the pipe into f. */
NODISCARD int64_t pipe_fill(struct pipe *p, struct file *f, int64_t *pos, size_t size);
NODISCARD int64_t pipe_drain(struct pipe *p, struct file *f, int64_t *pos, size_t size);
/* Where to wait for room (POLLOUT) and bytes (POLLIN). */
struct waitq *pipe_waitq(struct pipe *p);

#endif
