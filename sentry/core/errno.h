/*
 * Kernel-internal results. Functions return 0 or a positive value on success and -errno on failure,
 * in the guest's numbering (equal to the host's on every architecture supported). The restart codes
 * never reach the guest: the syscall exit path turns them into a restart or -EINTR (signal(7)).
 */
#ifndef SENTRY_CORE_ERRNO_H
#define SENTRY_CORE_ERRNO_H

#include <errno.h>

#define ERESTARTSYS 512	   /* restart if SA_RESTART, else EINTR */
#define ERESTARTNOINTR 513 /* always restart */
#define ERESTARTNOHAND 514 /* EINTR if a handler runs, else restart */
#define ERESTART_RESTARTBLOCK 516 /* restart_syscall(2) with task->restart */

/* Not an error: the handler set all registers itself (rt_sigreturn, execve); no result is written. */
#define EJUSTRETURN 530

#endif
