/* The overlay of a tmpfs over a gofer file system, through the VFS. */
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/memfile.h"
#include "tests/unit/gofer_fixture.h"

static void start_overlay(void)
{
	struct superblock *upper, *sb;
	struct memfile *mf;

	start_gofer("ro", false);
	CHECK_EQ(memfile_new(&mf), 0);
	CHECK_EQ(tmpfs_init(), 0);
	CHECK_EQ(tmpfs_new("tmpfs", NULL, root, &upper), 0);
	CHECK_EQ(overlay_new(gofer_sb, upper, &root_user_ns, &sb), 0);
	mount_root(sb);
}

TEST(overlay_basics)
{
	struct kstat before, after;
	struct file *f;
	char buf[16];

	tree();
	start_overlay();
	CHECK_STR(cat("/a/b/f"), "lower");
	before = stat_of("/a/b/f");
	f = open_file("/a/b/f", O_RDONLY);
	put("/a/b/f", 0, "UPPER!");
	CHECK_STR(cat("/a/b/f"), "UPPER!");
	CHECK_STR(host_read("a/b/f"), "lower");
	after = stat_of("/a/b/f");
	CHECK(before.ino == after.ino && before.dev == after.dev);
	CHECK_EQ(after.size, 6);
	/* Who opened it before reads the new text. */
	CHECK_EQ(do_read(f, buf, 16), 6);
	file_put(f);
	put("/a/b/new", O_CREAT | O_EXCL, "n");
	CHECK_STR(ls("/a/b"), "f new ");
	CHECK_EQ(vfs_unlink(&w, "/a/b/f"), 0);
	CHECK_EQ(exists("/a/b/f"), -ENOENT);
	CHECK_STR(ls("/a/b"), "new ");
	dcache_forget(open_file("/a/b", O_RDONLY)->inode, "f");
	CHECK_EQ(exists("/a/b/f"), -ENOENT);
	put("/a/b/f", O_CREAT | O_EXCL, "again");
	CHECK_STR(cat("/a/b/f"), "again");
	CHECK_STR(ls("/a/b"), "f new ");
	CHECK_STR(host_read("a/b/f"), "lower");
	stop();
}

TEST(overlay_directories)
{
	tree();
	start_overlay();
	CHECK_EQ(vfs_rmdir(&w, "/a/b"), -ENOTEMPTY);
	CHECK_EQ(vfs_unlink(&w, "/a/b/f"), 0);
	CHECK_EQ(vfs_rmdir(&w, "/a/b"), 0);
	CHECK_STR(ls("/a"), "g g2 l ");
	/* A directory made over a removed one is empty. */
	CHECK_EQ(vfs_mkdir(&w, "/a/b", 0755), 0);
	CHECK_STR(ls("/a/b"), "");
	CHECK_EQ(exists("/a/b/f"), -ENOENT);
	CHECK_EQ(vfs_rename(&w, "/a", &w, "/aa", 0), -EXDEV);
	CHECK_EQ(vfs_rename(&w, "/a/b", &w, "/bb", 0), 0);
	CHECK_EQ(exists("/a/b"), -ENOENT);
	CHECK_EQ(vfs_rename(&w, "/bb", &w, "/empty", 0), 0);
	CHECK_STR(ls("/"), "a empty ");
	CHECK_STR(ls("/empty"), "");
	CHECK_EQ(vfs_rmdir(&w, "/empty"), 0);
	CHECK_EQ(exists("/empty"), -ENOENT);
	stop();
}

TEST(overlay_links_renames)
{
	uint64_t ino;

	tree();
	start_overlay();
	ino = stat_of("/a/g").ino;
	put("/a/g", O_TRUNC, "both");
	CHECK_STR(cat("/a/g2"), "both");
	CHECK_EQ(stat_of("/a/g2").ino, ino);
	CHECK_EQ(stat_of("/a/g2").nlink, 2);
	CHECK_EQ(vfs_unlink(&w, "/a/g"), 0);
	CHECK_STR(cat("/a/g2"), "both");
	CHECK_EQ(stat_of("/a/g2").nlink, 1);
	CHECK_EQ(vfs_rename(&w, "/a/g2", &w, "/moved", 0), 0);
	CHECK_STR(cat("/moved"), "both");
	CHECK_EQ(stat_of("/moved").ino, ino);
	CHECK_EQ(exists("/a/g2"), -ENOENT);
	CHECK_STR(ls("/a"), "b l ");
	CHECK_EQ(vfs_rename(&w, "/moved", &w, "/a/b/f", RENAME_EXCHANGE), 0);
	CHECK_STR(cat("/a/b/f"), "both");
	CHECK_STR(cat("/moved"), "lower");
	CHECK_EQ(vfs_rename(&w, "/moved", &w, "/a/b/f", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(vfs_rename(&w, "/moved", &w, "/a/b/f", 0), 0);
	CHECK_STR(cat("/a/b/f"), "lower");
	CHECK_EQ(vfs_link(&w, "/a/b/f", 0, &w, "/a/g"), 0);
	CHECK_EQ(stat_of("/a/g").nlink, 2);
	CHECK_EQ(vfs_unlink(&w, "/a/b/f"), 0);
	CHECK_EQ(exists("/a/b/f"), -ENOENT);
	CHECK_STR(ls("/a"), "b g l ");
	stop();
}

TEST(overlay_unlinked_then_written)
{
	tree();
	start_overlay();
	CHECK_EQ(stat_of("/a/g").nlink, 2);
	CHECK_EQ(vfs_unlink(&w, "/a/g"), 0);
	put("/a/g2", 0, "kept");
	CHECK_EQ(exists("/a/g"), -ENOENT);
	CHECK_STR(cat("/a/g2"), "kept");
	CHECK_STR(ls("/a"), "b g2 l ");
	stop();
}

TEST(overlay_attributes)
{
	struct file *f;
	char byte;

	tree();
	OK(chmod(host("a/g"), 0640));
	OK(chown(host("a/g"), 3, 4));
	start_overlay();
	CHECK_EQ(set("/a/g", (struct kattr){ .mask = ATTR_MODE, .mode = 0604 }), 0);
	CHECK_EQ(stat_of("/a/g").mode, S_IFREG | 0604);
	CHECK(stat_of("/a/g").uid.v == 3 && stat_of("/a/g").gid.v == 4);
	CHECK_STR(cat("/a/g"), "gg");
	CHECK_EQ(set("/a/b", (struct kattr){ .mask = ATTR_UID, .uid = KUID(9) }), 0);
	CHECK_EQ(stat_of("/a/b").uid.v, 9);
	CHECK_STR(cat("/a/b/f"), "lower");
	CHECK_EQ(set("/a/b/f", (struct kattr){ .mask = ATTR_SIZE, .size = 2 }), 0);
	CHECK_STR(cat("/a/b/f"), "lo");
	f = open_file("/", O_RDWR | O_TMPFILE);
	CHECK_EQ(do_write(f, "t"), 1);
	CHECK_EQ(file_seek(f, 0, SEEK_SET), 0);
	CHECK_EQ(do_read(f, &byte, 1), 1);
	file_put(f);
	CHECK_STR(ls("/"), "a empty ");
	stop();
}

TEST(overlay_map)
{
	struct frame_run run;
	struct mappable *m;
	struct file *f;
	uint64_t size;
	char *p;

	tree();
	start_overlay();
	f = open_file("/a/b/f", O_RDONLY);
	m = file_inode(f)->mappable;
	CHECK_EQ(m->ops->translate(m, 0, 4096, false, &run), 0);
	CHECK(run.ff->host_file);
	p = run.ff->ops->window(run.ff, run.offset, 4096, &size);
	CHECK(memcmp(p, "lower", 5) == 0);
	run.ff->ops->put(run.ff, run.offset, run.size);
	CHECK_EQ(m->ops->translate(m, 0, 4096, true, &run), -EFAULT);
	put("/a/b/f", 0, "upper");
	CHECK_EQ(m->ops->translate(m, 0, 4096, true, &run), 0);
	CHECK(!run.ff->host_file);
	p = run.ff->ops->window(run.ff, run.offset, 4096, &size);
	CHECK(memcmp(p, "upper", 5) == 0);
	run.ff->ops->put(run.ff, run.offset, run.size);
	file_put(f);
	stop();
}

TEST_TIMED(overlay_costs, 60)
{
	char name[64];

	tree();
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "a/f%04d", i);
		host_file(name, "x");
	}
	start_overlay();
	costs("overlay");
	stop();
}
