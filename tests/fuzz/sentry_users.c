/* libFuzzer harness of the readers of a container's /etc/passwd and /etc/group: what is looked up, a line, the file. */
#include <stdlib.h>
#include <string.h>

#include "sentry/control/control_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A copy that ends where the text ends, so that a sanitizer sees who reads on. */
static char *copy_of(const uint8_t *text, size_t size)
{
	char *copy = malloc(size + 1);

	if (!copy)
		abort();
	memcpy(copy, text, size);
	copy[size] = 0;
	return copy;
}

static void look_up(const char *who, const uint8_t *text, size_t size)
{
	struct found_user u = { 0 };
	char *users = copy_of(text, size), *groups = copy_of(text, size);

	if (passwd_find(users, who, &u) && (u.uid == UINT32_MAX || u.gid == UINT32_MAX || strlen(u.name) >= sizeof(u.name)))
		__builtin_trap();
	(void)group_find(groups, NULL, &u);
	if (u.group_count > ARRAY_COUNT(u.groups))
		__builtin_trap();
	memcpy(groups, text, size);
	if (group_find(groups, who, &u) && u.gid == UINT32_MAX)
		__builtin_trap();
	free(users);
	free(groups);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	const char *home;
	char *who, *text;
	size_t len;

	if (!end)
		return 0;
	who = copy_of(data, (size_t)(end - data));
	size -= (size_t)(end + 1 - data);
	data = end + 1;
	look_up(who, data, size);
	text = malloc(size + !size);
	if (!text)
		abort();
	memcpy(text, data, size);
	if (passwd_home(text, size, (uint32_t)strtoul(who, NULL, 10), &home, &len) &&
	    (home < text || len == 0 || home + len > text + size || memchr(home, 0, len)))
		__builtin_trap();
	free(text);
	free(who);
	return 0;
}
