/* Seccomp of guest tasks: strict mode, and filters in classic BPF (seccomp(2), bpf(4)). */
#include "sentry/kernel/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "platform/base/log.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/state/desc.h"

#define INSNS_PER_PATH 32768u
#define FILTER_PENALTY 4u

struct seccomp_filter {
	struct refcount refs;
	struct seccomp_filter *prev; /* reference */
	unsigned total;		     /* instructions of all filters from here up, with penalties */
	unsigned depth;
	bool log;
	bool killable;		       /* a call that the listener has seen waits past signals */
	bool facts;		       /* allow has what the platform may answer itself */
	struct seccomp_notify *notify; /* reference; NULL: no listener */
	uint64_t allow[SECCOMP_CALLS / 64]; /* calls that this and all filters before it allow, whatever their arguments */
	unsigned count;
	struct bpf_insn insn[];
};

struct seccomp_filter *seccomp_filter_get(struct seccomp_filter *f)
{
	refcount_get(&f->refs);
	return f;
}

void seccomp_filter_put(struct seccomp_filter *f)
{
	while (f && refcount_put(&f->refs)) {
		struct seccomp_filter *prev = f->prev;

		if (f->notify) {
			seccomp_notify_unused(f->notify);
			seccomp_notify_put(f->notify);
		}
		free(f);
		f = prev;
	}
}

void seccomp_exit(struct task *t)
{
	struct seccomp_filter *f;

	mutex_lock(&taskset_mu);
	f = TAKE(t->seccomp);
	mutex_unlock(&taskset_mu);
	seccomp_filter_put(f);
}

int seccomp_filter_count(const struct task *t)
{
	GUARD(mutex, &taskset_mu);
	return t->seccomp ? (int)t->seccomp->depth : 0;
}

static bool is_ancestor(const struct seccomp_filter *old, const struct seccomp_filter *f)
{
	for (; f; f = f->prev)
		if (f == old)
			return true;
	return old == NULL;
}

/* SECCOMP_FILTER_FLAG_TSYNC: every thread gets t's filter, if none has gone its own way. taskset_mu.
 * Returns 0 or the tid of one that cannot. */
static int sync_threads(struct task *t, struct seccomp_filter *f)
{
	struct task *it;

	list_for_each(it, &t->tg->tasks, group_node)
		if (it != t && !it->exited && !is_ancestor(it->seccomp, f->prev))
			return task_tid_in(it, task_pid_ns(t));
	list_for_each(it, &t->tg->tasks, group_node) {
		struct seccomp_filter *old = it->seccomp;

		if (it == t || it->exited)
			continue;
		it->seccomp = seccomp_filter_get(f);
		it->seccomp_mode = SECCOMP_MODE_FILTER;
		task_interrupt(it); /* no call is answered without the filter any more: see run_app */
		seccomp_filter_put(old);
	}
	return 0;
}

bool seccomp_has_listener(const struct seccomp_filter *f)
{
	for (; f; f = f->prev)
		if (f->notify)
			return true;
	return false;
}

static bool allows(const struct seccomp_filter *f, uint64_t nr)
{
	return nr < SECCOMP_CALLS && (f->allow[nr / 64] >> (nr % 64) & 1);
}

/* Which calls f, behind f->prev, always allows. */
static void find_allowed(struct seccomp_filter *f)
{
	/* getpid, getuid, getgid, geteuid, getegid, gettid: enum platform_fact */
	static const uint8_t facts[] = { 39, 102, 104, 107, 108, 186 };

	seccomp_bpf_allows(f->insn, f->count, f->allow);
	for (unsigned i = 0; f->prev && i < ARRAY_COUNT(f->allow); i++)
		f->allow[i] &= f->prev->allow[i];
	f->facts = true;
	for (unsigned i = 0; i < ARRAY_COUNT(facts); i++)
		f->facts &= allows(f, facts[i]);
}

/* A filter on top of prev, whose reference is taken over on success. */
int seccomp_filter_new(struct seccomp_filter *prev, const struct bpf_insn *insn, unsigned count, uint32_t flags,
		       struct seccomp_filter **ret_filter)
{
	struct seccomp_filter *f;
	int err = seccomp_bpf_check(insn, count);

	if (err < 0)
		return err;
	f = malloc(sizeof(*f) + count * sizeof(*insn));
	if (!f)
		return -ENOMEM;
	*f = (struct seccomp_filter){ .prev = prev, .count = count, .depth = 1, .total = count,
				      .log = flags & SECCOMP_FILTER_FLAG_LOG,
				      .killable = flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV };
	refcount_init(&f->refs, 1);
	memcpy(f->insn, insn, count * sizeof(*insn));
	if (prev) {
		f->depth += prev->depth;
		f->total += prev->total + FILTER_PENALTY;
	}
	if (f->total > INSNS_PER_PATH) {
		free(f);
		return -ENOMEM;
	}
	find_allowed(f);
	*ret_filter = f;
	return 0;
}

int seccomp_install(struct task *t, const struct bpf_insn *insn, unsigned count, uint32_t flags,
		    struct seccomp_notify *notify)
{
	struct seccomp_filter *f;
	int err;

	if (notify && seccomp_has_listener(t->seccomp))
		return -EBUSY;
	err = seccomp_filter_new(t->seccomp, insn, count, flags, &f);
	if (err < 0)
		return err;
	GUARD(mutex, &taskset_mu);
	if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
		err = sync_threads(t, f);
		if (err) {
			free(f);
			return flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH ? -ESRCH : err;
		}
	}
	f->notify = notify ? seccomp_notify_get(notify) : NULL;
	t->seccomp = f;
	t->seccomp_mode = SECCOMP_MODE_FILTER;
	return 0;
}

bool seccomp_facts_allowed(const struct task *t)
{
	return t->seccomp_mode == SECCOMP_MODE_FILTER && t->seccomp->facts;
}

static void kill_for(struct task *t, bool process)
{
	uint32_t status = signal_core_status(t->tg, SIGSYS);

	if (process || t->tg->live_count == 1)
		thread_group_exit_self(t, status);
	else
		task_exit_self(t, SIGSYS);
}

/* Is filter's verdict r stronger than old? The lower action as a signed number is. */
static bool stronger(uint32_t r, uint32_t old)
{
	return (int32_t)(r & SECCOMP_RET_ACTION_FULL) < (int32_t)(old & SECCOMP_RET_ACTION_FULL);
}

/* The strongest verdict of all filters from `from` on, and whose it is. */
static uint32_t run_filters(const struct seccomp_filter *from, const struct seccomp_data *d,
			    const struct seccomp_filter **ret_match)
{
	uint32_t verdict = SECCOMP_RET_ALLOW;

	for (const struct seccomp_filter *f = from; f; f = f->prev) {
		uint32_t r = seccomp_bpf_run(f->insn, f->count, (const uint8_t *)d);

		if (stronger(r, verdict)) {
			verdict = r;
			*ret_match = f;
		}
	}
	return verdict;
}

int seccomp_start_verdict(const struct seccomp_filter *f)
{
	const struct seccomp_data d = { .nr = 59 /* execve */, .arch = AUDIT_ARCH_X86_64 };
	const struct seccomp_filter *match = NULL;
	uint32_t verdict = f ? run_filters(f, &d, &match) : SECCOMP_RET_ALLOW;

	switch (verdict & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return 0;
	case SECCOMP_RET_ERRNO:
		return -(int)MIN(verdict & SECCOMP_RET_DATA, 4095u);
	default:
		return -EPERM;
	}
}

/* SECCOMP_RET_TRAP: SIGSYS with the call's facts; the registers show the call undone. */
static void trap(struct task *t, uint32_t data)
{
	const struct platform_syscall *sc = &t->ctx->syscall;
	struct guest_siginfo info = { .signo = SIGSYS, .code = 1, .err = (int32_t)data };

	info.sys.call_addr = sc->ip;
	info.sys.syscall = (int32_t)sc->nr;
	info.sys.arch = sc->audit_arch;
	signal_force(t, &info);
}

static enum seccomp_do strict(struct task *t)
{
	switch (t->ctx->syscall.nr) {
	case 0: /* read, write, rt_sigreturn, exit */
	case 1:
	case 15:
	case 60:
		return SECCOMP_DO_ALLOW;
	default:
		task_exit_self(t, SIGKILL);
		return SECCOMP_DO_KILL;
	}
}

enum seccomp_do seccomp_check(struct task *t, int64_t *ret)
{
	const struct platform_syscall *sc = &t->ctx->syscall;
	const struct seccomp_filter *match = NULL;
	struct seccomp_data d;
	uint32_t verdict, data;
	bool passed; /* the tracer has let this call pass, or changed it */

	if (t->seccomp_mode == SECCOMP_MODE_STRICT)
		return strict(t);
	passed = unlikely(t->tracer) && ptrace_seccomp_passed(t);
	if (likely(sc->audit_arch == AUDIT_ARCH_X86_64 && allows(t->seccomp, (uint64_t)sc->nr)))
		return SECCOMP_DO_ALLOW;
	d = (struct seccomp_data){ .nr = (int)sc->nr, .arch = sc->audit_arch, .instruction_pointer = sc->ip };
	memcpy(d.args, sc->arg, sizeof(d.args));
	verdict = run_filters(t->seccomp, &d, &match);
	data = verdict & SECCOMP_RET_DATA;
	switch (verdict & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
		return SECCOMP_DO_ALLOW;
	case SECCOMP_RET_LOG:
		if (match->log)
			log_debug("seccomp: system call %d of task %d is logged", d.nr, pid_nr_in(t->pid, root_pid_ns));
		return SECCOMP_DO_ALLOW;
	case SECCOMP_RET_ERRNO:
		*ret = -(int64_t)MIN(data, 4095u);
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_TRAP:
		/* The handler sees the number in the result register, as on Linux. */
		*ret = sc->nr;
		trap(t, data);
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_TRACE:
		if (passed)
			return SECCOMP_DO_ALLOW;
		if (ptrace_seccomp(t, data))
			return SECCOMP_DO_STOP;
		*ret = -ENOSYS;
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_KILL_THREAD:
		kill_for(t, false);
		return SECCOMP_DO_KILL;
	case SECCOMP_RET_USER_NOTIF:
		if (match->notify)
			return seccomp_notify_ask(match->notify, t, &d, match->killable, ret);
		*ret = -ENOSYS;
		return SECCOMP_DO_RETURN;
	default:
		kill_for(t, true);
		return SECCOMP_DO_KILL;
	}
}

STATE_DESC(seccomp_filter, S_NOSAVE(seccomp_filter, refs, "recounted"),
	   S_REF(seccomp_filter, 1, prev, seccomp_filter), S_VAL(seccomp_filter, 2, total),
	   S_VAL(seccomp_filter, 3, depth), S_VAL(seccomp_filter, 4, log), S_VAL(seccomp_filter, 5, count),
	   S_VAL(seccomp_filter, 6, killable), S_REF(seccomp_filter, 7, notify, seccomp_notify),
	   S_NOSAVE(seccomp_filter, facts, "computed again"), S_NOSAVE(seccomp_filter, allow, "computed again"));
