/* Descriptors of processes (pidfd_open(2)); files are in sentry/fs/pidfd. */
#ifndef SENTRY_KERNEL_PIDFD_H
#define SENTRY_KERNEL_PIDFD_H

#include "sentry/kernel/task.h"
#include "sentry/vfs/vfs.h"

/* flags: O_NONBLOCK or 0. Takes a reference of its own on tg. */
NODISCARD int pidfd_file_new(struct thread_group *tg, const struct cred *cred, int flags,
		struct file **ret_file);
/* The process of a pidfd (a reference), or NULL when f is something else. */
struct thread_group *pidfd_thread_group(struct file *f);

#endif
