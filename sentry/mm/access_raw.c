/*
 * Access to mapped guest pages that may vanish: a host file cut short behind our back, or a host out of
 * memory, raises SIGBUS. Invariant: every instruction that touches such a page lies between two labels
 * of the table below, uses no stack, and has a place to go on after the fault; the handler changes the
 * instruction pointer only, so the copy returns how far it came.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#include "sentry/mm/mm_priv.h"

#if !defined(__x86_64__)
#error "architecture not supported yet"
#endif

extern const char raw_copy_start[], raw_copy_end[], raw_copy_fixup[];
extern const char raw_load_start[], raw_load_end[], raw_load_fixup[];
extern const char raw_swap_start[], raw_swap_end[], raw_swap_fixup[];
size_t raw_copy_asm(void *dst, const void *src, size_t size);
int raw_load_asm(const void *src, uint32_t *ret_val);
int raw_swap_asm(void *word, uint32_t *expected, uint32_t desired);

__asm__(".text\n"
	".type raw_copy_asm, @function\n"
	"raw_copy_asm:\n"
	"	endbr64\n"
	"	mov %rdx, %rcx\n"
	"	mov %rdx, %rax\n"
	"	cmp $64, %rcx\n"
	"	jae 2f\n"
	".globl raw_copy_start\n"
	"raw_copy_start:\n"
	"1:	cmp $8, %rcx\n"
	"	jb 3f\n"
	"	mov (%rsi), %r8\n"
	"	mov %r8, (%rdi)\n"
	"	add $8, %rsi\n"
	"	add $8, %rdi\n"
	"	sub $8, %rcx\n"
	"	jmp 1b\n"
	"3:	test %rcx, %rcx\n"
	"	jz raw_copy_end\n"
	"	mov (%rsi), %r8b\n"
	"	mov %r8b, (%rdi)\n"
	"	inc %rsi\n"
	"	inc %rdi\n"
	"	dec %rcx\n"
	"	jmp 3b\n"
	"2:	rep movsb\n"
	".globl raw_copy_end\n"
	"raw_copy_end:\n"
	".globl raw_copy_fixup\n"
	"raw_copy_fixup:\n"
	"	sub %rcx, %rax\n"
	"	ret\n"
	".size raw_copy_asm, . - raw_copy_asm\n"
	".type raw_load_asm, @function\n"
	"raw_load_asm:\n"
	"	endbr64\n"
	".globl raw_load_start\n"
	"raw_load_start:\n"
	"	mov (%rdi), %eax\n"
	".globl raw_load_end\n"
	"raw_load_end:\n"
	"	mov %eax, (%rsi)\n"
	"	xor %eax, %eax\n"
	"	ret\n"
	".globl raw_load_fixup\n"
	"raw_load_fixup:\n"
	"	mov $-1, %eax\n"
	"	ret\n"
	".size raw_load_asm, . - raw_load_asm\n"
	".type raw_swap_asm, @function\n"
	"raw_swap_asm:\n"
	"	endbr64\n"
	"	mov (%rsi), %eax\n"
	".globl raw_swap_start\n"
	"raw_swap_start:\n"
	"	lock cmpxchg %edx, (%rdi)\n"
	".globl raw_swap_end\n"
	"raw_swap_end:\n"
	"	mov %eax, (%rsi)\n"
	"	sete %al\n"
	"	movzbl %al, %eax\n"
	"	ret\n"
	".globl raw_swap_fixup\n"
	"raw_swap_fixup:\n"
	"	mov $-1, %eax\n"
	"	ret\n"
	".size raw_swap_asm, . - raw_swap_asm\n");

static const struct {
	const char *start, *end, *fixup;
} fixups[] = {
	{ raw_copy_start, raw_copy_end, raw_copy_fixup },
	{ raw_load_start, raw_load_end, raw_load_fixup },
	{ raw_swap_start, raw_swap_end, raw_swap_fixup },
};

/* What was installed before: the crash report of boot. */
static struct sigaction old_bus, old_segv;

static void on_fault(int sig, siginfo_t *si, void *context)
{
	ucontext_t *uc = context;
	const char *ip = (const char *)uc->uc_mcontext.gregs[REG_RIP];

	(void)si;
	for (size_t i = 0; i < ARRAY_COUNT(fixups); i++) {
		if (ip >= fixups[i].start && ip < fixups[i].end) {
			uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)fixups[i].fixup;
			return;
		}
	}
	/* A bug: the instruction runs again and finds the handler that was there before. */
	sigaction(sig, sig == SIGBUS ? &old_bus : &old_segv, NULL);
}

/* Installs the handler. Boot only. */
void raw_init(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&sa.sa_mask);
	sigaction(SIGBUS, &sa, &old_bus);
	sigaction(SIGSEGV, &sa, &old_segv);
	raw_thread_init();
}

/* Lets the calling thread take the two signals: a blocked one would end the process. Cheap when done. */
void raw_thread_init(void)
{
	static __thread bool done;
	sigset_t set;

	if (done)
		return;
	sigemptyset(&set);
	sigaddset(&set, SIGBUS);
	sigaddset(&set, SIGSEGV);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	done = true;
}

/* Copies between the sentry and mapped guest pages; returns the bytes copied before a fault. */
size_t raw_copy(void *dst, const void *src, size_t size)
{
	return raw_copy_asm(dst, src, size);
}

/* Reads an aligned guest word. 0 or -EFAULT. */
int raw_load32(const void *src, uint32_t *ret_val)
{
	return raw_load_asm(src, ret_val) < 0 ? -EFAULT : 0;
}

/* Compare and exchange on an aligned guest word: 1 swapped, 0 not (*expected is updated), -EFAULT. */
int raw_cmpxchg32(void *word, uint32_t *expected, uint32_t desired)
{
	int r = raw_swap_asm(word, expected, desired);

	return r < 0 ? -EFAULT : r;
}
