/* How processes and containers end: waiting for it, telling the gofer, the end of the sandbox. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/host/thread.h"
#include "sentry/control/control_priv.h"

/* What a container's last processes and its gofer get to end by themselves. */
#define LAST_PROCESSES_MS 1000
#define GOFER_GONE_S 2

/* Sleeps of this thread on a container's wait queue, by way of an eventfd so that poll sees it. */
struct exit_waiter {
	struct waitq_entry entry;
	int fd;
};

static void exit_wake(struct waitq_entry *e, uint32_t events)
{
	struct exit_waiter *w = container_of(e, struct exit_waiter, entry);
	uint64_t one = 1;

	(void)events;
	if (write(w->fd, &one, sizeof(one)) < 0)
		log_debug("control: a waiter was woken twice");
}

int control_wait_exit(struct container *c, int32_t pid, int conn_fd, uint32_t *ret_status)
{
	struct exit_waiter w = { .entry = { .events = ~0u, .wake = exit_wake } };
	struct pollfd pfd[2] = { { .events = POLLIN }, { .fd = conn_fd, .events = POLLRDHUP } };
	uint64_t count;
	int ret;

	w.fd = pfd[0].fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w.fd < 0)
		return -errno;
	waitq_add(container_waitq(c), &w.entry);
	while ((ret = container_wait_poll(c, pid, ret_status)) == 0) {
		if (ppoll(pfd, 2, NULL, NULL) < 0 && errno != EINTR) {
			ret = -errno;
			break;
		}
		if (pfd[1].revents) {
			ret = -ECANCELED;
			break;
		}
		if (read(w.fd, &count, sizeof(count)) < 0 && errno != EAGAIN) {
			ret = -errno;
			break;
		}
	}
	waitq_remove(&w.entry);
	close(w.fd);
	return ret < 0 ? ret : 0;
}

struct ending {
	struct container *c; /* reference */
	int status_fd;	     /* owned; a pipe to the gofer */
	bool root;
};

/* Ends all that is left in the sandbox, so that whoever waits for a process hears how it ended. */
static void end_processes(void)
{
	int64_t end = host_monotonic_ns() + LAST_PROCESSES_MS * 1000000ll;

	kernel_resume();
	containers_kill();
	while (containers_busy() && host_monotonic_ns() < end)
		if (ppoll(NULL, 0, &(struct timespec){ .tv_nsec = 1000000 }, NULL) < 0 && errno != EINTR)
			return;
}

/* The gofer ends once it has the status; ended by the sandbox's end it could not hand it on. */
static void tell_gofer(const struct ending *e, uint32_t status)
{
	struct timespec limit = { .tv_sec = GOFER_GONE_S };
	struct pollfd pfd = { .fd = e->status_fd };

	if (write(e->status_fd, &status, sizeof(status)) != sizeof(status))
		log_warn("control: the gofer of %s is gone already", container_id(e->c));
	else if (e->root && ppoll(&pfd, 1, &limit, NULL) == 0)
		log_warn("control: the gofer of %s does not end", container_id(e->c));
}

static void *ending_main(void *arg)
{
	struct ending *e = arg;
	uint32_t status = SIGKILL;
	int err = control_wait_exit(e->c, INIT_PID, e->status_fd, &status);

	if (err == -ECANCELED) {
		log_warn("control: the gofer of %s is gone: ending the container", container_id(e->c));
		(void)!container_signal(e->c, INIT_PID, SIGKILL, URPC__SIGNAL_ARGS__MODE__ALL);
	} else if (err < 0) {
		log_error("control: cannot wait for init: %s", strerror(-err));
	}
	if (e->root)
		end_processes();
	if (err == 0)
		tell_gofer(e, status);
	if (e->root)
		control_stop();
	close(e->status_fd);
	container_put(e->c);
	free(e);
	return NULL;
}

int control_watch_end(struct container *c, int status_fd, bool root)
{
	struct ending *e = malloc(sizeof(*e));
	int err;

	if (!e) {
		close(status_fd);
		return -ENOMEM;
	}
	*e = (struct ending){ container_get(c), status_fd, root };
	err = host_thread_start("container end", HOST_THREAD_STACK, ending_main, e);
	if (err < 0) {
		close(status_fd);
		container_put(c);
		free(e);
	}
	return err;
}
