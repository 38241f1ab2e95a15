/* Inodes, permissions, superblocks, and the registries of file systems and devices. */
#include <stdlib.h>
#include <sys/sysmacros.h>

#include "platform/base/log.h"
#include "sentry/vfs/twins.h"
#include "sentry/vfs/vfs_priv.h"

static _Atomic uint64_t next_ino = 1;
static _Atomic uint32_t next_anon_minor = 20;
static struct list_node fs_types = LIST_INIT(fs_types);
static struct list_node chrdevs = LIST_INIT(chrdevs);

int (*fifo_open_hook)(struct inode *i, struct file *f);

static void anon_free(struct inode *i)
{
	inode_fini(i);
	free(i);
}

static const struct superblock_ops anon_sb_ops = { .free = NULL };

/* Of pipes, sockets and other inodes without a place; lives for ever. */
struct superblock anon_superblock = {
	.refs = { 1 },
	.ops = &anon_sb_ops,
	.fstype = "anon_inodefs",
	.dev = 9,
	.magic = 0x09041934,
	.no_dcache = true,
	.user_ns = &root_user_ns,
};

const struct inode_ops anon_inode_ops = { .name = "anon", .free = anon_free };

/* Current time at the resolution of file time stamps. Any context. */
struct timespec vfs_now(void)
{
	return ns_to_timespec(clock_now(CLOCK_REALTIME_COARSE));
}

/* Fills the generic part; times are now, owner is root. Any context. */
void inode_init(struct inode *i, const struct inode_ops *ops, struct superblock *sb, uint64_t ino,
		uint32_t mode)
{
	struct timespec now = vfs_now();

	*i = (struct inode){ .ops = ops,
			     .sb = sb,
			     .ino = ino,
			     .mode = mode,
			     .nlink = S_ISDIR(mode) ? 2 : 1,
			     .valid_until_ns = TIME_FOREVER,
			     .atime = now,
			     .mtime = now,
			     .ctime = now,
			     .btime = now };
	refcount_init(&i->refs, 1);
	mutex_init(&i->mu, LOCK_INODE);
	list_init(&i->aliases);
}

/* Frees what the VFS attached. Called once, from ops->free, when no reference is left. */
void inode_fini(struct inode *i)
{
	BUG_ON(!list_empty(&i->aliases));
	notify_inode_gone(i);
	inode_locks_put(i->locks);
	inode_twins_put(i->twins);
	mutex_fini(&i->mu);
}

struct inode *inode_get(struct inode *i)
{
	refcount_get(&i->refs);
	return i;
}

/* Drops a reference; the last one frees through ops->free. NULL is fine. No FS_DATA lock held. */
void inode_put(struct inode *i)
{
	if (i && refcount_put(&i->refs))
		i->ops->free(i);
}

uint64_t ino_next(void)
{
	return atomic_fetch_add_explicit(&next_ino, 1, memory_order_relaxed);
}

/* Owner and mode of an inode made in dir: set-group-ID directories hand down their group (inode(7)).
 * dir's attributes are stable (mu held). Sets uid, gid, mode of i. */
void inode_init_owner(struct inode *i, const struct inode *dir, const struct cred *cred)
{
	i->uid = cred->fsuid;
	i->gid = cred->fsgid;
	if (!dir || !(dir->mode & S_ISGID))
		return;
	i->gid = dir->gid;
	if (S_ISDIR(i->mode))
		i->mode |= S_ISGID;
	else if ((i->mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) &&
		 !cred_in_group(cred, i->gid) && !cred_capable(cred, cred->user_ns, CAP_FSETID))
		i->mode &= ~(uint32_t)S_ISGID;
}

/* Has cred the capability over this inode (user_namespaces(7): the ids must be mapped)? */
bool inode_capable(const struct inode *i, const struct cred *cred, int cap)
{
	if (!(cred->cap_effective >> cap & 1))
		return false;
	if (cred->user_ns == &root_user_ns)
		return true;
	return user_ns_from_kuid(cred->user_ns, i->uid) != ID_INVALID &&
	       user_ns_from_kgid(cred->user_ns, i->gid) != ID_INVALID;
}

bool inode_owner_or_capable(const struct inode *i, const struct cred *cred)
{
	return cred->fsuid.v == i->uid.v || inode_capable(i, cred, CAP_FOWNER);
}

/* Mode bits and capabilities (path_resolution(7)); for ops->permission that add to them. */
int generic_permission(const struct inode *i, const struct cred *cred, unsigned mask)
{
	uint32_t mode = i->mode, bits = mode;

	if (cred->fsuid.v == i->uid.v)
		bits = mode >> 6;
	else if (((mode >> 3) ^ mode) & mask & 7 && cred_in_group(cred, i->gid))
		bits = mode >> 3;
	if (!(mask & ~bits & 7))
		return 0;
	if (S_ISDIR(mode)) {
		if (!(mask & MAY_WRITE) && inode_capable(i, cred, CAP_DAC_READ_SEARCH))
			return 0;
		return inode_capable(i, cred, CAP_DAC_OVERRIDE) ? 0 : -EACCES;
	}
	if (mask == MAY_READ && inode_capable(i, cred, CAP_DAC_READ_SEARCH))
		return 0;
	if ((!(mask & MAY_EXEC) || mode & 0111) && inode_capable(i, cred, CAP_DAC_OVERRIDE))
		return 0;
	return -EACCES;
}

int inode_permission(struct inode *i, const struct cred *cred, unsigned mask)
{
	if (mask & MAY_WRITE && i->sb->readonly &&
	    (S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode)))
		return -EROFS;
	if (i->ops->permission)
		return i->ops->permission(i, cred, mask);
	return generic_permission(i, cred, mask);
}

int path_permission(const struct path *p, const struct cred *cred, unsigned mask)
{
	struct inode *i = p->dentry->inode;

	if (i->ops->refresh) {
		int r = i->ops->refresh(i);

		if (r < 0)
			return r;
	}
	if (mask & MAY_EXEC && S_ISREG(i->mode) && p->mnt && p->mnt->flags & MS_NOEXEC)
		return -EACCES;
	if (mask & MAY_WRITE && mount_readonly(p->mnt) &&
	    (S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode)))
		return -EROFS;
	return inode_permission(i, cred, mask);
}

/* May cred add a name to dir (its inode's mu held)? -ENOENT when dir itself was removed. */
int inode_may_create(struct dentry *dir, const struct cred *cred)
{
	if (dir->inode->nlink == 0)
		return -ENOENT;
	return inode_permission(dir->inode, cred, MAY_WRITE | MAY_EXEC);
}

/* May cred remove victim from dir (mu held)? Sticky directories, types; unlink(2), rmdir(2). */
int inode_may_delete(struct inode *dir, struct dentry *victim, const struct cred *cred, bool is_dir)
{
	struct inode *i = victim->inode;
	int r = inode_permission(dir, cred, MAY_WRITE | MAY_EXEC);

	if (r < 0)
		return r;
	if (dir->mode & S_ISVTX && cred->fsuid.v != i->uid.v && cred->fsuid.v != dir->uid.v &&
	    !inode_capable(i, cred, CAP_FOWNER))
		return -EPERM;
	if (is_dir && !S_ISDIR(i->mode))
		return -ENOTDIR;
	if (!is_dir && S_ISDIR(i->mode))
		return -EISDIR;
	return 0;
}

/* Counts a writer of a regular file; -ETXTBSY while it is being executed. */
int inode_get_write_access(struct inode *i)
{
	int32_t n = __atomic_load_n(&i->write_count, __ATOMIC_RELAXED);

	do {
		if (n < 0)
			return -ETXTBSY;
	} while (!__atomic_compare_exchange_n(&i->write_count, &n, n + 1, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return 0;
}

void inode_put_write_access(struct inode *i)
{
	__atomic_fetch_sub(&i->write_count, 1, __ATOMIC_RELAXED);
}

/* execve(2): nobody may open the file for writing until allow; -ETXTBSY when someone has it open so. */
int file_deny_write(struct file *f)
{
	struct inode *i = f->inode;
	int32_t n = __atomic_load_n(&i->write_count, __ATOMIC_RELAXED);

	do {
		if (n > 0)
			return -ETXTBSY;
	} while (!__atomic_compare_exchange_n(&i->write_count, &n, n - 1, true, __ATOMIC_RELAXED,
					      __ATOMIC_RELAXED));
	return 0;
}

void file_allow_write(struct file *f)
{
	__atomic_fetch_add(&f->inode->write_count, 1, __ATOMIC_RELAXED);
}

/* A superblock with one reference; NULL: out of memory. user_ns is borrowed (a reference is taken). */
struct superblock *superblock_new(const struct superblock_ops *ops, const char *fstype, uint64_t magic,
				  struct user_ns *user_ns)
{
	struct superblock *sb = calloc(1, sizeof(*sb));

	if (!sb)
		return NULL;
	refcount_init(&sb->refs, 1);
	sb->ops = ops;
	sb->fstype = fstype;
	sb->magic = magic;
	sb->user_ns = user_ns_get(user_ns ? user_ns : &root_user_ns);
	sb->dev = makedev(0, atomic_fetch_add(&next_anon_minor, 1));
	return sb;
}

/* Makes sb->root_dentry on first use. 0 or -ENOMEM. */
int superblock_root(struct superblock *sb)
{
	struct dentry *d, *expected = NULL;

	if (__atomic_load_n(&sb->root_dentry, __ATOMIC_ACQUIRE))
		return 0;
	d = dentry_new_root(sb, sb->root, "/");
	if (!d)
		return -ENOMEM;
	if (!__atomic_compare_exchange_n(&sb->root_dentry, &expected, d, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE))
		dentry_put(d);
	return 0;
}

struct superblock *superblock_get(struct superblock *sb)
{
	refcount_get(&sb->refs);
	return sb;
}

/* The last reference drops every cached dentry, then the root, then calls ops->free. No locks held. */
void superblock_put(struct superblock *sb)
{
	if (!sb || !refcount_put(&sb->refs))
		return;
	dcache_purge(sb);
	dentry_put(sb->root_dentry);
	inode_put(sb->root);
	if (sb->ops->free)
		sb->ops->free(sb);
	user_ns_put(sb->user_ns);
	free(sb->options);
	free(sb->root_name);
	free(sb);
}

void fs_type_register(struct fs_type *t)
{
	list_add_tail(&fs_types, &t->node);
}

/* The registered type of that name, or NULL. */
const struct fs_type *fs_type_find(const char *name)
{
	struct fs_type *t;

	list_for_each(t, &fs_types, node) {
		if (strcmp(t->name, name) == 0)
			return t;
	}
	return NULL;
}

int fs_type_for_each(int (*fn)(const struct fs_type *t, void *arg), void *arg)
{
	struct fs_type *t;

	list_for_each(t, &fs_types, node) {
		int r = fn(t, arg);

		if (r)
			return r;
	}
	return 0;
}

void chrdev_register(struct chrdev *d)
{
	list_add_tail(&chrdevs, &d->node);
}

/* The device range that rdev falls into, or NULL. */
const struct chrdev *chrdev_find(dev_t rdev)
{
	struct chrdev *d;

	list_for_each(d, &chrdevs, node) {
		if (d->major == major(rdev) && minor(rdev) >= d->minor_first &&
		    minor(rdev) - d->minor_first < d->minor_count)
			return d;
	}
	return NULL;
}

void chrdev_for_each(void (*fn)(const struct chrdev *d, void *arg), void *arg)
{
	struct chrdev *d;

	list_for_each(d, &chrdevs, node)
		fn(d, arg);
}
