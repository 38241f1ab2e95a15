/* System V message queues (msgget(2), msgop(2), msgctl(2)). */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>

#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc_priv.h"
#include "sentry/kernel/block.h"
#include "sentry/state/desc.h"
#include "sentry/syscalls/syscalls.h"

#define MSG_SIZE_MAX 8192
#define MSG_QUEUE_BYTES 16384

struct msg {
	struct list_node node;
	int64_t type;
	size_t size;
	uint8_t data[];
};

struct msg_queue {
	struct ipc_object o; /* first member; all is protected by ns->mu */
	struct list_node messages;
	uint64_t bytes, count, limit;
	int64_t send_time, recv_time;
	struct pid *last_sender, *last_receiver; /* references */
};

STATE_DESC(msg_queue, S_EMBED(msg_queue, 1, o, ipc_object), S_LIST(msg_queue, 2, messages, msg),
	   S_NOSAVE(msg_queue, bytes, "recounted"), S_NOSAVE(msg_queue, count, "recounted"),
	   S_VAL(msg_queue, 3, limit), S_VAL(msg_queue, 4, send_time), S_VAL(msg_queue, 5, recv_time),
	   S_REF(msg_queue, 6, last_sender, pid), S_REF(msg_queue, 7, last_receiver, pid));

static struct msg_queue *queue_of(struct ipc_object *o)
{
	BUG_ON(o->kind != IPC_KIND_MSG);
	return container_of(o, struct msg_queue, o);
}

static void queue_free(struct ipc_object *o)
{
	struct msg_queue *q = queue_of(o);
	struct msg *m;

	while ((m = list_first(&q->messages, struct msg, node)) != NULL) {
		list_del(&m->node);
		free(m);
	}
	if (q->last_sender)
		pid_put(q->last_sender);
	if (q->last_receiver)
		pid_put(q->last_receiver);
	ipc_object_fini(o);
	free(q);
}

static int queue_create(struct ipc_ns *ns UNUSED, void *arg UNUSED, struct ipc_object **ret_object)
{
	struct msg_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return -ENOMEM;
	ipc_object_init(&q->o, IPC_KIND_MSG, queue_free);
	list_init(&q->messages);
	q->limit = (uint64_t)sysctl_int("kernel/msgmnb");
	*ret_object = &q->o;
	return 0;
}

static int queue_check(struct ipc_object *o UNUSED, void *arg UNUSED)
{
	return 0;
}

int64_t sys_msgget(struct task *t, int32_t key, int32_t flags)
{
	struct ipc_get_args a = { IPC_KIND_MSG, key, flags, queue_create, queue_check, NULL };

	return ipc_get_id(t->ns->ipc, &a);
}

/* The queue of id with a reference and the right to mode. */
static int queue_get(struct ipc_ns *ns, int32_t id, uint32_t mode, struct msg_queue **ret_queue)
{
	struct ipc_object *o;
	int ret;
	GUARD(mutex, &ns->mu);

	ret = ipc_find_locked(ns, IPC_KIND_MSG, id, &o);
	if (ret == 0)
		ret = ipc_permitted(ns, o, mode);
	if (ret < 0)
		return ret;
	refcount_get(&o->refs);
	*ret_queue = queue_of(o);
	return 0;
}

static void set_pid(struct pid **where)
{
	struct pid *old = *where;

	*where = pid_get(current->tg->pid);
	if (old)
		pid_put(old);
}

/* Takes m over on success. */
static int send_try(struct ipc_ns *ns, struct msg_queue *q, struct msg *m)
{
	GUARD(mutex, &ns->mu);

	if (q->o.removed)
		return -EIDRM;
	if (q->bytes + m->size > q->limit || q->count + 1 > q->limit)
		return -EAGAIN;
	list_add_tail(&q->messages, &m->node);
	q->bytes += m->size;
	q->count++;
	q->send_time = ipc_now_s();
	set_pid(&q->last_sender);
	waitq_wake(&q->o.waitq, POLLIN);
	return 0;
}

int64_t sys_msgsnd(struct task *t, int32_t id, uaddr_t msgp, uint64_t size, int32_t flags)
{
	struct ipc_ns *ns = t->ns->ipc;
	struct msg_queue *q;
	struct msg *m;
	int64_t type, ret;

	if (copy_in_struct(task_umem(t), &type, msgp) < 0)
		return -EFAULT;
	if (size > (uint64_t)sysctl_int("kernel/msgmax") || id < 0 || type < 1)
		return -EINVAL;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	list_init(&m->node);
	m->type = type;
	m->size = size;
	ret = copy_in(task_umem(t), m->data, uaddr_add(msgp, sizeof(type)), size);
	if (ret == 0)
		ret = queue_get(ns, id, 0222, &q);
	if (ret == 0) {
		ret = send_try(ns, q, m);
		if (ret == -EAGAIN && !(flags & IPC_NOWAIT))
			ret = waitq_block(t, &q->o.waitq, POLLOUT, TIME_FOREVER, "msgsnd", send_try(ns, q, m));
		ipc_object_put(&q->o);
	}
	if (ret < 0)
		free(m);
	return ret == -ERESTARTSYS ? -ERESTARTNOHAND : ret;
}

static bool matches(const struct msg *m, int64_t type, int flags, uint64_t position)
{
	if (flags & MSG_COPY)
		return position == (uint64_t)type;
	if (type == 0)
		return true;
	if (type > 0)
		return (flags & MSG_EXCEPT) ? m->type != type : m->type == type;
	return type == INT64_MIN || m->type <= -type;
}

/* The message msgrcv asks for: the first, or for a negative type the one of the lowest type. */
static struct msg *find_message(struct msg_queue *q, int64_t type, int flags)
{
	struct msg *m, *best = NULL;
	uint64_t position = 0;

	list_for_each(m, &q->messages, node) {
		if (matches(m, type, flags, position++) && (!best || m->type < best->type))
			best = m;
		if (best && (type >= 0 || (flags & MSG_COPY)))
			break;
	}
	return best;
}

/* *ret_msg: the message, out of the queue (or a copy), to be freed by the caller. */
static int recv_try(struct ipc_ns *ns, struct msg_queue *q, int64_t type, int flags, uint64_t room, struct msg **ret_msg)
{
	struct msg *m;
	GUARD(mutex, &ns->mu);

	if (q->o.removed)
		return -EIDRM;
	m = find_message(q, type, flags);
	if (!m)
		return -EAGAIN;
	if (m->size > room && !(flags & MSG_NOERROR))
		return -E2BIG;
	if (flags & MSG_COPY) {
		*ret_msg = malloc(sizeof(*m) + m->size);
		if (!*ret_msg)
			return -ENOMEM;
		memcpy(*ret_msg, m, sizeof(*m) + m->size);
		return 0;
	}
	list_del(&m->node);
	q->bytes -= m->size;
	q->count--;
	q->recv_time = ipc_now_s();
	set_pid(&q->last_receiver);
	waitq_wake(&q->o.waitq, POLLOUT);
	*ret_msg = m;
	return 0;
}

int64_t sys_msgrcv(struct task *t, int32_t id, uaddr_t msgp, uint64_t size, int64_t type, int32_t flags)
{
	struct ipc_ns *ns = t->ns->ipc;
	struct msg_queue *q;
	struct msg *m = NULL;
	int64_t ret;

	if (id < 0 || size > INT64_MAX)
		return -EINVAL;
	if ((flags & MSG_COPY) && ((flags & MSG_EXCEPT) || !(flags & IPC_NOWAIT)))
		return -EINVAL;
	ret = queue_get(ns, id, 0444, &q);
	if (ret < 0)
		return ret;
	ret = recv_try(ns, q, type, flags, size, &m);
	if (ret == -EAGAIN && !(flags & IPC_NOWAIT))
		ret = waitq_block(t, &q->o.waitq, POLLIN, TIME_FOREVER, "msgrcv",
				  recv_try(ns, q, type, flags, size, &m));
	else if (ret == -EAGAIN)
		ret = -ENOMSG;
	ipc_object_put(&q->o);
	if (ret < 0)
		return ret == -ERESTARTSYS ? -ERESTARTNOHAND : ret;
	size = MIN(size, (uint64_t)m->size);
	ret = (int64_t)size;
	if (copy_out_struct(task_umem(t), msgp, &m->type) < 0 ||
	    copy_out(task_umem(t), uaddr_add(msgp, sizeof(m->type)), m->data, size) < 0)
		ret = -EFAULT;
	free(m);
	return ret;
}

static int64_t ctl_stat(struct task *t, struct ipc_ns *ns, int32_t id, int cmd, uint64_t arg)
{
	struct ipc_object *o;
	struct msqid_ds ds;
	int64_t ret, result = 0;

	memset(&ds, 0, sizeof(ds));
	mutex_lock(&ns->mu);
	ret = cmd == IPC_STAT ? ipc_find_locked(ns, IPC_KIND_MSG, id, &o) : ipc_find_slot_locked(ns, IPC_KIND_MSG, id, &o);
	if (ret == 0 && cmd != MSG_STAT_ANY)
		ret = ipc_permitted(ns, o, 0444);
	if (ret == 0) {
		struct msg_queue *q = queue_of(o);
		struct pid_ns *pns = task_pid_ns(t);

		ipc_perm_fill(o, &ds.msg_perm);
		ds.msg_stime = q->send_time;
		ds.msg_rtime = q->recv_time;
		ds.msg_ctime = o->ctime;
		ds.__msg_cbytes = q->bytes;
		ds.msg_qnum = q->count;
		ds.msg_qbytes = q->limit;
		ds.msg_lspid = q->last_sender ? pid_nr_in(q->last_sender, pns) : 0;
		ds.msg_lrpid = q->last_receiver ? pid_nr_in(q->last_receiver, pns) : 0;
		result = cmd == IPC_STAT ? 0 : o->id;
	}
	mutex_unlock(&ns->mu);
	if (ret == 0)
		ret = copy_out_struct(task_umem(t), UADDR(arg), &ds);
	return ret < 0 ? ret : result;
}

static int64_t ctl_info(struct task *t, struct ipc_ns *ns, int cmd, uint64_t arg)
{
	struct msginfo mi = { .msgpool = 512000, .msgmap = 16384, .msgmax = MSG_SIZE_MAX, .msgmnb = MSG_QUEUE_BYTES,
			      .msgmni = 32000, .msgssz = 16, .msgtql = 16384, .msgseg = 65535 };
	struct ipc_table *tab = &ns->table[IPC_KIND_MSG];
	int highest;

	mutex_lock(&ns->mu);
	highest = ipc_highest_locked(ns, IPC_KIND_MSG);
	if (cmd == MSG_INFO) {
		mi.msgpool = (int)tab->count;
		mi.msgmap = mi.msgtql = 0;
		for (unsigned i = 0; i < tab->capacity; i++) {
			struct msg_queue *q = tab->slot[i] ? queue_of(tab->slot[i]) : NULL;

			mi.msgmap += q ? (int)q->count : 0;
			mi.msgtql += q ? (int)q->bytes : 0;
		}
	}
	mutex_unlock(&ns->mu);
	return copy_out_struct(task_umem(t), UADDR(arg), &mi) < 0 ? -EFAULT : highest;
}

static int queue_set(struct ipc_ns *ns, struct ipc_object *o, const struct msqid_ds *ds)
{
	struct msg_queue *q = queue_of(o);
	int ret;

	if (ds->msg_qbytes > MSG_QUEUE_BYTES && !task_capable_ns(current, ns->user_ns, CAP_SYS_RESOURCE_NR))
		return -EPERM;
	if (ds->msg_qbytes > INT32_MAX)
		return -EINVAL;
	ret = ipc_perm_set(o, &ds->msg_perm);
	if (ret < 0)
		return ret;
	q->limit = ds->msg_qbytes;
	waitq_wake(&o->waitq, POLLOUT);
	return 0;
}

int64_t sys_msgctl(struct task *t, int32_t id, int32_t cmd, uaddr_t buf)
{
	struct ipc_ns *ns = t->ns->ipc;
	struct ipc_object *o, *gone = NULL;
	struct msqid_ds ds;
	int64_t ret;

	cmd &= ~IPC_64_FLAG;
	if (id < 0 || cmd < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO_CMD:
	case MSG_INFO:
		return ctl_info(t, ns, cmd, buf.v);
	case IPC_STAT:
	case MSG_STAT:
	case MSG_STAT_ANY:
		return ctl_stat(t, ns, id, cmd, buf.v);
	case IPC_SET:
		if (copy_in_struct(task_umem(t), &ds, buf) < 0)
			return -EFAULT;
		break;
	case IPC_RMID:
		break;
	default:
		return -EINVAL;
	}
	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_MSG, id, &o);
	if (ret == 0)
		ret = ipc_may_change(ns, o);
	if (ret == 0 && cmd == IPC_SET)
		ret = queue_set(ns, o, &ds);
	if (ret == 0 && cmd == IPC_RMID) {
		ipc_remove_locked(ns, o);
		gone = o;
	}
	mutex_unlock(&ns->mu);
	ipc_object_put(gone);
	return ret;
}

void msg_show(struct ipc_ns *ns, struct seq *q)
{
	struct ipc_table *tab = &ns->table[IPC_KIND_MSG];
	struct pid_ns *pns = task_pid_ns(current);

	seq_puts(q, "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      "
		    "stime      rtime      ctime\n");
	for (unsigned i = 0; i < tab->capacity; i++) {
		struct msg_queue *m = tab->slot[i] ? queue_of(tab->slot[i]) : NULL;
		struct ipc_perm p;

		if (!m)
			continue;
		ipc_perm_fill(&m->o, &p);
		seq_printf(q, "%10d %10d  %4o  %10llu %10llu %5d %5d %5u %5u %5u %5u %10lld %10lld %10lld\n", m->o.key, m->o.id,
			   m->o.mode & 0777, (unsigned long long)m->bytes, (unsigned long long)m->count,
			   m->last_sender ? pid_nr_in(m->last_sender, pns) : 0,
			   m->last_receiver ? pid_nr_in(m->last_receiver, pns) : 0, p.uid, p.gid, p.cuid, p.cgid,
			   (long long)m->send_time, (long long)m->recv_time, (long long)m->o.ctime);
	}
}
