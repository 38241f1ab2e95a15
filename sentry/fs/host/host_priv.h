#ifndef SENTRY_FS_HOST_HOST_PRIV_H
#define SENTRY_FS_HOST_HOST_PRIV_H

#include "platform/host/notifier.h"
#include "sentry/vfs/fs_ops.h"

/* A descriptor of the host as an inode: all files opened on it share the host's description. */
struct host_inode {
	struct inode inode;
	int access;		 /* const: O_RDONLY, O_WRONLY or O_RDWR of the descriptor */
	uint64_t blocks;	 /* inode.mu */
	struct host_watch watch; /* watch.fd is the descriptor, owned */
	struct waitq waitq;
	struct mutex watch_mu; /* LOCK_OBJECT: watched */
	bool watched;
};

#endif
