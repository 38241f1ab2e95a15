/* A knob of the fast path for tests; see fast.c. */
#ifndef PLATFORM_SYSTRAP_FAST_H
#define PLATFORM_SYSTRAP_FAST_H

#include <stdbool.h>

/* Task threads poll for calls as soon as one came, again and again, however busy the CPUs are. Set before any guest runs. */
extern bool st_fast_eager;

#endif
