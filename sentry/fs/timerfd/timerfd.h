/* timerfd_create(2): a timer whose expirations are read as a count. */
#ifndef SENTRY_FS_TIMERFD_TIMERFD_H
#define SENTRY_FS_TIMERFD_TIMERFD_H

#include "sentry/vfs/fs_ops.h"

/* clock_id is checked by the caller: CLOCK_REALTIME, MONOTONIC, BOOTTIME and the two _ALARM clocks. */
NODISCARD int timerfd_new(int clock_id, int flags, const struct cred *cred, struct file **ret_file);
bool file_is_timerfd(const struct file *f);
/* Times in ns; value 0 disarms. absolute: TFD_TIMER_ABSTIME. Also drops unread expirations. The old
 * setting goes to *ret_value (time left) and *ret_interval. */
void timerfd_set(struct file *f, bool absolute, int64_t value_ns, int64_t interval_ns,
		 int64_t *ret_value, int64_t *ret_interval);
void timerfd_left(struct file *f, int64_t *ret_value, int64_t *ret_interval);

#endif
