/*
 * A container at its memory limit: what was handed out and not touched is taken back; if that is not enough, its
 * biggest process is killed. Analogue: mm/oom_kill.c for a memory cgroup.
 */
#include <poll.h>
#include <stdlib.h>

#include "platform/base/log.h"
#include "sentry/core/cause.h"
#include "sentry/kernel/kernel_priv.h"
#include "sentry/mm/account.h"

enum {
	ROOM_ENOUGH = 256 << 10, /* bytes: not worth looking for more */
	TRIM_COARSE = 64 << 10,
	OOM_ADJ_MIN = -1000,
	EXCESS_MIN = 1 << 20, /* and a part of the limit: what the calls of all tasks may take too much together */
	EXCESS_PART = 32,
};
#define POLL_NS 1000000ll	   /* until the first look whether memory was given back; then twice as long each time */
#define VICTIM_NS 5000000000ll	   /* after that another process is killed */
#define NO_VICTIM_NS 50000000ll	   /* nobody can be killed: a faulting task tries again so often */

/* A process of the container. */
struct candidate {
	struct thread_group *tg; /* reference */
	struct mm *mm;		 /* reference */
	int32_t adj;
};

/* The memory of a process through any thread that still has it, or NULL. taskset_mu. */
static struct mm *group_mm(struct thread_group *tg)
{
	struct mm *mm = NULL;
	struct task *t;

	list_for_each(t, &tg->tasks, group_node)
		if (!t->exited && (mm = task_get_mm(t)) != NULL)
			break;
	return mm;
}

/* The living processes of cg with memory; *ret_count may be less than there are when memory is short. To be given to
 * candidates_free. */
static struct candidate *candidates(struct cgroup *cg, size_t *ret_count)
{
	struct candidate *list = NULL;
	size_t count = 0, capacity = 0;
	struct task *t;

	GUARD(mutex, &taskset_mu);
	list_for_each(t, &all_tasks, all_node) {
		struct thread_group *tg = t->tg;

		if (tg->leader != t || tg->zombie || task_cgroup(t) != cg)
			continue;
		if (count == capacity) {
			size_t more = MAX(capacity * 2, (size_t)16);
			struct candidate *grown = realloc(list, more * sizeof(*list));

			if (!grown)
				break;
			list = grown;
			capacity = more;
		}
		list[count] = (struct candidate){ .mm = group_mm(tg), .adj = tg->oom_score_adj };
		if (list[count].mm)
			list[count++].tg = thread_group_get(tg);
	}
	*ret_count = count;
	return list;
}

static void candidates_free(struct candidate *list, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		mm_put(list[i].mm);
		thread_group_put(list[i].tg);
	}
	free(list);
}

/* Takes back pieces of at least min_size that no process of the container has touched. */
static void trim(struct candidate *list, size_t count, uint64_t min_size)
{
	for (size_t i = 0; i < count; i++)
		(void)mm_trim(list[i].mm, min_size);
}

/*
 * Linux's oom_badness: the memory that would come back, moved by oom_score_adj thousandths of the limit. Files' pages
 * are the host's and do not count.
 */
static int64_t badness(const struct candidate *c, uint64_t limit)
{
	struct mm_usage u;

	mm_usage(c->mm, &u);
	return (int64_t)(u.rss_anon + u.rss_shmem) + c->adj * (int64_t)(limit / 1000);
}

/* Whom to kill, or NULL: everybody is exempt or dying. */
static const struct candidate *choose(const struct candidate *list, size_t count, uint64_t limit)
{
	const struct candidate *worst = NULL;
	int64_t points, most = 0;

	for (size_t i = 0; i < count; i++) {
		if (list[i].adj <= OOM_ADJ_MIN || list[i].tg->exiting)
			continue;
		points = badness(&list[i], limit);
		if (worst && points <= most)
			continue;
		worst = &list[i];
		most = points;
	}
	return worst;
}

/* Kills the victim, and whoever shares its memory: it would not come back otherwise. */
static void kill_victim(struct cgroup *cg, const struct candidate *victim, const struct candidate *list, size_t count)
{
	int32_t pid;

	mutex_lock(&taskset_mu);
	pid = pid_nr_in(victim->tg->pid, victim->tg->pid->number[victim->tg->pid->level].ns);
	for (size_t i = 0; i < count; i++)
		if (list[i].mm == victim->mm && (list[i].adj > OOM_ADJ_MIN || list[i].tg == victim->tg))
			signal_group_exit_locked(list[i].tg, SIGKILL);
	cg->oom_victim = victim->tg->zombie ? NULL : victim->tg;
	cg->oom_victim_ns = clock_mono();
	mutex_unlock(&taskset_mu);
	cg->oom_kills++;
	log_warn("out of memory at %llu MiB: process %d of the container is killed",
		 (unsigned long long)cg->memory->limit >> 20, pid);
	(void)cause(ENOMEM, CAUSE_LIMIT, "memory limit of %llu MiB, process %d killed: raise linux.resources.memory.limit",
		    (unsigned long long)cg->memory->limit >> 20, pid);
	waitq_wake(&cg->waitq, POLLPRI);
}

/* Is a process that was killed still on its way out, with its memory? */
static bool victim_pending(struct cgroup *cg)
{
	GUARD(mutex, &taskset_mu);
	return cg->oom_victim && clock_mono() - cg->oom_victim_ns < VICTIM_NS;
}

void cgroup_trim_memory(struct cgroup *cg)
{
	struct candidate *list;
	size_t count;

	list = candidates(cg, &count);
	trim(list, count, GUEST_PAGE_SIZE);
	candidates_free(list, count);
}

/* One look at the whole container by one task at a time. False: there is nothing to take back and nobody to kill. */
static bool relieve_once(struct cgroup *cg, uint64_t size)
{
	const struct candidate *victim;
	struct candidate *list;
	size_t count;
	bool ok = true;

	if (memory_account_room(cg->memory) >= size || victim_pending(cg))
		return true;
	list = candidates(cg, &count);
	trim(list, count, TRIM_COARSE);
	if (memory_account_room(cg->memory) < MAX(size, (uint64_t)ROOM_ENOUGH))
		trim(list, count, GUEST_PAGE_SIZE);
	if (memory_account_room(cg->memory) < size && !victim_pending(cg)) {
		cg->oom_events++;
		victim = choose(list, count, cg->memory->limit);
		ok = victim;
		if (victim)
			kill_victim(cg, victim, list, count);
		else
			waitq_wake(&cg->waitq, POLLPRI);
	}
	candidates_free(list, count);
	return ok;
}

/*
 * Makes room for size bytes, without locks. Like in Linux, who faults tries again for ever when nobody can be
 * killed, until it is killed itself. True when there may be room, or the task is killed.
 */
static bool relieve(struct task *t, struct cgroup *cg, uint64_t size)
{
	int64_t end = clock_mono() + VICTIM_NS, pause = POLL_NS;
	bool ok = true;

	while (!t->killed && ok && clock_mono() < end) {
		if (!atomic_exchange(&cg->relieving, true)) {
			ok = relieve_once(cg, size);
			cg->relieving = false;
		}
		if (memory_account_room(cg->memory) >= size)
			break;
		if (!t->killed)
			(void)!task_block_killable(t, clock_mono() + (ok ? pause : NO_VICTIM_NS), "memory");
		pause = MIN(pause * 2, NO_VICTIM_NS);
	}
	return ok;
}

/*
 * In a call, where locks may be held: only the own process gives back what it did not touch. A call may take a little more
 * than there is; whoever does pays on its way out (oom_settle). Beyond that a call stops short or has its error.
 */
static bool relieve_in_call(struct task *t, struct cgroup *cg, uint64_t size)
{
	uint64_t limit = cg->memory->limit, excess = EXCESS_MIN + limit / EXCESS_PART;

	if (t->killed || t->over_limit)
		return false;
	if (t->mm)
		(void)mm_trim(t->mm, TRIM_COARSE);
	if (memory_account_room(cg->memory) >= MAX(size, (uint64_t)ROOM_ENOUGH))
		return true;
	t->over_limit = true;
	t->interrupt = true;
	memory_exceed(excess);
	return memory_account_excess(cg->memory) + size <= excess;
}

void oom_settle(struct task *t)
{
	struct cgroup *cg = task_cgroup(t);

	t->over_limit = false;
	memory_exceed(0);
	if (cg && memory_account_room(cg->memory) == 0)
		(void)relieve(t, cg, GUEST_PAGE_SIZE);
}

static bool on_refusal(struct memory_account *a, uint64_t size, bool in_call)
{
	struct task *t = current;
	struct cgroup *cg = t ? task_cgroup(t) : NULL;

	if (!cg || cg->memory != a)
		return false;
	if (in_call)
		return relieve_in_call(t, cg, size);
	(void)relieve(t, cg, size);
	return true;
}

void oom_init(void)
{
	memory_set_relief(on_refusal);
}
