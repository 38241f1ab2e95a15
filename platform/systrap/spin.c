/* The CPU on which a task thread polls for posted calls while its stub keeps its own. */
#include <stdatomic.h>

#include "platform/systrap/spin.h"

static struct {
	_Alignas(64) _Atomic int spinner; /* a task thread of another CPU's pair polls here */
} cpu_spin[CPU_MAX];

static bool cpu_free(int cpu)
{
	return cpu_idle(cpu) && !atomic_load_explicit(&cpu_spin[cpu].spinner, memory_order_relaxed);
}

/* A new context's: it does not poll. */
void st_spin_start(struct spin *spin)
{
	spin->cpu = spin->choice = -1;
}

/* Chooses a CPU for st_spin_begin, which takes it some calls later when no guest code has come to it. */
void st_spin_choose(struct spin *spin, const struct cpu_pair *pair)
{
	spin->choice = -1;
	for (int i = 0, cpu; (cpu = cpu_nth(i)) >= 0; i++) {
		if (cpu != pair->cpu && cpu_free(cpu)) {
			spin->choice = cpu;
			spin->entries = cpu_entries(cpu);
			return;
		}
	}
}

/*
 * Moves the calling task thread, alone, to the chosen CPU, where no guest code of this sandbox runs or has run since, and
 * no task thread polls. The stub keeps its CPU. false: not now.
 */
bool st_spin_begin(struct spin *spin, const struct cpu_pair *pair)
{
	int cpu = spin->choice, none = 0;

	if (cpu < 0 || cpu == pair->cpu || pair->loose || pair->crowded || !cpu_free(cpu) ||
	    spin->entries != cpu_entries(cpu) ||
	    !atomic_compare_exchange_strong(&cpu_spin[cpu].spinner, &none, 1))
		return false;
	spin->cpu = cpu;
	cpu_pin_task(cpu, 0);
	return true;
}

/* Whether no guest code has come to the polling thread's CPU, and the stub still has its own. */
bool st_spin_alone(const struct spin *spin, const struct cpu_pair *pair)
{
	return cpu_idle(spin->cpu) && !pair->crowded;
}

/* Polling is over. Nobody is moved: who is woken next goes to the other. */
void st_spin_end(struct spin *spin, struct cpu_pair *pair, pid_t pid)
{
	atomic_store(&cpu_spin[spin->cpu].spinner, 0);
	spin->cpu = -1;
	cpu_pair_loosen(pair, pid);
}
