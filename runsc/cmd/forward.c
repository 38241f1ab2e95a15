/* port-forward: connections of the host to a port of a container. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "platform/base/log.h"
#include "runsc/cmd/cmd.h"

struct forward_values {
	const char *stream;
};
#define V struct forward_values
DEFINE_OPTIONS(port_forward, V,
	       ROW(V, STRING, "stream", 0, stream, "SOCKET", "forward this unix socket once, instead of listening"));
#undef V

struct ports {
	uint16_t local, remote;
};

/* [LOCAL:]REMOTE */
static int parse_ports(const char *text, struct ports *ret, struct error *err)
{
	AUTO(mem_free) char *copy = xstrdup(text);
	char *colon = strchr(copy, ':');
	uint32_t local, remote;

	if (colon)
		*colon++ = 0;
	if (!parse_uint32(copy, &local) || !parse_uint32(colon ? colon : copy, &remote) || !local || local > 65535 ||
	    !remote || remote > 65535)
		return error_set(err, "\"%.32s\" is not of the form [LOCAL:]PORT", text);
	*ret = (struct ports){ (uint16_t)local, (uint16_t)remote };
	return 0;
}

static struct sockaddr_in loopback(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static int listen_on(uint16_t port, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = loopback(port);
	int one = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 || listen(fd, 128) < 0)
		return error_errno(err, errno, "cannot listen on port %u", port);
	return TAKE_FD(fd);
}

static int connect_stream(const char *path, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(address.sun_path))
		return error_set(err, "the path of --stream %s is too long", path);
	strcpy(address.sun_path, path);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, errno, "cannot connect to %s (--stream)", path);
	return TAKE_FD(fd);
}

/* From here on this thread's new sockets are the container's. */
static int enter_network(const struct container *c, struct error *err)
{
	AUTO(fd_close) int fd = (int)syscall(SYS_pidfd_open, c->gofer.pid, 0);

	if (fd < 0 || !process_alive(c->gofer) || setns(fd, CLONE_NEWNET) < 0)
		return error_errno(err, errno, "cannot join the network of %s", c->id);
	return 0;
}

struct half {
	int from, to;
};

static void *copy_half(void *context)
{
	const struct half *half = context;
	char buf[65536];
	ssize_t n;

	while ((n = read(half->from, buf, sizeof(buf))) > 0 && !write_all(half->to, buf, (size_t)n))
		;
	shutdown(half->to, SHUT_WR);
	return NULL;
}

/* Copies between ours and a new connection to the port inside, both ways, until both have ended. */
static int relay(int ours, uint16_t port, struct error *err)
{
	AUTO(fd_close) int theirs = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in address = loopback(port);
	struct half in = { ours, theirs }, out = { theirs, ours };
	pthread_t thread;

	if (theirs < 0 || connect(theirs, (const struct sockaddr *)&address, sizeof(address)) < 0)
		return error_errno(err, errno, "cannot connect to port %u of the container", port);
	if (pthread_create(&thread, NULL, copy_half, &in))
		return error_set(err, "cannot start a thread that copies");
	copy_half(&out);
	pthread_join(thread, NULL);
	return 0;
}

/* A process for each connection, until the container ends. */
static int serve(const struct container *c, int listener, uint16_t port, struct error *err)
{
	AUTO(fd_close) int end = (int)syscall(SYS_pidfd_open, c->gofer.pid, 0);
	struct pollfd pfd[2] = { { .fd = listener, .events = POLLIN }, { .fd = end, .events = POLLIN } };

	signal(SIGCHLD, SIG_IGN);
	while (poll(pfd, 2, -1) >= 0 || errno == EINTR) {
		AUTO(fd_close) int fd = -1;
		pid_t child;

		if (pfd[1].revents)
			return 0;
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		child = fd < 0 ? -1 : fork();
		if (fd >= 0 && child < 0)
			log_warn("cannot fork for a connection: %s", strerror(errno));
		if (!child) {
			struct error why;

			if (relay(fd, port, &why))
				fprintf(stderr, "runsc: %s\n", why.text);
			_exit(0);
		}
	}
	return error_errno(err, errno, "cannot wait for connections");
}

int cmd_port_forward(struct config *config, const void *values, int count, char **operands,
		     struct error *err)
{
	const struct forward_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(fd_close) int fd = -1;
	struct ports ports = { 0 };

	(void)count;
	signal(SIGPIPE, SIG_IGN);
	if (parse_ports(operands[1], &ports, err) || container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "forward a port of",
			   STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) | STATUS_BIT(STATUS_PAUSED), err))
		return -1;
	fd = v->stream ? connect_stream(v->stream, err) : listen_on(ports.local, err);
	if (fd < 0 || enter_network(c, err))
		return -1;
	return v->stream ? relay(fd, ports.remote, err) : serve(c, fd, ports.remote, err);
}
