#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <string.h>

#include "runsc/cmd/cmd.h"

bool parse_duration_ms(const char *text, int64_t *ret)
{
	static const struct {
		const char *unit;
		int64_t ms;
	} units[] = { { "ms", 1 }, { "s", 1000 }, { "m", 60000 }, { "h", 3600000 } };
	int64_t total = 0;

	if (parse_int64(text, 10, &total) && total >= 0 && total < INT32_MAX) {
		*ret = total * 1000;
		return true;
	}
	total = 0;
	for (const char *p = text; *p;) {
		char *unit;
		double value = strtod(p, &unit);
		size_t i = 0, len = strspn(unit, "hms");

		while (i < ARRAY_COUNT(units) &&
		       (strlen(units[i].unit) != len || memcmp(units[i].unit, unit, len) != 0))
			i++;
		if (unit == p || i == ARRAY_COUNT(units) || !(value >= 0 && value < 1e6))
			return false;
		total += (int64_t)(value * (double)units[i].ms);
		p = unit + len;
	}
	*ret = total;
	return *text != 0;
}

static int ids_matching(const struct config *config, const char *pattern, struct strings *ret_ids,
			struct error *err)
{
	struct strings all;
	regex_t regex;

	if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB))
		return error_set(err, "\"%.200s\" is no regular expression", pattern);
	if (container_list(config, &all, err)) {
		regfree(&regex);
		return -1;
	}
	for (size_t i = 0; i < all.count; i++) {
		if (!regexec(&regex, all.v[i], 0, NULL, 0))
			strings_add(ret_ids, all.v[i]);
	}
	strings_fini(&all);
	regfree(&regex);
	return 0;
}

int for_each_named(struct config *config, bool regex, int count, char **operands,
		   int (*run)(struct config *config, const char *id, const void *context, struct error *err),
		   const void *context, struct error *err)
{
	struct error other;
	int result = 0;

	for (int i = 0; i < count; i++) {
		struct strings ids = { 0 };

		if (!regex)
			strings_add(&ids, operands[i]);
		else if (ids_matching(config, operands[i], &ids, result ? &other : err))
			result = -1;
		for (size_t j = 0; j < ids.count; j++) {
			if (run(config, ids.v[j], context, result ? &other : err))
				result = -1;
		}
		strings_fini(&ids);
	}
	return result;
}

int write_number_file(const char *path, int64_t number, struct error *err)
{
	char text[32];
	int len = snprintf(text, sizeof(text), "%lld", (long long)number);
	int ret = write_atomic_at(AT_FDCWD, path, text, (size_t)len, 0644);

	return ret ? error_errno(err, -ret, "cannot write %s", path) : 0;
}

int print_json(json_t *value, size_t flags, struct error *err)
{
	AUTO(mem_free) char *text = value ? json_dumps(value, flags) : NULL;

	json_decref(value);
	if (!text)
		return error_set(err, "cannot print the answer: it holds text that is not UTF-8");
	puts(text);
	return 0;
}

void text_tame(char *text, bool lines)
{
	for (unsigned char *p = (unsigned char *)text; *p; p++) {
		if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0)
			p[0] = p[1] = '?';
		else if ((*p < ' ' && !(lines && *p == '\n')) || *p == 0x7f)
			*p = '?';
	}
}

void print_table(const struct strings *cells, size_t columns, int min, int gap)
{
	int *width = xcalloc(columns, sizeof(*width));

	for (size_t i = 0; i < columns; i++)
		width[i] = min;
	for (size_t i = 0; i < cells->count; i++) {
		text_tame(cells->v[i], false);
		width[i % columns] = MAX(width[i % columns], (int)strlen(cells->v[i]) + gap);
	}
	for (size_t i = 0; i < cells->count; i++) {
		if (i % columns + 1 == columns)
			puts(cells->v[i]);
		else
			printf("%-*s", width[i % columns], cells->v[i]);
	}
	free(width);
}
