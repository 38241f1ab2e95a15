/*
 * One guest address space (mm_struct of Linux): vmas, frames, and the platform's aspace.
 *
 * Context: any task thread. Each function takes mm->mu itself. Errors as the man page of the call.
 */
#ifndef SENTRY_MM_MM_H
#define SENTRY_MM_MM_H

#include "platform/platform.h"
#include "sentry/core/cred.h"
#include "sentry/core/lockrank.h"
#include "sentry/core/mappable.h"
#include "sentry/core/umem.h"

struct mm;
struct file;

/* What mm needs from open files, which live above it; defined in sentry/syscalls/sys_mm.c. */
struct mm_file_ops {
	struct file *(*get)(struct file *f);
	void (*put)(struct file *f);
	int (*mmap)(struct file *f, bool shared, uint32_t prot, struct mappable **ret); /* file_mmap */
};
extern const struct mm_file_ops mm_file_ops;

struct mm_limits { uint64_t as, data, stack, memlock; }; /* soft rlimits, bytes */

/* Starts the memory file and the mm subsystem; boot only, before the filter. */
int mm_init(struct platform *platform, struct memfile *mf);

/* First address behind what a guest may map. */
uint64_t mm_task_size(void);
/* The lowest address that a guest may map. */
uint64_t mm_min_addr(void);

NODISCARD int mm_new(struct mm **ret_mm);
struct mm *mm_get(struct mm *mm);
void mm_put(struct mm *mm); /* the last put frees frames and the aspace */
/* fork(2): a copy-on-write copy. self is the calling task's context. */
NODISCARD int mm_fork(struct mm *mm, struct pcontext *self, struct mm **ret_mm);
struct umem *mm_umem(struct mm *mm);
struct aspace *mm_aspace(struct mm *mm);
/* Which context may carry out address-space changes for this thread; set by the task loop. */
void mm_set_self(struct pcontext *self);

/* Resolves a fault the platform reported (or reports it): 0 retry, or -EFAULT with the si_code
 * (SEGV_MAPERR, SEGV_ACCERR; BUS_ADRERR with *ret_signo SIGBUS) to deliver. sp: for stack growth. */
NODISCARD int mm_fault(struct mm *mm, const struct platform_fault *fault, uint64_t sp, int *ret_signo, int *ret_code);

struct mm_map_args {
	uint64_t addr, size, offset; /* offset in bytes */
	uint32_t prot, flags;	     /* PROT_*, MAP_* of the guest ABI */
	struct file *file;	     /* borrowed; NULL: anonymous */
	struct mm_limits limits;
	bool grows_down, precommit, locked;
	const char *name;	     /* static text for /proc/PID/maps such as "[vdso]"; NULL: by file */
};
/* mmap(2). Returns the address or -errno. */
int64_t mm_mmap(struct mm *mm, const struct mm_map_args *a);
/* Maps kernel-owned frames read-only (vDSO); the run's references are taken over. Used at exec. */
int64_t mm_map_frames(struct mm *mm, uint64_t addr, const struct frame_run *run, uint32_t prot, const char *name);
int mm_munmap(struct mm *mm, uint64_t addr, uint64_t size);
int mm_mprotect(struct mm *mm, uint64_t addr, uint64_t size, uint32_t prot, const struct mm_limits *limits);
int64_t mm_mremap(struct mm *mm, uint64_t old_addr, uint64_t old_size, uint64_t new_size,
		  uint32_t flags, uint64_t new_addr, const struct mm_limits *limits);
int64_t mm_brk(struct mm *mm, uint64_t addr, const struct mm_limits *limits);
void mm_set_brk(struct mm *mm, uint64_t start); /* exec: start of the heap */
int mm_madvise(struct mm *mm, uint64_t addr, uint64_t size, int advice);
/* mseal(2): page aligned range. -ENOMEM when part of it is not mapped. */
int mm_mseal(struct mm *mm, uint64_t addr, uint64_t size);
/* remap_file_pages(2): part of a shared mapping shows the file from page on. */
int mm_remap_file_pages(struct mm *mm, uint64_t addr, uint64_t size, uint64_t page, bool nonblock);
int mm_msync(struct mm *mm, uint64_t addr, uint64_t size, int flags);
/* mincore(2): one byte for each page into vec; addr and size page aligned, size at most 16 MiB. */
int mm_mincore(struct mm *mm, uint64_t addr, uint64_t size, uint8_t *vec);
/* mlock2(2), munlock(2), mlockall(2), munlockall(2): flags MLOCK_ONFAULT, MCL_*. capable: CAP_IPC_LOCK. */
int mm_mlock(struct mm *mm, uint64_t addr, uint64_t size, bool lock, bool onfault, uint64_t limit, bool capable);
int mm_mlockall(struct mm *mm, int flags, uint64_t limit, bool capable);
/* clone(CLONE_VM), vfork: see platform.h aspace_reserve. self: the calling task's context. */
int mm_reserve_context(struct mm *mm, struct pcontext *self);

/* Physical identity of a futex word: same key for the same frame or file page. */
struct futex_key { uint64_t a, b; uint32_t offset; bool shared; struct mappable *held; /* shared: a reference */ };
NODISCARD int mm_futex_key(struct mm *mm, uaddr_t addr, bool shared, struct futex_key *ret_key);
void futex_key_put(struct futex_key *key); /* drops the reference a shared key holds */

struct mm_usage { uint64_t vsize, rss_anon, rss_file, rss_shmem, hwm, locked, data, stack, text, swap; };
void mm_usage(struct mm *mm, struct mm_usage *ret);
/* exec's facts for /proc/PID: argv and env areas, exe file (reference), auxv copy, brk, stack. */
struct mm_info {
	uint64_t arg_start, arg_end, env_start, env_end, start_brk, brk, start_stack, start_code, end_code, start_data, end_data;
	uint64_t auxv[64]; unsigned auxv_count;
};
void mm_set_info(struct mm *mm, const struct mm_info *info, struct file *exe);
void mm_get_info(struct mm *mm, struct mm_info *ret);
/* What the host's process lists show for the process: argv, size bytes with NULs between. Best effort. */
void mm_set_title(struct mm *mm, const char *argv, size_t size);
struct file *mm_exe(struct mm *mm); /* reference or NULL */
int mm_set_exe(struct mm *mm, struct file *exe);
uint8_t mm_dumpable(struct mm *mm);
void mm_set_dumpable(struct mm *mm, uint8_t value);

/* /proc/PID/maps: calls fn for each vma at or above addr, with the lock dropped between calls. */
struct vma_info {
	uint64_t start, end, offset;
	uint32_t prot, flags;	/* flags: MAP_SHARED or MAP_PRIVATE, MAP_GROWSDOWN, MAP_LOCKED */
	struct file *file;	/* borrowed during the call */
	const char *name;
	uint64_t rss, anon, locked, dirty; /* bytes; filled when want_smaps */
};
int mm_for_each_vma(struct mm *mm, uint64_t addr, bool want_smaps, int (*fn)(const struct vma_info *v, void *arg), void *arg);

/* Writes into mm as a debugger does (ptrace(2), /proc/PID/mem): also where the program itself may not write,
 * if the mapping is private. Returns bytes written, or -EFAULT. Any thread that holds a reference. */
NODISCARD int64_t mm_write_forced(struct mm *mm, uint64_t addr, const void *src, size_t size);

/* Lets the platform make the call in front of ip cheaper, which self's thread waits in: see platform.h, site_rewrite. Debuggers
 * and system calls read the original bytes as ever. 0 or -errno: the call works as before. */
int mm_rewrite_site(struct mm *mm, struct pcontext *self, uint64_t ip);

/* Sandbox-wide usage in bytes by kind. */
struct memory_usage { uint64_t anon, tmpfs, pipe, total, peak; };
void memory_usage(struct memory_usage *ret);
/* The host's memory in bytes, read before the filter; boot only. */
void memory_set_host(uint64_t bytes);
uint64_t memory_host(void);
/*
 * Takes back what was handed out of mm's private anonymous memory but never touched, in pieces of at least min_size
 * bytes (a multiple of the page size); the pages read as zero when they are touched later, as before. Any
 * thread without mm locks. Returns bytes.
 */
uint64_t mm_trim(struct mm *mm, uint64_t min_size);

#endif
