/* seccomp_unotify(2): the channel between a guest thread and its task thread. */
#include <errno.h>
#include <linux/audit.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>

#include "platform/systrap/systrap_priv.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, uint64_t)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1
#endif

/* Whether nobody has the listener's filter any more: the thread is dead. */
static bool hung_up(int listener)
{
	const struct timespec now = { 0 };
	struct pollfd p = { .fd = listener };

	return ppoll(&p, 1, &now, NULL) == 1 && (p.revents & POLLHUP);
}

/* Waits up to ms for events of fd; -1 as fd just waits. 1: there are some. Restarted when interrupted. */
int st_wait_fd(int fd, int ms)
{
	const struct timespec limit = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = ppoll(&p, 1, &limit, NULL);
	while (r < 0 && errno == EINTR);
	return r;
}

/* Waits for the next notification of the one thread that has this listener. 0, or -ESRCH: it is dead. */
int st_recv(const struct st_platform *p, int listener, struct seccomp_notif *n)
{
	for (;;) {
		if (unlikely(p->poll_first)) {
			struct pollfd pf = { .fd = listener, .events = POLLIN };

			if (ppoll(&pf, 1, NULL, NULL) < 0 && errno == EINTR)
				continue;
			if (!(pf.revents & POLLIN))
				return -ESRCH;
		}
		memset(n, 0, sizeof(*n));
		if (likely(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, n) == 0))
			return 0;
		/* ENOENT: dead, or the notification was taken back by a signal */
		if (errno != EINTR && (errno != ENOENT || hung_up(listener)))
			return -ESRCH;
	}
}

/* Answers with the value of rax. 0, or -ENOENT: a signal has ended the wait, or the thread is dead. */
int st_send(int listener, uint64_t id, int64_t value)
{
	struct seccomp_notif_resp r = { .id = id, .val = value };

	while (unlikely(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r) < 0))
		if (errno != EINTR)
			return -ENOENT;
	return 0;
}

/* Hand-over on one CPU, where the host has it (Linux 6.6): says whether it has. */
bool st_listener_setup(int listener)
{
	return ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) == 0;
}

/* Whether fd, which may be any number, is a listener. */
bool st_is_listener(int fd)
{
	uint64_t id = 0;

	return ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &id) == 0 || errno == ENOENT;
}

/* Whether our handler made this call; guest code that jumps there is no different. */
bool st_is_report(const struct seccomp_notif *n)
{
	return n->data.nr == NR_REPORT && n->data.arch == AUDIT_ARCH_X86_64 &&
	       n->data.instruction_pointer == st_stub_address(systrap_stub_reported);
}
