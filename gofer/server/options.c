/* The command line of runsc-gofer: written by runsc, so errors are for people who run it by hand. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "gofer/server/server.h"

static bool parse_int(const char *s, int *ret)
{
	char *end;
	long v;

	errno = 0;
	v = strtol(s, &end, 10);
	if (errno || end == s || *end || v < 0 || v > INT_MAX)
		return false;
	*ret = (int)v;
	return true;
}

/* FD:ro|rw:HOSTPATH */
static bool parse_attach(char *s, struct gofer_attach_option *ret)
{
	char *mode = strchr(s, ':'), *path = mode ? strchr(mode + 1, ':') : NULL;

	if (!path)
		return false;
	*mode++ = 0;
	*path++ = 0;
	if (!parse_int(s, &ret->fd) || *path != '/')
		return false;
	ret->path = path;
	ret->readonly = strcmp(mode, "ro") == 0;
	return ret->readonly || strcmp(mode, "rw") == 0;
}

static bool parse_one(struct gofer_options *o, const char *name, char *value)
{
	int n = -1;

	if (strcmp(name, "--attach") == 0)
		return o->attach_count < GOFER_ATTACH_MAX &&
		       parse_attach(value, &o->attach[o->attach_count++]);
	if (strcmp(name, "--at") == 0) {
		if (o->attach_count == 0 || *value != '/')
			return false;
		o->attach[o->attach_count - 1].at = value;
		return true;
	}
	if (strcmp(name, "--title") == 0) {
		o->title = value;
		return true;
	}
	if (strcmp(name, "--log-format") == 0) {
		o->log_format = strcmp(value, "json") == 0 ? LOG_JSON : LOG_TEXT;
		return o->log_format == LOG_JSON || strcmp(value, "text") == 0;
	}
	if (!parse_int(value, &n))
		return false;
	if (strcmp(name, "--log-fd") == 0)
		o->log_fd = n;
	else if (strcmp(name, "--ready-fd") == 0)
		o->ready_fd = n;
	else if (strcmp(name, "--status-fd") == 0)
		o->status_fd = n;
	else if (strcmp(name, "--exit-fd") == 0)
		o->exit_fd = n;
	else if (strcmp(name, "--socket-fd") == 0)
		o->socket_fd = n;
	else if (strcmp(name, "--proc-fd") == 0)
		o->proc_fd = n;
	else if (strcmp(name, "--mount-ns-fd") == 0)
		o->mount_ns_fd = n;
	else if (strcmp(name, "--user-ns-fd") == 0)
		o->user_ns_fd = n;
	else if (strcmp(name, "--log-level") == 0 && n <= LOG_DEBUG)
		o->log_level = (enum log_level)n;
	else
		return false;
	return true;
}

static bool parse_flag(struct gofer_options *o, const char *name)
{
	bool *flag = strcmp(name, "--host-uds") == 0 ? &o->host_uds :
		     strcmp(name, "--stay") == 0     ? &o->stay :
		     strcmp(name, "--new-user") == 0 ? &o->new_user :
		     strcmp(name, "--slave") == 0 && o->attach_count ?
						       &o->attach[o->attach_count - 1].slave :
						       NULL;

	if (flag)
		*flag = true;
	return flag;
}

int options_parse(int argc, char **argv, struct gofer_options *ret_options, char *why,
		  size_t why_size)
{
	struct gofer_options o = {
		.log_fd = -1, .ready_fd = -1, .status_fd = -1, .exit_fd = -1, .socket_fd = -1, .proc_fd = -1,
		.mount_ns_fd = -1, .user_ns_fd = -1,
		.log_level = LOG_WARN, .log_format = LOG_TEXT
	};

	for (int i = 1; i < argc; i++) {
		if (parse_flag(&o, argv[i]))
			continue;
		if (i + 1 == argc) {
			snprintf(why, why_size, "option %s is unknown or lacks its value", argv[i]);
			return -EINVAL;
		}
		if (!parse_one(&o, argv[i], argv[i + 1])) {
			snprintf(why, why_size, "option %s %s is not understood", argv[i],
				 argv[i + 1]);
			return -EINVAL;
		}
		i++;
	}
	if (o.attach_count == 0) {
		snprintf(why, why_size, "nothing to serve: no --attach FD:ro|rw:HOSTPATH");
		return -EINVAL;
	}
	*ret_options = o;
	return 0;
}
