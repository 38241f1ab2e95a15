#include "runsc/sandbox/control.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "platform/base/log.h"
#include "runsc/oci/message.h"

#define SOCKET_NAME "control.sock"
#define START_ERROR "unable to start container process: "
#define PROGRAM_ERROR START_ERROR "exec: "
#define CWD_MESSAGE "chdir to cwd "

int control_listen(const struct container *c, struct error *err)
{
	AUTO(fd_close) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	/* by way of the directory's descriptor the path is short whatever --root is */
	snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/" SOCKET_NAME, c->dir_fd);
	/* the mode that bind gives the name, with any umask */
	if (fd < 0 || fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 128) < 0)
		return error_errno(err, errno, "cannot make the control socket %s/" SOCKET_NAME, c->dir);
	return TAKE_FD(fd);
}

int control_link(const struct container *c, const struct container *root, struct error *err)
{
	return linkat(root->dir_fd, SOCKET_NAME, c->dir_fd, SOCKET_NAME, 0) < 0 ?
		       error_errno(err, errno, "cannot reach the sandbox of %s", root->id) :
		       0;
}

bool control_destroy(const struct container *c)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__ContainerId args;
	Urpc__Empty *empty = NULL;
	struct error why;
	int ret;

	urpc__container_id__init(&args);
	if (!process_alive(c->sentry) || control_connect(c, &client, &why))
		return true;
	args.id = c->id;
	ret = urpc_containerManager_DestroySubcontainer(client, &args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	if (ret && ret != -ENOENT && process_alive(c->sentry)) {
		control_fail(client, ret, "end the container", &why);
		log_warn("%s", why.text);
	}
	return ret != -ETIMEDOUT;
}

int control_connect(const struct container *c, struct urpc_client **ret, struct error *err)
{
	char path[64];
	int result;

	if (process_is_stopped(c->sentry))
		return error_set(err, "the sandbox of %s does not answer: its process %d was stopped (continue it with "
				      "SIGCONT, or use `kill ID KILL`)", c->id, (int)c->sentry.pid);
	snprintf(path, sizeof(path), "/proc/self/fd/%d/" SOCKET_NAME, c->dir_fd);
	result = urpc_connect(path, ret);
	if (result == -ENOENT || result == -ECONNREFUSED)
		return error_set(err, "container not running: the sandbox of %s is gone", c->id);
	if (result)
		return error_errno(err, -result, "cannot reach the sandbox of %s", c->id);
	return 0;
}

int control_fail(struct urpc_client *client, int ret, const char *verb, struct error *err)
{
	const char *message = urpc_client_message(client);

	if (urpc_client_broken(client) && ret == -ETIMEDOUT)
		return error_set(err, "cannot %s: the sandbox does not answer (kill it with `kill ID KILL`)",
				 verb);
	if (urpc_client_broken(client) && ret != -E2BIG && ret != -EPROTO)
		return error_set(err, "cannot %s: the sandbox ended meanwhile", verb);
	if (message && *message)
		return error_set(err, "cannot %s: %s", verb, message);
	return error_errno(err, -ret, "cannot %s", verb);
}

int control_logging(struct urpc_client *client, Urpc__LoggingArgs *args, const char *strace, const char *verb,
		    struct error *err)
{
	AUTO(mem_free) char *copy = xstrdup(strace ? strace : "");
	struct strings names = { 0 };
	Urpc__Empty *empty = NULL;
	char *save = NULL;
	int ret;

	for (char *name = strtok_r(copy, ",", &save); name; name = strtok_r(NULL, ",", &save))
		strings_add(&names, name);
	args->n_strace_syscalls = names.count;
	args->strace_syscalls = names.v;
	ret = urpc_Logging_Change(client, args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	strings_fini(&names);
	return ret ? control_fail(client, ret, verb, err) : 0;
}

static void watch_free(struct control_watch *w)
{
	close(w->out);
	urpc_client_free(w->client);
	free(w->id);
	free(w);
}

static void *watch_run(void *context)
{
	struct control_watch *w = context;

	w->run(w);
	watch_free(w);
	return NULL;
}

int control_watch(const struct container *c, int pid, void (*run)(const struct control_watch *w), const char *waits,
		  struct error *err)
{
	struct urpc_client *client = NULL;
	struct control_watch *w;
	pthread_t thread;
	int pair[2];

	if (control_connect(c, &client, err))
		return -1;
	if (make_pipe(pair)) {
		urpc_client_free(client);
		return error_errno(err, errno, "cannot make a pipe");
	}
	w = xcalloc(1, sizeof(*w));
	*w = (struct control_watch){ .client = client, .id = xstrdup(c->id), .pid = pid, .out = pair[1], .run = run };
	if (pthread_create(&thread, NULL, watch_run, w)) {
		close(pair[0]);
		watch_free(w);
		return error_set(err, "cannot start a thread that waits for %s", waits);
	}
	pthread_detach(thread);
	return pair[0];
}

int control_signal(const struct container *c, int signo, int pid, Urpc__SignalArgs__Mode mode,
		   struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__SignalArgs args;
	Urpc__Empty *empty = NULL;
	int ret;

	urpc__signal_args__init(&args);
	if (control_connect(c, &client, err))
		return -1;
	args.id = c->id;
	args.signo = signo;
	args.pid = pid;
	args.mode = mode;
	ret = urpc_containerManager_Signal(client, &args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	if (ret == -ESRCH)
		return error_set(err, "container not running: no such process%s%s", pid ? " in " : "",
				 pid ? c->id : "");
	return ret ? control_fail(client, ret, "send the signal", err) : 0;
}

int control_update(const struct container *c, const struct oci_resources *resources, struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	struct arena arena = { 0 };
	Urpc__UpdateArgs args;
	Urpc__Empty *empty = NULL;
	int ret;

	urpc__update_args__init(&args);
	if (control_connect(c, &client, err))
		return -1;
	args.id = c->id;
	args.resources = message_of_resources(&arena, resources);
	ret = urpc_containerManager_Update(client, &args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	arena_fini(&arena);
	return ret ? control_fail(client, ret, "change the limits inside", err) : 0;
}

/* runc's texts, which engines look for to tell what happened; 127 and 126 as shells have it. */
static int program_error(int ret, const char *program, struct error *err)
{
	static const struct {
		int error;
		const char *text;
	} rows[] = { { -EACCES, "permission denied" },
		     { -EPERM, "operation not permitted" },
		     { -EISDIR, "is a directory" },
		     { -ENOEXEC, "exec format error" } };
	const char *text = strerror(-ret);

	if (ret == -ENOENT && !strchr(program, '/'))
		return error_set_code(err, EXIT_NOT_FOUND, PROGRAM_ERROR "\"%.200s\": executable file not found in $PATH",
				      program);
	if (ret == -ENOENT || ret == -ENOTDIR)
		return error_set_code(err, EXIT_NOT_FOUND, PROGRAM_ERROR "\"%.200s\": stat %.200s: %s", program, program,
				      ret == -ENOENT ? "no such file or directory" : "not a directory");
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		text = rows[i].error == ret ? rows[i].text : text;
	return error_set_code(err, EXIT_NOT_EXECUTABLE, PROGRAM_ERROR "\"%.200s\": %s", program, text);
}

int control_program_fail(struct urpc_client *client, int ret, const char *program, struct error *err)
{
	const char *message = urpc_client_message(client);

	if (!urpc_client_broken(client) && message && !strncmp(message, CWD_MESSAGE, strlen(CWD_MESSAGE)))
		return error_set_code(err, ret == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE, START_ERROR "%s",
				      message);
	/* other failures, of mounts say, have sentences of their own */
	if (urpc_client_broken(client) || (message && *message && strncmp(message, "exec: ", 6) != 0))
		return control_fail(client, ret, "start the program", err);
	return program_error(ret, program, err);
}
