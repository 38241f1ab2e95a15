/* exec */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>

#include "platform/base/log.h"
#include "runsc/cmd/cmd.h"
#include "runsc/console/foreground.h"
#include "runsc/oci/names.h"
#include "runsc/sandbox/sandbox.h"

#define PROCESS_MAX (16u << 20)

struct exec_values {
	const char *cwd, *user, *process, *pid_file, *internal_pid_file, *console_socket;
	struct strings env, additional_gids, cap;
	bool detach, tty, no_new_privs, ignore_paused;
	int64_t preserve_fds;
	struct strings pass_fd;
};
#define V struct exec_values
DEFINE_OPTIONS(exec, V, ROW(V, STRING, "cwd", 0, cwd, "DIR", "working directory in the container"),
	       ROW(V, LIST, "env", 'e', env, "NAME=VALUE", "set an environment variable"),
	       ROW(V, STRING, "user", 'u', user, "UID[:GID]", "user and group id"),
	       ROW(V, LIST, "additional-gids", 'g', additional_gids, "GID", "further group id"),
	       ROW(V, LIST, "cap", 'c', cap, "NAME", "add a capability"),
	       ROW(V, BOOL, "detach", 'd', detach, NULL, "return once the program runs"),
	       ROW(V, STRING, "process", 'p', process, "FILE", "JSON of the process, instead of PROGRAM"),
	       ROW(V, STRING, "pid-file", 0, pid_file, "FILE",
		   "write the id of the host process that stands for the program here"),
	       ROW(V, STRING, "internal-pid-file", 0, internal_pid_file, "FILE",
		   "write the process id inside the container here"),
	       ROW(V, STRING, "console-socket", 0, console_socket, "PATH", "unix socket that gets the terminal"),
	       ROW(V, BOOL, "tty", 't', tty, NULL, "give the program a terminal"),
	       ROW(V, INT, "preserve-fds", 0, preserve_fds, "N", "also pass descriptors 3 to 2+N"),
	       ROW(V, LIST, "pass-fd", 0, pass_fd, "M:N", "pass descriptor M as N; those inside are 3, 4, ..."),
	       ROW(V, BOOL, "no-new-privs", 0, no_new_privs, NULL, "set no_new_privs"),
	       ROW(V, BOOL, "ignore-paused", 0, ignore_paused, NULL, "also in a paused container"),
	       ROW_IGNORED(STRING, "process-label", 0, "LABEL", "SELinux label"),
	       ROW_IGNORED(STRING, "apparmor", 0, "PROFILE", "AppArmor profile"),
	       ROW_IGNORED(LIST, "cgroup", 0, "PATH", "runc: sub-cgroup"),
	       ROW_IGNORED(BOOL, "no-subreaper", 0, NULL, "runc: no subreaper"),
	       ROW_IGNORED(STRING, "pidfd-socket", 0, "PATH", "runc: socket for a pidfd"),
	       ROW_REFUSED(INT, "exec-fd", 0, "N", "a program must be a file of the container"));
#undef V

/* UID[:GID] in numbers, or names, which the sentry looks up in the container's files: runsc does not read these. */
static void parse_user(const char *text, struct arena *arena, struct oci_process *process)
{
	AUTO(mem_free) char *copy = xstrdup(text);
	char *group = strchr(copy, ':');

	if (group)
		*group++ = 0;
	if (!parse_uint32(copy, &process->uid) || (group && !parse_uint32(group, &process->gid)))
		process->user = arena_strdup(arena, text);
	if (!group)
		process->gid = 0;
	process->gid_count = 0;
}

static int add_groups(const struct strings *list, struct arena *arena, struct oci_process *process,
		      struct error *err)
{
	uint32_t *gids = arena_alloc(arena, process->gid_count + list->count, sizeof(*gids));

	if (process->gid_count)
		memcpy(gids, process->gids, process->gid_count * sizeof(*gids));
	for (size_t i = 0; i < list->count; i++) {
		if (!parse_uint32(list->v[i], &gids[process->gid_count + i]))
			return error_set(err, "--additional-gids %s is no group id", list->v[i]);
	}
	process->gids = gids;
	process->gid_count += list->count;
	return 0;
}

static int add_capabilities(const struct strings *list, struct oci_process *process, struct error *err)
{
	for (size_t i = 0; i < list->count; i++) {
		int number = capability_by_name(list->v[i]);

		if (number < 0)
			return error_set(err, "--cap %s is no capability", list->v[i]);
		process->capabilities.bounding |= 1ull << number;
		process->capabilities.effective |= 1ull << number;
		process->capabilities.permitted |= 1ull << number;
	}
	return 0;
}

/* Later settings of a variable replace earlier ones. */
static void add_environment(const struct strings *list, struct arena *arena, struct oci_process *process)
{
	char **env = arena_alloc(arena, process->env.count + list->count + 1, sizeof(*env));
	size_t count = 0;

	for (size_t i = 0; i < process->env.count; i++)
		env[count++] = process->env.v[i];
	for (size_t i = 0; i < list->count; i++) {
		size_t len = strcspn(list->v[i], "=") + 1, at = 0;

		while (at < count && strncmp(env[at], list->v[i], len) != 0)
			at++;
		env[at] = list->v[i];
		count += at == count;
	}
	process->env = (struct oci_strings){ env, count };
}

static int read_process_file(const char *path, struct arena *arena, struct oci_process *process,
			     struct error *err)
{
	size_t size;
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, PROCESS_MAX, &size);

	if (!text)
		return error_errno(err, errno, "cannot read %s (--process)", path);
	return oci_process_parse(path, text, size, arena, process, err);
}

/* The process: a file's, or the container's own with the command line's changes. */
static int build_process(const struct exec_values *v, const struct oci_spec *spec, int count,
			 char **operands, struct arena *arena, struct oci_process *process,
			 struct error *err)
{
	if (v->process) {
		if (read_process_file(v->process, arena, process, err))
			return -1;
		if (v->tty)
			process->terminal = true;
		process->personality = spec->process.personality;
		return 0;
	}
	if (count < 2)
		return error_set(err, "exec needs a PROGRAM after the id, or --process FILE");
	*process = spec->process;
	process->args = (struct oci_strings){ operands + 1, (size_t)count - 1 };
	process->terminal = v->tty;
	process->no_new_privileges |= v->no_new_privs;
	if (v->cwd)
		process->cwd = arena_strdup(arena, v->cwd);
	if (v->cwd && v->cwd[0] != '/')
		return error_set(err, "--cwd %s must be absolute", v->cwd);
	if (v->user)
		parse_user(v->user, arena, process);
	add_environment(&v->env, arena, process);
	return add_groups(&v->additional_gids, arena, process, err) ||
			       add_capabilities(&v->cap, process, err) ?
		       -1 :
		       0;
}

/* The sandbox breaks its connections a moment before it and the container end. */
#define ENDING_MS 2000

static int watch(const struct container *c, int pid, int master, int signal_fd, struct error *err)
{
	struct foreground f = { .container = c,
				.guest_pid = pid,
				.status_fd = sandbox_wait_fd(c, pid, err),
				.sentry_fd = -1,
				.master = master,
				.signal_fd = signal_fd };
	bool died;
	int status;

	status = f.status_fd < 0 ? -1 : foreground_run(&f, &died, err);
	if (status >= 0)
		return exit_code_of(status);
	/* the program ended with its container, whose end the stand-in on the host tells */
	return process_wait_gone(c->gofer, ENDING_MS) ? EXIT_SIGNAL_BASE + SIGKILL : -1;
}

/* Closes what is open beside stdio and these two, low below high. */
static void close_all_but(int low, int high)
{
	if (low > 3)
		close_range(3, (unsigned int)low - 1, 0);
	if (high > low + 1)
		close_range((unsigned int)low + 1, (unsigned int)high - 1, 0);
	close_range((unsigned int)high + 1, ~0u, 0);
}

/* exec --detach: a process that stands for the program: takes its signals, ends with its status. */
static NORETURN void stand_in(struct container *c, int pid, int signal_fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), status;
	struct error err;

	setsid();
	for (int i = 0; i < 3; i++)
		dup2(null_fd, i);
	/* whoever waits for the end of a pipe of the caller must not wait for us */
	close_all_but(MIN(c->dir_fd, signal_fd), MAX(c->dir_fd, signal_fd));
	status = watch(c, pid, -1, signal_fd, &err);
	_exit(status < 0 ? EXIT_GENERIC : status);
}

static int detach(const struct exec_values *v, struct container *c, int pid, struct error *err)
{
	/* whoever reads the pid file may send a signal at once */
	AUTO(fd_close) int signal_fd = foreground_block_signals(err);
	pid_t child = signal_fd < 0 ? -1 : fork();

	if (signal_fd < 0)
		return -1;
	if (child < 0)
		return error_errno(err, errno, "cannot fork");
	if (!child)
		stand_in(c, pid, TAKE_FD(signal_fd));
	if (v->pid_file && write_number_file(v->pid_file, child, err)) {
		kill(child, SIGKILL);
		return -1;
	}
	return 0;
}

static int run_exec(const struct exec_values *v, struct container *c, const struct oci_process *process,
		    struct error *err)
{
	struct exec_args args = { .process = process,
				  .console_socket = v->console_socket,
				  .foreground = !v->detach };
	struct passed_fds passed;
	int signal_fd = v->detach ? -1 : foreground_block_signals(err);
	int pid, master = -1;

	if ((signal_fd < 0 && !v->detach) || passed_fds_of(v->preserve_fds, 0, &v->pass_fd, &passed, err))
		return -1;
	args.preserve_fds = passed.count;
	args.extra_fds = passed.fd;
	if (sandbox_exec(c, &args, &pid, &master, err))
		return -1;
	if (v->internal_pid_file && write_number_file(v->internal_pid_file, pid, err))
		return -1;
	if (v->detach)
		return detach(v, c, pid, err);
	if (v->pid_file && write_number_file(v->pid_file, getpid(), err))
		return -1;
	return watch(c, pid, master, signal_fd, err);
}

int cmd_exec(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct exec_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	unsigned int mask = STATUS_BIT(STATUS_RUNNING) | STATUS_BIT(STATUS_CREATED);
	struct oci_process process;
	struct arena arena = { 0 };
	struct oci_spec spec;
	int result;

	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "exec", mask | (v->ignore_paused ? STATUS_BIT(STATUS_PAUSED) : 0), err))
		return -1;
	result = container_spec(c, &spec, err);
	if (!result)
		result = build_process(v, &spec, count, operands, &arena, &process, err);
	if (!result && process.terminal && v->detach && !v->console_socket)
		result = error_set(err, "cannot allocate tty if runsc will detach without setting console socket");
	if (!result)
		result = run_exec(v, c, &process, err);
	oci_spec_fini(&spec);
	arena_fini(&arena);
	return result;
}
