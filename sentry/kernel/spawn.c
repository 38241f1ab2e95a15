/* Processes that come from outside: a container's init, and exec. */
#include <fcntl.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/container_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/loader/loader.h"

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
