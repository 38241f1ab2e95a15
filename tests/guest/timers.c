/* itimers, POSIX timers, sleeping, clocks, vDSO agreement, cpu accounting. */
#include "tests/lib/guest.h"

#include <sys/times.h>
#include <sys/timex.h>
#include <sys/resource.h>

TEST(itimer_real)
{
	struct itimerval it = { { 0, 0 }, { 0, 30000 } }, now;

	on_signal(SIGALRM, catch_signal, 0);
	OK(setitimer(ITIMER_REAL, &it, NULL));
	OK(getitimer(ITIMER_REAL, &now));
	CHECK(now.it_value.tv_usec > 0 && now.it_value.tv_usec <= 30000);
	msleep(60);
	CHECK_EQ(caught_count, 1);
	OK(getitimer(ITIMER_REAL, &now));
	CHECK_EQ(now.it_value.tv_usec, 0);
	it.it_value.tv_usec = 1000000;
	ERR(setitimer(ITIMER_REAL, &it, NULL), EINVAL);
	ERR(setitimer(7, &now, NULL), EINVAL);
	ERR(getitimer(ITIMER_REAL, BAD_PTR), EFAULT);
}

TEST(itimer_interval_and_alarm)
{
	interrupt_every(10, SA_RESTART);
	msleep(105);
	CHECK(caught_count >= 6 && caught_count <= 11);
	interrupt_stop();
	CHECK_EQ(alarm(100), 0);
	unsigned int left = alarm(0);
	CHECK(left == 99 || left == 100);
}

TEST(itimer_not_inherited)
{
	interrupt_every(10000, 0);
	CHILD(pid)
	{
		struct itimerval now;
		OK(getitimer(ITIMER_REAL, &now));
		CHECK_EQ(now.it_value.tv_sec, 0);
	}
	WAIT_EXIT(pid, 0);
}

static void burn(long ms)
{
	long long end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + ms * 1000000;

	while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
		;
}

TEST(itimer_virtual_and_prof)
{
	struct itimerval it = { { 0, 0 }, { 0, 20000 } };

	on_signal(SIGPROF, catch_signal, 0);
	OK(setitimer(ITIMER_PROF, &it, NULL));
	msleep(60);
	CHECK_EQ(caught_count, 0);
	burn(100);
	CHECK_EQ(caught_signo, SIGPROF);
	on_signal(SIGVTALRM, catch_signal, 0);
	OK(setitimer(ITIMER_VIRTUAL, &it, NULL));
	long long stop = now_ms() + 3000;
	while (caught_signo != SIGVTALRM && now_ms() < stop)
		for (volatile int i = 0; i < 100000; i = i + 1)
			;
	CHECK_EQ(caught_signo, SIGVTALRM);
}

static siginfo_t timer_info;

static void on_timer(int signo, siginfo_t *info, void *context)
{
	(void)context;
	timer_info = *info;
	catch_signal(signo);
}

TEST(posix_timer_signal)
{
	struct sigaction sa = { .sa_sigaction = on_timer, .sa_flags = SA_SIGINFO };
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1,
			       .sigev_value.sival_int = 55 };
	struct itimerspec it = { { 0, 10000000 }, { 0, 10000000 } }, now;
	timer_t timer;

	OK(sigaction(SIGUSR1, &sa, NULL));
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_settime(timer, 0, &it, NULL));
	OK(timer_gettime(timer, &now));
	CHECK_EQ(now.it_interval.tv_nsec, 10000000);
	while (caught_count < 3)
		pause();
	CHECK_EQ(timer_info.si_code, SI_TIMER);
	CHECK_EQ(timer_info.si_value.sival_int, 55);
	OK(timer_delete(timer));
	ERR(timer_delete(timer), EINVAL);
}

TEST(posix_timer_overrun)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec it = { { 0, 1000000 }, { 0, 1000000 } };
	sigset_t set;
	siginfo_t info;
	timer_t timer;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_settime(timer, 0, &it, NULL));
	msleep(50);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	CHECK(info.si_overrun >= 30);
	CHECK(timer_getoverrun(timer) >= 30);
}

TEST(posix_timer_none_and_errors)
{
	struct sigevent ev = { .sigev_notify = SIGEV_NONE };
	struct itimerspec it = { .it_value = { 0, 20000000 } };
	timer_t timer;

	OK(timer_create(CLOCK_REALTIME, &ev, &timer));
	OK(timer_settime(timer, 0, &it, NULL));
	msleep(30);
	OK(timer_gettime(timer, &it));
	CHECK_EQ(it.it_value.tv_nsec, 0);
	it.it_value.tv_nsec = -5;
	ERR(timer_settime(timer, 0, &it, NULL), EINVAL);
	ERR(timer_create(77, &ev, &timer), EINVAL);
	ev.sigev_notify = 77;
	ERR(timer_create(CLOCK_REALTIME, &ev, &timer), EINVAL);
	ev = (struct sigevent){ .sigev_notify = SIGEV_SIGNAL, .sigev_signo = 99 };
	ERR(timer_create(CLOCK_REALTIME, &ev, &timer), EINVAL);
}

TEST(posix_timer_of_thread)
{
	struct sigevent ev = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1 };
	struct itimerspec it = { .it_value = { 0, 5000000 } };
	timer_t timer;

	ev._sigev_un._tid = gettid();
	on_signal(SIGUSR1, catch_signal, 0);
	OK(timer_create(CLOCK_MONOTONIC, &ev, &timer));
	OK(timer_settime(timer, 0, &it, NULL));
	ERR(pause(), EINTR);
	CHECK_EQ(caught_count, 1);
	ev._sigev_un._tid = 999999;
	ERR(timer_create(CLOCK_MONOTONIC, &ev, &timer), EINVAL);
}

TEST(cpu_timer)
{
	struct sigevent ev = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct itimerspec it = { .it_value = { 0, 20000000 } };
	timer_t timer;

	on_signal(SIGUSR1, catch_signal, 0);
	OK(timer_create(CLOCK_PROCESS_CPUTIME_ID, &ev, &timer));
	OK(timer_settime(timer, 0, &it, NULL));
	msleep(40);
	CHECK_EQ(caught_count, 0);
	burn(80);
	CHECK_EQ(caught_count, 1);
}

TEST(nanosleep_lengths)
{
	static const long lengths[] = { 0, 1, 1000, 1000000, 20000000 };

	for (size_t i = 0; i < COUNT(lengths); i++) {
		long long start = now_ns(CLOCK_MONOTONIC);
		OK(nanosleep(&(struct timespec){ 0, lengths[i] }, NULL));
		CHECK(now_ns(CLOCK_MONOTONIC) - start >= lengths[i]);
	}
	ERR(nanosleep(&(struct timespec){ 0, 1000000000 }, NULL), EINVAL);
	ERR(nanosleep(&(struct timespec){ -1, 0 }, NULL), EINVAL);
	ERR(nanosleep(BAD_PTR, NULL), EFAULT);
}

TEST(clock_nanosleep_absolute)
{
	struct timespec ts;
	long long target;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	target = ts.tv_sec * 1000000000LL + ts.tv_nsec + 30000000;
	ts = (struct timespec){ target / 1000000000, target % 1000000000 };
	CHECK_EQ(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL), 0);
	CHECK(now_ns(CLOCK_MONOTONIC) >= target);
	CHECK_EQ(clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &(struct timespec){ 1, 0 }, NULL), 0);
	CHECK_EQ(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &ts, NULL), EINVAL);
	CHECK_EQ(clock_nanosleep(77, 0, &ts, NULL), EINVAL);
}

TEST(vdso_agrees_with_syscall)
{
	static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME,
					    CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
					    CLOCK_MONOTONIC_COARSE };

	for (size_t i = 0; i < COUNT(clocks); i++) {
		for (int n = 0; n < 20; n++) {
			struct timespec a, b, c;
			OK(clock_gettime(clocks[i], &a));
			OK(syscall(SYS_clock_gettime, clocks[i], &b));
			OK(clock_gettime(clocks[i], &c));
			long long x = a.tv_sec * 1000000000LL + a.tv_nsec;
			long long y = b.tv_sec * 1000000000LL + b.tv_nsec;
			long long z = c.tv_sec * 1000000000LL + c.tv_nsec;
			CHECK(x <= y + 10000000 && y <= z + 10000000);
			CHECK(z - x < 2000000000);
			if (clocks[i] == CLOCK_MONOTONIC || clocks[i] == CLOCK_REALTIME)
				CHECK(x <= y && y <= z);
		}
	}
}

TEST(clocks_advance_together)
{
	long long mono = now_ns(CLOCK_MONOTONIC), real = now_ns(CLOCK_REALTIME);

	msleep(100);
	long long dm = now_ns(CLOCK_MONOTONIC) - mono, dr = now_ns(CLOCK_REALTIME) - real;
	CHECK(dm >= 100000000 && dm < 2000000000);
	CHECK(llabs(dm - dr) < 5000000);
}

TEST(monotonic_never_goes_back)
{
	long long last = 0;

	for (int i = 0; i < 200000; i++) {
		long long now = now_ns(CLOCK_MONOTONIC);
		CHECK(now >= last);
		last = now;
	}
}

TEST(clock_errors_and_resolution)
{
	struct timespec ts;

	ERR(syscall(SYS_clock_gettime, 77, &ts), EINVAL);
	ERR(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, BAD_PTR), EFAULT);
	OK(clock_getres(CLOCK_MONOTONIC, &ts));
	CHECK_EQ(ts.tv_nsec, 1);
	ERR(clock_getres(77, &ts), EINVAL);
	ERR(clock_settime(CLOCK_MONOTONIC, &ts), EINVAL);
	ERR(clock_settime(CLOCK_REALTIME, &(struct timespec){ INT64_MAX / 1000000000, 0 }), EINVAL);
	struct timeval tv;
	OK(gettimeofday(&tv, NULL));
	CHECK(llabs(tv.tv_sec - time(NULL)) <= 1);
	ERR(syscall(SYS_gettimeofday, BAD_PTR, NULL), EFAULT);
}

TEST(cpu_clocks)
{
	long long cpu = now_ns(CLOCK_PROCESS_CPUTIME_ID), thread = now_ns(CLOCK_THREAD_CPUTIME_ID);

	msleep(50);
	CHECK(now_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu < 30000000);
	burn(30);
	CHECK(now_ns(CLOCK_THREAD_CPUTIME_ID) - thread >= 29000000);
	clockid_t id;
	CHECK_EQ(clock_getcpuclockid(getpid(), &id), 0);
	CHECK(llabs(now_ns(id) - now_ns(CLOCK_PROCESS_CPUTIME_ID)) < 50000000);
}

TEST(times_and_rusage)
{
	struct tms a, b;
	struct rusage usage;

	clock_t start = OK(times(&a));
	burn(60);
	clock_t end = OK(times(&b));
	CHECK(end - start >= 5);
	CHECK(b.tms_utime + b.tms_stime - a.tms_utime - a.tms_stime >= 3);
	OK(getrusage(RUSAGE_SELF, &usage));
	CHECK(usage.ru_maxrss > 100);
	CHECK(usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec +
		      usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec >= 40000);
}

TEST(cpu_limit_signals)
{
	CHILD(pid)
	{
		struct rlimit lim = { 1, 2 };
		OK(setrlimit(RLIMIT_CPU, &lim));
		for (;;)
			;
	}
	WAIT_SIGNAL(pid, SIGXCPU);
}
