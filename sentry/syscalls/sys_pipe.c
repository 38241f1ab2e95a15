/* pipe(2), pipe2(2), memfd_create(2). */
#include <fcntl.h>
#include <linux/memfd.h>

#include "sentry/core/umem.h"
#include "sentry/fs/memfd/memfd.h"
#include "sentry/fs/pipe/pipe.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/syscalls.h"

#define RLIMIT_NR_NOFILE 7
#define MEMFD_NAME_SIZE 250 /* with NUL */

static int64_t pipe_call(struct task *t, uaddr_t fildes, uint32_t flags)
{
	AUTO(file_put) struct file *rd = NULL;
	AUTO(file_put) struct file *wr = NULL;
	uint64_t limit = task_rlimit(t, RLIMIT_NR_NOFILE);
	bool cloexec = flags & O_CLOEXEC;
	int32_t fd[2];
	int r;

	if (flags & ~(uint32_t)(O_CLOEXEC | O_NONBLOCK | O_DIRECT))
		return -EINVAL;
	r = pipe_new((int)flags & (O_NONBLOCK | O_DIRECT), t->cred, &rd, &wr);
	if (r < 0)
		return r;
	fd[0] = fdtable_reserve(t->fdt, 0, limit, cloexec);
	if (fd[0] < 0)
		return fd[0];
	fd[1] = fdtable_reserve(t->fdt, 0, limit, cloexec);
	r = fd[1] < 0 ? fd[1] : copy_out(task_umem(t), fildes, fd, sizeof(fd));
	if (r < 0) {
		fdtable_cancel(t->fdt, fd[0]);
		if (fd[1] >= 0)
			fdtable_cancel(t->fdt, fd[1]);
		return r;
	}
	fdtable_commit(t->fdt, fd[0], rd);
	fdtable_commit(t->fdt, fd[1], wr);
	return 0;
}

int64_t sys_pipe(struct task *t, uaddr_t fildes)
{
	return pipe_call(t, fildes, 0);
}

int64_t sys_pipe2(struct task *t, uaddr_t fildes, uint32_t flags)
{
	return pipe_call(t, fildes, flags);
}

int64_t sys_memfd_create(struct task *t, uaddr_t uname, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	char name[MEMFD_NAME_SIZE];
	int64_t r = copy_in_str(task_umem(t), name, uname, sizeof(name));

	if (r < 0)
		return r == -ENAMETOOLONG ? -EINVAL : r;
	r = memfd_new(name, flags, t->cred, &f);
	if (r < 0)
		return r;
	return task_fd_install(t, f, flags & MFD_CLOEXEC);
}
