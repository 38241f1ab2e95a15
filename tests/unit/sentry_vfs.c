/* Path walk, dentry cache, names, permissions, mounts, synthetic trees. */
#include "tests/unit/vfs_fixture.h"

TEST(walk_basics)
{
	start();
	CHECK_EQ(vfs_mkdir(&w, "/a", 0777), 0);
	CHECK_EQ(vfs_mkdir(&w, "/a/b/", 0777), 0);
	put("/a/b/f", "text");
	CHECK_EQ(walk_error(&w, "/a//b/./../b/f", 0), 0);
	CHECK_EQ(walk_error(&w, "a/b/f", 0), 0);
	CHECK_EQ(walk_error(&w, "/../../a", 0), 0);
	CHECK_EQ(walk_error(&w, "", 0), -ENOENT);
	CHECK_EQ(walk_error(&w, "", WALK_EMPTY), 0);
	CHECK_EQ(walk_error(&w, "/a/b/f/", 0), -ENOTDIR);
	CHECK_EQ(walk_error(&w, "/a/b/f/x", 0), -ENOTDIR);
	CHECK_EQ(walk_error(&w, "/a/b/f/.", 0), -ENOTDIR);
	CHECK_EQ(walk_error(&w, "/a/none/x", 0), -ENOENT);
	CHECK_EQ(walk_error(&w, "/a/b/f", WALK_DIRECTORY), -ENOTDIR);
	CHECK_EQ(stat_of("/a").mode, S_IFDIR | 0755);
}

TEST(walk_long_names)
{
	char name[400];

	start();
	memset(name, 'x', sizeof(name));
	name[255] = 0;
	CHECK_EQ(vfs_mkdir(&w, name, 0755), 0);
	CHECK_EQ(walk_error(&w, name, 0), 0);
	name[255] = 'x';
	name[256] = 0;
	CHECK_EQ(vfs_mkdir(&w, name, 0755), -ENAMETOOLONG);
	strcpy(name + 256, "/y");
	CHECK_EQ(walk_error(&w, name, 0), -ENAMETOOLONG);
}

TEST(walk_links)
{
	char name[16], target[16];

	start();
	CHECK_EQ(vfs_mkdir(&w, "/d", 0755), 0);
	put("/d/f", "x");
	CHECK_EQ(vfs_symlink(&w, "/d", "/abs"), 0);
	CHECK_EQ(vfs_symlink(&w, "../d/f", "/d/rel"), 0);
	CHECK_EQ(vfs_symlink(&w, "loop", "/loop"), 0);
	CHECK_EQ(vfs_symlink(&w, "f/", "/d/slash"), 0);
	CHECK_EQ(walk_error(&w, "/abs/rel", WALK_FOLLOW), 0);
	CHECK_EQ(walk_error(&w, "/abs/", 0), 0);
	CHECK_EQ(walk_error(&w, "/d/slash", WALK_FOLLOW), -ENOTDIR);
	CHECK_EQ(walk_error(&w, "/loop", 0), 0);
	CHECK_EQ(walk_error(&w, "/loop", WALK_FOLLOW), -ELOOP);
	CHECK_EQ(walk_error(&w, "/loop/x", 0), -ELOOP);
	put("/l0", "end");
	for (int i = 1; i <= 41; i++) {
		snprintf(name, sizeof(name), "/l%d", i);
		snprintf(target, sizeof(target), "l%d", i - 1);
		CHECK_EQ(vfs_symlink(&w, target, name), 0);
	}
	CHECK_EQ(walk_error(&w, "/l40", WALK_FOLLOW), 0);
	CHECK_EQ(walk_error(&w, "/l41", WALK_FOLLOW), -ELOOP);
	CHECK_EQ(walk_error(&w, "/abs/f", WALK_NO_SYMLINKS), -ELOOP);
	CHECK_EQ(open_error(&w, "/l1", O_NOFOLLOW), -ELOOP);
	CHECK_EQ(open_error(&w, "/l1", O_CREAT | O_EXCL), -EEXIST);
	CHECK_EQ(vfs_symlink(&w, "made", "/dangling"), 0);
	CHECK_EQ(open_error(&w, "/dangling", O_CREAT | O_WRONLY), 0);
	CHECK_EQ(walk_error(&w, "/made", 0), 0);
}

TEST(walk_scoped)
{
	struct walk in = w;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/jail", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/jail/d", 0755), 0);
	put("/jail/f", "in");
	put("/out", "out");
	CHECK_EQ(vfs_symlink(&w, "/f", "/jail/abs"), 0);
	CHECK_EQ(vfs_symlink(&w, "../../out", "/jail/d/up"), 0);
	in = w;
	in.start = place("/jail");
	CHECK_EQ(walk_error(&in, "d/../f", WALK_BENEATH), 0);
	CHECK_EQ(walk_error(&in, "d/../../out", WALK_BENEATH), -EXDEV);
	CHECK_EQ(walk_error(&in, "/f", WALK_BENEATH), -EXDEV);
	CHECK_EQ(walk_error(&in, "abs", WALK_BENEATH | WALK_FOLLOW), -EXDEV);
	CHECK_EQ(walk_error(&in, "d/up", WALK_BENEATH | WALK_FOLLOW), -EXDEV);
	CHECK_EQ(walk_error(&in, "abs", WALK_IN_ROOT | WALK_FOLLOW), 0);
	CHECK_EQ(walk_error(&in, "../../../f", WALK_IN_ROOT), 0);
	CHECK_EQ(walk_error(&in, "d/up", WALK_IN_ROOT | WALK_FOLLOW), -ENOENT);
	path_put(&in.start);
}

TEST(permissions)
{
	struct kattr attr = { .mask = ATTR_MODE, .mode = 0700 };
	struct path p;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/closed", 0755), 0);
	put("/closed/f", "x");
	p = place("/closed");
	CHECK_EQ(vfs_setattr(&p, user, &attr), -EPERM);
	CHECK_EQ(vfs_setattr(&p, w.cred, &attr), 0);
	path_put(&p);
	CHECK_EQ(walk_error(&uw, "/closed/f", 0), -EACCES);
	CHECK_EQ(open_error(&uw, "/closed", O_RDONLY), -EACCES);
	CHECK_EQ(vfs_mkdir(&uw, "/new", 0755), -EACCES);
	CHECK_EQ(vfs_mkdir(&w, "/tmp", 0777), 0);
	p = place("/tmp");
	attr.mode = 01777;
	CHECK_EQ(vfs_setattr(&p, w.cred, &attr), 0);
	path_put(&p);
	put("/tmp/roots", "x");
	CHECK_EQ(vfs_unlink(&uw, "/tmp/roots"), -EPERM);
	CHECK_EQ(open_error(&uw, "/tmp/mine", O_CREAT | O_WRONLY), 0);
	CHECK_EQ(stat_of("/tmp/mine").uid.v, 1000);
	CHECK_EQ(vfs_rename(&uw, "/tmp/mine", &uw, "/tmp/roots", 0), -EPERM);
	CHECK_EQ(vfs_unlink(&uw, "/tmp/mine"), 0);
	CHECK_EQ(vfs_mknod(&uw, "/tmp/dev", S_IFCHR | 0600, 0x103), -EPERM);
}

TEST(rename_rules)
{
	start();
	CHECK_EQ(vfs_mkdir(&w, "/a", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/a/b", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/c", 0755), 0);
	put("/f", "f");
	put("/g", "g");
	CHECK_EQ(vfs_rename(&w, "/a", &w, "/a/b/x", 0), -EINVAL);
	CHECK_EQ(vfs_rename(&w, "/a/b", &w, "/a", 0), -ENOTEMPTY);
	CHECK_EQ(vfs_rename(&w, "/f", &w, "/a", 0), -EISDIR);
	CHECK_EQ(vfs_rename(&w, "/a", &w, "/f", 0), -ENOTDIR);
	CHECK_EQ(vfs_rename(&w, "/f", &w, "/g", RENAME_NOREPLACE), -EEXIST);
	CHECK_EQ(vfs_rename(&w, "/f", &w, "/none", RENAME_EXCHANGE), -ENOENT);
	CHECK_EQ(vfs_rename(&w, "/f", &w, "/g/", 0), -ENOTDIR);
	CHECK_EQ(vfs_rename(&w, "/a/.", &w, "/z", 0), -EBUSY);
	CHECK_EQ(vfs_rename(&w, "/c", &w, "/a", 0), -ENOTEMPTY);
	CHECK_EQ(vfs_rename(&w, "/a", &w, "/c", 0), 0);
	CHECK_EQ(walk_error(&w, "/c/b", 0), 0);
	CHECK_EQ(walk_error(&w, "/a", 0), -ENOENT);
	CHECK_EQ(vfs_rename(&w, "/c/b", &w, "/f", RENAME_EXCHANGE), 0);
	CHECK(S_ISDIR(stat_of("/f").mode));
	CHECK(S_ISREG(stat_of("/c/b").mode));
	CHECK_EQ(stat_of("/c").nlink, 2);
	CHECK_EQ(vfs_rename(&w, "/c/b", &w, "/g", 0), 0);
	CHECK_STR(list("/", 2), ". .. f c g ");
}

TEST(removal)
{
	struct file *f, *d;
	char text[64];
	bool reachable;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/d", 0755), 0);
	put("/d/f", "still");
	f = open_file("/d/f", O_RDONLY);
	d = open_file("/d", O_RDONLY);
	CHECK_EQ(vfs_rmdir(&w, "/d"), -ENOTEMPTY);
	CHECK_EQ(vfs_unlink(&w, "/d"), -EISDIR);
	CHECK_EQ(vfs_rmdir(&w, "/d/f"), -ENOTDIR);
	CHECK_EQ(vfs_unlink(&w, "/d/f/"), -ENOTDIR);
	CHECK_EQ(vfs_unlink(&w, "/d/f"), 0);
	CHECK_EQ(vfs_unlink(&w, "/d/f"), -ENOENT);
	CHECK_EQ(vfs_rmdir(&w, "/d/."), -EINVAL);
	CHECK_EQ(vfs_rmdir(&w, "/"), -EBUSY);
	CHECK_EQ(vfs_rmdir(&w, "/d"), 0);
	CHECK_EQ(read_at(f, text, 10, 0), 5);
	CHECK_EQ(vfs_path_text(file_path(f), &w.root, text, sizeof(text), &reachable), 14);
	CHECK_STR(text, "/d/f (deleted)");
	file_put(f);
	f = NULL;
	{
		struct walk in = w;

		in.start = *file_path(d);
		CHECK_EQ(vfs_mkdir(&in, "x", 0755), -ENOENT);
		CHECK_EQ(walk_error(&in, "..", 0), 0);
	}
	file_put(d);
}

TEST(cache_is_bounded)
{
	char name[32];

	start();
	for (int i = 0; i < 60000; i++) {
		snprintf(name, sizeof(name), "/none%d", i);
		CHECK_EQ(walk_error(&w, name, 0), -ENOENT);
	}
	put("/none5", "now");
	CHECK_EQ(walk_error(&w, "/none5", 0), 0);
	CHECK_EQ(vfs_unlink(&w, "/none5"), 0);
	CHECK_EQ(walk_error(&w, "/none5", 0), -ENOENT);
}

static void mount_tmpfs(const char *at)
{
	CHECK_EQ(vfs_mount(&w, "none", at, "tmpfs", 0, NULL), 0);
}

TEST(mounts_cover_and_uncover)
{
	start();
	CHECK_EQ(vfs_mkdir(&w, "/m", 0755), 0);
	put("/m/under", "x");
	mount_tmpfs("/m");
	CHECK_EQ(walk_error(&w, "/m/under", 0), -ENOENT);
	put("/m/over", "x");
	CHECK_EQ(walk_error(&w, "/m/over", WALK_NO_XDEV), -EXDEV);
	CHECK_EQ(walk_error(&w, "/m/../m/over", 0), 0);
	CHECK_EQ(vfs_rmdir(&w, "/m"), -EBUSY);
	CHECK_EQ(vfs_rename(&w, "/m/over", &w, "/x", 0), -EXDEV);
	CHECK_EQ(vfs_umount(&w, "/m/over", 0), -EINVAL);
	{
		struct path busy = place("/m/over");

		CHECK_EQ(vfs_umount(&w, "/m", 0), -EBUSY);
		path_put(&busy);
	}
	CHECK_EQ(vfs_umount(&w, "/m", 0), 0);
	CHECK_EQ(walk_error(&w, "/m/under", 0), 0);
	CHECK_EQ(vfs_umount(&w, "/m", 0), -EINVAL);
	CHECK_EQ(vfs_mount(&uw, "none", "/m", "tmpfs", 0, NULL), -EPERM);
}

TEST(mounts_propagate)
{
	start();
	CHECK_EQ(vfs_mkdir(&w, "/src", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/peer", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/slave", 0755), 0);
	mount_tmpfs("/src");
	CHECK_EQ(vfs_mkdir(&w, "/src/sub", 0755), 0);
	CHECK_EQ(vfs_mount(&w, NULL, "/src", NULL, MS_SHARED, NULL), 0);
	CHECK_EQ(vfs_mount(&w, "/src", "/peer", NULL, MS_BIND, NULL), 0);
	CHECK_EQ(vfs_mount(&w, "/src", "/slave", NULL, MS_BIND, NULL), 0);
	CHECK_EQ(vfs_mount(&w, NULL, "/slave", NULL, MS_SLAVE, NULL), 0);
	mount_tmpfs("/src/sub");
	put("/src/sub/f", "x");
	CHECK_EQ(walk_error(&w, "/peer/sub/f", 0), 0);
	CHECK_EQ(walk_error(&w, "/slave/sub/f", 0), 0);
	CHECK_EQ(vfs_umount(&w, "/slave/sub", 0), 0);
	CHECK_EQ(walk_error(&w, "/src/sub/f", 0), 0);
	CHECK_EQ(vfs_umount(&w, "/peer/sub", 0), 0);
	CHECK_EQ(walk_error(&w, "/src/sub/f", 0), -ENOENT);
}

TEST(mounts_copy_namespace)
{
	struct fs_struct *fs;
	struct mnt_ns *copy;
	struct walk in;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/m", 0755), 0);
	mount_tmpfs("/m");
	put("/m/f", "x");
	fs = fs_struct_new(&w.root, &w.start, w.mnt_ns);
	CHECK_EQ(mnt_ns_copy(w.mnt_ns, &root_user_ns, fs, &copy), 0);
	in = w;
	in.mnt_ns = copy;
	in.root = in.start = fs->root;
	CHECK(in.root.mnt != w.root.mnt);
	CHECK_EQ(vfs_umount(&in, "/m", 0), 0);
	CHECK_EQ(walk_error(&in, "/m/f", 0), -ENOENT);
	CHECK_EQ(walk_error(&w, "/m/f", 0), 0);
	fs_struct_put(fs);
	mnt_ns_put(copy);
}

TEST(mounts_pivot)
{
	struct path old_root, new_root;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/new", 0755), 0);
	put("/old-file", "x");
	CHECK_EQ(vfs_pivot_root(&w, "/new", "/new", &old_root, &new_root), -EBUSY);
	mount_tmpfs("/new");
	CHECK_EQ(vfs_mkdir(&w, "/new/put", 0755), 0);
	CHECK_EQ(vfs_pivot_root(&w, "/new", "/", &old_root, &new_root), -EBUSY);
	CHECK_EQ(vfs_pivot_root(&w, "/new", "/new/put", &old_root, &new_root), 0);
	w.root = w.start = new_root;
	CHECK_EQ(walk_error(&w, "/put/old-file", 0), 0);
	CHECK_EQ(vfs_umount(&w, "/put", 0), -EBUSY); /* our own reference */
	path_put(&old_root);
	CHECK_EQ(vfs_umount(&w, "/put", MNT_DETACH), 0);
	CHECK_EQ(walk_error(&w, "/put/old-file", 0), -ENOENT);
}

static int show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	seq_printf(q, "value %d\n", *(int *)s->data);
	seq_escape(q, "a b\\", " ");
	return 0;
}

static int64_t store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)f;
	(void)pos;
	*(int *)s->data = atoi(text);
	return (int64_t)size;
}

TEST(simple_trees)
{
	static const struct simple_ops ops = { .name = "value", .show = show, .store = store };
	struct superblock *sb;
	struct inode *dir;
	struct file *f;
	struct path at;
	int value = 7;
	char buf[64] = "";

	start();
	CHECK_EQ(vfs_mkdir(&w, "/proc", 0755), 0);
	sb = superblock_new(&simple_superblock_ops, "test", 1, &root_user_ns);
	sb->root = simple_new(sb, NULL, S_IFDIR | 0555, NULL, 0);
	CHECK_EQ(simple_add_dir(sb->root, "dir", &dir), 0);
	CHECK_EQ(simple_add_file(dir, "value", 0644, &ops, &value), 0);
	CHECK_EQ(simple_add_link(sb->root, "link", "dir/value"), 0);
	at = place("/proc");
	CHECK_EQ(vfs_mount_sb(sb, &at, 0, "test", NULL), 0);
	path_put(&at);
	superblock_put(sb);
	CHECK_STR(list("/proc", 1), ". .. dir link ");
	f = open_file("/proc/link", O_RDWR);
	CHECK_EQ(read_at(f, buf, 4, -1), 4);
	value = 8;
	CHECK_EQ(read_at(f, buf + 4, 60, -1), 14);
	CHECK_STR(buf, "value 7\na\\040b\\134");
	CHECK_EQ(write_at(f, "42\n", 3, 0), 3);
	CHECK_EQ(value, 42);
	file_put(f);
	CHECK_EQ(vfs_mkdir(&w, "/proc/x", 0755), -EPERM);
	CHECK_EQ(vfs_unlink(&w, "/proc/link"), -EPERM);
	simple_remove(sb->root, "link");
	CHECK_EQ(walk_error(&w, "/proc/link", 0), -ENOENT);
	CHECK_EQ(vfs_umount(&w, "/proc", 0), 0);
}
