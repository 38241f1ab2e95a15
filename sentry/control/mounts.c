/* From a Container message to a mount namespace: root, mounts, devices, masked and read-only paths. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "sentry/control/control_priv.h"
#include "sentry/fs/cgroup/cgroupfs.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/fs/overlay/overlay.h"
#include "sentry/fs/proc/proc.h"
#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc.h"
#include "sentry/vfs/fs_ops.h"

/* Attribute flags of a mount; the rest of MS_* are actions. */
#define MOUNT_ATTRIBUTES                                                                           \
	(MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME |         \
	 MS_STRICTATIME)

#define PROPAGATIONS ((uint64_t)(MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE))

struct builder {
	struct urpc_request *req;
	const Urpc__Container *c;
	size_t first_fd; /* of the gofer connections */
	struct user_ns *user_ns;
	struct pid_ns *pid_ns;
	struct ipc_ns *ipc_ns;
	struct cgroup *cgroup;
	const struct cred *root_cred; /* the container's root */
	const struct cred *make_cred; /* with its ids and the capabilities of the sandbox: makes what the container cannot */
	struct walk walk, make_walk;  /* as them in the new tree */
};

/* Set-up failures are never ENOENT or EACCES: those tell about the program. */
static int fail(struct builder *b, const char *what, const char *path, int err)
{
	return urpc_fail(b->req, -EINVAL, "%s %.160s: %s", what, path, strerror(-err));
}

static int find_tmpfs(const struct fs_type *t, void *arg)
{
	const struct fs_type **found = arg;

	if (strcmp(t->name, "tmpfs") != 0)
		return 0;
	*found = t;
	return 1;
}

/* Puts a fresh tmpfs over *sb, which is replaced by the union of the two. */
static int add_overlay(struct builder *b, struct superblock **sb)
{
	const struct fs_type *tmpfs = NULL;
	struct superblock *upper, *both;
	char options[64] = "mode=755";
	int err;

	fs_type_for_each(find_tmpfs, &tmpfs);
	if (!tmpfs)
		return -ENODEV;
	if (b->c->overlay_size)
		snprintf(options, sizeof(options), "mode=755,size=%" PRIu64, b->c->overlay_size);
	err = tmpfs->mount(tmpfs, "overlay", 0, options, b->root_cred, &upper);
	if (err < 0)
		return err;
	err = overlay_new(*sb, upper, b->user_ns, &both);
	superblock_put(upper);
	if (err < 0)
		return err;
	superblock_put(*sb);
	*sb = both;
	return 0;
}

/* The superblock of gofer connection index, below an overlay if wanted. */
static int open_gofer(struct builder *b, int32_t index, bool shared, bool readonly, bool overlay,
		      struct superblock **ret_sb)
{
	struct gofer_fs_args a = { .shared = shared, .readonly = readonly && !overlay,
				   .user_ns = b->user_ns };
	struct superblock *sb;
	size_t i;
	int err;

	if (index < 0 || (uint32_t)index >= b->c->gofer_count)
		return -EBADF;
	i = b->first_fd + (size_t)index;
	if (b->req->fds[i] < 0)
		return -EBADF;
	a.conn_fd = urpc_take_fd(b->req, i);
	err = gofer_fs_new(&a, &sb);
	if (err < 0) {
		close(a.conn_fd);
		return err;
	}
	err = overlay ? add_overlay(b, &sb) : 0;
	if (err < 0)
		superblock_put(sb);
	else
		*ret_sb = sb;
	return err;
}

static void set_walks(struct builder *b, const struct mount_build *m)
{
	b->walk = (struct walk){ .cred = b->root_cred, .root = m->root, .start = m->root, .mnt_ns = m->ns };
	b->make_walk = b->walk;
	b->make_walk.cred = b->make_cred;
}

static int build_root(struct builder *b, struct mount_build *ret)
{
	bool overlay = b->c->overlay != URPC__CONTAINER__OVERLAY__NONE;
	struct superblock *sb;
	int err = open_gofer(b, 0, b->c->root_shared, b->c->root_readonly, overlay, &sb);

	if (err < 0)
		return fail(b, "root file system", "/", err);
	err = mnt_ns_new(sb, overlay ? "overlay" : "rootfs", MS_RELATIME, b->user_ns, &ret->ns, &ret->root);
	superblock_put(sb);
	if (err < 0)
		return fail(b, "root mount", "/", err);
	set_walks(b, ret);
	return 0;
}

/* Makes path's directories, each that is missing; the last component is one too unless file. */
static int make_target(struct builder *b, const char *path, bool file)
{
	char part[PATH_MAX_GUEST];
	size_t len = strlen(path);
	struct path found;
	struct file *f;
	int err = vfs_walk(&b->make_walk, path, WALK_FOLLOW, &found);

	if (err == 0)
		path_put(&found);
	if (err != -ENOENT || len >= sizeof(part))
		return err;
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (file && path[i + strspn(path + i, "/")] == 0) {
			err = vfs_open(&b->make_walk, part, WALK_FOLLOW, O_CREAT | O_WRONLY, 0644, &f);
			if (err == 0)
				file_put(f);
			return err;
		}
		err = vfs_mkdir(&b->make_walk, part, 0755);
		if (err < 0 && err != -EEXIST)
			return err;
	}
	return 0;
}

/* Mounts sb, whose reference is taken over, on target. */
static int mount_sb(struct builder *b, struct superblock *sb, const char *target, const char *source,
		    uint64_t flags)
{
	struct path at;
	int err = vfs_walk(&b->walk, target, WALK_FOLLOW, &at);

	if (!(flags & (MS_NOATIME | MS_STRICTATIME)))
		flags |= MS_RELATIME;
	if (err == 0) {
		err = vfs_mount_sb(sb, &at, flags, source, NULL);
		path_put(&at);
	}
	superblock_put(sb);
	return err;
}

static int mount_gofer(struct builder *b, const Urpc__Mount *m, const char *target,
		       const char *source)
{
	bool overlay = b->c->overlay_all && !m->is_file;
	uint64_t flags = m->flags & MOUNT_ATTRIBUTES;
	struct superblock *sb;
	int err = open_gofer(b, m->gofer, m->shared, m->flags & MS_RDONLY, overlay, &sb);

	/* As on Linux, where a bind mount shows which part of its file system it is: programs look for it. */
	if (err == 0 && !sb->root_name && source[0] == '/' && source[1])
		sb->root_name = strdup(source);
	return err < 0 ? err : mount_sb(b, sb, target, source, flags);
}

/* One hierarchy of version 1 below base, and the links to it. */
static int mount_hierarchy(struct builder *b, const struct cgroup_hierarchy *h, const char *base, uint64_t flags)
{
	char path[PATH_MAX_GUEST];
	struct superblock *sb;
	int err = cgroupfs_new(b->cgroup, h, &sb);

	if (err < 0)
		return err;
	if ((size_t)snprintf(path, sizeof(path), "%s/%s", base, h->dir) >= sizeof(path))
		err = -ENAMETOOLONG;
	else
		err = make_target(b, path, false);
	if (err < 0) {
		superblock_put(sb);
		return err;
	}
	err = mount_sb(b, sb, path, "cgroup", flags);
	for (size_t i = 0; i < ARRAY_COUNT(h->alias) && h->alias[i] && err == 0; i++) {
		snprintf(path, sizeof(path), "%s/%s", base, h->alias[i]);
		err = vfs_symlink(&b->walk, h->dir, path);
	}
	return err;
}

/*
 * What the container sees of its limits: version 2 is one file system; version 1 one for each hierarchy, in a tmpfs. A mount
 * of type cgroup is what the host has.
 */
static int mount_cgroup(struct builder *b, const char *type, const char *source, const char *target, uint64_t flags)
{
	struct superblock *sb;
	int err;

	flags &= MOUNT_ATTRIBUTES;
	if (strcmp(type, "cgroup2") == 0 || b->c->cgroup_version == 2) {
		err = cgroupfs_new(b->cgroup, NULL, &sb);
		return err < 0 ? err : mount_sb(b, sb, target, source, flags);
	}
	err = vfs_mount(&b->walk, "tmpfs", target, "tmpfs", flags & ~(uint64_t)MS_RDONLY, "mode=755,size=64k");
	for (size_t i = 0; i < cgroup_hierarchy_count && err == 0; i++)
		err = mount_hierarchy(b, &cgroup_hierarchies[i], target, flags);
	if (err == 0 && (flags & MS_RDONLY))
		err = vfs_mount(&b->walk, NULL, target, NULL, flags | MS_BIND | MS_REMOUNT, NULL);
	return err;
}

/* Types that have nothing behind them here are shown as an empty directory. */
static bool is_placeholder(const char *type)
{
	static const char *const types[] = { "debugfs", "securityfs",
					     "tracefs", "bpf", "configfs", "hugetlbfs", "fusectl" };

	for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
		if (strcmp(types[i], type) == 0)
			return true;
	}
	return false;
}

static int mount_type(struct builder *b, const char *type, const char *source, const char *target,
		      uint64_t flags, const char *data)
{
	struct superblock *sb;
	int err;

	if (strcmp(type, "proc") == 0) {
		/* The namespace is the container's, not this thread's. */
		err = proc_new(b->pid_ns, &sb);
		return err < 0 ? err : mount_sb(b, sb, target, source, flags & MOUNT_ATTRIBUTES);
	}
	if (strcmp(type, "mqueue") == 0) {
		err = mqueue_fs_new(b->ipc_ns, &sb);
		return err < 0 ? err : mount_sb(b, sb, target, source, flags & MOUNT_ATTRIBUTES);
	}
	if (strcmp(type, "cgroup") == 0 || strcmp(type, "cgroup2") == 0)
		return mount_cgroup(b, type, source, target, flags);
	err = vfs_mount(&b->walk, source, target, type, flags & MOUNT_ATTRIBUTES, data);
	if (err == -ENODEV && is_placeholder(type)) {
		log_info("container: %s at %s is an empty directory", type, target);
		err = vfs_mount(&b->walk, source, target, "tmpfs", flags & MOUNT_ATTRIBUTES,
				"mode=555,size=4k");
	}
	return err;
}

/*
 * A tmpfs takes the mode of the directory that it hides, as with runc, and with tmpcopyup a copy of its content. Data of the
 * configuration comes after, so that it wins.
 */
static int mount_tmpfs(struct builder *b, const Urpc__Mount *m, const char *source, const char *target, const char *data)
{
	struct kstat st = { .mode = 0755 };
	struct path under, over;
	char *options = NULL;
	int err = vfs_walk(&b->make_walk, target, WALK_FOLLOW, &under);

	if (err < 0)
		return err;
	err = vfs_getattr(&under, &st);
	if (err == 0 && asprintf(&options, "mode=%o%s%s", st.mode & 07777, data ? "," : "", data ? data : "") < 0)
		err = -ENOMEM;
	if (err == 0)
		err = mount_type(b, m->type, source, target, m->flags & ~(uint64_t)(m->copy_up ? MS_RDONLY : 0), options);
	if (err == 0 && m->copy_up) {
		err = vfs_walk(&b->make_walk, target, WALK_FOLLOW, &over);
		if (err == 0) {
			err = tree_copy(&b->make_walk, &under, &over);
			path_put(&over);
		}
	}
	if (err == 0 && m->copy_up && m->flags & MS_RDONLY)
		err = vfs_mount(&b->walk, NULL, target, NULL,
				MS_BIND | MS_REMOUNT | (m->flags & MOUNT_ATTRIBUTES), NULL);
	path_put(&under);
	free(options);
	return err;
}

static int add_mount(struct builder *b, const Urpc__Mount *m)
{
	char *target = bytes_dup(&m->destination), *data = bytes_dup(&m->data);
	char *source = bytes_dup(&m->source);
	int err = -EINVAL;

	if (target && data && source && target[0] == '/') {
		err = make_target(b, target, m->is_file);
		if (err == 0 && m->gofer >= 0)
			err = mount_gofer(b, m, target, source);
		else if (err == 0 && strcmp(m->type, "tmpfs") == 0)
			err = mount_tmpfs(b, m, source[0] ? source : m->type, target, data[0] ? data : NULL);
		else if (err == 0)
			err = mount_type(b, m->type, source[0] ? source : m->type, target, m->flags,
					 data[0] ? data : NULL);
		if (err == 0 && m->propagation & PROPAGATIONS)
			err = vfs_mount(&b->walk, NULL, target, NULL, m->propagation & PROPAGATIONS, NULL);
	}
	if (err < 0)
		err = fail(b, "mount", target ? target : "?", err);
	free(target);
	free(data);
	free(source);
	return err;
}

/* Is something of the configuration mounted at path itself? */
static bool has_mount(const Urpc__Container *c, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = 0; i < c->n_mounts; i++) {
		const ProtobufCBinaryData *d = &c->mounts[i]->destination;
		size_t dlen = d->len;

		while (dlen > 1 && d->data[dlen - 1] == '/')
			dlen--;
		if (dlen == len && memcmp(d->data, path, len) == 0)
			return true;
	}
	return false;
}

/* What every Linux program expects, when the configuration does not say otherwise. */
static int add_standard_mounts(struct builder *b, bool after_dev)
{
	static const struct {
		const char *path, *type, *data;
		bool after_dev;
	} standard[] = {
		{ "/proc", "proc", NULL, false },
		{ "/sys", "sysfs", NULL, false },
		{ "/dev", "tmpfs", "mode=755,size=64k", false },
		{ "/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", true },
		{ "/dev/shm", "tmpfs", "mode=1777", true },
	};
	bool own_dev = !has_mount(b->c, "/dev");

	for (size_t i = 0; i < ARRAY_COUNT(standard); i++) {
		const char *path = standard[i].path;
		int err;

		if (standard[i].after_dev != after_dev || has_mount(b->c, path) ||
		    (after_dev && !own_dev))
			continue;
		err = make_target(b, path, false);
		if (err == 0)
			err = mount_type(b, standard[i].type, standard[i].type, path,
					 MS_NOSUID | MS_NOEXEC, standard[i].data);
		if (err == -EROFS) {
			log_info("container: no %s: the root is read-only and has no such directory", path);
			continue;
		}
		if (err < 0)
			return fail(b, "mount", path, err);
	}
	return 0;
}

static int add_device(struct builder *b, const char *path, uint32_t mode, dev_t dev, uint32_t uid,
		      uint32_t gid)
{
	struct kattr attr = { .mask = ATTR_UID | ATTR_GID | ATTR_MODE, .mode = mode & 07777 };
	struct path at;
	char *parent;
	char *slash;
	int err;

	parent = strdup(path);
	if (!parent)
		return -ENOMEM;
	slash = strrchr(parent, '/');
	if (slash && slash != parent) {
		*slash = 0;
		err = make_target(b, parent, false);
	} else {
		err = slash ? 0 : -EINVAL;
	}
	free(parent);
	if (err == 0)
		err = vfs_mknod(&b->make_walk, path, mode, dev);
	if (err == -EEXIST)
		return 0;
	if (err < 0)
		return err;
	if (!user_ns_make_kuid(b->user_ns, uid, &attr.uid) ||
	    !user_ns_make_kgid(b->user_ns, gid, &attr.gid))
		return -EINVAL;
	err = vfs_walk(&b->make_walk, path, 0, &at);
	if (err == 0) {
		err = vfs_setattr(&at, b->make_cred, &attr);
		path_put(&at);
	}
	return err;
}

/* The devices and links of the OCI runtime specification's "default devices". */
static int add_default_devices(struct builder *b)
{
	static const struct {
		const char *path;
		unsigned minor_nr, major_nr;
	} nodes[] = {
		{ "/dev/null", 3, 1 }, { "/dev/zero", 5, 1 },	 { "/dev/full", 7, 1 },
		{ "/dev/random", 8, 1 }, { "/dev/urandom", 9, 1 }, { "/dev/tty", 0, 5 },
	};
	static const struct {
		const char *path, *target;
	} links[] = {
		{ "/dev/fd", "/proc/self/fd" },	      { "/dev/stdin", "/proc/self/fd/0" },
		{ "/dev/stdout", "/proc/self/fd/1" }, { "/dev/stderr", "/proc/self/fd/2" },
		{ "/dev/ptmx", "pts/ptmx" },
	};
	int err;

	for (size_t i = 0; i < ARRAY_COUNT(nodes); i++) {
		err = add_device(b, nodes[i].path, S_IFCHR | 0666,
				 makedev(nodes[i].major_nr, nodes[i].minor_nr), 0, 0);
		if (err < 0 && err != -EROFS && err != -EPERM)
			return fail(b, "device", nodes[i].path, err);
	}
	for (size_t i = 0; i < ARRAY_COUNT(links); i++) {
		err = vfs_symlink(&b->walk, links[i].target, links[i].path);
		if (err < 0 && err != -EEXIST && err != -EROFS)
			return fail(b, "link", links[i].path, err);
	}
	return 0;
}

static int add_devices(struct builder *b)
{
	int err = add_default_devices(b);

	for (size_t i = 0; err == 0 && i < b->c->n_devices; i++) {
		const Urpc__Device *d = b->c->devices[i];
		char *path = bytes_dup(&d->path);

		err = -EINVAL;
		if (path && path[0] == '/')
			err = add_device(b, path, d->mode, makedev(d->major, d->minor), d->uid, d->gid);
		if (err < 0)
			err = fail(b, "device", path ? path : "?", err);
		free(path);
	}
	return err;
}

/* Hides path: a directory becomes empty, anything else /dev/null. Absent ones are fine. */
static int mask_path(struct builder *b, const char *path)
{
	struct kstat st;
	struct path at;
	int err = vfs_walk(&b->walk, path, WALK_FOLLOW, &at);

	if (err == -ENOENT || err == -ENOTDIR)
		return 0;
	if (err < 0)
		return err;
	err = vfs_getattr(&at, &st);
	path_put(&at);
	if (err < 0)
		return err;
	if (S_ISDIR(st.mode))
		return vfs_mount(&b->walk, "tmpfs", path, "tmpfs", MS_RDONLY, "size=4k,mode=555");
	return vfs_mount(&b->walk, "/dev/null", path, NULL, MS_BIND, NULL);
}

static int readonly_path(struct builder *b, const char *path)
{
	int err = vfs_mount(&b->walk, path, path, NULL, MS_BIND | MS_REC, NULL);

	if (err == -ENOENT || err == -ENOTDIR)
		return 0;
	if (err == 0)
		err = vfs_mount(&b->walk, NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
	return err;
}

static int for_paths(struct builder *b, const char *what, const ProtobufCBinaryData *paths,
		     size_t count, int (*fn)(struct builder *b, const char *path))
{
	int err = 0;

	for (size_t i = 0; err == 0 && i < count; i++) {
		char *path = bytes_dup(&paths[i]);

		err = path && path[0] == '/' ? fn(b, path) : -EINVAL;
		if (err < 0)
			err = fail(b, what, path ? path : "?", err);
		free(path);
	}
	return err;
}

/*
 * kernel.shmmax=65536. Network values are in force in the host's namespace already and only shown; the domain name is in the
 * uts namespace (create.c).
 */
static int set_sysctl(struct builder *b, const ProtobufCBinaryData *setting)
{
	char *text = bytes_dup(setting);
	int err = text ? 0 : -EINVAL;

	if (err == 0 && (!strncmp(text, "net.", 4) || !strncmp(text, "net/", 4))) {
		if (sysctl_show(text) < 0)
			log_warn("container: sysctl %s is not shown inside", text);
	} else if (err == 0 && sysctl_domainname(text) == NULL) {
		err = sysctl_set(text);
		if (err < 0)
			err = fail(b, "set sysctl", text, err);
	}
	free(text);
	return err;
}

/* The working directory is made when it is missing, like a mount point. */
static int make_cwd(struct builder *b)
{
	char *cwd = bytes_dup(&b->c->process->cwd);
	int err = cwd ? 0 : -EINVAL;

	if (cwd && cwd[0] == '/')
		err = make_target(b, cwd, false);
	if (err < 0 && err != -EROFS)
		err = fail(b, "working directory", cwd ? cwd : "?", err);
	free(cwd);
	return err == -EROFS ? 0 : err;
}

static int build_all(struct builder *b, struct mount_build *ret)
{
	const Urpc__Container *c = b->c;
	int err = build_root(b, ret);

	if (err == 0)
		err = add_standard_mounts(b, false);
	for (size_t i = 0; err == 0 && i < c->n_mounts; i++)
		err = add_mount(b, c->mounts[i]);
	if (err == 0)
		err = add_standard_mounts(b, true);
	if (err == 0)
		err = add_devices(b);
	if (err == 0)
		err = make_cwd(b);
	for (size_t i = 0; err == 0 && i < c->n_sysctl; i++)
		err = set_sysctl(b, &c->sysctl[i]);
	if (err == 0)
		err = for_paths(b, "masked path", c->masked_paths, c->n_masked_paths, mask_path);
	if (err == 0)
		err = for_paths(b, "read-only path", c->readonly_paths, c->n_readonly_paths,
				readonly_path);
	if (err == 0 && c->root_readonly) {
		err = vfs_mount(&b->walk, NULL, "/", NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL);
		if (err < 0)
			err = fail(b, "read-only root", "/", err);
	}
	if (err == 0 && c->rootfs_propagation & PROPAGATIONS) {
		err = vfs_mount(&b->walk, NULL, "/", NULL, c->rootfs_propagation & (PROPAGATIONS | MS_REC), NULL);
		if (err < 0)
			err = fail(b, "propagation of", "/", err);
	}
	return err;
}

/* All capabilities in ns, and the ids of the root of user_ns, if it has one. */
static const struct cred *mapped_root(struct user_ns *ns, struct user_ns *user_ns)
{
	struct cred *c = cred_new_root(ns);
	kuid_t uid;
	kgid_t gid;

	if (c && user_ns_make_kuid(user_ns, 0, &uid) && user_ns_make_kgid(user_ns, 0, &gid)) {
		c->ruid = c->euid = c->suid = c->fsuid = uid;
		c->rgid = c->egid = c->sgid = c->fsgid = gid;
	}
	return c;
}

/* The terminal's place in the tree, bound to /dev/console. */
static int bind_console(struct builder *b, struct file *tty)
{
	char text[PATH_MAX_GUEST];
	bool reachable = false;
	int err;

	if (vfs_path_text(file_path(tty), &b->walk.root, text, sizeof(text), &reachable) < 0 || !reachable)
		return 0; /* no /dev/pts */
	err = make_target(b, "/dev/console", true);
	if (err == 0)
		err = vfs_mount(&b->walk, text, "/dev/console", NULL, MS_BIND, NULL);
	if (err == -EROFS) {
		log_info("container: no /dev/console: /dev is read-only");
		return 0;
	}
	return err < 0 ? fail(b, "mount", "/dev/console", err) : 0;
}

int mounts_add_console(struct urpc_request *req, const struct mount_build *m, struct user_ns *user_ns, struct file *tty)
{
	struct builder b = { .req = req, .user_ns = user_ns };
	int err;

	b.root_cred = mapped_root(user_ns, user_ns);
	b.make_cred = mapped_root(&root_user_ns, user_ns);
	set_walks(&b, m);
	err = b.root_cred && b.make_cred ? bind_console(&b, tty) : -ENOMEM;
	cred_put(b.root_cred);
	cred_put(b.make_cred);
	return err;
}

int mounts_build(struct urpc_request *req, const Urpc__Container *c, size_t first_fd,
		 const struct container_parts *parts, struct mount_build *ret)
{
	struct user_ns *user_ns = parts->user_ns;
	struct builder b = { .req = req, .c = c, .first_fd = first_fd, .user_ns = user_ns,
			     .pid_ns = parts->pid_ns, .ipc_ns = parts->ipc_ns, .cgroup = parts->cgroup };
	int err;

	*ret = (struct mount_build){ 0 };
	b.root_cred = mapped_root(user_ns, user_ns);
	b.make_cred = mapped_root(&root_user_ns, user_ns);
	err = b.root_cred && b.make_cred ? build_all(&b, ret) : -ENOMEM;
	cred_put(b.root_cred);
	cred_put(b.make_cred);
	if (err < 0) {
		path_put(&ret->root);
		if (ret->ns)
			mnt_ns_put(ret->ns);
		*ret = (struct mount_build){ 0 };
	}
	return err;
}
