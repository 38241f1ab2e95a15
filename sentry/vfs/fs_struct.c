/* Root, working directory, umask (CLONE_FS), and the text of places. */
#include <stdlib.h>

#include "sentry/vfs/vfs_priv.h"

/* References are taken on the paths and ns; NULL: out of memory. */
struct fs_struct *fs_struct_new(const struct path *root, const struct path *cwd, struct mnt_ns *ns)
{
	struct fs_struct *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return NULL;
	refcount_init(&fs->refs, 1);
	mutex_init(&fs->mu, LOCK_FS_STRUCT);
	fs->root = *root;
	fs->cwd = *cwd;
	path_get(root);
	path_get(cwd);
	fs->umask = 022;
	fs->mnt_ns = mnt_ns_get(ns);
	return fs;
}

/* A private copy (fork without CLONE_FS); NULL: out of memory. */
struct fs_struct *fs_struct_dup(struct fs_struct *fs)
{
	struct fs_struct *copy;

	GUARD(mutex, &fs->mu);
	copy = fs_struct_new(&fs->root, &fs->cwd, fs->mnt_ns);
	if (copy)
		copy->umask = fs->umask;
	return copy;
}

struct fs_struct *fs_struct_get(struct fs_struct *fs)
{
	refcount_get(&fs->refs);
	return fs;
}

void fs_struct_put(struct fs_struct *fs)
{
	if (!fs || !refcount_put(&fs->refs))
		return;
	path_put(&fs->root);
	path_put(&fs->cwd);
	mnt_ns_put(fs->mnt_ns);
	mutex_fini(&fs->mu);
	free(fs);
}

/* Text built from the end of a buffer towards its front. */
struct back_text {
	char *start, *at;
	bool overflow;
};

static void back_put(struct back_text *t, const char *text, size_t size)
{
	if ((size_t)(t->at - t->start) < size) {
		t->overflow = true;
		return;
	}
	t->at -= size;
	memcpy(t->at, text, size);
}

/* Puts the names from p up to root or to the top of its tree. Returns whether root was met. */
static bool put_names(struct back_text *t, struct path p, const struct path *root)
{
	for (;;) {
		if (root && path_equal(&p, root))
			return true;
		if (p.mnt && p.dentry == p.mnt->root) {
			if (!p.mnt->parent)
				return !root;
			p = (struct path){ p.mnt->parent, p.mnt->mountpoint };
			continue;
		}
		if (!p.dentry->parent)
			return false;
		back_put(t, p.dentry->name, p.dentry->name_len);
		back_put(t, "/", 1);
		p.dentry = p.dentry->parent;
	}
}

static int64_t anon_text(const struct path *p, char *buf, size_t size)
{
	const struct dentry *d = p->dentry;
	bool numbered = d->name_len && d->name[d->name_len - 1] == ':';
	int n = numbered ? snprintf(buf, size, "%s[%llu]", d->name, (unsigned long long)d->inode->ino) :
			   snprintf(buf, size, "%s", d->name);

	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : n;
}

int64_t vfs_path_text(const struct path *p, const struct path *root, char *buf, size_t size,
		      bool *ret_reachable)
{
	struct back_text t = { .start = buf, .at = buf + size };
	bool reachable;
	int64_t len;

	if (ret_reachable)
		*ret_reachable = true;
	if (!p->mnt)
		return anon_text(p, buf, size);
	mutex_lock(&dcache_mu);
	mutex_lock(&mount_hash_mu);
	back_put(&t, "", 1);
	if (!p->dentry->hashed && p->dentry->parent)
		back_put(&t, " (deleted)", 10);
	reachable = put_names(&t, *p, root);
	mutex_unlock(&mount_hash_mu);
	mutex_unlock(&dcache_mu);
	if (*t.at == 0 || *t.at == ' ')
		back_put(&t, "/", 1);
	if (t.overflow)
		return -ENAMETOOLONG;
	if (ret_reachable)
		*ret_reachable = reachable;
	len = buf + size - t.at - 1;
	memmove(buf, t.at, (size_t)len + 1);
	return len;
}

int64_t vfs_dentry_text(struct dentry *d, char *buf, size_t size)
{
	struct back_text t = { .start = buf, .at = buf + size };
	int64_t len;

	mutex_lock(&dcache_mu);
	back_put(&t, "", 1);
	for (; d->parent; d = d->parent) {
		back_put(&t, d->name, d->name_len);
		back_put(&t, "/", 1);
	}
	mutex_unlock(&dcache_mu);
	if (*t.at == 0)
		back_put(&t, "/", 1);
	if (t.overflow)
		return -ENAMETOOLONG;
	len = buf + size - t.at - 1;
	memmove(buf, t.at, (size_t)len + 1);
	return len;
}
