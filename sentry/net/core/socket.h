/*
 * Sockets: the object, the table of address families, and the operations a family implements. System
 * calls (sentry/syscalls/sys_socket.c) and files come in through the functions here; a family (unix,
 * netlink, host pass-through, later an own TCP/IP stack) fills a struct socket_ops.
 *
 * Nothing in a family blocks: what would wait returns -EAGAIN and wakes the socket's wait queue later.
 */
#ifndef SENTRY_NET_CORE_SOCKET_H
#define SENTRY_NET_CORE_SOCKET_H

#include <sys/socket.h>

#include "sentry/kernel/namespaces.h"
#include "sentry/vfs/fs_ops.h"

struct socket;

#define SOCK_ADDR_MAX 128
#define SOCK_IFREQ_SIZE 40

/* A socket address copied from or for the guest. */
struct sock_addr {
	uint32_t size; /* bytes used; 0: none */
	union {
		uint16_t family;
		uint8_t raw[SOCK_ADDR_MAX];
		uint64_t align;
	};
};

/* Files in flight (SCM_RIGHTS). Owned by one message; holds the references. */
#define SCM_FILES_MAX 253
struct scm_files {
	unsigned count, inflight_user;
	bool counted;
	struct file *file[];
};

/* Sender of a message (SCM_CREDENTIALS); pid is a reference or NULL. */
struct scm_creds {
	struct pid *pid;
	kuid_t uid;
	kgid_t gid;
};

/* Ancillary data of one message, either way. */
struct sock_control {
	struct scm_files *files; /* owned */
	struct scm_creds creds;
	bool has_creds;
	/* Encoded control messages of the protocol itself (IP_TTL, ...), host layout; owned. */
	uint8_t *other;
	size_t other_size;
	bool other_truncated;
};

void scm_files_free(struct scm_files *files); /* drops the files; no locks held */
void scm_creds_fini(struct scm_creds *creds);
void sock_control_fini(struct sock_control *c);

/* One send or receive. */
struct sock_msg {
	struct uio *uio;
	uint32_t flags;			/* MSG_* of the guest */
	const struct sock_addr *to;	/* send: destination or NULL */
	struct sock_addr *from;		/* receive: filled in, or NULL */
	struct sock_control *control;	/* never NULL */
	size_t control_room;		/* receive: bytes the guest has for control messages */
	uint32_t out_flags;		/* receive: MSG_TRUNC, MSG_EOR, MSG_OOB, MSG_CTRUNC ... */
};

/* A NULL member gives -EOPNOTSUPP unless said otherwise. No locks held; task thread. */
struct socket_ops {
	const char *name;
	/* The file is closed: disconnect. The object lives on until its last reference. */
	void (*close)(struct socket *s);
	void (*free)(struct socket *s); /* last reference; frees the object that embeds s */
	int (*bind)(struct socket *s, const struct sock_addr *a);
	/* 0; -EINPROGRESS: under way, ask connect_result; -EAGAIN: try again after a wake. */
	int (*connect)(struct socket *s, const struct sock_addr *a, bool nonblock);
	int (*connect_result)(struct socket *s); /* 0, -EAGAIN, or the error */
	int (*listen)(struct socket *s, int backlog);
	/* A reference to a new socket without a file, or -EAGAIN. */
	int (*accept)(struct socket *s, struct socket **ret_socket);
	int (*getname)(struct socket *s, bool peer, struct sock_addr *ret_addr);
	/* Bytes moved; message sockets all or nothing, streams maybe fewer. -EAGAIN. */
	int64_t (*send)(struct socket *s, struct sock_msg *m);
	int64_t (*recv)(struct socket *s, struct sock_msg *m);
	int (*shutdown)(struct socket *s, int how);
	/* value is copied in; -ENOPROTOOPT when unknown. Asked before the generic options. */
	int (*setsockopt)(struct socket *s, int level, int name, const void *value, size_t size);
	/* *size: room on entry, bytes on return. */
	int (*getsockopt)(struct socket *s, int level, int name, void *value, size_t *size);
	uint32_t (*poll)(struct socket *s, uint32_t events);
	/* Called before somebody waits on s->waitq. May be NULL. */
	void (*will_wait)(struct socket *s);
	int64_t (*ioctl)(struct socket *s, uint32_t cmd, uint64_t arg, struct umem *um); /* default: -ENOTTY */
	/* The socket got its file. May be NULL. */
	void (*opened)(struct socket *s, struct file *f);
	/* Some options of SOL_SOCKET are the protocol's own (host): generic ones are not tried. */
	bool own_sol_socket;
};

struct socket {
	struct refcount refs;
	const struct socket_ops *ops;
	int family, type, protocol; /* const */
	struct net_ns *net;	    /* const; reference */
	struct waitq waitq;
	struct mutex mu;	    /* LOCK_SOCKET: the options below, and what the family says */
	_Atomic int64_t recv_timeout_ns, send_timeout_ns; /* 0: none */
	int sndbuf, rcvbuf, priority, mark;
	_Atomic int error;	    /* pending, positive errno */
	bool reuse_addr, reuse_port, keepalive, broadcast, oob_inline, pass_cred, timestamp, dont_route;
	struct linger linger;
};

/* Initialises the generic part: one reference, defaults. */
void socket_init(struct socket *s, const struct socket_ops *ops, struct net_ns *net, int family, int type,
		 int protocol);
void socket_fini(struct socket *s); /* called by ops->free */
struct socket *socket_get(struct socket *s);
void socket_put(struct socket *s);
DEFINE_AUTO(socket_put, struct socket *)
/* Takes and clears the pending error: 0 or -errno. */
int socket_take_error(struct socket *s);

/* A file on s (takes over the reference on success); flags: O_NONBLOCK. */
NODISCARD int socket_file_new(struct socket *s, int flags, const struct cred *cred, struct file **ret_file);
/* The socket behind f, borrowed; NULL when f is something else. */
struct socket *file_socket(struct file *f);

/* Address families. */
struct socket_family {
	int family;
	/* type without flags. -ESOCKTNOSUPPORT, -EPROTONOSUPPORT, -EPERM. */
	int (*create)(struct net_ns *net, int type, int protocol, struct socket **ret_socket);
	int (*pair)(struct net_ns *net, int type, int protocol, struct socket *ret_pair[2]); /* NULL: -EOPNOTSUPP */
};
void socket_family_register(const struct socket_family *f); /* boot only */
NODISCARD int socket_create(struct net_ns *net, int family, int type, int protocol, struct socket **ret_socket);
NODISCARD int socket_create_pair(struct net_ns *net, int family, int type, int protocol, struct socket *ret_pair[2]);

/* Options with the generic ones of SOL_SOCKET. */
int socket_setsockopt(struct socket *s, int level, int name, const void *value, size_t size);
int socket_getsockopt(struct socket *s, int level, int name, void *value, size_t *size);
/* ioctls on any socket: SIOCGIF*, FIOASYNC and friends; -ENOTTY. sentry/net/netlink answers SIOCGIF*. */
int64_t socket_ioctl(struct socket *s, uint32_t cmd, uint64_t arg, struct umem *um);
extern int64_t (*socket_ifreq_hook)(struct net_ns *net, uint32_t cmd, uint64_t arg, struct umem *um);

/* Rows of files of /proc/net, set by the families. */
struct seq;
extern void (*net_proc_unix_hook)(struct net_ns *ns, struct seq *q);
extern void (*net_proc_dev_hook)(struct net_ns *ns, struct seq *q);
/* Rows of tcp, udp and their version 6. */
extern void (*net_proc_inet_hook)(struct net_ns *ns, int family, int type, struct seq *q);

/* Network policy: every connect, bind, and datagram with a destination passes here. */
enum net_op { NET_OP_CONNECT, NET_OP_BIND, NET_OP_SEND };
/* 0 or -EACCES, -EPERM, -ENETUNREACH... */
int net_policy_check(enum net_op op, const struct socket *s, const struct sock_addr *a);
/* Replaces the policy (default: all is allowed); boot or control thread. */
void net_policy_set(int (*check)(enum net_op op, const struct socket *s, const struct sock_addr *a));

/* Each registers its family; called by net_init. */
void unix_family_init(void);
void host_family_init(void);
void netlink_family_init(void);
/* Registers every family built in: boot only, before the first task. host: pass-through is allowed. */
void net_init(bool host);

/* Makes the sockets of a host namespace that the sentry is not in (sentry/net/host/maker.h). */
struct net_maker {
	int (*make)(struct net_maker *m, int family, int type, int protocol); /* as host_socket; sleeps */
	void (*free)(struct net_maker *m);
	int route_fd, inet_fd; /* const, owned: for questions about its interfaces; or -1 */
};

/*
 * Network namespaces. The sandbox's own reaches the host's stack, and those of containers that have another host
 * namespace than the sandbox: a process in it (their gofer) makes the sockets.
 */
struct net_ns {
	struct refcount refs;
	struct user_ns *user_ns; /* reference */
	uint64_t ns_ino;
	bool host;		 /* const: pass-through to a host namespace */
	struct net_maker *maker; /* const; owned: to one of its own, by this; NULL: the sandbox's */
	struct mutex names_mu;	 /* LOCK_OBJECT: abstract unix names */
	struct list_node names[64];
	struct list_node sockets; /* names_mu: unix sockets, for /proc/net/unix */
};

/* A namespace whose sockets come from maker, which is taken over; NULL: no memory. */
struct net_ns *net_ns_new_apart(struct user_ns *owner, struct net_maker *maker);

#endif
