/*
 * A scratch tree on the host, a runsc-gofer that serves it, and the VFS on top: what the tests of the
 * gofer file system and of the overlay start from. Include once.
 */
#ifndef TESTS_UNIT_GOFER_FIXTURE_H
#define TESTS_UNIT_GOFER_FIXTURE_H

#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/vfs/fs_ops.h"
#include "tests/lib/test.h"

static __attribute__((unused)) char dir[PATH_MAX];
static __attribute__((unused)) pid_t gofer;
static __attribute__((unused)) struct walk w;
static __attribute__((unused)) const struct cred *root;
static __attribute__((unused)) struct superblock *gofer_sb;

static __attribute__((unused)) const char *host(const char *name)
{
	static char paths[4][2 * PATH_MAX];
	static unsigned int next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

static __attribute__((unused)) void host_file(const char *name, const char *text)
{
	int fd = OK(open(host(name), O_CREAT | O_WRONLY | O_TRUNC, 0644));

	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

static __attribute__((unused)) const char *host_read(const char *name)
{
	static char text[256];
	int fd = open(host(name), O_RDONLY);
	ssize_t n;

	if (fd < 0)
		return "?";
	n = read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	close(fd);
	return text;
}

static __attribute__((unused)) int spawn(const char *mode)
{
	char self[PATH_MAX] = "", attach[2 * PATH_MAX], byte = 'x';
	int sv[2], ready[2];

	OK(readlink("/proc/self/exe", self, sizeof(self) - 64));
	for (int i = 0; i < 3; i++)
		*strrchr(self, '/') = 0;
	strcat(self, "/runsc-gofer");
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	OK(pipe(ready));
	snprintf(attach, sizeof(attach), "%d:%s:%s", sv[1], mode, dir);
	gofer = OK(fork());
	if (gofer == 0) {
		char ready_text[16];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sv[0]);
		close(ready[0]);
		snprintf(ready_text, sizeof(ready_text), "%d", ready[1]);
		execl(self, "runsc-gofer", "--ready-fd", ready_text, "--attach", attach, NULL);
		_exit(99);
	}
	close(sv[1]);
	close(ready[1]);
	CHECK(read(ready[0], &byte, 1) == 1 && byte == 0);
	close(ready[0]);
	return sv[0];
}

static __attribute__((unused)) void make_dir(void)
{
	if (geteuid() != 0)
		test_skip("needs root");
	strcpy(dir, "/tmp/gofer-test-XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	OK(chmod(dir, 0755));
}

static __attribute__((unused)) void mount_root(struct superblock *sb)
{
	struct mnt_ns *ns;
	struct path p;

	CHECK_EQ(mnt_ns_new(sb, "root", 0, &root_user_ns, &ns, &p), 0);
	w = (struct walk){ .cred = root, .root = p, .start = p, .mnt_ns = ns };
}

static __attribute__((unused)) void start_gofer(const char *mode, bool shared)
{
	struct gofer_fs_args args = { .conn_fd = spawn(mode), .shared = shared, .user_ns = &root_user_ns };

	CHECK_EQ(vfs_init(), 0);
	root = cred_new_root(&root_user_ns);
	CHECK_EQ(gofer_fs_new(&args, &gofer_sb), 0);
}

static __attribute__((unused)) void start(const char *mode, bool shared)
{
	start_gofer(mode, shared);
	mount_root(gofer_sb);
}

static __attribute__((unused)) void stop(void)
{
	char cmd[PATH_MAX + 32];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	CHECK_EQ(system(cmd), 0);
}

static __attribute__((unused)) struct file *open_file(const char *path, int flags)
{
	struct file *f = NULL;
	int r = vfs_open(&w, path, WALK_FOLLOW, flags, 0644, &f);

	if (r < 0)
		test_fail(__FILE__, __LINE__, "open %s: %s", path, strerror(-r));
	return f;
}

static __attribute__((unused)) int open_err(const char *path, int flags)
{
	struct file *f = NULL;
	int r = vfs_open(&w, path, WALK_FOLLOW, flags, 0644, &f);

	if (r == 0)
		file_put(f);
	return r;
}

static __attribute__((unused)) int64_t do_read(struct file *f, char *buf, size_t size)
{
	struct uio u;

	uio_init_kernel(&u, buf, size);
	return file_read(f, &u, NULL);
}

static __attribute__((unused)) int64_t do_write(struct file *f, const char *text)
{
	struct uio u;
	char copy[256];

	strcpy(copy, text);
	uio_init_kernel(&u, copy, strlen(text));
	return file_write(f, &u, NULL);
}

static __attribute__((unused)) const char *cat(const char *path)
{
	static char text[2][256];
	static unsigned int next;
	char *buf = text[next++ % 2];
	struct file *f = NULL;
	int64_t n;
	int r = vfs_open(&w, path, WALK_FOLLOW, O_RDONLY, 0, &f);

	if (r < 0)
		return strerror(-r);
	n = do_read(f, buf, 255);
	buf[n > 0 ? n : 0] = 0;
	file_put(f);
	return buf;
}

static __attribute__((unused)) void put(const char *path, int flags, const char *text)
{
	struct file *f = open_file(path, O_WRONLY | flags);

	CHECK_EQ(do_write(f, text), strlen(text));
	file_put(f);
}

static __attribute__((unused)) struct kstat stat_of(const char *path)
{
	struct kstat st;
	struct path p;
	int r = vfs_walk(&w, path, 0, &p);

	if (r < 0)
		test_fail(__FILE__, __LINE__, "walk %s: %s", path, strerror(-r));
	CHECK_EQ(vfs_getattr(&p, &st), 0);
	path_put(&p);
	return st;
}

static __attribute__((unused)) int exists(const char *path)
{
	struct path p;
	int r = vfs_walk(&w, path, 0, &p);

	if (r == 0)
		path_put(&p);
	return r;
}

struct listed {
	struct dir_emit emit;
	char text[4096];
};

static __attribute__((unused)) int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static __attribute__((unused)) bool add_name(struct dir_emit *d, const char *name, size_t len, uint64_t ino, uint8_t type,
		     int64_t next_pos)
{
	struct listed *n = (struct listed *)d;

	(void)ino;
	(void)type;
	(void)next_pos;
	if (name[0] != '.')
		sprintf(n->text + strlen(n->text), "%.*s ", (int)len, name);
	return true;
}

/* The names in a directory, sorted, with a blank behind each. */
static __attribute__((unused)) const char *ls(const char *path)
{
	static char out[4096];
	struct listed n = { .emit.emit = add_name };
	char *list[256], *save, *p;
	int count = 0;
	struct file *f = open_file(path, O_RDONLY | O_DIRECTORY);

	CHECK_EQ(file_iterate(f, &n.emit), 0);
	file_put(f);
	for (p = strtok_r(n.text, " ", &save); p; p = strtok_r(NULL, " ", &save))
		list[count++] = p;
	qsort(list, (size_t)count, sizeof(list[0]), by_name);
	out[0] = 0;
	for (int i = 0; i < count; i++)
		sprintf(out + strlen(out), "%s ", list[i]);
	return out;
}

static __attribute__((unused)) int set(const char *path, struct kattr attr)
{
	struct path p;
	int r;

	CHECK_EQ(vfs_walk(&w, path, 0, &p), 0);
	r = vfs_setattr(&p, root, &attr);
	path_put(&p);
	return r;
}

static __attribute__((unused)) void tree(void)
{
	make_dir();
	OK(mkdir(host("a"), 0755));
	OK(mkdir(host("a/b"), 0755));
	OK(mkdir(host("empty"), 0755));
	host_file("a/b/f", "lower");
	host_file("a/g", "gg");
	OK(symlink("b/f", host("a/l")));
	OK(link(host("a/g"), host("a/g2")));
}

static __attribute__((unused)) double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static __attribute__((unused)) void costs(const char *what)
{
	double t0 = now_us();
	char name[64];

	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "/a/f%04d", i);
		stat_of(name);
	}
	printf("# %s: cold stat %.2f us", what, (now_us() - t0) / 500);
	t0 = now_us();
	for (int i = 0; i < 100000; i++)
		stat_of("/a/f0001");
	printf(", warm stat %.2f us", (now_us() - t0) / 100000);
	t0 = now_us();
	for (int i = 0; i < 500; i++) {
		snprintf(name, sizeof(name), "/a/f%04d", i);
		cat(name);
	}
	printf(", first open+read+close %.2f us", (now_us() - t0) / 500);
	t0 = now_us();
	for (int i = 0; i < 100000; i++)
		cat("/a/f0001");
	printf(", again %.2f us\n", (now_us() - t0) / 100000);
}

#endif
