/* create, start, run. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "platform/base/log.h"
#include "runsc/cmd/cmd.h"
#include "runsc/console/foreground.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/sandbox.h"

#define V struct create_values
#define CREATE_ROWS                                                                                \
	ROW(V, STRING, "bundle", 'b', bundle, "DIR", "directory with config.json (default: here)"), \
		ROW(V, STRING, "config", 'f', config, "FILE", "instead of config.json in the bundle"), \
		ROW(V, STRING, "console-socket", 0, console_socket, "PATH",                        \
		    "unix socket that gets the terminal"),                                         \
		ROW(V, STRING, "pid-file", 0, pid_file, "FILE", "write the sandbox's process id here"), \
		ROW(V, INT, "preserve-fds", 0, preserve_fds, "N", "also pass descriptors 3 to 2+N"), \
		ROW_IGNORED(BOOL, "no-pivot", 0, NULL, "runc: no pivot_root"),                     \
		ROW_IGNORED(BOOL, "no-new-keyring", 0, NULL, "runc: keep the session keyring"),    \
		ROW_IGNORED(BOOL, "no-subreaper", 0, NULL, "runc: no subreaper"),                  \
		ROW_IGNORED(STRING, "pidfd-socket", 0, "PATH", "runc: socket for a pidfd"),        \
		ROW_IGNORED(STRING, "user-log", 0, "FILE", "gVisor: user-visible log"),            \
		ROW_REFUSED(STRING, "fs-restore-image-path", 0, "DIR",                             \
			    "restoring a file system is not part of this release"),                \
		ROW_IGNORED(BOOL, "fs-restore-direct", 0, NULL, "gVisor: direct reads of it"),     \
		ROW_REFUSED(INT, "exec-fd", 0, "N", "a program must be a file of the container")

DEFINE_OPTIONS(create, V, CREATE_ROWS);
DEFINE_OPTIONS(run, V, CREATE_ROWS,
	       ROW(V, BOOL, "detach", 'd', detach, NULL, "return once the program runs"),
	       ROW(V, BOOL, "keep", 0, keep, NULL, "do not delete the container afterwards"));
NO_OPTIONS(start);
#undef V

#define CONFIG_MAX (16u << 20)

int create_args_of(const struct create_values *values, const char *id, struct create_args *args,
		   char **ret_text, struct error *err)
{
	if (values->preserve_fds < 0 || values->preserve_fds > 250)
		return error_set(err, "--preserve-fds must be from 0 to 250");
	if (values->config) {
		*ret_text = read_file_at(AT_FDCWD, values->config, CONFIG_MAX, NULL);
		if (!*ret_text)
			return error_errno(err, errno, "cannot read %s (--config)", values->config);
	}
	*args = (struct create_args){
		.id = id,
		.config_text = *ret_text,
		.bundle = values->bundle ? values->bundle : ".",
		.console_socket = values->console_socket,
		.pid_file = values->pid_file,
		.preserve_fds = (uint32_t)values->preserve_fds,
	};
	return 0;
}

int cmd_create(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	AUTO(mem_free) char *text = NULL;
	struct sandbox_live live;
	struct create_args args;

	(void)count;
	if (create_args_of(values, operands[0], &args, &text, err) || sandbox_create(config, &args, &c, &live, err))
		return -1;
	sandbox_live_fini(&live);
	return 0;
}

int cmd_start(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	AUTO(container_free) struct container *c = NULL;

	(void)values;
	(void)count;
	if (container_load(config, operands[0], true, &c, err))
		return -1;
	return sandbox_start(c, err);
}

/* What became of a sandbox that ended without giving an exit status. */
static int status_of_dead(const struct container *c, struct sandbox_live *live, struct error *err)
{
	int status = live->sentry.pid ? wait_child(live->sentry.pid) : -1, noted;

	live->sentry.pid = 0;
	/* `kill ID KILL` ends the sandbox itself, and says so */
	if (container_exit_status(c, &noted))
		return exit_code_of(noted);
	if (status >= 0 && WIFSIGNALED(status))
		return error_set_code(err, EXIT_SIGNAL_BASE + WTERMSIG(status),
				      "the sandbox of %s was killed by signal %d from outside", c->id,
				      WTERMSIG(status));
	return -1;
}

static int watch(struct container *c, struct sandbox_live *live, int signal_fd, struct error *err)
{
	struct foreground f = { .container = c,
				.status_fd = TAKE_FD(live->exit_fd),
				.sentry_fd = TAKE_FD(live->sentry.pid_fd),
				.master = TAKE_FD(live->master),
				.signal_fd = signal_fd };
	bool died;
	int status = foreground_run(&f, &died, err);

	return died ? status_of_dead(c, live, err) : exit_code_of(status);
}

/* Foreground: with keep the container stays as stopped. */
static int run_attached(struct config *config, const struct create_args *args, bool keep,
			struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	struct sandbox_live live;
	struct error other;
	int signal_fd, result;

	if (sandbox_create(config, args, &c, &live, err))
		return -1;
	signal_fd = foreground_block_signals(err);
	result = signal_fd < 0 || sandbox_start(c, err) ? -1 : watch(c, &live, signal_fd, err);
	if (keep && result >= 0) {
		if (!container_kill_processes(c, &other) && !container_lock(c, &other)) {
			c->status = STATUS_STOPPED;
			if (container_save(c, &other))
				log_warn("%s", other.text);
		}
	} else if (container_destroy(c, true, &other)) {
		log_warn("%s", other.text);
	}
	sandbox_live_fini(&live);
	return result;
}

int run_foreground(struct config *config, const struct create_args *args, struct error *err)
{
	return run_attached(config, args, false, err);
}

int cmd_run(struct config *config, const void *values, int count, char **operands,
	    struct error *err)
{
	const struct create_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(mem_free) char *text = NULL;
	struct sandbox_live live;
	struct create_args args;
	struct error other;

	(void)count;
	if (create_args_of(v, operands[0], &args, &text, err))
		return -1;
	if (!v->detach) {
		args.foreground = true;
		return run_attached(config, &args, v->keep, err);
	}
	if (sandbox_create(config, &args, &c, &live, err))
		return -1;
	sandbox_live_fini(&live);
	if (!sandbox_start(c, err))
		return 0;
	if (container_destroy(c, true, &other))
		log_warn("%s", other.text);
	return -1;
}
