/* Which CPU a task thread and its stub run on; see cpu.c. */
#ifndef PLATFORM_STUB_CPU_H
#define PLATFORM_STUB_CPU_H

#include <stdbool.h>
#include <sys/types.h>

enum { CPU_MAX = 1024 }; /* one above the highest that is counted */

/* Private to the task thread. A pid of 0 is a pair without a stub. */
struct cpu_pair {
	int cpu;
	unsigned int crowded; /* switches in a row that found another pair on this CPU */
	bool loose;           /* not pinned: the host is choosing a CPU, where the pair is to meet */
};

void cpu_open(void);
bool cpu_pinning(void);
int cpu_here(void);
int cpu_nth(int n);
bool cpu_idle(int cpu);
unsigned int cpu_entries(int cpu);
void cpu_pin_task(int cpu, pid_t pid);

void cpu_pair_start(struct cpu_pair *pair);
void cpu_pair_enter(struct cpu_pair *pair, pid_t pid, bool may_move);
void cpu_pair_leave(const struct cpu_pair *pair);
void cpu_pair_loosen(struct cpu_pair *pair, pid_t pid);
void cpu_pair_meet(struct cpu_pair *pair, pid_t pid);

#endif
