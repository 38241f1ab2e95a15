/* mprotect, mremap, madvise: changes of mappings that exist. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/mm/mm_priv.h"

#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
enum {
	ADV_NORMAL, ADV_RANDOM, ADV_SEQUENTIAL, ADV_WILLNEED, ADV_DONTNEED,
	ADV_FREE = 8, ADV_REMOVE, ADV_DONTFORK, ADV_DOFORK, ADV_MERGEABLE, ADV_UNMERGEABLE,
	ADV_HUGEPAGE, ADV_NOHUGEPAGE, ADV_DONTDUMP, ADV_DODUMP, ADV_WIPEONFORK, ADV_KEEPONFORK,
	ADV_COLD, ADV_PAGEOUT, ADV_POPULATE_READ, ADV_POPULATE_WRITE, ADV_DONTNEED_LOCKED, ADV_COLLAPSE,
};

/* True when every page of the range belongs to some mapping. mu is held. */
static bool covered(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v = vma_find(mm, start);

	while (v && v->end < end) {
		struct vma *next = vma_next(v);

		if (!next || next->start != v->end)
			return false;
		v = next;
	}
	return v != NULL;
}

/* Joins equal mappings that meet in [start, end]. */
static void merge_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v = vma_from(mm, start);

	while (v && v->start <= end) {
		v = vma_merge(mm, v);
		v = vma_next(v);
	}
}

/* Gives the pmas of [start, end) new permissions. Two nodes are reserved. */
static void protect_pmas(struct mm *mm, uint64_t start, uint64_t end, uint8_t prot)
{
	struct mm_ops ops;
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	ops_init(&ops, mm);
	pma_split_at(mm, start);
	pma_split_at(mm, end);
	for (p = pma_from(mm, start); p && p->start < end; p = pma_next(p)) {
		uint8_t old = pma_platform_prot(p), new;

		p->prot = prot;
		new = pma_platform_prot(p);
		if (new == old)
			continue;
		if (!new || !old || !(p->flags & PMA_MAPPED))
			ops_map(&ops, p, false); /* unmaps when nothing is allowed */
		else
			ops_protect(&ops, p);
	}
	ops_flush(&ops);
	pma_merge_around(mm, start, end);
}

static int reserve_both(struct mm *mm, uint64_t start, uint64_t end)
{
	int err = vma_reserve_borders(mm, start, end);

	mutex_lock(&mm->pmu);
	if (err == 0)
		err = pma_reserve(mm, 2);
	mutex_unlock(&mm->pmu);
	return err;
}

/* Applies prot to the mappings up to the first that refuses, as Linux does. */
static int protect_locked(struct mm *mm, uint64_t start, uint64_t end, uint8_t prot, const struct mm_limits *limits)
{
	struct vma *v, *next;
	int err = 0;

	if (!covered(mm, start, start + 1))
		return -ENOMEM;
	if (vma_range_sealed(mm, start, end))
		return -EPERM;
	if (reserve_both(mm, start, end) < 0)
		return -ENOMEM;
	vma_split_at(mm, start);
	vma_split_at(mm, end);
	for (v = vma_find(mm, start); v && v->start < end; v = next) {
		next = vma_next(v);
		if (prot & ~v->max_prot) {
			err = -EACCES;
			break;
		}
		if (v->flags & VMA_FRAMES && (prot & PROT_WRITE)) {
			err = -EACCES;
			break;
		}
		if ((prot & PROT_WRITE) && !(v->prot & PROT_WRITE) && !(v->flags & VMA_SHARED) &&
		    mm->data_size + (v->end - v->start) > limits->data) {
			err = -ENOMEM;
			break;
		}
		vma_account(mm, v, false);
		v->prot = prot;
		vma_account(mm, v, true);
		mutex_lock(&mm->pmu);
		err = pma_reserve(mm, 2);
		mutex_unlock(&mm->pmu);
		if (err < 0)
			break;
		protect_pmas(mm, v->start, v->end, prot);
		if (v->end < end && (!next || next->start != v->end)) {
			err = -ENOMEM; /* a hole: what lies before it is changed */
			break;
		}
	}
	merge_range(mm, start, end);
	return err;
}

int mm_mprotect(struct mm *mm, uint64_t addr, uint64_t size, uint32_t prot, const struct mm_limits *limits)
{
	const uint32_t grows = PROT_GROWSDOWN | PROT_GROWSUP;
	uint64_t end;

	if (addr % PAGE || (prot & grows) == grows || (prot & ~(PROT_ALL | grows | 8u)))
		return -EINVAL;
	size = ALIGN_UP(size, PAGE);
	if (!size)
		return 0;
	end = addr + size;
	if (end <= addr || end > mm_platform_ops->max_addr)
		return -ENOMEM;
	GUARD(mm, mm);
	if (prot & PROT_GROWSDOWN) {
		struct vma *v = vma_find(mm, addr);

		if (!v || !(v->flags & VMA_GROWSDOWN))
			return -EINVAL;
		addr = v->start;
	}
	return protect_locked(mm, addr, end, prot & PROT_ALL, limits);
}

/* ---- mremap ---- */

/* Moves the frames of [from, from+size) to `to`, whose range is free. Two pma nodes are reserved. */
static void move_pmas(struct mm *mm, uint64_t from, uint64_t size, uint64_t to)
{
	struct mm_ops ops;
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	ops_init(&ops, mm);
	pma_split_at(mm, from);
	pma_split_at(mm, from + size);
	ops_unmap(&ops, from, from + size);
	while ((p = pma_from(mm, from)) && p->start < from + size) {
		struct frame_run run = { p->ff, p->offset, p->end - p->start };
		uint64_t at = p->start - from + to;
		uint8_t prot = p->prot, flags = p->flags & (PMA_OWNED | PMA_WRITE);

		run.ff->ops->get(run.ff, run.offset, run.size);
		pma_remove(mm, p); /* leaves its node in reserve */
		pma_insert(mm, at, &run, prot, flags);
		ops_map(&ops, pma_find(mm, at), false);
	}
	ops_flush(&ops);
	pma_merge_around(mm, to, to + size);
}

/* Moves the mapping v = [old, old+size) to `to` and makes it new_size long there. */
static int64_t move_vma(struct mm *mm, struct vma *v, uint64_t to, uint64_t new_size, bool keep)
{
	uint64_t from = v->start, size = v->end - v->start, kept = MIN(size, new_size);
	struct vma *n;
	int err = vma_reserve(mm, 3);

	mutex_lock(&mm->pmu);
	if (err == 0)
		err = pma_reserve(mm, 4);
	mutex_unlock(&mm->pmu);
	if (err < 0)
		return err;
	n = vma_take(mm);
	*n = *v;
	n->spare = NULL;
	n->start = to;
	n->end = to + new_size;
	if (n->mappable)
		n->mappable->ops->get(n->mappable);
	if (n->file)
		mm_file_ops.get(n->file);
	vma_insert(mm, n);
	move_pmas(mm, from, kept, to);
	if (!keep) {
		err = unmap_locked(mm, from, from + size);
		BUG_ON(err < 0); /* nodes are reserved */
	} else {
		v->flags &= (uint16_t)~VMA_LOCKED;
	}
	n = vma_merge(mm, n);
	if (n->flags & VMA_LOCKED)
		(void)!fault_range_locked(mm, to, to + new_size, false, true);
	return (int64_t)to;
}

static int grow_allowed(struct mm *mm, const struct vma *v, uint64_t more, const struct mm_limits *l)
{
	if ((v->flags & VMA_LOCKED) && mm->locked_size + more > l->memlock)
		return -EAGAIN;
	if (mm->vsize + more > l->as || (vma_is_data(v) && mm->data_size + more > l->data))
		return -ENOMEM;
	if (v->mappable && v->offset + (v->end - v->start) + more < v->offset)
		return -EINVAL;
	return 0;
}

/* The checks of an address to move to that come before any look at mappings; a hint (not fixed) is one too. */
static int check_target(uint64_t old_addr, uint64_t old_size, uint64_t new_size, uint64_t new_addr, bool fixed)
{
	if (new_addr % PAGE || new_addr > mm_platform_ops->max_addr ||
	    new_size > mm_platform_ops->max_addr - new_addr)
		return -EINVAL;
	if (new_addr < old_addr + old_size && old_addr < new_addr + new_size)
		return -EINVAL;
	return fixed && new_addr < mm_platform_ops->min_addr ? -EPERM : 0;
}

static int64_t mremap_locked(struct mm *mm, uint64_t old_addr, uint64_t old_size, uint64_t new_size,
			     uint32_t flags, uint64_t new_addr, const struct mm_limits *limits)
{
	struct vma *v = vma_find(mm, old_addr);
	bool keep = flags & MREMAP_DONTUNMAP;
	int64_t r;

	if (!v)
		return -EFAULT;
	if (v->flags & VMA_FRAMES)
		return -EINVAL;
	if (!old_size && (!(v->flags & VMA_SHARED) || !(flags & MREMAP_MAYMOVE)))
		return -EINVAL;
	/* shrinking in place may reach over several mappings, everything else stays within one */
	if ((new_size > old_size || (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP))) &&
	    MIN(old_size, new_size) > v->end - old_addr)
		return -EFAULT;
	if (vma_range_sealed(mm, old_addr, old_addr + MAX(old_size, (uint64_t)1)) ||
	    ((flags & MREMAP_FIXED) && vma_range_sealed(mm, new_addr, new_addr + new_size)))
		return -EPERM;
	if (new_size > old_size || !old_size || keep) {
		r = grow_allowed(mm, v, keep || !old_size ? new_size : new_size - old_size, limits);
		if (r < 0)
			return r;
	}
	if (flags & MREMAP_FIXED) {
		r = unmap_locked(mm, new_addr, new_addr + new_size);
		if (r < 0)
			return r;
	}
	if (old_size > new_size) {
		r = unmap_locked(mm, old_addr + new_size, old_addr + old_size);
		if (r < 0)
			return r;
		old_size = new_size;
	}
	v = vma_find(mm, old_addr);
	if (!v)
		return -EFAULT;
	if (old_size == new_size && !(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)))
		return (int64_t)old_addr;
	if (old_size > v->end - old_addr)
		return -EFAULT;
	if (!(flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && old_size) {
		if (old_addr + old_size == v->end && new_size <= mm_platform_ops->max_addr - old_addr &&
		    vma_range_free(mm, v->end, old_addr + new_size)) {
			vma_resize(v, v->start, old_addr + new_size);
			v = vma_merge(mm, v);
			if (v->flags & VMA_LOCKED)
				(void)!fault_range_locked(mm, old_addr, old_addr + new_size, false, true);
			else if (new_size - old_size <= 2 << 20)
				map_ahead_locked(mm, v);
			return (int64_t)old_addr;
		}
		if (!(flags & MREMAP_MAYMOVE))
			return -ENOMEM;
	}
	if (!(flags & MREMAP_FIXED)) {
		new_addr = new_addr >= mm_platform_ops->min_addr && keep && vma_range_free(mm, new_addr, new_addr + new_size) ?
				   new_addr :
				   vma_find_gap(mm, new_size, PAGE);
		if (!new_addr)
			return -ENOMEM;
	}
	if (!old_size) { /* a second mapping of a shared object */
		struct vma *n;

		if (vma_reserve(mm, 1) < 0)
			return -ENOMEM;
		n = vma_take(mm);
		*n = *v;
		n->spare = NULL;
		n->start = new_addr;
		n->end = new_addr + new_size;
		n->offset = v->offset + (old_addr - v->start);
		n->mappable->ops->get(n->mappable);
		if (n->file)
			mm_file_ops.get(n->file);
		vma_insert(mm, n);
		return (int64_t)new_addr;
	}
	if (vma_reserve_borders(mm, old_addr, old_addr + old_size) < 0)
		return -ENOMEM;
	vma_split_at(mm, old_addr);
	vma_split_at(mm, old_addr + old_size);
	return move_vma(mm, vma_find(mm, old_addr), new_addr, new_size, keep);
}

int64_t mm_mremap(struct mm *mm, uint64_t old_addr, uint64_t old_size, uint64_t new_size, uint32_t flags,
		  uint64_t new_addr, const struct mm_limits *limits)
{
	if ((flags & ~(uint32_t)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) || old_addr % PAGE)
		return -EINVAL;
	if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE))
		return -EINVAL;
	old_size = ALIGN_UP(old_size, PAGE);
	new_size = ALIGN_UP(new_size, PAGE);
	if (!new_size || ((flags & MREMAP_DONTUNMAP) && old_size != new_size))
		return -EINVAL;
	if (new_size > mm_platform_ops->max_addr)
		return (flags & MREMAP_FIXED) ? -EINVAL : -ENOMEM;
	if (old_addr > mm_platform_ops->max_addr || old_size > mm_platform_ops->max_addr - old_addr)
		return -EFAULT;
	if (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) {
		int err = check_target(old_addr, old_size, new_size, new_addr, flags & MREMAP_FIXED);

		if (err < 0)
			return err;
	}
	GUARD(mm, mm);
	return mremap_locked(mm, old_addr, old_size, new_size, flags, new_addr, limits);
}

/* ---- madvise ---- */

/*
 * MADV_DONTNEED: private pages read as zero or as the file afterwards. Frames that nobody shares are
 * emptied in place, which leaves the guest's mappings as they are; others are let go.
 */
static int dont_need(struct mm *mm, struct vma *v, uint64_t start, uint64_t end)
{
	struct pma *p, *next;

	if (v->flags & VMA_FRAMES)
		return -EINVAL;
	GUARD(mutex, &mm->pmu);
	if (pma_reserve(mm, 4) < 0)
		return -ENOMEM;
	pma_split_at(mm, start);
	pma_split_at(mm, end);
	for (p = pma_from(mm, start); p && p->start < end; p = next) {
		uint64_t size = p->end - p->start;

		next = pma_next(p);
		if (!(p->flags & PMA_OWNED))
			continue;
		/* code: the platform may show it rewritten, and must hear of the change */
		if (!v->mappable && !(p->prot & PROT_EXEC) && memfile_exclusive_prefix(main_memfile, p->offset, size, true) == size)
			memfile_punch(main_memfile, p->offset, size);
		else
			pma_drop_range(mm, p->start, p->end);
	}
	pma_merge_around(mm, start, end);
	return 0;
}

/* MADV_REMOVE: a hole in the shared object, seen by everybody who maps it. */
static int remove_pages(struct mm *mm, struct vma *v, uint64_t start, uint64_t end)
{
	uint64_t at = start, next;

	if ((v->flags & (VMA_SHARED | VMA_LOCKED)) != VMA_SHARED || !v->mappable || !(v->max_prot & PROT_WRITE))
		return (v->flags & VMA_LOCKED) || !v->mappable ? -EINVAL : -EACCES;
	while (at < end) {
		struct pma *p;
		int err = fault_locked(mm, v, at, WANT_WRITE, &next);

		if (err < 0)
			return err == -EFAULT ? -EINVAL : err;
		next = MIN(next, end);
		GUARD(mutex, &mm->pmu);
		p = pma_find(mm, at);
		if (p && p->ff == memfile_frames(main_memfile))
			memfile_punch(main_memfile, p->offset + (at - p->start), next - at);
		at = next;
	}
	return 0;
}

static int advise_vma(struct mm *mm, struct vma *v, uint64_t start, uint64_t end, int advice)
{
	switch (advice) {
	case ADV_DONTNEED:
		if (v->flags & VMA_LOCKED)
			return -EINVAL;
		if ((v->flags & VMA_SEALED) && !v->mappable && !(v->prot & PROT_WRITE))
			return -EPERM;
		return dont_need(mm, v, start, end);
	case ADV_DONTNEED_LOCKED:
		return dont_need(mm, v, start, end);
	case ADV_FREE:
		if (v->mappable || (v->flags & VMA_LOCKED))
			return -EINVAL;
		return dont_need(mm, v, start, end);
	case ADV_REMOVE:
		return remove_pages(mm, v, start, end);
	case ADV_WILLNEED:
		return 0;
	case ADV_POPULATE_READ:
	case ADV_POPULATE_WRITE:
		if (!(v->prot & (advice == ADV_POPULATE_READ ? PROT_READ : PROT_WRITE)))
			return -EINVAL;
		return fault_range_locked(mm, start, end, true, advice == ADV_POPULATE_WRITE) < 0 ? -EFAULT : 0;
	case ADV_COLLAPSE: /* no huge pages */
		return -EINVAL;
	case ADV_COLD:
	case ADV_PAGEOUT:
		return v->flags & VMA_LOCKED ? -EINVAL : 0;
	default:
		return 0;
	}
}

/* Flag to set and to clear for advice that only marks the mapping; false: other advice. */
static bool advice_flags(int advice, uint16_t *ret_set, uint16_t *ret_clear)
{
	*ret_set = *ret_clear = 0;
	switch (advice) {
	case ADV_DONTFORK:
		*ret_set = VMA_DONTFORK;
		return true;
	case ADV_DOFORK:
		*ret_clear = VMA_DONTFORK;
		return true;
	case ADV_DONTDUMP:
		*ret_set = VMA_DONTDUMP;
		return true;
	case ADV_DODUMP:
		*ret_clear = VMA_DONTDUMP;
		return true;
	case ADV_WIPEONFORK:
		*ret_set = VMA_WIPEONFORK;
		return true;
	case ADV_KEEPONFORK:
		*ret_clear = VMA_WIPEONFORK;
		return true;
	default:
		return false;
	}
}

static int mark_range(struct mm *mm, uint64_t start, uint64_t end, uint16_t set, uint16_t clear)
{
	int err = vma_reserve_borders(mm, start, end);
	struct vma *v;

	if (err < 0)
		return err;
	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v))
		if ((set & VMA_WIPEONFORK) && (v->mappable || (v->flags & VMA_SHARED)))
			return -EINVAL;
	vma_split_at(mm, start);
	vma_split_at(mm, end);
	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v))
		v->flags = (uint16_t)((v->flags | set) & ~clear);
	merge_range(mm, start, end);
	return 0;
}

static bool advice_known(int advice)
{
	return (advice >= ADV_NORMAL && advice <= ADV_DONTNEED) || (advice >= ADV_FREE && advice <= ADV_COLLAPSE);
}

int mm_mseal(struct mm *mm, uint64_t addr, uint64_t size)
{
	uint64_t end = addr + size;

	GUARD(mm, mm);
	if (!covered(mm, addr, end))
		return -ENOMEM;
	return mark_range(mm, addr, end, VMA_SEALED, 0);
}

int mm_remap_file_pages(struct mm *mm, uint64_t addr, uint64_t size, uint64_t page, bool nonblock)
{
	struct vma *v, *n;
	uint64_t end;

	addr = ALIGN_DOWN(addr, PAGE);
	size = ALIGN_DOWN(size, PAGE);
	end = addr + size;
	if (end <= addr || page > (UINT64_MAX - size) / PAGE)
		return -EINVAL;
	GUARD(mm, mm);
	v = vma_find(mm, addr);
	if (!v || !(v->flags & VMA_SHARED) || !v->mappable || end > v->end)
		return -EINVAL;
	if (v->flags & VMA_SEALED)
		return -EPERM;
	/* three nodes: two borders and the new mapping, whose references are taken before the old goes */
	if (vma_reserve_borders(mm, addr, end) < 0 || vma_reserve(mm, 3) < 0)
		return -ENOMEM;
	n = vma_take(mm);
	*n = *v;
	n->spare = NULL;
	n->mappable->ops->get(n->mappable);
	if (n->file)
		mm_file_ops.get(n->file);
	n->start = addr;
	n->end = end;
	n->offset = page * PAGE;
	if (unmap_locked(mm, addr, end) < 0) {
		n->spare = mm->vma_dead;
		mm->vma_dead = n;
		return -ENOMEM;
	}
	vma_insert(mm, n);
	if (!nonblock)
		map_ahead_locked(mm, n);
	return 0;
}

int mm_madvise(struct mm *mm, uint64_t addr, uint64_t size, int advice)
{
	uint64_t end, at;
	uint16_t set, clear;
	bool hole = false;
	struct vma *v, *next;
	int err;

	if (!advice_known(advice) || addr % PAGE)
		return -EINVAL;
	size = ALIGN_UP(size, PAGE);
	end = addr + size;
	if (end < addr)
		return -EINVAL;
	if (!size)
		return 0;
	GUARD(mm, mm);
	hole = !covered(mm, addr, end);
	if (advice_flags(advice, &set, &clear)) {
		err = mark_range(mm, addr, end, set, clear);
		return err < 0 ? err : hole ? -ENOMEM : 0;
	}
	at = addr;
	for (v = vma_from(mm, addr); v && v->start < end; v = next) {
		next = vma_next(v);
		if (v->start > at && (advice == ADV_POPULATE_READ || advice == ADV_POPULATE_WRITE))
			return -ENOMEM;
		at = MAX(addr, v->start);
		err = advise_vma(mm, v, at, MIN(end, v->end), advice);
		if (err < 0)
			return err;
		at = v->end;
	}
	return hole ? -ENOMEM : 0;
}
