/*
 * What a guest of the e2e cases sees of files: a line on stdin is a command, a line on stdout its answer, `-ERRNO`
 * when it failed. Slots hold open files and their mappings.
 *
 *     stat PATH                  TYPE MODE UID GID SIZE NLINK MTIME
 *     cat PATH                   the first bytes
 *     list PATH                  names, sorted
 *     open SLOT PATH FLAGS       FLAGS: r w a c(reate) t(runcate) T(O_TMPFILE)
 *     read SLOT OFFSET SIZE | write SLOT OFFSET TEXT | append SLOT TEXT | size SLOT | close SLOT
 *     map SLOT SIZE | peek SLOT OFFSET SIZE | poke SLOT OFFSET TEXT
 *     setxattr PATH NAME VALUE | getxattr PATH NAME
 *     chmod PATH MODE | link OLD NEW | rename OLD NEW | unlink PATH | mkdir PATH
 *     fchmod SLOT MODE | futimes SLOT SECONDS | fsync SLOT
 *     linkat SLOT PATH           gives a file without a name one
 *     mknod PATH TYPE            TYPE: p(ipe) s(ocket)
 *     wait SLOT OFFSET SECONDS | wake SLOT OFFSET    futex words of a mapping; wait: while it is 0; wake: how many
 *     flock SLOT x|s|u | setlk SLOT OFFSET w|r|u    locks, without waiting
 *     bind SLOT PATH | accept SLOT SLOT | connect SLOT PATH | send SLOT TEXT | receive SLOT    stream sockets
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SLOTS 16

static int fds[SLOTS];
static char *maps[SLOTS];
static char answer[65536];

static int do_stat(const char *path)
{
	struct stat st;

	if (lstat(path, &st) < 0)
		return -1;
	sprintf(answer, "%o %o %u %u %lld %lu %lld", (st.st_mode & S_IFMT) >> 12, st.st_mode & 07777, st.st_uid,
		st.st_gid, (long long)st.st_size, (unsigned long)st.st_nlink, (long long)st.st_mtime);
	return 0;
}

static int do_cat(const char *path)
{
	int fd = open(path, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, answer, sizeof(answer) - 1);

	if (n >= 0)
		answer[n] = 0;
	if (fd >= 0)
		close(fd);
	return n < 0 ? -1 : 0;
}

static int do_list(const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	for (int i = 0; i < n; i++) {
		if (names[i]->d_name[0] != '.') {
			strcat(answer, *answer ? " " : "");
			strcat(answer, names[i]->d_name);
		}
		free(names[i]);
	}
	return n < 0 ? -1 : 0;
}

static int do_open(int slot, const char *path, const char *how)
{
	int flags = strchr(how, 'w') ? O_RDWR : O_RDONLY;

	flags |= strchr(how, 'a') ? O_APPEND : 0;
	flags |= strchr(how, 'c') ? O_CREAT : 0;
	flags |= strchr(how, 't') ? O_TRUNC : 0;
	flags |= strchr(how, 'T') ? O_TMPFILE : 0;
	fds[slot] = open(path, flags, 0640);
	return fds[slot] < 0 ? -1 : 0;
}

static int do_mknod(const char *path, char type)
{
	return mknod(path, (type == 'p' ? S_IFIFO : S_IFSOCK) | 0600, 0);
}

static int do_setlk(int fd, off_t start, char type)
{
	struct flock l = { .l_type = type == 'w' ? F_WRLCK : type == 'r' ? F_RDLCK : F_UNLCK, .l_start = start, .l_len = 1 };

	return fcntl(fd, F_SETLK, &l);
}

static int do_socket(char **a, int slot)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const char *c = a[0];
	ssize_t n;

	if (!strcmp(c, "bind") || !strcmp(c, "connect")) {
		fds[slot] = socket(AF_UNIX, SOCK_STREAM, 0);
		snprintf(address.sun_path, sizeof(address.sun_path), "%s", a[2]);
		if (!strcmp(c, "connect"))
			return connect(fds[slot], (struct sockaddr *)&address, sizeof(address));
		return bind(fds[slot], (struct sockaddr *)&address, sizeof(address)) < 0 ? -1 : listen(fds[slot], 5);
	}
	if (!strcmp(c, "accept")) {
		fds[slot] = accept(fds[atoi(a[2])], NULL, NULL);
		return fds[slot];
	}
	if (!strcmp(c, "send"))
		return (int)send(fds[slot], a[2], strlen(a[2]), MSG_NOSIGNAL);
	if (!strcmp(c, "receive")) {
		n = recv(fds[slot], answer, sizeof(answer) - 1, 0);
		answer[n < 0 ? 0 : n] = 0;
		return (int)n;
	}
	errno = ENOSYS;
	return -1;
}

/* 0, or -1 with errno. */
static int run(char **a)
{
	const char *c = a[0];
	int slot = a[1] ? atoi(a[1]) & (SLOTS - 1) : 0;
	ssize_t n;

	if (!strcmp(c, "stat"))
		return do_stat(a[1]);
	if (!strcmp(c, "cat"))
		return do_cat(a[1]);
	if (!strcmp(c, "list"))
		return do_list(a[1]);
	if (!strcmp(c, "open"))
		return do_open(slot, a[2], a[3]);
	if (!strcmp(c, "close"))
		return close(fds[slot]);
	if (!strcmp(c, "read")) {
		n = pread(fds[slot], answer, (size_t)atoi(a[3]), atoll(a[2]));
		answer[n < 0 ? 0 : n] = 0;
		return n < 0 ? -1 : 0;
	}
	if (!strcmp(c, "write"))
		return pwrite(fds[slot], a[3], strlen(a[3]), atoll(a[2])) < 0 ? -1 : 0;
	if (!strcmp(c, "append"))
		return write(fds[slot], a[2], strlen(a[2])) < 0 ? -1 : 0;
	if (!strcmp(c, "size")) {
		struct stat st;

		if (fstat(fds[slot], &st) < 0)
			return -1;
		sprintf(answer, "%lld", (long long)st.st_size);
		return 0;
	}
	if (!strcmp(c, "map")) {
		int flags = fcntl(fds[slot], F_GETFL);

		maps[slot] = mmap(NULL, (size_t)atoi(a[2]), PROT_READ | ((flags & O_ACCMODE) == O_RDWR ? PROT_WRITE : 0),
				  MAP_SHARED, fds[slot], 0);
		return maps[slot] == MAP_FAILED ? -1 : 0;
	}
	if (!strcmp(c, "peek")) {
		memcpy(answer, maps[slot] + atoll(a[2]), (size_t)atoi(a[3]));
		answer[atoi(a[3])] = 0;
		return 0;
	}
	if (!strcmp(c, "poke")) {
		memcpy(maps[slot] + atoll(a[2]), a[3], strlen(a[3]));
		return 0;
	}
	if (!strcmp(c, "setxattr"))
		return lsetxattr(a[1], a[2], a[3], strlen(a[3]), 0);
	if (!strcmp(c, "getxattr")) {
		n = lgetxattr(a[1], a[2], answer, sizeof(answer) - 1);
		answer[n < 0 ? 0 : n] = 0;
		return n < 0 ? -1 : 0;
	}
	if (!strcmp(c, "linkat")) {
		char path[64];

		sprintf(path, "/proc/self/fd/%d", fds[slot]);
		return linkat(AT_FDCWD, path, AT_FDCWD, a[2], AT_SYMLINK_FOLLOW);
	}
	if (!strcmp(c, "chmod"))
		return chmod(a[1], (mode_t)strtol(a[2], NULL, 8));
	if (!strcmp(c, "fchmod"))
		return fchmod(fds[slot], (mode_t)strtol(a[2], NULL, 8));
	if (!strcmp(c, "futimes")) {
		struct timespec times[2] = { { atoll(a[2]), 0 }, { atoll(a[2]), 0 } };

		return futimens(fds[slot], times);
	}
	if (!strcmp(c, "fsync"))
		return fsync(fds[slot]);
	if (!strcmp(c, "link"))
		return link(a[1], a[2]);
	if (!strcmp(c, "rename"))
		return rename(a[1], a[2]);
	if (!strcmp(c, "unlink"))
		return unlink(a[1]);
	if (!strcmp(c, "mkdir"))
		return mkdir(a[1], 0755);
	if (!strcmp(c, "mknod"))
		return do_mknod(a[1], a[2][0]);
	if (!strcmp(c, "wait")) {
		struct timespec limit = { .tv_sec = atoi(a[3]) };

		return (int)syscall(SYS_futex, maps[slot] + atoll(a[2]), FUTEX_WAIT, 0, &limit, NULL, 0);
	}
	if (!strcmp(c, "wake")) {
		n = syscall(SYS_futex, maps[slot] + atoll(a[2]), FUTEX_WAKE, 1, NULL, NULL, 0);
		sprintf(answer, "%zd", n);
		return (int)n;
	}
	if (!strcmp(c, "flock"))
		return flock(fds[slot], (a[2][0] == 'x' ? LOCK_EX : a[2][0] == 's' ? LOCK_SH : LOCK_UN) | LOCK_NB);
	if (!strcmp(c, "setlk"))
		return do_setlk(fds[slot], atoll(a[2]), a[3][0]);
	return do_socket(a, slot);
}

int main(void)
{
	char line[4096], *a[8];

	while (fgets(line, sizeof(line), stdin)) {
		int count = 0;

		line[strcspn(line, "\n")] = 0;
		for (char *p = strtok(line, " "); p && count < 7; p = strtok(NULL, " "))
			a[count++] = p;
		a[count] = NULL;
		if (!count)
			continue;
		answer[0] = 0;
		if (run(a) < 0)
			sprintf(answer, "-%s", strerrorname_np(errno));
		puts(answer);
		fflush(stdout);
	}
	return 0;
}
