/*
 * The pool of page table pages.
 *
 * KVM without nested paging keeps shadows of these pages and does not see what the sentry writes to them. So an entry of an
 * upper table is written once, from nothing to something, and a page that was a table is *stale* until KVM has dropped
 * all its shadows (kv_flush_all_locked); only then is it given out again. Entries of the lowest tables are the
 * business of kv_window_zap.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/base/log.h"
#include "platform/kvm/kvm_priv.h"

enum { TABLES_MAX = KV_TABLE_SLOTS * KV_TABLES_PER_SLOT };

/* The page with this number. Any context. */
struct kv_table kv_table_at(struct kv_platform *p, uint32_t number)
{
	uint8_t *slot = p->tables[number / KV_TABLES_PER_SLOT];

	return (struct kv_table){ .gpa = KV_GPA_TABLES + number * KV_PAGE,
				  .entry = (_Atomic uint64_t *)(void *)(slot + number % KV_TABLES_PER_SLOT * KV_PAGE) };
}

uint32_t kv_table_number(uint64_t gpa)
{
	return (uint32_t)((gpa - KV_GPA_TABLES) / KV_PAGE);
}

static int grow_locked(struct kv_platform *p)
{
	uint32_t n = p->table_slots;
	void *hva;
	int err;

	if (n == KV_TABLE_SLOTS)
		return -ENOMEM;
	hva = mmap(NULL, KV_TABLE_SLOT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (hva == MAP_FAILED)
		return -errno;
	err = kv_memory_slot(p, KV_MEM_TABLES + n, KV_GPA_TABLES + n * KV_TABLE_SLOT, KV_TABLE_SLOT, hva);
	if (err < 0) {
		munmap(hva, KV_TABLE_SLOT);
		return err;
	}
	p->tables[n] = hva;
	p->table_slots++;
	for (uint32_t i = KV_TABLES_PER_SLOT; i-- > 0;)
		p->clean[p->clean_count++] = n * KV_TABLES_PER_SLOT + i;
	return 0;
}

/*
 * Makes KVM drop every translation and shadow of the machine, for which the removal of any memory slot is enough. Stale
 * tables are clean after it. p->mu is held; guests may run, and fault their pages in again.
 */
void kv_flush_all_locked(struct kv_platform *p)
{
	void *hva = p->kernel + (KV_IDT - KV_KERNEL) + KV_PAGE; /* some page between the interrupt table and the vCPUs */

	if (!p->flush_slot)
		p->flush_slot = kv_memory_slot(p, KV_MEM_FLUSH, KV_GPA_FLUSH, KV_PAGE, hva) == 0;
	if (!p->flush_slot || kv_memory_slot(p, KV_MEM_FLUSH, KV_GPA_FLUSH, 0, hva) < 0) {
		log_error("kvm: the machine's translations cannot be dropped");
		return; /* what is stale stays so */
	}
	p->flush_slot = kv_memory_slot(p, KV_MEM_FLUSH, KV_GPA_FLUSH, KV_PAGE, hva) == 0;
	/* The first slot's pages stay with us, the others' go back to the host: they were a burst. */
	for (uint32_t i = 0; i < p->stale_count; i++)
		if (p->stale[i] >= KV_TABLES_PER_SLOT)
			madvise((void *)(uintptr_t)kv_table_at(p, p->stale[i]).entry, KV_PAGE, MADV_DONTNEED);
	memcpy(p->clean + p->clean_count, p->stale, p->stale_count * sizeof(*p->stale));
	p->clean_count += p->stale_count;
	p->stale_count = 0;
}

/* A table of zeroes. Takes p->mu. 0 or -ENOMEM. */
int kv_table_new(struct kv_platform *p, uint32_t *ret_number)
{
	uint32_t number;

	GUARD(mutex, &p->mu);
	if (!p->clean_count) {
		if (p->stale_count > p->table_slots * KV_TABLES_PER_SLOT / 4 || grow_locked(p) < 0)
			kv_flush_all_locked(p);
		if (!p->clean_count && grow_locked(p) < 0)
			return -ENOMEM;
	}
	number = p->clean[--p->clean_count];
	memset((void *)(uintptr_t)kv_table_at(p, number).entry, 0, KV_PAGE);
	*ret_number = number;
	return 0;
}

/* Gives tables back that no vCPU uses any more. p->mu is held. */
void kv_tables_free_locked(struct kv_platform *p, const uint32_t *number, uint32_t count)
{
	memcpy(p->stale + p->stale_count, number, count * sizeof(*number));
	p->stale_count += count;
	if (p->stale_count > KV_STALE_MAX)
		kv_flush_all_locked(p);
}

/* ---- the kernel half ---- */

/* Makes the entry of t for addr at this level lead to a table, if it does not. 0 or -ENOMEM. */
static int kernel_descend(struct kv_platform *p, struct kv_table *t, uint64_t addr, int level)
{
	_Atomic uint64_t *at = &t->entry[(addr >> (12 + 9 * (level - 1))) % 512];
	uint64_t e = atomic_load(at);

	if (!(e & PTE_PRESENT)) {
		uint32_t number;
		int err = kv_table_new(p, &number);

		if (err < 0)
			return err;
		e = kv_table_at(p, number).gpa | PTE_PRESENT | PTE_WRITE | PTE_ACCESSED;
		atomic_store(at, e);
	}
	*t = kv_table_at(p, kv_table_number(e & PTE_ADDR));
	return 0;
}

/*
 * Maps pages of the platform's kernel memory at their place in the kernel half of every root: supervisor, and never changed
 * again. At open, and with p->grow_mu held. 0 or -ENOMEM.
 */
int kv_kernel_map(struct kv_platform *p, uint64_t addr, uint64_t size, bool write, bool exec)
{
	for (uint64_t at = addr; at < addr + size; at += KV_PAGE) {
		struct kv_table t = kv_table_at(p, kv_table_number(p->kernel_root));

		for (int level = 4; level > 1; level--) {
			int err = kernel_descend(p, &t, at, level);

			if (err < 0)
				return err;
		}
		atomic_store(&t.entry[(at >> 12) % 512], (KV_GPA_KERNEL + (at - KV_KERNEL)) | PTE_PRESENT | PTE_ACCESSED |
								 (write ? PTE_WRITE | PTE_DIRTY : 0) | (exec ? 0 : PTE_NX));
	}
	return 0;
}

/* The pool, and the kernel half. 0 or -errno; kv_tables_close cleans up half of it too. */
int kv_tables_open(struct kv_platform *p)
{
	uint32_t root;
	int err;

	p->clean = calloc(TABLES_MAX, sizeof(*p->clean));
	p->stale = calloc(TABLES_MAX, sizeof(*p->stale));
	if (!p->clean || !p->stale)
		return -ENOMEM;
	err = kv_table_new(p, &root);
	if (err < 0)
		return err;
	p->kernel_root = kv_table_at(p, root).gpa;
	p->kernel_index = (KV_KERNEL >> 39) % 512;
	kv_ring0_root(p, kv_table_at(p, root));
	err = kv_kernel_map(p, KV_HANDLERS, KV_PAGE, false, true);
	if (err == 0)
		err = kv_kernel_map(p, KV_IDT, KV_PAGE, false, false);
	if (err == 0 && p->ring0)
		err = kv_kernel_map(p, KV_R0_HANDLERS, KV_R0_HANDLERS_SIZE, false, true);
	p->kernel_entry = atomic_load(&kv_table_at(p, root).entry[p->kernel_index]);
	return err;
}

void kv_tables_close(struct kv_platform *p)
{
	for (uint32_t i = 0; i < p->table_slots; i++)
		munmap(p->tables[i], KV_TABLE_SLOT);
	free(p->clean);
	free(p->stale);
}
