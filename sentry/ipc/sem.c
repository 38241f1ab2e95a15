/* System V semaphores (semget(2), semop(2), semctl(2)). */
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sem.h>

#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc_priv.h"
#include "sentry/kernel/block.h"
#include "sentry/state/desc.h"
#include "sentry/syscalls/wait_args.h"
#include "sentry/syscalls/syscalls.h"

#define SEM_OPS_HARD 32000 /* of one call, whatever kernel.sem says */
#define SEM_VMX 32767

struct sem_value {
	int32_t value;
	struct pid *last; /* reference */
};

/* What one process would have undone when it exits. */
struct sem_undo {
	struct list_node node;
	struct thread_group *tg; /* weak: the record goes when the process exits */
	int32_t adjust[];
};

/* A call that waits: counted by GETNCNT and GETZCNT. Lives on its stack. */
struct sem_wait {
	struct list_node node;
	uint16_t num;
	bool for_zero;
};

struct sem_set {
	struct ipc_object o; /* first member; all is protected by ns->mu */
	struct ipc_ns *ns;   /* weak: the table's owner */
	struct list_node undos, waits;
	int64_t otime;
	unsigned count;
	struct sem_value sem[];
};

STATE_DESC(sem_set, S_EMBED(sem_set, 1, o, ipc_object), S_WEAK(sem_set, 2, ns, ipc_ns),
	   S_LIST(sem_set, 3, undos, sem_undo), S_NOSAVE(sem_set, waits, "waiting calls start again"),
	   S_VAL(sem_set, 4, otime), S_VAL(sem_set, 5, count));

static struct sem_set *sem_of(struct ipc_object *o)
{
	BUG_ON(o->kind != IPC_KIND_SEM);
	return container_of(o, struct sem_set, o);
}

static void undo_free(struct sem_set *s, struct sem_undo *u)
{
	list_del(&u->node);
	atomic_fetch_sub(&s->ns->undo_count, 1);
	free(u);
}

static void undos_free(struct sem_set *s)
{
	while (!list_empty(&s->undos))
		undo_free(s, list_entry(s->undos.next, struct sem_undo, node));
}

static void sem_free(struct ipc_object *o)
{
	struct sem_set *s = sem_of(o);

	while (!list_empty(&s->undos)) { /* the namespace is going: its count goes with it */
		struct sem_undo *u = list_entry(s->undos.next, struct sem_undo, node);

		list_del(&u->node);
		free(u);
	}
	for (unsigned i = 0; i < s->count; i++)
		if (s->sem[i].last)
			pid_put(s->sem[i].last);
	ipc_object_fini(o);
	free(s);
}

static int sem_create(struct ipc_ns *ns, void *arg, struct ipc_object **ret_object)
{
	int count = *(int *)arg;
	struct sem_set *s;

	if (count <= 0)
		return -EINVAL;
	s = calloc(1, sizeof(*s) + (size_t)count * sizeof(s->sem[0]));
	if (!s)
		return -ENOMEM;
	ipc_object_init(&s->o, IPC_KIND_SEM, sem_free);
	s->ns = ns;
	list_init(&s->undos);
	list_init(&s->waits);
	s->count = (unsigned)count;
	*ret_object = &s->o;
	return 0;
}

static int sem_check(struct ipc_object *o, void *arg)
{
	return *(int *)arg > (int)sem_of(o)->count ? -EINVAL : 0;
}

int64_t sys_semget(struct task *t, int32_t key, int32_t nsems, int32_t flags)
{
	struct ipc_get_args a = { IPC_KIND_SEM, key, flags, sem_create, sem_check, &nsems };

	if (nsems < 0 || (uint64_t)nsems > sysctl_word("kernel/sem", 0))
		return -EINVAL;
	return ipc_get_id(t->ns->ipc, &a);
}

static void set_last(struct sem_value *v)
{
	struct pid *old = v->last;

	v->last = pid_get(current->tg->pid);
	if (old)
		pid_put(old);
}

/* The calling process's undo record, made when missing and wanted. */
static struct sem_undo *undo_of(struct sem_set *s, struct thread_group *tg, bool create)
{
	struct sem_undo *u;

	list_for_each(u, &s->undos, node)
		if (u->tg == tg)
			return u;
	u = create ? calloc(1, sizeof(*u) + s->count * sizeof(u->adjust[0])) : NULL;
	if (!u)
		return NULL;
	u->tg = tg;
	list_add_tail(&s->undos, &u->node);
	atomic_fetch_add(&s->ns->undo_count, 1);
	return u;
}

/* One operation on top of those before it. 0, or why it cannot be: 1 means "wait" (-EAGAIN with IPC_NOWAIT). */
static int apply_one(struct sem_set *s, const struct sembuf *op, struct sem_undo *undo)
{
	struct sem_value *v = &s->sem[op->sem_num];
	int32_t result = v->value + op->sem_op;

	if (op->sem_op == 0)
		return v->value != 0;
	if (result < 0)
		return 1;
	if (result > SEM_VMX)
		return -ERANGE;
	if ((op->sem_flg & SEM_UNDO) && undo) {
		int32_t adjust = undo->adjust[op->sem_num] - op->sem_op;

		if (adjust < -SEM_VMX - 1 || adjust > SEM_VMX)
			return -ERANGE;
		undo->adjust[op->sem_num] = adjust;
	}
	v->value = result;
	return 0;
}

static void revert(struct sem_set *s, const struct sembuf *op, unsigned count, struct sem_undo *undo)
{
	while (count-- > 0) {
		s->sem[op[count].sem_num].value -= op[count].sem_op;
		if ((op[count].sem_flg & SEM_UNDO) && undo)
			undo->adjust[op[count].sem_num] += op[count].sem_op;
	}
}

/* All operations or none. -EAGAIN: *w says on what to wait, or IPC_NOWAIT was set (*ret_nowait). */
static int apply_all(struct sem_set *s, const struct sembuf *op, unsigned count, struct sem_undo *undo,
		     struct sem_wait *w, bool *ret_nowait)
{
	bool changed = false;

	for (unsigned i = 0; i < count; i++) {
		int ret = apply_one(s, &op[i], undo);

		if (ret != 0) {
			revert(s, op, i, undo);
			w->num = op[i].sem_num;
			w->for_zero = op[i].sem_op == 0;
			*ret_nowait = op[i].sem_flg & IPC_NOWAIT;
			return ret > 0 ? -EAGAIN : ret;
		}
		changed |= op[i].sem_op != 0;
	}
	for (unsigned i = 0; i < count; i++)
		set_last(&s->sem[op[i].sem_num]);
	s->otime = ipc_now_s();
	if (changed)
		waitq_wake(&s->o.waitq, POLLIN);
	return 0;
}

struct sem_call {
	struct ipc_ns *ns;
	struct sem_set *set; /* reference once waiting */
	int32_t id;
	const struct sembuf *op;
	unsigned count;
	struct sem_wait wait;
	bool nowait;
};

static int call_check(struct sem_call *c, struct sem_set *s)
{
	bool alter = false;

	for (unsigned i = 0; i < c->count; i++) {
		if (c->op[i].sem_num >= s->count)
			return -EFBIG;
		alter |= c->op[i].sem_op != 0;
	}
	return ipc_permitted(c->ns, &s->o, alter ? 0222 : 0444);
}

/* One try; notes in the set on what the call waits. */
static int call_try(struct sem_call *c)
{
	struct sem_set *s = c->set;
	struct sem_undo *undo = NULL;
	bool wants_undo = false;
	int ret;
	GUARD(mutex, &c->ns->mu);

	list_del(&c->wait.node);
	if (s->o.removed)
		return -EIDRM;
	for (unsigned i = 0; i < c->count; i++)
		wants_undo |= (c->op[i].sem_flg & SEM_UNDO) && c->op[i].sem_op;
	if (wants_undo) {
		undo = undo_of(s, current->tg, true);
		if (!undo)
			return -ENOMEM;
	}
	ret = apply_all(s, c->op, c->count, undo, &c->wait, &c->nowait);
	if (ret == -EAGAIN && !c->nowait)
		list_add_tail(&s->waits, &c->wait.node);
	return ret;
}

static int64_t sem_operate(struct task *t, int32_t id, const struct sembuf *op, unsigned count, int64_t deadline)
{
	struct sem_call c = { .ns = t->ns->ipc, .id = id, .op = op, .count = count };
	struct ipc_object *o;
	int64_t ret;

	list_init(&c.wait.node);
	mutex_lock(&c.ns->mu);
	ret = ipc_find_locked(c.ns, IPC_KIND_SEM, id, &o);
	if (ret == 0) {
		c.set = sem_of(o);
		ret = call_check(&c, c.set);
	}
	if (ret == 0)
		refcount_get(&o->refs);
	mutex_unlock(&c.ns->mu);
	if (ret < 0)
		return ret;
	ret = call_try(&c);
	if (ret == -EAGAIN && !c.nowait)
		ret = waitq_block(t, &o->waitq, POLLIN, deadline, "semop", call_try(&c));
	mutex_lock(&c.ns->mu);
	list_del(&c.wait.node);
	mutex_unlock(&c.ns->mu);
	ipc_object_put(o);
	if (ret == -ETIMEDOUT)
		return -EAGAIN;
	return ret == -ERESTARTSYS ? -EINTR : ret;
}

int64_t sys_semtimedop(struct task *t, int32_t id, uaddr_t tsops, uint32_t nsops, uaddr_t timeout)
{
	struct sembuf few[16], *op = few;
	int64_t deadline, ret;

	if (nsops == 0 || id < 0)
		return -EINVAL;
	if (nsops > MIN(sysctl_word("kernel/sem", 2), (uint64_t)SEM_OPS_HARD))
		return -E2BIG;
	ret = deadline_from_timespec(t, timeout, &deadline);
	if (ret < 0)
		return ret;
	if (deadline == 0)
		deadline = clock_mono();
	if (nsops > ARRAY_COUNT(few)) {
		op = malloc(nsops * sizeof(*op));
		if (!op)
			return -ENOMEM;
	}
	ret = copy_in(task_umem(t), op, tsops, nsops * sizeof(*op));
	if (ret == 0)
		ret = sem_operate(t, id, op, nsops, deadline);
	if (op != few)
		free(op);
	return ret;
}

int64_t sys_semop(struct task *t, int32_t id, uaddr_t tsops, uint32_t nsops)
{
	return sys_semtimedop(t, id, tsops, nsops, UADDR_NULL);
}

void sem_exit_group(struct ipc_ns *ns, struct thread_group *tg)
{
	struct ipc_table *tab = &ns->table[IPC_KIND_SEM];
	GUARD(mutex, &ns->mu);

	for (unsigned i = 0; i < tab->capacity; i++) {
		struct sem_set *s = tab->slot[i] ? sem_of(tab->slot[i]) : NULL;
		struct sem_undo *u = s ? undo_of(s, tg, false) : NULL;

		if (!u)
			continue;
		for (unsigned k = 0; k < s->count; k++) {
			int32_t v = s->sem[k].value + u->adjust[k];

			if (!u->adjust[k])
				continue;
			s->sem[k].value = v < 0 ? 0 : MIN(v, SEM_VMX);
			set_last(&s->sem[k]);
		}
		undo_free(s, u);
		s->otime = ipc_now_s();
		waitq_wake(&s->o.waitq, POLLIN);
	}
}

/* A value was set from outside: pending undos of it are forgotten. */
static void forget_undo(struct sem_set *s, unsigned first, unsigned count)
{
	struct sem_undo *u;

	list_for_each(u, &s->undos, node)
		memset(u->adjust + first, 0, count * sizeof(u->adjust[0]));
}

static int count_waits(struct sem_set *s, unsigned num, bool for_zero)
{
	struct sem_wait *w;
	int n = 0;

	list_for_each(w, &s->waits, node)
		n += w->num == num && w->for_zero == for_zero;
	return n;
}

/* Commands on one semaphore. ns->mu held. */
static int64_t ctl_one(struct ipc_ns *ns, struct sem_set *s, int num, int cmd, uint64_t arg)
{
	int ret = ipc_permitted(ns, &s->o, cmd == SETVAL ? 0222 : 0444);
	struct sem_value *v;

	if (ret < 0)
		return ret;
	if (num < 0 || (unsigned)num >= s->count)
		return -EINVAL;
	v = &s->sem[num];
	switch (cmd) {
	case GETVAL:
		return v->value;
	case GETPID:
		return v->last ? pid_nr_in(v->last, task_pid_ns(current)) : 0;
	case GETNCNT:
		return count_waits(s, (unsigned)num, false);
	case GETZCNT:
		return count_waits(s, (unsigned)num, true);
	default: /* SETVAL */
		if ((int)arg < 0 || (int)arg > SEM_VMX)
			return -ERANGE;
		v->value = (int)arg;
		set_last(v);
		forget_undo(s, (unsigned)num, 1);
		s->o.ctime = ipc_now_s();
		waitq_wake(&s->o.waitq, POLLIN);
		return 0;
	}
}

static int64_t ctl_getall(struct task *t, struct ipc_ns *ns, int32_t id, uint64_t arg)
{
	struct ipc_object *o;
	uint16_t *values = NULL;
	unsigned count = 0;
	int64_t ret;

	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_SEM, id, &o);
	if (ret == 0)
		ret = ipc_permitted(ns, o, 0444);
	if (ret == 0) {
		count = sem_of(o)->count;
		values = malloc(count * sizeof(*values));
		ret = values ? 0 : -ENOMEM;
	}
	for (unsigned i = 0; ret == 0 && i < count; i++)
		values[i] = (uint16_t)sem_of(o)->sem[i].value;
	mutex_unlock(&ns->mu);
	if (ret == 0)
		ret = copy_out(task_umem(t), UADDR(arg), values, count * sizeof(*values));
	free(values);
	return ret;
}

static int64_t ctl_setall(struct task *t, struct ipc_ns *ns, int32_t id, uint64_t arg)
{
	struct ipc_object *o;
	uint16_t *values = NULL;
	unsigned count = 0;
	int64_t ret;

	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_SEM, id, &o);
	if (ret == 0)
		ret = ipc_permitted(ns, o, 0222);
	if (ret == 0)
		count = sem_of(o)->count;
	mutex_unlock(&ns->mu);
	if (ret < 0)
		return ret;
	values = malloc(count * sizeof(*values));
	if (!values)
		return -ENOMEM;
	ret = copy_in(task_umem(t), values, UADDR(arg), count * sizeof(*values));
	for (unsigned i = 0; ret == 0 && i < count; i++)
		ret = values[i] > SEM_VMX ? -ERANGE : 0;
	mutex_lock(&ns->mu);
	if (ret == 0)
		ret = ipc_find_locked(ns, IPC_KIND_SEM, id, &o) < 0 ? -EIDRM : 0;
	for (unsigned i = 0; ret == 0 && i < count; i++) {
		sem_of(o)->sem[i].value = values[i];
		set_last(&sem_of(o)->sem[i]);
	}
	if (ret == 0) {
		forget_undo(sem_of(o), 0, count);
		o->ctime = ipc_now_s();
		waitq_wake(&o->waitq, POLLIN);
	}
	mutex_unlock(&ns->mu);
	free(values);
	return ret;
}

static int64_t ctl_stat(struct task *t, struct ipc_ns *ns, int32_t id, int cmd, uint64_t arg)
{
	struct ipc_object *o;
	struct semid_ds ds;
	int64_t ret, result = 0;

	memset(&ds, 0, sizeof(ds));
	mutex_lock(&ns->mu);
	ret = cmd == IPC_STAT ? ipc_find_locked(ns, IPC_KIND_SEM, id, &o) : ipc_find_slot_locked(ns, IPC_KIND_SEM, id, &o);
	if (ret == 0 && cmd != SEM_STAT_ANY)
		ret = ipc_permitted(ns, o, 0444);
	if (ret == 0) {
		ipc_perm_fill(o, &ds.sem_perm);
		ds.sem_otime = sem_of(o)->otime;
		ds.sem_ctime = o->ctime;
		ds.sem_nsems = sem_of(o)->count;
		result = cmd == IPC_STAT ? 0 : o->id;
	}
	mutex_unlock(&ns->mu);
	if (ret == 0)
		ret = copy_out_struct(task_umem(t), UADDR(arg), &ds);
	return ret < 0 ? ret : result;
}

static int64_t ctl_info(struct task *t, struct ipc_ns *ns, int cmd, uint64_t arg)
{
	int per_set = (int)sysctl_word("kernel/sem", 0), all = (int)sysctl_word("kernel/sem", 1);
	int ops = (int)sysctl_word("kernel/sem", 2), sets = (int)sysctl_word("kernel/sem", 3);
	struct seminfo si = { .semmap = all, .semmni = sets, .semmns = all, .semmnu = all,
			      .semmsl = per_set, .semopm = ops, .semume = ops, .semusz = 20,
			      .semvmx = SEM_VMX, .semaem = SEM_VMX };
	struct ipc_table *tab = &ns->table[IPC_KIND_SEM];
	int highest;

	mutex_lock(&ns->mu);
	highest = ipc_highest_locked(ns, IPC_KIND_SEM);
	if (cmd == SEM_INFO) {
		si.semusz = (int)tab->count;
		si.semaem = 0;
		for (unsigned i = 0; i < tab->capacity; i++)
			si.semaem += tab->slot[i] ? (int)sem_of(tab->slot[i])->count : 0;
	}
	mutex_unlock(&ns->mu);
	return copy_out_struct(task_umem(t), UADDR(arg), &si) < 0 ? -EFAULT : highest;
}

static int64_t ctl_change(struct task *t, struct ipc_ns *ns, int32_t id, int cmd, uint64_t arg)
{
	struct ipc_object *o, *gone = NULL;
	struct semid_ds ds;
	int64_t ret;

	if (cmd == IPC_SET && copy_in_struct(task_umem(t), &ds, UADDR(arg)) < 0)
		return -EFAULT;
	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_SEM, id, &o);
	if (ret == 0)
		ret = ipc_may_change(ns, o);
	if (ret == 0 && cmd == IPC_SET)
		ret = ipc_perm_set(o, &ds.sem_perm);
	if (ret == 0 && cmd == IPC_RMID) {
		undos_free(sem_of(o));
		ipc_remove_locked(ns, o);
		gone = o;
	}
	mutex_unlock(&ns->mu);
	ipc_object_put(gone);
	return ret;
}

int64_t sys_semctl(struct task *t, int32_t id, int32_t num, int32_t cmd, uint64_t arg)
{
	struct ipc_ns *ns = t->ns->ipc;
	struct ipc_object *o;
	int64_t ret;

	if (id < 0)
		return -EINVAL;
	cmd &= ~IPC_64_FLAG;
	switch (cmd) {
	case IPC_INFO_CMD:
	case SEM_INFO:
		return ctl_info(t, ns, cmd, arg);
	case IPC_STAT:
	case SEM_STAT:
	case SEM_STAT_ANY:
		return ctl_stat(t, ns, id, cmd, arg);
	case IPC_SET:
	case IPC_RMID:
		return ctl_change(t, ns, id, cmd, arg);
	case GETALL:
		return ctl_getall(t, ns, id, arg);
	case SETALL:
		return ctl_setall(t, ns, id, arg);
	case GETVAL:
	case GETPID:
	case GETNCNT:
	case GETZCNT:
	case SETVAL:
		mutex_lock(&ns->mu);
		ret = ipc_find_locked(ns, IPC_KIND_SEM, id, &o);
		if (ret == 0)
			ret = ctl_one(ns, sem_of(o), num, cmd, arg);
		mutex_unlock(&ns->mu);
		return ret;
	default:
		return -EINVAL;
	}
}

void sem_show(struct ipc_ns *ns, struct seq *q)
{
	struct ipc_table *tab = &ns->table[IPC_KIND_SEM];

	seq_puts(q, "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n");
	for (unsigned i = 0; i < tab->capacity; i++) {
		struct sem_set *s = tab->slot[i] ? sem_of(tab->slot[i]) : NULL;
		struct ipc_perm p;

		if (!s)
			continue;
		ipc_perm_fill(&s->o, &p);
		seq_printf(q, "%10d %10d  %4o %10u %5u %5u %5u %5u %10lld %10lld\n", s->o.key, s->o.id, s->o.mode & 0777,
			   s->count, p.uid, p.gid, p.cuid, p.cgid, (long long)s->otime, (long long)s->o.ctime);
	}
}
