/*
 * Bounded reader and writer over a byte buffer, little endian. The first access out of bounds sets
 * `bad` and every later one returns zero or does nothing, so a parser checks once at its end.
 */
#ifndef PLATFORM_BASE_CURSOR_H
#define PLATFORM_BASE_CURSOR_H

#include <string.h>

#include "platform/base/compiler.h"

struct cursor {
	uint8_t *p, *end;
	bool bad;
};

static inline struct cursor cursor_init(void *buf, size_t size)
{
	return (struct cursor){ (uint8_t *)buf, (uint8_t *)buf + size, false };
}

static inline size_t cursor_left(const struct cursor *c)
{
	return c->bad ? 0 : (size_t)(c->end - c->p);
}

/* Returns the next size bytes and steps over them, or NULL. */
static inline void *cursor_take(struct cursor *c, size_t size)
{
	uint8_t *p = c->p;

	if (c->bad || (size_t)(c->end - c->p) < size) {
		c->bad = true;
		return NULL;
	}
	c->p += size;
	return p;
}

static inline void cursor_read(struct cursor *c, void *dst, size_t size)
{
	const void *p = cursor_take(c, size);

	if (p)
		memcpy(dst, p, size);
	else
		memset(dst, 0, size);
}

static inline void cursor_write(struct cursor *c, const void *src, size_t size)
{
	void *p = cursor_take(c, size);

	if (p && size)
		memcpy(p, src, size);
}

#define CURSOR_SCALAR(type, name)                                                                  \
	static inline type cursor_get_##name(struct cursor *c)                                     \
	{                                                                                          \
		type v;                                                                            \
		cursor_read(c, &v, sizeof(v));                                                     \
		return v;                                                                          \
	}                                                                                          \
	static inline void cursor_put_##name(struct cursor *c, type v)                             \
	{                                                                                          \
		cursor_write(c, &v, sizeof(v));                                                    \
	}
CURSOR_SCALAR(uint8_t, u8)
CURSOR_SCALAR(uint16_t, u16)
CURSOR_SCALAR(uint32_t, u32)
CURSOR_SCALAR(uint64_t, u64)
#undef CURSOR_SCALAR

#endif
