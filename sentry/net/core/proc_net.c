/* Rows of /proc/net. */
#include "sentry/net/core/proc_net.h"

#include <string.h>

#include "sentry/net/core/socket.h"
#include "sentry/vfs/simple.h"

void (*net_proc_unix_hook)(struct net_ns *ns, struct seq *q);
void (*net_proc_dev_hook)(struct net_ns *ns, struct seq *q);

void net_proc_show(struct net_ns *ns, const char *name, struct seq *q)
{
	if (strcmp(name, "unix") == 0 && net_proc_unix_hook)
		net_proc_unix_hook(ns, q);
	else if (strcmp(name, "dev") == 0 && net_proc_dev_hook)
		net_proc_dev_hook(ns, q);
}
