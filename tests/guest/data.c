/* Reading and writing regular files: positions, vectors, truncate, holes, copies. */
#include "tests/lib/guest.h"

#include <sys/sendfile.h>
#include <sys/uio.h>
#include <linux/falloc.h>

TEST(positions)
{
	char buf[8] = "";
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHECK_EQ(write(fd, "0123456789", 10), 10);
	CHECK_EQ(lseek(fd, -3, SEEK_END), 7);
	CHECK_EQ(read(fd, buf, 8), 3);
	CHECK_MEM(buf, "789", 3);
	CHECK_EQ(read(fd, buf, 8), 0);
	CHECK_EQ(pread(fd, buf, 2, 4), 2);
	CHECK_MEM(buf, "45", 2);
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 10);
	ERR(lseek(fd, -11, SEEK_CUR), EINVAL);
	ERR(lseek(fd, 0, 9), EINVAL);
	ERR(pread(fd, buf, 1, -1), EINVAL);
	CHECK_EQ(lseek(fd, 100, SEEK_SET), 100);
	CHECK_EQ(read(fd, buf, 8), 0);
}

TEST(write_beyond_end_leaves_zeros)
{
	char buf[16];
	struct stat st;
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHECK_EQ(pwrite(fd, "x", 1, 100000), 1);
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 100001);
	memset(buf, 1, sizeof(buf));
	CHECK_EQ(pread(fd, buf, 16, 50000), 16);
	for (int i = 0; i < 16; i++)
		CHECK_EQ(buf[i], 0);
	CHECK(st.st_blocks * 512 < 100000);
}

TEST(vectors)
{
	char a[4] = "", b[8] = "";
	struct iovec out[3] = { { (void *)"ab", 2 }, { NULL, 0 }, { (void *)"cdef", 4 } };
	struct iovec in[2] = { { a, 3 }, { b, 8 } };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHECK_EQ(writev(fd, out, 3), 6);
	CHECK_EQ(preadv(fd, in, 2, 0), 6);
	CHECK_STR(a, "abc");
	CHECK_STR(b, "def");
	CHECK_EQ(pwritev(fd, out, 3, 6), 6);
	ERR(readv(fd, in, -1), EINVAL);
	ERR(readv(fd, in, 1025), EINVAL);
	CHECK_EQ(readv(fd, in, 0), 0);
	in[0].iov_len = (size_t)-1;
	ERR(preadv(fd, in, 2, 0), EINVAL);
}

TEST(preadv2_flags)
{
	char a[4] = "";
	struct iovec in = { a, 3 };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHECK_EQ(write(fd, "abcdef", 6), 6);
	OK(lseek(fd, 1, SEEK_SET));
	CHECK_EQ(preadv2(fd, &in, 1, -1, 0), 3);
	CHECK_STR(a, "bcd");
	CHECK_EQ(lseek(fd, 0, SEEK_CUR), 4);
	CHECK_EQ(pwritev2(fd, &(struct iovec){ (void *)"z", 1 }, 1, 0, RWF_APPEND), 1);
	CHECK_EQ(pread(fd, a, 1, 6), 1);
	CHECK_EQ(a[0], 'z');
	ERR(preadv2(fd, &in, 1, 0, 0x4000), EOPNOTSUPP);
}

TEST(truncate_shrinks_and_grows)
{
	char buf[8] = "";
	struct stat st;

	write_file("f", "abcdef");
	OK(truncate("f", 3));
	OK(truncate("f", 6));
	int fd = OK(open("f", O_RDWR));
	CHECK_EQ(read(fd, buf, 8), 6);
	CHECK_MEM(buf, "abc\0\0\0", 6);
	OK(ftruncate(fd, 1 << 20));
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 1 << 20);
	ERR(truncate("f", -1), EINVAL);
	ERR(truncate("none", 0), ENOENT);
	OK(mkdir("d", 0755));
	ERR(truncate("d", 0), EISDIR);
	int pipes[2];
	OK(pipe(pipes));
	ERR(ftruncate(pipes[1], 0), EINVAL);
}

TEST(fsize_limit)
{
	unsigned long lim[2] = { 1000, 1000 };
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
	static char buf[2000];

	OK(syscall(SYS_prlimit64, 0, 1 /* RLIMIT_FSIZE */, lim, NULL));
	on_signal(SIGXFSZ, catch_signal, 0);
	CHECK_EQ(write(fd, buf, 2000), 1000);
	ERR(write(fd, buf, 1), EFBIG);
	CHECK_EQ(caught_signo, SIGXFSZ);
	ERR(ftruncate(fd, 2000), EFBIG);
	CHECK_EQ(caught_count, 2);
}

TEST(seek_data_and_hole)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(ftruncate(fd, 1 << 20));
	CHECK_EQ(pwrite(fd, "x", 1, 512 * 1024), 1);
	off_t data = lseek(fd, 0, SEEK_DATA);
	CHECK(data >= 0 && data <= 512 * 1024);
	off_t hole = OK(lseek(fd, 512 * 1024, SEEK_HOLE));
	CHECK(hole > 512 * 1024 && hole <= 1 << 20);
	ERR(lseek(fd, 1 << 20, SEEK_DATA), ENXIO);
	ERR(lseek(fd, 1 << 21, SEEK_HOLE), ENXIO);
}

TEST(fallocate_modes)
{
	struct stat st;
	char byte = 1;
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(fallocate(fd, 0, 0, 8192));
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 8192);
	OK(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 65536));
	OK(fstat(fd, &st));
	CHECK_EQ(st.st_size, 8192);
	CHECK_EQ(pwrite(fd, "x", 1, 100), 1);
	OK(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
	CHECK_EQ(pread(fd, &byte, 1, 100), 1);
	CHECK_EQ(byte, 0);
	ERR(fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 4096), EOPNOTSUPP);
	ERR(fallocate(fd, 0, 0, 0), EINVAL);
	ERR(fallocate(fd, 0, -1, 10), EINVAL);
	int read_only = OK(open("f", O_RDONLY));
	ERR(fallocate(read_only, 0, 0, 10), EBADF);
}

TEST(copy_file_range_moves_bytes)
{
	off_t from = 2, to = 1;

	write_file("a", "0123456789");
	int in = OK(open("a", O_RDONLY)), out = OK(open("b", O_RDWR | O_CREAT, 0644));
	CHECK_EQ(copy_file_range(in, &from, out, &to, 4, 0), 4);
	CHECK_EQ(from, 6);
	CHECK_EQ(to, 5);
	CHECK_EQ(lseek(in, 0, SEEK_CUR), 0);
	char buf[8];
	CHECK_EQ(pread(out, buf, 8, 0), 5);
	CHECK_MEM(buf + 1, "2345", 4);
	CHECK_EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 10);
	CHECK_EQ(copy_file_range(in, NULL, out, NULL, 100, 0), 0);
	ERR(copy_file_range(in, NULL, out, NULL, 1, 1), EINVAL);
	ERR(copy_file_range(out, NULL, in, NULL, 1, 0), EBADF);
}

TEST(sendfile_from_file)
{
	off_t from = 3;
	int pipes[2];
	char buf[16] = "";

	write_file("a", "0123456789");
	int in = OK(open("a", O_RDONLY));
	OK(pipe(pipes));
	CHECK_EQ(sendfile(pipes[1], in, &from, 4), 4);
	CHECK_EQ(from, 7);
	CHECK_EQ(sendfile(pipes[1], in, NULL, 100), 10);
	CHECK_EQ(read(pipes[0], buf, 16), 14);
	CHECK_MEM(buf, "34560123456789", 14);
	ERR(sendfile(pipes[1], pipes[0], NULL, 1), EINVAL);
	ERR(sendfile(pipes[0], in, NULL, 1), EBADF);
}

TEST(large_file_checksum)
{
	static unsigned char buf[65536];
	unsigned long sum = 0, expect = 0;
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	for (int block = 0; block < 64; block++) {
		for (size_t i = 0; i < sizeof(buf); i++) {
			buf[i] = (unsigned char)(i * 7 + (size_t)block * 13);
			expect += buf[i];
		}
		CHECK_EQ(write(fd, buf, sizeof(buf)), sizeof(buf));
	}
	OK(fsync(fd));
	OK(lseek(fd, 0, SEEK_SET));
	ssize_t got;
	while ((got = read(fd, buf, 10007)) > 0)
		for (ssize_t i = 0; i < got; i++)
			sum += buf[i];
	CHECK_EQ(sum, expect);
}

TEST(two_descriptors_see_each_other)
{
	char buf[8] = "";
	int a = OK(open("f", O_RDWR | O_CREAT, 0644)), b = OK(open("f", O_RDWR));

	CHECK_EQ(write(a, "hello", 5), 5);
	CHECK_EQ(read(b, buf, 8), 5);
	OK(ftruncate(b, 2));
	CHECK_EQ(pread(a, buf, 8, 0), 2);
	struct stat st;
	OK(stat("f", &st));
	CHECK_EQ(st.st_size, 2);
}

TEST(sync_family)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), pipes[2];

	CHECK_EQ(write(fd, "x", 1), 1);
	OK(fsync(fd));
	OK(fdatasync(fd));
	OK(syncfs(fd));
	OK(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE));
	sync();
	OK(pipe(pipes));
	ERR(fsync(pipes[0]), EINVAL);
	ERR(fsync(99), EBADF);
	OK(posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL));
	CHECK_EQ(posix_fadvise(fd, 0, 0, 99), EINVAL);
	OK(readahead(fd, 0, 4096));
}

TEST(shared_position_over_fork)
{
	write_file("f", "abcdef");
	int fd = OK(open("f", O_RDONLY));
	char byte;

	CHILD(pid)
	{
		CHECK_EQ(read(fd, &byte, 1), 1);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(read(fd, &byte, 1), 1);
	CHECK_EQ(byte, 'b');
}

TEST(parallel_appends_do_not_mix)
{
	for (int i = 0; i < 4; i++) {
		CHILD(pid)
		{
			int fd = OK(open("log", O_WRONLY | O_APPEND | O_CREAT, 0644));
			char line[11];
			memset(line, 'a' + i, 10);
			line[9] = '\n';
			for (int n = 0; n < 100; n++)
				CHECK_EQ(write(fd, line, 10), 10);
		}
	}
	for (int i = 0; i < 4; i++)
		CHECK(wait(NULL) > 0);
	char *text = read_file("log");
	CHECK_EQ(strlen(text), 4000);
	for (int i = 0; i < 400; i++)
		for (int k = 1; k < 9; k++)
			CHECK_EQ(text[i * 10 + k], text[i * 10]);
}
