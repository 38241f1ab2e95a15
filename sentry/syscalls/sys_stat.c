/* stat(2), statx(2), access(2), statfs(2), getdents(2). */
#include <linux/stat.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"

#define STAT_AT_FLAGS (AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH)

/* struct stat of x86-64 (asm/stat.h). */
struct guest_stat {
	uint64_t dev, ino, nlink;
	uint32_t mode, uid, gid, pad0;
	uint64_t rdev;
	int64_t size, blksize, blocks;
	uint64_t atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
	int64_t unused[3];
};
_Static_assert(sizeof(struct guest_stat) == 144, "struct stat is 144 bytes");

static int64_t copy_out_stat(struct task *t, uaddr_t addr, const struct kstat *k)
{
	struct user_ns *ns = t->cred->user_ns;
	struct guest_stat s = {
		.dev = k->dev,
		.ino = k->ino,
		.nlink = k->nlink,
		.mode = k->mode,
		.uid = user_ns_from_kuid_munged(ns, k->uid),
		.gid = user_ns_from_kgid_munged(ns, k->gid),
		.rdev = k->rdev,
		.size = (int64_t)k->size,
		.blksize = k->blksize,
		.blocks = (int64_t)k->blocks,
		.atime = (uint64_t)k->atime.tv_sec,
		.atime_nsec = (uint64_t)k->atime.tv_nsec,
		.mtime = (uint64_t)k->mtime.tv_sec,
		.mtime_nsec = (uint64_t)k->mtime.tv_nsec,
		.ctime = (uint64_t)k->ctime.tv_sec,
		.ctime_nsec = (uint64_t)k->ctime.tv_nsec,
	};

	return copy_out_struct(task_umem(t), addr, &s);
}

/* Attributes by dirfd, path and AT_* flags. */
static int stat_path(struct task *t, int dirfd, uaddr_t addr, unsigned at_flags, struct kstat *ret)
{
	struct path p;
	int r = path_arg_resolve(t, dirfd, addr, at_flags, &p);

	if (r < 0)
		return r;
	r = vfs_getattr(&p, ret);
	path_put(&p);
	return r;
}

static int stat_fd(struct task *t, int fd, struct kstat *ret)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);

	return f ? vfs_getattr(file_path(f), ret) : -EBADF;
}

int64_t sys_stat(struct task *t, uaddr_t path, uaddr_t buf)
{
	struct kstat k;
	int r = stat_path(t, AT_FDCWD, path, 0, &k);

	return r < 0 ? r : copy_out_stat(t, buf, &k);
}

int64_t sys_lstat(struct task *t, uaddr_t path, uaddr_t buf)
{
	struct kstat k;
	int r = stat_path(t, AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &k);

	return r < 0 ? r : copy_out_stat(t, buf, &k);
}

int64_t sys_fstat(struct task *t, int32_t fd, uaddr_t buf)
{
	struct kstat k;
	int r = stat_fd(t, fd, &k);

	return r < 0 ? r : copy_out_stat(t, buf, &k);
}

/* An empty path with AT_EMPTY_PATH, the way libc does fstat: 1, 0 or -EFAULT. */
static int path_is_empty(struct task *t, uaddr_t path)
{
	char c;

	if (path.v == 0)
		return 1; /* statx and fstatat take NULL for "" since Linux 6.11 */
	return copy_in_struct(task_umem(t), &c, path) < 0 ? -EFAULT : c == 0;
}

static int stat_at(struct task *t, int dirfd, uaddr_t path, uint32_t flags, struct kstat *ret)
{
	if ((flags & AT_EMPTY_PATH) && dirfd >= 0) {
		int r = path_is_empty(t, path);

		if (r < 0)
			return r;
		if (r == 1)
			return stat_fd(t, dirfd, ret);
	}
	return stat_path(t, dirfd, path, flags, ret);
}

int64_t sys_newfstatat(struct task *t, int32_t dirfd, uaddr_t path, uaddr_t buf, uint32_t flags)
{
	struct kstat k;
	int r;

	if (flags & ~(uint32_t)STAT_AT_FLAGS)
		return -EINVAL;
	r = stat_at(t, dirfd, path, flags, &k);
	return r < 0 ? r : copy_out_stat(t, buf, &k);
}

static struct statx_timestamp statx_time(struct timespec ts)
{
	return (struct statx_timestamp){ .tv_sec = ts.tv_sec, .tv_nsec = (uint32_t)ts.tv_nsec };
}

int64_t sys_statx(struct task *t, int32_t dirfd, uaddr_t path, uint32_t flags, uint32_t mask, uaddr_t buf)
{
	struct user_ns *ns = t->cred->user_ns;
	struct statx x = { 0 };
	struct kstat k;
	int r;

	if (flags & ~(uint32_t)(STAT_AT_FLAGS | AT_STATX_SYNC_TYPE))
		return -EINVAL;
	if ((mask & STATX__RESERVED) || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
		return -EINVAL;
	r = stat_at(t, dirfd, path, flags, &k);
	if (r < 0)
		return r;
	x.stx_mask = STATX_BASIC_STATS | STATX_MNT_ID;
	x.stx_blksize = k.blksize;
	x.stx_attributes = k.attributes;
	x.stx_attributes_mask = STATX_ATTR_MOUNT_ROOT | k.attributes;
	x.stx_nlink = k.nlink;
	x.stx_uid = user_ns_from_kuid_munged(ns, k.uid);
	x.stx_gid = user_ns_from_kgid_munged(ns, k.gid);
	x.stx_mode = (uint16_t)k.mode;
	x.stx_ino = k.ino;
	x.stx_size = k.size;
	x.stx_blocks = k.blocks;
	x.stx_atime = statx_time(k.atime);
	x.stx_mtime = statx_time(k.mtime);
	x.stx_ctime = statx_time(k.ctime);
	if (k.btime.tv_nsec >= 0 && k.btime.tv_sec) {
		x.stx_btime = statx_time(k.btime);
		x.stx_mask |= STATX_BTIME;
	}
	x.stx_rdev_major = major(k.rdev);
	x.stx_rdev_minor = minor(k.rdev);
	x.stx_dev_major = major(k.dev);
	x.stx_dev_minor = minor(k.dev);
	x.stx_mnt_id = k.mnt_id;
	return copy_out_struct(task_umem(t), buf, &x);
}

/* access(2) asks with the real ids, and with the permitted capabilities when the real user is root. */
static const struct cred *access_cred(struct task *t)
{
	struct cred *c = cred_dup(t->cred);
	kuid_t root;

	if (!c)
		return NULL;
	c->fsuid = c->ruid;
	c->fsgid = c->rgid;
	c->euid = c->ruid;
	if (!user_ns_make_kuid(c->user_ns, 0, &root) || c->ruid.v != root.v)
		c->cap_effective = 0;
	else
		c->cap_effective = c->cap_permitted;
	return c;
}

static int64_t access_call(struct task *t, int dirfd, uaddr_t path, int32_t mode, uint32_t flags)
{
	AUTO(cred_put) const struct cred *cred = NULL;
	struct path_arg p;
	struct path at;
	int64_t r;

	if ((mode & ~7) || (flags & ~(uint32_t)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH)))
		return -EINVAL;
	cred = flags & AT_EACCESS ? cred_get(t->cred) : access_cred(t);
	if (!cred)
		return -ENOMEM;
	r = path_arg_init(&p, t, dirfd, path);
	if (r == 0) {
		p.walk.cred = cred;
		r = vfs_walk(&p.walk, p.text,
			     (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
				     (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
			     &at);
		if (r == 0) {
			r = mode ? path_permission(&at, cred, (unsigned)mode) : 0;
			path_put(&at);
		}
	}
	path_arg_fini(&p);
	return r;
}

int64_t sys_access(struct task *t, uaddr_t path, int32_t mode)
{
	return access_call(t, AT_FDCWD, path, mode, 0);
}

int64_t sys_faccessat(struct task *t, int32_t dirfd, uaddr_t path, int32_t mode)
{
	return access_call(t, dirfd, path, mode, 0);
}

int64_t sys_faccessat2(struct task *t, int32_t dirfd, uaddr_t path, int32_t mode, uint32_t flags)
{
	return access_call(t, dirfd, path, mode, flags);
}

static int64_t copy_out_statfs(struct task *t, uaddr_t addr, const struct path *p)
{
	struct kstatfs k;
	struct statfs s = { 0 };
	int r = vfs_statfs(p, &k);

	if (r < 0)
		return r;
	s.f_type = (int64_t)k.type;
	s.f_bsize = (int64_t)k.bsize;
	s.f_blocks = k.blocks;
	s.f_bfree = k.bfree;
	s.f_bavail = k.bavail;
	s.f_files = k.files;
	s.f_ffree = k.ffree;
	memcpy(&s.f_fsid, &k.fsid, sizeof(s.f_fsid));
	s.f_namelen = (int64_t)k.namelen;
	s.f_frsize = (int64_t)k.bsize;
	s.f_flags = (int64_t)k.flags;
	return copy_out_struct(task_umem(t), addr, &s);
}

int64_t sys_statfs(struct task *t, uaddr_t path, uaddr_t buf)
{
	struct path p;
	int64_t r = path_arg_resolve(t, AT_FDCWD, path, 0, &p);

	if (r < 0)
		return r;
	r = copy_out_statfs(t, buf, &p);
	path_put(&p);
	return r;
}

int64_t sys_fstatfs(struct task *t, int32_t fd, uaddr_t buf)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);

	return f ? copy_out_statfs(t, buf, file_path(f)) : -EBADF;
}

/* ---- getdents ---- */

/* One buffer of entries, filled in sentry memory and copied out once. */
struct dents {
	struct dir_emit emit; /* first member */
	uint8_t *buf;
	size_t size, capacity;
	bool old; /* linux_dirent: type behind the name */
	bool overflow;
};

static bool dents_emit(struct dir_emit *d, const char *name, size_t len, uint64_t ino, uint8_t dtype,
		       int64_t next_pos)
{
	struct dents *e = container_of(d, struct dents, emit);
	size_t head = e->old ? 18 : 19;
	size_t rec = ALIGN_UP(head + len + 1 + (e->old ? 1 : 0), (size_t)8);
	uint8_t *p = e->buf + e->size;
	uint16_t reclen = (uint16_t)rec;

	if (rec > e->capacity - e->size) {
		e->overflow = true;
		return false;
	}
	memset(p, 0, rec);
	memcpy(p, &ino, 8);
	memcpy(p + 8, &next_pos, 8);
	memcpy(p + 16, &reclen, 2);
	if (!e->old)
		p[18] = dtype;
	memcpy(p + head, name, len);
	if (e->old)
		p[rec - 1] = dtype;
	e->size += rec;
	return true;
}

#define DENTS_MAX (64u << 10)

static int64_t getdents_call(struct task *t, int fd, uaddr_t addr, uint32_t count, bool old)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	struct dents e = { .emit.emit = dents_emit, .old = old, .capacity = MIN(count, DENTS_MAX) };
	int64_t r;

	if (!f)
		return -EBADF;
	e.buf = malloc(MAX(e.capacity, (size_t)1));
	if (!e.buf)
		return -ENOMEM;
	r = file_iterate(f, &e.emit);
	if (r >= 0 && e.size == 0 && e.overflow)
		r = -EINVAL;
	else if (e.size > 0)
		r = copy_out(task_umem(t), addr, e.buf, e.size) < 0 ? -EFAULT : (int64_t)e.size;
	free(e.buf);
	return r;
}

int64_t sys_getdents64(struct task *t, int32_t fd, uaddr_t addr, uint32_t count)
{
	return getdents_call(t, fd, addr, count, false);
}

int64_t sys_getdents(struct task *t, int32_t fd, uaddr_t addr, uint32_t count)
{
	return getdents_call(t, fd, addr, count, true);
}
