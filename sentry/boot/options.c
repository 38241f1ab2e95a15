#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/boot/boot.h"

enum option_kind { OPT_FD, OPT_TEXT, OPT_NUMBER, OPT_FLAG, OPT_CHOICE };

/* One row per option: where its value goes and how it is read. Choices are "name=value" by position. */
struct option_row {
	const char *name;
	enum option_kind kind;
	size_t offset;
	const char *choices; /* OPT_CHOICE: names separated by '|', the value is the position */
};

#define ROW(option, kind, member, choices)                                                         \
	{ option, kind, offsetof(struct boot_options, member), choices }
static const struct option_row rows[] = {
	ROW("control-fd", OPT_FD, control_fd, NULL),
	ROW("ready-fd", OPT_FD, ready_fd, NULL),
	ROW("log-fd", OPT_FD, log_fd, NULL),
	ROW("debug-log-fd", OPT_FD, debug_log_fd, NULL),
	ROW("strace-fd", OPT_FD, strace_fd, NULL),
	ROW("death-fd", OPT_FD, death_fd, NULL),
	ROW("kvm-fd", OPT_FD, kvm_fd, NULL),
	ROW("platform", OPT_TEXT, platform, NULL),
	ROW("log-format", OPT_CHOICE, log_format, "text|json"),
	ROW("log-level", OPT_CHOICE, log_level, "error|warning|info|debug"),
	ROW("network", OPT_CHOICE, network, "none|host"),
	ROW("cpus", OPT_NUMBER, cpus, NULL),
	ROW("strace", OPT_FLAG, strace, NULL),
	ROW("debug-seccomp", OPT_FLAG, debug_seccomp, NULL),
	ROW("probe-platforms", OPT_FLAG, probe_platforms, NULL),
};

static bool parse_number(const char *text, unsigned long max, unsigned long *ret)
{
	char *end;

	errno = 0;
	*ret = strtoul(text, &end, 10);
	return errno == 0 && text[0] >= '0' && text[0] <= '9' && *end == 0 && *ret <= max;
}

/* The position of text among names, which may be given as the number itself. -1 when it is neither. */
static int parse_choice(const char *names, const char *text)
{
	size_t len = strlen(text);
	unsigned long number;
	int i = 0;
	const char *at = names;

	for (; at; i++) {
		const char *bar = strchr(at, '|');
		size_t name_len = bar ? (size_t)(bar - at) : strlen(at);

		if (name_len == len && memcmp(at, text, len) == 0)
			return i;
		at = bar ? bar + 1 : NULL;
	}
	return parse_number(text, (unsigned long)i - 1, &number) ? (int)number : -1;
}

static bool set_option(struct boot_options *o, const struct option_row *row, const char *value)
{
	char *member = (char *)o + row->offset;
	unsigned long number;
	int choice;

	switch (row->kind) {
	case OPT_FD:
		if (!parse_number(value, 1 << 20, &number))
			return false;
		*(int *)(void *)member = (int)number;
		return true;
	case OPT_NUMBER:
		if (!parse_number(value, 1 << 16, &number))
			return false;
		*(uint32_t *)(void *)member = (uint32_t)number;
		return true;
	case OPT_CHOICE:
		choice = parse_choice(row->choices, value);
		if (choice < 0)
			return false;
		memcpy(member, &choice, sizeof(choice)); /* enums are ints */
		return true;
	case OPT_TEXT:
		*(const char **)(void *)member = value;
		return true;
	case OPT_FLAG:
		*(bool *)member = true;
		return true;
	}
	return false;
}

int boot_parse(int argc, char **argv, struct boot_options *ret_o, char *why, size_t why_size)
{
	struct option longs[ARRAY_COUNT(rows) + 1] = { { 0 } };
	struct boot_options o = {
		.control_fd = -1, .ready_fd = -1, .log_fd = -1, .debug_log_fd = -1, .strace_fd = -1,
		.death_fd = -1, .kvm_fd = -1, .platform = "auto", .log_level = LOG_INFO,
	};
	int index;

	for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
		longs[i] = (struct option){ rows[i].name,
					    rows[i].kind == OPT_FLAG ? no_argument : required_argument,
					    NULL, (int)i };
	opterr = 0;
	while ((index = getopt_long(argc, argv, "", longs, NULL)) >= 0) {
		if (index == '?') {
			snprintf(why, why_size, "unknown or incomplete option %s", argv[optind - 1]);
			return -EINVAL;
		}
		if (!set_option(&o, &rows[index], optarg)) {
			snprintf(why, why_size, "--%s: bad value %s", rows[index].name, optarg);
			return -EINVAL;
		}
	}
	*ret_o = o;
	if (optind < argc)
		snprintf(why, why_size, "unexpected argument %s", argv[optind]);
	else if (o.probe_platforms && o.ready_fd < 0)
		snprintf(why, why_size, "--probe-platforms needs --ready-fd");
	else if (o.control_fd < 0 && !o.probe_platforms)
		snprintf(why, why_size, "--control-fd is missing");
	else
		return 0;
	return -EINVAL;
}
