/* Seccomp of guest tasks (seccomp(2)): strict mode, filters, and listeners that answer for them. */
#ifndef SENTRY_KERNEL_SECCOMP_H
#define SENTRY_KERNEL_SECCOMP_H

#include "sentry/kernel/task.h"

enum seccomp_do {
	SECCOMP_DO_ALLOW,
	SECCOMP_DO_RETURN, /* do not run it; the result is *ret */
	SECCOMP_DO_STOP,   /* for the tracer (SECCOMP_RET_TRACE) */
	SECCOMP_DO_KILL,   /* the task is ending */
};
/* Judges the system call in t->ctx->syscall; task thread, no locks; sleeps for a listener. A tracer may change the call
 * meanwhile. */
enum seccomp_do seccomp_check(struct task *t, int64_t *ret);
/* Whether a filter is all that watches t's calls and it lets those pass that the platform may answer itself. Task thread. */
bool seccomp_facts_allowed(const struct task *t);

/* One instruction of classic BPF, as the guest gives it. */
struct bpf_insn {
	uint16_t code;
	uint8_t jt, jf;
	uint32_t k;
};
struct seccomp_filter;
struct seccomp_notify;
struct seccomp_data;
struct file;
/* Checks a program of count instructions and makes a filter of it (flags: SECCOMP_FILTER_FLAG_*) that stands before prev, whose
 * reference is taken over on success. -EINVAL, -ENOMEM (also: too many instructions on the way to the last one). */
NODISCARD int seccomp_filter_new(struct seccomp_filter *prev, const struct bpf_insn *insn, unsigned count, uint32_t flags,
				 struct seccomp_filter **ret_filter);
struct seccomp_filter *seccomp_filter_get(struct seccomp_filter *f);
void seccomp_filter_put(struct seccomp_filter *f); /* accepts NULL */
/* Installs a new filter on the calling task (log, tsync flags); notify, borrowed, is asked for SECCOMP_RET_USER_NOTIF or NULL.
 * -EBUSY: there is a listener already. */
NODISCARD int seccomp_install(struct task *t, const struct bpf_insn *insn, unsigned count, uint32_t flags,
			      struct seccomp_notify *notify);
/* Has f or a filter before it a listener? f may be NULL. Task thread of a task that has f. */
bool seccomp_has_listener(const struct seccomp_filter *f);
/* What the first execve of a process that starts with filter f (or NULL) gives: 0, or a negative errno. */
int seccomp_start_verdict(const struct seccomp_filter *f);
/* How many filters t has. Any thread; not under taskset_mu. */
int seccomp_filter_count(const struct task *t);

/* seccomp_bpf.c, pure functions. Is the program one that seccomp accepts? 0 or -EINVAL. */
NODISCARD int seccomp_bpf_check(const struct bpf_insn *insn, unsigned count);
/* Runs a checked program over a seccomp_data image of 64 bytes. */
uint32_t seccomp_bpf_run(const struct bpf_insn *insn, unsigned count, const uint8_t data[64]);
#define SECCOMP_CALLS 512u
/* Sets bit nr of allow for each call of x86-64 that a checked program allows whatever its arguments are. May miss some: only
 * comparisons of number and architecture are understood (what libseccomp and Linux's own cache use). */
void seccomp_bpf_allows(const struct bpf_insn *insn, unsigned count, uint64_t allow[SECCOMP_CALLS / 64]);

/* seccomp_notify.c: SECCOMP_FILTER_FLAG_NEW_LISTENER, seccomp_unotify(2). Makes a listener and its file; *ret_notify is
 * borrowed from the file. */
NODISCARD int seccomp_listener_new(const struct cred *cred, struct file **ret_file, struct seccomp_notify **ret_notify);
struct seccomp_notify *seccomp_notify_get(struct seccomp_notify *n);
void seccomp_notify_put(struct seccomp_notify *n);
/* The filter is gone: nobody will ask any more. Any thread. */
void seccomp_notify_unused(struct seccomp_notify *n);
/* Asks the listener about t's call d and sleeps until it answers; past signals too once it was seen, if killable. Task thread. */
enum seccomp_do seccomp_notify_ask(struct seccomp_notify *n, struct task *t, const struct seccomp_data *d, bool killable,
				   int64_t *ret);

#endif
