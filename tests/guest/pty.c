/* Pseudo terminals, line discipline, job control. */
#include "tests/lib/guest.h"

#include <sys/ioctl.h>
#include <termios.h>

static int master, slave;

static void open_pty(void)
{
	char path[64];
	int number, unlock = 0;

	master = OK(open("/dev/ptmx", O_RDWR | O_NOCTTY));
	OK(ioctl(master, TIOCGPTN, &number));
	OK(ioctl(master, TIOCSPTLCK, &unlock));
	snprintf(path, sizeof(path), "/dev/pts/%d", number);
	slave = OK(open(path, O_RDWR | O_NOCTTY));
}

/* What the other side has sent, as a string. */
static const char *take(int fd)
{
	static char buf[4096];
	struct pollfd pfd = { fd, POLLIN, 0 };

	if (poll(&pfd, 1, 1000) != 1)
		return "(nothing)";
	ssize_t got = read(fd, buf, sizeof(buf) - 1);
	if (got < 0)
		return "(error)";
	buf[got] = '\0';
	return buf;
}

static void put(int fd, const char *text)
{
	CHECK_EQ(write(fd, text, strlen(text)), strlen(text));
}

static void set_flags(tcflag_t local, tcflag_t input, tcflag_t output)
{
	struct termios t;

	OK(tcgetattr(slave, &t));
	t.c_lflag = local;
	t.c_iflag = input;
	t.c_oflag = output;
	OK(tcsetattr(slave, TCSANOW, &t));
}

TEST(names)
{
	struct stat st;
	char path[64];
	int number;

	open_pty();
	CHECK(isatty(slave));
	CHECK(isatty(master));
	OK(ioctl(master, TIOCGPTN, &number));
	CHECK_EQ(ttyname_r(slave, path, sizeof(path)), 0);
	CHECK(strncmp(path, "/dev/pts/", 9) == 0);
	CHECK_EQ(atoi(path + 9), number);
	OK(fstat(slave, &st));
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(st.st_rdev >> 8, 136);
	int null = OK(open("/dev/null", O_RDWR));
	CHECK(!isatty(null));
	ERR(ioctl(null, TCGETS, path), ENOTTY);
}

TEST(canonical_lines_and_echo)
{
	open_pty();
	put(master, "hel");
	CHECK_STR(take(master), "hel");
	struct pollfd pfd = { slave, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 0);
	put(master, "lo\n");
	CHECK_STR(take(slave), "hello\n");
	CHECK_STR(take(master), "lo\r\n");
	put(slave, "out\n");
	CHECK_STR(take(master), "out\r\n");
}

TEST(canonical_editing)
{
	open_pty();
	set_flags(ICANON, 0, 0);
	put(master, "abx\177c\n");
	CHECK_STR(take(slave), "abc\n");
	put(master, "garbage\025line\n");
	CHECK_STR(take(slave), "line\n");
	put(master, "one two\027three\n");
	/* werase needs IEXTEN */
	set_flags(ICANON | IEXTEN, 0, 0);
	take(slave);
	put(master, "one two\027three\n");
	CHECK_STR(take(slave), "one three\n");
	put(master, "a\026\177b\n");
	CHECK_STR(take(slave), "a\177b\n");
}

TEST(canonical_eof_and_partial_reads)
{
	char buf[8];

	open_pty();
	set_flags(ICANON, 0, 0);
	put(master, "abcdef\n");
	CHECK_EQ(read(slave, buf, 3), 3);
	CHECK_MEM(buf, "abc", 3);
	CHECK_STR(take(slave), "def\n");
	put(master, "x\004");
	CHECK_EQ(read(slave, buf, 8), 1);
	put(master, "\004");
	CHECK_EQ(read(slave, buf, 8), 0);
}

TEST(raw_mode_and_vmin)
{
	struct termios t;
	char buf[16];

	open_pty();
	OK(tcgetattr(slave, &t));
	cfmakeraw(&t);
	OK(tcsetattr(slave, TCSAFLUSH, &t));
	put(master, "a\r\003\004");
	CHECK_EQ(read(slave, buf, 16), 4);
	CHECK_MEM(buf, "a\r\003\004", 4);
	put(slave, "x\n");
	CHECK_STR(take(master), "x\n");
	t.c_cc[VMIN] = 0;
	t.c_cc[VTIME] = 0;
	OK(tcsetattr(slave, TCSANOW, &t));
	CHECK_EQ(read(slave, buf, 16), 0);
	t.c_cc[VTIME] = 1;
	OK(tcsetattr(slave, TCSANOW, &t));
	long long start = now_ms();
	CHECK_EQ(read(slave, buf, 16), 0);
	CHECK(now_ms() - start >= 90);
}

TEST(input_translation)
{
	open_pty();
	set_flags(ICANON, ICRNL, 0);
	put(master, "cr\r");
	CHECK_STR(take(slave), "cr\n");
	set_flags(ICANON, INLCR, OPOST | OCRNL);
	put(slave, "a\rb");
	CHECK_STR(take(master), "a\nb");
}

TEST(window_size)
{
	struct winsize ws = { 40, 132, 0, 0 }, got;

	open_pty();
	OK(ioctl(slave, TIOCGWINSZ, &got));
	CHECK_EQ(got.ws_row, 0);
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		on_signal(SIGWINCH, catch_signal, 0);
		while (caught_count == 0)
			msleep(5);
		OK(ioctl(slave, TIOCGWINSZ, &got));
		CHECK_EQ(got.ws_col, 132);
	}
	msleep(50);
	OK(ioctl(master, TIOCSWINSZ, &ws));
	WAIT_EXIT(pid, 0);
}

TEST(hangup)
{
	char byte;

	open_pty();
	put(slave, "last");
	close(slave);
	CHECK_STR(take(master), "last");
	ERR(read(master, &byte, 1), EIO);
	struct pollfd pfd = { master, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 0), 1);
	CHECK(pfd.revents & POLLHUP);
	open_pty();
	close(master);
	CHECK_EQ(read(slave, &byte, 1), 0);
	ERR(write(slave, "x", 1), EIO);
}

TEST(interrupt_and_quit_characters)
{
	open_pty();
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		on_signal(SIGINT, catch_signal, 0);
		put(slave, "ready");
		while (caught_count == 0)
			msleep(5);
		CHECK_EQ(caught_signo, SIGINT);
		signal(SIGQUIT, SIG_DFL);
		for (;;)
			pause();
	}
	CHECK_STR(take(master), "ready");
	put(master, "typed\003");
	msleep(50);
	put(master, "\034");
	int status = WAIT_STATUS(pid);
	CHECK_EQ(WTERMSIG(status), SIGQUIT);
}

TEST(controlling_terminal)
{
	open_pty();
	CHILD(pid)
	{
		pid_t group, sid;
		OK(setsid());
		ERR(open("/dev/tty", O_RDWR), ENXIO);
		ERR(tcgetpgrp(slave), ENOTTY);
		OK(ioctl(slave, TIOCSCTTY, 0));
		int tty = OK(open("/dev/tty", O_RDWR));
		CHECK_EQ(tcgetpgrp(tty), getpid());
		OK(ioctl(tty, TIOCGSID, &sid));
		CHECK_EQ(sid, getpid());
		OK(ioctl(master, TIOCGPGRP, &group));
		CHECK_EQ(group, getpid());
		ERR(tcsetpgrp(tty, 999999), ESRCH);
		signal(SIGHUP, SIG_IGN);
		OK(ioctl(tty, TIOCNOTTY));
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	}
	WAIT_EXIT(pid, 0);
}

TEST(open_acquires_terminal)
{
	char path[64];

	open_pty();
	CHECK_EQ(ttyname_r(slave, path, sizeof(path)), 0);
	CHILD(pid)
	{
		OK(setsid());
		int fd = OK(open(path, O_RDWR));
		CHECK_EQ(tcgetpgrp(fd), getpid());
	}
	WAIT_EXIT(pid, 0);
}

TEST(background_read_stops)
{
	int status;

	open_pty();
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		CHILD(background)
		{
			setpgid(0, 0);
			char buf[8];
			CHECK_EQ(read(slave, buf, 8), 3);
		}
		setpgid(background, background);
		CHECK_EQ(waitpid(background, &status, WUNTRACED), background);
		CHECK_EQ(WSTOPSIG(status), SIGTTIN);
		OK(tcsetpgrp(slave, background));
		OK(kill(-background, SIGCONT));
		put(master, "go\n");
		CHECK_EQ(waitpid(background, &status, 0), background);
		CHECK_EQ(status, 0);
	}
	WAIT_EXIT(pid, 0);
}

TEST(background_write_and_setattr_stop)
{
	int status;

	open_pty();
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		CHILD(background)
		{
			struct termios t;
			setpgid(0, 0);
			put(slave, "allowed");
			OK(tcgetattr(slave, &t));
			tcsetattr(slave, TCSANOW, &t);
			_exit(1);
		}
		CHECK_EQ(waitpid(background, &status, WUNTRACED), background);
		CHECK_EQ(WSTOPSIG(status), SIGTTOU);
		kill(background, SIGKILL);
		waitpid(background, NULL, 0);
		CHILD(second)
		{
			struct termios t;
			OK(tcgetattr(slave, &t));
			t.c_lflag |= TOSTOP;
			OK(tcsetattr(slave, TCSANOW, &t));
			setpgid(0, 0);
			write(slave, "x", 1);
			_exit(1);
		}
		CHECK_EQ(waitpid(second, &status, WUNTRACED), second);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTTOU);
		kill(second, SIGKILL);
	}
	WAIT_EXIT(pid, 0);
}

TEST(orphaned_reader_gets_eio)
{
	open_pty();
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		char byte;
		signal(SIGTTIN, SIG_IGN);
		CHILD(background)
		{
			setpgid(0, 0);
			ERR(read(slave, &byte, 1), EIO);
		}
		WAIT_EXIT(background, 0);
	}
	WAIT_EXIT(pid, 0);
}

TEST(leader_exit_hangs_up)
{
	int p[2];
	char byte;

	open_pty();
	OK(pipe(p));
	CHILD(pid)
	{
		OK(setsid());
		OK(ioctl(slave, TIOCSCTTY, 0));
		CHILD(member)
		{
			on_signal(SIGHUP, catch_signal, 0);
			write(p[1], "r", 1);
			while (caught_count == 0)
				msleep(5);
			write(p[1], caught_signo == SIGHUP ? "h" : "n", 1);
		}
		CHECK_EQ(read(p[0], &byte, 1), 1);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(read(p[0], &byte, 1), 1);
	CHECK_EQ(byte, 'h');
}

TEST(queue_sizes_and_flush)
{
	int queued;

	open_pty();
	set_flags(ICANON, 0, 0);
	put(master, "abc\n");
	struct pollfd pfd = { slave, POLLIN, 0 };
	CHECK_EQ(poll(&pfd, 1, 1000), 1);
	OK(ioctl(slave, FIONREAD, &queued));
	CHECK_EQ(queued, 4);
	OK(tcflush(slave, TCIFLUSH));
	CHECK_EQ(poll(&pfd, 1, 0), 0);
}
