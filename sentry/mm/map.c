/* mmap, munmap, brk: making and removing mappings. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/core/random.h"
#include "sentry/mm/mm_priv.h"

#define STACK_GAP_MIN (128ull << 20)
#define MMAP_RANDOM_PAGES (1ull << 28)
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#define PROT_ALL (PROT_READ | PROT_WRITE | PROT_EXEC)

/* Removes all mappings of the range, which is page aligned. mu is held. 0 or -ENOMEM (nothing changed). */
int unmap_locked(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v, *next;

	if (vma_range_free(mm, start, end))
		return 0;
	if (vma_reserve_borders(mm, start, end) < 0)
		return -ENOMEM;
	mutex_lock(&mm->pmu);
	if (pma_reserve(mm, 2) < 0) {
		mutex_unlock(&mm->pmu);
		return -ENOMEM;
	}
	pma_drop_range(mm, start, end);
	mutex_unlock(&mm->pmu);
	vma_split_at(mm, start);
	vma_split_at(mm, end);
	for (v = vma_from(mm, start); v && v->start < end; v = next) {
		next = vma_next(v);
		vma_remove(mm, v);
	}
	/* an invalidation or a fault cannot have added pmas: the vmas were there, but mu is ours */
	return 0;
}

static bool range_ok(uint64_t addr, uint64_t size)
{
	return addr % PAGE == 0 && addr >= mm_platform_ops->min_addr && addr <= mm_platform_ops->max_addr &&
	       size <= mm_platform_ops->max_addr - addr;
}

static int check_limits(struct mm *mm, const struct mm_map_args *a, uint64_t size, bool shared, uint64_t replaced)
{
	bool data = !shared && (a->prot & PROT_WRITE) && !a->grows_down;

	if (mm->vsize - replaced + size > a->limits.as || mm->vma_count >= VMA_MAX)
		return -ENOMEM;
	if (data && mm->data_size + size > a->limits.data)
		return -ENOMEM;
	/* Heuristic overcommit: one mapping may not exceed all the memory there is. */
	if (data && !(a->flags & MAP_NORESERVE) && size > memory_host() && !a->file)
		return -ENOMEM;
	if (a->locked && mm->locked_size + size > a->limits.memlock)
		return -EAGAIN;
	return 0;
}

/* The address for a new mapping: fixed, the hint when it is free, or a gap. -errno as a negative value. */
static int64_t place(struct mm *mm, const struct mm_map_args *a, uint64_t size)
{
	uint64_t at;

	if (a->flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (a->addr % PAGE)
			return -EINVAL;
		if (a->addr > mm_platform_ops->max_addr || size > mm_platform_ops->max_addr - a->addr)
			return -ENOMEM;
		if (a->addr < mm_platform_ops->min_addr)
			return -EPERM;
		if (!(a->flags & MAP_FIXED) && !vma_range_free(mm, a->addr, a->addr + size))
			return -EEXIST;
		return (int64_t)a->addr;
	}
	at = ALIGN_DOWN(a->addr, PAGE);
	if (at && range_ok(at, size) && vma_range_free(mm, at, at + size))
		return (int64_t)at;
	at = vma_find_gap(mm, size, size >= (2 << 20) && !a->file ? 2 << 20 : PAGE);
	if (!at)
		at = vma_find_gap(mm, size, PAGE);
	return at ? (int64_t)at : -ENOMEM;
}

/* The object behind the mapping, with a reference in *ret_m, and what mprotect may turn it into. */
static int find_object(const struct mm_map_args *a, uint64_t size, bool shared, struct mappable **ret_m, uint8_t *ret_max)
{
	struct mappable *m = NULL, *unused;
	int err;

	*ret_m = NULL;
	*ret_max = PROT_ALL;
	if (!a->file)
		return shared ? anon_shared_new(size, ret_m) : 0;
	err = mm_file_ops.mmap(a->file, shared, a->prot & PROT_ALL, &m);
	if (err < 0)
		return err;
	if (shared && !(a->prot & PROT_WRITE) && mm_file_ops.mmap(a->file, true, PROT_READ | PROT_WRITE, &unused) < 0)
		*ret_max &= (uint8_t)~PROT_WRITE;
	if (!(a->prot & PROT_EXEC) && mm_file_ops.mmap(a->file, shared, PROT_READ | PROT_EXEC, &unused) < 0)
		*ret_max &= (uint8_t)~PROT_EXEC;
	m->ops->get(m);
	*ret_m = m;
	return 0;
}

static uint16_t flags_of(const struct mm *mm, const struct mm_map_args *a, bool shared)
{
	uint16_t flags = shared ? VMA_SHARED : 0;

	if ((a->flags & MAP_GROWSDOWN) || a->grows_down)
		flags |= VMA_GROWSDOWN;
	if (a->grows_down)
		flags |= VMA_STACK;
	if (a->locked || (mm->lock_future & MCL_FUTURE))
		flags |= VMA_LOCKED;
	if (a->flags & MAP_NORESERVE)
		flags |= VMA_NORESERVE;
	if (a->flags & MAP_DENYWRITE)
		flags |= VMA_IMAGE;
	return flags;
}

/* Below a new stack lies the gap for its growth, and below that the area of mmap. */
static void note_stack(struct mm *mm, const struct vma *v, uint64_t limit)
{
	uint64_t pages, gap = MAX(MIN(limit, mm_platform_ops->max_addr / 6 * 5), STACK_GAP_MIN);

	mm->stack_limit = limit;
	random_fill(&pages, sizeof(pages));
	if (v->end > gap + MMAP_RANDOM_PAGES * PAGE * 2)
		mm->mmap_base = ALIGN_DOWN(v->end - gap, PAGE) - pages % MMAP_RANDOM_PAGES * PAGE;
	mm->gap_hint = mm->gap_size = 0;
}

static int64_t mmap_locked(struct mm *mm, const struct mm_map_args *a, uint64_t size, struct mappable *m, bool shared, uint8_t max_prot)
{
	uint64_t replaced = 0;
	struct vma *v;
	int64_t at = place(mm, a, size);
	int err;

	if (at < 0)
		return at;
	for (v = vma_from(mm, (uint64_t)at); v && v->start < (uint64_t)at + size; v = vma_next(v))
		replaced += MIN(v->end, (uint64_t)at + size) - MAX(v->start, (uint64_t)at);
	err = replaced && vma_range_sealed(mm, (uint64_t)at, (uint64_t)at + size) ? -EPERM : 0;
	if (err == 0)
		err = check_limits(mm, a, size, shared, replaced);
	if (err == 0)
		err = unmap_locked(mm, (uint64_t)at, (uint64_t)at + size);
	if (err == 0)
		err = vma_reserve(mm, 1);
	if (err < 0)
		return err;
	v = vma_take(mm);
	v->start = (uint64_t)at;
	v->end = v->start + size;
	v->offset = a->file ? a->offset : 0;
	v->prot = a->prot & PROT_ALL;
	v->max_prot = max_prot;
	v->flags = flags_of(mm, a, shared);
	v->mappable = m;
	v->file = a->file ? mm_file_ops.get(a->file) : NULL;
	v->name = a->name;
	if (m)
		m->ops->get(m);
	vma_insert(mm, v);
	if (a->grows_down)
		note_stack(mm, v, a->limits.stack);
	v = vma_merge(mm, v);
	if (a->precommit || ((v->flags & VMA_LOCKED) && !(mm->lock_future & MCL_ONFAULT)))
		(void)!fault_range_locked(mm, (uint64_t)at, (uint64_t)at + size, true, true);
	else
		map_ahead_locked(mm, v);
	return at;
}

int64_t mm_mmap(struct mm *mm, const struct mm_map_args *a)
{
	bool shared = (a->flags & MAP_TYPE) != MAP_PRIVATE;
	uint64_t size = ALIGN_UP(a->size, PAGE);
	struct mappable *m;
	uint8_t max_prot;
	int64_t r;
	int err;

	if (!a->size)
		return -EINVAL;
	if (!size || size > mm_platform_ops->max_addr)
		return -ENOMEM;
	if (a->offset % PAGE)
		return -EINVAL;
	if (a->offset + size < a->offset)
		return -EOVERFLOW;
	err = find_object(a, size, shared, &m, &max_prot);
	if (err < 0)
		return err;
	mm_lock(mm);
	r = mmap_locked(mm, a, size, m, shared, max_prot);
	mm_unlock(mm);
	if (m)
		m->ops->put(m);
	return r;
}

int64_t mm_map_frames(struct mm *mm, uint64_t addr, const struct frame_run *run, uint32_t prot, const char *name)
{
	struct vma *v;
	int err;

	GUARD(mm, mm);
	if (!range_ok(addr, run->size))
		return -EINVAL;
	err = unmap_locked(mm, addr, addr + run->size);
	if (err == 0)
		err = vma_reserve(mm, 1);
	if (err < 0)
		return err;
	mutex_lock(&mm->pmu);
	err = pma_reserve(mm, 1);
	if (err == 0)
		pma_insert(mm, addr, run, (uint8_t)prot, 0);
	mutex_unlock(&mm->pmu);
	if (err < 0)
		return err;
	v = vma_take(mm);
	v->start = addr;
	v->end = addr + run->size;
	v->prot = v->max_prot = (uint8_t)prot;
	v->flags = VMA_FRAMES;
	v->name = name;
	vma_insert(mm, v);
	map_resident(mm, v->start, v->end, false);
	return (int64_t)addr;
}

int mm_munmap(struct mm *mm, uint64_t addr, uint64_t size)
{
	size = ALIGN_UP(size, PAGE);
	if (addr % PAGE || !size || addr > mm_platform_ops->max_addr || size > mm_platform_ops->max_addr - addr)
		return -EINVAL;
	GUARD(mm, mm);
	if (vma_range_sealed(mm, addr, addr + size))
		return -EPERM;
	return unmap_locked(mm, addr, addr + size);
}

void mm_set_brk(struct mm *mm, uint64_t start)
{
	GUARD(mm, mm);
	mm->brk_start = mm->brk = start;
}

int64_t mm_brk(struct mm *mm, uint64_t addr, const struct mm_limits *limits)
{
	struct mm_map_args a = { .prot = PROT_READ | PROT_WRITE,
				 .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
				 .limits = *limits };
	uint64_t old, new;

	GUARD(mm, mm);
	old = ALIGN_UP(mm->brk, PAGE);
	new = ALIGN_UP(addr, PAGE);
	if (addr < mm->brk_start || new > mm_platform_ops->max_addr || new < addr)
		return (int64_t)mm->brk;
	if (addr - mm->brk_start > limits->data)
		return (int64_t)mm->brk;
	if (new < old) {
		if (vma_range_sealed(mm, new, old) || unmap_locked(mm, new, old) < 0)
			return (int64_t)mm->brk;
	} else if (new > old) {
		struct vma *next = vma_from(mm, new);

		/* room for a stack above it stays free */
		if (next && next->start < new + PAGE && (next->flags & VMA_GROWSDOWN))
			return (int64_t)mm->brk;
		a.addr = old;
		if (mmap_locked(mm, &a, new - old, NULL, false, PROT_ALL) < 0)
			return (int64_t)mm->brk;
	}
	mm->brk = addr;
	return (int64_t)addr;
}
