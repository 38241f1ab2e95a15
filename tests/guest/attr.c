/* Attributes: stat, statx, statfs, times, modes, owners, access, extended attributes. */
#include "tests/lib/guest.h"

#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <utime.h>

TEST(stat_fields)
{
	struct stat st;

	write_file("f", "12345");
	OK(stat("f", &st));
	CHECK_EQ(st.st_size, 5);
	CHECK_EQ(st.st_nlink, 1);
	CHECK_EQ(st.st_uid, 0);
	CHECK(st.st_ino != 0);
	CHECK(st.st_blksize >= 512);
	CHECK(llabs(st.st_mtime - time(NULL)) < 10);
	ERR(stat("none", &st), ENOENT);
	ERR(fstat(99, &st), EBADF);
}

TEST(statx_fields)
{
	struct statx stx;
	struct stat st;

	write_file("f", "12345");
	OK(stat("f", &st));
	OK(statx(AT_FDCWD, "f", 0, STATX_BASIC_STATS | STATX_BTIME, &stx));
	CHECK_EQ(stx.stx_mask & STATX_BASIC_STATS, STATX_BASIC_STATS);
	CHECK_EQ(stx.stx_size, 5);
	CHECK_EQ(stx.stx_ino, st.st_ino);
	CHECK_EQ(stx.stx_mtime.tv_sec, st.st_mtim.tv_sec);
	CHECK_EQ(stx.stx_mtime.tv_nsec, st.st_mtim.tv_nsec);
	ERR(statx(AT_FDCWD, "f", 0x40000000, STATX_SIZE, &stx), EINVAL);
	ERR(statx(AT_FDCWD, "f", AT_STATX_SYNC_TYPE, STATX_SIZE, &stx), EINVAL);
	ERR(statx(AT_FDCWD, "f", 0, 0x80000000u, &stx), EINVAL);
	ERR(statx(AT_FDCWD, "f", 0, STATX_SIZE, BAD_PTR), EFAULT);
	int fd = OK(open("f", O_RDONLY));
	OK(statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &stx));
	CHECK_EQ(stx.stx_size, 5);
}

TEST(statfs_answers)
{
	struct statfs fs;
	struct statvfs vfs;

	OK(statfs(".", &fs));
	CHECK(fs.f_bsize > 0);
	CHECK_EQ(fs.f_namelen, 255);
	OK(statvfs(".", &vfs));
	OK(statfs("/proc", &fs));
	CHECK_EQ(fs.f_type, 0x9fa0);
	OK(statfs("/tmp", &fs));
	CHECK_EQ(fs.f_type, 0x01021994);
	int fd = OK(open("/dev/null", O_RDONLY));
	OK(fstatfs(fd, &fs));
	ERR(statfs("none", &fs), ENOENT);
}

TEST(utimens_sets_exact_times)
{
	struct timespec times[2] = { { 1000000000, 123456789 }, { 1500000000, 987654321 } };
	struct stat st;

	write_file("f", "x");
	OK(utimensat(AT_FDCWD, "f", times, 0));
	OK(stat("f", &st));
	CHECK_EQ(st.st_atim.tv_sec, 1000000000);
	CHECK_EQ(st.st_atim.tv_nsec, 123456789);
	CHECK_EQ(st.st_mtim.tv_sec, 1500000000);
	CHECK_EQ(st.st_mtim.tv_nsec, 987654321);
	CHECK(llabs(st.st_ctime - time(NULL)) < 10);
	times[0].tv_nsec = UTIME_OMIT;
	times[1].tv_nsec = UTIME_NOW;
	OK(utimensat(AT_FDCWD, "f", times, 0));
	OK(stat("f", &st));
	CHECK_EQ(st.st_atim.tv_sec, 1000000000);
	CHECK(llabs(st.st_mtime - time(NULL)) < 10);
	times[0].tv_nsec = 1000000000;
	ERR(utimensat(AT_FDCWD, "f", times, 0), EINVAL);
}

TEST(utimens_symlink_and_fd)
{
	struct timespec times[2] = { { 1000, 0 }, { 2000, 0 } };
	struct stat st;

	write_file("f", "x");
	OK(symlink("f", "l"));
	OK(utimensat(AT_FDCWD, "l", times, AT_SYMLINK_NOFOLLOW));
	OK(lstat("l", &st));
	CHECK_EQ(st.st_mtime, 2000);
	OK(stat("f", &st));
	CHECK(st.st_mtime != 2000);
	int fd = OK(open("f", O_RDONLY));
	OK(futimens(fd, times));
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_mtime, 2000);
	OK(utime("f", &(struct utimbuf){ 5, 6 }));
	OK(stat("f", &st));
	CHECK_EQ(st.st_atime, 5);
}

TEST(times_follow_writes)
{
	struct stat before, after;

	write_file("f", "x");
	OK(utimensat(AT_FDCWD, "f", (struct timespec[2]){ { 1000, 0 }, { 1000, 0 } }, 0));
	OK(stat("f", &before));
	int fd = OK(open("f", O_RDWR));
	CHECK_EQ(write(fd, "y", 1), 1);
	OK(fstat(fd, &after));
	CHECK(after.st_mtime > 1000);
	OK(utimensat(AT_FDCWD, ".", (struct timespec[2]){ { 1000, 0 }, { 1000, 0 } }, 0));
	write_file("g", "x");
	OK(stat(".", &after));
	CHECK(after.st_mtime > 1000);
}

TEST(chmod_variants)
{
	struct stat st;

	write_file("f", "x");
	OK(chmod("f", 04751));
	OK(stat("f", &st));
	CHECK_EQ(st.st_mode & 07777, 04751);
	int fd = OK(open("f", O_RDONLY));
	OK(fchmod(fd, 0600));
	OK(stat("f", &st));
	CHECK_EQ(st.st_mode & 07777, 0600);
	OK(fchmodat(AT_FDCWD, "f", 0444, 0));
	CHECK(open("f", O_RDWR) >= 0);
	ERR(chmod("none", 0600), ENOENT);
	CHILD(pid)
	{
		become_user(1000);
		ERR(chmod("f", 0777), EPERM);
	}
	WAIT_EXIT(pid, 0);
}

TEST(chown_clears_setid)
{
	struct stat st;

	write_file("f", "x");
	OK(chmod("f", 06755));
	OK(chown("f", 1000, 1001));
	OK(stat("f", &st));
	CHECK_EQ(st.st_uid, 1000);
	CHECK_EQ(st.st_gid, 1001);
	CHECK_EQ(st.st_mode & 07777, 0755);
	OK(chown("f", (uid_t)-1, 5));
	OK(stat("f", &st));
	CHECK_EQ(st.st_uid, 1000);
	CHECK_EQ(st.st_gid, 5);
	OK(symlink("f", "l"));
	OK(lchown("l", 7, 7));
	OK(lstat("l", &st));
	CHECK_EQ(st.st_uid, 7);
	CHILD(pid)
	{
		become_user(1000);
		ERR(chown("f", 1001, (gid_t)-1), EPERM);
		ERR(chown("f", (uid_t)-1, 1001), EPERM);
		OK(chown("f", (uid_t)-1, 1000));
	}
	WAIT_EXIT(pid, 0);
}

TEST(permission_checks)
{
	OK(mkdir("d", 0755));
	OK(chmod(".", 0755));
	write_file("d/f", "x");
	OK(chmod("d/f", 0640));
	write_file("d/g", "x");
	OK(chmod("d/g", 0604));
	OK(chown("d/g", 0, 1000));
	CHILD(pid)
	{
		become_user(1000);
		ERR(open("d/f", O_RDONLY), EACCES);
		ERR(open("d/g", O_RDONLY), EACCES);
		ERR(open("d/new", O_WRONLY | O_CREAT, 0644), EACCES);
		ERR(unlink("d/f"), EACCES);
		ERR(mkdir("d/x", 0755), EACCES);
		ERR(rename("d/f", "d/h"), EACCES);
		ERR(truncate("d/f", 0), EACCES);
	}
	WAIT_EXIT(pid, 0);
	OK(chmod("d", 0700));
	CHILD(second)
	{
		become_user(1000);
		ERR(open("d/f", O_RDONLY), EACCES);
		ERR(access("d/f", F_OK), EACCES);
		ERR(chdir("d"), EACCES);
	}
	WAIT_EXIT(second, 0);
}

TEST(access_modes)
{
	write_file("f", "x");
	OK(chmod("f", 0600));
	OK(access("f", R_OK | W_OK));
	ERR(access("f", X_OK), EACCES);
	OK(chmod("f", 0100));
	OK(access("f", X_OK | R_OK));
	ERR(access("none", F_OK), ENOENT);
	ERR(access("f", 8), EINVAL);
	OK(chmod("f", 0600));
	CHILD(pid)
	{
		OK(setresgid(1000, 0, 0));
		OK(setresuid(1000, 0, 0));
		ERR(access("f", R_OK), EACCES);
		OK(faccessat(AT_FDCWD, "f", R_OK, AT_EACCESS));
	}
	WAIT_EXIT(pid, 0);
}

TEST(setgid_directory_inherits)
{
	struct stat st;

	OK(mkdir("d", 0755));
	OK(chown("d", 0, 1001));
	OK(chmod("d", 02775));
	write_file("d/f", "x");
	OK(mkdir("d/sub", 0755));
	OK(stat("d/f", &st));
	CHECK_EQ(st.st_gid, 1001);
	OK(stat("d/sub", &st));
	CHECK_EQ(st.st_gid, 1001);
	CHECK(st.st_mode & S_ISGID);
}

TEST(write_clears_setuid)
{
	struct stat st;

	write_file("f", "x");
	OK(chown("f", 1000, 1000));
	OK(chmod("f", 06777));
	CHILD(pid)
	{
		become_user(1001);
		int fd = OK(open("f", O_WRONLY));
		CHECK_EQ(write(fd, "y", 1), 1);
	}
	WAIT_EXIT(pid, 0);
	OK(stat("f", &st));
	CHECK_EQ(st.st_mode & 07777, 0777);
}

TEST(xattr_user)
{
	char buf[64] = "";

	write_file("f", "x");
	if (setxattr("f", "user.one", "value", 5, 0) != 0 && errno == EOPNOTSUPP)
		test_skip("no user xattr here");
	CHECK_EQ(getxattr("f", "user.one", buf, sizeof(buf)), 5);
	CHECK_MEM(buf, "value", 5);
	CHECK_EQ(getxattr("f", "user.one", NULL, 0), 5);
	ERR(getxattr("f", "user.one", buf, 2), ERANGE);
	ERR(getxattr("f", "user.two", buf, 2), ENODATA);
	ERR(setxattr("f", "user.one", "v", 1, XATTR_CREATE), EEXIST);
	ERR(setxattr("f", "user.two", "v", 1, XATTR_REPLACE), ENODATA);
	CHECK_EQ(listxattr("f", buf, sizeof(buf)), 9);
	CHECK_STR(buf, "user.one");
	OK(removexattr("f", "user.one"));
	ERR(removexattr("f", "user.one"), ENODATA);
	CHECK_EQ(listxattr("f", buf, sizeof(buf)), 0);
}

TEST(xattr_errors)
{
	char name[300];

	write_file("f", "x");
	ERR(setxattr("f", "nope", "v", 1, 0), EOPNOTSUPP);
	ERR(setxattr("f", "bad.one", "v", 1, 0), EOPNOTSUPP);
	ERR(setxattr("f", "user.x", "v", 1, 8), EINVAL);
	ERR(setxattr("none", "user.x", "v", 1, 0), ENOENT);
	memset(name, 'a', sizeof(name));
	memcpy(name, "user.", 5);
	name[299] = '\0';
	ERR(setxattr("f", name, "v", 1, 0), ERANGE);
	OK(symlink("f", "l"));
	ERR(lsetxattr("l", "user.x", "v", 1, 0), EPERM);
	CHILD(pid)
	{
		become_user(1000);
		ERR(setxattr("f", "trusted.x", "v", 1, 0), EPERM);
	}
	WAIT_EXIT(pid, 0);
}

TEST(inode_numbers_stable)
{
	struct stat a, b;

	write_file("f", "x");
	OK(stat("f", &a));
	OK(rename("f", "g"));
	OK(stat("g", &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	int fd = OK(open("g", O_RDONLY));
	OK(fstat(fd, &a));
	CHECK_EQ(a.st_ino, b.st_ino);
	CHECK_EQ(a.st_dev, b.st_dev);
}
