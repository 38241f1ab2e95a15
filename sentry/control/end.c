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
/* Of the other containers when the root container has ended; see let_others_stop. */
#define OTHERS_ASKED_BEFORE_NS 10000000000ll
#define OTHERS_ASKED_NS 1000000000ll
#define OTHERS_STOP_NS 60000000000ll

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

/* Containers whose end has still to be told. */
static _Atomic uint32_t untold;

static void sleep_ms(long ms)
{
	struct timespec t = { .tv_nsec = ms * 1000000 };

	while (ppoll(NULL, 0, &t, NULL) < 0 && errno == EINTR)
		;
}

void control_end_processes(struct container *c)
{
	int64_t end = host_monotonic_ns() + LAST_PROCESSES_MS * 1000000ll;

	/* again and again: one may just be born */
	do {
		containers_kill(c);
		if (!containers_busy(c))
			return;
		sleep_ms(1);
	} while (host_monotonic_ns() < end);
	log_warn("control: processes of %s do not end", c ? container_id(c) : "the sandbox");
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

/*
 * The root container's init has ended. Engines stop the containers of a pod in no order and this one, which only holds the
 * others together, is quick: those that were asked to end just before, or are within OTHERS_ASKED_NS, get the time
 * for it that the engine gives them. Meanwhile nobody is told: engines delete what has ended, and that ends the sandbox.
 */
static void let_others_stop(const struct ending *e)
{
	const struct timespec look = { .tv_nsec = 5000000 };
	int64_t now = host_monotonic_ns(), since = now - OTHERS_ASKED_BEFORE_NS, end = now + OTHERS_STOP_NS;
	int64_t asked = now + OTHERS_ASKED_NS;
	struct pollfd pfd = { .fd = e->status_fd };
	bool any;

	for (; now < end; now = host_monotonic_ns()) {
		if ((!containers_stopping(e->c, since, &any) && now >= asked) || !any)
			return;
		if (ppoll(&pfd, 1, &look, NULL) > 0)
			return;
	}
}

/* The other containers, which end with the sandbox, have told their gofers: at most a second. */
static void wait_for_others(void)
{
	for (int ms = 0; untold > 1 && ms < LAST_PROCESSES_MS; ms++)
		sleep_ms(1);
}

static void *ending_main(void *arg)
{
	struct ending *e = arg;
	uint32_t status = SIGKILL;
	int err = control_wait_exit(e->c, INIT_PID, e->status_fd, &status);

	if (err == -ECANCELED)
		log_warn("control: the gofer of %s is gone: ending the container", container_id(e->c));
	else if (err < 0)
		log_error("control: cannot wait for init: %s", strerror(-err));
	if (e->root && err == 0)
		let_others_stop(e);
	control_end_processes(e->root ? NULL : e->c);
	if (e->root)
		wait_for_others();
	else
		container_drop_tree(e->c);
	if (err == 0)
		tell_gofer(e, status);
	untold--;
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
	untold++;
	err = host_thread_start("container end", HOST_THREAD_STACK, ending_main, e);
	if (err < 0) {
		untold--;
		close(status_fd);
		container_put(c);
		free(e);
	}
	return err;
}
