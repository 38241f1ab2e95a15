#include "sentry/core/umem.h"

#include <string.h>

#include "platform/base/compiler.h"

int64_t copy_in_str(struct umem *um, char *dst, uaddr_t src, size_t size)
{
	size_t done = 0;

	while (done < size) {
		uaddr_t at = uaddr_add(src, done);
		size_t chunk = MIN(size - done, (size_t)(GUEST_PAGE_SIZE - (at.v & GUEST_PAGE_MASK)));
		int64_t n;
		const char *nul;

		chunk = MIN(chunk, (size_t)256); /* paths are short: most end in the first piece */
		n = um->ops->copy_in(um, dst + done, at, chunk);
		if (n <= 0)
			return -EFAULT;
		nul = memchr(dst + done, 0, (size_t)n);
		if (nul)
			return nul - dst;
		done += (size_t)n;
	}
	return -ENAMETOOLONG;
}

int copy_out_zero(struct umem *um, uaddr_t dst, size_t size)
{
	static const uint8_t zero[4096];
	size_t done = 0;

	while (done < size) {
		size_t chunk = MIN(size - done, sizeof(zero));

		if (copy_out(um, uaddr_add(dst, done), zero, chunk) < 0)
			return -EFAULT;
		done += chunk;
	}
	return 0;
}

void uio_init_user(struct uio *u, struct umem *um, uaddr_t base, uint64_t size)
{
	u->one = (struct uio_seg){ base.v, size };
	uio_init_segs(u, um, &u->one, 1);
}

void uio_init_kernel(struct uio *u, void *buf, uint64_t size)
{
	u->one = (struct uio_seg){ (uint64_t)(uintptr_t)buf, size };
	uio_init_segs(u, NULL, &u->one, 1);
}

void uio_init_segs(struct uio *u, struct umem *um, const struct uio_seg *seg, unsigned count)
{
	u->um = um;
	u->seg = seg;
	u->seg_count = count;
	u->seg_done = 0;
	u->resid = 0;
	for (unsigned i = 0; i < count; i++)
		u->resid += seg[i].size;
}

void uio_advance(struct uio *u, uint64_t size)
{
	BUG_ON(size > u->resid);
	u->resid -= size;
	while (size > 0) {
		uint64_t left = u->seg->size - u->seg_done;

		if (size < left) {
			u->seg_done += size;
			return;
		}
		size -= left;
		u->seg++;
		u->seg_count--;
		u->seg_done = 0;
	}
}

/* Steps over empty segments; false at the end of the list, or of resid, which may have been shortened. */
static bool uio_front(struct uio *u, uint64_t *ret_base, uint64_t *ret_size)
{
	if (u->resid == 0)
		return false;
	while (u->seg_count > 0 && u->seg->size == u->seg_done) {
		u->seg++;
		u->seg_count--;
		u->seg_done = 0;
	}
	if (u->seg_count == 0)
		return false;
	*ret_base = u->seg->base + u->seg_done;
	*ret_size = MIN(u->seg->size - u->seg_done, u->resid);
	return true;
}

enum uio_move { UIO_FROM_LIST, UIO_TO_LIST };

static int64_t uio_move(struct uio *u, void *buf, size_t size, enum uio_move dir)
{
	uint64_t base, chunk;
	size_t done = 0;

	while (done < size && uio_front(u, &base, &chunk)) {
		uint8_t *b = (uint8_t *)buf + done;
		int64_t n;

		chunk = MIN(chunk, (uint64_t)(size - done));
		if (!u->um) {
			void *p = (void *)(uintptr_t)base;

			memcpy(dir == UIO_FROM_LIST ? b : p, dir == UIO_FROM_LIST ? p : b, chunk);
			n = (int64_t)chunk;
		} else if (dir == UIO_FROM_LIST) {
			n = u->um->ops->copy_in(u->um, b, UADDR(base), chunk);
		} else {
			n = u->um->ops->copy_out(u->um, UADDR(base), b, chunk);
		}
		if (n < 0)
			return done ? (int64_t)done : n;
		uio_advance(u, (uint64_t)n);
		done += (size_t)n;
		if ((uint64_t)n < chunk)
			break;
	}
	return (int64_t)done;
}

int64_t uio_read(struct uio *u, void *dst, size_t size)
{
	return uio_move(u, dst, size, UIO_FROM_LIST);
}

int64_t uio_write(struct uio *u, const void *src, size_t size)
{
	union {
		const void *in;
		void *buf;
	} p = { .in = src }; /* UIO_TO_LIST only reads it */

	return uio_move(u, p.buf, size, UIO_TO_LIST);
}

int64_t uio_zero(struct uio *u, size_t size)
{
	static const uint8_t zero[4096];
	size_t done = 0;

	while (done < size) {
		size_t chunk = MIN(size - done, sizeof(zero));
		int64_t n = uio_write(u, zero, chunk);

		if (n < 0)
			return done ? (int64_t)done : n;
		done += (size_t)n;
		if ((size_t)n < chunk)
			break;
	}
	return (int64_t)done;
}

int64_t uio_pin(struct uio *u, uint64_t max, bool write, struct umem_pin *pin)
{
	uint64_t base, size;
	struct uio at = *u;

	pin->count = pin->ref_count = 0;
	pin->size = 0;
	if (u->seg == &u->one)
		at.seg = &at.one;
	if (!u->um) {
		while (pin->count < UMEM_PIN_MAX && pin->size < max && uio_front(&at, &base, &size)) {
			size = MIN(size, max - pin->size);
			pin->iov[pin->count].iov_base = (void *)(uintptr_t)base;
			pin->iov[pin->count++].iov_len = size;
			pin->size += size;
			uio_advance(&at, size);
		}
		return (int64_t)pin->size;
	}
	while (pin->count < UMEM_PIN_MAX && pin->size < max && uio_front(&at, &base, &size)) {
		int64_t n;

		size = MIN(size, max - pin->size);
		/* umem's pin appends to what is pinned already. */
		n = u->um->ops->pin(u->um, UADDR(base), size, write, pin);
		if (n < 0)
			return pin->size ? (int64_t)pin->size : n;
		uio_advance(&at, (uint64_t)n);
		if ((uint64_t)n < size)
			break;
	}
	return (int64_t)pin->size;
}

void uio_unpin(struct uio *u, struct umem_pin *pin)
{
	if (u->um)
		u->um->ops->unpin(u->um, pin);
}
