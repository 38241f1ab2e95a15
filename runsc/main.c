/*
 * runsc: the command line. Order: stdio must exist, global options, command, its options, the
 * command itself; one place prints errors.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "runsc/cmd/cmd.h"
#include "runsc/config/version.h"

struct command {
	const char *name;
	int min, max;
	bool anywhere;
	const char *operands, *summary;
	const struct command_options *options;
	command_run *run; /* NULL: refused, summary says why */
};

static const struct command commands[] = {
#define COMMAND(name, symbol, min, max, anywhere, operands, summary)                               \
	{ name, min, max, anywhere, operands, summary, &cmd_##symbol##_options, cmd_##symbol },
#define REFUSED(name, why) { name, 0, -1, true, "", why, NULL, NULL },
#include "runsc/cmd/commands.def"
#undef COMMAND
#undef REFUSED
};

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	}
	return NULL;
}

static void print_overview(FILE *out, bool options)
{
	fprintf(out, "usage: runsc [OPTIONS] COMMAND [OPTIONS] [OPERANDS]\n\ncommands:\n");
	for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
		if (commands[i].run)
			fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
	}
	fprintf(out, "\nrunsc COMMAND --help tells more about one, runsc --help about the global options.\n");
	if (!options)
		return;
	fprintf(out, "\noptions:\n");
	options_help(out, config_rows, config_row_count);
}

bool help_print(FILE *out, const char *name)
{
	const struct command *command = name ? find_command(name) : NULL;

	if (!name) {
		print_overview(out, true);
		return true;
	}
	if (!command)
		return false;
	if (!command->run) {
		fprintf(out, "runsc %s: %s.\n", name, command->summary);
		return true;
	}
	fprintf(out, "usage: runsc %s%s%s%s\n\n%s.\n", name, command->options->count ? " [OPTIONS]" : "",
		*command->operands ? " " : "", command->operands, command->summary);
	if (command->options->count) {
		fprintf(out, "\noptions:\n");
		options_help(out, command->options->rows, command->options->count);
	}
	return true;
}

static void print_version(void)
{
	printf("runsc version %s\nspec: %s\n", RUNSC_VERSION, RUNSC_SPEC_VERSION);
}

/* A caller may have closed some of 0, 1, 2; the next file that is opened must not become one of them. */
static void fill_stdio(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(fd);
}

static bool wants_help(int argc, char **argv)
{
	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-help") || !strcmp(argv[i], "-h") ||
		    !strcmp(argv[i], "-?") || !strcmp(argv[i], "--usage"))
			return true;
	}
	return false;
}

static int run_command(struct config *config, const struct command *command, int argc, char **argv,
		       struct error *err)
{
	static _Alignas(16) char values[4096];
	bool help = false;
	int first;

	if (!command->run) {
		if (!wants_help(argc, argv))
			return error_set(err, "%s is refused: %s", command->name, command->summary);
		return help_print(stdout, command->name) ? 0 : -1;
	}
	BUG_ON(command->options->size > sizeof(values));
	first = options_parse(command->options->rows, command->options->count, argc, argv,
			      command->anywhere, values, &help, err);
	if (first < 0)
		return error_prefix(err, "%s", command->name);
	if (help)
		return help_print(stdout, command->name) ? 0 : -1;
	argc -= first;
	argv += first;
	if (argc < command->min || (command->max >= 0 && argc > command->max))
		return error_set(err, "usage: runsc %s%s %s (see runsc %s --help)", command->name,
				 command->options->count ? " [OPTIONS]" : "", command->operands,
				 command->name);
	if (config_finish(config, command->name, argc ? argv[0] : NULL, err))
		return -1;
	return command->run(config, values, argc, argv, err);
}

static int run(struct config *config, int argc, char **argv, struct error *err)
{
	const char *name = argc ? strrchr(argv[0], '/') : NULL;
	const struct command *command;
	bool help = false;
	int first;

	if (argc && !strcmp(name ? name + 1 : argv[0], "bwrap"))
		return run_command(config, find_command("bwrap"), argc - 1, argv + 1, err);
	first = options_parse(config_rows, config_row_count, argc - 1, argv + 1, false, config, &help, err);
	if (first < 0)
		return -1;
	argv += 1 + first;
	argc -= 1 + first;
	if (config->version || config->version_crun) {
		print_version();
		return 0;
	}
	if (!argc) {
		print_overview(help ? stdout : stderr, help);
		return help ? 0 : EXIT_GENERIC;
	}
	command = find_command(argv[0]);
	if (!command)
		return error_set(err, "\"%.64s\" is no command: see runsc --help", argv[0]);
	if (help)
		return help_print(stdout, argv[0]) ? 0 : -1;
	return run_command(config, command, argc - 1, argv + 1, err);
}

int main(int argc, char **argv)
{
	struct config config;
	struct error err = { 0 };
	int status;

	fill_stdio();
	config_init(&config);
	status = run(&config, argc, argv, &err);
	if (status < 0) {
		config_report(&config, &err);
		status = err.exit_code ? err.exit_code : EXIT_GENERIC;
	}
	if (fflush(stdout) == EOF && !status) {
		error_errno(&err, errno, "cannot write to stdout");
		config_report(&config, &err);
		status = EXIT_GENERIC;
	}
	free(config.root_dir);
	return status;
}
