/* mount(2), umount2(2), pivot_root(2) and the moves of the new mount API on top of mount.c. */
#include <stdlib.h>

#include "sentry/vfs/mount_priv.h"

#define PROPAGATION_FLAGS (MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE)

static bool may_mount(const struct walk *w)
{
	return w->mnt_ns && cred_capable(w->cred, w->mnt_ns->owner, CAP_SYS_ADMIN);
}

static bool is_mount_root(const struct path *p)
{
	return p->mnt && p->dentry == p->mnt->root;
}

/* Attaches a new detached tree (its reference passes on success) on *at. */
static int attach_checked(struct mount *tree, const struct path *at, const struct mnt_ns *ns)
{
	int r;

	GUARD(mutex, &mount_mu);
	if (!at->mnt || !at->mnt->ns || (ns && at->mnt->ns != ns))
		return -EINVAL;
	if (S_ISDIR(tree->root->inode->mode) != S_ISDIR(at->dentry->inode->mode))
		return -ENOTDIR;
	if (at->dentry->parent && !at->dentry->hashed)
		return -ENOENT;
	r = mount_attach_propagate_locked(tree, at);
	return r;
}

/* Gives up a tree that could not be attached. */
static void discard_tree(struct mount *tree)
{
	struct list_node dead = LIST_INIT(dead);

	mutex_lock(&mount_mu);
	mount_detach_tree_locked(tree, &dead);
	mutex_unlock(&mount_mu);
	mounts_release(&dead);
}

int vfs_mount_sb(struct superblock *sb, const struct path *target, uint64_t mnt_flags, const char *source,
		 struct mount **ret_mnt)
{
	struct mount *m;
	int r = superblock_root(sb);

	if (r < 0)
		return r;
	m = mount_new(sb, sb->root_dentry, mnt_flags, source);
	if (!m)
		return -ENOMEM;
	if (target) {
		if (ret_mnt)
			mount_get(m);
		r = attach_checked(m, target, NULL);
		if (r < 0) {
			discard_tree(m);
			if (ret_mnt)
				mount_put(m);
			return r;
		}
	}
	if (ret_mnt)
		*ret_mnt = m;
	return 0;
}

static int mount_new_fs(const struct walk *w, const char *source, const struct path *at,
			const char *fstype, uint64_t flags, const char *data)
{
	const struct fs_type *t = fs_type_find(fstype);
	struct superblock *sb;
	int r;

	if (!t)
		return -ENODEV;
	if (!t->user_mountable && !cred_capable(w->cred, &root_user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	r = t->mount(t, source, flags, data, w->cred, &sb);
	if (r < 0)
		return r;
	/* Both the mount and what is mounted are read-only then (mount(2)). */
	sb->readonly |= (flags & MS_RDONLY) != 0;
	r = vfs_mount_sb(sb, at, flags, source, NULL);
	superblock_put(sb);
	return r;
}

static int mount_bind(const struct walk *w, const char *source, const struct path *at, bool recursive)
{
	struct mount *tree = NULL;
	struct path from;
	int r;

	if (!source)
		return -EINVAL;
	r = vfs_walk(w, source, WALK_FOLLOW, &from);
	if (r < 0)
		return r;
	mutex_lock(&mount_mu);
	if (!from.mnt || (from.mnt->ns && from.mnt->ns != w->mnt_ns) || from.mnt->unbindable)
		r = -EINVAL;
	else
		r = mount_clone_tree_locked(from.mnt, from.dentry, recursive, 0, &tree);
	mutex_unlock(&mount_mu);
	if (r == 0) {
		r = attach_checked(tree, at, w->mnt_ns);
		if (r < 0)
			discard_tree(tree);
	}
	path_put(&from);
	return r;
}

/* May the flags of m be changed to flags? Locked ones may not be cleared. */
static int set_flags_locked(struct mount *m, uint64_t flags)
{
	if (m->locked_flags & ~flags)
		return -EPERM;
	m->flags = flags & MOUNT_FLAGS;
	return 0;
}

static int mount_remount(const struct path *at, uint64_t flags, const struct cred *cred)
{
	struct superblock *sb = at->dentry->sb;
	int r;

	if (!is_mount_root(at))
		return -EINVAL;
	GUARD(mutex, &mount_mu);
	if (!(flags & (MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME)))
		flags |= at->mnt->flags & (MS_NOATIME | MS_RELATIME | MS_STRICTATIME | MS_NODIRATIME);
	if (flags & MS_BIND)
		return set_flags_locked(at->mnt, flags);
	if (!cred_capable(cred, sb->user_ns, CAP_SYS_ADMIN))
		return -EPERM;
	r = set_flags_locked(at->mnt, flags | (at->mnt->locked_flags & MS_RDONLY));
	if (r == 0)
		sb->readonly = flags & MS_RDONLY;
	return r;
}

static int set_propagation_locked(struct mount *m, uint64_t type)
{
	switch (type) {
	case MS_SHARED:
		mount_set_shared_locked(m);
		return 0;
	case MS_PRIVATE:
		mount_set_private_locked(m);
		return 0;
	case MS_SLAVE:
		mount_set_slave_locked(m);
		return 0;
	case MS_UNBINDABLE:
		mount_set_private_locked(m);
		m->unbindable = true;
		return 0;
	default:
		return -EINVAL;
	}
}

static int mount_propagation(const struct path *at, uint64_t flags)
{
	struct mount *m;
	int r = 0;

	if (flags & ~(uint64_t)(PROPAGATION_FLAGS | MS_REC | MS_SILENT) || !is_mount_root(at))
		return -EINVAL;
	GUARD(mutex, &mount_mu);
	for (m = at->mnt; m && r == 0; m = flags & MS_REC ? mount_next_in_tree(m, at->mnt) : NULL)
		r = set_propagation_locked(m, flags & PROPAGATION_FLAGS);
	return r;
}

int vfs_move_mount(const struct cred *cred, const struct path *from, const struct path *to)
{
	struct mount *m = from->mnt;
	struct path old = { NULL, NULL };
	int r = 0;

	(void)cred;
	if (!is_mount_root(from) || !to->mnt)
		return -EINVAL;
	if (S_ISDIR(m->root->inode->mode) != S_ISDIR(to->dentry->inode->mode))
		return -ENOTDIR;
	mutex_lock(&mount_mu);
	if (!to->mnt->ns || (m->ns && (m->ns != to->mnt->ns || !m->parent || m->locked)))
		r = -EINVAL;
	else if (!m->ns && (m->dead || m->parent))
		r = -EINVAL; /* unmounted, or not the whole of a detached tree */
	else if (m->parent && m->parent->peer_group)
		r = -EINVAL;
	else if (mount_is_below(to->mnt, m))
		r = -ELOOP;
	if (r == 0) {
		bool detached = !m->ns;

		mutex_lock(&mount_hash_mu);
		old = (struct path){ m->parent, m->mountpoint };
		list_del(&m->hash_node);
		list_del(&m->child_node);
		if (old.dentry)
			old.dentry->mounted--;
		m->parent = NULL;
		m->mountpoint = NULL;
		mutex_unlock(&mount_hash_mu);
		r = mount_attach_propagate_locked(m, to);
		if (r < 0 && old.mnt)
			mount_attach_locked(m, old.mnt, old.dentry, old.mnt->ns);
		else if (r == 0 && detached)
			mount_get(m); /* the tree's own */
	}
	mutex_unlock(&mount_mu);
	path_put(&old);
	return r;
}

static int mount_move(const struct walk *w, const char *source, const struct path *at)
{
	struct path from;
	int r = source ? vfs_walk(w, source, WALK_FOLLOW, &from) : -EINVAL;

	if (r < 0)
		return r;
	r = vfs_move_mount(w->cred, &from, at);
	path_put(&from);
	return r;
}

int vfs_mount(const struct walk *w, const char *source, const char *target, const char *fstype,
	      uint64_t flags, const char *data)
{
	struct path at;
	int r;

	if ((flags & MS_MGC_MSK) == MS_MGC_VAL)
		flags &= ~(uint64_t)MS_MGC_MSK;
	r = vfs_walk(w, target, WALK_FOLLOW, &at);
	if (r < 0)
		return r;
	if (!may_mount(w))
		r = -EPERM;
	else if (flags & MS_REMOUNT)
		r = mount_remount(&at, flags, w->cred);
	else if (flags & MS_BIND)
		r = mount_bind(w, source, &at, flags & MS_REC);
	else if (flags & PROPAGATION_FLAGS)
		r = mount_propagation(&at, flags);
	else if (flags & MS_MOVE)
		r = mount_move(w, source, &at);
	else if (!fstype)
		r = -EINVAL;
	else {
		if (!(flags & (MS_NOATIME | MS_STRICTATIME)))
			flags |= MS_RELATIME;
		r = mount_new_fs(w, source ? source : "none", &at, fstype, flags, data);
	}
	path_put(&at);
	return r;
}

int vfs_umount(const struct walk *w, const char *target, int flags)
{
	struct list_node dead = LIST_INIT(dead);
	struct path at;
	int r;

	if (flags & ~(MNT_FORCE | MNT_DETACH | MNT_EXPIRE | UMOUNT_NOFOLLOW) ||
	    (flags & MNT_EXPIRE && flags & (MNT_FORCE | MNT_DETACH)))
		return -EINVAL;
	r = vfs_walk(w, target, flags & UMOUNT_NOFOLLOW ? 0 : WALK_FOLLOW, &at);
	if (r < 0)
		return r;
	if (!may_mount(w))
		r = -EPERM;
	else if (!is_mount_root(&at))
		r = -EINVAL;
	if (r == 0) {
		struct mount *m = at.mnt;

		GUARD(mutex, &mount_mu);
		if (m->ns != w->mnt_ns || !m->parent || m->locked)
			r = -EINVAL;
		else if (!(flags & MNT_DETACH) && (!list_empty(&m->children) || refcount_read(&m->refs) > 2))
			r = -EBUSY; /* the tree's reference and ours are fine */
		else if (flags & MNT_EXPIRE && !(m->expiring && m->uses == m->expire_uses + 1)) {
			/* Used since it was marked, beside our own walk: mark it (again). */
			m->expiring = true;
			m->expire_uses = m->uses;
			r = -EAGAIN;
		}
		else
			mount_detach_propagate_locked(m, &dead);
	}
	mounts_release(&dead);
	path_put(&at);
	return r;
}

/* Conditions of pivot_root(2); LOCK_MOUNT held. */
static int pivot_check(const struct walk *w, const struct path *new, const struct path *put_old)
{
	const struct path *root = &w->root;

	if (!new->mnt || new->mnt->ns != w->mnt_ns || root->mnt->ns != w->mnt_ns || !put_old->mnt ||
	    put_old->mnt->ns != w->mnt_ns)
		return -EINVAL;
	if (new->mnt == root->mnt || put_old->mnt == root->mnt)
		return -EBUSY;
	if (!is_mount_root(new) || !is_mount_root(root) || !new->mnt->parent || new->mnt->locked)
		return -EINVAL;
	if (new->mnt->parent->peer_group || put_old->mnt->peer_group ||
	    (root->mnt->parent && root->mnt->parent->peer_group))
		return -EINVAL;
	if (!mount_is_below(put_old->mnt, new->mnt) ||
	    (put_old->mnt == new->mnt && !dentry_is_ancestor(new->dentry, put_old->dentry)))
		return -EINVAL;
	return mount_is_below(new->mnt, root->mnt) ? 0 : -EINVAL;
}

/* Takes m off its parent; the caller gets the two references. */
static struct path unhook(struct mount *m)
{
	struct path at;

	GUARD(mutex, &mount_hash_mu);
	at = (struct path){ m->parent, m->mountpoint };
	list_del(&m->hash_node);
	list_del(&m->child_node);
	if (at.dentry)
		at.dentry->mounted--;
	m->parent = NULL;
	m->mountpoint = NULL;
	return at;
}

int vfs_pivot_root(const struct walk *w, const char *new_root, const char *put_old,
		   struct path *ret_old_root, struct path *ret_new_root)
{
	struct path new, old, new_at = { NULL, NULL }, root_at = { NULL, NULL };
	int r;

	if (!may_mount(w))
		return -EPERM;
	r = vfs_walk(w, new_root, WALK_FOLLOW | WALK_DIRECTORY, &new);
	if (r < 0)
		return r;
	r = vfs_walk(w, put_old, WALK_FOLLOW | WALK_DIRECTORY, &old);
	if (r < 0) {
		path_put(&new);
		return r;
	}
	mutex_lock(&mount_mu);
	r = pivot_check(w, &new, &old);
	if (r == 0) {
		struct mount *root = w->root.mnt;

		new_at = unhook(new.mnt);
		root_at = unhook(root);
		if (root_at.mnt)
			mount_attach_locked(new.mnt, root_at.mnt, root_at.dentry, w->mnt_ns);
		else
			w->mnt_ns->root = new.mnt;
		mount_attach_locked(root, old.mnt, old.dentry, w->mnt_ns);
		*ret_old_root = w->root;
		*ret_new_root = new;
		path_get(ret_old_root);
		path_get(ret_new_root);
	}
	mutex_unlock(&mount_mu);
	path_put(&new_at);
	path_put(&root_at);
	path_put(&new);
	path_put(&old);
	return r;
}

int vfs_open_tree(const struct path *p, struct user_ns *user, bool recursive, struct path *ret_tree)
{
	struct mount *tree = NULL;
	int r;

	(void)user;
	mutex_lock(&mount_mu);
	if (!p->mnt || p->mnt->unbindable)
		r = -EINVAL;
	else
		r = mount_clone_tree_locked(p->mnt, p->dentry, recursive, 0, &tree);
	mutex_unlock(&mount_mu);
	if (r < 0)
		return r;
	*ret_tree = (struct path){ tree, dentry_get(tree->root) };
	return 0;
}

int vfs_mount_setattr(const struct walk *w, const struct path *p, bool recursive, uint64_t set,
		      uint64_t clear, uint64_t propagation)
{
	struct mount *m;
	int r = 0;

	if (!may_mount(w))
		return -EPERM;
	if (!is_mount_root(p))
		return -EINVAL;
	GUARD(mutex, &mount_mu);
	/* Check all, then change all. */
	for (m = p->mnt; m; m = recursive ? mount_next_in_tree(m, p->mnt) : NULL) {
		if (m->locked_flags & ~((m->flags & ~clear) | set))
			return -EPERM;
	}
	for (m = p->mnt; m && r == 0; m = recursive ? mount_next_in_tree(m, p->mnt) : NULL) {
		m->flags = ((m->flags & ~clear) | set) & MOUNT_FLAGS;
		if (propagation)
			r = set_propagation_locked(m, propagation);
	}
	return r;
}
