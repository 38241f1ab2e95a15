/* libFuzzer harness of the parsers of config.json (with its seccomp profile), of a process file and of a resources file. The
 * first byte says which. */
#include <string.h>

#include "runsc/oci/message.h"
#include "runsc/oci/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse_config(const char *text, size_t size)
{
	struct message_extra extra = { .id = "fuzz", .gofer_count = 1 };
	struct oci_spec spec;
	struct error err;

	if (!oci_spec_parse("config.json", text, size, &spec, &err)) {
		const Urpc__Container *message;
		size_t packed;
		void *code;

		if (spec.seccomp && !seccomp_compile(spec.seccomp, &spec.arena, &code, &extra.seccomp_size, &err))
			extra.seccomp = code;
		message = message_of_spec(&spec.arena, &spec, &extra);
		packed = protobuf_c_message_get_packed_size(&message->base);

		if (!packed)
			__builtin_trap();
	} else if (strncmp(err.text, "config.json:", 12) != 0) {
		__builtin_trap();
	}
	oci_spec_fini(&spec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct oci_resources resources;
	struct oci_process process;
	struct arena arena = { 0 };
	struct error err;
	const char *text;

	if (!size)
		return 0;
	text = (const char *)data + 1;
	size--;
	if (data[0] == 'p')
		(void)!oci_process_parse("process", text, size, &arena, &process, &err);
	else if (data[0] == 'r')
		(void)!oci_resources_parse("resources", text, size, &arena, &resources, &err);
	else
		parse_config(text, size);
	arena_fini(&arena);
	return 0;
}
