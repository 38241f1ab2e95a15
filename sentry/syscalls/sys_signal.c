/* Signals: actions, masks, sending, waiting, the alternate stack (signal(7)). */
#include <signal.h>
#include <string.h>

#include "sentry/arch/sigframe.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/syscalls/syscalls.h"

#define SIGSET_SIZE 8
#define SS_AUTODISARM_ (1u << 31)
#define MINSIGSTKSZ_ 2048
#define FPU_MAX 16384
/* Flags that rt_sigaction remembers; SA_UNSUPPORTED (0x400) is cleared so that programs can probe. */
#define SA_KNOWN 0xdc000c07ull

static bool signo_valid(int signo)
{
	return signo >= 1 && signo <= GUEST_NSIG;
}

/* rt_sigaction(2) */
int64_t sys_rt_sigaction(struct task *t, arg_int_t sig, arg_uaddr_t act, arg_uaddr_t oact,
		arg_size_t sigsetsize)
{
	struct guest_sigaction in = { 0 }, old;

	if (sigsetsize != SIGSET_SIZE)
		return -EINVAL;
	if (act.v && copy_in_struct(task_umem(t), &in, act) < 0)
		return -EFAULT;
	if (!signo_valid(sig) || (act.v && (SIGMASK(sig) & SIGMASK_UNBLOCKABLE)))
		return -EINVAL;
	in.flags &= SA_KNOWN;
	in.mask &= ~SIGMASK_UNBLOCKABLE;
	signal_action(t, sig, act.v ? &in : NULL, &old);
	if (oact.v && copy_out_struct(task_umem(t), oact, &old) < 0)
		return -EFAULT;
	return 0;
}

/* rt_sigprocmask(2) */
int64_t sys_rt_sigprocmask(struct task *t, arg_int_t how, arg_uaddr_t nset, arg_uaddr_t oset,
		arg_size_t sigsetsize)
{
	sigset_kernel old = t->blocked, set;

	if (sigsetsize != SIGSET_SIZE)
		return -EINVAL;
	if (nset.v) {
		if (copy_in_struct(task_umem(t), &set, nset) < 0)
			return -EFAULT;
		switch (how) {
		case SIG_BLOCK:
			set |= old;
			break;
		case SIG_UNBLOCK:
			set = old & ~set;
			break;
		case SIG_SETMASK:
			break;
		default:
			return -EINVAL;
		}
		signal_set_mask(t, set);
	}
	if (oset.v && copy_out_struct(task_umem(t), oset, &old) < 0)
		return -EFAULT;
	return 0;
}

/* restart_syscall(2): goes on with what a stop interrupted */
int64_t sys_restart_syscall(struct task *t)
{
	int64_t (*fn)(struct task *) = t->restart.fn;

	t->restart.fn = NULL;
	return fn ? fn(t) : -EINTR;
}

/* sigpending(2) */
int64_t sys_rt_sigpending(struct task *t, arg_uaddr_t uset, arg_size_t sigsetsize)
{
	sigset_kernel set = signal_pending_set(t) & t->blocked;

	if (sigsetsize > SIGSET_SIZE)
		return -EINVAL;
	return copy_out(task_umem(t), uset, &set, sigsetsize);
}

/* sigsuspend(2) */
int64_t sys_rt_sigsuspend(struct task *t, arg_uaddr_t unewset, arg_size_t sigsetsize)
{
	sigset_kernel set;

	if (sigsetsize != SIGSET_SIZE)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &set, unewset) < 0)
		return -EFAULT;
	signal_mask_replace(t, set);
	while (task_block(t, TIME_FOREVER, "sigsuspend") == 0)
		;
	return -ERESTARTNOHAND;
}

/* pause(2) */
int64_t sys_pause(struct task *t)
{
	while (task_block(t, TIME_FOREVER, "pause") == 0)
		;
	return -ERESTARTNOHAND;
}

/* sigtimedwait(2) */
int64_t sys_rt_sigtimedwait(struct task *t, arg_uaddr_t uthese, arg_uaddr_t uinfo,
		arg_uaddr_t uts, arg_size_t sigsetsize)
{
	sigset_kernel set;
	struct guest_siginfo info;
	struct timespec ts;
	int64_t deadline = TIME_FOREVER;
	int signo, err = 0;

	if (sigsetsize != SIGSET_SIZE)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &set, uthese) < 0)
		return -EFAULT;
	if (uts.v) {
		int64_t ns;

		if (copy_in_struct(task_umem(t), &ts, uts) < 0)
			return -EFAULT;
		if (!timespec_to_ns(&ts, &ns))
			return -EINVAL;
		deadline = ns ? time_add(clock_mono(), ns) : 0;
	}
	signo = signal_dequeue(t, set, &info);
	if (!signo && deadline) {
		signal_wait_begin(t, set);
		do {
			signo = signal_dequeue(t, set, &info);
			if (signo)
				break;
			err = task_block(t, deadline, "sigtimedwait");
		} while (err == 0);
		if (!signo)
			signo = signal_dequeue(t, set, &info);
		signal_wait_end(t);
	}
	if (!signo)
		return err == -ERESTARTSYS ? -EINTR : -EAGAIN;
	if (uinfo.v && copy_out_struct(task_umem(t), uinfo, &info) < 0)
		return -EFAULT;
	return signo;
}

/* rt_sigreturn(2) */
int64_t sys_rt_sigreturn(struct task *t)
{
	uint8_t fpu[FPU_MAX] __attribute__((aligned(64), uninitialized));
	struct arch_sigreturn r = { .fpu = fpu, .fpu_max = sizeof(fpu) };
	struct guest_regs *regs = platform_regs(t->ctx);
	const struct platform_ops *ops = t->ctx->ops;
	struct guest_siginfo segv = siginfo_kernel(SIGSEGV);

	if (!regs || arch_signal_return(task_umem(t), regs, &r) < 0)
		goto bad;
	if (!r.fpu_size)
		r.fpu_size = arch_fpu_initial(fpu, sizeof(fpu));
	if (ops->fpu_set(t->ctx, fpu, r.fpu_size) < 0)
		goto bad;
	*regs = r.regs;
	platform_regs_dirty(t->ctx);
	if (!(r.altstack.flags & ~(int32_t)(SS_DISABLE | SS_ONSTACK | (int32_t)SS_AUTODISARM_))) {
		t->altstack.sp = r.altstack.sp;
		t->altstack.size = r.altstack.size;
		t->altstack.flags = r.altstack.flags & ~SS_ONSTACK;
	}
	signal_set_mask(t, r.mask);
	return -EJUSTRETURN;
bad:
	signal_force(t, &segv);
	return 0;
}

struct guest_stack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};

/* sigaltstack(2) */
int64_t sys_sigaltstack(struct task *t, arg_uaddr_t uss, arg_uaddr_t uoss)
{
	struct arch_altstack cur = { t->altstack.sp, t->altstack.size, t->altstack.flags };
	struct guest_stack in, old = { .sp = cur.sp, .size = cur.size, .flags = cur.flags };
	bool on = cur.size && arch_on_altstack(&cur, t->ctx->syscall.sp);

	if (on)
		old.flags |= SS_ONSTACK;
	if (uss.v) {
		int32_t mode;

		if (copy_in_struct(task_umem(t), &in, uss) < 0)
			return -EFAULT;
		if (on)
			return -EPERM;
		mode = in.flags & ~(int32_t)SS_AUTODISARM_;
		if (mode != SS_DISABLE && mode != SS_ONSTACK && mode != 0)
			return -EINVAL;
		if (mode == SS_DISABLE) {
			in.sp = in.size = 0;
		} else {
			if (in.size < MINSIGSTKSZ_)
				return -ENOMEM;
			in.flags &= ~SS_ONSTACK;
		}
		t->altstack.sp = in.sp;
		t->altstack.size = in.size;
		t->altstack.flags = in.flags;
	}
	if (uoss.v && copy_out_struct(task_umem(t), uoss, &old) < 0)
		return -EFAULT;
	return 0;
}

/* Sends to one process with the permission check of kill(2). */
static int kill_one(struct task *t, struct thread_group *tg, const struct guest_siginfo *info, int sig)
{
	if (!signal_permitted(t, tg, sig))
		return -EPERM;
	return sig ? signal_send_group(tg, info) : 0;
}

/* kill(2) of many: a process group, or everything but ourselves and init. */
static int kill_many(struct task *t, struct process_group *pg, const struct guest_siginfo *info, int sig)
{
	struct pid_ns *ns = task_pid_ns(t);
	int32_t pid = 0;
	int sent = 0, err = -ESRCH;
	struct thread_group *tg;

	while ((tg = thread_group_next(ns, pid + 1, &pid)) != NULL) {
		bool match = pg ? thread_group_in(tg, pg) : tg != t->tg && pid > 1;

		if (match) {
			int r = kill_one(t, tg, info, sig);

			sent += r == 0;
			if (r < 0)
				err = r;
		}
		thread_group_put(tg);
	}
	return sent ? 0 : err;
}

/* kill(2) */
int64_t sys_kill(struct task *t, arg_pid_t pid, arg_int_t sig)
{
	struct guest_siginfo info = siginfo_user(t, sig, GUEST_SI_USER);

	if (sig < 0 || sig > GUEST_NSIG)
		return -EINVAL;
	if (pid > 0) {
		AUTO(thread_group_put) struct thread_group *tg = NULL;
		AUTO(task_put) struct task *other = task_find(task_pid_ns(t), pid);

		if (!other)
			return -ESRCH;
		tg = thread_group_get(other->tg);
		return kill_one(t, tg, &info, sig);
	}
	if (pid == INT32_MIN)
		return -ESRCH;
	if (pid == -1)
		return kill_many(t, NULL, &info, sig);
	AUTO(process_group_put) struct process_group *pg =
		pid ? process_group_find(task_pid_ns(t), -pid) : process_group_of(t->tg);
	return pg ? kill_many(t, pg, &info, sig) : -ESRCH;
}

static int64_t send_thread(struct task *t, int32_t tgid, int32_t tid, int sig,
		const struct guest_siginfo *info)
{
	AUTO(task_put) struct task *other = NULL;

	if (tid <= 0 || sig < 0 || sig > GUEST_NSIG)
		return -EINVAL;
	other = task_find(task_pid_ns(t), tid);
	if (!other || (tgid && thread_group_pid_in(other->tg, task_pid_ns(t)) != tgid))
		return -ESRCH;
	if (!signal_permitted(t, other->tg, sig))
		return -EPERM;
	return sig ? signal_send_task(other, info) : 0;
}

/* tgkill(2) */
int64_t sys_tgkill(struct task *t, arg_pid_t tgid, arg_pid_t pid, arg_int_t sig)
{
	struct guest_siginfo info = siginfo_user(t, sig, GUEST_SI_TKILL);

	return tgid <= 0 ? -EINVAL : send_thread(t, tgid, pid, sig, &info);
}

/* tkill(2) */
int64_t sys_tkill(struct task *t, arg_pid_t pid, arg_int_t sig)
{
	struct guest_siginfo info = siginfo_user(t, sig, GUEST_SI_TKILL);

	return send_thread(t, 0, pid, sig, &info);
}

/* The siginfo of sigqueue(3): only to ourselves may it look like the kernel's. */
static int read_info(struct task *t, uaddr_t uinfo, int sig, bool self, struct guest_siginfo *ret)
{
	if (copy_in_struct(task_umem(t), ret, uinfo) < 0)
		return -EFAULT;
	if (!self && (ret->code >= 0 || ret->code == GUEST_SI_TKILL))
		return -EPERM;
	ret->signo = sig;
	return 0;
}

/* rt_sigqueueinfo(2) */
int64_t sys_rt_sigqueueinfo(struct task *t, arg_pid_t pid, arg_int_t sig, arg_uaddr_t uinfo)
{
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	AUTO(task_put) struct task *other = NULL;
	struct guest_siginfo info;
	int err = read_info(t, uinfo, sig, pid == sys_getpid(t), &info);

	if (err < 0)
		return err;
	if (sig < 0 || sig > GUEST_NSIG)
		return -EINVAL;
	other = task_find(task_pid_ns(t), pid);
	if (!other)
		return -ESRCH;
	tg = thread_group_get(other->tg);
	return kill_one(t, tg, &info, sig);
}

/* rt_tgsigqueueinfo(2) */
int64_t sys_rt_tgsigqueueinfo(struct task *t, arg_pid_t tgid, arg_pid_t pid, arg_int_t sig,
		arg_uaddr_t uinfo)
{
	struct guest_siginfo info;
	int err;

	if (tgid <= 0 || pid <= 0)
		return -EINVAL;
	err = read_info(t, uinfo, sig, tgid == sys_getpid(t), &info);
	return err < 0 ? err : send_thread(t, tgid, pid, sig, &info);
}

/* pidfd_send_signal(2) */
int64_t sys_pidfd_send_signal(struct task *t, arg_fd_t pidfd, arg_int_t sig, arg_uaddr_t uinfo,
		arg_flags_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	struct guest_siginfo info = siginfo_user(t, sig, GUEST_SI_USER);

	if (flags)
		return -EINVAL;
	f = task_fd(t, pidfd);
	tg = f ? pidfd_thread_group(f) : NULL;
	if (!tg && f)
		tg = proc_dir_thread_group(f);
	if (!tg)
		return -EBADF;
	if (uinfo.v) {
		if (copy_in_struct(task_umem(t), &info, uinfo) < 0)
			return -EFAULT;
		if (info.signo != sig)
			return -EINVAL;
		if (tg != t->tg && (info.code >= 0 || info.code == GUEST_SI_TKILL))
			return -EPERM;
	}
	if (sig < 0 || sig > GUEST_NSIG)
		return -EINVAL;
	if (thread_group_dead(tg))
		return -ESRCH;
	return kill_one(t, tg, &info, sig);
}
