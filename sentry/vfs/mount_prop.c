/*
 * Propagation between mounts (mount_namespaces(7), "shared subtrees"). Peers form a ring by peer_node;
 * the slaves of a group hang on one of its members. All under LOCK_MOUNT.
 */
#include <stdlib.h>

#include "sentry/vfs/mount_priv.h"

static int32_t next_group = 1;

/* A fresh peer group number. */
int32_t peer_group_new(void)
{
	return next_group++;
}

void mount_set_shared_locked(struct mount *m)
{
	if (!m->peer_group)
		m->peer_group = peer_group_new();
	m->unbindable = false;
}

/* m, not shared yet, becomes a peer of peer. */
void mount_join_peer_locked(struct mount *m, struct mount *peer)
{
	m->peer_group = peer->peer_group;
	list_add(&peer->peer_node, &m->peer_node);
}

static void leave_master(struct mount *m)
{
	list_del(&m->slave_node);
	m->master = NULL;
}

/* Hands m's slaves to heir (a peer, or m's master); without one they become private. */
static void pass_slaves(struct mount *m, struct mount *heir)
{
	struct mount *s, *tmp;

	list_for_each_safe(s, tmp, &m->slaves, slave_node) {
		leave_master(s);
		if (heir) {
			s->master = heir;
			list_add_tail(&heir->slaves, &s->slave_node);
		}
	}
}

/* Leaves the peer group; returns a remaining peer, or NULL. */
static struct mount *leave_peers(struct mount *m)
{
	struct mount *peer = list_empty(&m->peer_node) ?
				     NULL : list_entry(m->peer_node.next, struct mount, peer_node);

	list_del(&m->peer_node);
	m->peer_group = 0;
	return peer;
}

void mount_set_private_locked(struct mount *m)
{
	struct mount *peer = leave_peers(m);

	pass_slaves(m, peer ? peer : m->master);
	leave_master(m);
	m->unbindable = false;
}

void mount_set_slave_locked(struct mount *m)
{
	struct mount *peer, *old_master = m->master;

	if (!m->peer_group)
		return;
	peer = leave_peers(m);
	pass_slaves(m, peer ? peer : old_master);
	if (!peer)
		return; /* alone: private, or a slave still */
	leave_master(m);
	m->master = peer;
	list_add(&peer->slaves, &m->slave_node);
}

/* Who sees what happens at a mount: the members of its group but itself, and all their slaves. */
struct receivers {
	struct mount **m;
	struct mount **clone; /* what each received */
	unsigned count, capacity;
};

static int receivers_add(struct receivers *rs, struct mount *m)
{
	for (unsigned i = 0; i < rs->count; i++) {
		if (rs->m[i] == m)
			return 0;
	}
	if (rs->count == rs->capacity) {
		unsigned capacity = rs->capacity ? rs->capacity * 2 : 16;
		struct mount **list = realloc(rs->m, capacity * sizeof(*list));

		if (!list)
			return -ENOMEM;
		rs->m = list;
		rs->capacity = capacity;
	}
	rs->m[rs->count++] = m;
	return 1;
}

/* Adds the group of m and its slaves, breadth first; m itself is entry 0. */
static int receivers_collect(struct receivers *rs, struct mount *m)
{
	int r = receivers_add(rs, m);

	for (unsigned i = 0; r >= 0 && i < rs->count; i++) {
		struct mount *at = rs->m[i], *s;
		struct list_node *n;

		for (n = at->peer_node.next; r >= 0 && n != &at->peer_node; n = n->next)
			r = receivers_add(rs, list_entry(n, struct mount, peer_node));
		if (!at->peer_group)
			continue;
		list_for_each(s, &at->slaves, slave_node) {
			if (r >= 0)
				r = receivers_add(rs, s);
		}
	}
	return r < 0 ? r : 0;
}

static void receivers_free(struct receivers *rs)
{
	free(rs->m);
	free(rs->clone);
}

/* The copy of tree for receiver i: a peer of the tree's mounts for a peer, else a slave of them, shared
 * in turn when the receiver is. */
static int clone_for(struct receivers *rs, unsigned i, struct mount *tree, struct mount **ret)
{
	struct mount *to = rs->m[i], *from = tree, *m;
	unsigned how = CLONE_MNT_UNBINDABLE;
	int r;

	if (to->peer_group != rs->m[0]->peer_group) {
		how |= CLONE_MNT_SLAVE;
		for (unsigned j = 1; j < i; j++) {
			if (to->peer_group && rs->m[j]->peer_group == to->peer_group && rs->clone[j]) {
				from = rs->clone[j];
				how = CLONE_MNT_UNBINDABLE;
				break;
			}
		}
	}
	r = mount_clone_tree_locked(from, from->root, true, how, ret);
	if (r == 0 && how & CLONE_MNT_SLAVE && to->peer_group) {
		for (m = *ret; m; m = mount_next_in_tree(m, *ret))
			mount_set_shared_locked(m);
	}
	return r;
}

static void attach_tree(struct mount *tree, struct mount *at_mnt, struct dentry *at)
{
	struct mount *m, *on;

	/* Something may be there already: the newcomer goes on top. */
	while ((on = mount_child_locked(at_mnt, at))) {
		at_mnt = on;
		at = on->root;
	}
	mount_attach_locked(tree, at_mnt, at, at_mnt->ns);
	for (m = tree; m; m = mount_next_in_tree(m, tree)) {
		if (m->ns || !at_mnt->ns)
			continue;
		GUARD(mutex, &mount_hash_mu);
		m->ns = at_mnt->ns;
		list_add_tail(&at_mnt->ns->mounts, &m->ns_node);
		at_mnt->ns->count++;
	}
}

/* Attaches the detached tree at *at and everywhere *at's mount propagates to. On error nothing changed
 * and the tree is still the caller's. */
int mount_attach_propagate_locked(struct mount *tree, const struct path *at)
{
	struct receivers rs = { .m = NULL };
	struct mount *m;
	int r = 0;

	if (at->mnt->ns && at->mnt->ns->count >= MOUNTS_MAX)
		return -ENOSPC;
	if (at->mnt->peer_group) {
		for (m = tree; m; m = mount_next_in_tree(m, tree))
			mount_set_shared_locked(m);
		r = receivers_collect(&rs, at->mnt);
		rs.clone = r < 0 ? NULL : calloc(rs.count, sizeof(*rs.clone));
		if (r == 0 && !rs.clone)
			r = -ENOMEM;
		for (unsigned i = 1; r == 0 && i < rs.count; i++) {
			if (rs.m[i]->sb != at->dentry->sb || !dentry_is_ancestor(rs.m[i]->root, at->dentry))
				continue;
			r = clone_for(&rs, i, tree, &rs.clone[i]);
		}
	}
	if (r < 0) {
		struct list_node dead = LIST_INIT(dead);

		for (unsigned i = 1; rs.clone && i < rs.count; i++) {
			if (rs.clone[i])
				mount_detach_tree_locked(rs.clone[i], &dead);
		}
		mutex_unlock(&mount_mu);
		mounts_release(&dead);
		mutex_lock(&mount_mu);
	} else {
		attach_tree(tree, at->mnt, at->dentry);
		for (unsigned i = 1; i < rs.count; i++) {
			if (rs.clone[i])
				attach_tree(rs.clone[i], rs.m[i], at->dentry);
		}
	}
	receivers_free(&rs);
	return r;
}

/* Detaches m's tree, and what it propagated to where nothing else is mounted on it. */
void mount_detach_propagate_locked(struct mount *m, struct list_node *dead)
{
	struct receivers rs = { .m = NULL };
	struct mount *parent = m->parent;
	struct dentry *at = m->mountpoint;

	if (parent && parent->peer_group && receivers_collect(&rs, parent) == 0) {
		for (unsigned i = 1; i < rs.count; i++) {
			struct mount *c = mount_child_locked(rs.m[i], at);

			if (c && c->sb == m->sb && c->root == m->root && list_empty(&c->children))
				mount_detach_tree_locked(c, dead);
		}
	}
	receivers_free(&rs);
	mount_detach_tree_locked(m, dead);
}
