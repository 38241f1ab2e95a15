/* A backend without a kernel above it, for tests that bring guest code and a main of their own. */
#ifndef TESTS_UNIT_PLATFORM_FIXTURE_H
#define TESTS_UNIT_PLATFORM_FIXTURE_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/platform.h"

static int passed, failed;
#define CHECK(c) ((c) ? (void)passed++ : (void)(failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

static struct platform *platform;
static uint8_t *memory; /* the memory file, from which guests have all that they have mapped */
static int memory_fd;

/* Opens the backend with a memory file of size bytes; ends the program when it does not work here. */
static void fixture_open(const struct platform_ops *ops, size_t size)
{
	char why[256] = "";

	setvbuf(stdout, NULL, _IOLBF, 0); /* of a hang, too, one is to see how far it came */
	if (ops->probe && ops->probe(why, sizeof(why)) < 0) {
		if (ops->device_take) { /* hosts may lack the device */
			printf("SKIP all %s\n0 passed, 0 failed, 1 skipped\n", why);
			exit(0);
		}
		printf("%s\n0 passed, 1 failed\n", why);
		exit(1);
	}
	memory_fd = memfd_create("memory", 0);
	if (memory_fd < 0 || ftruncate(memory_fd, (off_t)size) < 0)
		exit(1);
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory_fd, 0);
	if (memory == MAP_FAILED || ops->open(memory_fd, &platform) < 0)
		exit(1);
}

#endif
