/* What others may do with a netlink socket. */
#ifndef SENTRY_NET_NETLINK_NETLINK_H
#define SENTRY_NET_NETLINK_NETLINK_H

#include <stddef.h>

#include "platform/base/compiler.h"

struct file;

/* Is f a netlink socket? */
bool file_is_netlink(struct file *f);
/* Queues size bytes as one datagram of the kernel on netlink socket f (mq_notify with SIGEV_THREAD). */
void netlink_deliver(struct file *f, const void *data, size_t size);

#endif
