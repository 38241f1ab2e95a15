/* mount(2), umount2(2), pivot_root(2), mount_setattr(2). */
#include <fcntl.h>
#include <linux/mount.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/core/umem.h"
#include "sentry/kernel/namespaces.h"
#include "sentry/syscalls/mount_attr.h"
#include "sentry/syscalls/path_arg.h"
#include "sentry/syscalls/syscalls.h"
#include "sentry/vfs/fs_ops.h"

#define MOUNT_TEXT_MAX 4096u /* of each string argument, with NUL */

static void free_text(char *text)
{
	free(text);
}
DEFINE_AUTO(free_text, char *)

/* A string argument that may be NULL: *ret is NULL then, else owned by the caller. */
static int copy_optional(struct task *t, uaddr_t addr, char **ret)
{
	char *text;
	int64_t n;

	*ret = NULL;
	if (!addr.v)
		return 0;
	text = malloc(MOUNT_TEXT_MAX);
	if (!text)
		return -ENOMEM;
	n = copy_in_str(task_umem(t), text, addr, MOUNT_TEXT_MAX);
	if (n < 0) {
		free(text);
		return n == -ENAMETOOLONG ? -EINVAL : (int)n;
	}
	*ret = text;
	return 0;
}

int64_t sys_mount(struct task *t, uaddr_t dev_name, uaddr_t dir_name, uaddr_t type, uint64_t flags, uaddr_t data)
{
	AUTO(free_text) char *source = NULL;
	AUTO(free_text) char *fstype = NULL;
	AUTO(free_text) char *options = NULL;
	struct path_arg p;
	int r = copy_optional(t, type, &fstype);

	if (r == 0)
		r = copy_optional(t, dev_name, &source);
	if (r == 0)
		r = copy_optional(t, data, &options);
	if (r < 0)
		return r;
	r = path_arg_init(&p, t, AT_FDCWD, dir_name);
	if (r == 0)
		r = vfs_mount(&p.walk, source, p.text, fstype, flags, options);
	path_arg_fini(&p);
	return r;
}

int64_t sys_umount2(struct task *t, uaddr_t name, uint32_t flags)
{
	struct path_arg p;
	int r = path_arg_init(&p, t, AT_FDCWD, name);

	if (r == 0)
		r = vfs_umount(&p.walk, p.text, (int)flags);
	path_arg_fini(&p);
	return r;
}

/* Replaces *p when it is old; the reference of the old place goes to *drop. */
static void replace_path(struct path *p, const struct path *old, const struct path *new, struct path *drop)
{
	if (p->mnt != old->mnt || p->dentry != old->dentry)
		return;
	*drop = *p;
	*p = *new;
	path_get(new);
}

static void move_root_of(struct task *t, const struct path *old, const struct path *new)
{
	struct path drop[2] = { { NULL, NULL }, { NULL, NULL } };
	struct fs_struct *fs = task_get_fs(t);

	if (!fs)
		return;
	mutex_lock(&fs->mu);
	replace_path(&fs->root, old, new, &drop[0]);
	replace_path(&fs->cwd, old, new, &drop[1]);
	mutex_unlock(&fs->mu);
	path_put(&drop[0]);
	path_put(&drop[1]);
	fs_struct_put(fs);
}

/* Every process whose root or working directory was the old root follows to the new one (pivot_root(2)). */
static void move_roots(const struct path *old, const struct path *new)
{
	int32_t pid = 0;

	for (;;) {
		AUTO(thread_group_put) struct thread_group *tg = thread_group_next(root_pid_ns, pid, &pid);
		int32_t tid = 0;

		if (!tg)
			return;
		for (;;) {
			AUTO(task_put) struct task *t = thread_group_next_task(tg, root_pid_ns, tid, &tid);

			if (!t)
				break;
			move_root_of(t, old, new);
			tid++;
		}
		pid++;
	}
}

int64_t sys_pivot_root(struct task *t, uaddr_t new_root, uaddr_t put_old)
{
	struct path old_root, root;
	struct path_arg new, old;
	int r = path_arg_init(&new, t, AT_FDCWD, new_root);

	if (r < 0)
		return r;
	r = path_arg_init(&old, t, AT_FDCWD, put_old);
	if (r == 0)
		r = vfs_pivot_root(&new.walk, new.text, old.text, &old_root, &root);
	path_arg_fini(&old);
	path_arg_fini(&new);
	if (r < 0)
		return r;
	move_roots(&old_root, &root);
	path_put(&old_root);
	path_put(&root);
	return 0;
}

/* MOUNT_ATTR_* to the MS_* that the VFS knows. */
static int attr_to_flags(uint64_t attr, uint64_t *ret)
{
	static const struct {
		uint64_t attr, flag;
	} map[] = {
		{ MOUNT_ATTR_RDONLY, 1 /* MS_RDONLY */ },
		{ MOUNT_ATTR_NOSUID, 2 },
		{ MOUNT_ATTR_NODEV, 4 },
		{ MOUNT_ATTR_NOEXEC, 8 },
		{ MOUNT_ATTR_NODIRATIME, 2048 },
		{ 0x00200000 /* MOUNT_ATTR_NOSYMFOLLOW */, 256 },
	};

	*ret = 0;
	for (size_t i = 0; i < ARRAY_COUNT(map); i++) {
		if (attr & map[i].attr)
			*ret |= map[i].flag;
		attr &= ~map[i].attr;
	}
	return attr ? -EINVAL : 0;
}

int mount_attr_flags(uint64_t set, uint64_t clear, uint64_t *ret_set, uint64_t *ret_clear)
{
	const uint64_t noatime = 1024, strictatime = 1u << 24, relatime = 1u << 21;
	uint64_t atime = set & MOUNT_ATTR__ATIME;
	int r = attr_to_flags(set & ~(uint64_t)MOUNT_ATTR__ATIME, ret_set);

	if (r == 0)
		r = attr_to_flags(clear & ~(uint64_t)MOUNT_ATTR__ATIME, ret_clear);
	if (r < 0)
		return r;
	/* The access time mode is one value: it can be set only where it is cleared as a whole. */
	if (!(clear & MOUNT_ATTR__ATIME))
		return atime ? -EINVAL : 0;
	if ((clear & MOUNT_ATTR__ATIME) != MOUNT_ATTR__ATIME)
		return -EINVAL;
	*ret_clear |= noatime | strictatime | relatime;
	if (atime == MOUNT_ATTR_NOATIME)
		*ret_set |= noatime;
	else if (atime == MOUNT_ATTR_STRICTATIME)
		*ret_set |= strictatime;
	else if (atime == MOUNT_ATTR_RELATIME)
		*ret_set |= relatime;
	else
		return -EINVAL;
	return 0;
}

static bool is_propagation(uint64_t p)
{
	return p == 0 || p == 1u << 17 || p == 1u << 18 || p == 1u << 19 || p == 1u << 20;
}

int64_t sys_mount_setattr(struct task *t, int32_t dfd, uaddr_t path, uint32_t flags, uaddr_t uattr, uint64_t usize)
{
	struct mount_attr attr = { 0 };
	uint64_t set, clear;
	struct path_arg p;
	struct path at;
	int r;

	if (flags & ~(uint32_t)(AT_EMPTY_PATH | AT_RECURSIVE | AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT))
		return -EINVAL;
	if (usize < sizeof(attr))
		return -EINVAL;
	if (usize > GUEST_PAGE_SIZE)
		return -E2BIG;
	if (copy_in_struct(task_umem(t), &attr, uattr) < 0)
		return -EFAULT;
	if (!is_propagation(attr.propagation))
		return -EINVAL;
	r = mount_attr_flags(attr.attr_set, attr.attr_clr, &set, &clear);
	if (r < 0)
		return r;
	r = path_arg_init(&p, t, dfd, path);
	if (r == 0)
		r = vfs_walk(&p.walk, p.text,
			     (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) | (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0),
			     &at);
	if (r == 0) {
		r = vfs_mount_setattr(&p.walk, &at, flags & AT_RECURSIVE, set, clear, attr.propagation);
		path_put(&at);
	}
	path_arg_fini(&p);
	return r;
}

struct ustat_search {
	dev_t dev;
	struct path found;
};

static int ustat_match(struct mount *m, void *arg)
{
	struct ustat_search *s = arg;

	if (m->sb->dev != s->dev)
		return 0;
	s->found = (struct path){ m, m->root };
	path_get(&s->found);
	return 1;
}

int64_t sys_ustat(struct task *t, uint32_t dev, uaddr_t ubuf)
{
	/* struct ustat of the ABI; the names were never filled in. */
	struct {
		int32_t free_blocks, pad;
		uint64_t free_inodes;
		char names[12], tail[4];
	} out = { 0 };
	struct ustat_search s = { .dev = dev };
	struct kstatfs fs;
	struct mnt_ns *ns;
	int r;

	mutex_lock(&t->fs->mu);
	ns = mnt_ns_get(t->fs->mnt_ns);
	mutex_unlock(&t->fs->mu);
	r = mnt_ns_for_each(ns, ustat_match, &s);
	mnt_ns_put(ns);
	if (!r)
		return -EINVAL;
	r = vfs_statfs(&s.found, &fs);
	path_put(&s.found);
	if (r < 0)
		return r;
	out.free_blocks = (int32_t)fs.bfree;
	out.free_inodes = fs.ffree;
	return copy_out_struct(task_umem(t), ubuf, &out);
}
