/*
 * runsc-gofer: serves the files of one container to its sentry.
 *
 * Order of birth; no byte of a connection is read before step 7:
 *  1. read the command line, open the log
 *  2. limits: descriptors up, core dumps and dumpability off, umask 0
 *  3. private mount namespace, clones of the served trees, read-only where asked for
 *  4. pivot into an empty root that holds only those
 *  5. drop capabilities, no_new_privs
 *  6. system call filter
 *  7. tell runsc that it is ready, and serve
 */
#include <errno.h>
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
			.state = GOFER_IN_NEW,
		};
	}
}

int main(int argc, char **argv)
{
	static struct conn conns[GOFER_ATTACH_MAX];
	static struct gofer_options opt;
	static char why[512];
	unsigned int fd_limit;
	int base, err;

	err = options_parse(argc, argv, &opt, why, sizeof(why));
	if (err < 0)
		die(-1, why);
	log_init(opt.log_fd, opt.log_format, opt.log_level, "gofer");
	fd_limit = set_limits();
	if (fd_limit < opt.attach_count + 2 * BACKEND_FD_RESERVE)
		die(opt.ready_fd, "the limit on open files is too low");
	base = jail_enter(&opt, why, sizeof(why));
	if (base < 0)
		die(opt.ready_fd, why);
	err = jail_drop_caps(opt.host_uds, why, sizeof(why));
	if (err == 0)
		err = jail_filter(opt.host_uds, why, sizeof(why));
	if (err < 0)
		die(opt.ready_fd, why);
	backend_init(base, fd_limit - opt.attach_count - BACKEND_FD_RESERVE);
	conns_init(conns, &opt);
	shed_memory();
	if (opt.ready_fd >= 0) {
		if (write(opt.ready_fd, "", 1) != 1)
			return 1;
		close(opt.ready_fd);
	}
	serve(conns, opt.attach_count);
	return 0;
}
