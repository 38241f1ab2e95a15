/*
 * Every way into the kernel: none may reach the host's from inside the sandbox. Each case uses an
 * entry that Linux offers and expects what Linux answers; what this host does not offer is skipped.
 */
#include "tests/lib/guest.h"

#include <setjmp.h>

static sigjmp_buf jump;

static void on_fault(int signo)
{
	siglongjmp(jump, signo);
}

static void catch_faults(void)
{
	on_signal(SIGSEGV, on_fault, 0);
	on_signal(SIGILL, on_fault, 0);
	on_signal(SIGSYS, on_fault, 0);
	on_signal(SIGBUS, on_fault, 0);
	on_signal(SIGTRAP, on_fault, 0);
}

TEST(syscall_instruction)
{
	long result;

	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getpid) : "rcx", "r11", "memory");
	CHECK_EQ(result, getpid());
}

TEST(syscall_keeps_registers)
{
	register long r8 __asm__("r8") = 8, r9 __asm__("r9") = 9, r10 __asm__("r10") = 10;
	register long r12 __asm__("r12") = 12, r13 __asm__("r13") = 13;
	long result, rbx = 3, rdi = 5, rsi = 6, rdx = 7;

	__asm__ volatile("syscall"
			 : "=a"(result), "+b"(rbx), "+D"(rdi), "+S"(rsi), "+d"(rdx), "+r"(r8), "+r"(r9),
			   "+r"(r10), "+r"(r12), "+r"(r13)
			 : "a"(SYS_getppid)
			 : "rcx", "r11", "memory");
	CHECK_EQ(rbx, 3);
	CHECK_EQ(rdi, 5);
	CHECK_EQ(rsi, 6);
	CHECK_EQ(rdx, 7);
	CHECK_EQ(r8, 8);
	CHECK_EQ(r9, 9);
	CHECK_EQ(r10, 10);
	CHECK_EQ(r12, 12);
	CHECK_EQ(r13, 13);
}

TEST(syscall_sets_rcx_and_r11)
{
	long rcx, r11, result;

	__asm__ volatile("syscall\n1: mov %%r11, %2; lea 1b(%%rip), %%rdx; sub %%rdx, %%rcx"
			 : "=a"(result), "=&c"(rcx), "=r"(r11)
			 : "a"(SYS_getpid)
			 : "rdx", "r11", "memory");
	CHECK_EQ(rcx, 0);
	CHECK(r11 & 0x200);
}

TEST(int80_getpid)
{
	long result = -1;

	catch_faults();
	int signo = sigsetjmp(jump, 1);
	if (signo) {
		CHECK_EQ(signo, SIGSEGV);
		return;
	}
	/* 20 is getpid of the 32-bit table, 39 (its mkdir) is getpid of the 64-bit one. */
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(20) : "r8", "r9", "r10", "r11", "memory");
	CHECK(result == getpid() || (int)result == -ENOSYS);
}

TEST(int80_cannot_touch_files)
{
	static char name[] = "made";
	long result = -1;
	char *low = mmap((void *)0x10000000, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	CHECK(low == (char *)0x10000000);
	strcpy(low, name);
	catch_faults();
	if (sigsetjmp(jump, 1))
		return;
	/* 39 is mkdir(2) there. Where it works it must be the same file tree. */
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(39), "b"(low), "c"(0755)
			 : "r8", "r9", "r10", "r11", "memory");
	CHECK_EQ(result == 0, access("made", F_OK) == 0);
	CHECK(result == 0 || (int)result == -ENOSYS);
}

TEST(x32_number)
{
	long result;

	/* Without x32 in the kernel: ENOSYS. Never another answer than getpid's. */
	__asm__ volatile("syscall" : "=a"(result) : "a"(SYS_getpid | 0x40000000) : "rcx", "r11", "memory");
	CHECK(result == -ENOSYS || result == getpid());
}

TEST(vsyscall_page)
{
	long result;

	catch_faults();
	int signo = sigsetjmp(jump, 1);
	if (signo) {
		CHECK_EQ(signo, SIGSEGV);
		return;
	}
	long (*vtime)(long *) = (long (*)(long *))0xffffffffff600400UL;
	result = vtime(NULL);
	CHECK(llabs(result - time(NULL)) <= 1);
	long (*vgettimeofday)(struct timeval *, void *) = (long (*)(struct timeval *, void *))0xffffffffff600000UL;
	struct timeval tv = { 0, -1 };
	CHECK_EQ(vgettimeofday(&tv, NULL), 0);
	CHECK(llabs(tv.tv_sec - time(NULL)) <= 1 && tv.tv_usec >= 0 && tv.tv_usec < 1000000);
	long (*vgetcpu)(unsigned int *, unsigned int *, void *) =
		(long (*)(unsigned int *, unsigned int *, void *))0xffffffffff600800UL;
	unsigned int cpu = 12345, node = 12345;
	CHECK_EQ(vgetcpu(&cpu, &node, NULL), 0);
	CHECK(cpu < 12345 && node < 12345);
	/* A bad address is a fault there, not an error. */
	if (!sigsetjmp(jump, 1)) {
		vgettimeofday((struct timeval *)BAD_PTR, NULL);
		CHECK(!"no fault");
	}
}

TEST(vsyscall_page_has_three_entries)
{
	static const unsigned long beside[] = { 0, 8, 0x200, 0x3ff, 0x401, 0x7ff, 0x808, 0xc00, 0xfff };

	for (volatile size_t i = 1; i < COUNT(beside); i = i + 1) {
		catch_faults();
		if (sigsetjmp(jump, 1))
			continue;
		((long (*)(long *))(0xffffffffff600000UL + beside[i]))(NULL);
		CHECK(!"no fault");
	}
}

TEST(sysenter_instruction)
{
	catch_faults();
	CHILD(pid)
	{
		if (sigsetjmp(jump, 1))
			_exit(0);
		/* In 64-bit mode sysenter enters as a 32-bit call and comes back elsewhere: any end but
		 * running on is right. */
		__asm__ volatile("mov %%rsp, %%rbp; sysenter" : : "a"(20) : "memory");
		_exit(1);
	}
	int status = WAIT_STATUS(pid);
	CHECK(status == 0 || WIFSIGNALED(status));
}

TEST(privileged_instructions_fault)
{
	catch_faults();
#define FAULTS(code)                                                                               \
	do {                                                                                       \
		int signo_ = sigsetjmp(jump, 1);                                                   \
		if (!signo_) {                                                                     \
			__asm__ volatile(code ::: "eax", "ecx", "edx", "memory");                  \
			test_fail(__FILE__, __LINE__, "%s ran", code);                             \
		}                                                                                  \
		CHECK(signo_ == SIGSEGV || signo_ == SIGILL);                                      \
	} while (0)
	FAULTS("hlt");
	FAULTS("cli");
	FAULTS("in $0x80, %%al");
	FAULTS("mov %%cr0, %%rax");
	FAULTS("wrmsr");
	FAULTS("rdmsr");
	FAULTS("ud2");
	FAULTS("int $0x50");
	FAULTS("swapgs");
	FAULTS("sysretq");
}

TEST(sysret_noncanonical)
{
	/* A system call at the top of the canonical half must not confuse the return. */
	char *top = mmap((void *)0x7fffffffe000, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (top != (char *)0x7fffffffe000)
		test_skip("the last page is taken");
	memcpy(top + PAGE - 2, "\x0f\x05", 2);
	catch_faults();
	int signo = sigsetjmp(jump, 1);
	if (!signo) {
		__asm__ volatile("jmp *%0" : : "r"(top + PAGE - 2), "a"(SYS_getpid) : "rcx", "r11", "memory");
	}
	CHECK(signo == SIGSEGV || signo == SIGBUS);
}

TEST(breakpoint_and_single_step)
{
	catch_faults();
	if (!sigsetjmp(jump, 1)) {
		__asm__ volatile("int3");
		CHECK(!"int3 ran on");
	}
	if (!sigsetjmp(jump, 1)) {
		__asm__ volatile("pushfq; orq $0x100, (%%rsp); popfq; nop; nop" ::: "memory", "cc");
		CHECK(!"single step ran on");
	}
	CHECK(getpid() > 0);
}

TEST(trap_flag_over_syscall)
{
	catch_faults();
	if (!sigsetjmp(jump, 1)) {
		__asm__ volatile("pushfq; orq $0x100, (%%rsp); mov $39, %%eax; popfq; syscall; nop"
				 ::: "rax", "rcx", "r11", "memory", "cc");
		CHECK(!"ran on");
	}
	CHECK(getpid() > 0);
}

TEST(direction_and_alignment_flags)
{
	long flags;

	__asm__ volatile("std; syscall; pushfq; pop %0; cld" : "=r"(flags) : "a"(SYS_getpid)
			 : "rcx", "r11", "memory", "cc");
	CHECK(flags & 0x400);
}

TEST(segment_far_jump_to_32_bit)
{
	/* Code segment 0x23 runs 32-bit code; int 0x80 from there is the same guest call or a fault. */
	static const unsigned char code[] = {
		0xb8, 20, 0, 0, 0,	/* mov eax, 20 (getpid) */
		0xcd, 0x80,		/* int 0x80 */
		0xcb,			/* retf */
	};
	struct __attribute__((packed)) { uint32_t offset; uint16_t segment; } target = { 0x20000000, 0x23 };
	unsigned char *low = mmap((void *)0x20000000, 4 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	long result = 0;

	CHECK(low == (unsigned char *)0x20000000);
	memcpy(low, code, sizeof(code));
	catch_faults();
	int signo = sigsetjmp(jump, 1);
	if (signo) {
		CHECK(signo == SIGSEGV || signo == SIGILL);
		return;
	}
	/* The stack must lie below 4 GiB for the 32-bit return. */
	__asm__ volatile("mov %%rsp, %%r12; mov %[sp], %%rsp; lcall *(%[t]); mov %%r12, %%rsp"
			 : "=a"(result)
			 : [sp] "r"(low + 3 * PAGE), [t] "r"(&target)
			 : "r12", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
	CHECK((int)result == getpid() || (int)result == -ENOSYS);
}
