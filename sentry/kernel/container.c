/* Containers, and the start of the sandbox's kernel. */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "platform/base/log.h"
#include "sentry/kernel/container_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/state/desc.h"

struct platform *kernel_platform;
static uint32_t cpu_count = 1;
static struct mutex containers_mu; /* LOCK_CONTAINER: the list */
static struct list_node containers = LIST_INIT(containers);

int kernel_init(struct platform *platform, uint32_t cpus)
{
	mutex_init(&taskset_mu, LOCK_TASKSET);
	mutex_init(&containers_mu, LOCK_CONTAINER);
	kernel_platform = platform;
	oom_init();
	cgroups_init();
	cpu_count = MAX(cpus, 1u);
	root_pid_ns = pid_ns_new(&root_user_ns, NULL);
	return root_pid_ns ? 0 : -ENOMEM;
}

uint32_t kernel_cpu_count(void)
{
	return cpu_count;
}

struct container *container_get(struct container *c)
{
	refcount_get(&c->refs);
	return c;
}

void container_put(struct container *c)
{
	struct container_process *p, *tmp;

	if (!c || !refcount_put(&c->refs))
		return;
	list_for_each_safe(p, tmp, &c->processes, node) {
		list_del(&p->node);
		thread_group_put(p->tg);
		free(p);
	}
	nsproxy_put(c->ns);
	cgroup_put(c->cgroup);
	pid_ns_put(c->pid_ns);
	user_ns_put(c->user_ns);
	path_put(&c->root);
	if (c->mnt_ns)
		mnt_ns_put(c->mnt_ns);
	seccomp_filter_put(c->seccomp);
	waitq_fini(&c->waitq);
	free(c->id);
	free(c);
}

/* Registers a container; no process yet. Any thread. *ret_c is a reference. -EEXIST, -ENOMEM */
int container_new(const struct container_args *a, struct container **ret_c)
{
	struct container *c = calloc(1, sizeof(*c)), *other;
	struct cgroup_ns *cgroup;
	int err = 0;

	if (!c)
		return -ENOMEM;
	refcount_init(&c->refs, 1);
	list_init(&c->processes);
	list_init(&c->node);
	waitq_init(&c->waitq);
	c->id = strdup(a->id);
	c->user_ns = user_ns_get(a->user_ns);
	c->cgroup = cgroup_get(a->cgroup);
	c->pid_ns = a->pid_ns ? pid_ns_get(a->pid_ns) : pid_ns_new(a->user_ns, root_pid_ns);
	cgroup = cgroup_ns_new(a->user_ns);
	if (c->id && c->pid_ns && cgroup)
		c->ns = nsproxy_new(a->uts, a->ipc, a->net, c->pid_ns, cgroup);
	cgroup_ns_put(cgroup);
	if (!c->ns) {
		container_put(c);
		return -ENOMEM;
	}
	mutex_lock(&containers_mu);
	list_for_each(other, &containers, node)
		if (!strcmp(other->id, a->id))
			err = -EEXIST;
	if (err == 0)
		list_add_tail(&containers, &container_get(c)->node);
	mutex_unlock(&containers_mu);
	if (err < 0) {
		container_put(c);
		return err;
	}
	c->mnt_ns = a->mnt_ns;
	c->root = a->root;
	c->seccomp = a->seccomp ? seccomp_filter_get(a->seccomp) : NULL;
	*ret_c = c;
	return 0;
}

struct container *container_find(const char *id)
{
	struct container *c;

	GUARD(mutex, &containers_mu);
	list_for_each(c, &containers, node)
		if (!strcmp(c->id, id))
			return container_get(c);
	return NULL;
}

void container_drop_tree(struct container *c)
{
	struct path root;
	struct mnt_ns *ns;

	mutex_lock(&containers_mu);
	root = c->root;
	c->root = (struct path){ 0 };
	ns = TAKE(c->mnt_ns);
	mutex_unlock(&containers_mu);
	path_put(&root);
	if (ns)
		mnt_ns_put(ns);
}

int container_tree(struct container *c, struct path *ret_root, struct mnt_ns **ret_ns)
{
	GUARD(mutex, &containers_mu);
	if (!c->mnt_ns)
		return -ESRCH;
	path_get(&c->root);
	*ret_root = c->root;
	*ret_ns = mnt_ns_get(c->mnt_ns);
	return 0;
}

void container_remove(struct container *c)
{
	struct container_process *p, *tmp;
	bool listed;

	mutex_lock(&containers_mu);
	listed = !list_empty(&c->node);
	list_del(&c->node);
	mutex_unlock(&containers_mu);
	container_drop_tree(c);
	/* records hold processes and these hold c */
	for (;;) {
		struct thread_group *tg = NULL;

		mutex_lock(&taskset_mu);
		list_for_each_safe(p, tmp, &c->processes, node) {
			if (p->tg && p->done) {
				tg = TAKE(p->tg);
				break;
			}
		}
		mutex_unlock(&taskset_mu);
		if (!tg)
			break;
		thread_group_put(tg);
	}
	if (listed)
		container_put(c);
}

/* The record of pid (0: init), or NULL. taskset_mu. */
static struct container_process *find_process(struct container *c, int32_t pid)
{
	struct container_process *p;

	list_for_each(p, &c->processes, node)
		if (pid ? p->pid == pid : p->init)
			return p;
	return NULL;
}

/* As container_process_find, borrowed. taskset_mu. */
static struct thread_group *find_group_locked(struct container *c, int32_t pid)
{
	struct container_process *p = pid ? NULL : find_process(c, 0);
	struct pid *id = pid ? pid_find_locked(c->pid_ns, pid) : p && p->tg ? p->tg->pid : NULL;

	return id && id->task && !id->task->tg->zombie && id->task->tg->container == c ? id->task->tg : NULL;
}

struct thread_group *container_process_find(struct container *c, int32_t pid)
{
	struct thread_group *tg;

	GUARD(mutex, &taskset_mu);
	tg = find_group_locked(c, pid);
	return tg ? thread_group_get(tg) : NULL;
}

int container_start(struct container *c)
{
	struct container_process *p;

	cgroups_changed();
	GUARD(mutex, &taskset_mu);
	p = find_process(c, 0);
	if (!p || c->started)
		return -EINVAL;
	c->started = true;
	if (p->tg && p->tg->leader)
		task_wake(p->tg->leader);
	return 0;
}

/* A process of c ended: keeps its status for whoever waits. taskset_mu. */
void container_process_exited(struct container *c, struct thread_group *tg, uint32_t status)
{
	struct container_process *p;

	if (!c)
		return;
	list_for_each(p, &c->processes, node) {
		if (p->tg != tg || p->done)
			continue;
		p->done = true;
		p->status = status;
		c->stopped |= p->init;
	}
	waitq_wake(&c->waitq, POLLHUP);
}

int container_wait_poll(struct container *c, int32_t pid, uint32_t *ret_status)
{
	struct container_process *p;
	struct thread_group *tg = NULL;

	mutex_lock(&taskset_mu);
	p = find_process(c, pid);
	if (!p || !p->done) {
		mutex_unlock(&taskset_mu);
		return p ? 0 : -ECHILD;
	}
	*ret_status = p->status;
	tg = TAKE(p->tg);
	if (!p->init) {
		list_del(&p->node);
		free(p);
	}
	mutex_unlock(&taskset_mu);
	thread_group_put(tg);
	return 1;
}

struct waitq *container_waitq(struct container *c)
{
	return &c->waitq;
}

enum container_state container_state(struct container *c)
{
	GUARD(mutex, &taskset_mu);
	if (c->stopped)
		return CONTAINER_STOPPED;
	if (!c->started)
		return CONTAINER_CREATED;
	return c->paused ? CONTAINER_PAUSED : CONTAINER_RUNNING;
}

static int signal_all_locked(struct container *c, const struct guest_siginfo *info)
{
	struct task *t, *tmp;
	int ret = -ESRCH;

	list_for_each_safe(t, tmp, &all_tasks, all_node) {
		if (t->tg->container != c || t->tg->leader != t || t->tg->zombie)
			continue;
		(void)signal_send_group_locked(t->tg, info);
		ret = 0;
	}
	return ret;
}

void containers_kill(struct container *c)
{
	struct guest_siginfo info = { .signo = SIGKILL, .code = GUEST_SI_USER };
	struct container *other;
	struct task *t, *tmp;

	mutex_lock(&taskset_mu);
	list_for_each_safe(t, tmp, &all_tasks, all_node)
		if ((!c || t->tg->container == c) && t->tg->leader == t && !t->tg->zombie)
			(void)signal_send_group_locked(t->tg, &info);
	mutex_unlock(&taskset_mu);
	/* who is at the gate of a pause ends there */
	if (c) {
		container_resume(c);
		return;
	}
	GUARD(mutex, &containers_mu);
	list_for_each(other, &containers, node)
		container_resume(other);
}

bool containers_busy(struct container *c)
{
	struct task *t;

	GUARD(mutex, &taskset_mu);
	list_for_each(t, &all_tasks, all_node)
		if ((!c || t->tg->container == c) && !t->tg->zombie)
			return true;
	return false;
}

void container_note_stop(struct container *c)
{
	c->stop_ns = clock_mono();
}

bool containers_stopping(struct container *c, int64_t since_ns, bool *ret_any)
{
	bool stopping = false;
	struct task *t;

	GUARD(mutex, &taskset_mu);
	*ret_any = false;
	list_for_each(t, &all_tasks, all_node) {
		struct container *other = t->tg->container;

		if (!other || other == c || t->tg->zombie || !other->started)
			continue;
		*ret_any = true;
		stopping |= other->stop_ns && other->stop_ns >= since_ns;
	}
	return stopping;
}

int container_signal(struct container *c, int32_t pid, int signo, int mode)
{
	struct guest_siginfo info = { .signo = signo, .code = GUEST_SI_USER };
	struct thread_group *tg;
	struct process_group *pg;

	if (signo < 0 || signo > GUEST_NSIG)
		return -EINVAL;
	GUARD(mutex, &taskset_mu);
	if (mode == 1)
		return signo ? signal_all_locked(c, &info) : 0;
	tg = find_group_locked(c, pid);
	if (!tg)
		return -ESRCH;
	if (!signo)
		return 0;
	pg = mode == 3 ? tg->pgrp : NULL;
	if (mode == 2 && tg->pgrp)
		pg = tg->pgrp->session->foreground;
	return pg ? signal_send_pgrp_locked(pg, &info) : signal_send_group_locked(tg, &info);
}

struct pid_ns *container_pid_ns(struct container *c)
{
	return c->pid_ns;
}

const struct nsproxy *container_ns(struct container *c)
{
	return c->ns;
}

struct user_ns *container_user_ns(struct container *c)
{
	return c->user_ns;
}

const char *container_id(const struct container *c)
{
	return c->id;
}

struct cgroup *container_cgroup(struct container *c)
{
	return c->cgroup;
}

STATE_DESC(container_process, S_NOSAVE(container_process, node, "list is rebuilt"),
	   S_REF(container_process, 1, tg, thread_group), S_VAL(container_process, 2, pid),
	   S_VAL(container_process, 3, status), S_VAL(container_process, 4, done),
	   S_VAL(container_process, 5, init));
STATE_DESC(container, S_NOSAVE(container, refs, "recounted"), S_NOSAVE(container, node, "list is rebuilt"),
	   S_BYTES(container, 1, id), S_REF(container, 2, mnt_ns, mnt_ns), S_EMBED(container, 3,
		root, path),
	   S_REF(container, 4, user_ns, user_ns), S_REF(container, 5, pid_ns, pid_ns),
	   S_REF(container, 6, ns, nsproxy), S_REF(container, 10, cgroup, cgroup),
	   S_REF(container, 11, seccomp, seccomp_filter), S_LIST(container, 7, processes, container_process),
	   S_VAL(container, 8, started), S_VAL(container, 9, stopped),
	   S_NOSAVE(container, stop_ns, "whoever asked has gone"), S_NOSAVE(container, paused, "a restored container runs"),
	   S_NOSAVE(container, waitq, "waiters register again"));
