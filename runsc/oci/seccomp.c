#include "runsc/oci/seccomp.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "platform/base/log.h"
#include "runsc/oci/spec_priv.h"

#define X32_BIT 0x40000000u
#define ARGS_MAX 6u
#define CODE_MAX ((size_t)BPF_MAXINSNS * sizeof(struct sock_filter))

/* Whether the action makes calls pass. */
static bool lets_pass(uint32_t action)
{
	return action == SCMP_ACT_ALLOW || action == SCMP_ACT_LOG;
}

/* Member key of node, an action; errno_key names the number that goes with SCMP_ACT_ERRNO and SCMP_ACT_TRACE. */
static uint32_t parse_action(struct document *doc, const struct node *node, const char *key,
			     const char *errno_key)
{
	static const struct {
		const char *name;
		uint32_t action;
	} rows[] = {
		{ "SCMP_ACT_KILL", SCMP_ACT_KILL_THREAD },
		{ "SCMP_ACT_KILL_THREAD", SCMP_ACT_KILL_THREAD },
		{ "SCMP_ACT_KILL_PROCESS", SCMP_ACT_KILL_PROCESS },
		{ "SCMP_ACT_TRAP", SCMP_ACT_TRAP },
		{ "SCMP_ACT_ERRNO", SCMP_ACT_ERRNO(0) },
		{ "SCMP_ACT_TRACE", SCMP_ACT_TRACE(0) },
		{ "SCMP_ACT_ALLOW", SCMP_ACT_ALLOW },
		{ "SCMP_ACT_LOG", SCMP_ACT_LOG },
	};
	const char *name = node_need_string(doc, node, key);
	uint32_t number = node_u32(doc, node, errno_key, EPERM);

	if (!name)
		return 0;
	if (!strcmp(name, "SCMP_ACT_NOTIFY")) {
		member_fail(doc, node, key, "SCMP_ACT_NOTIFY is not supported: no agent outside of the sandbox "
					    "can be asked");
		return 0;
	}
	for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
		if (strcmp(rows[i].name, name) != 0)
			continue;
		if (rows[i].action == SCMP_ACT_ERRNO(0) || rows[i].action == SCMP_ACT_TRACE(0))
			return rows[i].action | (number & 0xffff);
		return rows[i].action;
	}
	member_fail(doc, node, key, "\"%.64s\" is not a valid action for seccomp", name);
	return 0;
}

static void parse_archs(struct document *doc, const struct node *node, struct oci_seccomp *ret)
{
	static const char *const others[] = { "ARM",	  "AARCH64",	 "MIPS",	"MIPS64",   "MIPS64N32",
					      "MIPSEL",	  "MIPSEL64",	 "MIPSEL64N32", "PPC",	    "PPC64",
					      "PPC64LE",  "S390",	 "S390X",	"PARISC",   "PARISC64",
					      "RISCV64",  "LOONGARCH64", "M68K",	"SH",	    "SHEB" };
	struct oci_strings names = node_strings(doc, node, "architectures");

	for (size_t i = 0; i < names.count; i++) {
		const char *name = names.v[i];
		bool known;

		known = !strncmp(name, "SCMP_ARCH_", 10);
		name += known ? 10 : 0;
		if (known && !strcmp(name, "X86")) {
			ret->i386 = true;
		} else if (known && !strcmp(name, "X32")) {
			ret->x32 = true;
		} else if (!known || strcmp(name, "X86_64") != 0) {
			for (size_t j = 0; j < ARRAY_COUNT(others) && known; j++) {
				if (!strcmp(others[j], name))
					break;
				known = j + 1 < ARRAY_COUNT(others);
			}
			if (!known)
				member_fail(doc, node, "architectures",
					    "holds \"%.64s\", which is not a valid arch for seccomp", names.v[i]);
		}
	}
}

static void parse_flags(struct document *doc, const struct node *node, struct oci_seccomp *ret)
{
	struct oci_strings names = node_strings(doc, node, "flags");

	for (size_t i = 0; i < names.count; i++) {
		if (!strcmp(names.v[i], "SECCOMP_FILTER_FLAG_LOG"))
			ret->flags |= SECCOMP_FILTER_FLAG_LOG;
		else if (strcmp(names.v[i], "SECCOMP_FILTER_FLAG_TSYNC") != 0 &&
			 strcmp(names.v[i], "SECCOMP_FILTER_FLAG_SPEC_ALLOW") != 0 &&
			 strcmp(names.v[i], "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") != 0)
			member_fail(doc, node, "flags", "holds \"%.64s\", which is no flag of seccomp", names.v[i]);
	}
}

/* An unsigned number of 64 bits: the document has the signed one of the same bits. */
static uint64_t parse_value(struct document *doc, const struct node *node, const char *key)
{
	int64_t value = 0;

	node_int(doc, node, key, INT64_MIN, INT64_MAX, &value);
	return (uint64_t)value;
}

static void parse_args(struct document *doc, const struct node *node, struct oci_seccomp_rule *rule)
{
	static const struct {
		const char *name;
		enum scmp_compare op;
	} rows[] = {
		{ "SCMP_CMP_NE", SCMP_CMP_NE }, { "SCMP_CMP_LT", SCMP_CMP_LT },
		{ "SCMP_CMP_LE", SCMP_CMP_LE }, { "SCMP_CMP_EQ", SCMP_CMP_EQ },
		{ "SCMP_CMP_GE", SCMP_CMP_GE }, { "SCMP_CMP_GT", SCMP_CMP_GT },
		{ "SCMP_CMP_MASKED_EQ", SCMP_CMP_MASKED_EQ },
	};
	struct node list, row;

	if (!node_array(doc, node, "args", &list))
		return;
	rule->args = arena_alloc(doc->arena, node_count(&list), sizeof(*rule->args));
	for (size_t i = 0; i < node_count(&list); i++) {
		struct oci_seccomp_arg *arg = &rule->args[rule->arg_count];
		const char *op;

		if (!node_object_at(doc, &list, i, &row))
			return;
		op = node_need_string(doc, &row, "op");
		*arg = (struct oci_seccomp_arg){ .index = node_u32(doc, &row, "index", 0),
						 .op = UINT32_MAX,
						 .value = parse_value(doc, &row, "value"),
						 .value_two = parse_value(doc, &row, "valueTwo") };
		for (size_t j = 0; op && j < ARRAY_COUNT(rows); j++) {
			if (!strcmp(rows[j].name, op))
				arg->op = rows[j].op;
		}
		if (arg->index >= ARGS_MAX)
			member_fail(doc, &row, "index", "must be 0 to %u", ARGS_MAX - 1);
		if (op && arg->op == UINT32_MAX)
			member_fail(doc, &row, "op", "\"%.64s\" is not a valid operator for seccomp", op);
		rule->arg_count++;
	}
}

struct oci_seccomp *spec_parse_seccomp(struct document *doc, const struct node *linux_node)
{
	struct oci_seccomp *ret;
	struct node node, list, row;
	char *listener;

	if (!node_object(doc, linux_node, "seccomp", &node))
		return NULL;
	ret = arena_alloc(doc->arena, 1, sizeof(*ret));
	*ret = (struct oci_seccomp){ 0 };
	listener = node_string(doc, &node, "listenerPath");
	if (listener && *listener)
		member_fail(doc, &node, "listenerPath", "is not supported: no agent outside of the sandbox can be "
							"asked");
	ret->default_action = parse_action(doc, &node, "defaultAction", "defaultErrnoRet");
	parse_archs(doc, &node, ret);
	parse_flags(doc, &node, ret);
	if (node_array(doc, &node, "syscalls", &list)) {
		ret->rules = arena_alloc(doc->arena, node_count(&list), sizeof(*ret->rules));
		for (size_t i = 0; i < node_count(&list) && node_object_at(doc, &list, i, &row); i++) {
			struct oci_seccomp_rule *rule = &ret->rules[ret->rule_count++];

			*rule = (struct oci_seccomp_rule){ .names = node_strings(doc, &row, "names") };
			if (!rule->names.count)
				member_fail(doc, &row, "names", "must name a system call");
			rule->action = parse_action(doc, &row, "action", "errnoRet");
			parse_args(doc, &row, rule);
		}
	}
	return doc->failed ? NULL : ret;
}

/* One rule for a call. runc's reading of two conditions on one argument: each is a rule of its own. */
static int add_rule(scmp_filter_ctx ctx, const struct oci_seccomp_rule *rule, int nr)
{
	struct scmp_arg_cmp cmp[ARGS_MAX];
	unsigned seen = 0;
	bool apart = false;
	int ret = 0;

	for (size_t i = 0; i < rule->arg_count; i++) {
		apart |= seen >> rule->args[i].index & 1;
		seen |= 1u << rule->args[i].index;
	}
	for (size_t i = 0; i < rule->arg_count; i++) {
		const struct oci_seccomp_arg *arg = &rule->args[i];
		struct scmp_arg_cmp one = { .arg = arg->index, .op = (enum scmp_compare)arg->op,
					    .datum_a = arg->value, .datum_b = arg->value_two };

		if (!apart) {
			cmp[i] = one;
			continue;
		}
		ret = seccomp_rule_add_array(ctx, rule->action, nr, 1, &one);
		if (ret && ret != -EEXIST)
			return ret;
	}
	if (!apart)
		ret = seccomp_rule_add_array(ctx, rule->action, nr, (unsigned)rule->arg_count, cmp);
	return ret == -EEXIST ? 0 : ret;
}

/* *ret_last: the highest number of x86-64 that the profile names, or -1. */
static int add_rules(scmp_filter_ctx ctx, const struct oci_seccomp *profile, int *ret_last, struct error *err)
{
	*ret_last = -1;
	for (size_t i = 0; i < profile->rule_count; i++) {
		const struct oci_seccomp_rule *rule = &profile->rules[i];

		for (size_t j = 0; j < rule->names.count; j++) {
			const char *name = rule->names.v[j];
			int nr = seccomp_syscall_resolve_name(name), ret;

			if (nr == __NR_SCMP_ERROR) {
				log_debug("linux.seccomp: unknown system call \"%s\" is left out", name);
				continue;
			}
			*ret_last = MAX(*ret_last, nr);
			if (rule->action == profile->default_action)
				continue;
			ret = add_rule(ctx, rule, nr);
			if (ret)
				return error_errno(err, -ret, "cannot add the rule for system call %s of linux.seccomp",
						   name);
		}
	}
	return 0;
}

/*
 * What comes before the program that libseccomp made: calls of the other ABIs that the profile names, which
 * no sandbox has, are ENOSYS (libseccomp would need ten times as long for rules of three ABIs); so is a call beyond last
 * (-1: no limit).
 */
static size_t add_prologue(struct sock_filter *code, const struct oci_seccomp *profile, int last)
{
	const struct sock_filter to_program = BPF_STMT(BPF_JMP | BPF_JA, 1);
	const struct sock_filter beyond = BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (unsigned)last, 0, 1);
	const struct sock_filter prologue[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, profile->i386 ? 4 : 0, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, profile->x32 ? 1 : 2, 0),
		last < 0 ? to_program : beyond,
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
	};

	memcpy(code, prologue, sizeof(prologue));
	return sizeof(prologue);
}

static int compile_into(scmp_filter_ctx ctx, const struct oci_seccomp *profile, int fd, void *code,
			size_t *ret_size, struct error *err)
{
	size_t used;
	ssize_t got;
	int last, ret;

	/* A binary tree of comparisons; an older library makes a list. */
	if (seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2))
		log_debug("linux.seccomp: libseccomp makes no binary tree");
	if (add_rules(ctx, profile, &last, err))
		return -1;
	ret = seccomp_export_bpf(ctx, fd);
	if (ret)
		return error_errno(err, -ret, "cannot compile linux.seccomp");
	if (lets_pass(profile->default_action) || profile->default_action == SCMP_ACT_ERRNO(ENOSYS))
		last = -1;
	used = add_prologue(code, profile, last);
	got = pread(fd, (char *)code + used, CODE_MAX - used + 1, 0);
	if (got <= 0 || used + (size_t)got > CODE_MAX || (size_t)got % sizeof(struct sock_filter))
		return error_set(err, "linux.seccomp has too many rules: its program has more than %u instructions",
				 BPF_MAXINSNS);
	*ret_size = used + (size_t)got;
	return 0;
}

int seccomp_compile(const struct oci_seccomp *profile, struct arena *arena, void **ret_code, size_t *ret_size,
		    struct error *err)
{
	AUTO(fd_close) int fd = memfd_create("seccomp", MFD_CLOEXEC);
	void *code = arena_alloc(arena, CODE_MAX + 1, 1);
	scmp_filter_ctx ctx = seccomp_init(profile->default_action);
	int ret;

	if (!ctx || fd < 0)
		ret = error_set(err, "cannot compile linux.seccomp: the library refuses its default action");
	else
		ret = compile_into(ctx, profile, fd, code, ret_size, err);
	seccomp_release(ctx);
	if (!ret)
		*ret_code = code;
	return ret;
}
