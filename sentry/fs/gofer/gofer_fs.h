/* Files served by runsc-gofer over one connection, as a file system. */
#ifndef SENTRY_FS_GOFER_GOFER_FS_H
#define SENTRY_FS_GOFER_GOFER_FS_H

#include "sentry/vfs/vfs.h"

struct gofer_fs_args {
	int conn_fd;  /* connected SOCK_SEQPACKET socket; taken over on success */
	bool shared;  /* others change the files too: revalidate (--file-access) */
	bool readonly;
	struct user_ns *user_ns; /* owner of the superblock, borrowed */
};

/*
 * Makes a superblock of what the connection serves. Its root inode is the served path itself, which
 * may be a regular file, socket or device (bind mount of a file). Control thread; one round trip.
 * -EIO when the gofer is gone, -ENOMEM.
 */
NODISCARD int gofer_fs_new(const struct gofer_fs_args *a, struct superblock **ret_sb);

/*
 * What is known of trees without `shared` counts for a second; from now on nothing of it counts: somebody may have
 * changed them (an engine that paused the container to copy files). Any thread.
 */
void gofer_expire_all(void);

/*
 * Connects to a socket file of the host (--host-uds). i must be a socket inode; others and gofers that
 * do not allow it give -ECONNREFUSED. *ret_fd is a host descriptor, owned by the caller. No locks held.
 */
NODISCARD int gofer_connect(struct inode *i, int type, int *ret_fd);

#endif
