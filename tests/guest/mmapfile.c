/* Mappings of files: shared, private, beyond the end, with truncate and write. */
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

static bool faults(volatile char *p)
{
	struct sigaction sa = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };

	OK(sigaction(SIGSEGV, &sa, NULL));
	OK(sigaction(SIGBUS, &sa, NULL));
	if (sigsetjmp(fault_jump, 1))
		return true;
	(void)*p;
	return false;
}

#define RW (PROT_READ | PROT_WRITE)

TEST(private_reads_file)
{
	write_file("f", "file content");
	int fd = OK(open("f", O_RDONLY));
	char *p = OK(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0));

	close(fd);
	CHECK_MEM(p, "file content", 12);
	CHECK_EQ(p[12], 0);
	p[0] = 'F';
	CHECK_STR(read_file("f"), "file content");
}

TEST(shared_writes_reach_file)
{
	char buf[8] = "";
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(ftruncate(fd, 2 * PAGE));
	char *p = OK(mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0));
	strcpy(p + PAGE, "hello");
	CHECK_EQ(pread(fd, buf, 6, PAGE), 6);
	CHECK_STR(buf, "hello");
	CHECK_EQ(pwrite(fd, "HE", 2, PAGE), 2);
	CHECK_STR(p + PAGE, "HEllo");
	OK(msync(p, 2 * PAGE, MS_SYNC));
	OK(munmap(p, 2 * PAGE));
	CHECK_EQ(pread(fd, buf, 6, PAGE), 6);
	CHECK_STR(buf, "HEllo");
}

TEST(two_shared_mappings_agree)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDWR));

	OK(ftruncate(fd, PAGE));
	char *a = OK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));
	char *b = OK(mmap(NULL, PAGE, RW, MAP_SHARED, other, 0));
	a[100] = 'x';
	CHECK_EQ(b[100], 'x');
	CHILD(pid)
	{
		b[100] = 'y';
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(a[100], 'y');
}

TEST(sigbus_beyond_end)
{
	write_file("f", "x");
	int fd = OK(open("f", O_RDWR));
	char *p = OK(mmap(NULL, 3 * PAGE, RW, MAP_SHARED, fd, 0));

	CHECK(!faults(p + PAGE - 1));
	CHECK(faults(p + PAGE));
	CHECK_EQ(fault_info.si_signo, SIGBUS);
	CHECK_EQ(fault_info.si_code, BUS_ADRERR);
	CHECK(fault_info.si_addr == p + PAGE);
	OK(ftruncate(fd, 2 * PAGE));
	CHECK(!faults(p + PAGE));
	CHECK(faults(p + 2 * PAGE));
}

TEST(truncate_drops_pages)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(ftruncate(fd, 2 * PAGE));
	char *shared = OK(mmap(NULL, 2 * PAGE, RW, MAP_SHARED, fd, 0));
	memset(shared, 'a', 2 * PAGE);
	OK(ftruncate(fd, 10));
	CHECK(faults(shared + PAGE));
	OK(ftruncate(fd, 2 * PAGE));
	CHECK_EQ(shared[9], 'a');
	CHECK_EQ(shared[10], 0);
	CHECK_EQ(shared[PAGE], 0);
}

TEST(private_keeps_its_copy)
{
	write_file("f", "before");
	int fd = OK(open("f", O_RDWR));
	char *p = OK(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0));

	p[0] = 'X';
	CHECK_EQ(pwrite(fd, "AFTER!", 6, 0), 6);
	CHECK_MEM(p, "Xefore", 6);
}

TEST(efault_beyond_end)
{
	write_file("f", "x");
	int fd = OK(open("f", O_RDONLY)), out = OK(open("g", O_WRONLY | O_CREAT, 0644));
	char *map = OK(mmap(NULL, 2 * PAGE, PROT_READ, MAP_PRIVATE, fd, 0));
	CHECK_EQ(write(out, map + PAGE - 4, 8), 4);
	ERR(write(out, map + PAGE, 8), EFAULT);
}

TEST(offset_mapping)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHECK_EQ(pwrite(fd, "third", 5, 2 * PAGE), 5);
	char *p = OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 2 * PAGE));
	CHECK_MEM(p, "third", 5);
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 7), EINVAL);
	int write_only = OK(open("f", O_WRONLY));
	ERR(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, write_only, 0), EACCES);
	int append = OK(open("f", O_RDWR | O_APPEND));
	OK(mmap(NULL, PAGE, RW, MAP_SHARED, append, 0));
}

TEST(read_into_own_mapping)
{
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDWR));
	char *p = OK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));

	CHECK_EQ(pread(fd, p + 5, 3, 0), 3);
	CHECK_MEM(p, "0123401289", 10);
	CHECK_EQ(pwrite(fd, p, 4, 6), 4);
	CHECK_MEM(p, "0123400123", 10);
}

TEST(exec_mapping_of_file)
{
	static const unsigned char code[] = { 0xb8, 42, 0, 0, 0, 0xc3 };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0755));

	CHECK_EQ(write(fd, code, sizeof(code)), sizeof(code));
	int (*fn)(void) = OK(mmap(NULL, PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0));
	CHECK_EQ(fn(), 42);
}

TEST(unlinked_file_stays_mapped)
{
	write_file("f", "still here");
	int fd = OK(open("f", O_RDWR));
	char *p = OK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));

	close(fd);
	OK(unlink("f"));
	CHECK_MEM(p, "still here", 10);
	p[0] = 'S';
	CHECK_EQ(p[0], 'S');
}
