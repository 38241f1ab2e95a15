/* What stub.S of every backend and the C side agree on: addresses at the top of a stub's memory and offsets. */
#ifndef PLATFORM_STUB_LAYOUT_H
#define PLATFORM_STUB_LAYOUT_H

#define STUB_TASK_SIZE 0x7ffffffff000
#define STUB_CODE 0x7fffffffe000 /* one page, read and execute: the code in stub.S and the filters */
#define STUB_ARGS 0x7fffffffa000 /* read only: argument pages of an address space; written by the sentry */
#define STUB_ARGS_SIZE 0x4000
#define STUB_REQ 0x7fffffff9000 /* zygote only: mailbox; unmapped before a guest runs */

/* struct zygote_mailbox */
#define REQ_SEQ 0
#define REQ_DONE 4
#define REQ_PID 8
#define REQ_EVENT_FD 12
#define REQ_ARGS_OFFSET 16
#define REQ_FAILED 24

/* struct stub_op */
#define OP_SIZE 64

/* CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_PARENT_SETTID | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_PROCESS (0x400 | 0x200 | 0x8000 | 0x100000 | 0x800000 | 17)
/* CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_PARENT | CLONE_UNTRACED | SIGCHLD */
#define STUB_CLONE_THREAD (0x100 | 0x400 | 0x200 | 0x8000 | 0x800000 | 17)

#endif
