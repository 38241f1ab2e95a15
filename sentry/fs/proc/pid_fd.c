/* /proc/PID/fd and /proc/PID/fdinfo. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/proc/proc_priv.h"
#include "sentry/kernel/fdtable.h"

/* A descriptor number without leading zeros, or -1. */
static int parse_fd(const char *name)
{
	char *end;
	long v;

	if (name[0] < '0' || name[0] > '9' || (name[0] == '0' && name[1]))
		return -1;
	v = strtol(name, &end, 10);
	return *end || v > INT32_MAX ? -1 : (int)v;
}

static struct file *task_file(struct task *t, int fd)
{
	struct fdtable *table = task_get_fdtable(t);
	struct file *f = table ? fdtable_get(table, fd) : NULL;

	fdtable_put(table);
	return f;
}

static int fd_follow(struct simple_inode *s, const struct cred *cred, struct path *ret)
{
	struct file *f;

	(void)cred;
	if (!current || !task_may_access(current, proc_task(s), false))
		return -EACCES;
	f = task_file(proc_task(s), (int)s->num);
	if (!f)
		return -ENOENT;
	*ret = *file_path(f);
	path_get(ret);
	file_put(f);
	return 0;
}

static int64_t fd_readlink(struct simple_inode *s, char *buf, size_t size)
{
	struct path p;
	int64_t r = fd_follow(s, NULL, &p);

	if (r < 0)
		return r;
	r = proc_place_text(&p, buf, size);
	path_put(&p);
	return r;
}

/* The permission bits tell how the descriptor was opened. */
static void fd_refresh(struct simple_inode *s)
{
	struct file *f = task_file(proc_task(s), (int)s->num);
	int mode = f ? file_flags(f) & O_ACCMODE : O_RDWR;

	proc_refresh_owner(s);
	s->inode.mode = S_IFLNK | 0100 | (mode != O_WRONLY ? 0400 : 0) | (mode != O_RDONLY ? 0200 : 0);
	file_put(f);
}

static const struct simple_ops fd_link_ops = {
	.name = "proc fd",
	.free = proc_free_task,
	.refresh = fd_refresh,
	.follow = fd_follow,
	.readlink = fd_readlink,
};

static int fdinfo_show(struct simple_inode *s, struct file *unused, struct seq *q)
{
	struct fdtable *table = task_get_fdtable(proc_task(s));
	struct file *f = table ? fdtable_get(table, (int)s->num) : NULL;
	char extra[4096];
	size_t n;

	(void)unused;
	if (f) {
		bool cloexec = fdtable_cloexec(table, (int)s->num);

		seq_printf(q, "pos:\t%lld\nflags:\t0%o\nmnt_id:\t%d\nino:\t%llu\n",
			   (long long)MAX(f->pos, (int64_t)0),
			   (unsigned)(file_flags(f) | (cloexec ? O_CLOEXEC : 0)),
			   f->path.mnt ? f->path.mnt->id : 14, (unsigned long long)f->inode->ino);
		if (f->ops->fdinfo) {
			n = f->ops->fdinfo(f, extra, sizeof(extra));
			seq_write(q, extra, n);
		}
	}
	fdtable_put(table);
	file_put(f);
	return f ? 0 : -ENOENT;
}

static const struct simple_ops fdinfo_ops = {
	.name = "proc fdinfo",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.open = proc_open_private,
	.show = fdinfo_show,
};

static int fd_lookup_in(struct simple_inode *dir, const char *name, const struct simple_ops *ops,
			uint32_t mode, unsigned kind, struct inode **ret)
{
	int fd = parse_fd(name);
	struct file *f;

	if (!current || !task_may_access(current, proc_task(dir), false))
		return -EACCES;
	f = fd >= 0 ? task_file(proc_task(dir), fd) : NULL;
	if (!f)
		return -ENOENT;
	file_put(f);
	*ret = proc_task_inode(dir->inode.sb, ops, mode, proc_task(dir), kind, (uint64_t)fd);
	return *ret ? 0 : -ENOMEM;
}

static int fd_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	return fd_lookup_in(dir, name, &fd_link_ops, S_IFLNK | 0700, 300, ret);
}

static int fdinfo_lookup(struct simple_inode *dir, const char *name, struct inode **ret)
{
	return fd_lookup_in(dir, name, &fdinfo_ops, S_IFREG | 0444, 301, ret);
}

static int fd_iterate(struct simple_inode *dir, struct file *f, struct dir_emit *d, int64_t *pos)
{
	uint8_t type = dir->ops == &proc_fd_dir_ops ? DT_LNK : DT_REG;
	struct fdtable *table = task_get_fdtable(proc_task(dir));
	int fd = (int)(*pos - SIMPLE_DYNAMIC);

	(void)f;
	while (table && (fd = fdtable_next(table, fd)) >= 0) {
		char name[16];
		int len = snprintf(name, sizeof(name), "%d", fd);

		if (!d->emit(d, name, (size_t)len, 302 + (uint64_t)fd, type, SIMPLE_DYNAMIC + fd + 1))
			break;
		fd++;
		*pos = SIMPLE_DYNAMIC + fd;
	}
	fdtable_put(table);
	return 0;
}

const struct simple_ops proc_fd_dir_ops = {
	.name = "proc fd dir",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.open = proc_open_private,
	.lookup = fd_lookup,
	.iterate = fd_iterate,
};

const struct simple_ops proc_fdinfo_dir_ops = {
	.name = "proc fdinfo dir",
	.free = proc_free_task,
	.refresh = proc_refresh_owner,
	.open = proc_open_private,
	.lookup = fdinfo_lookup,
	.iterate = fd_iterate,
};
