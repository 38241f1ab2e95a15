/* Weak stand-ins for parts that are not in the tree yet: terminals and System V ipc. */
#include "sentry/fs/devpts/tty.h"
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

ABSENT void devpts_init(void)
{
}

ABSENT int devpts_open_ptmx(struct file *f)
{
	(void)f;
	return -ENXIO;
}

ABSENT int tty_open_current(struct file *f)
{
	(void)f;
	return -ENXIO;
}

ABSENT int host_tty_file_new(int host_fd, const struct cred *cred, struct file **ret_file, struct tty **ret_tty)
{
	(void)host_fd;
	(void)cred;
	(void)ret_file;
	(void)ret_tty;
	return -ENODEV;
}

ABSENT void host_tty_resized(struct tty *t)
{
	(void)t;
}

ABSENT struct tty *tty_get(struct tty *t)
{
	return t;
}

ABSENT void tty_put(struct tty *t)
{
	(void)t;
}

ABSENT const char *tty_name(const struct tty *t)
{
	(void)t;
	return "?";
}

ABSENT dev_t tty_dev(const struct tty *t)
{
	(void)t;
	return 0;
}
