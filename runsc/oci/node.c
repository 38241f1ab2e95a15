#include "runsc/oci/node.h"

#include <stdarg.h>
#include <string.h>

/*
 * Finding the line of a node. The text was accepted by the JSON parser before, so the scan only
 * has to keep strings and brackets apart; it still never reads past the end.
 */
struct scan {
	const char *p, *end;
};

static void skip_space(struct scan *s)
{
	while (s->p < s->end && strchr(" \t\r\n,:", *s->p) && *s->p)
		s->p++;
}

static void skip_string(struct scan *s)
{
	for (s->p++; s->p < s->end && *s->p != '"'; s->p++)
		s->p += *s->p == '\\' && s->p + 1 < s->end;
	s->p += s->p < s->end;
}

static void skip_value(struct scan *s)
{
	int depth = 0;

	skip_space(s);
	while (s->p < s->end) {
		char c = *s->p;

		if (c == '"') {
			skip_string(s);
		} else {
			if (c == '{' || c == '[')
				depth++;
			if (c == '}' || c == ']')
				depth--;
			if (depth < 0)
				return;
			s->p++;
		}
		if (depth)
			continue;
		/* a scalar goes on to the next separator */
		if (c == '"' || c == '}' || c == ']' || s->p >= s->end ||
		    strchr(" \t\r\n,}]", *s->p))
			return;
	}
}

/* s stands on an object: moves to the value of the last member named key. */
static bool enter_member(struct scan *s, const char *key)
{
	size_t len = strlen(key);
	const char *found = NULL;

	for (s->p++;;) {
		const char *name;
		size_t name_len;

		skip_space(s);
		if (s->p >= s->end || *s->p != '"')
			break;
		name = s->p + 1;
		skip_string(s);
		name_len = (size_t)(s->p - name) - 1;
		skip_space(s);
		if (name_len == len && !memcmp(name, key, len))
			found = s->p;
		skip_value(s);
	}
	if (found)
		s->p = found;
	return found != NULL;
}

static bool enter_element(struct scan *s, size_t index)
{
	for (s->p++; index; index--)
		skip_value(s);
	skip_space(s);
	return s->p < s->end;
}

static void scan_to(struct scan *s, const struct node *node)
{
	struct scan before;

	if (!node->up) {
		skip_space(s);
		return;
	}
	scan_to(s, node->up);
	before = *s;
	if (s->p >= s->end || !(node->key ? enter_member(s, node->key) : enter_element(s, node->index)))
		*s = before;
}

static int node_line(const struct document *doc, const struct node *node)
{
	struct scan s = { doc->text, doc->text + doc->size };
	int line = 1;

	scan_to(&s, node);
	for (const char *p = doc->text; p < s.p; p++)
		line += *p == '\n';
	return line;
}

static void node_path(const struct node *node, char *out, size_t size)
{
	size_t len;

	if (!node->up) {
		*out = 0;
		return;
	}
	node_path(node->up, out, size);
	len = strlen(out);
	if (node->key)
		snprintf(out + len, size - len, "%s%.64s", len ? "." : "", node->key);
	else
		snprintf(out + len, size - len, "[%zu]", node->index);
}

PRINTF_LIKE(3, 0)
static void fail_va(struct document *doc, const struct node *node, const char *fmt, va_list ap)
{
	char path[256], what[512];

	if (doc->failed)
		return;
	doc->failed = true;
	node_path(node, path, sizeof(path));
	vsnprintf(what, sizeof(what), fmt, ap);
	error_set(doc->err, "%s:%d: %s%s%s", doc->name, node_line(doc, node), path, *path ? " " : "",
		  what);
}

void node_fail(struct document *doc, const struct node *node, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fail_va(doc, node, fmt, ap);
	va_end(ap);
}

void member_fail(struct document *doc, const struct node *node, const char *key, const char *fmt, ...)
{
	struct node member = { .up = node, .key = key };
	va_list ap;

	va_start(ap, fmt);
	fail_va(doc, &member, fmt, ap);
	va_end(ap);
}

/*
 * The specification has unsigned 64-bit numbers (18446744073709551615: no limit), the parser only signed
 * ones. A copy of text in which the upper half of them is written as the signed number of the same bits, and what
 * has more than 64 bits as the nearest in range. A copy may be longer than text: *ret_size.
 */
static char *signed_integers(const char *text, size_t size, size_t *ret_size)
{
	char *copy = xcalloc(2 * size + 2, 1), *out = copy;
	struct scan s = { text, text + size };

	while (s.p < s.end) {
		const char *from = s.p;
		bool negative = *from == '-';
		uint64_t value = 0;
		size_t digits = 0;
		bool over = false;

		if (*from == '"') {
			skip_string(&s);
			out = mempcpy(out, from, (size_t)(s.p - from));
			continue;
		}
		for (s.p += negative; s.p < s.end && *s.p >= '0' && *s.p <= '9'; s.p++, digits++) {
			over |= __builtin_mul_overflow(value, 10, &value) ||
				__builtin_add_overflow(value, (uint64_t)(*s.p - '0'), &value);
		}
		s.p += !negative && !digits;
		if (digits < 19 || (s.p < s.end && strchr(".eE", *s.p) && *s.p) || (!over && value <= INT64_MAX))
			out = mempcpy(out, from, (size_t)(s.p - from));
		else if (negative)
			out += sprintf(out, "%lld", INT64_MIN + 0LL);
		else
			out += sprintf(out, "%lld", over ? INT64_MAX + 0LL : (long long)(int64_t)value);
	}
	*ret_size = (size_t)(out - copy);
	return copy;
}

int document_open(struct document *doc, const char *name, const char *text, size_t size,
		  struct arena *arena, struct error *err, struct node *ret_root)
{
	json_error_t fault;

	*doc = (struct document){ .name = name, .text = text, .size = size, .arena = arena, .err = err };
	doc->root = json_loadb(text, size, 0, &fault);
	if (!doc->root && json_error_code(&fault) == json_error_numeric_overflow) {
		size_t copy_size;
		AUTO(mem_free) char *copy = signed_integers(text, size, &copy_size);

		doc->root = json_loadb(copy, copy_size, 0, &fault);
	}
	if (!doc->root) {
		doc->failed = true;
		return error_set(err, "%s:%d: not valid JSON: %s", name, MAX(fault.line, 1), fault.text);
	}
	if (!json_is_object(doc->root)) {
		document_close(doc);
		doc->failed = true;
		return error_set(err, "%s:1: must be a JSON object", name);
	}
	*ret_root = (struct node){ .json = doc->root };
	return 0;
}

void document_close(struct document *doc)
{
	json_decref(doc->root);
	doc->root = NULL;
}

static json_t *member(struct document *doc, const struct node *up, const char *key)
{
	json_t *value = doc->failed ? NULL : json_object_get(up->json, key);

	return json_is_null(value) ? NULL : value;
}

static bool node_typed(struct document *doc, const struct node *up, const char *key, json_type type,
		       const char *type_name, struct node *ret)
{
	json_t *value = member(doc, up, key);

	if (!value)
		return false;
	if (json_typeof(value) != type) {
		member_fail(doc, up, key, "must be %s", type_name);
		return false;
	}
	*ret = (struct node){ .up = up, .key = key, .json = value };
	return true;
}

bool node_object(struct document *doc, const struct node *up, const char *key, struct node *ret)
{
	return node_typed(doc, up, key, JSON_OBJECT, "an object", ret);
}

bool node_array(struct document *doc, const struct node *up, const char *key, struct node *ret)
{
	return node_typed(doc, up, key, JSON_ARRAY, "an array", ret);
}

bool node_object_at(struct document *doc, const struct node *up, size_t i, struct node *ret)
{
	struct node child = { .up = up, .index = i, .json = json_array_get(up->json, i) };

	if (doc->failed)
		return false;
	if (!json_is_object(child.json)) {
		node_fail(doc, &child, "must be an object");
		return false;
	}
	*ret = child;
	return true;
}

char *node_string(struct document *doc, const struct node *up, const char *key)
{
	struct node value;

	if (!node_typed(doc, up, key, JSON_STRING, "a string", &value))
		return NULL;
	return arena_strndup(doc->arena, json_string_value(value.json), json_string_length(value.json));
}

bool node_bool(struct document *doc, const struct node *up, const char *key, bool fallback)
{
	json_t *value = member(doc, up, key);

	if (!value)
		return fallback;
	if (!json_is_boolean(value))
		member_fail(doc, up, key, "must be true or false");
	return json_is_true(value);
}

bool node_int(struct document *doc, const struct node *up, const char *key, int64_t min, int64_t max,
	      int64_t *ret)
{
	struct node value;
	int64_t number;

	if (!node_typed(doc, up, key, JSON_INTEGER, "a whole number", &value))
		return false;
	number = json_integer_value(value.json);
	if (number < min || number > max) {
		node_fail(doc, &value, "must be from %lld to %lld, not %lld", (long long)min,
			  (long long)max, (long long)number);
		return false;
	}
	*ret = number;
	return true;
}

uint32_t node_u32(struct document *doc, const struct node *up, const char *key, uint32_t fallback)
{
	int64_t number = fallback;

	node_int(doc, up, key, 0, UINT32_MAX, &number);
	return (uint32_t)number;
}

struct oci_strings node_strings(struct document *doc, const struct node *up, const char *key)
{
	struct oci_strings list = { 0 };
	struct node array;
	size_t count;

	if (!node_array(doc, up, key, &array))
		return list;
	count = node_count(&array);
	list.v = arena_alloc(doc->arena, count + 1, sizeof(*list.v));
	for (size_t i = 0; i < count; i++) {
		struct node child = { .up = &array, .index = i, .json = json_array_get(array.json, i) };

		if (!json_is_string(child.json)) {
			node_fail(doc, &child, "must be a string");
			return (struct oci_strings){ 0 };
		}
		list.v[i] = arena_strndup(doc->arena, json_string_value(child.json),
					  json_string_length(child.json));
	}
	list.count = count;
	return list;
}

char *node_need_string(struct document *doc, const struct node *up, const char *key)
{
	char *text = node_string(doc, up, key);

	if (!doc->failed && (!text || !*text))
		member_fail(doc, up, key, "must be set");
	return doc->failed ? NULL : text;
}
