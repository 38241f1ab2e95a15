/* /proc/PID/net: tables of the task's network namespace, filled by sentry/net. */
#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/proc_priv.h"
#include "sentry/net/core/proc_net.h"

static const struct {
	const char *name, *head;
} net_files[] = {
	{ "dev", "Inter-|   Receive                                                |  Transmit\n"
		 " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs "
		 "drop fifo colls carrier compressed\n" },
	{ "tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
		 "                                                     \n" },
	{ "tcp6", "  sl  local_address                         remote_address                        st tx_queue "
		  "rx_queue tr tm->when retrnsmt   uid  timeout inode\n" },
	{ "udp", "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
		 "inode ref pointer drops             \n" },
	{ "udp6", "  sl  local_address                         remote_address                        st tx_queue "
		  "rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" },
	{ "raw", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout "
		 "inode ref pointer drops\n" },
	{ "unix", "Num       RefCount Protocol Flags    Type St Inode Path\n" },
	{ "route", "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT"
		   "                                                       \n" },
	{ "arp", "IP address       HW type     Flags       HW address            Mask     Device\n" },
	{ "if_inet6", "" },
	{ "ipv6_route", "" },
	{ "packet", "sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n" },
	{ "netlink", "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n" },
	{ "protocols", "protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss gs se "
		       "re sp bi br ha uh gp em\n" },
	{ "psched", "000003e8 00000040 000f4240 3b9aca00\n" },
	{ "ptype", "Type Device      Function\n" },
	{ "snmp", "" },
	{ "netstat", "" },
	{ "sockstat", "" },
	{ "sockstat6", "" },
};

static int net_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct task *t = proc_task(s);
	struct nsproxy *ns;

	(void)f;
	seq_puts(q, net_files[s->num].head);
	mutex_lock(&t->mu);
	ns = t->ns ? nsproxy_get(t->ns) : NULL;
	mutex_unlock(&t->mu);
	if (ns)
		net_proc_show(ns->net, net_files[s->num].name, q);
	nsproxy_put(ns);
	return 0;
}

static const struct simple_ops net_file_ops = {
	.name = "proc net file",
	.free = proc_free_task,
	.show = net_show,
};

static int net_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	for (unsigned i = 0; i < ARRAY_COUNT(net_files); i++) {
		if (strcmp(name, net_files[i].name) == 0) {
			*ret = proc_task_inode(dir->inode.sb, &net_file_ops, S_IFREG | 0444, proc_task(dir),
					       400 + i, i);
			return *ret ? 0 : -ENOMEM;
		}
	}
	return -ENOENT;
}

static int net_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	(void)dir;
	(void)f;
	for (int64_t i = *pos - SIMPLE_DYNAMIC; i < (int64_t)ARRAY_COUNT(net_files); i++) {
		if (!d->emit(d, net_files[i].name, strlen(net_files[i].name), 402 + (uint64_t)i, DT_REG,
			     SIMPLE_DYNAMIC + i + 1))
			return 0;
		*pos = SIMPLE_DYNAMIC + i + 1;
	}
	return 0;
}

const struct simple_ops proc_net_dir_ops = {
	.name = "proc net",
	.free = proc_free_task,
	.lookup = net_lookup,
	.iterate = net_iterate,
};
