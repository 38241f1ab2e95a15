/* memfd_create(2). */
#ifndef SENTRY_FS_MEMFD_MEMFD_H
#define SENTRY_FS_MEMFD_MEMFD_H

#include "sentry/vfs/fs_ops.h"

/* A fresh memfd; flags are MFD_*, checked here (-EINVAL). name at most 249 bytes. */
NODISCARD int memfd_new(const char *name, unsigned flags, const struct cred *cred, struct file **ret_file);

#endif
