/* System calls on the caller's address space. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include "sentry/kernel/clone.h"
#include "sentry/kernel/fdtable.h"
#include "sentry/kernel/pidfd.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/syscalls.h"

#define CAP_IPC_LOCK_NR 14
#define CAP_SYS_NICE_NR 23
#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MAP_SYNC
#define MAP_SYNC 0x80000
#endif
#define MAP_32BIT_ 0x40
#define MAP_UNINITIALIZED_ 0x4000000
#define PKEY_SIZE_MAX 16

const struct mm_file_ops mm_file_ops = { .get = file_get, .put = file_put, .mmap = file_mmap };

int64_t sys_mmap(struct task *t, arg_ulong_t addr, arg_ulong_t len, arg_ulong_t prot, arg_ulong_t flags,
		 arg_fd_t fd, arg_ulong_t off)
{
	const uint64_t known = MAP_TYPE | MAP_FIXED | MAP_ANONYMOUS | MAP_32BIT_ | MAP_GROWSDOWN | MAP_DENYWRITE |
			       MAP_EXECUTABLE | MAP_LOCKED | MAP_NORESERVE | MAP_POPULATE | MAP_NONBLOCK |
			       MAP_STACK | MAP_HUGETLB | MAP_SYNC | MAP_FIXED_NOREPLACE | MAP_UNINITIALIZED_ |
			       0xfc000000u /* size of huge pages */;
	uint32_t type = flags & MAP_TYPE;
	AUTO(file_put) struct file *f = NULL;
	struct mm_map_args a = { .addr = addr,
				 .size = len,
				 .offset = off,
				 .prot = (uint32_t)prot,
				 .flags = (uint32_t)flags,
				 .limits = task_mm_limits(t) };

	if (off & GUEST_PAGE_MASK)
		return -EINVAL;
	if (!(flags & MAP_ANONYMOUS)) {
		f = task_fd_io(t, fd);
		if (!f)
			return -EBADF;
	} else if (type == MAP_SHARED_VALIDATE) {
		return -EINVAL;
	}
	if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (type == MAP_SHARED_VALIDATE && ((flags & ~known) || (flags & MAP_SYNC)))
		return -EOPNOTSUPP;
	if (flags & MAP_HUGETLB)
		return f ? -EINVAL : -ENOMEM; /* no huge page is configured */
	if ((flags & MAP_GROWSDOWN) && (type != MAP_PRIVATE || f))
		return -EINVAL;
	a.file = f;
	a.locked = flags & MAP_LOCKED;
	a.precommit = (flags & MAP_POPULATE) && !(flags & MAP_NONBLOCK);
	if (a.locked && task_capable(t, CAP_IPC_LOCK_NR))
		a.limits.memlock = UINT64_MAX;
	else if (a.locked && !a.limits.memlock)
		return -EPERM;
	return mm_mmap(t->mm, &a);
}

int64_t sys_munmap(struct task *t, arg_ulong_t addr, arg_size_t len)
{
	return mm_munmap(t->mm, addr, len);
}

int64_t sys_mprotect(struct task *t, arg_ulong_t start, arg_size_t len, arg_ulong_t prot)
{
	struct mm_limits limits = task_mm_limits(t);

	if (prot > UINT32_MAX)
		return -EINVAL;
	return mm_mprotect(t->mm, start, len, (uint32_t)prot, &limits);
}

/* Without protection keys only the key -1 exists. pkey_mprotect(2) */
int64_t sys_pkey_mprotect(struct task *t, arg_ulong_t start, arg_size_t len, arg_ulong_t prot, arg_int_t pkey)
{
	return pkey == -1 ? sys_mprotect(t, start, len, prot) : -EINVAL;
}

int64_t sys_pkey_alloc(struct task *t, arg_ulong_t flags, arg_ulong_t init_val)
{
	(void)t;
	return flags || (init_val & ~3ull) ? -EINVAL : -ENOSPC;
}

int64_t sys_pkey_free(struct task *t, arg_int_t pkey)
{
	(void)t, (void)pkey;
	return -EINVAL;
}

int64_t sys_brk(struct task *t, arg_ulong_t brk)
{
	struct mm_limits limits = task_mm_limits(t);

	return mm_brk(t->mm, brk, &limits);
}

int64_t sys_mremap(struct task *t, arg_ulong_t addr, arg_ulong_t old_len, arg_ulong_t new_len, arg_ulong_t flags,
		   arg_ulong_t new_addr)
{
	struct mm_limits limits = task_mm_limits(t);

	if (flags > UINT32_MAX)
		return -EINVAL;
	if (task_capable(t, CAP_IPC_LOCK_NR))
		limits.memlock = UINT64_MAX;
	return mm_mremap(t->mm, addr, old_len, new_len, (uint32_t)flags, new_addr, &limits);
}

int64_t sys_madvise(struct task *t, arg_ulong_t start, arg_size_t len_in, arg_int_t behavior)
{
	return mm_madvise(t->mm, start, len_in, behavior);
}

int64_t sys_msync(struct task *t, arg_ulong_t start, arg_size_t len, arg_flags_t flags)
{
	return mm_msync(t->mm, start, len, (int)flags);
}

int64_t sys_mincore(struct task *t, arg_ulong_t start, arg_size_t len, arg_uaddr_t vec)
{
	uint8_t buf[4096];
	uint64_t pages, done = 0;

	if (start & GUEST_PAGE_MASK)
		return -EINVAL;
	pages = len / GUEST_PAGE_SIZE + ((len & GUEST_PAGE_MASK) != 0);
	if (start > mm_task_size() || pages > (mm_task_size() - start) / GUEST_PAGE_SIZE)
		return -ENOMEM;
	while (done < pages) {
		uint64_t n = MIN(pages - done, (uint64_t)sizeof(buf));
		int err = mm_mincore(t->mm, start + done * GUEST_PAGE_SIZE, n * GUEST_PAGE_SIZE, buf);

		if (err < 0)
			return err;
		if (copy_out(task_umem(t), uaddr_add(vec, done), buf, n) < 0)
			return -EFAULT;
		done += n;
	}
	return 0;
}

static int64_t lock_range(struct task *t, uint64_t start, uint64_t len, bool lock, bool onfault)
{
	return mm_mlock(t->mm, start, len, lock, onfault, task_mm_limits(t).memlock,
			task_capable(t, CAP_IPC_LOCK_NR));
}

int64_t sys_mlock(struct task *t, arg_ulong_t start, arg_size_t len)
{
	return lock_range(t, start, len, true, false);
}

int64_t sys_mlock2(struct task *t, arg_ulong_t start, arg_size_t len, arg_flags_t flags)
{
	if (flags & ~(uint32_t)MLOCK_ONFAULT)
		return -EINVAL;
	return lock_range(t, start, len, true, flags & MLOCK_ONFAULT);
}

int64_t sys_munlock(struct task *t, arg_ulong_t start, arg_size_t len)
{
	return lock_range(t, start, len, false, false);
}

int64_t sys_mlockall(struct task *t, arg_flags_t flags)
{
	if (!flags || (flags & ~(uint32_t)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) || flags == MCL_ONFAULT)
		return -EINVAL;
	if (!task_mm_limits(t).memlock && !task_capable(t, CAP_IPC_LOCK_NR))
		return -EPERM;
	return mm_mlockall(t->mm, (int)flags, task_mm_limits(t).memlock, task_capable(t, CAP_IPC_LOCK_NR));
}

int64_t sys_munlockall(struct task *t)
{
	return mm_mlockall(t->mm, 0, 0, true);
}

int64_t sys_mseal(struct task *t, arg_ulong_t start, arg_size_t len, arg_ulong_t flags)
{
	uint64_t size = ALIGN_UP(len, GUEST_PAGE_SIZE);

	if (flags || (start & GUEST_PAGE_MASK) || (len && !size) || start + size < start)
		return -EINVAL;
	return size ? mm_mseal(t->mm, start, size) : 0;
}

int64_t sys_remap_file_pages(struct task *t, arg_ulong_t start, arg_ulong_t size, arg_ulong_t prot,
			     arg_ulong_t pgoff, arg_ulong_t flags)
{
	if (prot)
		return -EINVAL;
	return mm_remap_file_pages(t->mm, start, size, pgoff, flags & MAP_NONBLOCK);
}

/* ---- other processes ---- */

struct segments {
	struct uio_seg *seg;
	unsigned int count;
};

static void segments_free(struct segments *s)
{
	free(s->seg);
}

/* Copies an iovec array in. -EINVAL (count, total size), -EFAULT, -ENOMEM. */
static int segments_read(struct task *t, uaddr_t addr, uint64_t count, struct segments *ret)
{
	uint64_t total = 0;
	int err;

	if (count > UIO_MAXIOV)
		return -EINVAL;
	ret->count = (unsigned int)count;
	ret->seg = calloc(count ? count : 1, sizeof(*ret->seg));
	if (!ret->seg)
		return -ENOMEM;
	err = copy_in(task_umem(t), ret->seg, addr, count * sizeof(*ret->seg));
	for (uint64_t i = 0; i < count && err == 0; i++) {
		if (ret->seg[i].size > INT64_MAX - total)
			err = -EINVAL;
		else
			total += ret->seg[i].size;
	}
	return err;
}

/* The memory of another process as process_vm_readv(2) may use it: a reference. */
static int other_mm(struct task *t, int32_t pid, struct mm **ret_mm)
{
	AUTO(task_put) struct task *target = task_find(task_pid_ns(t), pid);

	if (!target)
		return -ESRCH;
	if (target != t && !task_may_access(t, target, true))
		return -EPERM;
	*ret_mm = task_get_mm(target);
	return *ret_mm ? 0 : -ESRCH;
}

static int64_t move_bytes(struct uio *from, struct uio *to)
{
	uint8_t *buf = malloc(64 << 10);
	int64_t done = 0;

	if (!buf)
		return -ENOMEM;
	while (from->resid && to->resid) {
		size_t want = MIN(from->resid, (uint64_t)(64 << 10));
		int64_t n = uio_read(from, buf, MIN(want, to->resid)), m;

		if (n <= 0) {
			done = done ? done : -EFAULT;
			break;
		}
		m = uio_write(to, buf, (size_t)n);
		if (m > 0)
			done += m;
		if (m < n) {
			done = done ? done : -EFAULT;
			break;
		}
	}
	free(buf);
	return done;
}

static int64_t process_vm(struct task *t, int32_t pid, uaddr_t lvec, uint64_t lcount, uaddr_t rvec,
			  uint64_t rcount, uint64_t flags, bool write)
{
	struct segments local = { 0 }, remote = { 0 };
	struct mm *mm = NULL;
	struct uio l, r;
	int64_t n;

	if (flags)
		return -EINVAL;
	n = segments_read(t, lvec, lcount, &local);
	if (n == 0)
		n = segments_read(t, rvec, rcount, &remote);
	if (n == 0)
		n = other_mm(t, pid, &mm);
	if (n == 0) {
		uio_init_segs(&l, task_umem(t), local.seg, local.count);
		uio_init_segs(&r, mm_umem(mm), remote.seg, remote.count);
		n = write ? move_bytes(&l, &r) : move_bytes(&r, &l);
		mm_put(mm);
	}
	segments_free(&local);
	segments_free(&remote);
	return n;
}

int64_t sys_process_vm_readv(struct task *t, arg_pid_t pid, arg_uaddr_t lvec, arg_ulong_t liovcnt,
			     arg_uaddr_t rvec, arg_ulong_t riovcnt, arg_ulong_t flags)
{
	return process_vm(t, pid, lvec, liovcnt, rvec, riovcnt, flags, false);
}

int64_t sys_process_vm_writev(struct task *t, arg_pid_t pid, arg_uaddr_t lvec, arg_ulong_t liovcnt,
			      arg_uaddr_t rvec, arg_ulong_t riovcnt, arg_ulong_t flags)
{
	return process_vm(t, pid, lvec, liovcnt, rvec, riovcnt, flags, true);
}

int64_t sys_process_madvise(struct task *t, arg_fd_t pidfd, arg_uaddr_t vec, arg_size_t vlen, arg_int_t behavior,
			    arg_flags_t flags)
{
	AUTO(file_put) struct file *f = NULL;
	struct segments s = { 0 };
	struct thread_group *tg;
	struct task *target = NULL;
	struct mm *mm = NULL;
	int64_t done = 0;
	int err;

	if (flags)
		return -EINVAL;
	f = task_fd_io(t, pidfd);
	tg = f ? pidfd_thread_group(f) : NULL;
	if (!tg)
		return -EBADF;
	err = segments_read(t, vec, vlen, &s);
	if (err == 0) {
		mutex_lock(&taskset_mu);
		target = tg->leader ? task_get(tg->leader) : NULL;
		mutex_unlock(&taskset_mu);
		err = !target ? -ESRCH : 0;
	}
	if (err == 0 && tg != t->tg && (!task_may_access(t, target, false) || !task_capable(t, CAP_SYS_NICE_NR)))
		err = -EPERM;
	if (err == 0 && behavior != 3 && behavior != 20 && behavior != 21 && behavior != 25) /* WILLNEED COLD PAGEOUT COLLAPSE */
		err = -EINVAL;
	mm = err == 0 ? task_get_mm(target) : NULL;
	for (unsigned int i = 0; mm && i < s.count && err == 0; i++) {
		err = mm_madvise(mm, s.seg[i].base, s.seg[i].size, behavior);
		if (err == 0)
			done += (int64_t)s.seg[i].size;
	}
	mm_put(mm);
	task_put(target);
	thread_group_put(tg);
	segments_free(&s);
	return done ? done : err;
}

/* ---- NUMA: one node ---- */

/* The policy of the calling task, whose host thread is its own; it changes nothing on one node. */
static _Thread_local int32_t numa_policy;

enum { MPOL_DEFAULT_, MPOL_PREFERRED_, MPOL_BIND_, MPOL_INTERLEAVE_, MPOL_LOCAL_, MPOL_PREFERRED_MANY_, MPOL_COUNT };

/* Reads a node mask; only node 0 exists. -EINVAL when others are named. */
static int node_mask(struct task *t, uaddr_t addr, uint64_t maxnode, uint64_t *ret_mask)
{
	*ret_mask = 0;
	if (!addr.v || maxnode <= 1)
		return 0;
	if (maxnode - 1 > 32768)
		return -EINVAL;
	if (copy_in(task_umem(t), ret_mask, addr, 8) < 0)
		return -EFAULT;
	if (maxnode - 1 < 64)
		*ret_mask &= (1ull << (maxnode - 1)) - 1;
	return *ret_mask & ~1ull ? -EINVAL : 0;
}

static int check_policy(struct task *t, int64_t mode, uaddr_t nmask, uint64_t maxnode)
{
	uint64_t mask, policy = (uint64_t)mode & ~0xe000ull;
	int err = node_mask(t, nmask, maxnode, &mask);

	if (err < 0)
		return err;
	if (policy >= MPOL_COUNT)
		return -EINVAL;
	if ((policy == MPOL_DEFAULT_ || policy == MPOL_LOCAL_) && mask)
		return -EINVAL;
	if ((policy == MPOL_BIND_ || policy == MPOL_INTERLEAVE_ || policy == MPOL_PREFERRED_MANY_) && !mask)
		return -EINVAL;
	return 0;
}

int64_t sys_set_mempolicy(struct task *t, arg_int_t mode, arg_uaddr_t nmask, arg_ulong_t maxnode)
{
	int err = check_policy(t, mode, nmask, maxnode);

	if (err == 0)
		numa_policy = mode & 7;
	return err;
}

int64_t sys_get_mempolicy(struct task *t, arg_uaddr_t policy, arg_uaddr_t nmask, arg_ulong_t maxnode,
			  arg_ulong_t addr, arg_ulong_t flags)
{
	enum { F_NODE = 1, F_ADDR = 2, F_MEMS_ALLOWED = 4 };
	int32_t value = flags & F_NODE ? 0 : numa_policy;
	uint64_t mask = (flags & F_MEMS_ALLOWED) || numa_policy > MPOL_PREFERRED_ ? 1 : 0;

	if ((flags & ~7ull) || ((flags & F_MEMS_ALLOWED) && (flags & (F_NODE | F_ADDR))) || (!(flags & F_ADDR) && addr))
		return -EINVAL;
	if (nmask.v && maxnode < 1)
		return -EINVAL;
	if (policy.v && copy_out_struct(task_umem(t), policy, &value) < 0)
		return -EFAULT;
	if (nmask.v && copy_out_struct(task_umem(t), nmask, &mask) < 0)
		return -EFAULT;
	return 0;
}

int64_t sys_mbind(struct task *t, arg_ulong_t start, arg_ulong_t len, arg_ulong_t mode, arg_uaddr_t nmask,
		  arg_ulong_t maxnode, arg_flags_t flags)
{
	if ((start & GUEST_PAGE_MASK) || (flags & ~7u) || start + len < start)
		return -EINVAL;
	return check_policy(t, (int64_t)mode, nmask, maxnode);
}

int64_t sys_set_mempolicy_home_node(struct task *t, arg_ulong_t start, arg_ulong_t len, arg_ulong_t home_node,
				    arg_ulong_t flags)
{
	(void)t;
	return (start & GUEST_PAGE_MASK) || flags || home_node || start + len < start ? -EINVAL : 0;
}

int64_t sys_move_pages(struct task *t, arg_pid_t pid, arg_ulong_t nr_pages, arg_uaddr_t pages, arg_uaddr_t nodes,
		       arg_uaddr_t status, arg_flags_t flags)
{
	struct mm *mm;
	int err;

	if (flags & ~6u)
		return -EINVAL;
	if ((flags & 4u) && !task_capable(t, CAP_SYS_NICE_NR))
		return -EPERM;
	err = other_mm(t, pid ? pid : task_tid_in(t, task_pid_ns(t)), &mm);
	if (err < 0)
		return err;
	for (uint64_t i = 0; i < nr_pages && err == 0; i++) {
		uint64_t page;
		int32_t node = 0, where = -EFAULT;
		uint8_t resident = 0;

		if (copy_in_struct(task_umem(t), &page, uaddr_add(pages, i * sizeof(page))) < 0 ||
		    (nodes.v && copy_in_struct(task_umem(t), &node, uaddr_add(nodes, i * sizeof(node))) < 0))
			err = -EFAULT;
		else if (node != 0)
			err = -ENODEV;
		else if (mm_mincore(mm, ALIGN_DOWN(page, GUEST_PAGE_SIZE), GUEST_PAGE_SIZE, &resident) == 0)
			where = (resident & 1) ? 0 : -ENOENT;
		if (err == 0 && copy_out_struct(task_umem(t), uaddr_add(status, i * sizeof(where)), &where) < 0)
			err = -EFAULT;
	}
	mm_put(mm);
	return err;
}

int64_t sys_migrate_pages(struct task *t, arg_pid_t pid, arg_ulong_t maxnode, arg_uaddr_t old_nodes,
			  arg_uaddr_t new_nodes)
{
	uint64_t mask;
	int err = node_mask(t, old_nodes, maxnode, &mask);
	struct mm *mm;

	if (err == 0)
		err = node_mask(t, new_nodes, maxnode, &mask);
	if (err < 0)
		return err;
	if (pid == 0)
		return 0;
	err = other_mm(t, pid, &mm);
	if (err == 0)
		mm_put(mm);
	return err;
}
