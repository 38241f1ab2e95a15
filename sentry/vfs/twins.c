#include "sentry/vfs/twins.h"

#include <stdlib.h>

#include "sentry/vfs/vfs_priv.h"

#define BUCKETS 256

static struct mutex twins_mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_LEAF };
static struct inode_twins *table[BUCKETS]; /* twins_mu */

static bool same(const struct file_identity *a, const struct file_identity *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->btime.tv_sec == b->btime.tv_sec &&
	       a->btime.tv_nsec == b->btime.tv_nsec;
}

static struct inode_twins **bucket_of(const struct file_identity *id)
{
	return &table[((id->ino ^ id->dev) * 0x9e3779b97f4a7c15ull >> 32) % BUCKETS];
}

/* The one of id with a reference more, or spare, which then is NULL. */
static struct inode_twins *find_or_add(const struct file_identity *id, struct inode_twins **spare)
{
	struct inode_twins **bucket = bucket_of(id), *t;

	GUARD(mutex, &twins_mu);
	for (t = *bucket; t; t = t->next)
		if (same(&t->id, id))
			break;
	if (!t) {
		t = TAKE(*spare);
		t->next = *bucket;
		*bucket = t;
	}
	t->refs++;
	return t;
}

struct inode_twins *inode_twins(struct inode *i)
{
	struct inode_twins *t = __atomic_load_n(&i->twins, __ATOMIC_ACQUIRE), *expected = NULL, *spare;
	struct file_identity id;

	if (t || !i->ops->identity || !i->ops->identity(i, &id))
		return t;
	spare = calloc(1, sizeof(*spare));
	if (!spare)
		return NULL;
	spare->id = id;
	mutex_init(&spare->mu, LOCK_TWINS);
	t = find_or_add(&id, &spare);
	if (spare) {
		mutex_fini(&spare->mu);
		free(spare);
	}
	if (__atomic_compare_exchange_n(&i->twins, &expected, t, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return t;
	inode_twins_put(t);
	return expected;
}

struct inode_twins *inode_twins_get(struct inode_twins *t)
{
	GUARD(mutex, &twins_mu);
	t->refs++;
	return t;
}

void inode_twins_put(struct inode_twins *t)
{
	struct inode_twins **p;

	if (!t)
		return;
	mutex_lock(&twins_mu);
	if (--t->refs > 0) {
		mutex_unlock(&twins_mu);
		return;
	}
	for (p = bucket_of(&t->id); *p != t;)
		p = &(*p)->next;
	*p = t->next;
	mutex_unlock(&twins_mu);
	inode_locks_put(t->locks);
	mutex_fini(&t->mu);
	free(t);
}
