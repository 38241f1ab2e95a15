/* Directories and names: mkdir, rename, link, symlink, unlink, the *at calls, getdents. */
#include "tests/lib/guest.h"

#include <dirent.h>
#include <linux/fs.h>
#include <sys/sysmacros.h>

TEST(mkdir_rmdir)
{
	struct stat st;

	OK(mkdir("d", 01777));
	ERR(mkdir("d", 0755), EEXIST);
	ERR(mkdir("x/y", 0755), ENOENT);
	OK(stat("d", &st));
	CHECK_EQ(st.st_mode, S_IFDIR | 01755);
	OK(mkdir("d/e/", 0755));
	ERR(rmdir("d"), ENOTEMPTY);
	ERR(rmdir("d/e/."), EINVAL);
	ERR(rmdir("d/e/.."), ENOTEMPTY);
	OK(rmdir("d/e"));
	OK(rmdir("d"));
	ERR(rmdir("d"), ENOENT);
	write_file("f", "x");
	ERR(rmdir("f"), ENOTDIR);
	ERR(unlinkat(AT_FDCWD, "f", 0x1), EINVAL);
}

TEST(unlink_errors)
{
	OK(mkdir("d", 0755));
	ERR(unlink("d"), EISDIR);
	ERR(unlink("none"), ENOENT);
	write_file("f", "x");
	ERR(unlink("f/"), ENOTDIR);
	OK(symlink("none", "l"));
	OK(unlink("l"));
	OK(unlink("f"));
}

TEST(directory_link_count)
{
	struct stat before, after;

	OK(mkdir("d", 0755));
	OK(stat("d", &before));
	OK(mkdir("d/e", 0755));
	OK(stat("d", &after));
	CHECK_EQ(after.st_nlink, before.st_nlink + 1);
	OK(rmdir("d/e"));
	OK(stat("d", &after));
	CHECK_EQ(after.st_nlink, before.st_nlink);
}

TEST(hard_links)
{
	struct stat a, b;

	write_file("a", "x");
	OK(link("a", "b"));
	OK(stat("a", &a));
	OK(stat("b", &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_EQ(a.st_nlink, 2);
	ERR(link("a", "b"), EEXIST);
	ERR(link("none", "c"), ENOENT);
	OK(mkdir("d", 0755));
	ERR(link("d", "e"), EPERM);
	OK(unlink("a"));
	OK(stat("b", &b));
	CHECK_EQ(b.st_nlink, 1);
	CHECK_STR(read_file("b"), "x");
	OK(symlink("b", "s"));
	OK(linkat(AT_FDCWD, "s", AT_FDCWD, "t", 0));
	OK(lstat("t", &b));
	CHECK(S_ISLNK(b.st_mode));
	OK(linkat(AT_FDCWD, "s", AT_FDCWD, "u", AT_SYMLINK_FOLLOW));
	OK(lstat("u", &b));
	CHECK(S_ISREG(b.st_mode));
}

TEST(symlinks)
{
	char buf[32] = "";
	struct stat st;

	OK(symlink("some/where", "l"));
	ERR(symlink("x", "l"), EEXIST);
	ERR(symlink("", "m"), ENOENT);
	CHECK_EQ(readlink("l", buf, sizeof(buf)), 10);
	CHECK_STR(buf, "some/where");
	CHECK_EQ(readlink("l", buf, 4), 4);
	ERR(readlink("l", buf, 0), EINVAL);
	OK(lstat("l", &st));
	CHECK_EQ(st.st_size, 10);
	CHECK_EQ(st.st_mode & 0777, 0777);
	write_file("f", "x");
	ERR(readlink("f", buf, sizeof(buf)), EINVAL);
	ERR(readlink("none", buf, sizeof(buf)), ENOENT);
	ERR(stat("l", &st), ENOENT);
}

TEST(symlink_to_directory_in_path)
{
	OK(mkdir("d", 0755));
	OK(symlink("d", "l"));
	write_file("l/f", "x");
	OK(access("d/f", F_OK));
	OK(access("l/../d/f", F_OK));
	ERR(rmdir("l"), ENOTDIR);
	struct stat st;
	OK(lstat("l/", &st));
	CHECK(S_ISDIR(st.st_mode));
}

TEST(rename_replaces)
{
	write_file("a", "A");
	write_file("b", "B");
	OK(rename("a", "b"));
	ERR(access("a", F_OK), ENOENT);
	CHECK_STR(read_file("b"), "A");
	ERR(rename("none", "x"), ENOENT);
	OK(link("b", "c"));
	OK(rename("b", "c"));
	OK(access("b", F_OK));
}

TEST(rename_directories)
{
	OK(mkdir("d", 0755));
	OK(mkdir("e", 0755));
	write_file("f", "x");
	ERR(rename("d", "d/sub"), EINVAL);
	ERR(rename("f", "d"), EISDIR);
	ERR(rename("d", "f"), ENOTDIR);
	OK(rename("d", "e"));
	write_file("e/g", "x");
	OK(mkdir("d", 0755));
	ERR(rename("d", "e"), ENOTEMPTY);
	OK(rename("e", "d"));
	OK(access("d/g", F_OK));
	ERR(rename("d", "."), EBUSY);
	ERR(rename("d/..", "x"), EBUSY);
}

TEST(rename_open_directory_keeps_cwd)
{
	char buf[256];

	OK(mkdir("d", 0755));
	OK(chdir("d"));
	OK(rename("../d", "../moved"));
	CHECK(getcwd(buf, sizeof(buf)));
	CHECK_STR(strrchr(buf, '/'), "/moved");
	close(OK(open("f", O_CREAT | O_WRONLY, 0644)));
	OK(access("../moved/f", F_OK));
}

TEST(renameat2_flags)
{
	write_file("a", "A");
	write_file("b", "B");
	ERR(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", RENAME_NOREPLACE), EEXIST);
	OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "b", RENAME_EXCHANGE));
	CHECK_STR(read_file("a"), "B");
	CHECK_STR(read_file("b"), "A");
	OK(syscall(SYS_renameat2, AT_FDCWD, "a", AT_FDCWD, "c", RENAME_NOREPLACE));
	ERR(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "none", RENAME_EXCHANGE), ENOENT);
	ERR(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c",
		    RENAME_EXCHANGE | RENAME_NOREPLACE), EINVAL);
	ERR(syscall(SYS_renameat2, AT_FDCWD, "b", AT_FDCWD, "c", 0x100), EINVAL);
}

TEST(rename_exchange_dir_and_file)
{
	struct stat st;

	OK(mkdir("d", 0755));
	write_file("f", "x");
	OK(syscall(SYS_renameat2, AT_FDCWD, "d", AT_FDCWD, "f", RENAME_EXCHANGE));
	OK(stat("f", &st));
	CHECK(S_ISDIR(st.st_mode));
}

static int count_entries(const char *path, bool *ret_sorted_unique)
{
	DIR *dir = opendir(path);
	struct dirent *entry;
	int count = 0;
	static char seen[2000];

	CHECK(dir);
	memset(seen, 0, sizeof(seen));
	*ret_sorted_unique = true;
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == 'f') {
			int n = atoi(entry->d_name + 1);
			if (seen[n]++)
				*ret_sorted_unique = false;
			CHECK(entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN);
		}
		count++;
	}
	closedir(dir);
	return count;
}

TEST(getdents_many)
{
	char name[32];
	bool unique;

	OK(mkdir("d", 0755));
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		close(OK(open(name, O_WRONLY | O_CREAT, 0644)));
	}
	CHECK_EQ(count_entries("d", &unique), 502);
	CHECK(unique);
	for (int i = 0; i < 500; i += 2) {
		snprintf(name, sizeof(name), "d/f%d", i);
		OK(unlink(name));
	}
	CHECK_EQ(count_entries("d", &unique), 252);
}

TEST(getdents_while_removing)
{
	char name[300];
	struct dirent *entry;
	int removed = 0;

	OK(mkdir("d", 0755));
	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "d/f%d", i);
		close(OK(open(name, O_WRONLY | O_CREAT, 0644)));
	}
	DIR *dir = opendir("d");
	CHECK(dir);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] != 'f')
			continue;
		snprintf(name, sizeof(name), "d/%s", entry->d_name);
		OK(unlink(name));
		removed++;
	}
	closedir(dir);
	CHECK_EQ(removed, 300);
	OK(rmdir("d"));
}

TEST(getdents_errors_and_rewind)
{
	char buf[4096];
	int file = OK(open("f", O_RDWR | O_CREAT, 0644));
	int dir = OK(open(".", O_RDONLY));

	ERR(syscall(SYS_getdents64, file, buf, sizeof(buf)), ENOTDIR);
	ERR(syscall(SYS_getdents64, dir, buf, 8), EINVAL);
	ERR(syscall(SYS_getdents64, 99, buf, sizeof(buf)), EBADF);
	long first = OK(syscall(SYS_getdents64, dir, buf, sizeof(buf)));
	CHECK(first > 0);
	CHECK_EQ(syscall(SYS_getdents64, dir, buf, sizeof(buf)), 0);
	CHECK_EQ(lseek(dir, 0, SEEK_SET), 0);
	CHECK_EQ(syscall(SYS_getdents64, dir, buf, sizeof(buf)), first);
}

TEST(getdents_seekdir)
{
	char name[16], first[256];

	for (int i = 0; i < 20; i++) {
		snprintf(name, sizeof(name), "f%d", i);
		close(OK(open(name, O_WRONLY | O_CREAT, 0644)));
	}
	DIR *dir = opendir(".");
	for (int i = 0; i < 5; i++)
		CHECK(readdir(dir));
	long at = telldir(dir);
	snprintf(first, sizeof(first), "%s", readdir(dir)->d_name);
	while (readdir(dir))
		;
	seekdir(dir, at);
	CHECK_STR(readdir(dir)->d_name, first);
	closedir(dir);
}

TEST(removed_directory)
{
	char buf[256];

	OK(mkdir("d", 0755));
	OK(chdir("d"));
	OK(rmdir("../d"));
	ERR(open("f", O_WRONLY | O_CREAT, 0644), ENOENT);
	ERR(mkdir("e", 0755), ENOENT);
	errno = 0;
	CHECK(syscall(SYS_getcwd, buf, sizeof(buf)) == -1 && errno == ENOENT);
	int fd = OK(open(".", O_RDONLY));
	ERR(syscall(SYS_getdents64, fd, buf, sizeof(buf)), ENOENT);
}

TEST(getcwd_size)
{
	char buf[4096];

	OK(chdir("/"));
	CHECK_EQ(syscall(SYS_getcwd, buf, sizeof(buf)), 2);
	CHECK_STR(buf, "/");
	OK(chdir("/dev/../tmp"));
	CHECK(getcwd(buf, sizeof(buf)));
	CHECK_STR(buf, "/tmp");
	ERR(syscall(SYS_getcwd, buf, 2), ERANGE);
	ERR(chdir("/none"), ENOENT);
	ERR(chdir("/dev/null"), ENOTDIR);
	OK(chdir("/.."));
	CHECK(getcwd(buf, sizeof(buf)));
	CHECK_STR(buf, "/");
}

TEST(mknod_kinds)
{
	struct stat st;

	OK(mknod("fifo", S_IFIFO | 0640, 0));
	OK(stat("fifo", &st));
	CHECK(S_ISFIFO(st.st_mode));
	CHECK_EQ(st.st_mode & 0777, 0640);
	OK(mknod("reg", 0600, 0));
	OK(stat("reg", &st));
	CHECK(S_ISREG(st.st_mode));
	ERR(mknod("fifo", S_IFIFO | 0640, 0), EEXIST);
	ERR(mknod("dir", S_IFDIR | 0755, 0), EPERM);
	ERR(mknod("bad", 0170000, 0), EINVAL);
}

TEST(at_calls)
{
	struct stat st;
	char buf[16] = "";

	OK(mkdir("d", 0755));
	int dir = OK(open("d", O_RDONLY | O_DIRECTORY));
	OK(mkdirat(dir, "sub", 0755));
	OK(symlinkat("sub", dir, "l"));
	CHECK_EQ(readlinkat(dir, "l", buf, sizeof(buf)), 3);
	OK(fstatat(dir, "l", &st, AT_SYMLINK_NOFOLLOW));
	CHECK(S_ISLNK(st.st_mode));
	OK(fstatat(dir, "l", &st, 0));
	CHECK(S_ISDIR(st.st_mode));
	OK(fstatat(dir, "", &st, AT_EMPTY_PATH));
	ERR(fstatat(dir, "", &st, 0), ENOENT);
	ERR(fstatat(dir, "l", &st, 0x40000000), EINVAL);
	OK(renameat(dir, "l", AT_FDCWD, "l2"));
	OK(unlinkat(dir, "sub", AT_REMOVEDIR));
	ERR(mkdirat(-5, "x", 0755), EBADF);
	OK(mknodat(dir, "p", S_IFIFO | 0600, 0));
	OK(faccessat(dir, "p", F_OK, 0));
}

TEST(deep_tree)
{
	char path[4096];

	for (int i = 0; i < 100; i++) {
		OK(mkdir("a_directory", 0755));
		OK(chdir("a_directory"));
	}
	CHECK(getcwd(path, sizeof(path)));
	CHECK(strlen(path) > 1200);
	write_file("f", "deep");
	int fd = OK(open(path, O_RDONLY | O_DIRECTORY));
	CHECK(fd >= 0);
	for (int i = 0; i < 100; i++)
		OK(chdir(".."));
	OK(access("a_directory/a_directory", F_OK));
}

TEST(sticky_directory)
{
	OK(mkdir("d", 01777));
	OK(chmod("d", 01777));
	write_file("d/rootfile", "x");
	CHILD(pid)
	{
		become_user(1000);
		ERR(unlink("d/rootfile"), EPERM);
		ERR(rename("d/rootfile", "d/other"), EPERM);
		write_file("d/mine", "y");
		OK(unlink("d/mine"));
	}
	WAIT_EXIT(pid, 0);
}
