/* read(2), write(2) and their vectored and positioned kin; lseek(2). */
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/iovec.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

static int64_t read_file(struct task *t, struct file *f, struct uio *u, int64_t *pos, bool nowait)
{
	if (nowait || (file_flags(f) & O_NONBLOCK))
		return file_read(f, u, pos);
	return file_block(t, f, POLLIN | POLLERR | POLLHUP | POLLRDHUP, TIME_FOREVER, "read",
			  file_read(f, u, pos));
}

/* RLIMIT_FSIZE: 0, or -EFBIG after SIGXFSZ; shortens the transfer to what is allowed. */
static int check_file_size(struct task *t, struct file *f, struct uio *u, const int64_t *pos)
{
	uint64_t limit = task_rlimit(t, 1 /* FSIZE */), at;
	struct inode *i = file_inode(f);

	if (limit == GUEST_RLIM_INFINITY || !S_ISREG(i->mode))
		return 0;
	at = file_flags(f) & O_APPEND ? i->size : (uint64_t)(pos ? *pos : f->pos);
	if (at >= limit) {
		struct guest_siginfo info = siginfo_user(t, SIGXFSZ, GUEST_SI_KERNEL);

		(void)signal_send_task(t, &info);
		return -EFBIG;
	}
	u->resid = MIN(u->resid, limit - at);
	return 0;
}

static int64_t write_file(struct task *t, struct file *f, struct uio *u, int64_t *pos, bool nowait)
{
	int64_t r, done = 0;

	r = check_file_size(t, f, u, pos);
	if (r < 0)
		return r;
	if (nowait || (file_flags(f) & O_NONBLOCK)) {
		r = file_write(f, u, pos);
	} else {
		/* A blocking write goes on until all is written or something ends it. */
		do {
			r = file_block(t, f, POLLOUT | POLLERR | POLLHUP, TIME_FOREVER, "write",
				       file_write(f, u, pos));
			if (r > 0)
				done += r;
		} while (r > 0 && u->resid > 0 && f->ops->stream);
		if (done > 0)
			return done;
	}
	if (r == -EPIPE) {
		struct guest_siginfo info = siginfo_user(t, SIGPIPE, GUEST_SI_USER);

		(void)signal_send_task(t, &info);
	}
	return r;
}

int64_t sys_read(struct task *t, int32_t fd, uaddr_t buf, uint64_t count)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct uio u;

	if (!f)
		return -EBADF;
	if ((int64_t)count < 0)
		return -EFAULT; /* no such range of addresses */
	uio_init_user(&u, task_umem(t), buf, MIN(count, IOVEC_BYTES_MAX));
	return read_file(t, f, &u, NULL, false);
}

int64_t sys_write(struct task *t, int32_t fd, uaddr_t buf, uint64_t count)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct uio u;

	if (!f)
		return -EBADF;
	if ((int64_t)count < 0)
		return -EFAULT; /* no such range of addresses */
	uio_init_user(&u, task_umem(t), buf, MIN(count, IOVEC_BYTES_MAX));
	return write_file(t, f, &u, NULL, false);
}

static int64_t pos_call(struct task *t, int32_t fd, uaddr_t buf, uint64_t count, int64_t pos, bool write)
{
	AUTO(file_put) struct file *f = NULL;
	struct uio u;

	if (pos < 0)
		return -EINVAL;
	f = task_fd_io(t, fd);
	if (!f)
		return -EBADF;
	if (f->ops->stream)
		return -ESPIPE;
	if ((int64_t)count < 0)
		return -EFAULT; /* no such range of addresses */
	uio_init_user(&u, task_umem(t), buf, MIN(count, IOVEC_BYTES_MAX));
	return write ? write_file(t, f, &u, &pos, false) : read_file(t, f, &u, &pos, false);
}

int64_t sys_pread64(struct task *t, int32_t fd, uaddr_t buf, uint64_t count, int64_t pos)
{
	return pos_call(t, fd, buf, count, pos, false);
}

int64_t sys_pwrite64(struct task *t, int32_t fd, uaddr_t buf, uint64_t count, int64_t pos)
{
	return pos_call(t, fd, buf, count, pos, true);
}

enum { VEC_READ, VEC_WRITE };

/* use_pos: at pos; else at the file position. rwf: RWF_* of preadv2(2). */
static int64_t vector_call(struct task *t, int32_t fd, uaddr_t vec, uint64_t count, bool use_pos, int64_t pos,
			   int rwf, int dir)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct iovec_arg v;
	struct uio u;
	int64_t r;

	if (!f)
		return -EBADF;
	if (use_pos && pos < 0)
		return -EINVAL;
	if (use_pos && f->ops->stream)
		return -ESPIPE;
	if (rwf & ~(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND))
		return -EOPNOTSUPP;
	r = iovec_arg_init(&v, t, vec, count, &u);
	if (r < 0)
		return r;
	if (dir == VEC_READ) {
		r = read_file(t, f, &u, use_pos ? &pos : NULL, rwf & RWF_NOWAIT);
	} else {
		if ((rwf & RWF_APPEND) && !f->ops->stream) {
			struct kstat st;

			r = vfs_getattr(file_path(f), &st);
			pos = (int64_t)st.size;
			use_pos = true;
		}
		if (r >= 0)
			r = write_file(t, f, &u, use_pos ? &pos : NULL, rwf & RWF_NOWAIT);
		if (r > 0 && (rwf & (RWF_SYNC | RWF_DSYNC)) && file_fsync(f, rwf & RWF_DSYNC) < 0)
			r = -EIO;
	}
	iovec_arg_fini(&v);
	return r;
}

int64_t sys_readv(struct task *t, int32_t fd, uaddr_t vec, uint64_t count)
{
	return vector_call(t, fd, vec, count, false, 0, 0, VEC_READ);
}

int64_t sys_writev(struct task *t, int32_t fd, uaddr_t vec, uint64_t count)
{
	return vector_call(t, fd, vec, count, false, 0, 0, VEC_WRITE);
}

/* The high half of the position is for 32-bit callers only. */
int64_t sys_preadv(struct task *t, int32_t fd, uaddr_t vec, uint64_t count, uint64_t low, uint64_t high)
{
	(void)high;
	return vector_call(t, fd, vec, count, true, (int64_t)low, 0, VEC_READ);
}

int64_t sys_pwritev(struct task *t, int32_t fd, uaddr_t vec, uint64_t count, uint64_t low, uint64_t high)
{
	(void)high;
	return vector_call(t, fd, vec, count, true, (int64_t)low, 0, VEC_WRITE);
}

int64_t sys_preadv2(struct task *t, int32_t fd, uaddr_t vec, uint64_t count, uint64_t low, uint64_t high,
		    uint32_t flags)
{
	(void)high;
	/* -1: at the file position, as readv(2). */
	return vector_call(t, fd, vec, count, (int64_t)low != -1, (int64_t)low, (int)flags, VEC_READ);
}

int64_t sys_pwritev2(struct task *t, int32_t fd, uaddr_t vec, uint64_t count, uint64_t low, uint64_t high,
		     uint32_t flags)
{
	(void)high;
	return vector_call(t, fd, vec, count, (int64_t)low != -1, (int64_t)low, (int)flags, VEC_WRITE);
}

int64_t sys_lseek(struct task *t, int32_t fd, int64_t offset, uint32_t whence)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	if (!f)
		return -EBADF;
	return whence > SEEK_HOLE ? -EINVAL : file_seek(f, offset, (int)whence);
}
