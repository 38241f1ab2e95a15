/*
 * A backend, ptrace unless PLATFORM says else: faults, signals, interrupts, threads, changes of a running address space, FPU
 * state, single steps. With an argument it prints what the main operations cost instead.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/host/clock.h"
#include "platform/platform.h"
#include "tests/unit/platform_fixture.h"

enum { CODE = 0x400000, DATA = 0x500000, DATA_OFFSET = 1 << 20, FILE_SIZE = 512 << 20 };
enum { R = PLATFORM_READ, W = PLATFORM_WRITE, X = PLATFORM_EXEC };

#ifndef PLATFORM /* platform_systrap.c includes this file */
#define PLATFORM platform_ptrace
#endif
static const struct platform_ops *ops = &PLATFORM;

static struct aspace_op map_op(uint64_t addr, uint64_t size, uint64_t offset, uint8_t prot)
{
	return (struct aspace_op){ .kind = ASPACE_MAP, .addr = addr, .size = size, .host_fd = memory_fd,
				   .offset = offset, .prot = prot };
}

static struct aspace *space_new(void)
{
	struct aspace_op op[] = { map_op(CODE, 4096, 0, R | X), map_op(DATA, 65536, DATA_OFFSET, R | W) };
	struct aspace *as;

	if (ops->aspace_new(platform, &as) < 0)
		exit(1);
	ops->aspace_update(as, NULL, op, 2);
	return as;
}

/* A context at the code that was assembled at offset of the code page. */
static struct pcontext *context_at(uint64_t offset)
{
	struct pcontext *ctx;

	if (ops->context_new(platform, &ctx) < 0)
		exit(1);
	ctx->regs.rip = CODE + offset;
	ctx->regs.rsp = DATA + 65536;
	platform_regs_dirty(ctx);
	return ctx;
}

/* Code snippets at fixed offsets of the code page. */
enum { LOOP_GETPID = 0, SPIN = 32, TOUCH = 64, LOAD = 96, DIVIDE = 128, TRAP = 144, XMM = 160, COUNT = 192, HLT = 224, ILL = 228 };

static void write_code(void)
{
	static const uint8_t loop_getpid[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };
	static const uint8_t spin[] = { 0xeb, 0xfe };
	static const uint8_t touch[] = { 0x48, 0x89, 0x07, 0xb8, 1, 0, 0, 0, 0x0f, 0x05 }; /* mov %rax,(%rdi); syscall 1 */
	static const uint8_t load[] = { 0x48, 0x8b, 0x07, 0xb8, 2, 0, 0, 0, 0x0f, 0x05 };
	static const uint8_t divide[] = { 0x31, 0xc9, 0xf7, 0xf1 };
	static const uint8_t trap[] = { 0xcc };
	static const uint8_t xmm[] = { 0x66, 0x48, 0x0f, 0x7e, 0xc0, 0x0f, 0x05 }; /* movq %xmm0,%rax; syscall */
	static const uint8_t count[] = { 0x48, 0xff, 0x07, 0xeb, 0xfb };           /* 1: incq (%rdi); jmp 1b */
	static const uint8_t hlt[] = { 0xf4 }, ill[] = { 0x0f, 0x0b };

#define PUT(at, code) memcpy(memory + (at), code, sizeof(code))
	PUT(LOOP_GETPID, loop_getpid);
	PUT(SPIN, spin);
	PUT(TOUCH, touch);
	PUT(LOAD, load);
	PUT(DIVIDE, divide);
	PUT(TRAP, trap);
	PUT(XMM, xmm);
	PUT(COUNT, count);
	PUT(HLT, hlt);
	PUT(ILL, ill);
}

static void test_faults(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(TOUCH);
	struct aspace_op op;

	ctx->regs.rdi = 0x10000000;
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT);
	CHECK(ctx->fault.addr == 0x10000000 && (ctx->fault.access & W) && !ctx->fault.mapped);
	op = map_op(0x10000000, 8192, DATA_OFFSET + 65536, R);
	ops->aspace_update(as, ctx, &op, 1);
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT);
	CHECK(ctx->fault.access == W && ctx->fault.mapped);
	op = (struct aspace_op){ .kind = ASPACE_PROTECT, .addr = 0x10000000, .size = 8192, .prot = R | W };
	ops->aspace_update(as, ctx, &op, 1);
	platform_regs(ctx)->rax = 0x1122334455667788;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 1);
	CHECK(*(uint64_t *)(void *)(memory + DATA_OFFSET + 65536) == 0x1122334455667788);
	/* jump to a page without permission, then to nowhere */
	platform_regs(ctx)->rip = DATA;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT);
	CHECK(ctx->fault.addr == DATA && ctx->fault.access == X && ctx->fault.mapped);
	platform_regs(ctx)->rip = 0x20000000;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT);
	CHECK(ctx->fault.addr == 0x20000000 && ctx->fault.access == X && !ctx->fault.mapped);
	/* PROTECT over a hole unmaps or protects, and does not stop anything */
	op = (struct aspace_op){ .kind = ASPACE_PROTECT, .addr = 0x10000000, .size = 1 << 20, .prot = R };
	ops->aspace_update(as, ctx, &op, 1);
	platform_regs(ctx)->rip = CODE + TOUCH;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT && (ctx->fault.access & W));
	op = (struct aspace_op){ .kind = ASPACE_UNMAP, .addr = 0x10000000, .size = 1 << 20 };
	ops->aspace_update(as, ctx, &op, 1);
	CHECK(ops->context_switch(ctx, as) == SWITCH_FAULT && (ctx->fault.access & W));
	ops->context_free(ctx);
	ops->aspace_free(as);
}

static void expect_signal(uint64_t at, int signo, int code)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(at);
	enum switch_why why = ops->context_switch(ctx, as);

	CHECK(why == SWITCH_SIGNAL && ctx->signal.signo == signo && ctx->signal.code == code);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

static void test_step_and_registers(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(LOOP_GETPID);

	ops->set_step(ctx, true);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SIGNAL && ctx->signal.signo == SIGTRAP);
	CHECK(platform_regs(ctx)->rip == CODE + 5 && ctx->regs.rax == 39);
	ops->set_step(ctx, false);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.ip == CODE + 7);
	/* hostile values are made harmless, not refused */
	*platform_regs(ctx) = (struct guest_regs){ .rip = CODE, .cs = 0x10, .ss = 3, .ds = 0xffff, .fs = 0x18,
						   .fs_base = UINT64_MAX, .gs_base = 1ull << 63,
						   .eflags = UINT64_MAX & ~0x100ull, .orig_rax = 39 };
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 39);
	ops->set_result(ctx, -512);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

static void test_fpu(void)
{
	static uint8_t image[16384];
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(XMM);
	int64_t n;
	const uint64_t value = 0x7eedface;

	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 0);
	n = ops->fpu_get(ctx, image, sizeof(image));
	CHECK(n >= 576);
	memcpy(image + 160, &value, sizeof(value));
	image[512] |= 2;
	CHECK(ops->fpu_set(ctx, image, (size_t)n) == 0);
	platform_regs(ctx)->rip = CODE + XMM;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == (int64_t)value);
	memset(image + 512, 0xff, 64);
	CHECK(ops->fpu_set(ctx, image, (size_t)n) < 0);
	ops->context_free(ctx);
	ctx = context_at(XMM);
	memset(image + 512, 0, 64);
	image[512] = 3;
	CHECK(ops->fpu_set(ctx, image, 576) == 0 && ops->fpu_get(ctx, image, sizeof(image)) == 576);
	ops->aspace_free(as);
	as = space_new();
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == (int64_t)value);
	ops->aspace_free(as);
	as = space_new();
	CHECK(ops->regs_load(ctx) == 0);
	ctx->regs.rip = CODE + XMM;
	platform_regs_dirty(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == 0);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

struct runner {
	struct aspace *as;
	uint64_t offset, rdi;
	_Atomic(struct pcontext *) ctx;
	_Atomic enum switch_why why;
	_Atomic bool stop, told; /* told: nobody interrupts it any more */
	_Atomic int faults;
	pthread_t thread;
};

/* A task thread: runs its guest until it is interrupted with stop set. */
static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct pcontext *ctx = context_at(r->offset);
	enum switch_why why; /* the case that waits for r->why writes it too */

	ctx->regs.rdi = r->rdi;
	r->ctx = ctx;
	do {
		r->why = why = ops->context_switch(ctx, r->as);
		if (why == SWITCH_FAULT)
			r->faults++;
	} while (!r->stop && why != SWITCH_DEAD);
	while (!r->told)
		usleep(100);
	ops->context_free(ctx);
	return NULL;
}

static void runner_end(struct runner *r)
{
	r->stop = true;
	ops->context_interrupt(r->ctx);
	r->told = true;
	pthread_join(r->thread, NULL);
}

static void wait_for(_Atomic uint64_t *word, uint64_t more_than)
{
	for (int i = 0; i < 2000 && atomic_load(word) <= more_than; i++)
		usleep(1000);
}

static void test_threads(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(LOOP_GETPID);
	struct runner r[3];
	_Atomic uint64_t *counter = (_Atomic uint64_t *)(void *)(memory + DATA_OFFSET);
	struct aspace_op op;
	int32_t pids[8];
	uint64_t seen;

	memset(r, 0, sizeof(r));
	for (int i = 0; i < 4; i++)
		counter[i * 512] = 0;
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL);
	for (int i = 0; i < 3; i++) {
		r[i].as = as;
		r[i].offset = COUNT;
		r[i].rdi = DATA + (uint64_t)i * 4096;
		CHECK(ops->aspace_reserve(as, ctx) == 0);
		pthread_create(&r[i].thread, NULL, runner_main, &r[i]);
	}
	for (int i = 0; i < 3; i++) {
		wait_for(&counter[i * 512], 1000);
		CHECK(counter[i * 512] > 1000);
	}
	CHECK(!ops->stub_pids || ops->stub_pids(as, pids, 8) == 4);
	/* Taking a page away from running threads, by one of them and by a stranger. */
	op = (struct aspace_op){ .kind = ASPACE_UNMAP, .addr = DATA, .size = 4096 };
	ops->aspace_update(as, ctx, &op, 1);
	seen = counter[0];
	for (int i = 0; i < 2000 && !r[0].faults; i++)
		usleep(1000);
	CHECK(r[0].faults > 0 && counter[0] == seen);
	op = (struct aspace_op){ .kind = ASPACE_PROTECT, .addr = DATA + 4096, .size = 4096, .prot = R };
	ops->aspace_update(as, NULL, &op, 1);
	seen = counter[512];
	for (int i = 0; i < 2000 && !r[1].faults; i++)
		usleep(1000);
	CHECK(r[1].faults > 0 && counter[512] == seen);
	seen = counter[1024];
	wait_for(&counter[1024], seen);
	CHECK(counter[1024] > seen);
	for (int i = 0; i < 3; i++)
		runner_end(&r[i]);
	CHECK(r[2].why == SWITCH_INTERRUPT);
	CHECK(ops->context_switch(ctx, as) == SWITCH_SYSCALL);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

static void test_interrupt(void)
{
	struct runner r = { .as = space_new(), .offset = SPIN };

	pthread_create(&r.thread, NULL, runner_main, &r);
	for (int i = 0; i < 200; i++) {
		r.why = SWITCH_DEAD;
		while (!r.ctx)
			usleep(100);
		ops->context_interrupt(r.ctx);
		for (int k = 0; k < 20000 && r.why != SWITCH_INTERRUPT; k++)
			usleep(50);
		if (r.why != SWITCH_INTERRUPT) {
			CHECK(!"interrupt was lost");
			break;
		}
	}
	runner_end(&r);
	CHECK(r.why == SWITCH_INTERRUPT);
	ops->aspace_free(r.as);
}

static void test_killed_stub(void)
{
	struct runner r = { .as = space_new(), .offset = SPIN, .told = true };
	int32_t pid = 0;

	pthread_create(&r.thread, NULL, runner_main, &r);
	for (int i = 0; i < 1000 && (ops->stub_pids(r.as, &pid, 1) != 1 || !pid); i++)
		usleep(1000);
	CHECK(pid > 0 && kill(pid, SIGKILL) == 0);
	pthread_join(r.thread, NULL);
	CHECK(r.why == SWITCH_DEAD);
	ops->aspace_free(r.as);
}

/* More mappings than the host allows: the space may lose some, and goes on. */
static void test_map_limit(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(TOUCH);
	enum { N = 70000 };
	struct aspace_op *op = calloc(N, sizeof(*op));

	for (uint64_t i = 0; i < N; i++)
		op[i] = map_op(0x100000000 + i * 8192, 4096, DATA_OFFSET, R);
	ops->aspace_update(as, NULL, op, N);
	ctx->regs.rdi = 0x100000000;
	for (int i = 0; i < 10; i++) {
		enum switch_why why = ops->context_switch(ctx, as);
		struct aspace_op again = map_op(ctx->fault.addr & ~4095ull, 4096, DATA_OFFSET, R | W | X);

		if (why == SWITCH_SYSCALL)
			break;
		CHECK(why == SWITCH_FAULT);
		if (ctx->fault.addr >> 12 == CODE >> 12)
			again.offset = 0;
		ops->aspace_update(as, ctx, &again, 1);
	}
	CHECK(ctx->syscall.nr == 1);
	free(op);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

#define COST(what, count, ...)                                                                     \
	do {                                                                                       \
		int64_t t0_ = host_monotonic_ns();                                                 \
		for (uint64_t i = 0; i < (count); i++)                                             \
			__VA_ARGS__;                                                               \
		printf("%-44s %8.2f us\n", what, (double)(host_monotonic_ns() - t0_) / 1e3 / (count)); \
	} while (0)

static void costs(void)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(LOOP_GETPID);
	struct aspace_op op[64];

	ops->context_switch(ctx, as);
	COST("getpid", 20000, { ops->set_result(ctx, 1); ops->context_switch(ctx, as); });
	COST("getpid with all registers", 20000, {
		platform_regs(ctx);
		platform_regs_dirty(ctx);
		ops->set_result(ctx, 1);
		ops->context_switch(ctx, as);
	});
	for (int n = 1; n <= 64; n *= 8)
		for (int kind = 0; kind < 3; kind++) {
			char name[64];

			for (int k = 0; k < n; k++)
				op[k] = (struct aspace_op){ .kind = kind == 0 ? ASPACE_MAP : kind == 1 ? ASPACE_PROTECT : ASPACE_UNMAP,
							    .addr = 0x10000000 + (uint64_t)k * 8192, .size = 4096,
							    .host_fd = memory_fd, .offset = DATA_OFFSET, .prot = kind == 0 ? R | W : R };
			snprintf(name, sizeof(name), "syscall + %s x %d", kind == 0 ? "map" : kind == 1 ? "protect" : "unmap", n);
			COST(name, 1000, {
				if (kind == 1) {
					for (int k = 0; k < n; k++)
						op[k].prot = i & 1 ? R : R | W;
				}
				ops->aspace_update(as, ctx, op, (size_t)n);
				ops->set_result(ctx, 1);
				ops->context_switch(ctx, as);
			});
		}
	for (uint64_t i = 0; i < 2000; i++)
		memory[DATA_OFFSET + i * 4096] = 1;
	COST("fault + map of one page", 2000, {
		platform_regs(ctx)->rip = CODE + TOUCH;
		ctx->regs.rdi = 0x20000000 + i * 4096;
		platform_regs_dirty(ctx);
		ops->context_switch(ctx, as);
		op[0] = map_op(0x20000000 + i * 4096, 4096, DATA_OFFSET + i * 4096, R | W);
		ops->aspace_update(as, ctx, op, 1);
		ops->context_switch(ctx, as);
	});
	ops->context_free(ctx);
	ops->aspace_free(as);
	COST("space + context + first syscall + end", 500, {
		as = space_new();
		ctx = context_at(LOOP_GETPID);
		ops->context_switch(ctx, as);
		ops->context_free(ctx);
		ops->aspace_free(as);
	});
	ctx = context_at(LOOP_GETPID);
	COST("exec: space + first syscall, same context", 500, {
		as = space_new();
		ops->context_switch(ctx, as);
		ops->aspace_free(as);
	});
	ops->context_free(ctx);
}

int main(int argc, char **argv)
{
	fixture_open(ops, FILE_SIZE);
	(void)argv;
	write_code();
	if (argc > 1) {
		costs();
		ops->close(platform);
		return 0;
	}
	test_faults();
	expect_signal(DIVIDE, SIGFPE, FPE_INTDIV);
	expect_signal(TRAP, SIGTRAP, SI_KERNEL);
	expect_signal(HLT, SIGSEGV, SI_KERNEL);
	expect_signal(ILL, SIGILL, ILL_ILLOPN);
	test_step_and_registers();
	test_fpu();
	test_interrupt();
	test_threads();
	if (ops->stub_pids) /* a backend of processes */
		test_killed_stub();
	test_map_limit();
	ops->close(platform);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
