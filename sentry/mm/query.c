/* Looking at mappings: /proc/PID/maps and smaps, usage, mincore; and mlock, msync. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/mm/mm_priv.h"

enum { MS_KNOWN = MS_ASYNC | MS_SYNC | MS_INVALIDATE };

static void vma_pages(struct mm *mm, const struct vma *v, struct vma_info *info)
{
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	for (p = pma_from(mm, v->start); p && p->start < v->end; p = pma_next(p)) {
		uint64_t lo = MAX(p->start, v->start), hi = MIN(p->end, v->end);
		/* what the host holds of a file, mapped or not, is not asked for: it would mostly be all */
		int64_t n = p->flags & PMA_HOST ?
				    (int64_t)(hi - lo) :
				    resident_bytes(p->ff, p->offset + (lo - p->start), hi - lo, NULL);
		uint64_t bytes = n < 0 ? 0 : (uint64_t)n;

		info->rss += bytes;
		if (p->flags & PMA_OWNED)
			info->anon += bytes;
		if (p->flags & PMA_WRITE)
			info->dirty += bytes;
	}
	info->locked = v->flags & VMA_LOCKED ? info->rss : 0;
}

static const char *vma_name(const struct mm *mm, const struct vma *v)
{
	if (v->name || v->file)
		return v->name;
	if (mm->brk_start < v->end && mm->brk > v->start && mm->brk > mm->brk_start)
		return "[heap]";
	if (mm->info.start_stack >= v->start && mm->info.start_stack < v->end)
		return "[stack]";
	return v->mappable ? "/dev/zero (deleted)" : NULL;
}

/* Describes the first vma at or above addr; file gets a reference. False at the end. */
static bool describe(struct mm *mm, uint64_t addr, bool want_smaps, struct vma_info *info)
{
	struct vma *v;

	GUARD(mm, mm);
	v = vma_from(mm, addr);
	if (!v)
		return false;
	*info = (struct vma_info){ .start = v->start,
				   .end = v->end,
				   .offset = v->mappable ? v->offset : 0,
				   .prot = v->prot,
				   .flags = (uint32_t)(v->flags & VMA_SHARED ? MAP_SHARED : MAP_PRIVATE),
				   .file = v->file ? mm_file_ops.get(v->file) : NULL,
				   .name = vma_name(mm, v) };
	if (v->flags & VMA_GROWSDOWN)
		info->flags |= MAP_GROWSDOWN;
	if (v->flags & VMA_LOCKED)
		info->flags |= MAP_LOCKED;
	if (want_smaps)
		vma_pages(mm, v, info);
	return true;
}

int mm_for_each_vma(struct mm *mm, uint64_t addr, bool want_smaps, int (*fn)(const struct vma_info *v, void *arg), void *arg)
{
	struct vma_info info;
	int r = 0;

	while (r == 0 && describe(mm, addr, want_smaps, &info)) {
		r = fn(&info, arg);
		addr = info.end;
		if (info.file)
			mm_file_ops.put(info.file);
	}
	return r;
}

void mm_usage(struct mm *mm, struct mm_usage *ret)
{
	struct vma *v;
	uint64_t rss, hwm;

	*ret = (struct mm_usage){ 0 };
	GUARD(mm, mm);
	for (v = vma_from(mm, 0); v; v = vma_next(v)) {
		struct vma_info info = { 0 };

		vma_pages(mm, v, &info);
		ret->rss_anon += info.anon;
		if (v->flags & VMA_SHARED && !v->file)
			ret->rss_shmem += info.rss - info.anon;
		else
			ret->rss_file += info.rss - info.anon;
		if (v->file && (v->prot & PROT_EXEC))
			ret->text += v->end - v->start;
	}
	ret->vsize = mm->vsize;
	ret->locked = mm->locked_size;
	ret->data = mm->data_size;
	ret->stack = mm->stack_size;
	rss = ret->rss_anon + ret->rss_file + ret->rss_shmem;
	hwm = atomic_load(&mm->hwm);
	if (rss > hwm)
		atomic_store(&mm->hwm, rss);
	ret->hwm = MAX(rss, hwm);
}

int mm_mincore(struct mm *mm, uint64_t addr, uint64_t size, uint8_t *vec)
{
	uint64_t at = addr, end = addr + size;

	memset(vec, 0, size / PAGE);
	GUARD(mm, mm);
	while (at < end) {
		struct vma *v = vma_find(mm, at);
		uint64_t stop;
		struct pma *p;

		if (!v)
			return -ENOMEM;
		stop = MIN(end, v->end);
		mutex_lock(&mm->pmu);
		for (p = pma_from(mm, at); p && p->start < stop; p = pma_next(p)) {
			uint64_t lo = MAX(p->start, at), hi = MIN(p->end, stop);

			(void)!resident_bytes(p->ff, p->offset + (lo - p->start), hi - lo, vec + (lo - addr) / PAGE);
		}
		mutex_unlock(&mm->pmu);
		at = stop;
	}
	return 0;
}

/* Sets or clears the lock on [start, end); -ENOMEM when part of it is not mapped. */
static int mark_locked(struct mm *mm, uint64_t start, uint64_t end, bool lock)
{
	uint64_t reached = start;
	struct vma *v;

	if (vma_reserve_borders(mm, start, end) < 0)
		return -ENOMEM;
	vma_split_at(mm, start);
	vma_split_at(mm, end);
	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v)) {
		if (v->start > reached)
			return -ENOMEM;
		reached = v->end;
		if (v->flags & VMA_FRAMES)
			continue;
		vma_account(mm, v, false);
		v->flags = (uint16_t)(lock ? v->flags | VMA_LOCKED : v->flags & ~VMA_LOCKED);
		vma_account(mm, v, true);
	}
	return reached < end ? -ENOMEM : 0;
}

/* True when some mapping of the range allows nothing, so that its pages cannot be brought in. */
static bool inaccessible(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v;

	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v))
		if (!(v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
			return true;
	return false;
}

static uint64_t bytes_not_locked(struct mm *mm, uint64_t start, uint64_t end)
{
	uint64_t sum = 0;
	struct vma *v;

	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v))
		if (!(v->flags & VMA_LOCKED))
			sum += MIN(end, v->end) - MAX(start, v->start);
	return sum;
}

static void merge_all(struct mm *mm)
{
	struct vma *v = vma_from(mm, 0);

	while (v) {
		v = vma_merge(mm, v);
		v = vma_next(v);
	}
}

int mm_mlock(struct mm *mm, uint64_t addr, uint64_t size, bool lock, bool onfault, uint64_t limit, bool capable)
{
	uint64_t start = ALIGN_DOWN(addr, PAGE), end = ALIGN_UP(addr + size, PAGE);
	int err;

	if (addr + size < addr || end < start)
		return -EINVAL;
	if (start == end)
		return 0;
	GUARD(mm, mm);
	if (lock && !capable && mm->locked_size + bytes_not_locked(mm, start, end) > limit)
		return limit ? -ENOMEM : -EPERM;
	err = mark_locked(mm, start, end, lock);
	if (err == 0 && lock && !onfault &&
	    (fault_range_locked(mm, start, end, true, true) < 0 || inaccessible(mm, start, end)))
		err = -ENOMEM;
	merge_all(mm);
	return err;
}

int mm_mlockall(struct mm *mm, int flags, uint64_t limit, bool capable)
{
	struct vma *v;

	GUARD(mm, mm);
	if ((flags & MCL_CURRENT) && !capable && mm->vsize > limit)
		return limit ? -ENOMEM : -EPERM;
	mm->lock_future = (uint8_t)(flags & (MCL_FUTURE | MCL_ONFAULT));
	if (flags & MCL_CURRENT || !flags) {
		for (v = vma_from(mm, 0); v; v = vma_next(v)) {
			if (v->flags & VMA_FRAMES)
				continue;
			vma_account(mm, v, false);
			v->flags = (uint16_t)(flags ? v->flags | VMA_LOCKED : v->flags & ~VMA_LOCKED);
			vma_account(mm, v, true);
		}
		merge_all(mm);
	}
	return 0;
}

int mm_msync(struct mm *mm, uint64_t addr, uint64_t size, int flags)
{
	uint64_t end, at;
	bool hole = false;
	struct vma *v;

	if ((flags & ~MS_KNOWN) || addr % PAGE || ((flags & MS_ASYNC) && (flags & MS_SYNC)))
		return -EINVAL;
	size = ALIGN_UP(size, PAGE);
	end = addr + size;
	if (end < addr)
		return -ENOMEM;
	GUARD(mm, mm);
	at = addr;
	for (v = vma_from(mm, addr); at < end && v && v->start < end; v = vma_next(v)) {
		hole |= v->start > at;
		if ((flags & MS_INVALIDATE) && (v->flags & VMA_LOCKED))
			return -EBUSY;
		at = MAX(at, v->start);
		if ((flags & MS_SYNC) && (v->flags & VMA_SHARED) && v->mappable && v->mappable->ops->sync) {
			int err = v->mappable->ops->sync(v->mappable, v->offset + (at - v->start), MIN(end, v->end) - at);

			if (err < 0)
				return err;
		}
		at = MIN(end, v->end);
	}
	return hole || at < end ? -ENOMEM : 0;
}
