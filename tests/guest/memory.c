/* Memory across fork, shared memory, memfd and seals, process_vm_readv. */
#include "tests/lib/guest.h"

#include <sys/uio.h>

#define RW (PROT_READ | PROT_WRITE)

TEST(cow_after_fork)
{
	char *p = OK(mmap(NULL, 16 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	memset(p, 'a', 16 * PAGE);
	CHILD(pid)
	{
		CHECK_EQ(p[5 * PAGE], 'a');
		memset(p, 'b', 16 * PAGE);
		CHECK_EQ(p[5 * PAGE], 'b');
	}
	p[PAGE] = 'c';
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[0], 'a');
	CHECK_EQ(p[PAGE], 'c');
	CHECK_EQ(p[15 * PAGE], 'a');
}

TEST(cow_three_generations)
{
	char *p = OK(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	p[0] = 1;
	CHILD(pid)
	{
		CHILD(inner)
		{
			CHECK_EQ(p[0], 1);
			p[0] = 3;
		}
		p[0] = 2;
		WAIT_EXIT(inner, 0);
		CHECK_EQ(p[0], 2);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[0], 1);
}

TEST(kernel_write_breaks_cow)
{
	char *p = OK(mmap(NULL, PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	int pipes[2];

	OK(pipe(pipes));
	p[0] = 'a';
	CHILD(pid)
	{
		CHECK_EQ(write(pipes[1], "z", 1), 1);
		msleep(30);
		CHECK_EQ(p[0], 'a');
	}
	CHECK_EQ(read(pipes[0], p, 1), 1);
	CHECK_EQ(p[0], 'z');
	WAIT_EXIT(pid, 0);
}

TEST(shared_anonymous_across_fork)
{
	volatile int *p = shared_new(PAGE);

	CHILD(pid)
	{
		p[0] = 7;
		while (p[1] != 8)
			msleep(1);
	}
	while (p[0] != 7)
		msleep(1);
	p[1] = 8;
	WAIT_EXIT(pid, 0);
}

TEST(shared_survives_mremap_and_partial_unmap)
{
	char *p = shared_new(4 * PAGE);

	p[2 * PAGE] = 1;
	OK(munmap(p, PAGE));
	CHILD(pid)
	{
		p[2 * PAGE] = 2;
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[2 * PAGE], 2);
}

TEST(memfd_basic)
{
	int fd = OK(memfd_create("name", MFD_CLOEXEC));
	struct stat st;
	char link[64] = "", path[64];

	CHECK_EQ(write(fd, "hello", 5), 5);
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 5);
	CHECK(S_ISREG(st.st_mode));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	OK(readlink(path, link, sizeof(link) - 1));
	CHECK_STR(link, "/memfd:name (deleted)");
	ERR(memfd_create("x", 0x8000), EINVAL);
	char big[300];
	memset(big, 'n', 299);
	big[299] = 0;
	ERR(memfd_create(big, 0), EINVAL);
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EPERM);
}

TEST(memfd_seals)
{
	int fd = OK(memfd_create("s", MFD_ALLOW_SEALING));

	OK(ftruncate(fd, PAGE));
	CHECK_EQ(fcntl(fd, F_GET_SEALS), 0);
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	ERR(ftruncate(fd, 10), EPERM);
	ERR(ftruncate(fd, 2 * PAGE), EPERM);
	char *p = OK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), EBUSY);
	OK(munmap(p, PAGE));
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE));
	ERR(pwrite(fd, "x", 1, 0), EPERM);
	ERR(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0), EPERM);
	OK(mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0));
	OK(mmap(NULL, PAGE, RW, MAP_PRIVATE, fd, 0));
	OK(fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
	ERR(fcntl(fd, F_ADD_SEALS, F_SEAL_GROW), EPERM);
	CHECK_EQ(fcntl(fd, F_GET_SEALS),
		 F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
}

TEST(process_vm_calls)
{
	char *p = OK(mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	int ready[2], done[2];
	char byte;

	OK(pipe(ready));
	OK(pipe(done));
	CHILD(pid)
	{
		strcpy(p, "from the child");
		write(ready[1], "x", 1);
		CHECK_EQ(read(done[0], &byte, 1), 1);
		CHECK_STR(p + 100, "written");
	}
	CHECK_EQ(read(ready[0], &byte, 1), 1);
	char buf[32] = "";
	struct iovec local = { buf, 15 }, remote = { p, 15 };
	CHECK_EQ(process_vm_readv(pid, &local, 1, &remote, 1, 0), 15);
	CHECK_STR(buf, "from the child");
	local = (struct iovec){ (void *)"written", 8 };
	remote = (struct iovec){ p + 100, 8 };
	CHECK_EQ(process_vm_writev(pid, &local, 1, &remote, 1, 0), 8);
	remote.iov_base = BAD_PTR;
	ERR(process_vm_readv(pid, &local, 1, &remote, 1, 0), EFAULT);
	ERR(process_vm_readv(pid, &local, 1, &remote, 1, 1), EINVAL);
	ERR(process_vm_readv(999999, &local, 1, &remote, 1, 0), ESRCH);
	CHECK_EQ(write(done[1], "x", 1), 1);
	WAIT_EXIT(pid, 0);
}

TEST(many_forks_with_memory)
{
	size_t size = 8 << 20;
	char *p = OK(mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));

	memset(p, 1, size);
	for (int i = 0; i < 20; i++) {
		CHILD(pid)
		{
			p[(size_t)i * PAGE] = 2;
			CHECK_EQ(p[(size_t)(i + 1) * PAGE], 1);
		}
		WAIT_EXIT(pid, 0);
	}
}

TEST(membarrier_queries)
{
	long commands = OK(syscall(SYS_membarrier, 0, 0, 0));

	CHECK(commands & 1);
	ERR(syscall(SYS_membarrier, 1 << 20, 0, 0), EINVAL);
}

TEST(shm_file_is_shared)
{
	int fd = OK(shm_open("/tests-shm", O_RDWR | O_CREAT | O_EXCL, 0600));

	OK(ftruncate(fd, PAGE));
	volatile char *p = OK(mmap(NULL, PAGE, RW, MAP_SHARED, fd, 0));
	CHILD(pid)
	{
		int other = OK(shm_open("/tests-shm", O_RDWR, 0));
		char *q = OK(mmap(NULL, PAGE, RW, MAP_SHARED, other, 0));
		q[9] = 'q';
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(p[9], 'q');
	OK(shm_unlink("/tests-shm"));
	ERR(shm_unlink("/tests-shm"), ENOENT);
}
