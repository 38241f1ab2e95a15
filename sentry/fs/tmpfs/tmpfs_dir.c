/* Directories of tmpfs: names in a tree by name, and by cookie for readdir. */
#include <errno.h>
#include <linux/fs.h>
#include <stdlib.h>

#include "sentry/fs/tmpfs/tmpfs_priv.h"

static int name_compare(const char *a, size_t a_len, const char *b, size_t b_len)
{
	int c = memcmp(a, b, MIN(a_len, b_len));

	return c ? c : (a_len > b_len) - (a_len < b_len);
}

static struct tmpfs_dirent *dirent_find(struct tmpfs_inode *dir, const char *name)
{
	struct rb_node *n = dir->dir.names.root;
	size_t len = strlen(name);

	while (n) {
		struct tmpfs_dirent *e = rb_entry(n, struct tmpfs_dirent, by_name);
		int c = name_compare(name, len, e->name, e->name_len);

		if (c == 0)
			return e;
		n = c < 0 ? n->left : n->right;
	}
	return NULL;
}

static void touch_dir(struct inode *dir)
{
	dir->mtime = dir->ctime = tmpfs_now();
}

/* Links e, whose name is not there yet, at the end of the directory's order. */
static void dirent_link(struct tmpfs_inode *dir, struct tmpfs_dirent *e)
{
	struct rb_node **link = &dir->dir.names.root, *parent = NULL;

	while (*link) {
		struct tmpfs_dirent *o = rb_entry(*link, struct tmpfs_dirent, by_name);

		parent = *link;
		link = name_compare(e->name, e->name_len, o->name, o->name_len) < 0 ? &parent->left :
										     &parent->right;
	}
	rb_insert(&dir->dir.names, parent, link, &e->by_name);
	e->cookie = dir->dir.next_cookie++;
	parent = rb_last(&dir->dir.cookies);
	link = parent ? &parent->right : &dir->dir.cookies.root;
	rb_insert(&dir->dir.cookies, parent, link, &e->by_cookie);
	dir->dir.count++;
	dir->inode.size += DIRENT_SIZE;
	touch_dir(&dir->inode);
}

static void dirent_unlink(struct tmpfs_inode *dir, struct tmpfs_dirent *e)
{
	rb_erase(&dir->dir.names, &e->by_name);
	rb_erase(&dir->dir.cookies, &e->by_cookie);
	dir->dir.count--;
	dir->inode.size -= DIRENT_SIZE;
	touch_dir(&dir->inode);
}

/* Takes inode's reference over on success. */
static struct tmpfs_dirent *dirent_new(const char *name, struct inode *inode)
{
	size_t len = strlen(name);
	struct tmpfs_dirent *e = malloc(sizeof(*e) + len + 1);

	if (!e)
		return NULL;
	memcpy(e->name, name, len + 1);
	e->name_len = (uint32_t)len;
	e->inode = inode;
	return e;
}

static void dirent_free(struct tmpfs_dirent *e)
{
	inode_put(e->inode);
	free(e);
}

/* The inode of a directory goes: so do its names (an unmounted tree; a removed directory is empty). */
void tmpfs_dir_fini(struct tmpfs_inode *t)
{
	struct rb_node *n;

	while ((n = rb_first(&t->dir.names))) {
		struct tmpfs_dirent *e = rb_entry(n, struct tmpfs_dirent, by_name);

		rb_erase(&t->dir.names, n);
		dirent_free(e);
	}
}

static int dir_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode)
{
	struct tmpfs_dirent *e = dirent_find(tmpfs_of(dir), name);

	(void)rest;
	if (!e)
		return -ENOENT;
	*ret_inode = inode_get(e->inode);
	return 0;
}

/* Makes an inode of any type and its name. */
static int dir_make(struct inode *dir, const char *name, uint32_t mode, dev_t rdev, const char *target,
		    const struct cred *cred, struct inode **ret_inode)
{
	struct tmpfs_inode *t;
	struct tmpfs_dirent *e;
	char *text = target ? strdup(target) : NULL;
	int r = target && !text ? -ENOMEM : tmpfs_inode_new(dir->sb, dir, mode, rdev, cred, &t);

	if (r < 0) {
		free(text);
		return r;
	}
	if (target) {
		t->target = text;
		t->inode.size = strlen(target);
	}
	e = dirent_new(name, &t->inode);
	if (!e) {
		inode_put(&t->inode);
		return -ENOMEM;
	}
	dirent_link(tmpfs_of(dir), e);
	if (S_ISDIR(mode))
		dir->nlink++;
	*ret_inode = inode_get(&t->inode);
	return 0;
}

static int dir_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		      struct inode **ret_inode)
{
	return dir_make(dir, name, mode, 0, NULL, cred, ret_inode);
}

static int dir_mknod(struct inode *dir, const char *name, uint32_t mode, dev_t rdev,
		     const struct cred *cred, struct inode **ret_inode)
{
	return dir_make(dir, name, mode, rdev, NULL, cred, ret_inode);
}

static int dir_symlink(struct inode *dir, const char *name, const char *target, const struct cred *cred,
		       struct inode **ret_inode)
{
	return dir_make(dir, name, S_IFLNK | 0777, 0, target, cred, ret_inode);
}

static int dir_tmpfile(struct inode *dir, uint32_t mode, const struct cred *cred, struct inode **ret_inode)
{
	struct tmpfs_inode *t;
	int r = tmpfs_inode_new(dir->sb, dir, mode, 0, cred, &t);

	if (r < 0)
		return r;
	t->inode.nlink = 0;
	*ret_inode = &t->inode;
	return 0;
}

static void change_nlink(struct inode *i, int by)
{
	mutex_lock_nested(&i->mu);
	i->nlink = (uint32_t)((int)i->nlink + by);
	i->ctime = tmpfs_now();
	mutex_unlock(&i->mu);
}

static int dir_link(struct inode *dir, const char *name, struct inode *target)
{
	struct tmpfs_dirent *e = dirent_new(name, target);

	if (!e)
		return -ENOMEM;
	inode_get(target);
	change_nlink(target, 1);
	dirent_link(tmpfs_of(dir), e);
	return 0;
}

static int dir_unlink(struct inode *dir, const char *name, struct inode *victim)
{
	struct tmpfs_dirent *e = dirent_find(tmpfs_of(dir), name);

	if (!e)
		return -ENOENT;
	dirent_unlink(tmpfs_of(dir), e);
	change_nlink(victim, -1);
	dirent_free(e);
	return 0;
}

/* Marks an empty directory as removed. */
static int remove_dir(struct inode *victim)
{
	int r = 0;

	mutex_lock_nested(&victim->mu);
	if (tmpfs_of(victim)->dir.count)
		r = -ENOTEMPTY;
	else
		victim->nlink = 0;
	mutex_unlock(&victim->mu);
	return r;
}

static int dir_rmdir(struct inode *dir, const char *name, struct inode *victim)
{
	struct tmpfs_dirent *e = dirent_find(tmpfs_of(dir), name);
	int r = e ? remove_dir(victim) : -ENOENT;

	if (r < 0)
		return r;
	dirent_unlink(tmpfs_of(dir), e);
	dir->nlink--;
	dirent_free(e);
	return 0;
}

static int rename_exchange(struct inode *old_dir, struct tmpfs_dirent *a, struct inode *new_dir,
			   struct tmpfs_dirent *b)
{
	struct inode *ia = a->inode, *ib = b->inode;

	a->inode = ib;
	b->inode = ia;
	if (old_dir != new_dir && S_ISDIR(ia->mode) != S_ISDIR(ib->mode)) {
		old_dir->nlink += S_ISDIR(ib->mode) ? 1 : -1u;
		new_dir->nlink += S_ISDIR(ia->mode) ? 1 : -1u;
	}
	change_nlink(ia, 0);
	change_nlink(ib, 0);
	touch_dir(old_dir);
	touch_dir(new_dir);
	return 0;
}

/* Leaves a whiteout (character device 0/0) under the old name. */
static int rename_whiteout(struct inode *dir, const char *name)
{
	const struct cred *root = cred_new_root(dir->sb->user_ns);
	struct inode *whiteout;
	int r;

	if (!root)
		return -ENOMEM;
	r = dir_make(dir, name, S_IFCHR, 0, NULL, root, &whiteout);
	cred_put(root);
	if (r == 0)
		inode_put(whiteout);
	return r;
}

static int dir_rename(struct inode *old_dir, const char *old_name, struct inode *inode, struct inode *new_dir,
		      const char *new_name, struct inode *replaced, unsigned flags)
{
	struct tmpfs_inode *od = tmpfs_of(old_dir), *nd = tmpfs_of(new_dir);
	struct tmpfs_dirent *e = dirent_find(od, old_name), *target = dirent_find(nd, new_name), *n;

	if (!e || (replaced && !target))
		return -ENOENT;
	if (flags & RENAME_EXCHANGE)
		return rename_exchange(old_dir, e, new_dir, target);
	n = dirent_new(new_name, inode);
	if (!n)
		return -ENOMEM;
	if (replaced) {
		int r = S_ISDIR(replaced->mode) ? remove_dir(replaced) : 0;

		if (r < 0) {
			free(n);
			return r;
		}
		dirent_unlink(nd, target);
		if (S_ISDIR(replaced->mode))
			new_dir->nlink--;
		else
			change_nlink(replaced, -1);
		dirent_free(target);
	}
	inode_get(inode);
	dirent_unlink(od, e);
	dirent_free(e);
	dirent_link(nd, n);
	if (S_ISDIR(inode->mode) && old_dir != new_dir) {
		old_dir->nlink--;
		new_dir->nlink++;
	}
	change_nlink(inode, 0);
	return flags & RENAME_WHITEOUT ? rename_whiteout(old_dir, old_name) : 0;
}

const struct inode_ops tmpfs_dir_inode_ops = {
	.name = "tmpfs directory",
	.free = tmpfs_free_inode,
	.lookup = dir_lookup,
	.create = dir_create,
	.mkdir = dir_create,
	.mknod = dir_mknod,
	.symlink = dir_symlink,
	.link = dir_link,
	.unlink = dir_unlink,
	.rmdir = dir_rmdir,
	.rename = dir_rename,
	.tmpfile = dir_tmpfile,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
};

/* First entry with a cookie >= cookie. */
static struct tmpfs_dirent *dirent_from(struct tmpfs_inode *dir, int64_t cookie)
{
	struct rb_node *n = dir->dir.cookies.root;
	struct tmpfs_dirent *best = NULL;

	while (n) {
		struct tmpfs_dirent *e = rb_entry(n, struct tmpfs_dirent, by_cookie);

		if (e->cookie >= cookie) {
			best = e;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

static int dir_iterate(struct file *f, struct dir_emit *d, int64_t *pos)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);
	struct tmpfs_dirent *e;

	GUARD(mutex, &f->inode->mu);
	for (e = dirent_from(t, *pos); e;) {
		struct rb_node *next = rb_next(&e->by_cookie);

		if (!d->emit(d, e->name, e->name_len, e->inode->ino, (uint8_t)(e->inode->mode >> 12 & 15),
			     e->cookie + 1))
			break;
		*pos = e->cookie + 1;
		e = next ? rb_entry(next, struct tmpfs_dirent, by_cookie) : NULL;
	}
	return 0;
}

const struct file_ops tmpfs_dir_file_ops = { .name = "tmpfs directory", .iterate = dir_iterate };
