/*
 * State descriptors: every kernel object that a checkpoint would save names all its members here,
 * beside the struct, one line each: saved, or S_NOSAVE with the reason. tools/check-state reads the
 * structs with clang and fails when a member is missing. The descriptors also name owning edges, so
 * that references can be recounted. Saving and restoring itself is not built yet.
 *
 *   STATE_DESC(pipe,
 *     S_VAL(pipe, 1, size), S_REF(pipe, 2, reader, file), S_NOSAVE(pipe, mu, "unheld at a safe point"));
 */
#ifndef SENTRY_STATE_DESC_H
#define SENTRY_STATE_DESC_H

#include "platform/base/compiler.h"

enum state_kind { STATE_VAL, STATE_REF, STATE_WEAK, STATE_LIST, STATE_EMBED, STATE_BYTES, STATE_NOSAVE };

struct state_type;
struct state_field {
	const char *name;
	uint32_t tag; /* number on disk, never reused */
	enum state_kind kind;
	uint32_t size, offset;
	const char *to;	 /* REF, WEAK, LIST, EMBED: name of the type */
	const char *why; /* NOSAVE */
};
struct state_type {
	const char *name;
	uint32_t size, field_count;
	const struct state_field *field;
};

#define S_FIELD_(T, tag, m, kind, to, why)                                                         \
	{ #m, tag, kind, sizeof(FIELD_TYPE(struct T, m)), offsetof(struct T, m), to, why }
#define S_VAL(T, tag, m) S_FIELD_(T, tag, m, STATE_VAL, NULL, NULL)	 /* plain number or array of them */
#define S_BYTES(T, tag, m) S_FIELD_(T, tag, m, STATE_BYTES, NULL, NULL) /* owned string or buffer */
#define S_REF(T, tag, m, to) S_FIELD_(T, tag, m, STATE_REF, #to, NULL)	 /* holds a reference */
#define S_WEAK(T, tag, m, to) S_FIELD_(T, tag, m, STATE_WEAK, #to, NULL) /* points without owning */
#define S_LIST(T, tag, m, to) S_FIELD_(T, tag, m, STATE_LIST, #to, NULL) /* list head of embedded nodes */
#define S_EMBED(T, tag, m, to) S_FIELD_(T, tag, m, STATE_EMBED, #to, NULL)
/* A trailing flexible array goes with its struct and is not named. */
#define S_NOSAVE(T, m, why) S_FIELD_(T, 0, m, STATE_NOSAVE, NULL, why)

#define STATE_DESC(T, ...)                                                                         \
	static const struct state_field T##_state_fields[] = { __VA_ARGS__ };                      \
	extern const struct state_type T##_state_type;                                                 \
	const struct state_type T##_state_type = { #T, sizeof(struct T), ARRAY_COUNT(T##_state_fields), \
					      T##_state_fields }

#endif
