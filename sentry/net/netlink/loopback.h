/* The one interface of a fresh network namespace: a loopback device that is down (network_namespaces(7)). */
#ifndef SENTRY_NET_NETLINK_LOOPBACK_H
#define SENTRY_NET_NETLINK_LOOPBACK_H

#include "sentry/core/umem.h"

/* SIOCGIF* requests (netdevice(7)) in such a namespace: 0 or -errno. */
int64_t loopback_ioctl(uint32_t cmd, uint64_t arg, struct umem *um);
/* Its RTM_NEWLINK message (rtnetlink(7)) in buf, a part of a dump when multi; returns the size. */
uint32_t loopback_link(uint8_t *buf, uint32_t size, uint32_t seq, uint32_t port, bool multi);

#endif
