/* The proc file system (proc(5)). */
#ifndef SENTRY_FS_PROC_PROC_H
#define SENTRY_FS_PROC_PROC_H

#include <stdint.h>

struct pid_ns;
struct superblock;

/* Registers the type "proc"; boot only. */
void proc_register(void);
/* A superblock that shows ns; one reference. Any thread. -ENOMEM. */
int proc_new(struct pid_ns *ns, struct superblock **ret_sb);

/* What MemTotal shows without a limit, bytes; boot only. */
void proc_set_host_memory(uint64_t bytes);
/* MemTotal: the sandbox's limit or the host's memory, bytes. Also for sysinfo(2). */
uint64_t proc_total_memory(void);

#endif
