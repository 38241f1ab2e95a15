/*
 * The machine's vCPUs. A context takes one for each stay in the guest and keeps it, idle, until another context has need
 * of it; the FPU state is in the vCPU of its owner, all other registers are in the context.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/kvm/kvm_priv.h"

enum {
	MSR_TSC = 0x10, MSR_STAR = 0xc0000081, MSR_LSTAR, MSR_CSTAR, MSR_SFMASK,
	/* TF, IF, DF, IOPL, NT, RF, AC: as Linux clears them */
	SFMASK = 0x57700,
	TSS_OFFSET = 0x800, TSS_LIMIT = 0x67, TSS_RSP0 = 4, TSS_IST1 = 0x24, TSS_IO_BITMAP = 0x66,
	SLICE_NS = 10000000,
};

static void segment(struct kvm_segment *s, uint16_t selector, uint8_t type, uint8_t dpl, bool is_long)
{
	*s = (struct kvm_segment){ .selector = selector, .type = type, .present = 1, .dpl = dpl, .l = is_long,
				   .db = !is_long, .s = 1, .g = 1, .limit = UINT32_MAX };
}

/* Code segment of the guest's user mode. */
void kv_segment_code(struct kvm_segment *s, bool is_long)
{
	segment(s, is_long ? KV_USER_CS : KV_USER_CS32, 0xb, 3, is_long);
}

/* Data segment of the guest's user mode: flat, or the null selector with a base. */
void kv_segment_data(struct kvm_segment *s, bool flat, uint64_t base)
{
	segment(s, KV_USER_SS, 3, 3, false);
	s->base = base;
	if (!flat) {
		s->selector = 0;
		s->type = 1;
		s->unusable = 1;
		s->present = 0;
	}
}

static uint64_t cpu_address(const struct kv_vcpu *v)
{
	return KV_CPU + v->index * (uint64_t)KV_CPU_SIZE;
}

/* The control registers and tables of a vCPU, in user mode; no root yet. */
static void sregs_init(const struct kv_platform *p, struct kv_vcpu *v)
{
	struct kvm_sregs *s = &v->run->s.regs.sregs;

	s->cr0 = R0_CR0;
	s->cr4 = p->cr4;
	s->efer = 0xd01; /* SCE LME LMA NXE */
	s->cr8 = 0;
	kv_segment_code(&s->cs, true);
	kv_segment_data(&s->ss, true, 0);
	s->tr = (struct kvm_segment){ .selector = KV_TR, .type = 0xb, .present = 1, .limit = TSS_LIMIT,
				      .base = cpu_address(v) + TSS_OFFSET };
	s->ldt = (struct kvm_segment){ .unusable = 1, .type = 2 };
	s->gdt = (struct kvm_dtable){ .base = cpu_address(v), .limit = KV_TR + 15 };
	s->idt = (struct kvm_dtable){ .base = KV_IDT, .limit = 256 * 16 - 1 };
	memset(s->interrupt_bitmap, 0, sizeof(s->interrupt_bitmap));
}

/* The GDT and TSS page. Accessed and busy bits are set already, since the processor cannot write there. */
static void cpu_page_fill(const struct kv_vcpu *v, uint8_t *page)
{
	const uint64_t tss = cpu_address(v) + TSS_OFFSET, stack = cpu_address(v) + KV_CPU_STACK_END;
	const uint16_t no_bitmap = TSS_LIMIT + 1;
	uint64_t *gdt = (uint64_t *)(void *)page;

	gdt[KV_KERNEL_CS / 8] = 0x00af9b000000ffff;
	gdt[KV_KERNEL_SS / 8] = 0x00cf93000000ffff;
	gdt[KV_USER_CS32 / 8] = 0x00cffb000000ffff;
	gdt[KV_USER_SS / 8] = 0x00cff3000000ffff;
	gdt[KV_USER_CS / 8] = 0x00affb000000ffff;
	gdt[KV_TR / 8] = 0x8b0000000067 | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56;
	gdt[KV_TR / 8 + 1] = tss >> 32;
	memcpy(page + TSS_OFFSET + TSS_RSP0, &stack, sizeof(stack));
	memcpy(page + TSS_OFFSET + TSS_IST1, &stack, sizeof(stack));
	memcpy(page + TSS_OFFSET + TSS_IO_BITMAP, &no_bitmap, sizeof(no_bitmap));
}

/* Everything about a vCPU that no later entry sets: also after an exit that leaves its state in doubt. */
static int vcpu_reset(struct kv_platform *p, struct kv_vcpu *v)
{
	const uint64_t stub = cpu_address(v) + KV_CPU_STUB, stub32 = stub + (uint64_t)(kv_r0_stub32 - kv_r0_stub);
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry[4];
	} msrs = { .head.nmsrs = 4,
		   .entry = { { .index = MSR_STAR, .data = (uint64_t)KV_KERNEL_CS << 32 | (uint64_t)KV_USER_CS32 << 48 },
			      { .index = MSR_LSTAR, .data = p->ring0 ? stub : KV_SYSCALL },
			      { .index = MSR_CSTAR, .data = p->ring0 ? stub32 : KV_SYSCALL32 },
			      { .index = MSR_SFMASK, .data = SFMASK } } };
	struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs[0].value = p->xcr0 };
	struct kvm_vcpu_events events = { 0 };
	struct kvm_sregs *s = &v->run->s.regs.sregs;

	if (ioctl(v->fd, KVM_GET_SREGS, s) < 0)
		return -errno;
	sregs_init(p, v);
	s->cr3 = p->kernel_root;
	if (ioctl(v->fd, KVM_SET_SREGS, s) < 0 || ioctl(v->fd, KVM_SET_MSRS, &msrs) != 4 ||
	    ioctl(v->fd, KVM_SET_XCRS, &xcrs) < 0 || ioctl(v->fd, KVM_SET_VCPU_EVENTS, &events) < 0)
		return errno ? -errno : -EINVAL;
	v->doubtful = false;
	return 0;
}

/*
 * The time stamp counter shows the host's value, which the clocks of the sentry and of the guest's vDSO count on. Before Linux
 * 5.16 it can only be set, which is a few hundred ns late; KVM gives all vCPUs of a machine the same offset then. 0 or -errno.
 */
static int show_host_counter(struct kv_vcpu *v)
{
	uint64_t offset = 0;
	struct kvm_device_attr tsc = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
				       .addr = (uint64_t)(uintptr_t)&offset };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry.index = MSR_TSC };

	if (ioctl(v->fd, KVM_SET_DEVICE_ATTR, &tsc) == 0)
		return 0;
	msr.entry.data = __builtin_ia32_rdtsc();
	return ioctl(v->fd, KVM_SET_MSRS, &msr) == 1 ? 0 : -EOPNOTSUPP;
}

/* All that a new vCPU is besides its descriptor and run area. 0 or -errno. */
static int vcpu_prepare(struct kv_platform *p, struct kv_vcpu *v)
{
	struct {
		struct kvm_signal_mask head;
		uint32_t blocked[2]; /* in the guest: everything but the kick */
	} mask = { .head.len = sizeof(mask.blocked), .blocked = { ~(1u << (KV_KICK_SIGNAL - 1)), UINT32_MAX } };
	uint8_t *page = p->kernel + (cpu_address(v) - KV_KERNEL);
	int err;

	cpu_page_fill(v, page);
	v->stack_end = (const uint64_t *)(void *)(page + KV_CPU_STACK_END);
	err = kv_kernel_map(p, cpu_address(v), KV_PAGE, false, false);
	if (err == 0)
		err = kv_kernel_map(p, cpu_address(v) + KV_PAGE, KV_PAGE, true, false);
	if (err == 0 && p->ring0)
		err = kv_ring0_vcpu_new(p, v);
	if (err == 0)
		err = show_host_counter(v);
	if (err == 0 && (ioctl(v->fd, KVM_SET_CPUID2, p->cpuid) < 0 || ioctl(v->fd, KVM_SET_SIGNAL_MASK, &mask) < 0))
		err = -errno;
	if (err == 0)
		err = vcpu_reset(p, v);
	v->run->kvm_valid_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
	return err;
}

/*
 * A new vCPU, idle, for ctx, which has none. p->grow_mu is held and vcpu_mu is not: this takes locks (malloc's, kv_platform.mu) that
 * a thread in ring 0 may hold, which has need of vcpu_mu on its way out. 0 or -errno.
 */
static int vcpu_new(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;
	struct kv_vcpu *v = calloc(1, sizeof(*v));
	int err;

	if (!v)
		return -ENOMEM;
	v->index = p->vcpu_count;
	v->fd = ioctl(p->vm_fd, KVM_CREATE_VCPU, (unsigned long)v->index);
	if (v->fd < 0) {
		err = -errno;
		free(v);
		return err;
	}
	v->run = mmap(NULL, p->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		err = -errno;
		close(v->fd);
		free(v);
		return err;
	}
	err = vcpu_prepare(p, v);
	GUARD(mutex, &p->vcpu_mu);
	p->vcpu[p->vcpu_count++] = v; /* its number is used up, even if nobody looks at it again */
	v->busy = err < 0;
	if (err == 0) {
		v->owner = ctx;
		ctx->vcpu = v;
		ctx->fpu_fresh = true;
	}
	return err;
}

/* Whether ctx needs a vCPU, all have owners, and there may be more. */
static bool vcpu_wanted(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;

	GUARD(mutex, &p->vcpu_mu);
	if (ctx->vcpu || p->vcpu_count >= p->vcpus_max)
		return false;
	for (uint32_t i = 0; i < p->vcpu_count; i++)
		if (!p->vcpu[i]->owner && !p->vcpu[i]->busy)
			return false;
	return true;
}

/* Makes a vCPU for ctx if it should have a new one. */
static int vcpu_grow(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;
	int err;

	if (likely(!vcpu_wanted(ctx)))
		return 0;
	GUARD(mutex, &p->grow_mu);
	if (!vcpu_wanted(ctx)) /* others were before us */
		return 0;
	err = vcpu_new(ctx);
	if (err < 0)
		log_debug("kvm: no vCPU %u: %d", p->vcpu_count, err);
	return err;
}

/* Takes v away from its owner, whose FPU state moves to the context. p->vcpu_mu is held; v is idle. 0 or -errno. */
static int vcpu_steal_locked(struct kv_vcpu *v)
{
	struct kv_context *from = v->owner;

	if (!from)
		return 0;
	if (!from->fpu)
		from->fpu = malloc(sizeof(struct kvm_xsave));
	if (!from->fpu)
		return -ENOMEM;
	if (!from->fpu_fresh && ioctl(v->fd, KVM_GET_XSAVE, from->fpu) < 0)
		return -errno;
	if (!from->fpu_fresh)
		from->fpu_size = 0;
	from->fpu_fresh = true;
	from->vcpu = NULL;
	v->owner = NULL;
	return 0;
}

/* An idle vCPU without owner, or NULL with *ret_err; 0: all are busy. */
static struct kv_vcpu *vcpu_find_locked(struct kv_platform *p, int *ret_err)
{
	*ret_err = 0;
	for (uint32_t i = 0; i < p->vcpu_count; i++)
		if (!p->vcpu[i]->owner && !p->vcpu[i]->busy)
			return p->vcpu[i];
	for (uint32_t i = 0; i < p->vcpu_count; i++) {
		struct kv_vcpu *v = p->vcpu[p->vcpu_hand++ % p->vcpu_count];

		if (v->busy)
			continue;
		*ret_err = vcpu_steal_locked(v);
		return *ret_err == 0 ? v : NULL;
	}
	return NULL;
}

/* Asks some owner to give its vCPU back. */
static void vcpu_press_locked(struct kv_platform *p)
{
	struct kv_vcpu *v = p->vcpu[p->vcpu_hand++ % p->vcpu_count];

	if (v->owner && v->busy) {
		atomic_store(&v->owner->yield, 1);
		kv_context_kick(v->owner);
	}
}

/* Waits until a vCPU may be free, for a slice of time at most; with after_you somebody else goes first. */
static void vcpu_wait_locked(struct kv_platform *p, bool after_you)
{
	if (after_you)
		cond_signal(&p->vcpu_free);
	p->vcpu_waiters++;
	if (cond_wait_until(&p->vcpu_free, &p->vcpu_mu, host_monotonic_ns() + SLICE_NS) < 0)
		vcpu_press_locked(p);
	p->vcpu_waiters--;
}

static int vcpu_load_fpu(struct kv_context *ctx)
{
	struct kv_vcpu *v = ctx->vcpu;
	struct kvm_xsave initial;
	void *state = ctx->fpu ? ctx->fpu : &initial;

	if (!ctx->fpu_fresh)
		return 0;
	if (!ctx->fpu)
		host_fpu_initial(state, sizeof(initial));
	kv_fpu_complete(ctx->platform, state);
	ctx->fpu_fresh = false;
	return ioctl(v->fd, KVM_SET_XSAVE, state) < 0 ? -errno : 0;
}

/*
 * Gives ctx a vCPU with its FPU state; nobody takes it away until kv_vcpu_give_back. Task thread; waits while all are
 * busy, which each is for a slice of time at most when others wait. 0 or -errno.
 */
int kv_vcpu_take(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;
	int grown = ctx->vcpu ? 0 : vcpu_grow(ctx), err = 0; /* a second look at ctx->vcpu is under the lock */

	GUARD(mutex, &p->vcpu_mu);
	if (!p->vcpu_count)
		return grown;
	if (unlikely(atomic_exchange(&ctx->yield, 0)) && ctx->vcpu && p->vcpu_waiters && vcpu_steal_locked(ctx->vcpu) == 0)
		vcpu_wait_locked(p, true);
	while (!ctx->vcpu) {
		struct kv_vcpu *v = vcpu_find_locked(p, &err);

		if (err < 0)
			return err;
		if (v) {
			v->owner = ctx;
			ctx->vcpu = v;
			ctx->fpu_fresh = true;
			break;
		}
		vcpu_wait_locked(p, false);
	}
	ctx->vcpu->busy = true;
	if (unlikely(ctx->vcpu->doubtful))
		err = vcpu_reset(p, ctx->vcpu);
	if (err == 0 && unlikely(ctx->fpu_fresh) && !p->ring0) /* ring 0 loads it itself */
		err = vcpu_load_fpu(ctx);
	if (err < 0)
		ctx->vcpu->busy = false;
	return err;
}

/* The vCPU is idle again, still ctx's, unless another context waits for one. */
void kv_vcpu_give_back(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;

	GUARD(mutex, &p->vcpu_mu);
	ctx->vcpu->busy = false;
	if (unlikely(p->vcpu_waiters))
		cond_signal(&p->vcpu_free);
}

/* ctx ends: its vCPU is free and its state lost. */
void kv_vcpu_forget(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;

	GUARD(mutex, &p->vcpu_mu);
	if (!ctx->vcpu)
		return;
	ctx->vcpu->owner = NULL;
	ctx->vcpu = NULL;
	if (p->vcpu_waiters)
		cond_signal(&p->vcpu_free);
}

/* Closes all vCPUs; no context is left. */
void kv_vcpus_close(struct kv_platform *p)
{
	for (uint32_t i = 0; i < p->vcpu_count; i++) {
		munmap(p->vcpu[i]->run, p->run_size);
		close(p->vcpu[i]->fd);
		free(p->vcpu[i]);
	}
}
