/* Between sys_prctl.c, sys_seccomp.c and the credentials. */
#ifndef SENTRY_SYSCALLS_PRCTL_PRIV_H
#define SENTRY_SYSCALLS_PRCTL_PRIV_H

#include "sentry/kernel/task.h"

/* PR_SET_SECCOMP */
int64_t prctl_set_seccomp(struct task *t, uint64_t mode, uaddr_t filter);

#endif
