/* The interface by the backend that runs nothing. */
#include <stdio.h>

#include "platform/platform.h"

static int passed, failed;
#define CHECK(c) ((c) ? (void)passed++ : (void)(failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

int main(void)
{
	const struct platform_ops *ops = &platform_null;
	const struct aspace_op op = { .kind = ASPACE_UNMAP, .addr = ops->min_addr, .size = 4096 };
	struct platform *p;
	struct aspace *as;
	struct pcontext *ctx;

	CHECK(ops->runs_nothing && !ops->probe);
	CHECK(ops->open(-1, &p) == 0);
	CHECK(ops->aspace_new(p, &as) == 0 && as->ops == ops && as->platform == p);
	CHECK(ops->context_new(p, &ctx) == 0 && platform_regs(ctx) == &ctx->regs);
	ops->aspace_update(as, ctx, &op, 1);
	CHECK(ops->aspace_reserve(as, ctx) == 0);
	CHECK(ops->context_switch(ctx, as) == SWITCH_DEAD);
	ops->context_interrupt(ctx);
	CHECK(ops->context_switch(ctx, as) == SWITCH_INTERRUPT);
	CHECK(ops->context_switch(ctx, as) == SWITCH_DEAD);
	CHECK(ops->set_result(ctx, 7) == 0 && ctx->regs.rax == 7);
	ops->set_step(ctx, true);
	ops->context_free(ctx);
	ops->context_free(NULL);
	ops->aspace_free(as);
	ops->close(p);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
