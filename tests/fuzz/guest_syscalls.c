/*
 * A hostile guest: random system calls from a printed seed, in short-lived children.
 *
 *   guest_syscalls [-r] [-c NAME,...] [-n CALLS] SECONDS [SEED]
 *
 *   -r       only children whose threads share everything (races); else one child in four is such
 *   -c       only these calls
 *   -n       calls of one child
 *
 * Each child is the init of namespaces of its own, with a time limit, so that what it kills, mounts
 * or locks ends with it. It ends with one line; what it says about survival is for the one who
 * started it: a sandbox that still runs programs. It refuses to run outside a sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/hostile.h"

#define PAGE 4096UL
#define ARENA_PAGES 64
#define CHILD_MS 1500
#define THREADS 4

enum kind { K_fd, K_int, K_uint, K_flags, K_mode, K_pid, K_upid, K_id, K_size, K_ulong, K_slong,
	    K_off, K_path, K_uaddr };

struct call {
	int nr;
	const char *name;
	int count;
	enum kind kinds[6];
};

#define ARG_(kind, name) K_##kind
#define ARGS_0() { }
#define ARGS_1(a) { ARG_ a }
#define ARGS_2(a, b) { ARG_ a, ARG_ b }
#define ARGS_3(a, b, c) { ARG_ a, ARG_ b, ARG_ c }
#define ARGS_4(a, b, c, d) { ARG_ a, ARG_ b, ARG_ c, ARG_ d }
#define ARGS_5(a, b, c, d, e) { ARG_ a, ARG_ b, ARG_ c, ARG_ d, ARG_ e }
#define ARGS_6(a, b, c, d, e, f) { ARG_ a, ARG_ b, ARG_ c, ARG_ d, ARG_ e, ARG_ f }
#define SYSCALL(x86, arm, name, support, note, count, ...) { x86, #name, count, ARGS_##count(__VA_ARGS__) },
#define SYSERR(x86, arm, name, err, note) { x86, #name, 0, { } },

static const struct call calls[] = {
#include "sentry/syscalls/syscalls.def"
};
#define CALL_COUNT (sizeof(calls) / sizeof(calls[0]))

/* What all children share with the runner. */
struct shared {
	_Atomic uint64_t calls, ok;
	_Atomic int alive;
};

static struct shared *shared;
static int chosen[CALL_COUNT], chosen_count;
static int calls_a_child = 400;
static char *arena;		/* ARENA_PAGES pages of data, the last read-only, then nothing */
static int in_thread_mode;

/* Random numbers -------------------------------------------------------------------------------- */

static uint64_t below(uint64_t *rng, uint64_t n)
{
	return random_next(rng) % n;
}

#define PICK(rng, list) (list)[below((rng), sizeof(list) / sizeof((list)[0]))]

static uint64_t number(uint64_t *rng)
{
	static const uint64_t edges[] = {
		0, 1, 2, 7, 8, 16, 127, 128, 255, 256, 1023, 1024, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE,
		65535, 65536, 1 << 20, INT32_MAX - 1UL, INT32_MAX, 0x80000000, UINT32_MAX, 0x100000000,
		INT64_MAX, -1UL, -2UL, -PAGE, 0x8000000000000000, 0x7ffffffff000,
	};

	switch (below(rng, 8)) {
	case 0:
		return PICK(rng, edges);
	case 1:
		return 1UL << below(rng, 32);
	case 2:
		return 1UL << below(rng, 32) | 1UL << below(rng, 32);
	case 3:
		return random_next(rng) >> below(rng, 64);
	default:
		return below(rng, 40);
	}
}

static uint64_t length(uint64_t *rng)
{
	static const uint64_t usual[] = { 0, 1, 2, 4, 8, 12, 16, 24, 32, 48, 56, 64, 88, 112, 128, 144,
					  256, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE, 65536, 131072 };

	return below(rng, 8) ? PICK(rng, usual) : number(rng);
}

static long raw3(long nr, uint64_t a, uint64_t b, uint64_t c)
{
	return raw(nr, (uint64_t[6]){ a, b, c });
}

/* Arguments -------------------------------------------------------------------------------------- */

static const char *const paths[] = {
	"a", "b", "c", "d", "d/e", "d/e/f", "d/../a", "l", "loop", "fifo", "sock", ".", "..", "", "/",
	"a/", "m", "m/x", "m/y", "o", "o/../..", "/proc/self/maps", "/proc/self/mem", "/proc/self/fd/5",
	"/proc/self/fd", "/proc/self/exe", "/proc/self/cwd/a", "/proc/self/task", "/proc/self/status",
	"/proc/self/ns/mnt", "/proc/self/ns/user", "/proc/self/uid_map", "/proc/self/environ",
	"/proc/self/oom_score_adj", "/proc/self/attr/current", "/proc/self/fdinfo/4", "/proc/1/root/a",
	"/proc/1/fd/3", "/proc/2/stat", "/proc/2/mem", "/proc/3/task/3/comm", "/proc/mounts",
	"/proc/self/mountinfo", "/proc/sys/kernel/hostname", "/proc/sys/kernel/pid_max", "/proc/meminfo",
	"/proc/net/unix", "/proc/net/tcp", "/proc/locks", "/proc/sysvipc/shm", "/proc/thread-self/comm",
	"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/dev/ptmx", "/dev/pts/0",
	"/dev/pts/1", "/dev/shm/q", "/dev/mqueue/q", "/sys/devices/system/cpu/online", "/sys/fs",
	"tmpfs", "proc", "overlay", "ramfs", "devpts", "sysfs", "mqueue", "user.x", "trusted.x",
	"security.capability", "system.posix_acl_access", "size=8m", "mode=700",
	"lowerdir=d,upperdir=m,workdir=o", "q", "/q", "source", "size", "ro",
};

static uint64_t address(uint64_t *rng);

static int some_fd(uint64_t *rng)
{
	static const int odd[] = { AT_FDCWD, -1, 0, 1, 2, 255, 256, 1023, 1 << 20, INT32_MAX, INT32_MIN };

	return below(rng, 12) ? (int)(3 + below(rng, 50)) : PICK(rng, odd);
}

static void fill_sockaddr(uint64_t *rng, char *at)
{
	switch (below(rng, 5)) {
	case 0:
		*(struct sockaddr_un *)at = (struct sockaddr_un){ AF_UNIX, "sock" };
		break;
	case 1:
		*(struct sockaddr_un *)at = (struct sockaddr_un){ AF_UNIX, "\0abstract" };
		break;
	case 2:
		*(struct sockaddr_in *)at = (struct sockaddr_in){
			AF_INET, htons((uint16_t)(5000 + below(rng, 4))), { htonl(INADDR_LOOPBACK) }, "" };
		break;
	case 3:
		*(struct sockaddr_in6 *)at = (struct sockaddr_in6){
			AF_INET6, htons((uint16_t)(5000 + below(rng, 4))), 0, IN6ADDR_LOOPBACK_INIT, 0 };
		break;
	default:
		*(struct sockaddr_nl *)at = (struct sockaddr_nl){ .nl_family = AF_NETLINK };
	}
}

static void fill_iovec(uint64_t *rng, char *at)
{
	for (int i = 0; i < 8; i++)
		((struct iovec *)at)[i] = (struct iovec){ (void *)address(rng), length(rng) };
}

static void fill_msghdr(uint64_t *rng, char *at)
{
	struct msghdr *msg = (struct msghdr *)at;
	struct cmsghdr *cmsg = (struct cmsghdr *)(at + 256);
	uint64_t count = 1 + below(rng, 5);

	fill_iovec(rng, at + 64);
	*msg = (struct msghdr){ below(rng, 2) ? at + 400 : NULL, (socklen_t)below(rng, 111),
				(struct iovec *)(at + 64), below(rng, 8), cmsg, CMSG_SPACE(count * 4), 0 };
	fill_sockaddr(rng, at + 400);
	cmsg->cmsg_len = below(rng, 8) ? CMSG_LEN(count * 4) : length(rng);
	cmsg->cmsg_level = below(rng, 8) ? SOL_SOCKET : (int)number(rng);
	cmsg->cmsg_type = (int)below(rng, 4);
	for (uint64_t i = 0; i < count; i++)
		((int *)CMSG_DATA(cmsg))[i] = some_fd(rng);
}

/* A template of some structure, at `at`, with 512 bytes of room. */
static void fill(uint64_t *rng, char *at)
{
	uint32_t *words = (uint32_t *)at;
	uint64_t *longs = (uint64_t *)at;

	switch (below(rng, 14)) {
	case 0:
		memset(at, (int)below(rng, 2) * 0xff, 512);
		break;
	case 1:
		fill_iovec(rng, at);
		break;
	case 2:
		fill_sockaddr(rng, at);
		break;
	case 3:
		fill_msghdr(rng, at);
		break;
	case 4:		/* times, intervals: short */
		for (int i = 0; i < 8; i++)
			longs[i] = i & 1 ? below(rng, 3000000) : below(rng, 16) ? 0 : number(rng);
		break;
	case 5:		/* arguments of a program: itself */
		strcpy(at + 64, "/proc/self/exe");
		strcpy(at + 96, "-x");
		longs[0] = (uint64_t)(at + 64);
		longs[1] = (uint64_t)(at + 96);
		longs[2] = 0;
		break;
	case 6:		/* poll and epoll descriptors */
		for (int i = 0; i < 64; i += 2) {
			words[i] = (uint32_t)some_fd(rng);
			words[i + 1] = (uint32_t)below(rng, 0x10000);
		}
		break;
	case 7:		/* clone_args, rlimits, open_how, mount_attr */
		for (int i = 0; i < 11; i++)
			longs[i] = below(rng, 3) ? 0 : number(rng);
		break;
	case 8:
		strcpy(at, PICK(rng, paths));
		break;
	case 9:		/* actions of signals; no handlers of ours stay usable */
		memset(at, 0, 64);
		longs[0] = below(rng, 3);
		longs[1] = number(rng);
		break;
	case 10:	/* addresses */
		for (int i = 0; i < 16; i++)
			longs[i] = address(rng);
		break;
	case 11:	/* ioctl and netlink: words that look like lengths and types */
		for (int i = 0; i < 32; i++)
			words[i] = (uint32_t)length(rng);
		break;
	default:
		for (int i = 0; i < 64; i++)
			words[i] = (uint32_t)number(rng);
	}
}

static uint64_t address(uint64_t *rng)
{
	static const uint64_t odd[] = {
		0, 1, PAGE, 0x7ffffffff000, 0x7fffffffeff8, 0x7fffffffffff, 0x800000000000,
		0xffff800000000000, 0xffffffffff600000, -1UL, -8UL, -PAGE, 0x0001000000000000,
	};
	uint64_t page = below(rng, ARENA_PAGES);

	switch (below(rng, 10)) {
	case 0:
		return PICK(rng, odd);
	case 1:		/* the end of the arena, less a few bytes */
		return (uint64_t)arena + ARENA_PAGES * PAGE - below(rng, 64);
	case 2:		/* read-only, or nothing there */
		return (uint64_t)arena + (ARENA_PAGES - 1 + below(rng, 3)) * PAGE + below(rng, 32) * 8;
	case 3:
		return (uint64_t)arena + page * PAGE + below(rng, PAGE);
	default:
		return (uint64_t)arena + page * PAGE + below(rng, 8) * 512;
	}
}

/* A pointer to an argument of a call: mostly to something filled for it. */
static uint64_t pointer(uint64_t *rng)
{
	uint64_t at;

	if (!below(rng, 6))
		return below(rng, 2) ? 0 : address(rng);
	at = (uint64_t)arena + below(rng, ARENA_PAGES - 2) * PAGE + below(rng, 8) * 512;
	fill(rng, (char *)at);
	return at;
}

static uint64_t path(uint64_t *rng)
{
	char *at = arena + below(rng, ARENA_PAGES - 2) * PAGE + below(rng, 8) * 512;

	if (!below(rng, 16))
		return address(rng);
	if (!below(rng, 32)) {
		memset(at, "/a."[below(rng, 3)], 2 * PAGE);
		return (uint64_t)at;
	}
	strcpy(at, PICK(rng, paths));
	return (uint64_t)at;
}

static uint64_t argument(uint64_t *rng, enum kind kind)
{
	switch (kind) {
	case K_fd:
		return (uint64_t)(int64_t)some_fd(rng);
	case K_path:
		return path(rng);
	case K_uaddr:
		return pointer(rng);
	case K_size:
		return length(rng);
	case K_pid:
	case K_upid:
		return below(rng, 6) ? below(rng, 8) : (uint64_t)-below(rng, 4);
	case K_mode:
		return below(rng, 4) ? S_IFREG | below(rng, 01000) : number(rng);
	case K_off:
		return below(rng, 3) ? length(rng) : number(rng);
	case K_flags:
		return below(rng, 3) ? number(rng) : 0;
	case K_ulong:
	case K_slong:
		return below(rng, 4) ? number(rng) : pointer(rng);
	default:
		return number(rng);
	}
}

/* Values that make a call mean something, where chance alone would not find them. */
static void plausible(uint64_t *rng, int nr, uint64_t *a)
{
	static const uint32_t ioctls[] = {
		0x5401, 0x5402, 0x5403, 0x5404, 0x5405, 0x5407, 0x5409, 0x540a, 0x540b, 0x540d, 0x540e, 0x540f,
		0x5410, 0x5411, 0x5412, 0x5413, 0x5414, 0x541b, 0x541d, 0x5420, 0x5421, 0x5422, 0x5423, 0x5424,
		0x5429, 0x5450, 0x5451, 0x5452, 0x5460, 0x80045430, 0x40045431, 0x5441, 0x8901, 0x8905, 0x8910,
		0x8912, 0x8913, 0x8915, 0x891b, 0x8927, 0x8933, 0x80086601, 0x40086602, 0xb701, 0xb702, 0xb703,
		0xb704, 0xc020660b, 0x40049409, 0x00001260, 0x80081272,
	};
	static const int families[] = { AF_UNIX, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET };
	static const int levels[] = { SOL_SOCKET, IPPROTO_IP, IPPROTO_TCP, IPPROTO_IPV6, IPPROTO_UDP, 270 };

	switch (nr) {
	case SYS_ioctl:
		a[1] = PICK(rng, ioctls);
		a[2] = below(rng, 4) ? pointer(rng) : number(rng);
		break;
	case SYS_socket:
	case SYS_socketpair:
		a[0] = (uint64_t)PICK(rng, families);
		a[1] = 1 + below(rng, 5) + (below(rng, 2) ? SOCK_NONBLOCK : 0);
		a[2] = below(rng, 4) ? 0 : below(rng, 20);
		break;
	case SYS_setsockopt:
	case SYS_getsockopt:
		a[1] = (uint64_t)PICK(rng, levels);
		a[2] = below(rng, 80);
		break;
	case SYS_mmap:
		a[0] = below(rng, 3) ? 0 : address(rng) & ~(PAGE - 1);
		a[1] = PAGE * below(rng, 20);
		a[2] = below(rng, 8);
		a[3] = 1 + below(rng, 3) + (below(rng, 2) ? MAP_ANONYMOUS : 0);
		a[5] = below(rng, 8) ? PAGE * below(rng, 8) : number(rng);
		break;
	case SYS_munmap: case SYS_mprotect: case SYS_madvise: case SYS_mremap: case SYS_msync:
	case SYS_mlock: case SYS_mincore: case SYS_remap_file_pages: case SYS_mbind:
		a[0] = address(rng) & ~(PAGE - 1);
		a[1] = PAGE * below(rng, 6);
		if (nr == SYS_mprotect)
			a[2] = below(rng, 8);
		if (nr == SYS_mremap)
			a[2] = PAGE * below(rng, 12), a[3] = below(rng, 8), a[4] = address(rng) & ~(PAGE - 1);
		break;
	case SYS_futex:
		a[0] &= ~3UL;
		a[1] = below(rng, 14) | (below(rng, 2) ? 128 : 0);
		break;
	case SYS_mount:
		a[2] = (uint64_t)strcpy(arena + 512, PICK(rng, paths));
		a[3] = below(rng, 2) ? 0 : 1UL << below(rng, 25) | (below(rng, 2) ? MS_REC | MS_BIND : 0);
		break;
	case SYS_clone:
		if (below(rng, 2))
			a[0] = (uint64_t)(below(rng, 2) ? CLONE_FILES : CLONE_FS) | below(rng, 0x40);
		if (a[0] & CLONE_VM)
			a[1] = (uint64_t)arena + (1 + below(rng, ARENA_PAGES - 2)) * PAGE;
		break;
	case SYS_prlimit64:
		a[2] = 0;	/* the limits of main_child stay */
		break;
	}
}

/* Calls that only end or stop the child, or lift its limits: rare or never. */
static int unwanted(uint64_t *rng, int nr)
{
	switch (nr) {
	case SYS_setrlimit:
		return 1;
	case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_pause: case SYS_vfork:
	case SYS_rt_sigsuspend: case SYS_execve: case SYS_execveat: case SYS_close_range:
	case SYS_kill: case SYS_tgkill: case SYS_tkill: case SYS_seccomp: case SYS_reboot:
	case SYS_fork: case SYS_clone: case SYS_clone3:
		return below(rng, 12) != 0;
	}
	return 0;
}

/* One child ------------------------------------------------------------------------------------- */

static void on_alarm(int sig)
{
	(void)sig;
}

static void rearm(void)
{
	struct itimerval often = { { 0, 20000 }, { 0, 20000 } };
	struct sigaction action = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	raw3(SYS_rt_sigprocmask, SIG_SETMASK, 0, 0);
	setitimer(ITIMER_REAL, &often, NULL);
}

static void one_call(uint64_t *rng)
{
	const struct call *call = &calls[chosen[below(rng, (uint64_t)chosen_count)]];
	uint64_t a[6];
	long ret;

	if (call->nr < 0 || (chosen_count > 8 && unwanted(rng, call->nr)))
		return;
	for (int i = 0; i < 6; i++)
		a[i] = i < call->count ? argument(rng, call->kinds[i]) : number(rng);
	plausible(rng, call->nr, a);
	ret = raw(call->nr, a);
	atomic_fetch_add_explicit(&shared->calls, 1, memory_order_relaxed);
	if (ret >= 0 || ret < -4095)
		atomic_fetch_add_explicit(&shared->ok, 1, memory_order_relaxed);
	if (call->nr == SYS_fork || call->nr == SYS_vfork || call->nr == SYS_clone ||
	    call->nr == SYS_clone3) {
		if (ret != 0)
			return;
		if (atomic_fetch_add(&shared->alive, 1) > 12)
			raw3(SYS_exit_group, 0, 0, 0);
		*rng ^= 0x5bd1e995;
	}
}

static void many_calls(uint64_t rng, int count)
{
	for (int i = 0; i < count; i++) {
		if (i % 64 == 0 && !in_thread_mode)
			rearm();
		one_call(&rng);
	}
}

static void *thread_main(void *arg)
{
	many_calls((uint64_t)arg, calls_a_child);
	return NULL;
}

static void make_fds(void)
{
	int pair[2];
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	for (int i = 0; i < 2; i++) {
		open("a", O_RDWR | O_CREAT, 0644);
		open("d", O_RDONLY | O_DIRECTORY);
		open("l", O_PATH | O_NOFOLLOW);
		pipe2(pair, i ? O_NONBLOCK : 0);
		open("fifo", O_RDWR | O_NONBLOCK);
		socketpair(AF_UNIX, i ? SOCK_STREAM : SOCK_SEQPACKET, 0, pair);
		socket(AF_UNIX, i ? SOCK_DGRAM : SOCK_STREAM, 0);
		socket(AF_INET, i ? SOCK_STREAM : SOCK_DGRAM, 0);
		socket(AF_INET6, i ? SOCK_STREAM : SOCK_DGRAM, 0);
		socket(AF_NETLINK, SOCK_RAW, i ? NETLINK_ROUTE : NETLINK_KOBJECT_UEVENT);
		epoll_create1(0);
		eventfd(0, i ? EFD_NONBLOCK : EFD_SEMAPHORE);
		timerfd_create(CLOCK_MONOTONIC, i ? TFD_NONBLOCK : 0);
		signalfd(-1, &set, i ? SFD_NONBLOCK : 0);
		inotify_init1(i ? IN_NONBLOCK : 0);
		syscall(SYS_pidfd_open, getpid(), 0);
		memfd_create("m", i ? MFD_ALLOW_SEALING : 0);
		open("/dev/ptmx", O_RDWR | O_NOCTTY);
		open(i ? "/proc/self/maps" : "/proc/self/mem", O_RDWR);
		open(i ? "/proc/self/ns/mnt" : "/proc/self/ns/user", O_RDONLY);
		open(i ? "/proc/self/task" : "/proc/self/fd", O_RDONLY);
		open("/dev/zero", O_RDWR);
		open("/data/a", O_RDWR | O_CREAT, 0644);
	}
}

/* The working directory: a small tmpfs, so that no disk fills. */
static void make_files(void)
{
	mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (mount("tmpfs", "/tmp", "tmpfs", 0, "size=8m") < 0 || chdir("/tmp") < 0)
		_exit(3);
	mkdir("d", 0755);
	mkdir("d/e", 0755);
	mkdir("m", 0755);
	mkdir("o", 0755);
	close(open("d/e/f", O_CREAT | O_RDWR, 0644));
	close(open("b", O_CREAT | O_RDWR, 0644));
	symlink("a", "l");
	symlink("loop", "loop");
	mkfifo("fifo", 0644);
}

static void limit(int what, rlim_t value)
{
	setrlimit(what, &(struct rlimit){ value, value });
}

static void make_arena(void)
{
	arena = mmap(NULL, (ARENA_PAGES + 2) * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (arena == MAP_FAILED)
		_exit(3);
	mprotect(arena + (ARENA_PAGES - 1) * PAGE, PAGE, PROT_READ);
	munmap(arena + ARENA_PAGES * PAGE, 2 * PAGE);
}

static _Noreturn void main_child(uint64_t rng, int threads)
{
	pthread_t ids[THREADS];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	setsid();
	limit(RLIMIT_AS, 256 << 20);
	limit(RLIMIT_FSIZE, 4 << 20);
	limit(RLIMIT_NPROC, 64);
	limit(RLIMIT_CORE, 0);
	make_files();
	make_arena();
	for (int i = 0; i < 3; i++)	/* a terminal is not for noise */
		dup2(null, i);
	make_fds();
	rearm();
	if (below(&rng, 2)) {	/* someone to signal, trace, read from and wait for */
		if (fork() == 0) {
			many_calls(random_next(&rng), calls_a_child);
			_exit(0);
		}
	}
	if (!threads)
		many_calls(rng, calls_a_child);
	in_thread_mode = 1;
	for (int i = 0; threads && i < THREADS; i++)
		pthread_create(&ids[i], NULL, thread_main, (void *)random_next(&rng));
	for (int i = 0; threads && i < THREADS; i++)
		pthread_join(ids[i], NULL);
	_exit(0);
}

/* The runner ------------------------------------------------------------------------------------- */

/* A child in namespaces of its own; 0 in the child. */
static pid_t new_child(uint64_t *rng)
{
	static const uint64_t more[] = { 0, 0, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWNET };
	uint64_t flags = CLONE_NEWPID | CLONE_NEWNS | PICK(rng, more) | SIGCHLD;

	return (pid_t)raw3(SYS_clone, flags, 0, 0);
}

/* Waits for the child for its time, then kills it. False: it did not even die from SIGKILL. */
static int reap(pid_t pid)
{
	long end = now_ms() + CHILD_MS;
	int killed = 0, status;

	while (waitpid(pid, &status, WNOHANG | __WALL) != pid) {
		if (now_ms() > end) {
			if (killed)
				return 0;
			kill(pid, SIGKILL);
			killed = 1;
			end = now_ms() + 10000;
		}
		usleep(2000);
	}
	return 1;
}

static void choose(const char *names)
{
	for (size_t i = 0; i < CALL_COUNT; i++) {
		char padded[64];
		char list[1024];

		snprintf(padded, sizeof(padded), ",%s,", calls[i].name);
		snprintf(list, sizeof(list), ",%s,", names ? names : "");
		if (!names || strstr(list, padded))
			chosen[chosen_count++] = (int)i;
	}
}

int main(int argc, char **argv)
{
	const char *names = NULL;
	int races = 0, again = 0, option, children = 0;
	uint64_t seed, rng;
	long end;

	while ((option = getopt(argc, argv, "rxc:n:")) != -1) {
		if (option == 'r')
			races = 1;
		else if (option == 'x')
			again = 1;
		else if (option == 'c')
			names = optarg;
		else if (option == 'n')
			calls_a_child = atoi(optarg);
		else
			return 2;
	}
	if (!in_sandbox()) {
		fprintf(stderr, "guest_syscalls: runs in a sandbox only\n");
		return 2;
	}
	choose(names);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || !chosen_count)
		return 2;
	if (again) {	/* executed by a child of itself */
		make_arena();
		many_calls((uint64_t)getpid() * 7919, 100);
		return 0;
	}
	seed = optind + 1 < argc ? strtoull(argv[optind + 1], NULL, 0) : (uint64_t)time(NULL) << 16 | (uint64_t)getpid();
	printf("seed %llu\n", (unsigned long long)seed);
	fflush(stdout);
	end = now_ms() + (optind < argc ? atoi(argv[optind]) : 4) * 1000L;
	for (rng = seed; now_ms() < end; children++) {
		uint64_t child_seed = random_next(&rng);
		int threads = races || below(&rng, 4) == 0;
		pid_t pid;

		shared->alive = 0;
		pid = new_child(&rng);
		if (pid == 0)
			main_child(child_seed, threads);
		if (pid < 0 || !reap(pid)) {
			printf("child %d %s\n", children, pid < 0 ? strerror(-pid) : "does not die");
			return 1;
		}
	}
	printf("%d children, %llu calls, %llu succeeded\n", children,
	       (unsigned long long)shared->calls, (unsigned long long)shared->ok);
	return 0;
}
