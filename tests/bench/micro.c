/*
 * Small measurements of single operations, for tests/bench/bench. `micro WHAT` prints one number:
 *   getpid getppid stat open clock fork fault pipe: nanoseconds an operation
 *   bytes: seconds for 600,000 one-byte reads and writes; loopback: Gbit/s of a TCP connection
 *   busy: nanoseconds of wall time a getpid when four threads do nothing else
 *   faults: seconds to write to each page of 256 fresh MiB; cpu: seconds of a loop without calls
 *   now: the monotonic clock in seconds
 */
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void do_getpid(void)
{
	syscall(SYS_getpid);
}

static void do_getppid(void)
{
	syscall(SYS_getppid);
}

static void do_stat(void)
{
	struct stat st;

	if (stat("/bin/busybox", &st) != 0 && stat("/bin/bash", &st) != 0)
		err(1, "stat");
}

static void do_open(void)
{
	int fd = open("/etc/passwd", O_RDONLY);

	if (fd < 0)
		err(1, "open");
	close(fd);
}

static void do_clock(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
}

static void do_fork(void)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	waitpid(pid, NULL, 0);
}

static void do_fault(void)
{
	static char *map;
	static size_t at;

	if (!map || at == 4096) {
		if (map)
			munmap(map, 4096 * 4096UL);
		map = mmap(NULL, 4096 * 4096UL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		at = 0;
	}
	map[at++ * 4096] = 1;
}

/* Median of seven batches, each of about 30 ms. */
static double nanoseconds(void (*operation)(void))
{
	double results[7];
	long batch = 1;

	for (;;) {
		double start = now();
		for (long i = 0; i < batch; i++)
			operation();
		if (now() - start > 0.02)
			break;
		batch *= 2;
	}
	for (int round = 0; round < 7; round++) {
		double start = now();
		for (long i = 0; i < batch; i++)
			operation();
		double value = (now() - start) * 1e9 / (double)batch;
		int at = round;
		while (at > 0 && results[at - 1] > value) {
			results[at] = results[at - 1];
			at--;
		}
		results[at] = value;
	}
	return results[3];
}

static double pipe_round_trip(void)
{
	int there[2], back[2];
	char byte = 0;
	enum { TRIPS = 3000 };

	if (pipe(there) || pipe(back))
		err(1, "pipe");
	pid_t pid = fork();
	if (pid == 0) {
		close(there[1]);
		while (read(there[0], &byte, 1) == 1)
			if (write(back[1], &byte, 1) != 1)
				_exit(1);
		_exit(0);
	}
	double start = 0;
	for (int i = -200; i < TRIPS; i++) {
		if (i == 0)
			start = now();
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			err(1, "pipe");
	}
	double spent = now() - start;
	close(there[1]);
	waitpid(pid, NULL, 0);
	return spent * 1e9 / TRIPS;
}

static double one_byte_calls(void)
{
	int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
	char byte;
	double start = now();

	for (int i = 0; i < 300000; i++)
		if (read(zero, &byte, 1) != 1 || write(null, &byte, 1) != 1)
			err(1, "one byte");
	return now() - start;
}

static void *call_getpid(void *count)
{
	for (long i = *(const long *)count; i > 0; i--)
		do_getpid();
	return NULL;
}

static double busy_getpid(void)
{
	enum { THREADS = 4 };
	pthread_t threads[THREADS];
	long count = 1000;

	for (;; count *= 2) {
		double start = now();
		for (int i = 0; i < THREADS; i++)
			if (pthread_create(&threads[i], NULL, call_getpid, &count))
				errx(1, "pthread_create");
		for (int i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		if (now() - start >= 0.5)
			return (now() - start) * 1e9 / (double)(THREADS * count);
	}
}

static double fault_loop(void)
{
	size_t size = 256UL << 20;
	double start = now();
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		err(1, "mmap");
	for (size_t at = 0; at < size; at += 4096)
		map[at] = 1;
	return now() - start;
}

static double cpu_loop(void)
{
	double start = now();
	volatile uint32_t result;
	uint32_t x = 1;

	for (long i = 0; i < 200000000; i++)
		x = x * 1664525 + 1013904223;
	result = x;
	(void)result;
	return now() - start;
}

static double loopback(void)
{
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof(addr);
	int server = socket(AF_INET, SOCK_STREAM, 0);
	static char buffer[131072];

	if (bind(server, (void *)&addr, sizeof(addr)) || listen(server, 1) ||
	    getsockname(server, (void *)&addr, &size))
		err(1, "listen");
	pid_t pid = fork();
	if (pid == 0) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		if (connect(fd, (void *)&addr, sizeof(addr)))
			err(1, "connect");
		double end = now() + 1;
		while (now() < end)
			for (int i = 0; i < 16; i++)
				if (write(fd, buffer, sizeof(buffer)) < 0)
					err(1, "write");
		_exit(0);
	}
	int fd = accept(server, NULL, NULL);
	double start = now(), total = 0;
	ssize_t got;
	while ((got = read(fd, buffer, sizeof(buffer))) > 0)
		total += (double)got;
	double spent = now() - start;
	waitpid(pid, NULL, 0);
	return total * 8 / spent / 1e9;
}

/* Seconds for what version control and package managers do to names: a temporary file, written, renamed into place,
 * looked at, removed. */
static double names_storm(void)
{
	enum { COUNT = 2000 };
	char temporary[64], final[64], text[600] = "some text";
	struct stat st;
	double start;

	mkdir("storm", 0755);
	start = now();
	for (int i = 0; i < COUNT; i++) {
		int fd;

		snprintf(temporary, sizeof(temporary), "storm/tmp-%d", i);
		snprintf(final, sizeof(final), "storm/object-%d", i);
		fd = open(temporary, O_CREAT | O_EXCL | O_WRONLY, 0644);
		if (fd < 0 || write(fd, text, sizeof(text)) != sizeof(text) || close(fd) < 0 || rename(temporary, final) < 0 ||
		    stat(final, &st) < 0)
			err(1, "storm");
	}
	for (int i = 0; i < COUNT; i++) {
		snprintf(final, sizeof(final), "storm/object-%d", i);
		if (unlink(final) < 0)
			err(1, "unlink");
	}
	if (rmdir("storm") < 0)
		err(1, "rmdir");
	return now() - start;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*operation)(void);
	} operations[] = { { "getpid", do_getpid }, { "getppid", do_getppid }, { "stat", do_stat }, { "open", do_open },
			   { "clock", do_clock },   { "fork", do_fork }, { "fault", do_fault } };
	const char *what = argc > 1 ? argv[1] : "";

	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++)
		if (strcmp(what, operations[i].name) == 0) {
			printf("%.1f\n", nanoseconds(operations[i].operation));
			return 0;
		}
	if (strcmp(what, "pipe") == 0)
		printf("%.1f\n", pipe_round_trip());
	else if (strcmp(what, "bytes") == 0)
		printf("%.4f\n", one_byte_calls());
	else if (strcmp(what, "busy") == 0)
		printf("%.1f\n", busy_getpid());
	else if (strcmp(what, "faults") == 0)
		printf("%.4f\n", fault_loop());
	else if (strcmp(what, "cpu") == 0)
		printf("%.4f\n", cpu_loop());
	else if (strcmp(what, "loopback") == 0)
		printf("%.3f\n", loopback());
	else if (strcmp(what, "names") == 0)
		printf("%.4f\n", names_storm());
	else if (strcmp(what, "now") == 0)
		printf("%.6f\n", now());
	else
		errx(2, "usage: micro getpid|getppid|stat|open|clock|fork|fault|pipe|bytes|busy|faults|cpu|loopback|names|now");
	return 0;
}
