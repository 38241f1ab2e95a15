/* Compiler attributes and the cleanup idiom used everywhere (STYLE: AUTO, GUARD, TAKE). */
#ifndef PLATFORM_BASE_COMPILER_H
#define PLATFORM_BASE_COMPILER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NODISCARD __attribute__((warn_unused_result))
#define NORETURN __attribute__((noreturn))
#define UNUSED __attribute__((unused))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)
#define ARRAY_COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FIELD_TYPE(type, member) __typeof__(((type *)0)->member)
#define container_of(ptr, type, member)                                                            \
	((type *)(void *)((char *)(__typeof__(((type *)0)->member) *){ (ptr) } - offsetof(type, member)))

#define MIN(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) min_a_ = (a);                                                        \
		__typeof__(b) min_b_ = (b);                                                        \
		min_a_ < min_b_ ? min_a_ : min_b_;                                                 \
	})
#define MAX(a, b)                                                                                  \
	({                                                                                         \
		__typeof__(a) max_a_ = (a);                                                        \
		__typeof__(b) max_b_ = (b);                                                        \
		max_a_ > max_b_ ? max_a_ : max_b_;                                                 \
	})

#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a)-1))
#define ALIGN_UP(x, a) ALIGN_DOWN((x) + ((__typeof__(x))(a)-1), a)

/*
 * Cleanup. DEFINE_AUTO(file_put, struct file *) lets a local be declared as
 *   AUTO(file_put) struct file *f = fdtable_get(...);
 * and releases it at the end of the scope unless TAKE(f) moved it out. The release function must
 * accept NULL (for pointers) or a negative value (for descriptors).
 */
#define AUTO(release) __attribute__((cleanup(release##_auto_)))
#define DEFINE_AUTO(release, type)                                                                 \
	static inline void release##_auto_(type *p)                                                \
	{                                                                                          \
		release(*p);                                                                       \
	}
#define TAKE(ptr)                                                                                  \
	({                                                                                         \
		__typeof__(ptr) take_ = (ptr);                                                     \
		(ptr) = NULL;                                                                      \
		take_;                                                                             \
	})

/* GUARD(mutex, &obj->mu): holds the lock until the end of the scope. */
#define GUARD(kind, lock)                                                                          \
	__attribute__((cleanup(kind##_guard_exit_), unused)) struct kind *CAT(guard_, __COUNTER__) = \
		kind##_guard_enter_(lock)

/* A broken invariant that no guest, gofer or client can cause: reports and aborts the process. */
NORETURN void bug_report(const char *file, int line, const char *what);
#define BUG_ON(cond)                                                                               \
	do {                                                                                       \
		if (unlikely(cond))                                                                \
			bug_report(__FILE__, __LINE__, #cond);                                     \
	} while (0)
#define BUG(what) bug_report(__FILE__, __LINE__, what)

#endif
