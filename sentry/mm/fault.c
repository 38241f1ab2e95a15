/* Faults: finding or making the frames behind a page, and telling the platform about them. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm_priv.h"

enum {
	BLOCK_MIN = 2 << 20,   /* anonymous memory is given out in blocks: holes cost nothing */
	BLOCK_MAX = 32 << 20,
	BLOCK_LOW = 64 << 10,	   /* near the limit of the container */
	TRANSLATE_WINDOW = 2 << 20,
	AHEAD_ANON = 2 << 20,	   /* mapped at mmap: whole anonymous mappings up to this */
	AHEAD_FILE = 256 << 20,
	AHEAD_FRAMES = 16 << 20,   /* of that, files whose pages are frames (tmpfs) */
	AHEAD_COPY = 128 << 10,	   /* private writable file mappings up to this are copied at mmap */
	AHEAD_OPS = 16,		   /* neighbours mapped with a fault */
	AGAIN_MAX = 8,
	STACK_GUARD = 1 << 20,
};

/* Bytes of [offset, offset+size) that the host holds; vec (may be NULL) gets one byte for each page. */
int64_t resident_bytes(struct frame_file *ff, uint64_t offset, uint64_t size, uint8_t *vec)
{
	uint8_t chunk[512];
	uint64_t done = 0;
	int64_t sum = 0;

	while (done < size) {
		uint64_t n = 0, want = MIN(size - done, sizeof(chunk) * PAGE);
		void *p = ff->ops->window(ff, offset + done, want, &n);

		n = MIN(n, want);
		if (!p || !n || mincore(p, n, chunk) < 0)
			return -EIO;
		for (uint64_t i = 0; i < n / PAGE; i++) {
			sum += (chunk[i] & 1) ? (int64_t)PAGE : 0;
			if (vec)
				vec[done / PAGE + i] = chunk[i] & 1;
		}
		done += n;
	}
	return sum;
}

/* Where the hole of the memory file that begins at offset ends: offset itself when there is none. A page that the host
 * swapped out is no hole, though it is not resident. */
uint64_t hole_end(struct frame_file *ff, uint64_t offset)
{
	off_t data = lseek(ff->host_fd, (off_t)offset, SEEK_DATA);

	return data >= 0 ? (uint64_t)data : errno == ENXIO ? UINT64_MAX : offset;
}

/* Free space around addr between the neighbouring pmas, within [lo, hi). */
static void clip_to_gap(struct mm *mm, uint64_t addr, uint64_t *lo, uint64_t *hi)
{
	struct pma *next = pma_from(mm, addr);
	struct rb_node *n = next ? rb_prev(&next->node) : rb_last(&mm->pmas);

	if (next)
		*hi = MIN(*hi, next->start);
	if (n)
		*lo = MAX(*lo, rb_entry(n, struct pma, node)->end);
}

/* How much to hand out at once: less and less towards the limit, so that little of it is not touched. */
static uint64_t block_size(const struct vma *v)
{
	uint64_t block = BLOCK_MIN, room = memory_account_room(memory_self());

	while (block < BLOCK_MAX && block * 16 < v->end - v->start)
		block *= 2;
	while (block > BLOCK_LOW && block > room / 8)
		block /= 2;
	return room ? block : PAGE;
}

/* A private anonymous page that was never touched. pmu is held. 0 or -ENOMEM. */
static int fault_anon(struct mm *mm, struct vma *v, uint64_t addr)
{
	uint64_t block = block_size(v), lo, hi, hint = 0;
	struct frame_run run;
	struct pma *before;
	int err;

	lo = MAX(v->start, ALIGN_DOWN(addr, block));
	hi = MIN(v->end, ALIGN_DOWN(addr, block) + block);
	clip_to_gap(mm, addr, &lo, &hi);
	err = pma_reserve(mm, 1);
	if (err < 0)
		return err;
	before = lo ? pma_find(mm, lo - 1) : NULL;
	if (before && (before->flags & PMA_OWNED))
		hint = before->offset + (before->end - before->start);
	err = memfile_alloc_raw(main_memfile, hi - lo, hint, true, MEMFILE_ANON, &run);
	if (err < 0) {
		lo = addr;
		err = memfile_alloc_raw(main_memfile, PAGE, 0, true, MEMFILE_ANON, &run);
	}
	if (err < 0)
		return err;
	pma_insert(mm, lo, &run, v->prot, PMA_OWNED | PMA_WRITE);
	return 0;
}

/* Fills dst with the pages of a run; pages that were never written stay zero. -EFAULT: SIGBUS. */
int copy_frames(struct frame_run *dst, struct frame_file *ff, uint64_t offset)
{
	uint8_t resident[COPY_WINDOW / PAGE];
	bool known = !ff->host_file && resident_bytes(ff, offset, dst->size, resident) >= 0;
	uint64_t hole = 0; /* up to there */

	for (uint64_t at = 0; at < dst->size; at += PAGE) {
		uint64_t n;
		void *to = dst->ff->ops->window(dst->ff, dst->offset + at, PAGE, &n);
		void *from;

		if (known && !resident[at / PAGE]) {
			if (offset + at >= hole)
				hole = hole_end(ff, offset + at);
			if (offset + at < hole)
				continue;
		}
		from = ff->ops->window(ff, offset + at, PAGE, &n);
		if (!to || !from || raw_copy(to, from, PAGE) != PAGE)
			return -EFAULT;
	}
	return 0;
}

/*
 * Gives [lo, hi), part of p, frames of its own with p's contents. pmu is held; three nodes are reserved.
 * Guests that had the old frames mapped get the new ones. 0, -ENOMEM, -EFAULT (contents unreadable).
 */
static int replace_frames(struct mm *mm, struct pma *p, uint64_t lo, uint64_t hi)
{
	uint64_t offset = p->offset + (lo - p->start);
	struct frame_file *ff = p->ff;
	bool mapped = p->flags & PMA_MAPPED, owned = p->flags & PMA_OWNED;
	uint8_t prot = p->prot;
	struct frame_run run;
	struct mm_ops ops;
	int err = memfile_alloc_raw(main_memfile, hi - lo, 0, true, MEMFILE_ANON, &run);

	if (err < 0)
		return err;
	err = copy_frames(&run, ff, offset);
	if (err < 0) {
		run.ff->ops->put(run.ff, run.offset, run.size);
		return err;
	}
	/* the old frames live until the platform has the new ones */
	ff->ops->get(ff, offset, hi - lo);
	pma_split_at(mm, lo);
	pma_split_at(mm, hi);
	pma_remove(mm, pma_find(mm, lo));
	pma_insert(mm, lo, &run, prot, PMA_OWNED | PMA_WRITE | (owned ? PMA_HOT : 0));
	if (mapped) {
		ops_init(&ops, mm);
		ops_map(&ops, pma_find(mm, lo), false);
		ops_flush(&ops);
		pma_merge_around(mm, lo, hi);
	}
	ff->ops->put(ff, offset, hi - lo);
	return 0;
}

/*
 * Makes [lo, hi), whose frames nobody else has any more, writable again; the window around addr is
 * marked as hot. pmu is held; four nodes are reserved.
 */
static void regain(struct mm *mm, uint64_t lo, uint64_t hi, uint64_t addr)
{
	uint64_t from = MAX(lo, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW));
	uint64_t to = MIN(hi, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW) + COPY_WINDOW);
	struct mm_ops ops;
	struct pma *p;

	pma_split_at(mm, lo);
	pma_split_at(mm, hi);
	pma_split_at(mm, from);
	pma_split_at(mm, to);
	ops_init(&ops, mm);
	for (p = pma_from(mm, lo); p && p->start < hi; p = pma_next(p)) {
		p->flags |= PMA_WRITE;
		if (p->start == from)
			p->flags |= PMA_HOT;
		ops_protect(&ops, p);
	}
	ops_flush(&ops);
	pma_merge_around(mm, lo, hi);
}

/* A write to private frames that were shared at some fork. pmu is held. */
static int break_sharing(struct mm *mm, struct pma *p, uint64_t addr)
{
	uint64_t lo = MAX(p->start, ALIGN_DOWN(addr, (uint64_t)BLOCK_MIN));
	uint64_t hi = MIN(p->end, ALIGN_DOWN(addr, (uint64_t)BLOCK_MIN) + BLOCK_MIN), n;
	int err = pma_reserve(mm, 4);

	if (err < 0)
		return err;
	n = memfile_exclusive_prefix(main_memfile, p->offset + (lo - p->start), hi - lo, true);
	if (lo + n <= addr) {
		lo = addr;
		n = memfile_exclusive_prefix(main_memfile, p->offset + (lo - p->start), hi - lo, true);
	}
	if (n) { /* the others are gone: it is ours again */
		regain(mm, lo, lo + n, addr);
		return 0;
	}
	lo = MAX(p->start, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW));
	hi = MIN(p->end, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW) + COPY_WINDOW);
	n = memfile_exclusive_prefix(main_memfile, p->offset + (lo - p->start), hi - lo, false);
	if (lo + n <= addr) {
		lo = addr;
		n = memfile_exclusive_prefix(main_memfile, p->offset + (lo - p->start), hi - lo, false);
	}
	if (!n) { /* the last other one has gone since the first look */
		regain(mm, addr, addr + PAGE, addr);
		return 0;
	}
	err = replace_frames(mm, p, lo, lo + n);
	return err == -ENOMEM && n > PAGE ? replace_frames(mm, p, addr, addr + PAGE) : err;
}

/*
 * A write to a private mapping of a file: a copy of the page, and of some neighbours when it is a
 * program's (other mappings show later writes to the file until they are written to). pmu is held.
 */
static int copy_private(struct mm *mm, struct vma *v, struct pma *p, uint64_t addr)
{
	uint64_t lo = MAX(p->start, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW));
	uint64_t hi = MIN(p->end, ALIGN_DOWN(addr, (uint64_t)COPY_WINDOW) + COPY_WINDOW);
	int err = pma_reserve(mm, 3);

	lo = v->flags & VMA_IMAGE ? MAX(lo, v->start) : addr;
	hi = v->flags & VMA_IMAGE ? MIN(hi, v->end) : addr + PAGE;
	if (err == 0)
		err = replace_frames(mm, p, lo, hi);
	if ((err == -EFAULT || err == -ENOMEM) && hi - lo > PAGE)
		err = replace_frames(mm, p, addr, addr + PAGE);
	return err;
}

/* Where a file page is: asks the mappable without pmu, then inserts. -EAGAIN: look again. */
static int fault_file(struct mm *mm, struct vma *v, uint64_t addr, bool write)
{
	uint64_t lo = MAX(v->start, ALIGN_DOWN(addr, (uint64_t)TRANSLATE_WINDOW));
	uint64_t hi = MIN(v->end, ALIGN_DOWN(addr, (uint64_t)TRANSLATE_WINDOW) + TRANSLATE_WINDOW), seen;
	struct mappable *m = v->mappable;
	struct frame_run run;
	struct pma *p;
	int err;

	p = pma_find(mm, addr);
	if (p) {
		lo = MAX(lo, p->start);
		hi = MIN(hi, p->end);
	} else {
		clip_to_gap(mm, addr, &lo, &hi);
	}
	seen = mm->invalidations;
	mutex_unlock(&mm->pmu);
	err = m->ops->translate(m, v->offset + (lo - v->start), hi - lo, write, &run);
	if (err == 0 && lo + run.size <= addr) {
		run.ff->ops->put(run.ff, run.offset, run.size);
		lo = addr;
		err = m->ops->translate(m, v->offset + (lo - v->start), hi - lo, write, &run);
	} else if (err < 0 && lo < addr) {
		lo = addr;
		err = m->ops->translate(m, v->offset + (lo - v->start), hi - lo, write, &run);
	}
	mutex_lock(&mm->pmu);
	if (err < 0)
		return err;
	if (seen != mm->invalidations || pma_reserve(mm, 3) < 0) {
		run.ff->ops->put(run.ff, run.offset, run.size);
		return seen != mm->invalidations ? -EAGAIN : -ENOMEM;
	}
	hi = lo + run.size;
	if (p) /* it was readable only */
		pma_drop_range(mm, lo, hi);
	pma_insert(mm, lo, &run, v->prot, write && (v->flags & VMA_SHARED) ? PMA_WRITE : 0);
	return -EAGAIN;
}

/*
 * Makes the page at addr of v usable for want; the vma's permission was checked. mu is held, pmu not.
 * *ret_end (may be NULL): up to there the same holds. 0, -ENOMEM, -EFAULT (SIGBUS), -EIO.
 */
int fault_locked(struct mm *mm, struct vma *v, uint64_t addr, unsigned int want, uint64_t *ret_end)
{
	bool write = want & WANT_WRITE;
	int err;

	addr = ALIGN_DOWN(addr, PAGE);
	GUARD(mutex, &mm->pmu);
	for (int i = 0; i < 1000; i++) {
		struct pma *p = pma_find(mm, addr);

		if (p && (!write || (p->flags & PMA_WRITE))) {
			if (ret_end)
				*ret_end = MIN(p->end, v->end);
			return 0;
		}
		if (v->flags & VMA_FRAMES)
			return -EFAULT;
		if (p && (p->flags & PMA_OWNED))
			err = break_sharing(mm, p, addr);
		else if (!v->mappable)
			err = fault_anon(mm, v, addr);
		else if (p && !(v->flags & VMA_SHARED))
			err = copy_private(mm, v, p, addr);
		else
			err = fault_file(mm, v, addr, write && (v->flags & VMA_SHARED));
		if (err < 0 && err != -EAGAIN)
			return err;
	}
	return -EIO; /* the file's pages went away each time they were found */
}

/* Gives the platform the pmas of [start, end) that it does not have. mu is held, pmu not. */
void map_resident(struct mm *mm, uint64_t start, uint64_t end, bool populate)
{
	unsigned int count = 0;
	struct mm_ops ops;
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	ops_init(&ops, mm);
	for (p = pma_from(mm, start); p && p->start < end && count < AHEAD_OPS; p = pma_next(p)) {
		if (p->flags & PMA_MAPPED)
			continue;
		ops_map(&ops, p, populate);
		count++;
	}
	ops_flush(&ops);
	pma_merge_around(mm, start, end);
}

/*
 * Makes all pages of [start, end) present (mlock, MAP_POPULATE), as far as the mappings allow. copy: ends
 * the sharing of private writable pages too. 0, or as fault_locked.
 */
int fault_range_locked(struct mm *mm, uint64_t start, uint64_t end, bool populate, bool copy)
{
	struct vma *v = vma_from(mm, start);

	for (; v && v->start < end; v = vma_next(v)) {
		bool write = copy && (v->prot & PROT_WRITE) && !(v->flags & VMA_SHARED);
		uint64_t at = MAX(start, v->start), next;

		if (!(v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
			continue;
		while (at < MIN(end, v->end)) {
			int err = fault_locked(mm, v, at, write ? WANT_WRITE : WANT_READ, &next);

			if (err < 0)
				return err;
			map_resident(mm, at, next, populate);
			at = next;
		}
	}
	return 0;
}

static bool on_host(struct mm *mm, uint64_t addr)
{
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	p = pma_find(mm, addr);
	return p && (p->flags & PMA_HOST);
}

/* What a new mapping will surely need is mapped at once, in the batch of its system call. mu is held. */
void map_ahead_locked(struct mm *mm, struct vma *v)
{
	uint64_t size = v->end - v->start, next;

	if (!(v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) || (v->flags & VMA_NORESERVE))
		return;
	if (!v->mappable ? size > AHEAD_ANON || (v->flags & VMA_SHARED) : size > AHEAD_FILE)
		return;
	for (uint64_t at = v->start; at < v->end; at = next) {
		bool copy = (v->flags & (VMA_SHARED | VMA_IMAGE)) == VMA_IMAGE && (v->prot & PROT_WRITE) &&
			    v->mappable && size <= AHEAD_COPY;

		if (fault_locked(mm, v, at, copy ? WANT_WRITE : WANT_READ, &next) < 0)
			break; /* its fault will tell */
		if (at - v->start > AHEAD_FRAMES && !on_host(mm, at))
			break;
	}
	map_resident(mm, v->start, v->end, false);
}

/* The vma for an access at addr; a stack above it grows down to it when its limit allows. */
struct vma *fault_vma(struct mm *mm, uint64_t addr)
{
	struct vma *v = vma_from(mm, addr), *below;
	uint64_t start = ALIGN_DOWN(addr, PAGE);

	if (!v || v->start <= addr || !(v->flags & VMA_GROWSDOWN))
		return v && v->start <= addr ? v : NULL;
	below = vma_prev(v);
	if (v->end - start > mm->stack_limit || start < mm_platform_ops->min_addr ||
	    (below && (start < below->end || start - below->end < STACK_GUARD) &&
	     (below->prot & (PROT_READ | PROT_WRITE | PROT_EXEC))) ||
	    (below && start < below->end))
		return NULL;
	/* grow by a good piece at once, as far as there is room */
	if (v->end - v->start < mm->stack_limit) {
		uint64_t more = ALIGN_DOWN(start, 128ull << 10);

		if (v->end - more <= mm->stack_limit && (!below || (more > below->end && more - below->end >= STACK_GUARD)))
			start = more;
	}
	vma_resize(v, start, v->end);
	return v;
}

/*
 * A fault on a page that is mapped with the permission wanted: the platform lost the mapping, another
 * thread was faster, or the host refuses it (a noexec mount). Maps again, and uses copies of a host file
 * when that does not help. Returns false when the fault is of another kind.
 */
static bool fault_again(struct mm *mm, struct vma *v, uint64_t addr, unsigned int want)
{
	struct mm_ops ops;
	struct pma *p;

	GUARD(mutex, &mm->pmu);
	p = pma_find(mm, addr);
	if (!p || !(p->flags & PMA_MAPPED) || ((want & WANT_WRITE) && !(p->flags & PMA_WRITE)))
		return false;
	if (mm->again_addr != addr)
		mm->again_count = 0;
	mm->again_addr = addr;
	if (++mm->again_count > AGAIN_MAX && (p->flags & PMA_HOST) && !(v->flags & VMA_SHARED)) {
		log_debug("mm: host file cannot be mapped at 0x%llx: copied", (unsigned long long)addr);
		mm->again_count = 0;
		return copy_private(mm, v, p, ALIGN_DOWN(addr, PAGE)) == 0;
	}
	ops_init(&ops, mm);
	ops_map(&ops, p, false);
	ops_flush(&ops);
	return true;
}

static uint8_t vma_access(const struct vma *v)
{
	return (uint8_t)(((v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)) ? PLATFORM_READ : 0) |
			 ((v->prot & PROT_WRITE) ? PLATFORM_WRITE : 0) |
			 ((v->prot & PROT_EXEC) ? PLATFORM_EXEC : 0));
}

static int fault_once(struct mm *mm, const struct platform_fault *fault, int *ret_signo, int *ret_code)
{
	unsigned int want;
	struct vma *v;
	uint8_t access;
	uint64_t end;
	int err;

	*ret_signo = SIGSEGV;
	GUARD(mm, mm);
	v = fault_vma(mm, fault->addr);
	if (!v) {
		*ret_code = SEGV_MAPERR;
		return -EFAULT;
	}
	access = fault->access & vma_access(v);
	if (!access) {
		*ret_code = SEGV_ACCERR;
		return -EFAULT;
	}
	want = WANT_READ;
	if (!(access & (PLATFORM_READ | PLATFORM_EXEC)) ||
	    ((access & PLATFORM_WRITE) && (!v->mappable || (v->flags & VMA_SHARED))))
		want = WANT_WRITE;
	if (fault_again(mm, v, fault->addr, want))
		return 0;
	err = fault_locked(mm, v, fault->addr, want, &end);
	if (err < 0) {
		*ret_signo = err == -ENOMEM ? SIGKILL : SIGBUS;
		*ret_code = err == -ENOMEM ? SI_KERNEL : BUS_ADRERR;
		return err == -ENOMEM ? err : -EFAULT;
	}
	map_resident(mm, ALIGN_DOWN(fault->addr, PAGE), MIN(v->end, ALIGN_DOWN(fault->addr, PAGE) + BLOCK_MIN), false);
	return 0;
}

int mm_fault(struct mm *mm, const struct platform_fault *fault, uint64_t sp, int *ret_signo, int *ret_code)
{
	int err = fault_once(mm, fault, ret_signo, ret_code);

	(void)sp; /* Linux grows a stack at any address between it and its guard gap */
	if (unlikely(err == -ENOMEM))
		return memory_relieve(false) ? 0 : -EFAULT; /* the guest faults again, unless it was killed */
	return err;
}
