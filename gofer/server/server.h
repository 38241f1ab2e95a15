/* The gofer process: options, its jail, and the loop that serves connections. */
#ifndef GOFER_SERVER_SERVER_H
#define GOFER_SERVER_SERVER_H

#include "gofer/backend/node.h"
#include "platform/base/log.h"

enum { GOFER_ATTACH_MAX = 201 }; /* a root, and as many bind mounts as runsc takes */

struct gofer_attach_option {
	int fd;
	bool readonly;
	bool slave;	  /* mounts that the host makes below it later appear in it, too */
	const char *path; /* absolute, on the host */
	const char *at;	  /* where the container has it; NULL: shown to nobody on the host */
};

struct gofer_options {
	int log_fd, ready_fd;
	int status_fd; /* the sentry's word on how the container's init ended; -1: none will come */
	int exit_fd;   /* takes that word; -1: nobody wants it */
	int socket_fd; /* the sentry asks for sockets of this network namespace here; -1: never */
	int proc_fd; /* a detached mount to show as the container's /proc, or -1 */
	int mount_ns_fd, user_ns_fd; /* namespaces that config.json names, to be joined, or -1 */
	bool stay;		     /* config.json lists no mount namespace: stay in the caller's */
	bool new_user;		     /* it lists a user namespace; who reads the ready byte writes the maps */
	enum log_format log_format;
	enum log_level log_level;
	bool host_uds;
	const char *title; /* the command line that the first process shows, or NULL */
	unsigned int attach_count;
	struct gofer_attach_option attach[GOFER_ATTACH_MAX];
};

/*
 * Reads the command line. Strings are borrowed from argv. 0, or -EINVAL with a sentence in
 * why[why_size].
 */
NODISCARD int options_parse(int argc, char **argv, struct gofer_options *ret_options, char *why,
			    size_t why_size);

/* Trees cloned from the host's, in the order of the options: detached mounts, owned; -1: none. */
struct gofer_trees {
	int served[GOFER_ATTACH_MAX];
	int shown[GOFER_ATTACH_MAX];
};

/* Clones the trees of the caller's mount namespace. 0, or -errno with a sentence in why, like all below. */
NODISCARD int trees_clone(const struct gofer_options *opt, struct gofer_trees *trees, char *why,
			  size_t why_size);
/*
 * The first process leaves its private copy of the host's mounts for the container's tree: the first tree is
 * the root, the others are where the container has them if that place exists. Without a first tree's `at`
 * the new root is empty. With a mount namespace given, or none wanted, it goes there or stays.
 */
NODISCARD int face_enter(const struct gofer_options *opt, struct gofer_trees *trees, char *why,
			 size_t why_size);
/* Writes title over the command line, whose strings are lost. */
void face_title(int argc, char **argv, const char *title);
/* Joins or makes its user namespace. */
NODISCARD int face_user_namespace(const struct gofer_options *opt, char *why, size_t why_size);
/* The first process's filter: from now on it can wait, read, write and end, with sockets also make those, and no more. */
NODISCARD int face_filter(bool sockets, char *why, size_t why_size);
/*
 * Waits for the sentry's word, or the end of the server (a pidfd), hands the word on and ends the process with the
 * exit status that it names. Until then makes the sockets that the sentry asks for.
 */
NORETURN void face_stand(const struct gofer_options *opt, int server);

/* A mount namespace of the caller's own, from which nothing propagates. */
NODISCARD int jail_unshare(char *why, size_t why_size);
/*
 * The calling process leaves its mount namespace for one of its own with an empty root that holds only the served
 * trees, named "0", "1" ... Returns an owned descriptor of that root.
 */
NODISCARD int jail_enter(const struct gofer_options *opt, struct gofer_trees *trees, char *why,
			 size_t why_size);
/* Drops every capability but those of the README (none without keep), for good. */
NODISCARD int jail_drop_caps(bool keep, char *why, size_t why_size);
/* Installs the server's filter; everything it does not list kills the process. */
NODISCARD int jail_filter(bool host_uds, char *why, size_t why_size);
/* An empty, read-only directory in a mount of its own as working directory; returns its descriptor. */
NODISCARD int jail_empty_root(char *why, size_t why_size);
/* A sentence for errno in why; returns -errno. path may be empty. */
int jail_fail(char *why, size_t why_size, const char *what, const char *path);

/* Serves until the last connection is closed. */
void serve(struct conn *conns, unsigned int count);

#endif
