/* Seccomp of guest tasks: strict mode, and filters in classic BPF (seccomp(2), bpf(4)). */
#include "sentry/kernel/seccomp.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "sentry/kernel/kernel_priv.h"
#include "sentry/kernel/process.h"
#include "sentry/kernel/ptrace.h"
#include "sentry/state/desc.h"

#define INSNS_PER_PATH 32768u
#define FILTER_PENALTY 4u

struct seccomp_filter {
	struct refcount refs;
	struct seccomp_filter *prev; /* reference */
	unsigned total;		     /* instructions of all filters from here up, with penalties */
	unsigned depth;
	bool log;
	unsigned count;
	struct bpf_insn insn[];
};

struct seccomp_filter *seccomp_filter_get(struct seccomp_filter *f)
{
	refcount_get(&f->refs);
	return f;
}

void seccomp_filter_put(struct seccomp_filter *f)
{
	while (f && refcount_put(&f->refs)) {
		struct seccomp_filter *prev = f->prev;

		free(f);
		f = prev;
	}
}

int seccomp_filter_count(const struct task *t)
{
	return t->seccomp ? (int)t->seccomp->depth : 0;
}

/* Which instructions seccomp takes; anything that loads packets or ancillary data is refused. */
static bool insn_allowed(const struct bpf_insn *i)
{
	switch (i->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return i->k < 64 && !(i->k & 3);
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
	case BPF_ALU | BPF_NEG:
	case BPF_ALU | BPF_ADD | BPF_K:
	case BPF_ALU | BPF_ADD | BPF_X:
	case BPF_ALU | BPF_SUB | BPF_K:
	case BPF_ALU | BPF_SUB | BPF_X:
	case BPF_ALU | BPF_MUL | BPF_K:
	case BPF_ALU | BPF_MUL | BPF_X:
	case BPF_ALU | BPF_DIV | BPF_X:
	case BPF_ALU | BPF_AND | BPF_K:
	case BPF_ALU | BPF_AND | BPF_X:
	case BPF_ALU | BPF_OR | BPF_K:
	case BPF_ALU | BPF_OR | BPF_X:
	case BPF_ALU | BPF_XOR | BPF_K:
	case BPF_ALU | BPF_XOR | BPF_X:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_X:
	case BPF_JMP | BPF_JA:
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JEQ | BPF_X:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_X:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_X:
	case BPF_JMP | BPF_JSET | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_X:
		return true;
	case BPF_ALU | BPF_DIV | BPF_K:
		return i->k != 0;
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_K:
		return i->k < 32;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return i->k < BPF_MEMWORDS;
	default:
		return false;
	}
}

int seccomp_bpf_check(const struct bpf_insn *insn, unsigned count)
{
	if (count == 0 || count > BPF_MAXINSNS)
		return -EINVAL;
	for (unsigned pc = 0; pc < count; pc++) {
		const struct bpf_insn *i = &insn[pc];
		unsigned left = count - pc - 1;

		if (!insn_allowed(i))
			return -EINVAL;
		if (BPF_CLASS(i->code) != BPF_JMP)
			continue;
		if (BPF_OP(i->code) == BPF_JA ? i->k >= left : i->jt >= left || i->jf >= left)
			return -EINVAL;
	}
	return BPF_CLASS(insn[count - 1].code) == BPF_RET ? 0 : -EINVAL;
}

static uint32_t alu(uint16_t op, uint32_t a, uint32_t b, bool *bad)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		*bad = b == 0;
		return b ? a / b : 0;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return b < 32 ? a << b : 0;
	case BPF_RSH:
		return b < 32 ? a >> b : 0;
	default:
		return -a;
	}
}

static bool jump_taken(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_JEQ:
		return a == b;
	case BPF_JGT:
		return a > b;
	case BPF_JGE:
		return a >= b;
	default:
		return (a & b) != 0;
	}
}

uint32_t seccomp_bpf_run(const struct bpf_insn *insn, unsigned count, const uint8_t data[64])
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = { 0 };

	for (unsigned pc = 0; pc < count; pc++) {
		const struct bpf_insn *i = &insn[pc];
		uint32_t operand = BPF_SRC(i->code) == BPF_X ? x : i->k, v = i->k;
		bool bad = false;

		switch (BPF_CLASS(i->code)) {
		case BPF_LD:
		case BPF_LDX:
			if (BPF_MODE(i->code) == BPF_ABS)
				memcpy(&v, data + i->k, sizeof(v));
			else if (BPF_MODE(i->code) == BPF_LEN)
				v = 64;
			else if (BPF_MODE(i->code) == BPF_MEM)
				v = mem[i->k];
			if (BPF_CLASS(i->code) == BPF_LD)
				a = v;
			else
				x = v;
			break;
		case BPF_ST:
			mem[i->k] = a;
			break;
		case BPF_STX:
			mem[i->k] = x;
			break;
		case BPF_ALU:
			a = alu(BPF_OP(i->code), a, operand, &bad);
			if (bad)
				return SECCOMP_RET_KILL_THREAD;
			break;
		case BPF_JMP:
			if (BPF_OP(i->code) == BPF_JA)
				pc += i->k;
			else
				pc += jump_taken(BPF_OP(i->code), a, operand) ? i->jt : i->jf;
			break;
		case BPF_RET:
			return BPF_RVAL(i->code) == BPF_A ? a : i->k;
		default:
			if (BPF_MISCOP(i->code) == BPF_TAX)
				x = a;
			else
				a = x;
			break;
		}
	}
	return SECCOMP_RET_KILL_PROCESS;
}

static bool is_ancestor(const struct seccomp_filter *old, const struct seccomp_filter *f)
{
	for (; f; f = f->prev)
		if (f == old)
			return true;
	return old == NULL;
}

/* SECCOMP_FILTER_FLAG_TSYNC: every thread gets t's filter, if none has gone its own way. taskset_mu.
 * Returns 0 or the tid of one that cannot. */
static int sync_threads(struct task *t, struct seccomp_filter *f)
{
	struct task *it;

	list_for_each(it, &t->tg->tasks, group_node)
		if (it != t && !it->exited && !is_ancestor(it->seccomp, f->prev))
			return task_tid_in(it, task_pid_ns(t));
	list_for_each(it, &t->tg->tasks, group_node) {
		struct seccomp_filter *old = it->seccomp;

		if (it == t || it->exited)
			continue;
		it->seccomp = seccomp_filter_get(f);
		it->seccomp_mode = SECCOMP_MODE_FILTER;
		task_interrupt(it); /* no call is answered without the filter any more: see run_app */
		seccomp_filter_put(old);
	}
	return 0;
}

int seccomp_install(struct task *t, const struct bpf_insn *insn, unsigned count, uint32_t flags)
{
	struct seccomp_filter *f;
	int err = seccomp_bpf_check(insn, count);

	if (err < 0)
		return err;
	f = malloc(sizeof(*f) + count * sizeof(*insn));
	if (!f)
		return -ENOMEM;
	*f = (struct seccomp_filter){ .prev = t->seccomp, .count = count, .depth = 1, .total = count,
				      .log = flags & SECCOMP_FILTER_FLAG_LOG };
	refcount_init(&f->refs, 1);
	memcpy(f->insn, insn, count * sizeof(*insn));
	if (f->prev) {
		f->depth += f->prev->depth;
		f->total += f->prev->total + FILTER_PENALTY;
	}
	if (f->total > INSNS_PER_PATH) {
		free(f);
		return -ENOMEM;
	}
	GUARD(mutex, &taskset_mu);
	if (flags & SECCOMP_FILTER_FLAG_TSYNC) {
		err = sync_threads(t, f);
		if (err) {
			free(f);
			return flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH ? -ESRCH : err;
		}
	}
	t->seccomp = f;
	t->seccomp_mode = SECCOMP_MODE_FILTER;
	return 0;
}

static void kill_for(struct task *t, bool process)
{
	uint32_t status = signal_core_status(t->tg, SIGSYS);

	if (process || t->tg->live_count == 1)
		thread_group_exit_self(t, status);
	else
		task_exit_self(t, SIGSYS);
}

/* The strongest verdict of all filters: the lowest as a signed number of the action. */
static uint32_t run_filters(struct task *t)
{
	const struct platform_syscall *sc = &t->ctx->syscall;
	struct seccomp_data d = { .nr = (int)sc->nr, .arch = sc->audit_arch,
		.instruction_pointer = sc->ip };
	uint32_t verdict = SECCOMP_RET_ALLOW;

	memcpy(d.args, sc->arg, sizeof(d.args));
	for (const struct seccomp_filter *f = t->seccomp; f; f = f->prev) {
		uint32_t r = seccomp_bpf_run(f->insn, f->count, (const uint8_t *)&d);

		if ((int32_t)(r & SECCOMP_RET_ACTION_FULL) < (int32_t)(verdict & SECCOMP_RET_ACTION_FULL))
			verdict = r;
	}
	return verdict;
}

/* SECCOMP_RET_TRAP: SIGSYS with the call's facts; the registers show the call undone. */
static void trap(struct task *t, uint32_t data)
{
	const struct platform_syscall *sc = &t->ctx->syscall;
	struct guest_siginfo info = { .signo = SIGSYS, .code = 1, .err = (int32_t)data };

	info.sys.call_addr = sc->ip;
	info.sys.syscall = (int32_t)sc->nr;
	info.sys.arch = sc->audit_arch;
	signal_force(t, &info);
}

static enum seccomp_do strict(struct task *t)
{
	switch (t->ctx->syscall.nr) {
	case 0: /* read, write, rt_sigreturn, exit */
	case 1:
	case 15:
	case 60:
		return SECCOMP_DO_ALLOW;
	default:
		task_exit_self(t, SIGKILL);
		return SECCOMP_DO_KILL;
	}
}

enum seccomp_do seccomp_check(struct task *t, int64_t *ret)
{
	uint32_t verdict, data;

	if (t->seccomp_mode == SECCOMP_MODE_STRICT)
		return strict(t);
	verdict = run_filters(t);
	data = verdict & SECCOMP_RET_DATA;
	switch (verdict & SECCOMP_RET_ACTION_FULL) {
	case SECCOMP_RET_ALLOW:
	case SECCOMP_RET_LOG:
		return SECCOMP_DO_ALLOW;
	case SECCOMP_RET_ERRNO:
		*ret = -(int64_t)MIN(data, 4095u);
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_TRAP:
		/* The handler sees the number in the result register, as on Linux. */
		*ret = t->ctx->syscall.nr;
		trap(t, data);
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_TRACE:
		if (ptrace_seccomp(t, data))
			return SECCOMP_DO_STOP;
		if (ptrace_seccomp_passed(t))
			return SECCOMP_DO_ALLOW;
		*ret = -ENOSYS;
		return SECCOMP_DO_RETURN;
	case SECCOMP_RET_KILL_THREAD:
		kill_for(t, false);
		return SECCOMP_DO_KILL;
	case SECCOMP_RET_USER_NOTIF:
		*ret = -ENOSYS;
		return SECCOMP_DO_RETURN;
	default:
		kill_for(t, true);
		return SECCOMP_DO_KILL;
	}
}

STATE_DESC(seccomp_filter, S_NOSAVE(seccomp_filter, refs, "recounted"),
	   S_REF(seccomp_filter, 1, prev, seccomp_filter), S_VAL(seccomp_filter, 2, total),
	   S_VAL(seccomp_filter, 3, depth), S_VAL(seccomp_filter, 4, log), S_VAL(seccomp_filter, 5, count));
