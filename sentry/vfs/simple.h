/*
 * Synthetic file trees (proc, sys, dev, cgroup): inodes that exist because code says so. A tree is made
 * of static directories filled once with simple_add, of directories whose names are made on demand
 * (lookup, iterate), of text files whose content is generated at each open-and-read, and of links.
 *
 * Context of all callbacks: any task thread, no locks held but where said.
 */
#ifndef SENTRY_VFS_SIMPLE_H
#define SENTRY_VFS_SIMPLE_H

#include <stdarg.h>

#include "sentry/vfs/fs_ops.h"

/* Text that grows. After an allocation failure everything is dropped and failed stays set. */
struct seq {
	char *text;
	size_t size, capacity;
	bool failed;
};

void seq_init(struct seq *q);
void seq_fini(struct seq *q);
void seq_printf(struct seq *q, const char *fmt, ...) PRINTF_LIKE(2, 3);
void seq_vprintf(struct seq *q, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
void seq_puts(struct seq *q, const char *text);
void seq_putc(struct seq *q, char c);
void seq_write(struct seq *q, const void *data, size_t size);
/* text with the characters of set and backslash written as \ooo (mount tables). */
void seq_escape(struct seq *q, const char *text, const char *set);

struct simple_inode;

/* First cookie of a directory's dynamic entries (iterate); static children come before. */
#define SIMPLE_DYNAMIC (1ll << 32)

/* A NULL member has the default written beside it. */
struct simple_ops {
	const char *name;
	/* Releases what data and num stand for; the inode itself is freed after. Default: nothing. */
	void (*free)(struct simple_inode *s);
	/* Regular file: writes the whole content to q. Called at each read from position 0; later reads of the
	 * same open file continue that text. Return 0 or -errno. Default: reads give -EINVAL. */
	int (*show)(struct simple_inode *s, struct file *f, struct seq *q);
	/* Regular file: one write(2); text is NUL-terminated, size without it, at most store_max bytes (0: 4096, more
	 * gives -EINVAL). Returns bytes taken or -errno. Default: writes give -EINVAL. */
	int64_t (*store)(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos);
	size_t store_max;
	/* Directory, after the static children: reference in *ret_inode or -ENOENT. dir's mu is held. */
	int (*lookup)(struct simple_inode *dir, const char *name, struct inode **ret_inode);
	/* Directory, after the static children: *pos starts at SIMPLE_DYNAMIC, cookies are above it. */
	int (*iterate)(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos);
	/* Is the cached child of dir still right? Asked on the directory. Default: yes, unless the file system
	 * has no_dcache set. */
	int (*revalidate)(struct simple_inode *dir, const char *name, struct inode *child);
	/* Symbolic link: text, or the place itself (magic link). */
	int64_t (*readlink)(struct simple_inode *s, char *buf, size_t size);
	int (*follow)(struct simple_inode *s, const struct cred *cred, struct path *ret_path);
	/* Updates mode, uid, gid, size in s->inode before they are looked at. */
	void (*refresh)(struct simple_inode *s);
	/* Default: mode bits and capabilities. */
	int (*permission)(struct simple_inode *s, const struct cred *cred, unsigned mask);
	/* Called at open, before anything else: may refuse, or set f->ops and f->data for a file of its own
	 * kind (then show and store are not used). Default: nothing. */
	int (*open)(struct simple_inode *s, struct file *f);
	/* chmod, chown, utimes are kept in the inode; default: -EPERM. */
	bool allow_setattr;
};

struct simple_inode {
	struct inode inode; /* first member */
	const struct simple_ops *ops;
	void *data;    /* the creator's */
	uint64_t num;  /* the creator's */
	struct list_node children; /* inode.mu: static children, in order of addition */
	int64_t next_cookie;	   /* inode.mu */
};

/* A new inode with one reference, owned by root, times now; NULL: out of memory. mode includes the type. */
NODISCARD struct inode *simple_new(struct superblock *sb, const struct simple_ops *ops, uint32_t mode,
				   void *data, uint64_t num);
/* As simple_new with a given inode number, so that a node looked up again is the same file. */
NODISCARD struct inode *simple_new_ino(struct superblock *sb, const struct simple_ops *ops, uint32_t mode,
				       uint64_t ino, void *data, uint64_t num);
/* Adds a static child; takes the reference over, also on failure (-ENOMEM). child may be NULL: -ENOMEM. */
NODISCARD int simple_add(struct inode *dir, const char *name, struct inode *child);
/* Shorthands: new inode and simple_add. ops NULL for a plain static directory. 0 or -ENOMEM. */
NODISCARD int simple_add_dir(struct inode *dir, const char *name, struct inode **ret_dir);
NODISCARD int simple_add_file(struct inode *dir, const char *name, uint32_t mode, const struct simple_ops *ops, void *data);
NODISCARD int simple_add_link(struct inode *dir, const char *name, const char *target);
/* Removes a static child and what the dentry cache knows of it. */
void simple_remove(struct inode *dir, const char *name);
/* The node behind an inode made here, else NULL (checked downcast). */
struct simple_inode *simple_of(struct inode *i);

/* A statfs and free for superblocks without data of their own. */
extern const struct superblock_ops simple_superblock_ops;

#endif
