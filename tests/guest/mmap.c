/* Memory without files: mmap, munmap, mprotect, mremap, brk, madvise, mincore, mlock. */
#include "tests/lib/guest.h"

#include <setjmp.h>

static sigjmp_buf fault_jump;
static siginfo_t fault_info;

static void on_fault(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	fault_info = *info;
	siglongjmp(fault_jump, 1);
}

static void catch_faults(void)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGSEGV, &sa, NULL));
	OK(sigaction(SIGBUS, &sa, NULL));
}

/* Did touching the address fault? fault_info then says how. */
static bool faults(volatile char *p, bool write)
{
	if (sigsetjmp(fault_jump, 1))
		return true;
	if (write)
		*p = 1;
	else
		(void)*p;
	return false;
}

static char *map(void *at, size_t size, int prot, int flags)
{
	return mmap(at, size, prot, flags | MAP_ANONYMOUS, -1, 0);
}

#define RW (PROT_READ | PROT_WRITE)

TEST(anonymous_is_zero)
{
	char *p = OK(map(NULL, 64 * PAGE, RW, MAP_PRIVATE));

	for (long i = 0; i < 64 * PAGE; i += 511)
		CHECK_EQ(p[i], 0);
	memset(p, 7, 64 * PAGE);
	CHECK_EQ(p[64 * PAGE - 1], 7);
	OK(munmap(p, 64 * PAGE));
}

TEST(map_errors)
{
	ERR(map(NULL, 0, RW, MAP_PRIVATE), EINVAL);
	ERR(map(NULL, PAGE, RW, 0), EINVAL);
	ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE, 99, 0), EBADF);
	ERR(mmap(NULL, PAGE, RW, MAP_PRIVATE, 0, 100), EINVAL);
	ERR(map((void *)1, PAGE, RW, MAP_PRIVATE | MAP_FIXED), EINVAL);
	ERR(map(NULL, (size_t)1 << 48, RW, MAP_PRIVATE), ENOMEM);
	ERR(munmap((void *)1, PAGE), EINVAL);
	ERR(munmap((void *)PAGE, 0), EINVAL);
	OK(munmap((void *)(1L << 40), PAGE));
	int dir = OK(open(".", O_RDONLY));
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, dir, 0), ENODEV);
	int p[2];
	OK(pipe(p));
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE, p[0], 0), ENODEV);
}

TEST(fixed_replaces_and_noreplace_does_not)
{
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	memset(p, 5, 4 * PAGE);
	CHECK(map(p + PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED) == p + PAGE);
	CHECK_EQ(p[0], 5);
	CHECK_EQ(p[PAGE], 0);
	CHECK_EQ(p[2 * PAGE], 5);
	ERR(map(p, PAGE, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE), EEXIST);
	OK(munmap(p + 3 * PAGE, PAGE));
	CHECK(map(p + 3 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED_NOREPLACE) == p + 3 * PAGE);
}

TEST(hint_is_taken_when_free)
{
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	OK(munmap(p, 4 * PAGE));
	CHECK(map(p, PAGE, RW, MAP_PRIVATE) == p);
	CHECK(map(p, PAGE, RW, MAP_PRIVATE) != p);
}

TEST(fault_on_unmapped)
{
	char *p = page_end();

	catch_faults();
	CHECK(faults(p, false));
	CHECK_EQ(fault_info.si_signo, SIGSEGV);
	CHECK_EQ(fault_info.si_code, SEGV_MAPERR);
	CHECK(fault_info.si_addr == p);
	CHECK(faults((char *)0, true));
	CHECK(fault_info.si_addr == NULL);
	CHECK(!faults(p - 1, true));
}

TEST(fault_by_protection)
{
	char *p = OK(map(NULL, 3 * PAGE, RW, MAP_PRIVATE));

	catch_faults();
	p[PAGE] = 3;
	OK(mprotect(p + PAGE, PAGE, PROT_READ));
	CHECK(!faults(p + PAGE, false));
	CHECK(faults(p + PAGE + 5, true));
	CHECK_EQ(fault_info.si_code, SEGV_ACCERR);
	CHECK(fault_info.si_addr == p + PAGE + 5);
	OK(mprotect(p + PAGE, PAGE, PROT_NONE));
	CHECK(faults(p + PAGE, false));
	OK(mprotect(p, 3 * PAGE, RW));
	CHECK_EQ(p[PAGE], 3);
	CHECK(!faults(p + PAGE, true));
}

TEST(noncanonical_address)
{
	catch_faults();
	CHECK(faults((char *)0x8000000000000000UL, false));
	CHECK_EQ(fault_info.si_signo, SIGSEGV);
	CHECK(faults(KERNEL_PTR, false));
	CHECK_EQ(fault_info.si_signo, SIGSEGV);
}

TEST(mprotect_errors)
{
	char *p = OK(map(NULL, 3 * PAGE, RW, MAP_PRIVATE));

	ERR(mprotect(p + 1, PAGE, PROT_READ), EINVAL);
	OK(munmap(p + PAGE, PAGE));
	ERR(mprotect(p, 3 * PAGE, PROT_READ), ENOMEM);
	OK(mprotect(p, 0, PROT_READ));
	ERR(mprotect(p, PAGE, 0x100), EINVAL);
	write_file("f", "x");
	int fd = OK(open("f", O_RDONLY));
	char *q = OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	ERR(mprotect(q, PAGE, RW), EACCES);
	ERR(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EACCES);
}

TEST(code_can_be_made)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	char *p = OK(map(NULL, PAGE, RW, MAP_PRIVATE));

	memcpy(p, code, sizeof(code));
	OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(((int (*)(void))(void *)p)(), 42);
	OK(mprotect(p, PAGE, RW));
	p[1] = 43;
	OK(mprotect(p, PAGE, PROT_READ | PROT_EXEC));
	CHECK_EQ(((int (*)(void))(void *)p)(), 43);
}

TEST(execute_protection)
{
	char *p = OK(map(NULL, PAGE, RW, MAP_PRIVATE));

	p[0] = (char)0xc3;
	catch_faults();
	if (!sigsetjmp(fault_jump, 1)) {
		((void (*)(void))(void *)p)();
		CHECK(!"ran from a page without PROT_EXEC");
	}
	CHECK_EQ(fault_info.si_signo, SIGSEGV);
	CHECK(fault_info.si_addr == p);
}

TEST(mremap_grows_and_moves)
{
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	strcpy(p, "hello");
	OK(munmap(p + PAGE, 3 * PAGE));
	CHECK(mremap(p, PAGE, 2 * PAGE, 0) == p);
	OK(map(p + 2 * PAGE, PAGE, RW, MAP_PRIVATE | MAP_FIXED));
	ERR(mremap(p, 2 * PAGE, 8 * PAGE, 0), ENOMEM);
	char *q = OK(mremap(p, 2 * PAGE, 8 * PAGE, MREMAP_MAYMOVE));
	CHECK_STR(q, "hello");
	q[8 * PAGE - 1] = 1;
	CHECK(mremap(q, 8 * PAGE, PAGE, 0) == q);
	catch_faults();
	CHECK(faults(q + PAGE, false));
}

TEST(mremap_fixed_and_errors)
{
	char *p = OK(map(NULL, 2 * PAGE, RW, MAP_PRIVATE)), *to = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	strcpy(p, "moved");
	CHECK(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to + PAGE) == to + PAGE);
	CHECK_STR(to + PAGE, "moved");
	catch_faults();
	CHECK(faults(p, false));
	ERR(mremap(to + 1, PAGE, PAGE, 0), EINVAL);
	ERR(mremap(to, PAGE, 0, 0), EINVAL);
	ERR(mremap(to, PAGE, PAGE, MREMAP_FIXED, p), EINVAL);
	ERR(mremap(p, PAGE, 2 * PAGE, MREMAP_MAYMOVE), EFAULT);
	ERR(mremap(to, PAGE, PAGE, 0x80), EINVAL);
}

TEST(brk_moves)
{
	char *start = sbrk(0);

	CHECK(sbrk(10 * PAGE) == start);
	memset(start, 9, 10 * PAGE);
	CHECK(sbrk(-5 * PAGE) == start + 10 * PAGE);
	catch_faults();
	char *end = (char *)(((unsigned long)start + 5 * PAGE + PAGE - 1) & ~(unsigned long)(PAGE - 1));
	CHECK(faults(end, false));
	CHECK_EQ(start[0], 9);
	CHECK_EQ(syscall(SYS_brk, 1), (long)(start + 5 * PAGE));
}

TEST(madvise_dontneed_zeroes)
{
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	memset(p, 8, 4 * PAGE);
	OK(madvise(p + PAGE, PAGE, MADV_DONTNEED));
	CHECK_EQ(p[0], 8);
	CHECK_EQ(p[PAGE], 0);
	CHECK_EQ(p[2 * PAGE], 8);
	OK(madvise(p, PAGE, MADV_WILLNEED));
	OK(madvise(p, 4 * PAGE, MADV_NOHUGEPAGE) == 0 || errno == EINVAL ? 0 : -1);
	ERR(madvise(p + 1, PAGE, MADV_DONTNEED), EINVAL);
	ERR(madvise(p, PAGE, 9999), EINVAL);
	OK(munmap(p + PAGE, PAGE));
	ERR(madvise(p, 3 * PAGE, MADV_DONTNEED), ENOMEM);
}

TEST(madvise_fork_flags)
{
	char *p = OK(map(NULL, 2 * PAGE, RW, MAP_PRIVATE));

	memset(p, 8, 2 * PAGE);
	OK(madvise(p, PAGE, MADV_DONTFORK));
	OK(madvise(p + PAGE, PAGE, MADV_WIPEONFORK));
	CHILD(pid)
	{
		catch_faults();
		CHECK(faults(p, false));
		CHECK_EQ(p[PAGE], 0);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[PAGE], 8);
}

TEST(mincore_reports)
{
	unsigned char vec[4];
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	p[0] = 1;
	OK(mincore(p, 4 * PAGE, vec));
	CHECK_EQ(vec[0] & 1, 1);
	ERR(mincore(p + 1, PAGE, vec), EINVAL);
	OK(munmap(p + 2 * PAGE, PAGE));
	ERR(mincore(p, 4 * PAGE, vec), ENOMEM);
	ERR(mincore(p, PAGE, BAD_PTR), EFAULT);
}

TEST(mlock_family)
{
	char *p = OK(map(NULL, 4 * PAGE, RW, MAP_PRIVATE));

	OK(mlock(p, 2 * PAGE));
	OK(munlock(p, 2 * PAGE));
	OK(mlockall(MCL_CURRENT));
	OK(munlockall());
	ERR(mlockall(0), EINVAL);
	OK(syscall(SYS_mlock2, p, PAGE, 1));
	ERR(syscall(SYS_mlock2, p, PAGE, 8), EINVAL);
	OK(munmap(p + PAGE, PAGE));
	ERR(mlock(p, 4 * PAGE), ENOMEM);
	OK(msync(p, PAGE, MS_SYNC));
	ERR(msync(p, PAGE, MS_SYNC | MS_ASYNC), EINVAL);
	ERR(msync(p + PAGE, PAGE, MS_SYNC), ENOMEM);
}

TEST(address_space_limit)
{
	unsigned long lim[2];

	OK(syscall(SYS_prlimit64, 0, 9 /* RLIMIT_AS */, NULL, lim));
	lim[0] = 256UL << 20;
	OK(syscall(SYS_prlimit64, 0, 9, lim, NULL));
	ERR(map(NULL, 1UL << 30, RW, MAP_PRIVATE), ENOMEM);
	OK(map(NULL, 1UL << 20, RW, MAP_PRIVATE));
}

TEST(stack_grows)
{
	volatile char deep[2 << 20];

	for (size_t i = 0; i < sizeof(deep); i += 1000)
		deep[sizeof(deep) - 1 - i] = 1;
	CHECK_EQ(deep[sizeof(deep) - 1], 1);
}

static int recurse(int depth)
{
	volatile char frame[4096];

	frame[0] = (char)depth;
	return depth > 0 ? recurse(depth + 1) + frame[0] : 0;
}

TEST(stack_overflow_on_altstack)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t alt = { .ss_sp = malloc(65536), .ss_size = 65536 };

	OK(sigaltstack(&alt, NULL));
	OK(sigaction(SIGSEGV, &sa, NULL));
	if (!sigsetjmp(fault_jump, 1)) {
		recurse(1);
		CHECK(!"no overflow");
	}
	CHECK_EQ(fault_info.si_code, SEGV_MAPERR);
}

TEST(big_reservation_is_free)
{
	char *p = OK(map(NULL, 64UL << 30, PROT_NONE, MAP_PRIVATE | MAP_NORESERVE));

	OK(mprotect(p + (10UL << 30), PAGE, RW));
	p[10UL << 30] = 1;
	OK(munmap(p, 64UL << 30));
}

TEST(many_mappings)
{
	char *p = OK(map(NULL, 2000 * PAGE, RW, MAP_PRIVATE));

	for (int i = 0; i < 2000; i += 2)
		OK(mprotect(p + i * PAGE, PAGE, PROT_READ));
	for (int i = 1; i < 2000; i += 2)
		p[i * PAGE] = 1;
	OK(mprotect(p, 2000 * PAGE, RW));
	p[0] = 1;
	OK(munmap(p, 2000 * PAGE));
}

#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

/* The hint of a move that leaves the old range mapped is checked like a fixed address. */
TEST(mremap_dontunmap_hints)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), size = 3 * page;
	char *old = OK(mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	const unsigned long wild[] = { 1, page + 1, (unsigned long)old + page, (unsigned long)old - page,
				       ~0ul - page + 1, ~0ul - 2 * page + 1, 1ul << 63, 1ul << 48, ~0ul };

	memset(old, 'x', size);
	for (size_t i = 0; i < sizeof(wild) / sizeof(wild[0]); i++)
		ERR(syscall(SYS_mremap, old, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, wild[i]), EINVAL);
	CHECK_EQ(old[0], 'x');
	/* one that suits is taken or not; what was there is moved */
	for (unsigned long hint = 0; hint <= page; hint += page) {
		char *now = (char *)syscall(SYS_mremap, old, size, size, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, hint);

		CHECK((long)now > 0 && now != old);
		CHECK(now[0] == 'x' && now[size - 1] == 'x' && old[0] == 0);
		memset(old, 'x', size);
	}
}
