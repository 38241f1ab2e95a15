#include "sentry/seccomp/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <termios.h>

#include "platform/base/log.h"
#include "platform/host/seccomp.h"

#define RULE(call, why, ...) SECCOMP_RULE(call, why, __VA_ARGS__),
#define REFUSE(call, err, why) SECCOMP_REFUSE(call, err, why),
static const struct seccomp_rule base_rules[] = {
#include "sentry/seccomp/rules.def"
};
static const struct seccomp_rule network_rules[] = {
#include "sentry/seccomp/network.def"
};
static const struct seccomp_rule ptrace_rules[] = {
#include "sentry/seccomp/ptrace.def"
};
static const struct seccomp_rule systrap_rules[] = {
#include "sentry/seccomp/systrap.def"
};
static const struct seccomp_rule kvm_rules[] = {
#include "sentry/seccomp/kvm.def"
};
#undef RULE
#undef REFUSE

#define SETS_MAX 3

static size_t choose(const struct filter_options *o, struct seccomp_set sets[SETS_MAX])
{
	size_t count = 0;

	sets[count++] = (struct seccomp_set){ base_rules, ARRAY_COUNT(base_rules) };
	if (o->network)
		sets[count++] = (struct seccomp_set){ network_rules, ARRAY_COUNT(network_rules) };
	if (strcmp(o->platform, "ptrace") == 0)
		sets[count++] = (struct seccomp_set){ ptrace_rules, ARRAY_COUNT(ptrace_rules) };
	if (strcmp(o->platform, "systrap") == 0)
		sets[count++] = (struct seccomp_set){ systrap_rules, ARRAY_COUNT(systrap_rules) };
	if (strcmp(o->platform, "kvm") == 0)
		sets[count++] = (struct seccomp_set){ kvm_rules, ARRAY_COUNT(kvm_rules) };
	return count;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* Sanitizer runtimes make calls of their own at any time; symbols are for addr2line. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0:symbolize=0";
}

int filter_load(const struct filter_options *o, char *why UNUSED, size_t why_size UNUSED)
{
	struct seccomp_set sets[SETS_MAX];

	log_warn("built with a sanitizer: no system call filter");
	return choose(o, sets) ? 0 : -EINVAL;
}
#else
int filter_load(const struct filter_options *o, char *why, size_t why_size)
{
	struct seccomp_set sets[SETS_MAX];
	size_t count = choose(o, sets);

	if (o->report)
		seccomp_report_install();
	return seccomp_load_rules(sets, count, o->report ? SECCOMP_REPORT : SECCOMP_KILL, why,
				  why_size);
}
#endif

int filter_print(const struct filter_options *o, int fd)
{
	struct seccomp_set sets[SETS_MAX];
	size_t count = choose(o, sets);

	return seccomp_print_rules(sets, count, fd);
}

size_t filter_count(const struct filter_options *o)
{
	struct seccomp_set sets[SETS_MAX];
	size_t count = choose(o, sets), calls = 0;
	bool seen[1024] = { false };

	for (size_t i = 0; i < count; i++) {
		for (size_t j = 0; j < sets[i].count; j++) {
			const struct seccomp_rule *r = &sets[i].rules[j];

			if (r->err || r->nr < 0 || r->nr >= (int)ARRAY_COUNT(seen) || seen[r->nr])
				continue;
			seen[r->nr] = true;
			calls++;
		}
	}
	return calls;
}
