/* Private types of the kvm backend; platform/kvm/README.md explains how they work together. */
#ifndef PLATFORM_KVM_KVM_PRIV_H
#define PLATFORM_KVM_KVM_PRIV_H

#include <linux/kvm.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "platform/base/list.h"
#include "platform/base/mutex.h"
#include "platform/host/fpu.h"
#include "platform/kvm/layout.h"
#include "platform/platform.h"

#define KV_PAGE 4096ull
#define KV_SLOT (64ull << 20)	   /* one memory slot of frames */
#define KV_WINDOW (2ull << 20)	   /* window of a file other than the guest memory file: 32 share a slot */
#define KV_TABLE_SLOT (4ull << 20) /* one memory slot of page tables */

enum {
	KV_WINDOWS_PER_SLOT = KV_SLOT / KV_WINDOW,
	KV_TABLES_PER_SLOT = KV_TABLE_SLOT / KV_PAGE,
	KV_TABLE_SLOTS = 64,  /* 256 MiB of tables */
	KV_SLOTS_MAX = 16384, /* 1 TiB of frames */
	KV_FILE_SLOTS = 256,  /* of these for other files: each window is a mapping of the sentry, which has 65,530 */
	KV_STALE_MAX = 2048,  /* tables kept until they are clean: 8 MiB */
	KV_SPACE_TABLES = 16384, /* of one space; beyond, it is emptied */
	KV_VCPUS_MAX = 1024,
	KV_XSAVE_MIN = 576,
	KV_HASH = 1024,
	KV_R0_CHUNKS_MAX = 128,
	KV_R0_ROOT_FIRST = KV_R0_WINDOW >> 39, /* entries of a root from here on show the sentry */
	KV_R0_ROOT_END = 256,
	KV_KICK_SIGNAL = SIGURG,
	/* numbers of memory slots */
	KV_MEM_KERNEL = 0,
	KV_MEM_FLUSH,
	KV_MEM_R0_TABLES,
	KV_MEM_TABLES,
	KV_MEM_CHUNKS = KV_MEM_TABLES + KV_TABLE_SLOTS,
	KV_MEM_FRAMES = KV_MEM_CHUNKS + KV_R0_CHUNKS_MAX,
};

/* Page table entries. */
#define PTE_PRESENT (1ull << 0)
#define PTE_WRITE (1ull << 1)
#define PTE_USER (1ull << 2)
#define PTE_ACCESSED (1ull << 5)
#define PTE_DIRTY (1ull << 6)
#define PTE_NX (1ull << 63)
#define PTE_ADDR 0x000ffffffffff000ull

/* A page of the table pool. */
struct kv_table {
	uint64_t gpa;
	_Atomic uint64_t *entry; /* the sentry's mapping */
};

/* A window of a file other than the guest memory file: KV_WINDOW bytes of it at one guest-physical place. */
struct kv_window {
	struct list_node link; /* hash chain while in use, free list while not */
	int fd, mode;	       /* the file: number, access mode, device and inode must be the same */
	uint64_t dev, ino;
	uint64_t chunk;	       /* offset / KV_WINDOW */
	uint64_t refs;	       /* entries of page tables that point into it */
	uint64_t gpa;	       /* const */
	uint8_t *hva;	       /* const */
};

/* One memory slot of frames. */
struct kv_slot {
	uint8_t *hva;		  /* the sentry's mapping of KV_SLOT bytes; const once the slot is there */
	struct kv_window *window; /* KV_WINDOWS_PER_SLOT of them; NULL: the guest memory file */
};

struct kv_ring0;
struct r0_data;

struct kv_platform {
	struct platform pub;
	int vm_fd, memory_fd;	   /* const, as all down to mu */
	pid_t pid;
	int peek_fd[2];		   /* pipe: reads of guest memory that may be gone */
	struct kvm_cpuid2 *cpuid;  /* what the guest's processor can */
	size_t run_size;	   /* bytes of struct kvm_run's mapping */
	uint64_t xcr0;
	size_t xsave_size;	   /* of a state with all of xcr0, bytes */
	size_t pkru_offset;	   /* of the protection keys in it */
	uint64_t cr4;
	uint32_t slots_max;	   /* frames: number of memory slots */
	uint32_t vcpus_max;
	uint8_t *kernel;	   /* sentry's mapping of KV_GPA_KERNEL */
	uint64_t kernel_entry;	   /* of each root: the kernel half */
	uint32_t kernel_index;	   /* where it stands */
	uint64_t kernel_root;	   /* a root with nothing else */

	struct mutex mu;	   /* protects what follows; below every kv_aspace.mu */
	struct list_node spaces;   /* kv_aspace.link */
	struct list_node windows[KV_HASH];
	struct list_node free_windows;
	struct kv_slot slot[KV_SLOTS_MAX];
	uint32_t slot_count, file_slots; /* in all; for other files than the memory file */
	uint32_t *memory_slot;	   /* by offset / KV_SLOT of the memory file: slot number + 1 */
	size_t memory_slots;
	uint8_t *tables[KV_TABLE_SLOTS]; /* sentry's mapping of each slot of tables; read without mu */
	uint32_t table_slots;
	uint32_t *clean, *stale;   /* numbers of free tables; stale ones may still be cached by KVM */
	uint32_t clean_count, stale_count;
	bool flush_slot;	   /* the slot that kv_flush_all_locked takes away is there */

	struct mutex grow_mu;	   /* one new vCPU at a time; kv_platform.mu and vcpu_mu are taken under it */
	struct mutex vcpu_mu;	   /* protects the pool: below kv_aspace.mu, nothing is taken under it */
	struct cond vcpu_free;
	struct kv_vcpu *vcpu[KV_VCPUS_MAX];
	uint32_t vcpu_count, vcpu_waiters;
	uint32_t vcpu_hand;	   /* where the search for an idle one goes on */
	struct mutex peek_mu;
	_Atomic uint64_t wipe_round;
	struct kv_ring0 *ring0; /* const; NULL: exit mode */
	uint64_t chunk_gpa;	/* const: where the sentry's chunks lie */
};

struct kv_aspace {
	struct aspace pub;
	struct list_node link;	    /* protected by kv_platform.mu */
	struct mutex mu;	    /* protects the tables and what follows */
	struct cond stopped;	    /* running fell to 0 while stopping */
	struct list_node contexts;  /* kv_context.link: those that run, or last ran, here */
	struct kv_table root;	    /* changes only while nobody runs */
	uint32_t *table;	    /* numbers of the tables below root */
	uint32_t table_count, table_room;
	uint32_t refs;		    /* the owner's, and one for each context */
	_Atomic uint32_t running;   /* contexts in guest code */
	_Atomic uint32_t stopping;  /* none may enter without mu */
	_Atomic bool broken;	    /* a page cannot be mapped: no guest code runs in it any more */
	uint64_t wipe_round;	    /* protected by kv_platform.mu */
};

struct kv_vcpu {
	int fd;			  /* const, as run, index, stack_end */
	uint32_t index;
	struct kvm_run *run;	  /* its thread's while it runs */
	const uint64_t *stack_end; /* sentry's mapping: behind the exception stack */
	struct kv_context *owner; /* protected by vcpu_mu: whose registers and FPU state it has */
	bool busy;		  /* protected by vcpu_mu: the owner is between take and give back */
	bool doubtful;		  /* the owner's while busy: to be reset before it runs again */
};

struct kv_context {
	struct pcontext pub;
	struct kv_platform *platform; /* const */
	pid_t tid;		      /* const: the task thread */
	struct kv_aspace *as;	      /* where it lives; private to the task thread */
	struct list_node link;	      /* protected by as->mu */
	_Atomic uint32_t in_guest;    /* an interrupt needs a signal */
	_Atomic uint32_t yield;	      /* another context waits for its vCPU */
	/* protected by vcpu_mu; the task thread may read vcpu->busy ones without */
	struct kv_vcpu *vcpu;	      /* NULL: the state is in fpu */
	void *fpu;		      /* struct kvm_xsave; NULL: initial state */
	size_t fpu_size;	      /* bytes of fpu that were given; 0: all */
	bool fpu_fresh;		      /* fpu is newer than what the vCPU has */
	/* private to the task thread */
	bool fpu_given;		      /* fpu was set since the last switch */
	bool step;
	/* ring-0 mode, all private to the task thread */
	bool in_ring0;		      /* it runs in ring 0, and holds its vCPU */
	enum switch_why host_why;     /* with R0_HOST */
	void *exit_stack;
	uint64_t enter_sp;
	struct r0_data *data;	      /* of the vCPU that it last entered with: memory that is never freed */
};

static inline struct kv_context *kv_context(struct pcontext *ctx)
{
	return container_of(ctx, struct kv_context, pub);
}

static inline struct kv_aspace *kv_aspace(struct aspace *as)
{
	return container_of(as, struct kv_aspace, pub);
}

static inline struct kv_platform *kv_platform(struct platform *p)
{
	return container_of(p, struct kv_platform, pub);
}

extern const char kv_handlers[], kv_handlers_end[];

/* vm.c */
int kv_device_check(const char **ret_step);
int kv_vm_open(struct kv_platform *p);
void kv_vm_close(struct kv_platform *p);
int kv_memory_slot(struct kv_platform *p, uint32_t number, uint64_t gpa, uint64_t size, void *hva);
void kv_device_take(int fd);

/* table.c */
int kv_tables_open(struct kv_platform *p);
void kv_tables_close(struct kv_platform *p);
int kv_table_new(struct kv_platform *p, uint32_t *ret_number);
void kv_tables_free_locked(struct kv_platform *p, const uint32_t *number, uint32_t count);
struct kv_table kv_table_at(struct kv_platform *p, uint32_t number);
uint32_t kv_table_number(uint64_t gpa);
void kv_flush_all_locked(struct kv_platform *p);
int kv_kernel_map(struct kv_platform *p, uint64_t addr, uint64_t size, bool write, bool exec);

/* window.c */
void kv_windows_open(struct kv_platform *p);
void kv_windows_close(struct kv_platform *p);
struct kv_file {
	int fd, mode;
	uint64_t dev, ino;
	bool memory;
};
int kv_file_of(struct kv_platform *p, int fd, struct kv_file *ret_file);
int kv_window_get(struct kv_platform *p, const struct kv_file *file, uint64_t offset, uint64_t count,
		  uint64_t *ret_gpa);
void kv_window_put(struct kv_platform *p, uint64_t gpa, uint64_t count);
void kv_window_put_locked(struct kv_platform *p, uint64_t gpa, uint64_t count);
void kv_window_zap(struct kv_platform *p, uint64_t gpa, uint64_t size);
uint8_t *kv_window_address(struct kv_platform *p, uint64_t gpa);

/* aspace.c */
int kv_aspace_new(struct platform *platform, struct aspace **ret_as);
void kv_aspace_free(struct aspace *as);
void kv_aspace_update(struct aspace *as, struct pcontext *self, const struct aspace_op *op, size_t count);
int kv_aspace_reserve(struct aspace *as, struct pcontext *self);
void kv_aspace_enter(struct kv_aspace *as);
void kv_aspace_leave(struct kv_aspace *as);
void kv_aspace_attach(struct kv_aspace *as, struct kv_context *ctx);
void kv_aspace_detach(struct kv_context *ctx);
int kv_aspace_peek(struct kv_aspace *as, uint64_t addr, void *buf, size_t size);
uint64_t kv_aspace_find(struct kv_aspace *as, uint64_t gpa);

/* vcpu.c */
int kv_vcpu_take(struct kv_context *ctx);
void kv_vcpu_give_back(struct kv_context *ctx);
void kv_vcpu_forget(struct kv_context *ctx);
void kv_vcpus_close(struct kv_platform *p);
void kv_segment_code(struct kvm_segment *s, bool is_long);
void kv_segment_data(struct kvm_segment *s, bool flat, uint64_t base);

/* ring0.c */
int kv_ring0_open(struct kv_platform *p, int device_fd);
void kv_ring0_close(struct kv_platform *p);
void kv_ring0_root(struct kv_platform *p, struct kv_table root);
void kv_ring0_kernel_fill(uint8_t *kernel);
int kv_ring0_vcpu_new(struct kv_platform *p, struct kv_vcpu *v);
int kv_ring0_context_new(struct kv_context *ctx);
void kv_ring0_context_free(struct kv_context *ctx);
enum switch_why kv_ring0_switch(struct kv_context *ctx, struct kv_aspace *as);
_Noreturn void kv_ring0_loop(struct kv_context *ctx);
void kv_ring0_leave(struct kv_context *ctx);
extern const char kv_r0_handlers[], kv_r0_handlers_end[], kv_r0_c_fault[];
extern const char kv_r0_stub[], kv_r0_stub_end[], kv_r0_stub32[], kv_r0_host_call[];

/* fpu.c */
void kv_fpu_complete(const struct kv_platform *p, void *state);
int kv_fpu_x87_code(const void *state);
int kv_fpu_sse_code(const void *state);
int kv_fpu_check(const struct kv_platform *p, const void *buf, size_t size);

/* context.c */
#define SWITCH_AGAIN ((enum switch_why)-1) /* nothing happened that is of interest above */
void kv_regs_to_vcpu(struct kv_context *ctx, struct kv_vcpu *v, uint64_t root);
void kv_regs_from_vcpu(struct guest_regs *g, const struct kvm_run *run);
enum switch_why kv_exit_reason(struct kv_context *ctx, struct kv_vcpu *v, int err);
enum switch_why kv_report_exception(struct kv_context *ctx, unsigned int vector, uint64_t error, uint64_t cr2);
enum switch_why kv_report_call(struct kv_context *ctx, uint32_t arch);
void kv_context_move(struct kv_context *ctx, struct kv_aspace *as);
void kv_kick_take(void);
int kv_context_new(struct platform *platform, struct pcontext **ret_ctx);
void kv_context_free(struct pcontext *pub);
enum switch_why kv_context_switch(struct pcontext *pub, struct aspace *as);
void kv_context_interrupt(struct pcontext *pub);
void kv_context_kick(struct kv_context *ctx);
int kv_regs_load(struct pcontext *pub);
int kv_set_result(struct pcontext *pub, int64_t value);
int64_t kv_fpu_get(struct pcontext *pub, void *buf, size_t size);
int kv_fpu_set(struct pcontext *pub, const void *buf, size_t size);
void kv_set_step(struct pcontext *pub, bool on);

#endif
