/*
 * Placement. A tracer and its tracee hand over to each other twice per system call; across CPUs each
 * hand-over wakes a sleeping CPU (25 us in a virtual machine), on one CPU it is a context switch. So a
 * pair is pinned to one CPU. A new pair starts where its creator runs, and a pair moves away as a
 * whole when it keeps finding another pair's guest code there while some CPU runs none.
 *
 * Others on the host are not counted so. A pair whose stub was preempted several times since the last
 * look lets its task thread go for one hand-over: the host wakes it on an idle CPU when there is one,
 * and the pair is pinned again where it then is.
 */
#include <unistd.h>

#include "platform/host/clock.h"
#include "platform/ptrace/ptrace_priv.h"

/* How often in a row a pair must find its CPU taken before it moves; a new pair moves at once. */
enum {
	CROWDED_LIMIT = 32,
	LOOK_NS = 8000000,   /* between two looks at the stub's preemptions */
	PREEMPTED_LIMIT = 2, /* so many since the last look: somebody else wants this CPU */
};

static struct {
	_Alignas(64) _Atomic int running; /* pairs in guest code, preempted or not */
} cpu_load[CPU_MAX];
static cpu_set_t cpu_all;        /* const after cpu_open */
static int cpu_allowed[CPU_MAX]; /* const after cpu_open */
static int cpu_count;            /* const after cpu_open; 1 or less turns pinning off */

static void pin_task(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	(void)!sched_setaffinity(tid, sizeof(set), &set); /* slower, not wrong, without */
}

/* Learns which CPUs this process may use. Boot only. */
void cpu_open(void)
{
	cpu_set_t set;

	cpu_count = 0;
	if (sched_getaffinity(0, sizeof(set), &set) < 0)
		return;
	for (int i = 0; i < CPU_MAX; i++)
		if (CPU_ISSET((size_t)i, &set))
			cpu_allowed[cpu_count++] = i;
	cpu_all = set;
}

/* The calling thread's CPU, for a new pair. */
static int cpu_here(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 || cpu >= CPU_MAX ? 0 : cpu;
}

/* Pins a stub that ctx is about to attach to ctx's CPU. */
void cpu_pin_stub(struct pt_context *ctx, pid_t pid)
{
	if (cpu_count > 1)
		pin_task(pid, ctx->cpu);
}

/* Moves the calling task thread and its stub to cpu. */
static void cpu_pin(struct pt_context *ctx, int cpu)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);

	ctx->cpu = cpu;
	if (cpu_count <= 1)
		return;
	pin_task(0, cpu);
	if (pid)
		pin_task(pid, cpu);
	ctx->crowded = 0;
	ctx->loose = false;
}

static int64_t coarse_now(void)
{
	return host_clock_ns(CLOCK_MONOTONIC_COARSE);
}

/* True when the next stop of the stub should be followed by cpu_look. */
bool cpu_look_due(struct pt_context *ctx)
{
	return cpu_count > 1 && coarse_now() >= ctx->look_at;
}

/* Looks whether the stub had to share its CPU, by its involuntary switches. Task thread only. */
void cpu_look(struct pt_context *ctx, const struct rusage *stub)
{
	int64_t more = stub->ru_nivcsw - ctx->preempted;

	ctx->preempted = stub->ru_nivcsw;
	ctx->look_at = coarse_now() + LOOK_NS;
	if (ctx->loose) {
		cpu_pin(ctx, cpu_here());
	} else if (more >= PREEMPTED_LIMIT) {
		(void)!sched_setaffinity(0, sizeof(cpu_all), &cpu_all);
		ctx->loose = true;
		ctx->look_at = 0; /* pinned again after the next stop */
	}
}

/* Counts the pair as running; moves it first when its CPU is crowded and another one is free. */
void cpu_enter(struct pt_context *ctx)
{
	int others = atomic_fetch_add_explicit(&cpu_load[ctx->cpu].running, 1, memory_order_relaxed);

	if (likely(others <= 0)) {
		ctx->crowded = 0;
		return;
	}
	if (cpu_count <= 1 || ++ctx->crowded < CROWDED_LIMIT)
		return;
	ctx->crowded = 0;
	for (int i = 0; i < cpu_count; i++) {
		int cpu = cpu_allowed[i], none = 0;

		if (atomic_compare_exchange_strong_explicit(&cpu_load[cpu].running, &none, 1,
							    memory_order_relaxed, memory_order_relaxed)) {
			atomic_fetch_sub_explicit(&cpu_load[ctx->cpu].running, 1, memory_order_relaxed);
			cpu_pin(ctx, cpu);
			return;
		}
	}
}

/* The pair left guest code. */
void cpu_leave(struct pt_context *ctx)
{
	atomic_fetch_sub_explicit(&cpu_load[ctx->cpu].running, 1, memory_order_relaxed);
}

/* A new pair: no patience with a crowded CPU at its first switch. */
void cpu_start(struct pt_context *ctx)
{
	cpu_pin(ctx, cpu_here());
	ctx->crowded = CROWDED_LIMIT - 1;
}
