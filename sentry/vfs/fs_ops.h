/*
 * For implementers of file systems: the objects behind vfs.h and the operations they call.
 * A NULL member has the default written beside it. No operation is called with guest pointers, none
 * may wait for the guest: what would block returns -EAGAIN and wakes the wait queue later.
 */
#ifndef SENTRY_VFS_FS_OPS_H
#define SENTRY_VFS_FS_OPS_H

#include "platform/base/list.h"
#include "sentry/core/mappable.h"
#include "sentry/vfs/vfs.h"

struct superblock {
	struct refcount refs;
	const struct superblock_ops *ops;
	const char *fstype;	   /* as /proc/filesystems names it */
	dev_t dev;		   /* anonymous device number */
	uint64_t magic;		   /* statfs f_type */
	bool readonly;		   /* MS_RDONLY of the superblock */
	bool no_dcache;		   /* never keep unused dentries (proc) */
	struct user_ns *user_ns;   /* owner, reference */
	struct inode *root;	   /* reference; set by the file system before the first mount */
	struct dentry *root_dentry; /* made by the VFS at the first mount; reference */
	char *options;		   /* extra text for /proc/mounts, owned, may be NULL */
	char *root_name;	   /* what mountinfo shows for the root directory, owned; NULL: "/" */
	void *data;		   /* the file system's own */
};

struct superblock_ops {
	/* Frees sb->data; the last reference is gone. */
	void (*free)(struct superblock *sb);
	int (*statfs)(struct superblock *sb, struct kstatfs *ret); /* default: zeros with magic */
	int (*sync)(struct superblock *sb);			   /* default: 0 */
};

/* Registered file system types, for mount(2) by name. */
struct fs_type {
	const char *name;
	bool user_mountable; /* by a user namespace's root */
	bool nodev;	     /* as /proc/filesystems prints */
	int (*mount)(const struct fs_type *t, const char *source, uint64_t flags, const char *data,
		     const struct cred *cred, struct superblock **ret_sb);
	struct list_node node;
};
void fs_type_register(struct fs_type *t); /* boot only */
const struct fs_type *fs_type_find(const char *name);
NODISCARD struct superblock *superblock_new(const struct superblock_ops *ops, const char *fstype,
					    uint64_t magic, struct user_ns *user_ns);
struct superblock *superblock_get(struct superblock *sb);
void superblock_put(struct superblock *sb);

/*
 * An inode. Attributes live here; a file system that caches nothing refreshes them in getattr and
 * revalidate. Type bits of mode, sb, ino, rdev are const after inode_init.
 */
/* Tells files of the host apart, also a new one that got the number of an old one. */
struct file_identity {
	uint64_t dev, ino;
	struct timespec btime;
};

struct inode {
	struct refcount refs;
	const struct inode_ops *ops;
	const struct file_ops *fops; /* of files opened on it; may be NULL when ops->open sets them */
	struct superblock *sb;	     /* borrowed: the superblock outlives its inodes */
	uint64_t ino;
	dev_t rdev;
	struct mutex mu; /* LOCK_INODE: attributes below and directory contents */
	uint32_t mode, nlink;
	kuid_t uid;
	kgid_t gid;
	uint64_t size;
	struct timespec atime, mtime, ctime, btime;
	struct mappable *mappable;   /* NULL: cannot be mapped */
	struct inode_locks *locks;   /* file locks, made on first use and kept (acquire/release) */
	struct inode_watches *watches; /* inotify, made on first use and kept (acquire/release) */
	struct unix_binding *unix_binding; /* bound socket of S_IFSOCK, reference held by the socket */
	struct pipe *fifo;	     /* S_IFIFO: the shared pipe while open; not of one with twins */
	struct inode_twins *twins;   /* made on first use and kept (acquire/release); see twins.h */
	int32_t write_count;	     /* writers, or -N exec deny-write; atomics by vfs */
	struct list_node aliases;    /* LOCK_DCACHE: dentry.alias_node */
	bool linkable;		     /* made by O_TMPFILE: link(2) may give it its first name; under mu */
	/* Of file systems with ops->verify: until when (CLOCK_MONOTONIC_COARSE) what is known counts as right, else
	 * TIME_FOREVER; and of a directory, how often its names were found changed by others (written under mu). */
	_Atomic int64_t valid_until_ns;
	_Atomic uint32_t names_gen;
};

void inode_init(struct inode *i, const struct inode_ops *ops, struct superblock *sb, uint64_t ino, uint32_t mode);
void inode_fini(struct inode *i); /* frees what the VFS attached; called by ops->free */
struct inode *inode_get(struct inode *i);
void inode_put(struct inode *i);
DEFINE_AUTO(inode_put, struct inode *)
uint64_t ino_next(void); /* a fresh number for synthetic inodes */
/* For implementers. Owner and mode of an inode being made in dir (whose mu is held; NULL: none). */
void inode_init_owner(struct inode *i, const struct inode *dir, const struct cred *cred);
/* Copies checked changes except the size into the inode, and ctime; mu held. */
void inode_apply_attr(struct inode *i, const struct kattr *attr);
/* Mode bits and capabilities; for ops->permission that add to them. */
int generic_permission(const struct inode *i, const struct cred *cred, unsigned mask);
bool inode_capable(const struct inode *i, const struct cred *cred, int cap);
bool inode_owner_or_capable(const struct inode *i, const struct cred *cred);

/*
 * Names are NUL-terminated components, never "." or "..". Called with dir->mu held unless said; the
 * generic code has checked permissions, sticky bits, read-only mounts, types and existence. A file
 * system changes the attributes of the other inodes involved (nlink, ctime) under their mu, taken with
 * mutex_lock_nested.
 */
struct inode_ops {
	const char *name;
	/* Frees the object that embeds the inode; ends with inode_fini. Any thread. */
	void (*free)(struct inode *i);
	/* Finds name: reference in *ret_inode, or -ENOENT (cached as a negative dentry). rest is what of the
	 * path follows, a hint: a remote file system may fetch it in the same trip and keep it. Default:
	 * -ENOTDIR. */
	int (*lookup)(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode);
	/* Is the cached result (inode, or NULL for a negative) of name in dir still right? 1 yes, 0 no. No
	 * locks held. Default: yes. */
	int (*revalidate)(struct inode *dir, const char *name, struct inode *inode);
	/* For trees that others change seldom. Called when a directory is used after its valid_until_ns: asks whether
	 * its names were changed by others, adds one to names_gen if so, and sets valid_until_ns anew. With it,
	 * revalidate is only asked about results older than the last such change. No locks held. Default: never. */
	void (*verify)(struct inode *dir);
	/* Defaults of all that change a directory: -EPERM. mode includes the type and is past the umask. */
	int (*create)(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		      struct inode **ret_inode);
	int (*mkdir)(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		     struct inode **ret_inode);
	int (*mknod)(struct inode *dir, const char *name, uint32_t mode, dev_t rdev, const struct cred *cred,
		     struct inode **ret_inode);
	int (*symlink)(struct inode *dir, const char *name, const char *target, const struct cred *cred,
		       struct inode **ret_inode);
	int (*link)(struct inode *dir, const char *name, struct inode *target);
	int (*unlink)(struct inode *dir, const char *name, struct inode *victim);
	int (*rmdir)(struct inode *dir, const char *name, struct inode *victim);
	/* Both dirs' mu held (they may be one). replaced may be NULL. flags: RENAME_NOREPLACE (already checked), RENAME_EXCHANGE,
	 * RENAME_WHITEOUT. */
	int (*rename)(struct inode *old_dir, const char *old_name, struct inode *inode, struct inode *new_dir,
		      const char *new_name, struct inode *replaced, unsigned flags);
	/* O_TMPFILE. Default: -EOPNOTSUPP. */
	int (*tmpfile)(struct inode *dir, uint32_t mode, const struct cred *cred, struct inode **ret_inode);
	/* Text of a symbolic link. No locks held. */
	int64_t (*readlink)(struct inode *i, char *buf, size_t size);
	/* Magic links (/proc/PID/fd/N, exe, cwd): the place itself, with references; 1: this one is not magic, go
	 * by readlink. Default: by readlink. */
	int (*follow)(struct inode *i, const struct cred *cred, struct path *ret_path);
	/* Refreshes the attributes in the inode; no locks held. Default: they are right already. */
	int (*refresh)(struct inode *i);
	/* Fills what the generic code cannot know (blocks, blksize...); called after refresh with i->mu held. */
	void (*getattr)(struct inode *i, struct kstat *st);
	/* Applies checked changes (mode, uid, gid, size, times); i->mu held. Updates the inode's fields itself
	 * (inode_apply_attr). ATTR_ATIME and ATTR_MTIME come with times, *_NOW only in addition to them;
	 * ATTR_CTIME is always set: ctime becomes now. Default: -EPERM. Truncation
	 * must call mappable_invalidate after releasing what translate takes. */
	int (*setattr)(struct inode *i, const struct kattr *attr);
	/* Completes a file being opened: f->inode, path, flags, cred are set, f->ops is inode->fops; may set
	 * f->ops and f->data. No locks held. Not called for O_PATH. Default: nothing. For S_IFIFO, S_IFCHR
	 * and S_IFBLK the VFS opens the pipe or device by itself and does not call it, unless special_open is set. */
	int (*open)(struct inode *i, struct file *f);
	bool special_open; /* open is called for fifos and devices, too (host files donated by the gofer) */
	int (*permission)(struct inode *i, const struct cred *cred, unsigned mask); /* default: mode bits and capabilities */
	/* i->mu held; defaults: -EOPNOTSUPP. size 0 asks for the size needed. */
	int64_t (*getxattr)(struct inode *i, const char *name, void *buf, size_t size);
	int (*setxattr)(struct inode *i, const char *name, const void *buf, size_t size, int flags);
	int64_t (*listxattr)(struct inode *i, char *buf, size_t size);
	int (*removexattr)(struct inode *i, const char *name);
	/* Which file of the host it is, where inodes of other superblocks may be the same. Any lock above LOCK_OBJECT may be
	 * held. Default: false. */
	bool (*identity)(struct inode *i, struct file_identity *ret);
};

struct file {
	struct refcount refs;
	const struct file_ops *ops;
	struct path path;	/* references; mnt may be NULL for anonymous files */
	struct inode *inode;	/* reference */
	_Atomic int flags;	/* O_ACCMODE, status flags, O_PATH */
	struct mutex pos_mu;	/* LOCK_FILE_POS: pos and directory iteration */
	int64_t pos;
	const struct cred *cred; /* of the opener, reference */
	void *data;		/* the implementation's own */
	bool write_access;	/* const: counted in inode->write_count as a writer */
	bool denies_write;	/* const: opened to be executed, counted as such */
	bool created;		/* const: the open made the file (F_CREATED_QUERY) */
	struct file_owner *owner; /* F_SETOWN, O_ASYNC; made on first use */
	_Atomic uint32_t epoll_count; /* epoll registrations, so that the last put can clean up */
	struct list_node epoll_items; /* head (list_init by file_new); protected by sentry/fs/epoll */
};

/* Set by sentry/fs/epoll: the last file_put calls it before ops->release when epoll_count != 0. */
extern void (*file_epoll_release)(struct file *f);
/* Set by who makes file->owner: the last file_put hands it over. */
extern void (*file_owner_free)(struct file_owner *o);

/* No locks held in any of them unless said; pos_mu is held around read/write/iterate that use f->pos. */
struct file_ops {
	const char *name;
	/* The last reference is gone; frees f->data. The VFS releases the rest. */
	void (*release)(struct file *f);
	/* Called at each close(2) of a descriptor. Default: nothing. */
	void (*flush)(struct file *f);
	/* pos: where, advanced by the bytes moved; NULL for streams. A write to a file with O_APPEND in f->flags
	 * goes to the end, found under the file system's own lock. Defaults: -EINVAL. */
	int64_t (*read)(struct file *f, struct uio *u, int64_t *pos);
	int64_t (*write)(struct file *f, struct uio *u, int64_t *pos);
	bool stream; /* no position: lseek (without seek) and pread give -ESPIPE, pos_mu is not taken */
	int64_t (*seek)(struct file *f, int64_t offset, int whence); /* default: by pos and inode size */
	/* Directory entries without "." and "..": the VFS gives those at positions 0 and 1 and calls this with
	 * *pos >= 2; 2 is the start (and rewinddir). Cookies are the file system's own, above 2. Sets *pos to
	 * the cookie of the first entry not taken. Default: -ENOTDIR. */
	int (*iterate)(struct file *f, struct dir_emit *d, int64_t *pos);
	int64_t (*ioctl)(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um); /* default: -ENOTTY */
	/* Ready events now. Default: always POLLIN | POLLOUT and no wait queue (regular file). */
	uint32_t (*poll)(struct file *f, uint32_t events);
	struct waitq *(*waitq)(struct file *f); /* the queue whose wakes announce poll changes */
	/* Checks a mapping and returns the mappable (borrowed; file referenced by the vma). Default: inode->mappable,
	 * or -ENODEV. */
	int (*mmap)(struct file *f, bool shared, uint8_t prot, struct mappable **ret);
	int (*fsync)(struct file *f, bool datasync);	     /* default: 0 for inodes with data, -EINVAL for streams */
	int (*fallocate)(struct file *f, int mode, int64_t offset, int64_t size); /* default: -EOPNOTSUPP */
	int (*set_flags)(struct file *f, int flags);	     /* told of F_SETFL; default: nothing */
	/* fcntl(2) commands of this kind of file: F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS. Default:
	 * -EINVAL. */
	int64_t (*fcntl)(struct file *f, int cmd, uint64_t arg, struct umem *um);
	/* copy_file_range(2) within one file system; result may be short. Default: a loop through a buffer. */
	int64_t (*copy_range)(struct file *in, int64_t in_pos, struct file *out, int64_t out_pos, uint64_t size);
	/* open(2) of a fifo without O_NONBLOCK: 0, or -EAGAIN until the other end is there (wait on waitq). */
	int (*open_wait)(struct file *f);
	/* /proc/PID/fdinfo extra lines appended at buf; returns bytes. Default: none. */
	size_t (*fdinfo)(struct file *f, char *buf, size_t size);
};

/* A file with one reference on an inode without a place (pipes, sockets, eventfd...). name is shown in
 * /proc/PID/fd; when it ends in ':' the inode number follows: "pipe:" is "pipe:[ino]". Takes over data
 * on success only. */
NODISCARD int file_new_anon(const struct file_ops *ops, const char *name, uint32_t mode, int flags,
			    const struct cred *cred, void *data, struct file **ret_file);
/* A place for an inode that has no name, shown as above: *ret_path holds references and its mnt is NULL. */
NODISCARD int path_new_anon(struct inode *inode, const char *name, struct path *ret_path);
/* The superblock of inodes without a place, and plain inode ops for them (freed by free(3)). */
extern struct superblock anon_superblock;
extern const struct inode_ops anon_inode_ops;
/* A file on a given place; takes references of its own. Used by vfs_open, memfd, pipes. */
NODISCARD int file_new(const struct path *p, struct inode *inode, const struct file_ops *ops, int flags,
		       const struct cred *cred, struct file **ret_file);

/*
 * Devices, by number. open is called like inode_ops.open and sets f->ops; without a registered range
 * opening gives -ENXIO. Boot only; d must live for ever.
 */
struct chrdev {
	uint32_t major, minor_first, minor_count;
	const char *name; /* /proc/devices */
	int (*open)(struct inode *i, struct file *f);
	struct list_node node;
};
void chrdev_register(struct chrdev *d);
const struct chrdev *chrdev_find(dev_t rdev);
/* Calls fn for each registered device range. */
void chrdev_for_each(void (*fn)(const struct chrdev *d, void *arg), void *arg);
/* How fifos are opened; set by sentry/fs/pipe at boot. */
extern int (*fifo_open_hook)(struct inode *i, struct file *f);

/* Registered file system types, in order of registration; fn returns nonzero to stop. */
int fs_type_for_each(int (*fn)(const struct fs_type *t, void *arg), void *arg);

/* Directory entries held in memory with synthetic inodes: proc, sys, dev use vfs/simple.h. */

/* Drops the dentry cache's knowledge of name in dir (remote change, proc exit). */
void dcache_forget(struct inode *dir, const char *name);
/* Puts a known child (inode reference taken over; NULL: negative) into the cache, if still absent. */
void dcache_prime(struct dentry *dir, const char *name, struct inode *inode);

/* A name in the cache. A hashed dentry is found by walks and has one reference of the cache's own; one
 * that lost its name (unlink) or never had one is unhashed. */
struct dentry {
	struct refcount refs;
	struct dentry *hash_next; /* LOCK_DCACHE */
	struct list_node lru_node, child_node, children, alias_node; /* LOCK_DCACHE */
	struct dentry *parent; /* reference; LOCK_DCACHE; NULL: root of a superblock, or anonymous */
	struct inode *inode;   /* reference; NULL: negative; set once by creation under the parent's inode lock */
	char *name;	       /* owned or inline_name; LOCK_DCACHE; changes by rename */
	uint32_t hash, name_len;
	bool hashed;	       /* LOCK_DCACHE */
	_Atomic uint32_t names_gen; /* of the parent's inode when this was known to be right */
	_Atomic bool used;     /* second chance of the cache's clock */
	_Atomic uint32_t mounted; /* mounts that have this as their mount point */
	struct superblock *sb; /* borrowed */
	char inline_name[40];
};
/* Reference counting of dentries; put accepts NULL. */
struct dentry *dentry_get(struct dentry *d);
void dentry_put(struct dentry *d);
DEFINE_AUTO(dentry_put, struct dentry *)

/* A mounted (part of a) superblock. "tree": changed under LOCK_MOUNT and mount_hash_mu, read under either. */
struct mount {
	struct refcount refs;	   /* one of them the tree's while attached */
	struct superblock *sb;	   /* reference; const */
	struct dentry *root;	   /* reference; const */
	struct mount *parent;	   /* tree; reference; NULL: root of a namespace, or detached */
	struct dentry *mountpoint; /* tree; reference */
	struct list_node hash_node, child_node, children, ns_node; /* tree */
	struct mnt_ns *ns;	   /* tree; borrowed; NULL: detached */
	int32_t id;		   /* const */
	int32_t peer_group;	   /* LOCK_MOUNT, like all below; 0: not shared */
	uint64_t flags;		   /* MS_RDONLY MS_NOSUID MS_NODEV MS_NOEXEC MS_NOATIME MS_RELATIME ... */
	uint64_t locked_flags;	   /* may not be cleared (copied from a more privileged namespace) */
	bool unbindable, locked;   /* locked: may not be unmounted alone */
	bool expiring;		   /* MNT_EXPIRE was asked when uses was expire_uses */
	bool dead;		   /* was taken out of its tree for good */
	uint32_t uses, expire_uses; /* mount_hash_mu: walks that crossed into it */
	char *source;		   /* const; owned; may be NULL */
	struct list_node peer_node, slave_node, slaves;
	struct mount *master;	   /* borrowed: slave of this one's group */
};
/* Shows each mount of ns in mount order, LOCK_MOUNT held: for /proc/PID/mounts and mountinfo. fn returns
 * nonzero to stop. Propagation: peer_group is "shared:N", master->peer_group "master:N", unbindable. */
int mnt_ns_for_each(struct mnt_ns *ns, int (*fn)(struct mount *m, void *arg), void *arg);

#endif
