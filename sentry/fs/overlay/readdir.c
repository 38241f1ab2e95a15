/*
 * Directories. One that exists only below is read straight through. A merged one is listed as a whole
 * at the start of reading: the upper entries first, then the lower ones that nothing covers.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/fs/overlay/overlay_priv.h"

struct entry {
	uint64_t ino;
	uint32_t name, hash; /* name: offset in names */
	uint8_t len, type;
	bool hidden; /* a whiteout: covers, is not shown */
};

struct listing {
	struct entry *entry;
	uint32_t count, capacity;
	char *names;
	uint32_t names_size, names_capacity;
	uint32_t *slot; /* hash of index + 1, power of two; 0: free */
	uint32_t slots;
};

/* An open directory: listing, or the lower directory itself. */
struct dir_file {
	struct listing *listing;
	struct real_file *lower;
};

static void listing_free(struct listing *l)
{
	if (!l)
		return;
	free(l->entry);
	free(l->names);
	free(l->slot);
	free(l);
}

static uint32_t hash_name(const char *name, size_t len)
{
	uint32_t h = 2166136261u;

	for (size_t k = 0; k < len; k++)
		h = (h ^ (uint8_t)name[k]) * 16777619u;
	return h;
}

static bool listing_has(const struct listing *l, const char *name, size_t len)
{
	uint32_t h = hash_name(name, len);

	for (uint32_t s = h; l->slots && l->slot[s & (l->slots - 1)]; s++) {
		const struct entry *e = &l->entry[l->slot[s & (l->slots - 1)] - 1];

		if (e->hash == h && e->len == len && memcmp(l->names + e->name, name, len) == 0)
			return true;
	}
	return false;
}

static void slot_insert(struct listing *l, uint32_t index)
{
	uint32_t s = l->entry[index].hash;

	while (l->slot[s & (l->slots - 1)])
		s++;
	l->slot[s & (l->slots - 1)] = index + 1;
}

static bool listing_grow(struct listing *l, size_t len)
{
	void *p;

	if (l->count == l->capacity) {
		uint32_t capacity = l->capacity ? l->capacity * 2 : 32;

		p = realloc(l->entry, capacity * sizeof(*l->entry));
		if (!p)
			return false;
		l->entry = p;
		l->capacity = capacity;
		p = calloc(capacity * 2, sizeof(*l->slot));
		if (!p)
			return false;
		free(l->slot);
		l->slot = p;
		l->slots = capacity * 2;
		for (uint32_t k = 0; k < l->count; k++)
			slot_insert(l, k);
	}
	if (l->names_capacity - l->names_size < len + 1) {
		uint32_t capacity = l->names_capacity * 2 + 1024;

		p = realloc(l->names, capacity);
		if (!p)
			return false;
		l->names = p;
		l->names_capacity = capacity;
	}
	return true;
}

static bool listing_add(struct listing *l, const char *name, size_t len, uint64_t ino, uint8_t type)
{
	if (len > NAME_MAX_GUEST || !listing_grow(l, len))
		return false;
	memcpy(l->names + l->names_size, name, len);
	l->names[l->names_size + len] = 0;
	l->entry[l->count] = (struct entry){ .ino = ino,
					     .name = l->names_size,
					     .hash = hash_name(name, len),
					     .len = (uint8_t)len,
					     .type = type };
	l->names_size += (uint32_t)len + 1;
	slot_insert(l, l->count++);
	return true;
}

struct collect {
	struct dir_emit emit; /* first member */
	struct listing *listing;
	bool skip_known, failed;
};

static bool collect_one(struct dir_emit *d, const char *name, size_t len, uint64_t ino,
			uint8_t type, int64_t next_pos UNUSED)
{
	struct collect *c = container_of(d, struct collect, emit);

	if (c->skip_known && listing_has(c->listing, name, len))
		return true;
	c->failed = !listing_add(c->listing, name, len, ino, type);
	return !c->failed;
}

/* Adds all entries of a layer's directory to l. */
static int collect_layer(struct inode *dir, const struct cred *cred, bool skip_known,
			 struct listing *l)
{
	struct collect c = { .emit.emit = collect_one, .listing = l, .skip_known = skip_known };
	struct real_file *rf;
	int64_t pos = 2, before;
	int r = real_open(dir, O_RDONLY | O_DIRECTORY, cred, &rf);

	if (r < 0)
		return r;
	do {
		before = pos;
		r = rf->file.ops->iterate ? rf->file.ops->iterate(&rf->file, &c.emit, &pos) : -ENOTDIR;
	} while (r == 0 && !c.failed && pos != before);
	real_close(rf);
	return c.failed ? -ENOMEM : r;
}

/* Upper entries get the numbers that stat shows; whiteouts are marked. */
static int fix_upper(struct overlay_inode *o, struct listing *l)
{
	for (uint32_t k = 0; k < l->count; k++) {
		struct entry *e = &l->entry[k];
		struct overlay_inode *known;
		struct inode *upper;
		int r = upper_find(o, l->names + e->name, &upper);

		if (r < 0)
			return r;
		e->hidden = !upper || is_whiteout(upper);
		known = upper ? overlay_find_upper(o->fs, upper) : NULL;
		e->ino = known ? known->inode.ino : e->ino | OVERLAY_INO_UPPER;
		if (known)
			inode_put(&known->inode);
		inode_put(upper);
	}
	return 0;
}

/* What the directory shows, and its whiteouts. o's mu held. */
static int listing_new(struct overlay_inode *o, struct listing **ret_listing)
{
	struct listing *l = calloc(1, sizeof(*l));
	struct inode *upper = overlay_upper(o);
	int r = l ? 0 : -ENOMEM;

	if (r == 0 && upper)
		r = collect_layer(upper, o->fs->cred, false, l);
	if (r == 0 && upper)
		r = fix_upper(o, l);
	if (r == 0 && o->lower && !o->opaque)
		r = collect_layer(o->lower, o->fs->cred, upper != NULL, l);
	if (r < 0) {
		listing_free(l);
		return r;
	}
	*ret_listing = l;
	return 0;
}

int overlay_clear_dir(struct overlay_inode *o)
{
	struct listing *l;
	int r = listing_new(o, &l);

	if (r < 0)
		return r;
	for (uint32_t k = 0; k < l->count && r == 0; k++) {
		if (!l->entry[k].hidden)
			r = -ENOTEMPTY;
	}
	for (uint32_t k = 0; k < l->count && r >= 0; k++)
		r = whiteout_remove(o, l->names + l->entry[k].name);
	listing_free(l);
	return r < 0 ? r : 0;
}

/* Decides at the start of reading how this open directory is read. */
static int dir_start(struct overlay_inode *o, struct file *f)
{
	struct dir_file *df = f->data;
	struct listing *l = NULL;
	int r = 0;

	GUARD(mutex, &o->inode.mu);
	if (!overlay_upper(o)) {
		if (!df->lower)
			r = real_open(o->lower, O_RDONLY | O_DIRECTORY, f->cred, &df->lower);
	} else {
		r = listing_new(o, &l);
	}
	if (r < 0)
		return r;
	listing_free(df->listing);
	df->listing = l;
	return 0;
}

static int overlay_iterate(struct file *f, struct dir_emit *d, int64_t *pos)
{
	struct overlay_inode *o = overlay_inode_of(f->inode);
	struct dir_file *df = f->data;
	struct listing *l;
	int r;

	if (*pos == 2 || (!df->listing && !df->lower)) {
		r = dir_start(o, f);
		if (r < 0)
			return r;
	}
	l = df->listing;
	if (!l)
		return df->lower->file.ops->iterate(&df->lower->file, d, pos);
	for (; (uint64_t)*pos - 2 < l->count; ++*pos) {
		const struct entry *e = &l->entry[*pos - 2];

		if (!e->hidden &&
		    !d->emit(d, l->names + e->name, e->len, e->ino, e->type, *pos + 1))
			break;
	}
	return 0;
}

static void overlay_dir_release(struct file *f)
{
	struct dir_file *df = f->data;

	listing_free(df->listing);
	real_close(df->lower);
	free(df);
}

static int overlay_dir_fsync(struct file *f UNUSED, bool datasync UNUSED)
{
	return 0;
}

int overlay_dir_open(struct file *f)
{
	f->data = calloc(1, sizeof(struct dir_file));
	return f->data ? 0 : -ENOMEM;
}

const struct file_ops overlay_dir_fops = { .name = "overlay-dir",
					   .release = overlay_dir_release,
					   .iterate = overlay_iterate,
					   .fsync = overlay_dir_fsync };
