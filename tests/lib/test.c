/* The runner behind test.h. */
#include "tests/lib/test.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <time.h>

static struct test_case *first, **last = &first;
static int message_fd = -1;
bool test_wants_directory;

enum { EXIT_FAILED = 99, EXIT_SKIPPED = 98, MESSAGE_FD = 250 };

void test_register(struct test_case *test)
{
	*last = test;
	last = &test->next;
}

void test_fail(const char *file, int line, const char *format, ...)
{
	char text[1024];
	const char *base = strrchr(file, '/');
	int size = snprintf(text, sizeof(text), "%s:%d: ", base ? base + 1 : file, line);
	va_list args;

	va_start(args, format);
	vsnprintf(text + size, sizeof(text) - (size_t)size, format, args);
	va_end(args);
	if (write(message_fd, text, strlen(text) + 1) < 0)
		fprintf(stderr, "%s\n", text);
	_exit(EXIT_FAILED);
}

void test_skip(const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (write(message_fd, text, strlen(text) + 1) < 0)
		fprintf(stderr, "%s\n", text);
	_exit(EXIT_SKIPPED);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	remove(path);
	return 0;
}

/* Waits for the case with short sleeps: it needs nothing of the system but wait4 and nanosleep. */
static bool wait_case(pid_t pid, unsigned int timeout_s, int *ret_status)
{
	struct timespec nap = { 0, 50000 };
	long waited_ns = 0;

	for (;;) {
		pid_t got = waitpid(pid, ret_status, WNOHANG);
		if (got == pid)
			return true;
		if (got < 0 && errno != EINTR)
			return false;
		if (waited_ns > (long)timeout_s * 1000000000)
			return false;
		nanosleep(&nap, NULL);
		waited_ns += nap.tv_nsec;
		if (nap.tv_nsec < 5000000)
			nap.tv_nsec *= 2;
	}
}

/* Orphans of the case become children of the runner: kill and collect them. */
static void reap_rest(pid_t group)
{
	if (group > 0)
		kill(-group, SIGKILL);
	for (int tries = 0; tries < 20; tries++) {
		pid_t got = waitpid(-1, NULL, WNOHANG);
		if (got < 0)
			return;
		if (got == 0)
			nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
	}
}

static void run_child(const struct test_case *test, const char *directory, int fd)
{
	message_fd = fcntl(fd, F_DUPFD_CLOEXEC, MESSAGE_FD);
	if (message_fd < 0)
		message_fd = fd;
	else
		close(fd);
	setsid();
	/* A caller in the background leaves SIGINT ignored. */
	for (int signo = 1; signo < NSIG; signo++)
		signal(signo, SIG_DFL);
	if (directory && chdir(directory) != 0)
		test_fail(__FILE__, __LINE__, "chdir %s: %s", directory, strerror(errno));
	test->run();
	_exit(0);
}

enum result { PASSED, FAILED, SKIPPED };

static enum result run_case(const struct test_case *test)
{
	const char *scale = getenv("TEST_TIME_SCALE");
	unsigned int limit = test->timeout_s * (scale ? (unsigned int)atoi(scale) : 1);
	char buffer[4096] = "", directory[4096] = "";
	const char *root = getenv("TEST_DIR");
	int pipes[2], status = 0;

	if (pipe2(pipes, O_CLOEXEC) != 0) {
		printf("FAIL %s pipe2: %s\n", test->name, strerror(errno));
		return FAILED;
	}
	if (test_wants_directory) {
		snprintf(directory, sizeof(directory), "%s/t-%s", root ? root : "/tmp", test->name);
		if (mkdir(directory, 0755) != 0 && errno != EEXIST)
			directory[0] = '\0';
	}
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		close(pipes[0]);
		run_child(test, directory[0] ? directory : NULL, pipes[1]);
	}
	close(pipes[1]);
	bool ended = pid > 0 && wait_case(pid, limit, &status);
	reap_rest(pid);
	fcntl(pipes[0], F_SETFL, O_NONBLOCK);
	if (read(pipes[0], buffer, sizeof(buffer) - 1) < 0)
		buffer[0] = '\0';
	close(pipes[0]);
	if (directory[0])
		nftw(directory, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

	if (ended && WIFEXITED(status) && WEXITSTATUS(status) == 0 && !buffer[0]) {
		printf("PASS %s\n", test->name);
		return PASSED;
	}
	if (ended && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIPPED) {
		printf("SKIP %s %s\n", test->name, buffer);
		return SKIPPED;
	}
	if (!ended)
		printf("FAIL %s no end within %u s %s\n", test->name, limit, buffer);
	else if (buffer[0])
		printf("FAIL %s %s\n", test->name, buffer);
	else if (WIFSIGNALED(status))
		printf("FAIL %s killed by signal %d\n", test->name, WTERMSIG(status));
	else
		printf("FAIL %s exit status %d\n", test->name, WEXITSTATUS(status));
	return FAILED;
}

static bool wanted(const struct test_case *test, int count, char **names)
{
	for (int i = 0; i < count; i++)
		if (strncmp(test->name, names[i], strlen(names[i])) == 0)
			return true;
	return count == 0;
}

int main(int argc, char **argv)
{
	int passed = 0, failed = 0, skipped = 0;
	bool list = argc > 1 && strcmp(argv[1], "-l") == 0;
	int from = list ? 2 : 1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (struct test_case *test = first; test; test = test->next) {
		if (!wanted(test, argc - from, argv + from))
			continue;
		if (list) {
			puts(test->name);
			continue;
		}
		switch (run_case(test)) {
		case PASSED:
			passed++;
			break;
		case FAILED:
			failed++;
			break;
		case SKIPPED:
			skipped++;
			break;
		}
	}
	if (list)
		return 0;
	if (passed + failed + skipped == 0)
		failed++;
	printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
