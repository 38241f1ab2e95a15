/* Weak stand-ins for parts that are not in the tree yet: System V ipc. */
#include "sentry/kernel/namespaces.h"

#define ABSENT __attribute__((weak))

static char no_ipc;

ABSENT struct ipc_ns *ipc_ns_new(struct user_ns *owner)
{
	(void)owner;
	return (struct ipc_ns *)(void *)&no_ipc;
}

ABSENT struct ipc_ns *ipc_ns_get(struct ipc_ns *ns)
{
	return ns;
}

ABSENT void ipc_ns_put(struct ipc_ns *ns)
{
	(void)ns;
}

ABSENT uint64_t ipc_ns_ino(const struct ipc_ns *ns)
{
	(void)ns;
	return 1;
}

ABSENT struct user_ns *ipc_ns_owner(const struct ipc_ns *ns)
{
	(void)ns;
	return &root_user_ns;
}

ABSENT void ipc_exit_task(struct task *t)
{
	(void)t;
}
