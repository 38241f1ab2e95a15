/*
 * The second page of our code in a stub: where the trampolines of rewritten system call sites go. A guest may jump
 * anywhere in it and write every word that it reads: each `syscall` here is just another guest system call, and what it
 * finds in memory is this process's own. fast.c knows at each instruction where the guest's registers are; a change
 * here is a change of st_fast_regs there.
 */
#include "platform/systrap/stub_layout.h"

/* What the table says of a number: FACT + n, or that all registers are needed, which the plain call gives (stub.S). */
#define FACT 1
#define PLAIN 7
#define TABLE_SIZE 448

	.section .rodata
	.balign 64
	.irp	name, page_start, entry, flags, packed, saved, posted, plain, own_gs, leave, left, special, \
		end, woken, page_end
	.globl systrap_fast_\name
	.hidden systrap_fast_\name
	.endr
systrap_fast_page_start:
/*
 * A call. eax = number, rcx = address behind a syscall instruction, r11 free; all others and the flags are the guest's.
 * Goes to rcx with the result in rax; or to that syscall instruction, which gives the same. No word of the guest's stack
 * is touched: it has a red zone. Nothing up to `shr` changes the flags.
 */
systrap_fast_entry:
	bswap	%rax
systrap_fast_flags:
	lahf
	seto	%al
	rdgsbase %r11
	shr	$31, %r11
systrap_fast_packed:
	cmp	$(STUB_AREAS >> 31), %r11	/* no guest memory is up there, so no GS base of the guest's own */
	jne	systrap_fast_own_gs
	mov	%rax, %gs:AREA_FAST + FAST_SAVE
systrap_fast_saved:
	bswap	%rax
	mov	%eax, %eax
	cmp	$TABLE_SIZE, %eax
	jae	send
	lea	table(%rip), %r11
	movzbl	(%r11, %rax), %r11d
	test	%r11d, %r11d
	jnz	systrap_fast_special
send:	mov	%rcx, %gs:AREA_FAST + FAST_IP
	cmpl	$0, %gs:AREA_FAST + FAST_ARMED
	je	systrap_fast_plain
	mov	%eax, %gs:AREA_FAST + FAST_NR
	mov	%rdi, %gs:AREA_FAST + FAST_ARG
	mov	%rsi, %gs:AREA_FAST + FAST_ARG + 8
	mov	%rdx, %gs:AREA_FAST + FAST_ARG + 16
	mov	%r10, %gs:AREA_FAST + FAST_ARG + 24
	mov	%r8, %gs:AREA_FAST + FAST_ARG + 32
	mov	%r9, %gs:AREA_FAST + FAST_ARG + 40
	movl	$FAST_POSTED, %gs:AREA_FAST + FAST_STATE
/* Waits for the answer. rdx, rcx, rax and r11 are in memory or free. */
systrap_fast_posted:
	rdtsc
	mov	%eax, %ecx
1:	pause
2:	mov	%gs:AREA_FAST + FAST_STATE, %r11d
	cmp	$FAST_DONE, %r11d
	je	done
	rdtsc
	sub	%ecx, %eax
	cmp	$FAST_POSTED, %r11d
	jne	3f
	cmpl	$0, %gs:AREA_FAST + FAST_ARMED
	je	4f
	cmp	$FAST_WITHDRAW_TICKS, %eax
	jb	1b
4:	mov	$FAST_POSTED, %eax
	mov	$FAST_FREE, %r11d
	lock cmpxchg %r11d, %gs:AREA_FAST + FAST_STATE
	jne	2b
	mov	%gs:AREA_FAST + FAST_ARG + 16, %rdx
	mov	%gs:AREA_FAST + FAST_IP, %rcx
	jmp	systrap_fast_plain
3:	cmp	$FAST_PARK, %r11d
	je	5f
	cmp	$FAST_SPIN_TICKS, %eax
	jb	1b
5:	mov	%r11d, %eax
	mov	$FAST_ASLEEP, %edx
	lock cmpxchg %edx, %gs:AREA_FAST + FAST_STATE
	jne	2b
6:	mov	$NR_ASLEEP, %eax
	syscall
systrap_fast_woken:
	cmpl	$FAST_DONE, %gs:AREA_FAST + FAST_STATE
	jne	6b
done:	mov	%gs:AREA_FAST + FAST_ARG + 16, %rdx
	mov	%gs:AREA_FAST + FAST_IP, %rcx
	mov	%gs:AREA_FAST + FAST_SAVE, %rax
	add	$0x7f, %al
	sahf
	mov	%gs:AREA_FAST + FAST_RESULT, %rax
	jmp	*%rcx

/* Nobody looks at posts, or all registers are needed: the system call itself. rcx: behind it. */
systrap_fast_plain:
	mov	%gs:AREA_FAST + FAST_SAVE, %rax
/* The guest has a GS base of its own: there is no memory to keep anything in. */
systrap_fast_own_gs:
	add	$0x7f, %al
	sahf
	lea	-2(%rcx), %rcx
systrap_fast_leave:
	bswap	%rax
systrap_fast_left:
	mov	%eax, %eax
	jmp	*%rcx

/* Not a call to post: a fact, or one whose signal gives the sentry all registers. */
systrap_fast_special:
	cmp	$PLAIN, %r11d
	je	systrap_fast_plain
	mov	%gs:AREA_FAST + FAST_FACTS, %eax
	bt	%r11d, %eax
	jnc	2f
	mov	%gs:AREA_FAST + FAST_FACT - 4(, %r11, 4), %r11d
	mov	%gs:AREA_FAST + FAST_SAVE, %rax
	add	$0x7f, %al			/* OF */
	sahf
	mov	%r11d, %eax
	jmp	*%rcx
2:	mov	%gs:AREA_FAST + FAST_SAVE, %rax
	bswap	%rax
	mov	%eax, %eax
	jmp	send
systrap_fast_end:

table:
	.macro	row nr, what
	.org	table + \nr
	.byte	\what
	.endm
	row	15, PLAIN			/* rt_sigreturn */
	row	39, FACT + 0			/* getpid */
	row	56, PLAIN			/* clone */
	row	57, PLAIN			/* fork */
	row	58, PLAIN			/* vfork */
	row	59, PLAIN			/* execve */
	row	102, FACT + 2			/* getuid */
	row	104, FACT + 4			/* getgid */
	row	107, FACT + 3			/* geteuid */
	row	108, FACT + 5			/* getegid */
	row	131, PLAIN			/* sigaltstack */
	row	186, FACT + 1			/* gettid */
	row	322, PLAIN			/* execveat */
	row	435, PLAIN			/* clone3 */
	.org	table + TABLE_SIZE
	.org	systrap_fast_page_start + 4096
systrap_fast_page_end:
	.section .note.GNU-stack, "", @progbits
