#include "sentry/net/netlink/loopback.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/ioctl.h>

#define LO_INDEX 1
#define LO_MTU 65536
#define LO_QUEUE 1000

static int64_t no_addresses(uint64_t arg, struct umem *um)
{
	int32_t none = 0, size;

	if (copy_in_struct(um, &size, UADDR(arg)) < 0)
		return -EFAULT;
	return size < 0 ? -EINVAL : copy_out_struct(um, UADDR(arg), &none);
}

int64_t loopback_ioctl(uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct ifreq req;

	if (cmd == SIOCGIFCONF)
		return no_addresses(arg, um);
	if (copy_in_struct(um, &req, UADDR(arg)) < 0)
		return -EFAULT;
	if (cmd == SIOCGIFNAME) {
		if (req.ifr_ifindex != LO_INDEX)
			return -ENODEV;
		strcpy(req.ifr_name, "lo");
		return copy_out_struct(um, UADDR(arg), &req);
	}
	req.ifr_name[IFNAMSIZ - 1] = '\0';
	if (strcmp(req.ifr_name, "lo") != 0)
		return -ENODEV;
	memset(&req.ifr_ifru, 0, sizeof(req.ifr_ifru));
	switch (cmd) {
	case SIOCGIFINDEX:
		req.ifr_ifindex = LO_INDEX;
		break;
	case SIOCGIFFLAGS:
		req.ifr_flags = IFF_LOOPBACK;
		break;
	case SIOCGIFMTU:
		req.ifr_mtu = LO_MTU;
		break;
	case SIOCGIFTXQLEN:
		req.ifr_qlen = LO_QUEUE;
		break;
	case SIOCGIFHWADDR:
		req.ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
		break;
	case SIOCGIFMETRIC:
	case SIOCGIFMAP:
		break;
	default: /* addresses */
		return -EADDRNOTAVAIL;
	}
	return copy_out_struct(um, UADDR(arg), &req);
}

struct link_message {
	struct nlmsghdr h;
	struct ifinfomsg i;
	struct rtattr name_attr;
	char name[4];
	struct rtattr mtu_attr;
	uint32_t mtu;
	struct rtattr queue_attr;
	uint32_t queue;
};

uint32_t loopback_link(uint8_t *buf, uint32_t size, uint32_t seq, uint32_t port, bool multi)
{
	struct link_message m = {
		.h = { .nlmsg_len = sizeof(m),
		       .nlmsg_type = RTM_NEWLINK,
		       .nlmsg_flags = multi ? NLM_F_MULTI : 0,
		       .nlmsg_seq = seq,
		       .nlmsg_pid = port },
		.i = { .ifi_type = ARPHRD_LOOPBACK, .ifi_index = LO_INDEX, .ifi_flags = IFF_LOOPBACK },
		.name_attr = { .rta_len = RTA_LENGTH(3), .rta_type = IFLA_IFNAME },
		.name = "lo",
		.mtu_attr = { .rta_len = RTA_LENGTH(4), .rta_type = IFLA_MTU },
		.mtu = LO_MTU,
		.queue_attr = { .rta_len = RTA_LENGTH(4), .rta_type = IFLA_TXQLEN },
		.queue = LO_QUEUE,
	};

	if (size < sizeof(m))
		return 0;
	memcpy(buf, &m, sizeof(m));
	return sizeof(m);
}
