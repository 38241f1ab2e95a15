#include "runsc/sandbox/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/syscall.h>

#include "runsc/sandbox/destroy.h"

static NORETURN void janitor_run(struct container *c, int fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct error ignored;
	char byte;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(null_fd, i);
	for (int i = 1; i < 32; i++)
		signal(i, SIG_IGN);
	signal(SIGALRM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	if (byte != 'd') {
		/* the lock came with the fork; the state is read again under it */
		c->locked = false;
		if (container_destroy(c, false, &ignored))
			_exit(EXIT_GENERIC);
	}
	_exit(0);
}

int janitor_start(struct container *c, struct janitor *ret, struct error *err)
{
	int pair[2];
	pid_t pid;

	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	pid = fork();
	if (!pid) {
		close(pair[1]);
		janitor_run(c, pair[0]);
	}
	close(pair[0]);
	if (pid < 0) {
		close(pair[1]);
		return error_errno(err, errno, "cannot fork");
	}
	*ret = (struct janitor){ .pid = pid, .fd = pair[1] };
	return 0;
}

void janitor_dismiss(struct janitor *janitor)
{
	if (!janitor->pid)
		return;
	/* were it gone already, SIGPIPE must not end us */
	signal(SIGPIPE, SIG_IGN);
	write_all(janitor->fd, "d", 1);
	close(janitor->fd);
	wait_child(janitor->pid);
	signal(SIGPIPE, SIG_DFL);
	janitor->pid = 0;
}
