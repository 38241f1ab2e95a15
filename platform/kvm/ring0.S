/*
 * Ring-0 mode: the ways between the guest's user mode, the sentry's C code in ring 0, and the host. README.md, "Ring-0 mode".
 *
 * Two pieces are copied into the kernel half: kv_r0_handlers, shared, where exceptions land, and kv_r0_stub, of which each vCPU
 * has a copy behind its data page, where system calls land. What is in .text runs at the sentry's own addresses.
 */
#include "platform/kvm/layout.h"

#define CR0_NO_FPU (R0_CR0 | R0_CR0_TS)
#define EFLAGS_TF_RF 0x10100

/* offsets in struct guest_regs */
#define G_R15 0
#define G_R14 8
#define G_R13 16
#define G_R12 24
#define G_RBP 32
#define G_RBX 40
#define G_R11 48
#define G_R10 56
#define G_R9 64
#define G_R8 72
#define G_RAX 80
#define G_RCX 88
#define G_RDX 96
#define G_RSI 104
#define G_RDI 112
#define G_ORIG_RAX 120 /* the address of a page fault */
#define G_RIP 128 /* from here on the frame of iretq */
#define G_CS 136
#define G_EFLAGS 144
#define G_RSP 152
#define G_SS 160
#define G_FS_BASE 168
#define G_GS_BASE 176
#define G_DS 184
#define G_ES 192
#define G_FS 200
#define G_GS 208

	/* What is saved alike for calls and exceptions; base is neither rcx nor one of those that were saved before. */
	.macro SAVE_REST base
	mov %r15, G_R15(\base)
	mov %r14, G_R14(\base)
	mov %r13, G_R13(\base)
	mov %r12, G_R12(\base)
	mov %rbp, G_RBP(\base)
	mov %rbx, G_RBX(\base)
	mov %r11, G_R11(\base)
	mov %r10, G_R10(\base)
	mov %r9, G_R9(\base)
	mov %r8, G_R8(\base)
	mov %rcx, G_RCX(\base)
	mov %rdx, G_RDX(\base)
	mov %rsi, G_RSI(\base)
	mov %rdi, G_RDI(\base)
	rdfsbase %rdx
	mov %rdx, G_FS_BASE(\base)
	rdgsbase %rdx
	mov %rdx, G_GS_BASE(\base)
	mov %ds, %edx
	mov %rdx, G_DS(\base)
	mov %es, %edx
	mov %rdx, G_ES(\base)
	mov %fs, %edx
	mov %rdx, G_FS(\base)
	mov %gs, %edx
	mov %rdx, G_GS(\base)
	.endm

	/*
	 * Back into kv_ring0_user's caller with what in rax (rdx: the error code); rbp is the data page. The user's FPU state is live,
	 * so TS is set.
	 */
	.macro TO_C
	movl $0, R0_C_FPU(%rbp)
	mov $CR0_NO_FPU, %ecx
	mov %rcx, %cr0
	mov R0_FS(%rbp), %rcx
	wrfsbase %rcx
	mov R0_CSP(%rbp), %rsp
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.endm

	.section .rodata
	.globl kv_r0_handlers, kv_r0_handlers_end, kv_r0_c_fault
	.balign HANDLER_SIZE
kv_r0_handlers:
	.set vector, 0
	.rept 256
	.balign HANDLER_SIZE, 0xf4
	/* 8, 10 to 14, 17, 21, 29, 30 come with an error code */
	.ifeq (vector < 32) && ((0x60227d00 >> (vector & 31)) & 1)
	pushq $0
	.endif
	pushq $vector
	jmp r0_exception
	.set vector, vector + 1
	.endr
	/* On the exception stack: vector, error, rip, cs, rflags, rsp, ss */
	.balign HANDLER_SIZE, 0xf4
r0_exception:
	testb $3, 24(%rsp)
	jz 1f
	push %rax
	mov %rsp, %rax
	and $-0x1000, %rax
	mov 0x1000 + R0_REGS(%rax), %rax
	SAVE_REST %rax
	mov %rax, %rbx
	pop %rcx
	mov %rcx, G_RAX(%rbx)
	mov %rsp, %rbp
	and $-0x1000, %rbp
	add $0x1000, %rbp
	mov %cr2, %rcx
	mov %rcx, G_ORIG_RAX(%rbx)
	mov 8(%rsp), %rdx
	mov 16(%rsp), %rcx
	mov %rcx, G_RIP(%rbx)
	mov 24(%rsp), %rcx
	mov %rcx, G_CS(%rbx)
	mov 32(%rsp), %rcx
	mov %rcx, G_EFLAGS(%rbx)
	mov 40(%rsp), %rcx
	mov %rcx, G_RSP(%rbx)
	mov 48(%rsp), %rcx
	mov %rcx, G_SS(%rbx)
	mov (%rsp), %rax
	/* DF and AC were the user's. */
	pushq $2
	popfq
	TO_C
1:	/* C code in ring 0 */
	cmpq $7, (%rsp)
	jne 3f
	/* Its first use of the FPU: the user's state moves to the context. */
	push %rax
	push %rcx
	push %rdx
	push %rbx
	mov %rsp, %rbx
	and $-0x1000, %rbx
	add $0x1000, %rbx
	clts
	cmpl $0, R0_FPU_SAVED(%rbx)
	jne 2f
	mov R0_FPU(%rbx), %rcx
	mov R0_XMASK(%rbx), %eax
	mov R0_XMASK + 4(%rbx), %edx
	xsave64 (%rcx)
	movl $1, R0_FPU_SAVED(%rbx)
2:	movl $1, R0_C_FPU(%rbx)
	fninit
	ldmxcsr R0_MXCSR(%rbx)
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	add $16, %rsp
	iretq
3:	hlt /* the host sees to it */
kv_r0_c_fault:
	jmp 3b
kv_r0_handlers_end:

	.globl kv_r0_stub, kv_r0_stub_end, kv_r0_stub32, kv_r0_host_call
	.balign 16
#define DATA(offset) (kv_r0_stub - 0x1000 + offset)(%rip)
kv_r0_stub:
	mov %rsp, DATA(R0_USER_SP)
	/* Code at or above the window is the sentry's: the user cannot run there. */
	mov %rcx, %rsp
	shr $40, %rsp
	cmp $R0_WINDOW_SHIFTED, %esp
	jae 1f
	mov DATA(R0_REGS), %rsp
	mov %rax, G_RAX(%rsp)
	mov $R0_CALL, %eax
2:	SAVE_REST %rsp
	movq $KV_USER_CS, G_CS(%rsp)
3:	mov %rcx, G_RIP(%rsp)
	mov %r11, G_EFLAGS(%rsp)
	mov DATA(R0_USER_SP), %rcx
	mov %rcx, G_RSP(%rsp)
	movq $KV_USER_SS, G_SS(%rsp)
	lea DATA(0), %rbp
	TO_C
1:	mov DATA(R0_USER_SP), %rsp
	hlt /* the sentry's own call: the host makes it */
kv_r0_host_call:
	jmp 1b
	.balign 16, 0xf4
kv_r0_stub32:
	mov %rsp, DATA(R0_USER_SP)
	mov DATA(R0_REGS), %rsp
	mov %rax, G_RAX(%rsp)
	mov $R0_CALL32, %eax
	SAVE_REST %rsp
	movq $KV_USER_CS32, G_CS(%rsp)
	jmp 3b
kv_r0_stub_end:

	.text
	/*
	 * struct r0_event kv_ring0_user(data): runs the user until it comes back. Called in ring 0; the caller can have been taken onto
	 * the host a moment before, so it looks again. The host takes nobody away between here and kv_ring0_window.
	 */
	.globl kv_ring0_user, kv_ring0_window, kv_ring0_user_end, kv_ring0_user_out
	.type kv_ring0_user, @function
kv_ring0_user:
	endbr64
	mov $R0_AGAIN, %eax
	mov %cs, %ecx
	test $3, %cl
	jz 1f
	ret
1:
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, R0_CSP(%rdi)
	/* Between here and the end the host may take us straight to kv_ring0_user_out. */
kv_ring0_window:
	cmpl $0, R0_KICKED(%rdi)
	jne 4f
	clts
	cmpl $0, R0_FPU_SAVED(%rdi)
	jne 3f
1:	mov R0_REGS(%rdi), %rsp
	mov G_FS_BASE(%rsp), %rax
	wrfsbase %rax
	mov G_GS_BASE(%rsp), %rax
	wrgsbase %rax
	mov G_R15(%rsp), %r15
	mov G_R14(%rsp), %r14
	mov G_R13(%rsp), %r13
	mov G_R12(%rsp), %r12
	mov G_RBP(%rsp), %rbp
	mov G_RBX(%rsp), %rbx
	mov G_R10(%rsp), %r10
	mov G_R9(%rsp), %r9
	mov G_R8(%rsp), %r8
	mov G_RDX(%rsp), %rdx
	mov G_RSI(%rsp), %rsi
	mov G_RCX(%rsp), %rcx
	mov G_R11(%rsp), %r11
	/* sysret loads rip and flags from rcx and r11 */
	cmp G_RIP(%rsp), %rcx
	jne 2f
	cmp G_EFLAGS(%rsp), %r11
	jne 2f
	cmpl $KV_USER_CS, G_CS(%rsp)
	jne 2f
	test $EFLAGS_TF_RF, %r11d
	jnz 2f
	mov %rcx, %rdi
	shr $47, %rdi
	jnz 2f
	mov G_RDI(%rsp), %rdi
	mov G_RAX(%rsp), %rax
	mov G_RSP(%rsp), %rsp
	sysretq
2:	mov G_RDI(%rsp), %rdi
	mov G_RAX(%rsp), %rax
	add $G_RIP, %rsp
	iretq
3:	/* the user's FPU state is in the context */
	mov R0_FPU(%rdi), %rcx
	mov R0_XMASK(%rdi), %eax
	mov R0_XMASK + 4(%rdi), %edx
	xrstor64 (%rcx)
	movl $0, R0_FPU_SAVED(%rdi)
	jmp 1b
4:	movl $0, R0_KICKED(%rdi)
	mov $R0_AGAIN, %eax
kv_ring0_user_end:
kv_ring0_user_out:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.size kv_ring0_user, . - kv_ring0_user

	/* void kv_ring0_enter(ctx, exit_stack, uint64_t *ret_sp): on the host; returns in ring 0, or on the host again. */
	.globl kv_ring0_enter, kv_ring0_entered
	.type kv_ring0_enter, @function
kv_ring0_enter:
	endbr64
	push %rbx
	push %rbp
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, (%rdx)
	mov %rsi, %rsp
	call kv_ring0_loop
	ud2
kv_ring0_entered:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbp
	pop %rbx
	ret
	.size kv_ring0_enter, . - kv_ring0_enter

	/*
	 * void kv_ring0_resume(const struct kvm_regs *regs, const void *fpu, uint64_t mask, bool call): on the host, on the exit
	 * stack. Goes on with these registers. Nothing is written below the new stack pointer. call: rcx and r11 are of no interest.
	 */
	.globl kv_ring0_resume
	.type kv_ring0_resume, @function
kv_ring0_resume:
	endbr64
	test %rsi, %rsi
	jz 1f
	mov %ecx, %r8d
	mov %edx, %eax
	shr $32, %rdx
	xrstor64 (%rsi)
	mov %r8d, %ecx
1:	mov 120(%rdi), %r15
	mov 112(%rdi), %r14
	mov 104(%rdi), %r13
	mov 96(%rdi), %r12
	mov 80(%rdi), %r10
	mov 72(%rdi), %r9
	mov 64(%rdi), %r8
	mov 56(%rdi), %rbp
	mov 32(%rdi), %rsi
	mov 24(%rdi), %rdx
	mov 8(%rdi), %rbx
	mov 0(%rdi), %rax
	test %ecx, %ecx
	jz 2f
	mov 128(%rdi), %rcx
	mov 48(%rdi), %rsp
	mov 40(%rdi), %rdi
	jmp *%rcx
2:	mov %ss, %ecx
	push %rcx
	push 48(%rdi)
	push 136(%rdi)
	mov %cs, %ecx
	push %rcx
	push 128(%rdi)
	mov 88(%rdi), %r11
	mov 16(%rdi), %rcx
	mov 40(%rdi), %rdi
	iretq
	.size kv_ring0_resume, . - kv_ring0_resume

	.section .note.GNU-stack, "", @progbits
