/* bwrap: a program over chosen mounts, by the options of bubblewrap (bwrap(1)), which tools for agents call. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "runsc/cmd/cmd.h"
#include "runsc/oci/template.h"

extern char **environ;

#define EMPTY_ROOT ".empty" /* in the state directory: the root when none is given */

struct bwrap_values {
	struct strings mounts, environment;
	const char *chdir, *hostname;
	int64_t uid, gid;
	bool unshare_net, unshare_all, share_net;
};
#define V struct bwrap_values
#define MOUNT(name, value, help) ROW(V, ORDERED, name, 0, mounts, value, help)
#define ENVIRONMENT(name, value, help) ROW(V, ORDERED, name, 0, environment, value, help)
DEFINE_OPTIONS(bwrap, V, MOUNT("bind", "SRC DEST", "show SRC of the host at DEST, writable"),
	       MOUNT("ro-bind", "SRC DEST", "the same, read-only"),
	       MOUNT("bind-try", "SRC DEST", "as --bind if SRC is there"),
	       MOUNT("ro-bind-try", "SRC DEST", "as --ro-bind if SRC is there"),
	       MOUNT("dev-bind", "SRC DEST", "as --bind; device files are the sandbox's own"),
	       MOUNT("tmpfs", "DEST", "an empty file system in memory"), MOUNT("proc", "DEST", "the sandbox's processes"),
	       MOUNT("dev", "DEST", "the sandbox's devices"), MOUNT("dir", "DEST", "an empty directory"),
	       ENVIRONMENT("setenv", "NAME VALUE", "set an environment variable"),
	       ENVIRONMENT("unsetenv", "NAME", "unset an environment variable"),
	       ENVIRONMENT("clearenv", NULL, "unset all environment variables but PWD"),
	       ROW(V, STRING, "chdir", 0, chdir, "DIR", "working directory"),
	       ROW(V, STRING, "hostname", 0, hostname, "NAME", "host name"),
	       ROW(V, INT, "uid", 0, uid, "UID", "user id of the program"),
	       ROW(V, INT, "gid", 0, gid, "GID", "group id of the program"),
	       ROW(V, BOOL, "unshare-net", 0, unshare_net, NULL, "no network but loopback"),
	       ROW(V, BOOL, "unshare-all", 0, unshare_all, NULL, "the same"),
	       ROW(V, BOOL, "share-net", 0, share_net, NULL, "the host's network in spite of --unshare-all"),
	       ROW_IGNORED(BOOL, "unshare-user", 0, NULL, "a sandbox shares none of these"),
	       ROW_IGNORED(BOOL, "unshare-user-try", 0, NULL, ""), ROW_IGNORED(BOOL, "unshare-ipc", 0, NULL, ""),
	       ROW_IGNORED(BOOL, "unshare-pid", 0, NULL, ""), ROW_IGNORED(BOOL, "unshare-uts", 0, NULL, ""),
	       ROW_IGNORED(BOOL, "unshare-cgroup", 0, NULL, ""), ROW_IGNORED(BOOL, "unshare-cgroup-try", 0, NULL, ""),
	       ROW_IGNORED(BOOL, "die-with-parent", 0, NULL, "always so"),
	       ROW_IGNORED(BOOL, "new-session", 0, NULL, "always so"), ROW_IGNORED(BOOL, "as-pid-1", 0, NULL, ""));
#undef V

/* What the mount options come to. */
struct layout {
	const char *root; /* of the host; NULL: none of the options has DEST / */
	bool root_readonly;
	bool has_cwd; /* the caller's directory is in the last of the trees that are about its place */
};

static bool is_within(const char *path, const char *tree)
{
	size_t len = strlen(tree);

	return !strcmp(tree, "/") || (!strncmp(path, tree, len) && (!path[len] || path[len] == '/'));
}

static int add_bind(json_t *spec, const char *option, const char *source, const char *destination, const char *cwd,
		    struct layout *layout, struct error *err)
{
	char *real = realpath(source, NULL); /* lives until the end */
	bool readonly = !strncmp(option, "ro-", 3);
	size_t len = strlen(option);

	if (!real && errno == ENOENT && len > 4 && !strcmp(option + len - 4, "-try"))
		return 0;
	if (!real)
		return error_errno(err, errno, "cannot use --%s %s %s", option, source, destination);
	if (is_within(cwd, destination)) {
		AUTO(mem_free) char *there = xasprintf("%s%s", real, cwd + strlen(destination) * (destination[1] != 0));

		layout->has_cwd = !access(there, F_OK);
	}
	if (!strcmp(destination, "/")) {
		layout->root = real;
		layout->root_readonly = readonly;
		return 0;
	}
	return template_add_bind(spec, real, destination, readonly) ?
		       error_set(err, "--%s %s %s is not UTF-8", option, source, destination) :
		       0;
}

static int add_other(json_t *spec, const char *option, const char *destination, struct error *err)
{
	json_t *mounts = json_object_get(spec, "mounts"), *row;
	const char *type = !strcmp(option, "proc") ? "proc" : "tmpfs";

	row = json_pack("{s:s, s:s, s:s, s:[s]}", "destination", destination, "type", type, "source", type, "options",
			strcmp(option, "dev") ? "nosuid" : "mode=755");
	if (json_array_append_new(mounts, row))
		return error_set(err, "--%s %s is not UTF-8", option, destination);
	if (!strcmp(option, "dev")) {
		AUTO(mem_free) char *pts = xasprintf("%s/pts", destination);
		AUTO(mem_free) char *shm = xasprintf("%s/shm", destination);

		json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s, s, s]}", "destination", pts, "type",
							"devpts", "source", "devpts", "options", "newinstance",
							"ptmxmode=0666", "mode=0620"));
		json_array_append_new(mounts, json_pack("{s:s, s:s, s:s, s:[s]}", "destination", shm, "type", "tmpfs",
							"source", "shm", "options", "mode=1777"));
	}
	return 0;
}

static int add_mounts(json_t *spec, const struct strings *list, const char *cwd, struct layout *layout,
		      struct error *err)
{
	json_array_clear(json_object_get(spec, "mounts"));
	for (size_t i = 0; i < list->count; i++) {
		const char *option = list->v[i];
		bool bind = strstr(option, "bind") != NULL;
		const char *source = bind ? list->v[++i] : NULL, *destination = list->v[++i];

		if (destination[0] != '/')
			return error_set(err, "--%s: the place %s must be absolute", option, destination);
		if (bind ? add_bind(spec, option, source, destination, cwd, layout, err) :
			   add_other(spec, option, destination, err))
			return -1;
	}
	return 0;
}

/* The caller's environment after the options; entries without '=' are not for config.json. */
static struct strings make_environment(const struct strings *changes)
{
	struct strings env = { 0 };
	size_t begin = 0;

	for (size_t i = 0; i < changes->count; i++) {
		if (!strcmp(changes->v[i], "clearenv"))
			begin = i + 1;
	}
	for (size_t i = 0; environ[i]; i++) {
		if (strchr(environ[i], '=') && (!begin || !strncmp(environ[i], "PWD=", 4)))
			strings_add(&env, environ[i]);
	}
	for (size_t i = begin; i < changes->count; i++) {
		bool set = !strcmp(changes->v[i], "setenv");
		const char *name = changes->v[++i], *value = set ? changes->v[++i] : NULL;
		size_t len = strlen(name), kept = 0;

		for (size_t j = 0; j < env.count; j++) {
			if (strncmp(env.v[j], name, len) != 0 || env.v[j][len] != '=')
				env.v[kept++] = env.v[j];
		}
		env.count = kept;
		if (env.v)
			env.v[kept] = NULL;
		if (set) {
			AUTO(mem_free) char *entry = xasprintf("%s=%s", name, value);

			strings_add(&env, entry);
		}
	}
	return env;
}

/* Nobody but the state directory's owner can put anything there. */
static char *empty_root(const struct config *config, struct error *err)
{
	char *path = xasprintf("%s/" EMPTY_ROOT, config->root_dir);
	int ret = make_dirs(path, 0755);

	if (ret) {
		error_errno(err, -ret, "cannot make %s", path);
		free(path);
		return NULL;
	}
	return path;
}

static void set_network(json_t *spec, const struct bwrap_values *v)
{
	json_t *list = json_object_get(json_object_get(spec, "linux"), "namespaces");

	if (v->unshare_net || (v->unshare_all && !v->share_net))
		return;
	for (size_t i = json_array_size(list); i-- > 0;) {
		if (!strcmp(json_string_value(json_object_get(json_array_get(list, i), "type")), "network"))
			json_array_remove(list, i);
	}
}

static int fill_spec(struct config *config, json_t *spec, const struct bwrap_values *v, const char *cwd,
		     struct error *err)
{
	json_t *process = json_object_get(spec, "process"), *root = json_object_get(spec, "root");
	AUTO(mem_free) char *empty = NULL;
	struct layout layout = { 0 };

	if (add_mounts(spec, &v->mounts, cwd, &layout, err))
		return -1;
	if (!layout.root) {
		empty = empty_root(config, err);
		if (!empty)
			return -1;
		config->overlay2 = "root:memory"; /* where the places of the mounts are made */
	}
	json_object_set_new(root, "path", json_string(layout.root ? layout.root : empty));
	json_object_set_new(root, "readonly", json_boolean(layout.root_readonly));
	json_object_set_new(process, "cwd", json_string(v->chdir ? v->chdir : layout.has_cwd ? cwd : "/"));
	json_object_set_new(process, "capabilities", json_object());
	json_object_set_new(process, "noNewPrivileges", json_true());
	json_object_set_new(process, "user", json_pack("{s:I, s:I}", "uid", (json_int_t)v->uid, "gid", (json_int_t)v->gid));
	set_network(spec, v);
	return 0;
}

int cmd_bwrap(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	const struct bwrap_values *v = values;
	AUTO(mem_free) char *cwd = getcwd(NULL, 0);
	AUTO(mem_free) char *text = NULL;
	struct strings env = make_environment(&v->environment);
	char *no_environment[] = { NULL };
	struct template_args args = { .args = operands,
				      .env = env.v ? env.v : no_environment,
				      .cwd = "/",
				      .root = "/",
				      .hostname = v->hostname ? v->hostname : "bwrap",
				      .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) &&
						  isatty(STDERR_FILENO),
				      .all_capabilities = true,
				      .shared_pids = true };
	json_t *spec = template_json(&args);
	int ret;

	(void)count;
	if (v->uid < 0 || v->uid > UINT32_MAX || v->gid < 0 || v->gid > UINT32_MAX)
		ret = error_set(err, "--uid and --gid take ids from 0 on");
	else
		ret = spec ? fill_spec(config, spec, v, cwd ? cwd : "/", err) :
			     error_set(err, "an argument or environment variable is not UTF-8");
	if (!ret) {
		text = json_dumps(spec, JSON_INDENT(1));
		ret = text ? run_text(config, text, err) : error_set(err, "a path is not UTF-8");
	}
	json_decref(spec);
	strings_fini(&env);
	return ret;
}
