#include "runsc/sandbox/janitor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "runsc/sandbox/destroy.h"

static bool same_process(struct process_id a, struct process_id b)
{
	return a.pid == b.pid && a.start == b.start;
}

/* What the dead creator left. A directory without state yet can only be of a create that was killed. */
static int clean_up(const struct config *config, const char *id, struct process_id creator)
{
	AUTO(container_free) struct container *c = NULL;
	struct error err;

	if (container_load(config, id, false, &c, &err) || container_lock(c, &err))
		return 0;
	if (c->creator.pid && !same_process(c->creator, creator))
		return 0;
	return container_destroy(c, false, &err);
}

static NORETURN void janitor_run(const struct config *config, const char *id, struct process_id creator,
				 int fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	char byte = 0;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(null_fd, i);
	for (int i = 1; i < 32; i++)
		signal(i, SIG_IGN);
	signal(SIGALRM, SIG_DFL);
	signal(SIGCHLD, SIG_DFL);
	while (read(fd, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(byte != 'd' && clean_up(config, id, creator) ? EXIT_GENERIC : 0);
}

int janitor_start(const struct config *config, const char *id, struct janitor *ret, struct error *err)
{
	struct process_id creator = process_id_of(getpid());
	int pair[2];
	pid_t pid;

	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe");
	pid = fork();
	if (!pid) {
		close(pair[1]);
		janitor_run(config, id, creator, pair[0]);
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
