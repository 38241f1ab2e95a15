/*
 * The fast path of systrap: guest code that enters as a rewritten call site does. Calls that are plain, posted, taken back,
 * answered in the stub, made with a GS base of the guest's own; interrupted, killed and attacked at any moment. With an
 * argument it prints what a call costs instead, with a second one so many calls only.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "platform/host/clock.h"
#include "platform/platform.h"
#include "platform/systrap/fast.h"
#include "platform/systrap/stub_layout.h"
#include "tests/unit/platform_fixture.h"

/* The same, for what is checked very often: counts once in the end. */
#define ALWAYS(c) ((c) ? (void)0 : (void)(failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

enum { CODE = STUB_SITES, DATA = 0x500000, DATA_OFFSET = 1 << 20, FILE_SIZE = 4 << 20, STACK = DATA + 65536 };
enum { R = PLATFORM_READ, W = PLATFORM_WRITE, X = PLATFORM_EXEC };
/* No fact, nothing that wants all registers. */
enum { NR_MARK = 1000, NR_LOOP = 1001, NR_END = 1002, NR_STOP = 1003, RESULT = DATA + 0x8000 };
static const uint64_t flags_shown = 0xcd5; /* those of arithmetic, and DF */

static const struct platform_ops *ops = &platform_systrap;

extern const char guest_code[], guest_one[], guest_loop[], guest_facts[], guest_arm[], guest_attack[], guest_gs[],
	guest_stop[], guest_code_end[];
__asm__(".pushsection .rodata\n"
	".balign 64\n"
	".macro fast_call\n" /* eax = number; the instruction in front of the return address is the call itself */
	"	lea	2f(%rip), %rcx\n"
	"	jmp	*entry(%rip)\n"
	"	syscall\n"
	"2:\n"
	".endm\n"
	"guest_code:\n"
	"entry:	.quad	0x7fffffff8000\n"
	/* One call with all registers as they are: number rax. Then a plain call that shows them. */
	"guest_one:\n"
	"	fast_call\n"
	"guest_stop:\n"
	"	mov	%rax, 0x508000\n"
	"	mov	$1003, %eax\n"
	"	syscall\n"
	"	hlt\n"
	/* r12 calls (rdi = r12, rsi = rbx): their results' sum in r13, how often the sentry looked in r14. */
	"guest_loop:\n"
	"1:	mov	%r12, %rdi\n"
	"	mov	%rbx, %rsi\n"
	"	cmpl	$1, %gs:0x3e80\n"
	"	cmc\n"
	"	adc	$0, %r14\n"
	"	mov	$1001, %eax\n"
	"	fast_call\n"
	"	add	%rax, %r13\n"
	"	cmp	%r12, %rdi\n" /* a register came back wrong */
	"	jne	9f\n"
	"	cmp	%rbx, %rsi\n"
	"	jne	9f\n"
	"	cmp	%rbp, %rdx\n"
	"	jne	9f\n"
	"	dec	%r12\n"
	"	jnz	1b\n"
	"	mov	$1002, %eax\n"
	"	syscall\n"
	"9:	hlt\n"
	/* r12 calls of number r15: results' sum in r13. */
	"guest_facts:\n"
	"1:	mov	%r15d, %eax\n"
	"	fast_call\n"
	"	add	%rax, %r13\n"
	"	dec	%r12\n"
	"	jnz	1b\n"
	"	mov	$1002, %eax\n"
	"	syscall\n"
	/* Says that the sentry looks, which it does not, and calls. */
	"guest_arm:\n"
	"	movl	$1, %gs:0x3e80\n"
	"	fast_call\n"
	"	jmp	guest_stop\n"
	/* Writes all over the block of the thread whose area is rbx, for ever. */
	"guest_attack:\n"
	"1:	imul	$1103515245, %rax, %rax\n"
	"	add	$12345, %rax\n"
	"	mov	%rax, %rcx\n"
	"	shr	$16, %rcx\n"
	"	mov	%ecx, %edx\n"
	"	and	$0xfc, %ecx\n"
	"	shr	$8, %edx\n"
	"	and	$7, %edx\n" /* also the values that mean something */
	"	mov	%edx, 0x3e00(%rbx, %rcx)\n"
	"	jmp	1b\n"
	/* The same call for ever, also when it fails. Shows where its block is. */
	"guest_gs:\n"
	"	rdgsbase %r15\n"
	"1:	mov	$1001, %eax\n"
	"	fast_call\n"
	"	jmp	1b\n"
	"guest_code_end:\n"
	".popsection\n");
_Static_assert(AREA_FAST + FAST_ARMED == 0x3e80 && STUB_FAST == 0x7fffffff8000, "the assembly above");

static uint64_t at(const char *symbol)
{
	return CODE + (uint64_t)(symbol - guest_code);
}

static struct aspace *space_new(void)
{
	struct aspace_op op[] = { { .kind = ASPACE_MAP, .addr = CODE, .size = 4096, .host_fd = memory_fd, .prot = R | X },
				  { .kind = ASPACE_MAP, .addr = DATA, .size = 65536, .host_fd = memory_fd,
				    .offset = DATA_OFFSET, .prot = R | W } };
	struct aspace *as;

	if (ops->aspace_new(platform, &as) < 0)
		exit(1);
	ops->aspace_update(as, NULL, op, 2);
	return as;
}

static struct pcontext *context_at(const char *symbol)
{
	struct pcontext *ctx;

	if (ops->context_new(platform, &ctx) < 0)
		exit(1);
	ctx->regs.rip = at(symbol);
	ctx->regs.rsp = STACK;
	platform_regs_dirty(ctx);
	return ctx;
}

/* Each register with a value of its own. */
static struct guest_regs pattern(uint64_t seed, const char *symbol)
{
	struct guest_regs r = { .r15 = 15 * seed, .r14 = 14 * seed, .r13 = 13 * seed, .r12 = 12 * seed, .rbp = 11 * seed,
				.rbx = 10 * seed, .r10 = 9 * seed, .r9 = 8 * seed, .r8 = 7 * seed, .rdx = 6 * seed,
				.rsi = 5 * seed, .rdi = 4 * seed, .rax = NR_MARK, .rip = at(symbol), .rsp = STACK,
				.eflags = seed & flags_shown, .cs = 0x33, .ss = 0x2b, .fs_base = DATA + 128 };

	return r;
}

static bool same(const struct guest_regs *a, const struct guest_regs *b)
{
	return a->r15 == b->r15 && a->r14 == b->r14 && a->r13 == b->r13 && a->r12 == b->r12 && a->rbp == b->rbp &&
	       a->rbx == b->rbx && a->r10 == b->r10 && a->r9 == b->r9 && a->r8 == b->r8 && a->rdx == b->rdx &&
	       a->rsi == b->rsi && a->rdi == b->rdi && a->rsp == b->rsp && a->fs_base == b->fs_base &&
	       a->gs_base == b->gs_base && ((a->eflags ^ b->eflags) & flags_shown) == 0;
}

/* What guest_stop found in rax. */
static int64_t result_seen(void)
{
	int64_t r;

	memcpy(&r, memory + DATA_OFFSET + RESULT - DATA, sizeof(r));
	return r;
}

static bool arguments(const struct pcontext *ctx, const struct guest_regs *r)
{
	const uint64_t *a = ctx->syscall.arg;

	return a[0] == r->rdi && a[1] == r->rsi && a[2] == r->rdx && a[3] == r->r10 && a[4] == r->r8 && a[5] == r->r9;
}

/* One call by the code at symbol, with many values and flags; gs: the guest's GS base. load: all registers are asked for. */
static void test_one(const char *symbol, uint64_t gs, bool load)
{
	static const int64_t results[] = { 0, 7, -38, INT64_MIN, -512, -516 };
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(symbol);
	uint8_t *stack = memory + DATA_OFFSET + (STACK - DATA) - 256;
	struct guest_regs r;

	memset(memory + DATA_OFFSET, 0x5a, 65536);
	for (uint64_t i = 0; i < 300; i++) {
		int64_t result = results[i % ARRAY_COUNT(results)];

		r = pattern(i * 0x9e3779b97f4a7c15, symbol);
		r.gs_base = gs;
		*platform_regs(ctx) = r;
		platform_regs_dirty(ctx);
		ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == NR_MARK);
		ALWAYS(arguments(ctx, &r) && ctx->syscall.ip > at(symbol) && ctx->syscall.ip < at(symbol) + 40);
		if (load)
			ALWAYS(platform_regs(ctx) && same(&ctx->regs, &r) && ctx->regs.rip == ctx->syscall.ip &&
			       ctx->regs.rcx == ctx->syscall.ip && ((ctx->regs.r11 ^ r.eflags) & flags_shown) == 0);
		ops->set_result(ctx, result);
		ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == NR_STOP && result_seen() == result);
		ALWAYS(platform_regs(ctx) && same(&ctx->regs, &r));
	}
	for (int i = 0; i < 256; i++)
		ALWAYS(stack[i] == 0x5a); /* the red zone */
	for (int i = 0; i < 4096; i++)
		ALWAYS(memory[DATA_OFFSET + i] == 0x5a); /* where the guest's own GS base points */
	ops->context_free(ctx);
	ops->aspace_free(as);
	passed++;
}

static void test_facts(void)
{
	static const struct platform_facts facts = { .value = { 11, 12, 13, 14, 15, 0xffffffff } };
	static const int nr[FACT_COUNT] = { 39, 186, 102, 107, 104, 108 };
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(guest_one);
	struct guest_regs r;

	for (int i = 0; i < FACT_COUNT * 64; i++) {
		r = pattern((uint64_t)i * 0x9e3779b97f4a7c15, guest_one);
		r.rax = (uint64_t)nr[i % FACT_COUNT];
		*platform_regs(ctx) = r;
		platform_regs_dirty(ctx);
		ops->facts_set(ctx, i < FACT_COUNT * 32 ? &facts : NULL);
		ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL);
		if (i < FACT_COUNT * 32) { /* only the call behind arrives */
			ALWAYS(ctx->syscall.nr == NR_STOP && result_seen() == facts.value[i % FACT_COUNT]);
		} else {
			ALWAYS(ctx->syscall.nr == nr[i % FACT_COUNT] && ctx->syscall.ip == at(guest_stop));
			ops->set_result(ctx, 5);
			ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == NR_STOP && result_seen() == 5);
		}
		ALWAYS(platform_regs(ctx) && same(&ctx->regs, &r));
	}
	/* numbers that only look like these, and one that has all registers */
	for (int i = 0; i < 4; i++) {
		static const int64_t other[] = { 110, 39 + (1 << 30), -1, 56 };

		r = pattern(99, guest_one);
		r.rax = (uint64_t)other[i];
		*platform_regs(ctx) = r;
		platform_regs_dirty(ctx);
		ops->facts_set(ctx, &facts);
		ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == other[i]);
		ALWAYS(ctx->syscall.ip == at(guest_stop) && arguments(ctx, &r));
		ALWAYS(platform_regs(ctx) && same(&ctx->regs, &r) && ctx->regs.rip == at(guest_stop));
		ops->set_result(ctx, 5);
		ALWAYS(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == NR_STOP && result_seen() == 5);
	}
	/* a stub that another context leaves behind has no facts for the next one */
	CHECK(ops->aspace_reserve(as, ctx) == 0);
	ops->context_free(ctx);
	ctx = context_at(guest_one);
	ctx->regs.rax = 186;
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 186);
	ops->context_free(ctx);
	ops->aspace_free(as);
	passed++;
}

struct kicker {
	struct pcontext *ctx;
	_Atomic bool stop;
	_Atomic unsigned int kicks;
	unsigned int max_us;
	pthread_t thread;
};

static void *kicker_main(void *arg)
{
	struct kicker *k = arg;
	unsigned int seed = 1;

	while (!k->stop) {
		int64_t until = host_monotonic_ns() + (int64_t)((unsigned int)rand_r(&seed) % (k->max_us * 1000));

		while (host_monotonic_ns() < until && !k->stop)
			sched_yield();
		ops->context_interrupt(k->ctx);
		k->kicks++;
	}
	return NULL;
}

enum loop_what { LOOP_PLAIN, LOOP_KICKS, LOOP_MIX };

/*
 * count calls in a loop: each is seen exactly once, in order, with its result and all its registers, whatever happens
 * between. Returns how often the guest saw that the sentry looks for posted calls.
 */
static uint64_t test_loop(uint64_t count, enum loop_what what)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(guest_loop);
	struct kicker k = { .ctx = ctx, .max_us = what == LOOP_KICKS ? 60 : 400 };
	uint64_t next = count, sum = 0, interrupts = 0, seen;
	unsigned int seed = 7;
	enum switch_why why;

	ctx->regs.r12 = count;
	ctx->regs.rbx = 0x1234567890;
	ctx->regs.rbp = ctx->regs.rdx = 0xfeedfacecafebeef;
	if (what != LOOP_PLAIN)
		pthread_create(&k.thread, NULL, kicker_main, &k);
	for (;;) {
		int64_t result;

		why = ops->context_switch(ctx, as);
		if (why == SWITCH_INTERRUPT) {
			interrupts++;
			if (rand_r(&seed) % 4 == 0 && platform_regs(ctx)) {
				ALWAYS(ctx->regs.gs_base == 0 && ctx->regs.rip >= CODE && ctx->regs.rip < CODE + 4096);
				ALWAYS(ctx->regs.rbx == 0x1234567890 && ctx->regs.rdx == 0xfeedfacecafebeef);
				platform_regs_dirty(ctx);
			}
			continue;
		}
		if (why != SWITCH_SYSCALL || ctx->syscall.nr != NR_LOOP)
			break;
		if (ctx->syscall.arg[0] != next || ctx->syscall.arg[1] != 0x1234567890)
			break;
		next--;
		result = (int64_t)(next * 3 + 1);
		if (what != LOOP_PLAIN)
			switch (rand_r(&seed) % 64) {
			case 0: /* all registers, changed or not */
				ALWAYS(platform_regs(ctx) && ctx->regs.rip == ctx->syscall.ip && ctx->regs.gs_base == 0);
				if (rand_r(&seed) % 2)
					platform_regs_dirty(ctx);
				break;
			case 1:
				result = -512 - rand_r(&seed) % 5;
				break;
			case 2:
				if (what == LOOP_MIX) {
					ops->will_sleep(ctx);
					usleep(rand_r(&seed) % 100);
				}
				break;
			case 3: /* longer than the stub spins */
				for (int64_t until = host_monotonic_ns() + rand_r(&seed) % 60000; host_monotonic_ns() < until;)
					continue;
				break;
			}
		sum += (uint64_t)result;
		ops->set_result(ctx, result);
	}
	if (what != LOOP_PLAIN) {
		k.stop = true;
		pthread_join(k.thread, NULL);
	}
	if (why != SWITCH_SYSCALL || ctx->syscall.nr != NR_END || next != 0)
		printf("# ended by %d, call %lld(%llu, 0x%llx), fault at 0x%llx, %llu calls left, rip 0x%llx\n", (int)why,
		       (long long)ctx->syscall.nr, (unsigned long long)ctx->syscall.arg[0],
		       (unsigned long long)ctx->syscall.arg[1], (unsigned long long)ctx->fault.addr,
		       (unsigned long long)next, (unsigned long long)(platform_regs(ctx) ? ctx->regs.rip : 0));
	CHECK(why == SWITCH_SYSCALL && ctx->syscall.nr == NR_END && next == 0);
	CHECK(platform_regs(ctx) && ctx->regs.r13 == sum);
	seen = ctx->regs.r14;
	printf("# %llu calls, %llu with the sentry looking, %u kicks, %llu interrupts\n", (unsigned long long)count,
	       (unsigned long long)seen, k.kicks, (unsigned long long)interrupts);
	ops->context_free(ctx);
	ops->aspace_free(as);
	return seen;
}

/* A stub that is killed while its task thread polls, and while it does not. */
static void *killer_main(void *arg)
{
	struct aspace *as = arg;
	int32_t pid = 0;

	usleep(30000);
	if (ops->stub_pids(as, &pid, 1) == 1 && pid > 0)
		kill(pid, SIGKILL);
	return NULL;
}

static void test_killed(void)
{
	for (int i = 0; i < 10; i++) {
		struct aspace *as = space_new();
		struct pcontext *ctx = context_at(guest_gs);
		int64_t limit = host_monotonic_ns() + 20000000000;
		enum switch_why why;
		pthread_t thread;

		pthread_create(&thread, NULL, killer_main, as);
		do {
			why = ops->context_switch(ctx, as);
			ops->set_result(ctx, 0);
		} while (why == SWITCH_SYSCALL && host_monotonic_ns() < limit);
		CHECK(why == SWITCH_DEAD);
		pthread_join(thread, NULL);
		ops->context_free(ctx);
		ops->aspace_free(as);
	}
}

struct attacker {
	struct aspace *as;
	_Atomic(struct pcontext *) ctx;
	uint64_t target;
	_Atomic bool stop;
	pthread_t thread;
};

static void *attacker_main(void *arg)
{
	struct attacker *a = arg;
	struct pcontext *ctx = context_at(guest_attack);

	ctx->regs.rbx = a->target;
	ctx->regs.rax = 1;
	a->ctx = ctx;
	while (ops->context_switch(ctx, a->as) != SWITCH_DEAD && !a->stop)
		continue;
	ops->context_free(ctx);
	return NULL;
}

/* Another thread of the guest writes all words of the block: whatever comes of it, the sentry's thread is not held up. */
static void test_attack(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(guest_gs);
	struct attacker a = { .as = as };
	struct kicker k = { .ctx = ctx, .max_us = 2000 };
	int64_t limit = host_monotonic_ns() + 1500000000;
	enum switch_why why;
	uint64_t calls = 0, other = 0;
	int64_t late = 0;

	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL);
	CHECK(ops->aspace_reserve(as, ctx) == 0);
	a.target = (uint64_t)platform_regs(ctx)->r15; /* guest_gs put it there */
	CHECK(a.target >= STUB_AREAS);
	pthread_create(&a.thread, NULL, attacker_main, &a);
	pthread_create(&k.thread, NULL, kicker_main, &k);
	while (host_monotonic_ns() < limit) {
		int64_t before = host_monotonic_ns();

		why = ops->context_switch(ctx, as);
		late = MAX(late, host_monotonic_ns() - before);
		if (why == SWITCH_DEAD)
			break;
		if (why == SWITCH_SYSCALL)
			calls++;
		else
			other++;
		if (why == SWITCH_SYSCALL)
			ops->set_result(ctx, -38);
		if (why == SWITCH_FAULT || why == SWITCH_SIGNAL) {
			*platform_regs(ctx) = pattern(1, guest_gs);
			platform_regs_dirty(ctx);
		}
	}
	k.stop = true;
	pthread_join(k.thread, NULL);
	a.stop = true;
	ops->context_interrupt(a.ctx);
	pthread_join(a.thread, NULL);
	printf("# attacked: %llu calls, %llu other events, at most %lld us in one switch\n", (unsigned long long)calls,
	       (unsigned long long)other, (long long)late / 1000);
	CHECK(calls > 100 && late < 5000000000);
	ops->context_free(ctx);
	ops->aspace_free(as);
	/* another guest is as ever */
	test_loop(1000, LOOP_PLAIN);
}

/* After a burst nobody spins: no CPU time is used. */
static void *burst_main(void *arg)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(guest_loop);

	ctx->regs.r12 = 100000;
	while (ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == NR_LOOP)
		ops->set_result(ctx, 0);
	*(_Atomic(struct pcontext *) *)arg = ctx;
	platform_regs(ctx)->rip = at(guest_attack); /* runs on; its words are its own */
	ctx->regs.rbx = DATA;
	platform_regs_dirty(ctx);
	while (ops->context_switch(ctx, as) != SWITCH_INTERRUPT)
		continue;
	ops->context_free(ctx);
	ops->aspace_free(as);
	return NULL;
}

static int64_t cpu_ns(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static void test_idle(void)
{
	_Atomic(struct pcontext *) ctx = NULL;
	pthread_t thread;
	int64_t before;

	pthread_create(&thread, NULL, burst_main, &ctx);
	while (!ctx)
		usleep(1000);
	usleep(20000);
	before = cpu_ns();
	sleep(1);
	printf("# %lld us of CPU time in a second\n", (long long)(cpu_ns() - before) / 1000);
	CHECK(cpu_ns() - before < 2000000); /* this thread's own sleep is in it */
	ops->context_interrupt(ctx);
	pthread_join(thread, NULL);
}

static void cost(const char *name, const char *symbol, uint64_t count, uint64_t nr, bool facts)
{
	static const struct platform_facts some = { .value = { 1, 1, 1, 1, 1, 1 } };
	double best = 1e9;
	uint64_t seen = 0;

	for (int i = 0; i < 7; i++) {
		struct aspace *as = space_new();
		struct pcontext *ctx = context_at(symbol);
		int64_t t0;

		ctx->regs.r12 = count;
		ctx->regs.r15 = nr;
		ops->facts_set(ctx, facts ? &some : NULL);
		t0 = host_monotonic_ns();
		while (ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr != NR_END)
			ops->set_result(ctx, 0);
		best = MIN(best, (double)(host_monotonic_ns() - t0) / (double)count);
		seen = platform_regs(ctx)->r14;
		ops->context_free(ctx);
		ops->aspace_free(as);
	}
	printf("%-44s %8.1f ns (%llu of %llu looked for)\n", name, best, (unsigned long long)seen, (unsigned long long)count);
}

int main(int argc, char **argv)
{
	fixture_open(ops, FILE_SIZE);
	memcpy(memory, guest_code, (size_t)(guest_code_end - guest_code));
	if (argc > 1) {
		cost("call", guest_loop, argc > 2 ? strtoul(argv[2], NULL, 10) : 300000, 0, false);
		if (argc > 2)
			return 0;
		cost("fact", guest_facts, 10000000, 39, true);
		cost("plain call through the page", guest_facts, 50000, 110, false);
		ops->close(platform);
		return 0;
	}
	test_one(guest_one, 0, false);
	test_one(guest_one, 0, true);
	test_one(guest_one, DATA + 512, false);
	test_one(guest_one, DATA + 512, true);
	test_one(guest_arm, 0, false);
	test_one(guest_arm, 0, true);
	test_facts();
	test_loop(100000, LOOP_PLAIN);
	test_loop(100000, LOOP_KICKS);
	test_loop(100000, LOOP_MIX);
	test_killed();
	test_attack();
	if (sysconf(_SC_NPROCESSORS_ONLN) > 1) {
		st_fast_eager = true;
		CHECK(test_loop(100000, LOOP_PLAIN) > 1000);
		CHECK(test_loop(100000, LOOP_KICKS) > 1000);
		CHECK(test_loop(100000, LOOP_MIX) > 1000);
		test_killed();
		test_attack();
		st_fast_eager = false;
	}
	test_idle();
	ops->close(platform);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
