/*
 * netlink(7). NETLINK_ROUTE answers the questions that programs ask about interfaces, addresses and
 * routes: the request goes to one route socket of the sandbox's host namespace, opened at boot, and the
 * replies come back with the guest's port. Nothing can be changed. NETLINK_KOBJECT_UEVENT exists and
 * stays silent. Interface ioctls (netdevice(7)) are answered the same way.
 */
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "platform/base/log.h"
#include "platform/host/socket.h"
#include "sentry/kernel/task.h"
#include "sentry/net/core/socket.h"
#include "sentry/net/netlink/netlink.h"
#include "sentry/net/netlink/loopback.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/simple.h"

#define REQUEST_MAX 16384
#define REPLY_CHUNK 32768
#define QUEUE_MAX (4u << 20)
#define IFCONF_MAX 64
#define SOL_NETLINK_NR 270

struct nl_reply {
	struct list_node node;
	uint32_t size;
	uint8_t data[];
};

struct nl_sock {
	struct socket s;
	struct list_node node;	/* ports_mu */
	uint32_t port, groups;	/* s.mu; port 0: not bound yet */
	uint32_t dst_port;
	struct list_node queue; /* s.mu */
	uint32_t queued;	/* s.mu, bytes */
	struct mutex recv_mu;	/* LOCK_SOCKET_READ, before s.mu: one reader */
};

STATE_DESC(nl_sock, S_EMBED(nl_sock, 1, s, socket), S_NOSAVE(nl_sock, node, "linked again"),
	   S_VAL(nl_sock, 2, port), S_VAL(nl_sock, 3, groups), S_VAL(nl_sock, 4, dst_port),
	   S_LIST(nl_sock, 5, queue, nl_reply), S_NOSAVE(nl_sock, queued, "recounted"),
	   S_NOSAVE(nl_sock, recv_mu, "unheld at a safe point"));

static struct mutex ports_mu; /* LOCK_OBJECT: the list of sockets and who has which port */
static struct list_node ports = LIST_INIT(ports);
static struct mutex host_mu; /* LOCK_SOCKET_READ: one conversation with the host at a time */
static int host_route_fd = -1, host_inet_fd = -1; /* in the sandbox's own host namespace */

static int route_fd(const struct net_ns *ns)
{
	return ns->maker ? ns->maker->route_fd : host_route_fd;
}

static int inet_fd(const struct net_ns *ns)
{
	return ns->maker ? ns->maker->inet_fd : host_inet_fd;
}

static const struct socket_ops nl_ops;

static struct nl_sock *nl_of(struct socket *s)
{
	return container_of(s, struct nl_sock, s);
}

static int nl_create(struct net_ns *net, int type, int protocol, struct socket **ret_socket)
{
	struct nl_sock *n;

	if (type != SOCK_RAW && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (protocol != NETLINK_ROUTE && protocol != NETLINK_KOBJECT_UEVENT)
		return -EPROTONOSUPPORT;
	n = calloc(1, sizeof(*n));
	if (!n)
		return -ENOMEM;
	socket_init(&n->s, &nl_ops, net, AF_NETLINK, type, protocol);
	mutex_init(&n->recv_mu, LOCK_SOCKET_READ);
	list_init(&n->queue);
	mutex_lock(&ports_mu);
	list_add_tail(&ports, &n->node);
	mutex_unlock(&ports_mu);
	*ret_socket = &n->s;
	return 0;
}

static void nl_close(struct socket *s)
{
	struct nl_sock *n = nl_of(s);
	struct nl_reply *r;

	mutex_lock(&ports_mu);
	list_del(&n->node);
	mutex_unlock(&ports_mu);
	while ((r = list_first(&n->queue, struct nl_reply, node)) != NULL) {
		list_del(&r->node);
		free(r);
	}
}

static void nl_free(struct socket *s)
{
	struct nl_sock *n = nl_of(s);

	mutex_fini(&n->recv_mu);
	socket_fini(s);
	free(n);
}

/* Gives n the port, or a free one (the process's number first) when port is 0. */
static int nl_take_port(struct nl_sock *n, uint32_t port)
{
	uint32_t try = port ? port : (uint32_t)thread_group_pid_in(current->tg, task_pid_ns(current));
	struct nl_sock *other;
	GUARD(mutex, &ports_mu);

	for (uint32_t next = UINT32_MAX; next > UINT32_MAX / 2; next--) {
		bool used = false;

		list_for_each(other, &ports, node)
			used |= other != n && other->port == try && other->s.protocol == n->s.protocol;
		if (!used) {
			n->port = try;
			return 0;
		}
		if (port)
			return -EADDRINUSE;
		try = next;
	}
	return -EADDRINUSE;
}

static int nl_bind(struct socket *s, const struct sock_addr *a)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl nl;

	if (a->size < sizeof(nl))
		return -EINVAL;
	memcpy(&nl, a->raw, sizeof(nl));
	if (nl.nl_family != AF_NETLINK || (n->port && nl.nl_pid && nl.nl_pid != n->port))
		return -EINVAL;
	n->groups = nl.nl_groups;
	return n->port ? 0 : nl_take_port(n, nl.nl_pid);
}

static int nl_connect(struct socket *s, const struct sock_addr *a, bool nonblock UNUSED)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl nl;

	if (a->size >= sizeof(a->family) && a->family == AF_UNSPEC)
		return 0;
	if (a->size < sizeof(nl))
		return -EINVAL;
	memcpy(&nl, a->raw, sizeof(nl));
	if (nl.nl_family != AF_NETLINK)
		return -EINVAL;
	if (nl.nl_pid || nl.nl_groups)
		return -EPERM;
	return n->port ? 0 : nl_take_port(n, 0);
}

static int nl_getname(struct socket *s, bool peer, struct sock_addr *ret_addr)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl nl = { .nl_family = AF_NETLINK };

	if (!peer) {
		nl.nl_pid = n->port;
		nl.nl_groups = n->groups;
	}
	ret_addr->size = sizeof(nl);
	memcpy(ret_addr->raw, &nl, sizeof(nl));
	return 0;
}

/* Queues size bytes for the guest; false when the queue is full or memory is short. */
static bool nl_queue(struct nl_sock *n, const void *data, uint32_t size)
{
	struct nl_reply *r = NULL;

	if (n->queued + size <= QUEUE_MAX)
		r = malloc(sizeof(*r) + size);
	if (!r) {
		n->s.error = ENOBUFS;
		return false;
	}
	r->size = size;
	memcpy(r->data, data, size);
	mutex_lock_nested(&n->s.mu);
	list_add_tail(&n->queue, &r->node);
	n->queued += size;
	mutex_unlock(&n->s.mu);
	waitq_wake(&n->s.waitq, POLLIN);
	return true;
}

static void nl_error(struct nl_sock *n, const struct nlmsghdr *req, int err)
{
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
	} m = {
		.h = { .nlmsg_len = sizeof(m), .nlmsg_type = NLMSG_ERROR, .nlmsg_seq = req->nlmsg_seq, .nlmsg_pid = n->port },
		.e = { .error = err, .msg = *req },
	};

	nl_queue(n, &m, sizeof(m));
}

static void nl_done(struct nl_sock *n, const struct nlmsghdr *req)
{
	struct {
		struct nlmsghdr h;
		int32_t status;
	} m = {
		.h = { .nlmsg_len = sizeof(m), .nlmsg_type = NLMSG_DONE, .nlmsg_flags = NLM_F_MULTI,
		       .nlmsg_seq = req->nlmsg_seq, .nlmsg_pid = n->port },
	};

	nl_queue(n, &m, sizeof(m));
}

/* Gives each message in buf the guest's port; true when the last of a dump is among them. */
static bool readdress(uint8_t *buf, uint32_t size, uint32_t port)
{
	bool done = false;
	uint32_t at = 0;

	while (size - at >= sizeof(struct nlmsghdr)) {
		struct nlmsghdr h;

		memcpy(&h, buf + at, sizeof(h));
		if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > size - at)
			break;
		h.nlmsg_pid = port;
		memcpy(buf + at, &h, sizeof(h));
		done |= h.nlmsg_type == NLMSG_DONE;
		at += MIN(NLMSG_ALIGN(h.nlmsg_len), size - at);
	}
	return done;
}

/* Sends the request to the host and queues what comes back. The host answers within sendmsg and recvmsg,
 * so that an empty socket means the end. */
static int nl_ask_host(struct nl_sock *n, const struct nlmsghdr *req)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct iovec iov = { .iov_len = req->nlmsg_len };
	struct msghdr mh = { .msg_name = &kernel, .msg_namelen = sizeof(kernel), .msg_iov = &iov, .msg_iovlen = 1 };
	uint8_t *buf = malloc(REPLY_CHUNK);
	int64_t ret;
	bool done = false;

	if (!buf)
		return -ENOMEM;
	memcpy(buf, req, req->nlmsg_len);
	iov.iov_base = buf;
	mutex_lock_nested(&host_mu);
	ret = host_sendmsg(route_fd(n->s.net), &mh, 0);
	while (ret >= 0 && !done) {
		struct msghdr in = { .msg_iov = &iov, .msg_iovlen = 1 };

		iov.iov_len = REPLY_CHUNK;
		ret = host_recvmsg(route_fd(n->s.net), &in, 0);
		if (ret <= 0)
			break;
		done = readdress(buf, (uint32_t)ret, n->port);
		if (!nl_queue(n, buf, (uint32_t)ret))
			break;
	}
	mutex_unlock(&host_mu);
	free(buf);
	return ret == -EAGAIN || ret > 0 ? 0 : (int)ret;
}

static void nl_request(struct nl_sock *n, const struct nlmsghdr *req)
{
	bool get = req->nlmsg_type >= RTM_BASE && (req->nlmsg_type & 3) == 2, dump;
	int ret;

	if (n->s.protocol != NETLINK_ROUTE || req->nlmsg_type < NLMSG_MIN_TYPE) {
		if (req->nlmsg_flags & NLM_F_ACK)
			nl_error(n, req, 0);
		return;
	}
	if (!get || req->nlmsg_type > RTM_GETRULE) {
		nl_error(n, req, req->nlmsg_type > RTM_MAX ? -EOPNOTSUPP : -EPERM);
		return;
	}
	if (n->s.net->host && route_fd(n->s.net) >= 0) {
		ret = nl_ask_host(n, req);
		if (ret < 0)
			nl_error(n, req, ret);
		return;
	}
	dump = (req->nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP;
	if (req->nlmsg_type == RTM_GETLINK) {
		uint8_t link[128];

		nl_queue(n, link, loopback_link(link, sizeof(link), req->nlmsg_seq, n->port, dump));
	}
	if (dump)
		nl_done(n, req);
	else if (req->nlmsg_type != RTM_GETLINK)
		nl_error(n, req, -ENODEV);
}

static int64_t nl_send(struct socket *s, struct sock_msg *m)
{
	struct nl_sock *n = nl_of(s);
	uint64_t size = m->uio->resid;
	_Alignas(8) uint8_t few[512];
	uint8_t *buf = few;
	uint32_t at = 0;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (size > REQUEST_MAX)
		return -EMSGSIZE;
	if (!n->port) {
		int ret = nl_take_port(n, 0);

		if (ret < 0)
			return ret;
	}
	if (size > sizeof(few)) {
		buf = malloc(size);
		if (!buf)
			return -ENOMEM;
	}
	if (uio_read(m->uio, buf, size) != (int64_t)size) {
		if (buf != few)
			free(buf);
		return -EFAULT;
	}
	while (size - at >= sizeof(struct nlmsghdr)) {
		/* Messages start at multiples of four in an eight-aligned buffer. */
		const struct nlmsghdr *h = (const void *)(buf + at);

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > size - at)
			break;
		if (h->nlmsg_flags & NLM_F_REQUEST)
			nl_request(n, h);
		at += (uint32_t)MIN((uint64_t)NLMSG_ALIGN(h->nlmsg_len), size - at);
	}
	if (buf != few)
		free(buf);
	return (int64_t)size;
}

static int64_t nl_recv(struct socket *s, struct sock_msg *m)
{
	struct nl_sock *n = nl_of(s);
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct nl_reply *r;
	int64_t ret;
	GUARD(mutex, &n->recv_mu);

	mutex_lock_nested(&s->mu);
	r = list_first(&n->queue, struct nl_reply, node);
	mutex_unlock(&s->mu);
	if (!r) {
		ret = socket_take_error(s);
		return ret ? ret : -EAGAIN;
	}
	ret = uio_write(m->uio, r->data, MIN((uint64_t)r->size, m->uio->resid));
	if (ret >= 0 && ret < (int64_t)r->size) {
		m->out_flags |= MSG_TRUNC;
		if (m->flags & MSG_TRUNC)
			ret = r->size;
	}
	if (m->from) {
		m->from->size = sizeof(kernel);
		memcpy(m->from->raw, &kernel, sizeof(kernel));
	}
	if (!(m->flags & MSG_PEEK)) {
		mutex_lock_nested(&s->mu);
		list_del(&r->node);
		n->queued -= r->size;
		mutex_unlock(&s->mu);
		free(r);
	}
	return ret;
}

static uint32_t nl_poll(struct socket *s, uint32_t events UNUSED)
{
	struct nl_sock *n = nl_of(s);
	uint32_t ready = POLLOUT | POLLWRNORM | (atomic_load(&s->error) ? POLLERR : 0);

	mutex_lock_nested(&s->mu);
	if (!list_empty(&n->queue))
		ready |= POLLIN | POLLRDNORM;
	mutex_unlock(&s->mu);
	return ready;
}

static int nl_setsockopt(struct socket *s UNUSED, int level, int name, const void *value UNUSED, size_t size)
{
	if (level != SOL_NETLINK_NR)
		return -ENOPROTOOPT;
	if (size < sizeof(int))
		return -EINVAL;
	/* Groups may be joined; nothing is ever sent to them. */
	return name >= NETLINK_ADD_MEMBERSHIP && name <= NETLINK_GET_STRICT_CHK ? 0 : -ENOPROTOOPT;
}

static int nl_getsockopt(struct socket *s UNUSED, int level, int name, void *value, size_t *size)
{
	int v = 0;

	if (level != SOL_NETLINK_NR || name < NETLINK_ADD_MEMBERSHIP || name > NETLINK_GET_STRICT_CHK)
		return -ENOPROTOOPT;
	*size = MIN(*size, sizeof(v));
	memcpy(value, &v, *size);
	return 0;
}

static const struct socket_ops nl_ops = {
	.name = "netlink",
	.close = nl_close,
	.free = nl_free,
	.bind = nl_bind,
	.connect = nl_connect,
	.getname = nl_getname,
	.send = nl_send,
	.recv = nl_recv,
	.setsockopt = nl_setsockopt,
	.getsockopt = nl_getsockopt,
	.poll = nl_poll,
};

bool file_is_netlink(struct file *f)
{
	struct socket *s = file_socket(f);

	return s && s->ops == &nl_ops;
}

void netlink_deliver(struct file *f, const void *data, size_t size)
{
	nl_queue(nl_of(file_socket(f)), data, (uint32_t)size);
}

static int64_t ifconf(struct net_ns *net, uint64_t arg, struct umem *um)
{
	struct {
		int32_t size, pad;
		uint64_t buf;
	} user;
	struct ifreq list[IFCONF_MAX];
	struct ifconf ifc;
	int ret;

	if (copy_in_struct(um, &user, UADDR(arg)) < 0)
		return -EFAULT;
	if (user.size < 0)
		return -EINVAL;
	memset(list, 0, sizeof(list));
	ifc.ifc_len = user.buf ? MIN(user.size, (int)sizeof(list)) : 0;
	ifc.ifc_req = user.buf ? list : NULL;
	ret = host_ioctl(inet_fd(net), SIOCGIFCONF, &ifc);
	if (ret < 0)
		return ret;
	if (user.buf && copy_out(um, UADDR(user.buf), list, (size_t)ifc.ifc_len) < 0)
		return -EFAULT;
	user.size = ifc.ifc_len;
	return copy_out_struct(um, UADDR(arg), &user);
}

static int64_t ifreq_ioctl(struct net_ns *net, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct ifreq req;
	int ret;

	if (!net->host || inet_fd(net) < 0)
		return loopback_ioctl(cmd, arg, um);
	if (cmd == SIOCGIFCONF)
		return ifconf(net, arg, um);
	if (cmd == SIOCGIFMAP)
		return -ENOTTY;
	if (copy_in_struct(um, &req, UADDR(arg)) < 0)
		return -EFAULT;
	if (cmd != SIOCGIFNAME)
		req.ifr_name[IFNAMSIZ - 1] = '\0';
	ret = host_ioctl(inet_fd(net), cmd, &req);
	return ret < 0 ? ret : copy_out_struct(um, UADDR(arg), &req);
}

/* /proc/net/dev: the interfaces; traffic is not counted here. */
static void dev_show(struct net_ns *ns, struct seq *q)
{
	struct ifreq list[IFCONF_MAX];
	struct ifconf ifc = { .ifc_len = sizeof(list), .ifc_req = list };

	if (!ns->host || inet_fd(ns) < 0) {
		strcpy(list[0].ifr_name, "lo");
		ifc.ifc_len = sizeof(list[0]);
	} else if (host_ioctl(inet_fd(ns), SIOCGIFCONF, &ifc) < 0) {
		return;
	}
	for (size_t i = 0; i < (size_t)ifc.ifc_len / sizeof(list[0]); i++)
		seq_printf(q, "%6.15s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n",
			   list[i].ifr_name, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}

static const struct socket_family nl_family = { AF_NETLINK, nl_create, NULL };

void netlink_family_init(void)
{
	mutex_init(&ports_mu, LOCK_OBJECT);
	mutex_init(&host_mu, LOCK_SOCKET_READ);
	host_route_fd = host_socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	host_inet_fd = host_socket(AF_INET, SOCK_DGRAM, 0);
	if (host_route_fd < 0 || host_inet_fd < 0)
		log_warn("no view of the host's interfaces (route %d, inet %d)", host_route_fd, host_inet_fd);
	socket_ifreq_hook = ifreq_ioctl;
	net_proc_dev_hook = dev_show;
	socket_family_register(&nl_family);
}
