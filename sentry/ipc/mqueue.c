/* POSIX message queues (mq_overview(7)). */
#include <fcntl.h>
#include <mqueue.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc_priv.h"
#include "sentry/ipc/mqueue_priv.h"
#include "sentry/kernel/block.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/net/netlink/netlink.h"
#include "sentry/state/desc.h"
#include "sentry/syscalls/wait_args.h"
#include "sentry/syscalls/syscalls.h"

#define MQ_MESSAGES_HARD 65536 /* with CAP_SYS_RESOURCE; else fs.mqueue.* say */
#define MQ_SIZE_HARD (16 << 20)
#define MQ_PRIO_LIMIT 32768
#define NOTIFY_COOKIE 32 /* bytes libc wants back; the last says why */
#define NOTIFY_WOKENUP 1
#define NOTIFY_REMOVED 2

struct mq_msg {
	struct list_node node;
	uint32_t priority;
	size_t size;
	uint8_t data[];
};

struct mqueue {
	struct refcount refs;	/* the name's, and one per open file */
	struct list_node node;	/* ns->mu: in ns->mqueues while it has a name */
	char *name;		/* const; owned */
	uint64_t ino;		/* const; in the mqueue file system */
	int64_t position;	/* const; there, too: rises in order of creation */
	kuid_t uid;		/* to mode: ns->mu */
	kgid_t gid;
	uint32_t mode;
	long max_messages, max_size; /* const */
	struct mutex mu;	/* LOCK_IPC, after the namespace's: all below */
	struct list_node messages; /* highest priority first, then in order */
	long count;
	uint64_t bytes;
	struct thread_group *notify; /* reference: who wants to hear of a message in the empty queue */
	int notify_signo;	/* 0: SIGEV_NONE */
	uint64_t notify_value;
	struct file *notify_socket; /* SIGEV_THREAD: libc's netlink socket, reference */
	uint8_t notify_cookie[NOTIFY_COOKIE];
	unsigned receivers;	/* calls that sleep in mq_receive: they come before notification */
	struct waitq waitq;
};

STATE_DESC(mqueue, S_NOSAVE(mqueue, refs, "recounted"), S_NOSAVE(mqueue, node, "linked again by name"),
	   S_BYTES(mqueue, 1, name), S_VAL(mqueue, 2, uid), S_VAL(mqueue, 3, gid), S_VAL(mqueue, 4, mode),
	   S_VAL(mqueue, 5, max_messages), S_VAL(mqueue, 6, max_size),
	   S_NOSAVE(mqueue, mu, "unheld at a safe point"), S_LIST(mqueue, 7, messages, mq_msg),
	   S_NOSAVE(mqueue, count, "recounted"), S_NOSAVE(mqueue, bytes, "recounted"),
	   S_REF(mqueue, 8, notify, thread_group), S_VAL(mqueue, 9, notify_signo),
	   S_VAL(mqueue, 10, notify_value), S_REF(mqueue, 11, notify_socket, file),
	   S_VAL(mqueue, 12, notify_cookie), S_VAL(mqueue, 13, ino), S_VAL(mqueue, 14, position),
	   S_NOSAVE(mqueue, receivers, "waiting calls start again"),
	   S_NOSAVE(mqueue, waitq, "waiters register again"));

void mqueue_put(struct mqueue *q)
{
	struct mq_msg *m;

	if (!q || !refcount_put(&q->refs))
		return;
	while ((m = list_first(&q->messages, struct mq_msg, node)) != NULL) {
		list_del(&m->node);
		free(m);
	}
	if (q->notify)
		thread_group_put(q->notify);
	if (q->notify_socket)
		file_put(q->notify_socket);
	waitq_fini(&q->waitq);
	mutex_fini(&q->mu);
	free(q->name);
	free(q);
}

void mqueue_ns_fini(struct ipc_ns *ns)
{
	struct mqueue *q;

	while ((q = list_first(&ns->mqueues, struct mqueue, node)) != NULL) {
		list_del(&q->node);
		mqueue_put(q);
	}
}

static struct mqueue *queue_of(struct file *f)
{
	return f->data;
}

/* A registration taken out of its queue; its references are the holder's. */
struct notify {
	struct thread_group *tg;
	struct file *socket;
	int signo;
	uint64_t value;
	uint8_t cookie[NOTIFY_COOKIE];
};

/* Ends the registration; mu held. */
static struct notify take_notify(struct mqueue *q)
{
	struct notify n = { .tg = TAKE(q->notify), .socket = TAKE(q->notify_socket), .signo = q->notify_signo,
			    .value = q->notify_value };

	memcpy(n.cookie, q->notify_cookie, sizeof(n.cookie));
	return n;
}

/* Tells libc's thread why the registration ended, and drops it. No locks held. */
static void notify_end(struct notify *n, uint8_t why)
{
	if (n->socket) {
		n->cookie[NOTIFY_COOKIE - 1] = why;
		netlink_deliver(n->socket, n->cookie, sizeof(n->cookie));
		file_put(n->socket);
	}
	if (n->tg)
		thread_group_put(n->tg);
}

static void mq_release(struct file *f)
{
	mqueue_put(queue_of(f));
}

/* A close by the process that registered ends the registration. */
static void mq_flush(struct file *f)
{
	struct mqueue *q = queue_of(f);
	struct notify old = { 0 };

	mutex_lock(&q->mu);
	if (current && q->notify == current->tg)
		old = take_notify(q);
	mutex_unlock(&q->mu);
	notify_end(&old, NOTIFY_REMOVED);
}

static int64_t mq_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct mqueue *q = queue_of(f);
	char text[96];
	int64_t ret;
	int n;

	mutex_lock(&q->mu);
	n = snprintf(text, sizeof(text), "QSIZE:%-10llu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n",
		     (unsigned long long)q->bytes, 0, q->notify ? q->notify_signo : 0, 0);
	mutex_unlock(&q->mu);
	if (*pos >= n)
		return 0;
	ret = uio_write(u, text + *pos, MIN((size_t)(n - *pos), u->resid));
	if (ret > 0)
		*pos += ret;
	return ret;
}

static uint32_t mq_poll(struct file *f, uint32_t events UNUSED)
{
	struct mqueue *q = queue_of(f);
	GUARD(mutex, &q->mu);

	return (q->count ? POLLIN | POLLRDNORM : 0) | (q->count < q->max_messages ? POLLOUT | POLLWRNORM : 0);
}

static struct waitq *mq_waitq(struct file *f)
{
	return &queue_of(f)->waitq;
}

static const struct file_ops mq_file_ops = {
	.name = "mqueue",
	.release = mq_release,
	.flush = mq_flush,
	.read = mq_read,
	.poll = mq_poll,
	.waitq = mq_waitq,
};

/* Copies and checks a queue's name (the guest's libc has taken the slash off). */
static int name_in(struct task *t, uaddr_t addr, char buf[NAME_MAX_GUEST + 1])
{
	int64_t n = copy_in_str(task_umem(t), buf, addr, NAME_MAX_GUEST + 1);

	if (n < 0)
		return (int)n;
	if (n == 0)
		return -ENOENT;
	return strchr(buf, '/') ? -EACCES : 0;
}

/* ns->mu held. */
static struct mqueue *find_locked(struct ipc_ns *ns, const char *name)
{
	struct mqueue *q;

	list_for_each(q, &ns->mqueues, node)
		if (strcmp(q->name, name) == 0)
			return q;
	return NULL;
}

/* The defaults, but never above the limits (mq_overview(7)). */
static struct mq_attr default_attr(void)
{
	return (struct mq_attr){
		.mq_maxmsg = MIN(sysctl_int("fs/mqueue/msg_default"), sysctl_int("fs/mqueue/msg_max")),
		.mq_msgsize = MIN(sysctl_int("fs/mqueue/msgsize_default"), sysctl_int("fs/mqueue/msgsize_max")),
	};
}

static int attr_check(const struct ipc_ns *ns, const struct mq_attr *a)
{
	bool capable = task_capable_ns(current, ns->user_ns, CAP_SYS_RESOURCE_NR);

	if (a->mq_maxmsg <= 0 || a->mq_msgsize <= 0)
		return -EINVAL;
	if (a->mq_maxmsg > (capable ? MQ_MESSAGES_HARD : sysctl_int("fs/mqueue/msg_max")) ||
	    a->mq_msgsize > (capable ? MQ_SIZE_HARD : sysctl_int("fs/mqueue/msgsize_max")))
		return -EINVAL;
	return 0;
}

static int queue_new_locked(struct ipc_ns *ns, const char *name, uint32_t mode, const struct mq_attr *a, struct mqueue **ret)
{
	struct mqueue *q;

	if (ns->mqueue_count >= sysctl_int("fs/mqueue/queues_max") && !task_capable_ns(current, ns->user_ns, CAP_SYS_RESOURCE_NR))
		return -ENOSPC;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	q->name = strdup(name);
	if (!q->name) {
		free(q);
		return -ENOMEM;
	}
	refcount_init(&q->refs, 1);
	mutex_init(&q->mu, LOCK_IPC);
	waitq_init(&q->waitq);
	list_init(&q->messages);
	q->uid = current->cred->fsuid;
	q->gid = current->cred->fsgid;
	q->mode = mode;
	q->max_messages = a->mq_maxmsg;
	q->max_size = a->mq_msgsize;
	q->ino = ino_next();
	q->position = ns->mqueue_position++;
	list_add_tail(&ns->mqueues, &q->node);
	ns->mqueue_count++;
	*ret = q;
	return 0;
}

static int permitted(const struct ipc_ns *ns, const struct mqueue *q, int flags)
{
	static const uint32_t need_of[] = { [O_RDONLY] = 4, [O_WRONLY] = 2, [O_RDWR] = 6, [3] = 6 };
	const struct cred *c = current->cred;
	uint32_t need = need_of[flags & O_ACCMODE], granted = q->mode;

	if (c->fsuid.v == q->uid.v)
		granted >>= 6;
	else if (cred_in_group(c, q->gid))
		granted >>= 3;
	return (need & ~granted & 7) && !task_capable_ns(current, ns->user_ns, 1 /* CAP_DAC_OVERRIDE */) ? -EACCES : 0;
}

/* The queue of name with a reference, made when O_CREAT says so. */
static int queue_open(struct ipc_ns *ns, const char *name, int flags, uint32_t mode, const struct mq_attr *a, struct mqueue **ret)
{
	struct mqueue *q;
	int err = 0;
	GUARD(mutex, &ns->mu);

	q = find_locked(ns, name);
	if (q && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	if (!q && !(flags & O_CREAT))
		return -ENOENT;
	if (q) {
		err = permitted(ns, q, flags);
	} else {
		err = attr_check(ns, a);
		if (err == 0)
			err = queue_new_locked(ns, name, mode, a, &q);
	}
	if (err < 0)
		return err;
	refcount_get(&q->refs);
	*ret = q;
	return 0;
}

int64_t sys_mq_open(struct task *t, uaddr_t u_name, uint32_t oflag, uint32_t mode, uaddr_t u_attr)
{
	struct mq_attr a = default_attr();
	char name[NAME_MAX_GUEST + 1];
	struct mqueue *q;
	struct file *f;
	uint32_t umask;
	int ret;

	if (u_attr.v && (oflag & O_CREAT) && copy_in_struct(task_umem(t), &a, u_attr) < 0)
		return -EFAULT;
	ret = name_in(t, u_name, name);
	if (ret < 0)
		return ret;
	mutex_lock(&t->fs->mu);
	umask = t->fs->umask;
	mutex_unlock(&t->fs->mu);
	ret = queue_open(t->ns->ipc, name, (int)oflag, mode & 0777 & ~umask, &a, &q);
	if (ret < 0)
		return ret;
	ret = file_new_anon(&mq_file_ops, name, S_IFREG | 0600, (int)oflag & (O_ACCMODE | O_NONBLOCK), t->cred, q, &f);
	if (ret < 0) {
		mqueue_put(q);
		return ret;
	}
	ret = task_fd_install(t, f, true); /* message queue descriptors are close-on-exec by definition */
	file_put(f);
	return ret;
}

struct mqueue *mqueue_find(struct ipc_ns *ns, const char *name)
{
	struct mqueue *q;

	GUARD(mutex, &ns->mu);
	q = find_locked(ns, name);
	if (q)
		refcount_get(&q->refs);
	return q;
}

void mqueue_facts(struct ipc_ns *ns, struct mqueue *q, struct mqueue_facts *ret)
{
	GUARD(mutex, &ns->mu);
	*ret = (struct mqueue_facts){ .ino = q->ino, .mode = q->mode, .uid = q->uid, .gid = q->gid };
}

void mqueue_set_owner(struct ipc_ns *ns, struct mqueue *q, kuid_t uid, kgid_t gid, uint32_t mode)
{
	GUARD(mutex, &ns->mu);
	q->uid = uid;
	q->gid = gid;
	q->mode = mode;
}

int mqueue_create(struct ipc_ns *ns, const char *name, uint32_t mode, struct mqueue **ret)
{
	const struct mq_attr a = default_attr();
	struct mqueue *q;
	int err;

	GUARD(mutex, &ns->mu);
	if (find_locked(ns, name))
		return -EEXIST;
	err = queue_new_locked(ns, name, mode, &a, &q);
	if (err < 0)
		return err;
	refcount_get(&q->refs);
	*ret = q;
	return 0;
}

int mqueue_remove(struct ipc_ns *ns, const char *name)
{
	struct mqueue *q;

	mutex_lock(&ns->mu);
	q = find_locked(ns, name);
	if (q) {
		list_del(&q->node);
		ns->mqueue_count--;
	}
	mutex_unlock(&ns->mu);
	mqueue_put(q);
	return q ? 0 : -ENOENT;
}

int64_t mqueue_next(struct ipc_ns *ns, int64_t pos, char name[NAME_MAX_GUEST + 1], uint64_t *ret_ino)
{
	struct mqueue *q;

	GUARD(mutex, &ns->mu);
	list_for_each(q, &ns->mqueues, node) {
		if (q->position < pos)
			continue;
		snprintf(name, NAME_MAX_GUEST + 1, "%s", q->name);
		*ret_ino = q->ino;
		return q->position;
	}
	return 0;
}

int mqueue_open_file(struct mqueue *q, struct file *f)
{
	refcount_get(&q->refs);
	f->ops = &mq_file_ops;
	f->data = q;
	return 0;
}

int64_t sys_mq_unlink(struct task *t, uaddr_t u_name)
{
	struct ipc_ns *ns = t->ns->ipc;
	char name[NAME_MAX_GUEST + 1];
	struct mqueue *q;
	int ret = name_in(t, u_name, name);

	if (ret < 0)
		return ret;
	mutex_lock(&ns->mu);
	q = find_locked(ns, name);
	if (!q)
		ret = -ENOENT;
	else if (t->cred->fsuid.v != q->uid.v && !task_capable_ns(t, ns->user_ns, 3 /* CAP_FOWNER */))
		ret = -EACCES;
	if (ret == 0) {
		list_del(&q->node);
		ns->mqueue_count--;
	} else {
		q = NULL;
	}
	mutex_unlock(&ns->mu);
	mqueue_put(q);
	return ret;
}

/* The queue behind a descriptor opened for reading or writing. */
static int queue_at(struct task *t, int fd, int access, struct file **ret_file)
{
	struct file *f = task_fd_io(t, fd);
	int mode = f ? f->flags & O_ACCMODE : 0;

	if (!f)
		return -EBADF;
	if (f->ops != &mq_file_ops || (access >= 0 && mode != O_RDWR && mode != access)) {
		file_put(f);
		return -EBADF;
	}
	*ret_file = f;
	return 0;
}

/* An absolute CLOCK_REALTIME timeout as a deadline on CLOCK_MONOTONIC. */
static int deadline_in(struct task *t, uaddr_t addr, int64_t *ret_deadline)
{
	struct timespec ts;
	int64_t ns;

	*ret_deadline = TIME_FOREVER;
	if (!addr.v)
		return 0;
	if (copy_in_struct(task_umem(t), &ts, addr) < 0)
		return -EFAULT;
	if (ts.tv_sec < 0 || !timespec_to_ns(&ts, &ns))
		return -EINVAL;
	*ret_deadline = time_add(clock_mono(), ns - clock_now(CLOCK_REALTIME));
	return 0;
}

/* Queues m (taken over on success) behind those of its priority. */
static int send_try(struct mqueue *q, struct mq_msg *m)
{
	struct notify notify = { 0 };
	struct mq_msg *at;

	mutex_lock(&q->mu);
	if (q->count >= q->max_messages) {
		mutex_unlock(&q->mu);
		return -EAGAIN;
	}
	list_for_each(at, &q->messages, node)
		if (at->priority < m->priority)
			break;
	list_add_tail(&at->node, &m->node); /* before `at`, or at the end of the list */
	q->bytes += m->size;
	if (q->count++ == 0 && q->receivers == 0 && q->notify)
		notify = take_notify(q);
	mutex_unlock(&q->mu);
	waitq_wake(&q->waitq, POLLIN);
	if (notify.tg && notify.signo) {
		struct guest_siginfo info = siginfo_user(current, notify.signo, SI_MESGQ);

		info.kill.value = notify.value;
		signal_send_group(notify.tg, &info);
	}
	notify_end(&notify, NOTIFY_WOKENUP);
	return 0;
}

int64_t sys_mq_timedsend(struct task *t, int32_t fd, uaddr_t msg, uint64_t size, uint32_t priority, uaddr_t timeout)
{
	AUTO(file_put) struct file *f = NULL;
	struct mqueue *q;
	struct mq_msg *m;
	int64_t deadline, ret;

	if (priority >= MQ_PRIO_LIMIT)
		return -EINVAL;
	ret = deadline_in(t, timeout, &deadline);
	if (ret == 0)
		ret = queue_at(t, fd, O_WRONLY, &f);
	if (ret < 0)
		return ret;
	q = queue_of(f);
	if (size > (uint64_t)q->max_size)
		return -EMSGSIZE;
	m = malloc(sizeof(*m) + size);
	if (!m)
		return -ENOMEM;
	list_init(&m->node);
	m->priority = priority;
	m->size = size;
	ret = copy_in(task_umem(t), m->data, msg, size);
	if (ret == 0) {
		if (f->flags & O_NONBLOCK)
			ret = send_try(q, m);
		else
			ret = file_block(t, f, POLLOUT, deadline, "mq_send", send_try(q, m));
	}
	if (ret < 0)
		free(m);
	return ret;
}

static int recv_try(struct mqueue *q, struct mq_msg **ret_msg)
{
	struct mq_msg *m;

	mutex_lock(&q->mu);
	m = list_first(&q->messages, struct mq_msg, node);
	if (m) {
		list_del(&m->node);
		q->count--;
		q->bytes -= m->size;
	}
	mutex_unlock(&q->mu);
	if (!m)
		return -EAGAIN;
	waitq_wake(&q->waitq, POLLOUT);
	*ret_msg = m;
	return 0;
}

static int64_t recv_wait(struct task *t, struct file *f, struct mqueue *q, int64_t deadline, struct mq_msg **ret_msg)
{
	int64_t ret;

	mutex_lock(&q->mu);
	q->receivers++;
	mutex_unlock(&q->mu);
	ret = file_block(t, f, POLLIN, deadline, "mq_receive", recv_try(q, ret_msg));
	mutex_lock(&q->mu);
	q->receivers--;
	mutex_unlock(&q->mu);
	return ret;
}

int64_t sys_mq_timedreceive(struct task *t, int32_t fd, uaddr_t msg, uint64_t size, uaddr_t u_priority, uaddr_t timeout)
{
	AUTO(file_put) struct file *f = NULL;
	struct mqueue *q;
	struct mq_msg *m = NULL;
	int64_t deadline, ret = deadline_in(t, timeout, &deadline);

	if (ret == 0)
		ret = queue_at(t, fd, O_RDONLY, &f);
	if (ret < 0)
		return ret;
	q = queue_of(f);
	if (size < (uint64_t)q->max_size)
		return -EMSGSIZE;
	ret = recv_try(q, &m);
	if (ret == -EAGAIN && !(f->flags & O_NONBLOCK))
		ret = recv_wait(t, f, q, deadline, &m);
	if (ret < 0)
		return ret;
	ret = (int64_t)m->size;
	if (copy_out(task_umem(t), msg, m->data, m->size) < 0 ||
	    (u_priority.v && copy_out_struct(task_umem(t), u_priority, &m->priority) < 0))
		ret = -EFAULT;
	free(m);
	return ret;
}

struct guest_sigevent {
	uint64_t value;
	int32_t signo, notify;
	uint8_t rest[48];
};

/* SIGEV_THREAD: libc gives a netlink socket in signo and a cookie to be sent there. */
static int notify_socket_in(struct task *t, const struct guest_sigevent *ev, uint8_t cookie[NOTIFY_COOKIE], struct file **ret)
{
	struct file *f;

	if (copy_in(task_umem(t), cookie, UADDR(ev->value), NOTIFY_COOKIE) < 0)
		return -EFAULT;
	f = task_fd_io(t, ev->signo);
	if (!f)
		return -EBADF;
	if (!file_is_netlink(f)) {
		file_put(f);
		return -EINVAL;
	}
	*ret = f;
	return 0;
}

static int notify_check(const struct guest_sigevent *ev)
{
	if (ev->notify == SIGEV_NONE || ev->notify == SIGEV_THREAD)
		return 0;
	return ev->notify != SIGEV_SIGNAL || ev->signo < 1 || ev->signo > GUEST_NSIG ? -EINVAL : 0;
}

int64_t sys_mq_notify(struct task *t, int32_t fd, uaddr_t u_notification)
{
	AUTO(file_put) struct file *f = NULL, *socket = NULL;
	uint8_t cookie[NOTIFY_COOKIE] = { 0 };
	struct notify old = { 0 };
	struct guest_sigevent ev = { 0 };
	struct mqueue *q;
	int ret = 0;

	if (u_notification.v) {
		if (copy_in_struct(task_umem(t), &ev, u_notification) < 0)
			return -EFAULT;
		ret = notify_check(&ev);
		if (ret == 0 && ev.notify == SIGEV_THREAD)
			ret = notify_socket_in(t, &ev, cookie, &socket);
	}
	if (ret == 0)
		ret = queue_at(t, fd, -1, &f);
	if (ret < 0)
		return ret;
	q = queue_of(f);
	mutex_lock(&q->mu);
	if (!u_notification.v) {
		if (q->notify == t->tg)
			old = take_notify(q);
	} else if (q->notify) {
		ret = -EBUSY;
	} else {
		q->notify = thread_group_get(t->tg);
		q->notify_signo = ev.notify == SIGEV_SIGNAL ? ev.signo : 0;
		q->notify_value = ev.value;
		q->notify_socket = TAKE(socket);
		memcpy(q->notify_cookie, cookie, sizeof(cookie));
	}
	mutex_unlock(&q->mu);
	notify_end(&old, NOTIFY_REMOVED);
	return ret;
}

int64_t sys_mq_getsetattr(struct task *t, int32_t fd, uaddr_t u_new, uaddr_t u_old)
{
	AUTO(file_put) struct file *f = NULL;
	struct mq_attr new = { 0 }, old = { 0 };
	struct mqueue *q;
	int ret;

	if (u_new.v) {
		if (copy_in_struct(task_umem(t), &new, u_new) < 0)
			return -EFAULT;
		if (new.mq_flags & ~(long)O_NONBLOCK)
			return -EINVAL;
	}
	ret = queue_at(t, fd, -1, &f);
	if (ret < 0)
		return ret;
	q = queue_of(f);
	mutex_lock(&q->mu);
	old.mq_maxmsg = q->max_messages;
	old.mq_msgsize = q->max_size;
	old.mq_curmsgs = q->count;
	mutex_unlock(&q->mu);
	old.mq_flags = f->flags & O_NONBLOCK;
	if (u_new.v) {
		ret = file_set_flags(f, (f->flags & ~(O_ACCMODE | O_NONBLOCK)) | (int)new.mq_flags);
		if (ret < 0)
			return ret;
	}
	return u_old.v ? copy_out_struct(task_umem(t), u_old, &old) : 0;
}
