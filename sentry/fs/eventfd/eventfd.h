/* eventfd(2): a 64-bit counter as a file. */
#ifndef SENTRY_FS_EVENTFD_EVENTFD_H
#define SENTRY_FS_EVENTFD_EVENTFD_H

#include "sentry/vfs/fs_ops.h"

/* A new file with counter count; flags: EFD_SEMAPHORE, EFD_NONBLOCK (EFD_CLOEXEC is the caller's). */
NODISCARD int eventfd_new(uint32_t count, int flags, const struct cred *cred, struct file **ret_file);
/* Adds n as a write would, dropping what does not fit: for kernel-internal signalling. */
bool file_is_eventfd(const struct file *f);
void eventfd_signal(struct file *f, uint64_t n);

#endif
