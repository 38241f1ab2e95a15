/*
 * inotify instances: a queue of events and watches. Two locks: watch_mu (LOCK_EPOLL, before inode
 * watch lists) orders adding and removing; mu (LOCK_OBJECT, inside them) protects the queue.
 * A watch that ends by itself (its inode was deleted, IN_ONESHOT) is marked dead in the event and
 * reaped at the next call that holds watch_mu, because the list it is on is locked then.
 */
#include "sentry/fs/inotify/inotify.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "sentry/state/desc.h"
#include "sentry/vfs/notify.h"

#define QUEUE_MAX 16384u   /* fs.inotify.max_queued_events */
#define WATCHES_MAX 65536u /* fs.inotify.max_user_watches, here of one instance */

/* struct inotify_event without its name. */
struct event_head {
	int32_t wd;
	uint32_t mask, cookie, len;
};
_Static_assert(sizeof(struct event_head) == sizeof(struct inotify_event), "the guest's layout");

struct event {
	struct list_node node;
	uint32_t name_size; /* padded */
	struct event_head head;
	char name[];
};

struct inotify {
	struct mutex watch_mu; /* LOCK_EPOLL: watches, next_wd, count */
	struct list_node watches;
	unsigned count;
	int32_t next_wd;
	struct mutex mu; /* LOCK_OBJECT: events, queued */
	struct list_node events;
	unsigned queued;
	uint64_t bytes;
	_Atomic bool reap; /* some watch is dead */
	struct waitq q;
};

struct watch {
	struct notify_watch nw;
	struct list_node node;
	struct inotify *in;
	int32_t wd;
	_Atomic bool dead;
};

STATE_DESC(inotify, S_NOSAVE(inotify, watch_mu, "free at a safe point"), S_LIST(inotify, 1, watches, watch),
	   S_VAL(inotify, 2, count), S_VAL(inotify, 3, next_wd), S_NOSAVE(inotify, mu, "free at a safe point"),
	   S_LIST(inotify, 4, events, event), S_VAL(inotify, 5, queued), S_VAL(inotify, 6, bytes),
	   S_VAL(inotify, 7, reap), S_NOSAVE(inotify, q, "waiters register again"));

STATE_DESC(event, S_NOSAVE(event, node, "linked again"), S_VAL(event, 1, name_size), S_VAL(event, 2, head));
STATE_DESC(watch, S_EMBED(watch, 1, nw, notify_watch), S_NOSAVE(watch, node, "linked again"), S_WEAK(watch, 2, in, inotify),
	   S_VAL(watch, 3, wd), S_VAL(watch, 4, dead));
STATE_DESC(notify_watch, S_NOSAVE(notify_watch, ops, "by the watcher's kind"),
	   S_NOSAVE(notify_watch, watcher, "the instance that owns the watch"), S_REF(notify_watch, 1, inode, inode),
	   S_VAL(notify_watch, 2, mask), S_NOSAVE(notify_watch, inode_node, "linked again"));

/* Appends an event; equal neighbours become one, and a full queue ends with one overflow mark. */
static void queue_event(struct inotify *in, int32_t wd, uint32_t mask, uint32_t cookie, const char *name)
{
	size_t len = name ? strlen(name) + 1 : 0, padded = ALIGN_UP(len, sizeof(struct inotify_event));
	struct event *e = calloc(1, sizeof(*e) + padded), *last;
	bool drop;

	if (!e)
		return;
	mutex_lock(&in->mu);
	if (in->queued >= QUEUE_MAX) {
		wd = -1;
		mask = IN_Q_OVERFLOW;
		cookie = 0;
		len = padded = 0;
	}
	e->name_size = (uint32_t)padded;
	e->head = (struct event_head){ .wd = wd, .mask = mask, .cookie = cookie, .len = (uint32_t)padded };
	if (len)
		memcpy(e->name, name, len);
	last = list_last(&in->events, struct event, node);
	drop = last && memcmp(&last->head, &e->head, sizeof(e->head)) == 0 &&
	       memcmp(last->name, e->name, padded) == 0;
	if (!drop) {
		list_add_tail(&in->events, &e->node);
		in->queued++;
		in->bytes += sizeof(e->head) + padded;
	}
	mutex_unlock(&in->mu);
	if (drop)
		free(e);
	else
		waitq_wake(&in->q, POLLIN | POLLRDNORM);
}

static void watch_event(struct notify_watch *nw, uint32_t mask, uint32_t cookie, const char *name)
{
	struct watch *w = container_of(nw, struct watch, nw);
	struct inotify *in = w->in;

	if (w->dead)
		return;
	if (nw->mask & IN_EXCL_UNLINK && name && mask & IN_DELETE_SELF)
		return;
	if (nw->mask & mask & IN_ALL_EVENTS || mask & IN_UNMOUNT)
		queue_event(in, w->wd, mask, cookie, name);
	if ((mask & IN_DELETE_SELF && !name) || mask & IN_UNMOUNT || nw->mask & IN_ONESHOT) {
		w->dead = true;
		in->reap = true;
		queue_event(in, w->wd, IN_IGNORED, 0, NULL);
	}
}

static const struct notify_ops watch_ops = { .event = watch_event };

/* Takes w off its inode and instance, onto gone; watch_mu held. */
static void watch_unlink(struct watch *w, struct list_node *gone)
{
	notify_watch_remove(&w->nw);
	list_del(&w->node);
	list_add_tail(gone, &w->node);
	w->in->count--;
}

static void reap_locked(struct inotify *in, struct list_node *gone)
{
	struct watch *w, *tmp;

	if (!in->reap)
		return;
	in->reap = false;
	list_for_each_safe(w, tmp, &in->watches, node) {
		if (w->dead)
			watch_unlink(w, gone);
	}
}

/* Frees unlinked watches with what they kept alive. No locks held. */
static void watches_free(struct list_node *gone)
{
	struct watch *w, *tmp;

	list_for_each_safe(w, tmp, gone, node) {
		struct superblock *sb = w->nw.inode->sb;

		inode_put(w->nw.inode);
		superblock_put(sb);
		free(w);
	}
}

static void reap(struct inotify *in)
{
	struct list_node gone = LIST_INIT(gone);

	if (!in->reap)
		return;
	mutex_lock(&in->watch_mu);
	reap_locked(in, &gone);
	mutex_unlock(&in->watch_mu);
	watches_free(&gone);
}

static struct event *next_event(struct inotify *in, uint64_t room, int *ret_err)
{
	struct event *e;

	GUARD(mutex, &in->mu);
	e = list_first(&in->events, struct event, node);
	*ret_err = e ? -EINVAL : -EAGAIN;
	if (!e || sizeof(e->head) + e->name_size > room)
		return NULL;
	list_del(&e->node);
	in->queued--;
	in->bytes -= sizeof(e->head) + e->name_size;
	return e;
}

static int64_t inotify_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct inotify *in = f->data;
	int64_t done = 0;
	int err = 0;

	(void)pos;
	for (;;) {
		struct event *e = next_event(in, u->resid, &err);
		int64_t want, r;

		if (!e)
			break;
		want = (int64_t)(sizeof(e->head) + e->name_size);
		r = uio_write(u, &e->head, sizeof(e->head));
		if (r == (int64_t)sizeof(e->head) && e->name_size) {
			int64_t n = uio_write(u, e->name, e->name_size);

			r = n < 0 ? n : r + n;
		}
		free(e);
		if (r != want) {
			err = -EFAULT;
			break;
		}
		done += r;
	}
	reap(in);
	return done ? done : err;
}

static uint32_t inotify_poll(struct file *f, uint32_t events)
{
	struct inotify *in = f->data;

	(void)events;
	GUARD(mutex, &in->mu);
	return in->queued ? POLLIN | POLLRDNORM : 0;
}

static struct waitq *inotify_waitq(struct file *f)
{
	return &((struct inotify *)f->data)->q;
}

static int64_t inotify_ioctl(struct file *f, uint32_t cmd, uint64_t arg, struct umem *um)
{
	struct inotify *in = f->data;
	int32_t n;

	if (cmd != FIONREAD)
		return -ENOTTY;
	mutex_lock(&in->mu);
	n = (int32_t)in->bytes;
	mutex_unlock(&in->mu);
	return copy_out_struct(um, UADDR(arg), &n);
}

/* proc(5): one line for each watch. */
static size_t inotify_fdinfo(struct file *f, char *buf, size_t size)
{
	struct inotify *in = f->data;
	struct watch *w;
	size_t used = 0;

	GUARD(mutex, &in->watch_mu);
	list_for_each(w, &in->watches, node) {
		int n = snprintf(buf + used, size - used, "inotify wd:%x ino:%llx sdev:%llx mask:%x ignored_mask:0\n",
				 (unsigned)w->wd, (unsigned long long)w->nw.inode->ino,
				 (unsigned long long)w->nw.inode->sb->dev, w->nw.mask);

		if (n < 0 || (size_t)n >= size - used)
			break;
		used += (size_t)n;
	}
	return used;
}

static void inotify_release(struct file *f)
{
	struct inotify *in = f->data;
	struct list_node gone = LIST_INIT(gone);
	struct watch *w, *wtmp;
	struct event *e, *etmp;

	mutex_lock(&in->watch_mu);
	list_for_each_safe(w, wtmp, &in->watches, node)
		watch_unlink(w, &gone);
	mutex_unlock(&in->watch_mu);
	watches_free(&gone);
	list_for_each_safe(e, etmp, &in->events, node) {
		list_del(&e->node);
		free(e);
	}
	waitq_fini(&in->q);
	mutex_fini(&in->mu);
	mutex_fini(&in->watch_mu);
	free(in);
}

/* There is no position, but lseek succeeds. */
static int64_t inotify_seek(struct file *f, int64_t offset, int whence)
{
	(void)f;
	(void)offset;
	(void)whence;
	return 0;
}

static const struct file_ops inotify_ops = {
	.name = "inotify",
	.release = inotify_release,
	.read = inotify_read,
	.stream = true,
	.seek = inotify_seek,
	.ioctl = inotify_ioctl,
	.poll = inotify_poll,
	.waitq = inotify_waitq,
	.fdinfo = inotify_fdinfo,
};

int inotify_new(int flags, const struct cred *cred, struct file **ret_file)
{
	struct inotify *in = calloc(1, sizeof(*in));
	int r;

	if (!in)
		return -ENOMEM;
	mutex_init(&in->watch_mu, LOCK_EPOLL);
	mutex_init(&in->mu, LOCK_OBJECT);
	waitq_init(&in->q);
	list_init(&in->watches);
	list_init(&in->events);
	in->next_wd = 1;
	r = file_new_anon(&inotify_ops, "anon_inode:inotify", 0600, O_RDONLY | flags, cred, in, ret_file);
	if (r < 0)
		free(in);
	return r;
}

int inotify_add(struct file *f, struct inode *inode, uint32_t mask)
{
	uint32_t events = mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK);
	struct inotify *in;
	struct notify_watch *nw;
	struct watch *w;
	int r;

	if (f->ops != &inotify_ops)
		return -EINVAL;
	in = f->data;
	reap(in);
	GUARD(mutex, &in->watch_mu);
	nw = notify_watch_find(inode, in);
	if (nw) {
		if (mask & IN_MASK_CREATE)
			return -EEXIST;
		nw->mask = mask & IN_MASK_ADD ? nw->mask | events : events;
		return container_of(nw, struct watch, nw)->wd;
	}
	if (in->count >= WATCHES_MAX)
		return -ENOSPC;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	w->in = in;
	w->wd = in->next_wd;
	w->nw = (struct notify_watch){ .ops = &watch_ops, .watcher = in, .mask = events };
	list_init(&w->nw.inode_node);
	r = notify_watch_add(inode, &w->nw);
	if (r < 0) {
		free(w);
		return r;
	}
	inode_get(inode);
	superblock_get(inode->sb); /* an inode does not keep it */
	in->next_wd++;
	in->count++;
	list_add_tail(&in->watches, &w->node);
	return w->wd;
}

int inotify_remove(struct file *f, int wd)
{
	struct list_node gone = LIST_INIT(gone);
	struct inotify *in;
	struct watch *w;

	if (f->ops != &inotify_ops)
		return -EINVAL;
	in = f->data;
	mutex_lock(&in->watch_mu);
	reap_locked(in, &gone);
	list_for_each(w, &in->watches, node) {
		if (w->wd == wd)
			break;
	}
	if (&w->node == &in->watches)
		wd = -1;
	else
		watch_unlink(w, &gone);
	mutex_unlock(&in->watch_mu);
	watches_free(&gone);
	if (wd < 0)
		return -EINVAL;
	queue_event(in, wd, IN_IGNORED, 0, NULL);
	return 0;
}
