/* Which CPU a task thread and its stub run on; see cpu.c. */
#ifndef PLATFORM_SYSTRAP_CPU_H
#define PLATFORM_SYSTRAP_CPU_H

#include <sched.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "platform/base/compiler.h"

/* Private to the task thread. */
struct cpu_pair {
	int cpu;
	unsigned int crowded; /* switches in a row that found another pair on this CPU */
};

void st_cpu_open(void);
int st_cpu_here(void);
void st_cpu_start(struct cpu_pair *pair);
void st_cpu_pin_stub(const struct cpu_pair *pair, pid_t pid);
void st_cpu_pin_task(int cpu, pid_t pid);
void st_cpu_enter(struct cpu_pair *pair, pid_t pid);
void st_cpu_leave(struct cpu_pair *pair);

#endif
