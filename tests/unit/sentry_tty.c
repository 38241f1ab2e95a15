/* The line discipline over a driver that keeps what is written: editing, echo, lines, raw mode, flow. */
#include <asm/termbits.h>
#include <poll.h>

#include "sentry/fs/devpts/tty_priv.h"
#include "tests/lib/test.h"

static char out[4096];
static size_t out_size, out_room = sizeof(out);
static struct tty t;
static struct file file;

static size_t drv_write(struct tty *tty UNUSED, const uint8_t *data, size_t size)
{
	memcpy(out + out_size, data, size);
	out_size += size;
	return size;
}

static size_t drv_room(struct tty *tty UNUSED)
{
	return out_room - out_size;
}

static size_t drv_pending(struct tty *tty UNUSED)
{
	return 0;
}

static void drv_flush(struct tty *tty UNUSED)
{
	out_size = 0;
}

static const struct tty_driver drv = {
	.name = "test", .write = drv_write, .room = drv_room, .pending = drv_pending, .flush_output = drv_flush
};

static void start(void)
{
	mutex_init(&taskset_mu, LOCK_TASKSET);
	tty_init(&t, &drv, 0, "test");
}

static void type(const char *text)
{
	mutex_lock(&t.mu);
	tty_receive(&t, (const uint8_t *)text, strlen(text));
	mutex_unlock(&t.mu);
}

static int64_t read_some(char *buf, size_t size)
{
	struct uio u;

	uio_init_kernel(&u, buf, size);
	return tty_read(&t, &file, &u);
}

/* What was echoed so far; forgets it. */
static const char *echoed(void)
{
	out[out_size] = '\0';
	out_size = 0;
	return out;
}

TEST(lines)
{
	char buf[64];

	start();
	type("ab");
	CHECK_EQ(read_some(buf, sizeof(buf)), -EAGAIN);
	CHECK_EQ(tty_poll(&t) & POLLIN, 0);
	type("c\nde\nf");
	CHECK_STR(echoed(), "abc\r\nde\r\nf");
	CHECK_EQ(tty_poll(&t) & POLLIN, POLLIN);
	CHECK_EQ(read_some(buf, 2), 2);
	CHECK_MEM(buf, "ab", 2);
	CHECK_EQ(read_some(buf, sizeof(buf)), 2);
	CHECK_MEM(buf, "c\n", 2);
	CHECK_EQ(read_some(buf, sizeof(buf)), 3);
	CHECK_EQ(read_some(buf, sizeof(buf)), -EAGAIN);
}

TEST(editing)
{
	char buf[64];

	start();
	type("abx\177c\r");
	CHECK_STR(echoed(), "abx\b \bc\r\n");
	CHECK_EQ(read_some(buf, sizeof(buf)), 4);
	CHECK_MEM(buf, "abc\n", 4);
	type("one two\027\n"); /* ^W */
	CHECK_EQ(read_some(buf, sizeof(buf)), 5);
	CHECK_MEM(buf, "one \n", 5);
	type("gone\025kept\n"); /* ^U */
	CHECK_EQ(read_some(buf, sizeof(buf)), 5);
	CHECK_MEM(buf, "kept\n", 5);
	type("\026\003\n"); /* ^V ^C: taken literally */
	CHECK_EQ(read_some(buf, sizeof(buf)), 2);
	CHECK_EQ(buf[0], 3);
	type("\177\n"); /* nothing to erase */
	CHECK_EQ(read_some(buf, sizeof(buf)), 1);
}

TEST(end_of_file)
{
	char buf[64];

	start();
	type("\004");
	CHECK_EQ(read_some(buf, sizeof(buf)), 0);
	type("part\004");
	CHECK_EQ(read_some(buf, sizeof(buf)), 4);
	CHECK_EQ(read_some(buf, sizeof(buf)), -EAGAIN);
}

TEST(raw)
{
	struct guest_termios old;
	char buf[64];

	start();
	type("left");
	old = t.tio;
	t.tio.lflag &= ~(uint32_t)(ICANON | ECHO | ISIG);
	t.tio.cc[VMIN] = 3;
	mutex_lock(&t.mu);
	tty_termios_changed(&t, &old);
	mutex_unlock(&t.mu);
	CHECK_EQ(read_some(buf, sizeof(buf)), 4);
	echoed();
	type("ab");
	CHECK_EQ(read_some(buf, sizeof(buf)), -EAGAIN);
	CHECK_EQ(read_some(buf, 2), 2);
	type("\003cd");
	CHECK_EQ(read_some(buf, sizeof(buf)), 3);
	CHECK_EQ(buf[0], 3);
	t.tio.cc[VMIN] = 0;
	CHECK_EQ(read_some(buf, sizeof(buf)), 0);
	CHECK_STR(echoed(), "");
}

TEST(output_processing)
{
	struct uio u;
	char text[] = "a\tb\n";

	start();
	uio_init_kernel(&u, text, 4);
	CHECK_EQ(tty_write(&t, &file, &u), 4);
	CHECK_STR(echoed(), "a\tb\r\n");
	t.tio.oflag |= XTABS;
	uio_init_kernel(&u, text, 4);
	CHECK_EQ(tty_write(&t, &file, &u), 4);
	CHECK_STR(echoed(), "a       b\r\n");
	t.tio.oflag = 0;
	uio_init_kernel(&u, text, 4);
	CHECK_EQ(tty_write(&t, &file, &u), 4);
	CHECK_STR(echoed(), "a\tb\n");
}

TEST(flow_and_room)
{
	struct uio u;
	char text[] = "xyz\n";

	start();
	type("\023"); /* ^S */
	uio_init_kernel(&u, text, 4);
	CHECK_EQ(tty_write(&t, &file, &u), -EAGAIN);
	type("\021");
	out_room = 4; /* the newline becomes two bytes */
	CHECK_EQ(tty_write(&t, &file, &u), 3);
	CHECK_EQ(u.resid, 1);
	CHECK_EQ(tty_write(&t, &file, &u), -EAGAIN);
	echoed();
	CHECK_EQ(tty_write(&t, &file, &u), 1);
}

TEST(long_line)
{
	char buf[TTY_BUF + 1];

	start();
	t.tio.lflag &= ~(uint32_t)ECHO;
	t.tio.iflag &= ~(uint32_t)IMAXBEL;
	for (unsigned i = 0; i < TTY_BUF + 100; i++)
		type("x");
	CHECK_EQ(tty_input_room(&t), TTY_BUF);
	type("\n");
	CHECK_EQ(read_some(buf, sizeof(buf)), TTY_BUF);
	CHECK_EQ(buf[TTY_BUF - 1], '\n');
}
