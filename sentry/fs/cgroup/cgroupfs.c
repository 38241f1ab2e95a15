/* The trees: one directory, the container's group, with a file for each row of v1.c or v2.c. */
#include "sentry/fs/cgroup/cgroupfs_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/kernel/process.h"

#define CGROUP_SUPER_MAGIC 0x27e0eb
#define CGROUP2_SUPER_MAGIC 0x63677270

static struct cgroup *group_of(struct simple_inode *s)
{
	return s->inode.sb->data;
}

static int row_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	const struct cgroup_file *row = s->data;

	(void)f;
	if (row->show)
		row->show(group_of(s), q);
	else
		seq_puts(q, row->text);
	return 0;
}

/* A container cannot change its own limits: who made it does, by `runsc update`. */
static int64_t limit_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)s;
	(void)f;
	(void)text;
	(void)size;
	(void)pos;
	return -EPERM;
}

static const struct simple_ops row_ops = { .name = "cgroup file", .show = row_show };
static const struct simple_ops limit_ops = { .name = "cgroup limit", .show = row_show, .store = limit_store };

/* Ids of the group's processes (num 0) or threads (1) that the reader's pid namespace knows, ascending. */
static int members_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct cgroup *cg = group_of(s);
	struct pid_ns *ns = task_pid_ns(current);
	struct thread_group *tg;
	int32_t pid = 0, tid;

	(void)f;
	while ((tg = thread_group_next(ns, pid + 1, &pid)) != NULL) {
		struct task *t;

		if (!tg->container || container_cgroup(tg->container) != cg) {
			thread_group_put(tg);
			continue;
		}
		if (s->num == 0)
			seq_printf(q, "%d\n", pid);
		tid = 0;
		while (s->num == 1 && (t = thread_group_next_task(tg, ns, tid + 1, &tid)) != NULL) {
			seq_printf(q, "%d\n", tid);
			task_put(t);
		}
		thread_group_put(tg);
	}
	return 0;
}

/* A process of the group moves to where it is; another container's is not visible. 0: the writer. */
static int64_t members_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	struct task *t;
	bool same;
	char *end;
	long id = strtol(text, &end, 10);

	(void)f;
	(void)pos;
	if (end == text || (*end && *end != '\n') || id < 0 || id > INT32_MAX)
		return -EINVAL;
	if (id == 0)
		return (int64_t)size;
	t = task_find(task_pid_ns(current), (int32_t)id);
	if (!t)
		return -ESRCH;
	same = task_cgroup(t) == group_of(s);
	task_put(t);
	return same ? (int64_t)size : -EACCES;
}

static const struct simple_ops members_ops = { .name = "cgroup members", .show = members_show, .store = members_store };

static int add_rows(struct inode *root, const struct cgroup_file *row, size_t count, const char *hierarchy)
{
	int r = 0;

	for (size_t i = 0; i < count && r == 0; i++) {
		union {
			const struct cgroup_file *in;
			void *out;
		} p = { .in = &row[i] }; /* only read by row_show */

		if (hierarchy && row[i].hierarchy && strcmp(hierarchy, row[i].hierarchy) != 0)
			continue;
		r = simple_add_file(root, row[i].name, row[i].limit ? 0644 : 0444, row[i].limit ? &limit_ops : &row_ops, p.out);
	}
	return r;
}

static int add_members(struct inode *root, const char *name, uint64_t threads)
{
	return simple_add(root, name, simple_new(root->sb, &members_ops, S_IFREG | 0644, NULL, threads));
}

static void cgroupfs_free(struct superblock *sb)
{
	cgroup_put(sb->data);
}

static const struct superblock_ops cgroupfs_sb_ops = { .free = cgroupfs_free };

int cgroupfs_new(struct cgroup *cg, const struct cgroup_hierarchy *h, struct superblock **ret_sb)
{
	struct superblock *sb = superblock_new(&cgroupfs_sb_ops, h ? "cgroup" : "cgroup2",
					       h ? CGROUP_SUPER_MAGIC : CGROUP2_SUPER_MAGIC, &root_user_ns);
	int r = -ENOMEM;

	if (!sb)
		return -ENOMEM;
	sb->data = cgroup_get(cg);
	sb->options = h ? strdup(h->options) : NULL;
	sb->root = simple_new(sb, NULL, S_IFDIR | 0555, NULL, 0);
	if (sb->root)
		r = add_members(sb->root, "cgroup.procs", 0);
	if (r == 0)
		r = add_members(sb->root, h ? "tasks" : "cgroup.threads", 1);
	if (r == 0 && h)
		r = add_rows(sb->root, cgroup_v1_files, cgroup_v1_count, h->options);
	else if (r == 0)
		r = add_rows(sb->root, cgroup_v2_files, cgroup_v2_count, NULL);
	if (r < 0) {
		superblock_put(sb);
		return r;
	}
	*ret_sb = sb;
	return 0;
}

static int mount_v2(const struct fs_type *type, const char *source, uint64_t flags, const char *data,
		    const struct cred *cred, struct superblock **ret_sb)
{
	struct cgroup *cg = task_cgroup(current);

	(void)type;
	(void)source;
	(void)flags;
	(void)data;
	(void)cred;
	return cg ? cgroupfs_new(cg, NULL, ret_sb) : -ENODEV;
}

/* Is name one of the words of list (both separated by commas)? */
static bool has_word(const char *list, const char *name, size_t len)
{
	for (; *list; list += strcspn(list, ","), list += *list == ',')
		if (strncmp(list, name, len) == 0 && (list[len] == ',' || list[len] == 0))
			return true;
	return false;
}

/* Options name the controllers; all of them must be in one hierarchy. -EINVAL: none or several. */
static int mount_v1(const struct fs_type *type, const char *source, uint64_t flags, const char *data,
		    const struct cred *cred, struct superblock **ret_sb)
{
	struct cgroup *cg = task_cgroup(current);

	(void)type;
	(void)source;
	(void)flags;
	(void)cred;
	if (!cg)
		return -ENODEV;
	for (size_t i = 0; data && *data && i < cgroup_hierarchy_count; i++) {
		const struct cgroup_hierarchy *h = &cgroup_hierarchies[i];
		bool all = true;

		for (const char *p = data; *p && all; p += strcspn(p, ","), p += *p == ',')
			all = has_word(h->options, p, strcspn(p, ","));
		if (all)
			return cgroupfs_new(cg, h, ret_sb);
	}
	return -EINVAL;
}

static struct fs_type v2_type = { .name = "cgroup2", .nodev = true, .mount = mount_v2 };
static struct fs_type v1_type = { .name = "cgroup", .nodev = true, .mount = mount_v1 };

void cgroupfs_register(void)
{
	fs_type_register(&v1_type);
	fs_type_register(&v2_type);
}
