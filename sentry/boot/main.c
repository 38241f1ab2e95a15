/*
 * runsc-sentry: the steps from exec to serving, in order. What a step needs is gone for the later ones:
 * paths after the empty root, capabilities after the drop, everything outside sentry/seccomp/rules.def after
 * the filter. Only then the first byte of anybody else is read.
 */
#include <pthread.h>
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "platform/host/notifier.h"
#include "sentry/boot/boot.h"
#include "sentry/boot/subsystems.h"
#include "sentry/control/control.h"
#include "sentry/kernel/container.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"
#include "sentry/seccomp/filter.h"
#include "sentry/syscalls/syscalls.h"

static struct urpc_server *server;

static int fail(struct boot *b, int err, const char *what)
{
	snprintf(b->why, sizeof(b->why), "%s: %s", what, strerror(-err));
	return err;
}

static int step_signals(struct boot *b)
{
	(void)b;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	boot_install_crash_handlers();
	return 0;
}

static int step_memory_file(struct boot *b)
{
	struct memfile *mf;
	int err = memfile_new(&mf);

	if (err < 0)
		return fail(b, err, "guest memory file");
	b->memory_fd = memfile_fd(mf);
	return 0;
}

/* auto: the best backend whose self-test passes. A named one that cannot work says why. */
static int step_platform(struct boot *b)
{
	const struct platform_report *r = &b->report;
	char why[sizeof(b->why)];
	int err = platform_choose(b->o.platform, b->memory_fd, &b->platform, &b->report, why, sizeof(why));

	if (b->o.kvm_fd >= 0)
		close(b->o.kvm_fd); /* the machine is made: no other ever is */
	if (err < 0) {
		snprintf(b->why, sizeof(b->why), "%s", why);
		return err;
	}
	snprintf(b->platform_text, sizeof(b->platform_text), "%s%s%s (%s), %llu ns a call in its self-test", r->name,
		 r->note[0] ? ", " : "", r->note,
		 strcmp(b->o.platform, "auto") == 0 ? "the best that works here" : "as named",
		 (unsigned long long)r->call_ns);
	log_info("boot: platform %s%s%s", b->platform_text, why[0] ? "; " : "", why);
	return 0;
}

static int step_kernel(struct boot *b)
{
	int err = subsystems_start(b);

	if (err == 0 && b->o.strace)
		strace_configure(b->o.strace_fd >= 0 ? b->o.strace_fd : 2, true, NULL, 0);
	return err;
}

/* End of file on --death-fd before a byte: whoever made the sandbox died before it was complete. */
static void death_ready(struct host_watch *w, uint32_t events)
{
	char c;

	(void)events;
	if (host_poll_fd(w->fd, POLLIN) == 0)
		return;
	if (read(w->fd, &c, 1) != 1) {
		log_warn("the sandbox's creator is gone: ending");
		_exit(1);
	}
	notifier_remove(w);
	close(w->fd);
}

static int step_death_watch(struct boot *b)
{
	static struct host_watch watch = { .ready = death_ready };
	int err;

	if (b->o.death_fd < 0)
		return 0;
	watch.fd = b->o.death_fd;
	err = notifier_add(&watch, EPOLLIN);
	return err < 0 ? fail(b, err, "--death-fd") : 0;
}

static void stop_server(void)
{
	urpc_server_stop(server);
}

static int step_control(struct boot *b)
{
	struct control_options o = { .strace_fd = b->o.strace_fd,
				     .platform = b->platform_text, .stop = stop_server };
	int err;

	control_init(&o);
	err = urpc_server_new(b->o.control_fd, &control_handlers, NULL, &server);
	return err < 0 ? fail(b, err, "--control-fd") : 0;
}

static int step_filter(struct boot *b)
{
	struct filter_options o = { .platform = b->report.name, .network = true,
				    .report = b->o.debug_seccomp };

	malloc_trim(0);
	return filter_load(&o, b->why, sizeof(b->why));
}

static const struct boot_step {
	const char *name;
	int (*run)(struct boot *b);
} steps[] = {
	/* 1: arguments, 2: log: main */
	/* 3 */ { "descriptors", boot_close_strays },
	/* 4 */ { "signals", step_signals },
	/* 5 */ { "limits", boot_set_limits },
	/* 6 */ { "memory file", step_memory_file },
	/* 7 */ { "empty root", boot_enter_empty_root },
	/* 8 */ { "platform", step_platform },
	/* 9 */ { "privileges", boot_drop_privileges },
	/* 10 */ { "kernel", step_kernel },
	/* 11 */ { "death watch", step_death_watch },
	/* 12 */ { "control", step_control },
	/* 13 */ { "filter", step_filter },
	/* 14: ready byte, 15: serve: main */
};

/* One sentence to whoever waits for the ready byte, and to the log. */
static int give_up(const struct boot *b, const char *step)
{
	log_error("boot: %s: %s", step, b->why);
	if (b->o.ready_fd >= 0)
		dprintf(b->o.ready_fd, "sentry: %s: %s\n", step, b->why);
	else
		fprintf(stderr, "runsc-sentry: %s: %s\n", step, b->why);
	return 1;
}

/*
 * The first time that malloc trims the arena of a thread it reads /proc/sys/vm/overcommit_memory. That
 * must happen now: the filter kills who opens a file.
 */
static void *trim_once(void *arg)
{
	enum { BLOCKS = 256, BLOCK_SIZE = 4096 };
	void *blocks[BLOCKS];

	for (int i = 0; i < BLOCKS; i++)
		blocks[i] = malloc(BLOCK_SIZE);
	for (int i = 0; i < BLOCKS; i++)
		free(blocks[i]);
	return arg;
}

static int compare_shorts(const void *a, const void *b)
{
	return *(const short *)a - *(const short *)b;
}

/* The first time that qsort sorts more than a KiB it asks for the size of the host's memory: now. */
static void sort_once(void)
{
	short numbers[1024] = { 0 };

	qsort(numbers, ARRAY_COUNT(numbers), sizeof(numbers[0]), compare_shorts);
}

/* Few arenas and early trimming: an idle sandbox is to be small. No time zone files are ever read. */
static void tune_libc(void)
{
	pthread_t thread;

	mallopt(M_ARENA_MAX, 2);
	mallopt(M_TRIM_THRESHOLD, 256 << 10);
	mallopt(M_MMAP_THRESHOLD, 256 << 10);
	setenv("TZ", "UTC0", 1);
	tzset();
	sort_once();
	if (pthread_create(&thread, NULL, trim_once, NULL) == 0)
		pthread_join(thread, NULL);
}

int main(int argc, char **argv)
{
	static struct boot b = { .memory_fd = -1 };
	int fd;

	tune_libc();
	if (boot_parse(argc, argv, &b.o, b.why, sizeof(b.why)) < 0) {
		b.o.ready_fd = -1;
		return give_up(&b, "arguments");
	}
	fd = b.o.debug_log_fd >= 0 ? b.o.debug_log_fd : b.o.log_fd;
	log_init(fd, b.o.log_format, b.o.log_level, "sentry");
	if (b.o.kvm_fd >= 0)
		platform_kvm.device_take(b.o.kvm_fd);
	for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
		log_debug("boot %zu: %s", i + 3, steps[i].name);
		if (b.o.probe_platforms && steps[i].run == step_platform)
			return boot_probe_platforms(&b);
		if (steps[i].run(&b) < 0)
			return give_up(&b, steps[i].name);
	}
	log_info("boot: empty root %s, capabilities %s", b.own_root ? "yes" : "absent", b.no_caps ? "none" : "kept");
	if (b.o.ready_fd >= 0 && write(b.o.ready_fd, "r", 1) != 1)
		return give_up(&b, "ready");
	if (b.o.ready_fd >= 0)
		close(b.o.ready_fd);
	urpc_server_run(server);
	log_info("told to end");
	_exit(0);
}
