/*
 * The only code of ours in a stub process: one page, position independent, no data but registers and
 * the pages that stub_layout.h names. It is copied into a memfd page that every stub maps
 * read-execute. A guest may jump into it: each `syscall` below is then just another guest system
 * call, because a guest thread's filter turns every one into a notification.
 */
#include "platform/stub/pieces.S"
#include "platform/systrap/stub_layout.h"

#define NR_SCHED_YIELD 24
#define NR_EXIT 60
#define NR_SIGALTSTACK 131

	.section .rodata
	.balign 64
	.globl systrap_stub_page_start
	.hidden systrap_stub_page_start
	.globl systrap_stub_zygote
	.hidden systrap_stub_zygote
	.globl systrap_stub_handler
	.hidden systrap_stub_handler
	.globl systrap_stub_rest
	.hidden systrap_stub_rest
	.globl systrap_stub_reported
	.hidden systrap_stub_reported
	.globl systrap_stub_restore
	.hidden systrap_stub_restore
	.globl systrap_stub_restore_end
	.hidden systrap_stub_restore_end
	.globl systrap_stub_base_prog
	.hidden systrap_stub_base_prog
	.globl systrap_stub_guest_prog
	.hidden systrap_stub_guest_prog
	.globl systrap_stub_page_end
	.hidden systrap_stub_page_end

systrap_stub_page_start:
/*
 * The zygote's birth, entered once in a temporary mapping of this page.
 * r12 = address of that mapping, r13 = fd of our pages, r14 = fd of the argument file.
 */
systrap_stub_zygote:
	ZYGOTE_MOVE
	mov	$NR_MMAP, %eax			/* the fast path's page */
	mov	$STUB_FAST, %rdi
	mov	$4096, %esi
	mov	$5, %edx
	mov	$0x11, %r10d
	mov	%r13, %r8
	mov	$4096, %r9d
	syscall
	ZYGOTE_HOME systrap_stub_page_start
	mov	$NR_MMAP, %eax			/* the page of the command line */
	mov	$STUB_TITLE, %rdi
	mov	$4096, %esi
	mov	$3, %edx
	mov	$0x32, %r10d			/* MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED */
	mov	$-1, %r8
	xor	%r9d, %r9d
	syscall
	cmp	$-4096, %rax
	ja	1f
	lea	2048(%rax), %rdi		/* struct prctl_mm_map: eleven addresses, no auxv, no file */
	mov	%rdi, %rdx
	mov	$11, %ecx
	rep stosq
	incq	8(%rdx)				/* end_code is beyond start_code */
	subq	$4096, 48(%rdx)			/* start_stack: where nothing is */
	addq	$STUB_TITLE_SIZE, 64(%rdx)	/* arg_end */
	addq	$STUB_TITLE_SIZE, 72(%rdx)	/* env_start */
	addq	$STUB_TITLE_SIZE, 80(%rdx)	/* env_end */
	movl	$-1, 100(%rdx)			/* exe_fd */
	movb	$1, STUB_TITLE_SIZE - 1(%rax)
	mov	$NR_PRCTL, %eax			/* may fail: then no command line is shown */
	mov	$35, %edi			/* PR_SET_MM */
	mov	$14, %esi			/* PR_SET_MM_MAP */
	mov	$104, %r10d			/* its size */
	xor	%r8d, %r8d
	syscall
1:	ZYGOTE_FILTER systrap_stub_base_prog
	ZYGOTE_DONE
/* Serves one clone per change of the sequence number. */
zygote_wait:
	STUB_WAIT
	ZYGOTE_CLONE
	jg	zygote_wait			/* the child answers when it has done its first command */
	jz	2f
	xor	%r12d, %r12d
failed:	mov	%eax, REQ_PID(%rbx)
	mov	$NR_WRITE, %eax
	mov	REQ_EVENT_FD(%rbx), %edi
	lea	REQ_FAILED(%rbx), %rsi
	mov	$8, %edx
	syscall
	test	%r12d, %r12d
	jz	zygote_wait
	jmp	leave
2:	mov	$1, %r12d			/* the child */
	STUB_MAP_ARGS
	jae	failed
	STUB_PDEATHSIG
/*
 * The mapper of an address space: serves one command per change of the sequence number. The first is there
 * already.
 */
	mov	$NR_MUNMAP, %eax
	mov	$STUB_REQ, %rdi
	mov	$4096, %esi
	syscall
	mov	$STUB_ARGS, %rbx
	xor	%r15d, %r15d
	xor	%ebp, %ebp			/* pid of the last newborn */
mapper_wait:
	STUB_WAIT
	cmpl	$CMD_WHO, ARGS_CMD(%rbx)
	je	who
	lea	ARGS_OP(%rbx), %r13
	mov	ARGS_COUNT(%rbx), %r14
	xor	%r12d, %r12d			/* operations done */
2:	cmp	%r14, %r12
	je	3f
	STUB_OP
	ja	answer
	add	$OP_SIZE, %r13
	inc	%r12
	jmp	2b
3:	cmpl	$CMD_BIRTH, ARGS_CMD(%rbx)
	je	birth
/* Tells the sentry r12, by writing the constant r12 + 1 to its eventfd. */
answer:	mov	$NR_WRITE, %eax
	mov	ARGS_EVENT_FD(%rbx), %edi
	lea	ARGS_VALUE(%rbx, %r12, 8), %rsi
	mov	$8, %edx
	syscall
	jmp	mapper_wait

/* Clones a guest thread and waits until it has its listener. */
birth:	STUB_CLONE
	mov	ARGS_AREA(%rbx), %r13
	test	%eax, %eax
	jz	newborn
	lea	BIRTH_REFUSED(%r12), %r12
	js	answer
	mov	%eax, %ebp
	add	$(BIRTH_UNSURE - BIRTH_REFUSED), %r12
	rdtsc
	mov	%eax, %r10d			/* the wait is short: the low halves do */
1:	mov	$BIRTH_YIELDS, %r14d
3:	cmpl	$0, AREA_MAILBOX(%r13)
	jne	2f
	mov	$NR_SCHED_YIELD, %eax
	syscall
	dec	%r14d
	jnz	3b
	rdtsc
	sub	%r10d, %eax
	cmp	$BIRTH_CYCLES, %eax
	jb	1b
	jmp	answer
2:	sub	$(BIRTH_UNSURE - BIRTH_READY), %r12
	jmp	answer

/*
 * Tells the sentry the number in ebp: the eventfd adds up the powers of two that are written to it, and
 * 2^32 says that this was all.
 */
who:	mov	ARGS_EVENT_FD(%rbx), %edi
	lea	ARGS_POWER(%rbx), %rsi
	mov	$8, %edx
	mov	%ebp, %r13d
1:	test	$1, %r13d
	jz	2f
	mov	$NR_WRITE, %eax
	syscall
2:	add	$8, %rsi
	shr	$1, %r13d
	jnz	1b
	mov	$NR_WRITE, %eax
	lea	ARGS_POWER + 32 * 8(%rbx), %rsi
	syscall
	jmp	mapper_wait

newborn:
	STUB_PDEATHSIG
	mov	$NR_SIGALTSTACK, %eax
	lea	ARGS_STACK(%rbx), %rdi
	xor	%esi, %esi
	syscall
	test	%eax, %eax
	jnz	1f
	mov	$NR_SECCOMP, %eax
	mov	$1, %edi			/* SECCOMP_SET_MODE_FILTER */
	mov	$8, %esi			/* SECCOMP_FILTER_FLAG_NEW_LISTENER */
	lea	systrap_stub_guest_prog(%rip), %rdx
	syscall
1:	lea	AREA_NO_FRAME(%r13), %rsp
	mov	%eax, AREA_MAILBOX(%r13)
	test	%eax, %eax
	js	leave
/* A thread without a past, also one that a guest is done with: rsp = end of the signal stack, r13 = the area. */
systrap_stub_rest:
	mov	$NR_REPORT, %eax		/* not from a signal */
	xor	%edi, %edi
	mov	%r13, %rsi
	jmp	report_call
leave:	mov	$NR_EXIT, %eax
	xor	%edi, %edi
	syscall
	ud2

/*
 * The handler of all signals. The kernel has written all registers but two bases to the signal stack;
 * adds these, reports where the frame is, and restores from the block whose address is the answer.
 *
 * A kick that hits this handler or the restoring code is forgotten together with its frame, or kicks that always come
 * before this thread runs on would fill the signal stack: the handler begins again with the frame that it was about to
 * report (it changes nothing but scratch registers), or reports that registers were on their way. Bits 8 and up of rdi
 * count the notifications that were taken back so.
 */
systrap_stub_handler:
	cmpl	$STUB_KICK, FRAME_SIGNO(%rsp)
	jne	1f
	mov	FRAME_RIP(%rsp), %rax
	lea	systrap_stub_handler(%rip), %rcx
	sub	%rcx, %rax
	cmp	$(systrap_stub_restore_end - systrap_stub_handler), %rax
	jae	1f
	cmp	$(systrap_stub_reported - systrap_stub_handler), %rax
	jb	2f
	mov	%rsp, %rax
	or	$(STUB_AREA_SIZE - 1), %rax
	sub	$(STUB_AREA_SIZE - 1 - AREA_NO_FRAME), %rax
	xor	%edi, %edi
	jmp	3f
2:	mov	FRAME_RSP(%rsp), %rax
	xor	%rsp, %rax
	shr	$STUB_AREA_BITS, %rax
	jnz	1f				/* guest code that came here by itself */
	mov	FRAME_RDI(%rsp), %rdi
	lea	systrap_stub_reported(%rip), %rax
	cmp	FRAME_RCX(%rsp), %rax		/* as the syscall instruction leaves it */
	mov	FRAME_RSP(%rsp), %rax
	jne	3f
	add	$0x100, %rdi
3:	mov	%rax, %rsp
	jmp	systrap_stub_handler
1:	rdgsbase %rax
	mov	%rax, FRAME_GS_BASE(%rsp)
	rdfsbase %rax
	mov	%rax, FRAME_FS_BASE(%rsp)
	mov	%rsp, %rsi
	mov	$NR_REPORT, %eax
report_call:
	syscall
systrap_stub_reported:
systrap_stub_restore:
	mov	%rax, %rbx
	pushq	$2				/* no NT, which iretq would not forgive, no DF, no AC */
	popfq
	mov	$-1, %eax
	mov	$-1, %edx
	xrstor64 AREA_FPU(%rbx)
	mov	AREA_FS_BASE(%rbx), %rax
	wrfsbase %rax
	mov	AREA_GS_BASE(%rbx), %rax
	wrgsbase %rax
	mov	%rbx, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rsi
	pop	%rdi
	add	$8, %rsp			/* orig_rax */
	iretq
systrap_stub_restore_end:

	.balign 8
/* struct sock_fprog and the filters; the pointers are absolute, at the page's final place. */
#define BPF(code, jt, jf, k) .short code; .byte jt, jf; .long k
#define LD_W 0x20
#define JEQ 0x15
#define JGT 0x25
#define JGE 0x35
#define RET 0x06
#define ALLOW 0x7fff0000
#define TRACE 0x7ff00000
#define USER_NOTIF 0x7fc00000
#define TRAP 0x00030000
systrap_stub_base_prog:
	.short	(base_end - base_filter) / 8
	.fill	6, 1, 0
	.quad	STUB_CODE + base_filter - systrap_stub_page_start
systrap_stub_guest_prog:
	.short	(guest_end - guest_filter) / 8
	.fill	6, 1, 0
	.quad	STUB_CODE + guest_filter - systrap_stub_page_start
/*
 * Zygote, mappers and newborns: what the code of this page uses, from this page. TRACE without a tracer is
 * ENOSYS, and unlike TRAP it leaves the guest's own filter the last word.
 */
base_filter:
	BPF(LD_W, 0, 0, 4)				/* arch */
	BPF(JEQ, 0, 18, 0xc000003e)			/* x86_64 or nothing */
	BPF(LD_W, 0, 0, 12)				/* high half of the instruction pointer */
	BPF(JEQ, 0, 16, STUB_CODE >> 32)
	BPF(LD_W, 0, 0, 8)				/* low half: inside the code page */
	BPF(JGT, 0, 14, STUB_CODE & 0xffffffff)
	BPF(JGT, 13, 0, (STUB_CODE & 0xffffffff) + 4096)
	BPF(LD_W, 0, 0, 0)				/* number */
	BPF(JEQ, 10, 0, NR_MMAP)
	BPF(JEQ, 9, 0, NR_MPROTECT)
	BPF(JEQ, 8, 0, NR_MUNMAP)
	BPF(JEQ, 7, 0, NR_CLONE)
	BPF(JEQ, 6, 0, NR_WRITE)
	BPF(JEQ, 5, 0, NR_FUTEX)
	BPF(JEQ, 4, 0, NR_PRCTL)
	BPF(JEQ, 3, 0, NR_SCHED_YIELD)
	BPF(JEQ, 2, 0, NR_SIGALTSTACK)
	BPF(JEQ, 1, 0, NR_EXIT)
	BPF(JEQ, 0, 1, NR_SECCOMP)
	BPF(RET, 0, 0, ALLOW)
	BPF(RET, 0, 0, TRACE)
base_end:
/*
 * A guest thread: every call by every entry is a notification; or SIGSYS, whose handler reports all registers,
 * where these are needed anyway. Nothing is allowed.
 */
guest_filter:
	BPF(LD_W, 0, 0, 12)				/* high half of the instruction pointer */
	BPF(JEQ, 12, 0, 0xffffffff)			/* the vsyscall page */
	BPF(LD_W, 0, 0, 4)				/* arch */
	BPF(JEQ, 0, 9, 0xc000003e)
	BPF(LD_W, 0, 0, 0)				/* number */
	BPF(JGT, 3, 0, 60)
	BPF(JGE, 7, 0, 56)				/* clone, fork, vfork, execve, exit */
	BPF(JEQ, 6, 0, 15)				/* rt_sigreturn */
	BPF(RET, 0, 0, USER_NOTIF)
	BPF(JEQ, 4, 0, 131)				/* sigaltstack */
	BPF(JEQ, 3, 0, 231)				/* exit_group: an ended thread is used again */
	BPF(JEQ, 2, 0, 322)				/* execveat */
	BPF(JEQ, 1, 0, 435)				/* clone3 */
	BPF(RET, 0, 0, USER_NOTIF)
	BPF(RET, 0, 0, TRAP)
guest_end:
	.org systrap_stub_page_start + 4096	/* refuses a page that has grown too long */
systrap_stub_page_end:
	.section .note.GNU-stack, "", @progbits
