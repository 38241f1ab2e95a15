/*
 * What the host sees of a container: the gofer's first process. Its pid is in the pid file; its namespaces are
 * those of config.json, its mount namespace shows the container's files to engines that enter it by
 * /proc/PID (copying files, listing processes, hooks), and its end is the end of the container.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gofer/server/server.h"
#include "platform/host/seccomp.h"
#include "platform/host/socket.h"

#define EXIT_SIGNAL_BASE 128
/* How long the sentry's word may come after the server has ended. */
#define WORD_MS 1000

/* Puts the container's root over a directory of the host's tree and makes that the working directory. */
static int place_root(int tree, char *why, size_t why_size)
{
	static const char *const places[] = { "/proc", "/tmp", "/dev", "/" };

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		if (syscall(SYS_move_mount, tree, "", AT_FDCWD, places[i], MOVE_MOUNT_F_EMPTY_PATH) < 0)
			continue;
		if (chdir(i + 1 < ARRAY_COUNT(places) ? places[i] : "/..") == 0)
			return 0;
	}
	return jail_fail(why, why_size, "place the container's root", "");
}

/* The container wrote these paths: they are resolved within its root. */
static int open_in_root(const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };
	int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

	if (root < 0)
		return -1;
	fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	close(root);
	return fd;
}

static int attach_at(int tree, const char *path)
{
	int place = open_in_root(path), ret;

	if (place < 0)
		return -1;
	ret = (int)syscall(SYS_move_mount, tree, "", place, "",
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	close(place);
	return ret;
}

static void release(int *fd)
{
	close(*fd);
	*fd = -1;
}

/* A mount namespace of its own, with the container's root and what is mounted there. */
static int enter_own(const struct gofer_options *opt, struct gofer_trees *trees, char *why, size_t why_size)
{
	bool shown = trees->shown[0] >= 0;
	int err;

	if (shown) {
		err = place_root(trees->shown[0], why, why_size);
		release(&trees->shown[0]);
	} else {
		err = jail_empty_root(why, why_size);
		if (err >= 0)
			close(err);
	}
	if (err < 0)
		return err;
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return jail_fail(why, why_size, "pivot into the container's root", "");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return jail_fail(why, why_size, "detach the host's root", "");
	for (unsigned int i = 1; i < opt->attach_count; i++) {
		if (trees->shown[i] < 0)
			continue;
		/* the sentry makes missing places later, for itself */
		if (shown && attach_at(trees->shown[i], opt->attach[i].at) < 0)
			log_debug("%s is not shown on the host: %s", opt->attach[i].at, strerror(errno));
		release(&trees->shown[i]);
	}
	if (opt->proc_fd >= 0 && shown && attach_at(opt->proc_fd, "/proc") < 0)
		log_debug("the container's processes are not shown in its /proc: %s", strerror(errno));
	return 0;
}

int face_enter(const struct gofer_options *opt, struct gofer_trees *trees, char *why, size_t why_size)
{
	if (opt->mount_ns_fd >= 0)
		return setns(opt->mount_ns_fd, CLONE_NEWNS) < 0 ?
			       jail_fail(why, why_size, "join the mount namespace of config.json", "") : 0;
	return opt->stay ? 0 : enter_own(opt, trees, why, why_size);
}

void face_title(int argc, char **argv, const char *title)
{
	char *start = argv[0], *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
	size_t size = MIN(strlen(title), (size_t)(end - start) - 2);

	memmove(start, title, size);
	memset(start + size, 0, (size_t)(end - start) - size);
	end[-1] = 1; /* no NUL there: the host then shows the one string at the start */
}

int face_user_namespace(const struct gofer_options *opt, char *why, size_t why_size)
{
	if (opt->user_ns_fd >= 0 && setns(opt->user_ns_fd, CLONE_NEWUSER) < 0)
		return jail_fail(why, why_size, "join the user namespace of config.json", "");
	if (opt->new_user && unshare(CLONE_NEWUSER) < 0)
		return jail_fail(why, why_size, "make a user namespace", "");
	return 0;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int face_filter(bool sockets UNUSED, char *why UNUSED, size_t why_size UNUSED)
{
	return 0;
}
#else
#define RULE(syscall, reason, ...) SECCOMP_RULE(syscall, reason, ##__VA_ARGS__),
static const struct seccomp_rule face_rules[] = {
#include "gofer/seccomp/face.def"
};
static const struct seccomp_rule socket_rules[] = {
#define RULES_SOCKETS
#include "gofer/seccomp/face.def"
};

int face_filter(bool sockets, char *why, size_t why_size)
{
	const struct seccomp_set sets[] = { { face_rules, ARRAY_COUNT(face_rules) },
					    { socket_rules, ARRAY_COUNT(socket_rules) } };

	return seccomp_load_rules(sets, sockets ? 2 : 1, SECCOMP_KILL, why, why_size);
}
#endif

/* TCP, UDP and ping, and questions about the interfaces: what the sentry could make in its own namespace. */
static bool socket_allowed(int family, int type, int protocol)
{
	if (family == AF_NETLINK)
		return type == SOCK_RAW && protocol == NETLINK_ROUTE;
	return (family == AF_INET || family == AF_INET6) && (type == SOCK_STREAM || type == SOCK_DGRAM) && protocol >= 0;
}

NORETURN void face_stand(const struct gofer_options *opt, int server)
{
	struct pollfd pfd[] = { { .fd = opt->status_fd, .events = POLLIN },
				{ .fd = server, .events = POLLIN },
				{ .fd = opt->socket_fd, .events = POLLIN } };
	int status = 0;

	while (!pfd[0].revents && !pfd[1].revents) {
		if (poll(pfd, ARRAY_COUNT(pfd), -1) < 0 && errno != EINTR)
			break;
		if (pfd[2].revents && host_socket_answer(opt->socket_fd, socket_allowed) < 0)
			pfd[2].fd = -1;
	}
	if (opt->status_fd < 0)
		_exit(0);
	/* at the container's end its files are given up, and with them the server, before the word comes */
	if (!pfd[0].revents)
		(void)!poll(pfd, 1, WORD_MS);
	/* no word: the sentry died, or the server did and the sentry ends for want of files */
	if (!pfd[0].revents || read(opt->status_fd, &status, sizeof(status)) != (ssize_t)sizeof(status))
		_exit(EXIT_SIGNAL_BASE + SIGKILL);
	if (opt->exit_fd >= 0 && write(opt->exit_fd, &status, sizeof(status)) != (ssize_t)sizeof(status))
		log_warn("nobody takes the exit status");
	_exit(WIFSIGNALED(status) ? EXIT_SIGNAL_BASE + WTERMSIG(status) : WEXITSTATUS(status));
}
