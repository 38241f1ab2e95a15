/*
 * Parser of control messages and msghdr fields from the guest (sendmsg(2), cmsg(3)): no allocation, no
 * guest memory, so that it can be fuzzed alone (tests/fuzz/cmsg.c).
 */
#ifndef SENTRY_NET_CORE_CMSG_H
#define SENTRY_NET_CORE_CMSG_H

#include <stddef.h>
#include <stdint.h>

#include "platform/base/compiler.h"

#define GUEST_CMSG_HDR 16u
#define GUEST_CMSG_ALIGN(n) (((n) + 7u) & ~(size_t)7u)
#define CMSG_BUF_MAX 20480u /* net.core.optmem_max */

struct cmsg_item {
	int32_t level, type;
	const uint8_t *data; /* into the buffer */
	size_t size;
};

struct cmsg_iter {
	const uint8_t *buf;
	size_t size, pos;
};

/* 1: *ret is the next message; 0: the end; -EINVAL: a length that does not fit. */
NODISCARD int cmsg_next(struct cmsg_iter *it, struct cmsg_item *ret);

/* Control messages being written for the guest. */
struct cmsg_out {
	uint8_t *buf;
	size_t size, used;
	bool truncated;
};

/* Appends a message. When only part of the data fits, that part is written and truncated is set, as
 * Linux's put_cmsg does; when not even the header fits, nothing is written. */
void cmsg_put(struct cmsg_out *out, int32_t level, int32_t type, const void *data, size_t size);
/* Bytes of data a further message could hold. */
size_t cmsg_room(const struct cmsg_out *out);

#endif
