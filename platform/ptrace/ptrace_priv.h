/* Private types of the ptrace backend; platform/ptrace/README.md explains how they work together. */
#ifndef PLATFORM_PTRACE_PTRACE_PRIV_H
#define PLATFORM_PTRACE_PTRACE_PRIV_H

#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "platform/base/list.h"
#include "platform/base/mutex.h"
#include "platform/platform.h"
#include "platform/ptrace/stub_layout.h"
#include "platform/stub/cpu.h"
#include "platform/stub/op.h"
#include "platform/stub/zygote.h"

enum { BATCH_MAX = STUB_ARGS_SIZE / OP_SIZE };

/* Argument pages of one address space; read only in its stubs. */
struct args_slot {
	struct list_node link; /* protected by pt_platform.mu while free */
	uint64_t offset;       /* const: in the argument file */
	struct stub_op *op;    /* const: the sentry's mapping; written under pt_aspace.mu */
};

struct pt_platform {
	struct platform pub;
	struct zygote zygote;     /* its arguments protected by mu, else by zygote_mu */
	struct mutex zygote_mu;   /* one birth at a time */
	struct mutex mu;          /* protects the field below */
	struct list_node slots;   /* free args_slot */
};

struct pt_aspace {
	struct aspace pub;
	struct mutex mu;             /* protects the fields below unless they say else */
	struct cond drained;         /* the queue is empty or nobody runs any more */
	struct args_slot *slot;
	struct list_node contexts;   /* pt_context.link of stubs that live here */
	pid_t *spare;                /* parked threads nobody traces yet */
	size_t spare_count, spare_room;
	struct op_queue queue;       /* changes not yet applied */
	uint32_t refs;               /* the owner's, and one for each context */
	bool born;                   /* a first stub was made */
	bool wipe;                   /* the stub still has another space's mappings: unmap all first */
	_Atomic uint32_t running;    /* contexts in guest code */
	_Atomic uint32_t pending;    /* the queue is not empty, or wipe */
	_Atomic uint32_t waiters;    /* threads waiting on drained */
};

struct pt_context {
	struct pcontext pub;
	struct pt_platform *platform; /* const */
	_Atomic pid_t pid;            /* the stub, 0 when there is none; set by the task thread */
	struct pt_aspace *as;         /* where the stub lives; private to the task thread */
	struct list_node link;        /* protected by as->mu */
	_Atomic uint32_t in_guest;    /* an interrupt needs a signal */
	struct cpu_pair pair;         /* private to the task thread, as all below */
	int64_t look_at;              /* coarse time of the next look at preemptions, ns */
	int64_t preempted;            /* of the stub, at the last look */
	bool step;
	bool fpu_given;               /* fpu holds a state for the next stub */
	bool result_pending;          /* result was not written to the stub yet */
	int64_t result;
	void *fpu;
	size_t fpu_size;
};

extern const char stub_page_start[], stub_zygote[], stub_batch[], stub_clone[], stub_page_end[];

static inline struct pt_context *pt_context(struct pcontext *ctx)
{
	return container_of(ctx, struct pt_context, pub);
}

static inline struct pt_aspace *pt_aspace(struct aspace *as)
{
	return container_of(as, struct pt_aspace, pub);
}

static inline struct pt_platform *pt_platform(struct platform *p)
{
	return container_of(p, struct pt_platform, pub);
}

/* Address of a stub.S symbol in every stub. */
static inline uint64_t stub_address(const char *symbol)
{
	return STUB_CODE + (uint64_t)(symbol - stub_page_start);
}

/* stub.c */
int stub_attach(struct pt_context *ctx, pid_t pid);
int stub_wait(struct pt_context *ctx, int *ret_status);
int stub_wait_usage(struct pt_context *ctx, int *ret_status, struct rusage *usage);
int stub_run(struct pt_context *ctx, struct guest_regs *regs);
int stub_regs_read(struct pt_context *ctx, struct guest_regs *ret_regs);
int stub_regs_write(struct pt_context *ctx, const struct guest_regs *regs);
void stub_kill(struct pt_context *ctx);
long stub_ptrace(long request, pid_t pid, uint64_t addr, uint64_t data);
int stub_fpu_write(struct pt_context *ctx, const void *buf, size_t size);

/* aspace.c */
int pt_aspace_new(struct platform *platform, struct aspace **ret_as);
void pt_aspace_free(struct aspace *as);
void pt_aspace_update(struct aspace *as, struct pcontext *self, const struct aspace_op *op, size_t count);
int pt_aspace_reserve(struct aspace *as, struct pcontext *self);
size_t pt_aspace_stub_pids(struct aspace *as, int32_t *pids, size_t count);
int pt_aspace_enter(struct pt_aspace *as, struct pt_context *ctx);
void pt_aspace_leave(struct pt_aspace *as);
int pt_aspace_attach(struct pt_aspace *as, struct pt_context *ctx);
bool pt_aspace_inherit(struct pt_aspace *as, struct pt_context *ctx);
void pt_aspace_detach(struct pt_context *ctx);

/* context.c */
int pt_context_new(struct platform *platform, struct pcontext **ret_ctx);
void pt_context_free(struct pcontext *pub);
enum switch_why pt_context_switch(struct pcontext *pub, struct aspace *as);
void pt_context_interrupt(struct pcontext *pub);
void pt_context_kick(struct pt_context *ctx);
int pt_regs_load(struct pcontext *pub);
int pt_set_result(struct pcontext *pub, int64_t value);
int64_t pt_fpu_get(struct pcontext *pub, void *buf, size_t size);
int pt_fpu_set(struct pcontext *pub, const void *buf, size_t size);
void pt_set_step(struct pcontext *pub, bool on);

/* cpu.c */
bool cpu_look_due(struct pt_context *ctx);
void cpu_look(struct pt_context *ctx, const struct rusage *stub);

#endif
