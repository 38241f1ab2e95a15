/* Being told of out-of-memory kills of the host. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>

#include "runsc/cgroup/stats.h"

/* Version 1: an eventfd, registered with the descriptor of memory.oom_control. */
static int watch_v1(const struct cgroup_dir *dir)
{
	AUTO(mem_free) char *oom_path = xasprintf("%s/memory.oom_control", dir->path);
	AUTO(mem_free) char *control_path = xasprintf("%s/cgroup.event_control", dir->path);
	AUTO(fd_close) int oom = open(oom_path, O_RDONLY | O_CLOEXEC);
	AUTO(fd_close) int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	char text[64];

	snprintf(text, sizeof(text), "%d %d", event, oom);
	if (oom < 0 || event < 0 || write_string_at(AT_FDCWD, control_path, text))
		return -1;
	return TAKE_FD(event);
}

static int watch_v2(const struct cgroup_dir *dir)
{
	AUTO(mem_free) char *path = xasprintf("%s/memory.events", dir->path);
	AUTO(fd_close) int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (fd < 0 || inotify_add_watch(fd, path, IN_MODIFY) < 0)
		return -1;
	return TAKE_FD(fd);
}

int cgroup_oom_fd(const struct cgroup *cg)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "memory");

	return !dir ? -1 : dir->controllers ? watch_v1(dir) : watch_v2(dir);
}

/* Number after KEY in a file of "KEY NUMBER" lines; 0 when it is not there. */
static uint64_t read_key(const struct cgroup_dir *dir, const char *file, const char *key)
{
	AUTO(mem_free) char *path = xasprintf("%s/%s", dir->path, file);
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, 65536, NULL);
	size_t len = strlen(key);

	for (const char *line = text; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ' ')
			return strtoull(line + len, NULL, 10);
	}
	return 0;
}

bool cgroup_oom_happened(const struct cgroup *cg, uint64_t *seen)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "memory");
	uint64_t before = *seen;

	*seen = MAX(before, cgroup_oom_kills(cg));
	if (dir && dir->controllers) {
		AUTO(mem_free) char *path = xasprintf("%s/memory.oom_control", dir->path);

		/* version 1 tells before it kills and counts; and it tells of the cgroup's end the same way */
		return !access(path, F_OK);
	}
	return *seen > before;
}

uint64_t cgroup_oom_kills(const struct cgroup *cg)
{
	const struct cgroup_dir *dir = cgroup_find(cg, "memory");

	return !dir ? 0 :
		      read_key(dir, dir->controllers ? "memory.oom_control" : "memory.events", "oom_kill");
}
