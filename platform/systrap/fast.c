/*
 * The fast path: calls posted in shared memory while the task thread looks (fast.S is the other side), facts that the
 * stub answers itself, and when a task thread looks at all. README.md has the protocol. Every word of struct fast can
 * be written by the whole guest process at any time: each is read once, and decides nothing but this process's own state.
 */
#include <errno.h>
#include <linux/audit.h>
#include <poll.h>
#include <string.h>

#include "platform/systrap/fast.h"
#include "platform/systrap/systrap_priv.h"

/* Ticks of the TSC, which runs at 2 to 4 GHz on the processors that this runs on. */
enum {
	LOOK_TICKS = 4000,	   /* between two looks at the listener while polling */
	IDLE_TICKS = 60000,	   /* polling without a call */
	GAP_TICKS = 80000,	   /* between two polls: somebody else had the CPU */
	QUICK_TICKS = 40000,	   /* from an answer to the next call, to be worth polling */
	QUICK_CALLS = 16,	   /* so many of these in a row */
	REST_MIN_TICKS = 1000000,  /* no polling after a bad end, doubled each time ... */
	REST_MAX_BITS = 12,	   /* ... so often */
	GOOD_CALLS = 512,	   /* a stretch of polling that was worth it */
	SPARSE_CALLS = 64,	   /* an event of another kind after so many calls does not end it */
};

bool st_fast_eager;

static inline uint64_t tsc(void)
{
	return __builtin_ia32_rdtsc();
}

static inline struct fast *fast_of(const struct st_context *ctx)
{
	return &ctx->thread->slot->area->fast;
}

static inline uint64_t address(const char *symbol)
{
	return STUB_FAST + (uint64_t)(symbol - systrap_fast_page_start);
}

static inline bool within(uint64_t ip, const char *from, const char *to)
{
	return ip >= address(from) && ip < address(to);
}

/* A fresh stub: nothing posted, not armed; only the facts that its context has. It has not run guest code yet. */
void st_fast_attach(struct st_context *ctx)
{
	st_no_frame(ctx->thread->slot->area);
	ctx->restored_id = 0;
	atomic_store(&ctx->kicked, false);
	memset(fast_of(ctx), 0, sizeof(struct fast));
	st_fast_facts(&ctx->pub, ctx->facts_given ? &ctx->facts : NULL);
}

/* platform_ops.facts_set */
void st_fast_facts(struct pcontext *pub, const struct platform_facts *facts)
{
	struct st_context *ctx = st_context(pub);
	struct fast *f;

	ctx->facts_given = facts != NULL;
	if (facts)
		ctx->facts = *facts;
	if (!ctx->thread)
		return;
	f = fast_of(ctx);
	if (facts)
		memcpy(f->fact, facts->value, sizeof(f->fact));
	atomic_store_explicit(&f->facts, facts ? ((1u << FACT_COUNT) - 1) << 1 : 0, memory_order_release);
}

/* Whether a trampoline made this call: its site is rewritten, and nobody took a post. */
static bool plain_call(const struct seccomp_notif *n)
{
	return n->data.instruction_pointer - STUB_SITES < STUB_SITES_SIZE;
}

/* Whether the thread sleeps until its posted call is answered, or woke late; any other call of that number is the guest's. */
bool st_fast_asleep(struct st_context *ctx, const struct seccomp_notif *n)
{
	bool expected = ctx->state == ST_FAST || ctx->fast.asleep;

	if (likely(n->data.nr != NR_ASLEEP) || n->data.instruction_pointer != address(systrap_fast_woken))
		return false;
	ctx->fast.asleep = false; /* once for each answer */
	return expected;
}

/* The address behind the syscall instruction that a posted call stands for: whatever the guest says. */
static uint64_t return_address(const struct fast *f)
{
	return *(const volatile uint64_t *)&f->ip;
}

/* Flags as lahf and `seto %al` have left them, before or after fast.S has added 0x7f to al. */
static void flags_unpack(struct guest_regs *r, uint64_t packed)
{
	const uint64_t low = 0xd5, overflow = 0x800;
	uint8_t al = (uint8_t)packed;

	r->eflags = (r->eflags & ~(low | overflow)) | ((packed >> 8) & low) | (al == 1 || al == 0x80 ? overflow : 0);
}

/* In front of the syscall instruction at ip - 2, with number nr. */
static void rewind_call(struct guest_regs *r, uint64_t ip, uint32_t nr)
{
	r->rip = ip - 2;
	r->rax = nr;
}

/* A posted call that the thread was waiting for when it reported these registers. */
static void regs_posted(struct st_context *ctx, struct guest_regs *r, uint64_t packed)
{
	struct fast *f = fast_of(ctx);
	uint32_t state = atomic_exchange(&f->state, FAST_FREE);
	uint64_t ip = return_address(f);

	r->rdx = *(volatile uint64_t *)&f->arg[2];
	flags_unpack(r, packed);
	if (ctx->state != ST_FAST && (state == FAST_FREE || state == FAST_POSTED)) {
		rewind_call(r, ip, (uint32_t)__builtin_bswap64(packed));
		return;
	}
	r->rip = r->rcx = ip; /* as the syscall instruction leaves it */
	r->r11 = r->eflags;
	r->rax = *(volatile uint64_t *)&f->arg[0]; /* FAST_RESULT; call_held puts in what is not there yet */
}

/*
 * Registers that were reported while the thread was inside the fast page become those of a thread in front of the system
 * call that the page stands for, or behind one that was taken. The thread is stopped, so what it posted and nobody took is
 * taken back here.
 */
void st_fast_regs(struct st_context *ctx, struct guest_regs *r)
{
	uint64_t packed = *(volatile uint64_t *)&fast_of(ctx)->save, ip = r->rcx;

	if (within(r->rip, systrap_fast_posted, systrap_fast_plain)) {
		regs_posted(ctx, r, packed);
		return;
	}
	if (r->rip < address(systrap_fast_entry) || r->rip >= address(systrap_fast_end))
		return;
	if (r->rip == address(systrap_fast_entry)) {
		rewind_call(r, ip, (uint32_t)r->rax);
		return;
	}
	if (within(r->rip, systrap_fast_left, systrap_fast_special)) {
		rewind_call(r, ip + 2, (uint32_t)r->rax);
		return;
	}
	if (within(r->rip, systrap_fast_leave, systrap_fast_left))
		ip += 2;
	if (within(r->rip, systrap_fast_flags, systrap_fast_saved) ||
	    within(r->rip, systrap_fast_own_gs, systrap_fast_left))
		packed = r->rax;
	if (!within(r->rip, systrap_fast_flags, systrap_fast_packed))
		flags_unpack(r, packed);
	rewind_call(r, ip, (uint32_t)__builtin_bswap64(packed));
}

/* Ends polling. good: it was worth it; else the thread does not poll again soon, and later each time. */
static void leave(struct st_context *ctx, bool good)
{
	struct fast_policy *p = &ctx->fast;

	if (!p->polling)
		return;
	p->polling = false;
	p->quick = 0;
	atomic_store(&fast_of(ctx)->armed, 0); /* before a last look at the state word: see st_fast_poll */
	st_spin_end(&ctx->spin, &ctx->pair, atomic_load_explicit(&ctx->pid, memory_order_relaxed));
	if (good) {
		p->rest_bits = 0;
		return;
	}
	p->not_before = tsc() + ((uint64_t)REST_MIN_TICKS << p->rest_bits);
	p->rest_bits = MIN(p->rest_bits + 1, REST_MAX_BITS);
}

/* The stub is gone, or goes. */
void st_fast_detach(struct st_context *ctx)
{
	leave(ctx, true);
}

/* A call came from a rewritten site, and was not posted. Begins to poll when that would have been worth it for some time. */
static void consider(struct st_context *ctx, uint64_t now)
{
	struct fast_policy *p = &ctx->fast;

	if (unlikely(st_fast_eager)) {
		st_spin_choose(&ctx->spin, &ctx->pair);
		p->wanted = true;
		return;
	}
	if (now - p->answered > QUICK_TICKS) {
		p->quick = 0;
		return;
	}
	p->quick++;
	if (p->quick == QUICK_CALLS / 2)
		st_spin_choose(&ctx->spin, &ctx->pair);
	if (p->quick < QUICK_CALLS)
		return;
	p->quick = 0;
	p->wanted = now >= p->not_before;
}

/* After each event that came as a notification: keeps or leaves the polling, or wishes for it. */
void st_fast_event(struct st_context *ctx, const struct seccomp_notif *n)
{
	struct fast_policy *p = &ctx->fast;

	if (p->polling) {
		if (p->calls - p->calls_at_event < SPARSE_CALLS && !st_fast_eager)
			leave(ctx, p->calls >= GOOD_CALLS);
		p->calls_at_event = p->calls;
		return;
	}
	if (ctx->state != ST_CALL || !plain_call(n)) {
		p->quick = 0;
		return;
	}
	consider(ctx, tsc());
}

/* The stub runs guest code again after the answer to a plain call. */
void st_fast_answered(struct st_context *ctx)
{
	struct fast_policy *p = &ctx->fast;

	p->answered = tsc();
	if (likely(!p->wanted))
		return;
	p->wanted = false;
	if (!st_spin_begin(&ctx->spin, &ctx->pair)) {
		p->not_before = p->answered + REST_MIN_TICKS;
		return;
	}
	p->polling = true;
	p->calls = 0;
	p->calls_at_event = 0u - SPARSE_CALLS; /* one call comes the old way while this thread moves */
	atomic_store(&fast_of(ctx)->armed, 1);
}

/* Takes a posted call: false when the thread has taken it back meanwhile. */
static bool take(struct st_context *ctx, struct fast *f)
{
	struct platform_syscall *sc = &ctx->pub.syscall;
	uint32_t posted = FAST_POSTED;

	if (!atomic_compare_exchange_strong(&f->state, &posted, FAST_TAKEN))
		return false;
	sc->nr = (int32_t)*(volatile uint32_t *)&f->nr;
	for (size_t i = 0; i < ARRAY_COUNT(sc->arg); i++)
		sc->arg[i] = *(volatile uint64_t *)&f->arg[i];
	sc->ip = st_sites_ip(ctx->as, return_address(f));
	sc->sp = 0;
	sc->audit_arch = AUDIT_ARCH_X86_64;
	sc->vsyscall = false;
	ctx->state = ST_FAST;
	ctx->fast.calls++;
	return true;
}

/*
 * Waits for a posted call for as long as that is worth it: true when one was taken, and the state is ST_FAST. false:
 * look at the listener; polling may be over then.
 */
bool st_fast_poll(struct st_context *ctx)
{
	struct fast *f = fast_of(ctx);
	uint64_t begin = tsc(), last = begin, look = begin + LOOK_TICKS, now;
	bool good = false;

	for (;;) {
		if (atomic_load_explicit(&f->state, memory_order_acquire) == FAST_POSTED && take(ctx, f))
			return true;
		__builtin_ia32_pause();
		now = tsc();
		if (unlikely(atomic_load_explicit(&ctx->pub.interrupted, memory_order_relaxed)))
			return false; /* a kick is on its way, or there was one */
		if (unlikely(now - last > GAP_TICKS))
			break;
		last = now;
		if (likely(now < look))
			continue;
		if (!st_spin_alone(&ctx->spin, &ctx->pair))
			break;
		if (now - begin > IDLE_TICKS) {
			good = ctx->fast.calls >= GOOD_CALLS;
			break;
		}
		if (st_wait_fd(ctx->thread->listener, 0) != 0)
			return false;
		last = tsc();
		look = last + LOOK_TICKS;
	}
	leave(ctx, good);
	return atomic_load(&f->state) == FAST_POSTED && take(ctx, f);
}

/* Answers a taken call. The stub may be asleep: then its notification comes next. */
void st_fast_answer(struct st_context *ctx, int64_t result)
{
	struct fast *f = fast_of(ctx);

	*(volatile uint64_t *)&f->arg[0] = (uint64_t)result; /* FAST_RESULT */
	ctx->fast.asleep = atomic_exchange(&f->state, FAST_DONE) == FAST_ASLEEP;
	if (ctx->fast.asleep)
		leave(ctx, ctx->fast.calls >= GOOD_CALLS);
}

/* platform_ops.will_sleep */
void st_fast_will_sleep(struct pcontext *pub)
{
	struct st_context *ctx = st_context(pub);
	uint32_t taken = FAST_TAKEN;

	if (ctx->state == ST_FAST)
		atomic_compare_exchange_strong(&fast_of(ctx)->state, &taken, FAST_PARK);
	ctx->fast.quick = 0;
	ctx->fast.wanted = false;
	leave(ctx, ctx->fast.calls >= GOOD_CALLS);
}
