/*
 * Loader of seccomp filters. The rules are rows of a .def file that expand to struct seccomp_rule:
 *
 *   RULE(read, "bytes of donated files")
 *   RULE(socket, "pass-through sockets", ARG_EQ(0, AF_INET))
 *
 * A call is allowed when one of its rows has all its argument checks true; everything else kills
 * the process. Checks see the low 64 bits of each argument as the kernel does, never memory.
 */
#ifndef PLATFORM_HOST_SECCOMP_H
#define PLATFORM_HOST_SECCOMP_H

#include <seccomp.h>

#include "platform/base/compiler.h"

#define SECCOMP_RULE_ARGS 4

struct seccomp_rule {
	int nr;
	const char *name, *why;
	int err; /* not 0: the call is refused with this errno instead of allowed */
	struct scmp_arg_cmp args[SECCOMP_RULE_ARGS]; /* op 0 ends the list */
};

#define ARG_EQ(n, value) { (n), SCMP_CMP_EQ, (uint64_t)(value), 0 }
#define ARG_NE(n, value) { (n), SCMP_CMP_NE, (uint64_t)(value), 0 }
#define ARG_LE(n, value) { (n), SCMP_CMP_LE, (uint64_t)(value), 0 }
#define ARG_MASKED(n, mask, value) { (n), SCMP_CMP_MASKED_EQ, (uint64_t)(mask), (uint64_t)(value) }
/* One element of a struct seccomp_rule array. */
#define SECCOMP_RULE(syscall, reason, ...)                                                         \
	{ .nr = SCMP_SYS(syscall), .name = #syscall, .why = (reason), .args = { __VA_ARGS__ } }

/* A call that libc tries and lives without. */
#define SECCOMP_REFUSE(syscall, errno_, reason)                                                    \
	{ .nr = SCMP_SYS(syscall), .name = #syscall, .why = (reason), .err = (errno_) }

enum seccomp_default {
	SECCOMP_KILL,   /* the process dies by SIGSYS */
	SECCOMP_REPORT, /* debugging: SIGSYS is raised; the handler of seccomp_report_install says which call */
};

struct seccomp_set {
	const struct seccomp_rule *rules;
	size_t count;
};

/*
 * Builds one filter of all sets and loads it into every thread of the process (no_new_privs is set
 * too). Before anything hostile is read. 0, or -errno with a sentence in why[why_size].
 */
NODISCARD int seccomp_load_rules(const struct seccomp_set *sets, size_t set_count,
				 enum seccomp_default action, char *why, size_t why_size);
/* Writes the same filter as pseudo code to fd, for people and tests. 0 or -errno. */
NODISCARD int seccomp_print_rules(const struct seccomp_set *sets, size_t set_count, int fd);
/* Installs the SIGSYS handler of SECCOMP_REPORT: logs number and arguments, then aborts. */
void seccomp_report_install(void);

#endif
