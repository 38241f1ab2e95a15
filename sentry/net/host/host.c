/*
 * Internet sockets by pass-through: a guest socket is a host socket in the sandbox's own network
 * namespace. The descriptor never leaves this file; guest buffers are pinned and handed to the host call.
 */
#include <netinet/in.h>
#include <netinet/ip.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>

#include "platform/host/notifier.h"
#include "platform/host/socket.h"
#include "sentry/core/cause.h"
#include "sentry/fs/proc/sysctl.h"
#include "sentry/kernel/task.h"
#include "sentry/net/core/cmsg.h"
#include "sentry/net/core/socket.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/simple.h"

#define CAP_NET_BIND_SERVICE_NR 10
#define CAP_NET_ADMIN_NR 12
#define SEND_FLAGS (MSG_OOB | MSG_DONTROUTE | MSG_EOR | MSG_MORE | MSG_CONFIRM)
#define RECV_FLAGS (MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_ERRQUEUE)
#define RECV_CONTROL 512
#define TCP_CLOSE_STATE 7 /* TCP_CLOSE; its header and linux/tcp.h do not go together */
#define BOUNCE_MAX 65536

struct host_sock {
	struct socket s;
	struct list_node node; /* all_mu */
	uint64_t ino;	       /* all_mu; of the file, 0: none yet */
	kuid_t uid;	       /* const: who made it */
	int fd;		       /* const; open while on the list */
	bool watched; /* s.mu */
	struct host_watch watch;
	/* The notifier's first report repeats what was there before anybody waited. It is dropped when all of it
	 * was told to the guest (told) and no transfer was made since (moved), so that an edge-triggered
	 * epoll does not see an edge where none was. */
	_Atomic bool first_report;
	_Atomic uint32_t told;
	_Atomic bool moved;
};

STATE_DESC(host_sock, S_EMBED(host_sock, 1, s, socket), S_NOSAVE(host_sock, node, "linked again"),
	   S_NOSAVE(host_sock, ino, "of the file"), S_VAL(host_sock, 2, uid),
	   S_NOSAVE(host_sock, fd, "connections do not survive; listeners are opened again"),
	   S_NOSAVE(host_sock, watched, "watched again"), S_NOSAVE(host_sock, watch, "watched again"),
	   S_NOSAVE(host_sock, first_report, "watched again"), S_NOSAVE(host_sock, told, "watched again"),
	   S_NOSAVE(host_sock, moved, "watched again"));

static const struct socket_ops host_ops;

static struct mutex all_mu; /* LOCK_OBJECT: sockets that have a descriptor, for /proc/net */
static struct list_node all = LIST_INIT(all);

static struct host_sock *host_of(struct socket *s)
{
	return container_of(s, struct host_sock, s);
}

static void host_ready(struct host_watch *w, uint32_t events)
{
	struct host_sock *h = container_of(w, struct host_sock, watch);

	if (atomic_exchange(&h->first_report, false) && !(events & ~h->told) && !h->moved)
		return;
	waitq_wake(&h->s.waitq, events);
}

/* A socket object around fd, which it takes over on success. */
static int host_wrap(struct net_ns *net, int family, int type, int protocol, int fd, struct socket **ret_socket)
{
	struct host_sock *h = calloc(1, sizeof(*h));

	if (!h)
		return -ENOMEM;
	socket_init(&h->s, &host_ops, net, family, type, protocol);
	h->fd = fd;
	h->watch.fd = fd;
	h->watch.ready = host_ready;
	h->uid = current ? current->cred->fsuid : KUID(0);
	mutex_lock(&all_mu);
	list_add_tail(&all, &h->node);
	mutex_unlock(&all_mu);
	*ret_socket = &h->s;
	return 0;
}

/* The protocol number by type: 0 stands for the type's own. */
static int host_protocol(int family, int type, int *protocol)
{
	int icmp = family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6;

	if (*protocol < 0 || *protocol >= IPPROTO_MAX)
		return -EINVAL;
	switch (type) {
	case SOCK_STREAM:
		*protocol = *protocol ? *protocol : IPPROTO_TCP;
		return *protocol == IPPROTO_TCP ? 0 : -EPROTONOSUPPORT;
	case SOCK_DGRAM:
		*protocol = *protocol ? *protocol : IPPROTO_UDP;
		return *protocol == IPPROTO_UDP || *protocol == IPPROTO_UDPLITE || *protocol == icmp ? 0 : -EPROTONOSUPPORT;
	case SOCK_RAW:
		/* No raw packets from a sandbox. */
		return *protocol ? -EPERM : -EPROTONOSUPPORT;
	default:
		return -ESOCKTNOSUPPORT;
	}
}

static int host_create(int family, struct net_ns *net, int type, int protocol, struct socket **ret_socket)
{
	int ret = host_protocol(family, type, &protocol), fd;

	if (ret < 0)
		return ret;
	if (!net->host)
		return cause(EAFNOSUPPORT, CAUSE_UNSUPPORTED, "internet sockets in a network namespace made inside");
	fd = net->maker ? net->maker->make(net->maker, family, type, protocol) : host_socket(family, type, protocol);
	if (fd < 0)
		return fd;
	ret = host_wrap(net, family, type, protocol, fd, ret_socket);
	if (ret < 0)
		host_close(fd);
	return ret;
}

static int host_create4(struct net_ns *net, int type, int protocol, struct socket **ret_socket)
{
	return host_create(AF_INET, net, type, protocol, ret_socket);
}

static int host_create6(struct net_ns *net, int type, int protocol, struct socket **ret_socket)
{
	return host_create(AF_INET6, net, type, protocol, ret_socket);
}

static void host_sock_close(struct socket *s)
{
	struct host_sock *h = host_of(s);

	mutex_lock(&all_mu);
	list_del(&h->node);
	mutex_unlock(&all_mu);
	notifier_remove(&h->watch);
	host_close(h->fd);
}

static void host_free(struct socket *s)
{
	socket_fini(s);
	free(host_of(s));
}

/* Only whole internet addresses go to the host. */
static int addr_check(const struct socket *s, const struct sock_addr *a, bool unspec_ok)
{
	if (a->size < sizeof(a->family))
		return -EINVAL;
	if (a->family == AF_UNSPEC && unspec_ok)
		return 0;
	if (s->family == AF_INET)
		return a->size < sizeof(struct sockaddr_in) ? -EINVAL :
		       a->family == AF_INET		    ? 0 :
							      -EAFNOSUPPORT;
	/* A v6 socket may be given v4 addresses in sendto; the host says what it thinks of them. */
	if (a->family == AF_INET)
		return a->size < sizeof(struct sockaddr_in) ? -EINVAL : 0;
	return a->family != AF_INET6 ? -EAFNOSUPPORT : a->size < 24 ? -EINVAL : 0;
}

static int host_sock_bind(struct socket *s, const struct sock_addr *a)
{
	struct sockaddr_in sin;
	uint16_t port;
	int ret = addr_check(s, a, s->family == AF_INET && a->size >= sizeof(struct sockaddr_in));

	if (ret < 0)
		return ret;
	memcpy(&sin, a->raw, sizeof(sin)); /* the port is at the same place in both families */
	port = ntohs(sin.sin_port);
	if (port != 0 && port < sysctl_int("net/ipv4/ip_unprivileged_port_start") &&
	    !task_capable_ns(current, s->net->user_ns, CAP_NET_BIND_SERVICE_NR))
		return -EACCES;
	return host_bind(host_of(s)->fd, a->raw, a->size);
}

static int host_sock_connect(struct socket *s, const struct sock_addr *a, bool nonblock)
{
	int ret = addr_check(s, a, true);

	if (ret < 0)
		return ret;
	ret = host_connect(host_of(s)->fd, a->raw, a->size);
	/* A restarted blocking call goes on waiting for the first one's handshake. */
	if (ret == -EALREADY && !nonblock)
		return -EINPROGRESS;
	/* The host's lack of local ports must not look like "wait for room". */
	return ret == -EAGAIN ? -EADDRNOTAVAIL : ret;
}

static int host_connect_result(struct socket *s)
{
	struct host_sock *h = host_of(s);
	uint8_t peer[SOCK_ADDR_MAX];
	uint32_t peer_size;
	size_t size = sizeof(int);
	int err = 0, ret;

	if (!host_poll_fd(h->fd, POLLOUT))
		return -EAGAIN;
	ret = host_getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &err, &size);
	if (ret < 0 || err)
		return ret < 0 ? ret : -err;
	/* A second connect tells the host's socket that its connection was noticed: the next one is -EISCONN. */
	peer_size = sizeof(peer);
	if (host_getname(h->fd, true, peer, &peer_size) == 0 && host_connect(h->fd, peer, peer_size) < 0)
		return 0; /* gone again already: reads will say so */
	return 0;
}

static int host_sock_listen(struct socket *s, int backlog)
{
	return s->type != SOCK_STREAM ? -EOPNOTSUPP : host_listen(host_of(s)->fd, backlog);
}

static int host_sock_accept(struct socket *s, struct socket **ret_socket)
{
	int ret, fd;

	if (s->type != SOCK_STREAM)
		return -EOPNOTSUPP;
	host_of(s)->moved = true;
	fd = host_accept(host_of(s)->fd);
	if (fd < 0)
		return fd;
	ret = host_wrap(s->net, s->family, s->type, s->protocol, fd, ret_socket);
	if (ret < 0)
		host_close(fd);
	return ret;
}

static int host_sock_getname(struct socket *s, bool peer, struct sock_addr *ret_addr)
{
	uint32_t size = sizeof(ret_addr->raw);
	int ret = host_getname(host_of(s)->fd, peer, ret_addr->raw, &size);

	if (ret == 0)
		ret_addr->size = MIN(size, (uint32_t)SOCK_ADDR_MAX);
	return ret;
}

static int host_sock_shutdown(struct socket *s, int how)
{
	return host_shutdown(host_of(s)->fd, how);
}

/* Control messages that may go to the host. */
static bool cmsg_allowed(const struct cmsg_item *it)
{
	switch (it->level) {
	case IPPROTO_IP:
		return it->type == IP_TOS || it->type == IP_TTL || it->type == IP_PKTINFO;
	case IPPROTO_IPV6:
		return it->type == IPV6_PKTINFO || it->type == IPV6_HOPLIMIT || it->type == IPV6_TCLASS ||
		       it->type == IPV6_DONTFRAG;
	case IPPROTO_UDP:
		return it->type == UDP_SEGMENT;
	default:
		return false;
	}
}

static int control_check(const struct sock_control *c)
{
	struct cmsg_iter it = { .buf = c->other, .size = c->other_size };
	struct cmsg_item item;
	int ret;

	while ((ret = cmsg_next(&it, &item)) > 0)
		if (!cmsg_allowed(&item))
			return -EINVAL;
	return ret;
}

/* The next bytes of the transfer as host memory: pinned guest pages, or for a datagram in too many
 * pieces a bounce buffer (*ret_bounce, to be freed). */
static int64_t transfer_pin(struct socket *s, struct uio *u, bool write, struct umem_pin *pin, void **ret_bounce)
{
	int64_t n = u->resid ? uio_pin(u, u->resid, write, pin) : 0;
	void *bounce;
	size_t size;

	*ret_bounce = NULL;
	if (u->resid == 0) {
		pin->count = pin->ref_count = 0;
		pin->size = 0;
		return 0;
	}
	if (n < 0 || s->type == SOCK_STREAM || (uint64_t)n == u->resid)
		return n;
	uio_unpin(u, pin);
	size = MIN(u->resid, (uint64_t)BOUNCE_MAX);
	bounce = malloc(size);
	if (!bounce)
		return -ENOMEM;
	if (!write) {
		struct uio copy = *u;

		if (copy.seg == &u->one)
			copy.seg = &copy.one;
		if (u->resid > BOUNCE_MAX || uio_read(&copy, bounce, size) != (int64_t)size) {
			free(bounce);
			return u->resid > BOUNCE_MAX ? -EMSGSIZE : -EFAULT;
		}
	}
	pin->count = 1;
	pin->ref_count = 0;
	pin->iov[0] = (struct iovec){ bounce, size };
	pin->size = size;
	*ret_bounce = bounce;
	return (int64_t)size;
}

static int64_t host_sock_send(struct socket *s, struct sock_msg *m)
{
	struct host_sock *h = host_of(s);
	struct sock_addr to;
	struct umem_pin pin;
	struct msghdr mh = { 0 };
	void *bounce;
	int64_t ret;

	if (m->flags & MSG_FASTOPEN)
		return -EOPNOTSUPP;
	if (m->to) {
		ret = addr_check(s, m->to, true);
		if (ret < 0)
			return ret;
		to = *m->to;
		mh.msg_name = to.raw;
		mh.msg_namelen = to.size;
	}
	ret = control_check(m->control);
	if (ret < 0)
		return ret;
	ret = transfer_pin(s, m->uio, false, &pin, &bounce);
	if (ret < 0)
		return ret;
	mh.msg_iov = pin.iov;
	mh.msg_iovlen = pin.count;
	mh.msg_control = m->control->other;
	mh.msg_controllen = m->control->other_size;
	h->moved = true;
	ret = host_sendmsg(h->fd, &mh, (int)(m->flags & SEND_FLAGS));
	if (bounce)
		free(bounce);
	else if (m->uio->resid)
		uio_unpin(m->uio, &pin);
	if (ret > 0)
		uio_advance(m->uio, (uint64_t)ret);
	return ret;
}

/* What the host said about a message, for the guest. */
static void control_take(struct sock_msg *m, struct msghdr *mh)
{
	if (mh->msg_controllen == 0)
		return;
	m->control->other = malloc(mh->msg_controllen);
	if (!m->control->other) {
		m->control->other_truncated = true;
		return;
	}
	memcpy(m->control->other, mh->msg_control, mh->msg_controllen);
	m->control->other_size = mh->msg_controllen;
}

static int64_t host_sock_recv(struct socket *s, struct sock_msg *m)
{
	struct host_sock *h = host_of(s);
	_Alignas(8) uint8_t control[RECV_CONTROL];
	struct umem_pin pin;
	struct msghdr mh = { 0 };
	void *bounce;
	int64_t ret = transfer_pin(s, m->uio, true, &pin, &bounce), moved;

	if (ret < 0)
		return ret;
	mh.msg_iov = pin.iov;
	mh.msg_iovlen = pin.count;
	if (m->from) {
		mh.msg_name = m->from->raw;
		mh.msg_namelen = sizeof(m->from->raw);
	}
	mh.msg_control = control;
	mh.msg_controllen = sizeof(control);
	h->moved = true;
	ret = host_recvmsg(h->fd, &mh, (int)(m->flags & RECV_FLAGS));
	moved = MIN(ret, (int64_t)pin.size);
	if (bounce && moved > 0 && uio_write(m->uio, bounce, (size_t)moved) != moved)
		ret = -EFAULT;
	if (bounce) {
		free(bounce);
	} else if (m->uio->resid) {
		uio_unpin(m->uio, &pin);
		if (moved > 0)
			uio_advance(m->uio, (uint64_t)moved);
	}
	if (ret < 0)
		return ret;
	if (m->from)
		m->from->size = MIN(mh.msg_namelen, (socklen_t)SOCK_ADDR_MAX);
	m->out_flags = (uint32_t)mh.msg_flags & (MSG_TRUNC | MSG_EOR | MSG_OOB | MSG_ERRQUEUE);
	m->control->other_truncated = mh.msg_flags & MSG_CTRUNC;
	control_take(m, &mh);
	return ret;
}

static const struct host_opt {
	int level, name;
	bool set, get;
	uint16_t size;
} host_opts[] = {
#define HOSTOPT(level, name, set, get, size) { level, name, set, get, size },
#include "sentry/net/host/sockopt.def"
#undef HOSTOPT
};

static const struct host_opt *opt_find(int level, int name)
{
	for (size_t i = 0; i < ARRAY_COUNT(host_opts); i++)
		if (host_opts[i].level == level && host_opts[i].name == name)
			return &host_opts[i];
	return NULL;
}

static int host_sock_setsockopt(struct socket *s, int level, int name, const void *value, size_t size)
{
	const struct host_opt *o = opt_find(level, name);

	if (level == SOL_SOCKET && (name == SO_SNDBUFFORCE || name == SO_RCVBUFFORCE)) {
		if (!task_capable_ns(current, s->net->user_ns, CAP_NET_ADMIN_NR))
			return -EPERM;
		name = name == SO_SNDBUFFORCE ? SO_SNDBUF : SO_RCVBUF; /* within the host's limits */
		o = opt_find(level, name);
	}
	if (!o || !o->set)
		return -ENOPROTOOPT;
	return host_setsockopt(host_of(s)->fd, level, name, value, MIN(size, (size_t)o->size));
}

static int host_sock_getsockopt(struct socket *s, int level, int name, void *value, size_t *size)
{
	static const struct ucred nobody = { 0, (uid_t)-1, (gid_t)-1 };
	const struct host_opt *o = opt_find(level, name);

	if (level == SOL_SOCKET && name == SO_PEERCRED) {
		*size = MIN(*size, sizeof(nobody));
		memcpy(value, &nobody, *size);
		return 0;
	}
	if (!o && s->family == AF_INET && level != SOL_SOCKET && level != IPPROTO_IP && level != s->protocol)
		return -EOPNOTSUPP;
	if (!o || !o->get)
		return -ENOPROTOOPT;
	*size = MIN(*size, (size_t)o->size);
	return host_getsockopt(host_of(s)->fd, level, name, value, size);
}

static uint32_t host_sock_poll(struct socket *s, uint32_t events)
{
	struct host_sock *h = host_of(s);
	uint32_t ready;

	if (!h->first_report)
		return host_poll_fd(h->fd, events);
	h->moved = false;
	ready = host_poll_fd(h->fd, events);
	h->told = ready;
	return ready;
}

static void host_will_wait(struct socket *s)
{
	struct host_sock *h = host_of(s);
	bool add;

	mutex_lock_nested(&s->mu);
	add = !h->watched;
	h->watched = true;
	if (add)
		h->first_report = true;
	mutex_unlock(&s->mu);
	/* Refused only when the host is out of memory: then waits end by their timeouts. */
	if (add && notifier_add(&h->watch, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI) < 0)
		h->watched = false;
}

static int64_t host_sock_ioctl(struct socket *s, uint32_t cmd, uint64_t arg, struct umem *um)
{
	int32_t value = 0;
	int ret;

	switch (cmd) {
	case SIOCINQ:
	case SIOCOUTQ:
	case SIOCATMARK:
		ret = host_ioctl(host_of(s)->fd, cmd, &value);
		return ret < 0 ? ret : copy_out_struct(um, UADDR(arg), &value);
	default:
		return -ENOTTY;
	}
}

static void host_opened(struct socket *s, struct file *f)
{
	GUARD(mutex, &all_mu);
	host_of(s)->ino = f->inode->ino;
}

/* "0100007F:1F90": address and port as /proc/net has them. */
static void show_addr(struct seq *q, int fd, bool peer, int family)
{
	union {
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a;
	uint32_t size = sizeof(a);

	memset(&a, 0, sizeof(a));
	if (host_getname(fd, peer, &a, &size) < 0)
		memset(&a, 0, sizeof(a));
	if (family == AF_INET)
		seq_printf(q, "%08X", a.v4.sin_addr.s_addr);
	for (int i = 0; family == AF_INET6 && i < 4; i++)
		seq_printf(q, "%08X", a.v6.sin6_addr.s6_addr32[i]);
	seq_printf(q, ":%04X ", ntohs(a.v4.sin_port));
}

static void host_show(struct net_ns *ns, int family, int type, struct seq *q)
{
	struct host_sock *h;
	unsigned n = 0;
	GUARD(mutex, &all_mu);

	list_for_each(h, &all, node) {
		uint8_t state = TCP_CLOSE_STATE;
		size_t size = sizeof(state);

		if (h->s.net != ns || h->s.family != family || h->s.type != type)
			continue;
		if (type == SOCK_STREAM && host_getsockopt(h->fd, IPPROTO_TCP, TCP_INFO, &state, &size) < 0)
			continue;
		if (type == SOCK_STREAM && state == TCP_CLOSE_STATE)
			continue;
		seq_printf(q, "%4u: ", n++);
		show_addr(q, h->fd, false, family);
		show_addr(q, h->fd, true, family);
		seq_printf(q, "%02X %08X:%08X %02X:%08X %08X %5u %8d %llu 1 %016x 100 0 0 10 0\n", state, 0, 0, 0, 0, 0,
			   user_ns_from_kuid_munged(current->cred->user_ns, h->uid), 0, (unsigned long long)h->ino, 0);
	}
}

static const struct socket_ops host_ops = {
	.name = "host",
	.close = host_sock_close,
	.free = host_free,
	.bind = host_sock_bind,
	.connect = host_sock_connect,
	.connect_result = host_connect_result,
	.listen = host_sock_listen,
	.accept = host_sock_accept,
	.getname = host_sock_getname,
	.send = host_sock_send,
	.recv = host_sock_recv,
	.shutdown = host_sock_shutdown,
	.setsockopt = host_sock_setsockopt,
	.getsockopt = host_sock_getsockopt,
	.poll = host_sock_poll,
	.will_wait = host_will_wait,
	.ioctl = host_sock_ioctl,
	.opened = host_opened,
	.own_sol_socket = true,
};

static const struct socket_family family4 = { AF_INET, host_create4, NULL };
static const struct socket_family family6 = { AF_INET6, host_create6, NULL };

void host_family_init(void)
{
	mutex_init(&all_mu, LOCK_OBJECT);
	net_proc_inet_hook = host_show;
	socket_family_register(&family4);
	socket_family_register(&family6);
}
