/*
 * The tests of platform_boundary.c on the kvm backend, and what a hostile guest can try in a machine of its own: the kernel half,
 * privileged instructions, segments, translations that are gone, files that are cut short, more threads than vCPUs.
 */
#define PLATFORM platform_kvm
#define NO_STUBS 1
#include "tests/unit/platform_boundary.c"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

enum { R = PLATFORM_READ, W = PLATFORM_WRITE, X = PLATFORM_EXEC, PAGE = 4096, DATA_OFFSET = 1 << 20, OTHER = 2 << 20 };
static const uint64_t kernel_half = 0xffffc90000000000, kernel_syscall = 0xffffc90010000000;

static uint64_t *word_at(uint64_t offset)
{
	return (uint64_t *)(void *)(memory + offset);
}

static void start_at(struct box *b, uint64_t rip)
{
	*platform_regs(b->ctx) = (struct guest_regs){ .rip = rip, .rsp = DATA + 65536, .rdi = DATA, .rsi = DATA };
	platform_regs_dirty(b->ctx);
}

/* A context that still runs ordinary code, whatever it did before. */
static void expect_healthy(struct box *b)
{
	static const uint8_t code[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05 };

	memcpy(memory + 3072, code, sizeof(code));
	start_at(b, CODE + 3072);
	ops->set_step(b->ctx, false);
	CHECK(run(b) == SWITCH_SYSCALL && b->ctx->syscall.nr == 39 && b->ctx->syscall.ip == CODE + 3072 + 7);
}

/* Reads, writes and jumps all over the upper half: faults there, and nothing else. */
static void test_kernel_half(void)
{
	static const uint8_t code[] = { 0x48, 0x8b, 0x07, 0xf4, 0x90, 0x90, 0x90, 0x90,	  /* mov (%rdi),%rax; hlt */
					0x48, 0x89, 0x07, 0xf4, 0x90, 0x90, 0x90, 0x90,	  /* mov %rax,(%rdi); hlt */
					0xff, 0xe7 };					  /* jmp *%rdi */
	static const uint8_t access[] = { R, W, X };
	struct box b = box_new(code, sizeof(code));
	int wrong = 0, calls = 0;

	for (uint64_t i = 0; i < 96 * 3; i++) {
		uint64_t at = i / 3 < 64 ? kernel_half + i / 3 * PAGE : 0xffff800000000000 + (i / 3 - 64) * 0x80800000000;
		enum switch_why why;

		if (i / 3 == 95)
			at = kernel_syscall;
		start_at(&b, CODE + i % 3 * 8);
		b.ctx->regs.rdi = at;
		b.ctx->regs.rcx = CODE;
		why = run(&b);
		if (why == SWITCH_SYSCALL && at == kernel_syscall && i % 3 == 2)
			calls++; /* its own call, from where rcx says */
		else if (why != SWITCH_FAULT || b.ctx->fault.addr != at || b.ctx->fault.access != access[i % 3] ||
			 b.ctx->fault.mapped)
			wrong++, printf("# %llx form %d: %d, %llx access %d signal %d\n", (unsigned long long)at, (int)(i % 3), (int)why,
					(unsigned long long)b.ctx->fault.addr, b.ctx->fault.access, b.ctx->signal.signo);
	}
	CHECK(wrong == 0 && calls == 1);
	expect_healthy(&b);
	box_free(&b);
}

/* Reads, writes and jumps where this process itself lies, which ring-0 mode shows in the guest's page tables. */
static void test_own_half(void)
{
	static const uint8_t code[] = { 0x48, 0x8b, 0x07, 0xf4, 0x90, 0x90, 0x90, 0x90,	  /* mov (%rdi),%rax; hlt */
					0x48, 0x89, 0x07, 0xf4, 0x90, 0x90, 0x90, 0x90,	  /* mov %rax,(%rdi); hlt */
					0xff, 0xe7 };					  /* jmp *%rdi */
	static const uint8_t access[] = { R, W, X };
	static uint64_t data = 42;
	uint64_t local = 42, *heap = malloc(sizeof(*heap));
	const uint64_t places[] = { (uint64_t)(uintptr_t)&data, (uint64_t)(uintptr_t)&local, (uint64_t)(uintptr_t)heap,
				    (uint64_t)(uintptr_t)test_own_half, (uint64_t)(uintptr_t)&errno, 0x550000000000, 0x7ffffffff000 };
	struct box b = box_new(code, sizeof(code));

	*heap = 42;
	for (uint64_t i = 0; i < sizeof(places) / sizeof(places[0]) * 3; i++) {
		start_at(&b, CODE + i % 3 * 8);
		b.ctx->regs.rdi = places[i / 3];
		CHECK(run(&b) == SWITCH_FAULT && b.ctx->fault.addr == places[i / 3] && b.ctx->fault.access == access[i % 3] &&
		      !b.ctx->fault.mapped);
	}
	CHECK(data == 42 && local == 42 && *heap == 42);
	free(heap);
	/* Returns there: to an address of the guest's highest half, and to none at all. */
	start_at(&b, places[3]);
	CHECK(run(&b) == SWITCH_FAULT && b.ctx->fault.addr == places[3]);
	start_at(&b, 1ull << 62);
	CHECK(run(&b) == SWITCH_SIGNAL || b.ctx->fault.addr == 1ull << 62);
	expect_healthy(&b);
	box_free(&b);
}

struct watcher {
	struct pcontext *ctx;
	_Atomic bool stop;
	useconds_t every;
	pthread_t thread;
};

static void *watcher_main(void *arg)
{
	struct watcher *w = arg;

	while (!w->stop) {
		usleep(w->every);
		ops->context_interrupt(w->ctx);
	}
	return NULL;
}

static void watcher_start(struct watcher *w, struct pcontext *ctx, useconds_t every)
{
	*w = (struct watcher){ .ctx = ctx, .every = every };
	pthread_create(&w->thread, NULL, watcher_main, w);
}

static void watcher_end(struct watcher *w, struct box *b)
{
	w->stop = true;
	pthread_join(w->thread, NULL);
	while (b->ctx->interrupted)
		run(b);
}

/* Every opcode of the one-byte and two-byte maps and of the groups of system instructions, each with all its operands'
 * forms that one byte tells: a call, a fault, a signal, or nothing. Never the end of the process. */
static void test_opcodes(void)
{
	static const uint8_t prefix[][3] = { { 0 }, { 1, 0x0f }, { 2, 0x66, 0x0f }, { 2, 0xf3, 0x0f }, { 2, 0xf2, 0x0f },
					     { 2, 0x0f, 0x00 }, { 2, 0x0f, 0x01 }, { 2, 0x0f, 0xae }, { 2, 0x0f, 0xc7 },
					     { 2, 0x0f, 0x20 }, { 2, 0x0f, 0x22 }, { 2, 0x0f, 0x23 }, { 1, 0x48 }, { 1, 0xf0 },
					     { 1, 0xff }, { 1, 0xcd } };
	struct box b = box_new("\xf4", 1);
	struct watcher w;
	int why_count[5] = { 0 };

	watcher_start(&w, b.ctx, 3000);
	for (size_t p = 0; p < sizeof(prefix) / sizeof(prefix[0]); p++)
		for (int op = 0; op < 256; op++) {
			uint8_t code[16] = { 0 };
			size_t n = prefix[p][0];
			enum switch_why why;

			memcpy(code, prefix[p] + 1, n);
			code[n] = (uint8_t)op;
			code[n + 1] = 0x07;
			memcpy(memory, code, sizeof(code));
			start_at(&b, CODE);
			b.ctx->regs.rax = 0x80000001;
			why = run(&b);
			why_count[why]++;
			if (why == SWITCH_DEAD) {
				printf("# dead: prefix %zu opcode %02x\n", p, op);
				break;
			}
		}
	printf("# opcodes: %d calls, %d faults, %d signals, %d interrupted, %d dead\n", why_count[SWITCH_SYSCALL],
	       why_count[SWITCH_FAULT], why_count[SWITCH_SIGNAL], why_count[SWITCH_INTERRUPT], why_count[SWITCH_DEAD]);
	CHECK(why_count[SWITCH_DEAD] == 0 && why_count[SWITCH_SIGNAL] > 500);
	watcher_end(&w, &b);
	expect_healthy(&b);
	box_free(&b);
}

/* Instructions that only a kernel may use: a signal, and the thread goes on as before. */
static void test_privileged(void)
{
	static const uint8_t code[][12] = {
		{ 1, 0xf4 },		     /* hlt */
		{ 1, 0xfa },		     /* cli */
		{ 1, 0xec },		     /* in */
		{ 1, 0xee },		     /* out */
		{ 1, 0x6c },		     /* ins */
		{ 1, 0x6e },		     /* outs */
		{ 2, 0xf3, 0x6e },	     /* rep outs */
		{ 3, 0x0f, 0x20, 0xd8 },     /* mov %cr3,%rax */
		{ 3, 0x0f, 0x22, 0xd8 },     /* mov %rax,%cr3 */
		{ 3, 0x0f, 0x22, 0xe0 },     /* mov %rax,%cr4 */
		{ 4, 0x44, 0x0f, 0x22, 0xc0 }, /* mov %rax,%cr8 */
		{ 3, 0x0f, 0x23, 0xc0 },     /* mov %rax,%db0 */
		{ 2, 0x0f, 0x30 },	     /* wrmsr */
		{ 2, 0x0f, 0x32 },	     /* rdmsr */
		{ 3, 0x0f, 0x01, 0x17 },     /* lgdt (%rdi) */
		{ 3, 0x0f, 0x01, 0x1f },     /* lidt (%rdi) */
		{ 3, 0x0f, 0x00, 0xd0 },     /* lldt %ax */
		{ 3, 0x0f, 0x00, 0xd8 },     /* ltr %ax */
		{ 3, 0x0f, 0x01, 0xf0 },     /* lmsw %ax */
		{ 3, 0x0f, 0x01, 0x3f },     /* invlpg (%rdi) */
		{ 3, 0x0f, 0x01, 0xd1 },     /* xsetbv */
		{ 3, 0x0f, 0x01, 0xf8 },     /* swapgs */
		{ 2, 0x0f, 0x06 },	     /* clts */
		{ 2, 0x0f, 0x09 },	     /* wbinvd */
		{ 2, 0x0f, 0x08 },	     /* invd */
		{ 3, 0x48, 0x0f, 0x07 },     /* sysretq */
		{ 2, 0x0f, 0x35 },	     /* sysexit */
		{ 3, 0x0f, 0x01, 0xc8 },     /* monitor */
		{ 2, 0xcd, 0x20 },	     /* int $0x20 */
		{ 2, 0xcd, 0x02 },	     /* int $2: no way to the handler of another vector */
		{ 2, 0xcd, 0x0e },	     /* int $14 */
	};
	struct box b = box_new("\xf4", 1);

	for (size_t i = 0; i < sizeof(code) / sizeof(code[0]); i++) {
		enum switch_why why;

		memset(memory, 0xf4, 64);
		memcpy(memory, code[i] + 1, code[i][0]);
		start_at(&b, CODE);
		b.ctx->regs.rcx = 0xc0000082; /* LSTAR */
		why = run(&b);
		if (why != SWITCH_SIGNAL || (b.ctx->signal.signo != SIGSEGV && b.ctx->signal.signo != SIGILL)) {
			printf("# privileged instruction %zu: %d, signal %d\n", i, (int)why, b.ctx->signal.signo);
			CHECK(!"a signal");
		}
		expect_healthy(&b);
	}
	box_free(&b);
}

/* Far jumps and returns through every selector, with every kind of frame. */
static void test_segments(void)
{
	static const uint64_t flags[] = { 0x202, 0x3202, 0x4202, 0x20202, 0x302 };
	static const uint8_t iretq[] = { 0x48, 0xcf }, lretq[] = { 0x48, 0xcb }, load[] = { 0x8e, 0xd8, 0x8e, 0xe0, 0x8e, 0xe8, 0xf4 };
	uint64_t *frame = word_at(DATA_OFFSET + 32768);
	struct box b = box_new("\xf4", 1);
	int dead = 0;

	for (uint64_t selector = 0; selector < 0x60; selector++)
		for (int form = 0; form < 7; form++) {
			memset(memory, 0xf4, 64);
			memcpy(memory, form == 6 ? load : form == 5 ? lretq : iretq, form == 6 ? sizeof(load) : 2);
			frame[0] = form == 4 ? kernel_half : CODE + 32;
			frame[1] = selector;
			frame[2] = flags[form % 5];
			frame[3] = DATA + 4096;
			frame[4] = form == 3 ? selector : 0x2b;
			start_at(&b, CODE);
			b.ctx->regs.rsp = DATA + 32768;
			b.ctx->regs.rax = selector;
			if (run(&b) == SWITCH_DEAD) {
				printf("# dead: selector %x form %d\n", (int)selector, form);
				dead++;
			}
			if (selector % 8 == 3)
				expect_healthy(&b);
		}
	CHECK(dead == 0);
	expect_healthy(&b);
	box_free(&b);
}

/* mov (%rdi),%rsi; mov $1,%eax; syscall; jmp back */
static const uint8_t look[] = { 0x48, 0x8b, 0x37, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf4 };

static bool sees(struct box *b, uint64_t value)
{
	return run(b) == SWITCH_SYSCALL && b->ctx->syscall.arg[1] == value;
}

/* A translation that was used is gone as soon as it was changed. */
static void test_translations(void)
{
	enum { AT = 0x10000000 };
	struct box b = box_new(look, sizeof(look));
	struct aspace_op op[2] = { map_op(AT, PAGE, OTHER, R | W), map_op(AT, PAGE, OTHER + PAGE, R) };
	struct aspace_op gone = { .kind = ASPACE_UNMAP, .addr = AT, .size = PAGE };
	int wrong = 0;

	*word_at(OTHER) = 111;
	*word_at(OTHER + PAGE) = 222;
	start_at(&b, CODE);
	b.ctx->regs.rdi = AT;
	for (int i = 0; i < 200; i++) {
		ops->aspace_update(b.as, b.ctx, &op[i & 1], 1);
		wrong += !sees(&b, i & 1 ? 222 : 111);
		if (i % 3)
			continue;
		ops->aspace_update(b.as, b.ctx, &gone, 1);
		wrong += run(&b) != SWITCH_FAULT || b.ctx->fault.addr != AT || b.ctx->fault.mapped;
		ops->aspace_update(b.as, b.ctx, &op[i & 1], 1);
		wrong += !sees(&b, i & 1 ? 222 : 111);
	}
	CHECK(wrong == 0);
	box_free(&b);
}

/* Tables are given out again many times over: each space sees what it maps, at the same and at other addresses. */
static void test_recycled_tables(void)
{
	struct box b = box_new(look, sizeof(look));
	int wrong = 0;

	for (uint64_t i = 0; i < 64; i++)
		*word_at(OTHER + i * PAGE) = 1000 + i;
	for (uint64_t i = 0; i < 1500; i++) {
		uint64_t at = 0x10000000 + i % 7 * 0x8000000000 + i % 5 * 0x40000000 + i % 3 * 0x200000, frame = i * 7 % 64;
		struct aspace_op op[] = { map_op(CODE, PAGE, 0, R | X), map_op(at, PAGE, OTHER + frame * PAGE, R),
					  map_op(at + PAGE, PAGE, OTHER + (63 - frame) * PAGE, R) };
		struct aspace *as;

		if (ops->aspace_new(platform, &as) < 0) {
			wrong++;
			break;
		}
		ops->aspace_update(as, NULL, op, 3);
		ops->aspace_free(b.as);
		b.as = as;
		start_at(&b, CODE);
		b.ctx->regs.rdi = at;
		wrong += !sees(&b, 1000 + frame);
		start_at(&b, CODE);
		b.ctx->regs.rdi = at + PAGE;
		wrong += !sees(&b, 1000 + 63 - frame);
		start_at(&b, CODE); /* what an earlier space had there */
		b.ctx->regs.rdi = at + 2 * PAGE;
		wrong += run(&b) != SWITCH_FAULT;
	}
	CHECK(wrong == 0);
	box_free(&b);
}

/* Runs `look` over op's first word as mm would, mapping what is missing. The number of faults until it saw value, or -1. */
static int faults_until_seen(struct box *b, struct aspace_op op, uint64_t value)
{
	const struct aspace_op code = map_op(CODE, PAGE, 0, R | X);

	start_at(b, CODE);
	b->ctx->regs.rdi = op.addr;
	for (int faults = 0; faults < 4; faults++) {
		enum switch_why why = run(b);

		if (why != SWITCH_FAULT)
			return why == SWITCH_SYSCALL && b->ctx->syscall.arg[1] == value ? faults : -1;
		ops->aspace_update(b->as, b->ctx, b->ctx->fault.addr >> 12 == CODE >> 12 ? &code : &op, 1);
	}
	return -1;
}

/* A space that uses up its tables is emptied and goes on. */
static void test_too_many_tables(void)
{
	struct box b = box_new(look, sizeof(look));
	uint64_t at = 0x100000000;

	*word_at(OTHER) = 5;
	for (uint64_t i = 0; i < 40000; i++) {
		struct aspace_op op = map_op(at + i * 0x200000, PAGE, OTHER, R);

		ops->aspace_update(b.as, b.ctx, &op, 1);
	}
	CHECK(faults_until_seen(&b, map_op(at, PAGE, OTHER, R), 5) == 2);
	box_free(&b);
}

static int file_with(uint64_t value, uint64_t size)
{
	int fd = memfd_create("other", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, (off_t)size) < 0 || pwrite(fd, &value, sizeof(value), 0) != sizeof(value))
		exit(1);
	return fd;
}

/* Files other than the memory file: cut short under the guest, closed and their number reused. */
static void test_files(void)
{
	enum { AT = 0x10000000 };
	struct box b = box_new(look, sizeof(look));
	struct aspace_op gone = { .kind = ASPACE_UNMAP, .addr = AT, .size = 2 * PAGE };
	int fd, again;

	fd = file_with(77, 2 * PAGE);
	struct aspace_op op = { .kind = ASPACE_MAP, .addr = AT, .size = 2 * PAGE, .host_fd = fd, .prot = R | W };

	ops->aspace_update(b.as, b.ctx, &op, 1);
	start_at(&b, CODE);
	b.ctx->regs.rdi = AT;
	CHECK(sees(&b, 77));
	CHECK(ftruncate(fd, 0) == 0);
	CHECK(run(&b) == SWITCH_SIGNAL && b.ctx->signal.signo == SIGBUS);
	start_at(&b, CODE);
	b.ctx->regs.rdi = AT + PAGE; /* never touched while it was there */
	CHECK(run(&b) == SWITCH_SIGNAL && b.ctx->signal.signo == SIGBUS);
	start_at(&b, AT); /* no execute permission either */
	CHECK(run(&b) == SWITCH_FAULT);
	expect_healthy(&b);
	ops->aspace_update(b.as, b.ctx, &gone, 1);
	close(fd);
	again = file_with(88, 2 * PAGE);
	CHECK(again == fd);
	op.host_fd = again;
	ops->aspace_update(b.as, b.ctx, &op, 1);
	start_at(&b, CODE);
	b.ctx->regs.rdi = AT;
	CHECK(sees(&b, 88));
	ops->aspace_update(b.as, b.ctx, &gone, 1);
	box_free(&b);
	close(again);
}

/* Thousands of windows of files at a time: the space loses some, and goes on. */
static void test_many_windows(void)
{
	enum { AT = 0x10000000, COUNT = 9000 };
	struct box b = box_new(look, sizeof(look));
	int fd = file_with(99, (uint64_t)COUNT << 21);
	struct aspace_op first = { .kind = ASPACE_MAP, .addr = AT, .size = PAGE, .host_fd = fd, .prot = R }, op = first;

	for (uint64_t i = 0; i < COUNT; i++) {
		op.addr = AT + i * PAGE;
		op.offset = i << 21;
		ops->aspace_update(b.as, b.ctx, &op, 1);
	}
	CHECK(faults_until_seen(&b, op, 0) == 1); /* the code */
	CHECK(faults_until_seen(&b, first, 99) == 1);
	box_free(&b);
	close(fd);
}

/* A flood of interrupts: every call is seen once, in order, with its own registers. */
static void test_interrupted_calls(void)
{
	/* 1: inc %rbx; mov %rbx,%rdi; mov %rbx,(%rsp); mov $1,%eax; syscall; jmp 1b */
	static const uint8_t code[] = { 0x48, 0xff, 0xc3, 0x48, 0x89, 0xdf, 0x48, 0x89, 0x1c, 0x24,
					0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xed };
	struct aspace_op op = { .kind = ASPACE_PROTECT, .addr = DATA, .size = 65536, .prot = R };
	struct box b = box_new(code, sizeof(code));
	uint64_t calls = 0, faults = 0, interrupts = 0;
	struct watcher w;
	int wrong = 0;

	start_at(&b, CODE);
	b.ctx->regs.rsp = DATA;
	watcher_start(&w, b.ctx, 50);
	while (calls < 5000 && !wrong) {
		switch (run(&b)) {
		case SWITCH_SYSCALL:
			wrong += b.ctx->syscall.arg[0] != ++calls || *word_at(DATA_OFFSET) != calls;
			ops->set_result(b.ctx, 0);
			if (calls % 8 == 0) {
				op.prot = R;
				ops->aspace_update(b.as, b.ctx, &op, 1);
			}
			break;
		case SWITCH_FAULT:
			faults++;
			wrong += b.ctx->fault.addr != DATA || b.ctx->fault.access != W || b.ctx->regs.rbx != calls + 1;
			op.prot = R | W;
			ops->aspace_update(b.as, b.ctx, &op, 1);
			break;
		case SWITCH_INTERRUPT:
			interrupts++;
			break;
		default:
			wrong++;
		}
	}
	watcher_end(&w, &b);
	printf("# %llu calls, %llu faults, %llu interrupts\n", (unsigned long long)calls, (unsigned long long)faults,
	       (unsigned long long)interrupts);
	CHECK(wrong == 0 && faults + 1 >= calls / 8 && interrupts > 10);
	box_free(&b);
}

/* More contexts than vCPUs, one after the other: each finds its own FPU state and bases. */
static void test_many_contexts(void)
{
	/* movq %xmm0,%rdi; rdfsbase %rsi; mov $1,%eax; syscall; jmp back */
	static const uint8_t code[] = { 0x66, 0x48, 0x0f, 0x7e, 0xc7, 0xf3, 0x48, 0x0f, 0xae, 0xc6,
					0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xed };
	enum { COUNT = 80 };
	struct box b = box_new(code, sizeof(code));
	struct pcontext *ctx[COUNT];
	static uint8_t image[16384];
	int wrong = 0;

	CHECK(ops->fpu_get(b.ctx, image, sizeof(image)) >= 576);
	for (uint64_t i = 0; i < COUNT; i++) {
		uint64_t value = 0x1000 + i;

		if (ops->context_new(platform, &ctx[i]) < 0)
			exit(1);
		memcpy(image + 160, &value, sizeof(value));
		image[512] |= 2;
		wrong += ops->fpu_set(ctx[i], image, 576) != 0;
		ctx[i]->regs.rip = CODE;
		ctx[i]->regs.fs_base = 0x2000 + i;
	}
	for (uint64_t k = 0; k < 5; k++)
		for (uint64_t i = 0; i < COUNT; i++) {
			struct pcontext *c = ctx[(i * (k + 1)) % COUNT];

			wrong += ops->context_switch(c, b.as) != SWITCH_SYSCALL || c->syscall.arg[0] + 0x1000 != c->syscall.arg[1] ||
				 c->syscall.arg[0] < 0x1000;
		}
	CHECK(wrong == 0);
	for (int i = 0; i < COUNT; i++)
		ops->context_free(ctx[i]);
	box_free(&b);
}

struct spinner {
	struct aspace *as;
	uint64_t word;
	_Atomic(struct pcontext *) ctx;
	_Atomic bool stop, told; /* told: nobody interrupts it any more */
	pthread_t thread;
};

static void *spinner_main(void *arg)
{
	struct spinner *s = arg;
	struct pcontext *ctx;

	if (ops->context_new(platform, &ctx) < 0)
		exit(1);
	ctx->regs.rip = CODE;
	ctx->regs.rdi = s->word;
	s->ctx = ctx;
	while (!s->stop && ops->context_switch(ctx, s->as) != SWITCH_DEAD)
		;
	while (!s->told)
		usleep(100);
	ops->context_free(ctx);
	return NULL;
}

/* More threads that never make a call than there are vCPUs: all of them get on, and all can be stopped. */
static void test_many_spinners(void)
{
	static const uint8_t count[] = { 0x48, 0xff, 0x07, 0xeb, 0xfb }; /* 1: incq (%rdi); jmp 1b */
	enum { COUNT = 48 };
	struct box b = box_new(count, sizeof(count));
	static struct spinner s[COUNT];
	int progress = 0;

	memset(memory + DATA_OFFSET, 0, 65536);
	for (uint64_t i = 0; i < COUNT; i++) {
		s[i] = (struct spinner){ .as = b.as, .word = DATA + i * 64 };
		pthread_create(&s[i].thread, NULL, spinner_main, &s[i]);
	}
	for (int tries = 0; tries < 1000 && progress < COUNT; tries++) {
		usleep(20000);
		progress = 0;
		for (uint64_t i = 0; i < COUNT; i++)
			progress += __atomic_load_n(word_at(DATA_OFFSET + i * 64), __ATOMIC_RELAXED) > 0;
	}
	printf("# %d of %d got on\n", progress, COUNT);
	CHECK(progress == COUNT);
	for (int i = 0; i < COUNT; i++) {
		s[i].stop = true;
		ops->context_interrupt(s[i].ctx);
		s[i].told = true;
	}
	for (int i = 0; i < COUNT; i++)
		pthread_join(s[i].thread, NULL);
	box_free(&b);
}

/* Protection keys and tile state, which the guest's processor may or may not have: a signal at most. */
static void test_keys_and_tiles(void)
{
	/* xor %ecx,%ecx; xor %edx,%edx; or $-1,%eax; wrpkru; mov (%rdi),%rax; hlt */
	static const uint8_t keys[] = { 0x31, 0xc9, 0x31, 0xd2, 0x83, 0xc8, 0xff, 0x0f, 0x01, 0xef, 0x48, 0x8b, 0x07, 0xf4 };
	static const uint8_t tiles[] = { 0xc4, 0xe2, 0x78, 0x49, 0x07, 0xc4, 0xe2, 0x78, 0x49, 0xc0, 0xf4 };
	struct box b = box_new(keys, sizeof(keys));

	start_at(&b, CODE);
	CHECK(run(&b) == SWITCH_SIGNAL);
	box_free(&b);
	b = box_new(tiles, sizeof(tiles));
	memory[DATA_OFFSET] = 1; /* palette */
	start_at(&b, CODE);
	CHECK(run(&b) == SWITCH_SIGNAL);
	expect_healthy(&b);
	box_free(&b);
}

/*
 * A device may leave tile registers on that the machine's XCR0 has not, and KVM does not save those: what one guest puts there
 * must not be there for the next.
 */
static void test_tiles_are_private(void)
{
	/* ldtilecfg (%rdi); mov $1,%eax; syscall; then at 16: sttilecfg (%rdi); mov $1,%eax; syscall */
	static const uint8_t code[] = { 0xc4, 0xe2, 0x78, 0x49, 0x07, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xf4, 0xf4, 0xf4, 0xf4,
					0xc4, 0xe2, 0x79, 0x49, 0x07, 0xb8, 1, 0, 0, 0, 0x0f, 0x05, 0xf4 };
	uint8_t *config = memory + DATA_OFFSET;
	int on = 0, seen = 0;

	for (int i = 0; i < 20; i++) {
		struct box a = box_new(code, sizeof(code)), b = box_new(code, sizeof(code));

		memset(config, 0, 64);
		config[0] = 1;	 /* palette */
		config[16] = 64; /* bytes of a row */
		config[48] = 16; /* rows */
		start_at(&a, CODE);
		on += run(&a) == SWITCH_SYSCALL;
		memset(config, 0, 64);
		start_at(&b, CODE + 16);
		run(&b);
		for (int k = 0; k < 64; k++)
			seen += config[k] != 0;
		box_free(&a);
		box_free(&b);
	}
	printf("# tile registers are %s\n", on ? "usable, and lost with each exit" : "off");
	CHECK(seen == 0);
}

static void more_tests(void)
{
	printf("# kernel half\n");
	test_kernel_half();
	printf("# the sentry's half\n");
	test_own_half();
	printf("# instructions\n");
	test_opcodes();
	test_privileged();
	test_segments();
	printf("# translations\n");
	test_translations();
	test_recycled_tables();
	test_too_many_tables();
	printf("# files\n");
	test_files();
	test_many_windows();
	printf("# threads\n");
	test_interrupted_calls();
	test_many_contexts();
	test_many_spinners();
	test_keys_and_tiles();
	test_tiles_are_private();
}
