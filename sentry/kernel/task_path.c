/* Where a task's paths start. */
#include <fcntl.h>
#include <string.h>

#include "sentry/kernel/kernel_priv.h"

int task_walk(struct task *t, int dirfd, struct walk *ret_walk)
{
	struct walk w = { .cred = t->cred };
	struct fs_struct *fs = t->fs;

	if (dirfd != AT_FDCWD) {
		AUTO(file_put) struct file *f = fdtable_get(t->fdt, dirfd);

		if (!f)
			return -EBADF;
		w.start = *file_path(f);
		if (!w.start.dentry)
			return -ENOTDIR;
		path_get(&w.start);
	}
	mutex_lock(&fs->mu);
	w.root = fs->root;
	path_get(&w.root);
	if (dirfd == AT_FDCWD) {
		w.start = fs->cwd;
		path_get(&w.start);
	}
	w.umask = fs->umask;
	w.mnt_ns = mnt_ns_get(fs->mnt_ns);
	mutex_unlock(&fs->mu);
	*ret_walk = w;
	return 0;
}

void walk_put(struct walk *w)
{
	path_put(&w->root);
	path_put(&w->start);
	mnt_ns_put(w->mnt_ns);
	memset(w, 0, sizeof(*w));
}

int task_copy_path(struct task *t, uaddr_t addr, char buf[4096])
{
	int64_t n = copy_in_str(task_umem(t), buf, addr, PATH_MAX_GUEST);

	return n < 0 ? (int)n : 0;
}
