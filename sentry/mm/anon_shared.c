/*
 * The object behind MAP_SHARED | MAP_ANONYMOUS (and shared mappings of /dev/zero): a fixed size, frames
 * given out in blocks as they are touched.
 */
#include <errno.h>
#include <stdlib.h>

#include "sentry/core/lockrank.h"
#include "sentry/mm/account.h"
#include "sentry/mm/mm_priv.h"
#include "sentry/state/desc.h"

enum {
	BLOCK = 2 << 20,
	BLOCK_LOW = 128 << 10, /* of objects made under a memory limit: a block counts as a whole */
};
#define SIZE_MAX_SHARED (16ull << 40) /* bounds the table of blocks */

struct anon_shared {
	struct mappable mappable;
	struct refcount refs;
	struct mutex mu;     /* LOCK_FS_DATA: block */
	uint64_t size;	     /* const, bytes */
	uint64_t block_max;  /* const, bytes */
	uint64_t block_count; /* const */
	uint64_t block[];    /* offset of each block's frames in the memory file, 0: none yet */
};

STATE_DESC(anon_shared, S_EMBED(anon_shared, 1, mappable, mappable), S_VAL(anon_shared, 2, refs),
	   S_NOSAVE(anon_shared, mu, "not held at a safe point"), S_VAL(anon_shared, 3, size),
	   S_VAL(anon_shared, 4, block_count),
	   S_VAL(anon_shared, 5, block_max));

static struct anon_shared *anon_shared_of(struct mappable *m)
{
	return container_of(m, struct anon_shared, mappable);
}

static uint64_t block_size(const struct anon_shared *s, uint64_t i)
{
	return MIN(s->block_max, s->size - i * s->block_max);
}

static int anon_shared_translate(struct mappable *m, uint64_t offset, uint64_t size, bool write,
				 struct frame_run *ret_run)
{
	struct anon_shared *s = anon_shared_of(m);
	uint64_t i = offset / s->block_max, at = offset % s->block_max;
	struct frame_run run;
	int err;

	(void)write;
	if (offset >= s->size)
		return -EFAULT;
	GUARD(mutex, &s->mu);
	if (!s->block[i]) {
		err = memfile_alloc_raw(main_memfile, block_size(s, i), 0, true, MEMFILE_TMPFS, &run);
		if (err < 0)
			return err;
		s->block[i] = run.offset;
	}
	*ret_run = (struct frame_run){ memfile_frames(main_memfile), s->block[i] + at,
				       MIN(size, block_size(s, i) - at) };
	ret_run->ff->ops->get(ret_run->ff, ret_run->offset, ret_run->size);
	return 0;
}

static void anon_shared_get(struct mappable *m)
{
	refcount_get(&anon_shared_of(m)->refs);
}

static void anon_shared_put(struct mappable *m)
{
	struct anon_shared *s = anon_shared_of(m);
	struct frame_file *ff = memfile_frames(main_memfile);

	if (!refcount_put(&s->refs))
		return;
	for (uint64_t i = 0; i < s->block_count; i++)
		if (s->block[i])
			ff->ops->put(ff, s->block[i], block_size(s, i));
	mappable_fini(&s->mappable);
	mutex_fini(&s->mu);
	free(s);
}

static const struct mappable_ops anon_shared_ops = {
	.translate = anon_shared_translate,
	.get = anon_shared_get,
	.put = anon_shared_put,
};

/* A new object of size bytes (whole pages); the caller owns the one reference. 0 or -ENOMEM. */
int anon_shared_new(uint64_t size, struct mappable **ret_mappable)
{
	uint64_t block = memory_account_room(memory_self()) == MEMORY_NO_LIMIT ? BLOCK : BLOCK_LOW;
	uint64_t count = (size + block - 1) / block;
	struct anon_shared *s = NULL;

	if (size <= SIZE_MAX_SHARED)
		s = calloc(1, sizeof(*s) + count * sizeof(s->block[0]));
	if (!s)
		return -ENOMEM;
	mappable_init(&s->mappable, &anon_shared_ops);
	refcount_init(&s->refs, 1);
	mutex_init(&s->mu, LOCK_FS_DATA);
	s->size = size;
	s->block_max = block;
	s->block_count = count;
	*ret_mappable = &s->mappable;
	return 0;
}
