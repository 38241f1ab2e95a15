/* Extended attributes (xattr(7)). */
#include <linux/limits.h>
#include <linux/xattr.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"

/* The place a call names: by path (follow or not) or by descriptor. */
struct target {
	bool by_fd;
	int fd;
	uaddr_t path;
	unsigned at_flags;
};

static int target_resolve(struct task *t, const struct target *at, struct path *ret)
{
	AUTO(file_put) struct file *f = NULL;

	if (!at->by_fd)
		return path_arg_resolve(t, AT_FDCWD, at->path, at->at_flags, ret);
	f = task_fd_io(t, at->fd);
	if (!f)
		return -EBADF;
	*ret = *file_path(f);
	path_get(ret);
	return 0;
}

#define BY_PATH(p) (struct target){ .path = (p) }
#define BY_LINK(p) (struct target){ .path = (p), .at_flags = AT_SYMLINK_NOFOLLOW }
#define BY_FD(n) (struct target){ .by_fd = true, .fd = (n) }

static int copy_name(struct task *t, uaddr_t addr, char name[XATTR_NAME_MAX + 1])
{
	int64_t n = copy_in_str(task_umem(t), name, addr, XATTR_NAME_MAX + 1);

	if (n == -ENAMETOOLONG || n == 0)
		return -ERANGE;
	return n < 0 ? (int)n : 0;
}

static int64_t get_call(struct task *t, struct target at, uaddr_t name_addr, uaddr_t value, uint64_t size)
{
	char name[XATTR_NAME_MAX + 1];
	struct path p;
	void *buf;
	int64_t r;

	r = copy_name(t, name_addr, name);
	if (r < 0)
		return r;
	r = target_resolve(t, &at, &p);
	if (r < 0)
		return r;
	size = MIN(size, (uint64_t)XATTR_SIZE_MAX);
	buf = malloc(size + 1);
	r = buf ? vfs_getxattr(&p, t->cred, name, buf, size) : -ENOMEM;
	path_put(&p);
	if (r > 0 && size > 0 && copy_out(task_umem(t), value, buf, (size_t)r) < 0)
		r = -EFAULT;
	free(buf);
	return r;
}

static int64_t set_call(struct task *t, struct target at, uaddr_t name_addr, uaddr_t value, uint64_t size,
			int32_t flags)
{
	char name[XATTR_NAME_MAX + 1];
	struct path p;
	void *buf;
	int64_t r;

	if (flags & ~(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	r = copy_name(t, name_addr, name);
	if (r < 0)
		return r;
	if (size > XATTR_SIZE_MAX)
		return -E2BIG;
	buf = malloc(size + 1);
	if (!buf)
		return -ENOMEM;
	r = copy_in(task_umem(t), buf, value, size);
	if (r == 0)
		r = target_resolve(t, &at, &p);
	if (r == 0) {
		r = vfs_setxattr(&p, t->cred, name, buf, size, flags);
		path_put(&p);
	}
	free(buf);
	return r;
}

static int64_t list_call(struct task *t, struct target at, uaddr_t list, uint64_t size)
{
	struct path p;
	char *buf;
	int64_t r = target_resolve(t, &at, &p);

	if (r < 0)
		return r;
	size = MIN(size, (uint64_t)XATTR_LIST_MAX);
	buf = malloc(size + 1);
	r = buf ? vfs_listxattr(&p, t->cred, buf, size) : -ENOMEM;
	path_put(&p);
	if (r > 0 && size > 0 && copy_out(task_umem(t), list, buf, (size_t)r) < 0)
		r = -EFAULT;
	free(buf);
	return r;
}

static int64_t remove_call(struct task *t, struct target at, uaddr_t name_addr)
{
	char name[XATTR_NAME_MAX + 1];
	struct path p;
	int64_t r = copy_name(t, name_addr, name);

	if (r < 0)
		return r;
	r = target_resolve(t, &at, &p);
	if (r < 0)
		return r;
	r = vfs_removexattr(&p, t->cred, name);
	path_put(&p);
	return r;
}

int64_t sys_getxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size)
{
	return get_call(t, BY_PATH(path), name, value, size);
}

int64_t sys_setxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size, int32_t flags)
{
	return set_call(t, BY_PATH(path), name, value, size, flags);
}

int64_t sys_listxattr(struct task *t, uaddr_t path, uaddr_t list, uint64_t size)
{
	return list_call(t, BY_PATH(path), list, size);
}

int64_t sys_removexattr(struct task *t, uaddr_t path, uaddr_t name)
{
	return remove_call(t, BY_PATH(path), name);
}

int64_t sys_lgetxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size)
{
	return get_call(t, BY_LINK(path), name, value, size);
}

int64_t sys_lsetxattr(struct task *t, uaddr_t path, uaddr_t name, uaddr_t value, uint64_t size, int32_t flags)
{
	return set_call(t, BY_LINK(path), name, value, size, flags);
}

int64_t sys_llistxattr(struct task *t, uaddr_t path, uaddr_t list, uint64_t size)
{
	return list_call(t, BY_LINK(path), list, size);
}

int64_t sys_lremovexattr(struct task *t, uaddr_t path, uaddr_t name)
{
	return remove_call(t, BY_LINK(path), name);
}

int64_t sys_fgetxattr(struct task *t, int32_t fd, uaddr_t name, uaddr_t value, uint64_t size)
{
	return get_call(t, BY_FD(fd), name, value, size);
}

int64_t sys_fsetxattr(struct task *t, int32_t fd, uaddr_t name, uaddr_t value, uint64_t size, int32_t flags)
{
	return set_call(t, BY_FD(fd), name, value, size, flags);
}

int64_t sys_flistxattr(struct task *t, int32_t fd, uaddr_t list, uint64_t size)
{
	return list_call(t, BY_FD(fd), list, size);
}

int64_t sys_fremovexattr(struct task *t, int32_t fd, uaddr_t name)
{
	return remove_call(t, BY_FD(fd), name);
}
