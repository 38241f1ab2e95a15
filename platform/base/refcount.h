/* Reference counter that saturates instead of wrapping and aborts on misuse. */
#ifndef PLATFORM_BASE_REFCOUNT_H
#define PLATFORM_BASE_REFCOUNT_H

#include <stdatomic.h>

#include "platform/base/compiler.h"

struct refcount {
	_Atomic uint32_t n;
};

#define REFCOUNT_SATURATED 0x80000000u

static inline void refcount_init(struct refcount *r, uint32_t n)
{
	atomic_init(&r->n, n);
}

/* Takes one more reference; the caller holds one already. */
static inline void refcount_get(struct refcount *r)
{
	uint32_t old = atomic_fetch_add_explicit(&r->n, 1, memory_order_relaxed);

	BUG_ON(old == 0);
	if (unlikely(old >= REFCOUNT_SATURATED))
		atomic_store_explicit(&r->n, REFCOUNT_SATURATED, memory_order_relaxed);
}

/* Takes a reference unless the object is already on its way out. */
NODISCARD static inline bool refcount_try_get(struct refcount *r)
{
	uint32_t old = atomic_load_explicit(&r->n, memory_order_relaxed);

	do {
		if (old == 0)
			return false;
	} while (!atomic_compare_exchange_weak_explicit(&r->n, &old, old + 1, memory_order_acquire,
							memory_order_relaxed));
	return true;
}

/* Drops a reference; true when it was the last and the caller must free the object. */
NODISCARD static inline bool refcount_put(struct refcount *r)
{
	uint32_t old = atomic_fetch_sub_explicit(&r->n, 1, memory_order_acq_rel);

	BUG_ON(old == 0);
	if (unlikely(old >= REFCOUNT_SATURATED)) {
		atomic_store_explicit(&r->n, REFCOUNT_SATURATED, memory_order_relaxed);
		return false;
	}
	return old == 1;
}

static inline uint32_t refcount_read(const struct refcount *r)
{
	return atomic_load_explicit(&r->n, memory_order_relaxed);
}

#endif
