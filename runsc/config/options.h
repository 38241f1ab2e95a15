/*
 * Options by table. A command declares one static table of rows; parsing, refusal of what is not in
 * it and the help text come from the rows. Accepted forms: --name value, --name=value, the same
 * with one dash, one-letter aliases (-b DIR, -b=DIR, -bDIR), bundles of one-letter booleans (-it).
 */
#ifndef RUNSC_CONFIG_OPTIONS_H
#define RUNSC_CONFIG_OPTIONS_H

#include "runsc/config/util.h"

enum option_kind {
	OPTION_BOOL,   /* bool; --name=false takes it back; a row with a value also takes true, false, auto as next word */
	OPTION_STRING, /* const char *, points into argv */
	OPTION_INT,    /* int64_t */
	OPTION_ENUM,   /* const char *, one of the row's choices */
	OPTION_LIST,   /* struct strings, one entry for each time that it is given */
	/*
	 * struct strings, which several rows may share: the name, then as many values as `value` has words; so the
	 * order among these options is kept
	 */
	OPTION_ORDERED,
};

struct option_row {
	enum option_kind kind;
	const char *name;  /* without dashes */
	char alias;	   /* one letter, or 0 */
	ptrdiff_t offset;  /* of the field in the struct of values, or one of the two below */
	const char *value; /* what help calls the value; OPTION_ENUM: "a|b|c"; NULL for booleans */
	const char *help;  /* OPTION_REFUSED: why */
};
#define OPTION_IGNORED ((ptrdiff_t)-1) /* accepted, no effect */
/* Asks for what is not here, so that going on without it would mislead: an error, except for --name=false. */
#define OPTION_REFUSED ((ptrdiff_t)-2)

/*
 * Parses argv[0..argc) up to the first word that is no option (or past "--") into values. With
 * anywhere, options may also follow such words, which then move to the end, as runc's users expect
 * (`kill ID --all`). Returns the index of the first operand, or -1 with err filled. *ret_help is set
 * when --help, -h, -? or --usage was met.
 */
int options_parse(const struct option_row *rows, size_t count, int argc, char **argv, bool anywhere,
		  void *values, bool *ret_help, struct error *err);

/* Sets the option of that name to a value, which stays referenced. -1 with err: there is none, or it is no such value. */
int options_set(const struct option_row *rows, size_t count, const char *name, const char *value, void *values,
		struct error *err);

/* Prints the rows as a list for people. */
void options_help(FILE *out, const struct option_row *rows, size_t count);

#endif
