/* What /proc/net shows, from the side that knows. */
#ifndef SENTRY_NET_CORE_PROC_NET_H
#define SENTRY_NET_CORE_PROC_NET_H

struct net_ns;
struct seq;

/*
 * Appends the rows of /proc/net/NAME (tcp, udp, unix, dev, route, ...) of ns to q; the head line is
 * already there. Unknown names add nothing. Task thread, no locks.
 */
void net_proc_show(struct net_ns *ns, const char *name, struct seq *q);

#endif
