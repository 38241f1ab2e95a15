/*
 * The guest memory file: one memfd whose 4 KiB frames back anonymous memory, tmpfs and pipes.
 *
 * Free frames lie in extents, in lists by size class; an extent is clean (a hole of the memfd: reads as
 * zero, costs nothing) or dirty (old contents, still allocated on the host). A few MiB stay dirty
 * because reusing a page is far cheaper than asking the host for a new one; the rest is punched out.
 */
#include "sentry/mm/memfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/file.h"
#include "sentry/core/lockrank.h"
#include "sentry/core/uaddr.h"
#include "sentry/mm/account_priv.h"
#include "sentry/mm/mm.h"
#include "sentry/state/desc.h"

#define PAGE GUEST_PAGE_SIZE
#define CHUNK_FRAMES ((uint32_t)(MEMFILE_CHUNK / PAGE))
#define RUN_FREE 0x80000000u
#define RUN_DIRTY 0x40000000u
#define RUN_LAST 0x20000000u /* last frame of an extent of several */
#define RUN_LENGTH 0x1fffffffu

enum {
	CHUNK_MAX = 1024, /* 1 TiB of frames in all */
	CLASSES = 30,
	SCAN_MAX = 8,	       /* extents of the own class looked at before the next class */
	SMALL_FRAMES = 16,     /* requests up to this reuse dirty frames */
	PUNCH_FRAMES = 256,    /* freed runs from this size go back to the host at once */
	DIRTY_MAX = 1024,      /* dirty frames kept: 4 MiB */
	SCAN_FRAMES = 512,     /* looked at together by memfile_scan: 2 MiB */
	KIND_BITS = 4,	       /* of frame.prev while allocated; the account is above */
};

/* Facts of one frame. All is protected by memfile.mu, but refs may be read without it. */
struct frame {
	_Atomic uint32_t refs;
	uint32_t run;  /* first and last frame of a free extent: RUN_* | length; else 0 */
	uint32_t prev; /* first frame of a free extent: list; allocated: enum memfile_kind and account */
	uint32_t next;
};

struct memfile {
	struct frame_file ff;
	struct mutex mu;		  /* LOCK_MEMFILE: all below but what is atomic */
	_Atomic(struct frame *) frames[CHUNK_MAX];
	_Atomic(uint8_t *) window[CHUNK_MAX];
	uint32_t end;			  /* first frame never used */
	uint64_t file_size;
	uint32_t head[2][CLASSES];	  /* [dirty][class]: first frame of an extent, 0: none */
	uint32_t dirty_count;
	_Atomic int64_t used[MEMFILE_KINDS]; /* frames */
	_Atomic uint64_t peak;		  /* bytes */
};

STATE_DESC(memfile, S_NOSAVE(memfile, ff, "the host file is made anew"),
	   S_NOSAVE(memfile, mu, "not held at a safe point"), S_VAL(memfile, 1, frames),
	   S_NOSAVE(memfile, window, "mapped on demand"), S_VAL(memfile, 2, end),
	   S_NOSAVE(memfile, file_size, "of the host file"), S_NOSAVE(memfile, head, "rebuilt from the frames"),
	   S_NOSAVE(memfile, dirty_count, "a restored free frame is a hole"), S_VAL(memfile, 3, used),
	   S_VAL(memfile, 5, peak));

struct memfile *main_memfile;

static struct memfile *memfile_of(struct frame_file *ff)
{
	return container_of(ff, struct memfile, ff);
}

/* The facts of a frame whose chunk is known to exist. */
static struct frame *frame_at(struct memfile *mf, uint32_t i)
{
	struct frame *chunk = atomic_load_explicit(&mf->frames[i / CHUNK_FRAMES], memory_order_acquire);

	return &chunk[i % CHUNK_FRAMES];
}

static unsigned int class_of(uint32_t count)
{
	return 31u - (unsigned int)__builtin_clz(count);
}

/* ---- free extents; mu is held ---- */

static void extent_insert(struct memfile *mf, uint32_t first, uint32_t count, bool dirty)
{
	uint32_t *head = &mf->head[dirty][class_of(count)];
	struct frame *f = frame_at(mf, first);
	uint32_t run = RUN_FREE | (dirty ? RUN_DIRTY : 0) | count;

	f->prev = 0;
	f->next = *head;
	if (*head)
		frame_at(mf, *head)->prev = first;
	*head = first;
	f->run = run;
	if (count > 1)
		frame_at(mf, first + count - 1)->run = run | RUN_LAST;
	if (dirty)
		mf->dirty_count += count;
}

/* Takes the extent out of its list; its border marks are cleared. Returns its length. */
static uint32_t extent_remove(struct memfile *mf, uint32_t first)
{
	struct frame *f = frame_at(mf, first);
	uint32_t count = f->run & RUN_LENGTH;
	bool dirty = f->run & RUN_DIRTY;

	if (f->prev)
		frame_at(mf, f->prev)->next = f->next;
	else
		mf->head[dirty][class_of(count)] = f->next;
	if (f->next)
		frame_at(mf, f->next)->prev = f->prev;
	f->run = 0;
	frame_at(mf, first + count - 1)->run = 0;
	if (dirty)
		mf->dirty_count -= count;
	return count;
}

/* Adds free frames, joined with free neighbours of the same kind. */
static void extent_free(struct memfile *mf, uint32_t first, uint32_t count, bool dirty)
{
	const uint32_t mark = RUN_FREE | (dirty ? RUN_DIRTY : 0);
	uint32_t run;

	if (first > 1) {
		run = frame_at(mf, first - 1)->run;
		if ((run & ~(RUN_LENGTH | RUN_LAST)) == mark) {
			uint32_t n = run & RUN_LENGTH;

			extent_remove(mf, first - n);
			first -= n;
			count += n;
		}
	}
	if (first + count < mf->end) {
		run = frame_at(mf, first + count)->run;
		if ((run & ~RUN_LENGTH) == mark)
			count += extent_remove(mf, first + count);
	}
	extent_insert(mf, first, count, dirty);
}

/* An extent with at least count frames, taken out of its list: first frame and length; 0: none. */
static uint32_t extent_find(struct memfile *mf, uint32_t count, bool dirty, uint32_t *ret_count)
{
	unsigned int c = class_of(count), scanned = 0;
	uint32_t i;

	for (i = mf->head[dirty][c]; i && scanned < SCAN_MAX; i = frame_at(mf, i)->next, scanned++) {
		if ((frame_at(mf, i)->run & RUN_LENGTH) >= count) {
			*ret_count = extent_remove(mf, i);
			return i;
		}
	}
	for (c++; c < CLASSES; c++) {
		i = mf->head[dirty][c];
		if (i) {
			*ret_count = extent_remove(mf, i);
			return i;
		}
	}
	return 0;
}

/* Makes sure that facts of the frames [mf->end, mf->end + count) exist and the file is long enough. */
static int grow(struct memfile *mf, uint32_t count)
{
	uint64_t need = ((uint64_t)mf->end + count) * PAGE;
	uint32_t chunk = (mf->end + count - 1) / CHUNK_FRAMES;

	if (chunk >= CHUNK_MAX)
		return -ENOMEM;
	for (uint32_t c = mf->end / CHUNK_FRAMES; c <= chunk; c++) {
		void *p;

		if (mf->frames[c])
			continue;
		p = mmap(NULL, sizeof(struct frame) * CHUNK_FRAMES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (p == MAP_FAILED)
			return -ENOMEM;
		atomic_store_explicit(&mf->frames[c], p, memory_order_release);
	}
	if (need > mf->file_size) {
		uint64_t size = ALIGN_UP(need, 64ull << 20);

		if (ftruncate(mf->ff.host_fd, (off_t)size) < 0)
			return -ENOMEM;
		mf->file_size = size;
	}
	return 0;
}

/* Frames behind hint, if they are free and clean. 0: no. */
static uint32_t take_behind(struct memfile *mf, uint32_t at, uint32_t count)
{
	uint32_t run, n;

	if (!at || at >= mf->end)
		return 0;
	run = frame_at(mf, at)->run;
	if ((run & ~RUN_LENGTH) != RUN_FREE || (run & RUN_LENGTH) < count)
		return 0;
	n = extent_remove(mf, at);
	if (n > count)
		extent_insert(mf, at + count, n - count, false);
	return at;
}

/* Finds count frames: *ret_dirty tells whether they hold old contents. 0: none. */
static uint32_t take_locked(struct memfile *mf, uint32_t count, uint32_t hint, bool *ret_dirty)
{
	uint32_t first = 0, n = 0;

	*ret_dirty = false;
	if (count > SMALL_FRAMES && hint != mf->end)
		first = take_behind(mf, hint, count);
	if (first)
		return first;
	if (count <= SMALL_FRAMES) {
		first = extent_find(mf, count, true, &n);
		*ret_dirty = first != 0;
	}
	if (!first && !(hint && hint == mf->end))
		first = extent_find(mf, count, false, &n);
	if (first) {
		if (n > count)
			extent_insert(mf, first + count, n - count, *ret_dirty);
		return first;
	}
	if (grow(mf, count) < 0)
		return 0;
	first = mf->end;
	mf->end += count;
	return first;
}

static uint64_t host_bytes(struct memfile *mf)
{
	struct stat st;

	return host_fstat(mf->ff.host_fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512;
}

int memfile_alloc_raw(struct memfile *mf, uint64_t size, uint64_t hint, bool zero,
		      enum memfile_kind kind, struct frame_run *ret_run)
{
	uint32_t count = (uint32_t)(ALIGN_UP(MIN(size, MEMFILE_CHUNK), PAGE) / PAGE), first;
	struct memory_account *account = memory_self();
	const uint32_t mark = (uint32_t)kind | account_id(account) << KIND_BITS;
	uint64_t offset;
	bool dirty;

	BUG_ON(count == 0);
	mutex_lock(&mf->mu);
	if (!account_charge(account, (uint64_t)count * PAGE)) {
		mutex_unlock(&mf->mu);
		return -ENOMEM;
	}
	first = take_locked(mf, count, (uint32_t)(hint / PAGE), &dirty);
	if (!first)
		account_uncharge(account, (uint64_t)count * PAGE);
	for (uint32_t i = 0; first && i < count; i++) {
		struct frame *f = frame_at(mf, first + i);

		f->run = 0;
		f->prev = mark;
		atomic_store_explicit(&f->refs, 1, memory_order_relaxed);
	}
	mutex_unlock(&mf->mu);
	if (!first)
		return -ENOMEM;
	atomic_fetch_add_explicit(&mf->used[kind], count, memory_order_relaxed);
	offset = (uint64_t)first * PAGE;
	*ret_run = (struct frame_run){ &mf->ff, offset, (uint64_t)count * PAGE };
	if (dirty && zero) {
		for (uint64_t done = 0; done < ret_run->size; done += PAGE) {
			void *p = memfile_window(mf, offset + done);

			if (!p) {
				mf->ff.ops->put(&mf->ff, offset, ret_run->size);
				return -ENOMEM;
			}
			memset(p, 0, PAGE);
		}
	}
	return 0;
}

int memfile_alloc(struct memfile *mf, uint64_t size, enum memfile_kind kind, struct frame_run *ret_run)
{
	return memfile_alloc_raw(mf, size, 0, true, kind, ret_run);
}

/* Keeps the dirty frames within their bound: the largest extents are punched out first. */
static void trim_locked(struct memfile *mf, uint32_t keep)
{
	for (unsigned int c = CLASSES; c-- > 0 && mf->dirty_count > keep;) {
		while (mf->head[1][c] && mf->dirty_count > keep) {
			uint32_t first = mf->head[1][c], n = extent_remove(mf, first);

			memfile_punch(mf, (uint64_t)first * PAGE, (uint64_t)n * PAGE);
			extent_free(mf, first, n, false);
		}
	}
}

/* Gives count frames that are marked alike back to whom they were charged to. mu is held. */
static void uncharge_locked(struct memfile *mf, uint32_t mark, uint32_t count)
{
	atomic_fetch_sub_explicit(&mf->used[(mark & ((1u << KIND_BITS) - 1)) % MEMFILE_KINDS], count,
				  memory_order_relaxed);
	account_uncharge(account_by_id(mark >> KIND_BITS), (uint64_t)count * PAGE);
}

static void free_run(struct memfile *mf, uint32_t first, uint32_t count)
{
	bool punch = count >= PUNCH_FRAMES;

	if (punch)
		memfile_punch(mf, (uint64_t)first * PAGE, (uint64_t)count * PAGE);
	GUARD(mutex, &mf->mu);
	for (uint32_t i = 0, n; i < count; i += n) {
		uint32_t mark = frame_at(mf, first + i)->prev;

		for (n = 1; i + n < count && frame_at(mf, first + i + n)->prev == mark; n++)
			;
		uncharge_locked(mf, mark, n);
	}
	extent_free(mf, first, count, !punch);
	if (mf->dirty_count > DIRTY_MAX)
		trim_locked(mf, DIRTY_MAX / 2);
}

/* Under the lock plain additions do, which for the long runs that fork shares cost a tenth of atomic ones. */
static void memfile_get(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	struct memfile *mf = memfile_of(ff);

	GUARD(mutex, &mf->mu);
	for (uint64_t at = offset; at < offset + size; at += PAGE) {
		struct frame *f = frame_at(mf, (uint32_t)(at / PAGE));
		uint32_t old = atomic_load_explicit(&f->refs, memory_order_relaxed);

		BUG_ON(old == 0 || old >= UINT32_MAX / 2);
		atomic_store_explicit(&f->refs, old + 1, memory_order_relaxed);
	}
}

/* Drops references from frame i on, up to end, until one was the last of its frame after others were not or the other way
 * round. Returns the first frame not looked at; *ret_last tells whether those before it have no reference any more. */
static uint32_t put_alike(struct memfile *mf, uint32_t i, uint32_t end, bool *ret_last)
{
	uint32_t old;

	GUARD(mutex, &mf->mu);
	*ret_last = atomic_load_explicit(&frame_at(mf, i)->refs, memory_order_relaxed) == 1;
	for (; i < end; i++) {
		old = atomic_load_explicit(&frame_at(mf, i)->refs, memory_order_relaxed);
		BUG_ON(old == 0);
		if ((old == 1) != *ret_last)
			break;
		atomic_store_explicit(&frame_at(mf, i)->refs, old - 1, memory_order_release);
	}
	return i;
}

static void memfile_put(struct frame_file *ff, uint64_t offset, uint64_t size)
{
	struct memfile *mf = memfile_of(ff);
	uint32_t i = (uint32_t)(offset / PAGE), end = (uint32_t)((offset + size) / PAGE), next;
	bool last;

	for (; i < end; i = next) {
		next = put_alike(mf, i, end, &last);
		if (last)
			free_run(mf, i, next - i);
	}
}

uint64_t memfile_exclusive_prefix(struct memfile *mf, uint64_t offset, uint64_t size, bool exclusive)
{
	uint64_t at = offset;

	while (at < offset + size) {
		uint32_t refs = atomic_load_explicit(&frame_at(mf, (uint32_t)(at / PAGE))->refs,
						     memory_order_acquire);

		if ((refs == 1) != exclusive)
			break;
		at += PAGE;
	}
	return at - offset;
}

void memfile_punch(struct memfile *mf, uint64_t offset, uint64_t size)
{
	if (fallocate(mf->ff.host_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
		      (off_t)size) < 0)
		log_error("memory file: cannot punch a hole: %s", strerror(errno));
}

void *memfile_window(struct memfile *mf, uint64_t offset)
{
	uint64_t chunk = offset / MEMFILE_CHUNK;
	uint8_t *base = atomic_load_explicit(&mf->window[chunk], memory_order_acquire);

	if (unlikely(!base)) {
		void *p;

		GUARD(mutex, &mf->mu);
		base = mf->window[chunk];
		if (!base) {
			p = mmap(NULL, MEMFILE_CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
				 mf->ff.host_fd, (off_t)(chunk * MEMFILE_CHUNK));
			if (p == MAP_FAILED)
				return NULL;
			base = p;
			atomic_store_explicit(&mf->window[chunk], base, memory_order_release);
		}
	}
	return base + offset % MEMFILE_CHUNK;
}

static void *memfile_window_op(struct frame_file *ff, uint64_t offset, uint64_t size, uint64_t *ret_size)
{
	*ret_size = MIN(size, MEMFILE_CHUNK - offset % MEMFILE_CHUNK);
	return memfile_window(memfile_of(ff), offset);
}

static const struct frame_file_ops memfile_ops = {
	.name = "memory",
	.get = memfile_get,
	.put = memfile_put,
	.window = memfile_window_op,
};

int memfile_new(struct memfile **ret_mf)
{
	struct memfile *mf = calloc(1, sizeof(*mf));

	if (!mf)
		return -ENOMEM;
	mf->ff = (struct frame_file){ .ops = &memfile_ops, .writable = true };
	mf->ff.host_fd = memfd_create("guest-memory", MFD_CLOEXEC);
	mutex_init(&mf->mu, LOCK_MEMFILE);
	mf->end = 1; /* frame 0 is never used: 0 means none */
	if (mf->ff.host_fd < 0 || grow(mf, 1) < 0) {
		int err = mf->ff.host_fd < 0 ? -errno : -ENOMEM;

		if (mf->ff.host_fd >= 0)
			close(mf->ff.host_fd);
		free(mf);
		return err;
	}
	accounts_init();
	main_memfile = mf;
	*ret_mf = mf;
	return 0;
}

int memfile_fd(struct memfile *mf)
{
	return mf->ff.host_fd;
}

struct frame_file *memfile_frames(struct memfile *mf)
{
	return &mf->ff;
}

void memory_usage(struct memory_usage *ret)
{
	struct memfile *mf = main_memfile;
	uint64_t used[MEMFILE_KINDS], handed_out = 0, peak;

	for (int k = 0; k < MEMFILE_KINDS; k++) {
		used[k] = (uint64_t)MAX(atomic_load(&mf->used[k]), 0) * PAGE;
		handed_out += used[k];
	}
	/* The host holds free frames that are still dirty; those handed out need not be touched yet. */
	mutex_lock(&mf->mu);
	ret->total = MIN(host_bytes(mf), handed_out);
	mutex_unlock(&mf->mu);
	/* Allocated frames that were never touched cost nothing: anonymous memory is what the host holds. */
	ret->tmpfs = MIN(used[MEMFILE_TMPFS], ret->total);
	ret->pipe = MIN(used[MEMFILE_PIPE], ret->total - ret->tmpfs);
	ret->anon = ret->total - ret->tmpfs - ret->pipe;
	peak = atomic_load(&mf->peak);
	while (peak < ret->total && !atomic_compare_exchange_weak(&mf->peak, &peak, ret->total))
		;
	ret->peak = MAX(peak, ret->total);
}

#define MARK_FREE UINT32_MAX

/* Copies the marks of up to max frames from i on, MARK_FREE for free ones; returns how many frames were looked at.
 * *ret_any: some of them are the account's. */
static uint32_t scan_marks(struct memfile *mf, unsigned account, uint32_t i, uint32_t max, uint32_t *mark, bool *ret_any)
{
	uint32_t run;

	*ret_any = false;
	GUARD(mutex, &mf->mu);
	run = frame_at(mf, i)->run;
	if ((run & RUN_FREE) && !(run & RUN_LAST))
		return run & RUN_LENGTH;
	max = MIN(max, mf->end - i);
	max = MIN(max, CHUNK_FRAMES - i % CHUNK_FRAMES);
	for (uint32_t k = 0; k < max; k++) {
		struct frame *f = frame_at(mf, i + k);

		mark[k] = atomic_load_explicit(&f->refs, memory_order_relaxed) ? f->prev : MARK_FREE;
		*ret_any |= mark[k] >> KIND_BITS == account;
	}
	return max;
}

uint64_t memfile_held(struct memfile *mf)
{
	return host_bytes(mf);
}

void memfile_scan(struct memfile *mf, unsigned account, uint64_t by_kind[MEMFILE_KINDS])
{
	uint32_t mark[SCAN_FRAMES], n, end;
	uint8_t resident[SCAN_FRAMES];
	bool any;

	mutex_lock(&mf->mu);
	end = mf->end;
	mutex_unlock(&mf->mu);
	for (uint32_t i = 1; i < end; i += n) {
		void *p;

		n = scan_marks(mf, account, i, SCAN_FRAMES, mark, &any);
		p = any ? memfile_window(mf, (uint64_t)i * PAGE) : NULL;
		if (!p || mincore(p, (size_t)n * PAGE, resident) < 0)
			continue;
		for (uint32_t k = 0; k < n; k++)
			if (mark[k] >> KIND_BITS == account && (resident[k] & 1))
				by_kind[(mark[k] & ((1u << KIND_BITS) - 1)) % MEMFILE_KINDS] += PAGE;
	}
}

/* Without the host's size (its sysinfo was not read): what a small machine has. */
#define HOST_MEMORY_DEFAULT (2ull << 30)

static uint64_t host_memory = HOST_MEMORY_DEFAULT; /* const after boot */

void memory_set_host(uint64_t bytes)
{
	host_memory = bytes;
}

uint64_t memory_host(void)
{
	return host_memory;
}
