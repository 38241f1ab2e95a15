/* x86-64 signal frames: arch/x86/kernel/signal_64.c's layout, from asm/sigcontext.h's structs. */
#include "sentry/arch/sigframe.h"

#include <cpuid.h>
#include <string.h>
#include <sys/auxv.h>

#define SA_ONSTACK_ 0x08000000u
#define SA_RESTORER_ 0x04000000u
#define SS_DISABLE_ 2
#define SS_ONSTACK_ 1
#define SS_AUTODISARM_ (1u << 31)
#define RED_ZONE 128
#define USER_CS 0x33
#define USER_SS 0x2b

#define FLAG_TF 0x100u
#define FLAG_DF 0x400u
#define FLAG_RF 0x10000u
/* What a program may set itself: AC OF DF TF SF ZF AF PF CF and RF. */
#define FLAGS_USER 0x50dd5u
#define FLAGS_FIXED 0x202u

#define UC_FP_XSTATE_ 1
#define UC_SIGCONTEXT_SS_ 2
#define UC_STRICT_RESTORE_SS_ 4
#define FP_MAGIC1 0x46505853u
#define FP_MAGIC2 0x46505845u
#define FXSAVE_SIZE 512u
#define XSAVE_HEADER 64u

struct frame_sigcontext {
	uint64_t r8, r9, r10, r11, r12, r13, r14, r15, di, si, bp, bx, dx, ax, cx, sp, ip, flags;
	uint16_t cs, gs, fs, ss;
	uint64_t err, trapno, oldmask, cr2, fpstate, reserved[8];
};
struct frame_stack {
	uint64_t sp;
	int32_t flags, pad;
	uint64_t size;
};
struct frame_ucontext {
	uint64_t flags, link;
	struct frame_stack stack;
	struct frame_sigcontext mc;
	uint64_t sigmask;
};
struct rt_sigframe {
	uint64_t restorer;
	struct frame_ucontext uc;
	uint8_t info[128];
};
_Static_assert(sizeof(struct frame_sigcontext) == 256, "struct sigcontext");
_Static_assert(sizeof(struct frame_ucontext) == 304, "struct ucontext");
_Static_assert(sizeof(struct rt_sigframe) == 440, "struct rt_sigframe");

/* fx_sw_bytes, at the end of the legacy area. */
struct fx_sw {
	uint32_t magic1, extended_size;
	uint64_t xfeatures;
	uint32_t xstate_size, padding[7];
};
_Static_assert(sizeof(struct fx_sw) == 48, "struct _fpx_sw_bytes");
#define FX_SW_OFFSET 464u

static uint64_t xcr0_bits;
static uint32_t xsave_size;

/*
 * What Linux gives to those who ask by arch_prctl(ARCH_REQ_XCOMP_PERM): tile data, 8 KiB that would not fit on the signal
 * stacks of old programs. Nobody has asked the host for it, so instructions that use it end in SIGILL there,
 * and the guest is a machine whose kernel does not know it: no frame has room for it, and permission is refused.
 */
#define FEATURES_BY_PERMISSION (1ull << 18)

/* The end of the last component of features in an image of the standard form. */
static uint32_t image_size(uint64_t features)
{
	uint32_t size = FXSAVE_SIZE + XSAVE_HEADER, a, b, c, d;

	for (uint32_t i = 2; i < 63; i++) {
		if ((features >> i & 1) && __get_cpuid_count(13, i, &a, &b, &c, &d))
			size = MAX(size, b + a);
	}
	return size;
}

/* Asked once, before main: cpuid costs a virtual machine exit. */
__attribute__((constructor)) static void read_features(void)
{
	uint32_t lo, hi, a, b, c, d;

	xcr0_bits = 3;
	xsave_size = FXSAVE_SIZE + XSAVE_HEADER;
	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	xcr0_bits = ((uint64_t)hi << 32 | lo) & ~FEATURES_BY_PERMISSION;
	xsave_size = image_size(xcr0_bits);
}

/* User state components that the guest has. */
static uint64_t xcr0(void)
{
	return xcr0_bits;
}

static uint32_t xstate_size(void)
{
	return xsave_size;
}

uint64_t arch_fpu_features(void)
{
	return xcr0();
}

size_t arch_fpu_size(void)
{
	return xstate_size();
}

size_t arch_min_sigstack(void)
{
	return sizeof(struct rt_sigframe) + xstate_size() + 4 + 64 + RED_ZONE;
}

uint64_t arch_hwcap(void)
{
	return getauxval(AT_HWCAP);
}

uint64_t arch_hwcap2(void)
{
	/* Bit 1: FSGSBASE works in user mode. Bit 0 (ring 3 MONITOR) is left out. */
	return getauxval(AT_HWCAP2) & 2;
}

size_t arch_fpu_initial(uint8_t *buf, size_t size)
{
	static const uint16_t fcw = 0x37f;
	static const uint32_t mxcsr = 0x1f80;
	uint32_t want = xstate_size();

	BUG_ON(size < want);
	memset(buf, 0, want);
	memcpy(buf, &fcw, sizeof(fcw));
	memcpy(buf + 24, &mxcsr, sizeof(mxcsr));
	return want;
}

bool arch_on_altstack(const struct arch_altstack *a, uint64_t sp)
{
	if ((uint32_t)a->flags & SS_AUTODISARM_)
		return false;
	return sp > a->sp && sp - a->sp <= a->size;
}

void arch_regs_exec(struct guest_regs *regs, uint64_t entry, uint64_t sp)
{
	*regs = (struct guest_regs){ .rip = entry,
				     .rsp = sp,
				     .cs = USER_CS,
				     .ss = USER_SS,
				     .eflags = FLAGS_FIXED,
				     .orig_rax = UINT64_MAX };
}

void arch_regs_sanitise(struct guest_regs *regs)
{
	regs->cs = USER_CS;
	regs->ss = USER_SS;
	regs->ds = regs->es = regs->fs = regs->gs = 0;
	regs->eflags = (regs->eflags & FLAGS_USER) | FLAGS_FIXED;
}

/* Writes the FPU image with its software bytes and end mark at addr. */
static int write_fpstate(struct umem *um, uint64_t addr, const uint8_t *fpu, uint32_t size)
{
	struct fx_sw sw = { .magic1 = FP_MAGIC1,
			    .extended_size = size + 4,
			    .xfeatures = xcr0(),
			    .xstate_size = size };
	uint32_t magic2 = FP_MAGIC2;

	if (copy_out(um, UADDR(addr), fpu, FX_SW_OFFSET) < 0 ||
	    copy_out(um, UADDR(addr + FX_SW_OFFSET), &sw, sizeof(sw)) < 0 ||
	    copy_out(um, UADDR(addr + FXSAVE_SIZE), fpu + FXSAVE_SIZE, size - FXSAVE_SIZE) < 0)
		return -EFAULT;
	return copy_out(um, UADDR(addr + size), &magic2, sizeof(magic2));
}

static void fill_sigcontext(struct frame_sigcontext *mc, const struct guest_regs *r)
{
	*mc = (struct frame_sigcontext){
		.r8 = r->r8, .r9 = r->r9, .r10 = r->r10, .r11 = r->r11,
		.r12 = r->r12, .r13 = r->r13, .r14 = r->r14, .r15 = r->r15,
		.di = r->rdi, .si = r->rsi, .bp = r->rbp, .bx = r->rbx,
		.dx = r->rdx, .ax = r->rax, .cx = r->rcx, .sp = r->rsp,
		.ip = r->rip, .flags = r->eflags, .cs = USER_CS, .ss = USER_SS,
	};
}

int arch_signal_frame(struct umem *um, const struct arch_signal *s, struct guest_regs *regs)
{
	struct rt_sigframe f = { .restorer = s->restorer };
	uint64_t sp = regs->rsp - RED_ZONE, fp = 0, frame;
	bool on_alt = arch_on_altstack(&s->altstack, regs->rsp);
	bool nested = on_alt;

	if (!(s->flags & SA_RESTORER_))
		return -EFAULT;
	if ((s->flags & SA_ONSTACK_) && !on_alt && s->altstack.size &&
	    !(s->altstack.flags & SS_DISABLE_)) {
		sp = s->altstack.sp + s->altstack.size;
		on_alt = true;
	}
	if (s->fpu_size) {
		fp = (sp - (s->fpu_size + 4)) & ~63ull;
		sp = fp;
	}
	frame = ((sp - sizeof(f)) & ~15ull) - 8;
	/* Overflowing the alternate stack must not run into what lies below it. */
	if (on_alt && (frame < s->altstack.sp || frame - s->altstack.sp > s->altstack.size) &&
	    (nested || (s->flags & SA_ONSTACK_)))
		return -EFAULT;
	if (fp && write_fpstate(um, fp, s->fpu, (uint32_t)s->fpu_size) < 0)
		return -EFAULT;
	fill_sigcontext(&f.uc.mc, regs);
	f.uc.mc.err = s->trap.err;
	f.uc.mc.trapno = s->trap.trapno;
	f.uc.mc.cr2 = s->trap.cr2;
	f.uc.mc.oldmask = s->mask;
	f.uc.mc.fpstate = fp;
	f.uc.flags = (fp ? UC_FP_XSTATE_ : 0) | UC_SIGCONTEXT_SS_ | UC_STRICT_RESTORE_SS_;
	f.uc.stack = (struct frame_stack){ .sp = s->altstack.sp,
					   .flags = s->altstack.flags |
						    (nested ? SS_ONSTACK_ : 0),
					   .size = s->altstack.size };
	f.uc.sigmask = s->mask;
	memcpy(f.info, s->info, sizeof(f.info));
	if (copy_out_struct(um, UADDR(frame), &f) < 0)
		return -EFAULT;
	regs->rdi = (uint64_t)s->signo;
	regs->rsi = frame + offsetof(struct rt_sigframe, info);
	regs->rdx = frame + offsetof(struct rt_sigframe, uc);
	regs->rax = 0;
	regs->rip = s->handler;
	regs->rsp = frame;
	regs->cs = USER_CS;
	regs->ss = USER_SS;
	regs->eflags &= ~(uint64_t)(FLAG_DF | FLAG_RF | FLAG_TF);
	regs->orig_rax = UINT64_MAX;
	return 0;
}

/* The largest mxcsr this processor takes; bits beyond fault when loaded. */
#define MXCSR_MASK 0xffffu

void arch_fpu_sanitise(uint8_t *image, size_t size, size_t given)
{
	uint32_t mxcsr;
	uint64_t bv;

	memcpy(&mxcsr, image + 24, sizeof(mxcsr));
	mxcsr &= MXCSR_MASK;
	memcpy(image + 24, &mxcsr, sizeof(mxcsr));
	if (size < FXSAVE_SIZE + XSAVE_HEADER)
		return;
	memcpy(&bv, image + FXSAVE_SIZE, sizeof(bv));
	if (given <= FXSAVE_SIZE)
		bv |= 3;
	bv &= xcr0();
	memset(image + FX_SW_OFFSET, 0, sizeof(struct fx_sw));
	memset(image + FXSAVE_SIZE, 0, XSAVE_HEADER);
	memcpy(image + FXSAVE_SIZE, &bv, sizeof(bv));
}

static int read_fpstate(struct umem *um, uint64_t addr, struct arch_sigreturn *ret)
{
	struct fx_sw sw;
	uint64_t features = xcr0(), bv;
	uint32_t mxcsr, size = xstate_size(), magic2 = 0;
	uint8_t *h = ret->fpu + FXSAVE_SIZE;

	if (ret->fpu_max < size)
		return -EFAULT;
	memset(ret->fpu, 0, size);
	if (copy_in(um, ret->fpu, UADDR(addr), FXSAVE_SIZE) < 0)
		return -EFAULT;
	memcpy(&sw, ret->fpu + FX_SW_OFFSET, sizeof(sw));
	memcpy(&mxcsr, ret->fpu + 24, sizeof(mxcsr));
	mxcsr &= MXCSR_MASK;
	memcpy(ret->fpu + 24, &mxcsr, sizeof(mxcsr));
	bv = 3;
	if (sw.magic1 == FP_MAGIC1 && sw.xstate_size >= FXSAVE_SIZE + XSAVE_HEADER &&
	    sw.xstate_size <= size && sw.extended_size >= sw.xstate_size + 4 &&
	    copy_in(um, &magic2, UADDR(addr + sw.xstate_size), sizeof(magic2)) == 0 &&
	    magic2 == FP_MAGIC2) {
		if (copy_in(um, h, UADDR(addr + FXSAVE_SIZE), sw.xstate_size - FXSAVE_SIZE) < 0)
			return -EFAULT;
		memcpy(&bv, h, sizeof(bv));
		bv &= features & sw.xfeatures;
	}
	memset(ret->fpu + FX_SW_OFFSET, 0, sizeof(sw));
	memset(h, 0, XSAVE_HEADER);
	memcpy(h, &bv, sizeof(bv));
	ret->fpu_size = size;
	return 0;
}

int arch_signal_return(struct umem *um, const struct guest_regs *regs, struct arch_sigreturn *ret)
{
	struct rt_sigframe f;
	const struct frame_sigcontext *mc = &f.uc.mc;
	struct guest_regs *r = &ret->regs;

	if (copy_in_struct(um, &f, UADDR(regs->rsp - 8)) < 0)
		return -EFAULT;
	*r = *regs;
	r->r8 = mc->r8, r->r9 = mc->r9, r->r10 = mc->r10, r->r11 = mc->r11;
	r->r12 = mc->r12, r->r13 = mc->r13, r->r14 = mc->r14, r->r15 = mc->r15;
	r->rdi = mc->di, r->rsi = mc->si, r->rbp = mc->bp, r->rbx = mc->bx;
	r->rdx = mc->dx, r->rax = mc->ax, r->rcx = mc->cx;
	r->rsp = mc->sp;
	r->rip = mc->ip;
	r->eflags = (mc->flags & FLAGS_USER) | FLAGS_FIXED;
	r->cs = USER_CS;
	r->ss = USER_SS;
	r->orig_rax = UINT64_MAX;
	ret->mask = f.uc.sigmask;
	ret->altstack = (struct arch_altstack){ f.uc.stack.sp, f.uc.stack.size, f.uc.stack.flags };
	ret->fpu_size = 0;
	return mc->fpstate ? read_fpstate(um, mc->fpstate, ret) : 0;
}
