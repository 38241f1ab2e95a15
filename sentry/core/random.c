#include "sentry/core/random.h"

#include "platform/host/random.h"

void random_fill(void *buf, size_t size)
{
	host_random(buf, size);
}
