/*
 * Signal frames on the guest's stack and back, byte for byte as Linux lays them out, so that
 * unwinders, garbage collectors and debuggers inside the guest find what they expect.
 * Nothing here knows tasks: registers, masks and FPU images come and go as arguments.
 */
#ifndef SENTRY_ARCH_SIGFRAME_H
#define SENTRY_ARCH_SIGFRAME_H

#include "platform/abi/regs.h"
#include "sentry/core/umem.h"

struct arch_altstack {
	uint64_t sp, size;
	int32_t flags; /* SS_DISABLE, SS_AUTODISARM */
};

struct arch_trap {
	uint64_t trapno, err, cr2;
};

struct arch_signal {
	uint64_t handler, restorer;
	uint64_t flags; /* SA_* */
	int32_t signo;
	const void *info; /* siginfo, 128 bytes */
	uint64_t mask;	  /* what sigreturn restores */
	struct arch_altstack altstack;
	struct arch_trap trap;
	const void *fpu; /* XSAVE image, standard form */
	size_t fpu_size;
};

/* Writes the frame and turns regs into those of the handler's first instruction. 0, or -EFAULT when
 * the stack is bad or the action lacks a restorer; regs is unchanged then. */
NODISCARD int arch_signal_frame(struct umem *um, const struct arch_signal *s, struct guest_regs *regs);

struct arch_sigreturn {
	struct guest_regs regs; /* sanitised */
	uint64_t mask;
	struct arch_altstack altstack;
	uint8_t *fpu;	 /* caller's buffer of fpu_max bytes */
	size_t fpu_max;
	size_t fpu_size; /* filled: 0 means initial state */
};
/* Reads the frame below the stack pointer of regs. 0 or -EFAULT. rt_sigreturn(2) */
NODISCARD int arch_signal_return(struct umem *um, const struct guest_regs *regs,
		struct arch_sigreturn *ret);

/* Registers of a fresh program and of a cloned child. */
void arch_regs_exec(struct guest_regs *regs, uint64_t entry, uint64_t sp);
/* Is sp on the alternate stack? */
bool arch_on_altstack(const struct arch_altstack *a, uint64_t sp);
/* Makes debugger-given registers harmless: segments and privileged flags. */
void arch_regs_sanitise(struct guest_regs *regs);
/* Components of the FPU state that the guest has, as bits of XCR0, and the size of an image of them. A
 * platform's image may be larger: what is behind belongs to components that the guest does not have. */
uint64_t arch_fpu_features(void);
size_t arch_fpu_size(void);
/* The FPU image after exec: for handlers too. Returns its size; buf of at least 1024 bytes. */
size_t arch_fpu_initial(uint8_t *buf, size_t size);
/* Makes an image harmless of which a debugger gave the first given bytes; features that are not the
 * machine's go, the software bytes too. */
void arch_fpu_sanitise(uint8_t *image, size_t size, size_t given);
/* Size of the frame and the largest FPU image, for AT_MINSIGSTKSZ. */
size_t arch_min_sigstack(void);
/* AT_HWCAP and AT_HWCAP2 of this machine. */
uint64_t arch_hwcap(void);
uint64_t arch_hwcap2(void);

#endif
