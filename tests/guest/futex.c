/* futex operations: wait, wake, bitset, requeue, PI, robust lists, waitv. */
#include "tests/lib/guest.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>

static long futex(volatile void *word, int op, unsigned int value, const void *timeout, void *word2,
		  unsigned int value3)
{
	return syscall(SYS_futex, word, op, value, timeout, word2, value3);
}

static volatile unsigned int words[16];

TEST(wait_value_differs)
{
	words[0] = 1;
	ERR(futex(words, FUTEX_WAIT, 0, NULL, NULL, 0), EAGAIN);
	CHECK_EQ(futex(words, FUTEX_WAKE, 1, NULL, NULL, 0), 0);
}

TEST(wait_times_out)
{
	long long start = now_ms();

	ERR(futex(words, FUTEX_WAIT_PRIVATE, 0, &(struct timespec){ 0, 30000000 }, NULL, 0), ETIMEDOUT);
	CHECK(now_ms() - start >= 30);
	ERR(futex(words, FUTEX_WAIT, 0, &(struct timespec){ 0, 1000000000 }, NULL, 0), EINVAL);
	ERR(futex(words, FUTEX_WAIT, 0, &(struct timespec){ -1, 0 }, NULL, 0), EINVAL);
}

TEST(absolute_timeout_of_bitset)
{
	struct timespec ts;
	long long start = now_ms();

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ts.tv_nsec += 30000000;
	if (ts.tv_nsec >= 1000000000) {
		ts.tv_nsec -= 1000000000;
		ts.tv_sec++;
	}
	ERR(futex(words, FUTEX_WAIT_BITSET, 0, &ts, NULL, ~0u), ETIMEDOUT);
	CHECK(now_ms() - start >= 29);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec--;
	ERR(futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &ts, NULL, ~0u), ETIMEDOUT);
	ERR(futex(words, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0), EINVAL);
}

TEST(errors)
{
	ERR(futex((char *)words + 1, FUTEX_WAIT, 0, NULL, NULL, 0), EINVAL);
	ERR(futex(BAD_PTR, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	ERR(futex(KERNEL_PTR, FUTEX_WAIT, 0, NULL, NULL, 0), EFAULT);
	ERR(futex(words, 99, 0, NULL, NULL, 0), ENOSYS);
	ERR(futex(words, FUTEX_WAIT | FUTEX_CLOCK_REALTIME | 0x400, 0, NULL, NULL, 0), ENOSYS);
	ERR(futex(words, FUTEX_WAIT, 0, BAD_PTR, NULL, 0), EFAULT);
}

struct waiter {
	pthread_t thread;
	volatile unsigned int *word;
	unsigned int mask;
	volatile int woken;
};

static void *wait_main(void *arg)
{
	struct waiter *w = arg;

	if (futex(w->word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, w->mask) == 0)
		w->woken = 1;
	return NULL;
}

static void start_waiters(struct waiter *w, int count, volatile unsigned int *word)
{
	for (int i = 0; i < count; i++) {
		w[i].word = word;
		w[i].mask = w[i].mask ? w[i].mask : ~0u;
		CHECK_EQ(pthread_create(&w[i].thread, NULL, wait_main, &w[i]), 0);
	}
	msleep(150);
}

TEST(wake_counts)
{
	struct waiter w[5] = { 0 };

	start_waiters(w, 5, &words[1]);
	CHECK_EQ(futex(&words[1], FUTEX_WAKE_PRIVATE, 2, NULL, NULL, 0), 2);
	CHECK_EQ(futex(&words[1], FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0), 3);
	for (int i = 0; i < 5; i++) {
		pthread_join(w[i].thread, NULL);
		CHECK_EQ(w[i].woken, 1);
	}
}

TEST(wake_bitset)
{
	struct waiter w[2] = { { .mask = 1 }, { .mask = 2 } };

	start_waiters(w, 2, &words[2]);
	CHECK_EQ(futex(&words[2], FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4), 0);
	CHECK_EQ(futex(&words[2], FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2), 1);
	pthread_join(w[1].thread, NULL);
	CHECK_EQ(w[0].woken, 0);
	CHECK_EQ(futex(&words[2], FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 3), 1);
	pthread_join(w[0].thread, NULL);
}

TEST(requeue)
{
	struct waiter w[4] = { 0 };

	start_waiters(w, 4, &words[3]);
	ERR(futex(&words[3], FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, (void *)&words[4], 7), EAGAIN);
	CHECK_EQ(futex(&words[3], FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, (void *)&words[4], 0), 3);
	CHECK_EQ(futex(&words[3], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 1);
	CHECK_EQ(futex(&words[4], FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0), 2);
	for (int i = 0; i < 4; i++)
		pthread_join(w[i].thread, NULL);
}

TEST(wake_op)
{
	struct waiter w[2] = { 0 };

	words[6] = 5;
	start_waiters(w, 1, &words[5]);
	/* words[6] = 9; wake one more on words[6] if it was 5. */
	CHECK_EQ(futex(&words[5], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, (void *)&words[6],
		       FUTEX_OP(FUTEX_OP_SET, 9, FUTEX_OP_CMP_EQ, 5)), 1);
	CHECK_EQ(words[6], 9);
	pthread_join(w[0].thread, NULL);
	futex(&words[5], FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, (void *)&words[6],
	      FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 5));
	CHECK_EQ(words[6], 12);
}

TEST(shared_between_processes)
{
	volatile unsigned int *word = shared_new(PAGE);

	CHILD(pid)
	{
		while (*word == 0)
			futex(word, FUTEX_WAIT, 0, NULL, NULL, 0);
		CHECK_EQ(*word, 1);
	}
	msleep(30);
	*word = 1;
	CHECK_EQ(futex(word, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	WAIT_EXIT(pid, 0);
}

TEST(shared_through_file)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(ftruncate(fd, PAGE));
	volatile unsigned int *a = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	volatile unsigned int *b = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	CHILD(pid)
	{
		CHECK_EQ(futex(a + 5, FUTEX_WAIT, 0, &(struct timespec){ 5, 0 }, NULL, 0), 0);
	}
	msleep(40);
	CHECK_EQ(futex(b + 5, FUTEX_WAKE, 1, NULL, NULL, 0), 1);
	WAIT_EXIT(pid, 0);
}

TEST(interrupted)
{
	interrupt_every(20, 0);
	ERR(futex(words, FUTEX_WAIT, 0, NULL, NULL, 0), EINTR);
	interrupt_every(20, SA_RESTART);
	ERR(futex(words, FUTEX_WAIT, 0, &(struct timespec){ 1, 0 }, NULL, 0), EINTR);
}

static pthread_mutex_t special;

static void *lock_and_die(void *arg)
{
	pthread_mutex_lock(&special);
	return arg;
}

TEST(robust_mutex)
{
	pthread_mutexattr_t attr;
	pthread_t thread;

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&special, &attr);
	CHECK_EQ(pthread_create(&thread, NULL, lock_and_die, NULL), 0);
	pthread_join(thread, NULL);
	CHECK_EQ(pthread_mutex_lock(&special), EOWNERDEAD);
	CHECK_EQ(pthread_mutex_consistent(&special), 0);
	CHECK_EQ(pthread_mutex_unlock(&special), 0);
	CHECK_EQ(pthread_mutex_lock(&special), 0);
}

TEST(robust_mutex_of_killed_process)
{
	pthread_mutexattr_t attr;
	pthread_mutex_t *mutex = shared_new(PAGE);

	pthread_mutexattr_init(&attr);
	pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(mutex, &attr);
	CHILD(pid)
	{
		pthread_mutex_lock(mutex);
		kill(getpid(), SIGKILL);
	}
	WAIT_SIGNAL(pid, SIGKILL);
	CHECK_EQ(pthread_mutex_lock(mutex), EOWNERDEAD);
}

TEST(robust_list_calls)
{
	void *head;
	size_t size;

	OK(syscall(SYS_get_robust_list, 0, &head, &size));
	CHECK_EQ(size, 24);
	ERR(syscall(SYS_set_robust_list, head, 1), EINVAL);
	ERR(syscall(SYS_get_robust_list, 999999, &head, &size), ESRCH);
}

static volatile unsigned int pi_word;
static volatile int pi_state;

static void *pi_hold(void *arg)
{
	CHECK_EQ(futex(&pi_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	pi_state = 1;
	msleep(50);
	CHECK_EQ(futex(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	return arg;
}

TEST(pi_lock)
{
	pthread_t thread;

	CHECK_EQ(futex(&pi_word, FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	CHECK_EQ(pi_word, (unsigned int)gettid());
	ERR(futex(&pi_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), EDEADLK);
	CHECK_EQ(futex(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	CHECK_EQ(pi_word, 0);
	CHECK_EQ(pthread_create(&thread, NULL, pi_hold, NULL), 0);
	while (!pi_state)
		msleep(1);
	ERR(futex(&pi_word, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0), EPERM);
	CHECK_EQ(futex(&pi_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0), 0);
	CHECK_EQ(pi_word & FUTEX_TID_MASK, (unsigned int)gettid());
	pthread_join(thread, NULL);
}

TEST(pi_mutex_and_condition)
{
	pthread_mutexattr_t attr;

	pthread_mutexattr_init(&attr);
	CHECK_EQ(pthread_mutexattr_setprotocol(&attr, PTHREAD_PRIO_INHERIT), 0);
	CHECK_EQ(pthread_mutex_init(&special, &attr), 0);
	CHECK_EQ(pthread_mutex_lock(&special), 0);
	CHECK_EQ(pthread_mutex_unlock(&special), 0);
}

TEST(waitv)
{
	struct { uint64_t val, uaddr; uint32_t flags, reserved; } v[2] = {
		{ 0, (uintptr_t)&words[8], 0x82, 0 }, { 0, (uintptr_t)&words[9], 0x82, 0 } };
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	long got = syscall(449, v, 2, 0, &ts, CLOCK_MONOTONIC);
	if (got == -1 && errno == ENOSYS)
		test_skip("futex_waitv");
	CHECK(got == -1 && errno == ETIMEDOUT);
	words[9] = 1;
	ERR(syscall(449, v, 2, 0, NULL, 0), EAGAIN);
	ERR(syscall(449, v, 0, 0, NULL, 0), EINVAL);
}
