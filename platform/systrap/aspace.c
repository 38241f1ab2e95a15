/* Address spaces: a queue of changes that is always empty while guest code runs, and who lives there. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

enum { WAITING_MAX = 4 /* threads kept in an address space for contexts to come */ };

/* A new empty address space with one reference. Any thread. 0 or -ENOMEM. */
int st_aspace_new(struct platform *platform, struct aspace **ret_as)
{
	struct st_platform *p = st_platform(platform);
	struct st_aspace *as = calloc(1, sizeof(*as));

	if (!as)
		return -ENOMEM;
	if (op_queue_init(&as->queue) < 0) {
		free(as);
		return -ENOMEM;
	}
	as->pub.ops = p->pub.ops;
	as->pub.platform = platform;
	as->refs = 1;
	mutex_init(&as->mu, 0);
	list_init(&as->contexts);
	*ret_as = &as->pub;
	return 0;
}

/*
 * Drops one reference; as->mu is held and released. moves: the caller's context goes on to another space at
 * once, which may be where the mapper goes too.
 */
static void put_locked(struct st_aspace *as, bool moves)
{
	bool last = --as->refs == 0;

	mutex_unlock(&as->mu);
	if (!last)
		return;
	st_sites_free(as);
	st_mapper_give(st_platform(as->pub.platform), as->mapper, !as->broken, !moves);
	mutex_fini(&as->mu);
	op_queue_fini(&as->queue);
	free(as);
}

/* The owner's put; stubs that still live in the space keep it until their contexts move on. */
void st_aspace_free(struct aspace *pub)
{
	struct st_aspace *as;

	if (!pub)
		return;
	as = st_aspace(pub);
	mutex_lock(&as->mu);
	as->title = NULL;
	put_locked(as, false);
}

/* All that the guest knows of. */
static const struct aspace_op drop_all = { .kind = ASPACE_UNMAP,
					   .addr = STUB_GUEST_MIN,
					   .size = STUB_GUEST_MAX - STUB_GUEST_MIN };
/* And the trampolines: no guest is left. */
static const struct aspace_op wipe = { .kind = ASPACE_UNMAP,
				       .addr = STUB_SITES,
				       .size = STUB_GUEST_MAX - STUB_SITES };

/*
 * Makes room for count more changes. Without memory for them everything is dropped instead, which is always
 * allowed: the guest faults its pages in again. False then.
 */
static bool queue_room_locked(struct st_aspace *as, size_t count)
{
	atomic_store(&as->pending, 1);
	if (op_queue_reserve(&as->queue, count))
		return true;
	op_queue_replace(&as->queue, &drop_all);
	st_sites_forget(as);
	return false;
}

/* Appends changes; as->mu is held. */
void st_aspace_queue(struct st_aspace *as, const struct aspace_op *op, size_t count)
{
	if (queue_room_locked(as, count))
		op_queue_add(&as->queue, op, count);
}

/* The first count changes are done. */
static void done_locked(struct st_aspace *as, size_t count)
{
	op_queue_remove(&as->queue, count);
	if (as->queue.count)
		return;
	st_sites_drained(as);
	atomic_store(&as->pending, 0);
}

/* What empties an address space that nobody has any more. */
struct stub_op st_op_wipe(void)
{
	return stub_op_encode(&wipe);
}

/* Runs one operation; 1 when the host did it, 0 when not, -ESRCH. */
static int run_one(struct st_aspace *as, int cpu, struct stub_op op)
{
	as->mapper->args->op[0] = op;
	return (int)st_mapper_do(as, cpu, CMD_BATCH, 1);
}

/*
 * The host refused op: its range is unmapped; when even that is refused (too many mappings), or a mapping
 * was, the whole space is dropped, which makes room. Only the death of the mapper is an error.
 */
static int recover(struct st_aspace *as, int cpu, const struct aspace_op *op)
{
	int r;

	log_debug("aspace: host refused change %d of 0x%llx+0x%llx", (int)op->kind, (unsigned long long)op->addr,
		  (unsigned long long)op->size);
	if (op->kind != ASPACE_MAP) {
		r = run_one(as, cpu, stub_op_unmap(op->addr, op->size));
		if (r != 0)
			return r < 0 ? r : 0;
	}
	r = run_one(as, cpu, stub_op_encode(&drop_all));
	st_sites_lost(as, (size_t)(op - as->queue.op));
	if (r == 1 && op->kind == ASPACE_MAP)
		r = run_one(as, cpu, stub_op_encode(op));
	return r < 0 ? r : 0;
}

/* Writes the first changes of the queue, at most max, into the mapper's pages. Returns their number. */
static size_t encode_locked(struct st_aspace *as, size_t max)
{
	size_t n = MIN(as->queue.count, max);

	for (size_t i = 0; i < n; i++)
		as->mapper->args->op[i] = stub_op_encode(&as->queue.op[i]);
	return n;
}

/* Applies the queue. 0 or -ESRCH. */
static int drain_locked(struct st_aspace *as, int cpu)
{
	while (as->queue.count) {
		size_t n = encode_locked(as, BATCH_MAX);
		int64_t done = st_mapper_do(as, cpu, CMD_BATCH, n);

		if (done < 0)
			return (int)done;
		if ((size_t)done < n) {
			if (recover(as, cpu, &as->queue.op[done]) < 0)
				return -ESRCH;
			done++;
		}
		done_locked(as, MIN((size_t)done, n));
	}
	return 0;
}

/*
 * Counts ctx among those that run guest code in as, after all queued changes were applied. 0 or
 * -errno.
 */
int st_aspace_enter(struct st_aspace *as, struct st_context *ctx)
{
	int err = 0;

	atomic_fetch_add(&as->running, 1);
	if (likely(!atomic_load(&as->pending)))
		return 0;
	atomic_fetch_sub(&as->running, 1);
	mutex_lock(&as->mu);
	if (as->queue.count)
		err = drain_locked(as, ctx->pair.cpu);
	if (err == 0)
		atomic_fetch_add(&as->running, 1);
	mutex_unlock(&as->mu);
	return err;
}

/* The opposite: the stub waits for an answer, or is dead. */
void st_aspace_leave(struct st_aspace *as)
{
	atomic_fetch_sub(&as->running, 1);
}

/* A space whose mapper or threads are not what they should be: all of it ends. as->mu is held. */
void st_aspace_break(struct st_aspace *as)
{
	struct st_context *ctx;

	as->broken = true;
	if (as->mapper->pid)
		kill(as->mapper->pid, SIGKILL);
	list_for_each(ctx, &as->contexts, link) {
		pid_t pid = atomic_load(&ctx->pid);

		if (pid)
			kill(pid, SIGKILL);
	}
}

/* Has the queue applied when somebody runs who would not do it on entering. as->mu is held. */
void st_aspace_apply(struct st_aspace *as, int cpu)
{
	if (atomic_load(&as->running) == 0 || drain_locked(as, cpu) == 0)
		return;
	st_aspace_break(as);
	while (atomic_load(&as->running) > 0)
		st_wait_fd(-1, 1); /* until each task thread has seen its stub dead */
}

/* platform_ops.aspace_update: queued when nobody runs, else applied at once. */
void st_aspace_update(struct aspace *pub, struct pcontext *self, const struct aspace_op *op, size_t count)
{
	struct st_aspace *as = st_aspace(pub);

	GUARD(mutex, &as->mu);
	st_sites_changed(as, op, count);
	st_aspace_queue(as, op, count);
	st_aspace_apply(as, self ? st_context(self)->pair.cpu : cpu_here());
}

/* Gives as a mapper, which perhaps has threads already; the first change is to empty it then. 0 or -ENOMEM. */
static int mapper_attach_locked(struct st_aspace *as)
{
	as->mapper = st_mapper_take(st_platform(as->pub.platform));
	if (!as->mapper)
		return -ENOMEM;
	if (!as->mapper->used)
		return 0;
	as->mapper->used = false;
	if (queue_room_locked(as, 1))
		op_queue_add_first(&as->queue, &wipe);
	else
		op_queue_replace(&as->queue, &wipe);
	return 0;
}

/* One birth in as, with as much of the queue as fits. 0 or -errno. */
static int birth_locked(struct st_aspace *as, int cpu)
{
	struct stub_thread *t;
	int err = -EAGAIN;

	for (int tries = 0; tries < 2 && err == -EAGAIN; tries++) {
		size_t n = encode_locked(as, BATCH_MAX - 1), done = n;

		err = st_birth(as, cpu, &done, &t);
		done_locked(as, done);
		if (done == n)
			break;
		if (err == -EAGAIN && drain_locked(as, cpu) < 0) /* the host refused a change */
			return -ESRCH;
	}
	if (err < 0)
		return err;
	st_thread_park(as->mapper, t);
	return 0;
}

/* Sees to it that more threads wait than are reserved. 0, -ENOMEM, -EAGAIN, -ESRCH. */
static int reserve_locked(struct st_aspace *as, int cpu)
{
	int err = as->mapper ? 0 : mapper_attach_locked(as);

	if (err == 0 && as->mapper->waiting_count <= as->reserved)
		err = birth_locked(as, cpu);
	if (as->mapper && !as->mapper->pid && !as->broken) {
		st_mapper_give(st_platform(as->pub.platform), as->mapper, false, false);
		as->mapper = NULL;
	}
	st_title_show(as);
	return err;
}

/* platform_ops.aspace_reserve and aspace_prepare: a thread that waits for its context. 0, -ENOMEM, -ESRCH, -EAGAIN. */
int st_aspace_reserve(struct aspace *pub, struct pcontext *self)
{
	struct st_aspace *as = st_aspace(pub);
	int err;

	GUARD(mutex, &as->mu);
	err = reserve_locked(as, st_context(self)->pair.cpu);
	if (err == 0)
		as->reserved++;
	return err;
}

/* Gives ctx, which has no stub, one that lives in as, and takes a reference on as. 0 or -errno. */
int st_aspace_attach(struct st_aspace *as, struct st_context *ctx)
{
	struct stub_thread *t;
	int err = 0;

	GUARD(mutex, &as->mu);
	if (as->reserved)
		as->reserved--;
	else
		err = reserve_locked(as, ctx->pair.cpu);
	if (err < 0)
		return err;
	t = st_thread_take(as->mapper);
	if (t->cpu != ctx->pair.cpu)
		cpu_pin_task(ctx->pair.cpu, t->pid);
	ctx->thread = t;
	ctx->state = ST_HELD;
	atomic_store(&ctx->pid, t->pid);
	ctx->as = as;
	st_fast_attach(ctx);
	as->refs++;
	list_add_tail(&as->contexts, &ctx->link);
	return 0;
}

/* Whether ctx's stub is worth keeping for another context; it waits for its registers then. as->mu is held. */
static bool worth_keeping(struct st_aspace *as, struct st_context *ctx)
{
	if (as->broken || as->mapper->waiting_count - as->reserved >= WAITING_MAX)
		return false;
	if (ctx->state == ST_CALL || ctx->state == ST_FAST)
		(void)!st_regs_load(&ctx->pub);
	return atomic_load(&ctx->pid) && ctx->state == ST_HELD;
}

/*
 * Ends ctx's stay in the space it lived in; its stub ends or waits for another context. moves: ctx is attached
 * to another space next. Harmless without a stub.
 */
void st_aspace_detach(struct st_context *ctx, bool moves)
{
	struct st_aspace *as = ctx->as;
	struct stub_thread *t = ctx->thread;
	bool keep;

	if (!as)
		return;
	st_fast_detach(ctx);
	mutex_lock(&as->mu);
	keep = worth_keeping(as, ctx);
	list_del(&ctx->link);
	t->pid = atomic_exchange(&ctx->pid, 0); /* 0: dead already, the number may be another's */
	t->cpu = ctx->pair.cpu;
	if (keep)
		st_thread_park(as->mapper, t);
	else
		st_thread_end(st_platform(as->pub.platform), as->mapper, t);
	ctx->as = NULL;
	ctx->thread = NULL;
	ctx->state = ST_NONE;
	put_locked(as, moves);
}

/* platform_ops.stub_pids */
size_t st_aspace_stub_pids(struct aspace *pub, int32_t *pids, size_t count)
{
	struct st_aspace *as = st_aspace(pub);
	struct st_context *ctx;
	size_t n = 0;

	GUARD(mutex, &as->mu);
	list_for_each(ctx, &as->contexts, link) {
		if (n < count)
			pids[n++] = atomic_load(&ctx->pid);
	}
	return n;
}
