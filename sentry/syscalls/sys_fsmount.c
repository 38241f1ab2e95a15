/* The file-descriptor mount calls: open_tree(2), move_mount(2), fsopen(2), fsconfig(2), fsmount(2). */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/syscalls/mount_attr.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/simple.h"

#define CAP_NR_SYS_ADMIN 21
#define CONFIG_TEXT_MAX 256u
#define OPTIONS_MAX 4096u
#define FLAG_RDONLY 1u	 /* MS_RDONLY */

/* What fsopen makes: a file system being configured. */
struct fs_context {
	struct mutex mu; /* LOCK_OBJECT: below */
	const struct fs_type *type; /* const */
	struct seq options;	    /* "a=b,c" */
	char *source;		    /* owned; may be NULL */
	uint64_t flags;
	struct superblock *sb; /* reference; set by FSCONFIG_CMD_CREATE, or by fspick */
	bool picked;	       /* const: of fspick, may only be reconfigured */
};

static void context_release(struct file *f)
{
	struct fs_context *c = f->data;

	seq_fini(&c->options);
	free(c->source);
	superblock_put(c->sb);
	mutex_fini(&c->mu);
	free(c);
}

static const struct file_ops context_ops = { .name = "fscontext", .release = context_release, .stream = true };

static bool may_mount(struct task *t)
{
	bool ok;

	mutex_lock(&t->fs->mu);
	ok = task_capable_ns(t, mnt_ns_owner(t->fs->mnt_ns), CAP_NR_SYS_ADMIN);
	mutex_unlock(&t->fs->mu);
	return ok;
}

/* Installs an O_PATH file on p, whose references are put. */
static int64_t install_path(struct task *t, struct path *p, bool cloexec)
{
	AUTO(file_put) struct file *f = NULL;
	int r = vfs_open_path(p, t->cred, O_PATH, &f);

	path_put(p);
	return r < 0 ? r : task_fd_install(t, f, cloexec);
}

int64_t sys_open_tree(struct task *t, int32_t dfd, uaddr_t filename, uint32_t flags)
{
	const uint32_t known = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_RECURSIVE |
			       AT_SYMLINK_NOFOLLOW;
	struct path p, tree;
	int r;

	if (flags & ~known || (flags & AT_RECURSIVE && !(flags & OPEN_TREE_CLONE)))
		return -EINVAL;
	if (flags & OPEN_TREE_CLONE && !may_mount(t))
		return -EPERM;
	r = path_arg_resolve(t, dfd, filename, flags, &p);
	if (r < 0 || !(flags & OPEN_TREE_CLONE))
		return r < 0 ? r : install_path(t, &p, flags & OPEN_TREE_CLOEXEC);
	r = vfs_open_tree(&p, t->cred->user_ns, flags & AT_RECURSIVE, &tree);
	path_put(&p);
	return r < 0 ? r : install_path(t, &tree, flags & OPEN_TREE_CLOEXEC);
}

int64_t sys_move_mount(struct task *t, int32_t from_dfd, uaddr_t from_path, int32_t to_dfd, uaddr_t to_path,
		       uint32_t flags)
{
	const uint32_t known = MOVE_MOUNT_F_SYMLINKS | MOVE_MOUNT_F_AUTOMOUNTS | MOVE_MOUNT_F_EMPTY_PATH |
			       MOVE_MOUNT_T_SYMLINKS | MOVE_MOUNT_T_AUTOMOUNTS | MOVE_MOUNT_T_EMPTY_PATH;
	struct path from, to;
	int r;

	if (flags & ~known)
		return -EINVAL;
	if (!may_mount(t))
		return -EPERM;
	r = path_arg_resolve(t, from_dfd, from_path,
			     (flags & MOVE_MOUNT_F_SYMLINKS ? 0 : AT_SYMLINK_NOFOLLOW) |
				     (flags & MOVE_MOUNT_F_EMPTY_PATH ? AT_EMPTY_PATH : 0),
			     &from);
	if (r < 0)
		return r;
	r = path_arg_resolve(t, to_dfd, to_path,
			     (flags & MOVE_MOUNT_T_SYMLINKS ? 0 : AT_SYMLINK_NOFOLLOW) |
				     (flags & MOVE_MOUNT_T_EMPTY_PATH ? AT_EMPTY_PATH : 0),
			     &to);
	if (r == 0) {
		r = vfs_move_mount(t->cred, &from, &to);
		path_put(&to);
	}
	path_put(&from);
	return r;
}

/* A descriptor for a context of type (sb NULL) or of a living superblock (reference taken). */
static int64_t context_install(struct task *t, const struct fs_type *type, struct superblock *sb, bool cloexec)
{
	AUTO(file_put) struct file *f = NULL;
	struct fs_context *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return -ENOMEM;
	mutex_init(&c->mu, LOCK_OBJECT);
	seq_init(&c->options);
	c->type = type;
	if (sb) {
		c->sb = superblock_get(sb);
		c->picked = true;
		c->flags = sb->readonly ? FLAG_RDONLY : 0;
	}
	r = file_new_anon(&context_ops, "anon_inode:[fscontext]", 0600, O_RDWR, t->cred, c, &f);
	if (r < 0) {
		superblock_put(c->sb);
		free(c);
		return r;
	}
	return task_fd_install(t, f, cloexec);
}

int64_t sys_fsopen(struct task *t, uaddr_t fs_name, uint32_t flags)
{
	char name[CONFIG_TEXT_MAX];
	const struct fs_type *type;
	int64_t r;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~(uint32_t)FSOPEN_CLOEXEC)
		return -EINVAL;
	r = copy_in_str(task_umem(t), name, fs_name, sizeof(name));
	if (r < 0)
		return r == -ENAMETOOLONG ? -EINVAL : r;
	type = fs_type_find(name);
	return type ? context_install(t, type, NULL, flags & FSOPEN_CLOEXEC) : -ENODEV;
}

int64_t sys_fspick(struct task *t, int32_t dfd, uaddr_t path, uint32_t flags)
{
	struct path p;
	int64_t r;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~(uint32_t)(FSPICK_CLOEXEC | FSPICK_SYMLINK_NOFOLLOW | FSPICK_NO_AUTOMOUNT | FSPICK_EMPTY_PATH))
		return -EINVAL;
	r = path_arg_resolve(t, dfd, path,
			     (flags & FSPICK_SYMLINK_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0) |
				     (flags & FSPICK_EMPTY_PATH ? AT_EMPTY_PATH : 0),
			     &p);
	if (r < 0)
		return r;
	if (!p.mnt || p.dentry != p.mnt->root)
		r = -EINVAL;
	else
		r = context_install(t, fs_type_find(p.mnt->sb->fstype), p.mnt->sb, flags & FSPICK_CLOEXEC);
	path_put(&p);
	return r;
}

/* Takes key or key=value into the context. mu held. */
static int context_set(struct fs_context *c, const char *key, const char *value)
{
	char *source;

	if (c->sb && !c->picked)
		return -EBUSY;
	if (strcmp(key, "source") == 0) {
		if (!value || c->source)
			return -EINVAL;
		source = strdup(value);
		c->source = source;
		return source ? 0 : -ENOMEM;
	}
	if (!value && strcmp(key, "ro") == 0) {
		c->flags |= FLAG_RDONLY;
		return 0;
	}
	if (!value && strcmp(key, "rw") == 0) {
		c->flags &= ~(uint64_t)FLAG_RDONLY;
		return 0;
	}
	if (c->options.size + CONFIG_TEXT_MAX * 2 > OPTIONS_MAX || strchr(key, ',') || (value && strchr(value, ',')))
		return -EINVAL;
	seq_printf(&c->options, "%s%s%s%s", c->options.size ? "," : "", key, value ? "=" : "", value ? value : "");
	return c->options.failed ? -ENOMEM : 0;
}

static int context_create(struct task *t, struct fs_context *c)
{
	struct superblock *sb;
	int r;

	if (c->picked)
		return -EBUSY;
	if (!c->type->user_mountable && !task_capable_ns(t, &root_user_ns, CAP_NR_SYS_ADMIN))
		return -EPERM;
	mutex_lock(&c->mu);
	r = c->sb ? -EBUSY : 0;
	mutex_unlock(&c->mu);
	if (r == 0)
		r = c->type->mount(c->type, c->source ? c->source : "none", c->flags, c->options.text, t->cred, &sb);
	if (r < 0)
		return r;
	mutex_lock(&c->mu);
	if (!c->sb) {
		c->sb = sb;
		sb = NULL;
	}
	mutex_unlock(&c->mu);
	superblock_put(sb);
	return 0;
}

/* Applies ro or rw to the superblock; other options of a living file system do not change. */
static int context_reconfigure(struct task *t, struct fs_context *c)
{
	GUARD(mutex, &c->mu);
	if (!c->sb)
		return -EINVAL;
	if (!task_capable_ns(t, c->sb->user_ns, CAP_NR_SYS_ADMIN))
		return -EPERM;
	if (c->options.size)
		return -EOPNOTSUPP;
	c->sb->readonly = c->flags & FLAG_RDONLY;
	return 0;
}

int64_t sys_fsconfig(struct task *t, int32_t fd, uint32_t cmd, uaddr_t key_addr, uaddr_t value_addr, int32_t aux)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fd);
	char key[CONFIG_TEXT_MAX] = "", value[CONFIG_TEXT_MAX] = "";
	struct fs_context *c;
	int64_t r;

	if (!f)
		return -EBADF;
	if (f->ops != &context_ops || aux)
		return -EINVAL;
	c = f->data;
	if (cmd == FSCONFIG_CMD_CREATE)
		return key_addr.v || value_addr.v ? -EINVAL : context_create(t, c);
	if (cmd == FSCONFIG_CMD_RECONFIGURE)
		return key_addr.v || value_addr.v ? -EINVAL : context_reconfigure(t, c);
	if (cmd != FSCONFIG_SET_FLAG && cmd != FSCONFIG_SET_STRING)
		return -EOPNOTSUPP;
	r = copy_in_str(task_umem(t), key, key_addr, sizeof(key));
	if (r >= 0 && cmd == FSCONFIG_SET_STRING)
		r = copy_in_str(task_umem(t), value, value_addr, sizeof(value));
	if (r < 0)
		return r == -ENAMETOOLONG ? -EINVAL : r;
	GUARD(mutex, &c->mu);
	return context_set(c, key, cmd == FSCONFIG_SET_STRING ? value : NULL);
}

int64_t sys_fsmount(struct task *t, int32_t fs_fd, uint32_t flags, uint32_t attr_flags)
{
	AUTO(file_put) struct file *f = task_fd_io(t, fs_fd);
	uint64_t set, clear;
	struct superblock *sb;
	struct fs_context *c;
	struct mount *m;
	struct path p;
	int r;

	if (!may_mount(t))
		return -EPERM;
	if (flags & ~(uint32_t)FSMOUNT_CLOEXEC)
		return -EINVAL;
	if (!f)
		return -EBADF;
	if (f->ops != &context_ops)
		return -EINVAL;
	r = mount_attr_flags(attr_flags, MOUNT_ATTR__ATIME, &set, &clear);
	if (r < 0)
		return r;
	c = f->data;
	mutex_lock(&c->mu);
	sb = c->sb && !c->picked ? superblock_get(c->sb) : NULL;
	mutex_unlock(&c->mu);
	if (!sb)
		return -EINVAL;
	r = vfs_mount_sb(sb, NULL, set, c->source ? c->source : "none", &m);
	superblock_put(sb);
	if (r < 0)
		return r;
	p = (struct path){ m, dentry_get(m->root) };
	return install_path(t, &p, flags & FSMOUNT_CLOEXEC);
}
