/* struct iovec arrays of the guest (readv(2)). */
#ifndef SENTRY_SYSCALLS_IOVEC_H
#define SENTRY_SYSCALLS_IOVEC_H

#include <stdlib.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/task.h"

#define IOVEC_COUNT_MAX 1024u
#define IOVEC_BYTES_MAX 0x7ffff000ull /* MAX_RW_COUNT: no call moves more */
#define IOVEC_INLINE 8

struct iovec_arg {
	struct uio_seg inline_seg[IOVEC_INLINE];
	struct uio_seg *seg; /* inline_seg or allocated */
};

/* Copies and checks count entries; sets u up over them, at most IOVEC_BYTES_MAX bytes. -EINVAL, -EFAULT,
 * -ENOMEM. v and u must stay where they are; iovec_arg_fini after success. */
NODISCARD static inline int iovec_arg_init(struct iovec_arg *v, struct task *t, uaddr_t addr, uint64_t count,
					   struct uio *u)
{
	uint64_t total = 0;
	int r = 0;

	_Static_assert(sizeof(struct uio_seg) == 16, "struct iovec of a 64-bit ABI");
	if (count > IOVEC_COUNT_MAX)
		return -EINVAL;
	v->seg = v->inline_seg;
	if (count > IOVEC_INLINE) {
		v->seg = malloc(count * sizeof(v->seg[0]));
		if (!v->seg)
			return -ENOMEM;
	}
	r = copy_in(task_umem(t), v->seg, addr, count * sizeof(v->seg[0]));
	for (uint64_t i = 0; i < count && r == 0; i++) {
		if ((int64_t)v->seg[i].size < 0)
			r = -EINVAL;
		v->seg[i].size = MIN(v->seg[i].size, IOVEC_BYTES_MAX - total);
		total += v->seg[i].size;
	}
	if (r == 0)
		uio_init_segs(u, task_umem(t), v->seg, (unsigned)count);
	else if (v->seg != v->inline_seg)
		free(v->seg);
	return r;
}

static inline void iovec_arg_fini(struct iovec_arg *v)
{
	if (v->seg != v->inline_seg)
		free(v->seg);
}

#endif
