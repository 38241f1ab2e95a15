#include "runsc/config/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static NORETURN void out_of_memory(void)
{
	static const char text[] = "runsc: out of memory\n";

	if (write(STDERR_FILENO, text, sizeof(text) - 1) < 0)
		_exit(EXIT_GENERIC);
	_exit(EXIT_GENERIC);
}

void *xcalloc(size_t count, size_t size)
{
	void *p = calloc(count ? count : 1, size ? size : 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc(void *old, size_t count, size_t size)
{
	void *p = reallocarray(old, count ? count : 1, size);

	if (!p)
		out_of_memory();
	return p;
}

char *xstrdup(const char *s)
{
	char *p = strdup(s);

	if (!p)
		out_of_memory();
	return p;
}

PRINTF_LIKE(1, 0)
static char *xvasprintf(const char *fmt, va_list ap)
{
	char *p = NULL;

	if (vasprintf(&p, fmt, ap) < 0)
		out_of_memory();
	return p;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *p;

	va_start(ap, fmt);
	p = xvasprintf(fmt, ap);
	va_end(ap);
	return p;
}

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	_Alignas(16) char data[];
};

#define ARENA_BLOCK 8192

void *arena_alloc(struct arena *arena, size_t count, size_t size)
{
	struct arena_block *block = arena->blocks;
	size_t bytes;

	if (__builtin_mul_overflow(count, size, &bytes) || bytes > SIZE_MAX / 2)
		out_of_memory();
	bytes = ALIGN_UP(bytes ? bytes : 1, 16);
	if (!block || block->size - block->used < bytes) {
		size_t room = MAX(bytes, (size_t)ARENA_BLOCK);

		block = xcalloc(1, sizeof(*block) + room);
		block->size = room;
		block->next = arena->blocks;
		arena->blocks = block;
	}
	block->used += bytes;
	return block->data + block->used - bytes;
}

char *arena_strndup(struct arena *arena, const char *s, size_t len)
{
	char *p = arena_alloc(arena, len + 1, 1);

	memcpy(p, s, len);
	return p;
}

char *arena_strdup(struct arena *arena, const char *s)
{
	return arena_strndup(arena, s, strlen(s));
}

char *arena_printf(struct arena *arena, const char *fmt, ...)
{
	AUTO(mem_free) char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	return arena_strdup(arena, text);
}

void arena_fini(struct arena *arena)
{
	struct arena_block *block = arena->blocks;

	while (block) {
		struct arena_block *next = block->next;

		free(block);
		block = next;
	}
	arena->blocks = NULL;
}

void strings_add(struct strings *list, const char *s)
{
	list->v = xrealloc(list->v, list->count + 2, sizeof(*list->v));
	list->v[list->count++] = xstrdup(s);
	list->v[list->count] = NULL;
}

void strings_fini(struct strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->v[i]);
	free(list->v);
	*list = (struct strings){ 0 };
}

char *read_fd(int fd, size_t max, size_t *ret_size)
{
	size_t size = 0, room = 4096;
	AUTO(mem_free) char *buf = xcalloc(1, room);

	for (;;) {
		ssize_t n;

		if (room - size < 2) {
			room *= 2;
			buf = xrealloc(buf, room, 1);
		}
		n = read(fd, buf + size, room - size - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return NULL;
		if (!n)
			break;
		size += (size_t)n;
		if (size > max) {
			errno = EFBIG;
			return NULL;
		}
	}
	buf[size] = 0;
	if (ret_size)
		*ret_size = size;
	return TAKE(buf);
}

char *read_file_at(int dir_fd, const char *path, size_t max, size_t *ret_size)
{
	AUTO(fd_close) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? NULL : read_fd(fd, max, ret_size);
}

int write_all(int fd, const void *buf, size_t size)
{
	const char *p = buf;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int write_string_at(int dir_fd, const char *path, const char *text)
{
	AUTO(fd_close) int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);

	return fd < 0 ? -errno : write_all(fd, text, strlen(text));
}

int write_atomic_at(int dir_fd, const char *name, const void *buf, size_t size, mode_t mode)
{
	AUTO(mem_free) char *tmp = xasprintf("%s.%d.tmp", name, (int)getpid());
	int fd = openat(dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write_all(fd, buf, size);
	if (close(fd) < 0 && !ret)
		ret = -errno;
	if (!ret && renameat(dir_fd, tmp, dir_fd, name) < 0)
		ret = -errno;
	if (ret)
		unlinkat(dir_fd, tmp, 0);
	return ret;
}

int make_dirs(const char *path, mode_t mode)
{
	AUTO(mem_free) char *copy = xstrdup(path);

	if (mkdir(path, mode) == 0 || errno == EEXIST)
		return 0;
	for (char *p = copy + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		if (mkdir(copy, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return mkdir(path, mode) < 0 && errno != EEXIST ? -errno : 0;
}

bool parse_int64(const char *s, int base, int64_t *ret)
{
	char *end;
	long long v;

	errno = 0;
	v = strtoll(s, &end, base);
	if (errno || end == s || *end || *s == ' ')
		return false;
	*ret = v;
	return true;
}

bool parse_uint32(const char *s, uint32_t *ret)
{
	int64_t v;

	if (!parse_int64(s, 10, &v) || v < 0 || v > UINT32_MAX)
		return false;
	*ret = (uint32_t)v;
	return true;
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int make_pipe(int fds[2])
{
	return pipe2(fds, O_CLOEXEC) < 0 ? -errno : 0;
}

int make_seqpacket_pair(int fds[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0 ? -errno : 0;
}

int wait_child(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return status;
}

int exit_code_of(int wait_status)
{
	if (WIFSIGNALED(wait_status))
		return EXIT_SIGNAL_BASE + WTERMSIG(wait_status);
	return WEXITSTATUS(wait_status);
}
