/* Changes of directories: making, linking, removing, renaming names. */
#include <stdlib.h>

#include <sys/inotify.h>

#include "sentry/vfs/twins.h"
#include "sentry/vfs/vfs_priv.h"

static struct mutex rename_mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_RENAME };

/* A name about to be made: its directory's mu is held between create_begin and create_end. */
struct creation {
	struct walker wk;
	struct dentry *child; /* negative; reference */
};

static void create_end(struct creation *c)
{
	mutex_unlock(&c->wk.cur.dentry->inode->mu);
	dentry_put(c->child);
	walker_fini(&c->wk);
}

/* Walks to the directory of pathname, locks it and checks that the name may be made. slash_ok: a
 * trailing slash is fine (mkdir). On error nothing is held. */
static int create_begin(struct creation *c, const struct walk *w, const char *pathname, bool slash_ok)
{
	struct walker *wk = &c->wk;
	int r = walker_init(wk, w, pathname, 0);

	if (r < 0)
		return r;
	c->child = NULL;
	r = walker_parent(wk);
	if (r == 0 && wk->last != LAST_NORM)
		r = -EEXIST;
	if (r < 0) {
		walker_fini(wk);
		return r;
	}
	walker_revalidate(wk);
	mutex_lock(&wk->cur.dentry->inode->mu);
	r = walker_locked_child(wk, &c->child);
	if (r == 0 && c->child->inode)
		r = -EEXIST;
	if (r == 0 && wk->slash && !slash_ok)
		r = -ENOENT;
	if (r == 0 && mount_readonly(wk->cur.mnt))
		r = -EROFS;
	if (r == 0)
		r = inode_may_create(wk->cur.dentry, w->cred);
	if (r < 0)
		create_end(c);
	return r;
}

/* The new inode (reference taken over) becomes the child; tells watchers. */
static void create_done(struct creation *c, struct inode *inode)
{
	dentry_instantiate(c->child, inode);
	notify_dir(c->wk.cur.dentry->inode, S_ISDIR(inode->mode) ? IN_CREATE | IN_ISDIR : IN_CREATE, 0,
		   c->wk.name);
}

int vfs_mkdir(const struct walk *w, const char *pathname, uint32_t mode)
{
	struct creation c;
	struct inode *dir, *inode = NULL;
	int r = create_begin(&c, w, pathname, true);

	if (r < 0)
		return r;
	dir = c.wk.cur.dentry->inode;
	mode = S_IFDIR | ((mode & 01777) & ~w->umask);
	r = dir->ops->mkdir ? dir->ops->mkdir(dir, c.wk.name, mode, w->cred, &inode) : -EPERM;
	if (r == 0)
		create_done(&c, inode);
	create_end(&c);
	return r;
}

static int mknod_inode(struct inode *dir, const char *name, uint32_t mode, dev_t rdev,
		       const struct cred *cred, struct inode **ret)
{
	if (S_ISREG(mode))
		return dir->ops->create ? dir->ops->create(dir, name, mode, cred, ret) : -EPERM;
	return dir->ops->mknod ? dir->ops->mknod(dir, name, mode, rdev, cred, ret) : -EPERM;
}

int vfs_mknod(const struct walk *w, const char *pathname, uint32_t mode, dev_t rdev)
{
	struct creation c;
	struct inode *inode = NULL;
	int r;

	if (!(mode & S_IFMT))
		mode |= S_IFREG;
	if (S_ISDIR(mode))
		return -EPERM;
	if (!S_ISREG(mode) && !S_ISFIFO(mode) && !S_ISSOCK(mode) && !S_ISCHR(mode) && !S_ISBLK(mode))
		return -EINVAL;
	r = create_begin(&c, w, pathname, false);
	if (r < 0)
		return r;
	/* A 0/0 character device is overlayfs's whiteout, which anybody may make (mknod(2)). */
	if ((S_ISCHR(mode) || S_ISBLK(mode)) && !(S_ISCHR(mode) && rdev == 0) &&
	    !cred_capable(w->cred, &root_user_ns, CAP_MKNOD))
		r = -EPERM;
	if (r == 0)
		r = mknod_inode(c.wk.cur.dentry->inode, c.wk.name, (mode & S_IFMT) | (mode & 07777 & ~w->umask),
				rdev, w->cred, &inode);
	if (r == 0)
		create_done(&c, inode);
	create_end(&c);
	return r;
}

int vfs_symlink(const struct walk *w, const char *target, const char *pathname)
{
	struct creation c;
	struct inode *dir, *inode = NULL;
	int r;

	if (!*target)
		return -ENOENT;
	r = create_begin(&c, w, pathname, false);
	if (r < 0)
		return r;
	dir = c.wk.cur.dentry->inode;
	r = dir->ops->symlink ? dir->ops->symlink(dir, c.wk.name, target, w->cred, &inode) : -EPERM;
	if (r == 0)
		create_done(&c, inode);
	create_end(&c);
	return r;
}

int vfs_bind_socket(const struct walk *w, const char *pathname, struct unix_binding *b,
		    struct path *ret_path)
{
	struct creation c;
	struct inode *dir, *inode = NULL;
	struct inode_twins *twins;
	int r = create_begin(&c, w, pathname, false);

	if (r < 0)
		return r == -EEXIST ? -EADDRINUSE : r;
	dir = c.wk.cur.dentry->inode;
	r = mknod_inode(dir, c.wk.name, S_IFSOCK | (0777 & ~w->umask), 0, w->cred, &inode);
	if (r == 0) {
		mutex_lock_nested(&inode->mu);
		inode->unix_binding = b;
		twins = inode_twins(inode);
		if (twins) {
			mutex_lock(&twins->mu);
			twins->unix_binding = b;
			mutex_unlock(&twins->mu);
		}
		mutex_unlock(&inode->mu);
		create_done(&c, inode);
		*ret_path = (struct path){ c.wk.cur.mnt, c.child };
		path_get(ret_path);
	}
	create_end(&c);
	return r;
}

int vfs_link(const struct walk *from, const char *oldpath, unsigned walk_flags, const struct walk *to,
	     const char *newpath)
{
	struct creation c;
	struct path old;
	struct inode *inode, *dir;
	int r = vfs_walk(from, oldpath, walk_flags, &old);

	if (r < 0)
		return r;
	r = create_begin(&c, to, newpath, false);
	if (r < 0)
		goto out;
	inode = old.dentry->inode;
	dir = c.wk.cur.dentry->inode;
	if (old.mnt != c.wk.cur.mnt || old.dentry->sb != c.wk.cur.dentry->sb)
		r = -EXDEV;
	else if (S_ISDIR(inode->mode))
		r = -EPERM;
	else if (inode->nlink == 0 && !inode->linkable)
		r = -ENOENT;
	else
		r = dir->ops->link ? dir->ops->link(dir, c.wk.name, inode) : -EPERM;
	if (r == 0) {
		inode->linkable = false;
		notify_send(inode, IN_ATTRIB, 0, NULL);
		create_done(&c, inode_get(inode));
	}
	create_end(&c);
out:
	path_put(&old);
	return r;
}

/* Shared by unlink and rmdir: the name is positive and may be removed; dir's mu is held. */
static int remove_locked(struct walker *wk, struct dentry *victim, bool is_dir)
{
	struct inode *dir = wk->cur.dentry->inode, *inode = victim->inode;
	int r = inode_may_delete(dir, victim, wk->w->cred, is_dir);

	if (r < 0)
		return r;
	if (victim->mounted && path_is_mountpoint(wk->cur.mnt, victim))
		return -EBUSY;
	if (is_dir)
		r = dir->ops->rmdir ? dir->ops->rmdir(dir, wk->name, inode) : -EPERM;
	else
		r = dir->ops->unlink ? dir->ops->unlink(dir, wk->name, inode) : -EPERM;
	if (r == 0)
		dentry_removed(victim);
	return r;
}

/* i lost a name. */
static void notify_unlinked(struct inode *i)
{
	if (!S_ISDIR(i->mode))
		notify_send(i, IN_ATTRIB, 0, NULL);
	if (S_ISDIR(i->mode) || i->nlink == 0)
		notify_send(i, IN_DELETE_SELF, 0, NULL);
}

static int vfs_remove(const struct walk *w, const char *pathname, bool is_dir)
{
	static const int dots_rmdir[] = { [LAST_ROOT] = -EBUSY, [LAST_DOT] = -EINVAL, [LAST_DOTDOT] = -ENOTEMPTY };
	struct dentry *victim = NULL;
	struct inode *dir;
	struct walker wk;
	int r = walker_init(&wk, w, pathname, 0);

	if (r < 0)
		return r;
	r = walker_parent(&wk);
	if (r == 0 && wk.last != LAST_NORM)
		r = is_dir ? dots_rmdir[wk.last] : -EISDIR;
	if (r == 0 && mount_readonly(wk.cur.mnt))
		r = -EROFS;
	if (r < 0)
		goto out;
	dir = wk.cur.dentry->inode;
	walker_revalidate(&wk);
	mutex_lock(&dir->mu);
	r = walker_locked_child(&wk, &victim);
	if (r == 0 && !victim->inode)
		r = -ENOENT;
	if (r == 0 && !is_dir && wk.slash)
		r = S_ISDIR(victim->inode->mode) ? -EISDIR : -ENOTDIR;
	if (r == 0)
		r = remove_locked(&wk, victim, is_dir);
	if (r == 0)
		notify_dir(dir, is_dir ? IN_DELETE | IN_ISDIR : IN_DELETE, 0, wk.name);
	mutex_unlock(&dir->mu);
	if (r == 0)
		notify_unlinked(victim->inode);
	dentry_put(victim);
out:
	walker_fini(&wk);
	return r;
}

int vfs_unlink(const struct walk *w, const char *pathname)
{
	return vfs_remove(w, pathname, false);
}

int vfs_rmdir(const struct walk *w, const char *pathname)
{
	return vfs_remove(w, pathname, true);
}

/* Locks the directories of a rename, an ancestor before its descendant. */
static void lock_two(struct dentry *a, struct dentry *b)
{
	struct mutex *first = &a->inode->mu, *second = &b->inode->mu;

	if (first == second) {
		mutex_lock(first);
		return;
	}
	if (dentry_is_ancestor(b, a) || (!dentry_is_ancestor(a, b) && b->inode < a->inode)) {
		first = &b->inode->mu;
		second = &a->inode->mu;
	}
	mutex_lock(first);
	mutex_lock_nested(second);
}

static void unlock_two(struct dentry *a, struct dentry *b)
{
	mutex_unlock(&a->inode->mu);
	if (a->inode != b->inode)
		mutex_unlock(&b->inode->mu);
}

struct renaming {
	struct walker from, to;
	struct dentry *old, *new;
	unsigned flags;
};

/* Types, loops, slashes and mounts of a rename; both directories' mu held. rename(2) */
static int rename_check(struct renaming *rn)
{
	struct inode *o = rn->old->inode, *n = rn->new->inode;
	bool exchange = rn->flags & RENAME_EXCHANGE;

	if (!o)
		return -ENOENT;
	if (n && rn->flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (!n && exchange)
		return -ENOENT;
	if (!S_ISDIR(o->mode) && (rn->from.slash || (!exchange && rn->to.slash)))
		return -ENOTDIR;
	if (exchange && !S_ISDIR(n->mode) && rn->to.slash)
		return -ENOTDIR;
	if (dentry_is_ancestor(rn->old, rn->to.cur.dentry))
		return -EINVAL;
	if (n && dentry_is_ancestor(rn->new, rn->from.cur.dentry))
		return exchange ? -EINVAL : -ENOTEMPTY;
	return 0;
}

/* Permissions of a rename, after rename_check. */
static int rename_permission(struct renaming *rn, const struct cred *cred)
{
	struct inode *od = rn->from.cur.dentry->inode, *nd = rn->to.cur.dentry->inode;
	struct inode *o = rn->old->inode, *n = rn->new->inode;
	int r = inode_may_delete(od, rn->old, cred, S_ISDIR(o->mode));

	if (r < 0)
		return r;
	if (!n)
		r = inode_may_create(rn->to.cur.dentry, cred);
	else
		r = inode_may_delete(nd, rn->new, cred,
				     rn->flags & RENAME_EXCHANGE ? S_ISDIR(n->mode) : S_ISDIR(o->mode));
	if (r < 0)
		return r;
	if (od != nd && S_ISDIR(o->mode))
		r = inode_permission(o, cred, MAY_WRITE); /* its ".." changes */
	if (r == 0 && rn->flags & RENAME_EXCHANGE && od != nd && S_ISDIR(n->mode))
		r = inode_permission(n, cred, MAY_WRITE);
	if (r == 0 && ((rn->old->mounted && path_is_mountpoint(rn->from.cur.mnt, rn->old)) ||
		       (rn->new->mounted && path_is_mountpoint(rn->to.cur.mnt, rn->new))))
		r = -EBUSY;
	return r;
}

static void rename_notify(struct renaming *rn)
{
	struct inode *o = rn->old->inode, *n = rn->new->inode;
	uint32_t isdir = S_ISDIR(o->mode) ? IN_ISDIR : 0, cookie;

	if (!notify_watch_total)
		return;
	cookie = notify_cookie();
	notify_dir(rn->from.cur.dentry->inode, IN_MOVED_FROM | isdir, cookie, rn->from.name);
	notify_dir(rn->to.cur.dentry->inode, IN_MOVED_TO | isdir, cookie, rn->to.name);
	notify_send(o, IN_MOVE_SELF, 0, NULL);
	if (n && !(rn->flags & RENAME_EXCHANGE))
		notify_unlinked(n);
}

static int rename_locked(struct renaming *rn, const struct cred *cred)
{
	struct inode *od = rn->from.cur.dentry->inode, *nd = rn->to.cur.dentry->inode;
	int r = walker_locked_child(&rn->from, &rn->old);

	if (r == 0)
		r = walker_locked_child(&rn->to, &rn->new);
	if (r == 0)
		r = rename_check(rn);
	if (r == 0 && rn->old->inode == rn->new->inode)
		return 0; /* two names of one file: nothing happens */
	if (r == 0)
		r = rename_permission(rn, cred);
	if (r < 0)
		return r;
	if (!od->ops->rename)
		return -EPERM;
	r = od->ops->rename(od, rn->from.name, rn->old->inode, nd, rn->to.name, rn->new->inode, rn->flags);
	if (r < 0)
		return r;
	/* A failure here is a lack of memory; the cache then forgets and asks again. */
	if (rn->flags & RENAME_EXCHANGE)
		(void)!dentry_exchange(rn->old, rn->new);
	else
		(void)!dentry_rename(rn->old, rn->to.cur.dentry, rn->to.name, rn->to.name_len, rn->new);
	rename_notify(rn);
	return 0;
}

int vfs_rename(const struct walk *from, const char *oldpath, const struct walk *to, const char *newpath,
	       unsigned flags)
{
	struct renaming rn = { .flags = flags };
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT) ||
	    (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)))
		return -EINVAL;
	r = walker_init(&rn.from, from, oldpath, 0);
	if (r < 0)
		return r;
	r = walker_init(&rn.to, to, newpath, 0);
	if (r < 0) {
		walker_fini(&rn.from);
		return r;
	}
	r = walker_parent(&rn.from);
	if (r == 0)
		r = walker_parent(&rn.to);
	if (r == 0 && (rn.from.cur.mnt != rn.to.cur.mnt || rn.from.cur.dentry->sb != rn.to.cur.dentry->sb))
		r = -EXDEV;
	if (r == 0 && rn.from.last != LAST_NORM)
		r = -EBUSY;
	if (r == 0 && rn.to.last != LAST_NORM)
		r = flags & RENAME_NOREPLACE ? -EEXIST : -EBUSY;
	if (r == 0 && mount_readonly(rn.from.cur.mnt))
		r = -EROFS;
	if (r == 0) {
		walker_revalidate(&rn.from);
		walker_revalidate(&rn.to);
		mutex_lock(&rename_mu);
		lock_two(rn.from.cur.dentry, rn.to.cur.dentry);
		r = rename_locked(&rn, from->cred);
		unlock_two(rn.from.cur.dentry, rn.to.cur.dentry);
		mutex_unlock(&rename_mu);
	}
	dentry_put(rn.old);
	dentry_put(rn.new);
	walker_fini(&rn.from);
	walker_fini(&rn.to);
	return r;
}
