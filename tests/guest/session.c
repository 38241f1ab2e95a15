/* Process groups, sessions, orphaned groups. */
#include "tests/lib/guest.h"

TEST(ids_of_a_session_leader)
{
	CHECK_EQ(getsid(0), getpid());
	CHECK_EQ(getpgrp(), getpid());
	ERR(setsid(), EPERM);
	ERR(setpgid(0, 0), EPERM);
}

TEST(child_moves_groups)
{
	int go[2], done[2];
	char byte;

	OK(pipe(go));
	OK(pipe(done));
	CHILD(pid)
	{
		CHECK_EQ(getpgrp(), getppid());
		OK(setpgid(0, 0));
		CHECK_EQ(getpgrp(), getpid());
		write(done[1], "x", 1);
		CHECK_EQ(read(go[0], &byte, 1), 1);
		CHECK_EQ(getpgrp(), getppid());
	}
	CHECK_EQ(read(done[0], &byte, 1), 1);
	CHECK_EQ(getpgid(pid), pid);
	OK(setpgid(pid, getpgrp()));
	write(go[1], "x", 1);
	WAIT_EXIT(pid, 0);
}

TEST(setpgid_errors)
{
	CHILD(pid)
	{
		setsid();
		pause();
	}
	msleep(30);
	ERR(setpgid(pid, 0), EPERM);
	CHILD(other)
	{
		ERR(setpgid(0, pid), EPERM);
		ERR(setpgid(0, -1), EINVAL);
		ERR(setpgid(getppid(), 0), ESRCH);
		ERR(setpgid(999999, 0), ESRCH);
		ERR(getpgid(999999), ESRCH);
		ERR(getsid(999999), ESRCH);
	}
	WAIT_EXIT(other, 0);
	kill(pid, SIGKILL);
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(setpgid_after_exec_fails)
{
	pid_t pid = OK(fork());

	if (pid == 0) {
		execl("/bin/busybox", "sleep", "5", NULL);
		_exit(127);
	}
	msleep(100);
	ERR(setpgid(pid, pid), EACCES);
	kill(pid, SIGKILL);
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(setsid_in_child)
{
	CHILD(pid)
	{
		CHECK_EQ(setsid(), getpid());
		CHECK_EQ(getsid(0), getpid());
		CHECK_EQ(getpgrp(), getpid());
		ERR(open("/dev/tty", O_RDWR), ENXIO);
	}
	WAIT_EXIT(pid, 0);
}

TEST(kill_group)
{
	pid_t leader = 0, pids[3];

	for (int i = 0; i < 3; i++) {
		pids[i] = OK(fork());
		if (pids[i] == 0) {
			setpgid(0, leader);
			for (;;)
				pause();
		}
		if (i == 0)
			leader = pids[0];
		setpgid(pids[i], leader);
	}
	OK(kill(-leader, 0));
	OK(killpg(leader, SIGTERM));
	for (int i = 0; i < 3; i++)
		WAIT_SIGNAL(pids[i], SIGTERM);
	ERR(kill(-leader, 0), ESRCH);
}

TEST(orphaned_group_gets_hup_and_cont)
{
	int p[2];
	char buf[8] = "";

	OK(pipe(p));
	CHILD(pid)
	{
		OK(setsid());
		CHILD(leader)
		{
			setpgid(0, 0);
			CHILD(stopped)
			{
				close(p[0]);
				on_signal(SIGHUP, catch_signal, 0);
				raise(SIGSTOP);
				write(p[1], caught_signo == SIGHUP ? "hup" : "no", 3);
			}
			waitpid(stopped, NULL, WUNTRACED);
		}
		/* `leader` ends: the group keeps a stopped member whose parent's ends too. */
		waitpid(leader, NULL, 0);
	}
	close(p[1]);
	WAIT_EXIT(pid, 0);
	CHECK_EQ(read(p[0], buf, 3), 3);
	CHECK_STR(buf, "hup");
}

TEST(orphaned_group_ignores_tstp)
{
	CHILD(pid)
	{
		OK(setsid());
		raise(SIGTSTP);
		raise(SIGTTIN);
		_exit(4);
	}
	WAIT_EXIT(pid, 4);
}
