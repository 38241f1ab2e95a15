/* Ipc namespaces and what the three System V facilities share (sysvipc(7)). */
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc_priv.h"
#include "sentry/state/desc.h"

STATE_DESC(ipc_object, S_NOSAVE(ipc_object, refs, "recounted"), S_VAL(ipc_object, 1, kind),
	   S_VAL(ipc_object, 2, id), S_VAL(ipc_object, 3, key), S_VAL(ipc_object, 4, uid),
	   S_VAL(ipc_object, 5, cuid), S_VAL(ipc_object, 6, gid), S_VAL(ipc_object, 7, cgid),
	   S_VAL(ipc_object, 8, mode), S_VAL(ipc_object, 9, ctime), S_VAL(ipc_object, 10, removed),
	   S_NOSAVE(ipc_object, waitq, "waiters register again"), S_NOSAVE(ipc_object, free, "by kind"));
STATE_DESC(ipc_ns, S_NOSAVE(ipc_ns, refs, "recounted"), S_REF(ipc_ns, 1, user_ns, user_ns),
	   S_VAL(ipc_ns, 2, ns_ino), S_NOSAVE(ipc_ns, mu, "unheld at a safe point"),
	   S_EMBED(ipc_ns, 3, table, ipc_table), S_NOSAVE(ipc_ns, undo_count, "recounted"),
	   S_VAL(ipc_ns, 4, shm_pages), S_LIST(ipc_ns, 5, mqueues, mqueue), S_VAL(ipc_ns, 6, mqueue_count),
	   S_VAL(ipc_ns, 7, mqueue_position));

struct ipc_ns *ipc_ns_new(struct user_ns *owner)
{
	static const unsigned limits[IPC_KINDS] = { 32000, 32000, 4096 };
	struct ipc_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	ns->user_ns = user_ns_get(owner);
	ns->ns_ino = ns_ino_next();
	mutex_init(&ns->mu, LOCK_IPC);
	list_init(&ns->mqueues);
	ns->mqueue_position = 3; /* past . and .. */
	for (int k = 0; k < IPC_KINDS; k++)
		ns->table[k].limit = limits[k];
	return ns;
}

struct ipc_ns *ipc_ns_get(struct ipc_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void ipc_ns_put(struct ipc_ns *ns)
{
	if (!ns || !refcount_put(&ns->refs))
		return;
	for (int k = 0; k < IPC_KINDS; k++) {
		struct ipc_table *tab = &ns->table[k];

		for (unsigned i = 0; i < tab->capacity; i++)
			if (tab->slot[i])
				ipc_object_put(tab->slot[i]);
		free(tab->slot);
	}
	mqueue_ns_fini(ns);
	user_ns_put(ns->user_ns);
	mutex_fini(&ns->mu);
	free(ns);
}

uint64_t ipc_ns_ino(const struct ipc_ns *ns)
{
	return ns->ns_ino;
}

struct user_ns *ipc_ns_owner(const struct ipc_ns *ns)
{
	return ns->user_ns;
}

void ipc_exit_task(struct task *t)
{
	bool last;

	if (!t->ns || !t->ns->ipc || t->ns->ipc->undo_count == 0)
		return;
	mutex_lock(&taskset_mu);
	/* Threads that die together: whoever comes first may undo for all of them. */
	last = t->tg->exiting || t->tg->live_count == 1;
	mutex_unlock(&taskset_mu);
	if (last)
		sem_exit_group(t->ns->ipc, t->tg);
}

void ipc_object_init(struct ipc_object *o, enum ipc_kind kind, void (*free_fn)(struct ipc_object *o))
{
	refcount_init(&o->refs, 1);
	o->kind = kind;
	o->free = free_fn;
	o->ctime = ipc_now_s();
	waitq_init(&o->waitq);
}

void ipc_object_fini(struct ipc_object *o)
{
	waitq_fini(&o->waitq);
}

void ipc_object_put(struct ipc_object *o)
{
	if (o && refcount_put(&o->refs))
		o->free(o);
}

int64_t ipc_now_s(void)
{
	return clock_now(CLOCK_REALTIME) / NSEC_PER_SEC;
}

int ipc_permitted(const struct ipc_ns *ns, const struct ipc_object *o, uint32_t mode)
{
	const struct cred *c = current->cred;
	uint32_t want = (mode >> 6) | (mode >> 3) | mode, granted = o->mode;

	if (c->euid.v == o->cuid.v || c->euid.v == o->uid.v)
		granted >>= 6;
	else if (c->egid.v == o->cgid.v || c->egid.v == o->gid.v || cred_in_group(c, o->cgid) || cred_in_group(c, o->gid))
		granted >>= 3;
	if ((want & ~granted & 07) && !task_capable_ns(current, ns->user_ns, CAP_IPC_OWNER_NR))
		return -EACCES;
	return 0;
}

int ipc_may_change(const struct ipc_ns *ns, const struct ipc_object *o)
{
	const struct cred *c = current->cred;

	if (c->euid.v == o->cuid.v || c->euid.v == o->uid.v)
		return 0;
	return task_capable_ns(current, ns->user_ns, CAP_SYS_ADMIN_NR) ? 0 : -EPERM;
}

static struct ipc_object *find_key_locked(struct ipc_table *tab, int32_t key)
{
	for (unsigned i = 0; i < tab->capacity; i++)
		if (tab->slot[i] && tab->slot[i]->key == key)
			return tab->slot[i];
	return NULL;
}

static int grow_locked(struct ipc_table *tab, unsigned capacity)
{
	struct ipc_object **slot;

	if (capacity <= tab->capacity)
		return 0;
	slot = realloc(tab->slot, capacity * sizeof(*slot));
	if (!slot)
		return -ENOMEM;
	memset(slot + tab->capacity, 0, (capacity - tab->capacity) * sizeof(*slot));
	tab->slot = slot;
	tab->capacity = capacity;
	return 0;
}

/* Makes room in the table and returns a free slot, or -ENOSPC, -ENOMEM. */
static int take_slot_locked(struct ipc_table *tab)
{
	int ret;

	if (tab->count >= tab->limit)
		return -ENOSPC;
	for (unsigned i = 0; i < tab->capacity; i++)
		if (!tab->slot[i])
			return (int)i;
	ret = grow_locked(tab, tab->capacity ? tab->capacity * 2 : 16);
	return ret < 0 ? ret : (int)tab->count; /* all slots before are in use */
}

/* The id that a checkpointing tool asked for by kernel.*_next_id, or -1; asked once. */
static int64_t wanted_id(enum ipc_kind kind)
{
	static const char *const names[IPC_KINDS] = { "kernel/sem_next_id", "kernel/msg_next_id", "kernel/shm_next_id" };
	static const char *const resets[IPC_KINDS] = { "kernel.sem_next_id=-1", "kernel.msg_next_id=-1",
						       "kernel.shm_next_id=-1" };
	int64_t id = sysctl_int(names[kind]);

	if (id >= 0 && sysctl_set(resets[kind]) < 0)
		return -1;
	return id;
}

/* Puts o at the wanted id when its slot is free; returns the slot. */
static int place_locked(struct ipc_table *tab, struct ipc_object *o, int slot)
{
	int64_t id = wanted_id(o->kind);

	if (id >= 0 && grow_locked(tab, (unsigned)((uint64_t)id % IPC_SLOTS_MAX) + 1) == 0 &&
	    !tab->slot[(uint64_t)id % IPC_SLOTS_MAX]) {
		o->id = (int32_t)id;
		return (int)((uint64_t)id % IPC_SLOTS_MAX);
	}
	if (id >= 0) { /* the sequence number at least, as Linux does */
		o->id = (int32_t)((uint64_t)id / IPC_SLOTS_MAX * IPC_SLOTS_MAX) + slot;
		return slot;
	}
	o->id = tab->seq * (int)IPC_SLOTS_MAX + slot;
	tab->seq = (tab->seq + 1) % IPC_SEQ_MAX;
	return slot;
}

static int create_locked(struct ipc_ns *ns, const struct ipc_get_args *a)
{
	static const char *const limits[IPC_KINDS] = { [IPC_KIND_MSG] = "kernel/msgmni", [IPC_KIND_SHM] = "kernel/shmmni" };
	struct ipc_table *tab = &ns->table[a->kind];
	struct ipc_object *o;
	int slot, ret;

	if (limits[a->kind])
		tab->limit = (unsigned)sysctl_int(limits[a->kind]);
	else
		tab->limit = (unsigned)MIN(sysctl_word("kernel/sem", 3), (uint64_t)IPC_SLOTS_MAX);
	slot = take_slot_locked(tab);
	if (slot < 0)
		return slot;
	ret = a->create(ns, a->arg, &o);
	if (ret < 0)
		return ret;
	o->key = a->key;
	o->uid = o->cuid = current->cred->euid;
	o->gid = o->cgid = current->cred->egid;
	o->mode = (uint32_t)a->flags & 0777;
	slot = place_locked(tab, o, slot);
	tab->slot[slot] = o;
	tab->count++;
	return o->id;
}

int ipc_get_id(struct ipc_ns *ns, const struct ipc_get_args *a)
{
	struct ipc_object *o = NULL;
	int ret;
	GUARD(mutex, &ns->mu);

	if (a->key != IPC_PRIVATE)
		o = find_key_locked(&ns->table[a->kind], a->key);
	if (!o)
		return a->key == IPC_PRIVATE || (a->flags & IPC_CREAT) ? create_locked(ns, a) : -ENOENT;
	if ((a->flags & (IPC_CREAT | IPC_EXCL)) == (IPC_CREAT | IPC_EXCL))
		return -EEXIST;
	ret = a->check(o, a->arg);
	if (ret == 0)
		ret = ipc_permitted(ns, o, (uint32_t)a->flags & 0777);
	return ret < 0 ? ret : o->id;
}

int ipc_find_locked(struct ipc_ns *ns, enum ipc_kind kind, int32_t id, struct ipc_object **ret_object)
{
	struct ipc_table *tab = &ns->table[kind];
	unsigned slot = (unsigned)id % IPC_SLOTS_MAX;

	mutex_assert_held(&ns->mu);
	if (id < 0 || slot >= tab->capacity || !tab->slot[slot])
		return -EINVAL;
	if (tab->slot[slot]->id != id)
		return -EIDRM;
	*ret_object = tab->slot[slot];
	return 0;
}

int ipc_find_slot_locked(struct ipc_ns *ns, enum ipc_kind kind, int32_t slot, struct ipc_object **ret_object)
{
	struct ipc_table *tab = &ns->table[kind];

	/* Only the slot counts: a whole id is taken, too. */
	if (slot < 0 || (unsigned)slot % IPC_SLOTS_MAX >= tab->capacity || !tab->slot[(unsigned)slot % IPC_SLOTS_MAX])
		return -EINVAL;
	*ret_object = tab->slot[(unsigned)slot % IPC_SLOTS_MAX];
	return 0;
}

int ipc_highest_locked(const struct ipc_ns *ns, enum ipc_kind kind)
{
	const struct ipc_table *tab = &ns->table[kind];

	for (unsigned i = tab->capacity; i > 0; i--)
		if (tab->slot[i - 1])
			return (int)i - 1;
	return 0;
}

void ipc_remove_locked(struct ipc_ns *ns, struct ipc_object *o)
{
	struct ipc_table *tab = &ns->table[o->kind];

	tab->slot[(unsigned)o->id % IPC_SLOTS_MAX] = NULL;
	tab->count--;
	o->removed = true;
	waitq_wake(&o->waitq, UINT32_MAX);
}

void ipc_perm_fill(const struct ipc_object *o, struct ipc_perm *ret)
{
	struct user_ns *ns = current->cred->user_ns;

	memset(ret, 0, sizeof(*ret));
	ret->__key = o->key;
	ret->uid = user_ns_from_kuid_munged(ns, o->uid);
	ret->gid = user_ns_from_kgid_munged(ns, o->gid);
	ret->cuid = user_ns_from_kuid_munged(ns, o->cuid);
	ret->cgid = user_ns_from_kgid_munged(ns, o->cgid);
	ret->mode = (__typeof__(ret->mode))o->mode;
	ret->__seq = (unsigned short)((unsigned)o->id / IPC_SLOTS_MAX);
}

int ipc_perm_set(struct ipc_object *o, const struct ipc_perm *p)
{
	struct user_ns *ns = current->cred->user_ns;
	kuid_t uid;
	kgid_t gid;

	if (!user_ns_make_kuid(ns, p->uid, &uid) || !user_ns_make_kgid(ns, p->gid, &gid))
		return -EINVAL;
	o->uid = uid;
	o->gid = gid;
	o->mode = (o->mode & ~0777u) | (p->mode & 0777u);
	o->ctime = ipc_now_s();
	return 0;
}

void ipc_show(struct ipc_ns *ns, enum ipc_kind kind, struct seq *q)
{
	GUARD(mutex, &ns->mu);

	if (kind == IPC_KIND_SEM)
		sem_show(ns, q);
	else if (kind == IPC_KIND_MSG)
		msg_show(ns, q);
	else
		shm_show(ns, q);
}
