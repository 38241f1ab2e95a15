/* /proc/PID and /proc/PID/task/TID: directories made on demand, links to places, ownership. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/proc.h"
#include "sentry/fs/proc/proc_priv.h"
#include "sentry/mm/mm.h"

void proc_free_task(struct simple_inode *s)
{
	task_put(s->data);
}

void proc_refresh_owner(struct simple_inode *s)
{
	const struct cred *c = task_get_cred(proc_task(s));
	struct mm *mm = task_get_mm(proc_task(s));
	bool open = !mm || mm_dumpable(mm) == 1 || S_ISDIR(s->inode.mode);

	if (c && open) {
		s->inode.uid = c->euid;
		s->inode.gid = c->egid;
	} else {
		s->inode.uid = KUID(0);
		s->inode.gid = KGID(0);
	}
	mm_put(mm);
	cred_put(c);
}

int proc_open_private(struct simple_inode *s, struct file *f)
{
	(void)f;
	return current && task_may_access(current, proc_task(s), false) ? 0 : -EACCES;
}

struct inode *proc_task_inode(struct superblock *sb, const struct simple_ops *ops, uint32_t mode,
			      struct task *t, unsigned kind, uint64_t num)
{
	uint64_t ino = ((uint64_t)(uint32_t)task_tid_in(t, sb->data) << 16) + kind + 2;
	struct inode *i = simple_new_ino(sb, ops, mode, ino + (num << 40), task_get(t), num);

	if (!i)
		task_put(t);
	return i;
}

/* ---- cwd, root, exe: links to places ---- */

enum place { PLACE_CWD, PLACE_ROOT, PLACE_EXE };

static int place_follow(struct simple_inode *s, const struct cred *cred, struct path *ret)
{
	struct task *t = proc_task(s);
	struct fs_struct *fs;

	(void)cred;
	if (!current || !task_may_access(current, t, false))
		return -EACCES;
	if (s->num == PLACE_EXE) {
		struct mm *mm = task_get_mm(t);
		struct file *exe = mm ? mm_exe(mm) : NULL;

		if (exe) {
			*ret = *file_path(exe);
			path_get(ret);
		}
		file_put(exe);
		mm_put(mm);
		return exe ? 0 : -ENOENT;
	}
	fs = task_get_fs(t);
	if (!fs)
		return -ENOENT;
	mutex_lock(&fs->mu);
	*ret = s->num == PLACE_CWD ? fs->cwd : fs->root;
	path_get(ret);
	mutex_unlock(&fs->mu);
	fs_struct_put(fs);
	return 0;
}

/* The text of any link to a place, as the reader's root sees it. */
int64_t proc_place_text(const struct path *p, char *buf, size_t size)
{
	struct fs_struct *fs = current->fs;
	struct path root;
	int64_t n;

	mutex_lock(&fs->mu);
	root = fs->root;
	path_get(&root);
	mutex_unlock(&fs->mu);
	n = vfs_path_text(p, &root, buf, size, NULL);
	path_put(&root);
	return n;
}

static int64_t place_readlink(struct simple_inode *s, char *buf, size_t size)
{
	struct path p;
	int64_t r = place_follow(s, current ? current->cred : NULL, &p);

	if (r < 0)
		return r;
	r = proc_place_text(&p, buf, size);
	path_put(&p);
	return r;
}

static const struct simple_ops place_ops = {
	.name = "proc place",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.follow = place_follow,
	.readlink = place_readlink,
};

static const char *const place_names[] = { [PLACE_CWD] = "cwd", [PLACE_ROOT] = "root", [PLACE_EXE] = "exe" };

/* ---- the directory ---- */

static const struct proc_entry dir_entries[] = {
	{ "fd", S_IFDIR | 0500, &proc_fd_dir_ops, false },
	{ "fdinfo", S_IFDIR | 0555, &proc_fdinfo_dir_ops, false },
	{ "ns", S_IFDIR | 0511, &proc_ns_dir_ops, false },
	{ "net", S_IFDIR | 0555, &proc_net_dir_ops, false },
	{ "task", S_IFDIR | 0555, &proc_task_dir_ops, true },
	{ 0 },
};

static const struct proc_entry *const all_entries[] = { dir_entries, proc_text_entries, proc_maps_entries,
							proc_ids_entries };

/* Entry number i of a task's directory; NULL behind the last. *ret_kind numbers inodes. */
static const struct proc_entry *entry_at(bool group, unsigned i, unsigned *ret_kind)
{
	unsigned kind = 8, n = 0;

	for (unsigned t = 0; t < ARRAY_COUNT(all_entries); t++) {
		for (const struct proc_entry *e = all_entries[t]; e->name; e++, kind++) {
			if (e->group_only && !group)
				continue;
			if (n++ == i) {
				*ret_kind = kind;
				return e;
			}
		}
	}
	return NULL;
}

static int pid_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	struct task *t = proc_task(dir);
	const struct proc_entry *e;
	unsigned kind;

	if (task_tid_in(t, proc_ns(dir)) == 0)
		return -ENOENT;
	for (unsigned i = 0; i < ARRAY_COUNT(place_names); i++) {
		if (strcmp(name, place_names[i]) == 0) {
			*ret = proc_task_inode(dir->inode.sb, &place_ops, S_IFLNK | 0777, t, 1 + i, i);
			return *ret ? 0 : -ENOMEM;
		}
	}
	for (unsigned i = 0; (e = entry_at(dir->num, i, &kind)); i++) {
		if (strcmp(name, e->name) == 0) {
			*ret = proc_task_inode(dir->inode.sb, e->ops, e->mode, t, kind, 0);
			return *ret ? 0 : -ENOMEM;
		}
	}
	return -ENOENT;
}

static int pid_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	unsigned i = (unsigned)(*pos - SIMPLE_DYNAMIC), places = ARRAY_COUNT(place_names), kind;
	int32_t tid = task_tid_in(proc_task(dir), proc_ns(dir));
	const struct proc_entry *e;

	(void)f;
	for (;; i++) {
		const char *name;
		uint8_t type;

		if (i < places) {
			name = place_names[i];
			kind = 1 + i;
			type = DT_LNK;
		} else {
			e = entry_at(dir->num, i - places, &kind);
			if (!e)
				return 0;
			name = e->name;
			type = S_ISDIR(e->mode) ? DT_DIR : DT_REG;
		}
		if (!d->emit(d, name, strlen(name), ((uint64_t)(uint32_t)tid << 16) + kind + 2, type,
			     SIMPLE_DYNAMIC + i + 1))
			return 0;
		*pos = SIMPLE_DYNAMIC + i + 1;
	}
}

static const struct simple_ops pid_dir_ops = {
	.name = "proc pid",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.lookup = pid_lookup,
	.iterate = pid_iterate,
};

struct thread_group *proc_dir_thread_group(struct file *f)
{
	struct simple_inode *s = simple_of(file_inode(f));

	return s && s->ops == &pid_dir_ops && s->num ? thread_group_get(proc_task(s)->tg) : NULL;
}

struct inode *proc_pid_dir(struct superblock *sb, struct task *t, bool group)
{
	struct inode *i = proc_task_inode(sb, &pid_dir_ops, S_IFDIR | 0555, t, 0, group);

	task_put(t);
	return i;
}

/* ---- task/ ---- */

static int task_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	char *end;
	long tid = strtol(name, &end, 10);
	struct task *t;

	if (*end || name[0] < '1' || name[0] > '9' || tid > INT32_MAX)
		return -ENOENT;
	t = task_find(proc_ns(dir), (int32_t)tid);
	if (!t || t->tg != proc_task(dir)->tg) {
		task_put(t);
		return -ENOENT;
	}
	*ret = proc_pid_dir(dir->inode.sb, t, false);
	return *ret ? 0 : -ENOMEM;
}

static int task_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	int32_t from = (int32_t)(*pos - SIMPLE_DYNAMIC), tid;
	struct task *t;

	(void)f;
	while ((t = thread_group_next_task(proc_task(dir)->tg, proc_ns(dir), from, &tid))) {
		char name[16];
		int len = snprintf(name, sizeof(name), "%d", tid);

		task_put(t);
		if (!d->emit(d, name, (size_t)len, ((uint64_t)tid << 16) + 2, DT_DIR, SIMPLE_DYNAMIC + tid + 1))
			return 0;
		from = tid + 1;
		*pos = SIMPLE_DYNAMIC + from;
	}
	return 0;
}

const struct simple_ops proc_task_dir_ops = {
	.name = "proc task",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.lookup = task_lookup,
	.iterate = task_iterate,
};

/* ---- ns/ ---- */

static const char *const ns_names[NS_KINDS] = {
	[NS_USER] = "user", [NS_PID] = "pid", [NS_PID_FOR_CHILDREN] = "pid_for_children",
	[NS_UTS] = "uts",   [NS_IPC] = "ipc", [NS_NET] = "net",
	[NS_MNT] = "mnt",   [NS_CGROUP] = "cgroup",
};

static int ns_follow(struct simple_inode *s, const struct cred *cred, struct path *ret)
{
	struct file *f;
	int r;

	(void)cred;
	if (!current || !task_may_access(current, proc_task(s), false))
		return -EACCES;
	r = ns_file_new(proc_task(s), (enum ns_kind)s->num, &f);
	if (r < 0)
		return r;
	*ret = *file_path(f);
	path_get(ret);
	file_put(f);
	return 0;
}

static int64_t ns_readlink(struct simple_inode *s, char *buf, size_t size)
{
	if (!current || !task_may_access(current, proc_task(s), false))
		return -EACCES;
	return ns_link_text(proc_task(s), (enum ns_kind)s->num, buf, size);
}

static const struct simple_ops ns_link_ops = {
	.name = "proc ns",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.follow = ns_follow,
	.readlink = ns_readlink,
};

static int ns_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	for (unsigned i = 0; i < NS_KINDS; i++) {
		if (strcmp(name, ns_names[i]) == 0) {
			*ret = proc_task_inode(dir->inode.sb, &ns_link_ops, S_IFLNK | 0777,
					       proc_task(dir), 200 + i, i);
			return *ret ? 0 : -ENOMEM;
		}
	}
	return -ENOENT;
}

static int ns_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	int32_t tid = task_tid_in(proc_task(dir), proc_ns(dir));

	(void)f;
	for (int64_t i = *pos - SIMPLE_DYNAMIC; i < NS_KINDS; i++) {
		if (!d->emit(d, ns_names[i], strlen(ns_names[i]),
			     ((uint64_t)(uint32_t)tid << 16) + 202 + (uint64_t)i, DT_LNK, SIMPLE_DYNAMIC + i + 1))
			return 0;
		*pos = SIMPLE_DYNAMIC + i + 1;
	}
	return 0;
}

const struct simple_ops proc_ns_dir_ops = {
	.name = "proc ns dir",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.lookup = ns_lookup,
	.iterate = ns_iterate,
};
