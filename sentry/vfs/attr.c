/* Attributes of resolved places: stat, chmod, chown, utimes, truncate, links' text, statfs. */
#include <sys/inotify.h>

#include "sentry/vfs/vfs_priv.h"

#define STATFS_NOSYMFOLLOW 0x2000 /* statfs(2) ST_NOSYMFOLLOW */

int vfs_getattr(const struct path *p, struct kstat *st)
{
	struct inode *i = p->dentry->inode;
	int r = i->ops->refresh ? i->ops->refresh(i) : 0;

	if (r < 0)
		return r;
	GUARD(mutex, &i->mu);
	*st = (struct kstat){ .ino = i->ino,
			      .size = i->size,
			      .blocks = (i->size + 511) / 512,
			      .mode = i->mode,
			      .nlink = i->nlink,
			      .blksize = 4096,
			      .uid = i->uid,
			      .gid = i->gid,
			      .dev = i->sb->dev,
			      .rdev = i->rdev,
			      .atime = i->atime,
			      .mtime = i->mtime,
			      .ctime = i->ctime,
			      .btime = i->btime,
			      .mnt_id = p->mnt ? (uint64_t)p->mnt->id : 0 };
	if (i->ops->getattr)
		i->ops->getattr(i, st);
	return 0;
}

void inode_apply_attr(struct inode *i, const struct kattr *a)
{
	if (a->mask & ATTR_MODE)
		i->mode = (i->mode & S_IFMT) | (a->mode & 07777);
	if (a->mask & ATTR_UID)
		i->uid = a->uid;
	if (a->mask & ATTR_GID)
		i->gid = a->gid;
	if (a->mask & ATTR_ATIME)
		i->atime = a->atime;
	if (a->mask & ATTR_MTIME)
		i->mtime = a->mtime;
	i->ctime = vfs_now();
}

/* Who may change what: chmod(2), chown(2), utimensat(2). May edit a->mode. mu held. */
static int setattr_check(struct inode *i, const struct cred *cred, struct kattr *a)
{
	bool owner = inode_owner_or_capable(i, cred);

	if (a->mask & ATTR_UID && (cred->fsuid.v != i->uid.v || a->uid.v != i->uid.v) &&
	    !inode_capable(i, cred, CAP_CHOWN))
		return -EPERM;
	if (a->mask & ATTR_GID &&
	    (cred->fsuid.v != i->uid.v || (!cred_in_group(cred, a->gid) && a->gid.v != i->gid.v)) &&
	    !inode_capable(i, cred, CAP_CHOWN))
		return -EPERM;
	if (a->mask & ATTR_MODE) {
		kgid_t gid = a->mask & ATTR_GID ? a->gid : i->gid;

		if (!owner)
			return -EPERM;
		if (S_ISLNK(i->mode))
			return -EOPNOTSUPP;
		if (a->mode & S_ISGID && !cred_in_group(cred, gid) && !inode_capable(i, cred, CAP_FSETID))
			a->mode &= ~(uint32_t)S_ISGID;
	}
	if (a->mask & (ATTR_ATIME | ATTR_MTIME) && !owner) {
		/* Without explicit times, write permission is enough. */
		if (a->mask & ATTR_ATIME && !(a->mask & ATTR_ATIME_NOW))
			return -EPERM;
		if (a->mask & ATTR_MTIME && !(a->mask & ATTR_MTIME_NOW))
			return -EPERM;
		return inode_permission(i, cred, MAY_WRITE);
	}
	return 0;
}

/* The mode without the bits that a change of owner or content takes away. */
static uint32_t mode_without_privs(const struct inode *i, bool keep_sgid_lock)
{
	uint32_t mode = i->mode & 07777 & ~(uint32_t)S_ISUID;

	if (mode & S_IXGRP || !keep_sgid_lock)
		mode &= ~(uint32_t)S_ISGID;
	return mode;
}

/* Applies *a after permission checks other than the mount's; a is edited. mu held. */
int setattr_locked(struct inode *i, const struct cred *cred, struct kattr *a)
{
	struct timespec now = vfs_now();
	int r;

	if (a->mask & ATTR_ATIME_NOW) {
		a->mask |= ATTR_ATIME;
		a->atime = now;
	}
	if (a->mask & ATTR_MTIME_NOW) {
		a->mask |= ATTR_MTIME;
		a->mtime = now;
	}
	r = setattr_check(i, cred, a);
	if (r < 0)
		return r;
	if (a->mask & (ATTR_UID | ATTR_GID) && !S_ISDIR(i->mode) && !(a->mask & ATTR_MODE) &&
	    i->mode & (S_ISUID | S_ISGID)) {
		a->mask |= ATTR_MODE;
		a->mode = mode_without_privs(i, true);
	}
	a->mask |= ATTR_CTIME;
	return i->ops->setattr ? i->ops->setattr(i, a) : -EPERM;
}

int vfs_setattr(const struct path *p, const struct cred *cred, const struct kattr *attr)
{
	struct inode *i = p->dentry->inode;
	struct kattr a = *attr;
	int r;

	if (mount_readonly(p->mnt))
		return -EROFS;
	if (a.mask & ATTR_SIZE) {
		if (S_ISDIR(i->mode))
			return -EISDIR;
		if (!S_ISREG(i->mode))
			return -EINVAL;
	}
	r = i->ops->refresh ? i->ops->refresh(i) : 0;
	if (r == 0 && a.mask & ATTR_SIZE) {
		r = inode_permission(i, cred, MAY_WRITE);
		if (r == 0)
			r = inode_get_write_access(i);
		if (r == 0) {
			r = vfs_truncate_inode(i, cred, a.size);
			inode_put_write_access(i);
		}
		a.mask &= ~(unsigned)ATTR_SIZE;
	}
	if (r < 0)
		return r;
	if (a.mask) {
		GUARD(mutex, &i->mu);
		r = setattr_locked(i, cred, &a);
	}
	if (r == 0 && notify_watch_total)
		vfs_notify(p->dentry, attr->mask & ATTR_SIZE ? IN_MODIFY : IN_ATTRIB);
	return r;
}

/* Truncates a regular file whose write access was checked; drops set-id bits. No locks held. */
int vfs_truncate_inode(struct inode *i, const struct cred *cred, uint64_t size)
{
	struct kattr a = { .mask = ATTR_SIZE | ATTR_MTIME | ATTR_CTIME, .size = size };

	if (size > INT64_MAX)
		return -EINVAL;
	if (!i->ops->setattr)
		return -EPERM;
	a.mtime = vfs_now();
	GUARD(mutex, &i->mu);
	if (i->mode & (S_ISUID | S_ISGID) && !inode_capable(i, cred, CAP_FSETID)) {
		a.mode = mode_without_privs(i, true);
		if (a.mode != (i->mode & 07777))
			a.mask |= ATTR_MODE;
	}
	return i->ops->setattr(i, &a);
}

/* Before a write: an unprivileged writer takes set-user-ID and set-group-ID away. No locks held. */
int file_remove_privs(struct file *f)
{
	struct inode *i = f->inode;
	struct kattr a = { .mask = ATTR_MODE | ATTR_CTIME };

	if (inode_capable(i, f->cred, CAP_FSETID) || !i->ops->setattr)
		return 0;
	GUARD(mutex, &i->mu);
	a.mode = mode_without_privs(i, true);
	return a.mode == (i->mode & 07777) ? 0 : i->ops->setattr(i, &a);
}

int64_t vfs_readlink(const struct path *p, const struct cred *cred, char *buf, size_t size)
{
	struct inode *i = p->dentry->inode;

	(void)cred;
	if (!i || !S_ISLNK(i->mode) || !i->ops->readlink)
		return -EINVAL;
	return i->ops->readlink(i, buf, size);
}

int vfs_statfs(const struct path *p, struct kstatfs *ret)
{
	struct superblock *sb = p->dentry->sb;
	int r = 0;

	*ret = (struct kstatfs){ .type = sb->magic, .bsize = 4096, .namelen = NAME_MAX_GUEST,
				 .fsid = (uint64_t)sb->dev };
	if (sb->ops->statfs)
		r = sb->ops->statfs(sb, ret);
	if (p->mnt)
		ret->flags |= p->mnt->flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME |
					       MS_NODIRATIME | MS_RELATIME);
	if (p->mnt && p->mnt->flags & MS_NOSYMFOLLOW)
		ret->flags |= STATFS_NOSYMFOLLOW;
	if (sb->readonly)
		ret->flags |= MS_RDONLY;
	return r;
}
