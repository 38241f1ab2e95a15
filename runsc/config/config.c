#include "runsc/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "platform/base/log.h"
#include "platform/base/release.h"

#define METRICS "metrics are not part of this release: use `runsc events --stats`"

const struct option_row config_rows[] = {
#define FLAG(kind, name, alias, field, type, default_value, value, help)                           \
	{ OPTION_##kind, name, alias, offsetof(struct config, field), value, help },
#define ACCEPTED(kind, name, value, help)                                                          \
	{ OPTION_##kind, name, 0, OPTION_IGNORED, value, help },
#define UNAVAILABLE(kind, name, value, why) { OPTION_##kind, name, 0, OPTION_REFUSED, value, why },
#include "runsc/config/global.def"
#undef FLAG
#undef ACCEPTED
#undef UNAVAILABLE
};
const size_t config_row_count = ARRAY_COUNT(config_rows);

void config_init(struct config *config)
{
	log_init(-1, LOG_TEXT, LOG_ERROR, "runsc");
	*config = (struct config){
#define FLAG(kind, name, alias, field, type, default_value, value, help) .field = default_value,
#define ACCEPTED(kind, name, value, help)
#define UNAVAILABLE(kind, name, value, why)
#include "runsc/config/global.def"
#undef FLAG
#undef ACCEPTED
#undef UNAVAILABLE
	};
}

static char *default_root(void)
{
	const char *runtime_dir = getenv("XDG_RUNTIME_DIR");

	if (runtime_dir && *runtime_dir == '/')
		return xasprintf("%s/runsc", runtime_dir);
	if (geteuid())
		return xasprintf("/tmp/runsc-%u", geteuid());
	return xstrdup("/run/runsc");
}

static bool is_json(const char *format)
{
	return strcmp(format, "text") != 0;
}

static int open_log(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
}

/* Options that are other words for one of ours. */
static int apply_synonyms(struct config *config, struct error *err)
{
	static const char *const log_kinds[] = { "file:", "journald:", "syslog:" };

	if (config->debug_log && !*config->debug_log)
		config->debug_log = NULL;
	if (config->panic_log && !*config->panic_log)
		config->panic_log = NULL;
	if (config->cgroup_manager) {
		config->systemd_cgroup |= !strcmp(config->cgroup_manager, "systemd");
		config->ignore_cgroups |= !strcmp(config->cgroup_manager, "disabled");
	}
	if (config->overlay && config->overlay2)
		return error_set(err, "--overlay and --overlay2 exclude each other");
	if (config->overlay)
		config->overlay2 = "all:memory";
	if (config->fsgofer_host_uds && !strcmp(config->host_uds, "none"))
		config->host_uds = "open";
	/* crun's forms of --log */
	for (size_t i = 0; config->log && i < ARRAY_COUNT(log_kinds); i++) {
		if (strncmp(config->log, log_kinds[i], strlen(log_kinds[i])) != 0)
			continue;
		if (i)
			return error_set(err, "--log %s: only files can be logged to", config->log);
		config->log += strlen(log_kinds[i]);
	}
	for (int i = 0; i < 2; i++) {
		int64_t fd = i ? config->debug_log_fd : config->log_fd;

		if (fd >= 0 && (fd > INT_MAX || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0))
			return error_set(err, "--%s %lld is no open descriptor", i ? "debug-log-fd" : "log-fd",
					 (long long)fd);
	}
	return 0;
}

/* Whether the author of a container may set it: nothing by which the sandbox gains something on the host. */
static bool is_open_to_authors(const char *name, const char *value)
{
	static const char *const names[] = { "debug", "debug-command", "debug-to-user-log", "strace", "strace-syscalls",
					     "strace-log-size", "mount-cgroup-v2", "qdisc", "qdisc-tbf-rate",
					     "qdisc-tbf-burst", "reproduce-nftables", "net-disconnect-ok",
					     "pause-external-networking", "allow-connected-on-save" };

	for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
		if (!strcmp(names[i], name))
			return true;
	}
	if (!strcmp(name, "oci-seccomp"))
		return !strcmp(value, "true");
	return !strcmp(name, "overlay2") && (!strncmp(value, "root:memory", 11) || !strncmp(value, "all:memory", 10) ||
					     !strncmp(value, "root:self", 9) || !strncmp(value, "all:self", 8));
}

int config_override(struct config *config, const char *name, const char *value, struct error *err)
{
	struct overlay_choice overlay;

	if (!config->allow_flag_override && !is_open_to_authors(name, value))
		return error_set(err, "annotation " ANNOTATION_FLAG "%.64s=%.64s: only with --allow-flag-override", name,
				 value);
	if (options_set(config_rows, config_row_count, name, value, config, err) || config_overlay(config, &overlay, err))
		return error_prefix(err, "annotation " ANNOTATION_FLAG "%.64s", name);
	return 0;
}

int config_finish(struct config *config, const char *command, const char *id, struct error *err)
{
	struct overlay_choice overlay;
	bool debug_log;
	int fd = -1;

	config->command = command;
	if (apply_synonyms(config, err))
		return -1;
	if (config->root && !*config->root)
		config->root = NULL;
	config->root_dir = config->root ? realpath(config->root, NULL) : default_root();
	if (!config->root_dir) {
		AUTO(mem_free) char *cwd = config->root[0] == '/' ? xstrdup("") : getcwd(NULL, 0);

		if (!cwd)
			return error_errno(err, errno, "cannot find the directory that --root %s is in",
					   config->root);
		config->root_dir = xasprintf("%s%s%s", cwd, *cwd ? "/" : "", config->root);
	}
	if (config_overlay(config, &overlay, err))
		return -1;
	if (geteuid())
		config->rootless = true;
	if (!config_has_debug_log(config, command) && !config->debug && !config->also_stderr) {
		/* config_report writes the error itself */
		if (config->log)
			log_init(open_log(config->log), is_json(config->log_format) ? LOG_JSON : LOG_TEXT, LOG_WARN,
				 "runsc");
		config->log_is_plain = true;
		return 0;
	}
	debug_log = config_has_debug_log(config, command);
	if (debug_log)
		fd = config_open_debug_log(config, command, id);
	else if (config->also_stderr || !config->log)
		fd = STDERR_FILENO;
	else
		fd = open_log(config->log);
	log_init(fd, is_json(debug_log ? config->debug_log_format : config->log_format) ? LOG_JSON : LOG_TEXT,
		 config->debug || debug_log ? LOG_DEBUG : LOG_WARN, "runsc");
	log_info("release %s, command %s %s, state in %s, platform %s, network %s, overlay %s", RELEASE, command,
		 id ? id : "", config->root_dir, config->platform, config->network,
		 config->overlay2 ? config->overlay2 : "by default");
	return 0;
}

/* Appends text to the growing string at *out. */
static void append(char **out, const char *text, size_t len)
{
	char *longer = xasprintf("%s%.*s", *out ? *out : "", (int)len, text);

	free(*out);
	*out = longer;
}

static char *expand_log_path(const char *pattern, const char *command, const char *id)
{
	char stamp[64];
	struct timespec now;
	struct tm tm;
	char *out = xstrdup("");
	size_t len;

	clock_gettime(CLOCK_REALTIME, &now);
	localtime_r(&now.tv_sec, &tm);
	len = strftime(stamp, sizeof(stamp), "%Y%m%d-%H%M%S", &tm);
	snprintf(stamp + len, sizeof(stamp) - len, ".%06ld", now.tv_nsec / 1000);
	for (const char *p = pattern; *p;) {
		const char *with = NULL;
		size_t skip = 1;

		if (!strncmp(p, "%ID%", 4))
			with = id ? id : "-", skip = 4;
		else if (!strncmp(p, "%CID%", 5))
			with = id ? id : "-", skip = 5;
		else if (!strncmp(p, "%COMMAND%", 9))
			with = command, skip = 9;
		else if (!strncmp(p, "%TIMESTAMP%", 11))
			with = stamp, skip = 11;
		append(&out, with ? with : p, with ? strlen(with) : 1);
		p += skip;
	}
	return out;
}

bool config_has_debug_log(const struct config *config, const char *command)
{
	const char *list = config->debug_command;
	size_t len = strlen(command);
	bool negated = list && *list == '!';

	if (!config->debug_log && config->debug_log_fd < 0)
		return false;
	if (!list || !*list)
		return true;
	for (const char *p = list + negated; p; p = strchr(p, ',')) {
		p += *p == ',';
		if (!strncmp(p, command, len) && (!p[len] || p[len] == ','))
			return !negated;
	}
	return negated;
}

static int open_pattern(const char *pattern, const char *command, const char *id)
{
	size_t len = strlen(pattern);
	AUTO(mem_free) char *whole = len && pattern[len - 1] == '/' ?
					     xasprintf("%srunsc.log.%%TIMESTAMP%%.%%COMMAND%%.txt", pattern) :
					     xstrdup(pattern);
	AUTO(mem_free) char *path = expand_log_path(whole, command, id);
	int fd = open_log(path);

	if (fd < 0 && errno == ENOENT) {
		AUTO(mem_free) char *dir = xstrdup(path);
		char *slash = strrchr(dir, '/');

		if (slash && slash != dir) {
			*slash = 0;
			if (!make_dirs(dir, 0755))
				fd = open_log(path);
		}
	}
	return fd;
}

int config_open_debug_log(const struct config *config, const char *command, const char *id)
{
	if (!config_has_debug_log(config, command))
		return -1;
	if (config->debug_log_fd >= 0)
		return fcntl((int)config->debug_log_fd, F_DUPFD_CLOEXEC, 3);
	return open_pattern(config->debug_log, command, id);
}

int config_open_panic_log(const struct config *config, const char *command, const char *id)
{
	return config->panic_log ? open_pattern(config->panic_log, command, id) : -1;
}

/* text with " and \ escaped, as Go programs log it. */
static char *quote(const char *text)
{
	char *out = xcalloc(2 * strlen(text) + 1, 1), *p = out;

	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			*p++ = '\\';
		*p++ = *text;
	}
	return out;
}

static char *report_line(const struct config *config, const struct error *err)
{
	char stamp[64], zoned[80];
	AUTO(mem_free) char *text = NULL;
	struct timespec now;
	json_t *line;
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(zoned, sizeof(zoned), "%s.%09ldZ", stamp, now.tv_nsec);
	if (!is_json(config->log_format)) {
		text = quote(err->text);
		return xasprintf("time=\"%s\" level=error msg=\"%s\"\n", zoned, text);
	}
	line = json_pack("{s:s, s:o, s:s}", "level", "error", "msg",
			 json_stringn_nocheck(err->text, strlen(err->text)), "time", zoned);
	text = line ? json_dumps(line, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(line);
	return text ? xasprintf("%s\n", text) : NULL;
}

void config_report(const struct config *config, const struct error *err)
{
	AUTO(fd_close) int fd = config->log ? open_log(config->log) :
				config->log_fd >= 0 ? fcntl((int)config->log_fd, F_DUPFD_CLOEXEC, 3) : -1;
	AUTO(mem_free) char *line = NULL;

	fprintf(stderr, "runsc: %s\n", err->text);
	if (fd >= 0) {
		line = report_line(config, err);
		if (line && write_all(fd, line, strlen(line)) < 0)
			fprintf(stderr, "runsc: cannot write to %s\n", config->log ? config->log : "--log-fd");
	}
	if (!config->log_is_plain)
		log_error("%s", err->text);
}

/* Steps over word if the text at *p begins with it. */
static bool skip_word(const char **p, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(*p, word, len) != 0)
		return false;
	*p += len;
	return true;
}

/* A number of bytes with an optional unit; steps over it. */
static bool parse_size(const char **p, uint64_t *ret)
{
	static const char units[] = "kmg";
	char *end;
	const char *unit;
	uint64_t size;
	unsigned int shift = 0;

	if (**p < '0' || **p > '9')
		return false;
	errno = 0;
	size = strtoull(*p, &end, 10);
	unit = *end ? strchr(units, *end | 0x20) : NULL;
	if (unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		end++;
	}
	if (errno || !size || size > (uint64_t)INT64_MAX >> shift)
		return false;
	*p = end;
	*ret = size << shift;
	return true;
}

int config_overlay(const struct config *config, struct overlay_choice *ret, struct error *err)
{
	const char *text = config->overlay2 ? config->overlay2 : "none", *rest = text;
	struct overlay_choice choice = { 0 };

	if (!strcmp(text, "none")) {
		*ret = choice;
		return 0;
	}
	choice.all = skip_word(&rest, "all:");
	choice.root = choice.all || skip_word(&rest, "root:");
	if (skip_word(&rest, "dir=/"))
		rest += strcspn(rest, ",");
	else if (!skip_word(&rest, "memory"))
		choice.root &= choice.self = skip_word(&rest, "self");
	if (!choice.root || (skip_word(&rest, ",size=") && !parse_size(&rest, &choice.size)) || *rest)
		return error_set(err, "--overlay2=%s is not of the form none or {root|all}:{memory|self|dir=/DIR}"
				      "[,size=NUMBER[k|m|g]]", text);
	*ret = choice;
	return 0;
}
