/* Mounts and mount namespaces: trees, lookup, life and death. mount(2) itself is in mount_sys.c. */
#include <stdlib.h>

#include "sentry/vfs/mount_priv.h"

#define HASH_SIZE 256u

struct mutex mount_mu, mount_hash_mu;
static struct list_node hash[HASH_SIZE];
static int32_t next_mount_id = 20;

static struct list_node *hash_bucket(const struct mount *m, const struct dentry *d)
{
	uint64_t x = ((uint64_t)(uintptr_t)m >> 4) * 0x9e3779b97f4a7c15ull ^ ((uint64_t)(uintptr_t)d >> 4);
	struct list_node *b = &hash[(x * 0xbf58476d1ce4e5b9ull >> 48) % HASH_SIZE];

	if (!b->next)
		list_init(b);
	return b;
}

struct mount *mount_get(struct mount *m)
{
	refcount_get(&m->refs);
	return m;
}

/* Drops a reference; the last one lets go of the superblock. NULL is fine. No locks held. */
void mount_put(struct mount *m)
{
	struct list_node dead = LIST_INIT(dead);

	if (!m || !refcount_put(&m->refs))
		return;
	mutex_lock(&mount_mu);
	while (!list_empty(&m->children)) /* of a detached tree */
		mount_detach_tree_locked(list_last(&m->children, struct mount, child_node), &dead);
	mount_set_private_locked(m);
	mutex_unlock(&mount_mu);
	mounts_release(&dead);
	dentry_put(m->root);
	superblock_put(m->sb);
	free(m->source);
	free(m);
}

/* A detached mount with one reference; takes its own on sb and root. NULL: out of memory. */
struct mount *mount_new(struct superblock *sb, struct dentry *root, uint64_t flags, const char *source)
{
	struct mount *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	if (source) {
		m->source = strdup(source);
		if (!m->source) {
			free(m);
			return NULL;
		}
	}
	refcount_init(&m->refs, 1);
	m->sb = superblock_get(sb);
	m->root = dentry_get(root);
	m->flags = flags & MOUNT_FLAGS;
	m->id = __atomic_fetch_add(&next_mount_id, 1, __ATOMIC_RELAXED);
	list_init(&m->hash_node);
	list_init(&m->child_node);
	list_init(&m->children);
	list_init(&m->ns_node);
	list_init(&m->peer_node);
	list_init(&m->slave_node);
	list_init(&m->slaves);
	return m;
}

/* The mount on (m, d), without a reference; mount_hash_mu held. */
static struct mount *hash_find(struct mount *m, struct dentry *d)
{
	struct mount *c;

	list_for_each(c, hash_bucket(m, d), hash_node) {
		if (c->parent == m && c->mountpoint == d)
			return c;
	}
	return NULL;
}

/* As hash_find, under LOCK_MOUNT. */
struct mount *mount_child_locked(struct mount *m, struct dentry *d)
{
	GUARD(mutex, &mount_hash_mu);
	return hash_find(m, d);
}

/* While something is mounted on *p, steps onto its root. True when a mount was crossed. */
bool mount_cross(struct path *p)
{
	bool crossed = false;

	while (p->mnt && p->dentry->mounted) {
		struct path old = *p;
		struct mount *c;

		mutex_lock(&mount_hash_mu);
		c = hash_find(p->mnt, p->dentry);
		if (c) {
			mount_get(c);
			c->uses++;
		}
		mutex_unlock(&mount_hash_mu);
		if (!c)
			break;
		*p = (struct path){ c, dentry_get(c->root) };
		path_put(&old);
		crossed = true;
	}
	return crossed;
}

/* From the root of a mount to what it covers; false at the top. */
bool mount_up(struct path *p)
{
	struct path old = *p, up;

	mutex_lock(&mount_hash_mu);
	up = (struct path){ p->mnt->parent, p->mnt->mountpoint };
	if (up.mnt)
		path_get(&up);
	mutex_unlock(&mount_hash_mu);
	if (!up.mnt)
		return false;
	*p = up;
	path_put(&old);
	return true;
}

bool path_is_mountpoint(struct mount *m, struct dentry *d)
{
	GUARD(mutex, &mount_hash_mu);
	return m && hash_find(m, d) != NULL;
}

/* Attaches m, whose reference passes to the tree, at (parent, at), or as the root of ns when parent is
 * NULL. LOCK_MOUNT held. */
void mount_attach_locked(struct mount *m, struct mount *parent, struct dentry *at, struct mnt_ns *ns)
{
	GUARD(mutex, &mount_hash_mu);
	if (parent) {
		m->parent = mount_get(parent);
		m->mountpoint = dentry_get(at);
		at->mounted++;
		list_add_tail(hash_bucket(parent, at), &m->hash_node);
		list_add_tail(&parent->children, &m->child_node);
	}
	if (m->ns != ns) {
		m->ns = ns;
		list_add_tail(&ns->mounts, &m->ns_node);
		ns->count++;
	}
}

/* Unhooks m from its parent. The references on both go to the caller. */
static struct path unhook_locked(struct mount *m)
{
	struct path at;

	GUARD(mutex, &mount_hash_mu);
	at = (struct path){ m->parent, m->mountpoint };
	list_del(&m->hash_node);
	list_del(&m->child_node);
	m->parent = NULL;
	m->mountpoint = NULL;
	if (at.dentry)
		at.dentry->mounted--;
	return at;
}

/* Takes m out of its tree and namespace and puts it on dead (by ns_node), for mounts_release after the
 * lock. Its children must be gone. */
void mount_detach_locked(struct mount *m, struct list_node *dead)
{
	if (m->ns) {
		if (m->ns->root == m)
			m->ns->root = NULL;
		m->ns->count--;
		m->ns = NULL;
		list_del(&m->ns_node);
	}
	mount_set_private_locked(m);
	m->dead = true;
	list_add_tail(dead, &m->ns_node);
}

/* The whole tree at m, children first. */
void mount_detach_tree_locked(struct mount *m, struct list_node *dead)
{
	while (!list_empty(&m->children))
		mount_detach_tree_locked(list_last(&m->children, struct mount, child_node), dead);
	/* Nobody may find it from its parent any more; the references go in mounts_release. */
	mutex_lock(&mount_hash_mu);
	list_del(&m->hash_node);
	list_del(&m->child_node);
	mutex_unlock(&mount_hash_mu);
	mount_detach_locked(m, dead);
}

/* Drops the tree's references of detached mounts. No locks held. */
void mounts_release(struct list_node *dead)
{
	struct mount *m, *tmp;

	list_for_each_safe(m, tmp, dead, ns_node) {
		struct path at;

		mutex_lock(&mount_mu);
		list_del(&m->ns_node);
		at = unhook_locked(m);
		mutex_unlock(&mount_mu);
		path_put(&at);
		mount_put(m);
	}
}

/* Next mount in depth-first order within the tree of top; NULL at the end. LOCK_MOUNT held. */
struct mount *mount_next_in_tree(struct mount *m, struct mount *top)
{
	if (!list_empty(&m->children))
		return list_first(&m->children, struct mount, child_node);
	while (m != top) {
		if (m->child_node.next != &m->parent->children)
			return list_entry(m->child_node.next, struct mount, child_node);
		m = m->parent;
	}
	return NULL;
}

bool mount_is_below(struct mount *m, struct mount *top)
{
	for (; m; m = m->parent) {
		if (m == top)
			return true;
	}
	return false;
}

/* A detached copy of m with another root, in the relation to m's group that `how` asks for. NULL: out
 * of memory. LOCK_MOUNT held. */
struct mount *mount_clone_locked(struct mount *m, struct dentry *root, unsigned how)
{
	struct mount *c = mount_new(m->sb, root, m->flags, m->source);

	if (!c)
		return NULL;
	c->locked_flags = m->locked_flags;
	c->unbindable = how & CLONE_MNT_UNBINDABLE && m->unbindable;
	if (how & CLONE_MNT_LOCK) {
		c->locked_flags |= m->flags & (MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC);
		c->locked = true;
	}
	if (how & CLONE_MNT_PRIVATE)
		return c;
	if (m->peer_group && how & CLONE_MNT_SLAVE) {
		c->master = m;
		list_add(&m->slaves, &c->slave_node);
		return c;
	}
	if (m->peer_group)
		mount_join_peer_locked(c, m);
	if (m->master) {
		c->master = m->master;
		list_add(&m->master->slaves, &c->slave_node);
	}
	return c;
}

/* Frees a detached tree that never reached a namespace. LOCK_MOUNT held; ends on dead. */
static void discard_tree_locked(struct mount *top, struct list_node *dead)
{
	if (top)
		mount_detach_tree_locked(top, dead);
}

/* Is d below (or at) root? */
static bool dentry_below(struct dentry *d, struct dentry *root)
{
	return dentry_is_ancestor(root, d);
}

/* A detached copy of m from root on, with the mounts below it when recursive. Unbindable mounts are left
 * out unless `how` says else. -ENOMEM. */
int mount_clone_tree_locked(struct mount *m, struct dentry *root, bool recursive, unsigned how,
			    struct mount **ret)
{
	struct list_node dead = LIST_INIT(dead);
	struct mount *top = mount_clone_locked(m, root, how), *child;
	int r = 0;

	if (!top)
		return -ENOMEM;
	if (recursive) {
		list_for_each(child, &m->children, child_node) {
			struct mount *copy;

			if (!dentry_below(child->mountpoint, root) ||
			    (child->unbindable && !(how & CLONE_MNT_UNBINDABLE)))
				continue;
			r = mount_clone_tree_locked(child, child->root, true, how, &copy);
			if (r < 0)
				break;
			mount_attach_locked(copy, top, child->mountpoint, NULL);
		}
	}
	if (r < 0) {
		discard_tree_locked(top, &dead);
		mutex_unlock(&mount_mu);
		mounts_release(&dead);
		mutex_lock(&mount_mu);
		return r;
	}
	*ret = top;
	return 0;
}

static struct mnt_ns *ns_alloc(struct user_ns *owner)
{
	struct mnt_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	ns->owner = user_ns_get(owner);
	ns->ino = 0xf0000000ull + ino_next();
	list_init(&ns->mounts);
	return ns;
}

int mnt_ns_new(struct superblock *root_sb, const char *source, uint64_t mnt_flags, struct user_ns *owner,
	       struct mnt_ns **ret_ns, struct path *ret_root)
{
	struct mnt_ns *ns = ns_alloc(owner);
	struct mount *m;
	int r;

	if (!ns)
		return -ENOMEM;
	r = superblock_root(root_sb);
	m = r < 0 ? NULL : mount_new(root_sb, root_sb->root_dentry, mnt_flags, source);
	if (!m) {
		mnt_ns_put(ns);
		return r < 0 ? r : -ENOMEM;
	}
	mutex_lock(&mount_mu);
	mount_attach_locked(m, NULL, NULL, ns);
	ns->root = m;
	mutex_unlock(&mount_mu);
	*ret_root = (struct path){ m, m->root };
	path_get(ret_root);
	*ret_ns = ns;
	return 0;
}

struct mnt_ns *mnt_ns_get(struct mnt_ns *ns)
{
	if (ns)
		refcount_get(&ns->refs);
	return ns;
}

void mnt_ns_put(struct mnt_ns *ns)
{
	struct list_node dead = LIST_INIT(dead);

	if (!ns || !refcount_put(&ns->refs))
		return;
	mutex_lock(&mount_mu);
	if (ns->root)
		mount_detach_tree_locked(ns->root, &dead);
	mutex_unlock(&mount_mu);
	mounts_release(&dead);
	user_ns_put(ns->owner);
	free(ns);
}

uint64_t mnt_ns_ino(const struct mnt_ns *ns)
{
	return ns->ino;
}

struct user_ns *mnt_ns_owner(const struct mnt_ns *ns)
{
	return ns->owner;
}

void mnt_ns_root(struct mnt_ns *ns, struct path *ret_root)
{
	mutex_lock(&mount_mu);
	*ret_root = (struct path){ ns->root, ns->root->root };
	path_get(ret_root);
	mutex_unlock(&mount_mu);
	mount_cross(ret_root);
}

int mnt_ns_for_each(struct mnt_ns *ns, int (*fn)(struct mount *m, void *arg), void *arg)
{
	struct mount *m;
	int r = 0;

	GUARD(mutex, &mount_mu);
	list_for_each(m, &ns->mounts, ns_node) {
		r = fn(m, arg);
		if (r)
			break;
	}
	return r;
}

/* Puts a detached tree's mounts into ns in depth-first order. */
static void adopt_tree_locked(struct mount *top, struct mnt_ns *ns)
{
	struct mount *m;

	for (m = top; m; m = mount_next_in_tree(m, top)) {
		GUARD(mutex, &mount_hash_mu);
		m->ns = ns;
		list_add_tail(&ns->mounts, &m->ns_node);
		ns->count++;
	}
}

/* Moves *p from the old tree to the same place in the copy; both trees have the same shape. */
static void translate(struct path *p, struct mount *old_top, struct mount *new_top, struct path *drop)
{
	struct mount *o = old_top, *n = new_top;

	for (; o && n; o = mount_next_in_tree(o, old_top), n = mount_next_in_tree(n, new_top)) {
		if (p->mnt == o) {
			*drop = (struct path){ o, NULL };
			p->mnt = mount_get(n);
			return;
		}
	}
}

int mnt_ns_copy(struct mnt_ns *ns, struct user_ns *owner, struct fs_struct *fs, struct mnt_ns **ret_ns)
{
	struct mnt_ns *copy = ns_alloc(owner);
	struct path drop[2] = { { NULL, NULL }, { NULL, NULL } };
	unsigned how = CLONE_MNT_UNBINDABLE | (owner != ns->owner ? CLONE_MNT_SLAVE | CLONE_MNT_LOCK : 0);
	struct mount *top;
	int r;

	if (!copy)
		return -ENOMEM;
	mutex_lock(&mount_mu);
	r = mount_clone_tree_locked(ns->root, ns->root->root, true, how, &top);
	if (r == 0) {
		adopt_tree_locked(top, copy);
		copy->root = top;
		top->locked = false;
		mutex_lock(&fs->mu);
		translate(&fs->root, ns->root, top, &drop[0]);
		translate(&fs->cwd, ns->root, top, &drop[1]);
		mutex_unlock(&fs->mu);
	}
	mutex_unlock(&mount_mu);
	path_put(&drop[0]);
	path_put(&drop[1]);
	if (r < 0) {
		mnt_ns_put(copy);
		return r;
	}
	*ret_ns = copy;
	return 0;
}
