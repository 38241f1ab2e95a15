/* Life of an address space: birth, fork, death, and the facts that exec leaves in it. */
#include "sentry/mm/mm.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/core/random.h"
#include "sentry/mm/mm_priv.h"
#include "sentry/state/desc.h"

STATE_DESC(mm, S_NOSAVE(mm, umem, "const"), S_VAL(mm, 1, refs), S_NOSAVE(mm, mu, "not held at a safe point"),
	   S_NOSAVE(mm, pmu, "not held at a safe point"), S_LIST(mm, 2, vmas, vma), S_LIST(mm, 3, pmas, pma),
	   S_NOSAVE(mm, last_pma, "cache"), S_NOSAVE(mm, vma_spare, "reserve"),
	   S_NOSAVE(mm, vma_dead, "empty at a safe point"), S_NOSAVE(mm, pma_spare, "reserve"),
	   S_NOSAVE(mm, vma_spare_count, "reserve"), S_NOSAVE(mm, pma_spare_count, "reserve"),
	   S_NOSAVE(mm, invalidations, "compared within one fault only"),
	   S_NOSAVE(mm, as, "the platform's cache, filled again by faults"), S_VAL(mm, 4, vsize),
	   S_VAL(mm, 5, data_size), S_VAL(mm, 6, stack_size), S_VAL(mm, 7, locked_size), S_VAL(mm, 8, hwm),
	   S_VAL(mm, 9, vma_count), S_VAL(mm, 10, mmap_base), S_NOSAVE(mm, gap_hint, "cache"),
	   S_NOSAVE(mm, gap_size, "cache"), S_VAL(mm, 11, brk_start), S_VAL(mm, 12, brk),
	   S_VAL(mm, 13, stack_limit), S_VAL(mm, 14, lock_future), S_VAL(mm, 15, dumpable),
	   S_REF(mm, 16, exe, file), S_VAL(mm, 17, info), S_VAL(mm, 18, title),
	   S_VAL(mm, 19, title_size), S_NOSAVE(mm, again_addr, "guard against a livelock"),
	   S_NOSAVE(mm, again_count, "guard against a livelock"));

#define STACK_AREA (32ull << 30) /* below the top: room for the stack and its random place */
#define MMAP_RANDOM_PAGES (1ull << 28)

enum {
	FORK_MAP_MAX = 192, /* runs mapped into a child before it runs */
	FORK_COPY_MAX = 48, /* hot windows copied */
};

struct platform *mm_platform;
const struct platform_ops *mm_platform_ops;
_Thread_local struct pcontext *mm_self;

int mm_init(struct platform *platform, struct memfile *mf)
{
	BUG_ON(mf != main_memfile);
	mm_platform = platform;
	mm_platform_ops = platform->ops;
	raw_init();
	/* glibc looks into /proc before it shrinks a thread's heap; the filter knows no path-taking call. */
	mallopt(M_TRIM_THRESHOLD, INT_MAX);
	return 0;
}

/* Takes mm->mu. */
void mm_lock(struct mm *mm)
{
	mutex_lock(&mm->mu);
}

/* Releases mm->mu, then drops the files of removed vmas: their last put may take locks ranked above. */
void mm_unlock(struct mm *mm)
{
	struct vma *dead = mm->vma_dead, *next;

	mm->vma_dead = NULL;
	mutex_unlock(&mm->mu);
	for (; dead; dead = next) {
		next = dead->spare;
		if (dead->mappable)
			dead->mappable->ops->put(dead->mappable);
		if (dead->file)
			mm_file_ops.put(dead->file);
		free(dead);
	}
}

uint64_t mm_task_size(void)
{
	return mm_platform_ops->max_addr;
}

uint64_t mm_min_addr(void)
{
	return mm_platform_ops->min_addr;
}

void mm_set_self(struct pcontext *self)
{
	mm_self = self;
	if (self)
		raw_thread_init();
}

int mm_new(struct mm **ret_mm)
{
	struct mm *mm = calloc(1, sizeof(*mm));
	uint64_t pages;
	int err;

	if (!mm)
		return -ENOMEM;
	err = mm_platform_ops->aspace_new(mm_platform, &mm->as);
	if (err < 0) {
		free(mm);
		return err;
	}
	mm->umem.ops = &mm_umem_ops;
	refcount_init(&mm->refs, 1);
	mutex_init(&mm->mu, LOCK_MM);
	mutex_init(&mm->pmu, LOCK_PMA);
	random_fill(&pages, sizeof(pages));
	mm->mmap_base = mm_platform_ops->max_addr - STACK_AREA - pages % MMAP_RANDOM_PAGES * PAGE;
	mm->stack_limit = 8 << 20;
	mm->dumpable = 1;
	*ret_mm = mm;
	return 0;
}

struct mm *mm_get(struct mm *mm)
{
	refcount_get(&mm->refs);
	return mm;
}

void mm_put(struct mm *mm)
{
	struct pma *p;
	struct vma *v;

	if (!mm || !refcount_put(&mm->refs))
		return;
	/* No context runs in the space any more: freeing it first makes every unmapping needless. */
	mm_platform_ops->aspace_free(mm->as);
	mm_lock(mm);
	mutex_lock(&mm->pmu);
	while ((p = pma_from(mm, 0)))
		pma_remove(mm, p);
	mutex_unlock(&mm->pmu);
	while ((v = vma_from(mm, 0)))
		vma_remove(mm, v);
	mm_unlock(mm);
	vma_spares_free(mm);
	pma_spares_free(mm);
	if (mm->exe)
		mm_file_ops.put(mm->exe);
	mutex_fini(&mm->pmu);
	mutex_fini(&mm->mu);
	free(mm);
}

struct umem *mm_umem(struct mm *mm)
{
	return &mm->umem;
}

struct aspace *mm_aspace(struct mm *mm)
{
	return mm->as;
}

int mm_reserve_context(struct mm *mm, struct pcontext *self)
{
	return mm_platform_ops->aspace_reserve(mm->as, self);
}

/* ---- fork ---- */

static int fork_vma(struct mm *child, const struct vma *v)
{
	struct vma *c;

	if (v->flags & VMA_DONTFORK)
		return 0;
	if (vma_reserve(child, 1) < 0)
		return -ENOMEM;
	c = vma_take(child);
	*c = *v;
	c->mm = child;
	c->spare = NULL;
	c->flags &= (uint16_t)~VMA_LOCKED; /* mlock(2): not inherited */
	if (c->mappable)
		c->mappable->ops->get(c->mappable);
	if (c->file)
		mm_file_ops.get(c->file);
	vma_insert(child, c);
	return 0;
}

struct fork_state {
	struct mm *mm, *child;
	struct mm_ops parent_ops, child_ops;
	unsigned int mapped, copied;
};

/* Memory that is written after each fork is copied now: cheaper than a fault on each side. */
static bool fork_copy(struct fork_state *f, struct pma *p, uint64_t start, uint64_t end, struct frame_run *ret_run)
{
	if ((p->flags & (PMA_OWNED | PMA_WRITE | PMA_HOT)) != (PMA_OWNED | PMA_WRITE | PMA_HOT) ||
	    end - start > COPY_WINDOW || f->copied >= FORK_COPY_MAX)
		return false;
	if (memfile_alloc_raw(main_memfile, end - start, 0, true, MEMFILE_ANON, ret_run) < 0)
		return false;
	if (copy_frames(ret_run, p->ff, p->offset + (start - p->start)) < 0) {
		ret_run->ff->ops->put(ret_run->ff, ret_run->offset, ret_run->size);
		return false;
	}
	f->copied++;
	return true;
}

/* One run: the child gets the same frames, and private ones become copy-on-write in both. */
static int fork_pma(struct fork_state *f, struct pma *p, uint64_t start, uint64_t end)
{
	struct frame_run run = { p->ff, p->offset + (start - p->start), end - start };
	uint8_t flags = p->flags & (PMA_OWNED | PMA_WRITE);

	if (pma_reserve(f->child, 1) < 0)
		return -ENOMEM;
	if (!fork_copy(f, p, start, end, &run)) {
		if ((p->flags & PMA_OWNED) && (p->flags & PMA_WRITE)) {
			p->flags &= (uint8_t)~PMA_WRITE;
			if (p->prot & PROT_WRITE)
				ops_protect(&f->parent_ops, p);
		}
		flags = p->flags & (PMA_OWNED | PMA_WRITE);
		run.ff->ops->get(run.ff, run.offset, run.size);
	}
	pma_insert(f->child, start, &run, p->prot, flags);
	if (f->mapped++ < FORK_MAP_MAX)
		ops_map(&f->child_ops, pma_find(f->child, start), false);
	return 0;
}

/* Marks the window around the stack pointer: both sides will write there at once. pmu is held. */
static void mark_stack_hot(struct mm *mm, uint64_t sp)
{
	uint64_t lo = ALIGN_DOWN(sp - 256, (uint64_t)COPY_WINDOW), hi = lo + COPY_WINDOW;
	struct pma *p = pma_find(mm, sp - 256);

	if (!p || (p->flags & (PMA_OWNED | PMA_WRITE)) != (PMA_OWNED | PMA_WRITE) || pma_reserve(mm, 2) < 0)
		return;
	lo = MAX(lo, p->start);
	hi = MIN(hi, p->end);
	pma_split_at(mm, lo);
	pma_split_at(mm, hi);
	pma_find(mm, lo)->flags |= PMA_HOT;
}

static int fork_pmas(struct mm *mm, struct mm *child, const struct pcontext *self)
{
	struct fork_state f = { .mm = mm, .child = child };
	struct pma *p;
	int err = 0;

	GUARD(mutex, &mm->pmu);
	mutex_lock_nested(&child->pmu);
	ops_init(&f.parent_ops, mm);
	ops_init(&f.child_ops, child);
	if (self)
		mark_stack_hot(mm, self->syscall.sp);
	for (p = pma_from(mm, 0); p && err == 0; p = pma_next(p)) {
		struct vma *v = vma_from(mm, p->start);

		/* a run may span vmas that differ in what fork does with them */
		for (; v && v->start < p->end && err == 0; v = vma_next(v)) {
			if (v->flags & (VMA_DONTFORK | VMA_WIPEONFORK))
				continue;
			err = fork_pma(&f, p, MAX(p->start, v->start), MIN(p->end, v->end));
		}
	}
	ops_flush(&f.child_ops);
	ops_flush(&f.parent_ops);
	mutex_unlock(&child->pmu);
	return err;
}

/* mm is locked. */
static void set_title(struct mm *mm, const char *argv, size_t size)
{
	mm->title_size = (uint32_t)MIN(size, sizeof(mm->title));
	for (size_t i = 0; i < mm->title_size; i++)
		mm->title[i] = argv[i] ? argv[i] : ' ';
	while (mm->title_size && mm->title[mm->title_size - 1] == ' ')
		mm->title_size--;
	if (mm_platform_ops->title_set)
		mm_platform_ops->title_set(mm->as, mm->title, mm->title_size);
}

void mm_set_title(struct mm *mm, const char *argv, size_t size)
{
	GUARD(mm, mm);
	set_title(mm, argv, size);
}

int mm_fork(struct mm *mm, struct pcontext *self, struct mm **ret_mm)
{
	struct mm *child;
	struct vma *v;
	int err = mm_new(&child);

	if (err < 0)
		return err;
	mm_lock(mm);
	mutex_lock_nested(&child->mu);
	for (v = vma_from(mm, 0); v && err == 0; v = vma_next(v))
		err = fork_vma(child, v);
	if (err == 0)
		err = fork_pmas(mm, child, self);
	child->mmap_base = mm->mmap_base;
	child->brk_start = mm->brk_start;
	child->brk = mm->brk;
	child->stack_limit = mm->stack_limit;
	child->dumpable = mm->dumpable;
	child->info = mm->info;
	set_title(child, mm->title, mm->title_size);
	child->exe = mm->exe ? mm_file_ops.get(mm->exe) : NULL;
	mm_unlock(child);
	mm_unlock(mm);
	if (err == 0 && self && mm_platform_ops->aspace_prepare)
		err = mm_platform_ops->aspace_prepare(child->as, self);
	if (err < 0) {
		mm_put(child);
		return err;
	}
	*ret_mm = child;
	return 0;
}

/* ---- exec's facts ---- */

void mm_set_info(struct mm *mm, const struct mm_info *info, struct file *exe)
{
	struct file *old;

	mm_lock(mm);
	mm->info = *info;
	old = mm->exe;
	mm->exe = exe ? mm_file_ops.get(exe) : NULL;
	mm_unlock(mm);
	if (old)
		mm_file_ops.put(old);
}

void mm_get_info(struct mm *mm, struct mm_info *ret)
{
	GUARD(mm, mm);
	*ret = mm->info;
	ret->start_brk = mm->brk_start;
	ret->brk = mm->brk;
}

struct file *mm_exe(struct mm *mm)
{
	GUARD(mm, mm);
	return mm->exe ? mm_file_ops.get(mm->exe) : NULL;
}

int mm_set_exe(struct mm *mm, struct file *exe)
{
	struct file *old;

	mm_lock(mm);
	old = mm->exe;
	mm->exe = mm_file_ops.get(exe);
	mm_unlock(mm);
	if (old)
		mm_file_ops.put(old);
	return 0;
}

uint8_t mm_dumpable(struct mm *mm)
{
	GUARD(mm, mm);
	return mm->dumpable;
}

void mm_set_dumpable(struct mm *mm, uint8_t value)
{
	GUARD(mm, mm);
	mm->dumpable = value;
}
