/* The tables made from syscalls.def. */
#include "sentry/core/cause.h"
#include "sentry/syscalls/syscalls.h"

#include <sys/syscall.h>

#define ARGKIND(kind, type, conv, fmt)                                                             \
	static inline type arg_get_##kind(uint64_t r)                                              \
	{                                                                                          \
		return conv;                                                                       \
	}
#include "sentry/syscalls/argkind.def"
#undef ARGKIND

#define GET_(kind, name) arg_get_##kind
#define GET(pair, i) , GET_ pair(a[i])
#define GETS0()
#define GETS1(p) GET(p, 0)
#define GETS2(p, q) GET(p, 0) GET(q, 1)
#define GETS3(p, q, r) GETS2(p, q) GET(r, 2)
#define GETS4(p, q, r, s) GETS3(p, q, r) GET(s, 3)
#define GETS5(p, q, r, s, t_) GETS4(p, q, r, s) GET(t_, 4)
#define GETS6(p, q, r, s, t_, u) GETS5(p, q, r, s, t_) GET(u, 5)
#define KIND_(k, n) { ARG_##k, #n },
#define KIND(pair) KIND_ pair
#define KINDS0()
#define KINDS1(a) KIND(a)
#define KINDS2(a, ...) KIND(a) KINDS1(__VA_ARGS__)
#define KINDS3(a, ...) KIND(a) KINDS2(__VA_ARGS__)
#define KINDS4(a, ...) KIND(a) KINDS3(__VA_ARGS__)
#define KINDS5(a, ...) KIND(a) KINDS4(__VA_ARGS__)
#define KINDS6(a, ...) KIND(a) KINDS5(__VA_ARGS__)

/* Typed trampolines: no function pointer is cast. */
#define SYSCALL(x86, arm64, name, support, note, n, ...)                                           \
	static int64_t tramp_##name(struct task *t, const uint64_t a[6])                           \
	{                                                                                          \
		(void)a;                                                                           \
		return sys_##name(t CAT(GETS, n)(__VA_ARGS__));                                    \
	}
#define SYSERR(x86, arm64, name, err, note)                                                        \
	static int64_t tramp_##name(struct task *t, const uint64_t a[6])                           \
	{                                                                                          \
		(void)t;                                                                           \
		(void)a;                                                                           \
		return cause(err, CAUSE_UNSUPPORTED, "%s: %s", #name, note);                       \
	}
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR

enum {
	IDX_NONE,
#define SYSCALL(x86, arm64, name, ...) IDX_##name,
#define SYSERR(x86, arm64, name, ...) IDX_##name,
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR
	IDX_COUNT
};

static struct syscall_desc desc[IDX_COUNT] = {
#define SYSCALL(x86, arm64, nm, sup, nt, n, ...)                                                   \
	[IDX_##nm] = { .call = tramp_##nm,                                                         \
		       .name = #nm,                                                                \
		       .note = nt,                                                                 \
		       .support = SUPPORT_##sup,                                                   \
		       .arg_count = n,                                                             \
		       .arg = { CAT(KINDS, n)(__VA_ARGS__) } },
#define SYSERR(x86, arm64, nm, err, nt)                                                            \
	[IDX_##nm] = { .call = tramp_##nm, .name = #nm, .note = nt, .support = SUPPORT_NONE, .error = err },
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR
};

#define SYSCALL_NR_MAX 512
#define SPILL 600 /* rows that this architecture lacks land here, one slot each */

#if defined(__x86_64__)
#define NR_OF(x86, arm64) (x86)
#else
#define NR_OF(x86, arm64) (arm64)
#endif

static const uint16_t by_number[SPILL + IDX_COUNT] = {
#define SYSCALL(x86, arm64, name, ...)                                                             \
	[NR_OF(x86, arm64) < 0 ? SPILL + IDX_##name : NR_OF(x86, arm64)] = IDX_##name,
#define SYSERR(x86, arm64, name, ...)                                                              \
	[NR_OF(x86, arm64) < 0 ? SPILL + IDX_##name : NR_OF(x86, arm64)] = IDX_##name,
#include "sentry/syscalls/syscalls.def"
#undef SYSCALL
#undef SYSERR
};

struct syscall_desc *syscall_by_number(int64_t nr)
{
	if (nr < 0 || nr >= SYSCALL_NR_MAX || by_number[nr] == IDX_NONE)
		return NULL;
	return &desc[by_number[nr]];
}

struct syscall_desc *syscall_table(size_t *ret_count)
{
	*ret_count = IDX_COUNT - 1;
	return &desc[1];
}
