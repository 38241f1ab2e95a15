/*
 * File locks: POSIX record locks and open file description locks (fcntl(2)), flock(2). One lock
 * protects them all; each inode with locks has a wait queue that every release wakes. A blocked
 * POSIX waiter is an edge from its owner to the owner in its way; a new edge that closes a cycle is a
 * deadlock.
 */
#include <stdlib.h>

#include <poll.h>
#include <sys/file.h>

#include "sentry/state/desc.h"
#include "sentry/vfs/twins.h"
#include "sentry/vfs/vfs_priv.h"

struct inode_locks {
	struct refcount refs; /* of inodes that are twins, and of what they share */
	struct waitq q;
	struct list_node posix; /* held_lock.node, ascending start; lock_mu */
	struct list_node flock; /* held_lock.node; lock_mu */
};

struct held_lock {
	struct list_node node;
	const void *owner;
	struct klock l;
};

STATE_DESC(inode_locks, S_NOSAVE(inode_locks, refs, "recounted"), S_NOSAVE(inode_locks, q, "waiters register again"),
	   S_LIST(inode_locks, 1, posix, held_lock), S_LIST(inode_locks, 2, flock, held_lock));
STATE_DESC(klock, S_VAL(klock, 1, type), S_VAL(klock, 2, start), S_VAL(klock, 3, end), S_VAL(klock, 4, pid));
STATE_DESC(held_lock, S_NOSAVE(held_lock, node, "linked again"), S_WEAK(held_lock, 1, owner, fdtable_or_file),
	   S_EMBED(held_lock, 2, l, klock));

#define DEADLOCK_DEPTH 10

static struct mutex lock_mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_OBJECT };
static struct list_node waiting = LIST_INIT(waiting); /* klock_wait.node */

static struct inode_locks *locks_of(const struct inode *i)
{
	return __atomic_load_n(&i->locks, __ATOMIC_ACQUIRE);
}

static struct inode_locks *locks_new(void)
{
	struct inode_locks *l = malloc(sizeof(*l));

	if (!l)
		return NULL;
	refcount_init(&l->refs, 1);
	waitq_init(&l->q);
	list_init(&l->posix);
	list_init(&l->flock);
	return l;
}

/* Those of the twins, with a reference more. */
static struct inode_locks *twins_locks(struct inode_twins *t)
{
	GUARD(mutex, &t->mu);
	if (!t->locks)
		t->locks = locks_new();
	if (t->locks)
		refcount_get(&t->locks->refs);
	return t->locks;
}

static struct inode_locks *locks_make(struct inode *i)
{
	struct inode_locks *l = locks_of(i), *expected = NULL;
	struct inode_twins *t;

	if (l)
		return l;
	t = inode_twins(i);
	l = t ? twins_locks(t) : locks_new();
	if (!l)
		return NULL;
	if (__atomic_compare_exchange_n(&i->locks, &expected, l, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		return l;
	inode_locks_put(l);
	return expected;
}

/* For inode_fini. With the last inode no file is open, so nothing is locked. */
void inode_locks_put(struct inode_locks *l)
{
	if (!l || !refcount_put(&l->refs))
		return;
	BUG_ON(!list_empty(&l->posix) || !list_empty(&l->flock));
	waitq_fini(&l->q);
	free(l);
}

static bool overlaps(const struct klock *a, const struct klock *b)
{
	return a->start <= b->end && b->start <= a->end;
}

static struct held_lock *conflict_locked(struct list_node *head, const void *owner, const struct klock *l)
{
	struct held_lock *h;

	list_for_each(h, head, node) {
		if (h->owner != owner && overlaps(&h->l, l) && (h->l.type == F_WRLCK || l->type == F_WRLCK))
			return h;
	}
	return NULL;
}

/* Does `from` wait, over any number of steps, for `to`? */
static bool waits_for_locked(const void *from, const void *to, int depth)
{
	struct klock_wait *w;

	if (from == to)
		return true;
	if (depth == 0)
		return false;
	list_for_each(w, &waiting, node) {
		if (w->owner == from && waits_for_locked(w->blocker, to, depth - 1))
			return true;
	}
	return false;
}

static void wait_unlink_locked(struct klock_wait *w)
{
	if (w->node.next)
		list_del(&w->node);
	else
		list_init(&w->node);
	w->owner = w->blocker = NULL;
}

void klock_wait_end(struct klock_wait *w)
{
	GUARD(mutex, &lock_mu);
	wait_unlink_locked(w);
}

/* Puts n in order of start. */
static void insert_sorted(struct list_node *head, struct held_lock *n)
{
	struct held_lock *h;

	list_for_each(h, head, node) {
		if (h->l.start > n->l.start)
			break;
	}
	list_add_tail(&h->node, &n->node); /* in front of h, or at the end */
}

static void held_free(struct held_lock *h)
{
	list_del(&h->node);
	free(h);
}

/* Replaces what owner holds in l's range by l, splitting with *spare and entering *entry; those used
 * are set to NULL. Returns whether others may be able to go on. */
static bool apply_locked(struct list_node *head, const void *owner, const struct klock *l,
			 struct held_lock **entry, struct held_lock **spare)
{
	struct klock merged = *l;
	struct held_lock *h, *tmp;
	bool released = false;

	list_for_each_safe(h, tmp, head, node) {
		bool same = h->l.type == l->type;

		if (h->owner != owner)
			continue;
		if (!overlaps(&h->l, l)) {
			bool adjacent = (h->l.end != INT64_MAX && h->l.end + 1 == l->start) ||
					(l->end != INT64_MAX && l->end + 1 == h->l.start);

			if (!same || !adjacent)
				continue;
		}
		if (same && l->type != F_UNLCK) {
			merged.start = MIN(merged.start, h->l.start);
			merged.end = MAX(merged.end, h->l.end);
			held_free(h);
			continue;
		}
		released = true;
		if (h->l.start < l->start && h->l.end > l->end) {
			struct held_lock *right = TAKE(*spare);

			*right = *h;
			right->l.start = l->end + 1;
			h->l.end = l->start - 1;
			insert_sorted(head, right);
		} else if (h->l.start < l->start) {
			h->l.end = l->start - 1;
		} else if (h->l.end > l->end) {
			h->l.start = l->end + 1;
		} else {
			held_free(h);
		}
	}
	if (l->type != F_UNLCK) {
		struct held_lock *n = TAKE(*entry);

		n->owner = owner;
		n->l = merged;
		insert_sorted(head, n);
	}
	return released;
}

/* A conflict was found: fills the waiter, unless waiting would close a cycle. */
static int wait_locked(struct inode_locks *il, const void *owner, const struct held_lock *h,
		       struct klock_wait *w, bool detect)
{
	if (!w)
		return -EAGAIN;
	wait_unlink_locked(w);
	if (detect && waits_for_locked(h->owner, owner, DEADLOCK_DEPTH))
		return -EDEADLK;
	w->q = &il->q;
	if (detect) {
		w->owner = owner;
		w->blocker = h->owner;
		list_add_tail(&waiting, &w->node);
	}
	return -EAGAIN;
}

int file_lock_posix(struct file *f, const void *owner, const struct klock *l, struct klock_wait *w)
{
	struct inode_locks *il = l->type == F_UNLCK ? locks_of(f->inode) : locks_make(f->inode);
	struct held_lock *entry, *spare, *h;
	bool released = false;
	int r = 0;

	if (!il)
		return l->type == F_UNLCK ? 0 : -ENOLCK;
	entry = calloc(1, sizeof(*entry));
	spare = calloc(1, sizeof(*spare));
	if (!entry || !spare) {
		r = -ENOLCK;
		goto out;
	}
	mutex_lock(&lock_mu);
	h = l->type == F_UNLCK ? NULL : conflict_locked(&il->posix, owner, l);
	if (h) {
		r = wait_locked(il, owner, h, w, owner != f);
	} else {
		if (w)
			wait_unlink_locked(w);
		released = apply_locked(&il->posix, owner, l, &entry, &spare);
	}
	mutex_unlock(&lock_mu);
	if (released)
		waitq_wake(&il->q, POLLIN);
out:
	free(entry);
	free(spare);
	return r;
}

/* Drops what owner has on head; true when there was something. */
static bool drop_locked(struct list_node *head, const void *owner)
{
	struct held_lock *h, *tmp;
	bool dropped = false;

	list_for_each_safe(h, tmp, head, node) {
		if (h->owner == owner) {
			held_free(h);
			dropped = true;
		}
	}
	return dropped;
}

int file_lock_flock(struct file *f, int op, struct klock_wait *w)
{
	struct inode_locks *il = op == LOCK_UN ? locks_of(f->inode) : locks_make(f->inode);
	struct klock l = { .type = op == LOCK_EX ? F_WRLCK : F_RDLCK, .end = INT64_MAX };
	struct held_lock *entry = NULL, *h;
	bool released = false;
	int r = 0;

	if (!il)
		return op == LOCK_UN ? 0 : -ENOLCK;
	if (op != LOCK_UN) {
		entry = calloc(1, sizeof(*entry));
		if (!entry)
			return -ENOLCK;
	}
	mutex_lock(&lock_mu);
	list_for_each(h, &il->flock, node) {
		if (h->owner == f)
			break;
	}
	if (op == LOCK_UN || &h->node == &il->flock || h->l.type != l.type)
		released = drop_locked(&il->flock, f); /* converting gives up the old lock first */
	else
		op = LOCK_UN; /* held already */
	if (op != LOCK_UN) {
		h = conflict_locked(&il->flock, f, &l);
		if (h) {
			r = wait_locked(il, f, h, w, false);
		} else {
			entry->owner = f;
			entry->l = l;
			list_add_tail(&il->flock, &entry->node);
			entry = NULL;
		}
	}
	mutex_unlock(&lock_mu);
	if (released)
		waitq_wake(&il->q, POLLIN);
	free(entry);
	return r;
}

void file_lock_test(struct file *f, const void *owner, struct klock *l)
{
	struct inode_locks *il = locks_of(f->inode);
	struct held_lock *h = NULL;

	if (il) {
		GUARD(mutex, &lock_mu);
		h = conflict_locked(&il->posix, owner, l);
		if (h) {
			*l = h->l;
			return;
		}
	}
	l->type = F_UNLCK;
}

void file_locks_release(struct file *f, const void *owner)
{
	struct inode_locks *il = locks_of(f->inode);
	bool dropped;

	if (!il)
		return;
	mutex_lock(&lock_mu);
	dropped = drop_locked(&il->posix, owner);
	mutex_unlock(&lock_mu);
	if (dropped)
		waitq_wake(&il->q, POLLIN);
}

/* The open file goes: its flock and its own record locks. */
void file_locks_release_file(struct file *f)
{
	struct inode_locks *il = locks_of(f->inode);
	bool dropped;

	if (!il)
		return;
	mutex_lock(&lock_mu);
	dropped = drop_locked(&il->posix, f);
	dropped |= drop_locked(&il->flock, f);
	mutex_unlock(&lock_mu);
	if (dropped)
		waitq_wake(&il->q, POLLIN);
}

void file_lock_for_each(struct file *f, void (*fn)(const struct klock *l, bool flock, const void *owner, void *arg),
			void *arg)
{
	struct inode_locks *il = locks_of(f->inode);
	struct held_lock *h;

	if (!il)
		return;
	GUARD(mutex, &lock_mu);
	list_for_each(h, &il->posix, node)
		fn(&h->l, false, h->owner, arg);
	list_for_each(h, &il->flock, node)
		fn(&h->l, true, h->owner, arg);
}
