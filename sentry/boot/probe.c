/* --probe-platforms: what each platform is worth on this host, for `runsc help platforms`. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sentry/boot/boot.h"

enum { DEADLINE_MS = 3000 };

/* In a process of its own: a platform is opened once in a life, and may hang or die on a strange host. */
static void probe_child(size_t index, int memory_fd, int fd)
{
	struct platform_report r;
	struct platform *p;

	platform_try(index, memory_fd, &p, &r);
	if (write(fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		_exit(1);
	_exit(0);
}

/* The report of platform number index; one that took too long or died does not work. 0 or -errno. */
static int probe_one(size_t index, int memory_fd, struct platform_report *ret_report)
{
	struct pollfd pfd = { .events = POLLIN };
	bool late, complete;
	int pair[2], err;
	pid_t pid;

	if (pipe(pair) < 0)
		return -errno;
	pid = fork();
	if (pid == 0)
		probe_child(index, memory_fd, pair[1]);
	err = pid < 0 ? -errno : 0;
	close(pair[1]);
	if (err == 0) {
		pfd.fd = pair[0];
		late = poll(&pfd, 1, DEADLINE_MS) == 0;
		complete = !late && read(pair[0], ret_report, sizeof(*ret_report)) == (ssize_t)sizeof(*ret_report);
		if (!complete)
			*ret_report = (struct platform_report){ 0 };
		ret_report->name = platform_name(index);
		if (!complete)
			snprintf(ret_report->note, sizeof(ret_report->note), "its self-test %s",
				 late ? "did not end within 3 s" : "crashed");
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	close(pair[0]);
	return err;
}

/* A line is name, works, automatic, nanoseconds, note, with tabs between them. */
int boot_probe_platforms(const struct boot *b)
{
	for (size_t i = 0; i < platform_count(); i++) {
		struct platform_report r;
		int err = probe_one(i, b->memory_fd, &r);

		if (err < 0) {
			log_error("probe: %s", strerror(-err));
			return 1;
		}
		dprintf(b->o.ready_fd, "%s\t%d\t%d\t%llu\t%s\n", r.name, r.works, r.automatic,
			(unsigned long long)r.call_ns, r.note);
	}
	return 0;
}
