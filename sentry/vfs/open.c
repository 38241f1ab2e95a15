/* Opening: open files, their birth and end; open(2), openat2(2). */
#include <stdlib.h>

#include <poll.h>
#include <sys/inotify.h>

#include "sentry/vfs/vfs_priv.h"

#define O_ACC_NONE 3 /* access mode 3: checks both permissions, gives neither (open(2)) */

void (*file_epoll_release)(struct file *f);
void (*file_owner_free)(struct file_owner *o);

/* O_PATH files answer nothing but what the place itself answers. */
static const struct file_ops opath_file_ops = { .name = "path" };

int file_new(const struct path *p, struct inode *inode, const struct file_ops *ops, int flags,
	     const struct cred *cred, struct file **ret_file)
{
	struct file *f = malloc(sizeof(*f));

	if (!f)
		return -ENOMEM;
	*f = (struct file){ .ops = ops, .path = *p, .inode = inode_get(inode), .cred = cred_get(cred) };
	refcount_init(&f->refs, 1);
	atomic_init(&f->flags, flags);
	mutex_init(&f->pos_mu, LOCK_FILE_POS);
	list_init(&f->epoll_items);
	path_get(&f->path);
	*ret_file = f;
	return 0;
}

int path_new_anon(struct inode *inode, const char *name, struct path *ret_path)
{
	struct dentry *d = dentry_new_root(inode->sb, inode, name);

	if (!d)
		return -ENOMEM;
	*ret_path = (struct path){ NULL, d };
	return 0;
}

int file_new_anon(const struct file_ops *ops, const char *name, uint32_t mode, int flags,
		  const struct cred *cred, void *data, struct file **ret_file)
{
	struct inode *inode = malloc(sizeof(*inode));
	struct path p;
	int r;

	if (!inode)
		return -ENOMEM;
	inode_init(inode, &anon_inode_ops, &anon_superblock, ino_next(), mode);
	inode->uid = cred->fsuid;
	inode->gid = cred->fsgid;
	inode->fops = ops;
	r = path_new_anon(inode, name, &p);
	if (r == 0) {
		r = file_new(&p, inode, ops, flags, cred, ret_file);
		path_put(&p);
	}
	inode_put(inode);
	if (r == 0)
		(*ret_file)->data = data;
	return r;
}

struct file *file_get(struct file *f)
{
	refcount_get(&f->refs);
	return f;
}

bool file_try_get(struct file *f)
{
	return refcount_try_get(&f->refs);
}

static void file_destroy(struct file *f)
{
	int flags = atomic_load(&f->flags);

	if (f->epoll_count && file_epoll_release)
		file_epoll_release(f);
	if (f->owner)
		file_owner_free(f->owner);
	if (f->inode->locks)
		file_locks_release_file(f);
	if (notify_watch_total && !(flags & O_PATH))
		notify_file(f, (flags & O_ACCMODE) == O_RDONLY ? IN_CLOSE_NOWRITE : IN_CLOSE_WRITE);
	if (f->ops->release && !(flags & O_PATH))
		f->ops->release(f);
	if (f->write_access)
		inode_put_write_access(f->inode);
	if (f->denies_write)
		file_allow_write(f);
	inode_put(f->inode);
	path_put(&f->path);
	cred_put(f->cred);
	mutex_fini(&f->pos_mu);
	free(f);
}

/* Drops a reference; the last one closes the file. NULL is fine. No locks above INODE held. */
void file_put(struct file *f)
{
	if (f && refcount_put(&f->refs))
		file_destroy(f);
}

/* Permission bits that an open with flags needs of an existing file. */
static unsigned open_mask(int flags)
{
	static const unsigned mask[] = { MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE };
	unsigned m = mask[flags & O_ACCMODE];

	if (flags & VFS_O_EXEC)
		m = (m & ~MAY_READ) | MAY_EXEC;
	return flags & O_TRUNC ? m | MAY_WRITE : m;
}

/* Type and mount checks of an existing file, then permissions. */
static int may_open(const struct path *p, const struct cred *cred, int flags, bool created)
{
	struct inode *i = p->dentry->inode;
	unsigned mask = open_mask(flags);
	bool device = S_ISCHR(i->mode) || S_ISBLK(i->mode);

	if (S_ISLNK(i->mode))
		return -ELOOP;
	if (S_ISDIR(i->mode) && (mask & MAY_WRITE || flags & O_CREAT))
		return -EISDIR;
	if (S_ISDIR(i->mode) && flags & VFS_O_EXEC)
		return -EACCES;
	if (flags & O_DIRECTORY && !S_ISDIR(i->mode))
		return -ENOTDIR;
	if (device && p->mnt && p->mnt->flags & MS_NODEV)
		return -EACCES;
	if (flags & VFS_O_EXEC && (!S_ISREG(i->mode) || (p->mnt && p->mnt->flags & MS_NOEXEC)))
		return -EACCES;
	if (mask & MAY_WRITE && !device && !S_ISFIFO(i->mode) && !S_ISSOCK(i->mode) && mount_readonly(p->mnt))
		return -EROFS;
	if (!created) {
		int r = i->ops->refresh ? i->ops->refresh(i) : 0;

		if (r == 0)
			r = inode_permission(i, cred, mask);
		if (r < 0)
			return r;
	}
	if (flags & O_NOATIME && !inode_owner_or_capable(i, cred))
		return -EPERM;
	return 0;
}

/* Calls the opener of the inode's type. */
static int open_by_type(struct inode *i, struct file *f)
{
	const struct chrdev *d;

	if (!i->ops->special_open) {
		switch (i->mode & S_IFMT) {
		case S_IFIFO:
			return fifo_open_hook ? fifo_open_hook(i, f) : -ENXIO;
		case S_IFCHR:
			d = chrdev_find(i->rdev);
			return d ? d->open(i, f) : -ENXIO;
		case S_IFBLK:
		case S_IFSOCK:
			return -ENXIO;
		default:
			break;
		}
	}
	return i->ops->open ? i->ops->open(i, f) : 0;
}

/* Makes the file of a checked place. O_TRUNC happens here, after the write access is counted. */
static int open_checked(const struct path *p, const struct cred *cred, int flags, bool created,
			struct file **ret_file)
{
	struct inode *i = p->dentry->inode;
	bool writes = (flags & O_ACCMODE) == O_WRONLY || (flags & O_ACCMODE) == O_RDWR;
	bool truncates = flags & O_TRUNC && S_ISREG(i->mode) && !created;
	struct file *f;
	int r = file_new(p, i, i->fops, flags & ~(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC), cred, &f);

	if (r < 0)
		return r;
	if (S_ISREG(i->mode) && (writes || truncates)) {
		r = inode_get_write_access(i);
		f->write_access = r == 0;
	} else if (S_ISREG(i->mode) && flags & VFS_O_EXEC) {
		r = file_deny_write(f);
		f->denies_write = r == 0;
	}
	f->created = created;
	if (r == 0 && truncates)
		r = vfs_truncate_inode(i, cred, 0);
	if (r == 0) {
		/* Terminals want to know; it is no flag of the open file. */
		atomic_fetch_or(&f->flags, flags & O_NOCTTY);
		r = open_by_type(i, f);
		atomic_fetch_and(&f->flags, ~O_NOCTTY);
	}
	if (r == 0 && !f->ops)
		r = -ENXIO;
	if (r < 0) {
		f->ops = &opath_file_ops; /* not opened: nothing to release */
		atomic_fetch_or(&f->flags, O_PATH);
		file_put(f);
		return r;
	}
	if (notify_watch_total) {
		if (truncates)
			notify_file(f, IN_MODIFY);
		notify_file(f, IN_OPEN);
	}
	*ret_file = f;
	return 0;
}

int vfs_open_path(const struct path *p, const struct cred *cred, int flags, struct file **ret_file)
{
	int r;

	if (flags & O_PATH)
		return file_new(p, p->dentry->inode, &opath_file_ops,
				flags & (O_PATH | O_DIRECTORY | O_NOFOLLOW), cred, ret_file);
	r = may_open(p, cred, flags, false);
	if (r < 0)
		return r;
	return open_checked(p, cred, flags, false, ret_file);
}

/* O_TMPFILE: an unnamed file in the directory p. */
static int open_tmpfile(const struct walk *w, const struct path *p, int flags, uint32_t mode,
			struct file **ret_file)
{
	struct inode *dir = p->dentry->inode, *inode;
	struct path anon;
	char name[32];
	int r;

	if ((flags & O_ACCMODE) == O_RDONLY || (flags & O_ACCMODE) == O_ACC_NONE)
		return -EINVAL;
	if (mount_readonly(p->mnt))
		return -EROFS;
	r = inode_permission(dir, w->cred, MAY_WRITE | MAY_EXEC);
	if (r < 0)
		return r;
	if (!dir->ops->tmpfile)
		return -EOPNOTSUPP;
	mutex_lock(&dir->mu);
	r = dir->ops->tmpfile(dir, S_IFREG | (mode & 07777 & ~w->umask), w->cred, &inode);
	mutex_unlock(&dir->mu);
	if (r < 0)
		return r;
	inode->linkable = !(flags & O_EXCL);
	snprintf(name, sizeof(name), "#%llu", (unsigned long long)inode->ino);
	anon.dentry = dentry_new_root(inode->sb, inode, name);
	if (anon.dentry) {
		anon.mnt = p->mnt ? mount_get(p->mnt) : NULL;
		anon.dentry->parent = dentry_get(p->dentry); /* fresh: nobody else sees it yet */
		r = open_checked(&anon, w->cred, flags & ~(O_DIRECTORY | O_TMPFILE), true, ret_file);
		path_put(&anon);
	} else {
		r = -ENOMEM;
	}
	inode_put(inode);
	return r;
}

/* open without O_CREAT. */
static int open_existing(const struct walk *w, const char *pathname, unsigned walk_flags, int flags,
			 uint32_t mode, struct file **ret_file)
{
	struct path p;
	int r;

	if (flags & O_DIRECTORY)
		walk_flags |= WALK_DIRECTORY;
	if (!(flags & O_NOFOLLOW))
		walk_flags |= WALK_FOLLOW;
	r = vfs_walk(w, pathname, walk_flags, &p);
	if (r < 0)
		return r;
	if ((flags & O_TMPFILE) == O_TMPFILE)
		r = open_tmpfile(w, &p, flags, mode, ret_file);
	else
		r = vfs_open_path(&p, w->cred, flags, ret_file);
	path_put(&p);
	return r;
}

/* Makes the file named by the last component unless it exists by now: 1 and the path in *ret_path when
 * made, 0 when it exists. */
static int create_last(struct walker *wk, uint32_t mode, struct path *ret_path)
{
	struct dentry *dir = wk->cur.dentry, *d = NULL;
	struct inode *inode = NULL;
	int r;

	GUARD(mutex, &dir->inode->mu);
	r = walker_locked_child(wk, &d);
	if (r < 0)
		return r;
	if (d->inode) {
		dentry_put(d);
		return 0;
	}
	if (mount_readonly(wk->cur.mnt))
		r = -EROFS;
	if (r == 0)
		r = inode_may_create(dir, wk->w->cred);
	if (r == 0)
		r = dir->inode->ops->create ?
			    dir->inode->ops->create(dir->inode, wk->name,
						    S_IFREG | (mode & 07777 & ~wk->w->umask),
						    wk->w->cred, &inode) :
			    -EACCES;
	if (r < 0) {
		dentry_put(d);
		return r;
	}
	dentry_instantiate(d, inode);
	notify_dir(dir->inode, IN_CREATE, 0, wk->name);
	*ret_path = (struct path){ wk->cur.mnt ? mount_get(wk->cur.mnt) : NULL, d };
	return 1;
}

/* One round of open with O_CREAT, at the last component: 1 when a link was followed and the walk goes
 * on, 0 done, or an error. */
static int open_create_last(struct walker *wk, int flags, uint32_t mode, struct file **ret_file)
{
	struct path p;
	bool created = false;
	int r;

	if (wk->slash)
		return -EISDIR;
	r = walker_child(wk, &p);
	if (r < 0)
		return r;
	if (!p.dentry->inode) {
		path_put(&p);
		r = create_last(wk, mode, &p);
		if (r < 0)
			return r;
		created = r == 1;
		if (!created) { /* somebody else was faster */
			r = walker_child(wk, &p);
			if (r < 0)
				return r;
		}
	}
	r = 0;
	if (!p.dentry->inode)
		r = -ENOENT;
	else if (!created && flags & O_EXCL)
		r = -EEXIST;
	else if (!created && S_ISLNK(p.dentry->inode->mode) && !(flags & O_NOFOLLOW)) {
		r = walker_follow(wk, &p);
		return r < 0 ? r : 1;
	}
	if (r == 0)
		r = may_open(&p, wk->w->cred, flags, created);
	if (r == 0)
		r = open_checked(&p, wk->w->cred, flags, created, ret_file);
	path_put(&p);
	return r;
}

static int open_create(const struct walk *w, const char *pathname, unsigned walk_flags, int flags,
		       uint32_t mode, struct file **ret_file)
{
	struct walker wk;
	int r = walker_init(&wk, w, pathname, walk_flags);

	if (r < 0)
		return r;
	do {
		r = walker_parent(&wk);
		if (r < 0)
			break;
		if (wk.last == LAST_NORM) {
			r = open_create_last(&wk, flags, mode, ret_file);
			continue;
		}
		/* A directory, or where a magic link led. */
		r = walker_finish_dots(&wk);
		if (r == 0 && flags & O_EXCL)
			r = -EEXIST;
		if (r == 0)
			r = may_open(&wk.cur, w->cred, flags, false);
		if (r == 0)
			r = open_checked(&wk.cur, w->cred, flags, false, ret_file);
	} while (r == 1);
	walker_fini(&wk);
	return r;
}

int vfs_open(const struct walk *w, const char *pathname, unsigned walk_flags, int flags, uint32_t mode,
	     struct file **ret_file)
{
	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if ((flags & O_CREAT) && (flags & O_DIRECTORY))
		return -EINVAL;
	if (flags & O_CREAT)
		return retry_stale(open_create(w, pathname, walk_flags, flags, mode, ret_file));
	return retry_stale(open_existing(w, pathname, walk_flags, flags, mode, ret_file));
}
