/* Operations on a node: attributes, opening, extended attributes, sync, sockets. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "gofer/backend/ops.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif

/* Finds the node of a request and its O_PATH descriptor. */
static int node_of(struct conn *conn, uint64_t id, struct node **ret_node)
{
	struct node *n = node_by_id(conn, id);
	int fd;

	if (!n)
		return -ESTALE;
	fd = node_fd(conn, n);
	if (fd >= 0)
		*ret_node = n;
	return fd;
}

int serve_attach(struct conn *conn, const struct gofer_attach_req *req,
		 struct gofer_attach_rep *rep, int *ret_fd UNUSED)
{
	int err;

	if (req->version != GOFER_VERSION)
		return -EPROTONOSUPPORT;
	err = conn_attach(conn, &rep->attr);
	if (err < 0)
		return err;
	rep->root = conn->root->id;
	rep->flags = (conn->readonly ? GOFER_ATTACH_READONLY : 0) |
		     (conn->uds ? GOFER_ATTACH_UDS : 0) | (conn->slave ? GOFER_ATTACH_SLAVE : 0);
	return 0;
}

int serve_getattr(struct conn *conn, const struct gofer_getattr_req *req,
		  struct gofer_getattr_rep *rep, int *ret_fd UNUSED)
{
	struct node *n = node_by_id(conn, req->node);

	return n ? node_getattr(conn, n, &rep->attr) : -ESTALE;
}

int serve_check(struct conn *conn, const struct gofer_check_req *req, struct gofer_check_rep *rep, int *ret_fd UNUSED)
{
	rep->nodes.count = req->nodes.count;
	for (size_t i = 0; i < req->nodes.count; i++) {
		struct node *n = node_by_id(conn, req->nodes.v[i].id);
		int err = n ? node_getattr(conn, n, &rep->nodes.v[i].attr) : -ESTALE;

		rep->nodes.v[i].error = (uint32_t)-err;
	}
	return 0;
}

static int set_mode(struct conn *conn, struct node *n, int fd, mode_t mode)
{
	const char *name;
	int err, real;

	if (n->type == S_IFLNK)
		return -EOPNOTSUPP;
	if (syscall(SYS_fchmodat2, fd, "", mode, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno != ENOSYS && errno != EINVAL)
		return -errno;
	/* Before Linux 6.6: through a real descriptor, or by name for what cannot be opened. */
	if (n->type == S_IFREG || n->type == S_IFDIR) {
		real = node_open(conn, n, O_RDONLY);
		if (real < 0)
			return real;
		err = fchmod(real, mode) < 0 ? -errno : 0;
		close(real);
		return err;
	}
	err = node_chdir(conn, n, &name);
	if (err < 0)
		return err;
	return fchmodat(AT_FDCWD, name, mode, 0) < 0 ? -errno : 0;
}

static int set_size(struct conn *conn, struct node *n, uint64_t size)
{
	int real, err;

	if (n->type == S_IFDIR)
		return -EISDIR;
	if (size > INT64_MAX)
		return -EINVAL;
	real = node_open(conn, n, O_WRONLY);
	if (real < 0)
		return real;
	err = ftruncate(real, (off_t)size) < 0 ? -errno : 0;
	close(real);
	return err;
}

static int set_times(int fd, const struct gofer_setattr_req *req)
{
	struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { .tv_nsec = UTIME_OMIT } };

	if (req->valid & GOFER_SET_ATIME_NOW)
		ts[0].tv_nsec = UTIME_NOW;
	else if (req->valid & GOFER_SET_ATIME)
		ts[0] = (struct timespec){ req->atime_s, req->atime_ns };
	if (req->valid & GOFER_SET_MTIME_NOW)
		ts[1].tv_nsec = UTIME_NOW;
	else if (req->valid & GOFER_SET_MTIME)
		ts[1] = (struct timespec){ req->mtime_s, req->mtime_ns };
	return utimensat(fd, "", ts, AT_EMPTY_PATH) < 0 ? -errno : 0;
}

int serve_setattr(struct conn *conn, const struct gofer_setattr_req *req,
		  struct gofer_setattr_rep *rep, int *ret_fd UNUSED)
{
	struct node *n;
	int fd = node_of(conn, req->node, &n), err = 0;

	if (fd < 0)
		return fd;
	if (n->type == S_IFDIR)
		around_begin(fd, &rep->around);
	if ((req->valid & ~GOFER_SET_ALL) || req->mode & ~07777u ||
	    req->atime_ns >= 1000000000 || req->mtime_ns >= 1000000000)
		return -EINVAL;
	if (req->valid & (GOFER_SET_UID | GOFER_SET_GID)) {
		uid_t uid = req->valid & GOFER_SET_UID ? req->uid : (uid_t)-1;
		gid_t gid = req->valid & GOFER_SET_GID ? req->gid : (gid_t)-1;

		err = fchownat(fd, "", uid, gid, AT_EMPTY_PATH) < 0 ? -errno : 0;
	}
	if (!err && (req->valid & GOFER_SET_MODE))
		err = set_mode(conn, n, fd, req->mode);
	if (!err && (req->valid & GOFER_SET_SIZE))
		err = set_size(conn, n, req->size);
	if (!err && (req->valid & (GOFER_SET_ATIME | GOFER_SET_MTIME | GOFER_SET_ATIME_NOW |
				   GOFER_SET_MTIME_NOW)))
		err = set_times(fd, req);
	node_change_end(n);
	if (!err)
		around_end(fd, &rep->around);
	return err;
}

struct more_fds backend_more;

void more_fds_close(struct more_fds *more)
{
	while (more->count)
		close(more->fd[--more->count]);
}

/* Opens what will probably be wanted next. */
static void open_ahead(struct conn *conn, const struct gofer_open_req *req, struct gofer_open_rep *rep)
{
	for (uint16_t i = 0; i < req->ahead.count; i++) {
		struct node *n = node_by_id(conn, req->ahead.v[i].id);
		int fd = n ? backend_open_file(conn, n, GOFER_OPEN_READ) : -ESTALE;

		if (fd < 0)
			continue;
		rep->opened |= 1u << i;
		backend_more.fd[backend_more.count++] = fd;
	}
}

int serve_open(struct conn *conn, const struct gofer_open_req *req, struct gofer_open_rep *rep,
	       int *ret_fd)
{
	struct node *n = node_by_id(conn, req->node);
	uint64_t mnt;
	int fd, err;

	if (!n)
		return -ESTALE;
	fd = backend_open_file(conn, n, req->open);
	if (fd < 0)
		return fd;
	err = host_getattr(fd, "", &rep->attr, &mnt);
	if (err < 0) {
		close(fd);
		return err;
	}
	*ret_fd = fd;
	open_ahead(conn, req, rep);
	return 0;
}

int serve_readlink(struct conn *conn, const struct gofer_readlink_req *req,
		   struct gofer_readlink_rep *rep, int *ret_fd UNUSED)
{
	struct node *n;
	int fd = node_of(conn, req->node, &n);

	return fd < 0 ? fd : backend_readlink(fd, &rep->target);
}

int serve_statfs(struct conn *conn, const struct gofer_statfs_req *req,
		 struct gofer_statfs_rep *rep, int *ret_fd UNUSED)
{
	struct node *n;
	struct statfs sf;
	int fd = node_of(conn, req->node, &n);

	if (fd < 0)
		return fd;
	if (fstatfs(fd, &sf) < 0)
		return -errno;
	*rep = (struct gofer_statfs_rep){
		.type = (uint64_t)sf.f_type,
		.bsize = (uint64_t)sf.f_bsize,
		.blocks = sf.f_blocks,
		.bfree = sf.f_bfree,
		.bavail = sf.f_bavail,
		.files = sf.f_files,
		.ffree = sf.f_ffree,
		.namelen = (uint64_t)sf.f_namelen,
		.flags = (uint64_t)sf.f_flags,
	};
	return 0;
}

static char xattr_buf[GOFER_XATTR_SIZE_MAX];

/* Makes the extended attributes of the node reachable by a relative path. */
static int xattr_path(struct conn *conn, uint64_t id, bool change, const char **ret_name)
{
	struct node *n = node_by_id(conn, id);
	int err = !n ? -ESTALE : change ? node_change_begin(conn, n) : 0;

	return err < 0 ? err : node_chdir(conn, n, ret_name);
}

int serve_getxattr(struct conn *conn, const struct gofer_getxattr_req *req,
		   struct gofer_getxattr_rep *rep, int *ret_fd UNUSED)
{
	const char *name;
	ssize_t size;
	int err = xattr_path(conn, req->node, false, &name);

	if (err < 0)
		return err;
	size = lgetxattr(name, req->name.p, xattr_buf,
			 req->max ? MIN((size_t)req->max, sizeof(xattr_buf)) : 0);
	if (size < 0)
		return -errno;
	rep->size = (uint32_t)size;
	rep->value = (struct gofer_blob){ xattr_buf, req->max ? (uint32_t)size : 0 };
	return 0;
}

int serve_setxattr(struct conn *conn, const struct gofer_setxattr_req *req,
		   struct gofer_setxattr_rep *rep UNUSED, int *ret_fd UNUSED)
{
	const char *name;
	int err = xattr_path(conn, req->node, true, &name);

	if (err < 0)
		return err;
	if (req->flags & ~(unsigned int)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	err = lsetxattr(name, req->name.p, req->value.p, req->value.size, (int)req->flags) < 0 ? -errno : 0;
	node_change_end(node_by_id(conn, req->node));
	return err;
}

int serve_listxattr(struct conn *conn, const struct gofer_listxattr_req *req,
		    struct gofer_listxattr_rep *rep, int *ret_fd UNUSED)
{
	const char *name;
	ssize_t size;
	int err = xattr_path(conn, req->node, false, &name);

	if (err < 0)
		return err;
	size = llistxattr(name, xattr_buf, sizeof(xattr_buf));
	if (size < 0)
		return -errno;
	rep->names = (struct gofer_blob){ xattr_buf, (uint32_t)size };
	return 0;
}

int serve_removexattr(struct conn *conn, const struct gofer_removexattr_req *req,
		      struct gofer_removexattr_rep *rep UNUSED, int *ret_fd UNUSED)
{
	const char *name;
	int err = xattr_path(conn, req->node, true, &name);

	if (err < 0)
		return err;
	err = lremovexattr(name, req->name.p) < 0 ? -errno : 0;
	node_change_end(node_by_id(conn, req->node));
	return err;
}

int serve_fallocate(struct conn *conn, const struct gofer_fallocate_req *req,
		    struct gofer_fallocate_rep *rep UNUSED, int *ret_fd UNUSED)
{
	struct node *n = node_by_id(conn, req->node);
	int fd, err;

	if (!n)
		return -ESTALE;
	if (req->offset > INT64_MAX || req->size > INT64_MAX || req->mode > INT32_MAX)
		return -EINVAL;
	fd = n->type == S_IFREG ? node_open(conn, n, O_WRONLY) : -ENODEV;
	if (fd < 0)
		return fd;
	err = fallocate(fd, (int)req->mode, (off_t)req->offset, (off_t)req->size) < 0 ? -errno : 0;
	close(fd);
	return err;
}

int serve_fsync(struct conn *conn, const struct gofer_fsync_req *req,
		struct gofer_fsync_rep *rep UNUSED, int *ret_fd UNUSED)
{
	struct node *n = node_by_id(conn, req->node);
	int fd, err;

	if (!n)
		return -ESTALE;
	fd = node_open(conn, n, O_RDONLY);
	if (fd < 0)
		return fd;
	err = (req->datasync ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
	close(fd);
	return err;
}

int serve_syncfs(struct conn *conn, const struct gofer_syncfs_req *req,
		 struct gofer_syncfs_rep *rep UNUSED, int *ret_fd UNUSED)
{
	struct node *n = node_by_id(conn, req->node);
	int fd, err;

	if (!n)
		return -ESTALE;
	fd = node_open(conn, n, O_RDONLY);
	if (fd < 0)
		return fd;
	err = syncfs(fd) < 0 ? -errno : 0;
	close(fd);
	return err;
}

int serve_connect(struct conn *conn, const struct gofer_connect_req *req,
		  struct gofer_connect_rep *rep UNUSED, int *ret_fd)
{
	struct node *n = node_by_id(conn, req->node);
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *name;
	size_t len;
	int fd, err;

	if (!n)
		return -ESTALE;
	if (!conn->uds || n->sealed || n->type != S_IFSOCK)
		return -ECONNREFUSED;
	if (req->type != SOCK_STREAM && req->type != SOCK_DGRAM && req->type != SOCK_SEQPACKET)
		return -EPROTOTYPE;
	err = node_chdir(conn, n, &name);
	if (err < 0)
		return err;
	len = strlen(name);
	if (len >= sizeof(sa.sun_path))
		return -ENAMETOOLONG;
	memcpy(sa.sun_path, name, len + 1);
	fd = socket(AF_UNIX, (int)req->type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&sa,
		    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + 1)) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	*ret_fd = fd;
	return 0;
}

int serve_close(struct conn *conn, const struct gofer_close_req *req,
		struct gofer_close_rep *rep UNUSED, int *ret_fd UNUSED)
{
	for (size_t i = 0; i < req->nodes.count; i++) {
		if (node_take_back(conn, req->nodes.v[i].id) < 0)
			return -EPROTO;
	}
	return 0;
}
