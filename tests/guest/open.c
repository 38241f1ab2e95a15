/* open and its flags, descriptors, umask. */
#include "tests/lib/guest.h"

#include <linux/openat2.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

TEST(creat_excl)
{
	int fd = OK(open("f", O_RDWR | O_CREAT | O_EXCL, 0640));
	struct stat st;

	OK(fstat(fd, &st));
	CHECK_EQ(st.st_mode, S_IFREG | 0640);
	CHECK_EQ(st.st_size, 0);
	ERR(open("f", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
	OK(symlink("nowhere", "link"));
	ERR(open("link", O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
}

TEST(creat_through_dangling_symlink)
{
	OK(symlink("target", "link"));
	int fd = OK(open("link", O_WRONLY | O_CREAT, 0600));
	struct stat st;

	OK(fstat(fd, &st));
	OK(lstat("target", &st));
	CHECK(S_ISREG(st.st_mode));
}

TEST(truncates)
{
	struct stat st;

	write_file("f", "hello");
	close(OK(open("f", O_WRONLY | O_TRUNC)));
	OK(stat("f", &st));
	CHECK_EQ(st.st_size, 0);
}

TEST(append_writes_at_end)
{
	write_file("f", "one");
	int fd = OK(open("f", O_RDWR | O_APPEND));
	int other = OK(open("f", O_WRONLY | O_APPEND));

	CHECK_EQ(write(other, "two", 3), 3);
	OK(lseek(fd, 0, SEEK_SET));
	CHECK_EQ(write(fd, "three", 5), 5);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 11);
	CHECK_EQ(pwrite(fd, "four", 4, 0), 4);
	CHECK_STR(read_file("f"), "onetwothreefour");
}

TEST(access_mode_is_kept)
{
	char byte;

	write_file("f", "x");
	int fd = OK(open("f", O_RDONLY));
	ERR(write(fd, "y", 1), EBADF);
	ERR(ftruncate(fd, 0), EINVAL);
	close(fd);
	fd = OK(open("f", O_WRONLY));
	ERR(read(fd, &byte, 1), EBADF);
}

TEST(directory_errors)
{
	OK(mkdir("d", 0755));
	write_file("f", "x");
	ERR(open("d", O_WRONLY), EISDIR);
	ERR(open("d", O_RDONLY | O_CREAT, 0644), EISDIR);
	ERR(open("f", O_RDONLY | O_DIRECTORY), ENOTDIR);
	ERR(open("f/x", O_RDONLY), ENOTDIR);
	ERR(open("f/", O_RDONLY), ENOTDIR);
	ERR(open("none", O_RDONLY), ENOENT);
	ERR(open("none/f", O_WRONLY | O_CREAT, 0644), ENOENT);
	ERR(open("", O_RDONLY), ENOENT);
	int fd = OK(open("d", O_RDONLY | O_DIRECTORY));
	char byte;
	ERR(read(fd, &byte, 1), EISDIR);
}

TEST(nofollow_and_loops)
{
	write_file("f", "x");
	OK(symlink("f", "link"));
	OK(symlink("b", "a"));
	OK(symlink("a", "b"));
	ERR(open("link", O_RDONLY | O_NOFOLLOW), ELOOP);
	ERR(open("a", O_RDONLY), ELOOP);
	int fd = OK(open("link", O_PATH | O_NOFOLLOW));
	struct stat st;
	OK(fstat(fd, &st));
	CHECK(S_ISLNK(st.st_mode));
	close(OK(open("link", O_RDONLY)));
}

TEST(long_symlink_chains)
{
	char from[16], to[16];

	write_file("l0", "x");
	for (int i = 1; i <= 41; i++) {
		snprintf(from, sizeof(from), "l%d", i - 1);
		snprintf(to, sizeof(to), "l%d", i);
		OK(symlink(from, to));
	}
	/* Linux itself counts links twice when a walk is repeated: 40 pass only mostly. */
	close(OK(open("l20", O_RDONLY)));
	ERR(open("l41", O_RDONLY), ELOOP);
}

TEST(long_names)
{
	char name[300], path[5000];

	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	close(OK(open(name, O_WRONLY | O_CREAT, 0644)));
	name[255] = 'n';
	name[256] = '\0';
	ERR(open(name, O_WRONLY | O_CREAT, 0644), ENAMETOOLONG);
	memset(path, '/', sizeof(path));
	path[4095] = '\0';
	close(OK(open(path, O_RDONLY)));
	path[4095] = '/';
	path[4096] = '\0';
	ERR(open(path, O_RDONLY), ENAMETOOLONG);
}

TEST(tmpfile_and_linkat)
{
	char path[64], link[64];
	int fd = open(".", O_RDWR | O_TMPFILE, 0600);
	struct stat st;

	if (fd < 0 && errno == EOPNOTSUPP)
		test_skip("O_TMPFILE");
	CHECK(fd >= 0);
	CHECK_EQ(write(fd, "data", 4), 4);
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_nlink, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	CHECK(readlink(path, link, sizeof(link)) > 0);
	OK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW));
	CHECK_STR(read_file("named"), "data");
	ERR(open(".", O_RDONLY | O_TMPFILE, 0600), EINVAL);
}

TEST(o_path)
{
	char byte;

	write_file("f", "x");
	int fd = OK(open("f", O_PATH));
	ERR(read(fd, &byte, 1), EBADF);
	ERR(write(fd, &byte, 1), EBADF);
	ERR(fchmod(fd, 0600), EBADF);
	ERR(ioctl(fd, 0, 0), EBADF);
	struct stat st;
	OK(fstat(fd, &st));
	CHECK_EQ(fcntl(fd, F_GETFL) & O_PATH, O_PATH);
	OK(mkdir("d", 0755));
	int dir = OK(open("d", O_PATH | O_DIRECTORY));
	close(OK(openat(dir, "inner", O_WRONLY | O_CREAT, 0644)));
	OK(fchdir(dir));
	OK(access("inner", F_OK));
}

TEST(openat_relative_and_bad)
{
	OK(mkdir("d", 0755));
	int dir = OK(open("d", O_RDONLY));
	int fd = OK(openat(dir, "f", O_RDWR | O_CREAT, 0644));

	OK(access("d/f", F_OK));
	ERR(openat(fd, "x", O_RDONLY), ENOTDIR);
	ERR(openat(999, "x", O_RDONLY), EBADF);
	close(OK(openat(999, "/dev/null", O_RDONLY)));
}

TEST(openat2_resolve)
{
	struct open_how how = { .flags = O_RDONLY };
	int dir;

	OK(mkdir("d", 0755));
	write_file("d/f", "x");
	OK(symlink("/dev/null", "d/abs"));
	OK(symlink("f", "d/rel"));
	dir = OK(open("d", O_RDONLY));
	close((int)OK(syscall(SYS_openat2, dir, "f", &how, sizeof(how))));
	how.resolve = RESOLVE_BENEATH;
	ERR(syscall(SYS_openat2, dir, "../d/f", &how, sizeof(how)), EXDEV);
	ERR(syscall(SYS_openat2, dir, "abs", &how, sizeof(how)), EXDEV);
	close((int)OK(syscall(SYS_openat2, dir, "rel", &how, sizeof(how))));
	how.resolve = RESOLVE_NO_SYMLINKS;
	ERR(syscall(SYS_openat2, dir, "rel", &how, sizeof(how)), ELOOP);
	how.resolve = RESOLVE_IN_ROOT;
	close((int)OK(syscall(SYS_openat2, dir, "/f", &how, sizeof(how))));
	how.resolve = 0x8000;
	ERR(syscall(SYS_openat2, dir, "f", &how, sizeof(how)), EINVAL);
	how.resolve = 0;
	ERR(syscall(SYS_openat2, dir, "f", &how, 8), EINVAL);
}

TEST(lowest_descriptor)
{
	int a = OK(open("/dev/null", O_RDONLY)), b = OK(open("/dev/null", O_RDONLY));

	close(a);
	CHECK_EQ(open("/dev/null", O_RDONLY), a);
	CHECK_EQ(fcntl(b, F_DUPFD, 100), 100);
	CHECK_EQ(dup(b), b + 1);
	ERR(close(500), EBADF);
}

TEST(dup_shares_position_and_not_cloexec)
{
	write_file("f", "abcdef");
	int fd = OK(open("f", O_RDONLY | O_CLOEXEC)), copy = OK(dup(fd));
	char byte;

	CHECK_EQ(read(fd, &byte, 1), 1);
	CHECK_EQ(read(copy, &byte, 1), 1);
	CHECK_EQ(byte, 'b');
	CHECK_EQ(fcntl(copy, F_GETFD), 0);
	CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
	CHECK_EQ(dup2(fd, fd), fd);
	CHECK_EQ(dup2(fd, 77), 77);
	ERR(dup3(fd, fd, 0), EINVAL);
	ERR(dup3(fd, 78, O_NONBLOCK), EINVAL);
	CHECK_EQ(dup3(fd, 78, O_CLOEXEC), 78);
	CHECK_EQ(fcntl(78, F_GETFD), FD_CLOEXEC);
	ERR(dup2(fd, -1), EBADF);
	ERR(dup2(400, 5), EBADF);
	ERR(fcntl(fd, F_DUPFD, -1), EINVAL);
}

TEST(setfl_changes_only_status_flags)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK | O_WRONLY | O_TRUNC));
	CHECK_EQ(fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK | O_TRUNC),
		 O_RDWR | O_APPEND | O_NONBLOCK);
	ERR(fcntl(fd, 9999, 0), EINVAL);
}

TEST(umask_applies)
{
	struct stat st;

	CHECK_EQ(umask(027), 022);
	close(OK(open("f", O_WRONLY | O_CREAT, 0777)));
	OK(mkdir("d", 0777));
	OK(stat("f", &st));
	CHECK_EQ(st.st_mode & 07777, 0750);
	OK(stat("d", &st));
	CHECK_EQ(st.st_mode & 07777, 0750);
	CHECK_EQ(umask(0), 027);
}

TEST(close_range_flags)
{
	for (int fd = 20; fd < 30; fd++)
		OK(dup2(1, fd));
	OK(syscall(SYS_close_range, 20, 24, 0));
	ERR(fcntl(22, F_GETFD), EBADF);
	OK(fcntl(25, F_GETFD));
	OK(syscall(SYS_close_range, 25, 29, 4 /* CLOSE_RANGE_CLOEXEC */));
	CHECK_EQ(fcntl(29, F_GETFD), FD_CLOEXEC);
	ERR(syscall(SYS_close_range, 30, 20, 0), EINVAL);
	ERR(syscall(SYS_close_range, 20, 30, 0x80), EINVAL);
}

TEST(nofile_limit)
{
	struct rlimit { unsigned long cur, max; } lim = { 30, 4096 };
	int fd;

	OK(syscall(SYS_prlimit64, 0, 7, &lim, NULL));
	while ((fd = open("/dev/null", O_RDONLY)) >= 0)
		CHECK(fd < 30);
	CHECK_EQ(errno, EMFILE);
	ERR(fcntl(0, F_DUPFD, 30), EINVAL);
	ERR(dup2(0, 30), EBADF);
	ERR(pipe((int[2]){ 0, 0 }), EMFILE);
}

TEST(unlinked_file_lives_on)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
	struct stat st;
	char buf[5] = "";

	CHECK_EQ(write(fd, "data", 4), 4);
	OK(unlink("f"));
	ERR(access("f", F_OK), ENOENT);
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_nlink, 0);
	CHECK_EQ(pread(fd, buf, 4, 0), 4);
	CHECK_STR(buf, "data");
}

TEST(device_nodes_work)
{
	char buf[16];
	struct stat st;
	int fd = OK(open("/dev/zero", O_RDWR));

	memset(buf, 1, sizeof(buf));
	CHECK_EQ(read(fd, buf, sizeof(buf)), sizeof(buf));
	CHECK_EQ(buf[7], 0);
	OK(fstat(fd, &st));
	CHECK(S_ISCHR(st.st_mode));
	CHECK_EQ(major(st.st_rdev), 1);
	CHECK_EQ(minor(st.st_rdev), 5);
	fd = OK(open("/dev/full", O_RDWR));
	ERR(write(fd, "x", 1), ENOSPC);
	fd = OK(open("/dev/null", O_RDWR));
	CHECK_EQ(read(fd, buf, 4), 0);
	CHECK_EQ(write(fd, "abcd", 4), 4);
	fd = OK(open("/dev/urandom", O_RDONLY));
	CHECK_EQ(read(fd, buf, 16), 16);
}
