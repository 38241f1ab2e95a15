/*
 * System call handlers: prototypes sys_NAME made from syscalls.def, and the table that dispatch,
 * strace and the documentation use.
 *
 * A handler runs on the task's thread without locks and returns a value >= 0, -errno or a restart
 * code (core/errno.h). Pointers are uaddr_t: copied once, then checked.
 */
#ifndef SENTRY_SYSCALLS_SYSCALLS_H
#define SENTRY_SYSCALLS_SYSCALLS_H

#include "sentry/core/umem.h"
#include "sentry/kernel/task.h"

enum arg_kind {
	ARG_END,
#define ARGKIND(kind, type, conv, fmt) ARG_##kind,
#include "sentry/syscalls/argkind.def"
#undef ARGKIND
};

#define ARGKIND(kind, type, conv, fmt) typedef type arg_##kind##_t;
#include "sentry/syscalls/argkind.def"
#undef ARGKIND

#define SC_DECL_(kind, name) , arg_##kind##_t name##_
#define SC_DECL(pair) SC_DECL_ pair
#define SC_DECLS0()
#define SC_DECLS1(a) SC_DECL(a)
#define SC_DECLS2(a, ...) SC_DECL(a) SC_DECLS1(__VA_ARGS__)
#define SC_DECLS3(a, ...) SC_DECL(a) SC_DECLS2(__VA_ARGS__)
#define SC_DECLS4(a, ...) SC_DECL(a) SC_DECLS3(__VA_ARGS__)
#define SC_DECLS5(a, ...) SC_DECL(a) SC_DECLS4(__VA_ARGS__)
#define SC_DECLS6(a, ...) SC_DECL(a) SC_DECLS5(__VA_ARGS__)

#define SYSCALL(x86, arm64, name, support, note, n, ...)                                           \
	int64_t sys_##name(struct task *t CAT(SC_DECLS, n)(__VA_ARGS__));
#define SYSERR(...)
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR

enum syscall_support { SUPPORT_NONE, SUPPORT_PARTIAL, SUPPORT_FULL };

struct syscall_arg {
	enum arg_kind kind;
	const char *name;
};

struct syscall_desc {
	int64_t (*call)(struct task *t, const uint64_t arg[6]);
	const char *name, *note;
	enum syscall_support support;
	int error; /* of SYSERR rows */
	uint8_t arg_count;
	struct syscall_arg arg[6];
	_Atomic uint64_t count, unsupported_count;
};

/* NULL: no such number. */
struct syscall_desc *syscall_by_number(int64_t nr);
/* Every row in table order; for documentation and counters. */
struct syscall_desc *syscall_table(size_t *ret_count);

/* Runs system call nr of the current task: seccomp and ptrace are the caller's business. Counts, traces. */
int64_t syscall_dispatch(struct task *t, int64_t nr, const uint64_t arg[6]);

/* strace: fd < 0 turns it off; names NULL traces all. */
void strace_configure(int fd, bool on, const char *const *names, size_t count);

#endif
