/* The tree of mappings of one address space. mm->mu is held in every function. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "sentry/mm/mm_priv.h"
#include "sentry/state/desc.h"

STATE_DESC(vma, S_NOSAVE(vma, node, "rebuilt from start"), S_WEAK(vma, 1, mm, mm), S_VAL(vma, 2, start),
	   S_VAL(vma, 3, end), S_VAL(vma, 4, offset), S_VAL(vma, 5, prot), S_VAL(vma, 6, max_prot),
	   S_VAL(vma, 7, flags), S_REF(vma, 8, mappable, mappable), S_REF(vma, 9, file, file),
	   S_BYTES(vma, 10, name), S_NOSAVE(vma, user, "registered again from the fields above"),
	   S_NOSAVE(vma, spare, "not part of a live mapping"));

static struct vma *vma_of(struct rb_node *n)
{
	return n ? rb_entry(n, struct vma, node) : NULL;
}

/* First vma whose end lies above addr, or NULL. */
struct vma *vma_from(struct mm *mm, uint64_t addr)
{
	struct rb_node *n = mm->vmas.root;
	struct vma *best = NULL;

	while (n) {
		struct vma *v = vma_of(n);

		if (v->end > addr) {
			best = v;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

/* The vma that contains addr, or NULL. */
struct vma *vma_find(struct mm *mm, uint64_t addr)
{
	struct vma *v = vma_from(mm, addr);

	return v && v->start <= addr ? v : NULL;
}

/* Successor in address order, or NULL. */
struct vma *vma_next(struct vma *v)
{
	return vma_of(rb_next(&v->node));
}

/* Predecessor in address order, or NULL. */
struct vma *vma_prev(struct vma *v)
{
	return vma_of(rb_prev(&v->node));
}

/* Makes sure that count nodes can be taken without failing. 0 or -ENOMEM. */
int vma_reserve(struct mm *mm, unsigned int count)
{
	while (mm->vma_spare_count < count) {
		struct vma *v = calloc(1, sizeof(*v));

		if (!v)
			return -ENOMEM;
		v->spare = mm->vma_spare;
		mm->vma_spare = v;
		mm->vma_spare_count++;
	}
	return 0;
}

/* A zeroed node from those reserved. */
struct vma *vma_take(struct mm *mm)
{
	struct vma *v = mm->vma_spare;

	BUG_ON(!v);
	mm->vma_spare = v->spare;
	mm->vma_spare_count--;
	*v = (struct vma){ .mm = mm };
	return v;
}

/* Frees the nodes kept in reserve; at the end of the mm. */
void vma_spares_free(struct mm *mm)
{
	while (mm->vma_spare) {
		struct vma *v = mm->vma_spare;

		mm->vma_spare = v->spare;
		free(v);
	}
	mm->vma_spare_count = 0;
}

/* Keeps the totals behind /proc/PID/status and the limits. */
void vma_account(struct mm *mm, const struct vma *v, bool add)
{
	const uint64_t size = v->end - v->start, none = 0, n = add ? size : none - size;

	mm->vsize += n;
	if (vma_is_data(v))
		mm->data_size += n;
	if (v->flags & VMA_STACK)
		mm->stack_size += n;
	if (v->flags & VMA_LOCKED)
		mm->locked_size += n;
}

static void user_invalidate(struct mapping_user *u, uint64_t offset, uint64_t size)
{
	struct vma *v = container_of(u, struct vma, user);
	struct mm *mm = v->mm;
	uint64_t from = MAX(offset, u->offset), to, end = u->offset + u->size;
	struct mm_ops ops;
	struct pma *p, *next;

	to = size > UINT64_MAX - offset ? end : MIN(offset + size, end);
	if (from >= to)
		return;
	from = v->start + (ALIGN_DOWN(from, PAGE) - u->offset);
	to = MIN(v->end, v->start + (ALIGN_UP(to, PAGE) - u->offset));
	GUARD(mutex, &mm->pmu);
	mm->invalidations++;
	if (pma_reserve(mm, 2) < 0) { /* no room to split: drop whole translations instead */
		from = v->start;
		to = v->end;
	}
	ops_init(&ops, mm);
	if (mm->pma_spare_count >= 2) {
		pma_split_at(mm, from);
		pma_split_at(mm, to);
	}
	/* the guest must not reach the frames any more before they are let go; private copies stay */
	for (p = pma_from(mm, from); p && p->start < to; p = pma_next(p))
		if (!(p->flags & PMA_OWNED) && (p->flags & PMA_MAPPED))
			ops_unmap(&ops, p->start, p->end);
	ops_flush(&ops);
	for (p = pma_from(mm, from); p && p->start < to; p = next) {
		next = pma_next(p);
		if (!(p->flags & PMA_OWNED))
			pma_remove(mm, p);
	}
}

/* Registers a vma with its mappable: from here on start, end and offset stay as they are. */
void vma_register(struct vma *v)
{
	if (!v->mappable)
		return;
	v->user.offset = v->offset;
	v->user.size = v->end - v->start;
	v->user.may_write = (v->flags & VMA_SHARED) && (v->max_prot & PROT_WRITE);
	v->user.invalidate = user_invalidate;
	mappable_add_user(v->mappable, &v->user);
}

/* The opposite; no invalidation is under way any more on return. */
void vma_unregister(struct vma *v)
{
	if (v->mappable)
		mappable_remove_user(v->mappable, &v->user);
}

/* Links a filled vma into the tree, accounts for it and registers it. Its range is free. */
void vma_insert(struct mm *mm, struct vma *v)
{
	struct rb_node **link = &mm->vmas.root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = v->start < vma_of(parent)->start ? &parent->left : &parent->right;
	}
	rb_insert(&mm->vmas, parent, link, &v->node);
	mm->vma_count++;
	vma_account(mm, v, true);
	vma_register(v);
}

/* Unlinks v, whose pmas are gone already; what it holds is dropped by mm_unlock. */
void vma_remove(struct mm *mm, struct vma *v)
{
	vma_unregister(v);
	vma_account(mm, v, false);
	rb_erase(&mm->vmas, &v->node);
	mm->vma_count--;
	if (mm->gap_hint && v->start >= mm->gap_hint) {
		mm->gap_hint = MAX(v->end, mm->gap_hint);
		mm->gap_size = 0;
	}
	v->spare = mm->vma_dead;
	mm->vma_dead = v;
}

/* Changes the borders; the offset follows the start. */
void vma_resize(struct vma *v, uint64_t start, uint64_t end)
{
	vma_unregister(v);
	vma_account(v->mm, v, false);
	v->offset += start - v->start;
	v->start = start;
	v->end = end;
	vma_account(v->mm, v, true);
	vma_register(v);
}

/* 0 when borders at start and end keep the mm within vm.max_map_count, else -ENOMEM. Reserves the nodes. */
int vma_reserve_borders(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *a = vma_find(mm, start), *b = vma_find(mm, end);
	unsigned int need = (a && a->start < start) + (b && b->start < end);

	if (need && mm->vma_count + need > VMA_MAX)
		return -ENOMEM;
	return vma_reserve(mm, 2);
}

/* Makes addr a border between two vmas when it lies inside one. One node must be reserved. */
void vma_split_at(struct mm *mm, uint64_t addr)
{
	struct vma *v = vma_find(mm, addr), *upper;
	uint64_t end;

	if (!v || v->start == addr)
		return;
	upper = vma_take(mm);
	end = v->end;
	*upper = *v;
	upper->spare = NULL;
	upper->start = addr;
	upper->offset = v->offset + (addr - v->start);
	if (upper->mappable)
		upper->mappable->ops->get(upper->mappable);
	if (upper->file)
		mm_file_ops.get(upper->file);
	vma_resize(v, v->start, addr);
	upper->end = end;
	vma_insert(mm, upper);
}

static bool can_merge(const struct vma *a, const struct vma *b)
{
	if (a->end != b->start || a->prot != b->prot || a->max_prot != b->max_prot || a->flags != b->flags ||
	    a->mappable != b->mappable || a->file != b->file || a->name != b->name || (a->flags & VMA_FRAMES))
		return false;
	return !a->mappable || a->offset + (a->end - a->start) == b->offset;
}

/* Joins v with equal neighbours; returns the vma that now covers it. */
struct vma *vma_merge(struct mm *mm, struct vma *v)
{
	struct vma *prev = vma_prev(v), *next = vma_next(v);
	uint64_t end;

	if (next && can_merge(v, next)) {
		end = next->end;
		vma_remove(mm, next);
		vma_resize(v, v->start, end);
	}
	if (prev && can_merge(prev, v)) {
		end = v->end;
		vma_remove(mm, v);
		vma_resize(prev, prev->start, end);
		v = prev;
	}
	return v;
}

/* True when part of [start, end) belongs to a sealed mapping. */
bool vma_range_sealed(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v;

	for (v = vma_from(mm, start); v && v->start < end; v = vma_next(v))
		if (v->flags & VMA_SEALED)
			return true;
	return false;
}

/* True when nothing is mapped in [start, end). */
bool vma_range_free(struct mm *mm, uint64_t start, uint64_t end)
{
	struct vma *v = vma_from(mm, start);

	return !v || v->start >= end;
}

/*
 * The highest free range of size bytes, aligned, below mmap_base (above it when all below is taken). 0: none. The
 * search resumes below the last find while requests are larger than every gap that was passed.
 */
uint64_t vma_find_gap(struct mm *mm, uint64_t size, uint64_t align)
{
	const uint64_t min = mm_platform_ops->min_addr, max = mm_platform_ops->max_addr;
	uint64_t top = mm->mmap_base, seen = 0;
	struct vma *v;

	if (size > max - min)
		return 0;
	if (size > mm->gap_size && mm->gap_hint && mm->gap_hint < top) {
		top = mm->gap_hint;
		seen = mm->gap_size;
	}
	for (int pass = 0; pass < 2; pass++) {
		v = vma_from(mm, top);
		if (v && v->start < top)
			top = v->start;
		v = v ? vma_prev(v) : vma_of(rb_last(&mm->vmas));
		for (;;) {
			uint64_t low = v ? v->end : min, at;

			/* room below a stack stays free for its growth */
			if (top > low && top - low >= size) {
				at = ALIGN_DOWN(top - size, align);
				if (at >= low) {
					mm->gap_hint = at;
					mm->gap_size = seen;
					return at;
				}
			}
			seen = MAX(seen, top > low ? top - low : 0);
			if (!v)
				break;
			top = v->start;
			v = vma_prev(v);
		}
		top = pass == 0 ? max : 0;
		seen = 0;
	}
	return 0;
}
