#include "sentry/core/mappable.h"

#include "sentry/core/lockrank.h"

void mappable_init(struct mappable *m, const struct mappable_ops *ops)
{
	m->ops = ops;
	mutex_init(&m->mu, LOCK_MAPPABLE);
	list_init(&m->users);
}

void mappable_fini(struct mappable *m)
{
	BUG_ON(!list_empty(&m->users));
	mutex_fini(&m->mu);
}

void mappable_add_user(struct mappable *m, struct mapping_user *u)
{
	GUARD(mutex, &m->mu);
	list_add_tail(&m->users, &u->node);
}

void mappable_remove_user(struct mappable *m, struct mapping_user *u)
{
	GUARD(mutex, &m->mu);
	list_del(&u->node);
}

static bool user_overlaps(const struct mapping_user *u, uint64_t offset, uint64_t size)
{
	uint64_t end = size > UINT64_MAX - offset ? UINT64_MAX : offset + size;

	return u->offset < end && (offset < u->offset || offset - u->offset < u->size);
}

void mappable_invalidate(struct mappable *m, uint64_t offset, uint64_t size)
{
	struct mapping_user *u;

	GUARD(mutex, &m->mu);
	list_for_each(u, &m->users, node) {
		if (user_overlaps(u, offset, size))
			u->invalidate(u, offset, size);
	}
}

bool mappable_in_use(struct mappable *m, uint64_t offset, uint64_t size)
{
	struct mapping_user *u;

	GUARD(mutex, &m->mu);
	list_for_each(u, &m->users, node) {
		if (user_overlaps(u, offset, size))
			return true;
	}
	return false;
}

bool mappable_writable(struct mappable *m)
{
	struct mapping_user *u;

	GUARD(mutex, &m->mu);
	list_for_each(u, &m->users, node) {
		if (u->may_write)
			return true;
	}
	return false;
}
