/*
 * A fuzzer is one function that takes hostile bytes, and seeds to start from. tests/lib/fuzz.c gives
 * it a main: mutations of the seeds, reproducible by number. `PROGRAM [seconds [first number]]`;
 * a crashing input is left in crash-PROGRAM beside the log.
 */
#ifndef TESTS_LIB_FUZZ_H
#define TESTS_LIB_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The target: must return for every input, whatever it holds. */
void fuzz_one(const uint8_t *data, size_t size);

struct fuzz_seed {
	const void *data;
	size_t size;
};
/* The target's seeds, ended by a NULL data. */
extern const struct fuzz_seed fuzz_seeds[];

#endif
