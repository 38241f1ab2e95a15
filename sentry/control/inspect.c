/* Looking into a container: processes, usage, stacks. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/cause.h"
#include "sentry/control/control_priv.h"
#include "sentry/fs/devpts/tty.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/syscalls.h"

#define COMMAND_MAX 4096u
#define STUBS_MAX 64

/* argv joined by spaces, or [comm], as malloc'ed bytes. */
static void fill_command(struct task *t, ProtobufCBinaryData *ret)
{
	struct mm *mm = task_get_mm(t);
	char *text = malloc(COMMAND_MAX);
	int64_t n = 0;

	if (text && mm) {
		struct mm_info info;
		struct umem *um = mm_umem(mm);

		mm_get_info(mm, &info);
		if (info.arg_end > info.arg_start)
			n = um->ops->copy_in(um, text, UADDR(info.arg_start),
					     MIN(info.arg_end - info.arg_start, (uint64_t)COMMAND_MAX - 1));
	}
	mm_put(mm);
	if (!text)
		return;
	while (n > 0 && text[n - 1] == 0)
		n--;
	for (int64_t i = 0; i < n; i++) {
		if (text[i] == 0)
			text[i] = ' ';
	}
	if (n <= 0)
		n = snprintf(text, COMMAND_MAX, "[%.15s]", t->comm);
	*ret = (ProtobufCBinaryData){ .data = (uint8_t *)text, .len = (size_t)n };
}

static void fill_memory(struct task *t, Urpc__ProcessInfo *info)
{
	struct mm *mm = task_get_mm(t);
	int32_t pids[STUBS_MAX];
	struct mm_usage usage;
	struct aspace *as;
	size_t count;

	if (!mm)
		return;
	mm_usage(mm, &usage);
	info->rss_bytes = usage.rss_anon + usage.rss_file + usage.rss_shmem;
	as = mm_aspace(mm);
	if (as && as->ops->stub_pids) {
		count = as->ops->stub_pids(as, pids, STUBS_MAX);
		count = MIN(count, (size_t)STUBS_MAX);
		info->host_pids = malloc((count + 1) * sizeof(pids[0]));
		if (info->host_pids) {
			memcpy(info->host_pids, pids, count * sizeof(pids[0]));
			info->n_host_pids = count;
		}
	}
	mm_put(mm);
}

static void fill_tty(struct thread_group *tg, Urpc__ProcessInfo *info)
{
	struct tty *tty = NULL;

	mutex_lock(&taskset_mu);
	if (tg->pgrp && tg->pgrp->session->tty)
		tty = tty_get(tg->pgrp->session->tty);
	mutex_unlock(&taskset_mu);
	info->tty = strdup(tty ? tty_name(tty) : "?");
	if (tty)
		tty_put(tty);
}

/* The thread that stands for tg: its leader, with a reference, or NULL when it is being reaped. */
static struct task *leader_of(struct thread_group *tg)
{
	struct task *t;

	mutex_lock(&taskset_mu);
	t = tg->leader ? task_get(tg->leader) : NULL;
	mutex_unlock(&taskset_mu);
	return t;
}

static Urpc__ProcessInfo *make_info(struct thread_group *tg, struct pid_ns *ns, int32_t pid,
				    struct user_ns *user_ns)
{
	AUTO(task_put) struct task *t = leader_of(tg);
	Urpc__ProcessInfo *info;
	const struct cred *cred;
	struct cpu_usage usage;
	char state[2] = "?";

	info = t ? malloc(sizeof(*info)) : NULL;
	if (!info)
		return NULL;
	urpc__process_info__init(info);
	info->pid = pid;
	info->ppid = thread_group_ppid_in(tg, ns);
	info->pgid = thread_group_pgid_in(tg, ns);
	info->sid = thread_group_sid_in(tg, ns);
	cred = task_get_cred(t);
	if (cred) {
		info->uid = user_ns_from_kuid_munged(user_ns, cred->euid);
		cred_put(cred);
	}
	info->threads = tg->live_count;
	info->start_time_ns = (uint64_t)tg->start_real_ns;
	thread_group_usage(tg, &usage);
	info->cpu_time_ns = (uint64_t)(usage.user_ns + usage.system_ns);
	state[0] = task_state_letter(t);
	info->state = strdup(state);
	fill_tty(tg, info);
	fill_command(t, &info->command);
	fill_memory(t, info);
	return info;
}

int control_processes(struct urpc_request *req, const Urpc__ContainerId *arg, Urpc__ProcessList *result)
{
	AUTO(container_put) struct container *c = control_find(req, arg->id);
	AUTO(thread_group_put) struct thread_group *init = c ? container_process_find(c, INIT_PID) : NULL;
	struct thread_group *tg;
	struct pid_ns *ns;
	size_t capacity = 0;
	int32_t pid = 0;

	if (!c)
		return -ENOENT;
	ns = container_pid_ns(c);
	while ((tg = thread_group_next(ns, pid + 1, &pid)) != NULL) {
		/* the namespace may be another container's too */
		Urpc__ProcessInfo *info =
			tg->container == c ? make_info(tg, ns, pid, container_user_ns(c)) : NULL;

		if (info)
			info->init = tg == init;
		thread_group_put(tg);
		if (!info)
			continue;
		if (result->n_process == capacity) {
			Urpc__ProcessInfo **more;

			capacity = capacity ? capacity * 2 : 16;
			more = realloc(result->process, capacity * sizeof(*more));
			if (!more) {
				urpc_message_free(&info->base);
				return -ENOMEM;
			}
			result->process = more;
		}
		result->process[result->n_process++] = info;
	}
	return 0;
}

/* Text that grows; what does not fit into memory is dropped. */
struct text {
	char *s;
	size_t len, capacity;
};

PRINTF_LIKE(2, 3) static void text_add(struct text *x, const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0)
		return;
	n = MIN(n, (int)sizeof(line) - 1);
	if (x->len + (size_t)n + 1 > x->capacity) {
		size_t capacity = MAX(x->capacity * 2, (size_t)4096);
		char *s = realloc(x->s, capacity);

		if (!s)
			return;
		x->s = s;
		x->capacity = capacity;
	}
	memcpy(x->s + x->len, line, (size_t)n + 1);
	x->len += (size_t)n;
}

/* One line on a thread. Its private members are read while it runs: a guess, good enough to look at. */
static void add_stack(struct text *x, struct task *t, int32_t pid, int32_t tid, int64_t now)
{
	int64_t nr = __atomic_load_n(&t->syscall_nr, __ATOMIC_RELAXED);
	int64_t start = t->wait_since_ns;
	const char *what = t->wait_what;
	struct syscall_desc *d = nr >= 0 ? syscall_by_number(nr) : NULL;

	text_add(x, "%d/%d (%.15s) %c", pid, tid, t->comm, task_state_letter(t));
	if (nr >= 0) {
		text_add(x, " in %s (%lld)", d ? d->name : "?", (long long)nr);
		if (start > 0 && now > start)
			text_add(x, " for %lld ms", (long long)((now - start) / 1000000));
	} else {
		text_add(x, " in the guest");
	}
	if (what)
		text_add(x, ", waits for %s", what);
	text_add(x, "\n");
}

/* What the sandbox itself refused, the youngest first. */
static void add_causes(struct text *x)
{
	struct cause list[CAUSES_KEPT];
	size_t n = cause_list(list);

	if (n)
		text_add(x, "refused by the sandbox:\n");
	for (size_t i = 0; i < n; i++)
		text_add(x, "  %s (%s, %llu times): %s\n", strerrorname_np(list[i].err), cause_kind_name(list[i].kind),
			 (unsigned long long)list[i].count, list[i].text);
}

int control_stacks(struct urpc_request *req, const Urpc__Empty *arg, Urpc__Stacks *result)
{
	int64_t now = clock_mono();
	struct text x = { 0 };
	struct thread_group *tg;
	int32_t pid = 0;

	(void)req;
	(void)arg;
	text_add(&x, "platform %s\n", control_platform());
	text_add(&x, "pid/tid (name) state; of the sandbox's root pid namespace\n");
	while ((tg = thread_group_next(root_pid_ns, pid + 1, &pid)) != NULL) {
		struct task *t;
		int32_t tid = 0;

		while ((t = thread_group_next_task(tg, root_pid_ns, tid + 1, &tid)) != NULL) {
			add_stack(&x, t, pid, tid, now);
			task_put(t);
		}
		thread_group_put(tg);
	}
	add_causes(&x);
	if (!x.s)
		return -ENOMEM;
	result->text = x.s;
	return 0;
}
