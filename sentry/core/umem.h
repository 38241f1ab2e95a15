/*
 * Guest memory of one address space, as the rest of the sentry sees it. sentry/mm fills the ops;
 * everybody else copies through these functions and nothing else. A value is copied once and then
 * checked: no handler reads the same guest address twice.
 *
 * Context: any thread that holds a reference on the mm; may take the mm lock and fault pages in, so
 * never call with a lock ranked above LOCK_MM held, and never under an inode, pipe or socket lock
 * (copy to a buffer first, or pin first).
 */
#ifndef SENTRY_CORE_UMEM_H
#define SENTRY_CORE_UMEM_H

#include <sys/uio.h>

#include "platform/base/compiler.h"
#include "sentry/core/errno.h"
#include "sentry/core/uaddr.h"

struct umem;
struct frame_file;

#define UMEM_PIN_MAX 64

/* Guest pages made addressable in the sentry; the frames stay referenced until umem_unpin. */
struct umem_pin {
	struct iovec iov[UMEM_PIN_MAX];
	unsigned count;
	size_t size; /* bytes in iov */
	struct {
		struct frame_file *ff;
		uint64_t offset, size;
	} ref[UMEM_PIN_MAX];
	unsigned ref_count;
};

struct umem_ops {
	/* Copies up to size bytes; returns how many before the first bad page, or -EFAULT if none (size > 0). */
	int64_t (*copy_in)(struct umem *um, void *dst, uaddr_t src, size_t size);
	int64_t (*copy_out)(struct umem *um, uaddr_t dst, const void *src, size_t size);
	/* Makes up to size bytes from addr addressable, appended to what pin holds; partial when pages are bad or UMEM_PIN_MAX is
	 * reached; returns bytes pinned or -EFAULT. The memory may be changed by the guest at any time and
	 * may raise SIGBUS on direct access when it belongs to a host file: hand it to host calls only. */
	int64_t (*pin)(struct umem *um, uaddr_t addr, size_t size, bool write, struct umem_pin *pin);
	void (*unpin)(struct umem *um, struct umem_pin *pin);
	/* Atomics on an aligned 32-bit guest word (futex, robust lists). 0 or -EFAULT. */
	int (*load32)(struct umem *um, uaddr_t addr, uint32_t *ret_val);
	/* *expected is updated with the value found; returns 1 if swapped, 0 if not, -EFAULT. */
	int (*cmpxchg32)(struct umem *um, uaddr_t addr, uint32_t *expected, uint32_t desired);
};

struct umem {
	const struct umem_ops *ops;
};

/* All or nothing: 0 or -EFAULT (some bytes of a failed copy_out may have been written). */
NODISCARD static inline int copy_in(struct umem *um, void *dst, uaddr_t src, size_t size)
{
	return size == 0 || um->ops->copy_in(um, dst, src, size) == (int64_t)size ? 0 : -EFAULT;
}

NODISCARD static inline int copy_out(struct umem *um, uaddr_t dst, const void *src, size_t size)
{
	return size == 0 || um->ops->copy_out(um, dst, src, size) == (int64_t)size ? 0 : -EFAULT;
}

#define copy_in_struct(um, ptr, uaddr) copy_in(um, ptr, uaddr, sizeof(*(ptr)))
#define copy_out_struct(um, uaddr, ptr) copy_out(um, uaddr, ptr, sizeof(*(ptr)))

/* Copies a NUL-terminated string of at most size - 1 bytes into dst. Returns its length, -EFAULT, or
 * -ENAMETOOLONG when no NUL is within size bytes. */
NODISCARD int64_t copy_in_str(struct umem *um, char *dst, uaddr_t src, size_t size);
/* Writes size zero bytes. 0 or -EFAULT. */
NODISCARD int copy_out_zero(struct umem *um, uaddr_t dst, size_t size);

/*
 * A position in a scatter list of guest or sentry memory; what read and write move data through.
 */
struct uio_seg {
	uint64_t base; /* guest address, or sentry pointer when um is NULL */
	uint64_t size;
};

struct uio {
	struct umem *um;      /* NULL: seg[].base are sentry pointers */
	const struct uio_seg *seg; /* borrowed */
	unsigned seg_count;
	uint64_t seg_done; /* bytes of seg[0] already used */
	uint64_t resid;	   /* bytes left; who wants less moved lowers it */
	struct uio_seg one; /* storage for the single-segment constructors */
};

/* Single buffer constructors; u must not be moved afterwards. */
void uio_init_user(struct uio *u, struct umem *um, uaddr_t base, uint64_t size);
void uio_init_kernel(struct uio *u, void *buf, uint64_t size);
void uio_init_segs(struct uio *u, struct umem *um, const struct uio_seg *seg, unsigned count);
/* Move bytes between buf and the list and advance. Return bytes moved; -EFAULT only when none moved. */
NODISCARD int64_t uio_read(struct uio *u, void *dst, size_t size);	  /* list -> dst (write(2)) */
NODISCARD int64_t uio_write(struct uio *u, const void *src, size_t size); /* src -> list (read(2)) */
NODISCARD int64_t uio_zero(struct uio *u, size_t size);
void uio_advance(struct uio *u, uint64_t size);
/* Pins the next up to max bytes without advancing, for host readv/writev. write: list is written to. */
NODISCARD int64_t uio_pin(struct uio *u, uint64_t max, bool write, struct umem_pin *pin);
void uio_unpin(struct uio *u, struct umem_pin *pin);

#endif
