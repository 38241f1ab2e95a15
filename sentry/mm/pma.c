/*
 * The frames that an address space uses now (pmas), and the batches of changes for the platform's
 * address space. mm->pmu is held in every function.
 */
#include <stdlib.h>
#include <sys/mman.h>

#include "sentry/mm/mm_priv.h"
#include "sentry/state/desc.h"

STATE_DESC(pma, S_NOSAVE(pma, node, "rebuilt from start"), S_VAL(pma, 1, start), S_VAL(pma, 2, end),
	   S_REF(pma, 3, ff, frame_file), S_VAL(pma, 4, offset), S_VAL(pma, 5, prot), S_VAL(pma, 6, flags),
	   S_NOSAVE(pma, spare, "not part of a live run"));

static struct pma *pma_of(struct rb_node *n)
{
	return n ? rb_entry(n, struct pma, node) : NULL;
}

/* First pma whose end lies above addr, or NULL. */
struct pma *pma_from(struct mm *mm, uint64_t addr)
{
	struct rb_node *n = mm->pmas.root;
	struct pma *best = NULL;

	while (n) {
		struct pma *p = pma_of(n);

		if (p->end > addr) {
			best = p;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

/* The pma that contains addr, or NULL. Remembers it for the next access. */
struct pma *pma_find(struct mm *mm, uint64_t addr)
{
	struct pma *p = mm->last_pma;

	if (p && p->start <= addr && addr < p->end)
		return p;
	p = pma_from(mm, addr);
	if (!p || p->start > addr)
		return NULL;
	mm->last_pma = p;
	return p;
}

/* Successor in address order, or NULL. */
struct pma *pma_next(struct pma *p)
{
	return pma_of(rb_next(&p->node));
}

/* Makes sure that count nodes can be taken without failing. 0 or -ENOMEM. */
int pma_reserve(struct mm *mm, unsigned int count)
{
	while (mm->pma_spare_count < count) {
		struct pma *p = calloc(1, sizeof(*p));

		if (!p)
			return -ENOMEM;
		p->spare = mm->pma_spare;
		mm->pma_spare = p;
		mm->pma_spare_count++;
	}
	return 0;
}

/* Frees the nodes kept in reserve; at the end of the mm. */
void pma_spares_free(struct mm *mm)
{
	while (mm->pma_spare) {
		struct pma *p = mm->pma_spare;

		mm->pma_spare = p->spare;
		free(p);
	}
	mm->pma_spare_count = 0;
}

static void pma_link(struct mm *mm, struct pma *p)
{
	struct rb_node **link = &mm->pmas.root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = p->start < pma_of(parent)->start ? &parent->left : &parent->right;
	}
	rb_insert(&mm->pmas, parent, link, &p->node);
}

/* Unlinks without touching the frames' references. */
static void pma_unlink(struct mm *mm, struct pma *p)
{
	if (mm->last_pma == p)
		mm->last_pma = NULL;
	rb_erase(&mm->pmas, &p->node);
	if (mm->pma_spare_count >= 8) {
		free(p);
		return;
	}
	p->spare = mm->pma_spare;
	mm->pma_spare = p;
	mm->pma_spare_count++;
}

/* Adds frames at start; the run's references are taken over. The range is free; one node is reserved. */
void pma_insert(struct mm *mm, uint64_t start, const struct frame_run *run, uint8_t prot, uint8_t flags)
{
	struct pma *p = mm->pma_spare;

	BUG_ON(!p);
	mm->pma_spare = p->spare;
	mm->pma_spare_count--;
	*p = (struct pma){ .start = start,
			   .end = start + run->size,
			   .ff = run->ff,
			   .offset = run->offset,
			   .prot = prot,
			   .flags = (uint8_t)(flags | (run->ff->host_file ? PMA_HOST : 0)) };
	pma_link(mm, p);
}

/* Makes addr a border when it lies inside a pma. One node must be reserved. */
void pma_split_at(struct mm *mm, uint64_t addr)
{
	struct pma *p = pma_find(mm, addr), *upper;

	if (!p || p->start == addr)
		return;
	upper = mm->pma_spare;
	BUG_ON(!upper);
	mm->pma_spare = upper->spare;
	mm->pma_spare_count--;
	*upper = *p;
	upper->spare = NULL;
	upper->start = addr;
	upper->offset += addr - p->start;
	p->end = addr;
	pma_link(mm, upper);
}

/* Takes p out and drops its references. The platform must not map the frames any more. */
void pma_remove(struct mm *mm, struct pma *p)
{
	struct frame_file *ff = p->ff;
	uint64_t offset = p->offset, size = p->end - p->start;

	pma_unlink(mm, p);
	ff->ops->put(ff, offset, size);
}

/*
 * Takes out all pmas of [start, end) and unmaps the range from the platform's space first. Two nodes are
 * reserved.
 */
void pma_drop_range(struct mm *mm, uint64_t start, uint64_t end)
{
	struct mm_ops ops;
	struct pma *p, *next;
	uint64_t low = UINT64_MAX, high = 0;

	pma_split_at(mm, start);
	pma_split_at(mm, end);
	for (p = pma_from(mm, start); p && p->start < end; p = pma_next(p)) {
		if (!(p->flags & PMA_MAPPED))
			continue;
		low = MIN(low, p->start);
		high = MAX(high, p->end);
	}
	if (low < high) {
		ops_init(&ops, mm);
		ops_unmap(&ops, low, high);
		ops_flush(&ops);
	}
	for (p = pma_from(mm, start); p && p->start < end; p = next) {
		next = pma_next(p);
		pma_remove(mm, p);
	}
}

static bool can_merge(const struct pma *a, const struct pma *b)
{
	return a->end == b->start && a->ff == b->ff && a->prot == b->prot && a->flags == b->flags &&
	       a->offset + (a->end - a->start) == b->offset;
}

/* Joins equal neighbours that meet within [start, end]. */
void pma_merge_around(struct mm *mm, uint64_t start, uint64_t end)
{
	struct pma *p = pma_from(mm, start ? start - 1 : 0), *next;

	for (; p && p->start <= end; p = next) {
		next = pma_next(p);
		while (next && next->start <= end && can_merge(p, next)) {
			p->end = next->end;
			pma_unlink(mm, next);
			next = pma_next(p);
		}
	}
}

/* What the platform may let the guest do with p's frames. Every mapped page is at least readable. */
uint8_t pma_platform_prot(const struct pma *p)
{
	uint8_t prot = 0;

	if (p->prot & (PROT_READ | PROT_WRITE | PROT_EXEC))
		prot |= PLATFORM_READ;
	if ((p->prot & PROT_WRITE) && (p->flags & PMA_WRITE))
		prot |= PLATFORM_WRITE;
	if (p->prot & PROT_EXEC)
		prot |= PLATFORM_EXEC;
	return prot;
}

/* ---- batches ---- */

void ops_init(struct mm_ops *o, struct mm *mm)
{
	o->mm = mm;
	o->count = 0;
}

/* Sends what was collected. */
void ops_flush(struct mm_ops *o)
{
	if (o->count)
		mm_platform_ops->aspace_update(o->mm->as, mm_self, o->op, o->count);
	o->count = 0;
}

void ops_add(struct mm_ops *o, const struct aspace_op *op)
{
	if (o->count == OPS_MAX)
		ops_flush(o);
	o->op[o->count++] = *op;
}

/* Maps all of p with what it allows now; unmaps it when that is nothing. */
void ops_map(struct mm_ops *o, struct pma *p, bool populate)
{
	uint8_t prot = pma_platform_prot(p);

	if (!prot) {
		if (p->flags & PMA_MAPPED)
			ops_unmap(o, p->start, p->end);
		p->flags &= (uint8_t)~PMA_MAPPED;
		return;
	}
	p->flags |= PMA_MAPPED;
	ops_add(o, &(struct aspace_op){ .kind = ASPACE_MAP,
					.addr = p->start,
					.size = p->end - p->start,
					.host_fd = p->ff->host_fd,
					.offset = p->offset,
					.prot = prot,
					.populate = populate });
}

/* Changes the protection of a mapped pma to what it allows now. */
void ops_protect(struct mm_ops *o, const struct pma *p)
{
	uint8_t prot = pma_platform_prot(p);

	if (!(p->flags & PMA_MAPPED))
		return;
	ops_add(o, &(struct aspace_op){ .kind = ASPACE_PROTECT,
					.addr = p->start,
					.size = p->end - p->start,
					.prot = prot });
}

void ops_unmap(struct mm_ops *o, uint64_t start, uint64_t end)
{
	ops_add(o, &(struct aspace_op){ .kind = ASPACE_UNMAP, .addr = start, .size = end - start });
}
