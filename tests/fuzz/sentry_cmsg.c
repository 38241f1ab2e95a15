/*
 * Fuzzer of control message parsing: every item that the parser gives lies inside of the buffer, it ends,
 * and what is written back by cmsg_put reads as the same items.
 */
#include <stdlib.h>
#include <string.h>

#include "sentry/net/core/cmsg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(c)                                                                                 \
	do {                                                                                       \
		if (!(c))                                                                          \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A copy of exact size, so that a sanitizer sees reads beyond it. */
	uint8_t *in = malloc(size + 1), *out = malloc(size + 64);
	struct cmsg_iter it = { .buf = in, .size = size };
	struct cmsg_out o = { .buf = out, .size = size ? data[0] % (size + 64) : 0 };
	struct cmsg_item item;
	size_t items = 0;

	memcpy(in, data, size);
	while (cmsg_next(&it, &item) > 0) {
		REQUIRE(item.data >= in && item.data + item.size <= in + size);
		REQUIRE(it.pos <= size);
		REQUIRE(++items <= size / GUEST_CMSG_HDR);
		cmsg_put(&o, item.level, item.type, item.data, item.size);
		REQUIRE(o.used <= o.size);
	}
	it = (struct cmsg_iter){ .buf = out, .size = o.used };
	while (cmsg_next(&it, &item) > 0)
		REQUIRE(item.data + item.size <= out + o.used);
	free(in);
	free(out);
	return 0;
}
