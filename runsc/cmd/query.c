/* state, list, ps: what is there. */
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

static void print_row(const struct container *c, enum container_status status, int width)
{
	printf("%-*s %-8d %-10s %-24s %-30s %s\n", width, c->id,
	       status == STATUS_STOPPED ? 0 : (int)c->gofer.pid, container_status_name(status),
	       c->bundle ? c->bundle : "", c->created ? c->created : "", c->owner ? c->owner : "");
}

int cmd_list(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct list_values *v = values;
	json_t *array = is_json(v->format) && !v->quiet ? json_array() : NULL;
	struct strings ids;
	struct error ignored;
	int width = 12;

	(void)count;
	(void)operands;
	if (container_list(config, &ids, err))
		return -1;
	for (size_t i = 0; i < ids.count; i++)
		width = MAX(width, (int)strlen(ids.v[i]));
	if (!array && !v->quiet)
		printf("%-*s %-8s %-10s %-24s %-30s %s\n", width, "ID", "PID", "STATUS", "BUNDLE", "CREATED",
		       "OWNER");
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
			print_row(c, container_status_now(c), width);
	}
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

static bool has_host_pid(const Urpc__ProcessList *list, int pid)
{
	for (size_t i = 0; i < list->n_process; i++) {
		for (size_t j = 0; j < list->process[i]->n_host_pids; j++) {
			if (list->process[i]->host_pids[j] == pid)
				return true;
		}
	}
	return false;
}

/*
 * The host processes behind the container's. The sentry knows them by their ids in its own pid
 * namespace, the caller wants those of this one; /proc has both.
 */
static json_t *host_pids(const struct container *c, const Urpc__ProcessList *list)
{
	char sentry_ns[64] = "", path[300];
	json_t *array = json_array();
	const struct dirent *entry;
	DIR *proc = opendir("/proc");

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
	if (!json_array_size(array))
		json_array_append_new(array, json_integer(c->gofer.pid));
	return array;
}

static void print_processes(const Urpc__ProcessList *list)
{
	printf("%-8s %-6s %-6s %-8s %-10s %-8s %-6s %s\n", "UID", "PID", "PPID", "TTY", "TIME", "STIME",
	       "STATE", "CMD");
	for (size_t i = 0; i < list->n_process; i++) {
		const Urpc__ProcessInfo *p = list->process[i];
		time_t started = (time_t)(p->start_time_ns / 1000000000u);
		uint64_t ms = p->cpu_time_ns / 1000000u;
		char stime[16], cpu[32];
		struct tm tm;

		localtime_r(&started, &tm);
		strftime(stime, sizeof(stime), "%H:%M", &tm);
		snprintf(cpu, sizeof(cpu), "%llu.%03llus", (unsigned long long)(ms / 1000),
			 (unsigned long long)(ms % 1000));
		printf("%-8u %-6d %-6d %-8s %-10s %-8s %-6s %.*s\n", p->uid, p->pid, p->ppid,
		       *p->tty ? p->tty : "?", cpu, stime, p->state, (int)p->command.len,
		       (const char *)p->command.data);
	}
}

int cmd_ps(struct config *config, const void *values, int count, char **operands,
	   struct error *err)
{
	const struct ps_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	Urpc__ProcessList *list = NULL;
	Urpc__ContainerId id;
	int ret;

	(void)count; /* runc takes options of ps(1) there; the table here has fixed columns */
	urpc__container_id__init(&id);
	if (container_load(config, operands[0], true, &c, err) ||
	    container_need(c, "list the processes of",
			   STATUS_BIT(STATUS_CREATED) | STATUS_BIT(STATUS_RUNNING) |
				   STATUS_BIT(STATUS_PAUSED), err) ||
	    control_connect(c, &client, err))
		return -1;
	id.id = c->id;
	ret = urpc_containerManager_Processes(client, &id, NULL, 0, &list);
	if (ret)
		ret = control_fail(client, ret, "list the processes", err);
	else if (is_json(v->format))
		ret = print_json(host_pids(c, list), JSON_COMPACT, err);
	else
		print_processes(list);
	if (list)
		urpc_message_free(&list->base);
	return ret;
}
