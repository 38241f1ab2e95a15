#include "sentry/core/cred.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/lockrank.h"

#define CAP_ALL ((1ull << (CAP_LAST_CAP + 1)) - 1)
#define NS_LEVEL_MAX 32

static struct id_map_extent identity = { 0, 0, UINT32_MAX };

struct user_ns root_user_ns = {
	.refs = { 1 },
	.ns_ino = 0xeffffffdu, /* Linux's PROC_USER_INIT_INO */
	.mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_LEAF },
	.uid_map = &identity,
	.gid_map = &identity,
	.uid_map_count = 1,
	.gid_map_count = 1,
};

struct user_ns *user_ns_get(struct user_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void user_ns_put(struct user_ns *ns)
{
	while (ns && refcount_put(&ns->refs)) {
		struct user_ns *parent = ns->parent;

		free(ns->uid_map);
		free(ns->gid_map);
		mutex_fini(&ns->mu);
		free(ns);
		ns = parent;
	}
}

struct user_ns *user_ns_new(struct user_ns *parent, kuid_t owner, kgid_t owner_group)
{
	static _Atomic uint32_t next_ino = 0xf1000000u;
	struct user_ns *ns;

	if (parent->level >= NS_LEVEL_MAX)
		return NULL;
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	mutex_init(&ns->mu, LOCK_LEAF);
	ns->parent = user_ns_get(parent);
	ns->level = parent->level + 1;
	ns->owner = owner;
	ns->owner_group = owner_group;
	ns->ns_ino = atomic_fetch_add(&next_ino, 1);
	return ns;
}

/* One level up; the maps are written once, so an extent that was seen never changes. */
static bool map_up(const struct id_map_extent *map, unsigned count, uint32_t id, uint32_t *ret)
{
	for (unsigned i = 0; i < count; i++) {
		if (id >= map[i].first && id - map[i].first < map[i].count) {
			*ret = map[i].lower_first + (id - map[i].first);
			return true;
		}
	}
	return false;
}

static bool map_down(const struct id_map_extent *map, unsigned count, uint32_t id, uint32_t *ret)
{
	for (unsigned i = 0; i < count; i++) {
		if (id >= map[i].lower_first && id - map[i].lower_first < map[i].count) {
			*ret = map[i].first + (id - map[i].lower_first);
			return true;
		}
	}
	return false;
}

static bool make_kid(struct user_ns *ns, bool group, uint32_t id, uint32_t *ret)
{
	if (id == ID_INVALID)
		return false;
	for (; ns->parent; ns = ns->parent) {
		GUARD(mutex, &ns->mu);
		if (!(group ? map_up(ns->gid_map, ns->gid_map_count, id, &id) :
			      map_up(ns->uid_map, ns->uid_map_count, id, &id)))
			return false;
	}
	*ret = id;
	return true;
}

static uint32_t from_kid(struct user_ns *ns, bool group, uint32_t id)
{
	struct user_ns *chain[NS_LEVEL_MAX + 1];
	unsigned n = 0;

	for (; ns->parent; ns = ns->parent)
		chain[n++] = ns;
	while (n-- > 0) {
		GUARD(mutex, &chain[n]->mu);
		if (!(group ? map_down(chain[n]->gid_map, chain[n]->gid_map_count, id, &id) :
			      map_down(chain[n]->uid_map, chain[n]->uid_map_count, id, &id)))
			return ID_INVALID;
	}
	return id;
}

bool user_ns_make_kuid(struct user_ns *ns, uint32_t id, kuid_t *ret_kuid)
{
	return make_kid(ns, false, id, &ret_kuid->v);
}

bool user_ns_make_kgid(struct user_ns *ns, uint32_t id, kgid_t *ret_kgid)
{
	return make_kid(ns, true, id, &ret_kgid->v);
}

bool user_ns_mapped(struct user_ns *ns)
{
	for (; ns->parent; ns = ns->parent) {
		GUARD(mutex, &ns->mu);
		if (!ns->uid_map_count || !ns->gid_map_count)
			return false;
	}
	return true;
}

uint32_t user_ns_from_kuid(struct user_ns *ns, kuid_t id)
{
	return from_kid(ns, false, id.v);
}

uint32_t user_ns_from_kgid(struct user_ns *ns, kgid_t id)
{
	return from_kid(ns, true, id.v);
}

uint32_t user_ns_from_kuid_munged(struct user_ns *ns, kuid_t id)
{
	uint32_t v = from_kid(ns, false, id.v);

	return v == ID_INVALID ? OVERFLOW_ID : v;
}

uint32_t user_ns_from_kgid_munged(struct user_ns *ns, kgid_t id)
{
	uint32_t v = from_kid(ns, true, id.v);

	return v == ID_INVALID ? OVERFLOW_ID : v;
}

/* The counter is the one mutable part of an immutable cred. */
static struct cred *cred_mutable(const struct cred *c)
{
	union {
		const struct cred *in;
		struct cred *out;
	} p = { .in = c };

	return p.out;
}

struct cred *cred_get(const struct cred *c)
{
	refcount_get(&cred_mutable(c)->refs);
	return cred_mutable(c);
}

void cred_put(const struct cred *c)
{
	if (!c || !refcount_put(&cred_mutable(c)->refs))
		return;
	free(c->groups);
	user_ns_put(c->user_ns);
	free(cred_mutable(c));
}

struct cred *cred_dup(const struct cred *c)
{
	struct cred *n = malloc(sizeof(*n));

	if (!n)
		return NULL;
	*n = *c;
	refcount_init(&n->refs, 1);
	if (c->group_count) {
		n->groups = malloc(c->group_count * sizeof(*n->groups));
		if (!n->groups) {
			free(n);
			return NULL;
		}
		memcpy(n->groups, c->groups, c->group_count * sizeof(*n->groups));
	} else {
		n->groups = NULL;
	}
	user_ns_get(n->user_ns);
	return n;
}

struct cred *cred_new_root(struct user_ns *ns)
{
	struct cred *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	refcount_init(&c->refs, 1);
	c->cap_permitted = c->cap_effective = c->cap_bounding = CAP_ALL;
	c->user_ns = user_ns_get(ns);
	return c;
}

bool cred_in_group(const struct cred *c, kgid_t gid)
{
	unsigned lo = 0, hi = c->group_count;

	if (c->fsgid.v == gid.v)
		return true;
	while (lo < hi) {
		unsigned mid = lo + (hi - lo) / 2;

		if (c->groups[mid].v == gid.v)
			return true;
		if (c->groups[mid].v < gid.v)
			lo = mid + 1;
		else
			hi = mid;
	}
	return false;
}

bool cred_capable(const struct cred *c, const struct user_ns *target, int cap)
{
	const struct user_ns *ns = target;

	for (;;) {
		if (ns == c->user_ns)
			return c->cap_effective & (1ull << cap);
		/* No namespace above our own can be under our control. */
		if (ns->level <= c->user_ns->level)
			return false;
		if (ns->parent == c->user_ns && ns->owner.v == c->euid.v)
			return true;
		ns = ns->parent;
	}
}
