/* Contexts: one guest thread's stub, switched into by its task thread. */
#include <errno.h>
#include <linux/audit.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/fpu.h"
#include "platform/systrap/systrap_priv.h"

enum {
	TRAP_FLAG = 0x100,
	PAGE_FAULT = 14,
	FAULT_WRITE = 2,
	FAULT_EXEC = 16,
	SEGV_NOT_MAPPED = 1, /* SEGV_MAPERR */
	SEGV_NO_ACCESS = 2,  /* SEGV_ACCERR */
	SYS_BY_SECCOMP = 1,
	SYSCALL_SIZE = 2,
	XSAVE_SOFTWARE = 464, /* 48 bytes for the kernel's use */
	XSAVE_SOFTWARE_SIZE = 48,
	/* Values that make the host restart a system call when a signal follows. */
	RESTART_FIRST = -516,
	RESTART_LAST = -512,
};

/* The host's signal frame (asm/sigcontext.h, asm/ucontext.h), with the words that our handler adds. */
struct frame {
	uint64_t gs_base, uc_flags, fs_base, stack[3];
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip, eflags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8], sigmask;
	int32_t signo, error, code, pad;
	uint64_t addr; /* SIGSYS: behind the call */
	int32_t nr;    /* SIGSYS */
	uint32_t arch; /* SIGSYS */
	uint64_t info[12];
};
_Static_assert(offsetof(struct frame, gs_base) == FRAME_GS_BASE, "stub.S");
_Static_assert(offsetof(struct frame, fs_base) == FRAME_FS_BASE, "stub.S");
_Static_assert(offsetof(struct frame, rdi) == FRAME_RDI && offsetof(struct frame, rcx) == FRAME_RCX, "stub.S");
_Static_assert(offsetof(struct frame, rsp) == FRAME_RSP && offsetof(struct frame, rip) == FRAME_RIP, "stub.S");
_Static_assert(offsetof(struct frame, signo) == FRAME_SIGNO && ST_KICK_SIGNAL == STUB_KICK, "stub.S");
_Static_assert(sizeof(struct frame) <= STUB_AREA_SIZE - AREA_NO_FRAME, "stub.S");
_Static_assert(offsetof(struct frame, signo) == 312 && sizeof(struct frame) == 440, "rt_sigframe of x86-64");

/* The report was none of the guest's business. */
static const enum switch_why SWITCH_AGAIN = (enum switch_why)-1;

/* A new context of the calling thread: no stub yet, registers zero, FPU initial. 0 or -ENOMEM. */
int st_context_new(struct platform *platform, struct pcontext **ret_ctx)
{
	struct st_context *ctx = calloc(1, sizeof(*ctx));

	if (!ctx)
		return -ENOMEM;
	ctx->platform = st_platform(platform);
	ctx->pub.ops = ctx->platform->pub.ops;
	ctx->pub.regs_valid = ctx->pub.regs_dirty = true;
	list_init(&ctx->link);
	cpu_pair_start(&ctx->pair);
	st_spin_start(&ctx->spin);
	*ret_ctx = &ctx->pub;
	return 0;
}

/* Ends the stub and frees the context. On the thread that made it; NULL is fine. */
void st_context_free(struct pcontext *pub)
{
	struct st_context *ctx;

	if (!pub)
		return;
	ctx = st_context(pub);
	st_aspace_detach(ctx, false);
	free(ctx->fpu);
	free(ctx);
}

/* What there is to report when registers were on their way: no signal. */
static struct frame no_frame(void)
{
	return (struct frame){ .rip = st_stub_address(systrap_stub_restore) };
}

/* Where the handler finds that report. */
void st_no_frame(struct area *area)
{
	const struct frame f = no_frame();

	memcpy((uint8_t *)area + AREA_NO_FRAME, &f, sizeof(f));
}

/* Makes the stub report. Counted by who is not the task thread: see answer_is_safe. */
static void kick(struct st_context *ctx)
{
	pid_t pid = atomic_load(&ctx->pid);

	if (!pid)
		return;
	atomic_store(&ctx->kicked, true);
	syscall(SYS_tgkill, pid, pid, ST_KICK_SIGNAL);
}

/* platform_ops.context_interrupt: one signal for each interrupt that is taken. */
void st_context_interrupt(struct pcontext *pub)
{
	struct st_context *ctx = st_context(pub);

	if (atomic_exchange(&pub->interrupted, 1))
		return;
	atomic_fetch_add(&ctx->kickers, 1);
	if (atomic_load(&ctx->in_guest))
		kick(ctx);
	atomic_fetch_sub(&ctx->kickers, 1);
}

/*
 * Whether no kick can hit the stub before it has the answer to its call. The host kernel would lose such an answer
 * although it accepts it, when the signal has just ended the wait and the waiting thread has not taken its notification
 * back yet; the call would be made again. Nobody begins to kick now: in_guest is 0, and what was written so is followed
 * by the locked instruction of st_aspace_enter.
 */
static bool answer_is_safe(const struct st_context *ctx)
{
	return !atomic_load(&ctx->kickers) && !atomic_load(&ctx->kicked);
}

static bool in_code(uint64_t ip, const char *from, const char *to)
{
	return ip >= st_stub_address(from) && ip < st_stub_address(to);
}

/*
 * Makes values that iretq or wrfsbase refuse, or that would reach host features the guest has no
 * business with, harmless: selectors other than Linux's user ones, bases outside the user half.
 */
static struct guest_regs sanitised(const struct guest_regs *regs)
{
	const uint64_t user_cs = 0x33, user_cs32 = 0x23, user_ss = 0x2b, user_flags = 0x244dd5;
	struct guest_regs r = *regs;

	if (r.cs != user_cs && r.cs != user_cs32)
		r.cs = user_cs;
	r.ss = user_ss;
	if (r.fs_base >= STUB_TASK_SIZE)
		r.fs_base = 0;
	if (r.gs_base >= STUB_TASK_SIZE)
		r.gs_base = 0;
	r.eflags = (r.eflags & user_flags) | 0x202;
	return r;
}

static void regs_from_frame(const struct st_context *ctx, struct guest_regs *r, const struct frame *f)
{
	*r = (struct guest_regs){
		.r15 = f->r15, .r14 = f->r14, .r13 = f->r13, .r12 = f->r12, .rbp = f->rbp, .rbx = f->rbx,
		.r11 = f->r11, .r10 = f->r10, .r9 = f->r9, .r8 = f->r8, .rax = f->rax, .rcx = f->rcx,
		.rdx = f->rdx, .rsi = f->rsi, .rdi = f->rdi, .orig_rax = UINT64_MAX, .rip = f->rip,
		.cs = f->cs, .eflags = f->eflags, .rsp = f->rsp, .ss = f->ss, .fs_base = f->fs_base,
		.gs_base = f->gs_base == st_area_address(ctx->thread->slot) ? 0 : f->gs_base, /* see restore */
	};
}

/* Keeps the FPU state of a report where the stub restores it from; the frame is overwritten by the next. */
static int fpu_from_frame(struct st_context *ctx, const struct frame *f)
{
	struct area *area = ctx->thread->slot->area;
	uint64_t at = f->fpstate - st_area_address(ctx->thread->slot);
	size_t full = host_fpu_size(), n;

	if (at < AREA_STACK || at > STUB_AREA_SIZE - 576 || at % 64)
		return -EINVAL;
	n = MIN(full, STUB_AREA_SIZE - (size_t)at);
	memcpy(area->fpu, (const uint8_t *)area + at, n);
	memset(area->fpu + n, 0, full - n);
	memset(area->fpu + XSAVE_SOFTWARE, 0, XSAVE_SOFTWARE_SIZE);
	return 0;
}

/* The stub is dead, or does what no stub does: it is not used any more. Always -ESRCH. */
static int stub_lost(struct st_context *ctx, bool alive)
{
	pid_t pid = atomic_exchange(&ctx->pid, 0);

	if (pid && alive)
		kill(pid, SIGKILL);
	log_debug("systrap: stub %d %s", (int)pid, alive ? "misbehaved" : "died");
	return -ESRCH;
}

/* Copies the frame of a report. -ESRCH when there can be none: the guest called our handler itself. */
static int frame_read(struct st_context *ctx, const struct seccomp_notif *n, struct frame *ret_frame)
{
	const struct area_slot *slot = ctx->thread->slot;
	uint64_t at = n->data.args[1] - st_area_address(slot);

	if (at < AREA_STACK || at > STUB_AREA_SIZE - sizeof(*ret_frame) || at % 8)
		return stub_lost(ctx, true);
	memcpy(ret_frame, (const uint8_t *)slot->area + at, sizeof(*ret_frame));
	return 0;
}

/* Writes the block and answers the report. A kick that came before the answer made another report instead. 0 or -ESRCH. */
static int restore(struct st_context *ctx, const struct guest_regs *regs)
{
	struct stub_thread *t = ctx->thread;
	struct seccomp_notif n;

	t->slot->area->regs = *regs;
	if (regs->gs_base == 0) /* as nearly always: the fast path finds its memory there */
		t->slot->area->regs.gs_base = st_area_address(t->slot);
	while (st_send(t->listener, t->id, (int64_t)st_area_address(t->slot)) < 0) {
		if (st_recv(ctx->platform, t->listener, &n) < 0)
			return stub_lost(ctx, false);
		if (!st_is_report(&n))
			return stub_lost(ctx, true);
		t->id = n.id;
	}
	ctx->restored_id = t->id;
	return 0;
}

/*
 * Whether the report with this number, the first one for its frame, is the one that restore has answered: a kick made the
 * host kernel lose that answer (see answer_is_safe). A listener's notifications are numbered in order.
 */
static bool answer_lost(const struct st_context *ctx, uint64_t id)
{
	return id == ctx->restored_id;
}

/*
 * Waits for the stub's next event: ST_CALL with the notification in *n, or ST_HELD with the frame of a
 * report, whose registers are loaded. -ESRCH when the stub is lost.
 */
static int next_event(struct st_context *ctx, struct seccomp_notif *n, struct frame *f)
{
	struct stub_thread *t = ctx->thread;
	uint64_t first_id;

	for (;;) {
		if (ctx->fast.polling && ctx->state == ST_RUN && st_fast_poll(ctx))
			return 0;
		if (st_recv(ctx->platform, t->listener, n) < 0)
			return stub_lost(ctx, false);
		t->id = n->id;
		if (unlikely(st_fast_asleep(ctx, n))) {
			if (ctx->state != ST_FAST) /* else a kick is about to end its sleep */
				st_send(t->listener, n->id, 0);
			continue;
		}
		if (likely(!st_is_report(n))) {
			ctx->state = ST_CALL;
			return 0;
		}
		break;
	}
	if (frame_read(ctx, n, f) < 0)
		return -ESRCH;
	first_id = n->id - (n->data.args[0] >> 8);
	if (unlikely(answer_lost(ctx, first_id)))
		*f = no_frame();
	if (f->signo == ST_KICK_SIGNAL || f->signo == 0)
		atomic_store(&ctx->kicked, atomic_load(&ctx->kickers) != 0);
	ctx->pub.regs_valid = true;
	ctx->pub.regs_dirty = false;
	if (in_code(f->rip, systrap_stub_restore, systrap_stub_restore_end)) {
		ctx->state = ST_HELD;
		return 0; /* pub.regs are still those that were on their way */
	}
	if (fpu_from_frame(ctx, f) < 0)
		return stub_lost(ctx, true);
	regs_from_frame(ctx, &ctx->pub.regs, f);
	if (unlikely(f->rip - STUB_FAST < 4096))
		st_fast_regs(ctx, &ctx->pub.regs);
	ctx->pub.regs.rcx = st_sites_ip(ctx->as, ctx->pub.regs.rcx);
	st_sites_canonical(ctx->as, &ctx->pub.regs);
	ctx->state = ST_HELD;
	if (ctx->stepping)
		ctx->pub.regs.eflags &= ~(uint64_t)TRAP_FLAG;
	return 0;
}

/* A kick has ended the wait for the answer to a call: the registers behind the call, not yet answered. */
static int call_held(struct st_context *ctx)
{
	struct pcontext *pub = &ctx->pub;
	struct seccomp_notif n;
	struct frame f;

	if (next_event(ctx, &n, &f) < 0)
		return -ESRCH;
	if (ctx->state != ST_HELD)
		return stub_lost(ctx, true);
	pub->regs.rip = pub->syscall.ip;
	pub->regs.rax = (uint64_t)-ENOSYS;
	pub->regs.orig_rax = (uint64_t)pub->syscall.nr;
	if (ctx->result_pending) {
		pub->regs.rax = (uint64_t)ctx->result;
		pub->regs_dirty = true;
		ctx->result_pending = false;
	}
	return 0;
}

/* platform_ops.regs_load: a thread that waits for the result of a call is made to report. */
int st_regs_load(struct pcontext *pub)
{
	struct st_context *ctx = st_context(pub);

	if (!atomic_load_explicit(&ctx->pid, memory_order_relaxed) || (ctx->state != ST_CALL && ctx->state != ST_FAST))
		return -ESRCH;
	kick(ctx);
	return call_held(ctx);
}

/* platform_ops.set_result: kept here until the stub runs again. */
int st_set_result(struct pcontext *pub, int64_t value)
{
	struct st_context *ctx = st_context(pub);

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
int64_t st_fpu_get(struct pcontext *pub, void *buf, size_t size)
{
	struct st_context *ctx = st_context(pub);
	size_t n = ctx->fpu_given ? ctx->fpu_size : host_fpu_size();

	if (ctx->fpu_given || ctx->thread) {
		if (n > size)
			return -ENOSPC;
		if (!ctx->fpu_given && !platform_regs(pub))
			return -ESRCH;
		memcpy(buf, ctx->fpu_given ? ctx->fpu : ctx->thread->slot->area->fpu, n);
		return (int64_t)n;
	}
	n = host_fpu_initial(buf, size);
	return n ? (int64_t)n : -ENOSPC;
}

static void fpu_load(struct st_context *ctx, const void *buf, size_t size)
{
	uint8_t *to = ctx->thread->slot->area->fpu;

	memcpy(to, buf, size);
	memset(to + size, 0, host_fpu_size() - size);
}

/* platform_ops.fpu_set: -EINVAL when the image is not one the processor accepts. */
int st_fpu_set(struct pcontext *pub, const void *buf, size_t size)
{
	struct st_context *ctx = st_context(pub);
	int err = size <= host_fpu_size() ? host_fpu_check(buf, size, host_fpu_features()) : -EINVAL;
	void *copy;

	if (err < 0)
		return err;
	if (ctx->thread) {
		if (!platform_regs(pub))
			return -ESRCH;
		fpu_load(ctx, buf, size);
		platform_regs_dirty(pub);
		return 0;
	}
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
void st_set_step(struct pcontext *pub, bool on)
{
	st_context(pub)->step = on;
}

/* Gives ctx a stub in as; the one it had elsewhere ends. 0 or -errno. */
static int move_to(struct st_context *ctx, struct st_aspace *as)
{
	char initial[1024];
	int err;

	if (!platform_regs(&ctx->pub))
		return -ESRCH;
	ctx->pub.regs_dirty = true;
	st_aspace_detach(ctx, true);
	err = st_aspace_attach(as, ctx);
	if (err < 0)
		return err;
	if (ctx->fpu_given)
		fpu_load(ctx, ctx->fpu, ctx->fpu_size);
	else
		fpu_load(ctx, initial, host_fpu_initial(initial, sizeof(initial)));
	free(ctx->fpu);
	ctx->fpu = NULL;
	ctx->fpu_given = false;
	return 0;
}

/* Answers a call that needs no more than that. false: the registers have to be restored. */
static bool resume_call(struct st_context *ctx)
{
	int64_t result = ctx->result_pending ? ctx->result : -ENOSYS;

	if (unlikely(ctx->pub.regs_valid || ctx->step || ctx->stepping))
		return false;
	if (ctx->state == ST_FAST) {
		st_fast_answer(ctx, result);
		return true;
	}
	if (unlikely((result >= RESTART_FIRST && result <= RESTART_LAST) || !answer_is_safe(ctx)))
		return false;
	if (unlikely(st_send(ctx->thread->listener, ctx->thread->id, result) < 0))
		return false;
	st_fast_answered(ctx);
	return true;
}

/* Answers the stub, which runs guest code then. 0 or -ESRCH. */
static int resume(struct st_context *ctx)
{
	struct pcontext *pub = &ctx->pub;
	struct guest_regs r;

	if (ctx->state == ST_CALL || ctx->state == ST_FAST) {
		if (likely(resume_call(ctx)))
			goto runs;
		if (unlikely(pub->regs_valid)) { /* made elsewhere: the stub's own are of no interest */
			r = pub->regs;
			kick(ctx);
			if (call_held(ctx) < 0)
				return -ESRCH;
			pub->regs = r;
		} else if (st_regs_load(pub) < 0) {
			return -ESRCH;
		}
	}
	r = sanitised(&pub->regs);
	if (ctx->step)
		r.eflags |= TRAP_FLAG;
	ctx->stepping = ctx->step;
	st_sites_redirect(ctx->as, &r);
	if (restore(ctx, &r) < 0)
		return -ESRCH;
	pub->regs_valid = pub->regs_dirty = false;
runs:
	ctx->result_pending = false;
	ctx->state = ST_RUN;
	return 0;
}

static enum switch_why report_call(struct st_context *ctx, const struct seccomp_notif *n)
{
	struct platform_syscall *sc = &ctx->pub.syscall;

	sc->nr = n->data.nr;
	memcpy(sc->arg, n->data.args, sizeof(sc->arg));
	sc->ip = st_sites_ip(ctx->as, n->data.instruction_pointer);
	sc->sp = 0;
	sc->audit_arch = n->data.arch;
	sc->vsyscall = false;
	if (sc->ip == n->data.instruction_pointer && sc->audit_arch == AUDIT_ARCH_X86_64)
		st_sites_count(ctx);
	return SWITCH_SYSCALL;
}

/* A call that the filter made a signal, because all registers are needed, or came from the vsyscall page. */
static enum switch_why report_trap(struct st_context *ctx, const struct frame *f)
{
	struct guest_regs *r = &ctx->pub.regs;
	bool vsyscall = f->addr >= ST_VSYSCALL_PAGE;

	ctx->pub.syscall = (struct platform_syscall){ .nr = f->nr,
						      .arg = { r->rdi, r->rsi, r->rdx, r->r10, r->r8, r->r9 },
						      .ip = r->rip,
						      .sp = r->rsp,
						      .audit_arch = f->arch,
						      .vsyscall = vsyscall };
	r->rax = (uint64_t)-ENOSYS;
	if (!vsyscall)
		r->orig_rax = (uint64_t)(int64_t)f->nr;
	return SWITCH_SYSCALL;
}

static enum switch_why report_fault(struct st_context *ctx, const struct frame *f)
{
	struct platform_fault *fault = &ctx->pub.fault;

	*fault = (struct platform_fault){ .addr = f->addr, .mapped = f->code == SEGV_NO_ACCESS };
	if (f->trapno == PAGE_FAULT && (f->err & FAULT_EXEC))
		fault->access = PLATFORM_EXEC;
	else if (fault->mapped || (f->trapno == PAGE_FAULT && (f->err & FAULT_WRITE)))
		fault->access = PLATFORM_WRITE;
	else
		fault->access = PLATFORM_READ;
	return SWITCH_FAULT;
}

/* Signals of the processor: what a frame that is no call, page fault or kick can hold. */
static bool is_trap(int32_t signo)
{
	return signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL || signo == SIGTRAP;
}

static enum switch_why report_signal(struct st_context *ctx, const struct frame *f)
{
	bool ours = in_code(f->rip, systrap_stub_restore, systrap_stub_restore_end);

	if (f->code <= 0)
		return SWITCH_AGAIN; /* a kick, or sent by some process on the host */
	if (ours) { /* the processor refused the registers */
		ctx->pub.signal = (struct platform_signal){ .signo = SIGSEGV, .code = SI_KERNEL };
		return SWITCH_SIGNAL;
	}
	if (f->signo == SIGSYS)
		return f->code == SYS_BY_SECCOMP ? report_trap(ctx, f) : SWITCH_AGAIN;
	if (st_sites_trap(ctx, f->signo, f->code, f->rip))
		return SWITCH_AGAIN;
	if (f->signo == SIGSEGV && (f->code == SEGV_NOT_MAPPED || f->code == SEGV_NO_ACCESS))
		return report_fault(ctx, f);
	if (!is_trap(f->signo)) { /* the guest wrote the frame: the sentry's tables have no such row */
		stub_lost(ctx, true);
		return SWITCH_DEAD;
	}
	ctx->pub.signal = (struct platform_signal){ .signo = f->signo, .code = f->code };
	if (f->code != SI_KERNEL)
		ctx->pub.signal.addr = f->addr;
	return SWITCH_SIGNAL;
}

/* Lets the stub run until its next event. */
static enum switch_why run(struct st_context *ctx, struct st_aspace *as)
{
	struct seccomp_notif n;
	struct frame f __attribute__((uninitialized)); /* read when a report filled it */
	bool alive;

	ctx->sites_generation = st_sites_generation(as);
	if (st_aspace_enter(as, ctx) < 0)
		return SWITCH_DEAD;
	/* a spinner sees itself that it is not alone */
	cpu_pair_enter(&ctx->pair, atomic_load_explicit(&ctx->pid, memory_order_relaxed), ctx->spin.cpu < 0);
	alive = resume(ctx) == 0;
	if (likely(alive)) {
		atomic_store(&ctx->in_guest, 1);
		if (unlikely(atomic_load(&ctx->pub.interrupted))) /* said meanwhile, without a signal */
			kick(ctx);
		alive = next_event(ctx, &n, &f) == 0;
		atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
	}
	cpu_pair_leave(&ctx->pair);
	if (unlikely(ctx->pair.loose))
		cpu_pair_meet(&ctx->pair, atomic_load_explicit(&ctx->pid, memory_order_relaxed));
	st_aspace_leave(as);
	if (unlikely(!alive))
		return SWITCH_DEAD;
	if (ctx->state == ST_FAST)
		return SWITCH_SYSCALL;
	st_fast_event(ctx, &n);
	return ctx->state == ST_CALL ? report_call(ctx, &n) : report_signal(ctx, &f);
}

/* platform_ops.context_switch */
enum switch_why st_context_switch(struct pcontext *pub, struct aspace *as_pub)
{
	struct st_context *ctx = st_context(pub);
	struct st_aspace *as = st_aspace(as_pub);
	enum switch_why why;

	if (unlikely(ctx->as != as) && move_to(ctx, as) < 0)
		return SWITCH_DEAD;
	do {
		if (unlikely(!atomic_load_explicit(&ctx->pid, memory_order_relaxed)))
			return SWITCH_DEAD;
		if (unlikely(atomic_load(&pub->interrupted)) && atomic_exchange(&pub->interrupted, 0))
			return SWITCH_INTERRUPT;
		why = run(ctx, as);
	} while (why == SWITCH_AGAIN);
	return why;
}
