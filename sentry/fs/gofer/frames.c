/*
 * The pages of a host file as page frames: guest address spaces map the donated descriptor, the
 * sentry reaches the same pages through windows that exist while pages in them are referenced.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "sentry/fs/gofer/gofer_priv.h"
#include "sentry/vfs/twins.h"
#include "sentry/state/desc.h"

#define WINDOW_SIZE (2ull << 20)
/* Offsets beyond are not mappable: no sane file system has them, and sums stay in range. */
#define OFFSET_MAX (1ull << 60)

struct window {
	struct rb_node node;
	uint64_t index; /* offset / WINDOW_SIZE */
	uint64_t refs;	/* pages */
	void *addr;	/* NULL: not mapped yet */
};

/* Lives as long as its inode or the last reference on a page, whichever is longer. */
struct host_frames {
	struct frame_file ff; /* first member; host_fd and writable under mu */
	struct refcount refs; /* one of the inode, one for each window */
	struct mutex mu;      /* LOCK_MEMFILE */
	struct rb_tree windows;
	struct window *recent;
};

static struct host_frames *frames_of(struct frame_file *ff)
{
	return container_of(ff, struct host_frames, ff);
}

void host_frames_put(struct host_frames *hf)
{
	if (!hf || !refcount_put(&hf->refs))
		return;
	mutex_fini(&hf->mu);
	free(hf);
}

/* Window of that index, or NULL and where a new one belongs. */
static struct window *window_find_locked(struct host_frames *hf, uint64_t index,
					 struct rb_node **ret_parent, struct rb_node ***ret_link)
{
	struct rb_node **link = &hf->windows.root, *parent = NULL;

	if (hf->recent && hf->recent->index == index)
		return hf->recent;
	while (*link) {
		struct window *w = rb_entry(*link, struct window, node);

		if (w->index == index) {
			hf->recent = w;
			return w;
		}
		parent = *link;
		link = index < w->index ? &parent->left : &parent->right;
	}
	*ret_parent = parent;
	*ret_link = link;
	return NULL;
}

static void window_get_locked(struct host_frames *hf, uint64_t index, uint64_t pages)
{
	struct rb_node *parent, **link;
	struct window *w = window_find_locked(hf, index, &parent, &link);

	if (!w) {
		w = calloc(1, sizeof(*w));
		/* References cannot fail; the record of one is a few bytes. */
		BUG_ON(!w);
		w->index = index;
		rb_insert(&hf->windows, parent, link, &w->node);
		hf->recent = w;
		refcount_get(&hf->refs);
	}
	w->refs += pages;
}

/* True when the window went away and its reference on hf must be dropped. */
static bool window_put_locked(struct host_frames *hf, uint64_t index, uint64_t pages)
{
	struct rb_node *parent, **link;
	struct window *w = window_find_locked(hf, index, &parent, &link);

	BUG_ON(!w || w->refs < pages);
	w->refs -= pages;
	if (w->refs)
		return false;
	rb_erase(&hf->windows, &w->node);
	if (hf->recent == w)
		hf->recent = NULL;
	if (w->addr)
		munmap(w->addr, WINDOW_SIZE);
	free(w);
	return true;
}

static void frames_get(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	struct host_frames *hf = frames_of(ff);

	GUARD(mutex, &hf->mu);
	while (size) {
		uint64_t part = MIN(size, WINDOW_SIZE - offset % WINDOW_SIZE);

		window_get_locked(hf, offset / WINDOW_SIZE, part / GUEST_PAGE_SIZE);
		offset += part;
		size -= part;
	}
}

static void frames_put(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	struct host_frames *hf = frames_of(ff);
	unsigned int gone = 0;

	mutex_lock(&hf->mu);
	while (size) {
		uint64_t part = MIN(size, WINDOW_SIZE - offset % WINDOW_SIZE);

		gone += window_put_locked(hf, offset / WINDOW_SIZE, part / GUEST_PAGE_SIZE);
		offset += part;
		size -= part;
	}
	mutex_unlock(&hf->mu);
	while (gone--)
		host_frames_put(hf);
}

/* Maps w, or maps it anew over the old place after the descriptor became writable. */
static int window_map_locked(struct host_frames *hf, struct window *w)
{
	void *p = mmap(w->addr, WINDOW_SIZE, PROT_READ | (hf->ff.writable ? PROT_WRITE : 0),
		       MAP_SHARED | (w->addr ? MAP_FIXED : 0), hf->ff.host_fd,
		       (off_t)(w->index * WINDOW_SIZE));

	if (p == MAP_FAILED)
		return -errno;
	w->addr = p;
	return 0;
}

static void *frames_window(struct frame_file *ff, uint64_t offset, uint64_t size, uint64_t *ret_size)
{
	struct host_frames *hf = frames_of(ff);
	struct rb_node *parent, **link;
	struct window *w;

	GUARD(mutex, &hf->mu);
	w = window_find_locked(hf, offset / WINDOW_SIZE, &parent, &link);
	if (!w || (!w->addr && (hf->ff.host_fd < 0 || window_map_locked(hf, w) < 0)))
		return NULL;
	*ret_size = MIN(size, WINDOW_SIZE - offset % WINDOW_SIZE);
	return (uint8_t *)w->addr + offset % WINDOW_SIZE;
}

static const struct frame_file_ops host_frame_ops = { .name = "gofer",
						      .get = frames_get,
						      .put = frames_put,
						      .window = frames_window };

void host_frames_set_fd(struct host_frames *hf, int fd, bool writable)
{
	bool upgrade;

	GUARD(mutex, &hf->mu);
	upgrade = writable && !hf->ff.writable;
	hf->ff.host_fd = fd;
	hf->ff.writable = writable;
	if (!upgrade)
		return;
	for (struct rb_node *n = rb_first(&hf->windows); n; n = rb_next(n)) {
		struct window *w = rb_entry(n, struct window, node);

		/* On failure the window stays readable; writes through it fault like a bad page. */
		if (w->addr && window_map_locked(hf, w) < 0)
			continue;
	}
}

/* The frames of an inode that has an open file, made on first use. */
static struct host_frames *frames_of_inode(struct gofer_inode *gi)
{
	struct host_frames *hf = __atomic_load_n(&gi->frames, __ATOMIC_ACQUIRE);

	if (hf)
		return hf;
	GUARD(mutex, &gi->fs->handle_mu);
	if (gi->frames)
		return gi->frames;
	hf = calloc(1, sizeof(*hf));
	if (!hf)
		return NULL;
	hf->ff = (struct frame_file){ .ops = &host_frame_ops,
				      .host_file = true,
				      .host_fd = gi->wfd >= 0 ? gi->wfd : gi->rfd,
				      .writable = gi->wfd >= 0 };
	refcount_init(&hf->refs, 1);
	mutex_init(&hf->mu, LOCK_MEMFILE);
	__atomic_store_n(&gi->frames, hf, __ATOMIC_RELEASE);
	return hf;
}

static struct gofer_inode *inode_of_mappable(struct mappable *m)
{
	return container_of(m, struct gofer_inode, mappable);
}

static int gofer_translate(struct mappable *m, uint64_t offset, uint64_t size, bool write,
			   struct frame_run *ret_run)
{
	struct gofer_inode *gi = inode_of_mappable(m);
	struct host_frames *hf = frames_of_inode(gi);
	uint64_t end = __atomic_load_n(&gi->inode.size, __ATOMIC_RELAXED);
	struct stat st;

	if (!hf)
		return -ENOMEM;
	if (hf->ff.host_fd < 0)
		return -EIO;
	/* Beyond the end that is known: others may have moved it. */
	if ((gi->fs->cache == GOFER_SHARED || offset >= ALIGN_UP(MIN(end, OFFSET_MAX), GUEST_PAGE_SIZE)) &&
	    fstat_fd(hf->ff.host_fd, &st) == 0)
		end = (uint64_t)st.st_size;
	end = ALIGN_UP(MIN(end, OFFSET_MAX), GUEST_PAGE_SIZE);
	if (offset >= end || (write && !hf->ff.writable))
		return -EFAULT;
	*ret_run = (struct frame_run){ &hf->ff, offset, MIN(size, end - offset) };
	frames_get(&hf->ff, ret_run->offset, ret_run->size);
	return 0;
}

static int gofer_map_sync(struct mappable *m, uint64_t offset UNUSED, uint64_t size UNUSED)
{
	struct gofer_inode *gi = inode_of_mappable(m);
	int fd = gofer_handle_pin(gi, true), r;

	if (fd < 0)
		return 0;
	r = fdatasync(fd) < 0 ? -errno : 0;
	gofer_handle_unpin(gi);
	return r;
}

static void gofer_map_get(struct mappable *m)
{
	inode_get(&inode_of_mappable(m)->inode);
}

static void gofer_map_put(struct mappable *m)
{
	inode_put(&inode_of_mappable(m)->inode);
}

static const void *gofer_map_identity(struct mappable *m)
{
	struct inode_twins *twins = inode_twins(&container_of(m, struct gofer_inode, mappable)->inode);

	return twins ? (const void *)twins : m;
}

const struct mappable_ops gofer_mappable_ops = { .translate = gofer_translate,
						 .sync = gofer_map_sync,
						 .get = gofer_map_get,
						 .put = gofer_map_put,
						 .identity = gofer_map_identity };

STATE_DESC(host_frames,
	   S_NOSAVE(host_frames, ff, "donated anew by the gofer"),
	   S_NOSAVE(host_frames, refs, "recounted from the references"),
	   S_NOSAVE(host_frames, mu, "unheld at a safe point"),
	   S_NOSAVE(host_frames, windows, "mapped anew"),
	   S_NOSAVE(host_frames, recent, "a hint"));
