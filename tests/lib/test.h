/*
 * The harness of unit tests and guest programs. A case is
 *   TEST(name) { ...CHECK(...)... }
 * and runs in a child of its own with a time limit, so that a crash or a hang is one failure. Checks
 * work in every process that the case forks. Output, one line a case:
 *   PASS name | FAIL name file:line: what | SKIP name why
 * and a closing line `N passed, N failed`. Arguments: names or prefixes of cases; -l lists.
 */
#ifndef TESTS_LIB_TEST_H
#define TESTS_LIB_TEST_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct test_case {
	const char *name;
	void (*run)(void);
	struct test_case *next;
	unsigned int timeout_s;
};

/* Called by TEST(); cases run in the order of the file. */
void test_register(struct test_case *test);

/* Records a failure of the running case and ends the calling process. */
__attribute__((noreturn, format(printf, 3, 4))) void test_fail(const char *file, int line,
							       const char *format, ...);

/* Ends the running case as skipped; call it in the case's own process only. */
__attribute__((noreturn, format(printf, 1, 2))) void test_skip(const char *format, ...);

/* Set by a program that wants a fresh current directory for each case (guest.h does). */
extern bool test_wants_directory;

#define TEST_TIMEOUT_S 10
#define TEST_TIMED(test_name, seconds)                                                             \
	static void test_##test_name(void);                                                        \
	static struct test_case case_##test_name = { #test_name, test_##test_name, NULL, seconds }; \
	__attribute__((constructor)) static void register_##test_name(void)                       \
	{                                                                                          \
		test_register(&case_##test_name);                                                  \
	}                                                                                          \
	static void test_##test_name(void)
#define TEST(test_name) TEST_TIMED(test_name, TEST_TIMEOUT_S)

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			test_fail(__FILE__, __LINE__, "%s (errno %d)", #cond, errno);              \
	} while (0)

#define CHECK_EQ(a, b)                                                                             \
	do {                                                                                       \
		long long eq_a_ = (long long)(a), eq_b_ = (long long)(b);                          \
		if (eq_a_ != eq_b_)                                                                \
			test_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #a, eq_a_, eq_b_);   \
	} while (0)

#define CHECK_STR(a, b)                                                                            \
	do {                                                                                       \
		const char *str_a_ = (a), *str_b_ = (b);                                           \
		if (strcmp(str_a_, str_b_) != 0)                                                   \
			test_fail(__FILE__, __LINE__, "%s is '%s', not '%s'", #a, str_a_, str_b_); \
	} while (0)

#define CHECK_MEM(a, b, size)                                                                      \
	do {                                                                                       \
		if (memcmp(a, b, size) != 0)                                                       \
			test_fail(__FILE__, __LINE__, "%s and %s differ", #a, #b);                 \
	} while (0)

/* The value of a call that must not return -1. */
#define OK(expr)                                                                                   \
	({                                                                                         \
		__typeof__(expr) ok_ = (expr);                                                     \
		if ((long)ok_ == -1)                                                               \
			test_fail(__FILE__, __LINE__, "%s: %s", #expr, strerror(errno));           \
		ok_;                                                                               \
	})

/* The call must return -1 with this errno. */
#define ERR(expr, wanted)                                                                          \
	do {                                                                                       \
		errno = 0;                                                                         \
		long err_ = (long)(expr);                                                          \
		if (err_ != -1)                                                                    \
			test_fail(__FILE__, __LINE__, "%s returned %ld, not %s", #expr, err_,      \
				  #wanted);                                                        \
		if (errno != (wanted))                                                             \
			test_fail(__FILE__, __LINE__, "%s: errno %d (%s), not %s", #expr, errno,   \
				  strerror(errno), #wanted);                                       \
	} while (0)

/* Runs the block that follows in a child and ends it with exit status 0: CHILD(pid) { ... } */
#define CHILD(pid)                                                                                 \
	pid_t pid = OK(fork());                                                                    \
	if (pid == 0)                                                                              \
		for (;; _exit(0))

#define WAIT_STATUS(pid)                                                                           \
	({                                                                                         \
		int status_ = 0;                                                                   \
		CHECK_EQ(waitpid(pid, &status_, 0), pid);                                          \
		status_;                                                                           \
	})
#define WAIT_EXIT(pid, code)                                                                       \
	do {                                                                                       \
		int st_ = WAIT_STATUS(pid);                                                        \
		if (!WIFEXITED(st_) || WEXITSTATUS(st_) != (code))                                 \
			test_fail(__FILE__, __LINE__, "%s: wait status %#x, not exit %d", #pid,    \
				  st_, code);                                                      \
	} while (0)
#define WAIT_SIGNAL(pid, signo)                                                                    \
	do {                                                                                       \
		int st_ = WAIT_STATUS(pid);                                                        \
		if (!WIFSIGNALED(st_) || WTERMSIG(st_) != (signo))                                 \
			test_fail(__FILE__, __LINE__, "%s: wait status %#x, not signal %d", #pid,  \
				  st_, signo);                                                     \
	} while (0)

#endif
