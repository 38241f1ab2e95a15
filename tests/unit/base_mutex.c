/* mutex, cond, refcount: exclusion, time-out, rank check (debug builds), misuse aborts. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/base/mutex.h"
#include "platform/base/refcount.h"

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

static struct mutex mu;
static struct cond cv;
static int counter, turn;

static void *adder(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		GUARD(mutex, &mu);
		counter++;
	}
	return arg;
}

static void *waker(void *arg)
{
	mutex_lock(&mu);
	turn = 1;
	cond_broadcast(&cv);
	mutex_unlock(&mu);
	return arg;
}

/* True when fn ends its process by SIGABRT. */
static bool aborts(void (*fn)(void))
{
	int st;
	pid_t pid = fork();

	if (pid == 0) {
		log_init(-1, LOG_TEXT, LOG_ERROR, "test");
		fn();
		_exit(0);
	}
	return waitpid(pid, &st, 0) == pid && WIFSIGNALED(st) && WTERMSIG(st) == SIGABRT;
}

static void put_dead(void)
{
	struct refcount r;

	refcount_init(&r, 1);
	if (refcount_put(&r) && refcount_put(&r))
		_exit(1);
}

static void wrong_order(void)
{
	struct mutex low, high;

	mutex_init(&low, 1);
	mutex_init(&high, 2);
	mutex_lock(&high);
	mutex_lock(&low);
}

static void right_order(void)
{
	struct mutex low, high, twin;

	mutex_init(&low, 1);
	mutex_init(&high, 2);
	mutex_init(&twin, 2);
	mutex_lock(&low);
	mutex_lock(&high);
	mutex_lock_nested(&twin);
	mutex_assert_held(&low);
	mutex_unlock(&low);
	mutex_unlock(&high);
	mutex_unlock(&twin);
}

int main(void)
{
	pthread_t a, b;
	struct timespec now;
	struct refcount r;

	mutex_init(&mu, 5);
	cond_init(&cv);
	pthread_create(&a, NULL, adder, NULL);
	pthread_create(&b, NULL, adder, NULL);
	pthread_join(a, NULL);
	pthread_join(b, NULL);
	CHECK(counter == 40000);

	clock_gettime(CLOCK_MONOTONIC, &now);
	mutex_lock(&mu);
	CHECK(cond_wait_until(&cv, &mu, now.tv_sec * 1000000000LL + now.tv_nsec + 5000000) == -ETIMEDOUT);
	pthread_create(&a, NULL, waker, NULL);
	while (!turn)
		CHECK(cond_wait_until(&cv, &mu, INT64_MAX) == 0);
	CHECK(!mutex_trylock(&mu));
	mutex_unlock(&mu);
	pthread_join(a, NULL);
	CHECK(mutex_trylock(&mu));
	mutex_unlock(&mu);
	cond_fini(&cv);
	mutex_fini(&mu);

	refcount_init(&r, 1);
	CHECK(refcount_try_get(&r) && !refcount_put(&r) && refcount_put(&r) && !refcount_try_get(&r));
	CHECK(aborts(put_dead));
	CHECK(!aborts(right_order));
#ifdef DEBUG_LOCKS
	CHECK(aborts(wrong_order));
#else
	CHECK(!aborts(wrong_order));
#endif
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
