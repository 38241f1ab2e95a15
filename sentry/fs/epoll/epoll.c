#include "sentry/fs/epoll/epoll.h"

#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "platform/base/rbtree.h"
#include "sentry/state/desc.h"

/* Instances may form chains of five: four edges between them. */
#define EPOLL_NEST_MAX 4
#define EPOLL_PRIVATE_BITS (EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE)
#define EPOLL_EXCLUSIVE_OK                                                                         \
	(EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM | EPOLLERR | EPOLLHUP | EPOLLWAKEUP |      \
	 EPOLLET | EPOLLEXCLUSIVE | EPOLLRDBAND | EPOLLWRBAND)

/*
 * Locks: topology_mu, then mu (an outer instance before the inner), then what the watched file's poll
 * takes; ready_mu is a leaf and is taken by wake callbacks under the watched file's queue.
 */
struct epoll {
	struct file *self;     /* const; weak: the file's release ends us */
	struct mutex mu;       /* LOCK_EPOLL: items, their settings, harvesting */
	struct rb_tree items;  /* epitem.node by (file, fd) */
	uint64_t pass;	       /* mu: number of the epoll_wait at work */
	struct mutex ready_mu; /* LOCK_LEAF: ready, epitem.ready_node */
	struct list_node ready;
	struct waitq waitq;
};

struct epitem {
	struct rb_node node;
	struct list_node ready_node;
	struct list_node file_node; /* file->epoll_items; topology_mu */
	struct waitq_entry entry;
	struct epoll *ep;
	struct file *file; /* weak: file_epoll_release removes the item first */
	int fd;
	uint32_t events; /* as asked, with flags; 0 in the low bits after EPOLLONESHOT fired */
	uint64_t data;
	uint64_t pass; /* the epoll_wait that last took it */
};

STATE_DESC(epoll, S_WEAK(epoll, 3, self, file),
	   S_NOSAVE(epoll, pass, "counts within one call"), S_NOSAVE(epoll, mu, "unheld at a safe point"),
	   S_LIST(epoll, 1, items, epitem), S_NOSAVE(epoll, ready_mu, "unheld at a safe point"),
	   S_LIST(epoll, 2, ready, epitem), S_NOSAVE(epoll, waitq, "waiters register again"));
STATE_DESC(epitem, S_NOSAVE(epitem, node, "the tree is rebuilt"),
	   S_NOSAVE(epitem, ready_node, "the list is rebuilt"),
	   S_NOSAVE(epitem, file_node, "linked again"), S_NOSAVE(epitem, entry, "registered again"),
	   S_WEAK(epitem, 1, ep, epoll), S_WEAK(epitem, 2, file, file), S_VAL(epitem, 3, fd),
	   S_VAL(epitem, 4, events), S_VAL(epitem, 5, data),
	   S_NOSAVE(epitem, pass, "counts within one call"));

/* Serialises changes of which file is watched by which instance: loops, file->epoll_items. */
static struct mutex topology_mu;

static const struct file_ops epoll_ops;

bool file_is_epoll(const struct file *f)
{
	return f->ops == &epoll_ops;
}

static void epoll_free(struct epoll *ep)
{
	waitq_fini(&ep->waitq);
	mutex_fini(&ep->ready_mu);
	mutex_fini(&ep->mu);
	free(ep);
}

static int item_compare(const struct file *file, int fd, const struct epitem *it)
{
	if (file != it->file)
		return (uintptr_t)file < (uintptr_t)it->file ? -1 : 1;
	return fd < it->fd ? -1 : fd > it->fd;
}

static struct epitem *item_find(struct epoll *ep, const struct file *file, int fd)
{
	struct rb_node *n = ep->items.root;

	while (n) {
		struct epitem *it = container_of(n, struct epitem, node);
		int c = item_compare(file, fd, it);

		if (c == 0)
			return it;
		n = c < 0 ? n->left : n->right;
	}
	return NULL;
}

static void item_link(struct epoll *ep, struct epitem *new)
{
	struct rb_node **link = &ep->items.root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = item_compare(new->file, new->fd, container_of(parent, struct epitem, node)) < 0 ?
			       &parent->left :
			       &parent->right;
	}
	rb_insert(&ep->items, parent, link, &new->node);
}

/* Wakes to hear of: objects announce POLLIN and POLLOUT, whichever synonym was asked for. */
static uint32_t item_wakes(uint32_t events)
{
	return (events & ~EPOLL_PRIVATE_BITS) | (events & (EPOLLRDNORM | EPOLLRDBAND) ? EPOLLIN : 0) |
	       (events & (EPOLLWRNORM | EPOLLWRBAND) ? EPOLLOUT : 0);
}

/* Puts the item on the ready list; true when it was not there. */
static bool item_set_ready(struct epitem *it)
{
	struct epoll *ep = it->ep;
	bool added = false;

	mutex_lock(&ep->ready_mu);
	if (list_empty(&it->ready_node)) {
		list_add_tail(&ep->ready, &it->ready_node);
		added = true;
	}
	mutex_unlock(&ep->ready_mu);
	return added;
}

static void item_clear_ready(struct epitem *it)
{
	mutex_lock(&it->ep->ready_mu);
	list_del(&it->ready_node);
	mutex_unlock(&it->ep->ready_mu);
}

static void item_wake(struct waitq_entry *e, uint32_t events UNUSED)
{
	struct epitem *it = container_of(e, struct epitem, entry);

	/* A disarmed one-shot item stays in the queue; its wakes mean nothing until EPOLL_CTL_MOD. */
	if (!(__atomic_load_n(&it->events, __ATOMIC_RELAXED) & ~EPOLL_PRIVATE_BITS))
		return;
	item_set_ready(it);
	e->declined = atomic_load_explicit(&it->ep->waitq.count, memory_order_relaxed) == 0;
	waitq_wake(&it->ep->waitq, POLLIN);
}

/* Events of the item's file that its owner wants to hear of now. ep->mu is held. */
static uint32_t item_poll(const struct epitem *it)
{
	uint32_t want = it->events & ~EPOLL_PRIVATE_BITS;

	return want ? file_poll(it->file, want) & (want | POLLERR | POLLHUP) : 0;
}

/* topology_mu and ep->mu are held. */
static void item_remove(struct epitem *it)
{
	struct epoll *ep = it->ep;

	waitq_remove(&it->entry);
	item_clear_ready(it);
	rb_erase(&ep->items, &it->node);
	list_del(&it->file_node);
	atomic_fetch_sub(&it->file->epoll_count, 1);
	free(it);
}

/* The last reference on f is gone: every instance forgets it. */
static void epoll_file_released(struct file *f)
{
	GUARD(mutex, &topology_mu);

	while (!list_empty(&f->epoll_items)) {
		struct epitem *it = list_entry(f->epoll_items.next, struct epitem, file_node);
		struct epoll *ep = it->ep;

		mutex_lock_nested(&ep->mu);
		item_remove(it);
		mutex_unlock(&ep->mu);
	}
}

static void epoll_release(struct file *f)
{
	struct epoll *ep = f->data;

	mutex_lock(&topology_mu);
	mutex_lock_nested(&ep->mu);
	while (ep->items.root)
		item_remove(container_of(ep->items.root, struct epitem, node));
	mutex_unlock(&ep->mu);
	mutex_unlock(&topology_mu);
	epoll_free(ep);
}

/* Is something ready? Drops level-triggered items whose event has gone. */
static uint32_t epoll_poll(struct file *f, uint32_t events UNUSED)
{
	struct epoll *ep = f->data;
	struct epitem *it;
	uint32_t ready = 0;

	mutex_lock_nested(&ep->mu);
	for (;;) {
		mutex_lock(&ep->ready_mu);
		it = list_first(&ep->ready, struct epitem, ready_node);
		if (it)
			list_del(&it->ready_node);
		mutex_unlock(&ep->ready_mu);
		if (!it)
			break;
		if (item_poll(it)) {
			mutex_lock(&ep->ready_mu);
			if (list_empty(&it->ready_node))
				list_add(&ep->ready, &it->ready_node);
			mutex_unlock(&ep->ready_mu);
			ready = POLLIN | POLLRDNORM;
			break;
		}
	}
	mutex_unlock(&ep->mu);
	return ready;
}

static struct waitq *epoll_waitq(struct file *f)
{
	struct epoll *ep = f->data;

	return &ep->waitq;
}

static size_t epoll_fdinfo(struct file *f, char *buf, size_t size)
{
	struct epoll *ep = f->data;
	size_t done = 0;
	GUARD(mutex, &ep->mu);

	for (struct rb_node *n = rb_first(&ep->items); n && done < size; n = rb_next(n)) {
		struct epitem *it = container_of(n, struct epitem, node);
		int k = snprintf(buf + done, size - done,
				 "tfd: %8d events: %8x data: %16llx  pos:%lli ino:%llx sdev:%x\n", it->fd,
				 it->events, (unsigned long long)it->data, (long long)it->file->pos,
				 (unsigned long long)it->file->inode->ino,
				 it->file->inode->sb ? (unsigned)it->file->inode->sb->dev : 0);

		if (k < 0 || (size_t)k >= size - done)
			break;
		done += (size_t)k;
	}
	return done;
}

static const struct file_ops epoll_ops = {
	.name = "epoll",
	.release = epoll_release,
	.stream = true,
	.poll = epoll_poll,
	.waitq = epoll_waitq,
	.fdinfo = epoll_fdinfo,
};

void epoll_init(void)
{
	mutex_init(&topology_mu, LOCK_EPOLL);
	file_epoll_release = epoll_file_released;
}

int epoll_new(const struct cred *cred, struct file **ret_file)
{
	struct epoll *ep = calloc(1, sizeof(*ep));
	int ret;

	if (!ep)
		return -ENOMEM;
	mutex_init(&ep->mu, LOCK_EPOLL);
	mutex_init(&ep->ready_mu, LOCK_LEAF);
	list_init(&ep->ready);
	waitq_init(&ep->waitq);
	ret = file_new_anon(&epoll_ops, "anon_inode:[eventpoll]", 0600, O_RDWR, cred, ep, ret_file);
	if (ret < 0) {
		epoll_free(ep);
		return ret;
	}
	ep->self = *ret_file;
	return 0;
}

/* Levels of instances below ep, or EPOLL_NEST_MAX + 1 when too deep or when avoid is found. topology_mu held. */
static int epoll_depth_below(struct epoll *ep, const struct epoll *avoid, int level)
{
	int deepest = 0;

	if (ep == avoid || level > EPOLL_NEST_MAX)
		return EPOLL_NEST_MAX + 1;
	mutex_lock_nested(&ep->mu);
	for (struct rb_node *n = rb_first(&ep->items); n && deepest <= EPOLL_NEST_MAX; n = rb_next(n)) {
		struct epitem *it = container_of(n, struct epitem, node);

		if (file_is_epoll(it->file))
			deepest = MAX(deepest, 1 + epoll_depth_below(it->file->data, avoid, level + 1));
	}
	mutex_unlock(&ep->mu);
	return deepest;
}

/* Levels of instances above f's. topology_mu held. */
static int epoll_depth_above(const struct file *f)
{
	int highest = 0;
	struct epitem *it;

	list_for_each(it, &f->epoll_items, file_node)
		highest = MAX(highest, 1 + epoll_depth_above(it->ep->self));
	return highest;
}

static int epoll_add(struct epoll *ep, struct file *target, int fd, const struct epoll_event *ev)
{
	struct epitem *it;
	int ret;

	GUARD(mutex, &topology_mu);
	if (file_is_epoll(target) &&
	    epoll_depth_below(target->data, ep, 0) + epoll_depth_above(ep->self) >= EPOLL_NEST_MAX)
		return -ELOOP;
	mutex_lock_nested(&ep->mu);
	ret = -EEXIST;
	if (item_find(ep, target, fd))
		goto out;
	ret = -ENOMEM;
	it = calloc(1, sizeof(*it));
	if (!it)
		goto out;
	list_init(&it->ready_node);
	list_init(&it->file_node);
	list_init(&it->entry.node);
	it->ep = ep;
	it->file = target;
	it->fd = fd;
	it->events = ev->events | EPOLLERR | EPOLLHUP;
	it->data = ev->data.u64;
	it->entry.events = item_wakes(it->events);
	it->entry.exclusive = ev->events & EPOLLEXCLUSIVE;
	it->entry.wake = item_wake;
	ret = file_wait_add(target, &it->entry);
	if (ret < 0) {
		free(it);
		goto out;
	}
	item_link(ep, it);
	list_add_tail(&target->epoll_items, &it->file_node);
	atomic_fetch_add(&target->epoll_count, 1);
	if (item_poll(it) && item_set_ready(it))
		waitq_wake(&ep->waitq, POLLIN);
out:
	mutex_unlock(&ep->mu);
	return ret;
}

static int epoll_modify(struct epoll *ep, struct file *target, int fd, const struct epoll_event *ev)
{
	struct epitem *it;
	struct waitq *q;

	GUARD(mutex, &ep->mu);
	it = item_find(ep, target, fd);
	if (!it)
		return -ENOENT;
	if ((it->events | ev->events) & EPOLLEXCLUSIVE)
		return -EINVAL;
	it->data = ev->data.u64;
	__atomic_store_n(&it->events, ev->events | EPOLLERR | EPOLLHUP, __ATOMIC_RELAXED);
	/* The queue's lock protects what a wake looks at. */
	q = it->entry.q;
	if (q)
		mutex_lock(&q->mu);
	it->entry.events = item_wakes(it->events);
	if (q)
		mutex_unlock(&q->mu);
	if (item_poll(it) && item_set_ready(it))
		waitq_wake(&ep->waitq, POLLIN);
	return 0;
}

static int epoll_delete(struct epoll *ep, struct file *target, int fd)
{
	struct epitem *it;

	GUARD(mutex, &topology_mu);
	mutex_lock_nested(&ep->mu);
	it = item_find(ep, target, fd);
	if (it)
		item_remove(it);
	mutex_unlock(&ep->mu);
	return it ? 0 : -ENOENT;
}

int epoll_ctl_file(struct file *epf, int op, struct file *target, int fd, const struct epoll_event *ev)
{
	struct epoll *ep;

	if (target == epf || !file_is_epoll(epf))
		return -EINVAL;
	ep = epf->data;
	if (op != EPOLL_CTL_DEL && (ev->events & EPOLLEXCLUSIVE) &&
	    (op == EPOLL_CTL_MOD || file_is_epoll(target) || (ev->events & ~EPOLL_EXCLUSIVE_OK)))
		return -EINVAL;
	switch (op) {
	case EPOLL_CTL_ADD:
		return epoll_add(ep, target, fd, ev);
	case EPOLL_CTL_MOD:
		return epoll_modify(ep, target, fd, ev);
	case EPOLL_CTL_DEL:
		return epoll_delete(ep, target, fd);
	default:
		return -EINVAL;
	}
}

int epoll_harvest(struct file *f, struct epoll_event *ev, int max, bool first)
{
	struct epoll *ep = f->data;
	struct list_node again = LIST_INIT(again), todo = LIST_INIT(todo);
	struct epitem *it;
	int count = 0;

	/* A look without locks: most calls of a busy loop find something, most of an idle one nothing. */
	if (list_empty(&ep->ready))
		return 0;
	GUARD(mutex, &ep->mu);
	ep->pass += first;
	mutex_lock(&ep->ready_mu);
	list_splice_tail(&todo, &ep->ready);
	while (count < max && (it = list_first(&todo, struct epitem, ready_node)) != NULL) {
		uint32_t revents;

		if (it->pass == ep->pass)
			break; /* a round is complete: one event a file in each call */
		list_del(&it->ready_node);
		/* Wakes from here on put the item back on the list, which is what they should do. */
		mutex_unlock(&ep->ready_mu);
		revents = item_poll(it);
		if (revents) {
			it->pass = ep->pass;
			ev[count].events = revents;
			ev[count++].data.u64 = it->data;
			if (it->events & EPOLLONESHOT)
				__atomic_store_n(&it->events, it->events & EPOLL_PRIVATE_BITS, __ATOMIC_RELAXED);
		}
		mutex_lock(&ep->ready_mu);
		if (revents && !(it->events & (EPOLLET | EPOLLONESHOT))) {
			list_del(&it->ready_node);
			list_add_tail(&again, &it->ready_node);
		}
	}
	/* What was not looked at comes first next time, then what may still be ready. */
	list_splice_tail(&todo, &ep->ready);
	list_splice_tail(&todo, &again);
	list_splice_tail(&ep->ready, &todo);
	mutex_unlock(&ep->ready_mu);
	return count;
}

void epoll_pass_on(struct file *f)
{
	struct epoll *ep = f->data;

	if (!list_empty(&ep->ready))
		waitq_wake(&ep->waitq, POLLIN);
}

struct file *epoll_find_fd(struct file *f, int fd, unsigned toff)
{
	struct epoll *ep = f->data;
	GUARD(mutex, &ep->mu);

	for (struct rb_node *n = rb_first(&ep->items); n; n = rb_next(n)) {
		struct epitem *it = container_of(n, struct epitem, node);

		if (it->fd == fd && toff-- == 0)
			return it->file;
	}
	return NULL;
}
