/*
 * Exclusive trees that others change now and then (engines copy files in): what is known counts for a second, and then
 * the gofer is asked again, for whole groups of inodes at once.
 *
 * All inodes lie in a list in the order of their last check. Who was needed after one another will be so again: a
 * check takes along those that follow in the list, the more of them the longer that guess was right.
 */
#include <stdlib.h>
#include <sys/stat.h>

#include "platform/host/clock.h"
#include "sentry/fs/gofer/gofer_priv.h"

/* Inodes that are looked at for the next file to open: directories, links and open files lie between. */
#define AHEAD_LOOK 64

static struct mutex fs_list_mu = { .m = PTHREAD_MUTEX_INITIALIZER, .rank = LOCK_FS_DATA };
static struct list_node fs_list = LIST_INIT(fs_list); /* gofer_sb.fs_node */

void check_sb_add(struct gofer_sb *fs)
{
	GUARD(mutex, &fs_list_mu);
	list_add_tail(&fs_list, &fs->fs_node);
}

void check_sb_remove(struct gofer_sb *fs)
{
	GUARD(mutex, &fs_list_mu);
	list_del(&fs->fs_node);
}

void check_add(struct gofer_inode *gi)
{
	GUARD(mutex, &gi->fs->check_mu);
	list_add_tail(&gi->fs->checked, &gi->checked_node);
}

void check_remove(struct gofer_inode *gi)
{
	GUARD(mutex, &gi->fs->check_mu);
	list_del(&gi->checked_node);
	if (gi->fs->check_next == gi)
		gi->fs->check_next = NULL;
	if (gi->fs->open_next == gi)
		gi->fs->open_next = NULL;
}

void check_expire(struct gofer_sb *fs)
{
	struct gofer_inode *gi;

	GUARD(mutex, &fs->check_mu);
	list_for_each(gi, &fs->checked, checked_node)
		gi->inode.valid_until_ns = 0;
}

void gofer_expire_all(void)
{
	struct gofer_sb *fs;

	GUARD(mutex, &fs_list_mu);
	list_for_each(fs, &fs_list, fs_node)
		check_expire(fs);
}

bool check_due(const struct gofer_inode *gi)
{
	return gi->inode.valid_until_ns < host_clock_ns(CLOCK_MONOTONIC_COARSE);
}

/* The first regular file from at on that has no descriptor; NULL: none is near. */
static struct gofer_inode *next_unopened(struct gofer_sb *fs, struct list_node *at)
{
	for (int looked = 0; at != &fs->checked && looked < AHEAD_LOOK; at = at->next, looked++) {
		struct gofer_inode *gi = container_of(at, struct gofer_inode, checked_node);

		if (S_ISREG(gi->inode.mode) && __atomic_load_n(&gi->rfd, __ATOMIC_RELAXED) < 0 &&
		    __atomic_load_n(&gi->wfd, __ATOMIC_RELAXED) < 0 && !gi->gone)
			return gi;
	}
	return NULL;
}

uint32_t check_open_ahead(struct gofer_inode *gi, struct gofer_inode **ahead)
{
	struct gofer_sb *fs = gi->fs;
	struct gofer_inode *next;
	uint32_t count = 0;

	if (fs->cache != GOFER_EXCLUSIVE)
		return 0;
	GUARD(mutex, &fs->check_mu);
	fs->open_window = fs->open_next == gi ? MIN(fs->open_window * 2 + 1, GOFER_AHEAD_MAX) : 0;
	next = next_unopened(fs, gi->checked_node.next);
	while (next && count < fs->open_window) {
		if (refcount_try_get(&next->inode.refs))
			ahead[count++] = next;
		next = next_unopened(fs, next->checked_node.next);
	}
	fs->open_next = next;
	return count;
}

struct check_job {
	struct gofer_check_req req;
	struct gofer_check_rep rep;
	struct gofer_inode *gi[GOFER_CHECK_MAX]; /* references */
	uint32_t changes[GOFER_CHECK_MAX];
};

/* Takes a reference; false when the inode is on its way out. */
static bool job_add(struct check_job *job, struct gofer_inode *gi)
{
	if (!refcount_try_get(&gi->inode.refs))
		return false;
	job->changes[job->req.nodes.count] = gi->changes;
	job->gi[job->req.nodes.count++] = gi;
	return true;
}

/* Collects gi and what is due behind it, and moves them to the end of the list. */
static void job_collect(struct check_job *job, struct gofer_inode *gi)
{
	struct gofer_sb *fs = gi->fs;
	struct list_node *at = gi->checked_node.next, *next;
	struct gofer_inode *other;

	GUARD(mutex, &fs->check_mu);
	at = gi->checked_node.next;
	fs->check_window = fs->check_next == gi ? MIN(fs->check_window * 2, GOFER_CHECK_MAX) : CHECK_MIN;
	if (!job_add(job, gi))
		return;
	/* A few that need no check may lie between. */
	for (uint32_t looked = 0; at != &fs->checked && looked < fs->check_window * 2; at = next, looked++) {
		next = at->next;
		other = container_of(at, struct gofer_inode, checked_node);
		if (job->req.nodes.count == fs->check_window)
			break;
		if (other != gi && check_due(other) && !other->stale && !other->opens)
			(void)!job_add(job, other);
	}
	fs->check_next = at == &fs->checked ? NULL : container_of(at, struct gofer_inode, checked_node);
	for (uint32_t k = 0; k < job->req.nodes.count; k++) {
		list_del(&job->gi[k]->checked_node);
		list_add_tail(&fs->checked, &job->gi[k]->checked_node);
	}
}

/* One answer. */
static void job_apply(struct gofer_inode *gi, uint32_t changes, const struct gofer_checked *c, bool *ret_moved)
{
	GUARD(mutex, &gi->inode.mu);
	if (c->error == 0 && gi->changes == changes) {
		gofer_inode_update(gi, &c->attr);
		gi->stale = false;
		return;
	}
	gi->inode.valid_until_ns = host_clock_ns(CLOCK_MONOTONIC_COARSE) + EXCLUSIVE_VALID_NS;
	if (c->error != ESTALE || gi->gone)
		return;
	gi->gone = true;
	if (S_ISDIR(gi->inode.mode))
		gofer_names_forget(gi);
	*ret_moved |= gi->inode.nlink != 0;
}

int gofer_check(struct gofer_inode *gi)
{
	struct gofer_client *c = gofer_client_of(gi);
	struct check_job *job = malloc(sizeof(*job));
	bool moved = false;
	int r;

	if (!job)
		return -ENOMEM;
	job->req.nodes.count = 0;
	job_collect(job, gi);
	for (uint32_t k = 0; k < job->req.nodes.count; k++)
		job->req.nodes.v[k].id = gofer_node(job->gi[k]);
	mutex_lock(&c->mu);
	r = gofer_call_locked(c, check, &job->req, &job->rep, NULL);
	if (r == 0 && job->rep.nodes.count != job->req.nodes.count)
		r = client_broken(c, NULL);
	mutex_unlock(&c->mu);
	for (uint32_t k = 0; k < job->req.nodes.count; k++) {
		if (r == 0)
			job_apply(job->gi[k], job->changes[k], &job->rep.nodes.v[k], &moved);
		inode_put(&job->gi[k]->inode);
	}
	/* Its directory was changed, and must not count as right for the rest of its second. */
	if (moved)
		check_expire(gi->fs);
	free(job);
	return r;
}

void gofer_verify(struct inode *dir)
{
	struct gofer_inode *gd = gofer_inode_of(dir);

	/* Whoever cannot ask goes on with what is known. */
	if (gofer_check(gd) < 0)
		dir->valid_until_ns = host_clock_ns(CLOCK_MONOTONIC_COARSE) + EXCLUSIVE_VALID_NS;
}
