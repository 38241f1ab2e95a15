#include "runsc/console/console.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

int console_open(unsigned int rows, unsigned int columns, int *ret_master, int *ret_slave,
		 struct error *err)
{
	AUTO(fd_close) int master = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);
	AUTO(fd_close) int slave = -1;
	int unlock = 0;

	if (master < 0 || ioctl(master, TIOCSPTLCK, &unlock) < 0)
		return error_errno(err, errno, "cannot open a new terminal (is devpts mounted on /dev/pts?)");
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return error_errno(err, errno, "cannot open the other end of a new terminal");
	if (rows || columns) {
		struct winsize size = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)columns };

		ioctl(master, TIOCSWINSZ, &size);
	}
	*ret_master = TAKE_FD(master);
	*ret_slave = TAKE_FD(slave);
	return 0;
}

int console_send(const char *path, int master, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	AUTO(fd_close) int file = -1;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	static char name[] = "/dev/ptmx";
	struct iovec iov = { .iov_base = name, .iov_len = sizeof(name) - 1 };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr message = { .msg_iov = &iov,
				  .msg_iovlen = 1,
				  .msg_control = &control,
				  .msg_controllen = sizeof(control) };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);

	/* long paths are reached through a descriptor */
	file = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0 || file < 0)
		return error_errno(err, errno, "cannot open the console socket %s", path);
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", file);
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &master, sizeof(master));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    sendmsg(fd, &message, MSG_NOSIGNAL) < 0)
		return error_errno(err, errno, "cannot send the terminal to the console socket %s", path);
	return 0;
}

void console_make_raw(int tty, struct console_raw *raw)
{
	struct termios mode;

	raw->fd = -1;
	if (tcgetattr(tty, &raw->saved) < 0)
		return;
	mode = raw->saved;
	cfmakeraw(&mode);
	if (!tcsetattr(tty, TCSANOW, &mode))
		raw->fd = tty;
}

void console_restore(struct console_raw *raw)
{
	if (raw->fd >= 0)
		tcsetattr(raw->fd, TCSANOW, &raw->saved);
	raw->fd = -1;
}

bool console_size(int tty, unsigned int *ret_rows, unsigned int *ret_columns)
{
	struct winsize size;

	if (ioctl(tty, TIOCGWINSZ, &size) < 0)
		return false;
	*ret_rows = size.ws_row;
	*ret_columns = size.ws_col;
	return true;
}

bool console_copy_size(int from, int to, unsigned int *ret_rows, unsigned int *ret_columns)
{
	struct winsize size;

	if (ioctl(from, TIOCGWINSZ, &size) < 0)
		return false;
	ioctl(to, TIOCSWINSZ, &size);
	*ret_rows = size.ws_row;
	*ret_columns = size.ws_col;
	return true;
}
