/* Shared by the files of sentry/vfs only. */
#ifndef SENTRY_VFS_VFS_PRIV_H
#define SENTRY_VFS_VFS_PRIV_H

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sentry/time/clock.h"
#include "sentry/vfs/fs_ops.h"

#define MAY_EXEC 1u
#define MAY_WRITE 2u
#define MAY_READ 4u

#define SYMLINKS_MAX 40
#ifndef MS_NOSYMFOLLOW
#define MS_NOSYMFOLLOW 256
#endif

/* dcache.c */
extern struct mutex dcache_mu; /* LOCK_DCACHE */

static inline uint32_t name_hash_step(uint32_t h, unsigned char c)
{
	return (h ^ c) * 16777619u;
}
#define NAME_HASH_INIT 2166136261u
uint32_t name_hash(const char *name, size_t len);

struct dentry *dcache_find_locked(struct dentry *dir, const char *name, size_t len, uint32_t hash);
struct dentry *dcache_find(struct dentry *dir, const char *name, size_t len, uint32_t hash);
struct dentry *dcache_add(struct dentry *dir, const char *name, size_t len, uint32_t hash, struct inode *inode);
struct dentry *dentry_new_root(struct superblock *sb, struct inode *inode, const char *name);
void dentry_instantiate(struct dentry *d, struct inode *inode);
void dentry_unhash(struct dentry *d);
void dentry_removed(struct dentry *d);
int dentry_rename(struct dentry *d, struct dentry *dir, const char *name, size_t len, struct dentry *replaced);
int dentry_exchange(struct dentry *a, struct dentry *b);
struct dentry *dentry_parent(struct dentry *d);
bool dentry_is_ancestor(struct dentry *a, struct dentry *d);
void dcache_purge(struct superblock *sb);

static inline struct inode *dentry_inode(const struct dentry *d)
{
	return __atomic_load_n(&d->inode, __ATOMIC_ACQUIRE);
}

static inline bool dentry_is_dir(const struct dentry *d)
{
	struct inode *i = dentry_inode(d);

	return i && S_ISDIR(i->mode);
}

/*
 * -ESTALE: somebody else replaced a file while a cached name still led to it. The file system has taken note: a second
 * walk asks again.
 */
#define retry_stale(call)                                                                          \
	({                                                                                         \
		int stale_res_ = (call);                                                           \
		if (unlikely(stale_res_ == -ESTALE))                                               \
			stale_res_ = (call);                                                       \
		stale_res_;                                                                        \
	})

/* walk.c */
/* LAST_ROOT: nothing left, the place itself (the root, or where a magic link led). */
enum last_type { LAST_NORM, LAST_ROOT, LAST_DOT, LAST_DOTDOT };

struct walker {
	const struct walk *w;
	struct path root; /* borrowed */
	struct path cur;  /* reference */
	unsigned flags, links;
	const char *rest; /* text still to walk */
	int64_t now_ns;	  /* CLOCK_MONOTONIC_COARSE, 0: not looked at yet */
	char *text;	  /* owned: holds rest once a link was followed */
	enum last_type last;
	bool slash; /* a slash followed the last component */
	size_t name_len;
	uint32_t hash;
	char name[NAME_MAX_GUEST + 1];
};

int walker_init(struct walker *wk, const struct walk *w, const char *pathname, unsigned flags);
void walker_fini(struct walker *wk);
int walker_parent(struct walker *wk);
int walker_child(struct walker *wk, struct path *ret_child);
void walker_revalidate(struct walker *wk);
int walker_follow(struct walker *wk, struct path *link);
int walker_finish_dots(struct walker *wk);
int lookup_locked(struct dentry *dir, const char *name, size_t len, uint32_t hash, struct dentry **ret);
int walker_locked_child(struct walker *wk, struct dentry **ret);

/* mount.c */
struct mount *mount_get(struct mount *m);
void mount_put(struct mount *m);
bool mount_cross(struct path *p);
bool mount_up(struct path *p);
bool path_is_mountpoint(struct mount *m, struct dentry *d);
extern struct mutex mount_mu;	   /* LOCK_MOUNT */
extern struct mutex mount_hash_mu; /* LOCK_LEAF: hash, parent, mountpoint */

static inline bool mount_readonly(const struct mount *m)
{
	return m && ((m->flags & MS_RDONLY) || m->sb->readonly);
}

static inline bool path_equal(const struct path *a, const struct path *b)
{
	return a->mnt == b->mnt && a->dentry == b->dentry;
}

/* inode.c */
int superblock_root(struct superblock *sb);
struct timespec vfs_now(void);
int inode_get_write_access(struct inode *i);
void inode_put_write_access(struct inode *i);
int file_deny_write(struct file *f);
void file_allow_write(struct file *f);
int inode_may_create(struct dentry *dir, const struct cred *cred);
int inode_may_delete(struct inode *dir, struct dentry *victim, const struct cred *cred, bool is_dir);

/* notify.c */
extern _Atomic unsigned notify_watch_total;
void notify_send(struct inode *i, uint32_t mask, uint32_t cookie, const char *name);
void notify_dir(struct inode *dir, uint32_t mask, uint32_t cookie, const char *name);
uint32_t notify_cookie(void);
void notify_file(struct file *f, uint32_t mask);
void notify_inode_gone(struct inode *i);

/* lock.c */
void inode_locks_put(struct inode_locks *l);
void file_locks_release_file(struct file *f);

/* setattr with the inode's mu held and permission checked already. */
int setattr_locked(struct inode *i, const struct cred *cred, struct kattr *attr);
int file_remove_privs(struct file *f);
int vfs_truncate_inode(struct inode *i, const struct cred *cred, uint64_t size);

#endif
