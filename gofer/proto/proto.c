/* Packing and unpacking of every message, expanded from messages.def. */
#include "gofer/proto/proto.h"

#include <errno.h>

bool gofer_name_ok(const char *p, size_t len)
{
	if (len == 0 || len > GOFER_NAME_MAX || memchr(p, '/', len) || memchr(p, 0, len))
		return false;
	return !(p[0] == '.' && (len == 1 || (len == 2 && p[1] == '.')));
}

static void put_str(struct cursor *c, const struct gofer_str *s, size_t max)
{
	if (s->len > max) {
		c->bad = true;
		return;
	}
	cursor_put_u16(c, s->len);
	cursor_write(c, s->p, s->len);
	cursor_put_u8(c, 0);
}

static void get_str(struct cursor *c, struct gofer_str *s, size_t max)
{
	const char *p;

	s->len = cursor_get_u16(c);
	p = cursor_take(c, s->len + 1u);
	if (!p || s->len > max || p[s->len] != 0 || memchr(p, 0, s->len)) {
		c->bad = true;
		*s = (struct gofer_str){ "", 0 };
		return;
	}
	s->p = p;
}

static void get_name(struct cursor *c, struct gofer_str *s)
{
	get_str(c, s, GOFER_NAME_MAX);
	if (!c->bad && !gofer_name_ok(s->p, s->len))
		c->bad = true;
}

static void put_blob(struct cursor *c, const struct gofer_blob *b, size_t max)
{
	if (b->size > max) {
		c->bad = true;
		return;
	}
	cursor_put_u32(c, b->size);
	cursor_write(c, b->p, b->size);
}

static void get_blob(struct cursor *c, struct gofer_blob *b, size_t max)
{
	b->size = cursor_get_u32(c);
	if (b->size > max)
		c->bad = true;
	b->p = cursor_take(c, b->size);
	if (!b->p)
		b->size = 0;
}

static int unpack_end(const struct cursor *c)
{
	return c->bad || c->p != c->end ? -EPROTO : 0;
}

#define F_U8(f) cursor_put_u8(c, m->f);
#define F_U16(f) cursor_put_u16(c, m->f);
#define F_U32(f) cursor_put_u32(c, m->f);
#define F_U64(f) cursor_put_u64(c, m->f);
#define F_I64(f) cursor_put_u64(c, (uint64_t)m->f);
#define F_REC(rec, f) gofer_pack_##rec(c, &m->f);
#define F_LIST(rec, f, max)                                                                        \
	if (m->f.count > (max))                                                                    \
		c->bad = true;                                                                     \
	cursor_put_u16(c, m->f.count);                                                             \
	for (size_t i = 0; !c->bad && i < m->f.count; i++)                                         \
		gofer_pack_##rec(c, &m->f.v[i]);
#define F_NAME(f) put_str(c, &m->f, GOFER_NAME_MAX);
#define F_STR(f, max) put_str(c, &m->f, max);
#define F_BLOB(f, max) put_blob(c, &m->f, max);
#define GOFER_REC(name, fields)                                                                    \
	void gofer_pack_##name(struct cursor *c, const struct gofer_##name *m)                     \
	{                                                                                          \
		fields                                                                             \
	}
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	void gofer_pack_##name##_req(struct cursor *c UNUSED,                                      \
				     const struct gofer_##name##_req *m UNUSED)                    \
	{                                                                                          \
		request                                                                            \
	}                                                                                          \
	void gofer_pack_##name##_rep(struct cursor *c UNUSED,                                      \
				     const struct gofer_##name##_rep *m UNUSED)                    \
	{                                                                                          \
		reply                                                                              \
	}
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

#define F_U8(f) m->f = cursor_get_u8(c);
#define F_U16(f) m->f = cursor_get_u16(c);
#define F_U32(f) m->f = cursor_get_u32(c);
#define F_U64(f) m->f = cursor_get_u64(c);
#define F_I64(f) m->f = (int64_t)cursor_get_u64(c);
#define F_REC(rec, f)                                                                              \
	if (gofer_unpack_##rec(c, &m->f) < 0)                                                      \
		return -EPROTO;
#define F_LIST(rec, f, max)                                                                        \
	m->f.count = cursor_get_u16(c);                                                            \
	if (m->f.count > (max))                                                                    \
		return -EPROTO;                                                                    \
	for (size_t i = 0; i < m->f.count; i++)                                                    \
		if (gofer_unpack_##rec(c, &m->f.v[i]) < 0)                                         \
			return -EPROTO;
#define F_NAME(f) get_name(c, &m->f);
#define F_STR(f, max) get_str(c, &m->f, max);
#define F_BLOB(f, max) get_blob(c, &m->f, max);
#define GOFER_REC(name, fields)                                                                    \
	int gofer_unpack_##name(struct cursor *c, struct gofer_##name *m)                          \
	{                                                                                          \
		fields return c->bad ? -EPROTO : 0;                                                \
	}
#define GOFER_MSG(id, name, legal, request, reply)                                                 \
	int gofer_unpack_##name##_req(struct cursor *c, struct gofer_##name##_req *m UNUSED)       \
	{                                                                                          \
		request return unpack_end(c);                                                      \
	}                                                                                          \
	int gofer_unpack_##name##_rep(struct cursor *c, struct gofer_##name##_rep *m UNUSED)       \
	{                                                                                          \
		reply return unpack_end(c);                                                        \
	}
#include "gofer/proto/messages.def"

static const struct {
	const char *name;
	unsigned int legal;
} messages[GOFER_MSG_COUNT] = {
#define GOFER_MSG(id, name, legal, request, reply) [id] = { #name, legal },
#include "gofer/proto/messages.def"
};

unsigned int gofer_msg_legal(unsigned int id)
{
	return id < GOFER_MSG_COUNT ? messages[id].legal : 0;
}

const char *gofer_msg_name(unsigned int id)
{
	return id < GOFER_MSG_COUNT && messages[id].name ? messages[id].name : "?";
}

void gofer_put_request_header(struct cursor *c, const struct gofer_header *h)
{
	cursor_put_u16(c, h->id);
	cursor_put_u16(c, h->cpu);
	cursor_put_u32(c, h->seq);
}

void gofer_put_reply_header(struct cursor *c, const struct gofer_header *h)
{
	cursor_put_u16(c, h->id);
	cursor_put_u16(c, 0);
	cursor_put_u32(c, h->seq);
	cursor_put_u32(c, (uint32_t)h->error);
}

int gofer_get_request_header(struct cursor *c, struct gofer_header *h)
{
	h->id = cursor_get_u16(c);
	h->cpu = cursor_get_u16(c);
	h->seq = cursor_get_u32(c);
	h->error = 0;
	return c->bad || !gofer_msg_legal(h->id) ? -EPROTO : 0;
}

int gofer_get_reply_header(struct cursor *c, struct gofer_header *h)
{
	int err = gofer_get_request_header(c, h);

	if (err < 0)
		return err;
	h->error = (int32_t)cursor_get_u32(c);
	if (c->bad || h->cpu || h->error < 0 || h->error > 4095 || (h->error && cursor_left(c)))
		return -EPROTO;
	return 0;
}
