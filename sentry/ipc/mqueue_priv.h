/* What the mqueue file system needs of the queues. All take the locks that they need; any thread unless said. */
#ifndef SENTRY_IPC_MQUEUE_PRIV_H
#define SENTRY_IPC_MQUEUE_PRIV_H

#include "sentry/ipc/ipc_priv.h"

struct mqueue_facts {
	uint64_t ino; /* const in the queue's life */
	uint32_t mode;
	kuid_t uid;
	kgid_t gid;
};

void mqueue_put(struct mqueue *q); /* accepts NULL */
/* A reference to the queue of that name, or NULL. */
struct mqueue *mqueue_find(struct ipc_ns *ns, const char *name);
void mqueue_facts(struct ipc_ns *ns, struct mqueue *q, struct mqueue_facts *ret);
void mqueue_set_owner(struct ipc_ns *ns, struct mqueue *q, kuid_t uid, kgid_t gid, uint32_t mode);
/* Makes a queue with the default attributes, owned by the calling task. Task thread. -EEXIST, -ENOSPC, -ENOMEM */
NODISCARD int mqueue_create(struct ipc_ns *ns, const char *name, uint32_t mode, struct mqueue **ret);
/* Takes the name away; permissions are the caller's business. -ENOENT */
NODISCARD int mqueue_remove(struct ipc_ns *ns, const char *name);
/* Name and inode number of the first queue at or after position pos; returns its position, or 0: none. */
int64_t mqueue_next(struct ipc_ns *ns, int64_t pos, char name[NAME_MAX_GUEST + 1], uint64_t *ret_ino);
/* Makes f, which is being opened, a descriptor of q. */
int mqueue_open_file(struct mqueue *q, struct file *f);

#endif
