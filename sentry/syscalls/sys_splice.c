/* Moving data between descriptors: splice(2), tee(2), vmsplice(2), sendfile(2), copy_file_range(2). */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "sentry/core/umem.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/iovec.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

#define SPLICE_FLAGS (SPLICE_F_MOVE | SPLICE_F_NONBLOCK | SPLICE_F_MORE | SPLICE_F_GIFT)
#define COPY_CHUNK (128u << 10)

/* One transfer in progress. */
struct transfer {
	struct file *in, *out;
	int64_t *in_pos, *out_pos; /* NULL: the file's own */
	uint64_t left;
	bool tee;
	/* Moves once: bytes, 0 at the end, -EAGAIN when it would block. */
	int64_t (*step)(struct transfer *x);
};

static void raise_sigpipe(struct task *t)
{
	struct guest_siginfo info = siginfo_user(t, SIGPIPE, GUEST_SI_USER);

	(void)signal_send_task(t, &info);
}

/* Steps until something was moved and no more can be had at once; sleeps on both files before that. */
static int64_t transfer_run(struct task *t, struct transfer *x, bool nonblock, const char *what)
{
	struct waiter in, out;
	bool waiting = false;
	int64_t done = 0, r = 0;

	while (x->left) {
		r = x->step(x);
		if (r > 0) {
			done += r;
			x->left -= (uint64_t)r;
			if (x->tee)
				break;
			continue;
		}
		if (r != -EAGAIN || done || nonblock)
			break;
		if (!waiting) {
			waiter_init(&in, t, POLLIN | POLLERR | POLLHUP);
			waiter_init(&out, t, POLLOUT | POLLERR | POLLHUP);
			/* Regular files have no queue and never give -EAGAIN. */
			(void)!file_wait_add(x->in, &in.entry);
			(void)!file_wait_add(x->out, &out.entry);
			waiting = true;
			continue;
		}
		r = task_block(t, TIME_FOREVER, what);
		if (r < 0)
			break;
	}
	if (waiting) {
		waitq_remove(&in.entry);
		waitq_remove(&out.entry);
	}
	if (done)
		return done;
	if (r == -EPIPE)
		raise_sigpipe(t);
	return r;
}

static int64_t step_pipes(struct transfer *x)
{
	return pipe_splice(pipe_of_file(x->in), pipe_of_file(x->out), x->left, x->tee);
}

static int64_t step_fill(struct transfer *x)
{
	return pipe_fill(pipe_of_file(x->out), x->in, x->in_pos, x->left);
}

static int64_t step_drain(struct transfer *x)
{
	return pipe_drain(pipe_of_file(x->in), x->out, x->out_pos, x->left);
}

static bool readable(struct file *f)
{
	return (file_flags(f) & O_ACCMODE) != O_WRONLY;
}

static bool writable(struct file *f)
{
	return (file_flags(f) & O_ACCMODE) == O_WRONLY || (file_flags(f) & O_ACCMODE) == O_RDWR;
}

/* Copies an optional offset in: *ret_pos is pos or NULL. A pipe has none. */
static int offset_in(struct task *t, uaddr_t addr, struct file *f, int64_t *pos, int64_t **ret_pos)
{
	*ret_pos = NULL;
	if (!addr.v)
		return 0;
	if (f->ops->stream)
		return -ESPIPE;
	if (copy_in_struct(task_umem(t), pos, addr) < 0)
		return -EFAULT;
	if (*pos < 0)
		return -EINVAL;
	*ret_pos = pos;
	return 0;
}

/* Writes the advanced offset back after a transfer. */
static int64_t offset_out(struct task *t, uaddr_t addr, const int64_t *pos, int64_t result)
{
	if (result > 0 && pos && copy_out_struct(task_umem(t), addr, pos) < 0)
		return -EFAULT;
	return result;
}

/* Does either pipe end of the transfer refuse to wait? */
static bool is_nonblock(const struct transfer *x, uint32_t flags)
{
	return flags & SPLICE_F_NONBLOCK || (pipe_of_file(x->in) && file_flags(x->in) & O_NONBLOCK) ||
	       (pipe_of_file(x->out) && file_flags(x->out) & O_NONBLOCK);
}

/* Data comes from and goes to files with a type; eventfds and their like, and directories, have none. */
static bool spliceable(struct file *f)
{
	uint32_t type = file_inode(f)->mode & S_IFMT;

	return type && type != S_IFDIR;
}

int64_t sys_splice(struct task *t, int32_t fd_in, uaddr_t off_in, int32_t fd_out, uaddr_t off_out, uint64_t len,
		   uint32_t flags)
{
	AUTO(file_put) struct file *in = task_fd_io(t, fd_in);
	AUTO(file_put) struct file *out = task_fd_io(t, fd_out);
	struct transfer x = { .in = in, .out = out, .left = MIN(len, IOVEC_BYTES_MAX) };
	int64_t in_pos, out_pos, r;

	if (!len)
		return 0;
	if (flags & ~(uint32_t)SPLICE_FLAGS)
		return -EINVAL;
	if (!in || !out || !readable(in) || !writable(out))
		return -EBADF;
	r = offset_in(t, off_in, in, &in_pos, &x.in_pos);
	if (r == 0)
		r = offset_in(t, off_out, out, &out_pos, &x.out_pos);
	if (r < 0)
		return r;
	if (pipe_of_file(in) && pipe_of_file(out))
		x.step = step_pipes;
	else if (pipe_of_file(in))
		x.step = step_drain;
	else if (pipe_of_file(out))
		x.step = step_fill;
	else
		return -EINVAL;
	if ((!pipe_of_file(out) && file_flags(out) & O_APPEND) || !spliceable(in) || !spliceable(out) ||
	    !in->ops->read || !out->ops->write)
		return -EINVAL;
	r = transfer_run(t, &x, is_nonblock(&x, flags), "splice");
	r = offset_out(t, off_in, x.in_pos, r);
	return offset_out(t, off_out, x.out_pos, r);
}

int64_t sys_tee(struct task *t, int32_t fdin, int32_t fdout, uint64_t len, uint32_t flags)
{
	AUTO(file_put) struct file *in = task_fd_io(t, fdin);
	AUTO(file_put) struct file *out = task_fd_io(t, fdout);
	struct transfer x = { .in = in, .out = out, .left = MIN(len, IOVEC_BYTES_MAX), .tee = true, .step = step_pipes };

	if (flags & ~(uint32_t)SPLICE_FLAGS)
		return -EINVAL;
	if (!in || !out || !readable(in) || !writable(out))
		return -EBADF;
	if (!pipe_of_file(in) || !pipe_of_file(out) || pipe_of_file(in) == pipe_of_file(out))
		return -EINVAL;
	return transfer_run(t, &x, is_nonblock(&x, flags), "tee");
}

int64_t sys_vmsplice(struct task *t, int32_t fd, uaddr_t uiov, uint64_t nr_segs, uint32_t flags)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct iovec_arg v;
	struct uio u;
	bool nonblock, writes;
	int64_t r;

	if (flags & ~(uint32_t)SPLICE_FLAGS)
		return -EINVAL;
	if (!f || !pipe_of_file(f))
		return -EBADF;
	r = iovec_arg_init(&v, t, uiov, nr_segs, &u);
	if (r < 0)
		return r;
	writes = writable(f);
	nonblock = flags & SPLICE_F_NONBLOCK || file_flags(f) & O_NONBLOCK;
	/* The pages are copied; what a later change of them would show in the pipe is unspecified anyway. */
	if (nonblock)
		r = writes ? file_write(f, &u, NULL) : file_read(f, &u, NULL);
	else
		r = file_block(t, f, (writes ? POLLOUT : POLLIN) | POLLERR | POLLHUP, TIME_FOREVER, "vmsplice",
			       writes ? file_write(f, &u, NULL) : file_read(f, &u, NULL));
	iovec_arg_fini(&v);
	if (r == -EPIPE)
		raise_sigpipe(t);
	return r;
}

/* Writes all of buf to f, sleeping unless it is O_NONBLOCK. Bytes written, or -errno when none were. */
static int64_t write_out(struct task *t, struct file *f, void *buf, uint64_t size, int64_t *pos)
{
	int64_t done = 0, r = 0;
	struct uio u;

	uio_init_kernel(&u, buf, size);
	while (u.resid) {
		if (file_flags(f) & O_NONBLOCK)
			r = file_write(f, &u, pos);
		else
			r = file_block(t, f, POLLOUT | POLLERR | POLLHUP, TIME_FOREVER, "sendfile",
				       file_write(f, &u, pos));
		if (r <= 0)
			break;
		done += r;
	}
	return done ? done : r;
}

/* Copies from *in_pos of in to out through a buffer; advances *in_pos by what out took. */
static int64_t copy_through(struct task *t, struct file *in, int64_t *in_pos, struct file *out, int64_t *out_pos,
			    uint64_t count)
{
	size_t chunk = MIN(count, (uint64_t)COPY_CHUNK);
	char *buf = malloc(chunk ? chunk : 1);
	int64_t done = 0, r = 0;

	if (!buf)
		return -ENOMEM;
	while (count) {
		int64_t at = *in_pos, got;
		struct uio u;

		uio_init_kernel(&u, buf, MIN(count, (uint64_t)chunk));
		got = file_read(in, &u, &at);
		if (got <= 0) {
			r = got;
			break;
		}
		r = write_out(t, out, buf, (uint64_t)got, out_pos);
		if (r <= 0)
			break;
		*in_pos += r;
		done += r;
		count -= (uint64_t)r;
		if (r < got)
			break;
	}
	free(buf);
	return done ? done : r;
}

int64_t sys_sendfile(struct task *t, int32_t out_fd, int32_t in_fd, uaddr_t offset, uint64_t count)
{
	AUTO(file_put) struct file *in = task_fd_io(t, in_fd);
	AUTO(file_put) struct file *out = task_fd_io(t, out_fd);
	int64_t pos, *given, r;

	if (!in || !out || !readable(in) || !writable(out))
		return -EBADF;
	r = offset_in(t, offset, in, &pos, &given);
	if (r < 0)
		return r;
	if (S_ISDIR(file_inode(in)->mode) || in->ops->stream ||
	    (!out->ops->stream && file_flags(out) & O_APPEND))
		return -EINVAL;
	if ((int64_t)count < 0)
		return -EINVAL;
	if (!given) {
		pos = file_seek(in, 0, SEEK_CUR);
		if (pos < 0)
			return pos;
	}
	r = copy_through(t, in, &pos, out, NULL, MIN(count, IOVEC_BYTES_MAX));
	if (r == -EPIPE)
		raise_sigpipe(t);
	if (r > 0 && given)
		return offset_out(t, offset, given, r);
	if (r > 0 && file_seek(in, pos, SEEK_SET) < 0)
		return -EIO;
	return r;
}

static int copy_range_check(struct file *in, struct file *out)
{
	struct inode *i = file_inode(in), *o = file_inode(out);

	if (!readable(in) || !writable(out) || file_flags(out) & O_APPEND)
		return -EBADF;
	if (S_ISDIR(i->mode) || S_ISDIR(o->mode))
		return -EISDIR;
	if (!S_ISREG(i->mode) || !S_ISREG(o->mode))
		return -EINVAL;
	return 0;
}

int64_t sys_copy_file_range(struct task *t, int32_t fd_in, uaddr_t off_in, int32_t fd_out, uaddr_t off_out,
			    uint64_t len, uint32_t flags)
{
	AUTO(file_put) struct file *in = task_fd_io(t, fd_in);
	AUTO(file_put) struct file *out = task_fd_io(t, fd_out);
	int64_t in_pos, out_pos, *in_given, *out_given, r;

	if (flags)
		return -EINVAL;
	if (!in || !out)
		return -EBADF;
	r = copy_range_check(in, out);
	if (r == 0)
		r = offset_in(t, off_in, in, &in_pos, &in_given);
	if (r == 0)
		r = offset_in(t, off_out, out, &out_pos, &out_given);
	if (r < 0)
		return r;
	if (!in_given)
		in_pos = file_seek(in, 0, SEEK_CUR);
	if (!out_given)
		out_pos = file_seek(out, 0, SEEK_CUR);
	if ((int64_t)len < 0 || in_pos > INT64_MAX - (int64_t)len || out_pos > INT64_MAX - (int64_t)len)
		return -EOVERFLOW;
	if (file_inode(in) == file_inode(out) && in_pos < out_pos + (int64_t)len && out_pos < in_pos + (int64_t)len)
		return -EINVAL;
	r = -EOPNOTSUPP;
	if (in->ops->copy_range && in->ops == out->ops) {
		r = in->ops->copy_range(in, in_pos, out, out_pos, len);
		if (r > 0) {
			in_pos += r;
			out_pos += r;
		}
	}
	if (r == -EOPNOTSUPP || r == -EXDEV)
		r = copy_through(t, in, &in_pos, out, &out_pos, MIN(len, IOVEC_BYTES_MAX));
	if (r > 0 && !in_given)
		(void)!file_seek(in, in_pos, SEEK_SET);
	if (r > 0 && !out_given)
		(void)!file_seek(out, out_pos, SEEK_SET);
	r = offset_out(t, off_in, in_given, r);
	return offset_out(t, off_out, out_given, r);
}
