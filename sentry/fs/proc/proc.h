/* The proc file system (proc(5)). */
#ifndef SENTRY_FS_PROC_PROC_H
#define SENTRY_FS_PROC_PROC_H

struct pid_ns;
struct superblock;

/* Registers the type "proc"; boot only. */
void proc_register(void);
/* A superblock that shows ns; one reference. Any thread. -ENOMEM. */
int proc_new(struct pid_ns *ns, struct superblock **ret_sb);

#endif
