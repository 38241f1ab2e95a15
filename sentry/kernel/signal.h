/* Signals (signal(7)): sets, queues, actions, sending and delivery. */
#ifndef SENTRY_KERNEL_SIGNAL_H
#define SENTRY_KERNEL_SIGNAL_H

#include "platform/base/list.h"
#include "platform/base/refcount.h"
#include "sentry/core/uaddr.h"

#define GUEST_NSIG 64
typedef uint64_t sigset_kernel; /* bit n-1: signal n */
#define SIGMASK(n) (1ull << ((n)-1))
#define SIGMASK_UNBLOCKABLE (SIGMASK(9) | SIGMASK(19))

/* siginfo_t of the ABI, 128 bytes, as it will be copied out. */
struct guest_siginfo {
	int32_t signo, err, code, pad;
	union {
		uint8_t raw[112];
		struct { int32_t pid; uint32_t uid; uint64_t value; } kill; /* kill, rt (value) */
		struct { int32_t pid; uint32_t uid; int32_t status, pad1; int64_t utime, stime; } chld;
		struct { int32_t tid, overrun; uint64_t value; } timer;
		struct { uint64_t addr; int16_t addr_lsb; } fault;
		struct { int64_t band; int32_t fd; } poll;
		struct { uint64_t call_addr; int32_t syscall; uint32_t arch; } sys;
	};
};
_Static_assert(sizeof(struct guest_siginfo) == 128, "siginfo_t is 128 bytes");

#define GUEST_SI_USER 0
#define GUEST_SI_KERNEL 0x80
#define GUEST_SI_QUEUE (-1)
#define GUEST_SI_TIMER (-2)
#define GUEST_SI_MESGQ (-3)
#define GUEST_SI_SIGIO (-5)
#define GUEST_SI_TKILL (-6)

struct sigqueue_item {
	struct list_node node;
	struct guest_siginfo info;
	void *timer; /* POSIX timer whose pre-allocated item this is, or NULL */
};
struct sigqueue {
	sigset_kernel set;
	struct list_node items; /* of real-time and information-carrying signals, per signal in order */
	unsigned count;
};

struct guest_sigaction {
	uint64_t handler, flags, restorer;
	sigset_kernel mask;
};
struct signal_handlers {
	struct refcount refs;
	struct guest_sigaction action[GUEST_NSIG];
};

struct task;
struct thread_group;
struct process_group;
struct container;

/* Sending. info->signo is set; the caller has checked permission. All take taskset_mu unless _locked.
 * Return 0, or -EAGAIN when the queue limit (RLIMIT_SIGPENDING) refuses a real-time signal. */
int signal_send_task(struct task *t, const struct guest_siginfo *info);
int signal_send_group(struct thread_group *tg, const struct guest_siginfo *info);
int signal_send_group_locked(struct thread_group *tg, const struct guest_siginfo *info);
int signal_send_task_locked(struct task *t, const struct guest_siginfo *info);
/* A timer's signal to t (tg NULL) or tg; at most one item of a timer is queued: false when one is
 * already pending, whose overrun then grows by info's and one. tag names the timer; see signal_timer_forget. */
bool signal_send_timer(struct task *t, struct thread_group *tg, const struct guest_siginfo *info,
		void *tag);
/* Drops queued items of the timer (timer_delete). */
void signal_timer_forget(struct thread_group *tg, void *tag);
int signal_send_pgrp(struct process_group *pg, const struct guest_siginfo *info);
int signal_send_pgrp_locked(struct process_group *pg, const struct guest_siginfo *info);
/* A synchronous signal (fault) that cannot be blocked or ignored; current task. */
void signal_force(struct task *t, const struct guest_siginfo *info);
/* Kernel-made: SI_KERNEL or SI_USER from the current task. */
struct guest_siginfo siginfo_kernel(int signo);
struct guest_siginfo siginfo_user(struct task *from, int signo, int code);
/* kill(2) permission of current over tg. */
bool signal_permitted(struct task *from, struct thread_group *tg, int signo);
/* Pending and not blocked, for ppoll, sigtimedwait, signalfd. */
bool signal_pending(struct task *t);
/* Takes one pending signal in set (task's, then group's); 0 when none. For sigtimedwait and signalfd. */
int signal_dequeue(struct task *t, sigset_kernel set, struct guest_siginfo *ret_info);
/* sigtimedwait(2) sleeps between these: signals of set wake it though they are blocked. Current task. */
void signal_wait_begin(struct task *t, sigset_kernel set);
void signal_wait_end(struct task *t);
sigset_kernel signal_pending_set(struct task *t);
void signal_set_mask(struct task *t, sigset_kernel mask); /* current only; re-evaluates pending */
/* For ppoll, pselect, epoll_pwait, sigsuspend: installs mask until the call ends; the old mask comes back
 * when the call returns, or is what a handler's frame saves. Call signal_mask_restore when the call
 * ended without -EINTR or a restart code; otherwise the exit path does it. */
void signal_mask_replace(struct task *t, sigset_kernel mask);
void signal_mask_restore(struct task *t);
/* sigaction(2): sets (new may be NULL) and returns the old action; drops signals that are ignored now. */
void signal_action(struct task *t, int signo, const struct guest_sigaction *act,
		struct guest_sigaction *ret_old);
/* Is tg a member of pg now? Has it died? Take taskset_mu. */
bool thread_group_in(struct thread_group *tg, const struct process_group *pg);
bool thread_group_dead(struct thread_group *tg);
/* signalfd readiness: woken with POLLIN when a signal becomes pending for t. */
struct waitq *signal_waitq(struct task *t);
/* Does the calling task's tty access need SIGTTIN/SIGTTOU? see sentry/fs/devpts */
bool signal_ignored_or_blocked(struct task *t, int signo);

#endif
