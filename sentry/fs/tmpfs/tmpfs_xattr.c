/* Extended attributes of tmpfs inodes; the VFS has checked names and permissions. */
#include <errno.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "sentry/fs/tmpfs/tmpfs_priv.h"

#define XATTR_TOTAL_MAX (1u << 20) /* names and values of one inode */

static struct tmpfs_xattr *find(struct tmpfs_inode *t, const char *name)
{
	struct tmpfs_xattr *x;

	list_for_each(x, &t->xattrs, node) {
		if (strcmp(x->name, name) == 0)
			return x;
	}
	return NULL;
}

static void xattr_free(struct tmpfs_inode *t, struct tmpfs_xattr *x)
{
	t->xattr_size -= strlen(x->name) + x->size;
	list_del(&x->node);
	free(x->name);
	free(x->value);
	free(x);
}

/* Frees all; the inode goes. */
void tmpfs_xattr_fini(struct tmpfs_inode *t)
{
	struct tmpfs_xattr *x, *tmp;

	list_for_each_safe(x, tmp, &t->xattrs, node)
		xattr_free(t, x);
}

int64_t tmpfs_getxattr(struct inode *i, const char *name, void *buf, size_t size)
{
	struct tmpfs_xattr *x = find(tmpfs_of(i), name);

	if (!x)
		return -ENODATA;
	if (size && size < x->size)
		return -ERANGE;
	if (size && x->size)
		memcpy(buf, x->value, x->size);
	return (int64_t)x->size;
}

int tmpfs_setxattr(struct inode *i, const char *name, const void *buf, size_t size, int flags)
{
	struct tmpfs_inode *t = tmpfs_of(i);
	struct tmpfs_xattr *old = find(t, name), *x;

	if (old && flags & XATTR_CREATE)
		return -EEXIST;
	if (!old && flags & XATTR_REPLACE)
		return -ENODATA;
	if (t->xattr_size + strlen(name) + size > XATTR_TOTAL_MAX)
		return -ENOSPC;
	x = calloc(1, sizeof(*x));
	if (!x)
		return -ENOMEM;
	x->name = strdup(name);
	x->value = malloc(size ? size : 1);
	if (!x->name || !x->value) {
		free(x->name);
		free(x->value);
		free(x);
		return -ENOMEM;
	}
	if (size)
		memcpy(x->value, buf, size);
	x->size = size;
	if (old)
		xattr_free(t, old);
	t->xattr_size += strlen(name) + size;
	list_add_tail(&t->xattrs, &x->node);
	return 0;
}

int64_t tmpfs_listxattr(struct inode *i, char *buf, size_t size)
{
	struct tmpfs_inode *t = tmpfs_of(i);
	struct tmpfs_xattr *x;
	size_t total = 0;

	list_for_each(x, &t->xattrs, node) {
		size_t len = strlen(x->name) + 1;

		if (size && total + len > size)
			return -ERANGE;
		if (size)
			memcpy(buf + total, x->name, len);
		total += len;
	}
	return (int64_t)total;
}

int tmpfs_removexattr(struct inode *i, const char *name)
{
	struct tmpfs_inode *t = tmpfs_of(i);
	struct tmpfs_xattr *x = find(t, name);

	if (!x)
		return -ENODATA;
	xattr_free(t, x);
	return 0;
}
