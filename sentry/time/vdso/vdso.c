/*
 * The guest's vDSO (vdso(7)): a shared object of its own, linked with vdso.lds and embedded in the
 * sentry by vdso_image.S. Runs in the guest: no data of its own, no relocations.
 */
#include <stdint.h>
#include <sys/time.h>
#include <time.h>

#include "sentry/time/vdso_data.h"

extern const volatile struct vdso_data vdso_page __attribute__((visibility("hidden")));

#define NR_CLOCK_GETTIME 228
#define NR_GETTIMEOFDAY 96
#define NR_TIME 201
#define NR_CLOCK_GETRES 229
#define NR_GETCPU 309

static long call2(long nr, long a, long b)
{
	long ret;

	__asm__ volatile("syscall" : "=a"(ret) : "0"(nr), "D"(a), "S"(b) : "rcx", "r11", "memory");
	return ret;
}

int __vdso_clock_gettime(clockid_t clock, struct timespec *ts);
int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz);
time_t __vdso_time(time_t *t);
int __vdso_clock_getres(clockid_t clock, struct timespec *res);
long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused);

int __vdso_clock_gettime(clockid_t clock, struct timespec *ts)
{
	int64_t ns;
	int which;

	switch (clock) {
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
		which = 0;
		break;
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
		which = 1;
		break;
	case CLOCK_BOOTTIME:
		which = 2;
		break;
	case CLOCK_TAI:
		which = 3;
		break;
	default:
		which = -1;
		break;
	}
	if (which < 0 || !vdso_read(&vdso_page, which, &ns))
		return (int)call2(NR_CLOCK_GETTIME, clock, (long)ts);
	ts->tv_sec = ns / 1000000000;
	ts->tv_nsec = ns % 1000000000;
	return 0;
}

int __vdso_gettimeofday(struct timeval *tv, struct timezone *tz)
{
	int64_t ns;

	if (!vdso_read(&vdso_page, 1, &ns))
		return (int)call2(NR_GETTIMEOFDAY, (long)tv, (long)tz);
	if (tv) {
		tv->tv_sec = ns / 1000000000;
		tv->tv_usec = ns % 1000000000 / 1000;
	}
	if (tz) {
		tz->tz_minuteswest = 0;
		tz->tz_dsttime = 0;
	}
	return 0;
}

time_t __vdso_time(time_t *t)
{
	int64_t ns;
	time_t s;

	if (!vdso_read(&vdso_page, 1, &ns))
		return call2(NR_TIME, (long)t, 0);
	s = ns / 1000000000;
	if (t)
		*t = s;
	return s;
}

int __vdso_clock_getres(clockid_t clock, struct timespec *res)
{
	return (int)call2(NR_CLOCK_GETRES, clock, (long)res);
}

long __vdso_getcpu(unsigned *cpu, unsigned *node, void *unused)
{
	unsigned p, cpus = __atomic_load_n(&vdso_page.cpus, __ATOMIC_RELAXED);

	(void)unused;
	if (!cpus)
		return call2(NR_GETCPU, (long)cpu, (long)node);
	/* The host's per-CPU segment: cpu in the low 12 bits of its limit. */
	__asm__ volatile("lsl %1, %0" : "=r"(p) : "r"(0x7bu));
	if (cpu)
		*cpu = (p & 0xfff) % cpus;
	if (node)
		*node = 0;
	return 0;
}

