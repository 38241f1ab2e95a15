/*
 * What mmap(2) needs from a file: where its pages are. Files implement mappable_ops; sentry/mm calls
 * them. Page frames live in a frame_file: the guest memory file, a tmpfs backing, or a host file
 * donated by the gofer.
 */
#ifndef SENTRY_CORE_MAPPABLE_H
#define SENTRY_CORE_MAPPABLE_H

#include "platform/base/list.h"
#include "platform/base/mutex.h"

struct frame_file;
struct mappable;

struct frame_file_ops {
	const char *name;
	/* References on whole pages [offset, offset+size): a page is reused only at zero. */
	void (*get)(struct frame_file *ff, uint64_t offset, uint64_t size);
	void (*put)(struct frame_file *ff, uint64_t offset, uint64_t size);
	/* Sentry address of the range, valid while a reference is held; *ret_size may be smaller than
	 * asked (window border). NULL when mapping fails. Accesses may raise SIGBUS if host_file. */
	void *(*window)(struct frame_file *ff, uint64_t offset, uint64_t size, uint64_t *ret_size);
};

struct frame_file {
	const struct frame_file_ops *ops;
	int host_fd;	/* what a platform maps */
	bool host_file; /* may be truncated behind our back: SIGBUS, never write through a private map */
	bool writable;	/* host_fd is open for writing */
};

/* A run of consecutive pages; the holder owns one reference on each page. */
struct frame_run {
	struct frame_file *ff;
	uint64_t offset, size; /* bytes, page aligned */
};

struct mappable_ops {
	/* Finds the pages that back [offset, offset+size) of the file, allocating when write (or when the
	 * file has a hole). Returns a run that starts at offset, of at least one page and at most size,
	 * each page referenced; -EFAULT (SIGBUS) beyond the end of the file; -ENOMEM, -EIO.
	 * write: the caller will write through a shared mapping. Called with the mm lock held. */
	int (*translate)(struct mappable *m, uint64_t offset, uint64_t size, bool write,
			 struct frame_run *ret_run);
	/* Writes dirty pages back (msync, fsync). May be NULL. */
	int (*sync)(struct mappable *m, uint64_t offset, uint64_t size);
	/* References on the owner (inode) while mapped. */
	void (*get)(struct mappable *m);
	void (*put)(struct mappable *m);
	/* What is the same for every mappable of the same pages, while one of them is referenced: futex words in them are one.
	 * Called with the mm lock held. Default: m. */
	const void *(*identity)(struct mappable *m);
};

/* Embedded in an inode or in an object of its own. */
struct mappable {
	const struct mappable_ops *ops;
	struct mutex mu;	 /* LOCK_MAPPABLE: protects users */
	struct list_node users; /* mapping_user.node */
};

/* One vma that maps the file; registered by sentry/mm. */
struct mapping_user {
	struct list_node node;
	uint64_t offset, size; /* file range, bytes */
	bool may_write;	       /* shared, and writable now or by mprotect */
	/* Drops translations of [offset, offset+size) of the file. Called with mappable.mu held. */
	void (*invalidate)(struct mapping_user *u, uint64_t offset, uint64_t size);
};

void mappable_init(struct mappable *m, const struct mappable_ops *ops);
void mappable_fini(struct mappable *m);
void mappable_add_user(struct mappable *m, struct mapping_user *u);
void mappable_remove_user(struct mappable *m, struct mapping_user *u);
/* The file's pages in the range went away (truncate, hole, copy-up): all mappings fault again.
 * Call without inode locks that translate takes. */
void mappable_invalidate(struct mappable *m, uint64_t offset, uint64_t size);
/* True when some mapping covers part of the range (tmpfs: page still in use). */
bool mappable_in_use(struct mappable *m, uint64_t offset, uint64_t size);
/* True when some mapping can change the file's pages (F_SEAL_WRITE). */
bool mappable_writable(struct mappable *m);

/* The guest memory file: frames for anonymous memory and tmpfs. Implemented in sentry/mm/memfile.c. */
struct memfile;
extern struct memfile *main_memfile;
struct frame_file *memfile_frames(struct memfile *mf);
/* Allocates zeroed frames, refcount 1 each: one run, size rounded up to pages; may return a shorter run
 * than asked when only fragments are free. -ENOMEM when the limit is reached. kind feeds accounting. */
enum memfile_kind { MEMFILE_ANON, MEMFILE_TMPFS, MEMFILE_PIPE, MEMFILE_KINDS };
NODISCARD int memfile_alloc(struct memfile *mf, uint64_t size, enum memfile_kind kind, struct frame_run *ret_run);
/* After an allocation of this thread gave -ENOMEM: makes room if the limit of its container was the reason. True: try
 * again. No locks of an address space or below are held; in_call: others may be, and it does not sleep. */
NODISCARD bool memory_relieve(bool in_call);

#endif
