/*
 * Ipc namespaces and the table of objects. One mutex of the namespace (LOCK_IPC) protects the tables,
 * every object's permissions and content. It is never held while guest memory is touched.
 */
#ifndef SENTRY_IPC_IPC_PRIV_H
#define SENTRY_IPC_IPC_PRIV_H

#include <sys/ipc.h>

#include "sentry/ipc/ipc.h"
#include "sentry/kernel/task.h"

#define IPC_SLOTS_MAX 32768u /* ids are sequence * this + slot */
#define IPC_SEQ_MAX (INT32_MAX / (int)IPC_SLOTS_MAX)
#define CAP_IPC_OWNER_NR 15
#define CAP_SYS_ADMIN_NR 21
#define CAP_SYS_RESOURCE_NR 24

#define IPC_INFO_CMD 3
#define IPC_64_FLAG 0x100 /* old libcs set it; the layout is the same on 64-bit machines */

struct ipc_object {
	struct refcount refs; /* the table's, and one per waiting call or attached file */
	enum ipc_kind kind;
	int32_t id, key;
	kuid_t uid, cuid;
	kgid_t gid, cgid;
	uint32_t mode;
	int64_t ctime;
	bool removed; /* no id any more: waiters get -EIDRM */
	struct waitq waitq;
	void (*free)(struct ipc_object *o); /* frees the object that embeds o; ends with ipc_object_fini */
};

struct ipc_table {
	struct ipc_object **slot;
	unsigned capacity, count, limit, next_slot;
	int seq;
};

struct mqueue;
struct ipc_ns {
	struct refcount refs;
	struct user_ns *user_ns; /* reference */
	uint64_t ns_ino;
	struct mutex mu; /* LOCK_IPC */
	struct ipc_table table[IPC_KINDS];
	_Atomic unsigned undo_count; /* semaphore sets' undo records */
	uint64_t shm_pages;
	struct list_node mqueues; /* mqueue.node with a name */
	unsigned mqueue_count;
	int64_t mqueue_position; /* of the next queue in the mqueue file system */
};

void ipc_object_init(struct ipc_object *o, enum ipc_kind kind, void (*free)(struct ipc_object *o));
void ipc_object_fini(struct ipc_object *o);
void ipc_object_put(struct ipc_object *o);
DEFINE_AUTO(ipc_object_put, struct ipc_object *)

/*
 * semget(2) and the like: finds the object of key, or makes one with create (which gets arg and gives an
 * initialised object); check looks at a found one. ns->mu must not be held. The id or -errno.
 */
struct ipc_get_args {
	enum ipc_kind kind;
	int32_t key, flags;
	int (*create)(struct ipc_ns *ns, void *arg, struct ipc_object **ret_object);
	int (*check)(struct ipc_object *o, void *arg);
	void *arg;
};
int ipc_get_id(struct ipc_ns *ns, const struct ipc_get_args *a);
/* The object of id, borrowed; ns->mu held. -EINVAL, -EIDRM. */
NODISCARD int ipc_find_locked(struct ipc_ns *ns, enum ipc_kind kind, int32_t id, struct ipc_object **ret_object);
/* The slot-th object (SEM_STAT and the like), -EINVAL. ns->mu held. */
NODISCARD int ipc_find_slot_locked(struct ipc_ns *ns, enum ipc_kind kind, int32_t slot, struct ipc_object **ret_object);
/* Highest slot in use, 0 when none. ns->mu held. */
int ipc_highest_locked(const struct ipc_ns *ns, enum ipc_kind kind);
/* mode bits as in flags of semget: 0400 read, 0200 write. 0 or -EACCES. */
NODISCARD int ipc_permitted(const struct ipc_ns *ns, const struct ipc_object *o, uint32_t mode);
/* IPC_SET and IPC_RMID: owner, creator or capability. 0 or -EPERM. */
NODISCARD int ipc_may_change(const struct ipc_ns *ns, const struct ipc_object *o);
/* Takes the object out of its table and wakes everybody; ns->mu held. The table's reference goes to the
 * caller, to be put without ns->mu. */
void ipc_remove_locked(struct ipc_ns *ns, struct ipc_object *o);
/* The guest's struct ipc64_perm, both ways. */
void ipc_perm_fill(const struct ipc_object *o, struct ipc_perm *ret);
NODISCARD int ipc_perm_set(struct ipc_object *o, const struct ipc_perm *p);

int64_t ipc_now_s(void); /* seconds of CLOCK_REALTIME */

/* sem.c */
void sem_exit_group(struct ipc_ns *ns, struct thread_group *tg);
void sem_show(struct ipc_ns *ns, struct seq *q);
void msg_show(struct ipc_ns *ns, struct seq *q);
void shm_show(struct ipc_ns *ns, struct seq *q);
void mqueue_ns_fini(struct ipc_ns *ns);

#endif
