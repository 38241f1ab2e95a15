/* Watching inodes; the users are inotify and what may follow it. See sentry/vfs/notify.c for locks. */
#ifndef SENTRY_VFS_NOTIFY_H
#define SENTRY_VFS_NOTIFY_H

#include "sentry/vfs/fs_ops.h"

struct notify_watch;
struct notify_ops {
	/* An event of interest. Called with the inode's watch list locked (LOCK_FS_DATA) and maybe inode locks:
	 * must not block or add and remove watches. name NULL: the watched inode itself. */
	void (*event)(struct notify_watch *w, uint32_t mask, uint32_t cookie, const char *name);
};

/* Embedded by its user, who holds a reference on the inode while it is added. */
struct notify_watch {
	const struct notify_ops *ops;
	const void *watcher;
	struct inode *inode; /* borrowed */
	uint32_t mask;	     /* IN_* of interest */
	struct list_node inode_node;
};

NODISCARD int notify_watch_add(struct inode *i, struct notify_watch *w);
void notify_watch_remove(struct notify_watch *w);
struct notify_watch *notify_watch_find(struct inode *i, const void *watcher);

#endif
