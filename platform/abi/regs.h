/* General registers of a guest thread, in the order of Linux's user_regs_struct (asm/ptrace-abi). */
#ifndef PLATFORM_ABI_REGS_H
#define PLATFORM_ABI_REGS_H

#include <stdint.h>

#if defined(__x86_64__)
struct guest_regs {
	uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8;
	uint64_t rax, rcx, rdx, rsi, rdi, orig_rax, rip, cs, eflags, rsp, ss;
	uint64_t fs_base, gs_base, ds, es, fs, gs;
};
_Static_assert(sizeof(struct guest_regs) == 27 * 8, "user_regs_struct has 27 words");
#else
#error "architecture not supported yet"
#endif

#endif
