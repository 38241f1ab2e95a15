/* Between dispatch.c and strace.c. */
#ifndef SENTRY_SYSCALLS_STRACE_PRIV_H
#define SENTRY_SYSCALLS_STRACE_PRIV_H

#include "sentry/syscalls/syscalls.h"

extern _Atomic bool strace_active;
/* Runs the call and writes its line. */
int64_t strace_call(struct task *t, struct syscall_desc *d, const uint64_t arg[6]);
int64_t strace_unknown(struct task *t, int64_t nr, const uint64_t arg[6]);

#endif
