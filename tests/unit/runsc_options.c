/* The option parser, the state directory and small helpers of the command line. */
#include <fcntl.h>
#include <sys/stat.h>

#include "runsc/cmd/cmd.h"
#include "runsc/config/version.h"
#include "tests/lib/test.h"

struct values {
	bool all, tty;
	const char *bundle, *format;
	int64_t number;
	struct strings env;
};
#define V struct values
static const struct option_row rows[] = {
	ROW(V, BOOL, "all", 'a', all, NULL, ""),
	ROW(V, BOOL, "tty", 't', tty, NULL, ""),
	ROW(V, STRING, "bundle", 'b', bundle, "DIR", ""),
	ROW(V, ENUM, "format", 'f', format, "table|json", ""),
	ROW(V, INT, "number", 'n', number, "N", ""),
	ROW(V, LIST, "env", 'e', env, "X", ""),
	ROW_IGNORED(STRING, "ignored", 0, "X", ""),
};

static int parse_words(struct values *v, bool anywhere, bool *help, struct error *err, int argc, char **argv)
{
	*v = (struct values){ 0 };
	*help = false;
	return options_parse(rows, ARRAY_COUNT(rows), argc, argv, anywhere, v, help, err);
}
#define PARSE(anywhere, ...)                                                                       \
	({                                                                                         \
		char *words[] = { __VA_ARGS__ };                                                   \
		count = (int)ARRAY_COUNT(words);                                                   \
		parse_words(&v, anywhere, &help, &err, count, words);                              \
	})

TEST(forms)
{
	struct values v;
	struct error err = { 0 };
	bool help;
	int count;

	CHECK(PARSE(false, "--bundle", "x", "--format=json", "-n", "5", "-all", "id", "--tty") == 6);
	CHECK(!strcmp(v.bundle, "x") && !strcmp(v.format, "json") && v.number == 5 && v.all && !v.tty);
	CHECK(PARSE(false, "-bundle=y", "-b=z", "--all=false", "--ignored", "q", "--", "--tty") == 6);
	CHECK(!strcmp(v.bundle, "z") && !v.all && !v.tty);
	CHECK(PARSE(false, "-at", "-e", "A=1", "--env=B=2") == 4);
	CHECK(v.all && v.tty && v.env.count == 2 && !strcmp(v.env.v[1], "B=2"));
	CHECK(PARSE(false, "-") == 0);
}

TEST(operands_first)
{
	struct values v;
	struct error err = { 0 };
	char *words[] = { (char[]){ "id" }, (char[]){ "--all" }, (char[]){ "9" }, (char[]){ "-t" } };
	bool help;

	CHECK(parse_words(&v, true, &help, &err, 4, words) == 2);
	CHECK(v.all && v.tty && !strcmp(words[2], "id") && !strcmp(words[3], "9"));
}

TEST(refusals)
{
	struct values v;
	struct error err = { 0 };
	bool help;
	int count;

	CHECK(PARSE(false, "--nope=1") < 0);
	CHECK(!strcmp(err.text, "flag provided but not defined: -nope (see --help)"));
	CHECK(PARSE(false, "--bundle") < 0 && !strcmp(err.text, "flag needs an argument: -bundle"));
	CHECK(PARSE(false, "--format=xml") < 0);
	CHECK(!strcmp(err.text, "invalid value \"xml\" for flag -format: use one of table|json"));
	CHECK(PARSE(false, "--format=") < 0);
	CHECK(PARSE(false, "--number=5x") < 0 && PARSE(false, "--all=maybe") < 0);
	CHECK(PARSE(false, "-ax") < 0);
	CHECK(PARSE(false, "--help") == 1 && help);
}

TEST(durations)
{
	int64_t ms;

	CHECK(parse_duration_ms("5s", &ms) && ms == 5000);
	CHECK(parse_duration_ms("1m30s", &ms) && ms == 90000);
	CHECK(parse_duration_ms("250ms", &ms) && ms == 250);
	CHECK(parse_duration_ms("2", &ms) && ms == 2000);
	CHECK(!parse_duration_ms("5x", &ms) && !parse_duration_ms("", &ms) && !parse_duration_ms("-1s", &ms));
}

static void make_config(struct config *config)
{
	char dir[] = "/tmp/runsc-unit-XXXXXX";
	struct error err = { 0 };

	CHECK(mkdtemp(dir));
	config_init(config);
	config->root = strdup(dir);
	CHECK(!config_finish(config, "test", NULL, &err));
}

static void remove_container(struct container *c)
{
	unlinkat(c->dir_fd, "state.json", 0);
	rmdir(c->dir);
	container_free(c);
}

TEST(state_directory)
{
	struct container *a, *b, *found = NULL;
	struct error err = { 0 };
	struct config config;
	struct strings ids;

	make_config(&config);
	CHECK(!container_make(&config, "abc1", &a, &err) && !container_make(&config, "abd2", &b, &err));
	CHECK(container_make(&config, "abc1", &found, &err));
	CHECK(strstr(err.text, "container with given ID already exists"));
	a->bundle = strdup("/b");
	a->sentry = process_id_of(getpid());
	a->status = STATUS_CREATED;
	strings_add(&a->annotations, "k");
	strings_add(&a->annotations, "v");
	CHECK(!container_save(a, &err));
	CHECK(!container_load(&config, "abc", true, &found, &err));
	CHECK(!strcmp(found->id, "abc1") && found->sentry.pid == getpid() && found->annotations.count == 2);
	CHECK(process_alive(found->sentry));
	found->sentry.start++;
	CHECK(!process_alive(found->sentry) && container_status_now(found) == STATUS_STOPPED);
	container_free(found);
	CHECK(container_load(&config, "ab", true, &found, &err) && strstr(err.text, "short for 2 containers"));
	CHECK(container_load(&config, "abc", false, &found, &err));
	CHECK(!strncmp(err.text, "container does not exist", 24));
	CHECK(!container_list(&config, &ids, &err) && ids.count == 2 && !strcmp(ids.v[1], "abd2"));
	strings_fini(&ids);
	remove_container(a);
	remove_container(b);
	CHECK(!rmdir(config.root_dir));
}

TEST(ids)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "a b", "\xc3\xa4", "a\n" };
	struct error err;

	for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
		CHECK(container_check_id(bad[i], &err));
	CHECK(!container_check_id("A_b+c-9.x", &err));
}

TEST(atomic_write)
{
	char dir[] = "/tmp/runsc-unit-XXXXXX", *text;
	int fd;

	CHECK(mkdtemp(dir));
	fd = open(dir, O_DIRECTORY);
	CHECK(!write_atomic_at(fd, "f", "one", 3, 0600) && !write_atomic_at(fd, "f", "two!", 4, 0600));
	text = read_file_at(fd, "f", 100, NULL);
	CHECK(text && !strcmp(text, "two!"));
	free(text);
	CHECK(!read_file_at(fd, "f", 3, NULL) && errno == EFBIG);
	CHECK(!unlinkat(fd, "f", 0) && !rmdir(dir));
}
