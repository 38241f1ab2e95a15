/* Host threads with small guarded stacks. */
#ifndef PLATFORM_HOST_THREAD_H
#define PLATFORM_HOST_THREAD_H

#include <stddef.h>

#include "platform/base/compiler.h"

/* Stack of a thread without deep call chains (notifier, timers, control connections), bytes. */
#define HOST_THREAD_STACK (128u << 10)

/*
 * Starts a detached thread with all asynchronous signals blocked, a guard page, and name (at most 15 bytes, may be
 * NULL). Any context. -EAGAIN when the host refuses another thread. pthread_create(3)
 */
NODISCARD int host_thread_start(const char *name, size_t stack_size, void *(*fn)(void *), void *arg);

#endif
