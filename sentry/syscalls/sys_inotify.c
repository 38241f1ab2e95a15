/* inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2). */
#include <fcntl.h>
#include <sys/inotify.h>

#include "sentry/fs/inotify/inotify.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"

#define ACCESS_READ 4u /* MAY_READ */

static int64_t init_call(struct task *t, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	int r;

	if (flags & ~(uint32_t)(IN_CLOEXEC | IN_NONBLOCK))
		return -EINVAL;
	r = inotify_new((int)flags & O_NONBLOCK, t->cred, &f);
	return r < 0 ? r : task_fd_install(t, f, flags & IN_CLOEXEC);
}

int64_t sys_inotify_init(struct task *t)
{
	return init_call(t, 0);
}

int64_t sys_inotify_init1(struct task *t, uint32_t flags)
{
	return init_call(t, flags);
}

int64_t sys_inotify_add_watch(struct task *t, int32_t fd, uaddr_t pathname, uint32_t mask)
{
	AUTO(file_put) struct file *f = NULL;
	struct path_arg p;
	struct path at;
	int r;

	if (!(mask & IN_ALL_EVENTS) || (mask & IN_MASK_ADD && mask & IN_MASK_CREATE))
		return -EINVAL;
	f = task_fd_io(t, fd);
	if (!f)
		return -EBADF;
	r = path_arg_init(&p, t, AT_FDCWD, pathname);
	if (r == 0)
		r = vfs_walk(&p.walk, p.text,
			     (mask & IN_DONT_FOLLOW ? 0 : WALK_FOLLOW) | (mask & IN_ONLYDIR ? WALK_DIRECTORY : 0), &at);
	path_arg_fini(&p);
	if (r < 0)
		return r;
	r = path_permission(&at, t->cred, ACCESS_READ);
	if (r == 0)
		r = inotify_add(f, at.dentry->inode, mask);
	path_put(&at);
	return r;
}

int64_t sys_inotify_rm_watch(struct task *t, int32_t fd, int32_t wd)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);

	return f ? inotify_remove(f, wd) : -EBADF;
}
