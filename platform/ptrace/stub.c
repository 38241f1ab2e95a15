/* Handling of one traced stub by its task thread: attach, run our code in it, registers, death. */
#include <elf.h>
#include <errno.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "platform/host/fpu.h"
#include "platform/ptrace/ptrace_priv.h"

#ifndef PTRACE_EVENT_STOP
#define PTRACE_EVENT_STOP 128
#endif

enum { XSAVE_MAX = 16384 };

/* ptrace(2) without libc's special cases. The result, or -errno. */
long stub_ptrace(long request, pid_t pid, uint64_t addr, uint64_t data)
{
	long r = syscall(SYS_ptrace, request, pid, addr, data);

	return r < 0 ? -errno : r;
}

/*
 * Waits until the stub stops. 0 with its wait status, or -ESRCH when it is dead; its pid is forgotten
 * then.
 */
int stub_wait(struct pt_context *ctx, int *ret_status)
{
	return stub_wait_usage(ctx, ret_status, NULL);
}

/* The same with the stub's resource usage so far; usage may be NULL. */
int stub_wait_usage(struct pt_context *ctx, int *ret_status, struct rusage *usage)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	long r;
	int st = 0;

	do
		r = syscall(SYS_wait4, pid, &st, __WALL, usage);
	while (r < 0 && errno == EINTR);
	if (r < 0 || !WIFSTOPPED(st)) {
		log_debug("stub %d died, status 0x%x", (int)pid, (unsigned int)st);
		atomic_store(&ctx->pid, 0);
		return -ESRCH;
	}
	*ret_status = st;
	return 0;
}

/* Takes over the parked stub pid: on return it is stopped and traced by this thread. 0 or -errno. */
int stub_attach(struct pt_context *ctx, pid_t pid)
{
	const uint64_t options = PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD;
	long r = stub_ptrace(PTRACE_SEIZE, pid, 0, options);
	int st;

	if (r < 0) {
		log_error("ptrace: cannot attach to stub %d: %s", (int)pid, strerror((int)-r));
		kill(pid, SIGKILL);
		return (int)r;
	}
	atomic_store(&ctx->pid, pid);
	r = stub_ptrace(PTRACE_INTERRUPT, pid, 0, 0);
	if (r < 0)
		return (int)r;
	do {
		if (stub_wait(ctx, &st) < 0)
			return -ESRCH;
		if (st >> 16 == PTRACE_EVENT_STOP)
			return 0;
		r = stub_ptrace(PTRACE_CONT, pid, 0, 0);
	} while (r == 0);
	return (int)r;
}

/*
 * Runs code of the stub page with the given registers until its int3 and reads the registers back.
 * The stub must be stopped. 0 or -ESRCH.
 */
int stub_run(struct pt_context *ctx, struct guest_regs *regs)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	int st;

	if (stub_regs_write(ctx, regs) < 0)
		return -ESRCH;
	do {
		if (stub_ptrace(PTRACE_CONT, pid, 0, 0) < 0 || stub_wait(ctx, &st) < 0)
			return -ESRCH;
		if (WSTOPSIG(st) == SIGSEGV || WSTOPSIG(st) == SIGSYS) {
			log_error("ptrace: stub %d cannot run our code: %s", (int)pid, strsignal(WSTOPSIG(st)));
			stub_kill(ctx);
			return -ESRCH;
		}
	} while (st >> 8 != SIGTRAP); /* an interrupt's signal: dropped, its flag stays */
	return stub_regs_read(ctx, regs);
}

/* Reads all general registers of the stopped stub. 0 or -ESRCH. */
int stub_regs_read(struct pt_context *ctx, struct guest_regs *ret_regs)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);

	return stub_ptrace(PTRACE_GETREGS, pid, 0, (uint64_t)(uintptr_t)ret_regs) < 0 ? -ESRCH : 0;
}

/*
 * Makes values that the host refuses, or that would reach host features the guest has no business
 * with, harmless: selectors other than Linux's user ones, bases outside the user half, and
 * orig_rax, which would let the host restart a system call.
 */
static void regs_sanitise(struct guest_regs *r)
{
	const uint64_t user_cs = 0x33, user_cs32 = 0x23, user_ss = 0x2b;

	if (r->cs != user_cs && r->cs != user_cs32)
		r->cs = user_cs;
	r->ss = user_ss;
	if (r->ds != user_ss)
		r->ds = 0;
	if (r->es != user_ss)
		r->es = 0;
	r->fs = r->gs = 0;
	if (r->fs_base >= STUB_TASK_SIZE)
		r->fs_base = 0;
	if (r->gs_base >= STUB_TASK_SIZE)
		r->gs_base = 0;
	r->orig_rax = UINT64_MAX;
}

/* Writes all general registers of the stopped stub, made harmless first. 0 or -ESRCH. */
int stub_regs_write(struct pt_context *ctx, const struct guest_regs *regs)
{
	pid_t pid = atomic_load_explicit(&ctx->pid, memory_order_relaxed);
	struct guest_regs r = *regs;

	regs_sanitise(&r);
	return stub_ptrace(PTRACE_SETREGS, pid, 0, (uint64_t)(uintptr_t)&r) < 0 ? -ESRCH : 0;
}

/*
 * Writes FPU state in XSAVE layout into the stopped stub; what lies behind size counts as zero. 0 or
 * -errno (-EINVAL: refused by the host).
 */
int stub_fpu_write(struct pt_context *ctx, const void *buf, size_t size)
{
	_Alignas(64) char image[XSAVE_MAX] __attribute__((uninitialized)); /* filled below */
	size_t full = MIN(host_fpu_size(), sizeof(image)); /* PTRACE_SETREGSET insists on it */
	struct iovec iov = { image, full };

	if (size > full)
		return -EINVAL;
	memcpy(image, buf, size);
	memset(image + size, 0, full - size);
	return (int)stub_ptrace(PTRACE_SETREGSET, atomic_load(&ctx->pid), NT_X86_XSTATE,
				(uint64_t)(uintptr_t)&iov);
}

/*
 * Ends the stub, which this thread attached and which is stopped: it runs no instruction any more. It
 * is reaped at this thread's next call; when the thread ends first, by the host.
 */
void stub_kill(struct pt_context *ctx)
{
	static __thread pid_t dying; /* private to the thread */
	pid_t pid = atomic_exchange(&ctx->pid, 0);
	int st;

	if (!pid)
		return;
	kill(pid, SIGKILL);
	while (dying && syscall(SYS_wait4, dying, &st, __WALL, NULL) == dying && WIFSTOPPED(st))
		;
	dying = syscall(SYS_wait4, pid, &st, __WALL | WNOHANG, NULL) == pid && !WIFSTOPPED(st) ? 0 : pid;
}
