/*
 * Placement. A task thread and its stub hand over to each other twice per system call; across CPUs each
 * hand-over wakes a sleeping CPU (25 us in a virtual machine), on one CPU it is a context switch. So a
 * pair is pinned to one CPU. A new pair starts where its creator runs, and a pair moves away as a
 * whole when it keeps finding another pair's guest code there while some CPU runs none.
 */
#include <unistd.h>

#include "platform/systrap/cpu.h"

/* How often in a row a pair must find its CPU taken before it moves; a new pair moves at once. */
enum { CROWDED_LIMIT = 32, CPU_MAX = 1024 };

static struct {
	_Alignas(64) _Atomic int running; /* pairs in guest code, preempted or not */
	_Atomic unsigned int entries;     /* how often one was counted */
	_Atomic int spinner;              /* a task thread of another CPU's pair polls here */
} cpu_load[CPU_MAX];
static int cpu_allowed[CPU_MAX]; /* const after st_cpu_open */
static int cpu_count;            /* const after st_cpu_open; 1 or less turns pinning off */
static cpu_set_t cpu_all;        /* const after st_cpu_open */

static void pin_task(pid_t tid, int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	(void)!sched_setaffinity(tid, sizeof(set), &set); /* slower, not wrong, without */
}

/* Learns which CPUs this process may use. Boot only. */
void st_cpu_open(void)
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

/* The calling thread's CPU. */
int st_cpu_here(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 || cpu >= CPU_MAX ? 0 : cpu;
}

/* Pins a stub that is about to join the pair to the pair's CPU. */
void st_cpu_pin_stub(const struct cpu_pair *pair, pid_t pid)
{
	st_cpu_pin_task(pair->cpu, pid);
}

/* Pins any thread of this process or one of its stubs to cpu. */
void st_cpu_pin_task(int cpu, pid_t pid)
{
	if (cpu_count > 1)
		pin_task(pid, cpu);
}

/* Moves the calling task thread and its stub to cpu. */
static void cpu_pin(struct cpu_pair *pair, pid_t pid, int cpu)
{
	pair->cpu = cpu;
	if (cpu_count <= 1)
		return;
	pin_task(0, cpu);
	if (pid)
		pin_task(pid, cpu);
	pair->crowded = 0;
}

/* Counts the pair as running; moves it first when its CPU is crowded and another one is free. */
void st_cpu_enter(struct cpu_pair *pair, pid_t pid)
{
	int others = atomic_fetch_add_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);

	/* two at once may count as one: it is only asked whether there were any */
	atomic_store_explicit(&cpu_load[pair->cpu].entries,
			      atomic_load_explicit(&cpu_load[pair->cpu].entries, memory_order_relaxed) + 1,
			      memory_order_relaxed);

	if (likely(others <= 0)) {
		pair->crowded = 0;
		return;
	}
	if (cpu_count <= 1 || ++pair->crowded < CROWDED_LIMIT || pair->spin_cpu >= 0)
		return; /* a spinner sees that it is not alone */
	pair->crowded = 0;
	for (int i = 0; i < cpu_count; i++) {
		int cpu = cpu_allowed[i], none = 0;

		if (atomic_compare_exchange_strong_explicit(&cpu_load[cpu].running, &none, 1,
							    memory_order_relaxed, memory_order_relaxed)) {
			atomic_fetch_sub_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);
			cpu_pin(pair, pid, cpu);
			return;
		}
	}
}

/* The pair left guest code. A loose pair stays where it met. */
void st_cpu_leave(struct cpu_pair *pair, pid_t pid)
{
	atomic_fetch_sub_explicit(&cpu_load[pair->cpu].running, 1, memory_order_relaxed);
	if (unlikely(pair->loose)) {
		pair->loose = false;
		cpu_pin(pair, pid, st_cpu_here());
	}
}

static bool cpu_free(int cpu)
{
	return atomic_load_explicit(&cpu_load[cpu].running, memory_order_relaxed) <= 0 &&
	       !atomic_load_explicit(&cpu_load[cpu].spinner, memory_order_relaxed);
}

/* Chooses a CPU for st_cpu_spin_begin, which takes it some calls later when no guest code has come to it. */
void st_cpu_spin_choose(struct cpu_pair *pair)
{
	pair->spin_choice = -1;
	for (int i = 0; i < cpu_count; i++) {
		int cpu = cpu_allowed[i];

		if (cpu != pair->cpu && cpu_free(cpu)) {
			pair->spin_choice = cpu;
			pair->spin_entries = atomic_load_explicit(&cpu_load[cpu].entries, memory_order_relaxed);
			return;
		}
	}
}

/*
 * Moves the calling task thread, alone, to the chosen CPU, where no guest code of this sandbox runs or has run since, and
 * no task thread polls. The stub keeps its CPU. false: not now.
 */
bool st_cpu_spin_begin(struct cpu_pair *pair)
{
	int cpu = pair->spin_choice, none = 0;

	if (cpu < 0 || cpu == pair->cpu || pair->loose || pair->crowded || !cpu_free(cpu) ||
	    pair->spin_entries != atomic_load_explicit(&cpu_load[cpu].entries, memory_order_relaxed) ||
	    !atomic_compare_exchange_strong(&cpu_load[cpu].spinner, &none, 1))
		return false;
	pair->spin_cpu = cpu;
	pin_task(0, cpu);
	return true;
}

/* Whether no guest code has come to the polling thread's CPU, and the stub still has its own. */
bool st_cpu_spin_alone(const struct cpu_pair *pair)
{
	return atomic_load_explicit(&cpu_load[pair->spin_cpu].running, memory_order_relaxed) <= 0 && !pair->crowded;
}

/* Polling is over. Nobody is moved: who is woken next goes to the other. */
void st_cpu_spin_end(struct cpu_pair *pair, pid_t pid)
{
	atomic_store(&cpu_load[pair->spin_cpu].spinner, 0);
	pair->spin_cpu = -1;
	pair->loose = true;
	(void)!sched_setaffinity(0, sizeof(cpu_all), &cpu_all);
	if (pid)
		(void)!sched_setaffinity(pid, sizeof(cpu_all), &cpu_all);
}

/* A new pair: no patience with a crowded CPU at its first switch. */
void st_cpu_start(struct cpu_pair *pair)
{
	pair->spin_cpu = pair->spin_choice = -1;
	cpu_pin(pair, 0, st_cpu_here());
	pair->crowded = CROWDED_LIMIT - 1;
}
