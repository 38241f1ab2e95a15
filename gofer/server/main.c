/*
 * runsc-gofer: stands for a container on the host, and serves its files to its sentry. Two processes.
 *
 * Order of birth; no byte of a connection is read before step 8:
 *  1. read the command line, open the log
 *  2. limits: descriptors up, core dumps and dumpability off, umask 0
 *  3. private mount namespace, clones of the trees
 *  4. the container's tree becomes the root (face.c)
 *  5. fork: the child is the server
 *  6. server: a mount namespace of its own, pivot into an empty root that holds only the
 *     served trees, nosuid, nodev, read-only where asked for (jail.c); capabilities, no_new_privs, filter
 *  7. first process: user namespace, no capabilities, no_new_privs, filter; when the server is ready too it
 *     tells runsc, and waits for the sentry's word
 *  8. server: serve
 */
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/server/server.h"

/* Descriptors that the gofer may hold, if the hard limit permits. */
#define FD_LIMIT 4096u

static unsigned int set_limits(void)
{
	struct rlimit files, core = { 0, 0 };

	umask(0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &core);
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return 256;
	files.rlim_cur = MIN(files.rlim_max, (rlim_t)FD_LIMIT);
	if (setrlimit(RLIMIT_NOFILE, &files) < 0)
		return 256;
	return (unsigned int)files.rlim_cur;
}

static NORETURN void die(int ready_fd, const char *why)
{
	log_error("%s", why);
	if (ready_fd >= 0)
		dprintf(ready_fd, "gofer: %s\n", why);
	else
		dprintf(STDERR_FILENO, "runsc-gofer: %s\n", why);
	exit(1);
}

/* Gives back what only the start needed: heap, and pages of the executable that can be read again. */
static void shed_memory(void)
{
	extern const char __ehdr_start[];
	const ElfW(Phdr) *ph = (const ElfW(Phdr) *)getauxval(AT_PHDR);
	uintptr_t base = (uintptr_t)__ehdr_start, page = 4096;

	malloc_trim(0);
	for (size_t i = 0; i < getauxval(AT_PHNUM); i++) {
		if (ph[i].p_type == PT_LOAD && !(ph[i].p_flags & PF_W))
			madvise((void *)(base + ALIGN_DOWN(ph[i].p_vaddr, page)),
				ALIGN_DOWN(ph[i].p_memsz, page), MADV_DONTNEED);
	}
}

static void conns_init(struct conn *conns, const struct gofer_options *opt)
{
	static char labels[GOFER_ATTACH_MAX][8];

	for (unsigned int i = 0; i < opt->attach_count; i++) {
		snprintf(labels[i], sizeof(labels[i]), "%u", i & 0xffff);
		conns[i] = (struct conn){
			.sock = opt->attach[i].fd,
			.label = labels[i],
			.path = opt->attach[i].path,
			.readonly = opt->attach[i].readonly,
			.uds = opt->host_uds,
			.slave = opt->attach[i].slave,
			.state = GOFER_IN_NEW,
		};
	}
}

/* Who is taken over must not be able to write the container's exit status, nor enter other namespaces. */
static void close_face(const struct gofer_options *opt)
{
	const int fds[] = { opt->status_fd, opt->exit_fd, opt->socket_fd, opt->user_ns_fd };

	for (size_t i = 0; i < ARRAY_COUNT(fds); i++)
		close(fds[i]);
}

/* The server: tells the first process by a byte on the pipe done that it is ready. */
static NORETURN void serve_main(const struct gofer_options *opt, struct gofer_trees *trees, unsigned int fd_limit,
				pid_t face, const int done[2])
{
	static struct conn conns[GOFER_ATTACH_MAX];
	char why[512];
	int base, err;

	/* it must not outlive the container */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != face)
		_exit(1);
	close_face(opt);
	close(done[0]);
	err = base = jail_enter(opt, trees, why, sizeof(why));
	if (err >= 0)
		err = jail_drop_caps(true, why, sizeof(why));
	if (err >= 0)
		err = jail_filter(opt->host_uds, why, sizeof(why));
	if (err < 0)
		die(opt->ready_fd, why);
	backend_init(base, fd_limit - opt->attach_count - BACKEND_FD_RESERVE);
	conns_init(conns, opt);
	shed_memory();
	if (write(done[1], "", 1) != 1)
		_exit(1);
	close(done[1]);
	close(opt->ready_fd);
	serve(conns, opt->attach_count);
	_exit(0);
}

/* Whether the server is ready; if not it has said why. */
static bool server_ready(int done)
{
	char byte;
	ssize_t n;

	do
		n = read(done, &byte, 1);
	while (n < 0 && errno == EINTR);
	close(done);
	return n == 1;
}

/* What only the server needs. */
static void close_served(const struct gofer_options *opt, struct gofer_trees *trees)
{
	for (unsigned int i = 0; i < opt->attach_count; i++) {
		close(opt->attach[i].fd);
		close(trees->served[i]);
	}
}

int main(int argc, char **argv)
{
	static struct gofer_options opt;
	static struct gofer_trees trees;
	unsigned int fd_limit;
	char why[512];
	int done[2], server, err;
	pid_t self = getpid(), child;

	err = options_parse(argc, argv, &opt, why, sizeof(why));
	if (err < 0)
		die(-1, why);
	log_init(opt.log_fd, opt.log_format, opt.log_level, "gofer");
	fd_limit = set_limits();
	if (fd_limit < opt.attach_count + 2 * BACKEND_FD_RESERVE)
		die(opt.ready_fd, "the limit on open files is too low");
	err = opt.stay ? 0 : jail_unshare(why, sizeof(why));
	if (err == 0)
		err = trees_clone(&opt, &trees, why, sizeof(why));
	if (err == 0)
		err = face_enter(&opt, &trees, why, sizeof(why));
	if (err < 0)
		die(opt.ready_fd, why);
	close(opt.proc_fd);
	close(opt.mount_ns_fd);
	if (pipe2(done, O_CLOEXEC) < 0)
		die(opt.ready_fd, "no pipe to the server");
	child = fork();
	if (child == 0)
		serve_main(&opt, &trees, fd_limit, self, done);
	server = child > 0 ? (int)syscall(SYS_pidfd_open, child, 0) : -1;
	if (server < 0)
		die(opt.ready_fd, "cannot start the server");
	close(done[1]);
	close_served(&opt, &trees);
	if (opt.title)
		face_title(argc, argv, opt.title);
	err = face_user_namespace(&opt, why, sizeof(why));
	close(opt.user_ns_fd);
	if (err == 0)
		err = jail_drop_caps(false, why, sizeof(why));
	if (err == 0)
		err = face_filter(opt.socket_fd >= 0, why, sizeof(why));
	if (err < 0)
		die(opt.ready_fd, why);
	shed_memory();
	if (!server_ready(done[0]))
		_exit(1);
	if (opt.ready_fd >= 0) {
		if (write(opt.ready_fd, "", 1) != 1)
			_exit(1);
		close(opt.ready_fd);
	}
	face_stand(&opt, server);
}
