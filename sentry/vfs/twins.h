/*
 * Twins: inodes of several superblocks that are one file of the host, as a volume that two containers mount. They share
 * locks, the socket that is bound to it, the open fifo, and the identity of futex words in it.
 */
#ifndef SENTRY_VFS_TWINS_H
#define SENTRY_VFS_TWINS_H

#include "sentry/vfs/fs_ops.h"

struct inode_twins {
	struct inode_twins *next; /* twins_mu */
	uint32_t refs;		  /* twins_mu */
	struct file_identity id;  /* const */
	struct mutex mu;	  /* LOCK_TWINS, within the mu of any of the inodes */
	struct inode_locks *locks;	   /* mu; a reference */
	struct unix_binding *unix_binding; /* mu; as in the inode of its name */
	struct pipe *fifo;		   /* mu; as in struct inode */
};

/*
 * What i shares with its twins, made when it is wanted for the first time; valid while i is. NULL: i has none (its file system has
 * no identity operation), or out of memory. Any lock of rank above TWINS may be held.
 */
struct inode_twins *inode_twins(struct inode *i);
void inode_twins_put(struct inode_twins *t); /* for inode_fini; NULL is fine */
/* A further reference, for what outlives the inode. */
struct inode_twins *inode_twins_get(struct inode_twins *t);

#endif
