/* Files of /proc that programs read. */
#include "tests/lib/guest.h"

#include <dirent.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/sysinfo.h>

static bool has_line(const char *text, const char *start)
{
	size_t size = strlen(start);

	for (const char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : at)
		if (strncmp(at, start, size) == 0)
			return true;
	return false;
}

/* The number after `name` at a line's start; -1 when there is none. */
static long number_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

TEST(self_links)
{
	char buf[256] = "", name[16];

	OK(readlink("/proc/self", buf, sizeof(buf)));
	CHECK_EQ(atoi(buf), getpid());
	memset(buf, 0, sizeof(buf));
	OK(readlink("/proc/self/exe", buf, sizeof(buf)));
	CHECK_STR(buf, "/t/proc");
	memset(buf, 0, sizeof(buf));
	OK(readlink("/proc/self/cwd", buf, sizeof(buf)));
	CHECK(strstr(buf, "/t-self_links"));
	memset(buf, 0, sizeof(buf));
	OK(readlink("/proc/self/root", buf, sizeof(buf)));
	CHECK_STR(buf, "/");
	memset(buf, 0, sizeof(buf));
	OK(readlink("/proc/thread-self", buf, sizeof(buf)));
	snprintf(name, sizeof(name), "%d/task/", getpid());
	CHECK(strncmp(buf, name, strlen(name)) == 0);
}

TEST(stat_fields)
{
	char comm[32], state;
	int pid, ppid, pgrp, session;

	OK(prctl(PR_SET_NAME, "na) me"));
	char *text = read_file("/proc/self/stat");
	CHECK_EQ(sscanf(text, "%d (%31[^ ] me) %c %d %d %d", &pid, comm, &state, &ppid, &pgrp, &session), 6);
	CHECK_EQ(pid, getpid());
	CHECK_EQ(state, 'R');
	CHECK_EQ(ppid, getppid());
	CHECK_EQ(session, getsid(0));
	int fields = 1;
	for (char *c = strrchr(text, ')'); *c; c++)
		fields += *c == ' ';
	CHECK_EQ(fields + 1, 52);
}

TEST(status_fields)
{
	char *text = read_file("/proc/self/status");

	CHECK(has_line(text, "Name:\tproc\n"));
	CHECK_EQ(number_of(text, "\nPid:\t"), getpid());
	CHECK_EQ(number_of(text, "\nTgid:\t"), getpid());
	CHECK_EQ(number_of(text, "\nPPid:\t"), getppid());
	CHECK(has_line(text, "Uid:\t0\t0\t0\t0\n"));
	CHECK_EQ(number_of(text, "\nThreads:\t"), 1);
	CHECK(number_of(text, "\nVmRSS:\t") > 0);
	CHECK(number_of(text, "\nVmSize:\t") > 0);
	CHECK(has_line(text, "SigBlk:\t0000000000000000\n"));
	CHECK(has_line(text, "CapEff:\t"));
	CHECK(has_line(text, "NoNewPrivs:\t0\n"));
	CHECK(has_line(text, "Seccomp:\t0\n"));
}

TEST(cmdline_and_environ)
{
	char buf[64] = "";
	int fd = OK(open("/proc/self/cmdline", O_RDONLY));

	OK(read(fd, buf, sizeof(buf) - 1));
	CHECK_STR(buf, "/t/proc");
	char *text = read_file("/proc/self/environ");
	CHECK(strncmp(text, "PATH=", 5) == 0 || text[0]);
	CHECK_STR(read_file("/proc/self/comm"), "proc\n");
	write_file("/proc/self/comm", "renamed");
	CHECK_STR(read_file("/proc/self/comm"), "renamed\n");
}

TEST(maps)
{
	char line[128];
	static int data;
	char *p = OK(mmap(NULL, 3 * PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	OK(mprotect(p + PAGE, PAGE, PROT_NONE));
	char *text = read_file("/proc/self/maps");
	snprintf(line, sizeof(line), "%lx-%lx ---p", (unsigned long)p + PAGE, (unsigned long)p + 2 * PAGE);
	CHECK(strstr(text, line));
	CHECK(strstr(text, "[stack]"));
	CHECK(strstr(text, "[vdso]"));
	CHECK(strstr(text, " /t/proc\n"));
	CHECK(strstr(text, "r-xp"));
	unsigned long last = 0, start, end;
	bool found = false;
	for (char *at = text; at && *at; at = strchr(at, '\n'), at = at ? at + 1 : at) {
		CHECK_EQ(sscanf(at, "%lx-%lx ", &start, &end), 2);
		CHECK(start < end);
		CHECK(start >= last || start > 0xffffffff00000000UL);
		last = end;
		found |= (unsigned long)&data >= start && (unsigned long)&data < end;
	}
	CHECK(found);
}

TEST(smaps_and_statm)
{
	char *text = read_file("/proc/self/smaps");

	CHECK(strstr(text, "Rss:"));
	CHECK(strstr(text, "VmFlags:"));
	long size, resident;
	CHECK_EQ(sscanf(read_file("/proc/self/statm"), "%ld %ld", &size, &resident), 2);
	CHECK(size > 0 && resident > 0 && resident <= size);
}

TEST(fd_directory)
{
	char path[64], link[64] = "";
	int fd = OK(open("f", O_RDWR | O_CREAT | O_APPEND, 0644));

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(readlink(path, link, sizeof(link) - 1));
	CHECK(strstr(link, "/t-fd_directory/f"));
	OK(unlink("f"));
	memset(link, 0, sizeof(link));
	OK(readlink(path, link, sizeof(link) - 1));
	CHECK(strstr(link, "/f (deleted)"));
	int again = OK(open(path, O_RDONLY));
	CHECK(again != fd);
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	CHECK_EQ(write(fd, "1234", 4), 4);
	char *text = read_file(path);
	CHECK_EQ(number_of(text, "pos:\t"), 4);
	CHECK(strstr(text, "flags:\t"));
	CHECK_EQ(strtol(strstr(text, "flags:\t") + 7, NULL, 8) & (O_APPEND | O_ACCMODE), O_APPEND | O_RDWR);
	ERR(open("/proc/self/fd/999", O_RDONLY), ENOENT);
}

TEST(fd_kinds)
{
	char path[64], link[64];
	int p[2], sv[2];

	OK(pipe(p));
	OK(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p[0]);
	OK(readlink(path, link, sizeof(link)));
	CHECK(strncmp(link, "pipe:[", 6) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", sv[0]);
	OK(readlink(path, link, sizeof(link)));
	CHECK(strncmp(link, "socket:[", 8) == 0);
}

static void *wait_forever(void *arg)
{
	prctl(PR_SET_NAME, "worker");
	for (;;)
		pause();
	return arg;
}

TEST(task_directory)
{
	pthread_t thread;
	struct dirent *entry;
	int count = 0;
	bool named = false;
	char path[300];

	CHECK_EQ(pthread_create(&thread, NULL, wait_forever, NULL), 0);
	msleep(200);
	DIR *dir = opendir("/proc/self/task");
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", entry->d_name);
		named |= strcmp(read_file(path), "worker\n") == 0;
	}
	closedir(dir);
	CHECK_EQ(count, 2);
	CHECK(named);
}

TEST(processes_listed)
{
	char name[16], path[64];
	struct dirent *entry;
	bool self = false, child = false;

	CHILD(pid)
	{
		pause();
	}
	DIR *dir = opendir("/proc");
	while ((entry = readdir(dir))) {
		snprintf(name, sizeof(name), "%d", getpid());
		self |= strcmp(entry->d_name, name) == 0;
		snprintf(name, sizeof(name), "%d", pid);
		child |= strcmp(entry->d_name, name) == 0;
	}
	closedir(dir);
	CHECK(self && child);
	kill(pid, SIGKILL);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	msleep(20);
	CHECK(strstr(read_file(path), ") Z "));
	WAIT_SIGNAL(pid, SIGKILL);
	ERR(open(path, O_RDONLY), ENOENT);
}

TEST(states_shown)
{
	char path[64];

	CHILD(pid)
	{
		for (;;)
			pause();
	}
	msleep(30);
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	CHECK(strstr(read_file(path), ") S "));
	OK(kill(pid, SIGSTOP));
	CHECK_EQ(waitpid(pid, NULL, WUNTRACED), pid);
	CHECK(strstr(read_file(path), ") T "));
	OK(kill(pid, SIGKILL));
	WAIT_SIGNAL(pid, SIGKILL);
}

TEST(system_files)
{
	char *text = read_file("/proc/meminfo");
	CHECK(number_of(text, "MemTotal:") > 0);
	CHECK(number_of(text, "MemAvailable:") > 0);
	text = read_file("/proc/cpuinfo");
	CHECK(has_line(text, "processor\t: 0\n"));
	CHECK(strstr(text, "flags\t\t: fpu"));
	text = read_file("/proc/stat");
	CHECK(has_line(text, "cpu  "));
	CHECK(has_line(text, "cpu0 "));
	CHECK(number_of(text, "btime ") > 1600000000);
	CHECK(strstr(read_file("/proc/version"), "Linux version "));
	double up, idle;
	CHECK_EQ(sscanf(read_file("/proc/uptime"), "%lf %lf", &up, &idle), 2);
	double load;
	CHECK_EQ(sscanf(read_file("/proc/loadavg"), "%lf", &load), 1);
	CHECK(strstr(read_file("/proc/filesystems"), "nodev\tproc\n"));
	CHECK(strstr(read_file("/proc/mounts"), " /proc proc "));
	CHECK(strstr(read_file("/proc/self/mountinfo"), " - proc proc "));
}

/* sysinfo(2) and /proc/meminfo tell the same. */
TEST(memory_facts_agree)
{
	struct sysinfo info;
	OK(sysinfo(&info));
	char *text = read_file("/proc/meminfo");
	long total = number_of(text, "MemTotal:");
	CHECK_EQ(info.totalram * info.mem_unit / 1024, total);
	CHECK(number_of(text, "MemFree:") <= total && number_of(text, "MemAvailable:") <= total);
	CHECK(info.freeram <= info.totalram);
	CHECK_EQ((long)sysconf(_SC_PHYS_PAGES) * (sysconf(_SC_PAGESIZE) / 1024), total);
}

/* Lines of cgroups(7): each controller of version 1 is in the hierarchy that /proc/cgroups says, once. */
TEST(cgroup_lines)
{
	char *table = strdup(read_file("/proc/cgroups")), *text = read_file("/proc/self/cgroup"), *save = NULL, *save_names;
	int lines = 0;

	CHECK(has_line(table, "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"));
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save), lines++) {
		char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;

		CHECK(names && path && path[1] == '/');
		*names++ = 0;
		*path = 0;
		CHECK(*names || strcmp(line, "0") == 0);
		for (char *name = strtok_r(names, ",", &save_names); name; name = strtok_r(NULL, ",", &save_names)) {
			char row[64];

			if (strncmp(name, "name=", 5) == 0)
				continue;
			snprintf(row, sizeof(row), "\n%s\t%s\t", name, line);
			CHECK(strstr(table, row));
		}
	}
	CHECK(lines >= 1);
}

TEST(sys_files)
{
	CHECK(atoi(read_file("/proc/sys/kernel/pid_max")) >= 32768);
	CHECK_STR(read_file("/proc/sys/kernel/ostype"), "Linux\n");
	CHECK_STR(read_file("/proc/sys/kernel/hostname"), "guest\n");
	CHECK(atoi(read_file("/proc/sys/kernel/ngroups_max")) == 65536);
	CHECK(atoi(read_file("/proc/sys/vm/overcommit_memory")) >= 0);
	CHECK(atoi(read_file("/proc/sys/fs/file-max")) != 0);
	CHECK(atoi(read_file("/proc/sys/kernel/cap_last_cap")) >= 37);
	CHECK(atoi(read_file("/proc/sys/fs/pipe-max-size")) == 1048576);
	CHECK(strlen(read_file("/proc/sys/kernel/random/uuid")) == 37);
	CHECK(atoi(read_file("/proc/sys/net/core/somaxconn")) > 0);
}

TEST(net_files)
{
	CHECK(strstr(read_file("/proc/net/dev"), "lo:"));
	CHECK(strstr(read_file("/proc/net/unix"), "RefCount"));
	OK(access("/proc/net/tcp", R_OK));
	OK(access("/proc/self/net/udp", R_OK));
}

TEST(limits_and_misc)
{
	char *text = read_file("/proc/self/limits");
	CHECK(has_line(text, "Max open files "));
	CHECK(atoi(read_file("/proc/self/oom_score")) >= 0);
	write_file("/proc/self/oom_score_adj", "100");
	CHECK_STR(read_file("/proc/self/oom_score_adj"), "100\n");
	OK(access("/proc/self/auxv", R_OK));
	CHECK(strstr(read_file("/proc/self/io"), "rchar:"));
	CHECK(strlen(read_file("/proc/self/uid_map")) > 0);
}

TEST(memory_file)
{
	static long word = 77;
	long value = 0;
	int fd = OK(open("/proc/self/mem", O_RDWR));

	CHECK_EQ(pread(fd, &value, 8, (off_t)(uintptr_t)&word), 8);
	CHECK_EQ(value, 77);
	value = 78;
	CHECK_EQ(pwrite(fd, &value, 8, (off_t)(uintptr_t)&word), 8);
	CHECK_EQ(word, 78);
	ERR(pread(fd, &value, 8, 16), EIO);
}

TEST(children_and_permissions)
{
	char path[64], text[32];

	CHILD(pid)
	{
		pause();
	}
	snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
	snprintf(text, sizeof(text), "%d ", pid);
	if (access(path, R_OK) == 0)
		CHECK(strstr(read_file(path), text));
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	CHILD(other)
	{
		become_user(1000);
		ERR(open(path, O_RDONLY | O_DIRECTORY), EACCES);
	}
	WAIT_EXIT(other, 0);
	kill(pid, SIGKILL);
	WAIT_SIGNAL(pid, SIGKILL);
	ERR(open("/proc/self/nothing", O_RDONLY), ENOENT);
	ERR(mkdir("/proc/x", 0755), ENOENT);
	ERR(unlink("/proc/self/stat"), EPERM);
}
