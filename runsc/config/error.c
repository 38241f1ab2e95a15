#include "runsc/config/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

PRINTF_LIKE(3, 0)
static void error_fill(struct error *err, int exit_code, const char *fmt, va_list ap)
{
	err->exit_code = exit_code;
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	/* one sentence on one line, whatever was quoted in it */
	for (char *p = err->text; *p; p++) {
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	}
}

int error_set(struct error *err, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_fill(err, EXIT_GENERIC, fmt, ap);
	va_end(ap);
	return -1;
}

int error_set_code(struct error *err, int exit_code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	error_fill(err, exit_code, fmt, ap);
	va_end(ap);
	return -1;
}

int error_errno(struct error *err, int saved_errno, const char *fmt, ...)
{
	va_list ap;
	size_t len;

	va_start(ap, fmt);
	error_fill(err, EXIT_GENERIC, fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved_errno));
	return -1;
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list ap;
	size_t len;

	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	error_fill(err, err->exit_code ? err->exit_code : EXIT_GENERIC, fmt, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", old);
	return -1;
}
