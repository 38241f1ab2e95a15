/*
 * The backend that runs nothing. It documents the interface, lets everything above the platform be
 * tested without a guest, and always builds. A switch reports a dead stub.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "platform/platform.h"

static int null_open(int memory_fd, struct platform **ret_platform)
{
	struct platform *p = calloc(1, sizeof(*p));

	(void)memory_fd;
	if (!p)
		return -ENOMEM;
	p->ops = &platform_null;
	*ret_platform = p;
	return 0;
}

static void null_close(struct platform *p)
{
	free(p);
}

static int null_aspace_new(struct platform *p, struct aspace **ret_as)
{
	struct aspace *as = calloc(1, sizeof(*as));

	if (!as)
		return -ENOMEM;
	*as = (struct aspace){ .ops = &platform_null, .platform = p };
	*ret_as = as;
	return 0;
}

static void null_aspace_free(struct aspace *as)
{
	free(as);
}

static void null_aspace_update(struct aspace *as, struct pcontext *self, const struct aspace_op *op, size_t count)
{
	(void)as, (void)self, (void)op, (void)count;
}

static int null_aspace_reserve(struct aspace *as, struct pcontext *self)
{
	(void)as, (void)self;
	return 0;
}

static int null_context_new(struct platform *p, struct pcontext **ret_ctx)
{
	struct pcontext *ctx = calloc(1, sizeof(*ctx));

	(void)p;
	if (!ctx)
		return -ENOMEM;
	ctx->ops = &platform_null;
	ctx->regs_valid = true;
	*ret_ctx = ctx;
	return 0;
}

static void null_context_free(struct pcontext *ctx)
{
	free(ctx);
}

static enum switch_why null_context_switch(struct pcontext *ctx, struct aspace *as)
{
	(void)as;
	return atomic_exchange(&ctx->interrupted, 0) ? SWITCH_INTERRUPT : SWITCH_DEAD;
}

static void null_context_interrupt(struct pcontext *ctx)
{
	atomic_store(&ctx->interrupted, 1);
}

static int null_regs_load(struct pcontext *ctx)
{
	ctx->regs_valid = true;
	return 0;
}

static int null_set_result(struct pcontext *ctx, int64_t value)
{
	ctx->regs.rax = (uint64_t)value;
	return 0;
}

static int64_t null_fpu_get(struct pcontext *ctx, void *buf, size_t size)
{
	(void)ctx, (void)buf, (void)size;
	return 0;
}

static int null_fpu_set(struct pcontext *ctx, const void *buf, size_t size)
{
	(void)ctx, (void)buf, (void)size;
	return 0;
}

static void null_set_step(struct pcontext *ctx, bool on)
{
	(void)ctx, (void)on;
}

const struct platform_ops platform_null = {
	.name = "null",
	.min_addr = 0x10000,
	.max_addr = 0x7fffffff0000,
	.runs_nothing = true,
	.open = null_open,
	.close = null_close,
	.aspace_new = null_aspace_new,
	.aspace_free = null_aspace_free,
	.aspace_update = null_aspace_update,
	.aspace_reserve = null_aspace_reserve,
	.context_new = null_context_new,
	.context_free = null_context_free,
	.context_switch = null_context_switch,
	.context_interrupt = null_context_interrupt,
	.regs_load = null_regs_load,
	.set_result = null_set_result,
	.fpu_get = null_fpu_get,
	.fpu_set = null_fpu_set,
	.set_step = null_set_step,
};
