/* Contexts: one guest thread's registers, run on some vCPU by its task thread. */
#include <errno.h>
#include <linux/audit.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/kvm/kvm_priv.h"

#ifndef KVM_EXIT_MEMORY_FAULT
#define KVM_EXIT_MEMORY_FAULT 39 /* Linux 6.8 */
#endif

enum vector { VEC_DIVIDE = 0, VEC_DEBUG = 1, VEC_BREAKPOINT = 3, VEC_OVERFLOW = 4, VEC_BOUND = 5, VEC_INVALID = 6,
	      VEC_NO_FPU = 7, VEC_DOUBLE = 8, VEC_SEGMENT = 11, VEC_STACK = 12, VEC_PROTECTION = 13, VEC_PAGE_FAULT = 14,
	      VEC_X87 = 16, VEC_ALIGNMENT = 17, VEC_MACHINE_CHECK = 18, VEC_SSE = 19, VEC_INT80 = 0x80 };

enum {
	TRAP_FLAG = 0x100,
	FAULT_PRESENT = 1, FAULT_WRITE = 2, FAULT_RESERVED = 8, FAULT_EXEC = 16, FAULT_KEY = 32,
	SEGV_KEY = 4, /* SEGV_PKUERR */
	SYSCALL_SIZE = 2,
	SYS_GETTIMEOFDAY = 96, SYS_TIME = 201, SYS_GETCPU = 309,
};
static const uint64_t VSYSCALL_PAGE = 0xffffffffff600000ull, USER_FLAGS = 0x244dd5;

/* The stack of an exception, at its end. */
struct frame {
	uint64_t error, rip, cs, rflags, rsp, ss;
};

/* A new context of the calling thread: registers zero, FPU initial. 0 or -ENOMEM. */
int kv_context_new(struct platform *platform, struct pcontext **ret_ctx)
{
	struct kv_context *ctx = calloc(1, sizeof(*ctx));
	sigset_t kick;

	if (!ctx)
		return -ENOMEM;
	ctx->platform = kv_platform(platform);
	ctx->pub.ops = ctx->platform->pub.ops;
	ctx->pub.regs_valid = true;
	ctx->tid = (pid_t)syscall(SYS_gettid);
	list_init(&ctx->link);
	/* Taken in the guest only: KVM_SET_SIGNAL_MASK lets it in there. */
	sigemptyset(&kick);
	sigaddset(&kick, KV_KICK_SIGNAL);
	pthread_sigmask(SIG_BLOCK, &kick, NULL);
	if (kv_ring0_context_new(ctx) < 0) {
		free(ctx);
		return -ENOMEM;
	}
	*ret_ctx = &ctx->pub;
	return 0;
}

/* On the thread that made it; NULL is fine. */
void kv_context_free(struct pcontext *pub)
{
	struct kv_context *ctx;

	if (!pub)
		return;
	ctx = kv_context(pub);
	kv_ring0_leave(ctx);
	kv_aspace_detach(ctx);
	kv_vcpu_forget(ctx);
	kv_ring0_context_free(ctx);
	free(ctx);
}

/* Makes a context that runs guest code, or is about to, stop soon. Any thread. */
void kv_context_kick(struct kv_context *ctx)
{
	if (atomic_load(&ctx->in_guest))
		syscall(SYS_tgkill, ctx->platform->pid, ctx->tid, KV_KICK_SIGNAL);
}

/* platform_ops.context_interrupt */
void kv_context_interrupt(struct pcontext *pub)
{
	atomic_store(&pub->interrupted, 1);
	kv_context_kick(kv_context(pub));
}

/* A kick stays pending until somebody takes it: it would end every later stay in the guest. */
void kv_kick_take(void)
{
	static const struct timespec now = { 0, 0 };
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, KV_KICK_SIGNAL);
	while (sigtimedwait(&kick, NULL, &now) > 0)
		;
}

/* platform_ops.regs_load: they are always here. */
int kv_regs_load(struct pcontext *pub)
{
	pub->regs_valid = true;
	return 0;
}

/* platform_ops.set_result */
int kv_set_result(struct pcontext *pub, int64_t value)
{
	pub->regs.rax = (uint64_t)value;
	return 0;
}

/* platform_ops.fpu_get */
int64_t kv_fpu_get(struct pcontext *pub, void *buf, size_t size)
{
	struct kv_context *ctx = kv_context(pub);
	struct kvm_xsave state;
	size_t n = ctx->platform->xsave_size;

	kv_ring0_leave(ctx);
	GUARD(mutex, &ctx->platform->vcpu_mu);
	if (ctx->fpu_fresh || !ctx->vcpu) {
		if (ctx->fpu && ctx->fpu_size)
			n = ctx->fpu_size;
		if (!ctx->fpu)
			n = KV_XSAVE_MIN;
		if (n > size)
			return -ENOSPC;
		if (ctx->fpu)
			memcpy(buf, ctx->fpu, n);
		else
			host_fpu_initial(buf, n);
		return (int64_t)n;
	}
	if (n > size)
		return -ENOSPC;
	if (ioctl(ctx->vcpu->fd, KVM_GET_XSAVE, &state) < 0)
		return -errno;
	memcpy(buf, &state, n);
	return (int64_t)n;
}

/* platform_ops.fpu_set: -EINVAL when the image is not one the guest's processor accepts. */
int kv_fpu_set(struct pcontext *pub, const void *buf, size_t size)
{
	struct kv_context *ctx = kv_context(pub);
	int err = kv_fpu_check(ctx->platform, buf, size);

	if (err < 0)
		return err;
	kv_ring0_leave(ctx);
	GUARD(mutex, &ctx->platform->vcpu_mu);
	if (!ctx->fpu)
		ctx->fpu = malloc(sizeof(struct kvm_xsave));
	if (!ctx->fpu)
		return -ENOMEM;
	size = MIN(size, ctx->platform->xsave_size);
	memset(ctx->fpu, 0, sizeof(struct kvm_xsave));
	memcpy(ctx->fpu, buf, size);
	ctx->fpu_size = size;
	ctx->fpu_fresh = true;
	ctx->fpu_given = true;
	return 0;
}

/* platform_ops.set_step */
void kv_set_step(struct pcontext *pub, bool on)
{
	kv_context(pub)->step = on;
}

/* ctx lives in as from now on; with another FPU state only when one was set since. */
void kv_context_move(struct kv_context *ctx, struct kv_aspace *as)
{
	struct kv_platform *p = ctx->platform;

	kv_aspace_detach(ctx);
	kv_aspace_attach(as, ctx);
	GUARD(mutex, &p->vcpu_mu);
	if (!ctx->fpu_given) {
		if (p->ring0) {
			host_fpu_initial(ctx->fpu, sizeof(struct kvm_xsave));
		} else {
			free(ctx->fpu);
			ctx->fpu = NULL;
		}
		ctx->fpu_size = 0;
		ctx->fpu_fresh = true;
	}
}

/* ---- into the guest ---- */

static uint64_t user_base(uint64_t base)
{
	return base < KV_TASK_SIZE ? base : 0;
}

/*
 * Puts the context's registers where KVM_RUN takes them from. Values that KVM refuses, or that are no user's, are made
 * harmless: selectors other than Linux's user ones, bases outside the user half, addresses no processor has.
 */
void kv_regs_to_vcpu(struct kv_context *ctx, struct kv_vcpu *v, uint64_t root)
{
	const struct guest_regs *g = &ctx->pub.regs;
	struct kvm_sregs *s = &v->run->s.regs.sregs;
	struct kvm_regs *r = &v->run->s.regs.regs;

	*r = (struct kvm_regs){ .rax = g->rax, .rbx = g->rbx, .rcx = g->rcx, .rdx = g->rdx, .rsi = g->rsi,
				.rdi = g->rdi, .rsp = g->rsp, .rbp = g->rbp, .r8 = g->r8, .r9 = g->r9,
				.r10 = g->r10, .r11 = g->r11, .r12 = g->r12, .r13 = g->r13, .r14 = g->r14,
				.r15 = g->r15, .rip = g->rip,
				.rflags = (g->eflags & USER_FLAGS & ~(uint64_t)TRAP_FLAG) | 0x202 };
	if (ctx->step || (g->eflags & TRAP_FLAG))
		r->rflags |= TRAP_FLAG;
	s->cr3 = root;
	kv_segment_code(&s->cs, g->cs != KV_USER_CS32);
	kv_segment_data(&s->ss, true, 0);
	kv_segment_data(&s->ds, g->ds == KV_USER_SS, 0);
	kv_segment_data(&s->es, g->es == KV_USER_SS, 0);
	kv_segment_data(&s->fs, false, user_base(g->fs_base));
	kv_segment_data(&s->gs, false, user_base(g->gs_base));
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
}

/* The general registers after an exit; rip, flags and stack may be the handler's. */
void kv_regs_from_vcpu(struct guest_regs *g, const struct kvm_run *run)
{
	const struct kvm_sregs *s = &run->s.regs.sregs;
	const struct kvm_regs *r = &run->s.regs.regs;

	*g = (struct guest_regs){ .r15 = r->r15, .r14 = r->r14, .r13 = r->r13, .r12 = r->r12, .rbp = r->rbp,
				  .rbx = r->rbx, .r11 = r->r11, .r10 = r->r10, .r9 = r->r9, .r8 = r->r8,
				  .rax = r->rax, .rcx = r->rcx, .rdx = r->rdx, .rsi = r->rsi, .rdi = r->rdi,
				  .orig_rax = UINT64_MAX, .rip = r->rip, .cs = s->cs.selector,
				  .eflags = r->rflags, .rsp = r->rsp, .ss = s->ss.selector,
				  .fs_base = s->fs.base, .gs_base = s->gs.base, .ds = s->ds.selector,
				  .es = s->es.selector, .fs = s->fs.selector, .gs = s->gs.selector };
}

/* ---- out of the guest ---- */

static enum switch_why report_signal(struct kv_context *ctx, int signo, int code, uint64_t addr)
{
	ctx->pub.signal = (struct platform_signal){ .signo = signo, .code = code, .addr = addr };
	return SWITCH_SIGNAL;
}

enum switch_why kv_report_call(struct kv_context *ctx, uint32_t arch)
{
	struct guest_regs *r = &ctx->pub.regs;
	struct platform_syscall *sc = &ctx->pub.syscall;

	*sc = (struct platform_syscall){ .nr = (int64_t)r->rax, .ip = r->rip, .sp = r->rsp, .audit_arch = arch };
	if (arch == AUDIT_ARCH_X86_64) {
		sc->arg[0] = r->rdi, sc->arg[1] = r->rsi, sc->arg[2] = r->rdx;
		sc->arg[3] = r->r10, sc->arg[4] = r->r8, sc->arg[5] = r->r9;
	} else {
		sc->nr = (int32_t)r->rax;
		sc->arg[0] = (uint32_t)r->rbx, sc->arg[1] = (uint32_t)r->rcx, sc->arg[2] = (uint32_t)r->rdx;
		sc->arg[3] = (uint32_t)r->rsi, sc->arg[4] = (uint32_t)r->rdi, sc->arg[5] = (uint32_t)r->rbp;
	}
	r->orig_rax = r->rax;
	r->rax = (uint64_t)-ENOSYS;
	return SWITCH_SYSCALL;
}

/* A call into the vsyscall page: does what its code would have done. */
static enum switch_why report_vsyscall(struct kv_context *ctx)
{
	static const int64_t nr[] = { SYS_GETTIMEOFDAY, SYS_TIME, SYS_GETCPU };
	struct guest_regs *r = &ctx->pub.regs;
	uint64_t entry = (r->rip - VSYSCALL_PAGE) / 1024, ret;

	if (r->rip % 1024 != 0 || entry >= ARRAY_COUNT(nr) || kv_aspace_peek(ctx->as, r->rsp, &ret, sizeof(ret)) < 0)
		return SWITCH_AGAIN;
	r->rip = ret;
	r->rsp += 8;
	r->rax = (uint64_t)nr[entry];
	kv_report_call(ctx, AUDIT_ARCH_X86_64);
	r->orig_rax = UINT64_MAX;
	ctx->pub.syscall.vsyscall = true;
	return SWITCH_SYSCALL;
}

static enum switch_why report_page_fault(struct kv_context *ctx, uint64_t addr, uint64_t error)
{
	struct platform_fault *f = &ctx->pub.fault;
	struct guest_regs *r = &ctx->pub.regs;

	if ((error & FAULT_EXEC) && (addr == KV_SYSCALL || addr == KV_SYSCALL32)) {
		r->rip = r->rcx;
		r->eflags = r->r11;
		if (addr == KV_SYSCALL32)
			r->cs = KV_USER_CS32;
		return kv_report_call(ctx, addr == KV_SYSCALL ? AUDIT_ARCH_X86_64 : AUDIT_ARCH_I386);
	}
	if ((error & FAULT_EXEC) && addr == r->rip && addr >= VSYSCALL_PAGE) {
		enum switch_why why = report_vsyscall(ctx);

		if (why != SWITCH_AGAIN)
			return why;
	}
	/* In the upper half a device may tell of tables that are its own. */
	if ((error & FAULT_RESERVED) && addr < KV_TASK_SIZE)
		return SWITCH_DEAD;
	if (error & FAULT_KEY)
		return report_signal(ctx, SIGSEGV, SEGV_KEY, addr);
	*f = (struct platform_fault){ .addr = addr, .mapped = (error & FAULT_PRESENT) && addr < KV_USER_MAX };
	f->access = (error & FAULT_EXEC) ? PLATFORM_EXEC : (error & FAULT_WRITE) ? PLATFORM_WRITE : PLATFORM_READ;
	return SWITCH_FAULT;
}

/* An invalid instruction. A device whose guest supervisor is unprivileged makes that of int $0x80. */
static enum switch_why report_invalid(struct kv_context *ctx)
{
	static const uint8_t int80[] = { 0xcd, 0x80 };
	struct guest_regs *r = &ctx->pub.regs;
	uint8_t code[sizeof(int80)];

	for (size_t i = 0; i < sizeof(code); i++)
		if (kv_aspace_peek(ctx->as, r->rip + i, &code[i], 1) < 0)
			code[i] = 0;
	if (memcmp(code, int80, sizeof(code)) != 0)
		return report_signal(ctx, SIGILL, ILL_ILLOPN, r->rip);
	r->rip += sizeof(int80);
	return kv_report_call(ctx, AUDIT_ARCH_I386);
}

static int fpu_code(struct kv_context *ctx, bool x87)
{
	struct kvm_xsave state;

	if (kv_fpu_get(&ctx->pub, &state, sizeof(state)) < 0)
		return 0;
	return x87 ? kv_fpu_x87_code(&state) : kv_fpu_sse_code(&state);
}

enum switch_why kv_report_exception(struct kv_context *ctx, unsigned int vector, uint64_t error, uint64_t cr2)
{
	uint64_t rip = ctx->pub.regs.rip;

	switch (vector) {
	case VEC_PAGE_FAULT:
		return report_page_fault(ctx, cr2, error);
	case VEC_INT80:
		return kv_report_call(ctx, AUDIT_ARCH_I386);
	case VEC_DIVIDE:
		return report_signal(ctx, SIGFPE, FPE_INTDIV, rip);
	case VEC_DEBUG:
		return report_signal(ctx, SIGTRAP, TRAP_TRACE, rip);
	case VEC_BREAKPOINT:
		return report_signal(ctx, SIGTRAP, SI_KERNEL, 0);
	case VEC_INVALID:
		return report_invalid(ctx);
	case VEC_NO_FPU:
		return report_signal(ctx, SIGILL, ILL_ILLOPN, rip);
	case VEC_SEGMENT:
	case VEC_STACK:
		return report_signal(ctx, SIGBUS, SI_KERNEL, 0);
	case VEC_X87:
	case VEC_SSE:
		return report_signal(ctx, SIGFPE, fpu_code(ctx, vector == VEC_X87), rip);
	case VEC_ALIGNMENT:
		return report_signal(ctx, SIGBUS, BUS_ADRALN, 0);
	case VEC_DOUBLE:
	case VEC_MACHINE_CHECK:
		return SWITCH_DEAD;
	default: /* general protection, and what only that can mean for a user */
		return report_signal(ctx, SIGSEGV, SI_KERNEL, 0);
	}
}

/* True when the vCPU stands in a handler: the registers of the user are completed from the exception stack. */
static bool in_handler(struct kv_context *ctx, const struct kv_vcpu *v, unsigned int *ret_vector, uint64_t *ret_error)
{
	const struct kvm_sregs *s = &v->run->s.regs.sregs;
	struct guest_regs *r = &ctx->pub.regs;
	struct frame f;

	if (s->cs.selector != KV_KERNEL_CS || r->rip < KV_HANDLERS || r->rip >= KV_HANDLERS + 256 * HANDLER_SIZE)
		return false;
	memcpy(&f, (const char *)v->stack_end - sizeof(f), sizeof(f));
	*ret_vector = (unsigned int)((r->rip - KV_HANDLERS) / HANDLER_SIZE);
	*ret_error = f.error;
	r->rip = f.rip;
	r->eflags = f.rflags;
	r->rsp = f.rsp;
	r->cs = f.cs == KV_USER_CS32 ? KV_USER_CS32 : KV_USER_CS;
	r->ss = KV_USER_SS;
	return true;
}

/* Lets KVM finish an instruction that it had begun to emulate: its result is not of interest. */
static void finish_emulation(struct kv_vcpu *v)
{
	v->run->immediate_exit = 1;
	(void)!ioctl(v->fd, KVM_RUN, 0);
	v->run->immediate_exit = 0;
	v->doubtful = true;
}

/* The host has no page where the guest's tables lead: a file was cut short, or memory is short. */
static enum switch_why report_no_page(struct kv_context *ctx, const struct kvm_run *run)
{
	uint64_t addr = 0;

	if (run->exit_reason == KVM_EXIT_MEMORY_FAULT) {
		/* gpa follows flags in struct kvm_run, which older headers do not know */
		memcpy(&addr, (const char *)&run->hw + 8, sizeof(addr));
		addr = kv_aspace_find(ctx->as, ALIGN_DOWN(addr, KV_PAGE));
	}
	return report_signal(ctx, SIGBUS, BUS_ADRERR, addr);
}

/* An exit that no guest is known to cause: its process ends. */
static enum switch_why report_unknown(struct kv_context *ctx, struct kv_vcpu *v, int err)
{
	static _Atomic bool said;

	v->doubtful = true;
	if (!atomic_exchange(&said, true))
		log_error("kvm: unexpected exit %u (error %d, suberror %u) at 0x%llx: a guest process ends",
			  v->run->exit_reason, err, v->run->internal.suberror,
			  (unsigned long long)ctx->pub.regs.rip);
	return SWITCH_DEAD;
}

/* Why KVM_RUN came back with err; the registers are loaded. */
enum switch_why kv_exit_reason(struct kv_context *ctx, struct kv_vcpu *v, int err)
{
	const struct kvm_run *run = v->run;
	struct guest_regs *r = &ctx->pub.regs;
	unsigned int vector;
	uint64_t error;

	if (in_handler(ctx, v, &vector, &error) && (err == -EINTR || (err == 0 && run->exit_reason == KVM_EXIT_HLT)))
		return kv_report_exception(ctx, vector, error, run->s.regs.sregs.cr2);
	if (err == -EINTR) {
		v->doubtful = true; /* an event may be half delivered */
		if (r->rip != KV_SYSCALL && r->rip != KV_SYSCALL32)
			return run->s.regs.sregs.cs.dpl == 3 ? SWITCH_AGAIN : report_unknown(ctx, v, err);
		return report_page_fault(ctx, r->rip, FAULT_EXEC); /* a call that had not faulted yet */
	}
	if (err == -EFAULT)
		return report_no_page(ctx, run);
	if (err < 0)
		return report_unknown(ctx, v, err);
	switch (run->exit_reason) {
	case KVM_EXIT_IO: /* devices that do not check the guest's privilege */
	case KVM_EXIT_MMIO:
		finish_emulation(v);
		return report_signal(ctx, SIGSEGV, SI_KERNEL, 0);
	case KVM_EXIT_HLT:
	case KVM_EXIT_HYPERCALL:
	case KVM_EXIT_X86_RDMSR:
	case KVM_EXIT_X86_WRMSR:
		v->doubtful = true;
		return report_signal(ctx, SIGSEGV, SI_KERNEL, 0);
	default:
		return report_unknown(ctx, v, 0);
	}
}

/* Runs guest code until something happens. The vCPU is ctx's, which counts as running in as. */
static enum switch_why run(struct kv_context *ctx, struct kv_aspace *as)
{
	struct kv_vcpu *v = ctx->vcpu;
	bool was_stepped = ctx->step;
	int err;

	kv_regs_to_vcpu(ctx, v, as->root.gpa);
	err = ioctl(v->fd, KVM_RUN, 0) < 0 ? -errno : 0;
	if (unlikely(err == -EINTR))
		kv_kick_take();
	kv_regs_from_vcpu(&ctx->pub.regs, v->run);
	kv_aspace_leave(as);
	enum switch_why why = kv_exit_reason(ctx, v, err);

	if (was_stepped)
		ctx->pub.regs.eflags &= ~(uint64_t)TRAP_FLAG;
	return why;
}

/* platform_ops.context_switch */
enum switch_why kv_context_switch(struct pcontext *pub, struct aspace *as_pub)
{
	struct kv_context *ctx = kv_context(pub);
	struct kv_aspace *as = kv_aspace(as_pub);
	enum switch_why why;

	if (ctx->platform->ring0)
		return kv_ring0_switch(ctx, as);
	if (unlikely(ctx->as != as))
		kv_context_move(ctx, as);
	ctx->fpu_given = false;
	do {
		atomic_store(&ctx->in_guest, 1); /* before `interrupted` is looked at: see kv_context_interrupt */
		why = SWITCH_INTERRUPT;
		if (likely(!atomic_load(&pub->interrupted)) || !atomic_exchange(&pub->interrupted, 0)) {
			why = SWITCH_DEAD;
			if (kv_vcpu_take(ctx) == 0) {
				kv_aspace_enter(as);
				if (unlikely(atomic_load(&as->broken)))
					kv_aspace_leave(as);
				else
					why = run(ctx, as);
				kv_vcpu_give_back(ctx);
			}
		}
		atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
	} while (why == SWITCH_AGAIN);
	pub->regs_valid = true;
	pub->regs_dirty = false;
	return why;
}
