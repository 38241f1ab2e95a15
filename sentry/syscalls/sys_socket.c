/* Socket system calls (socket(2), send(2), recv(2), getsockopt(2), ...). */
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/net/core/cmsg.h"
#include "sentry/net/core/socket.h"
#include "sentry/syscalls/wait_args.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_SYS_ADMIN_NR 21
#define CAP_SETUID_NR 7
#define CAP_SETGID_NR 6
#define IOV_STACK 8
#define IOV_MAX_GUEST 1024
#define RW_MAX 0x7ffff000ull
#define OPT_MAX 4096
#define CMSG_STACK 256
#define MMSG_MAX 1024u
#define TYPE_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
#define ANY_EVENT (POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP)

/* struct user_msghdr of the ABI. */
struct guest_msghdr {
	uint64_t name;
	int32_t name_size, pad1;
	uint64_t iov, iov_count, control, control_size;
	uint32_t flags, pad2;
};
_Static_assert(sizeof(struct guest_msghdr) == 56, "user_msghdr");

/* The socket at fd; *ret_file holds the reference. -EBADF, -ENOTSOCK. */
static int socket_at(struct task *t, int fd, struct file **ret_file, struct socket **ret_socket)
{
	struct file *f = task_fd_io(t, fd);

	if (!f)
		return -EBADF;
	*ret_socket = file_socket(f);
	if (!*ret_socket) {
		file_put(f);
		return -ENOTSOCK;
	}
	*ret_file = f;
	return 0;
}

static int addr_in(struct task *t, uaddr_t addr, int32_t size, struct sock_addr *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (size < 0 || size > SOCK_ADDR_MAX)
		return -EINVAL;
	ret->size = (uint32_t)size;
	return copy_in(task_umem(t), ret->raw, addr, (size_t)size);
}

/* Writes an address for the guest: as much as fits in *size_addr bytes, and the true size. */
static int addr_out(struct task *t, const struct sock_addr *a, uaddr_t addr, uaddr_t size_addr)
{
	int32_t room, size = (int32_t)a->size;

	if (copy_in_struct(task_umem(t), &room, size_addr) < 0)
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	if (copy_out(task_umem(t), addr, a->raw, (size_t)MIN(room, size)) < 0)
		return -EFAULT;
	return copy_out_struct(task_umem(t), size_addr, &size);
}

/* A file for s (taken over in any case) at a new descriptor. */
static int64_t socket_install(struct task *t, struct socket *s, int flags)
{
	struct file *f;
	int ret = socket_file_new(s, flags & SOCK_NONBLOCK ? O_NONBLOCK : 0, t->cred, &f);

	if (ret < 0) {
		if (s->ops->close)
			s->ops->close(s);
		socket_put(s);
		return ret;
	}
	ret = task_fd_install(t, f, flags & SOCK_CLOEXEC);
	file_put(f);
	return ret;
}

int64_t sys_socket(struct task *t, int32_t family, int32_t type, int32_t protocol)
{
	int flags = type & TYPE_FLAGS;
	struct socket *s;
	int ret;

	type &= ~TYPE_FLAGS;
	if (type & ~0xf)
		return -EINVAL;
	ret = socket_create(t->ns->net, family, type, protocol, &s);
	return ret < 0 ? ret : socket_install(t, s, flags);
}

static void pair_drop(struct socket *s)
{
	if (s->ops->close)
		s->ops->close(s);
	socket_put(s);
}

int64_t sys_socketpair(struct task *t, int32_t family, int32_t type, int32_t protocol, uaddr_t vec)
{
	AUTO(file_put) struct file *a = NULL, *b = NULL;
	int flags = type & TYPE_FLAGS, file_flags_ = flags & SOCK_NONBLOCK ? O_NONBLOCK : 0;
	uint64_t limit = task_rlimit(t, RLIMIT_NOFILE);
	struct socket *pair[2];
	int32_t fd[2];
	int ret;

	type &= ~TYPE_FLAGS;
	if (type & ~0xf)
		return -EINVAL;
	ret = socket_create_pair(t->ns->net, family, type, protocol, pair);
	if (ret < 0)
		return ret;
	ret = socket_file_new(pair[0], file_flags_, t->cred, &a);
	if (ret < 0) {
		pair_drop(pair[0]);
		pair_drop(pair[1]);
		return ret;
	}
	ret = socket_file_new(pair[1], file_flags_, t->cred, &b);
	if (ret < 0) {
		pair_drop(pair[1]);
		return ret;
	}
	fd[0] = fdtable_reserve(t->fdt, 0, limit, flags & SOCK_CLOEXEC);
	if (fd[0] < 0)
		return fd[0];
	fd[1] = fdtable_reserve(t->fdt, 0, limit, flags & SOCK_CLOEXEC);
	ret = fd[1] < 0 ? fd[1] : copy_out_struct(task_umem(t), vec, &fd);
	if (ret < 0) {
		fdtable_cancel(t->fdt, fd[0]);
		if (fd[1] >= 0)
			fdtable_cancel(t->fdt, fd[1]);
		return ret;
	}
	fdtable_commit(t->fdt, fd[0], a);
	fdtable_commit(t->fdt, fd[1], b);
	return 0;
}

int64_t sys_bind(struct task *t, int32_t fd, uaddr_t addr, int32_t size)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	struct sock_addr a;
	int ret = socket_at(t, fd, &f, &s);

	if (ret == 0)
		ret = addr_in(t, addr, size, &a);
	if (ret == 0)
		ret = net_policy_check(NET_OP_BIND, s, &a);
	if (ret < 0)
		return ret;
	return s->ops->bind ? s->ops->bind(s, &a) : -EOPNOTSUPP;
}

static int64_t deadline_of(int64_t timeout_ns)
{
	return timeout_ns ? time_add(clock_mono(), timeout_ns) : TIME_FOREVER;
}

/* With a timeout set, an interrupted call is not restarted (socket(7), SO_RCVTIMEO). */
static int64_t interrupted(int64_t ret, int64_t timeout_ns)
{
	return ret == -ERESTARTSYS && timeout_ns ? -EINTR : ret;
}

int64_t sys_connect(struct task *t, int32_t fd, uaddr_t addr, int32_t size)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	struct sock_addr a;
	bool nonblock;
	int64_t timeout, deadline, ret = socket_at(t, fd, &f, &s);

	if (ret == 0)
		ret = addr_in(t, addr, size, &a);
	if (ret == 0)
		ret = net_policy_check(NET_OP_CONNECT, s, &a);
	if (ret < 0)
		return ret;
	if (!s->ops->connect)
		return -EOPNOTSUPP;
	nonblock = file_flags(f) & O_NONBLOCK;
	timeout = s->send_timeout_ns;
	deadline = deadline_of(timeout);
	ret = s->ops->connect(s, &a, nonblock);
	if (nonblock)
		return ret;
	if (ret == -EAGAIN)
		ret = file_block(t, f, ANY_EVENT, deadline, "connect", s->ops->connect(s, &a, false));
	if (ret == -EINPROGRESS && s->ops->connect_result) {
		ret = file_block(t, f, ANY_EVENT, deadline, "connect", s->ops->connect_result(s));
		if (ret == -ETIMEDOUT && deadline != TIME_FOREVER)
			ret = -EINPROGRESS;
	} else if (ret == -ETIMEDOUT && deadline != TIME_FOREVER) {
		ret = -EAGAIN;
	}
	return interrupted(ret, timeout);
}

int64_t sys_listen(struct task *t, int32_t fd, int32_t backlog)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	return s->ops->listen ? s->ops->listen(s, backlog) : -EOPNOTSUPP;
}

int64_t sys_accept4(struct task *t, int32_t fd, uaddr_t addr, uaddr_t addr_size, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s, *new;
	int64_t ret = socket_at(t, fd, &f, &s), timeout;

	if (ret < 0)
		return ret;
	if (flags & ~(uint32_t)TYPE_FLAGS)
		return -EINVAL;
	if (!s->ops->accept)
		return -EOPNOTSUPP;
	timeout = s->recv_timeout_ns;
	if (file_flags(f) & O_NONBLOCK)
		ret = s->ops->accept(s, &new);
	else
		ret = file_block(t, f, POLLIN | POLLERR | POLLHUP, deadline_of(timeout), "accept",
				 s->ops->accept(s, &new));
	if (ret < 0)
		return ret == -ETIMEDOUT ? -EAGAIN : interrupted(ret, timeout);
	if (addr.v) {
		struct sock_addr a = { 0 };

		ret = new->ops->getname(new, true, &a);
		/* The peer is gone already: Linux says so only when an address was asked for. */
		ret = ret < 0 ? -ECONNABORTED : addr_out(t, &a, addr, addr_size);
		if (ret < 0) {
			pair_drop(new);
			return ret;
		}
	}
	return socket_install(t, new, (int)flags);
}

int64_t sys_accept(struct task *t, int32_t fd, uaddr_t addr, uaddr_t addr_size)
{
	return sys_accept4(t, fd, addr, addr_size, 0);
}

static int64_t getname(struct task *t, int32_t fd, bool peer, uaddr_t addr, uaddr_t addr_size)
{
	AUTO(file_put) struct file *f = NULL;
	struct sock_addr a = { 0 };
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	if (ret == 0)
		ret = s->ops->getname ? s->ops->getname(s, peer, &a) : -EOPNOTSUPP;
	return ret < 0 ? ret : addr_out(t, &a, addr, addr_size);
}

int64_t sys_getsockname(struct task *t, int32_t fd, uaddr_t addr, uaddr_t addr_size)
{
	return getname(t, fd, false, addr, addr_size);
}

int64_t sys_getpeername(struct task *t, int32_t fd, uaddr_t addr, uaddr_t addr_size)
{
	return getname(t, fd, true, addr, addr_size);
}

int64_t sys_shutdown(struct task *t, int32_t fd, int32_t how)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	return s->ops->shutdown ? s->ops->shutdown(s, how) : -EOPNOTSUPP;
}

int64_t sys_setsockopt(struct task *t, int32_t fd, int32_t level, int32_t name, uaddr_t value, int32_t size)
{
	AUTO(file_put) struct file *f = NULL;
	uint8_t buf[OPT_MAX];
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	if (size < 0)
		return -EINVAL;
	if (copy_in(task_umem(t), buf, value, MIN((size_t)size, sizeof(buf))) < 0)
		return -EFAULT;
	return socket_setsockopt(s, level, name, buf, MIN((size_t)size, sizeof(buf)));
}

int64_t sys_getsockopt(struct task *t, int32_t fd, int32_t level, int32_t name, uaddr_t value, uaddr_t size_addr)
{
	AUTO(file_put) struct file *f = NULL;
	uint8_t buf[OPT_MAX];
	struct socket *s;
	int32_t room;
	size_t size;
	int ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	if (copy_in_struct(task_umem(t), &room, size_addr) < 0)
		return -EFAULT;
	if (room < 0)
		return -EINVAL;
	size = MIN((size_t)room, sizeof(buf));
	ret = socket_getsockopt(s, level, name, buf, &size);
	if (ret == 0 || ret == -ERANGE) {
		room = (int32_t)size;
		if (ret == 0 && copy_out(task_umem(t), value, buf, size) < 0)
			return -EFAULT;
		if (copy_out_struct(task_umem(t), size_addr, &room) < 0)
			return -EFAULT;
	}
	return ret;
}

static void raise_sigpipe(struct task *t)
{
	struct guest_siginfo info = siginfo_user(t, SIGPIPE, SI_USER);

	signal_send_task(t, &info);
}

/* One message out, waiting for room unless told not to; a stream goes on until all is sent. */
static int64_t do_send(struct task *t, struct file *f, struct socket *s, struct sock_msg *m)
{
	bool nonblock = (file_flags(f) & O_NONBLOCK) || (m->flags & MSG_DONTWAIT);
	int64_t timeout = s->send_timeout_ns, deadline = 0, done = 0, ret;

	if (!s->ops->send)
		return -EOPNOTSUPP;
	if (m->to) {
		ret = net_policy_check(NET_OP_SEND, s, m->to);
		if (ret < 0)
			return ret;
	}
	for (;;) {
		ret = s->ops->send(s, m);
		if (ret == -EAGAIN && !nonblock) {
			if (!deadline)
				deadline = deadline_of(timeout);
			ret = file_block(t, f, POLLOUT | POLLERR | POLLHUP, deadline, "send", s->ops->send(s, m));
			if (ret == -ETIMEDOUT)
				ret = -EAGAIN;
		}
		if (ret < 0)
			break;
		done += ret;
		if (s->type != SOCK_STREAM || m->uio->resid == 0 || ret == 0 || nonblock)
			return done;
	}
	if (done)
		return done;
	if (ret == -EPIPE && s->type == SOCK_STREAM && !(m->flags & MSG_NOSIGNAL))
		raise_sigpipe(t);
	return interrupted(ret, timeout);
}

static int64_t do_recv(struct task *t, struct file *f, struct socket *s, struct sock_msg *m)
{
	bool nonblock = (file_flags(f) & O_NONBLOCK) || (m->flags & MSG_DONTWAIT);
	bool all = (m->flags & MSG_WAITALL) && s->type == SOCK_STREAM && !(m->flags & MSG_PEEK);
	int64_t timeout = s->recv_timeout_ns, deadline = 0, done = 0, ret;

	if (!s->ops->recv)
		return -EOPNOTSUPP;
	for (;;) {
		ret = s->ops->recv(s, m);
		if (ret == -EAGAIN && !nonblock && !(m->flags & MSG_ERRQUEUE)) {
			if (!deadline)
				deadline = deadline_of(timeout);
			ret = file_block(t, f, POLLIN | POLLERR | POLLHUP | POLLRDHUP, deadline, "recv",
					 s->ops->recv(s, m));
			if (ret == -ETIMEDOUT)
				ret = -EAGAIN;
		}
		if (ret < 0)
			break;
		done += ret;
		if (!all || ret == 0 || m->uio->resid == 0 || m->control->files)
			return done;
	}
	return done ? done : interrupted(ret, timeout);
}

int64_t sys_sendto(struct task *t, int32_t fd, uaddr_t buf, uint64_t size, uint32_t flags, uaddr_t addr,
		   int32_t addr_size)
{
	AUTO(file_put) struct file *f = NULL;
	struct sock_control control = { 0 };
	struct sock_addr to;
	struct uio u;
	struct sock_msg m = { .uio = &u, .flags = flags, .control = &control };
	struct socket *s;
	int64_t ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	uio_init_user(&u, task_umem(t), buf, MIN(size, RW_MAX));
	if (addr.v) {
		ret = addr_in(t, addr, addr_size, &to);
		if (ret < 0)
			return ret;
		if (to.size)
			m.to = &to;
	}
	return do_send(t, f, s, &m);
}

int64_t sys_recvfrom(struct task *t, int32_t fd, uaddr_t buf, uint64_t size, uint32_t flags, uaddr_t addr,
		     uaddr_t addr_size)
{
	AUTO(file_put) struct file *f = NULL;
	struct sock_control control = { 0 };
	struct sock_addr from = { 0 };
	struct uio u;
	struct sock_msg m = { .uio = &u, .flags = flags, .control = &control, .from = addr.v ? &from : NULL };
	struct socket *s;
	int64_t ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	uio_init_user(&u, task_umem(t), buf, MIN(size, RW_MAX));
	ret = do_recv(t, f, s, &m);
	sock_control_fini(&control); /* files nobody can receive are closed */
	if (ret >= 0 && addr.v) {
		int err = addr_out(t, &from, addr, addr_size);

		if (err < 0)
			return err;
	}
	return ret;
}

/* The scatter list of a message. few has IOV_STACK elements; a longer list is allocated. */
static int msg_iov_in(struct task *t, const struct guest_msghdr *h, struct uio_seg *few, struct uio_seg **ret_seg)
{
	struct uio_seg *seg = few;
	uint64_t total = 0;

	if (h->iov_count > IOV_MAX_GUEST)
		return -EMSGSIZE;
	if (h->iov_count > IOV_STACK) {
		seg = malloc(h->iov_count * sizeof(*seg));
		if (!seg)
			return -ENOMEM;
	}
	if (copy_in(task_umem(t), seg, UADDR(h->iov), h->iov_count * sizeof(*seg)) < 0) {
		if (seg != few)
			free(seg);
		return -EFAULT;
	}
	for (uint64_t i = 0; i < h->iov_count; i++) {
		if (seg[i].size > INT64_MAX) {
			if (seg != few)
				free(seg);
			return -EINVAL;
		}
		seg[i].size = MIN(seg[i].size, RW_MAX - total);
		total += seg[i].size;
	}
	*ret_seg = seg;
	return 0;
}

/* SCM_RIGHTS: descriptors to files, appended to what earlier messages brought. */
static int rights_in(struct task *t, const struct cmsg_item *it, struct sock_control *c)
{
	unsigned count = (unsigned)(it->size / sizeof(int32_t)), have = c->files ? c->files->count : 0;
	struct scm_files *files;

	if (count == 0)
		return 0;
	if (it->size / sizeof(int32_t) > SCM_FILES_MAX || have + count > SCM_FILES_MAX)
		return -EINVAL;
	files = realloc(c->files, sizeof(*files) + (have + count) * sizeof(struct file *));
	if (!files)
		return -ENOMEM;
	if (!c->files)
		*files = (struct scm_files){ 0 };
	c->files = files;
	for (unsigned i = 0; i < count; i++) {
		int32_t fd;
		struct file *f;

		memcpy(&fd, it->data + i * sizeof(fd), sizeof(fd));
		f = task_fd(t, fd);
		if (!f)
			return -EBADF;
		files->file[files->count++] = f;
	}
	return 0;
}

static bool uid_is_mine(const struct cred *c, kuid_t uid)
{
	return uid.v == c->ruid.v || uid.v == c->euid.v || uid.v == c->suid.v;
}

static bool gid_is_mine(const struct cred *c, kgid_t gid)
{
	return gid.v == c->rgid.v || gid.v == c->egid.v || gid.v == c->sgid.v;
}

/* SCM_CREDENTIALS: a process may claim what it is, or anything with the capabilities (unix(7)). */
static int creds_in(struct task *t, const struct cmsg_item *it, struct sock_control *c)
{
	struct pid_ns *ns = task_pid_ns(t);
	struct thread_group *tg;
	struct ucred u;
	struct scm_creds out = { 0 };

	if (it->size != sizeof(u))
		return -EINVAL;
	memcpy(&u, it->data, sizeof(u));
	if (!user_ns_make_kuid(t->cred->user_ns, u.uid, &out.uid) ||
	    !user_ns_make_kgid(t->cred->user_ns, u.gid, &out.gid))
		return -EINVAL;
	if ((u.pid != thread_group_pid_in(t->tg, ns) && !task_capable_ns(t, ns->user_ns, CAP_SYS_ADMIN_NR)) ||
	    (!uid_is_mine(t->cred, out.uid) && !task_capable(t, CAP_SETUID_NR)) ||
	    (!gid_is_mine(t->cred, out.gid) && !task_capable(t, CAP_SETGID_NR)))
		return -EPERM;
	tg = thread_group_find(ns, u.pid);
	if (!tg)
		return -ESRCH;
	out.pid = pid_get(tg->pid);
	thread_group_put(tg);
	scm_creds_fini(&c->creds);
	c->creds = out;
	c->has_creds = true;
	return 0;
}

/* Keeps a control message of the protocol itself for the family. */
static int other_in(const uint8_t *raw, size_t size, struct sock_control *c)
{
	size_t padded = GUEST_CMSG_ALIGN(size);
	uint8_t *p = realloc(c->other, c->other_size + padded);

	if (!p)
		return -ENOMEM;
	memcpy(p + c->other_size, raw, size);
	memset(p + c->other_size + size, 0, padded - size);
	c->other = p;
	c->other_size += padded;
	return 0;
}

static int control_parse(struct task *t, struct socket *s, const uint8_t *buf, size_t size, struct sock_control *c)
{
	struct cmsg_iter it = { .buf = buf, .size = size };
	struct cmsg_item item;
	int ret;

	while ((ret = cmsg_next(&it, &item)) > 0) {
		if (item.level != SOL_SOCKET || s->family != AF_UNIX) {
			ret = s->family == AF_UNIX ? 0 : other_in(item.data - GUEST_CMSG_HDR, item.size + GUEST_CMSG_HDR, c);
		} else if (item.type == SCM_RIGHTS) {
			ret = rights_in(t, &item, c);
		} else if (item.type == SCM_CREDENTIALS) {
			ret = creds_in(t, &item, c);
		} else {
			ret = -EINVAL;
		}
		if (ret < 0)
			return ret;
	}
	return ret;
}

static int control_in(struct task *t, struct socket *s, const struct guest_msghdr *h, struct sock_control *c)
{
	uint8_t few[CMSG_STACK], *buf = few;
	int ret;

	if (!h->control || h->control_size < GUEST_CMSG_HDR)
		return 0;
	if (h->control_size > CMSG_BUF_MAX)
		return -ENOBUFS;
	if (h->control_size > sizeof(few)) {
		buf = malloc(h->control_size);
		if (!buf)
			return -ENOMEM;
	}
	ret = copy_in(task_umem(t), buf, UADDR(h->control), h->control_size);
	if (ret == 0)
		ret = control_parse(t, s, buf, h->control_size, c);
	if (buf != few)
		free(buf);
	return ret;
}

static int64_t send_msghdr(struct task *t, struct file *f, struct socket *s, const struct guest_msghdr *h, uint32_t flags)
{
	struct sock_control control = { 0 };
	struct uio_seg few[IOV_STACK], *seg;
	struct sock_addr to;
	struct uio u;
	struct sock_msg m = { .uio = &u, .flags = flags, .control = &control };
	int64_t ret;

	if (h->name && h->name_size) {
		/* An over-long name is cut, as Linux does here and only here. */
		ret = addr_in(t, UADDR(h->name), h->name_size < 0 ? h->name_size : MIN(h->name_size, SOCK_ADDR_MAX), &to);
		if (ret < 0)
			return ret;
		m.to = &to;
	}
	ret = msg_iov_in(t, h, few, &seg);
	if (ret < 0)
		return ret;
	ret = control_in(t, s, h, &control);
	if (ret >= 0) {
		uio_init_segs(&u, task_umem(t), seg, (unsigned)h->iov_count);
		ret = do_send(t, f, s, &m);
	}
	sock_control_fini(&control);
	if (seg != few)
		free(seg);
	return ret;
}

int64_t sys_sendmsg(struct task *t, int32_t fd, uaddr_t msg, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct guest_msghdr h;
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	if (ret < 0)
		return ret;
	if (copy_in_struct(task_umem(t), &h, msg) < 0)
		return -EFAULT;
	return send_msghdr(t, f, s, &h, flags & ~0x80000000u);
}

int64_t sys_sendmmsg(struct task *t, int32_t fd, uaddr_t mmsg, uint32_t count, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	int64_t ret = socket_at(t, fd, &f, &s);
	uint32_t done;

	if (ret < 0)
		return ret;
	count = MIN(count, MMSG_MAX);
	for (done = 0; done < count; done++) {
		uaddr_t at = uaddr_add(mmsg, (uint64_t)done * 64);
		struct guest_msghdr h;
		uint32_t sent;

		ret = copy_in_struct(task_umem(t), &h, at);
		if (ret == 0)
			ret = send_msghdr(t, f, s, &h, flags & ~0x80000000u);
		if (ret < 0)
			break;
		sent = (uint32_t)ret;
		ret = copy_out_struct(task_umem(t), uaddr_add(at, sizeof(h)), &sent);
		if (ret < 0)
			break;
	}
	return done ? done : ret;
}

/* Installs received files and writes their numbers; what does not fit is closed. */
static void rights_out(struct task *t, struct cmsg_out *out, struct scm_files *files, bool cloexec)
{
	size_t fit = cmsg_room(out) / sizeof(int32_t);
	int32_t fd[SCM_FILES_MAX];
	unsigned n = 0;

	while (n < files->count && n < fit) {
		fd[n] = task_fd_install(t, files->file[n], cloexec);
		if (fd[n] < 0)
			break;
		n++;
	}
	if (n)
		cmsg_put(out, SOL_SOCKET, SCM_RIGHTS, fd, n * sizeof(fd[0]));
	if (n < files->count)
		out->truncated = true;
}

static void control_encode(struct task *t, struct socket *s, struct sock_control *c, struct cmsg_out *out, uint32_t flags)
{
	struct cmsg_iter it = { .buf = c->other, .size = c->other_size };
	struct cmsg_item item;

	while (cmsg_next(&it, &item) > 0)
		cmsg_put(out, item.level, item.type, item.data, item.size);
	if (c->has_creds && s->family == AF_UNIX) {
		struct ucred u = {
			.pid = c->creds.pid ? pid_nr_in(c->creds.pid, task_pid_ns(t)) : 0,
			.uid = user_ns_from_kuid_munged(t->cred->user_ns, c->creds.uid),
			.gid = user_ns_from_kgid_munged(t->cred->user_ns, c->creds.gid),
		};

		cmsg_put(out, SOL_SOCKET, SCM_CREDENTIALS, &u, sizeof(u));
	}
	if (c->files)
		rights_out(t, out, c->files, flags & MSG_CMSG_CLOEXEC);
}

/* Writes the control messages out; *h gets their size. */
static int control_out(struct task *t, struct socket *s, struct sock_control *c, struct guest_msghdr *h, uint32_t flags)
{
	size_t room = h->control ? MIN(h->control_size, (uint64_t)CMSG_BUF_MAX) : 0;
	uint8_t few[CMSG_STACK], *buf = few;
	struct cmsg_out out = { .buf = few, .size = room };
	int ret;

	h->control_size = 0;
	if (!c->other_size && !c->has_creds && !c->files)
		return 0;
	if (room > sizeof(few)) {
		buf = malloc(room);
		if (!buf)
			return -ENOMEM;
		out.buf = buf;
	}
	control_encode(t, s, c, &out, flags);
	if (out.truncated || c->other_truncated)
		h->flags |= MSG_CTRUNC;
	h->control_size = out.used;
	ret = copy_out(task_umem(t), UADDR(h->control), buf, out.used);
	if (buf != few)
		free(buf);
	return ret;
}

/* The parts of the header that recvmsg changes. */
static int msghdr_out(struct task *t, uaddr_t at, const struct guest_msghdr *h)
{
	struct umem *um = task_umem(t);

	if (copy_out_struct(um, uaddr_add(at, offsetof(struct guest_msghdr, flags)), &h->flags) < 0 ||
	    copy_out_struct(um, uaddr_add(at, offsetof(struct guest_msghdr, control_size)), &h->control_size) < 0)
		return -EFAULT;
	return h->name ? copy_out_struct(um, uaddr_add(at, offsetof(struct guest_msghdr, name_size)), &h->name_size) : 0;
}

static int64_t recv_msghdr(struct task *t, struct file *f, struct socket *s, uaddr_t at, uint32_t flags)
{
	struct sock_control control = { 0 };
	struct uio_seg few[IOV_STACK], *seg;
	struct sock_addr from = { 0 };
	struct guest_msghdr h;
	struct uio u;
	struct sock_msg m = { .uio = &u, .flags = flags, .control = &control };
	int64_t ret;

	if (copy_in_struct(task_umem(t), &h, at) < 0)
		return -EFAULT;
	if (h.name_size < 0)
		return -EINVAL;
	ret = msg_iov_in(t, &h, few, &seg);
	if (ret < 0)
		return ret;
	uio_init_segs(&u, task_umem(t), seg, (unsigned)h.iov_count);
	m.from = h.name ? &from : NULL;
	m.control_room = h.control ? h.control_size : 0;
	ret = do_recv(t, f, s, &m);
	if (ret >= 0) {
		int err = 0;

		h.flags = m.out_flags | (flags & MSG_CMSG_CLOEXEC);
		if (h.name) {
			err = copy_out(task_umem(t), UADDR(h.name), from.raw, MIN(from.size, (uint32_t)h.name_size));
			h.name_size = (int32_t)from.size;
		}
		if (err == 0)
			err = control_out(t, s, &control, &h, flags);
		if (err == 0)
			err = msghdr_out(t, at, &h);
		if (err < 0)
			ret = err;
	}
	sock_control_fini(&control);
	if (seg != few)
		free(seg);
	return ret;
}

int64_t sys_recvmsg(struct task *t, int32_t fd, uaddr_t msg, uint32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	int ret = socket_at(t, fd, &f, &s);

	return ret < 0 ? ret : recv_msghdr(t, f, s, msg, flags & ~0x80000000u);
}

int64_t sys_recvmmsg(struct task *t, int32_t fd, uaddr_t mmsg, uint32_t count, uint32_t flags, uaddr_t timeout)
{
	AUTO(file_put) struct file *f = NULL;
	struct socket *s;
	uint32_t done;
	int64_t deadline, ret = deadline_from_timespec(t, timeout, &deadline);

	if (ret == 0)
		ret = socket_at(t, fd, &f, &s);
	if (ret < 0)
		return ret;
	count = MIN(count, MMSG_MAX);
	for (done = 0; done < count; done++) {
		uaddr_t at = uaddr_add(mmsg, (uint64_t)done * 64);
		uint32_t got;

		ret = recv_msghdr(t, f, s, at, flags & ~(uint32_t)MSG_WAITFORONE);
		if (ret < 0)
			break;
		got = (uint32_t)ret;
		ret = copy_out_struct(task_umem(t), uaddr_add(at, sizeof(struct guest_msghdr)), &got);
		if (ret < 0)
			break;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		if (deadline != TIME_FOREVER && clock_mono() >= deadline) {
			done++;
			break;
		}
	}
	if (timeout.v && deadline != TIME_FOREVER) {
		struct timespec left = ns_to_timespec(MAX(deadline - clock_mono(), (int64_t)0));

		if (copy_out_struct(task_umem(t), timeout, &left) < 0 && !done)
			return -EFAULT;
	}
	return done ? done : ret;
}
