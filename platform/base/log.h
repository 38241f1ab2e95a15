/*
 * Log of one process. Lines go to one descriptor, each by a single write(2), as text or as JSON
 * ({"msg":..,"level":..,"time":..}). Cheap when the level is off: arguments are not evaluated.
 */
#ifndef PLATFORM_BASE_LOG_H
#define PLATFORM_BASE_LOG_H

#include <stdarg.h>

#include "platform/base/compiler.h"

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };
enum log_format { LOG_TEXT, LOG_JSON };

/* Level up to which lines are written; changed at run time by Logging.Change. */
extern _Atomic int log_level;

/* fd < 0 drops every line. name is the process's name in each line and must live for ever. */
void log_init(int fd, enum log_format format, enum log_level level, const char *name);
void log_line(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);
void log_vline(enum log_level level, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);

#define log_at(level, ...)                                                                         \
	do {                                                                                       \
		if (unlikely(log_level >= (level)))                                                \
			log_line(level, __VA_ARGS__);                                              \
	} while (0)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...) log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
