/* kill, delete, pause, resume, wait. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#include "platform/base/log.h"
#include "runsc/cmd/cmd.h"
#include "runsc/oci/names.h"
#include "runsc/sandbox/control.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/sandbox.h"

struct kill_values {
	bool all, regex;
	int64_t pid, pgid;
	const char *signal;
};
#define V struct kill_values
DEFINE_OPTIONS(kill, V, ROW(V, BOOL, "all", 'a', all, NULL, "to every process of the container"),
	       ROW(V, BOOL, "regex", 'r', regex, NULL, "to every container whose id matches ID, a regular expression"),
	       ROW(V, INT, "pid", 'p', pid, "PID", "to this process, by its id inside"),
	       ROW(V, INT, "pgid", 0, pgid, "PGID", "to this process group, by its id inside"),
	       ROW(V, STRING, "signal", 's', signal, "SIGNAL", "as the operand"));
#undef V

struct delete_values {
	bool force, regex;
};
#define V struct delete_values
DEFINE_OPTIONS(delete, V, ROW(V, BOOL, "force", 'f', force, NULL, "kill it first; an unknown id is no error"),
	       ROW(V, BOOL, "regex", 'r', regex, NULL, "every container whose id matches ID, a regular expression"));
#undef V

struct wait_values {
	int64_t pid, rootpid;
};
#define NO_SAVING "saving a sandbox is not part of this release"
#define V struct wait_values
DEFINE_OPTIONS(wait, V, ROW(V, INT, "pid", 0, pid, "PID", "for this process of exec, by its id inside"),
	       ROW(V, INT, "rootpid", 0, rootpid, "PID", "the same"),
	       ROW_REFUSED(BOOL, "checkpoint", 0, NULL, NO_SAVING), ROW_REFUSED(BOOL, "restore", 0, NULL, NO_SAVING),
	       ROW_REFUSED(BOOL, "fscheckpoint", 0, NULL, NO_SAVING),
	       ROW_REFUSED(BOOL, "fsrestore", 0, NULL, NO_SAVING));
#undef V

NO_OPTIONS(pause);
NO_OPTIONS(resume);

#define LIVE (STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) | STATUS_BIT(STATUS_PAUSED))

struct kill_request {
	const struct kill_values *values;
	int signo;
};

static int kill_one(struct config *config, const char *id, const void *context, struct error *err)
{
	const struct kill_request *request = context;
	const struct kill_values *v = request->values;
	AUTO(container_free) struct container *c = NULL;
	int signo = request->signo;

	if (container_load(config, id, true, &c, err))
		return -1;
	if (v->all && container_status_now(c) == STATUS_STOPPED)
		return 0;
	if (container_need(c, "signal", LIVE, err))
		return -1;
	if (v->pgid)
		return control_signal(c, signo, (int)v->pgid, URPC__SIGNAL_ARGS__MODE__PROCESS_GROUP, err);
	if (v->pid)
		return control_signal(c, signo, (int)v->pid, URPC__SIGNAL_ARGS__MODE__PROCESS, err);
	/* with init everything ends: no need to ask a sentry that may not answer */
	if (signo == SIGKILL && c->sandbox) {
		if (!control_signal(c, signo, 0, URPC__SIGNAL_ARGS__MODE__ALL, err) || !process_alive(c->gofer))
			return 0;
		log_warn("%s", err->text);
		if (container_note_exit(c, SIGKILL, err))
			log_warn("%s", err->text);
		/* the end of the gofer ends the container, once the sentry looks */
		process_kill(c->gofer, SIGKILL);
		return 0;
	}
	if (signo == SIGKILL) {
		/* a full disk must not save it */
		if (container_note_exit(c, SIGKILL, err))
			log_warn("%s", err->text);
		process_kill(c->sentry, SIGKILL);
		return 0;
	}
	return control_signal(c, signo, 0,
			      v->all ? URPC__SIGNAL_ARGS__MODE__ALL : URPC__SIGNAL_ARGS__MODE__PROCESS, err);
}

int cmd_kill(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct kill_values *v = values;
	const char *name = count > 1 ? operands[1] : v->signal ? v->signal : "TERM";
	struct kill_request request = { v, signal_by_name(name) };

	if (request.signo < 0)
		return error_set(err, "unknown signal \"%.32s\": use a number or a name such as TERM", name);
	return for_each_named(config, v->regex, 1, operands, kill_one, &request, err);
}

static bool error_is_unknown(const struct error *err)
{
	return !strncmp(err->text, CONTAINER_UNKNOWN, strlen(CONTAINER_UNKNOWN));
}

static int delete_one(struct config *config, const char *id, const void *context, struct error *err)
{
	const struct delete_values *v = context;
	AUTO(container_free) struct container *c = NULL;
	enum container_status status;

	/* a forced delete must not take another container for an abbreviated one */
	if (container_load(config, id, !v->force, &c, err))
		return v->force && error_is_unknown(err) ? 0 : -1;
	status = container_status_now(c);
	if (!v->force && status != STATUS_STOPPED && status != STATUS_CREATED)
		return error_set(err,
				 "cannot delete container %s that is not stopped: %s (use --force, or kill it)",
				 c->id, container_status_name(status));
	if (!container_destroy(c, true, err))
		return 0;
	/* what a killed create left may vanish by itself */
	return v->force && error_is_unknown(err) ? 0 : -1;
}

int cmd_delete(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	const struct delete_values *v = values;

	return for_each_named(config, v->regex, count, operands, delete_one, v, err);
}

/* Pauses or resumes; want is the state it must be in, then the one that it gets. */
static int change_pause(struct config *config, const char *id, const char *verb,
			enum container_status from, enum container_status to, struct error *err)
{
	AUTO(container_free) struct container *c = NULL;
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__Empty *empty = NULL;
	Urpc__ContainerId args;
	int ret;

	urpc__container_id__init(&args);
	if (container_load(config, id, true, &c, err) || container_lock(c, err))
		return -1;
	if (container_need(c, verb, STATUS_BIT(from), err))
		return from == STATUS_PAUSED && c->status != STATUS_PAUSED ?
			       error_set(err, "container not paused: %s is %s", c->id,
					 container_status_name(container_status_now(c))) :
			       -1;
	if (control_connect(c, &client, err))
		return -1;
	args.id = c->id;
	ret = to == STATUS_PAUSED ? urpc_containerManager_Pause(client, &args, NULL, 0, &empty) :
				    urpc_containerManager_Resume(client, &args, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	if (ret)
		return control_fail(client, ret, verb, err);
	c->status = to;
	return container_save(c, err);
}

int cmd_pause(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	(void)values;
	(void)count;
	return change_pause(config, operands[0], "pause", STATUS_RUNNING, STATUS_PAUSED, err);
}

int cmd_resume(struct config *config, const void *values, int count, char **operands,
	       struct error *err)
{
	(void)values;
	(void)count;
	return change_pause(config, operands[0], "resume", STATUS_PAUSED, STATUS_RUNNING, err);
}

/* Exit status of a process of the container, waiting for its end; -1 with err. */
static int wait_exit(const struct container *c, int pid, struct error *err)
{
	AUTO(fd_close) int fd = sandbox_wait_fd(c, pid, err);
	int status;
	ssize_t n;

	if (fd < 0)
		return -1;
	do
		n = read(fd, &status, sizeof(status));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(status) || (!pid && container_exit_status(c, &status)))
		return exit_code_of(status);
	if (pid && process_alive(c->sentry))
		return error_set(err, "container %s has no process %d that can be waited for", c->id, pid);
	/* the sandbox was killed, and with it all of its processes */
	return EXIT_SIGNAL_BASE + SIGKILL;
}

int cmd_wait(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct wait_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	int pid = (int)(v->pid ? v->pid : v->rootpid), status;
	json_t *answer;

	(void)count;
	if (container_load(config, operands[0], true, &c, err))
		return -1;
	if (!pid && container_exit_status(c, &status))
		status = exit_code_of(status);
	else
		status = process_alive(c->sentry) ? wait_exit(c, pid, err) : EXIT_SIGNAL_BASE + SIGKILL;
	if (status < 0)
		return -1;
	answer = json_pack("{s:s, s:i}", "id", c->id, "exitStatus", status);
	if (pid)
		json_object_set_new(answer, "pid", json_integer(pid));
	return print_json(answer, JSON_COMPACT, err);
}
