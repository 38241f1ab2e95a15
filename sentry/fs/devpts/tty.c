/* The terminal object, and the ioctls that every terminal answers (ioctl_tty(2)). */
#include <asm/termbits.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "sentry/fs/devpts/tty_priv.h"
#include "sentry/state/desc.h"

#define CAP_SYS_ADMIN_NR 21
#define FLAG_EXTPROC 0200000u

STATE_DESC(tty, S_NOSAVE(tty, refs, "recounted"), S_NOSAVE(tty, drv, "by kind"), S_VAL(tty, 1, dev),
	   S_VAL(tty, 2, name), S_NOSAVE(tty, mu, "unheld at a safe point"), S_VAL(tty, 3, tio),
	   S_VAL(tty, 4, ws), S_VAL(tty, 5, buf), S_VAL(tty, 6, line_end), S_VAL(tty, 7, head),
	   S_VAL(tty, 8, canon), S_VAL(tty, 9, tail), S_VAL(tty, 10, column), S_VAL(tty, 11, canon_column),
	   S_VAL(tty, 12, lnext), S_VAL(tty, 13, stopped), S_VAL(tty, 14, stopped_by_ioctl),
	   S_VAL(tty, 15, hung), S_VAL(tty, 16, exclusive), S_NOSAVE(tty, vtime_ns, "the read starts again"),
	   S_NOSAVE(tty, vtimer, "the read starts again"), S_NOSAVE(tty, waitq, "waiters register again"),
	   S_WEAK(tty, 17, session, session));

static void vtime_fire(struct ktimer *kt, uint64_t overruns UNUSED)
{
	waitq_wake(&container_of(kt, struct tty, vtimer)->waitq, POLLIN);
}

void tty_init(struct tty *t, const struct tty_driver *drv, dev_t dev, const char *name)
{
	static const uint8_t init_cc[GUEST_NCCS] = { 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0 };

	refcount_init(&t->refs, 1);
	t->drv = drv;
	t->dev = dev;
	strncpy(t->name, name, sizeof(t->name) - 1);
	mutex_init(&t->mu, LOCK_TTY);
	t->tio = (struct guest_termios){
		.iflag = ICRNL | IXON,
		.oflag = OPOST | ONLCR,
		.cflag = B38400 | CS8 | CREAD,
		.lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
		.ispeed = 38400,
		.ospeed = 38400,
	};
	memcpy(t->tio.cc, init_cc, sizeof(init_cc));
	ktimer_init(&t->vtimer, CLOCK_MONOTONIC, vtime_fire);
	waitq_init(&t->waitq);
}

void tty_fini(struct tty *t)
{
	ktimer_cancel_sync(&t->vtimer);
	waitq_fini(&t->waitq);
	mutex_fini(&t->mu);
}

struct tty *tty_get(struct tty *t)
{
	if (t)
		refcount_get(&t->refs);
	return t;
}

void tty_put(struct tty *t)
{
	if (t && refcount_put(&t->refs))
		t->drv->free(t);
}

dev_t tty_dev(const struct tty *t)
{
	return t->dev;
}

const char *tty_name(const struct tty *t)
{
	return t->name;
}

/* New attributes: flags & 1 TCSETSW (drain), & 2 TCSETSF (flush input). Output needs no draining to anyone. */
static int64_t set_termios(struct tty *t, uint64_t arg, struct umem *um, bool with_speeds, bool flush)
{
	struct guest_termios tio, old;
	int ret = tty_check_background(t, SIGTTOU);

	if (ret < 0)
		return ret;
	memset(&tio, 0, sizeof(tio));
	if (copy_in(um, &tio, UADDR(arg), with_speeds ? sizeof(tio) : GUEST_TERMIOS_SIZE) < 0)
		return -EFAULT;
	mutex_lock(&t->mu);
	if (!with_speeds) {
		tio.ispeed = t->tio.ispeed;
		tio.ospeed = t->tio.ospeed;
	}
	if (flush)
		tty_flush_input(t);
	old = t->tio;
	t->tio = tio;
	t->tio.lflag &= ~FLAG_EXTPROC;
	tty_termios_changed(t, &old);
	mutex_unlock(&t->mu);
	return 0;
}

static int64_t get_termios(struct tty *t, uint64_t arg, struct umem *um, size_t size)
{
	struct guest_termios tio;

	mutex_lock(&t->mu);
	tio = t->tio;
	mutex_unlock(&t->mu);
	return copy_out(um, UADDR(arg), &tio, size);
}

/* struct termio of System V: the low halves of the flags and the first eight characters. */
struct guest_termio {
	uint16_t iflag, oflag, cflag, lflag;
	uint8_t line, cc[8];
};

static int64_t get_termio(struct tty *t, uint64_t arg, struct umem *um)
{
	struct guest_termio out;

	mutex_lock(&t->mu);
	out = (struct guest_termio){ (uint16_t)t->tio.iflag, (uint16_t)t->tio.oflag, (uint16_t)t->tio.cflag,
				     (uint16_t)t->tio.lflag, t->tio.line, { 0 } };
	memcpy(out.cc, t->tio.cc, sizeof(out.cc));
	mutex_unlock(&t->mu);
	return copy_out_struct(um, UADDR(arg), &out);
}

static int64_t set_termio(struct tty *t, uint64_t arg, struct umem *um, bool flush)
{
	struct guest_termios old;
	struct guest_termio in;
	int ret = tty_check_background(t, SIGTTOU);

	if (ret < 0)
		return ret;
	if (copy_in_struct(um, &in, UADDR(arg)) < 0)
		return -EFAULT;
	GUARD(mutex, &t->mu);
	if (flush)
		tty_flush_input(t);
	old = t->tio;
	t->tio.iflag = (t->tio.iflag & ~0xffffu) | in.iflag;
	t->tio.oflag = (t->tio.oflag & ~0xffffu) | in.oflag;
	t->tio.cflag = (t->tio.cflag & ~0xffffu) | in.cflag;
	t->tio.lflag = (t->tio.lflag & ~0xffffu) | in.lflag;
	t->tio.line = in.line;
	memcpy(t->tio.cc, in.cc, sizeof(in.cc));
	tty_termios_changed(t, &old);
	return 0;
}

static int64_t set_winsize(struct tty *t, uint64_t arg, struct umem *um)
{
	struct winsize ws;
	bool changed;

	if (copy_in_struct(um, &ws, UADDR(arg)) < 0)
		return -EFAULT;
	mutex_lock(&t->mu);
	changed = memcmp(&ws, &t->ws, sizeof(ws)) != 0;
	t->ws = ws;
	mutex_unlock(&t->mu);
	if (!changed)
		return 0;
	if (t->drv->resize)
		t->drv->resize(t, &ws);
	tty_signal_foreground(t, SIGWINCH);
	return 0;
}

static int64_t flush(struct tty *t, uint64_t queue)
{
	int ret = tty_check_background(t, SIGTTOU);

	if (ret < 0)
		return ret;
	if (queue > TCIOFLUSH)
		return -EINVAL;
	mutex_lock(&t->mu);
	if (queue != TCOFLUSH)
		tty_flush_input(t);
	if (queue != TCIFLUSH)
		t->drv->flush_output(t);
	mutex_unlock(&t->mu);
	if (queue != TCOFLUSH && t->drv->unthrottle)
		t->drv->unthrottle(t);
	return 0;
}

static int64_t flow(struct tty *t, uint64_t action)
{
	int ret = tty_check_background(t, SIGTTOU);
	uint8_t c;

	if (ret < 0)
		return ret;
	GUARD(mutex, &t->mu);
	switch (action) {
	case TCOOFF:
		tty_stop(t, true);
		return 0;
	case TCOON:
		tty_start(t, true);
		return 0;
	case TCIOFF:
	case TCION:
		c = t->tio.cc[action == TCIOFF ? VSTOP : VSTART];
		if (c && t->drv->room(t))
			t->drv->write(t, &c, 1);
		return 0;
	default:
		return -EINVAL;
	}
}

static int64_t put_int(struct umem *um, uint64_t arg, int32_t value)
{
	return copy_out_struct(um, UADDR(arg), &value);
}

static int64_t input_size(struct tty *t, uint64_t arg, struct umem *um)
{
	uint32_t n;

	mutex_lock(&t->mu);
	n = t->canon - t->tail;
	mutex_unlock(&t->mu);
	return put_int(um, arg, (int32_t)n);
}

static int64_t output_size(struct tty *t, uint64_t arg, struct umem *um)
{
	size_t n;

	mutex_lock(&t->mu);
	n = t->drv->pending(t);
	mutex_unlock(&t->mu);
	return put_int(um, arg, (int32_t)n);
}

static int64_t exclusive(struct tty *t, bool on)
{
	GUARD(mutex, &t->mu);
	t->exclusive = on;
	return 0;
}

int64_t tty_ioctl(struct tty *t, struct file *f, bool master, uint32_t cmd, uint64_t arg, struct umem *um)
{
	int64_t ret = t->drv->ioctl ? t->drv->ioctl(t, master, cmd, arg, um) : -ENOTTY;

	if (ret == -ENOTTY)
		ret = tty_jobctl_ioctl(t, f, master, cmd, arg, um);
	if (ret != -ENOTTY)
		return ret;
	switch (cmd) {
	case TCGETS:
		return get_termios(t, arg, um, GUEST_TERMIOS_SIZE);
	case TCGETS2:
		return get_termios(t, arg, um, sizeof(struct guest_termios));
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return set_termios(t, arg, um, false, cmd == TCSETSF);
	case TCGETA:
		return get_termio(t, arg, um);
	case TCSETA:
	case TCSETAW:
	case TCSETAF:
		return set_termio(t, arg, um, cmd == TCSETAF);
	case TCSETS2:
	case TCSETSW2:
	case TCSETSF2:
		return set_termios(t, arg, um, true, cmd == TCSETSF2);
	case TIOCGWINSZ: {
		struct winsize ws;

		host_tty_resized(t);
		mutex_lock(&t->mu);
		ws = t->ws;
		mutex_unlock(&t->mu);
		return copy_out_struct(um, UADDR(arg), &ws);
	}
	case TIOCSWINSZ:
		return set_winsize(t, arg, um);
	case TCFLSH:
		return flush(t, arg);
	case TCXONC:
		return flow(t, arg);
	case TCSBRK:
	case TCSBRKP:
		return 0;
	case TIOCINQ:
		return input_size(t, arg, um);
	case TIOCOUTQ:
		return output_size(t, arg, um);
	case TIOCEXCL:
		return exclusive(t, true);
	case TIOCNXCL:
		return exclusive(t, false);
	case TIOCGEXCL:
		return put_int(um, arg, t->exclusive);
	case TIOCGETD:
		return put_int(um, arg, 0);
	case TIOCSETD: {
		int32_t line;

		if (copy_in_struct(um, &line, UADDR(arg)) < 0)
			return -EFAULT;
		return line == 0 ? 0 : -EINVAL;
	}
	case TIOCGDEV:
		return put_int(um, arg, (int32_t)(major(t->dev) << 8 | (minor(t->dev) & 0xff)));
	case TIOCSTI:
		return -EIO; /* dev.tty.legacy_tiocsti is off */
	case TIOCCONS:
		return -EPERM;
	case TIOCVHANGUP:
		if (!task_capable(current, CAP_SYS_ADMIN_NR))
			return -EPERM;
		tty_hangup(t);
		return 0;
	default:
		return -ENOTTY;
	}
}
