/*
 * Which system call sites can be rewritten, and what stands there afterwards: functions over the bytes of one page, which
 * come from a hostile guest. A mistake here breaks the guest's own program, and nothing else.
 */
#include <capstone/capstone.h>
#include <stdlib.h>
#include <string.h>

#include "platform/base/compiler.h"
#include "platform/systrap/sites.h"

enum {
	MOV_SIZE = 5,
	LOOK_BACK = 48,  /* bytes before a `mov` from which it is decoded */
	AGREE_FACTOR = 4, /* so many times more decodings must find it than not */
};

struct site_decoder {
	csh handle;
	cs_insn *insn;
};

/* NULL: no memory. The caller serialises the use of one decoder. */
struct site_decoder *st_decoder_new(void)
{
	struct site_decoder *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	if (cs_open(CS_ARCH_X86, CS_MODE_64, &d->handle) != CS_ERR_OK) {
		free(d);
		return NULL;
	}
	d->insn = cs_malloc(d->handle);
	if (!d->insn) {
		st_decoder_free(d);
		return NULL;
	}
	return d;
}

/* NULL is fine. */
void st_decoder_free(struct site_decoder *d)
{
	if (!d)
		return;
	if (d->insn)
		cs_free(d->insn, 1);
	cs_close(&d->handle);
	free(d);
}

/* Size of the instruction at offset at of the page, 0 for none. */
static size_t insn_size(struct site_decoder *d, const uint8_t *page, size_t at)
{
	const uint8_t *code = page + at;
	size_t left = SITE_PAGE - at;
	uint64_t address = at;

	if (!left || !cs_disasm_iter(d->handle, &code, &left, &address, d->insn))
		return 0;
	return d->insn->size;
}

/*
 * Whether an instruction begins at offset at, which no flow of control proves: x86 code decoded from a wrong
 * start soon falls into step, so most of the decodings from the bytes before must meet it, and few may jump over
 * it to the system call behind it (as those of `mov $nr, %r8d; syscall` do).
 */
static bool begins_at(struct site_decoder *d, const uint8_t *page, size_t at, size_t call)
{
	size_t from = at > LOOK_BACK ? at - LOOK_BACK : 0, yes = 0, no = 0;
	uint8_t size[LOOK_BACK + SITE_BEFORE_MAX];

	for (size_t i = from; i < call; i++)
		size[i - from] = (uint8_t)insn_size(d, page, i);
	for (size_t i = from; i < at; i++) {
		size_t next = i;

		while (next < at && size[next - from])
			next += size[next - from];
		if (next == at) {
			yes++;
			continue;
		}
		while (next < call && size[next - from])
			next += size[next - from];
		no += next == call;
	}
	return yes > AGREE_FACTOR * no;
}

/*
 * Size of the comparison that follows the call, in one of its two exact forms; 0 for another instruction. Execution goes on
 * there, so it needs no decoder, whose first use costs a program that just starts a millisecond (the fuzzer asks it).
 */
static size_t cmp_size(const uint8_t *p, size_t left)
{
	if (left >= 6 && p[0] == 0x48 && p[1] == 0x3d)
		return 6;
	return left >= 5 && p[0] == 0x3d ? 5 : 0;
}

/* A copy of a register to another: three bytes. */
static bool is_move(const uint8_t *p)
{
	return (p[0] & 0xfa) == 0x48 && (p[1] == 0x89 || p[1] == 0x8b) && p[2] >= 0xc0;
}

/* A store (89) or load (8b) of a register at a place of the stack: five bytes. */
static bool is_stack_access(const uint8_t *p, uint8_t opcode)
{
	return (p[0] & 0xfb) == 0x48 && p[1] == opcode && (p[2] & 0xc7) == 0x44 && p[3] == 0x24;
}

/* Size of the instructions in front of the call that can be executed elsewhere, if they are that; 0: none. */
static size_t before_size(const uint8_t *page, size_t call, uint64_t nr, enum site_kind *ret_kind)
{
	uint32_t imm;

	*ret_kind = SITE_MOV;
	if (call >= MOV_SIZE && page[call - MOV_SIZE] == 0xb8) {
		memcpy(&imm, page + call - MOV_SIZE + 1, sizeof(imm));
		return imm == nr ? MOV_SIZE : 0;
	}
	if (call >= MOV_SIZE && is_stack_access(page + call - MOV_SIZE, 0x89))
		return MOV_SIZE;
	*ret_kind = SITE_PAIR;
	if (call >= SITE_BEFORE_MAX && is_move(page + call - SITE_SECOND) &&
	    is_stack_access(page + call - SITE_BEFORE_MAX, 0x8b))
		return SITE_BEFORE_MAX;
	return 0;
}

/*
 * Looks at the system call that ends at offset behind of the page; nr is its number as it was made. Returns whether it can
 * be rewritten, and how.
 */
bool st_site_decode(struct site_decoder *d, const uint8_t *page, size_t behind, uint64_t nr,
		    struct site_shape *ret_shape)
{
	size_t call = behind - SITE_CALL, tail, before;
	struct site_shape shape = { .kind = SITE_NONE };
	enum site_kind kind;

	if (behind < SITE_CALL || behind > SITE_PAGE || page[call] != 0x0f || page[call + 1] != 0x05)
		return false;
	tail = cmp_size(page + behind, SITE_PAGE - behind);
	if (tail) {
		shape.kind = SITE_CMP;
		shape.start = (uint16_t)call;
		shape.size = (uint8_t)(SITE_CALL + tail);
	} else {
		before = before_size(page, call, nr, &kind);
		if (!before || !begins_at(d, page, call - before, call))
			return false;
		shape.kind = (uint8_t)kind;
		shape.start = (uint16_t)(call - before);
		shape.size = (uint8_t)(before + SITE_CALL);
	}
	memcpy(shape.bytes, page + shape.start, shape.size);
	*ret_shape = shape;
	return true;
}

/*
 * Puts the jump into the page: `jmp *slot`, with the form of the address that has no register at all, and which of its
 * four spellings is chosen so that the byte where a cmp or a second instruction was is `in`. The highest bytes of slot are
 * 06 00 where a syscall was. In front of it as many prefixes without a meaning (cs) as instructions are longer.
 */
void st_site_write(const struct site_shape *shape, uint32_t slot, uint8_t *page)
{
	uint8_t jump[SITE_JUMP] = { 0xff, 0x24, 0xe5 };

	const size_t more = shape->kind == SITE_CMP ? 0 : (size_t)(shape->size - SITE_JUMP);

	memcpy(jump + 3, &slot, sizeof(slot));
	memset(page + shape->start, 0x2e, more);
	memcpy(page + shape->start + more, jump, sizeof(jump));
}

static void put(uint8_t *to, const void *bytes, size_t size)
{
	memcpy(to, bytes, size);
}

/* An instruction that ends with the distance from its end to target, an offset in the same trampoline. */
static void put_relative(uint8_t *to, size_t at, const char *opcode, size_t size, size_t target)
{
	int32_t distance = (int32_t)target - (int32_t)(at + size + sizeof(distance));

	put(to + at, opcode, size);
	put(to + at + size, &distance, sizeof(distance));
}

/*
 * Writes the trampoline of a site in the page at page_addr; it will be seen at address at. entry: the fast path's, or 0. To
 * it, rax is the number and rcx the address behind the trampoline's own system call; it goes there with the result in
 * rax, or to that call, two bytes before.
 */
void st_trampoline_write(const struct site_shape *shape, uint64_t page_addr, uint64_t at, uint64_t entry, uint8_t *to)
{
	const size_t tail = shape->kind == SITE_CMP ? (size_t)(shape->size - SITE_CALL) : 0;
	const size_t before = site_before(shape);
	const uint64_t slot = at + TRAMP_LEA - before;
	const uint64_t back = page_addr + shape->start + shape->size;

	memset(to, 0xcc, TRAMP_SIZE);
	if (!entry)
		entry = at + TRAMP_SYSCALL;
	put(to + TRAMP_LEA - before, shape->bytes, before);
	put_relative(to, TRAMP_LEA, "\x48\x8d\x0d", 3, TRAMP_BEHIND);
	put_relative(to, TRAMP_JUMP, "\xff\x25", 2, TRAMP_ENTRY);
	put(to + TRAMP_SYSCALL, "\x0f\x05", SITE_CALL);
	put(to + TRAMP_BEHIND, shape->bytes + SITE_CALL, tail);
	put_relative(to, TRAMP_BEHIND + tail, "\xff\x25", 2, TRAMP_BACK);
	put(to + TRAMP_BACK, &back, sizeof(back));
	put(to + TRAMP_ENTRY, &entry, sizeof(entry));
	put(to + TRAMP_SLOT, &slot, sizeof(slot));
}
