/*
 * hostbox ROOT [--bind HOST:DIR]... -- PROGRAM ARG...
 * Runs a guest program on the host kernel in the surroundings it finds in the sandbox: the same root,
 * as pid 1 of fresh namespaces with loopback up, a tmpfs on /tmp and few devices. Everything goes
 * away with the program; the host is untouched.
 */
#include <err.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static void do_mount(const char *source, const char *target, const char *type, unsigned long flags,
		     const char *data)
{
	mkdir(target, 0755);
	if (mount(source, target, type, flags, data) != 0)
		err(125, "mount %s on %s", source, target);
}

static void make_devices(void)
{
	static const struct {
		const char *path;
		unsigned int major, minor;
	} devices[] = { { "dev/null", 1, 3 },	{ "dev/zero", 1, 5 },	 { "dev/full", 1, 7 },
			{ "dev/random", 1, 8 }, { "dev/urandom", 1, 9 }, { "dev/tty", 5, 0 } };

	do_mount("tmpfs", "dev", "tmpfs", 0, "mode=755");
	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (mknod(devices[i].path, S_IFCHR | 0666, makedev(devices[i].major, devices[i].minor)))
			err(125, "mknod %s", devices[i].path);
	do_mount("devpts", "dev/pts", "devpts", 0, "newinstance,ptmxmode=0666,mode=620");
	do_mount("tmpfs", "dev/shm", "tmpfs", 0, "mode=1777");
	do_mount("mqueue", "dev/mqueue", "mqueue", 0, NULL);
	if (symlink("pts/ptmx", "dev/ptmx") || symlink("/proc/self/fd", "dev/fd") ||
	    symlink("/proc/self/fd/0", "dev/stdin") || symlink("/proc/self/fd/1", "dev/stdout"))
		err(125, "symlink");
}

static void loopback_up(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &ifr) != 0)
		err(125, "lo up");
	close(fd);
}

static void enter(const char *root, int argc, char **argv)
{
	umask(0);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
	    mount(root, root, NULL, MS_BIND | MS_REC, NULL) != 0)
		err(125, "bind %s", root);
	for (int i = 0; i + 1 < argc; i += 2) {
		char *colon = strchr(argv[i + 1], ':');
		char target[4096];

		if (strcmp(argv[i], "--bind") != 0 || !colon)
			errx(125, "usage: hostbox ROOT [--bind HOST:DIR]... -- PROGRAM ARG...");
		*colon = '\0';
		snprintf(target, sizeof(target), "%s%s", root, colon + 1);
		do_mount(argv[i + 1], target, NULL, MS_BIND, NULL);
	}
	if (chdir(root) != 0)
		err(125, "chdir %s", root);
	do_mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
	do_mount("sysfs", "sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL);
	do_mount("tmpfs", "tmp", "tmpfs", MS_NODEV, "mode=1777");
	make_devices();
	if (syscall(SYS_pivot_root, ".", ".") != 0 || umount2(".", MNT_DETACH) != 0 || chdir("/"))
		err(125, "pivot_root");
	loopback_up();
	if (sethostname("guest", 5) != 0)
		err(125, "sethostname");
	umask(022);
}

int main(int argc, char **argv)
{
	int split = 2, status;

	while (split < argc && strcmp(argv[split], "--") != 0)
		split++;
	if (split + 1 >= argc)
		errx(125, "usage: hostbox ROOT [--bind HOST:DIR]... -- PROGRAM ARG...");
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) != 0)
		err(125, "unshare");
	pid_t pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		enter(argv[1], split - 2, argv + 2);
		execv(argv[split + 1], argv + split + 1);
		err(127, "%s", argv[split + 1]);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		err(125, "fork");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
