/*
 * The mapper: one process for each address space that runs our code only. It applies changes of the
 * mappings in batches and clones the guest threads. It takes its orders from a page that is read only in
 * the space, and answers through an eventfd, which no guest can reach. When the space is gone, a mapper that has
 * few threads waits, with them, for the next one.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

enum {
	ANSWER_MS = 20000,
	LOOK_MS = 50,       /* who has not answered by then may be dead */
	DEATH_MS = 2000,
	IDLE_MAX = 4,       /* mappers kept without an address space */
	IDLE_AREAS_MAX = 4, /* those with more are not worth clearing */
	ANSWER_WIPED = 2,   /* one operation done */
};

static struct mapper *slot_new(struct st_platform *p)
{
	struct mapper *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	m->args = m->event_fd < 0 ? NULL : zygote_args_new(&p->zygote, &m->offset);
	if (!m->args)
		goto fail;
	m->args->event_fd = (uint32_t)m->event_fd;
	for (size_t i = 0; i < ARRAY_COUNT(m->args->value); i++)
		m->args->value[i] = i + 1;
	for (size_t i = 0; i < ARRAY_COUNT(m->args->power); i++)
		m->args->power[i] = 1ull << i;
	list_init(&m->link);
	list_init(&m->waiting);
	list_init(&m->areas);
	return m;
fail:
	if (m->event_fd >= 0)
		close(m->event_fd);
	free(m);
	return NULL;
}

static struct mapper *take(struct st_platform *p)
{
	struct mapper *m;

	GUARD(mutex, &p->mu);
	m = list_first(&p->idle, struct mapper, link);
	if (m)
		p->idle_count--;
	else
		m = list_first(&p->slots, struct mapper, link);
	if (!m)
		return slot_new(p);
	list_del(&m->link);
	return m;
}

/* Tells m what to do; its answer is to be read. */
static void ask(struct mapper *m, uint32_t cmd, size_t count)
{
	m->args->cmd = cmd;
	m->args->count = count;
	m->asked = true;
	atomic_fetch_add(&m->args->seq, 1);
	/* all: a killed mapper that had these pages before may still be in the queue */
	syscall(SYS_futex, &m->args->seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

/* What the mapper, or the zygote in its place, has written; 0 when it does not answer or is dead. */
static uint64_t answer(struct st_platform *p, struct mapper *m)
{
	uint64_t value;
	int ready = 0;

	for (int waited = 0; ready == 0 && waited < ANSWER_MS; waited += LOOK_MS) {
		pid_t who = m->pid ? m->pid : p->zygote.req->pid > 0 ? p->zygote.req->pid : p->zygote.pid;

		ready = st_wait_fd(m->event_fd, LOOK_MS);
		if (ready == 0 && kill(who, 0) < 0 && st_wait_fd(m->event_fd, 0) == 0)
			return 0;
	}
	if (ready != 1 || read(m->event_fd, &value, sizeof(value)) != sizeof(value))
		return 0;
	m->asked = false;
	return value;
}

/* Nobody who was working may write an answer to the next one's eventfd. */
static void mapper_kill(struct mapper *m)
{
	uint64_t left;

	if (!m->pid)
		return;
	kill(m->pid, SIGKILL); /* the host reaps it: SIGCHLD is ignored */
	for (int i = 0; m->asked && i < DEATH_MS && kill(m->pid, 0) == 0; i++)
		st_wait_fd(-1, 1);
	(void)!read(m->event_fd, &left, sizeof(left));
	m->pid = 0;
	m->asked = m->used = false;
}

/* Ends m's process and threads: it is as it was before its first use. */
static void stop(struct st_platform *p, struct mapper *m)
{
	struct stub_thread *t;

	while ((t = st_thread_take(m)))
		st_thread_end(p, m, t);
	mapper_kill(m);
	st_areas_free(p, m);
}

/*
 * A mapper for an address space that has none: an idle one with its process and threads, else one without. Its pages may
 * be written to: it waits. NULL: no memory or descriptor.
 */
struct mapper *st_mapper_take(struct st_platform *p)
{
	struct mapper *m = take(p);
	struct list_node old = LIST_INIT(old);
	struct stub_thread *t;

	if (!m)
		return NULL;
	list_splice_tail(&old, &m->waiting);
	m->waiting_count = 0;
	while ((t = list_first(&old, struct stub_thread, link))) {
		list_del(&t->link);
		if (st_thread_rested(p, t))
			st_thread_park(m, t);
		else
			st_thread_end(p, m, t);
	}
	if (m->asked && answer(p, m) != ANSWER_WIPED)
		stop(p, m);
	return m;
}

/*
 * Makes m fit for another address space: its threads forget what they were. now: its mappings go too. Returns whether any
 * thread is left.
 */
static bool rest(struct st_platform *p, struct mapper *m, bool now)
{
	struct list_node old = LIST_INIT(old);
	struct area_slot *slot;
	struct stub_thread *t;

	list_splice_tail(&old, &m->waiting);
	m->waiting_count = 0;
	list_for_each(slot, &m->areas, link)
		st_area_clear(slot);
	while ((t = list_first(&old, struct stub_thread, link))) {
		list_del(&t->link);
		if (st_thread_rest(t))
			st_thread_park(m, t);
		else
			st_thread_end(p, m, t);
	}
	m->used = true;
	st_title_clear(m);
	if (!now || !m->waiting_count)
		return m->waiting_count;
	m->args->op[0] = st_op_wipe();
	ask(m, CMD_BATCH, 1);
	m->used = false;
	return true;
}

/* Counts one more idle mapper, if that is not too many. */
static bool idle_reserve(struct st_platform *p)
{
	GUARD(mutex, &p->mu);
	if (p->idle_count >= IDLE_MAX)
		return false;
	p->idle_count++;
	return true;
}

static void idle_cancel(struct st_platform *p)
{
	GUARD(mutex, &p->mu);
	p->idle_count--;
}

/*
 * The opposite of st_mapper_take. keep: its process is sound and its threads wait, so it may be used again. now: its
 * mappings are to go at once; else the next address space begins with that.
 */
void st_mapper_give(struct st_platform *p, struct mapper *m, bool keep, bool now)
{
	if (!m)
		return;
	keep = keep && m->pid && m->waiting_count && m->area_count <= IDLE_AREAS_MAX && idle_reserve(p);
	if (keep && rest(p, m, now)) {
		GUARD(mutex, &p->mu);
		list_add(&p->idle, &m->link);
		return;
	}
	if (keep)
		idle_cancel(p);
	stop(p, m);
	GUARD(mutex, &p->mu);
	list_add(&p->slots, &m->link);
}

/* Ends the idle mappers and frees all that no address space has. */
void st_mappers_free(struct st_platform *p)
{
	struct mapper *m, *tmp;

	list_splice_tail(&p->slots, &p->idle);
	list_for_each_safe(m, tmp, &p->slots, link) {
		stop(p, m);
		munmap(m->args, STUB_ARGS_SIZE);
		close(m->event_fd);
		free(m);
	}
}

/* Makes m's process, which begins with the command in its pages. birth_mu is held. Its answer; 0: there is none. */
static uint64_t start(struct st_platform *p, struct mapper *m, int cpu, uint32_t cmd, size_t count)
{
	uint64_t value;

	m->args->cmd = cmd;
	m->args->count = count;
	atomic_store(&m->args->seq, 1);
	zygote_ask(&p->zygote, m->offset, m->event_fd, cpu);
	m->cpu = cpu;
	value = answer(p, m);
	m->pid = value == ANSWER_NO_MAPPER ? 0 : MAX(p->zygote.req->pid, 0);
	return value;
}

/*
 * Lets the mapper do what the argument pages say, count operations and perhaps a birth, next to cpu. as->mu is
 * held, and birth_mu when it may have no process. Returns the mapper's answer; -EAGAIN when the host makes no process,
 * -ESRCH when it is dead; the space is broken then.
 */
int64_t st_mapper_do(struct st_aspace *as, int cpu, uint32_t cmd, size_t count)
{
	struct mapper *m = as->mapper;
	uint64_t value;

	if (as->broken)
		return -ESRCH;
	if (!m->pid) {
		value = start(st_platform(as->pub.platform), m, cpu, cmd, count);
		if (value == ANSWER_NO_MAPPER) {
			log_warn("systrap: the host makes no process for an address space");
			return -EAGAIN;
		}
	} else {
		if (cpu != m->cpu)
			cpu_pin_task(cpu, m->pid);
		m->cpu = cpu;
		ask(m, cmd, count);
		value = answer(st_platform(as->pub.platform), m);
	}
	if (value)
		return (int64_t)(value - 1);
	log_error("systrap: mapper %d does not answer", (int)m->pid);
	st_aspace_break(as);
	return -ESRCH;
}

/*
 * The pid of the last thread that the mapper has cloned, 0 when there is none; it may be dead. as->mu is held.
 * -ESRCH: the mapper is dead.
 */
pid_t st_mapper_newborn(struct st_aspace *as)
{
	uint64_t value = 0, more;

	if (as->broken)
		return -ESRCH;
	ask(as->mapper, CMD_WHO, 0);
	while (!(value & ANSWER_WHO_END)) {
		more = answer(st_platform(as->pub.platform), as->mapper);
		if (!more) {
			st_aspace_break(as);
			return -ESRCH;
		}
		value += more;
	}
	return (pid_t)(value & (ANSWER_WHO_END - 1));
}
