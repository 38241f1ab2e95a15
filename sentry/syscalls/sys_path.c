/* Calls that name and change places: mkdir(2) ... rename(2), chmod(2), chown(2), utimensat(2), chdir(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <utime.h>
#include <linux/capability.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

/* ---- making and removing names ---- */

int64_t sys_mkdirat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t mode)
{
	struct path_arg p;
	int64_t r = path_arg_init(&p, t, dirfd, path);

	if (r == 0)
		r = vfs_mkdir(&p.walk, p.text, mode & 01777);
	path_arg_fini(&p);
	return r;
}

int64_t sys_mkdir(struct task *t, uaddr_t path, uint32_t mode)
{
	return sys_mkdirat(t, AT_FDCWD, path, mode);
}

int64_t sys_mknodat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t mode, uint32_t dev)
{
	struct path_arg p;
	int64_t r;

	switch (mode & S_IFMT) {
	case 0:
		mode |= S_IFREG;
		break;
	case S_IFREG:
	case S_IFIFO:
	case S_IFSOCK:
	case S_IFCHR:
	case S_IFBLK:
		break;
	case S_IFDIR:
		return -EPERM;
	default:
		return -EINVAL;
	}
	r = path_arg_init(&p, t, dirfd, path);
	if (r == 0)
		r = vfs_mknod(&p.walk, p.text, mode & (S_IFMT | 07777),
			      makedev((dev >> 8) & 0xfff, (dev & 0xff) | ((dev >> 12) & 0xfff00)));
	path_arg_fini(&p);
	return r;
}

int64_t sys_mknod(struct task *t, uaddr_t path, uint32_t mode, uint32_t dev)
{
	return sys_mknodat(t, AT_FDCWD, path, mode, dev);
}

int64_t sys_symlinkat(struct task *t, uaddr_t target, int32_t dirfd, uaddr_t path)
{
	char text[PATH_MAX_GUEST];
	struct path_arg p;
	int64_t r = task_copy_path(t, target, text);

	if (r < 0)
		return r;
	if (!text[0])
		return -ENOENT;
	r = path_arg_init(&p, t, dirfd, path);
	if (r == 0)
		r = vfs_symlink(&p.walk, text, p.text);
	path_arg_fini(&p);
	return r;
}

int64_t sys_symlink(struct task *t, uaddr_t target, uaddr_t path)
{
	return sys_symlinkat(t, target, AT_FDCWD, path);
}

int64_t sys_linkat(struct task *t, int32_t olddirfd, uaddr_t oldpath, int32_t newdirfd, uaddr_t newpath,
		   uint32_t flags)
{
	struct path_arg from, to = { .ready = false };
	int64_t r;

	if (flags & ~(uint32_t)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	r = path_arg_init(&from, t, olddirfd, oldpath);
	if (r == 0 && (flags & AT_EMPTY_PATH) && !from.text[0] && !task_capable_ns(t, &root_user_ns, CAP_DAC_READ_SEARCH))
		r = -ENOENT;
	if (r == 0)
		r = path_arg_init(&to, t, newdirfd, newpath);
	if (r == 0)
		r = vfs_link(&from.walk, from.text,
			     (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
				     (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
			     &to.walk, to.text);
	path_arg_fini(&to);
	path_arg_fini(&from);
	return r;
}

int64_t sys_link(struct task *t, uaddr_t oldpath, uaddr_t newpath)
{
	return sys_linkat(t, AT_FDCWD, oldpath, AT_FDCWD, newpath, 0);
}

int64_t sys_unlinkat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t flags)
{
	struct path_arg p;
	int64_t r;

	if (flags & ~(uint32_t)AT_REMOVEDIR)
		return -EINVAL;
	r = path_arg_init(&p, t, dirfd, path);
	if (r == 0)
		r = flags ? vfs_rmdir(&p.walk, p.text) : vfs_unlink(&p.walk, p.text);
	path_arg_fini(&p);
	return r;
}

int64_t sys_unlink(struct task *t, uaddr_t path)
{
	return sys_unlinkat(t, AT_FDCWD, path, 0);
}

int64_t sys_rmdir(struct task *t, uaddr_t path)
{
	return sys_unlinkat(t, AT_FDCWD, path, AT_REMOVEDIR);
}

int64_t sys_renameat2(struct task *t, int32_t olddirfd, uaddr_t oldpath, int32_t newdirfd, uaddr_t newpath,
		      uint32_t flags)
{
	struct path_arg from, to = { .ready = false };
	int64_t r;

	/* RENAME_NOREPLACE 1, RENAME_EXCHANGE 2, RENAME_WHITEOUT 4 */
	if ((flags & ~7u) || ((flags & 2) && (flags & 5)))
		return -EINVAL;
	if ((flags & 4) && !task_capable_ns(t, &root_user_ns, CAP_MKNOD))
		return -EPERM;
	r = path_arg_init(&from, t, olddirfd, oldpath);
	if (r == 0)
		r = path_arg_init(&to, t, newdirfd, newpath);
	if (r == 0)
		r = vfs_rename(&from.walk, from.text, &to.walk, to.text, flags);
	path_arg_fini(&to);
	path_arg_fini(&from);
	return r;
}

int64_t sys_renameat(struct task *t, int32_t olddirfd, uaddr_t oldpath, int32_t newdirfd, uaddr_t newpath)
{
	return sys_renameat2(t, olddirfd, oldpath, newdirfd, newpath, 0);
}

int64_t sys_rename(struct task *t, uaddr_t oldpath, uaddr_t newpath)
{
	return sys_renameat2(t, AT_FDCWD, oldpath, AT_FDCWD, newpath, 0);
}

int64_t sys_readlinkat(struct task *t, int32_t dirfd, uaddr_t path, uaddr_t buf, int32_t size)
{
	char text[PATH_MAX_GUEST];
	struct path p;
	int64_t r;

	if (size <= 0)
		return -EINVAL;
	/* An empty path names the link that dirfd is (O_PATH | O_NOFOLLOW). */
	r = path_arg_resolve(t, dirfd, path, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, &p);
	if (r < 0)
		return r;
	r = vfs_readlink(&p, t->cred, text, sizeof(text));
	path_put(&p);
	if (r < 0) {
		char first = 1;

		/* "" that names no link is no name at all. */
		if (r == -EINVAL && copy_in_struct(task_umem(t), &first, path) == 0 && !first)
			r = -ENOENT;
		return r;
	}
	r = MIN(r, (int64_t)size);
	return copy_out(task_umem(t), buf, text, (size_t)r) < 0 ? -EFAULT : r;
}

int64_t sys_readlink(struct task *t, uaddr_t path, uaddr_t buf, int32_t size)
{
	return sys_readlinkat(t, AT_FDCWD, path, buf, size);
}

/* ---- attributes ---- */

static int64_t setattr_at(struct task *t, int dirfd, uaddr_t path, uint32_t at_flags, const struct kattr *a)
{
	struct path p;
	int64_t r = path_arg_resolve(t, dirfd, path, at_flags, &p);

	if (r < 0)
		return r;
	r = vfs_setattr(&p, t->cred, a);
	path_put(&p);
	return r;
}

static int64_t setattr_fd(struct task *t, int fd, const struct kattr *a)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	return f ? vfs_setattr(file_path(f), t->cred, a) : -EBADF;
}

int64_t sys_fchmodat2(struct task *t, int32_t dirfd, uaddr_t path, uint32_t mode, uint32_t flags)
{
	struct kattr a = { .mask = ATTR_MODE, .mode = mode & 07777 };

	if (flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	return setattr_at(t, dirfd, path, flags, &a);
}

int64_t sys_fchmodat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t mode)
{
	return sys_fchmodat2(t, dirfd, path, mode, 0);
}

int64_t sys_chmod(struct task *t, uaddr_t path, uint32_t mode)
{
	return sys_fchmodat2(t, AT_FDCWD, path, mode, 0);
}

int64_t sys_fchmod(struct task *t, int32_t fd, uint32_t mode)
{
	struct kattr a = { .mask = ATTR_MODE, .mode = mode & 07777 };

	return setattr_fd(t, fd, &a);
}

/* -1 leaves an id alone. */
static int owner_attr(struct task *t, uint32_t uid, uint32_t gid, struct kattr *a)
{
	*a = (struct kattr){ 0 };
	if (uid != ID_INVALID) {
		a->mask |= ATTR_UID;
		if (!user_ns_make_kuid(t->cred->user_ns, uid, &a->uid))
			return -EINVAL;
	}
	if (gid != ID_INVALID) {
		a->mask |= ATTR_GID;
		if (!user_ns_make_kgid(t->cred->user_ns, gid, &a->gid))
			return -EINVAL;
	}
	return 0;
}

int64_t sys_fchownat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t uid, uint32_t gid, uint32_t flags)
{
	struct kattr a;
	int r;

	if (flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	r = owner_attr(t, uid, gid, &a);
	return r < 0 ? r : setattr_at(t, dirfd, path, flags, &a);
}

int64_t sys_chown(struct task *t, uaddr_t path, uint32_t uid, uint32_t gid)
{
	return sys_fchownat(t, AT_FDCWD, path, uid, gid, 0);
}

int64_t sys_lchown(struct task *t, uaddr_t path, uint32_t uid, uint32_t gid)
{
	return sys_fchownat(t, AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW);
}

int64_t sys_fchown(struct task *t, int32_t fd, uint32_t uid, uint32_t gid)
{
	struct kattr a;
	int r = owner_attr(t, uid, gid, &a);

	return r < 0 ? r : setattr_fd(t, fd, &a);
}

/* times NULL: both now. */
static int64_t utimes_call(struct task *t, int dirfd, uaddr_t path, uint32_t flags, const struct timespec *times)
{
	struct kattr a = { .mask = ATTR_ATIME | ATTR_MTIME };

	if (!times) {
		a.mask |= ATTR_ATIME_NOW | ATTR_MTIME_NOW;
	} else {
		for (int i = 0; i < 2; i++) {
			unsigned set = i ? ATTR_MTIME : ATTR_ATIME, now = i ? ATTR_MTIME_NOW : ATTR_ATIME_NOW;

			if (times[i].tv_nsec == UTIME_OMIT)
				a.mask &= ~set;
			else if (times[i].tv_nsec == UTIME_NOW)
				a.mask |= now;
			else if (times[i].tv_nsec < 0 || times[i].tv_nsec >= NSEC_PER_SEC)
				return -EINVAL;
		}
		a.atime = times[0];
		a.mtime = times[1];
		if (!a.mask)
			return 0;
	}
	if (path.v == 0 && dirfd != AT_FDCWD)
		return flags ? -EINVAL : setattr_fd(t, dirfd, &a);
	return setattr_at(t, dirfd, path, flags, &a);
}

int64_t sys_utimensat(struct task *t, int32_t dirfd, uaddr_t path, uaddr_t times, uint32_t flags)
{
	struct timespec ts[2];

	if (flags & ~(uint32_t)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	if (times.v && copy_in(task_umem(t), ts, times, sizeof(ts)) < 0)
		return -EFAULT;
	return utimes_call(t, dirfd, path, flags, times.v ? ts : NULL);
}

int64_t sys_futimesat(struct task *t, int32_t dirfd, uaddr_t path, uaddr_t times)
{
	struct timespec ts[2];
	struct timeval tv[2];

	if (!times.v)
		return utimes_call(t, dirfd, path, 0, NULL);
	if (copy_in(task_umem(t), tv, times, sizeof(tv)) < 0)
		return -EFAULT;
	for (int i = 0; i < 2; i++) {
		if (tv[i].tv_usec < 0 || tv[i].tv_usec >= 1000000)
			return -EINVAL;
		ts[i] = (struct timespec){ tv[i].tv_sec, tv[i].tv_usec * 1000 };
	}
	return utimes_call(t, dirfd, path, 0, ts);
}

int64_t sys_utimes(struct task *t, uaddr_t path, uaddr_t times)
{
	return sys_futimesat(t, AT_FDCWD, path, times);
}

int64_t sys_utime(struct task *t, uaddr_t path, uaddr_t times)
{
	struct timespec ts[2] = { 0 };
	struct utimbuf b;

	if (!times.v)
		return utimes_call(t, AT_FDCWD, path, 0, NULL);
	if (copy_in_struct(task_umem(t), &b, times) < 0)
		return -EFAULT;
	ts[0].tv_sec = b.actime;
	ts[1].tv_sec = b.modtime;
	return utimes_call(t, AT_FDCWD, path, 0, ts);
}

int64_t sys_truncate(struct task *t, uaddr_t path, int64_t length)
{
	struct kattr a = { .mask = ATTR_SIZE, .size = (uint64_t)length };
	struct path p;
	struct kstat st;
	int64_t r;

	if (length < 0)
		return -EINVAL;
	r = path_arg_resolve(t, AT_FDCWD, path, 0, &p);
	if (r < 0)
		return r;
	r = vfs_getattr(&p, &st);
	if (r == 0 && S_ISDIR(st.mode))
		r = -EISDIR;
	else if (r == 0 && !S_ISREG(st.mode))
		r = -EINVAL;
	if (r == 0)
		r = path_permission(&p, t->cred, 2);
	if (r == 0 && (uint64_t)length > task_rlimit(t, 1 /* FSIZE */)) {
		struct guest_siginfo info = siginfo_user(t, SIGXFSZ, GUEST_SI_KERNEL);

		(void)signal_send_task(t, &info);
		r = -EFBIG;
	}
	if (r == 0)
		r = vfs_setattr(&p, t->cred, &a);
	path_put(&p);
	return r;
}

/* ---- root and working directory ---- */

/* Installs a directory as cwd or root of the caller; takes the references of p over. */
static void set_place(struct task *t, bool root, const struct path *p)
{
	struct path old;

	mutex_lock(&t->fs->mu);
	old = root ? t->fs->root : t->fs->cwd;
	if (root)
		t->fs->root = *p;
	else
		t->fs->cwd = *p;
	mutex_unlock(&t->fs->mu);
	path_put(&old);
}

static int64_t chdir_to(struct task *t, uaddr_t path, bool root)
{
	struct path_arg a;
	struct path p;
	int64_t r = path_arg_init(&a, t, AT_FDCWD, path);

	if (r == 0)
		r = vfs_walk(&a.walk, a.text, WALK_FOLLOW | WALK_DIRECTORY, &p);
	path_arg_fini(&a);
	if (r < 0)
		return r;
	r = path_permission(&p, t->cred, 1);
	if (r == 0 && root && !task_capable(t, CAP_SYS_CHROOT))
		r = -EPERM;
	if (r < 0)
		path_put(&p);
	else
		set_place(t, root, &p);
	return r;
}

int64_t sys_chdir(struct task *t, uaddr_t path)
{
	return chdir_to(t, path, false);
}

int64_t sys_chroot(struct task *t, uaddr_t path)
{
	return chdir_to(t, path, true);
}

int64_t sys_fchdir(struct task *t, int32_t fd)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);
	struct path p;
	int r;

	if (!f)
		return -EBADF;
	if (!S_ISDIR(file_inode(f)->mode))
		return -ENOTDIR;
	r = path_permission(file_path(f), t->cred, 1);
	if (r < 0)
		return r;
	p = *file_path(f);
	path_get(&p);
	set_place(t, false, &p);
	return 0;
}

int64_t sys_getcwd(struct task *t, uaddr_t buf, uint64_t size)
{
	char text[PATH_MAX_GUEST];
	struct path root, cwd;
	bool reachable = true;
	int64_t r;

	mutex_lock(&t->fs->mu);
	root = t->fs->root;
	cwd = t->fs->cwd;
	path_get(&root);
	path_get(&cwd);
	mutex_unlock(&t->fs->mu);
	r = vfs_path_text(&cwd, &root, text, sizeof(text), &reachable);
	path_put(&cwd);
	path_put(&root);
	if (r < 0)
		return r;
	if (r > 10 && strcmp(text + r - 10, " (deleted)") == 0)
		return -ENOENT;
	if (!reachable) {
		static const char prefix[] = "(unreachable)";
		size_t n = sizeof(prefix) - 1;

		if ((size_t)r + n + 1 > sizeof(text))
			return -ENAMETOOLONG;
		memmove(text + n, text, (size_t)r + 1);
		memcpy(text, prefix, n);
		r += (int64_t)n;
	}
	if ((uint64_t)r + 1 > size)
		return -ERANGE;
	return copy_out(task_umem(t), buf, text, (size_t)r + 1) < 0 ? -EFAULT : r + 1;
}

int64_t sys_umask(struct task *t, int32_t mask)
{
	uint32_t old;

	mutex_lock(&t->fs->mu);
	old = t->fs->umask;
	t->fs->umask = (uint32_t)mask & 0777;
	mutex_unlock(&t->fs->mu);
	return old;
}
