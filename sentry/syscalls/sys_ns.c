/* Namespaces: unshare(2), setns(2); pidfds; other processes' descriptors; kcmp(2). */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/uio.h>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/nsfs.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/syscalls.h"

/* unshare(2) */
int64_t sys_unshare(struct task *t, arg_ulong_t unshare_flags)
{
	return task_unshare(t, unshare_flags);
}

static struct task *leader_of(struct thread_group *tg)
{
	GUARD(mutex, &taskset_mu);
	return tg->leader && !tg->zombie ? task_get(tg->leader) : NULL;
}

static int setns_one(struct task *t, struct file *f)
{
	enum ns_kind kind;
	void *ns;

	if (!ns_file_kind(f, &kind, &ns))
		return -EINVAL;
	return task_setns(t, kind, ns, ns_file_owner(f));
}

/* All namespaces of the process that flags names; the user namespace first. */
static int setns_process(struct task *t, struct task *target, uint32_t flags)
{
	static const enum ns_kind order[] = { NS_USER, NS_UTS, NS_IPC, NS_NET, NS_PID, NS_CGROUP, NS_MNT };

	for (size_t i = 0; i < ARRAY_COUNT(order); i++) {
		AUTO(file_put) struct file *f = NULL;
		int err;

		if (!(flags & ns_kind_flag(order[i])))
			continue;
		err = ns_file_new(target, order[i], &f);
		if (err == 0)
			err = setns_one(t, f);
		if (err < 0)
			return err;
	}
	return 0;
}

/* setns(2) */
int64_t sys_setns(struct task *t, arg_fd_t fd, arg_flags_t flags)
{
	AUTO(file_put) struct file *f = task_fd(t, fd);
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	AUTO(task_put) struct task *target = NULL;
	enum ns_kind kind;
	void *ns;

	if (!f)
		return -EBADF;
	if (ns_file_kind(f, &kind, &ns)) {
		if (flags && flags != ns_kind_flag(kind))
			return -EINVAL;
		return setns_one(t, f);
	}
	tg = pidfd_thread_group(f);
	if (!tg || !flags)
		return -EINVAL;
	target = leader_of(tg);
	if (!target)
		return -ESRCH;
	if (!task_may_access(t, target, false))
		return -EPERM;
	return setns_process(t, target, flags);
}

/* pidfd_open(2) */
int64_t sys_pidfd_open(struct task *t, arg_pid_t pid, arg_flags_t flags)
{
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	AUTO(file_put) struct file *f = NULL;
	int err;

	if ((flags & ~(uint32_t)O_NONBLOCK) || pid <= 0)
		return -EINVAL;
	tg = thread_group_find(task_pid_ns(t), pid);
	if (!tg) {
		AUTO(task_put) struct task *thread = task_find(task_pid_ns(t), pid);

		return thread ? -EINVAL : -ESRCH;
	}
	err = pidfd_file_new(tg, t->cred, (int)flags, &f);
	return err < 0 ? err : task_fd_install(t, f, true);
}

/* pidfd_getfd(2) */
int64_t sys_pidfd_getfd(struct task *t, arg_fd_t pidfd, arg_fd_t fd, arg_flags_t flags)
{
	AUTO(file_put) struct file *f = NULL, *got = NULL;
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	AUTO(task_put) struct task *target = NULL;
	struct fdtable *table;

	if (flags)
		return -EINVAL;
	f = task_fd(t, pidfd);
	tg = f ? pidfd_thread_group(f) : NULL;
	if (!tg)
		return -EBADF;
	target = leader_of(tg);
	if (!target)
		return -ESRCH;
	if (!task_may_access(t, target, true))
		return -EPERM;
	table = task_get_fdtable(target);
	if (!table)
		return -ESRCH;
	got = fdtable_get(table, fd);
	fdtable_put(table);
	return got ? task_fd_install(t, got, true) : -EBADF;
}


enum { KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM, KCMP_TYPES };

static int64_t order(const void *a, const void *b)
{
	return a == b ? 0 : (uintptr_t)a < (uintptr_t)b ? 1 : 2;
}

static int64_t kcmp_file(struct task *a, struct task *b, uint64_t fd1, uint64_t fd2)
{
	struct fdtable *ta = task_get_fdtable(a), *tb = task_get_fdtable(b);
	AUTO(file_put) struct file *fa = ta ? fdtable_get(ta, (int)fd1) : NULL;
	AUTO(file_put) struct file *fb = tb ? fdtable_get(tb, (int)fd2) : NULL;

	if (ta)
		fdtable_put(ta);
	if (tb)
		fdtable_put(tb);
	return fa && fb ? order(fa, fb) : -EBADF;
}

/* kcmp(2) */
int64_t sys_kcmp(struct task *t, arg_pid_t pid1, arg_pid_t pid2, arg_int_t type, arg_ulong_t idx1,
		arg_ulong_t idx2)
{
	AUTO(task_put) struct task *a = task_find(task_pid_ns(t), pid1);
	AUTO(task_put) struct task *b = task_find(task_pid_ns(t), pid2);

	if (!a || !b)
		return -ESRCH;
	if (!task_may_access(t, a, false) || !task_may_access(t, b, false))
		return -EPERM;
	switch (type) {
	case KCMP_FILE:
		return kcmp_file(a, b, idx1, idx2);
	case KCMP_VM:
		return order(a->mm, b->mm);
	case KCMP_FILES:
		return order(a->fdt, b->fdt);
	case KCMP_FS:
		return order(a->fs, b->fs);
	case KCMP_SIGHAND:
		return order(a->tg->handlers, b->tg->handlers);
	case KCMP_IO:
		return a->io_id == b->io_id ? 0 : a->io_id < b->io_id ? 1 : 2;
	case KCMP_SYSVSEM:
		return a->undo_id == b->undo_id ? 0 : a->undo_id < b->undo_id ? 1 : 2;
	default:
		return -EINVAL;
	}
}
