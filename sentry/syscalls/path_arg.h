/* Path arguments of system calls: the string from the guest and the walk that resolves it. */
#ifndef SENTRY_SYSCALLS_PATH_ARG_H
#define SENTRY_SYSCALLS_PATH_ARG_H

#include <fcntl.h>

#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

struct path_arg {
	char text[PATH_MAX_GUEST];
	struct walk walk;
	bool ready; /* walk holds references */
};

/* Copies the path and sets the walk up; dirfd does not matter to an absolute path. 0 or -errno; always
 * followed by path_arg_fini. */
NODISCARD static inline int path_arg_init(struct path_arg *p, struct task *t, int dirfd, uaddr_t addr)
{
	int r;

	p->ready = false;
	r = task_copy_path(t, addr, p->text);
	if (r < 0)
		return r;
	r = task_walk(t, p->text[0] == '/' ? AT_FDCWD : dirfd, &p->walk);
	p->ready = r == 0;
	return r < 0 ? r : 0;
}

static inline void path_arg_fini(struct path_arg *p)
{
	if (p->ready)
		walk_put(&p->walk);
}

/* Resolves a path argument to a place; AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW of at_flags count. */
NODISCARD static inline int path_arg_resolve(struct task *t, int dirfd, uaddr_t addr, unsigned at_flags,
					     struct path *ret)
{
	struct path_arg p;
	int r = path_arg_init(&p, t, dirfd, addr);

	if (r == 0)
		r = vfs_walk(&p.walk, p.text,
			     (at_flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
				     (at_flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
			     ret);
	path_arg_fini(&p);
	return r;
}

#endif
