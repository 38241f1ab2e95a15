/* Shared by the files of process system calls. */
#ifndef SENTRY_SYSCALLS_PROCESS_PRIV_H
#define SENTRY_SYSCALLS_PROCESS_PRIV_H

#include <sys/resource.h>

#include "sentry/kernel/task.h"

/* Copies a versioned struct (openat2 style): unknown trailing bytes must be zero. 0, -E2BIG, -EFAULT. */
NODISCARD int copy_struct_in(struct task *t, void *dst, size_t size, uaddr_t src, uint64_t user_size);
void rusage_fill(struct rusage *r, const struct cpu_usage *u);

#endif
