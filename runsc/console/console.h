/* Terminals: pty pairs, --console-socket, raw mode of the caller's terminal. */
#ifndef RUNSC_CONSOLE_CONSOLE_H
#define RUNSC_CONSOLE_CONSOLE_H

#include <termios.h>

#include "runsc/config/util.h"

/* A new pty; both ends close-on-exec. rows and columns of 0 leave the size as it is. */
int console_open(unsigned int rows, unsigned int columns, int *ret_master, int *ret_slave,
		 struct error *err);
/* Sends the master over the unix socket at path, as runc does: one message with its name and SCM_RIGHTS. */
int console_send(const char *path, int master, struct error *err);

/* The caller's terminal in raw mode until console_restore; fd -1: nothing to restore. */
struct console_raw {
	int fd;
	struct termios saved;
};
void console_make_raw(int tty, struct console_raw *raw);
void console_restore(struct console_raw *raw);
/* Size of a terminal in characters; false when tty is none. ioctl_tty(2) */
bool console_size(int tty, unsigned int *ret_rows, unsigned int *ret_columns);
/* Copies the window size of one terminal to another; false when `from` is none. */
bool console_copy_size(int from, int to, unsigned int *ret_rows, unsigned int *ret_columns);

#endif
