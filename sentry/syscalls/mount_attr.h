/* MOUNT_ATTR_* of the new mount calls. */
#ifndef SENTRY_SYSCALLS_MOUNT_ATTR_H
#define SENTRY_SYSCALLS_MOUNT_ATTR_H

#include "platform/base/compiler.h"

/* Turns what to set and clear into the VFS's MS_* flags. -EINVAL for unknown or contradictory bits. */
NODISCARD int mount_attr_flags(uint64_t set, uint64_t clear, uint64_t *ret_set, uint64_t *ret_clear);

#endif
