#include "runsc/sandbox/destroy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "platform/base/log.h"
#include "runsc/hooks/hooks.h"
#include "runsc/sandbox/control.h"

#define GONE_MS 10000

/* A child of ours must be reaped, or it stays a zombie until we end. */
static void reap(struct process_id id)
{
	if (id.pid > 0)
		waitpid(id.pid, NULL, WNOHANG);
}

/* Its sandbox lives on. A sentry that does not answer learns of the end by the gofer's. */
static int end_in_sandbox(const struct container *c, bool *ask, struct error *err)
{
	*ask = *ask && control_destroy(c);
	process_kill(c->gofer, SIGKILL);
	if (!process_wait_gone(c->gofer, GONE_MS))
		return error_set(err, "the gofer (pid %d) does not die: it hangs in the host kernel",
				 (int)c->gofer.pid);
	reap(c->gofer);
	return 0;
}

/* ask: whether a sentry that goes on is asked; cleared when it does not answer. */
static int kill_processes(const struct container *c, bool *ask, struct error *err)
{
	if (c->sandbox)
		return end_in_sandbox(c, ask, err);
	/* the sentry first: without it the gofer ends by itself */
	process_kill(c->sentry, SIGKILL);
	process_kill(c->gofer, SIGKILL);
	if (!process_wait_gone(c->sentry, GONE_MS))
		return error_set(err, "the sandbox (pid %d) does not die: it hangs in the host kernel",
				 (int)c->sentry.pid);
	if (!process_wait_gone(c->gofer, GONE_MS))
		return error_set(err, "the gofer (pid %d) does not die: it hangs in the host kernel",
				 (int)c->gofer.pid);
	reap(c->sentry);
	reap(c->gofer);
	return 0;
}

int container_kill_processes(const struct container *c, struct error *err)
{
	bool ask = true;

	return kill_processes(c, &ask, err);
}

/* Removes the files of the state directory, then itself. Nobody but runsc makes files there. */
static int remove_dir(const struct container *c, struct error *err)
{
	AUTO(fd_close) int fd = openat(c->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir)
		return error_errno(err, errno, "cannot read %s", c->dir);
	fd = -1;
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			unlinkat(c->dir_fd, entry->d_name, 0);
	}
	closedir(dir);
	if (rmdir(c->dir) < 0 && errno != ENOENT)
		return error_errno(err, errno, "cannot remove %s", c->dir);
	return 0;
}

int container_destroy(struct container *c, bool run_hooks, struct error *err)
{
	struct oci_spec spec = { 0 };
	struct error other;
	bool have_spec, ask = true;
	int ret;

	/* before the lock: whoever holds it may be waiting for the sentry */
	ret = kill_processes(c, &ask, err);
	if (!c->locked && container_lock(c, &other))
		return ret ? ret : error_set(err, "%s", other.text);
	/* what a start or create wrote meanwhile */
	ret = kill_processes(c, &ask, err);
	have_spec = run_hooks && !container_spec(c, &spec, &other);
	if (cgroup_remove(&c->cgroup, &other) && !ret)
		ret = error_set(err, "%s", other.text);
	if (remove_dir(c, &other) && !ret)
		ret = error_set(err, "%s", other.text);
	if (have_spec && hooks_run(&spec, HOOK_POSTSTOP, c, STATUS_STOPPED, &other))
		log_warn("%s", other.text);
	oci_spec_fini(&spec);
	return ret;
}
