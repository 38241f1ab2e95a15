/*
 * Rewritten system call sites: which code can be rewritten (decode.c), and what an address space has rewritten
 * (sites.c). README.md, "Rewritten sites", says why this is safe.
 */
#ifndef PLATFORM_SYSTRAP_SITES_H
#define PLATFORM_SYSTRAP_SITES_H

#include <stdatomic.h>

#include "platform/abi/regs.h"
#include "platform/platform.h"
#include "platform/systrap/stub_layout.h"

struct st_platform;
struct st_aspace;
struct st_context;
struct site_decoder;

/*
 * MOV: an instruction of five bytes and the call: `mov $nr, %eax; syscall`, or a store to the stack. PAIR: two instructions, the
 * second of three bytes, and the call. CMP: `syscall; cmp $imm32, %rax` (or %eax). They become `jmp *slot`, with
 * prefixes in front where there is room. Where an instruction began inside stands 06 (the call) or e5, which is `in` (all
 * others): both fault without a change of any register.
 */
enum site_kind { SITE_NONE, SITE_MOV, SITE_PAIR, SITE_CMP };

enum { SITE_PAGE = 4096, SITE_JUMP = 7, SITE_CALL = 2, SITE_SECOND = 3, SITE_BEFORE_MAX = 8, SITE_BYTES = 10 };

struct site_shape {
	uint8_t kind;              /* enum site_kind */
	uint8_t size;              /* bytes of the instructions replaced: SITE_JUMP to SITE_BYTES */
	uint16_t start;            /* of them, offset in the page */
	uint8_t bytes[SITE_BYTES]; /* the instructions; unused ones are zero */
};

/* Bytes of the instructions in front of the call. */
static inline size_t site_before(const struct site_shape *shape)
{
	return shape->kind == SITE_CMP ? 0 : (size_t)(shape->size - SITE_CALL);
}

/* A trampoline: one cache line for each site. Offsets of its words and instructions. */
enum {
	TRAMP_SIZE = 64,
	TRAMP_SLOT = 0,     /* word: where the site's jump goes */
	TRAMP_BACK = 8,     /* word: address behind the instructions replaced */
	TRAMP_LEA = 24,     /* behind the instructions in front of the call: lea TRAMP_BEHIND(%rip), %rcx */
	TRAMP_JUMP = 31,    /* jmp *TRAMP_ENTRY */
	TRAMP_SYSCALL = 37, /* syscall */
	TRAMP_BEHIND = 39,  /* the cmp; jmp *TRAMP_BACK */
	TRAMP_ENTRY = 56,   /* word: the fast path's entry, or TRAMP_SYSCALL's address */
	SITE_MAX = STUB_SITES_SIZE / TRAMP_SIZE,
	TRAMP_PAGE_COUNT = STUB_SITES_SIZE / SITE_PAGE,
	TRAMP_PER_PAGE = SITE_PAGE / TRAMP_SIZE,
};

/* decode.c */
struct site_decoder *st_decoder_new(void);
void st_decoder_free(struct site_decoder *d);
bool st_site_decode(struct site_decoder *d, const uint8_t *page, size_t behind, uint64_t nr,
		    struct site_shape *ret_shape);
void st_site_write(const struct site_shape *shape, uint32_t slot, uint8_t *page);
void st_trampoline_write(const struct site_shape *shape, uint64_t page_addr, uint64_t at, uint64_t entry, uint8_t *to);

/* How often a context's calls come from an address. */
struct site_heat {
	uint64_t ip; /* behind the syscall instruction */
	uint32_t count, limit;
};
enum { HEAT_SETS = 16, HEAT_WAYS = 4 };

/* sites.c */
struct sites;
struct sites_pool;
int st_sites_open(struct st_platform *p);
void st_sites_close(struct st_platform *p);
void st_sites_free(struct st_aspace *as);
int st_site_rewrite(struct aspace *as, struct pcontext *self, uint64_t ip, const struct platform_page *page);
void st_sites_changed(struct st_aspace *as, const struct aspace_op *op, size_t count);
void st_sites_drained(struct st_aspace *as);
void st_sites_forget(struct st_aspace *as);
void st_sites_lost(struct st_aspace *as, size_t first);
uint64_t st_sites_ip(struct st_aspace *as, uint64_t ip);
void st_sites_canonical(struct st_aspace *as, struct guest_regs *regs);
void st_sites_redirect(struct st_aspace *as, struct guest_regs *regs);
bool st_sites_trap(struct st_context *ctx, int32_t signo, int32_t code, uint64_t rip);
uint32_t st_sites_generation(struct st_aspace *as);
void st_sites_count(struct st_context *ctx);

#endif
