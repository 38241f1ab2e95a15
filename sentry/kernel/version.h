/* What uname(2) and /proc/version say. A release whose system calls programs may expect to find. */
#ifndef SENTRY_KERNEL_VERSION_H
#define SENTRY_KERNEL_VERSION_H

#define KERNEL_SYSNAME "Linux"
#define KERNEL_RELEASE "6.1.0-runsc"
#define KERNEL_VERSION "#1 SMP PREEMPT_DYNAMIC"

#endif
