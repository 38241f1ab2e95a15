/* futex(2) and its younger kin: argument checks; the work is in sentry/kernel/futex.c. */
#include <linux/futex.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/futex.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/syscalls/systime.h"

#define FUTEX2_SIZE_U32 2u
#define FUTEX2_PRIVATE_FLAG 128u

static int64_t futex_wait_restart(struct task *t)
{
	const uint64_t *a = t->restart.arg;
	int64_t r = futex_wait(t, UADDR(a[0]), a[1], (uint32_t)a[2], (uint32_t)a[3], (int64_t)a[4]);

	return r == -ERESTARTSYS ? -ERESTART_RESTARTBLOCK : r;
}

/* The deadline on CLOCK_MONOTONIC of a futex timeout; 0 or -errno. */
static int futex_deadline(struct task *t, uaddr_t utime, bool absolute, bool realtime, int64_t *ret)
{
	int64_t ns;
	int r;

	*ret = TIME_FOREVER;
	if (utime.v == 0)
		return 0;
	r = copy_in_timespec(t, utime, &ns);
	if (r < 0)
		return r;
	*ret = absolute ? deadline_from(realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC, ns) :
			  time_add(clock_mono(), ns);
	return 0;
}

static int64_t wait_call(struct task *t, uaddr_t addr, bool shared, uint32_t val, uint32_t bitset,
			 uaddr_t utime, bool absolute, bool realtime)
{
	int64_t deadline, r;

	r = futex_deadline(t, utime, absolute, realtime, &deadline);
	if (r < 0)
		return r;
	r = futex_wait(t, addr, shared, val, bitset, deadline);
	if (r != -ERESTARTSYS || deadline == TIME_FOREVER)
		return r;
	t->restart.fn = futex_wait_restart;
	t->restart.arg[0] = addr.v;
	t->restart.arg[1] = shared;
	t->restart.arg[2] = val;
	t->restart.arg[3] = bitset;
	t->restart.arg[4] = (uint64_t)deadline;
	return -ERESTART_RESTARTBLOCK;
}

int64_t sys_futex(struct task *t, uaddr_t addr, int32_t op, uint32_t val, uaddr_t utime, uaddr_t addr2,
		  uint32_t val3)
{
	bool shared = !(op & FUTEX_PRIVATE_FLAG), realtime = op & FUTEX_CLOCK_REALTIME;
	int cmd = op & FUTEX_CMD_MASK;
	int64_t deadline, r;

	if (realtime && cmd != FUTEX_WAIT && cmd != FUTEX_WAIT_BITSET && cmd != FUTEX_WAIT_REQUEUE_PI &&
	    cmd != FUTEX_LOCK_PI2)
		return -ENOSYS;
	switch (cmd) {
	case FUTEX_WAIT:
		return wait_call(t, addr, shared, val, FUTEX_BITSET_ALL, utime, false, false);
	case FUTEX_WAIT_BITSET:
		return wait_call(t, addr, shared, val, val3, utime, true, realtime);
	case FUTEX_WAKE:
		return futex_wake(t, addr, shared, (int32_t)val, FUTEX_BITSET_ALL);
	case FUTEX_WAKE_BITSET:
		return futex_wake(t, addr, shared, (int32_t)val, val3);
	case FUTEX_REQUEUE:
		return futex_requeue(t, addr, addr2, shared, (int32_t)val, (int32_t)utime.v, NULL);
	case FUTEX_CMP_REQUEUE:
		return futex_requeue(t, addr, addr2, shared, (int32_t)val, (int32_t)utime.v, &val3);
	case FUTEX_WAKE_OP:
		return futex_wake_op(t, addr, addr2, shared, (int32_t)val, (int32_t)utime.v, val3);
	case FUTEX_LOCK_PI: /* absolute CLOCK_REALTIME by definition */
	case FUTEX_LOCK_PI2:
		r = futex_deadline(t, utime, true, cmd == FUTEX_LOCK_PI || realtime, &deadline);
		return r < 0 ? r : futex_lock_pi(t, addr, shared, deadline, false);
	case FUTEX_TRYLOCK_PI:
		return futex_lock_pi(t, addr, shared, TIME_FOREVER, true);
	case FUTEX_UNLOCK_PI:
		return futex_unlock_pi(t, addr, shared);
	default:
		return -ENOSYS;
	}
}

int64_t sys_set_robust_list(struct task *t, uaddr_t head, uint64_t size)
{
	if (size != 24)
		return -EINVAL;
	t->robust_list = head;
	t->robust_list_size = size;
	return 0;
}

int64_t sys_get_robust_list(struct task *t, int32_t pid, uaddr_t head_ptr, uaddr_t len_ptr)
{
	AUTO(task_put) struct task *target = NULL;
	uint64_t head, size;

	target = pid ? task_find(task_pid_ns(t), pid) : task_get(t);
	if (!target)
		return -ESRCH;
	if (target != t && !task_may_access(t, target, false))
		return -EPERM;
	head = target->robust_list.v;
	size = 24;
	if (copy_out_struct(task_umem(t), len_ptr, &size) < 0 ||
	    copy_out_struct(task_umem(t), head_ptr, &head) < 0)
		return -EFAULT;
	return 0;
}

static bool futex2_flags_ok(uint32_t flags)
{
	return (flags & 3) == FUTEX2_SIZE_U32 && !(flags & ~(3u | FUTEX2_PRIVATE_FLAG));
}

int64_t sys_futex_waitv(struct task *t, uaddr_t waiters, uint32_t count, uint32_t flags, uaddr_t timeout,
			int32_t clockid)
{
	struct {
		uint64_t val, uaddr;
		uint32_t flags, reserved;
	} in[FUTEX_WAITV_LIMIT];
	struct futex_wait_one one[FUTEX_WAITV_LIMIT];
	int64_t deadline;
	int r;

	if (flags || count == 0 || count > FUTEX_WAITV_LIMIT || waiters.v == 0)
		return -EINVAL;
	if (timeout.v && clockid != CLOCK_REALTIME && clockid != CLOCK_MONOTONIC)
		return -EINVAL;
	r = futex_deadline(t, timeout, true, clockid == CLOCK_REALTIME, &deadline);
	if (r < 0)
		return r;
	if (copy_in(task_umem(t), in, waiters, count * sizeof(in[0])) < 0)
		return -EFAULT;
	for (uint32_t i = 0; i < count; i++) {
		if (!futex2_flags_ok(in[i].flags) || in[i].reserved || in[i].val > UINT32_MAX)
			return -EINVAL;
		one[i] = (struct futex_wait_one){ UADDR(in[i].uaddr), (uint32_t)in[i].val,
						  !(in[i].flags & FUTEX2_PRIVATE_FLAG) };
	}
	return futex_wait_many(t, one, count, deadline);
}

int64_t sys_futex_wake(struct task *t, uaddr_t addr, uint64_t mask, int32_t count, uint32_t flags)
{
	if (!futex2_flags_ok(flags) || mask > UINT32_MAX)
		return -EINVAL;
	return futex_wake(t, addr, !(flags & FUTEX2_PRIVATE_FLAG), count, (uint32_t)mask);
}

int64_t sys_futex_wait(struct task *t, uaddr_t addr, uint64_t val, uint64_t mask, uint32_t flags,
		       uaddr_t timeout, int32_t clockid)
{
	if (!futex2_flags_ok(flags) || mask > UINT32_MAX || val > UINT32_MAX)
		return -EINVAL;
	if (timeout.v && clockid != CLOCK_REALTIME && clockid != CLOCK_MONOTONIC)
		return -EINVAL;
	return wait_call(t, addr, !(flags & FUTEX2_PRIVATE_FLAG), (uint32_t)val, (uint32_t)mask, timeout, true,
			 clockid == CLOCK_REALTIME);
}
