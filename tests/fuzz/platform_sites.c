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

/* What is executed behind the call is one cmp, and in front of it one or two mov, none of them relative to its place. */
static void check_instructions(const struct site_shape *s)
{
	static csh handle;
	cs_insn *insn;
	size_t count;

	if (!handle)
		check(cs_open(CS_ARCH_X86, CS_MODE_64, &handle) == CS_ERR_OK);
	count = cs_disasm(handle, s->bytes, s->size, 0, 0, &insn);
	check(count == (s->kind == SITE_PAIR ? 3 : 2) && insn[s->kind == SITE_CMP ? 0 : count - 1].id == X86_INS_SYSCALL);
	check(s->kind != SITE_CMP || insn[1].id == X86_INS_CMP);
	for (size_t i = 0; s->kind != SITE_CMP && i < count - 1; i++)
		check(insn[i].id == X86_INS_MOV && !strstr(insn[i].op_str, "rip"));
	check(s->kind != SITE_PAIR || insn[1].size == SITE_SECOND);
	check((size_t)(insn[count - 1].address + insn[count - 1].size) == s->size);
	cs_free(insn, count);
}

static void check_site(const uint8_t *page, size_t behind, const struct site_shape *s)
{
	static uint8_t copy[SITE_PAGE], tramp[TRAMP_SIZE];
	const uint32_t slot = STUB_SITES + TRAMP_SIZE * 777;
	const size_t prefixes = s->kind == SITE_CMP ? 0 : s->size - SITE_JUMP;
	const uint8_t *jump = copy + s->start + prefixes;
	uint32_t to;

	check(s->kind == SITE_MOV || s->kind == SITE_PAIR || s->kind == SITE_CMP);
	check(s->size >= SITE_JUMP && s->size <= sizeof(s->bytes) && s->start + s->size <= SITE_PAGE);
	check(memcmp(page + s->start, s->bytes, s->size) == 0);
	check_instructions(s);
	check(behind == s->start + site_before(s) + SITE_CALL);
	check(page[behind - 2] == 0x0f && page[behind - 1] == 0x05);
	memcpy(copy, page, sizeof(copy));
	st_site_write(s, slot, copy);
	check(memcmp(copy, page, s->start) == 0);
	check(memcmp(jump + SITE_JUMP, page + (jump - copy) + SITE_JUMP, (size_t)(copy + SITE_PAGE - jump) - SITE_JUMP) == 0);
	for (size_t i = 0; i < prefixes; i++)
		check(copy[s->start + i] == 0x2e);
	check(jump[0] == 0xff && jump[1] == 0x24 && (jump[2] & 0x3f) == 0x25);
	memcpy(&to, jump + 3, sizeof(to));
	check(to == slot);
	check(s->kind == SITE_CMP ? copy[behind] == 0xe5 : copy[behind - 2] == 0x06);
	check(s->kind != SITE_PAIR || copy[behind - 2 - SITE_SECOND] == 0xe5);
	st_trampoline_write(s, 0x400000, slot, 0, tramp);
	check(tramp[TRAMP_SYSCALL] == 0x0f && tramp[TRAMP_SYSCALL + 1] == 0x05);
	if (s->kind == SITE_CMP)
		check(memcmp(tramp + TRAMP_BEHIND, s->bytes + 2, s->size - 2u) == 0);
	else
		check(memcmp(tramp + TRAMP_LEA - site_before(s), s->bytes, site_before(s)) == 0);
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
