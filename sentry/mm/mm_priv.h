/* Private types of sentry/mm. README.md explains vmas, pmas and the two locks. */
#ifndef SENTRY_MM_MM_PRIV_H
#define SENTRY_MM_MM_PRIV_H

#include <stdatomic.h>

#include "platform/base/mutex.h"
#include "platform/base/rbtree.h"
#include "platform/base/refcount.h"
#include "sentry/mm/memfile.h"
#include "sentry/mm/mm.h"

#define PAGE GUEST_PAGE_SIZE
#define PAGE_MASK GUEST_PAGE_MASK

enum vma_flags {
	VMA_SHARED = 1,	     /* MAP_SHARED: stores reach the mappable */
	VMA_GROWSDOWN = 2,
	VMA_LOCKED = 4,
	VMA_DONTFORK = 8,
	VMA_WIPEONFORK = 16,
	VMA_NORESERVE = 32,
	VMA_DONTDUMP = 64,
	VMA_FRAMES = 128,    /* kernel-owned frames (vDSO): no faults, no remap, fork shares */
	VMA_STACK = 256,
	VMA_SEALED = 512,    /* mseal(2) */
	VMA_IMAGE = 1024,    /* MAP_DENYWRITE: part of a program; nobody minds an early private copy */
};

/* A mapping. All fields: mm->mu; start, end, offset change only while user is not registered. */
struct vma {
	struct rb_node node;
	struct mm *mm;
	uint64_t start, end;
	uint64_t offset;	    /* in the mappable, bytes; anonymous: start at creation */
	uint8_t prot, max_prot;	    /* PROT_* */
	uint16_t flags;		    /* enum vma_flags */
	struct mappable *mappable;  /* reference; NULL: anonymous */
	struct file *file;	    /* reference; NULL: anonymous or kernel's */
	const char *name;
	struct mapping_user user;   /* registered while mappable */
	struct vma *spare;	    /* list of spare nodes */
};

enum pma_flags {
	PMA_OWNED = 1,	/* private frames of the memory file; not set: translation of a mappable */
	PMA_WRITE = 2,	/* may be written in place */
	PMA_MAPPED = 4, /* was given to the platform's address space, in whole */
	PMA_HOST = 8,	/* host file: direct access may raise SIGBUS */
	PMA_HOT = 16,	/* written soon after a fork: the next fork copies it at once */
	PMA_TRIM = 32,	/* mm_trim looks at it; never seen without pmu */
};

/* Frames that a range uses now. Protected by mm->pmu. Holds a reference on each frame. */
struct pma {
	struct rb_node node;
	uint64_t start, end;
	struct frame_file *ff;
	uint64_t offset; /* of start in ff */
	uint8_t prot;	 /* the vma's PROT_*, a copy */
	uint8_t flags;	 /* enum pma_flags */
	struct pma *spare;
};

enum {
	OPS_MAX = 64,
	VMA_MAX = 65530, /* vm.max_map_count */
};

/* Changes for the platform's address space, collected and sent in batches. pmu is held. */
struct mm_ops {
	struct mm *mm;
	size_t count;
	struct aspace_op op[OPS_MAX];
};

enum { MM_TITLE_MAX = 192 };

struct mm {
	struct umem umem;
	struct refcount refs;
	struct mutex mu;	  /* LOCK_MM: vmas and what has no other remark */
	struct mutex pmu;	  /* LOCK_PMA: pmas and the order of aspace changes */
	struct rb_tree vmas;
	struct rb_tree pmas;	  /* pmu */
	struct pma *last_pma;	  /* pmu: where the last access was */
	struct vma *vma_spare;
	struct vma *vma_dead;	  /* removed; their references are dropped after mu */
	struct pma *pma_spare;	  /* pmu */
	unsigned int vma_spare_count, pma_spare_count;
	uint64_t invalidations;	  /* pmu: counts invalidate calls, so that a translation in flight is dropped */
	struct aspace *as;	  /* const */
	uint64_t vsize, data_size, stack_size, locked_size; /* bytes */
	_Atomic uint64_t hwm;
	unsigned int vma_count;
	uint64_t mmap_base, gap_hint, gap_size; /* search for free ranges starts at gap_hint for sizes above gap_size */
	uint64_t brk_start, brk;
	uint64_t stack_limit;
	uint8_t lock_future;	  /* MCL_FUTURE of mlockall */
	uint8_t dumpable;
	struct file *exe;	  /* reference or NULL */
	struct mm_info info;
	char title[MM_TITLE_MAX]; /* for the host's process lists */
	uint32_t title_size;
	uint64_t again_addr;	  /* the last fault that found nothing to do, and how often */
	unsigned int again_count;
};

extern const struct umem_ops mm_umem_ops;
extern struct platform *mm_platform;
extern const struct platform_ops *mm_platform_ops;
extern _Thread_local struct pcontext *mm_self;

/* mm.c: mm->mu; leaving it drops what removed vmas held. GUARD(mm, mm) */
void mm_lock(struct mm *mm);
void mm_unlock(struct mm *mm);
static inline struct mm *mm_guard_enter_(struct mm *mm)
{
	mm_lock(mm);
	return mm;
}
static inline void mm_guard_exit_(struct mm **mm)
{
	mm_unlock(*mm);
}

/* vma.c; mu is held */
struct vma *vma_find(struct mm *mm, uint64_t addr);	  /* containing addr, or NULL */
struct vma *vma_from(struct mm *mm, uint64_t addr);	  /* first with end > addr, or NULL */
struct vma *vma_next(struct vma *v);
struct vma *vma_prev(struct vma *v);
NODISCARD int vma_reserve(struct mm *mm, unsigned int count);
NODISCARD int vma_reserve_borders(struct mm *mm, uint64_t start, uint64_t end);
struct vma *vma_take(struct mm *mm);
void vma_insert(struct mm *mm, struct vma *v);
struct vma *vma_merge(struct mm *mm, struct vma *v);
void vma_remove(struct mm *mm, struct vma *v);
void vma_split_at(struct mm *mm, uint64_t addr);
void vma_register(struct vma *v);
void vma_unregister(struct vma *v);
void vma_resize(struct vma *v, uint64_t start, uint64_t end);
uint64_t vma_find_gap(struct mm *mm, uint64_t size, uint64_t align);
bool vma_range_sealed(struct mm *mm, uint64_t start, uint64_t end);
bool vma_range_free(struct mm *mm, uint64_t start, uint64_t end);
void vma_account(struct mm *mm, const struct vma *v, bool add);
void vma_spares_free(struct mm *mm);
static inline bool vma_is_data(const struct vma *v)
{
	return !(v->flags & (VMA_SHARED | VMA_STACK | VMA_FRAMES)) && (v->prot & 2);
}

/* pma.c; pmu is held */
struct pma *pma_find(struct mm *mm, uint64_t addr);
struct pma *pma_from(struct mm *mm, uint64_t addr);
struct pma *pma_next(struct pma *p);
NODISCARD int pma_reserve(struct mm *mm, unsigned int count);
void pma_spares_free(struct mm *mm);
void pma_insert(struct mm *mm, uint64_t start, const struct frame_run *run, uint8_t prot, uint8_t flags);
void pma_split_at(struct mm *mm, uint64_t addr);
void pma_remove(struct mm *mm, struct pma *p);
void pma_drop_range(struct mm *mm, uint64_t start, uint64_t end);
void pma_merge_around(struct mm *mm, uint64_t start, uint64_t end);
uint8_t pma_platform_prot(const struct pma *p);
void ops_init(struct mm_ops *o, struct mm *mm);
void ops_add(struct mm_ops *o, const struct aspace_op *op);
void ops_map(struct mm_ops *o, struct pma *p, bool populate);
void ops_protect(struct mm_ops *o, const struct pma *p);
void ops_unmap(struct mm_ops *o, uint64_t start, uint64_t end);
void ops_flush(struct mm_ops *o);

/* fault.c */
enum fault_want { WANT_READ = 1, WANT_WRITE = 2, WANT_EXEC = 4 };
NODISCARD int fault_locked(struct mm *mm, struct vma *v, uint64_t addr, unsigned int want, uint64_t *ret_end);
int fault_range_locked(struct mm *mm, uint64_t start, uint64_t end, bool populate, bool copy);
struct vma *fault_vma(struct mm *mm, uint64_t addr);
void map_ahead_locked(struct mm *mm, struct vma *v);
NODISCARD int copy_frames(struct frame_run *dst, struct frame_file *ff, uint64_t offset);
enum { COPY_WINDOW = 64 << 10 }; /* bytes copied together when sharing ends */
void map_resident(struct mm *mm, uint64_t start, uint64_t end, bool populate);
uint64_t hole_end(struct frame_file *ff, uint64_t offset);
NODISCARD int64_t resident_bytes(struct frame_file *ff, uint64_t offset, uint64_t size, uint8_t *vec);

/* map.c; mu is held */
int unmap_locked(struct mm *mm, uint64_t start, uint64_t end);

/* anon_shared.c: the object behind MAP_SHARED|MAP_ANONYMOUS; the caller gets a reference */
NODISCARD int anon_shared_new(uint64_t size, struct mappable **ret_mappable);

/* access_raw.c */
size_t raw_copy(void *dst, const void *src, size_t size); /* bytes copied before a SIGBUS */
NODISCARD int raw_load32(const void *src, uint32_t *ret_val);
NODISCARD int raw_cmpxchg32(void *word, uint32_t *expected, uint32_t desired);
void raw_init(void);
void raw_thread_init(void);

#endif
