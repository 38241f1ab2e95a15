/* prctl(2) and arch_prctl(2). */
#include <asm/prctl.h>
#include <linux/prctl.h>
#include <string.h>

#include "sentry/arch/sigframe.h"
#include "sentry/kernel/container.h"
#include "sentry/kernel/seccomp.h"
#include "sentry/mm/mm.h"
#include "sentry/syscalls/prctl_priv.h"
#include "sentry/syscalls/syscalls.h"

#define XFEATURE_TILE_DATA 18
#define CAP_LAST 40
#define CAP_SETPCAP 8
#define CAP_SYS_RESOURCE 24
#define SECBIT_KEEP_CAPS 0x10u
#define SECBIT_KEEP_CAPS_LOCKED 0x20u
#define SECBIT_ALL 0xffu
#define SECBIT_LOCKS 0xaau

static int64_t put_int(struct task *t, uint64_t addr, int32_t v)
{
	return copy_out_struct(task_umem(t), UADDR(addr), &v);
}

static int64_t get_name(struct task *t, uint64_t addr)
{
	char name[TASK_COMM_SIZE];

	memcpy(name, t->comm, sizeof(name));
	return copy_out(task_umem(t), UADDR(addr), name, sizeof(name));
}

static int64_t set_name(struct task *t, uint64_t addr)
{
	char name[TASK_COMM_SIZE] = "";
	int64_t n = copy_in_str(task_umem(t), name, UADDR(addr), sizeof(name));

	if (n < 0 && n != -ENAMETOOLONG)
		return n;
	name[TASK_COMM_SIZE - 1] = 0;
	for (size_t i = strlen(name); i < sizeof(name); i++)
		name[i] = 0;
	GUARD(mutex, &t->mu);
	memcpy(t->comm, name, sizeof(name));
	return 0;
}

/* Runs fn on a private copy of the credentials and installs it unless fn fails. */
static int64_t edit_cred(struct task *t, int64_t (*fn)(struct cred *c, uint64_t a, uint64_t b),
		uint64_t a, uint64_t b)
{
	struct cred *c = cred_dup(t->cred);
	int64_t r;

	if (!c)
		return -ENOMEM;
	r = fn(c, a, b);
	if (r < 0)
		cred_put(c);
	else
		task_set_cred(t, c);
	return r;
}

static int64_t set_no_new_privs(struct cred *c, uint64_t a, uint64_t b)
{
	(void)a, (void)b;
	c->no_new_privs = true;
	return 0;
}

static int64_t drop_bounding(struct cred *c, uint64_t cap, uint64_t b)
{
	(void)b;
	c->cap_bounding &= ~(1ull << cap);
	return 0;
}

static int64_t set_securebits(struct cred *c, uint64_t bits, uint64_t b)
{
	(void)b;
	c->securebits = (uint32_t)bits;
	return 0;
}

static int64_t ambient(struct cred *c, uint64_t op, uint64_t cap)
{
	uint64_t bit = 1ull << cap;

	switch (op) {
	case PR_CAP_AMBIENT_CLEAR_ALL:
		c->cap_ambient = 0;
		return 0;
	case PR_CAP_AMBIENT_RAISE:
		if (!(c->cap_permitted & c->cap_inheritable & bit) || (c->securebits & 0x40))
			return -EPERM;
		c->cap_ambient |= bit;
		return 0;
	default:
		c->cap_ambient &= ~bit;
		return 0;
	}
}

static int64_t cap_ambient(struct task *t, uint64_t op, uint64_t cap, uint64_t a4, uint64_t a5)
{
	if (op == PR_CAP_AMBIENT_CLEAR_ALL)
		return cap || a4 || a5 ? -EINVAL : edit_cred(t, ambient, op, 0);
	if (cap > CAP_LAST || a4 || a5)
		return -EINVAL;
	if (op == PR_CAP_AMBIENT_IS_SET)
		return t->cred->cap_ambient >> cap & 1;
	if (op != PR_CAP_AMBIENT_RAISE && op != PR_CAP_AMBIENT_LOWER)
		return -EINVAL;
	return edit_cred(t, ambient, op, cap);
}

static int64_t change_securebits(struct task *t, uint64_t bits)
{
	uint32_t old = t->cred->securebits, locked = (old & SECBIT_LOCKS) >> 1;

	if (bits & ~(uint64_t)SECBIT_ALL)
		return -EPERM;
	if (((old ^ bits) & locked) || ((old & SECBIT_LOCKS) & ~bits))
		return -EPERM;
	if (!task_capable(t, CAP_SETPCAP))
		return -EPERM;
	return edit_cred(t, set_securebits, bits, 0);
}

static int64_t keep_caps(struct task *t, uint64_t on)
{
	uint32_t bits = t->cred->securebits;

	if (on > 1)
		return -EINVAL;
	if (bits & SECBIT_KEEP_CAPS_LOCKED)
		return -EPERM;
	return edit_cred(t, set_securebits, on ? bits | SECBIT_KEEP_CAPS : bits & ~SECBIT_KEEP_CAPS, 0);
}

static int64_t set_dumpable(struct task *t, uint64_t v)
{
	if (v > 1)
		return -EINVAL;
	mm_set_dumpable(t->mm, (uint8_t)v);
	return 0;
}

static int64_t set_death_signal(struct task *t, uint64_t signo)
{
	if (signo > GUEST_NSIG)
		return -EINVAL;
	GUARD(mutex, &taskset_mu);
	t->parent_death_signal = (int32_t)signo;
	return 0;
}

static int64_t set_subreaper(struct task *t, uint64_t on)
{
	GUARD(mutex, &taskset_mu);
	t->tg->is_subreaper = on != 0;
	return 0;
}

/* PR_SET_MM: programs that change their title; the bounds are kept for /proc. */
static int64_t set_mm(struct task *t, uint64_t op, uint64_t addr)
{
	struct mm_info info;

	if (!task_capable(t, CAP_SYS_RESOURCE))
		return -EPERM;
	mm_get_info(t->mm, &info);
	switch (op) {
	case PR_SET_MM_START_CODE:
		info.start_code = addr;
		break;
	case PR_SET_MM_END_CODE:
		info.end_code = addr;
		break;
	case PR_SET_MM_START_DATA:
		info.start_data = addr;
		break;
	case PR_SET_MM_END_DATA:
		info.end_data = addr;
		break;
	case PR_SET_MM_START_STACK:
		info.start_stack = addr;
		break;
	case PR_SET_MM_ARG_START:
		info.arg_start = addr;
		break;
	case PR_SET_MM_ARG_END:
		info.arg_end = addr;
		break;
	case PR_SET_MM_ENV_START:
		info.env_start = addr;
		break;
	case PR_SET_MM_ENV_END:
		info.env_end = addr;
		break;
	default:
		return -EINVAL;
	}
	mm_set_info(t->mm, &info, NULL);
	return 0;
}

static int64_t timer_slack(struct task *t, uint64_t ns)
{
	t->timer_slack_ns = (int64_t)ns <= 0 ? t->timer_slack_default_ns : ns;
	return 0;
}

static int64_t prctl_get(struct task *t, int32_t option, uint64_t a2)
{
	switch (option) {
	case PR_GET_PDEATHSIG:
		return put_int(t, a2, t->parent_death_signal);
	case PR_GET_DUMPABLE:
		return mm_dumpable(t->mm);
	case PR_GET_KEEPCAPS:
		return !!(t->cred->securebits & SECBIT_KEEP_CAPS);
	case PR_GET_NAME:
		return get_name(t, a2);
	case PR_GET_SECCOMP:
		return t->seccomp_mode;
	case PR_GET_TSC:
		return put_int(t, a2, t->tsc_mode ? t->tsc_mode : PR_TSC_ENABLE);
	case PR_GET_SECUREBITS:
		return t->cred->securebits;
	case PR_GET_TIMERSLACK:
		return (int64_t)t->timer_slack_ns;
	case PR_GET_CHILD_SUBREAPER:
		return put_int(t, a2, t->tg->is_subreaper);
	case PR_GET_TID_ADDRESS:
		return copy_out_struct(task_umem(t), UADDR(a2), &t->clear_child_tid.v);
	default:
		return -EINVAL;
	}
}

static int64_t prctl_set(struct task *t, int32_t option, uint64_t a2, uint64_t a3)
{
	switch (option) {
	case PR_SET_PDEATHSIG:
		return set_death_signal(t, a2);
	case PR_SET_DUMPABLE:
		return set_dumpable(t, a2);
	case PR_SET_KEEPCAPS:
		return keep_caps(t, a2);
	case PR_SET_NAME:
		return set_name(t, a2);
	case PR_SET_SECCOMP:
		return prctl_set_seccomp(t, a2, UADDR(a3));
	case PR_SET_TSC:
		if (a2 != PR_TSC_ENABLE)
			return -EINVAL;
		t->tsc_mode = (uint8_t)a2;
		return 0;
	case PR_SET_SECUREBITS:
		return change_securebits(t, a2);
	case PR_SET_TIMERSLACK:
		return timer_slack(t, a2);
	case PR_SET_CHILD_SUBREAPER:
		return set_subreaper(t, a2);
	case PR_SET_MM:
		return set_mm(t, a2, a3);
	default:
		return -EINVAL;
	}
}

/* prctl(2) */
int64_t sys_prctl(struct task *t, arg_int_t option, arg_ulong_t arg2, arg_ulong_t arg3,
		arg_ulong_t arg4, arg_ulong_t arg5)
{
	switch (option) {
	case PR_SET_NO_NEW_PRIVS:
		return arg2 != 1 || arg3 || arg4 || arg5 ? -EINVAL : edit_cred(t, set_no_new_privs, 0, 0);
	case PR_GET_NO_NEW_PRIVS:
		return arg2 || arg3 || arg4 || arg5 ? -EINVAL : t->cred->no_new_privs;
	case PR_CAPBSET_READ:
		return arg2 > CAP_LAST ? -EINVAL : (int64_t)(t->cred->cap_bounding >> arg2 & 1);
	case PR_CAPBSET_DROP:
		if (!task_capable(t, CAP_SETPCAP))
			return -EPERM;
		return arg2 > CAP_LAST ? -EINVAL : edit_cred(t, drop_bounding, arg2, 0);
	case PR_CAP_AMBIENT:
		return cap_ambient(t, arg2, arg3, arg4, arg5);
	case PR_SET_PTRACER:
	case PR_TASK_PERF_EVENTS_DISABLE:
	case PR_TASK_PERF_EVENTS_ENABLE:
		return 0;
	case PR_SET_VMA:
		/* Names of anonymous areas are for people; Linux built without them refuses too. */
		return -EINVAL;
	case PR_SET_THP_DISABLE:
		return arg3 || arg4 || arg5 ? -EINVAL : 0;
	case PR_GET_THP_DISABLE:
		return arg2 || arg3 || arg4 || arg5 ? -EINVAL : 0;
	case PR_MCE_KILL_GET:
		return arg2 || arg3 || arg4 || arg5 ? -EINVAL : PR_MCE_KILL_DEFAULT;
	case PR_GET_SPECULATION_CTRL:
		return arg3 || arg4 || arg5 ? -EINVAL : arg2 > 2 ? -ENODEV : PR_SPEC_NOT_AFFECTED;
	case PR_GET_TIMING:
		return PR_TIMING_STATISTICAL;
	case PR_SET_TIMING:
		return arg2 == PR_TIMING_STATISTICAL ? 0 : -EINVAL;
	default:
		break;
	}
	switch (option) {
	case PR_SET_PDEATHSIG:
	case PR_SET_DUMPABLE:
	case PR_SET_KEEPCAPS:
	case PR_SET_NAME:
	case PR_SET_SECCOMP:
	case PR_SET_TSC:
	case PR_SET_SECUREBITS:
	case PR_SET_TIMERSLACK:
	case PR_SET_CHILD_SUBREAPER:
	case PR_SET_MM:
		return prctl_set(t, option, arg2, arg3);
	default:
		return prctl_get(t, option, arg2);
	}
}

/* arch_prctl(2): the segment bases, components of the FPU state */
int64_t sys_arch_prctl(struct task *t, arg_int_t option, arg_ulong_t arg2)
{
	struct guest_regs *regs = platform_regs(t->ctx);
	uint64_t features;

	if (!regs)
		return -ESRCH;
	switch (option) {
	case ARCH_SET_FS:
	case ARCH_SET_GS:
		if (arg2 >= kernel_platform->ops->max_addr)
			return -EPERM;
		*(option == ARCH_SET_FS ? &regs->fs_base : &regs->gs_base) = arg2;
		platform_regs_dirty(t->ctx);
		return 0;
	case ARCH_GET_FS:
		return copy_out_struct(task_umem(t), UADDR(arg2), &regs->fs_base);
	case ARCH_GET_GS:
		return copy_out_struct(task_umem(t), UADDR(arg2), &regs->gs_base);
	case ARCH_GET_CPUID:
		return 1;
	case ARCH_SET_CPUID:
		return -ENODEV;
	case ARCH_GET_XCOMP_SUPP:
	case ARCH_GET_XCOMP_PERM:
		features = arch_fpu_features();
		return copy_out_struct(task_umem(t), UADDR(arg2), &features);
	case ARCH_REQ_XCOMP_PERM: /* there is nothing to be had by asking: see sentry/arch */
		return arg2 > XFEATURE_TILE_DATA ? -EINVAL : -EOPNOTSUPP;
	default:
		return -EINVAL;
	}
}
