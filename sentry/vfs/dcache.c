/*
 * The dentry cache: one hash table over all superblocks, one lock (LOCK_DCACHE), bounded by a clock.
 *
 * Every hashed dentry is on the clock list and carries one reference of the cache. Using one sets its
 * `used` bit; the hand of the clock, moved at each insertion beyond the bound, passes over entries in
 * use or recently used. A dentry whose references fall to zero is never hashed.
 */
#include <stdlib.h>

#include "sentry/vfs/vfs_priv.h"

#define DCACHE_BUCKETS 16384u /* power of two */
#define DCACHE_MAX 40000u     /* hashed dentries kept when unused */
#define CLOCK_SWEEP 16	      /* entries looked at for each insertion beyond the bound */

struct mutex dcache_mu;
static struct dentry *buckets[DCACHE_BUCKETS];
static struct list_node clock_list = LIST_INIT(clock_list);
static unsigned hashed_count;

/* Boot only. */
int vfs_init(void)
{
	mutex_init(&dcache_mu, LOCK_DCACHE);
	mutex_init(&mount_mu, LOCK_MOUNT);
	mutex_init(&mount_hash_mu, LOCK_LEAF);
	return 0;
}

uint32_t name_hash(const char *name, size_t len)
{
	uint32_t h = NAME_HASH_INIT;

	for (size_t i = 0; i < len; i++)
		h = name_hash_step(h, (unsigned char)name[i]);
	return h;
}

static struct dentry **bucket_of(const struct dentry *dir, uint32_t hash)
{
	uint64_t x = ((uint64_t)(uintptr_t)dir >> 5) * 0x9e3779b97f4a7c15ull + hash;

	x ^= x >> 29;
	return &buckets[(x * 0xbf58476d1ce4e5b9ull >> 40) & (DCACHE_BUCKETS - 1)];
}

struct dentry *dentry_get(struct dentry *d)
{
	refcount_get(&d->refs);
	return d;
}

/* Takes d out of table, clock and its parent's children; returns with the cache's reference left to
 * the caller. dcache_mu held, d is hashed. */
static void unhash_locked(struct dentry *d)
{
	struct dentry **link = bucket_of(d->parent, d->hash);

	while (*link != d)
		link = &(*link)->hash_next;
	*link = d->hash_next;
	d->hash_next = NULL;
	d->hashed = false;
	list_del(&d->lru_node);
	list_del(&d->child_node);
	hashed_count--;
}

static void hash_locked(struct dentry *d)
{
	struct dentry **link = bucket_of(d->parent, d->hash);

	d->hash_next = *link;
	*link = d;
	d->hashed = true;
	list_add_tail(&clock_list, &d->lru_node);
	list_add_tail(&d->parent->children, &d->child_node);
	hashed_count++;
}

/* Frees d, whose last reference is gone, and the parents that only it held. No locks above DCACHE. */
static void dentry_free(struct dentry *d)
{
	while (d) {
		struct dentry *parent = d->parent;

		BUG_ON(d->hashed || !list_empty(&d->children));
		if (d->inode) {
			mutex_lock(&dcache_mu);
			list_del(&d->alias_node);
			mutex_unlock(&dcache_mu);
			inode_put(d->inode);
		}
		if (d->name != d->inline_name)
			free(d->name);
		free(d);
		if (parent && parent->sb->no_dcache) {
			dentry_put(parent); /* which the cache does not keep either; such trees are flat */
			return;
		}
		d = parent && refcount_put(&parent->refs) ? parent : NULL;
	}
}

/* Drops a reference; NULL is fine. May free the inode. */
void dentry_put(struct dentry *d)
{
	if (!d)
		return;
	if (unlikely(d->sb->no_dcache && d->hashed)) {
		bool drop = false;

		mutex_lock(&dcache_mu);
		if (d->hashed && refcount_read(&d->refs) == 2 && !d->mounted) {
			unhash_locked(d);
			drop = true;
		}
		mutex_unlock(&dcache_mu);
		if (drop && refcount_put(&d->refs))
			BUG("caller's reference is missing");
	}
	if (refcount_put(&d->refs))
		dentry_free(d);
}

static uint32_t names_gen_of(const struct dentry *dir)
{
	const struct inode *i = dentry_inode(dir);

	return i ? i->names_gen : 0;
}

/* A dentry without a place in the cache, one reference. inode's reference is taken over on success. */
static struct dentry *dentry_new(struct superblock *sb, struct dentry *parent, const char *name,
				 size_t len, uint32_t hash, struct inode *inode)
{
	struct dentry *d = malloc(sizeof(*d));

	if (!d)
		return NULL;
	*d = (struct dentry){ .parent = parent, .hash = hash, .name_len = (uint32_t)len, .sb = sb };
	d->name = len < sizeof(d->inline_name) ? d->inline_name : malloc(len + 1);
	if (!d->name) {
		free(d);
		return NULL;
	}
	memcpy(d->name, name, len);
	d->name[len] = 0;
	refcount_init(&d->refs, 1);
	list_init(&d->lru_node);
	list_init(&d->child_node);
	list_init(&d->children);
	list_init(&d->alias_node);
	if (parent) {
		dentry_get(parent);
		d->names_gen = names_gen_of(parent);
	}
	if (inode) {
		d->inode = inode;
		mutex_lock(&dcache_mu);
		list_add(&inode->aliases, &d->alias_node);
		mutex_unlock(&dcache_mu);
	}
	return d;
}

/* An unhashed dentry without parent: root of a superblock, or the text of an anonymous inode. Takes a
 * reference of its own on inode. NULL: out of memory. */
struct dentry *dentry_new_root(struct superblock *sb, struct inode *inode, const char *name)
{
	struct dentry *d = dentry_new(sb, NULL, name, strlen(name), 0, inode_get(inode));

	if (!d)
		inode_put(inode);
	return d;
}

/* Moves the hand: unhashes up to CLOCK_SWEEP unused entries onto victims. dcache_mu held. */
static void clock_sweep_locked(struct list_node *victims)
{
	for (int i = 0; i < CLOCK_SWEEP && hashed_count > DCACHE_MAX; i++) {
		struct dentry *d = list_first(&clock_list, struct dentry, lru_node);

		if (refcount_read(&d->refs) > 1 || d->used || d->mounted) {
			d->used = false;
			list_del(&d->lru_node);
			list_add_tail(&clock_list, &d->lru_node);
			continue;
		}
		unhash_locked(d);
		list_add_tail(victims, &d->lru_node);
	}
}

static void free_victims(struct list_node *victims)
{
	struct dentry *d, *tmp;

	list_for_each_safe(d, tmp, victims, lru_node) {
		list_del(&d->lru_node);
		if (refcount_put(&d->refs))
			dentry_free(d);
	}
}

/* The hashed dentry of that name, without a reference; dcache_mu held. */
struct dentry *dcache_find_locked(struct dentry *dir, const char *name, size_t len, uint32_t hash)
{
	struct dentry *d = *bucket_of(dir, hash);

	for (; d; d = d->hash_next) {
		if (d->hash == hash && d->parent == dir && d->name_len == len &&
		    memcmp(d->name, name, len) == 0) {
			if (!d->used)
				d->used = true;
			return d;
		}
	}
	return NULL;
}

/* As above with a reference; NULL when nothing is known of the name. */
struct dentry *dcache_find(struct dentry *dir, const char *name, size_t len, uint32_t hash)
{
	struct dentry *d;

	GUARD(mutex, &dcache_mu);
	d = dcache_find_locked(dir, name, len, hash);
	return d ? dentry_get(d) : NULL;
}

/* Enters name with inode (reference taken over, also on failure; NULL: negative) and returns it with a
 * reference; an entry that is there already wins. NULL: out of memory. */
struct dentry *dcache_add(struct dentry *dir, const char *name, size_t len, uint32_t hash,
			  struct inode *inode)
{
	struct list_node victims = LIST_INIT(victims);
	struct dentry *d = dentry_new(dir->sb, dir, name, len, hash, inode), *other;

	if (!d) {
		inode_put(inode);
		return NULL;
	}
	mutex_lock(&dcache_mu);
	other = dcache_find_locked(dir, name, len, hash);
	if (other) {
		dentry_get(other);
	} else if (inode || !dir->sb->no_dcache) {
		hash_locked(d);
		dentry_get(d);
		clock_sweep_locked(&victims);
	}
	mutex_unlock(&dcache_mu);
	free_victims(&victims);
	if (!other)
		return d;
	dentry_put(d);
	return other;
}

/* Makes a negative dentry positive; the parent's inode mu is held. Takes the reference over. */
void dentry_instantiate(struct dentry *d, struct inode *inode)
{
	GUARD(mutex, &dcache_mu);
	BUG_ON(d->inode);
	list_add(&inode->aliases, &d->alias_node);
	__atomic_store_n(&d->inode, inode, __ATOMIC_RELEASE);
	d->names_gen = names_gen_of(d->parent);
	if (!d->hashed) { /* made while the superblock caches no negatives */
		hash_locked(d);
		dentry_get(d);
	}
}

/* Takes d out of the cache; references elsewhere stay valid. */
void dentry_unhash(struct dentry *d)
{
	bool was;

	mutex_lock(&dcache_mu);
	was = d->hashed;
	if (was)
		unhash_locked(d);
	mutex_unlock(&dcache_mu);
	if (was)
		dentry_put(d);
}

/* d's name was removed from its directory (mu held): the name becomes a negative entry. */
void dentry_removed(struct dentry *d)
{
	AUTO(dentry_put) struct dentry *parent = dentry_parent(d);
	struct dentry *negative;

	dentry_unhash(d);
	if (!parent || d->sb->no_dcache)
		return;
	negative = dcache_add(parent, d->name, d->name_len, d->hash, NULL);
	dentry_put(negative);
}

/* Parent with a reference, NULL for a root. */
struct dentry *dentry_parent(struct dentry *d)
{
	GUARD(mutex, &dcache_mu);
	return d->parent ? dentry_get(d->parent) : NULL;
}

/* Is a an ancestor of d, or d itself? */
bool dentry_is_ancestor(struct dentry *a, struct dentry *d)
{
	GUARD(mutex, &dcache_mu);
	for (; d; d = d->parent) {
		if (d == a)
			return true;
	}
	return false;
}

/* Gives d the place (parent, name); both directories' mu held, dcache_mu held, d unhashed. name is a
 * buffer for names that do not fit inline, else NULL. The old parent's reference is returned. */
static struct dentry *place_locked(struct dentry *d, struct dentry *dir, const char *name, size_t len,
				   char *buffer)
{
	struct dentry *old_parent = d->parent;
	char *old_name = d->name;

	d->name = buffer ? buffer : d->inline_name;
	memmove(d->name, name, len + 1);
	if (old_name != d->inline_name && old_name != d->name)
		free(old_name);
	d->name_len = (uint32_t)len;
	d->hash = name_hash(name, len);
	d->parent = dentry_get(dir);
	d->names_gen = names_gen_of(dir);
	return old_parent;
}

/* d moves to name in dir; what stood there (replaced, may be NULL or negative) is forgotten. Locks as
 * vfs_rename. -ENOMEM leaves d unhashed under its old name (it is found again by lookup). */
int dentry_rename(struct dentry *d, struct dentry *dir, const char *name, size_t len,
		  struct dentry *replaced)
{
	char *buffer = NULL;
	struct dentry *old_parent = NULL;
	bool was;

	if (replaced)
		dentry_unhash(replaced);
	if (len >= sizeof(d->inline_name)) {
		buffer = malloc(len + 1);
		if (!buffer) {
			dentry_unhash(d);
			return -ENOMEM;
		}
	}
	mutex_lock(&dcache_mu);
	was = d->hashed;
	if (was)
		unhash_locked(d);
	else
		dentry_get(d);
	old_parent = place_locked(d, dir, name, len, buffer);
	hash_locked(d);
	mutex_unlock(&dcache_mu);
	dentry_put(old_parent);
	return 0;
}

/* RENAME_EXCHANGE: a and b swap places. Both are forgotten when memory is short. */
int dentry_exchange(struct dentry *a, struct dentry *b)
{
	char name_a[NAME_MAX_GUEST + 1], name_b[NAME_MAX_GUEST + 1];
	AUTO(dentry_put) struct dentry *dir_a = dentry_parent(a);
	AUTO(dentry_put) struct dentry *dir_b = dentry_parent(b);
	size_t len_a = a->name_len, len_b = b->name_len;
	int r;

	memcpy(name_a, a->name, len_a + 1);
	memcpy(name_b, b->name, len_b + 1);
	dentry_unhash(a);
	dentry_unhash(b);
	r = dentry_rename(a, dir_b, name_b, len_b, NULL);
	return r < 0 ? r : dentry_rename(b, dir_a, name_a, len_a, NULL);
}

/* Unhashes every dentry of sb, whose last reference is gone. */
void dcache_purge(struct superblock *sb)
{
	struct list_node victims = LIST_INIT(victims);
	struct dentry *d, *tmp;

	mutex_lock(&dcache_mu);
	list_for_each_safe(d, tmp, &clock_list, lru_node) {
		if (d->sb != sb)
			continue;
		unhash_locked(d);
		list_add_tail(&victims, &d->lru_node);
	}
	mutex_unlock(&dcache_mu);
	free_victims(&victims);
}

void dcache_forget(struct inode *dir, const char *name)
{
	size_t len = strlen(name);
	uint32_t hash = name_hash(name, len);
	struct list_node victims = LIST_INIT(victims);
	struct dentry *alias;

	mutex_lock(&dcache_mu);
	list_for_each(alias, &dir->aliases, alias_node) {
		struct dentry *d = dcache_find_locked(alias, name, len, hash);

		if (!d || d->mounted)
			continue;
		unhash_locked(d);
		list_add_tail(&victims, &d->lru_node);
	}
	mutex_unlock(&dcache_mu);
	free_victims(&victims);
}

void dcache_prime(struct dentry *dir, const char *name, struct inode *inode)
{
	size_t len = strlen(name);

	dentry_put(dcache_add(dir, name, len, name_hash(name, len), inode));
}
