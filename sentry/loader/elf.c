/* ELF64 headers (elf(5)): a pure function over bytes of the guest. */
#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "sentry/core/uaddr.h"
#include "sentry/loader/loader.h"

#if defined(__x86_64__)
#define ELF_MACHINE EM_X86_64
#endif

#define USER_TOP (1ull << 47)

static int check_header(const Elf64_Ehdr *h)
{
	if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
	    h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != ELF_MACHINE)
		return -ENOEXEC;
	if (h->e_type != ET_EXEC && h->e_type != ET_DYN)
		return -ENOEXEC;
	if (h->e_phentsize != sizeof(Elf64_Phdr) || h->e_phnum == 0 ||
	    h->e_phnum > 65536 / sizeof(Elf64_Phdr))
		return -ENOEXEC;
	return 0;
}

static int add_segment(struct elf_image *e, const Elf64_Phdr *p)
{
	struct elf_segment *s;
	uint64_t end;

	if (p->p_memsz == 0)
		return 0;
	if (p->p_filesz > p->p_memsz || p->p_memsz > USER_TOP ||
	    __builtin_add_overflow(p->p_vaddr, p->p_memsz, &end) || end > USER_TOP ||
	    __builtin_add_overflow(p->p_offset, p->p_filesz, &end) || end > INT64_MAX)
		return -EINVAL;
	if ((p->p_vaddr & GUEST_PAGE_MASK) != (p->p_offset & GUEST_PAGE_MASK))
		return -EINVAL;
	if (e->segment_count == ELF_SEGMENTS_MAX)
		return -ENOEXEC;
	/* elf(5): PT_LOAD entries ascend by p_vaddr. */
	if (e->segment_count > 0 && p->p_vaddr < e->segment[e->segment_count - 1].vaddr)
		return -EINVAL;
	s = &e->segment[e->segment_count++];
	s->vaddr = p->p_vaddr;
	s->file_offset = p->p_offset;
	s->file_size = p->p_filesz;
	s->mem_size = p->p_memsz;
	s->prot = (p->p_flags & PF_R ? PROT_READ : 0) | (p->p_flags & PF_W ? PROT_WRITE : 0) |
		  (p->p_flags & PF_X ? PROT_EXEC : 0);
	if (p->p_align > e->align && p->p_align <= (1ull << 30) && (p->p_align & (p->p_align - 1)) == 0)
		e->align = p->p_align;
	return 0;
}

/* Where the program headers will be in memory: AT_PHDR. */
static uint64_t find_phdr(const struct elf_image *e, uint64_t phoff)
{
	for (unsigned i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segment[i];

		if (phoff >= s->file_offset && phoff - s->file_offset < s->file_size)
			return s->vaddr + (phoff - s->file_offset);
	}
	return 0;
}

int elf_parse(const uint8_t *head, size_t size, struct elf_image *ret, size_t *ret_need)
{
	struct elf_image e = { .align = GUEST_PAGE_SIZE };
	Elf64_Ehdr h;
	uint64_t end;
	int r;

	if (size < sizeof(h))
		return -ENOEXEC;
	memcpy(&h, head, sizeof(h));
	r = check_header(&h);
	if (r < 0)
		return r;
	if (__builtin_add_overflow(h.e_phoff, (uint64_t)h.e_phnum * sizeof(Elf64_Phdr), &end) || end > (1u << 20))
		return -ENOEXEC;
	if (end > size) {
		*ret_need = end;
		return -E2BIG;
	}
	e.entry = h.e_entry;
	e.phdr_count = h.e_phnum;
	e.position_independent = h.e_type == ET_DYN;
	for (unsigned i = 0; i < h.e_phnum; i++) {
		Elf64_Phdr p;

		memcpy(&p, head + h.e_phoff + i * sizeof(p), sizeof(p));
		switch (p.p_type) {
		case PT_LOAD:
			r = add_segment(&e, &p);
			if (r < 0)
				return r;
			break;
		case PT_INTERP:
			if (e.interp_size)
				break; /* the first counts */
			if (p.p_filesz < 2 || p.p_filesz > PATH_MAX_GUEST || p.p_offset > INT64_MAX - p.p_filesz)
				return -ENOEXEC;
			e.interp_offset = p.p_offset;
			e.interp_size = p.p_filesz;
			break;
		case PT_GNU_STACK:
			e.exec_stack = p.p_flags & PF_X;
			break;
		default:
			break;
		}
	}
	if (e.segment_count == 0)
		return -ENOEXEC;
	e.low = ALIGN_DOWN(e.segment[0].vaddr, GUEST_PAGE_SIZE);
	for (unsigned i = 0; i < e.segment_count; i++)
		e.high = MAX(e.high, ALIGN_UP(e.segment[i].vaddr + e.segment[i].mem_size, GUEST_PAGE_SIZE));
	e.phdr_vaddr = find_phdr(&e, h.e_phoff);
	*ret = e;
	return 0;
}
