#include "runsc/sandbox/container.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>

#include "platform/base/log.h"
#include "runsc/config/version.h"
#include "runsc/sandbox/destroy.h"

#define STATE_MAX (1u << 20)
#define CONFIG_MAX (16u << 20)
#define LOCK_SECONDS 60
#define EXIT_FILE "exit-status"

static const char *const status_names[] = { "creating", "created", "running", "paused", "stopped" };

const char *container_status_name(enum container_status status)
{
	return status_names[status];
}

int container_check_id(const char *id, struct error *err)
{
	size_t len = strlen(id);
	bool good = len > 0 && len <= 200 && strcmp(id, ".") != 0 && strcmp(id, "..") != 0;

	for (size_t i = 0; i < len; i++)
		good &= isalnum((unsigned char)id[i]) || strchr("_+-.", id[i]);
	return good ? 0 :
		      error_set(err,
				"invalid container ID format: \"%.64s\" (use letters, digits, and _ + - .)",
				id);
}

void container_free(struct container *c)
{
	if (!c)
		return;
	free(c->id);
	free(c->sandbox);
	free(c->dir);
	free(c->version);
	free(c->bundle);
	free(c->rootfs);
	free(c->created);
	free(c->owner);
	cgroup_fini(&c->cgroup);
	strings_fini(&c->annotations);
	fd_close(c->dir_fd);
	free(c);
}

static struct container *container_new(const struct config *config, const char *id)
{
	struct container *c = xcalloc(1, sizeof(*c));

	c->id = xstrdup(id);
	c->dir = xasprintf("%s/%s", config->root_dir, id);
	c->dir_fd = -1;
	return c;
}

static json_t *process_json(struct process_id id)
{
	return json_pack("{s:i, s:I}", "pid", (int)id.pid, "start", (json_int_t)id.start);
}

static struct process_id process_of_json(const json_t *object)
{
	return (struct process_id){
		.pid = (pid_t)json_integer_value(json_object_get(object, "pid")),
		.start = (uint64_t)json_integer_value(json_object_get(object, "start")),
	};
}

static json_t *list_json(const struct strings *list)
{
	json_t *array = json_array();

	for (size_t i = 0; i < list->count; i++)
		json_array_append_new(array, json_string(list->v[i]));
	return array;
}

static void list_of_json(const json_t *array, struct strings *list)
{
	strings_fini(list);
	for (size_t i = 0; i < json_array_size(array); i++) {
		const char *text = json_string_value(json_array_get(array, i));

		if (text)
			strings_add(list, text);
	}
}

static void text_of_json(const json_t *object, const char *key, char **out)
{
	const char *text = json_string_value(json_object_get(object, key));

	free(*out);
	*out = xstrdup(text ? text : "");
}

int container_save(const struct container *c, struct error *err)
{
	AUTO(mem_free) char *text = NULL;
	json_t *state = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:s*}",
				  "ociVersion", c->version ? c->version : RUNSC_SPEC_VERSION, "id", c->id,
				  "status", status_names[c->status], "bundle", c->bundle ? c->bundle : "",
				  "rootfs", c->rootfs ? c->rootfs : "", "created",
				  c->created ? c->created : "", "owner", c->owner ? c->owner : "",
				  "creator", process_json(c->creator), "sentry",
				  process_json(c->sentry), "gofer", process_json(c->gofer), "cgroup",
				  cgroup_json(&c->cgroup), "annotations", list_json(&c->annotations), "sandbox", c->sandbox);
	int ret;

	text = state ? json_dumps(state, JSON_INDENT(1)) : NULL;
	json_decref(state);
	if (!text)
		return error_set(err, "cannot write the state of %s: it holds text that is not UTF-8", c->id);
	ret = write_atomic_at(c->dir_fd, "state.json", text, strlen(text), 0600);
	if (ret)
		return error_errno(err, -ret, "cannot write %s/state.json", c->dir);
	return 0;
}

/* 0, -ENOENT when there is no state yet, or -EINVAL. */
static int read_state(struct container *c)
{
	size_t size;
	AUTO(mem_free) char *text = read_file_at(c->dir_fd, "state.json", STATE_MAX, &size);
	const char *status;
	json_t *state;

	if (!text)
		return -ENOENT;
	state = json_loadb(text, size, 0, NULL);
	if (!state)
		return -EINVAL;
	status = json_string_value(json_object_get(state, "status"));
	c->status = STATUS_STOPPED;
	for (size_t i = 0; status && i < ARRAY_COUNT(status_names); i++) {
		if (!strcmp(status, status_names[i]))
			c->status = (enum container_status)i;
	}
	text_of_json(state, "ociVersion", &c->version);
	text_of_json(state, "bundle", &c->bundle);
	text_of_json(state, "rootfs", &c->rootfs);
	text_of_json(state, "created", &c->created);
	text_of_json(state, "owner", &c->owner);
	free(c->sandbox);
	c->sandbox = json_is_string(json_object_get(state, "sandbox")) ?
			     xstrdup(json_string_value(json_object_get(state, "sandbox"))) :
			     NULL;
	c->creator = process_of_json(json_object_get(state, "creator"));
	c->sentry = process_of_json(json_object_get(state, "sentry"));
	c->gofer = process_of_json(json_object_get(state, "gofer"));
	cgroup_fini(&c->cgroup);
	cgroup_of_json(json_object_get(state, "cgroup"), &c->cgroup);
	list_of_json(json_object_get(state, "annotations"), &c->annotations);
	json_decref(state);
	return 0;
}

static void on_alarm(int signo)
{
	(void)signo;
}

/* flock with a deadline; negative errno, -ETIMEDOUT. */
static int flock_deadline(int fd, int seconds)
{
	struct sigaction action = { .sa_handler = on_alarm }, old;
	struct itimerval timer = { .it_value = { .tv_sec = seconds } }, none = { 0 };
	int ret;

	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0;
	sigaction(SIGALRM, &action, &old);
	setitimer(ITIMER_REAL, &timer, NULL);
	ret = flock(fd, LOCK_EX) == 0 ? 0 : errno == EINTR ? -ETIMEDOUT : -errno;
	setitimer(ITIMER_REAL, &none, NULL);
	sigaction(SIGALRM, &old, NULL);
	return ret;
}

static int fail_unknown(const struct config *config, const char *id, struct error *err)
{
	return error_set(err, CONTAINER_UNKNOWN ": there is no \"%.200s\" in %s", id,
			 config->root_dir);
}

int container_lock(struct container *c, struct error *err)
{
	struct stat st;
	int ret = flock_deadline(c->dir_fd, LOCK_SECONDS);

	if (ret)
		return error_errno(err, -ret, "cannot lock %s: another runsc works on it", c->dir);
	c->locked = true;
	if (fstat(c->dir_fd, &st) < 0 || !st.st_nlink)
		return error_set(err, CONTAINER_UNKNOWN ": \"%s\" was deleted meanwhile", c->id);
	read_state(c);
	return 0;
}

void container_unlock(struct container *c)
{
	flock(c->dir_fd, LOCK_UN);
	c->locked = false;
}

static void describe_owner(struct container *c)
{
	struct timespec now;
	char stamp[64];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	c->created = xasprintf("%s.%09ldZ", stamp, now.tv_nsec);
	/* the name of root needs no look-up */
	if (!getuid()) {
		c->owner = xstrdup("root");
	} else {
		const struct passwd *user = getpwuid(getuid());

		c->owner = user ? xstrdup(user->pw_name) : xasprintf("#%u", getuid());
	}
}

static int make_dir(const struct config *config, struct container *c, struct error *err)
{
	int ret = make_dirs(config->root_dir, 0711);
	struct stat st;

	if (ret)
		return error_errno(err, -ret, "cannot make the state directory %s", config->root_dir);
	/* a default below /tmp may have been put there by somebody else */
	if (geteuid() && (lstat(config->root_dir, &st) < 0 || st.st_uid != geteuid()))
		return error_set(err, "the state directory %s belongs to somebody else: name another with --root",
				 config->root_dir);
	if (mkdir(c->dir, 0711) < 0) {
		if (errno == EEXIST)
			return error_set(err, "container with given ID already exists: %s", c->id);
		return error_errno(err, errno, "cannot make %s", c->dir);
	}
	c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir_fd < 0) {
		rmdir(c->dir);
		return error_errno(err, errno, "cannot open %s", c->dir);
	}
	return 0;
}

/* Removes what a create left that was killed together with its janitor. */
static void remove_unfinished(const struct config *config, const char *id)
{
	AUTO(container_free) struct container *c = NULL;
	struct error ignored;

	if (container_load(config, id, false, &c, &ignored) || c->status != STATUS_CREATING ||
	    process_alive(c->creator) || container_lock(c, &ignored))
		return;
	/* before the lock it may have been one that just began */
	if (c->status == STATUS_CREATING && !process_alive(c->creator) &&
	    container_destroy(c, true, &ignored))
		log_warn("%s", ignored.text);
}

int container_make(const struct config *config, const char *id, struct container **ret,
		   struct error *err)
{
	AUTO(container_free) struct container *c = NULL;

	if (container_check_id(id, err))
		return -1;
	remove_unfinished(config, id);
	c = container_new(config, id);
	if (make_dir(config, c, err) || container_lock(c, err))
		return -1;
	/* ours was removed as unfinished before it was opened or locked, and this is the next one's, which has a state */
	if (c->creator.pid)
		return error_set(err, "container with given ID already exists: %s", c->id);
	c->creator = process_id_of(getpid());
	describe_owner(c);
	if (container_save(c, err)) {
		rmdir(c->dir);
		return -1;
	}
	*ret = TAKE(c);
	return 0;
}

/* The one id that starts with prefix, or NULL with err filled. */
static char *complete_id(const struct config *config, const char *prefix, struct error *err)
{
	struct strings ids = { 0 };
	char *found = NULL;
	size_t matches = 0;

	if (!*prefix || container_list(config, &ids, err)) {
		fail_unknown(config, prefix, err);
		return NULL;
	}
	for (size_t i = 0; i < ids.count; i++) {
		if (strncmp(ids.v[i], prefix, strlen(prefix)) != 0)
			continue;
		free(found);
		found = xstrdup(ids.v[i]);
		matches++;
	}
	strings_fini(&ids);
	if (matches == 1)
		return found;
	free(found);
	if (matches)
		error_set(err, "the id \"%s\" is short for %zu containers: write more of it", prefix, matches);
	else
		fail_unknown(config, prefix, err);
	return NULL;
}

int container_load(const struct config *config, const char *id, bool abbreviated,
		   struct container **ret, struct error *err)
{
	AUTO(container_free) struct container *c = NULL;

	if (container_check_id(id, err))
		return -1;
	c = container_new(config, id);
	c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (c->dir_fd < 0 && errno == ENOENT && abbreviated) {
		AUTO(mem_free) char *full = complete_id(config, id, err);

		if (!full)
			return -1;
		container_free(c);
		c = container_new(config, full);
		c->dir_fd = open(c->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	if (c->dir_fd < 0)
		return errno == ENOENT || errno == ENOTDIR ?
			       fail_unknown(config, id, err) :
			       error_errno(err, errno, "cannot open the state of %s in %s", id,
					   config->root_dir);
	if (read_state(c) == -EINVAL)
		return error_set(err, "%s/state.json is damaged: delete the container with --force", c->dir);
	*ret = TAKE(c);
	return 0;
}

static int compare_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int container_list(const struct config *config, struct strings *ret_ids, struct error *err)
{
	DIR *dir = opendir(config->root_dir);
	struct error ignored;
	const struct dirent *entry;

	*ret_ids = (struct strings){ 0 };
	if (!dir)
		return errno == ENOENT ? 0 :
					 error_errno(err, errno, "cannot read the state directory %s",
						     config->root_dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != '.' && !container_check_id(entry->d_name, &ignored) &&
		    (entry->d_type == DT_DIR || entry->d_type == DT_UNKNOWN))
			strings_add(ret_ids, entry->d_name);
	}
	closedir(dir);
	if (ret_ids->count)
		qsort(ret_ids->v, ret_ids->count, sizeof(*ret_ids->v), compare_text);
	return 0;
}

int container_open_exit_file(const struct container *c, struct error *err)
{
	int fd = openat(c->dir_fd, EXIT_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd >= 0 ? fd : error_errno(err, errno, "cannot make %s/" EXIT_FILE, c->dir);
}

int container_note_exit(const struct container *c, int status, struct error *err)
{
	AUTO(fd_close) int fd = container_open_exit_file(c, err);
	int ret = fd < 0 ? -1 : write_all(fd, &status, sizeof(status));

	return fd >= 0 && ret ? error_errno(err, -ret, "cannot write %s/" EXIT_FILE, c->dir) : ret;
}

bool container_exit_status(const struct container *c, int *ret_status)
{
	size_t size;
	AUTO(mem_free) char *text = read_file_at(c->dir_fd, EXIT_FILE, 64, &size);

	if (!text || size != sizeof(*ret_status))
		return false;
	memcpy(ret_status, text, sizeof(*ret_status));
	return true;
}

enum container_status container_status_now(struct container *c)
{
	int ended;

	if (c->status == STATUS_STOPPED)
		return STATUS_STOPPED;
	if (c->status == STATUS_CREATING)
		return process_alive(c->creator) ? STATUS_CREATING : STATUS_STOPPED;
	return !process_alive(c->sentry) || !process_alive(c->gofer) || container_exit_status(c, &ended) ?
		       STATUS_STOPPED :
		       c->status;
}

int container_need(struct container *c, const char *verb, unsigned int mask, struct error *err)
{
	enum container_status status = container_status_now(c);

	if (mask & STATUS_BIT(status))
		return 0;
	if (!strcmp(verb, "start"))
		return status == STATUS_STOPPED ?
			       error_set(err, "cannot start a container that has stopped: %s", c->id) :
		       status == STATUS_RUNNING || status == STATUS_PAUSED ?
			       error_set(err, "cannot start an already running container: %s", c->id) :
			       error_set(err, "cannot start a container in the %s state: %s",
					 status_names[status], c->id);
	if (!strcmp(verb, "exec"))
		return error_set(err, "cannot exec in a %s container: %s%s", status_names[status], c->id,
				 status == STATUS_PAUSED ? " (use --ignore-paused to override)" : "");
	return error_set(err, "container not running: %s is %s, cannot %s it", c->id, status_names[status],
			 verb);
}

static json_t *annotations_json(const struct container *c)
{
	json_t *object = json_object();

	for (size_t i = 0; i + 1 < c->annotations.count; i += 2)
		json_object_set_new(object, c->annotations.v[i], json_string(c->annotations.v[i + 1]));
	return object;
}

static int visible_pid(const struct container *c, enum container_status status)
{
	return status == STATUS_STOPPED ? 0 : (int)c->gofer.pid;
}

json_t *container_list_json(const struct container *c, enum container_status status)
{
	return json_pack("{s:s, s:s, s:i, s:s, s:s, s:s, s:s, s:s}", "ociVersion",
			 c->version ? c->version : RUNSC_SPEC_VERSION, "id", c->id, "pid",
			 visible_pid(c, status), "status", status_names[status], "bundle",
			 c->bundle ? c->bundle : "", "rootfs", c->rootfs ? c->rootfs : "", "created",
			 c->created ? c->created : "", "owner", c->owner ? c->owner : "");
}

json_t *container_state_json(const struct container *c, enum container_status status)
{
	json_t *state = container_list_json(c, status);

	if (state && c->annotations.count)
		json_object_set_new(state, "annotations", annotations_json(c));
	return state;
}

int container_spec(const struct container *c, struct oci_spec *spec, struct error *err)
{
	size_t size;
	AUTO(mem_free) char *text = read_file_at(c->dir_fd, "config.json", CONFIG_MAX, &size);

	if (!text)
		return error_errno(err, errno, "cannot read %s/config.json", c->dir);
	return oci_spec_parse("config.json", text, size, spec, err);
}
