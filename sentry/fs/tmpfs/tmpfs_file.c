/*
 * Regular files of tmpfs. Pages are frames of the guest memory file; the tree of chunks says which.
 * inode.mu is held over reads, writes and changes of size, so that no frame goes away under a copy;
 * file.mu (LOCK_FS_DATA) is held for looks at the tree only, because translate comes with the lock of
 * an address space held, which a copy from or to the guest may take.
 */
#include <errno.h>
#include <linux/falloc.h>
#include <linux/memfd.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sentry/fs/tmpfs/tmpfs_priv.h"

#define FAULT_AROUND 16u /* pages of a hole filled by one write fault */

static struct frame_file *frames(void)
{
	return memfile_frames(main_memfile);
}

bool tmpfs_is_regular(const struct inode *i)
{
	return i->ops == &tmpfs_file_inode_ops;
}

static struct tmpfs_chunk *chunk_find(struct tmpfs_inode *t, uint64_t index)
{
	struct rb_node *n = t->file.chunks.root;

	if (t->file.last && t->file.last->index == index)
		return t->file.last;
	while (n) {
		struct tmpfs_chunk *c = rb_entry(n, struct tmpfs_chunk, node);

		if (c->index == index) {
			t->file.last = c;
			return c;
		}
		n = index < c->index ? n->left : n->right;
	}
	return NULL;
}

/* First chunk with an index >= index. */
static struct tmpfs_chunk *chunk_from(struct tmpfs_inode *t, uint64_t index)
{
	struct rb_node *n = t->file.chunks.root;
	struct tmpfs_chunk *best = NULL;

	while (n) {
		struct tmpfs_chunk *c = rb_entry(n, struct tmpfs_chunk, node);

		if (c->index >= index) {
			best = c;
			n = n->left;
		} else {
			n = n->right;
		}
	}
	return best;
}

static struct tmpfs_chunk *chunk_make(struct tmpfs_inode *t, uint64_t index)
{
	struct rb_node **link = &t->file.chunks.root, *parent = NULL;
	struct tmpfs_chunk *c = chunk_find(t, index);

	if (c)
		return c;
	c = calloc(1, sizeof(*c));
	if (!c)
		return NULL;
	c->index = index;
	while (*link) {
		parent = *link;
		link = index < rb_entry(parent, struct tmpfs_chunk, node)->index ? &parent->left : &parent->right;
	}
	rb_insert(&t->file.chunks, parent, link, &c->node);
	t->file.last = c;
	return c;
}

static void chunk_free(struct tmpfs_inode *t, struct tmpfs_chunk *c)
{
	if (t->file.last == c)
		t->file.last = NULL;
	rb_erase(&t->file.chunks, &c->node);
	free(c);
}

/* Accounts n more pages to the file system; false at its size limit. */
static bool charge(struct tmpfs_inode *t, uint64_t n)
{
	struct tmpfs_sb *ts = tmpfs_sb_of(t->inode.sb);

	if (atomic_fetch_add(&ts->used_pages, n) + n > ts->max_pages && ts->max_pages) {
		atomic_fetch_sub(&ts->used_pages, n);
		return false;
	}
	return true;
}

static void uncharge(struct tmpfs_inode *t, uint64_t n)
{
	atomic_fetch_sub(&tmpfs_sb_of(t->inode.sb)->used_pages, n);
}

/* Fills up to count holes of c from slot on; returns how many, or -ENOSPC, -ENOMEM. */
static int64_t fill_holes(struct tmpfs_inode *t, struct tmpfs_chunk *c, unsigned slot, unsigned count)
{
	struct frame_run run;
	unsigned n = 0;
	int r;

	while (n < count && slot + n < CHUNK_PAGES && !c->page[slot + n])
		n++;
	while (!charge(t, n)) {
		if (n == 1)
			return -ENOSPC;
		n = 1;
	}
	r = memfile_alloc(main_memfile, n * TMPFS_PAGE, MEMFILE_TMPFS, &run);
	if (r < 0 && n > 1) {
		uncharge(t, n - 1);
		n = 1;
		r = memfile_alloc(main_memfile, TMPFS_PAGE, MEMFILE_TMPFS, &run);
	}
	if (r < 0) {
		uncharge(t, n);
		return r;
	}
	uncharge(t, n - run.size / TMPFS_PAGE);
	n = (unsigned)(run.size / TMPFS_PAGE);
	for (unsigned i = 0; i < n; i++)
		c->page[slot + i] = (run.offset + i * TMPFS_PAGE) | 1;
	c->used += n;
	__atomic_fetch_add(&t->file.pages, n, __ATOMIC_RELAXED);
	return n;
}

/* The run of consecutive frames that begins with file page `page`, at most count pages: number of pages
 * and the first one's offset; 0 pages when it is a hole and fill is 0. fill: how many pages of a hole may
 * be filled. file.mu held. */
static int64_t run_locked(struct tmpfs_inode *t, uint64_t page, uint64_t count, unsigned fill, uint64_t *ret_offset)
{
	struct tmpfs_chunk *c = fill ? chunk_make(t, page / CHUNK_PAGES) : chunk_find(t, page / CHUNK_PAGES);
	unsigned slot = page % CHUNK_PAGES, n = 1;

	if (!c)
		return fill ? -ENOMEM : 0;
	if (!c->page[slot]) {
		int64_t r;

		if (!fill)
			return 0;
		r = fill_holes(t, c, slot, (unsigned)MIN(count, (uint64_t)fill));
		if (r < 0)
			return r;
	}
	while (n < count && slot + n < CHUNK_PAGES && c->page[slot + n] == c->page[slot] + n * TMPFS_PAGE)
		n++;
	*ret_offset = c->page[slot] & ~1ull;
	return n;
}

/* Sentry address of the file's bytes from off on, *ret_size of them up to size. NULL in *ret_ptr: a hole
 * of *ret_size bytes (fill false). inode.mu held, which keeps the frames. */
static int piece(struct tmpfs_inode *t, uint64_t off, uint64_t size, bool fill, void **ret_ptr,
		 uint64_t *ret_size)
{
	uint64_t in_page = off % TMPFS_PAGE, pages = (in_page + size + TMPFS_PAGE - 1) / TMPFS_PAGE;
	uint64_t frame = 0, got = 0;
	int64_t n;
	char *p;

	do {
		mutex_lock(&t->file.mu);
		n = run_locked(t, off / TMPFS_PAGE, pages, fill ? CHUNK_PAGES : 0, &frame);
		mutex_unlock(&t->file.mu);
	} while (n == -ENOMEM && memory_relieve(true));
	if (n < 0)
		return (int)n;
	if (n == 0) {
		*ret_ptr = NULL;
		*ret_size = MIN(size, TMPFS_PAGE - in_page);
		return 0;
	}
	p = frames()->ops->window(frames(), frame, (uint64_t)n * TMPFS_PAGE, &got);
	if (!p)
		return -ENOMEM;
	*ret_ptr = p + in_page;
	*ret_size = MIN(size, got - in_page);
	return 0;
}

static int64_t file_do_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);
	int64_t done = 0, r = 0;

	GUARD(mutex, &f->inode->mu);
	while (u->resid && (uint64_t)*pos < f->inode->size) {
		uint64_t want = MIN(u->resid, f->inode->size - (uint64_t)*pos), size;
		void *p;

		r = piece(t, (uint64_t)*pos, want, false, &p, &size);
		if (r < 0)
			break;
		r = p ? uio_write(u, p, size) : uio_zero(u, size);
		if (r < 0)
			break;
		*pos += r;
		done += r;
		if ((uint64_t)r < size)
			break;
	}
	return done ? done : r;
}

/* Sets the size, seen by translate. inode.mu held. */
static void set_size(struct tmpfs_inode *t, uint64_t size)
{
	mutex_lock(&t->file.mu);
	__atomic_store_n(&t->inode.size, size, __ATOMIC_RELAXED);
	mutex_unlock(&t->file.mu);
}

/* How many of size bytes at pos may be written: seals and the largest file. */
static int64_t write_allowed(struct tmpfs_inode *t, uint64_t pos, uint64_t size)
{
	unsigned seals = t->file.seals;

	if (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if (pos >= INT64_MAX)
		return -EFBIG;
	size = MIN(size, (uint64_t)INT64_MAX - pos);
	if (seals & F_SEAL_GROW && pos + size > t->inode.size) {
		if (pos >= t->inode.size)
			return -EPERM;
		size = t->inode.size - pos;
	}
	return (int64_t)size;
}

static int64_t file_do_write(struct file *f, struct uio *u, int64_t *pos)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);
	struct inode *i = f->inode;
	int64_t done = 0, r = 0, left;

	if (!u->resid)
		return 0;
	GUARD(mutex, &i->mu);
	if (atomic_load_explicit(&f->flags, memory_order_relaxed) & O_APPEND)
		*pos = (int64_t)i->size;
	left = write_allowed(t, (uint64_t)*pos, u->resid);
	if (left < 0)
		return left;
	while (left) {
		uint64_t size;
		void *p;

		r = piece(t, (uint64_t)*pos, (uint64_t)left, true, &p, &size);
		if (r < 0)
			break;
		r = uio_read(u, p, size);
		if (r < 0)
			break;
		*pos += r;
		done += r;
		left -= r;
		if ((uint64_t)r < size) {
			r = -EFAULT;
			break;
		}
	}
	if (!done)
		return r;
	if ((uint64_t)*pos > i->size)
		set_size(t, (uint64_t)*pos);
	i->mtime = i->ctime = tmpfs_now();
	return done;
}

/* Zeroes [from, to) where frames are, within one page. */
static void zero_in_page(struct tmpfs_inode *t, uint64_t from, uint64_t to)
{
	uint64_t size;
	void *p;

	if (from < to && piece(t, from, to - from, false, &p, &size) == 0 && p)
		memset(p, 0, size);
}

/* Gives the frames of whole pages [first, last) back. inode.mu held. */
static void release_pages(struct tmpfs_inode *t, uint64_t first, uint64_t last)
{
	struct tmpfs_chunk *c;
	uint64_t freed = 0;

	mutex_lock(&t->file.mu);
	while (first < last && (c = chunk_from(t, first / CHUNK_PAGES))) {
		uint64_t base = c->index * CHUNK_PAGES;
		uint64_t begin = MAX(first, base), end = MIN(last, base + CHUNK_PAGES);

		for (uint64_t p = begin; p < end; p++) {
			uint64_t *page = &c->page[p - base];

			if (!*page)
				continue;
			frames()->ops->put(frames(), *page & ~1ull, TMPFS_PAGE);
			*page = 0;
			c->used--;
			freed++;
		}
		first = base + CHUNK_PAGES;
		if (!c->used)
			chunk_free(t, c);
	}
	t->file.pages -= freed;
	mutex_unlock(&t->file.mu);
	uncharge(t, freed);
}

/* Makes [start, end) read as zeros: whole pages go, partial ones are cleared. inode.mu held. */
static void punch(struct tmpfs_inode *t, uint64_t start, uint64_t end)
{
	uint64_t first = ALIGN_UP(start, TMPFS_PAGE), last = ALIGN_DOWN(end, TMPFS_PAGE);

	if (first > last) {
		zero_in_page(t, start, end);
		return;
	}
	zero_in_page(t, start, first);
	zero_in_page(t, last, end);
	if (first < last) {
		release_pages(t, first / TMPFS_PAGE, last / TMPFS_PAGE);
		mappable_invalidate(&t->file.mappable, first, last - first);
	}
}

static int resize(struct tmpfs_inode *t, uint64_t size)
{
	uint64_t old = t->inode.size;

	if (size > INT64_MAX)
		return -EFBIG;
	if ((size < old && t->file.seals & F_SEAL_SHRINK) || (size > old && t->file.seals & F_SEAL_GROW))
		return -EPERM;
	set_size(t, size);
	if (size < old) {
		uint64_t first = ALIGN_UP(size, TMPFS_PAGE);

		zero_in_page(t, size, first);
		release_pages(t, first / TMPFS_PAGE, UINT64_MAX / TMPFS_PAGE);
		mappable_invalidate(&t->file.mappable, first, UINT64_MAX - first);
	}
	return 0;
}

int tmpfs_file_setattr(struct inode *i, const struct kattr *a)
{
	if (a->mask & ATTR_SIZE) {
		int r = resize(tmpfs_of(i), a->size);

		if (r < 0)
			return r;
	}
	inode_apply_attr(i, a);
	return 0;
}

static int file_do_fallocate(struct file *f, int mode, int64_t offset, int64_t size)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);
	uint64_t end = (uint64_t)(offset + size), at;
	int r = 0;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE))
		return -EOPNOTSUPP;
	if (mode == FALLOC_FL_PUNCH_HOLE)
		return -EOPNOTSUPP; /* fallocate(2): only together with KEEP_SIZE */
	GUARD(mutex, &f->inode->mu);
	if (mode & FALLOC_FL_PUNCH_HOLE) {
		if (t->file.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
			return -EPERM;
		punch(t, (uint64_t)offset, MIN(end, ALIGN_UP(f->inode->size, TMPFS_PAGE)));
		f->inode->mtime = f->inode->ctime = tmpfs_now();
		return 0;
	}
	if (!(mode & FALLOC_FL_KEEP_SIZE) && end > f->inode->size && t->file.seals & F_SEAL_GROW)
		return -EPERM;
	for (at = ALIGN_DOWN((uint64_t)offset, TMPFS_PAGE); r == 0 && at < end;) {
		uint64_t frame;
		int64_t n;

		mutex_lock(&t->file.mu);
		n = run_locked(t, at / TMPFS_PAGE, (end - at + TMPFS_PAGE - 1) / TMPFS_PAGE, CHUNK_PAGES, &frame);
		mutex_unlock(&t->file.mu);
		r = n < 0 ? (int)n : 0;
		at += n < 0 ? 0 : (uint64_t)n * TMPFS_PAGE;
	}
	if (r == 0 && !(mode & FALLOC_FL_KEEP_SIZE) && end > f->inode->size)
		set_size(t, end);
	f->inode->ctime = tmpfs_now();
	return r;
}

/* Is there a frame at file page `page`? Also the next page where the answer may differ. */
static bool page_state(struct tmpfs_inode *t, uint64_t page, uint64_t *ret_next)
{
	struct tmpfs_chunk *c = chunk_from(t, page / CHUNK_PAGES);

	*ret_next = page + 1;
	if (c && c->index == page / CHUNK_PAGES)
		return c->page[page % CHUNK_PAGES] != 0;
	*ret_next = c ? c->index * CHUNK_PAGES : UINT64_MAX / TMPFS_PAGE;
	return false;
}

static int64_t file_do_seek(struct file *f, int64_t offset, int whence)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);
	int64_t base = whence == SEEK_CUR ? f->pos : 0, result;
	uint64_t page, next, size;

	if (whence == SEEK_SET || whence == SEEK_CUR || whence == SEEK_END) {
		if (whence == SEEK_END)
			base = (int64_t)__atomic_load_n(&f->inode->size, __ATOMIC_RELAXED);
		if (__builtin_add_overflow(base, offset, &result) || result < 0)
			return -EINVAL;
		return f->pos = result;
	}
	if (whence != SEEK_DATA && whence != SEEK_HOLE)
		return -EINVAL;
	GUARD(mutex, &t->file.mu);
	size = f->inode->size;
	if (offset < 0 || (uint64_t)offset >= size)
		return -ENXIO;
	for (page = (uint64_t)offset / TMPFS_PAGE; page * TMPFS_PAGE < size; page = next) {
		if (page_state(t, page, &next) == (whence == SEEK_DATA))
			return f->pos = MAX(offset, (int64_t)(page * TMPFS_PAGE));
	}
	return whence == SEEK_DATA ? -ENXIO : (f->pos = (int64_t)size);
}

static int file_do_mmap(struct file *f, bool shared, uint8_t prot, struct mappable **ret)
{
	struct tmpfs_inode *t = tmpfs_of(f->inode);

	if (shared && prot & PROT_WRITE && t->file.seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	*ret = &t->file.mappable;
	return 0;
}

static int file_do_fsync(struct file *f, bool datasync)
{
	(void)f;
	(void)datasync;
	return 0;
}

static int64_t file_do_fcntl(struct file *f, int cmd, uint64_t arg, struct umem *um)
{
	(void)um;
	switch (cmd) {
	case F_GET_SEALS:
		return tmpfs_get_seals(f->inode);
	case F_ADD_SEALS:
		return (file_flags(f) & O_ACCMODE) == O_RDONLY ? -EPERM : tmpfs_add_seals(f->inode, (unsigned)arg);
	default:
		return -EINVAL;
	}
}

const struct file_ops tmpfs_file_ops = {
	.name = "tmpfs",
	.read = file_do_read,
	.write = file_do_write,
	.seek = file_do_seek,
	.mmap = file_do_mmap,
	.fsync = file_do_fsync,
	.fallocate = file_do_fallocate,
	.fcntl = file_do_fcntl,
};

static struct tmpfs_inode *of_mappable(struct mappable *m)
{
	return container_of(m, struct tmpfs_inode, file.mappable);
}

static int file_translate(struct mappable *m, uint64_t offset, uint64_t size, bool write,
			  struct frame_run *ret_run)
{
	struct tmpfs_inode *t = of_mappable(m);
	uint64_t frame = 0, pages, end;
	int64_t n;

	GUARD(mutex, &t->file.mu);
	end = ALIGN_UP(t->inode.size, TMPFS_PAGE);
	if (offset >= end)
		return -EFAULT;
	pages = (MIN(size, end - offset) + TMPFS_PAGE - 1) / TMPFS_PAGE;
	n = run_locked(t, offset / TMPFS_PAGE, pages, write ? FAULT_AROUND : 1, &frame);
	if (n < 0)
		return n == -ENOSPC ? -EFAULT : (int)n;
	*ret_run = (struct frame_run){ frames(), frame, (uint64_t)n * TMPFS_PAGE };
	frames()->ops->get(frames(), frame, ret_run->size);
	return 0;
}

static void file_map_get(struct mappable *m)
{
	inode_get(&of_mappable(m)->inode);
}

static void file_map_put(struct mappable *m)
{
	inode_put(&of_mappable(m)->inode);
}

static const struct mappable_ops map_ops = { .translate = file_translate, .get = file_map_get, .put = file_map_put };

void tmpfs_file_init(struct tmpfs_inode *t)
{
	mutex_init(&t->file.mu, LOCK_FS_DATA);
	mappable_init(&t->file.mappable, &map_ops);
	t->file.seals = F_SEAL_SEAL;
	t->inode.mappable = &t->file.mappable;
	t->inode.fops = &tmpfs_file_ops;
}

/* Gives every frame back; no reference is left. */
void tmpfs_file_fini(struct tmpfs_inode *t)
{
	release_pages(t, 0, UINT64_MAX / TMPFS_PAGE);
	mappable_fini(&t->file.mappable);
	mutex_fini(&t->file.mu);
}

int tmpfs_get_seals(struct inode *i)
{
	if (!tmpfs_is_regular(i))
		return -EINVAL;
	GUARD(mutex, &i->mu);
	return (int)tmpfs_of(i)->file.seals;
}

void tmpfs_init_seals(struct inode *i, unsigned seals)
{
	tmpfs_of(i)->file.seals = seals;
}

int tmpfs_add_seals(struct inode *i, unsigned seals)
{
	struct tmpfs_inode *t = tmpfs_of(i);

	if (!tmpfs_is_regular(i) ||
	    seals & ~(unsigned)(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE | 0x20))
		return -EINVAL;
	GUARD(mutex, &i->mu);
	if (t->file.seals & F_SEAL_SEAL)
		return -EPERM;
	if (seals & F_SEAL_WRITE && !(t->file.seals & F_SEAL_WRITE) && mappable_writable(&t->file.mappable))
		return -EBUSY;
	if (seals & 0x20 /* F_SEAL_EXEC */ && i->mode & 0111)
		seals |= F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE;
	t->file.seals |= seals;
	return 0;
}

const struct inode_ops tmpfs_file_inode_ops = {
	.name = "tmpfs file",
	.free = tmpfs_free_inode,
	.getattr = tmpfs_getattr,
	.setattr = tmpfs_file_setattr,
	.getxattr = tmpfs_getxattr,
	.setxattr = tmpfs_setxattr,
	.listxattr = tmpfs_listxattr,
	.removexattr = tmpfs_removexattr,
};
