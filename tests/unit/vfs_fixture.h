/* A small world for tests of the VFS: a tmpfs as root of a mount namespace, root's credentials. */
#ifndef TESTS_UNIT_VFS_FIXTURE_H
#define TESTS_UNIT_VFS_FIXTURE_H

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sentry/fs/pipe/pipe.h"
#include "sentry/fs/tmpfs/tmpfs.h"
#include "sentry/mm/memfile.h"
#include "sentry/vfs/fs_ops.h"
#include "sentry/vfs/simple.h"
#include "tests/lib/test.h"

static struct walk w; /* as root, from the root */
static struct cred *user; /* uid and gid 1000, no capabilities */
static struct walk uw;

static inline void start(void)
{
	static struct mnt_ns *ns;
	struct superblock *sb;
	struct memfile *mf;
	struct path root;

	CHECK_EQ(memfile_new(&mf), 0);
	CHECK_EQ(vfs_init(), 0);
	CHECK_EQ(tmpfs_init(), 0);
	CHECK_EQ(pipe_init(), 0);
	w.cred = cred_new_root(&root_user_ns);
	CHECK_EQ(tmpfs_new("tmpfs", "mode=755", w.cred, &sb), 0);
	CHECK_EQ(mnt_ns_new(sb, "root", MS_RELATIME, &root_user_ns, &ns, &root), 0);
	superblock_put(sb);
	w.root = w.start = root;
	w.mnt_ns = ns;
	w.umask = 022;
	user = cred_dup(w.cred);
	user->fsuid = user->euid = user->ruid = KUID(1000);
	user->fsgid = user->egid = user->rgid = KGID(1000);
	user->cap_effective = user->cap_permitted = 0;
	uw = w;
	uw.cred = user;
}

static inline struct file *open_file(const char *name, int flags)
{
	struct file *f;

	CHECK_EQ(vfs_open(&w, name, 0, flags, 0644, &f), 0);
	return f;
}

static inline int open_error(const struct walk *who, const char *name, int flags)
{
	struct file *f = NULL;
	int r = vfs_open(who, name, 0, flags, 0644, &f);

	if (r == 0)
		file_put(f);
	return r;
}

static inline int64_t read_at(struct file *f, void *buf, size_t size, int64_t pos)
{
	struct uio u;

	uio_init_kernel(&u, buf, size);
	return file_read(f, &u, pos < 0 ? NULL : &pos);
}

static inline int64_t write_at(struct file *f, const char *text, size_t size, int64_t pos)
{
	char *copy = malloc(size + 1);
	struct uio u;
	int64_t r;

	memcpy(copy, text, size);
	uio_init_kernel(&u, copy, size);
	r = file_write(f, &u, pos < 0 ? NULL : &pos);
	free(copy);
	return r;
}

static inline void put(const char *name, const char *text)
{
	struct file *f = open_file(name, O_WRONLY | O_CREAT | O_TRUNC);

	CHECK_EQ(write_at(f, text, strlen(text), -1), (int64_t)strlen(text));
	file_put(f);
}

static inline struct path place(const char *name)
{
	struct path p;

	CHECK_EQ(vfs_walk(&w, name, WALK_FOLLOW, &p), 0);
	return p;
}

static inline int walk_error(const struct walk *who, const char *name, unsigned flags)
{
	struct path p;
	int r = vfs_walk(who, name, flags, &p);

	if (r == 0)
		path_put(&p);
	return r;
}

static inline struct kstat stat_of(const char *name)
{
	struct path p = place(name);
	struct kstat st;

	CHECK_EQ(vfs_getattr(&p, &st), 0);
	path_put(&p);
	return st;
}

struct listing {
	struct dir_emit d;
	char text[4096];
	unsigned count, max;
};

static inline bool listing_emit(struct dir_emit *d, const char *name, size_t len, uint64_t ino, uint8_t dtype,
				int64_t next_pos)
{
	struct listing *l = container_of(d, struct listing, d);

	(void)ino;
	(void)dtype;
	(void)next_pos;
	if (l->count == l->max)
		return false;
	l->count++;
	strncat(l->text, name, len);
	strcat(l->text, " ");
	return true;
}

/* Names of a directory in its order, `step` entries a call. */
static inline char *list(const char *name, unsigned step)
{
	static struct listing l;
	struct file *f = open_file(name, O_RDONLY | O_DIRECTORY);

	l = (struct listing){ .d = { listing_emit } };
	do {
		l.count = 0;
		l.max = step;
		CHECK_EQ(file_iterate(f, &l.d), 0);
	} while (l.count);
	file_put(f);
	return l.text;
}

#endif
