/* notifier: edges, events present already, modify, removal from inside and outside, many threads. */
#include "platform/host/notifier.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "platform/host/thread.h"

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

struct counter {
	struct host_watch w;
	_Atomic int calls;
	_Atomic uint32_t events;
	struct host_watch *_Atomic remove; /* removed by the callback */
};

static void ready(struct host_watch *w, uint32_t events)
{
	struct counter *c = container_of(w, struct counter, w);

	c->events |= events;
	c->calls++;
	if (c->remove)
		notifier_remove(c->remove);
}

/* Waits up to two seconds for at least n calls. */
static bool wait_calls(struct counter *c, int n)
{
	for (int i = 0; i < 2000 && c->calls < n; i++)
		usleep(1000);
	return c->calls >= n;
}

static void test_edges(void)
{
	struct counter c = { .w.ready = ready };
	int p[2];
	char buf[8];

	if (pipe2(p, O_NONBLOCK | O_CLOEXEC) < 0)
		abort();
	CHECK(write(p[1], "x", 1) == 1);
	c.w.fd = p[0];
	CHECK(notifier_add(&c.w, EPOLLIN) == 0);
	CHECK(wait_calls(&c, 1) && (c.events & EPOLLIN)); /* was there already */
	usleep(20000);
	CHECK(c.calls == 1); /* not called again and again while unread */
	CHECK(write(p[1], "y", 1) == 1 && wait_calls(&c, 2));
	CHECK(read(p[0], buf, sizeof(buf)) == 2);
	CHECK(host_poll_fd(p[0], POLLIN) == 0 && host_poll_fd(p[1], POLLOUT) == POLLOUT);
	close(p[1]);
	CHECK(wait_calls(&c, 3) && (c.events & EPOLLHUP));
	CHECK(notifier_modify(&c.w, EPOLLIN) == 0 && wait_calls(&c, 4));
	notifier_remove(&c.w);
	notifier_remove(&c.w);
	CHECK(notifier_modify(&c.w, EPOLLIN) == -ENOENT);
	close(p[0]);
	CHECK(host_poll_fd(p[0], POLLIN) == POLLNVAL);
}

static void test_regular_file(void)
{
	struct counter c = { .w = { .ready = ready } };
	char name[] = "/tmp/notifier-XXXXXX";

	c.w.fd = mkstemp(name);
	unlink(name);
	CHECK(notifier_add(&c.w, EPOLLIN) == -EPERM && !c.w.added);
	close(c.w.fd);
}

static void test_remove_from_callback(void)
{
	struct counter a = { .w.ready = ready }, b = { .w.ready = ready };
	int p[2], q[2];

	if (pipe2(p, O_CLOEXEC) < 0 || pipe2(q, O_CLOEXEC) < 0)
		abort();
	a.w.fd = p[0];
	b.w.fd = q[0];
	a.remove = &a.w;
	b.remove = &b.w;
	CHECK(notifier_add(&a.w, EPOLLIN) == 0 && notifier_add(&b.w, EPOLLIN) == 0);
	CHECK(write(p[1], "x", 1) == 1 && wait_calls(&a, 1));
	CHECK(write(p[1], "x", 1) == 1);
	CHECK(write(q[1], "x", 1) == 1 && wait_calls(&b, 1));
	usleep(20000);
	CHECK(a.calls == 1 && b.calls == 1);
	notifier_remove(&a.w);
	notifier_remove(&b.w);
	for (int i = 0; i < 2; i++) {
		close(p[i]);
		close(q[i]);
	}
}

/* Adds, triggers, removes and frees in a loop: the sanitizers see a late callback. */
static void *churn(void *arg)
{
	_Atomic int *running = *(_Atomic int **)arg;

	for (int i = 0; i < 2000; i++) {
		struct counter *c = calloc(1, sizeof(*c));
		int p[2];

		if (!c || pipe2(p, O_CLOEXEC) < 0)
			abort();
		c->w.ready = ready;
		c->w.fd = p[0];
		if (notifier_add(&c->w, EPOLLIN) < 0 || write(p[1], "x", 1) != 1)
			abort();
		notifier_remove(&c->w);
		close(p[0]);
		close(p[1]);
		free(c);
	}
	(*running)--;
	return NULL;
}

static void test_churn(void)
{
	static _Atomic int running = 3;
	static _Atomic int *running_p = &running;

	for (int i = 0; i < 3; i++)
		CHECK(host_thread_start("churn", HOST_THREAD_STACK, churn, &running_p) == 0);
	for (int i = 0; i < 20000 && running; i++)
		usleep(1000);
	CHECK(running == 0);
}

int main(void)
{
	CHECK(notifier_init() == 0);
	test_edges();
	test_regular_file();
	test_remove_from_callback();
	test_churn();
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
