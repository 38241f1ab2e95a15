/* execve and execveat: arguments, scripts, descriptors, what survives. */
#include "tests/lib/guest.h"

#include <pthread.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

/* Runs /bin/sh -c and returns its exit status. */
static int sh(const char *script)
{
	int status;
	pid_t pid = OK(fork());

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int exec_status(const char *path, char *const argv[])
{
	int status;
	pid_t pid = OK(fork());

	if (pid == 0) {
		execve(path, argv, (char *[]){ "X=y", NULL });
		_exit(errno == ENOENT ? 127 : errno);
	}
	CHECK_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(arguments_and_environment)
{
	CHECK_EQ(exec_status("/bin/busybox",
			     (char *[]){ "sh", "-c", "test $X = y && test \"$1\" = 'a b' && exit 7", "-",
					 "a b", NULL }), 7);
}

TEST(errors)
{
	write_file("plain", "#!/bin/sh\n");
	ERR(execl("./plain", "plain", NULL), EACCES);
	ERR(execl("./none", "none", NULL), ENOENT);
	ERR(execl(".", ".", NULL), EACCES);
	ERR(execl("plain/x", "x", NULL), ENOTDIR);
	write_file("empty", "");
	OK(chmod("empty", 0755));
	ERR(execve("./empty", (char *[]){ "x", NULL }, NULL), ENOEXEC);
	write_file("garbage", "\177ELFgarbage");
	OK(chmod("garbage", 0755));
	ERR(execve("./garbage", (char *[]){ "x", NULL }, NULL), ENOEXEC);
	ERR(execve(BAD_PTR, NULL, NULL), EFAULT);
	ERR(execve("/bin/busybox", BAD_PTR, NULL), EFAULT);
	ERR(execve("/bin/busybox", (char *[]){ BAD_PTR, NULL }, NULL), EFAULT);
}

TEST(script_with_argument)
{
	write_file("script", "#!/bin/busybox sh -e  \ntest \"$0\" = ./script || exit 3\nexit $1\n");
	OK(chmod("script", 0755));
	/* The whole rest of the line is one argument: busybox has no applet "sh -e". */
	CHECK(exec_status("./script", (char *[]){ "zero", "9", NULL }) != 9);
	write_file("script", "#! /bin/sh\ntest \"$0\" = ./script || exit 3\nexit $1\n");
	CHECK_EQ(exec_status("./script", (char *[]){ "zero", "9", NULL }), 9);
}

TEST(script_chain_and_loop)
{
	write_file("one", "#!/bin/sh\nexit 5\n");
	write_file("two", "#!./one\n");
	OK(chmod("one", 0755));
	OK(chmod("two", 0755));
	CHECK_EQ(exec_status("./two", (char *[]){ "two", NULL }), 5);
	write_file("loop", "#!./loop\n");
	OK(chmod("loop", 0755));
	ERR(execl("./loop", "loop", NULL), ELOOP);
	write_file("missing", "#!/no/such\n");
	OK(chmod("missing", 0755));
	ERR(execl("./missing", "missing", NULL), ENOENT);
}

TEST(close_on_exec)
{
	OK(dup2(1, 50));
	OK(dup3(1, 52, O_CLOEXEC));
	CHECK_EQ(sh("test -e /proc/self/fd/50 && test ! -e /proc/self/fd/52"), 0);
}

TEST(signals_over_exec)
{
	sigset_t set;

	signal(SIGUSR1, SIG_IGN);
	on_signal(SIGUSR2, catch_signal, 0);
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	OK(sigprocmask(SIG_BLOCK, &set, NULL));
	CHECK_EQ(sh("kill -USR1 $$; kill -HUP $$; exit 6"), 6);
	CHECK_EQ(sh("kill -USR2 $$"), 128 + SIGUSR2);
}

TEST(argument_limits)
{
	static char big[200000];
	char *argv[] = { "sh", "-c", "exit ${#1}", "-", big, NULL };

	memset(big, 'x', sizeof(big) - 1);
	ERR(execve("/bin/sh", argv, NULL), E2BIG);
	big[131071] = '\0';
	CHECK_EQ(exec_status("/bin/sh", argv), 131071 & 0xff);
	static char *many[40000];
	for (int i = 0; i < 39999; i++)
		many[i] = "argument";
	many[0] = "true";
	CHECK_EQ(exec_status("/bin/true", many), 0);
	static char word[1000];
	memset(word, 'y', 999);
	for (int i = 0; i < 10000; i++)
		many[i] = word;
	many[10000] = NULL;
	ERR(execve("/bin/true", many, NULL), E2BIG);
}

TEST(execveat_forms)
{
	int dir = OK(open("/bin", O_PATH | O_DIRECTORY)), file = OK(open("/bin/busybox", O_PATH));
	char *argv[] = { "sh", "-c", "exit 4", NULL };

	CHILD(pid)
	{
		syscall(SYS_execveat, dir, "busybox", argv, NULL, 0);
	}
	WAIT_EXIT(pid, 4);
	CHILD(second)
	{
		syscall(SYS_execveat, file, "", argv, NULL, AT_EMPTY_PATH);
	}
	WAIT_EXIT(second, 4);
	ERR(syscall(SYS_execveat, file, "", argv, NULL, 0), ENOENT);
	ERR(syscall(SYS_execveat, dir, "sh", argv, NULL, AT_SYMLINK_NOFOLLOW), ELOOP);
	ERR(syscall(SYS_execveat, dir, "sh", argv, NULL, 0x8000), EINVAL);
	ERR(syscall(SYS_execveat, 99, "sh", argv, NULL, 0), EBADF);
}

TEST(fexecve_script_and_cloexec)
{
	write_file("script", "#!/bin/sh\nexit 8\n");
	OK(chmod("script", 0755));
	int fd = OK(open("script", O_RDONLY));
	CHILD(pid)
	{
		syscall(SYS_execveat, fd, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH);
	}
	WAIT_EXIT(pid, 8);
	fd = OK(open("script", O_RDONLY | O_CLOEXEC));
	ERR(syscall(SYS_execveat, fd, "", (char *[]){ "x", NULL }, NULL, AT_EMPTY_PATH), ENOENT);
}

/* As a setuid program: are the effective and saved ids those of REPORT_IDS, the real ones 1000? */
__attribute__((constructor)) static void report_ids(void)
{
	const char *wanted = getenv("REPORT_IDS");
	uid_t uid[3];
	gid_t gid[3];
	char got[64];

	if (!wanted)
		return;
	getresuid(&uid[0], &uid[1], &uid[2]);
	getresgid(&gid[0], &gid[1], &gid[2]);
	snprintf(got, sizeof(got), "%u %u", uid[1], gid[1]);
	if (strcmp(got, wanted) != 0)
		_exit(1);
	if (uid[0] != 1000 || gid[0] != 1000 || uid[2] != uid[1] || gid[2] != gid[1])
		_exit(2);
	_exit(getauxval(AT_SECURE) == (uid[0] != uid[1]) ? 0 : 3);
}

/* Fills the file with the program; returns a second descriptor of it, and closes the first. */
static int copy_program(const char *path, int out)
{
	static char buf[65536];
	int in = OK(open(path, O_RDONLY)), copy = OK(fcntl(out, F_DUPFD_CLOEXEC, 0));
	ssize_t got;

	while ((got = read(in, buf, sizeof(buf))) > 0)
		CHECK_EQ(write(out, buf, (size_t)got), got);
	close(in);
	close(out);
	return copy;
}

TEST(setuid_program)
{
	struct statvfs fs;

	OK(statvfs(".", &fs));
	if (fs.f_flag & ST_NOSUID)
		test_skip("a nosuid mount");
	OK(chmod(".", 0755));
	close(copy_program("/proc/self/exe", OK(open("bb", O_CREAT | O_WRONLY, 0755))));
	OK(chown("bb", 1001, 1002));
	OK(chmod("bb", 06755));
	CHILD(pid)
	{
		become_user(1000);
		execle("./bb", "bb", NULL, (char *[]){ "REPORT_IDS=1001 1002", NULL });
		_exit(127);
	}
	WAIT_EXIT(pid, 0);
	CHILD(second)
	{
		OK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		become_user(1000);
		execle("./bb", "bb", NULL, (char *[]){ "REPORT_IDS=1000 1000", NULL });
		_exit(127);
	}
	WAIT_EXIT(second, 0);
}

TEST(name_and_exe_after_exec)
{
	CHECK_EQ(sh("exec /bin/sh -c 'test $(cat /proc/$$/comm) = sh || exit 1;"
		    "test $(readlink /proc/$$/exe) = /bin/busybox || exit 2;"
		    "tr \"\\000\" . </proc/$$/cmdline | grep -q ^/bin/sh.-c. || exit 3'"), 0);
}

TEST(aux_vector)
{
	CHECK_EQ(getauxval(AT_PAGESZ), 4096);
	CHECK_EQ(getauxval(AT_UID), 0);
	CHECK_EQ(getauxval(AT_SECURE), 0);
	CHECK_EQ(getauxval(AT_CLKTCK), 100);
	CHECK(getauxval(AT_RANDOM) != 0);
	CHECK(getauxval(AT_SYSINFO_EHDR) != 0);
	CHECK_MEM((void *)getauxval(AT_SYSINFO_EHDR), "\177ELF", 4);
	CHECK(getauxval(AT_PHDR) != 0);
	CHECK(strstr((char *)getauxval(AT_EXECFN), "exec"));
	CHECK_STR((char *)getauxval(AT_PLATFORM), "x86_64");
}

static void *exec_now(void *arg)
{
	(void)arg;
	execl("/bin/sh", "sh", "-c", "test $(ls /proc/$$/task | wc -l) = 1 && exit 5", NULL);
	_exit(1);
}

static void *spin(void *arg)
{
	for (;;)
		pause();
	return arg;
}

static int start_thread_that_execs(void)
{
	pthread_t thread;

	CHECK_EQ(pthread_create(&thread, NULL, spin, NULL), 0);
	CHECK_EQ(pthread_create(&thread, NULL, exec_now, NULL), 0);
	for (;;)
		pause();
}

TEST(exec_from_thread_kills_others)
{
	CHILD(pid)
	{
		_exit(start_thread_that_execs());
	}
	WAIT_EXIT(pid, 5);
}

TEST(text_file_busy)
{
	int out = copy_program("/bin/busybox", OK(open("bb", O_CREAT | O_WRONLY, 0755)));

	ERR(execl("./bb", "true", NULL), ETXTBSY);
	close(out);
	CHILD(pid)
	{
		execl("./bb", "sleep", "1", NULL);
	}
	msleep(50);
	ERR(open("bb", O_WRONLY), ETXTBSY);
	OK(unlink("bb"));
	kill(pid, SIGKILL);
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(personality_survives)
{
	CHECK_EQ(syscall(SYS_personality, 0xffffffff), 0);
	CHECK_EQ(syscall(SYS_personality, 0x0040000 /* ADDR_NO_RANDOMIZE */), 0);
	CHECK_EQ(sh("test $(cat /proc/self/personality) = 00040000"), 0);
	CHECK_EQ(syscall(SYS_personality, 0xffffffff), 0x0040000);
}
