/* libFuzzer harness of seccomp's BPF: a program that passes the check must run and end in bounds, and
 * agree with the list of calls that it always allows. */
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint32_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bpf_insn insn[4096];
	uint64_t allow[SECCOMP_CALLS / 64] = { 0 };
	uint8_t call[64] = { 0 };
	unsigned count;

	if (size < sizeof(call))
		return 0;
	memcpy(call, data, sizeof(call));
	count = (unsigned)MIN((size - sizeof(call)) / sizeof(insn[0]), ARRAY_COUNT(insn));
	memcpy(insn, data + sizeof(call), count * sizeof(insn[0]));
	if (seccomp_bpf_check(insn, count) < 0)
		return 0;
	sink = seccomp_bpf_run(insn, count, call);
	/* what is always allowed is so for the arguments at hand */
	call[4] = AUDIT_ARCH_X86_64 & 0xff;
	call[5] = call[6] = 0;
	call[7] = AUDIT_ARCH_X86_64 >> 24;
	seccomp_bpf_allows(insn, count, allow);
	for (uint32_t nr = 0; nr < SECCOMP_CALLS; nr++) {
		if (!(allow[nr / 64] >> (nr % 64) & 1))
			continue;
		memcpy(call, &nr, sizeof(nr));
		if ((seccomp_bpf_run(insn, count, call) & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ALLOW)
			abort();
	}
	return 0;
}
