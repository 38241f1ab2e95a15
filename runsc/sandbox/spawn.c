#include "runsc/sandbox/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "platform/base/log.h"
#include "platform/base/release.h"

/* Whether the segment of notes at offset holds the note of this release. */
static bool notes_match(int fd, off_t offset, size_t size)
{
	_Alignas(4) char notes[1024];
	ssize_t got = pread(fd, notes, MIN(size, sizeof(notes)), offset);

	for (size_t at = 0; got > 0 && at + sizeof(struct release_note) <= (size_t)got;) {
		Elf64_Nhdr header;
		size_t name_size, desc_size;

		memcpy(&header, notes + at, sizeof(header));
		if (!memcmp(notes + at, &release_note, sizeof(release_note)))
			return true;
		name_size = ALIGN_UP((size_t)header.n_namesz, 4u);
		desc_size = ALIGN_UP((size_t)header.n_descsz, 4u);
		at += sizeof(header) + name_size + desc_size;
	}
	return false;
}

/* Whether the ELF file is of the release that this program is of. */
static bool same_release(const char *path)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Phdr segments[32];
	Elf64_Ehdr header;
	size_t size;

	if (fd < 0 || pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
	    memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(segments[0]))
		return false;
	size = MIN((size_t)header.e_phnum, ARRAY_COUNT(segments)) * sizeof(segments[0]);
	if (pread(fd, segments, size, (off_t)header.e_phoff) != (ssize_t)size)
		return false;
	for (size_t i = 0; i < size / sizeof(segments[0]); i++) {
		if (segments[i].p_type == PT_NOTE &&
		    notes_match(fd, (off_t)segments[i].p_offset, segments[i].p_filesz))
			return true;
	}
	return false;
}

char *spawn_find(const char *name, struct error *err)
{
	static const char *const places[] = { "", "../libexec/runsc/" };
	char self[4096];
	ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (len < 0) {
		error_errno(err, errno, "cannot read /proc/self/exe (is /proc mounted?)");
		return NULL;
	}
	self[len] = 0;
	*(strrchr(self, '/') + 1) = 0;
	for (size_t i = 0; i < ARRAY_COUNT(places); i++) {
		AUTO(mem_free) char *path = xasprintf("%s%s%s", self, places[i], name);

		if (access(path, X_OK) < 0)
			continue;
		if (same_release(path))
			return TAKE(path);
		error_set(err, "%s is not of release " RELEASE ": install all three programs together", path);
		return NULL;
	}
	error_set(err, "cannot find %s beside runsc in %s or in %s../libexec/runsc: install all three programs",
		  name, self, self);
	return NULL;
}

int spawn_open_kvm(const char *platform, const char *device, int *ret_fd, struct error *err)
{
	*ret_fd = -1;
	device = *device ? device : "/dev/kvm";
	if (strcmp(platform, "kvm") != 0)
		return 0;
	*ret_fd = open(device, O_RDWR | O_CLOEXEC);
	return *ret_fd < 0 ? error_errno(err, errno, "platform kvm: cannot open %s", device) : 0;
}

int loopback_up(void)
{
	AUTO(fd_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq request = { .ifr_name = "lo" };

	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
		return -errno;
	if (request.ifr_flags & IFF_UP)
		return 0;
	request.ifr_flags |= IFF_UP;
	return ioctl(fd, SIOCSIFFLAGS, &request) < 0 ? -errno : 0;
}

/* In the child: tells the step that failed on the readiness pipe and ends. */
static NORETURN void child_fail(const struct spawn_args *args, const char *step)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "cannot %s: %s\n", step, strerror(errno));

	write_all(args->ready_fd, line, MIN((size_t)len, sizeof(line) - 1));
	_exit(EXIT_GENERIC);
}

/* Maps the caller to root of the new user namespace. */
static void child_map_ids(const struct spawn_args *args, uid_t uid, gid_t gid)
{
	char map[64];

	if (write_string_at(AT_FDCWD, "/proc/self/setgroups", "deny"))
		child_fail(args, "deny setgroups in the user namespace");
	snprintf(map, sizeof(map), "0 %u 1", uid);
	if ((errno = -write_string_at(AT_FDCWD, "/proc/self/uid_map", map)))
		child_fail(args, "map the user id of the user namespace");
	snprintf(map, sizeof(map), "0 %u 1", gid);
	if ((errno = -write_string_at(AT_FDCWD, "/proc/self/gid_map", map)))
		child_fail(args, "map the group id of the user namespace");
}

/* What a sentry started by root is on the host: owner of no file and no process. */
#define NOBODY 65534

/*
 * From root to nobody, with the two capabilities that the sentry's boot needs until it drops all. Not by a
 * user namespace: in one, the owners of donated files would read as 65534.
 */
static void child_become_nobody(const struct spawn_args *args)
{
	static const int kept[] = { CAP_SYS_ADMIN, CAP_SETPCAP };
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = { { 0 } };

	if (geteuid() != 0)
		return;
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++)
		caps[0].permitted |= 1u << kept[i];
	caps[0].effective = caps[0].inheritable = caps[0].permitted;
	if (prctl(PR_SET_KEEPCAPS, 1) < 0 || setgroups(0, NULL) < 0 ||
	    setresgid(NOBODY, NOBODY, NOBODY) < 0 || setresuid(NOBODY, NOBODY, NOBODY) < 0 ||
	    syscall(SYS_capset, &header, caps) < 0)
		child_fail(args, "drop the user id of root");
	for (size_t i = 0; i < ARRAY_COUNT(kept); i++) {
		if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, kept[i], 0, 0) < 0)
			child_fail(args, "keep the capabilities that the boot needs");
	}
}

/* net.ipv4.ip_forward=1: written to /proc/sys of the network namespace that the child is in. */
static void child_sysctl(const struct spawn_args *args, const char *setting)
{
	char path[256] = "/proc/sys/", step[300];
	size_t len = strlen(path), name_len = strcspn(setting, "=");
	bool dots = setting[strcspn(setting, "./")] != '/'; /* else it is a path with dots in its parts */

	if ((strncmp(setting, "net.", 4) != 0 && strncmp(setting, "net/", 4) != 0) || !setting[name_len])
		return;
	errno = EINVAL;
	snprintf(step, sizeof(step), "set sysctl %.200s of config.json", setting);
	if (name_len >= sizeof(path) - len || strstr(setting, ".."))
		child_fail(args, step);
	for (size_t i = 0; i < name_len; i++)
		path[len + i] = !dots ? setting[i] : setting[i] == '.' ? '/' : setting[i] == '/' ? '.' : setting[i];
	path[len + name_len] = 0;
	errno = -write_string_at(AT_FDCWD, path, setting + name_len + 1);
	if (errno)
		child_fail(args, step);
}

/*
 * The sentry has no capability on the host and decides itself what the guest may bind or ping, so the host's
 * namespace, which is the sandbox's own, must allow both. Best effort: without them only those fail.
 */
static void child_own_network(const struct spawn_args *args)
{
	write_string_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	write_string_at(AT_FDCWD, "/proc/sys/net/ipv4/ping_group_range", "0 2147483647");
	for (size_t i = 0; args->sysctl && i < args->sysctl->count; i++)
		child_sysctl(args, args->sysctl->v[i]);
}

static const int clone_flags[NS_KINDS] = { [NS_PID] = CLONE_NEWPID, [NS_NETWORK] = CLONE_NEWNET,
					  [NS_MOUNT] = CLONE_NEWNS, [NS_IPC] = CLONE_NEWIPC,
					  [NS_UTS] = CLONE_NEWUTS,  [NS_CGROUP] = CLONE_NEWCGROUP };

/* Whether the program gets a new namespace of this kind. */
static bool is_new(const struct spawn_args *args, enum oci_ns_kind kind)
{
	return !args->listed || (args->listed[kind].present && !args->listed[kind].path);
}

static const char *named(const struct spawn_args *args, enum oci_ns_kind kind)
{
	return args->listed && args->listed[kind].present ? args->listed[kind].path : NULL;
}

/* Negative errno. */
static int join(const char *path, enum oci_ns_kind kind)
{
	AUTO(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 || setns(fd, clone_flags[kind]) < 0 ? -errno : 0;
}

static void child_namespaces(const struct spawn_args *args)
{
	static const enum oci_ns_kind kinds[] = { NS_IPC, NS_UTS, NS_CGROUP };
	int flags = is_new(args, NS_MOUNT) ? CLONE_NEWNS : 0;

	if (args->net_path && (errno = -join(args->net_path, NS_NETWORK)))
		child_fail(args, "join the network namespace of config.json");
	if (args->net_fd >= 0 && setns(args->net_fd, CLONE_NEWNET) < 0)
		child_fail(args, "join the network namespace of the sentry");
	for (size_t i = 0; i < ARRAY_COUNT(kinds); i++) {
		const char *path = named(args, kinds[i]);

		if (path && (errno = -join(path, kinds[i])))
			child_fail(args, "join a namespace of config.json");
		flags |= is_new(args, kinds[i]) ? clone_flags[kinds[i]] : 0;
	}
	if (unshare(flags) < 0)
		child_fail(args, "make namespaces");
	if (is_new(args, NS_MOUNT) && mount(NULL, "/", NULL, MS_SLAVE | MS_REC, NULL) < 0)
		child_fail(args, "make the mount namespace private");
	if (args->loopback && (errno = -loopback_up()))
		child_fail(args, "bring the loopback device up");
	if (args->own_net)
		child_own_network(args);
}

static void child_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	for (int i = 1; i <= 64; i++)
		sigaction(i, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_descriptors(const struct spawn_args *args)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int stderr_fd = args->stderr_fd >= 0 ? args->stderr_fd : null_fd;

	if (null_fd < 0)
		child_fail(args, "open /dev/null");
	if (stderr_fd != STDERR_FILENO && dup2(stderr_fd, STDERR_FILENO) < 0)
		child_fail(args, "set up stderr");
	if (dup2(null_fd, STDIN_FILENO) < 0 || dup2(null_fd, STDOUT_FILENO) < 0)
		child_fail(args, "set up stdin and stdout");
	if (syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		child_fail(args, "close the caller's descriptors");
	for (size_t i = 0; i < args->fd_count; i++) {
		if (fcntl(args->fds[i], F_SETFD, 0) < 0)
			child_fail(args, "hand a descriptor on");
	}
}

static NORETURN void child_run(const struct spawn_args *args, uid_t uid, gid_t gid, bool born_in)
{
	static char *const environment[] = { NULL };
	struct rlimit files;
	int exe;

	if (args->cgroup && (errno = -cgroup_entry_join(args->cgroup, born_in)))
		child_fail(args, "join the cgroup");
	child_signals();
	setsid();
	umask(0);
	if (args->oom_score_adj)
		write_string_at(AT_FDCWD, "/proc/self/oom_score_adj", args->oom_score_adj);
	child_descriptors(args);
	if (args->new_user)
		child_map_ids(args, uid, gid);
	child_namespaces(args);
	if (!getrlimit(RLIMIT_NOFILE, &files)) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	if (chdir("/") < 0)
		child_fail(args, "change to /");
	/* By descriptor: nobody may be unable to walk to it. */
	exe = open(args->path, O_PATH | O_CLOEXEC);
	if (exe < 0)
		child_fail(args, args->path);
	if (args->as_nobody)
		child_become_nobody(args);
	if (args->die_with_us)
		prctl(PR_SET_PDEATHSIG, SIGKILL);
	execveat(exe, "", args->argv.v, environment, AT_EMPTY_PATH);
	child_fail(args, args->path);
}

int spawn_helper(const struct spawn_args *args, struct helper *helper, struct error *err)
{
	int pid_fd = -1;
	struct clone_args clone = {
		.flags = CLONE_PIDFD | (is_new(args, NS_PID) ? CLONE_NEWPID : 0) |
			 (args->new_user ? CLONE_NEWUSER : 0) | (args->new_net && !args->net_path ? CLONE_NEWNET : 0),
		.pidfd = (uintptr_t)&pid_fd,
		.exit_signal = SIGCHLD,
	};
	AUTO(fd_close) int own = -1;
	bool born_in = args->cgroup && args->cgroup->into >= 0;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	long pid;

	if (named(args, NS_PID)) {
		own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
		if (own < 0 || join(named(args, NS_PID), NS_PID))
			return error_errno(err, errno, "cannot join the pid namespace %s", named(args, NS_PID));
	}
	if (born_in) {
		clone.flags |= CLONE_INTO_CGROUP;
		clone.cgroup = (uint64_t)args->cgroup->into;
	}
	pid = syscall(SYS_clone3, &clone, sizeof(clone));
	if (pid < 0 && born_in) {
		born_in = false;
		clone.flags &= ~(uint64_t)CLONE_INTO_CGROUP;
		pid = syscall(SYS_clone3, &clone, sizeof(clone));
	}
	if (pid && own >= 0 && setns(own, CLONE_NEWPID) < 0)
		log_warn("cannot go back to the own pid namespace: %s", strerror(errno));
	if (pid < 0)
		return error_errno(err, errno, "cannot start %s%s", args->path,
				   args->new_user ? " (are unprivileged user namespaces allowed?)" : "");
	if (!pid)
		child_run(args, uid, gid, born_in);
	helper->pid = (pid_t)pid;
	log_debug("started %s as process %ld", args->path, pid);
	helper->pid_fd = pid_fd;
	return 0;
}

/* What helper i said: 1 ready, 0 not yet complete, -1 with err. */
static int read_ready(struct helper *helper, const char *name, struct error *err)
{
	char line[512];
	ssize_t size = read(helper->ready_fd, line, sizeof(line) - 1);

	if (size < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (size == 1)
		return 1;
	if (size > 1) {
		line[size] = 0;
		line[strcspn(line, "\n")] = 0;
		return strncmp(line, name, strlen(name)) ? error_set(err, "%s: %s", name, line) :
							   error_set(err, "%s", line);
	}
	/* it closed the pipe without a word: its exit status says how */
	if (helper->pid) {
		int status;

		kill(helper->pid, SIGKILL);
		status = wait_child(helper->pid);
		helper->pid = 0;
		return status >= 0 && WIFSIGNALED(status) ?
			       error_set(err, "%s was killed by signal %d while it started", name,
					 WTERMSIG(status)) :
			       error_set(err, "%s ended with status %d while it started (see --debug-log)",
					 name, status < 0 ? -1 : WEXITSTATUS(status));
	}
	return error_set(err, "%s ended while it started", name);
}

int spawn_wait_ready(struct helper *const *helpers, const char *const *names, size_t count,
		     int timeout_ms, struct error *err)
{
	int64_t end = now_ms() + timeout_ms;
	struct pollfd pfd[4];
	size_t waiting = count;

	for (size_t i = 0; i < count; i++)
		pfd[i] = (struct pollfd){ .fd = helpers[i]->ready_fd, .events = POLLIN };
	while (waiting) {
		int64_t left = end - now_ms();
		int n = left > 0 ? poll(pfd, count, (int)left) : 0;

		if (n < 0 && errno != EINTR)
			return error_errno(err, errno, "cannot wait for the sandbox");
		if (!n)
			return error_set(err, "the sandbox did not start within %d seconds",
					 timeout_ms / 1000);
		for (size_t i = 0; n > 0 && i < count; i++) {
			int ready = pfd[i].fd >= 0 && pfd[i].revents ?
					    read_ready(helpers[i], names[i], err) :
					    0;

			if (ready < 0)
				return -1;
			if (ready) {
				pfd[i].fd = -1;
				waiting--;
			}
		}
	}
	return 0;
}

#define CHILD_STACK 16384

/* What two children share with the caller: memory and descriptors. */
struct proc_mount {
	int pid_fd; /* whose pid namespace is to be shown */
	int tree;   /* result; -1: none */
	_Alignas(16) char stack[2][CHILD_STACK];
};

static pid_t clone_for_proc(int (*fn)(void *), struct proc_mount *m, unsigned level)
{
	return clone(fn, m->stack[level] + CHILD_STACK, CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD, m);
}

/* Born in the pid namespace. */
static int mount_proc(void *arg)
{
	struct proc_mount *m = arg;
	int fs = (int)syscall(SYS_fsopen, "proc", FSOPEN_CLOEXEC);

	if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		m->tree = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC,
				       MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV |
					       MOUNT_ATTR_NOEXEC);
	fd_close(fs);
	return 0;
}

/* Its next child is born in the pid namespace. Not the caller itself: inside of a user namespace there is no way back. */
static int enter_for_proc(void *arg)
{
	struct proc_mount *m = arg;
	pid_t child = setns(m->pid_fd, CLONE_NEWPID) < 0 ? -1 : clone_for_proc(mount_proc, m, 1);

	if (child > 0)
		wait_child(child);
	return 0;
}

int spawn_open_proc(const struct helper *helper)
{
	struct proc_mount m = { .pid_fd = helper->pid_fd, .tree = -1 };
	pid_t child = clone_for_proc(enter_for_proc, &m, 0);

	if (child > 0)
		wait_child(child);
	if (m.tree < 0)
		log_debug("cannot make a /proc for the host");
	return m.tree;
}

void helper_kill(struct helper *helper)
{
	if (!helper->pid)
		return;
	kill(helper->pid, SIGKILL);
	wait_child(helper->pid);
	helper->pid = 0;
}
