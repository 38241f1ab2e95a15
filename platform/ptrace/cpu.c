/*
 * Placement among others on the host, which platform/stub/cpu.c does not count. A pair whose stub was preempted
 * several times since the last look lets its task thread go for one hand-over: the host wakes it on an idle CPU when
 * there is one, and the pair is pinned again where it then is.
 */
#include "platform/host/clock.h"
#include "platform/ptrace/ptrace_priv.h"

enum {
	LOOK_NS = 8000000,   /* between two looks at the stub's preemptions */
	PREEMPTED_LIMIT = 2, /* so many since the last look: somebody else wants this CPU */
};

static int64_t coarse_now(void)
{
	return host_clock_ns(CLOCK_MONOTONIC_COARSE);
}

/* True when the next stop of the stub should be followed by cpu_look. */
bool cpu_look_due(struct pt_context *ctx)
{
	return cpu_pinning() && coarse_now() >= ctx->look_at;
}

/* Looks whether the stub had to share its CPU, by its involuntary switches. Task thread only. */
void cpu_look(struct pt_context *ctx, const struct rusage *stub)
{
	int64_t more = stub->ru_nivcsw - ctx->preempted;

	ctx->preempted = stub->ru_nivcsw;
	ctx->look_at = coarse_now() + LOOK_NS;
	if (ctx->pair.loose) {
		cpu_pair_meet(&ctx->pair, atomic_load_explicit(&ctx->pid, memory_order_relaxed));
	} else if (more >= PREEMPTED_LIMIT) {
		cpu_pair_loosen(&ctx->pair, 0);
		ctx->look_at = 0; /* pinned again after the next stop */
	}
}
