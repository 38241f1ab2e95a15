/*
 * The mapper: one process for each address space that runs our code only. It applies changes of the
 * mappings in batches and clones the guest threads. It takes its orders from a page that is read only in
 * the space, and answers through an eventfd, which no guest can reach.
 */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

enum { ANSWER_MS = 20000 };

/* Argument pages for one address space: a free slot, or a new one. NULL: no memory or descriptor. */
struct args_slot *st_args_new(struct st_platform *p)
{
	struct args_slot *slot;
	void *map;

	GUARD(mutex, &p->mu);
	slot = list_first(&p->slots, struct args_slot, link);
	if (slot) {
		list_del(&slot->link);
		return slot;
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (slot->event_fd < 0 || ftruncate(p->args_fd, (off_t)(p->args_size + STUB_ARGS_SIZE)) < 0)
		goto fail;
	map = mmap(NULL, STUB_ARGS_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->args_fd, (off_t)p->args_size);
	if (map == MAP_FAILED)
		goto fail;
	slot->args = map;
	slot->offset = p->args_size;
	slot->args->event_fd = (uint32_t)slot->event_fd;
	for (size_t i = 0; i < ARRAY_COUNT(slot->args->value); i++)
		slot->args->value[i] = i + 1;
	p->args_size += STUB_ARGS_SIZE;
	list_init(&slot->link);
	return slot;
fail:
	if (slot->event_fd >= 0)
		close(slot->event_fd);
	free(slot);
	return NULL;
}

/* Gives a slot back; its mapper must be killed. */
void st_args_free(struct st_platform *p, struct args_slot *slot)
{
	uint64_t left;

	if (!slot)
		return;
	(void)!read(slot->event_fd, &left, sizeof(left)); /* an answer that nobody waited for any more */
	GUARD(mutex, &p->mu);
	list_add(&p->slots, &slot->link);
}

static struct area_slot *area_new(struct st_platform *p)
{
	struct area_slot *slot;
	void *map;

	GUARD(mutex, &p->mu);
	slot = list_first(&p->areas, struct area_slot, link);
	if (slot) {
		list_del(&slot->link);
		return slot;
	}
	slot = p->area_count < STUB_AREA_COUNT ? calloc(1, sizeof(*slot)) : NULL;
	if (!slot)
		return NULL;
	const off_t offset = (off_t)p->area_count * STUB_AREA_SIZE;

	map = MAP_FAILED;
	if (ftruncate(p->area_fd, offset + STUB_AREA_SIZE) == 0)
		map = mmap(NULL, STUB_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->area_fd, offset);
	if (map == MAP_FAILED) {
		free(slot);
		return NULL;
	}
	slot->area = map;
	slot->index = p->area_count++;
	list_init(&slot->link);
	return slot;
}

/* Gives the areas of a dead address space back to all. */
void st_areas_free(struct st_platform *p, struct list_node *areas)
{
	struct area_slot *slot, *tmp;

	GUARD(mutex, &p->mu);
	list_for_each_safe(slot, tmp, areas, link) {
		list_del(&slot->link);
		slot->mapped = false;
		list_add(&p->areas, &slot->link);
	}
}

/* Waits for the mapper's answer: what it wrote less one, or -ESRCH. */
static int64_t wait_answer(struct st_aspace *as)
{
	int fd = as->slot->event_fd;
	uint64_t value;

	if (st_wait_fd(fd, ANSWER_MS) == 1 && read(fd, &value, sizeof(value)) == sizeof(value))
		return (int64_t)(value - 1);
	return -ESRCH;
}

/*
 * Lets the mapper do what the argument pages say, count operations or one birth, next to cpu. as->mu is
 * held. Returns the mapper's answer, or -ESRCH when it is dead; the space is broken then.
 */
static int64_t mapper_do(struct st_aspace *as, int cpu, uint32_t cmd, size_t count)
{
	struct st_platform *p = st_platform(as->pub.platform);
	struct stub_args *args = as->slot->args;
	int64_t r;

	if (as->broken)
		return -ESRCH;
	if (!as->mapper) {
		atomic_store(&args->seq, 0);
		as->mapper = st_zygote_clone(p, as->slot->offset, cpu);
		as->mapper_cpu = cpu;
		if (as->mapper < 0) {
			log_warn("systrap: no process for an address space: %d", (int)as->mapper);
			as->mapper = 0;
			return -EAGAIN;
		}
	}
	if (cpu != as->mapper_cpu) {
		st_cpu_pin_task(cpu, as->mapper);
		as->mapper_cpu = cpu;
	}
	args->cmd = cmd;
	args->count = count;
	atomic_fetch_add(&args->seq, 1);
	/* all: a killed mapper of another space that had these pages may still be in the queue */
	syscall(SYS_futex, &args->seq, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
	r = wait_answer(as);
	if (r < 0) {
		log_error("systrap: mapper %d does not answer", (int)as->mapper);
		kill(as->mapper, SIGKILL);
		as->broken = true;
	}
	return r;
}

/* Runs the first count operations of the argument pages: returns how many succeeded, or -ESRCH, -EAGAIN. */
int st_mapper_run(struct st_aspace *as, int cpu, size_t count)
{
	return count ? (int)mapper_do(as, cpu, CMD_BATCH, count) : 0;
}

static int map_area(struct st_aspace *as, int cpu, struct area_slot *slot)
{
	int r;

	if (slot->mapped)
		return 0;
	as->slot->args->op[0] = (struct stub_op){
		.nr = SYS_mmap,
		.arg = { st_area_address(slot), STUB_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 (uint64_t)st_platform(as->pub.platform)->area_fd, (uint64_t)slot->index * STUB_AREA_SIZE }
	};
	r = st_mapper_run(as, cpu, 1);
	if (r < 1)
		return r < 0 ? r : -EAGAIN;
	slot->mapped = true;
	return 0;
}

/* Notes that fd is a listener of ours; false when it is one already, or none that we can note. */
static bool listener_note(struct st_platform *p, int fd)
{
	uint64_t bit = 1ull << (fd % 64);

	if (fd <= 2 || fd >= LISTENER_MAX)
		return false;
	GUARD(mutex, &p->mu);
	if (p->listeners[fd / 64] & bit)
		return false;
	p->listeners[fd / 64] |= bit;
	return true;
}

static void listener_forget(struct st_platform *p, int fd)
{
	GUARD(mutex, &p->mu);
	p->listeners[fd / 64] &= ~(1ull << (fd % 64));
}

/*
 * The newborn has written its listener's number where other threads of its process can write too. It
 * is believed when it is a listener, of no thread known, whose only notification is the first report
 * with the address of the newborn's own area, which the newborn has in a register: as no two areas
 * have one address, that can be nobody else's.
 */
static int newborn_verify(struct st_platform *p, struct stub_thread *t)
{
	struct seccomp_notif n;
	int fd;

	memcpy(&fd, &t->slot->area->regs, sizeof(fd));
	if (fd < 0)
		return -EAGAIN; /* the host refused: too many descriptors */
	if (!listener_note(p, fd))
		return -EPERM;
	st_listener_setup(fd);
	if (st_wait_fd(fd, ANSWER_MS) != 1 || st_recv(p, fd, &n) < 0 || !st_is_report(&n) || n.data.args[0] != 0 ||
	    n.data.args[1] != st_area_address(t->slot)) {
		listener_forget(p, fd);
		return -EPERM;
	}
	t->listener = fd;
	t->pid = (pid_t)n.pid;
	t->id = n.id;
	return 0;
}

/*
 * A new guest thread in as, on cpu, that waits for its first registers. as->mu is held. 0, -ENOMEM,
 * -EAGAIN, -ESRCH; -EPERM when the guest interfered, and the space is broken then.
 */
int st_birth(struct st_aspace *as, int cpu, struct stub_thread **ret_thread)
{
	struct st_platform *p = st_platform(as->pub.platform);
	struct stub_args *args = as->slot->args;
	struct stub_thread *t = calloc(1, sizeof(*t));
	int err;

	if (!t)
		return -ENOMEM;
	list_init(&t->link);
	GUARD(mutex, &p->birth_mu);
	t->slot = list_first(&as->areas, struct area_slot, link);
	if (t->slot)
		list_del(&t->slot->link);
	else
		t->slot = area_new(p);
	err = t->slot ? map_area(as, cpu, t->slot) : -ENOMEM;
	if (err == 0) {
		uint64_t address = st_area_address(t->slot);

		memset(&t->slot->area->regs, 0, sizeof(t->slot->area->regs));
		args->area = address;
		args->stack[0] = address + AREA_STACK;
		args->stack[1] = 0;
		args->stack[2] = AREA_NO_FRAME - AREA_STACK;
		err = (int)mapper_do(as, cpu, CMD_BIRTH, 0);
		err = err == 1 ? -EAGAIN : err > 0 ? -EPERM : err;
	}
	if (err == 0)
		err = newborn_verify(p, t);
	if (err == -EPERM) {
		log_error("systrap: a thread was not born as it should");
		kill(as->mapper, SIGKILL);
		as->broken = true;
	}
	if (err < 0) {
		if (t->slot)
			list_add(&as->areas, &t->slot->link);
		free(t);
		return err;
	}
	*ret_thread = t;
	return 0;
}

/* Ends a thread that waits for an answer: it runs no instruction any more. as->mu is held. */
void st_thread_end(struct st_aspace *as, struct stub_thread *t)
{
	struct st_platform *p = st_platform(as->pub.platform);

	if (t->pid)
		kill(t->pid, SIGKILL); /* the host reaps it: SIGCHLD is ignored */
	listener_forget(p, t->listener);
	close(t->listener);
	list_add(&as->areas, &t->slot->link);
	free(t);
}
