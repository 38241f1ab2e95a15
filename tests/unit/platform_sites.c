/* Rewritten system call sites: which code is taken, that trampolines do what it did, and the backend's part with threads. */
#include "tests/lib/test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "platform/systrap/systrap_priv.h"

enum { NOP = 0x90, AT = 100, R = PLATFORM_READ, W = PLATFORM_WRITE, X = PLATFORM_EXEC };

/* ---- decoding ---- */

struct shape_case {
	const char *what;
	const char *code;
	size_t size, behind; /* of the code; end of the call in it */
	uint64_t nr;
	enum site_kind kind;
	size_t start, replaced;
};
#define CODE(s) s, sizeof(s) - 1

static const struct shape_case shapes[] = {
	{ "mov; syscall; ret", CODE("\xb8\x27\0\0\0\x0f\x05\xc3"), 7, 39, SITE_MOV, 0, 7 },
	{ "mov; syscall; cmp rax: the later one is certain", CODE("\xb8\x27\0\0\0\x0f\x05\x48\x3d\0\xf0\xff\xff\x77\x01"), 7, 39,
	  SITE_CMP, 5, 8 },
	{ "xor eax; syscall; cmp rax", CODE("\x31\xc0\x0f\x05\x48\x3d\x01\xf0\xff\xff\x73\x01"), 4, 0, SITE_CMP, 2, 8 },
	{ "syscall; cmp eax", CODE("\x0f\x05\x3d\0\xf0\xff\xff\x77\x01"), 2, 7, SITE_CMP, 0, 7 },
	{ "musl's __syscall_cp_asm: mov %r11, 8(%rsp); syscall; ret", CODE("\x4c\x89\x5c\x24\x08\x0f\x05\xc3"), 7, 1, SITE_MOV, 0, 7 },
	{ "musl's sccp: mov 8(%rsp), %r9; mov %rcx, %rdx; syscall; ret", CODE("\x4c\x8b\x4c\x24\x08\x48\x89\xca\x0f\x05\xc3"),
	  10, 1, SITE_PAIR, 0, 10 },
	{ "a store elsewhere", CODE("\x4c\x89\x5c\x25\x08\x0f\x05\xc3"), 7, 1, SITE_NONE, 0, 0 },
	{ "a pair whose first is relative to rip", CODE("\x4c\x8b\x0d\0\0\0\0\x48\x89\xca\x0f\x05\xc3"), 12, 1, SITE_NONE, 0, 0 },
	{ "a pair whose second is a load", CODE("\x4c\x8b\x4c\x24\x08\x48\x8b\x0a\x0f\x05\xc3"), 10, 1, SITE_NONE, 0, 0 },
	{ "another number than was called", CODE("\xb8\x27\0\0\0\x0f\x05\xc3"), 7, 40, SITE_NONE, 0, 0 },
	{ "mov r8d, not eax", CODE("\x41\xb8\x27\0\0\0\x0f\x05\xc3"), 8, 39, SITE_NONE, 0, 0 },
	{ "the tail of a store", CODE("\xc7\x44\x24\xb8\x27\0\0\0\x0f\x05\xc3"), 10, 39, SITE_NONE, 0, 0 },
	{ "cmp with an 8-bit value", CODE("\x0f\x05\x48\x83\xf8\xff\xc3"), 2, 39, SITE_NONE, 0, 0 },
	{ "cmp of rdx", CODE("\x0f\x05\x48\x81\xfa\0\xf0\xff\xff"), 2, 39, SITE_NONE, 0, 0 },
	{ "REX.B cmp (of rax all the same): not the exact form", CODE("\x0f\x05\x49\x3d\0\xf0\xff\xff"), 2, 39, SITE_NONE, 0, 0 },
	{ "sysenter", CODE("\xb8\x27\0\0\0\x0f\x34\xc3"), 7, 39, SITE_NONE, 0, 0 },
	{ "int 0x80", CODE("\xb8\x27\0\0\0\xcd\x80\xc3"), 7, 39, SITE_NONE, 0, 0 },
	{ "bare syscall; ret", CODE("\x0f\x05\xc3"), 2, 39, SITE_NONE, 0, 0 },
};

TEST(shapes)
{
	struct site_decoder *d = st_decoder_new();
	uint8_t page[SITE_PAGE];

	CHECK(d);
	for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
		const struct shape_case *c = &shapes[i];
		struct site_shape s = { .kind = SITE_NONE };
		bool can;

		memset(page, NOP, sizeof(page));
		memcpy(page + AT, c->code, c->size);
		can = st_site_decode(d, page, AT + c->behind, c->nr, &s);
		if (can != (c->kind != SITE_NONE) || s.kind != c->kind)
			test_fail(__FILE__, __LINE__, "%s: taken as %d", c->what, s.kind);
		if (!can)
			continue;
		CHECK_EQ(s.start, AT + c->start);
		CHECK_EQ(s.size, c->replaced);
		CHECK_MEM(s.bytes, c->code + c->start, c->replaced);
	}
	st_decoder_free(d);
}

/* Every place of a site relative to the page's borders: taken only when all of it lies in the page. */
TEST(borders)
{
	static const uint8_t cmp[] = { 0x0f, 0x05, 0x48, 0x3d, 0, 0xf0, 0xff, 0xff };
	static const uint8_t mov[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05 };
	struct site_decoder *d = st_decoder_new();
	uint8_t pages[3 * SITE_PAGE], *page = pages + SITE_PAGE;

	for (size_t behind = 2; behind <= SITE_PAGE; behind++) {
		struct site_shape s;

		if (behind == 20)
			behind = SITE_PAGE - 20;
		memset(pages, NOP, sizeof(pages));
		memcpy(page + behind - 2, cmp, sizeof(cmp));
		CHECK_EQ(st_site_decode(d, page, behind, 39, &s), behind + 6 <= SITE_PAGE);
		memset(pages, NOP, sizeof(pages));
		memcpy(page + behind - 7, mov, sizeof(mov));
		CHECK_EQ(st_site_decode(d, page, behind, 39, &s), behind > 7); /* some code before it must be there */
	}
	st_decoder_free(d);
}

/* Calls f with rax: what it returns there, and the flags. */
static uint64_t native_call(const uint8_t *f, uint64_t rax, uint64_t *ret_flags)
{
	uint64_t flags;

	__asm__ volatile("sub $160, %%rsp\n stc\n call *%[f]\n pushfq\n pop %[flags]\n add $160, %%rsp"
			 : "+a"(rax), [flags] "=&r"(flags)
			 : [f] "r"(f)
			 : "rcx", "rdx", "r9", "r11", "memory", "cc");
	*ret_flags = flags & 0x8d5;
	return rax;
}

/* Trampolines executed on the host: the rewritten code does what it did. */
TEST(trampolines_natively)
{
	struct site_decoder *d = st_decoder_new();
	uint8_t *tramps = mmap((void *)STUB_SITES, SITE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	uint8_t *page = mmap(NULL, SITE_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	const int numbers[] = { SYS_getppid, SYS_getuid, 100000 };

	CHECK(d && tramps != MAP_FAILED && page != MAP_FAILED);
	for (uint32_t i = 0; i < 15; i++) {
		int nr = numbers[i / 5];
		uint64_t want, got, want_flags, got_flags;
		struct site_shape s;
		size_t behind = AT + 7;

		memset(page, NOP, SITE_PAGE);
		memcpy(page + AT, "\xb8\0\0\0\0\x0f\x05\xc3", 8);
		memcpy(page + AT + 1, &nr, sizeof(nr));
		if (i % 5 == 1)
			memcpy(page + AT, "\x90\x0f\x05\x48\x3d\x01\xf0\xff\xff\xc3", 10), behind = AT + 3;
		if (i % 5 == 2)
			memcpy(page + AT, "\x90\x0f\x05\x3d\x01\xf0\xff\xff\xc3", 9), behind = AT + 3;
		if (i % 5 == 3) /* mov %r11, 16(%rsp): the caller's free place */
			memcpy(page + AT, "\x4c\x89\x5c\x24\x10\x0f\x05\xc3", 8), behind = AT + 7;
		if (i % 5 == 4) /* mov 8(%rsp), %r9; mov %rax, %rdx */
			memcpy(page + AT, "\x4c\x8b\x4c\x24\x08\x48\x89\xc2\x0f\x05\xc3", 11), behind = AT + 10;
		want = native_call(page + AT, (uint64_t)nr, &want_flags);
		CHECK(st_site_decode(d, page, behind, (uint64_t)nr, &s));
		st_trampoline_write(&s, (uint64_t)(uintptr_t)page, STUB_SITES + i * TRAMP_SIZE, 0, tramps + i * TRAMP_SIZE);
		st_site_write(&s, STUB_SITES + i * TRAMP_SIZE, page);
		got = native_call(page + AT, (uint64_t)nr, &got_flags);
		CHECK_EQ(got, want);
		CHECK_EQ(got_flags, want_flags);
	}
	st_decoder_free(d);
}

/* ---- the backend ---- */

static const struct platform_ops *ops = &platform_systrap;
static struct platform *platform;
static uint8_t *memory;
static int memory_fd;

/*
 * Code of the one page at CODE_PAGE: at MOV `1: mov $110, %eax; syscall; jmp 1b`, at CMP `1: mov $110, %eax; syscall; cmp $-4096,
 * %rax; setbe (%rdi)...` in a loop.
 */
enum { CODE_PAGE = 0x400000, DATA_PAGE = 0x500000, MOV = 64, CMP = 256, FILE_SIZE = 1 << 20, CALL_NR = 110 };
static const uint8_t mov_loop[] = { 0xb8, CALL_NR, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };
/* 1: push 110; pop rax; syscall; cmp $-4095, %rax; setae %dl; mov %dl, (%rdi); jmp 1b */
static const uint8_t cmp_loop[] = { 0x6a, CALL_NR, 0x58, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff, 0xff, 0x0f, 0x93, 0xc2, 0x88,
				    0x17, 0xeb, 0xee };
enum { MOV_BEHIND = MOV + 7, CMP_BEHIND = CMP + 5 };

static void open_platform(void)
{
	char why[128] = "";

	if (ops->probe(why, sizeof(why)) < 0)
		test_skip("%s", why);
	memory_fd = memfd_create("memory", 0);
	OK(ftruncate(memory_fd, FILE_SIZE));
	memory = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	memset(memory, NOP, SITE_PAGE);
	memcpy(memory + MOV, mov_loop, sizeof(mov_loop));
	memcpy(memory + CMP, cmp_loop, sizeof(cmp_loop));
	CHECK_EQ(ops->open(memory_fd, &platform), 0);
}

static void op(struct aspace *as, struct pcontext *ctx, int kind, uint64_t addr, uint64_t offset, uint8_t prot)
{
	struct aspace_op o = { .kind = kind, .addr = addr, .size = SITE_PAGE, .host_fd = memory_fd, .offset = offset, .prot = prot };

	ops->aspace_update(as, ctx, &o, 1);
}

static struct aspace *space_new(void)
{
	struct aspace *as;

	CHECK_EQ(ops->aspace_new(platform, &as), 0);
	op(as, NULL, ASPACE_MAP, CODE_PAGE, 0, R | X);
	op(as, NULL, ASPACE_MAP, DATA_PAGE, SITE_PAGE, R | W);
	return as;
}

static struct pcontext *context_at(uint64_t offset)
{
	struct pcontext *ctx;

	CHECK_EQ(ops->context_new(platform, &ctx), 0);
	ctx->regs.rip = CODE_PAGE + offset;
	ctx->regs.rdi = DATA_PAGE;
	ctx->regs.rsp = DATA_PAGE + SITE_PAGE;
	platform_regs_dirty(ctx);
	return ctx;
}

static int rewrite(struct aspace *as, struct pcontext *ctx)
{
	uint8_t copy[SITE_PAGE];
	struct platform_page page = { .addr = CODE_PAGE, .host_fd = memory_fd, .prot = R | X, .bytes = copy };

	memcpy(copy, memory, SITE_PAGE);
	return ops->site_rewrite(as, ctx, ctx->syscall.ip, &page);
}

/* Runs to the next call, which must be the loop's, and answers it. */
static void one_call(struct aspace *as, struct pcontext *ctx, uint64_t behind, int64_t result)
{
	CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
	CHECK_EQ(ctx->syscall.nr, CALL_NR);
	CHECK_EQ(ctx->syscall.ip, CODE_PAGE + behind);
	ops->set_result(ctx, result);
}

/* Whether the guest executes rewritten code: a rewritten site's calls are not counted. */
static bool is_rewritten(struct aspace *as, struct pcontext *ctx, uint64_t behind)
{
	ctx->hot_ip = 0;
	for (int i = 0; i < 70 && !ctx->hot_ip; i++) {
		memset(st_context(ctx)->heat, 0, i ? 0 : sizeof(st_context(ctx)->heat));
		one_call(as, ctx, behind, 1);
	}
	return !ctx->hot_ip;
}

static void check_kind(uint64_t at, uint64_t behind)
{
	struct aspace *as = space_new();
	struct pcontext *ctx = context_at(at);
	uint8_t before[SITE_PAGE];

	memcpy(before, memory, SITE_PAGE);
	CHECK(!is_rewritten(as, ctx, behind));
	CHECK_EQ(ctx->hot_ip, CODE_PAGE + behind);
	CHECK_EQ(rewrite(as, ctx), 0);
	CHECK(is_rewritten(as, ctx, behind));
	CHECK_EQ(rewrite(as, ctx), -EOPNOTSUPP); /* it is done */
	/* the tail is executed: an error is one */
	one_call(as, ctx, behind, -38);
	one_call(as, ctx, behind, 5);
	CHECK_EQ(memory[SITE_PAGE], at == CMP);
	CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
	CHECK_EQ(memory[SITE_PAGE], 0);
	/* all registers of a waiting thread are those of the original code */
	CHECK_EQ(platform_regs(ctx)->rip, CODE_PAGE + behind);
	platform_regs(ctx)->rip -= 2; /* a restart */
	platform_regs(ctx)->rax = CALL_NR;
	platform_regs_dirty(ctx);
	one_call(as, ctx, behind, 1);
	/* each change of the page undoes it */
	op(as, ctx, ASPACE_PROTECT, CODE_PAGE, 0, R | X);
	CHECK(!is_rewritten(as, ctx, behind));
	CHECK_EQ(rewrite(as, ctx), 0);
	CHECK(is_rewritten(as, ctx, behind));
	op(as, ctx, ASPACE_MAP, CODE_PAGE, 0, R | X);
	CHECK(!is_rewritten(as, ctx, behind));
	CHECK_EQ(rewrite(as, ctx), 0);
	op(as, ctx, ASPACE_UNMAP, CODE_PAGE, 0, 0);
	CHECK_EQ(ops->context_switch(ctx, as), SWITCH_FAULT);
	op(as, ctx, ASPACE_MAP, CODE_PAGE, 0, R | X);
	CHECK(!is_rewritten(as, ctx, behind));
	CHECK_MEM(memory, before, SITE_PAGE);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

TEST(rewritten_and_undone)
{
	open_platform();
	check_kind(MOV, MOV_BEHIND);
	check_kind(CMP, CMP_BEHIND);
}

TEST(steps_see_the_original)
{
	struct aspace *as;
	struct pcontext *ctx;

	open_platform();
	as = space_new();
	ctx = context_at(MOV);
	one_call(as, ctx, MOV_BEHIND, 1);
	CHECK_EQ(rewrite(as, ctx), 0);
	CHECK(is_rewritten(as, ctx, MOV_BEHIND));
	ops->set_step(ctx, true);
	for (int i = 0; i < 20; i++) {
		enum switch_why why = ops->context_switch(ctx, as);
		uint64_t at = (why == SWITCH_SYSCALL ? ctx->syscall.ip : platform_regs(ctx)->rip) - CODE_PAGE;

		CHECK(why == SWITCH_SYSCALL || (why == SWITCH_SIGNAL && ctx->signal.signo == SIGTRAP));
		CHECK(at == MOV || at == MOV + 5 || at == MOV + 7);
		if (why == SWITCH_SYSCALL)
			ops->set_result(ctx, 0);
	}
	ops->set_step(ctx, false);
	CHECK(!is_rewritten(as, ctx, MOV_BEHIND));
	ops->context_free(ctx);
	ops->aspace_free(as);
}

TEST(exec_forgets)
{
	struct aspace *as, *next;
	struct pcontext *ctx;

	open_platform();
	as = space_new();
	ctx = context_at(MOV);
	one_call(as, ctx, MOV_BEHIND, 1);
	CHECK_EQ(rewrite(as, ctx), 0);
	CHECK(is_rewritten(as, ctx, MOV_BEHIND));
	next = space_new();
	platform_regs(ctx)->rip = CODE_PAGE + MOV;
	platform_regs_dirty(ctx);
	ops->aspace_free(as);
	CHECK(!is_rewritten(next, ctx, MOV_BEHIND));
	/* nothing is left where the trampolines were */
	platform_regs(ctx)->rip = STUB_SITES + TRAMP_LEA;
	platform_regs_dirty(ctx);
	CHECK_EQ(ops->context_switch(ctx, next), SWITCH_FAULT);
	CHECK_EQ(ctx->fault.addr, STUB_SITES + TRAMP_LEA);
	ops->context_free(ctx);
	ops->aspace_free(next);
}

/* More sites than trampolines, more pages than one space may have: refused, and the calls go on. */
TEST_TIMED(limits, 60)
{
	struct aspace *as;
	struct pcontext *ctx;
	int refused = 0;

	open_platform();
	as = space_new();
	ctx = context_at(MOV);
	for (uint64_t i = 0; i < 80; i++) {
		uint64_t addr = 0x10000000 + i * SITE_PAGE;
		uint8_t copy[SITE_PAGE];
		struct platform_page page = { .addr = addr, .host_fd = memory_fd, .prot = R | X, .bytes = copy };
		int err;

		memcpy(copy, memory, SITE_PAGE);
		op(as, ctx, ASPACE_MAP, addr, 0, R | X);
		if (i)
			platform_regs(ctx)->rip = addr + MOV;
		else
			ctx->regs.rip = addr + MOV;
		platform_regs_dirty(ctx);
		CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
		CHECK_EQ(ctx->syscall.ip, addr + MOV_BEHIND);
		err = ops->site_rewrite(as, ctx, ctx->syscall.ip, &page);
		CHECK(err == 0 || err == -ENOMEM);
		refused += err == -ENOMEM;
		ops->set_result(ctx, 0);
		for (int k = 0; k < 3; k++) {
			CHECK_EQ(ops->context_switch(ctx, as), SWITCH_SYSCALL);
			CHECK_EQ(ctx->syscall.ip, addr + MOV_BEHIND);
			ops->set_result(ctx, 0);
		}
	}
	CHECK(refused > 0 && refused < 80);
	ops->context_free(ctx);
	ops->aspace_free(as);
}

struct hammer {
	struct aspace *as;
	uint64_t at, behind;
	_Atomic(struct pcontext *) ctx;
	_Atomic bool stop;
	_Atomic long calls, bad;
	pthread_t thread;
};

static void *hammer_main(void *arg)
{
	struct hammer *h = arg;
	struct pcontext *ctx = context_at(h->at);

	h->ctx = ctx;
	while (!h->stop) {
		enum switch_why why = ops->context_switch(ctx, h->as);

		if (why == SWITCH_INTERRUPT)
			continue;
		if (why != SWITCH_SYSCALL || ctx->syscall.nr != CALL_NR || ctx->syscall.ip != CODE_PAGE + h->behind) {
			printf("switch %d, signal %d at 0x%llx\n", (int)why, ctx->signal.signo,
			       (unsigned long long)(ctx->regs_valid ? ctx->regs.rip : ctx->syscall.ip));
			h->bad++;
			break;
		}
		if (h->calls++ % 16 == 0 && platform_regs(ctx)->rip != CODE_PAGE + h->behind)
			h->bad++;
		ops->set_result(ctx, 0);
	}
	h->ctx = NULL;
	ops->context_free(ctx);
	return NULL;
}

static long fewest_calls(struct hammer *h, size_t count)
{
	long least = h[0].calls;

	for (size_t i = 1; i < count; i++)
		least = MIN(least, (long)h[i].calls);
	return least;
}

/* Two threads in each kind of site while both are rewritten and undone, in every way, and kicks fly. */
TEST_TIMED(threads_hammer, 60)
{
	struct hammer h[4];
	struct pcontext *mov, *cmp;
	struct aspace *as;

	open_platform();
	as = space_new();
	mov = context_at(MOV);
	cmp = context_at(CMP);
	one_call(as, mov, MOV_BEHIND, 0);
	CHECK_EQ(ops->aspace_reserve(as, mov), 0);
	one_call(as, cmp, CMP_BEHIND, 0);
	memset(h, 0, sizeof(h));
	for (size_t i = 0; i < ARRAY_COUNT(h); i++) {
		h[i].as = as;
		h[i].at = i & 1 ? CMP : MOV;
		h[i].behind = i & 1 ? CMP_BEHIND : MOV_BEHIND;
		CHECK_EQ(ops->aspace_reserve(as, mov), 0);
		CHECK_EQ(pthread_create(&h[i].thread, NULL, hammer_main, &h[i]), 0);
	}
	for (int round = 0; round < 400 || (round < 20000 && fewest_calls(h, ARRAY_COUNT(h)) <= 100); round++) {
		struct pcontext *kicked = h[round % 4].ctx;

		CHECK_EQ(rewrite(as, mov), 0);
		if (round % 3)
			CHECK_EQ(rewrite(as, cmp), 0);
		usleep(300);
		if (kicked)
			ops->context_interrupt(kicked);
		one_call(as, mov, MOV_BEHIND, 0);
		one_call(as, cmp, CMP_BEHIND, 0);
		op(as, round % 2 ? mov : NULL, round % 4 < 2 ? ASPACE_PROTECT : ASPACE_MAP, CODE_PAGE, 0, R | X);
	}
	for (size_t i = 0; i < ARRAY_COUNT(h); i++) {
		struct pcontext *ctx = h[i].ctx;

		h[i].stop = true;
		if (ctx)
			ops->context_interrupt(ctx);
		CHECK_EQ(pthread_join(h[i].thread, NULL), 0);
		CHECK_EQ(h[i].bad, 0);
		CHECK(h[i].calls > 100);
	}
	ops->context_free(mov);
	ops->context_free(cmp);
	ops->aspace_free(as);
}
