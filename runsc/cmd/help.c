/* help: commands, system calls. */
#include <string.h>

#include "runsc/cmd/cmd.h"
#include "runsc/cmd/platforms.h"

struct help_values {
	const char *format;
};
#define V struct help_values
DEFINE_OPTIONS(help, V, ROW(V, ENUM, "format", 'o', format, "table|csv|json", "of `help syscalls` and `help platforms`"),
	       ROW_IGNORED(STRING, "filename", 0, "FILE", "gVisor: use redirection"),
	       ROW_IGNORED(STRING, "os", 0, "NAME", "gVisor: always linux"),
	       ROW_IGNORED(STRING, "arch", 0, "NAME", "gVisor: always amd64"));
#undef V

struct syscall_row {
	int number; /* x86-64; -1: not there */
	const char *name, *support, *note;
};

/* The sentry's own table, as data. */
static const struct syscall_row syscalls[] = {
#define SYSCALL(x86_64, arm64, name, support, note, ...) { x86_64, #name, #support, note },
#define SYSERR(x86_64, arm64, name, error, note) { x86_64, #name, #error, note },
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR
};

/* FULL and PARTIAL are support, anything else is the errno that the call always gives. */
static const char *support_word(const struct syscall_row *row)
{
	if (!strcmp(row->support, "FULL"))
		return "full";
	return !strcmp(row->support, "PARTIAL") ? "partial" : "refused";
}

static void syscall_note(const struct syscall_row *row, char *out, size_t size)
{
	bool refused = !strcmp(support_word(row), "refused");

	snprintf(out, size, "%s%s%s%s", refused ? "gives " : "", refused ? row->support : "",
		 refused && *row->note ? "; " : "", row->note);
}

static int print_syscalls(const char *format, struct error *err)
{
	json_t *array = !strcmp(format, "json") ? json_array() : NULL;
	bool csv = !strcmp(format, "csv");

	if (csv)
		printf("number,name,support,note\n");
	else if (!array)
		printf("%-4s %-28s %-8s %s\n", "NUM", "NAME", "SUPPORT", "NOTE");
	for (size_t i = 0; i < ARRAY_COUNT(syscalls); i++) {
		const struct syscall_row *row = &syscalls[i];
		char note[512];

		if (row->number < 0)
			continue;
		syscall_note(row, note, sizeof(note));
		if (array)
			json_array_append_new(array, json_pack("{s:i, s:s, s:s, s:s}", "number", row->number,
							       "name", row->name, "support",
							       support_word(row), "note", note));
		else if (csv)
			printf("%d,%s,%s,\"%s\"\n", row->number, row->name, support_word(row), note);
		else
			printf("%-4d %-28s %-8s %s\n", row->number, row->name, support_word(row), note);
	}
	return array ? print_json(array, JSON_INDENT(1), err) : 0;
}

int cmd_help(struct config *config, const void *values, int count, char **operands,
	     struct error *err)
{
	const struct help_values *v = values;
	const char *topic = count ? operands[0] : NULL;

	(void)config;
	if (topic && !strcmp(topic, "flags"))
		topic = NULL;
	if (topic && !strcmp(topic, "platforms"))
		return platforms_print(v->format ? v->format : "table", err);
	if (topic && !strcmp(topic, "syscalls"))
		return print_syscalls(v->format ? v->format : "table", err);
	if (!help_print(stdout, topic))
		return error_set(err, "there is no help on \"%.64s\": see runsc help", topic);
	return 0;
}
