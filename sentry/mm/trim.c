/* Taking back what was handed out and not touched, when a container comes to its limit. */
#include "sentry/mm/mm_priv.h"

/* Bytes looked at together: one byte for each page on the stack. */
enum { TRIM_WINDOW = 2 << 20 };

/*
 * The first run of at least min_size bytes that the host does not hold of p's frames from at on, below end. False: none,
 * and *ret_lo is where the search ended.
 */
static bool find_hole(const struct pma *p, uint64_t at, uint64_t end, uint64_t min_size, uint64_t *ret_lo,
		      uint64_t *ret_hi)
{
	uint8_t vec[TRIM_WINDOW / PAGE];
	uint64_t n = MIN(end - at, (uint64_t)TRIM_WINDOW), i = 0, k;

	*ret_lo = at + n;
	if (resident_bytes(p->ff, p->offset + (at - p->start), n, vec) < 0)
		return false;
	for (; i < n / PAGE; i = k + 1) {
		for (k = i; k < n / PAGE && !vec[k]; k++)
			;
		if (k > i && (k - i) * PAGE >= min_size) {
			*ret_lo = at + i * PAGE;
			*ret_hi = at + k * PAGE;
			return true;
		}
	}
	return false;
}

/* Takes [lo, hi) of p out of the platform's space, so that the guest cannot touch it unseen. Two nodes are reserved. */
static void unmap_hole(struct mm *mm, struct pma *p, uint64_t lo, uint64_t hi, struct mm_ops *ops)
{
	pma_split_at(mm, lo);
	pma_split_at(mm, hi);
	p = pma_find(mm, lo);
	if (p->flags & PMA_MAPPED)
		ops_unmap(ops, lo, hi);
	p->flags = (uint8_t)((p->flags & ~PMA_MAPPED) | PMA_TRIM);
}

/* Holes of the pmas in [start, end) of an anonymous vma; pmu is held. */
static void unmap_holes(struct mm *mm, uint64_t start, uint64_t end, uint64_t min_size, struct mm_ops *ops)
{
	struct pma *p;
	uint64_t lo, hi;

	for (uint64_t at = start; at < end; at = lo) {
		p = pma_from(mm, at);
		if (!p || p->start >= end)
			return;
		at = MAX(at, p->start);
		lo = p->end;
		if (!(p->flags & PMA_OWNED))
			continue;
		if (!find_hole(p, at, MIN(end, p->end), min_size, &lo, &hi))
			continue;
		if (pma_reserve(mm, 2) < 0)
			return;
		unmap_hole(mm, p, lo, hi, ops);
		lo = hi;
	}
}

/* Whether nobody has written to p, which is unmapped: the memory file has a hole there, and nobody has it pinned for writing. */
static bool untouched(const struct pma *p)
{
	uint64_t size = p->end - p->start;

	if ((p->flags & PMA_WRITE) && memfile_exclusive_prefix(main_memfile, p->offset, size, true) != size)
		return false;
	return hole_end(p->ff, p->offset) >= p->offset + size;
}

uint64_t mm_trim(struct mm *mm, uint64_t min_size)
{
	struct mm_ops ops;
	struct pma *p, *next;
	uint64_t freed = 0;

	GUARD(mm, mm);
	GUARD(mutex, &mm->pmu);
	ops_init(&ops, mm);
	for (struct vma *v = vma_from(mm, 0); v; v = vma_next(v))
		if (!v->mappable && !(v->flags & VMA_FRAMES))
			unmap_holes(mm, v->start, v->end, min_size, &ops);
	ops_flush(&ops);
	for (p = pma_from(mm, 0); p; p = next) {
		next = pma_next(p);
		if (!(p->flags & PMA_TRIM))
			continue;
		p->flags &= (uint8_t)~PMA_TRIM;
		if (!untouched(p))
			continue;
		freed += p->end - p->start;
		pma_remove(mm, p);
	}
	return freed;
}
