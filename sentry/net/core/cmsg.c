#include "sentry/net/core/cmsg.h"

#include <errno.h>
#include <string.h>

int cmsg_next(struct cmsg_iter *it, struct cmsg_item *ret)
{
	uint64_t len;
	size_t left = it->size - it->pos;
	const uint8_t *p = it->buf + it->pos;

	if (left < GUEST_CMSG_HDR)
		return 0;
	memcpy(&len, p, sizeof(len));
	if (len < GUEST_CMSG_HDR || len > left)
		return -EINVAL;
	memcpy(&ret->level, p + 8, sizeof(ret->level));
	memcpy(&ret->type, p + 12, sizeof(ret->type));
	ret->data = p + GUEST_CMSG_HDR;
	ret->size = (size_t)len - GUEST_CMSG_HDR;
	it->pos += MIN(GUEST_CMSG_ALIGN((size_t)len), left);
	return 1;
}

size_t cmsg_room(const struct cmsg_out *out)
{
	size_t left = out->size - out->used;

	return left < GUEST_CMSG_HDR ? 0 : left - GUEST_CMSG_HDR;
}

void cmsg_put(struct cmsg_out *out, int32_t level, int32_t type, const void *data, size_t size)
{
	size_t left = out->size - out->used;
	uint8_t *p = out->buf + out->used;
	uint64_t len;

	if (left < GUEST_CMSG_HDR) {
		out->truncated = true;
		return;
	}
	if (size > left - GUEST_CMSG_HDR) {
		out->truncated = true;
		size = left - GUEST_CMSG_HDR;
	}
	len = GUEST_CMSG_HDR + size;
	memcpy(p, &len, sizeof(len));
	memcpy(p + 8, &level, sizeof(level));
	memcpy(p + 12, &type, sizeof(type));
	if (size)
		memcpy(p + GUEST_CMSG_HDR, data, size);
	if (GUEST_CMSG_ALIGN((size_t)len) <= left) {
		memset(p + len, 0, GUEST_CMSG_ALIGN((size_t)len) - (size_t)len);
		out->used += GUEST_CMSG_ALIGN((size_t)len);
	} else {
		out->used += (size_t)len;
	}
}
