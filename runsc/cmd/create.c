/* create, start, run. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
		ROW(V, LIST, "pass-fd", 0, pass_fd, "M:N",                                         \
		    "pass descriptor M as N; those inside are 3, 4, ..."),                         \
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

/* What create_args points to. */
struct create_storage {
	char *text; /* of --config; heap */
	struct passed_fds passed;
};

/* Number of sockets that systemd left us, sd_listen_fds(3). */
static uint32_t listen_fds(void)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS");
	uint32_t count, number;

	return pid && fds && parse_uint32(pid, &number) && number == (uint32_t)getpid() && parse_uint32(fds, &count) ?
		       count : 0;
}

/* --pass-fd M:N; the numbers inside must follow on those before. */
static int add_passed_fd(const char *text, struct passed_fds *fds, struct error *err)
{
	AUTO(mem_free) char *copy = xstrdup(text);
	char *colon = strchr(copy, ':');
	uint32_t host, guest;

	if (colon)
		*colon++ = 0;
	if (!colon || !parse_uint32(copy, &host) || !parse_uint32(colon, &guest) || host > INT_MAX)
		return error_set(err, "--pass-fd %s is not of the form M:N in numbers", text);
	if (fds->count >= MAX_PASSED_FDS)
		return error_set(err, "at most %d descriptors can be passed", MAX_PASSED_FDS);
	if (guest != 3 + fds->count)
		return error_set(err, "--pass-fd %s: descriptors inside are numbered from 3 without a gap, the next is %u",
				 text, 3 + fds->count);
	fds->fd[fds->count++] = (int)host;
	return 0;
}

int passed_fds_of(int64_t preserve, uint32_t listen, const struct strings *pass, struct passed_fds *ret,
		  struct error *err)
{
	ret->count = 0;
	if (preserve < 0 || preserve + (int64_t)listen > MAX_PASSED_FDS)
		return error_set(err, "--preserve-fds must be from 0 to %d", MAX_PASSED_FDS);
	while ((int64_t)ret->count < preserve + (int64_t)listen) {
		ret->fd[ret->count] = 3 + (int)ret->count;
		ret->count++;
	}
	for (size_t i = 0; i < pass->count; i++) {
		if (add_passed_fd(pass->v[i], ret, err))
			return -1;
	}
	return 0;
}

static int create_args_of(const struct create_values *values, const char *id, struct create_args *args,
			  struct create_storage *storage, struct error *err)
{
	uint32_t listen = listen_fds();

	storage->text = NULL;
	if (passed_fds_of(values->preserve_fds, listen, &values->pass_fd, &storage->passed, err))
		return -1;
	if (values->config) {
		storage->text = read_file_at(AT_FDCWD, values->config, CONFIG_MAX, NULL);
		if (!storage->text)
			return error_errno(err, errno, "cannot read %s (--config)", values->config);
	}
	*args = (struct create_args){
		.id = id,
		.config_text = storage->text,
		.bundle = values->bundle ? values->bundle : ".",
		.console_socket = values->console_socket,
		.pid_file = values->pid_file,
		.preserve_fds = storage->passed.count,
		.extra_fds = storage->passed.fd,
		.listen_fds = listen,
	};
	return 0;
}

static int create(struct config *config, const struct create_args *args, struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	struct sandbox_live live;

	if (sandbox_create(config, args, &c, &live, err))
		return -1;
	sandbox_live_fini(&live);
	return 0;
}

int cmd_create(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	struct create_storage storage;
	struct create_args args;
	int ret;

	(void)count;
	ret = create_args_of(values, operands[0], &args, &storage, err);
	if (!ret)
		ret = create(config, &args, err);
	free(storage.text);
	return ret;
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

static int run_detached(struct config *config, const struct create_args *args, struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	struct sandbox_live live;
	struct error other;

	if (sandbox_create(config, args, &c, &live, err))
		return -1;
	sandbox_live_fini(&live);
	if (!sandbox_start(c, err))
		return 0;
	if (container_destroy(c, true, &other))
		log_warn("%s", other.text);
	return -1;
}

int cmd_run(struct config *config, const void *values, int count, char **operands,
	    struct error *err)
{
	const struct create_values *v = values;
	struct create_storage storage;
	struct create_args args;
	int ret;

	(void)count;
	ret = create_args_of(v, operands[0], &args, &storage, err);
	args.foreground = !v->detach;
	if (!ret)
		ret = v->detach ? run_detached(config, &args, err) : run_attached(config, &args, v->keep, err);
	free(storage.text);
	return ret;
}
