/* Unix sockets: creation, connections, options, readiness. */
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "sentry/kernel/task.h"
#include "sentry/net/unix/unix_priv.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/simple.h"

#define WAKE_ALL (POLLIN | POLLOUT | POLLHUP | POLLERR | POLLRDHUP)
#define BACKLOG_MAX 4096 /* net.core.somaxconn */

STATE_DESC(unix_sock, S_EMBED(unix_sock, 1, s, socket), S_VAL(unix_sock, 2, state),
	   S_REF(unix_sock, 3, peer, unix_sock), S_VAL(unix_sock, 4, shut), S_VAL(unix_sock, 5, embryo),
	   S_NOSAVE(unix_sock, bind_mu, "unheld at a safe point"), S_REF(unix_sock, 6, name, unix_name),
	   S_NOSAVE(unix_sock, name_node, "linked again by name"), S_NOSAVE(unix_sock, ns_node, "linked again"),
	   S_NOSAVE(unix_sock, binding, "points to its own socket"), S_EMBED(unix_sock, 7, path, path),
	   S_NOSAVE(unix_sock, recv_mu, "unheld at a safe point"), S_LIST(unix_sock, 8, queue, unix_msg),
	   S_NOSAVE(unix_sock, queued_bytes, "recounted"), S_NOSAVE(unix_sock, queued_count, "recounted"),
	   S_LIST(unix_sock, 9, accept_queue, unix_sock),
	   S_NOSAVE(unix_sock, accept_node, "part of the listener's list"),
	   S_NOSAVE(unix_sock, accept_count, "recounted"), S_VAL(unix_sock, 10, backlog),
	   S_NOSAVE(unix_sock, room_waitq, "waiters register again"),
	   S_NOSAVE(unix_sock, relay_mu, "unheld at a safe point"),
	   S_NOSAVE(unix_sock, relay, "set again by the next full queue"),
	   S_NOSAVE(unix_sock, relay_to, "set again by the next full queue"),
	   S_REF(unix_sock, 11, owner_pid, pid), S_REF(unix_sock, 12, owner_cred, cred),
	   S_REF(unix_sock, 13, peer_pid, pid), S_REF(unix_sock, 14, peer_cred, cred),
	   S_NOSAVE(unix_sock, ino, "of the file"), S_WEAK(unix_sock, 15, file, file),
	   S_NOSAVE(unix_sock, in_flight, "recounted from the queues"),
	   S_NOSAVE(unix_sock, flight_node, "linked again"), S_NOSAVE(unix_sock, gc_refs, "scratch"),
	   S_NOSAVE(unix_sock, gc_candidate, "scratch"), S_NOSAVE(unix_sock, gc_reached, "scratch"));

static const struct socket_ops unix_ops;

static void relay_wake(struct waitq_entry *e, uint32_t events)
{
	waitq_wake(&container_of(e, struct unix_sock, relay)->s.waitq, events);
}

void unix_relay_set(struct unix_sock *u, struct unix_sock *target)
{
	struct unix_sock *old;

	mutex_lock(&u->relay_mu);
	old = u->relay_to;
	if (old == target) {
		mutex_unlock(&u->relay_mu);
		return;
	}
	waitq_remove(&u->relay);
	u->relay_to = target ? unix_get(target) : NULL;
	if (target)
		waitq_add(&target->room_waitq, &u->relay);
	mutex_unlock(&u->relay_mu);
	unix_put(old);
}

void unix_relay_clear(struct unix_sock *u)
{
	unix_relay_set(u, NULL);
}

static int unix_new(struct net_ns *net, int type, struct unix_sock **ret_sock)
{
	struct unix_sock *u = calloc(1, sizeof(*u));

	if (!u)
		return -ENOMEM;
	socket_init(&u->s, &unix_ops, net, AF_UNIX, type, 0);
	mutex_init(&u->bind_mu, LOCK_FILE_POS);
	mutex_init(&u->recv_mu, LOCK_SOCKET_READ);
	mutex_init(&u->relay_mu, LOCK_OBJECT);
	waitq_init(&u->room_waitq);
	list_init(&u->name_node);
	list_init(&u->queue);
	list_init(&u->accept_queue);
	list_init(&u->accept_node);
	list_init(&u->flight_node);
	list_init(&u->relay.node);
	u->relay.events = POLLOUT;
	u->relay.wake = relay_wake;
	mutex_lock(&net->names_mu);
	list_add_tail(&net->sockets, &u->ns_node);
	mutex_unlock(&net->names_mu);
	*ret_sock = u;
	return 0;
}

static void unix_free(struct socket *s)
{
	struct unix_sock *u = unix_of(s);

	unix_name_put(u->name);
	if (u->owner_pid)
		pid_put(u->owner_pid);
	if (u->peer_pid)
		pid_put(u->peer_pid);
	if (u->owner_cred)
		cred_put(u->owner_cred);
	if (u->peer_cred)
		cred_put(u->peer_cred);
	waitq_fini(&u->room_waitq);
	mutex_fini(&u->relay_mu);
	mutex_fini(&u->recv_mu);
	mutex_fini(&u->bind_mu);
	socket_fini(s);
	free(u);
}

/* Ends u's part in everything: its peer sees the end, its queues are thrown away. */
static void unix_disconnect(struct unix_sock *u)
{
	struct list_node dead = LIST_INIT(dead), waiting = LIST_INIT(waiting);
	struct unix_sock *peer, *e;
	struct unix_msg *m;
	bool reset;

	mutex_lock(&unix_gc_mu);
	mutex_lock_nested(&u->s.mu);
	u->state = UNIX_CLOSED;
	u->shut = UNIX_SHUT_RCV | UNIX_SHUT_SND;
	peer = TAKE(u->peer);
	reset = u->embryo || !list_empty(&u->queue);
	unix_queue_take(u, &dead);
	list_splice_tail(&waiting, &u->accept_queue);
	mutex_unlock(&u->s.mu);
	list_for_each(m, &dead, node)
		if (m->files)
			unix_in_flight_del(m->files);
	mutex_unlock(&unix_gc_mu);

	if (peer && u->s.type != SOCK_DGRAM) {
		mutex_lock(&peer->s.mu);
		peer->shut = UNIX_SHUT_RCV | UNIX_SHUT_SND;
		if (reset)
			peer->s.error = ECONNRESET;
		mutex_unlock(&peer->s.mu);
		waitq_wake(&peer->s.waitq, WAKE_ALL);
	}
	unix_put(peer);
	unix_relay_clear(u);
	waitq_wake(&u->room_waitq, WAKE_ALL);
	unix_msgs_free(&dead);
	while ((e = list_first(&waiting, struct unix_sock, accept_node)) != NULL) {
		list_del(&e->accept_node);
		unix_unbind(e);
		unix_disconnect(e);
		unix_put(e);
	}
}

static void unix_close(struct socket *s)
{
	struct unix_sock *u = unix_of(s);

	unix_unbind(u);
	unix_disconnect(u);
	unix_gc();
}

/* Notes the calling process as the one that peers are shown. mu is held. */
static void set_owner(struct unix_sock *u)
{
	struct pid *old_pid = u->owner_pid;
	const struct cred *old_cred = u->owner_cred;

	u->owner_pid = pid_get(current->tg->pid);
	u->owner_cred = cred_get(current->cred);
	if (old_pid)
		pid_put(old_pid);
	if (old_cred)
		cred_put(old_cred);
}

/* u's peer is shown as owner_* of `of`; nobody else looks at u's or of's yet, or their mu is held. */
static void set_peer_cred(struct unix_sock *u, struct pid *pid, const struct cred *cred)
{
	if (u->peer_pid)
		pid_put(u->peer_pid);
	if (u->peer_cred)
		cred_put(u->peer_cred);
	u->peer_pid = pid ? pid_get(pid) : NULL;
	u->peer_cred = cred ? cred_get(cred) : NULL;
}

static int dgram_connect(struct unix_sock *u, const struct sock_addr *a)
{
	struct unix_sock *target = NULL, *old;
	int ret;

	if (a->family != AF_UNSPEC) {
		if (u->s.pass_cred) {
			ret = unix_autobind(u);
			if (ret < 0)
				return ret;
		}
		ret = unix_lookup(u, a, &target);
		if (ret < 0)
			return ret;
		if (target->state == UNIX_CLOSED || (target->peer && target->peer != u)) {
			ret = target->state == UNIX_CLOSED ? -ECONNREFUSED : -EPERM;
			unix_put(target);
			return ret;
		}
	}
	mutex_lock(&u->s.mu);
	old = u->peer;
	u->peer = target;
	u->state = target ? UNIX_CONNECTED : UNIX_UNCONNECTED;
	mutex_unlock(&u->s.mu);
	unix_put(old);
	unix_relay_clear(u);
	waitq_wake(&u->s.waitq, POLLOUT);
	return 0;
}

/* Puts a new connection from u into the listener's queue: -EAGAIN when it is full. */
static int listener_enqueue(struct unix_sock *l, struct unix_sock *embryo, struct unix_sock *u)
{
	GUARD(mutex, &l->s.mu);

	if (l->state != UNIX_LISTENING || (l->shut & UNIX_SHUT_RCV))
		return -ECONNREFUSED;
	if (atomic_load(&l->accept_count) > l->backlog)
		return -EAGAIN;
	embryo->name = unix_name_get(unix_name_of(l));
	embryo->s.pass_cred = l->s.pass_cred;
	set_peer_cred(embryo, current->tg->pid, current->cred);
	set_peer_cred(u, l->owner_pid, l->owner_cred);
	list_add_tail(&l->accept_queue, &embryo->accept_node);
	unix_get(embryo); /* the queue's */
	atomic_fetch_add(&l->accept_count, 1);
	return 0;
}

static int stream_connect_to(struct unix_sock *u, struct unix_sock *listener)
{
	struct unix_sock *embryo;
	int ret = unix_new(u->s.net, u->s.type, &embryo);

	if (ret < 0)
		return ret;
	embryo->peer = unix_get(u);
	embryo->state = UNIX_CONNECTED;
	embryo->embryo = true;
	ret = listener_enqueue(listener, embryo, u);
	if (ret == -EAGAIN) {
		unix_relay_set(u, listener);
		ret = listener_enqueue(listener, embryo, u);
	}
	mutex_lock(&u->s.mu);
	if (ret == 0) {
		u->peer = embryo; /* reference handed over */
		u->state = UNIX_CONNECTED;
	} else {
		u->state = UNIX_UNCONNECTED;
	}
	mutex_unlock(&u->s.mu);
	if (ret == 0) {
		unix_relay_clear(u);
		waitq_wake(&listener->s.waitq, POLLIN);
		waitq_wake(&u->s.waitq, POLLOUT);
		return 0;
	}
	unix_unbind(embryo);
	unix_put(TAKE(embryo->peer));
	unix_put(embryo);
	return ret;
}

static int unix_connect(struct socket *s, const struct sock_addr *a, bool nonblock UNUSED)
{
	struct unix_sock *u = unix_of(s);
	struct unix_sock *listener;
	int ret;

	if (a->size < sizeof(a->family))
		return -EINVAL;
	if (s->type == SOCK_DGRAM)
		return dgram_connect(u, a);
	ret = unix_addr_check(a);
	if (ret < 0)
		return ret;
	if (s->pass_cred) {
		ret = unix_autobind(u);
		if (ret < 0)
			return ret;
	}
	ret = unix_lookup(u, a, &listener);
	if (ret < 0)
		return ret;
	/* Claims the socket, so that nothing else happens to it until the listener has answered. */
	mutex_lock(&s->mu);
	ret = u->state == UNIX_UNCONNECTED ? 0 :
	      u->state == UNIX_CONNECTED   ? -EISCONN :
	      u->state == UNIX_CONNECTING  ? -EALREADY :
					     -EINVAL;
	if (ret == 0)
		u->state = UNIX_CONNECTING;
	mutex_unlock(&s->mu);
	if (ret == 0)
		ret = stream_connect_to(u, listener);
	unix_put(listener);
	return ret;
}

static int unix_listen(struct socket *s, int backlog)
{
	struct unix_sock *u = unix_of(s);

	if (s->type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	if (!unix_name_of(u))
		return -EINVAL;
	GUARD(mutex, &s->mu);
	if (u->state != UNIX_UNCONNECTED && u->state != UNIX_LISTENING)
		return -EINVAL;
	u->state = UNIX_LISTENING;
	u->backlog = backlog < 0 || backlog > BACKLOG_MAX ? BACKLOG_MAX : (unsigned)backlog;
	set_owner(u);
	waitq_wake(&u->room_waitq, POLLOUT);
	return 0;
}

static int unix_accept(struct socket *s, struct socket **ret_socket)
{
	struct unix_sock *u = unix_of(s), *e;

	if (s->type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	mutex_lock(&s->mu);
	if (u->state != UNIX_LISTENING) {
		mutex_unlock(&s->mu);
		return -EINVAL;
	}
	e = list_first(&u->accept_queue, struct unix_sock, accept_node);
	if (!e) {
		int ret = u->shut & UNIX_SHUT_RCV ? -EINVAL : -EAGAIN;

		mutex_unlock(&s->mu);
		return ret;
	}
	list_del(&e->accept_node);
	atomic_fetch_sub(&u->accept_count, 1);
	mutex_unlock(&s->mu);
	mutex_lock(&e->s.mu);
	e->embryo = false;
	mutex_unlock(&e->s.mu);
	waitq_wake(&u->room_waitq, POLLOUT);
	*ret_socket = &e->s;
	return 0;
}

static int unix_getname(struct socket *s, bool peer, struct sock_addr *ret_addr)
{
	struct unix_sock *u = unix_of(s);
	struct unix_name *name;
	GUARD(mutex, &s->mu);

	if (peer && !u->peer)
		return -ENOTCONN;
	name = unix_name_of(peer ? u->peer : u);
	ret_addr->size = name ? name->size : sizeof(ret_addr->family);
	ret_addr->family = AF_UNIX;
	if (name)
		memcpy(ret_addr->raw, &name->sun, name->size);
	return 0;
}

static int unix_shutdown(struct socket *s, int how)
{
	struct unix_sock *u = unix_of(s), *peer = NULL;
	uint8_t mine = (uint8_t)(how + 1); /* SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2: the bits of their plus one */
	uint8_t theirs = (uint8_t)((mine & UNIX_SHUT_RCV ? UNIX_SHUT_SND : 0) | (mine & UNIX_SHUT_SND ? UNIX_SHUT_RCV : 0));

	mutex_lock(&s->mu);
	if (s->type != SOCK_DGRAM && u->state != UNIX_CONNECTED && u->state != UNIX_LISTENING) {
		mutex_unlock(&s->mu);
		return -ENOTCONN;
	}
	u->shut |= mine;
	if (u->peer && s->type != SOCK_DGRAM)
		peer = unix_get(u->peer);
	mutex_unlock(&s->mu);
	if (peer) {
		mutex_lock(&peer->s.mu);
		peer->shut |= theirs;
		mutex_unlock(&peer->s.mu);
		waitq_wake(&peer->s.waitq, WAKE_ALL);
		unix_put(peer);
	}
	waitq_wake(&s->waitq, WAKE_ALL);
	return 0;
}

static uint32_t unix_poll(struct socket *s, uint32_t events)
{
	struct unix_sock *u = unix_of(s);
	uint32_t ready = 0;
	bool connectionless = s->type == SOCK_DGRAM;

	mutex_lock(&s->mu);
	if (atomic_load(&s->error))
		ready |= POLLERR;
	if (u->shut == (UNIX_SHUT_RCV | UNIX_SHUT_SND))
		ready |= POLLHUP;
	if (u->shut & UNIX_SHUT_RCV)
		ready |= POLLRDHUP | POLLIN | POLLRDNORM;
	if (!list_empty(&u->queue) || !list_empty(&u->accept_queue))
		ready |= POLLIN | POLLRDNORM;
	if (!connectionless && u->state == UNIX_UNCONNECTED)
		ready |= POLLHUP;
	mutex_unlock(&s->mu);
	if ((events & (POLLOUT | POLLWRNORM | POLLWRBAND)) && unix_writable(u))
		ready |= POLLOUT | POLLWRNORM | POLLWRBAND;
	return ready;
}

static int get_peer_cred(struct unix_sock *u, void *value, size_t *size)
{
	struct ucred c = { 0, (uid_t)-1, (gid_t)-1 };
	struct user_ns *ns = current->cred->user_ns;

	mutex_lock(&u->s.mu);
	if (u->peer_pid)
		c.pid = pid_nr_in(u->peer_pid, task_pid_ns(current));
	if (u->peer_cred) {
		c.uid = user_ns_from_kuid_munged(ns, u->peer_cred->euid);
		c.gid = user_ns_from_kgid_munged(ns, u->peer_cred->egid);
	}
	mutex_unlock(&u->s.mu);
	*size = MIN(*size, sizeof(c));
	memcpy(value, &c, *size);
	return 0;
}

static int get_peer_groups(struct unix_sock *u, void *value, size_t *size)
{
	struct user_ns *ns = current->cred->user_ns;
	gid_t *out = value;
	size_t need;
	GUARD(mutex, &u->s.mu);

	if (!u->peer_cred)
		return -ENODATA;
	need = u->peer_cred->group_count * sizeof(*out);
	if (*size < need) {
		*size = need;
		return -ERANGE;
	}
	for (unsigned i = 0; i < u->peer_cred->group_count; i++)
		out[i] = user_ns_from_kgid_munged(ns, u->peer_cred->groups[i]);
	*size = need;
	return 0;
}

static int unix_getsockopt(struct socket *s, int level, int name, void *value, size_t *size)
{
	struct unix_sock *u = unix_of(s);
	int v;

	if (level != SOL_SOCKET)
		return -EOPNOTSUPP;
	switch (name) {
	case SO_PEERCRED:
		return get_peer_cred(u, value, size);
	case SO_PEERGROUPS:
		return get_peer_groups(u, value, size);
	case SO_ACCEPTCONN:
		v = u->state == UNIX_LISTENING;
		*size = MIN(*size, sizeof(v));
		memcpy(value, &v, *size);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int unix_setsockopt(struct socket *s UNUSED, int level, int name UNUSED, const void *value UNUSED, size_t size UNUSED)
{
	return level == SOL_SOCKET ? -ENOPROTOOPT : -EOPNOTSUPP;
}

static int64_t unix_ioctl(struct socket *s, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct unix_sock *u = unix_of(s);
	struct unix_msg *m;
	int32_t n = 0;

	if (cmd != SIOCINQ && cmd != SIOCOUTQ)
		return -ENOTTY;
	mutex_lock(&s->mu);
	if (u->state == UNIX_LISTENING) {
		mutex_unlock(&s->mu);
		return -EINVAL;
	}
	if (cmd == SIOCOUTQ) {
		n = u->peer ? (int32_t)atomic_load(&u->peer->queued_bytes) : 0;
	} else if (s->type == SOCK_DGRAM) {
		m = list_first(&u->queue, struct unix_msg, node);
		n = m ? (int32_t)(m->end - m->start) : 0;
	} else {
		list_for_each(m, &u->queue, node)
			n += (int32_t)(m->end - m->start);
	}
	mutex_unlock(&s->mu);
	return copy_out_struct(um, UADDR(arg), &n);
}

static void unix_opened(struct socket *s, struct file *f)
{
	__atomic_store_n(&unix_of(s)->ino, f->inode->ino, __ATOMIC_RELAXED);
}

static const struct socket_ops unix_ops = {
	.name = "unix",
	.close = unix_close,
	.free = unix_free,
	.bind = unix_bind,
	.connect = unix_connect,
	.listen = unix_listen,
	.accept = unix_accept,
	.getname = unix_getname,
	.send = unix_send,
	.recv = unix_recv,
	.shutdown = unix_shutdown,
	.setsockopt = unix_setsockopt,
	.getsockopt = unix_getsockopt,
	.poll = unix_poll,
	.ioctl = unix_ioctl,
	.opened = unix_opened,
};

static int unix_type(int *type, int protocol)
{
	if (protocol != 0 && protocol != AF_UNIX)
		return -EPROTONOSUPPORT;
	if (*type == SOCK_RAW)
		*type = SOCK_DGRAM;
	return *type == SOCK_STREAM || *type == SOCK_DGRAM || *type == SOCK_SEQPACKET ? 0 : -ESOCKTNOSUPPORT;
}

static int unix_create(struct net_ns *net, int type, int protocol, struct socket **ret_socket)
{
	struct unix_sock *u;
	int ret = unix_type(&type, protocol);

	if (ret == 0)
		ret = unix_new(net, type, &u);
	if (ret == 0)
		*ret_socket = &u->s;
	return ret;
}

static int unix_pair(struct net_ns *net, int type, int protocol, struct socket *ret_pair[2])
{
	struct unix_sock *a, *b;
	int ret = unix_type(&type, protocol);

	if (ret == 0)
		ret = unix_new(net, type, &a);
	if (ret < 0)
		return ret;
	ret = unix_new(net, type, &b);
	if (ret < 0) {
		unix_unbind(a);
		unix_put(a);
		return ret;
	}
	a->peer = unix_get(b);
	b->peer = unix_get(a);
	a->state = b->state = UNIX_CONNECTED;
	set_peer_cred(a, current->tg->pid, current->cred);
	set_peer_cred(b, current->tg->pid, current->cred);
	ret_pair[0] = &a->s;
	ret_pair[1] = &b->s;
	return 0;
}

/* One row of /proc/net/unix. names_mu is held. */
static void show_one(struct unix_sock *u, struct seq *q)
{
	struct unix_name *name = unix_name_of(u);
	const char *path = name ? name->sun.sun_path : NULL;
	size_t size = name ? name->size - offsetof(struct sockaddr_un, sun_path) : 0;
	unsigned state = u->state == UNIX_CONNECTED ? 3 : u->state == UNIX_CONNECTING ? 2 : 1; /* SS_* */

	seq_printf(q, "%016x: %08X %08X %08X %04X %02X %5llu", 0, refcount_read(&u->s.refs), 0,
		   u->state == UNIX_LISTENING ? 0x10000 : 0, (unsigned)u->s.type, state,
		   (unsigned long long)__atomic_load_n(&u->ino, __ATOMIC_RELAXED));
	if (size) {
		seq_putc(q, ' ');
		for (size_t i = 0; i < size && (path[i] || (i == 0 || path[0] == 0)); i++)
			seq_putc(q, path[i] ? path[i] : '@');
	}
	seq_putc(q, '\n');
}

static void unix_show(struct net_ns *ns, struct seq *q)
{
	struct unix_sock *u;
	GUARD(mutex, &ns->names_mu);

	list_for_each(u, &ns->sockets, ns_node)
		show_one(u, q);
}

static const struct socket_family unix_family = { AF_UNIX, unix_create, unix_pair };

void unix_family_init(void)
{
	mutex_init(&unix_gc_mu, LOCK_SOCKET_GC);
	net_proc_unix_hook = unix_show;
	socket_family_register(&unix_family);
}

STATE_DESC(unix_name,
	   S_NOSAVE(unix_name, refs, "recounted from the references"),
	   S_VAL(unix_name, 1, size),
	   S_VAL(unix_name, 2, sun));
