/* debug: stacks, processes, log level and strace of a running sandbox. */
#include <errno.h>
#include <string.h>

#include "runsc/cmd/cmd.h"
#include "runsc/sandbox/control.h"

struct debug_values {
	bool stacks, ps;
	const char *strace, *log_level;
	int64_t signal;
};
#define V struct debug_values
DEFINE_OPTIONS(debug, V, ROW(V, BOOL, "stacks", 0, stacks, NULL, "print what every thread of the sentry does"),
	       ROW(V, BOOL, "ps", 0, ps, NULL, "list the processes"),
	       ROW(V, STRING, "strace", 0, strace, "off|all|A,B,C", "trace system calls"),
	       ROW(V, ENUM, "log-level", 0, log_level, "error|warning|info|debug|0|1|2|3",
		   "level of the sandbox's log"),
	       ROW(V, INT, "signal", 0, signal, "N", "send a host signal to the sentry"),
	       ROW_IGNORED(INT, "pid", 0, "PID", "gVisor: sandbox by process id"),
	       ROW_IGNORED(STRING, "profile-cpu", 0, "FILE", "gVisor: Go profile"),
	       ROW_IGNORED(STRING, "profile-heap", 0, "FILE", "gVisor: Go profile"),
	       ROW_IGNORED(STRING, "profile-block", 0, "FILE", "gVisor: Go profile"),
	       ROW_IGNORED(STRING, "profile-mutex", 0, "FILE", "gVisor: Go profile"),
	       ROW_IGNORED(STRING, "trace", 0, "FILE", "gVisor: Go trace"),
	       ROW_IGNORED(STRING, "duration", 0, "TIME", "gVisor: of profiles"),
	       ROW_IGNORED(STRING, "delay", 0, "TIME", "gVisor: of profiles"),
	       ROW_IGNORED(STRING, "log-packets", 0, "BOOL", "gVisor: packet log"),
	       ROW_REFUSED(STRING, "mount", 0, "MOUNT", "mounts of a running sandbox are those of its config.json"));
#undef V

static int level_of(const char *name)
{
	static const char *const names[] = { "error", "warning", "info", "debug" };

	for (int i = 0; i < (int)ARRAY_COUNT(names); i++) {
		if (!strcmp(name, names[i]) || (name[0] == '0' + i && !name[1]))
			return i;
	}
	return 0;
}

static int change_logging(const struct debug_values *v, struct urpc_client *client, struct error *err)
{
	const char *names = NULL;
	Urpc__LoggingArgs args;

	urpc__logging_args__init(&args);
	args.set_level = v->log_level != NULL;
	args.level = v->log_level ? (uint32_t)level_of(v->log_level) : 0;
	args.set_strace = v->strace != NULL;
	args.strace = v->strace && strcmp(v->strace, "off") != 0 && strcmp(v->strace, "false") != 0;
	if (args.strace && strcmp(v->strace, "all") != 0 && strcmp(v->strace, "true") != 0)
		names = v->strace;
	return control_logging(client, &args, names, "change the log", err);
}

static int print_stacks(struct urpc_client *client, struct error *err)
{
	Urpc__Stacks *stacks = NULL;
	Urpc__Empty empty;
	int ret;

	urpc__empty__init(&empty);
	ret = urpc_debug_Stacks(client, &empty, NULL, 0, &stacks);
	if (!ret) {
		text_tame(stacks->text, true);
		printf("%s", stacks->text);
	}
	if (stacks)
		urpc_message_free(&stacks->base);
	return ret ? control_fail(client, ret, "read the stacks", err) : 0;
}

int cmd_debug(struct config *config, const void *values, int count, char **operands,
	      struct error *err)
{
	const struct debug_values *v = values;
	AUTO(container_free) struct container *c = NULL;
	AUTO(urpc_client_free) struct urpc_client *client = NULL;
	static const char ps_values[64];

	(void)count;
	if (container_load(config, operands[0], true, &c, err) || control_connect(c, &client, err))
		return -1;
	printf("sandbox %s, process %d, gofer %d\n", c->id, (int)c->sentry.pid, (int)c->gofer.pid);
	if ((v->log_level || v->strace) && change_logging(v, client, err))
		return -1;
	if (v->stacks && print_stacks(client, err))
		return -1;
	if (v->signal && !process_kill(c->sentry, (int)v->signal))
		return error_set(err, "cannot send signal %d to process %d", (int)v->signal,
				 (int)c->sentry.pid);
	return v->ps ? cmd_ps(config, ps_values, 1, operands, err) : 0;
}
