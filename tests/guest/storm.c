/*
 * Everything that makes a platform switch, at once and in a hurry: processes, programs, threads, signals, faults, deaths. A round
 * of each is short; STORM_ROUNDS in the environment makes it a stress (tests/README.md).
 */
#include "tests/lib/guest.h"

#include <pthread.h>
#include <sys/resource.h>

enum { THREADS = 8, PAGES = 64, GUARDED = 16 };

static int rounds(int n)
{
	const char *more = getenv("STORM_ROUNDS");

	return more ? n * atoi(more) : n;
}

/* Keeps a value in a floating-point register while much else happens. */
#define HOLD(x) __asm__ volatile("" : "+x"(x))

static void fork_in_fours(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid[4];

		for (int j = 0; j < 4; j++) {
			pid[j] = OK(fork());
			if (pid[j] == 0) {
				double x = 1.5 + j;

				HOLD(x);
				_exit(x == 1.5 + j ? 10 + j : 1);
			}
		}
		for (int j = 0; j < 4; j++)
			WAIT_EXIT(pid[j], 10 + j);
	}
}

static void *touch_memory(void *arg)
{
	double x = (double)(intptr_t)arg;
	char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return NULL;
	HOLD(x);
	for (int i = 0; i < PAGES; i++)
		map[i * PAGE] = (char)((intptr_t)arg + i);
	for (int i = 0; i < PAGES; i++)
		if (map[i * PAGE] != (char)((intptr_t)arg + i))
			return NULL;
	HOLD(x);
	munmap(map, PAGES * PAGE);
	return x == (double)(intptr_t)arg ? arg : NULL;
}

static void start_threads(int n)
{
	for (int i = 0; i < n; i++) {
		pthread_t thread[THREADS];
		void *result;

		for (intptr_t j = 0; j < THREADS; j++)
			CHECK_EQ(pthread_create(&thread[j], NULL, touch_memory, (void *)(j + 1)), 0);
		for (intptr_t j = 0; j < THREADS; j++) {
			CHECK_EQ(pthread_join(thread[j], &result), 0);
			CHECK(result == (void *)(j + 1));
		}
	}
}

static volatile sig_atomic_t signals;

static void count_signal(int signo)
{
	double x = signo;

	HOLD(x);
	signals++;
}

/* A timer and signals to oneself, while registers of every kind hold something. */
static void take_signals(int n)
{
	/* Rarer than the slowest of machines needs to take one, or it would do nothing else. */
	struct itimerval often = { { 0, 20000 }, { 0, 20000 } }, never = { 0 };

	signal(SIGALRM, count_signal);
	signal(SIGUSR1, count_signal);
	OK(setitimer(ITIMER_REAL, &often, NULL));
	for (int i = 0; i < n; i++) {
		double a = i, b = i + 0.5;
		int before = signals;

		HOLD(a);
		HOLD(b);
		OK(kill(getpid(), SIGUSR1));
		for (volatile int k = 0; k < 20000; k++)
			;
		HOLD(a);
		HOLD(b);
		CHECK(a == i && b == i + 0.5 && signals > before);
	}
	OK(setitimer(ITIMER_REAL, &never, NULL));
}

static void open_page(int signo, siginfo_t *info, void *context)
{
	(void)signo, (void)context;
	if (mprotect((void *)((uintptr_t)info->si_addr & ~(uintptr_t)(PAGE - 1)), PAGE, PROT_READ | PROT_WRITE) < 0)
		_exit(1);
}

/* Every kind of fault, and mappings that change under a thread that reads them. */
static void take_faults(int n)
{
	struct sigaction action = { .sa_sigaction = open_page, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGSEGV, &action, NULL));
	for (int i = 0; i < n; i++) {
		char *map = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		CHECK(map != MAP_FAILED);
		for (int k = 0; k < PAGES; k++)
			map[k * PAGE] = 1;
		OK(mprotect(map, GUARDED * PAGE, PROT_NONE));
		OK(madvise(map + GUARDED * PAGE, GUARDED * PAGE, MADV_DONTNEED));
		for (int k = 0; k < GUARDED; k++) {
			map[k * PAGE]++;
			CHECK_EQ(map[k * PAGE], 2);
			CHECK_EQ(map[(GUARDED + k) * PAGE], 0);
			CHECK_EQ(map[(2 * GUARDED + k) * PAGE], 1);
		}
		OK(munmap(map, PAGES * PAGE));
	}
	signal(SIGSEGV, SIG_DFL);
}

/* Processes that die of what they do. */
static void die(int n)
{
	const struct rlimit no_core = { 0, 0 };

	OK(setrlimit(RLIMIT_CORE, &no_core));
	for (int i = 0; i < n; i++) {
		int status;
		pid_t pid = OK(fork());

		if (pid == 0) {
			switch (i % 3) {
			case 0:
				__builtin_trap();
			case 1:
				*(volatile char *)BAD_PTR = 1;
				break;
			default:
#ifdef __x86_64__
				__asm__ volatile("hlt");
#else
				raise(SIGSEGV);
#endif
			}
			_exit(0);
		}
		CHECK_EQ(waitpid(pid, &status, 0), pid);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == (i % 3 ? SIGSEGV : SIGILL));
	}
}

static pid_t run_program(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execl("/proc/self/exe", "storm", "-l", NULL);
		_exit(9);
	}
	return pid;
}

static void (*const kinds[])(int) = { fork_in_fours, start_threads, take_signals, take_faults, die };

TEST_TIMED(one_after_the_other, 60)
{
	for (int i = rounds(1); i > 0; i--)
		for (size_t k = 0; k < COUNT(kinds); k++)
			kinds[k](4);
}

/* The same from processes that run beside each other, each with another kind first. */
TEST_TIMED(all_at_once, 60)
{
	pid_t pid[COUNT(kinds)];

	for (size_t p = 0; p < COUNT(kinds); p++) {
		pid[p] = OK(fork());
		if (pid[p] == 0) {
			for (int i = rounds(1); i > 0; i--)
				for (size_t k = 0; k < COUNT(kinds); k++)
					kinds[(k + p) % COUNT(kinds)](3);
			_exit(0);
		}
	}
	for (size_t p = 0; p < COUNT(kinds); p++)
		WAIT_EXIT(pid[p], 0);
}

TEST_TIMED(programs, 60)
{
	int null = OK(open("/dev/null", O_WRONLY));

	OK(dup2(null, STDOUT_FILENO)); /* they list their cases */
	for (int i = rounds(8); i > 0; i--) {
		pid_t pid = OK(run_program());

		WAIT_EXIT(pid, 0);
	}
}
