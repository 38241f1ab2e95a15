/*
 * Pipes. Bytes stand in a ring that starts small and grows up to the pipe's size while it fills, so an
 * idle pipe costs little. In packet mode (O_DIRECT) the ends of packets are kept as positions beside
 * it. One lock; guest memory is copied straight into and out of the ring under it (LOCK_PIPE comes
 * before the locks of an address space).
 *
 * Wake-ups: readers when bytes arrive or the last writer leaves; writers when PIPE_ATOMIC bytes are
 * free again, or a shorter write that waits fits, or the last reader leaves.
 */
#include "sentry/fs/pipe/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "sentry/state/desc.h"
#include "sentry/vfs/twins.h"

#define RING_START 4096u
#define PACKETS_MAX 256u /* packets that wait in a pipe of the largest size */

struct pipe {
	struct refcount refs; /* open files; a fifo's inode points without owning */
	struct mutex mu;      /* LOCK_PIPE: everything below */
	struct inode *fifo;   /* const; borrowed: its fifo member points back while something is open; NULL: see twins */
	struct inode_twins *twins; /* const; reference: of a fifo that has twins, instead */
	char *ring;	      /* owned; capacity bytes */
	unsigned capacity;    /* a power of two, at most size */
	unsigned size;	      /* F_GETPIPE_SZ */
	uint64_t head, tail;  /* bytes read and written since ever; head & (capacity - 1) is the place */
	uint64_t *packets;    /* ends of packets not yet read, in `tail` terms; owned; may be NULL */
	unsigned packet_first, packet_count;
	unsigned readers, writers;
	uint64_t reader_opens, writer_opens; /* for open(2) of fifos */
	bool writer_waits;    /* a writer was refused since the last wake */
	struct waitq q;
};

STATE_DESC(pipe, S_NOSAVE(pipe, refs, "recounted"), S_NOSAVE(pipe, mu, "free at a safe point"),
	   S_WEAK(pipe, 1, fifo, inode), S_NOSAVE(pipe, twins, "a file of the host"), S_BYTES(pipe, 2, ring), S_VAL(pipe, 3, capacity),
	   S_VAL(pipe, 4, size), S_VAL(pipe, 5, head), S_VAL(pipe, 6, tail), S_BYTES(pipe, 7, packets),
	   S_VAL(pipe, 8, packet_first), S_VAL(pipe, 9, packet_count), S_VAL(pipe, 10, readers),
	   S_VAL(pipe, 11, writers), S_VAL(pipe, 12, reader_opens), S_VAL(pipe, 13, writer_opens),
	   S_VAL(pipe, 14, writer_waits), S_NOSAVE(pipe, q, "waiters register again"));

static void free_text(char *text)
{
	free(text);
}
DEFINE_AUTO(free_text, char *)

static struct pipe *pipe_alloc(struct inode *fifo)
{
	struct pipe *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	refcount_init(&p->refs, 1);
	mutex_init(&p->mu, LOCK_PIPE);
	waitq_init(&p->q);
	p->fifo = fifo;
	p->size = PIPE_DEFAULT_SIZE;
	return p;
}

static void pipe_put(struct pipe *p)
{
	if (!p || !refcount_put(&p->refs))
		return;
	inode_twins_put(p->twins);
	free(p->ring);
	free(p->packets);
	waitq_fini(&p->q);
	mutex_fini(&p->mu);
	free(p);
}

static unsigned used(const struct pipe *p)
{
	return (unsigned)(p->tail - p->head);
}

static unsigned room(const struct pipe *p)
{
	return used(p) < p->size ? p->size - used(p) : 0;
}

/* Moves the contents to a ring of at least `need` bytes, a power of two. mu held. */
static int ring_resize(struct pipe *p, unsigned need)
{
	unsigned capacity = RING_START, n = used(p);
	char *ring;

	while (capacity < need)
		capacity *= 2;
	if (capacity == p->capacity)
		return 0;
	ring = malloc(capacity);
	if (!ring)
		return -ENOMEM;
	for (unsigned i = 0; i < n;) { /* to where the new mask puts each byte */
		unsigned from = (unsigned)((p->head + i) & (p->capacity - 1));
		unsigned to = (unsigned)((p->head + i) & (capacity - 1));
		unsigned chunk = MIN(n - i, p->capacity - from);

		chunk = MIN(chunk, capacity - to);
		memcpy(ring + to, p->ring + from, chunk);
		i += chunk;
	}
	free(p->ring);
	p->ring = ring;
	p->capacity = capacity;
	return 0;
}

/* Contiguous space behind the tail for up to size bytes; size must fit in room(p). mu held. */
static int ring_space(struct pipe *p, size_t size, char **ret, size_t *ret_size)
{
	unsigned need = used(p) + (unsigned)size, at;

	if (need > p->capacity) {
		int r = ring_resize(p, need);

		if (r < 0)
			return r;
	}
	at = (unsigned)(p->tail & (p->capacity - 1));
	*ret = p->ring + at;
	*ret_size = MIN(size, (size_t)(p->capacity - at));
	return 0;
}

static char *ring_data(struct pipe *p, size_t size, size_t *ret_size)
{
	unsigned at = (unsigned)(p->head & (p->capacity - 1));

	*ret_size = MIN(size, (size_t)(p->capacity - at));
	return p->ring + at;
}

/* Bytes a read may take at once: up to the end of the first packet. */
static size_t readable(const struct pipe *p, size_t size)
{
	size_t n = MIN(size, (size_t)used(p));

	if (p->packet_count)
		n = MIN(n, (size_t)(p->packets[p->packet_first] - p->head));
	return n;
}

/* The head moved: a packet that was read, even in part, is gone (pipe(2)). Frees what an emptied pipe
 * does not need; decides whether writers are to be woken. */
static bool consumed(struct pipe *p, bool packet_done)
{
	if (p->packet_count && packet_done) {
		p->head = p->packets[p->packet_first];
		p->packet_first = (p->packet_first + 1) % PACKETS_MAX;
		p->packet_count--;
	}
	if (p->writer_waits && room(p) >= PIPE_ATOMIC) {
		p->writer_waits = false;
		return true;
	}
	return false;
}

static bool packets_room(const struct pipe *p)
{
	return p->packet_count < PACKETS_MAX;
}

/* Everything written so far ends a packet. mu held. */
static int packet_end(struct pipe *p)
{
	if (!p->packets) {
		p->packets = calloc(PACKETS_MAX, sizeof(*p->packets));
		if (!p->packets)
			return -ENOMEM;
	}
	p->packets[(p->packet_first + p->packet_count++) % PACKETS_MAX] = p->tail;
	return 0;
}

static struct pipe *of(const struct file *f)
{
	return f->data;
}

static int64_t pipe_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct pipe *p = of(f);
	int64_t done = 0, r = 0;
	bool wake = false;

	(void)pos;
	if (!u->resid)
		return 0;
	mutex_lock(&p->mu);
	if (!used(p)) {
		r = p->writers ? -EAGAIN : 0;
		mutex_unlock(&p->mu);
		return r;
	}
	for (size_t left = readable(p, u->resid); left;) {
		size_t size;
		char *data = ring_data(p, left, &size);

		r = uio_write(u, data, size);
		if (r < (int64_t)size) { /* a bad address: what it was to take stays */
			r = -EFAULT;
			break;
		}
		p->head += size;
		done += r;
		left -= size;
	}
	if (done)
		wake = consumed(p, true);
	mutex_unlock(&p->mu);
	if (wake)
		waitq_wake(&p->q, POLLOUT | POLLWRNORM);
	return done ? done : r;
}

/* Puts up to size bytes of u behind the tail; bytes or -errno. mu held. */
static int64_t ring_write(struct pipe *p, struct uio *u, size_t size)
{
	int64_t done = 0, r = 0;

	while (size) {
		size_t chunk;
		char *space;

		r = ring_space(p, size, &space, &chunk);
		if (r < 0)
			break;
		r = uio_read(u, space, chunk);
		if (r < (int64_t)chunk) {
			r = -EFAULT;
			break;
		}
		p->tail += chunk;
		done += r;
		size -= chunk;
	}
	return done ? done : r;
}

static int64_t packet_write(struct pipe *p, struct uio *u)
{
	int64_t done = 0, r = -EAGAIN;

	while (u->resid && packets_room(p)) {
		size_t size = MIN(u->resid, (uint64_t)PIPE_ATOMIC);

		if (room(p) < size)
			break;
		r = ring_write(p, u, size);
		if (r < 0)
			break;
		done += r;
		if (packet_end(p) < 0 || (size_t)r < size)
			break;
	}
	return done ? done : r;
}

static int64_t pipe_write(struct file *f, struct uio *u, int64_t *pos)
{
	struct pipe *p = of(f);
	uint64_t want = u->resid;
	int64_t r;

	(void)pos;
	if (!want)
		return 0;
	mutex_lock(&p->mu);
	if (!p->readers) {
		mutex_unlock(&p->mu);
		return -EPIPE;
	}
	if (atomic_load_explicit(&f->flags, memory_order_relaxed) & O_DIRECT)
		r = packet_write(p, u);
	else if (want <= PIPE_ATOMIC ? room(p) < want : !room(p))
		r = -EAGAIN;
	else
		r = ring_write(p, u, MIN(want, (uint64_t)room(p)));
	if (r == -EAGAIN || (r > 0 && (uint64_t)r < want))
		p->writer_waits = true;
	mutex_unlock(&p->mu);
	if (r > 0)
		waitq_wake(&p->q, POLLIN | POLLRDNORM);
	return r;
}

static uint32_t pipe_poll(struct file *f, uint32_t events)
{
	struct pipe *p = of(f);
	int acc = file_flags(f) & O_ACCMODE;
	uint32_t ready = 0;

	(void)events;
	GUARD(mutex, &p->mu);
	if (acc != O_WRONLY) {
		if (used(p))
			ready |= POLLIN | POLLRDNORM;
		if (!p->writers && p->writer_opens)
			ready |= POLLHUP;
	}
	if (acc != O_RDONLY) {
		if (room(p) >= PIPE_ATOMIC)
			ready |= POLLOUT | POLLWRNORM;
		else
			p->writer_waits = true;
		if (!p->readers)
			ready |= POLLERR;
	}
	return ready;
}

static struct waitq *pipe_file_waitq(struct file *f)
{
	return &of(f)->q;
}

static int64_t pipe_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	int32_t n;

	if (cmd != FIONREAD)
		return -ENOTTY;
	n = (int32_t)pipe_bytes(of(f));
	return copy_out_struct(um, UADDR(arg), &n);
}

static int64_t pipe_fcntl(struct file *f, int cmd, uint64_t arg, struct umem *um)
{
	(void)um;
	switch (cmd) {
	case F_GETPIPE_SZ:
		return pipe_size(of(f));
	case F_SETPIPE_SZ:
		return pipe_set_size(of(f), (uint32_t)arg,
				     cred_capable(f->cred, &root_user_ns, CAP_SYS_RESOURCE));
	default:
		return -EINVAL;
	}
}

/* An end was closed: tells the other side. */
static void pipe_release(struct file *f)
{
	struct pipe *p = of(f);
	int acc = file_flags(f) & O_ACCMODE;
	struct inode *fifo = f->inode;
	bool last;

	mutex_lock(&fifo->mu);
	if (p->twins)
		mutex_lock(&p->twins->mu);
	mutex_lock(&p->mu);
	if (acc != O_WRONLY)
		p->readers--;
	if (acc != O_RDONLY)
		p->writers--;
	last = !p->readers && !p->writers;
	if (last)
		*(p->twins ? &p->twins->fifo : &p->fifo->fifo) = NULL;
	mutex_unlock(&p->mu);
	if (p->twins)
		mutex_unlock(&p->twins->mu);
	mutex_unlock(&fifo->mu);
	if (!last)
		waitq_wake(&p->q, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM | POLLHUP | POLLERR);
	pipe_put(p);
}

/* open(2) of a fifo waits for the other end; an end that came and went counts. */
static int fifo_open_wait(struct file *f)
{
	struct pipe *p = of(f);
	int acc = file_flags(f) & O_ACCMODE;

	/* A pipe opened again through /proc/PID/fd has no rendezvous. */
	if (f->inode->sb == &anon_superblock)
		return 0;
	GUARD(mutex, &p->mu);
	if (acc == O_RDONLY)
		return p->writers || p->writer_opens > (uint64_t)f->pos ? 0 : -EAGAIN;
	if (acc == O_WRONLY)
		return p->readers || p->reader_opens > (uint64_t)f->pos ? 0 : -EAGAIN;
	return 0;
}

static const struct file_ops pipe_file_ops = {
	.name = "pipe",
	.release = pipe_release,
	.read = pipe_read,
	.write = pipe_write,
	.stream = true,
	.ioctl = pipe_ioctl,
	.fcntl = pipe_fcntl,
	.poll = pipe_poll,
	.waitq = pipe_file_waitq,
	.open_wait = fifo_open_wait,
};

struct pipe *pipe_of_file(struct file *f)
{
	return f->ops == &pipe_file_ops ? of(f) : NULL;
}

/* The fifo's inode mu, and what it shares with twins, is held over the whole, as in pipe_release: an opener never joins a pipe that the
 * last closer is leaving. */
static int open_locked(struct inode *i, struct pipe **shared, struct inode_twins *twins, struct file *f)
{
	int flags = file_flags(f), acc = flags & O_ACCMODE;
	struct pipe *p = *shared;

	if (acc == O_WRONLY && flags & O_NONBLOCK && (!p || !p->readers))
		return -ENXIO;
	if (p)
		refcount_get(&p->refs);
	else
		p = *shared = pipe_alloc(twins ? NULL : i);
	if (!p)
		return -ENOMEM;
	if (twins && !p->twins)
		p->twins = inode_twins_get(twins);
	f->data = p;
	f->ops = &pipe_file_ops;
	mutex_lock(&p->mu);
	/* What fifo_open_wait compares with: opens of the other end so far, less one when that end is open now, as it
	 * may be gone before this one looks. A pipe without a name, opened again through /proc/PID/fd, waits for
	 * nobody: its two ends were there at birth. */
	f->pos = (int64_t)(acc == O_RDONLY ? p->writer_opens - (p->writers > 0) : p->reader_opens - (p->readers > 0));
	if (i->sb == &anon_superblock)
		f->pos = 0;
	if (acc != O_WRONLY) {
		p->readers++;
		p->reader_opens++;
	}
	if (acc != O_RDONLY) {
		p->writers++;
		p->writer_opens++;
	}
	mutex_unlock(&p->mu);
	waitq_wake(&p->q, POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
	return 0;
}

static int fifo_open(struct inode *i, struct file *f)
{
	struct inode_twins *twins = inode_twins(i);
	int r;

	GUARD(mutex, &i->mu);
	if (!twins)
		return open_locked(i, &i->fifo, NULL, f);
	mutex_lock(&twins->mu);
	r = open_locked(i, &twins->fifo, twins, f);
	mutex_unlock(&twins->mu);
	return r;
}

int pipe_init(void)
{
	fifo_open_hook = fifo_open;
	return 0;
}

int pipe_new(int flags, const struct cred *cred, struct file **ret_read, struct file **ret_write)
{
	struct inode *inode = malloc(sizeof(*inode));
	struct pipe *p = pipe_alloc(inode);
	struct file *rd = NULL, *wr = NULL;
	struct path place;
	int r = -ENOMEM;

	if (!inode || !p) {
		free(inode);
		pipe_put(p);
		return -ENOMEM;
	}
	inode_init(inode, &anon_inode_ops, &anon_superblock, ino_next(), S_IFIFO | 0600);
	inode->uid = cred->fsuid;
	inode->gid = cred->fsgid;
	inode->fifo = p;
	r = path_new_anon(inode, "pipe:", &place);
	if (r == 0) {
		r = file_new(&place, inode, &pipe_file_ops, O_RDONLY | flags, cred, &rd);
		if (r == 0) {
			rd->data = p;
			p->readers = p->writers = 1;
			p->reader_opens = p->writer_opens = 1;
			r = file_new(&place, inode, &pipe_file_ops, O_WRONLY | flags, cred, &wr);
		}
		path_put(&place);
	}
	inode_put(inode);
	if (r < 0) {
		if (rd)
			file_put(rd);
		else
			pipe_put(p);
		return r;
	}
	refcount_get(&p->refs);
	wr->data = p;
	*ret_read = rd;
	*ret_write = wr;
	return 0;
}

unsigned pipe_size(struct pipe *p)
{
	GUARD(mutex, &p->mu);
	return p->size;
}

unsigned pipe_bytes(struct pipe *p)
{
	GUARD(mutex, &p->mu);
	return used(p);
}

struct waitq *pipe_waitq(struct pipe *p)
{
	return &p->q;
}

int64_t pipe_set_size(struct pipe *p, uint64_t size, bool privileged)
{
	unsigned n = PIPE_ATOMIC;
	int r;

	if (size > 1u << 31)
		return -EINVAL;
	while (n < size)
		n *= 2;
	mutex_lock(&p->mu);
	if (n > p->size && n > PIPE_MAX_SIZE && (!privileged || n > PIPE_HARD_MAX))
		r = -EPERM;
	else if (used(p) > n)
		r = -EBUSY;
	else
		r = p->capacity > n ? ring_resize(p, n) : 0;
	if (r == 0)
		p->size = n;
	mutex_unlock(&p->mu);
	if (r == 0)
		waitq_wake(&p->q, POLLOUT | POLLWRNORM);
	return r < 0 ? r : (int64_t)n;
}

/* Locks two pipes in order of address. */
static void lock_pair(struct pipe *a, struct pipe *b)
{
	mutex_lock(a < b ? &a->mu : &b->mu);
	mutex_lock_nested(a < b ? &b->mu : &a->mu);
}

int64_t pipe_splice(struct pipe *from, struct pipe *to, size_t size, bool tee)
{
	size_t left, done = 0;
	bool wake_from = false;
	int64_t r = 0;

	if (from == to)
		return -EINVAL;
	lock_pair(from, to);
	left = MIN(readable(from, size), (size_t)room(to));
	if (!to->readers)
		r = -EPIPE;
	else if (!used(from))
		r = from->writers ? -EAGAIN : 0;
	else if (!left)
		r = -EAGAIN;
	while (r == 0 && done < left) {
		unsigned at = (unsigned)((from->head + done) & (from->capacity - 1));
		size_t chunk;
		char *space;

		r = ring_space(to, MIN(left - done, (size_t)(from->capacity - at)), &space, &chunk);
		if (r < 0)
			break;
		memcpy(space, from->ring + at, chunk);
		to->tail += chunk;
		done += chunk;
	}
	if (done && !tee) {
		from->head += done;
		wake_from = consumed(from, from->packet_count && from->head == from->packets[from->packet_first]);
	}
	if (r == -EAGAIN && used(from))
		to->writer_waits = true;
	mutex_unlock(&from->mu);
	mutex_unlock(&to->mu);
	if (done)
		waitq_wake(&to->q, POLLIN | POLLRDNORM);
	if (wake_from)
		waitq_wake(&from->q, POLLOUT | POLLWRNORM);
	return done ? (int64_t)done : r;
}

int64_t pipe_fill(struct pipe *p, struct file *f, int64_t *pos, size_t size)
{
	char *buf;
	int64_t r = 0;
	struct uio u;

	mutex_lock(&p->mu);
	size = MIN(size, (size_t)room(p));
	if (!p->readers)
		r = -EPIPE;
	else if (!size)
		r = -EAGAIN;
	if (r == -EAGAIN)
		p->writer_waits = true;
	mutex_unlock(&p->mu);
	if (r < 0)
		return r;
	/* The file is asked without our lock; the bytes then go in by a second copy. */
	size = MIN(size, (size_t)PIPE_DEFAULT_SIZE);
	buf = malloc(size);
	if (!buf)
		return -ENOMEM;
	uio_init_kernel(&u, buf, size);
	r = file_read(f, &u, pos);
	if (r > 0) {
		uint64_t got = (uint64_t)r;

		uio_init_kernel(&u, buf, got);
		mutex_lock(&p->mu);
		/* Another writer may have taken the room meanwhile: the pipe then holds more than its size. */
		r = ring_write(p, &u, got);
		mutex_unlock(&p->mu);
		waitq_wake(&p->q, POLLIN | POLLRDNORM);
	}
	free(buf);
	return r;
}

/* Takes up to size bytes out of the pipe into buf. mu held. */
static size_t take_locked(struct pipe *p, char *buf, size_t size)
{
	size_t at = 0;

	while (at < size) {
		size_t chunk;
		char *data = ring_data(p, size - at, &chunk);

		memcpy(buf + at, data, chunk);
		p->head += chunk;
		at += chunk;
	}
	return at;
}

/* Puts bytes that could not be delivered back in front; the pipe may exceed its size for it. mu held. */
static int give_back_locked(struct pipe *p, const char *buf, size_t size)
{
	unsigned need = used(p) + (unsigned)size;

	if (need > p->capacity && ring_resize(p, need) < 0)
		return -ENOMEM;
	while (size) {
		size--;
		p->head--;
		p->ring[p->head & (p->capacity - 1)] = buf[size];
	}
	return 0;
}

int64_t pipe_drain(struct pipe *p, struct file *f, int64_t *pos, size_t size)
{
	AUTO(free_text) char *buf = NULL;
	bool wake;
	int64_t r;
	size_t n;
	struct uio u;

	mutex_lock(&p->mu);
	n = MIN(readable(p, size), (size_t)PIPE_DEFAULT_SIZE);
	buf = n ? malloc(n) : NULL;
	if (!buf) {
		r = n ? -ENOMEM : !used(p) && p->writers ? -EAGAIN : 0;
		mutex_unlock(&p->mu);
		return r;
	}
	take_locked(p, buf, n);
	mutex_unlock(&p->mu);
	uio_init_kernel(&u, buf, n);
	r = file_write(f, &u, pos);
	mutex_lock(&p->mu);
	if (r < (int64_t)n && give_back_locked(p, buf + MAX(r, 0), n - (size_t)MAX(r, 0)) < 0 && r <= 0)
		r = -ENOMEM;
	wake = consumed(p, p->packet_count && p->head >= p->packets[p->packet_first]);
	mutex_unlock(&p->mu);
	if (wake)
		waitq_wake(&p->q, POLLOUT | POLLWRNORM);
	return r;
}
