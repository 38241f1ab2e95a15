/* spec, features, cpu-features, flags: what is known without a container. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runsc/cmd/cmd.h"
#include "runsc/config/version.h"
#include "runsc/oci/names.h"
#include "runsc/oci/template.h"

struct spec_values {
	const char *bundle, *file, *cwd, *netns;
	bool rootless;
};
#define V struct spec_values
DEFINE_OPTIONS(spec, V, ROW(V, STRING, "bundle", 'b', bundle, "DIR", "where config.json is written (default: here)"),
	       ROW(V, STRING, "file", 'f', file, "FILE", "write there instead"),
	       ROW(V, STRING, "cwd", 0, cwd, "DIR", "working directory of the program"),
	       ROW(V, STRING, "netns", 0, netns, "PATH", "network namespace to join"),
	       ROW(V, BOOL, "rootless", 0, rootless, NULL, "with a user namespace for the caller"),
	       ROW_REFUSED(BOOL, "tpu", 0, NULL, "TPUs are not supported"));
#undef V
NO_OPTIONS(features);
NO_OPTIONS(cpu_features);
NO_OPTIONS(flags);

#define CPUINFO_MAX (16u << 20)

int cmd_spec(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct spec_values *v = values;
	struct template_args args = { .args = count ? operands : NULL,
				      .cwd = v->cwd ? v->cwd : "/",
				      .root = "rootfs",
				      .hostname = "runsc",
				      .net_path = v->netns,
				      .terminal = true,
				      .root_readonly = true,
				      .masked = true,
				      .rootless = v->rootless };
	AUTO(mem_free) char *path = v->file ? xstrdup(v->file) :
					      xasprintf("%s/config.json", v->bundle ? v->bundle : ".");
	AUTO(mem_free) char *text = NULL;
	json_t *spec = template_json(&args);
	int fd, ret;

	(void)config;
	text = spec ? json_dumps(spec, JSON_INDENT(4)) : NULL;
	json_decref(spec);
	if (!text)
		return error_set(err, "the program's arguments are not UTF-8");
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0 && errno == EEXIST)
		return error_set(err, "file %s exists: remove it first", path);
	if (fd < 0)
		return error_errno(err, errno, "cannot write %s", path);
	ret = write_all(fd, text, strlen(text));
	if (!ret)
		ret = write_all(fd, "\n", 1);
	close(fd);
	return ret ? error_errno(err, -ret, "cannot write %s", path) : 0;
}

static json_t *list_of(const char *const *words, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_string(words[i]));
	return array;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *sorted_mount_options(void)
{
	const char *names[128];
	size_t count = 0;

	while (count < ARRAY_COUNT(names) && mount_option_name(count)) {
		names[count] = mount_option_name(count);
		count++;
	}
	qsort(names, count, sizeof(*names), compare_names);
	return list_of(names, count);
}

/* linux.seccomp of runsc/oci/seccomp.c, which knows no more than these. */
static json_t *seccomp_features(void)
{
	static const char *const actions[] = { "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL",
					       "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG",
					       "SCMP_ACT_TRACE", "SCMP_ACT_TRAP" };
	static const char *const operators[] = { "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE",
						 "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE" };
	static const char *const archs[] = { "SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64" };
	static const char *const flags[] = { "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
					     "SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" };

	return json_pack("{s:b, s:o, s:o, s:o, s:o, s:o}", "enabled", 1, "actions",
			 list_of(actions, ARRAY_COUNT(actions)), "operators",
			 list_of(operators, ARRAY_COUNT(operators)), "archs", list_of(archs, ARRAY_COUNT(archs)),
			 "knownFlags", list_of(flags, ARRAY_COUNT(flags)), "supportedFlags",
			 list_of(flags, ARRAY_COUNT(flags)));
}

static json_t *linux_features(void)
{
	static const char *const namespaces[] = { "cgroup", "ipc", "mount", "network", "pid", "user", "uts" };
	json_t *capabilities = json_array();

	for (unsigned int i = 0; i < CAPABILITY_COUNT; i++)
		json_array_append_new(capabilities, json_string(capability_name(i)));
	return json_pack("{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:o, s:{s:b}, s:{s:b}, s:{s:b}, s:{s:{s:b}}}",
			 "namespaces", list_of(namespaces, ARRAY_COUNT(namespaces)), "capabilities", capabilities,
			 "cgroup", "v1", 1, "v2", 1, "systemd", 1, "systemdUser", 0, "rdma", 0, "seccomp",
			 seccomp_features(), "apparmor", "enabled", 0, "selinux", "enabled", 0, "intelRdt", "enabled",
			 0, "mountExtensions", "idmap", "enabled", 0);
}

/* The features structure of the runtime specification (features.md). */
int cmd_features(struct config *config, const void *values, int count, char **operands,
		 struct error *err)
{
	/* annotations with this beginning change how the runtime works */
	static const char *const unsafe[] = { ANNOTATION_FLAG };

	(void)config;
	(void)values;
	(void)count;
	(void)operands;
	return print_json(json_pack("{s:s, s:s, s:o, s:o, s:o, s:{s:s}, s:o}", "ociVersionMin", "1.0.0", "ociVersionMax",
				    RUNSC_SPEC_VERSION, "hooks", list_of(oci_hook_names, HOOK_KINDS), "mountOptions",
				    sorted_mount_options(), "linux", linux_features(), "annotations",
				    "runsc.version", RUNSC_VERSION, "potentiallyUnsafeConfigAnnotations",
				    list_of(unsafe, ARRAY_COUNT(unsafe))),
			  JSON_INDENT(2), err);
}

int cmd_cpu_features(struct config *config, const void *values, int count, char **operands,
		     struct error *err)
{
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, "/proc/cpuinfo", CPUINFO_MAX, NULL);
	char *list = text ? strstr(text, "\nflags") : NULL;
	char *save = NULL;
	const char *comma = "";

	(void)config;
	(void)values;
	(void)count;
	(void)operands;
	list = list ? strchr(list, ':') : NULL;
	if (!list)
		return error_set(err, "/proc/cpuinfo has no line `flags`");
	list[strcspn(list, "\n")] = 0;
	for (char *word = strtok_r(list + 1, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		printf("%s%s", comma, word);
		comma = ",";
	}
	putchar('\n');
	return 0;
}

int cmd_flags(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	(void)config;
	(void)values;
	(void)count;
	(void)operands;
	(void)err;
	options_help(stdout, config_rows, config_row_count);
	return 0;
}
