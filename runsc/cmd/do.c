/* do: a program over the host's files, without a bundle. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "platform/base/log.h"
#include "runsc/cmd/cmd.h"
#include "runsc/oci/template.h"
#include "runsc/sandbox/destroy.h"
#include "runsc/sandbox/sandbox.h"

extern char **environ;

#define ID_PREFIX "runsc-do-"

struct do_values {
	const char *root, *cwd;
	struct strings volume, uid_map, gid_map;
	bool quiet;
};
#define V struct do_values
DEFINE_OPTIONS(do, V, ROW(V, STRING, "root", 0, root, "DIR", "directory to show as / (default: the host's)"),
	       ROW(V, STRING, "cwd", 0, cwd, "DIR", "working directory (default: the caller's)"),
	       ROW(V, LIST, "volume", 'v', volume, "SRC[:DST]", "a directory in which writes reach the host"),
	       ROW(V, BOOL, "quiet", 'q', quiet, NULL, "print nothing but errors"),
	       ROW(V, LIST, "uid-map", 0, uid_map, "\"C H N\"", "N user ids from C on are the host's from H on"),
	       ROW(V, LIST, "gid-map", 0, gid_map, "\"C H N\"", "the same for group ids"),
	       ROW_IGNORED(STRING, "ip", 0, "ADDRESS", "gVisor: address of the sandbox"),
	       ROW_IGNORED(BOOL, "force-overlay", 0, NULL, "gVisor: always on"),
	       ROW_REFUSED(STRING, "erofs", 0, "FILE", "file system images are not supported"));
#undef V

static int add_volumes(json_t *spec, const struct strings *volumes, struct error *err)
{
	for (size_t i = 0; i < volumes->count; i++) {
		AUTO(mem_free) char *source = xstrdup(volumes->v[i]);
		AUTO(mem_free) char *real = NULL;
		char *colon = strchr(source, ':');
		const char *destination;

		if (colon)
			*colon++ = 0;
		real = realpath(source, NULL);
		if (!real)
			return error_errno(err, errno, "cannot use --volume %s", volumes->v[i]);
		destination = colon ? colon : real;
		if (destination[0] != '/')
			return error_set(err, "--volume %s: the place in the sandbox must be absolute",
					 volumes->v[i]);
		if (template_add_bind(spec, real, destination, false))
			return error_set(err, "--volume %s is not UTF-8", volumes->v[i]);
	}
	return 0;
}

/* "CONTAINER HOST SIZE" */
static int add_map(json_t *spec, const char *member, const char *option, const struct strings *list, struct error *err)
{
	json_t *object = json_object_get(spec, "linux"), *rows = json_array();

	for (size_t i = 0; i < list->count; i++) {
		unsigned int id, host, size;
		char rest;

		if (sscanf(list->v[i], "%u %u %u%c", &id, &host, &size, &rest) != 3) {
			json_decref(rows);
			return error_set(err, "--%s %s is not of the form \"CONTAINER HOST SIZE\"", option, list->v[i]);
		}
		json_array_append_new(rows, json_pack("{s:I, s:I, s:I}", "containerID", (json_int_t)id, "hostID",
						      (json_int_t)host, "size", (json_int_t)size));
	}
	json_object_set_new(object, member, rows);
	return 0;
}

static int add_maps(json_t *spec, const struct do_values *v, struct error *err)
{
	if (!v->uid_map.count && !v->gid_map.count)
		return 0;
	if (!v->uid_map.count || !v->gid_map.count)
		return error_set(err, "--uid-map and --gid-map need each other");
	json_array_append_new(json_object_get(json_object_get(spec, "linux"), "namespaces"),
			      json_pack("{s:s}", "type", "user"));
	return add_map(spec, "uidMappings", "uid-map", &v->uid_map, err) ||
			       add_map(spec, "gidMappings", "gid-map", &v->gid_map, err) ?
		       -1 :
		       0;
}

static char *make_config(const struct do_values *v, char **operands, struct error *err)
{
	AUTO(mem_free) char *root = realpath(v->root ? v->root : "/", NULL);
	AUTO(mem_free) char *cwd = getcwd(NULL, 0);
	struct template_args args = { .args = operands,
				      .env = environ,
				      .cwd = v->cwd ? v->cwd : v->root || !cwd ? "/" : cwd,
				      .root = root,
				      .hostname = "runsc",
				      .terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) &&
						  isatty(STDERR_FILENO),
				      .all_capabilities = true,
				      .shared_pids = true };
	char host[256] = "";
	json_t *spec;
	char *text = NULL;

	if (!root) {
		error_errno(err, errno, "cannot use --root %s", v->root);
		return NULL;
	}
	if (args.cwd[0] != '/') {
		error_set(err, "--cwd %s must be absolute", args.cwd);
		return NULL;
	}
	if (!gethostname(host, sizeof(host) - 1) && *host)
		args.hostname = host;
	spec = template_json(&args);
	if (!spec)
		error_set(err, "an argument or environment variable is not UTF-8");
	else if (!add_volumes(spec, &v->volume, err) && !add_maps(spec, v, err))
		text = json_dumps(spec, JSON_INDENT(1));
	json_decref(spec);
	return text;
}

/* Environment entries without '=' are legal for execve(2) but not in config.json. */
static void clean_environment(void)
{
	size_t kept = 0;

	for (size_t i = 0; environ[i]; i++) {
		if (strchr(environ[i], '='))
			environ[kept++] = environ[i];
	}
	environ[kept] = NULL;
}

/* A `do` that was killed has ended its sandbox but not its state, and nobody knows its id. */
static void sweep(const struct config *config)
{
	struct strings ids;
	struct error ignored;

	if (container_list(config, &ids, &ignored))
		return;
	for (size_t i = 0; i < ids.count; i++) {
		AUTO(container_free) struct container *c = NULL;

		if (!strncmp(ids.v[i], ID_PREFIX, strlen(ID_PREFIX)) &&
		    !container_load(config, ids.v[i], false, &c, &ignored) && c->creator.pid &&
		    !process_alive(c->creator) && container_destroy(c, true, &ignored))
			log_warn("%s", ignored.text);
	}
	strings_fini(&ids);
}

int run_text(struct config *config, const char *text, struct error *err)
{
	AUTO(mem_free) char *id = NULL;
	struct create_args args = { .bundle = "/", .foreground = true, .config_text = text };
	uint64_t random = 0;

	if (getrandom(&random, sizeof(random), 0) < 0)
		random = (uint64_t)now_ms();
	sweep(config);
	args.id = id = xasprintf(ID_PREFIX "%d-%08x", (int)getpid(), (unsigned int)random);
	return run_foreground(config, &args, err);
}

int cmd_do(struct config *config, const void *values, int count, char **operands,
	   struct error *err)
{
	AUTO(mem_free) char *text = NULL;

	(void)count;
	clean_environment();
	text = make_config(values, operands, err);
	if (!text)
		return -1;
	/* The files are the host's own: nothing is written there unless that is asked for. */
	if (!config->overlay2)
		config->overlay2 = "root:memory";
	return run_text(config, text, err);
}
