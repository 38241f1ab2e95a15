/* The gofer file system through the VFS, against a real runsc-gofer. */
#include <dirent.h>

#include "sentry/fs/gofer/gofer_priv.h"
#include "tests/unit/gofer_fixture.h"

/* Round trips so far. */
static uint32_t trips(void)
{
	struct gofer_sb *fs = gofer_sb->data;

	return fs->client.seq;
}

TEST(gofer_read)
{
	struct kstat st;

	tree();
	start("ro", false);
	CHECK_STR(cat("/a/b/f"), "lower");
	CHECK_STR(cat("/a/l"), "lower");
	CHECK_EQ(exists("/a/nope"), -ENOENT);
	CHECK_EQ(exists("/a/b/f/x"), -ENOTDIR);
	st = stat_of("/a/g");
	CHECK(st.size == 2 && st.nlink == 2 && S_ISREG(st.mode));
	CHECK_EQ(stat_of("/a/g2").ino, st.ino);
	CHECK_STR(ls("/a"), "b g g2 l ");
	CHECK_STR(ls("/empty"), "");
	CHECK_EQ(open_err("/a/g", O_WRONLY), -EROFS);
	CHECK_EQ(vfs_mkdir(&w, "/a/new", 0755), -EROFS);
	/* What is known counts for a second. */
	OK(unlink(host("a/b/f")));
	CHECK_EQ(exists("/a/b/f"), 0);
	gofer_expire_all();
	CHECK_EQ(exists("/a/b/f"), -ENOENT);
	stop();
}

TEST(gofer_write)
{
	struct kstat st;
	struct file *f;
	char buf[16];

	tree();
	start("rw", false);
	put("/a/new", O_CREAT | O_EXCL, "hello");
	CHECK_STR(host_read("a/new"), "hello");
	put("/a/new", O_APPEND, " you");
	CHECK_STR(cat("/a/new"), "hello you");
	CHECK_EQ(stat_of("/a/new").size, 9);
	put("/a/new", O_TRUNC, "x");
	CHECK_STR(host_read("a/new"), "x");
	CHECK_EQ(stat_of("/a/new").size, 1);
	CHECK_EQ(vfs_mkdir(&w, "/d", 01777), 0);
	CHECK_EQ(stat_of("/d").mode, S_IFDIR | 01777);
	CHECK_EQ(vfs_symlink(&w, "../a/new", "/d/s"), 0);
	CHECK_STR(cat("/d/s"), "x");
	CHECK_EQ(vfs_link(&w, "/a/new", 0, &w, "/d/hard"), 0);
	CHECK_EQ(stat_of("/a/new").nlink, 2);
	CHECK_EQ(vfs_rename(&w, "/d", &w, "/a/dd", 0), 0);
	CHECK_STR(cat("/a/dd/hard"), "x");
	CHECK_EQ(exists("/d"), -ENOENT);
	CHECK_EQ(vfs_rmdir(&w, "/a/dd"), -ENOTEMPTY);
	CHECK_EQ(vfs_unlink(&w, "/a/new"), 0);
	CHECK_EQ(stat_of("/a/dd/hard").nlink, 1);
	CHECK_EQ(set("/a/g", (struct kattr){ .mask = ATTR_MODE | ATTR_UID, .mode = 0600, .uid = KUID(7) }), 0);
	st = stat_of("/a/g2");
	CHECK(st.mode == (S_IFREG | 0600) && st.uid.v == 7);
	CHECK_EQ(set("/a/g", (struct kattr){ .mask = ATTR_SIZE, .size = 1 }), 0);
	CHECK_STR(host_read("a/g2"), "g");
	/* An open file outlives its name. */
	f = open_file("/a/g2", O_RDWR);
	CHECK_EQ(vfs_unlink(&w, "/a/g2"), 0);
	CHECK_EQ(vfs_unlink(&w, "/a/g"), 0);
	CHECK_EQ(do_write(f, "abc"), 3);
	CHECK_EQ(file_truncate(f, 2, root), 0);
	CHECK_EQ(file_seek(f, 0, SEEK_SET), 0);
	CHECK_EQ(do_read(f, buf, 16), 2);
	file_put(f);
	CHECK_STR(ls("/a"), "b dd l ");
	stop();
}

TEST(gofer_shared)
{
	tree();
	start("rw", true);
	CHECK_STR(cat("/a/b/f"), "lower");
	CHECK_EQ(exists("/a/b/h"), -ENOENT);
	usleep(3000);
	host_file("a/b/h", "from host");
	host_file("a/b/f", "changed there");
	CHECK_STR(cat("/a/b/h"), "from host");
	CHECK_EQ(stat_of("/a/b/f").size, 13);
	usleep(3000);
	OK(unlink(host("a/b/h")));
	CHECK_EQ(exists("/a/b/h"), -ENOENT);
	CHECK_STR(ls("/a/b"), "f ");
	stop();
}

TEST(gofer_dead)
{
	struct file *f;
	char buf[16];

	tree();
	start("rw", false);
	f = open_file("/a/b/f", O_RDONLY);
	kill(gofer, SIGKILL);
	waitpid(gofer, NULL, 0);
	/* The donated file still works, everything that needs the gofer is an error at once. */
	CHECK_EQ(do_read(f, buf, 16), 5);
	CHECK_EQ(exists("/empty/x"), -EIO);
	CHECK_EQ(vfs_mkdir(&w, "/x", 0755), -EIO);
	file_put(f);
	stop();
}

TEST(gofer_map)
{
	struct file *f, *fw;
	struct frame_run run, run2;
	struct mappable *m;
	uint64_t size;
	char *p;

	tree();
	start("rw", false);
	f = open_file("/a/b/f", O_RDONLY);
	m = file_inode(f)->mappable;
	CHECK_EQ(m->ops->translate(m, 0, 1 << 20, false, &run), 0);
	CHECK_EQ(run.size, 4096);
	CHECK_EQ(m->ops->translate(m, 4096, 4096, false, &run2), -EFAULT);
	p = run.ff->ops->window(run.ff, 0, 4096, &size);
	CHECK(p && memcmp(p, "lower", 6) == 0);
	/* Opening for writing makes the same frames writable. */
	fw = open_file("/a/b/f", O_RDWR);
	CHECK_EQ(m->ops->translate(m, 0, 4096, true, &run2), 0);
	CHECK(run2.ff == run.ff);
	p = run.ff->ops->window(run.ff, 0, 4096, &size);
	p[0] = 'L';
	CHECK_STR(host_read("a/b/f"), "Lower");
	file_put(f);
	file_put(fw);
	run.ff->ops->put(run.ff, 0, 4096);
	CHECK(p[0] == 'L');
	run.ff->ops->put(run.ff, 0, 4096);
	stop();
}

TEST(gofer_many_files)
{
	char name[64];
	int count = 0;
	struct file *f;

	make_dir();
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "f%04d", i);
		host_file(name, "x");
	}
	start("ro", false);
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < 3000; i++) {
			snprintf(name, sizeof(name), "/f%04d", i);
			f = open_file(name, O_RDONLY);
			file_put(f);
			count++;
		}
	}
	CHECK_EQ(count, 6000);
	stop();
}

TEST_TIMED(gofer_costs, 60)
{
	char name[64];

	tree();
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "a/f%04d", i);
		host_file(name, "x");
	}
	start("ro", false);
	costs("gofer");
	stop();
}

TEST(names)
{
	struct names *n = names_new();
	char name[32];

	CHECK(n && !names_has(n, "a"));
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		CHECK(names_add(n, name) && names_add(n, name));
	}
	for (int i = 0; i < 1000; i += 2) {
		snprintf(name, sizeof(name), "name-%d", i);
		names_remove(n, name);
		names_remove(n, name);
	}
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "name-%d", i);
		CHECK_EQ(names_has(n, name), i % 2);
	}
	for (int i = 0; i < NAMES_MAX - 500; i++) {
		snprintf(name, sizeof(name), "more-%d", i);
		CHECK(names_add(n, name));
	}
	CHECK(!names_add(n, "one too many") && names_add(n, "name-1"));
	names_free(n);
}

/* What the README says about round trips. */
TEST(gofer_trips)
{
	struct file *f;
	char name[64];
	uint32_t before;

	tree();
	start("rw", false);
	CHECK_EQ(vfs_mkdir(&w, "/d", 0755), 0);
	before = trips();
	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "/d/f%d", i);
		put(name, O_CREAT | O_EXCL, "x");
		CHECK_EQ(exists("/d/none"), -ENOENT);
	}
	CHECK_EQ(trips() - before, 20);
	before = trips();
	CHECK_EQ(vfs_open(&w, "/d/kept-back", 0, O_CREAT | O_WRONLY, 0600, &f), 0);
	CHECK_EQ(set("/d/kept-back", (struct kattr){ .mask = ATTR_MODE, .mode = 0640 }), 0);
	CHECK_EQ(set("/d/kept-back", (struct kattr){ .mask = ATTR_UID | ATTR_GID }), 0);
	CHECK_EQ(trips() - before, 1);
	CHECK_EQ(stat_of("/d/kept-back").mode, S_IFREG | 0640);
	file_put(f);
	CHECK_EQ(trips() - before, 2);
	before = trips();
	CHECK_EQ(vfs_rename(&w, "/d/f0", &w, "/d/g0", 0), 0);
	CHECK_EQ(exists("/d/f0"), -ENOENT);
	CHECK_STR(cat("/d/g0"), "x");
	CHECK_EQ(vfs_unlink(&w, "/d/g0"), 0);
	CHECK_EQ(trips() - before, 2);
	stop();
}

/* Files that are opened in the order of a listing come several at a time, each with its own contents. */
TEST(gofer_opens_ahead)
{
	char name[300];
	struct dirent *e;
	uint32_t before;
	int count = 0;
	DIR *d;

	tree();
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "a/f%04d", i);
		host_file(name, name);
	}
	start("ro", false);
	ls("/a");
	before = trips();
	/* In the host's own order, which is that of the listing. */
	d = opendir(host("a"));
	CHECK(d != NULL);
	while ((e = readdir(d))) {
		if (e->d_name[0] != 'f')
			continue;
		snprintf(name, sizeof(name), "/a/%s", e->d_name);
		CHECK_STR(cat(name), name + 1);
		count++;
	}
	closedir(d);
	CHECK_EQ(count, 200);
	CHECK(trips() - before < 30);
	stop();
}

/* The host changes what is cached; a check asks about many inodes at once. */
TEST(gofer_checks)
{
	char name[64];
	uint32_t before;

	tree();
	for (int i = 0; i < 200; i++) {
		snprintf(name, sizeof(name), "a/f%04d", i);
		host_file(name, "x");
	}
	/* The directory must have been quiet for a tick of the clock. */
	usleep(40000);
	start("rw", false);
	for (int round = 0; round < 3; round++) {
		before = trips();
		for (int i = 0; i < 200; i++) {
			snprintf(name, sizeof(name), "/a/f%04d", i);
			CHECK_EQ(stat_of(name).size, 1 + (uint64_t)round * (i % 2));
		}
		if (round)
			CHECK(trips() - before < 30);
		for (int i = 1; i < 200; i += 2) {
			snprintf(name, sizeof(name), "a/f%04d", i);
			host_file(name, round ? "xxxx" : "xx");
		}
		gofer_expire_all();
		if (round == 1)
			break;
	}
	/* In a directory that others changed nothing is believed, and what is right is kept. */
	CHECK_EQ(exists("/a/late"), -ENOENT);
	host_file("a/late", "late");
	OK(unlink(host("a/f0000")));
	OK(rename(host("a/f0001"), host("a/f0002")));
	gofer_expire_all();
	CHECK_STR(cat("/a/late"), "late");
	CHECK_EQ(exists("/a/f0000"), -ENOENT);
	CHECK_STR(cat("/a/f0002"), "xxxx");
	CHECK_STR(cat("/a/f0004"), "x");
	stop();
}
