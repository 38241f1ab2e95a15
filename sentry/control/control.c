#include "sentry/control/control.h"

#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/host/thread.h"
#include "sentry/control/control_priv.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/syscalls/syscalls.h"

/* How long a creation waits for the one before it; below the deadline of its method. */
#define CREATION_WAIT_NS 20000000000ll

static struct {
	struct control_options o; /* const after control_init */
	_Atomic bool creating;	  /* one CreateRoot or CreateSubcontainer at a time */
	char root_id[1024];	  /* written once, before root_made */
	_Atomic bool root_made;
} control;

void control_init(const struct control_options *o)
{
	control.o = *o;
}

const char *control_platform(void)
{
	return control.o.platform;
}

void control_stop(void)
{
	control.o.stop();
}

struct container *control_find(struct urpc_request *req, const char *id)
{
	struct container *c = container_find(id);

	if (!c)
		urpc_fail(req, -ENOENT, "container %.64s does not exist in this sandbox", id);
	return c;
}

struct container *control_root(void)
{
	return control.root_made ? container_find(control.root_id) : NULL;
}

static int handle_wait(struct urpc_request *req, const Urpc__ContainerId *arg,
		       Urpc__WaitStatus *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);

	return c ? control_wait_exit(c, INIT_PID, req->conn_fd, &result->status) : -ENOENT;
}

static int handle_wait_pid(struct urpc_request *req, const Urpc__WaitPidArgs *arg,
			   Urpc__WaitStatus *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	int err;

	if (!c)
		return -ENOENT;
	err = control_wait_exit(c, arg->pid, req->conn_fd, &result->status);
	return err == -ECHILD ? urpc_fail(req, err, "no process %d to wait for", arg->pid) : err;
}

/* --- life --------------------------------------------------------------------------------------- */

/* Waits until no other container is being created. */
static int creation_begin(struct urpc_request *req)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int64_t end = host_monotonic_ns() + CREATION_WAIT_NS;

	while (atomic_exchange(&control.creating, true)) {
		if (host_monotonic_ns() > end)
			return urpc_fail(req, -EBUSY, "another container is being created");
		(void)!ppoll(NULL, 0, &pause, NULL);
	}
	return 0;
}

static int handle_create_root(struct urpc_request *req, const Urpc__Container *arg,
			      Urpc__Empty *result)
{
	int err;

	(void)result;
	if (strlen(arg->id) >= sizeof(control.root_id))
		return urpc_fail(req, -ENAMETOOLONG, "the container id is too long");
	err = creation_begin(req);
	if (err < 0)
		return err;
	err = control.root_made ? urpc_fail(req, -EEXIST, "this sandbox has a root container already") :
				  control_create(req, arg, true);
	if (err == 0) {
		strcpy(control.root_id, arg->id);
		control.root_made = true;
	}
	atomic_store(&control.creating, false);
	return err;
}

static int handle_create_sub(struct urpc_request *req, const Urpc__Container *arg,
			     Urpc__Empty *result)
{
	int err;

	(void)result;
	if (!control.root_made)
		return urpc_fail(req, -EINVAL, "the sandbox has no root container yet");
	err = creation_begin(req);
	if (err < 0)
		return err;
	err = control_create(req, arg, false);
	atomic_store(&control.creating, false);
	return err;
}

static int start(struct urpc_request *req, const char *id)
{
	AUTO(container_put) struct container *c = control_find(req, id);

	if (!c)
		return -ENOENT;
	if (container_state(c) != CONTAINER_CREATED)
		return urpc_fail(req, -EINVAL, "container %.64s is not in the created state", id);
	return container_start(c);
}

static int handle_start_root(struct urpc_request *req, const Urpc__ContainerId *arg,
			     Urpc__Empty *result)
{
	(void)result;
	if (!control.root_made || strcmp(arg->id, control.root_id) != 0)
		return urpc_fail(req, -ENOENT, "%.64s is not the sandbox's root container", arg->id);
	return start(req, arg->id);
}

static int handle_start_sub(struct urpc_request *req, const Urpc__ContainerId *arg,
			    Urpc__Empty *result)
{
	(void)result;
	return start(req, arg->id);
}

static int handle_destroy(struct urpc_request *req, const Urpc__ContainerId *arg,
			  Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	uint32_t status;
	int err;

	(void)result;
	if (!c)
		return -ENOENT;
	containers_kill(c);
	err = control_wait_exit(c, INIT_PID, req->conn_fd, &status);
	if (err == -ECHILD)
		err = 0;
	/* the root container goes with the sandbox */
	if (err == 0 && strcmp(arg->id, control.root_id) != 0)
		control_remove(c);
	return err;
}

/* Refuses what only a container that runs can do. */
static int need_running(struct urpc_request *req, struct container *c)
{
	switch (container_state(c)) {
	case CONTAINER_STOPPED:
		return urpc_fail(req, -ESRCH, "container %.64s is not running", container_id(c));
	case CONTAINER_CREATED:
		return urpc_fail(req, -EINVAL, "container %.64s is not started", container_id(c));
	default:
		return 0;
	}
}

static int handle_exec(struct urpc_request *req, const Urpc__ExecArgs *arg, Urpc__Pid *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	struct process_build p = { 0 };
	struct mnt_ns *mnt_ns;
	struct path root;
	int err;

	if (!c)
		return -ENOENT;
	if (!arg->process)
		return urpc_fail(req, -EINVAL, "no process is given");
	if (container_state(c) == CONTAINER_STOPPED)
		return need_running(req, c);
	if (container_paused(c))
		return urpc_fail(req, -EINVAL, "container %.64s is paused", arg->id);
	if (container_tree(c, &root, &mnt_ns) < 0)
		return urpc_fail(req, -ESRCH, "container %.64s is not running", arg->id);
	err = process_build(req, arg->process, 0, container_user_ns(c), &root, mnt_ns, &p);
	path_put(&root);
	mnt_ns_put(mnt_ns);
	if (err == 0) {
		err = container_exec(c, &p.args, &result->pid);
		if (err < 0)
			err = process_fail(req, &p, err);
	}
	process_build_fini(&p);
	return err;
}

static int handle_signal(struct urpc_request *req, const Urpc__SignalArgs *arg, Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	int err;

	(void)result;
	if (!c)
		return -ENOENT;
	if (arg->signo < 0 || arg->signo > GUEST_NSIG)
		return urpc_fail(req, -EINVAL, "signal %d does not exist", arg->signo);
	if (container_state(c) == CONTAINER_STOPPED)
		return urpc_fail(req, -ESRCH, "container %.64s is not running", arg->id);
	err = container_signal(c, arg->pid, arg->signo, (int)arg->mode);
	if (err == 0 && !arg->pid && arg->signo)
		container_note_stop(c);
	/* who is killed at the gate of a pause ends there */
	if (err == 0 && arg->signo == SIGKILL)
		container_resume(c);
	return err == -ESRCH ? urpc_fail(req, err, "no such process") : err;
}

static int handle_pause(struct urpc_request *req, const Urpc__ContainerId *arg, Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	int err;

	(void)result;
	if (!c)
		return -ENOENT;
	err = need_running(req, c);
	if (err == 0 && container_paused(c))
		return urpc_fail(req, -EINVAL, "container %.64s is paused already", arg->id);
	if (err == 0)
		err = container_pause(c, host_monotonic_ns() + 5ll * 1000000000);
	return err == -ETIMEDOUT ? urpc_fail(req, err, "not every task stopped in time") : err;
}

static int handle_resume(struct urpc_request *req, const Urpc__ContainerId *arg,
			 Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);

	(void)result;
	if (!c)
		return -ENOENT;
	if (!container_paused(c))
		return urpc_fail(req, -EINVAL, "container %.64s is not paused", arg->id);
	gofer_expire_all(); /* engines pause to copy files */
	container_resume(c);
	return 0;
}

static int handle_state(struct urpc_request *req, const Urpc__ContainerId *arg,
			Urpc__RuntimeState *result)
{
	AUTO(container_put) struct container *c = container_find(arg->id);

	(void)req;
	result->init_host_pid = getpid();
	if (!c) {
		result->state = control.creating ? URPC__RUNTIME_STATE__STATE__CREATING :
						   URPC__RUNTIME_STATE__STATE__INVALID;
		return 0;
	}
	switch (container_state(c)) {
	case CONTAINER_CREATED:
		result->state = URPC__RUNTIME_STATE__STATE__CREATED;
		break;
	case CONTAINER_STOPPED:
		result->state = URPC__RUNTIME_STATE__STATE__STOPPED;
		break;
	case CONTAINER_PAUSED:
		result->state = URPC__RUNTIME_STATE__STATE__PAUSED;
		break;
	default:
		result->state = URPC__RUNTIME_STATE__STATE__RUNNING;
	}
	return 0;
}

static int handle_resize(struct urpc_request *req, const Urpc__WindowSize *arg, Urpc__Empty *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	AUTO(thread_group_put) struct thread_group *tg = NULL;
	struct tty *tty = NULL;

	(void)result;
	if (!c)
		return -ENOENT;
	tg = container_process_find(c, arg->pid);
	if (!tg)
		return urpc_fail(req, -ESRCH, "no process %d", arg->pid);
	mutex_lock(&taskset_mu);
	if (tg->pgrp && tg->pgrp->session->tty)
		tty = tty_get(tg->pgrp->session->tty);
	mutex_unlock(&taskset_mu);
	if (!tty)
		return urpc_fail(req, -ENOTTY, "process %d has no terminal", arg->pid);
	host_tty_resized(tty);
	tty_put(tty);
	return 0;
}

static int handle_logging(struct urpc_request *req, const Urpc__LoggingArgs *arg,
			  Urpc__Empty *result)
{
	(void)result;
	if (arg->set_level && arg->level > LOG_DEBUG)
		return urpc_fail(req, -EINVAL, "log level %u does not exist", arg->level);
	if (arg->set_level)
		log_level = (int)arg->level;
	if (arg->set_strace)
		strace_configure(control.o.strace_fd, arg->strace,
				 (const char *const *)arg->strace_syscalls, arg->n_strace_syscalls);
	return 0;
}

const struct urpc_handlers control_handlers = {
	.containerManager_StartRoot = handle_start_root,
	.containerManager_CreateSubcontainer = handle_create_sub,
	.containerManager_StartSubcontainer = handle_start_sub,
	.containerManager_DestroySubcontainer = handle_destroy,
	.containerManager_ExecuteAsync = handle_exec,
	.containerManager_Wait = handle_wait,
	.containerManager_WaitPID = handle_wait_pid,
	.containerManager_Signal = handle_signal,
	.containerManager_Processes = control_processes,
	.containerManager_Event = control_event,
	.containerManager_Update = control_update,
	.containerManager_WaitOom = control_wait_oom,
	.containerManager_Pause = handle_pause,
	.containerManager_Resume = handle_resume,
	.containerManager_ContainerRuntimeState = handle_state,
	.containerManager_ResizeTerminal = handle_resize,
	.containerManager_CreateRoot = handle_create_root,
	.debug_Stacks = control_stacks,
	.Logging_Change = handle_logging,
};
