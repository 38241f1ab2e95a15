/* Seccomp of guest tasks (seccomp(2)): strict mode and filters. */
#ifndef SENTRY_KERNEL_SECCOMP_H
#define SENTRY_KERNEL_SECCOMP_H

#include "sentry/kernel/task.h"

enum seccomp_do {
	SECCOMP_DO_ALLOW,
	SECCOMP_DO_RETURN, /* do not run it; the result is *ret */
	SECCOMP_DO_STOP,   /* for the tracer (SECCOMP_RET_TRACE) */
	SECCOMP_DO_KILL,   /* the task is ending */
};
/* Judges the system call in t->ctx->syscall; task thread. A tracer may change it meanwhile. */
enum seccomp_do seccomp_check(struct task *t, int64_t *ret);

/* One instruction of classic BPF, as the guest gives it. */
struct bpf_insn {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};
struct seccomp_filter;
/* Checks and installs a program of count instructions on the calling task (log, tsync flags). */
NODISCARD int seccomp_install(struct task *t, const struct bpf_insn *insn, unsigned count, uint32_t flags);
/* Is the program one that seccomp accepts? 0 or -EINVAL. Pure function over the array. */
NODISCARD int seccomp_bpf_check(const struct bpf_insn *insn, unsigned count);
/* Runs a checked program over a seccomp_data image of 64 bytes. */
uint32_t seccomp_bpf_run(const struct bpf_insn *insn, unsigned count, const uint8_t data[64]);
int seccomp_filter_count(const struct task *t);

#endif
