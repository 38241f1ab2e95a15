/*
 * Descriptor tables. A slot is free, reserved (its open bit is set, no file) or open. One mutex per
 * table, held for a few loads and stores; files are put after it is dropped.
 */
#include "sentry/kernel/fdtable.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/limits.h"
#include "sentry/kernel/task.h"
#include "sentry/state/desc.h"
#include "sentry/vfs/fs_ops.h"

#define FDS_INLINE 64u
#define FDS_MAX (1u << 20) /* fs.nr_open */
#define WORD_BITS 64u

struct fdtable {
	struct refcount refs;
	struct mutex mu;      /* LOCK_FDTABLE: everything below */
	unsigned size;	      /* slots; a multiple of WORD_BITS */
	unsigned lowest;      /* no free slot below */
	struct file **files;  /* references */
	uint64_t *open, *cloexec;
	struct file *inline_files[FDS_INLINE];
	uint64_t inline_open, inline_cloexec;
};

STATE_DESC(fdtable, S_NOSAVE(fdtable, refs, "recounted"), S_NOSAVE(fdtable, mu, "free at a safe point"),
	   S_VAL(fdtable, 1, size), S_VAL(fdtable, 2, lowest), S_LIST(fdtable, 3, files, file),
	   S_BYTES(fdtable, 4, open), S_BYTES(fdtable, 5, cloexec),
	   S_NOSAVE(fdtable, inline_files, "storage of files"), S_NOSAVE(fdtable, inline_open, "storage of open"),
	   S_NOSAVE(fdtable, inline_cloexec, "storage of cloexec"));

static bool bit_test(const uint64_t *map, unsigned i)
{
	return map[i / WORD_BITS] >> (i % WORD_BITS) & 1;
}

static void bit_assign(uint64_t *map, unsigned i, bool on)
{
	uint64_t m = 1ull << (i % WORD_BITS);

	map[i / WORD_BITS] = on ? map[i / WORD_BITS] | m : map[i / WORD_BITS] & ~m;
}

/* An empty table with one reference; NULL: out of memory. */
struct fdtable *fdtable_new(void)
{
	struct fdtable *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	refcount_init(&t->refs, 1);
	mutex_init(&t->mu, LOCK_FDTABLE);
	t->size = FDS_INLINE;
	t->files = t->inline_files;
	t->open = &t->inline_open;
	t->cloexec = &t->inline_cloexec;
	return t;
}

struct fdtable *fdtable_get_ref(struct fdtable *t)
{
	refcount_get(&t->refs);
	return t;
}

bool fdtable_shared(const struct fdtable *t)
{
	return refcount_read(&t->refs) > 1;
}

/* A descriptor was closed: flush, POSIX locks, the slot's reference. No locks held. */
static void close_file(struct fdtable *t, struct file *f)
{
	if (f->ops->flush && !(file_flags(f) & O_PATH))
		f->ops->flush(f);
	if (f->inode->locks)
		file_locks_release(f, t);
	file_put(f);
}

void fdtable_put(struct fdtable *t)
{
	if (!t || !refcount_put(&t->refs))
		return;
	for (unsigned i = 0; i < t->size; i++) {
		if (t->files[i])
			close_file(t, t->files[i]);
	}
	if (t->files != t->inline_files) {
		free(t->files);
		free(t->open);
		free(t->cloexec);
	}
	mutex_fini(&t->mu);
	free(t);
}

/* Makes room for slot fd. mu held. */
static int grow_locked(struct fdtable *t, unsigned fd)
{
	unsigned size = t->size;
	struct file **files;
	uint64_t *open, *cloexec;

	if (fd < size)
		return 0;
	while (size <= fd)
		size *= 2;
	files = calloc(size, sizeof(struct file *));
	open = calloc(size / WORD_BITS, sizeof(*open));
	cloexec = calloc(size / WORD_BITS, sizeof(*cloexec));
	if (!files || !open || !cloexec) {
		free(files);
		free(open);
		free(cloexec);
		return -ENOMEM;
	}
	memcpy(files, t->files, t->size * sizeof(struct file *));
	memcpy(open, t->open, t->size / WORD_BITS * sizeof(*open));
	memcpy(cloexec, t->cloexec, t->size / WORD_BITS * sizeof(*cloexec));
	if (t->files != t->inline_files) {
		free(t->files);
		free(t->open);
		free(t->cloexec);
	}
	t->files = files;
	t->open = open;
	t->cloexec = cloexec;
	t->size = size;
	return 0;
}

/* A copy as fork makes it: open descriptors, not the reserved ones. NULL: out of memory. */
struct fdtable *fdtable_dup(struct fdtable *t)
{
	struct fdtable *copy = fdtable_new();
	unsigned last;

	if (!copy)
		return NULL;
	mutex_lock(&t->mu);
	for (last = t->size; last > 0 && !t->files[last - 1];)
		last--;
	if (last > 0 && grow_locked(copy, last - 1) < 0) {
		mutex_unlock(&t->mu);
		fdtable_put(copy);
		return NULL;
	}
	for (unsigned i = 0; i < last; i++) {
		if (!t->files[i])
			continue;
		copy->files[i] = file_get(t->files[i]);
		bit_assign(copy->open, i, true);
	}
	memcpy(copy->cloexec, t->cloexec, MIN(copy->size, t->size) / WORD_BITS * sizeof(*t->cloexec));
	copy->lowest = t->lowest < last ? t->lowest : 0;
	mutex_unlock(&t->mu);
	return copy;
}

static struct file *slot(const struct fdtable *t, int fd)
{
	return (unsigned)fd < t->size ? t->files[fd] : NULL;
}

struct file *fdtable_get(struct fdtable *t, int fd)
{
	struct file *f;

	mutex_lock(&t->mu);
	f = slot(t, fd);
	if (f)
		file_get(f);
	mutex_unlock(&t->mu);
	return f;
}

struct file *fdtable_get_io(struct fdtable *t, int fd)
{
	struct file *f = fdtable_get(t, fd);

	if (f && unlikely(file_flags(f) & O_PATH)) {
		file_put(f);
		return NULL;
	}
	return f;
}

bool fdtable_cloexec(struct fdtable *t, int fd)
{
	GUARD(mutex, &t->mu);
	return slot(t, fd) && bit_test(t->cloexec, (unsigned)fd);
}

int fdtable_set_cloexec(struct fdtable *t, int fd, bool on)
{
	GUARD(mutex, &t->mu);
	if (!slot(t, fd))
		return -EBADF;
	bit_assign(t->cloexec, (unsigned)fd, on);
	return 0;
}

/* Lowest free slot >= min; may be t->size. mu held. */
static unsigned free_slot_locked(const struct fdtable *t, unsigned min)
{
	unsigned from = MAX(min, t->lowest), w = from / WORD_BITS;

	for (; w < t->size / WORD_BITS; w++) {
		uint64_t open = t->open[w];

		if (w == from / WORD_BITS)
			open |= (1ull << (from % WORD_BITS)) - 1;
		if (~open)
			return w * WORD_BITS + (unsigned)__builtin_ctzll(~open);
	}
	return MAX(from, t->size);
}

/* Marks the lowest free slot >= min as taken. mu held. */
static int take_slot_locked(struct fdtable *t, int min, uint64_t limit, bool cloexec)
{
	unsigned max = (unsigned)MIN(limit, (uint64_t)FDS_MAX), fd;
	int r;

	if (min < 0 || (unsigned)min >= max)
		return min < 0 || min > 0 ? -EINVAL : -EMFILE;
	fd = free_slot_locked(t, (unsigned)min);
	if (fd >= max)
		return -EMFILE;
	r = grow_locked(t, fd);
	if (r < 0)
		return r;
	bit_assign(t->open, fd, true);
	bit_assign(t->cloexec, fd, cloexec);
	if ((unsigned)min <= t->lowest)
		t->lowest = fd + 1;
	return (int)fd;
}

static void free_slot(struct fdtable *t, unsigned fd)
{
	t->files[fd] = NULL;
	bit_assign(t->open, fd, false);
	bit_assign(t->cloexec, fd, false);
	t->lowest = MIN(t->lowest, fd);
}

int fdtable_install(struct fdtable *t, struct file *f, int min, uint64_t limit, bool cloexec)
{
	int fd;

	GUARD(mutex, &t->mu);
	fd = take_slot_locked(t, min, limit, cloexec);
	if (fd >= 0)
		t->files[fd] = file_get(f);
	return fd;
}

int fdtable_install_at(struct fdtable *t, struct file *f, int fd, uint64_t limit, bool cloexec)
{
	struct file *old = NULL;
	int r;

	if (fd < 0 || (uint64_t)fd >= MIN(limit, (uint64_t)FDS_MAX))
		return -EBADF;
	mutex_lock(&t->mu);
	r = grow_locked(t, (unsigned)fd);
	if (r == 0) {
		old = t->files[fd];
		if (!old && bit_test(t->open, (unsigned)fd))
			r = -EBUSY; /* reserved by an open in another thread (dup2(2)) */
	}
	if (r == 0) {
		t->files[fd] = file_get(f);
		bit_assign(t->open, (unsigned)fd, true);
		bit_assign(t->cloexec, (unsigned)fd, cloexec);
	}
	mutex_unlock(&t->mu);
	if (r == 0 && old)
		close_file(t, old);
	return r < 0 ? r : fd;
}

int fdtable_reserve(struct fdtable *t, int min, uint64_t limit, bool cloexec)
{
	GUARD(mutex, &t->mu);
	return take_slot_locked(t, min, limit, cloexec);
}

void fdtable_commit(struct fdtable *t, int fd, struct file *f)
{
	GUARD(mutex, &t->mu);
	BUG_ON(t->files[fd] || !bit_test(t->open, (unsigned)fd));
	t->files[fd] = file_get(f);
}

void fdtable_cancel(struct fdtable *t, int fd)
{
	GUARD(mutex, &t->mu);
	free_slot(t, (unsigned)fd);
}

int fdtable_close(struct fdtable *t, int fd)
{
	struct file *f;

	mutex_lock(&t->mu);
	f = slot(t, fd);
	if (f)
		free_slot(t, (unsigned)fd);
	mutex_unlock(&t->mu);
	if (!f)
		return -EBADF;
	close_file(t, f);
	return 0;
}

int fdtable_close_range(struct fdtable *t, unsigned first, unsigned last, bool cloexec_only)
{
	for (unsigned fd = first; fd <= last; fd++) {
		struct file *f;

		mutex_lock(&t->mu);
		if (fd >= t->size) {
			mutex_unlock(&t->mu);
			break;
		}
		f = t->files[fd];
		if (f && cloexec_only)
			bit_assign(t->cloexec, fd, true);
		else if (f)
			free_slot(t, fd);
		mutex_unlock(&t->mu);
		if (f && !cloexec_only)
			close_file(t, f);
	}
	return 0;
}

void fdtable_close_on_exec(struct fdtable *t)
{
	for (unsigned w = 0;; w++) {
		uint64_t bits = 0;

		mutex_lock(&t->mu);
		if (w < t->size / WORD_BITS)
			bits = t->cloexec[w] & t->open[w];
		else
			w = UINT32_MAX - 1;
		mutex_unlock(&t->mu);
		for (; bits; bits &= bits - 1)
			(void)fdtable_close(t, (int)(w * WORD_BITS) + __builtin_ctzll(bits));
		if (w == UINT32_MAX - 1)
			return;
	}
}

int fdtable_next(struct fdtable *t, int fd)
{
	GUARD(mutex, &t->mu);
	for (; fd >= 0 && (unsigned)fd < t->size; fd++) {
		if (t->files[fd])
			return fd;
	}
	return -1;
}

unsigned fdtable_size(struct fdtable *t)
{
	GUARD(mutex, &t->mu);
	return t->size;
}

struct file *task_fd(struct task *t, int fd)
{
	return fdtable_get(t->fdt, fd);
}

struct file *task_fd_io(struct task *t, int fd)
{
	return fdtable_get_io(t->fdt, fd);
}

int task_fd_install(struct task *t, struct file *f, bool cloexec)
{
	return fdtable_install(t->fdt, f, 0, task_rlimit(t, 7 /* RLIMIT_NOFILE */), cloexec);
}
