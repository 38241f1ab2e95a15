/*
 * Code that makes many system calls from one place, which a sandbox may execute in another form than it stands in memory.
 * Nobody must see that: not a debugger, not a program that changes, moves or jumps into its own code, no signal handler.
 */
#include "tests/lib/guest.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <ucontext.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))

enum { HOT = 400, NOPS = 32 };

/*
 * Functions, each behind some nops. MOV: getppid(). CMP: rdi is the number, rdx says whether the result was an
 * error. CMP32: the same, comparing eax. STORE and PAIR: rdi is the number, as in musl's cancellation points.
 */
static const uint8_t mov_code[] = { 0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0xc3 };
static const uint8_t cmp_code[] = { 0x48, 0x89, 0xf8, 0x31, 0xd2, 0x0f, 0x05, 0x48, 0x3d, 0x01, 0xf0, 0xff,
				    0xff, 0x0f, 0x93, 0xc2, 0xc3 };
static const uint8_t cmp32_code[] = { 0x48, 0x89, 0xf8, 0x31, 0xd2, 0x0f, 0x05, 0x3d, 0x01, 0xf0, 0xff, 0xff,
				      0x0f, 0x93, 0xc2, 0xc3 };
static const uint8_t store_code[] = { 0x48, 0x89, 0xf8, 0x4c, 0x89, 0x5c, 0x24, 0x10, 0x0f, 0x05, 0xc3 };
static const uint8_t pair_code[] = { 0x4c, 0x8b, 0x5c, 0x24, 0x08, 0x48, 0x89, 0xf8, 0x0f, 0x05, 0xc3 };
enum { MOV_CALL = 5, CMP_CALL = 5, CMP_BEHIND = 7, STORE_CALL = 8, PAIR_SECOND = 5, PAIR_CALL = 8 };
enum { AT_MOV = NOPS, AT_CMP = 256, AT_CMP32 = 512, AT_STORE = 768, AT_PAIR = 1024 };

static void put_code(uint8_t *page)
{
	memset(page, 0x90, PAGE);
	memcpy(page + AT_MOV, mov_code, sizeof(mov_code));
	memcpy(page + AT_CMP, cmp_code, sizeof(cmp_code));
	memcpy(page + AT_CMP32, cmp32_code, sizeof(cmp32_code));
	memcpy(page + AT_STORE, store_code, sizeof(store_code));
	memcpy(page + AT_PAIR, pair_code, sizeof(pair_code));
}

static uint8_t *code_page(void)
{
	uint8_t *page = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	put_code(page);
	OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
	return page;
}

/* Calls the code at f with rdi = nr; *ret_error is rdx. Checks that a system call keeps all registers but three. */
static long call(const uint8_t *f, long nr, long *ret_error)
{
	uint64_t in[8] = { 0x1111, 0x2222, 0x3333, 0x4444, 0x5555, 0x6666, 0x7777, 0x8888 }, out[8];
	register uint64_t r10 __asm__("r10") = 0x10101010, r8 __asm__("r8") = 0x80808080, r9 __asm__("r9") = 0x90909090;
	uint64_t *to = out;
	long rax, rdx = 0;

	__asm__ volatile("sub $128, %%rsp\n push %%rbx\n push %%rbp\n push %[in]\n push %[out]\n"
			 "mov %[in], %%rbp\n mov (%%rbp), %%rbx\n mov 8(%%rbp), %%r12\n mov 16(%%rbp), %%r13\n"
			 "mov 24(%%rbp), %%r14\n mov 32(%%rbp), %%r15\n movq 40(%%rbp), %%xmm0\n movq 48(%%rbp), %%xmm15\n"
			 "mov 56(%%rbp), %%rbp\n call *%%rax\n"
			 "mov (%%rsp), %%rcx\n mov %%rbx, (%%rcx)\n mov %%r12, 8(%%rcx)\n mov %%r13, 16(%%rcx)\n"
			 "mov %%r14, 24(%%rcx)\n mov %%r15, 32(%%rcx)\n movq %%xmm0, 40(%%rcx)\n movq %%xmm15, 48(%%rcx)\n"
			 "mov %%rbp, 56(%%rcx)\n pop %%rcx\n pop %%rcx\n pop %%rbp\n pop %%rbx\n add $128, %%rsp\n"
			 : "=a"(rax), "+d"(rdx), "+r"(r10), "+r"(r8), "+r"(r9), "+D"(nr), [out] "+c"(to)
			 : "0"(f), [in] "S"(in)
			 : "r11", "r12", "r13", "r14", "r15", "xmm0", "xmm15", "memory", "cc");
	CHECK_MEM(in, out, sizeof(in));
	CHECK(r10 == 0x10101010 && r8 == 0x80808080 && r9 == 0x90909090);
	if (ret_error)
		*ret_error = rdx & 0xff;
	return rax;
}

static void heat(const uint8_t *page)
{
	for (int i = 0; i < HOT; i++) {
		long error = 1;

		CHECK_EQ(call(page + AT_MOV, 0, NULL), getppid());
		CHECK_EQ(call(page + AT_CMP, SYS_getpid, &error), getpid());
		CHECK_EQ(error, 0);
		CHECK_EQ(call(page + AT_CMP32, SYS_getppid, &error), getppid());
		CHECK_EQ(error, 0);
		CHECK_EQ(call(page + AT_STORE, SYS_getppid, NULL), getppid());
		CHECK_EQ(call(page + AT_PAIR, SYS_getpid, NULL), getpid());
	}
}

TEST(results_and_flags)
{
	uint8_t *page = code_page();
	long error = 0;

	heat(page);
	CHECK_EQ(call(page + AT_CMP, SYS_close, &error), -EBADF);
	CHECK_EQ(error, 1);
	CHECK_EQ(call(page + AT_CMP32, SYS_close, &error), -EBADF);
	CHECK_EQ(error, 1);
	CHECK_EQ(call(page + AT_CMP, 100000, &error), -ENOSYS);
	CHECK_EQ(error, 1);
	for (int carry = 0; carry < 2; carry++) {
		uint64_t flags = 0;
		uint64_t set = (uint64_t)carry * 0x8d5 | 2; /* CF PF AF ZF SF OF: a call keeps them */

		__asm__ volatile("sub $128, %%rsp\n push %[set]\n popfq\n call *%[f]\n pushfq\n pop %[flags]\n add $128, %%rsp"
				 : [flags] "=&r"(flags)
				 : [set] "r"(set), [f] "r"(page + AT_MOV)
				 : "rax", "rcx", "r11", "memory", "cc");
		CHECK_EQ(flags & 0x8d5, carry * 0x8d5);
	}
}

static void check_page(const uint8_t *bytes)
{
	uint8_t want[PAGE];

	put_code(want);
	CHECK_MEM(bytes, want, PAGE);
}

TEST(others_read_the_original_code)
{
	uint8_t *page = code_page(), copy[PAGE];
	struct iovec local = { copy, PAGE }, remote = { page, PAGE };
	int fd = OK(open("/proc/self/mem", O_RDONLY)), p[2];

	heat(page);
	CHECK_EQ(pread(fd, copy, PAGE, (off_t)(uintptr_t)page), PAGE);
	check_page(copy);
	memset(copy, 0, PAGE);
	CHECK_EQ(process_vm_readv(getpid(), &local, 1, &remote, 1, 0), PAGE);
	check_page(copy);
	memset(copy, 0, PAGE);
	OK(pipe(p));
	CHECK_EQ(write(p[1], page, PAGE), PAGE);
	CHECK_EQ(read(p[0], copy, PAGE), PAGE);
	check_page(copy);
}

TEST(a_tracer_reads_the_original_code)
{
	uint8_t *page = code_page(), copy[PAGE];
	CHILD(pid)
	{
		heat(page);
		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		heat(page);
	}
	CHECK(WIFSTOPPED(WAIT_STATUS(pid)));
	for (size_t i = 0; i < PAGE; i += 8) {
		errno = 0;
		long word = ptrace(PTRACE_PEEKTEXT, pid, page + i, 0);

		CHECK_EQ(errno, 0);
		memcpy(copy + i, &word, 8);
	}
	check_page(copy);
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	WAIT_EXIT(pid, 0);
}

TEST(jumps_into_the_instructions)
{
	uint8_t *page = code_page();
	long rax, rdx;

	heat(page);
	for (int i = 0; i < 200; i++) {
		/* at the system call itself, with a number of our own */
		__asm__ volatile("sub $128, %%rsp\n call *%[f]\n add $128, %%rsp"
				 : "=a"(rax)
				 : "0"((long)SYS_getpid), [f] "r"(page + AT_MOV + MOV_CALL)
				 : "rcx", "r11", "memory", "cc");
		CHECK_EQ(rax, getpid());
		__asm__ volatile("sub $128, %%rsp\n call *%[f]\n add $128, %%rsp"
				 : "=a"(rax)
				 : "0"((long)SYS_getpid), [f] "r"(page + AT_CMP + CMP_CALL)
				 : "rcx", "rdx", "r11", "memory", "cc");
		CHECK_EQ(rax, getpid());
		CHECK_EQ(call(page + AT_PAIR + PAIR_SECOND, SYS_getppid, NULL), getppid());
		for (int k = 0; k < 2; k++) {
			__asm__ volatile("sub $128, %%rsp\n call *%[f]\n add $128, %%rsp"
					 : "=a"(rax)
					 : "0"((long)SYS_getpid), [f] "r"(page + (k ? AT_PAIR + PAIR_CALL : AT_STORE + STORE_CALL))
					 : "rcx", "r11", "memory", "cc");
			CHECK_EQ(rax, getpid());
		}
		/* at the comparison behind it */
		for (long value = -5000; value < 5000; value += 1000) {
			__asm__ volatile("sub $128, %%rsp\n xor %%edx, %%edx\n call *%[f]\n add $128, %%rsp"
					 : "=a"(rax), "=d"(rdx)
					 : "0"(value), [f] "r"(page + AT_CMP + CMP_BEHIND)
					 : "rcx", "r11", "memory", "cc");
			CHECK_EQ(rax, value);
			CHECK_EQ(rdx & 0xff, value < 0 && value >= -4095);
		}
	}
}

TEST(code_that_changes_itself)
{
	uint8_t *page = code_page();
	static const uint8_t numbers[] = { SYS_getpid, SYS_getppid, SYS_getuid, SYS_gettid };

	for (int round = 0; round < 12; round++) {
		uint8_t nr = numbers[round % 4];
		long want = syscall(nr);

		OK(mprotect(page, PAGE, round & 1 ? PROT_READ | PROT_WRITE : PROT_READ | PROT_WRITE | PROT_EXEC));
		CHECK_EQ(page[AT_MOV], 0xb8); /* nothing else was ever written here */
		CHECK_EQ(page[AT_MOV + 5], 0x0f);
		page[AT_MOV + 1] = nr;
		OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
		for (int i = 0; i < 300; i++)
			CHECK_EQ(call(page + AT_MOV, 0, NULL), want);
	}
	OK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	memcpy(page + AT_MOV, "\xb8\x2a\0\0\0\xc3", 6); /* mov $42, %eax; ret */
	CHECK_EQ(call(page + AT_MOV, 0, NULL), 42);
}

static volatile sig_atomic_t fault_signo;
static volatile uintptr_t resume_at;
static void on_fault(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)info;
	fault_signo = signo;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)resume_at;
}

TEST(code_that_is_given_back_or_moves)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	uint8_t *page = code_page(), *to = code_page();
	long rax;

	heat(page);
	OK(mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	CHECK_EQ(to[AT_MOV], 0xb8);
	heat(to);
	CHECK_EQ(mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page, 1);
	CHECK_EQ(page[AT_MOV], 0);
	OK(madvise(to, PAGE, MADV_DONTNEED));
	CHECK_EQ(to[AT_MOV], 0);
	/* what was code is `add %al, (%rax)` now: a fault for a bad rax */
	OK(sigaction(SIGSEGV, &sa, NULL));
	__asm__ volatile("lea 1f(%%rip), %%rcx\n mov %%rcx, %[resume]\n jmp *%[f]\n1:"
			 : "=a"(rax), [resume] "=m"(resume_at)
			 : "0"(16L), [f] "r"(to + AT_MOV)
			 : "rcx", "memory", "cc");
	CHECK_EQ(fault_signo, SIGSEGV);
	OK(munmap(to, PAGE));
	fault_signo = 0;
	__asm__ volatile("lea 1f(%%rip), %%rcx\n mov %%rcx, %[resume]\n jmp *%[f]\n1:"
			 : "=a"(rax), [resume] "=m"(resume_at)
			 : "0"(16L), [f] "r"(to + AT_MOV)
			 : "rcx", "memory", "cc");
	CHECK_EQ(fault_signo, SIGSEGV);
}

/* Code that is written through another mapping of the same file. */
static void dual_mapping(int fd, int flags)
{
	uint8_t *write_at, *run_at;

	OK(ftruncate(fd, PAGE));
	write_at = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	put_code(write_at);
	run_at = OK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, flags, fd, 0));
	heat(run_at);
	write_at[AT_MOV + 1] = SYS_getpid;
	CHECK_EQ(call(run_at + AT_MOV, 0, NULL), getpid());
	CHECK_EQ(pwrite(fd, "\xb8\x07\0\0\0\xc3", 6, AT_MOV), 6);
	CHECK_EQ(call(run_at + AT_MOV, 0, NULL), 7);
}

TEST(code_of_two_mappings)
{
	dual_mapping(OK(memfd_create("jit", 0)), MAP_SHARED);
	dual_mapping(OK(memfd_create("jit", 0)), MAP_PRIVATE);
	dual_mapping(OK(open("jit", O_RDWR | O_CREAT, 0600)), MAP_SHARED);
	dual_mapping(OK(open("jit", O_RDWR | O_CREAT, 0600)), MAP_PRIVATE);
}

TEST(a_debugger_writes_and_steps)
{
	uint8_t *page = code_page();
	struct user_regs_struct r;
	uintptr_t site = (uintptr_t)page + AT_MOV;
	long word;
	int fd;
	CHILD(pid)
	{
		heat(page);
		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		for (int i = 0; i < 4; i++)
			CHECK_EQ(call(page + AT_MOV, 0, NULL), getppid());
		heat(page);
	}
	CHECK(WIFSTOPPED(WAIT_STATUS(pid)));
	errno = 0;
	word = ptrace(PTRACE_PEEKTEXT, pid, site, 0);
	CHECK_EQ(errno, 0);
	/* a breakpoint on the site, twice: met, stepped over, set again */
	for (int i = 0; i < 2; i++) {
		OK(ptrace(PTRACE_POKETEXT, pid, site, (word & ~0xffL) | 0xcc));
		CHECK_EQ(ptrace(PTRACE_PEEKTEXT, pid, site, 0), (word & ~0xffL) | 0xcc);
		OK(ptrace(PTRACE_CONT, pid, 0, 0));
		CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGTRAP);
		OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
		CHECK_EQ(r.rip, site + 1);
		OK(ptrace(PTRACE_POKETEXT, pid, site, word));
		r.rip = site;
		OK(ptrace(PTRACE_SETREGS, pid, 0, &r));
		OK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0));
		CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGTRAP);
		OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
		CHECK_EQ(r.rip, site + 5);
	}
	/* one on the system call itself, written through /proc/PID/mem */
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/mem", (int)pid);
	fd = OK(open(path, O_RDWR));
	CHECK_EQ(pwrite(fd, "\xcc", 1, (off_t)site + 5), 1);
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGTRAP);
	OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
	CHECK_EQ(r.rip, site + 6);
	CHECK_EQ(pwrite(fd, "\x0f", 1, (off_t)site + 5), 1);
	r.rip = site + 5;
	OK(ptrace(PTRACE_SETREGS, pid, 0, &r));
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	WAIT_EXIT(pid, 0);
}

TEST(a_debugger_steps_through_hot_code)
{
	uint8_t *page = code_page();
	uintptr_t mov = (uintptr_t)page + AT_MOV, cmp = (uintptr_t)page + AT_CMP, pair = (uintptr_t)page + AT_PAIR;
	struct user_regs_struct r;
	int seen = 0;
	CHILD(pid)
	{
		heat(page);
		OK(ptrace(PTRACE_TRACEME, 0, 0, 0));
		raise(SIGSTOP);
		CHECK_EQ(call(page + AT_MOV, 0, NULL), getppid());
		CHECK_EQ(call(page + AT_CMP, SYS_getpid, NULL), getpid());
		CHECK_EQ(call(page + AT_PAIR, SYS_getpid, NULL), getpid());
		heat(page);
		raise(SIGSTOP);
	}
	CHECK(WIFSTOPPED(WAIT_STATUS(pid)));
	for (int i = 0; i < 3000 && seen != 0x7ff; i++) {
		OK(ptrace(PTRACE_SINGLESTEP, pid, 0, 0));
		CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGTRAP);
		OK(ptrace(PTRACE_GETREGS, pid, 0, &r));
		CHECK(r.rip >= 0x70000 && r.rip < 0x7ffffffff000);
		seen |= (r.rip == mov) | (r.rip == mov + 5) << 1 | (r.rip == mov + 7) << 2 | (r.rip == cmp + 3) << 3 |
			(r.rip == cmp + 5) << 4 | (r.rip == cmp + 7) << 5 | (r.rip == cmp + 13) << 6 |
			(r.rip == pair) << 7 | (r.rip == pair + 5) << 8 | (r.rip == pair + 8) << 9 | (r.rip == pair + 10) << 10;
		if (r.rip >= (uintptr_t)page && r.rip < (uintptr_t)page + PAGE)
			CHECK(r.rip - mov <= 7 || r.rip - cmp <= 16 || r.rip - pair <= 10);
	}
	CHECK_EQ(seen, 0x7ff);
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGSTOP);
	OK(ptrace(PTRACE_CONT, pid, 0, 0));
	WAIT_EXIT(pid, 0);
}

static volatile uintptr_t step_page;
static volatile int step_seen, step_bad;
static void on_step(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uintptr_t rip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP], at = rip - step_page;

	(void)signo;
	(void)info;
	if (at < (uintptr_t)PAGE) {
		step_seen |= (at == AT_MOV + 5) | (at == AT_MOV + 7) << 1 | (at == AT_CMP + 3) << 2 |
			     (at == AT_CMP + 5) << 3 | (at == AT_CMP + 7) << 4 | (at == AT_CMP + 13) << 5;
		step_bad += at > AT_MOV + 7 && at < AT_CMP;
	}
	step_bad += rip < 0x70000;
}

TEST(a_program_steps_itself)
{
	struct sigaction sa = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO };
	uint8_t *page = code_page();

	step_page = (uintptr_t)page;
	OK(sigaction(SIGTRAP, &sa, NULL));
	heat(page);
	__asm__ volatile("sub $128, %%rsp\n pushfq\n orq $0x100, (%%rsp)\n popfq\n"
			 "call *%[mov]\n mov $39, %%edi\n call *%[cmp]\n"
			 "pushfq\n andq $~0x100, (%%rsp)\n popfq\n add $128, %%rsp"
			 :
			 : [mov] "b"(page + AT_MOV), [cmp] "r"(page + AT_CMP)
			 : "rax", "rcx", "rdx", "rdi", "r11", "memory", "cc");
	CHECK_EQ(step_bad, 0);
	CHECK_EQ(step_seen & 0x2d, 0x2d); /* the trap behind a system call comes one instruction late */
	heat(page);
}

static volatile long sent_to;
static void on_send(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)signo;
	(void)info;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)sent_to;
	uc->uc_mcontext.gregs[REG_RAX] = SYS_getpid;
	uc->uc_mcontext.gregs[REG_RDX] = 0;
}

/* A handler that returns to the middle of the instructions. */
TEST(sigreturn_into_the_instructions)
{
	struct sigaction sa = { .sa_sigaction = on_send, .sa_flags = SA_SIGINFO };
	uint8_t *page = code_page();
	long rax, rdx;

	OK(sigaction(SIGILL, &sa, NULL));
	heat(page);
	for (int i = 0; i < 300; i++) {
		sent_to = (long)(page + (i % 3 == 0 ? AT_MOV + MOV_CALL : i % 3 == 1 ? AT_CMP + CMP_CALL : AT_CMP + CMP_BEHIND));
		__asm__ volatile("sub $128, %%rsp\n lea 1f(%%rip), %%rcx\n push %%rcx\n ud2\n1: add $128, %%rsp"
				 : "=a"(rax), "=d"(rdx)
				 :
				 : "rcx", "r11", "memory", "cc");
		CHECK_EQ(rax, i % 3 == 2 ? SYS_getpid : getpid());
		if (i % 3)
			CHECK_EQ(rdx & 0xff, 0);
	}
}

TEST(sites_at_the_borders_of_a_page)
{
	uint8_t *page = OK(mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	for (size_t cut = 0; cut <= sizeof(cmp_code); cut++) {
		uint8_t *mov = page + PAGE - MIN(cut, sizeof(mov_code)), *cmp = page + PAGE - cut;

		OK(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE));
		memset(page, 0x90, 2 * PAGE);
		memcpy(mov, mov_code, sizeof(mov_code));
		OK(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC));
		for (int i = 0; i < 150; i++)
			CHECK_EQ(call(mov, 0, NULL), getppid());
		OK(mprotect(page, 2 * PAGE, PROT_READ | PROT_WRITE));
		memset(page, 0x90, 2 * PAGE);
		memcpy(cmp, cmp_code, sizeof(cmp_code));
		OK(mprotect(page, 2 * PAGE, PROT_READ | PROT_EXEC));
		for (int i = 0; i < 150; i++)
			CHECK_EQ(call(cmp, SYS_getpid, NULL), getpid());
	}
}

/* Bytes that look like the patterns and are others. */
TEST(code_that_only_looks_like_a_site)
{
	uint8_t *page = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	/* mov $110, %eax; mov $110, %r8d; syscall; mov %r8d, %eax ... */
	static const uint8_t r8d[] = { 0xb8, SYS_getppid, 0, 0, 0, 0x41, 0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05, 0x44,
				       0x89, 0xc0, 0xc3 };
	/* push 110; mov -0x48(...): movl $110, -0x48(%rsp); mov -0x48(%rsp), %eax... the store's tail is b8 6e 0 0 0 */
	static const uint8_t store[] = { 0x6a, SYS_getppid, 0x58, 0xc7, 0x44, 0x24, 0xb8, SYS_getppid, 0, 0, 0, 0x0f, 0x05,
					 0x8b, 0x44, 0x24, 0xb8, 0xc3 };

	memset(page, 0x90, PAGE);
	memcpy(page + 100, r8d, sizeof(r8d));
	memcpy(page + 200, store, sizeof(store));
	OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
	for (int i = 0; i < HOT; i++) {
		long rax;

		__asm__ volatile("sub $128, %%rsp\n call *%[f]\n add $128, %%rsp"
				 : "=a"(rax)
				 : [f] "r"(page + 100)
				 : "rcx", "r8", "r11", "memory", "cc");
		CHECK_EQ(rax, SYS_getppid);
		CHECK_EQ(call(page + 200, 0, NULL), SYS_getppid);
	}
}

static void restart_handler(int signo)
{
	caught_count = caught_count + (signo != 0);
}

struct storm {
	uint8_t *page;
	_Atomic int stop;
	_Atomic long calls;
};

static void *storm_thread(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		long error = 1;

		CHECK_EQ(call(s->page + AT_MOV, 0, NULL), getppid());
		CHECK_EQ(call(s->page + AT_CMP, SYS_getpid, &error), getpid());
		CHECK_EQ(error, 0);
		s->calls++;
	}
	return NULL;
}

/* Threads call while their code is changed to and fro, and signals interrupt them. */
TEST_TIMED(threads_while_the_code_changes, 60)
{
	struct storm s = { .page = code_page() };
	pthread_t t[4];
	long before;

	on_signal(SIGUSR1, restart_handler, SA_RESTART);
	heat(s.page);
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK_EQ(pthread_create(&t[i], NULL, storm_thread, &s), 0);
	for (int i = 0; i < 120; i++) {
		before = s.calls;
		OK(mprotect(s.page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
		if (i & 1)
			memcpy(s.page + AT_MOV, mov_code, sizeof(mov_code)); /* the same again */
		OK(mprotect(s.page, PAGE, PROT_READ | PROT_EXEC));
		pthread_kill(t[i % 4], SIGUSR1);
		for (int k = 0; k < 200 && s.calls < before + 300; k++)
			msleep(1);
		CHECK(s.calls > before);
	}
	s.stop = 1;
	for (size_t i = 0; i < COUNT(t); i++)
		CHECK_EQ(pthread_join(t[i], NULL), 0);
	CHECK(caught_count > 0);
}

/* Reads that sleep in a hot site are interrupted and made again. */
TEST_TIMED(restarts_in_hot_sites, 30)
{
	int p[2], fd = OK(open("/dev/zero", O_RDONLY));
	uint8_t *page = code_page();
	char c;

	OK(pipe(p));
	for (int i = 0; i < HOT; i++) {
		CHECK_EQ(read(fd, &c, 1), 1);
		CHECK_EQ(syscall(SYS_read, fd, &c, 1), 1);
	}
	on_signal(SIGUSR1, restart_handler, SA_RESTART);
	on_signal(SIGUSR2, restart_handler, 0);
	CHILD(pid)
	{
		for (int i = 0; i < 60; i++) {
			msleep(3);
			kill(getppid(), SIGUSR1);
			msleep(3);
			CHECK_EQ(write(p[1], "x", 1), 1);
		}
		msleep(20);
		kill(getppid(), SIGUSR2);
		msleep(20);
		kill(getppid(), SIGUSR1);
		heat(page);
	}
	for (int i = 0; i < 60; i++) {
		c = 0;
		CHECK_EQ(i & 1 ? read(p[0], &c, 1) : syscall(SYS_read, p[0], &c, 1), 1);
		CHECK_EQ(c, 'x');
	}
	ERR(read(p[0], &c, 1), EINTR);
	WAIT_EXIT(pid, 0);
	/* a sleep that is continued (restart_syscall) */
	CHILD(other)
	{
		msleep(30);
		kill(getppid(), SIGSTOP);
		msleep(30);
		kill(getppid(), SIGCONT);
	}
	for (int i = 0; i < HOT; i++) {
		struct timespec zero = { 0, 0 };

		CHECK_EQ(syscall(SYS_nanosleep, &zero, NULL), 0);
	}
	struct timespec ts = { 0, 200000000 };
	long long t0 = now_ms();

	CHECK_EQ(syscall(SYS_nanosleep, &ts, NULL), 0);
	CHECK(now_ms() - t0 >= 150);
	WAIT_EXIT(other, 0);
}

/* Processes born and turned into others by calls from a hot site. */
TEST_TIMED(fork_and_exec_from_hot_sites, 60)
{
	char *argv[] = { (char[]){ "sh" }, (char[]){ "-c" }, (char[]){ "exit 7" }, NULL }, *envp[] = { NULL };

	for (int i = 0; i < HOT; i++)
		CHECK_EQ(syscall(SYS_getppid), getppid());
	for (int i = 0; i < 60; i++) {
		pid_t pid = (pid_t)syscall(SYS_fork);

		CHECK(pid >= 0);
		if (pid == 0) {
			CHECK(syscall(SYS_getpid) == getpid());
			for (int k = 0; k < 100; k++)
				CHECK_EQ(syscall(SYS_getppid), getppid());
			if (i % 3 == 0) {
				syscall(SYS_execve, "/bin/sh", argv, envp);
				_exit(1);
			}
			_exit(7);
		}
		WAIT_EXIT(pid, 7);
		CHECK_EQ(syscall(SYS_getppid), getppid());
	}
	for (int i = 0; i < 20; i++) {
		pid_t pid = vfork();

		if (pid == 0) {
			for (int k = 0; k < 100; k++)
				syscall(SYS_getppid);
			syscall(SYS_execve, "/bin/sh", argv, envp);
			_exit(1);
		}
		CHECK(pid > 0);
		WAIT_EXIT(pid, 7);
		CHECK_EQ(syscall(SYS_getppid), getppid());
	}
}

static int sibling(void *arg)
{
	uint8_t *page = arg;

	for (int i = 0; i < 300; i++)
		if (syscall(SYS_getppid) != getppid() || call(page + AT_MOV, 0, NULL) != getppid())
			return 1;
	return 9;
}

TEST_TIMED(processes_that_share_the_code, 30)
{
	uint8_t *page = code_page();
	static char stack[8][65536] __attribute__((aligned(16)));
	pid_t pid[8];

	heat(page);
	for (size_t i = 0; i < COUNT(pid); i++)
		pid[i] = OK(clone(sibling, stack[i] + sizeof(stack[i]), CLONE_VM | SIGCHLD, page));
	for (int i = 0; i < 20; i++) {
		OK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
		OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
		msleep(1);
	}
	for (size_t i = 0; i < COUNT(pid); i++)
		WAIT_EXIT(pid[i], 9);
	heat(page);
}

/* Hot code in one process: its copy in a child is changed, then the original. */
TEST(copies_after_fork)
{
	uint8_t *page = code_page();

	heat(page);
	CHILD(pid)
	{
		heat(page);
		OK(mprotect(page, PAGE, PROT_READ | PROT_WRITE));
		page[AT_MOV + 1] = SYS_getuid;
		OK(mprotect(page, PAGE, PROT_READ | PROT_EXEC));
		for (int i = 0; i < 300; i++)
			CHECK_EQ(call(page + AT_MOV, 0, NULL), (long)getuid());
	}
	WAIT_EXIT(pid, 0);
	heat(page);
	OK(mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC));
	page[AT_MOV + 1] = SYS_getpid;
	CHECK_EQ(call(page + AT_MOV, 0, NULL), getpid());
}

/* The lowest address that mmap gives is the one that it says. */
TEST(lowest_address)
{
	unsigned long lowest = strtoul(read_file("/proc/sys/vm/mmap_min_addr"), NULL, 10);
	void *at = (void *)lowest;

	CHECK(lowest % PAGE == 0);
	CHECK(mmap(at, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at);
	if (lowest && setuid(1000) == 0) /* with CAP_SYS_RAWIO Linux allows more */
		ERR(mmap((char *)at - PAGE, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), EPERM);
}
