/* Reading directories in batches. The last directory stays open at its position. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gofer/backend/ops.h"

/* Record of getdents64(2). */
struct host_dirent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* The directory that was read last: where the next batch of the same reader goes on. */
static struct {
	struct conn *conn;
	uint64_t node, cookie; /* cookie behind the last entry that was handed out */
	int fd;
	size_t pos, size; /* unread part of buf */
	char buf[32768] __attribute__((aligned(8)));
} open_dir = { .fd = -1 };

static uint8_t entries_buf[GOFER_READDIR_MAX];

void readdir_forget(const struct conn *conn)
{
	if (open_dir.conn != conn || open_dir.fd < 0)
		return;
	close(open_dir.fd);
	open_dir.fd = -1;
	open_dir.conn = NULL;
}

static int open_dir_at(struct conn *conn, struct node *n, uint64_t cookie)
{
	int fd;

	if (open_dir.fd >= 0 && open_dir.conn == conn && open_dir.node == n->id && cookie &&
	    open_dir.cookie == cookie)
		return 0;
	if (cookie > INT64_MAX)
		return -EINVAL;
	fd = node_open(conn, n, O_RDONLY);
	if (fd < 0)
		return fd;
	if (cookie && lseek(fd, (off_t)cookie, SEEK_SET) < 0) {
		close(fd);
		return -EINVAL;
	}
	if (open_dir.fd >= 0)
		close(open_dir.fd);
	open_dir.conn = conn;
	open_dir.node = n->id;
	open_dir.cookie = cookie;
	open_dir.fd = fd;
	open_dir.pos = open_dir.size = 0;
	return 0;
}

/* The host's next entry, or NULL with *ret_err 0 at the end. */
static const struct host_dirent *open_dir_peek(int *ret_err)
{
	long size;

	*ret_err = 0;
	if (open_dir.pos == open_dir.size) {
		size = syscall(SYS_getdents64, open_dir.fd, open_dir.buf, sizeof(open_dir.buf));
		if (size < 0) {
			*ret_err = -errno;
			return NULL;
		}
		open_dir.pos = 0;
		open_dir.size = (size_t)size;
		if (!size)
			return NULL;
	}
	return (const struct host_dirent *)(const void *)(open_dir.buf + open_dir.pos);
}

/* Packs one entry; false when it does not fit. An entry that vanished meanwhile is left out. */
static bool put_entry(struct conn *conn, struct node *dir, const struct host_dirent *d,
		      uint32_t flags, struct cursor *c)
{
	struct gofer_dirent e = {
		.cookie = (uint64_t)d->off,
		.type = d->type,
		.attr.ino = d->ino,
		.name = { d->name, (uint16_t)strlen(d->name) },
	};
	struct cursor save = *c;
	struct node *n;
	uint64_t mnt;

	if (!gofer_name_ok(e.name.p, e.name.len))
		return true;
	if (flags & GOFER_READDIR_DIRS)
		flags |= d->type == DT_DIR ? GOFER_READDIR_NODES : 0;
	flags &= ~(uint32_t)GOFER_READDIR_DIRS;
	if (flags) {
		if (host_getattr(open_dir.fd, d->name, &e.attr, &mnt) < 0)
			return true;
		e.type = (uint8_t)IFTODT(e.attr.mode);
	}
	if (flags & GOFER_READDIR_NODES) {
		/* Room for the whole record is certain before a reference is handed out. */
		if (cursor_left(c) < 512)
			return false;
		n = node_hand_out(conn, dir, d->name, &e.attr, mnt);
		if (n)
			e.id = n->id;
	}
	gofer_pack_dirent(c, &e);
	if (c->bad) {
		*c = save;
		return false;
	}
	return true;
}

int serve_readdir(struct conn *conn, const struct gofer_readdir_req *req,
		  struct gofer_readdir_rep *rep, int *ret_fd UNUSED)
{
	struct node *dir = node_by_id(conn, req->node);
	struct cursor c = cursor_init(entries_buf, sizeof(entries_buf));
	const struct host_dirent *d;
	int err;

	if (!dir)
		return -ESTALE;
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	if (req->flags & ~(uint32_t)(GOFER_READDIR_ATTR | GOFER_READDIR_NODES | GOFER_READDIR_DIRS))
		return -EINVAL;
	rep->entries = (struct gofer_blob){ entries_buf, 0 };
	rep->eof = 1;
	if (dir->sealed)
		return 0;
	err = open_dir_at(conn, dir, req->cookie);
	if (err < 0)
		return err;
	for (;;) {
		d = open_dir_peek(&err);
		if (err < 0) {
			readdir_forget(conn);
			return err;
		}
		if (!d)
			break;
		if (!put_entry(conn, dir, d, req->flags, &c)) {
			rep->eof = 0;
			break;
		}
		open_dir.cookie = (uint64_t)d->off;
		open_dir.pos += d->reclen;
	}
	rep->entries.size = (uint32_t)(c.p - entries_buf);
	if (rep->eof)
		readdir_forget(conn);
	return 0;
}
