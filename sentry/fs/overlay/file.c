/*
 * Open files of the union pass everything on to an open file of one layer. A file that was opened below
 * and is copied up later goes on with the upper one: reads and new mappings see the change.
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>

#include "sentry/fs/overlay/overlay_priv.h"

int real_open(struct inode *real, int flags, const struct cred *cred, struct real_file **ret_file)
{
	struct real_file *rf = calloc(1, sizeof(*rf));
	struct file *f;
	int r;

	if (!rf)
		return -ENOMEM;
	f = &rf->file;
	refcount_init(&f->refs, 1);
	f->ops = real->fops;
	f->inode = inode_get(real);
	f->cred = cred_get(cred);
	atomic_init(&f->flags, flags);
	mutex_init(&f->pos_mu, LOCK_FILE_POS);
	list_init(&f->epoll_items);
	r = real->ops->open ? real->ops->open(real, f) : 0;
	if (r == 0 && !f->ops)
		r = -ENXIO;
	if (r < 0) {
		static const struct file_ops none = { .name = "closed" };

		f->ops = &none;
		real_close(rf);
		return r;
	}
	*ret_file = rf;
	return 0;
}

void real_close(struct real_file *rf)
{
	if (!rf)
		return;
	if (rf->file.ops->release)
		rf->file.ops->release(&rf->file);
	inode_put(rf->file.inode);
	cred_put(rf->file.cred);
	mutex_fini(&rf->file.pos_mu);
	real_close(rf->newer);
	free(rf);
}

int overlay_open(struct inode *i, struct file *f)
{
	struct overlay_inode *o = overlay_inode_of(i);
	int flags = file_flags(f), r = 0;
	struct real_file *rf;

	if (S_ISDIR(i->mode))
		return overlay_dir_open(f);
	if (!S_ISREG(i->mode))
		return 0;
	if ((flags & O_ACCMODE) != O_RDONLY)
		r = overlay_copy_up(o, UINT64_MAX);
	if (r == 0)
		r = real_open(overlay_real(o), flags, f->cred, &rf);
	if (r == 0)
		f->data = rf;
	return r;
}

/* The layer's file to use now. NULL when the upper one cannot be opened. */
static struct file *real_of(struct file *f)
{
	struct overlay_inode *o = overlay_inode_of(f->inode);
	struct real_file *rf = f->data, *newer, *expected = NULL;
	struct inode *upper = overlay_upper(o);

	if (likely(!upper || rf->file.inode == upper))
		return &rf->file;
	newer = __atomic_load_n(&rf->newer, __ATOMIC_ACQUIRE);
	if (newer)
		return &newer->file;
	if (real_open(upper, file_flags(f), f->cred, &newer) < 0)
		return NULL;
	if (!__atomic_compare_exchange_n(&rf->newer, &expected, newer, false, __ATOMIC_ACQ_REL,
					 __ATOMIC_ACQUIRE)) {
		real_close(newer);
		newer = expected;
	}
	return &newer->file;
}

static void overlay_release(struct file *f)
{
	real_close(f->data);
}

static int64_t overlay_read(struct file *f, struct uio *u, int64_t *pos)
{
	struct file *real = real_of(f);

	if (!real)
		return -EIO;
	return real->ops->read ? real->ops->read(real, u, pos) : -EINVAL;
}

/* The data changed: size and times follow. */
static void data_changed(struct overlay_inode *o)
{
	GUARD(mutex, &o->inode.mu);
	overlay_sync_locked(o, false);
}

static int64_t overlay_write(struct file *f, struct uio *u, int64_t *pos)
{
	struct file *real = real_of(f);
	int64_t r;

	if (!real)
		return -EIO;
	r = real->ops->write ? real->ops->write(real, u, pos) : -EINVAL;
	if (r > 0)
		data_changed(overlay_inode_of(f->inode));
	return r;
}

static int overlay_fsync(struct file *f, bool datasync)
{
	struct file *real = real_of(f);

	if (!real)
		return -EIO;
	/* Without an upper file nothing was changed. */
	if (!overlay_upper(overlay_inode_of(f->inode)) || !real->ops->fsync)
		return 0;
	return real->ops->fsync(real, datasync);
}

static int overlay_fallocate(struct file *f, int mode, int64_t offset, int64_t size)
{
	struct overlay_inode *o = overlay_inode_of(f->inode);
	struct file *real = real_of(f);
	int r;

	if (!real)
		return -EIO;
	r = real->ops->fallocate ? real->ops->fallocate(real, mode, offset, size) : -EOPNOTSUPP;
	if (r < 0)
		return r;
	data_changed(o);
	/* The layer knows nothing of mappings of the union. */
	if (mode & ~FALLOC_FL_KEEP_SIZE)
		mappable_invalidate(&o->mappable, (uint64_t)offset & ~GUEST_PAGE_MASK, INT64_MAX);
	return r;
}

static int set_flags_of(struct real_file *rf, int flags)
{
	int r = 0;

	if (rf && rf->file.ops->set_flags)
		r = rf->file.ops->set_flags(&rf->file, flags);
	if (rf && r == 0)
		atomic_store(&rf->file.flags, flags);
	return r;
}

static int overlay_set_flags(struct file *f, int flags)
{
	struct real_file *rf = f->data;
	int r = set_flags_of(rf, flags);

	return r < 0 ? r : set_flags_of(__atomic_load_n(&rf->newer, __ATOMIC_ACQUIRE), flags);
}

const struct file_ops overlay_file_fops = { .name = "overlay-file",
					    .release = overlay_release,
					    .read = overlay_read,
					    .write = overlay_write,
					    .fsync = overlay_fsync,
					    .fallocate = overlay_fallocate,
					    .set_flags = overlay_set_flags };

/* Mappings belong to the overlay inode: copy-up invalidates them, and they fault on the upper pages. */
static struct overlay_inode *inode_of_mappable(struct mappable *m)
{
	return container_of(m, struct overlay_inode, mappable);
}

static int overlay_translate(struct mappable *m, uint64_t offset, uint64_t size, bool write,
			     struct frame_run *ret_run)
{
	struct overlay_inode *o = inode_of_mappable(m);
	struct inode *real = overlay_real(o);

	if (!real->mappable || (write && real == o->lower))
		return -EFAULT;
	return real->mappable->ops->translate(real->mappable, offset, size, write, ret_run);
}

static int overlay_map_sync(struct mappable *m, uint64_t offset, uint64_t size)
{
	struct inode *upper = overlay_upper(inode_of_mappable(m));

	if (!upper || !upper->mappable || !upper->mappable->ops->sync)
		return 0;
	return upper->mappable->ops->sync(upper->mappable, offset, size);
}

static void overlay_map_get(struct mappable *m)
{
	inode_get(&inode_of_mappable(m)->inode);
}

static void overlay_map_put(struct mappable *m)
{
	inode_put(&inode_of_mappable(m)->inode);
}

const struct mappable_ops overlay_mappable_ops = { .translate = overlay_translate,
						   .sync = overlay_map_sync,
						   .get = overlay_map_get,
						   .put = overlay_map_put };
