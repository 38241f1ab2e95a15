/* The jail of the process that serves: mounts and capabilities. The filter is in gofer/seccomp. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/server/server.h"

int jail_fail(char *why, size_t why_size, const char *what, const char *path)
{
	int err = -errno;

	snprintf(why, why_size, "cannot %s%s%s: %s", what, *path ? " " : "", path, strerror(-err));
	return err;
}

/* Clones the tree at path as a detached mount with these attributes more. */
static int clone_tree(const struct gofer_attach_option *a, uint64_t attributes, char *why, size_t why_size)
{
	struct mount_attr attr = { .attr_set = attributes, .propagation = a->slave ? MS_SLAVE : MS_PRIVATE };
	int fd = (int)syscall(SYS_open_tree, AT_FDCWD, a->path,
			      OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (fd < 0)
		return jail_fail(why, why_size, "serve", a->path);
	if (syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr,
		    sizeof(attr)) < 0) {
		int err = jail_fail(why, why_size, "set mount attributes of", a->path);

		close(fd);
		return err;
	}
	return fd;
}

/* Puts a detached tree on a fresh directory or file of the new root. */
static int place_tree(int base, int tree, const char *label)
{
	struct stat st;
	int fd;

	if (fstat(tree, &st) < 0)
		return -errno;
	if (S_ISDIR(st.st_mode)) {
		if (mkdirat(base, label, 0700) < 0)
			return -errno;
	} else {
		fd = openat(base, label, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
		if (fd < 0)
			return -errno;
		close(fd);
	}
	if (syscall(SYS_move_mount, tree, "", base, label, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return 0;
}

int jail_empty_root(char *why, size_t why_size)
{
	static const char *const places[] = { "/proc", "/tmp", "/dev", "/" };

	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		if (mount("runsc-gofer", places[i], "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
			  "mode=0700,size=1m") < 0)
			continue;
		if (chdir(i + 1 < ARRAY_COUNT(places) ? places[i] : "/..") == 0)
			return open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	}
	return jail_fail(why, why_size, "mount an empty root", "");
}

int jail_unshare(char *why, size_t why_size)
{
	if (unshare(CLONE_NEWNS) < 0)
		return jail_fail(why, why_size, "make a mount namespace", "");
	/* nothing mounted here is seen outside; clones may go on following the host */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return jail_fail(why, why_size, "keep mounts from the host", "");
	return 0;
}

int trees_clone(const struct gofer_options *opt, struct gofer_trees *trees, char *why, size_t why_size)
{
	for (unsigned int i = 0; i < ARRAY_COUNT(trees->served); i++)
		trees->served[i] = trees->shown[i] = -1;
	for (unsigned int i = 0; i < opt->attach_count; i++) {
		uint64_t attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
				      (opt->attach[i].readonly ? MOUNT_ATTR_RDONLY : 0);

		trees->served[i] = clone_tree(&opt->attach[i], attributes, why, why_size);
		if (trees->served[i] < 0)
			return trees->served[i];
		if (!opt->attach[i].at || opt->stay || opt->mount_ns_fd >= 0)
			continue;
		/* who enters it from the host gets no set-user-id program and no device of the image's either */
		trees->shown[i] = clone_tree(&opt->attach[i], attributes, why, why_size);
		if (trees->shown[i] < 0)
			return trees->shown[i];
	}
	return 0;
}

int jail_enter(const struct gofer_options *opt, struct gofer_trees *trees, char *why, size_t why_size)
{
	char label[16];
	int base, err;

	if (jail_unshare(why, why_size) < 0)
		return -errno;
	base = jail_empty_root(why, why_size);
	if (base < 0)
		return base;
	for (unsigned int i = 0; i < opt->attach_count; i++) {
		snprintf(label, sizeof(label), "%u", i);
		err = place_tree(base, trees->served[i], label);
		if (err < 0) {
			errno = -err;
			return jail_fail(why, why_size, "attach", opt->attach[i].path);
		}
		close(trees->served[i]);
		trees->served[i] = -1;
	}
	if (syscall(SYS_pivot_root, ".", ".") < 0)
		return jail_fail(why, why_size, "pivot into the empty root", "");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return jail_fail(why, why_size, "detach the container's root", "");
	if (mount(NULL, "/", NULL,
		  MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return jail_fail(why, why_size, "make the empty root read-only", "");
	return base;
}

#define CAP_BIT(cap) (1ull << (cap))
#define GOFER_CAPS                                                                                 \
	(CAP_BIT(CAP_CHOWN) | CAP_BIT(CAP_DAC_OVERRIDE) | CAP_BIT(CAP_DAC_READ_SEARCH) |           \
	 CAP_BIT(CAP_FOWNER) | CAP_BIT(CAP_FSETID))

int jail_drop_caps(bool keep_some, char *why, size_t why_size)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };
	uint64_t keep;

	if (syscall(SYS_capget, &head, data) < 0)
		return jail_fail(why, why_size, "read capabilities", "");
	keep = (data[0].permitted | (uint64_t)data[1].permitted << 32) & (keep_some ? GOFER_CAPS : 0);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
		/* Without CAP_SETPCAP the bounding set stays; no_new_privs makes it moot. */
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			break;
	}
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int i = 0; i < 2; i++) {
		uint32_t bits = (uint32_t)(keep >> (32 * i));

		data[i] = (struct __user_cap_data_struct){ .effective = bits, .permitted = bits };
	}
	if (syscall(SYS_capset, &head, data) < 0)
		return jail_fail(why, why_size, "drop capabilities", "");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return jail_fail(why, why_size, "set no_new_privs", "");
	return 0;
}
