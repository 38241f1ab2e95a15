/*
 * Where the frames of host files lie in guest-physical memory.
 *
 * A memory slot of frames covers KV_SLOT bytes of the sentry's address space and is never taken away. What is mapped there
 * may change: KVM follows the host's page tables through its MMU notifier, so mapping another file over a window,
 * or dropping the host's entries (kv_window_zap), takes every translation of these frames away from every vCPU before the
 * host call returns. No memory slot operation is on a common path.
 *
 * The guest memory file has slots of its own, each KV_SLOT bytes of it, which stay. Every other file is mapped in windows
 * of KV_WINDOW bytes, which exist as long as an entry of a page table points into them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "platform/base/log.h"
#include "platform/host/file.h"
#include "platform/kvm/kvm_priv.h"

enum { NO_MAPPING = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE };

/* What identifies the file behind fd, as long as a window of it exists. 0 or -errno. */
int kv_file_of(struct kv_platform *p, int fd, struct kv_file *ret_file)
{
	struct kv_file f = { .fd = fd, .memory = fd == p->memory_fd };
	struct stat st;

	if (!f.memory) {
		int err = host_fstat(fd, &st), flags;

		if (err < 0)
			return err;
		flags = fcntl(fd, F_GETFL);
		if (flags < 0)
			return -errno;
		f.mode = flags & O_ACCMODE;
		f.dev = st.st_dev;
		f.ino = st.st_ino;
	}
	*ret_file = f;
	return 0;
}

static uint64_t slot_gpa(uint32_t index)
{
	return KV_GPA_FRAMES + index * KV_SLOT;
}

/* Adds a memory slot that shows hva. Its index, or -errno. */
static int64_t slot_add_locked(struct kv_platform *p, uint8_t *hva)
{
	uint32_t i = p->slot_count;
	int err;

	if (i == p->slots_max)
		return -ENOMEM;
	err = kv_memory_slot(p, KV_MEM_FRAMES + i, slot_gpa(i), KV_SLOT, hva);
	if (err < 0)
		return err;
	p->slot[i].hva = hva;
	p->slot_count++;
	return i;
}

/* The slot of the memory file's bytes from chunk * KV_SLOT on. Its index, or -errno. */
static int64_t memory_slot_locked(struct kv_platform *p, uint64_t chunk)
{
	int64_t index;
	void *hva;

	if (chunk >= p->memory_slots) {
		size_t room = MAX(p->memory_slots * 2, (size_t)chunk + 16);
		uint32_t *grown = chunk < KV_SLOTS_MAX ? reallocarray(p->memory_slot, room, sizeof(*grown)) : NULL;

		if (!grown)
			return -ENOMEM;
		memset(grown + p->memory_slots, 0, (room - p->memory_slots) * sizeof(*grown));
		p->memory_slot = grown;
		p->memory_slots = room;
	}
	if (p->memory_slot[chunk])
		return p->memory_slot[chunk] - 1;
	hva = mmap(NULL, KV_SLOT, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, p->memory_fd, (off_t)(chunk * KV_SLOT));
	if (hva == MAP_FAILED)
		return -errno;
	index = slot_add_locked(p, hva);
	if (index < 0)
		munmap(hva, KV_SLOT);
	else
		p->memory_slot[chunk] = (uint32_t)index + 1;
	return index;
}

/* Another KV_WINDOWS_PER_SLOT free windows. 0, or -ENOSPC: the limit of their number, or of the host's mappings. */
static int windows_add_locked(struct kv_platform *p)
{
	struct kv_window *w;
	int64_t index;
	void *hva;

	if (p->file_slots >= MIN(p->slots_max / 4, (uint32_t)KV_FILE_SLOTS))
		return -ENOSPC;
	w = calloc(KV_WINDOWS_PER_SLOT, sizeof(*w));
	if (!w)
		return -ENOMEM;
	hva = mmap(NULL, KV_SLOT, PROT_NONE, NO_MAPPING, -1, 0);
	index = hva == MAP_FAILED ? -ENOMEM : slot_add_locked(p, hva);
	if (index < 0) {
		if (hva != MAP_FAILED)
			munmap(hva, KV_SLOT);
		free(w);
		return -ENOSPC;
	}
	p->file_slots++;
	p->slot[index].window = w;
	for (uint64_t i = 0; i < KV_WINDOWS_PER_SLOT; i++) {
		w[i].gpa = slot_gpa((uint32_t)index) + i * KV_WINDOW;
		w[i].hva = (uint8_t *)hva + i * KV_WINDOW;
		list_add_tail(&p->free_windows, &w[i].link);
	}
	return 0;
}

static struct list_node *bucket(struct kv_platform *p, int fd, uint64_t chunk)
{
	return &p->windows[((uint64_t)fd * 31 + chunk) % KV_HASH];
}

static struct kv_window *find_locked(struct kv_platform *p, const struct kv_file *f, uint64_t chunk)
{
	struct kv_window *w;

	list_for_each(w, bucket(p, f->fd, chunk), link) {
		if (w->fd == f->fd && w->chunk == chunk && w->dev == f->dev && w->ino == f->ino && w->mode == f->mode)
			return w;
	}
	return NULL;
}

/* A window of f in use. 0, -ENOSPC: all are in use, or what mmap says. */
static int map_locked(struct kv_platform *p, const struct kv_file *f, uint64_t chunk, struct kv_window **ret_window)
{
	int prot = f->mode == O_RDWR ? PROT_READ | PROT_WRITE : PROT_READ, err;
	struct kv_window *w;

	if (list_empty(&p->free_windows)) {
		err = windows_add_locked(p);
		if (err < 0)
			return err;
	}
	w = list_first(&p->free_windows, struct kv_window, link);
	if (mmap(w->hva, KV_WINDOW, prot, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, f->fd, (off_t)(chunk * KV_WINDOW)) ==
	    MAP_FAILED)
		return errno == ENOMEM ? -ENOSPC : -errno;
	list_del(&w->link);
	w->fd = f->fd;
	w->mode = f->mode;
	w->dev = f->dev;
	w->ino = f->ino;
	w->chunk = chunk;
	w->refs = 0;
	list_add(bucket(p, f->fd, chunk), &w->link);
	*ret_window = w;
	return 0;
}

/*
 * The guest-physical address of file's bytes at offset, with count references: one for each page table entry that the
 * caller makes. [offset, offset + count pages) lies within one window. Takes p->mu. 0, -ENOSPC: no window is
 * free; -errno.
 */
int kv_window_get(struct kv_platform *p, const struct kv_file *file, uint64_t offset, uint64_t count,
		  uint64_t *ret_gpa)
{
	struct kv_window *w;
	int err;

	GUARD(mutex, &p->mu);
	if (file->memory) {
		int64_t index = memory_slot_locked(p, offset / KV_SLOT);

		if (index < 0)
			return (int)index;
		*ret_gpa = slot_gpa((uint32_t)index) + offset % KV_SLOT;
		return 0;
	}
	w = find_locked(p, file, offset / KV_WINDOW);
	if (!w) {
		err = map_locked(p, file, offset / KV_WINDOW, &w);
		if (err < 0)
			return err;
	}
	w->refs += count;
	*ret_gpa = w->gpa + offset % KV_WINDOW;
	return 0;
}

/* Drops count references of the window at gpa. p->mu is held. */
void kv_window_put_locked(struct kv_platform *p, uint64_t gpa, uint64_t count)
{
	uint64_t slot = (gpa - KV_GPA_FRAMES) / KV_SLOT;
	struct kv_window *w = p->slot[slot].window;

	if (!w)
		return; /* the guest memory file */
	w += (gpa - KV_GPA_FRAMES) % KV_SLOT / KV_WINDOW;
	BUG_ON(w->refs < count);
	w->refs -= count;
	if (w->refs)
		return;
	/* Nothing may hold the file any longer than the guest maps it: it could have been deleted. */
	if (mmap(w->hva, KV_WINDOW, PROT_NONE, NO_MAPPING | MAP_FIXED, -1, 0) == MAP_FAILED)
		log_error("kvm: a window of a file stays mapped: %s", strerror(errno));
	list_del(&w->link);
	list_add(&p->free_windows, &w->link);
}

void kv_window_put(struct kv_platform *p, uint64_t gpa, uint64_t count)
{
	GUARD(mutex, &p->mu);
	kv_window_put_locked(p, gpa, count);
}

/* The sentry's address of a frame that a page table entry holds. It may be gone: never touch it directly. */
uint8_t *kv_window_address(struct kv_platform *p, uint64_t gpa)
{
	return p->slot[(gpa - KV_GPA_FRAMES) / KV_SLOT].hva + (gpa - KV_GPA_FRAMES) % KV_SLOT;
}

/*
 * Takes the translations of [gpa, gpa + size) away from every vCPU, running ones included, before it returns. The range lies
 * in one slot, and the page table entries have changed before. Whoever still maps these frames faults
 * them in again inside KVM.
 */
void kv_window_zap(struct kv_platform *p, uint64_t gpa, uint64_t size)
{
	if (madvise(kv_window_address(p, gpa), size, MADV_DONTNEED) == 0)
		return;
	GUARD(mutex, &p->mu);
	kv_flush_all_locked(p);
}

void kv_windows_open(struct kv_platform *p)
{
	list_init(&p->free_windows);
	for (size_t i = 0; i < KV_HASH; i++)
		list_init(&p->windows[i]);
}

void kv_windows_close(struct kv_platform *p)
{
	for (uint32_t i = 0; i < p->slot_count; i++) {
		munmap(p->slot[i].hva, KV_SLOT);
		free(p->slot[i].window);
	}
	free(p->memory_slot);
}
