/* The one source of randomness of the kernel: getrandom(2), /dev/urandom, ASLR, AT_RANDOM, boot ids. */
#ifndef SENTRY_CORE_RANDOM_H
#define SENTRY_CORE_RANDOM_H

#include <stddef.h>

/* Fills buf with random bytes. Any context, no locks. */
void random_fill(void *buf, size_t size);

#endif
