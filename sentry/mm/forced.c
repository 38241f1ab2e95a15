/* Writes of debuggers into memory that the program itself may not write. */
#include <sys/mman.h>

#include "sentry/mm/mm.h"

struct found {
	uint64_t addr;
	uint32_t prot;
	bool yes;
};

static int note_prot(const struct vma_info *v, void *arg)
{
	struct found *f = arg;

	if (v->start <= f->addr && f->addr < v->end) {
		f->yes = true;
		f->prot = v->prot;
	}
	return 1;
}

/* Within one page: makes it writable for a moment. */
static bool write_protected(struct mm *mm, uint64_t addr, const void *src, size_t size)
{
	struct mm_limits limits = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };
	uint64_t page = ALIGN_DOWN(addr, GUEST_PAGE_SIZE);
	struct found f = { .addr = addr };
	bool ok;

	mm_for_each_vma(mm, addr, false, note_prot, &f);
	if (!f.yes || (f.prot & PROT_WRITE) ||
	    mm_mprotect(mm, page, GUEST_PAGE_SIZE, f.prot | PROT_READ | PROT_WRITE, &limits) < 0)
		return false;
	ok = copy_out(mm_umem(mm), UADDR(addr), src, size) == 0;
	(void)!mm_mprotect(mm, page, GUEST_PAGE_SIZE, f.prot, &limits);
	return ok;
}

int64_t mm_write_forced(struct mm *mm, uint64_t addr, const void *src, size_t size)
{
	const char *p = src;
	size_t done = 0;

	while (done < size) {
		uint64_t at = addr + done;
		size_t n = MIN(size - done, (size_t)(GUEST_PAGE_SIZE - (at & GUEST_PAGE_MASK)));

		if (copy_out(mm_umem(mm), UADDR(at), p + done, n) < 0 && !write_protected(mm, at, p + done, n))
			break;
		done += n;
	}
	return done ? (int64_t)done : -EFAULT;
}
