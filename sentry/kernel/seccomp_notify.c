/*
 * Listeners of seccomp filters (seccomp_unotify(2)): a call that waits for its verdict is on the stack of its task, in
 * the listener's list; who holds the listener's descriptor receives, checks and answers it by ioctl(2).
 */
#include <fcntl.h>
#include <linux/ioctl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/fs_ops.h"

/* Of newer kernels than the headers. */
#define NOTIF_SET_FLAGS 0x40082104u	/* SECCOMP_IOCTL_NOTIF_SET_FLAGS */
#define NOTIF_ID_VALID_OLD 0x80082102u	/* SECCOMP_IOCTL_NOTIF_ID_VALID_WRONG_DIR */
#define NOTIF_SYNC_WAKE_UP 1u		/* SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP */

enum call_state { CALL_NEW, CALL_SENT, CALL_ANSWERED };

struct notified_call {
	struct list_node node; /* all: mu of the listener */
	struct task *task;     /* borrowed: it waits */
	uint64_t id;
	struct seccomp_data data;
	enum call_state state;
	bool run; /* SECCOMP_USER_NOTIF_FLAG_CONTINUE */
	int64_t result;
};

struct seccomp_notify {
	struct refcount refs; /* the file's and the filter's */
	struct mutex mu;      /* LOCK_OBJECT: all but refs and waitq */
	struct list_node calls;
	uint64_t next_id;
	bool closed; /* nobody can answer any more */
	bool unused; /* nobody will ask any more */
	struct waitq waitq;
};

STATE_DESC(seccomp_notify, S_NOSAVE(seccomp_notify, refs, "recounted"),
	   S_NOSAVE(seccomp_notify, mu, "unheld at a safe point"),
	   S_NOSAVE(seccomp_notify, calls, "asked again when the calls restart"), S_VAL(seccomp_notify, 1, next_id),
	   S_VAL(seccomp_notify, 2, closed), S_VAL(seccomp_notify, 3, unused),
	   S_NOSAVE(seccomp_notify, waitq, "waiters register again"));

struct seccomp_notify *seccomp_notify_get(struct seccomp_notify *n)
{
	refcount_get(&n->refs);
	return n;
}

void seccomp_notify_put(struct seccomp_notify *n)
{
	if (!n || !refcount_put(&n->refs))
		return;
	waitq_fini(&n->waitq);
	mutex_fini(&n->mu);
	free(n);
}

void seccomp_notify_unused(struct seccomp_notify *n)
{
	mutex_lock(&n->mu);
	n->unused = true;
	mutex_unlock(&n->mu);
	waitq_wake(&n->waitq, POLLHUP);
}

/* The call with this id, or NULL. mu. */
static struct notified_call *find_call(struct seccomp_notify *n, uint64_t id)
{
	struct notified_call *c;

	mutex_assert_held(&n->mu);
	list_for_each(c, &n->calls, node)
		if (c->id == id)
			return c;
	return NULL;
}

/* The first call in that state, or NULL. mu. */
static struct notified_call *first_in(struct seccomp_notify *n, enum call_state state)
{
	struct notified_call *c;

	mutex_assert_held(&n->mu);
	list_for_each(c, &n->calls, node)
		if (c->state == state)
			return c;
	return NULL;
}

/* mu */
static void answer(struct notified_call *c, bool run, int64_t result)
{
	c->state = CALL_ANSWERED;
	c->run = run;
	c->result = result;
	task_wake(c->task);
}

static enum call_state state_of(struct seccomp_notify *n, const struct notified_call *c)
{
	GUARD(mutex, &n->mu);
	return c->state;
}

/* Sleeps until c has an answer. 0, or why not. */
static int await(struct seccomp_notify *n, struct task *t, const struct notified_call *c, bool killable)
{
	for (;;) {
		enum call_state state = state_of(n, c);
		int err;

		if (state == CALL_ANSWERED)
			return 0;
		if (killable && state == CALL_SENT)
			err = task_block_killable(t, TIME_FOREVER, "seccomp listener");
		else
			err = task_block(t, TIME_FOREVER, "seccomp listener");
		if (err < 0)
			return state_of(n, c) == CALL_ANSWERED ? 0 : err;
	}
}

enum seccomp_do seccomp_notify_ask(struct seccomp_notify *n, struct task *t, const struct seccomp_data *d, bool killable,
				   int64_t *ret)
{
	struct notified_call c = { .task = t, .data = *d };
	int err;

	mutex_lock(&n->mu);
	if (n->closed) {
		mutex_unlock(&n->mu);
		*ret = -ENOSYS;
		return SECCOMP_DO_RETURN;
	}
	c.id = n->next_id++;
	list_add_tail(&n->calls, &c.node);
	mutex_unlock(&n->mu);
	waitq_wake(&n->waitq, POLLIN);
	err = await(n, t, &c, killable);
	mutex_lock(&n->mu);
	list_del(&c.node);
	mutex_unlock(&n->mu);
	*ret = err < 0 ? err : c.result;
	return err == 0 && c.run ? SECCOMP_DO_ALLOW : SECCOMP_DO_RETURN;
}

/* Takes the next call that nobody has received. -EAGAIN; -ENOENT: there will be none. */
static int take_call(struct seccomp_notify *n, struct seccomp_notif *out)
{
	struct notified_call *c;

	GUARD(mutex, &n->mu);
	c = first_in(n, CALL_NEW);
	if (!c)
		return n->unused ? -ENOENT : -EAGAIN;
	c->state = CALL_SENT;
	*out = (struct seccomp_notif){ .id = c->id, .data = c->data };
	out->pid = (uint32_t)task_tid_in(c->task, task_pid_ns(current));
	task_wake(c->task); /* from now on it may have to wait past signals */
	return 0;
}

static int64_t notif_recv(struct seccomp_notify *n, uaddr_t arg, struct umem *um)
{
	static const struct seccomp_notif zero;
	struct seccomp_notif notif;
	struct notified_call *c;
	int64_t err;

	if (copy_in_struct(um, &notif, arg) < 0)
		return -EFAULT;
	if (memcmp(&notif, &zero, sizeof(notif)) != 0)
		return -EINVAL;
	err = waitq_block(current, &n->waitq, POLLIN | POLLHUP, TIME_FOREVER, "seccomp notification",
			  take_call(n, &notif));
	if (err < 0)
		return err;
	waitq_wake(&n->waitq, POLLOUT);
	if (copy_out_struct(um, arg, &notif) == 0)
		return 0;
	mutex_lock(&n->mu);
	c = find_call(n, notif.id);
	if (c && c->state == CALL_SENT)
		c->state = CALL_NEW;
	mutex_unlock(&n->mu);
	waitq_wake(&n->waitq, POLLIN);
	return -EFAULT;
}

static int64_t notif_send(struct seccomp_notify *n, uaddr_t arg, struct umem *um)
{
	struct seccomp_notif_resp r;
	struct notified_call *c;
	bool run;

	if (copy_in_struct(um, &r, arg) < 0)
		return -EFAULT;
	run = r.flags & SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	if (r.flags & ~(uint32_t)SECCOMP_USER_NOTIF_FLAG_CONTINUE || (run && (r.error || r.val)))
		return -EINVAL;
	GUARD(mutex, &n->mu);
	c = find_call(n, r.id);
	if (!c)
		return -ENOENT;
	if (c->state != CALL_SENT)
		return -EINPROGRESS;
	answer(c, run, r.error ? r.error : r.val);
	return 0;
}

static int64_t notif_id_valid(struct seccomp_notify *n, uaddr_t arg, struct umem *um)
{
	struct notified_call *c;
	uint64_t id;

	if (copy_in_struct(um, &id, arg) < 0)
		return -EFAULT;
	GUARD(mutex, &n->mu);
	c = find_call(n, id);
	return c && c->state == CALL_SENT ? 0 : -ENOENT;
}

/* The table that the descriptor of a call that waits goes to, a reference, and its limit. mu. */
static int addfd_target(struct seccomp_notify *n, uint64_t id, struct fdtable **ret_table, uint64_t *ret_limit)
{
	struct notified_call *c = find_call(n, id);

	if (!c)
		return -ENOENT;
	if (c->state != CALL_SENT)
		return -EINPROGRESS;
	*ret_table = fdtable_get_ref(c->task->fdt);
	*ret_limit = task_rlimit(c->task, RLIMIT_NOFILE);
	return 0;
}

/* With SECCOMP_ADDFD_FLAG_SEND the number is the answer. */
static int64_t send_fd(struct seccomp_notify *n, uint64_t id, int fd)
{
	struct notified_call *c;

	GUARD(mutex, &n->mu);
	c = find_call(n, id);
	if (!c || c->state != CALL_SENT)
		return c ? -EINPROGRESS : -ENOENT;
	answer(c, false, fd);
	return fd;
}

static int64_t add_file(struct seccomp_notify *n, const struct seccomp_notif_addfd *a, struct file *f)
{
	struct fdtable *table;
	uint64_t limit;
	int64_t fd;

	mutex_lock(&n->mu);
	fd = addfd_target(n, a->id, &table, &limit);
	mutex_unlock(&n->mu);
	if (fd < 0)
		return fd;
	if (a->flags & SECCOMP_ADDFD_FLAG_SETFD)
		fd = fdtable_install_at(table, f, (int)a->newfd, limit, a->newfd_flags & O_CLOEXEC);
	else
		fd = fdtable_install(table, f, 0, limit, a->newfd_flags & O_CLOEXEC);
	if (fd >= 0 && a->flags & SECCOMP_ADDFD_FLAG_SEND) {
		int64_t ret = send_fd(n, a->id, (int)fd);

		if (ret < 0)
			(void)fdtable_close(table, (int)fd);
		fd = ret;
	}
	fdtable_put(table);
	return fd;
}

/* What a newer struct has and we do not know. 0, -E2BIG, -EFAULT. */
static int rest_is_zero(uaddr_t at, size_t size, struct umem *um)
{
	uint8_t bytes[256];

	for (size_t done = 0; done < size; done += sizeof(bytes)) {
		size_t n = MIN(sizeof(bytes), size - done);

		if (copy_in(um, bytes, uaddr_add(at, done), n) < 0)
			return -EFAULT;
		for (size_t i = 0; i < n; i++) {
			if (bytes[i])
				return -E2BIG;
		}
	}
	return 0;
}

static int64_t notif_addfd(struct seccomp_notify *n, uaddr_t arg, uint32_t size, struct umem *um)
{
	struct seccomp_notif_addfd a;
	struct file *f;
	int64_t ret;

	if (size < sizeof(a) || size >= 4096)
		return -EINVAL;
	if (copy_in_struct(um, &a, arg) < 0)
		return -EFAULT;
	ret = rest_is_zero(uaddr_add(arg, sizeof(a)), size - sizeof(a), um);
	if (ret < 0)
		return ret;
	if (a.newfd_flags & ~(uint32_t)O_CLOEXEC ||
	    a.flags & ~(uint32_t)(SECCOMP_ADDFD_FLAG_SETFD | SECCOMP_ADDFD_FLAG_SEND) ||
	    (a.newfd && !(a.flags & SECCOMP_ADDFD_FLAG_SETFD)))
		return -EINVAL;
	f = task_fd(current, (int)a.srcfd);
	if (!f)
		return -EBADF;
	ret = add_file(n, &a, f);
	file_put(f);
	return ret;
}

static int64_t notify_ioctl(struct file *f, uint32_t cmd, uint64_t value, struct umem *um)
{
	struct seccomp_notify *n = f->data;
	uaddr_t arg = UADDR(value);

	switch (cmd) {
	case (uint32_t)SECCOMP_IOCTL_NOTIF_RECV:
		return notif_recv(n, arg, um);
	case (uint32_t)SECCOMP_IOCTL_NOTIF_SEND:
		return notif_send(n, arg, um);
	case (uint32_t)SECCOMP_IOCTL_NOTIF_ID_VALID:
	case NOTIF_ID_VALID_OLD:
		return notif_id_valid(n, arg, um);
	case NOTIF_SET_FLAGS:
		return value & ~(uint64_t)NOTIF_SYNC_WAKE_UP ? -EINVAL : 0;
	default:
		break;
	}
	/* Of any size: programs built with other headers. */
	if ((cmd & ~((uint32_t)_IOC_SIZEMASK << _IOC_SIZESHIFT)) == SECCOMP_IOW(3, char[0]))
		return notif_addfd(n, arg, _IOC_SIZE(cmd), um);
	return -EINVAL;
}

static uint32_t notify_poll(struct file *f, uint32_t events UNUSED)
{
	struct seccomp_notify *n = f->data;

	GUARD(mutex, &n->mu);
	return (first_in(n, CALL_NEW) ? POLLIN | POLLRDNORM : 0) |
	       (first_in(n, CALL_SENT) ? POLLOUT | POLLWRNORM : 0) | (n->unused ? POLLHUP : 0);
}

static struct waitq *notify_waitq(struct file *f)
{
	struct seccomp_notify *n = f->data;

	return &n->waitq;
}

/* Who waits for an answer gets ENOSYS, as will all who come later. */
static void notify_release(struct file *f)
{
	struct seccomp_notify *n = f->data;
	struct notified_call *c;

	mutex_lock(&n->mu);
	n->closed = true;
	list_for_each(c, &n->calls, node)
		if (c->state != CALL_ANSWERED)
			answer(c, false, -ENOSYS);
	mutex_unlock(&n->mu);
	seccomp_notify_put(n);
}

static const struct file_ops notify_ops = {
	.name = "seccomp notify",
	.release = notify_release,
	.stream = true,
	.ioctl = notify_ioctl,
	.poll = notify_poll,
	.waitq = notify_waitq,
};

int seccomp_listener_new(const struct cred *cred, struct file **ret_file, struct seccomp_notify **ret_notify)
{
	struct seccomp_notify *n = calloc(1, sizeof(*n));
	int err;

	if (!n)
		return -ENOMEM;
	refcount_init(&n->refs, 1);
	mutex_init(&n->mu, LOCK_OBJECT);
	list_init(&n->calls);
	n->next_id = 1;
	waitq_init(&n->waitq);
	err = file_new_anon(&notify_ops, "anon_inode:seccomp notify", 0600, O_RDWR, cred, n, ret_file);
	if (err < 0)
		seccomp_notify_put(n);
	else
		*ret_notify = n;
	return err;
}
