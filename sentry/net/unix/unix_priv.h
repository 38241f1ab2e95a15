/*
 * Unix sockets (unix(7)).
 *
 * Locks, outermost first: bind_mu (one bind of a socket, before inode locks), recv_mu (one reader of a
 * socket), gc_mu (files in flight), socket.mu (state, queue), names_mu. Never the mu of two sockets, but
 * for a listener and the connections that wait in it.
 */
#ifndef SENTRY_NET_UNIX_UNIX_PRIV_H
#define SENTRY_NET_UNIX_UNIX_PRIV_H

#include <stdatomic.h>
#include <sys/un.h>

#include "sentry/net/core/socket.h"

#define UNIX_ADDR_MAX ((uint32_t)sizeof(struct sockaddr_un))
#define UNIX_CHUNK_MAX 65536u	/* bytes of a stream copied at once */
#define UNIX_CHUNK_MIN 2048u	/* room of a chunk that small writes share */
#define UNIX_DGRAM_QUEUE 10	/* net.unix.max_dgram_qlen */
#define UNIX_IN_FLIGHT_USERS 256

enum unix_state { UNIX_UNCONNECTED, UNIX_LISTENING, UNIX_CONNECTING, UNIX_CONNECTED, UNIX_CLOSED };
enum { UNIX_SHUT_RCV = 1, UNIX_SHUT_SND = 2 };

/* A name, shared by a listener and what it accepted. */
struct unix_name {
	struct refcount refs;
	uint32_t size; /* of the address, family included */
	struct sockaddr_un sun;
};

/* A message, or for streams a run of bytes with the same ancillary data. */
struct unix_msg {
	struct list_node node;
	struct unix_name *from; /* datagrams: the sender's name, reference or NULL */
	struct scm_files *files;
	struct scm_creds creds;
	bool has_creds;
	uint32_t size, start, end; /* of data: allocated, first unread byte, end of bytes */
	uint8_t data[];
};

struct unix_binding {
	struct unix_sock *sock;
};

struct unix_sock {
	struct socket s;
	enum unix_state state;	  /* mu */
	struct unix_sock *peer;	  /* mu; reference */
	uint8_t shut;		  /* mu; bits above */
	bool embryo;		  /* mu: connected to, not accepted yet */
	struct mutex bind_mu;	  /* LOCK_FILE_POS */
	struct unix_name *name;	  /* set once (acquire, release); reference */
	struct list_node name_node; /* names_mu: abstract names */
	struct list_node ns_node;   /* names_mu */
	struct unix_binding binding;
	struct path path;	  /* mu: place of a name in the file system; references */

	struct mutex recv_mu;	  /* held through a receive: takes from the queue */
	struct list_node queue;	  /* mu: unix_msg.node */
	_Atomic uint64_t queued_bytes; /* written under mu */
	_Atomic uint32_t queued_count;

	struct list_node accept_queue; /* mu: unix_sock.accept_node of embryos, references */
	struct list_node accept_node;  /* the listener's mu */
	_Atomic unsigned accept_count;
	unsigned backlog;

	/* Whoever waits for room here (senders, connectors) relays our room_waitq to their own queue. */
	struct waitq room_waitq;
	struct mutex relay_mu;	    /* LOCK_OBJECT: relay and relay_to */
	struct waitq_entry relay;
	struct unix_sock *relay_to; /* reference */

	struct pid *owner_pid;	  /* mu: of listen or connect, shown to the peer; reference */
	const struct cred *owner_cred;
	struct pid *peer_pid;	  /* mu: SO_PEERCRED */
	const struct cred *peer_cred;

	uint64_t ino; /* inode number of the file, for /proc/net/unix; 0: none yet */

	/* Collector of cycles; gc_mu. file: weak, set while the socket has a file. */
	struct file *file;
	unsigned in_flight;
	struct list_node flight_node;
	unsigned gc_refs;
	bool gc_candidate, gc_reached;
};

static inline struct unix_sock *unix_of(struct socket *s)
{
	return container_of(s, struct unix_sock, s);
}

static inline struct unix_sock *unix_get(struct unix_sock *u)
{
	socket_get(&u->s);
	return u;
}

static inline void unix_put(struct unix_sock *u)
{
	if (u)
		socket_put(&u->s);
}
DEFINE_AUTO(unix_put, struct unix_sock *)

/* The name of u, borrowed for as long as u lives, or NULL. */
static inline struct unix_name *unix_name_of(const struct unix_sock *u)
{
	return __atomic_load_n(&u->name, __ATOMIC_ACQUIRE);
}

struct unix_name *unix_name_get(struct unix_name *n);
void unix_name_put(struct unix_name *n); /* NULL is fine */

/* names.c */
NODISCARD int unix_bind(struct socket *s, const struct sock_addr *a);
NODISCARD int unix_autobind(struct unix_sock *u); /* 0 when it has a name already */
/* The socket bound to a with a reference: -ECONNREFUSED, -EPROTOTYPE, or what the path walk gives. */
NODISCARD int unix_lookup(struct unix_sock *from, const struct sock_addr *a, struct unix_sock **ret_sock);
void unix_unbind(struct unix_sock *u);
/* Checks family and size of an address; the size used is in *ret_size (paths end at NUL). */
NODISCARD int unix_addr_check(const struct sock_addr *a);

/* transfer.c */
int64_t unix_send(struct socket *s, struct sock_msg *m);
int64_t unix_recv(struct socket *s, struct sock_msg *m);
void unix_msg_free(struct unix_msg *m); /* drops files: no locks held */
/* Takes the whole queue out of u into list; mu is held. */
void unix_queue_take(struct unix_sock *u, struct list_node *list);
void unix_msgs_free(struct list_node *list);
bool unix_writable(struct unix_sock *u); /* room at the peer for more; mu not held */

/* Makes u hear of room at target through its own wait queue. */
void unix_relay_set(struct unix_sock *u, struct unix_sock *target);
void unix_relay_clear(struct unix_sock *u);

/* gc.c: files that ride on messages. */
extern struct mutex unix_gc_mu;
/* Counts the files as in flight by the current user: -ETOOMANYREFS. gc_mu held. */
NODISCARD int unix_in_flight_add(struct scm_files *files);
/* They arrived (or were dropped). gc_mu held. */
void unix_in_flight_del(struct scm_files *files);
/* Frees what only reaches itself. No locks held. */
void unix_gc(void);
extern _Atomic unsigned unix_in_flight_sockets;

#endif
