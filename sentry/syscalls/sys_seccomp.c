/* seccomp(2) and its form in prctl(2). */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/syscalls/prctl_priv.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_SYS_ADMIN 21
#define FLAGS_KNOWN                                                                                \
	((uint32_t)(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |                          \
		    SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_NEW_LISTENER |                \
		    SECCOMP_FILTER_FLAG_TSYNC_ESRCH | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV))

static bool flags_valid(uint32_t flags)
{
	bool listener = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER;

	if (flags & ~FLAGS_KNOWN)
		return false;
	/* Both a descriptor and a thread id would be the result. */
	if (listener && flags & SECCOMP_FILTER_FLAG_TSYNC && !(flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH))
		return false;
	return listener || !(flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
}

/* Installs the filter with a new listener. Its descriptor, or a negative errno. */
static int install_listener(struct task *t, const struct bpf_insn *insn, unsigned count, uint32_t flags)
{
	struct seccomp_notify *notify;
	struct file *f;
	int fd, err = seccomp_listener_new(t->cred, &f, &notify);

	if (err < 0)
		return err;
	fd = fdtable_reserve(t->fdt, 0, task_rlimit(t, RLIMIT_NOFILE), true);
	err = fd < 0 ? fd : seccomp_install(t, insn, count, flags, notify);
	if (err == 0)
		fdtable_commit(t->fdt, fd, f);
	else if (fd >= 0)
		fdtable_cancel(t->fdt, fd);
	file_put(f);
	return err < 0 ? err : fd;
}

static int64_t set_filter(struct task *t, uint32_t flags, uaddr_t uargs)
{
	struct {
		uint16_t len;
		uint16_t pad[3];
		uint64_t filter;
	} prog;
	struct bpf_insn *insn;
	int err;

	if (!flags_valid(flags))
		return -EINVAL;
	if (t->seccomp_mode == SECCOMP_MODE_STRICT)
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &prog, uargs) < 0)
		return -EFAULT;
	if (prog.len == 0 || prog.len > BPF_MAXINSNS)
		return -EINVAL;
	if (!t->cred->no_new_privs && !task_capable(t, CAP_SYS_ADMIN))
		return -EACCES;
	insn = calloc(prog.len, sizeof(*insn));
	if (!insn)
		return -ENOMEM;
	err = copy_in(task_umem(t), insn, UADDR(prog.filter), prog.len * sizeof(*insn));
	if (err == 0)
		err = flags & SECCOMP_FILTER_FLAG_NEW_LISTENER ? install_listener(t, insn, prog.len, flags) :
								 seccomp_install(t, insn, prog.len, flags, NULL);
	free(insn);
	return err;
}

static int64_t set_strict(struct task *t)
{
	if (t->seccomp_mode && t->seccomp_mode != SECCOMP_MODE_STRICT)
		return -EINVAL;
	t->seccomp_mode = SECCOMP_MODE_STRICT;
	return 0;
}

static int64_t action_avail(struct task *t, uaddr_t uargs)
{
	uint32_t action;

	if (copy_in_struct(task_umem(t), &action, uargs) < 0)
		return -EFAULT;
	switch (action) {
	case SECCOMP_RET_KILL_PROCESS:
	case SECCOMP_RET_KILL_THREAD:
	case SECCOMP_RET_TRAP:
	case SECCOMP_RET_ERRNO:
	case SECCOMP_RET_TRACE:
	case SECCOMP_RET_USER_NOTIF:
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ALLOW:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
}

static int64_t notif_sizes(struct task *t, uaddr_t uargs)
{
	const struct seccomp_notif_sizes sizes = { .seccomp_notif = sizeof(struct seccomp_notif),
						   .seccomp_notif_resp = sizeof(struct seccomp_notif_resp),
						   .seccomp_data = sizeof(struct seccomp_data) };

	return copy_out_struct(task_umem(t), uargs, &sizes) < 0 ? -EFAULT : 0;
}

/* seccomp(2) */
int64_t sys_seccomp(struct task *t, arg_uint_t op, arg_flags_t flags, arg_uaddr_t uargs)
{
	switch (op) {
	case SECCOMP_SET_MODE_STRICT:
		return flags || uargs.v ? -EINVAL : set_strict(t);
	case SECCOMP_SET_MODE_FILTER:
		return set_filter(t, flags, uargs);
	case SECCOMP_GET_ACTION_AVAIL:
		return flags ? -EINVAL : action_avail(t, uargs);
	case SECCOMP_GET_NOTIF_SIZES:
		return flags ? -EINVAL : notif_sizes(t, uargs);
	default:
		return -EINVAL;
	}
}

int64_t prctl_set_seccomp(struct task *t, uint64_t mode, uaddr_t filter)
{
	switch (mode) {
	case SECCOMP_MODE_STRICT:
		return set_strict(t);
	case SECCOMP_MODE_FILTER:
		return set_filter(t, 0, filter);
	default:
		return -EINVAL;
	}
}
