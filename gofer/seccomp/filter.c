/* The system call filter of the gofer, from rules.def. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gofer/server/server.h"
#include "platform/host/seccomp.h"

#define RULE(syscall, reason, ...) SECCOMP_RULE(syscall, reason, ##__VA_ARGS__),
#define RULE_NR(number, syscall, reason) { .nr = (number), .name = #syscall, .why = (reason) },
static const struct seccomp_rule base_rules[] = {
#include "gofer/seccomp/rules.def"
};
static const struct seccomp_rule uds_rules[] = {
#define RULES_UDS
#include "gofer/seccomp/rules.def"
};

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
/* Sanitizer runtimes make calls of their own at any time, and at exit look for leaks by ptrace. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

int jail_filter(bool host_uds UNUSED, char *why UNUSED, size_t why_size UNUSED)
{
	log_warn("built with a sanitizer: no system call filter");
	return ARRAY_COUNT(base_rules) && ARRAY_COUNT(uds_rules) ? 0 : -EINVAL;
}
#else
int jail_filter(bool host_uds, char *why, size_t why_size)
{
	const struct seccomp_set sets[] = {
		{ base_rules, ARRAY_COUNT(base_rules) },
		{ uds_rules, ARRAY_COUNT(uds_rules) },
	};

	return seccomp_load_rules(sets, host_uds ? 2 : 1, SECCOMP_KILL, why, why_size);
}
#endif
