/* The union of a lower tree that is only read and an upper one that takes all changes (overlayfs). */
#ifndef SENTRY_FS_OVERLAY_OVERLAY_H
#define SENTRY_FS_OVERLAY_OVERLAY_H

#include "sentry/vfs/vfs.h"

/*
 * Makes a superblock whose files are those of lower, with changes kept in upper: a fresh tmpfs of the
 * sandbox. Both are borrowed: the overlay takes references of its own. Used for the root file system
 * and bind mounts (--overlay2). Control thread. -ENOMEM, -ENOTDIR when a root is not a directory.
 */
NODISCARD int overlay_new(struct superblock *lower, struct superblock *upper,
			  struct user_ns *user_ns, struct superblock **ret_sb);

#endif
