/*
 * libFuzzer harness of the site decoder: pages of hostile code. What is taken lies in the page, begins with what it says, and
 * the rewritten page differs in seven bytes that a jump makes, with faults where instructions began.
 */
#include <capstone/capstone.h>
#include <stdlib.h>
#include <string.h>

#include "platform/systrap/sites.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool fine)
{
	if (!fine)
		abort();
}

/* What is executed behind the call is one cmp, and in front of it one mov. */
static void check_instructions(const struct site_shape *s)
{
	static csh handle;
	cs_insn *insn;
	size_t count;

	if (!handle)
		check(cs_open(CS_ARCH_X86, CS_MODE_64, &handle) == CS_ERR_OK);
	count = cs_disasm(handle, s->bytes, s->size, 0, 0, &insn);
	check(count == 2 && insn[s->kind == SITE_MOV].id == X86_INS_SYSCALL);
	check(insn[s->kind == SITE_CMP].id == (s->kind == SITE_MOV ? X86_INS_MOV : X86_INS_CMP));
	check(insn[0].size + insn[1].size == s->size);
	cs_free(insn, count);
}

static void check_site(const uint8_t *page, size_t behind, const struct site_shape *s)
{
	static uint8_t copy[SITE_PAGE], tramp[TRAMP_SIZE];
	const uint32_t slot = STUB_SITES + TRAMP_SIZE * 777;
	uint32_t to;

	check(s->kind == SITE_MOV || s->kind == SITE_CMP);
	check(s->size >= SITE_JUMP && s->size <= sizeof(s->bytes) && s->start + s->size <= SITE_PAGE);
	check(memcmp(page + s->start, s->bytes, s->size) == 0);
	check_instructions(s);
	check(behind == s->start + (s->kind == SITE_MOV ? 7u : 2u));
	check(page[behind - 2] == 0x0f && page[behind - 1] == 0x05);
	memcpy(copy, page, sizeof(copy));
	st_site_write(s, slot, copy);
	check(memcmp(copy, page, s->start) == 0);
	check(memcmp(copy + s->start + SITE_JUMP, page + s->start + SITE_JUMP, SITE_PAGE - s->start - SITE_JUMP) == 0);
	check(copy[s->start] == 0xff && copy[s->start + 1] == 0x24 && (copy[s->start + 2] & 0x3f) == 0x25);
	memcpy(&to, copy + s->start + 3, sizeof(to));
	check(to == slot);
	check(s->kind == SITE_MOV ? copy[behind - 2] == 0x06 : copy[behind] == 0xe5);
	st_trampoline_write(s, 0x400000, slot, 0, tramp);
	check(tramp[TRAMP_SYSCALL] == 0x0f && tramp[TRAMP_SYSCALL + 1] == 0x05);
	if (s->kind == SITE_CMP)
		check(memcmp(tramp + TRAMP_BEHIND, s->bytes + 2, s->size - 2u) == 0);
	else
		check(memcmp(tramp + TRAMP_MOV, s->bytes, 5) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct site_decoder *d;
	static uint8_t page[SITE_PAGE];
	uint64_t nr = size ? data[0] : 0;

	if (!d)
		d = st_decoder_new();
	check(d != NULL);
	/* at the end of the page, so that borders are met too */
	memset(page, 0x90, sizeof(page));
	if (size > sizeof(page))
		size = sizeof(page);
	memcpy(page + sizeof(page) - size, data, size);
	for (size_t behind = 0; behind <= sizeof(page); behind++) {
		struct site_shape s;

		if (behind >= 2 && (page[behind - 2] != 0x0f || page[behind - 1] != 0x05) && behind % 64)
			continue;
		if (st_site_decode(d, page, behind, nr, &s))
			check_site(page, behind, &s);
		if (behind >= 7) { /* the number that the code says */
			uint32_t said;

			memcpy(&said, page + behind - 6, sizeof(said));
			if (st_site_decode(d, page, behind, said, &s))
				check_site(page, behind, &s);
		}
	}
	return 0;
}
