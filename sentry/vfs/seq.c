/* Growing text for generated files. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/vfs/simple.h"

void seq_init(struct seq *q)
{
	*q = (struct seq){ .text = NULL };
}

void seq_fini(struct seq *q)
{
	free(q->text);
	*q = (struct seq){ .text = NULL };
}

/* Room for size more bytes and a NUL; false when memory is short. */
static bool seq_room(struct seq *q, size_t size)
{
	size_t capacity = q->capacity ? q->capacity : 256;
	char *text;

	if (q->failed)
		return false;
	if (q->size + size + 1 <= q->capacity)
		return true;
	while (capacity < q->size + size + 1)
		capacity *= 2;
	text = realloc(q->text, capacity);
	if (!text) {
		seq_fini(q);
		q->failed = true;
		return false;
	}
	q->text = text;
	q->capacity = capacity;
	return true;
}

void seq_write(struct seq *q, const void *data, size_t size)
{
	if (!seq_room(q, size))
		return;
	memcpy(q->text + q->size, data, size);
	q->size += size;
	q->text[q->size] = 0;
}

void seq_puts(struct seq *q, const char *text)
{
	seq_write(q, text, strlen(text));
}

void seq_putc(struct seq *q, char c)
{
	seq_write(q, &c, 1);
}

void seq_vprintf(struct seq *q, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0 || !seq_room(q, (size_t)n))
		return;
	q->size += (size_t)vsnprintf(q->text + q->size, q->capacity - q->size, fmt, ap);
}

void seq_printf(struct seq *q, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	seq_vprintf(q, fmt, ap);
	va_end(ap);
}

void seq_escape(struct seq *q, const char *text, const char *set)
{
	for (; *text; text++) {
		if (*text == '\\' || strchr(set, *text))
			seq_printf(q, "\\%03o", (unsigned char)*text);
		else
			seq_putc(q, *text);
	}
}
