/* Taking a cgroup away. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>

#include "runsc/cgroup/cgroup_priv.h"

#define REMOVE_MS 2000
#define FIRST_PAUSE_NS 50000
#define LAST_PAUSE_NS 5000000
#define PROCS_MAX (1u << 20)
#define MAX_DEPTH 16

/* Whether pid is a line of the directory's cgroup.procs. */
static bool lists_pid(const char *path, int pid)
{
	AUTO(mem_free) char *file = xasprintf("%s/cgroup.procs", path);
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, file, PROCS_MAX, NULL);
	char *save = NULL;

	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		if (atoi(line) == pid)
			return true;
	}
	return false;
}

/* SIGKILL to what is in the directory. A descriptor pins each process before it is looked up again. */
static void kill_processes(const char *path)
{
	AUTO(mem_free) char *kill_file = xasprintf("%s/cgroup.kill", path);
	AUTO(mem_free) char *file = xasprintf("%s/cgroup.procs", path);
	AUTO(mem_free) char *text = NULL;
	char *save = NULL;

	/* version 2 since Linux 5.14 */
	if (!write_string_at(AT_FDCWD, kill_file, "1"))
		return;
	text = read_file_at(AT_FDCWD, file, PROCS_MAX, NULL);
	for (char *line = text ? strtok_r(text, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		int pid = atoi(line);
		AUTO(fd_close) int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;

		if (fd >= 0 && lists_pid(path, pid))
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	}
}

/* What is below path, and what is in there. Only for directories that we made. */
static void empty_dir(const char *path, int depth)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;

	while (dir && depth < MAX_DEPTH && (entry = readdir(dir))) {
		AUTO(mem_free) char *below = NULL;

		if (entry->d_type != DT_DIR || !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		below = xasprintf("%s/%s", path, entry->d_name);
		empty_dir(below, depth + 1);
		rmdir(below);
	}
	if (dir)
		closedir(dir);
	kill_processes(path);
}

static bool is_busy(const char *path)
{
	return rmdir(path) < 0 && (errno == EBUSY || errno == ENOTEMPTY);
}

/* The parents that runsc made, as long as nothing else is in them. */
static void remove_parents(const char *path)
{
	AUTO(mem_free) char *dir = xstrdup(path);
	char mark[8];

	do
		*strrchr(dir, '/') = 0;
	while (strchr(dir, '/') && getxattr(dir, CGROUP_MADE_ATTRIBUTE, mark, sizeof(mark)) >= 0 && !rmdir(dir));
}

int cgroup_remove(const struct cgroup *cg, struct error *err)
{
	AUTO(mem_free) char *busy = xcalloc(cg->count + 1, 1);
	struct timespec pause = { .tv_nsec = FIRST_PAUSE_NS };
	int64_t end = now_ms() + REMOVE_MS;
	const char *left = NULL;

	if (cg->unit)
		systemd_stop(cg);
	for (size_t i = 0; i < cg->count; i++) {
		if (is_busy(cg->v[i].path) && cg->v[i].made) {
			busy[i] = true;
			left = cg->v[i].path;
		}
	}
	/* a killed process leaves its cgroups when it is torn down, a little after it died */
	for (size_t turn = 0; left && now_ms() < end; turn++) {
		nanosleep(&pause, NULL);
		pause.tv_nsec = MIN(pause.tv_nsec * 2, (long)LAST_PAUSE_NS);
		left = NULL;
		for (size_t i = 0; i < cg->count; i++) {
			busy[i] = busy[i] && is_busy(cg->v[i].path);
			if (!busy[i])
				continue;
			left = cg->v[i].path;
			/* the processes are dead already unless something went wrong */
			if (turn % 8 == 4)
				empty_dir(left, 0);
		}
	}
	for (size_t i = 0; i < cg->count; i++)
		remove_parents(cg->v[i].path);
	return left ? error_errno(err, EBUSY, "cannot remove the cgroup %s", left) : 0;
}
