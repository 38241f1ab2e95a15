/* Addresses and offsets shared by stub.S and the C side. The guest's range ends at STUB_GUEST_MAX. */
#ifndef PLATFORM_SYSTRAP_STUB_LAYOUT_H
#define PLATFORM_SYSTRAP_STUB_LAYOUT_H

#define STUB_TASK_SIZE 0x7ffffffff000
#define STUB_CODE 0x7fffffffe000 /* one page, read and execute: the code in stub.S and the filters */
#define STUB_ARGS 0x7fffffffa000 /* read only: struct stub_args; written by the sentry */
#define STUB_ARGS_SIZE 0x4000
#define STUB_REQ 0x7fffffff9000 /* zygote only: mailbox; unmapped before a guest runs */
#define STUB_FAST 0x7fffffff8000 /* one page, read and execute: the code in fast.S */
#define STUB_AREAS 0x7fff80000000 /* one struct area for each thread of the space, read and write */
#define STUB_AREA_SIZE 0x8000
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

/* struct stub_req */
#define REQ_SEQ 0
#define REQ_DONE 4
#define REQ_PID 8
#define REQ_ARGS_OFFSET 16

/* struct stub_args */
#define ARGS_SEQ 0
#define ARGS_CMD 4
#define ARGS_EVENT_FD 8
#define ARGS_COUNT 16
#define ARGS_AREA 24
#define ARGS_STACK 32
#define ARGS_VALUE 64
#define ARGS_OP 4096
#define OP_SIZE 64
#define CMD_BATCH 0
#define CMD_BIRTH 1
#define BIRTH_YIELDS 4000000

/* struct area: a block that the restoring code reads, then the signal stack */
#define AREA_MAILBOX 0 /* newborn's listener; the same place as the first register */
#define AREA_FS_BASE 168
#define AREA_GS_BASE 176
#define AREA_FPU 256
#define AREA_FAST 0x3e00 /* struct fast: the fast path's shared memory */
#define AREA_STACK 0x4000

/*
 * struct fast. Guest code reaches it through its GS base, which is the address of the thread's area as long as the guest
 * has not asked for another (then: the slow path). All words are hostile to the sentry.
 */
#define FAST_STATE 0  /* u32, enum fast_state */
#define FAST_ARMED 4  /* u32: the task thread looks at the state word */
#define FAST_FACTS 8  /* u32: bit n set: fact n is valid */
#define FAST_FACT 16  /* u32 each, enum platform_fact */
#define FAST_NR 64    /* a posted call: number, six arguments (rdi rsi rdx r10 r8 r9), address behind the call, stack */
#define FAST_ARG 72
#define FAST_IP 120
#define FAST_SP 128
#define FAST_RESULT 136
#define FAST_SAVE 144 /* the entry's own words, up to FAST_SIZE */
#define FAST_SIZE 256

/* Words of a signal frame that nobody else uses */
#define FRAME_GS_BASE 0
#define FRAME_FS_BASE 16

/* Number of the report from our signal handler: no system call has it. */
#define NR_REPORT 5000

/* CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_PROCESS (0x400 | 0x200 | 0x8000 | 0x100000 | 0x800000 | 17)
/* CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_THREAD (0x100 | 0x400 | 0x200 | 0x8000 | 0x800000 | 17)

#endif
