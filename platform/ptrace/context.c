/* Contexts: one guest thread's stub, switched into by its task thread. */
#include <elf.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/fpu.h"
#include "platform/ptrace/ptrace_priv.h"

#define PTRACE_SYSEMU_NR 31
#define PTRACE_SYSEMU_STEP_NR 32
#define VSYSCALL_PAGE 0xffffffffff600000ull
enum {
	KICK_SIGNAL = SIGURG,
	INSN_SIZE_MAX = 15,
	SEGV_NOT_MAPPED = 1, /* SEGV_MAPERR */
	SEGV_NO_ACCESS = 2,  /* SEGV_ACCERR */
	SYS_BY_SECCOMP = 1,
	TRAP_SYSCALL = SIGTRAP | 0x80,
	/* Values that make the host restart a system call when a signal stop follows. */
	RESTART_FIRST = -516,
	RESTART_LAST = -512,
};

/* The stop was none of the guest's business. */
static const enum switch_why SWITCH_AGAIN = (enum switch_why)-1;

/* A new context of the calling thread: no stub yet, registers zero, FPU initial. 0 or -ENOMEM. */
int pt_context_new(struct platform *platform, struct pcontext **ret_ctx)
{
	struct pt_context *ctx = calloc(1, sizeof(*ctx));

	if (!ctx)
		return -ENOMEM;
	ctx->platform = pt_platform(platform);
	ctx->pub.ops = ctx->platform->pub.ops;
	ctx->pub.regs_valid = ctx->pub.regs_dirty = true;
	list_init(&ctx->link);
	cpu_pair_start(&ctx->pair);
	*ret_ctx = &ctx->pub;
	return 0;
}

/* Ends the stub and frees the context. On the thread that made it; NULL is fine. */
void pt_context_free(struct pcontext *pub)
{
	struct pt_context *ctx;

	if (!pub)
		return;
	ctx = pt_context(pub);
	pt_aspace_detach(ctx);
	free(ctx->fpu);
	free(ctx);
}

/* Makes a stub that runs guest code, or is about to, stop soon. Any thread. */
void pt_context_kick(struct pt_context *ctx)
{
	pid_t pid = atomic_load(&ctx->pid);

	if (pid && atomic_load(&ctx->in_guest))
		syscall(SYS_tkill, pid, KICK_SIGNAL);
}

/* platform_ops.context_interrupt */
void pt_context_interrupt(struct pcontext *pub)
{
	atomic_store(&pub->interrupted, 1);
	pt_context_kick(pt_context(pub));
}

/* platform_ops.regs_load: registers of the stopped stub, with a result not yet written merged in. */
int pt_regs_load(struct pcontext *pub)
{
	struct pt_context *ctx = pt_context(pub);

	if (!atomic_load_explicit(&ctx->pid, memory_order_relaxed) || stub_regs_read(ctx, &pub->regs) < 0)
		return -ESRCH;
	pub->regs_valid = true;
	pub->regs_dirty = false;
	if (ctx->result_pending) {
		pub->regs.rax = (uint64_t)ctx->result;
		pub->regs_dirty = true;
		ctx->result_pending = false;
	}
	return 0;
}

/* platform_ops.set_result: kept here until the stub runs again. */
int pt_set_result(struct pcontext *pub, int64_t value)
{
	struct pt_context *ctx = pt_context(pub);

	if (pub->regs_valid) {
		pub->regs.rax = (uint64_t)value;
		pub->regs_dirty = true;
		return 0;
	}
	ctx->result = value;
	ctx->result_pending = true;
	return 0;
}

/* platform_ops.fpu_get */
int64_t pt_fpu_get(struct pcontext *pub, void *buf, size_t size)
{
	struct pt_context *ctx = pt_context(pub);
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	struct iovec iov = { buf, size };
	long r;

	if (ctx->fpu_given) {
		if (ctx->fpu_size > size)
			return -ENOSPC;
		memcpy(buf, ctx->fpu, ctx->fpu_size);
		return (int64_t)ctx->fpu_size;
	}
	if (!pid) {
		size_t n = host_fpu_initial(buf, size);

		return n ? (int64_t)n : -ENOSPC;
	}
	r = stub_ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, (uint64_t)(uintptr_t)&iov);
	return r < 0 ? r : (int64_t)iov.iov_len;
}

/* platform_ops.fpu_set: -EINVAL when the image is not one the host accepts. */
int pt_fpu_set(struct pcontext *pub, const void *buf, size_t size)
{
	struct pt_context *ctx = pt_context(pub);
	void *copy;

	if (atomic_load_explicit(&ctx->pid, memory_order_relaxed))
		return stub_fpu_write(ctx, buf, size);
	copy = realloc(ctx->fpu, size);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, buf, size);
	ctx->fpu = copy;
	ctx->fpu_size = size;
	ctx->fpu_given = true;
	return 0;
}

/* platform_ops.set_step */
void pt_set_step(struct pcontext *pub, bool on)
{
	pt_context(pub)->step = on;
}

/* Gives ctx a stub in as; the one it had elsewhere ends. 0 or -errno. */
static int move_to(struct pt_context *ctx, struct pt_aspace *as)
{
	char initial[1024];
	size_t n;
	int spare = 1, err;

	if (!ctx->pub.regs_valid && pt_regs_load(&ctx->pub) < 0)
		return -ESRCH;
	ctx->pub.regs_dirty = true;
	if (!pt_aspace_inherit(as, ctx)) {
		pt_aspace_detach(ctx);
		spare = pt_aspace_attach(as, ctx);
		if (spare < 0)
			return spare;
	}
	if (ctx->fpu_given) {
		err = stub_fpu_write(ctx, ctx->fpu, ctx->fpu_size);
		free(ctx->fpu);
		ctx->fpu = NULL;
		ctx->fpu_given = false;
		if (err == 0)
			return 0;
		log_debug("ptrace: host refused an FPU state: %d", err);
	}
	if (!spare)
		return 0;
	n = host_fpu_initial(initial, sizeof(initial));
	return stub_fpu_write(ctx, initial, n);
}

/* Writes what changed into the stub and lets it run. 0 or -ESRCH. */
static int resume(struct pt_context *ctx)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	struct pcontext *pub = &ctx->pub;

	if (pub->regs_dirty) {
		if (stub_regs_write(ctx, &pub->regs) < 0)
			return -ESRCH;
	} else if (ctx->result_pending) {
		if (ctx->result >= RESTART_FIRST && ctx->result <= RESTART_LAST)
			stub_ptrace(PTRACE_POKEUSR, pid, offsetof(struct guest_regs, orig_rax), UINT64_MAX);
		if (stub_ptrace(PTRACE_POKEUSR, pid, offsetof(struct guest_regs, rax),
				(uint64_t)ctx->result) < 0)
			return -ESRCH;
	}
	ctx->result_pending = false;
	pub->regs_valid = pub->regs_dirty = false;
	return stub_ptrace(ctx->step ? PTRACE_SYSEMU_STEP_NR : PTRACE_SYSEMU_NR, pid, 0, 0) < 0 ? -ESRCH : 0;
}

static enum switch_why stop_syscall(struct pt_context *ctx)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	struct platform_syscall *sc = &ctx->pub.syscall;
	struct ptrace_syscall_info info;

	if (stub_ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(info), (uint64_t)(uintptr_t)&info) < 0)
		return SWITCH_DEAD;
	sc->nr = (int64_t)info.entry.nr;
	memcpy(sc->arg, info.entry.args, sizeof(sc->arg));
	sc->ip = info.instruction_pointer;
	sc->sp = info.stack_pointer;
	sc->audit_arch = info.arch;
	sc->vsyscall = false;
	return SWITCH_SYSCALL;
}

/* A call into the vsyscall page, whose return is done already: registers are those behind it. */
static enum switch_why vsyscall_report(struct pt_context *ctx, int64_t nr)
{
	struct guest_regs *r = platform_regs(&ctx->pub);

	if (!r)
		return SWITCH_DEAD;
	ctx->pub.syscall = (struct platform_syscall){ .nr = nr,
						      .arg = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 },
						      .ip = r->rip,
						      .sp = r->rsp,
						      .audit_arch = AUDIT_ARCH_X86_64,
						      .vsyscall = true };
	return SWITCH_SYSCALL;
}

/* A host without a vsyscall page faults at its entries: does what its code would have done. */
static enum switch_why vsyscall_emulate(struct pt_context *ctx)
{
	static const int64_t nr[] = { SYS_gettimeofday, SYS_time, SYS_getcpu };
	struct guest_regs *r = &ctx->pub.regs;
	uint64_t entry = (r->rip - VSYSCALL_PAGE) / 1024, ret;
	struct iovec local = { &ret, sizeof(ret) };
	long got;

	if (r->rip % 1024 != 0 || entry >= ARRAY_COUNT(nr))
		return SWITCH_AGAIN;
	got = stub_ptrace(PTRACE_PEEKDATA, atomic_load(&ctx->pid), r->rsp, (uint64_t)(uintptr_t)local.iov_base);
	if (got < 0)
		return SWITCH_AGAIN;
	r->rip = ret;
	r->rsp += 8;
	ctx->pub.regs_dirty = true;
	return vsyscall_report(ctx, nr[entry]);
}

static enum switch_why stop_fault(struct pt_context *ctx, const siginfo_t *si)
{
	uint64_t addr = (uint64_t)(uintptr_t)si->si_addr;
	struct guest_regs *r = platform_regs(&ctx->pub);
	bool mapped = si->si_code == SEGV_NO_ACCESS;
	uint8_t access;

	if (!r)
		return SWITCH_DEAD;
	if (addr == r->rip && addr >= VSYSCALL_PAGE) {
		enum switch_why why = vsyscall_emulate(ctx);

		if (why != SWITCH_AGAIN)
			return why;
	}
	access = mapped ? PLATFORM_WRITE : PLATFORM_READ | PLATFORM_WRITE;
	if (addr == r->rip)
		access = PLATFORM_EXEC;
	else if (addr % 4096 == 0 && addr > r->rip && addr - r->rip < INSN_SIZE_MAX)
		access |= PLATFORM_EXEC; /* perhaps the second half of the instruction */
	ctx->pub.fault = (struct platform_fault){ .addr = addr, .access = access, .mapped = mapped };
	return SWITCH_FAULT;
}

static enum switch_why stop_signal(struct pt_context *ctx, int sig)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	siginfo_t si;

	if (stub_ptrace(PTRACE_GETSIGINFO, pid, 0, (uint64_t)(uintptr_t)&si) < 0)
		return SWITCH_DEAD;
	if (si.si_code <= 0)
		return SWITCH_AGAIN; /* sent by some process on the host */
	if (sig == SIGSYS) {
		if (si.si_code == SYS_BY_SECCOMP && (uint64_t)(uintptr_t)si.si_call_addr >= VSYSCALL_PAGE)
			return vsyscall_report(ctx, si.si_syscall);
		log_error("ptrace: a system call of stub %d came past SYSEMU", (int)pid);
		return SWITCH_DEAD;
	}
	if (sig == SIGSEGV && (si.si_code == SEGV_NOT_MAPPED || si.si_code == SEGV_NO_ACCESS))
		return stop_fault(ctx, &si);
	ctx->pub.signal = (struct platform_signal){ .signo = sig, .code = si.si_code };
	if (si.si_code != SI_KERNEL)
		ctx->pub.signal.addr = (uint64_t)(uintptr_t)si.si_addr;
	return SWITCH_SIGNAL;
}

static enum switch_why stop_reason(struct pt_context *ctx, int st)
{
	if (st >> 16)
		return SWITCH_AGAIN; /* left over from PTRACE_INTERRUPT */
	switch (WSTOPSIG(st)) {
	case TRAP_SYSCALL:
		return stop_syscall(ctx);
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
		return stop_signal(ctx, WSTOPSIG(st));
	default:
		return SWITCH_AGAIN;
	}
}

/* platform_ops.context_switch */
enum switch_why pt_context_switch(struct pcontext *pub, struct aspace *as_pub)
{
	struct pt_context *ctx = pt_context(pub);
	struct pt_aspace *as = pt_aspace(as_pub);
	enum switch_why why;
	struct rusage usage;
	int st;

	if (unlikely(ctx->as != as) && move_to(ctx, as) < 0)
		return SWITCH_DEAD;
	if (unlikely(!atomic_load_explicit(&ctx->pid, memory_order_relaxed)))
		return SWITCH_DEAD;
	do {
		atomic_store(&ctx->in_guest, 1); /* before `interrupted` is looked at: see pt_context_kick */
		if (unlikely(atomic_load(&pub->interrupted)) && atomic_exchange(&pub->interrupted, 0)) {
			atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
			return SWITCH_INTERRUPT;
		}
		why = SWITCH_DEAD;
		st = -1;
		if (pt_aspace_enter(as, ctx) == 0) {
			bool look = cpu_look_due(ctx);

			cpu_pair_enter(&ctx->pair, atomic_load_explicit(&ctx->pid, memory_order_relaxed), true);
			if (resume(ctx) == 0 && stub_wait_usage(ctx, &st, look ? &usage : NULL) < 0)
				st = -1;
			cpu_pair_leave(&ctx->pair);
			if (unlikely(look) && st != -1)
				cpu_look(ctx, &usage);
			pt_aspace_leave(as);
		}
		atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
		if (st != -1)
			why = stop_reason(ctx, st);
	} while (why == SWITCH_AGAIN);
	return why;
}
