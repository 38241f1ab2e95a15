/* Memory of a task: maps, smaps, smaps_rollup, mem, pagemap, clear_refs. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "sentry/fs/proc/proc_priv.h"
#include "sentry/mm/mm.h"

struct maps_arg {
	struct seq *q;
	bool smaps;
	uint64_t rss, anon, locked, dirty, first, last; /* totals of smaps_rollup */
};

static void maps_line(struct maps_arg *a, const struct vma_info *v)
{
	char path[PATH_MAX_GUEST];
	const char *name = v->name;
	int start = (int)a->q->size;
	uint64_t ino = 0;
	dev_t dev = 0;

	if (v->file) {
		struct inode *i = file_inode(v->file);

		ino = i->ino;
		dev = i->sb ? i->sb->dev : 0;
		if (!name && proc_place_text(file_path(v->file), path, sizeof(path)) >= 0)
			name = path;
	}
	seq_printf(a->q, "%08llx-%08llx %c%c%c%c %08llx %02x:%02x %llu ", (unsigned long long)v->start,
		   (unsigned long long)v->end, v->prot & PROT_READ ? 'r' : '-',
		   v->prot & PROT_WRITE ? 'w' : '-', v->prot & PROT_EXEC ? 'x' : '-',
		   (v->flags & MAP_TYPE) == MAP_PRIVATE ? 'p' : 's', (unsigned long long)v->offset, major(dev),
		   minor(dev), (unsigned long long)ino);
	if (name) {
		while ((int)a->q->size - start < 73 && !a->q->failed)
			seq_putc(a->q, ' ');
		seq_escape(a->q, name, "\n");
	}
	seq_putc(a->q, '\n');
}

static void smaps_body(struct seq *q, uint64_t size, uint64_t rss, uint64_t anon, uint64_t dirty,
		       uint64_t locked, bool shared)
{
	unsigned long long r = rss >> 10, d = dirty >> 10;

	if (size)
		seq_printf(q, "Size:           %8llu kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n",
			   (unsigned long long)size >> 10);
	seq_printf(q,
		   "Rss:            %8llu kB\nPss:            %8llu kB\nPss_Dirty:      %8llu kB\n"
		   "Shared_Clean:   %8llu kB\nShared_Dirty:   %8llu kB\nPrivate_Clean:  %8llu kB\n"
		   "Private_Dirty:  %8llu kB\nReferenced:     %8llu kB\nAnonymous:      %8llu kB\n"
		   "KSM:                   0 kB\nLazyFree:              0 kB\nAnonHugePages:         0 kB\n"
		   "ShmemPmdMapped:        0 kB\nFilePmdMapped:         0 kB\nShared_Hugetlb:        0 kB\n"
		   "Private_Hugetlb:       0 kB\nSwap:                  0 kB\nSwapPss:               0 kB\n"
		   "Locked:         %8llu kB\n",
		   r, r, d, shared ? r - d : 0, shared ? d : 0, shared ? 0 : r - d, shared ? 0 : d, r,
		   (unsigned long long)anon >> 10, (unsigned long long)locked >> 10);
}

static int maps_one(const struct vma_info *v, void *arg)
{
	struct maps_arg *a = arg;
	bool shared = (v->flags & MAP_TYPE) != MAP_PRIVATE;

	maps_line(a, v);
	if (!a->smaps)
		return 0;
	smaps_body(a->q, v->end - v->start, v->rss, v->anon, MIN(v->dirty, v->rss), v->locked, shared);
	seq_printf(a->q, "THPeligible:           0\nVmFlags:%s%s%s mr mw me%s%s\n",
		   v->prot & PROT_READ ? " rd" : "", v->prot & PROT_WRITE ? " wr" : "",
		   v->prot & PROT_EXEC ? " ex" : "", shared ? " sh ms" : "",
		   v->flags & MAP_GROWSDOWN ? " gd" : "");
	return 0;
}

static int rollup_one(const struct vma_info *v, void *arg)
{
	struct maps_arg *a = arg;

	if (!a->last)
		a->first = v->start;
	a->last = v->end;
	a->rss += v->rss;
	a->anon += v->anon;
	a->locked += v->locked;
	a->dirty += MIN(v->dirty, v->rss);
	return 0;
}

static int walk_vmas(struct simple_inode *s, bool smaps, int (*fn)(const struct vma_info *, void *), void *arg)
{
	struct mm *mm = task_get_mm(proc_task(s));
	int r;

	if (!mm)
		return 0;
	r = mm_for_each_vma(mm, 0, smaps, fn, arg);
	mm_put(mm);
	return r;
}

static int maps_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct maps_arg a = { .q = q };

	(void)f;
	return walk_vmas(s, false, maps_one, &a);
}

static int smaps_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct maps_arg a = { .q = q, .smaps = true };

	(void)f;
	return walk_vmas(s, true, maps_one, &a);
}

static int rollup_show(struct simple_inode *s, struct file *f, struct seq *q)
{
	struct maps_arg a = { .q = q };
	int r = walk_vmas(s, true, rollup_one, &a);

	(void)f;
	if (r < 0 || !a.last)
		return r;
	seq_printf(q, "%08llx-%08llx ---p 00000000 00:00 0                          [rollup]\n",
		   (unsigned long long)a.first, (unsigned long long)a.last);
	smaps_body(q, 0, a.rss, a.anon, a.dirty, a.locked, false);
	return 0;
}

/* ---- mem: the memory itself ---- */

static int64_t mem_transfer(struct file *f, struct uio *u, int64_t *pos, bool write)
{
	struct umem *um = mm_umem(f->data);
	char buf[4096];
	int64_t done = 0;

	while (u->resid > 0) {
		size_t size = MIN(sizeof(buf), (size_t)u->resid);
		uaddr_t at = UADDR((uint64_t)*pos);
		int64_t n;

		if (write) {
			n = uio_read(u, buf, size);
			if (n > 0)
				n = mm_write_forced(f->data, at.v, buf, (size_t)n);
		} else {
			n = um->ops->copy_in(um, buf, at, size);
			if (n > 0)
				n = uio_write(u, buf, (size_t)n);
		}
		if (n <= 0)
			return done ? done : n == -EFAULT ? -EIO : n;
		*pos += n;
		done += n;
		if ((size_t)n < size)
			break;
	}
	return done;
}

static int64_t mem_read(struct file *f, struct uio *u, int64_t *pos)
{
	return mem_transfer(f, u, pos, false);
}

static int64_t mem_write(struct file *f, struct uio *u, int64_t *pos)
{
	return mem_transfer(f, u, pos, true);
}

static int64_t mem_seek(struct file *f, int64_t offset, int whence)
{
	if (whence == 0)
		f->pos = offset;
	else if (whence == 1)
		f->pos += offset;
	else
		return -EINVAL;
	return f->pos;
}

static void mem_release(struct file *f)
{
	mm_put(f->data);
}

static const struct file_ops mem_file_ops = {
	.name = "proc mem",
	.release = mem_release,
	.read = mem_read,
	.write = mem_write,
	.seek = mem_seek,
};

static int mem_open(struct simple_inode *s, struct file *f)
{
	struct mm *mm;

	if (!current || !task_may_access(current, proc_task(s), true))
		return -EACCES;
	mm = task_get_mm(proc_task(s));
	if (!mm)
		return -EACCES;
	f->data = mm;
	f->ops = &mem_file_ops;
	return 0;
}

static int64_t clear_refs_store(struct simple_inode *s, struct file *f, char *text, size_t size, int64_t pos)
{
	(void)s;
	(void)f;
	(void)pos;
	/* Referenced bits are not kept, so clearing them leaves everything as it is. */
	return text[0] >= '1' && text[0] <= '5' ? (int64_t)size : -EINVAL;
}

#define MAPS_OPS(id, ...)                                                                          \
	static const struct simple_ops id##_ops = { .name = #id, .free = proc_free_task,           \
						    .refresh = proc_refresh_owner, __VA_ARGS__ }
MAPS_OPS(maps, .open = proc_open_private, .show = maps_show);
MAPS_OPS(smaps, .open = proc_open_private, .show = smaps_show);
MAPS_OPS(rollup, .open = proc_open_private, .show = rollup_show);
MAPS_OPS(mem, .open = mem_open);
MAPS_OPS(clear_refs, .store = clear_refs_store);

const struct proc_entry proc_maps_entries[] = {
	{ "maps", S_IFREG | 0444, &maps_ops, false },
	{ "smaps", S_IFREG | 0444, &smaps_ops, false },
	{ "smaps_rollup", S_IFREG | 0444, &rollup_ops, false },
	{ "mem", S_IFREG | 0600, &mem_ops, false },
	{ "clear_refs", S_IFREG | 0200, &clear_refs_ops, false },
	{ 0 },
};
