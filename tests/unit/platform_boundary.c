/*
 * Raw guest code on a backend, ptrace unless PLATFORM says else, without any kernel above it: no way into the host kernel may
 * complete a host system call, and each arrives as a guest system call or a fault.
 */
#include <linux/audit.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/platform.h"
#include "tests/unit/platform_fixture.h"

enum { CODE = 0x400000, DATA = 0x500000, FILE_SIZE = 64 << 20 };

#ifndef PLATFORM /* platform_systrap_boundary.c includes this file */
#define PLATFORM platform_ptrace
#define STUB_MAPPINGS 2 /* arguments, stub code */
#define STUB_WRITABLE 0
#define SECOND_WALL 1
#endif
#ifndef NO_STUBS /* its guests are host processes */
enum { STUB_PAGES = 16 };
static const uint64_t stub_code = 0x7fffffffe000, stub_top = 0x7ffffffff000;
#else
static void more_tests(void); /* of the file that includes this one */
#endif
static const struct platform_ops *ops = &PLATFORM;

struct box {
	struct aspace *as;
	struct pcontext *ctx;
};

static struct aspace_op map_op(uint64_t addr, uint64_t size, uint64_t offset, uint8_t prot)
{
	return (struct aspace_op){ .kind = ASPACE_MAP, .addr = addr, .size = size, .host_fd = memory_fd,
				   .offset = offset, .prot = prot };
}

/* A guest with this code at CODE, and 64 KiB of data at DATA. */
static struct box box_new(const void *code, size_t size)
{
	struct box b = { NULL, NULL };
	struct aspace_op op[] = { map_op(CODE, 4096, 0, PLATFORM_READ | PLATFORM_EXEC),
				  map_op(DATA, 65536, 1 << 20, PLATFORM_READ | PLATFORM_WRITE) };

	memset(memory, 0xf4, 4096);
	memcpy(memory, code, size);
	if (ops->aspace_new(platform, &b.as) < 0 || ops->context_new(platform, &b.ctx) < 0)
		exit(1);
	ops->aspace_update(b.as, NULL, op, 2);
	b.ctx->regs.rip = CODE;
	b.ctx->regs.rsp = DATA + 65536;
	platform_regs_dirty(b.ctx);
	return b;
}

static void box_free(struct box *b)
{
	ops->context_free(b->ctx);
	ops->aspace_free(b->as);
}

static enum switch_why run(struct box *b)
{
	return ops->context_switch(b->ctx, b->as);
}

/* The guest's code is entry and then mov $99,%edi; mov $231,%eax; syscall. */
static void expect_syscall(const char *name, const void *entry, size_t size, uint32_t arch, int64_t nr)
{
	static const uint8_t tail[] = { 0xbf, 99, 0, 0, 0, 0xb8, 231, 0, 0, 0, 0x0f, 0x05 };
	uint8_t code[256];
	struct box b;

	memcpy(code, entry, size);
	memcpy(code + size, tail, sizeof(tail));
	b = box_new(code, size + sizeof(tail));
	printf("# %s\n", name);
	CHECK(run(&b) == SWITCH_SYSCALL);
	CHECK(b.ctx->syscall.nr == nr && b.ctx->syscall.audit_arch == arch);
	CHECK(b.ctx->syscall.ip == CODE + size || b.ctx->syscall.vsyscall);
	ops->set_result(b.ctx, 0x1234567);
	CHECK(run(&b) == SWITCH_SYSCALL);
	CHECK(b.ctx->syscall.nr == 231 && b.ctx->syscall.arg[0] == 99);
	box_free(&b);
}

static void test_entries(void)
{
	static const uint8_t sys[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05 };
	static const uint8_t int80[] = { 0xb8, 20, 0, 0, 0, 0xcd, 0x80 };
	static const uint8_t x32[] = { 0xb8, 39, 0, 0, 0x40, 0x0f, 0x05 };
	static const uint8_t unknown[] = { 0xb8, 0xff, 0xff, 0xff, 0x7f, 0x0f, 0x05 };
	static const uint8_t exit_group[] = { 0xb8, 231, 0, 0, 0, 0x0f, 0x05 };
	static const uint8_t kill_self[] = { 0xb8, 62, 0, 0, 0, 0x0f, 0x05 };
	/* mov $0xffffffffff600400,%rax; xor %edi,%edi; call *%rax : time(NULL) */
	static const uint8_t vsyscall[] = { 0x48, 0xb8, 0, 4, 0x60, 0xff, 0xff, 0xff, 0xff, 0xff, 0x31, 0xff, 0xff, 0xd0 };

	expect_syscall("syscall", sys, sizeof(sys), AUDIT_ARCH_X86_64, 39);
	expect_syscall("int 0x80", int80, sizeof(int80), AUDIT_ARCH_I386, 20);
	expect_syscall("x32", x32, sizeof(x32), AUDIT_ARCH_X86_64, 0x40000000 + 39);
	expect_syscall("unknown number", unknown, sizeof(unknown), AUDIT_ARCH_X86_64, 0x7fffffff);
	expect_syscall("exit_group", exit_group, sizeof(exit_group), AUDIT_ARCH_X86_64, 231);
	expect_syscall("kill", kill_self, sizeof(kill_self), AUDIT_ARCH_X86_64, 62);
	expect_syscall("vsyscall page", vsyscall, sizeof(vsyscall), AUDIT_ARCH_X86_64, 201);
}

/* sysenter from 64-bit code either arrives as a call or faults; it must not do anything by itself. */
static void test_sysenter(void)
{
	static const uint8_t code[] = { 0xb8, 20, 0, 0, 0, 0x0f, 0x34, 0xf4 };
	struct box b = box_new(code, sizeof(code));
	enum switch_why why = run(&b);

	CHECK(why == SWITCH_SIGNAL || why == SWITCH_FAULT ||
	      (why == SWITCH_SYSCALL && b.ctx->syscall.audit_arch == AUDIT_ARCH_I386));
	box_free(&b);
}

/* A guest that far-returns into 32-bit code: int 0x80, sysenter and syscall of that mode. */
static void test_compat_mode(void)
{
	static const uint8_t tail[3][2] = { { 0xcd, 0x80 }, { 0x0f, 0x34 }, { 0x0f, 0x05 } };

	for (int i = 0; i < 3; i++) {
		/* push $0x23; push $CODE+9; lretq; (32 bit) mov $20,%eax; <entry>; hlt */
		uint8_t code[] = { 0x6a, 0x23, 0x68, 9, 0, 0x40, 0, 0x48, 0xcb, 0xb8, 20, 0, 0, 0,
				   tail[i][0], tail[i][1], 0xf4 };
		struct box b = box_new(code, sizeof(code));
		enum switch_why why = run(&b);

		if (why == SWITCH_SYSCALL)
			CHECK(b.ctx->syscall.audit_arch == AUDIT_ARCH_I386);
		else /* the processor does not know the entry */
			CHECK(i > 0 && (why == SWITCH_SIGNAL || why == SWITCH_FAULT));
		box_free(&b);
	}
}

#ifndef NO_STUBS
#ifdef SECOND_WALL
/* The filter alone: the stub runs without SYSEMU, and still no call of the guest's own is done. */
static void test_second_wall(void)
{
	static const uint8_t entry[3][9] = { { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0x90, 0x90 },
					     { 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0x90, 0x90 },
					     { 0xb8, 39, 0, 0, 0x40, 0x0f, 0x05, 0x90, 0x90 } };

	for (int i = 0; i < 3; i++) {
		uint8_t code[32] = { 0xb8, 1, 0, 0, 0, 0x0f, 0x05 };
		struct box b;
		int32_t pid = 0;
		int st = 0;

		memcpy(code + 7, entry[i], sizeof(entry[i]));
		memset(code + 16, 0xf4, 16);
		b = box_new(code, sizeof(code));
		CHECK(run(&b) == SWITCH_SYSCALL && ops->stub_pids(b.as, &pid, 1) == 1);
		CHECK(ptrace(PTRACE_CONT, pid, 0, 0) == 0 && waitpid(pid, &st, __WALL) == pid);
		CHECK(WIFSTOPPED(st) && WSTOPSIG(st) == SIGSYS);
		box_free(&b);
	}
}

#endif

/* Every syscall instruction of a page of ours, jumped to by the guest: there are at least so many. */
static void test_stub_page(uint64_t page, int least)
{
	static const uint8_t code[] = { 0xf4 };
	struct box b = box_new(code, sizeof(code));
	int seen = 0, dead = 0;

	for (uint64_t at = 0; at < 4096; at++) {
		struct guest_regs *r = platform_regs(b.ctx);
		enum switch_why why;

		if (!r)
			break;
		*r = (struct guest_regs){ .rip = page + at, .rsp = DATA + 4096, .rax = 39, .rbx = DATA, .rcx = CODE,
					  .r13 = DATA, .r14 = 1 };
		platform_regs_dirty(b.ctx);
		memory[1 << 20] = 39; /* getpid, when the batch loop reads its number from our data */
		ops->set_step(b.ctx, true);
		why = run(&b);
		if (why == SWITCH_SYSCALL)
			seen++;
		if (why == SWITCH_DEAD) { /* only the guest itself may suffer, and only where it forges a report */
			dead++;
			box_free(&b);
			b = box_new(code, sizeof(code));
		}
	}
	printf("# %d calls, %d forged reports\n", seen, dead);
	CHECK(seen > least);
#ifdef SECOND_WALL
	CHECK(dead == 0);
#else
	CHECK(dead < 64);
#endif
	ops->set_step(b.ctx, false);
	CHECK(platform_regs(b.ctx) != NULL);
	box_free(&b);
}

/* A new guest in a new space runs, whatever the last one has left of its stub. */
static bool next_guest_runs(void)
{
	static const uint8_t code[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05 };
	struct box b = box_new(code, sizeof(code));
	bool ok = run(&b) == SWITCH_SYSCALL && b.ctx->syscall.nr == 39 && b.ctx->syscall.ip == CODE + sizeof(code);

	box_free(&b);
	return ok;
}

#ifndef SECOND_WALL
/*
 * A page of ours entered anywhere, perhaps with the trap flag, and left to run: calls, faults, or the end of this guest
 * alone.
 */
static void test_stub_page_runs(uint64_t page, bool forges, uint64_t eflags)
{
	static const uint8_t code[] = { 0xf4 };
	int calls = 0, dead = 0, next = 0;

	for (uint64_t at = 0; at < 4096; at++) {
		struct box b = box_new(code, sizeof(code));
		enum switch_why why = SWITCH_SYSCALL;

		b.ctx->regs = (struct guest_regs){ .rip = page + at, .rsp = DATA + 4096, .rax = 5000, .rbx = DATA,
						   .rcx = CODE, .rsi = DATA, .r13 = DATA, .r14 = 1, .eflags = eflags };
		for (int i = 0; i < 4 && why == SWITCH_SYSCALL; i++) {
			why = run(&b);
			calls += why == SWITCH_SYSCALL;
			ops->set_result(b.ctx, 0);
		}
		CHECK(why != SWITCH_INTERRUPT);
		dead += why == SWITCH_DEAD;
		box_free(&b);
		next += next_guest_runs();
	}
	printf("# %d calls, %d forged reports\n", calls, dead);
	CHECK(calls > (eflags ? 0 : 10) && (dead > 0) == forges && next == 4096); /* the trap flag stops most early */
}

/* A guest writes its shared memory: the next one, which may have the same, finds nothing there. */
static void test_area_forgets(void)
{
	/* mov %rax,(%rdi); mov $1,%eax; syscall, and the other way round */
	static const uint8_t store[] = { 0x48, 0x89, 0x07, 0xb8, 1, 0, 0, 0, 0x0f, 0x05 };
	static const uint8_t load[] = { 0x48, 0x8b, 0x07, 0x0f, 0x05 };
	enum { WINDOW = 64 }; /* of these areas each guest has one */
	int stored = 0, left = 0;

	for (uint64_t at = STUB_AREAS; at < STUB_AREAS + WINDOW * STUB_AREA_SIZE; at += STUB_AREA_SIZE / 4) {
		struct box b = box_new(store, sizeof(store));

		b.ctx->regs.rdi = at + 0x180;
		b.ctx->regs.rax = 0x5ec2e7;
		stored += run(&b) == SWITCH_SYSCALL && b.ctx->syscall.nr == 1;
		box_free(&b);
		b = box_new(load, sizeof(load));
		b.ctx->regs.rdi = at + 0x180;
		left += run(&b) == SWITCH_SYSCALL && b.ctx->syscall.nr == 0x5ec2e7;
		box_free(&b);
	}
	CHECK(stored >= 4 && left == 0);
}
#endif

#ifndef SECOND_WALL
/* A report that the guest wrote itself: its words pick no row of a table that has none for them. */
static void test_forged_signals(void)
{
	static const uint8_t code[] = { 0xf4 };
	static const int32_t signals[] = { SIGTRAP, SIGFPE, 0, -1, -100, 30, 64, 65, 200, 1 << 20, INT32_MAX, INT32_MIN };
	enum { RIP = 176, FPSTATE = 232, SIGNO = 312, CODE_OF_SIGNAL = 320, AT = AREA_STACK + 8192 };

	for (size_t i = 0; i < ARRAY_COUNT(signals); i++) {
		struct box b = box_new(code, sizeof(code));
		struct st_context *ctx = st_context(b.ctx);
		int32_t one = 1;
		uint64_t at, fpstate;
		uint8_t *frame;

		CHECK(run(&b) == SWITCH_SIGNAL); /* hlt: the thread is there */
		frame = (uint8_t *)ctx->thread->slot->area + AT;
		at = st_area_address(ctx->thread->slot) + AT;
		fpstate = at + 4096;
		memset(frame, 0, 512);
		memcpy(frame + FPSTATE, &fpstate, 8);
		memcpy(frame + SIGNO, &signals[i], 4);
		memcpy(frame + CODE_OF_SIGNAL, &one, 4);
		b.ctx->regs = (struct guest_regs){ .rip = st_stub_address(systrap_stub_reported) - 2, .rax = NR_REPORT,
						   .rsi = at };
		platform_regs_dirty(b.ctx);
		if (signals[i] == SIGTRAP || signals[i] == SIGFPE)
			CHECK(run(&b) == SWITCH_SIGNAL && b.ctx->signal.signo == signals[i]);
		else
			CHECK(run(&b) == SWITCH_DEAD);
		box_free(&b);
		CHECK(next_guest_runs()); /* the forger's stack pointer is nobody else's trouble */
	}
}
#endif

/* What the guest can see at the top of its address space: our code and arguments, never writable; the
 * page of the command line, its own. */
static void test_stub_memory(void)
{
	static const uint8_t code[] = { 0x48, 0x89, 0x07, 0xf4 }; /* mov %rax,(%rdi); hlt */
	int writable = 0;

	for (uint64_t at = stub_top - STUB_PAGES * 4096; at < stub_top; at += 4096) {
		struct box b = box_new(code, sizeof(code));

		b.ctx->regs.rdi = at;
		if (run(&b) != SWITCH_FAULT || b.ctx->fault.addr != at || !(b.ctx->fault.access & PLATFORM_WRITE))
			writable++;
		box_free(&b);
	}
	CHECK(writable == STUB_WRITABLE);
}

/* The filter behind SYSEMU, as the host shows it. */
static void test_filter_present(void)
{
	static const uint8_t code[] = { 0x0f, 0x05 };
	struct box b = box_new(code, sizeof(code));
	char path[64], line[256];
	int32_t pid = 0;
	int seccomp = -1, caps = -1;
	FILE *f;

	CHECK(run(&b) == SWITCH_SYSCALL && ops->stub_pids(b.as, &pid, 1) == 1);
	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "r");
	while (f && fgets(line, sizeof(line), f)) {
		sscanf(line, "Seccomp: %d", &seccomp);
		sscanf(line, "CapPrm: %x", (unsigned int *)&caps);
	}
	if (f)
		fclose(f);
	CHECK(seccomp == 2 && caps == 0);
	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	f = fopen(path, "r");
	int vdso = 0, count = 0;
	while (f && fgets(line, sizeof(line), f)) {
		vdso += strstr(line, "[vdso]") || strstr(line, "[vvar]") || strstr(line, "[stack]");
		count += !strstr(line, "vsyscall");
	}
	if (f)
		fclose(f);
	CHECK(vdso == 0 && count == 2 + STUB_MAPPINGS); /* 2: code and data */
	box_free(&b);
}
#endif

int main(void)
{
	fixture_open(ops, FILE_SIZE);
	test_entries();
	test_sysenter();
	test_compat_mode();
#ifdef NO_STUBS
	more_tests();
#else
#ifdef SECOND_WALL
	test_second_wall();
#endif
	test_stub_page(stub_code, 10);
	CHECK(next_guest_runs());
#ifndef SECOND_WALL
	test_stub_page_runs(stub_code, true, 0);
	test_stub_page_runs(stub_code, true, 0x100);
	test_stub_page(STUB_FAST_PAGE, 0);
	test_stub_page_runs(STUB_FAST_PAGE, false, 0);
	test_stub_page_runs(STUB_FAST_PAGE, false, 0x100);
	test_area_forgets();
	test_forged_signals();
#endif
	test_stub_memory();
	test_filter_present();
#endif
	ops->close(platform);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
