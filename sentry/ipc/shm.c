/*
 * System V shared memory (shmget(2), shmat(2), shmctl(2)). A segment is a memfd; each shmat makes a
 * file of its own on it, which every vma of that mapping refers to: when the last of them is unmapped, the
 * file's release is the detach.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>

#include "sentry/fs/memfd/memfd.h"
#include "sentry/fs/proc/sysctl.h"
#include "sentry/ipc/ipc_priv.h"
#include "sentry/mm/mm.h"
#include "sentry/state/desc.h"
#include "sentry/syscalls/syscalls.h"

#define SHM_MAX_BYTES (UINT64_MAX - (1ull << 24))
#define SHM_LIMIT_PAGES (UINT64_MAX - (1ull << 24))
#define SHM_ALIGN GUEST_PAGE_SIZE /* SHMLBA */
#define SHM_DEST_BIT 01000u
#define SHM_LOCKED_BIT 02000u

struct shm {
	struct ipc_object o; /* first member; all is protected by ns->mu */
	struct ipc_ns *ns;   /* reference */
	struct file *backing; /* const; reference */
	uint64_t size;	      /* const */
	struct list_node attaches; /* shm_attach.node */
	int64_t attach_time, detach_time;
	struct pid *creator, *last; /* references */
};

STATE_DESC(shm, S_EMBED(shm, 1, o, ipc_object), S_REF(shm, 2, ns, ipc_ns), S_REF(shm, 3, backing, file),
	   S_VAL(shm, 9, size), S_LIST(shm, 4, attaches, shm_attach), S_VAL(shm, 5, attach_time),
	   S_VAL(shm, 6, detach_time), S_REF(shm, 7, creator, pid), S_REF(shm, 8, last, pid));

static struct shm *shm_of(struct ipc_object *o)
{
	BUG_ON(o->kind != IPC_KIND_SHM);
	return container_of(o, struct shm, o);
}

static void shm_free(struct ipc_object *o)
{
	struct shm *s = shm_of(o);

	if (s->backing)
		file_put(s->backing);
	if (s->creator)
		pid_put(s->creator);
	if (s->last)
		pid_put(s->last);
	ipc_object_fini(o);
	free(s);
}

struct shm_create_args {
	uint64_t size;
	struct file *backing; /* moved into the new segment */
};

static uint64_t shm_max_bytes(void)
{
	return MIN(sysctl_word("kernel/shmmax", 0), SHM_MAX_BYTES);
}

static uint64_t shm_limit_pages(void)
{
	return MIN(sysctl_word("kernel/shmall", 0), SHM_LIMIT_PAGES);
}

static int shm_create(struct ipc_ns *ns, void *arg, struct ipc_object **ret_object)
{
	struct shm_create_args *a = arg;
	uint64_t pages = (a->size + GUEST_PAGE_MASK) / GUEST_PAGE_SIZE;
	struct shm *s;

	if (a->size < 1 || a->size > shm_max_bytes())
		return -EINVAL;
	if (ns->shm_pages + pages > shm_limit_pages())
		return -ENOSPC;
	if (!a->backing)
		return -ENOMEM;
	s = calloc(1, sizeof(*s));
	if (!s)
		return -ENOMEM;
	ipc_object_init(&s->o, IPC_KIND_SHM, shm_free);
	list_init(&s->attaches);
	s->ns = ns;
	s->size = a->size;
	s->backing = TAKE(a->backing);
	s->creator = pid_get(current->tg->pid);
	ns->shm_pages += pages;
	*ret_object = &s->o;
	return 0;
}

static int shm_check(struct ipc_object *o, void *arg)
{
	struct shm_create_args *a = arg;

	return a->size > shm_of(o)->size ? -EINVAL : 0;
}

int64_t sys_shmget(struct task *t, int32_t key, uint64_t size, int32_t flags)
{
	struct shm_create_args args = { .size = size };
	struct ipc_get_args a = { IPC_KIND_SHM, key, flags, shm_create, shm_check, &args };
	char name[16];
	int ret;

	/* The memory is made before the lock; an existing segment throws it away. */
	if ((key == IPC_PRIVATE || (flags & IPC_CREAT)) && size >= 1 && size <= INT64_MAX) {
		snprintf(name, sizeof(name), "SYSV%08x", (unsigned)key);
		ret = memfd_new(name, 0, t->cred, &args.backing);
		if (ret == 0)
			ret = file_truncate(args.backing, ALIGN_UP(size, GUEST_PAGE_SIZE), t->cred);
		if (ret < 0) {
			if (args.backing)
				file_put(args.backing);
			return ret;
		}
	}
	ret = ipc_get_id(t->ns->ipc, &a);
	if (args.backing)
		file_put(args.backing);
	return ret;
}

/* Takes a marked segment that nobody uses out of the table; the reference to put, or NULL. ns->mu held. */
static struct ipc_object *shm_reap_locked(struct shm *s)
{
	if (!list_empty(&s->attaches) || s->o.removed || !(s->o.mode & SHM_DEST_BIT))
		return NULL;
	s->ns->shm_pages -= (s->size + GUEST_PAGE_MASK) / GUEST_PAGE_SIZE;
	ipc_remove_locked(s->ns, &s->o);
	return &s->o;
}

static void note_last(struct shm *s)
{
	struct pid *old = s->last;

	if (!current)
		return;
	s->last = pid_get(current->tg->pid);
	if (old)
		pid_put(old);
}

/* An attachment: what f->data of its file is. */
struct shm_attach {
	struct shm *shm;   /* reference */
	struct ipc_ns *ns; /* reference: the table must live for the detach */
	struct list_node node; /* ns->mu: in shm->attaches */
	struct file *file; /* ns->mu; weak: each mapping of the attachment holds one reference on it */
};

STATE_DESC(shm_attach, S_REF(shm_attach, 1, shm, shm), S_REF(shm_attach, 2, ns, ipc_ns),
	   S_NOSAVE(shm_attach, node, "linked again"), S_WEAK(shm_attach, 3, file, file));

/* Mappings of the segment (shm_nattch): forks and splits count, as on Linux. ns->mu held. */
static unsigned attach_count(const struct shm *s)
{
	struct shm_attach *at;
	unsigned n = 0;

	list_for_each(at, &s->attaches, node)
		n += at->file ? refcount_read(&at->file->refs) : 1;
	return n;
}

static void attach_release(struct file *f)
{
	struct shm_attach *at = f->data;
	struct ipc_object *gone;

	mutex_lock(&at->ns->mu);
	list_del(&at->node);
	at->shm->detach_time = ipc_now_s();
	note_last(at->shm);
	gone = shm_reap_locked(at->shm);
	mutex_unlock(&at->ns->mu);
	ipc_object_put(gone);
	ipc_object_put(&at->shm->o);
	ipc_ns_put(at->ns);
	free(at);
}

static int attach_mmap(struct file *f, bool shared UNUSED, uint8_t prot UNUSED, struct mappable **ret)
{
	struct shm_attach *at = f->data;

	*ret = at->shm->backing->inode->mappable;
	return *ret ? 0 : -ENODEV;
}

static const struct file_ops shm_file_ops = {
	.name = "shm",
	.release = attach_release,
	.mmap = attach_mmap,
};

bool file_is_shm(const struct file *f)
{
	return f->ops == &shm_file_ops;
}

/* A file for one attachment of segment id. */
static int attach_new(struct task *t, int32_t id, int flags, struct file **ret_file, uint64_t *ret_size)
{
	uint32_t need = flags & SHM_RDONLY ? 0444 : 0666;
	struct ipc_ns *ns = t->ns->ipc;
	struct shm_attach *at = calloc(1, sizeof(*at));
	struct ipc_object *o;
	char name[32];
	int ret;

	if (!at)
		return -ENOMEM;
	if (flags & SHM_EXEC)
		need |= 0111;
	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_SHM, id, &o);
	if (ret == 0)
		ret = ipc_permitted(ns, o, need);
	if (ret == 0) {
		at->shm = shm_of(o);
		at->ns = ipc_ns_get(ns);
		refcount_get(&o->refs);
		list_add_tail(&at->shm->attaches, &at->node);
		at->shm->attach_time = ipc_now_s();
		note_last(at->shm);
		*ret_size = ALIGN_UP(at->shm->size, GUEST_PAGE_SIZE);
	}
	mutex_unlock(&ns->mu);
	if (ret < 0) {
		free(at);
		return ret;
	}
	snprintf(name, sizeof(name), "/SYSV%08x (deleted)", (unsigned)o->key);
	ret = file_new_anon(&shm_file_ops, name, S_IFREG | 0600, flags & SHM_RDONLY ? O_RDONLY : O_RDWR, t->cred, at, ret_file);
	if (ret < 0) {
		struct file dead = { .data = at };

		attach_release(&dead);
		return ret;
	}
	mutex_lock(&ns->mu);
	at->file = *ret_file;
	mutex_unlock(&ns->mu);
	return 0;
}

static int attach_address(uint64_t *addr, int flags, uint32_t *map_flags)
{
	*map_flags = MAP_SHARED;
	if (!*addr)
		return flags & SHM_REMAP ? -EINVAL : 0;
	if (*addr & (SHM_ALIGN - 1)) {
		if (!(flags & SHM_RND))
			return -EINVAL;
		*addr &= ~(SHM_ALIGN - 1);
		if (!*addr)
			return -EINVAL;
	}
	*map_flags |= flags & SHM_REMAP ? MAP_FIXED : MAP_FIXED_NOREPLACE;
	return 0;
}

int64_t sys_shmat(struct task *t, int32_t id, uaddr_t shmaddr, int32_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct mm_map_args a = { .addr = shmaddr.v };
	int64_t ret;

	if (id < 0)
		return -EINVAL;
	ret = attach_address(&a.addr, flags, &a.flags);
	if (ret == 0)
		ret = attach_new(t, id, flags, &f, &a.size);
	if (ret < 0)
		return ret;
	a.prot = PROT_READ | (flags & SHM_RDONLY ? 0 : PROT_WRITE) | (flags & SHM_EXEC ? PROT_EXEC : 0);
	a.file = f;
	a.limits.as = task_rlimit(t, RLIMIT_AS);
	a.limits.data = task_rlimit(t, RLIMIT_DATA);
	a.limits.stack = task_rlimit(t, RLIMIT_STACK);
	a.limits.memlock = task_rlimit(t, RLIMIT_MEMLOCK);
	ret = mm_mmap(t->mm, &a);
	return ret == -EEXIST ? -EINVAL : ret;
}

struct detach_search {
	uint64_t addr, end;
	struct file *file; /* of the mapping found, borrowed by identity only */
};

static int detach_visit(const struct vma_info *v, void *arg)
{
	struct detach_search *d = arg;

	if (!d->file) {
		if (v->start > d->addr)
			return 1;
		if (v->start != d->addr || v->offset != 0 || !v->file || !file_is_shm(v->file))
			return 1;
		d->file = v->file;
	} else if (v->file != d->file || v->start - d->addr != v->offset) {
		return 0; /* something else; later parts of the segment may follow */
	}
	d->end = v->end;
	return 0;
}

int64_t sys_shmdt(struct task *t, uaddr_t shmaddr)
{
	struct detach_search d = { .addr = shmaddr.v };

	if (shmaddr.v & GUEST_PAGE_MASK)
		return -EINVAL;
	/* A plain range: parts unmapped in between do no harm, foreign mappings there would. */
	mm_for_each_vma(t->mm, shmaddr.v, false, detach_visit, &d);
	if (!d.file)
		return -EINVAL;
	return mm_munmap(t->mm, d.addr, d.end - d.addr);
}

static int64_t ctl_stat(struct task *t, struct ipc_ns *ns, int32_t id, int cmd, uint64_t arg)
{
	struct ipc_object *o;
	struct shmid_ds ds;
	int64_t ret, result = 0;

	memset(&ds, 0, sizeof(ds));
	mutex_lock(&ns->mu);
	ret = cmd == IPC_STAT ? ipc_find_locked(ns, IPC_KIND_SHM, id, &o) : ipc_find_slot_locked(ns, IPC_KIND_SHM, id, &o);
	if (ret == 0 && cmd != SHM_STAT_ANY)
		ret = ipc_permitted(ns, o, 0444);
	if (ret == 0) {
		struct shm *s = shm_of(o);
		struct pid_ns *pns = task_pid_ns(t);

		ipc_perm_fill(o, &ds.shm_perm);
		ds.shm_segsz = s->size;
		ds.shm_atime = s->attach_time;
		ds.shm_dtime = s->detach_time;
		ds.shm_ctime = o->ctime;
		ds.shm_cpid = pid_nr_in(s->creator, pns);
		ds.shm_lpid = s->last ? pid_nr_in(s->last, pns) : 0;
		ds.shm_nattch = attach_count(s);
		result = cmd == IPC_STAT ? 0 : o->id;
	}
	mutex_unlock(&ns->mu);
	if (ret == 0)
		ret = copy_out_struct(task_umem(t), UADDR(arg), &ds);
	return ret < 0 ? ret : result;
}

static int64_t ctl_info(struct task *t, struct ipc_ns *ns, int cmd, uint64_t arg)
{
	struct shminfo limits = { .shmmax = shm_max_bytes(), .shmmin = 1, .shmall = shm_limit_pages(),
				  .shmmni = (unsigned long)sysctl_int("kernel/shmmni"),
				  .shmseg = (unsigned long)sysctl_int("kernel/shmmni") };
	struct shm_info used = { 0 };
	int highest, ret;

	mutex_lock(&ns->mu);
	highest = ipc_highest_locked(ns, IPC_KIND_SHM);
	used.used_ids = (int)ns->table[IPC_KIND_SHM].count;
	used.shm_tot = ns->shm_pages;
	mutex_unlock(&ns->mu);
	ret = cmd == SHM_INFO ? copy_out_struct(task_umem(t), UADDR(arg), &used) :
				copy_out_struct(task_umem(t), UADDR(arg), &limits);
	return ret < 0 ? ret : highest;
}

/* SHM_LOCK needs the owner or CAP_IPC_LOCK; memory is never swapped here, so only the mark is kept. */
static int shm_lock(struct ipc_ns *ns, struct ipc_object *o, bool on)
{
	if (ipc_may_change(ns, o) < 0 && !task_capable_ns(current, ns->user_ns, 14 /* CAP_IPC_LOCK */))
		return -EPERM;
	o->mode = on ? o->mode | SHM_LOCKED_BIT : o->mode & ~SHM_LOCKED_BIT;
	return 0;
}

int64_t sys_shmctl(struct task *t, int32_t id, int32_t cmd, uaddr_t buf)
{
	struct ipc_ns *ns = t->ns->ipc;
	struct ipc_object *o, *gone = NULL;
	struct shmid_ds ds;
	int64_t ret;

	cmd &= ~IPC_64_FLAG;
	if (id < 0 || cmd < 0)
		return -EINVAL;
	switch (cmd) {
	case IPC_INFO_CMD:
	case SHM_INFO:
		return ctl_info(t, ns, cmd, buf.v);
	case IPC_STAT:
	case SHM_STAT:
	case SHM_STAT_ANY:
		return ctl_stat(t, ns, id, cmd, buf.v);
	case IPC_SET:
		if (copy_in_struct(task_umem(t), &ds, buf) < 0)
			return -EFAULT;
		break;
	case IPC_RMID:
	case SHM_LOCK:
	case SHM_UNLOCK:
		break;
	default:
		return -EINVAL;
	}
	mutex_lock(&ns->mu);
	ret = ipc_find_locked(ns, IPC_KIND_SHM, id, &o);
	if (ret == 0)
		ret = cmd == SHM_LOCK || cmd == SHM_UNLOCK ? shm_lock(ns, o, cmd == SHM_LOCK) : ipc_may_change(ns, o);
	if (ret == 0 && cmd == IPC_SET)
		ret = ipc_perm_set(o, &ds.shm_perm);
	if (ret == 0 && cmd == IPC_RMID) {
		o->mode |= SHM_DEST_BIT;
		o->key = IPC_PRIVATE;
		gone = shm_reap_locked(shm_of(o));
	}
	mutex_unlock(&ns->mu);
	ipc_object_put(gone);
	return ret;
}

void shm_show(struct ipc_ns *ns, struct seq *q)
{
	struct ipc_table *tab = &ns->table[IPC_KIND_SHM];
	struct pid_ns *pns = task_pid_ns(current);

	seq_puts(q, "       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      "
		    "atime      dtime      ctime                   rss                  swap\n");
	for (unsigned i = 0; i < tab->capacity; i++) {
		struct shm *s = tab->slot[i] ? shm_of(tab->slot[i]) : NULL;
		struct ipc_perm p;

		if (!s)
			continue;
		ipc_perm_fill(&s->o, &p);
		seq_printf(q, "%10d %10d  %4o %21llu %5d %5d  %5u %5u %5u %5u %5u %10lld %10lld %10lld %21llu %21u\n", s->o.key,
			   s->o.id, s->o.mode & 07777, (unsigned long long)s->size, pid_nr_in(s->creator, pns),
			   s->last ? pid_nr_in(s->last, pns) : 0, attach_count(s), p.uid, p.gid, p.cuid, p.cgid,
			   (long long)s->attach_time, (long long)s->detach_time, (long long)s->o.ctime,
			   0ull, 0); /* resident pages are not counted by segment */
	}
}
