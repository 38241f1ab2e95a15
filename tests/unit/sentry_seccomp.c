/* The BPF of seccomp(2): which programs are accepted, what they compute. */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "sentry/kernel/seccomp.h"
#include "tests/lib/test.h"

#define STMT(code, k) { (code), 0, 0, (k) }
#define JUMP(code, k, jt, jf) { (code), (jt), (jf), (k) }
#define COUNT_OF(a) (unsigned)(sizeof(a) / sizeof((a)[0]))

static uint32_t run(const struct bpf_insn *p, unsigned count, uint32_t nr)
{
	struct seccomp_data d = { .nr = (int)nr, .args = { 0x1122334455667788 } };

	CHECK_EQ(seccomp_bpf_check(p, count), 0);
	return seccomp_bpf_run(p, count, (const uint8_t *)&d);
}

TEST(jumps_and_returns)
{
	const struct bpf_insn p[] = {
		STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 39, 0, 1),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 7),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	CHECK_EQ(run(p, COUNT_OF(p), 39), SECCOMP_RET_ERRNO | 7);
	CHECK_EQ(run(p, COUNT_OF(p), 40), SECCOMP_RET_ALLOW);
}

TEST(arithmetic_and_memory)
{
	const struct bpf_insn p[] = {
		STMT(BPF_LD | BPF_W | BPF_ABS, 16), /* low half of the first argument */
		STMT(BPF_ST, 3),
		STMT(BPF_ALU | BPF_RSH | BPF_K, 8),
		STMT(BPF_MISC | BPF_TAX, 0),
		STMT(BPF_LD | BPF_MEM, 3),
		STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
		STMT(BPF_RET | BPF_A, 0),
	};

	CHECK_EQ(run(p, COUNT_OF(p), 0), 0x55667788u ^ 0x556677u);
}

TEST(division_by_zero_kills)
{
	const struct bpf_insn p[] = {
		STMT(BPF_LDX | BPF_IMM, 0),
		STMT(BPF_ALU | BPF_DIV | BPF_X, 0),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	CHECK_EQ(run(p, COUNT_OF(p), 0), SECCOMP_RET_KILL_THREAD);
}

TEST(refused_programs)
{
	const struct bpf_insn no_return[] = { STMT(BPF_LD | BPF_IMM, 1) };
	const struct bpf_insn far_jump[] = { JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn far_ja[] = { STMT(BPF_JMP | BPF_JA, UINT32_MAX), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn unaligned[] = { STMT(BPF_LD | BPF_W | BPF_ABS, 2), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn beyond[] = { STMT(BPF_LD | BPF_W | BPF_ABS, 64), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn packet[] = { STMT(BPF_LD | BPF_B | BPF_IND, 0), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn memory[] = { STMT(BPF_ST, 16), STMT(BPF_RET | BPF_K, 0) };
	const struct bpf_insn by_zero[] = { STMT(BPF_ALU | BPF_DIV | BPF_K, 0), STMT(BPF_RET | BPF_K, 0) };

	CHECK_EQ(seccomp_bpf_check(no_return, 1), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(far_jump, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(far_ja, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(unaligned, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(beyond, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(packet, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(memory, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(by_zero, 2), -EINVAL);
	CHECK_EQ(seccomp_bpf_check(no_return, 0), -EINVAL);
}

static bool allowed(const struct bpf_insn *p, unsigned count, unsigned nr)
{
	uint64_t allow[SECCOMP_CALLS / 64] = { 0 };

	CHECK_EQ(seccomp_bpf_check(p, count), 0);
	seccomp_bpf_allows(p, count, allow);
	return allow[nr / 64] >> (nr % 64) & 1;
}

TEST(always_allowed_calls)
{
	const struct bpf_insn p[] = {
		STMT(BPF_LD | BPF_W | BPF_ABS, 4),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 10, 0, 1),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 1),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 11, 0, 3),
		STMT(BPF_LD | BPF_W | BPF_ABS, 16),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 5, 0, 1),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 2),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 12, 0, 1),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_LOG),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	CHECK(allowed(p, COUNT_OF(p), 9) && allowed(p, COUNT_OF(p), 13) && allowed(p, COUNT_OF(p), 511));
	CHECK(!allowed(p, COUNT_OF(p), 10)); /* another action */
	CHECK(!allowed(p, COUNT_OF(p), 11)); /* depends on an argument */
	CHECK(!allowed(p, COUNT_OF(p), 12)); /* is to be logged */
}

/* What is computed from an argument is never taken for a known number. */
TEST(unknown_values_allow_nothing)
{
	const struct bpf_insn by_argument[] = {
		STMT(BPF_LD | BPF_W | BPF_ABS, 16),
		STMT(BPF_ALU | BPF_AND | BPF_K, 0),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 0),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct bpf_insn by_memory[] = {
		STMT(BPF_LD | BPF_W | BPF_ABS, 16),
		STMT(BPF_ST, 0),
		STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		STMT(BPF_LD | BPF_MEM, 0),
		JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
	};
	const struct bpf_insn returned[] = { STMT(BPF_LD | BPF_W | BPF_ABS, 0), STMT(BPF_RET | BPF_A, 0) };

	for (unsigned nr = 0; nr < SECCOMP_CALLS; nr++) {
		CHECK(!allowed(by_argument, COUNT_OF(by_argument), nr));
		CHECK(!allowed(by_memory, COUNT_OF(by_memory), nr));
		CHECK(!allowed(returned, COUNT_OF(returned), nr));
	}
}
