#include "runsc/console/foreground.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

#include "platform/base/log.h"
#include "runsc/console/console.h"
#include "runsc/sandbox/control.h"

#define DRAIN_MS 500

int foreground_block_signals(struct error *err)
{
	static const int kept[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS, SIGALRM };
	sigset_t set;
	int fd;

	sigfillset(&set);
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++)
		sigdelset(&set, kept[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 ? fd : error_errno(err, errno, "cannot make a descriptor for signals");
}

static void resize(const struct foreground *f)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__WindowSize args;
	Urpc__Empty *empty = NULL;
	unsigned int rows, columns;
	struct error ignored;

	urpc__window_size__init(&args);
	if (f->master < 0 || !console_copy_size(STDIN_FILENO, f->master, &rows, &columns) ||
	    control_connect(f->container, &client, &ignored))
		return;
	args.id = f->container->id;
	args.pid = f->guest_pid;
	args.rows = rows;
	args.columns = columns;
	if (urpc_containerManager_ResizeTerminal(client, &args, NULL, 0, &empty))
		log_debug("the sandbox did not take the new window size");
	if (empty)
		urpc_message_free(&empty->base);
}

static void take_signals(const struct foreground *f)
{
	struct signalfd_siginfo info;
	struct error ignored;

	while (read(f->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		int signo = (int)info.ssi_signo;

		if (signo == SIGWINCH && f->master >= 0)
			resize(f);
		else if (signo != SIGCHLD && signo != SIGPIPE && signo != SIGURG && signo != SIGWINCH &&
			 control_signal(f->container, signo, f->guest_pid,
					URPC__SIGNAL_ARGS__MODE__PROCESS, &ignored))
			log_debug("signal %d not forwarded: %s", signo, ignored.text);
	}
}

/* One direction of the terminal. */
struct pump {
	int from, to; /* from -1: ended */
	char buf[8192];
	size_t start, end;
};

static void pump_read(struct pump *p)
{
	ssize_t n = read(p->from, p->buf, sizeof(p->buf));

	if (n > 0) {
		p->start = 0;
		p->end = (size_t)n;
	} else if (!n || (errno != EAGAIN && errno != EINTR)) {
		p->from = -1; /* EIO: the last user of the terminal is gone */
	}
}

static void pump_write(struct pump *p)
{
	ssize_t n = write(p->to, p->buf + p->start, p->end - p->start);

	if (n > 0)
		p->start += (size_t)n;
	else if (n < 0 && errno != EAGAIN && errno != EINTR)
		p->start = p->end;
}

/* What to poll for next: read when the buffer is empty, write when it is not. */
static struct pollfd pump_poll(const struct pump *p)
{
	if (p->start < p->end)
		return (struct pollfd){ .fd = p->to, .events = POLLOUT };
	return (struct pollfd){ .fd = p->from, .events = POLLIN };
}

static void pump_step(struct pump *p, short events)
{
	if (!events)
		return;
	if (p->start < p->end)
		pump_write(p);
	else
		pump_read(p);
}

/* The program has ended: what it wrote before is still in the terminal. */
static void drain(struct pump *out)
{
	int64_t end = now_ms() + DRAIN_MS;

	while (now_ms() < end) {
		struct pollfd pfd = pump_poll(out);

		if (pfd.fd < 0 || (pfd.events == POLLIN && poll(&pfd, 1, 0) <= 0))
			return;
		if (pfd.events == POLLOUT && poll(&pfd, 1, DRAIN_MS) <= 0)
			return;
		pump_step(out, pfd.revents);
	}
}

/* 1: *ret_status is known; 0: go on; -1: the sandbox died without a word. */
static int look_for_end(const struct foreground *f, const struct pollfd *status_pfd,
			const struct pollfd *sentry_pfd, int *ret_status)
{
	if (status_pfd->revents) {
		ssize_t n = read(f->status_fd, ret_status, sizeof(*ret_status));

		if (n == (ssize_t)sizeof(*ret_status))
			return 1;
		if (n >= 0 || errno != EINTR)
			return -1;
	}
	return sentry_pfd->revents && !status_pfd->revents ? -1 : 0;
}

static int watch(const struct foreground *f, struct pump *in, struct pump *out, int *ret_status)
{
	for (;;) {
		struct pollfd pfd[5] = {
			{ .fd = f->status_fd, .events = POLLIN },
			{ .fd = f->sentry_fd, .events = POLLIN },
			{ .fd = f->signal_fd, .events = POLLIN },
			pump_poll(in),
			pump_poll(out),
		};
		int end;

		if (poll(pfd, ARRAY_COUNT(pfd), -1) < 0) {
			if (errno == EINTR)
				continue;
			return -1;
		}
		if (pfd[2].revents)
			take_signals(f);
		pump_step(in, pfd[3].revents);
		pump_step(out, pfd[4].revents);
		end = look_for_end(f, &pfd[0], &pfd[1], ret_status);
		if (end)
			return end;
	}
}

int foreground_run(struct foreground *f, bool *ret_sandbox_died, struct error *err)
{
	struct console_raw raw = { .fd = -1 };
	struct pump in = { .from = -1, .to = -1 }, out = { .from = -1, .to = -1 };
	int status = 0, end;

	*ret_sandbox_died = false;
	if (f->master >= 0) {
		fcntl(f->master, F_SETFL, O_RDWR | O_NONBLOCK);
		in.from = STDIN_FILENO;
		out.to = STDOUT_FILENO;
		in.to = out.from = f->master;
		resize(f);
		console_make_raw(STDIN_FILENO, &raw);
	}
	end = watch(f, &in, &out, &status);
	if (f->master >= 0)
		drain(&out);
	console_restore(&raw);
	fd_close(f->status_fd);
	fd_close(f->sentry_fd);
	fd_close(f->master);
	fd_close(f->signal_fd);
	if (end > 0)
		return status;
	*ret_sandbox_died = true;
	return error_set(err, "the sandbox of %s ended without an exit status (see --debug-log)",
			 f->container->id);
}
