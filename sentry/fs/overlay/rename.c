/* Rename in the union: everything happens in the upper tree; whiteouts keep the lower one covered. */
#include <linux/fs.h>

#include "sentry/fs/overlay/overlay_priv.h"

struct move {
	struct overlay_inode *old_dir, *new_dir, *o, *replaced;
	const char *old_name, *new_name;
	int hides_old, hides_new; /* does that name cover a lower entry? */
	bool whiteout; /* the new name was one */
};

/* A file of the union with another name below may lack this one in the upper directory: give it. */
static int upper_ensure_name(struct overlay_inode *dir, const char *name, struct overlay_inode *o)
{
	struct inode *upper_dir = overlay_upper(dir), *upper = overlay_upper(o), *entry;
	int r = upper_find(dir, name, &entry);

	if (r < 0)
		return r;
	if (entry) {
		inode_put(entry);
		return 0;
	}
	mutex_lock_nested(&upper_dir->mu);
	upper->linkable = true;
	r = upper_dir->ops->link ? upper_dir->ops->link(upper_dir, name, upper) : -EPERM;
	upper->linkable = false;
	mutex_unlock(&upper_dir->mu);
	return r;
}

/* The rename itself, between upper directories. replaced may be NULL. */
static int upper_rename(const struct move *m, struct inode *replaced, unsigned flags)
{
	struct inode *from = overlay_upper(m->old_dir), *to = overlay_upper(m->new_dir);
	struct inode *first = from < to ? from : to, *second = from < to ? to : from;
	int r;

	mutex_lock_nested(&first->mu);
	if (second != first)
		mutex_lock_nested(&second->mu);
	r = from->ops->rename ? from->ops->rename(from, m->old_name, overlay_upper(m->o), to,
						  m->new_name, replaced, flags) :
				-EPERM;
	if (second != first)
		mutex_unlock(&second->mu);
	mutex_unlock(&first->mu);
	return r;
}

/* Everything that the move needs in the upper tree, and what the names cover. */
static int move_prepare(struct move *m, bool exchange)
{
	int r = overlay_copy_up(m->o, UINT64_MAX);

	if (r == 0)
		r = overlay_copy_up(m->old_dir, 0);
	if (r == 0)
		r = overlay_copy_up(m->new_dir, 0);
	if (r == 0 && exchange)
		r = overlay_copy_up(m->replaced, UINT64_MAX);
	if (r == 0)
		r = m->hides_old = name_hides(m->old_dir, m->old_name, m->o);
	if (r >= 0 && m->replaced)
		r = m->hides_new = name_hides(m->new_dir, m->new_name, m->replaced);
	if (r >= 0)
		r = upper_ensure_name(m->old_dir, m->old_name, m->o);
	if (r == 0 && exchange)
		r = upper_ensure_name(m->new_dir, m->new_name, m->replaced);
	return r;
}

/* What the new place means for o. */
static void moved_to(struct overlay_inode *o, int hides)
{
	if (o->lower)
		o->moved = true;
	else
		o->hides = hides;
}

static int move_exchange(struct move *m)
{
	int r = upper_rename(m, overlay_upper(m->replaced), RENAME_EXCHANGE);

	if (r < 0)
		return r;
	moved_to(m->o, m->hides_new);
	moved_to(m->replaced, m->hides_old);
	return 0;
}

static int move_over(struct move *m)
{
	struct inode *entry = NULL;
	int r;

	if (!m->replaced) {
		r = whiteout_remove(m->new_dir, m->new_name);
		if (r < 0)
			return r;
		m->hides_new = r;
		m->whiteout = r == 1;
	}
	r = upper_find(m->new_dir, m->new_name, &entry);
	if (r < 0)
		return r;
	r = upper_rename(m, entry, 0);
	inode_put(entry);
	if (r < 0) {
		if (m->whiteout && whiteout_make(m->new_dir, m->new_name) < 0)
			return -EIO;
		return r;
	}
	if (m->hides_old)
		r = whiteout_make(m->old_dir, m->old_name);
	moved_to(m->o, m->hides_new);
	return r;
}

/* A directory that gets replaced must show nothing, and stay so until it is gone. */
static int move_over_dir(struct move *m)
{
	struct inode *i = &m->replaced->inode;
	int r;

	mutex_lock_nested(&i->mu);
	r = overlay_clear_dir(m->replaced);
	if (r == 0)
		r = move_over(m);
	if (r == 0)
		i->nlink = 0;
	mutex_unlock(&i->mu);
	return r;
}

static void sync_ctime(struct overlay_inode *o)
{
	mutex_lock_nested(&o->inode.mu);
	overlay_sync_locked(o, false);
	mutex_unlock(&o->inode.mu);
}

int overlay_rename(struct inode *old_dir, const char *old_name, struct inode *inode,
		   struct inode *new_dir, const char *new_name, struct inode *replaced,
		   unsigned flags)
{
	struct move m = { .old_dir = overlay_inode_of(old_dir),
			  .new_dir = overlay_inode_of(new_dir),
			  .o = overlay_inode_of(inode),
			  .replaced = replaced ? overlay_inode_of(replaced) : NULL,
			  .old_name = old_name,
			  .new_name = new_name };
	bool exchange = flags & RENAME_EXCHANGE;
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	if (inode == replaced)
		return 0;
	/* As overlayfs without redirect_dir: callers copy the directory themselves. */
	if ((S_ISDIR(inode->mode) && m.o->lower) ||
	    (exchange && S_ISDIR(replaced->mode) && m.replaced->lower))
		return -EXDEV;
	r = move_prepare(&m, exchange);
	if (r < 0)
		return r;
	if (exchange)
		r = move_exchange(&m);
	else if (replaced && S_ISDIR(replaced->mode))
		r = move_over_dir(&m);
	else
		r = move_over(&m);
	overlay_dir_changed(m.old_dir);
	if (m.new_dir != m.old_dir)
		overlay_dir_changed(m.new_dir);
	if (r < 0)
		return r;
	sync_ctime(m.o);
	if (exchange)
		sync_ctime(m.replaced);
	else if (replaced)
		overlay_lost_name(m.replaced);
	return 0;
}
