/*
 * RLIMIT_CPU (getrlimit(2)): SIGXCPU at the soft limit and every second after, SIGKILL at the hard one.
 * A timer looks again when the limit could have been reached if every thread ran all the time.
 */
#include <sys/resource.h>

#include "sentry/kernel/kernel_priv.h"

static int64_t limit_ns(uint64_t seconds)
{
	return seconds >= (uint64_t)(TIME_FOREVER / NSEC_PER_SEC) ? TIME_FOREVER : (int64_t)seconds * NSEC_PER_SEC;
}

static void cpu_limit_fire(struct ktimer *kt, uint64_t overruns)
{
	struct thread_group *tg = container_of(kt, struct thread_group, cpu_limit_timer);
	struct guest_siginfo xcpu = siginfo_kernel(SIGXCPU), kill = siginfo_kernel(SIGKILL);
	struct cpu_usage u;
	int64_t used, soft, hard, next;

	(void)overruns;
	GUARD(mutex, &taskset_mu);
	if (tg->exiting || tg->zombie)
		return;
	thread_group_usage_locked(tg, &u);
	used = u.user_ns + u.system_ns;
	soft = MAX(limit_ns(tg->limits.r[RLIMIT_CPU].soft), tg->cpu_limit_next);
	hard = limit_ns(tg->limits.r[RLIMIT_CPU].hard);
	if (used >= hard) {
		(void)signal_send_group_locked(tg, &kill);
		return;
	}
	if (used >= soft) {
		(void)signal_send_group_locked(tg, &xcpu);
		soft = tg->cpu_limit_next = time_add(soft, NSEC_PER_SEC);
	}
	next = MIN(soft, hard);
	if (next == TIME_FOREVER)
		return;
	next = (next - used) / MAX(tg->live_count, 1u);
	ktimer_arm(kt, time_add(clock_mono(), MAX(next, (int64_t)1000000)), 0);
}

void cpu_limit_init(struct thread_group *tg)
{
	ktimer_init(&tg->cpu_limit_timer, CLOCK_MONOTONIC, cpu_limit_fire);
}

void cpu_limit_changed(struct thread_group *tg)
{
	GUARD(mutex, &taskset_mu);
	tg->cpu_limit_next = 0;
	/* The last thread stops the timer once and for all. */
	if (tg->live_count == 0)
		return;
	if (tg->limits.r[RLIMIT_CPU].soft != GUEST_RLIM_INFINITY)
		ktimer_arm(&tg->cpu_limit_timer, clock_mono(), 0);
}
