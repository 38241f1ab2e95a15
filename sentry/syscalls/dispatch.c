/* One system call of the current task: count, trace, run. */
#include "sentry/syscalls/strace_priv.h"
#include "sentry/syscalls/syscalls.h"

int64_t syscall_dispatch(struct task *t, int64_t nr, const uint64_t arg[6])
{
	struct syscall_desc *d = syscall_by_number(nr);

	if (unlikely(!d)) {
		if (unlikely(strace_active))
			return strace_unknown(t, nr, arg);
		return -ENOSYS;
	}
	atomic_fetch_add_explicit(&d->count, 1, memory_order_relaxed);
	if (unlikely(strace_active))
		return strace_call(t, d, arg);
	return d->call(t, arg);
}
