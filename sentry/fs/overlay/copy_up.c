/* Copy-up: a file from below gets its upper inode before it is changed. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/overlay_priv.h"

#define CHUNK_SIZE (256u << 10)

static bool all_zero(const char *p, size_t size)
{
	return p[0] == 0 && memcmp(p, p + 1, size - 1) == 0;
}

/* Copies up to size bytes between open files; runs of zeros stay holes. */
static int copy_bytes(struct file *from, struct file *to, uint64_t size, char *buf)
{
	int64_t in = 0, out, n;
	struct uio u;

	while ((uint64_t)in < size) {
		uio_init_kernel(&u, buf, MIN(size - (uint64_t)in, (uint64_t)CHUNK_SIZE));
		out = in;
		n = from->ops->read(from, &u, &in);
		if (n <= 0)
			return (int)n;
		if (all_zero(buf, (size_t)n))
			continue;
		uio_init_kernel(&u, buf, (uint64_t)n);
		while (u.resid) {
			n = to->ops->write(to, &u, &out);
			if (n <= 0)
				return n < 0 ? (int)n : -ENOSPC;
		}
	}
	return 0;
}

static int copy_data(struct overlay_inode *o, struct inode *upper, uint64_t size)
{
	struct real_file *from = NULL, *to = NULL;
	char *buf = malloc(CHUNK_SIZE);
	int r = buf ? 0 : -ENOMEM;

	if (r == 0)
		r = real_open(o->lower, O_RDONLY, o->fs->cred, &from);
	if (r == 0)
		r = real_open(upper, O_WRONLY, o->fs->cred, &to);
	if (r == 0)
		r = copy_bytes(&from->file, &to->file, size, buf);
	real_close(from);
	real_close(to);
	free(buf);
	return r;
}

/* Extended attributes; those that the upper file system does not take are left behind. */
static int copy_xattrs(struct inode *lower, struct inode *upper)
{
	int64_t size, left, n;
	char *names, *value, *name;
	int r = 0;

	if (!lower->ops->listxattr || !upper->ops->setxattr)
		return 0;
	mutex_lock_nested(&lower->mu);
	size = lower->ops->listxattr(lower, NULL, 0);
	mutex_unlock(&lower->mu);
	if (size <= 0)
		return 0;
	names = malloc((size_t)size);
	value = malloc(65536);
	if (!names || !value) {
		r = -ENOMEM;
		goto out;
	}
	mutex_lock_nested(&lower->mu);
	left = lower->ops->listxattr(lower, names, (size_t)size);
	mutex_unlock(&lower->mu);
	for (name = names; left > 0 && r == 0;) {
		size_t len = strnlen(name, (size_t)left);

		if (len == (size_t)left)
			break;
		mutex_lock_nested(&lower->mu);
		n = lower->ops->getxattr(lower, name, value, 65536);
		mutex_unlock(&lower->mu);
		if (n >= 0) {
			mutex_lock_nested(&upper->mu);
			r = upper->ops->setxattr(upper, name, value, (size_t)n, 0);
			mutex_unlock(&upper->mu);
		}
		if (r == -EOPNOTSUPP || r == -EPERM)
			r = 0;
		name += len + 1;
		left -= (int64_t)len + 1;
	}
out:
	free(names);
	free(value);
	return r;
}

static int copy_attr(struct overlay_inode *o, struct inode *upper, uint64_t size)
{
	const struct inode *i = &o->inode;
	struct kattr attr = { .mask = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME |
				      ATTR_CTIME,
			      .mode = i->mode & 07777,
			      .uid = i->uid,
			      .gid = i->gid,
			      .size = size,
			      .atime = i->atime,
			      .mtime = i->mtime };
	int r;

	if (S_ISREG(i->mode))
		attr.mask |= ATTR_SIZE;
	if (S_ISLNK(i->mode))
		attr.mask &= ~(unsigned)ATTR_MODE;
	mutex_lock_nested(&upper->mu);
	r = upper->ops->setattr ? upper->ops->setattr(upper, &attr) : 0;
	mutex_unlock(&upper->mu);
	return r;
}

/* A file without a name in the upper tree, with the lower one's content and attributes. */
static int copy_regular(struct overlay_inode *o, uint64_t size_max, struct inode **ret_upper)
{
	struct inode *dir = o->fs->upper->root, *upper = NULL;
	uint64_t size = MIN(__atomic_load_n(&o->lower->size, __ATOMIC_RELAXED), size_max);
	int r;

	if (!dir->ops->tmpfile)
		return -EROFS;
	mutex_lock_nested(&dir->mu);
	r = dir->ops->tmpfile(dir, S_IFREG | 0600, o->fs->cred, &upper);
	mutex_unlock(&dir->mu);
	if (r < 0)
		return r;
	if (size)
		r = copy_data(o, upper, size);
	if (r == 0)
		r = copy_xattrs(o->lower, upper);
	if (r == 0)
		r = copy_attr(o, upper, size);
	if (r < 0) {
		inode_put(upper);
		return r;
	}
	*ret_upper = upper;
	return 0;
}

/* Directories, links and special files are made in place. dir's mu held. */
static int make_special(struct overlay_inode *o, struct inode *dir, struct inode **ret_upper)
{
	const struct cred *cred = o->fs->cred;
	uint32_t mode = o->inode.mode;
	char *target;
	int64_t n;
	int r;

	if (o->inode.nlink == 0 || o->moved)
		return -ENOENT;
	if (S_ISDIR(mode))
		return dir->ops->mkdir(dir, o->name, S_IFDIR | 0700, cred, ret_upper);
	if (!S_ISLNK(mode))
		return dir->ops->mknod(dir, o->name, mode, o->lower->rdev, cred, ret_upper);
	target = malloc(PATH_MAX_GUEST);
	if (!target)
		return -ENOMEM;
	n = o->lower->ops->readlink(o->lower, target, PATH_MAX_GUEST - 1);
	if (n >= 0)
		target[n] = 0;
	r = n < 0 ? (int)n : dir->ops->symlink(dir, o->name, target, cred, ret_upper);
	free(target);
	return r;
}

/* Names the finished copy in the parent's upper directory. dir's mu held. */
static int link_regular(struct overlay_inode *o, struct inode *dir, struct inode *upper)
{
	int r;

	/* A file that lost all names below it stays without one. */
	if (o->inode.nlink == 0 || o->moved)
		return 0;
	upper->linkable = true;
	r = dir->ops->link ? dir->ops->link(dir, o->name, upper) : -EROFS;
	upper->linkable = false;
	return r;
}

static int copy_up_locked(struct overlay_inode *o, uint64_t size_max)
{
	struct inode *dir, *upper = NULL;
	bool regular = S_ISREG(o->inode.mode);
	int r;

	if (overlay_upper(o))
		return 0;
	r = copy_up_locked(o->parent, 0);
	if (r == 0 && regular)
		r = copy_regular(o, size_max, &upper);
	if (r < 0)
		return r;
	dir = overlay_upper(o->parent);
	mutex_lock_nested(&dir->mu);
	r = regular ? link_regular(o, dir, upper) : make_special(o, dir, &upper);
	if (r == 0 && !regular) {
		r = copy_xattrs(o->lower, upper);
		if (r == 0)
			r = copy_attr(o, upper, 0);
	}
	/* Known to the tables before anyone can look the name up in the upper directory. */
	if (r == 0)
		overlay_set_upper(o, upper);
	mutex_unlock(&dir->mu);
	if (r < 0) {
		inode_put(upper);
		return r;
	}
	if (o->inode.nlink)
		overlay_pin(o);
	if (regular)
		mappable_invalidate(&o->mappable, 0, INT64_MAX);
	return 0;
}

int overlay_copy_up(struct overlay_inode *o, uint64_t size_max)
{
	int r;

	if (overlay_upper(o))
		return 0;
	mutex_lock_nested(&o->fs->copy_mu);
	r = copy_up_locked(o, size_max);
	mutex_unlock(&o->fs->copy_mu);
	return r;
}
