#include "runsc/hooks/hooks.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OUTPUT_MAX 512

/* A memory file with the state in it: the hook may read or ignore it, nobody blocks. */
static int state_fd(const struct container *c, enum container_status status, struct error *err)
{
	json_t *state = container_state_json(c, status);
	AUTO(mem_free) char *text = state ? json_dumps(state, JSON_COMPACT) : NULL;
	AUTO(fd_close) int fd = memfd_create("state", MFD_CLOEXEC);

	json_decref(state);
	if (fd < 0 || !text || write_all(fd, text, strlen(text)) || lseek(fd, 0, SEEK_SET) < 0)
		return error_set(err, "cannot write the state of %s for its hooks", c->id);
	return TAKE_FD(fd);
}

static NORETURN void hook_child(const struct oci_hook *hook, const char *bundle, int in, int out)
{
	static char *no_environment[] = { NULL };
	char *default_argv[] = { hook->path, NULL };
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	if (dup2(in, 0) >= 0 && dup2(out, 1) >= 0 && dup2(out, 2) >= 0 && (!*bundle || !chdir(bundle)))
		execve(hook->path, hook->args.count ? hook->args.v : default_argv,
		       hook->env.count ? hook->env.v : no_environment);
	dprintf(out, "%s", strerror(errno));
	_exit(EXIT_NOT_FOUND);
}

/*
 * Reads what the hook prints until it has ended or its time is over; keeps the beginning. Something that the
 * hook left running may hold the pipe open, so its end is not waited for.
 */
static bool hook_watch(int pid_fd, int out, int64_t timeout_s, char output[OUTPUT_MAX])
{
	struct pollfd pfd[2] = { { .fd = pid_fd, .events = POLLIN }, { .fd = out, .events = POLLIN } };
	int64_t end = timeout_s ? now_ms() + timeout_s * 1000 : 0;
	size_t len = 0;

	for (;;) {
		int64_t left = end ? MAX(end - now_ms(), (int64_t)0) : -1;
		int n = poll(pfd, 2, (int)MIN(left, (int64_t)INT32_MAX));

		if (!n)
			return false;
		if (n > 0 && pfd[1].revents) {
			char chunk[512];
			ssize_t got = read(out, chunk, sizeof(chunk));

			if (got <= 0)
				pfd[1].fd = -1;
			for (ssize_t i = 0; i < got && len < OUTPUT_MAX - 1; i++)
				output[len++] = chunk[i] == '\n' ? ' ' : chunk[i];
			output[len] = 0;
		} else if (n > 0 && pfd[0].revents) {
			return true;
		}
	}
}

static int hook_run(const struct oci_hook *hook, const char *kind, const struct container *c,
		    enum container_status status, struct error *err)
{
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
		return error_errno(err, errno, "cannot start %s hook %s", kind, hook->path);
	if (!pid)
		hook_child(hook, c->bundle ? c->bundle : "", in, out_child);
	fd_close(TAKE_FD(out_child));
	pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ended = pid_fd >= 0 && hook_watch(pid_fd, out, hook->timeout_s, output);
	if (!ended) {
		kill(-pid, SIGKILL);
		kill(pid, SIGKILL);
	}
	wait_status = wait_child(pid);
	if (!ended)
		return error_set(err, "%s hook %s did not end within %lld seconds", kind, hook->path,
				 (long long)hook->timeout_s);
	if (wait_status)
		return error_set(err, "error running %s hook %s: exit status %d, output: %s", kind,
				 hook->path, exit_code_of(wait_status), output);
	return 0;
}

int hooks_run(const struct oci_spec *spec, enum oci_hook_kind kind, const struct container *c,
	      enum container_status status, struct error *err)
{
	const struct oci_hooks *hooks = &spec->hooks[kind];
	bool go_on = kind == HOOK_POSTSTART || kind == HOOK_POSTSTOP;
	struct error other;
	int ret = 0;

	for (size_t i = 0; i < hooks->count && (!ret || go_on); i++) {
		if (hook_run(&hooks->v[i], oci_hook_names[kind], c, status, ret ? &other : err))
			ret = -1;
	}
	return ret;
}
