/*
 * A terminal of the host as a guest's terminal, and /dev/tty. The host side is in raw mode and only
 * carries bytes; editing, signals and job control are the discipline's.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <termios.h>
#include <unistd.h>

#include "platform/host/notifier.h"
#include "sentry/fs/devpts/tty_priv.h"
#include "sentry/state/desc.h"

#define WRITE_ROOM 1024u
/*
 * Nobody here is told when the window changes on the other end (conmon, a shim), so the size is looked at this often,
 * but only for a while after something came from there: a terminal that nobody sits at costs nothing.
 */
#define LOOK_NS (400 * INT64_C(1000000))
#define LOOK_FOR_NS (600 * INT64_C(1000000000))

struct host_tty {
	struct tty tty; /* first member */
	struct host_watch watch;
	bool gone; /* tty.mu: the host side hung up */
	_Atomic unsigned file_count; /* open files; the name goes with the last */
	struct devpts *devpts;	     /* const; reference; NULL: no name */
	unsigned index;		     /* const: its number there */
	struct ktimer look;	     /* at the size of the window */
	_Atomic int64_t look_until_ns; /* CLOCK_MONOTONIC */
};

STATE_DESC(host_tty, S_EMBED(host_tty, 1, tty, tty), S_NOSAVE(host_tty, watch, "a new descriptor comes with restore"),
	   S_NOSAVE(host_tty, gone, "a new descriptor comes with restore"),
	   S_NOSAVE(host_tty, file_count, "recounted"), S_REF(host_tty, 2, devpts, devpts),
	   S_VAL(host_tty, 3, index), S_NOSAVE(host_tty, look, "armed by input"),
	   S_NOSAVE(host_tty, look_until_ns, "armed by input"));

static struct host_tty *host_of(struct tty *t)
{
	return container_of(t, struct host_tty, tty);
}

static size_t host_room(struct tty *t)
{
	struct host_tty *h = host_of(t);

	if (h->gone)
		return WRITE_ROOM;
	return host_poll_fd(h->watch.fd, POLLOUT) & POLLOUT ? WRITE_ROOM : 0;
}

static size_t host_write(struct tty *t, const uint8_t *data, size_t size)
{
	struct host_tty *h = host_of(t);
	ssize_t n = h->gone ? (ssize_t)size : write(h->watch.fd, data, size);

	/* What the host refuses is lost, as on a line that was cut; the hang-up comes by the notifier. */
	return n < 0 ? size : (size_t)n;
}

static size_t host_pending(struct tty *t)
{
	int n = 0;

	return ioctl(host_of(t)->watch.fd, TIOCOUTQ, &n) < 0 || n < 0 ? 0 : (size_t)n;
}

static void host_flush_output(struct tty *t UNUSED)
{
}

/* Reads what the host has, as far as the discipline has room. */
static void host_fill(struct tty *t)
{
	struct host_tty *h = host_of(t);
	uint8_t buf[512];
	bool hup = false;

	mutex_lock(&t->mu);
	while (!h->gone) {
		size_t room = MIN(tty_input_room(t), sizeof(buf));
		/* VMIN and VTIME are 0 on the host: no wait. */
		ssize_t n = room ? read(h->watch.fd, buf, room) : 0;

		if (n < 0 && errno == EIO)
			hup = h->gone = true;
		if (n <= 0)
			break;
		tty_receive(t, buf, (size_t)n);
	}
	if (!h->gone && (host_poll_fd(h->watch.fd, POLLIN) & POLLHUP))
		hup = h->gone = true;
	mutex_unlock(&t->mu);
	if (hup)
		tty_hangup(t);
}

static void host_unthrottle(struct tty *t)
{
	host_fill(t);
}

/* ktimer: on the timer thread. */
static void host_look(struct ktimer *kt, uint64_t overruns UNUSED)
{
	struct host_tty *h = container_of(kt, struct host_tty, look);

	host_tty_resized(&h->tty);
	if (clock_mono() < atomic_load(&h->look_until_ns))
		ktimer_arm(kt, clock_mono() + LOOK_NS, 0);
}

static void host_keep_looking(struct host_tty *h)
{
	int64_t now = clock_mono();

	/* still armed by its callback when the time was not over yet */
	if (atomic_exchange(&h->look_until_ns, now + LOOK_FOR_NS) <= now + LOOK_NS)
		ktimer_arm(&h->look, now + LOOK_NS, 0);
}

static void host_ready(struct host_watch *w, uint32_t events)
{
	struct tty *t = &container_of(w, struct host_tty, watch)->tty;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		host_tty_resized(t); /* before what was typed after it */
		host_keep_looking(host_of(t));
		host_fill(t);
	}
	waitq_wake(&t->waitq, events);
}

static void host_resize(struct tty *t, const struct winsize *ws)
{
	struct winsize copy = *ws;

	if (ioctl(host_of(t)->watch.fd, TIOCSWINSZ, &copy) < 0)
		return; /* the guest's own idea of the size stands */
}

static void host_free(struct tty *t)
{
	struct host_tty *h = host_of(t);

	notifier_remove(&h->watch);
	ktimer_cancel_sync(&h->look);
	if (h->watch.fd >= 0)
		close(h->watch.fd);
	devpts_put(h->devpts);
	tty_fini(t);
	free(h);
}

static const struct tty_driver host_driver = {
	.name = "host",
	.write = host_write,
	.room = host_room,
	.pending = host_pending,
	.flush_output = host_flush_output,
	.unthrottle = host_unthrottle,
	.resize = host_resize,
	.free = host_free,
};

static struct tty *file_tty(struct file *f)
{
	return f->data;
}

static void host_file_release(struct file *f)
{
	struct host_tty *h = host_of(file_tty(f));

	if (atomic_fetch_sub(&h->file_count, 1) == 1 && h->devpts)
		devpts_remove(h->devpts, h->index);
	tty_put(&h->tty);
}

static int64_t host_file_read(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	return tty_read(file_tty(f), f, u);
}

static int64_t host_file_write(struct file *f, struct uio *u, int64_t *pos UNUSED)
{
	return tty_write(file_tty(f), f, u);
}

static uint32_t host_file_poll(struct file *f, uint32_t events UNUSED)
{
	return tty_poll(file_tty(f));
}

static struct waitq *host_file_waitq(struct file *f)
{
	return &file_tty(f)->waitq;
}

static int64_t host_file_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	return tty_ioctl(file_tty(f), f, false, cmd, arg, um);
}

static const struct file_ops host_tty_file_ops = {
	.name = "tty",
	.release = host_file_release,
	.read = host_file_read,
	.write = host_file_write,
	.stream = true,
	.poll = host_file_poll,
	.waitq = host_file_waitq,
	.ioctl = host_file_ioctl,
};

static int host_raw_mode(int fd)
{
	struct termios tio;

	if (tcgetattr(fd, &tio) < 0)
		return -errno;
	cfmakeraw(&tio);
	tio.c_cc[VMIN] = tio.c_cc[VTIME] = 0;
	return tcsetattr(fd, TCSANOW, &tio) < 0 ? -errno : 0;
}

/* Gives the terminal a number in the devpts at pts (NULL: none). */
static int host_tty_name(struct host_tty *h, const struct path *pts)
{
	char name[16] = "console";
	dev_t dev = makedev(5, 1);

	if (pts) {
		int index = devpts_host_reserve(pts->dentry->inode->sb, &h->devpts);

		if (index < 0)
			return index;
		h->index = (unsigned)index;
		snprintf(name, sizeof(name), "pts/%u", h->index);
		dev = makedev(136, h->index);
	}
	tty_init(&h->tty, &host_driver, dev, name);
	return 0;
}

/* Its first file: on its node in the devpts, or without a place. */
static int host_tty_first_file(struct host_tty *h, const struct walk *w, const struct cred *cred, struct file **ret_file)
{
	struct file *f;
	struct path at;
	char name[32];
	int ret;

	if (!h->devpts) {
		ret = file_new_anon(&host_tty_file_ops, "/dev/console", S_IFCHR | 0620, O_RDWR, cred, &h->tty, &f);
		if (ret == 0)
			f->inode->rdev = h->tty.dev;
	} else {
		ret = devpts_host_add(h->devpts, h->index, &h->tty, cred);
		if (ret < 0)
			return ret;
		snprintf(name, sizeof(name), "/dev/pts/%u", h->index);
		ret = vfs_walk(w, name, WALK_FOLLOW, &at);
		if (ret < 0)
			return ret;
		ret = file_new(&at, at.dentry->inode, &host_tty_file_ops, O_RDWR, cred, &f);
		path_put(&at);
		if (ret == 0)
			f->data = &h->tty;
	}
	if (ret < 0)
		return ret;
	atomic_store(&h->file_count, 1);
	*ret_file = f;
	return 0;
}

static int host_tty_new(int host_fd, const struct path *pts, const struct walk *w, const struct cred *cred,
			struct file **ret_file, struct tty **ret_tty)
{
	struct host_tty *h = calloc(1, sizeof(*h));
	int ret;

	if (!h)
		return -ENOMEM;
	ret = host_tty_name(h, pts);
	if (ret < 0) {
		free(h);
		return ret;
	}
	h->watch.fd = host_fd;
	h->watch.ready = host_ready;
	if (ioctl(host_fd, TIOCGWINSZ, &h->tty.ws) < 0)
		memset(&h->tty.ws, 0, sizeof(h->tty.ws));
	ktimer_init(&h->look, CLOCK_MONOTONIC, host_look);
	host_keep_looking(h);
	ret = notifier_add(&h->watch, EPOLLIN | EPOLLOUT);
	if (ret == 0)
		ret = host_tty_first_file(h, w, cred, ret_file);
	if (ret < 0) {
		notifier_remove(&h->watch);
		h->watch.fd = -1; /* stays the caller's */
		if (h->devpts)
			devpts_remove(h->devpts, h->index);
		tty_put(&h->tty);
		return ret;
	}
	*ret_tty = &h->tty;
	return 0;
}

int host_tty_file_new(int host_fd, const struct cred *cred, const struct walk *w, struct file **ret_file,
		      struct tty **ret_tty)
{
	struct path pts;
	int ret = host_raw_mode(host_fd);

	if (ret < 0)
		return ret;
	if (!w || vfs_walk(w, "/dev/pts", WALK_FOLLOW, &pts) < 0)
		return host_tty_new(host_fd, NULL, NULL, cred, ret_file, ret_tty);
	ret = host_tty_new(host_fd, &pts, w, cred, ret_file, ret_tty);
	if (ret == -ENODEV)
		ret = host_tty_new(host_fd, NULL, NULL, cred, ret_file, ret_tty);
	path_put(&pts);
	return ret;
}

/* Opens t once more (its node, /dev/tty). Task thread. */
int host_tty_open(struct tty *t, struct file *f)
{
	f->ops = &host_tty_file_ops;
	f->data = tty_get(t);
	atomic_fetch_add(&host_of(t)->file_count, 1);
	tty_opened(t, f);
	return 0;
}

void host_tty_resized(struct tty *t)
{
	struct winsize ws;
	bool changed;

	if (!t || t->drv != &host_driver || ioctl(host_of(t)->watch.fd, TIOCGWINSZ, &ws) < 0)
		return;
	mutex_lock(&t->mu);
	changed = memcmp(&ws, &t->ws, sizeof(ws)) != 0;
	t->ws = ws;
	mutex_unlock(&t->mu);
	if (changed)
		tty_signal_foreground(t, SIGWINCH);
}

/* /dev/tty: files on the caller's controlling terminal, whichever kind it is. */
int tty_open_current(struct file *f)
{
	struct tty *t = current ? tty_of_task(current) : NULL;
	int ret;

	if (!t)
		return -ENXIO;
	if (t->drv == &pty_driver) {
		f->flags |= O_NOCTTY;
		ret = pty_open_slave(tty_pty(t), f);
		tty_put(t);
		return ret;
	}
	f->flags |= O_NOCTTY;
	ret = host_tty_open(t, f);
	tty_put(t);
	return ret;
}
