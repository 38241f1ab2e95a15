/*
 * The virtual file system: inodes, dentries, mounts, open files. This header is for users of the VFS
 * (system calls, the loader, the kernel); implementers of a file system also include vfs/fs_ops.h.
 *
 * Model: Linux's. A struct path names a place (mount + dentry); a walk resolves a string against a
 * root and a working directory with credentials; files are reference counted.
 * Functions here may block on the gofer but never wait for the guest. None takes guest pointers.
 */
#ifndef SENTRY_VFS_VFS_H
#define SENTRY_VFS_VFS_H

#include <sys/types.h>

#include "platform/base/list.h"
#include "platform/base/refcount.h"
#include "sentry/core/cred.h"
#include "sentry/core/errno.h"
#include "sentry/core/lockrank.h"
#include "sentry/core/umem.h"
#include "sentry/core/waitq.h"

struct inode;
struct dentry;
struct mount;
struct mnt_ns;
struct superblock;
struct file;
struct mappable;

struct path {
	struct mount *mnt;
	struct dentry *dentry;
};

void path_get(const struct path *p);
void path_put(const struct path *p); /* NULL members are fine */

#define PATH_MAX_GUEST 4096
#define NAME_MAX_GUEST 255

/* Root, working directory and umask, shared by CLONE_FS. */
struct fs_struct {
	struct refcount refs;
	struct mutex mu; /* LOCK_FS_STRUCT: everything below */
	struct path root, cwd;
	uint32_t umask;
	struct mnt_ns *mnt_ns; /* reference */
};
struct fs_struct *fs_struct_new(const struct path *root, const struct path *cwd, struct mnt_ns *ns);
struct fs_struct *fs_struct_dup(struct fs_struct *fs);
struct fs_struct *fs_struct_get(struct fs_struct *fs);
void fs_struct_put(struct fs_struct *fs);

/* Who asks and from where. Filled by the system call layer from the task; borrows everything. */
struct walk {
	const struct cred *cred;
	struct path root;  /* "/" */
	struct path start; /* directory of a relative path */
	struct mnt_ns *mnt_ns;
	uint32_t umask;
};

enum walk_flags {
	WALK_FOLLOW = 1,	    /* follow a symbolic link in the last component */
	WALK_DIRECTORY = 2,	    /* -ENOTDIR unless the result is a directory */
	WALK_EMPTY = 4,		    /* AT_EMPTY_PATH: "" means start */
	WALK_PARENT = 8,	    /* vfs_walk_parent only, internal */
	WALK_BENEATH = 16,	    /* openat2 RESOLVE_* */
	WALK_IN_ROOT = 32,
	WALK_NO_XDEV = 64,
	WALK_NO_SYMLINKS = 128,
	WALK_NO_MAGICLINKS = 256,
};

/* Resolves pathname (path_resolution(7)). *ret_path holds references. */
NODISCARD int vfs_walk(const struct walk *w, const char *pathname, unsigned flags, struct path *ret_path);

/* Attributes; the fields of statx(2). */
struct kstat {
	uint64_t ino, size, blocks; /* blocks of 512 bytes */
	uint32_t mode, nlink, blksize;
	kuid_t uid;
	kgid_t gid;
	dev_t dev, rdev;
	struct timespec atime, mtime, ctime, btime; /* btime.tv_nsec == -1: unknown */
	uint64_t attributes, mnt_id;
};

enum setattr_mask {
	ATTR_MODE = 1, ATTR_UID = 2, ATTR_GID = 4, ATTR_SIZE = 8,
	ATTR_ATIME = 16, ATTR_MTIME = 32, ATTR_ATIME_NOW = 64, ATTR_MTIME_NOW = 128,
	ATTR_CTIME = 256,
};
struct kattr {
	unsigned mask;
	uint32_t mode;
	kuid_t uid;
	kgid_t gid;
	uint64_t size;
	struct timespec atime, mtime;
};

struct kstatfs {
	uint64_t type, bsize, blocks, bfree, bavail, files, ffree, namelen, flags;
	uint64_t fsid;
};

/* open(2) and openat2(2); flags are O_* of the guest ABI, already checked for unknown bits. Returns
 * a file with one reference. mode already masked to 07777 (umask is applied here). */
NODISCARD int vfs_open(const struct walk *w, const char *pathname, unsigned walk_flags, int flags,
		       uint32_t mode, struct file **ret_file);
/* Flag of vfs_open_path for execve: checks MAY_EXEC (and noexec mounts, -EACCES) instead of MAY_READ; the
 * file is readable whatever the mode says, and nobody may open it for writing while it is open (-ETXTBSY). */
#define VFS_O_EXEC 0x20
/* Opens an already resolved place; no permission check of the path, only of the inode. */
NODISCARD int vfs_open_path(const struct path *p, const struct cred *cred, int flags, struct file **ret_file);
NODISCARD int vfs_mkdir(const struct walk *w, const char *pathname, uint32_t mode);
NODISCARD int vfs_mknod(const struct walk *w, const char *pathname, uint32_t mode, dev_t rdev);
NODISCARD int vfs_symlink(const struct walk *w, const char *target, const char *pathname);
NODISCARD int vfs_link(const struct walk *from, const char *oldpath, unsigned walk_flags,
		       const struct walk *to, const char *newpath);
NODISCARD int vfs_unlink(const struct walk *w, const char *pathname);
NODISCARD int vfs_rmdir(const struct walk *w, const char *pathname);
NODISCARD int vfs_rename(const struct walk *from, const char *oldpath, const struct walk *to,
			 const char *newpath, unsigned flags);
/* Creates a unix socket's name (bind(2)), mode 0777 past the umask, and sets inode->unix_binding = b under
 * inode->mu. *ret_path holds references: the socket keeps it and clears unix_binding before path_put.
 * -EADDRINUSE when the name exists, else as mknod(2). */
struct unix_binding;
NODISCARD int vfs_bind_socket(const struct walk *w, const char *pathname, struct unix_binding *b, struct path *ret_path);

/* On resolved places. cred is checked as the man page of the call says. */
NODISCARD int vfs_getattr(const struct path *p, struct kstat *ret_stat);
NODISCARD int vfs_setattr(const struct path *p, const struct cred *cred, const struct kattr *attr);
NODISCARD int64_t vfs_readlink(const struct path *p, const struct cred *cred, char *buf, size_t size);
NODISCARD int vfs_statfs(const struct path *p, struct kstatfs *ret_statfs);
/* mask of MAY_READ 4, MAY_WRITE 2, MAY_EXEC 1 (access(2) bits). */
NODISCARD int inode_permission(struct inode *inode, const struct cred *cred, unsigned mask);
NODISCARD int path_permission(const struct path *p, const struct cred *cred, unsigned mask);
NODISCARD int64_t vfs_getxattr(const struct path *p, const struct cred *cred, const char *name, void *buf,
			       size_t size);
NODISCARD int vfs_setxattr(const struct path *p, const struct cred *cred, const char *name, const void *buf,
			   size_t size, int flags);
NODISCARD int64_t vfs_listxattr(const struct path *p, const struct cred *cred, char *buf, size_t size);
NODISCARD int vfs_removexattr(const struct path *p, const struct cred *cred, const char *name);
/* The text of a place as seen from root (getcwd, /proc/PID/fd). Writes at most size bytes with NUL and
 * returns the length; appends " (deleted)"; -ENAMETOOLONG. *ret_reachable: below root? (may be NULL) */
NODISCARD int64_t vfs_path_text(const struct path *p, const struct path *root, char *buf, size_t size, bool *ret_reachable);

/* The path of d inside its superblock, with a NUL (column 4 of mountinfo); its length or -ENAMETOOLONG. */
NODISCARD int64_t vfs_dentry_text(struct dentry *d, char *buf, size_t size);

/* Mounts (mount(2), umount2(2), pivot_root(2), mount_namespaces(7)). */
NODISCARD int vfs_mount(const struct walk *w, const char *source, const char *target, const char *fstype,
			uint64_t flags, const char *data);
NODISCARD int vfs_umount(const struct walk *w, const char *target, int flags);
NODISCARD int vfs_pivot_root(const struct walk *w, const char *new_root, const char *put_old,
			     struct path *ret_old_root, struct path *ret_new_root);
/* Kernel-internal: mounts a ready superblock on target (NULL: as root of a new namespace). */
NODISCARD int vfs_mount_sb(struct superblock *sb, const struct path *target, uint64_t mnt_flags,
			   const char *source, struct mount **ret_mnt);
NODISCARD int mnt_ns_new(struct superblock *root_sb, const char *source, uint64_t mnt_flags,
			 struct user_ns *owner, struct mnt_ns **ret_ns, struct path *ret_root);
/* CLONE_NEWNS; translates the two paths of fs into the copy. */
NODISCARD int mnt_ns_copy(struct mnt_ns *ns, struct user_ns *owner, struct fs_struct *fs, struct mnt_ns **ret_ns);
struct mnt_ns *mnt_ns_get(struct mnt_ns *ns);
void mnt_ns_put(struct mnt_ns *ns);
uint64_t mnt_ns_ino(const struct mnt_ns *ns);
struct user_ns *mnt_ns_owner(const struct mnt_ns *ns);
/* The topmost root of ns, with references (setns). */
void mnt_ns_root(struct mnt_ns *ns, struct path *ret_root);
/* New mount API: a detached mount or copy of a tree, attached later; path_put of it detaches what is left. */
NODISCARD int vfs_open_tree(const struct path *p, struct user_ns *user, bool recursive, struct path *ret_tree);
NODISCARD int vfs_move_mount(const struct cred *cred, const struct path *from, const struct path *to);
/* Changes the flags (MS_*) of the mount at p, of all below when recursive; propagation: 0 or MS_SHARED... */
NODISCARD int vfs_mount_setattr(const struct walk *w, const struct path *p, bool recursive, uint64_t set,
				uint64_t clear, uint64_t propagation);

/* Open files. */
struct file *file_get(struct file *f);
bool file_try_get(struct file *f);
void file_put(struct file *f);
DEFINE_AUTO(file_put, struct file *)

/* Data transfer; check the access mode. pos: NULL uses and advances the file position. Return bytes or
 * -errno; -EAGAIN when it would block, whatever O_NONBLOCK says: the caller waits (kernel/block.h). */
NODISCARD int64_t file_read(struct file *f, struct uio *u, int64_t *pos);
NODISCARD int64_t file_write(struct file *f, struct uio *u, int64_t *pos);
/* The mappable behind f for a mapping with prot (PROT_* of the guest ABI): -EACCES by access mode or
 * noexec mount, -ENODEV. Borrowed: lives as long as the file. mmap(2) */
NODISCARD int file_mmap(struct file *f, bool shared, uint32_t prot, struct mappable **ret);
/* Reads all of [pos, pos+size) into buf unless the file ends before: bytes or -errno. For the loader. */
NODISCARD int64_t file_read_kernel(struct file *f, void *buf, size_t size, int64_t pos);
NODISCARD int64_t file_seek(struct file *f, int64_t offset, int whence);
NODISCARD int file_truncate(struct file *f, uint64_t size, const struct cred *cred);
NODISCARD int file_fallocate(struct file *f, int mode, int64_t offset, int64_t size);
NODISCARD int file_fsync(struct file *f, bool datasync);
NODISCARD int64_t file_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um);
/* Ready events now, of those asked and POLLERR | POLLHUP. */
uint32_t file_poll(struct file *f, uint32_t events);
/* Registers e on the file's wait queue(s); -EPERM for files without readiness (regular files). */
NODISCARD int file_wait_add(struct file *f, struct waitq_entry *e);

/* Credentials the file was opened with, its place, its flags. */
struct inode *file_inode(struct file *f);
const struct path *file_path(struct file *f);
int file_flags(struct file *f); /* O_ACCMODE and status flags */
int file_set_flags(struct file *f, int flags); /* F_SETFL: O_APPEND O_NONBLOCK O_ASYNC O_DIRECT O_NOATIME */

/* readdir: emit returns false to stop (buffer full). pos is the cookie of the entry after this one. */
struct dir_emit {
	bool (*emit)(struct dir_emit *d, const char *name, size_t len, uint64_t ino, uint8_t dtype, int64_t next_pos);
};
NODISCARD int file_iterate(struct file *f, struct dir_emit *d);

/* Locks: flock(2), fcntl(2) POSIX and OFD. owner: fd table for POSIX, the file for OFD and flock. */
struct klock {
	int16_t type; /* F_RDLCK F_WRLCK F_UNLCK */
	int64_t start, end; /* inclusive end; INT64_MAX: to the end */
	int32_t pid;
};
/* A waiter for a lock: while linked it stands in the graph that finds deadlocks. Lives on the stack. */
struct klock_wait {
	struct waitq *q; /* where to sleep, valid while the file is referenced; NULL: nothing to wait for */
	const void *owner, *blocker;
	struct list_node node;
};
/* Tries once: 0, -EAGAIN (w, unless NULL, then tells where to wait before trying again with the same w),
 * -EDEADLK, -ENOLCK. After the last try with a w comes klock_wait_end. */
NODISCARD int file_lock_posix(struct file *f, const void *owner, const struct klock *l, struct klock_wait *w);
NODISCARD int file_lock_flock(struct file *f, int op, struct klock_wait *w);
void klock_wait_end(struct klock_wait *w);
/* The first lock in the way of l, or type F_UNLCK. */
void file_lock_test(struct file *f, const void *owner, struct klock *l);
/* close(2) of any descriptor of the file drops the process's POSIX locks. */
void file_locks_release(struct file *f, const void *owner);

/* Shows each lock of f's inode; for /proc/PID/fdinfo and /proc/locks. */
void file_lock_for_each(struct file *f, void (*fn)(const struct klock *l, bool flock, const void *owner, void *arg), void *arg);

/* The dentry cache and anonymous superblocks. Boot only, before any other function here. */
int vfs_init(void);

/* inotify events from the VFS itself; mask is IN_*. Cheap when nobody watches. */
void vfs_notify(struct dentry *dentry, uint32_t mask);

#endif
