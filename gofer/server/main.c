/*
 * runsc-gofer: serves the files of one container to its sentry, and stands for it on the host.
 *
 * Order of birth; no byte of a connection is read before step 8:
 *  1. read the command line, open the log
 *  2. limits: descriptors up, core dumps and dumpability off, umask 0
 *  3. private mount namespace, clones of the trees
 *  4. main thread: pivot into the container's tree (face.c)
 *  5. serving thread: a mount namespace of its own, pivot into an empty root that holds only the
 *     served trees, nosuid, nodev, read-only where asked for (jail.c)
 *  6. each thread: drop capabilities, no_new_privs, system call filter
 *  7. main thread: wait for the sentry's word
 *  8. serving thread: tell runsc that all is ready, and serve
 */
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <semaphore.h>
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
	mallopt(M_ARENA_MAX, 1); /* a thread's own arena grows by mprotect */
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

/* What the serving thread gets from main and gives back. */
static struct {
	struct gofer_options opt;
	struct gofer_trees trees;
	unsigned int fd_limit;
	char why[512]; /* empty: it serves */
	sem_t jailed; /* why is final */
	sem_t filtered; /* the main thread too has lost its privileges */
} gofer;

static void wait_for(sem_t *sem)
{
	while (sem_wait(sem) < 0)
		;
}

static void *serve_main(void *arg UNUSED)
{
	static struct conn conns[GOFER_ATTACH_MAX];
	const struct gofer_options *opt = &gofer.opt;
	int base = jail_enter(opt, &gofer.trees, gofer.why, sizeof(gofer.why)), err = base;

	if (err >= 0)
		err = jail_drop_caps(true, gofer.why, sizeof(gofer.why));
	if (err >= 0)
		err = jail_filter(opt->host_uds, gofer.why, sizeof(gofer.why));
	if (err >= 0)
		gofer.why[0] = 0;
	sem_post(&gofer.jailed);
	if (err < 0)
		return NULL;
	wait_for(&gofer.filtered);
	shed_memory();
	if (opt->ready_fd >= 0) {
		if (write(opt->ready_fd, "", 1) != 1)
			_exit(1);
		close(opt->ready_fd);
	}
	backend_init(base, gofer.fd_limit - opt->attach_count - BACKEND_FD_RESERVE);
	conns_init(conns, opt);
	serve(conns, opt->attach_count);
	return NULL;
}

int main(int argc, char **argv)
{
	struct gofer_options *opt = &gofer.opt;
	char *why = gofer.why;
	pthread_t thread;
	int err;

	err = options_parse(argc, argv, opt, why, sizeof(gofer.why));
	if (err < 0)
		die(-1, why);
	log_init(opt->log_fd, opt->log_format, opt->log_level, "gofer");
	gofer.fd_limit = set_limits();
	if (gofer.fd_limit < opt->attach_count + 2 * BACKEND_FD_RESERVE)
		die(opt->ready_fd, "the limit on open files is too low");
	err = trees_clone(opt, &gofer.trees, why, sizeof(gofer.why));
	if (err == 0)
		err = face_enter(opt, &gofer.trees, why, sizeof(gofer.why));
	if (err < 0)
		die(opt->ready_fd, why);
	sem_init(&gofer.jailed, 0, 0);
	sem_init(&gofer.filtered, 0, 0);
	if (pthread_create(&thread, NULL, serve_main, NULL) != 0)
		die(opt->ready_fd, "no thread to serve with");
	wait_for(&gofer.jailed);
	if (why[0])
		die(opt->ready_fd, why);
	err = jail_drop_caps(false, why, sizeof(gofer.why));
	if (err == 0)
		err = face_filter(why, sizeof(gofer.why));
	if (err < 0)
		die(opt->ready_fd, why);
	sem_post(&gofer.filtered);
	if (opt->status_fd >= 0)
		face_stand(opt);
	pthread_join(thread, NULL);
	_exit(0);
}
