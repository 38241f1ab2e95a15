/*
 * Pieces of stub.S that are the same in every backend, which includes this file. A zygote and what it becomes keep
 * r12 = its temporary mapping of the page (until ZYGOTE_HOME), r13 = fd of the code file, r14 = fd of the argument file,
 * rbx = a page with a sequence number at 0, r15d = the last one that was seen. Each piece uses the argument registers of a
 * system call, rax, rcx and r11.
 */
#include "platform/stub/layout.h"

#define NR_WRITE 1
#define NR_MMAP 9
#define NR_MPROTECT 10
#define NR_MUNMAP 11
#define NR_CLONE 56
#define NR_PRCTL 157
#define NR_FUTEX 202
#define NR_SECCOMP 317

/* Unmaps all but the page at r12, vDSO and stack included, and maps the code at its final place. */
.macro ZYGOTE_MOVE
	mov	$NR_MUNMAP, %eax
	xor	%edi, %edi
	mov	%r12, %rsi
	syscall
	mov	$NR_MUNMAP, %eax
	lea	4096(%r12), %rdi
	mov	$STUB_TASK_SIZE, %rsi
	sub	%rdi, %rsi
	syscall
	mov	$NR_MMAP, %eax
	mov	$STUB_CODE, %rdi
	mov	$4096, %esi
	mov	$5, %edx			/* PROT_READ | PROT_EXEC */
	mov	$0x11, %r10d			/* MAP_SHARED | MAP_FIXED */
	mov	%r13, %r8
	xor	%r9d, %r9d
	syscall
.endm

/* Maps the mailbox, the first page of the argument file, and goes on in the final place. page: where ours starts. */
.macro ZYGOTE_HOME page
	mov	$NR_MMAP, %eax
	mov	$STUB_REQ, %rdi
	mov	$4096, %esi
	mov	$3, %edx
	mov	$0x11, %r10d
	mov	%r14, %r8
	xor	%r9d, %r9d
	syscall
	mov	$(STUB_CODE), %rax
	lea	.Lhome\@ - \page(%rax), %rax
	jmp	*%rax
.Lhome\@:
	mov	$NR_MUNMAP, %eax
	mov	%r12, %rdi
	mov	$4096, %esi
	syscall
.endm

/* rbx = the mailbox; loads the filter that all stubs inherit. The mailbox says how that went: 0, or -errno. */
.macro ZYGOTE_FILTER prog
	mov	$STUB_REQ, %rbx
	mov	REQ_SEQ(%rbx), %r15d
	mov	$NR_SECCOMP, %eax
	mov	$1, %edi			/* SECCOMP_SET_MODE_FILTER */
	xor	%esi, %esi
	lea	\prog(%rip), %rdx
	syscall
	mov	%eax, REQ_PID(%rbx)
.endm

/* Tells who waits for the mailbox's `done`. */
.macro ZYGOTE_DONE
	movl	$1, REQ_DONE(%rbx)
	mov	$NR_FUTEX, %eax
	lea	REQ_DONE(%rbx), %rdi
	mov	$1, %esi			/* FUTEX_WAKE */
	mov	$1, %edx
	syscall
.endm

/* Waits until the sequence number is another one. */
.macro STUB_WAIT
.Lwait\@:
	mov	(%rbx), %edx
	cmp	%r15d, %edx
	jne	.Lnext\@
	mov	$NR_FUTEX, %eax
	mov	%rbx, %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	xor	%r10d, %r10d
	syscall
	jmp	.Lwait\@
.Lnext\@:
	mov	%edx, %r15d
.endm

/* Clones a stub process that the sentry is the parent of. eax, whose flags are set, and REQ_PID: as of clone. */
.macro ZYGOTE_CLONE
	mov	$NR_CLONE, %eax
	mov	$STUB_CLONE_PROCESS, %edi
	xor	%esi, %esi
	lea	REQ_PID(%rbx), %rdx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	syscall
	test	%eax, %eax
.endm

/* The newborn's own argument pages. Flags: below if that worked, else rax = -errno. */
.macro STUB_MAP_ARGS
	mov	$NR_MMAP, %eax
	mov	$STUB_ARGS, %rdi
	mov	$STUB_ARGS_SIZE, %esi
	mov	$1, %edx
	mov	$0x11, %r10d
	mov	%r14, %r8
	mov	REQ_ARGS_OFFSET(%rbx), %r9
	syscall
	cmp	$-4096, %rax
.endm

/* Dies with its parent. */
.macro STUB_PDEATHSIG
	mov	$NR_PRCTL, %eax
	mov	$1, %edi			/* PR_SET_PDEATHSIG */
	mov	$9, %esi
	syscall
.endm

/* Clones a sibling in this address space: eax. */
.macro STUB_CLONE
	mov	$NR_CLONE, %eax
	mov	$STUB_CLONE_THREAD, %edi
	xor	%esi, %esi
	xor	%edx, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	syscall
.endm

/* Makes the call of the struct stub_op at r13. Flags: above if that failed, rax = -errno. */
.macro STUB_OP
	mov	0(%r13), %rax
	mov	8(%r13), %rdi
	mov	16(%r13), %rsi
	mov	24(%r13), %rdx
	mov	32(%r13), %r10
	mov	40(%r13), %r8
	mov	48(%r13), %r9
	syscall
	cmp	$-4096, %rax
.endm
