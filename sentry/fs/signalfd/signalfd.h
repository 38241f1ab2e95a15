/* signalfd(2): pending signals of the reading process as a file. */
#ifndef SENTRY_FS_SIGNALFD_SIGNALFD_H
#define SENTRY_FS_SIGNALFD_SIGNALFD_H

#include "sentry/kernel/signal.h"
#include "sentry/vfs/fs_ops.h"

/* Task thread. mask is what to accept; SIGKILL and SIGSTOP are dropped from it. */
NODISCARD int signalfd_new(sigset_kernel mask, int flags, const struct cred *cred, struct file **ret_file);
bool file_is_signalfd(const struct file *f);
void signalfd_set_mask(struct file *f, sigset_kernel mask);

#endif
