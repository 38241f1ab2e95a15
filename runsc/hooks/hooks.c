#include "runsc/hooks/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "runsc/oci/message.h"
#include "runsc/sandbox/control.h"
#include "runsc/sandbox/sandbox.h"

#define OUTPUT_MAX 512

/* A memory file with the state in it, read-only: the hook may read or ignore it, nobody blocks. */
static int state_fd(const struct container *c, enum container_status status, struct error *err)
{
	json_t *state = container_state_json(c, status);
	AUTO(mem_free) char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
	AUTO(fd_close) int fd = memfd_create("state", MFD_CLOEXEC);
	char path[32];
	int ret;

	json_decref(state);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (fd < 0 || !text || write_all(fd, text, strlen(text)))
		return error_set(err, "cannot write the state of %s for its hooks", c->id);
	ret = open(path, O_RDONLY | O_CLOEXEC);
	return ret >= 0 ? ret : error_errno(err, errno, "cannot open the state of %s for its hooks", c->id);
}

/*
 * A createContainer hook is a program of the host that is to see the container. It joins the network, uts and ipc
 * namespaces of the process that stands for it, but never its mount namespace: there its loader and libraries would
 * be the container's files, and so run unconfined on the host.
 */
static int join_container(const struct container *c)
{
	AUTO(fd_close) int fd = (int)syscall(SYS_pidfd_open, c->gofer.pid, 0);

	if (fd < 0 || !process_alive(c->gofer))
		return -1;
	return setns(fd, CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC);
}

/* joined: the container whose namespaces it joins, or NULL. */
static NORETURN void hook_child(const struct oci_hook *hook, const char *bundle, const struct container *joined,
				int in, int out)
{
	static char *no_environment[] = { NULL };
	char *default_argv[] = { hook->path, NULL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (joined && join_container(joined)) {
		dprintf(out, "cannot join the namespaces of the container: %s", strerror(errno));
		_exit(EXIT_NOT_EXECUTABLE);
	}
	if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(out, 2) >= 0 && (!*bundle || !chdir(bundle)))
		execve(hook->path, hook->args.count ? hook->args.v : default_argv,
		       hook->env.count ? hook->env.v : no_environment);
	dprintf(out, "%s", strerror(errno));
	_exit(EXIT_NOT_FOUND);
}

/* Takes one piece of what the hook prints and keeps the beginning; false when there is no more. */
static bool take_output(int out, char output[OUTPUT_MAX])
{
	char chunk[512];
	ssize_t got = read(out, chunk, sizeof(chunk));
	size_t len = strlen(output);

	for (ssize_t i = 0; i < got && len < OUTPUT_MAX - 1; i++)
		output[len++] = chunk[i] == '\n' || !chunk[i] ? ' ' : chunk[i];
	output[len] = 0;
	return got > 0;
}

/*
 * Reads what the hook prints until it has ended (end_fd is readable) or its time is over. Something that the hook
 * left running may hold the pipe open and go on printing: it is not waited for.
 */
static bool hook_watch(int end_fd, int out, int64_t timeout_s, char output[OUTPUT_MAX])
{
	struct pollfd pfd[2] = { { .fd = end_fd, .events = POLLIN }, { .fd = out, .events = POLLIN } };
	int64_t end = timeout_s ? now_ms() + timeout_s * 1000 : 0;

	for (;;) {
		int64_t left = end ? MAX(end - now_ms(), (int64_t)0) : -1;
		int n = poll(pfd, 2, (int)MIN(left, (int64_t)INT32_MAX));

		if (!n || (end && now_ms() > end))
			return false;
		if (n < 0)
			continue;
		if (pfd[0].revents)
			break;
		if (pfd[1].revents && !take_output(out, output))
			pfd[1].fd = -1;
	}
	/* what it printed last */
	for (size_t i = 0; i < OUTPUT_MAX && pfd[1].fd >= 0 && poll(&pfd[1], 1, 0) > 0; i++) {
		if (!take_output(out, output))
			break;
	}
	return true;
}

/* The error of a hook that is over; 0 when it went well. */
static int hook_result(const struct oci_hook *hook, const char *kind, bool ended, int wait_status,
		       const char *output, struct error *err)
{
	if (!ended)
		return error_set(err, "%s hook %s did not end within %lld seconds", kind, hook->path,
				 (long long)hook->timeout_s);
	if (wait_status)
		return error_set(err, "error running %s hook %s: exit status %d, output: %s", kind,
				 hook->path, exit_code_of(wait_status), output);
	return 0;
}

static int hook_run(const struct oci_hook *hook, enum oci_hook_kind kind, const struct container *c,
		    enum container_status status, struct error *err)
{
	const struct container *joined = kind == HOOK_CREATE_CONTAINER && !geteuid() ? c : NULL;
	const char *name = oci_hook_names[kind];
	AUTO(fd_close) int in = state_fd(c, status, err);
	AUTO(fd_close) int out = -1;
	AUTO(fd_close) int out_child = -1;
	AUTO(fd_close) int pid_fd = -1;
	char output[OUTPUT_MAX] = "";
	int pair[2], wait_status;
	bool ended;
	pid_t pid;

	if (in < 0)
		return -1;
	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe for hook %s", hook->path);
	out = pair[0];
	out_child = pair[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "cannot start %s hook %s", name, hook->path);
	if (!pid)
		hook_child(hook, c->bundle ? c->bundle : "", joined, in, out_child);
	fd_close(TAKE_FD(out_child));
	pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ended = pid_fd >= 0 && hook_watch(pid_fd, out, hook->timeout_s, output);
	if (!ended) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	wait_status = wait_child(pid);
	return hook_result(hook, name, ended, wait_status, output, err);
}

int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct container *c,
	      enum container_status status, struct error *err)
{
	const struct oci_hooks *hooks = &spec->hooks[kind];
	bool go_on = kind == HOOK_POSTSTART || kind == HOOK_POSTSTOP;
	struct error other;
	int ret = 0;

	for (size_t i = 0; i < hooks->count && (!ret || go_on); i++) {
		if (hook_run(&hooks->v[i], kind, c, status, ret ? &other : err))
			ret = -1;
	}
	return ret;
}

/* Starts a hook inside with these two as its stdio; its process id there, or -1 with err. */
static int start_inside(const struct oci_spec *spec, const struct oci_hook *hook, const struct container *c, int in,
			int out, struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	struct oci_process process = spec->process;
	char *default_argv[] = { hook->path };
	int fds[] = { in, out, out }, ret, pid = -1;
	Urpc__ExecArgs message;
	Urpc__Pid *answer = NULL;
	struct arena arena = { 0 };

	if (control_connect(c, &client, err))
		return -1;
	process.args = hook->args.count ? hook->args : (struct oci_strings){ default_argv, 1 };
	process.env = hook->env;
	process.terminal = false;
	urpc__exec_args__init(&message);
	message.id = c->id;
	message.process = message_of_process(&arena, &process, 0);
	message.process->exe = (ProtobufCBinaryData){ strlen(hook->path), (uint8_t *)hook->path };
	ret = urpc_containerManager_ExecuteAsync(client, &message, fds, ARRAY_COUNT(fds), &answer);
	if (ret)
		control_program_fail(client, ret, hook->path, err);
	else
		pid = answer->pid;
	if (answer)
		urpc_message_free(&answer->base);
	arena_fini(&arena);
	return ret ? -1 : pid;
}

static int run_inside(const struct oci_spec *spec, const struct oci_hook *hook, const struct container *c,
		      struct error *err)
{
	static const char name[] = "startContainer";
	AUTO(fd_close) int in = state_fd(c, STATUS_CREATED, err);
	AUTO(fd_close) int out = -1;
	AUTO(fd_close) int end = -1;
	char output[OUTPUT_MAX] = "";
	int pair[2], pid, status = 0;
	struct error ignored;
	bool ended;

	if (in < 0)
		return -1;
	if (make_pipe(pair))
		return error_errno(err, errno, "cannot make a pipe for hook %s", hook->path);
	out = pair[0];
	pid = start_inside(spec, hook, c, in, pair[1], err);
	close(pair[1]);
	if (pid < 0)
		return error_prefix(err, "error running %s hook %s", name, hook->path);
	end = sandbox_wait_fd(c, pid, err);
	if (end < 0)
		return -1;
	ended = hook_watch(end, out, hook->timeout_s, output);
	if (!ended && control_signal(c, SIGKILL, pid, URPC__SIGNAL_ARGS__MODE__PROCESS, &ignored))
		status = -1; /* the container is about to be stopped anyway */
	if (ended && read(end, &status, sizeof(status)) != (ssize_t)sizeof(status))
		return error_set(err, "the sandbox ended while %s hook %s ran", name, hook->path);
	return hook_result(hook, name, ended, status, output, err);
}

int hooks_run_inside(const struct oci_spec *spec, const struct container *c, struct error *err)
{
	const struct oci_hooks *hooks = &spec->hooks[HOOK_START_CONTAINER];

	for (size_t i = 0; i < hooks->count; i++) {
		if (run_inside(spec, &hooks->v[i], c, err))
			return -1;
	}
	return 0;
}
