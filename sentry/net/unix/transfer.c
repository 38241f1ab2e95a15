/* Moving bytes, messages, files and credentials between unix sockets. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/task.h"
#include "sentry/net/unix/unix_priv.h"

#define MSG_OVERHEAD 512u  /* counted for each message, so that empty ones are bounded, too */
#define SMALL_WRITE UNIX_CHUNK_MIN

static struct unix_msg *msg_new(uint32_t size)
{
	struct unix_msg *m = malloc(sizeof(*m) + size);

	if (!m)
		return NULL;
	memset(m, 0, sizeof(*m));
	list_init(&m->node);
	m->size = size;
	return m;
}

void unix_msg_free(struct unix_msg *m)
{
	if (!m)
		return;
	unix_name_put(m->from);
	scm_files_free(m->files);
	scm_creds_fini(&m->creds);
	free(m);
}

void unix_msgs_free(struct list_node *list)
{
	/* Freeing a message may close a socket whose messages are to be freed, and so on: one level of this
	 * function works through all of them, however long the chain. */
	static _Thread_local struct list_node *pending;
	struct unix_msg *m;

	if (pending) {
		list_splice_tail(pending, list);
		return;
	}
	pending = list;
	while ((m = list_first(list, struct unix_msg, node)) != NULL) {
		list_del(&m->node);
		unix_msg_free(m);
	}
	pending = NULL;
}

static uint64_t msg_cost(const struct unix_sock *u, const struct unix_msg *m)
{
	return u->s.type == SOCK_STREAM ? m->end - m->start : m->end - m->start + MSG_OVERHEAD;
}

void unix_queue_take(struct unix_sock *u, struct list_node *list)
{
	list_splice_tail(list, &u->queue);
	atomic_store(&u->queued_bytes, 0);
	atomic_store(&u->queued_count, 0);
}

static bool stream_room(const struct unix_sock *u, const struct unix_sock *peer)
{
	return atomic_load(&peer->queued_bytes) * 2 <= (uint64_t)u->s.sndbuf;
}

/* Is there room at peer for a datagram of u? */
static bool dgram_room(const struct unix_sock *u, struct unix_sock *peer)
{
	bool paired = peer->peer == u;

	if (!paired && peer != u && atomic_load(&peer->queued_count) > UNIX_DGRAM_QUEUE)
		return false;
	return atomic_load(&peer->queued_bytes) < (uint64_t)u->s.sndbuf;
}

bool unix_writable(struct unix_sock *u)
{
	AUTO(unix_put) struct unix_sock *peer = NULL;

	mutex_lock(&u->s.mu);
	if (u->state == UNIX_LISTENING) {
		mutex_unlock(&u->s.mu);
		return false;
	}
	if (u->peer)
		peer = unix_get(u->peer);
	mutex_unlock(&u->s.mu);
	if (!peer)
		return true;
	if (u->s.type == SOCK_STREAM)
		return stream_room(u, peer);
	if (dgram_room(u, peer))
		return true;
	unix_relay_set(u, peer);
	return dgram_room(u, peer);
}

/* Ancillary data of a message about to be queued: moves the files over, notes who sends. */
static int msg_attach(struct unix_msg *msg, struct sock_msg *m, const struct unix_sock *from, const struct unix_sock *to)
{
	struct sock_control *c = m->control;

	if (c->has_creds) {
		msg->creds = c->creds;
		c->creds.pid = NULL;
		c->has_creds = false;
		msg->has_creds = true;
	} else if ((from->s.pass_cred || to->s.pass_cred) && current) {
		msg->creds = (struct scm_creds){ pid_get(current->tg->pid), current->cred->ruid, current->cred->rgid };
		msg->has_creds = true;
	}
	msg->files = TAKE(c->files);
	return 0;
}

/* Appends msg to `to`; takes msg over in any case. files in flight are counted. -EPIPE, -ECONNREFUSED... */
static int msg_queue(struct unix_sock *to, struct unix_msg *msg)
{
	struct scm_files *files = msg->files;
	int ret = 0;

	if (files) {
		mutex_lock(&unix_gc_mu);
		ret = unix_in_flight_add(files);
	}
	if (ret == 0) {
		mutex_lock_nested(&to->s.mu);
		if (to->state == UNIX_CLOSED) {
			ret = to->s.type == SOCK_DGRAM ? -ECONNREFUSED : -EPIPE;
		} else if (to->shut & UNIX_SHUT_RCV) {
			ret = -EPIPE;
		} else {
			list_add_tail(&to->queue, &msg->node);
			atomic_fetch_add(&to->queued_bytes, msg_cost(to, msg));
			atomic_fetch_add(&to->queued_count, 1);
		}
		mutex_unlock(&to->s.mu);
		if (ret < 0 && files)
			unix_in_flight_del(files);
	}
	if (files)
		mutex_unlock(&unix_gc_mu);
	if (ret < 0)
		unix_msg_free(msg);
	else
		waitq_wake(&to->s.waitq, POLLIN);
	return ret;
}

/* Small plain writes share the last chunk of the queue. 1: done; 0: not possible; -EPIPE. */
static int stream_append(struct unix_sock *to, const void *data, uint32_t size)
{
	struct unix_msg *tail;
	int ret = 0;

	mutex_lock(&to->s.mu);
	tail = list_last(&to->queue, struct unix_msg, node);
	if (to->state == UNIX_CLOSED || (to->shut & UNIX_SHUT_RCV)) {
		ret = -EPIPE;
	} else if (tail && !tail->files && !tail->has_creds && tail->size - tail->end >= size) {
		memcpy(tail->data + tail->end, data, size);
		tail->end += size;
		atomic_fetch_add(&to->queued_bytes, size);
		ret = 1;
	}
	mutex_unlock(&to->s.mu);
	if (ret > 0)
		waitq_wake(&to->s.waitq, POLLIN);
	return ret;
}

/* One chunk of a stream. Bytes sent or -errno; the ancillary data goes with the first one. */
static int64_t stream_send_chunk(struct unix_sock *u, struct unix_sock *peer, struct sock_msg *m)
{
	uint64_t used = atomic_load(&peer->queued_bytes), limit = (uint64_t)u->s.sndbuf;
	bool plain = !m->control->files && !m->control->has_creds && !u->s.pass_cred && !peer->s.pass_cred;
	uint8_t small[SMALL_WRITE];
	struct unix_msg *msg;
	uint32_t size;
	int64_t n;
	int ret;

	if (used >= limit)
		return -EAGAIN;
	size = (uint32_t)MIN(limit - used, (uint64_t)UNIX_CHUNK_MAX);
	size = (uint32_t)MIN(m->uio->resid, (uint64_t)size);
	if (plain && size <= SMALL_WRITE) {
		n = uio_read(m->uio, small, size);
		if (n <= 0)
			return n;
		ret = stream_append(peer, small, (uint32_t)n);
		if (ret != 0)
			return ret < 0 ? ret : n;
		msg = msg_new(UNIX_CHUNK_MIN);
		if (!msg)
			return -ENOMEM;
		memcpy(msg->data, small, (size_t)n);
	} else {
		msg = msg_new(size);
		if (!msg)
			return -ENOMEM;
		n = uio_read(m->uio, msg->data, size);
		if (n <= 0) {
			unix_msg_free(msg);
			return n;
		}
		ret = msg_attach(msg, m, u, peer);
	}
	msg->end = (uint32_t)n;
	ret = msg_queue(peer, msg);
	return ret < 0 ? ret : n;
}

/* The connected peer with a reference: -ENOTCONN, -EPIPE. */
static int send_peer(struct unix_sock *u, struct unix_sock **ret_peer)
{
	GUARD(mutex, &u->s.mu);

	if (u->s.type != SOCK_DGRAM && u->state != UNIX_CONNECTED)
		return -ENOTCONN;
	if (u->shut & UNIX_SHUT_SND)
		return -EPIPE;
	if (!u->peer)
		return -ENOTCONN;
	*ret_peer = unix_get(u->peer);
	return 0;
}

static int64_t stream_send(struct unix_sock *u, struct sock_msg *m)
{
	AUTO(unix_put) struct unix_sock *peer = NULL;
	int64_t done = 0, n;
	int ret;

	if (m->to)
		return u->state == UNIX_CONNECTED ? -EISCONN : -EOPNOTSUPP;
	ret = send_peer(u, &peer);
	if (ret < 0)
		return ret;
	while (m->uio->resid > 0) {
		n = stream_send_chunk(u, peer, m);
		if (n <= 0)
			return done ? done : n;
		done += n;
	}
	return done;
}

/* Where a datagram goes, with a reference. */
static int dgram_target(struct unix_sock *u, struct sock_msg *m, struct unix_sock **ret_target)
{
	struct unix_sock *t;
	int ret;

	if (!m->to || u->s.type == SOCK_SEQPACKET) {
		ret = send_peer(u, &t);
	} else {
		if (u->shut & UNIX_SHUT_SND)
			return -EPIPE;
		ret = unix_lookup(u, m->to, &t);
	}
	if (ret < 0)
		return ret;
	if (t->state == UNIX_CLOSED && u->s.type == SOCK_DGRAM) {
		struct unix_sock *old = NULL;

		mutex_lock(&u->s.mu);
		if (u->peer == t) {
			old = TAKE(u->peer);
			u->state = UNIX_UNCONNECTED;
		}
		mutex_unlock(&u->s.mu);
		unix_put(old);
		unix_put(t);
		return -ECONNREFUSED;
	}
	/* A connected receiver takes messages of its peer only. */
	if (u->s.type == SOCK_DGRAM && t->peer && t->peer != u) {
		unix_put(t);
		return -EPERM;
	}
	*ret_target = t;
	return 0;
}

static int64_t dgram_send(struct unix_sock *u, struct sock_msg *m)
{
	AUTO(unix_put) struct unix_sock *target = NULL;
	struct uio at_start = *m->uio;
	uint64_t size = m->uio->resid;
	struct unix_msg *msg;
	int64_t ret;

	if (size > (uint64_t)u->s.sndbuf - 32)
		return -EMSGSIZE;
	if (u->s.pass_cred && u->s.type == SOCK_DGRAM && !unix_name_of(u)) {
		ret = unix_autobind(u);
		if (ret < 0)
			return ret;
	}
	ret = dgram_target(u, m, &target);
	if (ret < 0)
		return ret;
	if (!dgram_room(u, target)) {
		unix_relay_set(u, target);
		if (!dgram_room(u, target))
			return -EAGAIN;
	}
	msg = msg_new((uint32_t)size);
	if (!msg)
		return -ENOMEM;
	if (uio_read(m->uio, msg->data, size) != (int64_t)size) {
		*m->uio = at_start;
		unix_msg_free(msg);
		return -EFAULT;
	}
	msg->end = (uint32_t)size;
	msg->from = unix_name_get(unix_name_of(u));
	ret = msg_attach(msg, m, u, target);
	if (ret == 0)
		ret = msg_queue(target, msg);
	return ret < 0 ? ret : (int64_t)size;
}

int64_t unix_send(struct socket *s, struct sock_msg *m)
{
	struct unix_sock *u = unix_of(s);

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	return s->type == SOCK_STREAM ? stream_send(u, m) : dgram_send(u, m);
}

/* The files of msg for the receiver: moved, or copied when peeking. */
static int take_files(struct unix_msg *msg, struct sock_msg *m, bool peek)
{
	GUARD(mutex, &unix_gc_mu);

	if (!peek) {
		unix_in_flight_del(msg->files);
		m->control->files = TAKE(msg->files);
		return 0;
	}
	m->control->files = malloc(sizeof(*msg->files) + msg->files->count * sizeof(struct file *));
	if (!m->control->files)
		return -ENOMEM;
	*m->control->files = (struct scm_files){ .count = msg->files->count };
	for (unsigned i = 0; i < msg->files->count; i++)
		m->control->files->file[i] = file_get(msg->files->file[i]);
	return 0;
}

static void take_creds(const struct unix_sock *u, const struct unix_msg *msg, struct sock_msg *m)
{
	if (!u->s.pass_cred || m->control->has_creds)
		return;
	m->control->has_creds = true;
	m->control->creds = (struct scm_creds){ NULL, KUID(ID_INVALID), KGID(ID_INVALID) };
	if (!msg->has_creds)
		return;
	m->control->creds = msg->creds;
	if (msg->creds.pid)
		pid_get(msg->creds.pid);
}

static void put_name(struct sock_addr *a, const struct unix_name *name)
{
	if (!a)
		return;
	a->size = 0;
	if (!name)
		return;
	a->size = name->size;
	memcpy(a->raw, &name->sun, name->size);
}

/* Senders have room again. */
static void wake_senders(struct unix_sock *u)
{
	struct unix_sock *peer = NULL;

	if (u->s.type == SOCK_STREAM) {
		mutex_lock(&u->s.mu);
		if (u->peer)
			peer = unix_get(u->peer);
		mutex_unlock(&u->s.mu);
		if (peer)
			waitq_wake(&peer->s.waitq, POLLOUT);
		unix_put(peer);
	} else {
		waitq_wake(&u->room_waitq, POLLOUT);
	}
}

/* What an empty queue means: 0 for end of file, or -errno. mu is held. */
static int64_t empty_result(struct unix_sock *u)
{
	int err;

	if (u->s.type == SOCK_STREAM && u->state != UNIX_CONNECTED)
		return -EINVAL;
	if (u->s.type == SOCK_SEQPACKET && u->state != UNIX_CONNECTED)
		return -ENOTCONN;
	err = socket_take_error(&u->s);
	if (err < 0)
		return err;
	return u->shut & UNIX_SHUT_RCV ? 0 : -EAGAIN;
}

/* Takes n bytes off the front chunk; frees it when empty. */
static void stream_consume(struct unix_sock *u, struct unix_msg *msg, uint32_t n)
{
	uint64_t before, half = (uint64_t)u->s.sndbuf / 2;
	bool empty;

	mutex_lock(&u->s.mu);
	msg->start += n;
	empty = msg->start == msg->end;
	if (empty) {
		list_del(&msg->node);
		atomic_fetch_sub(&u->queued_count, 1);
	}
	before = atomic_fetch_sub(&u->queued_bytes, n);
	/* The peer's sndbuf decides; ours is the same unless somebody changed it, so near is good enough. */
	if (u->peer)
		half = (uint64_t)u->peer->s.sndbuf / 2;
	mutex_unlock(&u->s.mu);
	if (empty)
		unix_msg_free(msg);
	if (before > half && before - n <= half)
		wake_senders(u);
}

/* May bytes of msg follow what was received already? */
static bool stream_continues(const struct unix_sock *u, const struct unix_msg *msg, const struct sock_msg *m)
{
	const struct scm_creds *c = &m->control->creds;

	if (m->control->files)
		return false;
	if (!u->s.pass_cred)
		return true;
	return msg->has_creds && c->pid == msg->creds.pid && c->uid.v == msg->creds.uid.v &&
	       c->gid.v == msg->creds.gid.v;
}

/* The chunk behind `after` (the first when NULL) and its bytes now; NULL at the end, with *ret_empty. */
static struct unix_msg *stream_next(struct unix_sock *u, struct unix_msg *after, uint32_t *ret_end, int64_t *ret_empty)
{
	struct unix_msg *msg;
	GUARD(mutex, &u->s.mu);

	if (u->s.type == SOCK_STREAM && u->state != UNIX_CONNECTED && list_empty(&u->queue)) {
		*ret_empty = empty_result(u);
		return NULL;
	}
	if (!after)
		msg = list_first(&u->queue, struct unix_msg, node);
	else
		msg = after->node.next == &u->queue ? NULL : list_entry(after->node.next, struct unix_msg, node);
	if (!msg) {
		*ret_empty = after ? 0 : empty_result(u);
		return NULL;
	}
	*ret_end = msg->end;
	return msg;
}

static int64_t stream_recv(struct unix_sock *u, struct sock_msg *m)
{
	const bool peek = m->flags & MSG_PEEK;
	struct unix_msg *msg, *last = NULL;
	int64_t done = 0, empty = 0, n;
	uint32_t end;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	GUARD(mutex, &u->recv_mu);
	while (m->uio->resid > 0 || done == 0) {
		msg = stream_next(u, peek ? last : NULL, &end, &empty);
		if (!msg) {
			/* With bytes in hand a pending error waits for the next call. */
			return done ? done : empty;
		}
		if (done && !stream_continues(u, msg, m))
			break;
		if (done == 0 && m->uio->resid == 0)
			return 0;
		n = (m->flags & MSG_TRUNC) ? (int64_t)MIN((uint64_t)(end - msg->start), m->uio->resid) :
					     uio_write(m->uio, msg->data + msg->start, end - msg->start);
		if (m->flags & MSG_TRUNC)
			uio_advance(m->uio, (uint64_t)n);
		if (n <= 0)
			return done ? done : n;
		take_creds(u, msg, m);
		if (msg->files && take_files(msg, m, peek) < 0)
			return done ? done : -ENOMEM;
		done += n;
		last = msg;
		if (!peek)
			stream_consume(u, msg, (uint32_t)n);
		else if ((uint32_t)n < end - msg->start)
			break;
	}
	return done;
}

static int64_t dgram_recv(struct unix_sock *u, struct sock_msg *m)
{
	bool peek = m->flags & MSG_PEEK;
	struct unix_msg *msg;
	uint64_t size;
	int64_t n;

	GUARD(mutex, &u->recv_mu);
	mutex_lock(&u->s.mu);
	msg = list_first(&u->queue, struct unix_msg, node);
	if (!msg) {
		n = empty_result(u);
		mutex_unlock(&u->s.mu);
		return n;
	}
	if (!peek) {
		atomic_fetch_sub(&u->queued_bytes, msg_cost(u, msg));
		atomic_fetch_sub(&u->queued_count, 1);
	}
	mutex_unlock(&u->s.mu);
	take_creds(u, msg, m);
	if (msg->files && take_files(msg, m, peek) < 0 && peek)
		return -ENOMEM;
	if (!peek) {
		mutex_lock(&u->s.mu);
		list_del(&msg->node);
		mutex_unlock(&u->s.mu);
		wake_senders(u);
	}
	put_name(m->from, msg->from);
	size = msg->end - msg->start;
	n = uio_write(m->uio, msg->data + msg->start, MIN(size, m->uio->resid));
	if (n >= 0 && (uint64_t)n < size) {
		m->out_flags |= MSG_TRUNC;
		if (m->flags & MSG_TRUNC)
			n = (int64_t)size;
	}
	if (u->s.type == SOCK_SEQPACKET)
		m->out_flags |= MSG_EOR;
	if (!peek)
		unix_msg_free(msg);
	return n;
}

int64_t unix_recv(struct socket *s, struct sock_msg *m)
{
	struct unix_sock *u = unix_of(s);

	if (s->type != SOCK_STREAM)
		return dgram_recv(u, m);
	if (m->from)
		m->from->size = 0;
	return stream_recv(u, m);
}
