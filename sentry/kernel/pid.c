/* Process ids and pid namespaces (pid_namespaces(7)). */
#include <stdlib.h>

#include "sentry/core/cause.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/state/desc.h"

#define RESERVED_PIDS 300

struct pid_ns *root_pid_ns;

struct pid *pid_get(struct pid *p)
{
	refcount_get(&p->refs);
	return p;
}

void pid_put(struct pid *p)
{
	if (!p || !refcount_put(&p->refs))
		return;
	pid_ns_put(p->number[p->level].ns);
	free(p);
}

int32_t pid_nr_in(const struct pid *p, const struct pid_ns *ns)
{
	return ns->level <= p->level && p->number[ns->level].ns == ns ? p->number[ns->level].nr : 0;
}

/* The first number entry >= nr in ns, or NULL. */
static struct pid_number *number_at_least(struct pid_ns *ns, int32_t nr)
{
	struct rb_node *n = ns->tids.root;
	struct pid_number *best = NULL;

	mutex_assert_held(&taskset_mu);
	while (n) {
		struct pid_number *pn = rb_entry(n, struct pid_number, node);

		if (pn->nr >= nr) {
			best = pn;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

struct pid *pid_find_locked(struct pid_ns *ns, int32_t nr)
{
	struct pid_number *pn = nr > 0 ? number_at_least(ns, nr) : NULL;

	return pn && pn->nr == nr ? pn->pid : NULL;
}

/* The lowest free number in [min, PID_MAX), or 0. */
static int32_t number_free_from(struct pid_ns *ns, int32_t min)
{
	struct pid_number *pn = number_at_least(ns, min);

	while (pn && pn->nr == min) {
		struct rb_node *next = rb_next(&pn->node);

		if (++min >= PID_MAX)
			return 0;
		pn = next ? rb_entry(next, struct pid_number, node) : NULL;
	}
	return min < PID_MAX ? min : 0;
}

/* Picks a number in ns: the one wanted (0: any). Returns it or -errno. */
static int32_t number_pick(struct pid_ns *ns, int32_t want)
{
	int32_t nr;

	if (want) {
		if (want >= PID_MAX)
			return -EINVAL;
		return pid_find_locked(ns, want) ? -EEXIST : want;
	}
	nr = number_free_from(ns, ns->last_pid + 1);
	if (!nr)
		nr = number_free_from(ns, RESERVED_PIDS);
	return nr ? nr : -EAGAIN;
}

static void number_link(struct pid_number *pn)
{
	struct rb_node **link = &pn->ns->tids.root, *parent = NULL;

	while (*link) {
		parent = *link;
		link = pn->nr < rb_entry(parent, struct pid_number,
			node)->nr ? &parent->left : &parent->right;
	}
	rb_insert(&pn->ns->tids, parent, link, &pn->node);
	pn->linked = true;
	pn->ns->pid_count++;
}

/*
 * A new id, deepest in ns, with one reference; linked in every namespace. set_tid[i] are wanted
 * numbers, deepest first (clone3). -EAGAIN, -ENOMEM (also: the namespace is dying), -EEXIST,
 * -EINVAL. Needs taskset_mu.
 */
int pid_new(struct pid_ns *ns, const int32_t *set_tid, unsigned set_tid_count, struct pid **ret_pid)
{
	struct pid *p;
	struct pid_ns *at = ns;

	mutex_assert_held(&taskset_mu);
	p = calloc(1, sizeof(*p) + (ns->level + 1) * sizeof(p->number[0]));
	if (!p)
		return -ENOMEM;
	refcount_init(&p->refs, 1);
	p->level = ns->level;
	for (unsigned i = 0; i <= ns->level; i++, at = at->parent) {
		struct pid_number *pn = &p->number[ns->level - i];
		int32_t want = i < set_tid_count ? set_tid[i] : 0;
		int32_t nr = number_pick(at, want);

		if (at->dying || (want > 1 && !at->init && at->level))
			nr = at->dying ? -ENOMEM : -EINVAL;
		if (nr < 0) {
			free(p);
			return nr;
		}
		*pn = (struct pid_number){ .pid = p, .ns = at, .nr = nr };
	}
	for (unsigned i = 0; i <= p->level; i++) {
		number_link(&p->number[i]);
		if (!(p->level - i < set_tid_count && set_tid[p->level - i]))
			p->number[i].ns->last_pid = p->number[i].nr;
	}
	pid_ns_get(ns);
	*ret_pid = p;
	return 0;
}

void pid_unused(struct pid *p)
{
	mutex_assert_held(&taskset_mu);
	if (p->task || p->pgrp || p->session)
		return;
	for (unsigned i = 0; i <= p->level; i++) {
		struct pid_number *pn = &p->number[i];

		if (!pn->linked)
			continue;
		rb_erase(&pn->ns->tids, &pn->node);
		pn->linked = false;
		pn->ns->pid_count--;
	}
}

/*
 * A new namespace below parent (NULL: the sandbox's root, which has no init). Returns one reference;
 * NULL when out of memory or too deep. pid_namespaces(7)
 */
struct pid_ns *pid_ns_new(struct user_ns *owner, struct pid_ns *parent)
{
	struct pid_ns *ns;

	if (parent && parent->level + 1 >= PID_NS_LEVELS_MAX)
		return NULL;
	ns = calloc(1, sizeof(*ns));
	if (!ns)
		return NULL;
	refcount_init(&ns->refs, 1);
	ns->user_ns = user_ns_get(owner);
	ns->ns_ino = ns_ino_next();
	if (parent) {
		ns->parent = pid_ns_get(parent);
		ns->level = parent->level + 1;
	}
	return ns;
}

struct pid_ns *pid_ns_get(struct pid_ns *ns)
{
	refcount_get(&ns->refs);
	return ns;
}

void pid_ns_put(struct pid_ns *ns)
{
	while (ns && refcount_put(&ns->refs)) {
		struct pid_ns *parent = ns->parent;

		user_ns_put(ns->user_ns);
		free(ns);
		ns = parent;
	}
}

struct task *task_find(struct pid_ns *ns, int32_t tid)
{
	struct pid *p;

	GUARD(mutex, &taskset_mu);
	p = pid_find_locked(ns, tid);
	return p && p->task ? task_get(p->task) : NULL;
}

struct thread_group *thread_group_find(struct pid_ns *ns, int32_t pid)
{
	struct pid *p;

	GUARD(mutex, &taskset_mu);
	p = pid_find_locked(ns, pid);
	return p && p->task && p->task->tg->pid == p ? thread_group_get(p->task->tg) : NULL;
}

struct process_group *process_group_find(struct pid_ns *ns, int32_t pgid)
{
	struct pid *p;

	GUARD(mutex, &taskset_mu);
	p = pid_find_locked(ns, pgid);
	return p && p->pgrp ? process_group_get(p->pgrp) : NULL;
}

struct thread_group *thread_group_next(struct pid_ns *ns, int32_t from, int32_t *ret_pid)
{
	struct pid_number *pn;

	GUARD(mutex, &taskset_mu);
	pn = number_at_least(ns, from);
	while (pn) {
		struct rb_node *next;

		if (pn->pid->task && pn->pid->task->tg->pid == pn->pid) {
			*ret_pid = pn->nr;
			return thread_group_get(pn->pid->task->tg);
		}
		next = rb_next(&pn->node);
		pn = next ? rb_entry(next, struct pid_number, node) : NULL;
	}
	return NULL;
}

struct task *thread_group_next_task(struct thread_group *tg, struct pid_ns *ns, int32_t from,
				    int32_t *ret_tid)
{
	struct task *t, *best = NULL;
	int32_t best_nr = 0;

	GUARD(mutex, &taskset_mu);
	list_for_each(t, &tg->tasks, group_node) {
		int32_t nr = pid_nr_in(t->pid, ns);

		if (nr >= from && nr > 0 && (!best || nr < best_nr)) {
			best = t;
			best_nr = nr;
		}
	}
	if (!best)
		return NULL;
	*ret_tid = best_nr;
	return task_get(best);
}

int32_t task_tid_in(const struct task *t, const struct pid_ns *ns)
{
	return pid_nr_in(t->pid, ns);
}

int32_t thread_group_pid_in(const struct thread_group *tg, const struct pid_ns *ns)
{
	return pid_nr_in(tg->pid, ns);
}

struct pid_ns *task_pid_ns(const struct task *t)
{
	return t->pid->number[t->pid->level].ns;
}

STATE_DESC(pid, S_VAL(pid, 1, level), S_NOSAVE(pid, refs, "recounted"), S_WEAK(pid, 2, task, task),
	   S_WEAK(pid, 3, pgrp, process_group), S_WEAK(pid, 4, session, session));
STATE_DESC(pid_number, S_NOSAVE(pid_number, node, "tree is rebuilt"), S_WEAK(pid_number, 1, pid, pid),
	   S_REF(pid_number, 2, ns, pid_ns), S_VAL(pid_number, 3, nr), S_VAL(pid_number, 4, linked));
STATE_DESC(pid_ns, S_NOSAVE(pid_ns, refs, "recounted"), S_REF(pid_ns, 1, parent, pid_ns),
	   S_VAL(pid_ns, 2, level), S_REF(pid_ns, 3, user_ns, user_ns), S_VAL(pid_ns, 4, ns_ino),
	   S_WEAK(pid_ns, 5, init, thread_group), S_VAL(pid_ns, 6, last_pid),
	   S_VAL(pid_ns, 7, pid_count),
	   S_NOSAVE(pid_ns, tids, "rebuilt from the ids"), S_VAL(pid_ns, 9, dying));
