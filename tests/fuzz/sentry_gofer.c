/*
 * libFuzzer harness of the sentry against a hostile gofer: a thread answers each request with an honest
 * reply, an error, or a reply with some bytes replaced, as the input says, with or without a descriptor,
 * while the file system is attached, walked, listed, read and changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gofer/proto/proto.h"
#include "sentry/fs/gofer/gofer_fs.h"
#include "sentry/vfs/fs_ops.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct gofer {
	int sock, null;
	const uint8_t *data;
	size_t size;
};

static void answer(struct gofer *g, uint8_t *msg, size_t size, bool with_fd)
{
	struct iovec iov = { msg, size };
	union {
		struct cmsghdr head;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { .head = { .cmsg_len = CMSG_LEN(sizeof(int)),
				.cmsg_level = SOL_SOCKET,
				.cmsg_type = SCM_RIGHTS } };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (with_fd) {
		memcpy(CMSG_DATA(&control.head), &g->null, sizeof(int));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
	}
	(void)!sendmsg(g->sock, &m, MSG_NOSIGNAL);
}

static struct gofer_attr attr_of(uint8_t seed)
{
	static const uint32_t types[] = { S_IFDIR, S_IFREG, S_IFLNK, S_IFDIR, S_IFREG, S_IFIFO };

	return (struct gofer_attr){ .ino = seed, .dev = 1, .size = seed, .nlink = 1,
				    .mode = types[seed % 6] | 0755 };
}

/* A reply that an honest gofer could give, to be bent by the input. */
static void honest(struct cursor *in, struct cursor *out, unsigned int id, uint8_t seed)
{
	static struct gofer_walk_req walk_req;
	static struct gofer_walk_rep walk;
	static uint8_t entries[512];
	static char target[] = "b/c";

	if (id == GOFER_attach) {
		gofer_pack_attach_rep(out, &(struct gofer_attach_rep){ .root = 1, .attr = attr_of(0) });
	} else if (id == GOFER_walk && gofer_unpack_walk_req(in, &walk_req) == 0) {
		walk = (struct gofer_walk_rep){ .target = { "", 0 } };
		walk.entries.count = walk_req.names.count;
		for (uint16_t k = 0; k < walk_req.names.count; k++) {
			bool last = k + 1 == walk_req.names.count;
			uint8_t kind = last ? (uint8_t)(seed + k) : 0;

			walk.entries.v[k] = (struct gofer_entry){ 2u + kind + k, attr_of(kind) };
		}
		if (walk.entries.count && S_ISLNK(walk.entries.v[walk.entries.count - 1].attr.mode)) {
			walk.stop = ELOOP;
			walk.target = (struct gofer_str){ target, 3 };
		}
		gofer_pack_walk_rep(out, &walk);
	} else if (id == GOFER_readdir) {
		struct cursor c = cursor_init(entries, sizeof(entries));

		for (uint8_t k = 0; k < 3; k++)
			gofer_pack_dirent(&c, &(struct gofer_dirent){ .id = 50u + k, .cookie = k + 1u,
								      .attr = attr_of(seed + k),
								      .name = { target + 2, 1 } });
		gofer_pack_readdir_rep(out, &(struct gofer_readdir_rep){
						    seed & 1, { entries, (uint32_t)(c.p - entries) } });
	} else if (id == GOFER_readlink) {
		gofer_pack_readlink_rep(out, &(struct gofer_readlink_rep){ { target, 3 } });
	} else if (id == GOFER_open || id == GOFER_getattr || id == GOFER_setattr) {
		gofer_pack_attr(out, &(struct gofer_attr){ .mode = S_IFREG | 0644, .size = seed });
	} else if (id == GOFER_mkdir || id == GOFER_link || id == GOFER_create) {
		gofer_pack_entry(out, &(struct gofer_entry){ 90u + seed, attr_of(seed) });
	} else if (id == GOFER_listxattr) {
		gofer_pack_listxattr_rep(out, &(struct gofer_listxattr_rep){ { target, 4 } });
	}
}

/* Ends, and hangs up, when the input does. */
static void *hostile_gofer(void *arg)
{
	static uint8_t in[GOFER_MSG_MAX], out[GOFER_MSG_MAX];
	struct gofer *g = arg;
	ssize_t n;

	while ((n = recv(g->sock, in, sizeof(in), 0)) >= 8) {
		unsigned int id = in[0] | (unsigned int)in[1] << 8;
		struct cursor req = cursor_init(in + 8, (size_t)n - 8);
		struct cursor rep = cursor_init(out + 12, sizeof(out) - 12);
		uint8_t flags, bends;
		size_t size;

		if (id == GOFER_close)
			continue;
		if (g->size < 2)
			break;
		flags = g->data[0];
		bends = g->data[1] & 3;
		g->data += 2;
		g->size -= 2;
		memset(out, 0, 12);
		memcpy(out, in, 2);
		memcpy(out + 4, in + 4, 4);
		honest(&req, &rep, id, flags >> 4);
		size = (size_t)(rep.p - out);
		if ((flags & 7) == 7) {
			out[8] = (uint8_t)(1 + (flags >> 3));
			size = 12;
		}
		for (; bends && g->size >= 3; bends--) {
			out[(g->data[0] | (size_t)g->data[1] << 8) % (size + 1)] = g->data[2];
			g->data += 3;
			g->size -= 3;
		}
		answer(g, out, size, id == GOFER_walk || id == GOFER_open || id == GOFER_create ?
					     !(flags & 8) : (flags & 15) == 8);
	}
	shutdown(g->sock, SHUT_RDWR);
	return NULL;
}

static bool emit(struct dir_emit *d, const char *name, size_t len, uint64_t ino, uint8_t type,
		 int64_t next_pos)
{
	(void)d;
	(void)ino;
	(void)type;
	return len == strlen(name) && next_pos > 0;
}

static void use_file(const struct walk *w, const char *path)
{
	struct dir_emit d = { emit };
	struct file *f = NULL;
	char buf[64];
	struct uio u;

	if (vfs_open(w, path, WALK_FOLLOW, O_RDWR, 0, &f) < 0 &&
	    vfs_open(w, path, WALK_FOLLOW, O_RDONLY, 0, &f) < 0)
		return;
	(void)!file_iterate(f, &d);
	uio_init_kernel(&u, buf, sizeof(buf));
	(void)!file_read(f, &u, NULL);
	(void)!file_truncate(f, 1, w->cred);
	file_put(f);
}

static void use(const struct walk *w)
{
	struct kstatfs sf;
	struct kstat st;
	char buf[256];
	struct path p;

	for (int i = 0; i < 3; i++) {
		use_file(w, "/a/b/c");
		use_file(w, "/a");
	}
	if (vfs_walk(w, "/a/l", 0, &p) == 0) {
		(void)!vfs_getattr(&p, &st);
		(void)!vfs_readlink(&p, w->cred, buf, sizeof(buf));
		(void)!vfs_getxattr(&p, w->cred, "user.x", buf, sizeof(buf));
		(void)!vfs_listxattr(&p, w->cred, buf, sizeof(buf));
		(void)!vfs_statfs(&p, &sf);
		path_put(&p);
	}
	(void)!vfs_mkdir(w, "/d", 0755);
	(void)!vfs_link(w, "/a/b/c", 0, w, "/d/x");
	(void)!vfs_rename(w, "/a", w, "/d/y", 0);
	(void)!vfs_unlink(w, "/d/x");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct cred *root;
	static int null_fd = -1;
	struct gofer g = { .data = data, .size = size };
	struct gofer_fs_args args = { .user_ns = &root_user_ns };
	struct superblock *sb;
	struct mnt_ns *ns;
	struct path p;
	pthread_t thread;
	int sv[2];

	if (!root) {
		root = cred_new_root(&root_user_ns);
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (vfs_init() < 0)
			abort();
	}
	if (size < 1 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) < 0)
		return 0;
	g.sock = sv[0];
	g.null = null_fd;
	args.conn_fd = sv[1];
	args.shared = data[0] & 16;
	if (pthread_create(&thread, NULL, hostile_gofer, &g) != 0)
		abort();
	if (gofer_fs_new(&args, &sb) < 0) {
		close(sv[1]);
	} else if (mnt_ns_new(sb, "root", 0, &root_user_ns, &ns, &p) == 0) {
		struct walk w = { .cred = root, .root = p, .start = p, .mnt_ns = ns };

		superblock_put(sb);
		use(&w);
		path_put(&p);
		mnt_ns_put(ns);
	}
	pthread_join(thread, NULL);
	close(sv[0]);
	return 0;
}
