/* Single steps: by a tracer (PTRACE_SINGLESTEP) and by the trap flag of a program's own. */
#include "tests/lib/guest.h"

#include <sys/ptrace.h>
#include <sys/user.h>
#include <ucontext.h>

enum { TRAP_FLAG = 0x100 };

/* A piece of code between two symbols, which a child runs from its first to its last instruction. */
#define PIECE(name, code)                                                                          \
	void name##_from(void), name##_to(void);                                                   \
	__asm__(".text\n" #name "_from:\n" code "\n" #name "_to: nop\n ret\n")

PIECE(plain, "nop; xor %eax, %eax; inc %eax; nop; nop");
PIECE(call, "mov $39, %eax; syscall; nop; mov $110, %eax; syscall; nop");
PIECE(bad_call, "mov $5000, %eax; syscall; nop");
PIECE(repeat, "lea -256(%rsp), %rdi; mov $5, %ecx; xor %eax, %eax; rep stosb; nop");
PIECE(flags, "pushf; pop %rbx; nop; push %rbx; popf; nop");
PIECE(branch, "mov $3, %ecx; 1: dec %ecx; jnz 1b; nop");
PIECE(stack, "mov %ss, %eax; mov %eax, %ss; nop; nop"); /* mov to %ss holds the trap back for an instruction */

PIECE(forks, "mov $57, %eax; syscall; test %eax, %eax; jnz 1f; mov $60, %eax; mov $5, %edi; syscall; 1: nop");

/* A child that stops, to be run from name_from. */
static pid_t stopped_at(void (*from)(void))
{
	struct user_regs_struct regs;
	pid_t pid = OK(fork());

	if (pid == 0) {
		OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
		raise(SIGSTOP);
		_exit(1);
	}
	CHECK(WIFSTOPPED(WAIT_STATUS(pid)));
	OK(ptrace(PTRACE_GETREGS, pid, NULL, &regs));
	regs.rip = (unsigned long)from;
	regs.orig_rax = -1UL;
	OK(ptrace(PTRACE_SETREGS, pid, NULL, &regs));
	return pid;
}

static struct user_regs_struct last; /* after the last step */

/* Steps until to; each stop has to be SIGTRAP. Returns the number of steps. */
static int steps_until(pid_t pid, void (*to)(void))
{
	int steps = 0, status;
	siginfo_t info;

	do {
		OK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL));
		status = WAIT_STATUS(pid);
		CHECK(WIFSTOPPED(status));
		if (WSTOPSIG(status) == SIGCHLD) /* not a step: no instruction ran */
			continue;
		CHECK_EQ(WSTOPSIG(status), SIGTRAP);
		OK(ptrace(PTRACE_GETSIGINFO, pid, NULL, &info));
		CHECK_EQ(info.si_signo, SIGTRAP);
		OK(ptrace(PTRACE_GETREGS, pid, NULL, &last));
		CHECK(++steps < 1000);
	} while (last.rip != (unsigned long)to);
	OK(kill(pid, SIGKILL));
	WAIT_SIGNAL(pid, SIGKILL);
	return steps;
}

TEST(each_instruction_is_a_step)
{
	pid_t pid = stopped_at(plain_from);

	CHECK_EQ(steps_until(pid, plain_to), 5);
	CHECK_EQ(last.rax, 1);
	CHECK_EQ(last.eflags & TRAP_FLAG, 0);
}

TEST(system_calls_are_one_step)
{
	pid_t pid = stopped_at(call_from);

	CHECK_EQ(steps_until(pid, call_to), 6);
	CHECK_EQ(last.rax, getpid());
	pid = stopped_at(bad_call_from);
	CHECK_EQ(steps_until(pid, bad_call_to), 3);
	CHECK_EQ(last.rax, -ENOSYS);
}

TEST(repeats_are_a_step_a_turn)
{
	pid_t pid = stopped_at(repeat_from);

	CHECK_EQ(steps_until(pid, repeat_to), 4 + 5 - 1 + 1);
	CHECK_EQ(last.rcx, 0);
}

TEST(branches)
{
	pid_t pid = stopped_at(branch_from);

	CHECK_EQ(steps_until(pid, branch_to), 1 + 3 * 2 + 1);
}

/* The processor pushes the flag that the tracer's steps need. (Linux takes it for the program's own when it is popped again;
 * systrap does not.) */
TEST(flags_of_a_stepped_program)
{
	pid_t pid = stopped_at(flags_from);

	CHECK_EQ(steps_until(pid, flags_to), 6);
	CHECK_EQ(last.rbx & TRAP_FLAG, TRAP_FLAG);
}

TEST(stack_segment_loads)
{
	pid_t pid = stopped_at(stack_from);

	CHECK(steps_until(pid, stack_to) <= 4);
}

/* A step after a stop at a system call, and into a handler. */
static void handler(int signo)
{
	(void)signo;
}

TEST(step_into_a_handler)
{
	struct user_regs_struct regs;

	CHILD(pid)
	{
		on_signal(SIGUSR1, handler, 0);
		OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
		raise(SIGUSR1);
		_exit(7);
	}
	CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGUSR1);
	OK(ptrace(PTRACE_SINGLESTEP, pid, NULL, SIGUSR1));
	CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGTRAP);
	OK(ptrace(PTRACE_GETREGS, pid, NULL, &regs));
	CHECK_EQ(regs.rip, (unsigned long)handler);
	CHECK_EQ(regs.rdi, SIGUSR1);
	OK(ptrace(PTRACE_CONT, pid, NULL, NULL));
	WAIT_EXIT(pid, 7);
}

TEST(step_out_of_a_handler)
{
	struct user_regs_struct regs;
	int status, steps = 0;

	CHILD(pid)
	{
		on_signal(SIGUSR1, handler, 0);
		OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
		raise(SIGUSR1);
		_exit(7);
	}
	CHECK_EQ(WSTOPSIG(WAIT_STATUS(pid)), SIGUSR1);
	OK(ptrace(PTRACE_GETREGS, pid, NULL, &regs));
	unsigned long was = regs.rip;
	do { /* through the handler, the restorer and sigreturn */
		OK(ptrace(PTRACE_SINGLESTEP, pid, NULL, steps == 0 ? SIGUSR1 : 0));
		status = WAIT_STATUS(pid);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
		OK(ptrace(PTRACE_GETREGS, pid, NULL, &regs));
		CHECK(++steps < 100);
	} while (regs.rip < was || regs.rip > was + 16);
	CHECK_EQ(regs.eflags & TRAP_FLAG, 0);
	OK(ptrace(PTRACE_CONT, pid, NULL, NULL));
	WAIT_EXIT(pid, 7);
}

TEST(step_over_fork)
{
	pid_t pid = stopped_at(forks_from);

	CHECK_EQ(steps_until(pid, forks_to), 5);
	CHECK((long)last.rax > 0);
}

/* The trap flag of a program's own ----------------------------------------------------------------- */

static volatile int traps, trap_code;

static void on_trap(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	traps = traps + 1;
	trap_code = info->si_code;
}

#define WITH_TRAP_FLAG(code)                                                                       \
	__asm__ volatile("pushf; orl $0x100, (%%rsp); popf\n" code "\npushf; andl $~0x100, (%%rsp); popf" \
			 : : : "rax", "rcx", "r11", "rdi", "memory", "cc")

TEST(own_trap_flag)
{
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGTRAP, &sa, NULL));
	WITH_TRAP_FLAG("nop; nop; nop");
	/* nop nop nop pushf andl popf: the popf that clears the flag is still trapped. */
	CHECK_EQ(traps, 6);
	CHECK_EQ(trap_code, TRAP_TRACE);
}

TEST(own_trap_flag_over_calls)
{
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGTRAP, &sa, NULL));
	/* mov, not the syscall, nop pushf andl popf */
	WITH_TRAP_FLAG("mov $39, %%eax; syscall; nop");
	CHECK_EQ(traps, 5);
	traps = 0;
	WITH_TRAP_FLAG("mov $39, %%eax; syscall; mov $102, %%eax; syscall");
	CHECK_EQ(traps, 5);
}

static void clear_flag(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	on_trap(signo, info, context);
	uc->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
}

TEST(handler_clears_and_sets_the_flag)
{
	struct sigaction sa = { .sa_sigaction = clear_flag, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGTRAP, &sa, NULL));
	WITH_TRAP_FLAG("nop; nop; nop");
	CHECK_EQ(traps, 1);
}

TEST(breakpoint_and_icebp)
{
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGTRAP, &sa, NULL));
	__asm__ volatile("int3");
	CHECK_EQ(traps, 1);
	CHECK_EQ(trap_code, SI_KERNEL);
	__asm__ volatile(".byte 0xf1");
	CHECK_EQ(traps, 2);
}
