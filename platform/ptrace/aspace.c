/*
 * Address spaces: a queue of changes that is always empty while guest code runs, and the stubs that
 * live in the space. See README.md, "Changes of an address space".
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "platform/base/log.h"
#include "platform/host/clock.h"
#include "platform/ptrace/ptrace_priv.h"

enum { KICK_NS = 2000000 };

/* Argument pages for one address space: free ones, or new ones at the end of the file. NULL: no memory. */
static struct args_slot *args_slot_new(struct pt_platform *p)
{
	struct args_slot *slot;

	GUARD(mutex, &p->mu);
	slot = list_first(&p->slots, struct args_slot, link);
	if (slot) {
		list_del(&slot->link);
		return slot;
	}
	slot = calloc(1, sizeof(*slot));
	if (!slot)
		return NULL;
	slot->op = zygote_args_new(&p->zygote, &slot->offset);
	if (!slot->op) {
		free(slot);
		return NULL;
	}
	list_init(&slot->link);
	return slot;
}

/* Gives a slot back; no stub that maps it may be told to run a batch again. */
static void args_slot_free(struct pt_platform *p, struct args_slot *slot)
{
	if (!slot)
		return;
	GUARD(mutex, &p->mu);
	list_add(&p->slots, &slot->link);
}

/* A new stub process in as on cpu. The pid, or -errno. */
static pid_t stub_new(struct pt_platform *p, const struct pt_aspace *as, int cpu)
{
	GUARD(mutex, &p->zygote_mu);
	return zygote_clone(&p->zygote, as->slot->offset, cpu);
}

/* A new empty address space with one reference. Any thread. 0 or -ENOMEM. */
int pt_aspace_new(struct platform *platform, struct aspace **ret_as)
{
	struct pt_platform *p = pt_platform(platform);
	struct pt_aspace *as = calloc(1, sizeof(*as));

	if (!as)
		return -ENOMEM;
	as->slot = op_queue_init(&as->queue) == 0 ? args_slot_new(p) : NULL;
	if (!as->slot) {
		op_queue_fini(&as->queue);
		free(as);
		return -ENOMEM;
	}
	as->pub.ops = p->pub.ops;
	as->pub.platform = platform;
	as->refs = 1;
	mutex_init(&as->mu, 0);
	cond_init(&as->drained);
	list_init(&as->contexts);
	*ret_as = &as->pub;
	return 0;
}

/* Drops one reference; as->mu is held and released. */
static void put_locked(struct pt_aspace *as)
{
	bool last = --as->refs == 0;

	mutex_unlock(&as->mu);
	if (!last)
		return;
	for (size_t i = 0; i < as->spare_count; i++)
		kill(as->spare[i], SIGKILL); /* the host reaps it: SIGCHLD is ignored */
	args_slot_free(pt_platform(as->pub.platform), as->slot);
	cond_fini(&as->drained);
	mutex_fini(&as->mu);
	free(as->spare);
	op_queue_fini(&as->queue);
	free(as);
}

/* The owner's put; stubs that still live in the space keep it until their contexts move on. */
void pt_aspace_free(struct aspace *pub)
{
	struct pt_aspace *as;

	if (!pub)
		return;
	as = pt_aspace(pub);
	mutex_lock(&as->mu);
	put_locked(as);
}

/*
 * Appends changes. Without memory for them everything is dropped instead, which is always allowed: the
 * guest faults its pages in again.
 */
static void queue_locked(struct pt_aspace *as, const struct aspace_op *op, size_t count)
{
	static const struct aspace_op drop_all = { .kind = ASPACE_UNMAP,
						   .addr = STUB_GUEST_MIN,
						   .size = STUB_REQ + 4096 - STUB_GUEST_MIN };

	if (op_queue_reserve(&as->queue, count))
		op_queue_add(&as->queue, op, count);
	else
		op_queue_replace(&as->queue, &drop_all);
	atomic_store(&as->pending, 1);
}

static void clear_locked(struct pt_aspace *as)
{
	op_queue_remove(&as->queue, as->queue.count);
	atomic_store(&as->pending, 0);
	if (atomic_load(&as->waiters))
		cond_broadcast(&as->drained);
}

/*
 * Runs the first count operations of the argument pages in ctx's stub. Returns how many were done: all, or
 * the index of the one that the host refused with *ret_err; -ESRCH when the stub died.
 */
static int64_t run_batch(struct pt_context *ctx, size_t first, size_t count, int *ret_err)
{
	struct guest_regs r = { .rip = stub_address(stub_batch),
				.r13 = STUB_ARGS + first * sizeof(struct stub_op),
				.r14 = count - first,
				.eflags = 0x202 };

	if (first == count)
		return (int64_t)count;
	if (stub_run(ctx, &r) < 0)
		return -ESRCH;
	*ret_err = r.r14 ? (int)(int64_t)r.rax : 0;
	return (int64_t)(count - r.r14);
}

/* Runs one operation; 0, -errno of it, or -ESRCH. */
static int run_one(struct pt_context *ctx, struct stub_op *place, struct stub_op op)
{
	int err = 0;

	*place = op;
	return run_batch(ctx, 0, 1, &err) < 0 ? -ESRCH : err;
}

/*
 * The host refused op: with ENOMEM (too many mappings) the whole space is dropped, which makes room;
 * otherwise the range alone is unmapped. Only the death of the stub is an error.
 */
static int recover(struct pt_aspace *as, struct pt_context *ctx, const struct aspace_op *op, int err)
{
	struct stub_op *place = as->slot->op;

	log_debug("aspace: host refused change %d of 0x%llx+0x%llx: %d", (int)op->kind,
		  (unsigned long long)op->addr, (unsigned long long)op->size, err);
	if (op->kind == ASPACE_PROTECT && run_one(ctx, place, stub_op_unmap(op->addr, op->size)) == 0)
		return 0;
	if (err != -ENOMEM && run_one(ctx, place, stub_op_unmap(op->addr, op->size)) == 0)
		return 0;
	if (run_one(ctx, place, stub_op_unmap(STUB_GUEST_MIN, STUB_GUEST_MAX - STUB_GUEST_MIN)) < 0)
		return -ESRCH;
	return op->kind == ASPACE_MAP && run_one(ctx, place, stub_op_encode(op)) == -ESRCH ? -ESRCH : 0;
}

/* Applies the queue through ctx's stopped stub, whose registers are lost. 0 or -ESRCH. */
static int drain_locked(struct pt_aspace *as, struct pt_context *ctx)
{
	struct stub_op *place = as->slot->op;
	size_t next = 0;

	while (next < as->queue.count || as->wipe) {
		size_t wipe = as->wipe ? 1 : 0, n = MIN(as->queue.count - next, (size_t)BATCH_MAX - wipe);
		int err = 0;
		int64_t done;

		if (wipe)
			place[0] = stub_op_unmap(STUB_GUEST_MIN, STUB_GUEST_MAX - STUB_GUEST_MIN);
		for (size_t i = 0; i < n; i++)
			place[wipe + i] = stub_op_encode(&as->queue.op[next + i]);
		done = run_batch(ctx, 0, n + wipe, &err) - (int64_t)wipe;
		if (done < 0)
			return -ESRCH;
		as->wipe = false;
		next += (size_t)done;
		if (done < (int64_t)n) {
			if (recover(as, ctx, &as->queue.op[next], err) < 0)
				return -ESRCH;
			next++;
		}
	}
	clear_locked(as);
	return 0;
}

/* The guest's registers must survive what we run in its stub: loaded and marked for writing back. */
static int save_registers(struct pt_context *ctx)
{
	if (!ctx->pub.regs_valid && pt_regs_load(&ctx->pub) < 0)
		return -ESRCH;
	ctx->pub.regs_dirty = true;
	return 0;
}

static int drain_with(struct pt_aspace *as, struct pt_context *ctx)
{
	int err = save_registers(ctx);

	return err < 0 ? err : drain_locked(as, ctx);
}

/*
 * Counts ctx among those that run guest code in as, after all queued changes were applied. The stub
 * lives in as and is stopped. 0 or -ESRCH.
 */
int pt_aspace_enter(struct pt_aspace *as, struct pt_context *ctx)
{
	int err = 0;

	atomic_fetch_add(&as->running, 1);
	if (likely(!atomic_load(&as->pending)))
		return 0;
	atomic_fetch_sub(&as->running, 1);
	mutex_lock(&as->mu);
	if (as->queue.count || as->wipe)
		err = drain_with(as, ctx);
	if (err == 0)
		atomic_fetch_add(&as->running, 1);
	else if (atomic_load(&as->waiters))
		cond_broadcast(&as->drained);
	mutex_unlock(&as->mu);
	return err;
}

/* The opposite: the stub is stopped or dead again. */
void pt_aspace_leave(struct pt_aspace *as)
{
	atomic_fetch_sub(&as->running, 1);
	if (unlikely(atomic_load(&as->waiters))) {
		GUARD(mutex, &as->mu);
		cond_broadcast(&as->drained);
	}
}

/* Waits until nobody runs guest code with the queue not empty: kicks those who do. */
static void shoot_down_locked(struct pt_aspace *as)
{
	struct pt_context *ctx;

	atomic_fetch_add(&as->waiters, 1);
	while (as->queue.count && atomic_load(&as->running) > 0) {
		list_for_each(ctx, &as->contexts, link)
			pt_context_kick(ctx);
		cond_wait_until(&as->drained, &as->mu, host_monotonic_ns() + KICK_NS);
	}
	atomic_fetch_sub(&as->waiters, 1);
}

/* platform_ops.aspace_update: queued when nobody runs; else applied by self's stub or by who runs. */
void pt_aspace_update(struct aspace *pub, struct pcontext *self, const struct aspace_op *op, size_t count)
{
	struct pt_aspace *as = pt_aspace(pub);
	struct pt_context *ctx = self ? pt_context(self) : NULL;

	GUARD(mutex, &as->mu);
	queue_locked(as, op, count);
	if (atomic_load(&as->running) == 0)
		return;
	if (ctx && ctx->as == as && atomic_load(&ctx->pid) && drain_with(as, ctx) == 0)
		return;
	shoot_down_locked(as);
}

/* platform_ops.aspace_reserve: clones a parked thread off self's stub. 0, -ENOMEM, -ESRCH, -EAGAIN. */
int pt_aspace_reserve(struct aspace *pub, struct pcontext *self)
{
	struct pt_aspace *as = pt_aspace(pub);
	struct pt_context *ctx = pt_context(self);
	struct guest_regs r = { .rip = stub_address(stub_clone), .eflags = 0x202 };
	int32_t pid;

	if (ctx->as != as || !atomic_load(&ctx->pid))
		return -ESRCH;
	GUARD(mutex, &as->mu);
	if (as->spare_count == as->spare_room) {
		size_t room = as->spare_room * 2 + 4;
		pid_t *grown = reallocarray(as->spare, room, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		as->spare = grown;
		as->spare_room = room;
	}
	if (save_registers(ctx) < 0 || stub_run(ctx, &r) < 0)
		return -ESRCH;
	pid = (int32_t)r.rax;
	if (pid <= 0)
		return -EAGAIN;
	as->spare[as->spare_count++] = pid;
	return 0;
}

/*
 * Gives ctx, which has no stub, one that lives in as: the first process of the space, or a spare
 * thread, whose FPU state is still its parent's. Takes a reference on as. 0, 1 for a spare, or -errno.
 */
int pt_aspace_attach(struct pt_aspace *as, struct pt_context *ctx)
{
	int spare, err;
	pid_t pid;

	GUARD(mutex, &as->mu);
	spare = as->born;
	if (as->spare_count) {
		pid = as->spare[--as->spare_count];
		cpu_pin_task(ctx->pair.cpu, pid);
	} else if (!as->born) {
		pid = stub_new(ctx->platform, as, ctx->pair.cpu);
		if (pid < 0)
			return pid;
		as->born = true;
		const struct aspace_op mailbox = { .kind = ASPACE_UNMAP, .addr = STUB_REQ, .size = 4096 };

		queue_locked(as, &mailbox, 1);
	} else {
		log_error("ptrace: no thread was reserved for a new context");
		return -ESRCH;
	}
	err = stub_attach(ctx, pid);
	if (err < 0)
		return err;
	ctx->as = as;
	as->refs++;
	list_add_tail(&as->contexts, &ctx->link);
	return spare;
}

/*
 * exec: when nothing but ctx's stub is left of the space that it lives in, the process is emptied and
 * becomes the first stub of as, which is cheaper than another one. Returns whether that was so.
 */
bool pt_aspace_inherit(struct pt_aspace *as, struct pt_context *ctx)
{
	struct pt_aspace *old = ctx->as;
	struct args_slot *slot;

	if (!old || !atomic_load(&ctx->pid))
		return false;
	mutex_lock(&old->mu);
	if (old->refs != 1 || old->spare_count) {
		mutex_unlock(&old->mu);
		return false;
	}
	mutex_lock(&as->mu);
	if (as->born) {
		mutex_unlock(&as->mu);
		mutex_unlock(&old->mu);
		return false;
	}
	as->born = true;
	slot = as->slot; /* the process has the old space's pages */
	as->slot = old->slot;
	old->slot = slot;
	as->wipe = true;
	atomic_store(&as->pending, 1);
	list_del(&ctx->link);
	list_add_tail(&as->contexts, &ctx->link);
	as->refs++;
	ctx->as = as;
	mutex_unlock(&as->mu);
	put_locked(old);
	return true;
}

/* Ends ctx's stub and its stay in the space it lived in; harmless without one. */
void pt_aspace_detach(struct pt_context *ctx)
{
	struct pt_aspace *as = ctx->as;

	stub_kill(ctx);
	if (!as)
		return;
	ctx->as = NULL;
	mutex_lock(&as->mu);
	list_del(&ctx->link);
	put_locked(as);
}

/* platform_ops.stub_pids */
size_t pt_aspace_stub_pids(struct aspace *pub, int32_t *pids, size_t count)
{
	struct pt_aspace *as = pt_aspace(pub);
	struct pt_context *ctx;
	size_t n = 0;

	GUARD(mutex, &as->mu);
	list_for_each(ctx, &as->contexts, link) {
		if (n < count)
			pids[n++] = atomic_load(&ctx->pid);
	}
	return n;
}
