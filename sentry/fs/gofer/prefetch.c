/* Children that came along with other answers: kept for the lookup that is about to follow. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "platform/host/clock.h"
#include "sentry/fs/gofer/gofer_priv.h"

/* What a shared file system told is used at once or not at all. */
#define SHARED_VALID_NS 1000000
/* Bound of the score, and how often it is put to the test while it is bad. */
#define SCORE_MAX 512
#define PROBE_EVERY 16

static struct prefetch **bucket_of(const struct gofer_inode *dir, const char *name)
{
	uint32_t h = (uint32_t)((uintptr_t)dir >> 6);

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return &dir->fs->prefetch_table[(h ^ h >> 15) % PREFETCH_BUCKETS];
}

static void unlink_locked(struct gofer_sb *fs, struct prefetch *p)
{
	struct prefetch **link = bucket_of(p->dir, p->name);

	while (*link != p)
		link = &(*link)->hash_next;
	*link = p->hash_next;
	list_del(&p->dir_node);
	list_del(&p->fs_node);
	fs->prefetch_count--;
}

/* Entries that came with a listing were used, or went unused. */
static void score_locked(struct gofer_sb *fs, const struct prefetch *p, bool used)
{
	if (!p->listed || (p->inode && S_ISDIR(p->inode->mode)))
		return;
	if (used)
		fs->prefetch_score = MIN(fs->prefetch_score + 2, SCORE_MAX);
	else
		fs->prefetch_score = MAX(fs->prefetch_score - 1, -SCORE_MAX);
}

bool prefetch_worthwhile(struct gofer_sb *fs)
{
	GUARD(mutex, &fs->prefetch_mu);
	return fs->prefetch_score >= 0 || ++fs->listings % PROBE_EVERY == 0;
}

static void prefetch_free(struct prefetch *p)
{
	inode_put(p->inode);
	free(p);
}

static struct prefetch *find_locked(struct gofer_inode *dir, const char *name)
{
	struct prefetch *p = *bucket_of(dir, name);

	while (p && (p->dir != dir || strcmp(p->name, name) != 0))
		p = p->hash_next;
	return p;
}

void prefetch_add(struct gofer_inode *dir, const char *name, struct inode *inode, uint32_t changes,
		  bool listed)
{
	struct gofer_sb *fs = dir->fs;
	size_t size = strlen(name) + 1;
	struct prefetch *p = malloc(sizeof(*p) + size), *old = NULL, **head;

	if (!p) {
		inode_put(inode);
		return;
	}
	*p = (struct prefetch){ .dir = dir, .inode = inode,
				.listed = listed, .when_ns = host_monotonic_ns() };
	memcpy(p->name, name, size);
	mutex_lock(&fs->prefetch_mu);
	if (fs->changes != changes) {
		mutex_unlock(&fs->prefetch_mu);
		prefetch_free(p);
		return;
	}
	head = bucket_of(dir, name);
	p->hash_next = *head;
	*head = p;
	list_add_tail(&dir->prefetched, &p->dir_node);
	list_add_tail(&fs->prefetched, &p->fs_node);
	if (++fs->prefetch_count > PREFETCH_MAX) {
		old = list_first(&fs->prefetched, struct prefetch, fs_node);
		unlink_locked(fs, old);
		score_locked(fs, old, false);
	}
	mutex_unlock(&fs->prefetch_mu);
	if (old)
		prefetch_free(old);
}

bool prefetch_take(struct gofer_inode *dir, const char *name, struct inode **ret_inode)
{
	struct gofer_sb *fs = dir->fs;
	struct prefetch *p;
	bool valid;

	mutex_lock(&fs->prefetch_mu);
	p = find_locked(dir, name);
	if (p) {
		unlink_locked(fs, p);
		score_locked(fs, p, true);
	}
	mutex_unlock(&fs->prefetch_mu);
	if (!p)
		return false;
	valid = fs->cache == GOFER_EXCLUSIVE || host_monotonic_ns() - p->when_ns < SHARED_VALID_NS;
	if (valid) {
		*ret_inode = p->inode;
		p->inode = NULL;
	}
	prefetch_free(p);
	return valid;
}

void prefetch_drop(struct gofer_inode *dir, const char *name)
{
	struct gofer_sb *fs = dir->fs;
	struct prefetch *p;

	for (;;) {
		mutex_lock(&fs->prefetch_mu);
		p = name ? find_locked(dir, name) :
			   list_first(&dir->prefetched, struct prefetch, dir_node);
		if (p)
			unlink_locked(fs, p);
		if (p && !name)
			score_locked(fs, p, false);
		mutex_unlock(&fs->prefetch_mu);
		if (!p)
			return;
		prefetch_free(p);
	}
}

void prefetch_drop_all(struct gofer_sb *fs)
{
	struct prefetch *p;

	while ((p = list_first(&fs->prefetched, struct prefetch, fs_node))) {
		unlink_locked(fs, p);
		prefetch_free(p);
	}
}
