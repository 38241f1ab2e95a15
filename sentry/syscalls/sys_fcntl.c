/* fcntl(2), flock(2), the generic part of ioctl(2), fsync(2) and its kin, fallocate(2), fadvise(2). */
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/file_async.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

#define RLIMIT_NR_NOFILE 7
#define F_CREATED_QUERY_CMD 1028u

/* ---- record locks ---- */

/* struct flock of the guest to a lock with absolute bounds. */
static int klock_from_guest(struct file *f, const struct flock *g, struct klock *ret)
{
	int64_t base = 0, start, end;

	switch (g->l_whence) {
	case SEEK_SET:
		break;
	case SEEK_CUR:
		base = f->pos;
		break;
	case SEEK_END: {
		struct kstat st;
		int r = vfs_getattr(file_path(f), &st);

		if (r < 0)
			return r;
		base = (int64_t)st.size;
		break;
	}
	default:
		return -EINVAL;
	}
	if (g->l_type != F_RDLCK && g->l_type != F_WRLCK && g->l_type != F_UNLCK)
		return -EINVAL;
	if (__builtin_add_overflow(base, (int64_t)g->l_start, &start))
		return -EOVERFLOW;
	if (start < 0)
		return -EINVAL;
	if (g->l_len == 0) {
		end = INT64_MAX;
	} else if (g->l_len > 0) {
		if (__builtin_add_overflow(start, (int64_t)g->l_len - 1, &end))
			return -EOVERFLOW;
	} else {
		end = start - 1;
		if (__builtin_add_overflow(start, (int64_t)g->l_len, &start) || start < 0)
			return -EINVAL;
	}
	*ret = (struct klock){ .type = g->l_type, .start = start, .end = end };
	return 0;
}

static int64_t lock_get(struct task *t, struct file *f, uaddr_t arg, bool ofd)
{
	const void *owner = ofd ? (const void *)f : t->fdt;
	struct flock g;
	struct klock l;
	int r;

	if (copy_in_struct(task_umem(t), &g, arg) < 0)
		return -EFAULT;
	if (g.l_type == F_UNLCK || (ofd && g.l_pid != 0))
		return -EINVAL;
	r = klock_from_guest(f, &g, &l);
	if (r < 0)
		return r;
	file_lock_test(f, owner, &l);
	g.l_type = l.type;
	if (l.type != F_UNLCK) {
		g.l_whence = SEEK_SET;
		g.l_start = l.start;
		g.l_len = l.end == INT64_MAX ? 0 : l.end - l.start + 1;
		g.l_pid = l.pid;
	}
	return copy_out_struct(task_umem(t), arg, &g);
}

static int64_t lock_set(struct task *t, struct file *f, uaddr_t arg, bool ofd, bool wait)
{
	const void *owner = ofd ? (const void *)f : t->fdt;
	int mode = file_flags(f) & O_ACCMODE;
	struct klock_wait kw = { 0 };
	struct waiter w;
	struct flock g;
	struct klock l;
	int64_t r;

	if (copy_in_struct(task_umem(t), &g, arg) < 0)
		return -EFAULT;
	if (ofd && g.l_pid != 0)
		return -EINVAL;
	r = klock_from_guest(f, &g, &l);
	if (r < 0)
		return r;
	if ((l.type == F_RDLCK && mode == O_WRONLY) || (l.type == F_WRLCK && mode == O_RDONLY))
		return -EBADF;
	l.pid = ofd ? -1 : thread_group_pid_in(t->tg, task_pid_ns(t));
	if (!wait)
		return file_lock_posix(f, owner, &l, NULL);
	for (;;) {
		r = file_lock_posix(f, owner, &l, &kw);
		if (r != -EAGAIN)
			break;
		waiter_init(&w, t, UINT32_MAX);
		waitq_add(kw.q, &w.entry);
		r = file_lock_posix(f, owner, &l, &kw);
		if (r == -EAGAIN)
			r = task_block(t, TIME_FOREVER, "file lock");
		else
			r = r == 0 ? 1 : r;
		waitq_remove(&w.entry);
		if (r != 0)
			break;
	}
	klock_wait_end(&kw);
	return MIN(r, (int64_t)0);
}

int64_t sys_flock(struct task *t, int32_t fd, uint32_t op)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	int kind = (int)op & ~LOCK_NB;
	struct klock_wait kw = { 0 };
	struct waiter w;
	int64_t r;

	if (!f)
		return -EBADF;
	if (kind != LOCK_SH && kind != LOCK_EX && kind != LOCK_UN)
		return -EINVAL;
	if (kind == LOCK_UN || (op & LOCK_NB))
		return file_lock_flock(f, kind, NULL);
	for (;;) {
		r = file_lock_flock(f, kind, &kw);
		if (r != -EAGAIN)
			break;
		waiter_init(&w, t, UINT32_MAX);
		waitq_add(kw.q, &w.entry);
		r = file_lock_flock(f, kind, &kw);
		if (r == -EAGAIN)
			r = task_block(t, TIME_FOREVER, "flock");
		else
			r = r == 0 ? 1 : r;
		waitq_remove(&w.entry);
		if (r != 0)
			break;
	}
	klock_wait_end(&kw);
	return MIN(r, (int64_t)0);
}

/* ---- fcntl ---- */

#define FCNTL_SETTABLE (O_APPEND | O_NONBLOCK | O_ASYNC | O_DIRECT | O_NOATIME)

static int64_t fcntl_setfl(struct task *t, struct file *f, int fd, uint32_t arg)
{
	int flags = (file_flags(f) & ~FCNTL_SETTABLE) | ((int)arg & FCNTL_SETTABLE);
	int64_t r;

	if (((int)arg & O_NOATIME) && !(file_flags(f) & O_NOATIME)) {
		struct kstat st;

		r = vfs_getattr(file_path(f), &st);
		if (r < 0)
			return r;
		if (st.uid.v != t->cred->fsuid.v && !task_capable_ns(t, &root_user_ns, 3 /* CAP_FOWNER */))
			return -EPERM;
	}
	r = file_set_flags(f, flags);
	return r < 0 ? r : file_async_update(t, f, fd);
}

static int64_t fcntl_file(struct task *t, struct file *f, int fd, uint32_t cmd, uint64_t arg)
{
	if (file_async_is_cmd(cmd))
		return file_async_fcntl(t, f, cmd, arg);
	switch (cmd) {
	case F_SETFL:
		return fcntl_setfl(t, f, fd, (uint32_t)arg);
	case F_GETPIPE_SZ:
	case F_SETPIPE_SZ:
		if (!S_ISFIFO(file_inode(f)->mode) || !f->ops->fcntl)
			return -EBADF;
		return f->ops->fcntl(f, (int)cmd, arg, task_umem(t));
	case F_CREATED_QUERY_CMD:
		return f->created;
	case F_GETLEASE:
		return S_ISREG(file_inode(f)->mode) ? F_UNLCK : -EINVAL;
	case F_GETLK:
		return lock_get(t, f, UADDR(arg), false);
	case F_OFD_GETLK:
		return lock_get(t, f, UADDR(arg), true);
	case F_SETLK:
	case F_SETLKW:
		return lock_set(t, f, UADDR(arg), false, cmd == F_SETLKW);
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		return lock_set(t, f, UADDR(arg), true, cmd == F_OFD_SETLKW);
	default:
		return f->ops->fcntl ? f->ops->fcntl(f, (int)cmd, arg, task_umem(t)) : -EINVAL;
	}
}

int64_t sys_fcntl(struct task *t, int32_t fd, uint32_t cmd, uint64_t arg)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);
	int flags;

	if (!f)
		return -EBADF;
	switch (cmd) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		if (arg >= task_rlimit(t, RLIMIT_NR_NOFILE))
			return -EINVAL;
		return fdtable_install(t->fdt, f, (int)arg, task_rlimit(t, RLIMIT_NR_NOFILE), cmd == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return fdtable_cloexec(t->fdt, fd) ? FD_CLOEXEC : 0;
	case F_SETFD:
		return fdtable_set_cloexec(t->fdt, fd, arg & FD_CLOEXEC);
	case F_GETFL:
		flags = file_flags(f);
		return flags & O_PATH ? flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW) : flags;
	default:
		return file_flags(f) & O_PATH ? -EBADF : fcntl_file(t, f, fd, cmd, arg);
	}
}

/* ---- ioctl ---- */

static int64_t ioctl_set_flag(struct task *t, struct file *f, int fd, uint64_t arg, int flag)
{
	int32_t on;
	int r;

	if (copy_in_struct(task_umem(t), &on, UADDR(arg)) < 0)
		return -EFAULT;
	r = file_set_flags(f, on ? file_flags(f) | flag : file_flags(f) & ~flag);
	return r < 0 ? r : file_async_update(t, f, fd);
}

/* Bytes from the position to the end of a regular file. */
static int64_t ioctl_fionread(struct task *t, struct file *f, uint64_t arg)
{
	struct kstat st;
	int r = vfs_getattr(file_path(f), &st);
	int32_t left;

	if (r < 0)
		return r;
	left = (int32_t)MIN(MAX((int64_t)st.size - f->pos, (int64_t)0), (int64_t)INT32_MAX);
	return copy_out_struct(task_umem(t), UADDR(arg), &left);
}

int64_t sys_ioctl(struct task *t, int32_t fd, uint32_t cmd, uint64_t arg)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	if (!f)
		return -EBADF;
	switch (cmd) {
	case FIOCLEX:
		return fdtable_set_cloexec(t->fdt, fd, true);
	case FIONCLEX:
		return fdtable_set_cloexec(t->fdt, fd, false);
	case FIONBIO:
		return ioctl_set_flag(t, f, fd, arg, O_NONBLOCK);
	case FIOASYNC:
		return ioctl_set_flag(t, f, fd, arg, O_ASYNC);
	case FIONREAD:
		if (S_ISREG(file_inode(f)->mode))
			return ioctl_fionread(t, f, arg);
		break;
	case FIGETBSZ:
		if (S_ISREG(file_inode(f)->mode) || S_ISDIR(file_inode(f)->mode)) {
			int32_t size = (int32_t)GUEST_PAGE_SIZE;

			return copy_out_struct(task_umem(t), UADDR(arg), &size);
		}
		break;
	default:
		break;
	}
	return file_ioctl(f, cmd, arg, task_umem(t));
}

/* ---- durability and space ---- */

int64_t sys_fsync(struct task *t, int32_t fd)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	return f ? file_fsync(f, false) : -EBADF;
}

int64_t sys_fdatasync(struct task *t, int32_t fd)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	return f ? file_fsync(f, true) : -EBADF;
}

int64_t sys_sync_file_range(struct task *t, int32_t fd, int64_t offset, int64_t size, uint32_t flags)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	int64_t end;

	if (!f)
		return -EBADF;
	if ((flags & ~7u) || offset < 0 || size < 0 || __builtin_add_overflow(offset, size, &end))
		return -EINVAL;
	if (f->ops->stream)
		return -ESPIPE;
	if (!S_ISREG(file_inode(f)->mode) && !S_ISDIR(file_inode(f)->mode) && !S_ISBLK(file_inode(f)->mode))
		return -ESPIPE;
	return flags ? file_fsync(f, true) : 0;
}

int64_t sys_syncfs(struct task *t, int32_t fd)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct superblock *sb;

	if (!f)
		return -EBADF;
	sb = file_inode(f)->sb;
	return sb && sb->ops->sync ? sb->ops->sync(sb) : 0;
}

static int sync_one(struct mount *m, void *arg)
{
	(void)arg;
	if (m->sb->ops->sync)
		(void)m->sb->ops->sync(m->sb);
	return 0;
}

int64_t sys_sync(struct task *t)
{
	(void)mnt_ns_for_each(t->fs->mnt_ns, sync_one, NULL);
	return 0;
}

int64_t sys_ftruncate(struct task *t, int32_t fd, int64_t length)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	if (length < 0)
		return -EINVAL;
	if (!f)
		return -EBADF;
	if (!S_ISREG(file_inode(f)->mode) || (file_flags(f) & O_ACCMODE) == O_RDONLY)
		return -EINVAL;
	if ((uint64_t)length > task_rlimit(t, 1 /* FSIZE */)) {
		struct guest_siginfo info = siginfo_user(t, SIGXFSZ, GUEST_SI_KERNEL);

		(void)signal_send_task(t, &info);
		return -EFBIG;
	}
	return file_truncate(f, (uint64_t)length, t->cred);
}

int64_t sys_fallocate(struct task *t, int32_t fd, int32_t mode, int64_t offset, int64_t size)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	int64_t end;

	if (!f)
		return -EBADF;
	if (offset < 0 || size <= 0)
		return -EINVAL;
	if ((file_flags(f) & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	if (f->ops->stream)
		return -ESPIPE;
	if (S_ISDIR(file_inode(f)->mode))
		return -EISDIR;
	if (!S_ISREG(file_inode(f)->mode))
		return -ENODEV;
	if (__builtin_add_overflow(offset, size, &end))
		return -EFBIG;
	if (!(mode & FALLOC_FL_KEEP_SIZE) && (uint64_t)end > task_rlimit(t, 1 /* FSIZE */)) {
		struct guest_siginfo info = siginfo_user(t, SIGXFSZ, GUEST_SI_KERNEL);

		(void)signal_send_task(t, &info);
		return -EFBIG;
	}
	return file_fallocate(f, mode, offset, size);
}

/* Advice changes speed only; the checks are Linux's. */
int64_t sys_fadvise64(struct task *t, int32_t fd, int64_t offset, uint64_t size, int32_t advice)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	(void)offset;
	if (!f)
		return -EBADF;
	if (f->ops->stream)
		return -ESPIPE;
	if (advice < POSIX_FADV_NORMAL || advice > POSIX_FADV_NOREUSE || (int64_t)size < 0)
		return -EINVAL;
	return 0;
}

int64_t sys_readahead(struct task *t, int32_t fd, int64_t offset, uint64_t size)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	(void)offset;
	(void)size;
	if (!f || (file_flags(f) & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	return S_ISREG(file_inode(f)->mode) ? 0 : -EINVAL;
}
