/* The birth of a sentry: what the steps of main.c share. */
#ifndef SENTRY_BOOT_BOOT_H
#define SENTRY_BOOT_BOOT_H

#include "platform/base/log.h"
#include "platform/choose/choose.h"

enum boot_network { NETWORK_NONE, NETWORK_HOST };

/* The command line; every descriptor is -1 when absent. */
struct boot_options {
	int control_fd; /* listening unix socket */
	int ready_fd;	/* one byte when serving, or one line of error text */
	int log_fd, debug_log_fd, strace_fd;
	int death_fd; /* end of file before a byte: runsc died before the sandbox was complete */
	int kvm_fd;   /* /dev/kvm */
	const char *platform;
	enum log_format log_format;
	enum log_level log_level;
	enum boot_network network;
	uint32_t cpus; /* 0: as many as the host lets us use */
	bool strace, debug_seccomp;
	bool probe_platforms; /* only say on ready_fd what each platform is worth here */
};

struct boot {
	struct boot_options o;
	struct platform *platform;
	struct platform_report report; /* of platform */
	char platform_text[320];       /* the same in words */
	int memory_fd;
	bool own_root, no_caps; /* outer rings that are in place */
	char why[256];	       /* sentence about the step that failed */
};

/* Parses argv. 0, or -EINVAL with why. */
int boot_parse(int argc, char **argv, struct boot_options *ret_o, char *why, size_t why_size);

/* Steps that make the process small (rings.c); 0 or -errno with b->why. */
int boot_close_strays(struct boot *b);
int boot_set_limits(struct boot *b);
int boot_enter_empty_root(struct boot *b);
int boot_drop_privileges(struct boot *b);

/* --probe-platforms (probe.c): one line for each platform on o.ready_fd; the exit status. */
int boot_probe_platforms(const struct boot *b);

/* Handlers that log where the sentry crashed and then let it die by the signal (crash.c). */
void boot_install_crash_handlers(void);

#endif
