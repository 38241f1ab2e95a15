/* A guest virtual address: a type of its own, so that dereferencing one does not compile. */
#ifndef SENTRY_CORE_UADDR_H
#define SENTRY_CORE_UADDR_H

#include <stdint.h>

typedef struct {
	uint64_t v;
} uaddr_t;

#define UADDR(x) ((uaddr_t){ (uint64_t)(x) })
#define UADDR_NULL UADDR(0)

static inline uaddr_t uaddr_add(uaddr_t a, uint64_t n)
{
	return UADDR(a.v + n);
}

#define GUEST_PAGE_SIZE 4096ull
#define GUEST_PAGE_MASK (GUEST_PAGE_SIZE - 1)

#endif
