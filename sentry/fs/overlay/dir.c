/* Names in the union: lookup, making and removing, whiteouts. */
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/overlay_priv.h"

int upper_find(struct overlay_inode *dir, const char *name, struct inode **ret_inode)
{
	struct inode *upper = overlay_upper(dir);
	int r;

	*ret_inode = NULL;
	if (!upper)
		return 0;
	mutex_lock_nested(&upper->mu);
	r = upper->ops->lookup(upper, name, "", ret_inode);
	mutex_unlock(&upper->mu);
	return r == -ENOENT ? 0 : r;
}

/* The lower entry of that name: 0 with a reference, -ENOENT. */
static int lower_find(struct overlay_inode *dir, const char *name, const char *rest,
		      struct inode **ret_inode)
{
	int r;

	if (!dir->lower || dir->opaque)
		return -ENOENT;
	mutex_lock_nested(&dir->lower->mu);
	r = dir->lower->ops->lookup ? dir->lower->ops->lookup(dir->lower, name, rest, ret_inode) :
				      -ENOTDIR;
	mutex_unlock(&dir->lower->mu);
	return r;
}

/* An upper inode that was there before the overlay was made. Takes the reference over. */
static int adopt_upper(struct overlay_inode *dir, const char *name, struct inode *upper,
		       struct inode **ret_inode)
{
	struct inode *lower = NULL;
	char value;
	bool opaque = false;
	int r;

	if (S_ISDIR(upper->mode)) {
		if (upper->ops->getxattr) {
			mutex_lock_nested(&upper->mu);
			opaque = upper->ops->getxattr(upper, "trusted.overlay.opaque", &value, 1) == 1 &&
				 value == 'y';
			mutex_unlock(&upper->mu);
		}
		r = opaque ? -ENOENT : lower_find(dir, name, "", &lower);
		if (r == 0 && !S_ISDIR(lower->mode)) {
			inode_put(lower);
			lower = NULL;
		}
		if (r < 0 && r != -ENOENT) {
			inode_put(upper);
			return r;
		}
	}
	r = overlay_inode_get(dir->fs, lower, upper, dir, name, ret_inode);
	if (r == 0) {
		/* Whether the name covers something below is looked up when it matters. */
		overlay_inode_of(*ret_inode)->moved = true;
		overlay_pin(overlay_inode_of(*ret_inode));
	}
	return r;
}

int overlay_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir), *known;
	struct inode *upper, *lower;
	int r = upper_find(o, name, &upper);

	if (r < 0)
		return r;
	if (upper && is_whiteout(upper)) {
		inode_put(upper);
		return -ENOENT;
	}
	if (upper) {
		known = overlay_find_upper(o->fs, upper);
		if (!known)
			return adopt_upper(o, name, upper, ret_inode);
		inode_put(upper);
		*ret_inode = &known->inode;
		return 0;
	}
	r = lower_find(o, name, rest, &lower);
	if (r < 0)
		return r;
	return overlay_inode_get(o->fs, lower, NULL, o, name, ret_inode);
}

int whiteout_remove(struct overlay_inode *dir, const char *name)
{
	struct inode *upper = overlay_upper(dir), *entry;
	int r = upper_find(dir, name, &entry);

	if (r < 0 || !entry)
		return r;
	if (is_whiteout(entry)) {
		mutex_lock_nested(&upper->mu);
		r = upper->ops->unlink(upper, name, entry);
		mutex_unlock(&upper->mu);
		r = r < 0 ? r : 1;
	}
	inode_put(entry);
	return r;
}

int whiteout_make(struct overlay_inode *dir, const char *name)
{
	struct inode *upper = overlay_upper(dir), *whiteout = NULL;
	int r;

	mutex_lock_nested(&upper->mu);
	r = upper->ops->mknod(upper, name, S_IFCHR, 0, dir->fs->cred, &whiteout);
	mutex_unlock(&upper->mu);
	if (r == 0)
		inode_put(whiteout);
	return r;
}

int name_hides(struct overlay_inode *dir, const char *name, const struct overlay_inode *o)
{
	struct inode *lower;
	int r;

	if (!dir->lower || dir->opaque)
		return 0;
	if (o->lower && o->parent == dir && strcmp(o->name, name) == 0)
		return 1;
	if (!o->lower && !o->moved)
		return o->hides;
	r = lower_find(dir, name, "", &lower);
	if (r == 0)
		inode_put(lower);
	return r == 0 ? 1 : r == -ENOENT ? 0 : r;
}

void overlay_dir_changed(struct overlay_inode *dir)
{
	overlay_sync_locked(dir, false);
}

/* Upper directory ready and the name free of a whiteout: 1 when it had one, 0, or -errno. */
static int make_ready(struct overlay_inode *dir, const char *name)
{
	int r = overlay_copy_up(dir, 0);

	return r < 0 ? r : whiteout_remove(dir, name);
}

/* Ends the making of an upper inode (reference taken over): its overlay inode, or the whiteout back. */
static int make_done(struct overlay_inode *dir, const char *name, int r, bool hid,
		     struct inode *upper, struct inode **ret_inode)
{
	struct overlay_inode *o;

	if (r < 0) {
		if (hid && whiteout_make(dir, name) < 0)
			return -EIO;
		return r;
	}
	r = overlay_inode_get(dir->fs, NULL, upper, NULL, NULL, ret_inode);
	if (r < 0)
		return r;
	o = overlay_inode_of(*ret_inode);
	o->hides = hid;
	overlay_pin(o);
	overlay_dir_changed(dir);
	return 0;
}

int overlay_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		   struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir);
	struct inode *upper, *made = NULL;
	int hid = make_ready(o, name), r;

	if (hid < 0)
		return hid;
	upper = overlay_upper(o);
	mutex_lock_nested(&upper->mu);
	r = upper->ops->create(upper, name, mode, cred, &made);
	mutex_unlock(&upper->mu);
	return make_done(o, name, r, hid, made, ret_inode);
}

int overlay_mkdir(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		  struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir);
	struct inode *upper, *made = NULL;
	int hid = make_ready(o, name), r;

	if (hid < 0)
		return hid;
	upper = overlay_upper(o);
	mutex_lock_nested(&upper->mu);
	r = upper->ops->mkdir(upper, name, mode, cred, &made);
	mutex_unlock(&upper->mu);
	/* Not merged with what the whiteout hid: the overlay inode has nothing below. For other readers of
	 * the upper tree the same is written down. */
	if (r == 0 && hid && made->ops->setxattr) {
		mutex_lock_nested(&made->mu);
		if (made->ops->setxattr(made, "trusted.overlay.opaque", "y", 1, 0) < 0)
			hid = 1;
		mutex_unlock(&made->mu);
	}
	return make_done(o, name, r, hid, made, ret_inode);
}

int overlay_mknod(struct inode *dir, const char *name, uint32_t mode, dev_t rdev,
		  const struct cred *cred, struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir);
	struct inode *upper, *made = NULL;
	int hid, r;

	/* It would be taken for a whiteout. */
	if (S_ISCHR(mode) && rdev == 0)
		return -EPERM;
	hid = make_ready(o, name);
	if (hid < 0)
		return hid;
	upper = overlay_upper(o);
	mutex_lock_nested(&upper->mu);
	r = upper->ops->mknod(upper, name, mode, rdev, cred, &made);
	mutex_unlock(&upper->mu);
	return make_done(o, name, r, hid, made, ret_inode);
}

int overlay_symlink(struct inode *dir, const char *name, const char *target,
		    const struct cred *cred, struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir);
	struct inode *upper, *made = NULL;
	int hid = make_ready(o, name), r;

	if (hid < 0)
		return hid;
	upper = overlay_upper(o);
	mutex_lock_nested(&upper->mu);
	r = upper->ops->symlink(upper, name, target, cred, &made);
	mutex_unlock(&upper->mu);
	return make_done(o, name, r, hid, made, ret_inode);
}

int overlay_tmpfile(struct inode *dir, uint32_t mode, const struct cred *cred,
		    struct inode **ret_inode)
{
	struct overlay_inode *o = overlay_inode_of(dir);
	struct inode *upper, *made = NULL;
	int r = overlay_copy_up(o, 0);

	if (r < 0)
		return r;
	upper = overlay_upper(o);
	if (!upper->ops->tmpfile)
		return -EOPNOTSUPP;
	mutex_lock_nested(&upper->mu);
	r = upper->ops->tmpfile(upper, mode, cred, &made);
	mutex_unlock(&upper->mu);
	return r < 0 ? r : overlay_inode_get(o->fs, NULL, made, NULL, NULL, ret_inode);
}

int overlay_link(struct inode *dir, const char *name, struct inode *target)
{
	struct overlay_inode *od = overlay_inode_of(dir), *o = overlay_inode_of(target);
	struct inode *upper_dir, *upper;
	bool first = target->nlink == 0;
	int r = overlay_copy_up(o, UINT64_MAX), hid;

	if (r < 0)
		return r;
	hid = make_ready(od, name);
	if (hid < 0)
		return hid;
	upper_dir = overlay_upper(od);
	upper = overlay_upper(o);
	if (first)
		upper->linkable = true;
	mutex_lock_nested(&upper_dir->mu);
	r = upper_dir->ops->link ? upper_dir->ops->link(upper_dir, name, upper) : -EPERM;
	mutex_unlock(&upper_dir->mu);
	upper->linkable = false;
	if (r < 0)
		return hid && whiteout_make(od, name) < 0 ? -EIO : r;
	mutex_lock_nested(&target->mu);
	if (o->lower || first)
		target->nlink++;
	overlay_sync_locked(o, false);
	mutex_unlock(&target->mu);
	if (first)
		o->hides = hid;
	else
		o->moved = true;
	overlay_pin(o);
	overlay_dir_changed(od);
	return 0;
}

void overlay_lost_name(struct overlay_inode *o)
{
	struct inode *i = &o->inode, *upper = overlay_upper(o);

	mutex_lock_nested(&i->mu);
	if (S_ISDIR(i->mode))
		i->nlink = 0;
	else if (o->lower && i->nlink)
		i->nlink--;
	else if (!o->lower)
		i->nlink = upper->nlink;
	if (upper)
		overlay_sync_locked(o, false);
	mutex_unlock(&i->mu);
	if (i->nlink)
		o->moved = true;
	else
		overlay_unpin(o);
}

/* Takes the name out of the upper directory if it is there, and covers what is below. */
static int remove_name(struct overlay_inode *dir, const char *name, struct overlay_inode *o)
{
	struct inode *upper_dir, *entry;
	bool is_dir = S_ISDIR(o->inode.mode);
	int hides, r = overlay_copy_up(dir, 0);

	if (r < 0)
		return r;
	hides = name_hides(dir, name, o);
	if (hides < 0)
		return hides;
	r = upper_find(dir, name, &entry);
	if (r < 0)
		return r;
	upper_dir = overlay_upper(dir);
	if (entry) {
		mutex_lock_nested(&upper_dir->mu);
		r = is_dir ? upper_dir->ops->rmdir(upper_dir, name, entry) :
			     upper_dir->ops->unlink(upper_dir, name, entry);
		mutex_unlock(&upper_dir->mu);
		inode_put(entry);
	}
	if (r == 0 && hides)
		r = whiteout_make(dir, name);
	return r;
}

int overlay_unlink(struct inode *dir, const char *name, struct inode *victim)
{
	struct overlay_inode *od = overlay_inode_of(dir), *o = overlay_inode_of(victim);
	int r = remove_name(od, name, o);

	if (r < 0)
		return r;
	overlay_lost_name(o);
	overlay_dir_changed(od);
	return 0;
}

int overlay_rmdir(struct inode *dir, const char *name, struct inode *victim)
{
	struct overlay_inode *od = overlay_inode_of(dir), *o = overlay_inode_of(victim);
	int r;

	mutex_lock_nested(&victim->mu);
	r = overlay_clear_dir(o);
	if (r == 0)
		r = remove_name(od, name, o);
	if (r == 0)
		victim->nlink = 0;
	mutex_unlock(&victim->mu);
	if (r < 0)
		return r;
	overlay_unpin(o);
	overlay_dir_changed(od);
	return 0;
}
