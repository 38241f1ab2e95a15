/* The log of a process: a line is composed on the stack and written by one write(2). */
#include "platform/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 4096 };

_Atomic int log_level = LOG_INFO;

static int log_fd = 2;                         /* const after log_init */
static enum log_format log_fmt = LOG_TEXT;     /* const after log_init */
static const char *log_name = "runsc";         /* const after log_init */
static const char *const level_names[] = { "error", "warning", "info", "debug" };

/* Sets where and how lines go; called once, before threads exist. fd < 0 drops every line. */
void log_init(int fd, enum log_format format, enum log_level level, const char *name)
{
	log_fd = fd;
	log_fmt = format;
	log_level = level;
	log_name = name;
}

/* Appends src as the inside of a JSON string; stops in front of a character that does not fit. */
static size_t json_escape(char *dst, size_t size, const char *src)
{
	size_t n = 0;

	for (; *src && n + 7 < size; src++) {
		unsigned char ch = (unsigned char)*src;

		if (ch == '"' || ch == '\\') {
			dst[n++] = '\\';
			dst[n++] = (char)ch;
		} else if (ch < 0x20 || ch == 0x7f) {
			n += (size_t)snprintf(dst + n, size - n, "\\u%04x", ch);
		} else {
			dst[n++] = (char)ch;
		}
	}
	return n;
}

/*
 * UTC time as RFC 3339 with nanoseconds. Computed here: libc's gmtime_r and strftime open the time
 * zone file, which the system call filters forbid. Years are counted from 1 March in eras of 400.
 */
static void time_text(char *buf, size_t size)
{
	struct timespec now;
	int64_t secs, days, era, doe, yoe, doy, month;

	clock_gettime(CLOCK_REALTIME, &now);
	secs = now.tv_sec % 86400;
	days = now.tv_sec / 86400 + 719468;
	era = days / 146097;
	doe = days % 146097;
	yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
	month = (5 * doy + 2) / 153;
	snprintf(buf, size, "%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ",
		 (int)(yoe + era * 400 + (month >= 10)), (int)(month < 10 ? month + 3 : month - 9),
		 (int)(doy - (153 * month + 2) / 5 + 1), (int)(secs / 3600), (int)(secs / 60 % 60),
		 (int)(secs % 60), now.tv_nsec);
}

/* Writes one line whatever log_level says. Any context; keeps errno. Long lines are cut. */
void log_vline(enum log_level level, const char *fmt, va_list ap)
{
	char msg[LINE_MAX_SIZE / 2], line[LINE_MAX_SIZE], when[64];
	int saved = errno;
	size_t n;

	if (log_fd < 0)
		return;
	if (vsnprintf(msg, sizeof(msg), fmt, ap) < 0)
		msg[0] = '\0';
	time_text(when, sizeof(when));
	if (log_fmt == LOG_JSON) {
		n = (size_t)snprintf(line, sizeof(line), "{\"msg\":\"");
		n += json_escape(line + n, sizeof(line) - n - 160, msg);
		n += (size_t)snprintf(line + n, sizeof(line) - n,
				      "\",\"level\":\"%s\",\"time\":\"%s\",\"name\":\"%.32s\"}\n",
				      level_names[level], when, log_name);
	} else {
		n = (size_t)snprintf(line, sizeof(line) - 1, "%s %-7s %s[%d] %s", when,
				     level_names[level], log_name, (int)getpid(), msg);
		n = MIN(n, sizeof(line) - 2);
		line[n++] = '\n';
	}
	while (write(log_fd, line, n) < 0 && errno == EINTR)
		;
	errno = saved;
}

/* Writes one line; use the log_error ... log_debug macros, which skip it when the level is off. */
void log_line(enum log_level level, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	log_vline(level, fmt, ap);
	va_end(ap);
}

/* Reports a broken invariant in the log and ends the process by SIGABRT. */
void bug_report(const char *file, int line, const char *what)
{
	log_line(LOG_ERROR, "BUG: %s:%d: %s", file, line, what);
	abort();
}
