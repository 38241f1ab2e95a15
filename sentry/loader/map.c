/* Filling a new address space: segments, vDSO, stack with argv, envv and the auxiliary vector. */
#include <elf.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "sentry/core/mappable.h"
#include "sentry/core/random.h"
#include "sentry/loader/loader.h"
#include "sentry/time/clock.h"

#define PIE_BASE 0x555555554000ull /* ELF_ET_DYN_BASE of a 47-bit address space */
#define RANDOM_PAGES (1ull << 28)
#define STACK_RANDOM_PAGES (1ull << 22)
#define STACK_DEFAULT (8ull << 20)
#define BRK_RANDOM (32ull << 20)
#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

static uint64_t random_below(uint64_t n)
{
	uint64_t v;

	random_fill(&v, sizeof(v));
	return v % n;
}

/* Zeroes the rest of the last file page of a segment with bss. */
static int clear_tail(struct mm *mm, uint64_t from)
{
	uint64_t end = ALIGN_UP(from, GUEST_PAGE_SIZE);

	return from == end ? 0 : copy_out_zero(mm_umem(mm), UADDR(from), end - from);
}

static int map_segment(struct mm *mm, const struct loader_map_args *a, struct file *f,
		       const struct elf_segment *s, uint64_t bias)
{
	uint64_t start = ALIGN_DOWN(s->vaddr, GUEST_PAGE_SIZE) + bias;
	uint64_t pad = s->vaddr & GUEST_PAGE_MASK;
	uint64_t file_end = s->vaddr + bias + s->file_size;
	uint64_t file_pages = s->file_size ? ALIGN_UP(pad + s->file_size, GUEST_PAGE_SIZE) : 0;
	uint64_t end = ALIGN_UP(s->vaddr + bias + s->mem_size, GUEST_PAGE_SIZE);
	struct mm_map_args m = { .addr = start,
				 .size = file_pages,
				 .offset = s->file_offset - pad,
				 .prot = s->prot,
				 .flags = MAP_PRIVATE | MAP_FIXED | MAP_DENYWRITE,
				 .file = f,
				 .limits = a->limits };
	int64_t r;

	if (file_pages) {
		r = mm_mmap(mm, &m);
		if (r < 0)
			return (int)r;
		if (s->mem_size > s->file_size && (s->prot & PROT_WRITE)) {
			r = clear_tail(mm, file_end);
			if (r < 0)
				return (int)r;
		}
	}
	if (start + file_pages < end) {
		m.addr = start + file_pages;
		m.size = end - m.addr;
		m.offset = 0;
		m.file = NULL;
		m.flags |= MAP_ANONYMOUS;
		r = mm_mmap(mm, &m);
		if (r < 0)
			return (int)r;
	}
	return 0;
}

/* Maps all segments; ET_DYN anywhere (hint) as one reserved block first. Returns the load bias. */
static int64_t map_elf(struct mm *mm, const struct loader_map_args *a, struct file *f,
		       const struct elf_image *e, uint64_t hint)
{
	uint64_t bias = 0;

	if (e->position_independent) {
		struct mm_map_args reserve = { .addr = hint,
					       .size = e->high - e->low + (e->align - GUEST_PAGE_SIZE),
					       .prot = PROT_NONE,
					       .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
					       .limits = a->limits };
		int64_t at = mm_mmap(mm, &reserve);
		uint64_t base;

		if (at < 0)
			return at;
		base = ALIGN_UP((uint64_t)at, e->align);
		bias = base - e->low;
		/* Give back everything: the segments come with MAP_FIXED, gaps stay free as on Linux. */
		if (mm_munmap(mm, (uint64_t)at, reserve.size) < 0)
			return -ENOMEM;
	}
	for (unsigned i = 0; i < e->segment_count; i++) {
		int r = map_segment(mm, a, f, &e->segment[i], bias);

		if (r < 0)
			return r;
	}
	return (int64_t)bias;
}

static int map_vdso(struct mm *mm, const struct loader_map_args *a, uint64_t hint, uint64_t *ret_base)
{
	struct frame_run data, code;
	struct mm_map_args reserve = { .addr = hint,
				       .prot = PROT_NONE,
				       .flags = MAP_PRIVATE | MAP_ANONYMOUS,
				       .limits = a->limits };
	int64_t at, r;

	vdso_frames(&data, &code);
	reserve.size = data.size + code.size;
	at = mm_mmap(mm, &reserve);
	r = at < 0 ? at : mm_munmap(mm, (uint64_t)at, reserve.size);
	if (r < 0) {
		data.ff->ops->put(data.ff, data.offset, data.size);
		code.ff->ops->put(code.ff, code.offset, code.size);
		return (int)r;
	}
	r = mm_map_frames(mm, (uint64_t)at, &data, PROT_READ, "[vvar]");
	if (r < 0) {
		code.ff->ops->put(code.ff, code.offset, code.size);
		return (int)r;
	}
	r = mm_map_frames(mm, (uint64_t)at + data.size, &code, PROT_READ | PROT_EXEC, "[vdso]");
	*ret_base = (uint64_t)at + data.size;
	return r < 0 ? (int)r : 0;
}

/* ---- the stack ---- */

struct stack_build {
	uint64_t *word; /* from the final sp upwards */
	size_t count, capacity;
	bool failed;
};

static void push_word(struct stack_build *b, uint64_t v)
{
	if (b->count == b->capacity)
		b->failed = true;
	else
		b->word[b->count++] = v;
}

static void push_aux(struct stack_build *b, struct mm_info *info, uint64_t type, uint64_t v)
{
	push_word(b, type);
	push_word(b, v);
	if (info->auxv_count + 2 <= ARRAY_COUNT(info->auxv)) {
		info->auxv[info->auxv_count++] = type;
		info->auxv[info->auxv_count++] = v;
	}
}

struct stack_places {
	uint64_t strings, random, platform, execfn, vdso;
	uint64_t load_bias, interp_base, entry;
};

static void push_auxv(struct stack_build *b, const struct loader_map_args *a, const struct stack_places *at,
		      struct mm_info *info)
{
	const struct elf_image *e = &a->program->elf;
	struct user_ns *ns = a->cred->user_ns;

	push_aux(b, info, AT_SYSINFO_EHDR, at->vdso);
	push_aux(b, info, AT_HWCAP, getauxval(AT_HWCAP));
	push_aux(b, info, AT_PAGESZ, GUEST_PAGE_SIZE);
	push_aux(b, info, AT_CLKTCK, 100);
	push_aux(b, info, AT_PHDR, e->phdr_vaddr ? e->phdr_vaddr + at->load_bias : 0);
	push_aux(b, info, AT_PHENT, sizeof(Elf64_Phdr));
	push_aux(b, info, AT_PHNUM, e->phdr_count);
	push_aux(b, info, AT_BASE, at->interp_base);
	push_aux(b, info, AT_FLAGS, 0);
	push_aux(b, info, AT_ENTRY, e->entry + at->load_bias);
	push_aux(b, info, AT_UID, user_ns_from_kuid_munged(ns, a->cred->ruid));
	push_aux(b, info, AT_EUID, user_ns_from_kuid_munged(ns, a->cred->euid));
	push_aux(b, info, AT_GID, user_ns_from_kgid_munged(ns, a->cred->rgid));
	push_aux(b, info, AT_EGID, user_ns_from_kgid_munged(ns, a->cred->egid));
	push_aux(b, info, AT_SECURE, a->secure);
	push_aux(b, info, AT_RANDOM, at->random);
	push_aux(b, info, AT_HWCAP2, getauxval(AT_HWCAP2));
	push_aux(b, info, AT_EXECFN, at->execfn);
	push_aux(b, info, AT_PLATFORM, at->platform);
	push_aux(b, info, AT_MINSIGSTKSZ, MAX(getauxval(AT_MINSIGSTKSZ), 2048ul));
	push_aux(b, info, AT_NULL, 0);
}

static void push_pointers(struct stack_build *b, const char *text, size_t size, uint64_t addr)
{
	for (size_t i = 0; i < size; i += strlen(text + i) + 1)
		push_word(b, addr + i);
	push_word(b, 0);
}

/* Writes strings and vectors below top; fills the argument areas of info. Returns sp or -errno. */
static int64_t fill_stack(struct mm *mm, const struct loader_map_args *a, uint64_t top,
			  struct stack_places *at, struct mm_info *info)
{
	static const char platform[] = "x86_64";
	const struct loader_strings *s = a->strings;
	struct umem *um = mm_umem(mm);
	struct stack_build b = { .capacity = 4 + s->argc + s->envc + 64 };
	size_t execfn_size = strlen(a->program->execfn) + 1;
	uint8_t random[16];
	uint64_t p = top - 8; /* a null word at the very end, as on Linux */
	int64_t r = -EFAULT;

	random_fill(random, sizeof(random));
	p -= execfn_size;
	at->execfn = p;
	p -= s->size;
	at->strings = p;
	info->arg_start = p;
	info->arg_end = info->env_start = p + s->env_offset;
	info->env_end = p + s->size;
	p -= sizeof(platform);
	at->platform = p;
	p = ALIGN_DOWN(p - sizeof(random), 16);
	at->random = p;
	if (copy_out(um, UADDR(at->execfn), a->program->execfn, execfn_size) < 0 ||
	    copy_out(um, UADDR(at->strings), s->text, s->size) < 0 ||
	    copy_out(um, UADDR(at->platform), platform, sizeof(platform)) < 0 ||
	    copy_out(um, UADDR(at->random), random, sizeof(random)) < 0)
		return -EFAULT;
	b.word = malloc(b.capacity * sizeof(*b.word));
	if (!b.word)
		return -ENOMEM;
	push_word(&b, s->argc);
	push_pointers(&b, s->text, s->env_offset, at->strings);
	push_pointers(&b, s->text + s->env_offset, s->size - s->env_offset, at->strings + s->env_offset);
	push_auxv(&b, a, at, info);
	p = ALIGN_DOWN(p - b.count * sizeof(*b.word), 16);
	if (!b.failed && copy_out(um, UADDR(p), b.word, b.count * sizeof(*b.word)) == 0)
		r = (int64_t)p;
	free(b.word);
	info->start_stack = p;
	return r;
}

static void note_code_and_data(const struct elf_image *e, uint64_t bias, struct mm_info *info)
{
	for (unsigned i = 0; i < e->segment_count; i++) {
		const struct elf_segment *s = &e->segment[i];
		uint64_t start = s->vaddr + bias, end = start + s->file_size;

		if ((s->prot & PROT_EXEC) && (!info->start_code || start < info->start_code))
			info->start_code = start;
		if (s->prot & PROT_EXEC)
			info->end_code = MAX(info->end_code, end);
		if (s->prot & PROT_WRITE) {
			info->start_data = info->start_data ? MIN(info->start_data, start) : start;
			info->end_data = MAX(info->end_data, end);
		}
	}
}

static int map_stack(struct mm *mm, const struct loader_map_args *a, uint64_t *ret_top)
{
	uint64_t max = mm_task_size();
	uint64_t top = max - (a->randomize ? random_below(STACK_RANDOM_PAGES) * GUEST_PAGE_SIZE : 0) - GUEST_PAGE_SIZE;
	uint64_t size = ALIGN_UP(a->strings->size + 4096u + (a->strings->argc + a->strings->envc) * 8ull, GUEST_PAGE_SIZE) + (132u << 10);
	struct mm_map_args m = { .addr = top - size,
				 .size = size,
				 .prot = PROT_READ | PROT_WRITE |
					 (a->program->elf.exec_stack ? PROT_EXEC : 0),
				 .flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_GROWSDOWN,
				 .grows_down = true,
				 .limits = a->limits,
				 .name = "[stack]" };
	int64_t r = mm_mmap(mm, &m);

	*ret_top = top;
	return r < 0 ? (int)r : 0;
}

int loader_map(struct mm *mm, const struct loader_map_args *a, struct loader_regs *ret)
{
	const struct loader_program *p = a->program;
	struct stack_places at = { 0 };
	struct mm_info info = { 0 };
	uint64_t top, brk;
	int64_t r;

	r = map_stack(mm, a, &top);
	if (r < 0)
		return (int)r;
	r = map_elf(mm, a, p->exe, &p->elf,
		    PIE_BASE + (a->randomize ? random_below(RANDOM_PAGES) * GUEST_PAGE_SIZE : 0));
	if (r < 0)
		return (int)r;
	at.load_bias = (uint64_t)r;
	at.entry = p->elf.entry + at.load_bias;
	if (p->interp) {
		r = map_elf(mm, a, p->interp, &p->interp_elf, 0);
		if (r < 0)
			return (int)r;
		at.interp_base = (uint64_t)r + p->interp_elf.low;
		at.entry = p->interp_elf.entry + (uint64_t)r;
	}
	r = map_vdso(mm, a, 0, &at.vdso);
	if (r < 0)
		return (int)r;
	brk = p->elf.high + at.load_bias;
	if (a->randomize)
		brk += random_below(BRK_RANDOM / GUEST_PAGE_SIZE) * GUEST_PAGE_SIZE;
	mm_set_brk(mm, brk);
	info.start_brk = info.brk = brk;
	note_code_and_data(&p->elf, at.load_bias, &info);
	r = fill_stack(mm, a, top, &at, &info);
	if (r < 0)
		return (int)r;
	ret->ip = at.entry;
	ret->sp = (uint64_t)r;
	mm_set_info(mm, &info, p->exe);
	mm_set_title(mm, a->strings->text, a->strings->env_offset);
	return 0;
}
