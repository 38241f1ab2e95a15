#include "sentry/fs/host/host.h"

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <termios.h>
#include <unistd.h>

#include "platform/host/file.h"
#include "platform/host/notifier.h"
#include "sentry/fs/host/host_priv.h"
#include "sentry/vfs/fs_ops.h"

static const struct file_ops host_stream_ops, host_regular_ops;
static const struct inode_ops host_inode_ops;

/* The checked downcast; only files made here have these operations. */
static struct host_inode *host_of(const struct inode *inode)
{
	BUG_ON(inode->ops != &host_inode_ops);
	return container_of((struct inode *)(uintptr_t)inode, struct host_inode, inode);
}

static void host_ready(struct host_watch *w, uint32_t events)
{
	struct host_inode *h = container_of(w, struct host_inode, watch);

	/* EPOLL* bits are the POLL* bits. */
	waitq_wake(&h->waitq, events);
}

static void host_inode_free(struct inode *inode)
{
	struct host_inode *h = host_of(inode);

	notifier_remove(&h->watch);
	if (h->watch.fd >= 0)
		close(h->watch.fd);
	waitq_fini(&h->waitq);
	inode_fini(inode);
	free(h);
}

/* Size and times of a regular file are the host's; owner and mode stay the guest's own. */
static int host_inode_refresh(struct inode *inode)
{
	struct host_inode *h = host_of(inode);
	struct stat st;
	int err;

	if (!S_ISREG(inode->mode))
		return 0;
	err = host_fstat(h->watch.fd, &st);
	if (err < 0)
		return err;
	GUARD(mutex, &inode->mu);
	inode->size = (uint64_t)st.st_size;
	inode->mtime = st.st_mtim;
	inode->ctime = st.st_ctim;
	h->blocks = (uint64_t)st.st_blocks;
	return 0;
}

static void host_inode_getattr(struct inode *inode, struct kstat *st)
{
	st->blocks = host_of(inode)->blocks;
	st->blksize = 4096;
}

static int host_inode_setattr(struct inode *inode, const struct kattr *attr)
{
	if (attr->mask & ATTR_SIZE) {
		if (!S_ISREG(inode->mode))
			return -EINVAL;
		if (ftruncate(host_of(inode)->watch.fd, (off_t)attr->size) < 0)
			return -errno;
		inode->size = attr->size;
	}
	if (attr->mask & ATTR_MODE)
		inode->mode = (inode->mode & S_IFMT) | (attr->mode & 07777);
	if (attr->mask & ATTR_UID)
		inode->uid = attr->uid;
	if (attr->mask & ATTR_GID)
		inode->gid = attr->gid;
	return 0;
}

/* Opened again through /proc/PID/fd: at most with the access that the descriptor has. */
static int host_inode_open(struct inode *inode, struct file *f)
{
	int have = host_of(inode)->access, want = f->flags & O_ACCMODE;

	if (have != O_RDWR && want != have)
		return -EACCES;
	f->ops = S_ISREG(inode->mode) ? &host_regular_ops : &host_stream_ops;
	return 0;
}

static const struct inode_ops host_inode_ops = {
	.name = "host",
	.free = host_inode_free,
	.refresh = host_inode_refresh,
	.getattr = host_inode_getattr,
	.setattr = host_inode_setattr,
	.open = host_inode_open,
	.special_open = true,
};

/*
 * One transfer between the pinned guest pages and the descriptor that does not wait for the other end.
 * Pipes and devices of hosts that know no RWF_NOWAIT there: after poll says ready, a read returns what
 * is there, and a pipe takes one page.
 */
static int64_t stream_transfer(struct host_inode *h, const struct umem_pin *pin, bool write)
{
	int fd = h->watch.fd;
	uint32_t want = write ? POLLOUT : POLLIN;
	struct iovec iov;
	ssize_t n;

	if (S_ISSOCK(h->inode.mode)) {
		struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)pin->iov,
				      .msg_iovlen = pin->count };

		n = write ? sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) :
			    recvmsg(fd, &msg, MSG_DONTWAIT);
		return n < 0 ? -errno : n;
	}
	n = write ? pwritev2(fd, pin->iov, (int)pin->count, -1, RWF_NOWAIT) :
		    preadv2(fd, pin->iov, (int)pin->count, -1, RWF_NOWAIT);
	if (n >= 0)
		return n;
	if (errno != EOPNOTSUPP)
		return -errno;
	if (!(host_poll_fd(fd, want) & (want | POLLERR | POLLHUP | POLLNVAL)))
		return -EAGAIN;
	iov = pin->iov[0];
	if (write)
		iov.iov_len = MIN(iov.iov_len, (size_t)PIPE_BUF);
	n = write ? pwritev2(fd, &iov, 1, -1, 0) : preadv2(fd, &iov, 1, -1, 0);
	return n < 0 ? -errno : n;
}

static int64_t stream_move(struct file *f, struct uio *u, bool write)
{
	struct host_inode *h = host_of(f->inode);
	int64_t done = 0, n;

	while (u->resid > 0) {
		struct umem_pin pin;

		n = uio_pin(u, UINT64_MAX, !write, &pin);
		if (n <= 0)
			return done ? done : n;
		n = stream_transfer(h, &pin, write);
		uio_unpin(u, &pin);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return done ? done : n;
		uio_advance(u, (uint64_t)n);
		done += n;
		/* A read returns what there is; a write goes on until the other end is full. */
		if (!write)
			break;
	}
	return done;
}

static int64_t host_stream_read(struct file *f, struct uio *u, int64_t *pos)
{
	(void)pos;
	return stream_move(f, u, false);
}

static int64_t host_stream_write(struct file *f, struct uio *u, int64_t *pos)
{
	(void)pos;
	return stream_move(f, u, true);
}

/* A read or write at the descriptor's own offset (pos is the file's) or at a given one. */
static int64_t regular_move(struct file *f, struct uio *u, int64_t *pos, bool write)
{
	int fd = host_of(f->inode)->watch.fd;
	int flags = write && (f->flags & O_APPEND) ? RWF_APPEND : 0;
	int64_t done = 0, n;

	while (u->resid > 0) {
		off_t at = pos == &f->pos ? -1 : (off_t)*pos;
		struct umem_pin pin;

		n = uio_pin(u, UINT64_MAX, !write, &pin);
		if (n <= 0)
			return done ? done : n;
		n = write ? pwritev2(fd, pin.iov, (int)pin.count, at, flags) :
			    preadv2(fd, pin.iov, (int)pin.count, at, 0);
		if (n < 0)
			n = -errno;
		uio_unpin(u, &pin);
		if (n == -EINTR)
			continue;
		if (n <= 0)
			return done ? done : n;
		uio_advance(u, (uint64_t)n);
		done += n;
		*pos += n;
		if ((uint64_t)n < pin.size)
			break;
	}
	return done;
}

static int64_t host_regular_read(struct file *f, struct uio *u, int64_t *pos)
{
	return regular_move(f, u, pos, false);
}

static int64_t host_regular_write(struct file *f, struct uio *u, int64_t *pos)
{
	return regular_move(f, u, pos, true);
}

static int64_t host_regular_seek(struct file *f, int64_t offset, int whence)
{
	off_t at = lseek(host_of(f->inode)->watch.fd, offset, whence);

	if (at < 0)
		return -errno;
	f->pos = at;
	return at;
}

/*
 * A terminal that came as plain stdio: programs may ask what it is and set its modes, as they may when
 * they share it without a sandbox. The kernel's termios is 36 bytes on 64-bit architectures.
 */
static int64_t tty_ioctl(int fd, uint32_t cmd, uint64_t arg, struct umem *um)
{
	union {
		uint8_t termios[64]; /* 36 bytes are the kernel's */
		struct winsize window;
	} v = { { 0 } };
	bool window = cmd == TIOCGWINSZ;
	size_t size = window ? sizeof(v.window) : 36;

	if (cmd == TCFLSH)
		return ioctl(fd, TCFLSH, arg) < 0 ? -errno : 0;
	if (cmd != TCGETS && !window && copy_in(um, &v, UADDR(arg), size) < 0)
		return -EFAULT;
	if (ioctl(fd, cmd, &v) < 0)
		return -errno;
	return cmd == TCGETS || window ? copy_out(um, UADDR(arg), &v, size) : 0;
}

static int64_t host_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct host_inode *h = host_of(f->inode);
	int32_t ready = 0;

	switch (cmd) {
	case FIONREAD:
		if (ioctl(h->watch.fd, FIONREAD, &ready) < 0)
			return -errno;
		return copy_out(um, UADDR(arg), &ready, sizeof(ready));
	case TCGETS:
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
	case TCFLSH:
	case TIOCGWINSZ:
		return S_ISCHR(h->inode.mode) ? tty_ioctl(h->watch.fd, cmd, arg, um) : -ENOTTY;
	default:
		return -ENOTTY;
	}
}

static uint32_t host_poll(struct file *f, uint32_t events)
{
	return host_poll_fd(host_of(f->inode)->watch.fd, events);
}

/* The descriptor is watched from the first waiter on. What epoll refuses is always ready. */
static struct waitq *host_waitq(struct file *f)
{
	struct host_inode *h = host_of(f->inode);
	uint32_t events = EPOLLRDHUP | EPOLLPRI;

	GUARD(mutex, &h->watch_mu);
	if (!h->watched) {
		if (h->access != O_WRONLY)
			events |= EPOLLIN;
		if (h->access != O_RDONLY)
			events |= EPOLLOUT;
		h->watched = notifier_add(&h->watch, events) == 0;
	}
	return &h->waitq;
}

static int host_fsync(struct file *f, bool datasync)
{
	int fd = host_of(f->inode)->watch.fd;

	return (datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
}

static const struct file_ops host_stream_ops = {
	.name = "host stream",
	.read = host_stream_read,
	.write = host_stream_write,
	.stream = true,
	.ioctl = host_ioctl,
	.poll = host_poll,
	.waitq = host_waitq,
};

static const struct file_ops host_regular_ops = {
	.name = "host file",
	.read = host_regular_read,
	.write = host_regular_write,
	.seek = host_regular_seek,
	.ioctl = host_ioctl,
	.fsync = host_fsync,
};

bool host_fd_is_tty(int host_fd)
{
	struct termios t;

	return ioctl(host_fd, TCGETS, &t) == 0;
}

static struct host_inode *host_inode_new(int host_fd, const struct stat *st, const struct cred *cred)
{
	struct host_inode *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	inode_init(&h->inode, &host_inode_ops, &anon_superblock, ino_next(), st->st_mode);
	h->inode.uid = cred->fsuid;
	h->inode.gid = cred->fsgid;
	h->inode.size = (uint64_t)st->st_size;
	h->inode.rdev = st->st_rdev;
	h->inode.atime = st->st_atim;
	h->inode.mtime = st->st_mtim;
	h->inode.ctime = st->st_ctim;
	h->watch.ready = host_ready;
	h->watch.fd = host_fd;
	waitq_init(&h->waitq);
	mutex_init(&h->watch_mu, LOCK_OBJECT);
	return h;
}

int host_file_new(int host_fd, const struct cred *cred, struct file **ret_file)
{
	int flags = fcntl(host_fd, F_GETFL), err;
	struct host_inode *h;
	struct path path;
	const char *name;
	struct stat st;

	if (flags < 0)
		return -errno;
	err = host_fstat(host_fd, &st);
	if (err < 0)
		return err;
	if (S_ISDIR(st.st_mode) || (flags & O_PATH))
		return -EPERM;
	h = host_inode_new(host_fd, &st, cred);
	if (!h)
		return -ENOMEM;
	h->access = flags & O_ACCMODE;
	name = S_ISFIFO(st.st_mode) ? "pipe:" : S_ISSOCK(st.st_mode) ? "socket:" : "host:";
	err = path_new_anon(&h->inode, name, &path);
	if (err == 0) {
		err = file_new(&path, &h->inode,
			       S_ISREG(st.st_mode) ? &host_regular_ops : &host_stream_ops,
			       flags & (O_ACCMODE | O_APPEND), cred, ret_file);
		path_put(&path);
	}
	if (err < 0)
		h->watch.fd = -1; /* stays the caller's */
	inode_put(&h->inode);
	return err;
}
