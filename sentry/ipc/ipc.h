/* System V ipc and POSIX message queues: what the rest of the sentry may ask. */
#ifndef SENTRY_IPC_IPC_H
#define SENTRY_IPC_IPC_H

#include "sentry/kernel/namespaces.h"
#include "sentry/vfs/simple.h"

enum ipc_kind { IPC_KIND_SEM, IPC_KIND_MSG, IPC_KIND_SHM, IPC_KINDS };

/* Text of /proc/sysvipc/{sem,msg,shm} as seen by the calling task. */
void ipc_show(struct ipc_ns *ns, enum ipc_kind kind, struct seq *q);
/* A file system of the named message queues of ns. *ret_sb is a reference. -ENOMEM */
NODISCARD int mqueue_fs_new(struct ipc_ns *ns, struct superblock **ret_sb);
void mqueue_fs_register(void); /* boot only */
/* Is f an attached shared memory segment? For names in /proc/PID/maps. */
bool file_is_shm(const struct file *f);

#endif
