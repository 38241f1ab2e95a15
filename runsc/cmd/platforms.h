/* `runsc help platforms`. */
#ifndef RUNSC_CMD_PLATFORMS_H
#define RUNSC_CMD_PLATFORMS_H

#include "runsc/config/error.h"

/*
 * Prints what each platform is and what it is worth on this host, as the sentry finds it when it starts: format table,
 * csv or json. 0, or -1 with err when the sentry cannot be asked (the table says so instead). Takes some
 * milliseconds, at most 15 s.
 */
int platforms_print(const char *format, struct error *err);

#endif
