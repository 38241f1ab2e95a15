/* open(2) and its kin, close(2), dup(2), close_range(2). */
#include <linux/close_range.h>
#include <linux/openat2.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

#define GUEST_O_LARGEFILE 0100000
#define O_TMPFILE_BIT 020000000
#define OPEN_FLAGS                                                                                 \
	(O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC |     \
	 O_SYNC | O_ASYNC | O_DIRECT | GUEST_O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME |  \
	 O_CLOEXEC | O_PATH | O_TMPFILE_BIT)

/* Opens, waits for a fifo's other end, installs. */
static int64_t open_install(struct task *t, const struct walk *w, const char *text, unsigned walk_flags,
			    int flags, uint32_t mode)
{
	AUTO(file_put) struct file *f = NULL;
	int64_t r;

	if (!(flags & O_PATH))
		flags |= GUEST_O_LARGEFILE; /* as a 64-bit kernel does */
	r = vfs_open(w, text, walk_flags, flags, mode, &f);

	if (r < 0)
		return r;
	if (f->ops && f->ops->open_wait && !(flags & (O_NONBLOCK | O_PATH))) {
		r = file_block(t, f, UINT32_MAX, TIME_FOREVER, "open fifo", f->ops->open_wait(f));
		if (r < 0)
			return r;
	}
	return task_fd_install(t, f, flags & O_CLOEXEC);
}

static int64_t open_call(struct task *t, int dirfd, uaddr_t path, uint32_t flags, uint32_t mode)
{
	struct path_arg p;
	int64_t r;

	flags &= OPEN_FLAGS;
	/* open(2) ignores what it does not know; only creation looks at the mode. */
	mode = flags & (O_CREAT | O_TMPFILE_BIT) ? mode & 07777 : 0;
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	r = path_arg_init(&p, t, dirfd, path);
	if (r == 0)
		r = open_install(t, &p.walk, p.text, flags & O_NOFOLLOW ? 0 : WALK_FOLLOW, (int)flags, mode);
	path_arg_fini(&p);
	return r;
}

int64_t sys_open(struct task *t, uaddr_t path, uint32_t flags, uint32_t mode)
{
	return open_call(t, AT_FDCWD, path, flags, mode);
}

int64_t sys_openat(struct task *t, int32_t dirfd, uaddr_t path, uint32_t flags, uint32_t mode)
{
	return open_call(t, dirfd, path, flags, mode);
}

int64_t sys_creat(struct task *t, uaddr_t path, uint32_t mode)
{
	return open_call(t, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

/* The checks that openat2(2) makes and open(2) does not. */
static int check_how(const struct open_how *how)
{
	bool creates = how->flags & (O_CREAT | O_TMPFILE_BIT);

	if (how->flags & ~(uint64_t)OPEN_FLAGS)
		return -EINVAL;
	if (how->resolve & ~(uint64_t)(RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS |
				       RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED))
		return -EINVAL;
	if ((how->resolve & RESOLVE_BENEATH) && (how->resolve & RESOLVE_IN_ROOT))
		return -EINVAL;
	if (creates ? how->mode & ~07777ull : how->mode != 0)
		return -EINVAL;
	if ((how->flags & O_TMPFILE_BIT) && (!(how->flags & O_DIRECTORY) || (how->flags & O_ACCMODE) == O_RDONLY))
		return -EINVAL;
	if ((how->flags & O_PATH) &&
	    (how->flags & ~(uint64_t)(O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | GUEST_O_LARGEFILE)))
		return -EINVAL;
	/* Nothing tells a cached walk from another here: the caller tries again without. */
	return how->resolve & RESOLVE_CACHED ? -EAGAIN : 0;
}

static unsigned resolve_walk_flags(const struct open_how *how)
{
	return (how->flags & O_NOFOLLOW ? 0u : WALK_FOLLOW) |
	       (how->resolve & RESOLVE_BENEATH ? WALK_BENEATH : 0u) |
	       (how->resolve & RESOLVE_IN_ROOT ? WALK_IN_ROOT : 0u) |
	       (how->resolve & RESOLVE_NO_XDEV ? WALK_NO_XDEV : 0u) |
	       (how->resolve & RESOLVE_NO_SYMLINKS ? WALK_NO_SYMLINKS | WALK_NO_MAGICLINKS : 0u) |
	       (how->resolve & RESOLVE_NO_MAGICLINKS ? WALK_NO_MAGICLINKS : 0u);
}

int64_t sys_openat2(struct task *t, int32_t dirfd, uaddr_t path, uaddr_t how_addr, uint64_t size)
{
	struct open_how how = { 0 };
	struct path_arg p;
	uint8_t rest[64];
	int64_t r;

	if (size < sizeof(how))
		return -EINVAL;
	if (size > GUEST_PAGE_SIZE)
		return -E2BIG;
	if (copy_in_struct(task_umem(t), &how, how_addr) < 0)
		return -EFAULT;
	/* A younger structure is fine while the part we do not know is zero. */
	for (uint64_t at = sizeof(how); at < size; at += sizeof(rest)) {
		size_t n = MIN(sizeof(rest), (size_t)(size - at));

		if (copy_in(task_umem(t), rest, uaddr_add(how_addr, at), n) < 0)
			return -EFAULT;
		for (size_t i = 0; i < n; i++) {
			if (rest[i])
				return -E2BIG;
		}
	}
	r = check_how(&how);
	if (r < 0)
		return r;
	p.ready = false;
	r = task_copy_path(t, path, p.text);
	if (r < 0)
		return r;
	/* The directory counts for an absolute path, too, when the walk must stay below it. */
	r = task_walk(t, p.text[0] == '/' && !(how.resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT)) ? AT_FDCWD : dirfd,
		      &p.walk);
	if (r < 0)
		return r;
	r = open_install(t, &p.walk, p.text, resolve_walk_flags(&how), (int)how.flags, (uint32_t)how.mode);
	walk_put(&p.walk);
	return r;
}

int64_t sys_close(struct task *t, int32_t fd)
{
	return fdtable_close(t->fdt, fd);
}

int64_t sys_close_range(struct task *t, uint32_t first, uint32_t last, uint32_t flags)
{
	if ((flags & ~(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC)) || first > last)
		return -EINVAL;
	if ((flags & CLOSE_RANGE_UNSHARE) && fdtable_shared(t->fdt)) {
		struct fdtable *own = fdtable_dup(t->fdt), *old;

		if (!own)
			return -ENOMEM;
		mutex_lock(&t->mu);
		old = t->fdt;
		t->fdt = own;
		mutex_unlock(&t->mu);
		fdtable_put(old);
	}
	return fdtable_close_range(t->fdt, first, last, flags & CLOSE_RANGE_CLOEXEC);
}

int64_t sys_dup(struct task *t, int32_t fd)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);

	return f ? task_fd_install(t, f, false) : -EBADF;
}

static int64_t dup_to(struct task *t, int32_t oldfd, int32_t newfd, bool cloexec)
{
	AUTO(file_put) struct file *f = task_fd(t, oldfd);

	if (!f)
		return -EBADF;
	return fdtable_install_at(t->fdt, f, newfd, task_rlimit(t, 7 /* NOFILE */), cloexec);
}

int64_t sys_dup2(struct task *t, int32_t oldfd, int32_t newfd)
{
	if (oldfd == newfd) {
		AUTO(file_put) struct file *f = task_fd(t, oldfd);

		return f ? newfd : -EBADF;
	}
	return dup_to(t, oldfd, newfd, false);
}

int64_t sys_dup3(struct task *t, int32_t oldfd, int32_t newfd, uint32_t flags)
{
	if ((flags & ~(uint32_t)O_CLOEXEC) || oldfd == newfd)
		return -EINVAL;
	return dup_to(t, oldfd, newfd, flags & O_CLOEXEC);
}
