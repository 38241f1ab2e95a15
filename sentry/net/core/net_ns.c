/* Network namespaces and the policy hook. */
#include <stdlib.h>

#include "sentry/core/cause.h"
#include "sentry/net/core/socket.h"
#include "sentry/state/desc.h"

STATE_DESC(net_ns, S_NOSAVE(net_ns, refs, "recounted"), S_REF(net_ns, 1, user_ns, user_ns),
	   S_VAL(net_ns, 2, ns_ino), S_VAL(net_ns, 3, host),
	   S_NOSAVE(net_ns, maker, "a gofer's connection"),
	   S_NOSAVE(net_ns, names_mu, "unheld at a safe point"), S_LIST(net_ns, 4, names, unix_sock),
	   S_LIST(net_ns, 5, sockets, unix_sock));

static bool host_allowed;
static struct net_ns *first_ns; /* borrowed: the first namespace made reaches the host's stack */

static struct net_ns *ns_new(struct user_ns *owner)
{
	struct net_ns *ns = calloc(1, sizeof(*ns));

	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	ns->user_ns = user_ns_get(owner);
	ns->ns_ino = ns_ino_next();
	mutex_init(&ns->names_mu, LOCK_OBJECT);
	for (size_t i = 0; i < ARRAY_COUNT(ns->names); i++)
		list_init(&ns->names[i]);
	list_init(&ns->sockets);
	return ns;
}

struct net_ns *net_ns_new_apart(struct user_ns *owner, struct net_maker *maker)
{
	struct net_ns *ns = ns_new(owner);

	if (!ns) {
		maker->free(maker);
		return NULL;
	}
	ns->host = true;
	ns->maker = maker;
	return ns;
}

struct net_ns *net_ns_new(struct user_ns *owner)
{
	struct net_ns *ns = ns_new(owner);
	struct net_ns *none = NULL;

	if (!ns)
		return NULL;
	ns->host = __atomic_compare_exchange_n(&first_ns, &none, ns, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE) &&
		   host_allowed;
	return ns;
}

struct net_ns *net_ns_get(struct net_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void net_ns_put(struct net_ns *ns)
{
	if (!ns || !refcount_put(&ns->refs))
		return;
	user_ns_put(ns->user_ns);
	mutex_fini(&ns->names_mu);
	if (ns->maker)
		ns->maker->free(ns->maker);
	free(ns);
}

uint64_t net_ns_ino(const struct net_ns *ns)
{
	return ns->ns_ino;
}

struct user_ns *net_ns_owner(const struct net_ns *ns)
{
	return ns->user_ns;
}

static int allow_all(enum net_op op UNUSED, const struct socket *s UNUSED, const struct sock_addr *a UNUSED)
{
	return 0;
}

static int (*_Atomic policy)(enum net_op op, const struct socket *s, const struct sock_addr *a) = allow_all;

int net_policy_check(enum net_op op, const struct socket *s, const struct sock_addr *a)
{
	int r = policy(op, s, a);

	return r < 0 ? cause(-r, CAUSE_POLICY, "network policy of the sandbox") : r;
}

void net_policy_set(int (*check)(enum net_op op, const struct socket *s, const struct sock_addr *a))
{
	policy = check ? check : allow_all;
}

void net_init(bool host)
{
	host_allowed = host;
	unix_family_init();
	netlink_family_init();
	host_family_init();
}
