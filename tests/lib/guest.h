/*
 * What guest programs share: ordinary Linux programs whose cases pass on the host first. Each case
 * runs in a fresh current directory below $TEST_DIR, in a session of its own, as root.
 */
#ifndef TESTS_LIB_GUEST_H
#define TESTS_LIB_GUEST_H

#include "tests/lib/test.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

/* Every guest program's cases want a directory. */
__attribute__((constructor)) static void guest_setup(void)
{
	test_wants_directory = true;
}

#define PAGE 4096L
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* An address that is never mapped, and one in the kernel's half. */
#define BAD_PTR ((void *)0x10)
#define KERNEL_PTR ((void *)0xffff800000000000UL)

static inline long long now_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static inline long long now_ms(void)
{
	return now_ns(CLOCK_MONOTONIC) / 1000000;
}

static inline void msleep(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

/* The last bytes of a page that is followed by an unmapped one: returns the end of the page. */
static inline char *page_end(void)
{
	char *map = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED || munmap(map + PAGE, PAGE) != 0)
		test_fail(__FILE__, __LINE__, "page_end: %s", strerror(errno));
	return map + PAGE;
}

/* Shared between the case and its children. */
static inline void *shared_new(size_t size)
{
	void *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		test_fail(__FILE__, __LINE__, "mmap: %s", strerror(errno));
	return map;
}

static inline void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		test_fail(__FILE__, __LINE__, "write %s: %s", path, strerror(errno));
	close(fd);
}

/* Up to size-1 bytes of the file, as a string; the result is static. */
static inline char *read_file(const char *path)
{
	static char text[65536];
	int fd = open(path, O_RDONLY);
	size_t used = 0;
	ssize_t got;

	if (fd < 0)
		test_fail(__FILE__, __LINE__, "open %s: %s", path, strerror(errno));
	while ((got = read(fd, text + used, sizeof(text) - 1 - used)) > 0)
		used += (size_t)got;
	close(fd);
	text[used] = '\0';
	return text;
}

static inline void on_signal(int signo, void (*handler)(int), int flags)
{
	struct sigaction sa = { .sa_handler = handler, .sa_flags = flags };

	if (sigaction(signo, &sa, NULL) != 0)
		test_fail(__FILE__, __LINE__, "sigaction: %s", strerror(errno));
}

static volatile sig_atomic_t caught_count __attribute__((unused));
static volatile sig_atomic_t caught_signo __attribute__((unused));

static inline void catch_signal(int signo)
{
	caught_count = caught_count + 1;
	caught_signo = signo;
}

/* SIGALRM every `ms`, handled without SA_RESTART: whatever blocks ends with EINTR. */
static inline void interrupt_every(long ms, int flags)
{
	struct itimerval it = { { 0, ms * 1000 }, { 0, ms * 1000 } };

	on_signal(SIGALRM, catch_signal, flags);
	setitimer(ITIMER_REAL, &it, NULL);
}

static inline void interrupt_stop(void)
{
	struct itimerval it = { { 0, 0 }, { 0, 0 } };

	setitimer(ITIMER_REAL, &it, NULL);
}

/* Gives up root for good. */
static inline void become_user(uid_t uid)
{
	if (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
		test_fail(__FILE__, __LINE__, "become_user: %s", strerror(errno));
}

#endif
