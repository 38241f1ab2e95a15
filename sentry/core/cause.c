#include "sentry/core/cause.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "platform/base/mutex.h"
#include "platform/host/clock.h"
#include "sentry/core/lockrank.h"

static struct {
	struct mutex mu; /* LOCK_LEAF */
	struct cause ring[CAUSES_KEPT];
	size_t next, used;
} causes = { .mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_LEAF } };

int cause(int err, enum cause_kind kind, const char *what, ...)
{
	struct cause c = { .kind = kind, .err = err, .count = 1 }, *last;
	va_list ap;

	va_start(ap, what);
	vsnprintf(c.text, sizeof(c.text), what, ap);
	va_end(ap);
	c.time_ns = host_clock_ns(CLOCK_REALTIME);
	GUARD(mutex, &causes.mu);
	last = &causes.ring[(causes.next + CAUSES_KEPT - 1) % CAUSES_KEPT];
	if (causes.used && last->err == err && last->kind == kind && strcmp(last->text, c.text) == 0) {
		last->count++;
		last->time_ns = c.time_ns;
		return -err;
	}
	causes.ring[causes.next] = c;
	causes.next = (causes.next + 1) % CAUSES_KEPT;
	causes.used = MIN(causes.used + 1, (size_t)CAUSES_KEPT);
	return -err;
}

size_t cause_list(struct cause list[CAUSES_KEPT])
{
	GUARD(mutex, &causes.mu);
	for (size_t i = 0; i < causes.used; i++)
		list[i] = causes.ring[(causes.next + CAUSES_KEPT - 1 - i) % CAUSES_KEPT];
	return causes.used;
}

const char *cause_kind_name(enum cause_kind kind)
{
	static const char *const names[CAUSE_KINDS] = {
		[CAUSE_LIMIT] = "limit",
		[CAUSE_UNSUPPORTED] = "unsupported",
		[CAUSE_GOFER] = "gofer",
		[CAUSE_POLICY] = "policy",
	};

	return names[kind];
}
