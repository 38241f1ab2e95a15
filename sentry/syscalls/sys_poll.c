/* poll(2), ppoll(2), select(2), pselect6(2). */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/wait_args.h"
#include "sentry/syscalls/syscalls.h"

#define POLL_STACK 24
#define POLL_ALWAYS (POLLERR | POLLHUP | POLLNVAL)

struct poll_slot {
	struct waiter waiter;
	struct file *file;
	bool waiting;
};

/* One descriptor's events now; looks the file up once and keeps it in the slot. */
static int16_t poll_one(struct task *t, struct poll_slot *s, const struct pollfd *p)
{
	uint32_t want = (uint16_t)p->events;

	if (p->fd < 0)
		return 0;
	if (!s->file)
		s->file = task_fd_io(t, p->fd);
	if (!s->file)
		return POLLNVAL;
	return (int16_t)(file_poll(s->file, want) & (want | POLL_ALWAYS));
}

static int poll_scan(struct task *t, struct poll_slot *slot, struct pollfd *fds, unsigned count)
{
	int ready = 0;

	for (unsigned i = 0; i < count; i++) {
		fds[i].revents = poll_one(t, &slot[i], &fds[i]);
		ready += fds[i].revents != 0;
	}
	return ready;
}

static void poll_register(struct task *t, struct poll_slot *slot, const struct pollfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		uint32_t want = (uint16_t)fds[i].events;

		if (!slot[i].file)
			continue;
		if (want & (POLLRDNORM | POLLRDBAND))
			want |= POLLIN;
		if (want & (POLLWRNORM | POLLWRBAND))
			want |= POLLOUT;
		waiter_init(&slot[i].waiter, t, want | POLLERR | POLLHUP);
		slot[i].waiting = file_wait_add(slot[i].file, &slot[i].waiter.entry) == 0;
	}
}

/* Fills in revents; the number of descriptors with events, 0 at the deadline (0: do not wait),
 * -ERESTARTSYS, -ENOMEM. */
static int poll_files(struct task *t, struct pollfd *fds, unsigned count, int64_t deadline)
{
	struct poll_slot few[POLL_STACK], *slot = few;
	int ret;

	if (count > POLL_STACK) {
		slot = calloc(count, sizeof(*slot));
		if (!slot)
			return -ENOMEM;
	} else {
		for (unsigned i = 0; i < count; i++)
			slot[i] = (struct poll_slot){ 0 };
	}
	ret = poll_scan(t, slot, fds, count);
	if (ret == 0 && deadline != 0) {
		poll_register(t, slot, fds, count);
		while ((ret = poll_scan(t, slot, fds, count)) == 0) {
			ret = task_block(t, deadline, "poll");
			if (ret < 0)
				break;
		}
		if (ret == -ETIMEDOUT)
			ret = poll_scan(t, slot, fds, count);
	}
	for (unsigned i = 0; i < count; i++) {
		if (slot[i].waiting)
			waitq_remove(&slot[i].waiter.entry);
		if (slot[i].file)
			file_put(slot[i].file);
	}
	if (slot != few)
		free(slot);
	return ret;
}

static int64_t poll_user(struct task *t, uaddr_t ufds, unsigned count, int64_t deadline)
{
	struct pollfd few[POLL_STACK], *fds = few;
	size_t size = (size_t)count * sizeof(*fds);
	int64_t ret;

	if (count > task_rlimit(t, RLIMIT_NOFILE))
		return -EINVAL;
	if (count > POLL_STACK) {
		fds = malloc(size);
		if (!fds)
			return -ENOMEM;
	}
	ret = copy_in(task_umem(t), fds, ufds, size);
	if (ret == 0) {
		ret = poll_files(t, fds, count, deadline);
		if (ret >= 0 && copy_out(task_umem(t), ufds, fds, size) < 0)
			ret = -EFAULT;
	}
	if (fds != few)
		free(fds);
	return ret;
}

static int64_t poll_restart(struct task *t)
{
	int64_t ret = poll_user(t, UADDR(t->restart.arg[0]), (unsigned)t->restart.arg[1],
				(int64_t)t->restart.arg[2]);

	return ret == -ERESTARTSYS ? -ERESTART_RESTARTBLOCK : ret;
}

int64_t sys_poll(struct task *t, uaddr_t ufds, uint32_t nfds, int32_t timeout_ms)
{
	int64_t deadline = deadline_from_ms(timeout_ms);
	int64_t ret = poll_user(t, ufds, nfds, deadline);

	if (ret != -ERESTARTSYS)
		return ret;
	t->restart.fn = poll_restart;
	t->restart.arg[0] = ufds.v;
	t->restart.arg[1] = nfds;
	t->restart.arg[2] = (uint64_t)deadline;
	return -ERESTART_RESTARTBLOCK;
}

/* Writes back what is left of the timeout, as Linux's ppoll and select do; failure is ignored. */
static void timeout_write_left(struct task *t, uaddr_t addr, int64_t deadline, bool timeval)
{
	int64_t left;
	struct timespec ts;

	/* personality(2): STICKY_TIMEOUTS */
	if (t->personality & 0x4000000)
		return;
	if (!addr.v || deadline == TIME_FOREVER)
		return;
	left = deadline == 0 ? 0 : MAX(deadline - clock_mono(), (int64_t)0);
	ts = ns_to_timespec(left);
	if (timeval)
		ts.tv_nsec /= 1000;
	if (copy_out_struct(task_umem(t), addr, &ts) < 0)
		return;
}

int64_t sys_ppoll(struct task *t, uaddr_t ufds, uint32_t nfds, uaddr_t tsp, uaddr_t sigmask, uint64_t sigsetsize)
{
	int64_t deadline, ret = deadline_from_timespec(t, tsp, &deadline);

	if (ret < 0)
		return ret;
	ret = sigmask_enter(t, sigmask, sigsetsize);
	if (ret < 0)
		return ret;
	ret = poll_user(t, ufds, nfds, deadline);
	sigmask_leave(t, ret == -ERESTARTSYS);
	timeout_write_left(t, tsp, deadline, false);
	return ret == -ERESTARTSYS ? -ERESTARTNOHAND : ret;
}

#define SELECT_MAX (1u << 20)
#define SELECT_STACK_BYTES 128
#define SELECT_IN (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define SELECT_OUT (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define SELECT_EX POLLPRI

static bool bit_test(const uint8_t *map, unsigned i)
{
	return map[i / 8] & (1u << (i % 8));
}

/* The three maps (in, out, ex), `bytes` each, as one descriptor list; returns its length. */
static unsigned select_to_poll(const uint8_t *maps, size_t bytes, unsigned n, struct pollfd *fds)
{
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++) {
		int16_t ev = (int16_t)((bit_test(maps, i) ? SELECT_IN : 0) |
				       (bit_test(maps + bytes, i) ? SELECT_OUT : 0) |
				       (bit_test(maps + 2 * bytes, i) ? SELECT_EX : 0));

		if (!ev)
			continue;
		if (fds)
			fds[count] = (struct pollfd){ .fd = (int)i, .events = ev };
		count++;
	}
	return count;
}

/* The results back into the maps; the number of bits set, or -EBADF. */
static int poll_to_select(uint8_t *maps, size_t bytes, const struct pollfd *fds, unsigned count)
{
	static const int16_t class[3] = { SELECT_IN, SELECT_OUT, SELECT_EX };
	int bits = 0;

	for (unsigned i = 0; i < count; i++) {
		unsigned fd = (unsigned)fds[i].fd;

		if (fds[i].revents & POLLNVAL)
			return -EBADF;
		for (int k = 0; k < 3; k++) {
			uint8_t *map = maps + (size_t)k * bytes;

			if (!bit_test(map, fd))
				continue;
			if (fds[i].revents & class[k])
				bits++;
			else
				map[fd / 8] &= (uint8_t)~(1u << (fd % 8));
		}
	}
	return bits;
}

/* Checks that every descriptor is open before anything waits. */
static bool select_all_open(struct task *t, const struct pollfd *fds, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct file *f = task_fd_io(t, fds[i].fd);

		if (!f)
			return false;
		file_put(f);
	}
	return true;
}

static int64_t select_maps(struct task *t, uint8_t *maps, size_t bytes, unsigned n, int64_t deadline)
{
	struct pollfd few[POLL_STACK], *fds = few;
	unsigned count = select_to_poll(maps, bytes, n, NULL);
	int64_t ret;

	if (count > POLL_STACK) {
		fds = malloc(count * sizeof(*fds));
		if (!fds)
			return -ENOMEM;
	}
	select_to_poll(maps, bytes, n, fds);
	ret = select_all_open(t, fds, count) ? poll_files(t, fds, count, deadline) : -EBADF;
	if (ret >= 0)
		ret = poll_to_select(maps, bytes, fds, count);
	if (fds != few)
		free(fds);
	return ret;
}

static int64_t select_user(struct task *t, int32_t n, const uaddr_t user[3], int64_t deadline)
{
	uint8_t few[3 * SELECT_STACK_BYTES], *maps = few;
	size_t bytes;
	int64_t ret = 0;

	if (n < 0)
		return -EINVAL;
	n = MIN(n, (int32_t)SELECT_MAX);
	bytes = ALIGN_UP((size_t)n, 64) / 8;
	if (bytes > SELECT_STACK_BYTES) {
		maps = malloc(3 * bytes);
		if (!maps)
			return -ENOMEM;
	}
	memset(maps, 0, 3 * bytes);
	for (int k = 0; k < 3 && ret == 0; k++)
		if (user[k].v)
			ret = copy_in(task_umem(t), maps + (size_t)k * bytes, user[k], bytes);
	if (ret == 0)
		ret = select_maps(t, maps, bytes, (unsigned)n, deadline);
	for (int k = 0; k < 3 && ret >= 0; k++)
		if (user[k].v && copy_out(task_umem(t), user[k], maps + (size_t)k * bytes, bytes) < 0)
			ret = -EFAULT;
	if (maps != few)
		free(maps);
	return ret;
}

int64_t sys_select(struct task *t, int32_t n, uaddr_t inp, uaddr_t outp, uaddr_t exp, uaddr_t tvp)
{
	const uaddr_t user[3] = { inp, outp, exp };
	int64_t deadline = TIME_FOREVER, ret;

	if (tvp.v) {
		struct timespec tv; /* a timeval */
		int64_t ns;

		if (copy_in_struct(task_umem(t), &tv, tvp) < 0)
			return -EFAULT;
		if (tv.tv_sec < 0 || tv.tv_nsec < 0)
			return -EINVAL;
		if (__builtin_mul_overflow(tv.tv_sec, NSEC_PER_SEC, &ns) ||
		    __builtin_mul_overflow(tv.tv_nsec, 1000, &tv.tv_nsec) ||
		    __builtin_add_overflow(ns, tv.tv_nsec, &ns))
			ns = TIME_FOREVER;
		deadline = ns == 0 ? 0 : time_add(clock_mono(), ns);
	}
	ret = select_user(t, n, user, deadline);
	timeout_write_left(t, tvp, deadline, true);
	return ret == -ERESTARTSYS ? -ERESTARTNOHAND : ret;
}

int64_t sys_pselect6(struct task *t, int32_t n, uaddr_t inp, uaddr_t outp, uaddr_t exp, uaddr_t tsp, uaddr_t sig)
{
	const uaddr_t user[3] = { inp, outp, exp };
	uint64_t mask[2] = { 0 }; /* address, size */
	int64_t deadline, ret;

	if (sig.v && copy_in_struct(task_umem(t), &mask, sig) < 0)
		return -EFAULT;
	ret = deadline_from_timespec(t, tsp, &deadline);
	if (ret < 0)
		return ret;
	ret = sigmask_enter(t, UADDR(mask[0]), mask[1]);
	if (ret < 0)
		return ret;
	ret = select_user(t, n, user, deadline);
	sigmask_leave(t, ret == -ERESTARTSYS);
	timeout_write_left(t, tsp, deadline, false);
	return ret == -ERESTARTSYS ? -ERESTARTNOHAND : ret;
}
