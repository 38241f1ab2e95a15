#include "runsc/cmd/platforms.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "runsc/cmd/cmd.h"
#include "runsc/sandbox/spawn.h"

enum { DEADLINE_MS = 15000, FIELDS = 5, TEXT_MAX = 4096 };

static const struct explanation {
	const char *name, *text;
} explanations[] = {
	{ "auto", "the first of systrap and ptrace that passes its self-test when a sandbox starts (default)" },
	{ "kvm", "guests run in a virtual machine of /dev/kvm. In ring 0, on hardware virtualisation, the sentry serves most calls\n"
		 "without leaving it; on other devices each call leaves it (exit mode). auto takes neither" },
	{ "systrap", "guest calls are seccomp notifications, hot ones are posted to shared memory; no ptrace. Needs a processor\n"
		     "and kernel with FSGSBASE, Linux 5.9" },
	{ "ptrace", "guest threads are traced processes; works wherever ptrace does, and is slower" },
	{ "null", "runs no guest code; for tests of the interface" },
};

/* What the sentry found out about one platform. */
struct finding {
	const char *name, *note;
	bool works, automatic;
	unsigned long long call_ns;
};

/* What the helper writes until it closes the pipe, heap; or NULL with err. */
static char *read_all(int fd, struct error *err)
{
	int64_t end = now_ms() + DEADLINE_MS, left;
	AUTO(mem_free) char *text = xcalloc(1, TEXT_MAX + 1);
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	size_t size = 0;

	while ((left = end - now_ms()) > 0) {
		ssize_t got;

		if (poll(&pfd, 1, (int)left) <= 0)
			continue;
		got = read(fd, text + size, TEXT_MAX - size);
		if (got == 0 || (got < 0 && errno != EINTR))
			return TAKE(text);
		size += got > 0 ? (size_t)got : 0;
	}
	error_set(err, "runsc-sentry did not say within %d s which platforms work", DEADLINE_MS / 1000);
	return NULL;
}

/* Starts a sentry as for a sandbox, which tests each platform and ends. Its lines on the heap, or NULL with err. */
static char *ask_sentry(struct error *err)
{
	AUTO(mem_free) char *path = spawn_find("runsc-sentry", err);
	struct helper helper = { .pid_fd = -1 };
	AUTO(fd_close) int kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	char number[16], kvm_number[16], *text = NULL;
	int pair[2], failed;

	if (!path)
		return NULL;
	failed = -make_pipe(pair);
	if (failed) {
		error_errno(err, failed, "cannot make a pipe");
		return NULL;
	}
	int fds[] = { pair[1], kvm_fd };
	struct spawn_args args = { .path = path, .fds = fds, .fd_count = kvm_fd >= 0 ? 2 : 1, .stderr_fd = -1,
				   .ready_fd = pair[1], .net_fd = -1,
				   .new_user = geteuid() != 0, .as_nobody = geteuid() == 0 };

	snprintf(number, sizeof(number), "%d", pair[1]);
	strings_add(&args.argv, "runsc-sentry");
	strings_add(&args.argv, "--probe-platforms");
	strings_add(&args.argv, "--ready-fd");
	strings_add(&args.argv, number);
	if (kvm_fd >= 0) {
		snprintf(kvm_number, sizeof(kvm_number), "%d", kvm_fd);
		strings_add(&args.argv, "--kvm-fd");
		strings_add(&args.argv, kvm_number);
	}
	if (!spawn_helper(&args, &helper, err)) {
		fd_close(pair[1]);
		pair[1] = -1;
		text = read_all(pair[0], err);
		helper_kill(&helper);
	}
	strings_fini(&args.argv);
	fd_close(helper.pid_fd);
	fd_close(pair[0]);
	fd_close(pair[1]);
	return text;
}

/* Cuts line into *ret; false when it is no finding. */
static bool finding_parse(char *line, struct finding *ret)
{
	char *field[FIELDS];
	size_t count = 0;

	for (char *at = line; at && count < FIELDS; count++)
		field[count] = strsep(&at, "\t");
	if (count != FIELDS)
		return false;
	*ret = (struct finding){ .name = field[0], .works = *field[1] == '1', .automatic = *field[2] == '1',
				 .call_ns = strtoull(field[3], NULL, 10), .note = field[4] };
	return true;
}

/* The rows of text; how many. A line that is none is why the sentry could not look: -1 with err. */
static int findings_parse(char *text, struct finding *list, size_t room, struct error *err)
{
	size_t count = 0;
	char *line;

	while ((line = strsep(&text, "\n")) && *line && count < room) {
		if (!finding_parse(line, &list[count++]))
			return error_set(err, "%s", line);
	}
	return count ? (int)count : error_set(err, "runsc-sentry ended without a word on platforms");
}

static const char *explain(const char *name)
{
	for (size_t i = 0; i < ARRAY_COUNT(explanations); i++) {
		if (!strcmp(explanations[i].name, name))
			return explanations[i].text;
	}
	return "";
}

static json_t *findings_json(const struct finding *list, size_t count)
{
	json_t *array = json_array();
	const char *choice = NULL;

	for (size_t i = 0; i < count; i++) {
		if (list[i].automatic && !choice)
			choice = list[i].name;
		json_array_append_new(array, json_pack("{s:s, s:b, s:b, s:I, s:s, s:s}", "name", list[i].name, "works",
						       list[i].works, "automatic", list[i].automatic, "callNs",
						       (json_int_t)list[i].call_ns, "note", list[i].note, "help",
						       explain(list[i].name)));
	}
	return json_pack("{s:s?, s:o}", "auto", choice, "platforms", array);
}

static void findings_table(const struct finding *list, size_t count)
{
	const char *choice = NULL;

	printf("\nOn this host, with ns for one call in the self-test:\n%-9s %-6s %8s  %s\n", "PLATFORM", "WORKS", "NS", "NOTE");
	for (size_t i = 0; i < count; i++) {
		char ns[24] = "-";

		if (list[i].call_ns)
			snprintf(ns, sizeof(ns), "%llu", list[i].call_ns);
		if (list[i].automatic && !choice)
			choice = list[i].name;
		printf("%-9s %-6s %8s  %s\n", list[i].name, list[i].works ? "yes" : "no", ns, list[i].note);
	}
	printf("auto takes %s\n", choice ? choice : "none: no sandbox can start here");
}

int platforms_print(const char *format, struct error *err)
{
	struct finding list[ARRAY_COUNT(explanations)];
	AUTO(mem_free) char *text = ask_sentry(err);
	int count = text ? findings_parse(text, list, ARRAY_COUNT(list), err) : -1;

	if (!strcmp(format, "json"))
		return count < 0 ? -1 : print_json(findings_json(list, (size_t)count), JSON_INDENT(1), err);
	if (!strcmp(format, "csv")) {
		if (count >= 0)
			printf("name,works,automatic,call_ns,note\n");
		for (int i = 0; i < count; i++)
			printf("%s,%d,%d,%llu,\"%s\"\n", list[i].name, list[i].works, list[i].automatic, list[i].call_ns,
			       list[i].note);
		return count < 0 ? -1 : 0;
	}
	for (size_t i = 0; i < ARRAY_COUNT(explanations); i++) {
		const char *rest = explanations[i].text;

		printf("%-9s ", explanations[i].name);
		for (const char *end; (end = strchr(rest, '\n')); rest = end + 1)
			printf("%.*s\n%-10s", (int)(end - rest), rest, "");
		printf("%s\n", rest);
	}
	if (count < 0)
		printf("\nWhat works on this host is not known: %s\n", err->text);
	else
		findings_table(list, (size_t)count);
	return 0;
}
