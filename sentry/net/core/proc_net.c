/* Rows of /proc/net. */
#include "sentry/net/core/proc_net.h"

#include <string.h>

#include "sentry/net/core/socket.h"
#include "sentry/vfs/simple.h"

void (*net_proc_unix_hook)(struct net_ns *ns, struct seq *q);
void (*net_proc_dev_hook)(struct net_ns *ns, struct seq *q);
void (*net_proc_inet_hook)(struct net_ns *ns, int family, int type, struct seq *q);

static const struct {
	const char *name;
	int family, type;
} inet_files[] = {
	{ "tcp", AF_INET, SOCK_STREAM },
	{ "udp", AF_INET, SOCK_DGRAM },
	{ "tcp6", AF_INET6, SOCK_STREAM },
	{ "udp6", AF_INET6, SOCK_DGRAM },
};

void net_proc_show(struct net_ns *ns, const char *name, struct seq *q)
{
	if (strcmp(name, "unix") == 0 && net_proc_unix_hook)
		net_proc_unix_hook(ns, q);
	else if (strcmp(name, "dev") == 0 && net_proc_dev_hook)
		net_proc_dev_hook(ns, q);
	for (size_t i = 0; i < ARRAY_COUNT(inet_files) && net_proc_inet_hook; i++)
		if (strcmp(name, inet_files[i].name) == 0)
			net_proc_inet_hook(ns, inet_files[i].family, inet_files[i].type, q);
}
