/* Containers, and the start of the sandbox's kernel. */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "platform/base/log.h"
#include "platform/host/futex.h"
#include "sentry/kernel/clone.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/loader/loader.h"
#include "sentry/state/desc.h"

struct platform *kernel_platform;
static uint32_t cpu_count = 1;
static struct mutex containers_mu; /* LOCK_CONTAINER: the list */
static struct list_node containers = LIST_INIT(containers);

/* A process that somebody outside may wait for; all under taskset_mu. */
struct container_process {
	struct list_node node;
	struct thread_group *tg; /* reference until it ended */
	int32_t pid;		 /* const; in the container's namespace */
	uint32_t status;
	bool done, init;
};

struct container {
	struct refcount refs;
	struct list_node node; /* containers_mu; linked: the list's reference */
	struct mnt_ns *mnt_ns; /* containers_mu; NULL: given up, and root with it */
	struct path root;      /* containers_mu */
	char *id;	       /* const, like all to the blank line */
	struct user_ns *user_ns;
	struct pid_ns *pid_ns;
	struct nsproxy *ns;
	struct cgroup *cgroup;
	struct seccomp_filter *seccomp; /* may be NULL */

	struct list_node processes; /* taskset */
	bool started;		    /* taskset */
	bool stopped;		    /* taskset: init has ended */
	_Atomic int64_t stop_ns;    /* when it was last asked to end; 0: never */
	_Atomic uint32_t paused;    /* sleepers at the gate wait for it to become 0 */
	struct waitq waitq;
};

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

/* The birth of a process from outside: what its thread needs, and how it reports back. */
struct spawn {
	struct container *c;
	const struct process_args *a;
	bool wait_start;
	struct mutex mu;
	struct cond cond;
	bool reported; /* mu */
	int err;       /* mu */
};

static const char *env_path(const char *const *envv)
{
	for (; envv && *envv; envv++)
		if (!strncmp(*envv, "PATH=", 5))
			return *envv + 5;
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

/* Opens one candidate for execution. */
static int open_exec(const struct walk *w, const char *pathname, struct file **ret)
{
	struct path p;
	int err = vfs_walk(w, pathname, WALK_FOLLOW, &p);

	if (err < 0)
		return err;
	err = vfs_open_path(&p, w->cred, O_RDONLY | VFS_O_EXEC, ret);
	path_put(&p);
	return err;
}

/* Finds the program as execvp(3) does; buf gets the name it was found under. */
static int find_program(struct task *t, const struct process_args *a, char buf[PATH_MAX_GUEST],
		struct file **ret)
{
	const char *name = a->exe && *a->exe ? a->exe : a->argv[0], *dir = env_path(a->envv), *end;
	struct walk w;
	int err = task_walk(t, AT_FDCWD, &w), denied = 0;

	if (err < 0)
		return err;
	if (!name || !*name) {
		err = -ENOENT;
	} else if (strchr(name, '/')) {
		snprintf(buf, PATH_MAX_GUEST, "%s", name);
		err = open_exec(&w, name, ret);
	} else {
		err = -ENOENT;
		for (; dir; dir = *end ? end + 1 : NULL) {
			end = strchrnul(dir, ':');
			if (snprintf(buf, PATH_MAX_GUEST, "%.*s/%s", (int)(end - dir),
				     end == dir ? "." : dir, name) >= PATH_MAX_GUEST)
				continue;
			err = open_exec(&w, buf, ret);
			if (err == 0)
				err = loader_check_exec(*ret, w.cred);
			if (err == 0)
				break;
			file_put(TAKE(*ret));
			if (err == -EACCES)
				denied = err;
		}
	}
	walk_put(&w);
	return err < 0 && denied ? denied : err;
}

static int add_strings(struct loader_strings *s, const char *const *v, bool env, uint64_t limit)
{
	int err = 0;

	for (; err == 0 && v && *v; v++)
		err = loader_strings_add(s, *v, strlen(*v), env, limit);
	return err;
}

static int set_cwd(struct task *t, const char *cwd)
{
	struct walk w;
	struct path p, old;
	int err = task_walk(t, AT_FDCWD, &w);

	if (err < 0)
		return err;
	err = vfs_walk(&w, cwd && *cwd ? cwd : "/", WALK_FOLLOW | WALK_DIRECTORY, &p);
	if (err == 0)
		err = path_permission(&p, t->cred, 1);
	walk_put(&w);
	if (err < 0)
		return err;
	mutex_lock(&t->fs->mu);
	old = t->fs->cwd;
	t->fs->cwd = p;
	mutex_unlock(&t->fs->mu);
	path_put(&old);
	return 0;
}

static int load_program(struct task *t, const struct process_args *a)
{
	char name[PATH_MAX_GUEST] __attribute__((uninitialized));
	AUTO(file_put) struct file *f = NULL;
	struct loader_strings strings = { 0 };
	struct exec_args e = { .filename = name, .strings = &strings };
	uint64_t limit = loader_strings_limit(task_rlimit(t, RLIMIT_STACK));
	int err = t->ctx ? set_cwd(t, a->cwd) : -ENOMEM;

	if (err < 0 && t->ctx && a->cwd_failed)
		*a->cwd_failed = true;
	if (err == 0)
		err = find_program(t, a, name, &f);
	if (err == 0)
		err = add_strings(&strings, a->argv, false, limit);
	if (err == 0)
		err = add_strings(&strings, a->envv, true, limit);
	if (err == 0)
		err = seccomp_start_verdict(t->seccomp);
	if (err == 0) {
		e.file = f;
		err = task_exec(t, &e);
	}
	loader_strings_fini(&strings);
	return err;
}

/* On the new task's thread. The spawn is gone once it was reported. */
static int spawn_load(struct task *t, void *arg)
{
	struct spawn *s = arg;
	struct container *c = s->c;
	bool wait_start = s->wait_start;
	int err = load_program(t, s->a);

	mutex_lock(&s->mu);
	s->err = err;
	s->reported = true;
	cond_signal(&s->cond);
	mutex_unlock(&s->mu);
	if (err < 0 || !wait_start)
		return err;
	for (;;) {
		bool go;

		mutex_lock(&taskset_mu);
		go = c->started || t->killed;
		mutex_unlock(&taskset_mu);
		if (go)
			return 0;
		(void)!task_block_killable(t, TIME_FOREVER, "created");
	}
}

static int fill_files(struct task *t, const struct process_args *a)
{
	t->fdt = fdtable_new();
	if (!t->fdt)
		return -ENOMEM;
	for (unsigned i = 0; i < a->file_count; i++) {
		int err;

		if (!a->files[i])
			continue;
		err = fdtable_install_at(t->fdt, a->files[i], (int)i, UINT64_MAX, false);
		if (err < 0)
			return err;
	}
	return 0;
}

/* A task with everything but memory; linked nowhere. */
static int spawn_task(struct spawn *s, struct thread_group *tg, struct pid *pid, struct task **ret)
{
	struct container *c = s->c;
	struct mnt_ns *mnt_ns;
	struct path root;
	struct task *t;
	int err = task_new(tg, pid, &t);

	if (err < 0)
		return err;
	t->cred = cred_get(s->a->cred);
	t->ns = nsproxy_get(c->ns);
	if (c->seccomp) {
		t->seccomp = seccomp_filter_get(c->seccomp);
		t->seccomp_mode = SECCOMP_MODE_FILTER;
	}
	if (container_tree(c, &root, &mnt_ns) == 0) {
		t->fs = fs_struct_new(&root, &root, mnt_ns);
		path_put(&root);
		mnt_ns_put(mnt_ns);
	}
	t->birth = calloc(1, sizeof(*t->birth));
	err = t->fs && t->birth ? fill_files(t, s->a) : -ENOMEM;
	if (err < 0) {
		task_release_resources(t);
		task_put(t);
		return err;
	}
	t->fs->umask = s->a->umask;
	t->personality = s->a->personality;
	t->ioprio = s->a->ioprio;
	t->sched_policy = s->a->sched_policy;
	t->sched_priority = s->a->sched_priority;
	t->nice = s->a->nice;
	t->birth->load = spawn_load;
	t->birth->arg = s;
	strcpy(t->comm, "init");
	*ret = t;
	return 0;
}

/* Puts the process into the tree as the leader of a session of its own. taskset_mu. */
static int spawn_link(struct container *c, struct thread_group *tg, struct task *t,
		struct container_process *rec)
{
	struct process_group *pg;
	struct session *s;
	int err = c->stopped ? -ESRCH : session_new_locked(t->pid, &s, &pg);

	if (err < 0)
		return err;
	s->leader = tg;
	tg->pid = pid_get(t->pid);
	tg->leader = t;
	t->pid->task = t;
	list_add_tail(&all_tasks, &t->all_node);
	list_add_tail(&tg->tasks, &task_get(t)->group_node);
	tg->task_count = tg->live_count = tg->unfinished = 1;
	thread_group_set_pgrp_locked(tg, pg);
	process_group_put_locked(pg);
	session_put_locked(s);
	rec->pid = pid_nr_in(t->pid, c->pid_ns);
	if (rec->pid == 1 && !c->pid_ns->init)
		c->pid_ns->init = tg;
	rec->tg = thread_group_get(tg);
	list_add_tail(&c->processes, &rec->node);
	return 0;
}

static struct thread_group *spawn_group(struct container *c, const struct process_args *a)
{
	struct thread_group *tg = thread_group_new(c);

	if (!tg)
		return NULL;
	tg->handlers = signal_handlers_new();
	tg->limits = a->limits;
	tg->oom_score_adj = a->oom_score_adj;
	tg->exit_signal = 0;
	if (tg->handlers)
		return tg;
	thread_group_put(tg);
	return NULL;
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

/* Waits for the thread's word about exec. */
static int spawn_result(struct spawn *s)
{
	mutex_lock(&s->mu);
	while (!s->reported)
		(void)cond_wait_until(&s->cond, &s->mu, TIME_FOREVER);
	mutex_unlock(&s->mu);
	return s->err;
}

static void forget_process(struct container *c, struct container_process *rec)
{
	struct thread_group *tg;

	(void)c;
	mutex_lock(&taskset_mu);
	list_del(&rec->node);
	tg = TAKE(rec->tg);
	mutex_unlock(&taskset_mu);
	thread_group_put(tg);
	free(rec);
}

/* The terminal becomes the session's. */
int tty_set_controlling(struct tty *t, struct task *task, bool steal);

static int spawn_publish(struct spawn *s, struct thread_group *tg, struct container_process *rec,
		struct task **ret)
{
	struct container *c = s->c;
	struct pid *pid = NULL;
	int err;

	mutex_lock(&taskset_mu);
	err = pid_new(c->pid_ns, NULL, 0, &pid);
	mutex_unlock(&taskset_mu);
	if (err < 0)
		return err;
	err = spawn_task(s, tg, pid, ret);
	mutex_lock(&taskset_mu);
	if (err == 0)
		err = spawn_link(c, tg, *ret, rec);
	if (err < 0)
		pid_unused(pid);
	mutex_unlock(&taskset_mu);
	pid_put(pid);
	return err;
}

static int spawn(struct container *c, const struct process_args *a, bool init, int32_t *ret_pid)
{
	struct spawn s = { .c = c, .a = a, .wait_start = init };
	struct container_process *rec = calloc(1, sizeof(*rec));
	struct thread_group *tg = spawn_group(c, a);
	struct task *t = NULL;
	int err = rec && tg ? 0 : -ENOMEM;

	mutex_init(&s.mu, LOCK_UNRANKED);
	cond_init(&s.cond);
	if (err == 0) {
		list_init(&rec->node);
		rec->init = init;
		err = spawn_publish(&s, tg, rec, &t);
	}
	if (err == 0 && a->tty)
		err = tty_set_controlling(a->tty, t, false);
	if (err == 0)
		err = task_start(t);
	if (err == 0) {
		cpu_limit_changed(tg);
		*ret_pid = rec->pid;
		err = spawn_result(&s);
		if (err < 0)
			forget_process(c, TAKE(rec));
		rec = NULL;
	} else if (t && rec->tg) {
		mutex_lock(&taskset_mu);
		t->exited = true;
		tg->zombie = true;
		thread_group_reap_locked(tg);
		mutex_unlock(&taskset_mu);
		task_release_resources(t);
		forget_process(c, TAKE(rec));
	} else if (t) {
		task_release_resources(t);
	}
	free(rec);
	task_put(t);
	thread_group_put(tg);
	cond_fini(&s.cond);
	mutex_fini(&s.mu);
	return err;
}

int container_create_init(struct container *c, const struct process_args *a)
{
	int32_t pid;

	return spawn(c, a, true, &pid);
}

int container_exec(struct container *c, const struct process_args *a, int32_t *ret_pid)
{
	if (container_state(c) == CONTAINER_STOPPED)
		return -ESRCH;
	return spawn(c, a, false, ret_pid);
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

/* Something of a task at the gate has changed: bumped and waited on by whoever pauses. */
static _Atomic uint32_t parked_event;

bool container_paused(struct container *c)
{
	return c && c->paused;
}

void pause_gate(struct task *t)
{
	struct container *c = t->tg->container;

	if (likely(!container_paused(c)) || t->killed)
		return;
	t->parked = true;
	parked_event++;
	host_futex_wake(&parked_event, INT32_MAX);
	while (c->paused)
		host_futex_wait(&c->paused, 1, INT64_MAX);
	t->parked = false;
}

/* True when no task of c runs guest code or a handler; interrupts those that do. */
static bool all_parked(struct container *c)
{
	struct task *t;
	bool all = true;

	GUARD(mutex, &taskset_mu);
	list_for_each(t, &all_tasks, all_node) {
		if (t->tg->container != c || t->parked || t->exited)
			continue;
		task_interrupt(t);
		all = false;
	}
	return all;
}

int container_pause(struct container *c, int64_t deadline_ns)
{
	c->paused = 1;
	for (;;) {
		uint32_t event = parked_event;

		if (all_parked(c))
			return 0;
		if (clock_mono() >= deadline_ns) {
			container_resume(c);
			return -ETIMEDOUT;
		}
		/* Looks again now and then: a task born meanwhile has not announced itself. */
		host_futex_wait(&parked_event, event, MIN(deadline_ns, clock_mono() + 20000000));
	}
}

void container_resume(struct container *c)
{
	c->paused = 0;
	host_futex_wake(&c->paused, INT32_MAX);
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
