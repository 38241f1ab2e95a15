/*
 * The error object of the command line: one sentence (what, where, what to do) composed where the
 * knowledge is, and the exit status that it leads to. Functions that take one return -1 after
 * filling it, 0 (or what they document) otherwise.
 */
#ifndef RUNSC_CONFIG_ERROR_H
#define RUNSC_CONFIG_ERROR_H

#include "platform/base/compiler.h"

#define EXIT_GENERIC 1
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND 127
#define EXIT_SIGNAL_BASE 128

struct error {
	int exit_code; /* 0: no error yet */
	char text[1024];
};

/* Fills err with EXIT_GENERIC; always returns -1: `return error_set(err, "...")`. */
int error_set(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* The same with another exit status. */
int error_set_code(struct error *err, int exit_code, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Appends ": " and the text of errno value saved_errno (positive). */
int error_errno(struct error *err, int saved_errno, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Puts text and ": " before the sentence that err already holds. Returns -1. */
int error_prefix(struct error *err, const char *fmt, ...) PRINTF_LIKE(2, 3);

#endif
