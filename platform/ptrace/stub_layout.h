/* Addresses and offsets shared by stub.S and the C side. The guest's range ends below STUB_REQ. */
#ifndef PLATFORM_PTRACE_STUB_LAYOUT_H
#define PLATFORM_PTRACE_STUB_LAYOUT_H

#define STUB_TASK_SIZE 0x7ffffffff000
#define STUB_CODE 0x7fffffffe000 /* one page, read and execute: the code in stub.S and the filter */
#define STUB_ARGS 0x7fffffffa000 /* read only: operations of a batch; written by the sentry */
#define STUB_ARGS_SIZE 0x4000
#define STUB_REQ 0x7fffffff9000 /* zygote only: mailbox; unmapped before a guest runs */
#define STUB_GUEST_MIN 0x10000
#define STUB_GUEST_MAX 0x7fffffff0000

/* struct stub_req */
#define REQ_SEQ 0
#define REQ_DONE 4
#define REQ_PID 8
#define REQ_ARGS_OFFSET 16

/* struct stub_op */
#define OP_SIZE 64

/* CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_PROCESS (0x400 | 0x200 | 0x8000 | 0x100000 | 0x800000 | 17)
/* CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_THREAD (0x100 | 0x400 | 0x200 | 0x8000 | 0x800000 | 17)

#endif
