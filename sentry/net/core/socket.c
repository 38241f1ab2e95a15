/* The generic socket object, its file, and the table of families. */
#include "sentry/net/core/socket.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "sentry/kernel/task.h"
#include "sentry/state/desc.h"

#define FAMILY_MAX 46
#define BUF_DEFAULT 212992

STATE_DESC(socket, S_NOSAVE(socket, refs, "recounted"), S_NOSAVE(socket, ops, "by family and type"),
	   S_VAL(socket, 1, family), S_VAL(socket, 2, type), S_VAL(socket, 3, protocol),
	   S_REF(socket, 4, net, net_ns), S_NOSAVE(socket, waitq, "waiters register again"),
	   S_NOSAVE(socket, mu, "unheld at a safe point"), S_VAL(socket, 5, recv_timeout_ns),
	   S_VAL(socket, 6, send_timeout_ns), S_VAL(socket, 7, sndbuf), S_VAL(socket, 8, rcvbuf),
	   S_VAL(socket, 9, priority), S_VAL(socket, 10, mark),
	   S_VAL(socket, 12, error), S_VAL(socket, 13, reuse_addr), S_VAL(socket, 14, reuse_port),
	   S_VAL(socket, 15, keepalive), S_VAL(socket, 16, broadcast), S_VAL(socket, 17, oob_inline),
	   S_VAL(socket, 18, pass_cred), S_VAL(socket, 19, timestamp), S_VAL(socket, 20, dont_route),
	   S_VAL(socket, 21, linger));

static const struct socket_family *families[FAMILY_MAX];

void socket_family_register(const struct socket_family *f)
{
	BUG_ON(f->family < 0 || f->family >= FAMILY_MAX);
	families[f->family] = f;
}

void socket_init(struct socket *s, const struct socket_ops *ops, struct net_ns *net, int family, int type,
		 int protocol)
{
	refcount_init(&s->refs, 1);
	s->ops = ops;
	s->family = family;
	s->type = type;
	s->protocol = protocol;
	s->net = net_ns_get(net);
	s->sndbuf = s->rcvbuf = BUF_DEFAULT;
	waitq_init(&s->waitq);
	mutex_init(&s->mu, LOCK_SOCKET);
}

void socket_fini(struct socket *s)
{
	waitq_fini(&s->waitq);
	mutex_fini(&s->mu);
	net_ns_put(s->net);
}

struct socket *socket_get(struct socket *s)
{
	refcount_get(&s->refs);
	return s;
}

void socket_put(struct socket *s)
{
	if (s && refcount_put(&s->refs))
		s->ops->free(s);
}

int socket_take_error(struct socket *s)
{
	return atomic_load_explicit(&s->error, memory_order_relaxed) ? -atomic_exchange(&s->error, 0) : 0;
}

static int family_of(int family, int type, const struct socket_family **ret)
{
	if (family < 0 || family >= FAMILY_MAX)
		return -EAFNOSUPPORT;
	if (type < 0 || type > SOCK_PACKET)
		return -EINVAL;
	if (!families[family])
		return -EAFNOSUPPORT;
	*ret = families[family];
	return 0;
}

int socket_create(struct net_ns *net, int family, int type, int protocol, struct socket **ret_socket)
{
	const struct socket_family *f;
	int ret = family_of(family, type, &f);

	return ret < 0 ? ret : f->create(net, type, protocol, ret_socket);
}

int socket_create_pair(struct net_ns *net, int family, int type, int protocol, struct socket *ret_pair[2])
{
	const struct socket_family *f;
	int ret = family_of(family, type, &f);

	if (ret < 0)
		return ret;
	if (f->pair)
		return f->pair(net, type, protocol, ret_pair);
	/* What one socket would be refused for comes first. */
	ret = f->create(net, type, protocol, &ret_pair[0]);
	if (ret < 0)
		return ret;
	if (ret_pair[0]->ops->close)
		ret_pair[0]->ops->close(ret_pair[0]);
	socket_put(ret_pair[0]);
	return -EOPNOTSUPP;
}

static void socket_release(struct file *f)
{
	struct socket *s = f->data;

	if (s->ops->close)
		s->ops->close(s);
	socket_put(s);
}

static int64_t socket_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct socket *s = f->data;
	struct sock_control control = { 0 };
	struct sock_msg m = { .uio = u, .control = &control };
	int64_t ret;

	if (u->resid == 0 && s->type == SOCK_STREAM)
		return 0;
	if (!s->ops->recv)
		return -EOPNOTSUPP;
	ret = s->ops->recv(s, &m);
	sock_control_fini(&control);
	/* A message longer than the buffer: the rest is gone, read(2) says what was copied. */
	return ret;
}

static int64_t socket_write(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct socket *s = f->data;
	struct sock_control control = { 0 };
	struct sock_msg m = { .uio = u, .control = &control };
	int64_t ret;

	if (!s->ops->send)
		return -EOPNOTSUPP;
	ret = s->ops->send(s, &m);
	if (ret == -EPIPE && s->type == SOCK_STREAM && current) {
		struct guest_siginfo info = siginfo_user(current, SIGPIPE, SI_USER);

		signal_send_task(current, &info);
	}
	return ret;
}

static uint32_t socket_poll(struct file *f, uint32_t events)
{
	struct socket *s = f->data;

	return s->ops->poll(s, events);
}

static struct waitq *socket_waitq(struct file *f)
{
	struct socket *s = f->data;

	if (s->ops->will_wait)
		s->ops->will_wait(s);
	return &s->waitq;
}

static int64_t socket_file_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct socket *s = f->data;
	int64_t ret = s->ops->ioctl ? s->ops->ioctl(s, cmd, arg, um) : -ENOTTY;

	return ret == -ENOTTY ? socket_ioctl(s, cmd, arg, um) : ret;
}

static const struct file_ops socket_file_ops = {
	.name = "socket",
	.release = socket_release,
	.read = socket_read,
	.write = socket_write,
	.stream = true,
	.poll = socket_poll,
	.waitq = socket_waitq,
	.ioctl = socket_file_ioctl,
};

int socket_file_new(struct socket *s, int flags, const struct cred *cred, struct file **ret_file)
{
	int ret = file_new_anon(&socket_file_ops, "socket:", S_IFSOCK | 0777, O_RDWR | (flags & O_NONBLOCK),
				cred, s, ret_file);

	if (ret == 0 && s->ops->opened)
		s->ops->opened(s, *ret_file);
	return ret;
}

struct socket *file_socket(struct file *f)
{
	return f->ops == &socket_file_ops ? f->data : NULL;
}
