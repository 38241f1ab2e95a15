/* Small helpers of the command line: memory that ends the program when it runs out, arenas, files. */
#ifndef RUNSC_CONFIG_UTIL_H
#define RUNSC_CONFIG_UTIL_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "platform/base/compiler.h"
#include "runsc/config/error.h"

/* Never NULL: running out of memory prints one line and ends the program with status 1. */
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *old, size_t count, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) PRINTF_LIKE(1, 2);

static inline void fd_close(int fd)
{
	if (fd >= 0)
		close(fd);
}
DEFINE_AUTO(fd_close, int)
static inline void mem_free(void *p)
{
	free(p);
}
DEFINE_AUTO(mem_free, char *)

#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int take_fd_ = (fd);                                                               \
		(fd) = -1;                                                                         \
		take_fd_;                                                                          \
	})

/* Memory that is freed as a whole. {0} is an empty arena. */
struct arena {
	struct arena_block *blocks;
};
/* Zeroed, aligned for any type; never NULL. */
void *arena_alloc(struct arena *arena, size_t count, size_t size);
char *arena_strndup(struct arena *arena, const char *s, size_t len);
char *arena_strdup(struct arena *arena, const char *s);
char *arena_printf(struct arena *arena, const char *fmt, ...) PRINTF_LIKE(2, 3);
void arena_fini(struct arena *arena);

/* A growing list of strings that it owns; NULL-terminated when count > 0. {0} is empty. */
struct strings {
	char **v;
	size_t count;
};
void strings_add(struct strings *list, const char *s);
void strings_fini(struct strings *list);

/*
 * Reads all of an open file, at most max bytes. Returns a NUL-terminated heap buffer, its size in
 * *ret_size (without the NUL); NULL with errno set (EFBIG when longer than max).
 */
char *read_fd(int fd, size_t max, size_t *ret_size);
/* The same by name, relative to dir_fd (or AT_FDCWD). */
char *read_file_at(int dir_fd, const char *path, size_t max, size_t *ret_size);
/* Writes all of buf; 0 or negative errno. */
int write_all(int fd, const void *buf, size_t size);
/* Writes one string to an existing file (cgroup, proc); 0 or negative errno. */
int write_string_at(int dir_fd, const char *path, const char *text);
/* Replaces name in directory dir_fd by rename, so that readers see the old or the new. Negative errno. */
int write_atomic_at(int dir_fd, const char *name, const void *buf, size_t size, mode_t mode);
/* mkdir -p; negative errno. */
int make_dirs(const char *path, mode_t mode);

/* Parses a whole number of the given base (0: C notation); false when it is not one or does not fit. */
bool parse_int64(const char *s, int base, int64_t *ret);
bool parse_uint32(const char *s, uint32_t *ret);
/* Milliseconds of CLOCK_MONOTONIC. */
int64_t now_ms(void);
/* Pipe and socketpair with close-on-exec; negative errno, fds untouched on error. */
int make_pipe(int fds[2]);
int make_seqpacket_pair(int fds[2]);
/* waitpid that is not disturbed by signals; returns the wait status or negative errno. */
int wait_child(pid_t pid);
/* Exit status as a shell counts it: the code, or 128 + signal. */
int exit_code_of(int wait_status);

#endif
