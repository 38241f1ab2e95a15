/* Addresses and offsets shared by stub.S and the C side. The guest's range ends at STUB_GUEST_MAX. */
#ifndef PLATFORM_SYSTRAP_STUB_LAYOUT_H
#define PLATFORM_SYSTRAP_STUB_LAYOUT_H

#include "platform/stub/layout.h"

#define STUB_FAST 0x7fffffff8000 /* one page, read and execute: the code in fast.S */
/*
 * One private page, read and write, that the sentry writes by process_vm_writev: the command line that the host's process
 * lists show. The host shows no argument area that is a file's, as all of a guest's memory is.
 */
#define STUB_TITLE 0x7fffffff7000
#define STUB_TITLE_SIZE 256 /* the last byte is not 0: the host then shows one string */
#define STUB_AREAS 0x7fff80000000 /* one struct area for each thread of the space, read and write */
#define STUB_AREA_BITS 15
#define STUB_AREA_SIZE (1 << STUB_AREA_BITS)
#define STUB_AREA_COUNT 0xc000
/*
 * Trampolines of rewritten sites and the words through which sites jump to them, for each address space its own (read,
 * execute). A site is `jmp *slot`, ff 24 25 and four bytes of address: the last two, where a syscall instruction was, are
 * 06 00, which no processor accepts in 64-bit mode.
 */
#define STUB_SITES 0x60000
#define STUB_SITES_SIZE 0x10000
#define STUB_GUEST_MIN 0x70000
#define STUB_GUEST_MAX 0x7fff70000000

/* struct stub_args */
#define ARGS_SEQ 0
#define ARGS_CMD 4
#define ARGS_EVENT_FD 8
#define ARGS_COUNT 16
#define ARGS_AREA 24
#define ARGS_STACK 32
#define ARGS_VALUE 64
#define ARGS_POWER 2048
#define ARGS_OP 4096
#define CMD_BATCH 0 /* operations; the answer is how many the host did */
#define CMD_BIRTH 1 /* operations and, when all are done, a guest thread; the answer is their count and a BIRTH_* */
#define CMD_WHO 2   /* the answer is the pid of the last newborn, in several writes */
#define BIRTH_READY 1
#define BIRTH_REFUSED 2 /* the host makes no process */
#define BIRTH_UNSURE 3  /* it says nothing of its listener */
#define BIRTH_YIELDS 8 /* each may cost what is left of another's time slice */
#define BIRTH_CYCLES 8000000

/* struct area: a block that the restoring code reads, then the signal stack */
#define AREA_MAILBOX 0 /* newborn's listener; the same place as the first register */
#define AREA_FS_BASE 168
#define AREA_GS_BASE 176
#define AREA_FPU 256
#define AREA_FAST 0x3e00 /* struct fast: the fast path's shared memory */
#define AREA_STACK 0x4000
#define AREA_NO_FRAME 0x7e00 /* end of the signal stack; a frame that no signal has made: see st_no_frame */

/*
 * struct fast. Guest code reaches it through its GS base, which is the address of the thread's area as long as the guest
 * has not asked for another (then: the slow path). All words are hostile to the sentry. A call and its answer are one
 * cache line; words that hardly change and words that the sentry does not need are others.
 */
#define FAST_STATE 0 /* u32, FAST_FREE ... */
#define FAST_NR 4    /* u32: a posted call's number */
#define FAST_ARG 8   /* its six arguments (rdi rsi rdx r10 r8 r9) */
#define FAST_RESULT FAST_ARG
#define FAST_IP 56     /* the address behind the call, also of one that is not posted */
#define FAST_ARMED 128 /* u32: the task thread looks at the state word */
#define FAST_FACTS 132 /* u32: bit n + 1 set: fact n is valid */
#define FAST_FACT 136  /* u32 each, enum platform_fact */
#define FAST_SAVE 192  /* the entry's: number (big endian) and flags (lahf, seto) of the call */
#define FAST_SIZE 256

/* FAST_STATE; who changes it: the thread (T), the sentry (S) */
#define FAST_FREE 0   /* T (takes a post back), S */
#define FAST_POSTED 1 /* T: the call's words are written */
#define FAST_TAKEN 2  /* S, from POSTED: it does the call */
#define FAST_PARK 3   /* S, from TAKEN: it sleeps before it answers */
#define FAST_ASLEEP 4 /* T, from TAKEN or PARK: it will make the call NR_ASLEEP, and again until DONE */
#define FAST_DONE 5   /* S, from any: FAST_RESULT is there */

/* Ticks of the TSC. A post is taken back, and the result of one that was taken not spun for any longer. */
#define FAST_WITHDRAW_TICKS 8000
#define FAST_SPIN_TICKS 48000

/* Words of a signal frame that nobody else uses */
#define FRAME_GS_BASE 0
#define FRAME_FS_BASE 16
/* and words of the kernel's */
#define FRAME_RDI 112
#define FRAME_RCX 160
#define FRAME_RSP 168
#define FRAME_RIP 176
#define FRAME_SIGNO 312
#define STUB_KICK 23 /* SIGURG */

/* Number of the report from our signal handler: no system call has it. */
#define NR_REPORT 5000
/* A thread that waits for the result of a posted call. */
#define NR_ASLEEP 5001

#endif
