/* What the zygote, from which the mapper of every address space is cloned, has of systrap: signal handlers. */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/systrap/systrap_priv.h"

/* The handlers of the stub page, which all stubs inherit; raw, as the kernel has it. */
static int install_handlers(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, ST_KICK_SIGNAL };
	const struct {
		uint64_t handler, flags, restorer, mask;
	} action = { .handler = st_stub_address(systrap_stub_handler),
		     .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART | 0x04000000u };

	for (size_t i = 0; i < ARRAY_COUNT(signals); i++)
		if (syscall(SYS_rt_sigaction, signals[i], &action, NULL, sizeof(action.mask)) < 0)
			return -errno;
	return 0;
}

/* Starts the zygote. Boot only. 0 or -errno. */
int st_zygote_start(struct st_platform *p)
{
	const struct zygote_code code = { .page = { systrap_stub_page_start, systrap_fast_page_start },
					  .entry = systrap_stub_zygote,
					  .prepare = install_handlers,
					  .failed = ANSWER_NO_MAPPER };

	return zygote_start(&p->zygote, &code);
}
