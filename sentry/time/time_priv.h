/* Shared by the files of sentry/time only. */
#ifndef SENTRY_TIME_TIME_PRIV_H
#define SENTRY_TIME_TIME_PRIV_H

#include <stdint.h>

/* Starts the timer thread; boot only. 0 or -errno. */
int ktimer_start_thread(void);
/* CLOCK_REALTIME jumped: timers on it are placed anew. No locks held. */
void ktimer_realtime_changed(void);
/* From now on the estimator's page is shared (sentry address, one page), with cpus shown to getcpu. */
void clock_share_page(void *shared, uint32_t cpus);

#endif
