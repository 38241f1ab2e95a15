#ifndef SENTRY_BOOT_SUBSYSTEMS_H
#define SENTRY_BOOT_SUBSYSTEMS_H

#include "sentry/boot/boot.h"

/* Starts every part of the kernel in order of dependence. 0, or -errno with b->why. */
int subsystems_start(struct boot *b);

#endif
