#include "runsc/sandbox/places.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"

static int open_within(int root, const char *path)
{
	struct open_how how = { .flags = O_PATH | O_CLOEXEC,
				.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS };

	return (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
}

/* The host's number of the container's root. */
static uint32_t root_id(const struct oci_id_map *map, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (map[i].container_id == 0 && map[i].size)
			return map[i].host_id;
	}
	return (uint32_t)-1;
}

/* One missing component. 0, or -1 with errno. */
static int make_one(int dir, const char *name, bool file, const struct oci_spec *spec)
{
	uint32_t uid = root_id(spec->uid_map, spec->uid_map_count);
	uint32_t gid = root_id(spec->gid_map, spec->gid_map_count);

	if ((file ? mknodat(dir, name, S_IFREG | 0644, 0) : mkdirat(dir, name, 0755)) < 0)
		return -1;
	return uid == (uint32_t)-1 && gid == (uint32_t)-1 ?
		       0 : fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW);
}

static int make_place(int root, const char *destination, bool file, const struct oci_spec *spec)
{
	AUTO(mem_free) char *names = xstrdup(destination);
	AUTO(mem_free) char *path = xstrdup("");
	AUTO(fd_close) int dir = open_within(root, "/");
	char *save, *name = strtok_r(names, "/", &save);

	for (; name && dir >= 0; name = strtok_r(NULL, "/", &save)) {
		char *longer = xasprintf("%s/%s", path, name);
		bool last = !save[strspn(save, "/")];
		int fd;

		free(path);
		path = longer;
		fd = open_within(root, path);
		if (fd < 0 && errno == ENOENT && strcmp(name, "..") != 0 &&
		    make_one(dir, name, file && last, spec) == 0)
			fd = open_within(root, path);
		if (fd < 0)
			return -1;
		close(dir);
		dir = fd;
	}
	return dir < 0 ? -1 : 0;
}

/* Is path at or below the directory? */
static bool is_within(const char *path, const char *directory)
{
	size_t len = strlen(directory);

	while (len && directory[len - 1] == '/')
		len--;
	return !strncmp(path, directory, len) && (path[len] == '/' || !path[len]);
}

void places_make(const char *rootfs, const struct oci_spec *spec, const bool *is_file)
{
	AUTO(fd_close) int root = open(rootfs, O_PATH | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; root >= 0 && i < spec->mount_count; i++) {
		const char *destination = spec->mounts[i].destination;
		bool covered = false;

		for (size_t k = 0; k < i && !covered; k++)
			covered = is_within(destination, spec->mounts[k].destination);
		if (!covered && make_place(root, destination, is_file[i], spec) < 0)
			log_debug("%s: cannot make the place of a mount: %s", destination, strerror(errno));
	}
}
