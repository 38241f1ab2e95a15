/*
 * Why the sandbox said no. An errno that this runtime invents (a limit, missing support, a dead gofer, policy)
 * and that Linux alone would not have given is made by cause(), which keeps a record of what refused, and
 * of how to change it; `runsc debug --stacks` shows the last ones.
 */
#ifndef SENTRY_CORE_CAUSE_H
#define SENTRY_CORE_CAUSE_H

#include <stddef.h>
#include <stdint.h>

#include "platform/base/compiler.h"

enum cause_kind { CAUSE_LIMIT, CAUSE_UNSUPPORTED, CAUSE_GOFER, CAUSE_POLICY, CAUSE_KINDS };

#define CAUSE_TEXT 112
#define CAUSES_KEPT 64

struct cause {
	int64_t time_ns; /* of the last of them, CLOCK_REALTIME of the host */
	uint64_t count;	 /* equal ones in a row are one record */
	enum cause_kind kind;
	int err; /* positive errno */
	char text[CAUSE_TEXT];
};

/*
 * Records and returns -err. what says in a few words what refused and how to change it ("memory limit of the
 * container: raise linux.resources.memory.limit"). Any context, any locks held.
 */
int cause(int err, enum cause_kind kind, const char *what, ...) PRINTF_LIKE(3, 4);
/* Copies the records, the youngest first; returns how many. */
size_t cause_list(struct cause list[CAUSES_KEPT]);
/* "limit", "unsupported", "gofer", "policy" */
const char *cause_kind_name(enum cause_kind kind);

#endif
