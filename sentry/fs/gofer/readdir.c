/* Directories: a listing is read as a whole, and an open directory walks through its listing. */
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sentry/fs/gofer/gofer_priv.h"

void listing_put(struct listing *l)
{
	if (!l || !refcount_put(&l->refs))
		return;
	free(l->entry);
	free(l->names);
	free(l);
}

static struct listing *listing_get(struct listing *l)
{
	refcount_get(&l->refs);
	return l;
}

static int listing_add(struct listing *l, const struct gofer_dirent *e, uint64_t ino)
{
	void *grown;
	uint32_t capacity;

	if (l->count == l->capacity) {
		capacity = l->capacity ? l->capacity * 2 : 32;
		grown = realloc(l->entry, capacity * sizeof(*l->entry));
		if (!grown)
			return -ENOMEM;
		l->entry = grown;
		l->capacity = capacity;
	}
	if (l->names_size + e->name.len + 1u > l->names_capacity) {
		capacity = l->names_capacity * 2 + 512;
		if (capacity < l->names_capacity)
			return -ENOMEM;
		grown = realloc(l->names, capacity);
		if (!grown)
			return -ENOMEM;
		l->names = grown;
		l->names_capacity = capacity;
	}
	memcpy(l->names + l->names_size, e->name.p, e->name.len + 1u);
	l->entry[l->count++] = (struct listing_entry){ .ino = ino,
						       .name = l->names_size,
						       .len = (uint8_t)e->name.len,
						       .type = e->type };
	l->names_size += e->name.len + 1u;
	return 0;
}

/* Takes over the entries of one reply: names into l, inodes into the prefetched children of dir. */
static int take_batch(struct gofer_inode *dir, struct listing *l, const void *blob, size_t size,
		      uint64_t *ret_cookie)
{
	struct gofer_sb *fs = dir->fs;
	union {
		const void *in;
		void *p;
	} buf = { .in = blob }; /* unpacking only reads it */
	struct cursor c = cursor_init(buf.p, size);
	struct gofer_dirent e;
	struct inode *i;
	int r = 0;

	while (cursor_left(&c)) {
		if (gofer_unpack_dirent(&c, &e) < 0)
			return -EIO;
		*ret_cookie = e.cookie;
		if (r == 0)
			r = listing_add(l, &e,
					e.id ? gofer_ino(fs, e.attr.dev, e.attr.ino) : e.attr.ino);
		if (!e.id)
			continue;
		prefetch_drop(dir, e.name.p);
		if (gofer_inode_get(fs, &(struct gofer_entry){ e.id, e.attr }, dir, e.name.p, &i) ==
		    0)
			prefetch_add(dir, e.name.p, i, fs->changes, true);
	}
	return r;
}

/* One round trip. *ret_cookie goes on; 1 at the end, 0 when there is more. */
static int read_batch(struct gofer_inode *dir, struct listing *l, uint32_t flags, uint64_t *cookie)
{
	struct gofer_client *c = gofer_client_of(dir);
	struct gofer_readdir_req req = { .node = gofer_node(dir), .cookie = *cookie };
	struct gofer_readdir_rep rep = { 0 };
	uint64_t next = *cookie;
	void *copy = NULL;
	int r;

	if (l->count < PREFETCH_DIR_MAX)
		req.flags = flags;
	mutex_lock(&c->mu);
	r = gofer_call_locked(c, readdir, &req, &rep, NULL);
	if (r == 0) {
		copy = malloc(rep.entries.size + 1);
		if (copy)
			memcpy(copy, rep.entries.p, rep.entries.size);
	}
	mutex_unlock(&c->mu);
	if (r < 0)
		return r;
	if (!copy)
		return -ENOMEM;
	r = take_batch(dir, l, copy, rep.entries.size, &next);
	free(copy);
	if (r < 0)
		return r;
	/* A gofer that makes no progress would keep us here for ever. */
	if (!rep.eof && next == *cookie)
		return -EIO;
	*cookie = next;
	return rep.eof;
}

/* Asks for all entries with GOFER_READDIR flags; one reference. -E2BIG when there are more than about
 * max. */
static int listing_read(struct gofer_inode *dir, uint32_t flags, uint32_t max,
			struct listing **ret_listing)
{
	struct listing *l = calloc(1, sizeof(*l));
	uint64_t cookie = 0;
	int r;

	if (!l)
		return -ENOMEM;
	refcount_init(&l->refs, 1);
	do
		r = read_batch(dir, l, flags, &cookie);
	while (r == 0 && l->count < max);
	if (r == 0)
		r = -E2BIG;
	if (r < 0) {
		listing_put(l);
		return r;
	}
	*ret_listing = l;
	return 0;
}

/* Keeps the names of a whole listing. dir->mu held. */
static void names_keep(struct gofer_inode *dir, const struct listing *l)
{
	struct names *n = dir->names || l->count > LEARN_MAX ? NULL : names_new();

	for (uint32_t k = 0; n && k < l->count; k++) {
		if (!names_add(n, l->names + l->entry[k].name)) {
			names_free(n);
			n = NULL;
		}
	}
	if (n)
		dir->names = n;
}

/* The listing of dir with a reference, asked for or kept. dir->mu held. */
static int listing_of(struct gofer_inode *dir, struct listing **ret_listing)
{
	bool exclusive = dir->fs->cache == GOFER_EXCLUSIVE;
	uint32_t flags = 0;
	int r;

	if (dir->listing) {
		*ret_listing = listing_get(dir->listing);
		return 0;
	}
	/* Who lists directories mostly looks at the entries next; at least walks down. */
	if (exclusive)
		flags = prefetch_worthwhile(dir->fs) ? GOFER_READDIR_NODES : GOFER_READDIR_DIRS;
	r = listing_read(dir, flags, UINT32_MAX, ret_listing);
	if (r == 0 && exclusive) {
		dir->listing = listing_get(*ret_listing);
		names_keep(dir, *ret_listing);
	}
	return r;
}

void listing_learn(struct gofer_inode *dir)
{
	struct listing *l;

	if (dir->names || listing_read(dir, 0, LEARN_MAX, &l) < 0)
		return;
	names_keep(dir, l);
	listing_put(l);
}

/* Cookies are 2 + the index in the listing that the file got at its start. */
static int gofer_iterate(struct file *f, struct dir_emit *d, int64_t *pos)
{
	struct gofer_inode *dir = gofer_inode_of(f->inode);
	struct listing *l = f->data;
	int r;

	if (*pos == 2 || !l) {
		if (dir->fs->cache == GOFER_EXCLUSIVE && check_due(dir))
			gofer_verify(&dir->inode);
		mutex_lock(&dir->inode.mu);
		r = listing_of(dir, &l);
		mutex_unlock(&dir->inode.mu);
		if (r < 0)
			return r;
		listing_put(f->data);
		f->data = l;
	}
	while ((uint64_t)*pos - 2 < l->count) {
		const struct listing_entry *e = &l->entry[*pos - 2];

		if (!d->emit(d, l->names + e->name, e->len, e->ino, e->type, *pos + 1))
			break;
		++*pos;
	}
	return 0;
}

static void gofer_dir_release(struct file *f)
{
	listing_put(f->data);
}

static int gofer_dir_fsync(struct file *f, bool datasync)
{
	struct gofer_inode *gi = gofer_inode_of(f->inode);
	struct gofer_fsync_req req = { .node = gofer_node(gi), .datasync = datasync };
	struct gofer_fsync_rep rep;

	if (gi->fs->sb->readonly)
		return 0;
	return gofer_call(gofer_client_of(gi), fsync, &req, &rep, NULL);
}

const struct file_ops gofer_dir_fops = { .name = "gofer-dir",
					 .release = gofer_dir_release,
					 .iterate = gofer_iterate,
					 .fsync = gofer_dir_fsync };
