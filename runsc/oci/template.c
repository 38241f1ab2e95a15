#include "runsc/oci/template.h"

#include <unistd.h>

#include "runsc/config/version.h"
#include "runsc/oci/names.h"

static json_t *text_list(char *const *list)
{
	json_t *array = json_array();

	for (size_t i = 0; list[i]; i++) {
		if (json_array_append_new(array, json_string(list[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *capabilities_json(bool all)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	static const char *const few[] = { "CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE" };
	json_t *object = json_object();

	for (size_t i = 0; i < ARRAY_COUNT(sets); i++) {
		json_t *array = json_array();

		for (unsigned int j = 0; all ? j < CAPABILITY_COUNT : j < ARRAY_COUNT(few); j++)
			json_array_append_new(array, json_string(all ? capability_name(j) : few[j]));
		json_object_set_new(object, sets[i], array);
	}
	return object;
}

static void add_mount(json_t *mounts, const char *destination, const char *type, const char *source,
		      const char *const *options)
{
	json_t *list = json_array();

	for (size_t i = 0; options[i]; i++)
		json_array_append_new(list, json_string(options[i]));
	json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:o}", "destination", destination, "type",
						type, "source", source, "options", list));
}

#define OPTIONS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static json_t *mounts_json(void)
{
	json_t *mounts = json_array();

	add_mount(mounts, "/proc", "proc", "proc", OPTIONS("nosuid", "noexec", "nodev"));
	add_mount(mounts, "/dev", "tmpfs", "tmpfs", OPTIONS("nosuid", "strictatime", "mode=755", "size=65536k"));
	add_mount(mounts, "/dev/pts", "devpts", "devpts",
		  OPTIONS("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"));
	add_mount(mounts, "/dev/shm", "tmpfs", "shm",
		  OPTIONS("nosuid", "noexec", "nodev", "mode=1777", "size=65536k"));
	add_mount(mounts, "/dev/mqueue", "mqueue", "mqueue", OPTIONS("nosuid", "noexec", "nodev"));
	add_mount(mounts, "/sys", "sysfs", "sysfs", OPTIONS("nosuid", "noexec", "nodev", "ro"));
	return mounts;
}

static json_t *linux_json(const struct template_args *args)
{
	static char *const masked[] = { "/proc/acpi",	      "/proc/asound",	  "/proc/kcore",
					"/proc/keys",	      "/proc/latency_stats", "/proc/timer_list",
					"/proc/timer_stats",  "/proc/sched_debug", "/sys/firmware",
					"/proc/scsi",	      NULL };
	static char *const readonly[] = { "/proc/bus", "/proc/fs",	       "/proc/irq",
					  "/proc/sys", "/proc/sysrq-trigger", NULL };
	static const char *const kinds[] = { "ipc", "uts", "mount", "pid" };
	json_t *object = json_object(), *namespaces = json_array();

	for (size_t i = 0; i < ARRAY_COUNT(kinds) - args->shared_pids; i++)
		json_array_append_new(namespaces, json_pack("{s:s}", "type", kinds[i]));
	json_array_append_new(namespaces, args->net_path ? json_pack("{s:s, s:s}", "type", "network", "path",
								     args->net_path) :
							   json_pack("{s:s}", "type", "network"));
	if (args->rootless) {
		json_array_append_new(namespaces, json_pack("{s:s}", "type", "user"));
		json_object_set_new(object, "uidMappings",
				    json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", (int)geteuid(),
					      "size", 1));
		json_object_set_new(object, "gidMappings",
				    json_pack("[{s:i, s:i, s:i}]", "containerID", 0, "hostID", (int)getegid(),
					      "size", 1));
	}
	json_object_set_new(object, "namespaces", namespaces);
	if (args->masked) {
		json_object_set_new(object, "maskedPaths", text_list(masked));
		json_object_set_new(object, "readonlyPaths", text_list(readonly));
	}
	return object;
}

json_t *template_json(const struct template_args *args)
{
	static char *const shell[] = { "sh", NULL };
	static char *const few[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
				     "TERM=xterm", NULL };
	json_t *spec, *process;

	process = json_pack("{s:b, s:{s:i, s:i}, s:o, s:o, s:s, s:o, s:[{s:s, s:i, s:i}], s:b}", "terminal",
			    args->terminal, "user", "uid", 0, "gid", 0, "args",
			    text_list(args->args ? args->args : shell), "env",
			    text_list(args->env ? args->env : few), "cwd", args->cwd, "capabilities",
			    capabilities_json(args->all_capabilities), "rlimits", "type", "RLIMIT_NOFILE",
			    "hard", 1024, "soft", 1024, "noNewPrivileges", !args->all_capabilities);
	if (!process)
		return NULL;
	if (args->all_capabilities)
		json_object_del(process, "rlimits");
	spec = json_pack("{s:s, s:o, s:{s:s, s:b}, s:s, s:o, s:o}", "ociVersion", RUNSC_SPEC_VERSION,
			 "process", process, "root", "path", args->root, "readonly", args->root_readonly,
			 "hostname", args->hostname, "mounts", mounts_json(), "linux", linux_json(args));
	return spec;
}

int template_add_bind(json_t *spec, const char *source, const char *destination, bool readonly)
{
	json_t *row = json_pack("{s:s, s:s, s:s, s:[s, s]}", "destination", destination, "type", "bind",
				"source", source, "options", "rbind", readonly ? "ro" : "rw");

	return row ? json_array_append_new(json_object_get(spec, "mounts"), row) : -1;
}
