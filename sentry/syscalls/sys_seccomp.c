/* seccomp(2) and its form in prctl(2). */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "sentry/kernel/seccomp.h"
#include "sentry/syscalls/prctl_priv.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_SYS_ADMIN 21
#define FLAGS_KNOWN                                                                                \
	((uint32_t)(SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG |                          \
		    SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_TSYNC_ESRCH))

static int64_t set_filter(struct task *t, uint32_t flags, uaddr_t uargs)
{
	struct {
		uint16_t len;
		uint16_t pad[3];
		uint64_t filter;
	} prog;
	struct bpf_insn *insn;
	int err;

	if (flags & ~FLAGS_KNOWN)
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
		err = seccomp_install(t, insn, prog.len, flags);
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
	case SECCOMP_RET_LOG:
	case SECCOMP_RET_ALLOW:
		return 0;
	default:
		return -EOPNOTSUPP;
	}
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
