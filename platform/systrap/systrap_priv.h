/* Private types of the systrap backend; platform/systrap/README.md explains how they work together. */
#ifndef PLATFORM_SYSTRAP_SYSTRAP_PRIV_H
#define PLATFORM_SYSTRAP_SYSTRAP_PRIV_H

#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "platform/base/list.h"
#include "platform/base/mutex.h"
#include "platform/platform.h"
#include "platform/stub/cpu.h"
#include "platform/stub/op.h"
#include "platform/stub/zygote.h"
#include "platform/systrap/sites.h"
#include "platform/systrap/spin.h"
#include "platform/systrap/stub_layout.h"

#define ST_VSYSCALL_PAGE 0xffffffffff600000ull
enum { ST_KICK_SIGNAL = SIGURG, LISTENER_MAX = 65536, XSAVE_ROOM = AREA_FAST - AREA_FPU };

enum { BATCH_MAX = (STUB_ARGS_SIZE - ARGS_OP) / OP_SIZE };

/* What else an eventfd may give. */
#define ANSWER_NO_MAPPER (1ull << 40)
#define ANSWER_WHO_END (1ull << 32)

/* What the mapper is told. Read only in its address space. */
struct stub_args {
	_Atomic uint32_t seq;
	uint32_t cmd, event_fd, pad;
	uint64_t count;    /* operations */
	uint64_t area;     /* newborn's area, address in the stub */
	uint64_t stack[3]; /* newborn's stack_t */
	uint64_t pad2;
	uint64_t value[BATCH_MAX + 4]; /* value[i] is i + 1: what the mapper can answer */
	uint8_t pad3[ARGS_POWER - ARGS_VALUE - sizeof(uint64_t) * (BATCH_MAX + 4)];
	uint64_t power[33]; /* power[i] is 1 << i: pieces of an answer to CMD_WHO */
	_Alignas(ARGS_OP) struct stub_op op[BATCH_MAX];
};
_Static_assert(offsetof(struct stub_args, cmd) == ARGS_CMD, "stub.S");
_Static_assert(offsetof(struct stub_args, event_fd) == ARGS_EVENT_FD, "stub.S");
_Static_assert(offsetof(struct stub_args, count) == ARGS_COUNT, "stub.S");
_Static_assert(offsetof(struct stub_args, area) == ARGS_AREA, "stub.S");
_Static_assert(offsetof(struct stub_args, stack) == ARGS_STACK, "stub.S");
_Static_assert(offsetof(struct stub_args, value) == ARGS_VALUE, "stub.S");
_Static_assert(offsetof(struct stub_args, power) == ARGS_POWER && BIRTH_UNSURE < 4, "stub.S");
_Static_assert(offsetof(struct stub_args, op) == ARGS_OP && sizeof(struct stub_args) == STUB_ARGS_SIZE, "stub.S");

/* A call posted in shared memory; README.md explains who writes what. */
struct fast {
	_Atomic uint32_t state;
	uint32_t nr;
	uint64_t arg[6], ip; /* arg[0] is also the result */
	_Alignas(128) _Atomic uint32_t armed;
	_Atomic uint32_t facts;
	uint32_t fact[FACT_COUNT];
	_Alignas(64) uint64_t save;
};
_Static_assert(offsetof(struct fast, state) == FAST_STATE && offsetof(struct fast, nr) == FAST_NR, "fast.S");
_Static_assert(offsetof(struct fast, arg) == FAST_ARG && offsetof(struct fast, ip) == FAST_IP, "fast.S");
_Static_assert(offsetof(struct fast, armed) == FAST_ARMED && offsetof(struct fast, facts) == FAST_FACTS, "fast.S");
_Static_assert(offsetof(struct fast, fact) == FAST_FACT && offsetof(struct fast, save) == FAST_SAVE, "fast.S");
_Static_assert(sizeof(struct fast) == FAST_SIZE, "fast.S");

/* One guest thread's shared memory. The whole guest process can write it: copy, then check. */
struct area {
	struct guest_regs regs; /* restored from, in this order */
	uint8_t pad[AREA_FPU - sizeof(struct guest_regs)];
	uint8_t fpu[XSAVE_ROOM];
	struct fast fast;
	uint8_t pad2[AREA_STACK - AREA_FAST - FAST_SIZE];
	uint8_t stack[STUB_AREA_SIZE - AREA_STACK];
};
_Static_assert(offsetof(struct area, fast) == AREA_FAST, "fast.S");
_Static_assert(offsetof(struct area, fpu) == AREA_FPU && offsetof(struct area, stack) == AREA_STACK, "stub.S");
_Static_assert(offsetof(struct guest_regs, fs_base) == AREA_FS_BASE, "stub.S");
_Static_assert(offsetof(struct guest_regs, gs_base) == AREA_GS_BASE, "stub.S");
_Static_assert(sizeof(struct area) == STUB_AREA_SIZE, "stub.S");

/* Belongs to one mapper from the first use until that is dead. */
struct area_slot {
	struct list_node link; /* in st_platform.areas or mapper.areas */
	uint32_t index;        /* const: place in the area file and in every address space */
	bool mapped;           /* in the space that it belongs to */
	struct area *area;     /* const: the sentry's mapping */
};

/* Areas are mapped and allocated by the window. */
enum { WINDOW_AREAS = 64 };
struct area_window {
	struct area_slot slot[WINDOW_AREAS];
};

/* A guest thread that waits for the answer to notification id, which is the address of its registers. */
struct stub_thread {
	struct list_node link; /* in mapper.waiting */
	int listener;
	int cpu; /* that it is pinned to */
	pid_t pid;
	uint64_t id;
	struct area_slot *slot;
};

/*
 * Argument pages and an eventfd for good and, while pid is set, the host's side of an address space: the process that
 * does what the pages say, and the threads that no context uses. The fields that are not const are the address
 * space's (st_aspace.mu) while it has the mapper, else protected by st_platform.mu.
 */
struct mapper {
	struct list_node link;    /* in st_platform.idle, or in st_platform.slots when there is no process */
	uint64_t offset;          /* const: of the pages in the argument file */
	int event_fd;             /* const */
	struct stub_args *args;   /* const: the sentry's mapping */
	pid_t pid;
	int cpu;                  /* that it is pinned to */
	bool asked;               /* it was told to do something, and the answer was not read */
	bool used;                /* the mappings of an earlier address space may be there */
	struct list_node waiting; /* stub_thread */
	struct list_node areas;   /* free area_slot that are mapped in its memory or were */
	unsigned int waiting_count, area_count;
};

struct st_platform {
	struct platform pub;
	int area_fd;                   /* const */
	struct sites_pool *sites;      /* const */
	bool poll_first;               /* const: RECV of a dead thread's listener never returns here */
	struct zygote zygote;          /* its arguments protected by mu, else by birth_mu */
	struct mutex birth_mu;         /* one birth at a time, of mappers and threads: see st_birth */
	struct mutex mu;               /* protects the fields below */
	struct list_node slots;        /* mappers without a process */
	struct list_node idle;         /* mappers whose address space is gone, the last one first */
	unsigned int idle_count;
	struct list_node areas;        /* free area_slot */
	uint32_t window_count;
	struct area_window *window[STUB_AREA_COUNT / WINDOW_AREAS];
	uint64_t listeners[LISTENER_MAX / 64]; /* descriptors that are listeners of known threads */
};

struct st_aspace {
	struct aspace pub;
	struct mutex mu;             /* protects the fields below unless they say else */
	struct mapper *mapper;       /* NULL before the first birth */
	bool broken;                 /* the mapper is gone: the space is dead */
	const char *title;           /* the guest's command line, borrowed; NULL: none */
	size_t title_size;
	bool titled;                 /* the mapper's memory has it */
	unsigned int reserved;       /* of mapper->waiting, for contexts to come */
	struct list_node contexts;   /* st_context.link */
	struct op_queue queue;       /* changes not yet applied */
	struct sites *_Atomic sites; /* NULL before the first site is rewritten; const then */
	uint32_t refs;               /* the owner's, and one for each context */
	_Atomic uint32_t running;    /* contexts in guest code */
	_Atomic uint32_t pending;    /* the queue is not empty */
};

/* What the stub of a context waits for. */
enum st_state {
	ST_NONE, /* there is no stub */
	ST_CALL, /* an answer to a guest's system call */
	ST_HELD, /* the address of its registers */
	ST_FAST, /* the result of a posted call, in memory: it spins or sleeps */
	ST_RUN,  /* nothing: it runs guest code */
};

/* When a task thread polls; see fast.c. Private to the task thread. */
struct fast_policy {
	bool polling, wanted;
	bool asleep; /* the thread was, when its last call was answered */
	uint8_t rest_bits;
	uint32_t quick;                 /* calls in a row that came soon after the answer before */
	uint32_t calls, calls_at_event; /* posted and taken since polling began */
	uint64_t answered, not_before;  /* TSC */
};

struct st_context {
	struct pcontext pub;
	struct st_platform *platform; /* const */
	struct st_aspace *as;         /* where the stub lives; private to the task thread */
	struct list_node link;        /* protected by as->mu */
	_Atomic pid_t pid;            /* the stub, 0 when there is none; set by the task thread */
	_Atomic uint32_t in_guest;    /* an interrupt needs a signal */
	_Atomic uint32_t kickers;     /* threads about to send one, perhaps */
	_Atomic bool kicked;          /* one was sent that has not been seen to arrive */
	struct stub_thread *thread;   /* private to the task thread, as all below */
	enum st_state state;
	struct cpu_pair pair;
	struct spin spin;
	struct fast_policy fast;
	bool facts_given;
	struct platform_facts facts;
	bool step, stepping;          /* wanted; the trap flag is set in the stub */
	bool fpu_given;               /* fpu holds a state for the next stub */
	bool result_pending;          /* result was not given to the stub yet */
	uint64_t restored_id;         /* of the last report that was answered */
	int64_t result;
	void *fpu;
	size_t fpu_size;
	uint32_t sites_generation;    /* when it began to run */
	struct site_heat heat[HEAT_SETS][HEAT_WAYS];
};

extern const char systrap_fast_page_start[], systrap_fast_entry[], systrap_fast_flags[], systrap_fast_packed[],
	systrap_fast_saved[], systrap_fast_posted[], systrap_fast_plain[], systrap_fast_own_gs[], systrap_fast_leave[],
	systrap_fast_left[], systrap_fast_special[], systrap_fast_end[], systrap_fast_woken[], systrap_fast_page_end[];
extern const char systrap_stub_page_start[], systrap_stub_zygote[], systrap_stub_handler[], systrap_stub_rest[],
	systrap_stub_reported[],
	systrap_stub_restore[], systrap_stub_restore_end[], systrap_stub_page_end[];

static inline struct st_context *st_context(struct pcontext *ctx)
{
	return container_of(ctx, struct st_context, pub);
}

static inline struct st_aspace *st_aspace(struct aspace *as)
{
	return container_of(as, struct st_aspace, pub);
}

static inline struct st_platform *st_platform(struct platform *p)
{
	return container_of(p, struct st_platform, pub);
}

/* Address of a stub.S symbol in every stub. */
static inline uint64_t st_stub_address(const char *symbol)
{
	return STUB_CODE + (uint64_t)(symbol - systrap_stub_page_start);
}

static inline uint64_t st_area_address(const struct area_slot *slot)
{
	return STUB_AREAS + (uint64_t)slot->index * STUB_AREA_SIZE;
}

/* zygote.c */
int st_zygote_start(struct st_platform *p);

/* mapper.c */
struct mapper *st_mapper_take(struct st_platform *p);
void st_mapper_give(struct st_platform *p, struct mapper *m, bool keep, bool wipe);
void st_mappers_free(struct st_platform *p);
int64_t st_mapper_do(struct st_aspace *as, int cpu, uint32_t cmd, size_t count);
pid_t st_mapper_newborn(struct st_aspace *as);

/* thread.c */
int st_birth(struct st_aspace *as, int cpu, size_t *count, struct stub_thread **ret_thread);
void st_thread_end(struct st_platform *p, struct mapper *m, struct stub_thread *t);
void st_thread_park(struct mapper *m, struct stub_thread *t);
struct stub_thread *st_thread_take(struct mapper *m);
bool st_thread_rest(struct stub_thread *t);
bool st_thread_rested(const struct st_platform *p, struct stub_thread *t);
void st_area_clear(struct area_slot *slot);
void st_areas_free(struct st_platform *p, struct mapper *m);
void st_windows_free(struct st_platform *p);

/* notify.c */
int st_wait_fd(int fd, int ms);
int st_recv(const struct st_platform *p, int listener, struct seccomp_notif *n);
int st_send(int listener, uint64_t id, int64_t value);
bool st_listener_setup(int listener);
bool st_is_listener(int fd);
bool st_is_report(const struct seccomp_notif *n);

/* fast.c */
void st_fast_attach(struct st_context *ctx);
void st_fast_detach(struct st_context *ctx);
void st_fast_facts(struct pcontext *pub, const struct platform_facts *facts);
bool st_fast_asleep(struct st_context *ctx, const struct seccomp_notif *n);
void st_fast_regs(struct st_context *ctx, struct guest_regs *r);
void st_fast_event(struct st_context *ctx, const struct seccomp_notif *n);
void st_fast_answered(struct st_context *ctx);
bool st_fast_poll(struct st_context *ctx);
void st_fast_answer(struct st_context *ctx, int64_t result);
void st_fast_will_sleep(struct pcontext *pub);

/* aspace.c */
struct stub_op st_op_wipe(void);

/* title.c: platform_ops.title_set */
void st_title_set(struct aspace *pub, const char *text, size_t size);
/* Shows as's command line if its mapper has a process that does not yet. as->mu is held. */
void st_title_show(struct st_aspace *as);
/* The memory of m's process is of no guest any more. */
void st_title_clear(const struct mapper *m);
void st_aspace_break(struct st_aspace *as);
int st_aspace_new(struct platform *platform, struct aspace **ret_as);
void st_aspace_free(struct aspace *as);
void st_aspace_update(struct aspace *as, struct pcontext *self, const struct aspace_op *op, size_t count);
void st_aspace_queue(struct st_aspace *as, const struct aspace_op *op, size_t count);
void st_aspace_apply(struct st_aspace *as, int cpu);
int st_aspace_reserve(struct aspace *as, struct pcontext *self);
size_t st_aspace_stub_pids(struct aspace *as, int32_t *pids, size_t count);
int st_aspace_enter(struct st_aspace *as, struct st_context *ctx);
void st_aspace_leave(struct st_aspace *as);
int st_aspace_attach(struct st_aspace *as, struct st_context *ctx);
void st_aspace_detach(struct st_context *ctx, bool moves);

/* context.c */
void st_no_frame(struct area *area);
int st_context_new(struct platform *platform, struct pcontext **ret_ctx);
void st_context_free(struct pcontext *pub);
enum switch_why st_context_switch(struct pcontext *pub, struct aspace *as);
void st_context_interrupt(struct pcontext *pub);
int st_regs_load(struct pcontext *pub);
int st_set_result(struct pcontext *pub, int64_t value);
int64_t st_fpu_get(struct pcontext *pub, void *buf, size_t size);
int st_fpu_set(struct pcontext *pub, const void *buf, size_t size);
void st_set_step(struct pcontext *pub, bool on);

#endif
