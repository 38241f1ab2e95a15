/*
 * Placement. A task thread and its stub hand over to each other twice per system call; across CPUs each
 * hand-over wakes a sleeping CPU (25 us in a virtual machine), on one CPU it is a context switch. So a
 * pair is pinned to one CPU. A new pair starts where its creator runs, and a pair moves away as a
 * whole when it keeps finding another pair's guest code there while some CPU runs none.
 */
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

#include "platform/base/compiler.h"
#include "platform/stub/cpu.h"

/* How often in a row a pair must find its CPU taken before it moves; a new pair moves at once. */
enum { CROWDED_LIMIT = 32 };

static struct {
	_Alignas(64) _Atomic int running; /* pairs in guest code, preempted or not */
	_Atomic unsigned int entries;     /* how often one was counted */
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
	cpu_all = set;
	for (int i = 0; i < CPU_MAX; i++)
		if (CPU_ISSET((size_t)i, &set))
			cpu_allowed[cpu_count++] = i;
}

/* Whether there is more than one CPU: else nobody is pinned. */
bool cpu_pinning(void)
{
	return cpu_count > 1;
}

/* The calling thread's CPU. */
int cpu_here(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 || cpu >= CPU_MAX ? 0 : cpu;
}

/* The nth CPU of those that this process may use, from 0; -1: there are not so many. */
int cpu_nth(int n)
{
	return n < cpu_count ? cpu_allowed[n] : -1;
}

/* Whether no guest code of this sandbox is counted on cpu. */
bool cpu_idle(int cpu)
{
	return atomic_load_explicit(&cpu_load[cpu].running, memory_order_relaxed) <= 0;
}

/* Another number than before when guest code has come to cpu since. */
unsigned int cpu_entries(int cpu)
{
	return atomic_load_explicit(&cpu_load[cpu].entries, memory_order_relaxed);
}

/* Pins any thread of this process (0: the caller) or one of its stubs to cpu. */
void cpu_pin_task(int cpu, pid_t pid)
{
	if (cpu_count > 1)
		pin_task(pid, cpu);
}

/* Moves the calling task thread and its stub to cpu. */
static void cpu_pair_pin(struct cpu_pair *pair, pid_t pid, int cpu)
{
	pair->cpu = cpu;
	pair->loose = false;
	if (cpu_count <= 1)
		return;
	pin_task(0, cpu);
	if (pid)
		pin_task(pid, cpu);
	pair->crowded = 0;
}

/* Counts the pair as running; moves it first when its CPU is crowded, another one is free, and it may. */
void cpu_pair_enter(struct cpu_pair *pair, pid_t pid, bool may_move)
{
	int others = atomic_fetch_add_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);

	/* two at once may count as one: it is only asked whether there were any */
	atomic_store_explicit(&cpu_load[pair->cpu].entries, cpu_entries(pair->cpu) + 1, memory_order_relaxed);

	if (likely(others <= 0)) {
		pair->crowded = 0;
		return;
	}
	if (cpu_count <= 1 || ++pair->crowded < CROWDED_LIMIT || !may_move)
		return;
	pair->crowded = 0;
	for (int i = 0; i < cpu_count; i++) {
		int cpu = cpu_allowed[i], none = 0;

		if (atomic_compare_exchange_strong_explicit(&cpu_load[cpu].running, &none, 1,
							    memory_order_relaxed, memory_order_relaxed)) {
			atomic_fetch_sub_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);
			cpu_pair_pin(pair, pid, cpu);
			return;
		}
	}
}

/* The pair left guest code. */
void cpu_pair_leave(const struct cpu_pair *pair)
{
	atomic_fetch_sub_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);
}

/* Lets the calling task thread, and the stub if it is named, go where the host likes, until cpu_pair_meet. */
void cpu_pair_loosen(struct cpu_pair *pair, pid_t pid)
{
	pair->loose = true;
	(void)!sched_setaffinity(0, sizeof(cpu_all), &cpu_all);
	if (pid)
		(void)!sched_setaffinity(pid, sizeof(cpu_all), &cpu_all);
}

/* Pins a loose pair to the CPU that the calling task thread is on. */
void cpu_pair_meet(struct cpu_pair *pair, pid_t pid)
{
	cpu_pair_pin(pair, pid, cpu_here());
}

/* A new pair: no patience with a crowded CPU at its first switch. */
void cpu_pair_start(struct cpu_pair *pair)
{
	cpu_pair_pin(pair, 0, cpu_here());
	pair->crowded = CROWDED_LIMIT - 1;
}
