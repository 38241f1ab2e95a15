/* Arguments of calls that wait: signal masks and timeouts. */
#ifndef SENTRY_SYSCALLS_WAIT_ARGS_H
#define SENTRY_SYSCALLS_WAIT_ARGS_H

#include <poll.h>

#include "sentry/kernel/block.h"
#include "sentry/kernel/task.h"

/* Puts the mask at addr in place for the call (NULL: none). 0, -EINVAL for a wrong size, -EFAULT. */
static inline int sigmask_enter(struct task *t, uaddr_t addr, uint64_t size)
{
	sigset_kernel mask;

	if (!addr.v)
		return 0;
	if (size != sizeof(mask))
		return -EINVAL;
	if (copy_in_struct(task_umem(t), &mask, addr) < 0)
		return -EFAULT;
	signal_mask_replace(t, mask & ~SIGMASK_UNBLOCKABLE);
	return 0;
}

/* Ends sigmask_enter; an interrupted call leaves the mask for the handler's return. */
static inline void sigmask_leave(struct task *t, bool interrupted)
{
	if (t->restore_mask && !interrupted)
		signal_mask_restore(t);
}

/* Reads a timespec at addr as an absolute CLOCK_MONOTONIC deadline; NULL: never. -EFAULT, -EINVAL. */
static inline int deadline_from_timespec(struct task *t, uaddr_t addr, int64_t *ret_deadline)
{
	struct timespec ts;
	int64_t ns;

	*ret_deadline = TIME_FOREVER;
	if (!addr.v)
		return 0;
	if (copy_in_struct(task_umem(t), &ts, addr) < 0)
		return -EFAULT;
	if (ts.tv_sec < 0 || !timespec_to_ns(&ts, &ns))
		return -EINVAL;
	*ret_deadline = ns == 0 ? 0 : time_add(clock_mono(), ns);
	return 0;
}

static inline int64_t deadline_from_ms(int32_t ms)
{
	return ms < 0 ? TIME_FOREVER : ms == 0 ? 0 : time_add(clock_mono(), (int64_t)ms * 1000000);
}

#endif
