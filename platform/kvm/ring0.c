/*
 * Ring-0 mode: the sentry's own C code runs in the guest's ring 0 between a guest's event and the next call of the host.
 *
 * The thread that runs a guest goes on in ring 0 on its own stack, at its own addresses: page tables of every space show
 * the sentry's half at the same place. Whenever the vCPU comes back for a reason that ring 0 does not see to itself, the thread
 * takes the registers over and goes on right there as an ordinary process. So C code may be anywhere when that happens, and what
 * is called here on the way (kv_ring0_loop) must take no lock that code in ring 0 may hold: none but vcpu_mu and chunk_mu.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/audit.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "platform/base/log.h"
#include "platform/host/processor.h"
#include "platform/kvm/kvm_priv.h"

enum {
	ROOT_ENTRIES = KV_R0_ROOT_END - KV_R0_ROOT_FIRST,
	ENTRIES = 512,
	TABLES_MAX = ROOT_ENTRIES + KV_R0_CHUNKS_MAX + 16,
	EXIT_STACK = 32768,
	VEC_PAGE_FAULT = 14, VEC_PROTECTION = 13,
	XSAVE_MAX = 4096,
	C_XFEATURES = 0xe7, /* x87, SSE, AVX, AVX-512: what C code can have in registers */
	TRAP_FLAG = 0x100,
	BIT_SMEP = 1 << 7, BIT_SMAP = 1 << 20, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21,
};
static const uint64_t LARGE = 2ull << 20, PTE_LARGE = 1ull << 7, USER_FLAGS = 0x244dd5;
static const uint64_t PLAIN = PTE_PRESENT | PTE_WRITE | PTE_ACCESSED | PTE_DIRTY;

struct kv_ring0 {
	uint64_t *tables;      /* TABLES_MAX pages at KV_GPA_R0_TABLES; the first ROOT_ENTRIES are in every root */
	struct mutex chunk_mu; /* protects the tables and what follows; nothing is taken under it */
	uint32_t table_count, chunk_count;
	_Atomic uint8_t present[(KV_R0_WINDOW_END - KV_R0_WINDOW) / KV_R0_CHUNK];
};

/* The data page of a vCPU: offsets R0_* of layout.h. */
struct r0_data {
	struct guest_regs *regs;
	uint64_t c_sp, fs, user_sp;
	void *fpu;
	uint64_t xmask;
	uint32_t fpu_saved, c_fpu, kicked, mxcsr;
};

struct r0_event {
	uint64_t code, error; /* R0_* or a vector */
};
_Static_assert(offsetof(struct r0_data, c_sp) == R0_CSP && offsetof(struct r0_data, fs) == R0_FS &&
	       offsetof(struct r0_data, user_sp) == R0_USER_SP && offsetof(struct r0_data, fpu) == R0_FPU &&
	       offsetof(struct r0_data, xmask) == R0_XMASK && offsetof(struct r0_data, fpu_saved) == R0_FPU_SAVED &&
	       offsetof(struct r0_data, c_fpu) == R0_C_FPU && offsetof(struct r0_data, kicked) == R0_KICKED &&
	       offsetof(struct r0_data, mxcsr) == R0_MXCSR, "as ring0.S has it");

/* The exception stack of a vCPU, at its end, as the handlers leave it for C code's exceptions. */
struct r0_frame {
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

struct r0_event kv_ring0_user(struct r0_data *data);
void kv_ring0_enter(struct kv_context *ctx, void *exit_stack, uint64_t *ret_sp);
_Noreturn void kv_ring0_resume(const struct kvm_regs *regs, const void *fpu, uint64_t mask, bool call);
extern const char kv_ring0_window[], kv_ring0_user_end[], kv_ring0_user_out[], kv_ring0_entered[];
extern const char __executable_start[], etext[];

static uint64_t fs_base(void)
{
	uint64_t base;

	__asm__ volatile("rdfsbase %0" : "=r"(base));
	return base;
}

static struct r0_data *data_of(const struct kv_platform *p, const struct kv_vcpu *v)
{
	return (struct r0_data *)(void *)(p->kernel + (KV_CPU - KV_KERNEL) + v->index * (uint64_t)KV_CPU_SIZE + KV_CPU_DATA);
}

/* ---- the mirror ---- */

static bool in_window(uint64_t addr)
{
	return addr >= KV_R0_WINDOW && addr < KV_R0_WINDOW_END;
}

/* True when [addr, addr + size) holds code of ours: everything else cannot be executed in ring 0. */
static bool has_code(uint64_t addr, uint64_t size)
{
	const uint64_t vdso = getauxval(AT_SYSINFO_EHDR);

	return (addr + size > (uint64_t)(uintptr_t)__executable_start && addr < (uint64_t)(uintptr_t)etext) ||
	       (addr + size > vdso && addr < vdso + 2 * KV_PAGE);
}

static uint64_t *table_new(struct kv_ring0 *r, uint64_t *ret_gpa)
{
	if (r->table_count == TABLES_MAX)
		return NULL;
	*ret_gpa = KV_GPA_R0_TABLES + r->table_count * KV_PAGE;
	return r->tables + r->table_count++ * (size_t)ENTRIES;
}

/* The chunk's lower tables: large pages, small ones around code. False when there is no table left. */
static bool chunk_fill(struct kv_ring0 *r, uint64_t start, uint64_t gpa, uint64_t *ret_entry)
{
	uint64_t at, *large = table_new(r, &at), small_at;

	if (!large)
		return false;
	for (uint64_t i = 0; i < ENTRIES; i++) {
		uint64_t addr = start + i * LARGE, *small;

		large[i] = (gpa + i * LARGE) | PLAIN | PTE_LARGE | PTE_NX;
		if (!has_code(addr, LARGE))
			continue;
		small = table_new(r, &small_at);
		if (!small)
			return false;
		for (uint64_t j = 0; j < ENTRIES; j++)
			small[j] = (gpa + i * LARGE + j * KV_PAGE) | PLAIN | (has_code(addr + j * KV_PAGE, KV_PAGE) ? 0 : PTE_NX);
		large[i] = small_at | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
	}
	*ret_entry = at | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
	return true;
}

/*
 * Mirrors the chunk around an address of the sentry. Permissions are the host's: KVM maps a page of the chunk as the sentry has it
 * mapped, and takes it away when that changes. On the host only. False when that is impossible; whoever needs the address
 * in ring 0 then goes on on the host.
 */
static bool mirror(struct kv_platform *p, uint64_t addr)
{
	struct kv_ring0 *r = p->ring0;
	uint64_t index = (addr - KV_R0_WINDOW) / KV_R0_CHUNK, start, size = KV_R0_CHUNK, entry = 0, gpa;

	if (!in_window(addr))
		return false;
	if (likely(atomic_load_explicit(&r->present[index], memory_order_acquire)))
		return true;
	GUARD(mutex, &r->chunk_mu);
	if (atomic_load(&r->present[index]))
		return true;
	if (r->chunk_count == KV_R0_CHUNKS_MAX)
		return false;
	start = KV_R0_WINDOW + index * KV_R0_CHUNK;
	if (start + size == KV_R0_WINDOW_END)
		size -= KV_PAGE; /* nobody can map the last page */
	gpa = p->chunk_gpa + r->chunk_count * (uint64_t)KV_R0_CHUNK;
	if (kv_memory_slot(p, KV_MEM_CHUNKS + r->chunk_count, gpa, size, (void *)(uintptr_t)start) < 0)
		return false;
	r->chunk_count++;
	if (!chunk_fill(r, start, gpa, &entry))
		return false;
	__atomic_store_n(r->tables + index, entry, __ATOMIC_RELEASE); /* the roots' tables lie one behind the other */
	atomic_store(&r->present[index], 1);
	return true;
}

/* Shows the sentry's half in a new root. */
void kv_ring0_root(struct kv_platform *p, struct kv_table root)
{
	if (!p->ring0)
		return;
	for (uint64_t i = 0; i < ROOT_ENTRIES; i++)
		atomic_store_explicit(&root.entry[KV_R0_ROOT_FIRST + i],
				      (KV_GPA_R0_TABLES + i * KV_PAGE) | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED,
				      memory_order_relaxed);
}

/* ---- start ---- */

/* The handlers go where the interrupt table will point. */
void kv_ring0_kernel_fill(uint8_t *kernel)
{
	memcpy(kernel + (KV_R0_HANDLERS - KV_KERNEL), kv_r0_handlers, (size_t)(kv_r0_handlers_end - kv_r0_handlers));
}

/* Whether user mode can read what supervisor pages of its own page tables hold (Meltdown): then none may be there. */
static bool user_can_read_supervisor(int device_fd)
{
	enum { MSR_ARCH_CAPABILITIES = 0x10a, RDCL_NO = 1 };
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msr = { .head.nmsrs = 1, .entry.index = MSR_ARCH_CAPABILITIES };
	unsigned int a, b, c, d;

	if (!__get_cpuid(0, &a, &b, &c, &d) || b != signature_INTEL_ebx)
		return false;
	return ioctl(device_fd, KVM_GET_MSRS, &msr) != 1 || !(msr.entry.data & RDCL_NO);
}

/* Whether all of the sentry lies in the window, which is a matter of the host's layout. */
static bool sentry_fits(void)
{
	int local;
	void *heap = malloc(64);
	bool fits = in_window((uint64_t)(uintptr_t)&local) && in_window((uint64_t)(uintptr_t)heap) &&
		    in_window((uint64_t)(uintptr_t)&errno) && in_window((uint64_t)(uintptr_t)__executable_start);

	free(heap);
	return fits;
}

static uint32_t cpuid_leaf7_ebx(const struct kv_platform *p)
{
	for (uint32_t i = 0; i < p->cpuid->nent; i++)
		if (p->cpuid->entries[i].function == 7 && p->cpuid->entries[i].index == 0)
			return p->cpuid->entries[i].ebx;
	return 0;
}

/*
 * Makes the machine (of the open device) one for ring-0 mode, when processor and layout are fit for it. Before any vCPU and root.
 * 0 or -errno.
 */
int kv_ring0_open(struct kv_platform *p, int device_fd)
{
	struct kv_ring0 *r;
	int err;

	if (!p->chunk_gpa || p->xsave_size > XSAVE_MAX || !host_processor_virtualises() || user_can_read_supervisor(device_fd) ||
	    !sentry_fits())
		return 0;
	r = calloc(1, sizeof(*r));
	if (!r)
		return -ENOMEM;
	mutex_init(&r->chunk_mu, 0);
	r->table_count = ROOT_ENTRIES;
	r->tables = mmap(NULL, TABLES_MAX * KV_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	err = r->tables == MAP_FAILED ? -errno : 0;
	if (err == 0)
		err = kv_memory_slot(p, KV_MEM_R0_TABLES, KV_GPA_R0_TABLES, TABLES_MAX * KV_PAGE, r->tables);
	if (err < 0) {
		if (r->tables != MAP_FAILED)
			munmap(r->tables, TABLES_MAX * KV_PAGE);
		free(r);
		return err;
	}
	if (cpuid_leaf7_ebx(p) & BIT_SMEP)
		p->cr4 |= CR4_SMEP;
	if (cpuid_leaf7_ebx(p) & BIT_SMAP)
		p->cr4 |= CR4_SMAP;
	p->ring0 = r;
	return 0;
}

/* The machine is closed. */
void kv_ring0_close(struct kv_platform *p)
{
	if (!p->ring0)
		return;
	munmap(p->ring0->tables, TABLES_MAX * KV_PAGE);
	mutex_fini(&p->ring0->chunk_mu);
	free(p->ring0);
	p->ring0 = NULL;
}

/* The data and code pages of a new vCPU. p->grow_mu is held. 0 or -errno. */
int kv_ring0_vcpu_new(struct kv_platform *p, struct kv_vcpu *v)
{
	const uint64_t at = KV_CPU + v->index * (uint64_t)KV_CPU_SIZE;
	struct r0_data *d = data_of(p, v);
	int err;

	d->xmask = p->xcr0;
	d->mxcsr = 0x1f80;
	memcpy((char *)d + (KV_CPU_STUB - KV_CPU_DATA), kv_r0_stub, (size_t)(kv_r0_stub_end - kv_r0_stub));
	err = kv_kernel_map(p, at + KV_CPU_DATA, KV_PAGE, true, false);
	return err < 0 ? err : kv_kernel_map(p, at + KV_CPU_STUB, KV_PAGE, false, true);
}

/* What a context needs besides: memory for its FPU state at any time, and a stack for the way out. 0 or -ENOMEM. */
int kv_ring0_context_new(struct kv_context *ctx)
{
	if (!ctx->platform->ring0)
		return 0;
	ctx->exit_stack = aligned_alloc(64, EXIT_STACK);
	ctx->fpu = aligned_alloc(64, sizeof(struct kvm_xsave));
	if (!ctx->exit_stack || !ctx->fpu) {
		kv_ring0_context_free(ctx);
		return -ENOMEM;
	}
	host_fpu_initial(ctx->fpu, sizeof(struct kvm_xsave));
	ctx->fpu_fresh = true;
	return 0;
}

void kv_ring0_context_free(struct kv_context *ctx)
{
	free(ctx->exit_stack);
	free(ctx->fpu);
	ctx->fpu = ctx->exit_stack = NULL;
}

/* ---- into ring 0, and back onto the host ---- */

/* Goes back onto the host if the calling thread is in ring 0. Whoever takes vcpu_mu, or needs the vCPU idle, has to. */
void kv_ring0_leave(struct kv_context *ctx)
{
	if (!ctx->in_ring0)
		return;
	/* The entry code takes any call from here for one of the sentry; the loop skips the one that has no number. */
	__asm__ volatile("syscall" : : "a"(-1l) : "rcx", "r11", "memory");
}

/* The vCPU's registers for C code at kv_ring0_entered. */
static void enter_regs(struct kv_context *ctx, struct kv_vcpu *v)
{
	struct kvm_sregs *s = &v->run->s.regs.sregs;

	kv_regs_to_vcpu(ctx, v, ctx->as->root.gpa);
	s->cr0 = R0_CR0 | R0_CR0_TS;
	s->cs = (struct kvm_segment){ .selector = KV_KERNEL_CS, .type = 0xb, .present = 1, .l = 1, .s = 1, .g = 1,
				      .limit = UINT32_MAX };
	s->ss = (struct kvm_segment){ .selector = KV_KERNEL_SS, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1,
				      .limit = UINT32_MAX };
	s->fs.base = fs_base();
	v->run->s.regs.regs = (struct kvm_regs){ .rip = (uint64_t)(uintptr_t)kv_ring0_entered, .rsp = ctx->enter_sp,
						 .rflags = 2 };
}

/* The thread is no longer in ring 0, and has no vCPU. Takes vcpu_mu only. */
static void step_out(struct kv_context *ctx, bool running)
{
	const struct r0_data *d = ctx->data;

	if (d->fpu_saved) {
		ctx->fpu_fresh = true;
		ctx->fpu_size = 0;
	}
	if (running)
		kv_aspace_leave(ctx->as);
	kv_vcpu_give_back(ctx);
	atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
	ctx->in_ring0 = false;
}

/* Goes on on the host with the vCPU's registers. */
static _Noreturn void resume_c(struct kv_context *ctx, const struct kvm_regs *regs, bool call, int saved_errno)
{
	_Alignas(64) uint8_t fpu[XSAVE_MAX];
	struct kvm_regs r = *regs;
	bool has_fpu = ctx->data->c_fpu;

	if (has_fpu && ioctl(ctx->vcpu->fd, KVM_GET_XSAVE, fpu) < 0)
		BUG("kvm: FPU state of the sentry is lost");
	step_out(ctx, true);
	errno = saved_errno;
	kv_ring0_resume(&r, has_fpu ? fpu : NULL, ctx->platform->xcr0 & C_XFEATURES, call);
}

/* Makes kv_ring0_user return code, on the host. */
static _Noreturn void resume_user_out(struct kv_context *ctx, unsigned int code, bool running, int saved_errno)
{
	struct kvm_regs r = { .rip = (uint64_t)(uintptr_t)kv_ring0_user_out, .rax = code,
			      .rsp = ctx->data->c_sp };

	step_out(ctx, running);
	errno = saved_errno;
	kv_ring0_resume(&r, NULL, 0, true);
}

static _Noreturn void lost(const struct kv_context *ctx, const struct kv_vcpu *v, int err)
{
	const struct kvm_regs *r = &v->run->s.regs.regs;
	const struct r0_data *d = ctx->data;
	struct r0_frame f;

	memcpy(&f, (const char *)v->stack_end - sizeof(f), sizeof(f));
	log_error("kvm: exit %u (error %d, suberror %u) in ring 0 at 0x%llx, stack 0x%llx, cr2 0x%llx; vCPU %u, root 0x%llx, its last "
		  "exception %llu (error 0x%llx) at 0x%llx; user at 0x%llx, fpu %u %u, kicked %u",
		  v->run->exit_reason, err, v->run->internal.suberror, (unsigned long long)r->rip, (unsigned long long)r->rsp,
		  (unsigned long long)v->run->s.regs.sregs.cr2, v->index, (unsigned long long)ctx->as->root.gpa,
		  (unsigned long long)f.vector, (unsigned long long)f.error, (unsigned long long)f.rip,
		  (unsigned long long)ctx->pub.regs.rip, d->fpu_saved, d->c_fpu, d->kicked);
	BUG("kvm: ring 0");
}

/* ioctl(fd, KVM_RUN) without the C library, which would write errno. 0 or -errno. */
static int run_vcpu(int fd)
{
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "a"((long)SYS_ioctl), "D"((long)fd), "S"((long)KVM_RUN), "d"(0l)
			 : "rcx", "r11", "memory");
	return (int)r;
}

static bool in_text(uint64_t rip, const char *start, const char *end)
{
	return rip >= (uint64_t)(uintptr_t)start && rip < (uint64_t)(uintptr_t)end;
}

/* An exception of C code: mirrors what it wants to touch and returns, or goes on on the host, where it meets the same again. */
static void c_fault(struct kv_context *ctx, struct kv_vcpu *v, int saved_errno)
{
	struct kvm_regs *r = &v->run->s.regs.regs;
	struct r0_frame f;

	memcpy(&f, (const char *)v->stack_end - sizeof(f), sizeof(f));
	r->rip = f.rip;
	r->rsp = f.rsp;
	r->rflags = f.rflags;
	v->run->kvm_dirty_regs = KVM_SYNC_X86_REGS;
	if (f.vector == VEC_PAGE_FAULT && !(f.error & 1) && mirror(ctx->platform, v->run->s.regs.sregs.cr2))
		return;
	if (in_text(f.rip, kv_ring0_window, kv_ring0_user_end)) {
		/* An iretq or sysretq that the processor refuses: the user's fault. */
		ctx->pub.signal = (struct platform_signal){ .signo = SIGSEGV, .code = SI_KERNEL };
		ctx->host_why = SWITCH_SIGNAL;
		v->doubtful = true;
		resume_user_out(ctx, R0_HOST, true, saved_errno);
	}
	if (!in_window(f.rip))
		lost(ctx, v, (int)f.vector);
	resume_c(ctx, r, false, saved_errno);
}

#ifdef DEBUG_LOCKS
/* What has to be true whenever the thread is about to stand in the machine, of what others could have changed. */
static void audit_entry(const struct kv_context *ctx, const struct kv_vcpu *v)
{
	const struct kv_platform *p = ctx->platform;
	const struct kv_aspace *as = ctx->as;
	const uint64_t flags = PTE_PRESENT | PTE_WRITE | PTE_USER;

	/* Nobody else has the vCPU, an interrupt finds the thread, and nobody gives the space other tables. */
	BUG_ON(!v->busy || v->owner != ctx || ctx->vcpu != v || !atomic_load(&ctx->in_guest));
	BUG_ON(!atomic_load(&as->running) || !as->root.entry);
	/* The root shows the sentry's half and the kernel half, for the supervisor only. */
	BUG_ON(as->root.entry[p->kernel_index] != p->kernel_entry || (p->kernel_entry & PTE_USER));
	for (uint64_t i = 0; i < ROOT_ENTRIES; i++) {
		uint64_t e = as->root.entry[KV_R0_ROOT_FIRST + i];

		BUG_ON((e & PTE_ADDR) != KV_GPA_R0_TABLES + i * KV_PAGE || (e & flags) != (PTE_PRESENT | PTE_WRITE));
	}
	/* What the handlers and the entry code use is this context's, and the stack in ring 0 is not the one of the way out. */
	BUG_ON(ctx->data != data_of(p, v) || ctx->data->regs != &ctx->pub.regs || ctx->data->fpu != ctx->fpu ||
	       ctx->data->fs != fs_base());
	BUG_ON(ctx->enter_sp - (uint64_t)(uintptr_t)ctx->exit_stack < EXIT_STACK);
}
#else
static inline void audit_entry(const struct kv_context *ctx, const struct kv_vcpu *v)
{
	(void)ctx, (void)v;
}
#endif

/*
 * Runs the vCPU until the thread has to go on on the host, and does that. On the exit stack; enters at kv_ring0_entered. The
 * context has a vCPU and counts as running in its space.
 */
_Noreturn void kv_ring0_loop(struct kv_context *ctx)
{
	struct kv_platform *p = ctx->platform;
	struct kv_vcpu *v = ctx->vcpu;
	struct r0_data *d = data_of(p, v);
	const uint64_t host_call = KV_CPU + v->index * (uint64_t)KV_CPU_SIZE + KV_CPU_STUB +
				   (uint64_t)(kv_r0_host_call - kv_r0_stub);
	const uint64_t fault = KV_R0_HANDLERS + (uint64_t)(kv_r0_c_fault - kv_r0_handlers);
	struct kvm_run *run = v->run;
	struct kvm_regs *r = &run->s.regs.regs;
	int saved_errno, err;

	ctx->data = d;
	d->regs = &ctx->pub.regs;
	d->fs = fs_base();
	d->fpu = ctx->fpu;
	d->fpu_saved = ctx->fpu_fresh;
	ctx->fpu_fresh = false;
	d->c_fpu = 0;
	d->kicked = 0;
	enter_regs(ctx, v);
	ctx->in_ring0 = true;
	for (;;) {
		audit_entry(ctx, v);
		err = run_vcpu(v->fd);
		saved_errno = errno; /* C code's, which may have set it in ring 0; resume_* put it back */
		if (err == -EINTR)
			kv_kick_take();
		if (run->s.regs.sregs.ss.dpl == 3) {
			kv_regs_from_vcpu(&ctx->pub.regs, run);
			kv_aspace_leave(ctx->as); /* what follows may take its lock */
			ctx->host_why = kv_exit_reason(ctx, v, err);
			resume_user_out(ctx, R0_HOST, false, saved_errno);
		}
		if (err == 0 && run->exit_reason == KVM_EXIT_HLT && r->rip == host_call) {
			bool skip = r->rax == UINT64_MAX;

			r->rip = r->rcx - (skip ? 0 : 2);
			resume_c(ctx, r, true, saved_errno);
		}
		if (err == 0 && run->exit_reason == KVM_EXIT_HLT && r->rip == fault) {
			c_fault(ctx, v, saved_errno);
			continue;
		}
		if (err != -EINTR && err != -EFAULT)
			lost(ctx, v, err);
		if (err == -EINTR && (!in_window(r->rip) || in_text(r->rip, (const char *)kv_ring0_user, kv_ring0_window))) {
			d->kicked = 1;
			continue;
		}
		v->doubtful = true; /* an event may be half delivered */
		if (in_text(r->rip, kv_ring0_window, kv_ring0_user_end))
			resume_user_out(ctx, R0_AGAIN, true, saved_errno);
		if (!in_window(r->rip))
			lost(ctx, v, err);
		resume_c(ctx, r, false, saved_errno);
	}
}

/* ---- the switch ---- */

/* Makes what the sentry has put into the registers harmless. */
static void regs_clean(struct kv_context *ctx)
{
	struct guest_regs *g = &ctx->pub.regs;

	g->cs = g->cs == KV_USER_CS32 ? KV_USER_CS32 : KV_USER_CS;
	g->ss = KV_USER_SS;
	g->eflags = (g->eflags & USER_FLAGS) | 0x202;
	if (g->fs_base >= KV_TASK_SIZE)
		g->fs_base = 0;
	if (g->gs_base >= KV_TASK_SIZE)
		g->gs_base = 0;
}

/* From the host: gets a vCPU and goes into ring 0. False with *ret_why when there is no way in. */
static bool go_in(struct kv_context *ctx, struct kv_aspace *as, enum switch_why *ret_why)
{
	struct pcontext *pub = &ctx->pub;
	struct kv_platform *p = ctx->platform;

	regs_clean(ctx);
	if (unlikely(ctx->as != as))
		kv_context_move(ctx, as);
	ctx->fpu_given = false;
	atomic_store(&ctx->in_guest, 1); /* before `interrupted` is looked at: see kv_context_interrupt */
	*ret_why = SWITCH_INTERRUPT;
	if (unlikely(atomic_load(&pub->interrupted)) && atomic_exchange(&pub->interrupted, 0))
		goto out;
	*ret_why = SWITCH_DEAD;
	/* Touched by the handlers on the exception stack: a fault there would find it in use. */
	if (!mirror(p, (uint64_t)(uintptr_t)ctx) || !mirror(p, (uint64_t)(uintptr_t)ctx->fpu) ||
	    !mirror(p, (uint64_t)(uintptr_t)ctx->fpu + sizeof(struct kvm_xsave)) || kv_vcpu_take(ctx) < 0)
		goto out;
	kv_aspace_enter(as);
	if (unlikely(atomic_load(&as->broken))) {
		kv_aspace_leave(as);
		kv_vcpu_give_back(ctx);
		goto out;
	}
	kv_ring0_enter(ctx, (uint8_t *)ctx->exit_stack + EXIT_STACK, &ctx->enter_sp);
	return true;
out:
	atomic_store_explicit(&ctx->in_guest, 0, memory_order_relaxed);
	return false;
}

/* One stay in user mode. In ring 0 before; there or on the host after. */
static enum switch_why run_user(struct kv_context *ctx)
{
	struct guest_regs *g = &ctx->pub.regs;
	bool stepped = ctx->step;
	struct r0_event event;
	uint64_t addr;

	if (stepped)
		g->eflags |= TRAP_FLAG;
	event = kv_ring0_user(ctx->data); /* the vCPU may be another's by now, if this is the host */
	addr = g->orig_rax;
	if (stepped)
		g->eflags &= ~(uint64_t)TRAP_FLAG;
	if (event.code != R0_HOST)
		g->orig_rax = UINT64_MAX;
	switch (event.code) {
	case R0_CALL:
		return kv_report_call(ctx, AUDIT_ARCH_X86_64);
	case R0_CALL32:
		return kv_report_call(ctx, AUDIT_ARCH_I386);
	case R0_AGAIN:
		return SWITCH_AGAIN;
	case R0_HOST:
		return ctx->host_why;
	default:
		return kv_report_exception(ctx, (unsigned int)event.code, event.error, addr);
	}
}

/* platform_ops.context_switch in ring-0 mode: may be called in ring 0 or on the host, and returns in either. */
enum switch_why kv_ring0_switch(struct kv_context *ctx, struct kv_aspace *as)
{
	struct pcontext *pub = &ctx->pub;
	enum switch_why why = SWITCH_AGAIN;

	do {
		if (unlikely(pub->regs_dirty))
			regs_clean(ctx);
		if (unlikely(ctx->as != as || atomic_load_explicit(&as->broken, memory_order_relaxed)))
			kv_ring0_leave(ctx);
		if (!ctx->in_ring0) {
			if (!go_in(ctx, as, &why))
				break;
			why = SWITCH_AGAIN;
			continue; /* it may be on the host again already */
		}
		if (unlikely(atomic_load(&pub->interrupted)) && atomic_exchange(&pub->interrupted, 0)) {
			why = SWITCH_INTERRUPT;
			break;
		}
		why = run_user(ctx);
	} while (why == SWITCH_AGAIN);
	pub->regs_valid = true;
	pub->regs_dirty = false;
	return why;
}
