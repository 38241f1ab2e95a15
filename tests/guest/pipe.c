/* Pipes and fifos, splice, tee, vmsplice. */
#include "tests/lib/guest.h"

#include <sys/ioctl.h>
#include <sys/uio.h>

TEST(basic)
{
	int p[2];
	char buf[16] = "";

	OK(pipe2(p, O_CLOEXEC));
	CHECK_EQ(write(p[1], "hello", 5), 5);
	CHECK_EQ(read(p[0], buf, 2), 2);
	CHECK_EQ(read(p[0], buf + 2, 10), 3);
	CHECK_STR(buf, "hello");
	close(p[1]);
	CHECK_EQ(read(p[0], buf, 10), 0);
	ERR(write(p[0], "x", 1), EBADF);
	ERR(lseek(p[0], 0, SEEK_CUR), ESPIPE);
	ERR(pread(p[0], buf, 1, 0), ESPIPE);
}

TEST(sigpipe)
{
	int p[2];

	OK(pipe(p));
	close(p[0]);
	on_signal(SIGPIPE, catch_signal, 0);
	ERR(write(p[1], "x", 1), EPIPE);
	CHECK_EQ(caught_count, 1);
	CHILD(pid)
	{
		signal(SIGPIPE, SIG_DFL);
		write(p[1], "x", 1);
	}
	WAIT_SIGNAL(pid, SIGPIPE);
}

TEST(nonblocking_full_and_empty)
{
	int p[2];
	static char page[4096];
	long total = 0;

	OK(pipe2(p, O_NONBLOCK));
	ERR(read(p[0], page, 1), EAGAIN);
	ssize_t put;
	while ((put = write(p[1], page, sizeof(page))) > 0)
		total += put;
	CHECK_EQ(errno, EAGAIN);
	CHECK_EQ(total, 65536);
	CHECK_EQ(fcntl(p[0], F_GETPIPE_SZ), 65536);
	int queued;
	OK(ioctl(p[0], FIONREAD, &queued));
	CHECK_EQ(queued, 65536);
}

TEST(set_size)
{
	int p[2];
	static char page[4096];

	OK(pipe2(p, O_NONBLOCK));
	CHECK_EQ(fcntl(p[1], F_SETPIPE_SZ, 4096), 4096);
	CHECK_EQ(write(p[1], page, 4096), 4096);
	ERR(write(p[1], page, 1), EAGAIN);
	CHECK_EQ(fcntl(p[1], F_SETPIPE_SZ, 100000), 131072);
	CHECK_EQ(write(p[1], page, 1), 1);
	ERR(fcntl(p[1], F_SETPIPE_SZ, 4096), EBUSY);
}

TEST(atomic_small_writes)
{
	int p[2];
	char buf[512];

	OK(pipe(p));
	for (int i = 0; i < 4; i++) {
		CHILD(pid)
		{
			memset(buf, 'a' + i, sizeof(buf));
			for (int n = 0; n < 50; n++)
				CHECK_EQ(write(p[1], buf, sizeof(buf)), sizeof(buf));
		}
	}
	close(p[1]);
	long total = 0;
	for (;;) {
		size_t have = 0;
		ssize_t got = 0;
		while (have < sizeof(buf) && (got = read(p[0], buf + have, sizeof(buf) - have)) > 0)
			have += (size_t)got;
		if (have == 0)
			break;
		CHECK_EQ(have, sizeof(buf));
		for (size_t i = 1; i < sizeof(buf); i++)
			CHECK_EQ(buf[i], buf[0]);
		total += (long)have;
	}
	CHECK_EQ(total, 4 * 50 * 512);
}

TEST(blocked_writer_resumes)
{
	int p[2];
	static char big[200000];

	OK(pipe(p));
	CHILD(pid)
	{
		CHECK_EQ(write(p[1], big, sizeof(big)), sizeof(big));
	}
	close(p[1]);
	long total = 0;
	ssize_t got;
	static char buf[3000];
	while ((got = read(p[0], buf, sizeof(buf))) > 0)
		total += got;
	CHECK_EQ(total, 200000);
	WAIT_EXIT(pid, 0);
}

TEST(fifo_open_waits_for_peer)
{
	char buf[8] = "";

	OK(mkfifo("p", 0600));
	ERR(open("p", O_WRONLY | O_NONBLOCK), ENXIO);
	int reader = OK(open("p", O_RDONLY | O_NONBLOCK));
	CHECK_EQ(read(reader, buf, 1), 0);
	close(reader);
	CHILD(pid)
	{
		int fd = OK(open("p", O_WRONLY));
		CHECK_EQ(write(fd, "data", 4), 4);
	}
	int fd = OK(open("p", O_RDONLY));
	CHECK_EQ(read(fd, buf, 8), 4);
	CHECK_EQ(read(fd, buf, 8), 0);
	WAIT_EXIT(pid, 0);
}

/* A writer that waits in open, and is gone again before the reader that let it go runs on: the reader does not wait. */
TEST(fifo_open_quick_peer)
{
	char buf[8] = "";

	OK(mkfifo("p", 0600));
	for (int i = 0; i < 500; i++) {
		CHILD(pid)
		{
			int fd = OK(open("p", O_WRONLY));
			CHECK_EQ(write(fd, "data", 4), 4);
		}
		if (i % 2)
			usleep(200); /* it waits already */
		int fd = OK(open("p", O_RDONLY));
		CHECK_EQ(read(fd, buf, 8), 4);
		CHECK_EQ(read(fd, buf, 8), 0);
		close(fd);
		WAIT_EXIT(pid, 0);
	}
}

TEST(fifo_open_interrupted)
{
	OK(mkfifo("p", 0600));
	interrupt_every(20, 0);
	ERR(open("p", O_RDONLY), EINTR);
	int fd = OK(open("p", O_RDWR));
	CHECK_EQ(write(fd, "x", 1), 1);
}

TEST(splice_between_pipes_and_files)
{
	int a[2], b[2];
	char buf[16] = "";
	loff_t offset = 2;

	OK(pipe(a));
	OK(pipe(b));
	write_file("f", "0123456789");
	int fd = OK(open("f", O_RDWR));
	CHECK_EQ(splice(fd, &offset, a[1], NULL, 5, 0), 5);
	CHECK_EQ(offset, 7);
	CHECK_EQ(splice(a[0], NULL, b[1], NULL, 3, 0), 3);
	CHECK_EQ(read(b[0], buf, 8), 3);
	CHECK_MEM(buf, "234", 3);
	offset = 0;
	CHECK_EQ(splice(a[0], NULL, fd, &offset, 100, 0), 2);
	CHECK_EQ(pread(fd, buf, 3, 0), 3);
	CHECK_MEM(buf, "562", 3);
	ERR(splice(fd, NULL, fd, NULL, 1, 0), EINVAL);
	offset = 0;
	ERR(splice(a[0], &offset, b[1], NULL, 1, 0), ESPIPE);
	ERR(splice(a[0], NULL, b[1], NULL, 1, SPLICE_F_NONBLOCK), EAGAIN);
	ERR(splice(a[0], NULL, b[1], NULL, 1, 0x80), EINVAL);
	close(a[1]);
	CHECK_EQ(splice(a[0], NULL, b[1], NULL, 1, 0), 0);
}

TEST(tee_does_not_consume)
{
	int a[2], b[2];
	char buf[16] = "";

	OK(pipe(a));
	OK(pipe(b));
	CHECK_EQ(write(a[1], "hello", 5), 5);
	CHECK_EQ(tee(a[0], b[1], 100, 0), 5);
	CHECK_EQ(read(a[0], buf, 16), 5);
	CHECK_EQ(read(b[0], buf, 16), 5);
	CHECK_MEM(buf, "hello", 5);
	ERR(tee(a[0], a[1], 1, 0), EINVAL);
	ERR(tee(a[0], OK(open("f", O_RDWR | O_CREAT, 0644)), 1, SPLICE_F_NONBLOCK), EINVAL);
}

TEST(vmsplice_writes)
{
	int p[2];
	char buf[16] = "";
	struct iovec iov[2] = { { (void *)"ab", 2 }, { (void *)"cde", 3 } };

	OK(pipe(p));
	CHECK_EQ(vmsplice(p[1], iov, 2, 0), 5);
	CHECK_EQ(read(p[0], buf, 16), 5);
	CHECK_STR(buf, "abcde");
}

TEST(packet_mode)
{
	int p[2];
	char buf[16];

	OK(pipe2(p, O_DIRECT));
	CHECK_EQ(write(p[1], "abc", 3), 3);
	CHECK_EQ(write(p[1], "de", 2), 2);
	CHECK_EQ(read(p[0], buf, 16), 3);
	CHECK_EQ(read(p[0], buf, 1), 1);
	OK(fcntl(p[0], F_SETFL, O_NONBLOCK));
	ERR(read(p[0], buf, 1), EAGAIN);
	ERR(pipe2(p, 0x8), EINVAL);
}

TEST(reopen_through_proc)
{
	int p[2];
	char path[64], buf[4];

	OK(pipe(p));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p[1]);
	int again = OK(open(path, O_WRONLY));
	close(p[1]);
	CHECK_EQ(write(again, "ok", 2), 2);
	CHECK_EQ(read(p[0], buf, 4), 2);
	close(again);
	CHECK_EQ(read(p[0], buf, 4), 0);
}
