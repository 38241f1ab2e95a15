/* Signal-driven I/O: F_SETOWN and its kin, O_ASYNC (fcntl(2)). */
#ifndef SENTRY_SYSCALLS_FILE_ASYNC_H
#define SENTRY_SYSCALLS_FILE_ASYNC_H

#include "sentry/kernel/task.h"
#include "sentry/vfs/fs_ops.h"

/* Is cmd one of F_SETOWN, F_GETOWN, F_SETOWN_EX, F_GETOWN_EX, F_GETOWNER_UIDS, F_SETSIG, F_GETSIG? */
bool file_async_is_cmd(uint32_t cmd);
/* Carries such a command out. */
int64_t file_async_fcntl(struct task *t, struct file *f, uint32_t cmd, uint64_t arg);
/* After the flags of f changed through descriptor fd: begins or ends the watch for readiness. -ENOMEM. */
NODISCARD int file_async_update(struct task *t, struct file *f, int fd);

#endif
