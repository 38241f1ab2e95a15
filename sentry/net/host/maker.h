/* Sockets of another host namespace than the sentry's: a process in it makes them (platform/host/socket.h). */
#ifndef SENTRY_NET_HOST_MAKER_H
#define SENTRY_NET_HOST_MAKER_H

#include "sentry/net/core/socket.h"

/* Takes conn over, and asks at once for the two sockets of the maker. Sleeps. NULL: no memory. */
struct net_maker *net_maker_new(int conn);

#endif
