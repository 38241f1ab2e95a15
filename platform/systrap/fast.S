/*
 * The second page of our code in a stub: where the trampolines of rewritten system call sites go. A guest may jump
 * anywhere in it and write every word that it reads: each `syscall` here is just another guest system call.
 */
#include "platform/systrap/stub_layout.h"

	.section .rodata
	.balign 64
	.globl systrap_fast_page_start
	.hidden systrap_fast_page_start
	.globl systrap_fast_entry
	.hidden systrap_fast_entry
	.globl systrap_fast_page_end
	.hidden systrap_fast_page_end
systrap_fast_page_start:
/*
 * A call. rax = number, rcx = address behind the replaced instructions, r11 free; all others are the guest's. Goes to rcx
 * with the result in rax, as the call would.
 */
systrap_fast_entry:
	ud2 /* no site is rewritten yet */
	.org systrap_fast_page_start + 4096
systrap_fast_page_end:
	.section .note.GNU-stack, "", @progbits
