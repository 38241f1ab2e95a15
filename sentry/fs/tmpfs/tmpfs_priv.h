/* Shared by the files of sentry/fs/tmpfs only. */
#ifndef SENTRY_FS_TMPFS_TMPFS_PRIV_H
#define SENTRY_FS_TMPFS_TMPFS_PRIV_H

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "platform/base/rbtree.h"
#include "sentry/core/uaddr.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/time/clock.h"

#define TMPFS_PAGE GUEST_PAGE_SIZE
#define CHUNK_PAGES 64u
#define DIRENT_SIZE 20u /* what a name adds to the size of its directory */

struct tmpfs_sb {
	uint64_t max_pages, max_inodes; /* const; 0: no limit */
	_Atomic uint64_t used_pages, used_inodes;
	uint32_t mode;
	kuid_t uid;
	kgid_t gid;
};

/* Pages of CHUNK_PAGES consecutive file pages: frame offset | 1, or 0 for a hole. */
struct tmpfs_chunk {
	struct rb_node node;
	uint64_t index; /* file page / CHUNK_PAGES */
	unsigned used;
	uint64_t page[CHUNK_PAGES];
};

struct tmpfs_dirent {
	struct rb_node by_name, by_cookie;
	int64_t cookie;
	struct inode *inode; /* reference */
	uint32_t name_len;
	char name[];
};

struct tmpfs_xattr {
	struct list_node node;
	char *name;
	void *value;
	size_t size;
};

struct tmpfs_inode {
	struct inode inode; /* first member */
	struct list_node xattrs; /* inode.mu */
	size_t xattr_size;	 /* inode.mu */
	union {
		struct { /* directory; inode.mu */
			struct rb_tree names, cookies;
			int64_t next_cookie;
			uint64_t count;
		} dir;
		struct { /* regular file */
			struct mutex mu; /* LOCK_FS_DATA: chunks, and inode.size for writing (with inode.mu) */
			struct rb_tree chunks;
			struct tmpfs_chunk *last; /* found last */
			uint64_t pages;
			unsigned seals; /* inode.mu */
			struct mappable mappable;
		} file;
		char *target; /* symbolic link; owned; const */
	};
};

static inline struct tmpfs_inode *tmpfs_of(struct inode *i)
{
	return container_of(i, struct tmpfs_inode, inode);
}

static inline struct tmpfs_sb *tmpfs_sb_of(const struct superblock *sb)
{
	return sb->data;
}

int tmpfs_inode_new(struct superblock *sb, struct inode *dir, uint32_t mode, dev_t rdev,
		    const struct cred *cred, struct tmpfs_inode **ret);
bool tmpfs_is_regular(const struct inode *i);

extern const struct inode_ops tmpfs_dir_inode_ops, tmpfs_file_inode_ops, tmpfs_link_inode_ops,
	tmpfs_special_inode_ops;
extern const struct file_ops tmpfs_dir_file_ops;

void tmpfs_free_inode(struct inode *i);
void tmpfs_dir_fini(struct tmpfs_inode *t);
void tmpfs_file_init(struct tmpfs_inode *t);
void tmpfs_file_fini(struct tmpfs_inode *t);
int tmpfs_file_setattr(struct inode *i, const struct kattr *a);
int tmpfs_setattr(struct inode *i, const struct kattr *a);
void tmpfs_getattr(struct inode *i, struct kstat *st);

int64_t tmpfs_getxattr(struct inode *i, const char *name, void *buf, size_t size);
int tmpfs_setxattr(struct inode *i, const char *name, const void *buf, size_t size, int flags);
int64_t tmpfs_listxattr(struct inode *i, char *buf, size_t size);
int tmpfs_removexattr(struct inode *i, const char *name);
void tmpfs_xattr_fini(struct tmpfs_inode *t);

static inline struct timespec tmpfs_now(void)
{
	return ns_to_timespec(clock_now(CLOCK_REALTIME_COARSE));
}

#endif
