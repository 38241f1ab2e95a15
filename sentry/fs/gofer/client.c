/* The sentry's end of a gofer connection: round trips, death, references to give back. */
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "sentry/core/cause.h"
#include "sentry/fs/gofer/gofer_priv.h"

/* References given back in one message at least. */
#define CLOSES_MIN 64u
/* A gofer that does not answer for this long counts as dead. */
#define REPLY_SECONDS 120

int client_init(struct gofer_client *c, int sock)
{
	*c = (struct gofer_client){ .sock = sock };
	c->buf = malloc(GOFER_MSG_MAX);
	if (!c->buf)
		return -ENOMEM;
	mutex_init(&c->mu, LOCK_FS_DATA);
	mutex_init(&c->close_mu, LOCK_LEAF);
	return 0;
}

/* Nobody has taken them. */
static void close_more(struct gofer_client *c)
{
	while (c->more_count)
		close(c->more_fd[--c->more_count]);
}

void client_fini(struct gofer_client *c)
{
	close_more(c);
	free(c->buf);
	free(c->closes);
	mutex_fini(&c->mu);
	mutex_fini(&c->close_mu);
	if (c->sock >= 0)
		close(c->sock);
}

static int client_dead(struct gofer_client *c, const char *why)
{
	if (!atomic_exchange(&c->dead, true))
		log_error("gofer connection is lost: %s", why);
	return cause(EIO, CAUSE_GOFER, "the file server is gone (%s): start the container again", why);
}

int client_broken(struct gofer_client *c, int *ret_fd)
{
	if (ret_fd && *ret_fd >= 0) {
		close(*ret_fd);
		*ret_fd = -1;
	}
	shutdown(c->sock, SHUT_RDWR);
	return client_dead(c, "a reply broke the protocol");
}

void client_close_node(struct gofer_client *c, uint64_t id)
{
	GUARD(mutex, &c->close_mu);
	if (c->close_count == c->close_capacity) {
		uint32_t capacity = c->close_capacity ? c->close_capacity * 2 : 64;
		uint64_t *closes = realloc(c->closes, capacity * sizeof(*closes));

		/* Out of memory: the gofer keeps the node until the connection ends. */
		if (!closes)
			return;
		c->closes = closes;
		c->close_capacity = capacity;
	}
	c->closes[c->close_count++] = id;
}

static int client_send(struct gofer_client *c, size_t size)
{
	struct iovec iov = { c->buf, size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	do
		n = sendmsg(c->sock, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? client_dead(c, "cannot send") : 0;
}

/* Sends queued closes as long as they are worth a message. c->mu held. */
static void client_send_closes(struct gofer_client *c)
{
	for (;;) {
		struct gofer_close_req req;
		struct cursor cur;

		mutex_lock(&c->close_mu);
		req.nodes.count = (uint16_t)MIN(c->close_count, GOFER_CLOSE_MAX);
		if (req.nodes.count < CLOSES_MIN || c->dead) {
			mutex_unlock(&c->close_mu);
			return;
		}
		for (uint32_t i = 0; i < req.nodes.count; i++)
			req.nodes.v[i].id = c->closes[--c->close_count];
		mutex_unlock(&c->close_mu);
		client_begin(c, &cur, GOFER_close);
		gofer_pack_close_req(&cur, &req);
		if (client_send(c, (size_t)(cur.p - c->buf)) < 0)
			return;
	}
}

void client_begin(struct gofer_client *c, struct cursor *cur, uint16_t id)
{
	int cpu = sched_getcpu();
	struct gofer_header h = { .id = id, .cpu = cpu >= 0 && cpu < UINT16_MAX ? (uint16_t)(cpu + 1) : 0 };

	mutex_assert_held(&c->mu);
	close_more(c);
	if (id != GOFER_close)
		client_send_closes(c);
	h.seq = ++c->seq;
	*cur = cursor_init(c->buf, GOFER_MSG_MAX);
	gofer_put_request_header(cur, &h);
}

/* One recvmsg into c->buf; returns as recvmsg does and sets *ret_fd to what came along. */
static ssize_t client_recv(struct gofer_client *c, int flags, int *ret_fd)
{
	struct iovec iov = { c->buf, GOFER_MSG_MAX };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(c->more_fd) + sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov,
			      .msg_iovlen = 1,
			      .msg_control = &control,
			      .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(c->sock, &msg, flags | MSG_CMSG_CLOEXEC);
	struct cmsghdr *h = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	*ret_fd = -1;
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && h->cmsg_len >= CMSG_LEN(sizeof(int))) {
		c->more_count = (uint32_t)MIN((h->cmsg_len - CMSG_LEN(sizeof(int))) / sizeof(int),
					      (size_t)GOFER_AHEAD_MAX);
		memcpy(ret_fd, CMSG_DATA(h), sizeof(int));
		memcpy(c->more_fd, CMSG_DATA(h) + sizeof(int), c->more_count * sizeof(int));
	}
	return n;
}

/*
 * Waits for the reply. Returns its size, or 0 when the gofer is gone. Looking for it before sleeping was
 * measured: no gain on a busy machine, a loss when gofer and caller share a processor.
 */
static size_t client_wait(struct gofer_client *c, int *ret_fd)
{
	int seconds = 0;

	/* runsc has set a time limit of a second for each call, so that a time spent frozen counts as one. */
	while (seconds < REPLY_SECONDS) {
		ssize_t n = client_recv(c, 0, ret_fd);

		if (n >= 0)
			return (size_t)n;
		if (errno == EAGAIN)
			seconds++;
		else if (errno != EINTR)
			return 0;
	}
	return 0;
}

int client_exchange(struct gofer_client *c, struct cursor *cur, uint16_t id, int *ret_fd)
{
	struct gofer_header h;
	int fd = -1;
	size_t size;

	mutex_assert_held(&c->mu);
	if (ret_fd)
		*ret_fd = -1;
	if (cur->bad)
		return -ENAMETOOLONG;
	if (c->dead || client_send(c, (size_t)(cur->p - c->buf)) < 0)
		return -EIO;
	size = client_wait(c, &fd);
	if (size == 0)
		return client_dead(c, "the gofer is gone");
	*cur = cursor_init(c->buf, size);
	if (gofer_get_reply_header(cur, &h) < 0 || h.id != id || h.seq != c->seq ||
	    (fd >= 0 && (!ret_fd || h.error)))
		return client_broken(c, &fd);
	if (ret_fd)
		*ret_fd = fd;
	/* Somebody else replaced a file: no cached name of this tree counts as right any more. */
	if (h.error == ESTALE)
		check_expire(container_of(c, struct gofer_sb, client));
	return -h.error;
}
