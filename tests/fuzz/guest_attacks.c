/*
 * A hostile guest that knows how it is run: attacks on what the platform keeps in its address space, on rewritten code,
 * through every way into the kernel, and on the number of what the host can give.
 *
 *   guest_attacks ATTACK SECONDS [SEED]      ATTACK: a row of attacks[]
 *   guest_attacks -l
 *
 * An attack runs in children of namespaces of its own; those may die as they like. What must hold is seen from other
 * processes: a victim beside the attack whose own calls, memory and registers stay right, and this program, which can still
 * fork and wait after it. The runner looks at the host and at a new program in the sandbox. A failure is one line
 * and status 1. It refuses to run outside a sandbox.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "platform/systrap/stub_layout.h"
#include "tests/fuzz/hostile.h"

#define PAGE 4096UL
#define COUNT(list) (sizeof(list) / sizeof((list)[0]))

/* What attackers, victim and the main program share. */
struct shared {
	_Atomic uint64_t at, births, rounds;
	_Atomic int stop;
	char failure[256];
};
static struct shared *shared;
static uint64_t rng;
static long deadline_ms;

static uint64_t next(void)
{
	return random_next(&rng);
}

static uint64_t below(uint64_t n)
{
	return next() % n;
}

/* The first failure is the one that is told. */
static void failed(const char *what, uint64_t value)
{
	if (!shared->failure[0])
		snprintf(shared->failure, sizeof(shared->failure), "%s (0x%llx)", what, (unsigned long long)value);
}

/* Children ---------------------------------------------------------------------------------------- */

/* A child that is the init of namespaces of its own; 0 in the child. */
static pid_t new_child(void)
{
	uint64_t flags = CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | SIGCHLD;

	return (pid_t)raw(SYS_clone, (uint64_t[6]){ flags });
}

/* SIGKILL, and the end of it. */
static void end_child(pid_t pid)
{
	long end = now_ms() + 40000; /* other work on the host makes it slow */

	kill(pid, SIGKILL);
	while (waitpid(pid, NULL, WNOHANG | __WALL) == 0) {
		if (now_ms() > end) {
			failed("a child does not die", (uint64_t)pid);
			return;
		}
		usleep(1000);
	}
}

/*
 * step(0), step(1) ... step(count - 1) in children; one that dies in a step, or makes no progress for a second, is
 * followed by one that goes on with the next step. Comes back when all is done or the time is over.
 */
static void steps_in_children(void (*prepare)(void), void (*step)(uint64_t index), uint64_t count)
{
	atomic_store(&shared->at, 0);
	while (atomic_load(&shared->at) < count && now_ms() < deadline_ms) {
		uint64_t seen = atomic_load(&shared->at);
		long patience = now_ms() + 1000;
		pid_t pid = new_child();

		if (pid == 0) {
			prepare();
			for (uint64_t i; (i = atomic_fetch_add(&shared->at, 1)) < count;)
				step(i);
			_exit(0);
		}
		if (pid < 0) {
			failed("clone", (uint64_t)-pid);
			return;
		}
		atomic_fetch_add(&shared->births, 1);
		while (waitpid(pid, NULL, WNOHANG | __WALL) == 0) {
			uint64_t at = atomic_load(&shared->at);

			if (at != seen)
				patience = now_ms() + 1000;
			seen = at;
			if (now_ms() > patience || now_ms() > deadline_ms + 1000) {
				end_child(pid);
				break;
			}
			usleep(500);
		}
	}
	atomic_fetch_add(&shared->rounds, atomic_load(&shared->at));
}

/* attack() in one child after the other, each killed after ms, until the time is over. */
static void rounds_in_children(void (*attack)(void), int ms)
{
	for (; now_ms() < deadline_ms; atomic_fetch_add(&shared->rounds, 1)) {
		uint64_t seed = next();
		long end = now_ms() + ms;
		pid_t pid = new_child();

		if (pid == 0) {
			rng = seed;
			attack();
			_exit(0);
		}
		if (pid < 0) {
			failed("clone", (uint64_t)-pid);
			return;
		}
		while (waitpid(pid, NULL, WNOHANG | __WALL) == 0) {
			if (now_ms() > end) {
				end_child(pid);
				break;
			}
			usleep(1000);
		}
	}
}

/* The victim --------------------------------------------------------------------------------------- */

static void on_own_signal(int signo)
{
	(void)signo;
}

/* Until told to stop: calls, faults, signals, forks whose results are known. */
static void victim(void)
{
	uint64_t *page = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pid_t self = getpid();
	int pair[2], status;

	signal(SIGUSR1, on_own_signal);
	if (page == MAP_FAILED || pipe(pair) < 0)
		failed("victim: no memory or pipe", 0);
	for (uint64_t i = 1; !atomic_load(&shared->stop) && !shared->failure[0]; i++) {
		double kept = (double)i + 0.5;
		uint64_t got = 0;
		pid_t pid;

		__asm__ volatile("movsd %0, %%xmm11" : : "m"(kept) : "xmm11");
		long result = raw(SYS_getpid, (uint64_t[6]){ 0 });
		__asm__ volatile("movsd %%xmm11, %0" : "=m"(kept) : : "xmm11");
		if (result != self || kept != (double)i + 0.5)
			failed("victim: getpid or a register", (uint64_t)result);
		if (raw(SYS_getuid, (uint64_t[6]){ 0 }) != 0)
			failed("victim: getuid", 0);
		madvise(page, 16 * PAGE, MADV_DONTNEED);
		for (int n = 0; n < 16; n++)
			if (page[n * 512])
				failed("victim: a fresh page is not zero", page[n * 512]);
		page[8] = i;
		raise(SIGUSR1);
		if (write(pair[1], &page[8], 8) != 8 || read(pair[0], &got, 8) != 8 || got != i)
			failed("victim: pipe", got);
		usleep(500); /* it watches; it is not the load */
		if (i % 32)
			continue;
		pid = fork();
		if (pid == 0)
			_exit(page[8] == i && getppid() == self ? 7 : 1);
		if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
			failed("victim: fork", (uint64_t)(pid < 0 ? errno : status));
	}
	_exit(shared->failure[0] != 0);
}

/* Catching what an attack's child does to itself ------------------------------------------------------ */

static sigjmp_buf back;
static volatile int armed; /* back is of a call that runs: else what an attack depends on is gone, and so is its child */
static uint64_t own_fs;
static int own_pid;

/* Registers and thread pointer may be anything when it runs. */
__attribute__((optimize("no-stack-protector"))) static void on_trouble(int signo)
{
	(void)signo;
	__asm__ volatile("wrfsbase %0" : : "r"(own_fs));
	if (!armed)
		_exit(1);
	siglongjmp(back, 1);
}

/* Every signal that an instruction can cause, and a timer against loops, on a stack of their own. */
static void catch_trouble(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGALRM };
	static char stack[8 * 65536];
	struct sigaction action = { .sa_handler = on_trouble, .sa_flags = SA_ONSTACK | SA_NODEFER };
	stack_t alternate = { .ss_sp = stack, .ss_size = sizeof(stack) };
	struct itimerval often = { { 0, 10000 }, { 0, 10000 } };

	__asm__ volatile("rdfsbase %0" : "=r"(own_fs));
	own_pid = (int)raw(SYS_getpid, (uint64_t[6]){ 0 });
	sigaltstack(&alternate, NULL);
	for (size_t i = 0; i < COUNT(signals); i++)
		sigaction(signals[i], &action, NULL);
	setitimer(ITIMER_REAL, &often, NULL);
}

/* Whether a byte there can be read, or also written. */
static int touch(uint64_t addr, int write)
{
	volatile uint64_t *at = (volatile uint64_t *)addr;

	armed = 1;
	if (!sigsetjmp(back, 0)) {
		if (write)
			*at = *at;
		else
			(void)*at;
		armed = 0;
		return 1;
	}
	armed = 0;
	return 0;
}

/* jump: every byte of the pages that are ours ----------------------------------------------------------- */

static uint64_t jump_regs[16], jump_to;
static uint64_t jump_data[8 * 512] __attribute__((aligned(4096)));

/* Where a `ret` of the attacked code ends. */
static void landed(void)
{
	__asm__ volatile("wrfsbase %0" : : "r"(own_fs));
	if (!armed)
		_exit(1);
	siglongjmp(back, 1);
}

static void jump(void)
{
	armed = 1;
	if (sigsetjmp(back, 0)) {
		armed = 0;
		return;
	}
	__asm__ volatile("lea jump_regs_(%%rip), %%rax\n"
			 "mov 8(%%rax), %%rbx; mov 16(%%rax), %%rcx; mov 24(%%rax), %%rdx; mov 32(%%rax), %%rsi\n"
			 "mov 40(%%rax), %%rdi; mov 48(%%rax), %%rbp; mov 56(%%rax), %%rsp; mov 64(%%rax), %%r8\n"
			 "mov 72(%%rax), %%r9; mov 80(%%rax), %%r10; mov 88(%%rax), %%r11; mov 96(%%rax), %%r12\n"
			 "mov 104(%%rax), %%r13; mov 112(%%rax), %%r14; mov 120(%%rax), %%r15; mov (%%rax), %%rax\n"
			 "jmp *%0\n"
			 ".set jump_regs_, %c1"
			 :
			 : "m"(jump_to), "i"(jump_regs)
			 : "memory");
	__builtin_unreachable();
}

static const uint64_t code_pages[] = { STUB_CODE, STUB_FAST, STUB_SITES, STUB_ARGS, STUB_AREAS };
enum { JUMP_WAYS = 3, JUMP_BYTES = 4096, JUMP_STRIDE = 30011 };
static uint64_t jump_first; /* so that a short run sees a part of all */

static void jump_step(uint64_t number)
{
	const uint64_t index = (number * JUMP_STRIDE + jump_first) % (COUNT(code_pages) * JUMP_BYTES * JUMP_WAYS);
	uint64_t way = index % JUMP_WAYS, at = index / JUMP_WAYS;
	static const long numbers[] = { SYS_getpid, NR_REPORT, SYS_mmap, SYS_munmap, SYS_exit_group, SYS_seccomp, SYS_kill };

	rng = index;
	for (size_t i = 0; i < COUNT(jump_data); i++)
		jump_data[i] = i % 8 == 3 ? STUB_CODE : (uint64_t)landed;
	for (int i = 0; i < 16; i++)
		jump_regs[i] = way == 2 ? next() >> below(64) : (uint64_t)&jump_data[512 * (1 + below(6))];
	jump_regs[0] = way == 0 ? (uint64_t)numbers[below(COUNT(numbers))] : (uint64_t)&jump_data[512];
	if (way == 1) /* areas as data: our own, or a sibling's */
		jump_regs[1] = jump_regs[13] = jump_regs[7] = STUB_AREAS + below(4) * STUB_AREA_SIZE + below(2) * AREA_FAST;
	jump_regs[14] = below(3);
	jump_to = code_pages[at / JUMP_BYTES] + at % JUMP_BYTES;
	jump();
}

static void jump_attack(void)
{
	jump_first = next();
	steps_in_children(catch_trouble, jump_step, COUNT(code_pages) * JUMP_BYTES * JUMP_WAYS);
}

/* areas: the writable memory of all threads, written without a pause while they make calls ------------------ */

enum { AREAS_SEEN = 256, AREA_CALLERS = 3 };

static uint64_t area_list[AREAS_SEEN];
static size_t area_count;

static void *area_caller(void *arg)
{
	static char pages[4 * 4096] __attribute__((aligned(4096)));
	stack_t stack;

	for (uint64_t i = (uint64_t)arg;; i++) {
		raw(SYS_getpid, (uint64_t[6]){ 0 });
		raw(SYS_sigaltstack, (uint64_t[6]){ 0, (uint64_t)&stack }); /* one that needs all registers */
		raw(SYS_madvise, (uint64_t[6]){ (uint64_t)pages, sizeof(pages), MADV_DONTNEED });
		pages[i % 4 * 4096] = 1;
		if (i % 8 == 0)
			raw(SYS_tgkill, (uint64_t[6]){ (uint64_t)own_pid, (uint64_t)gettid(), SIGUSR1 });
		if (i % 64 == 0)
			waitpid(fork() ?: (_exit(0), 0), NULL, 0);
	}
	return NULL;
}

static void areas_round(void)
{
	static const uint64_t values[] = { 0, 1, 2, 3, 4, UINT64_MAX, 1UL << 63, STUB_CODE, STUB_ARGS, STUB_AREAS, NR_REPORT,
					   0x0000800000000000, 0xffffffffff600000, 0xffffffff81000000, 0x33, 0x2b };
	pthread_t thread;

	signal(SIGUSR1, on_own_signal);
	catch_trouble();
	for (uint64_t i = 0; i < AREA_CALLERS; i++)
		pthread_create(&thread, NULL, area_caller, (void *)i);
	for (uint64_t i = 0; i < AREAS_SEEN * 4 && area_count < AREAS_SEEN; i++)
		if (touch(STUB_AREAS + i * STUB_AREA_SIZE, 1))
			area_list[area_count++] = STUB_AREAS + i * STUB_AREA_SIZE;
	while (area_count) {
		if (sigsetjmp(back, 0))
			continue;
		armed = 1;
		uint64_t *area = (uint64_t *)area_list[below(area_count)];
		uint64_t words = STUB_AREA_SIZE / 8, from = below(3) ? below(64) : below(words);

		if (below(4) == 0)
			from = AREA_FAST / 8 + below(FAST_SIZE / 8);
		for (uint64_t n = 1 + below(32); n && from < words; n--, from++)
			((volatile uint64_t *)area)[from] = below(2) ? values[below(COUNT(values))] : next();
	}
	pause();
}

static void areas_attack(void)
{
	rounds_in_children(areas_round, 120);
}

/* map: changes of mappings over and around what is not the guest's ------------------------------------------ */

/* An address that no mapping of the guest may have: the calls answer as for addresses outside of Linux's. */
static void must_refuse(uint64_t addr, uint64_t size)
{
	void *at = (void *)addr, *own = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec here = { own, 8 }, there = { at, 8 };
	int mem = open("/proc/self/mem", O_RDWR);
	int low = addr < STUB_GUEST_MIN;

	if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED)
		failed("mmap over the platform's memory", addr);
	if (mmap(at, size, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == at)
		failed("mmap beside the platform's memory", addr);
	if (!low && munmap(at, size) == 0) /* of nothing, low down, is fine */
		failed("munmap of the platform's memory", addr);
	if (mprotect(at, size, PROT_READ | PROT_WRITE | PROT_EXEC) == 0)
		failed("mprotect of the platform's memory", addr);
	if (mremap(at, PAGE, 2 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED)
		failed("mremap of the platform's memory", addr);
	if (mremap(own, PAGE, size, MREMAP_MAYMOVE | MREMAP_FIXED, at) != MAP_FAILED)
		failed("mremap onto the platform's memory", addr);
	if (madvise(at, size, MADV_DONTNEED) == 0)
		failed("madvise of the platform's memory", addr);
	if (mlock(at, size) == 0)
		failed("mlock of the platform's memory", addr);
	if (process_vm_readv(own_pid, &here, 1, &there, 1, 0) > 0 || process_vm_writev(own_pid, &here, 1, &there, 1, 0) > 0)
		failed("process_vm access to the platform's memory", addr);
	if (pread(mem, own, 8, (off_t)addr) > 0 || pwrite(mem, own, 8, (off_t)addr) > 0)
		failed("/proc/self/mem access to the platform's memory", addr);
	if (read(open("/dev/zero", O_RDONLY), at, 8) > 0)
		failed("read into the platform's memory", addr);
	close(mem);
	munmap(own, PAGE);
}

/* The guest's own list of mappings ends where its range does. */
static void maps_are_the_guests(uint64_t min, uint64_t max)
{
	FILE *f = fopen("/proc/self/maps", "r");
	unsigned long from, to;
	char line[512];

	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &from, &to) != 2 || strstr(line, "[vsyscall]"))
			continue;
		if (from < min || to > max)
			failed("/proc/self/maps lists the platform's memory", from);
	}
	if (f)
		fclose(f);
}

static void map_round(void)
{
	static const uint64_t outside[] = { STUB_CODE, STUB_ARGS, STUB_ARGS + PAGE, STUB_REQ };
	static const uint64_t systrap[] = { STUB_FAST, STUB_AREAS, STUB_AREAS + STUB_AREA_SIZE, STUB_GUEST_MAX,
					    STUB_AREAS + (STUB_AREA_COUNT - 1UL) * STUB_AREA_SIZE, STUB_SITES,
					    STUB_SITES + STUB_SITES_SIZE - PAGE };
	static const uint64_t sizes[] = { PAGE, 2 * PAGE, 16 * PAGE };
	int is_systrap, has_stub;

	catch_trouble();
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	is_systrap = touch(STUB_FAST, 0);
	has_stub = touch(STUB_CODE, 0); /* kvm keeps nothing where the guest can see it */
	maps_are_the_guests(is_systrap ? STUB_GUEST_MIN : 0x10000, is_systrap ? STUB_GUEST_MAX : STUB_REQ);
	for (size_t i = 0; i < COUNT(outside); i++)
		must_refuse(outside[i], sizes[below(COUNT(sizes))]);
	for (size_t i = 0; is_systrap && i < COUNT(systrap); i++)
		must_refuse(systrap[i], sizes[below(COUNT(sizes))]);
	if (is_systrap) { /* across its beginning, and all there is */
		must_refuse(STUB_GUEST_MAX - PAGE, 2 * PAGE);
		must_refuse(STUB_GUEST_MAX - PAGE, STUB_TASK_SIZE - STUB_GUEST_MAX + PAGE);
	}
	/* Code and arguments are not the guest's to write, and still there if they ever were. */
	for (size_t i = 0; i < COUNT(outside) - 1; i++)
		if (touch(outside[i], 1) || touch(outside[i], 0) != has_stub)
			failed("the platform's memory can be written or is gone", outside[i]);
	if (touch(STUB_REQ, 0))
		failed("the zygote's mailbox is there", STUB_REQ);
	if (raw(SYS_getpid, (uint64_t[6]){ 0 }) != own_pid)
		failed("getpid after it", 0);
	_exit(0);
}

static void map_attack(void)
{
	rounds_in_children(map_round, 2000);
}

/* code: a hot call site that changes while it runs ------------------------------------------------------- */

static uint8_t *hot; /* mov $nr, %eax; syscall; ret */
static int hot_garbage;
static const uint8_t hot_code[] = { 0xb8, SYS_getpid, 0, 0, 0, 0x0f, 0x05, 0xc3 };

static long call_hot(void)
{
	long result;

	__asm__ volatile("call *%1" : "=a"(result) : "r"(hot) : "rcx", "r11", "memory");
	return result;
}

/* One that faults while the page is not executable tries again; any other end is the child's own. */
static void *hot_caller(void *arg)
{
	for (uint64_t i = 0;; i++) {
		long result = call_hot();

		if (!hot_garbage && result != own_pid && result != 0)
			failed("a call site that changes gave what neither call gives", (uint64_t)result);
		if (arg && i % 512 == 0)
			waitpid(fork() ?: (_exit(call_hot() < 0), 0), NULL, 0);
	}
	return NULL;
}

static void on_retry(int signo)
{
	(void)signo;
	usleep(100);
}

static void code_round(void)
{
	uint8_t seen[sizeof(hot_code)], *page;
	int mem = open("/proc/self/mem", O_RDWR);
	pthread_t thread;

	own_pid = (int)raw(SYS_getpid, (uint64_t[6]){ 0 });
	hot_garbage = below(2) == 0;
	if (!hot_garbage) /* the caller meets a page that is not executable for a moment */
		signal(SIGSEGV, on_retry);
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(page, 0x90, PAGE); /* a site is taken for one only behind code */
	hot = page + 64;
	memcpy(hot, hot_code, sizeof(hot_code));
	mprotect(page, PAGE, PROT_READ | PROT_EXEC);
	pthread_create(&thread, NULL, hot_caller, NULL);
	pthread_create(&thread, NULL, hot_caller, hot_garbage ? NULL : hot);
	for (uint64_t i = 0;; i++) {
		usleep((useconds_t)below(3000)); /* time to get hot */
		if (!hot_garbage && (pread(mem, seen, sizeof(seen), (off_t)(uintptr_t)hot) != sizeof(seen) ||
				 (seen[1] != SYS_getpid && seen[1] != SYS_getuid) || seen[5] != 0x0f || seen[6] != 0x05))
			failed("/proc/self/mem shows other code than the guest's", seen[5]);
		mprotect(page, PAGE, PROT_READ | PROT_WRITE | (below(2) ? PROT_EXEC : 0));
		if (hot_garbage) {
			size_t at = below(sizeof(hot_code));

			memcpy(hot, hot_code, sizeof(hot_code));
			if (i % 2)
				hot[at] = (uint8_t)next();
			if (i % 8 == 5) /* syscall; cmp $-4096, %rax; ret; sometimes with a byte changed */
				memcpy(hot, "\xb0\x27\x0f\x05\x48\x3d\0\xf0\xff\xff\xc3", 11);
			if (i % 16 == 13)
				hot[below(11)] = (uint8_t)next();
		} else {
			memcpy(hot, hot_code, sizeof(hot_code));
			hot[1] = i % 2 ? SYS_getpid : SYS_getuid;
		}
		mprotect(page, PAGE, PROT_READ | PROT_EXEC);
	}
}

static void code_attack(void)
{
	rounds_in_children(code_round, 250);
}

/* entries: every number through every way in ----------------------------------------------------------------- */

static uint64_t entry_buffer[1024] __attribute__((aligned(4096)));
enum { NUMBERS = 601 };
static const uint64_t odd_numbers[] = { 999, 1000, 1001, 1002, 1023, 1024, 4095, 4096, NR_REPORT - 1, NR_REPORT, NR_REPORT + 1,
					0x3fffffff, 0x7fffffff, 0x80000000, 0xffffffff, 1UL << 32, (1UL << 32) + SYS_getpid,
					UINT64_MAX, 1UL << 63 };
enum { ALL_NUMBERS = NUMBERS + 19, WAYS_IN = 5, ARGUMENT_SETS = 3 };
_Static_assert(ALL_NUMBERS == NUMBERS + COUNT(odd_numbers), "odd_numbers");

static long enter(uint64_t way, uint64_t nr, const uint64_t *a)
{
	long result = (long)nr;

	switch (way) {
	case 0:
		return raw((long)nr, a);
	case 1: /* x32 */
		return raw((long)(nr | 0x40000000), a);
	case 2:
		__asm__ volatile("push %%rbp; push %%rbx; mov %3, %%rbx; xor %%ebp, %%ebp; int $0x80; pop %%rbx; pop %%rbp"
				 : "+a"(result)
				 : "c"(a[1]), "d"(a[2]), "r"(a[0]), "S"(a[3]), "D"(a[4])
				 : "r8", "r9", "r10", "r11", "memory");
		return (int)result;
	case 3: /* comes back somewhere else, if at all */
		__asm__ volatile("mov %%rsp, %%rbp; sysenter" : "+a"(result) : "b"(a[0]), "c"(a[1]), "d"(a[2]) : "memory");
		return result;
	default: /* the vsyscall page: its three entries, and bytes beside them */
		__asm__ volatile("call *%1"
				 : "+a"(result)
				 : "r"(0xffffffffff600000 + nr % 620 * 8), "D"(a[0]), "S"(a[1]), "d"(a[2])
				 : "rcx", "r8", "r9", "r10", "r11", "memory");
		return result;
	}
}

static void entries_step(uint64_t index)
{
	const uint64_t set = index % ARGUMENT_SETS;
	const volatile uint64_t n = index / ARGUMENT_SETS % ALL_NUMBERS;
	const uint64_t way = index / ARGUMENT_SETS / ALL_NUMBERS;
	const uint64_t nr = n < NUMBERS ? n : odd_numbers[n - NUMBERS];
	uint64_t a[6];
	volatile long result = 0;

	for (int i = 0; i < 6; i++)
		a[i] = set == 0 ? 0 : set == 1 ? UINT64_MAX : (uint64_t)&entry_buffer[64 * i];
	memset(entry_buffer, 0, sizeof(entry_buffer));
	if (way == 3 && n % 8)
		return; /* it seldom comes back: fewer deaths */
	armed = 1;
	if (!sigsetjmp(back, 0))
		result = enter(way, nr, a);
	armed = 0;
	if ((int)raw(SYS_getpid, (uint64_t[6]){ 0 }) != own_pid)
		_exit(0); /* a fork */
	if (way == 0 && nr >= 480 && nr < NUMBERS && result != -ENOSYS && result != 0)
		failed("a number that Linux does not have is answered", nr);
	if (way < 2 && nr == SYS_getpid && result != own_pid && result != -ENOSYS)
		failed("getpid told another process id", (uint64_t)result);
	if (way == 2 && nr == 20 && result != own_pid && result != -ENOSYS && result != 0)
		failed("int $0x80 getpid told another process id", (uint64_t)result);
	if (way < 2 && nr == SYS_getuid && result != 0 && result != -ENOSYS)
		failed("getuid told another user", (uint64_t)result);
	if (n % 64 == 0)
		catch_trouble(); /* what a call took away */
}

static void entries_attack(void)
{
	steps_in_children(catch_trouble, entries_step, (uint64_t)WAYS_IN * ALL_NUMBERS * ARGUMENT_SETS);
}

/* exhaust: as many processes, threads and mappings as there are ---------------------------------------------- */

enum { BOMB_PROCESSES = 400, BOMB_THREADS = 600, MAPPINGS = 70000 };

static void bomb(void)
{
	while (atomic_fetch_add(&shared->births, 1) < BOMB_PROCESSES)
		if (fork() < 0)
			usleep(1000);
	pause();
}

static void *sleeper(void *arg)
{
	pause();
	return arg;
}

static void threads(void)
{
	pthread_attr_t attr;
	pthread_t thread;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 32768);
	for (int i = 0; i < BOMB_THREADS; i++)
		if (pthread_create(&thread, &attr, sleeper, NULL))
			break;
	pause();
}

/* More mappings than the host gives one process: pages keep what was written to them. */
static void mappings(void)
{
	uint64_t *map = mmap(NULL, MAPPINGS * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		_exit(0);
	for (uint64_t i = 0; i < MAPPINGS; i++) {
		map[i * 512] = i;
		if (i % 2 && mprotect(&map[i * 512], PAGE, PROT_READ) < 0)
			break;
	}
	for (uint64_t i = 0; i < MAPPINGS; i++)
		if (map[i * 512] && map[i * 512] != i)
			failed("a page has changed", i);
	_exit(0);
}

static void exhaust_attack(void)
{
	static void (*const all[])(void) = { bomb, threads, mappings };
	long give_up;
	int status;

	for (size_t i = 0; i < COUNT(all); i++) {
		atomic_store(&shared->births, 0);
		deadline_ms = now_ms() + 1500;
		rounds_in_children(all[i], 1400);
		/* Now there must be room again. */
		give_up = now_ms() + 40000;
		for (;;) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(7);
			if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7)
				break;
			if (now_ms() > give_up) {
				failed("no process can be made after it", i);
				return;
			}
			usleep(10000);
		}
	}
}

/* The runner ------------------------------------------------------------------------------------------------ */

static const struct {
	const char *name;
	void (*run)(void);
	int with_victim; /* exhaust takes what a victim needs, too */
} attacks[] = {
	{ "jump", jump_attack, 1 }, { "areas", areas_attack, 1 },     { "map", map_attack, 1 },
	{ "code", code_attack, 1 }, { "entries", entries_attack, 1 }, { "exhaust", exhaust_attack, 0 },
};

int main(int argc, char **argv)
{
	pid_t pid = -1;
	size_t chosen;
	int status = 0;

	for (size_t i = 0; argc == 2 && !strcmp(argv[1], "-l") && i < COUNT(attacks); i++)
		puts(attacks[i].name);
	if (argc < 3)
		return argc == 2 ? 0 : 2;
	if (!in_sandbox()) {
		fprintf(stderr, "guest_attacks: runs in a sandbox only\n");
		return 2;
	}
	for (chosen = 0; chosen < COUNT(attacks) && strcmp(argv[1], attacks[chosen].name) != 0;)
		chosen++;
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED || chosen == COUNT(attacks))
		return 2;
	rng = argc > 3 ? strtoull(argv[3], NULL, 0) : (uint64_t)time(NULL) << 16 | (uint64_t)getpid();
	printf("seed %llu\n", (unsigned long long)rng);
	fflush(stdout);
	deadline_ms = now_ms() + atoi(argv[2]) * 1000L;
	if (attacks[chosen].with_victim && (pid = fork()) == 0)
		victim();
	attacks[chosen].run();
	atomic_store(&shared->stop, 1);
	if (pid > 0 && (waitpid(pid, &status, 0) != pid || status != 0))
		failed("the victim ended", (uint64_t)status);
	printf("%s: %llu rounds, %llu children\n", argv[1], (unsigned long long)atomic_load(&shared->rounds),
	       (unsigned long long)atomic_load(&shared->births));
	if (shared->failure[0])
		fprintf(stderr, "%s: %s\n", argv[1], shared->failure);
	return shared->failure[0] != 0;
}
