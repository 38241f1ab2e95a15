/* linux.seccomp of config.json: parsed as it stands, and compiled into BPF. */
#ifndef RUNSC_OCI_SECCOMP_H
#define RUNSC_OCI_SECCOMP_H

#include "runsc/oci/spec.h"

struct oci_seccomp_arg {
	uint32_t index; /* 0 to 5 */
	uint32_t op;	/* enum scmp_compare */
	uint64_t value, value_two;
};

struct oci_seccomp_rule {
	struct oci_strings names;
	uint32_t action; /* SCMP_ACT_* with its errno */
	struct oci_seccomp_arg *args;
	size_t arg_count;
};

struct oci_seccomp {
	uint32_t default_action; /* SCMP_ACT_* with its errno */
	bool i386, x32;		 /* architectures beside x86-64 that it names */
	uint32_t flags; /* SECCOMP_FILTER_FLAG_LOG or 0: the others change nothing here */
	struct oci_seccomp_rule *rules;
	size_t rule_count;
};

/* Parses linux.seccomp when node (linux) has it: NULL otherwise, or after an error. */
struct oci_seccomp *spec_parse_seccomp(struct document *doc, const struct node *node);
/*
 * Compiles the profile for the guest's architecture with libseccomp: *ret_code gets struct sock_filter one after the other,
 * in arena. Names that libseccomp does not know are left out. As runc does, calls newer than all that the profile
 * names give ENOSYS, unless its default lets calls pass; and so do those of i386 and x32 if it names these.
 */
int seccomp_compile(const struct oci_seccomp *profile, struct arena *arena, void **ret_code, size_t *ret_size,
		    struct error *err);

#endif
