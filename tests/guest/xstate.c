/*
 * Vector, mask and tile registers: what system calls, signals, fork and debuggers keep of them, and how frames show them.
 */
#include "tests/lib/guest.h"

#include <cpuid.h>
#include <elf.h>
#include <pthread.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <ucontext.h>

enum { SW_BYTES = 464, HEADER = 512, AVX = 2, OPMASK = 5, ZMM_HI = 6, ZMM_16 = 7, TILE_DATA = 18 };
enum { MAGIC1 = 0x46505853, MAGIC2 = 0x46505845 };
enum { GET_XCOMP_SUPP = 0x1021, GET_XCOMP_PERM = 0x1022, REQ_XCOMP_PERM = 0x1023 };

/* All registers of the vector units. */
struct vectors {
	uint8_t zmm[32][64];
	uint64_t k[8];
};
/* What happens between the loads and the stores of vectors_512 and vectors_256. */
struct deed {
	long kind; /* 0: the system call below; 1: a ud2; 2: spinning until *flag; 3: a load from *flag */
	long nr, arg[4];
	volatile int *flag;
	long result;
};

#define BETWEEN                                                                                    \
	"	cmpq $1, (%r14); je 2f; ja 3f\n"                                                    \
	"	mov 8(%r14), %rax; mov 16(%r14), %rdi; mov 24(%r14), %rsi; mov 32(%r14), %rdx; mov 40(%r14), %r10\n" \
	"	syscall; mov %rax, 56(%r14); jmp 5f\n"                                              \
	"2:	ud2; jmp 5f\n"                                                                      \
	"3:	mov 48(%r14), %rax; cmpq $3, (%r14); je 4f\n"                                       \
	"6:	cmpl $0, (%rax); je 6b; jmp 5f\n"                                                   \
	"4:	mov (%rax), %eax\n"                                                                 \
	"5:\n"
#define ENTER "	push %r12; push %r13; push %r14; mov %rdi, %r12; mov %rsi, %r13; mov %rdx, %r14\n"
#define LEAVE "	pop %r14; pop %r13; pop %r12; ret\n"
#define LIST_16 "0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15"
#define LIST_32 LIST_16 ",16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31"

void vectors_512(const struct vectors *in, struct vectors *out, struct deed *deed);
void vectors_256(const struct vectors *in, struct vectors *out, struct deed *deed);
__asm__(".text\n"
	"vectors_512:\n" ENTER ".irp i," LIST_32 "\n vmovdqu64 64*\\i(%r12), %zmm\\i\n.endr\n"
	".irp i,0,1,2,3,4,5,6,7\n kmovq 2048+8*\\i(%r12), %k\\i\n.endr\n" BETWEEN
	".irp i," LIST_32 "\n vmovdqu64 %zmm\\i, 64*\\i(%r13)\n.endr\n"
	".irp i,0,1,2,3,4,5,6,7\n kmovq %k\\i, 2048+8*\\i(%r13)\n.endr\n vzeroupper\n" LEAVE
	"vectors_256:\n" ENTER ".irp i," LIST_16 "\n vmovdqu 64*\\i(%r12), %ymm\\i\n.endr\n" BETWEEN
	".irp i," LIST_16 "\n vmovdqu %ymm\\i, 64*\\i(%r13)\n.endr\n vzeroupper\n" LEAVE);

static uint64_t xcr0(void)
{
	uint32_t lo, hi, a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 3;
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	return (uint64_t)hi << 32 | lo;
}

static bool has_512(void)
{
	return (xcr0() & 0xe0) == 0xe0;
}

static void need_avx(void)
{
	if (!(xcr0() & 4))
		test_skip("no AVX here");
}

static struct vectors pattern(unsigned int seed)
{
	struct vectors v = { 0 };
	size_t registers = has_512() ? 32 : 16, size = has_512() ? 64 : 32;

	for (size_t i = 0; i < registers; i++)
		for (size_t j = 0; j < size; j++)
			v.zmm[i][j] = (uint8_t)(seed + 37 * i + 11 * j + i * j);
	for (size_t i = 0; has_512() && i < 8; i++)
		v.k[i] = 0x0123456789abcdef * (seed + i + 1);
	return v;
}

static void run(const struct vectors *in, struct vectors *out, struct deed *deed)
{
	*out = (struct vectors){ 0 };
	if (has_512())
		vectors_512(in, out, deed);
	else
		vectors_256(in, out, deed);
}

#define CHECK_KEPT(in, out) CHECK_MEM(&(in), &(out), sizeof(struct vectors))

/* Other values in all registers: a handler that kept nothing for the code that it interrupts. */
static void scribble(unsigned int seed)
{
	struct vectors in = pattern(seed), out;

	run(&in, &out, &(struct deed){ .nr = SYS_getppid });
}

TEST(calls_keep_registers)
{
	struct timespec ms = { 0, 1000000 };
	struct deed deeds[] = { { .nr = SYS_getpid },
				{ .nr = SYS_sched_yield },
				{ .nr = SYS_nanosleep, .arg = { (long)&ms, 0 } },
				{ .nr = SYS_rt_sigprocmask, .arg = { SIG_BLOCK, 0, 0, 8 } },
				{ .nr = 5000 } };

	need_avx();
	for (unsigned int i = 0; i < 50; i++) {
		struct vectors in = pattern(i), out;

		run(&in, &out, &deeds[i % COUNT(deeds)]);
		CHECK_KEPT(in, out);
	}
}

TEST(fork_copies_registers)
{
	struct vectors in = pattern(3), out;
	struct deed deed = { .nr = SYS_fork };

	need_avx();
	run(&in, &out, &deed);
	CHECK_KEPT(in, out);
	if (deed.result == 0)
		_exit(memcmp(&in, &out, sizeof(in)) ? 1 : 42);
	WAIT_EXIT((pid_t)deed.result, 42);
}

static void *thread_keeps(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	struct vectors in = pattern(seed), out;

	for (int i = 0; i < 200; i++) {
		run(&in, &out, &(struct deed){ .nr = SYS_sched_yield });
		if (memcmp(&in, &out, sizeof(in)))
			return (void *)1;
	}
	return NULL;
}

TEST(threads_have_their_own)
{
	pthread_t threads[6];
	void *bad;

	need_avx();
	for (size_t i = 0; i < COUNT(threads); i++)
		CHECK_EQ(pthread_create(&threads[i], NULL, thread_keeps, (void *)(i * 7 + 1)), 0);
	for (size_t i = 0; i < COUNT(threads); i++) {
		CHECK_EQ(pthread_join(threads[i], &bad), 0);
		CHECK(!bad);
	}
}

static volatile int spin_end, alarms;

static void on_tick(int signo)
{
	(void)signo;
	scribble((unsigned int)alarms);
	alarms = alarms + 1;
	spin_end = alarms >= 20;
}

TEST(timer_signals_keep_registers)
{
	struct vectors in = pattern(9), out;

	need_avx();
	on_signal(SIGALRM, on_tick, SA_RESTART);
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 2000 }, { 0, 2000 } }, NULL);
	run(&in, &out, &(struct deed){ .kind = 2, .flag = &spin_end });
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
	CHECK_KEPT(in, out);
	CHECK(alarms >= 20);
}

static char *late_page;

static void on_fault(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;

	(void)info;
	scribble(77);
	if (signo == SIGSEGV)
		mprotect(late_page, PAGE, PROT_READ | PROT_WRITE);
	else
		uc->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST(faults_keep_registers)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	struct vectors in = pattern(5), out;

	need_avx();
	OK(sigaction(SIGILL, &sa, NULL));
	OK(sigaction(SIGSEGV, &sa, NULL));
	run(&in, &out, &(struct deed){ .kind = 1 });
	CHECK_KEPT(in, out);
	late_page = OK(mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	run(&in, &out, &(struct deed){ .kind = 3, .flag = (volatile int *)late_page });
	CHECK_KEPT(in, out);
	/* A fault that the program does not see. */
	late_page = OK(mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	run(&in, &out, &(struct deed){ .kind = 3, .flag = (volatile int *)late_page });
	CHECK_KEPT(in, out);
}

/* Where component n lies in an XSAVE image of the standard form. */
static size_t offset_of(int n)
{
	uint32_t a, b, c, d;

	CHECK(__get_cpuid_count(13, (unsigned int)n, &a, &b, &c, &d) && a);
	return b;
}

/* Writes v to, or reads it from, an XSAVE image. */
static void image_io(uint8_t *image, struct vectors *v, bool write)
{
#define MOVE(at, member, size) (write ? memcpy(image + (at), member, size) : memcpy(member, image + (at), size))
	for (size_t i = 0; i < 16; i++) {
		MOVE(160 + 16 * i, v->zmm[i], 16);
		MOVE(offset_of(AVX) + 16 * i, v->zmm[i] + 16, 16);
		if (has_512())
			MOVE(offset_of(ZMM_HI) + 32 * i, v->zmm[i] + 32, 32);
		if (has_512())
			MOVE(offset_of(ZMM_16) + 64 * i, v->zmm[16 + i], 64);
	}
	for (size_t i = 0; has_512() && i < 8; i++)
		MOVE(offset_of(OPMASK) + 8 * i, &v->k[i], 8);
#undef MOVE
}

static struct vectors seen, given;
static uint32_t frame_words[4]; /* magic1, xstate_size, extended_size, magic2 */
static uint64_t frame_features, frame_bv, frame_size;
static struct vectors fresh;

static void on_frame(int signo, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint8_t *image = (uint8_t *)uc->uc_mcontext.fpregs;
	uint8_t *sw = image + SW_BYTES;

	if (has_512()) /* before anything here uses them */
		__asm__ volatile("vmovdqu64 %%zmm17, %0; kmovq %%k5, %1" : "=m"(fresh.zmm[17]), "=m"(fresh.k[5]));
	(void)signo;
	(void)info;
	memcpy(&frame_words[0], sw, 4);
	memcpy(&frame_words[2], sw + 4, 4);
	memcpy(&frame_features, sw + 8, 8);
	memcpy(&frame_words[1], sw + 16, 4);
	memcpy(&frame_words[3], image + frame_words[1], 4);
	memcpy(&frame_bv, image + HEADER, 8);
	frame_size = (uintptr_t)image + frame_words[2] - (uintptr_t)context + 8;
	image_io(image, &seen, false);
	image_io(image, &given, true);
	uc->uc_mcontext.gregs[REG_RIP] += 2;
}

TEST(frame_shows_and_sets_registers)
{
	struct sigaction sa = { .sa_sigaction = on_frame, .sa_flags = SA_SIGINFO };
	struct vectors in = pattern(21), out, none = { 0 };

	need_avx();
	given = pattern(90);
	OK(sigaction(SIGILL, &sa, NULL));
	run(&in, &out, &(struct deed){ .kind = 1 });
	CHECK_KEPT(in, seen);
	CHECK_KEPT(given, out);
	CHECK_KEPT(none, fresh);
	CHECK((frame_bv & 6) == 6);
}

TEST(frame_layout)
{
	struct sigaction sa = { .sa_sigaction = on_frame, .sa_flags = SA_SIGINFO };
	uint64_t features = xcr0() & ~(1UL << TILE_DATA);
	struct vectors in = pattern(2), out;
	size_t end = 576;

	need_avx();
	OK(sigaction(SIGILL, &sa, NULL));
	run(&in, &out, &(struct deed){ .kind = 1 });
	for (int i = 2; i < 63; i++) {
		uint32_t a, b, c, d;

		if ((features >> i & 1) && __get_cpuid_count(13, (unsigned int)i, &a, &b, &c, &d))
			end = b + a > end ? b + a : end;
	}
	CHECK_EQ(frame_words[0], MAGIC1);
	CHECK_EQ(frame_words[3], MAGIC2);
	CHECK_EQ(frame_features, features);
	CHECK_EQ(frame_words[1], end);
	CHECK_EQ(frame_words[2], end + 4);
	CHECK(frame_size <= getauxval(AT_MINSIGSTKSZ));
	CHECK((frame_bv & ~features) == 0);
}

static void on_small_stack(int signo)
{
	(void)signo;
	caught_count = caught_count + 1;
}

/* Programs give their handlers the 8192 bytes that SIGSTKSZ was for decades. */
TEST(old_signal_stack_is_enough)
{
	static char stack[8192];
	stack_t ss = { .ss_sp = stack, .ss_size = sizeof(stack) };

	OK(sigaltstack(&ss, NULL));
	on_signal(SIGUSR1, on_small_stack, SA_ONSTACK);
	raise(SIGUSR1);
	CHECK_EQ(caught_count, 1);
}

/* A debugger sees and sets the registers of a stopped child. */
TEST(ptrace_reads_and_writes_registers)
{
	static uint8_t image[16384] __attribute__((aligned(64)));
	struct vectors in = pattern(31), other = pattern(66), out;
	struct iovec iov = { image, sizeof(image) };
	uint64_t features;

	need_avx();
	CHILD(pid)
	{
		OK(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
		run(&in, &out, &(struct deed){ .nr = SYS_kill, .arg = { getpid(), SIGSTOP } });
		CHECK_KEPT(other, out);
	}
	CHECK(WIFSTOPPED(WAIT_STATUS(pid)));
	OK(ptrace(PTRACE_GETREGSET, pid, NT_X86_XSTATE, &iov));
	memcpy(&features, image + SW_BYTES, 8);
	CHECK_EQ(features | 1UL << TILE_DATA, xcr0() | 1UL << TILE_DATA);
	image_io(image, &seen, false);
	CHECK_KEPT(in, seen);
	image_io(image, &other, true);
	OK(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov));
	iov.iov_len = 100;
	ERR(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov), EINVAL);
	iov.iov_len = 104;
	ERR(ptrace(PTRACE_SETREGSET, pid, NT_X86_XSTATE, &iov), EFAULT);
	OK(ptrace(PTRACE_CONT, pid, NULL, NULL));
	WAIT_EXIT(pid, 0);
}

/* Tiles: refused before permission; permission is given and works, or is not to be had. */
TEST(tiles_need_permission)
{
	static struct {
		uint8_t palette, start, reserved[14];
		uint16_t columns[16];
		uint8_t rows[16];
	} config __attribute__((aligned(64))) = { .palette = 1, .columns = { 64 }, .rows = { 16 } };
	static uint8_t data[16][64], back[16][64];
	uint64_t supported = 0, permitted = 0;

	if (!(xcr0() >> TILE_DATA & 1))
		test_skip("no tiles here");
	OK(syscall(SYS_arch_prctl, GET_XCOMP_SUPP, &supported));
	OK(syscall(SYS_arch_prctl, GET_XCOMP_PERM, &permitted));
	CHECK((permitted & 6) == 6 && !(permitted >> TILE_DATA & 1));
	CHECK((permitted & ~supported) == 0);
	ERR(syscall(SYS_arch_prctl, GET_XCOMP_PERM, BAD_PTR), EFAULT);
	ERR(syscall(SYS_arch_prctl, REQ_XCOMP_PERM, 200), EINVAL);
	CHILD(unasked)
	{
		__asm__ volatile("ldtilecfg %0; tilezero %%tmm0" : : "m"(config));
	}
	WAIT_SIGNAL(unasked, SIGILL);
	if (syscall(SYS_arch_prctl, REQ_XCOMP_PERM, TILE_DATA) != 0) {
		CHECK_EQ(errno, EOPNOTSUPP);
		CHECK(!(supported >> TILE_DATA & 1));
		return;
	}
	memset(data, 0x5a, sizeof(data));
	on_signal(SIGUSR1, catch_signal, 0);
	__asm__ volatile("ldtilecfg %0; tileloadd (%1,%2), %%tmm0" : : "m"(config), "r"(data), "r"(64L) : "memory");
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
	__asm__ volatile("tilestored %%tmm0, (%0,%1); tilerelease" : : "r"(back), "r"(64L) : "memory");
	CHECK_MEM(data, back, sizeof(data));
}
