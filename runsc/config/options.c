#include "runsc/config/options.h"

#include <string.h>

static const struct option_row *row_by_name(const struct option_row *rows, size_t count,
					    const char *name, size_t len)
{
	for (size_t i = 0; i < count; i++) {
		if (strlen(rows[i].name) == len && !memcmp(rows[i].name, name, len))
			return &rows[i];
		if (len == 1 && rows[i].alias == name[0])
			return &rows[i];
	}
	return NULL;
}

static bool choice_is(const char *choices, const char *value)
{
	size_t len = strlen(value);

	for (const char *p = choices; p; p = strchr(p, '|')) {
		p += *p == '|';
		if (!strncmp(p, value, len) && (p[len] == '|' || !p[len]))
			return true;
	}
	return false;
}

static int parse_bool(const char *text, bool *ret)
{
	static const char *const yes[] = { "1", "t", "T", "true", "TRUE", "True", "yes" };
	static const char *const no[] = { "0", "f", "F", "false", "FALSE", "False", "no" };

	for (size_t i = 0; i < ARRAY_COUNT(yes); i++) {
		if (!strcmp(text, yes[i]) || !strcmp(text, no[i])) {
			*ret = !strcmp(text, yes[i]);
			return 0;
		}
	}
	return -1;
}

/* Stores value (NULL: a boolean without one). */
static int row_store(const struct option_row *row, const char *value, void *values,
		     struct error *err)
{
	char *field = row->offset < 0 ? NULL : (char *)values + row->offset;
	int64_t number = 0;
	bool flag = true;

	if (row->offset == OPTION_REFUSED &&
	    (row->kind != OPTION_BOOL || !value || parse_bool(value, &flag) || flag))
		return error_set(err, "--%s is refused: %s", row->name, row->help);

	switch (row->kind) {
	case OPTION_BOOL:
		/* runc's --rootless=auto */
		if (value && row->value && !strcmp(value, "auto"))
			flag = false;
		else if (value && parse_bool(value, &flag))
			return error_set(err, "invalid boolean value \"%s\" for -%s: use true or false",
					 value, row->name);
		if (field)
			memcpy(field, &flag, sizeof(flag));
		return 0;
	case OPTION_INT:
		if (!parse_int64(value, 0, &number))
			return error_set(err, "invalid value \"%s\" for flag -%s: it takes a whole number",
					 value, row->name);
		if (field)
			memcpy(field, &number, sizeof(number));
		return 0;
	case OPTION_ENUM:
		if (!choice_is(row->value, value))
			return error_set(err, "invalid value \"%s\" for flag -%s: use one of %s", value,
					 row->name, row->value);
		__attribute__((fallthrough));
	case OPTION_STRING:
		if (field)
			memcpy(field, &value, sizeof(value));
		return 0;
	case OPTION_ORDERED: /* not by one value */
	case OPTION_LIST:
		if (field)
			strings_add((struct strings *)(void *)field, value);
		return 0;
	}
	return 0;
}

/* -it: every letter a boolean alias; -uUSER: alias and value. Returns 0 when word was one of them. */
static int parse_bundle(const struct option_row *rows, size_t count, const char *word, void *values,
			struct error *err)
{
	const struct option_row *first = *word ? row_by_name(rows, count, word, 1) : NULL;
	size_t len = strlen(word);

	if (len < 2)
		return -1;
	if (first && first->kind != OPTION_BOOL && first->alias == *word)
		return row_store(first, word + 1, values, err);
	for (size_t i = 0; i < len; i++) {
		const struct option_row *row = row_by_name(rows, count, word + i, 1);

		if (!row || row->kind != OPTION_BOOL)
			return -1;
	}
	for (size_t i = 0; i < len; i++) {
		if (row_store(row_by_name(rows, count, word + i, 1), NULL, values, err))
			return -1;
	}
	return 0;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "help") || !strcmp(word, "h") || !strcmp(word, "?") || !strcmp(word, "usage");
}

/* runc's `--rootless auto`, which others write `--rootless` or `--rootless=auto`. */
static bool is_optional_value(const struct option_row *row, const char *next)
{
	return row->value && next && (!strcmp(next, "true") || !strcmp(next, "false") || !strcmp(next, "auto"));
}

static int store_ordered(const struct option_row *row, int argc, char **argv, int *at, void *values, struct error *err)
{
	struct strings *list = (struct strings *)(void *)((char *)values + row->offset);
	int wanted = row->value ? 1 : 0;

	for (const char *p = row->value; p && (p = strchr(p, ' ')); p++)
		wanted++;
	if (*at + wanted >= argc)
		return error_set(err, "flag needs %d argument%s: -%s", wanted, wanted == 1 ? "" : "s", row->name);
	strings_add(list, row->name);
	while (wanted--)
		strings_add(list, argv[++*at]);
	return 0;
}

/* One option word at argv[*at]; steps over its value. */
static int parse_word(const struct option_row *rows, size_t count, int argc, char **argv, int *at,
		      void *values, bool *help, struct error *err)
{
	const char *word = argv[*at] + 1, *equals, *value = NULL;
	const struct option_row *row;
	bool single = *word != '-';
	size_t len;

	word += !single;
	equals = strchr(word, '=');
	len = equals ? (size_t)(equals - word) : strlen(word);
	row = row_by_name(rows, count, word, len);
	if (!row) {
		if (is_help(word)) {
			*help = true;
			return 0;
		}
		if (single && !parse_bundle(rows, count, word, values, err))
			return 0;
		if (err->exit_code)
			return -1;
		return error_set(err, "flag provided but not defined: -%.*s (see --help)", (int)len,
				 word);
	}
	if (row->kind == OPTION_ORDERED && !equals)
		return store_ordered(row, argc, argv, at, values, err);
	if (row->kind == OPTION_ORDERED)
		return error_set(err, "flag takes no '=': -%s", row->name);
	if (equals) {
		value = equals + 1;
	} else if (row->kind != OPTION_BOOL) {
		if (*at + 1 >= argc)
			return error_set(err, "flag needs an argument: -%s", row->name);
		value = argv[++*at];
	} else if (is_optional_value(row, *at + 1 < argc ? argv[*at + 1] : NULL)) {
		value = argv[++*at];
	}
	return row_store(row, value, values, err);
}

int options_parse(const struct option_row *rows, size_t count, int argc, char **argv, bool anywhere,
		  void *values, bool *ret_help, struct error *err)
{
	int operands = 0, i;

	for (i = 0; i < argc; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if (argv[i][0] == '-' && argv[i][1]) {
			if (parse_word(rows, count, argc, argv, &i, values, ret_help, err))
				return -1;
			continue;
		}
		if (!anywhere)
			break;
		argv[operands++] = argv[i];
	}
	/* the operands met so far move up to the rest of the words */
	if (operands)
		memmove(argv + i - operands, argv, (size_t)operands * sizeof(*argv));
	return i - operands;
}

int options_set(const struct option_row *rows, size_t count, const char *name, const char *value, void *values,
		struct error *err)
{
	const struct option_row *row = row_by_name(rows, count, name, strlen(name));

	if (!row || strcmp(row->name, name) != 0)
		return error_set(err, "flag provided but not defined: -%.64s", name);
	return row_store(row, value, values, err);
}

static void help_row(FILE *out, const struct option_row *row)
{
	char left[96];
	int len = snprintf(left, sizeof(left), "--%s%s%s", row->name, row->value ? " " : "",
			   row->value ? row->value : "");

	if (row->alias)
		fprintf(out, "  -%c, ", row->alias);
	else
		fprintf(out, "      ");
	if (len > 28)
		fprintf(out, "%s\n%36s%s\n", left, "", row->help);
	else
		fprintf(out, "%-29s %s\n", left, row->help);
}

/* Names of the rows with that special offset, under a heading. */
static void help_names(FILE *out, const struct option_row *rows, size_t count, ptrdiff_t offset,
		       const char *heading)
{
	size_t column = 0;

	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(rows[i].name) + 3;

		if (rows[i].offset != offset)
			continue;
		if (!column)
			fprintf(out, "\n%s:\n ", heading);
		if (column + len > 96) {
			fprintf(out, "\n ");
			column = 0;
		}
		fprintf(out, " --%s", rows[i].name);
		column += len;
	}
	if (column)
		fputc('\n', out);
}

void options_help(FILE *out, const struct option_row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (rows[i].offset >= 0)
			help_row(out, &rows[i]);
	}
	help_names(out, rows, count, OPTION_IGNORED,
		   "accepted for callers of other runtimes, without effect");
	help_names(out, rows, count, OPTION_REFUSED, "refused, with a sentence that says why");
}
