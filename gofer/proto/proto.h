/*
 * Wire protocol between the sentry and the gofer: SOCK_SEQPACKET messages of at most
 * GOFER_MSG_MAX bytes, mostly at most one descriptor each by SCM_RIGHTS (open: GOFER_AHEAD_MAX more). One request is outstanding per
 * connection; its reply carries the same id and sequence number.
 *
 * Unpacked strings and blobs borrow the message buffer. Unpacking checks every bound, that names
 * are single components and that the message ends where its fields end.
 */
#ifndef GOFER_PROTO_PROTO_H
#define GOFER_PROTO_PROTO_H

#include "platform/base/compiler.h"
#include "platform/base/cursor.h"

#define GOFER_VERSION 2u
#define GOFER_MSG_MAX 65536u
#define GOFER_NAME_MAX 255u
#define GOFER_TARGET_MAX 4095u
#define GOFER_WALK_MAX 32u
#define GOFER_CLOSE_MAX 512u
#define GOFER_CHECK_MAX 256u
#define GOFER_AHEAD_MAX 15u
#define GOFER_XATTR_NAME_MAX 255u
#define GOFER_XATTR_SIZE_MAX 61440u
#define GOFER_READDIR_MAX 61440u

/* States of a connection: before attach, attached read-only, attached for writing. */
enum gofer_legal { GOFER_IN_NEW = 1, GOFER_IN_RO = 2, GOFER_IN_RW = 4 };

/* Flags of the attach reply. */
enum { GOFER_ATTACH_READONLY = 1, GOFER_ATTACH_UDS = 2, GOFER_ATTACH_SLAVE = 4 };

/* How walk, open and create open a file; 0 does not open. */
enum gofer_open { GOFER_OPEN_READ = 1, GOFER_OPEN_WRITE = 2, GOFER_OPEN_TRUNC = 4 };

/* Bits of setattr's valid. The NOW bits take the host's clock instead of the given time. */
enum {
	GOFER_SET_MODE = 1,
	GOFER_SET_UID = 2,
	GOFER_SET_GID = 4,
	GOFER_SET_SIZE = 8,
	GOFER_SET_ATIME = 16,
	GOFER_SET_MTIME = 32,
	GOFER_SET_ATIME_NOW = 64,
	GOFER_SET_MTIME_NOW = 128,
	GOFER_SET_ALL = 255,
};

enum { GOFER_RENAME_NOREPLACE = 1, GOFER_RENAME_EXCHANGE = 2 };

/* Flags of readdir: with attributes; with a node for each entry, or each directory (implies attributes). */
enum { GOFER_READDIR_ATTR = 1, GOFER_READDIR_NODES = 2, GOFER_READDIR_DIRS = 4 };

struct gofer_str {
	const char *p; /* NUL-terminated */
	uint16_t len;
};

struct gofer_blob {
	void *p;
	uint32_t size;
};

#define F_U8(f) uint8_t f;
#define F_U16(f) uint16_t f;
#define F_U32(f) uint32_t f;
#define F_U64(f) uint64_t f;
#define F_I64(f) int64_t f;
#define F_REC(rec, f) struct gofer_##rec f;
#define F_LIST(rec, f, max)                                                                        \
	struct {                                                                                   \
		uint16_t count;                                                                    \
		struct gofer_##rec v[max];                                                         \
	} f;
#define F_NAME(f) struct gofer_str f;
#define F_STR(f, max) struct gofer_str f;
#define F_BLOB(f, max) struct gofer_blob f;
#define GOFER_REC(name, fields)                                                                    \
	struct gofer_##name {                                                                      \
		fields                                                                             \
	};
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	struct gofer_##name##_req {                                                                \
		request                                                                            \
	};                                                                                         \
	struct gofer_##name##_rep {                                                                \
		reply                                                                              \
	};
#include "gofer/proto/messages.def"
#undef F_U8
#undef F_U16
#undef F_U32
#undef F_U64
#undef F_I64
#undef F_REC
#undef F_LIST
#undef F_NAME
#undef F_STR
#undef F_BLOB

#define GOFER_MSG(id, name, legal, request, reply) GOFER_##name = (id),
enum gofer_msg {
#include "gofer/proto/messages.def"
	GOFER_MSG_COUNT,
};

struct gofer_header {
	uint16_t id;
	uint16_t cpu; /* requests only: 1 + the processor that the caller runs on, 0: unknown; a hint */
	uint32_t seq;
	int32_t error; /* replies only: 0 or a positive Linux errno */
};

/* Size of the largest packed request or reply header. */
#define GOFER_HEADER_SIZE 12u

/*
 * Header of a request or a reply at the cursor. The getters return 0 or -EPROTO (unknown id, padding
 * not zero, cursor bad). A reply with an error has no fields.
 */
void gofer_put_request_header(struct cursor *c, const struct gofer_header *h);
void gofer_put_reply_header(struct cursor *c, const struct gofer_header *h);
NODISCARD int gofer_get_request_header(struct cursor *c, struct gofer_header *h);
NODISCARD int gofer_get_reply_header(struct cursor *c, struct gofer_header *h);

/* States in which a message is legal (enum gofer_legal bits), and its name; 0 and "?" if unknown. */
unsigned int gofer_msg_legal(unsigned int id);
const char *gofer_msg_name(unsigned int id);

/*
 * gofer_pack_X writes the fields of X at the cursor; a value beyond its declared bound or a full
 * buffer sets c->bad. gofer_unpack_X returns 0 or -EPROTO and for messages insists that the cursor
 * ends with the last field. Records (attr, entry, dirent ...) have the same pair.
 */
#define GOFER_REC(name, fields)                                                                    \
	void gofer_pack_##name(struct cursor *c, const struct gofer_##name *m);                    \
	NODISCARD int gofer_unpack_##name(struct cursor *c, struct gofer_##name *m);
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	void gofer_pack_##name##_req(struct cursor *c, const struct gofer_##name##_req *m);        \
	void gofer_pack_##name##_rep(struct cursor *c, const struct gofer_##name##_rep *m);        \
	NODISCARD int gofer_unpack_##name##_req(struct cursor *c, struct gofer_##name##_req *m);   \
	NODISCARD int gofer_unpack_##name##_rep(struct cursor *c, struct gofer_##name##_rep *m);
#include "gofer/proto/messages.def"

/* True for a single path component: 1 to 255 bytes, no slash, no NUL, not "." or "..". */
bool gofer_name_ok(const char *p, size_t len);

#endif
