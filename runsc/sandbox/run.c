/* Starting init and further processes of a created container. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "platform/base/log.h"
#include "runsc/console/console.h"
#include "runsc/hooks/hooks.h"
#include "runsc/oci/message.h"
#include "runsc/sandbox/control.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/sandbox.h"

int sandbox_stdio(const struct oci_process *process, const char *console_socket, bool foreground,
		  uint32_t preserve_fds, const int *extra_fds, int *fds, size_t *count, int *ret_slave, int *ret_master,
		  struct error *err)
{
	if (process->terminal) {
		unsigned int rows = process->console_rows, columns = process->console_columns;
		AUTO(fd_close) int master = -1;

		/* the program may look at once: the caller's size is there before it runs */
		if (foreground && !console_socket && !rows && !columns)
			console_size(STDIN_FILENO, &rows, &columns);
		if (console_open(rows, columns, &master, ret_slave, err) ||
		    (console_socket && console_send(console_socket, master, err)))
			return -1;
		fds[(*count)++] = *ret_slave;
		if (foreground && !console_socket)
			*ret_master = TAKE_FD(master);
	} else {
		for (int i = 0; i < 3; i++)
			fds[(*count)++] = i;
	}
	for (uint32_t i = 0; i < preserve_fds; i++) {
		int fd = extra_fds ? extra_fds[i] : 3 + (int)i, flags = fcntl(fd, F_GETFD);

		/* what we opened ourselves closes on exec */
		if (flags < 0 || flags & FD_CLOEXEC)
			return error_set(err, "unable to pass descriptor %d (--preserve-fds, --pass-fd): it is not open", fd);
		fds[(*count)++] = fd;
	}
	return 0;
}

/* A startContainer hook failed: the container is stopped, and is there to be deleted. */
static void stop_unstarted(struct container *c)
{
	struct error other;

	if (container_kill_processes(c, &other))
		log_warn("%s", other.text);
	c->status = STATUS_STOPPED;
	if (container_save(c, &other))
		log_warn("%s", other.text);
}

int sandbox_start(struct container *c, struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__ContainerId id;
	struct oci_spec spec = { 0 };
	Urpc__Empty *empty = NULL;
	struct error other;
	int ret = -1;

	urpc__container_id__init(&id);
	if (container_lock(c, err))
		return -1;
	if (container_need(c, "start", STATUS_BIT(STATUS_CREATED), err) || container_spec(c, &spec, err) ||
	    control_connect(c, &client, err))
		goto out;
	if (hooks_run_inside(&spec, c, err)) {
		stop_unstarted(c);
		goto out;
	}
	id.id = c->id;
	ret = c->sandbox ? urpc_containerManager_StartSubcontainer(client, &id, NULL, 0, &empty) :
			   urpc_containerManager_StartRoot(client, &id, NULL, 0, &empty);
	if (empty)
		urpc_message_free(&empty->base);
	if (ret) {
		ret = control_program_fail(client, ret, spec.process.args.v[0], err);
		goto out;
	}
	c->status = STATUS_RUNNING;
	ret = container_save(c, err);
	if (!ret && hooks_run(&spec, HOOK_POSTSTART, c, STATUS_RUNNING, &other))
		log_warn("%s", other.text);
out:
	oci_spec_fini(&spec);
	container_unlock(c);
	return ret;
}

int sandbox_exec(struct container *c, const struct exec_args *args, int *ret_pid, int *ret_master,
		 struct error *err)
{
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	AUTO(fd_close) int slave = -1;
	AUTO(fd_close) int master = -1;
	Urpc__ExecArgs message;
	struct arena arena = { 0 };
	int fds[URPC_MAX_FDS], ret;
	Urpc__Pid *pid = NULL;
	size_t count = 0;

	urpc__exec_args__init(&message);
	if (sandbox_stdio(args->process, args->console_socket, args->foreground, args->preserve_fds,
			  args->extra_fds, fds, &count, &slave, &master, err) ||
	    control_connect(c, &client, err))
		return -1;
	message.id = c->id;
	message.process = message_of_process(&arena, args->process, args->preserve_fds);
	ret = urpc_containerManager_ExecuteAsync(client, &message, fds, count, &pid);
	if (ret) {
		ret = control_program_fail(client, ret, args->process->args.v[0], err);
	} else {
		*ret_pid = pid->pid;
		*ret_master = TAKE_FD(master);
	}
	if (pid)
		urpc_message_free(&pid->base);
	arena_fini(&arena);
	return ret;
}

static void wait_run(const struct control_watch *w)
{
	Urpc__WaitStatus *status = NULL;
	int ret;

	if (w->pid) {
		Urpc__WaitPidArgs args;

		urpc__wait_pid_args__init(&args);
		args.id = w->id;
		args.pid = w->pid;
		ret = urpc_containerManager_WaitPID(w->client, &args, NULL, 0, &status);
	} else {
		Urpc__ContainerId args;

		urpc__container_id__init(&args);
		args.id = w->id;
		ret = urpc_containerManager_Wait(w->client, &args, NULL, 0, &status);
	}
	if (!ret && write_all(w->out, &status->status, sizeof(status->status)))
		log_warn("cannot hand the exit status on");
	if (status)
		urpc_message_free(&status->base);
}

int sandbox_wait_fd(const struct container *c, int pid, struct error *err)
{
	return control_watch(c, pid, wait_run, "the program", err);
}
