/*
 * Typed reading of a JSON document with errors that name the place: "config.json:12: process.cwd
 * must be absolute". A node knows its parents, so paths are composed, and lines counted, only
 * when there is an error. The first error sticks: later reads return nothing, and a parser
 * checks once at its end.
 */
#ifndef RUNSC_OCI_NODE_H
#define RUNSC_OCI_NODE_H

#include <jansson.h>

#include "runsc/config/util.h"

struct oci_strings {
	char **v; /* NULL-terminated when count > 0 */
	size_t count;
};

struct document {
	const char *name; /* of the file, for messages */
	const char *text;
	size_t size;
	json_t *root;	     /* owned */
	struct arena *arena; /* strings go here */
	struct error *err;
	bool failed;
};

/* One value of the document, on the parser's stack: its parents must outlive it. */
struct node {
	const struct node *up; /* NULL: the root */
	const char *key;       /* in an object; NULL in an array */
	size_t index;	       /* in an array */
	json_t *json;	       /* borrowed from the document */
};

/* Parses text (borrowed, kept) and sets *ret_root, which must be an object. */
int document_open(struct document *doc, const char *name, const char *text, size_t size,
		  struct arena *arena, struct error *err, struct node *ret_root);
void document_close(struct document *doc);

/* Records the first error: NAME:LINE: PATH MESSAGE. The path is left out for the root. */
void node_fail(struct document *doc, const struct node *node, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The same for member key of node, which may be absent (the line is then that of node). */
void member_fail(struct document *doc, const struct node *node, const char *key, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

/* Member key of an object. False when it is absent, null, or of the wrong type (an error). */
bool node_object(struct document *doc, const struct node *up, const char *key, struct node *ret);
bool node_array(struct document *doc, const struct node *up, const char *key, struct node *ret);
/* Element i of an array, which must be an object (else an error and false). */
bool node_object_at(struct document *doc, const struct node *up, size_t i, struct node *ret);
static inline size_t node_count(const struct node *array)
{
	return json_array_size(array->json);
}

/* Scalars. Absent or null: NULL, fallback, or false and *ret untouched. A number above INT64_MAX reads as the negative
 * one of the same 64 bits. */
char *node_string(struct document *doc, const struct node *up, const char *key);
bool node_bool(struct document *doc, const struct node *up, const char *key, bool fallback);
bool node_int(struct document *doc, const struct node *up, const char *key, int64_t min, int64_t max,
	      int64_t *ret);
uint32_t node_u32(struct document *doc, const struct node *up, const char *key, uint32_t fallback);
/* An array of strings. */
struct oci_strings node_strings(struct document *doc, const struct node *up, const char *key);
/* Text that must be there and not be empty; NULL with an error otherwise. */
char *node_need_string(struct document *doc, const struct node *up, const char *key);

#endif
