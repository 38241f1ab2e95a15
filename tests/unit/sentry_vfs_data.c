/* tmpfs data, pipes, file locks, descriptor tables. */
#include <linux/falloc.h>
#include <poll.h>
#include <sys/file.h>

#include "sentry/fs/memfd/memfd.h"
#include "sentry/kernel/fdtable.h"
#include "tests/unit/vfs_fixture.h"

TEST(tmpfs_sparse)
{
	struct file *f;
	char buf[8];

	start();
	f = open_file("/f", O_RDWR | O_CREAT);
	CHECK_EQ(write_at(f, "end", 3, 1 << 30), 3);
	CHECK_EQ(stat_of("/f").size, (1 << 30) + 3);
	CHECK_EQ(stat_of("/f").blocks, 8);
	CHECK_EQ(read_at(f, buf, 8, 5), 8);
	CHECK_MEM(buf, "\0\0\0\0\0\0\0\0", 8);
	CHECK_EQ(read_at(f, buf, 8, (1 << 30) + 1), 2);
	CHECK_MEM(buf, "nd", 2);
	CHECK_EQ(read_at(f, buf, 8, (1 << 30) + 3), 0);
	CHECK_EQ(file_seek(f, 0, SEEK_DATA), 1 << 30);
	CHECK_EQ(file_seek(f, 0, SEEK_HOLE), 0);
	CHECK_EQ(file_seek(f, 1 << 30, SEEK_HOLE), (1 << 30) + 3);
	CHECK_EQ(file_truncate(f, 2, w.cred), 0);
	CHECK_EQ(stat_of("/f").blocks, 0);
	CHECK_EQ(file_truncate(f, 1ull << 63, w.cred), -EINVAL);
	file_put(f);
}

TEST(tmpfs_truncate_clears)
{
	struct file *f;
	char buf[8];

	start();
	put("/f", "abcdefgh");
	f = open_file("/f", O_RDWR);
	CHECK_EQ(file_truncate(f, 3, w.cred), 0);
	CHECK_EQ(file_truncate(f, 8, w.cred), 0);
	CHECK_EQ(read_at(f, buf, 8, 0), 8);
	CHECK_MEM(buf, "abc\0\0\0\0\0", 8);
	CHECK_EQ(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 1, 1), 0);
	CHECK_EQ(read_at(f, buf, 3, 0), 3);
	CHECK_MEM(buf, "a\0c", 3);
	CHECK_EQ(file_fallocate(f, 0, 0, 1 << 20), 0);
	CHECK_EQ(stat_of("/f").size, 1 << 20);
	CHECK_EQ(stat_of("/f").blocks, (1 << 20) / 512);
	CHECK_EQ(file_fallocate(f, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 1 << 20), 0);
	CHECK_EQ(stat_of("/f").blocks, 0);
	CHECK_EQ(file_fallocate(f, FALLOC_FL_COLLAPSE_RANGE, 0, 4096), -EOPNOTSUPP);
	file_put(f);
}

TEST(tmpfs_limits)
{
	struct file *f;
	char big[8192] = "";

	start();
	CHECK_EQ(vfs_mkdir(&w, "/m", 0755), 0);
	CHECK_EQ(vfs_mount(&w, "x", "/m", "tmpfs", 0, "size=8k,nr_inodes=3,mode=700"), 0);
	CHECK_EQ(vfs_mount(&w, "x", "/m", "tmpfs", 0, "nonsense=1"), -EINVAL);
	CHECK_EQ(stat_of("/m").mode, S_IFDIR | 0700);
	f = open_file("/m/f", O_RDWR | O_CREAT);
	CHECK_EQ(write_at(f, big, sizeof(big), 0), 8192);
	CHECK_EQ(write_at(f, big, 1, 8192), -ENOSPC);
	CHECK_EQ(file_truncate(f, 0, w.cred), 0);
	CHECK_EQ(write_at(f, big, 1, 8192), 1);
	CHECK_EQ(vfs_mkdir(&w, "/m/d", 0755), 0);
	CHECK_EQ(vfs_mkdir(&w, "/m/e", 0755), -ENOSPC);
	CHECK_EQ(vfs_rmdir(&w, "/m/d"), 0);
	CHECK_EQ(vfs_mkdir(&w, "/m/e", 0755), 0);
	file_put(f);
}

TEST(tmpfs_mapping_sees_writes)
{
	struct frame_run run;
	struct mappable *m;
	struct file *f;
	uint64_t got;
	char *p;

	start();
	put("/f", "hello");
	f = open_file("/f", O_RDWR);
	CHECK_EQ(file_mmap(f, true, 3, &m), 0);
	CHECK_EQ(m->ops->translate(m, 0, 8192, true, &run), 0);
	CHECK_EQ(run.size, 4096);
	p = run.ff->ops->window(run.ff, run.offset, 4096, &got);
	CHECK_MEM(p, "hello", 6);
	CHECK_EQ(write_at(f, "J", 1, 0), 1);
	CHECK_MEM(p, "Jello", 5);
	CHECK_EQ(m->ops->translate(m, 4096, 4096, true, &(struct frame_run){ 0 }), -EFAULT);
	/* The frame outlives its place in the file. */
	CHECK_EQ(file_truncate(f, 0, w.cred), 0);
	CHECK_MEM(p, "\0ello", 0);
	run.ff->ops->put(run.ff, run.offset, 4096);
	file_put(f);
}

TEST(tmpfs_append_and_links)
{
	struct file *f;

	start();
	put("/f", "one");
	f = open_file("/f", O_WRONLY | O_APPEND);
	CHECK_EQ(write_at(f, "two", 3, 0), 3);
	CHECK_EQ(stat_of("/f").size, 6);
	file_put(f);
	CHECK_EQ(vfs_link(&w, "/f", 0, &w, "/g"), 0);
	CHECK_EQ(stat_of("/g").nlink, 2);
	CHECK_EQ(vfs_link(&w, "/f", 0, &w, "/g"), -EEXIST);
	CHECK_EQ(vfs_link(&w, "/", 0, &w, "/h"), -EPERM);
	CHECK_EQ(vfs_unlink(&w, "/f"), 0);
	CHECK_EQ(stat_of("/g").nlink, 1);
}

TEST(tmpfs_listing_survives_changes)
{
	struct listing l = { .d = { listing_emit }, .max = 4 };
	char name[16];
	struct file *f;

	start();
	CHECK_EQ(vfs_mkdir(&w, "/d", 0755), 0);
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "/d/%d", i);
		put(name, "");
	}
	f = open_file("/d", O_RDONLY);
	CHECK_EQ(file_iterate(f, &l.d), 0);
	CHECK_EQ(vfs_unlink(&w, "/d/1"), 0);
	CHECK_EQ(vfs_unlink(&w, "/d/3"), 0);
	put("/d/6", "");
	l.count = 0;
	CHECK_EQ(file_iterate(f, &l.d), 0);
	CHECK_STR(l.text, ". .. 0 1 2 4 5 6 ");
	CHECK_EQ(file_seek(f, 0, SEEK_SET), 0);
	file_put(f);
}

TEST(tmpfs_xattrs)
{
	struct path p;
	char buf[16];

	start();
	put("/f", "");
	p = place("/f");
	CHECK_EQ(vfs_setxattr(&p, w.cred, "user.a", "v", 1, 0), 0);
	CHECK_EQ(vfs_setxattr(&p, w.cred, "user.a", "v", 1, 1 /* XATTR_CREATE */), -EEXIST);
	CHECK_EQ(vfs_setxattr(&p, w.cred, "user.b", "v", 1, 2 /* XATTR_REPLACE */), -ENODATA);
	CHECK_EQ(vfs_getxattr(&p, w.cred, "user.a", NULL, 0), 1);
	CHECK_EQ(vfs_getxattr(&p, w.cred, "user.a", buf, sizeof(buf)), 1);
	CHECK_EQ(vfs_setxattr(&p, w.cred, "trusted.t", "secret", 6, 0), 0);
	CHECK_EQ(vfs_getxattr(&p, user, "trusted.t", buf, sizeof(buf)), -ENODATA);
	CHECK_EQ(vfs_getxattr(&p, w.cred, "trusted.t", buf, 2), -ERANGE);
	CHECK_EQ(vfs_setxattr(&p, w.cred, "other.x", "v", 1, 0), -EOPNOTSUPP);
	CHECK_EQ(vfs_listxattr(&p, w.cred, NULL, 0), 17);
	CHECK_EQ(vfs_removexattr(&p, w.cred, "user.a"), 0);
	CHECK_EQ(vfs_removexattr(&p, w.cred, "user.a"), -ENODATA);
	path_put(&p);
}

TEST(memfd_seals)
{
	struct file *f;

	start();
	CHECK_EQ(memfd_new("name", 2 /* MFD_ALLOW_SEALING */, w.cred, &f), 0);
	CHECK_EQ(write_at(f, "data", 4, 0), 4);
	CHECK_EQ(f->ops->fcntl(f, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW, NULL), 0);
	CHECK_EQ(file_truncate(f, 2, w.cred), -EPERM);
	CHECK_EQ(file_truncate(f, 8, w.cred), -EPERM);
	CHECK_EQ(write_at(f, "DATAmore", 8, 0), 4);
	CHECK_EQ(f->ops->fcntl(f, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL, NULL), 0);
	CHECK_EQ(write_at(f, "x", 1, 0), -EPERM);
	CHECK_EQ(f->ops->fcntl(f, F_ADD_SEALS, F_SEAL_WRITE, NULL), -EPERM);
	CHECK_EQ(f->ops->fcntl(f, F_GET_SEALS, 0, NULL), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	file_put(f);
}

static void new_pipe(int flags, struct file **rd, struct file **wr)
{
	start();
	CHECK_EQ(pipe_new(flags, w.cred, rd, wr), 0);
}

TEST(pipe_capacity)
{
	static char big[70000];
	struct file *rd, *wr;

	new_pipe(0, &rd, &wr);
	CHECK_EQ(read_at(rd, big, 1, -1), -EAGAIN);
	CHECK_EQ(write_at(wr, big, sizeof(big), -1), 65536);
	CHECK_EQ(write_at(wr, big, 1, -1), -EAGAIN);
	CHECK_EQ(file_poll(wr, POLLOUT), 0);
	CHECK_EQ(read_at(rd, big, 4095, -1), 4095);
	CHECK_EQ(write_at(wr, big, 4096, -1), -EAGAIN); /* whole or not at all */
	CHECK_EQ(file_poll(wr, POLLOUT), 0);
	CHECK_EQ(read_at(rd, big, 1, -1), 1);
	CHECK_EQ(file_poll(wr, POLLOUT), POLLOUT);
	CHECK_EQ(write_at(wr, big, 4096, -1), 4096);
	CHECK_EQ(pipe_set_size(pipe_of_file(rd), 4096, false), -EBUSY);
	CHECK_EQ(pipe_set_size(pipe_of_file(rd), 1 << 20, false), 1 << 20);
	CHECK_EQ(pipe_set_size(pipe_of_file(rd), (1 << 20) + 1, false), -EPERM);
	CHECK_EQ(pipe_bytes(pipe_of_file(rd)), 65536);
	file_put(wr);
	CHECK_EQ(file_poll(rd, POLLIN), POLLIN | POLLHUP);
	CHECK_EQ(read_at(rd, big, sizeof(big), -1), 65536);
	CHECK_EQ(read_at(rd, big, 1, -1), 0);
	file_put(rd);
}

TEST(pipe_keeps_order_over_growth)
{
	struct file *rd, *wr;
	unsigned char buf[3000], expect = 0, next = 0;

	new_pipe(0, &rd, &wr);
	for (int round = 0; round < 200; round++) {
		size_t in = (size_t)(round * 37 % 2999 + 1), out = (size_t)(round * 53 % 2500 + 1);
		int64_t got;

		for (size_t i = 0; i < in; i++)
			buf[i] = (unsigned char)(next + i);
		got = write_at(wr, (char *)buf, in, -1);
		if (got > 0)
			next = (unsigned char)(next + got);
		got = read_at(rd, buf, out, -1);
		for (int64_t i = 0; i < got; i++)
			CHECK_EQ(buf[i], expect++);
	}
	file_put(rd);
	CHECK_EQ(write_at(wr, "x", 1, -1), -EPIPE);
	CHECK(file_poll(wr, POLLOUT) & POLLERR);
	file_put(wr);
}

TEST(pipe_packets)
{
	struct file *rd, *wr;
	char buf[16];

	new_pipe(O_DIRECT, &rd, &wr);
	CHECK_EQ(write_at(wr, "first", 5, -1), 5);
	CHECK_EQ(write_at(wr, "second", 6, -1), 6);
	CHECK_EQ(read_at(rd, buf, 3, -1), 3); /* the rest of the packet is lost */
	CHECK_EQ(read_at(rd, buf, 16, -1), 6);
	CHECK_MEM(buf, "second", 6);
	CHECK_EQ(read_at(rd, buf, 16, -1), -EAGAIN);
	file_put(rd);
	file_put(wr);
}

TEST(pipe_splices)
{
	struct file *rd, *wr, *rd2, *wr2, *f;
	char buf[16];

	new_pipe(0, &rd, &wr);
	CHECK_EQ(pipe_new(0, w.cred, &rd2, &wr2), 0);
	put("/f", "0123456789");
	f = open_file("/f", O_RDWR);
	CHECK_EQ(pipe_fill(pipe_of_file(wr), f, NULL, 6), 6);
	CHECK_EQ(pipe_splice(pipe_of_file(rd), pipe_of_file(wr2), 4, true), 4);
	CHECK_EQ(pipe_splice(pipe_of_file(rd), pipe_of_file(wr2), 100, false), 6);
	CHECK_EQ(pipe_splice(pipe_of_file(rd), pipe_of_file(wr2), 100, false), -EAGAIN);
	CHECK_EQ(read_at(rd2, buf, 16, -1), 10);
	CHECK_MEM(buf, "0123012345", 10);
	CHECK_EQ(write_at(wr, "AB", 2, -1), 2);
	CHECK_EQ(pipe_drain(pipe_of_file(rd), f, &(int64_t){ 0 }, 100), 2);
	CHECK_EQ(read_at(f, buf, 3, 0), 3);
	CHECK_MEM(buf, "AB2", 3);
	file_put(wr);
	CHECK_EQ(pipe_drain(pipe_of_file(rd), f, NULL, 1), 0);
	file_put(rd2);
	file_put(rd);
	file_put(wr2);
	file_put(f);
}

TEST(fifo_ends)
{
	struct file *rd, *wr;
	char buf[4];

	start();
	CHECK_EQ(vfs_mknod(&w, "/p", S_IFIFO | 0600, 0), 0);
	CHECK_EQ(open_error(&w, "/p", O_WRONLY | O_NONBLOCK), -ENXIO);
	rd = open_file("/p", O_RDONLY);
	CHECK_EQ(rd->ops->open_wait(rd), -EAGAIN);
	wr = open_file("/p", O_WRONLY);
	CHECK_EQ(wr->ops->open_wait(wr), 0);
	CHECK_EQ(write_at(wr, "x", 1, -1), 1);
	file_put(wr);
	CHECK_EQ(rd->ops->open_wait(rd), 0); /* it came and went */
	CHECK_EQ(read_at(rd, buf, 4, -1), 1);
	CHECK_EQ(read_at(rd, buf, 4, -1), 0);
	wr = open_file("/p", O_WRONLY);
	CHECK_EQ(read_at(rd, buf, 4, -1), -EAGAIN);
	file_put(rd);
	file_put(wr);
}

static struct klock range(int16_t type, int64_t from, int64_t to)
{
	return (struct klock){ .type = type, .start = from, .end = to, .pid = 1 };
}

static int lock(struct file *f, const void *owner, int16_t type, int64_t from, int64_t to)
{
	struct klock l = range(type, from, to);

	return file_lock_posix(f, owner, &l, NULL);
}

TEST(locks_split_and_merge)
{
	int a, b;
	struct klock l;
	struct file *f;

	start();
	put("/f", "");
	f = open_file("/f", O_RDWR);
	CHECK_EQ(lock(f, &a, F_WRLCK, 0, 99), 0);
	CHECK_EQ(lock(f, &b, F_RDLCK, 50, 50), -EAGAIN);
	CHECK_EQ(lock(f, &a, F_UNLCK, 40, 59), 0);
	CHECK_EQ(lock(f, &b, F_RDLCK, 40, 59), 0);
	CHECK_EQ(lock(f, &b, F_RDLCK, 39, 39), -EAGAIN);
	CHECK_EQ(lock(f, &a, F_RDLCK, 0, 39), 0);
	CHECK_EQ(lock(f, &b, F_RDLCK, 0, 59), 0);
	l = range(F_WRLCK, 0, INT64_MAX);
	file_lock_test(f, &b, &l);
	CHECK(l.type == F_RDLCK && l.start == 0 && l.end == 39);
	file_locks_release(f, &a);
	l = range(F_WRLCK, 60, INT64_MAX);
	file_lock_test(f, &b, &l);
	CHECK_EQ(l.type, F_UNLCK);
	file_locks_release(f, &b);
	file_put(f);
}

TEST(locks_deadlock)
{
	struct klock l = range(F_WRLCK, 0, 0), m = range(F_WRLCK, 1, 1);
	struct klock_wait wa = { 0 }, wb = { 0 };
	struct file *f;
	int a, b;

	start();
	put("/f", "");
	f = open_file("/f", O_RDWR);
	CHECK_EQ(file_lock_posix(f, &a, &l, NULL), 0);
	CHECK_EQ(file_lock_posix(f, &b, &m, NULL), 0);
	CHECK_EQ(file_lock_posix(f, &a, &m, &wa), -EAGAIN);
	CHECK(wa.q != NULL);
	CHECK_EQ(file_lock_posix(f, &b, &l, &wb), -EDEADLK);
	klock_wait_end(&wa);
	CHECK_EQ(file_lock_posix(f, &b, &l, &wb), -EAGAIN);
	klock_wait_end(&wb);
	file_locks_release(f, &a);
	CHECK_EQ(file_lock_posix(f, &b, &l, &wb), 0);
	klock_wait_end(&wb);
	file_locks_release(f, &b);
	file_put(f);
}

TEST(locks_flock)
{
	struct file *f, *g;

	start();
	put("/f", "");
	f = open_file("/f", O_RDONLY);
	g = open_file("/f", O_RDONLY);
	CHECK_EQ(file_lock_flock(f, LOCK_SH, NULL), 0);
	CHECK_EQ(file_lock_flock(g, LOCK_SH, NULL), 0);
	CHECK_EQ(file_lock_flock(f, LOCK_EX, NULL), -EAGAIN);
	file_put(g);
	CHECK_EQ(file_lock_flock(f, LOCK_EX, NULL), 0);
	g = open_file("/f", O_RDONLY);
	CHECK_EQ(file_lock_flock(g, LOCK_SH, NULL), -EAGAIN);
	file_put(f);
	CHECK_EQ(file_lock_flock(g, LOCK_SH, NULL), 0);
	file_put(g);
}

TEST(descriptor_tables)
{
	struct fdtable *t = fdtable_new(), *copy;
	struct file *f, *same;

	start();
	put("/f", "");
	f = open_file("/f", O_RDWR);
	for (int i = 0; i < 200; i++)
		CHECK_EQ(fdtable_install(t, f, 0, 1000, i == 7), i);
	CHECK_EQ(fdtable_install(t, f, 0, 200, false), -EMFILE);
	CHECK_EQ(fdtable_close(t, 5), 0);
	CHECK_EQ(fdtable_close(t, 5), -EBADF);
	CHECK_EQ(fdtable_close(t, 150), 0);
	CHECK_EQ(fdtable_install(t, f, 6, 1000, false), 150);
	CHECK_EQ(fdtable_reserve(t, 0, 1000, false), 5);
	CHECK(fdtable_get(t, 5) == NULL);
	CHECK_EQ(fdtable_install_at(t, f, 5, 1000, false), -EBUSY);
	fdtable_cancel(t, 5);
	CHECK_EQ(fdtable_install_at(t, f, 500, 1000, true), 500);
	CHECK_EQ(fdtable_install_at(t, f, 1000, 1000, true), -EBADF);
	copy = fdtable_dup(t);
	fdtable_close_on_exec(copy);
	CHECK(fdtable_get(copy, 7) == NULL && fdtable_get(copy, 500) == NULL);
	CHECK_EQ(fdtable_next(copy, 5), 6);
	CHECK_EQ(fdtable_close_range(copy, 6, UINT32_MAX, false), 0);
	CHECK_EQ(fdtable_next(copy, 5), -1);
	same = fdtable_get(t, 500);
	CHECK(same == f);
	file_put(same);
	fdtable_put(copy);
	fdtable_put(t);
	CHECK_EQ(refcount_read(&f->refs), 1);
	file_put(f);
}
