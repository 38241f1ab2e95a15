/* Signals: masks, queues, siginfo, alternate stacks, flags, permission. */
#include "tests/lib/guest.h"

#include <setjmp.h>
#include <ucontext.h>

static siginfo_t infos[32];
static int order[32];
static volatile int info_count;

static void on_info(int signo, siginfo_t *info, void *context)
{
	(void)context;
	infos[info_count] = *info;
	order[info_count] = signo;
	info_count = info_count + 1;
}

static void catch_info(int signo, int flags)
{
	struct sigaction sa = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO | flags };

	OK(sigaction(signo, &sa, NULL));
}

static void block(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
}

static void unblock_all(void)
{
	sigset_t set;

	sigemptyset(&set);
	OK(sigprocmask(SIG_SETMASK, &set, NULL));
}

TEST(siginfo_of_kill_and_tgkill)
{
	catch_info(SIGUSR1, 0);
	OK(kill(getpid(), SIGUSR1));
	CHECK_EQ(infos[0].si_code, SI_USER);
	CHECK_EQ(infos[0].si_pid, getpid());
	CHECK_EQ(infos[0].si_uid, 0);
	OK(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1));
	CHECK_EQ(infos[1].si_code, SI_TKILL);
	CHECK_EQ(info_count, 2);
}

TEST(standard_signals_merge_and_rt_queue)
{
	catch_info(SIGUSR1, 0);
	catch_info(SIGRTMIN + 2, 0);
	block(SIGUSR1);
	block(SIGRTMIN + 2);
	for (int i = 0; i < 5; i++) {
		OK(kill(getpid(), SIGUSR1));
		OK(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){ .sival_int = i }));
	}
	unblock_all();
	CHECK_EQ(info_count, 6);
	/* Handlers nest: the lowest signal's frame is made first, the last one runs first. */
	int next = 0, rt = 0;
	for (int i = 0; i < 6; i++)
		if (order[i] == SIGRTMIN + 2)
			rt++;
		else
			next++;
	CHECK_EQ(rt, 5);
	CHECK_EQ(next, 1);
}

TEST(rt_values_in_order)
{
	sigset_t set;
	siginfo_t info;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	OK(sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 1 }));
	OK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 2 }));
	OK(sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 3 }));
	CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
	CHECK_EQ(info.si_value.sival_int, 2);
	CHECK_EQ(info.si_code, SI_QUEUE);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN);
	CHECK_EQ(info.si_value.sival_int, 3);
	CHECK_EQ(sigwaitinfo(&set, &info), SIGRTMIN + 1);
}

TEST(pending_set)
{
	sigset_t set;

	block(SIGUSR2);
	OK(sigpending(&set));
	CHECK(!sigismember(&set, SIGUSR2));
	raise(SIGUSR2);
	OK(sigpending(&set));
	CHECK(sigismember(&set, SIGUSR2));
	signal(SIGUSR2, SIG_IGN);
	OK(sigpending(&set));
	CHECK(!sigismember(&set, SIGUSR2));
	ERR(syscall(SYS_rt_sigpending, BAD_PTR, 8), EFAULT);
	ERR(syscall(SYS_rt_sigpending, &set, 16), EINVAL);
}

static sigset_t seen_mask;

static void save_mask(int signo)
{
	(void)signo;
	sigprocmask(SIG_BLOCK, NULL, &seen_mask);
}

TEST(mask_in_handler)
{
	struct sigaction sa = { .sa_handler = save_mask };
	sigset_t now;

	sigaddset(&sa.sa_mask, SIGHUP);
	OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	CHECK(sigismember(&seen_mask, SIGUSR1));
	CHECK(sigismember(&seen_mask, SIGHUP));
	OK(sigprocmask(SIG_BLOCK, NULL, &now));
	CHECK(!sigismember(&now, SIGUSR1));
	sa.sa_flags = SA_NODEFER;
	OK(sigaction(SIGUSR1, &sa, NULL));
	raise(SIGUSR1);
	CHECK(!sigismember(&seen_mask, SIGUSR1));
}

static volatile int depth, max_depth;

static void nest(int signo)
{
	depth = depth + 1;
	if (depth > max_depth)
		max_depth = depth;
	if (depth < 5)
		raise(signo);
	depth = depth - 1;
}

TEST(nested_handlers)
{
	on_signal(SIGUSR1, nest, SA_NODEFER);
	raise(SIGUSR1);
	CHECK_EQ(max_depth, 5);
	CHECK_EQ(depth, 0);
}

TEST(resethand)
{
	struct sigaction now;

	on_signal(SIGUSR1, catch_signal, (int)SA_RESETHAND);
	raise(SIGUSR1);
	OK(sigaction(SIGUSR1, NULL, &now));
	CHECK(now.sa_handler == SIG_DFL);
	CHECK_EQ(caught_count, 1);
}

static char alt_stack[65536];
static volatile uintptr_t handler_sp;
static stack_t stack_in_handler;

static void note_stack(int signo)
{
	char here;

	(void)signo;
	handler_sp = (uintptr_t)&here;
	sigaltstack(NULL, &stack_in_handler);
}

TEST(alternate_stack)
{
	stack_t ss = { .ss_sp = alt_stack, .ss_size = sizeof(alt_stack) }, old;

	OK(sigaltstack(&ss, NULL));
	on_signal(SIGUSR1, note_stack, SA_ONSTACK);
	raise(SIGUSR1);
	CHECK(handler_sp - (uintptr_t)alt_stack < sizeof(alt_stack));
	CHECK_EQ(stack_in_handler.ss_flags, SS_ONSTACK);
	on_signal(SIGUSR1, note_stack, 0);
	raise(SIGUSR1);
	CHECK(handler_sp - (uintptr_t)alt_stack >= sizeof(alt_stack));
	OK(sigaltstack(NULL, &old));
	CHECK_EQ(old.ss_flags, 0);
	ss.ss_size = 100;
	ERR(sigaltstack(&ss, NULL), ENOMEM);
	ss.ss_flags = 99;
	ERR(sigaltstack(&ss, NULL), EINVAL);
	ss = (stack_t){ .ss_flags = SS_DISABLE };
	OK(sigaltstack(&ss, NULL));
	OK(sigaltstack(NULL, &old));
	CHECK_EQ(old.ss_flags, SS_DISABLE);
}

static sigjmp_buf jump;

static void jump_out(int signo)
{
	siglongjmp(jump, signo);
}

TEST(longjmp_out_of_handler)
{
	sigset_t set;

	on_signal(SIGUSR1, jump_out, 0);
	for (volatile int i = 0; i < 3; i = i + 1) {
		if (sigsetjmp(jump, 1) == 0) {
			raise(SIGUSR1);
			CHECK(!"not reached");
		}
	}
	OK(sigprocmask(SIG_BLOCK, NULL, &set));
	CHECK(!sigismember(&set, SIGUSR1));
}

static void change_registers(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)signo;
	(void)info;
	uc->uc_mcontext.gregs[REG_RIP] += 2;
	uc->uc_mcontext.gregs[REG_RAX] = 1234;
}

TEST(context_can_be_changed)
{
	struct sigaction sa = { .sa_sigaction = change_registers, .sa_flags = SA_SIGINFO };
	long value = 0;

	OK(sigaction(SIGILL, &sa, NULL));
	__asm__ volatile("ud2" : "+a"(value));
	CHECK_EQ(value, 1234);
}

TEST(floating_point_survives_handler)
{
	double a = 1.5, b = 2.25;

	on_signal(SIGUSR1, catch_signal, 0);
	for (int i = 0; i < 10; i++) {
		a = a * 1.125 + b;
		raise(SIGUSR1);
		b = b * 0.5 + 1;
	}
	double c = 1.5, d = 2.25;
	for (int i = 0; i < 10; i++) {
		c = c * 1.125 + d;
		d = d * 0.5 + 1;
	}
	CHECK(a == c && b == d);
}

TEST(fault_siginfo)
{
	catch_info(SIGSEGV, (int)SA_RESETHAND);
	CHILD(pid)
	{
		struct sigaction sa = { .sa_sigaction = change_registers, .sa_flags = SA_SIGINFO };
		OK(sigaction(SIGSEGV, &sa, NULL));
		long got = 0;
		__asm__ volatile("movb (%1), %%al" : "+a"(got) : "r"(BAD_PTR));
		CHECK_EQ(got, 1234);
	}
	WAIT_EXIT(pid, 0);
	CHILD(blocked)
	{
		block(SIGSEGV);
		*(volatile char *)BAD_PTR = 1;
	}
	WAIT_SIGNAL(blocked, SIGSEGV);
}

TEST(sigaction_errors)
{
	struct sigaction sa = { .sa_handler = SIG_IGN };

	ERR(sigaction(SIGKILL, &sa, NULL), EINVAL);
	ERR(sigaction(SIGSTOP, &sa, NULL), EINVAL);
	ERR(syscall(SYS_rt_sigaction, 65, NULL, NULL, 8), EINVAL);
	ERR(syscall(SYS_rt_sigaction, 0, NULL, NULL, 8), EINVAL);
	ERR(syscall(SYS_rt_sigaction, SIGUSR1, NULL, NULL, 4), EINVAL);
	ERR(syscall(SYS_rt_sigaction, SIGUSR1, BAD_PTR, NULL, 8), EFAULT);
	OK(sigaction(SIGKILL, NULL, &sa));
	ERR(syscall(SYS_rt_sigprocmask, 7, &sa, NULL, 8), EINVAL);
}

TEST(kill_and_stop_cannot_be_blocked)
{
	sigset_t set, now;

	sigfillset(&set);
	OK(sigprocmask(SIG_SETMASK, &set, NULL));
	OK(sigprocmask(SIG_SETMASK, NULL, &now));
	CHECK(!sigismember(&now, SIGKILL));
	CHECK(!sigismember(&now, SIGSTOP));
	CHECK(sigismember(&now, SIGTERM));
}

TEST(kill_errors_and_permission)
{
	ERR(kill(getpid(), 65), EINVAL);
	ERR(kill(999999, 0), ESRCH);
	OK(kill(getpid(), 0));
	pid_t root = getpid();
	CHILD(pid)
	{
		become_user(1000);
		ERR(kill(root, SIGTERM), EPERM);
		ERR(kill(root, 0), EPERM);
		OK(kill(getpid(), 0));
		ERR(sigqueue(root, SIGUSR1, (union sigval){ 0 }), EPERM);
	}
	WAIT_EXIT(pid, 0);
}

TEST(sigqueueinfo_rules)
{
	siginfo_t info = { .si_code = SI_USER };

	CHILD(pid)
	{
		pause();
	}
	ERR(syscall(SYS_rt_sigqueueinfo, pid, SIGUSR1, &info), EPERM);
	info.si_code = -5;
	OK(syscall(SYS_rt_sigqueueinfo, pid, SIGTERM, &info));
	WAIT_SIGNAL(pid, SIGTERM);
}

TEST(sigtimedwait_forms)
{
	sigset_t set;
	siginfo_t info;
	struct timespec ts = { 0, 30000000 };

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	long long start = now_ms();
	ERR(sigtimedwait(&set, &info, &ts), EAGAIN);
	CHECK(now_ms() - start >= 29);
	CHILD(pid)
	{
		msleep(20);
		kill(getppid(), SIGUSR1);
	}
	CHECK_EQ(sigwaitinfo(&set, &info), SIGUSR1);
	CHECK_EQ(info.si_pid, pid);
	WAIT_EXIT(pid, 0);
	ts.tv_nsec = -1;
	ERR(sigtimedwait(&set, &info, &ts), EINVAL);
	on_signal(SIGALRM, catch_signal, SA_RESTART);
	interrupt_every(20, SA_RESTART);
	ERR(sigwaitinfo(&set, &info), EINTR);
}

TEST(sigsuspend_restores_mask)
{
	sigset_t none, now;

	on_signal(SIGUSR1, catch_signal, SA_RESTART);
	block(SIGUSR1);
	raise(SIGUSR1);
	CHECK_EQ(caught_count, 0);
	sigemptyset(&none);
	ERR(sigsuspend(&none), EINTR);
	CHECK_EQ(caught_count, 1);
	OK(sigprocmask(SIG_BLOCK, NULL, &now));
	CHECK(sigismember(&now, SIGUSR1));
}

TEST(pause_and_default_actions)
{
	static const int ignored[] = { SIGCHLD, SIGURG, SIGWINCH, SIGCONT };
	static const int fatal[] = { SIGHUP, SIGINT, SIGPIPE, SIGALRM, SIGUSR1, SIGIO, SIGPROF, 40 };

	for (size_t i = 0; i < COUNT(ignored); i++)
		raise(ignored[i]);
	for (size_t i = 0; i < COUNT(fatal); i++) {
		CHILD(pid)
		{
			raise(fatal[i]);
		}
		WAIT_SIGNAL(pid, fatal[i]);
	}
	interrupt_every(20, SA_RESTART);
	ERR(pause(), EINTR);
}

TEST(pending_limit)
{
	struct { unsigned long cur, max; } lim = { 10, 10 };
	int sent = 0;

	CHILD(pid)
	{
		OK(syscall(SYS_prlimit64, 0, 11 /* RLIMIT_SIGPENDING */, &lim, NULL));
		block(SIGRTMIN);
		while (sent < 100 && sigqueue(getpid(), SIGRTMIN, (union sigval){ 0 }) == 0)
			sent++;
		CHECK_EQ(errno, EAGAIN);
		CHECK(sent <= 10);
	}
	WAIT_EXIT(pid, 0);
}
