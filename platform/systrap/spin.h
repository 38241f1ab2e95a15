/* Where a task thread polls; see spin.c. */
#ifndef PLATFORM_SYSTRAP_SPIN_H
#define PLATFORM_SYSTRAP_SPIN_H

#include "platform/stub/cpu.h"

/* Private to the task thread. */
struct spin {
	int cpu;    /* where the task thread polls while the stub runs on its pair's; -1: it does not */
	int choice; /* where it may poll next; -1: nowhere */
	unsigned int entries;
};

void st_spin_start(struct spin *spin);
void st_spin_choose(struct spin *spin, const struct cpu_pair *pair);
bool st_spin_begin(struct spin *spin, const struct cpu_pair *pair);
bool st_spin_alone(const struct spin *spin, const struct cpu_pair *pair);
void st_spin_end(struct spin *spin, struct cpu_pair *pair, pid_t pid);

#endif
