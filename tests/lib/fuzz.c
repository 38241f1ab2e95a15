/*
 * A main for libFuzzer harnesses, so that `make check` runs them with any compiler: no coverage
 * feedback, but the same inputs on every machine.
 *   PROGRAM [seconds [seed directory [number of the one input to run]]]
 * A crashing input is left as crash-PROGRAM in the current directory.
 */
#include <dirent.h>

#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MIN_SIZE(a, b) ((a) < (b) ? (a) : (b))

enum { FUZZ_MAX = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SEEDS_MAX = 256 };
static struct seed {
	uint8_t *data;
	size_t size;
} seeds[SEEDS_MAX];
static size_t seed_count;
static uint64_t state;
static uint8_t input[FUZZ_MAX];
static volatile size_t input_size;
static volatile unsigned long input_number;
static const char *program;

static uint32_t random_u32(void)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(state >> 33);
}

static size_t random_below(size_t limit)
{
	return limit ? random_u32() % limit : 0;
}

static void mutate_once(void)
{
	static const uint8_t edges[] = { 0, 1, 0x7f, 0x80, 0xff, '"', '{', '}', '/', '0', ',' };
	size_t size = input_size, at = random_below(size + 1), count;

	switch (random_below(7)) {
	case 0:
		if (at < size)
			input[at] ^= (uint8_t)(1u << random_below(8));
		break;
	case 1:
		if (at < size)
			input[at] = edges[random_below(sizeof(edges))];
		break;
	case 2:
		if (at + 4 <= size) {
			uint32_t value = random_below(2) ? random_u32() : (uint32_t)-1 >> random_below(32);
			memcpy(input + at, &value, 4);
		}
		break;
	case 3: /* cut */
		count = random_below(size - at + 1);
		memmove(input + at, input + at + count, size - at - count);
		input_size = size - count;
		break;
	case 4: /* repeat a stretch */
		count = random_below(MIN_SIZE(size - at, 64) + 1);
		if (size + count <= FUZZ_MAX) {
			memmove(input + at + count, input + at, size - at);
			input_size = size + count;
		}
		break;
	case 5: /* insert */
		count = 1 + random_below(8);
		if (size + count <= FUZZ_MAX) {
			memmove(input + at + count, input + at, size - at);
			for (size_t i = 0; i < count; i++)
				input[at + i] = (uint8_t)random_u32();
			input_size = size + count;
		}
		break;
	default: /* copy a stretch elsewhere */
		count = random_below(MIN_SIZE(size - at, 32) + 1);
		if (size)
			memmove(input + random_below(size - count + 1), input + at, count);
		break;
	}
}

static void on_crash(int signo)
{
	char path[256];

	snprintf(path, sizeof(path), "crash-%s", program);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	if (fd < 0 || write(fd, input, input_size) < 0)
		path[0] = '\0';
	printf("FAIL mutations signal %d at input %lu, kept in %s\n", signo, input_number, path);
	fflush(stdout);
	_exit(1);
}

/* Seeds are the files of a directory, and an empty input. */
static void load_seeds(const char *path)
{
	DIR *dir = path ? opendir(path) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) && seed_count < SEEDS_MAX - 1) {
		int fd = openat(dirfd(dir), entry->d_name, O_RDONLY);
		ssize_t size = fd < 0 ? -1 : read(fd, input, FUZZ_MAX);
		if (size >= 0) {
			seeds[seed_count].data = malloc((size_t)size + 1);
			memcpy(seeds[seed_count].data, input, (size_t)size);
			seeds[seed_count++].size = (size_t)size;
		}
		if (fd >= 0)
			close(fd);
	}
	if (dir)
		closedir(dir);
	seeds[seed_count].data = calloc(1, 1);
	seeds[seed_count++].size = 0;
}

static void run_number(unsigned long number)
{
	const struct seed *seed = &seeds[number % seed_count];

	state = number * 0x9e3779b97f4a7c15u + 1;
	input_number = number;
	input_size = seed->size;
	memcpy(input, seed->data, input_size);
	if (number >= seed_count)
		for (size_t n = 1 + random_below(6); n > 0; n--)
			mutate_once();
	/* An exact heap copy: an overrun is a finding for the sanitizers. */
	uint8_t *copy = malloc(input_size ? input_size : 1);
	memcpy(copy, input, input_size);
	alarm(20);
	LLVMFuzzerTestOneInput(copy, input_size);
	free(copy);
}

int main(int argc, char **argv)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGALRM };
	time_t end = time(NULL) + (argc > 1 ? atoi(argv[1]) : 3);
	unsigned long number = argc > 3 ? strtoul(argv[3], NULL, 0) : 0;

	program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		signal(signals[i], on_crash);
	load_seeds(argc > 2 ? argv[2] : NULL);
	do {
		run_number(number++);
	} while (argc <= 3 && (number % 64 || time(NULL) < end));
	printf("PASS mutations %lu inputs\n1 passed, 0 failed\n", number);
	return 0;
}
