/* Overlay inodes: identity across the layers, attributes, extended attributes; the superblock. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/overlay_priv.h"

static void overlay_free(struct inode *i);

struct overlay_inode *overlay_inode_of(struct inode *i)
{
	BUG_ON(i->ops != &overlay_inode_ops);
	return container_of(i, struct overlay_inode, inode);
}

struct inode *overlay_upper(const struct overlay_inode *o)
{
	return __atomic_load_n(&o->upper, __ATOMIC_ACQUIRE);
}

struct inode *overlay_real(const struct overlay_inode *o)
{
	struct inode *upper = overlay_upper(o);

	return upper ? upper : o->lower;
}

static uint32_t hash_inode(const struct overlay_sb *fs, const struct inode *i)
{
	return (uint32_t)(((uintptr_t)i * 0x9e3779b97f4a7c15ull) >> 32) & (fs->buckets - 1);
}

static void insert_lower_locked(struct overlay_inode *o)
{
	struct overlay_inode **head = &o->fs->by_lower[hash_inode(o->fs, o->lower)];

	o->lower_next = *head;
	*head = o;
	o->in_lower = true;
}

static void insert_upper_locked(struct overlay_inode *o)
{
	struct overlay_inode **head = &o->fs->by_upper[hash_inode(o->fs, o->upper)];

	o->upper_next = *head;
	*head = o;
	o->in_upper = true;
}

static void remove_locked(struct overlay_inode *o)
{
	struct overlay_inode **p;

	if (o->in_lower) {
		p = &o->fs->by_lower[hash_inode(o->fs, o->lower)];
		while (*p != o)
			p = &(*p)->lower_next;
		*p = o->lower_next;
		o->in_lower = false;
	}
	if (o->in_upper) {
		p = &o->fs->by_upper[hash_inode(o->fs, o->upper)];
		while (*p != o)
			p = &(*p)->upper_next;
		*p = o->upper_next;
		o->in_upper = false;
	}
}

/* Doubles both tables; without memory the chains just get longer. */
static void tables_grow_locked(struct overlay_sb *fs)
{
	struct overlay_inode **lower = calloc(fs->buckets * 2, sizeof(struct overlay_inode *));
	struct overlay_inode **upper = calloc(fs->buckets * 2, sizeof(struct overlay_inode *));
	struct overlay_inode **old_lower = fs->by_lower, **old_upper = fs->by_upper, *o, *next;
	uint32_t old = fs->buckets;

	if (!lower || !upper) {
		free(lower);
		free(upper);
		return;
	}
	fs->by_lower = lower;
	fs->by_upper = upper;
	fs->buckets *= 2;
	for (uint32_t b = 0; b < old; b++) {
		for (o = old_lower[b]; o; o = next) {
			next = o->lower_next;
			insert_lower_locked(o);
		}
		for (o = old_upper[b]; o; o = next) {
			next = o->upper_next;
			insert_upper_locked(o);
		}
	}
	free(old_lower);
	free(old_upper);
}

/* The live overlay inode of a layer's inode, with a new reference, or NULL. */
static struct overlay_inode *find_locked(struct overlay_sb *fs, struct inode *lower,
					 struct inode *upper)
{
	struct overlay_inode *o;

	if (upper) {
		for (o = fs->by_upper[hash_inode(fs, upper)]; o; o = o->upper_next) {
			if (o->upper == upper && refcount_try_get(&o->inode.refs))
				return o;
		}
	} else {
		for (o = fs->by_lower[hash_inode(fs, lower)]; o; o = o->lower_next) {
			if (o->lower == lower && refcount_try_get(&o->inode.refs))
				return o;
		}
	}
	return NULL;
}

/* Link counts of files from below are the overlay's own: copying up makes no second link. */
static bool own_nlink(const struct overlay_inode *o)
{
	return o->lower && !S_ISDIR(o->inode.mode);
}

void overlay_sync_locked(struct overlay_inode *o, bool atime)
{
	struct inode *real = overlay_real(o), *i = &o->inode;

	mutex_assert_held(&i->mu);
	mutex_lock_nested(&real->mu);
	i->mode = (i->mode & S_IFMT) | (real->mode & 07777);
	i->uid = real->uid;
	i->gid = real->gid;
	__atomic_store_n(&i->size, real->size, __ATOMIC_RELAXED);
	if (atime)
		i->atime = real->atime;
	i->mtime = real->mtime;
	i->ctime = real->ctime;
	i->btime = real->btime;
	/* A merged directory has no meaningful count; 1 says so to find(1), as overlayfs does. */
	if (S_ISDIR(i->mode) && o->lower && o->upper && !o->opaque && i->nlink)
		i->nlink = 1;
	else if (!own_nlink(o) && i->nlink)
		i->nlink = real->nlink;
	mutex_unlock(&real->mu);
}

static struct overlay_inode *overlay_inode_new(struct overlay_sb *fs, struct inode *lower,
					       struct inode *upper, struct overlay_inode *parent,
					       const char *name)
{
	struct inode *real = upper ? upper : lower;
	struct overlay_inode *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	if (lower && name) {
		o->name = strdup(name);
		if (!o->name) {
			free(o);
			return NULL;
		}
		o->parent = parent;
		inode_get(&parent->inode);
	}
	inode_init(&o->inode, &overlay_inode_ops, fs->sb,
		   lower ? lower->ino : real->ino | OVERLAY_INO_UPPER, real->mode);
	mutex_fini(&o->inode.mu);
	mutex_init(&o->inode.mu, LOCK_OVERLAY);
	o->inode.rdev = real->rdev;
	o->fs = fs;
	o->lower = lower;
	o->upper = upper;
	mappable_init(&o->mappable, &overlay_mappable_ops);
	if (S_ISREG(real->mode)) {
		o->inode.fops = &overlay_file_fops;
		o->inode.mappable = &o->mappable;
	} else if (S_ISDIR(real->mode)) {
		o->inode.fops = &overlay_dir_fops;
	}
	mutex_lock_nested(&o->inode.mu);
	o->inode.nlink = real->nlink;
	overlay_sync_locked(o, true);
	mutex_unlock(&o->inode.mu);
	return o;
}

struct overlay_inode *overlay_find_upper(struct overlay_sb *fs, struct inode *upper)
{
	GUARD(mutex, &fs->table_mu);
	return find_locked(fs, NULL, upper);
}

int overlay_inode_get(struct overlay_sb *fs, struct inode *lower, struct inode *upper,
		      struct overlay_inode *parent, const char *name, struct inode **ret_inode)
{
	struct overlay_inode *o, *fresh = NULL;

	for (;;) {
		mutex_lock(&fs->table_mu);
		o = find_locked(fs, lower, upper);
		if (!o && fresh) {
			if (fs->count++ >= fs->buckets)
				tables_grow_locked(fs);
			if (upper)
				insert_upper_locked(fresh);
			if (lower)
				insert_lower_locked(fresh);
		}
		mutex_unlock(&fs->table_mu);
		if (o || fresh)
			break;
		fresh = overlay_inode_new(fs, lower, upper, parent, name);
		if (!fresh) {
			inode_put(lower);
			inode_put(upper);
			return -ENOMEM;
		}
	}
	if (!o) {
		*ret_inode = &fresh->inode;
		return 0;
	}
	if (fresh) { /* somebody else was faster; fresh holds the references on the layers */
		inode_put(&fresh->inode);
	} else {
		inode_put(lower);
		inode_put(upper);
	}
	*ret_inode = &o->inode;
	return 0;
}

void overlay_set_upper(struct overlay_inode *o, struct inode *upper)
{
	GUARD(mutex, &o->fs->table_mu);
	BUG_ON(o->upper);
	__atomic_store_n(&o->upper, upper, __ATOMIC_RELEASE);
	insert_upper_locked(o);
}

void overlay_pin(struct overlay_inode *o)
{
	if (o->pinned)
		return;
	o->pinned = true;
	inode_get(&o->inode);
}

void overlay_unpin(struct overlay_inode *o)
{
	if (!o->pinned)
		return;
	o->pinned = false;
	inode_put(&o->inode);
}

static void overlay_free(struct inode *i)
{
	struct overlay_inode *o = overlay_inode_of(i);
	struct overlay_sb *fs = o->fs;

	mutex_lock(&fs->table_mu);
	if (o->in_lower || o->in_upper)
		fs->count--;
	remove_locked(o);
	mutex_unlock(&fs->table_mu);
	inode_put(o->lower);
	inode_put(o->upper);
	if (o->parent)
		inode_put(&o->parent->inode);
	free(o->name);
	mappable_fini(&o->mappable);
	inode_fini(i);
	free(o);
}

static void overlay_getattr(struct inode *i, struct kstat *st)
{
	struct inode *real = overlay_real(overlay_inode_of(i));

	if (!real->ops->getattr)
		return;
	mutex_lock_nested(&real->mu);
	real->ops->getattr(real, st);
	mutex_unlock(&real->mu);
}

static int overlay_setattr(struct inode *i, const struct kattr *attr)
{
	struct overlay_inode *o = overlay_inode_of(i);
	bool shrinks = attr->mask & ATTR_SIZE && attr->size < i->size;
	struct inode *upper;
	int r = overlay_copy_up(o, attr->mask & ATTR_SIZE ? attr->size : UINT64_MAX);

	if (r < 0)
		return r;
	upper = overlay_upper(o);
	mutex_lock_nested(&upper->mu);
	r = upper->ops->setattr ? upper->ops->setattr(upper, attr) : -EPERM;
	mutex_unlock(&upper->mu);
	overlay_sync_locked(o, true);
	if (r == 0 && shrinks)
		mappable_invalidate(&o->mappable, ALIGN_UP(attr->size, 4096ull), INT64_MAX);
	return r;
}

static int64_t overlay_readlink(struct inode *i, char *buf, size_t size)
{
	struct inode *real = overlay_real(overlay_inode_of(i));

	return real->ops->readlink ? real->ops->readlink(real, buf, size) : -EINVAL;
}

/* Attributes by which other implementations of the union mark files are nobody's business. */
static bool xattr_private(const char *name)
{
	return strncmp(name, "trusted.overlay.", 16) == 0;
}

static int64_t overlay_getxattr(struct inode *i, const char *name, void *buf, size_t size)
{
	struct inode *real = overlay_real(overlay_inode_of(i));
	int64_t r;

	if (xattr_private(name))
		return -ENODATA;
	if (!real->ops->getxattr)
		return -EOPNOTSUPP;
	mutex_lock_nested(&real->mu);
	r = real->ops->getxattr(real, name, buf, size);
	mutex_unlock(&real->mu);
	return r;
}

static int64_t overlay_listxattr(struct inode *i, char *buf, size_t size)
{
	struct inode *real = overlay_real(overlay_inode_of(i));
	int64_t r;

	if (!real->ops->listxattr)
		return -EOPNOTSUPP;
	mutex_lock_nested(&real->mu);
	r = real->ops->listxattr(real, buf, size);
	mutex_unlock(&real->mu);
	return r;
}

static int overlay_setxattr(struct inode *i, const char *name, const void *buf, size_t size, int flags)
{
	struct overlay_inode *o = overlay_inode_of(i);
	struct inode *upper;
	int r = xattr_private(name) ? -EPERM : overlay_copy_up(o, UINT64_MAX);

	if (r < 0)
		return r;
	upper = overlay_upper(o);
	if (!upper->ops->setxattr)
		return -EOPNOTSUPP;
	mutex_lock_nested(&upper->mu);
	r = upper->ops->setxattr(upper, name, buf, size, flags);
	mutex_unlock(&upper->mu);
	overlay_sync_locked(o, false);
	return r;
}

static int overlay_removexattr(struct inode *i, const char *name)
{
	struct overlay_inode *o = overlay_inode_of(i);
	struct inode *upper;
	int r = xattr_private(name) ? -EPERM : overlay_copy_up(o, UINT64_MAX);

	if (r < 0)
		return r;
	upper = overlay_upper(o);
	if (!upper->ops->removexattr)
		return -EOPNOTSUPP;
	mutex_lock_nested(&upper->mu);
	r = upper->ops->removexattr(upper, name);
	mutex_unlock(&upper->mu);
	overlay_sync_locked(o, false);
	return r;
}

const struct inode_ops overlay_inode_ops = { .name = "overlay",
					     .free = overlay_free,
					     .lookup = overlay_lookup,
					     .create = overlay_create,
					     .mkdir = overlay_mkdir,
					     .mknod = overlay_mknod,
					     .symlink = overlay_symlink,
					     .link = overlay_link,
					     .unlink = overlay_unlink,
					     .rmdir = overlay_rmdir,
					     .rename = overlay_rename,
					     .tmpfile = overlay_tmpfile,
					     .readlink = overlay_readlink,
					     .getattr = overlay_getattr,
					     .setattr = overlay_setattr,
					     .open = overlay_open,
					     .getxattr = overlay_getxattr,
					     .setxattr = overlay_setxattr,
					     .listxattr = overlay_listxattr,
					     .removexattr = overlay_removexattr };

static int overlay_statfs(struct superblock *sb, struct kstatfs *ret)
{
	struct overlay_sb *fs = sb->data;
	int r = 0;

	if (fs->upper->ops->statfs)
		r = fs->upper->ops->statfs(fs->upper, ret);
	if (r == 0)
		ret->type = sb->magic;
	return r;
}

static int overlay_sync(struct superblock *sb)
{
	struct overlay_sb *fs = sb->data;

	return fs->upper->ops->sync ? fs->upper->ops->sync(fs->upper) : 0;
}

/* A pinned inode, or NULL; the superblock is going away, so nobody else looks. */
static struct overlay_inode *any_pinned(struct overlay_sb *fs)
{
	struct overlay_inode *o;

	GUARD(mutex, &fs->table_mu);
	for (uint32_t b = 0; b < fs->buckets; b++) {
		for (o = fs->by_upper[b]; o; o = o->upper_next) {
			if (o->pinned)
				return o;
		}
	}
	return NULL;
}

static void overlay_sb_free(struct superblock *sb)
{
	struct overlay_sb *fs = sb->data;
	struct overlay_inode *o;

	while ((o = any_pinned(fs)))
		overlay_unpin(o);
	superblock_put(fs->lower);
	superblock_put(fs->upper);
	cred_put(fs->cred);
	mutex_fini(&fs->copy_mu);
	mutex_fini(&fs->table_mu);
	free(fs->by_lower);
	free(fs->by_upper);
	free(fs);
}

static const struct superblock_ops overlay_superblock_ops = { .free = overlay_sb_free,
							      .statfs = overlay_statfs,
							      .sync = overlay_sync };

static struct overlay_sb *overlay_sb_alloc(struct superblock *lower, struct superblock *upper)
{
	struct overlay_sb *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return NULL;
	fs->buckets = 256;
	fs->by_lower = calloc(fs->buckets, sizeof(struct overlay_inode *));
	fs->by_upper = calloc(fs->buckets, sizeof(struct overlay_inode *));
	fs->cred = cred_new_root(&root_user_ns);
	if (!fs->by_lower || !fs->by_upper || !fs->cred) {
		free(fs->by_lower);
		free(fs->by_upper);
		cred_put(fs->cred);
		free(fs);
		return NULL;
	}
	mutex_init(&fs->copy_mu, LOCK_OVERLAY);
	mutex_init(&fs->table_mu, LOCK_OBJECT);
	fs->lower = superblock_get(lower);
	fs->upper = superblock_get(upper);
	return fs;
}

/* The upper root looks like the lower one, whose place it takes. */
static int copy_root_attr(struct inode *lower, struct inode *upper)
{
	struct kattr attr = { .mask = ATTR_MODE | ATTR_UID | ATTR_GID | ATTR_ATIME | ATTR_MTIME |
				      ATTR_CTIME,
			      .mode = lower->mode & 07777,
			      .uid = lower->uid,
			      .gid = lower->gid,
			      .atime = lower->atime,
			      .mtime = lower->mtime };

	GUARD(mutex, &upper->mu);
	return upper->ops->setattr ? upper->ops->setattr(upper, &attr) : 0;
}

int overlay_new(struct superblock *lower, struct superblock *upper, struct user_ns *user_ns,
		struct superblock **ret_sb)
{
	struct overlay_sb *fs;
	struct superblock *sb;
	int r;

	if (!S_ISDIR(lower->root->mode) || !S_ISDIR(upper->root->mode))
		return -ENOTDIR;
	fs = overlay_sb_alloc(lower, upper);
	if (!fs)
		return -ENOMEM;
	sb = superblock_new(&overlay_superblock_ops, "overlay", OVERLAY_MAGIC, user_ns);
	if (!sb) {
		overlay_sb_free(&(struct superblock){ .data = fs });
		return -ENOMEM;
	}
	sb->data = fs;
	fs->sb = sb;
	r = copy_root_attr(lower->root, upper->root);
	if (r == 0)
		r = overlay_inode_get(fs, inode_get(lower->root), inode_get(upper->root), NULL, NULL,
				      &sb->root);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	overlay_pin(overlay_inode_of(sb->root));
	*ret_sb = sb;
	return 0;
}
