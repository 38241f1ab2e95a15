/* Options of SOL_SOCKET that every family shares (socket(7)), and ioctls on any socket. */
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/sockios.h>

#include "sentry/kernel/task.h"
#include "sentry/net/core/socket.h"

#define BUF_MAX 4194304
#define SNDBUF_MIN 4608
#define RCVBUF_MIN 2304
#define CAP_NET_ADMIN_NR 12

int64_t (*socket_ifreq_hook)(struct net_ns *net, uint32_t cmd, uint64_t arg, struct umem *um);

static int get_int(const void *value, size_t size, int *ret)
{
	if (size < sizeof(*ret))
		return -EINVAL;
	memcpy(ret, value, sizeof(*ret));
	return 0;
}

/* A struct timeval of 64-bit members: both the old and the new numbering on 64-bit machines. */
static int set_timeout(_Atomic int64_t *timeout, const void *value, size_t size)
{
	struct timeval tv;
	int64_t ns;

	if (size < sizeof(tv))
		return -EINVAL;
	memcpy(&tv, value, sizeof(tv));
	if (tv.tv_usec < 0 || tv.tv_usec >= 1000000)
		return -EDOM;
	if (tv.tv_sec < 0)
		ns = 1; /* Linux: times out at once */
	else if (__builtin_mul_overflow(tv.tv_sec, NSEC_PER_SEC, &ns) ||
		 __builtin_add_overflow(ns, tv.tv_usec * 1000, &ns))
		ns = 0;
	atomic_store(timeout, ns);
	return 0;
}

static int set_buffer(struct socket *s, int *buffer, int value, int min, bool force)
{
	if (force && !(current && task_capable_ns(current, s->net->user_ns, CAP_NET_ADMIN_NR)))
		return -EPERM;
	if (force)
		value = value < 0 ? 0 : MIN(value, INT32_MAX / 2);
	else if (value < 0 || value > BUF_MAX / 2)
		value = BUF_MAX / 2;
	*buffer = MAX(value * 2, min);
	return 0;
}

/* Plain switches: the member that holds option name, or NULL. */
static bool *flag_of(struct socket *s, int name)
{
	switch (name) {
	case SO_REUSEADDR:
		return &s->reuse_addr;
	case SO_REUSEPORT:
		return &s->reuse_port;
	case SO_KEEPALIVE:
		return &s->keepalive;
	case SO_BROADCAST:
		return &s->broadcast;
	case SO_OOBINLINE:
		return &s->oob_inline;
	case SO_DONTROUTE:
		return &s->dont_route;
	case SO_TIMESTAMP:
		return &s->timestamp;
	default:
		return NULL;
	}
}

static int set_sol_socket(struct socket *s, int name, const void *value, size_t size)
{
	int v, ret;
	bool *flag;

	if (name == SO_RCVTIMEO_OLD || name == SO_RCVTIMEO_NEW)
		return set_timeout(&s->recv_timeout_ns, value, size);
	if (name == SO_SNDTIMEO_OLD || name == SO_SNDTIMEO_NEW)
		return set_timeout(&s->send_timeout_ns, value, size);
	if (name == SO_LINGER) {
		struct linger l;

		if (size < sizeof(l))
			return -EINVAL;
		memcpy(&l, value, sizeof(l));
		GUARD(mutex, &s->mu);
		s->linger = l;
		return 0;
	}
	ret = get_int(value, size, &v);
	if (ret < 0)
		return ret;
	GUARD(mutex, &s->mu);
	flag = flag_of(s, name);
	if (flag) {
		*flag = v != 0;
		return 0;
	}
	switch (name) {
	case SO_SNDBUF:
	case SO_SNDBUFFORCE:
		ret = set_buffer(s, &s->sndbuf, v, SNDBUF_MIN, name == SO_SNDBUFFORCE);
		break;
	case SO_RCVBUF:
	case SO_RCVBUFFORCE:
		ret = set_buffer(s, &s->rcvbuf, v, RCVBUF_MIN, name == SO_RCVBUFFORCE);
		break;
	case SO_PASSCRED:
		s->pass_cred = v != 0;
		break;
	case SO_PRIORITY:
		if ((v < 0 || v > 6) && !task_capable_ns(current, s->net->user_ns, CAP_NET_ADMIN_NR))
			return -EPERM;
		s->priority = v;
		break;
	case SO_MARK:
		if (!task_capable_ns(current, s->net->user_ns, CAP_NET_ADMIN_NR))
			return -EPERM;
		s->mark = v;
		break;
	case SO_PEEK_OFF:
		return v < 0 ? 0 : -EOPNOTSUPP; /* off, as it always is */
	case SO_RCVLOWAT:
	case SO_TIMESTAMPNS:
	case SO_NO_CHECK:
	case SO_BUSY_POLL:
		break;
	case SO_DEBUG:
		return v == 0 ? 0 : -EACCES;
	case SO_TYPE:
	case SO_PROTOCOL:
	case SO_DOMAIN:
	case SO_ERROR:
	case SO_ACCEPTCONN:
	default:
		ret = -ENOPROTOOPT;
	}
	if (ret == 0)
		waitq_wake(&s->waitq, 0x4 /* POLLOUT: the buffer may have grown */);
	return ret;
}

int socket_setsockopt(struct socket *s, int level, int name, const void *value, size_t size)
{
	int ret = s->ops->setsockopt ? s->ops->setsockopt(s, level, name, value, size) : -ENOPROTOOPT;

	if (ret != -ENOPROTOOPT || level != SOL_SOCKET)
		return ret;
	if (s->ops->own_sol_socket && name != SO_RCVTIMEO_OLD && name != SO_SNDTIMEO_OLD &&
	    name != SO_RCVTIMEO_NEW && name != SO_SNDTIMEO_NEW)
		return ret;
	return set_sol_socket(s, name, value, size);
}

static int put_value(void *value, size_t *size, const void *src, size_t src_size)
{
	*size = MIN(*size, src_size);
	memcpy(value, src, *size);
	return 0;
}

static int get_timeout(int64_t ns, void *value, size_t *size)
{
	struct timeval tv = { ns / NSEC_PER_SEC, ns % NSEC_PER_SEC / 1000 };

	return put_value(value, size, &tv, sizeof(tv));
}

static int get_sol_socket(struct socket *s, int name, void *value, size_t *size)
{
	int v;
	bool *flag;

	switch (name) {
	case SO_RCVTIMEO_OLD:
	case SO_RCVTIMEO_NEW:
		return get_timeout(s->recv_timeout_ns, value, size);
	case SO_SNDTIMEO_OLD:
	case SO_SNDTIMEO_NEW:
		return get_timeout(s->send_timeout_ns, value, size);
	case SO_LINGER:
		return put_value(value, size, &s->linger, sizeof(s->linger));
	case SO_TYPE:
		v = s->type;
		break;
	case SO_PROTOCOL:
		v = s->protocol;
		break;
	case SO_DOMAIN:
		v = s->family;
		break;
	case SO_ERROR:
		v = -socket_take_error(s);
		break;
	case SO_SNDBUF:
		v = s->sndbuf;
		break;
	case SO_RCVBUF:
		v = s->rcvbuf;
		break;
	case SO_PASSCRED:
		v = s->pass_cred;
		break;
	case SO_PRIORITY:
		v = s->priority;
		break;
	case SO_MARK:
		v = s->mark;
		break;
	case SO_PEEK_OFF:
		v = -1;
		break;
	case SO_RCVLOWAT:
	case SO_SNDLOWAT:
		v = 1;
		break;
	case SO_ACCEPTCONN:
	case SO_DEBUG:
	case SO_TIMESTAMPNS:
	case SO_NO_CHECK:
	case SO_BUSY_POLL:
		v = 0;
		break;
	default:
		flag = flag_of(s, name);
		if (!flag)
			return -ENOPROTOOPT;
		v = *flag;
	}
	return put_value(value, size, &v, sizeof(v));
}

int socket_getsockopt(struct socket *s, int level, int name, void *value, size_t *size)
{
	bool own = s->ops->own_sol_socket && name != SO_RCVTIMEO_OLD && name != SO_SNDTIMEO_OLD &&
		   name != SO_RCVTIMEO_NEW && name != SO_SNDTIMEO_NEW && name != SO_TYPE &&
		   name != SO_DOMAIN && name != SO_PROTOCOL;
	int ret = s->ops->getsockopt ? s->ops->getsockopt(s, level, name, value, size) : -ENOPROTOOPT;

	if (ret != -ENOPROTOOPT)
		return ret;
	if (level != SOL_SOCKET)
		return s->family == AF_UNIX ? -EOPNOTSUPP : ret;
	return own ? ret : get_sol_socket(s, name, value, size);
}

int64_t socket_ioctl(struct socket *s, uint32_t cmd, uint64_t arg, struct umem *um)
{
	switch (cmd) {
	case SIOCGIFNAME:
	case SIOCGIFCONF:
	case SIOCGIFFLAGS:
	case SIOCGIFADDR:
	case SIOCGIFDSTADDR:
	case SIOCGIFBRDADDR:
	case SIOCGIFNETMASK:
	case SIOCGIFMETRIC:
	case SIOCGIFMTU:
	case SIOCGIFHWADDR:
	case SIOCGIFINDEX:
	case SIOCGIFTXQLEN:
	case SIOCGIFMAP:
		return socket_ifreq_hook ? socket_ifreq_hook(s->net, cmd, arg, um) : -ENODEV;
	case SIOCSIFFLAGS:
	case SIOCSIFADDR:
	case SIOCSIFNETMASK:
	case SIOCSIFMTU:
	case SIOCADDRT:
	case SIOCDELRT: {
		uint8_t req[SOCK_IFREQ_SIZE];

		/* Interfaces are the sandbox's; the error for a bad pointer is still the guest's. */
		return copy_in_struct(um, &req, UADDR(arg)) < 0 ? -EFAULT : -EPERM;
	}
	default:
		return -ENOTTY;
	}
}
