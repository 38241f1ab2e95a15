/*
 * Files in flight. A message that carries a unix socket's file can make a cycle that no descriptor
 * reaches: socket A waits in the queue of B, which waits in the queue of A. The collector looks at the sockets in
 * flight: one whose file is referenced by messages only is a candidate; candidates that some other
 * socket's queue reaches are alive; the queues of the rest are emptied.
 *
 * While gc_mu is held no message with files enters or leaves a queue, and a candidate's file cannot be
 * reached by any task, so its references stand still.
 */
#include <stdlib.h>
#include <sys/resource.h>

#include "sentry/kernel/task.h"
#include "sentry/net/unix/unix_priv.h"

#define CAP_SYS_ADMIN_NR 21
#define CAP_SYS_RESOURCE_NR 24

struct mutex unix_gc_mu;
_Atomic unsigned unix_in_flight_sockets;

static struct list_node flying = LIST_INIT(flying); /* unix_sock.flight_node with in_flight > 0; gc_mu */
static unsigned user_count[UNIX_IN_FLIGHT_USERS];   /* gc_mu; by a hash of the user */

static struct unix_sock *unix_of_file(struct file *f)
{
	struct socket *s = file_socket(f);

	return s && s->family == AF_UNIX ? unix_of(s) : NULL;
}

int unix_in_flight_add(struct scm_files *files)
{
	unsigned user = current->cred->ruid.v % UNIX_IN_FLIGHT_USERS;

	if (user_count[user] + files->count > task_rlimit(current, RLIMIT_NOFILE) &&
	    !task_capable(current, CAP_SYS_RESOURCE_NR) && !task_capable(current, CAP_SYS_ADMIN_NR))
		return -ETOOMANYREFS;
	files->inflight_user = user;
	files->counted = true;
	user_count[user] += files->count;
	for (unsigned i = 0; i < files->count; i++) {
		struct unix_sock *u = unix_of_file(files->file[i]);

		if (!u)
			continue;
		u->file = files->file[i];
		if (u->in_flight++ == 0) {
			list_add_tail(&flying, &u->flight_node);
			atomic_fetch_add(&unix_in_flight_sockets, 1);
		}
	}
	return 0;
}

void unix_in_flight_del(struct scm_files *files)
{
	if (!files->counted)
		return;
	files->counted = false;
	user_count[files->inflight_user] -= files->count;
	for (unsigned i = 0; i < files->count; i++) {
		struct unix_sock *u = unix_of_file(files->file[i]);

		if (u && --u->in_flight == 0) {
			list_del(&u->flight_node);
			atomic_fetch_sub(&unix_in_flight_sockets, 1);
		}
	}
}

/* Calls fn for each unix socket that waits in u's queue. */
static void for_each_queued(struct unix_sock *u, void (*fn)(struct unix_sock *inner, void *arg), void *arg)
{
	struct unix_msg *m;

	mutex_lock_nested(&u->s.mu);
	list_for_each(m, &u->queue, node)
		for (unsigned i = 0; m->files && i < m->files->count; i++) {
			struct unix_sock *inner = unix_of_file(m->files->file[i]);

			if (inner)
				fn(inner, arg);
		}
	mutex_unlock(&u->s.mu);
}

/* The same for everything that only lives as long as u: its queue and those of connections not accepted. */
static void for_each_reached(struct unix_sock *u, void (*fn)(struct unix_sock *inner, void *arg), void *arg)
{
	struct unix_sock *e;

	for_each_queued(u, fn, arg);
	mutex_lock_nested(&u->s.mu);
	list_for_each(e, &u->accept_queue, accept_node)
		for_each_queued(e, fn, arg);
	mutex_unlock(&u->s.mu);
}

static void gc_unref(struct unix_sock *u, void *arg UNUSED)
{
	if (u->gc_candidate)
		u->gc_refs--;
}

/* Puts a candidate that something alive reaches on the list of those to look through. */
static void gc_reach(struct unix_sock *u, void *arg)
{
	struct list_node *work = arg;

	if (!u->gc_candidate || u->gc_reached)
		return;
	u->gc_reached = true;
	list_del(&u->flight_node);
	list_add_tail(work, &u->flight_node);
}

/* Moves the queues of garbage into dead. gc_mu is held. */
static void gc_collect(struct list_node *dead)
{
	struct list_node work = LIST_INIT(work), alive = LIST_INIT(alive);
	struct unix_sock *u, *tmp;

	list_for_each(u, &flying, flight_node) {
		u->gc_candidate = refcount_read(&u->file->refs) == u->in_flight;
		u->gc_reached = false;
		u->gc_refs = u->in_flight;
	}
	/* References that come from candidates' own queues do not keep anything alive. */
	list_for_each(u, &flying, flight_node)
		if (u->gc_candidate)
			for_each_reached(u, gc_unref, NULL);
	list_for_each_safe(u, tmp, &flying, flight_node)
		if (u->gc_candidate && u->gc_refs > 0)
			gc_reach(u, &work);
	while ((u = list_first(&work, struct unix_sock, flight_node)) != NULL) {
		list_del(&u->flight_node);
		list_add_tail(&alive, &u->flight_node);
		for_each_reached(u, gc_reach, &work);
	}
	list_for_each(u, &flying, flight_node) {
		struct unix_sock *e;

		if (!u->gc_candidate)
			continue;
		mutex_lock_nested(&u->s.mu);
		unix_queue_take(u, dead);
		list_for_each(e, &u->accept_queue, accept_node) {
			mutex_lock_nested(&e->s.mu);
			unix_queue_take(e, dead);
			mutex_unlock(&e->s.mu);
		}
		mutex_unlock(&u->s.mu);
	}
	list_splice_tail(&flying, &alive);
}

void unix_gc(void)
{
	struct list_node dead = LIST_INIT(dead);
	struct unix_msg *m;

	if (atomic_load(&unix_in_flight_sockets) == 0)
		return;
	mutex_lock(&unix_gc_mu);
	gc_collect(&dead);
	list_for_each(m, &dead, node)
		if (m->files)
			unix_in_flight_del(m->files);
	mutex_unlock(&unix_gc_mu);
	unix_msgs_free(&dead);
}
