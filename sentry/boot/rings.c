/*
 * The steps that take away from the sentry what the host gave it. A ring that the host does not allow
 * (no mount namespace of our own, say) is left out and said so in the log; the guest never runs
 * without the platform's boundary and the seccomp filter.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sentry/boot/boot.h"

static int compare_ints(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes what no option names. Descriptors 0 to 2 become /dev/null when they are not open. */
int boot_close_strays(struct boot *b)
{
	int keep[] = { b->o.control_fd,	  b->o.ready_fd,  b->o.log_fd, b->o.debug_log_fd,
		       b->o.strace_fd, b->o.death_fd, b->o.kvm_fd };
	int from = 3;

	for (int fd = 0; fd < 3; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd) {
			snprintf(b->why, sizeof(b->why), "/dev/null: %s", strerror(errno));
			return -errno;
		}
	}
	qsort(keep, ARRAY_COUNT(keep), sizeof(keep[0]), compare_ints);
	for (size_t i = 0; i < ARRAY_COUNT(keep); i++) {
		if (keep[i] < from)
			continue;
		if (fcntl(keep[i], F_SETFD, FD_CLOEXEC) < 0) {
			snprintf(b->why, sizeof(b->why), "descriptor %d: %s", keep[i], strerror(errno));
			return -errno;
		}
		if (keep[i] > from)
			close_range((unsigned)from, (unsigned)keep[i] - 1, 0);
		from = keep[i] + 1;
	}
	close_range((unsigned)from, ~0u, 0);
	return 0;
}

/* As many descriptors as the hard limit gives, and no core file with the guest's memory in it. */
int boot_set_limits(struct boot *b)
{
	static const struct rlimit none = { 0, 0 };
	struct rlimit files;

	(void)b;
	if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
		files.rlim_cur = files.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &files) < 0)
			log_warn("descriptors stay limited to %ju: %s", (uintmax_t)files.rlim_cur,
				 strerror(errno));
	}
	if (setrlimit(RLIMIT_CORE, &none) < 0)
		log_warn("core limit: %s", strerror(errno));
	return 0;
}

/* A directory that a tmpfs can be put on for the moment before it becomes the root. */
static const char *any_directory(void)
{
	static const char *const candidates[] = { "/proc", "/tmp", "/dev", "/etc", "/usr" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_COUNT(candidates); i++) {
		if (lstat(candidates[i], &st) == 0 && S_ISDIR(st.st_mode))
			return candidates[i];
	}
	return "/";
}

/* An empty read-only tmpfs becomes the root; nothing of the host is reachable by a path any more. */
int boot_enter_empty_root(struct boot *b)
{
	unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	const char *dir = any_directory();

	/* A mount namespace of our own even when runsc made one: the host's is never touched. */
	if (unshare(CLONE_NEWNS) < 0) {
		log_warn("no empty root: mount namespace: %s", strerror(errno));
		return 0;
	}
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("empty", dir, "tmpfs", flags, "size=0,nr_inodes=1,mode=0555") < 0 ||
	    chdir(dir) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 ||
	    chdir("/") < 0 ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | flags, NULL) < 0) {
		snprintf(b->why, sizeof(b->why), "empty root over %s: %s", dir, strerror(errno));
		return -errno;
	}
	b->own_root = true;
	return 0;
}

/* No capability in any set, none to be had again, no_new_privs. */
int boot_drop_privileges(struct boot *b)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { { 0 } };
	unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
			     SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
			     SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;

	/* These three need CAP_SETPCAP: without it there is nothing that they would take away. */
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		prctl(PR_CAPBSET_DROP, cap);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	prctl(PR_SET_SECUREBITS, bits);
	if (syscall(SYS_capset, &header, none) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		snprintf(b->why, sizeof(b->why), "capabilities: %s", strerror(errno));
		return -errno;
	}
	b->no_caps = true;
	return 0;
}
