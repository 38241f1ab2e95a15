/* Pseudo-terminals (pty(7)): the slave is a terminal, the master its other side. */
#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "sentry/fs/devpts/tty_priv.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/state/desc.h"

#define PTY_OUT 16384u /* output waiting for the master */
#define PTY_SLAVE_MAJOR 136
#define CHUNK 512u

struct pty {
	struct tty tty; /* first member: the slave */
	struct devpts *instance; /* const; reference */
	unsigned index;		 /* const */
	/* tty.mu protects all below */
	uint32_t out_head, out_tail; /* free running */
	uint8_t status;		     /* packet mode: what the master is to hear next */
	bool packet_mode, locked, master_open, slave_closed;
	unsigned slave_count;
	struct waitq master_waitq;
	uint8_t out[PTY_OUT];
};

STATE_DESC(pty, S_EMBED(pty, 1, tty, tty), S_REF(pty, 2, instance, devpts), S_VAL(pty, 3, index),
	   S_VAL(pty, 4, out_head), S_VAL(pty, 5, out_tail), S_VAL(pty, 6, status), S_VAL(pty, 7, packet_mode),
	   S_VAL(pty, 8, locked), S_VAL(pty, 9, master_open), S_VAL(pty, 10, slave_closed),
	   S_VAL(pty, 11, slave_count), S_NOSAVE(pty, master_waitq, "waiters register again"),
	   S_VAL(pty, 12, out));

static struct pty *pty_of(struct tty *t)
{
	return container_of(t, struct pty, tty);
}

struct pty *tty_pty(struct tty *t)
{
	BUG_ON(t->drv != &pty_driver);
	return pty_of(t);
}

struct tty *pty_tty(struct pty *p)
{
	return &p->tty;
}

static size_t pty_room(struct tty *t)
{
	struct pty *p = pty_of(t);

	return PTY_OUT - (p->out_head - p->out_tail);
}

static size_t pty_driver_write(struct tty *t, const uint8_t *data, size_t size)
{
	struct pty *p = pty_of(t);
	uint32_t at = p->out_head % PTY_OUT, first;

	size = MIN(size, pty_room(t));
	first = MIN((uint32_t)size, PTY_OUT - at);
	memcpy(p->out + at, data, first);
	memcpy(p->out, data + first, size - first);
	p->out_head += (uint32_t)size;
	if (size)
		waitq_wake(&p->master_waitq, POLLIN);
	return size;
}

static size_t pty_pending(struct tty *t UNUSED)
{
	return 0; /* as on Linux: what the master has not read yet counts as sent */
}

static void pty_packet(struct tty *t, uint8_t status)
{
	struct pty *p = pty_of(t);

	if (!p->packet_mode)
		return;
	if (status == TIOCPKT_START)
		p->status &= (uint8_t)~TIOCPKT_STOP;
	if (status == TIOCPKT_STOP)
		p->status &= (uint8_t)~TIOCPKT_START;
	if (status == TIOCPKT_DOSTOP)
		p->status &= (uint8_t)~TIOCPKT_NOSTOP;
	if (status == TIOCPKT_NOSTOP)
		p->status &= (uint8_t)~TIOCPKT_DOSTOP;
	p->status |= status;
	waitq_wake(&p->master_waitq, POLLIN | POLLPRI);
}

static void pty_flush_output(struct tty *t)
{
	struct pty *p = pty_of(t);

	p->out_tail = p->out_head;
	pty_packet(t, TIOCPKT_FLUSHWRITE);
	waitq_wake(&t->waitq, POLLOUT);
}

static void pty_unthrottle(struct tty *t)
{
	waitq_wake(&pty_of(t)->master_waitq, POLLOUT);
}

static void pty_free(struct tty *t)
{
	struct pty *p = pty_of(t);

	waitq_fini(&p->master_waitq);
	tty_fini(t);
	devpts_put(p->instance);
	free(p);
}

static int64_t pty_get_int(struct umem *um, uint64_t arg, int32_t value)
{
	return copy_out_struct(um, UADDR(arg), &value);
}

/* TIOCGPTPEER: opens the slave by its usual name below the caller's root. */
static int64_t open_peer(struct pty *p, uint64_t flags)
{
	struct walk w;
	struct file *f;
	char name[32];
	int ret;

	snprintf(name, sizeof(name), "/dev/pts/%u", p->index);
	ret = task_walk(current, AT_FDCWD, &w);
	if (ret < 0)
		return ret;
	ret = vfs_open(&w, name, WALK_FOLLOW, (int)flags & (O_ACCMODE | O_NOCTTY | O_NONBLOCK), 0, &f);
	walk_put(&w);
	if (ret < 0)
		return ret;
	ret = f->data == p ? task_fd_install(current, f, flags & O_CLOEXEC) : -EIO;
	file_put(f);
	return ret;
}

static int64_t pty_ioctl(struct tty *t, bool master, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct pty *p = pty_of(t);
	int32_t value;

	if (!master)
		return -ENOTTY;
	switch (cmd) {
	case TIOCGPTN:
		return pty_get_int(um, arg, (int32_t)p->index);
	case TIOCGPTLCK:
		return pty_get_int(um, arg, p->locked);
	case TIOCGPKT:
		return pty_get_int(um, arg, p->packet_mode);
	case TIOCSPTLCK:
	case TIOCPKT:
		if (copy_in_struct(um, &value, UADDR(arg)) < 0)
			return -EFAULT;
		mutex_lock(&t->mu);
		if (cmd == TIOCSPTLCK) {
			p->locked = value != 0;
		} else {
			if (value && !p->packet_mode)
				p->status = 0;
			p->packet_mode = value != 0;
		}
		mutex_unlock(&t->mu);
		return 0;
	case TIOCGPTPEER:
		return open_peer(p, arg);
	case TIOCSIG:
		if (arg != SIGINT && arg != SIGQUIT && arg != SIGTSTP)
			return -EINVAL;
		tty_signal_foreground(t, (int)arg);
		return 0;
	case TIOCINQ:
		mutex_lock(&t->mu);
		value = (int32_t)(p->out_head - p->out_tail);
		mutex_unlock(&t->mu);
		return pty_get_int(um, arg, value);
	default:
		return -ENOTTY;
	}
}

const struct tty_driver pty_driver = {
	.name = "pty",
	.write = pty_driver_write,
	.room = pty_room,
	.pending = pty_pending,
	.flush_output = pty_flush_output,
	.packet = pty_packet,
	.unthrottle = pty_unthrottle,
	.free = pty_free,
	.ioctl = pty_ioctl,
};

int pty_new(struct devpts *instance, unsigned index, struct pty **ret_pty)
{
	struct pty *p = calloc(1, sizeof(*p));
	char name[16];

	if (!p)
		return -ENOMEM;
	snprintf(name, sizeof(name), "pts/%u", index);
	tty_init(&p->tty, &pty_driver, makedev(PTY_SLAVE_MAJOR, index), name);
	waitq_init(&p->master_waitq);
	p->instance = instance;
	p->index = index;
	p->locked = true;
	*ret_pty = p;
	return 0;
}

/* The master's side. */

static void master_release(struct file *f)
{
	struct pty *p = f->data;

	mutex_lock(&p->tty.mu);
	p->master_open = false;
	mutex_unlock(&p->tty.mu);
	devpts_remove(p->instance, p->index);
	tty_hangup(&p->tty);
	tty_put(&p->tty);
}

/* Output for the master: a packet status byte, or data behind a zero byte in packet mode. t->mu held. */
static size_t master_take(struct pty *p, uint8_t *buf, size_t size)
{
	size_t n = 0, k;

	if (p->packet_mode) {
		if (p->status) {
			buf[0] = p->status;
			p->status = 0;
			return 1;
		}
		if (p->out_head == p->out_tail)
			return 0;
		buf[n++] = TIOCPKT_DATA;
	}
	k = MIN((size_t)(p->out_head - p->out_tail), size - n);
	for (size_t i = 0; i < k; i++)
		buf[n++] = p->out[p->out_tail++ % PTY_OUT];
	return n;
}

static int64_t master_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct pty *p = f->data;
	struct tty *t = &p->tty;
	uint8_t chunk[4 * CHUNK];
	bool closed;
	size_t n;

	if (u->resid == 0)
		return 0;
	mutex_lock(&t->mu);
	n = master_take(p, chunk, MIN(u->resid, sizeof(chunk)));
	closed = p->slave_closed;
	mutex_unlock(&t->mu);
	if (n == 0)
		return closed ? -EIO : -EAGAIN;
	waitq_wake(&t->waitq, POLLOUT);
	return uio_write(u, chunk, n) == (int64_t)n ? (int64_t)n : -EFAULT;
}

static int64_t master_write(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	struct pty *p = f->data;
	struct tty *t = &p->tty;
	uint8_t chunk[CHUNK];
	int64_t done = 0;

	while (u->resid > 0) {
		struct uio at_start = *u;
		int64_t n = uio_read(u, chunk, MIN(u->resid, sizeof(chunk)));
		size_t room;

		if (n <= 0)
			return done ? done : n;
		mutex_lock(&t->mu);
		room = MIN((size_t)n, tty_input_room(t));
		tty_receive(t, chunk, room);
		mutex_unlock(&t->mu);
		done += (int64_t)room;
		if (room < (size_t)n) {
			*u = at_start;
			uio_advance(u, room);
			return done ? done : -EAGAIN;
		}
	}
	return done;
}

static uint32_t master_poll(struct file *f, uint32_t events UNUSED)
{
	struct pty *p = f->data;
	uint32_t ready = 0;
	GUARD(mutex, &p->tty.mu);

	if (p->out_head != p->out_tail || (p->packet_mode && p->status))
		ready |= POLLIN | POLLRDNORM;
	if (p->packet_mode && p->status)
		ready |= POLLPRI;
	if (p->slave_closed)
		ready |= POLLHUP;
	if (tty_input_room(&p->tty))
		ready |= POLLOUT | POLLWRNORM;
	return ready;
}

static struct waitq *master_waitq(struct file *f)
{
	return &((struct pty *)f->data)->master_waitq;
}

static int64_t master_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct pty *p = f->data;

	return tty_ioctl(&p->tty, f, true, cmd, arg, um);
}

static size_t master_fdinfo(struct file *f, char *buf, size_t size)
{
	int n = snprintf(buf, size, "tty-index:\t%u\n", ((struct pty *)f->data)->index);

	return n < 0 ? 0 : MIN((size_t)n, size);
}

static const struct file_ops master_ops = {
	.name = "ptmx",
	.release = master_release,
	.read = master_read,
	.write = master_write,
	.stream = true,
	.poll = master_poll,
	.waitq = master_waitq,
	.ioctl = master_ioctl,
	.fdinfo = master_fdinfo,
};

int pty_open_master(struct pty *p, struct file *f)
{
	p->master_open = true;
	f->ops = &master_ops;
	f->data = p;
	return 0;
}

/* The slave's side. */

static void slave_release(struct file *f)
{
	struct pty *p = f->data;

	mutex_lock(&p->tty.mu);
	if (--p->slave_count == 0)
		p->slave_closed = true;
	mutex_unlock(&p->tty.mu);
	if (p->slave_closed)
		waitq_wake(&p->master_waitq, POLLIN | POLLHUP);
	tty_put(&p->tty);
}

static int64_t slave_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	return tty_read(&((struct pty *)f->data)->tty, f, u);
}

static int64_t slave_write(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	return tty_write(&((struct pty *)f->data)->tty, f, u);
}

static uint32_t slave_poll(struct file *f, uint32_t events UNUSED)
{
	return tty_poll(&((struct pty *)f->data)->tty);
}

static struct waitq *slave_waitq(struct file *f)
{
	return &((struct pty *)f->data)->tty.waitq;
}

static int64_t slave_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	return tty_ioctl(&((struct pty *)f->data)->tty, f, false, cmd, arg, um);
}

static const struct file_ops slave_ops = {
	.name = "pts",
	.release = slave_release,
	.read = slave_read,
	.write = slave_write,
	.stream = true,
	.poll = slave_poll,
	.waitq = slave_waitq,
	.ioctl = slave_ioctl,
};

int pty_open_slave(struct pty *p, struct file *f)
{
	struct tty *t = &p->tty;

	mutex_lock(&t->mu);
	if (t->hung || !p->master_open || p->locked) {
		mutex_unlock(&t->mu);
		return -EIO;
	}
	if (t->exclusive && !task_capable(current, 21 /* CAP_SYS_ADMIN */)) {
		mutex_unlock(&t->mu);
		return -EBUSY;
	}
	p->slave_count++;
	p->slave_closed = false;
	mutex_unlock(&t->mu);
	tty_get(t);
	f->ops = &slave_ops;
	f->data = p;
	tty_opened(t, f);
	return 0;
}
