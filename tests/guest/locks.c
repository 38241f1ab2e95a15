/* File locks: POSIX, open file description, flock, deadlock. */
#include "tests/lib/guest.h"

#include <sys/file.h>

static int set_lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	return fcntl(fd, command, &lock);
}

static struct flock get_lock(int fd, int command, short type, off_t start, off_t len)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };

	OK(fcntl(fd, command, &lock));
	return lock;
}

TEST(posix_conflicts)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
	pid_t owner = getpid();

	OK(set_lock(fd, F_SETLK, F_WRLCK, 10, 10));
	OK(set_lock(fd, F_SETLK, F_RDLCK, 15, 5));
	CHILD(pid)
	{
		ERR(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
		OK(set_lock(fd, F_SETLK, F_RDLCK, 15, 5));
		OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 10));
		struct flock lock = get_lock(fd, F_GETLK, F_RDLCK, 0, 0);
		CHECK_EQ(lock.l_type, F_WRLCK);
		CHECK_EQ(lock.l_start, 10);
		CHECK_EQ(lock.l_len, 5);
		CHECK_EQ(lock.l_pid, owner);
	}
	WAIT_EXIT(pid, 0);
	CHECK_EQ(get_lock(fd, F_GETLK, F_WRLCK, 0, 0).l_type, F_UNLCK);
}

TEST(posix_lost_at_any_close)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDONLY));

	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
	close(other);
	CHILD(pid)
	{
		OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
	}
	WAIT_EXIT(pid, 0);
}

TEST(posix_wait)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
	CHILD(pid)
	{
		long long start = now_ms();
		OK(set_lock(fd, F_SETLKW, F_WRLCK, 0, 0));
		CHECK(now_ms() - start >= 20);
	}
	msleep(50);
	OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 0));
	WAIT_EXIT(pid, 0);
}

TEST(posix_deadlock)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 1));
	CHILD(pid)
	{
		OK(set_lock(fd, F_SETLK, F_WRLCK, 1, 1));
		OK(set_lock(fd, F_SETLKW, F_WRLCK, 0, 1));
	}
	msleep(60);
	ERR(set_lock(fd, F_SETLKW, F_WRLCK, 1, 1), EDEADLK);
	OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 0));
	WAIT_EXIT(pid, 0);
}

TEST(posix_errors)
{
	int fd = OK(open("f", O_RDONLY | O_CREAT, 0644)), write_only = OK(open("f", O_WRONLY));

	ERR(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), EBADF);
	ERR(set_lock(write_only, F_SETLK, F_RDLCK, 0, 0), EBADF);
	ERR(set_lock(fd, F_SETLK, 77, 0, 0), EINVAL);
	ERR(set_lock(fd, F_SETLK, F_RDLCK, -5, 1), EINVAL);
	ERR(fcntl(fd, F_SETLK, BAD_PTR), EFAULT);
	struct flock lock = { .l_type = F_RDLCK, .l_whence = 9 };
	ERR(fcntl(fd, F_SETLK, &lock), EINVAL);
}

TEST(posix_negative_length_and_whence)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_CUR, .l_start = -10, .l_len = -5 };

	OK(lseek(fd, 100, SEEK_SET));
	OK(fcntl(fd, F_SETLK, &lock));
	CHILD(pid)
	{
		struct flock got = get_lock(fd, F_GETLK, F_WRLCK, 0, 0);
		CHECK_EQ(got.l_start, 85);
		CHECK_EQ(got.l_len, 5);
	}
	WAIT_EXIT(pid, 0);
}

TEST(ofd_belong_to_the_file)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDWR));

	OK(set_lock(fd, F_OFD_SETLK, F_WRLCK, 0, 0));
	ERR(set_lock(other, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN);
	struct flock lock = get_lock(other, F_OFD_GETLK, F_RDLCK, 0, 0);
	CHECK_EQ(lock.l_type, F_WRLCK);
	CHECK_EQ(lock.l_pid, -1);
	ERR(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	int copy = OK(dup(fd));
	OK(set_lock(copy, F_OFD_SETLK, F_WRLCK, 0, 0));
	close(fd);
	ERR(set_lock(other, F_OFD_SETLK, F_RDLCK, 0, 0), EAGAIN);
	close(copy);
	OK(set_lock(other, F_OFD_SETLK, F_RDLCK, 0, 0));
}

TEST(flock_modes)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDONLY));

	OK(flock(fd, LOCK_SH));
	OK(flock(other, LOCK_SH));
	ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(flock(fd, LOCK_UN));
	OK(flock(other, LOCK_EX | LOCK_NB));
	ERR(flock(fd, LOCK_SH | LOCK_NB), EWOULDBLOCK);
	ERR(flock(fd, 77), EINVAL);
	ERR(flock(99, LOCK_SH), EBADF);
	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
	close(other);
	OK(flock(fd, LOCK_EX | LOCK_NB));
}

TEST(flock_kept_over_fork_until_last_close)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644)), other = OK(open("f", O_RDWR));

	OK(flock(fd, LOCK_EX));
	CHILD(pid)
	{
		msleep(60);
	}
	close(fd);
	ERR(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	OK(flock(other, LOCK_EX));
	WAIT_EXIT(pid, 0);
}

TEST(locks_end_with_process)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	CHILD(pid)
	{
		OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
		kill(getpid(), SIGKILL);
	}
	WAIT_SIGNAL(pid, SIGKILL);
	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
}

TEST(not_inherited_by_fork)
{
	int fd = OK(open("f", O_RDWR | O_CREAT, 0644));

	OK(set_lock(fd, F_SETLK, F_WRLCK, 0, 0));
	CHILD(pid)
	{
		OK(set_lock(fd, F_SETLK, F_UNLCK, 0, 0));
		ERR(set_lock(fd, F_SETLK, F_WRLCK, 0, 0), EAGAIN);
	}
	WAIT_EXIT(pid, 0);
}
