/* What the commands share. A command is a row of commands.def, a table of options and a function. */
#ifndef RUNSC_CMD_CMD_H
#define RUNSC_CMD_CMD_H

#include "runsc/config/config.h"
#include "runsc/sandbox/container.h"

struct command_options {
	const struct option_row *rows;
	size_t count;
	size_t size; /* of the struct of values, which starts zeroed */
};

/* DEFINE_OPTIONS(create, struct create_values) = { rows... }; */
#define DEFINE_OPTIONS(symbol, type, ...)                                                          \
	static const struct option_row symbol##_rows[] = { __VA_ARGS__ };                          \
	const struct command_options cmd_##symbol##_options = { symbol##_rows,                     \
								ARRAY_COUNT(symbol##_rows),        \
								sizeof(type) }
#define NO_OPTIONS(symbol) const struct command_options cmd_##symbol##_options = { NULL, 0, 0 }

/* Rows for DEFINE_OPTIONS; TYPE is the struct of values. */
#define ROW(TYPE, kind, name, alias, field, value, help)                                           \
	{ OPTION_##kind, name, alias, offsetof(TYPE, field), value, help }
#define ROW_IGNORED(kind, name, alias, value, help)                                                \
	{ OPTION_##kind, name, alias, OPTION_IGNORED, value, help }
#define ROW_REFUSED(kind, name, alias, value, why)                                                 \
	{ OPTION_##kind, name, alias, OPTION_REFUSED, value, why }

/*
 * Runs a command: values is its filled struct, operands are checked for number. Returns the exit
 * status of the program, or -1 with err.
 */
typedef int command_run(struct config *config, const void *values, int count, char **operands,
			struct error *err);

#define COMMAND(name, symbol, min, max, anywhere, operands, summary)                               \
	extern const struct command_options cmd_##symbol##_options;                                \
	command_run cmd_##symbol;
#define REFUSED(name, why)
#include "runsc/cmd/commands.def"
#undef COMMAND
#undef REFUSED

/* Help of one command or, for NULL, of all; false when there is no such command. */
bool help_print(FILE *out, const char *command);

/* Options of create and run, and the rest of what they share. */
struct create_values {
	const char *bundle, *config, *console_socket, *pid_file;
	int64_t preserve_fds;
	struct strings pass_fd;
	bool detach, keep;
};
struct create_args;
/* Descriptors for a program beside stdio. */
#define MAX_PASSED_FDS 250
struct passed_fds {
	int fd[MAX_PASSED_FDS]; /* ours; inside they are 3, 4, ... */
	uint32_t count;
};
/* Those of --preserve-fds (3 and up; listen of them come by LISTEN_FDS) and then of --pass-fd M:N. */
int passed_fds_of(int64_t preserve, uint32_t listen, const struct strings *pass, struct passed_fds *ret,
		  struct error *err);
/*
 * Creates, starts, watches and deletes in the foreground; returns the exit status of the program.
 */
int run_foreground(struct config *config, const struct create_args *args, struct error *err);

/*
 * Calls run for each container that an operand names: the id itself or, with regex, every container whose id
 * matches it as an extended regular expression. Goes on after a failure and reports the first. -1 with err.
 */
int for_each_named(struct config *config, bool regex, int count, char **operands,
		   int (*run)(struct config *config, const char *id, const void *context, struct error *err),
		   const void *context, struct error *err);

/*
 * Runs the program of a config.json that was made for it in the foreground, under an id of its own: what `do` ends
 * with. Returns the exit status of the program, or -1 with err.
 */
int run_text(struct config *config, const char *text, struct error *err);

/* "5s", "100ms", "1m30s" or plain seconds to milliseconds; false when it is none. */
bool parse_duration_ms(const char *text, int64_t *ret);
/* Writes a number to a file, replacing it. */
int write_number_file(const char *path, int64_t number, struct error *err);
/* Replaces the characters by which text of a guest could command a terminal by '?'; with lines, ends of lines stay. */
void text_tame(char *text, bool lines);
/*
 * Prints cells, row by row, in columns as wide as their longest cell and the gap, at least min wide; the last
 * one is as long as it is. Control characters in them become '?'.
 */
void print_table(const struct strings *cells, size_t columns, int min, int gap);
/* Prints a JSON value and a newline to stdout; takes the reference; NULL is an error. */
int print_json(json_t *value, size_t flags, struct error *err);

#endif
