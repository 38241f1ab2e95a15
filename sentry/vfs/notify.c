/*
 * Watches on inodes (inotify(7)). An inode's watch list is made on first use and kept until the inode
 * goes; a watch belongs to a watcher (an inotify instance), which is told through its ops. Lock: each
 * list's own (LOCK_FS_DATA); a watcher's lock is taken inside.
 */
#include <stdlib.h>

#include <sys/inotify.h>

#include "sentry/vfs/notify.h"
#include "sentry/vfs/vfs_priv.h"

struct inode_watches {
	struct mutex mu; /* LOCK_FS_DATA */
	struct list_node watches; /* notify_watch.inode_node */
};

_Atomic unsigned notify_watch_total;
static _Atomic uint32_t next_cookie = 1;

/* A number that ties IN_MOVED_FROM to IN_MOVED_TO. */
uint32_t notify_cookie(void)
{
	return atomic_fetch_add(&next_cookie, 1);
}

static struct inode_watches *watches_of(struct inode *i)
{
	return __atomic_load_n(&i->watches, __ATOMIC_ACQUIRE);
}

/* Adds w, with w->ops and w->mask set, to i. -ENOMEM. The caller keeps i referenced while w is there. */
int notify_watch_add(struct inode *i, struct notify_watch *w)
{
	struct inode_watches *l = watches_of(i), *expected = NULL;

	if (!l) {
		l = calloc(1, sizeof(*l));
		if (!l)
			return -ENOMEM;
		mutex_init(&l->mu, LOCK_FS_DATA);
		list_init(&l->watches);
		if (!__atomic_compare_exchange_n(&i->watches, &expected, l, false, __ATOMIC_ACQ_REL,
						 __ATOMIC_ACQUIRE)) {
			mutex_fini(&l->mu);
			free(l);
			l = expected;
		}
	}
	GUARD(mutex, &l->mu);
	list_add_tail(&l->watches, &w->inode_node);
	w->inode = i;
	atomic_fetch_add(&notify_watch_total, 1);
	return 0;
}

/* Takes w off its inode; harmless when it is off. On return w's ops do not run any more. */
void notify_watch_remove(struct notify_watch *w)
{
	struct inode_watches *l = w->inode ? watches_of(w->inode) : NULL;

	if (!l)
		return;
	GUARD(mutex, &l->mu);
	if (!list_empty(&w->inode_node)) {
		list_del(&w->inode_node);
		atomic_fetch_sub(&notify_watch_total, 1);
	}
}

/* The watch of watcher on i, NULL when it has none. The watcher serialises adding and removing. */
struct notify_watch *notify_watch_find(struct inode *i, const void *watcher)
{
	struct inode_watches *l = watches_of(i);
	struct notify_watch *w;

	if (!l)
		return NULL;
	GUARD(mutex, &l->mu);
	list_for_each(w, &l->watches, inode_node) {
		if (w->watcher == watcher)
			return w;
	}
	return NULL;
}

/* Tells the watches of i. name: of the child concerned, NULL when it is i itself. Any locks above
 * FS_DATA may be held. */
void notify_send(struct inode *i, uint32_t mask, uint32_t cookie, const char *name)
{
	struct inode_watches *l;
	struct notify_watch *w;

	if (!notify_watch_total)
		return;
	l = watches_of(i);
	if (!l)
		return;
	if (S_ISDIR(i->mode) && !name && mask & ~(uint32_t)(IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT))
		mask |= IN_ISDIR;
	GUARD(mutex, &l->mu);
	list_for_each(w, &l->watches, inode_node) {
		if (w->mask & mask & IN_ALL_EVENTS || mask & IN_UNMOUNT)
			w->ops->event(w, mask, cookie, name);
	}
}

/* Tells the watches of directory dir about its child name. */
void notify_dir(struct inode *dir, uint32_t mask, uint32_t cookie, const char *name)
{
	notify_send(dir, mask, cookie, name);
}

void vfs_notify(struct dentry *d, uint32_t mask)
{
	AUTO(dentry_put) struct dentry *parent = NULL;
	char name[NAME_MAX_GUEST + 1];

	if (!notify_watch_total || !d->inode)
		return;
	mutex_lock(&dcache_mu);
	if (d->parent && d->hashed && d->parent->inode && watches_of(d->parent->inode)) {
		parent = dentry_get(d->parent);
		memcpy(name, d->name, d->name_len + 1);
	}
	mutex_unlock(&dcache_mu);
	if (parent)
		notify_send(parent->inode, S_ISDIR(d->inode->mode) ? mask | IN_ISDIR : mask, 0, name);
	notify_send(d->inode, mask, 0, NULL);
}

/* What happened to an open file. */
void notify_file(struct file *f, uint32_t mask)
{
	if (notify_watch_total && f->path.dentry)
		vfs_notify(f->path.dentry, mask);
}

/* The inode is being freed; its watches hold references on it, so none is left. */
void notify_inode_gone(struct inode *i)
{
	if (!i->watches)
		return;
	BUG_ON(!list_empty(&i->watches->watches));
	mutex_fini(&i->watches->mu);
	free(i->watches);
	i->watches = NULL;
}
