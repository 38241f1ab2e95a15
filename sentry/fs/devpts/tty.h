/*
 * Terminals: the line discipline (termios(3), N_TTY), job control, and the drivers under it: a pty
 * pair (pty.c) or a terminal of the host (host_tty.c).
 *
 * Locks: tty->mu (LOCK_TTY) protects the discipline; session and foreground group are protected by
 * taskset_mu, which may be taken inside. Guest memory is never touched under tty->mu.
 */
#ifndef SENTRY_FS_DEVPTS_TTY_H
#define SENTRY_FS_DEVPTS_TTY_H

#include "sentry/vfs/fs_ops.h"

struct tty;
struct task;
struct thread_group;
struct session;
struct process_group;

struct tty *tty_get(struct tty *t);
void tty_put(struct tty *t); /* NULL is fine */

/*
 * Controlling terminals. tty_set_controlling makes t the terminal of the calling task's (or task's)
 * session: TIOCSCTTY's rules, -EPERM. steal: take it from another session (CAP_SYS_ADMIN checked by
 * the caller). tty_drop_session: the session leader exits or calls TIOCNOTTY: SIGHUP and SIGCONT to
 * the foreground group, and the session has no terminal any more. No locks held.
 */
NODISCARD int tty_set_controlling(struct tty *t, struct task *task, bool steal);
void tty_drop_session(struct session *s);
/* The controlling terminal of the task's session with a reference, or NULL. Takes taskset_mu. */
struct tty *tty_of_task(struct task *task);
/* Foreground group of t with a reference, or NULL: for control signals. Takes taskset_mu. */
struct process_group *tty_foreground(struct tty *t);
/* vhangup(2) and the like: SIGHUP, EOF for readers, EIO for writers. */
void tty_hangup(struct tty *t);
/* Device number as /proc/PID/stat shows it (tty_nr). */
dev_t tty_dev(const struct tty *t);
/* "pts/3" or "console"; static for the life of t. */
const char *tty_name(const struct tty *t);

/*
 * A terminal of the host (stdio of `runsc run` with process.terminal): the descriptor is put into raw
 * mode and carries bytes, the discipline runs here, so job control and signals work as on a pty.
 * Takes over host_fd on success. The file may be installed at several descriptors. It is /dev/pts/N of the
 * devpts that w finds at /dev/pts, until its last file is closed; without one (or w NULL) it has no name.
 * Control thread. *ret_tty: for process_args.tty, borrowed from the file.
 */
NODISCARD int host_tty_file_new(int host_fd, const struct cred *cred, const struct walk *w, struct file **ret_file,
				struct tty **ret_tty);
/*
 * Reads the size of the window from the host again; the foreground gets SIGWINCH when it has changed. The host tells
 * nobody here about a change that is made on the other end of the terminal (a shim, conmon: --console-socket), so this is
 * done whenever the guest asks for the size, before input and for some minutes after it by a timer, besides when runsc
 * says so (control method). Does
 * nothing for other kinds of terminal, or NULL. Any thread.
 */
void host_tty_resized(struct tty *t);

/*
 * The devpts file system and the device files, for sentry/fs/dev: opening these inodes through fops.
 * devpts_mount makes a new instance (mount option newinstance is always on); options as mount(8):
 * uid=, gid=, mode=, ptmxmode=, max=.
 */
NODISCARD int devpts_mount(const char *data, struct user_ns *user_ns, struct superblock **ret_sb);
void devpts_init(void); /* registers the type; boot only */
/* open(2) of /dev/ptmx outside a devpts (char 5:2) and /dev/tty (char 5:0): sets f->ops and f->data. For
 * ptmx the instance is looked for at "pts" beside the node, else the first one mounted. */
NODISCARD int devpts_open_ptmx(struct file *f);
NODISCARD int tty_open_current(struct file *f);

#endif
