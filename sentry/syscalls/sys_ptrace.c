/* ptrace(2): the tracer's requests. */
#include <elf.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <stdlib.h>
#include <string.h>
#include <sys/user.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/syscalls.h"

#define FPU_MAX 16384
#define FXSAVE_SIZE 512
#define FPU_SOFTWARE 464 /* 48 bytes of the image for the kernel's use */
#define PTRACE_O_KNOWN (0xffu | PTRACE_O_EXITKILL)

static int64_t traceme(struct task *t)
{
	struct task *tracer;

	GUARD(mutex, &taskset_mu);
	if (!t->tg->parent)
		return -EPERM;
	tracer = t->tg->parent_task ? t->tg->parent_task : t->tg->parent->leader;
	if (!tracer || tracer->exited)
		return -EPERM;
	return ptrace_link_locked(t, tracer, false, 0);
}

static int64_t attach(struct task *t, struct task *target, bool seize, uint64_t options)
{
	struct guest_siginfo stop = { .signo = SIGSTOP, .code = GUEST_SI_USER };
	int err;

	if (seize && (options & ~(uint64_t)PTRACE_O_KNOWN))
		return -EIO;
	if (target->tg == t->tg || !task_may_access(t, target, true))
		return -EPERM;
	GUARD(mutex, &taskset_mu);
	if (target->exited || target->killed)
		return -ESRCH;
	err = ptrace_link_locked(target, t, seize, (uint32_t)options);
	if (err < 0)
		return err;
	if (target->stopped)
		task_interrupt(target);
	else if (!seize)
		(void)signal_send_task_locked(target, &stop);
	return 0;
}

/* Work on the FPU state by the tracee's own thread. taskset_mu, dropped meanwhile. */
static int64_t job_locked(struct task *t, struct task *target, enum ptrace_job job, void *buf, size_t size)
{
	struct ptrace_state *ps = target->ptrace;

	ps->job_buf = buf;
	ps->job_size = size;
	ps->job = job;
	task_wake(target);
	while (ps->job) {
		int err;

		mutex_unlock(&taskset_mu);
		err = task_block_killable(t, TIME_FOREVER, "ptrace");
		mutex_lock(&taskset_mu);
		if (err < 0 && ps->job) {
			ps->job = JOB_NONE;
			return -ESRCH;
		}
	}
	return ps->job_result;
}

/* whole: a write of less than all of the state is refused. */
static int64_t fpu_io(struct task *t, struct task *target, bool write, bool whole, uaddr_t addr,
		uint64_t size, uint64_t *ret_size)
{
	uint8_t *buf = malloc(FPU_MAX);
	int64_t have, r;

	if (!buf)
		return -ENOMEM;
	mutex_lock(&taskset_mu);
	have = job_locked(t, target, JOB_FPU_GET, buf, FPU_MAX);
	mutex_unlock(&taskset_mu);
	r = have < 0 ? have : 0;
	if (r == 0) {
		uint64_t features = arch_fpu_features();

		have = MIN(have, (int64_t)arch_fpu_size());
		memcpy(buf + FPU_SOFTWARE, &features, sizeof(features)); /* for debuggers, as Linux does */
		*ret_size = MIN(size, (uint64_t)have);
	}
	if (r == 0 && write && whole && *ret_size < (uint64_t)have)
		r = -EFAULT;
	if (r == 0) {
		r = write ? copy_in(task_umem(t), buf, addr, *ret_size) : copy_out(task_umem(t),
			addr, buf, *ret_size);
	}
	if (r == 0 && write) {
		arch_fpu_sanitise(buf, (size_t)have, *ret_size);
		mutex_lock(&taskset_mu);
		r = job_locked(t, target, JOB_FPU_SET, buf, (size_t)have);
		mutex_unlock(&taskset_mu);
		r = r < 0 ? -EIO : 0;
	}
	free(buf);
	return r;
}

static int64_t set_regs(struct task *target, const struct guest_regs *in)
{
	struct guest_regs regs = *in;
	uint64_t max = kernel_platform->ops->max_addr;

	if (regs.fs_base >= max || regs.gs_base >= max)
		return -EIO;
	arch_regs_sanitise(&regs);
	target->ctx->regs = regs;
	platform_regs_dirty(target->ctx);
	return 0;
}

/* GETREGSET and SETREGSET. */
static int64_t regset(struct task *t, struct task *target, uint64_t type, uint64_t uiov, bool write)
{
	struct guest_regs regs = target->ctx->regs;
	struct {
		uint64_t base, size;
	} iov;
	int64_t r;

	if (copy_in_struct(task_umem(t), &iov, UADDR(uiov)) < 0)
		return -EFAULT;
	switch (type) {
	case NT_PRSTATUS:
		iov.size = MIN(iov.size, sizeof(regs));
		r = write ? copy_in(task_umem(t), &regs, UADDR(iov.base), iov.size) :
			    copy_out(task_umem(t), UADDR(iov.base), &regs, iov.size);
		if (r == 0 && write)
			r = set_regs(target, &regs);
		break;
	case NT_X86_XSTATE:
		if (iov.size % 8)
			return -EINVAL;
		__attribute__((fallthrough));
	case NT_FPREGSET:
		r = fpu_io(t, target, write, type == NT_X86_XSTATE, UADDR(iov.base),
			   type == NT_FPREGSET ? MIN(iov.size, (uint64_t)FXSAVE_SIZE) : iov.size,
				&iov.size);
		break;
	default:
		return -EINVAL;
	}
	if (r < 0)
		return r;
	return copy_out_struct(task_umem(t), uaddr_add(UADDR(uiov), 8), &iov.size);
}

/* One word of struct user: the registers, else zero. */
static int64_t peek_user(struct task *t, struct task *target, uint64_t offset, uint64_t to)
{
	uint64_t v = 0;

	if ((offset & 7) || offset >= sizeof(struct user))
		return -EIO;
	if (offset < sizeof(struct guest_regs))
		memcpy(&v, (const char *)&target->ctx->regs + offset, sizeof(v));
	return copy_out_struct(task_umem(t), UADDR(to), &v);
}

static int64_t poke_user(struct task *target, uint64_t offset, uint64_t v)
{
	struct guest_regs regs = target->ctx->regs;

	if ((offset & 7) || offset >= sizeof(struct user))
		return -EIO;
	if (offset >= sizeof(regs))
		return v ? -EIO : 0;
	memcpy((char *)&regs + offset, &v, sizeof(v));
	return set_regs(target, &regs);
}

/* Writes one word even where the program itself may not write: breakpoints in its text. */
static int64_t poke_data(struct task *target, uint64_t addr, uint64_t v)
{
	struct mm *mm = task_get_mm(target);
	int64_t r;

	if (!mm)
		return -ESRCH;
	r = mm_write_forced(mm, addr, &v, sizeof(v)) == sizeof(v) ? 0 : -EIO;
	mm_put(mm);
	return r;
}

static int64_t peek_data(struct task *t, struct task *target, uint64_t addr, uint64_t to)
{
	struct mm *mm = task_get_mm(target);
	uint64_t v;
	int r;

	if (!mm)
		return -ESRCH;
	r = copy_in_struct(mm_umem(mm), &v, UADDR(addr));
	mm_put(mm);
	return r < 0 ? -EIO : copy_out_struct(task_umem(t), UADDR(to), &v);
}

/* struct ptrace_syscall_info of linux/ptrace.h. */
static int64_t syscall_info(struct task *t, struct task *target, uint64_t size, uint64_t to)
{
	const struct guest_regs *r = &target->ctx->regs;
	const struct ptrace_state *ps = target->ptrace;
	struct ptrace_syscall_info info = { .arch = AUDIT_ARCH_X86_64, .instruction_pointer = r->rip, .stack_pointer = r->rsp };
	const uint64_t args[6] = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 };
	uint64_t have = offsetof(struct ptrace_syscall_info, entry);

	switch (ps->stop) {
	case STOP_ENTRY:
		info.op = PTRACE_SYSCALL_INFO_ENTRY;
		info.entry.nr = r->orig_rax;
		memcpy(info.entry.args, args, sizeof(args));
		have = sizeof(info.entry) + offsetof(struct ptrace_syscall_info, entry);
		break;
	case STOP_SECCOMP:
		info.op = PTRACE_SYSCALL_INFO_SECCOMP;
		info.seccomp.nr = r->orig_rax;
		memcpy(info.seccomp.args, args, sizeof(args));
		info.seccomp.ret_data = (uint32_t)ps->message;
		have = sizeof(info.seccomp) + offsetof(struct ptrace_syscall_info, entry);
		break;
	case STOP_EXIT:
		info.op = PTRACE_SYSCALL_INFO_EXIT;
		info.exit.rval = (int64_t)r->rax;
		info.exit.is_error = (int64_t)r->rax < 0 && (int64_t)r->rax >= -4095;
		have = offsetof(struct ptrace_syscall_info, exit.is_error) + 1;
		break;
	default:
		break;
	}
	if (copy_out(task_umem(t), UADDR(to), &info, MIN(size, have)) < 0)
		return -EFAULT;
	return (int64_t)have;
}

static int64_t resume(struct task *target, enum ptrace_resume how, uint64_t signo)
{
	if (signo > GUEST_NSIG)
		return -EIO;
	GUARD(mutex, &taskset_mu);
	ptrace_resume_locked(target, how, (int32_t)signo);
	return 0;
}

static int64_t detach(struct task *target, uint64_t signo)
{
	if (signo > GUEST_NSIG)
		return -EIO;
	GUARD(mutex, &taskset_mu);
	target->ptrace->inject = (int32_t)signo;
	target->ptrace->resume = RESUME_CONT;
	ptrace_unlink_locked(target);
	return 0;
}

static int64_t siginfo_io(struct task *t, struct task *target, uint64_t data, bool write)
{
	struct ptrace_state *ps = target->ptrace;
	struct guest_siginfo info = ps->info;

	if (!ps->has_info)
		return -EINVAL;
	if (!write)
		return copy_out_struct(task_umem(t), UADDR(data), &info);
	if (copy_in_struct(task_umem(t), &info, UADDR(data)) < 0)
		return -EFAULT;
	GUARD(mutex, &taskset_mu);
	ps->info = info;
	return 0;
}

static int64_t sigmask_io(struct task *t, struct task *target, uint64_t size, uint64_t data, bool write)
{
	sigset_kernel set = target->blocked;

	if (size != sizeof(set))
		return -EINVAL;
	if (!write)
		return copy_out_struct(task_umem(t), UADDR(data), &set);
	if (copy_in_struct(task_umem(t), &set, UADDR(data)) < 0)
		return -EFAULT;
	GUARD(mutex, &taskset_mu);
	target->blocked = set & ~SIGMASK_UNBLOCKABLE;
	target->interrupt = true;
	return 0;
}

static int64_t set_options(struct task *target, uint64_t options)
{
	if (options & ~(uint64_t)PTRACE_O_KNOWN)
		return -EINVAL;
	GUARD(mutex, &taskset_mu);
	target->ptrace->options = (uint32_t)options;
	return 0;
}

/* Requests on a stopped tracee. */
static int64_t request_stopped(struct task *t, struct task *target, int64_t request,
		uint64_t addr, uint64_t data)
{
	struct guest_regs regs;
	uint64_t size;

	switch (request) {
	case PTRACE_PEEKTEXT:
	case PTRACE_PEEKDATA:
		return peek_data(t, target, addr, data);
	case PTRACE_POKETEXT:
	case PTRACE_POKEDATA:
		return poke_data(target, addr, data);
	case PTRACE_PEEKUSR:
		return peek_user(t, target, addr, data);
	case PTRACE_POKEUSR:
		return poke_user(target, addr, data);
	case PTRACE_GETREGS:
		return copy_out_struct(task_umem(t), UADDR(data), &target->ctx->regs);
	case PTRACE_SETREGS:
		if (copy_in_struct(task_umem(t), &regs, UADDR(data)) < 0)
			return -EFAULT;
		return set_regs(target, &regs);
	case PTRACE_GETFPREGS:
		return fpu_io(t, target, false, false, UADDR(data), FXSAVE_SIZE, &size);
	case PTRACE_SETFPREGS:
		return fpu_io(t, target, true, false, UADDR(data), FXSAVE_SIZE, &size);
	case PTRACE_GETREGSET:
		return regset(t, target, addr, data, false);
	case PTRACE_SETREGSET:
		return regset(t, target, addr, data, true);
	case PTRACE_CONT:
		return resume(target, RESUME_CONT, data);
	case PTRACE_SYSCALL:
		return resume(target, RESUME_SYSCALL, data);
	case PTRACE_SINGLESTEP:
		return resume(target, RESUME_STEP, data);
	case PTRACE_LISTEN:
		return target->ptrace->seized &&
			target->ptrace->stop == STOP_GROUP ? resume(target, RESUME_LISTEN, 0) : -EIO;
	case PTRACE_DETACH:
		return detach(target, data);
	case PTRACE_SETOPTIONS:
		return set_options(target, data);
	case PTRACE_GETEVENTMSG:
		return copy_out_struct(task_umem(t), UADDR(data), &target->ptrace->message);
	case PTRACE_GETSIGINFO:
		return siginfo_io(t, target, data, false);
	case PTRACE_SETSIGINFO:
		return siginfo_io(t, target, data, true);
	case PTRACE_GETSIGMASK:
		return sigmask_io(t, target, addr, data, false);
	case PTRACE_SETSIGMASK:
		return sigmask_io(t, target, addr, data, true);
	case PTRACE_GET_SYSCALL_INFO:
		return syscall_info(t, target, addr, data);
	default:
		return -EIO;
	}
}

static int64_t interrupt(struct task *target)
{
	GUARD(mutex, &taskset_mu);
	if (!target->ptrace->seized)
		return -EIO;
	target->ptrace->interrupt = true;
	task_interrupt(target);
	if (target->ptrace->listening)
		task_wake(target);
	return 0;
}

/* ptrace(2) */
int64_t sys_ptrace(struct task *t, arg_slong_t request, arg_slong_t pid, arg_ulong_t addr, arg_ulong_t data)
{
	AUTO(task_put) struct task *target = NULL;
	struct guest_siginfo kill = siginfo_kernel(SIGKILL);
	bool mine, stopped;

	if (request == PTRACE_TRACEME)
		return traceme(t);
	target = task_find(task_pid_ns(t), (int32_t)pid);
	if (!target)
		return -ESRCH;
	if (request == PTRACE_ATTACH || request == PTRACE_SEIZE)
		return request == PTRACE_SEIZE && addr ? -EIO : attach(t, target,
			request == PTRACE_SEIZE, request == PTRACE_SEIZE ? data : 0);
	mutex_lock(&taskset_mu);
	mine = target->tracer == t;
	stopped = mine && target->ptrace->stopped && !target->ptrace->listening && target->ctx;
	mutex_unlock(&taskset_mu);
	if (!mine)
		return -ESRCH;
	if (request == PTRACE_KILL)
		return signal_send_task(target, &kill);
	if (request == PTRACE_INTERRUPT)
		return interrupt(target);
	return stopped ? request_stopped(t, target, request, addr, data) : -ESRCH;
}
