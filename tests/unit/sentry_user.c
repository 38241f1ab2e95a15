/* Users and groups in the container's files, which may hold anything. */
#include "sentry/control/control_priv.h"
#include "tests/lib/test.h"

static bool user(const char *file, const char *who, struct found_user *u)
{
	char *text = strdup(file);
	bool found;

	*u = (struct found_user){ 0 };
	found = passwd_find(text, who, u);
	free(text);
	return found;
}

TEST(users)
{
	static const char file[] = "root:x:0:0:root:/root:/bin/sh\n\nshort\n:::\nbad:x:1x:5::/:\nneg:x:-1:5::/:\nbig:x:4294967295:5::/:\n"
				   "ada:x:1000:100:Ada,,,:/home/ada:/bin/sh\nada:x:1:1::/:\n7:x:8:9::/:\nlast:x:20:30";
	struct found_user u;

	CHECK(user(file, "root", &u) && u.uid == 0 && u.gid == 0);
	CHECK(user(file, "ada", &u) && u.uid == 1000 && u.gid == 100);
	CHECK(user(file, "1000", &u) && !strcmp(u.name, "ada"));
	CHECK(user(file, "last", &u) && u.uid == 20 && u.gid == 30);
	CHECK(!user(file, "7", &u)); /* a number is never a name */
	CHECK(!user(file, "short", &u) && !user(file, "bad", &u) && !user(file, "neg", &u) && !user(file, "big", &u));
	CHECK(!user(file, "", &u) && !user("", "root", &u) && !user("\n", "root", &u));
}

TEST(long_lines)
{
	char *text = malloc(100001);
	struct found_user u = { 0 };

	memset(text, 'a', 100000);
	memcpy(text + 50000, ":x:5:6", 6);
	memcpy(text + 50006, "::/:", 4);
	text[100000] = 0;
	CHECK(passwd_find(text, "5", &u));
	CHECK_EQ(strlen(u.name), sizeof(u.name) - 1);
	free(text);
}

TEST(groups)
{
	char by_name[] = "root:x:0:\nstaff:x:50:ada,bob\nstaff:x:51:", members[] = "root:x:0:\n"
		"staff:x:50:ada,bob\nno:x:y:ada\nadas:x:1:adas,,bob\nwheel:x:10:bob,ada\n:x:11:ada\nempty:x:12\n";
	struct found_user u = { .gid = 9, .name = "ada" };

	CHECK(group_find(by_name, "staff", &u) && u.gid == 50 && u.group_count == 0);
	CHECK(!group_find(members, NULL, &u));
	CHECK_EQ(u.group_count, 3);
	CHECK(u.groups[0] == 50 && u.groups[1] == 10 && u.groups[2] == 11);
}

TEST(more_groups_than_there_is_room)
{
	char *text = malloc(400 * 32), *end = text;
	struct found_user u = { .name = "ada" };

	for (int i = 0; i < 400; i++)
		end += sprintf(end, "g%d:x:%d:ada\n", i, i);
	CHECK(!group_find(text, NULL, &u));
	CHECK_EQ(u.group_count, ARRAY_COUNT(u.groups));
	free(text);
}
