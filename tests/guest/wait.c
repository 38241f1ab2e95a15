/* wait4, waitid, rusage of children. */
#include "tests/lib/guest.h"

#include <sys/resource.h>

TEST(waitpid_forms)
{
	int status;

	CHILD(a)
	{
		_exit(1);
	}
	CHILD(b)
	{
		msleep(100);
		_exit(2);
	}
	CHECK_EQ(waitpid(b, &status, WNOHANG), 0);
	OK(waitid(P_PID, (id_t)a, &(siginfo_t){ 0 }, WEXITED | WNOWAIT));
	CHECK_EQ(waitpid(-1, &status, 0), a);
	CHECK_EQ(waitpid(0, &status, 0), b);
	CHECK_EQ(WEXITSTATUS(status), 2);
	ERR(waitpid(-1, &status, 0), ECHILD);
	ERR(waitpid(a, &status, 0), ECHILD);
	ERR(waitpid(1, &status, WNOHANG), ECHILD);
	ERR(waitpid(-1, &status, 0x40), EINVAL);
}

TEST(wait_by_group)
{
	int status;

	CHILD(pid)
	{
		setpgid(0, 0);
		msleep(30);
		_exit(3);
	}
	setpgid(pid, pid);
	ERR(waitpid(0, &status, 0), ECHILD);
	CHECK_EQ(waitpid(-pid, &status, 0), pid);
	CHECK_EQ(WEXITSTATUS(status), 3);
}

TEST(killed_status)
{
	CHILD(pid)
	{
		pause();
	}
	OK(kill(pid, SIGTERM));
	int status;
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK_EQ(status & 0x7f, SIGTERM);
}

TEST(stopped_and_continued)
{
	int status;

	CHILD(pid)
	{
		for (;;)
			pause();
	}
	OK(kill(pid, SIGSTOP));
	CHECK_EQ(waitpid(pid, &status, WUNTRACED), pid);
	CHECK_EQ(status, SIGSTOP << 8 | 0x7f);
	CHECK_EQ(waitpid(pid, &status, WUNTRACED | WNOHANG), 0);
	OK(kill(pid, SIGCONT));
	CHECK_EQ(waitpid(pid, &status, WCONTINUED), pid);
	CHECK_EQ(status, 0xffff);
	OK(kill(pid, SIGKILL));
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(waitid_fields)
{
	siginfo_t info;

	CHILD(pid)
	{
		_exit(7);
	}
	memset(&info, 1, sizeof(info));
	OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	CHECK_EQ(info.si_signo, SIGCHLD);
	CHECK_EQ(info.si_code, CLD_EXITED);
	CHECK_EQ(info.si_pid, pid);
	CHECK_EQ(info.si_uid, 0);
	CHECK_EQ(info.si_status, 7);
	OK(waitid(P_ALL, 0, &info, WEXITED));
	ERR(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
	ERR(waitid(P_ALL, 0, &info, 0), EINVAL);
	ERR(waitid((idtype_t)9, 0, &info, WEXITED), EINVAL);
}

TEST(waitid_nohang_clears)
{
	siginfo_t info;

	CHILD(pid)
	{
		pause();
	}
	memset(&info, 1, sizeof(info));
	OK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG));
	CHECK_EQ(info.si_pid, 0);
	CHECK_EQ(info.si_signo, 0);
	OK(kill(pid, SIGKILL));
	OK(waitid(P_PID, (id_t)pid, &info, WEXITED));
	CHECK_EQ(info.si_code, CLD_KILLED);
	CHECK_EQ(info.si_status, SIGKILL);
}

TEST(waitid_stop_codes)
{
	siginfo_t info;

	CHILD(pid)
	{
		raise(SIGTSTP);
		raise(SIGSTOP);
		msleep(200); /* lives while the parent asks about SIGCONT */
	}
	OK(waitid(P_PID, (id_t)pid, &info, WSTOPPED));
	CHECK_EQ(info.si_code, CLD_STOPPED);
	CHECK_EQ(info.si_status, SIGSTOP);
	OK(kill(pid, SIGCONT));
	OK(waitid(P_PID, (id_t)pid, &info, WCONTINUED));
	CHECK_EQ(info.si_code, CLD_CONTINUED);
	CHECK_EQ(info.si_status, SIGCONT);
	OK(waitid(P_PID, (id_t)pid, &info, WEXITED));
}

TEST(ignored_sigchld_reaps)
{
	int status;

	signal(SIGCHLD, SIG_IGN);
	CHILD(pid)
	{
		msleep(10);
	}
	ERR(waitpid(pid, &status, 0), ECHILD);
	ERR(kill(pid, 0), ESRCH);
}

TEST(nocldwait_and_nocldstop)
{
	struct sigaction sa = { .sa_handler = catch_signal, .sa_flags = SA_NOCLDWAIT };

	OK(sigaction(SIGCHLD, &sa, NULL));
	CHILD(pid)
	{
		_exit(0);
	}
	while (waitpid(pid, NULL, 0) != -1 || errno == EINTR)
		;
	CHECK_EQ(errno, ECHILD);
	CHECK_EQ(caught_count, 1);
	sa.sa_flags = SA_NOCLDSTOP;
	OK(sigaction(SIGCHLD, &sa, NULL));
	CHILD(second)
	{
		pause();
	}
	OK(kill(second, SIGSTOP));
	CHECK_EQ(waitpid(second, NULL, WUNTRACED), second);
	CHECK_EQ(caught_count, 1);
	OK(kill(second, SIGKILL));
}

TEST(sigchld_fields)
{
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	CHILD(pid)
	{
		_exit(9);
	}
	CHECK_EQ(sigwaitinfo(&set, &info), SIGCHLD);
	CHECK_EQ(info.si_pid, pid);
	CHECK_EQ(info.si_status, 9);
	CHECK_EQ(info.si_code, CLD_EXITED);
	WAIT_EXIT(pid, 9);
}

TEST(interrupted_and_restarted)
{
	int status;

	CHILD(pid)
	{
		msleep(600);
	}
	interrupt_every(20, 0);
	ERR(waitpid(pid, &status, 0), EINTR);
	interrupt_every(20, SA_RESTART);
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	CHECK(caught_count > 2);
}

TEST(rusage_of_child)
{
	struct rusage usage;
	int status;

	CHILD(pid)
	{
		long long end = now_ns(CLOCK_PROCESS_CPUTIME_ID) + 60000000;
		while (now_ns(CLOCK_PROCESS_CPUTIME_ID) < end)
			;
	}
	CHECK_EQ(wait4(pid, &status, 0, &usage), pid);
	long ms = usage.ru_utime.tv_sec * 1000 + usage.ru_utime.tv_usec / 1000 +
		  usage.ru_stime.tv_sec * 1000 + usage.ru_stime.tv_usec / 1000;
	CHECK(ms >= 40 && ms < 2000);
	OK(getrusage(RUSAGE_CHILDREN, &usage));
	CHECK(usage.ru_utime.tv_sec || usage.ru_utime.tv_usec || usage.ru_stime.tv_usec);
	ERR(getrusage(77, &usage), EINVAL);
}

TEST(core_flag_of_signals)
{
	struct rlimit none = { 0, 0 };

	OK(setrlimit(RLIMIT_CORE, &none));
	CHILD(pid)
	{
		abort();
	}
	WAIT_SIGNAL(pid, SIGABRT);
	CHILD(second)
	{
		*(volatile int *)BAD_PTR = 1;
	}
	WAIT_SIGNAL(second, SIGSEGV);
	CHILD(third)
	{
		__asm__ volatile("ud2");
	}
	WAIT_SIGNAL(third, SIGILL);
	CHILD(fourth)
	{
		__asm__ volatile("xor %%ecx, %%ecx; div %%ecx" ::: "eax", "ecx", "edx");
	}
	WAIT_SIGNAL(fourth, SIGFPE);
	CHILD(fifth)
	{
		__asm__ volatile("int3");
	}
	WAIT_SIGNAL(fifth, SIGTRAP);
}
