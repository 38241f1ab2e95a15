/* The node table and the cache of descriptors behind it. */
#include "gofer/backend/node.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int backend_base_fd = -1;

/* Descriptors of nodes, least recently used first. Unlinked nodes are pinned: not on the list. */
static struct list_node fd_lru = LIST_INIT(fd_lru);
/* Those of foreign nodes, for this request only. */
static struct list_node fd_foreign = LIST_INIT(fd_foreign);
static unsigned int fd_count, fd_limit, pin_count, node_count;
static uint64_t request_seq = 1;

void backend_init(int base_fd, unsigned int fd_max)
{
	backend_base_fd = base_fd;
	fd_limit = fd_max;
}

unsigned int backend_fds_open(void)
{
	return fd_count;
}

void backend_next_request(void)
{
	request_seq++;
}

int host_open(int dirfd, const char *name, int flags, unsigned int mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned int)(flags | O_NOFOLLOW | O_CLOEXEC),
		.mode = mode,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd = -1;

	/* EAGAIN: a rename somewhere on the host raced with the beneath check. */
	for (int tries = 0; tries < 64; tries++) {
		fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
		if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
			break;
	}
	return fd < 0 ? -errno : (int)fd;
}

int host_getattr(int dirfd, const char *name, struct gofer_attr *ret_attr, uint64_t *ret_mnt)
{
	struct statx sx;

	if (statx(dirfd, name,
		  AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH),
		  STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &sx) < 0)
		return -errno;
	*ret_attr = (struct gofer_attr){
		.ino = sx.stx_ino,
		.dev = makedev(sx.stx_dev_major, sx.stx_dev_minor),
		.rdev = makedev(sx.stx_rdev_major, sx.stx_rdev_minor),
		.size = sx.stx_size,
		.blocks = sx.stx_blocks,
		.blksize = sx.stx_blksize,
		.mode = sx.stx_mode,
		.nlink = sx.stx_nlink,
		.uid = sx.stx_uid,
		.gid = sx.stx_gid,
		.atime_s = sx.stx_atime.tv_sec,
		.atime_ns = sx.stx_atime.tv_nsec,
		.mtime_s = sx.stx_mtime.tv_sec,
		.mtime_ns = sx.stx_mtime.tv_nsec,
		.ctime_s = sx.stx_ctime.tv_sec,
		.ctime_ns = sx.stx_ctime.tv_nsec,
		.btime_s = sx.stx_mask & STATX_BTIME ? sx.stx_btime.tv_sec : 0,
		.btime_ns = sx.stx_mask & STATX_BTIME ? sx.stx_btime.tv_nsec : 0,
	};
	*ret_mnt = sx.stx_mask & STATX_MNT_ID ? sx.stx_mnt_id : 0;
	return 0;
}

static uint32_t hash_id(uint64_t id)
{
	return (uint32_t)((id * 0x9e3779b97f4a7c15ull) >> 32);
}

static uint32_t hash_name(const struct node *parent, const char *name)
{
	uint32_t h = hash_id((uintptr_t)parent);

	for (; *name; name++)
		h = (h ^ (uint8_t)*name) * 16777619u;
	return h;
}

static void table_insert_name(struct node_table *t, struct node *n)
{
	struct node **head = &t->by_name[hash_name(n->parent, n->name) & (t->buckets - 1)];

	n->name_next = *head;
	*head = n;
}

static void table_insert_id(struct node_table *t, struct node *n)
{
	struct node **head = &t->by_id[hash_id(n->id) & (t->buckets - 1)];

	n->id_next = *head;
	*head = n;
}

/* Doubles the buckets when they fill up; on failure the table just gets slower. */
static int table_grow(struct node_table *t)
{
	uint32_t old = t->buckets, buckets = old ? old * 2 : 64;
	struct node **old_id = t->by_id, *n, *next;
	struct node **by_id = calloc(buckets, sizeof(struct node *));
	struct node **by_name = calloc(buckets, sizeof(struct node *));

	if (!by_id || !by_name) {
		free(by_id);
		free(by_name);
		return -ENOMEM;
	}
	free(t->by_name);
	t->by_id = by_id;
	t->by_name = by_name;
	t->buckets = buckets;
	for (uint32_t i = 0; i < old; i++) {
		for (n = old_id[i]; n; n = next) {
			next = n->id_next;
			table_insert_id(t, n);
			if (n->linked)
				table_insert_name(t, n);
		}
	}
	free(old_id);
	return 0;
}

static void table_remove_name(struct node_table *t, struct node *n)
{
	struct node **p = &t->by_name[hash_name(n->parent, n->name) & (t->buckets - 1)];

	while (*p != n)
		p = &(*p)->name_next;
	*p = n->name_next;
}

static void table_remove_id(struct node_table *t, struct node *n)
{
	struct node **p = &t->by_id[hash_id(n->id) & (t->buckets - 1)];

	while (*p != n)
		p = &(*p)->id_next;
	*p = n->id_next;
}

struct node *node_by_id(struct conn *conn, uint64_t id)
{
	struct node *n = NULL;

	if (conn->table.buckets)
		n = conn->table.by_id[hash_id(id) & (conn->table.buckets - 1)];
	while (n && n->id != id)
		n = n->id_next;
	/* A node that only its children keep alive is none of the client's any more. */
	return n && n->handed ? n : NULL;
}

struct node *node_by_name(struct conn *conn, struct node *parent, const char *name)
{
	struct node *n = NULL;

	if (conn->table.buckets)
		n = conn->table.by_name[hash_name(parent, name) & (conn->table.buckets - 1)];
	while (n && (n->parent != parent || strcmp(n->name, name) != 0))
		n = n->name_next;
	return n;
}

static void node_fd_close(struct node *n)
{
	if (n->fd < 0)
		return;
	close(n->fd);
	n->fd = -1;
	fd_count--;
	list_del(&n->lru);
	if (!n->linked)
		pin_count--;
}

/* Closes the descriptor that was not used for longest, except those of the current request. */
static void fd_recycle(void)
{
	struct node *n;

	list_for_each(n, &fd_lru, lru) {
		if (n->used_in != request_seq) {
			node_fd_close(n);
			return;
		}
	}
}

void backend_end_request(void)
{
	if (list_empty(&fd_foreign))
		return;
	while (!list_empty(&fd_foreign))
		node_fd_close(list_first(&fd_foreign, struct node, lru));
	/* The working directory may be there as well. */
	if (fchdir(backend_base_fd) < 0)
		return;
}

/* Host filesystems that tell about the host's processes and kernel: never served. */
static bool fs_is_host_pseudo(int fd)
{
	struct statfs sf;

	if (fstatfs(fd, &sf) < 0)
		return true;
	switch ((unsigned long)sf.f_type) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case BPF_FS_MAGIC:
	case DEVPTS_SUPER_MAGIC:
	case EFIVARFS_MAGIC:
	case PSTOREFS_MAGIC:
	case SELINUX_MAGIC:
	case NSFS_MAGIC:
	case BINFMTFS_MAGIC:
	case 0x19800202: /* mqueue */
	case 0x62656570: /* configfs */
	case 0x65735543: /* fusectl */
		return true;
	}
	return false;
}

static struct node *node_new(struct conn *conn, struct node *parent, const char *name,
			     const struct gofer_attr *attr, uint64_t mnt)
{
	struct node_table *t = &conn->table;
	struct node *n;

	if (node_count >= NODE_MAX)
		return NULL;
	if (t->count >= t->buckets && table_grow(t) < 0 && !t->buckets)
		return NULL;
	n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->name = strdup(name);
	if (!n->name) {
		free(n);
		return NULL;
	}
	n->id = ++conn->next_id;
	n->parent = parent;
	if (parent)
		parent->refs++;
	n->ino = attr->ino;
	n->dev = attr->dev;
	n->mnt = mnt;
	n->btime_s = attr->btime_s;
	n->btime_ns = attr->btime_ns;
	n->type = attr->mode & S_IFMT;
	n->sealed = parent && parent->sealed;
	n->foreign = conn->slave && parent && (parent->foreign || mnt != parent->mnt);
	n->fd = -1;
	n->linked = true;
	list_init(&n->lru);
	table_insert_id(t, n);
	table_insert_name(t, n);
	t->count++;
	node_count++;
	return n;
}

static void node_put(struct conn *conn, struct node *n)
{
	while (n && --n->refs == 0) {
		struct node *parent = n->parent;

		node_fd_close(n);
		if (n->linked)
			table_remove_name(&conn->table, n);
		table_remove_id(&conn->table, n);
		conn->table.count--;
		node_count--;
		free(n->name);
		free(n);
		n = parent;
	}
}

int conn_attach(struct conn *conn, struct gofer_attr *ret_attr)
{
	uint64_t mnt;
	int err = host_getattr(backend_base_fd, conn->label, ret_attr, &mnt);

	if (err < 0)
		return err;
	conn->root = node_new(conn, NULL, conn->label, ret_attr, mnt);
	if (!conn->root)
		return -ENOMEM;
	conn->root->refs = conn->root->handed = 1;
	conn->state = conn->readonly ? GOFER_IN_RO : GOFER_IN_RW;
	return 0;
}

void conn_drop(struct conn *conn)
{
	struct node_table *t = &conn->table;
	struct node *n, *next;

	for (uint32_t i = 0; i < t->buckets; i++) {
		for (n = t->by_id[i]; n; n = next) {
			next = n->id_next;
			node_fd_close(n);
			node_count--;
			free(n->name);
			free(n);
		}
	}
	free(t->by_id);
	free(t->by_name);
	*t = (struct node_table){ 0 };
	conn->root = NULL;
}

/* Decides whether a file on another mount than its parent's may be served. */
static void node_check_mount(struct conn *conn, struct node *n)
{
	int fd;

	/* The files of one overlay have many devices: the mount is what counts, where the host tells it. */
	if (!n->parent || n->sealed ||
	    (n->mnt == n->parent->mnt && (n->mnt || n->dev == n->parent->dev)))
		return;
	fd = node_fd(conn, n);
	if (fd < 0 || fs_is_host_pseudo(fd))
		n->sealed = true;
}

struct node *node_hand_out(struct conn *conn, struct node *parent, const char *name,
			   const struct gofer_attr *attr, uint64_t mnt)
{
	struct node *n = node_by_name(conn, parent, name);

	if (n && (!node_is(n, attr) || n->mnt != mnt)) {
		node_unlinked(conn, n);
		n = NULL;
	}
	if (!n) {
		n = node_new(conn, parent, name, attr, mnt);
		if (!n)
			return NULL;
		node_check_mount(conn, n);
	}
	n->refs++;
	n->handed++;
	return n;
}

struct node *node_hand_out_unnamed(struct conn *conn, struct node *parent,
				   const struct gofer_attr *attr, uint64_t mnt, int fd)
{
	struct node *n;

	if (fd_count >= fd_limit || pin_count >= fd_limit / 2)
		return NULL;
	n = node_new(conn, parent, "", attr, mnt);
	if (!n)
		return NULL;
	table_remove_name(&conn->table, n);
	n->linked = false;
	n->fd = fd;
	fd_count++;
	pin_count++;
	n->refs++;
	n->handed++;
	n->settled = true;
	return n;
}

struct node *node_named(struct conn *conn, struct node *node)
{
	struct node *n;

	if (node->linked)
		return node;
	/* Rare: an open file whose name went while it has others. */
	for (uint32_t i = 0; i < conn->table.buckets; i++) {
		for (n = conn->table.by_id[i]; n; n = n->id_next) {
			if (n->linked && n->ino == node->ino && n->dev == node->dev &&
			    n->type == node->type)
				return n;
		}
	}
	return NULL;
}

int node_take_back(struct conn *conn, uint64_t id)
{
	struct node *n = node_by_id(conn, id);

	if (!n || n == conn->root)
		return -ESTALE;
	n->handed--;
	node_put(conn, n);
	return 0;
}

bool node_is(const struct node *n, const struct gofer_attr *attr)
{
	return n->ino == attr->ino && n->dev == attr->dev && n->type == (attr->mode & S_IFMT) &&
	       (n->type == S_IFDIR || (n->btime_s == attr->btime_s && n->btime_ns == attr->btime_ns));
}

static void node_becomes(struct node *n, const struct gofer_attr *attr)
{
	n->ino = attr->ino;
	n->dev = attr->dev;
	n->btime_s = attr->btime_s;
	n->btime_ns = attr->btime_ns;
}

int node_change_begin(struct conn *conn, struct node *n)
{
	int fd = n->settled || n->type == S_IFDIR ? 0 : node_fd(conn, n);

	return MIN(fd, 0);
}

void node_change_end(struct node *n)
{
	struct gofer_attr attr;
	uint64_t mnt;

	if (n->settled || n->type == S_IFDIR || n->fd < 0 || host_getattr(n->fd, "", &attr, &mnt) < 0)
		return;
	node_becomes(n, &attr);
	n->settled = true;
}

/* Opens n's O_PATH descriptor under dirfd and checks that it is still the same file. */
static int node_fd_open(struct node *n, int dirfd)
{
	struct gofer_attr attr;
	uint64_t mnt;
	int fd, err;

	if (fd_count >= fd_limit)
		fd_recycle();
	fd = host_open(dirfd, n->name, O_PATH, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	err = host_getattr(fd, "", &attr, &mnt);
	if (!err && !node_is(n, &attr))
		err = -ESTALE;
	if (err < 0) {
		close(fd);
		return err;
	}
	n->fd = fd;
	fd_count++;
	list_add_tail(n->foreign ? &fd_foreign : &fd_lru, &n->lru);
	return 0;
}

int node_fd(struct conn *conn UNUSED, struct node *node)
{
	struct node *n = node;
	int err;

	node->down = NULL;
	while (n->fd < 0) {
		if (!n->linked)
			return -ESTALE;
		if (!n->parent)
			break;
		n->parent->down = n;
		n = n->parent;
	}
	if (n->fd < 0) {
		err = node_fd_open(n, backend_base_fd);
		if (err < 0)
			return err;
	}
	while (n != node) {
		struct node *child = n->down;
		uint64_t used = n->used_in;

		n->used_in = request_seq;
		err = node_fd_open(child, n->fd);
		n->used_in = used;
		if (err < 0)
			return err;
		n = child;
	}
	node->used_in = request_seq;
	if (node->linked) {
		list_del(&node->lru);
		list_add_tail(node->foreign ? &fd_foreign : &fd_lru, &node->lru);
	}
	return node->fd;
}

int node_getattr(struct conn *conn, struct node *node, struct gofer_attr *ret_attr)
{
	uint64_t mnt;
	int fd, err;

	if (!node->linked || !node->parent) {
		fd = node_fd(conn, node);
		return fd < 0 ? fd : host_getattr(fd, "", ret_attr, &mnt);
	}
	fd = node_fd(conn, node->parent);
	err = fd < 0 ? fd : host_getattr(fd, node->name, ret_attr, &mnt);
	return err == -ENOENT || (!err && !node_is(node, ret_attr)) ? -ESTALE : err;
}

int node_open(struct conn *conn, struct node *node, int flags)
{
	struct gofer_attr attr;
	uint64_t mnt;
	int dirfd, fd, err;

	if (node->sealed)
		return -EACCES;
	flags |= O_NONBLOCK | O_NOCTTY;
	if (node->type == S_IFDIR) {
		dirfd = node_fd(conn, node);
		return dirfd < 0 ? dirfd : host_open(dirfd, ".", flags | O_DIRECTORY, 0);
	}
	if (node->type != S_IFREG)
		return -EINVAL;
	node = node_named(conn, node);
	if (!node)
		return -ESTALE;
	err = (flags & O_ACCMODE) == O_RDONLY ? 0 : node_change_begin(conn, node);
	if (err < 0)
		return err;
	dirfd = node->parent ? node_fd(conn, node->parent) : backend_base_fd;
	if (dirfd < 0)
		return dirfd;
	/* Truncation waits until the file is known to be the right one. */
	fd = host_open(dirfd, node->name, flags & ~O_TRUNC, 0);
	if (fd < 0)
		return fd == -ENOENT ? -ESTALE : fd;
	if ((flags & O_ACCMODE) != O_RDONLY)
		node_change_end(node);
	err = host_getattr(fd, "", &attr, &mnt);
	if (!err && !node_is(node, &attr))
		err = -ESTALE;
	if (!err && (flags & O_TRUNC) && ftruncate(fd, 0) < 0)
		err = -errno;
	if (err < 0) {
		close(fd);
		return err;
	}
	return fd;
}

int node_chdir(struct conn *conn, struct node *node, const char **ret_name)
{
	int fd;

	if (node->type == S_IFDIR) {
		fd = node_fd(conn, node);
		*ret_name = ".";
	} else {
		node = node_named(conn, node);
		if (!node)
			return -ESTALE;
		fd = node->parent ? node_fd(conn, node->parent) : backend_base_fd;
		*ret_name = node->name;
	}
	if (fd < 0)
		return fd;
	return fchdir(fd) < 0 ? -errno : 0;
}

void node_pin(struct conn *conn, struct node *node)
{
	/* Best effort: without a descriptor the node is merely stale afterwards. */
	if (pin_count < fd_limit / 2 && node_fd(conn, node) < 0)
		return;
}

void node_unlinked(struct conn *conn, struct node *node)
{
	if (!node->linked)
		return;
	table_remove_name(&conn->table, node);
	if (node->fd >= 0 && pin_count >= fd_limit / 2)
		node_fd_close(node);
	node->linked = false;
	if (node->fd >= 0) {
		list_del(&node->lru);
		pin_count++;
	}
}

int node_moved(struct conn *conn, struct node *node, struct node *parent, const char *name)
{
	char *copy = strdup(name);
	struct node *old = node->parent;

	if (!copy)
		return -ENOMEM;
	table_remove_name(&conn->table, node);
	free(node->name);
	node->name = copy;
	node->parent = parent;
	parent->refs++;
	table_insert_name(&conn->table, node);
	node_put(conn, old);
	return 0;
}
