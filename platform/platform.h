/*
 * The interface of a backend: guest address spaces, and contexts in which guest code runs.
 *
 * A backend maps host file ranges into an address space and runs one guest thread per context until
 * it makes a system call, faults, traps or is interrupted. It knows nothing of Linux semantics.
 * Whatever the guest does, it must never complete a host system call by itself.
 */
#ifndef PLATFORM_PLATFORM_H
#define PLATFORM_PLATFORM_H

#include "platform/abi/regs.h"
#include "platform/base/compiler.h"

struct platform;
struct aspace;
struct pcontext;

enum platform_prot { PLATFORM_READ = 1, PLATFORM_WRITE = 2, PLATFORM_EXEC = 4 };

/* Why platform_switch came back. */
enum switch_why {
	SWITCH_SYSCALL,   /* ctx->syscall is valid; the guest waits for its result */
	SWITCH_FAULT,     /* ctx->fault is valid: an access that the address space did not allow */
	SWITCH_SIGNAL,    /* ctx->signal is valid: SIGFPE, SIGILL, SIGTRAP, SIGBUS, SIGSEGV without address */
	SWITCH_INTERRUPT, /* platform_interrupt was called; nothing happened */
	SWITCH_DEAD,      /* the stub is gone (host out of memory, killed): the guest process must end */
};

struct platform_syscall {
	int64_t nr;
	uint64_t arg[6];
	uint64_t ip, sp;  /* ip is behind the syscall instruction */
	uint32_t audit_arch; /* AUDIT_ARCH_X86_64, AUDIT_ARCH_I386 (int 0x80), as linux/audit.h */
	bool vsyscall;    /* came from the vsyscall page; ip and sp are already those of the return */
};

/*
 * A host that does not tell what kind of access failed leaves several bits set: "one of these". A
 * backend maps every page at least readable, so a fault on a mapped page is exactly WRITE or EXEC,
 * and one on an unmapped page is READ|WRITE (or EXEC when addr is the instruction pointer).
 * mm makes the page readable when READ is among them and the vma allows it; a write then faults
 * again, with WRITE alone. No bit that the vma allows: the access is illegal.
 */
struct platform_fault {
	uint64_t addr;
	uint8_t access; /* set of PLATFORM_READ, PLATFORM_WRITE, PLATFORM_EXEC */
	bool mapped;    /* the address space had a mapping there, without the permission */
};

struct platform_signal {
	int32_t signo, code;
	uint64_t addr;
};

/* A page of guest code as mm maps it, for site_rewrite. */
struct platform_page {
	uint64_t addr;
	int host_fd; /* what aspace_update mapped there, or would */
	uint64_t offset;
	uint8_t prot;
	const uint8_t *bytes; /* PAGE's contents; borrowed for the call */
};

/*
 * What calls that only read the caller's own facts return: getpid, gettid, getuid, geteuid, getgid, getegid,
 * as the guest sees them. A backend may answer these without a switch.
 */
enum platform_fact { FACT_PID, FACT_TID, FACT_UID, FACT_EUID, FACT_GID, FACT_EGID, FACT_COUNT };
struct platform_facts {
	uint32_t value[FACT_COUNT];
};

/*
 * One guest thread's processor state. Created, switched and freed by one sentry thread only (the
 * task thread); platform_interrupt alone may be called by others.
 *
 * Registers move as little as possible: after SWITCH_SYSCALL only `syscall` is known to be valid.
 * Who needs more calls platform_regs (loads all once) and says with platform_regs_dirty that it
 * changed them. platform_set_result is the cheap way to answer a system call.
 */
struct pcontext {
	const struct platform_ops *ops;
	struct platform_syscall syscall;
	struct platform_fault fault;
	struct platform_signal signal;
	struct guest_regs regs; /* through platform_regs() only */
	bool regs_valid, regs_dirty;
	/*
	 * Set by a switch that returned SWITCH_SYSCALL: the address behind a syscall instruction that is used so
	 * often that site_rewrite is worth its price; 0: none. Cleared by who acts on it.
	 */
	uint64_t hot_ip;
	_Atomic uint32_t interrupted; /* set by platform_interrupt, taken by platform_switch */
};

/* A backend that was opened; its own state follows. */
struct platform {
	const struct platform_ops *ops;
	/* Set by open, const after it. */
	const char *mode;  /* which of several ways of the backend it is, in words; or NULL */
	bool by_name_only; /* too slow, or not proven enough, to be taken by `auto` */
};

/*
 * An address space is a cache of the mm's mappings: it may lose any of them at any time (host limits
 * on the number of mappings), and the guest then faults again. mm must answer a fault on a page that
 * it believes mapped by mapping it again.
 */
struct aspace {
	const struct platform_ops *ops;
	struct platform *platform;
};

/* One batch entry of aspace_update. */
struct aspace_op {
	enum { ASPACE_MAP, ASPACE_UNMAP, ASPACE_PROTECT } kind;
	uint64_t addr, size; /* bytes, page aligned */
	int host_fd;         /* MAP: file mapped MAP_SHARED | MAP_FIXED */
	uint64_t offset;     /* MAP: offset in host_fd, bytes */
	uint8_t prot;        /* MAP, PROTECT: enum platform_prot bits */
	bool populate;       /* MAP: fault the pages in now */
};

struct platform_ops {
	const char *name;
	/* Guest addresses usable: [min_addr, max_addr). The stub lives outside. */
	uint64_t min_addr, max_addr;

	bool runs_nothing;     /* no guest code: has no self-test, and is never taken by `auto` */
	const char *hint;      /* what to look at first when the self-test fails, or NULL */

	/* Optional: the device that the backend works on, opened by somebody with the right to. Takes fd. Once, before probe and
	 * open. NULL: it needs none. */
	void (*device_take)(int fd);

	/* Optional: whether processor and host kernel have what open would not miss at once; cheap, changes nothing. 0, or
	 * -errno with one sentence in why[why_size]. The self-test of what was opened is platform/choose's. */
	int (*probe)(char *why, size_t why_size);
	/* Opens what the backend needs. Called once, on a thread that lives as long as the process, after the
	 * last change of uid, gid, namespaces and Landlock domain, before capabilities are dropped or
	 * a seccomp filter is loaded. memory_fd is the guest memory file. */
	int (*open)(int memory_fd, struct platform **ret_platform);
	void (*close)(struct platform *p);

	/* A new empty address space. May be called from any task thread. */
	int (*aspace_new)(struct platform *p, struct aspace **ret_as);
	/* No context may be switched into it any more. */
	void (*aspace_free)(struct aspace *as);
	/* Applies count changes in order, before any guest instruction runs in as after the return (the work
	 * itself may be put off until then, so that changes of one system call make one batch). The
	 * caller serialises calls on one address space (mm lock) and may be any thread, whether or not
	 * other guest threads run in it; self is the calling task's context, or NULL. A change that
	 * the host refuses leaves its range unmapped; PROTECT of a range with holes may unmap it.
	 * A host_fd may be closed once a later call has replaced or unmapped its range. Cannot
	 * fail. */
	void (*aspace_update)(struct aspace *as, struct pcontext *self, const struct aspace_op *op, size_t count);

	/* Sees to it that one more context can be switched into as. Called by the task whose context self
	 * runs in as and is stopped, once for each new guest thread (clone with CLONE_VM, vfork),
	 * before that thread's first switch. Not needed for the first context of an address space. */
	int (*aspace_reserve)(struct aspace *as, struct pcontext *self);

	/* Optional: does what the first switch into the new space as needs, as far as that may fail, so that fork fails
	 * instead of its child. Called by the task of self, whose own space is another, after the first changes. 0, -ENOMEM
	 * or -EAGAIN (the host makes no process). */
	int (*aspace_prepare)(struct aspace *as, struct pcontext *self);

	/* Optional: makes the system call in front of ip cheaper, which nobody but the guest's own loads of its code can
	 * see. page holds that call, is private to the address space, not writable and mapped; self's
	 * thread waits for the answer to that very call. The caller holds what serialises aspace_update; any later change of
	 * the page's range by aspace_update undoes it. 0, -EAGAIN (not at this moment), -EOPNOTSUPP (no code that can be
	 * rewritten), -ENOMEM. */
	int (*site_rewrite)(struct aspace *as, struct pcontext *self, uint64_t ip, const struct platform_page *page);
	/* Optional: facts that the backend may answer itself from the next switch on; NULL: none, every call must be
	 * seen (a tracer, a guest's seccomp filter, --strace). Task thread only. */
	void (*facts_set)(struct pcontext *ctx, const struct platform_facts *facts);
	/* Optional: the task thread is about to sleep before it answers the guest's call: no CPU is to be spent on waiting
	 * for that answer. Task thread only; cheap when it was said before. */
	void (*will_sleep)(struct pcontext *ctx);

	/* Creates a context; called on the thread that will switch it. Registers are zero, FPU state initial. */
	int (*context_new)(struct platform *p, struct pcontext **ret_ctx);
	void (*context_free)(struct pcontext *ctx);
	/* Runs the guest in as until something happens. Task thread only. The first switch into another
	 * address space (exec) starts with initial FPU state unless fpu_set was called since. */
	enum switch_why (*context_switch)(struct pcontext *ctx, struct aspace *as);
	/* Makes a running or the next context_switch return SWITCH_INTERRUPT soon. Any thread, async. */
	void (*context_interrupt)(struct pcontext *ctx);
	/* Fills ctx->regs when !regs_valid. */
	int (*regs_load)(struct pcontext *ctx);
	/* Sets the return-value register only. */
	int (*set_result)(struct pcontext *ctx, int64_t value);
	/* FPU state in XSAVE layout (standard form). get returns the size, or -errno. Task thread only. */
	int64_t (*fpu_get)(struct pcontext *ctx, void *buf, size_t size);
	int (*fpu_set)(struct pcontext *ctx, const void *buf, size_t size);
	/* Single-step: the next switches execute one instruction and return SWITCH_SIGNAL with SIGTRAP. */
	void (*set_step)(struct pcontext *ctx, bool on);
	/* Optional: what the host's process lists show as the command line of the space's processes, size bytes without a NUL
	 * at the end; borrowed until the next call or aspace_free. The caller serialises calls on one address space. Cannot fail. */
	void (*title_set)(struct aspace *as, const char *text, size_t size);
	/* Host pids of stub processes and threads for debug output; returns the count. May be NULL. */
	size_t (*stub_pids)(struct aspace *as, int32_t *pids, size_t count);
};

extern const struct platform_ops platform_kvm, platform_ptrace, platform_systrap, platform_null;

/* Full registers of a stopped guest, loaded once per stop. NULL when the stub is gone. */
static inline struct guest_regs *platform_regs(struct pcontext *ctx)
{
	if (!ctx->regs_valid && ctx->ops->regs_load(ctx) < 0)
		return NULL;
	return &ctx->regs;
}

/* Says that *platform_regs(ctx) was changed; the next switch writes it back. */
static inline void platform_regs_dirty(struct pcontext *ctx)
{
	ctx->regs_dirty = true;
}

#endif
