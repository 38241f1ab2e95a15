/*
 * The only code of ours in a stub process: one page, position independent, no stack, no data but
 * registers and the pages that stub_layout.h names. It is copied into a memfd page that every stub
 * maps read-execute. A guest may jump into it: under PTRACE_SYSEMU each `syscall` below is then just
 * another guest system call.
 */
#include "platform/ptrace/stub_layout.h"
#include "platform/stub/pieces.S"

#define NR_PAUSE 34
#define NR_EXIT 60

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
	ZYGOTE_MOVE
	ZYGOTE_HOME stub_page_start
	ZYGOTE_FILTER stub_filter_prog
report:
	ZYGOTE_DONE
/* Serves one clone per change of the sequence number. */
zygote_wait:
	STUB_WAIT
	ZYGOTE_CLONE
	jg	zygote_wait			/* the child reports */
	jz	2f
	mov	%eax, REQ_PID(%rbx)
	jmp	report
2:	STUB_MAP_ARGS
	jb	3f
	mov	%eax, REQ_PID(%rbx)
3:	STUB_PDEATHSIG
	ZYGOTE_DONE
/* Waits for its tracer, which takes all registers. */
park:
	mov	$NR_PAUSE, %eax
	syscall
	jmp	park

/* Runs r14 operations from r13 on; stops with r14 = 0, or at the failed one with its error in rax. */
stub_batch:
	test	%r14, %r14
	jz	1f
	STUB_OP
	ja	1f
	add	$OP_SIZE, %r13
	dec	%r14
	jmp	stub_batch
1:	int3
	jmp	1b

/* Clones a sibling in this address space; the pid or -errno is in rax at the stop. */
stub_clone:
	STUB_CLONE
	test	%eax, %eax
	jz	2f
1:	int3
	jmp	1b
2:	STUB_PDEATHSIG
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
