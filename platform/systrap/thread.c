/* Guest threads in an address space: their shared memory, birth, waiting and end. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

enum {
	REPORT_MS = 20000,
	READY_MS = 2000,
	WINDOW_SIZE = WINDOW_AREAS * STUB_AREA_SIZE,
	FEW_AREAS = 4, /* memory of more is given back to the host */
};

/* Adds a window of free areas. p->mu is held. */
static void window_new_locked(struct st_platform *p)
{
	const off_t offset = (off_t)p->window_count * WINDOW_SIZE;
	struct area_window *w;
	struct area *map;

	if (p->window_count == ARRAY_COUNT(p->window) || ftruncate(p->area_fd, offset + WINDOW_SIZE) < 0)
		return;
	w = calloc(1, sizeof(*w));
	if (!w)
		return;
	map = mmap(NULL, WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, p->area_fd, offset);
	if (map == MAP_FAILED) {
		free(w);
		return;
	}
	for (unsigned int i = 0; i < WINDOW_AREAS; i++) {
		w->slot[i].area = map + i;
		w->slot[i].index = p->window_count * WINDOW_AREAS + i;
		list_add_tail(&p->areas, &w->slot[i].link);
	}
	p->window[p->window_count++] = w;
}

/* Sees to it that m has an area that no thread uses. False: there are too many, or no memory. */
static bool area_reserve(struct st_platform *p, struct mapper *m)
{
	struct area_slot *slot;

	if (!list_empty(&m->areas))
		return true;
	GUARD(mutex, &p->mu);
	if (list_empty(&p->areas))
		window_new_locked(p);
	slot = list_first(&p->areas, struct area_slot, link);
	if (!slot)
		return false;
	list_del(&slot->link);
	list_add(&m->areas, &slot->link);
	m->area_count++;
	return true;
}

/* Nothing of what a guest process left in an area is for the next one to see. */
void st_area_clear(struct area_slot *slot)
{
	memset(slot->area, 0, STUB_AREA_SIZE);
}

/* Gives the areas of a dead mapper back to all. */
void st_areas_free(struct st_platform *p, struct mapper *m)
{
	struct area_slot *slot;

	list_for_each(slot, &m->areas, link) {
		if (slot->mapped && (m->area_count <= FEW_AREAS ||
				     fallocate(p->area_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					       (off_t)slot->index * STUB_AREA_SIZE, STUB_AREA_SIZE) < 0))
			st_area_clear(slot);
		slot->mapped = false;
	}
	m->area_count = 0;
	GUARD(mutex, &p->mu);
	list_splice_tail(&p->areas, &m->areas);
}

/* Unmaps all areas: the platform ends. */
void st_windows_free(struct st_platform *p)
{
	for (uint32_t i = 0; i < p->window_count; i++) {
		munmap(p->window[i]->slot[0].area, WINDOW_SIZE);
		free(p->window[i]);
	}
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

/* A listener that nobody else may take for an unknown one meanwhile. */
static void listener_close(struct st_platform *p, int fd)
{
	GUARD(mutex, &p->mu);
	p->listeners[fd / 64] &= ~(1ull << (fd % 64));
	close(fd);
}

/* The listener that no thread is known to have, noted now, or -1. One of a birth that is under way: birth_mu is held. */
static int listener_find(struct st_platform *p)
{
	GUARD(mutex, &p->mu);
	for (int fd = 3; fd < LISTENER_MAX; fd++) {
		if ((p->listeners[fd / 64] >> (fd % 64) & 1) || !st_is_listener(fd))
			continue;
		p->listeners[fd / 64] |= 1ull << (fd % 64);
		return fd;
	}
	return -1;
}

/*
 * The listener of the newborn, noted. It says in its mailbox which it is, but other threads of its process can write there
 * too: when that is none, all descriptors are looked at. as->mu and birth_mu are held. -EAGAIN when the newborn got no
 * descriptor and is dead, -EPERM when it does not get ready, -ESRCH.
 */
static int newborn_listener(struct st_aspace *as, const struct stub_thread *t)
{
	struct st_platform *p = st_platform(as->pub.platform);
	pid_t pid;
	int fd;

	memcpy(&fd, &t->slot->area->regs, sizeof(fd));
	if (likely(fd > 0 && st_is_listener(fd))) {
		if (listener_note(p, fd))
			return fd;
		if (fd >= LISTENER_MAX)
			close(fd);
	}
	pid = st_mapper_newborn(as);
	if (pid < 0)
		return pid;
	for (int i = 0; i < READY_MS; i++) {
		bool alive = kill(pid, 0) == 0;

		fd = listener_find(p);
		if (fd >= 0)
			return fd;
		if (!alive)
			return -EAGAIN;
		st_wait_fd(-1, 1);
	}
	return -EPERM;
}

/* Waits for the report of a thread without a past, t, whose listener is fd. False: something else came. */
static bool first_report(const struct st_platform *p, int fd, const struct stub_thread *t, struct seccomp_notif *n)
{
	return st_wait_fd(fd, REPORT_MS) == 1 && st_recv(p, fd, n) == 0 && st_is_report(n) && n->data.args[0] == 0 &&
	       n->data.args[1] == st_area_address(t->slot);
}

/*
 * Completes t, which was just cloned. A listener that no known thread has is believed to be the newborn's when the first
 * report comes from there with the address of the newborn's own area, which the newborn has in a register: as no two
 * areas have one address, that can be nobody else's. 0, or as newborn_listener.
 */
static int newborn_verify(struct st_aspace *as, struct stub_thread *t)
{
	struct st_platform *p = st_platform(as->pub.platform);
	struct seccomp_notif n;
	int fd = newborn_listener(as, t);

	if (fd >= 0) {
		st_listener_setup(fd);
		if (first_report(p, fd, t, &n)) {
			t->listener = fd;
			t->pid = (pid_t)n.pid;
			t->id = n.id;
			t->cpu = as->mapper->cpu;
			return 0;
		}
		listener_close(p, fd);
		fd = -EPERM;
	}
	if (fd == -EPERM) {
		pid_t pid = st_mapper_newborn(as);

		if (pid > 0)
			kill(pid, SIGKILL);
	}
	return fd;
}

/* Lets the mapper do the operations and clone a thread whose memory is slot. As st_birth. */
static int birth(struct st_aspace *as, int cpu, size_t *count, struct area_slot *slot)
{
	struct stub_args *args = as->mapper->args;
	const uint64_t address = st_area_address(slot);
	size_t all = *count;
	int64_t r;

	if (!slot->mapped)
		args->op[all++] = (struct stub_op){
			.nr = SYS_mmap,
			.arg = { address, STUB_AREA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				 (uint64_t)st_platform(as->pub.platform)->area_fd,
				 (uint64_t)slot->index * STUB_AREA_SIZE }
		};
	memset(&slot->area->regs, 0, sizeof(slot->area->regs));
	args->area = address;
	args->stack[0] = address + AREA_STACK;
	args->stack[1] = 0;
	args->stack[2] = AREA_NO_FRAME - AREA_STACK;
	r = st_mapper_do(as, cpu, CMD_BIRTH, all);
	if (r < 0) {
		*count = 0;
		return (int)r;
	}
	*count = MIN(*count, (size_t)r);
	if ((size_t)r < all)
		return -EAGAIN;
	slot->mapped = true;
	return (size_t)r - all == BIRTH_REFUSED ? -EAGAIN : 0;
}

/*
 * A new guest thread in as, on cpu, that waits for its first registers; before that, the first *count operations of
 * the mapper's pages, at most BATCH_MAX - 1, are done. *count becomes how many were: when less, nobody is born.
 * as->mu is held. 0, -ENOMEM, -EAGAIN, -ESRCH: the space is broken.
 */
int st_birth(struct st_aspace *as, int cpu, size_t *count, struct stub_thread **ret_thread)
{
	struct st_platform *p = st_platform(as->pub.platform);
	struct stub_thread *t = calloc(1, sizeof(*t));
	struct mapper *m = as->mapper;
	int err;

	GUARD(mutex, &p->birth_mu);
	if (!t || !area_reserve(p, m)) {
		free(t);
		*count = 0;
		return -ENOMEM;
	}
	list_init(&t->link);
	t->slot = list_first(&m->areas, struct area_slot, link);
	err = birth(as, cpu, count, t->slot);
	if (err == 0)
		err = newborn_verify(as, t);
	if (err == -EPERM) {
		log_error("systrap: a thread was not born as it should");
		st_aspace_break(as);
		err = -ESRCH;
	}
	if (err < 0) {
		free(t);
		return err;
	}
	list_del(&t->slot->link);
	*ret_thread = t;
	return 0;
}

/* Keeps a thread that waits for its registers. What protects m is held. */
void st_thread_park(struct mapper *m, struct stub_thread *t)
{
	list_add(&m->waiting, &t->link);
	m->waiting_count++;
}

/* A thread that waits for its registers, or NULL. What protects m is held. */
struct stub_thread *st_thread_take(struct mapper *m)
{
	struct stub_thread *t = list_first(&m->waiting, struct stub_thread, link);

	if (t) {
		list_del(&t->link);
		m->waiting_count--;
	}
	return t;
}

/*
 * Makes a thread that waits for its registers one without a past: nothing is left of what a guest process, which is gone,
 * had in its area and its registers (a report that guest code has forged leaves any stack pointer and flags behind).
 * False: it does not wait. st_thread_rested tells when it is done.
 */
bool st_thread_rest(struct stub_thread *t)
{
	const uint64_t address = st_area_address(t->slot);

	st_area_clear(t->slot);
	t->slot->area->regs = (struct guest_regs){ .rip = st_stub_address(systrap_stub_rest),
						   .r13 = address,
						   .rsp = address + AREA_NO_FRAME,
						   .cs = 0x33,
						   .ss = 0x2b,
						   .eflags = 0x202 };
	return st_send(t->listener, t->id, (int64_t)address) == 0;
}

/* Waits until t is one without a past, and so for its registers. False: it is not, and to be ended. */
bool st_thread_rested(const struct st_platform *p, struct stub_thread *t)
{
	struct seccomp_notif n;

	if (!first_report(p, t->listener, t, &n))
		return false;
	t->id = n.id;
	return true;
}

/* Ends a thread that waits for an answer: it runs no instruction any more. What protects m is held. */
void st_thread_end(struct st_platform *p, struct mapper *m, struct stub_thread *t)
{
	if (t->pid)
		kill(t->pid, SIGKILL); /* the host reaps it: SIGCHLD is ignored */
	listener_close(p, t->listener);
	list_add(&m->areas, &t->slot->link);
	free(t);
}
