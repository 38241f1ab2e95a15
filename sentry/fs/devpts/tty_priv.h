/* The terminal object and what drivers (pty, host terminal) share with the line discipline. */
#ifndef SENTRY_FS_DEVPTS_TTY_PRIV_H
#define SENTRY_FS_DEVPTS_TTY_PRIV_H

#include <sys/ioctl.h>

#include "sentry/fs/devpts/tty.h"
#include "sentry/kernel/task.h"

#define TTY_BUF 4096u /* input, as N_TTY's */
#define GUEST_NCCS 19

/* struct termios2 of the ABI; struct termios is its first 36 bytes. */
struct guest_termios {
	uint32_t iflag, oflag, cflag, lflag;
	uint8_t line, cc[GUEST_NCCS];
	uint32_t ispeed, ospeed;
};
_Static_assert(sizeof(struct guest_termios) == 44, "struct termios2");
#define GUEST_TERMIOS_SIZE 36

struct tty_driver {
	const char *name;
	/* All with tty->mu held. Bytes taken, up to room. */
	size_t (*write)(struct tty *t, const uint8_t *data, size_t size);
	size_t (*room)(struct tty *t);
	/* Bytes of output not yet seen by the other side (TIOCOUTQ). */
	size_t (*pending)(struct tty *t);
	void (*flush_output)(struct tty *t);
	void (*packet)(struct tty *t, uint8_t status); /* TIOCPKT_*, for a master in packet mode; may be NULL */
	/* Without locks: the reader made room; the window size was set. May be NULL. */
	void (*unthrottle)(struct tty *t);
	void (*resize)(struct tty *t, const struct winsize *ws);
	void (*free)(struct tty *t); /* frees the object that embeds t; ends with tty_fini */
	/* ioctls of its own, before the common ones; master tells from which side. -ENOTTY. */
	int64_t (*ioctl)(struct tty *t, bool master, uint32_t cmd, uint64_t arg, struct umem *um);
};

struct tty {
	struct refcount refs;
	const struct tty_driver *drv;
	dev_t dev;	  /* const */
	char name[16];	  /* const */
	struct mutex mu;  /* LOCK_TTY: all below but session */
	struct guest_termios tio;
	struct winsize ws;
	/* Input ring: [tail, head) is stored, [tail, canon) is whole lines; line_end marks what ends a line. */
	uint8_t buf[TTY_BUF];
	uint8_t line_end[TTY_BUF / 8];
	uint32_t head, canon, tail; /* free running */
	uint32_t column, canon_column;
	bool lnext, stopped, stopped_by_ioctl, hung, exclusive;
	int64_t vtime_ns; /* when a read with VTIME gives up; 0: none waits */
	struct ktimer vtimer;
	struct waitq waitq;
	struct session *session; /* taskset; weak: whose controlling terminal this is */
};

void tty_init(struct tty *t, const struct tty_driver *drv, dev_t dev, const char *name);
void tty_fini(struct tty *t);

/* ldisc.c; t->mu is held. */
size_t tty_input_room(const struct tty *t);
/* Input from the other side: edits, echoes, makes signals. Wakes readers. */
void tty_receive(struct tty *t, const uint8_t *data, size_t size);
/* Output through OPOST. Bytes taken. */
size_t tty_output(struct tty *t, const uint8_t *data, size_t size);
bool tty_readable(const struct tty *t);
void tty_flush_input(struct tty *t);
void tty_termios_changed(struct tty *t, const struct guest_termios *old);
void tty_start(struct tty *t, bool by_ioctl);
void tty_stop(struct tty *t, bool by_ioctl);

/* File operations on the terminal itself (the slave of a pty). No locks held. */
int64_t tty_read(struct tty *t, struct file *f, struct uio *u);
int64_t tty_write(struct tty *t, struct file *f, struct uio *u);
uint32_t tty_poll(struct tty *t);
int64_t tty_ioctl(struct tty *t, struct file *f, bool master, uint32_t cmd, uint64_t arg, struct umem *um);

/* jobctl.c. 0, -EIO, or -ERESTARTSYS after sending signo (SIGTTIN, SIGTTOU) to the caller's group. */
NODISCARD int tty_check_background(struct tty *t, int signo);
/* Signal to the foreground group; t->mu may be held. */
void tty_signal_foreground(struct tty *t, int signo);
/* TIOCGPGRP, TIOCSPGRP, TIOCGSID, TIOCSCTTY, TIOCNOTTY; -ENOTTY for others. */
int64_t tty_jobctl_ioctl(struct tty *t, struct file *f, bool master, uint32_t cmd, uint64_t arg, struct umem *um);
/* The opener becomes the owner when it is a leader without a terminal (open(2) without O_NOCTTY). */
void tty_opened(struct tty *t, const struct file *f);

/* pty.c */
extern const struct tty_driver pty_driver;
struct pty;
struct devpts;
NODISCARD int pty_new(struct devpts *instance, unsigned index, struct pty **ret_pty);
struct tty *pty_tty(struct pty *p);
struct pty *tty_pty(struct tty *t); /* only for t->drv == &pty_driver */
NODISCARD int pty_open_master(struct pty *p, struct file *f); /* takes the reference over */
NODISCARD int pty_open_slave(struct pty *p, struct file *f);
/* host_tty.c: a further file on a terminal of the host. */
NODISCARD int host_tty_open(struct tty *t, struct file *f);
/* devpts.c: a number for a terminal of the host in the instance of sb, which *ret_d then holds; -ENODEV when
 * sb is no devpts. Then its node; on failure and at the end devpts_remove and devpts_put. */
NODISCARD int devpts_host_reserve(struct superblock *sb, struct devpts **ret_d);
NODISCARD int devpts_host_add(struct devpts *d, unsigned index, struct tty *t, const struct cred *cred);
/* devpts.c: the master is gone: no name any more. */
void devpts_remove(struct devpts *d, unsigned index);
void devpts_put(struct devpts *d);

#endif
