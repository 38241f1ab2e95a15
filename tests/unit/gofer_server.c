/* The gofer process as its sentry sees it: every message, refusals, its jail, its end. */
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <time.h>

#include "gofer/proto/proto.h"
#include "tests/lib/test.h"

static uint8_t buf[GOFER_MSG_MAX];
static int sock = -1, got_fd = -1;
static pid_t gofer;
static char dir[PATH_MAX];
static uint64_t root;

/* Sends size bytes of buf and reads the reply over it; returns its size. */
static size_t exchange(size_t size)
{
	struct iovec iov = { buf, size };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	CHECK(sendmsg(sock, &msg, MSG_NOSIGNAL) == (ssize_t)size);
	iov.iov_len = sizeof(buf);
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control);
	n = OK(recvmsg(sock, &msg, MSG_CMSG_CLOEXEC));
	got_fd = -1;
	if (msg.msg_controllen && CMSG_FIRSTHDR(&msg))
		memcpy(&got_fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	return (size_t)n;
}

/* One message both ways: evaluates to 0 or a positive errno; rep is filled on 0. */
#define CALL(msg, req, rep)                                                                        \
	({                                                                                         \
		struct gofer_header h_ = { .id = GOFER_##msg, .seq = 7 };                          \
		struct cursor c_ = cursor_init(buf, sizeof(buf));                                  \
		gofer_put_request_header(&c_, &h_);                                                \
		gofer_pack_##msg##_req(&c_, req);                                                  \
		CHECK(!c_.bad);                                                                    \
		c_ = cursor_init(buf, exchange((size_t)(c_.p - buf)));                             \
		CHECK(gofer_get_reply_header(&c_, &h_) == 0);                                      \
		CHECK(h_.id == GOFER_##msg && h_.seq == 7);                                        \
		if (h_.error == 0)                                                                 \
			CHECK(gofer_unpack_##msg##_rep(&c_, rep) == 0);                            \
		h_.error;                                                                          \
	})

static struct gofer_str str(const char *s)
{
	return (struct gofer_str){ s, (uint16_t)strlen(s) };
}

static const char *in(const char *name)
{
	static char paths[4][2 * PATH_MAX];
	static unsigned int next;
	char *p = paths[next++ % 4];

	snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
	return p;
}

/* Starts a gofer on what; returns its first line of trouble or 0 when it serves. */
static int spawn(const char *mode, const char *what, bool uds)
{
	char self[PATH_MAX] = "", attach[2 * PATH_MAX], byte = 'x', *slash;
	int sv[2], ready[2];

	OK(readlink("/proc/self/exe", self, sizeof(self) - 64));
	for (int i = 0; i < 3; i++) {
		slash = strrchr(self, '/');
		*slash = 0;
	}
	strcat(self, "/runsc-gofer");
	OK(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	OK(pipe(ready));
	snprintf(attach, sizeof(attach), "%d:%s:%s", sv[1], mode, what);
	gofer = OK(fork());
	if (gofer == 0) {
		char ready_text[16];

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(sv[0]);
		close(ready[0]);
		snprintf(ready_text, sizeof(ready_text), "%d", ready[1]);
		execl(self, "runsc-gofer", "--ready-fd", ready_text, "--log-fd", "2", "--attach",
		      attach, uds ? "--host-uds" : NULL, NULL);
		_exit(99);
	}
	close(sv[1]);
	close(ready[1]);
	sock = sv[0];
	if (read(ready[0], &byte, 1) != 1)
		byte = 'x';
	close(ready[0]);
	return byte;
}

static void attach(void)
{
	struct gofer_attach_req req = { GOFER_VERSION };
	struct gofer_attach_rep rep;

	CHECK_EQ(CALL(attach, &req, &rep), 0);
	root = rep.root;
	CHECK(root != 0);
}

static void start(const char *mode)
{
	if (geteuid() != 0)
		test_skip("needs root");
	if (!dir[0]) {
		strcpy(dir, "/tmp/gofer-test-XXXXXX");
		CHECK(mkdtemp(dir) != NULL);
	}
	CHECK_EQ(spawn(mode, dir, false), 0);
	attach();
}

static void stop(void)
{
	char cmd[PATH_MAX + 32];

	close(sock);
	WAIT_EXIT(gofer, 0);
	if (dir[0]) {
		snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
		CHECK_EQ(system(cmd), 0);
	}
}

static struct gofer_walk_rep walk_rep;
static int walk(uint64_t from, unsigned int open, const char *a, const char *b, const char *c)
{
	static struct gofer_walk_req req;
	const char *names[] = { a, b, c };

	req.dir = from;
	req.open = (uint8_t)open;
	req.names.count = 0;
	for (int i = 0; i < 3 && names[i]; i++)
		req.names.v[req.names.count++].name = str(names[i]);
	return CALL(walk, &req, &walk_rep);
}

static uint64_t last_node(void)
{
	return walk_rep.entries.v[walk_rep.entries.count - 1].id;
}

static void put_file(const char *name, const char *text)
{
	int fd = OK(open(in(name), O_CREAT | O_WRONLY, 0644));

	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
}

TEST(walk_open)
{
	char text[8] = "";

	start("rw");
	OK(mkdir(in("a"), 0755));
	OK(mkdir(in("a/b"), 0755));
	put_file("a/b/f", "hello");
	OK(symlink("a/b", in("l")));
	CHECK_EQ(walk(root, GOFER_OPEN_READ, "a", "b", "f"), 0);
	CHECK_EQ(walk_rep.stop, 0);
	CHECK_EQ(walk_rep.entries.count, 3);
	CHECK_EQ(walk_rep.entries.v[2].attr.size, 5);
	CHECK(got_fd >= 0);
	CHECK_EQ(read(got_fd, text, 8), 5);
	CHECK_STR(text, "hello");
	CHECK(write(got_fd, "x", 1) < 0 && errno == EBADF);

	/* The same file has the same id; a missing name says how far the walk came. */
	uint64_t id = last_node();
	CHECK_EQ(walk(walk_rep.entries.v[0].id, 0, "b", "f", NULL), 0);
	CHECK_EQ(last_node(), id);
	CHECK_EQ(walk(root, 0, "a", "nope", "f"), 0);
	CHECK_EQ(walk_rep.stop, ENOENT);
	CHECK_EQ(walk_rep.entries.count, 1);
	CHECK_EQ(walk(id, 0, "x", NULL, NULL), 0);
	CHECK_EQ(walk_rep.stop, ENOTDIR);
	CHECK_EQ(walk(root, GOFER_OPEN_READ, "l", "f", NULL), 0);
	CHECK_EQ(walk_rep.stop, ELOOP);
	CHECK_STR(walk_rep.target.p, "a/b");
	CHECK_EQ(walk_rep.entries.count, 1);
	/* A directory is walked to but not opened. */
	CHECK_EQ(walk(root, GOFER_OPEN_READ, "a", NULL, NULL), 0);
	CHECK_EQ(walk_rep.open_error, EISDIR);
	CHECK_EQ(got_fd, -1);
	stop();
}

TEST(changes)
{
	struct gofer_create_req create = { .name = str("f"), .mode = 04755, .uid = 5, .gid = 6,
					   .open = GOFER_OPEN_READ | GOFER_OPEN_WRITE };
	struct gofer_create_rep created;
	struct gofer_mkdir_req mk = { .name = str("d"), .mode = 01777, .uid = 7, .gid = 8 };
	struct gofer_mkdir_rep made;
	struct gofer_mknod_req nod = { .name = str("p"), .mode = S_IFIFO | 0600 };
	struct gofer_mknod_rep nodded;
	struct gofer_symlink_req sym = { .name = str("s"), .target = str("any/thing") };
	struct gofer_symlink_rep symmed;
	struct gofer_readlink_req rl;
	struct gofer_readlink_rep text;
	struct gofer_setattr_req set;
	struct gofer_setattr_rep attr;
	struct stat st;

	start("rw");
	create.dir = mk.dir = nod.dir = sym.dir = root;
	CHECK_EQ(CALL(create, &create, &created), 0);
	CHECK(got_fd >= 0);
	CHECK_EQ(write(got_fd, "abcdef", 6), 6);
	close(got_fd);
	OK(stat(in("f"), &st));
	CHECK_EQ(st.st_mode, S_IFREG | 04755);
	CHECK(st.st_uid == 5 && st.st_gid == 6);
	CHECK_EQ(CALL(create, &create, &created), EEXIST);
	CHECK_EQ(CALL(mkdir, &mk, &made), 0);
	CHECK_EQ(made.entry.attr.mode, S_IFDIR | 01777);
	CHECK_EQ(made.entry.attr.uid, 7);
	CHECK_EQ(CALL(mknod, &nod, &nodded), 0);
	CHECK_EQ(nodded.entry.attr.mode, S_IFIFO | 0600);
	nod.name = str("dev");
	nod.mode = S_IFCHR | 0600;
	CHECK_EQ(CALL(mknod, &nod, &nodded), EPERM);
	CHECK_EQ(CALL(symlink, &sym, &symmed), 0);
	rl.node = symmed.entry.id;
	CHECK_EQ(CALL(readlink, &rl, &text), 0);
	CHECK_STR(text.target.p, "any/thing");
	rl.node = made.entry.id;
	CHECK_EQ(CALL(readlink, &rl, &text), EINVAL);

	CHECK_EQ(walk(root, 0, "f", NULL, NULL), 0);
	set = (struct gofer_setattr_req){ .node = last_node(), .valid = GOFER_SET_SIZE |
		GOFER_SET_MODE | GOFER_SET_UID | GOFER_SET_MTIME, .size = 3, .mode = 0640, .uid = 9,
		.mtime_s = 1234, .mtime_ns = 56 };
	CHECK_EQ(CALL(setattr, &set, &attr), 0);
	CHECK(attr.around.attr.size == 3 && attr.around.attr.mode == (S_IFREG | 0640) && attr.around.attr.uid == 9 &&
	      attr.around.attr.gid == 6 && attr.around.attr.mtime_s == 1234 && attr.around.attr.mtime_ns == 56);
	/* A symlink itself: owner and times, no mode. */
	set = (struct gofer_setattr_req){ .node = symmed.entry.id, .valid = GOFER_SET_GID, .gid = 4 };
	CHECK_EQ(CALL(setattr, &set, &attr), 0);
	CHECK_EQ(attr.around.attr.gid, 4);
	set.valid = GOFER_SET_MODE;
	set.mode = 0777;
	CHECK_EQ(CALL(setattr, &set, &attr), EOPNOTSUPP);
	set = (struct gofer_setattr_req){ .node = nodded.entry.id, .valid = GOFER_SET_MODE };
	CHECK_EQ(walk(root, 0, "p", NULL, NULL), 0);
	set.node = last_node();
	set.mode = 0222;
	CHECK_EQ(CALL(setattr, &set, &attr), 0);
	CHECK_EQ(attr.around.attr.mode, S_IFIFO | 0222);
	stop();
}

TEST(rename_link_unlink)
{
	struct gofer_rename_req ren = { .old_name = str("a"), .new_name = str("b") };
	struct gofer_rename_rep renamed;
	struct gofer_link_req ln = { .name = str("l") };
	struct gofer_link_rep linked;
	struct gofer_unlink_req un = { .name = str("c") };
	struct gofer_unlink_rep unlinked;
	struct gofer_getattr_req get;
	struct gofer_getattr_rep attr;
	struct gofer_open_req op = { .open = GOFER_OPEN_READ };
	struct gofer_open_rep opened;
	uint64_t dir_id, file;

	start("rw");
	OK(mkdir(in("a"), 0755));
	put_file("a/f", "1");
	put_file("c", "22");
	CHECK_EQ(walk(root, 0, "a", "f", NULL), 0);
	dir_id = walk_rep.entries.v[0].id;
	file = walk_rep.entries.v[1].id;
	/* Nodes follow a rename of the directory above them. */
	ren.old_dir = ren.new_dir = un.dir = root;
	CHECK_EQ(CALL(rename, &ren, &renamed), 0);
	op.node = file;
	CHECK_EQ(CALL(open, &op, &opened), 0);
	CHECK(got_fd >= 0);
	close(got_fd);
	CHECK_EQ(walk(dir_id, 0, "f", NULL, NULL), 0);
	CHECK_EQ(last_node(), file);
	ren.old_name = str("c");
	ren.flags = GOFER_RENAME_NOREPLACE;
	CHECK_EQ(CALL(rename, &ren, &renamed), EEXIST);
	ren.flags = GOFER_RENAME_EXCHANGE;
	CHECK_EQ(walk(root, 0, "c", NULL, NULL), 0);
	CHECK_EQ(CALL(rename, &ren, &renamed), 0);
	get.node = last_node();
	CHECK_EQ(CALL(getattr, &get, &attr), 0);
	CHECK_EQ(attr.attr.size, 2);
	CHECK_EQ(CALL(rename, &ren, &renamed), 0);
	ren.flags = 8;
	CHECK_EQ(CALL(rename, &ren, &renamed), EINVAL);

	ln.node = file;
	ln.dir = root;
	CHECK_EQ(CALL(link, &ln, &linked), 0);
	CHECK_EQ(linked.entry.attr.nlink, 2);
	ln.node = dir_id;
	ln.name = str("dl");
	CHECK_EQ(CALL(link, &ln, &linked), EPERM);
	/* An unlinked file keeps its attributes while its node is held. */
	CHECK_EQ(CALL(unlink, &un, &unlinked), 0);
	CHECK_EQ(CALL(getattr, &get, &attr), 0);
	CHECK_EQ(attr.attr.nlink, 0);
	CHECK_EQ(CALL(unlink, &un, &unlinked), ENOENT);
	un.name = str("b");
	CHECK_EQ(CALL(unlink, &un, &unlinked), EISDIR);
	un.rmdir = 1;
	CHECK_EQ(CALL(unlink, &un, &unlinked), ENOTEMPTY);
	stop();
}

TEST(unnamed)
{
	struct gofer_tmpfile_req req = { .mode = 0600, .uid = 1, .gid = 2 };
	struct gofer_tmpfile_rep rep;
	struct gofer_link_req ln = { .name = str("named") };
	struct gofer_link_rep linked;
	struct gofer_unlink_req un = { .name = str("named") };
	struct gofer_unlink_rep unlinked;
	struct gofer_open_req op = { .open = GOFER_OPEN_READ };
	struct gofer_open_rep opened;

	start("rw");
	req.dir = ln.dir = un.dir = root;
	int err = CALL(tmpfile, &req, &rep);
	if (err == EOPNOTSUPP)
		return;
	CHECK_EQ(err, 0);
	CHECK(rep.entry.attr.nlink == 0 && rep.entry.attr.uid == 1);
	CHECK_EQ(write(got_fd, "t", 1), 1);
	ln.node = rep.entry.id;
	CHECK_EQ(CALL(link, &ln, &linked), 0);
	CHECK_EQ(access(in("named"), F_OK), 0);
	/* One name goes, the other still opens the file, by either node. */
	ln.name = str("second");
	CHECK_EQ(CALL(link, &ln, &linked), 0);
	CHECK_EQ(CALL(unlink, &un, &unlinked), 0);
	op.node = rep.entry.id;
	CHECK_EQ(CALL(open, &op, &opened), 0);
	stop();
}

TEST(readdir_batches)
{
	struct gofer_readdir_req req = { .flags = GOFER_READDIR_NODES };
	struct gofer_readdir_rep rep = { 0 };
	static bool seen[2000];
	unsigned int count = 0, batches = 0;
	char name[300];

	start("ro");
	for (int i = 0; i < 2000; i++) {
		snprintf(name, sizeof(name), "file-with-a-longer-name-%04d", i);
		close(OK(open(in(name), O_CREAT | O_WRONLY, 0600)));
	}
	req.node = root;
	while (!rep.eof) {
		struct gofer_dirent e = { 0 };

		CHECK_EQ(CALL(readdir, &req, &rep), 0);
		struct cursor c = cursor_init(rep.entries.p, rep.entries.size);

		batches++;
		while (cursor_left(&c)) {
			CHECK_EQ(gofer_unpack_dirent(&c, &e), 0);
			CHECK(e.id != 0);
			CHECK_EQ(e.attr.mode, S_IFREG | 0600);
			int i = atoi(e.name.p + 24);
			CHECK(i >= 0 && i < 2000 && !seen[i]);
			seen[i] = true;
			count++;
			req.cookie = e.cookie;
		}
	}
	CHECK_EQ(count, 2000);
	CHECK(batches > 1);
	stop();
}

TEST(read_only)
{
	struct gofer_mkdir_req mk = { .name = str("d") };
	struct gofer_mkdir_rep made;
	struct gofer_open_req op = { .open = GOFER_OPEN_WRITE };
	struct gofer_open_rep opened;

	start("ro");
	put_file("f", "x");
	mk.dir = root;
	CHECK_EQ(CALL(mkdir, &mk, &made), EROFS);
	CHECK_EQ(walk(root, GOFER_OPEN_WRITE, "f", NULL, NULL), 0);
	CHECK_EQ(walk_rep.open_error, EROFS);
	op.node = last_node();
	CHECK_EQ(CALL(open, &op, &opened), EROFS);
	stop();
}

TEST(xattr_statfs_sync)
{
	struct gofer_setxattr_req set = { .name = str("user.k"), .value = { "value", 5 } };
	struct gofer_setxattr_rep was_set;
	struct gofer_getxattr_req get = { .name = str("user.k"), .max = 100 };
	struct gofer_getxattr_rep got;
	struct gofer_listxattr_req list;
	struct gofer_listxattr_rep listed;
	struct gofer_removexattr_req rm = { .name = str("user.k") };
	struct gofer_removexattr_rep removed;
	struct gofer_statfs_req sf;
	struct gofer_statfs_rep stat;
	struct gofer_fsync_req fs = { 0 };
	struct gofer_fsync_rep synced;
	struct gofer_fallocate_req fa = { .size = 8192 };
	struct gofer_fallocate_rep allocated;
	struct gofer_getattr_req ga;
	struct gofer_getattr_rep attr;

	start("rw");
	put_file("f", "x");
	CHECK_EQ(walk(root, 0, "f", NULL, NULL), 0);
	set.node = get.node = list.node = rm.node = fs.node = fa.node = ga.node = last_node();
	int err = CALL(setxattr, &set, &was_set);
	if (err != EOPNOTSUPP) {
		CHECK_EQ(err, 0);
		CHECK_EQ(CALL(getxattr, &get, &got), 0);
		CHECK(got.size == 5 && memcmp(got.value.p, "value", 5) == 0);
		get.max = 2;
		CHECK_EQ(CALL(getxattr, &get, &got), ERANGE);
		get.max = 0;
		CHECK_EQ(CALL(getxattr, &get, &got), 0);
		CHECK(got.size == 5 && got.value.size == 0);
		CHECK_EQ(CALL(listxattr, &list, &listed), 0);
		CHECK(memmem(listed.names.p, listed.names.size, "user.k", 7));
		CHECK_EQ(CALL(removexattr, &rm, &removed), 0);
		CHECK_EQ(CALL(getxattr, &get, &got), ENODATA);
	}
	sf.node = root;
	CHECK_EQ(CALL(statfs, &sf, &stat), 0);
	CHECK(stat.bsize > 0 && stat.namelen > 0);
	CHECK_EQ(CALL(fsync, &fs, &synced), 0);
	CHECK_EQ(CALL(fallocate, &fa, &allocated), 0);
	CHECK_EQ(CALL(getattr, &ga, &attr), 0);
	CHECK_EQ(attr.attr.size, 8192);
	stop();
}

TEST(host_changes)
{
	struct gofer_open_req op = { .open = GOFER_OPEN_READ };
	struct gofer_open_rep opened;
	struct gofer_mkdir_req mk = { .name = str("x") };
	struct gofer_mkdir_rep made;
	uint64_t old;

	start("rw");
	OK(mkdir(in("d"), 0755));
	put_file("d/f", "one");
	CHECK_EQ(walk(root, 0, "d", "f", NULL), 0);
	old = op.node = last_node();
	/* Replaced on the host: the old node is stale, a walk finds the new file. */
	OK(rename(in("d/f"), in("d/g")));
	put_file("d/f", "two");
	CHECK_EQ(CALL(open, &op, &opened), ESTALE);
	CHECK_EQ(walk(root, 0, "d", "f", NULL), 0);
	CHECK(last_node() != old);
	/* A directory swapped for a symlink that leads out is not followed. */
	uint64_t d = walk_rep.entries.v[0].id;
	OK(rename(in("d"), in("e")));
	OK(symlink("/etc", in("d")));
	CHECK_EQ(walk(root, GOFER_OPEN_READ, "d", "passwd", NULL), 0);
	CHECK_EQ(walk_rep.stop, ELOOP);
	mk.dir = d;
	CHECK_EQ(CALL(mkdir, &mk, &made), 0);
	CHECK_EQ(access(in("e/x"), F_OK), 0);
	CHECK(access("/etc/x", F_OK) < 0);
	stop();
}

TEST_TIMED(recycles_descriptors, 60)
{
	char name[64];
	struct gofer_getattr_req get;
	struct gofer_getattr_rep attr;
	static uint64_t ids[4600];
	struct gofer_readdir_req req = { .flags = GOFER_READDIR_NODES };
	struct gofer_readdir_rep rep = { 0 };
	unsigned int count = 0;

	start("ro");
	for (int i = 0; i < 4600; i++) {
		snprintf(name, sizeof(name), "f%04d", i);
		close(OK(open(in(name), O_CREAT | O_WRONLY, 0600)));
	}
	req.node = root;
	while (!rep.eof) {
		struct gofer_dirent e;

		CHECK_EQ(CALL(readdir, &req, &rep), 0);
		struct cursor c = cursor_init(rep.entries.p, rep.entries.size);

		while (cursor_left(&c) && count < 4600) {
			CHECK_EQ(gofer_unpack_dirent(&c, &e), 0);
			ids[count++] = e.id;
			req.cookie = e.cookie;
		}
	}
	CHECK_EQ(count, 4600);
	for (int round = 0; round < 2; round++) {
		for (unsigned int i = 0; i < count; i++) {
			get.node = ids[i];
			CHECK_EQ(CALL(getattr, &get, &attr), 0);
		}
	}
	stop();
}

TEST(file_attach)
{
	struct gofer_open_req op = { .open = GOFER_OPEN_READ | GOFER_OPEN_WRITE };
	struct gofer_open_rep opened;
	struct gofer_setattr_req set = { .valid = GOFER_SET_SIZE, .size = 2 };
	struct gofer_setattr_rep attr;

	if (geteuid() != 0)
		test_skip("needs root");
	strcpy(dir, "/tmp/gofer-test-XXXXXX");
	CHECK(mkdtemp(dir) != NULL);
	put_file("f", "single");
	CHECK_EQ(spawn("rw", in("f"), false), 0);
	attach();
	op.node = set.node = root;
	CHECK_EQ(CALL(open, &op, &opened), 0);
	CHECK_EQ(opened.attr.size, 6);
	CHECK_EQ(write(got_fd, "S", 1), 1);
	CHECK_EQ(CALL(setattr, &set, &attr), 0);
	CHECK_EQ(attr.around.attr.size, 2);
	stop();
}

TEST(unix_socket)
{
	struct gofer_connect_req req = { .type = SOCK_STREAM };
	struct gofer_connect_rep rep;
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int listener;

	start("rw");
	listener = OK(socket(AF_UNIX, SOCK_STREAM, 0));
	strcpy(sa.sun_path, in("s"));
	OK(bind(listener, (struct sockaddr *)&sa, sizeof(sa)));
	OK(listen(listener, 5));
	CHECK_EQ(walk(root, 0, "s", NULL, NULL), 0);
	req.node = last_node();
	CHECK_EQ(CALL(connect, &req, &rep), ECONNREFUSED);
	close(sock);
	WAIT_EXIT(gofer, 0);
	CHECK_EQ(spawn("rw", dir, true), 0);
	attach();
	CHECK_EQ(walk(root, 0, "s", NULL, NULL), 0);
	req.node = last_node();
	CHECK_EQ(CALL(connect, &req, &rep), 0);
	CHECK(got_fd >= 0);
	CHECK(accept(listener, NULL, NULL) >= 0);
	stop();
}

/* A peer that breaks the protocol is hung up on, and the process ends. */
static void hostile(const void *bytes, size_t size)
{
	struct pollfd p;

	CHECK(send(sock, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
	p = (struct pollfd){ sock, POLLIN, 0 };
	CHECK_EQ(poll(&p, 1, 5000), 1);
	CHECK_EQ(recv(sock, buf, sizeof(buf), 0), 0);
	stop();
}

TEST(refuses_unknown_message)
{
	start("rw");
	hostile("\xff\xff\0\0\0\0\0\0", 8);
}

TEST(refuses_second_attach)
{
	start("rw");
	hostile("\1\0\0\0\0\0\0\0\1\0\0\0", 12);
}

TEST(refuses_dotdot)
{
	uint8_t m[64];
	struct cursor c = cursor_init(m, sizeof(m));

	start("rw");
	gofer_put_request_header(&c, &(struct gofer_header){ .id = GOFER_unlink });
	cursor_put_u64(&c, root);
	cursor_put_u16(&c, 2);
	cursor_write(&c, "..\0", 4);
	hostile(m, (size_t)(c.p - m));
}

TEST(refuses_message_before_attach)
{
	if (geteuid() != 0)
		test_skip("needs root");
	CHECK_EQ(spawn("rw", "/tmp", false), 0);
	dir[0] = 0;
	hostile("\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0", 16);
}

TEST(jail)
{
	char path[64], line[256], link[64];
	bool nnp = false, caps = false, filter = false;
	FILE *f;

	start("rw");
	snprintf(path, sizeof(path), "/proc/%d/status", gofer);
	f = fopen(path, "r");
	CHECK(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		unsigned long long v;

		if (sscanf(line, "NoNewPrivs: %llu", &v) == 1)
			nnp = v == 1;
		if (sscanf(line, "CapPrm: %llx", &v) == 1)
			caps = (v & ~0x1full) == 0;
		if (sscanf(line, "CapBnd: %llx", &v) == 1)
			CHECK_EQ(v, 0);
		if (sscanf(line, "Seccomp: %llu", &v) == 1)
			filter = v == 2;
	}
	fclose(f);
#ifdef __SANITIZE_ADDRESS__
	filter = true; /* the sanitizer's runtime would not survive it */
#endif
	CHECK(nnp && caps && filter);
	snprintf(path, sizeof(path), "/proc/%d/root/etc", gofer);
	CHECK(readlink(path, link, sizeof(link)) < 0);
	CHECK(access(path, F_OK) < 0);
	stop();
}

TEST(bad_command_lines)
{
	if (geteuid() != 0)
		test_skip("needs root");
	CHECK(spawn("xx", "/tmp", false) != 0);
	WAIT_EXIT(gofer, 1);
	CHECK_EQ(spawn("ro", "/nonexistent/dir", false), 'g');
	WAIT_EXIT(gofer, 1);
}

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

TEST(costs)
{
	struct gofer_getattr_req get;
	struct gofer_getattr_rep attr;
	char cmd[128];
	double t0, t1;

	t0 = now_us();
	start("ro");
	t1 = now_us();
	printf("# start to attached: %.0f us\n", t1 - t0);
	get.node = root;
	t0 = now_us();
	for (int i = 0; i < 20000; i++)
		CHECK_EQ(CALL(getattr, &get, &attr), 0);
	printf("# getattr round trip: %.1f us\n", (now_us() - t0) / 20000);
	put_file("f", "x");
	t0 = now_us();
	for (int i = 0; i < 20000; i++) {
		CHECK_EQ(walk(root, GOFER_OPEN_READ, "f", NULL, NULL), 0);
		close(got_fd);
	}
	printf("# walk and open: %.1f us\n", (now_us() - t0) / 20000);
	snprintf(cmd, sizeof(cmd), "sed -n 's/^/# /;/Rss:\\|Pss:\\|Private_Dirty:/p' /proc/%d/smaps_rollup", gofer);
	fflush(stdout);
	CHECK_EQ(system(cmd), 0);
	stop();
}
