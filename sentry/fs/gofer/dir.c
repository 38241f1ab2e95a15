/* Names: lookup of whole paths in one round trip, and everything that changes a directory. */
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sentry/fs/gofer/gofer_priv.h"

/* The buffers of one walk; too big for the stack of a task. */
struct walk_job {
	struct gofer_walk_req req;
	struct gofer_walk_rep rep;
	char target[GOFER_TARGET_MAX + 1];
	char names[GOFER_WALK_MAX * (GOFER_NAME_MAX + 1)];
	size_t names_used;
	uint32_t changes; /* of the file system, before the walk */
};

/* Adds one component; false when it cannot be part of this walk. */
static bool job_add(struct walk_job *job, const char *name, size_t len)
{
	char *copy = job->names + job->names_used;

	if (job->req.names.count == GOFER_WALK_MAX || !gofer_name_ok(name, len))
		return false;
	memcpy(copy, name, len);
	copy[len] = 0;
	job->names_used += len + 1;
	job->req.names.v[job->req.names.count++].name = (struct gofer_str){ copy, (uint16_t)len };
	return true;
}

/* Adds the components of rest up to the first that needs the VFS ("..", ".", too long). */
static void job_add_rest(struct walk_job *job, const char *rest)
{
	while (*rest) {
		const char *end = strchrnul(rest, '/');

		if (!job_add(job, rest, (size_t)(end - rest)))
			return;
		for (rest = end; *rest == '/'; rest++)
			;
	}
}

/* Walks; afterwards rep and target belong to the job and *ret_fd is owned or -1. */
static int job_walk(struct gofer_inode *dir, struct walk_job *job, int *ret_fd)
{
	struct gofer_client *c = gofer_client_of(dir);
	int r;

	job->req.dir = gofer_node(dir);
	job->changes = dir->fs->changes;
	mutex_lock(&c->mu);
	r = gofer_call_locked(c, walk, &job->req, &job->rep, ret_fd);
	if (r == 0) {
		memcpy(job->target, job->rep.target.p, job->rep.target.len);
		job->target[job->rep.target.len] = 0;
		if (job->rep.entries.count > job->req.names.count ||
		    (job->rep.entries.count < job->req.names.count && job->rep.stop == 0))
			r = client_broken(c, ret_fd);
	}
	mutex_unlock(&c->mu);
	return r;
}

static void keep_target(struct gofer_inode *gi, const char *target)
{
	char *expected = NULL, *text = gi->target ? NULL : strdup(target);

	if (text && !atomic_compare_exchange_strong(&gi->target, &expected, text))
		free(text);
}

/* Turns the entries of a walk into inodes: the first is the caller's, the others wait as prefetched. */
static int job_take(struct gofer_inode *dir, struct walk_job *job, int fd, struct inode **ret_inode)
{
	struct gofer_sb *fs = dir->fs;
	const struct gofer_walk_rep *rep = &job->rep;
	uint32_t changes = job->changes;
	struct inode *first = NULL, *i = NULL;
	struct gofer_inode *gi = dir;
	uint32_t count = rep->entries.count, k;
	int r = 0;

	for (k = 0; k < count && r == 0; k++) {
		r = gofer_inode_get(fs, &rep->entries.v[k], gi, job->req.names.v[k].name.p, &i);
		if (r < 0)
			break;
		if (k == 0)
			first = i;
		else
			prefetch_add(gi, job->req.names.v[k].name.p, i, changes, false);
		gi = gofer_inode_of(i);
	}
	/* What could not be taken is given back. */
	for (k++; k < count; k++)
		client_close_node(&fs->client, rep->entries.v[k].id);
	if (r == 0 && count > 0 && rep->stop == ELOOP && S_ISLNK(i->mode))
		keep_target(gi, job->target);
	if (r == 0 && count > 0 && rep->stop == ENOENT && S_ISDIR(i->mode))
		prefetch_add(gi, job->req.names.v[count].name.p, NULL, changes, false);
	if (fd >= 0 && (r < 0 || !count || !S_ISREG(i->mode)))
		close(fd);
	else if (fd >= 0)
		gofer_handle_offer(gi, fd, false);
	if (count == 0)
		return rep->stop ? -(int)MIN(rep->stop, 4095u) : -EIO;
	if (!first)
		return r;
	*ret_inode = first;
	return 0;
}

int gofer_lookup(struct inode *dir, const char *name, const char *rest, struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct walk_job *job;
	int r, fd;

	if (prefetch_take(gd, name, ret_inode))
		return *ret_inode ? 0 : -ENOENT;
	if (gd->names && !names_has(gd->names, name))
		return -ENOENT;
	if (gd->gone)
		return -ENOENT;
	job = malloc(sizeof(*job));
	if (!job)
		return -ENOMEM;
	job->req.names.count = 0;
	job->names_used = 0;
	r = job_add(job, name, strlen(name)) ? 0 : -ENAMETOOLONG;
	if (r == 0) {
		job_add_rest(job, rest);
		/* Who looks up a file mostly opens it next. */
		job->req.open = gd->fs->slave ? 0 : GOFER_OPEN_READ;
		r = job_walk(gd, job, &fd);
	}
	if (r == 0)
		r = job_take(gd, job, fd, ret_inode);
	free(job);
	/* Search paths: who missed here some times goes on missing. */
	if (r == -ENOENT && gd->fs->cache == GOFER_EXCLUSIVE && ++gd->misses == MISSES_MAX)
		listing_learn(gd);
	return r;
}

int gofer_revalidate(struct inode *dir, const char *name, struct inode *inode)
{
	struct inode *now = NULL;
	int r;

	{
		GUARD(mutex, &dir->mu);
		r = gofer_lookup(dir, name, "", &now);
	}
	if (r < 0 && r != -ENOENT)
		return r;
	r = now == inode;
	inode_put(now);
	return r;
}

/*
 * A change of our own to the name was asked for, with result r: what is known of the directory goes along with
 * it. exists: what became of the name if it worked. dir->mu held.
 */
static void dir_changed(struct gofer_inode *gd, const char *name, bool exists, int r,
			const struct gofer_around *around)
{
	struct listing *l = gd->listing;

	prefetch_drop(gd, name);
	if (r < 0) {
		/* Perhaps because somebody else was there: what is known counts no longer. */
		gd->inode.valid_until_ns = gd->fs->cache == GOFER_EXCLUSIVE ? 0 : gd->inode.valid_until_ns;
		gofer_inode_touch(gd);
		return;
	}
	gd->listing = NULL;
	listing_put(l);
	gofer_dir_changed(gd, around);
	if (gd->names && !exists)
		names_remove(gd->names, name);
	else if (gd->names && !names_add(gd->names, name))
		gofer_names_forget(gd);
}

/* Before a change is asked for: answers that are under way may no longer be kept. */
static struct gofer_client *begin_change(struct gofer_inode *gd)
{
	gd->fs->changes++;
	return &gd->fs->client;
}

/* The owner that a file made in dir gets. */
static struct inode owner_in(const struct inode *dir, uint32_t mode, const struct cred *cred)
{
	struct inode i = { .mode = mode };

	inode_init_owner(&i, dir, cred);
	return i;
}

static struct gofer_str str_of(const char *s)
{
	return (struct gofer_str){ s, (uint16_t)MIN(strlen(s), (size_t)UINT16_MAX) };
}

/* Ends an operation that made a file: its inode, and the directory's new state. */
static int made(struct gofer_inode *gd, const char *name, int r, const struct gofer_entry *e,
		const struct gofer_around *around, struct inode **ret_inode)
{
	dir_changed(gd, name, true, r, around);
	return r < 0 ? r : gofer_inode_get(gd->fs, e, gd, name, ret_inode);
}

int gofer_create(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		 struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct inode owner = owner_in(dir, mode, cred);
	struct gofer_create_req req = {
		.dir = gofer_node(gd),
		.name = str_of(name),
		.mode = owner.mode & 07777,
		.uid = owner.uid.v,
		.gid = owner.gid.v,
		.open = GOFER_OPEN_READ | GOFER_OPEN_WRITE,
	};
	struct gofer_create_rep rep;
	int fd, r = gofer_call(begin_change(gd), create, &req, &rep, &fd);

	r = made(gd, name, r, &rep.entry, &rep.dir, ret_inode);
	if (r == 0)
		gofer_inode_of(*ret_inode)->made = gd->fs->cache == GOFER_EXCLUSIVE;
	if (fd >= 0 && r == 0)
		gofer_handle_offer(gofer_inode_of(*ret_inode), fd, true);
	else if (fd >= 0)
		close(fd);
	return r;
}

static void know_empty(struct gofer_inode *gi)
{
	mutex_lock_nested(&gi->inode.mu);
	if (!gi->names)
		gi->names = names_new();
	mutex_unlock(&gi->inode.mu);
}

int gofer_mkdir(struct inode *dir, const char *name, uint32_t mode, const struct cred *cred,
		struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct inode owner = owner_in(dir, mode, cred);
	struct gofer_mkdir_req req = { .dir = gofer_node(gd),
				       .name = str_of(name),
				       .mode = owner.mode & 07777,
				       .uid = owner.uid.v,
				       .gid = owner.gid.v };
	struct gofer_mkdir_rep rep;
	int r = gofer_call(begin_change(gd), mkdir, &req, &rep, NULL);

	r = made(gd, name, r, &rep.entry, &rep.dir, ret_inode);
	/* It is empty, and all that will be in it goes by us. */
	if (r == 0 && gd->fs->cache == GOFER_EXCLUSIVE)
		know_empty(gofer_inode_of(*ret_inode));
	return r;
}

int gofer_mknod(struct inode *dir, const char *name, uint32_t mode, dev_t rdev UNUSED,
		const struct cred *cred, struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct inode owner = owner_in(dir, mode, cred);
	struct gofer_mknod_req req = { .dir = gofer_node(gd),
				       .name = str_of(name),
				       .mode = owner.mode & (S_IFMT | 07777),
				       .uid = owner.uid.v,
				       .gid = owner.gid.v };
	struct gofer_mknod_rep rep;
	int r = gofer_call(begin_change(gd), mknod, &req, &rep, NULL);

	return made(gd, name, r, &rep.entry, &rep.dir, ret_inode);
}

int gofer_symlink(struct inode *dir, const char *name, const char *target, const struct cred *cred,
		  struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct inode owner = owner_in(dir, S_IFLNK | 0777, cred);
	struct gofer_symlink_req req = { .dir = gofer_node(gd),
					 .name = str_of(name),
					 .target = str_of(target),
					 .uid = owner.uid.v,
					 .gid = owner.gid.v };
	struct gofer_symlink_rep rep;
	int r = gofer_call(begin_change(gd), symlink, &req, &rep, NULL);

	r = made(gd, name, r, &rep.entry, &rep.dir, ret_inode);
	if (r == 0)
		keep_target(gofer_inode_of(*ret_inode), target);
	return r;
}

int gofer_tmpfile(struct inode *dir, uint32_t mode, const struct cred *cred,
		  struct inode **ret_inode)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct inode owner = owner_in(dir, mode, cred);
	struct gofer_tmpfile_req req = { .dir = gofer_node(gd),
					 .mode = owner.mode & 07777,
					 .uid = owner.uid.v,
					 .gid = owner.gid.v };
	struct gofer_tmpfile_rep rep;
	int fd, r = gofer_call(&gd->fs->client, tmpfile, &req, &rep, &fd);

	if (r == 0)
		r = gofer_inode_get(gd->fs, &rep.entry, gd, "", ret_inode);
	if (fd >= 0 && r == 0)
		gofer_handle_offer(gofer_inode_of(*ret_inode), fd, true);
	else if (fd >= 0)
		close(fd);
	return r;
}

int gofer_link(struct inode *dir, const char *name, struct inode *target)
{
	struct gofer_inode *gd = gofer_inode_of(dir), *gi = gofer_inode_of(target);
	struct gofer_link_req req = { .node = gofer_node(gi),
				      .dir = gofer_node(gd),
				      .name = str_of(name) };
	struct gofer_link_rep rep;
	struct inode *same = NULL;
	int r = gofer_call(begin_change(gd), link, &req, &rep, NULL);

	r = made(gd, name, r, &rep.entry, &rep.dir, &same);
	inode_put(same);
	gofer_inode_touch(gi);
	if (r == 0) {
		mutex_lock_nested(&target->mu);
		target->nlink++;
		mutex_unlock(&target->mu);
	}
	return r;
}

/* A name of the inode went away. */
static void lost_name(struct inode *i)
{
	mutex_lock_nested(&i->mu);
	i->nlink = S_ISDIR(i->mode) || i->nlink == 0 ? 0 : i->nlink - 1;
	mutex_unlock(&i->mu);
	gofer_inode_touch(gofer_inode_of(i));
}

/* Does anybody but one cached name use the inode (a directory may be somebody's working directory)? Then it must be
 * reachable without a name, too. */
static bool in_use(const struct inode *i)
{
	return S_ISDIR(i->mode) || refcount_read(&i->refs) > 1;
}

static int remove_name(struct inode *dir, const char *name, struct inode *victim, bool is_dir)
{
	struct gofer_inode *gd = gofer_inode_of(dir);
	struct gofer_unlink_req req = { .dir = gofer_node(gd),
					.name = str_of(name),
					.rmdir = is_dir,
					.keep = in_use(victim) };
	struct gofer_unlink_rep rep;
	int r = gofer_call(begin_change(gd), unlink, &req, &rep, NULL);

	dir_changed(gd, name, false, r, &rep.dir);
	if (r == 0)
		lost_name(victim);
	return r;
}

int gofer_unlink(struct inode *dir, const char *name, struct inode *victim)
{
	return remove_name(dir, name, victim, false);
}

int gofer_rmdir(struct inode *dir, const char *name, struct inode *victim)
{
	return remove_name(dir, name, victim, true);
}

int gofer_rename(struct inode *old_dir, const char *old_name, struct inode *inode,
		 struct inode *new_dir, const char *new_name, struct inode *replaced,
		 unsigned flags)
{
	struct gofer_inode *from = gofer_inode_of(old_dir), *to = gofer_inode_of(new_dir);
	struct gofer_rename_req req = { .old_dir = gofer_node(from),
					.old_name = str_of(old_name),
					.new_dir = gofer_node(to),
					.new_name = str_of(new_name),
					.keep = replaced && in_use(replaced) };
	struct gofer_rename_rep rep;
	int r;

	if (flags & ~(unsigned)(RENAME_NOREPLACE | RENAME_EXCHANGE))
		return -EINVAL;
	req.flags = flags & RENAME_EXCHANGE  ? GOFER_RENAME_EXCHANGE :
		    flags & RENAME_NOREPLACE ? GOFER_RENAME_NOREPLACE :
					       0;
	r = gofer_call(begin_change(from), rename, &req, &rep, NULL);
	dir_changed(from, old_name, flags & RENAME_EXCHANGE, r, &rep.from);
	/* Of one directory both answers are the same. */
	if (from == to)
		rep.to.before_s = rep.from.attr.ctime_s, rep.to.before_ns = rep.from.attr.ctime_ns;
	dir_changed(to, new_name, true, r, &rep.to);
	if (r < 0)
		return r;
	if (replaced && !(flags & RENAME_EXCHANGE))
		lost_name(replaced);
	else if (replaced)
		gofer_inode_touch(gofer_inode_of(replaced));
	gofer_inode_touch(gofer_inode_of(inode));
	gofer_inode_placed(gofer_inode_of(inode), to, new_name);
	if (replaced && (flags & RENAME_EXCHANGE))
		gofer_inode_placed(gofer_inode_of(replaced), from, old_name);
	return 0;
}
