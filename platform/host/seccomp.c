#include "platform/host/seccomp.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <unistd.h>

#include "platform/base/log.h"

static int add_rule(scmp_filter_ctx ctx, const struct seccomp_rule *r)
{
	unsigned count = 0;

	while (count < SECCOMP_RULE_ARGS && r->args[count].op != 0)
		count++;
	return seccomp_rule_add_array(ctx, r->err ? SCMP_ACT_ERRNO((uint32_t)r->err) : SCMP_ACT_ALLOW,
				      r->nr, count, r->args);
}

/* A filter of all sets, or NULL with *ret_err and a sentence. */
static scmp_filter_ctx build(const struct seccomp_set *sets, size_t set_count, uint32_t action,
			     char *why, size_t why_size, int *ret_err)
{
	scmp_filter_ctx ctx = seccomp_init(action);
	int err;

	*ret_err = -ENOMEM;
	if (!ctx) {
		snprintf(why, why_size, "seccomp: out of memory");
		return NULL;
	}
	err = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A binary tree: calls with argument checks are found in a few steps. */
	if (err == 0)
		err = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (err < 0)
		snprintf(why, why_size, "seccomp: this libseccomp lacks an attribute: %s",
			 strerror(-err));
	for (size_t i = 0; err == 0 && i < set_count; i++) {
		for (size_t j = 0; err == 0 && j < sets[i].count; j++) {
			err = add_rule(ctx, &sets[i].rules[j]);
			if (err == -EEXIST)
				err = 0;
			if (err < 0)
				snprintf(why, why_size, "seccomp rule %s: %s",
					 sets[i].rules[j].name, strerror(-err));
		}
	}
	if (err < 0) {
		seccomp_release(ctx);
		ctx = NULL;
	}
	*ret_err = err;
	return ctx;
}

int seccomp_load_rules(const struct seccomp_set *sets, size_t set_count, enum seccomp_default action,
		       char *why, size_t why_size)
{
	uint32_t otherwise = action == SECCOMP_REPORT ? SCMP_ACT_TRAP : SCMP_ACT_KILL_PROCESS;
	int err;
	scmp_filter_ctx ctx = build(sets, set_count, otherwise, why, why_size, &err);

	if (!ctx)
		return err;
	err = seccomp_load(ctx);
	if (err < 0)
		snprintf(why, why_size, "seccomp: the host refuses the filter: %s", strerror(-err));
	seccomp_release(ctx);
	return err;
}

int seccomp_print_rules(const struct seccomp_set *sets, size_t set_count, int fd)
{
	char why[128];
	int err;
	scmp_filter_ctx ctx = build(sets, set_count, SCMP_ACT_KILL_PROCESS, why, sizeof(why), &err);

	if (!ctx)
		return err;
	err = seccomp_export_pfc(ctx, fd);
	seccomp_release(ctx);
	return err;
}

static void report(int signo, siginfo_t *info, void *context)
{
	static _Atomic bool again;
	const ucontext_t *uc = context;

	(void)signo;
	/* The log itself made a call outside the filter: give up quietly instead of recursing. */
	if (again)
		_exit(128 + SIGSYS);
	again = true;
#ifdef __x86_64__
	const greg_t *r = uc->uc_mcontext.gregs;

	log_error("seccomp: host call %d(%#llx, %#llx, %#llx, %#llx) from ip %#llx is not in the filter",
		  info->si_syscall, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_RIP]);
#else
	(void)uc;
	log_error("seccomp: host call %d from %p is not in the filter", info->si_syscall,
		  info->si_call_addr);
#endif
	abort();
}

void seccomp_report_install(void)
{
	struct sigaction sa = { .sa_sigaction = report, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGSYS, &sa, NULL);
}
