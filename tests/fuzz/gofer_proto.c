/*
 * libFuzzer harness of both directions of the wire format: every request and reply is unpacked from
 * the input; what unpacks must pack to the same bytes again.
 */
#include <stdlib.h>
#include <string.h>

#include "gofer/proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t in[GOFER_MSG_MAX], out[2 * GOFER_MSG_MAX];

#define TRY(type)                                                                                  \
	do {                                                                                       \
		static struct gofer_##type m;                                                      \
		struct cursor c = cursor_init(in, size), o = cursor_init(out, sizeof(out));        \
		if (gofer_unpack_##type(&c, &m) < 0)                                               \
			break;                                                                     \
		gofer_pack_##type(&o, &m);                                                         \
		if (o.bad || (size_t)(o.p - out) != (size_t)(c.p - in) ||                          \
		    memcmp(out, in, (size_t)(o.p - out)) != 0)                                     \
			abort();                                                                   \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct gofer_header h;
	struct cursor head;

	if (size < 1 || size > sizeof(in))
		return 0;
	unsigned int pick = data[0] % GOFER_MSG_COUNT;

	memcpy(in, data + 1, --size);
	head = cursor_init(in, size);
	(void)!gofer_get_reply_header(&head, &h);
	switch (pick) {
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	case id:                                                                                   \
		TRY(name##_req);                                                                   \
		TRY(name##_rep);                                                                   \
		break;
#include "gofer/proto/messages.def"
	default:
		TRY(dirent);
		TRY(entry);
	}
	return 0;
}
