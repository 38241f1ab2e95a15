#include "sentry/net/host/maker.h"

#include <linux/netlink.h>
#include <stdlib.h>

#include "platform/base/log.h"
#include "platform/host/socket.h"

struct host_maker {
	struct net_maker m;
	struct mutex mu; /* LOCK_LEAF: one request at a time */
	int conn;	 /* mu; -1: broken */
};

static void close_if_open(int fd)
{
	if (fd >= 0)
		host_close(fd);
}

static int maker_make(struct net_maker *m, int family, int type, int protocol)
{
	struct host_maker *h = container_of(m, struct host_maker, m);
	int fd;

	GUARD(mutex, &h->mu);
	if (h->conn < 0)
		return -ENETDOWN;
	fd = host_socket_ask(h->conn, family, type, protocol);
	if (fd == -ENETDOWN) {
		host_close(h->conn);
		h->conn = -1;
	}
	return fd;
}

static void maker_free(struct net_maker *m)
{
	struct host_maker *h = container_of(m, struct host_maker, m);

	close_if_open(h->conn);
	close_if_open(m->route_fd);
	close_if_open(m->inet_fd);
	mutex_fini(&h->mu);
	free(h);
}

struct net_maker *net_maker_new(int conn)
{
	struct host_maker *h = calloc(1, sizeof(*h));

	if (!h) {
		host_close(conn);
		return NULL;
	}
	mutex_init(&h->mu, LOCK_LEAF);
	h->conn = conn;
	h->m = (struct net_maker){ .make = maker_make, .free = maker_free };
	h->m.route_fd = maker_make(&h->m, AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
	h->m.inet_fd = maker_make(&h->m, AF_INET, SOCK_DGRAM, 0);
	if (h->m.route_fd < 0 || h->m.inet_fd < 0)
		log_warn("no view of a container's interfaces (route %d, inet %d)", h->m.route_fd, h->m.inet_fd);
	return &h->m;
}
