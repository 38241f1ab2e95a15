/* Inodes of a gofer file system: identity, attributes, links, extended attributes; the superblock. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "platform/host/clock.h"
#include "sentry/fs/gofer/gofer_priv.h"

/* Attributes of a shared file system count as right for this long after they were seen. */
#define SHARED_VALID_NS 1000000
/* The longest tick of host kernels, and some. */
#define TICK_NS 20000000

static void gofer_free(struct inode *i);

struct gofer_inode *gofer_inode_of(struct inode *i)
{
	BUG_ON(i->ops->free != gofer_free);
	return container_of(i, struct gofer_inode, inode);
}

static struct timespec host_time(int64_t s, uint32_t ns)
{
	return (struct timespec){ .tv_sec = s, .tv_nsec = ns < 1000000000 ? (long)ns : 0 };
}

/* Numbers of files on further host devices below the root are moved out of each other's way. */
uint64_t gofer_ino(const struct gofer_sb *fs, uint64_t dev, uint64_t ino)
{
	if (dev == fs->root_dev)
		return ino;
	return ino ^ ((dev * 0x9e3779b97f4a7c15ull >> 48) << 40);
}

static bool same_time(struct timespec a, struct timespec b)
{
	return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static struct gofer_inode **table_bucket(struct gofer_sb *fs, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino * 0x9e3779b97f4a7c15ull) ^ (dev * 0xbf58476d1ce4e5b9ull);

	return &fs->table[(h >> 32) & (fs->table_buckets - 1)];
}

static void table_grow_locked(struct gofer_sb *fs)
{
	uint32_t old_buckets = fs->table_buckets;
	struct gofer_inode **old = fs->table, *gi, *next;
	struct gofer_inode **table = calloc(old_buckets * 2, sizeof(struct gofer_inode *));

	if (!table)
		return;
	fs->table = table;
	fs->table_buckets = old_buckets * 2;
	for (uint32_t b = 0; b < old_buckets; b++) {
		for (gi = old[b]; gi; gi = next) {
			struct gofer_inode **head = table_bucket(fs, gi->host_dev, gi->host_ino);

			next = gi->table_next;
			gi->table_next = *head;
			*head = gi;
		}
	}
	free(old);
}

static void table_remove_locked(struct gofer_inode *gi)
{
	struct gofer_inode **p = table_bucket(gi->fs, gi->host_dev, gi->host_ino);

	if (!gi->in_table)
		return;
	while (*p != gi)
		p = &(*p)->table_next;
	*p = gi->table_next;
	gi->in_table = false;
	gi->fs->table_count--;
}

/* The same file as known before: number, device, type, and birth time where the host has one. */
static bool same_file(const struct gofer_inode *gi, const struct gofer_attr *a)
{
	struct timespec btime = host_time(a->btime_s, a->btime_ns);

	return gi->host_ino == a->ino && gi->host_dev == a->dev &&
	       (gi->inode.mode & S_IFMT) == (a->mode & S_IFMT) &&
	       (S_ISDIR(a->mode) || same_time(gi->host_btime, btime));
}

static void table_insert_locked(struct gofer_sb *fs, struct gofer_inode *gi)
{
	struct gofer_inode **head;

	if (fs->table_count >= fs->table_buckets)
		table_grow_locked(fs);
	head = table_bucket(fs, gi->host_dev, gi->host_ino);
	gi->table_next = *head;
	*head = gi;
	gi->in_table = true;
	fs->table_count++;
}

/* The gofer says that this file, the same as before, has other numbers now: an overlay of the host copied it up. */
static void rebind(struct gofer_inode *gi, const struct gofer_attr *a)
{
	struct gofer_sb *fs = gi->fs;

	GUARD(mutex, &fs->table_mu);
	table_remove_locked(gi);
	gi->host_ino = a->ino;
	gi->host_dev = a->dev;
	gi->host_btime = host_time(a->btime_s, a->btime_ns);
	table_insert_locked(fs, gi);
}

void gofer_names_forget(struct gofer_inode *gd)
{
	struct listing *l = gd->listing;
	struct names *n = gd->names;

	mutex_assert_held(&gd->inode.mu);
	gd->listing = NULL;
	gd->names = NULL;
	listing_put(l);
	names_free(n);
	gd->misses = 0;
	gd->fs->changes++;
	prefetch_drop(gd, NULL);
	gd->inode.names_gen++;
}

/* Was that less than a tick ago? The time comes from the gofer and may be any. */
static bool is_recent(struct timespec t)
{
	int64_t now = host_clock_ns(CLOCK_REALTIME_COARSE) - TICK_NS;
	int64_t s = now / 1000000000;

	return t.tv_sec > s || (t.tv_sec == s && t.tv_nsec > now % 1000000000);
}

/*
 * The host says that ctime is when the directory changed last. Before Linux 6.13 two changes within one tick have the same
 * time: after a change shortly before, an equal time is believed only later.
 */
static void dir_seen(struct gofer_inode *gd, struct timespec ctime)
{
	bool recent = is_recent(ctime);

	if (!same_time(ctime, gd->seen_ctime)) {
		gofer_names_forget(gd);
	} else if (gd->recent && !recent) {
		gofer_names_forget(gd);
	}
	gd->recent = recent;
}

void gofer_dir_changed(struct gofer_inode *gd, const struct gofer_around *around)
{
	struct timespec before = host_time(around->before_s, around->before_ns);

	if (gd->fs->cache == GOFER_SHARED || around->attr.ino != gd->host_ino) {
		gofer_names_forget(gd);
		gofer_inode_touch(gd);
		return;
	}
	if (!same_time(before, gd->seen_ctime))
		gofer_names_forget(gd);
	gd->recent = true;
	gd->seen_ctime = host_time(around->attr.ctime_s, around->attr.ctime_ns);
	gofer_inode_update(gd, &around->attr);
}

void gofer_inode_update(struct gofer_inode *gi, const struct gofer_attr *a)
{
	struct inode *i = &gi->inode;
	struct timespec ctime = host_time(a->ctime_s, a->ctime_ns);

	mutex_assert_held(&i->mu);
	if (gi->fs->cache == GOFER_EXCLUSIVE) {
		if (S_ISDIR(i->mode))
			dir_seen(gi, ctime);
		/* Attributes that are not our own doing may be new. */
		if (!gi->stale && !same_time(ctime, gi->seen_ctime))
			gi->xattrs = XATTRS_UNKNOWN;
		gi->seen_ctime = ctime;
		gi->gone = false;
		i->valid_until_ns = host_clock_ns(CLOCK_MONOTONIC_COARSE) + EXCLUSIVE_VALID_NS;
	}
	if (a->ino && !same_file(gi, a))
		rebind(gi, a);
	gi->changes++;
	if (!(gi->pending & GOFER_SET_MODE))
		i->mode = (i->mode & S_IFMT) | (a->mode & 07777);
	i->nlink = a->nlink;
	i->uid = KUID(a->uid);
	i->gid = KGID(a->gid);
	__atomic_store_n(&i->size, MIN(a->size, (uint64_t)INT64_MAX), __ATOMIC_RELAXED);
	if (!(gi->pending & GOFER_SET_ATIME))
		i->atime = host_time(a->atime_s, a->atime_ns);
	if (!(gi->pending & GOFER_SET_MTIME))
		i->mtime = host_time(a->mtime_s, a->mtime_ns);
	i->ctime = ctime;
	gi->blocks = a->blocks;
	gi->blksize = a->blksize;
	gi->known_ns = host_monotonic_ns();
}

void gofer_inode_touch(struct gofer_inode *gi)
{
	gi->changes++;
	gi->stale = true;
}

/* Adds a node reference to an inode that is known already; false when the inode has that node. */
static bool node_add_locked(struct gofer_inode *gi, uint64_t id)
{
	uint64_t *node;

	for (uint32_t k = 0; k < gi->node_count; k++) {
		if (gi->node[k] == id)
			return false;
	}
	if (gi->node_count == gi->node_capacity) {
		node = malloc(2 * gi->node_capacity * sizeof(*node));
		if (!node)
			return false;
		memcpy(node, gi->node, gi->node_count * sizeof(*node));
		if (gi->node != &gi->node0)
			free(gi->node);
		gi->node = node;
		gi->node_capacity *= 2;
	}
	gi->node[gi->node_count++] = id;
	return true;
}

uint64_t gofer_node(struct gofer_inode *gi)
{
	GUARD(mutex, &gi->fs->table_mu);
	return gi->node[0];
}

static const struct inode_ops *ops_of(const struct gofer_sb *fs)
{
	return fs->cache == GOFER_EXCLUSIVE ? &gofer_ops_exclusive : &gofer_ops_shared;
}

static struct gofer_inode *gofer_inode_new(struct gofer_sb *fs, const struct gofer_entry *e)
{
	const struct gofer_attr *a = &e->attr;
	struct gofer_inode *gi = calloc(1, sizeof(*gi));

	if (!gi)
		return NULL;
	inode_init(&gi->inode, ops_of(fs), fs->sb, gofer_ino(fs, a->dev, a->ino), a->mode);
	gi->inode.rdev = a->rdev;
	gi->inode.btime = host_time(a->btime_s, a->btime_ns);
	gi->fs = fs;
	gi->host_ino = a->ino;
	gi->host_dev = a->dev;
	gi->host_btime = gi->inode.btime;
	gi->node = &gi->node0;
	gi->node0 = e->id;
	gi->node_count = gi->node_capacity = 1;
	gi->rfd = gi->wfd = -1;
	list_init(&gi->idle_node);
	list_init(&gi->prefetched);
	mappable_init(&gi->mappable, &gofer_mappable_ops);
	if (S_ISREG(a->mode)) {
		gi->inode.mappable = &gi->mappable;
		gi->inode.fops = &gofer_file_fops;
	} else if (S_ISDIR(a->mode)) {
		gi->inode.fops = &gofer_dir_fops;
	}
	gi->seen_ctime = host_time(a->ctime_s, a->ctime_ns);
	list_init(&gi->checked_node);
	/* Nested: the directory's is held. */
	mutex_lock_nested(&gi->inode.mu);
	gofer_inode_update(gi, a);
	mutex_unlock(&gi->inode.mu);
	if (fs->cache == GOFER_EXCLUSIVE)
		check_add(gi);
	return gi;
}

static bool gofer_identity(struct inode *i, struct file_identity *ret)
{
	struct gofer_inode *gi = gofer_inode_of(i);

	GUARD(mutex, &gi->fs->table_mu);
	*ret = (struct file_identity){ gi->host_dev, gi->host_ino, gi->host_btime };
	return gi->host_ino != 0;
}

static uint32_t place_hash(const char *name)
{
	uint32_t h = 2166136261u;

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

static bool same_place(const struct gofer_inode *gi, const struct gofer_inode *dir, uint32_t name)
{
	return !S_ISDIR(gi->inode.mode) || (gi->place_dir == dir && gi->place_name == name);
}

/* The live inode for e with a new reference, or NULL; one that died or was replaced leaves the table. */
static struct gofer_inode *table_find_locked(struct gofer_sb *fs, const struct gofer_entry *e,
					     const struct gofer_inode *dir, uint32_t name)
{
	struct gofer_inode *gi = *table_bucket(fs, e->attr.dev, e->attr.ino);

	for (; gi; gi = gi->table_next) {
		if (gi->host_ino != e->attr.ino || gi->host_dev != e->attr.dev)
			continue;
		if (same_file(gi, &e->attr) && same_place(gi, dir, name) &&
		    refcount_try_get(&gi->inode.refs))
			return gi;
		table_remove_locked(gi);
		return NULL;
	}
	return NULL;
}

void gofer_inode_placed(struct gofer_inode *gi, struct gofer_inode *dir, const char *name)
{
	GUARD(mutex, &gi->fs->table_mu);
	gi->place_dir = dir;
	gi->place_name = place_hash(name);
}

int gofer_inode_get(struct gofer_sb *fs, const struct gofer_entry *e, struct gofer_inode *dir,
		    const char *name, struct inode **ret_inode)
{
	uint32_t hash = place_hash(name);
	struct gofer_inode *gi, *fresh = NULL;
	bool surplus = false;

	for (;;) {
		mutex_lock(&fs->table_mu);
		gi = table_find_locked(fs, e, dir, hash);
		if (gi)
			surplus = !node_add_locked(gi, e->id);
		else if (fresh)
			table_insert_locked(fs, fresh);
		mutex_unlock(&fs->table_mu);
		if (gi || fresh)
			break;
		fresh = gofer_inode_new(fs, e);
		if (!fresh) {
			client_close_node(&fs->client, e->id);
			return -ENOMEM;
		}
		fresh->place_dir = dir;
		fresh->place_name = hash;
	}
	if (!gi) {
		*ret_inode = &fresh->inode;
		return 0;
	}
	if (fresh) { /* somebody else was faster */
		fresh->node_count = 0;
		inode_put(&fresh->inode);
	}
	if (surplus)
		client_close_node(&fs->client, e->id);
	if (fs->cache == GOFER_SHARED) {
		mutex_lock_nested(&gi->inode.mu);
		gofer_inode_update(gi, &e->attr);
		mutex_unlock(&gi->inode.mu);
	}
	*ret_inode = &gi->inode;
	return 0;
}

static void gofer_free(struct inode *i)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_sb *fs = gi->fs;

	mutex_lock(&fs->table_mu);
	table_remove_locked(gi);
	mutex_unlock(&fs->table_mu);
	check_remove(gi);
	prefetch_drop(gi, NULL);
	gofer_handles_close(gi);
	host_frames_put(gi->frames);
	for (uint32_t k = 0; k < gi->node_count; k++)
		client_close_node(&fs->client, gi->node[k]);
	if (gi->node != &gi->node0)
		free(gi->node);
	listing_put(gi->listing);
	names_free(gi->names);
	free(gi->target);
	mappable_fini(&gi->mappable);
	inode_fini(i);
	free(gi);
}

/* Asks by an open descriptor, which costs no round trip and works for unlinked files. */
static int refresh_by_handle(struct gofer_inode *gi)
{
	int fd = gofer_handle_pin(gi, false);
	struct inode *i = &gi->inode;
	struct stat st;
	int r = -EBADF;

	if (fd >= 0 && fstat_fd(fd, &st) == 0) {
		struct gofer_attr a = {
			.mode = st.st_mode,
			.nlink = (uint32_t)st.st_nlink,
			.uid = st.st_uid,
			.gid = st.st_gid,
			.size = (uint64_t)st.st_size,
			.blocks = (uint64_t)st.st_blocks,
			.blksize = (uint32_t)st.st_blksize,
			.atime_s = st.st_atim.tv_sec,
			.atime_ns = (uint32_t)st.st_atim.tv_nsec,
			.mtime_s = st.st_mtim.tv_sec,
			.mtime_ns = (uint32_t)st.st_mtim.tv_nsec,
			.ctime_s = st.st_ctim.tv_sec,
			.ctime_ns = (uint32_t)st.st_ctim.tv_nsec,
		};

		mutex_assert_held(&i->mu);
		gofer_inode_update(gi, &a);
		r = 0;
	}
	if (fd >= 0)
		gofer_handle_unpin(gi);
	return r;
}

int gofer_refresh(struct inode *i)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_getattr_req req;
	struct gofer_getattr_rep rep;
	bool due = false;
	int r;

	if (gi->fs->cache == GOFER_EXCLUSIVE) {
		due = check_due(gi);
		if (!gi->stale && !due)
			return 0;
	} else if (!gi->stale && host_monotonic_ns() - gi->known_ns < SHARED_VALID_NS) {
		return 0;
	}
	if (due && !gi->opens) {
		r = gofer_check(gi);
		if (r < 0 || !gi->stale)
			return r;
	}
	GUARD(mutex, &i->mu);
	if (refresh_by_handle(gi) == 0) {
		gi->stale = false;
		return 0;
	}
	gi->stale = false;
	req.node = gofer_node(gi);
	r = gofer_call(gofer_client_of(gi), getattr, &req, &rep, NULL);
	if (r == 0)
		gofer_inode_update(gi, &rep.attr);
	else
		gi->stale = true;
	/* A file that lost its last name: what is known is the best there is. */
	return r == -ESTALE && i->nlink == 0 ? 0 : r;
}

static void gofer_getattr(struct inode *i, struct kstat *st)
{
	struct gofer_inode *gi = gofer_inode_of(i);

	st->blocks = gi->blocks;
	st->blksize = gi->blksize;
}

/* A file without a name has no path on the host any more: truncate it by its descriptor. */
static int set_size_by_handle(struct gofer_inode *gi, uint64_t size)
{
	int fd = gofer_handle_pin(gi, true), r = -EBADF;

	if (fd < 0)
		return r;
	r = ftruncate(fd, (off_t)size) < 0 ? -errno : 0;
	gofer_handle_unpin(gi);
	if (r == 0) {
		__atomic_store_n(&gi->inode.size, size, __ATOMIC_RELAXED);
		gofer_inode_touch(gi);
	}
	return r;
}

/*
 * What archivers and installers do between making a file and closing it: times, mode, the owner that it has already. Nobody on the
 * host waits for that, and it cannot fail on a file of our own: it goes to the host when the file is closed.
 */
static bool may_keep_back(const struct gofer_inode *gi, const struct kattr *attr)
{
	const struct inode *i = &gi->inode;

	return gi->made && gi->opens && !gi->frames && !(attr->mask & ATTR_SIZE) &&
	       (!(attr->mask & ATTR_UID) || attr->uid.v == i->uid.v) &&
	       (!(attr->mask & ATTR_GID) || attr->gid.v == i->gid.v);
}

/* Adds what was kept back to a request, unless that sets it anew. inode.mu held. */
static void add_pending(struct gofer_inode *gi, struct gofer_setattr_req *req)
{
	const struct inode *i = &gi->inode;
	uint32_t add = gi->pending & ~req->valid;

	if (add & GOFER_SET_MODE)
		req->mode = i->mode & 07777;
	if (add & GOFER_SET_ATIME) {
		req->atime_s = i->atime.tv_sec;
		req->atime_ns = (uint32_t)i->atime.tv_nsec;
	}
	if (add & GOFER_SET_MTIME) {
		req->mtime_s = i->mtime.tv_sec;
		req->mtime_ns = (uint32_t)i->mtime.tv_nsec;
	}
	req->valid |= add;
	gi->pending = 0;
}

int gofer_flush(struct gofer_inode *gi)
{
	struct gofer_setattr_req req = { .node = gofer_node(gi) };
	struct gofer_setattr_rep rep;
	int r;

	if (!gi->pending)
		return 0;
	GUARD(mutex, &gi->inode.mu);
	add_pending(gi, &req);
	if (gi->inode.nlink == 0)
		return 0;
	r = req.valid ? gofer_call(gofer_client_of(gi), setattr, &req, &rep, NULL) : 0;
	if (r == 0 && req.valid)
		gofer_inode_update(gi, &rep.around.attr);
	else
		gofer_inode_touch(gi);
	return r;
}

static int gofer_setattr(struct inode *i, const struct kattr *attr)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_setattr_req req = {
		.node = gofer_node(gi),
		.valid = attr->mask & GOFER_SET_ALL,
		.mode = attr->mode & 07777,
		.uid = attr->uid.v,
		.gid = attr->gid.v,
		.size = attr->size,
		.atime_s = attr->atime.tv_sec,
		.atime_ns = (uint32_t)attr->atime.tv_nsec,
		.mtime_s = attr->mtime.tv_sec,
		.mtime_ns = (uint32_t)attr->mtime.tv_nsec,
	};
	struct gofer_setattr_rep rep;
	uint64_t old_size = i->size;
	int r = 0;

#define SAME_BIT(name) _Static_assert((int)ATTR_##name == (int)GOFER_SET_##name, #name)
	SAME_BIT(MODE);
	SAME_BIT(UID);
	SAME_BIT(GID);
	SAME_BIT(SIZE);
	SAME_BIT(ATIME);
	SAME_BIT(MTIME);
	SAME_BIT(ATIME_NOW);
	SAME_BIT(MTIME_NOW);
#undef SAME_BIT
	if (may_keep_back(gi, attr)) {
		inode_apply_attr(i, attr);
		gi->pending |= attr->mask & (GOFER_SET_MODE | GOFER_SET_ATIME | GOFER_SET_MTIME);
		return 0;
	}
	if (!(req.valid & GOFER_SET_ATIME))
		req.atime_s = req.atime_ns = 0;
	if (!(req.valid & GOFER_SET_MTIME))
		req.mtime_s = req.mtime_ns = 0;
	if ((req.valid & GOFER_SET_SIZE) && set_size_by_handle(gi, attr->size) == 0)
		req.valid &= ~(uint32_t)GOFER_SET_SIZE;
	if (req.valid)
		add_pending(gi, &req);
	if (req.valid)
		r = gofer_call(gofer_client_of(gi), setattr, &req, &rep, NULL);
	if (r == 0 && req.valid && S_ISDIR(i->mode))
		gofer_dir_changed(gi, &rep.around);
	else if (r == 0 && req.valid)
		gofer_inode_update(gi, &rep.around.attr);
	else if (r == 0)
		gofer_inode_touch(gi);
	if ((attr->mask & ATTR_SIZE) && i->size < old_size)
		mappable_invalidate(&gi->mappable, ALIGN_UP(i->size, 4096ull), INT64_MAX);
	return r;
}

static int64_t gofer_readlink(struct inode *i, char *buf, size_t size)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_client *c = gofer_client_of(gi);
	struct gofer_readlink_req req;
	struct gofer_readlink_rep rep;
	char *text = gi->target, *expected = NULL;
	size_t len;
	int r;

	if (!text) {
		req.node = gofer_node(gi);
		mutex_lock(&c->mu);
		r = gofer_call_locked(c, readlink, &req, &rep, NULL);
		text = r == 0 ? strndup(rep.target.p, rep.target.len) : NULL;
		mutex_unlock(&c->mu);
		if (r < 0)
			return r;
		if (!text)
			return -ENOMEM;
		if (!atomic_compare_exchange_strong(&gi->target, &expected, text)) {
			free(text);
			text = expected;
		}
	}
	len = MIN(strlen(text), size);
	memcpy(buf, text, len);
	return (int64_t)len;
}

static struct gofer_str xattr_name(const char *name)
{
	return (struct gofer_str){ name, (uint16_t)MIN(strlen(name), (size_t)UINT16_MAX) };
}

/* Copies the names that the guest may see; returns their size. buf may be NULL. */
static uint32_t visible_names(const struct gofer_blob *names, char *buf)
{
	const char *p = names->p, *end = p + names->size;
	uint32_t size = 0;

	while (p < end) {
		size_t len = strnlen(p, (size_t)(end - p));

		if (len && p + len < end && strncmp(p, "system.", 7) != 0) {
			if (buf)
				memcpy(buf + size, p, len + 1);
			size += (uint32_t)len + 1;
		}
		p += len + 1;
	}
	return size;
}

static int64_t gofer_listxattr(struct inode *i, char *buf, size_t size)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_listxattr_req req = { .node = gofer_node(gi) };
	struct gofer_listxattr_rep rep;
	int64_t r;

	if (gi->xattrs == XATTRS_NONE)
		return 0;
	GUARD(mutex, &gofer_client_of(gi)->mu);
	r = gofer_call_locked(gofer_client_of(gi), listxattr, &req, &rep, NULL);
	if (r < 0)
		return r;
	r = visible_names(&rep.names, NULL);
	if (gi->fs->cache == GOFER_EXCLUSIVE)
		gi->xattrs = r ? XATTRS_SOME : XATTRS_NONE;
	if (size && r > (int64_t)size)
		return -ERANGE;
	if (size)
		visible_names(&rep.names, buf);
	return r;
}

/*
 * Is it certain that the file lacks this attribute? Access control lists and labels of the host's
 * security modules mean nothing here, and every ls -l asks for them. Most files have no attribute at
 * all: the first question about one asks for the list. inode.mu held.
 */
static int xattr_absent(struct gofer_inode *gi, const char *name)
{
	if (strncmp(name, "system.", 7) == 0)
		return -EOPNOTSUPP;
	if (strcmp(name, "security.selinux") == 0)
		return -ENODATA;
	if (gi->fs->cache == GOFER_SHARED)
		return 0;
	if (gi->xattrs == XATTRS_UNKNOWN)
		(void)!gofer_listxattr(&gi->inode, NULL, 0);
	return gi->xattrs == XATTRS_NONE ? -ENODATA : 0;
}

static int64_t gofer_getxattr(struct inode *i, const char *name, void *buf, size_t size)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_getxattr_req req = {
		.node = gofer_node(gi),
		.name = xattr_name(name),
		.max = (uint32_t)MIN(size, (size_t)GOFER_XATTR_SIZE_MAX),
	};
	struct gofer_getxattr_rep rep;
	int64_t r = xattr_absent(gi, name);

	if (r < 0)
		return r;
	GUARD(mutex, &gofer_client_of(gi)->mu);
	r = gofer_call_locked(gofer_client_of(gi), getxattr, &req, &rep, NULL);
	if (r < 0)
		return r;
	if (size && rep.value.size > size)
		return -ERANGE;
	if (size)
		memcpy(buf, rep.value.p, rep.value.size);
	return size ? rep.value.size : MIN(rep.size, GOFER_XATTR_SIZE_MAX);
}

static int gofer_setxattr(struct inode *i, const char *name, const void *buf, size_t size, int flags)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	union {
		const void *in;
		void *p;
	} value = { .in = buf }; /* packing only reads it */
	struct gofer_setxattr_req req = {
		.node = gofer_node(gi),
		.name = xattr_name(name),
		.flags = (uint32_t)flags,
		.value = { value.p, (uint32_t)size },
	};
	struct gofer_setxattr_rep rep;

	if (size > GOFER_XATTR_SIZE_MAX)
		return -ENOSPC;
	if (strncmp(name, "system.", 7) == 0)
		return -EOPNOTSUPP;
	gi->xattrs = XATTRS_UNKNOWN;
	gofer_inode_touch(gi);
	return gofer_call(gofer_client_of(gi), setxattr, &req, &rep, NULL);
}

static int gofer_removexattr(struct inode *i, const char *name)
{
	struct gofer_inode *gi = gofer_inode_of(i);
	struct gofer_removexattr_req req = { .node = gofer_node(gi), .name = xattr_name(name) };
	struct gofer_removexattr_rep rep;

	gofer_inode_touch(gi);
	return gofer_call(gofer_client_of(gi), removexattr, &req, &rep, NULL);
}

int gofer_connect(struct inode *i, int type, int *ret_fd)
{
	struct gofer_connect_req req = { .type = (uint32_t)type };
	struct gofer_connect_rep rep;
	struct gofer_inode *gi;
	int r;

	if (i->ops->free != gofer_free || !S_ISSOCK(i->mode))
		return -ECONNREFUSED;
	gi = gofer_inode_of(i);
	if (!gi->fs->uds)
		return -ECONNREFUSED;
	req.node = gofer_node(gi);
	r = gofer_call(gofer_client_of(gi), connect, &req, &rep, ret_fd);
	return r == 0 && *ret_fd < 0 ? -EIO : r;
}

#define GOFER_OPS                                                                                  \
	.free = gofer_free, .lookup = gofer_lookup, .create = gofer_create, .mkdir = gofer_mkdir,  \
	.mknod = gofer_mknod, .symlink = gofer_symlink, .link = gofer_link,                        \
	.unlink = gofer_unlink, .rmdir = gofer_rmdir, .rename = gofer_rename,                      \
	.tmpfile = gofer_tmpfile,                                                                  \
	.readlink = gofer_readlink, .refresh = gofer_refresh, .getattr = gofer_getattr,            \
	.setattr = gofer_setattr, .open = gofer_open, .getxattr = gofer_getxattr,                  \
	.setxattr = gofer_setxattr, .listxattr = gofer_listxattr, .removexattr = gofer_removexattr

const struct inode_ops gofer_ops_exclusive = { .name = "gofer",
					       GOFER_OPS,
					       .revalidate = gofer_revalidate,
					       .verify = gofer_verify };
const struct inode_ops gofer_ops_shared = { .name = "gofer-shared",
					    GOFER_OPS,
					    .revalidate = gofer_revalidate,
					    .identity = gofer_identity };

static int sb_statfs(struct superblock *sb, struct kstatfs *ret)
{
	struct gofer_sb *fs = sb->data;
	struct gofer_statfs_req req = { .node = gofer_node(gofer_inode_of(sb->root)) };
	struct gofer_statfs_rep rep;
	int r = gofer_call(&fs->client, statfs, &req, &rep, NULL);

	if (r < 0)
		return r;
	*ret = (struct kstatfs){
		.type = sb->magic,
		.bsize = rep.bsize,
		.blocks = rep.blocks,
		.bfree = rep.bfree,
		.bavail = rep.bavail,
		.files = rep.files,
		.ffree = rep.ffree,
		.namelen = rep.namelen,
	};
	return 0;
}

static int sb_sync(struct superblock *sb)
{
	struct gofer_sb *fs = sb->data;
	struct gofer_syncfs_req req = { .node = gofer_node(gofer_inode_of(sb->root)) };
	struct gofer_syncfs_rep rep;

	return sb->readonly ? 0 : gofer_call(&fs->client, syncfs, &req, &rep, NULL);
}

static void gofer_sb_free(struct gofer_sb *fs)
{
	client_fini(&fs->client);
	mutex_fini(&fs->table_mu);
	mutex_fini(&fs->handle_mu);
	mutex_fini(&fs->prefetch_mu);
	mutex_fini(&fs->check_mu);
	free(fs->table);
	free(fs->prefetch_table);
	free(fs);
}

static void sb_free(struct superblock *sb)
{
	struct gofer_sb *fs = sb->data;

	check_sb_remove(fs);
	prefetch_drop_all(fs);
	gofer_sb_free(fs);
}

static const struct superblock_ops gofer_superblock_ops = { .free = sb_free,
							    .statfs = sb_statfs,
							    .sync = sb_sync };

static struct gofer_sb *gofer_sb_alloc(int sock, enum gofer_cache cache)
{
	struct gofer_sb *fs = calloc(1, sizeof(*fs));

	if (!fs)
		return NULL;
	fs->cache = cache;
	fs->table_buckets = 64;
	fs->table = calloc(fs->table_buckets, sizeof(struct gofer_inode *));
	fs->prefetch_table = calloc(PREFETCH_BUCKETS, sizeof(struct prefetch *));
	if (!fs->table || !fs->prefetch_table || client_init(&fs->client, sock) < 0) {
		free(fs->table);
		free(fs->prefetch_table);
		free(fs);
		return NULL;
	}
	mutex_init(&fs->table_mu, LOCK_OBJECT);
	mutex_init(&fs->handle_mu, LOCK_OBJECT);
	mutex_init(&fs->prefetch_mu, LOCK_OBJECT);
	mutex_init(&fs->check_mu, LOCK_OBJECT);
	list_init(&fs->idle);
	list_init(&fs->prefetched);
	list_init(&fs->checked);
	list_init(&fs->fs_node);
	return fs;
}

int gofer_fs_new(const struct gofer_fs_args *args, struct superblock **ret_sb)
{
	struct gofer_attach_req req = { .version = GOFER_VERSION };
	struct gofer_attach_rep rep;
	struct gofer_sb *fs = gofer_sb_alloc(args->conn_fd,
					     args->shared ? GOFER_SHARED : GOFER_EXCLUSIVE);
	struct superblock *sb;
	int r;

	if (!fs)
		return -ENOMEM;
	r = gofer_call(&fs->client, attach, &req, &rep, NULL);
	sb = r == 0 ? superblock_new(&gofer_superblock_ops, "9p", 0x01021997, args->user_ns) : NULL;
	if (!sb) {
		fs->client.sock = -1; /* stays with the caller */
		gofer_sb_free(fs);
		return r < 0 ? r : -ENOMEM;
	}
	fs->sb = sb;
	fs->root_dev = rep.attr.dev;
	fs->uds = rep.flags & GOFER_ATTACH_UDS;
	fs->slave = rep.flags & GOFER_ATTACH_SLAVE;
	sb->readonly = args->readonly || (rep.flags & GOFER_ATTACH_READONLY);
	sb->data = fs;
	r = gofer_inode_get(fs, &(struct gofer_entry){ .id = rep.root, .attr = rep.attr }, NULL, "",
			    &sb->root);
	if (r < 0) {
		fs->client.sock = -1;
		superblock_put(sb);
		return r;
	}
	if (fs->cache == GOFER_EXCLUSIVE)
		check_sb_add(fs);
	*ret_sb = sb;
	return 0;
}
