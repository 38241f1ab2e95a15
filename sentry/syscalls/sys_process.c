/* Processes: birth, programs, end and wait; their ids and groups. */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "sentry/kernel/block.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/kernel/process.h"
#include "sentry/syscalls/process_priv.h"
#include "sentry/syscalls/syscalls.h"

#define CLONE_PIDFD_ 0x1000ull
#define CLONE_CLEAR_SIGHAND_ 0x100000000ull
#define CLONE_INTO_CGROUP_ 0x200000000ull
#define CSIGNAL_ 0xffull

/* fork(2) */
int64_t sys_fork(struct task *t)
{
	struct clone_args_kernel a = { .exit_signal = SIGCHLD };

	return task_clone(t, &a);
}

/* vfork(2) */
int64_t sys_vfork(struct task *t)
{
	struct clone_args_kernel a = { .flags = CLONE_VFORK | CLONE_VM, .exit_signal = SIGCHLD };

	return task_clone(t, &a);
}

/* clone(2) */
int64_t sys_clone(struct task *t, arg_ulong_t flags, arg_ulong_t sp, arg_uaddr_t parent_tid,
		  arg_uaddr_t child_tid, arg_ulong_t tls)
{
	struct clone_args_kernel a = {
		.flags = flags & 0xffffffffull & ~CSIGNAL_,
		.exit_signal = (int32_t)(flags & CSIGNAL_),
		.parent_tid = parent_tid.v,
		.pidfd = parent_tid.v,
		.child_tid = child_tid.v,
		.stack = sp,
		.has_stack = sp != 0,
		.tls = tls,
	};

	if ((flags & CLONE_PIDFD_) && (flags & CLONE_PARENT_SETTID))
		return -EINVAL;
	return task_clone(t, &a);
}

/* struct clone_args of linux/sched.h. */
struct guest_clone_args {
	uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};
#define CLONE_ARGS_SIZE_VER0 64

/* Copies a versioned struct: bytes that we do not know must be zero. 0, -EINVAL, -E2BIG, -EFAULT. */
int copy_struct_in(struct task *t, void *dst, size_t size, uaddr_t src, uint64_t user_size)
{
	uint8_t rest[256];

	memset(dst, 0, size);
	if (copy_in(task_umem(t), dst, src, MIN(size, user_size)) < 0)
		return -EFAULT;
	for (uint64_t at = size; at < user_size; at += sizeof(rest)) {
		size_t n = MIN(sizeof(rest), user_size - at);

		if (copy_in(task_umem(t), rest, uaddr_add(src, at), n) < 0)
			return -EFAULT;
		for (size_t i = 0; i < n; i++)
			if (rest[i])
				return -E2BIG;
	}
	return 0;
}

static int read_set_tid(struct task *t, const struct guest_clone_args *g, struct clone_args_kernel *a)
{
	if (g->set_tid_size > PID_NS_LEVELS_MAX || !g->set_tid != !g->set_tid_size)
		return -EINVAL;
	a->set_tid_count = (unsigned)g->set_tid_size;
	if (copy_in(task_umem(t), a->set_tid, UADDR(g->set_tid), g->set_tid_size * sizeof(int32_t)) < 0)
		return -EFAULT;
	for (unsigned i = 0; i < a->set_tid_count; i++)
		if (a->set_tid[i] < 1)
			return -EINVAL;
	if (a->set_tid_count && !task_capable(t, 40) && !task_capable(t, 21))
		return -EPERM;
	return 0;
}

/* clone3(2) */
int64_t sys_clone3(struct task *t, arg_uaddr_t uargs, arg_size_t size)
{
	struct guest_clone_args g;
	struct clone_args_kernel a = { 0 };
	int err;

	if (size > GUEST_PAGE_SIZE)
		return -E2BIG;
	if (size < CLONE_ARGS_SIZE_VER0)
		return -EINVAL;
	err = copy_struct_in(t, &g, sizeof(g), uargs, size);
	if (err < 0)
		return err;
	if ((g.flags & CSIGNAL_) || (g.flags & CLONE_DETACHED) ||
	    (g.flags & ~(0xffffffffull | CLONE_CLEAR_SIGHAND_ | CLONE_INTO_CGROUP_)))
		return -EINVAL;
	if (g.exit_signal > GUEST_NSIG || ((g.flags & (CLONE_THREAD | CLONE_PARENT)) && g.exit_signal))
		return -EINVAL;
	if (!g.stack != !g.stack_size)
		return -EINVAL;
	if (g.flags & CLONE_INTO_CGROUP_)
		return -EBADF;
	a.flags = g.flags;
	a.exit_signal = (int32_t)g.exit_signal;
	a.pidfd = g.pidfd;
	a.child_tid = g.child_tid;
	a.parent_tid = g.parent_tid;
	a.stack = g.stack + g.stack_size;
	a.has_stack = g.stack != 0;
	a.tls = g.tls;
	err = read_set_tid(t, &g, &a);
	return err < 0 ? err : task_clone(t, &a);
}

#define ARG_STRING_MAX (128u << 10)

/* One argv or envp array with its strings into s. */
static int copy_strings(struct task *t, uint64_t addr, bool env, struct loader_strings *s, uint64_t limit)
{
	char small[2048] __attribute__((uninitialized)), *big = NULL;
	int err = 0;

	for (; addr; addr += 8) {
		const char *text = small;
		uint64_t p;
		int64_t n;

		err = copy_in_struct(task_umem(t), &p, UADDR(addr));
		if (err < 0 || !p)
			break;
		n = copy_in_str(task_umem(t), small, UADDR(p), sizeof(small));
		if (n == -ENAMETOOLONG) {
			if (!big)
				big = malloc(ARG_STRING_MAX);
			n = big ? copy_in_str(task_umem(t), big, UADDR(p), ARG_STRING_MAX) : -ENOMEM;
			text = big;
		}
		err = n == -ENAMETOOLONG ? -E2BIG : n < 0 ? (int)n : 0;
		if (err == 0)
			err = loader_strings_add(s, text, (size_t)n, env, limit);
		if (err < 0)
			break;
	}
	free(big);
	return err;
}

/* Opens the program; name becomes what the kernel calls it. */
static int exec_open(struct task *t, int dfd, const char *path, uint32_t flags,
		char name[PATH_MAX_GUEST], struct file **ret)
{
	struct walk w;
	struct path p;
	unsigned wf = (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0);
	int err = task_walk(t, path[0] == '/' ? AT_FDCWD : dfd, &w);

	if (err < 0)
		return err;
	if (!path[0] && !(flags & AT_EMPTY_PATH))
		err = -ENOENT;
	else
		err = vfs_walk(&w, path, wf, &p);
	if (err == 0) {
		struct kstat st;

		err = vfs_getattr(&p, &st);
		if (err == 0 && S_ISLNK(st.mode))
			err = -ELOOP;
		if (err == 0 && !S_ISREG(st.mode))
			err = -EACCES;
		if (err == 0)
			err = vfs_open_path(&p, t->cred, O_RDONLY | VFS_O_EXEC, ret);
		path_put(&p);
	}
	walk_put(&w);
	if (dfd == AT_FDCWD || path[0] == '/')
		snprintf(name, PATH_MAX_GUEST, "%s", path);
	else if (!path[0])
		snprintf(name, PATH_MAX_GUEST, "/dev/fd/%d", dfd);
	else
		snprintf(name, PATH_MAX_GUEST, "/dev/fd/%d/%.4000s", dfd, path);
	return err;
}

static int64_t do_exec(struct task *t, int dfd, uaddr_t upath, uint64_t argv, uint64_t envp, uint32_t flags)
{
	char path[PATH_MAX_GUEST] __attribute__((uninitialized));
	char name[PATH_MAX_GUEST] __attribute__((uninitialized));
	AUTO(file_put) struct file *f = NULL;
	struct loader_strings strings = { 0 };
	struct exec_args a = { .filename = name, .strings = &strings };
	uint64_t limit = loader_strings_limit(task_rlimit(t, RLIMIT_STACK));
	int err = task_copy_path(t, upath, path);

	if (err == 0)
		err = exec_open(t, dfd, path, flags, name, &f);
	if (err == 0)
		err = copy_strings(t, argv, false, &strings, limit);
	if (err == 0 && !strings.argc)
		err = loader_strings_add(&strings, "", 0, false, limit);
	if (err == 0)
		err = copy_strings(t, envp, true, &strings, limit);
	if (err == 0) {
		a.file = f;
		a.fd_closes = !path[0] && dfd >= 0 && fdtable_cloexec(t->fdt, dfd);
		err = task_exec(t, &a);
	}
	loader_strings_fini(&strings);
	return err < 0 ? err : -EJUSTRETURN;
}

/* execve(2) */
int64_t sys_execve(struct task *t, arg_path_t path, arg_uaddr_t argv, arg_uaddr_t envp)
{
	return do_exec(t, AT_FDCWD, path, argv.v, envp.v, 0);
}

/* execveat(2) */
int64_t sys_execveat(struct task *t, arg_fd_t fd, arg_path_t filename, arg_uaddr_t argv,
		arg_uaddr_t envp, arg_flags_t flags)
{
	if (flags & ~(uint32_t)(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW))
		return -EINVAL;
	return do_exec(t, fd, filename, argv.v, envp.v, flags);
}

/* _exit(2): of the thread */
int64_t sys_exit(struct task *t, arg_int_t error_code)
{
	task_exit_self(t, ((uint32_t)error_code & 0xff) << 8);
	return 0;
}

/* exit_group(2) */
int64_t sys_exit_group(struct task *t, arg_int_t error_code)
{
	thread_group_exit_self(t, ((uint32_t)error_code & 0xff) << 8);
	return 0;
}

void rusage_fill(struct rusage *r, const struct cpu_usage *u)
{
	*r = (struct rusage){
		.ru_utime = { u->user_ns / NSEC_PER_SEC, u->user_ns % NSEC_PER_SEC / 1000 },
		.ru_stime = { u->system_ns / NSEC_PER_SEC, u->system_ns % NSEC_PER_SEC / 1000 },
		.ru_maxrss = (long)u->maxrss_kib,
		.ru_minflt = (long)u->minflt,
		.ru_majflt = (long)u->majflt,
		.ru_nvcsw = (long)u->nvcsw,
		.ru_nivcsw = (long)u->nivcsw,
	};
}

static int copy_rusage(struct task *t, uaddr_t to, const struct cpu_usage *u)
{
	struct rusage r;

	if (!to.v)
		return 0;
	rusage_fill(&r, u);
	return copy_out_struct(task_umem(t), to, &r);
}

/* wait4(2) */
int64_t sys_wait4(struct task *t, arg_pid_t upid, arg_uaddr_t stat_addr, arg_int_t options, arg_uaddr_t ru)
{
	AUTO(process_group_put) struct process_group *pg = NULL;
	struct wait_args a = { .options = (uint32_t)options | WEXITED };
	struct wait_result r;
	int err;

	if ((uint32_t)options & ~(uint32_t)(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL))
		return -EINVAL;
	if (upid == INT32_MIN)
		return -ESRCH;
	if (upid > 0) {
		a.kind = WAIT_ID_PID;
		a.id = upid;
	} else if (upid < -1 || upid == 0) {
		a.kind = WAIT_ID_PGID;
		pg = upid ? process_group_find(task_pid_ns(t), -upid) : process_group_of(t->tg);
		a.pg = pg;
	}
	err = task_wait(t, &a, &r);
	if (err < 0)
		return err;
	if (!r.pid)
		return 0;
	if (stat_addr.v && copy_out_struct(task_umem(t), stat_addr, &r.status) < 0)
		return -EFAULT;
	return copy_rusage(t, ru, &r.usage) < 0 ? -EFAULT : r.pid;
}

/* waitid(2) */
int64_t sys_waitid(struct task *t, arg_int_t which, arg_pid_t upid, arg_uaddr_t infop,
		arg_int_t options, arg_uaddr_t ru)
{
	AUTO(process_group_put) struct process_group *pg = NULL;
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	AUTO(file_put) struct file *f = NULL;
	struct wait_args a = { .options = (uint32_t)options };
	struct guest_siginfo info = { 0 };
	struct wait_result r;
	int err;

	if ((uint32_t)options & ~(uint32_t)(WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED |
					    __WNOTHREAD | __WCLONE | __WALL))
		return -EINVAL;
	if (!(options & (WEXITED | WSTOPPED | WCONTINUED)))
		return -EINVAL;
	switch (which) {
	case P_ALL:
		break;
	case P_PID:
		if (upid <= 0)
			return -EINVAL;
		a.kind = WAIT_ID_PID;
		a.id = upid;
		break;
	case P_PGID:
		if (upid < 0)
			return -EINVAL;
		a.kind = WAIT_ID_PGID;
		pg = upid ? process_group_find(task_pid_ns(t), upid) : process_group_of(t->tg);
		a.pg = pg;
		break;
	case P_PIDFD:
		if (upid < 0)
			return -EINVAL;
		f = task_fd(t, upid);
		tg = f ? pidfd_thread_group(f) : NULL;
		if (!tg)
			return -EBADF;
		if (file_flags(f) & O_NONBLOCK)
			a.options |= WNOHANG;
		a.kind = WAIT_ID_GROUP;
		a.tg = tg;
		break;
	default:
		return -EINVAL;
	}
	err = task_wait(t, &a, &r);
	if (err < 0)
		return err;
	if (!r.pid && f && (file_flags(f) & O_NONBLOCK) && !(options & WNOHANG))
		return -EAGAIN;
	if (r.pid) {
		info = (struct guest_siginfo){ .signo = SIGCHLD, .code = r.code };
		info.chld.pid = r.pid;
		info.chld.uid = r.uid;
		info.chld.status = r.value;
		if (copy_rusage(t, ru, &r.usage) < 0)
			return -EFAULT;
	}
	if (infop.v && copy_out(task_umem(t), infop, &info, 48) < 0)
		return -EFAULT;
	return 0;
}

int64_t sys_getpid(struct task *t)
{
	return thread_group_pid_in(t->tg, task_pid_ns(t));
}

int64_t sys_gettid(struct task *t)
{
	return task_tid_in(t, task_pid_ns(t));
}

int64_t sys_getppid(struct task *t)
{
	return thread_group_ppid_in(t->tg, task_pid_ns(t));
}

int64_t sys_set_tid_address(struct task *t, arg_uaddr_t tidptr)
{
	t->clear_child_tid = tidptr;
	return task_tid_in(t, task_pid_ns(t));
}

int64_t sys_getpgid(struct task *t, arg_pid_t pid)
{
	AUTO(task_put) struct task *other = NULL;

	if (!pid)
		return thread_group_pgid_in(t->tg, task_pid_ns(t));
	other = task_find(task_pid_ns(t), pid);
	return other ? thread_group_pgid_in(other->tg, task_pid_ns(t)) : -ESRCH;
}

int64_t sys_getpgrp(struct task *t)
{
	return thread_group_pgid_in(t->tg, task_pid_ns(t));
}

int64_t sys_getsid(struct task *t, arg_pid_t pid)
{
	AUTO(task_put) struct task *other = NULL;

	if (!pid)
		return thread_group_sid_in(t->tg, task_pid_ns(t));
	other = task_find(task_pid_ns(t), pid);
	return other ? thread_group_sid_in(other->tg, task_pid_ns(t)) : -ESRCH;
}

/* setpgid(2) */
int64_t sys_setpgid(struct task *t, arg_pid_t pid, arg_pid_t pgid)
{
	if (pgid < 0)
		return -EINVAL;
	return thread_group_setpgid(t, pid, pgid);
}

/* setsid(2) */
int64_t sys_setsid(struct task *t)
{
	return thread_group_setsid(t);
}
