/* The classic BPF of seccomp(2): which programs are accepted, what they compute, what they cannot refuse. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>

#include "sentry/kernel/seccomp.h"

/* Which instructions seccomp takes; anything that loads packets or ancillary data is refused. */
static bool insn_allowed(const struct bpf_insn *i)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return i->k < 64 && !(i->k & 3);
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
	case BPF_ALU | BPF_NEG:
	case BPF_ALU | BPF_ADD | BPF_K:
	case BPF_ALU | BPF_ADD | BPF_X:
	case BPF_ALU | BPF_SUB | BPF_K:
	case BPF_ALU | BPF_SUB | BPF_X:
	case BPF_ALU | BPF_MUL | BPF_K:
	case BPF_ALU | BPF_MUL | BPF_X:
	case BPF_ALU | BPF_DIV | BPF_X:
	case BPF_ALU | BPF_AND | BPF_K:
	case BPF_ALU | BPF_AND | BPF_X:
	case BPF_ALU | BPF_OR | BPF_K:
	case BPF_ALU | BPF_OR | BPF_X:
	case BPF_ALU | BPF_XOR | BPF_K:
	case BPF_ALU | BPF_XOR | BPF_X:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_X:
	case BPF_JMP | BPF_JA:
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JEQ | BPF_X:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_X:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_X:
	case BPF_JMP | BPF_JSET | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_X:
		return true;
	case BPF_ALU | BPF_DIV | BPF_K:
		return i->k != 0;
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_K:
		return i->k < 32;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return i->k < BPF_MEMWORDS;
	default:
		return false;
	}
}

int seccomp_bpf_check(const struct bpf_insn *insn, unsigned count)
{
	if (count == 0 || count > BPF_MAXINSNS)
		return -EINVAL;
	for (unsigned pc = 0; pc < count; pc++) {
		const struct bpf_insn *i = &insn[pc];
		unsigned left = count - pc - 1;

		if (!insn_allowed(i))
			return -EINVAL;
		if (BPF_CLASS(i->code) != BPF_JMP)
			continue;
		if (BPF_OP(i->code) == BPF_JA ? i->k >= left : i->jt >= left || i->jf >= left)
			return -EINVAL;
	}
	return BPF_CLASS(insn[count - 1].code) == BPF_RET ? 0 : -EINVAL;
}

static uint32_t alu(uint16_t op, uint32_t a, uint32_t b, bool *bad)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		*bad = b == 0;
		return b ? a / b : 0;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return b < 32 ? a << b : 0;
	case BPF_RSH:
		return b < 32 ? a >> b : 0;
	default:
		return -a;
	}
}

static bool jump_taken(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default:
		return (a & b) != 0;
	}
}

uint32_t seccomp_bpf_run(const struct bpf_insn *insn, unsigned count, const uint8_t data[64])
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = { 0 };

	for (unsigned pc = 0; pc < count; pc++) {
		const struct bpf_insn *i = &insn[pc];
		uint32_t operand = BPF_SRC(i->code) == BPF_X ? x : i->k, v = i->k;
		bool bad = false;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (BPF_MODE(i->code) == BPF_ABS)
				memcpy(&v, data + i->k, sizeof(v));
			else if (BPF_MODE(i->code) == BPF_LEN)
				v = 64;
			else if (BPF_MODE(i->code) == BPF_MEM)
				v = mem[i->k];
			if (BPF_CLASS(i->code) == BPF_LD)
				a = v;
			else
				x = v;
			break;
		case BPF_ST:
			mem[i->k] = a;
			break;
		case BPF_STX:
			mem[i->k] = x;
			break;
		case BPF_ALU:
			a = alu(BPF_OP(i->code), a, operand, &bad);
			if (bad)
				return SECCOMP_RET_KILL_THREAD;
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA)
				pc += i->k;
			else
				pc += jump_taken(BPF_OP(i->code), a, operand) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? a : i->k;
		default:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				x = a;
			else
				a = x;
			break;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

/* The accumulator and what is known of it: the number and the architecture are, arguments are not. */
struct folded {
	uint32_t a;
	bool known;
};

/* One step with what is known. 1: go on at *pc + 1; 0: the verdict is *ret; -1: it depends on arguments. */
static int fold(const struct bpf_insn *i, uint32_t nr, struct folded *f, unsigned *pc, uint32_t *ret)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		f->known = i->k == offsetof(struct seccomp_data, nr) || i->k == offsetof(struct seccomp_data, arch);
		f->a = i->k == offsetof(struct seccomp_data, nr) ? nr : AUDIT_ARCH_X86_64;
		return 1;
	case BPF_RET | BPF_K:
		*ret = i->k;
		return 0;
	case BPF_JMP | BPF_JA:
		*pc += i->k;
		return 1;
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_K:
		*pc += jump_taken(BPF_OP(i->code), f->a, i->k) ? i->jt : i->jf;
		return f->known ? 1 : -1;
	case BPF_ALU | BPF_AND | BPF_K:
		f->a &= i->k;
		return 1;
	default:
		return -1;
	}
}

void seccomp_bpf_allows(const struct bpf_insn *insn, unsigned count, uint64_t allow[SECCOMP_CALLS / 64])
{
	for (uint32_t nr = 0; nr < SECCOMP_CALLS; nr++) {
		struct folded f = { .a = 0, .known = true };
		uint32_t verdict = 0;
		int more = 1;

		for (unsigned pc = 0; more > 0 && pc < count; pc++)
			more = fold(&insn[pc], nr, &f, &pc, &verdict);
		if (more == 0 && (verdict & SECCOMP_RET_ACTION_FULL) == SECCOMP_RET_ALLOW)
			allow[nr / 64] |= 1ull << (nr % 64);
	}
}
