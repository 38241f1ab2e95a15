/* Address spaces: a queue of changes that is always empty while guest code runs, and who lives there. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/systrap/systrap_priv.h"

/* A new empty address space with one reference. Any thread. 0 or -ENOMEM. */
int st_aspace_new(struct platform *platform, struct aspace **ret_as)
{
	struct st_platform *p = st_platform(platform);
	struct st_aspace *as = calloc(1, sizeof(*as));

	if (!as)
		return -ENOMEM;
	as->op_room = 16;
	as->op = calloc(as->op_room, sizeof(*as->op));
	as->slot = as->op ? st_args_new(p) : NULL;
	if (!as->slot) {
		free(as->op);
		free(as);
		return -ENOMEM;
	}
	as->pub.ops = p->pub.ops;
	as->pub.platform = platform;
	as->refs = 1;
	mutex_init(&as->mu, 0);
	list_init(&as->contexts);
	list_init(&as->spare);
	list_init(&as->areas);
	*ret_as = &as->pub;
	return 0;
}

/* Drops one reference; as->mu is held and released. */
static void put_locked(struct st_aspace *as)
{
	struct st_platform *p = st_platform(as->pub.platform);
	struct stub_thread *t, *tmp;

	if (--as->refs != 0) {
		mutex_unlock(&as->mu);
		return;
	}
	list_for_each_safe(t, tmp, &as->spare, link) {
		list_del(&t->link);
		st_thread_end(as, t);
	}
	if (as->mapper)
		kill(as->mapper, SIGKILL); /* the host reaps it: SIGCHLD is ignored */
	mutex_unlock(&as->mu);
	st_areas_free(p, &as->areas);
	st_sites_free(as);
	st_args_free(p, as->slot);
	mutex_fini(&as->mu);
	free(as->op);
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
	put_locked(as);
}

/* True when b continues a: the same kind, side by side, and for a mapping also in the file. */
static bool op_continues(const struct aspace_op *a, const struct aspace_op *b)
{
	if (a->kind != b->kind || a->addr + a->size != b->addr)
		return false;
	if (a->kind == ASPACE_UNMAP)
		return true;
	return a->prot == b->prot &&
	       (a->kind == ASPACE_PROTECT || (a->host_fd == b->host_fd && a->populate == b->populate &&
					      a->offset + a->size == b->offset));
}

/*
 * Appends changes; as->mu is held. Without memory for them everything is dropped instead, which is always allowed:
 * the guest faults its pages in again.
 */
void st_aspace_queue(struct st_aspace *as, const struct aspace_op *op, size_t count)
{
	if (as->op_room - as->op_count < count) {
		size_t room = MAX(as->op_room * 2, as->op_count + count + 16);
		struct aspace_op *grown = reallocarray(as->op, room, sizeof(*grown));

		if (!grown) {
			as->op_count = 1;
			as->op[0] = (struct aspace_op){ .kind = ASPACE_UNMAP,
							.addr = STUB_GUEST_MIN,
							.size = STUB_GUEST_MAX - STUB_GUEST_MIN };
			st_sites_forget(as);
			atomic_store(&as->pending, 1);
			return;
		}
		as->op = grown;
		as->op_room = room;
	}
	for (size_t i = 0; i < count; i++) {
		if (as->op_count && op_continues(&as->op[as->op_count - 1], &op[i]))
			as->op[as->op_count - 1].size += op[i].size;
		else
			as->op[as->op_count++] = op[i];
	}
	atomic_store(&as->pending, 1);
}

static void clear_locked(struct st_aspace *as)
{
	as->op_count = 0;
	st_sites_drained(as);
	if (as->op_room > 4096) {
		struct aspace_op *less = reallocarray(as->op, 16, sizeof(*less));

		as->op = less ? less : as->op;
		as->op_room = less ? 16 : as->op_room;
	}
	atomic_store(&as->pending, 0);
}

static uint64_t host_prot(uint8_t prot)
{
	return (uint64_t)(((prot & PLATFORM_READ) ? PROT_READ : 0) | ((prot & PLATFORM_WRITE) ? PROT_WRITE : 0) |
			  ((prot & PLATFORM_EXEC) ? PROT_EXEC : 0));
}

static struct stub_op encode_unmap(uint64_t addr, uint64_t size)
{
	return (struct stub_op){ .nr = SYS_munmap, .arg = { addr, size } };
}

static struct stub_op encode(const struct aspace_op *op)
{
	if (op->kind == ASPACE_UNMAP)
		return encode_unmap(op->addr, op->size);
	if (op->kind == ASPACE_PROTECT)
		return (struct stub_op){ .nr = SYS_mprotect,
					 .arg = { op->addr, op->size, host_prot(op->prot) } };
	return (struct stub_op){ .nr = SYS_mmap,
				 .arg = { op->addr, op->size, host_prot(op->prot),
					  MAP_SHARED | MAP_FIXED | (op->populate ? MAP_POPULATE : 0u),
					  (uint64_t)op->host_fd, op->offset } };
}

/* Runs one operation; 1 when the host did it, 0 when not, -ESRCH. */
static int run_one(struct st_aspace *as, int cpu, struct stub_op op)
{
	as->slot->args->op[0] = op;
	return st_mapper_run(as, cpu, 1);
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
		r = run_one(as, cpu, encode_unmap(op->addr, op->size));
		if (r != 0)
			return r < 0 ? r : 0;
	}
	r = run_one(as, cpu, encode_unmap(STUB_GUEST_MIN, STUB_GUEST_MAX - STUB_GUEST_MIN));
	st_sites_lost(as, (size_t)(op - as->op));
	if (r == 1 && op->kind == ASPACE_MAP)
		r = run_one(as, cpu, encode(op));
	return r < 0 ? r : 0;
}

/* Applies the queue. 0 or -ESRCH, -EAGAIN. */
static int drain_locked(struct st_aspace *as, int cpu)
{
	size_t next = 0;

	while (next < as->op_count) {
		size_t n = MIN(as->op_count - next, (size_t)BATCH_MAX);
		int done;

		for (size_t i = 0; i < n; i++)
			as->slot->args->op[i] = encode(&as->op[next + i]);
		done = st_mapper_run(as, cpu, n);
		if (done < 0)
			return done;
		next += MIN((size_t)done, n);
		if ((size_t)done < n) {
			if (recover(as, cpu, &as->op[next]) < 0)
				return -ESRCH;
			next++;
		}
	}
	clear_locked(as);
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
	if (as->op_count)
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

/* A space whose changes cannot be applied any more: no guest code runs in it after this. */
static void kill_locked(struct st_aspace *as)
{
	struct st_context *ctx;

	as->broken = true;
	list_for_each(ctx, &as->contexts, link) {
		pid_t pid = atomic_load(&ctx->pid);

		if (pid)
			kill(pid, SIGKILL);
	}
	while (atomic_load(&as->running) > 0)
		st_wait_fd(-1, 1); /* until each task thread has seen its stub dead */
}

/* Has the queue applied when somebody runs who would not do it on entering. as->mu is held. */
void st_aspace_apply(struct st_aspace *as, int cpu)
{
	if (atomic_load(&as->running) > 0 && drain_locked(as, cpu) < 0)
		kill_locked(as);
}

/* platform_ops.aspace_update: queued when nobody runs, else applied at once. */
void st_aspace_update(struct aspace *pub, struct pcontext *self, const struct aspace_op *op, size_t count)
{
	struct st_aspace *as = st_aspace(pub);

	GUARD(mutex, &as->mu);
	st_sites_changed(as, op, count);
	st_aspace_queue(as, op, count);
	st_aspace_apply(as, self ? st_context(self)->pair.cpu : st_cpu_here());
}

/* platform_ops.aspace_reserve: a thread that waits for its context. 0, -ENOMEM, -ESRCH, -EAGAIN. */
int st_aspace_reserve(struct aspace *pub, struct pcontext *self)
{
	struct st_aspace *as = st_aspace(pub);
	struct stub_thread *t;
	int err;

	GUARD(mutex, &as->mu);
	err = st_birth(as, st_context(self)->pair.cpu, &t);
	if (err < 0)
		return err == -EPERM ? -ESRCH : err;
	list_add_tail(&as->spare, &t->link);
	return 0;
}

/* Gives ctx, which has no stub, one that lives in as, and takes a reference on as. 0 or -errno. */
int st_aspace_attach(struct st_aspace *as, struct st_context *ctx)
{
	struct stub_thread *t;
	int err;

	GUARD(mutex, &as->mu);
	t = list_first(&as->spare, struct stub_thread, link);
	if (t) {
		list_del(&t->link);
		st_cpu_pin_stub(&ctx->pair, t->pid);
	} else {
		err = st_birth(as, ctx->pair.cpu, &t);
		if (err < 0)
			return err;
	}
	ctx->thread = t;
	ctx->state = ST_HELD;
	atomic_store(&ctx->pid, t->pid);
	ctx->as = as;
	st_fast_attach(ctx);
	as->refs++;
	list_add_tail(&as->contexts, &ctx->link);
	return 0;
}

/*
 * exec: when nothing but ctx's stub is left of the space that it lives in, the mapper empties that and both
 * become as's, which is cheaper than new ones. Returns whether that was so.
 */
bool st_aspace_inherit(struct st_aspace *as, struct st_context *ctx)
{
	struct st_aspace *old = ctx->as;
	struct args_slot *slot;

	if (!old || !atomic_load(&ctx->pid))
		return false;
	mutex_lock(&old->mu);
	if (old->refs != 1 || old->broken || !list_empty(&old->spare))
		goto no;
	mutex_lock(&as->mu);
	if (as->mapper || as->broken || !list_empty(&as->spare) ||
	    run_one(old, ctx->pair.cpu, encode_unmap(STUB_SITES, STUB_GUEST_MAX - STUB_SITES)) != 1) {
		mutex_unlock(&as->mu);
		goto no;
	}
	slot = as->slot; /* the mapper has the old space's pages */
	as->slot = old->slot;
	old->slot = slot;
	as->mapper = old->mapper;
	as->mapper_cpu = old->mapper_cpu;
	old->mapper = 0;
	list_splice_tail(&as->areas, &old->areas);
	list_del(&ctx->link);
	list_add_tail(&as->contexts, &ctx->link);
	as->refs++;
	ctx->as = as;
	mutex_unlock(&as->mu);
	put_locked(old);
	return true;
no:
	mutex_unlock(&old->mu);
	return false;
}

/* Ends ctx's stub and its stay in the space it lived in; harmless without one. */
void st_aspace_detach(struct st_context *ctx)
{
	struct st_aspace *as = ctx->as;

	if (!as)
		return;
	st_fast_detach(ctx);
	mutex_lock(&as->mu);
	ctx->as = NULL;
	ctx->state = ST_NONE;
	list_del(&ctx->link);
	ctx->thread->pid = atomic_exchange(&ctx->pid, 0); /* 0: dead already, the number may be another's */
	st_thread_end(as, ctx->thread);
	ctx->thread = NULL;
	put_locked(as);
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
