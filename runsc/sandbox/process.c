/* Host processes by identity: never signals one that only has the same number. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>

#include "runsc/sandbox/container.h"

/* Reads state letter and start time; false when there is no such process. */
static bool read_stat(pid_t pid, char *state, uint64_t *start)
{
	char path[32], *p;
	AUTO(mem_free) char *text = NULL;
	unsigned long long value;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	text = read_file_at(AT_FDCWD, path, 8192, NULL);
	p = text ? strrchr(text, ')') : NULL;
	if (!p || sscanf(p + 1, " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d"
				" %*d %*d %llu", state, &value) != 2)
		return false;
	*start = value;
	return true;
}

struct process_id process_id_of(pid_t pid)
{
	struct process_id id = { .pid = pid };
	char state;

	if (pid <= 0 || !read_stat(pid, &state, &id.start))
		id.pid = 0;
	return id;
}

bool process_alive(struct process_id id)
{
	uint64_t start;
	char state;

	return id.pid > 0 && read_stat(id.pid, &state, &start) && start == id.start && state != 'Z' &&
	       state != 'X';
}

bool process_is_stopped(struct process_id id)
{
	uint64_t start;
	char state;

	return id.pid > 0 && read_stat(id.pid, &state, &start) && start == id.start && (state == 'T' || state == 't');
}

bool process_kill(struct process_id id, int signo)
{
	AUTO(fd_close) int fd = id.pid > 0 ? (int)syscall(SYS_pidfd_open, id.pid, 0) : -1;

	/* the descriptor pins the process before its identity is checked */
	if (fd < 0 || !process_alive(id))
		return false;
	return syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0) == 0;
}

bool process_wait_gone(struct process_id id, int timeout_ms)
{
	AUTO(fd_close) int fd = id.pid > 0 ? (int)syscall(SYS_pidfd_open, id.pid, 0) : -1;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int64_t end = now_ms() + timeout_ms;

	while (fd >= 0 && process_alive(id)) {
		int64_t left = end - now_ms();

		if (left <= 0)
			return false;
		if (poll(&pfd, 1, (int)left) < 0 && errno != EINTR)
			return false;
	}
	return true;
}
