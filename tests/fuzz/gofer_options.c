/* libFuzzer harness of the gofer's command line: one argument a line, with the paths of bind mounts among them. */
#include <stdlib.h>
#include <string.h>

#include "gofer/server/server.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ARGS_MAX = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct gofer_options o;
	char name[] = "runsc-gofer", why[64] = "", *argv[ARGS_MAX + 1] = { name };
	char *text = malloc(size + 1), *rest = text;
	int argc = 1, err;

	if (!text)
		abort();
	memcpy(text, data, size);
	text[size] = 0;
	while (argc < ARGS_MAX && rest)
		argv[argc++] = strsep(&rest, "\n");
	err = options_parse(argc, argv, &o, why, sizeof(why));
	if (err < 0 ? !*why : o.attach_count == 0 || o.attach_count > GOFER_ATTACH_MAX)
		__builtin_trap();
	for (unsigned int i = 0; err == 0 && i < o.attach_count; i++) {
		if (o.attach[i].fd < 0 || o.attach[i].path[0] != '/' || (o.attach[i].at && o.attach[i].at[0] != '/'))
			__builtin_trap();
	}
	free(text);
	return 0;
}
