/* The gofer process: options, its jail, and the loop that serves connections. */
#ifndef GOFER_SERVER_SERVER_H
#define GOFER_SERVER_SERVER_H

#include "gofer/backend/node.h"
#include "platform/base/log.h"

enum { GOFER_ATTACH_MAX = 128 };

struct gofer_attach_option {
	int fd;
	bool readonly;
	const char *path; /* absolute, on the host */
};

struct gofer_options {
	int log_fd, ready_fd;
	enum log_format log_format;
	enum log_level log_level;
	bool host_uds;
	unsigned int attach_count;
	struct gofer_attach_option attach[GOFER_ATTACH_MAX];
};

/*
 * Reads the command line. Strings are borrowed from argv. 0, or -EINVAL with a sentence in
 * why[why_size].
 */
NODISCARD int options_parse(int argc, char **argv, struct gofer_options *ret_options, char *why,
			    size_t why_size);

/*
 * Leaves the host's tree for an empty root that holds only the attached trees, named "0", "1" ...
 * Returns an owned descriptor of that root, or -errno with a sentence in why.
 */
NODISCARD int jail_enter(const struct gofer_options *opt, char *why, size_t why_size);
/* Drops every capability but those of the README, for good. 0 or -errno with a sentence. */
NODISCARD int jail_drop_caps(bool host_uds, char *why, size_t why_size);
/* Installs the filter; everything it does not list kills the process. 0 or -errno with a sentence. */
NODISCARD int jail_filter(bool host_uds, char *why, size_t why_size);

/* Serves until the last connection is closed. */
void serve(struct conn *conns, unsigned int count);

#endif
