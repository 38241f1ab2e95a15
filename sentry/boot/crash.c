/* Reports where the sentry crashed: addresses are relative to the image, as addr2line takes them. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "sentry/boot/boot.h"

extern const char __executable_start[], etext[];

static bool in_image(uintptr_t p)
{
	return p >= (uintptr_t)__executable_start && p < (uintptr_t)etext;
}

/* Words on the stack that point into the image: return addresses, and some that were. */
static size_t possible_callers(uintptr_t sp, char *text, size_t size)
{
	size_t n = 0, found = 0;

	for (uintptr_t at = sp; at < ((sp + 4096) & ~(uintptr_t)4095) && found < 24; at += sizeof(at)) {
		uintptr_t word;

		memcpy(&word, (const void *)at, sizeof(word));
		if (!in_image(word))
			continue;
		n += (size_t)snprintf(text + n, size - n, " %#jx",
				      (uintmax_t)(word - (uintptr_t)__executable_start));
		if (n >= size)
			return size - 1;
		found++;
	}
	return n;
}

static void crash(int signo, siginfo_t *info, void *context)
{
	const ucontext_t *uc = context;
	char callers[600] = "";
	uintptr_t ip, sp;

#ifdef __x86_64__
	ip = (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
	sp = (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
#else
	ip = uc->uc_mcontext.pc;
	sp = uc->uc_mcontext.sp;
#endif
	signal(signo, SIG_DFL);
	possible_callers(sp & ~(uintptr_t)7, callers, sizeof(callers));
	log_error("crash: signal %d (code %d, address %p) at image+%#jx in thread %d; stack:%s", signo,
		  info->si_code, info->si_addr, (uintmax_t)(ip - (uintptr_t)__executable_start),
		  (int)gettid(), callers);
}

void boot_install_crash_handlers(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction sa = { .sa_sigaction = crash, .sa_flags = SA_SIGINFO };

	for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
		sigaction(signals[i], &sa, NULL);
}
