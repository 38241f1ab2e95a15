/* log: both formats, cutting of long lines, escaping, levels. */
#include "platform/base/log.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int passed, failed;
#define CHECK(c) ((c) ? passed++ : (failed++, printf("%s:%d: %s\n", __FILE__, __LINE__, #c)))

static int pipe_fd[2];
static char got[8192];

/* Bytes of the next line, read by one read(2); 0 when nothing was written. */
static size_t next_line(void)
{
	ssize_t n;

	(void)!write(pipe_fd[1], "|", 1);
	n = read(pipe_fd[0], got, sizeof(got) - 1);
	got[n > 0 ? n - 1 : 0] = '\0';
	return n > 0 ? (size_t)n - 1 : 0;
}

int main(void)
{
	static char big[6000];

	memset(big, 'x', sizeof(big) - 1);
	if (pipe(pipe_fd) < 0)
		return 1;
	log_init(pipe_fd[1], LOG_TEXT, LOG_INFO, "unit");
	log_info("hello %d", 7);
	CHECK(next_line() > 0 && strstr(got, " info ") && strstr(got, "unit[") && strstr(got, "hello 7\n"));
	log_debug("not seen");
	CHECK(next_line() == 0);
	log_level = LOG_DEBUG;
	log_debug("seen");
	CHECK(strstr((next_line(), got), "seen"));
	log_error("%s", big);
	CHECK(next_line() < 4096 && got[strlen(got) - 1] == '\n');

	log_init(pipe_fd[1], LOG_JSON, LOG_INFO, "unit");
	log_warn("a \"b\" \\ \n\x01 c");
	next_line();
	CHECK(strstr(got, "{\"msg\":\"a \\\"b\\\" \\\\ \\u000a\\u0001 c\",\"level\":\"warning\",\"time\":\"2"));
	CHECK(strcmp(got + strlen(got) - 3, "\"}\n") == 0);
	memset(big, '\x01', sizeof(big) - 1);
	log_error("%s", big);
	CHECK(next_line() < 4096 && strcmp(got + strlen(got) - 3, "\"}\n") == 0);

	log_init(-1, LOG_TEXT, LOG_INFO, "unit");
	log_error("nowhere");
	CHECK(next_line() == 0);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
