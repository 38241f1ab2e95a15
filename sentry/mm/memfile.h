/* The guest memory file: creation, references, accounting. Users of frames need core/mappable.h only. */
#ifndef SENTRY_MM_MEMFILE_H
#define SENTRY_MM_MEMFILE_H

#include "sentry/core/mappable.h"

/* Makes the memory file and sets main_memfile. Boot only, before the filter. 0 or -errno. */
NODISCARD int memfile_new(struct memfile **ret_mf);
int memfile_fd(struct memfile *mf);

/* Like memfile_alloc, but contents are undefined unless zero, at most size, and if possible right behind
 * the frame that ends at hint (bytes; 0: none), so that mappings merge. */
NODISCARD int memfile_alloc_raw(struct memfile *mf, uint64_t size, uint64_t hint, bool zero,
				enum memfile_kind kind, struct frame_run *ret_run);
/* Number of leading bytes of [offset, offset+size) whose frames have exactly one reference (exclusive)
 * or more than one (!exclusive). */
uint64_t memfile_exclusive_prefix(struct memfile *mf, uint64_t offset, uint64_t size, bool exclusive);
/* Gives the contents back to the host: reads as zero afterwards. The frames stay allocated. */
void memfile_punch(struct memfile *mf, uint64_t offset, uint64_t size);
/* Sentry address of a frame; cheap, any context while a reference is held. Pages up to the next multiple
 * of MEMFILE_CHUNK follow it. NULL when the window cannot be mapped. */
void *memfile_window(struct memfile *mf, uint64_t offset);

#define MEMFILE_CHUNK (1ull << 30)

#endif
