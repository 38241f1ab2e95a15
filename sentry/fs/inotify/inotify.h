/* inotify(7). */
#ifndef SENTRY_FS_INOTIFY_INOTIFY_H
#define SENTRY_FS_INOTIFY_INOTIFY_H

#include "sentry/vfs/fs_ops.h"

/* An instance; flags: O_NONBLOCK or 0. */
NODISCARD int inotify_new(int flags, const struct cred *cred, struct file **ret_file);
/* Watches inode for mask (IN_* with IN_MASK_ADD, IN_MASK_CREATE, IN_ONESHOT): the watch descriptor, -EINVAL
 * (f is no inotify file), -EEXIST, -ENOSPC, -ENOMEM. */
NODISCARD int inotify_add(struct file *f, struct inode *inode, uint32_t mask);
NODISCARD int inotify_remove(struct file *f, int wd);

#endif
