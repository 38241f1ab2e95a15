/* Values under /proc/sys that the kernel itself honours. */
#ifndef SENTRY_FS_PROC_SYSCTL_H
#define SENTRY_FS_PROC_SYSCTL_H

#include <stdint.h>

/* The value at a path such as "kernel/pid_max"; 0 when there is none. Any context. */
int64_t sysctl_int(const char *path);
/* Number i of a value of several ("kernel/sem"); 0 when there is none. Any context. */
uint64_t sysctl_word(const char *path, unsigned i);
/* A network value that the host's namespace has taken: shown from now on, whether the table has it or not. Before any
 * container runs. -EINVAL, -ENOMEM. */
int sysctl_show(const char *assignment);
/* sysctl entries of config.json: "net.core.somaxconn=1024"; -ENOENT, -EINVAL, -EPERM (a fixed value). Before the container runs. */
int sysctl_set(const char *assignment);

#endif
