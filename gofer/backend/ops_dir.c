/* Operations on the entries of a directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "gofer/backend/ops.h"

static char target_buf[GOFER_TARGET_MAX + 1];

int backend_readlink(int fd, struct gofer_str *ret_target)
{
	ssize_t len = readlinkat(fd, "", target_buf, sizeof(target_buf));

	/* An O_PATH descriptor of something else than a symlink gives ENOENT. */
	if (len < 0)
		return errno == ENOENT ? -EINVAL : -errno;
	if (len > (ssize_t)GOFER_TARGET_MAX)
		return -ENAMETOOLONG;
	target_buf[len] = 0;
	*ret_target = (struct gofer_str){ target_buf, (uint16_t)len };
	return 0;
}

void around_begin(int fd, struct gofer_around *around)
{
	struct gofer_attr attr;
	uint64_t mnt;

	*around = (struct gofer_around){ 0 };
	if (host_getattr(fd, "", &attr, &mnt) < 0)
		return;
	around->before_s = attr.ctime_s;
	around->before_ns = attr.ctime_ns;
}

void around_end(int fd, struct gofer_around *around)
{
	uint64_t mnt;

	if (host_getattr(fd, "", &around->attr, &mnt) < 0)
		around->attr = (struct gofer_attr){ 0 };
}

int backend_open_file(struct conn *conn, struct node *node, unsigned int open)
{
	int flags;

	if (node->type == S_IFDIR)
		return -EISDIR;
	if (node->type != S_IFREG)
		return -EINVAL;
	if (open & ~(unsigned int)(GOFER_OPEN_READ | GOFER_OPEN_WRITE | GOFER_OPEN_TRUNC))
		return -EINVAL;
	if ((open & (GOFER_OPEN_WRITE | GOFER_OPEN_TRUNC)) && conn->readonly)
		return -EROFS;
	switch (open & (GOFER_OPEN_READ | GOFER_OPEN_WRITE)) {
	case GOFER_OPEN_READ:
		flags = O_RDONLY;
		break;
	case GOFER_OPEN_WRITE:
		flags = O_WRONLY;
		break;
	case GOFER_OPEN_READ | GOFER_OPEN_WRITE:
		flags = O_RDWR;
		break;
	default:
		return -EINVAL;
	}
	if (open & GOFER_OPEN_TRUNC) {
		if (flags == O_RDONLY)
			return -EINVAL;
		flags |= O_TRUNC;
	}
	return node_open(conn, node, flags);
}

/* Directory of a request and its descriptor. */
static int dir_of(struct conn *conn, uint64_t id, struct node **ret_dir)
{
	struct node *dir = node_by_id(conn, id);
	int fd;

	if (!dir)
		return -ESTALE;
	if (dir->type != S_IFDIR)
		return -ENOTDIR;
	fd = node_fd(conn, dir);
	if (fd >= 0)
		*ret_dir = dir;
	return fd;
}

/* The same for an operation that changes the directory. */
static int dir_of_change(struct conn *conn, uint64_t id, struct node **ret_dir)
{
	int fd = dir_of(conn, id, ret_dir);

	return fd >= 0 && (*ret_dir)->sealed ? -EPERM : fd;
}

int serve_walk(struct conn *conn, const struct gofer_walk_req *req, struct gofer_walk_rep *rep,
	       int *ret_fd)
{
	struct node *dir = node_by_id(conn, req->dir), *child;
	uint64_t mnt;
	int fd, err;

	if (!dir)
		return -ESTALE;
	rep->entries.count = 0;
	rep->target = (struct gofer_str){ "", 0 };
	for (size_t i = 0; i < req->names.count; i++) {
		struct gofer_entry *e = &rep->entries.v[i];
		const char *name = req->names.v[i].name.p;

		if (dir->type != S_IFDIR)
			fd = -ENOTDIR;
		else if (dir->sealed)
			fd = -ENOENT;
		else
			fd = node_fd(conn, dir);
		err = fd < 0 ? fd : host_getattr(fd, name, &e->attr, &mnt);
		if (err < 0) {
			rep->stop = (uint32_t)-err;
			return 0;
		}
		child = node_hand_out(conn, dir, name, &e->attr, mnt);
		if (!child) {
			rep->stop = ENFILE;
			return 0;
		}
		e->id = child->id;
		rep->entries.count++;
		dir = child;
		if (dir->type == S_IFLNK) {
			fd = node_fd(conn, dir);
			err = fd < 0 ? fd : backend_readlink(fd, &rep->target);
			rep->stop = err < 0 ? (uint32_t)-err : ELOOP;
			return 0;
		}
	}
	if (req->open && req->names.count) {
		fd = backend_open_file(conn, dir, req->open);
		if (fd < 0)
			rep->open_error = (uint32_t)-fd;
		else
			*ret_fd = fd;
	}
	return 0;
}

/* Fills a reply's entry for a name that leads to a file of ours. */
static int entry_of(struct conn *conn, struct node *dir, const char *name, uint64_t mnt,
		    struct gofer_entry *ret_entry)
{
	struct node *n = node_hand_out(conn, dir, name, &ret_entry->attr, mnt);

	if (!n)
		return -ENFILE;
	n->settled = true;
	ret_entry->id = n->id;
	return 0;
}

/* Who a file that was just made belongs to, and its mode where that is not settled by making it. */
struct ownership {
	uint32_t uid, gid, mode;
	bool has_mode;
	int fd; /* of the file, or -1: it is opened for fchmod */
};

/* What is not yet as wanted, is made so: mostly nothing. *attr is how the file is. 1 when something was changed. */
static int own(int dirfd, const char *name, const struct ownership *o, const struct gofer_attr *attr)
{
	bool chown = attr->uid != o->uid || attr->gid != o->gid;
	int fd = o->fd, err = 0;

	if (o->uid == (uint32_t)-1 || o->gid == (uint32_t)-1)
		return -EINVAL;
	if (chown && fchownat(dirfd, name, o->uid, o->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	/* chown takes mode bits away */
	if (!o->has_mode || (!chown && (attr->mode & 07777) == o->mode))
		return chown;
	if (fd < 0)
		fd = host_open(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0)
		return fd;
	if (fchmod(fd, o->mode) < 0)
		err = -errno;
	if (o->fd < 0)
		close(fd);
	return err ? err : 1;
}

/* Ends the making of a file: owner, mode, the reply's entry. */
static int adopt(struct conn *conn, struct node *dir, int dirfd, const char *name, const struct ownership *o,
		 struct gofer_entry *ret_entry)
{
	uint64_t mnt;
	int err = host_getattr(dirfd, name, &ret_entry->attr, &mnt);

	if (!err)
		err = own(dirfd, name, o, &ret_entry->attr);
	if (err > 0)
		err = host_getattr(dirfd, name, &ret_entry->attr, &mnt);
	return err ? err : entry_of(conn, dir, name, mnt, ret_entry);
}

int serve_create(struct conn *conn, const struct gofer_create_req *req,
		 struct gofer_create_rep *rep, int *ret_fd)
{
	struct node *dir;
	int dirfd = dir_of_change(conn, req->dir, &dir), fd, err;

	if (dirfd < 0)
		return dirfd;
	if (req->mode & ~07777u || req->open & GOFER_OPEN_TRUNC || !(req->open & 3))
		return -EINVAL;
	around_begin(dirfd, &rep->dir);
	fd = host_open(dirfd, req->name.p,
		       O_CREAT | O_EXCL | O_NONBLOCK | O_NOCTTY |
			       (req->open & GOFER_OPEN_WRITE ?
					req->open & GOFER_OPEN_READ ? O_RDWR : O_WRONLY : O_RDONLY),
		       req->mode & 0777);
	if (fd < 0)
		return fd;
	err = adopt(conn, dir, dirfd, req->name.p,
		    &(struct ownership){ req->uid, req->gid, req->mode, true, fd }, &rep->entry);
	if (err < 0) {
		unlinkat(dirfd, req->name.p, 0);
		close(fd);
		return err;
	}
	around_end(dirfd, &rep->dir);
	*ret_fd = fd;
	return 0;
}

int serve_tmpfile(struct conn *conn, const struct gofer_tmpfile_req *req,
		  struct gofer_tmpfile_rep *rep, int *ret_fd)
{
	struct node *dir, *n;
	uint64_t mnt;
	int dirfd = dir_of_change(conn, req->dir, &dir), fd, kept, err;

	if (dirfd < 0)
		return dirfd;
	if (req->mode & ~07777u)
		return -EINVAL;
	fd = host_open(dirfd, ".", O_TMPFILE | O_RDWR, req->mode & 0777);
	if (fd < 0)
		return fd;
	err = fchownat(fd, "", req->uid, req->gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
	if (!err && fchmod(fd, req->mode) < 0)
		err = -errno;
	if (!err)
		err = host_getattr(fd, "", &rep->entry.attr, &mnt);
	kept = err ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0);
	n = kept < 0 ? NULL : node_hand_out_unnamed(conn, dir, &rep->entry.attr, mnt, kept);
	if (!n) {
		if (kept >= 0)
			close(kept);
		close(fd);
		return err ? err : -ENFILE;
	}
	rep->entry.id = n->id;
	*ret_fd = fd;
	return 0;
}

int serve_mkdir(struct conn *conn, const struct gofer_mkdir_req *req, struct gofer_mkdir_rep *rep,
		int *ret_fd UNUSED)
{
	struct node *dir;
	int dirfd = dir_of_change(conn, req->dir, &dir), err;

	if (dirfd < 0)
		return dirfd;
	if (req->mode & ~07777u)
		return -EINVAL;
	around_begin(dirfd, &rep->dir);
	if (mkdirat(dirfd, req->name.p, req->mode & 0777) < 0)
		return -errno;
	err = adopt(conn, dir, dirfd, req->name.p,
		    &(struct ownership){ req->uid, req->gid, req->mode, true, -1 }, &rep->entry);
	if (err < 0)
		unlinkat(dirfd, req->name.p, AT_REMOVEDIR);
	around_end(dirfd, &rep->dir);
	return err;
}

int serve_mknod(struct conn *conn, const struct gofer_mknod_req *req, struct gofer_mknod_rep *rep,
		int *ret_fd UNUSED)
{
	struct node *dir;
	int dirfd = dir_of_change(conn, req->dir, &dir), err;
	uint32_t type = req->mode & S_IFMT;

	if (dirfd < 0)
		return dirfd;
	if (req->mode & ~(uint32_t)(S_IFMT | 07777))
		return -EINVAL;
	if (type != S_IFREG && type != S_IFIFO && type != S_IFSOCK)
		return -EPERM;
	around_begin(dirfd, &rep->dir);
	if (mknodat(dirfd, req->name.p, req->mode, 0) < 0)
		return -errno;
	err = adopt(conn, dir, dirfd, req->name.p, &(struct ownership){ .uid = req->uid, .gid = req->gid }, &rep->entry);
	if (err < 0)
		unlinkat(dirfd, req->name.p, 0);
	around_end(dirfd, &rep->dir);
	return err;
}

int serve_symlink(struct conn *conn, const struct gofer_symlink_req *req,
		  struct gofer_symlink_rep *rep, int *ret_fd UNUSED)
{
	struct node *dir;
	int dirfd = dir_of_change(conn, req->dir, &dir), err;

	if (dirfd < 0)
		return dirfd;
	around_begin(dirfd, &rep->dir);
	if (symlinkat(req->target.p, dirfd, req->name.p) < 0)
		return -errno;
	err = adopt(conn, dir, dirfd, req->name.p, &(struct ownership){ .uid = req->uid, .gid = req->gid }, &rep->entry);
	if (err < 0)
		unlinkat(dirfd, req->name.p, 0);
	around_end(dirfd, &rep->dir);
	return err;
}

int serve_link(struct conn *conn, const struct gofer_link_req *req, struct gofer_link_rep *rep,
	       int *ret_fd UNUSED)
{
	struct node *n = node_by_id(conn, req->node), *dir, *named;
	int dirfd = dir_of_change(conn, req->dir, &dir), from, err;
	uint64_t mnt;

	if (!n)
		return -ESTALE;
	if (dirfd < 0)
		return dirfd;
	if (n->type == S_IFDIR)
		return -EPERM;
	if (!n->parent)
		return -EXDEV;
	named = node_named(conn, n);
	from = node_fd(conn, named ? named->parent : n);
	if (from < 0)
		return from;
	err = node_change_begin(conn, n);
	if (err < 0)
		return err;
	around_begin(dirfd, &rep->dir);
	if (linkat(from, named ? named->name : "", dirfd, req->name.p,
		   named ? 0 : AT_EMPTY_PATH) < 0)
		return -errno;
	node_change_end(n);
	around_end(dirfd, &rep->dir);
	err = host_getattr(dirfd, req->name.p, &rep->entry.attr, &mnt);
	return err ? err : entry_of(conn, dir, req->name.p, mnt, &rep->entry);
}

int serve_rename(struct conn *conn, const struct gofer_rename_req *req,
		 struct gofer_rename_rep *rep, int *ret_fd UNUSED)
{
	struct node *old_dir, *new_dir, *moved, *target;
	int from = dir_of_change(conn, req->old_dir, &old_dir);
	int to = dir_of_change(conn, req->new_dir, &new_dir), err = 0;
	bool exchange = req->flags == GOFER_RENAME_EXCHANGE;
	uint64_t mnt;

	if (from < 0)
		return from;
	if (to < 0)
		return to;
	if (req->flags && !exchange && req->flags != GOFER_RENAME_NOREPLACE)
		return -EINVAL;
	moved = node_by_name(conn, old_dir, req->old_name.p);
	target = node_by_name(conn, new_dir, req->new_name.p);
	if (target && !exchange && req->keep)
		node_pin(conn, target);
	if (moved)
		err = node_change_begin(conn, moved);
	if (!err && target && exchange)
		err = node_change_begin(conn, target);
	if (err < 0)
		return err;
	around_begin(from, &rep->from);
	around_begin(to, &rep->to);
	if (syscall(SYS_renameat2, from, req->old_name.p, to, req->new_name.p, req->flags) < 0)
		return -errno;
	if (moved)
		node_change_end(moved);
	if (target && exchange)
		node_change_end(target);
	around_end(from, &rep->from);
	around_end(to, &rep->to);
	if (host_getattr(to, req->new_name.p, &rep->moved, &mnt) < 0)
		rep->moved = (struct gofer_attr){ 0 };
	/* Two names of one file: rename does nothing, and both stay. */
	if (moved && target && moved->ino == target->ino && moved->dev == target->dev)
		return 0;
	if (target && !exchange)
		node_unlinked(conn, target);
	if (moved)
		err = node_moved(conn, moved, new_dir, req->new_name.p);
	if (target && exchange && !err)
		err = node_moved(conn, target, old_dir, req->old_name.p);
	return err;
}

int serve_unlink(struct conn *conn, const struct gofer_unlink_req *req,
		 struct gofer_unlink_rep *rep, int *ret_fd UNUSED)
{
	struct node *dir, *n;
	int dirfd = dir_of_change(conn, req->dir, &dir);

	if (dirfd < 0)
		return dirfd;
	n = node_by_name(conn, dir, req->name.p);
	if (n && req->keep)
		node_pin(conn, n);
	around_begin(dirfd, &rep->dir);
	if (unlinkat(dirfd, req->name.p, req->rmdir ? AT_REMOVEDIR : 0) < 0)
		return -errno;
	around_end(dirfd, &rep->dir);
	if (n)
		node_unlinked(conn, n);
	return 0;
}
