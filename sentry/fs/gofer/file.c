/* Regular files: data moves between the donated descriptor and guest memory, without the gofer. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/gofer/gofer_priv.h"

/* Most bytes of one host call. */
#define TRANSFER_MAX (1u << 20)

/* Inodes on the idle lists of all gofer file systems. */
static _Atomic uint32_t idle_total;

/* The descriptor for reading (or writing); an open or a pin is held. -1: none. */
static int handle_fd(struct gofer_inode *gi, bool write)
{
	int wfd = __atomic_load_n(&gi->wfd, __ATOMIC_ACQUIRE);
	int rfd = write ? -1 : __atomic_load_n(&gi->rfd, __ATOMIC_ACQUIRE);

	return rfd >= 0 ? rfd : wfd;
}

static void handles_close_locked(struct gofer_inode *gi, int fds[2])
{
	fds[0] = gi->rfd;
	fds[1] = gi->wfd;
	gi->rfd = gi->wfd = -1;
	if (gi->frames)
		host_frames_set_fd(gi->frames, -1, false);
}

/* Puts an inode without opens at the end of the idle list; beyond the bound the oldest is closed. */
static void idle_locked(struct gofer_inode *gi, int fds[2])
{
	struct gofer_sb *fs = gi->fs;
	struct gofer_inode *old;

	fds[0] = fds[1] = -1;
	if (gi->opens || (gi->rfd < 0 && gi->wfd < 0) || !list_empty(&gi->idle_node))
		return;
	if (fs->slave) {
		handles_close_locked(gi, fds);
		return;
	}
	list_add_tail(&fs->idle, &gi->idle_node);
	if (atomic_fetch_add(&idle_total, 1) < HANDLES_IDLE_MAX)
		return;
	old = list_first(&fs->idle, struct gofer_inode, idle_node);
	list_del(&old->idle_node);
	idle_total--;
	handles_close_locked(old, fds);
}

static void not_idle_locked(struct gofer_inode *gi)
{
	if (list_empty(&gi->idle_node))
		return;
	list_del(&gi->idle_node);
	idle_total--;
}

static void close_fds(const int fds[2])
{
	for (int k = 0; k < 2; k++) {
		if (fds[k] >= 0)
			close(fds[k]);
	}
}

/* Stores fd if the inode lacks one of its kind, else leaves it to the caller. */
static bool handle_store_locked(struct gofer_inode *gi, int fd, bool writable)
{
	int *slot = writable ? &gi->wfd : &gi->rfd;

	if (*slot >= 0)
		return false;
	__atomic_store_n(slot, fd, __ATOMIC_RELEASE);
	if (gi->frames)
		host_frames_set_fd(gi->frames, gi->wfd >= 0 ? gi->wfd : gi->rfd, gi->wfd >= 0);
	return true;
}

void gofer_handle_offer(struct gofer_inode *gi, int fd, bool writable)
{
	struct gofer_sb *fs = gi->fs;
	int fds[2];
	bool stored;

	mutex_lock(&fs->handle_mu);
	stored = handle_store_locked(gi, fd, writable);
	idle_locked(gi, fds);
	mutex_unlock(&fs->handle_mu);
	close_fds(fds);
	if (!stored)
		close(fd);
}

void gofer_handles_close(struct gofer_inode *gi)
{
	int fds[2];

	mutex_lock(&gi->fs->handle_mu);
	not_idle_locked(gi);
	handles_close_locked(gi, fds);
	mutex_unlock(&gi->fs->handle_mu);
	close_fds(fds);
}

int gofer_handle_pin(struct gofer_inode *gi, bool write)
{
	GUARD(mutex, &gi->fs->handle_mu);
	if (handle_fd(gi, write) < 0)
		return -1;
	not_idle_locked(gi);
	gi->opens++;
	return handle_fd(gi, write);
}

void gofer_handle_unpin(struct gofer_inode *gi)
{
	int fds[2];

	mutex_lock(&gi->fs->handle_mu);
	gi->opens--;
	idle_locked(gi, fds);
	mutex_unlock(&gi->fs->handle_mu);
	close_fds(fds);
}

/* One round trip for gi, and for some that will be opened next. */
static int open_some(struct gofer_inode *gi, bool write, struct gofer_attr *ret_attr, int *ret_fd)
{
	struct gofer_client *c = gofer_client_of(gi);
	struct gofer_inode *ahead[GOFER_AHEAD_MAX];
	struct gofer_open_req req = { .node = gofer_node(gi), .open = write ? GOFER_OPEN_READ | GOFER_OPEN_WRITE :
									      GOFER_OPEN_READ };
	struct gofer_open_rep rep;
	uint32_t count = write ? 0 : check_open_ahead(gi, ahead), announced = 0, came = 0;
	int r, fds[GOFER_AHEAD_MAX];

	req.ahead.count = (uint16_t)count;
	for (uint32_t k = 0; k < count; k++)
		req.ahead.v[k].id = gofer_node(ahead[k]);
	mutex_lock(&c->mu);
	r = gofer_call_locked(c, open, &req, &rep, ret_fd);
	/* Fewer than announced when our own table was full: then it is not known whose they are. */
	for (uint32_t k = 0; r == 0 && k < count; k++)
		announced += rep.opened >> k & 1;
	if (r == 0 && c->more_count == announced) {
		memcpy(fds, c->more_fd, sizeof(fds));
		came = c->more_count;
		c->more_count = 0;
	}
	mutex_unlock(&c->mu);
	for (uint32_t k = 0, at = 0; k < count; k++) {
		if (at < came && rep.opened & 1u << k)
			gofer_handle_offer(ahead[k], fds[at++], false);
		inode_put(&ahead[k]->inode);
	}
	if (r == 0)
		*ret_attr = rep.attr;
	return r;
}

/* Makes sure that a descriptor for reading (or writing) is there; the caller holds an open. */
static int handle_need(struct gofer_inode *gi, bool write)
{
	struct gofer_attr attr;
	uint32_t changes = gi->changes;
	int fd = -1, r;

	if (handle_fd(gi, write) >= 0)
		return 0;
	r = open_some(gi, write, &attr, &fd);
	if (r < 0)
		return r;
	/* The gofer sent one, but our own table was full. */
	if (fd < 0)
		return -ENFILE;
	if (write) {
		GUARD(mutex, &gi->inode.mu);
		if (gi->changes == changes)
			gofer_inode_update(gi, &attr);
	}
	gofer_handle_offer(gi, fd, write);
	return 0;
}

int gofer_open(struct inode *i, struct file *f)
{
	struct gofer_inode *gi;
	int r;

	if (!S_ISREG(i->mode))
		return 0;
	gi = gofer_inode_of(i);
	mutex_lock(&gi->fs->handle_mu);
	not_idle_locked(gi);
	gi->opens++;
	mutex_unlock(&gi->fs->handle_mu);
	r = handle_need(gi, (f->flags & O_ACCMODE) != O_RDONLY);
	if (r < 0)
		gofer_handle_unpin(gi);
	return r;
}

static void gofer_release(struct file *f)
{
	(void)!gofer_flush(gofer_inode_of(f->inode));
	gofer_handle_unpin(gofer_inode_of(f->inode));
}

static int64_t gofer_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	int fd = handle_fd(gi, false);
	int64_t total = 0, n, pinned;
	struct umem_pin pin;

	while (u->resid > 0) {
		pinned = uio_pin(u, TRANSFER_MAX, true, &pin);
		if (pinned <= 0)
			return total ? total : pinned;
		n = preadv2(fd, pin.iov, (int)pin.count, *pos, 0);
		n = n < 0 ? -errno : n;
		uio_unpin(u, &pin);
		if (n < 0)
			return total ? total : n;
		uio_advance(u, (uint64_t)n);
		*pos += n;
		total += n;
		if (n < pinned)
			break;
	}
	return total;
}

/* One piece of a write, pinned already. */
static int64_t write_pinned(struct gofer_inode *gi, int fd, const struct umem_pin *pin, bool append,
			    int64_t *pos)
{
	struct inode *i = &gi->inode;
	struct stat st;
	int64_t n;

	GUARD(mutex, &i->mu);
	/* The host finds the end: others may have moved it. */
	n = pwritev2(fd, pin->iov, (int)pin->count, *pos, append ? RWF_APPEND : 0);
	gi->pending &= ~(uint32_t)GOFER_SET_MTIME;
	if (n < 0)
		return -errno;
	if (append)
		*pos = fstat_fd(fd, &st) == 0 ? st.st_size : (int64_t)i->size + n;
	else
		*pos += n;
	if ((uint64_t)*pos > i->size)
		__atomic_store_n(&i->size, (uint64_t)*pos, __ATOMIC_RELAXED);
	gofer_inode_touch(gi);
	return n;
}

static int64_t gofer_write(struct file *f, struct uio *u, int64_t *pos)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	int fd = handle_fd(gi, true);
	int64_t total = 0, n, pinned;
	struct umem_pin pin;

	while (u->resid > 0) {
		pinned = uio_pin(u, TRANSFER_MAX, false, &pin);
		if (pinned <= 0)
			return total ? total : pinned;
		n = write_pinned(gi, fd, &pin, f->flags & O_APPEND, pos);
		uio_unpin(u, &pin);
		if (n < 0)
			return total ? total : n;
		uio_advance(u, (uint64_t)n);
		total += n;
		if (n < pinned)
			break;
	}
	return total;
}

static int gofer_fsync(struct file *f, bool datasync)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	int fd = handle_fd(gi, (f->flags & O_ACCMODE) != O_RDONLY), r = gofer_flush(gi);

	return r < 0 ? r : (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

static int gofer_fallocate(struct file *f, int mode, int64_t offset, int64_t size)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	struct inode *i = &gi->inode;
	int fd = handle_fd(gi, true), r;

	mutex_lock(&i->mu);
	r = fallocate(fd, mode, offset, size) < 0 ? -errno : 0;
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && (uint64_t)(offset + size) > i->size)
		__atomic_store_n(&i->size, (uint64_t)(offset + size), __ATOMIC_RELAXED);
	gofer_inode_touch(gi);
	mutex_unlock(&i->mu);
	/* Collapsing or inserting a range moves everything behind it; the new size is asked for. */
	return r;
}

static int64_t gofer_seek(struct file *f, int64_t offset, int whence)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	int64_t base = 0;
	int r;

	switch (whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END:
		r = gofer_refresh(f->inode);
		if (r < 0)
			return r;
		base = (int64_t)f->inode->size;
		break;
	case SEEK_DATA:
	case SEEK_HOLE:
		/* The donated description's own position is used by nothing else. */
		base = lseek(handle_fd(gi, false), offset, whence);
		if (base < 0)
			return -errno;
		return f->pos = base;
	default:
		return -EINVAL;
	}
	if (__builtin_add_overflow(base, offset, &base) || base < 0)
		return -EINVAL;
	return f->pos = base;
}

const struct file_ops gofer_file_fops = { .name = "gofer-file",
					  .release = gofer_release,
					  .read = gofer_read,
					  .write = gofer_write,
					  .seek = gofer_seek,
					  .fsync = gofer_fsync,
					  .fallocate = gofer_fallocate };
