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

int cmd_features(struct config *config, const void *values, int count, char **operands,
		 struct error *err)
{
	static const char *const namespaces[] = { "cgroup", "ipc", "mount", "network", "pid", "user", "uts" };
	static const char *const options[] = { "async",	      "atime",	    "bind",	  "defaults",	"dev",
					       "diratime",    "dirsync",    "exec",	  "noatime",	"nodev",
					       "nodiratime",  "noexec",	    "norelatime", "nosuid",	"private",
					       "rbind",	      "relatime",   "remount",	  "ro",		"rprivate",
					       "rshared",     "rslave",	    "runbindable", "rw",	"shared",
					       "slave",	      "strictatime", "suid",	  "sync",	"unbindable" };
	json_t *capabilities = json_array();

	(void)config;
	(void)values;
	(void)count;
	(void)operands;
	for (unsigned int i = 0; i < CAPABILITY_COUNT; i++)
		json_array_append_new(capabilities, json_string(capability_name(i)));
	return print_json(
		json_pack("{s:s, s:s, s:o, s:o, s:{s:o, s:o, s:{s:b, s:b, s:b, s:b, s:b}, s:{s:b}, s:{s:b}, s:{s:b}}}",
			  "ociVersionMin", "1.0.0", "ociVersionMax", RUNSC_SPEC_VERSION, "hooks",
			  list_of(oci_hook_names, HOOK_KINDS), "mountOptions",
			  list_of(options, ARRAY_COUNT(options)), "linux", "namespaces",
			  list_of(namespaces, ARRAY_COUNT(namespaces)), "capabilities", capabilities, "cgroup",
			  "v1", 1, "v2", 1, "systemd", 0, "systemdUser", 0, "rdma", 0, "seccomp", "enabled", 0,
			  "apparmor", "enabled", 0, "selinux", "enabled", 0),
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
