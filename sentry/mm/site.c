/* Rewriting of hot system call sites: which pages may be shown to the guest in another form than mm knows. */
#include <errno.h>
#include <sys/mman.h>

#include "sentry/mm/mm_priv.h"

/*
 * Whether the bytes of p, at an executable page of v, change only by something that the platform is told of. A file
 * may be written to, or be mapped a second time, shared and writable: a JIT does that. Nobody does it to what is mapped
 * as a program or library (MAP_DENYWRITE, as exec and dynamic linkers do).
 */
static bool bytes_stay(const struct vma *v, const struct pma *p)
{
	if ((v->flags & VMA_SHARED) || (v->prot & (PROT_EXEC | PROT_WRITE)) != PROT_EXEC ||
	    (p->prot & (PROT_EXEC | PROT_WRITE)) != PROT_EXEC)
		return false;
	return (p->flags & PMA_OWNED) || (v->flags & (VMA_IMAGE | VMA_FRAMES));
}

int mm_rewrite_site(struct mm *mm, struct pcontext *self, uint64_t ip)
{
	struct platform_page page = { .addr = ALIGN_DOWN(ip - 2, PAGE) };
	uint8_t bytes[PAGE], *from;
	struct vma *v;
	struct pma *p;
	uint64_t size;

	if (!mm_platform_ops->site_rewrite)
		return -EOPNOTSUPP;
	raw_thread_init();
	GUARD(mm, mm);
	v = vma_find(mm, page.addr);
	GUARD(mutex, &mm->pmu);
	p = pma_find(mm, page.addr);
	if (!v || !p || !(p->flags & PMA_MAPPED))
		return -EAGAIN;
	if (!bytes_stay(v, p))
		return -EOPNOTSUPP;
	page.offset = p->offset + (page.addr - p->start);
	page.host_fd = p->ff->host_fd;
	page.prot = pma_platform_prot(p);
	from = p->ff->ops->window(p->ff, page.offset, PAGE, &size);
	if (!from || size < PAGE || raw_copy(bytes, from, PAGE) != PAGE)
		return -EFAULT;
	page.bytes = bytes;
	return mm_platform_ops->site_rewrite(mm->as, self, ip, &page);
}
