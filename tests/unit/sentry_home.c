/* HOME from a passwd file that anybody may have written. */
#include "sentry/control/control_priv.h"
#include "tests/lib/test.h"

static bool home(const char *text, uint32_t uid, char *ret)
{
	const char *at;
	size_t len;
	bool found = passwd_home(text, strlen(text), uid, &at, &len);

	if (found) {
		memcpy(ret, at, len);
		ret[len] = 0;
	}
	return found;
}

TEST(finds_by_number)
{
	static const char text[] = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:,,,:/home/user:/bin/sh\n"
				   "again:x:1000:1000::/other:/bin/sh\nlast:x:7:7::/end:";
	char got[64];

	CHECK(home(text, 0, got));
	CHECK_STR(got, "/root");
	CHECK(home(text, 1000, got));
	CHECK_STR(got, "/home/user");
	CHECK(home(text, 7, got));
	CHECK_STR(got, "/end");
	CHECK(!home(text, 1, got));
}

TEST(bad_lines)
{
	static const char *const bad[] = { "", "\n\n", "a:x:5", "a:x:5:5:c:/h", ":::::::", "a:x:-5:5:c:/h:s",
					   "a:x:05x:5:c:/h:s", "a:x:99999999999999999999:5:c:/h:s", "a:x:5:5:c::s",
					   "a:x:4294967301:5:c:/h:s", "a:x:\n5:5:c:/h:s" };
	char got[64];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!home(bad[i], 5, got));
}

TEST(bytes)
{
	static char text[8000];
	const char *at;
	size_t len;

	/* not a string that a variable can hold */
	CHECK(!passwd_home("a:x:5:5:c:/h\0i:s", 16, 5, &at, &len));
	/* longer than a path */
	memset(text, 'h', sizeof(text));
	memcpy(text, "a:x:5:5:c:/", 11);
	text[sizeof(text) - 2] = ':';
	CHECK(!passwd_home(text, sizeof(text), 5, &at, &len));
	/* every prefix of a line stays within its size */
	for (size_t size = 0; size <= 17; size++) {
		char *copy = malloc(size + 1);

		memcpy(copy, "a:x:5:5:c:/home:s", size);
		CHECK(passwd_home(copy, size, 5, &at, &len) == (size >= 16));
		free(copy);
	}
}
