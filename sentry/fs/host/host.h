/*
 * Files over descriptors of the host that came with a container or an exec: stdin, stdout, stderr and
 * preserved descriptors. Regular files, pipes, sockets and character devices; terminals
 * are sentry/fs/devpts/tty.h's.
 */
#ifndef SENTRY_FS_HOST_HOST_H
#define SENTRY_FS_HOST_HOST_H

#include "sentry/vfs/vfs.h"

/*
 * A file over host_fd, which is taken over on success, with the access mode and O_APPEND that the
 * descriptor has. The inode belongs to cred's user, so that /proc/self/fd/1 can be opened again.
 * The host's own state is shared with whoever else holds the descriptor: its O_NONBLOCK is never
 * changed, its file offset is the one that reads and writes use.
 * -EBADF, -EPERM for a directory, -ENOMEM. Control thread.
 */
NODISCARD int host_file_new(int host_fd, const struct cred *cred, struct file **ret_file);

/* Whether host_fd is a terminal, which host_file_new would treat as a plain device. */
bool host_fd_is_tty(int host_fd);

#endif
