/* Descriptor tables (CLONE_FILES). Slots hold file references. */
#ifndef SENTRY_KERNEL_FDTABLE_H
#define SENTRY_KERNEL_FDTABLE_H

#include "sentry/vfs/vfs.h"

struct fdtable;

NODISCARD struct fdtable *fdtable_new(void);
struct fdtable *fdtable_get_ref(struct fdtable *t);
void fdtable_put(struct fdtable *t); /* the last put closes every descriptor */
NODISCARD struct fdtable *fdtable_dup(struct fdtable *t); /* fork; NULL: out of memory */
bool fdtable_shared(const struct fdtable *t);

/* Reference to the file at fd, NULL when not open. */
struct file *fdtable_get(struct fdtable *t, int fd);
/* As above, but not for O_PATH files (-EBADF for most calls). */
struct file *fdtable_get_io(struct fdtable *t, int fd);
bool fdtable_cloexec(struct fdtable *t, int fd);
int fdtable_set_cloexec(struct fdtable *t, int fd, bool on);
/* Lowest free descriptor >= min below limit (RLIMIT_NOFILE). Takes a reference of its own on f.
 * Returns the fd, -EMFILE, -EINVAL, -ENOMEM. */
NODISCARD int fdtable_install(struct fdtable *t, struct file *f, int min, uint64_t limit, bool cloexec);
/* dup2: at exactly fd; closes what was there. */
NODISCARD int fdtable_install_at(struct fdtable *t, struct file *f, int fd, uint64_t limit, bool cloexec);
/* Reserve, then commit or cancel: for calls that must not fail after copying the number out. */
NODISCARD int fdtable_reserve(struct fdtable *t, int min, uint64_t limit, bool cloexec);
void fdtable_commit(struct fdtable *t, int fd, struct file *f); /* takes a reference of its own */
void fdtable_cancel(struct fdtable *t, int fd);
/* close(2): 0 or -EBADF; runs flush and drops POSIX locks. */
int fdtable_close(struct fdtable *t, int fd);
int fdtable_close_range(struct fdtable *t, unsigned first, unsigned last, bool cloexec_only);
void fdtable_close_on_exec(struct fdtable *t);
/* Next open descriptor >= fd, or -1: for /proc/PID/fd. */
int fdtable_next(struct fdtable *t, int fd);
unsigned fdtable_size(struct fdtable *t);

/* Shorthands on the calling task. */
struct task;
struct file *task_fd(struct task *t, int fd);	 /* any file */
struct file *task_fd_io(struct task *t, int fd); /* not O_PATH */
NODISCARD int task_fd_install(struct task *t, struct file *f, bool cloexec); /* lowest free, own limit */

#endif
