/* The root of a proc mount: numbers of processes on demand, everything else from the static part. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/proc/proc_priv.h"
#include "sentry/ipc/ipc.h"

#define PROC_SUPER_MAGIC 0x9fa0

/* A pid in decimal without leading zeros, or 0. */
static int32_t parse_pid(const char *name)
{
	int64_t v = 0;

	if (name[0] < '1' || name[0] > '9')
		return 0;
	for (; *name; name++) {
		if (*name < '0' || *name > '9')
			return 0;
		v = v * 10 + (*name - '0');
		if (v > INT32_MAX)
			return 0;
	}
	return (int32_t)v;
}

static int root_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	int32_t pid = parse_pid(name);
	struct task *t = pid ? task_find(proc_ns(dir), pid) : NULL;

	if (!t)
		return -ENOENT;
	/* A thread's number works here as it does on Linux: the directory is its process's. */
	*ret = proc_pid_dir(dir->inode.sb, t, true);
	return *ret ? 0 : -ENOMEM;
}

static int root_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	int32_t pid = (int32_t)(*pos - SIMPLE_DYNAMIC), found;
	struct thread_group *tg;

	(void)f;
	while ((tg = thread_group_next(proc_ns(dir), pid, &found))) {
		char name[16];
		int len = snprintf(name, sizeof(name), "%d", found);

		thread_group_put(tg);
		if (!d->emit(d, name, (size_t)len, ((uint64_t)found << 16) + 2, DT_DIR,
			     SIMPLE_DYNAMIC + found + 1))
			return 0;
		pid = found + 1;
		*pos = SIMPLE_DYNAMIC + pid;
	}
	return 0;
}

static const struct simple_ops root_ops = {
	.name = "proc root",
	.lookup = root_lookup,
	.iterate = root_iterate,
};

static int64_t self_readlink(struct simple_inode *s, char *buf, size_t size)
{
	int32_t pid = current ? thread_group_pid_in(current->tg, proc_ns(s)) : 0;

	return pid ? snprintf(buf, size, "%d", pid) : -ENOENT;
}

static int64_t thread_self_readlink(struct simple_inode *s, char *buf, size_t size)
{
	int32_t pid = current ? thread_group_pid_in(current->tg, proc_ns(s)) : 0;

	return pid ? snprintf(buf, size, "%d/task/%d", pid, task_tid_in(current, proc_ns(s))) : -ENOENT;
}

static const struct simple_ops self_ops = { .name = "proc self", .readlink = self_readlink };
static const struct simple_ops thread_self_ops = { .name = "proc thread-self",
						   .readlink = thread_self_readlink };

static void proc_sb_free(struct superblock *sb)
{
	pid_ns_put(sb->data);
}

static const struct superblock_ops proc_superblock_ops = { .free = proc_sb_free };

static int sysvipc_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	(void)f;
	if (current && current->ns && current->ns->ipc)
		ipc_show(current->ns->ipc, (enum ipc_kind)s->num, q);
	return 0;
}

static const struct simple_ops sysvipc_ops = { .name = "proc sysvipc", .show = sysvipc_show };

static int fill_sysvipc(struct inode *root)
{
	static const char *const names[IPC_KINDS] = { "sem", "msg", "shm" };
	struct inode *dir;
	int r = simple_add_dir(root, "sysvipc", &dir);

	for (uint64_t k = 0; r == 0 && k < IPC_KINDS; k++)
		r = simple_add(dir, names[k], simple_new(root->sb, &sysvipc_ops, S_IFREG | 0444, NULL, k));
	return r;
}

static int fill_root(struct superblock *sb)
{
	struct inode *root = sb->root;
	int r;

	r = simple_add(root, "self", simple_new(sb, &self_ops, S_IFLNK | 0777, NULL, 0));
	if (r == 0)
		r = simple_add(root, "thread-self", simple_new(sb, &thread_self_ops, S_IFLNK | 0777, NULL, 0));
	if (r == 0)
		r = simple_add_link(root, "mounts", "self/mounts");
	if (r == 0)
		r = simple_add_link(root, "net", "self/net");
	if (r == 0)
		r = fill_sysvipc(root);
	if (r == 0)
		r = proc_fill_system(root);
	return r == 0 ? proc_fill_sysctl(root) : r;
}

int proc_new(struct pid_ns *ns, struct superblock **ret_sb)
{
	struct superblock *sb = superblock_new(&proc_superblock_ops, "proc", PROC_SUPER_MAGIC, ns->user_ns);
	int r = -ENOMEM;

	if (!sb)
		return -ENOMEM;
	sb->no_dcache = true;
	sb->data = pid_ns_get(ns);
	sb->root = simple_new_ino(sb, &root_ops, S_IFDIR | 0555, PROC_ROOT_INO, NULL, 0);
	if (sb->root)
		r = fill_root(sb);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	*ret_sb = sb;
	return 0;
}

static int proc_mount(const struct fs_type *type, const char *source, uint64_t flags, const char *data,
		      const struct cred *cred, struct superblock **ret_sb)
{
	(void)type;
	(void)source;
	(void)flags;
	(void)cred;
	(void)data; /* hidepid, gid, subset: accepted; every process of the namespace is shown */
	return proc_new(current ? task_pid_ns(current) : root_pid_ns, ret_sb);
}

static struct fs_type proc_type = {
	.name = "proc",
	.user_mountable = true,
	.nodev = true,
	.mount = proc_mount,
};

void proc_register(void)
{
	fs_type_register(&proc_type);
}
