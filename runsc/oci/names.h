/* Names of capabilities, resource limits and signals. */
#ifndef RUNSC_OCI_NAMES_H
#define RUNSC_OCI_NAMES_H

#include "platform/base/compiler.h"

/* Number of "CAP_CHOWN" (or "chown", any case), or -1. */
int capability_by_name(const char *name);
/* Name without number checks: NULL beyond the last capability. */
const char *capability_name(unsigned int number);
/* Option words of mounts that have an effect, in no order: NULL beyond the last one. */
const char *mount_option_name(size_t number);
#define CAPABILITY_COUNT 41u
#define ALL_CAPABILITIES ((1ull << CAPABILITY_COUNT) - 1)

/* Number of "RLIMIT_NOFILE", or -1. */
int rlimit_by_name(const char *name);

/* Number of "9", "KILL", "SIGKILL", "rtmin+3" (any case), or -1. */
int signal_by_name(const char *name);

#endif
