/* Helpers on times in system call arguments; shared by the handlers that take timeouts. */
#ifndef SENTRY_SYSCALLS_SYSTIME_H
#define SENTRY_SYSCALLS_SYSTIME_H

#include "sentry/core/uaddr.h"
#include "sentry/time/clock.h"

struct task;

/* Reads a struct timespec as ns. 0, -EFAULT, -EINVAL (negative, or tv_nsec out of range). */
NODISCARD int copy_in_timespec(struct task *t, uaddr_t addr, int64_t *ret_ns);
NODISCARD int copy_out_timespec(struct task *t, uaddr_t addr, int64_t ns);
/* The moment on CLOCK_MONOTONIC at which clock_id reads ns. */
int64_t deadline_from(int clock_id, int64_t ns);
/* The deadline of a relative timeout in guest memory; addr 0: TIME_FOREVER. 0, -EFAULT, -EINVAL. */
NODISCARD int timeout_deadline(struct task *t, uaddr_t timespec_addr, int64_t *ret_deadline_ns);
/* CPU time clocks and the others: the current value, or false for an unknown clock. */
bool clock_read(struct task *t, int clock_id, int64_t *ret_ns);

#endif
