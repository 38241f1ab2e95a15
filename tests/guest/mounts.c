/* mount, umount, pivot_root, chroot. Each case in a mount namespace of its own. */
#include "tests/lib/guest.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

static void setup(void)
{
	OK(unshare(CLONE_NEWNS));
	OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
	OK(mkdir("m", 0755));
	OK(mkdir("n", 0755));
}

TEST(tmpfs_with_options)
{
	struct stat st;
	struct statvfs fs;

	setup();
	OK(mount("source", "m", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0700,uid=5,gid=6"));
	OK(stat("m", &st));
	CHECK_EQ(st.st_mode & 07777, 0700);
	CHECK_EQ(st.st_uid, 5);
	CHECK_EQ(st.st_gid, 6);
	OK(statvfs("m", &fs));
	CHECK(fs.f_flag & ST_NOSUID);
	CHECK_EQ(fs.f_blocks * fs.f_frsize, 65536);
	int fd = OK(open("m/f", O_RDWR | O_CREAT, 0644));
	static char buf[100000];
	CHECK_EQ(write(fd, buf, sizeof(buf)), 65536);
	ERR(write(fd, buf, 4096), ENOSPC);
	close(fd);
	OK(umount("m"));
	ERR(access("m/f", F_OK), ENOENT);
}

TEST(mount_errors)
{
	setup();
	ERR(mount("x", "none", "tmpfs", 0, NULL), ENOENT);
	ERR(mount("x", "m", "nosuchfs", 0, NULL), ENODEV);
	write_file("file", "x");
	ERR(mount("x", "file", "tmpfs", 0, NULL), ENOTDIR);
	ERR(mount("x", BAD_PTR, "tmpfs", 0, NULL), EFAULT);
	ERR(umount("m"), EINVAL);
	ERR(umount("none"), ENOENT);
	ERR(umount2("m", 0x100), EINVAL);
	ERR(mount("x", "m", "tmpfs", 0, "nonsense=1"), EINVAL);
	CHILD(pid)
	{
		become_user(1000);
		ERR(mount("x", "m", "tmpfs", 0, NULL), EPERM);
		ERR(umount("/proc"), EPERM);
		ERR(chroot("m"), EPERM);
	}
	WAIT_EXIT(pid, 0);
}

TEST(busy_and_detach)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	int fd = OK(open("m/f", O_RDWR | O_CREAT, 0644));
	ERR(umount("m"), EBUSY);
	OK(umount2("m", MNT_DETACH));
	ERR(access("m/f", F_OK), ENOENT);
	CHECK_EQ(write(fd, "x", 1), 1);
}

TEST(bind)
{
	struct stat a, b;

	setup();
	write_file("m/f", "bound");
	OK(mount("m", "n", NULL, MS_BIND, NULL));
	CHECK_STR(read_file("n/f"), "bound");
	OK(stat("m/f", &a));
	OK(stat("n/f", &b));
	CHECK_EQ(a.st_ino, b.st_ino);
	write_file("n/g", "x");
	OK(access("m/g", F_OK));
	ERR(rename("n/g", "m/h"), EXDEV);
	ERR(rmdir("n"), EBUSY);
	OK(umount("n"));
	ERR(access("n/f", F_OK), ENOENT);
}

TEST(bind_file)
{
	setup();
	write_file("a", "A");
	write_file("b", "B");
	OK(mount("a", "b", NULL, MS_BIND, NULL));
	CHECK_STR(read_file("b"), "A");
	ERR(mount("m", "b", NULL, MS_BIND, NULL), ENOTDIR);
	ERR(unlink("b"), EBUSY);
	OK(umount("b"));
	CHECK_STR(read_file("b"), "B");
}

TEST(read_only_remount)
{
	setup();
	OK(mount("m", "n", NULL, MS_BIND, NULL));
	OK(mount(NULL, "n", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL));
	ERR(open("n/f", O_WRONLY | O_CREAT, 0644), EROFS);
	ERR(mkdir("n/d", 0755), EROFS);
	write_file("m/f", "x");
	ERR(open("n/f", O_WRONLY), EROFS);
	ERR(chmod("n/f", 0600), EROFS);
	ERR(unlink("n/f"), EROFS);
	ERR(rename("n/f", "n/g"), EROFS);
	ERR(truncate("n/f", 0), EROFS);
	ERR(access("n/f", W_OK), EROFS);
	close(OK(open("n/f", O_RDONLY)));
	OK(mount(NULL, "n", NULL, MS_BIND | MS_REMOUNT, NULL));
	OK(unlink("n/f"));
}

TEST(noexec)
{
	setup();
	OK(mount("x", "m", "tmpfs", MS_NOEXEC, NULL));
	write_file("m/s", "#!/bin/sh\nexit 0\n");
	OK(chmod("m/s", 0755));
	ERR(execl("m/s", "s", NULL), EACCES);
	int fd = OK(open("m/s", O_RDONLY));
	ERR(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0), EPERM);
}

TEST(move)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	write_file("m/f", "moved");
	OK(mount("m", "n", NULL, MS_MOVE, NULL));
	CHECK_STR(read_file("n/f"), "moved");
	ERR(access("m/f", F_OK), ENOENT);
	ERR(mount("m", "n", NULL, MS_MOVE, NULL), EINVAL);
	OK(umount("n"));
}

TEST(an_unmounted_one_cannot_be_moved)
{
	setup();
	OK(mkdir("m/sub", 0755));
	OK(mount("y", "m/sub", "tmpfs", 0, NULL));
	int fd = OK(open("m/sub", O_PATH | O_DIRECTORY));
	OK(umount2("m/sub", MNT_DETACH));
	ERR(syscall(SYS_move_mount, fd, "", AT_FDCWD, "n", 4 /* MOVE_MOUNT_F_EMPTY_PATH */), EINVAL);
	int tree = OK(syscall(SYS_open_tree, AT_FDCWD, "m", 1 /* OPEN_TREE_CLONE */ | AT_RECURSIVE));
	OK(syscall(SYS_move_mount, tree, "", AT_FDCWD, "n", 4));
}

/* Mounts come and go in two groups of peers while other namespaces that have them end. */
TEST(peers_end_together)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	OK(mount(NULL, "m", NULL, MS_SHARED, NULL));
	OK(mount("m", "n", NULL, MS_BIND, NULL));
	OK(mkdir("m/sub", 0755));
	for (int child = 0; child < 4; child++) {
		CHILD(pid) {
			for (int i = 0; i < 60; i++) {
				CHILD(inner) {
					OK(unshare(CLONE_NEWNS));
					mount("y", i & 1 ? "m/sub" : "n/sub", "tmpfs", 0, NULL);
					umount2(i & 1 ? "n/sub" : "m/sub", MNT_DETACH);
				}
				WAIT_EXIT(inner, 0);
			}
		}
		if (child == 3)
			WAIT_EXIT(pid, 0);
	}
	while (wait(NULL) > 0)
		;
	while (umount2("m/sub", MNT_DETACH) == 0)
		;
	OK(umount2("n", MNT_DETACH));
}

TEST(stacked)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	write_file("m/first", "1");
	OK(mount("y", "m", "tmpfs", 0, NULL));
	ERR(access("m/first", F_OK), ENOENT);
	OK(umount("m"));
	CHECK_STR(read_file("m/first"), "1");
	OK(umount("m"));
}

TEST(recursive_bind)
{
	setup();
	OK(mkdir("m/sub", 0755));
	OK(mount("x", "m/sub", "tmpfs", 0, NULL));
	write_file("m/sub/f", "x");
	OK(mount("m", "n", NULL, MS_BIND, NULL));
	ERR(access("n/sub/f", F_OK), ENOENT);
	OK(umount("n"));
	OK(mount("m", "n", NULL, MS_BIND | MS_REC, NULL));
	OK(access("n/sub/f", F_OK));
	ERR(umount("n"), EBUSY);
	OK(umount2("n", MNT_DETACH));
}

TEST(propagation_shared)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	OK(mount(NULL, "m", NULL, MS_SHARED, NULL));
	OK(mount("m", "n", NULL, MS_BIND, NULL));
	OK(mkdir("m/sub", 0755));
	OK(mount("y", "m/sub", "tmpfs", 0, NULL));
	write_file("m/sub/f", "x");
	OK(access("n/sub/f", F_OK));
	OK(mount(NULL, "n", NULL, MS_SLAVE, NULL));
	OK(umount("n/sub"));
	OK(access("m/sub/f", F_OK));
	ERR(mount(NULL, "n", NULL, MS_SHARED | MS_PRIVATE, NULL), EINVAL);
}

TEST(chroot_confines)
{
	char cwd[64];

	setup();
	write_file("m/inside", "x");
	CHILD(pid)
	{
		OK(chroot("m"));
		OK(access("/inside", F_OK));
		OK(chdir("/"));
		OK(access("../../inside", F_OK));
		CHECK(getcwd(cwd, sizeof(cwd)));
		CHECK_STR(cwd, "/");
		ERR(access("/bin/busybox", F_OK), ENOENT);
	}
	WAIT_EXIT(pid, 0);
	write_file("file", "x");
	ERR(chroot("file"), ENOTDIR);
	ERR(chroot("none"), ENOENT);
}

TEST(pivot_root_switches)
{
	setup();
	OK(mount("x", "m", "tmpfs", 0, NULL));
	OK(mkdir("m/old", 0755));
	ERR(syscall(SYS_pivot_root, "n", "n"), EINVAL);
	OK(chdir("m"));
	OK(syscall(SYS_pivot_root, ".", "old"));
	OK(chdir("/"));
	OK(access("/old/bin/busybox", F_OK));
	OK(umount2("/old", MNT_DETACH));
	ERR(access("/old/bin/busybox", F_OK), ENOENT);
	OK(access("/old", F_OK));
}

TEST(mountinfo_shows)
{
	setup();
	OK(mount("some-source", "m", "tmpfs", MS_NOSUID, NULL));
	char *text = read_file("/proc/self/mountinfo");
	char *line = strstr(text, " - tmpfs some-source ");
	CHECK(line);
	while (line > text && line[-1] != '\n')
		line--;
	*strchr(line, '\n') = '\0';
	CHECK(strstr(line, "/m "));
	CHECK(strstr(line, "nosuid"));
	text = read_file("/proc/mounts");
	CHECK(strstr(text, "some-source "));
}

TEST(new_proc)
{
	setup();
	OK(mount("proc", "m", "proc", 0, NULL));
	char path[64], buf[16];
	snprintf(path, sizeof(path), "m/self");
	OK(readlink(path, buf, sizeof(buf)));
	OK(access("m/self/status", R_OK));
}

/* MS_RDONLY makes both the mount and its file system read-only, whatever is mounted; so it is until a remount. */
TEST(read_only_file_systems)
{
	static const char *const types[] = { "tmpfs", "sysfs" };
	struct statvfs fs;

	setup();
	for (unsigned i = 0; i < COUNT(types); i++) {
		OK(mount("x", "m", types[i], MS_RDONLY | MS_NOSUID, NULL));
		ERR(mkdir("m/dir", 0755), EROFS);
		ERR(open("m/file", O_WRONLY | O_CREAT, 0644), EROFS);
		OK(statvfs("m", &fs));
		CHECK(fs.f_flag & ST_RDONLY);
		CHECK(strstr(read_file("/proc/self/mountinfo"), "/m ro,nosuid,relatime - ") != NULL);
		OK(umount("m"));
	}
	OK(mount("x", "m", "tmpfs", MS_RDONLY, NULL));
	OK(mount("x", "m", "tmpfs", MS_REMOUNT, NULL));
	OK(mkdir("m/dir", 0755));
	OK(mount("x", "m", "tmpfs", MS_REMOUNT | MS_RDONLY, NULL));
	ERR(mkdir("m/other", 0755), EROFS);
	OK(mount(NULL, "m", NULL, MS_REMOUNT | MS_BIND, NULL)); /* of the mount alone */
	ERR(mkdir("m/other", 0755), EROFS);
}
