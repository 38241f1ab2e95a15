/* What the hostile guest programs (guest_*.c) have in common. */
#ifndef TESTS_FUZZ_HOSTILE_H
#define TESTS_FUZZ_HOSTILE_H

#include <stdint.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

/* The next number of the sequence that the seed in *rng begins (splitmix64). */
static inline uint64_t random_next(uint64_t *rng)
{
	uint64_t z = (*rng += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return z ^ (z >> 31);
}

static inline long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Calls in assembly: the C library's state may be destroyed by then. */
static inline long raw(long nr, const uint64_t *a)
{
	register uint64_t r10 __asm__("r10") = a[3];
	register uint64_t r8 __asm__("r8") = a[4];
	register uint64_t r9 __asm__("r9") = a[5];
	long ret;

	__asm__ volatile("syscall" : "=a"(ret)
			 : "0"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* On a host they would set the clock and the name of the machine, and worse. */
static inline int in_sandbox(void)
{
	struct utsname name;

	return uname(&name) == 0 && strstr(name.release, "-runsc") != NULL;
}

#endif
