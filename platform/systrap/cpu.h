/* Which CPU a task thread and its stub run on; see cpu.c. */
#ifndef PLATFORM_SYSTRAP_CPU_H
#define PLATFORM_SYSTRAP_CPU_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include "platform/base/compiler.h"

/* Private to the task thread. */
struct cpu_pair {
	int cpu;
	unsigned int crowded; /* switches in a row that found another pair on this CPU */
	int spin_cpu;         /* where the task thread polls while the stub runs on cpu; -1: it does not */
	int spin_choice;      /* where it may poll next; -1: nowhere */
	unsigned int spin_entries;
	bool loose; /* neither is pinned: both go where they next meet */
};

void st_cpu_open(void);
int st_cpu_here(void);
void st_cpu_start(struct cpu_pair *pair);
void st_cpu_pin_stub(const struct cpu_pair *pair, pid_t pid);
void st_cpu_pin_task(int cpu, pid_t pid);
void st_cpu_enter(struct cpu_pair *pair, pid_t pid);
void st_cpu_leave(struct cpu_pair *pair, pid_t pid);
void st_cpu_spin_choose(struct cpu_pair *pair);
bool st_cpu_spin_begin(struct cpu_pair *pair);
bool st_cpu_spin_alone(const struct cpu_pair *pair);
void st_cpu_spin_end(struct cpu_pair *pair, pid_t pid);

#endif
