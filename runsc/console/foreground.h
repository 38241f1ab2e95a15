/* A program in the foreground: its terminal, the caller's signals, its end. */
#ifndef RUNSC_CONSOLE_FOREGROUND_H
#define RUNSC_CONSOLE_FOREGROUND_H

#include "runsc/sandbox/container.h"

struct foreground {
	const struct container *container;
	int guest_pid;	/* 0: init */
	int status_fd;	/* gives 4 bytes, the wait status; owned */
	int sentry_fd;	/* pidfd of the sentry, readable when it ended; owned; -1: not watched */
	int master;	/* of the program's terminal; owned; -1: none */
	int signal_fd;	/* see foreground_block_signals; owned */
};

/*
 * From here on signals are kept for foreground_run, so that none is lost between start and
 * watching. Returns a signalfd, or -1 with err.
 */
int foreground_block_signals(struct error *err);
/*
 * Copies between the caller's terminal and the program's, forwards signals and window sizes, until
 * the program ends. Returns its wait status, or -1 with err when the sandbox died without one
 * (ret_sandbox_died is then set). Closes what f owns.
 */
int foreground_run(struct foreground *f, bool *ret_sandbox_died, struct error *err);

#endif
