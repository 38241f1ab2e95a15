/* epoll over eventfds: level and edge, one-shot, nesting and loops, files that go away. */
#include <poll.h>

#include "sentry/fs/epoll/epoll.h"
#include "sentry/fs/eventfd/eventfd.h"
#include "tests/unit/vfs_fixture.h"

static struct file *ep;

static void begin(void)
{
	start();
	epoll_init();
	CHECK_EQ(epoll_new(w.cred, &ep), 0);
}

static struct file *event(unsigned count)
{
	struct file *f;

	CHECK_EQ(eventfd_new(count, O_NONBLOCK, w.cred, &f), 0);
	return f;
}

static int add(struct file *e, struct file *f, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.u64 = (uint64_t)fd };

	return epoll_ctl_file(e, EPOLL_CTL_ADD, f, fd, &ev);
}

static int harvest(struct file *e, struct epoll_event *ev)
{
	return epoll_harvest(e, ev, 8, true);
}

TEST(level_and_edge)
{
	struct epoll_event ev[8];
	struct file *l, *e;
	uint64_t v;

	begin();
	l = event(1);
	e = event(1);
	CHECK_EQ(add(ep, l, 3, EPOLLIN), 0);
	CHECK_EQ(add(ep, l, 3, EPOLLIN), -EEXIST);
	CHECK_EQ(add(ep, e, 4, EPOLLIN | EPOLLET), 0);
	CHECK_EQ(harvest(ep, ev), 2);
	CHECK_EQ(harvest(ep, ev), 1);
	CHECK_EQ(ev[0].data.u64, 3);
	eventfd_signal(e, 1);
	CHECK_EQ(harvest(ep, ev), 2);
	CHECK_EQ(read_at(l, &v, 8, -1), 8);
	CHECK_EQ(harvest(ep, ev), 0);
	CHECK_EQ(file_poll(ep, POLLIN) & POLLIN, 0);
	file_put(l);
	eventfd_signal(e, 1);
	CHECK_EQ(file_poll(ep, POLLIN) & POLLIN, POLLIN);
	file_put(e);
	CHECK_EQ(harvest(ep, ev), 0);
	file_put(ep);
}

TEST(oneshot)
{
	struct epoll_event ev[8], mod = { .events = EPOLLIN | EPOLLONESHOT, .data.u64 = 9 };
	struct file *f;

	begin();
	f = event(1);
	CHECK_EQ(add(ep, f, 3, EPOLLIN | EPOLLONESHOT), 0);
	CHECK_EQ(harvest(ep, ev), 1);
	eventfd_signal(f, 1);
	CHECK_EQ(harvest(ep, ev), 0);
	CHECK_EQ(epoll_ctl_file(ep, EPOLL_CTL_MOD, f, 3, &mod), 0);
	CHECK_EQ(harvest(ep, ev), 1);
	CHECK_EQ(ev[0].data.u64, 9);
	CHECK_EQ(epoll_ctl_file(ep, EPOLL_CTL_DEL, f, 3, NULL), 0);
	CHECK_EQ(epoll_ctl_file(ep, EPOLL_CTL_DEL, f, 3, NULL), -ENOENT);
	file_put(ep);
	file_put(f);
}

TEST(nesting)
{
	struct epoll_event ev[8];
	struct file *chain[6], *f;

	begin();
	f = event(0);
	for (int i = 0; i < 6; i++)
		CHECK_EQ(epoll_new(w.cred, &chain[i]), 0);
	CHECK_EQ(add(chain[0], f, 100, EPOLLIN), 0);
	for (int i = 1; i < 5; i++)
		CHECK_EQ(add(chain[i], chain[i - 1], i, EPOLLIN), 0);
	CHECK_EQ(add(chain[5], chain[4], 5, EPOLLIN), -ELOOP);
	CHECK_EQ(add(chain[0], chain[2], 6, EPOLLIN), -ELOOP);
	CHECK_EQ(add(chain[0], chain[0], 6, EPOLLIN), -EINVAL);
	CHECK_EQ(harvest(chain[4], ev), 0);
	eventfd_signal(f, 1);
	CHECK_EQ(harvest(chain[4], ev), 1);
	CHECK_EQ(ev[0].data.u64, 4);
	for (int i = 0; i < 6; i++)
		file_put(chain[i]);
	file_put(f);
	file_put(ep);
}

TEST(each_file_once)
{
	struct epoll_event ev[64];
	struct file *f[40];
	bool seen[40] = { false };
	int n = 0, k;

	begin();
	for (int i = 0; i < 40; i++) {
		f[i] = event(1);
		CHECK_EQ(add(ep, f[i], i, EPOLLIN), 0);
	}
	while ((k = epoll_harvest(ep, ev, 16, n == 0)) > 0) {
		for (int i = 0; i < k; i++) {
			CHECK(!seen[ev[i].data.u64]);
			seen[ev[i].data.u64] = true;
		}
		n += k;
	}
	CHECK_EQ(n, 40);
	for (int i = 0; i < 40; i++)
		file_put(f[i]);
	file_put(ep);
}
