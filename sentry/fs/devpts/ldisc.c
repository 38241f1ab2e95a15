/* The line discipline N_TTY (termios(3)): editing, echo, signals from characters, flow control, output. */
#include <asm/termbits.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/devpts/tty_priv.h"

#define EOF_BYTE 0	 /* stored for VEOF: ends a line, is not delivered */
#define VTIME_UNIT 100000000ll
#define TAB_WIDTH 8
#define CHUNK 512u

static bool l_flag(const struct tty *t, uint32_t flag)
{
	return t->tio.lflag & flag;
}

static bool is_cc(const struct tty *t, int index, uint8_t c)
{
	return t->tio.cc[index] != 0 && t->tio.cc[index] == c;
}

static bool is_continuation(const struct tty *t, uint8_t c)
{
	return (t->tio.iflag & IUTF8) && (c & 0xc0) == 0x80;
}

static void mark_set(struct tty *t, uint32_t at, bool on)
{
	uint8_t bit = (uint8_t)(1u << (at % 8)), *p = &t->line_end[at % TTY_BUF / 8];

	*p = on ? *p | bit : *p & (uint8_t)~bit;
}

static bool mark_get(const struct tty *t, uint32_t at)
{
	return t->line_end[at % TTY_BUF / 8] & (1u << (at % 8));
}

static uint8_t byte_at(const struct tty *t, uint32_t at)
{
	return t->buf[at % TTY_BUF];
}

/* One output byte with OPOST; false when the driver has no room for what it becomes. */
static bool put_processed(struct tty *t, uint8_t c)
{
	uint8_t out[TAB_WIDTH];
	size_t n = 1;

	out[0] = c;
	switch (c) {
	case '\n':
		if (t->tio.oflag & ONLRET)
			t->column = 0;
		if (t->tio.oflag & ONLCR) {
			out[0] = '\r';
			out[1] = '\n';
			n = 2;
		}
		break;
	case '\r':
		if ((t->tio.oflag & ONOCR) && t->column == 0)
			return true;
		if (t->tio.oflag & OCRNL)
			out[0] = '\n';
		break;
	case '\t':
		if ((t->tio.oflag & TABDLY) == XTABS) {
			n = TAB_WIDTH - t->column % TAB_WIDTH;
			memset(out, ' ', n);
		}
		break;
	default:
		if ((t->tio.oflag & OLCUC) && c >= 'a' && c <= 'z')
			out[0] = (uint8_t)(c - 'a' + 'A');
		break;
	}
	if (t->drv->room(t) < n)
		return false;
	t->drv->write(t, out, n);
	if (c == '\r' || (c == '\n' && (t->tio.oflag & ONLCR)))
		t->column = 0;
	else if (c == '\t')
		t->column += TAB_WIDTH - t->column % TAB_WIDTH;
	else if (c == '\b')
		t->column -= t->column > 0;
	else if (c >= ' ' && !is_continuation(t, c))
		t->column++;
	return true;
}

size_t tty_output(struct tty *t, const uint8_t *data, size_t size)
{
	size_t done = 0;

	mutex_assert_held(&t->mu);
	if (t->stopped)
		return 0;
	if (!(t->tio.oflag & OPOST))
		return t->drv->write(t, data, MIN(size, t->drv->room(t)));
	while (done < size && put_processed(t, data[done]))
		done++;
	return done;
}

/* Echo goes through output processing; without room it is lost, as on an overrun line. */
static void echo_raw(struct tty *t, uint8_t c)
{
	if (!(t->tio.oflag & OPOST)) {
		if (t->drv->room(t))
			t->drv->write(t, &c, 1);
		return;
	}
	(void)put_processed(t, c);
}

static bool echoes_as_caret(const struct tty *t, uint8_t c)
{
	return l_flag(t, ECHOCTL) && (c < ' ' || c == 0x7f) && c != '\t';
}

static void echo_char(struct tty *t, uint8_t c)
{
	if (echoes_as_caret(t, c)) {
		echo_raw(t, '^');
		echo_raw(t, c ^ 0x40);
	} else {
		echo_raw(t, c);
	}
}

static void erase_columns(struct tty *t, uint32_t n)
{
	while (n-- > 0) {
		echo_raw(t, '\b');
		echo_raw(t, ' ');
		echo_raw(t, '\b');
	}
}

/* Column of the cursor before the character at `end`, from the start of the line being edited. */
static uint32_t column_before(const struct tty *t, uint32_t end)
{
	uint32_t col = t->canon_column;

	for (uint32_t at = t->canon; at != end; at++) {
		uint8_t c = byte_at(t, at);

		if (c == '\t')
			col += TAB_WIDTH - col % TAB_WIDTH;
		else if (echoes_as_caret(t, c))
			col += 2;
		else if (!is_continuation(t, c) && c >= ' ' && c != 0x7f)
			col++;
	}
	return col;
}

/* Takes the last character off the line being edited. */
static void erase_one(struct tty *t, bool echo)
{
	uint8_t c;
	uint32_t width;

	do
		c = byte_at(t, --t->head);
	while (is_continuation(t, c) && t->head != t->canon);
	if (!echo || !l_flag(t, ECHO))
		return;
	if (!l_flag(t, ECHOE)) {
		echo_char(t, t->tio.cc[VERASE]);
		return;
	}
	if (c == '\t') {
		uint32_t col = column_before(t, t->head);

		width = TAB_WIDTH - col % TAB_WIDTH;
		while (width-- > 0)
			echo_raw(t, '\b');
		return;
	}
	width = echoes_as_caret(t, c) ? 2 : (c >= ' ' && c != 0x7f) || l_flag(t, ECHOCTL);
	erase_columns(t, width);
}

static bool is_word_byte(uint8_t c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c >= 0x80;
}

static void erase_word(struct tty *t)
{
	bool seen = false;

	while (t->head != t->canon) {
		bool word = is_word_byte(byte_at(t, t->head - 1));

		if (seen && !word)
			break;
		seen |= word;
		erase_one(t, true);
	}
}

static void erase_line(struct tty *t)
{
	if (l_flag(t, ECHO) && l_flag(t, ECHOK) && l_flag(t, ECHOKE) && l_flag(t, ECHOE)) {
		while (t->head != t->canon)
			erase_one(t, true);
		return;
	}
	t->head = t->canon;
	if (l_flag(t, ECHO)) {
		echo_char(t, t->tio.cc[VKILL]);
		if (l_flag(t, ECHOK))
			echo_raw(t, '\n');
	}
}

static void reprint(struct tty *t)
{
	if (!l_flag(t, ECHO))
		return;
	echo_char(t, t->tio.cc[VREPRINT]);
	echo_raw(t, '\n');
	for (uint32_t at = t->canon; at != t->head; at++)
		echo_char(t, byte_at(t, at));
}

static void packet(struct tty *t, uint8_t status)
{
	if (t->drv->packet)
		t->drv->packet(t, status);
}

void tty_start(struct tty *t, bool by_ioctl)
{
	if (!t->stopped || (t->stopped_by_ioctl && !by_ioctl))
		return;
	t->stopped = t->stopped_by_ioctl = false;
	packet(t, TIOCPKT_START);
	waitq_wake(&t->waitq, POLLOUT);
}

void tty_stop(struct tty *t, bool by_ioctl)
{
	t->stopped_by_ioctl |= by_ioctl;
	if (t->stopped)
		return;
	t->stopped = true;
	packet(t, TIOCPKT_STOP);
}

void tty_flush_input(struct tty *t)
{
	t->head = t->canon = t->tail = 0;
	memset(t->line_end, 0, sizeof(t->line_end));
	t->lnext = false;
	packet(t, TIOCPKT_FLUSHREAD);
}

size_t tty_input_room(const struct tty *t)
{
	uint32_t used = t->head - t->tail;

	/* A line being edited can always go on: characters beyond the end are dropped, its newline is not. */
	if (l_flag(t, ICANON) && t->canon == t->tail)
		return TTY_BUF;
	return used >= TTY_BUF - 1 ? 0 : TTY_BUF - 1 - used;
}

/* Stores c; false when there is no room for it (one place is kept for the end of a line). */
static bool store(struct tty *t, uint8_t c, bool ends_line)
{
	if (t->head - t->tail >= TTY_BUF - (ends_line ? 0 : 1)) {
		if (t->tio.iflag & IMAXBEL)
			echo_raw(t, '\a');
		return false;
	}
	t->buf[t->head % TTY_BUF] = c;
	mark_set(t, t->head, ends_line);
	t->head++;
	return true;
}

static void end_line(struct tty *t, uint8_t c)
{
	if (!store(t, c, true))
		return;
	t->canon = t->head;
	t->canon_column = t->column;
	waitq_wake(&t->waitq, POLLIN);
}

/* ISIG characters. True when c was one. */
static bool signal_char(struct tty *t, uint8_t c)
{
	int signo = is_cc(t, VINTR, c) ? SIGINT : is_cc(t, VQUIT, c) ? SIGQUIT : is_cc(t, VSUSP, c) ? SIGTSTP : 0;

	if (!signo)
		return false;
	if (!l_flag(t, NOFLSH)) {
		tty_flush_input(t);
		t->drv->flush_output(t);
	}
	if (t->tio.iflag & IXON)
		tty_start(t, false);
	if (l_flag(t, ECHO))
		echo_char(t, c);
	tty_signal_foreground(t, signo);
	return true;
}

/* Editing in canonical mode. True when c is done with. */
static bool edit_char(struct tty *t, uint8_t c)
{
	if (is_cc(t, VERASE, c)) {
		if (t->head != t->canon)
			erase_one(t, true);
		return true;
	}
	if (is_cc(t, VKILL, c)) {
		erase_line(t);
		return true;
	}
	if (l_flag(t, IEXTEN)) {
		if (is_cc(t, VWERASE, c)) {
			erase_word(t);
			return true;
		}
		if (is_cc(t, VLNEXT, c)) {
			t->lnext = true;
			if (l_flag(t, ECHO) && l_flag(t, ECHOCTL)) {
				echo_raw(t, '^');
				echo_raw(t, '\b');
			}
			return true;
		}
		if (is_cc(t, VREPRINT, c) && l_flag(t, ECHO)) {
			reprint(t);
			return true;
		}
	}
	if (c == '\n') {
		if (l_flag(t, ECHO) || l_flag(t, ECHONL))
			echo_raw(t, '\n');
		end_line(t, c);
		return true;
	}
	if (is_cc(t, VEOF, c)) {
		end_line(t, EOF_BYTE);
		return true;
	}
	if (is_cc(t, VEOL, c) || (is_cc(t, VEOL2, c) && l_flag(t, IEXTEN))) {
		if (l_flag(t, ECHO))
			echo_char(t, c);
		end_line(t, c);
		return true;
	}
	return false;
}

static void receive_plain(struct tty *t, uint8_t c)
{
	if (!store(t, c, false))
		return;
	if (l_flag(t, ECHO)) {
		if (c == '\n')
			echo_raw(t, '\n');
		else
			echo_char(t, c);
	}
	if (!l_flag(t, ICANON)) {
		t->canon = t->head;
		waitq_wake(&t->waitq, POLLIN);
	}
}

static void receive_one(struct tty *t, uint8_t c)
{
	if (t->tio.iflag & ISTRIP)
		c &= 0x7f;
	if (t->lnext) {
		t->lnext = false;
		receive_plain(t, c);
		return;
	}
	if (t->tio.iflag & IXON) {
		if (is_cc(t, VSTART, c)) {
			tty_start(t, false);
			return;
		}
		if (is_cc(t, VSTOP, c)) {
			tty_stop(t, false);
			return;
		}
	}
	if (l_flag(t, ISIG) && signal_char(t, c))
		return;
	if ((t->tio.iflag & (IXON | IXANY)) == (IXON | IXANY))
		tty_start(t, false);
	if (c == '\r') {
		if (t->tio.iflag & IGNCR)
			return;
		if (t->tio.iflag & ICRNL)
			c = '\n';
	} else if (c == '\n' && (t->tio.iflag & INLCR)) {
		c = '\r';
	}
	if (l_flag(t, ICANON) && edit_char(t, c))
		return;
	if (c == 0xff && (t->tio.iflag & PARMRK) && !store(t, c, false))
		return;
	receive_plain(t, c);
}

void tty_receive(struct tty *t, const uint8_t *data, size_t size)
{
	mutex_assert_held(&t->mu);
	/* Echo of a new line's first character counts columns from where output stands. */
	for (size_t i = 0; i < size; i++) {
		if (t->head == t->canon)
			t->canon_column = t->column;
		receive_one(t, data[i]);
	}
}

void tty_termios_changed(struct tty *t, const struct guest_termios *old)
{
	bool canon = l_flag(t, ICANON), ixon = t->tio.iflag & IXON;

	if (canon != !!(old->lflag & ICANON)) {
		/* What is stored becomes one run that can be read; an unfinished line is not edited any more. */
		if (t->head != t->tail) {
			memset(t->line_end, 0, sizeof(t->line_end));
			if (canon)
				mark_set(t, t->head - 1, true);
		}
		t->canon = t->head;
		t->lnext = false;
		waitq_wake(&t->waitq, POLLIN);
	}
	if (!ixon && (old->iflag & IXON))
		tty_start(t, false);
	if (ixon != !!(old->iflag & IXON))
		packet(t, ixon ? TIOCPKT_DOSTOP : TIOCPKT_NOSTOP);
}

bool tty_readable(const struct tty *t)
{
	uint32_t have = t->canon - t->tail;
	uint32_t min = l_flag(t, ICANON) || t->tio.cc[VTIME] || !t->tio.cc[VMIN] ? 1 : t->tio.cc[VMIN];

	return have >= min;
}

/* Moves stored input to out, at most size bytes, up to the end of a line. *ret_end: a line's end was met. */
static size_t take_input(struct tty *t, uint8_t *out, size_t size, bool *ret_end)
{
	bool canon = l_flag(t, ICANON);
	size_t n = 0;

	*ret_end = false;
	while (t->tail != t->canon && !*ret_end) {
		uint8_t c = byte_at(t, t->tail);
		bool end = canon && mark_get(t, t->tail);

		if (end && c == EOF_BYTE) {
			t->tail++;
			*ret_end = true;
			break;
		}
		if (n == size)
			break;
		t->tail++;
		out[n++] = c;
		*ret_end = end;
	}
	return n;
}

/* Without enough input: 0 for "nothing, return so", -EAGAIN to wait. VMIN and VTIME of raw mode; t->mu held. */
static int raw_wait(struct tty *t, const struct file *f, uint64_t want)
{
	uint8_t min = t->tio.cc[VMIN], time = t->tio.cc[VTIME];
	uint32_t have = t->canon - t->tail;
	int64_t now;

	if (have >= want || (min && have >= min) || (!min && have))
		return 0;
	if (!min && !time)
		return 0;
	if (!time || (min && !have) || (f->flags & O_NONBLOCK)) {
		t->vtime_ns = 0;
		return have && (f->flags & O_NONBLOCK) ? 0 : -EAGAIN;
	}
	now = clock_mono();
	/* A deadline long gone belongs to a read that a signal ended. */
	if (t->vtime_ns && now >= t->vtime_ns && now < t->vtime_ns + NSEC_PER_SEC) {
		t->vtime_ns = 0;
		return 0;
	}
	if (!t->vtime_ns || now >= t->vtime_ns) {
		t->vtime_ns = now + time * VTIME_UNIT;
		ktimer_arm(&t->vtimer, t->vtime_ns, 0);
	}
	return -EAGAIN;
}

int64_t tty_read(struct tty *t, struct file *f, struct uio *u)
{
	uint8_t chunk[CHUNK];
	int64_t done = 0, n;
	bool end = false, made_room;
	int ret = tty_check_background(t, SIGTTIN);

	if (ret < 0)
		return ret;
	while (u->resid > 0 && !end) {
		mutex_lock(&t->mu);
		if (t->hung) {
			mutex_unlock(&t->mu);
			return done;
		}
		if (done == 0) {
			ret = l_flag(t, ICANON) ? (t->canon == t->tail ? -EAGAIN : 0) : raw_wait(t, f, u->resid);
			if (ret < 0) {
				mutex_unlock(&t->mu);
				return ret;
			}
		}
		n = (int64_t)take_input(t, chunk, MIN(u->resid, sizeof(chunk)), &end);
		made_room = n > 0;
		if (l_flag(t, ICANON) == 0)
			t->vtime_ns = 0;
		mutex_unlock(&t->mu);
		if (made_room && t->drv->unthrottle)
			t->drv->unthrottle(t);
		if (n == 0)
			break;
		if (uio_write(u, chunk, (size_t)n) != n)
			return done ? done : -EFAULT;
		done += n;
		if (n < (int64_t)sizeof(chunk))
			break;
	}
	return done;
}

int64_t tty_write(struct tty *t, struct file *f UNUSED, struct uio *u)
{
	uint8_t chunk[CHUNK];
	int64_t done = 0;

	if (l_flag(t, TOSTOP)) {
		int ret = tty_check_background(t, SIGTTOU);

		if (ret < 0)
			return ret;
	}
	while (u->resid > 0) {
		struct uio at_start = *u;
		int64_t n = uio_read(u, chunk, MIN(u->resid, sizeof(chunk)));
		size_t taken;

		if (n <= 0)
			return done ? done : n;
		mutex_lock(&t->mu);
		if (t->hung) {
			mutex_unlock(&t->mu);
			return -EIO;
		}
		taken = tty_output(t, chunk, (size_t)n);
		mutex_unlock(&t->mu);
		done += (int64_t)taken;
		if (taken < (size_t)n) {
			*u = at_start;
			uio_advance(u, taken);
			return done ? done : -EAGAIN;
		}
	}
	return done;
}

uint32_t tty_poll(struct tty *t)
{
	GUARD(mutex, &t->mu);

	if (t->hung)
		return POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDNORM | POLLWRNORM;
	return (tty_readable(t) ? POLLIN | POLLRDNORM : 0) |
	       (!t->stopped && t->drv->room(t) ? POLLOUT | POLLWRNORM : 0);
}
