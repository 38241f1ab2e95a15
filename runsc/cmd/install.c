/* install, uninstall: this runtime in the configuration of dockerd. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "runsc/cmd/cmd.h"

#define CONFIG_FILE "/etc/docker/daemon.json"
#define CONFIG_MAX (4u << 20)

struct install_values {
	const char *config_file, *runtime, *cgroupdriver;
	bool experimental, clobber;
};
#define V struct install_values
#define INSTALL_ROWS                                                                               \
	ROW(V, STRING, "config_file", 0, config_file, "FILE", "default " CONFIG_FILE),             \
		ROW(V, STRING, "runtime", 0, runtime, "NAME", "name of the runtime (default runsc)")
DEFINE_OPTIONS(install, V, INSTALL_ROWS,
	       ROW(V, BOOL, "experimental", 0, experimental, NULL, "turn on dockerd's experimental features too"),
	       ROW(V, BOOL, "clobber", 0, clobber, NULL, "replace a runtime of that name"),
	       ROW(V, STRING, "cgroupdriver", 0, cgroupdriver, "NAME", "docker's cgroup driver: cgroupfs or systemd"),
	       ROW_IGNORED(BOOL, "download-sidecars", 0, NULL, "gVisor: further programs"),
	       ROW_IGNORED(BOOL, "require-sidecars", 0, NULL, "gVisor: further programs"),
	       ROW_IGNORED(STRING, "sidecar-url", 0, "URL", "gVisor: further programs"));
DEFINE_OPTIONS(uninstall, V, INSTALL_ROWS);
#undef V

/* The configuration; an empty one when there is no file. */
static json_t *read_config(const char *path, struct error *err)
{
	size_t size = 0;
	AUTO(mem_free) char *text = read_file_at(AT_FDCWD, path, CONFIG_MAX, &size);
	json_error_t where;
	json_t *root;

	if (!text && errno == ENOENT)
		return json_object();
	if (!text) {
		error_errno(err, errno, "cannot read %s", path);
		return NULL;
	}
	root = size ? json_loadb(text, size, JSON_REJECT_DUPLICATES, &where) : json_object();
	if (!root)
		error_set(err, "%s:%d: %s", path, where.line, where.text);
	else if (!json_is_object(root))
		error_set(err, "%s is not a JSON object", path);
	if (root && !json_is_object(root)) {
		json_decref(root);
		return NULL;
	}
	return root;
}

static int write_config(const char *path, json_t *root, struct error *err)
{
	AUTO(mem_free) char *text = json_dumps(root, JSON_INDENT(4));
	AUTO(mem_free) char *lines = text ? xasprintf("%s\n", text) : NULL;
	AUTO(mem_free) char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	int ret = 0;

	if (slash && slash != dir) {
		*slash = 0;
		ret = make_dirs(dir, 0755);
	}
	if (!ret)
		ret = lines ? write_atomic_at(AT_FDCWD, path, lines, strlen(lines), 0644) : -EINVAL;
	return ret ? error_errno(err, -ret, "cannot write %s", path) : 0;
}

/* The member `runtimes`, made when it is missing; borrowed; NULL when it is no object. */
static json_t *runtimes_of(json_t *root)
{
	json_t *runtimes = json_object_get(root, "runtimes");

	if (!runtimes) {
		json_object_set_new(root, "runtimes", json_object());
		runtimes = json_object_get(root, "runtimes");
	}
	return json_is_object(runtimes) ? runtimes : NULL;
}

static int set_driver(json_t *root, const char *driver)
{
	AUTO(mem_free) char *option = xasprintf("native.cgroupdriver=%s", driver);
	json_t *options = json_object_get(root, "exec-opts");

	if (!json_is_array(options)) {
		json_object_set_new(root, "exec-opts", json_array());
		options = json_object_get(root, "exec-opts");
	}
	for (size_t i = json_array_size(options); i-- > 0;) {
		const char *text = json_string_value(json_array_get(options, i));

		if (text && !strncmp(text, "native.cgroupdriver=", 20))
			json_array_remove(options, i);
	}
	return json_array_append_new(options, json_string(option));
}

static int add_runtime(json_t *root, const struct install_values *v, const char *name, int count,
		       char **operands, struct error *err)
{
	char self[PATH_MAX] = "";
	json_t *runtimes = runtimes_of(root), *row;

	if (!runtimes)
		return error_set(err, "\"runtimes\" is not a JSON object");
	if (json_object_get(runtimes, name) && !v->clobber)
		return error_set(err, "there is a runtime \"%s\" already: use --clobber to replace it", name);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		return error_errno(err, errno, "cannot find this program");
	row = json_pack("{s:s}", "path", self);
	if (count) {
		json_t *args = json_array();

		for (int i = 0; i < count; i++)
			json_array_append_new(args, json_string(operands[i]));
		json_object_set_new(row, "runtimeArgs", args);
	}
	if (json_object_set_new(runtimes, name, row))
		return error_set(err, "the name \"%s\" is not UTF-8", name);
	if (v->experimental)
		json_object_set_new(root, "experimental", json_true());
	return v->cgroupdriver && set_driver(root, v->cgroupdriver) ? error_set(err, "--cgroupdriver is not UTF-8") :
								       0;
}

int cmd_install(struct config *config, const void *values, int count, char **operands,
		struct error *err)
{
	const struct install_values *v = values;
	const char *path = v->config_file ? v->config_file : CONFIG_FILE;
	json_t *root = read_config(path, err);
	int ret;

	(void)config;
	if (!root)
		return -1;
	ret = add_runtime(root, v, v->runtime ? v->runtime : "runsc", count, operands, err);
	if (!ret)
		ret = write_config(path, root, err);
	json_decref(root);
	if (!ret)
		printf("Added runtime to %s; dockerd takes it with `systemctl reload docker`.\n", path);
	return ret;
}

int cmd_uninstall(struct config *config, const void *values, int count, char **operands,
		  struct error *err)
{
	const struct install_values *v = values;
	const char *path = v->config_file ? v->config_file : CONFIG_FILE;
	const char *name = v->runtime ? v->runtime : "runsc";
	json_t *root = read_config(path, err);
	int ret;

	(void)config;
	(void)count;
	(void)operands;
	if (!root)
		return -1;
	if (!json_object_get(json_object_get(root, "runtimes"), name))
		ret = error_set(err, "there is no runtime \"%s\" in %s", name, path);
	else
		ret = json_object_del(json_object_get(root, "runtimes"), name) || write_config(path, root, err) ? -1 : 0;
	json_decref(root);
	return ret;
}
