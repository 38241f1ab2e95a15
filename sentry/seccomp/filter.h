/* The sentry's own seccomp filter: rules.def and what the chosen parts add. */
#ifndef SENTRY_SECCOMP_FILTER_H
#define SENTRY_SECCOMP_FILTER_H

#include "platform/base/compiler.h"

struct filter_options {
	const char *platform; /* name of the backend */
	bool network;	      /* pass-through sockets */
	bool report;	      /* debugging: log a call outside the filter and abort, instead of SIGSYS */
};

/* Builds and loads the filter into all threads, for ever. Boot only. 0, or -errno with a sentence. */
NODISCARD int filter_load(const struct filter_options *o, char *why, size_t why_size);
/* Writes the filter as text to fd (tests, `--print-filter`). 0 or -errno. */
NODISCARD int filter_print(const struct filter_options *o, int fd);
/* How many different host calls the filter lets through. */
size_t filter_count(const struct filter_options *o);

#endif
