/* The names of a directory that is known as a whole: they answer misses, and follow our own changes. */
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/gofer/gofer_priv.h"

struct name {
	struct name *next;
	uint32_t hash;
	char text[];
};

struct names {
	uint32_t count, buckets;
	struct name **table;
};

#define BUCKETS_MIN 8u

/* Names in all sets. */
static _Atomic uint32_t names_total;

struct names *names_new(void)
{
	struct names *n = calloc(1, sizeof(*n));

	if (!n)
		return NULL;
	n->buckets = BUCKETS_MIN;
	n->table = calloc(n->buckets, sizeof(struct name *));
	if (!n->table) {
		free(n);
		return NULL;
	}
	return n;
}

void names_free(struct names *n)
{
	if (!n)
		return;
	for (uint32_t b = 0; b < n->buckets; b++) {
		for (struct name *e = n->table[b], *next; e; e = next) {
			next = e->next;
			free(e);
		}
	}
	names_total -= n->count;
	free(n->table);
	free(n);
}

static uint32_t hash_of(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h ^ h >> 15;
}

/* The link to the entry of that name, or to the NULL where it would be. */
static struct name **find(const struct names *n, const char *name, uint32_t hash)
{
	struct name **link = &n->table[hash & (n->buckets - 1)];

	while (*link && ((*link)->hash != hash || strcmp((*link)->text, name) != 0))
		link = &(*link)->next;
	return link;
}

bool names_has(const struct names *n, const char *name)
{
	return *find(n, name, hash_of(name)) != NULL;
}

static void grow(struct names *n)
{
	uint32_t buckets = n->buckets * 4;
	struct name **table = calloc(buckets, sizeof(struct name *));

	if (!table)
		return;
	for (uint32_t b = 0; b < n->buckets; b++) {
		for (struct name *e = n->table[b], *next; e; e = next) {
			next = e->next;
			e->next = table[e->hash & (buckets - 1)];
			table[e->hash & (buckets - 1)] = e;
		}
	}
	free(n->table);
	n->table = table;
	n->buckets = buckets;
}

bool names_add(struct names *n, const char *name)
{
	uint32_t hash = hash_of(name);
	size_t size = strlen(name) + 1;
	struct name **link, *e;

	if (n->count >= n->buckets)
		grow(n);
	link = find(n, name, hash);
	if (*link)
		return true;
	if (n->count >= NAMES_MAX || names_total >= NAMES_TOTAL_MAX)
		return false;
	e = malloc(sizeof(*e) + size);
	if (!e)
		return false;
	e->next = NULL;
	e->hash = hash;
	memcpy(e->text, name, size);
	*link = e;
	n->count++;
	names_total++;
	return true;
}

void names_remove(struct names *n, const char *name)
{
	struct name **link = find(n, name, hash_of(name)), *e = *link;

	if (!e)
		return;
	*link = e->next;
	free(e);
	n->count--;
	names_total--;
}
