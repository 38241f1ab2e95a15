/*
 * Nodes: what the client of one connection knows of the host's tree. A node is a file found under
 * its parent's name; its O_PATH descriptor is kept while descriptors last and is opened again by
 * parent and name when needed. The gofer has one thread; nothing here is locked.
 */
#ifndef GOFER_BACKEND_NODE_H
#define GOFER_BACKEND_NODE_H

#include <sys/stat.h>

#include "gofer/proto/proto.h"
#include "platform/base/list.h"

struct node {
	uint64_t id; /* never reused within a connection */
	struct node *parent; /* counted; NULL for the root */
	char *name; /* below the parent; the root's is below the server's base directory */
	struct node *id_next, *name_next; /* hash chains */
	struct node *down; /* scratch of node_fd */
	struct list_node lru; /* linked while fd may be recycled */
	uint64_t ino, dev, mnt, used_in;
	int64_t btime_s; /* tells reused inode numbers apart; 0 where the host has none */
	uint32_t btime_ns;
	uint32_t refs; /* handed references + one for each child node */
	uint32_t handed; /* references that the client gives back by close */
	uint32_t type; /* S_IFMT bits */
	int fd; /* O_PATH, or -1 */
	bool settled; /* changed through us before: an overlay of the host has copied it up */
	bool linked; /* parent and name still lead here, as far as the gofer knows */
	bool foreign; /* below a mount of a slave tree: fd is closed after the request */
	bool sealed; /* mount point of a host pseudo filesystem: an empty directory to the client */
};

struct node_table {
	struct node **by_id, **by_name;
	uint32_t buckets, count;
};

/* One connection: one attached tree. */
struct conn {
	int sock; /* -1 once closed */
	const char *label; /* name of the tree below the base directory: "0", "1" ... */
	const char *path; /* host path, for the log only */
	bool readonly, uds;
	bool slave; /* the host may mount and unmount below it: nothing there is kept open */
	unsigned int state; /* enum gofer_legal, or 0 when the peer broke the protocol */
	uint64_t next_id;
	struct node *root; /* NULL before attach */
	struct node_table table;
};

enum {
	NODE_MAX = 1 << 18, /* nodes of all connections together */
	BACKEND_FD_RESERVE = 32, /* descriptors for everything but nodes */
};

/* The directory that holds every attached tree; set once before the first message. */
extern int backend_base_fd;

/* Starts the node cache with at most fd_max descriptors. base_fd is borrowed for ever. */
void backend_init(int base_fd, unsigned int fd_max);
/* Descriptors that nodes hold right now. */
unsigned int backend_fds_open(void);
/* Starts a new request: descriptors that the last one used may be recycled again. */
void backend_next_request(void);

/* Ends a request: descriptors that would keep the host from unmounting are closed. */
void backend_end_request(void);

/* Opens the root of conn; returns 0 or a negative errno. */
NODISCARD int conn_attach(struct conn *conn, struct gofer_attr *ret_attr);
/* Frees every node of conn. */
void conn_drop(struct conn *conn);

/* Node of that id, borrowed, or NULL. */
struct node *node_by_id(struct conn *conn, uint64_t id);
/* Node that is linked under that name, borrowed, or NULL. */
struct node *node_by_name(struct conn *conn, struct node *parent, const char *name);
/*
 * Hands out a reference on the node for the file that attr and mnt describe under that name, known
 * or new. NULL when NODE_MAX is reached or memory is short.
 */
struct node *node_hand_out(struct conn *conn, struct node *parent, const char *name,
			   const struct gofer_attr *attr, uint64_t mnt);
/* The same for a file without a name: fd, taken over, is what it will be reached by. */
struct node *node_hand_out_unnamed(struct conn *conn, struct node *parent,
				   const struct gofer_attr *attr, uint64_t mnt, int fd);
/*
 * A linked node of the same file: node itself, or another name of it that the client knows; NULL when
 * all names are gone.
 */
struct node *node_named(struct conn *conn, struct node *node);
/* Takes one handed reference back; the node may be gone afterwards. -ESTALE when none is out. */
NODISCARD int node_take_back(struct conn *conn, uint64_t id);

/* Is that the file that the node stands for? */
bool node_is(const struct node *node, const struct gofer_attr *attr);
/* Attributes of the node, by its name if it has one: -ESTALE when that leads to another file now. */
NODISCARD int node_getattr(struct conn *conn, struct node *node, struct gofer_attr *ret_attr);
/*
 * Around an operation that may change the file: an overlay of the host then copies it up, after which its device, inode
 * number and birth time may be others, though it is the same file. Begin opens its O_PATH descriptor, by
 * which end finds the new ones. Nothing for directories, whose numbers stay.
 */
NODISCARD int node_change_begin(struct conn *conn, struct node *node);
void node_change_end(struct node *node);
/*
 * O_PATH descriptor of the node, borrowed until the next request. -ESTALE when the name leads to
 * another file now.
 */
NODISCARD int node_fd(struct conn *conn, struct node *node);
/*
 * Opens a regular file or a directory for real; the caller owns the descriptor. flags are open(2)'s
 * access mode and O_TRUNC; O_NONBLOCK and O_NOCTTY are added.
 */
NODISCARD int node_open(struct conn *conn, struct node *node, int flags);
/* Makes the node's parent the working directory; name is then relative to it ("." for directories). */
NODISCARD int node_chdir(struct conn *conn, struct node *node, const char **ret_name);

/* Keeps the file of an about-to-vanish name reachable: call before the name is removed. */
void node_pin(struct conn *conn, struct node *node);
/* The name no longer leads to the node. */
void node_unlinked(struct conn *conn, struct node *node);
/* The node now lives under another name. */
NODISCARD int node_moved(struct conn *conn, struct node *node, struct node *parent,
			 const char *name);

/* statx of dirfd/name without following ("" for dirfd itself). Returns 0 or a negative errno. */
NODISCARD int host_getattr(int dirfd, const char *name, struct gofer_attr *ret_attr,
			   uint64_t *ret_mnt);
/* openat2 below dirfd: one component, no symlink, no magic link. Returns an owned descriptor. */
NODISCARD int host_open(int dirfd, const char *name, int flags, unsigned int mode);

#endif
