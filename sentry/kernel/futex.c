#include "sentry/kernel/futex.h"

#include <linux/futex.h>
#include <stdatomic.h>

#include "sentry/core/lockrank.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/mm/mm.h"

#define BUCKET_COUNT 256u

struct bucket {
	struct mutex mu; /* LOCK_FUTEX: the list and the waiters on it */
	struct list_node waiters;
};

static struct bucket buckets[BUCKET_COUNT];

/* One sleeping word; lives on the sleeper's stack. */
struct futex_waiter {
	struct list_node node;
	struct futex_key key;
	struct bucket *_Atomic bucket; /* changes by requeue, under both locks; NULL once woken */
	struct task *task;
	uint32_t bitset;
	bool pi;	/* waits to own the word; woken means it does */
	int32_t tid;	/* pi: what the word will hold */
};

int futex_init(void)
{
	for (unsigned i = 0; i < BUCKET_COUNT; i++) {
		mutex_init(&buckets[i].mu, LOCK_FUTEX);
		list_init(&buckets[i].waiters);
	}
	return 0;
}

static struct bucket *bucket_of(const struct futex_key *k)
{
	uint64_t h = (k->a ^ (k->b << 7) ^ (k->b >> 9)) + k->offset;

	h *= 0x9e3779b97f4a7c15ull;
	return &buckets[h >> 56];
}

static bool key_equal(const struct futex_key *x, const struct futex_key *y)
{
	return x->a == y->a && x->b == y->b && x->offset == y->offset && x->shared == y->shared;
}

static int key_get(struct task *t, uaddr_t addr, bool shared, struct futex_key *ret)
{
	if (addr.v & 3)
		return -EINVAL;
	return mm_futex_key(t->mm, addr, shared, ret);
}

static void waiter_queue_locked(struct bucket *b, struct futex_waiter *w)
{
	list_add_tail(&b->waiters, &w->node);
	atomic_store(&w->bucket, b);
}

/* The bucket's lock is held. The waiter may vanish as soon as bucket is NULL: read the task first. */
static void waiter_wake_locked(struct futex_waiter *w)
{
	struct task *t = task_get(w->task);

	list_del(&w->node);
	atomic_store(&w->bucket, NULL);
	task_wake(t);
	task_put(t);
}

/* Takes w off its queue; true when it was still there (not woken). */
static bool waiter_dequeue(struct futex_waiter *w)
{
	for (;;) {
		struct bucket *b = atomic_load(&w->bucket);
		bool mine;

		if (!b)
			return false;
		mutex_lock(&b->mu);
		mine = atomic_load(&w->bucket) == b; /* else requeued meanwhile */
		if (mine) {
			list_del(&w->node);
			atomic_store(&w->bucket, NULL);
		}
		mutex_unlock(&b->mu);
		if (mine)
			return true;
	}
}

static bool any_woken(struct futex_waiter *w, unsigned count, unsigned *ret_index)
{
	for (unsigned i = 0; i < count; i++) {
		if (!atomic_load(&w[i].bucket)) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

/* Queues w if the word at addr holds val. 0, -EAGAIN or -EFAULT. */
static int waiter_enqueue_if(struct task *t, struct futex_waiter *w, uaddr_t addr, uint32_t val)
{
	struct bucket *b = bucket_of(&w->key);
	struct umem *um = task_umem(t);
	uint32_t now;
	int r;

	GUARD(mutex, &b->mu);
	r = um->ops->load32(um, addr, &now);
	if (r < 0)
		return r;
	if (now != val)
		return -EAGAIN;
	waiter_queue_locked(b, w);
	return 0;
}

int64_t futex_wait(struct task *t, uaddr_t addr, bool shared, uint32_t val, uint32_t bitset,
		   int64_t deadline_ns)
{
	struct futex_waiter w = { .task = t, .bitset = bitset };
	int64_t r;

	if (bitset == 0)
		return -EINVAL;
	r = key_get(t, addr, shared, &w.key);
	if (r < 0)
		return r;
	r = waiter_enqueue_if(t, &w, addr, val);
	while (r == 0 && atomic_load(&w.bucket))
		r = task_block(t, deadline_ns, "futex");
	/* Woken and interrupted at once counts as woken, or the wake would be lost. */
	if (r != -EAGAIN && r != -EFAULT && !waiter_dequeue(&w))
		r = 0;
	futex_key_put(&w.key);
	return r;
}

int64_t futex_wait_many(struct task *t, const struct futex_wait_one *one, unsigned count, int64_t deadline_ns)
{
	struct futex_waiter w[FUTEX_WAITV_LIMIT];
	unsigned queued = 0, keys = 0, index = 0;
	bool woken = false;
	int64_t r = 0;

	for (; keys < count && r == 0; keys += r == 0) {
		w[keys] = (struct futex_waiter){ .task = t, .bitset = FUTEX_BITSET_ALL };
		r = key_get(t, one[keys].addr, one[keys].shared, &w[keys].key);
	}
	while (r == 0 && queued < count) {
		r = waiter_enqueue_if(t, &w[queued], one[queued].addr, one[queued].val);
		queued += r == 0;
	}
	while (r == 0 && !any_woken(w, queued, &index))
		r = task_block(t, deadline_ns, "futex_waitv");
	for (unsigned i = 0; i < queued; i++) {
		if (!waiter_dequeue(&w[i])) {
			index = i;
			woken = true;
		}
	}
	for (unsigned i = 0; i < keys; i++)
		futex_key_put(&w[i].key);
	return woken ? (int64_t)index : r;
}

static int64_t wake_locked(struct bucket *b, const struct futex_key *key, int32_t count, uint32_t bitset)
{
	struct futex_waiter *w, *tmp;
	int64_t woken = 0;

	list_for_each_safe(w, tmp, &b->waiters, node) {
		if (woken >= count)
			break;
		if (!key_equal(&w->key, key) || !(w->bitset & bitset))
			continue;
		if (w->pi)
			return woken ? woken : -EINVAL;
		waiter_wake_locked(w);
		woken++;
	}
	return woken;
}

int64_t futex_wake(struct task *t, uaddr_t addr, bool shared, int32_t count, uint32_t bitset)
{
	struct futex_key key;
	struct bucket *b;
	int64_t r;

	if (bitset == 0)
		return -EINVAL;
	r = key_get(t, addr, shared, &key);
	if (r < 0)
		return r;
	b = bucket_of(&key);
	mutex_lock(&b->mu);
	/* Linux wakes one even when asked for none. */
	r = wake_locked(b, &key, MAX(count, 1), bitset);
	mutex_unlock(&b->mu);
	futex_key_put(&key);
	return r;
}

static void lock_two(struct bucket *x, struct bucket *y)
{
	mutex_lock(x < y ? &x->mu : &y->mu);
	if (x != y)
		mutex_lock_nested(x < y ? &y->mu : &x->mu);
}

static void unlock_two(struct bucket *x, struct bucket *y)
{
	if (x != y)
		mutex_unlock(&y->mu);
	mutex_unlock(&x->mu);
}

static int two_keys(struct task *t, uaddr_t addr, uaddr_t addr2, bool shared, struct futex_key *k1,
		    struct futex_key *k2)
{
	int r = key_get(t, addr, shared, k1);

	if (r < 0)
		return r;
	r = key_get(t, addr2, shared, k2);
	if (r < 0)
		futex_key_put(k1);
	return r;
}

/* Moves one waiter to another word; both buckets are locked. The key's references follow. */
static void waiter_move_locked(struct task *t, struct futex_waiter *w, uaddr_t addr2, bool shared,
			       struct bucket *b2, const struct futex_key *k2)
{
	struct futex_key mine;

	if (k2->shared) {
		/* A reference of its own for the waiter; a word that vanished meanwhile keeps the old key. */
		if (key_get(t, addr2, shared, &mine) < 0)
			return;
	} else {
		mine = *k2;
	}
	list_del(&w->node);
	futex_key_put(&w->key);
	w->key = mine;
	waiter_queue_locked(b2, w);
}

int64_t futex_requeue(struct task *t, uaddr_t addr, uaddr_t addr2, bool shared, int32_t wake_count,
		      int32_t requeue_count, const uint32_t *cmp)
{
	struct umem *um = task_umem(t);
	struct futex_waiter *w, *tmp;
	struct futex_key k1, k2;
	struct bucket *b1, *b2;
	int64_t done = 0, moved = 0;
	uint32_t now;
	int r;

	if (wake_count < 0 || requeue_count < 0)
		return -EINVAL;
	r = two_keys(t, addr, addr2, shared, &k1, &k2);
	if (r < 0)
		return r;
	b1 = bucket_of(&k1);
	b2 = bucket_of(&k2);
	lock_two(b1, b2);
	if (cmp) {
		r = um->ops->load32(um, addr, &now);
		if (r == 0 && now != *cmp)
			r = -EAGAIN;
	}
	if (r == 0) {
		list_for_each_safe(w, tmp, &b1->waiters, node) {
			if (!key_equal(&w->key, &k1))
				continue;
			if (done < wake_count) {
				waiter_wake_locked(w);
				done++;
			} else if (moved < requeue_count && !key_equal(&k1, &k2)) {
				waiter_move_locked(t, w, addr2, shared, b2, &k2);
				moved++;
			} else if (moved < requeue_count) {
				moved++; /* onto itself: counted, not moved */
			} else {
				break;
			}
		}
	}
	unlock_two(b1, b2);
	futex_key_put(&k1);
	futex_key_put(&k2);
	return r < 0 ? r : done + moved;
}

/* FUTEX_WAKE_OP's operation on the second word; returns whether the old value meets the comparison. */
static int wake_op_apply(struct umem *um, uaddr_t addr, uint32_t encoded)
{
	uint32_t op = (encoded >> 28) & 7, cmp = (encoded >> 24) & 15;
	int32_t oparg = (int32_t)(encoded << 8) >> 20, cmparg = (int32_t)(encoded << 20) >> 20;
	uint32_t old, new;
	int r;

	if (encoded >> 28 & FUTEX_OP_OPARG_SHIFT)
		oparg = (int32_t)(1u << (oparg & 31));
	r = um->ops->load32(um, addr, &old);
	while (r == 0) {
		switch (op) {
		case FUTEX_OP_SET:
			new = (uint32_t)oparg;
			break;
		case FUTEX_OP_ADD:
			new = old + (uint32_t)oparg;
			break;
		case FUTEX_OP_OR:
			new = old | (uint32_t)oparg;
			break;
		case FUTEX_OP_ANDN:
			new = old & ~(uint32_t)oparg;
			break;
		case FUTEX_OP_XOR:
			new = old ^ (uint32_t)oparg;
			break;
		default:
			return -ENOSYS;
		}
		r = um->ops->cmpxchg32(um, addr, &old, new);
	}
	if (r < 0)
		return r;
	switch (cmp) {
	case FUTEX_OP_CMP_EQ:
		return (int32_t)old == cmparg;
	case FUTEX_OP_CMP_NE:
		return (int32_t)old != cmparg;
	case FUTEX_OP_CMP_LT:
		return (int32_t)old < cmparg;
	case FUTEX_OP_CMP_LE:
		return (int32_t)old <= cmparg;
	case FUTEX_OP_CMP_GT:
		return (int32_t)old > cmparg;
	case FUTEX_OP_CMP_GE:
		return (int32_t)old >= cmparg;
	default:
		return -ENOSYS;
	}
}

int64_t futex_wake_op(struct task *t, uaddr_t addr, uaddr_t addr2, bool shared, int32_t count,
		      int32_t count2, uint32_t op)
{
	struct futex_key k1, k2;
	struct bucket *b1, *b2;
	int64_t woken = 0;
	int r = two_keys(t, addr, addr2, shared, &k1, &k2);

	if (r < 0)
		return r;
	b1 = bucket_of(&k1);
	b2 = bucket_of(&k2);
	lock_two(b1, b2);
	r = wake_op_apply(task_umem(t), addr2, op);
	if (r >= 0) {
		woken = wake_locked(b1, &k1, count, FUTEX_BITSET_ALL);
		if (r > 0 && woken >= 0)
			woken += wake_locked(b2, &k2, count2, FUTEX_BITSET_ALL);
	}
	unlock_two(b1, b2);
	futex_key_put(&k1);
	futex_key_put(&k2);
	return r < 0 ? r : woken;
}

/* Tries to own the word, or marks it contended and queues w. 0: owned, -EAGAIN: queued. */
static int pi_try_locked(struct task *t, struct bucket *b, struct futex_waiter *w, uaddr_t addr, bool try_only)
{
	struct umem *um = task_umem(t);
	uint32_t word, new;
	int r = um->ops->load32(um, addr, &word);

	while (r == 0) {
		uint32_t owner = word & FUTEX_TID_MASK;

		if (owner == (uint32_t)w->tid)
			return -EDEADLK;
		if (owner == 0) {
			new = (uint32_t)w->tid | (word & (FUTEX_OWNER_DIED | FUTEX_WAITERS));
		} else {
			AUTO(task_put) struct task *o = task_find(task_pid_ns(t), (int32_t)owner);

			if (!o)
				return -ESRCH;
			if (try_only)
				return -EWOULDBLOCK;
			new = word | FUTEX_WAITERS;
		}
		r = um->ops->cmpxchg32(um, addr, &word, new);
		if (r == 1 && owner == 0)
			return 0;
		if (r == 1) {
			waiter_queue_locked(b, w);
			return 1;
		}
	}
	return r;
}

int64_t futex_lock_pi(struct task *t, uaddr_t addr, bool shared, int64_t deadline_ns, bool try_only)
{
	struct futex_waiter w = { .task = t, .bitset = FUTEX_BITSET_ALL, .pi = true };
	struct bucket *b;
	int64_t r;

	w.tid = task_tid_in(t, task_pid_ns(t));
	r = key_get(t, addr, shared, &w.key);
	if (r < 0)
		return r;
	b = bucket_of(&w.key);
	mutex_lock(&b->mu);
	r = pi_try_locked(t, b, &w, addr, try_only);
	mutex_unlock(&b->mu);
	if (r == 1) {
		r = 0;
		while (r == 0 && atomic_load(&w.bucket))
			r = task_block(t, deadline_ns, "futex pi");
		if (!waiter_dequeue(&w))
			r = 0; /* the owner handed the word over */
		else if (r == -ERESTARTSYS)
			r = -ERESTARTNOINTR;
	}
	futex_key_put(&w.key);
	return r;
}

/* Hands the word to the first waiter, or frees it; the bucket is locked. died: keep the mark. */
static int pi_release_locked(struct task *t, struct bucket *b, const struct futex_key *key, uaddr_t addr,
			     uint32_t owner, uint32_t died)
{
	struct umem *um = task_umem(t);
	struct futex_waiter *w, *next = NULL;
	uint32_t word, new;
	bool more = false;
	int r;

	list_for_each(w, &b->waiters, node) {
		if (!key_equal(&w->key, key) || !w->pi)
			continue;
		if (next) {
			more = true;
			break;
		}
		next = w;
	}
	r = um->ops->load32(um, addr, &word);
	do {
		if (r < 0)
			return r;
		if ((word & FUTEX_TID_MASK) != owner)
			return -EPERM;
		new = died | (next ? (uint32_t)next->tid | (more ? FUTEX_WAITERS : 0) : 0);
		r = um->ops->cmpxchg32(um, addr, &word, new);
	} while (r != 1);
	if (next)
		waiter_wake_locked(next);
	return 0;
}

int64_t futex_unlock_pi(struct task *t, uaddr_t addr, bool shared)
{
	struct futex_key key;
	struct bucket *b;
	int64_t r = key_get(t, addr, shared, &key);

	if (r < 0)
		return r;
	b = bucket_of(&key);
	mutex_lock(&b->mu);
	r = pi_release_locked(t, b, &key, addr, (uint32_t)task_tid_in(t, task_pid_ns(t)), 0);
	mutex_unlock(&b->mu);
	futex_key_put(&key);
	return r;
}

/* One entry of a dead thread's robust list (get_robust_list(2), Linux's robust-futexes). */
static int robust_release(struct task *t, uaddr_t addr, bool pi, bool pending)
{
	struct umem *um = task_umem(t);
	uint32_t tid = (uint32_t)task_tid_in(t, task_pid_ns(t)), word;
	struct futex_key key;
	int r;

	if (addr.v & 3)
		return -EINVAL;
	r = um->ops->load32(um, addr, &word);
	if (r < 0)
		return r;
	/* Died between unlocking and taking the entry off the list: somebody may still sleep. */
	if (pending && !pi && word == 0) {
		(void)futex_wake(t, addr, true, 1, FUTEX_BITSET_ALL);
		return 0;
	}
	if ((word & FUTEX_TID_MASK) != tid)
		return 0;
	if (pi) {
		struct bucket *b;

		r = key_get(t, addr, true, &key);
		if (r < 0)
			return r;
		b = bucket_of(&key);
		mutex_lock(&b->mu);
		r = pi_release_locked(t, b, &key, addr, tid, FUTEX_OWNER_DIED);
		mutex_unlock(&b->mu);
		futex_key_put(&key);
		return r == -EPERM ? 0 : r;
	}
	while ((word & FUTEX_TID_MASK) == tid) {
		uint32_t new = (word & FUTEX_WAITERS) | FUTEX_OWNER_DIED;

		r = um->ops->cmpxchg32(um, addr, &word, new);
		if (r < 0)
			return r;
		if (r == 1) {
			if (word & FUTEX_WAITERS)
				(void)futex_wake(t, addr, true, 1, FUTEX_BITSET_ALL);
			break;
		}
	}
	return 0;
}

void futex_exit_robust(struct task *t)
{
	struct umem *um = task_umem(t);
	struct {
		uint64_t next;
		int64_t futex_offset;
		uint64_t pending;
	} head;
	uint64_t entry;

	if (t->robust_list.v == 0 || copy_in_struct(um, &head, t->robust_list) < 0)
		return;
	entry = head.next;
	/* Bit 0 of a pointer marks a priority-inheritance lock. The list is the guest's: bounded. */
	for (unsigned i = 0; i < 2048 && (entry & ~1ull) != t->robust_list.v; i++) {
		uint64_t next;

		if (copy_in_struct(um, &next, UADDR(entry & ~1ull)) < 0)
			return;
		if (entry != head.pending &&
		    robust_release(t, UADDR((entry & ~1ull) + (uint64_t)head.futex_offset), entry & 1, false) < 0)
			return;
		entry = next;
	}
	if (head.pending & ~1ull)
		(void)robust_release(t, UADDR((head.pending & ~1ull) + (uint64_t)head.futex_offset),
				     head.pending & 1, true);
}

int futex_wake_addr(struct task *t, uaddr_t addr, int count)
{
	return (int)futex_wake(t, addr, true, count, FUTEX_BITSET_ALL);
}
