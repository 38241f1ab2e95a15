/* Extended attributes (xattr(7)): the rules of the name spaces, before the file system is asked. */
#include <linux/limits.h>
#include <sys/inotify.h>

#include "sentry/vfs/vfs_priv.h"

static bool has_prefix(const char *name, const char *prefix)
{
	return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* May cred read or (write) change attribute name of i? */
static int xattr_permission(struct inode *i, const struct cred *cred, const char *name, bool write)
{
	bool admin = cred_capable(cred, i->sb->user_ns, CAP_SYS_ADMIN);
	size_t len = strlen(name);

	if (len == 0 || len > XATTR_NAME_MAX)
		return -ERANGE;
	if (has_prefix(name, "trusted."))
		return admin ? 0 : write ? -EPERM : -ENODATA;
	if (has_prefix(name, "security.")) {
		if (!write || admin)
			return 0;
		return strcmp(name, "security.capability") == 0 && inode_capable(i, cred, CAP_SETFCAP) ?
			       0 : -EPERM;
	}
	if (has_prefix(name, "system."))
		return -EOPNOTSUPP;
	if (!has_prefix(name, "user."))
		return -EOPNOTSUPP;
	if (len == 5)
		return -EINVAL;
	if (!S_ISREG(i->mode) && !S_ISDIR(i->mode))
		return write ? -EPERM : -ENODATA;
	if (write && S_ISDIR(i->mode) && i->mode & S_ISVTX && !inode_owner_or_capable(i, cred))
		return -EPERM;
	return inode_permission(i, cred, write ? MAY_WRITE : MAY_READ);
}

int64_t vfs_getxattr(const struct path *p, const struct cred *cred, const char *name, void *buf, size_t size)
{
	struct inode *i = p->dentry->inode;
	int r = xattr_permission(i, cred, name, false);

	if (r < 0)
		return r;
	if (!i->ops->getxattr)
		return -EOPNOTSUPP;
	GUARD(mutex, &i->mu);
	return i->ops->getxattr(i, name, buf, size);
}

int vfs_setxattr(const struct path *p, const struct cred *cred, const char *name, const void *buf,
		 size_t size, int flags)
{
	struct inode *i = p->dentry->inode;
	int r;

	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	if (mount_readonly(p->mnt))
		return -EROFS;
	r = xattr_permission(i, cred, name, true);
	if (r < 0)
		return r;
	if (!i->ops->setxattr)
		return -EOPNOTSUPP;
	mutex_lock(&i->mu);
	r = i->ops->setxattr(i, name, buf, size, flags);
	if (r == 0)
		i->ctime = vfs_now();
	mutex_unlock(&i->mu);
	if (r == 0)
		vfs_notify(p->dentry, IN_ATTRIB);
	return r;
}

int64_t vfs_listxattr(const struct path *p, const struct cred *cred, char *buf, size_t size)
{
	struct inode *i = p->dentry->inode;

	(void)cred;
	if (!i->ops->listxattr)
		return 0;
	GUARD(mutex, &i->mu);
	return i->ops->listxattr(i, buf, size);
}

int vfs_removexattr(const struct path *p, const struct cred *cred, const char *name)
{
	struct inode *i = p->dentry->inode;
	int r;

	if (mount_readonly(p->mnt))
		return -EROFS;
	r = xattr_permission(i, cred, name, true);
	if (r < 0)
		return r;
	if (!i->ops->removexattr)
		return -EOPNOTSUPP;
	mutex_lock(&i->mu);
	r = i->ops->removexattr(i, name);
	if (r == 0)
		i->ctime = vfs_now();
	mutex_unlock(&i->mu);
	if (r == 0)
		vfs_notify(p->dentry, IN_ATTRIB);
	return r;
}
