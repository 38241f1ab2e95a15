#include "platform/choose/choose.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { TIMED_CALLS = 32, FIRST_CALL = 39, PAGE = 4096 };

/* The best first. */
static const struct platform_ops *const all[] = { &platform_kvm, &platform_systrap, &platform_ptrace, &platform_null };

size_t platform_count(void)
{
	return ARRAY_COUNT(all);
}

const char *platform_name(size_t index)
{
	return all[index]->name;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int compare_ns(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* A page of guest code that calls 39, then 40 plus that call's result, then 39 for ever. A descriptor, or -errno. */
static int code_new(void)
{
	/* mov $39, %eax; syscall; add $40, %eax; syscall; 1: mov $39, %eax; syscall; jmp 1b */
	static const uint8_t code[] = { 0xb8, FIRST_CALL, 0, 0, 0, 0x0f, 0x05, 0x83, 0xc0, FIRST_CALL + 1, 0x0f, 0x05,
					0xb8, FIRST_CALL, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7 };
	int fd = memfd_create("self-test", MFD_CLOEXEC), err;

	if (fd < 0)
		return -errno;
	if (write(fd, code, sizeof(code)) == (ssize_t)sizeof(code) && ftruncate(fd, PAGE) == 0)
		return fd;
	err = -errno;
	close(fd);
	return err;
}

/* The guest's next call has to be nr, and is answered with result. */
static bool one_call(struct pcontext *ctx, struct aspace *as, int64_t nr, int64_t result)
{
	return ctx->ops->context_switch(ctx, as) == SWITCH_SYSCALL && ctx->syscall.nr == nr &&
	       ctx->ops->set_result(ctx, result) == 0;
}

/* Two checked calls, then timed ones. 0, or -errno with the step that failed in *ret_step. */
static int run_calls(struct pcontext *ctx, struct aspace *as, uint64_t *ret_ns, const char **ret_step)
{
	uint64_t ns[TIMED_CALLS], before;

	*ret_step = "a guest thread cannot run";
	if (!one_call(ctx, as, FIRST_CALL, 0))
		return -EPERM;
	*ret_step = "a guest thread does not see the result of a call";
	if (!one_call(ctx, as, FIRST_CALL + 1, 0))
		return -EPERM;
	*ret_step = "a guest thread stopped running";
	for (size_t i = 0; i < TIMED_CALLS; i++) {
		before = now_ns();
		if (!one_call(ctx, as, FIRST_CALL, 0))
			return -EPERM;
		ns[i] = now_ns() - before;
	}
	qsort(ns, TIMED_CALLS, sizeof(ns[0]), compare_ns);
	*ret_ns = ns[TIMED_CALLS / 2];
	return 0;
}

/* 0, or -errno with the step that failed in *ret_step. */
static int self_test(struct platform *p, uint64_t *ret_ns, const char **ret_step)
{
	struct aspace_op map = { .kind = ASPACE_MAP, .addr = 0x400000, .size = PAGE,
				 .prot = PLATFORM_READ | PLATFORM_EXEC };
	const struct platform_ops *ops = p->ops;
	struct pcontext *ctx = NULL;
	struct aspace *as = NULL;
	int fd = code_new(), err;

	*ret_step = "no file in memory can be made";
	if (fd < 0)
		return fd;
	map.host_fd = fd;
	*ret_step = "an address space cannot be made";
	err = ops->aspace_new(p, &as);
	if (err == 0) {
		ops->aspace_update(as, NULL, &map, 1);
		err = ops->context_new(p, &ctx);
	}
	if (err == 0) {
		ctx->regs.rip = map.addr;
		err = run_calls(ctx, as, ret_ns, ret_step);
	}
	if (ctx)
		ops->context_free(ctx);
	if (as)
		ops->aspace_free(as);
	close(fd);
	return err;
}

static int failed(struct platform_report *r, const struct platform_ops *ops, const char *step, int err)
{
	snprintf(r->note, sizeof(r->note), "%s: %s%s%s%s", step, strerror(-err), ops->hint ? " (" : "",
		 ops->hint ? ops->hint : "", ops->hint ? ")" : "");
	return err;
}

/* platform_try; for_auto: one that is by name only is opened, but not tested. */
static int try_one(size_t index, int memory_fd, bool for_auto, struct platform **ret_platform,
		   struct platform_report *ret_report)
{
	const struct platform_ops *ops = all[index];
	struct platform_report r = { .name = ops->name };
	const char *step = "cannot be opened";
	struct platform *p = NULL;
	cpu_set_t cpus;
	bool have_cpus;
	int err = 0;

	*ret_report = r;
	if (ops->probe)
		err = ops->probe(ret_report->note, sizeof(ret_report->note));
	if (err < 0)
		return err;
	err = ops->open(memory_fd, &p);
	if (err < 0)
		return failed(ret_report, ops, step, err);
	if (!ops->runs_nothing && !(for_auto && p->by_name_only)) {
		have_cpus = sched_getaffinity(0, sizeof(cpus), &cpus) == 0;
		err = self_test(p, &r.call_ns, &step);
		if (have_cpus) /* a context pins its thread */
			(void)!sched_setaffinity(0, sizeof(cpus), &cpus);
	}
	if (err < 0) {
		ops->close(p);
		return failed(ret_report, ops, step, err);
	}
	r.works = true;
	r.automatic = !ops->runs_nothing && !p->by_name_only;
	if (p->mode)
		snprintf(r.note, sizeof(r.note), "%s", p->mode);
	*ret_report = r;
	*ret_platform = p;
	return 0;
}

PRINTF_LIKE(3, 4) static void append(char *text, size_t size, const char *fmt, ...)
{
	size_t len = strlen(text);
	va_list args;

	va_start(args, fmt);
	vsnprintf(text + len, size - len, fmt, args);
	va_end(args);
}

int platform_try(size_t index, int memory_fd, struct platform **ret_platform, struct platform_report *ret_report)
{
	return try_one(index, memory_fd, false, ret_platform, ret_report);
}

/* The first that works. Those passed over are named in why, with their reasons. */
static int choose_automatic(int memory_fd, struct platform **ret_platform, struct platform_report *ret_report,
			    char *why, size_t why_size)
{
	struct platform_report r;
	struct platform *p;

	why[0] = 0;
	for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
		int err = all[i]->runs_nothing ? -EOPNOTSUPP : try_one(i, memory_fd, true, &p, &r);

		if (err == 0 && r.automatic) {
			*ret_platform = p;
			*ret_report = r;
			return 0;
		}
		if (err == 0) {
			all[i]->close(p);
			snprintf(r.note, sizeof(r.note), "works, but not well enough to be taken without being named");
		}
		if (!all[i]->runs_nothing)
			append(why, why_size, "%s%s: %s", why[0] ? "; " : "", r.name, r.note);
	}
	return -EOPNOTSUPP;
}

int platform_choose(const char *name, int memory_fd, struct platform **ret_platform,
		    struct platform_report *ret_report, char *why, size_t why_size)
{
	struct platform_report r;
	int err;

	if (strcmp(name, "auto") == 0)
		return choose_automatic(memory_fd, ret_platform, ret_report, why, why_size);
	for (size_t i = 0; i < ARRAY_COUNT(all); i++) {
		if (strcmp(all[i]->name, name) != 0)
			continue;
		err = platform_try(i, memory_fd, ret_platform, &r);
		if (err < 0) {
			snprintf(why, why_size, "%s: %s", name, r.note);
			return err;
		}
		why[0] = 0;
		*ret_report = r;
		return 0;
	}
	snprintf(why, why_size, "there is no platform %.32s in this release", name);
	return -EINVAL;
}
