/*
 * The only code of ours in a stub process: one page, position independent, no stack, no data but
 * registers and the pages that stub_layout.h names. It is copied into a memfd page that every stub
 * maps read-execute. A guest may jump into it: under PTRACE_SYSEMU each `syscall` below is then just
 * another guest system call.
 */
#include "platform/ptrace/stub_layout.h"

#define NR_MMAP 9
#define NR_MUNMAP 11
#define NR_PAUSE 34
#define NR_CLONE 56
#define NR_EXIT 60
#define NR_PRCTL 157
#define NR_FUTEX 202
#define NR_SECCOMP 317

	.section .rodata
	.balign 64
	.globl stub_page_start
	.globl stub_zygote
	.globl stub_batch
	.globl stub_clone
	.globl stub_filter_prog
	.globl stub_page_end
	.hidden stub_page_start
	.hidden stub_zygote
	.hidden stub_batch
	.hidden stub_clone
	.hidden stub_filter_prog
	.hidden stub_page_end

stub_page_start:
/*
 * The zygote's birth, entered once in a temporary mapping of this page.
 * r12 = address of that mapping, r13 = fd of this page, r14 = fd of the argument file.
 */
stub_zygote:
	mov	$NR_MUNMAP, %eax
	xor	%edi, %edi
	mov	%r12, %rsi
	syscall
	mov	$NR_MUNMAP, %eax
	lea	4096(%r12), %rdi
	mov	$STUB_TASK_SIZE, %rsi
	sub	%rdi, %rsi
	syscall
	mov	$NR_MMAP, %eax			/* this page at its final place */
	mov	$STUB_CODE, %rdi
	mov	$4096, %esi
	mov	$5, %edx			/* PROT_READ | PROT_EXEC */
	mov	$0x11, %r10d			/* MAP_SHARED | MAP_FIXED */
	mov	%r13, %r8
	xor	%r9d, %r9d
	syscall
	mov	$NR_MMAP, %eax			/* the mailbox: first page of the argument file */
	mov	$STUB_REQ, %rdi
	mov	$4096, %esi
	mov	$3, %edx
	mov	$0x11, %r10d
	mov	%r14, %r8
	xor	%r9d, %r9d
	syscall
	mov	$(STUB_CODE), %rax
	lea	zygote_home - stub_page_start(%rax), %rax
	jmp	*%rax
zygote_home:
	mov	$NR_MUNMAP, %eax
	mov	%r12, %rdi
	mov	$4096, %esi
	syscall
	mov	$STUB_REQ, %rbx
	mov	REQ_SEQ(%rbx), %r15d
	mov	$NR_SECCOMP, %eax
	mov	$1, %edi			/* SECCOMP_SET_MODE_FILTER */
	xor	%esi, %esi
	lea	stub_filter_prog(%rip), %rdx
	syscall
	mov	%eax, REQ_PID(%rbx)		/* 0, or -errno for the parent to see */
report:
	movl	$1, REQ_DONE(%rbx)
	mov	$NR_FUTEX, %eax
	lea	REQ_DONE(%rbx), %rdi
	mov	$1, %esi			/* FUTEX_WAKE */
	mov	$1, %edx
	syscall
/* Serves one clone per change of the sequence number. */
zygote_wait:
	mov	REQ_SEQ(%rbx), %edx
	cmp	%r15d, %edx
	jne	1f
	mov	$NR_FUTEX, %eax
	mov	%rbx, %rdi
	xor	%esi, %esi			/* FUTEX_WAIT */
	xor	%r10d, %r10d
	syscall
	jmp	zygote_wait
1:	mov	%edx, %r15d
	mov	$NR_CLONE, %eax
	mov	$STUB_CLONE_PROCESS, %edi
	xor	%esi, %esi
	lea	REQ_PID(%rbx), %rdx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	syscall
	test	%eax, %eax
	jg	zygote_wait			/* the child reports */
	jz	2f
	mov	%eax, REQ_PID(%rbx)
	jmp	report
2:	mov	$NR_MMAP, %eax			/* the newborn's own argument pages */
	mov	$STUB_ARGS, %rdi
	mov	$STUB_ARGS_SIZE, %esi
	mov	$1, %edx
	mov	$0x11, %r10d
	mov	%r14, %r8
	mov	REQ_ARGS_OFFSET(%rbx), %r9
	syscall
	cmp	$-4096, %rax
	jb	3f
	mov	%eax, REQ_PID(%rbx)
3:	mov	$NR_PRCTL, %eax
	mov	$1, %edi			/* PR_SET_PDEATHSIG */
	mov	$9, %esi
	syscall
	movl	$1, REQ_DONE(%rbx)
	mov	$NR_FUTEX, %eax
	lea	REQ_DONE(%rbx), %rdi
	mov	$1, %esi
	mov	$1, %edx
	syscall
/* Waits for its tracer, which takes all registers. */
park:
	mov	$NR_PAUSE, %eax
	syscall
	jmp	park

/* Runs r14 operations from r13 on; stops with r14 = 0, or at the failed one with its error in rax. */
stub_batch:
	test	%r14, %r14
	jz	1f
	mov	0(%r13), %rax
	mov	8(%r13), %rdi
	mov	16(%r13), %rsi
	mov	24(%r13), %rdx
	mov	32(%r13), %r10
	mov	40(%r13), %r8
	mov	48(%r13), %r9
	syscall
	cmp	$-4096, %rax
	ja	1f
	add	$OP_SIZE, %r13
	dec	%r14
	jmp	stub_batch
1:	int3
	jmp	1b

/* Clones a sibling in this address space; the pid or -errno is in rax at the stop. */
stub_clone:
	mov	$NR_CLONE, %eax
	mov	$STUB_CLONE_THREAD, %edi
	xor	%esi, %esi
	xor	%edx, %edx
	xor	%r10d, %r10d
	xor	%r8d, %r8d
	syscall
	test	%eax, %eax
	jz	2f
1:	int3
	jmp	1b
2:	mov	$NR_PRCTL, %eax
	mov	$1, %edi
	mov	$9, %esi
	syscall
	jmp	park

	.balign 8
/* struct sock_fprog and the filter; the pointer is absolute, at the page's final place. */
#define BPF(code, jt, jf, k) .short code; .byte jt, jf; .long k
#define LD_W 0x20
#define JEQ 0x15
#define JGT 0x25
#define RET 0x06
#define ALLOW 0x7fff0000
#define TRAP 0x00030000
stub_filter_prog:
	.short	(filter_end - filter) / 8
	.fill	6, 1, 0
	.quad	STUB_CODE + filter - stub_page_start
filter:
	BPF(LD_W, 0, 0, 4)				/* arch */
	BPF(JEQ, 0, 14, 0xc000003e)			/* x86_64 or trap */
	BPF(LD_W, 0, 0, 12)				/* high half of the instruction pointer */
	BPF(JEQ, 0, 12, STUB_CODE >> 32)
	BPF(LD_W, 0, 0, 8)				/* low half: inside the code page */
	BPF(JGT, 0, 10, STUB_CODE & 0xffffffff)
	BPF(JGT, 9, 0, (STUB_CODE & 0xffffffff) + 4096)
	BPF(LD_W, 0, 0, 0)				/* number */
	BPF(JEQ, 6, 0, NR_MMAP)
	BPF(JEQ, 5, 0, 10)				/* mprotect */
	BPF(JEQ, 4, 0, NR_MUNMAP)
	BPF(JEQ, 3, 0, NR_CLONE)
	BPF(JEQ, 2, 0, NR_PAUSE)
	BPF(JEQ, 1, 0, NR_FUTEX)
	BPF(JEQ, 0, 1, NR_PRCTL)
	BPF(RET, 0, 0, ALLOW)
	BPF(RET, 0, 0, TRAP)
filter_end:
	.org stub_page_start + 4096		/* refuses a page that has grown too long */
stub_page_end:
	.section .note.GNU-stack, "", @progbits
