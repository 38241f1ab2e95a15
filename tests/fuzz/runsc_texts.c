/*
 * libFuzzer harness of the small languages that config.json quotes and of what the host tells about cgroups. The
 * first byte chooses: the profile of seccomp, an annotation that sets an option, linux.cgroupsPath of
 * systemd, a property of its scope, a list of processors, /proc/self/mountinfo with /proc/self/cgroup.
 */
#include <stdlib.h>
#include <string.h>

#include "runsc/cgroup/cgroup_priv.h"
#include "runsc/config/config.h"
#include "runsc/oci/seccomp.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A profile that is understood compiles, or says why not; what comes out are whole instructions. */
static void compile_profile(const char *text)
{
	char *config = xasprintf("{\"ociVersion\":\"1.2.0\",\"root\":{\"path\":\"r\"},\"linux\":{\"seccomp\":%s}}", text);
	struct arena arena = { 0 };
	struct oci_spec spec;
	struct error err = { 0 };
	void *code;
	size_t size = 0;

	if (!oci_spec_parse("config.json", config, strlen(config), &spec, &err) && spec.seccomp) {
		if (seccomp_compile(spec.seccomp, &arena, &code, &size, &err) ? !*err.text : !size || size % 8)
			__builtin_trap();
	}
	arena_fini(&arena);
	oci_spec_fini(&spec);
	free(config);
}

/* Splits text at the first c; what follows, or "". */
static char *split(char *text, char c)
{
	char *at = strchr(text, c);

	if (!at)
		return strchr(text, 0);
	*at = 0;
	return at + 1;
}

static void set_option(char *text)
{
	const char *value = split(text, '=');
	struct config config;
	struct error err = { 0 };

	config_init(&config);
	if (config_override(&config, text, value, &err) && !*err.text)
		__builtin_trap();
	/* a container's author gains nothing on the host */
	if (config.debug_log || config.root || config.rootless || config.ignore_cgroups || strcmp(config.host_uds, "none") != 0 ||
	    !config.oci_seccomp)
		__builtin_trap();
}

static void name_scope(const char *text)
{
	struct cgroup cg = { 0 };
	struct error err = { 0 };
	char *dir = NULL;

	if (scope_names(text, "id", false, &cg, &dir, &err)) {
		if (!*err.text)
			__builtin_trap();
	} else if (!dir || strstr(dir, "/../") || !cg.unit || strchr(cg.unit, '/')) {
		__builtin_trap(); /* it would be a directory that systemd does not keep */
	}
	free(dir);
	cgroup_fini(&cg);
}

static void parse_property(char *text)
{
	const char *value = split(text, '=');
	struct systemd_property property = { 0 };
	struct error err = { 0 };

	if (!systemd_parse_property(text, value, &property, &err))
		systemd_property_fini(&property);
	else if (!*err.text)
		__builtin_trap();
}

static void find_hierarchies(char *text)
{
	const char *own = split(text, '\f');
	struct hierarchies list;

	hierarchies_parse(text, own, &list);
	hierarchies_fini(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t mask[SYSTEMD_MASK_MAX];
	char *text;

	if (!size)
		return 0;
	text = malloc(size);
	if (!text)
		abort();
	memcpy(text, data + 1, size - 1);
	text[size - 1] = 0;
	if (data[0] == 'p')
		compile_profile(text);
	else if (data[0] == 'a')
		set_option(text);
	else if (data[0] == 's')
		name_scope(text);
	else if (data[0] == 'y')
		parse_property(text);
	else if (data[0] == 'c' && systemd_cpu_mask(text, mask) > sizeof(mask))
		__builtin_trap();
	else if (data[0] == 'h')
		find_hierarchies(text);
	free(text);
	return 0;
}
