/* Data transfer and the other operations of open files; defaults of absent file_ops members. */
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>

#include "sentry/vfs/vfs_priv.h"

struct inode *file_inode(struct file *f)
{
	return f->inode;
}

const struct path *file_path(struct file *f)
{
	return &f->path;
}

int file_flags(struct file *f)
{
	return atomic_load_explicit(&f->flags, memory_order_relaxed);
}

#define SETFL_MASK (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

int file_set_flags(struct file *f, int flags)
{
	int old = file_flags(f), r;

	if (flags & O_NOATIME && !(old & O_NOATIME) && !inode_owner_or_capable(f->inode, f->cred))
		return -EPERM;
	if (f->ops->set_flags) {
		r = f->ops->set_flags(f, (old & ~SETFL_MASK) | (flags & SETFL_MASK));
		if (r < 0)
			return r;
	}
	while (!atomic_compare_exchange_weak(&f->flags, &old, (old & ~SETFL_MASK) | (flags & SETFL_MASK)))
		;
	return 0;
}

static bool can_read(const struct file *f)
{
	int acc = atomic_load_explicit(&f->flags, memory_order_relaxed) & (O_ACCMODE | O_PATH);

	return acc == O_RDONLY || acc == O_RDWR;
}

static bool can_write(const struct file *f)
{
	int acc = atomic_load_explicit(&f->flags, memory_order_relaxed) & (O_ACCMODE | O_PATH);

	return acc == O_WRONLY || acc == O_RDWR;
}

/* Moves the access time as relatime does (mount(8)): when it is not after the last change, or a day old. */
static void touch_atime(struct file *f)
{
	struct inode *i = f->inode;
	struct timespec now;

	if (file_flags(f) & O_NOATIME || !f->path.mnt || f->path.mnt->flags & (MS_NOATIME | MS_RDONLY) ||
	    i->sb->readonly || (S_ISDIR(i->mode) && f->path.mnt->flags & MS_NODIRATIME))
		return;
	now = vfs_now();
	if (!(f->path.mnt->flags & MS_STRICTATIME) &&
	    (i->atime.tv_sec > i->mtime.tv_sec ||
	     (i->atime.tv_sec == i->mtime.tv_sec && i->atime.tv_nsec > i->mtime.tv_nsec)) &&
	    (i->atime.tv_sec > i->ctime.tv_sec ||
	     (i->atime.tv_sec == i->ctime.tv_sec && i->atime.tv_nsec > i->ctime.tv_nsec)) &&
	    now.tv_sec - i->atime.tv_sec < 86400)
		return;
	GUARD(mutex, &i->mu);
	i->atime = now;
}

/* A transfer may not end beyond the largest position (read(2), EINVAL). */
static bool range_ok(const struct uio *u, int64_t pos)
{
	return pos >= 0 && u->resid <= (uint64_t)INT64_MAX - (uint64_t)pos;
}

int64_t file_read(struct file *f, struct uio *u, int64_t *pos)
{
	int64_t r;

	if (!can_read(f))
		return -EBADF;
	if (!f->ops->read)
		return S_ISDIR(f->inode->mode) ? -EISDIR : -EINVAL;
	if (f->ops->stream) {
		r = pos ? -ESPIPE : f->ops->read(f, u, NULL);
	} else if (pos) {
		r = range_ok(u, *pos) ? f->ops->read(f, u, pos) : -EINVAL;
	} else {
		mutex_lock(&f->pos_mu);
		r = range_ok(u, f->pos) ? f->ops->read(f, u, &f->pos) : -EINVAL;
		mutex_unlock(&f->pos_mu);
	}
	if (r > 0) {
		if (S_ISREG(f->inode->mode))
			touch_atime(f);
		if (unlikely(notify_watch_total))
			notify_file(f, IN_ACCESS);
	}
	return r;
}

int64_t file_write(struct file *f, struct uio *u, int64_t *pos)
{
	int64_t r;

	if (!can_write(f))
		return -EBADF;
	if (!f->ops->write)
		return -EINVAL;
	if (unlikely(f->inode->mode & (S_ISUID | S_ISGID)) && S_ISREG(f->inode->mode)) {
		r = file_remove_privs(f);
		if (r < 0)
			return r;
	}
	if (f->ops->stream) {
		r = pos ? -ESPIPE : f->ops->write(f, u, NULL);
	} else if (pos) {
		r = range_ok(u, *pos) ? f->ops->write(f, u, pos) : -EINVAL;
	} else {
		mutex_lock(&f->pos_mu);
		r = range_ok(u, f->pos) ? f->ops->write(f, u, &f->pos) : -EINVAL;
		mutex_unlock(&f->pos_mu);
	}
	if (r > 0 && unlikely(notify_watch_total))
		notify_file(f, IN_MODIFY);
	return r;
}

int64_t file_read_kernel(struct file *f, void *buf, size_t size, int64_t pos)
{
	size_t done = 0;

	if (!f->ops->read)
		return S_ISDIR(f->inode->mode) ? -EISDIR : -EINVAL;
	while (done < size) {
		struct uio u;
		int64_t r;

		uio_init_kernel(&u, (char *)buf + done, size - done);
		r = f->ops->read(f, &u, &pos);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		done += (size_t)r;
	}
	return (int64_t)done;
}

/* lseek(2) by position and size; directories take any cookie. pos_mu held. */
static int64_t seek_default(struct file *f, int64_t offset, int whence)
{
	struct inode *i = f->inode;
	int64_t base = 0, r;

	if (whence == SEEK_END || whence == SEEK_DATA || whence == SEEK_HOLE) {
		r = i->ops->refresh ? i->ops->refresh(i) : 0;
		if (r < 0)
			return r;
	}
	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END:
		base = (int64_t)__atomic_load_n(&i->size, __ATOMIC_RELAXED);
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		if (offset < 0 || (uint64_t)offset >= i->size)
			return -ENXIO;
		base = whence == SEEK_HOLE ? (int64_t)i->size - offset : 0;
		break;
	default:
		return -EINVAL;
	}
	if (__builtin_add_overflow(base, offset, &offset) || offset < 0)
		return -EINVAL;
	f->pos = offset;
	return offset;
}

int64_t file_seek(struct file *f, int64_t offset, int whence)
{
	int64_t r;

	if (file_flags(f) & O_PATH)
		return -EBADF;
	if (f->ops->stream && !f->ops->seek)
		return -ESPIPE;
	mutex_lock(&f->pos_mu);
	r = f->ops->seek ? f->ops->seek(f, offset, whence) : seek_default(f, offset, whence);
	mutex_unlock(&f->pos_mu);
	return r;
}

int file_truncate(struct file *f, uint64_t size, const struct cred *cred)
{
	int r;

	if (!can_write(f) || !S_ISREG(f->inode->mode))
		return -EINVAL;
	r = vfs_truncate_inode(f->inode, cred, size);
	if (r == 0)
		notify_file(f, IN_MODIFY);
	return r;
}

int file_fallocate(struct file *f, int mode, int64_t offset, int64_t size)
{
	int64_t end;
	int r;

	if (!can_write(f))
		return -EBADF;
	if (offset < 0 || size <= 0)
		return -EINVAL;
	if (f->ops->stream)
		return -ESPIPE;
	if (S_ISDIR(f->inode->mode))
		return -EISDIR;
	if (!S_ISREG(f->inode->mode))
		return -ENODEV;
	if (__builtin_add_overflow(offset, size, &end))
		return -EFBIG;
	if (!f->ops->fallocate)
		return -EOPNOTSUPP;
	r = f->ops->fallocate(f, mode, offset, size);
	if (r == 0)
		notify_file(f, IN_MODIFY);
	return r;
}

int file_fsync(struct file *f, bool datasync)
{
	if (file_flags(f) & O_PATH)
		return -EBADF;
	if (f->ops->fsync)
		return f->ops->fsync(f, datasync);
	return f->ops->stream || S_ISCHR(f->inode->mode) ? -EINVAL : 0;
}

int64_t file_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	if (file_flags(f) & O_PATH)
		return -EBADF;
	return f->ops->ioctl ? f->ops->ioctl(f, cmd, arg, um) : -ENOTTY;
}

uint32_t file_poll(struct file *f, uint32_t events)
{
	if (!f->ops->poll)
		return (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) & events;
	return f->ops->poll(f, events | POLLERR | POLLHUP) & (events | POLLERR | POLLHUP);
}

int file_wait_add(struct file *f, struct waitq_entry *e)
{
	struct waitq *q = f->ops->waitq ? f->ops->waitq(f) : NULL;

	if (!q)
		return -EPERM;
	waitq_add(q, e);
	return 0;
}

int file_mmap(struct file *f, bool shared, uint32_t prot, struct mappable **ret)
{
	if (!can_read(f))
		return -EACCES;
	if (shared && prot & PROT_WRITE && !can_write(f))
		return -EACCES;
	if (prot & PROT_EXEC && f->path.mnt && f->path.mnt->flags & MS_NOEXEC)
		return -EPERM;
	if (f->ops->mmap)
		return f->ops->mmap(f, shared, (uint8_t)prot, ret);
	if (!f->inode->mappable)
		return -ENODEV;
	*ret = f->inode->mappable;
	return 0;
}

/* Gives "." and ".." at positions 0 and 1; false when the buffer is full. */
static bool emit_dots(struct file *f, struct dir_emit *d)
{
	if (f->pos == 0) {
		if (!d->emit(d, ".", 1, f->inode->ino, S_IFDIR >> 12, 1))
			return false;
		f->pos = 1;
	}
	if (f->pos == 1) {
		AUTO(dentry_put) struct dentry *up = dentry_parent(f->path.dentry);
		uint64_t ino = up && up->inode ? up->inode->ino : f->inode->ino;

		if (!d->emit(d, "..", 2, ino, S_IFDIR >> 12, 2))
			return false;
		f->pos = 2;
	}
	return true;
}

int file_iterate(struct file *f, struct dir_emit *d)
{
	int r = 0;

	if (file_flags(f) & O_PATH)
		return -EBADF;
	if (!S_ISDIR(f->inode->mode) || !f->ops->iterate)
		return -ENOTDIR;
	GUARD(mutex, &f->pos_mu);
	if (f->inode->nlink == 0)
		return -ENOENT;
	if (f->pos >= 2 || emit_dots(f, d))
		r = f->ops->iterate(f, d, &f->pos);
	if (r == 0)
		touch_atime(f);
	return r;
}
