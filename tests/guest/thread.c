/* Threads: creation, TLS, tids, signals to one thread, exit. */
#include "tests/lib/guest.h"

#include <pthread.h>
#include <sched.h>
#include <sys/auxv.h>

static __thread int local = 5;

static void *use_tls(void *arg)
{
	CHECK_EQ(local, 5);
	local = (int)(long)arg;
	for (int i = 0; i < 50; i++) {
		sched_yield();
		CHECK_EQ(local, (long)arg);
	}
	return (void *)(long)local;
}

TEST(tls_is_per_thread)
{
	pthread_t threads[8];

	for (long i = 0; i < 8; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, use_tls, (void *)(i + 100)), 0);
	for (long i = 0; i < 8; i++) {
		void *result;
		CHECK_EQ(pthread_join(threads[i], &result), 0);
		CHECK_EQ((long)result, i + 100);
	}
	CHECK_EQ(local, 5);
}

static pid_t thread_ids[2];

static void *get_ids(void *arg)
{
	thread_ids[0] = getpid();
	thread_ids[1] = gettid();
	return arg;
}

TEST(ids)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, get_ids, NULL), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(thread_ids[0], getpid());
	CHECK(thread_ids[1] != getpid());
	/* The joiner may be faster than the last steps of the thread. */
	for (int i = 0; i < 200 && syscall(SYS_tgkill, getpid(), thread_ids[1], 0) == 0; i++)
		msleep(5);
	ERR(syscall(SYS_tgkill, getpid(), thread_ids[1], 0), ESRCH);
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static long counter, turn;

static void *add(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
	}
	return arg;
}

TEST(mutex_excludes)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, add, NULL), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(counter, 80000);
}

static void *ping(void *arg)
{
	long me = (long)arg;

	pthread_mutex_lock(&mutex);
	for (int i = 0; i < 500; i++) {
		while (turn != me)
			pthread_cond_wait(&cond, &mutex);
		turn = 1 - me;
		pthread_cond_broadcast(&cond);
	}
	pthread_mutex_unlock(&mutex);
	return NULL;
}

TEST(condition_ping_pong)
{
	pthread_t threads[2];

	for (long i = 0; i < 2; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, ping, (void *)i), 0);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
}

static volatile pid_t handler_tid;

static void note_tid(int signo)
{
	(void)signo;
	handler_tid = gettid();
}

static volatile pid_t waiter_tid;

static void *wait_for_signal(void *arg)
{
	waiter_tid = gettid();
	while (!handler_tid)
		usleep(1000);
	return arg;
}

TEST(tgkill_reaches_that_thread)
{
	pthread_t thread;

	on_signal(SIGUSR1, note_tid, SA_RESTART);
	CHECK_EQ(pthread_create(&thread, NULL, wait_for_signal, NULL), 0);
	while (!waiter_tid)
		usleep(1000);
	OK(syscall(SYS_tgkill, getpid(), waiter_tid, SIGUSR1));
	pthread_join(thread, NULL);
	CHECK_EQ(handler_tid, waiter_tid);
	ERR(syscall(SYS_tgkill, getpid(), -1, SIGUSR1), EINVAL);
	ERR(syscall(SYS_tgkill, 1, gettid(), SIGUSR1), ESRCH);
	ERR(syscall(SYS_tkill, 999999, SIGUSR1), ESRCH);
	ERR(syscall(SYS_tgkill, getpid(), gettid(), 65), EINVAL);
}

TEST(process_signal_goes_to_unblocked_thread)
{
	pthread_t thread;
	sigset_t set;

	on_signal(SIGUSR1, note_tid, SA_RESTART);
	CHECK_EQ(pthread_create(&thread, NULL, wait_for_signal, NULL), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	while (!waiter_tid)
		usleep(1000);
	OK(kill(getpid(), SIGUSR1));
	pthread_join(thread, NULL);
	CHECK_EQ(handler_tid, waiter_tid);
}

static void *exit_all(void *arg)
{
	(void)arg;
	exit(6);
}

static void *sleep_long(void *arg)
{
	sleep(1000);
	return arg;
}

TEST(exit_group_from_thread)
{
	CHILD(pid)
	{
		pthread_t a, b;
		pthread_create(&a, NULL, sleep_long, NULL);
		pthread_create(&b, NULL, exit_all, NULL);
		sleep(1000);
	}
	WAIT_EXIT(pid, 6);
}

static void *exit_later(void *arg)
{
	usleep(50000);
	_exit(7);
	return arg;
}

TEST(leader_exits_first)
{
	CHILD(pid)
	{
		pthread_t thread;
		pthread_create(&thread, NULL, exit_later, NULL);
		syscall(SYS_exit, 1);
	}
	msleep(25);
	int status;
	CHECK_EQ(waitpid(pid, &status, WNOHANG), 0);
	WAIT_EXIT(pid, 7);
}

static void *exec_thread_main(void *arg)
{
	syscall(SYS_exit, 0);
	return arg;
}

TEST(many_short_threads)
{
	for (int round = 0; round < 20; round++) {
		pthread_t threads[10];
		for (int i = 0; i < 10; i++)
			CHECK_EQ(pthread_create(&threads[i], NULL, exec_thread_main, NULL), 0);
		for (int i = 0; i < 10; i++)
			CHECK_EQ(pthread_join(threads[i], NULL), 0);
	}
}

static void *never(void *arg)
{
	for (;;)
		pause();
	return arg;
}

TEST(two_hundred_threads_at_once)
{
	static pthread_t threads[200];
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(pthread_create(&threads[i], &attr, never, NULL), 0);
	msleep(50);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(pthread_cancel(threads[i]), 0);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(pthread_join(threads[i], NULL), 0);
}

TEST(cancel)
{
	pthread_t thread;
	void *result;

	CHECK_EQ(pthread_create(&thread, NULL, never, NULL), 0);
	msleep(10);
	CHECK_EQ(pthread_cancel(thread), 0);
	CHECK_EQ(pthread_join(thread, &result), 0);
	CHECK(result == PTHREAD_CANCELED);
}

static pthread_barrier_t barrier;
static int order[4];

static void *meet(void *arg)
{
	order[(long)arg] = 1;
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 4; i++)
		CHECK_EQ(order[i], 1);
	return NULL;
}

TEST(barrier_and_rwlock)
{
	pthread_t threads[4];
	pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;

	pthread_barrier_init(&barrier, NULL, 4);
	for (long i = 0; i < 4; i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, meet, (void *)i), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CHECK_EQ(pthread_rwlock_rdlock(&lock), 0);
	CHECK_EQ(pthread_rwlock_trywrlock(&lock), EBUSY);
	CHECK_EQ(pthread_rwlock_unlock(&lock), 0);
}

TEST(set_tid_address_returns_tid)
{
	CHILD(pid)
	{
		static int word;
		CHECK_EQ(syscall(SYS_set_tid_address, &word), gettid());
	}
	WAIT_EXIT(pid, 0);
}

TEST(fork_in_thread_keeps_one)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, never, NULL), 0);
	CHILD(pid)
	{
		char *text = read_file("/proc/self/status");
		CHECK(strstr(text, "Threads:\t1\n"));
	}
	WAIT_EXIT(pid, 0);
	CHECK(strstr(read_file("/proc/self/status"), "Threads:\t2\n"));
}

/*
 * Restartable sequences: a kernel that has them says so everywhere, one that has not says so everywhere, too, or libraries
 * would build on what is not there.
 */
TEST(rseq_is_whole_or_absent)
{
	enum { AUX_FEATURE_SIZE = 27, AUX_ALIGN = 28, PRIVATE_RSEQ = 1 << 7, REGISTER_RSEQ = 1 << 8 };
	extern const unsigned int __rseq_size __attribute__((weak));
	long commands = OK(syscall(SYS_membarrier, 0, 0, 0));
	bool there;

	/* With an area of the C library's registered already: EINVAL. */
	there = syscall(SYS_rseq, NULL, 32, 0, 0) == -1 && errno != ENOSYS;
	CHECK_EQ(!!(commands & PRIVATE_RSEQ), there);
	CHECK_EQ(!!(commands & REGISTER_RSEQ), there);
	if (&__rseq_size)
		CHECK_EQ(__rseq_size != 0, there);
	CHECK(there || (!getauxval(AUX_FEATURE_SIZE) && !getauxval(AUX_ALIGN)));
	if (!there) {
		ERR(syscall(SYS_membarrier, PRIVATE_RSEQ, 0, 0), EINVAL);
		ERR(syscall(SYS_membarrier, REGISTER_RSEQ, 0, 0), EINVAL);
	}
}

TEST(getcpu_keeps_to_the_mask)
{
	cpu_set_t all, one;

	OK(sched_getaffinity(0, sizeof(all), &all));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		unsigned int by_call = 0;

		if (!CPU_ISSET(cpu, &all))
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		OK(sched_setaffinity(0, sizeof(one), &one));
		for (int i = 0; i < 20; i++) {
			CHECK_EQ(sched_getcpu(), cpu);
			OK(syscall(SYS_getcpu, &by_call, NULL, NULL));
			CHECK_EQ(by_call, cpu);
		}
	}
}
