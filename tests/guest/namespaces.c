/* Namespaces: user, pid, uts, ipc, mount, net; unshare, setns, /proc/self/ns. */
#include "tests/lib/guest.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/utsname.h>
#include <net/if.h>

static void link_of(const char *name, char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/ns/%s", name);
	ssize_t got = OK(readlink(path, text, size - 1));
	text[got] = '\0';
}

TEST(links)
{
	static const char *const names[] = { "user", "pid", "uts", "ipc", "mnt", "net" };
	char text[64], start[16];

	for (size_t i = 0; i < COUNT(names); i++) {
		link_of(names[i], text, sizeof(text));
		snprintf(start, sizeof(start), "%s:[", names[i]);
		CHECK(strncmp(text, start, strlen(start)) == 0);
	}
}

TEST(uts)
{
	struct utsname before, after;
	char a[64], b[64];

	OK(uname(&before));
	CHILD(pid)
	{
		link_of("uts", a, sizeof(a));
		OK(unshare(CLONE_NEWUTS));
		link_of("uts", b, sizeof(b));
		CHECK(strcmp(a, b) != 0);
		OK(sethostname("inner", 5));
		OK(setdomainname("dom", 3));
		OK(uname(&after));
		CHECK_STR(after.nodename, "inner");
		CHECK_STR(after.domainname, "dom");
	}
	WAIT_EXIT(pid, 0);
	OK(uname(&after));
	CHECK_STR(after.nodename, before.nodename);
	ERR(sethostname("x", 65), EINVAL);
	ERR(sethostname(BAD_PTR, 5), EFAULT);
}

TEST(setns_joins_again)
{
	struct utsname now;

	int before = OK(open("/proc/self/ns/uts", O_RDONLY));
	OK(unshare(CLONE_NEWUTS));
	OK(sethostname("other", 5));
	ERR(setns(before, CLONE_NEWIPC), EINVAL);
	OK(setns(before, CLONE_NEWUTS));
	OK(uname(&now));
	CHECK(strcmp(now.nodename, "other") != 0);
	ERR(setns(0, 0), EINVAL);
	ERR(setns(999, 0), EBADF);
}

TEST(pid_namespace)
{
	int status;

	CHILD(pid)
	{
		OK(unshare(CLONE_NEWPID));
		CHECK(getpid() != 1);
		pid_t init = OK(fork());
		if (init == 0) {
			CHECK_EQ(getpid(), 1);
			CHECK_EQ(getppid(), 0);
			CHILD(inner)
			{
				CHECK_EQ(getpid(), 2);
				CHECK_EQ(getppid(), 1);
				ERR(kill(999, 0), ESRCH);
			}
			WAIT_EXIT(inner, 0);
			CHILD(orphaned)
			{
				sleep(100);
			}
			_exit(orphaned == 3 ? 0 : 1);
		}
		CHECK_EQ(waitpid(init, &status, 0), init);
		CHECK_EQ(status, 0);
		ERR(fork(), ENOMEM);
	}
	WAIT_EXIT(pid, 0);
}

TEST(pid_namespace_init_ignores_signals)
{
	CHILD(pid)
	{
		OK(unshare(CLONE_NEWPID));
		pid_t init = OK(fork());
		if (init == 0) {
			CHILD(inner)
			{
				kill(1, SIGTERM);
				kill(1, SIGKILL);
			}
			WAIT_EXIT(inner, 0);
			_exit(3);
		}
		WAIT_EXIT(init, 3);
	}
	WAIT_EXIT(pid, 0);
	CHILD(second)
	{
		OK(unshare(CLONE_NEWPID));
		pid_t init = OK(fork());
		if (init == 0)
			for (;;)
				pause();
		kill(init, SIGTERM);
		msleep(20);
		CHECK_EQ(waitpid(init, NULL, WNOHANG), 0);
		kill(init, SIGKILL);
		WAIT_SIGNAL(init, SIGKILL);
	}
	WAIT_EXIT(second, 0);
}

TEST(ipc_namespace)
{
	int queue = OK(msgget(0x1234, IPC_CREAT | 0600));

	CHILD(pid)
	{
		OK(unshare(CLONE_NEWIPC));
		ERR(msgget(0x1234, 0), ENOENT);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(msgget(0x1234, 0), queue);
	OK(msgctl(queue, IPC_RMID, NULL));
}

TEST(mount_namespace)
{
	OK(mkdir("d", 0755));
	CHILD(pid)
	{
		OK(unshare(CLONE_NEWNS));
		OK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL));
		OK(mount("tmpfs", "d", "tmpfs", 0, NULL));
		write_file("d/inside", "x");
	}
	WAIT_EXIT(pid, 0);
	ERR(access("d/inside", F_OK), ENOENT);
}

TEST(net_namespace)
{
	CHILD(pid)
	{
		OK(unshare(CLONE_NEWNET));
		CHECK_EQ(if_nametoindex("lo"), 1);
		int fd = OK(socket(AF_UNIX, SOCK_STREAM, 0));
		close(fd);
	}
	WAIT_EXIT(pid, 0);
}

TEST(user_namespace)
{
	CHILD(pid)
	{
		become_user(1000);
		OK(prctl(PR_SET_DUMPABLE, 1));
		OK(unshare(CLONE_NEWUSER));
		CHECK_EQ(getuid(), 65534);
		int fd = OK(open("/proc/self/setgroups", O_WRONLY));
		CHECK_EQ(write(fd, "deny", 4), 4);
		write_file("/proc/self/uid_map", "0 1000 1\n");
		write_file("/proc/self/gid_map", "0 1000 1\n");
		CHECK_EQ(getuid(), 0);
		CHECK_EQ(getgid(), 0);
		OK(unshare(CLONE_NEWUTS));
		OK(sethostname("mine", 4));
		ERR(setuid(5), EINVAL);
		struct stat st;
		OK(stat("/", &st));
		CHECK_EQ(st.st_uid, 65534);
		char *map = read_file("/proc/self/uid_map");
		CHECK_STR(map, "         0       1000          1\n");
	}
	WAIT_EXIT(pid, 0);
}

TEST(user_namespace_limits)
{
	CHILD(pid)
	{
		become_user(1000);
		ERR(unshare(CLONE_NEWUTS), EPERM);
		ERR(unshare(CLONE_NEWNS), EPERM);
		OK(unshare(CLONE_NEWUSER | CLONE_NEWUTS));
		OK(sethostname("mine", 4));
	}
	WAIT_EXIT(pid, 0);
	ERR(unshare(0x00000001), EINVAL);
	OK(unshare(0));
}

static int child_in_namespaces(void *arg)
{
	(void)arg;
	return getpid() == 1 && sethostname("new", 3) == 0 ? 0 : 1;
}

TEST(clone_with_namespaces)
{
	static char stack[65536] __attribute__((aligned(16)));
	struct utsname now;
	pid_t pid = OK(clone(child_in_namespaces, stack + sizeof(stack),
			     CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNS | SIGCHLD, NULL));

	WAIT_EXIT(pid, 0);
	OK(uname(&now));
	CHECK(strcmp(now.nodename, "new") != 0);
}

/* The root and the working directory are both let go of, time and again. */
TEST(setns_into_mounts_again_and_again)
{
	int fd = OK(open("/proc/self/ns/mnt", O_RDONLY));

	for (int i = 0; i < 20; i++) {
		CHILD(pid) {
			OK(unshare(CLONE_NEWNS));
			int own = OK(open("/proc/self/ns/mnt", O_RDONLY));

			OK(setns(fd, CLONE_NEWNS));
			OK(chdir("/proc"));
			OK(setns(own, 0));
			OK(chroot("/proc"));
			OK(setns(own, CLONE_NEWNS));
			OK(access("/proc/self", F_OK));
		}
		WAIT_EXIT(pid, 0);
	}
	OK(access("/proc/self", F_OK));
}
