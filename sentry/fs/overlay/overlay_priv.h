/* Shared by the files of sentry/fs/overlay only. */
#ifndef SENTRY_FS_OVERLAY_OVERLAY_PRIV_H
#define SENTRY_FS_OVERLAY_OVERLAY_PRIV_H

#include <sys/stat.h>

#include "sentry/fs/overlay/overlay.h"
#include "sentry/vfs/fs_ops.h"

struct overlay_sb {
	struct superblock *sb;
	struct superblock *lower, *upper; /* references */
	const struct cred *cred; /* reference: root, for changes that the guest did not name */
	/* Serialises copy-up. Taken below an overlay inode's mu and above the mu of the two layers'. */
	struct mutex copy_mu;
	struct mutex table_mu; /* LOCK_OBJECT: both tables */
	struct overlay_inode **by_lower, **by_upper; /* hash chains by the layer's inode */
	uint32_t buckets, count;
};

/*
 * A file of the union. Everything that the guest asks goes to the upper inode if there is one, else
 * to the lower; the attributes here are a copy of that inode's. One overlay inode stands for one lower
 * inode, also when that has several names, and it stays the same when the file is copied up. While the
 * upper inode has a name, the superblock keeps the overlay inode (pinned): what only memory knows
 * (number, opacity, names that hide a lower entry) lives as long as the upper tree.
 */
struct overlay_inode {
	struct inode inode; /* first member */
	struct overlay_sb *fs; /* const */
	struct inode *lower;   /* const; reference; NULL: nothing below */
	struct inode *upper;   /* reference; set once under copy_mu, read with acquire */
	struct overlay_inode *parent; /* const; reference; with name: where the lower file is */
	char *name; /* const; NULL for files made in the upper tree and for the root */
	struct overlay_inode *lower_next, *upper_next; /* table_mu */
	bool in_lower, in_upper; /* table_mu */
	bool pinned; /* copy_mu or under the directory's mu: the superblock holds a reference */
	bool opaque; /* directory: lower is not looked at; set before anyone sees it */
	bool hides;  /* directory's mu: the only name covers an entry of the lower directory */
	bool moved;  /* directory's mu: has other names than (parent, name); hides says nothing then */
	struct mappable mappable;
};

/* An open file of a layer behind an open file of the union. */
struct real_file {
	struct file file; /* of the layer; has no place */
	struct real_file *newer; /* the upper file, once the lower one was copied up; set once */
};

#define OVERLAY_MAGIC 0x794c7630u
/* Numbers of upper files, moved out of the way of the lower tree's. */
#define OVERLAY_INO_UPPER (1ull << 48)

static inline bool is_whiteout(const struct inode *i)
{
	return S_ISCHR(i->mode) && i->rdev == 0;
}

/* inode.c */
struct overlay_inode *overlay_inode_of(struct inode *i);
struct inode *overlay_upper(const struct overlay_inode *o); /* borrowed or NULL */
struct inode *overlay_real(const struct overlay_inode *o);  /* borrowed: upper if there is one */
/*
 * The overlay inode of (lower, upper), known or new, with one reference. Takes over the references on
 * lower and upper, either of which may be NULL. parent and name: where lower was found.
 */
NODISCARD int overlay_inode_get(struct overlay_sb *fs, struct inode *lower, struct inode *upper,
				struct overlay_inode *parent, const char *name,
				struct inode **ret_inode);
/* The overlay inode of an upper one, if there is one already: reference or NULL. */
struct overlay_inode *overlay_find_upper(struct overlay_sb *fs, struct inode *upper);
/* Copies the real inode's attributes. o->inode.mu held; with atime: the access time too. */
void overlay_sync_locked(struct overlay_inode *o, bool atime);
/* The file now has an upper inode (reference taken over) which the tables know from here on. */
void overlay_set_upper(struct overlay_inode *o, struct inode *upper);
/* Keeps o while its upper inode has names, or lets it go. */
void overlay_pin(struct overlay_inode *o);
void overlay_unpin(struct overlay_inode *o);
extern const struct inode_ops overlay_inode_ops;

/* copy_up.c */
/* Makes sure that o has an upper inode; of a regular file at most size_max bytes are copied. o's mu may
 * be held, that of the layers' inodes not. */
NODISCARD int overlay_copy_up(struct overlay_inode *o, uint64_t size_max);

/* dir.c */
int overlay_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode);
int overlay_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);
int overlay_mkdir(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);
int overlay_mknod(struct inode *dir, const char *name, uint32_t mode, dev_t rdev,
		const struct cred *cred, struct inode **ret_inode);
int overlay_symlink(struct inode *dir, const char *name, const char *target,
		const struct cred *cred, struct inode **ret_inode);
int overlay_link(struct inode *dir, const char *name, struct inode *target);
int overlay_unlink(struct inode *dir, const char *name, struct inode *victim);
int overlay_rmdir(struct inode *dir, const char *name, struct inode *victim);
int overlay_tmpfile(struct inode *dir, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode);

/* rename.c */
int overlay_rename(struct inode *old_dir, const char *old_name, struct inode *inode,
		   struct inode *new_dir, const char *new_name, struct inode *replaced, unsigned flags);

/* dir.c, for rename.c: all with the overlay directory's mu held and its upper directory present. */
/* The upper entry of that name: reference, or NULL. */
NODISCARD int upper_find(struct overlay_inode *dir, const char *name, struct inode **ret_inode);
/* Removes a whiteout. Returns 1 when there was one, 0 when not. */
NODISCARD int whiteout_remove(struct overlay_inode *dir, const char *name);
NODISCARD int whiteout_make(struct overlay_inode *dir, const char *name);
/* Does the name of o in dir cover an entry of the lower directory? 1, 0 or -errno. */
NODISCARD int name_hides(struct overlay_inode *dir, const char *name,
		const struct overlay_inode *o);
/* One name of o went away: its link count, and its pin with the last. */
void overlay_lost_name(struct overlay_inode *o);
/* dir's attributes follow those of its upper directory. */
void overlay_dir_changed(struct overlay_inode *dir);

/* readdir.c */
extern const struct file_ops overlay_dir_fops;
int overlay_dir_open(struct file *f);
/* Removes the whiteouts of a directory that shows no entry, so that its upper directory is empty; o's
 * mu held. -ENOTEMPTY when it does show one. */
NODISCARD int overlay_clear_dir(struct overlay_inode *o);

/* file.c */
extern const struct file_ops overlay_file_fops;
int overlay_open(struct inode *i, struct file *f);
NODISCARD int real_open(struct inode *real, int flags, const struct cred *cred,
			struct real_file **ret_file);
void real_close(struct real_file *rf);
extern const struct mappable_ops overlay_mappable_ops;

#endif
