/* libFuzzer harness of seccomp's BPF: a program that passes the check must run and end in bounds. */
#include <string.h>

#include "sentry/kernel/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint32_t sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bpf_insn insn[4096];
	uint8_t call[64] = { 0 };
	unsigned count;

	if (size < sizeof(call))
		return 0;
	memcpy(call, data, sizeof(call));
	count = (unsigned)MIN((size - sizeof(call)) / sizeof(insn[0]), ARRAY_COUNT(insn));
	memcpy(insn, data + sizeof(call), count * sizeof(insn[0]));
	if (seccomp_bpf_check(insn, count) == 0)
		sink = seccomp_bpf_run(insn, count, call);
	return 0;
}
