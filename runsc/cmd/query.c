/* state, list, ps, usage: what is there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

#include "runsc/cmd/cmd.h"
#include "runsc/sandbox/control.h"

NO_OPTIONS(state);

struct list_values {
	const char *format;
	bool quiet, sandbox;
};
#define V struct list_values
DEFINE_OPTIONS(list, V, ROW(V, ENUM, "format", 'f', format, "table|json", "how to print"),
	       ROW(V, BOOL, "quiet", 'q', quiet, NULL, "only ids"),
	       ROW(V, BOOL, "sandbox", 0, sandbox, NULL, "the same: every container has its sandbox"));
#undef V

struct ps_values {
	const char *format;
};
#define V struct ps_values
DEFINE_OPTIONS(ps, V, ROW(V, ENUM, "format", 'f', format, "table|json", "how to print; json: host process ids"));
#undef V

struct usage_values {
	bool full;
};
#define V struct usage_values
DEFINE_OPTIONS(usage, V, ROW(V, BOOL, "full", 0, full, NULL, "by kinds of memory"),
	       ROW_IGNORED(BOOL, "fd", 0, NULL, "gVisor: another way to count"));
#undef V

#define PS_MAX (64u << 20)

int cmd_state(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	AUTO(container_free) struct container *c = NULL;

	(void)values;
	(void)count;
	if (container_load(config, operands[0], true, &c, err))
		return -1;
	return print_json(container_state_json(c, container_status_now(c)),
			  JSON_INDENT(2), err);
}

static bool is_json(const char *format)
{
	return format && !strcmp(format, "json");
}

static void add_number(struct strings *cells, long long number)
{
	char text[32];

	snprintf(text, sizeof(text), "%lld", number);
	strings_add(cells, text);
}

static void add_row(struct strings *cells, const struct container *c, enum container_status status)
{
	strings_add(cells, c->id);
	add_number(cells, status == STATUS_STOPPED ? 0 : (long long)c->gofer.pid);
	strings_add(cells, container_status_name(status));
	strings_add(cells, c->bundle ? c->bundle : "");
	strings_add(cells, c->created ? c->created : "");
	strings_add(cells, c->owner ? c->owner : "");
}

#define LIST_COLUMNS 6

int cmd_list(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	static const char *const heads[LIST_COLUMNS] = { "ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER" };
	const struct list_values *v = values;
	json_t *array = is_json(v->format) && !v->quiet ? json_array() : NULL;
	struct strings ids, cells = { 0 };
	struct error ignored;

	(void)count;
	(void)operands;
	if (container_list(config, &ids, err))
		return -1;
	for (size_t i = 0; i < LIST_COLUMNS; i++)
		strings_add(&cells, heads[i]);
	for (size_t i = 0; i < ids.count; i++) {
		AUTO(container_free) struct container *c = NULL;

		/* one that vanished meanwhile, or whose state is damaged, does not hide the others */
		if (container_load(config, ids.v[i], false, &c, &ignored))
			continue;
		if (v->quiet)
			puts(c->id);
		else if (array)
			json_array_append_new(array, container_list_json(c, container_status_now(c)));
		else
			add_row(&cells, c, container_status_now(c));
	}
	if (!array && !v->quiet)
		print_table(&cells, LIST_COLUMNS, 12, 3);
	strings_fini(&cells);
	strings_fini(&ids);
	if (!array)
		return 0;
	if (!json_array_size(array)) {
		json_decref(array);
		array = json_null();
	}
	return print_json(array, JSON_COMPACT | JSON_ENCODE_ANY, err);
}

/* Last number of the NSpid line of /proc/PID/status: the id in the innermost pid namespace; 0: none. */
static int innermost_pid(const char *pid)
{
	char path[300];
	AUTO(mem_free) char *text = NULL;
	const char *line;
	int last = 0;

	snprintf(path, sizeof(path), "/proc/%s/status", pid);
	text = read_file_at(AT_FDCWD, path, 65536, NULL);
	line = text ? strstr(text, "\nNSpid:") : NULL;
	for (const char *p = line ? line + 7 : "\n"; *p && *p != '\n'; p++) {
		if (p[0] >= '0' && p[0] <= '9' && (p[-1] == '\t' || p[-1] == ' '))
			last = atoi(p);
	}
	return last;
}

/* Whether a process but the first has this stub; one that has several threads has as many, and the first counts. */
static bool has_host_pid(const Urpc__ProcessList *list, int pid)
{
	for (size_t i = 0; i < list->n_process; i++) {
		const Urpc__ProcessInfo *p = list->process[i];

		if (!p->init && p->n_host_pids && p->host_pids[0] == pid)
			return true;
	}
	return false;
}

/*
 * The host processes that are the container's: the one whose pid engines know for its first process, stubs for the others.
 * The sentry knows these by their ids in its own pid namespace, the caller wants those of this one; /proc has both.
 */
static json_t *host_pids(const struct container *c, const Urpc__ProcessList *list)
{
	char sentry_ns[64] = "", path[300];
	json_t *array = json_array();
	const struct dirent *entry;
	DIR *proc = opendir("/proc");

	json_array_append_new(array, json_integer(c->gofer.pid));
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)c->sentry.pid);
	if (readlink(path, sentry_ns, sizeof(sentry_ns) - 1) < 0)
		sentry_ns[0] = 0;
	while (proc && sentry_ns[0] && (entry = readdir(proc))) {
		char ns[64] = "";
		int64_t pid;

		if (!parse_int64(entry->d_name, 10, &pid))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/ns/pid", entry->d_name);
		if (readlink(path, ns, sizeof(ns) - 1) > 0 && !strcmp(ns, sentry_ns) &&
		    has_host_pid(list, innermost_pid(entry->d_name)))
			json_array_append_new(array, json_integer(pid));
	}
	if (proc)
		closedir(proc);
	return array;
}

#define PS_COLUMNS 8

/* As `ps -ef` shows them, with the ids that they have inside. */
static void print_processes(const Urpc__ProcessList *list)
{
	static const char *const heads[PS_COLUMNS] = { "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD" };
	struct strings cells = { 0 };
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	for (size_t i = 0; i < PS_COLUMNS; i++)
		strings_add(&cells, heads[i]);
	for (size_t i = 0; i < list->n_process; i++) {
		const Urpc__ProcessInfo *p = list->process[i];
		time_t started = (time_t)(p->start_time_ns / 1000000000u);
		uint64_t cpu_s = p->cpu_time_ns / 1000000000u;
		char stime[16], cpu[32];
		AUTO(mem_free) char *command = xasprintf("%.*s", (int)p->command.len,
							 (const char *)p->command.data);
		struct tm tm;

		localtime_r(&started, &tm);
		strftime(stime, sizeof(stime), now.tv_sec - started < 86400 ? "%H:%M" : "%b%d", &tm);
		snprintf(cpu, sizeof(cpu), "%02llu:%02llu:%02llu", (unsigned long long)(cpu_s / 3600),
			 (unsigned long long)(cpu_s / 60 % 60), (unsigned long long)(cpu_s % 60));
		add_number(&cells, p->uid);
		add_number(&cells, p->pid);
		add_number(&cells, p->ppid);
		add_number(&cells, now.tv_sec > started ? (long long)(cpu_s * 100) / (now.tv_sec - started) : 0);
		strings_add(&cells, stime);
		strings_add(&cells, *p->tty ? p->tty : "?");
		strings_add(&cells, cpu);
		strings_add(&cells, command);
	}
	print_table(&cells, PS_COLUMNS, 0, 2);
	strings_fini(&cells);
}

/* Number of the word PID in ps's head line, or -1. */
static int pid_column(const char *head)
{
	int column = 0;

	for (const char *p = head + strspn(head, " "); *p && *p != '\n'; column++) {
		size_t len = strcspn(p, " \n");

		if (len == 3 && !memcmp(p, "PID", 3))
			return column;
		p += len;
		p += strspn(p, " ");
	}
	return -1;
}

static bool line_has_pid(const char *line, int column, const json_t *pids)
{
	char *end;
	long pid;

	line += strspn(line, " ");
	for (; column; column--) {
		line += strcspn(line, " \n");
		line += strspn(line, " ");
	}
	pid = strtol(line, &end, 10);
	for (size_t i = 0; end != line && i < json_array_size(pids); i++) {
		if (json_integer_value(json_array_get(pids, i)) == pid)
			return true;
	}
	return false;
}

/* "1,2,3" */
static char *pid_list(const json_t *pids)
{
	char *list = xstrdup("");

	for (size_t i = 0; i < json_array_size(pids); i++) {
		char *longer = xasprintf("%s%s%lld", list, i ? "," : "",
					 (long long)json_integer_value(json_array_get(pids, i)));

		free(list);
		list = longer;
	}
	return list;
}

/* The host's ps(1) with the caller's options; of its lines those of the container's processes, as runc does. */
static int print_host_ps(const json_t *pids, char **options, int count, struct error *err)
{
	AUTO(mem_free) char *text = NULL;
	AUTO(fd_close) int out = -1;
	AUTO(mem_free) char *list = pid_list(pids);
	char **argv = xcalloc((size_t)count + 4, sizeof(*argv));
	int pair[2], status, column = -1;
	bool head = true;
	pid_t pid;

	argv[0] = (char[]){ "ps" };
	memcpy(argv + 1, options, (size_t)count * sizeof(*argv));
	/* whatever else the options choose: processes of other users are among ours */
	argv[count + 1] = (char[]){ "-p" };
	argv[count + 2] = list;
	if (make_pipe(pair)) {
		free(argv);
		return error_errno(err, errno, "cannot make a pipe");
	}
	pid = fork();
	if (!pid) {
		dup2(pair[1], STDOUT_FILENO);
		execvp("ps", argv);
		_exit(EXIT_NOT_FOUND);
	}
	free(argv);
	close(pair[1]);
	out = pair[0];
	if (pid < 0)
		return error_errno(err, errno, "cannot fork");
	text = read_fd(out, PS_MAX, NULL);
	status = wait_child(pid);
	if (!text || status)
		return error_set(err, "ps with these options failed: exit status %d",
				 status > 0 ? exit_code_of(status) : 1);
	for (char *line = text, *next; *line; line = next) {
		next = strchrnul(line, '\n');
		next += *next == '\n';
		if (head)
			column = pid_column(line);
		if (column < 0)
			return error_set(err, "couldn't find PID field in ps output");
		if (head || line_has_pid(line, column, pids))
			fwrite(line, 1, (size_t)(next - line), stdout);
		head = false;
	}
	return 0;
}

static int print_list(const struct container *c, const char *format, const Urpc__ProcessList *list, int count,
		      char **options, struct error *err)
{
	json_t *pids;
	int ret;

	if (!is_json(format) && !count) {
		print_processes(list);
		return 0;
	}
	pids = host_pids(c, list);
	if (is_json(format))
		return print_json(pids, JSON_COMPACT, err);
	ret = print_host_ps(pids, options, count, err);
	json_decref(pids);
	return ret;
}

int cmd_ps(struct config *config, const void *values, int count, char **operands,
	   struct error *err)
{
	struct ps_values v = *(const struct ps_values *)values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	char **options = operands + 1;
	Urpc__ProcessList *list = NULL;
	bool help;
	Urpc__ContainerId id;
	struct error ignored;
	int ret;

	count--;
	/* our own options come before the id, or after it when there are no others */
	if (count && !options_parse(ps_rows, ARRAY_COUNT(ps_rows), count, options, false, &v, &help, &ignored))
		count = 0;
	urpc__container_id__init(&id);
	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "list the processes of",
			   STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) |
				   STATUS_BIT(STATUS_PAUSED), err) ||
	    control_connect(c, &client, err))
		return -1;
	id.id = c->id;
	ret = urpc_containerManager_Processes(client, &id, NULL, 0, &list);
	ret = ret ? control_fail(client, ret, "list the processes", err) :
		    print_list(c, v.format, list, count, options, err);
	if (list)
		urpc_message_free(&list->base);
	return ret;
}

int cmd_usage(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	const struct usage_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__EventData *event = NULL;
	Urpc__ContainerId id;
	json_t *answer = NULL;
	int ret;

	(void)count;
	urpc__container_id__init(&id);
	if (container_load(config, operands[0], true, &c, err) || control_connect(c, &client, err))
		return -1;
	id.id = c->id;
	ret = urpc_containerManager_Event(client, &id, NULL, 0, &event);
	if (ret)
		return control_fail(client, ret, "read the usage", err);
	answer = json_pack("{s:I}", "Total", (json_int_t)event->memory_usage);
	if (v->full && answer)
		json_object_set_new(answer, "PageCache", json_integer((json_int_t)event->memory_cache));
	urpc_message_free(&event->base);
	return print_json(answer, JSON_INDENT(2), err);
}
